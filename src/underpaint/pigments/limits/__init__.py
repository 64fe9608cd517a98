"""Total counts that a spectrum needs to show a pigment or to distinguish two pigments, computed by simulation."""

from underpaint.pigments.limits.comparison import MIN_DEVIANCE, ComparisonSettings
from underpaint.pigments.limits.composites import Composite, composite
from underpaint.pigments.limits.exclusion import (
    MODEL_COUNTS,
    Burial,
    Exclusion,
    Group,
    Separation,
    answer_states,
    counts_to_exclude,
    separate,
)
from underpaint.pigments.limits.members import (
    Circumstances,
    Difference,
    circumstances_of,
    counts_to_see,
    distinguishing_methods,
    distinguishing_methods_text,
    group_posterior,
    member_shares,
    methods_for_layers,
    share_group,
    share_members,
    within_group_prior,
)

__all__ = [
    "MIN_DEVIANCE",
    "MODEL_COUNTS",
    "Burial",
    "Circumstances",
    "ComparisonSettings",
    "Composite",
    "Difference",
    "Exclusion",
    "Group",
    "Separation",
    "answer_states",
    "circumstances_of",
    "composite",
    "counts_to_exclude",
    "counts_to_see",
    "distinguishing_methods",
    "distinguishing_methods_text",
    "group_posterior",
    "member_shares",
    "methods_for_layers",
    "separate",
    "share_group",
    "share_members",
    "within_group_prior",
]
