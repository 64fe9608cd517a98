"""Diffraction peaks: sharp peaks that one detector of a scan records and the others do not.

A crystal reflects X-rays of one energy into one direction (Bragg); fluorescence is isotropic. So the spectra of two
detectors are compared, after the ratio of their efficiencies, shift and resolution, all smooth over energy and the same
in the whole scan, are taken out. A difference common to all pixels is due to the instrument.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import dask
import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.ndimage import maximum_filter1d
from scipy.special import ndtr, ndtri

from underpaint.data import EnergyAxis, Scan, valid_spectra
from underpaint.data.maps import Results
from underpaint.data.peaks import resolution_fwhm_kev
from underpaint.elements._families import CANDIDATES
from underpaint.physics.atomic import family_lines
from underpaint.units import FWHM_PER_SIGMA

Array = NDArray[Any]
Single = NDArray[np.float32]

FALSE_PEAKS = 0.01
"""Peaks in a scan without any that chance may bring; it sets how many sigma are needed."""
MIN_SIGMAS = 5.0
MIN_PIXELS = 30
"""Minimum number of spectra to distinguish pixels from the scan."""
MAX_SHARE, MIN_DIFFERING = 0.01, 3
"""Share of the spectra that differ at one energy from which it is no crystals, but paint that absorbs a buried
element's lines more on the way to one detector than to the other; and that many spectra at least."""
RATIO_ERROR = 0.1
"""Minimum error of a line's ratio between detectors, whose paths through the paint differ; increased where the scan
requires it."""
MIN_EXCESS = 0.75
"""Minimum ratio of a peak in one detector to the one expected from the others."""
COUNTS_ERROR = 0.01
"""Relative error of the linear background under a peak."""
INSTRUMENT_RATIO, MIN_PROMINENCE = 1.5, 0.2
"""Minimum ratio of a peak in the sum spectrum to the expected one, and of its excess to the counts, to be reported."""
_RATIO_ERRORS = (0.1, 0.14, 0.2, 0.28, 0.4, 0.6, 0.9)
_SAMPLE_BYTES, _SAMPLE_PIXELS = 64 * 2**20, 4096
_LOWEST_KEV, _REFERENCE_KEV = 2.0, 5.9
_MERGED_FWHM, _STEP_FWHM, _REACH_FWHM, _BASE_FWHM = 0.25, 0.4, 1.6, 0.25
_KNOT_STEP = 0.2
_MISFIT = 0.03
_EFFICIENCY_PRIOR = np.array([1.0, 1.0, 0.5, 0.3, 3.0])
"""Usual size of the terms of :func:`_efficiency`."""
_N_COMPONENTS, _PRIOR_RATIO = 6, 0.3
_N_ROUNDS = 6
_CLIP_SIGMAS = 4.0
_STRONG_SHARE, _USUAL_STRONG, _USUAL = 0.05, 1.8, 5.1
"""Squared sigmas that a quarter of the pixels with the strongest peaks, and a twentieth of all, may exceed: those of
normal errors, 1.3 and 3.8, and a third more."""
_MAX_LISTED = 6


