"""Adaptation of a network to a scan without labels, by simulations of its fitted instrument."""

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
from underpaint.lab.training.checkpoint import Trained, load_trainable
from underpaint.lab.training.exporting import export
from underpaint.lab.training.instrument_model import (
    HELD_OUT_SEED,
    PLAN,
    REPORT,
    InstrumentSettings,
    Sizes,
    Stopwatch,
    plan_sizes,
    simulate_or_read,
)
from underpaint.lab.training.labelled import labelled_spectra
from underpaint.lab.training.library import Library
from underpaint.lab.training.loop import run
from underpaint.lab.training.module import log_odds
from underpaint.lab.training.paired import Answers, Comparison, answers_of, compare, instrument_of
from underpaint.lab.training.settings import TrainSettings
from underpaint.lab.training.split import split_by_source
from underpaint.physics.instrument import Instrument, save_instrument
from underpaint.physics.materials import load_palette
from underpaint.pigments.weights import ModelCard
from underpaint.runtime.files import claim_folder, write_json
from underpaint.runtime.progress import Progress, no_progress
from underpaint.simulate import LibrarySettings, outputs_for
from underpaint.simulate.instrument_inputs import InstrumentConditions
from underpaint.simulate.randomise import log_uniform, perturbed, random_instrument

_PARTS = ("stem", "head", "code")
_SCALES = (0.5, 2.0)
"""Limits of a channel's scale: a channel that a scan hardly excites has an uncertain deviation."""
_LEAST_DEVIATION = 1e-6


def align(network: nn.Module, source: Sequence[Batch], target: Sequence[Batch]) -> nn.Module:
    """Return a copy whose channels have the mean and deviation on the target that they had on the source.

    Parameters
    ----------
    network : Module
        Default network or one of layers, folded or not; it is not changed.
    source : sequence of Batch
        Spectra of the kind that it was trained on.
    target : sequence of Batch
        Spectra to align to; their labels are not used.

    Notes
    -----
    Adaptive batch normalisation (Y. Li et al., arXiv:1603.04779), written into the weights of the layer before: the
    shipped networks are read back without their normalisations. Layers are aligned in turn, from the input on, each
    with those before it aligned.
    """
    result = deepcopy(network).eval()
    network.eval()
    for name, layer in result.named_modules():
        if name.split(".")[0] in _PARTS and isinstance(layer, nn.Conv2d | nn.Linear):
            source_moments, target_moments = _moments(network, name, source), _moments(result, name, target)
            _restate(layer, source_moments, target_moments)
    return result


