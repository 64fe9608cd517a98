"""Training of a model for one instrument and one palette, starting from a shipped network."""

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
from underpaint.lab.training.batches import Batch, draw_poisson
from underpaint.lab.training.calibration import calibrate_outputs
from underpaint.lab.training.checkpoint import TrainedNetwork, card_for, load_trainable, spec_for
from underpaint.lab.training.exporting import example_inputs, export
from underpaint.lab.training.library import Library, load_library
from underpaint.lab.training.loop import run_training
from underpaint.lab.training.metrics import scores_by_name
from underpaint.lab.training.module import batch_loss
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
from underpaint.simulate.randomise import perturb_instrument

_N_MOMENT = 2
_CALIBRATION_PREFIX = "calibration."
"""Prefix of calibration weights, which depend on the outputs of their network and are not transferred."""


@dataclass(frozen=True)
class TransferredNetwork:
    """New network with weights transferred from another network.

    Parameters
    ----------
    network : Module
        The new network.
    transferred_names : tuple of str
        Outputs whose weights are from the other network.
    new_names : tuple of str
        Outputs that the other network lacks, and whose weights are initial values.
    """

    network: nn.Module
    transferred_names: tuple[str, ...]
    new_names: tuple[str, ...]


def transfer_weights(start_model: TrainedNetwork, model_card: ModelCard) -> TransferredNetwork:
    """Build the network of a model card, and copy the weights of a trained network by output name.

    Parameters
    ----------
    start_model : TrainedNetwork
        Network with the initial weights. It is not changed.
    model_card : ModelCard
        Model card of the new network, with the same kind, axis and inputs as the trained network.

    Raises
    ------
    TrainingError
        The kinds, axes or inputs of the two networks differ.
    """
    _require_same_inputs(start_model.card, model_card)
    network = build_network(replace(spec_for(model_card), folded=is_folded(start_model.network)))
    new_rows, start_rows = _output_rows(model_card), _output_rows(start_model.card)
    start_state, new_state = start_model.network.state_dict(), network.state_dict()
    for weight_name, weight in new_state.items():
        if (output_layer := _output_layer_of(weight_name, new_rows)) is not None:
            new_state[weight_name] = _transferred_rows(
                weight, start_state[weight_name], new_rows[output_layer], start_rows[output_layer]
            )
        elif (
            not weight_name.startswith(_CALIBRATION_PREFIX)
            and weight_name in start_state
            and start_state[weight_name].shape == weight.shape
        ):
            new_state[weight_name] = start_state[weight_name].clone()
    network.load_state_dict(new_state)
    new_names = tuple(name for name in model_card.names if name not in start_model.card.names)
    return TransferredNetwork(
        network.eval(), tuple(name for name in model_card.names if name not in new_names), new_names
    )


def _require_same_inputs(start_card: ModelCard, new_card: ModelCard) -> None:
    differing_fields = [
        name
        for name in ("kind", "axis", "instrument_inputs", "families", "amount_edges")
        if getattr(start_card, name) != getattr(new_card, name)
    ]
    if differing_fields:
        raise TrainingError(
            f"Cannot start from {start_card.name!r}: its {', '.join(differing_fields)} differ from those of the model "
            "to train. Start from another model, or from the shipped default."
        )


def _output_rows(model_card: ModelCard) -> dict[str, tuple[str, ...]]:
    """Return the output name of each row of weights, for each layer with one row per output."""
    if model_card.kind == "default":
        return {"dense": model_card.names, "linear": model_card.names}
    if model_card.kind == "layers_composition":
        return {"quantity": model_card.quantities * _N_MOMENT}
    return {
        "presence.dense": model_card.names,
        "linear": model_card.names,
        "quantity": _N_MOMENT * model_card.quantities,
        "amount": tuple(name for name in model_card.amounts for _ in model_card.amount_edges),
    }


def _output_layer_of(weight_name: str, names_by_layer: dict[str, tuple[str, ...]]) -> str | None:
    return next(
        (
            output_layer
            for output_layer in names_by_layer
            if weight_name in {f"{output_layer}.weight", f"{output_layer}.bias"}
        ),
        None,
    )


