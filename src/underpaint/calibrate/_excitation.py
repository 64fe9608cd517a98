"""Detection of a monochromatic beam by its elastic and Compton scatter peaks in the sum spectrum."""

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
from underpaint.data.pile_up import MAX_PILE_UP_PROBABILITY, pile_up_shape, self_convolution
from underpaint.physics.atomic import SHELLS, atomic_number, compton_energy, edge_energy, family_lines, symbol
from underpaint.units import FWHM_PER_SIGMA

Array = NDArray[np.float64]

_BEAM_RANGE_KEV = (5.0, 120.0)
_MIN_SCATTER_COUNTS = 100.0
_MAX_ELASTIC_CANDIDATES = 12
_SCATTER_ANGLES_DEG = np.arange(50.0, 176.0, 10.0)
_COMPTON_SIGMAS_PER_KEV = (0.003, 0.007, 0.0105, 0.014)
"""Doppler broadening of Compton peaks of heavy to light atoms: standard deviations in keV per keV of photon energy."""
_RELATIVE_MODEL_ERROR = 0.05
_MIN_CHI_SQUARED_DROP = 40.0
"""Minimum decrease of chi squared when the Compton peak is added to the fit."""
_MIN_ELASTIC_SHARE = 0.003
_MAX_FLANK_PER_PEAK, _MAX_CONTINUUM_PER_PEAK = 0.3, 0.05
"""Maximum counts per channel 1.1 FWHM above the elastic peak, and at higher energies, relative to its height.

A tube's continuum decreases less steeply towards high energies.
"""
_MAX_PILE_UP_PER_SCATTER, _MAX_PILE_UP_SHARE = 0.35, 0.03
"""Maximum counts of sum peaks above the elastic peak: relative to the scatter peaks, and to the whole spectrum."""
_MIN_STRONG_LINE_RATIO, _MIN_HIGH_LINE_RATIO = {"K": 0.08, "L": 0.3}, 0.3
"""Minimum ratio of net to expected counts for lines stronger than the tested peak, and for lines above its energy.

The first minimum is low for K lines, because a tube filter may absorb more of K-alpha than of K-beta.
"""
_MAX_UNRESOLVED_SHIFT = 1.2
"""Largest Compton shift at which elastic and Compton peak are not resolved, in FWHM."""
_SEARCH_STEP_FWHM, _MAX_PEAK_DISTANCE_FWHM = 0.125, 0.2
_MAX_SUM_PEAK_RATIO, _MAX_PILE_UP_PROBABILITY = 4.0, 0.1
"""Maximum ratio of expected to measured counts for all other sum peaks, and maximum pile-up probability."""
_BEAM_ENERGY_TOLERANCE = 0.03
"""Maximum relative difference between two values of the same beam energy."""
_ABSENT_ELEMENTS = (43, 61, *range(84, 90), 91)
"""Atomic numbers of elements that occur neither in paintings nor in anodes."""


@dataclass(frozen=True)
class Beam:
    """A monochromatic beam.

    Parameters
    ----------
    energy_kev : float
        Energy of the elastic peak, in keV.
    scatter_angle_deg : float or None
        Scattering angle in degrees, or None if the Compton peak does not determine the angle.
    """

    energy_kev: float
    scatter_angle_deg: float | None = None


@dataclass(frozen=True)
class _Spectrum:
    counts: Array
    axis: EnergyAxis
    fwhm: Array
    net_counts: Array
    pile_up_shapes: tuple[Array, Array]

    def values_between(self, channel_values: Array, low_kev: float, high_kev: float) -> Array:
        """Return the values of the channels from ``low_kev`` up to ``high_kev``."""
        energy_kev = self.axis.energy_kev
        return channel_values[(energy_kev >= low_kev) & (energy_kev < high_kev)]

    def fwhm_kev(self, energy_kev: float) -> float:
        return float(np.interp(energy_kev, self.axis.energy_kev, self.fwhm))

    def net_peak_counts(self, energy_kev: float) -> tuple[float, float]:
        """Return the net counts within 0.6 FWHM of an energy, and their standard deviation."""
        half_width_kev = 0.6 * self.fwhm_kev(energy_kev)
        low_kev, high_kev = energy_kev - half_width_kev, energy_kev + half_width_kev
        return float(self.values_between(self.net_counts, low_kev, high_kev).sum()), float(
            np.sqrt(self.values_between(self.counts, low_kev, high_kev).sum() + 1.0)
        )


