"""Detector response: expected counts per channel from photons at the window, pile-up, and Poisson counts."""

import sys
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.special
import xraylib
from array_api_compat import array_namespace, is_torch_array
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.data.peaks import resolution_fwhm_kev
from underpaint.errors import InstrumentError, SampleError
from underpaint.physics.atomic import atomic_number, edge_energy, mass_attenuation
from underpaint.physics.forward.cells import as_array
from underpaint.physics.forward.emission import Emission
from underpaint.physics.forward.source import filter_transmission
from underpaint.physics.forward.stack import Array
from underpaint.physics.instrument import Detector
from underpaint.units import CM_PER_UM, EPSILON_SI_KEV, FWHM_PER_SIGMA

FloatArray = NDArray[np.float64]
PEAK_RANGE_SIGMAS = 8.0
"""Half-range over which a peak is evaluated, in standard deviations; the neglected fraction is below 1e-15."""
TAIL_RANGE_WIDTHS = 14.0
"""Range over which an exponential tail is evaluated, in decay lengths; the neglected fraction is 1e-6."""
PAIR_ENERGY_KEV = {"Si": EPSILON_SI_KEV, "Ge": 2.96e-3}
"""Mean energy per electron-hole pair, in keV, by crystal. The pair energy of germanium is for 77 K (Knoll 2010, table
11.1)."""
ESCAPE_MERGE_DISTANCE_KEV = 0.2
"""Distance in keV below which K lines of the crystal give a single escape peak, as in silicon."""


@dataclass(frozen=True)
class Shape:
    """Energy axis and peak shape of a detector, as numbers or as differentiable 0-d torch tensors.

    Parameters
    ----------
    gain_kev, zero_kev : float
        Width of a channel and energy of the centre of channel 0, in keV.
    noise_fwhm_kev : float
        Electronic noise (FWHM), in keV.
    fano : float
        Fano factor.
    shelf_fraction, tail_fraction : float
        Areas of the shelf and of the tail, as fractions of the area of the full peak.
    tail_width_kev : float
        Decay length of the tail, in keV.
    long_tail_fraction : float
        Area of a second, longer tail, as a fraction of the area of the full peak.
    long_tail_width_kev : float
        Decay length of the longer tail, in keV.
    """

    gain_kev: Any
    zero_kev: Any
    noise_fwhm_kev: Any
    fano: Any
    shelf_fraction: Any
    tail_fraction: Any
    tail_width_kev: Any
    long_tail_fraction: Any
    long_tail_width_kev: Any


def detector_shape(detector: Detector, axis: EnergyAxis) -> Shape:
    """Return the shape of a detector on an energy axis."""
    return Shape(
        axis.gain_kev,
        axis.zero_kev,
        detector.noise_fwhm_kev,
        detector.fano,
        detector.shelf_fraction,
        detector.tail_fraction,
        detector.tail_width_kev,
        detector.long_tail_fraction,
        detector.long_tail_width_kev,
    )


def axis_of(detector: Detector) -> EnergyAxis:
    """Return the energy axis of a detector."""
    return EnergyAxis(detector.gain_kev, detector.zero_kev, detector.n_channel)


def render(
    emission: Emission, detector: Detector, axis: EnergyAxis | None = None, *, shape: Shape | None = None
) -> Array:
    """Return the expected counts of a batch: the product of photons and response matrix.

    Parameters
    ----------
    emission : Emission
        Photons from ``emit`` or ``transport``. The photons determine the array library and the precision of the result.
    detector : Detector
        Crystal, window and peak shape.
    axis : EnergyAxis, optional
        Energy axis; by default, the axis of the detector. Counts are integrated over each channel.
    shape : Shape, optional
        Axis and peak shape that replace those of the detector; tensors allow derivatives.

    Returns
    -------
    (n_sample, n_channel) array
        Expected counts, on the scale of the emission.
    """
    axis = axis_of(detector) if axis is None else axis
    xp = array_namespace(emission.coherent)
    energy_kev = np.concatenate([emission.lines.energy_kev, emission.source_kev, emission.compton_kev])
    widths_kev = [np.zeros(len(emission.lines)), emission.width_kev, emission.compton_width_kev]
    spread_kev = np.concatenate(widths_kev) / np.sqrt(12.0)
    photons = xp.concat([emission.line_photons, emission.coherent, emission.shifted], axis=1)
    if shape is not None:
        return photons @ response_matrix(detector, axis, energy_kev, spread_kev, shape=shape)
    matrix = _cached_matrix(detector, axis, energy_kev.tobytes(), spread_kev.tobytes(), photons.itemsize)
    return photons @ as_array(matrix, photons)


