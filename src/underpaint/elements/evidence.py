"""Evidence of groups of pigments in spectra, from the fit of all families."""

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
"""Standard deviations from which a family counts as detected, or all families of an element together."""
CERTAIN_SIGMAS = 3.0
"""The same for a family that others overlap, for soft lines where hard ones are not excited, and for the anode's
lines."""
PROVEN_ERROR = 0.02
"""Of the counts under a family that is to prove its element: the error by which visibility is judged elsewhere, too."""
PROVEN_SIGMAS = 10.0
"""A family over so many deviations proves its element; what other families may contribute is in the deviation."""
BACKGROUND_ERROR = 0.05
"""Of the counts under a family: a smaller hump may be of the background's shape."""
MAX_SCATTERED = 2.0
"""Ratio of an anode's line to the scatter under it, relative to the pixel with the smallest ratio, above which it is
not scatter alone."""
SURE_LOG_ODDS = 3.0
"""Log-odds from which a claim stands although its line is missing, where other lines hide the place of that line."""
MIN_OVERVOLTAGE = 1.2
"""Ratio of voltage to absorption edge above which missing lines are evidence of absence."""
SOFT_OVERVOLTAGE = 0.8
"""Voltage over the K edge up to which an element that has K and L lines must show certain L lines: at 20 kV cadmium."""
MIN_SIGMA = 1e-3
"""Counts: least deviation by which an area is divided."""
_MIN_SHARE_ABOVE = 1e-3


@dataclass(frozen=True)
class LineEvidence:
    """Test whether spectra contradict groups of pigments, or prove that their elements are present.

    Parameters
    ----------
    groups : tuple of str
        Groups that are tested.
    columns : tuple of (n,) int arrays
        Of each group, its families among the columns of the fit, hard ones first.
    expected : tuple of (n,) bool arrays
        Whether the source excites them so well that missing lines contradict the element.
    crowded : (n_group,) bool array
        Whether a group's hard lines are not excited, so that only soft ones among those of potassium and calcium
        remain.
    scattered : tuple of (int, int, float)
        Groups with a line of the anode: group index, column of the line, and scattered counts of the line per count
        under it. Both scatter in the same proportion from any sample.
    of_anode : (n_group,) bool array
        Whether the group's element is the anode's, or may be if the anode is not known: its lines prove nothing.
    """

    groups: tuple[str, ...]
    columns: tuple[NDArray[np.intp], ...]
    expected: tuple[NDArray[np.bool_], ...]
    crowded: NDArray[np.bool_]
    scattered: tuple[tuple[int, int, float], ...]
    of_anode: NDArray[np.bool_]

    def __call__(self, shown: Evidence) -> Array:
        """Return (n, n_group) log-odds under which the claim of a group contradicts a spectrum; -inf: none does.

        A group is contradicted where none of its families is detected, alone or together, and one is missing; or where
        its line is scatter of the anode's line. Where other lines hide all of its families, claims
        from :data:`SURE_LOG_ODDS` stand.
        """
        deviations = _deviations(shown, shown.under)
        hidden = np.broadcast_to(shown.hidden, deviations.shape)
        detected = deviations > np.where(hidden, CERTAIN_SIGMAS, SEEN_SIGMAS)
        result = np.full((len(deviations), len(self.groups)), -np.inf)
        for group, (columns, expected) in enumerate(zip(self.columns, self.expected, strict=True)):
            of_group, overlapped = deviations[:, columns], hidden[:, columns]
            if self.crowded[group]:
                contradicted = ~(detected[:, columns] & (of_group > CERTAIN_SIGMAS)).any(axis=1)
                result[contradicted, group] = np.inf
                continue
            together = np.linalg.norm(np.where(overlapped, 0.0, np.maximum(of_group, 0.0)), axis=1) > SEEN_SIGMAS
            missed = (expected & (of_group < SEEN_SIGMAS)).any(axis=1)
            contradicted = ~detected[:, columns].any(axis=1) & ~together & missed
            needed = np.where(overlapped.all(axis=1), SURE_LOG_ODDS, np.inf)
            result[contradicted, group] = needed[contradicted]
        for group, line, ratio in self.scattered:
            excess = shown.area[:, line] - MAX_SCATTERED * ratio * shown.under[:, line]
            counts = shown.area[:, line] + 2.0 * shown.under[:, line]
            scatter = excess < CERTAIN_SIGMAS * np.sqrt(np.maximum(counts, 1.0))
            result[:, group] = np.where(scatter, np.inf, -np.inf)
        return result

    def proves(self, shown: Evidence) -> NDArray[np.bool_]:
        """Return (n, n_group): True where a spectrum proves lines of a group, whatever brings them.

        A family stands over ten deviations, and no harder family of the element is missing: soft lines may stay in the
        paint, hard ones leave it.
        """
        deviations, missing = self._clear(shown, PROVEN_ERROR)
        result = np.zeros((len(deviations), len(self.groups)), bool)
        for group, columns in enumerate(self.columns):
            harder_missing = np.logical_or.accumulate(missing[group], axis=1)
            proven = (deviations[:, columns] > PROVEN_SIGMAS) & ~harder_missing
            result[:, group] = proven.any(axis=1) & ~self.of_anode[group]
        return result

    def _clear(self, shown: Evidence, error: float) -> tuple[Array, list[NDArray[np.bool_]]]:
        """Return the families' deviations, and of each group (n, n_family) whether a family is missing."""
        # a strong family is not its own background
        deviations = _deviations(shown, np.maximum(shown.under - shown.area, 0.0), error)
        missing = [
            expected & ~shown.hidden[:, columns] & (deviations[:, columns] < SEEN_SIGMAS)
            for columns, expected in zip(self.columns, self.expected, strict=True)
        ]
        return deviations, missing


