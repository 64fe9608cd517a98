"""The paper's simulation set: one pigment a layer, no scatter, the measured background added."""

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

AT_ONCE = 512
MIXED_FROM = {"verdigris": "emerald_green", "sodium_arsenite": "emerald_green"}
"""In the mock-ups these two replace emerald green; in the simulation set they have no label."""


def paper_outputs() -> Outputs:
    """Return the paper's eleven outputs."""
    return outputs_for(paper_classes(), with_groups=False)


def simulation_set(plan: Plan, mockups: Mockups) -> Library:
    """Return the paper's simulated spectra as it made them: two pigment layers over chalk, one pigment in each."""
    return simulated_as_in_paper(*_samples(paper_grid(plan.materials)[:: plan.grid_step]), mockups)


def study_grid(plan: Plan) -> tuple[list[Stratigraphy], list[set[str]]]:
    """Return a share of the paper's grid with its pigments, for ablations and comparisons."""
    return _samples(paper_grid(plan.materials)[:: plan.grid_step * plan.study_step])


def counted(simulated: Library, plan: Plan) -> Library:
    """Return noise-free spectra at the counts of a mock-up's pixel."""
    rng = np.random.default_rng((plan.seed, 1))
    counts = count(simulated.spectra.astype(np.float64) * plan.counts, rng=rng)
    return replace(simulated, spectra=counts.astype(np.float32), counted=True)


def simulated_as_in_paper(
    stratigraphies: Sequence[Stratigraphy],
    contents: Sequence[set[str]],
    mockups: Mockups,
    *,
    outputs: Outputs | None = None,
    with_background: bool = True,
) -> Library:
    """Return spectra of stratigraphies with the paper's physics, noise-free, on the mock-ups' channels.

    Primary and secondary fluorescence alone (as PyMca computes), detector; then the background of the mean measured
    spectrum (SNIP with the low-statistics filter, Ryan 1988) is added, with the same share of the counts. The measured
    spectra are those of the mock-ups.
    """
    instrument, outputs = load_instrument(INSTRUMENT), outputs or paper_outputs()
    parts = []
    for start in range(0, len(stratigraphies), AT_ONCE):
        part = stratigraphies[start : start + AT_ONCE]
        emission = emit(part, instrument, detail=Detail(orders=2, scatter=False), single=True)
        dark = {name: 0.0 * getattr(emission, name) for name in SCATTER}
        parts.append(np.asarray(render(replace(emission, **dark), instrument.detector, mockups.axis)))
    lines = np.concatenate(parts).astype(np.float64)
    share, shape = measured_background(mockups) if with_background else (0.0, 0.0)
    lines /= lines.sum(axis=1, keepdims=True)
    spectra = (1.0 - share) * lines + share * shape
    return as_library(spectra, label_matrix(contents, outputs), axis=mockups.axis, outputs=outputs, counted=False)


def grid_pigments(plan: Plan) -> list[tuple[str, str]]:
    """Return the labels of the upper and lower layer of each spectrum of the simulation set."""
    return _pigments(paper_grid(plan.materials)[:: plan.grid_step])


def _samples(grid: Sequence[tuple[str, str, float, float]]) -> tuple[list[Stratigraphy], list[set[str]]]:
    """Return the stratigraphies of a part of the paper's grid, and the pigments in each."""
    return [paper_stratigraphy(*entry) for entry in grid], [set(pair) for pair in _pigments(grid)]


def _pigments(grid: Sequence[tuple[str, str, float, float]]) -> list[tuple[str, str]]:
    named = {"substitute": "emerald_green"}
    return [(named.get(upper, upper), named.get(lower, lower)) for upper, lower, _, _ in grid]


def measured_background(mockups: Mockups) -> tuple[float, NDArray[np.float64]]:
    """Return the background's share of the mean measured spectrum, and its shape (n_channel,), which sums to one."""
    mean = mockups.counts.mean(axis=0, dtype=np.float64)
    detector = mockups.instrument.detector
    fwhm = resolution_fwhm_kev(np.abs(mockups.axis.energy_kev), detector.noise_fwhm_kev, detector.fano)
    background = snip(mean, fwhm / mockups.axis.gain_kev, low_statistics=True)
    return float(background.sum() / mean.sum()), background / background.sum()


def mockup_library(mockups: Mockups) -> Library:
    """Return the mock-ups' counts with the paper's labels."""
    classes = paper_outputs()
    present = [{MIXED_FROM.get(name, name) for name in names} for names in mockups.pigments]
    labels = label_matrix(present, classes)
    library = as_library(mockups.counts.astype(np.float32), labels, axis=mockups.axis, counted=True)
    return replace(library, source=mockups.structure)


def as_library(
    spectra: NDArray[np.floating],
    labels: NDArray[np.uint8],
    *,
    counted: bool,
    axis: EnergyAxis = XU_NETWORK_AXIS,
    outputs: Outputs | None = None,
) -> Library:
    """Return labelled spectra as a library; by default on the paper's channels, for its eleven pigments."""
    outputs = outputs or paper_outputs()
    recorded = np.asarray([[axis.start_kev, axis.stop_kev]], dtype=np.float32)
    return Library(
        spectra=np.asarray(spectra, dtype=np.float32),
        recorded=np.tile(recorded, (len(spectra), 1)),
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
        counted=counted,
        origin=("virtual mock-ups" if counted else "simulation set",),
    )
