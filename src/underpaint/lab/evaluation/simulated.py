"""Held-out instruments and structures, and virtual mock-ups: spectra of no training library, with their labels."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.data import DEFAULT_NETWORK_AXIS, EnergyAxis
from underpaint.data.maps import split_place
from underpaint.lab.evaluation.answering import Spectra, columns_of
from underpaint.lab.evaluation.groups import group_outputs, summarise
from underpaint.lab.evaluation.parts import families, held_out
from underpaint.lab.evaluation.plan import TrustPlan
from underpaint.physics.forward import count, emit, render
from underpaint.physics.instrument import Detector, Filter, Geometry, Instrument, Tube
from underpaint.physics.materials import library, load_palette
from underpaint.pigments.weights import ModelCard
from underpaint.runtime.progress import Progress
from underpaint.simulate import LibrarySettings, simulate_library
from underpaint.simulate.instrument_inputs import conditions_of
from underpaint.simulate.labels import labels_by_lines, labels_shown, materials, pigments_in, present_at
from underpaint.simulate.mockups import Mockups, paint_mockups
from underpaint.simulate.outputs import Outputs

if TYPE_CHECKING:
    from underpaint.lab.training import FinetuneSettings, Library, Trained

PALETTE = "easel_15_to_20"
"""Palette of the simulation where the model answers all of its visible pigments."""
TEST, TUNING, UNSEEN = 0, 1, 2
"""Added to the seed, so that no two sets share a draw."""
FEW_CHUNKS = 8
Answer = Callable[[Spectra], NDArray[np.float32]]
"""Returns (n, n_group) probabilities, NaN for no answer."""
AT_ONCE = 256


@dataclass(frozen=True)
class HeldOut:
    """Simulated spectra with their labels.

    Parameters
    ----------
    expected : (n, n_channel) float32 array
        Sums of one.
    recorded : (n, 2) float32 array
    labels, counts_needed : (n, n_name) arrays
        Presence of each name, and the counts from which it is visible.
    surface_um : (n,) float32 array
        Thickness of the uppermost paint, um; NaN where there is none.
    surface_share : (n, n_material) float32 array
        Of each material in the dry pigments of the uppermost paint, by mass.
    instrument : (n, n_input) float32 array
    names, kinds, materials : tuple of str
    axis : EnergyAxis
    hidden : (n, n_name) float32 array or None
        Counts up to which a name counts as absent for a network whose presence is that of lines; None: no limit.
    """

    expected: NDArray[np.float32]
    recorded: NDArray[np.float32]
    labels: NDArray[np.uint8]
    counts_needed: NDArray[np.float32]
    surface_um: NDArray[np.float32]
    surface_share: NDArray[np.float32]
    instrument: NDArray[np.float32]
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    materials: tuple[str, ...]
    axis: EnergyAxis = DEFAULT_NETWORK_AXIS
    hidden: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of spectra."""
        return len(self.expected)

    @property
    def machine(self) -> NDArray[np.int64]:
        """(n,) index of each spectrum's instrument."""
        return np.asarray(np.unique(self.instrument, axis=0, return_inverse=True)[1].ravel(), dtype=np.int64)

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups, anywhere."""
        named = zip(self.names, self.kinds, strict=True)
        return tuple(name for name, kind in named if kind == "group" and split_place(name)[1] == "anywhere")

    def columns(self, names: tuple[str, ...]) -> list[int]:
        """Return the columns of names in ``labels``."""
        return [self.names.index(name) for name in names]

    def only(self, rows: NDArray[np.integer] | slice) -> "HeldOut":
        """Return some of the spectra."""
        arrays = ("expected", "recorded", "labels", "counts_needed", "surface_um", "surface_share", "instrument")
        hidden = None if self.hidden is None else self.hidden[rows]
        return replace(self, hidden=hidden, **{name: getattr(self, name)[rows] for name in arrays})

    def counted(self, counts: NDArray[np.floating] | float, seed: tuple[int, ...]) -> Spectra:
        """Draw counts, (n,) or one number for all: totals within the recorded range, on average."""
        rng = np.random.default_rng(seed)
        totals = np.broadcast_to(np.asarray(counts, dtype=np.float64), (len(self),))
        drawn = count(self.expected * totals[:, None], rng=rng).astype(np.float32)
        return Spectra(drawn, self.axis, self.recorded, self.instrument)

    def present(self, counts: NDArray[np.floating] | float) -> NDArray[np.bool_]:
        """Return (n, n_name) whether a name counts as present at these counts, visible or not."""
        return present_at(self.labels, self.hidden, self._totals(counts))

    def visible(self, counts: NDArray[np.floating] | float) -> NDArray[np.bool_]:
        """Return (n, n_name) whether a name is present and visible at these counts."""
        return np.asarray(self.present(counts) & (self.counts_needed <= self._totals(counts)))

    def _totals(self, counts: NDArray[np.floating] | float) -> NDArray[np.float64]:
        return np.broadcast_to(np.asarray(counts, dtype=np.float64), (len(self),))[:, None]


def palette_for(card: ModelCard) -> tuple[str, ...]:
    """Return the pigments to simulate: those of easel painting, or a model's own where it answers fewer."""
    easel = tuple(load_palette(PALETTE).pigments)
    visible = {group.name for group in library().groups if group.visible}
    shown = {name for name in easel if visible.intersection(library()[name].groups)}
    known = materials([name for name, kind in zip(card.names, card.kinds, strict=True) if kind == "member"])
    return easel if shown <= set(known) else tuple(known)


