"""What can be known: the counts at which a pigment shows, and those at which two part, from the forward model."""

from underpaint.pigments.limits.composites import Composite, composite
from underpaint.pigments.limits.equivalence import MODEL_COUNTS, Group, Separation, separate
from underpaint.pigments.limits.exclusion import Burial, Exclusion, answer_states, counts_to_exclude
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
from underpaint.pigments.limits.question import MIN_DEVIANCE, Question

__all__ = [
    "MIN_DEVIANCE",
    "MODEL_COUNTS",
    "Burial",
    "Circumstances",
    "Composite",
    "Difference",
    "Exclusion",
    "Group",
    "Question",
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
