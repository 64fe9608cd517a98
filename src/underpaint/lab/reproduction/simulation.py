"""The paper's simulation set, which has one pigment per layer, no scatter, and the background of mock-up spectra."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from underpaint.data import XU_NETWORK_AXIS, EnergyAxis
from underpaint.data.background import snip
from underpaint.data.peaks import resolution_fwhm_kev
from underpaint.lab.reproduction.mockups import INSTRUMENT, Mockups
from underpaint.lab.reproduction.plan import Plan
from underpaint.lab.training import Library
from underpaint.physics.forward import SCATTER, Detail, count, emit, render
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Stratigraphy
from underpaint.pigments.weights import ModelAxis
from underpaint.simulate import outputs_for
from underpaint.simulate.outputs import Outputs, label_matrix
from underpaint.simulate.recipes import paper_classes, paper_grid, paper_stratigraphy

BATCH_SIZE = 512
REPLACED_PIGMENTS = {"verdigris": "emerald_green", "sodium_arsenite": "emerald_green"}
"""Pigments that replace emerald green in the mock-ups and are not outputs of the network."""


def paper_outputs() -> Outputs:
    """Return the eleven outputs of the paper's network."""
    return outputs_for(paper_classes(), with_groups=False)


def simulation_set(plan: Plan, mockups: Mockups) -> Library:
    """Return the paper's simulation set of stratigraphies with two layers over chalk and one pigment per layer."""
    return simulated_as_in_paper(*_stratigraphies_of(paper_grid(plan.materials)[:: plan.grid_step]), mockups)


def study_grid(plan: Plan) -> tuple[list[Stratigraphy], list[set[str]]]:
    """Return the stratigraphies in a part of the paper's grid, and their pigments, for ablations and comparisons."""
    return _stratigraphies_of(paper_grid(plan.materials)[:: plan.grid_step * plan.study_step])


def draw_counts(library: Library, plan: Plan) -> Library:
    """Draw counts for noise-free spectra, with the mean counts of a mock-up pixel."""
    rng = np.random.default_rng((plan.seed, 1))
    counts = count(library.spectra.astype(np.float64) * plan.counts, rng=rng)
    return replace(library, spectra=counts.astype(np.float32), has_noise=True)


def simulated_as_in_paper(
    stratigraphies: Sequence[Stratigraphy],
    pigments_by_stratigraphy: Sequence[set[str]],
    mockups: Mockups,
    *,
    outputs: Outputs | None = None,
    with_background: bool = True,
) -> Library:
    """Return noise-free spectra of stratigraphies, simulated as in the paper, in the channels of the mock-ups.

    The spectra include primary and secondary fluorescence, as in PyMca, and the detector resolution. The added
    background is that of the mean mock-up spectrum (SNIP with the low-statistics filter, Ryan 1988). The background is
    the same fraction of the counts as in the mock-ups.
    """
    instrument, outputs = load_instrument(INSTRUMENT), outputs or paper_outputs()
    spectrum_batches = []
    for batch_start in range(0, len(stratigraphies), BATCH_SIZE):
        stratigraphy_batch = stratigraphies[batch_start : batch_start + BATCH_SIZE]
        emission = emit(stratigraphy_batch, instrument, detail=Detail(orders=2, scatter=False), single=True)
        without_scatter = {name: 0.0 * getattr(emission, name) for name in SCATTER}
        spectrum_batches.append(
            np.asarray(render(replace(emission, **without_scatter), instrument.detector, mockups.axis))
        )
    line_spectra = np.concatenate(spectrum_batches).astype(np.float64)
    background_fraction, background_shape = measured_background(mockups) if with_background else (0.0, 0.0)
    line_spectra /= line_spectra.sum(axis=1, keepdims=True)
    spectra = (1.0 - background_fraction) * line_spectra + background_fraction * background_shape
    return as_library(
        spectra, label_matrix(pigments_by_stratigraphy, outputs), axis=mockups.axis, outputs=outputs, has_noise=False
    )


def grid_pigments(plan: Plan) -> list[tuple[str, str]]:
    """Return the pigments of the upper and of the lower layer for each spectrum in the simulation set."""
    return _pigment_pairs(paper_grid(plan.materials)[:: plan.grid_step])


def _stratigraphies_of(
    paper_structures: Sequence[tuple[str, str, float, float]],
) -> tuple[list[Stratigraphy], list[set[str]]]:
    """Return the stratigraphies and the sets of pigments of structures in the paper's grid."""
    return [paper_stratigraphy(*structure) for structure in paper_structures], [
        set(pigment_pair) for pigment_pair in _pigment_pairs(paper_structures)
    ]


def _pigment_pairs(paper_structures: Sequence[tuple[str, str, float, float]]) -> list[tuple[str, str]]:
    library_names = {"substitute": "emerald_green"}
    return [
        (library_names.get(upper_pigment, upper_pigment), library_names.get(lower_pigment, lower_pigment))
        for upper_pigment, lower_pigment, _, _ in paper_structures
    ]


def measured_background(mockups: Mockups) -> tuple[float, NDArray[np.float64]]:
    """Return the background fraction of the mean mock-up spectrum, and the normalised (n_channel,) background."""
    mean_spectrum = mockups.counts.mean(axis=0, dtype=np.float64)
    detector = mockups.instrument.detector
    fwhm_kev = resolution_fwhm_kev(np.abs(mockups.axis.energy_kev), detector.noise_fwhm_kev, detector.fano)
    background = snip(mean_spectrum, fwhm_kev / mockups.axis.gain_kev, low_statistics=True)
    return float(background.sum() / mean_spectrum.sum()), background / background.sum()


def mockup_library(mockups: Mockups) -> Library:
    """Return the spectra of the mock-ups with labels for the paper's outputs."""
    outputs = paper_outputs()
    present_names = [{REPLACED_PIGMENTS.get(name, name) for name in names} for names in mockups.pigments]
    labels = label_matrix(present_names, outputs)
    library = as_library(mockups.counts.astype(np.float32), labels, axis=mockups.axis, has_noise=True)
    return replace(library, source=mockups.structure)


def as_library(
    spectra: NDArray[np.floating],
    labels: NDArray[np.uint8],
    *,
    has_noise: bool,
    axis: EnergyAxis = XU_NETWORK_AXIS,
    outputs: Outputs | None = None,
) -> Library:
    """Convert labelled spectra to a library. The default axis and outputs are those of the paper."""
    outputs = outputs or paper_outputs()
    recorded_kev = np.asarray([[axis.start_kev, axis.stop_kev]], dtype=np.float32)
    return Library(
        spectra=np.asarray(spectra, dtype=np.float32),
        recorded=np.tile(recorded_kev, (len(spectra), 1)),
        labels=labels,
        counts_needed=np.where(labels, 0.0, np.inf).astype(np.float32),
        source=np.arange(len(spectra), dtype=np.int64),
        total_counts=None,
        axis=ModelAxis(start_kev=round(axis.start_kev, 9), bin_kev=axis.gain_kev, n_bin=axis.n_channel),
        names=outputs.names,
        kinds=outputs.kinds,
        groups=outputs.groups,
        labels_for_people=outputs.labels,
        elements=outputs.elements,
        has_noise=has_noise,
        origin=("virtual mock-ups" if has_noise else "simulation set",),
    )