def find_beam(counts: Array, axis: EnergyAxis, fwhm_kev: Array) -> Beam | None:
    """Return the monochromatic beam that excited a sum spectrum, or None if a tube may have excited the spectrum.

    Parameters
    ----------
    counts : (n_channel,) array
        Sum spectrum in counts.
    axis : EnergyAxis
        Energy axis of the spectrum.
    fwhm_kev : (n_channel,) array
        FWHM of a peak at each channel, in keV.

    Returns
    -------
    Beam or None

    Notes
    -----
    The candidate for the elastic peak is the peak of highest energy that is not a sum peak. A beam is detected if a
    Compton peak lies below the candidate and almost no counts lie above the candidate. The candidate must not be a line
    of an element in the sample or anode. A line of an element is recognised by the other lines of its family.

    To avoid mistaking a tube for a beam, None is also returned for ambiguous spectra:

    - The elastic and Compton peaks have fewer than 100 counts in total.
    - The Compton peak lowers chi squared by less than 40.
    - The elastic peak is a shoulder of a line of the sample (at 9.0 keV for copper).
    - The elastic peak has less than four times the counts of a sum peak (at 16.0 keV for copper).
    - The elastic peak is within 0.3 FWHM of a line of an element whose strongest line may belong to another element. An
      example is an elastic peak at lead's L-beta (12.67 keV). Arsenic's K-alpha coincides with lead's strongest line,
      L-alpha.

    Of 250 simulated beams of 8 to 40 keV, 6 are not detected. None of 290 simulated tubes is mistaken for a beam.
    """
    if counts.sum() < _MIN_SCATTER_COUNTS:
        return None
    fwhm_channels = np.maximum(fwhm_kev / axis.gain_kev, 2.0)
    net_counts = np.maximum(counts - snip(counts, fwhm_channels, window_per_fwhm=2.5), 0.0)
    pile_up_shapes = pile_up_shape(self_convolution(counts[None]), axis)
    spectrum = _Spectrum(counts, axis, np.asarray(fwhm_kev), net_counts, pile_up_shapes)
    for energy_kev in _elastic_candidates_kev(spectrum):
        beam = _beam_at(spectrum, energy_kev)
        if beam is not None:
            return beam
    return None


def beam_contradiction(energy_kev: float, detected: Beam | None, families: Sequence[str], anode: str | None) -> str:
    """Return how a spectrum contradicts a monochromatic beam, as text, or "" if the spectrum does not.

    Parameters
    ----------
    energy_kev : float
        Energy of the beam, in keV.
    detected : Beam or None
        Beam that :func:`find_beam` detected in the spectrum.
    families : sequence of str
        Detected line families (``Pb_L``). A beam excites a family only if its energy is above the family's lowest edge.
    anode : str or None
        Element of the anode whose scattered K lines are detected, or None.

    Returns
    -------
    str
    """
    if detected is not None and abs(detected.energy_kev - energy_kev) > _BEAM_ENERGY_TOLERANCE * energy_kev:
        return f"the spectra show a monochromatic beam of {detected.energy_kev:.1f} keV"
    if anode is not None:
        line_kev = float(family_lines(anode, "K", edge_energy(atomic_number(anode), 0) + 1.0)[0].min())
        if line_kev > (1.0 + _BEAM_ENERGY_TOLERANCE) * energy_kev:
            return f"the spectra contain the scattered lines of a tube's anode, {anode} K at {line_kev:.1f} keV"
    families_not_excited = []
    for family in families:
        element, _, shell = family.partition("_")
        z = atomic_number(element)
        edge_kev = min(
            edge_energy(z, shell_index) for shell_index, shell_name in enumerate(SHELLS) if shell_name.startswith(shell)
        )
        if edge_kev > (1.0 + _BEAM_ENERGY_TOLERANCE) * energy_kev:
            families_not_excited.append(f"{element} {shell} (edge at {edge_kev:.2f} keV)")
    return (
        f"the spectra contain lines that a beam of this energy cannot excite, of {', '.join(families_not_excited)}"
        if families_not_excited
        else ""
    )