@dataclass(frozen=True)
class Comparison:
    """Matrices that turn the spectra of one detector, and the sum of the others, into peaks of that detector alone.

    Parameters
    ----------
    spectrum, rest : (n_merged, n_probe) arrays
        Peak area at each energy per count of either, on the detector's scale.
    share : (n_merged,) array
        Counts of peaks of the detector expected for one of the others.
    level : float
        All counts of the scan over those expected so.
    window : (n_merged, n_probe) array
        One within half a FWHM of each energy.
    components : (n_merged, n_component) array
        Principal components of the spectra of the others, for scores of unit variance.
    offsets : (n_component,) array
        Added to the scores: their mean is zero.
    usual : (3 + n_component, n_probe) array
        Difference in the scan: constant, per count, per count of the peak, and the same per score.
    ratio_error : (n_probe,) array
        Error of the ratio of peaks.
    scale : (n_probe,) array
        Factor of the deviations over counting statistics and ``ratio_error``.
    """

    spectrum: Single
    rest: Single
    share: Single
    level: float
    window: Single
    components: Single
    offsets: Array
    usual: Array
    ratio_error: Array
    scale: Array

    def measured(self, single: Array, rest: Array) -> tuple[Array, Array, Array, Array]:
        """Return (n, n_probe) excess, its variance, the peak expected, and (n, 1) expected counts, of merged counts."""
        expected = rest @ self.share
        total = self.relative(single.sum(axis=1), expected)
        peak = total * (rest @ self.rest)
        variance = single @ self.spectrum**2 + total**2 * (rest @ self.rest**2) + 1.0
        variance += (COUNTS_ERROR * (single @ self.window)) ** 2
        excess = single @ self.spectrum - peak
        return excess, variance, peak, total * expected[:, None]

    def relative(self, counts: Single, expected: Single) -> Single:
        """Return (n, 1) ratio of a pixel's counts to the expected ones, normalised to the scan: relief, shadow."""
        return np.asarray(np.clip(counts / np.maximum(self.level * expected, 1.0), 0.2, 5.0)[:, None])

    def terms(self, rest: Single, peak: Array, expected: Array) -> Array:
        """Return the (n_term, n, n_probe) terms of the usual difference.

        A ratio depends on the paint: deep layers are absorbed on paths of different lengths.
        """
        scores = (rest / np.maximum(rest.sum(axis=1, keepdims=True), 1.0)) @ self.components + self.offsets
        flat = np.ones_like(peak), np.broadcast_to(expected, peak.shape)
        return np.stack([*flat, peak, *(peak * np.clip(score, -4.0, 4.0)[:, None] for score in scores.T)])

    def sigmas(self, single: Single, rest: Single) -> Array:
        """Return (n, n_probe) standard deviations by which a detector's peaks exceed those of the others.

        Zero where the others have most of the peak as well: an element with an unusual ratio.
        """
        excess, variance, peak, expected = self.measured(single, rest)
        excess = excess - np.einsum("anp,ap->np", self.terms(rest, peak, expected), self.usual)
        sigma = self.scale * np.sqrt(variance + (self.ratio_error * _highest(peak)) ** 2)
        return np.where(excess > MIN_EXCESS * peak, excess / sigma, 0.0)