def resolution_sigma(detector: Detector, energy_kev: FloatArray) -> FloatArray:
    """Return the standard deviation of a peak, in keV: electronic noise and charge statistics in quadrature."""
    # resolution_fwhm_kev assumes silicon; for other crystals, the Fano factor is scaled by the ratio of pair energies
    fano = detector.fano * (pair_energy(detector) / EPSILON_SI_KEV)
    return resolution_fwhm_kev(energy_kev, detector.noise_fwhm_kev, fano) / FWHM_PER_SIGMA


def pair_energy(detector: Detector) -> float:
    """Return the mean energy per electron-hole pair of the crystal, in keV.

    Raises
    ------
    InstrumentError
        The crystal is neither silicon nor germanium.
    """
    if detector.material not in PAIR_ENERGY_KEV:
        raise InstrumentError(
            f"Cannot compute the resolution of a detector of {detector.material!r}: the energy per electron-hole "
            f"pair is known for {' and '.join(PAIR_ENERGY_KEV)} only. Set the material of the detector to one of these."
        )
    return PAIR_ENERGY_KEV[detector.material]


def efficiency(detector: Detector, energy_kev: FloatArray) -> FloatArray:
    """Return the fraction of photons that pass filters, window and dead layer, and then interact in the crystal.

    Parameters
    ----------
    detector : Detector
    energy_kev : (n_energy,) array
        Photon energies in keV.

    Returns
    -------
    (n_energy,) array
    """
    attenuation_per_um = mass_attenuation(detector.material, energy_kev) * detector.density * CM_PER_UM
    detected_fraction = -np.expm1(-attenuation_per_um * detector.thickness_um) * np.exp(
        -attenuation_per_um * detector.dead_layer_um
    )
    for sheet in (*detector.filters, detector.window):
        detected_fraction = detected_fraction * filter_transmission(sheet, energy_kev)
    return np.asarray(detected_fraction)


def escape_share(detector: Detector, energy_kev: FloatArray) -> FloatArray:
    """Return the fraction of detected photons for which a K photon escapes (Reed & Ware 1972, equation 4)."""
    z = atomic_number(detector.material)
    jump_ratio, fluorescence_yield = float(xraylib.JumpFactor(z, 0)), float(xraylib.FluorYield(z, 0))
    attenuation = mass_attenuation(detector.material, energy_kev)
    escape_fraction = np.zeros(np.shape(energy_kev))
    for line_kev, line_fraction in escape_lines(detector):
        attenuation_ratio = float(mass_attenuation(detector.material, np.asarray([line_kev]))[0]) / attenuation
        escape_fraction += (
            line_fraction
            * 0.5
            * fluorescence_yield
            * (1.0 - 1.0 / jump_ratio)
            * (1.0 - attenuation_ratio * np.log1p(1.0 / attenuation_ratio))
        )
    return np.asarray(np.where(energy_kev > edge_energy(z, 0), escape_fraction, 0.0))


def escape_lines(detector: Detector) -> tuple[tuple[float, float], ...]:
    """Return, for each K line of the crystal, energy in keV and fraction of K photons; close lines are merged."""
    return _k_lines(atomic_number(detector.material))


