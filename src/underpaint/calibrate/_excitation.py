"""A monochromatic beam, recognised from the peak that ends the sum spectrum: elastic scatter with Compton scatter."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import islice, product

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.special import ndtr

from underpaint.calibrate._peaks import prominent_maxima
from underpaint.data import EnergyAxis
from underpaint.data.background import snip
from underpaint.data.pile_up import MAX_CHANCE, pile_up_shape, self_convolution
from underpaint.physics.atomic import SHELLS, atomic_number, compton_energy, edge_energy, family_lines, symbol
from underpaint.units import FWHM_PER_SIGMA

Array = NDArray[np.float64]

_RANGE_KEV = (5.0, 120.0)
_MIN_COUNTS = 100.0
_MAX_CANDIDATES = 12
_ANGLES_DEG = np.arange(50.0, 176.0, 10.0)
_SPREADS_PER_KEV = (0.003, 0.007, 0.0105, 0.014)
"""Of the Compton peak by the motion of the electrons, one standard deviation per keV: next to none, or light atoms'."""
_MODEL_ERROR = 0.05
_MIN_GAIN = 40.0
"""Drop of chi squared that the Compton peak brings."""
_MIN_ELASTIC = 0.003
_MAX_ON_FLANK, _MAX_ABOVE = 0.3, 0.05
"""Level one FWHM above the elastic peak's centre, and beyond, over its height: a tube's continuum ends less steeply."""
_MAX_ABOVE_IN_ALL, _MAX_PILE_UP = 0.35, 0.03
"""Counts above the elastic peak over those of the scatter, or over all: sums of two photons."""
_STRONGER_TOGETHER, _ABOVE_TOGETHER = {"K": 0.08, "L": 0.3}, 0.3
"""Net counts of a family's stronger lines, and of those above, over those that its line announces, at least.

A filter of the anode's metal absorbs more of K-alpha than of K-beta.
"""
_UNRESOLVED_FWHM = 1.2
"""Compton shift, FWHM, up to which elastic and Compton peak are one."""
_STEP_FWHM, _AT_PEAK_FWHM = 0.125, 0.2
_PILE_UP_FACTOR, _MAX_CHANCE = 4.0, 0.1
"""Tolerance for sum peaks expected elsewhere, and the largest pile-up probability."""
_SAME_BEAM = 0.03
"""Share by which two values of a beam's energy may differ."""
_NEVER_THERE = (43, 61, *range(84, 90), 91)
"""Elements that occur in no sample and no anode."""


@dataclass(frozen=True)
class Beam:
    """A monochromatic beam.

    Parameters
    ----------
    energy_kev : float
        Energy of the elastic peak, keV.
    scatter_angle_deg : float or None
        Scattering angle, degree; None if the Compton peak does not determine it.
    """

    energy_kev: float
    scatter_angle_deg: float | None = None


@dataclass(frozen=True)
class _Spectrum:
    counts: Array
    axis: EnergyAxis
    fwhm: Array
    net: Array
    pile_up: tuple[Array, Array]

    def at(self, values: Array, low_kev: float, high_kev: float) -> Array:
        """Return the values between two energies."""
        energy = self.axis.energy_kev
        return values[(energy >= low_kev) & (energy < high_kev)]

    def fwhm_kev(self, energy_kev: float) -> float:
        return float(np.interp(energy_kev, self.axis.energy_kev, self.fwhm))

    def line(self, energy_kev: float) -> tuple[float, float]:
        """Net counts of a peak at an energy, and one standard deviation."""
        half = 0.6 * self.fwhm_kev(energy_kev)
        low, high = energy_kev - half, energy_kev + half
        return float(self.at(self.net, low, high).sum()), float(np.sqrt(self.at(self.counts, low, high).sum() + 1.0))