def _elastic_candidates_kev(spectrum: _Spectrum) -> list[float]:
    """Return the energies in keV of candidates for the elastic peak, highest first.

    A candidate has enough counts, has few counts above its energy, and is not a sum peak.
    """
    energy_kev = spectrum.axis.energy_kev
    smoothing_sigma = max(0.3 * float(np.median(spectrum.fwhm)) / spectrum.axis.gain_kev, 0.5)
    smoothed_counts = gaussian_filter1d(spectrum.counts, smoothing_sigma)
    noise_factor = min(1.0 / (2.0 * np.sqrt(np.pi) * smoothing_sigma), 1.0)
    maxima, _ = prominent_maxima(smoothed_counts, 4.0 * np.sqrt(noise_factor * (smoothed_counts + 1.0)))
    counts_from_channel = np.cumsum(spectrum.counts[::-1])[::-1]
    max_pile_up_counts = _MAX_PILE_UP_SHARE * counts_from_channel[0]

    def is_last_scatter(peak_kev: float) -> bool:
        """Return whether a peak and its Compton peak have far more counts than the spectrum above both."""
        scatter_end_kev = (
            peak_kev + 0.5 * (peak_kev - _compton_kev(peak_kev, 175.0)) + 2.0 * spectrum.fwhm_kev(peak_kev)
        )
        peak_channel, end_channel = np.searchsorted(energy_kev, (peak_kev - 2.0, scatter_end_kev))
        return bool(
            end_channel < counts_from_channel.size
            and counts_from_channel[peak_channel] - counts_from_channel[end_channel] > _MIN_SCATTER_COUNTS
            and counts_from_channel[end_channel]
            < max(
                max_pile_up_counts,
                _MAX_PILE_UP_PER_SCATTER * (counts_from_channel[peak_channel] - counts_from_channel[end_channel]),
            )
        )

    peaks_kev = [
        float(peak_kev) for peak_kev in energy_kev[maxima][::-1] if _BEAM_RANGE_KEV[0] < peak_kev < _BEAM_RANGE_KEV[1]
    ]
    candidates_kev = (
        peak_kev for peak_kev in peaks_kev if is_last_scatter(peak_kev) and not _is_pile_up(spectrum, peak_kev)
    )
    return list(islice(candidates_kev, _MAX_ELASTIC_CANDIDATES))


def _compton_kev(energy_kev: float, angle_deg: float) -> float:
    return float(compton_energy(np.array([energy_kev]), angle_deg)[0])


def _beam_at(spectrum: _Spectrum, peak_kev: float) -> Beam | None:
    """Return the beam whose elastic scatter peak has the given energy, or None if the peak has another origin."""
    for scatter_fit in _scatter_fits(spectrum, peak_kev):
        if (
            not _ends_spectrum(spectrum, scatter_fit)
            or _is_pile_up(spectrum, scatter_fit.energy_kev)
            or _is_element_line(spectrum, scatter_fit)
        ):
            continue
        # K-beta and a weaker line above it can resemble a Compton peak and an elastic peak
        compton_fit = replace(
            scatter_fit, energy_kev=peak_kev, elastic_counts=scatter_fit.total_counts - scatter_fit.elastic_counts
        )
        if abs(scatter_fit.energy_kev - peak_kev) < _MAX_PEAK_DISTANCE_FWHM * spectrum.fwhm_kev(
            peak_kev
        ) or not _is_element_line(spectrum, compton_fit):
            return Beam(scatter_fit.energy_kev, scatter_fit.angle_deg)
    return None


@dataclass(frozen=True)
class _ScatterFit:
    """Fit of the elastic and the Compton peak. ``energy_kev`` is the energy of the elastic peak."""

    energy_kev: float
    angle_deg: float
    elastic_counts: float
    total_counts: float