def response_matrix(
    detector: Detector,
    axis: EnergyAxis,
    energy_kev: FloatArray,
    spread_kev: FloatArray | float = 0.0,
    *,
    shape: Shape | None = None,
) -> Array:
    """Return the (n_energy, n_channel) expected counts per photon, for each photon energy.

    Parameters
    ----------
    detector : Detector
        Crystal, window and peak shape.
    axis : EnergyAxis
        Energy axis.
    energy_kev : (n_energy,) array
        Photon energies in keV.
    spread_kev : (n_energy,) array or float
        Standard deviation of the photon energies, in keV; above zero for bins of a continuum.
    shape : Shape, optional
        Axis and peak shape that replace those of the detector. If the shape holds tensors, the matrix is a torch
        tensor.

    Raises
    ------
    InstrumentError
        The crystal is neither silicon nor germanium.

    Notes
    -----
    Peak, exponential tails and shelf together have an area of one (Campbell & Wang 1991, equations 1-3).
    """
    shape = detector_shape(detector, axis) if shape is None else shape
    spreads_kev = np.broadcast_to(np.asarray(spread_kev, dtype=np.float64), energy_kev.shape)
    detected_fraction, escape_fraction = efficiency(detector, energy_kev), escape_share(detector, energy_kev)
    escaping_index = np.flatnonzero(escape_fraction > 1e-6)
    escaping_lines = escape_lines(detector) if escaping_index.size else ()
    # the peaks of photons and of all escapes are computed at once
    peak_energies_kev = [energy_kev, *(energy_kev[escaping_index] - line_kev for line_kev, _ in escaping_lines)]
    peak_spreads_kev = [spreads_kev, *(spreads_kev[escaping_index] for _ in escaping_lines)]
    peaks = _peak_matrix(
        shape,
        axis.n_channel,
        pair_energy(detector),
        np.concatenate(peak_energies_kev),
        np.concatenate(peak_spreads_kev),
    )
    matrix = _column_like_shape(detected_fraction * (1.0 - escape_fraction), shape) * peaks[: len(energy_kev)]
    first_row = len(energy_kev)
    for _, line_fraction in escaping_lines:
        escape_counts = (
            _column_like_shape((detected_fraction * escape_fraction)[escaping_index] * line_fraction, shape)
            * peaks[first_row : first_row + escaping_index.size]
        )
        matrix = _add_to_rows(matrix, escaping_index, escape_counts)
        first_row += escaping_index.size
    return matrix


@lru_cache(maxsize=6)
def _cached_matrix(
    detector: Detector, axis: EnergyAxis, energy_bytes: bytes, spread_bytes: bytes, itemsize: int
) -> Array:
    """Return the response matrix with ``itemsize`` bytes per entry, cached for all batches of a detector."""
    matrix = response_matrix(detector, axis, np.frombuffer(energy_bytes), np.frombuffer(spread_bytes))
    return matrix.astype(np.float32) if itemsize == 4 else matrix


def _peak_matrix(
    shape: Shape, n_channel: int, pair_kev: float, energy_kev: FloatArray, spread_kev: FloatArray
) -> Array:
    """Return (n_energy, n_channel) peaks, including tails and shelf.

    Near the peak, counts are differences of cumulative functions at the channel borders. Far below the peak, counts are
    those of the uniform shelf.
    """
    reference_array = _tensor_of(shape)
    xp = array_namespace(reference_array)
    centre_kev = as_array(energy_kev, reference_array)[:, None]
    variance_kev2 = (shape.noise_fwhm_kev / FWHM_PER_SIGMA) ** 2 + pair_kev * shape.fano * xp.clip(centre_kev, min=0.0)
    sigma_kev = xp.sqrt(variance_kev2 + as_array(spread_kev**2, reference_array)[:, None])
    near_channels = _channels_near(shape, energy_kev, sigma_kev)
    first_channel = near_channels[:, :1]
    all_channels = xp.arange(n_channel + 1, dtype=reference_array.dtype, device=reference_array.device)
    borders_kev = xp.clip(shape.zero_kev + shape.gain_kev * (all_channels - 0.5), min=0.0)
    shelf_height = shape.shelf_fraction / xp.where(centre_kev > sigma_kev, centre_kev, sigma_kev)
    matrix = xp.where(
        xp.asarray(np.arange(n_channel) < first_channel, device=reference_array.device),
        shelf_height * (borders_kev[1:] - borders_kev[:-1]),
        0.0,
    )
    near_borders = np.concatenate([near_channels, near_channels[:, -1:] + 1], axis=1) - 0.5
    fraction_below = _fraction_below(
        shape, shape.zero_kev + shape.gain_kev * as_array(near_borders, reference_array), centre_kev, sigma_kev
    )
    is_on_axis = (near_channels >= 0) & (near_channels < n_channel)
    row_index = np.broadcast_to(np.arange(len(near_channels))[:, None], near_channels.shape)[is_on_axis]
    return _set_entries(
        matrix,
        row_index,
        near_channels[is_on_axis],
        (fraction_below[:, 1:] - fraction_below[:, :-1])[_index_array(is_on_axis, reference_array)],
    )