@dataclass(frozen=True)
class Diffraction:
    """The comparison of the detectors of a scan, ready for the counts of any block; it travels to the workers.

    Parameters
    ----------
    detectors : tuple of str
        Their names.
    energy_kev : (n_probe,) array
        Energies of the peaks, keV.
    fwhm_kev : (n_probe,) array
        Width of a peak there.
    channels : (n_probe, 2) int array
        First channel of a peak, and the one after the last.
    merge : int
        Channels that are merged.
    comparisons : tuple of Comparison
        One a detector.
    threshold : float
        Sigmas from which a peak is one.
    notes : tuple of str
        Differences in the sum spectra.
    """

    detectors: tuple[str, ...]
    energy_kev: Array
    fwhm_kev: Array
    channels: NDArray[np.intp]
    merge: int
    comparisons: tuple[Comparison, ...]
    threshold: float
    notes: tuple[str, ...] = ()

    @property
    def keys(self) -> tuple[str, ...]:
        """Names of the maps, one a detector."""
        return tuple(f"detector_{number}" for number in range(1, len(self.detectors) + 1))

    def __call__(
        self, detectors: Sequence[NDArray[Any]], present: NDArray[np.bool_] | None = None
    ) -> tuple[Single, Single, NDArray[np.bool_]]:
        """Find peaks that occur in one detector only.

        Parameters
        ----------
        detectors : sequence of (n_row, n_column, n_channel) arrays
            Counts of each.
        present : (n_row, n_column) bool array or None
            Mask of present spectra.

        Returns
        -------
        maps : (n_row, n_column, n_detector, 2) array
            Strongest peak in each detector alone: sigmas, and energy, keV. NaN without a spectrum.
        clean : (n, n_channel) array
            Summed counts of the pixels with such a peak, which is replaced by that of the other detectors.
        candidates : (n_row, n_column) bool array
            These pixels.
        """
        shape = detectors[0].shape[:2]
        flat = [array.reshape(-1, array.shape[-1]) for array in detectors]
        maps = np.full((len(flat[0]), len(flat), 2), np.nan, np.float32)
        valid = np.logical_and.reduce([valid_spectra(array) for array in flat])
        if present is not None:
            valid &= present.ravel()
        merged = [_merged(array[valid], self.merge, len(self.comparisons[0].share)) for array in flat]
        total = np.sum(merged, axis=0)
        every = [
            comparison.sigmas(single, total - single)
            for comparison, single in zip(self.comparisons, merged, strict=True)
        ]
        for number, sigmas in enumerate(every):
            best = sigmas.argmax(axis=1)
            maps[valid, number, 0] = sigmas[np.arange(len(best)), best]
            maps[valid, number, 1] = self.energy_kev[best]
        candidates = np.nan_to_num(maps[:, :, 0]).max(axis=1) > self.threshold
        parts = [array[candidates].astype(np.float32) for array in flat]
        summed = np.sum(parts, axis=0)
        clean = summed.copy()
        for sigmas, single, comparison in zip(every, parts, self.comparisons, strict=True):
            rest = summed - single
            share = np.repeat(comparison.share, self.merge)
            share = np.pad(share, (0, max(summed.shape[1] - share.size, 0)), mode="edge")[: summed.shape[1]]
            expected = rest * share
            expected *= comparison.relative(single.sum(axis=1), expected.sum(axis=1))
            replaced = self._windows(sigmas[candidates[valid]] > MIN_SIGMAS, summed.shape[1])
            clean += np.where(replaced, expected - single, 0.0)
        return maps.reshape(*shape, len(flat), 2), clean, candidates.reshape(shape)

    def _windows(self, peaks: NDArray[np.bool_], n_channel: int) -> NDArray[np.bool_]:
        """Return (n, n_channel) the channels of (n, n_probe) peaks."""
        inside = np.zeros((len(peaks), n_channel), bool)
        for probe in np.flatnonzero(peaks.any(axis=0)):
            first, stop = self.channels[probe]
            inside[peaks[:, probe], first:stop] = True
        return inside

    def results(self, maps: Single, step_mm: tuple[float, float] | None) -> Results:
        """Return (n_row, n_column, n_detector, 2) sigmas and energies as results."""
        settings = {"detectors": list(self.detectors), "threshold_sigmas": self.threshold}
        facts: dict[str, Any] = {"step_mm": step_mm, "notes": self.notes, "settings": settings}
        return Results.of_diffraction(self.keys, maps[..., 0], maps[..., 1], **facts)

    def findings(self, results: Results) -> tuple[str, ...]:
        """Return texts on the diffraction in results, the most frequent first."""
        groups: list[tuple[int, str]] = []
        for key, name in zip(self.keys, self.detectors, strict=True):
            sigmas, energy = results.map("diffraction", key), results.map("diffraction_kev", key)
            rows, columns = np.nonzero(np.nan_to_num(sigmas) > self.threshold)
            order = np.argsort(energy[rows, columns])
            rows, columns = rows[order], columns[order]
            values = energy[rows, columns]
            while values.size:
                near = values <= values[0] + float(np.interp(values[0], self.energy_kev, self.fwhm_kev))
                groups.append((int(near.sum()), self._finding(name, sigmas, values[near], rows[near], columns[near])))
                rows, columns, values = rows[~near], columns[~near], values[~near]
        groups.sort(key=lambda group: -group[0])
        rest = groups[_MAX_LISTED:]
        more = (
            f"diffraction at {len(rest)} more energies, in {sum(n for n, _ in rest)} pixels: see the maps of "
            "diffraction in results.h5."
        )
        return (*(text for _, text in groups[:_MAX_LISTED]), *((more,) if rest else ()))

    def _finding(
        self, name: str, sigmas: Single, energy: Array, rows: NDArray[np.intp], columns: NDArray[np.intp]
    ) -> str:
        best = int(sigmas[rows, columns].argmax())
        middle = float(energy[best])
        n_pixel = "1 pixel" if len(rows) == 1 else f"{len(rows)} pixels"
        family = _family_at(middle, float(np.interp(middle, self.energy_kev, self.fwhm_kev)))
        return (
            f"diffraction, no element: detector {name} alone has a sharp peak at {middle:.2f} keV in {n_pixel} "
            f"(clearest at row {rows[best]}, column {columns[best]}: {sigmas[rows[best], columns[best]]:.0f} sigma)"
            + (f"; it would be mistaken for {family}" if family else "")
            + ". Areas there are those of the other detectors, with their sigmas increased by the difference."
        )