def _scatter_fits(spectrum: _Spectrum, peak_kev: float) -> list[_ScatterFit]:
    """Return fits of an elastic and a Compton peak, or an empty list if a single peak fits equally well.

    The elastic peak may be a shoulder of the given peak, so the first fit searches around the given energy. Strong
    lines at lower energies can bias the first fit. A second fit therefore fixes the elastic peak at the given energy.
    """
    fwhm = spectrum.fwhm_kev(peak_kev)
    max_shift_kev = peak_kev - _compton_kev(peak_kev, float(_SCATTER_ANGLES_DEG[-1]))
    low_kev, high_kev = peak_kev - max_shift_kev - 2.0 * fwhm, peak_kev + max_shift_kev + 3.0 * fwhm
    counts, energy_kev = (
        spectrum.values_between(spectrum.counts, low_kev, high_kev),
        spectrum.values_between(spectrum.axis.energy_kev, low_kev, high_kev),
    )
    if counts.size < 8:
        return []
    deviation = np.sqrt(np.maximum(counts, 1.0) + (_RELATIVE_MODEL_ERROR * counts) ** 2)
    search_grid_kev = np.arange(low_kev, high_kev, _SEARCH_STEP_FWHM * fwhm)
    edges_kev = np.append(energy_kev, energy_kev[-1] + spectrum.axis.gain_kev) - 0.5 * spectrum.axis.gain_kev

    def peak_shapes(centres_kev: Array, doppler_sigma_per_kev: float = 0.0) -> Array:
        sigma = np.hypot(fwhm / FWHM_PER_SIGMA, doppler_sigma_per_kev * centres_kev)[:, None]
        return np.diff(ndtr((edges_kev - centres_kev[:, None]) / sigma), axis=1)

    centres_kev = search_grid_kev[
        (search_grid_kev > peak_kev - 0.5 * fwhm) & (search_grid_kev < peak_kev + 0.7 * max_shift_kev + 0.5 * fwhm)
    ]
    background_columns = np.stack([np.ones(energy_kev.size), np.linspace(1.0, 0.0, energy_kev.size)])
    peak_columns = np.concatenate(
        [
            peak_shapes(centres_kev),
            background_columns,
            *(peak_shapes(search_grid_kev, compton_sigma) for compton_sigma in _COMPTON_SIGMAS_PER_KEV),
        ]
    )
    peak_columns /= deviation
    column_norms = np.maximum(np.sqrt((peak_columns**2).sum(axis=1)), 1e-12)
    peak_columns /= column_norms[:, None]
    normal_matrix, projections = peak_columns @ peak_columns.T, peak_columns @ (counts / deviation)
    compton_kev = np.stack([compton_energy(centres_kev, float(angle_deg)) for angle_deg in _SCATTER_ANGLES_DEG], axis=1)
    compton_grid_index = np.clip(
        np.rint((compton_kev - low_kev) / (search_grid_kev[1] - search_grid_kev[0])).astype(int),
        0,
        search_grid_kev.size - 1,
    )
    centre_index, n_elastic_centres = np.arange(centres_kev.size), centres_kev.size
    elastic_columns, compton_columns = np.broadcast_arrays(
        centre_index[:, None, None],
        (compton_grid_index + n_elastic_centres + 2)[:, :, None]
        + search_grid_kev.size * np.arange(len(_COMPTON_SIGMAS_PER_KEV)),
    )
    sum_of_squares = float(((counts / deviation) ** 2).sum())

    def fit_columns(*column_sets: NDArray[np.intp]) -> tuple[Array, Array]:
        used_columns = np.stack(
            [
                *(column_set.ravel() for column_set in column_sets),
                *(np.full(column_sets[0].size, n_elastic_centres + k) for k in (0, 1)),
            ],
            1,
        )
        misfit, areas = _solve_non_negative(
            normal_matrix[used_columns[:, :, None], used_columns[:, None, :]], projections[used_columns], sum_of_squares
        )
        return misfit, areas / column_norms[used_columns]

    misfit_of_one_peak = float(fit_columns(centre_index)[0].min())
    misfit, areas = fit_columns(elastic_columns, compton_columns)
    is_at_peak = np.abs(centres_kev[elastic_columns.ravel()] - peak_kev) < _MAX_PEAK_DISTANCE_FWHM * fwhm
    is_resolved = peak_kev - _compton_kev(peak_kev, 110.0) > _MAX_UNRESOLVED_SHIFT * fwhm
    scatter_fits = []
    for best_fit_index in dict.fromkeys((int(misfit.argmin()), int(np.where(is_at_peak, misfit, np.inf).argmin()))):
        best_centre_index, best_angle_index, _ = np.unravel_index(best_fit_index, elastic_columns.shape)
        elastic_counts, total_counts = float(areas[best_fit_index, 0]), float(areas[best_fit_index, :2].sum())
        if total_counts < _MIN_SCATTER_COUNTS or elastic_counts < _MIN_ELASTIC_SHARE * total_counts:
            continue
        if not is_resolved or misfit_of_one_peak - misfit[best_fit_index] > _MIN_CHI_SQUARED_DROP:
            scatter_fits.append(
                _ScatterFit(
                    float(centres_kev[best_centre_index]),
                    float(_SCATTER_ANGLES_DEG[best_angle_index]),
                    elastic_counts,
                    total_counts,
                )
            )
    return scatter_fits


