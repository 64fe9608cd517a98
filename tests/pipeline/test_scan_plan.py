"""Times of a plan, and what it says where none suffices."""

import numpy as np
import pytest

from underpaint.pigments.explain.planning import AnsweredShares, OrderQuestion
from underpaint.pigments.limits import methods_for_layers
from underpaint.pipeline.scan_plan import ScanPlan, VoltagePlan

COUNTS = np.asarray([1e3, 1e4, 1e5])


def plan(share: "list[float]", seconds: float | None) -> ScanPlan:
    """Plan from 2,000 counts of a pixel for a voltage that gives twice as many in a time; 600 mm2."""
    voltage = VoltagePlan(50.0, 2.0, AnsweredShares(COUNTS, np.asarray(share), np.asarray(share)))
    question = OrderQuestion("lead_pigment", "mercury_red")
    return ScanPlan(
        question, 3, ("vermilion 20 um",), 0.4, 2000.0, seconds, 600.0, (0.5,), (voltage,), methods_for_layers(), ()
    )


def test_times_follow_from_counts_rate_and_step() -> None:
    (row,) = plan([0.0, 0.5, 0.9], 0.2).rows()
    assert row["counts_needed"] == pytest.approx(1e4)
    assert row["counts_needed_9_in_10"] == pytest.approx(1e5)
    assert row["times_longer"] == pytest.approx(1e4 / 2000 / 2)
    assert row["seconds_per_pixel"] == pytest.approx(0.5)
    assert row["seconds_per_pixel_9_in_10"] == pytest.approx(5.0)
    assert row["pixels_to_sum"] == 5
    assert row["hours_by_step_mm"]["0.5"] == pytest.approx(0.5 * 600 / 0.25 / 3600)
    assert plan([0.0, 0.5, 0.9], 0.2).record()["curve"][0]["seconds"] == pytest.approx([0.05, 0.5, 5.0])


def test_without_the_time_of_a_pixel_there_is_how_many_times_longer() -> None:
    (row,) = plan([0.0, 0.5, 0.9], None).rows()
    assert row["times_longer"] == pytest.approx(2.5)
    assert row["seconds_per_pixel"] is None
    assert row["hours_by_step_mm"] == {"0.5": None}


def test_where_no_time_suffices_other_methods_are_named() -> None:
    hopeless = plan([0.0, 0.1, 0.2], 0.2)
    (row,) = hopeless.rows()
    assert row["counts_needed"] is row["seconds_per_pixel"] is row["pixels_to_sum"] is None
    words = " ".join(hopeless.sentences())
    assert "No time suffices at 50 kV: with up to 100,000 counts" in words
    assert "cross-section under the microscope" in words
    assert "No time suffices" not in " ".join(plan([0.0, 0.5, 0.9], 0.2).sentences())
    assert all(method["source"] for method in hopeless.record()["other_methods"])