def find_beam(counts: Array, axis: EnergyAxis, fwhm_kev: Array) -> Beam | None:
    """Return the monochromatic beam that excited a sum spectrum; None for a tube, or if undetermined.

    Parameters
    ----------
    counts : (n_channel,) array
        Sum spectrum, counts.
    axis : EnergyAxis
        Its energy axis.
    fwhm_kev : (n_channel,) array
        Width of a peak along the axis, keV FWHM.

    Returns
    -------
    Beam or None

    Notes
    -----
    The elastic peak is the highest one that is not a sum peak. It is that of a beam if there is a Compton peak below
    and almost nothing above, and if it is not a line of an element or an anode, which would come with the other lines
    of its family in proportion.

    A tube must not be mistaken for a beam, so None is also returned where the spectrum does not distinguish them: the
    elastic and Compton peaks have less than 100 counts, or the Compton peak lowers chi squared by less than 40; the
    elastic peak is a shoulder of a line of the sample (of a copper plate, 97 % fluorescence, at 9.0 keV) or has less
    than four times the counts of a sum peak there (of copper, at 16.0 keV); or it is within 0.3 FWHM of a line of an
    element whose strongest line coincides with that of another (at 12.67 keV, lead's L-beta, where arsenic's K-alpha
    coincides with lead's L-alpha). So 6 of 250 simulated beams of 8 to 40 keV are not recognised; of 290 simulated
    tubes none is taken for a beam.
    """
    if counts.sum() < _MIN_COUNTS:
        return None
    width = np.maximum(fwhm_kev / axis.gain_kev, 2.0)
    net = np.maximum(counts - snip(counts, width, window_per_fwhm=2.5), 0.0)
    pile_up = pile_up_shape(self_convolution(counts[None]), axis)
    spectrum = _Spectrum(counts, axis, np.asarray(fwhm_kev), net, pile_up)
    for energy_kev in _candidates(spectrum):
        beam = _beam_at(spectrum, energy_kev)
        if beam is not None:
            return beam
    return None


def beam_contradiction(energy_kev: float, shown: Beam | None, families: Sequence[str], anode: str | None) -> str:
    """Return what in a spectrum contradicts a monochromatic beam of some energy; "" if nothing.

    Parameters
    ----------
    energy_kev : float
        Energy of the beam, keV.
    shown : Beam or None
        Result of :func:`find_beam`.
    families : sequence of str
        Line families in the spectrum, ``Pb_L``: a beam excites those whose lowest edge is below its energy.
    anode : str or None
        Element of a tube's anode whose scattered K lines are in the spectrum.
    """
    if shown is not None and abs(shown.energy_kev - energy_kev) > _SAME_BEAM * energy_kev:
        return f"they show a monochromatic beam of {shown.energy_kev:.1f} keV"
    if anode is not None:
        line_kev = float(family_lines(anode, "K", edge_energy(atomic_number(anode), 0) + 1.0)[0].min())
        if line_kev > (1.0 + _SAME_BEAM) * energy_kev:
            return f"they contain the scattered lines of a tube's anode, {anode} K at {line_kev:.1f} keV"
    beyond = []
    for family in families:
        element, _, shell = family.partition("_")
        number = atomic_number(element)
        edge_kev = min(edge_energy(number, index) for index, name in enumerate(SHELLS) if name.startswith(shell))
        if edge_kev > (1.0 + _SAME_BEAM) * energy_kev:
            beyond.append(f"{element} {shell} (edge at {edge_kev:.2f} keV)")
    return f"they contain lines that it cannot excite, of {', '.join(beyond)}" if beyond else ""