def _channels_near(shape: Shape, energy_kev: FloatArray, sigma: Array) -> NDArray[np.int64]:
    """Return the (n_energy, n_near) channels around each energy; some channels may be outside the axis."""
    gain_kev, zero_kev = (float(_detach(axis_value)) for axis_value in (shape.gain_kev, shape.zero_kev))
    longest_tail_kev = max(
        (
            float(_detach(decay_length))
            for tail_fraction, decay_length in _tail_parameters(shape)
            if float(_detach(tail_fraction)) > 0
        ),
        default=0,
    )
    half_range_kev = PEAK_RANGE_SIGMAS * np.asarray(_detach(sigma))[:, 0]
    first_channel = np.floor(
        (energy_kev - half_range_kev - TAIL_RANGE_WIDTHS * longest_tail_kev - zero_kev) / gain_kev
    ).astype(np.int64)
    last_channel = np.ceil((energy_kev + half_range_kev - zero_kev) / gain_kev).astype(np.int64)
    return first_channel[:, None] + np.arange(int((last_channel - first_channel).max(initial=0)) + 1)


def _fraction_below(shape: Shape, border_kev: Array, centre_kev: Array, sigma_kev: Array) -> Array:
    """Return the fraction of a peak, including tails and shelf, below each channel border."""
    xp = array_namespace(border_kev)
    offset_sigmas = (border_kev - centre_kev) / sigma_kev
    special_functions = _special_functions(border_kev)
    fraction_above = 0.5 * special_functions.erfc(offset_sigmas / np.sqrt(2.0))
    gaussian_factor = xp.exp(-0.5 * xp.clip(offset_sigmas, -40.0, 40.0) ** 2)
    tail_excess = sum(
        tail_fraction * _tail_excess(special_functions, offset_sigmas, gaussian_factor, sigma_kev / decay_length)
        for tail_fraction, decay_length in _tail_parameters(shape)
        if is_torch_array(tail_fraction) or tail_fraction > 0  # a tensor has a derivative even where it is zero
    )
    # the shelf is uniform from zero to the peak; the shelf's upper edge has the width of the peak
    shelf_below = (
        centre_kev + (border_kev - centre_kev) * fraction_above - sigma_kev * (gaussian_factor / np.sqrt(2.0 * np.pi))
    )
    shelf_below = xp.where(border_kev > 0.0, shelf_below, 0.0) * (
        shape.shelf_fraction / xp.where(centre_kev > sigma_kev, centre_kev, sigma_kev)
    )
    return (1.0 - shape.shelf_fraction) * (1.0 - fraction_above) + tail_excess + shelf_below


def _tail_parameters(shape: Shape) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return the area fraction and the decay length, in keV, of each tail."""
    return (shape.tail_fraction, shape.tail_width_kev), (shape.long_tail_fraction, shape.long_tail_width_kev)


def _tail_excess(special_functions: Any, offset_sigmas: Array, gaussian_factor: Array, relative_slope: Array) -> Array:
    """Return the fraction below a border of a tail convolved with the peak, minus the peak's fraction below it."""
    xp = array_namespace(offset_sigmas)
    erfc_argument = (offset_sigmas + relative_slope) / np.sqrt(2.0)
    # erfcx avoids the product of a large exponential and a small erfc, but overflows far below the peak
    excess_near_peak = 0.5 * gaussian_factor * special_functions.erfcx(xp.clip(erfc_argument, min=-5.0))
    far_limit = xp.exp(xp.clip(offset_sigmas * relative_slope + 0.5 * relative_slope**2, max=0.0))
    return xp.where(erfc_argument > -5.0, excess_near_peak, far_limit)