def held_out_set(plan: TrustPlan, card: ModelCard, folder: Path, progress: Progress) -> HeldOut:
    """Simulate structures and instruments like those of training with another seed, or read those of an earlier run."""
    return _simulated(plan, card, folder / "held_out.h5", plan.stratigraphies, TEST, None, progress)


def tuning_set(plan: TrustPlan, card: ModelCard, folder: Path, progress: Progress) -> HeldOut:
    """Simulate a second set, on which thresholds may be chosen."""
    return _simulated(plan, card, folder / "tuning.h5", plan.tuning_stratigraphies, TUNING, None, progress)


def unseen_set(plan: TrustPlan, card: ModelCard, folder: Path, name: str, progress: Progress) -> HeldOut:
    """Simulate structures recorded with one of the unseen instruments."""
    out = folder / f"unseen_{name}.h5"
    seed = UNSEEN + list(unseen_instruments()).index(name)
    return _simulated(plan, card, out, plan.unseen_stratigraphies, seed, unseen_instruments()[name], progress)


def unseen_instruments() -> dict[str, Instrument]:
    """Return instruments outside the ranges of training, by the property that is outside."""
    wide = Detector(noise_fwhm_kev=0.16)
    flat = Geometry(incidence_angle_deg=35.0, takeoff_angle_deg=20.0)
    tube = Tube(anode="W", voltage_kv=70.0)
    thick = Filter(formula="Al", density=2.70, thickness_um=1500.0)
    return {
        "chromium_anode": Instrument(name="Cr anode, 35 kV", tube=Tube(anode="Cr", voltage_kv=35.0)),
        "high_voltage": Instrument(name="W anode, 70 kV, 1.5 mm Al", tube=tube, filters=(thick,)),
        "flat_angles": Instrument(name="Rh anode, 40 kV, incidence 35, take-off 20 degree", geometry=flat),
        "poor_resolution": Instrument(name="Mo anode, 40 kV, about 205 eV", tube=Tube(anode="Mo"), detector=wide),
    }


def group_scores(held: HeldOut, answer: Answer, counts: float, seed: int) -> dict[str, Any]:
    """Return the scores of a model's groups at a number of counts, as :func:`summarise` does."""
    columns = held.columns(held.groups)
    probability = answer(held.counted(counts, (seed, round(counts))))
    return summarise(probability, held.present(counts)[:, columns], held.visible(counts)[:, columns], held.groups)