def _candidates(spectrum: _Spectrum) -> list[float]:
    """Energies of the peaks with enough counts, little above them, that are no sums of two; the highest first."""
    energy = spectrum.axis.energy_kev
    sigma = max(0.3 * float(np.median(spectrum.fwhm)) / spectrum.axis.gain_kev, 0.5)
    smooth = gaussian_filter1d(spectrum.counts, sigma)
    narrowing = min(1.0 / (2.0 * np.sqrt(np.pi) * sigma), 1.0)
    tops, _ = prominent_maxima(smooth, 4.0 * np.sqrt(narrowing * (smooth + 1.0)))
    above = np.cumsum(spectrum.counts[::-1])[::-1]
    most = _MAX_PILE_UP * above[0]

    def ends(peak_kev: float) -> bool:
        """Whether there are few counts above a peak and the range of its Compton shift."""
        behind = peak_kev + 0.5 * (peak_kev - _shifted(peak_kev, 175.0)) + 2.0 * spectrum.fwhm_kev(peak_kev)
        first, last = np.searchsorted(energy, (peak_kev - 2.0, behind))
        return bool(
            last < above.size
            and above[first] - above[last] > _MIN_COUNTS
            and above[last] < max(most, _MAX_ABOVE_IN_ALL * (above[first] - above[last]))
        )

    peaks = [float(peak_kev) for peak_kev in energy[tops][::-1] if _RANGE_KEV[0] < peak_kev < _RANGE_KEV[1]]
    ends_kev = (peak_kev for peak_kev in peaks if ends(peak_kev) and not _is_pile_up(spectrum, peak_kev))
    return list(islice(ends_kev, _MAX_CANDIDATES))


def _shifted(energy_kev: float, angle_deg: float) -> float:
    return float(compton_energy(np.array([energy_kev]), angle_deg)[0])


def _beam_at(spectrum: _Spectrum, peak_kev: float) -> Beam | None:
    """Return the beam whose scatter makes a peak; None for other peaks."""
    for fit in _scatter_fits(spectrum, peak_kev):
        if not _is_the_end(spectrum, fit) or _is_pile_up(spectrum, fit.energy_kev) or _is_line(spectrum, fit):
            continue
        # K-beta with the weaker lines above it resembles Compton scatter with a shoulder
        compton = replace(fit, energy_kev=peak_kev, elastic=fit.total - fit.elastic)
        if abs(fit.energy_kev - peak_kev) < _AT_PEAK_FWHM * spectrum.fwhm_kev(peak_kev) or not _is_line(
            spectrum, compton
        ):
            return Beam(fit.energy_kev, fit.angle_deg)
    return None


@dataclass(frozen=True)
class _ScatterFit:
    """Elastic and Compton peak: energy, angle, counts of the elastic peak and of both."""

    energy_kev: float
    angle_deg: float
    elastic: float
    total: float


