"""Evidence for and against groups of pigments in spectra, from the fit of all line families."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Survey
from underpaint.elements._families import ANODES, scatter_templates
from underpaint.elements.variable_fit import Evidence, VariableFit
from underpaint.physics.atomic import SHELLS, atomic_number, edge_energy
from underpaint.physics.instrument import Instrument

Array = NDArray[np.float64]

SEEN_SIGMAS = 2.0
"""Significance, standard deviations, from which a family is detected, or all families of an element together."""
CERTAIN_SIGMAS = 3.0
"""Significance for families that others overlap, for low-energy lines if high-energy lines are not excited, and for
lines of the anode."""
PROVEN_ERROR = 0.02
"""Relative error of the counts under a family that must prove its element."""
PROVEN_SIGMAS = 10.0
"""Significance, standard deviations, at which a family proves its element; interference is part of the deviation."""
BACKGROUND_ERROR = 0.05
"""Relative error of the counts under a family, from the shape of the background."""
MAX_SCATTERED = 2.0
"""Largest ratio of an anode's line to the scatter under it, relative to the pixel with the smallest ratio, that is
explained by scatter."""
SURE_LOG_ODDS = 3.0
"""Log-odds from which a claim is kept although its line is missing, if other lines hide all lines of its element."""
MIN_OVERVOLTAGE = 1.2
"""Smallest ratio of the highest photon energy to the absorption edge at which missing lines prove absence."""
MIN_K_OVERVOLTAGE = 0.8
"""Ratio of the highest photon energy to the K edge below which an element with K and L lines needs ``CERTAIN_SIGMAS``
for its L lines, such as cadmium at 20 kV."""
MIN_SIGMA = 1e-3
"""Smallest standard deviation, counts, by which an area is divided."""
_MIN_COUNTS_SHARE_ABOVE = 1e-3


@dataclass(frozen=True)
class LineEvidence:
    """Tests whether spectra contradict groups of pigments, or prove that their elements are present.

    Parameters
    ----------
    groups : tuple of str
        Groups that are tested.
    columns : tuple of (n,) int arrays
        Columns of the families of each group in the fit, K before L and M.
    expected : tuple of (n,) bool arrays
        Whether the source excites each of these families so well that missing lines contradict the element.
    crowded : (n_group,) bool array
        Whether the high-energy lines of a group are not excited, so that only low-energy lines remain, which overlap
        those of potassium and calcium.
    scattered : tuple of (int, int, float)
        Groups with a line of the anode: index of the group, column of the line, and ratio of scattered counts of the
        line to counts under it. The ratio hardly depends on the sample.
    of_anode : (n_group,) bool array
        Whether the element of the group is, or may be, that of the anode, so that its lines prove nothing.
    """

    groups: tuple[str, ...]
    columns: tuple[NDArray[np.intp], ...]
    expected: tuple[NDArray[np.bool_], ...]
    crowded: NDArray[np.bool_]
    scattered: tuple[tuple[int, int, float], ...]
    of_anode: NDArray[np.bool_]

    def __call__(self, fit: Evidence) -> Array:
        """Return a (n, n_group) array of the log-odds that the claim of a group needs; -inf if nothing contradicts it.

        A group is contradicted if its families are detected neither alone nor together and an expected one is missing,
        or if its line is scatter of the anode. If other lines hide all of its families, :data:`SURE_LOG_ODDS` suffice.
        """
        deviations = _deviations(fit, fit.under)
        hidden = np.broadcast_to(fit.hidden, deviations.shape)
        detected = deviations > np.where(hidden, CERTAIN_SIGMAS, SEEN_SIGMAS)
        needed = np.full((len(deviations), len(self.groups)), -np.inf)
        for group, (columns, expected) in enumerate(zip(self.columns, self.expected, strict=True)):
            of_group, overlapped = deviations[:, columns], hidden[:, columns]
            if self.crowded[group]:
                contradicted = ~(detected[:, columns] & (of_group > CERTAIN_SIGMAS)).any(axis=1)
                needed[contradicted, group] = np.inf
                continue
            together = np.linalg.norm(np.where(overlapped, 0.0, np.maximum(of_group, 0.0)), axis=1) > SEEN_SIGMAS
            is_missing = (expected & (of_group < SEEN_SIGMAS)).any(axis=1)
            contradicted = ~detected[:, columns].any(axis=1) & ~together & is_missing
            needed[contradicted, group] = np.where(overlapped.all(axis=1), SURE_LOG_ODDS, np.inf)[contradicted]
        for group, line, ratio in self.scattered:
            excess = fit.area[:, line] - MAX_SCATTERED * ratio * fit.under[:, line]
            counts = fit.area[:, line] + 2.0 * fit.under[:, line]
            is_scatter = excess < CERTAIN_SIGMAS * np.sqrt(np.maximum(counts, 1.0))
            needed[:, group] = np.where(is_scatter, np.inf, -np.inf)
        return needed

    def proves(self, fit: Evidence) -> NDArray[np.bool_]:
        """Return a boolean (n, n_group) array, true where a spectrum proves lines of a group, from any source.

        A family must exceed ten standard deviations, and no family of higher energy may be missing: the paint may
        absorb low-energy lines, but not high-energy lines.
        """
        # the counts of the family itself are not part of its background
        deviations = _deviations(fit, np.maximum(fit.under - fit.area, 0.0), PROVEN_ERROR)
        proven_groups = np.zeros((len(deviations), len(self.groups)), bool)
        for group, (columns, expected) in enumerate(zip(self.columns, self.expected, strict=True)):
            is_missing = expected & ~fit.hidden[:, columns] & (deviations[:, columns] < SEEN_SIGMAS)
            higher_missing = np.logical_or.accumulate(is_missing, axis=1)
            is_proven = (deviations[:, columns] > PROVEN_SIGMAS) & ~higher_missing
            proven_groups[:, group] = is_proven.any(axis=1) & ~self.of_anode[group]
        return proven_groups


def line_evidence(
    keys: Mapping[str, Sequence[str]],
    fit: VariableFit,
    summary: Survey,
    axis: EnergyAxis,
    instrument: Instrument | None = None,
    *,
    voltage_known: bool = False,
) -> LineEvidence:
    """Return the tests of groups for a scan.

    Parameters
    ----------
    keys : mapping of str to sequence of str
        Line families of each group, ``Hg_L``. Groups without a fitted family are not tested.
    fit : VariableFit
        Fit of the scan.
    summary : Survey
        Survey of the scan.
    axis : EnergyAxis
        Energy axis of the scan.
    instrument : Instrument, optional
        See :func:`fit_elements`.
    voltage_known : bool
        Whether the voltage or beam energy of the instrument is known. If not, lines are only expected if the sum
        spectrum extends above their edge.

    Returns
    -------
    LineEvidence
    """
    source_families = [] if instrument is None else [template.name for template in scatter_templates(instrument, axis)]
    max_kev = instrument.highest_kev if instrument is not None and voltage_known else None
    is_excited = partial(_is_excited, total=summary.total, axis=axis, max_kev=max_kev)
    anodes = ANODES if instrument is None and not fit.n_source else ()
    groups: dict[str, list[str]] = {}
    scattered, is_anode = [], []
    for group, families in keys.items():
        source_lines = [name for name in families if name in source_families]
        fitted = sorted((name for name in families if name in fit.names), key=lambda name: name.split("_")[1])
        if not (fitted or source_lines):
            continue
        for name in source_lines:
            column = len(fit.names) + source_families.index(name)
            tiles = fit(summary.tiles)
            ratio = np.maximum(tiles.area[:, column], 0.0) / np.maximum(tiles.under[:, column], 1.0)
            scattered.append((len(groups), column, float(ratio.min())))
        groups[group] = fitted
        is_anode.append(bool(source_lines) or any(name.split("_")[0] in anodes for name in families))
    names = list(fit.names)
    return LineEvidence(
        tuple(groups),
        tuple(np.asarray([names.index(name) for name in families], np.intp) for families in groups.values()),
        tuple(
            np.asarray([is_excited(name, MIN_OVERVOLTAGE) for name in families], bool) for families in groups.values()
        ),
        np.asarray(
            [
                len(keys[group]) > 1 and not all(is_excited(name, MIN_K_OVERVOLTAGE) for name in keys[group])
                for group in groups
            ]
        ),
        tuple(scattered),
        np.asarray(is_anode, bool),
    )


def _deviations(fit: Evidence, background: NDArray[np.floating], error: float = BACKGROUND_ERROR) -> Array:
    """Return the areas divided by the standard deviations of absent families, including the background error."""
    sigma = np.hypot(fit.sigma_if_absent, error * background)
    return np.asarray(fit.area / np.maximum(sigma, MIN_SIGMA))


def _is_excited(name: str, overvoltage: float, *, total: Array, axis: EnergyAxis, max_kev: float | None) -> bool:
    """Return whether the highest photon energy exceeds a family's absorption edge times a factor."""
    symbol, shell = name.split("_")
    required_kev = overvoltage * edge_energy(atomic_number(symbol), SHELLS.index("K" if shell == "K" else f"{shell}3"))
    if max_kev is not None:
        return max_kev > required_kev
    return bool(total[axis.energy_kev > required_kev].sum() > _MIN_COUNTS_SHARE_ABOVE * total.sum())
