"""Intervals hold the truth as often as they say, and say nothing where the spectrum sees nothing."""

import numpy as np
import pytest

from underpaint.data import Spectrum
from underpaint.physics.forward import count, emit, render
from underpaint.physics.forward.response import axis_of
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Paint
from underpaint.pigments.explain import Candidate, fit_candidates, ground_film, intervals, measured, paint_film
from underpaint.pigments.explain.words import NOT_DETERMINED, interval_text

INSTRUMENT = load_instrument("silver_30kv")
AXIS = axis_of(INSTRUMENT.detector)


def two_paints(top_um: float, below_um: float, shares: tuple[float, float] = (1.0, 1.0)) -> Candidate:
    top = paint_film(Paint(dict(zip(("vermilion", "zinc_white"), shares, strict=True))), top_um)
    return Candidate("two", (top, paint_film(Paint({"azurite": 1.0}), below_um), ground_film("chalk", 150.0)))


def drawn(truth: Candidate, counts: float, seed: int) -> Spectrum:
    expected = np.asarray(render(emit([truth.at(truth.start)], INSTRUMENT), INSTRUMENT.detector, AXIS))[0]
    own = count(expected / expected.sum() * counts, rng=np.random.default_rng(seed))
    return Spectrum(own.astype(np.float64), AXIS)


def held(truth: Candidate, begun: Candidate, counts: float, seeds: range) -> list[bool]:
    """Whether each interval of paints holds the truth: thickness of either layer, and the first pigment's share."""
    values = {(0, ""): truth.films[0].layer.thickness_um, (1, ""): truth.films[1].layer.thickness_um}
    values[0, "vermilion"] = truth.shares(truth.start)[0]["vermilion"]
    found: list[bool] = []
    for seed in seeds:
        own = measured(drawn(truth, counts, seed), INSTRUMENT, model_error=0.0)
        (fit,) = fit_candidates(own, [begun], INSTRUMENT)
        entries = intervals(fit, own, INSTRUMENT)[1]
        found += [e.holds(values[e.layer, e.pigment]) for e in entries if (e.layer, e.pigment) in values]
    return found


def test_intervals_at_90_percent_hold_the_truth_about_that_often() -> None:
    found = held(two_paints(8.0, 25.0, (0.3, 0.7)), two_paints(15.0, 30.0), 1e5, range(5))
    assert len(found) == 15
    # binomial of 15 at 90 %: 10 or fewer once in 80; the seeds are fixed
    assert sum(found) >= 11


@pytest.mark.slow
def test_intervals_at_90_percent_hold_the_truth_in_90_percent_of_many_draws() -> None:
    found = np.asarray(held(two_paints(8.0, 25.0, (0.3, 0.7)), two_paints(15.0, 30.0), 1e5, range(100, 200)))
    # three standard errors of 300 (thickness and share of one spectrum go together a little)
    assert abs(found.mean() - 0.9) < 3 * np.sqrt(0.09 / len(found))


def test_a_layer_that_hides_all_below_has_no_upper_end() -> None:
    films = (paint_film(Paint({"lead_white": 1.0}), 300.0), paint_film(Paint({"azurite": 1.0}), 20.0))
    truth = Candidate("hidden", (*films, ground_film("chalk", 150.0)))
    own = measured(drawn(truth, 1e4, 1), INSTRUMENT)
    (fit,) = fit_candidates(own, [truth], INSTRUMENT)
    top, hidden, ground = intervals(fit, own, INSTRUMENT)[1]
    assert top.high is None
    assert top.low is not None
    assert interval_text(top).startswith("at least ")
    assert not hidden.determined
    assert interval_text(hidden) == interval_text(ground) == NOT_DETERMINED


def test_shares_of_three_pigments_have_an_interval_each_that_shrinks_with_counts() -> None:
    pigments = {"vermilion": 0.5, "zinc_white": 0.3, "azurite": 0.2}
    truth = Candidate("three", (paint_film(Paint(pigments), 20.0), ground_film("chalk", 150.0)))
    widths = []
    for counts in (2e4, 5e5):
        own = measured(drawn(truth, counts, 2), INSTRUMENT, model_error=0.0)
        (fit,) = fit_candidates(own, [truth], INSTRUMENT)
        shares = [entry for entry in intervals(fit, own, INSTRUMENT)[1] if entry.pigment]
        assert sorted(entry.pigment for entry in shares) == sorted(pigments)
        assert sum(entry.value for entry in shares) == pytest.approx(1.0, abs=1e-3)
        widths.append([(entry.high or 1.0) - (entry.low or 0.0) for entry in shares])
    # as the root of the counts: five, within what the two draws' own fits differ
    np.testing.assert_allclose(np.asarray(widths[0]) / np.asarray(widths[1]), 5.0, rtol=0.25)


def test_a_dispersion_widens_intervals_as_its_root() -> None:
    truth = two_paints(8.0, 25.0)
    own = measured(drawn(truth, 3e5, 3), INSTRUMENT, model_error=0.0)
    (fit,) = fit_candidates(own, [truth], INSTRUMENT)
    narrow, wide = (intervals(fit, own, INSTRUMENT, dispersion=value)[1][0] for value in (1.0, 4.0))
    assert (wide.high or 0) - (wide.low or 0) == pytest.approx(2 * ((narrow.high or 0) - (narrow.low or 0)), rel=0.1)