def _scatter_fits(spectrum: _Spectrum, peak_kev: float) -> list[_ScatterFit]:
    """Fit an elastic and a Compton peak; none where a single peak fits as well.

    The elastic peak is first sought also above the peak, as its shoulder; then only at the peak, since strong lines
    below bias the fit.
    """
    fwhm = spectrum.fwhm_kev(peak_kev)
    shift = peak_kev - _shifted(peak_kev, float(_ANGLES_DEG[-1]))
    low, high = peak_kev - shift - 2.0 * fwhm, peak_kev + shift + 3.0 * fwhm
    counts, energy = spectrum.at(spectrum.counts, low, high), spectrum.at(spectrum.axis.energy_kev, low, high)
    if counts.size < 8:
        return []
    deviation = np.sqrt(np.maximum(counts, 1.0) + (_MODEL_ERROR * counts) ** 2)
    places = np.arange(low, high, _STEP_FWHM * fwhm)
    edges = np.append(energy, energy[-1] + spectrum.axis.gain_kev) - 0.5 * spectrum.axis.gain_kev

    def peaks(centres: Array, spread_per_kev: float = 0.0) -> Array:
        sigma = np.hypot(fwhm / FWHM_PER_SIGMA, spread_per_kev * centres)[:, None]
        return np.diff(ndtr((edges - centres[:, None]) / sigma), axis=1)

    centres = places[(places > peak_kev - 0.5 * fwhm) & (places < peak_kev + 0.7 * shift + 0.5 * fwhm)]
    ground = np.stack([np.ones(energy.size), np.linspace(1.0, 0.0, energy.size)])
    columns = np.concatenate([peaks(centres), ground, *(peaks(places, spread) for spread in _SPREADS_PER_KEV)])
    columns /= deviation
    norm = np.maximum(np.sqrt((columns**2).sum(axis=1)), 1e-12)
    columns /= norm[:, None]
    gram, projection = columns @ columns.T, columns @ (counts / deviation)
    shifted = np.stack([compton_energy(centres, float(angle)) for angle in _ANGLES_DEG], axis=1)
    place = np.clip(np.rint((shifted - low) / (places[1] - places[0])).astype(int), 0, places.size - 1)
    first, n_centre = np.arange(centres.size), centres.size
    elastic, compton = np.broadcast_arrays(
        first[:, None, None], (place + n_centre + 2)[:, :, None] + places.size * np.arange(len(_SPREADS_PER_KEV))
    )
    total_square = float(((counts / deviation) ** 2).sum())

    def fitted(*chosen: NDArray[np.intp]) -> tuple[Array, Array]:
        at = np.stack([*(part.ravel() for part in chosen), *(np.full(chosen[0].size, n_centre + k) for k in (0, 1))], 1)
        misfit, areas = _non_negative(gram[at[:, :, None], at[:, None, :]], projection[at], total_square)
        return misfit, areas / norm[at]

    single = float(fitted(first)[0].min())
    misfit, areas = fitted(elastic, compton)
    at_peak = np.abs(centres[elastic.ravel()] - peak_kev) < _AT_PEAK_FWHM * fwhm
    resolved = peak_kev - _shifted(peak_kev, 110.0) > _UNRESOLVED_FWHM * fwhm
    fits = []
    for best in dict.fromkeys((int(misfit.argmin()), int(np.where(at_peak, misfit, np.inf).argmin()))):
        which, angle, _ = np.unravel_index(best, elastic.shape)
        strength, combined = float(areas[best, 0]), float(areas[best, :2].sum())
        if combined < _MIN_COUNTS or strength < _MIN_ELASTIC * combined:
            continue
        if not resolved or single - misfit[best] > _MIN_GAIN:
            fits.append(_ScatterFit(float(centres[which]), float(_ANGLES_DEG[angle]), strength, combined))
    return fits


def _non_negative(gram: Array, projection: Array, total_square: float) -> tuple[Array, Array]:
    """Solve many small non-negative least squares (n, k, k), (n, k) exactly, by enumerating all sets of zeros."""
    n_fit, n_column = projection.shape
    misfit, areas = np.full(n_fit, total_square), np.zeros((n_fit, n_column))
    for choice in product((False, True), repeat=n_column):
        used = np.flatnonzero(choice)
        if not used.size:
            continue
        part = gram[:, used[:, None], used] + 1e-9 * np.eye(used.size)
        values = np.linalg.solve(part, projection[:, used, None])[:, :, 0]
        left = total_square - (values * projection[:, used]).sum(axis=1)
        better = (values >= 0.0).all(axis=1) & (left < misfit)
        misfit[better] = left[better]
        areas[better] = 0.0
        areas[np.ix_(better, used)] = values[better]
    return misfit, areas


def _is_the_end(spectrum: _Spectrum, fit: _ScatterFit) -> bool:
    """Whether the elastic peak falls as steeply as the resolution allows, with almost nothing above it."""
    fwhm = spectrum.fwhm_kev(fit.energy_kev)
    start = fit.energy_kev + 1.5 * fwhm
    height = _level(spectrum, fit.energy_kev, 0.2 * fwhm)
    above = float(spectrum.at(spectrum.counts, start, np.inf).sum())
    return (
        _level(spectrum, fit.energy_kev + 1.1 * fwhm, 0.2 * fwhm) < _MAX_ON_FLANK * height
        and _level(spectrum, start + max(0.5, 2.5 * fwhm), max(0.5, 2.5 * fwhm)) < _MAX_ABOVE * height
        and above < max(_MAX_ABOVE_IN_ALL * fit.total, _MAX_PILE_UP * float(spectrum.counts.sum()))
    )