def _set_entries(
    matrix: Array, row_index: NDArray[np.int64], column_index: NDArray[np.int64], new_entries: Array
) -> Array:
    """Return a matrix in which the entries at the given rows and columns are replaced."""
    if isinstance(matrix, np.ndarray):
        matrix[row_index, column_index] = new_entries
        return matrix
    return matrix.index_put((_index_array(row_index, matrix), _index_array(column_index, matrix)), new_entries)


def _index_array(index_values: NDArray[Any], reference_array: Array) -> Any:
    return array_namespace(reference_array).asarray(index_values, device=reference_array.device)


def _detach(number_or_tensor: Any) -> Any:
    """Return numbers unchanged, and tensors as numpy arrays without derivatives."""
    return number_or_tensor.detach().cpu().numpy() if is_torch_array(number_or_tensor) else number_or_tensor


def _add_to_rows(matrix: Array, row_index: NDArray[np.intp], added_rows: Array) -> Array:
    """Return a matrix with ``added_rows`` added to the rows at ``row_index``."""
    if isinstance(matrix, np.ndarray):
        matrix[row_index] += added_rows
        return matrix
    return matrix.index_add(0, _index_array(row_index, matrix), added_rows)


def _column_like_shape(energy_values: FloatArray, shape: Shape) -> Array:
    return as_array(energy_values, _tensor_of(shape))[:, None]


def _tensor_of(shape: Shape) -> Array:
    """Return the first field of a shape that is a tensor, or a numpy zero if no field is a tensor."""
    field_values = (getattr(shape, name) for name in Shape.__dataclass_fields__)
    return next((field_value for field_value in field_values if is_torch_array(field_value)), np.asarray(0.0))


def _special_functions(array: Array) -> Any:
    """Return the special functions for an array: those of SciPy or torch."""
    return sys.modules["torch"].special if is_torch_array(array) else scipy.special


@lru_cache
def _k_lines(z: int) -> tuple[tuple[float, float], ...]:
    line_codes = ("KL2_LINE", "KL3_LINE", "KM2_LINE", "KM3_LINE")
    k_lines = [
        (float(xraylib.LineEnergy(z, line_code)), float(xraylib.RadRate(z, line_code)))
        for line_code in (getattr(xraylib, code_name) for code_name in line_codes)
        if _has_rate(z, line_code)
    ]
    merged_groups: list[list[tuple[float, float]]] = []
    for k_line in sorted(k_lines):
        if merged_groups and k_line[0] - merged_groups[-1][0][0] < ESCAPE_MERGE_DISTANCE_KEV:
            merged_groups[-1].append(k_line)
        else:
            merged_groups.append([k_line])
    total_rate = sum(rate for _, rate in k_lines)
    return tuple(
        (sum(energy_kev * rate for energy_kev, rate in merged_lines) / group_rate, group_rate / total_rate)
        for merged_lines in merged_groups
        for group_rate in [sum(rate for _, rate in merged_lines)]
    )


def _has_rate(z: int, line_code: int) -> bool:
    try:
        return float(xraylib.RadRate(z, line_code)) > 0 and float(xraylib.LineEnergy(z, line_code)) > 0
    except ValueError:
        return False


MAX_COUNTS = 2e9
"""Largest expected counts of a channel; Poisson counts for this value fit into a 32-bit integer."""


