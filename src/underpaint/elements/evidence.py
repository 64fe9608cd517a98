"""Whether a spectrum shows the lines of an element: a peak of its own where nothing else explains one."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

from underpaint.data import EnergyAxis, Survey, sound_spectra
from underpaint.data.peaks import resolution_fwhm_kev
from underpaint.data.pile_up import MOST_CHANCE, folded, pile_up_shape
from underpaint.elements._families import FIXED_CANDIDATES, Template, family_templates, scatter_templates
from underpaint.elements.fixed_fit import plan_fit
from underpaint.elements.unlikeness import column_faults, merge_channels, merge_spectra, merged_weight
from underpaint.physics.atomic import SHELLS, atomic_number, edge_energy
from underpaint.physics.instrument import Instrument

Array = NDArray[np.float64]
Single = NDArray[np.float32]

SEEN_SIGMAS = 1.0
"""A line is seen from so many deviations on: what is below shows nothing."""
CERTAIN_SIGMAS = 3.0
"""Asked of soft lines where the hard ones are not excited."""
BACKGROUND_ERROR = 0.1
"""Of the counts under a line: a smaller hump may be of the background's own."""
HIDDEN_SIGMAS = 5.0
"""Asked of a line that lies under another element's, by the joint fit of both."""
EXPLAINED_SHARE = 0.5
"""Of a peak's net counts: if other elements explain so much of it, it says nothing of this one."""
PILE_UP_ERROR = 0.5
MOST_SCATTERED = 2.0
"""An anode's line so many times as strong, over the scatter under it, as where it is weakest is not scattered alone."""
LEAST_OVERVOLTAGE = 1.2
"""Voltage over absorption edge from which missing lines tell of a missing element."""
SOFT_OVERVOLTAGE = 0.8
"""Voltage over the K edge up to which an element that has K and L lines must show certain L lines: at 20 kV cadmium."""
_LEAST_SHARE_ABOVE = 1e-3
_LEAST_PILED = 1e5
"""Counts of a spectrum from which sums of two photons can look like a line."""
_STRONG_SHARE = 0.5
_MERGED_FWHM = 0.25
_REFERENCE_KEV = 5.9
_LINE_FWHM, _BESIDE_FWHM = 0.6, 0.3
"""Half widths of the window on a line, and of those beside it."""
_DISTANCES_FWHM = (1.0, 1.25, 1.5, 1.75, 2.0, 2.5)
_PILED_SIGMAS, _LEAST_PAIRS = 3.0, 0.2
"""Sum peaks with this share of the highest one's net counts limit how much piled up."""
_AT_ONCE = 256


@dataclass(frozen=True)
class Windows:
    """Windows on peaks, and pairs of windows beside them.

    Parameters
    ----------
    weights : (n_bin, (1 + n_distance) * n_peak) sparse array
        Share of each bin that lies on a peak; then, by distance, what turns counts beside it into those under it.
    n_peak : int
    """

    weights: csr_array
    n_peak: int

    @property
    def on(self) -> csr_array:
        """(n_bin, n_peak) share of each bin that lies on a peak."""
        return self.weights[:, : self.n_peak]

    def net(self, counts: Single) -> tuple[Single, Single]:
        """Return (n, n_peak) net counts, and what lies under the peaks, of (n, n_bin) counts.

        Under a peak lies the least that any pair of windows has, as in peak clipping: a neighbour raises one of them.
        """
        sums = np.asarray(counts @ self.weights).reshape(len(counts), -1, self.n_peak)
        under = sums[:, 1:].min(axis=1)
        return sums[:, 0] - under, under