def _level(spectrum: _Spectrum, energy_kev: float, half_kev: float) -> float:
    """Return the mean counts per channel around an energy; infinity beyond the end of the spectrum."""
    half = max(half_kev, 0.5 * spectrum.axis.gain_kev)
    counts = spectrum.at(spectrum.counts, energy_kev - half, energy_kev + half)
    return float(counts.mean()) if counts.size else float("inf")


def _is_pile_up(spectrum: _Spectrum, energy_kev: float) -> bool:
    """Whether pile-up explains a peak: scaled to it, the other sum peaks do not exceed the spectrum."""
    fwhm = spectrum.fwhm_kev(energy_kev)
    bins = np.arange(0.6 * energy_kev, max(spectrum.axis.stop_kev, energy_kev + 2.0 * fwhm), fwhm)
    observed, pairs, purged = (
        np.histogram(spectrum.axis.energy_kev, bins, weights=values)[0]
        for values in (spectrum.counts, *spectrum.pile_up)
    )
    window = np.abs(bins[:-1] + 0.5 * fwhm - energy_kev) < 2.5 * fwhm
    if pairs[window].sum() <= 0:
        return False
    chance = observed[window].sum() / pairs[window].sum() / spectrum.counts.sum()
    if chance > _MAX_CHANCE:
        return False
    sums = np.maximum(pairs + (purged - pairs) * min(chance / MAX_CHANCE, 1.0), 1e-9 * pairs)
    expected = sums * (observed[window].sum() / sums[window].sum())
    return bool(np.all(expected < _PILE_UP_FACTOR * observed + 0.05 * expected.max() + 10.0))


def _is_line(spectrum: _Spectrum, fit: _ScatterFit) -> bool:
    """Whether a peak is a line of an element whose other lines are present in proportion."""
    near = 0.3 * spectrum.fwhm_kev(fit.energy_kev) + 0.015
    for number in set(range(13, 93)).difference(_NEVER_THERE):
        # a tube may excite all L shells, or only the third
        third = 1.01 * edge_energy(number, SHELLS.index("L3"))
        for shell, excitation in (("K", np.inf), ("L", 2.0 * fit.energy_kev), ("L", third)):
            energy, rate = family_lines(symbol(number), shell, min(excitation, 2.0 * fit.energy_kev))
            if np.any(np.abs(energy - fit.energy_kev) < near) and _is_together(spectrum, fit, shell, energy, rate):
                return True
    return False


def _is_together(spectrum: _Spectrum, fit: _ScatterFit, shell: str, energy: Array, rate: Array) -> bool:
    """Whether a family's stronger lines are present, and the strongest one above the peak where detectable."""
    separate = np.abs(energy - fit.energy_kev) > 0.7 * spectrum.fwhm_kev(fit.energy_kev)
    rate_of_element = float(rate[~separate].sum())
    looked_for = separate & (energy > spectrum.axis.start_kev) & (energy < spectrum.axis.stop_kev)
    # nearer ones are on the flank of the peak
    above = looked_for & (energy > fit.energy_kev + 1.5 * spectrum.fwhm_kev(fit.energy_kev))
    strongest_above = float(rate[above].max(initial=0.0))
    for line, share, is_above in zip(energy[looked_for], rate[looked_for], above[looked_for], strict=True):
        is_stronger = share > rate_of_element
        if not is_stronger and (not is_above or share < strongest_above):
            continue
        least = _STRONGER_TOGETHER[shell] if is_stronger else _ABOVE_TOGETHER
        area, deviation = spectrum.line(float(line))
        if area + 4.0 * deviation < least * fit.elastic * share / rate_of_element:
            return False
        if shell == "L" and share == rate.max() and not _is_peak(spectrum, float(line)):
            return False
    return True


def _is_peak(spectrum: _Spectrum, energy_kev: float) -> bool:
    """Whether there is a peak at an energy, not the flank of another."""
    fwhm = spectrum.fwhm_kev(energy_kev)
    level, *flanks = (_level(spectrum, energy_kev + side * fwhm, 0.2 * fwhm) for side in (0.0, -0.8, 0.8))
    return level > 0.5 * max(flanks)
