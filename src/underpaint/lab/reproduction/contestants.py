"""The networks that are compared, and the mock-ups on the energy axis of each network."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underpaint.data import XU_NETWORK_AXIS
from underpaint.lab.reproduction.arms import EvaluatedModel, pretrain_settings, restrict_to_palette
from underpaint.lab.reproduction.mockups import Mockups
from underpaint.lab.reproduction.plan import Plan
from underpaint.lab.reproduction.simulation import REPLACED_PIGMENTS, as_library, mockup_library, paper_outputs
from underpaint.lab.training import Library, TrainedNetwork, answers, labelled_spectra, load_trainable
from underpaint.simulate import outputs_for


def paper_network(
    checkpoints: Sequence[Path], mockups: Mockups, *, name: str = "paper_network", simulation_set: Library | None = None
) -> EvaluatedModel:
    """Return a pre-trained network, by default that of the paper, and the mock-ups on its energy axis.

    Parameters
    ----------
    simulation_set : Library or None
        Simulation set that the network was trained on, if the network's outputs differ from the paper's.
        Outputs that are in no mock-up have absent labels.
    """
    mockup_spectra = mockup_library(mockups)
    if simulation_set is not None and simulation_set.names != mockup_spectra.names:
        outputs = outputs_for(simulation_set.names, with_groups=False)
        labels = np.zeros((len(mockup_spectra), len(simulation_set.names)), dtype=np.uint8)
        labels[:, [simulation_set.names.index(output_name) for output_name in mockup_spectra.names]] = (
            mockup_spectra.labels
        )
        mockup_spectra = as_library(mockup_spectra.spectra, labels, axis=mockups.axis, outputs=outputs, has_noise=True)
    return EvaluatedModel(name, tuple(checkpoints), mockup_spectra)


def paper_answers(plan: Plan, trained_model: TrainedNetwork, counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n, 11) probabilities of a network of the paper's kind for (n, 3815) counts."""
    empty_labels = np.zeros((len(counts), len(paper_outputs().names)), dtype=np.uint8)
    library = as_library(counts, empty_labels, has_noise=True)
    return answers(trained_model, library, np.arange(len(counts)), pretrain_settings(plan))


def default_answers(plan: Plan, trained_model: TrainedNetwork, counts: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return (n, 11) probabilities of the default network for the paper's pigments, for (n, 3815) counts."""
    library = labelled_spectra(counts, XU_NETWORK_AXIS, [()] * len(counts), trained_model.card)
    probabilities = answers(
        trained_model, library, np.arange(len(counts)), pretrain_settings(plan, network_kind="default")
    )
    return restrict_to_palette(library, probabilities)


def default_network(mockups: Mockups) -> EvaluatedModel:
    """Return the default network, and the mock-ups on its energy axis."""
    network = load_trainable("default")
    present_names = [sorted({REPLACED_PIGMENTS.get(name, name) for name in names}) for names in mockups.pigments]
    library = labelled_spectra(
        mockups.counts.astype(np.float32), XU_NETWORK_AXIS, present_names, network.card, source=mockups.structure
    )
    return EvaluatedModel(
        "default_network", (network,), library, is_restricted_to_palette=True, marks_missing_as_unknown=True
    )