def _transferred_rows(
    new_weights: Tensor, start_weights: Tensor, new_names: tuple[str, ...], start_names: tuple[str, ...]
) -> Tensor:
    """Return the new weights, with rows of the start model by name. Rows of repeated names keep their order."""
    result_weights, row_by_name = (
        new_weights.clone(),
        {name: row_index for row_index, name in _numbered_rows(start_names)},
    )
    for row_index, name in _numbered_rows(new_names):
        if name in row_by_name:
            result_weights[row_index] = start_weights[row_by_name[name]]
    return torch.as_tensor(result_weights)


def _numbered_rows(names: tuple[str, ...]) -> list[tuple[int, tuple[str, int]]]:
    return [(row_index, (name, names[:row_index].count(name))) for row_index, name in enumerate(names)]


SCORED_COUNTS = (1e4, 1e5)
"""Total counts of the held-out spectra that are scored."""
N_SPECTRA_PER_STRATIGRAPHY = 2
CHUNK_SIZE = 64
PLAN_NAME, REPORT_NAME = "plan.json", "report.json"
_SIMULATION_TIME_FRACTION, _TRAINING_TIME_FRACTION = 0.5, 0.3
_STRATIGRAPHY_LIMITS, _EPOCH_LIMITS = (512, 60_000), (4, 30)
_HELD_OUT_FRACTION, _HELD_OUT_LIMITS = 0.05, (256, 2000)
_VALIDATION_FRACTION = 0.1
_N_TIMED_STEP = 3
_MAX_BATCH, _MIN_BATCH, _STEPS_PER_EPOCH = 256, 32, 32
HELD_OUT_SEED = 1_000_003
"""Number added to the seed for held-out spectra."""


class Sizes(BaseModel):
    """Sizes of simulation and training.

    Parameters
    ----------
    n_stratigraphies, n_held_out : int
        Numbers of stratigraphies for training and for the test set. Each stratigraphy has two spectra.
    epochs : int
        Number of epochs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    n_stratigraphies: int = Field(ge=16)
    n_held_out: int = Field(ge=8)
    epochs: int = Field(ge=1)

    @property
    def batch(self) -> int:
        """Batch size, which is smaller for small training sets, so that an epoch has enough steps."""
        return _round_and_clamp(
            (_MIN_BATCH, _MAX_BATCH), N_SPECTRA_PER_STRATIGRAPHY * self.n_stratigraphies / _STEPS_PER_EPOCH
        )


class InstrumentSettings(BaseModel):
    """Settings that training and adaptation for one instrument share. Both use simulated spectra.

    Parameters
    ----------
    out : Path
        Folder for the model and its report.
    minutes : float
        Time for simulation and training. The measured speed of this machine converts the time to ``sizes``.
    sizes : Sizes or None
        Sizes of simulation and training, or None to derive them from ``minutes``.
    n_machine : int
        Number of simulated instruments with slightly different angles, air paths and responses.
        The variation makes the model robust to errors of these values.
    workers, threads : int or None
        Number of simulation processes and of training threads, or None for one per core.
    seed : int
        Seed of stratigraphies, instruments, noise and the order of spectra.
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
        self, palette: tuple[str, ...], instruments: tuple[Instrument, ...], model_card: ModelCard
    ) -> LibrarySettings:
        """Return the settings of the simulation, without its number of stratigraphies."""
        return LibrarySettings(
            palette=palette,
            instrument=instruments,
            renders=N_SPECTRA_PER_STRATIGRAPHY,
            chunk=CHUNK_SIZE,
            places=bool(model_card.instrument_inputs),
            gapless=bool(model_card.amounts),
            varied=bool(model_card.amounts),
            seed=self.seed,
        )

    def training(
        self, name: str, folder: str, model_card: ModelCard, sizes: Sizes, **other_settings: Any
    ) -> TrainSettings:
        """Return the settings for training a network on ``training.h5``, with output in a folder inside ``out``."""
        return TrainSettings(
            library=(self.out / "training.h5",),
            out=self.out / folder,
            name=name,
            kind=model_card.kind,
            present="lines" if model_card.amounts else "pigment",
            epochs=sizes.epochs,
            batch=sizes.batch,
            patience=sizes.epochs,
            seed=self.seed,
            threads=self.threads,
            precision="32",
            progress=False,
            **other_settings,
        )