def _restate(layer: nn.Conv2d | nn.Linear, source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> None:
    scale = (source[1] / target[1].clamp_min(_LEAST_DEVIATION)).clamp(*_SCALES)
    with torch.no_grad():
        layer.weight.mul_(scale.reshape(-1, *[1] * (layer.weight.ndim - 1)))
        if layer.bias is not None:
            layer.bias.copy_((layer.bias - target[0]) * scale + source[0])


def _moments(network: nn.Module, name: str, batches: Sequence[Batch]) -> tuple[Tensor, Tensor]:
    """Return (n_channel,) mean and standard deviation of a layer's output over all spectra and positions."""
    sums: list[Tensor] = []
    hook = network.get_submodule(name).register_forward_hook(_summing_hook(sums))
    try:
        with torch.inference_mode():
            for batch in batches:
                log_odds(network, batch)
    finally:
        hook.remove()
    number, first, second = torch.stack(sums).sum(dim=0)
    mean = first / number
    deviation = (second / number - mean**2).clamp_min(0.0).sqrt()
    return mean.float().clone(), deviation.float().clone()


def _summing_hook(sums: list[Tensor]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def add(layer: nn.Module, given: tuple[Tensor, ...], answers: Tensor) -> None:
        del layer, given
        each = answers.double().transpose(0, 1).flatten(1)
        sums.append(torch.stack((torch.full_like(each[:, 0], each.shape[1]), each.sum(1), (each**2).sum(1))))

    return add


Way = Literal["told", "aligned", "tuned", "tuned_aligned"]
"""Instrument conditions as input; statistics aligned to the scan; fine-tuned on simulations; both of these."""
_SCAN_SPECTRA = 2048
_USUAL = 512
_COUNTS = (300.0, 3e6)
_COUNT_QUANTILES = (0.05, 0.95)
_RATE = 5e-4
_TAIL, _DETECTOR_AIR_CM = (1e-3, 0.2), (0.3, 25.0)
"""Wider ranges than of scanners in use: the scan may come from a worse one."""


class AdaptSettings(InstrumentSettings):
    """How a network is adapted to a scan.

    Parameters
    ----------
    model : str
        The network: a shipped name, an ``.onnx`` or a ``.ckpt`` file.
    palette : tuple of str or None
        Pigments to simulate; None: all that the network answers, and those without visible lines.
    ways : tuple of str
        What to try.
    """

    model: str = "default"
    palette: tuple[str, ...] | None = None
    ways: tuple[Way, ...] = ("told", "aligned", "tuned", "tuned_aligned")
    minutes: float = Field(5.0, gt=0)


@dataclass(frozen=True)
class AdaptReport:
    """Result of an adaptation, and whether it is accepted.

    Parameters
    ----------
    given : Trained
        The network before.
    candidates : mapping of str to Trained
        The network after each way of adapting; "told" is the given network with instrument conditions.
    conditions : InstrumentConditions
        Instrument conditions given to the candidates, if they are networks of layers.
    instrument : Instrument
        As fitted.
    calibration : Calibration
        Calibration from the scan.
    validation : mapping of str to float
        Loss of each on simulated spectra that chose between them; "given" is among them.
    chosen : str
        The way of the lowest loss.
    comparison : Comparison
        Macro F1 of the groups, given and chosen, on fresh simulated spectra of the fitted instrument.
    model : Path or None
        The adapted model; None where none was accepted, or where the weights are the same.
    sizes : Sizes
        What was simulated and trained.
    minutes : mapping of str to float
        Duration of each part of this call.
    """

    given: Trained
    candidates: Mapping[str, Trained]
    conditions: InstrumentConditions
    instrument: Instrument
    calibration: Calibration
    validation: Mapping[str, float]
    chosen: str
    comparison: Comparison
    model: Path | None
    sizes: Sizes
    minutes: Mapping[str, float]

    @property
    def accepted(self) -> bool:
        """Whether the adapted network beats the given one by more than two standard errors."""
        return self.chosen != "given" and self.comparison.is_better

    def in_words(self) -> str:
        """Return whether the result is accepted, and why, as a sentence."""
        comparison = self.comparison
        about = (
            f"on {comparison.n_spectra} fresh simulated spectra of the fitted instrument the mean F1 of "
            f"{comparison.n_name} groups went from {comparison.before:.3f} to {comparison.after:.3f} "
            f"(gain {comparison.gain:+.3f}, standard error {comparison.standard_error:.3f})"
        )
        if self.accepted:
            return f"Adapted ({self.chosen.replace('_', ', ')}): {about}."
        if self.chosen == "given":
            return "Kept the model as it is: no way of adapting lowered its loss on simulated spectra."
        return f"Kept the model as it is: {about}; a gain must exceed two standard errors to be taken."

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return {
            "taken": self.accepted,
            "in_words": self.in_words(),
            "chosen": self.chosen,
            "validation": dict(self.validation),
            "comparison": self.comparison.as_dict(),
            "model": None if self.model is None else str(self.model),
            "told": self.conditions.facts(),
            "sizes": self.sizes.model_dump(),
            "minutes": dict(self.minutes),
        }


def adapt(
    scan: Scan, settings: AdaptSettings, *, base: Instrument | None = None, progress: Progress | None = None
) -> AdaptReport:
    """Adapt a network to an unlabelled scan where that improves it; the same call resumes an interrupted one.

    Parameters
    ----------
    scan : Scan
        With or without an energy axis.
    settings : AdaptSettings
        Network, folder, ways of adapting.
    base : Instrument or None
        The instrument as far as it is known without the scan. None: properties that the scan does not determine are
        drawn from those of all scanners.
    progress : callable or None
        Called with (what is being done, done, in all).

    Returns
    -------
    AdaptReport
        ``settings.out`` receives the fitted instrument, ``report.json``, and the adapted model with its card where it
        beats the given one.

    Raises
    ------
    CalibrationError
        The scan does not determine its energy axis.
    CoverageError
        It does not cover the energies that the network needs.
    TrainingError
        The network cannot be trained further, the scan holds no counts, or the folder is that of another adaptation.
    """
    show, watch = progress or no_progress, Stopwatch()
    claim_folder(settings.out, notes=(PLAN,))
    show("Fitting the instrument", 0, 1)
    start = load_trainable(settings.model)
    _require_known(settings.palette or (), start.card)
    fit = fit_instrument(scan, base)
    spectra = scan_spectra(fit.scan, start.card, settings.seed)
    watch.lap("fitting")
    machines = fit.machines(settings.n_machine, settings.seed)
    job = settings.library_job(settings.palette or _palette_of(start.card), machines, start.card)
    request = settings.model_dump(mode="json", exclude={"out", "sizes", "workers", "threads", "ways"})
    request["instrument"] = fit.instrument.model_dump(mode="json")
    sizes = plan_sizes(settings, request, job, start, show)
    save_instrument(fit.instrument, settings.out / "instrument.toml")
    libraries = _libraries(job, fit, sizes, settings, show)
    watch.lap("simulation")
    candidates = _candidates(start, spectra, libraries, fit, settings, sizes, show)
    watch.lap("adapting")
    show("Scoring", 0, 1)
    report = _report(start, candidates, spectra, libraries, fit, settings, sizes)
    watch.lap("scoring")
    return _write(replace(report, minutes=watch.minutes), settings)


@dataclass(frozen=True)
class Fit:
    """The instrument of a scan, as far as the scan determines it.

    Parameters
    ----------
    scan : Scan
        With the fitted energy axis.
    instrument : Instrument
        With the fitted values, and usual values elsewhere.
    calibration : Calibration
        Fitted values.
    base : Instrument or None
        The instrument as far as it was known without the scan.
    """

    scan: Scan
    instrument: Instrument
    calibration: Calibration
    base: Instrument | None

    def known(self) -> InstrumentConditions:
        """Return the instrument conditions for a network of layers."""
        return self._knowledge().known()

    def _knowledge(self, usual: Instrument | None = None) -> Knowledge:
        return merge_knowledge(
            self.scan, user_instrument=self.base, calibration=self.calibration, usual=usual, measured_axis=True
        )

    def machines(self, n: int, seed: int) -> tuple[Instrument, ...]:
        """Draw instruments with which the scan may have been recorded."""
        rng = np.random.default_rng((seed, 78))
        if self.base is not None:
            return tuple(perturbed(self.instrument, rng) for _ in range(n))
        return tuple(self._any(rng) for _ in range(n))

    def _any(self, rng: np.random.Generator) -> Instrument:
        """Return an instrument with the fitted values, and the rest drawn from scanners in use."""
        instrument = random_instrument(rng)
        drawn = instrument.detector.model_copy(update={"tail_fraction": log_uniform(rng, *_TAIL)})
        air = instrument.geometry.model_copy(update={"detector_air_cm": log_uniform(rng, *_DETECTOR_AIR_CM)})
        return self._knowledge(instrument.model_copy(update={"detector": drawn, "geometry": air})).instrument


def fit_instrument(scan: Scan, base: Instrument | None = None) -> Fit:
    """Fit the instrument of a scan: axis, resolution, and where the spectrum has them anode, voltage and angle.

    Raises
    ------
    CalibrationError
        The scan does not tell its energy axis.
    """
    calibration = calibrate(scan, instrument=base, tube=True)
    return Fit(with_calibration(scan, calibration), calibrated_instrument(scan, calibration, base), calibration, base)


def scan_spectra(scan: Scan, card: ModelCard, seed: int) -> Library:
    """Return some of a scan's spectra on a network's axis; their labels are unknown and must not be used.

    Raises
    ------
    TrainingError
        No pixel holds counts.
    CoverageError
        The scan does not cover the energies that the network needs.
    """
    counts = np.concatenate([_valid_counts(scan, rows) for rows in scan.row_blocks()])
    rng = np.random.default_rng((seed, 79))
    chosen = np.sort(rng.permutation(len(counts))[:_SCAN_SPECTRA])
    library = labelled_spectra(counts[chosen], scan.require_axis(), [()] * chosen.size, card)
    has_counts = library.spectra.sum(axis=1) > 0
    if not has_counts.any():
        raise TrainingError(f"Cannot adapt to scan {scan.name!r}: no pixel holds counts on the network's energies.")
    return library.rows(has_counts)


def _valid_counts(scan: Scan, rows: slice) -> NDArray[Any]:
    counts = np.asarray(scan.counts[rows].compute())
    present = np.ones(counts.shape[:2], bool) if scan.present is None else scan.present[rows]
    return np.asarray(counts[present & valid_spectra(counts)])


@dataclass(frozen=True)
class _Libraries:
    """Simulated spectra: training set and test set of the fitted instrument; spectra of any instrument."""

    training: Library
    proof: Library
    usual: Library


def _palette_of(card: ModelCard) -> tuple[str, ...]:
    """Return the pigments that a network answers, and usual ones without visible lines."""
    known = [split_place(name)[0] for name, kind in zip(card.names, card.kinds, strict=True) if kind == "member"]
    blind = [name for name in load_palette().pigments if not outputs_for([name]).names]
    return tuple(dict.fromkeys((*known, *blind)))


def _libraries(job: LibrarySettings, fit: Fit, sizes: Sizes, settings: AdaptSettings, show: Progress) -> _Libraries:
    seed = settings.seed + HELD_OUT_SEED
    fresh = {"instrument": fit.machines(settings.n_machine, seed), "seed": seed}
    usual = {"instrument": None, "seed": seed, "renders": 1, "n_stratigraphies": min(_USUAL, sizes.n_stratigraphies)}
    jobs = {
        "training": job.model_copy(update={"n_stratigraphies": sizes.n_stratigraphies}),
        "proof": job.model_copy(update={"n_stratigraphies": sizes.n_held_out, **fresh}),
        "usual": job.model_copy(update=usual),
    }
    made = {
        name: simulate_or_read(library_job, settings.out / f"{name}.h5", settings.workers, show)
        for name, library_job in jobs.items()
    }
    return _Libraries(**made)


def _require_known(palette: tuple[str, ...], card: ModelCard) -> None:
    unknown = [name for name in outputs_for(palette).names if name not in card.names]
    if unknown:
        raise TrainingError(
            f"Cannot adapt {card.name!r} to a palette with {', '.join(unknown[:4])}: it does not know them. "
            "Train a model for the palette: `underpaint train --instrument ... --palette ...`."
        )


def _train_settings(settings: AdaptSettings, sizes: Sizes, card: ModelCard, spectra: Library) -> TrainSettings:
    low, high = np.clip(np.quantile(spectra.spectra.sum(axis=1), _COUNT_QUANTILES), *_COUNTS)
    # whole counts: a resumed call compares the settings of the folder
    range_ = {"counts_min": float(np.floor(low)), "counts_max": float(np.ceil(high))}
    return settings.training(f"{card.name}_adapted", "tuning", card, sizes, learning_rate=_RATE, **range_)


def _candidates(
    start: Trained,
    spectra: Library,
    libraries: _Libraries,
    fit: Fit,
    settings: AdaptSettings,
    sizes: Sizes,
    show: Progress,
) -> dict[str, Trained]:
    train_settings = _train_settings(settings, sizes, start.card, spectra)
    conditions = _conditions_of(start, fit)
    of_scan = _batches(spectra, train_settings, conditions)
    candidates: dict[str, Trained] = {}
    if "told" in settings.ways and conditions is not None:
        candidates["told"] = start
    if "aligned" in settings.ways:
        show("Aligning", 0, 1)
        network = align(start.network, _batches(libraries.usual, train_settings, None), of_scan)
        candidates["aligned"] = Trained(network, start.card)
    if {"tuned", "tuned_aligned"} & set(settings.ways):
        tuned = _fine_tune(start, libraries.training, train_settings, show)
        candidates |= {"tuned": tuned} if "tuned" in settings.ways else {}
    if "tuned_aligned" in settings.ways:
        network = align(tuned.network, _batches(libraries.training, train_settings, conditions), of_scan)
        candidates["tuned_aligned"] = Trained(network, tuned.card)
    return candidates


def _conditions_of(start: Trained, fit: Fit) -> NDArray[np.float32] | None:
    return fit.known().inputs(start.card.instrument_inputs) if start.card.instrument_inputs else None


def _batches(library: Library, settings: TrainSettings, conditions: NDArray[np.float32] | None) -> list[Batch]:
    """Return a draw of some of a library's spectra, all with the same instrument conditions."""
    rows = np.arange(len(library))[-_SCAN_SPECTRA:]
    bare = replace(library, quantities=None, quantity_names=())
    n_input = 0 if conditions is None else conditions.size
    batches = []
    for batch in Batches(bare, rows, settings, shuffle=False):
        width = max(n_input, batch.instrument.shape[1])
        blank = batch._replace(instrument=batch.instrument.new_zeros((len(batch.counts), width)))
        batches.append(blank._replace(instrument=instrument_of(blank, conditions)))
    return batches


def _fine_tune(start: Trained, library: Library, settings: TrainSettings, show: Progress) -> Trained:
    data = _on_card(library, start.card)
    split = split_by_source(data.source, seed=settings.seed, validation_share=0.1, test_share=0)
    lightning.seed_everything(settings.seed, verbose=False)
    card = start.card.model_copy(update={"name": settings.name})
    return run(deepcopy(start.network), card, data, split, settings, progress=show).trained


def _on_card(library: Library, card: ModelCard) -> Library:
    """Return the library with all names of a network; those that it lacks are unknown."""
    wide = replace(
        library.with_names(card.names),
        kinds=card.kinds,
        groups=card.groups,
        labels_for_people=card.labels,
        elements=card.elements,
    )
    if wide.quantities is None:
        return wide
    quantities = np.full((len(wide), len(card.quantities)), np.nan, dtype=np.float32)
    quantities[:, [card.quantities.index(name) for name in wide.quantity_names]] = wide.quantities
    return replace(wide, quantities=quantities, quantity_names=card.quantities)


def _report(
    start: Trained,
    candidates: dict[str, Trained],
    spectra: Library,
    libraries: _Libraries,
    fit: Fit,
    settings: AdaptSettings,
    sizes: Sizes,
) -> AdaptReport:
    train_settings = _train_settings(settings, sizes, start.card, spectra)
    conditions = _conditions_of(start, fit)
    split = split_by_source(libraries.training.source, seed=settings.seed, validation_share=0.1, test_share=0)
    choice = libraries.training.rows(split.validation)
    losses = {"given": answers_of(start.network, start.card.names, choice, train_settings).loss()}
    for way, each in candidates.items():
        losses[way] = answers_of(each.network, each.card.names, choice, train_settings, conditions).loss()
    chosen = min(losses, key=lambda way: losses[way])
    winner, its_conditions = (start, None) if chosen == "given" else (candidates[chosen], conditions)
    before = _of_groups(answers_of(start.network, start.card.names, libraries.proof, train_settings), start.card)
    after = _of_groups(
        answers_of(winner.network, winner.card.names, libraries.proof, train_settings, its_conditions), start.card
    )
    comparison = compare(before, after, seed=settings.seed)
    return AdaptReport(start, candidates, fit.known(), fit.instrument, fit.calibration, losses, chosen, comparison,
                       None, sizes, {})  # fmt: skip


def _of_groups(answers: Answers, card: ModelCard) -> Answers:
    kinds = dict(zip(card.names, card.kinds, strict=True))
    return answers.only([name for name in answers.names if kinds[name] == "group"])


def _write(report: AdaptReport, settings: AdaptSettings) -> AdaptReport:
    if report.accepted and report.chosen != "told":
        winner = report.candidates[report.chosen]
        path = export(winner.network, _card(report, winner, settings), settings.out)
        report = replace(report, model=path)
    write_json(settings.out / REPORT, report.as_dict())
    return report


def _card(report: AdaptReport, winner: Trained, settings: AdaptSettings) -> ModelCard:
    name = f"{report.given.card.name}_adapted"
    limit = (
        f"Adapted from {report.given.card.name!r} to one scan's instrument ({report.instrument.note or 'as fitted'}) "
        "without labels. The figures of its card are of simulated spectra of that instrument."
    )
    figures = {key: value for key, value in report.as_dict().items() if key not in {"model", "minutes"}}
    training = winner.card.training.model_copy(
        update={"config": {"adapted_from": report.given.card.training.model_dump(mode="json"), "seed": settings.seed}}
    )
    update = {"name": name, "limits": (limit, *report.given.card.limits), "training": training}
    return winner.card.model_copy(update={**update, "figures": {**winner.card.figures, "adapted": figures}})
