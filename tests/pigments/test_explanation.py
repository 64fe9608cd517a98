"""One spectrum through search, sampling, verdict, words and picture."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from underpaint.data import Spectrum
from underpaint.display.plot import save_png
from underpaint.display.plot.spectra import explanation_figure
from underpaint.errors import CalibrationError, SampleError, ScanError
from underpaint.physics.forward import count, emit, render
from underpaint.physics.forward.response import axis_of
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Layer, Paint, Stratigraphy, ground_layer, library
from underpaint.pigments.explain import Explanation, ModelError, explain, given_groups, sampling, search
from underpaint.pigments.explain.candidate_groups import MAX_GROUPS, likely_groups
from underpaint.pigments.explain.explanation import _fit
from underpaint.pigments.explain.known import KnownLayers
from underpaint.pigments.explain.mixture import optimise_modes
from underpaint.pigments.explain.record import explanation_record
from underpaint.pigments.explain.sampling import Sample, sample
from underpaint.pigments.explain.search import simple_start_states
from underpaint.pigments.explain.spectrum_model import SpectrumModel
from underpaint.pigments.explain.states import PaintPrior
from underpaint.pigments.explain.verdict import draws_of, surface_shares
from underpaint.pigments.explain.words import explanation_sentences

INSTRUMENT = load_instrument("silver_30kv")
AXIS = axis_of(INSTRUMENT.detector)


def drawn(*paints: Layer, counts: float = 1e5, seed: int = 8) -> Spectrum:
    stratigraphy = Stratigraphy((*paints, ground_layer("chalk", 150.0)))
    expected = np.asarray(render(emit([stratigraphy], INSTRUMENT), INSTRUMENT.detector, AXIS))[0]
    drawn_counts = count(expected / expected.sum() * counts, rng=np.random.default_rng(seed))
    return Spectrum(drawn_counts.astype(np.float64), AXIS, name="panel, pixel (1, 2)")


@pytest.fixture(scope="module")
def vermilion_over_azurite() -> Explanation:
    """Vermilion, 20 um, over azurite."""
    spectrum = drawn(Paint({"vermilion": 1.0}).layer(20.0), Paint({"azurite": 1.0}).layer(30.0))
    with pytest.MonkeyPatch.context() as patch:
        # enough for two groups, in a fraction of the time
        for name, value in {"N_SCREENED": 100, "N_NEIGHBOURS": 15, "N_OPTIMISED": 4, "N_VARIANTS": 4}.items():
            patch.setattr(search, name, value)
        patch.setattr(sampling, "N_STATE", 100)
        return explain(spectrum, INSTRUMENT, given_groups(["vermilion", "azurite"]))


def test_order_thickness_and_number_of_layers_are_those_of_the_paint(vermilion_over_azurite: Explanation) -> None:
    (order,) = vermilion_over_azurite.orders
    assert (order.above, order.below) == ("mercury_red", "copper_green_blue")
    assert order.probability > 0.9
    assert vermilion_over_azurite.layer_number.probability[1] > 0.9
    top = vermilion_over_azurite.layers[0].thickness
    assert top.low < 20.0 < top.high < 8 * top.low
    assert vermilion_over_azurite.is_stated
    assert 0.5 < vermilion_over_azurite.fit.reduced_chi_square < 1.2
    assert vermilion_over_azurite.members("mercury_red", 0) == {"vermilion": 1.0}


def test_what_another_method_has_shown_is_no_answer(vermilion_over_azurite: Explanation) -> None:
    known = KnownLayers(method="cross-section", source="S2", paint=1, order=("vermilion", "azurite"))
    informed = replace(vermilion_over_azurite, candidates=vermilion_over_azurite.candidates.with_known_layers(known))
    assert informed.orders == ()
    assert explanation_record(informed)["order"] == []
    assert explanation_record(informed)["known"]["source"] == "S2"
    assert explanation_sentences(informed)[0] == known.sentence
    assert not any("begins above" in sentence for sentence in explanation_sentences(informed)[1:])
    assert explanation_record(vermilion_over_azurite)["known"] is None


def test_lines_come_from_the_layer_that_holds_their_element(vermilion_over_azurite: Explanation) -> None:
    shares = surface_shares(vermilion_over_azurite.runs)
    assert shares["Hg_L"].determined
    assert shares["Hg_L"].median > 0.95
    assert shares["Hg_L"].low > 0.8
    assert shares["Cu_K"].determined
    assert shares["Cu_K"].high < 0.05
    assert shares["Ca_K"].high < 0.05  # of the ground
    assert explanation_record(vermilion_over_azurite)["from_surface"]["Hg_L"]["median"] == shares["Hg_L"].median


def test_the_picture_shows_the_spread_of_the_stacks(vermilion_over_azurite: Explanation, tmp_path: Path) -> None:
    figure = explanation_figure(vermilion_over_azurite)
    _, middle, lower = figure.axes
    np.testing.assert_allclose(np.asarray(middle.lines[-1].get_ydata()), vermilion_over_azurite.fit.pulls)
    assert len(lower.collections[0].get_paths()) >= 2 * 60
    save_png(figure, tmp_path / "spot.png")
    assert (tmp_path / "spot.png").stat().st_size > 10_000


def test_numbers_are_withheld_where_nothing_describes_the_spectrum(vermilion_over_azurite: Explanation) -> None:
    spectrum = drawn(Paint({"vermilion": 1.0, "titanium_white": 1.0}).layer(20.0))
    prior = PaintPrior(["mercury_red"])
    model = SpectrumModel(spectrum, INSTRUMENT, prior)
    modes = optimise_modes(model, simple_start_states(prior), 1.0, 8)
    sample = Sample(modes.states, modes.log_likelihood, 0.0)
    fit = _fit(model, [sample, sample], INSTRUMENT)
    assert not fit.describes_spectrum
    assert "Ti_K" in [misfit.family for misfit in fit.misfits]
    withheld = replace(vermilion_over_azurite, fit=fit)
    assert not withheld.is_stated
    words = "\n".join(explanation_sentences(withheld))
    assert "not stated" in words
    assert "Ti K has a line at this energy, and no candidate pigment contains this element" in words
    assert " um" not in words
    assert "begins above" not in words
    assert len(explanation_figure(withheld).axes[2].collections) == 0


def test_intervals_hold_the_truth_of_simulated_paints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "N_SCREENED", 50)
    monkeypatch.setattr(search, "N_NEIGHBOURS", 10)
    prior = PaintPrior(["mercury_red"], pigments={"mercury_red": ["vermilion"]})
    for seed, thickness in enumerate((8.0, 20.0)):
        spectrum = drawn(Paint({"vermilion": 1.0}).layer(thickness), counts=2e4, seed=seed)
        model, rng = SpectrumModel(spectrum, INSTRUMENT, prior), np.random.default_rng(seed)
        draws = draws_of(prior, sample(model, search.search(model, rng), rng, n=60))
        low, high = np.quantile(draws.thickness_um[:, 0], [0.01, 0.99])
        # 98 % of right intervals; not the whole range of 5 to 400 um
        assert low < thickness < high < 4 * low


def test_expected_counts_are_those_of_the_forward_model() -> None:
    prior = PaintPrior(["mercury_red", "copper_green_blue"])
    states = prior.draw(4, np.random.default_rng(5))
    fractions, areal = prior.mass_fractions_and_densities(states)
    for row in range(len(states)):
        layers = [
            Layer(
                {name: float(fraction) for name, fraction in zip(prior.elements, part, strict=True) if fraction > 0},
                1.0,
                1e4 * mass,
            )
            for part, mass in zip(fractions[row], areal[row].tolist(), strict=True)
            if mass > 0
        ]
        exact = np.asarray(render(emit([Stratigraphy(tuple(layers))], INSTRUMENT), INSTRUMENT.detector, AXIS))[0]
        model = SpectrumModel(Spectrum(exact / exact.sum() * 1e5, AXIS), INSTRUMENT, prior)
        np.testing.assert_allclose(model.expected_counts(states)[row], model.counts, rtol=2e-2, atol=0.5)
        residuals, log_like = model.evaluate(states)
        assert (residuals[row] ** 2).sum() < 1.0
        assert log_like.argmax() == row


def test_what_cannot_be_explained_is_refused() -> None:
    prior, spectrum = PaintPrior(["mercury_red"]), drawn(Paint({"vermilion": 1.0}).layer(20.0))
    with pytest.raises(CalibrationError, match="calibrate"):
        SpectrumModel(replace(spectrum, axis=None), INSTRUMENT, prior)
    with pytest.raises(ScanError, match=r"no counts above 3\.05 keV"):
        SpectrumModel(replace(spectrum, counts=np.zeros(AXIS.n_channel)), INSTRUMENT, prior)
    with pytest.raises(ScanError, match="negative or not numbers"):
        SpectrumModel(replace(spectrum, counts=spectrum.counts - 1.0), INSTRUMENT, prior)
    with pytest.raises(SampleError, match="0 to 100 %"):
        SpectrumModel(spectrum, INSTRUMENT, prior, ModelError(independent=-0.1))


def test_groups_are_those_that_the_network_sees_but_for_the_grounds() -> None:
    groups = likely_groups(
        {"mercury_red": 0.99, "lead_pigment": 0.6, "tin_pigment": 0.04, "calcium_white": 0.97}, "chalk"
    )
    assert groups.groups == ("mercury_red", "lead_pigment")
    assert groups.absent == pytest.approx((0.0, 0.4))
    assert "attributed to the ground" in groups.notes[0]
    assert likely_groups({"calcium_white": 0.97}, "chalk").groups == ("calcium_white",)
    with pytest.raises(SampleError, match=r"no pigment group .*mercury_red, 0\.02.*--pigments"):
        likely_groups({"mercury_red": 0.02}, "chalk")
    many = {group.name: 0.5 for group in library().groups}
    assert len(likely_groups(many, "chalk").groups) == MAX_GROUPS


def test_groups_may_be_given_by_their_pigments() -> None:
    groups = given_groups(["mercury_red", "azurite", "lead_tin_yellow"])
    assert groups.groups == ("mercury_red", "copper_green_blue", "lead_pigment", "tin_pigment")
    assert groups.pigments == {
        "copper_green_blue": ("azurite",),
        "lead_pigment": ("lead_tin_yellow",),
        "tin_pigment": ("lead_tin_yellow",),
    }
    with pytest.raises(SampleError, match="Did you mean"):
        given_groups(["azurit"])
    with pytest.raises(SampleError, match="name a group or pigment"):
        given_groups([])