class InstrumentModelSettings(InstrumentSettings):
    """Settings of a model for one instrument and palette.

    Parameters
    ----------
    instrument : Instrument
        Instrument, for example from a preset or from ``underpaint calibrate``.
    palette : tuple of str
        Pigments that may be present.
    name : str
        Name of the model.
    start : str
        Start model: name of a shipped model, or path of an ``.onnx`` or ``.ckpt`` file.
    """

    instrument: Instrument
    palette: tuple[str, ...] = Field(min_length=1)
    name: str = "own"
    start: str = "default"


@dataclass(frozen=True)
class InstrumentModelReport:
    """New model for one instrument and palette, its scores, and the scores of its start model.

    Parameters
    ----------
    trained_model : TrainedNetwork
        The network with its model card.
    model : Path
        ONNX file.
    sizes : Sizes
        Sizes of simulation and training.
    transferred_network : TransferredNetwork
        The network before training, with the names of transferred outputs.
    minutes : mapping of str to float
        Duration of each step of this call, in minutes.
    comparisons : mapping of str to Comparison
        Scores of the start model ("before") and the new model on the same held-out spectra.
        Keys are, for example, "groups at 1e+05" for groups at 1e5 counts. Only outputs that both models have are
        scored.
    f1_of_new_names : mapping of str to float
        F1 of outputs that the start model lacks, at the highest of the scored total counts.
    """

    trained_model: TrainedNetwork
    model: Path
    sizes: Sizes
    transferred_network: TransferredNetwork
    minutes: Mapping[str, float]
    comparisons: Mapping[str, Comparison]
    f1_of_new_names: Mapping[str, float]

    def as_dict(self) -> dict[str, Any]:
        """Return the scores and settings for JSON."""
        return {
            "model": str(self.model),
            "sizes": self.sizes.model_dump(),
            "taken_over": list(self.transferred_network.transferred_names),
            "fresh": list(self.transferred_network.new_names),
            "minutes": dict(self.minutes),
            "against_start": {name: comparison.as_dict() for name, comparison in self.comparisons.items()},
            "fresh_f1": dict(self.f1_of_new_names),
        }


def train_instrument_model(
    settings: InstrumentModelSettings, progress: Progress | None = None
) -> InstrumentModelReport:
    """Train a model for one instrument and palette. The same call resumes an interrupted run.

    Parameters
    ----------
    settings : InstrumentModelSettings
        Instrument, palette, folder and time.
    progress : callable or None
        Called with (description, number of steps done, total number of steps).

    Returns
    -------
    InstrumentModelReport
        The model, which is exported to ``settings.out``, and its scores, which its model card also contains.

    Raises
    ------
    TrainingError
        The folder contains a model with other settings, or no pigment of the palette has visible lines.
        The error is also raised if the start model cannot be trained further.
    """
    _require_visible_lines(settings.palette)
    show_progress = progress or no_progress
    stopwatch = Stopwatch()
    show_progress("Opening the network", 0, 1)
    start_model = load_trainable(settings.start)
    fixed_settings = settings.model_dump(mode="json", exclude={"out", "sizes", "workers", "threads"})
    sizes = plan_sizes(
        settings, fixed_settings, _library_settings(settings, start_model.card), start_model, show_progress
    )
    stopwatch.end_step("planning")
    library, held_out_library = (
        simulate_or_read(library_settings, path, settings.workers, show_progress)
        for library_settings, path in _training_and_test_settings(settings, sizes, start_model)
    )
    stopwatch.end_step("simulation")
    train_settings = settings.training(settings.name, "training", start_model.card, sizes)
    split = split_by_source(library.source, seed=settings.seed, validation_share=_VALIDATION_FRACTION, test_share=0)
    model_card = _instrument_card(library, train_settings, split.train.size, settings)
    transferred_network = transfer_weights(start_model, model_card)
    lightning.seed_everything(settings.seed, verbose=False)
    trained_model = run_training(
        transferred_network.network, model_card, library, split, train_settings, progress=show_progress
    ).trained_model
    trained_model = calibrate_outputs(trained_model, library, split.validation, train_settings)
    stopwatch.end_step("training")
    show_progress("Scoring", 0, 1)
    conditions = instrument_inputs(settings.instrument) if start_model.card.instrument_inputs else None
    comparisons = _compare_with_start(start_model, trained_model, held_out_library, train_settings, conditions)
    f1_of_new_names = _f1_of_new_names(
        trained_model, transferred_network.new_names, held_out_library, train_settings, conditions
    )
    stopwatch.end_step("scoring")
    report = InstrumentModelReport(
        trained_model, Path(), sizes, transferred_network, stopwatch.minutes, comparisons, f1_of_new_names
    )
    return _write_report(report, settings)


