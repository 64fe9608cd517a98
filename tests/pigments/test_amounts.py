from pathlib import Path

import numpy as np
import pytest

from underpaint.data.maps import AMOUNT_EDGES, Results
from underpaint.errors import SampleError
from underpaint.io import read_results, write_results
from underpaint.io.results.nexus import summary_rows
from underpaint.physics.materials import load_palette
from underpaint.pigments.limits import answer_states
from underpaint.pigments.predict.mapping import Amounts

EDGES = np.asarray(AMOUNT_EDGES)


def amounts(threshold: float = 0.01) -> Amounts:
    return Amounts(("mercury_red",), np.asarray([1]), EDGES, np.asarray([threshold]))


def log_odds(middle: float, width: float) -> np.ndarray:
    """Return log-odds of a logistic distribution of the logarithm, beside an amount that is not asked for."""
    odds = (np.log(middle) - np.log(EDGES)) / width
    return np.concatenate((np.zeros(EDGES.size), odds))[None].astype(np.float32)


def test_points_of_a_logistic_distribution() -> None:
    points = amounts()(log_odds(0.002, 0.4))
    # linear between edges in the logarithm: exact for a logistic distribution, but for half a digit of 16 bits
    assert points["amount"][0, 0] == pytest.approx(0.2, rel=2e-3)
    assert points["amount_low"][0, 0] == pytest.approx(0.2 * 19**-0.4, rel=2e-3)
    assert points["amount_high"][0, 0] == pytest.approx(0.2 * (0.97 / 0.03) ** 0.4, rel=2e-3)
    assert points["amount_reached"][0, 0] == pytest.approx(1 / (1 + 5 ** (1 / 0.4)), rel=2e-3)


def test_a_threshold_between_two_edges_is_interpolated() -> None:
    at_threshold = amounts(0.002)(log_odds(0.002, 0.4))
    assert at_threshold["amount_reached"][0, 0] == pytest.approx(0.5, abs=1e-3)


def test_beyond_the_edges_there_are_limits_alone() -> None:
    little, much = amounts()(log_odds(1e-6, 0.4)), amounts()(log_odds(0.9, 0.4))
    assert little["amount_low"][0, 0] == 0.0
    assert little["amount_high"][0, 0] == pytest.approx(100 * EDGES[0], rel=2e-2)
    assert much["amount_high"][0, 0] == 100.0


def test_amounts_come_back_from_a_folder(tmp_path: Path) -> None:
    names = ("mercury_red", "mercury_red.surface", "lead_pigment", "lead_pigment.surface")
    probability = np.full((2, 3, 4), 0.2, np.float32)
    probability[..., :2] = 0.9
    pigments = Results.of_pigments(
        names,
        probability,
        kinds=("group",) * 4,
        groups=tuple((name,) for name in names),
        labels=names,
        elements=(("Hg_L",),) * 2 + (("Pb_L",),) * 2,
    )
    value = np.random.default_rng(0).uniform(0.5, 2.0, (2, 3, 4)).astype(np.float16)
    reached = np.full_like(value, 0.99)
    amounts = Results.of_amounts(
        names, value, 0.5 * value, 2 * value, reached, settings={"pigment_share": {"mercury_red": 0.01}}
    )
    written = pigments | amounts
    written |= answer_states(written, np.full((2, 3), 1e5))
    write_results(tmp_path, written)
    results = read_results(tmp_path)
    assert results.amounts == ("amount.mercury_red", "amount.mercury_red.surface", "amount.lead_pigment")
    low, median, high = results.amount.sel(group="mercury_red", place="surface").values
    np.testing.assert_array_equal(median, value[..., 1].astype(np.float32))
    np.testing.assert_array_equal(low, 0.5 * median)
    np.testing.assert_array_equal(high, 2 * median)
    assert np.isnan(results.amount.sel(group="lead_pigment", place="surface")).all()
    assert float(results.amount_reached.sel(group="mercury_red", place="surface").max()) == pytest.approx(0.99, 1e-3)
    assert results.answer_at("mercury_red", 0, 0) == "pigment"
    assert results.answer_at("lead_pigment", 0, 0).startswith("not detected (less than ")
    rows = {row["name"]: row for row in summary_rows(results)}
    assert float(rows["amount.mercury_red"]["median_value"]) == pytest.approx(float(np.median(value[..., 0])), rel=1e-3)
    assert (tmp_path / "quantities" / "amount.mercury_red.tif").exists()
    assert not (tmp_path / "quantities" / "amount.lead_pigment.tif").exists()


def test_a_palette_changes_the_threshold(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\npigments = ["vermilion"]\n[pigment_share]\nmercury_red = 0.002\n')
    assert load_palette(path).pigment_share == {"mercury_red": 0.002}
    path.write_text('name = "mine"\npigments = ["vermilion"]\n[pigment_share]\nmercury_red = 2\n')
    with pytest.raises(SampleError, match=r"1e-05 to 0\.3 .* it holds \{'mercury_red': 2\}"):
        load_palette(path)
    path.write_text('name = "mine"\npigments = ["vermilion"]\n[pigment_share]\nmercury = 0.1\n')
    with pytest.raises(SampleError, match="No pigment group is called 'mercury'"):
        load_palette(path)