def _solve_non_negative(normal_matrix: Array, projections: Array, sum_of_squares: float) -> tuple[Array, Array]:
    """Return the misfits (n,) and areas (n, k) of n small non-negative least-squares problems.

    The solution is exact, because every choice of zero coefficients is tried. ``normal_matrix`` is (n, k, k),
    ``projections`` is (n, k), and ``sum_of_squares`` is the sum of the squared data.
    """
    n_fits, n_columns = projections.shape
    misfit, areas = np.full(n_fits, sum_of_squares), np.zeros((n_fits, n_columns))
    for is_column_used in product((False, True), repeat=n_columns):
        used_columns = np.flatnonzero(is_column_used)
        if not used_columns.size:
            continue
        reduced_matrix = normal_matrix[:, used_columns[:, None], used_columns] + 1e-9 * np.eye(used_columns.size)
        coefficients = np.linalg.solve(reduced_matrix, projections[:, used_columns, None])[:, :, 0]
        reduced_misfit = sum_of_squares - (coefficients * projections[:, used_columns]).sum(axis=1)
        is_better_fit = (coefficients >= 0.0).all(axis=1) & (reduced_misfit < misfit)
        misfit[is_better_fit] = reduced_misfit[is_better_fit]
        areas[is_better_fit] = 0.0
        areas[np.ix_(is_better_fit, used_columns)] = coefficients[is_better_fit]
    return misfit, areas


def _ends_spectrum(spectrum: _Spectrum, scatter_fit: _ScatterFit) -> bool:
    """Return whether the counts above the elastic peak drop as steeply as the resolution allows, to almost zero."""
    fwhm = spectrum.fwhm_kev(scatter_fit.energy_kev)
    start_kev = scatter_fit.energy_kev + 1.5 * fwhm
    peak_height = _mean_counts(spectrum, scatter_fit.energy_kev, 0.2 * fwhm)
    counts_above_peak = float(spectrum.values_between(spectrum.counts, start_kev, np.inf).sum())
    return (
        _mean_counts(spectrum, scatter_fit.energy_kev + 1.1 * fwhm, 0.2 * fwhm) < _MAX_FLANK_PER_PEAK * peak_height
        and _mean_counts(spectrum, start_kev + max(0.5, 2.5 * fwhm), max(0.5, 2.5 * fwhm))
        < _MAX_CONTINUUM_PER_PEAK * peak_height
        and counts_above_peak
        < max(_MAX_PILE_UP_PER_SCATTER * scatter_fit.total_counts, _MAX_PILE_UP_SHARE * float(spectrum.counts.sum()))
    )


def _mean_counts(spectrum: _Spectrum, energy_kev: float, half_range_kev: float) -> float:
    """Return the mean counts per channel around an energy, or infinity if the energy is outside the spectrum."""
    half_width_kev = max(half_range_kev, 0.5 * spectrum.axis.gain_kev)
    counts = spectrum.values_between(spectrum.counts, energy_kev - half_width_kev, energy_kev + half_width_kev)
    return float(counts.mean()) if counts.size else float("inf")