def _simulated(
    plan: TrustPlan,
    card: ModelCard,
    out: Path,
    n: int,
    seed: int,
    instrument: Instrument | None,
    progress: Progress,
) -> HeldOut:
    settings = LibrarySettings(
        n_stratigraphies=n,
        palette=palette_for(card),
        instrument=instrument,
        chunk=plan.per_instrument,
        seed=plan.seed + seed,
        renders=1,
        places=True,
    )
    if out.is_file() and not _is_of(out, settings):
        out.unlink()
    if not out.is_file():
        # processes take longer to begin than a few chunks to simulate
        workers = 1 if n <= FEW_CHUNKS * plan.per_instrument else plan.workers
        simulate_library(settings, out, workers=workers, progress=progress)
    return read_held_out(out, lines=bool(card.amounts))


def _is_of(path: Path, settings: LibrarySettings) -> bool:
    with h5py.File(path, "r") as file:
        return LibrarySettings.model_validate_json(file.attrs["config"]) == settings


def read_held_out(path: Path, *, lines: bool = False) -> HeldOut:
    """Read a library of :func:`underpaint.simulate.simulate_library` that has labels by place.

    With ``lines`` a group is present where the lines of its element show, as networks with amounts are trained.
    """
    arrays = ("expected", "recorded", "labels", "counts_needed", "surface_um", "surface_share", "instrument")
    with h5py.File(path, "r") as file:
        words: dict[str, Any] = {name: tuple(json.loads(file.attrs[name])) for name in ("names", "kinds", "materials")}
        values = {name: file[name][()] for name in arrays}
        if lines:
            shown = file["lines_needed"][()], file["lines_hidden"][()]
            by_lines = labels_by_lines(words["names"], values["labels"], values["counts_needed"], *shown)
            values |= dict(zip(("labels", "counts_needed", "hidden"), by_lines, strict=True))
        return HeldOut(**values, **words)


@dataclass(frozen=True)
class LabelledMockups:
    """The virtual mock-ups with their labels by group.

    Parameters
    ----------
    mockups : Mockups
    groups : tuple of str
        Visible groups of the pigments in them, the ground's included.
    labels : (n, n_group) uint8 array
    visible : (n, n_group) bool array
        Present and visible at each spectrum's counts.
    """

    mockups: Mockups
    groups: tuple[str, ...]
    labels: NDArray[np.uint8]
    visible: NDArray[np.bool_]

    @property
    def spectra(self) -> Spectra:
        """The counts as input of a model."""
        return Spectra.of_instrument(self.mockups.counts, self.mockups.axis, self.mockups.instrument)


def simulate_mockups(plan: TrustPlan, *, lines: bool = False) -> LabelledMockups:
    """Simulate the mock-ups with labels of visible pigments, or with ``lines`` of visible lines of any material."""
    mockups = paint_mockups(plan.mockup_spectra, plan.mockup_counts, plan.seed)
    outputs = _outputs(mockups)
    labels, needed, hidden = _visibility(mockups, outputs, lines=lines)
    counts = mockups.counts.sum(axis=1)[:, None]
    present = present_at(labels, hidden, counts)
    return LabelledMockups(mockups, outputs.names, present.astype(np.uint8), present & (needed <= counts))


def without_finetuning(labelled: LabelledMockups, answer: Answer) -> dict[str, Any]:
    """Return the scores of a model's groups, as :func:`~underpaint.lab.evaluation.groups.summarise` does."""
    return summarise(answer(labelled.spectra), labelled.labels, labelled.visible, labelled.groups)


def can_finetune(card: ModelCard) -> str:
    """Return why a model cannot be fine-tuned here; empty where it can."""
    missing = [name for name in ("torch", "lightning", "onnx") if find_spec(name) is None]
    if missing:
        return f"{', '.join(missing)} is not installed"
    if not card.kind.startswith("layers") and card.kind != "default":
        return f"a network of the kind {card.kind} answers no groups"
    return ""


