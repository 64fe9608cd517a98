"""Which labels of measured spectra can be learned from: those whose lines stand out."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan
from underpaint.data.maps import split_place
from underpaint.elements import fit_elements
from underpaint.errors import CoverageError, ScanError
from underpaint.lab.training.library import UNKNOWN, Library
from underpaint.physics.materials import library as pigments

SIGMAS = 3.0
"""Standard deviations of the area of a key line family, from which a group shows."""


def only_what_shows(data: Library) -> Library:
    """Leave open the labels of pigments that are there and do not show in the spectrum.

    Who labels a mock-up knows what was painted, also where a thick layer hides it. Learned as present, it teaches a
    network to claim what it cannot see. A label counts where, in the linear fit of the line families that the spectra
    show, a key family of each of its groups has an area over ``SIGMAS`` standard deviations; else it is ``UNKNOWN``.

    Parameters
    ----------
    data : Library
        Measured spectra with labels by group and member.
    """
    known = {group.name for group in pigments().groups}
    groups = sorted(known & {split_place(name)[0] for own in data.groups for name in own})
    shows = _shown(data, groups)
    labels = data.labels.copy()
    for column, counted_as in enumerate(data.groups):
        counted = {split_place(group)[0] for group in counted_as}
        hidden = [~shows[:, groups.index(group)] for group in counted & set(groups)]
        if hidden:
            there = labels[:, column] == 1
            labels[there & np.any(hidden, axis=0), column] = UNKNOWN
    return replace(data, labels=labels)


def _shown(data: Library, groups: list[str]) -> NDArray[np.bool_]:
    """Return (n, n_group) whether a key family of each group stands out; all do where nothing can be fitted."""
    axis = EnergyAxis(data.axis.bin_kev, data.axis.start_kev + 0.5 * data.axis.bin_kev, data.axis.n_bin)
    scan = Scan(data.spectra.astype(np.float32)[None], axis=axis, name="labelled spectra")
    try:
        maps = fit_elements(scan)
    except (CoverageError, ScanError):
        return np.ones((len(data), len(groups)), dtype=np.bool_)
    shows = np.zeros((len(data), len(groups)), dtype=np.bool_)
    for column, group in enumerate(groups):
        shows[:, column] = maps.strongest(pigments().group(group).key_families)[0] > SIGMAS
    return shows