@dataclass(frozen=True)
class LineEvidence:
    """What tells whether spectra speak against groups of pigments.

    Parameters
    ----------
    keys : mapping of str to sequence of str
        Line families that show each group.
    families : tuple of str
        Those that the axis can show and the source excites.
    expected : (n_family,) bool array
        Whether the source excites the lines so well that a missing one speaks against the element.
    crowded : (n_group,) bool array
        Whether a group's hard lines are far from excited: soft ones among potassium's and calcium's are left.
    merge : int
        Channels that are merged.
    axis : EnergyAxis
        Of the merged bins.
    lines : Windows
        On the strong, separate lines of the families.
    family : (n_line,) array
        Index of each line's family.
    probes : Windows
        All over the spectrum, where sums of two photons may show.
    areas, squares : (n_bin, n_column) and (n_bin, n_family) arrays
        Turn counts into the areas of families (first), other families and scatter, fitted jointly; and into variances.
    errors : (n_column, n_family) array
        Variance of a family's area that another column of area one brings through its faults of shape.
    others : (n_line, n_column) array
        Counts on a line that a column of area one brings; zero for those of the same element.
    scattered : tuple of (int, Windows, float)
        Groups whose line is the anode's: their place, the line, and how many counts of it are scattered for each that
        lies under it. Both are scattered alike by whatever is there.
    """

    keys: Mapping[str, Sequence[str]]
    families: tuple[str, ...]
    expected: NDArray[np.bool_]
    crowded: NDArray[np.bool_]
    merge: int
    axis: EnergyAxis
    lines: Windows
    family: NDArray[np.intp]
    probes: Windows
    areas: Single
    squares: Single
    errors: Single
    others: Single
    scattered: tuple[tuple[int, Windows, float], ...] = ()

    def __call__(self, counts: NDArray[Any]) -> NDArray[np.bool_]:
        """Return (n, n_group): True where (n, n_channel) counts speak against a group.

        None of its lines is seen and one would be that nothing hides; or its line is the anode's own, scattered.
        """
        result = np.zeros((len(counts), len(self.keys)), bool)
        sound = np.flatnonzero(sound_spectra(counts))
        for first in range(0, sound.size, _AT_ONCE):
            rows = sound[first : first + _AT_ONCE]
            merged = merge_spectra(counts[rows], self.merge, len(self.areas))
            seen, proven, missed = self._judged(merged)
            for column, families in enumerate(self.keys.values()):
                of_group = [self.families.index(family) for family in families if family in self.families]
                crowded = self.crowded[column]
                enough = (proven if crowded else seen)[:, of_group].any(axis=1)
                result[rows, column] = ~enough & (missed[:, of_group].any(axis=1) | crowded)
            for column, windows, ratio in self.scattered:
                net, under = (part[:, 0] for part in windows.net(merged))
                excess = net - MOST_SCATTERED * ratio * under
                result[rows, column] = excess < HIDDEN_SIGMAS * np.sqrt(np.maximum(net + 2.0 * under, 1.0))
        return result

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups that are judged, in the order of the answers."""
        return tuple(self.keys)

    def _judged(self, merged: Single) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.bool_]]:
        """Return (n, n_family): whether a line is seen; is certain; whether one is missing that nothing hides."""
        piled = self._piled_up(merged)
        single = merged - piled
        net, under = self.lines.net(single)
        # the windows beside a line hold about as many counts as lie under it
        variance = np.maximum(net + 2.0 * under, 1.0) + (BACKGROUND_ERROR * under) ** 2
        if piled.any():
            in_pairs = self.lines.net(piled)[0]
            variance += np.abs(in_pairs) + (PILE_UP_ERROR * in_pairs) ** 2
        areas = single @ self.areas
        known = np.maximum(areas, 0.0)
        hidden = known @ self.others.T > EXPLAINED_SHARE * np.maximum(net, np.sqrt(variance))
        peak, certain = (net > sigmas * np.sqrt(variance) for sigmas in (SEEN_SIGMAS, CERTAIN_SIGMAS))
        n_family = len(self.families)
        deviation = np.sqrt(np.maximum(merged @ self.squares + known**2 @ self.errors, 1e-12))
        seen = areas[:, :n_family] > HIDDEN_SIGMAS * deviation
        proven, missed = seen.copy(), np.zeros_like(seen)
        for family in range(n_family):
            of_family = self.family == family
            clear = ~hidden[:, of_family]
            seen[:, family] = np.where(clear.any(axis=1), (clear & peak[:, of_family]).any(axis=1), seen[:, family])
            proven[:, family] |= (clear & certain[:, of_family]).any(axis=1)
            missed[:, family] = (clear & ~peak[:, of_family]).any(axis=1) & self.expected[family]
        return seen, proven, missed

    def _piled_up(self, merged: Single) -> Single:
        """Return at most as many counts of sums of two photons as the spectrum can hold, (n, n_bin)."""
        piled = np.zeros_like(merged)
        total = merged.sum(axis=1)
        for row in np.flatnonzero(total > _LEAST_PILED):
            shape = pile_up_shape(folded(merged[row : row + 1].astype(np.float64)), self.axis)[0].astype(np.float32)[
                None
            ]
            pairs = self.probes.net(shape)[0][0]
            net, under = (part[0] for part in self.probes.net(merged[row : row + 1]))
            deviation = np.sqrt(np.maximum(net + 2.0 * under, 1.0) + (BACKGROUND_ERROR * under) ** 2)
            beside = np.maximum(np.append(pairs[1:], 0.0), np.append(0.0, pairs[:-1]))
            strong = (pairs > _LEAST_PAIRS * pairs.max()) & (pairs > beside)
            if strong.any() and pairs.max() > 0:
                most = np.min((np.maximum(net, 0.0) + _PILED_SIGMAS * deviation)[strong] / pairs[strong])
                piled[row] = min(float(most), MOST_CHANCE * float(total[row])) * shape[0]
        return piled


def line_evidence(
    keys: Mapping[str, Sequence[str]],
    seen: Survey,
    axis: EnergyAxis,
    instrument: Instrument | None = None,
    *,
    voltage_known: bool = False,
) -> LineEvidence:
    """Prepare the evidence from the survey of a scan.

    Parameters
    ----------
    keys : mapping of str to sequence of str
        Line families that show each group, ``Hg_L``.
    seen : Survey
        Sums of the scan's counts.
    axis : EnergyAxis
        Of these counts.
    instrument : Instrument, optional
        As for :func:`fit_elements`.
    voltage_known : bool
        Whether the instrument's voltage, or beam, is known; else the sum spectrum must go on above an edge for its
        lines to be missed.

    Raises
    ------
    CoverageError
        None of the families lies in the recorded range.
    """
    machine = Instrument() if instrument is None else instrument
    families = tuple(dict.fromkeys(family for of_group in keys.values() for family in of_group))
    anode = set() if instrument is None else {template.name for template in scatter_templates(instrument, axis)}
    every = family_templates((*families, *FIXED_CANDIDATES), machine.detector, axis, machine.highest_kev)
    names = list(dict.fromkeys(template.name for template in every if template.name not in anode))
    plan = plan_fit(seen.total, seen.highest, axis, seen.n_pixel, families=names, instrument=instrument)
    judged = tuple(name for name in plan.names if name in families)

    def fwhm(energy_kev: float) -> float:
        return float(resolution_fwhm_kev(energy_kev, plan.detector.noise_fwhm_kev, plan.detector.fano))

    merge = max(int(_MERGED_FWHM * fwhm(_REFERENCE_KEV) / axis.gain_kev), 1)
    weight = merged_weight(plan.weight, merge)
    used = (weight > 0)[:, None]
    bins = EnergyAxis(axis.gain_kev * merge, float(axis.energy_kev[:merge].mean()), len(weight))
    root = np.sqrt(weight)[:, None]
    design = merge_channels(plan.design, merge) * used
    solver = np.linalg.pinv(design * root, rcond=1e-10) * root.T
    faults = [merge_channels(fault, merge) * used for fault in column_faults(plan, axis, instrument)]
    errors = np.stack([np.sum((solver[: len(judged)] @ fault) ** 2, axis=1) for fault in faults])
    errors[np.arange(len(judged)), np.arange(len(judged))] = 0.0
    templates = family_templates(judged, plan.detector, axis, plan.excitation_kev)
    places = [(index, place) for index, template in enumerate(templates) for place in _lines(template, axis, fwhm)]
    family = np.asarray([index for index, _ in places], np.intp)
    lines = _windows([place for _, place in places], bins, fwhm)
    others = lines.on.T @ design[:, : len(faults)].astype(np.float32)
    elements = [name.partition("_")[0] for name in (*plan.names, *plan.scatter)]
    for row, index in enumerate(family):
        others[row, [column for column, element in enumerate(elements) if element == elements[index]]] = 0.0
    probes = [bins.start_kev + 1.0]
    while probes[-1] < bins.stop_kev - 1.0:
        probes.append(probes[-1] + 0.5 * fwhm(probes[-1]))
    excited = partial(_is_excited, total=seen.total, axis=axis, most_kev=plan.excitation_kev if voltage_known else None)
    reached = partial(excited, overvoltage=SOFT_OVERVOLTAGE)
    scattered = []
    for column, of_group in enumerate(keys.values()):
        of_anode = [name for name in of_group if name in anode]
        for template in family_templates(of_anode, plan.detector, axis, plan.excitation_kev):
            windows = _windows(_lines(template, axis, fwhm)[:1], bins, fwhm)
            net, under = windows.net(merge_spectra(seen.tiles, merge, len(weight)))
            scattered.append((column, windows, float(np.min(np.maximum(net, 0.0) / np.maximum(under, 1.0)))))
    areas = solver[: len(faults)].T.astype(np.float32)
    return LineEvidence(
        keys,
        judged,
        np.asarray([excited(name, LEAST_OVERVOLTAGE) for name in judged]),
        np.asarray([len(of_group) > 1 and not all(map(reached, of_group)) for of_group in keys.values()]),
        merge,
        bins,
        lines,
        family,
        _windows(probes, bins, fwhm),
        areas,
        areas[:, : len(judged)] ** 2,
        errors.astype(np.float32),
        others,
        tuple(scattered),
    )


def _is_excited(name: str, overvoltage: float, *, total: Array, axis: EnergyAxis, most_kev: float | None) -> bool:
    """Whether the source reaches a family's absorption edge, times a factor."""
    symbol, shell = name.split("_")
    needed_kev = overvoltage * edge_energy(atomic_number(symbol), SHELLS.index("K" if shell == "K" else f"{shell}3"))
    if most_kev is not None:
        return most_kev > needed_kev
    return bool(total[axis.energy_kev > needed_kev].sum() > _LEAST_SHARE_ABOVE * total.sum())