def _require_visible_lines(palette: tuple[str, ...]) -> None:
    if not outputs_for(palette).names:
        raise TrainingError(
            f"Cannot train for the palette {', '.join(palette)}: XRF can detect none of these pigments. "
            "Add some that it can detect (`underpaint pigments list`)."
        )


def _write_report(report: InstrumentModelReport, settings: InstrumentModelSettings) -> InstrumentModelReport:
    report_values = {score_name: score for score_name, score in report.as_dict().items() if score_name != "model"}
    model_card = report.trained_model.card
    model_card = model_card.model_copy(
        update={"figures": {**model_card.figures, "own_model": {"start": settings.start, **report_values}}}
    )
    model_path = export(report.trained_model.network, model_card, settings.out)
    report = replace(report, trained_model=TrainedNetwork(report.trained_model.network, model_card), model=model_path)
    write_json(settings.out / REPORT_NAME, report.as_dict())
    return report


class Stopwatch:
    """Stopwatch for the durations of the steps of a call, in minutes."""

    def __init__(self) -> None:
        self.minutes: dict[str, float] = {}
        self._last = time.perf_counter()

    def end_step(self, step_name: str) -> None:
        """Store the time since the end of the previous step as the duration of the named step."""
        time_now = time.perf_counter()
        self.minutes[step_name], self._last = (time_now - self._last) / 60.0, time_now


def similar_instruments(instrument: Instrument, n_instrument: int, seed: int) -> tuple[Instrument, ...]:
    """Draw ``n_instrument`` instruments with slightly different angles, air paths, windows and responses."""
    rng = np.random.default_rng((seed, 77))
    return tuple(perturb_instrument(instrument, rng) for _ in range(n_instrument))


def simulate_or_read(
    simulation_settings: LibrarySettings, path: Path, workers: int | None, show_progress: Progress
) -> Library:
    """Return a simulated library in memory, from the file of an earlier call if there is one.

    Libraries with ``gapless=True`` are for networks that predict amounts. In libraries with ``gapless=True``, groups
    are present where their lines are visible.
    """
    if not is_finished(path, with_file_contents(simulation_settings).model_dump(mode="json")):
        simulate_library(simulation_settings, path, workers=workers, progress=show_progress)
    return load_library(path, half_precision=True, lines=simulation_settings.gapless)


def measure_sizes(
    simulation_settings: LibrarySettings, start_model: TrainedNetwork, minutes: float, workers: int, threads: int | None
) -> Sizes:
    """Measure the speed of this machine, and return sizes of simulation and training that take the given time.

    Parameters
    ----------
    simulation_settings : LibrarySettings
        Settings of the simulation, whose number of stratigraphies is not used.
    start_model : TrainedNetwork
        Network to train. It is not changed.
    minutes : float
        Total time for simulation and training.
    workers, threads : int or None
        Number of simulation processes and of training threads.
    """
    stratigraphies_per_s, spectra_per_s = (
        _simulation_rate(simulation_settings) * workers,
        _training_rate(start_model, threads),
    )
    n_stratigraphies = _round_and_clamp(
        _STRATIGRAPHY_LIMITS, 60.0 * minutes * _SIMULATION_TIME_FRACTION * stratigraphies_per_s
    )
    epochs = _round_and_clamp(
        _EPOCH_LIMITS,
        60.0 * minutes * _TRAINING_TIME_FRACTION * spectra_per_s / (N_SPECTRA_PER_STRATIGRAPHY * n_stratigraphies),
    )
    return Sizes(
        n_stratigraphies=n_stratigraphies,
        n_held_out=_round_and_clamp(_HELD_OUT_LIMITS, _HELD_OUT_FRACTION * n_stratigraphies),
        epochs=epochs,
    )


