"""The paper's simulation set: one pigment a layer, no scatter, the measured background added."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from underpaint.forward import SCATTER, Detail, emit, render
from underpaint.instrument import load_instrument
from underpaint.reproduce.mockups import INSTRUMENT, Mockups
from underpaint.reproduce.plan import Plan
from underpaint.spectrum import XU_NETWORK_AXIS
from underpaint.spectrum.background import snip
from underpaint.spectrum.peaks import resolution_fwhm_kev
from underpaint.synth import outputs_for
from underpaint.synth.outputs import Outputs, label_matrix
from underpaint.synth.recipes import paper_classes, paper_grid, paper_stratigraphy
from underpaint.train import Library
from underpaint.weights import ModelAxis

AT_ONCE = 512
AXIS = ModelAxis(
    start_kev=round(XU_NETWORK_AXIS.start_kev, 9), bin_kev=XU_NETWORK_AXIS.gain_kev, n_bin=XU_NETWORK_AXIS.n_channel
)
MIXED_FROM = {"verdigris": "emerald_green", "sodium_arsenite": "emerald_green"}
"""In the mock-ups these two stand for emerald green; in the simulation set they are labelled as nothing."""


def paper_outputs() -> Outputs:
    """Return the paper's eleven outputs."""
    return outputs_for(paper_classes(), with_groups=False)


def simulation_set(plan: Plan, mockups: Mockups) -> Library:
    """Return the paper's simulated spectra as it made them.

    Two pigment layers over chalk, primary and secondary fluorescence alone (as PyMca computes), detector; then the
    background of the mean measured spectrum (SNIP with the low-statistics filter, Ryan 1988) is added, in the share
    of the counts that it has there. What was measured here are the virtual mock-ups.
    """
    grid = paper_grid(plan.materials)[:: plan.grid_step]
    instrument = load_instrument(INSTRUMENT)
    parts, labels = [], []
    for start in range(0, len(grid), AT_ONCE):
        part = grid[start : start + AT_ONCE]
        emission = emit(
            [paper_stratigraphy(*entry) for entry in part],
            instrument,
            detail=Detail(orders=2, scatter=False),
            single=True,
        )
        dark = {name: 0.0 * getattr(emission, name) for name in SCATTER}
        parts.append(np.asarray(render(replace(emission, **dark), instrument.detector, XU_NETWORK_AXIS)))
        labels.append(label_matrix([_classes(upper, lower) for upper, lower, _, _ in part], paper_outputs()))
    lines = np.concatenate(parts).astype(np.float64)
    share, shape = measured_background(mockups)
    lines /= lines.sum(axis=1, keepdims=True)
    return as_library((1.0 - share) * lines + share * shape, np.concatenate(labels), counted=False)


def _classes(upper: str, lower: str) -> set[str]:
    return {"emerald_green" if name == "substitute" else name for name in (upper, lower)}


def measured_background(mockups: Mockups) -> tuple[float, NDArray[np.float64]]:
    """Return the background's share of the mean measured spectrum, and its shape (n_channel,), which sums to one."""
    mean = mockups.counts.mean(axis=0, dtype=np.float64)
    detector = mockups.instrument.detector
    fwhm = resolution_fwhm_kev(XU_NETWORK_AXIS.energy_kev, detector.noise_fwhm_kev, detector.fano)
    background = snip(mean, fwhm / XU_NETWORK_AXIS.gain_kev, low_statistics=True)
    return float(background.sum() / mean.sum()), background / background.sum()


def mockup_library(mockups: Mockups) -> Library:
    """Return the mock-ups' counts with the paper's labels."""
    classes = paper_outputs()
    present = [{MIXED_FROM.get(name, name) for name in names} for names in mockups.pigments]
    library = as_library(mockups.counts.astype(np.float32), label_matrix(present, classes), counted=True)
    return replace(library, source=mockups.structure)


def as_library(spectra: NDArray[np.floating], labels: NDArray[np.uint8], *, counted: bool) -> Library:
    """Return spectra on the paper's channels with labels for its eleven pigments."""
    outputs = paper_outputs()
    recorded = np.asarray([[XU_NETWORK_AXIS.start_kev, XU_NETWORK_AXIS.stop_kev]], dtype=np.float32)
    return Library(
        spectra=np.asarray(spectra, dtype=np.float32),
        recorded=np.tile(recorded, (len(spectra), 1)),
        labels=labels,
        counts_needed=np.where(labels, 0.0, np.inf).astype(np.float32),
        source=np.arange(len(spectra), dtype=np.int64),
        total_counts=None,
        axis=AXIS,
        names=outputs.names,
        kinds=outputs.kinds,
        groups=outputs.groups,
        labels_for_people=outputs.labels,
        elements=outputs.elements,
        counted=counted,
        origin=("virtual mock-ups" if counted else "simulation set",),
    )