def plan_diffraction(scan: Scan, axis: EnergyAxis, noise_fwhm_kev: float, fano: float) -> Diffraction | None:
    """Prepare the comparison of a scan's detectors; None for a single detector, or if they cannot be compared.

    Parameters
    ----------
    scan : Scan
        As from :func:`underpaint.load`, with its detectors.
    axis : EnergyAxis
        Of the scan's channels.
    noise_fwhm_kev, fano : float
        Resolution of the sum: electronic noise, keV, and Fano factor.

    Raises
    ------
    ScanError
        A block cannot be read.
    """
    if len(scan.detectors) < 2:
        return None
    resolution = partial(resolution_fwhm_kev, noise_fwhm_kev=noise_fwhm_kev, fano=fano)
    fwhm = resolution(_REFERENCE_KEV)
    merge = max(int(_MERGED_FWHM * float(fwhm) / axis.gain_kev), 1)
    n_merged = axis.n_channel // merge
    samples, totals = _sampled(scan, merge, n_merged)
    if len(samples[0]) < MIN_PIXELS or min(spectrum.sum() for spectrum in totals) <= 0:
        return None
    grid = EnergyAxis(axis.gain_kev * merge, axis.zero_kev + 0.5 * (merge - 1) * axis.gain_kev, n_merged)
    energy, width = _probes(grid, resolution, np.min(totals, axis=0))
    if not energy.size:
        return None
    names = tuple(detector.detector or str(number) for number, detector in enumerate(scan.detectors, 1))
    n_trial = scan.n_pixel * energy.size * len(names)
    threshold = max(float(-ndtri(FALSE_PEAKS / n_trial)), MIN_SIGMAS)
    comparisons, notes = [], []
    for name, sample, total in zip(names, samples, totals, strict=True):
        rest_total = np.sum(totals, axis=0) - total
        rest = np.sum(samples, axis=0) - sample
        comparison = _comparison(sample, rest, total, rest_total, grid, energy, width)
        comparisons.append(comparison)
        notes += _whole_scan(name, comparison, total, rest_total, energy, width)
        number = maximum_filter1d((comparison.sigmas(sample, rest) > threshold).sum(axis=0), 5)
        paint = number > max(MAX_SHARE * len(sample), MIN_DIFFERING)
        comparisons[-1] = replace(comparison, scale=np.where(paint, np.inf, comparison.scale))
        notes += _paint_note(name, energy[paint & (number == maximum_filter1d(number, 9))])
    away = energy[:, None] + 0.8 * width[:, None] * np.array([-1.0, 1.0]) - axis.zero_kev
    channels = np.clip(np.rint(away / axis.gain_kev), 0, axis.n_channel).astype(np.intp) + np.array([0, 1])
    return Diffraction(names, energy, width, channels, merge, tuple(comparisons), threshold, tuple(notes))


def _merged(counts: NDArray[Any], merge: int, n_merged: int) -> Single:
    """Add up neighbouring channels of (n, n_channel) counts; a remainder at the end is dropped."""
    merged = np.zeros((len(counts), n_merged), np.float32)
    for offset in range(merge):
        merged += counts[:, offset : offset + n_merged * merge : merge]
    return merged


