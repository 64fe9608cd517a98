"""A model for one instrument and one palette in minutes: simulate, start from the shipped network, train, score."""

import os
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import lightning.pytorch as lightning
import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from underpaint.errors import TrainingError
from underpaint.lab.networks import build_network, is_folded
from underpaint.lab.training.batches import Batch, poisson
from underpaint.lab.training.calibration import calibrate_rows
from underpaint.lab.training.checkpoint import Trained, card_for, load_trainable, spec_for
from underpaint.lab.training.exporting import example_inputs, export
from underpaint.lab.training.library import Library, load_library
from underpaint.lab.training.loop import run
from underpaint.lab.training.metrics import figures_by_name
from underpaint.lab.training.module import loss_of
from underpaint.lab.training.paired import Comparison, answers_of, compare
from underpaint.lab.training.settings import TrainSettings
from underpaint.lab.training.split import split_by_source
from underpaint.physics.instrument import Instrument
from underpaint.pigments.weights import ModelCard
from underpaint.runtime.files import claim_folder, write_json
from underpaint.runtime.job import resume_folder
from underpaint.runtime.pieces import is_finished
from underpaint.runtime.progress import Progress, no_progress
from underpaint.simulate import LibrarySettings, outputs_for, simulate_library
from underpaint.simulate.instrument_inputs import instrument_inputs
from underpaint.simulate.jobs import with_file_contents
from underpaint.simulate.library import make_chunk
from underpaint.simulate.randomise import perturbed

_MEANS_AND_DEVIATIONS = 2
_NOT_TRANSFERRED = "calibration."
"""Calibration of the other network's answers, not valid for the new ones."""


@dataclass(frozen=True)
class TransferredNetwork:
    """A network with the transferred weights of another one.

    Parameters
    ----------
    network : Module
        Of the new card's names.
    transferred : tuple of str
        Names whose rows of weights are those of the other network.
    fresh : tuple of str
        Names that the other network lacks; their rows are new.
    """

    network: nn.Module
    transferred: tuple[str, ...]
    fresh: tuple[str, ...]


def transfer_weights(start: Trained, card: ModelCard) -> TransferredNetwork:
    """Build the network of a card with the weights of a trained one; rows of the outputs are transferred by name.

    Parameters
    ----------
    start : Trained
        The network to start from; it is not changed.
    card : ModelCard
        Card of the new network, of the same kind, axis and inputs.

    Raises
    ------
    TrainingError
        Kind, axis or inputs differ, or the network computes its answers from the composition of its pigments and has no
        rows.
    """
    _check(start.card, card)
    network = build_network(replace(spec_for(card), folded=is_folded(start.network)))
    rows, known = _rows(card), _rows(start.card)
    old, new = start.network.state_dict(), network.state_dict()
    for key, value in new.items():
        if (part := _part(key, rows)) is not None:
            new[key] = _by_name(value, old[key], rows[part], known[part])
        elif not key.startswith(_NOT_TRANSFERRED) and key in old and old[key].shape == value.shape:
            new[key] = old[key].clone()
    network.load_state_dict(new)
    fresh = tuple(name for name in card.names if name not in start.card.names)
    return TransferredNetwork(network.eval(), tuple(name for name in card.names if name not in fresh), fresh)


def _check(known: ModelCard, requested: ModelCard) -> None:
    differing = [
        name
        for name in ("kind", "axis", "instrument_inputs", "families", "amount_edges")
        if getattr(known, name) != getattr(requested, name)
    ]
    if differing:
        raise TrainingError(
            f"Cannot begin with {known.name!r}: its {', '.join(differing)} differ from what is to be trained. "
            "Begin with another model, or with the shipped default."
        )


def _rows(card: ModelCard) -> dict[str, tuple[str, ...]]:
    """Return the names of the rows of layers with one row per output."""
    if card.kind == "default":
        return {"dense": card.names, "linear": card.names}
    if card.kind == "layers_composition":
        return {"quantity": card.quantities * _MEANS_AND_DEVIATIONS}
    return {
        "presence.dense": card.names,
        "linear": card.names,
        "quantity": _MEANS_AND_DEVIATIONS * card.quantities,
        "amount": tuple(name for name in card.amounts for _ in card.amount_edges),
    }


