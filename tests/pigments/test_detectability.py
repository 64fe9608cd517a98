import numpy as np
import pytest

from underpaint.errors import SampleError
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer
from underpaint.pigments.limits import counts_to_see


def _over(pigment: str, over: str, thickness: float) -> Stratigraphy:
    paint = Paint({pigment: 1.0}).layer(60.0)
    return Stratigraphy((Paint({over: 1.0}).layer(thickness), paint, ground_layer("chalk", 150.0)))


def test_a_deeper_pigment_needs_more_counts() -> None:
    stacks = [_over("lead_white", "vermilion", thickness) for thickness in (20.0, 60.0, 120.0)]
    needed = counts_to_see(stacks, "lead_white", load_instrument("elio"))
    assert np.all(np.diff(needed) > 0)


def test_a_pigment_that_is_not_there_is_never_seen() -> None:
    needed = counts_to_see([_over("lead_white", "vermilion", 20.0)], "cobalt_blue", load_instrument("elio"))
    assert needed == [float("inf")]


def test_a_pigment_without_a_line_is_refused() -> None:
    with pytest.raises(SampleError, match="none of its elements has a line"):
        counts_to_see([_over("lead_white", "vermilion", 20.0)], "indigo", load_instrument("elio"))