def _is_pile_up(spectrum: _Spectrum, energy_kev: float) -> bool:
    """Return whether a peak may be a sum peak.

    A model of all sum peaks is scaled to the counts of the peak. The model must not exceed the spectrum elsewhere.
    """
    fwhm = spectrum.fwhm_kev(energy_kev)
    bin_edges_kev = np.arange(0.6 * energy_kev, max(spectrum.axis.stop_kev, energy_kev + 2.0 * fwhm), fwhm)
    binned_counts, pile_up_counts, corrected_pile_up_counts = (
        np.histogram(spectrum.axis.energy_kev, bin_edges_kev, weights=channel_counts)[0]
        for channel_counts in (spectrum.counts, *spectrum.pile_up_shapes)
    )
    is_in_peak = np.abs(bin_edges_kev[:-1] + 0.5 * fwhm - energy_kev) < 2.5 * fwhm
    if pile_up_counts[is_in_peak].sum() <= 0:
        return False
    pile_up_probability = binned_counts[is_in_peak].sum() / pile_up_counts[is_in_peak].sum() / spectrum.counts.sum()
    if pile_up_probability > _MAX_PILE_UP_PROBABILITY:
        return False
    sum_peak_counts = np.maximum(
        pile_up_counts
        + (corrected_pile_up_counts - pile_up_counts) * min(pile_up_probability / MAX_PILE_UP_PROBABILITY, 1.0),
        1e-9 * pile_up_counts,
    )
    expected_counts = sum_peak_counts * (binned_counts[is_in_peak].sum() / sum_peak_counts[is_in_peak].sum())
    return bool(np.all(expected_counts < _MAX_SUM_PEAK_RATIO * binned_counts + 0.05 * expected_counts.max() + 10.0))


def _is_element_line(spectrum: _Spectrum, scatter_fit: _ScatterFit) -> bool:
    """Return whether a peak is a line of an element whose other lines have the expected intensities."""
    max_distance_kev = 0.3 * spectrum.fwhm_kev(scatter_fit.energy_kev) + 0.015
    for z in set(range(13, 93)).difference(_ABSENT_ELEMENTS):
        # a tube may excite all L shells, or only L3
        l3_excitation_kev = 1.01 * edge_energy(z, SHELLS.index("L3"))
        for shell, excitation_kev in (("K", np.inf), ("L", 2.0 * scatter_fit.energy_kev), ("L", l3_excitation_kev)):
            line_kev, line_rates = family_lines(symbol(z), shell, min(excitation_kev, 2.0 * scatter_fit.energy_kev))
            if np.any(np.abs(line_kev - scatter_fit.energy_kev) < max_distance_kev) and _has_family_lines(
                spectrum, scatter_fit, shell, line_kev, line_rates
            ):
                return True
    return False


def _has_family_lines(
    spectrum: _Spectrum, scatter_fit: _ScatterFit, shell: str, line_kev: Array, line_rates: Array
) -> bool:
    """Return whether the spectrum has the other lines that an element with a line at the peak would show."""
    is_separate_line = np.abs(line_kev - scatter_fit.energy_kev) > 0.7 * spectrum.fwhm_kev(scatter_fit.energy_kev)
    line_rate_in_peak = float(line_rates[~is_separate_line].sum())
    is_checked_line = is_separate_line & (line_kev > spectrum.axis.start_kev) & (line_kev < spectrum.axis.stop_kev)
    # lines within 1.5 FWHM are on the flank of the peak
    is_above_peak = is_checked_line & (
        line_kev > scatter_fit.energy_kev + 1.5 * spectrum.fwhm_kev(scatter_fit.energy_kev)
    )
    strongest_rate_above = float(line_rates[is_above_peak].max(initial=0.0))
    for energy_kev, line_rate, is_higher_line in zip(
        line_kev[is_checked_line], line_rates[is_checked_line], is_above_peak[is_checked_line], strict=True
    ):
        is_stronger_line = line_rate > line_rate_in_peak
        if not is_stronger_line and (not is_higher_line or line_rate < strongest_rate_above):
            continue
        min_counts_ratio = _MIN_STRONG_LINE_RATIO[shell] if is_stronger_line else _MIN_HIGH_LINE_RATIO
        net_counts, deviation = spectrum.net_peak_counts(float(energy_kev))
        if net_counts + 4.0 * deviation < min_counts_ratio * scatter_fit.elastic_counts * line_rate / line_rate_in_peak:
            return False
        if shell == "L" and line_rate == line_rates.max() and not _is_peak(spectrum, float(energy_kev)):
            return False
    return True


def _is_peak(spectrum: _Spectrum, energy_kev: float) -> bool:
    """Return whether an energy is at a peak, and not on the flank of another peak."""
    fwhm = spectrum.fwhm_kev(energy_kev)
    peak_height, *flank_counts = (
        _mean_counts(spectrum, energy_kev + offset_fwhm * fwhm, 0.2 * fwhm) for offset_fwhm in (0.0, -0.8, 0.8)
    )
    return peak_height > 0.5 * max(flank_counts)
