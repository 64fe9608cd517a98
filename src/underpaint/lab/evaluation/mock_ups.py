"""The paper's 64 structures as virtual mock-ups, whose mixtures no training layer has: without and with fine-tuning."""

from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from underpaint.lab.evaluation.answering import Spectra, columns_of
from underpaint.lab.evaluation.groups import group_outputs, summarise
from underpaint.lab.evaluation.parts import families, held_out
from underpaint.lab.evaluation.plan import TrustPlan
from underpaint.lab.evaluation.simulated import Answer
from underpaint.physics.forward import emit, render
from underpaint.physics.materials import library
from underpaint.pigments.weights import ModelCard
from underpaint.runtime.progress import Progress
from underpaint.simulate.instrument_inputs import conditions_of
from underpaint.simulate.labels import labels_shown, pigments_in, present_at
from underpaint.simulate.mockups import Mockups, paint_mockups
from underpaint.simulate.outputs import Outputs

if TYPE_CHECKING:
    from underpaint.lab.training import FinetuneSettings, Library, Trained

AT_ONCE = 256


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