def finetuned_scores(
    labelled: LabelledMockups, model: str | Path, plan: TrustPlan, folder: Path, progress: Progress
) -> tuple[dict[str, Any], int]:
    """Leave out each top and each family of bottoms in turn, fine-tune on a fifth of the rest, pool the answers.

    Returns
    -------
    dict
        As of :func:`~underpaint.lab.evaluation.groups.summarise`, over the spectra that were left out. A group that a
        fold's training set lacks is scored with the others: its labels are unknown in training.
    int
        Number of folds.

    Raises
    ------
    TrainingError
        The model's weights cannot be read from its file.
    CoverageError
        The model needs energies that the mock-ups, from 2.80 keV on, do not cover.
    """
    from underpaint.lab.training import answers, finetune, load_trainable
    from underpaint.lab.training.labelled import absent_as_unknown

    parts = held_out(families(labelled.mockups), plan.seed)[: plan.folds]
    predicted, rows = [], []
    for number, part in enumerate(parts):
        progress("Fine-tuning, structures left out", number, len(parts))
        start = load_trainable(model)
        data, settings = _as_library(labelled, start), _settings(start, plan, folder / f"structure_out_{number}")
        trained = finetune(start, settings, absent_as_unknown(data.rows(part.used))).trained
        probability = answers(trained, data, part.tested, settings)
        predicted.append(columns_of(probability, data.names, labelled.groups))
        rows.append(part.tested)
    tested = np.concatenate(rows)
    return summarise(
        np.concatenate(predicted), labelled.labels[tested], labelled.visible[tested], labelled.groups
    ), len(parts)


def _outputs(mockups: Mockups) -> Outputs:
    """Return the visible groups of the recipes and of the ground."""
    names = {
        name for stratigraphy in mockups.stratigraphies for layer in stratigraphy.layers for name in layer.pigments
    }
    return group_outputs(sorted(library()[name].name for name in names))


def _visibility(
    mockups: Mockups, outputs: Outputs, *, lines: bool
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    parts = []
    detector = mockups.instrument.detector
    for start in range(0, len(mockups), AT_ONCE):
        samples = mockups.stratigraphies[start : start + AT_ONCE]
        emission = emit(samples, mockups.instrument, single=True)
        expected = np.asarray(render(emission, detector, mockups.axis), dtype=np.float64)
        parts.append(labels_shown(samples, emission, expected, outputs, detector, mockups.axis, lines=lines))
    labels, needed, hidden = (np.concatenate(each) for each in zip(*parts, strict=True))
    return labels, needed, hidden


def _as_library(labelled: LabelledMockups, start: "Trained") -> "Library":
    """Return the mock-ups as a library on a model's axis; names without a label are unknown, not absent."""
    from underpaint.lab.training import labelled_spectra

    mockups, card = labelled.mockups, start.card
    present = [sorted(pigments_in(each) & set(card.names)) for each in mockups.stratigraphies]
    counts = mockups.counts.astype(np.float32)
    data = labelled_spectra(counts, mockups.axis, present, card, source=mockups.structure)
    if not card.instrument_inputs:
        return data
    conditions = conditions_of(mockups.instrument).inputs(card.instrument_inputs)
    return replace(
        data,
        instrument=np.tile(conditions, (len(data), 1)),
        instrument_inputs=card.instrument_inputs,
        quantities=np.full((len(data), len(card.quantities)), np.nan, dtype=np.float32),
        quantity_names=card.quantities,
    )


def _settings(start: "Trained", plan: TrustPlan, out: Path) -> "FinetuneSettings":
    from underpaint.lab.training import FinetuneSettings

    return FinetuneSettings(
        library=(Path("mockups"),),
        out=out,
        name=start.card.name,
        kind=start.card.kind,
        epochs=plan.finetune_epochs,
        dense_epochs=plan.dense_epochs,
        split="structure",  # validated on the structures of its training it forgets the others
        test_share=0.0,
        threads=plan.threads,
        seed=plan.seed,
        precision="32",
        progress=False,
    )
