"""What lies under a line is in its deviation."""

import numpy as np
import pytest

from underpaint.data.maps import Results
from underpaint.elements import deviation, overlaps


def test_lead_may_feign_arsenic_and_hardly_the_other_way_round() -> None:
    names = ("As_K", "Fe_K", "Pb_L")
    (index, share), *rest = overlaps("As_K", names)
    assert (index, rest) == (2, [])
    assert 0.02 < share < 0.08
    assert overlaps("Fe_K", names) == ()


def test_a_deviation_holds_counting_and_a_tenth_of_what_lies_beside() -> None:
    area = np.array([[[900.0, 20_000.0], [900.0, -50.0]]], np.float32)
    maps = Results.of_lines(("As_K", "Pb_L"), area, np.full(area.shape, 100.0, np.float32))
    share = overlaps("As_K", maps.lines)[0][1]
    error = deviation(maps, "As_K")[0]
    assert error[0] == pytest.approx(np.hypot(100.0, share * 20_000.0))
    assert error[1] == pytest.approx(100.0)