def _part(key: str, rows: dict[str, tuple[str, ...]]) -> str | None:
    return next((part for part in rows if key in {f"{part}.weight", f"{part}.bias"}), None)


def _by_name(fresh: Tensor, old: Tensor, names: tuple[str, ...], known: tuple[str, ...]) -> Tensor:
    """Return the fresh rows with the known ones filled in by name; repeated names keep their order."""
    filled, places = fresh.clone(), {name: row for row, name in _numbered_rows(known)}
    for row, name in _numbered_rows(names):
        if name in places:
            filled[row] = old[places[name]]
    return torch.as_tensor(filled)


def _numbered_rows(names: tuple[str, ...]) -> list[tuple[int, tuple[str, int]]]:
    return [(row, (name, names[:row].count(name))) for row, name in enumerate(names)]


COUNTS = (1e4, 1e5)
"""Total counts of the held-out spectra that are scored."""
RENDERS = 2
CHUNK = 64
PLAN, REPORT = "plan.json", "report.json"
_SHARE_OF_SIMULATION, _SHARE_OF_TRAINING = 0.5, 0.3
_STRATIGRAPHIES, _EPOCHS = (512, 60_000), (4, 30)
_HELD_OUT_SHARE, _HELD_OUT = 0.05, (256, 2000)
_VALIDATION_SHARE = 0.1
_STEPS_TIMED = 3
_BATCH, _SMALLEST_BATCH, _STEPS_PER_EPOCH = 256, 32, 32
HELD_OUT_SEED = 1_000_003
"""Added to the seed for held-out spectra."""


class Sizes(BaseModel):
    """Sizes of simulation and training.

    Parameters
    ----------
    n_stratigraphies, n_held_out : int
        Stratigraphies to train on, and to score on; each has two spectra.
    epochs : int
        Passes over the training spectra.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_stratigraphies: int = Field(ge=16)
    n_held_out: int = Field(ge=8)
    epochs: int = Field(ge=1)

    @property
    def batch(self) -> int:
        """Spectra per step; smaller for few spectra, so that an epoch has enough steps."""
        return _clamped((_SMALLEST_BATCH, _BATCH), RENDERS * self.n_stratigraphies / _STEPS_PER_EPOCH)


class InstrumentSettings(BaseModel):
    """Settings of any training for one instrument on simulated spectra.

    Parameters
    ----------
    out : Path
        Folder of the model and its report.
    minutes : float
        Time for simulation and training, from which ``sizes`` follow by measuring this machine.
    sizes : Sizes or None
        Given: the machine is not measured.
    n_machine : int
        Number of instruments with slightly different angles, air and response, so that the model does not depend on
        values that are not known well.
    workers, threads : int or None
        Processes that simulate, threads that train; None: one for each core.
    seed : int
        Of stratigraphies, instruments, noise and order.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    out: Path
    minutes: float = Field(10.0, gt=0)
    sizes: Sizes | None = None
    n_machine: int = Field(16, ge=1)
    workers: int | None = Field(None, ge=1)
    threads: int | None = Field(None, ge=1)
    seed: int = Field(0, ge=0)

    def library_job(
        self, palette: tuple[str, ...], machines: tuple[Instrument, ...], card: ModelCard
    ) -> LibrarySettings:
        """Return the settings of the simulation, without its size."""
        return LibrarySettings(
            palette=palette,
            instrument=machines,
            renders=RENDERS,
            chunk=CHUNK,
            places=bool(card.instrument_inputs),
            gapless=bool(card.amounts),
            varied=bool(card.amounts),
            seed=self.seed,
        )

    def training(self, name: str, folder: str, card: ModelCard, sizes: Sizes, **more: Any) -> TrainSettings:
        """Return the settings of training a network of a card's kind on ``training.h5``, in a folder within ``out``."""
        return TrainSettings(
            library=(self.out / "training.h5",),
            out=self.out / folder,
            name=name,
            kind=card.kind,
            present="lines" if card.amounts else "pigment",
            epochs=sizes.epochs,
            batch=sizes.batch,
            patience=sizes.epochs,
            seed=self.seed,
            threads=self.threads,
            precision="32",
            progress=False,
            **more,
        )


