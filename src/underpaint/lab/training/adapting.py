"""Adaptation of a network to an unlabelled scan, with simulated spectra of the fitted instrument."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import lightning.pytorch as lightning
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from underpaint.calibrate import (
    Calibration,
    Knowledge,
    calibrate,
    calibrated_instrument,
    merge_knowledge,
    with_calibration,
)
from underpaint.data import Scan, valid_spectra
from underpaint.data.maps import split_place
from underpaint.errors import TrainingError
from underpaint.lab.training.batches import Batch, Batches
from underpaint.lab.training.checkpoint import TrainedNetwork, load_trainable
from underpaint.lab.training.exporting import export
from underpaint.lab.training.instrument_model import (
    HELD_OUT_SEED,
    PLAN_NAME,
    REPORT_NAME,
    InstrumentSettings,
    Sizes,
    Stopwatch,
    plan_sizes,
    simulate_or_read,
)
from underpaint.lab.training.labelled import labelled_spectra
from underpaint.lab.training.library import Library
from underpaint.lab.training.loop import run_training
from underpaint.lab.training.module import log_odds
from underpaint.lab.training.paired import Answers, Comparison, answers_of, batch_conditions, compare
from underpaint.lab.training.settings import TrainSettings
from underpaint.lab.training.split import split_by_source
from underpaint.physics.instrument import Instrument, save_instrument
from underpaint.physics.materials import load_palette
from underpaint.pigments.weights import ModelCard
from underpaint.runtime.files import claim_folder, write_json
from underpaint.runtime.progress import Progress, no_progress
from underpaint.simulate import LibrarySettings, outputs_for
from underpaint.simulate.instrument_inputs import InstrumentConditions
from underpaint.simulate.randomise import log_uniform, perturb_instrument, random_instrument

_ALIGNED_LAYERS = ("stem", "head", "code")
_CHANNEL_SCALE_LIMITS = (0.5, 2.0)
"""Limits of the scale factor of a network channel. Inactive channels have uncertain standard deviations."""
_MIN_CHANNEL_STD = 1e-6


def align_network(network: nn.Module, source_batches: Sequence[Batch], target_batches: Sequence[Batch]) -> nn.Module:
    """Return a copy of a network that has the same channel statistics on target spectra as on source spectra.

    Parameters
    ----------
    network : Module
        Default network or network of layers, with or without folded normalisations. It is not changed.
    source_batches : sequence of Batch
        Spectra from the distribution of the network's training set.
    target_batches : sequence of Batch
        Spectra to which the network is aligned. Labels are not used.

    Notes
    -----
    The method is adaptive batch normalisation (Y. Li et al., arXiv:1603.04779). Scale and shift are written into the
    weights of each layer, because networks from ONNX files have no separate normalisations. Layers are aligned one
    after the other, starting at the input.
    """
    aligned_network = deepcopy(network).eval()
    network.eval()
    for layer_name, layer in aligned_network.named_modules():
        if layer_name.split(".")[0] in _ALIGNED_LAYERS and isinstance(layer, nn.Conv2d | nn.Linear):
            source_moments, target_moments = (
                _channel_moments(network, layer_name, source_batches),
                _channel_moments(aligned_network, layer_name, target_batches),
            )
            _match_moments(layer, source_moments, target_moments)
    return aligned_network


def _match_moments(
    layer: nn.Conv2d | nn.Linear, source_moments: tuple[Tensor, Tensor], target_moments: tuple[Tensor, Tensor]
) -> None:
    channel_scale = (source_moments[1] / target_moments[1].clamp_min(_MIN_CHANNEL_STD)).clamp(*_CHANNEL_SCALE_LIMITS)
    with torch.no_grad():
        layer.weight.mul_(channel_scale.reshape(-1, *[1] * (layer.weight.ndim - 1)))
        if layer.bias is not None:
            layer.bias.copy_((layer.bias - target_moments[0]) * channel_scale + source_moments[0])


def _channel_moments(network: nn.Module, layer_name: str, batches: Sequence[Batch]) -> tuple[Tensor, Tensor]:
    """Return the (n_channel,) mean and standard deviation of a layer's output over all spectra and positions."""
    moment_sums: list[Tensor] = []
    forward_hook = network.get_submodule(layer_name).register_forward_hook(_summing_hook(moment_sums))
    try:
        with torch.inference_mode():
            for batch in batches:
                log_odds(network, batch)
    finally:
        forward_hook.remove()
    n_summed_value, sum_of_values, sum_of_squares = torch.stack(moment_sums).sum(dim=0)
    channel_mean = sum_of_values / n_summed_value
    channel_std = (sum_of_squares / n_summed_value - channel_mean**2).clamp_min(0.0).sqrt()
    return channel_mean.float().clone(), channel_std.float().clone()


