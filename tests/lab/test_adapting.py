"""A network adapted to an unlabelled scan, or left as it is."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from underpaint.data import EnergyAxis, Scan
from underpaint.errors import CalibrationError, OutputError, TrainingError
from underpaint.lab.networks import build_network
from underpaint.lab.training import TrainSettings, load_trainable, train
from underpaint.lab.training.adapting import (
    AdaptReport,
    AdaptSettings,
    FittedInstrument,
    _write_report,
    adapt,
    align_network,
    fit_instrument,
)
from underpaint.lab.training.batches import Batch
from underpaint.lab.training.checkpoint import TrainedNetwork, spec_for
from underpaint.lab.training.exporting import example_inputs
from underpaint.lab.training.instrument_model import Sizes, simulate_or_read
from underpaint.lab.training.module import run_network
from underpaint.lab.training.paired import Comparison, answers_of, compare
from underpaint.physics.forward import count, emit, render
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.physics.materials import library
from underpaint.pigments.predict.model import open_model
from underpaint.simulate import LibrarySettings, outputs_for
from underpaint.simulate.draw import RandomStratigraphies, StratigraphySampler

PALETTE = ("vermilion", "lead_white", "azurite", "zinc_white", "yellow_ochre", "chalk")
SIZES = Sizes(n_stratigraphies=32, n_held_out=16, epochs=1)


def scan_with(instrument: Instrument, seed: int = 0) -> Scan:
    rng = np.random.default_rng(seed)
    sampler = StratigraphySampler(RandomStratigraphies(palette=PALETTE))
    expected = np.asarray(render(emit([sampler.draw(rng) for _ in range(16)], instrument), instrument.detector))
    counts = count(expected * (1e5 / expected.sum(axis=1, keepdims=True)), rng=rng)
    detector = instrument.detector
    axis = EnergyAxis(detector.gain_kev, detector.zero_kev, detector.n_channel)
    return Scan(counts.reshape(4, 4, -1), axis=axis, name="virtual")


def settings(out: Path, **changes: object) -> AdaptSettings:
    given = {"out": out, "palette": PALETTE, "sizes": SIZES, "n_machine": 2, "workers": 1, "threads": 1}
    return AdaptSettings.model_validate({**given, **changes})


def broad() -> Instrument:
    elio = load_instrument("elio")
    return elio.model_copy(update={"detector": elio.detector.model_copy(update={"noise_fwhm_kev": 0.149})})


@pytest.fixture(scope="module")
def fit() -> FittedInstrument:
    return fit_instrument(scan_with(broad()))


@pytest.fixture
def fitted_once(fit: FittedInstrument, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "underpaint.lab.training.adapting.fit_instrument",
        lambda scan, known_instrument=None: replace(fit, known_instrument=known_instrument),
    )


def batch_of(trained: TrainedNetwork, stretched: float = 1.0) -> Batch:
    counts, recorded, *instrument_input = example_inputs(trained.network, trained.card, 64)
    labels = torch.zeros((64, len(trained.card.names)))
    instrument = instrument_input[0] if instrument_input else torch.zeros((64, 0))
    return Batch(stretched * counts + (stretched - 1.0), recorded, labels, labels, instrument, torch.zeros((64, 0)))


def test_aligned_to_what_it_knows_a_network_stays_as_it_is() -> None:
    start = load_trainable("default")
    batch = batch_of(start)
    again = align_network(start.network, [batch], [batch])
    with torch.inference_mode():
        torch.testing.assert_close(
            run_network(again, batch)[0], run_network(start.network, batch)[0], rtol=1e-3, atol=1e-3
        )


@pytest.mark.parametrize("folded", [True, False])
def test_aligned_layers_have_on_the_target_what_they_had_on_the_source(folded: bool) -> None:
    card = load_trainable("default").card
    torch.manual_seed(3)
    start = TrainedNetwork(build_network(spec_for(card, folded=folded)).eval(), card)
    source, target = batch_of(start), batch_of(start, stretched=3.0)
    result = align_network(start.network, [source], [target])
    means = {}
    for name, network, batch in (
        ("source", start.network, source), ("given", start.network, target), ("aligned", result, target)
    ):  # fmt: skip
        hook = network.get_submodule("stem.1.0").register_forward_hook(
            lambda layer, given, answers, name=name: means.update({name: answers.mean(dim=(0, 2, 3))})
        )
        with torch.inference_mode():
            run_network(network, batch)
        hook.remove()
    torch.testing.assert_close(means["aligned"], means["source"], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(means["given"], means["source"], rtol=1e-3, atol=1e-3)


def test_what_the_scan_tells_is_kept_and_the_rest_is_drawn(fit: FittedInstrument) -> None:
    assert 0.17 < float(fit.calibration.fwhm_kev(5.895)) < 0.21
    assert fit.calibration.anode == "Rh"
    machines = fit.draw_instruments(3, seed=1)
    assert {machine.tube.anode for machine in machines} == {"Rh"}
    assert len({machine.detector.noise_fwhm_kev for machine in machines}) == 1
    assert len({machine.detector.tail_fraction for machine in machines}) == 3
    known = replace(fit, known_instrument=load_instrument("elio")).draw_instruments(2, seed=1)
    assert {machine.detector.window for machine in known} == {load_instrument("elio").detector.window}
    conditions = fit.conditions()
    assert (conditions.anode, conditions.incidence_deg) == ("Rh", None)
    assert conditions.fwhm_kev == pytest.approx(0.19, abs=0.02)


@pytest.mark.usefixtures("fitted_once")
def test_adapting_is_never_worse_than_noise_or_declines(fit: FittedInstrument, tmp_path: Path) -> None:
    report = adapt(fit.scan, settings(tmp_path))
    assert set(report.candidates) >= {"aligned", "tuned", "tuned_aligned"}
    assert report.validation[report.chosen_method] == min(report.validation.values())
    decided = report.candidates[report.chosen_method] if report.is_accepted else report.given_model
    card, places = report.given_model.card, bool(report.given_model.card.instrument_inputs)
    truth = LibrarySettings(
        palette=PALETTE, instrument=broad(), n_stratigraphies=32, renders=1, chunk=32, seed=9, places=places
    )
    spectra = simulate_or_read(truth, tmp_path / "true.h5", 1, lambda *_: None)
    level = TrainSettings(library=(tmp_path,), out=tmp_path, kind=card.kind, counts_min=1e5, counts_max=1e5)
    conditions = report.conditions.inputs(card.instrument_inputs) if places and report.is_accepted else None
    before = answers_of(report.given_model.network, card.names, spectra, level)
    after = answers_of(decided.network, card.names, spectra, level, conditions)
    assert not compare(after, before).is_better
    assert (report.model is not None) == (report.is_accepted and report.chosen_method != "told")
    assert load_instrument(tmp_path / "instrument.toml").tube.anode == "Rh"
    with pytest.raises(OutputError, match="other settings: seed"):
        adapt(fit.scan, settings(tmp_path, seed=1))


def judged(fit: FittedInstrument, gain: float) -> AdaptReport:
    start = load_trainable("default")
    comparison = Comparison(0.80, 0.80 + gain, gain, 0.01, 100, 6)
    losses = {"given": 0.3, "tuned": 0.2}
    return AdaptReport(start, {"tuned": start}, fit.conditions(), fit.instrument, fit.calibration, losses, "tuned",
                       comparison, None, SIZES, {})  # fmt: skip


def test_a_gain_within_noise_is_declined_and_says_so(fit: FittedInstrument, tmp_path: Path) -> None:
    report = _write_report(judged(fit, 0.019), settings(tmp_path))
    assert report.model is None
    assert not list(tmp_path.glob("*.onnx"))
    assert "Kept the model as it is" in report.as_sentence()
    assert "must exceed two standard errors" in report.as_sentence()


def test_a_gain_beyond_noise_is_taken_with_its_figures_in_the_card(fit: FittedInstrument, tmp_path: Path) -> None:
    report = _write_report(judged(fit, 0.021), settings(tmp_path))
    assert report.model == tmp_path / "default_adapted.onnx"
    card = open_model(report.model, threads=1).card
    assert card.figures["adapted"]["comparison"]["gain"] == pytest.approx(0.021)
    assert "Adapted from 'default' to the instrument of one scan" in card.limits[0]
    assert "went from 0.800 to 0.821" in report.as_sentence()


@pytest.mark.usefixtures("fitted_once")
def test_a_network_of_layers_receives_instrument_conditions(fit: FittedInstrument, tmp_path: Path) -> None:
    job = LibrarySettings(palette=PALETTE, n_stratigraphies=16, renders=1, chunk=16, places=True)
    spectra = simulate_or_read(job, tmp_path / "library.h5", 1, lambda *_: None)
    train_settings = TrainSettings(
        library=(tmp_path,), out=tmp_path / "run", kind="layers", name="toy", epochs=1, batch=8, threads=1,
        validation_share=0.2, test_share=0, precision="32", progress=False,
    )  # fmt: skip
    checkpoint = train(train_settings, spectra).checkpoint
    few = Sizes(n_stratigraphies=16, n_held_out=8, epochs=1)
    report = adapt(
        fit.scan, settings(tmp_path / "a", model=str(checkpoint), sizes=few, methods=("told", "tuned_aligned"))
    )
    assert set(report.validation) == {"given", "told", "tuned_aligned"}
    assert report.validation["told"] != report.validation["given"]
    assert report.candidates["told"].network is report.given_model.network


def test_a_scan_that_tells_no_axis_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CalibrationError, match="no counts"):
        adapt(Scan(np.zeros((2, 2, 1024), np.uint8), name="dark"), settings(tmp_path))


def test_a_palette_that_the_network_does_not_know_is_refused(tmp_path: Path) -> None:
    dark = Scan(np.zeros((2, 2, 1024), np.uint8), name="dark")
    known = set(load_trainable("default").card.names)
    unknown = [
        name for name in (pigment.name for pigment in library()) if outputs_for([name]).names and name not in known
    ]
    if not unknown:
        pytest.skip("the shipped network knows the whole library")
    with pytest.raises(TrainingError, match=f"{unknown[0]}.* these pigments are no outputs of the network"):
        adapt(dark, settings(tmp_path, palette=(*PALETTE, unknown[0])))