def line_evidence(
    keys: Mapping[str, Sequence[str]],
    fit: VariableFit,
    summary: Survey,
    axis: EnergyAxis,
    instrument: Instrument | None = None,
    *,
    voltage_known: bool = False,
) -> LineEvidence:
    """Prepare the test whether spectra contradict groups, or prove them.

    Parameters
    ----------
    keys : mapping of str to sequence of str
        Line families of each group, ``Hg_L``. A group without a fitted family is not tested.
    fit : VariableFit
        Planned for the scan.
    summary : Survey
        Sums of the scan's counts.
    axis : EnergyAxis
        Of these counts.
    instrument : Instrument, optional
        As for :func:`fit_elements`.
    voltage_known : bool
        Whether the instrument's voltage or beam is known; otherwise the sum spectrum must extend above an edge for its
        lines to be expected.
    """
    source = [] if instrument is None else [template.name for template in scatter_templates(instrument, axis)]
    max_kev = instrument.highest_kev if instrument is not None and voltage_known else None
    excited = partial(_is_excited, total=summary.total, axis=axis, max_kev=max_kev)
    anodes = ANODES if instrument is None and not fit.n_source else ()
    groups: dict[str, list[str]] = {}
    scattered, of_anode = [], []
    for group, families in keys.items():
        of_source = [name for name in families if name in source]
        fitted = sorted((name for name in families if name in fit.names), key=lambda name: name.split("_")[1])
        if not (fitted or of_source):
            continue
        for name in of_source:
            line = len(fit.names) + source.index(name)
            tiles = fit(summary.tiles)
            ratio = np.maximum(tiles.area[:, line], 0.0) / np.maximum(tiles.under[:, line], 1.0)
            scattered.append((len(groups), line, float(ratio.min())))
        groups[group] = fitted
        of_anode.append(bool(of_source) or any(name.split("_")[0] in anodes for name in families))
    names = list(fit.names)
    return LineEvidence(
        tuple(groups),
        tuple(np.asarray([names.index(name) for name in families], np.intp) for families in groups.values()),
        tuple(np.asarray([excited(name, MIN_OVERVOLTAGE) for name in families], bool) for families in groups.values()),
        np.asarray(
            [
                len(keys[group]) > 1 and not all(excited(name, SOFT_OVERVOLTAGE) for name in keys[group])
                for group in groups
            ]
        ),
        tuple(scattered),
        np.asarray(of_anode, bool),
    )


def _deviations(shown: Evidence, under: NDArray[np.floating], error: float = BACKGROUND_ERROR) -> Array:
    """Return the areas over the deviations that they would have if the families were absent, over so many counts."""
    sigma = np.hypot(shown.sigma_if_absent, error * under)
    return np.asarray(shown.area / np.maximum(sigma, MIN_SIGMA))


def _is_excited(name: str, overvoltage: float, *, total: Array, axis: EnergyAxis, max_kev: float | None) -> bool:
    """Whether the source reaches a family's absorption edge, times a factor."""
    symbol, shell = name.split("_")
    needed_kev = overvoltage * edge_energy(atomic_number(symbol), SHELLS.index("K" if shell == "K" else f"{shell}3"))
    if max_kev is not None:
        return max_kev > needed_kev
    return bool(total[axis.energy_kev > needed_kev].sum() > _MIN_SHARE_ABOVE * total.sum())