class InstrumentModelSettings(InstrumentSettings):
    """A model for one instrument and palette.

    Parameters
    ----------
    instrument : Instrument
        The scanner, as a preset or ``underpaint calibrate`` describes it.
    palette : tuple of str
        Pigments that may be present.
    name : str
        Name of the model.
    start : str
        The network to start from: a shipped name, an ``.onnx`` or a ``.ckpt`` file.
    """

    instrument: Instrument
    palette: tuple[str, ...] = Field(min_length=1)
    name: str = "own"
    start: str = "default"


@dataclass(frozen=True)
class InstrumentModelReport:
    """A new model, with its scores and those of the network that it started from.

    Parameters
    ----------
    trained : Trained
        The network with its card.
    model : Path
        ONNX file.
    sizes : Sizes
        What was simulated and trained.
    begun : TakenOver
        The network before training, with the names of transferred rows.
    minutes : mapping of str to float
        Duration of each part of this call.
    against_start : mapping of str to Comparison
        For groups and pigments at each level of counts ("groups at 1e+05"): the network to start from ("before"), and
        the model, on the same held-out spectra. Only names that both answer.
    fresh_f1 : mapping of str to float
        F1 at the highest counts of the names that the network to start from lacks.
    """

    trained: Trained
    model: Path
    sizes: Sizes
    initial: TransferredNetwork
    minutes: Mapping[str, float]
    against_start: Mapping[str, Comparison]
    fresh_f1: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for JSON."""
        return {
            "model": str(self.model),
            "sizes": self.sizes.model_dump(),
            "taken_over": list(self.initial.transferred),
            "fresh": list(self.initial.fresh),
            "minutes": dict(self.minutes),
            "against_start": {name: each.as_dict() for name, each in self.against_start.items()},
            "fresh_f1": dict(self.fresh_f1),
        }


def train_instrument_model(
    settings: InstrumentModelSettings, progress: Progress | None = None
) -> InstrumentModelReport:
    """Train a model for one instrument and palette; the same call resumes an interrupted one.

    Parameters
    ----------
    settings : InstrumentModelSettings
        Instrument, palette, folder, minutes.
    progress : callable or None
        Called with (what is being done, done, in all).

    Returns
    -------
    InstrumentModelReport
        The model, exported to ``settings.out``, and its figures; they are in its card, too.

    Raises
    ------
    TrainingError
        The folder holds a model of other settings, no pigment of the palette has visible lines, or the network to start
        from cannot be trained further.
    """
    _require_visible(settings.palette)
    show = progress or no_progress
    watch = Stopwatch()
    show("Opening the network", 0, 1)
    start = load_trainable(settings.start)
    request = settings.model_dump(mode="json", exclude={"out", "sizes", "workers", "threads"})
    sizes = plan_sizes(settings, request, _job(settings, start.card), start, show)
    watch.lap("planning")
    library, held_out = (
        simulate_or_read(job, path, settings.workers, show) for job, path in _jobs(settings, sizes, start)
    )
    watch.lap("simulation")
    train_settings = settings.training(settings.name, "training", start.card, sizes)
    split = split_by_source(library.source, seed=settings.seed, validation_share=_VALIDATION_SHARE, test_share=0)
    card = _card(library, train_settings, split.train.size, settings)
    initial = transfer_weights(start, card)
    lightning.seed_everything(settings.seed, verbose=False)
    trained = run(initial.network, card, library, split, train_settings, progress=show).trained
    trained = calibrate_rows(trained, library, split.validation, train_settings)
    watch.lap("training")
    show("Scoring", 0, 1)
    conditions = instrument_inputs(settings.instrument) if start.card.instrument_inputs else None
    against_start = _against_start(start, trained, held_out, train_settings, conditions)
    fresh_f1 = _fresh_f1(trained, initial.fresh, held_out, train_settings, conditions)
    watch.lap("scoring")
    report = InstrumentModelReport(trained, Path(), sizes, initial, watch.minutes, against_start, fresh_f1)
    return _write(report, settings)


def _require_visible(palette: tuple[str, ...]) -> None:
    if not outputs_for(palette).names:
        raise TrainingError(
            f"Cannot train for the palette {', '.join(palette)}: X-rays show none of these pigments. "
            "Add some that they show (`underpaint pigments list`)."
        )


def _write(report: InstrumentModelReport, settings: InstrumentModelSettings) -> InstrumentModelReport:
    figures = {name: value for name, value in report.as_dict().items() if name != "model"}
    card = report.trained.card
    card = card.model_copy(update={"figures": {**card.figures, "own_model": {"start": settings.start, **figures}}})
    path = export(report.trained.network, card, settings.out)
    report = replace(report, trained=Trained(report.trained.network, card), model=path)
    write_json(settings.out / REPORT, report.as_dict())
    return report


class Stopwatch:
    """Duration of the parts of a call."""

    def __init__(self) -> None:
        self.minutes: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """End a part."""
        now = time.perf_counter()
        self.minutes[part], self._last = (now - self._last) / 60.0, now


def machines_like(instrument: Instrument, n: int, seed: int) -> tuple[Instrument, ...]:
    """Draw instruments like a given one, with slightly different angles, air, window and response."""
    rng = np.random.default_rng((seed, 77))
    return tuple(perturbed(instrument, rng) for _ in range(n))


def simulate_or_read(job: LibrarySettings, path: Path, workers: int | None, show: Progress) -> Library:
    """Simulate a library, or read the one of an earlier call, into memory.

    A gapless one is for networks with amounts: groups are present where lines are visible.
    """
    if not is_finished(path, with_file_contents(job).model_dump(mode="json")):
        simulate_library(job, path, workers=workers, progress=show)
    return load_library(path, half=True, lines=job.gapless)


def measured_sizes(job: LibrarySettings, start: Trained, minutes: float, workers: int, threads: int | None) -> Sizes:
    """Choose the sizes of simulation and training within some minutes by measuring this machine.

    Parameters
    ----------
    job : LibrarySettings
        Settings of the simulation, of any size.
    start : Trained
        The network to train; it is not changed.
    minutes : float
        For all.
    workers, threads : int or None
        Processes that simulate, threads that train.
    """
    per_s, spectra_per_s = _simulation_rate(job) * workers, _training_rate(start, threads)
    n = _clamped(_STRATIGRAPHIES, 60.0 * minutes * _SHARE_OF_SIMULATION * per_s)
    epochs = _clamped(_EPOCHS, 60.0 * minutes * _SHARE_OF_TRAINING * spectra_per_s / (RENDERS * n))
    return Sizes(n_stratigraphies=n, n_held_out=_clamped(_HELD_OUT, _HELD_OUT_SHARE * n), epochs=epochs)


def _simulation_rate(job: LibrarySettings) -> float:
    """Return stratigraphies simulated per second by one process."""
    small = job.model_copy(update={"n_stratigraphies": 2 * CHUNK, "chunk": CHUNK})
    make_chunk(small, 0)  # the first call reads the tables
    begin = time.perf_counter()
    make_chunk(small, 1)
    return CHUNK / (time.perf_counter() - begin)


def _training_rate(start: Trained, threads: int | None) -> float:
    """Return spectra drawn and trained on per second."""
    network, batch, rng = deepcopy(start.network).train(), _example_batch(start), np.random.default_rng(0)
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        for step in range(1 + _STEPS_TIMED):
            if step == 1:
                begin = time.perf_counter()
            noisy = batch._replace(counts=torch.from_numpy(poisson(batch.counts.numpy(), rng)))
            loss_of(network, noisy).backward()  # type: ignore[no-untyped-call]
        return _STEPS_TIMED * len(batch.counts) / (time.perf_counter() - begin)
    finally:
        torch.set_num_threads(before)


def _example_batch(start: Trained) -> Batch:
    counts, recorded, *instrument_input = example_inputs(start.network, start.card, _BATCH)
    labels = torch.zeros((_BATCH, len(start.card.names)))
    instrument = instrument_input[0] if instrument_input else torch.zeros((_BATCH, 0))
    quantity = torch.zeros((_BATCH, len(start.card.quantities)))
    return Batch(counts, recorded, labels, torch.ones_like(labels), instrument, quantity)


def _clamped(limits: tuple[int, int], value: float) -> int:
    return int(min(max(round(value), limits[0]), limits[1]))


def plan_sizes(
    settings: InstrumentSettings, request: Mapping[str, Any], job: LibrarySettings, start: Trained, show: Progress
) -> Sizes:
    """Return the sizes for a folder: those of an earlier call, those given, or those measured now.

    Parameters
    ----------
    settings : InstrumentSettings
        Folder, sizes if given, minutes.
    request : mapping
        Settings that a later call must share to resume in the folder; plain values.
    job, start : LibrarySettings, Trained
        Settings of the simulation, and the network to train.

    Raises
    ------
    TrainingError
        The folder belongs to another request.
    """
    given_sizes = None if settings.sizes is None else settings.sizes.model_dump()
    if (settings.out / PLAN).is_file():
        request = {**request, **({} if given_sizes is None else {"sizes": given_sizes})}
        return Sizes.model_validate(resume_folder(settings.out, request, note=PLAN)["sizes"])
    claim_folder(settings.out, notes=(PLAN,))
    show("Measuring this machine", 0, 1)
    workers = settings.workers or os.cpu_count() or 1
    sizes = settings.sizes or measured_sizes(job, start, settings.minutes, workers, settings.threads)
    resume_folder(settings.out, {**request, "sizes": sizes.model_dump()}, note=PLAN)
    return sizes


def _job(settings: InstrumentModelSettings, card: ModelCard) -> LibrarySettings:
    machines = machines_like(settings.instrument, settings.n_machine, settings.seed)
    return settings.library_job(settings.palette, machines, card)


def _jobs(settings: InstrumentModelSettings, sizes: Sizes, start: Trained) -> list[tuple[LibrarySettings, Path]]:
    """Return the simulations of training and test set, with different paintings and instruments."""
    job, seed = _job(settings, start.card), settings.seed + HELD_OUT_SEED
    other = {"instrument": machines_like(settings.instrument, settings.n_machine, seed), "seed": seed}
    return [
        (job.model_copy(update={"n_stratigraphies": sizes.n_stratigraphies}), settings.out / "training.h5"),
        (job.model_copy(update={"n_stratigraphies": sizes.n_held_out, **other}), settings.out / "held_out.h5"),
    ]


def _card(
    library: Library, train_settings: TrainSettings, n_train: int, settings: InstrumentModelSettings
) -> ModelCard:
    card = card_for(library, train_settings, n_train)
    limit = (
        f"Trained for the instrument {settings.instrument.name!r} and {len(settings.palette)} pigments alone: other "
        "scanners and pigments outside the palette were not in its training."
    )
    made_with = {"instrument": settings.instrument.model_dump(mode="json"), "palette": list(settings.palette)}
    training = card.training.model_copy(update={"config": {**card.training.config, **made_with}})
    return card.model_copy(update={"limits": (limit, *card.limits), "training": training})


def at_counts(settings: TrainSettings, counts: float) -> TrainSettings:
    """Return settings with a fixed number of counts per spectrum."""
    return settings.model_copy(update={"counts_min": counts, "counts_max": counts})


def _against_start(
    start: Trained, trained: Trained, held_out: Library, settings: TrainSettings, conditions: NDArray[np.float32] | None
) -> dict[str, Comparison]:
    comparisons = {}
    for counts in COUNTS:
        level = at_counts(settings, counts)
        shared = held_out.only([name for name in held_out.names if name in start.card.names])
        before, after = (
            answers_of(each.network, each.card.names, shared, level, conditions) for each in (start, trained)
        )
        for label, kind in (("groups", "group"), ("pigments", "member")):
            names = [name for name, each in zip(shared.names, shared.kinds, strict=True) if each == kind]
            if names and (before.only(names).labels > 0.5).any():
                comparisons[f"{label} at {counts:.0e}"] = compare(
                    before.only(names), after.only(names), seed=settings.seed
                )
    return comparisons


def _fresh_f1(
    trained: Trained,
    fresh: Sequence[str],
    held_out: Library,
    settings: TrainSettings,
    conditions: NDArray[np.float32] | None,
) -> dict[str, float]:
    if not fresh:
        return {}
    answers = answers_of(
        trained.network, trained.card.names, held_out, at_counts(settings, COUNTS[-1]), conditions
    ).only(fresh)
    figures = figures_by_name(answers.names, answers.log_odds, answers.labels, answers.weight)
    return {each.name: each.f1 for each in figures if np.isfinite(each.f1)}