def _lines(template: Template, axis: EnergyAxis, fwhm: Any) -> list[float]:
    """Return the energies of a family's strong lines, keV, without those that the detector does not separate."""
    share = template.groups.sum(axis=1)
    places: list[float] = []
    for group in template.groups[share >= _STRONG_SHARE * share[0]]:
        place = float(axis.energy_kev[group.argmax()])
        if all(abs(place - other) > fwhm(place) for other in places):
            places.append(place)
    return places


def _windows(places: Sequence[float], bins: EnergyAxis, fwhm: Any) -> Windows:
    """Return the windows on peaks at some energies, keV."""
    on = np.stack([_window(place, _LINE_FWHM * fwhm(place), bins) for place in places], axis=1)
    weights = [on]
    for distance in _DISTANCES_FWHM:
        sides = [
            [_window(place + side * distance * fwhm(place), _BESIDE_FWHM * fwhm(place), bins) for place in places]
            for side in (-1.0, 1.0)
        ]
        beside = np.sum(sides, axis=0).T
        recorded = beside.sum(axis=0)
        # at the ends of the spectrum nothing lies farther out
        weights.append(np.where(recorded > 0, beside * on.sum(axis=0) / np.maximum(recorded, 1e-9), weights[-1]))
    return Windows(csr_array(np.concatenate(weights, axis=1).astype(np.float32)), len(places))


def _window(place_kev: float, half_kev: float, bins: EnergyAxis) -> Array:
    """Return (n_bin,) the share of each bin within a window, at least a bin wide."""
    half = max(half_kev, 0.5 * bins.gain_kev)
    return np.clip((half + 0.5 * bins.gain_kev - np.abs(bins.energy_kev - place_kev)) / bins.gain_kev, 0.0, 1.0)