def _summing_hook(moment_sums: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def add_sums(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        del layer, inputs
        values_by_channel = output.double().transpose(0, 1).flatten(1)
        moment_sums.append(
            torch.stack(
                (
                    torch.full_like(values_by_channel[:, 0], values_by_channel.shape[1]),
                    values_by_channel.sum(1),
                    (values_by_channel**2).sum(1),
                )
            )
        )

    return add_sums


AdaptationMethod = Literal["told", "aligned", "tuned", "tuned_aligned"]
"""Method of adaptation.

"told" uses instrument conditions as input. "aligned" aligns channel statistics to the scan. "tuned" fine-tunes on
simulated spectra. "tuned_aligned" first fine-tunes and then aligns.
"""
_MAX_SCAN_SPECTRA = 2048
_N_SOURCE_STRATIGRAPHY = 512
_COUNTS_LIMITS = (300.0, 3e6)
_COUNTS_QUANTILES = (0.05, 0.95)
_LEARNING_RATE = 5e-4
_TAIL_FRACTION_LIMITS, _AIR_LIMITS_CM = (1e-3, 0.2), (0.3, 25.0)
"""Ranges of tail fraction and air path (cm), wider than those of common scanners."""


class AdaptSettings(InstrumentSettings):
    """Settings for the adaptation of a network to a scan.

    Parameters
    ----------
    model : str
        Name of a shipped network, or path of an ``.onnx`` or ``.ckpt`` file.
    palette : tuple of str or None
        Pigments to simulate, or None for all outputs of the network and common pigments without visible lines.
    methods : tuple of str
        Methods of adaptation to try.
    """

    model: str = "default"
    palette: tuple[str, ...] | None = None
    methods: tuple[AdaptationMethod, ...] = ("told", "aligned", "tuned", "tuned_aligned")
    minutes: float = Field(5.0, gt=0)


@dataclass(frozen=True)
class AdaptReport:
    """Result of an adaptation, including scores.

    Parameters
    ----------
    given_model : TrainedNetwork
        Network before the adaptation.
    candidates : mapping of str to TrainedNetwork
        Network from each method of adaptation. "told" is the given network with instrument conditions.
    conditions : InstrumentConditions
        Instrument conditions, an input of candidates that predict layers.
    instrument : Instrument
        Fitted instrument.
    calibration : Calibration
        Calibration from the scan.
    validation : mapping of str to float
        Validation loss of the given network ("given") and of each candidate, on simulated spectra.
    chosen_method : str
        Method with the lowest validation loss.
    comparison : Comparison
        Macro F1 of the groups for the given and the chosen network, on new simulated spectra of the fitted instrument.
    model : Path or None
        File of the adapted model. None means that no candidate was accepted, or that the accepted candidate has
        unchanged weights.
    sizes : Sizes
        Sizes of simulation and training.
    minutes : mapping of str to float
        Duration of each step of this call, in minutes.
    """

    given_model: TrainedNetwork
    candidates: Mapping[str, TrainedNetwork]
    conditions: InstrumentConditions
    instrument: Instrument
    calibration: Calibration
    validation: Mapping[str, float]
    chosen_method: str
    comparison: Comparison
    model: Path | None
    sizes: Sizes
    minutes: Mapping[str, float]

    @property
    def is_accepted(self) -> bool:
        """Whether the adapted network is better than the given one by more than two standard errors."""
        return self.chosen_method != "given" and self.comparison.is_better

    def as_sentence(self) -> str:
        """Return a sentence on whether the adapted network is accepted, and why."""
        comparison = self.comparison
        comparison_text = (
            f"on {comparison.n_spectra} new simulated spectra of the fitted instrument, the mean F1 of "
            f"{comparison.n_name} groups went from {comparison.before:.3f} to {comparison.after:.3f} "
            f"(gain {comparison.gain:+.3f}, standard error {comparison.standard_error:.3f})"
        )
        if self.is_accepted:
            return f"Adapted ({self.chosen_method.replace('_', ', ')}): {comparison_text}."
        if self.chosen_method == "given":
            return "Kept the model as it is: no method of adaptation lowered its loss on simulated spectra."
        return f"Kept the model as it is: {comparison_text}. An accepted gain must exceed two standard errors."

    def as_dict(self) -> dict[str, Any]:
        """Return the scores and settings for JSON."""
        return {
            "taken": self.is_accepted,
            "in_words": self.as_sentence(),
            "chosen": self.chosen_method,
            "validation": dict(self.validation),
            "comparison": self.comparison.as_dict(),
            "model": None if self.model is None else str(self.model),
            "told": self.conditions.facts(),
            "sizes": self.sizes.model_dump(),
            "minutes": dict(self.minutes),
        }


def adapt(
    scan: Scan, settings: AdaptSettings, *, known_instrument: Instrument | None = None, progress: Progress | None = None
) -> AdaptReport:
    """Adapt a network to an unlabelled scan, and accept the adapted network if it is better than the given one.

    The same call resumes an interrupted adaptation.

    Parameters
    ----------
    scan : Scan
        Scan with or without an energy axis.
    settings : AdaptSettings
        Network, folder and methods of adaptation.
    known_instrument : Instrument or None
        Instrument, as far as it is known without the scan.
        If ``known_instrument`` is None, properties that the scan does not determine are drawn from the ranges of common
        scanners.
    progress : callable or None
        Called with (description, number of steps done, total number of steps).

    Returns
    -------
    AdaptReport
        The fitted instrument and ``report.json`` are written to ``settings.out``.
        If the adapted model is accepted, its ONNX file and model card are also written.

    Raises
    ------
    CalibrationError
        The scan does not determine its energy axis.
    CoverageError
        The scan does not cover the energies that the network needs.
    TrainingError
        The network cannot be trained further, the scan has no counts, or the folder belongs to another adaptation.
    """
    show_progress, stopwatch = progress or no_progress, Stopwatch()
    claim_folder(settings.out, known_files=(PLAN_NAME,))
    show_progress("Fitting the instrument", 0, 1)
    given_model = load_trainable(settings.model)
    _require_outputs(settings.palette or (), given_model.card)
    fitted_instrument = fit_instrument(scan, known_instrument)
    spectra = scan_spectra(fitted_instrument.scan, given_model.card, settings.seed)
    stopwatch.end_step("fitting")
    instruments = fitted_instrument.draw_instruments(settings.n_machine, settings.seed)
    simulation_settings = settings.library_job(
        settings.palette or _network_palette(given_model.card), instruments, given_model.card
    )
    fixed_settings = settings.model_dump(mode="json", exclude={"out", "sizes", "workers", "threads", "methods"})
    fixed_settings["instrument"] = fitted_instrument.instrument.model_dump(mode="json")
    sizes = plan_sizes(settings, fixed_settings, simulation_settings, given_model, show_progress)
    save_instrument(fitted_instrument.instrument, settings.out / "instrument.toml")
    simulated_sets = _simulated_sets(simulation_settings, fitted_instrument, sizes, settings, show_progress)
    stopwatch.end_step("simulation")
    candidates = _adapted_networks(
        given_model, spectra, simulated_sets, fitted_instrument, settings, sizes, show_progress
    )
    stopwatch.end_step("adapting")
    show_progress("Scoring", 0, 1)
    report = _adaptation_report(given_model, candidates, spectra, simulated_sets, fitted_instrument, settings, sizes)
    stopwatch.end_step("scoring")
    return _write_report(replace(report, minutes=stopwatch.minutes), settings)


@dataclass(frozen=True)
class FittedInstrument:
    """Instrument fitted to a scan.

    Parameters
    ----------
    scan : Scan
        Scan with the fitted energy axis.
    instrument : Instrument
        Instrument with the fitted values. All other properties have default values.
    calibration : Calibration
        Fitted values.
    known_instrument : Instrument or None
        Instrument, as far as it was known without the scan.
    """

    scan: Scan
    instrument: Instrument
    calibration: Calibration
    known_instrument: Instrument | None

    def conditions(self) -> InstrumentConditions:
        """Return the instrument conditions for a network of layers."""
        return self._merged_knowledge().known_conditions()

    def _merged_knowledge(self, default_instrument: Instrument | None = None) -> Knowledge:
        return merge_knowledge(
            self.scan,
            user_instrument=self.known_instrument,
            calibration=self.calibration,
            default_instrument=default_instrument,
            measured_axis=True,
        )

    def draw_instruments(self, n_instrument: int, seed: int) -> tuple[Instrument, ...]:
        """Draw ``n_instrument`` instruments that are consistent with the scan."""
        rng = np.random.default_rng((seed, 78))
        if self.known_instrument is not None:
            return tuple(perturb_instrument(self.instrument, rng) for _ in range(n_instrument))
        return tuple(self._random_instrument(rng) for _ in range(n_instrument))

    def _random_instrument(self, rng: np.random.Generator) -> Instrument:
        """Return an instrument with the fitted values. Other properties have random values of common scanners."""
        instrument = random_instrument(rng)
        detector = instrument.detector.model_copy(update={"tail_fraction": log_uniform(rng, *_TAIL_FRACTION_LIMITS)})
        geometry = instrument.geometry.model_copy(update={"detector_air_cm": log_uniform(rng, *_AIR_LIMITS_CM)})
        return self._merged_knowledge(
            instrument.model_copy(update={"detector": detector, "geometry": geometry})
        ).instrument


def fit_instrument(scan: Scan, known_instrument: Instrument | None = None) -> FittedInstrument:
    """Fit the energy axis, the resolution and, if visible, the anode, tube voltage and scattering angle of a scan.

    Raises
    ------
    CalibrationError
        The scan does not determine its energy axis.
    """
    calibration = calibrate(scan, instrument=known_instrument, tube=True)
    return FittedInstrument(
        with_calibration(scan, calibration),
        calibrated_instrument(scan, calibration, known_instrument),
        calibration,
        known_instrument,
    )


def scan_spectra(scan: Scan, model_card: ModelCard, seed: int) -> Library:
    """Return a random sample of a scan's spectra on the axis of a network, with unknown labels.

    Raises
    ------
    TrainingError
        No pixel has counts.
    CoverageError
        The scan does not cover the energies that the network needs.
    """
    counts = np.concatenate([_valid_counts(scan, rows) for rows in scan.row_blocks()])
    rng = np.random.default_rng((seed, 79))
    rows = np.sort(rng.permutation(len(counts))[:_MAX_SCAN_SPECTRA])
    library = labelled_spectra(counts[rows], scan.require_axis(), [()] * rows.size, model_card)
    has_counts = library.spectra.sum(axis=1) > 0
    if not has_counts.any():
        raise TrainingError(
            f"Cannot adapt to scan {scan.name!r}: no pixel has counts in the energy range of the network."
        )
    return library.select_rows(has_counts)


def _valid_counts(scan: Scan, rows: slice) -> NDArray[Any]:
    counts = np.asarray(scan.counts[rows].compute())
    is_recorded = np.ones(counts.shape[:2], bool) if scan.present is None else scan.present[rows]
    return np.asarray(counts[is_recorded & valid_spectra(counts)])


@dataclass(frozen=True)
class _SimulatedSets:
    """Simulated training and test set of the fitted instrument, and a set from the network's training distribution."""

    training_set: Library
    test_set: Library
    source_set: Library


def _network_palette(model_card: ModelCard) -> tuple[str, ...]:
    """Return the pigments among the outputs of a network, and common pigments without visible lines."""
    output_pigments = [
        split_place(name)[0]
        for name, output_kind in zip(model_card.names, model_card.kinds, strict=True)
        if output_kind == "member"
    ]
    invisible_pigments = [name for name in load_palette().pigments if not outputs_for([name]).names]
    return tuple(dict.fromkeys((*output_pigments, *invisible_pigments)))


def _simulated_sets(
    simulation_settings: LibrarySettings,
    fitted_instrument: FittedInstrument,
    sizes: Sizes,
    settings: AdaptSettings,
    show_progress: Progress,
) -> _SimulatedSets:
    seed = settings.seed + HELD_OUT_SEED
    test_settings = {"instrument": fitted_instrument.draw_instruments(settings.n_machine, seed), "seed": seed}
    source_settings = {
        "instrument": None,
        "seed": seed,
        "renders": 1,
        "n_stratigraphies": min(_N_SOURCE_STRATIGRAPHY, sizes.n_stratigraphies),
    }
    settings_by_set = {
        "training": simulation_settings.model_copy(update={"n_stratigraphies": sizes.n_stratigraphies}),
        "proof": simulation_settings.model_copy(update={"n_stratigraphies": sizes.n_held_out, **test_settings}),
        "usual": simulation_settings.model_copy(update=source_settings),
    }
    library_by_set = {
        name: simulate_or_read(set_settings, settings.out / f"{name}.h5", settings.workers, show_progress)
        for name, set_settings in settings_by_set.items()
    }
    return _SimulatedSets(library_by_set["training"], library_by_set["proof"], library_by_set["usual"])


def _require_outputs(palette: tuple[str, ...], model_card: ModelCard) -> None:
    unknown_names = [name for name in outputs_for(palette).names if name not in model_card.names]
    if unknown_names:
        raise TrainingError(
            f"Cannot adapt {model_card.name!r} to a palette with {', '.join(unknown_names[:4])}: these pigments are "
            "no outputs of the network. Train a model for the palette: `underpaint train --instrument ... "
            "--palette ...`."
        )


def _fine_tune_settings(
    settings: AdaptSettings, sizes: Sizes, model_card: ModelCard, spectra: Library
) -> TrainSettings:
    min_counts, max_counts = np.clip(np.quantile(spectra.spectra.sum(axis=1), _COUNTS_QUANTILES), *_COUNTS_LIMITS)
    # rounded, because a resumed call must have the same settings
    count_range = {"counts_min": float(np.floor(min_counts)), "counts_max": float(np.ceil(max_counts))}
    return settings.training(
        f"{model_card.name}_adapted", "tuning", model_card, sizes, learning_rate=_LEARNING_RATE, **count_range
    )


def _adapted_networks(
    given_model: TrainedNetwork,
    spectra: Library,
    simulated_sets: _SimulatedSets,
    fitted_instrument: FittedInstrument,
    settings: AdaptSettings,
    sizes: Sizes,
    show_progress: Progress,
) -> dict[str, TrainedNetwork]:
    train_settings = _fine_tune_settings(settings, sizes, given_model.card, spectra)
    conditions = _network_conditions(given_model, fitted_instrument)
    scan_batches = _conditioned_batches(spectra, train_settings, conditions)
    candidates: dict[str, TrainedNetwork] = {}
    if "told" in settings.methods and conditions is not None:
        candidates["told"] = given_model
    if "aligned" in settings.methods:
        show_progress("Aligning", 0, 1)
        network = align_network(
            given_model.network, _conditioned_batches(simulated_sets.source_set, train_settings, None), scan_batches
        )
        candidates["aligned"] = TrainedNetwork(network, given_model.card)
    if {"tuned", "tuned_aligned"} & set(settings.methods):
        tuned_model = _fine_tune(given_model, simulated_sets.training_set, train_settings, show_progress)
        candidates |= {"tuned": tuned_model} if "tuned" in settings.methods else {}
    if "tuned_aligned" in settings.methods:
        network = align_network(
            tuned_model.network,
            _conditioned_batches(simulated_sets.training_set, train_settings, conditions),
            scan_batches,
        )
        candidates["tuned_aligned"] = TrainedNetwork(network, tuned_model.card)
    return candidates


def _network_conditions(given_model: TrainedNetwork, fitted_instrument: FittedInstrument) -> NDArray[np.float32] | None:
    return (
        fitted_instrument.conditions().inputs(given_model.card.instrument_inputs)
        if given_model.card.instrument_inputs
        else None
    )


def _conditioned_batches(
    library: Library, settings: TrainSettings, conditions: NDArray[np.float32] | None
) -> list[Batch]:
    """Return batches of a library's last spectra. All spectra have the same instrument conditions."""
    rows = np.arange(len(library))[-_MAX_SCAN_SPECTRA:]
    without_quantities = replace(library, quantities=None, quantity_names=())
    n_input = 0 if conditions is None else conditions.size
    batches = []
    for batch in Batches(without_quantities, rows, settings, shuffle=False):
        n_condition = max(n_input, batch.instrument.shape[1])
        batch_with_conditions = batch._replace(instrument=batch.instrument.new_zeros((len(batch.counts), n_condition)))
        batches.append(batch_with_conditions._replace(instrument=batch_conditions(batch_with_conditions, conditions)))
    return batches


def _fine_tune(
    given_model: TrainedNetwork, library: Library, settings: TrainSettings, show_progress: Progress
) -> TrainedNetwork:
    labelled_library = _library_with_outputs(library, given_model.card)
    split = split_by_source(labelled_library.source, seed=settings.seed, validation_share=0.1, test_share=0)
    lightning.seed_everything(settings.seed, verbose=False)
    model_card = given_model.card.model_copy(update={"name": settings.name})
    return run_training(
        deepcopy(given_model.network), model_card, labelled_library, split, settings, progress=show_progress
    ).trained_model


def _library_with_outputs(library: Library, model_card: ModelCard) -> Library:
    """Return the library with labels for all outputs of a network. Labels that the library lacks are unknown."""
    library_with_outputs = replace(
        library.with_names(model_card.names),
        kinds=model_card.kinds,
        groups=model_card.groups,
        labels_for_people=model_card.labels,
        elements=model_card.elements,
    )
    if library_with_outputs.quantities is None:
        return library_with_outputs
    quantities = np.full((len(library_with_outputs), len(model_card.quantities)), np.nan, dtype=np.float32)
    quantities[:, [model_card.quantities.index(name) for name in library_with_outputs.quantity_names]] = (
        library_with_outputs.quantities
    )
    return replace(library_with_outputs, quantities=quantities, quantity_names=model_card.quantities)


def _adaptation_report(
    given_model: TrainedNetwork,
    candidates: dict[str, TrainedNetwork],
    spectra: Library,
    simulated_sets: _SimulatedSets,
    fitted_instrument: FittedInstrument,
    settings: AdaptSettings,
    sizes: Sizes,
) -> AdaptReport:
    train_settings = _fine_tune_settings(settings, sizes, given_model.card, spectra)
    conditions = _network_conditions(given_model, fitted_instrument)
    split = split_by_source(simulated_sets.training_set.source, seed=settings.seed, validation_share=0.1, test_share=0)
    validation_set = simulated_sets.training_set.select_rows(split.validation)
    loss_by_method = {
        "given": answers_of(given_model.network, given_model.card.names, validation_set, train_settings).loss()
    }
    for method, candidate in candidates.items():
        loss_by_method[method] = answers_of(
            candidate.network, candidate.card.names, validation_set, train_settings, conditions
        ).loss()
    chosen_method = min(loss_by_method, key=lambda method: loss_by_method[method])
    chosen_model, chosen_conditions = (
        (given_model, None) if chosen_method == "given" else (candidates[chosen_method], conditions)
    )
    answers_before = _group_answers(
        answers_of(given_model.network, given_model.card.names, simulated_sets.test_set, train_settings),
        given_model.card,
    )
    answers_after = _group_answers(
        answers_of(
            chosen_model.network, chosen_model.card.names, simulated_sets.test_set, train_settings, chosen_conditions
        ),
        given_model.card,
    )
    comparison = compare(answers_before, answers_after, seed=settings.seed)
    return AdaptReport(
        given_model=given_model,
        candidates=candidates,
        conditions=fitted_instrument.conditions(),
        instrument=fitted_instrument.instrument,
        calibration=fitted_instrument.calibration,
        validation=loss_by_method,
        chosen_method=chosen_method,
        comparison=comparison,
        model=None,
        sizes=sizes,
        minutes={},
    )


def _group_answers(answers: Answers, model_card: ModelCard) -> Answers:
    kind_by_name = dict(zip(model_card.names, model_card.kinds, strict=True))
    return answers.select_output_names([name for name in answers.names if kind_by_name[name] == "group"])


def _write_report(report: AdaptReport, settings: AdaptSettings) -> AdaptReport:
    if report.is_accepted and report.chosen_method != "told":
        adapted_model = report.candidates[report.chosen_method]
        model_path = export(adapted_model.network, _adapted_card(report, adapted_model, settings), settings.out)
        report = replace(report, model=model_path)
    write_json(settings.out / REPORT_NAME, report.as_dict())
    return report


def _adapted_card(report: AdaptReport, adapted_model: TrainedNetwork, settings: AdaptSettings) -> ModelCard:
    name = f"{report.given_model.card.name}_adapted"
    limit_sentence = (
        f"Adapted from {report.given_model.card.name!r} to the instrument of one scan "
        f"({report.instrument.note or 'as fitted'}) without labels. "
        "The scores in its model card were measured on simulated spectra from that instrument."
    )
    scores = {
        score_name: score for score_name, score in report.as_dict().items() if score_name not in {"model", "minutes"}
    }
    training_record = adapted_model.card.training.model_copy(
        update={
            "config": {"adapted_from": report.given_model.card.training.model_dump(mode="json"), "seed": settings.seed}
        }
    )
    card_fields = {
        "name": name,
        "limits": (limit_sentence, *report.given_model.card.limits),
        "training": training_record,
    }
    return adapted_model.card.model_copy(
        update={**card_fields, "figures": {**adapted_model.card.figures, "adapted": scores}}
    )