def _simulation_rate(simulation_settings: LibrarySettings) -> float:
    """Return the number of stratigraphies that one process simulates per second."""
    small_simulation = simulation_settings.model_copy(update={"n_stratigraphies": 2 * CHUNK_SIZE, "chunk": CHUNK_SIZE})
    make_chunk(small_simulation, 0)  # the first call also reads tables
    start_time = time.perf_counter()
    make_chunk(small_simulation, 1)
    return CHUNK_SIZE / (time.perf_counter() - start_time)


def _training_rate(start_model: TrainedNetwork, threads: int | None) -> float:
    """Return the number of training spectra per second, including the time to draw their noise."""
    network, batch, rng = deepcopy(start_model.network).train(), _example_batch(start_model), np.random.default_rng(0)
    previous_n_thread = torch.get_num_threads()
    torch.set_num_threads(threads or previous_n_thread)
    try:
        for step_number in range(1 + _N_TIMED_STEP):
            if step_number == 1:
                start_time = time.perf_counter()
            noisy_batch = batch._replace(counts=torch.from_numpy(draw_poisson(batch.counts.numpy(), rng)))
            batch_loss(network, noisy_batch).backward()  # type: ignore[no-untyped-call]
        return _N_TIMED_STEP * len(batch.counts) / (time.perf_counter() - start_time)
    finally:
        torch.set_num_threads(previous_n_thread)


def _example_batch(start_model: TrainedNetwork) -> Batch:
    counts, recorded_kev, *instrument_input = example_inputs(start_model.network, start_model.card, _MAX_BATCH)
    labels = torch.zeros((_MAX_BATCH, len(start_model.card.names)))
    instrument = instrument_input[0] if instrument_input else torch.zeros((_MAX_BATCH, 0))
    zero_quantities = torch.zeros((_MAX_BATCH, len(start_model.card.quantities)))
    return Batch(counts, recorded_kev, labels, torch.ones_like(labels), instrument, zero_quantities)


def _round_and_clamp(value_limits: tuple[int, int], unrounded_size: float) -> int:
    return int(min(max(round(unrounded_size), value_limits[0]), value_limits[1]))


def plan_sizes(
    settings: InstrumentSettings,
    fixed_settings: Mapping[str, Any],
    simulation_settings: LibrarySettings,
    start_model: TrainedNetwork,
    show_progress: Progress,
) -> Sizes:
    """Return the sizes of an earlier call, the sizes in the settings, or sizes from a measurement of this machine.

    Parameters
    ----------
    settings : InstrumentSettings
        Folder, time and, optionally, sizes.
    fixed_settings : mapping
        Settings that a later call must share to resume in the folder, as plain values.
    simulation_settings : LibrarySettings
        Settings of the simulation.
    start_model : TrainedNetwork
        Network to train.

    Raises
    ------
    TrainingError
        The folder belongs to a call with other settings.
    """
    given_sizes = None if settings.sizes is None else settings.sizes.model_dump()
    if (settings.out / PLAN_NAME).is_file():
        fixed_settings = {**fixed_settings, **({} if given_sizes is None else {"sizes": given_sizes})}
        return Sizes.model_validate(resume_folder(settings.out, fixed_settings, settings_file=PLAN_NAME)["sizes"])
    claim_folder(settings.out, known_files=(PLAN_NAME,))
    show_progress("Measuring this machine", 0, 1)
    n_worker = settings.workers or os.cpu_count() or 1
    sizes = settings.sizes or measure_sizes(
        simulation_settings, start_model, settings.minutes, n_worker, settings.threads
    )
    resume_folder(settings.out, {**fixed_settings, "sizes": sizes.model_dump()}, settings_file=PLAN_NAME)
    return sizes