def count(expected: NDArray[np.floating], *, rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw Poisson counts.

    Parameters
    ----------
    expected : array
        Expected counts, scaled to the live time or to the total counts of the spectrum.
    rng : numpy.random.Generator
        Random number generator.

    Returns
    -------
    int32 array

    Raises
    ------
    SampleError
        Expected counts are negative, not a number or too large.
    """
    count_range = (float(np.min(expected)), float(np.max(expected))) if expected.size else (0.0, 0.0)
    if not (count_range[0] >= 0 and count_range[1] <= MAX_COUNTS):
        raise SampleError(
            f"Cannot draw counts: the expected counts of a channel range from {count_range[0]:g} to {count_range[1]:g}"
            f"; 0 to {MAX_COUNTS:g} are possible. Ask for fewer counts, or for expected counts without noise."
        )
    return rng.poisson(np.asarray(expected, dtype=np.float64)).astype(np.int32)


def counts_needed(
    line_counts: FloatArray,
    energy_kev: FloatArray,
    expected: NDArray[np.floating],
    axis: EnergyAxis,
    detector: Detector,
    *,
    model_error: float = 0.0,
    sigmas: float = 3.0,
) -> FloatArray:
    """Return the total counts of a spectrum at which lines reach the limit of detection.

    The line counts S must exceed ``3 sqrt(2 B)``, where B is the number of background counts below the lines. Let S be
    the fraction s of the total counts, and B the fraction b. Detection then needs ``18 b / s**2`` total counts, and at
    least nine line counts. If the background has the relative error e, S must exceed ``3 sqrt(2 (B + (e B)**2))``.
    Detection then needs ``18 b / (s**2 - 18 (e b)**2)`` total counts. If the denominator is not positive, detection is
    impossible (infinity). ``sigmas`` is used in place of the factor three.

    Parameters
    ----------
    line_counts : (n_sample, n_line) array
        Detected counts of the lines, on the scale of ``expected``.
    energy_kev : (n_line,) array
        Energies of the lines, in keV.
    expected : (n_sample, n_channel) array
        Expected spectra.
    axis : EnergyAxis
        Energy axis of the spectra.
    detector : Detector
        Detector whose resolution is used.
    model_error : float
        Relative error of the background below the lines.
    sigmas : float
        Required significance of the lines, in standard deviations.

    Returns
    -------
    (n_sample,) array
        Total counts; infinite if the lines are absent, outside the recorded range, or smaller than the model error.
    """
    total_counts = expected.sum(axis=1)
    line_window = line_window_mask(line_counts, energy_kev, expected.shape[1], axis, detector)
    is_background_channel = (expected > 0) & line_window
    is_recorded = _are_lines_recorded(energy_kev, expected, axis)
    signal_fraction = np.sum(line_counts * is_recorded, axis=1) / total_counts
    background_fraction = np.maximum(
        np.sum(np.where(is_background_channel, expected, 0.0), axis=1) / total_counts - signal_fraction, 0.0
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        detection_factor = 2.0 * sigmas**2
        denominator = signal_fraction**2 - detection_factor * (model_error * background_fraction) ** 2
        needed_counts = np.maximum(detection_factor * background_fraction / denominator, sigmas**2 / signal_fraction)
    return np.asarray(np.where((signal_fraction > 0) & (denominator > 0), needed_counts, np.inf))


def line_window_mask(
    line_counts: FloatArray, energy_kev: FloatArray, n_channel: int, axis: EnergyAxis, detector: Detector
) -> NDArray[np.bool_]:
    """Return an (n_sample, n_channel) mask of the channels within half a FWHM of a sample's stronger lines."""
    half_fwhm_kev = 0.5 * FWHM_PER_SIGMA * resolution_sigma(detector, energy_kev)
    first_channel = np.searchsorted(axis.edges_kev[1:], energy_kev - half_fwhm_kev)
    end_channel = np.searchsorted(axis.edges_kev[:-1], energy_kev + half_fwhm_kev)
    strongest_counts = (
        line_counts.max(axis=1, keepdims=True) if line_counts.shape[1] else np.zeros((len(line_counts), 1))
    )
    channel_index = np.arange(n_channel)
    is_in_window = (channel_index >= first_channel[:, None]) & (channel_index < end_channel[:, None])
    # windows of weak lines would contain background, but hardly any signal
    return np.asarray((line_counts > 0.1 * strongest_counts).astype(np.float32) @ is_in_window.astype(np.float32) > 0)


def _are_lines_recorded(energy_kev: FloatArray, expected: NDArray[np.floating], axis: EnergyAxis) -> NDArray[np.bool_]:
    """Return an (n_sample, n_line) mask of the lines within the recorded range."""
    channel = np.round(axis.channel(0.0) + energy_kev / axis.gain_kev).astype(np.int64)
    is_on_axis = (channel >= 0) & (channel < axis.n_channel)
    return np.asarray(is_on_axis & (expected[:, np.clip(channel, 0, axis.n_channel - 1)] > 0))


SECONDS_PER_US = 1e-6


def pile_up(expected: Array, rate_per_s: Array | float, detector: Detector, axis: EnergyAxis) -> Array:
    """Return the expected counts with pile-up: photons within the pulse-pair resolution are recorded as one pulse.

    A recorded pulse contains one photon, and a Poisson-distributed number of photons that follow within the pulse-pair
    resolution. The energies of these photons add up. Let x be the rate times the pulse-pair resolution, and p the
    Fourier transform of the energy distribution of single photons. The energy distribution of pulses then has the
    Fourier transform ``p exp(x (p - 1))``, which includes all orders of coincidence. There are ``1 / (1 + x)`` pulses
    per photon, which conserves the total energy (Wielopolski & Gardner 1976, rectangular pulses).

    Parameters
    ----------
    expected : (n_sample, n_channel) array
        Expected counts without pile-up, from ``render``: numpy or torch, on any scale. Photons outside the axis do not
        pile up.
    rate_per_s : (n_sample,) array or float
        Detected photons per second of live time.
    detector : Detector
        Detector whose ``pulse_pair_us`` is used. If ``pulse_pair_us`` is zero, there is no pile-up.
    axis : EnergyAxis
        Energy axis of the spectra.

    Returns
    -------
    (n_sample, n_channel) array
        Expected counts with pile-up; pulses outside the axis are lost.

    Raises
    ------
    InstrumentError
        A rate is negative or not finite.
    """
    xp = array_namespace(expected)
    photon_rate = as_array(rate_per_s, expected) * xp.ones_like(expected[:, 0])
    if not bool(xp.all(xp.isfinite(photon_rate) & (photon_rate >= 0))):
        raise InstrumentError(
            "Cannot compute pile-up: a count rate is negative or not finite; give photons per second, 0 or more."
        )
    if detector.pulse_pair_us == 0:
        return expected
    mean_coincidences = (photon_rate * (detector.pulse_pair_us * SECONDS_PER_US))[:, None]
    total_counts = xp.sum(expected, axis=1, keepdims=True)
    # the transform is long enough for the sum of two photons at the end of the axis; larger sums are rare
    fft_length = 1 << int(np.ceil(np.log2(3 * axis.n_channel)))
    photon_transform = xp.fft.rfft(expected / xp.where(total_counts > 0, total_counts, 1.0), n=fft_length, axis=1)
    pulse_transform = photon_transform * xp.exp(
        mean_coincidences * (photon_transform * _zero_offset_phase(axis, fft_length, photon_transform) - 1.0)
    )
    pulse_spectrum = xp.fft.irfft(pulse_transform, n=fft_length, axis=1)[:, : axis.n_channel]
    return xp.clip(pulse_spectrum, min=0.0) * (total_counts / (1.0 + mean_coincidences))


def live_share(rate_per_s: Array | float, detector: Detector) -> Array:
    """Return the ratio of live to real time, for a paralysable dead time.

    Parameters
    ----------
    rate_per_s : array or float
        Detected photons per second.
    detector : Detector
        Detector whose ``dead_time_us`` is used. The dead time is twice the sum of peaking time and flat top.

    Returns
    -------
    array or float
    """
    return np.exp(-np.asarray(rate_per_s) * detector.dead_time_us * SECONDS_PER_US)


def _zero_offset_phase(axis: EnergyAxis, fft_length: int, reference_array: Array) -> Array:
    """Return the Fourier phase of a shift by the energy of channel 0, since pile-up adds energies, not channels."""
    shift_channels = axis.zero_kev / axis.gain_kev
    fourier_phase = np.exp(-2j * np.pi * np.arange(fft_length // 2 + 1) / fft_length * shift_channels)
    xp = array_namespace(reference_array)
    return xp.asarray(fourier_phase, dtype=reference_array.dtype, device=reference_array.device)
