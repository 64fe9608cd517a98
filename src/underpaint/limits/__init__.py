"""What can be known: the counts at which a pigment shows, from the forward model."""

from underpaint.limits.detectability import counts_to_see

__all__ = ["counts_to_see"]