def _sampled(scan: Scan, merge: int, n_merged: int) -> tuple[list[Single], list[Array]]:
    """Return merged spectra of the same pixels in each detector, and the sums over all pixels that were read."""
    blocks = list(scan.blocks())
    n_bytes = sum(detector.counts.nbytes for detector in scan.detectors)
    n_sampled = min(max(int(len(blocks) * _SAMPLE_BYTES / n_bytes), 1), len(blocks))
    rng = np.random.default_rng(0)
    samples: list[list[Single]] = [[] for _ in scan.detectors]
    totals = [np.zeros(n_merged) for _ in scan.detectors]
    for index in np.unique(np.linspace(0, len(blocks) - 1, n_sampled).astype(int)):
        block = blocks[index]
        parts = dask.compute(*(detector.counts[block] for detector in scan.detectors), scheduler=dask.get)
        flat = [np.asarray(part).reshape(-1, part.shape[-1]) for part in parts]
        valid = np.logical_and.reduce([valid_spectra(spectra) for spectra in flat])
        if scan.present is not None:
            valid &= scan.present[block].ravel()
        rows = np.flatnonzero(valid)
        picked = rng.permutation(len(rows))[: -(-_SAMPLE_PIXELS // n_sampled)]
        for number, spectra in enumerate(flat):
            merged = _merged(spectra[rows], merge, n_merged)
            totals[number] += merged.sum(axis=0, dtype=np.float64)
            samples[number].append(merged[picked])
    return [np.concatenate(sample) for sample in samples], totals


def _probes(grid: EnergyAxis, resolution: Callable[[float], Any], total: Array) -> tuple[Array, Array]:
    """Return energies at which peaks are looked for, and the FWHM there, keV."""
    filled = np.flatnonzero(total > 0)
    if not filled.size:
        return np.zeros(0), np.zeros(0)
    energies: list[float] = []
    widths: list[float] = []
    energy, stop = max(_LOWEST_KEV, float(grid.energy_kev[filled[0]])), float(grid.energy_kev[filled[-1]])
    while True:
        width = float(resolution(energy))
        if not energies:
            energy += _REACH_FWHM * width
        if energy + _REACH_FWHM * width > stop:
            return np.asarray(energies), np.asarray(widths)
        energies.append(energy)
        widths.append(width)
        energy += _STEP_FWHM * width


def _comparison(
    sample: Single, rest: Single, total: Array, rest_total: Array, grid: EnergyAxis, energy: Array, width: Array
) -> Comparison:
    """Prepare the comparison of one detector with the others."""
    peaks, window = _filters(grid, energy, width)
    spread_this, spread_others, share = _mapping(total, rest_total, grid, energy, width, peaks)
    single = (spread_this @ peaks).astype(np.float32)
    of_others = (spread_others @ (share[:, None] * peaks)).astype(np.float32)
    components, offsets = _components(rest)
    zero, unit = np.zeros((3 + len(offsets), energy.size)), np.ones(energy.size)
    share = (spread_others @ share).astype(np.float32)
    level = float(total.sum() / (rest_total @ share))
    plain = Comparison(
        single, of_others, share, level, window.astype(np.float32), components, offsets, zero, 0 * unit, unit
    )
    excess, variance, peak, expected = plain.measured(sample, rest)
    highest = _highest(peak)
    usual, error, scale = zero, np.full(energy.size, RATIO_ERROR), unit
    terms = plain.terms(rest, peak, expected)
    left = excess - np.median(excess, axis=0)
    for _ in range(4):
        sigma = np.sqrt(variance + (error * highest) ** 2)
        z = np.abs(left / sigma)
        spread = np.maximum(np.median(z, axis=0) / ndtri(0.75), 1.0)
        weight = (z < _CLIP_SIGMAS * spread) / sigma**2
        usual = _regressed(excess, terms, weight)
        left = excess - np.einsum("anp,ap->np", terms, usual)
        error = _ratio_errors(left, variance, highest)
    sigma = np.sqrt(variance + (error * highest) ** 2)
    scale = np.maximum(np.median(np.abs(left / sigma), axis=0) / ndtri(0.75), 1.0)
    return replace(plain, usual=usual, ratio_error=error, scale=scale)


def _components(rest: Single) -> tuple[Single, Array]:
    """Return the principal components of (n, n_merged) spectra and the offsets of their scores."""
    share = rest / np.maximum(rest.sum(axis=1, keepdims=True), 1.0)
    mean = share.mean(axis=0, dtype=np.float64)
    root = np.sqrt(mean + 1e-3 * mean.max())  # counting noise is even then
    _, size, vectors = np.linalg.svd((share - mean) / root, full_matrices=False)
    selected = slice(0, min(_N_COMPONENTS, len(rest) // 20))
    components = (vectors[selected] / root).T / np.maximum(size[selected] / np.sqrt(len(rest)), 1e-12)
    return components.astype(np.float32), -mean @ components


def _regressed(excess: Array, terms: Array, weight: Array) -> Array:
    """Return the (n_term, n_probe) coefficients of (n_term, n, n_probe) terms; near zero if undetermined."""
    length = np.sqrt(np.maximum((terms**2 * weight).sum(axis=1), 1e-30))
    scaled = terms / length[:, None]
    normal = np.einsum("anp,bnp,np->pab", scaled, scaled, weight, optimize=True)
    # a ratio is right but for about this beforehand
    prior = 1.0 / (_PRIOR_RATIO * length) ** 2
    prior[:2] = 1e-3
    each = np.arange(len(terms))
    normal[:, each, each] += prior.T
    target = np.einsum("anp,np,np->pa", scaled, excess, weight, optimize=True)
    return np.asarray(np.linalg.solve(normal, target[..., None])[..., 0].T / length)


def _ratio_errors(left: Array, variance: Array, highest: Array) -> Array:
    """Return the (n_probe,) smallest errors of the ratio that explain the residuals of the strongest peaks.

    These pixels are selected by the other detectors, so that diffraction does not bias the selection.
    """
    result = np.full(left.shape[1], RATIO_ERROR)
    n_strong = max(MIN_PIXELS, round(_STRONG_SHARE * len(left)))
    for probe in range(left.shape[1]):
        strong = np.argsort(-highest[:, probe])[:n_strong]
        for error in _RATIO_ERRORS:
            result[probe] = error
            z = left[:, probe] / np.sqrt(variance[:, probe] + (error * highest[:, probe]) ** 2)
            if np.quantile(z[strong] ** 2, 0.75) < _USUAL_STRONG and np.quantile(z**2, 0.95) < _USUAL:
                break
    return np.asarray(maximum_filter1d(result, 3))


def _highest(peak: Array) -> Array:
    """Return the strongest peak around each energy: on its flanks a fault of shape is of its size."""
    return np.asarray(maximum_filter1d(np.abs(peak), 5, axis=1))


def _filters(grid: EnergyAxis, energy: Array, width: Array) -> tuple[Array, Array]:
    """Return (n_merged, n_probe) weights of counts for the area of a peak over a straight line; and windows."""
    away = grid.energy_kev[:, None] - energy
    sigma = width * np.hypot(1.0, _BASE_FWHM) / FWHM_PER_SIGMA
    shape = np.exp(-0.5 * (away / sigma) ** 2)
    peaks = np.zeros_like(away)
    for probe, reach in enumerate(_REACH_FWHM * width):
        inside = np.abs(away[:, probe]) <= reach
        columns = np.stack([shape[inside, probe], np.ones(inside.sum()), away[inside, probe]], axis=1)
        columns[:, 0] /= shape[:, probe].sum()
        peaks[inside, probe] = np.linalg.pinv(columns)[0]
    return peaks, np.abs(away) < 0.5 * width


def _mapping(
    total: Array, rest: Array, grid: EnergyAxis, energy: Array, width: Array, peaks: Array
) -> tuple[Array, Array, Array]:
    """Find shift, difference of resolution, and ratio between a detector and the others, from sum spectra.

    Returns
    -------
    this, rest : (n_merged, n_merged) arrays
        Matrices that transform the counts of either to a common position and resolution; rows are recorded channels.
    ratio : (n_merged,) array
        Counts of the detector for one of the others.
    """
    centre = grid.energy_kev
    fwhm = np.interp(centre, energy, width)
    base = (_BASE_FWHM * fwhm / FWHM_PER_SIGMA) ** 2
    used = (centre > _LOWEST_KEV) & (centre < energy[-1] + _REACH_FWHM * width[-1])
    slope = np.stack([np.ones_like(centre), (centre - centre.mean()) / centre.std()])
    knots = _splines(centre)
    shift, variance = np.zeros_like(centre), np.zeros_like(centre)
    ratio = np.full(centre.size, total.sum() / rest.sum())
    for _ in range(_N_ROUNDS):
        spread_this = _spread(grid, np.zeros_like(centre), base + np.maximum(-variance, 0.0))
        spread_others = _spread(grid, shift, base + np.maximum(variance, 0.0))
        target, reference = total @ spread_this, rest @ spread_others
        first = np.gradient(reference, centre)
        second = np.gradient(first, centre)
        columns = np.concatenate([knots * reference, -slope * first * ratio, 0.5 * slope * second * ratio])
        deviation = np.sqrt(target + ratio**2 * reference + (_MISFIT * target) ** 2 + 1.0)
        weight = used / deviation
        for _ in range(5):
            scaled = (columns * weight).T
            size = np.maximum(np.linalg.norm(scaled, axis=0), 1e-30)
            solution = np.linalg.lstsq(scaled / size, target * weight, rcond=1e-8)[0] / size
            misfit = (target - solution @ columns) / deviation
            # an element of the instrument, or a Compton peak elsewhere, must not pull
            weight = used / deviation / (1.0 + (misfit / 2.0) ** 2)
        n_knot = len(knots)
        ratio = np.maximum(solution[:n_knot] @ knots, 1e-3 * ratio.mean())
        most = 0.25 * fwhm
        shift = shift + np.clip(solution[n_knot : n_knot + 2] @ slope, -most, most)
        variance = np.clip(variance + np.clip(solution[n_knot + 2 :] @ slope, -(most**2), most**2), -base * 9, base * 9)
    return (
        spread_this,
        spread_others,
        _ratio_of_peaks(total @ spread_this, rest @ spread_others, centre, energy, peaks),
    )


def _ratio_of_peaks(target: Array, reference: Array, centre: Array, energy: Array, peaks: Array) -> Array:
    """Return the (n_merged,) ratio of peaks, which is not that of all counts: scatter goes into other directions.

    Air, windows and dead layers absorb with the third power of the wavelength; other factors vary slowly.
    """
    measured, reference_counts = np.maximum(target @ peaks, 0.0), np.maximum(reference @ peaks, 0.0)
    error = [
        np.sqrt(counts @ peaks**2 + 1.0) / np.maximum(area, 1.0)
        for counts, area in ((target, measured), (reference, reference_counts))
    ]
    product = measured * reference_counts
    clear = np.flatnonzero((product == maximum_filter1d(product, 5)) & (np.maximum(*error) < 1.0 / MIN_SIGMAS))
    if not clear.size:
        return np.full(centre.size, target.sum() / reference.sum())
    value = np.log(measured[clear] / reference_counts[clear])
    deviation = np.sqrt(_MISFIT**2 + error[0][clear] ** 2 + error[1][clear] ** 2)
    middle = float(np.median(value))
    columns, misfit = _efficiency(energy[clear]), (value - middle) / deviation
    solution = np.zeros(len(_EFFICIENCY_PRIOR))
    for _ in range(4 * _N_ROUNDS):
        # absolute deviations are least: an element of the instrument, or a Compton peak, does not pull
        weight = 1.0 / (deviation * np.sqrt(np.maximum(np.abs(misfit), 1.0)))
        design = np.concatenate([columns * weight[:, None], np.diag(1.0 / _EFFICIENCY_PRIOR)])
        target_values = np.append((value - middle) * weight, np.zeros(len(_EFFICIENCY_PRIOR)))
        solution = np.linalg.lstsq(design, target_values, rcond=None)[0]
        misfit = (value - middle - columns @ solution) / deviation
    low, high = energy[clear][[0, -1]]
    return np.exp(middle + _efficiency(np.clip(centre, 0.9 * low, 1.1 * high)) @ solution)


def _efficiency(energy: Array) -> Array:
    """Return the (n, n_term) terms of the logarithm of a ratio of efficiencies."""
    place = np.log(energy / 8.0)
    return np.stack([np.ones_like(energy), place, place**2, place**3, (2.0 / energy) ** 3], axis=-1)


def _splines(energy: Array) -> Array:
    """Return (n_knot, n) quadratic splines, even in the logarithm of energy: air and windows act on soft X-rays."""
    place = np.log(np.maximum(energy, 0.5 * _LOWEST_KEV))
    low, high = float(place[0]), float(place[-1]) + 1e-9
    n_piece = max(round((high - low) / _KNOT_STEP), 1)
    padded = np.concatenate([[low] * 2, np.linspace(low, high, n_piece + 1), [high] * 2])
    return np.asarray(BSpline.design_matrix(place, padded, 2).toarray().T)


def _spread(grid: EnergyAxis, shift: Array, variance: Array) -> Array:
    """Return (n, n) shares of each channel's counts that a shift and a widening bring into every channel."""
    away = grid.edges_kev - (grid.energy_kev + shift)[:, None]
    return np.asarray(np.diff(ndtr(away / np.sqrt(np.maximum(variance, 1e-9))[:, None]), axis=1))


def _family_at(energy_kev: float, fwhm_kev: float) -> str:
    """Return the family with the nearest strong line within half a FWHM; "" for none."""
    best, nearest = "", 0.5 * fwhm_kev
    for family in CANDIDATES:
        symbol, _, shell = family.partition("_")
        lines, rate = family_lines(symbol, shell, 60.0)
        strong = lines[rate > 0.3 * rate.max(initial=0.0)]
        away = float(np.abs(strong - energy_kev).min(initial=np.inf))
        if away < nearest:
            best, nearest = family, away
    return best.replace("_", " ")


def _paint_note(name: str, energies: Array) -> list[str]:
    if not energies.size:
        return []
    listed = ", ".join(f"{energy:.1f}" for energy in dict.fromkeys(np.round(energies, 1)))
    return [
        f"detector {name} has peaks at {listed} keV that the others lack, in too many pixels for crystals: paint "
        "absorbs them less on the way to it. They count as elements."
    ]


def _whole_scan(
    name: str, comparison: Comparison, total: Array, rest: Array, energy: Array, fwhm_kev: Array
) -> list[str]:
    """Return texts on peaks that are stronger in one detector in the sum spectra."""
    excess, variance, peak, _ = (part[0] for part in comparison.measured(total[None], rest[None]))
    deviation = np.hypot(RATIO_ERROR * _highest(peak[None])[0], np.sqrt(variance))
    shown = excess + peak
    top = (shown == maximum_filter1d(shown, 5)) & (excess > MIN_SIGMAS * deviation)
    top &= (excess > MIN_PROMINENCE * (total @ comparison.window)) & (shown > INSTRUMENT_RATIO * peak)
    notes = []
    for probe in np.flatnonzero(top):
        family = _family_at(float(energy[probe]), float(fwhm_kev[probe]))
        times = "a peak" if peak[probe] < 0.1 * shown[probe] else f"{shown[probe] / peak[probe]:.1f} times the peak"
        notes.append(
            f"differs between the detectors in the whole scan: detector {name} has {times} at {energy[probe]:.2f} keV "
            f"{f'({family}) ' if family else ''}that the others lead to expect: the instrument (a part that "
            "fluoresces, scatter at another angle), not the sample."
        )
    return notes
