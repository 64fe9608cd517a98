"""The networks to compare, each with the mock-ups on its energy axis."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underpaint.data import XU_NETWORK_AXIS
from underpaint.lab.reproduction.arms import EvaluatedModel, pretrain_settings, read_in_palette
from underpaint.lab.reproduction.mockups import Mockups
from underpaint.lab.reproduction.plan import Plan
from underpaint.lab.reproduction.simulation import MIXED_FROM, as_library, mockup_library, paper_outputs
from underpaint.lab.training import Library, Trained, answers, labelled_spectra, load_trainable
from underpaint.simulate import outputs_for


def paper_network(
    checkpoints: Sequence[Path], mockups: Mockups, *, name: str = "paper_network", of: Library | None = None
) -> EvaluatedModel:
    """Return the paper's network, or one trained like it, pre-trained on a simulation set.

    Parameters
    ----------
    of : Library or None
        The simulation set where it has other names than the paper's; those in no mock-up are absent there.
    """
    measured = mockup_library(mockups)
    if of is not None and of.names != measured.names:
        outputs = outputs_for(of.names, with_groups=False)
        labels = np.zeros((len(measured), len(of.names)), dtype=np.uint8)
        labels[:, [of.names.index(each) for each in measured.names]] = measured.labels
        measured = as_library(measured.spectra, labels, axis=mockups.axis, outputs=outputs, counted=True)
    return EvaluatedModel(name, tuple(checkpoints), measured)


def paper_answers(plan: Plan, trained: Trained, counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n, 11) probabilities of a network of the paper for (n, 3815) counts on its channels."""
    empty = np.zeros((len(counts), len(paper_outputs().names)), dtype=np.uint8)
    library = as_library(counts, empty, counted=True)
    return answers(trained, library, np.arange(len(counts)), pretrain_settings(plan))


def default_answers(plan: Plan, trained: Trained, counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the probabilities of the default network for the paper's pigments; arrays as in ``paper_answers``."""
    library = labelled_spectra(counts, XU_NETWORK_AXIS, [()] * len(counts), trained.card)
    probabilities = answers(trained, library, np.arange(len(counts)), pretrain_settings(plan, kind="default"))
    return read_in_palette(library, probabilities)


def default_network(mockups: Mockups) -> EvaluatedModel:
    """Return the network that comes with this package: trained on random mixtures, palettes and instruments."""
    start = load_trainable("default")
    present = [sorted({MIXED_FROM.get(name, name) for name in names}) for names in mockups.pigments]
    library = labelled_spectra(
        mockups.counts.astype(np.float32), XU_NETWORK_AXIS, present, start.card, source=mockups.structure
    )
    return EvaluatedModel("default_network", (start,), library, in_palette=True, open_minded=True)