def _library_settings(settings: InstrumentModelSettings, model_card: ModelCard) -> LibrarySettings:
    instruments = similar_instruments(settings.instrument, settings.n_machine, settings.seed)
    return settings.library_job(settings.palette, instruments, model_card)


def _training_and_test_settings(
    settings: InstrumentModelSettings, sizes: Sizes, start_model: TrainedNetwork
) -> list[tuple[LibrarySettings, Path]]:
    """Return the simulations of training and test set, which have different paintings and instruments."""
    simulation_settings, seed = _library_settings(settings, start_model.card), settings.seed + HELD_OUT_SEED
    held_out_settings = {"instrument": similar_instruments(settings.instrument, settings.n_machine, seed), "seed": seed}
    return [
        (
            simulation_settings.model_copy(update={"n_stratigraphies": sizes.n_stratigraphies}),
            settings.out / "training.h5",
        ),
        (
            simulation_settings.model_copy(update={"n_stratigraphies": sizes.n_held_out, **held_out_settings}),
            settings.out / "held_out.h5",
        ),
    ]


def _instrument_card(
    library: Library, train_settings: TrainSettings, n_train: int, settings: InstrumentModelSettings
) -> ModelCard:
    model_card = card_for(library, train_settings, n_train)
    limit_sentence = (
        f"Trained only for the instrument {settings.instrument.name!r} and a palette of {len(settings.palette)} "
        "pigments."
    )
    instrument_and_palette = {
        "instrument": settings.instrument.model_dump(mode="json"),
        "palette": list(settings.palette),
    }
    training = model_card.training.model_copy(
        update={"config": {**model_card.training.config, **instrument_and_palette}}
    )
    return model_card.model_copy(update={"limits": (limit_sentence, *model_card.limits), "training": training})


def with_fixed_counts(settings: TrainSettings, counts: float) -> TrainSettings:
    """Return settings with fixed total counts per spectrum."""
    return settings.model_copy(update={"counts_min": counts, "counts_max": counts})


def _compare_with_start(
    start_model: TrainedNetwork,
    trained_model: TrainedNetwork,
    held_out_library: Library,
    settings: TrainSettings,
    conditions: NDArray[np.float32] | None,
) -> dict[str, Comparison]:
    comparisons = {}
    for counts in SCORED_COUNTS:
        count_settings = with_fixed_counts(settings, counts)
        common_library = held_out_library.select_output_names(
            [name for name in held_out_library.names if name in start_model.card.names]
        )
        answers_before, answers_after = (
            answers_of(model.network, model.card.names, common_library, count_settings, conditions)
            for model in (start_model, trained_model)
        )
        for kind_label, scored_kind in (("groups", "group"), ("pigments", "member")):
            names = [
                name
                for name, output_kind in zip(common_library.names, common_library.kinds, strict=True)
                if output_kind == scored_kind
            ]
            if names and (answers_before.select_output_names(names).labels > 0.5).any():
                comparisons[f"{kind_label} at {counts:.0e}"] = compare(
                    answers_before.select_output_names(names),
                    answers_after.select_output_names(names),
                    seed=settings.seed,
                )
    return comparisons


def _f1_of_new_names(
    trained_model: TrainedNetwork,
    new_names: Sequence[str],
    held_out_library: Library,
    settings: TrainSettings,
    conditions: NDArray[np.float32] | None,
) -> dict[str, float]:
    if not new_names:
        return {}
    answers = answers_of(
        trained_model.network,
        trained_model.card.names,
        held_out_library,
        with_fixed_counts(settings, SCORED_COUNTS[-1]),
        conditions,
    ).select_output_names(new_names)
    score_rows = scores_by_name(answers.names, answers.log_odds, answers.labels, answers.weight)
    return {name_scores.name: name_scores.f1 for name_scores in score_rows if np.isfinite(name_scores.f1)}
