"""From photons at the detector's window to expected counts per channel, and to counts.

Counts are drawn with Poisson noise, after pile-up.
"""

import sys
from dataclasses import dataclass
from functools import lru_cache, partial
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

Numbers = NDArray[np.float64]
REACH_SIGMAS = 8.0
"""Range of a Gaussian, standard deviations; less than 1e-15 of its area lies beyond."""
TAIL_WIDTHS = 14.0
"""Range of an exponential tail, decay lengths; 1e-6 of it lies beyond."""
PAIR_KEV = {"Si": EPSILON_SI_KEV, "Ge": 2.96e-3}
"""Mean energy per electron-hole pair, keV; of germanium at 77 K (Knoll 2010, table 11.1)."""
ESCAPE_MERGED_KEV = 0.2
"""K lines of the crystal closer than this escape as one: silicon's two, not germanium's."""


@dataclass(frozen=True)
class Shape:
    """How detector and electronics write down a photon; numbers, or 0-d tensors of torch that carry derivatives.

    Parameters
    ----------
    gain_kev, zero_kev : float
        Width of a channel and energy of the centre of channel 0, keV.
    noise_fwhm_kev : float
        Electronic noise, FWHM, keV.
    fano : float
    shelf_fraction, tail_fraction : float
        Areas relative to that of the full peak.
    tail_width_kev : float
        Decay length of the tail, keV.
    long_tail_fraction, long_tail_width_kev : float
        Of a second, longer tail.
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


def shape_of(detector: Detector, axis: EnergyAxis) -> Shape:
    """Return the shape that a detector's settings describe, on an axis."""
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
    """Return the detector's channels."""
    return EnergyAxis(detector.gain_kev, detector.zero_kev, detector.n_channel)


def render(
    emission: Emission, detector: Detector, axis: EnergyAxis | None = None, *, shape: Shape | None = None
) -> Array:
    """Return expected counts of a batch: efficiency, peak, shelf, tail and escape as one matrix product.

    Parameters
    ----------
    emission : Emission
        From ``emit`` or ``transport``; the result is of the same array library and precision.
    detector : Detector
        Crystal, window and response.
    axis : EnergyAxis, optional
        Energy axis; by default the detector's. Values are integrated over each channel.
    shape : Shape, optional
        Gain, zero and response in place of the detector's and the axis', as tensors that carry derivatives.

    Returns
    -------
    (n_sample, n_channel) array
        Expected counts on the emission's scale.
    """
    axis = axis_of(detector) if axis is None else axis
    xp = array_namespace(emission.coherent)
    energy = np.concatenate([emission.lines.energy_kev, emission.source_kev, emission.compton_kev])
    widths = [np.zeros(len(emission.lines)), emission.width_kev, emission.compton_width_kev]
    spread = np.concatenate(widths) / np.sqrt(12.0)
    photons = xp.concat([emission.line_photons, emission.coherent, emission.shifted], axis=1)
    if shape is not None:
        return photons @ response_matrix(detector, axis, energy, spread, shape=shape)
    matrix = _kept_matrix(detector, axis, energy.tobytes(), spread.tobytes(), photons.itemsize)
    return photons @ as_array(matrix, photons)


def resolution_sigma(detector: Detector, energy_kev: Numbers) -> Numbers:
    """Return the peak's standard deviation, keV: electronic noise and charge statistics in quadrature."""
    # spectrum's formula is silicon's: another crystal's pairs enter as its Fano factor does
    fano = detector.fano * (pair_energy(detector) / EPSILON_SI_KEV)
    return resolution_fwhm_kev(energy_kev, detector.noise_fwhm_kev, fano) / FWHM_PER_SIGMA


def pair_energy(detector: Detector) -> float:
    """Return the mean energy per electron-hole pair of the crystal, keV.

    Raises
    ------
    InstrumentError
        The crystal is neither silicon nor germanium.
    """
    if detector.material not in PAIR_KEV:
        raise InstrumentError(
            f"Cannot compute the resolution of a detector of {detector.material!r}: the energy per electron-hole "
            f"pair is known for {' and '.join(PAIR_KEV)} alone. Set the detector's material to one of them."
        )
    return PAIR_KEV[detector.material]


def efficiency(detector: Detector, energy_kev: Numbers) -> Numbers:
    """Return the share of photons that interact in the crystal behind filters, window and dead layer.

    Parameters
    ----------
    energy_kev : (n_energy,) array
        keV.
    """
    crystal = mass_attenuation(detector.material, energy_kev) * detector.density * CM_PER_UM
    absorbed = -np.expm1(-crystal * detector.thickness_um) * np.exp(-crystal * detector.dead_layer_um)
    for sheet in (*detector.filters, detector.window):
        absorbed = absorbed * filter_transmission(sheet, energy_kev)
    return np.asarray(absorbed)


def escape_share(detector: Detector, energy_kev: Numbers) -> Numbers:
    """Return the share of detected photons that lose a K photon of the crystal (Reed & Ware 1972, eq. 4)."""
    number = atomic_number(detector.material)
    jump, fluorescence = float(xraylib.JumpFactor(number, 0)), float(xraylib.FluorYield(number, 0))
    at_photon = mass_attenuation(detector.material, energy_kev)
    share = np.zeros(np.shape(energy_kev))
    for line_kev, rate in escape_lines(detector):
        ratio = float(mass_attenuation(detector.material, np.asarray([line_kev]))[0]) / at_photon
        share += rate * 0.5 * fluorescence * (1.0 - 1.0 / jump) * (1.0 - ratio * np.log1p(1.0 / ratio))
    return np.asarray(np.where(energy_kev > edge_energy(number, 0), share, 0.0))


def escape_lines(detector: Detector) -> tuple[tuple[float, float], ...]:
    """Return (keV, share of the K photons) of the crystal's K lines; close ones are merged."""
    return _k_lines(atomic_number(detector.material))


def response_matrix(
    detector: Detector,
    axis: EnergyAxis,
    energy_kev: Numbers,
    spread_kev: Numbers | float = 0.0,
    *,
    shape: Shape | None = None,
) -> Array:
    """Return (n_energy, n_channel) counts per photon of each energy.

    Parameters
    ----------
    energy_kev : (n_energy,) array
        keV.
    spread_kev : (n_energy,) array or float
        Standard deviation that the photons themselves have (bins of a continuum), keV.
    shape : Shape, optional
        In place of the detector's and the axis'; where it holds tensors, the matrix is one of torch.

    Raises
    ------
    InstrumentError
        The crystal is neither silicon nor germanium.

    Notes
    -----
    Peak, exponential tail and shelf have unit area together (Campbell & Wang 1991, eqs. 1-3).
    """
    shape = shape_of(detector, axis) if shape is None else shape
    spread = np.broadcast_to(np.asarray(spread_kev, dtype=np.float64), energy_kev.shape)
    peaks = partial(_peaks, shape, axis.n_channel, pair_energy(detector))
    detected, escaped = efficiency(detector, energy_kev), escape_share(detector, energy_kev)
    matrix = _column(detected * (1.0 - escaped), shape) * peaks(energy_kev, spread)
    strong = np.flatnonzero(escaped > 1e-6)
    for line_kev, rate in escape_lines(detector) if strong.size else ():
        lost = peaks(energy_kev[strong] - line_kev, spread[strong])
        added = _column((detected * escaped)[strong] * rate, shape) * lost
        matrix = _with_rows_added(matrix, strong, added)
    return matrix


@lru_cache(maxsize=6)
def _kept_matrix(detector: Detector, axis: EnergyAxis, energy: bytes, spread: bytes, itemsize: int) -> Array:
    """Return the matrix of one setting, which many batches share; in the precision of the photons."""
    matrix = response_matrix(detector, axis, np.frombuffer(energy), np.frombuffer(spread))
    return matrix.astype(np.float32) if itemsize == 4 else matrix


def _peaks(shape: Shape, n_channel: int, pair_kev: float, energy: Numbers, spread: Numbers) -> Array:
    """Return (n_energy, n_channel) peaks with tail and shelf.

    Peak and tail are differences of cumulative functions at the channel borders near the peak; the shelf is uniform
    below it.
    """
    like = _tensor_of(shape)
    xp = array_namespace(like)
    centre = as_array(energy, like)[:, None]
    variance = (shape.noise_fwhm_kev / FWHM_PER_SIGMA) ** 2 + pair_kev * shape.fano * xp.clip(centre, min=0.0)
    sigma = xp.sqrt(variance + as_array(spread**2, like)[:, None])
    columns = _near(shape, energy, sigma)
    lowest = columns[:, :1]
    every = xp.arange(n_channel + 1, dtype=like.dtype, device=like.device)
    even = xp.clip(shape.zero_kev + shape.gain_kev * (every - 0.5), min=0.0)
    level = shape.shelf_fraction / xp.where(centre > sigma, centre, sigma)
    matrix = xp.where(
        xp.asarray(np.arange(n_channel) < lowest, device=like.device), level * (even[1:] - even[:-1]), 0.0
    )
    borders = np.concatenate([columns, columns[:, -1:] + 1], axis=1) - 0.5
    below = _below(shape, shape.zero_kev + shape.gain_kev * as_array(borders, like), centre, sigma)
    inside = (columns >= 0) & (columns < n_channel)
    rows = np.broadcast_to(np.arange(len(columns))[:, None], columns.shape)[inside]
    return _placed(matrix, rows, columns[inside], (below[:, 1:] - below[:, :-1])[_index(inside, like)])


def _near(shape: Shape, energy: Numbers, sigma: Array) -> NDArray[np.int64]:
    """Return (n_energy, n_near) channels around each energy; some may lie off the axis."""
    gain, zero = (float(_plain(value)) for value in (shape.gain_kev, shape.zero_kev))
    width = max((float(_plain(length)) for fraction, length in _tails(shape) if float(_plain(fraction)) > 0), default=0)
    reach = REACH_SIGMAS * np.asarray(_plain(sigma))[:, 0]
    first = np.floor((energy - reach - TAIL_WIDTHS * width - zero) / gain).astype(np.int64)
    last = np.ceil((energy + reach - zero) / gain).astype(np.int64)
    return first[:, None] + np.arange(int((last - first).max(initial=0)) + 1)


def _below(shape: Shape, border: Array, centre: Array, sigma: Array) -> Array:
    """Return the share of a peak with tail and shelf below the channel borders."""
    xp = array_namespace(border)
    offset = (border - centre) / sigma
    special = _special(border)
    above = 0.5 * special.erfc(offset / np.sqrt(2.0))
    bell = xp.exp(-0.5 * xp.clip(offset, -40.0, 40.0) ** 2)
    tails = [fraction * _tail(special, offset, bell, sigma / width) for fraction, width in _tails(shape)]
    # a uniform shelf from zero to the peak, with an edge as wide as the peak
    shelf = centre + (border - centre) * above - sigma * (bell / np.sqrt(2.0 * np.pi))
    shelf = xp.where(border > 0.0, shelf, 0.0) * (shape.shelf_fraction / xp.where(centre > sigma, centre, sigma))
    return (1.0 - shape.shelf_fraction) * (1.0 - above) + tails[0] + tails[1] + shelf


def _tails(shape: Shape) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return fraction and decay length of both tails."""
    return (shape.tail_fraction, shape.tail_width_kev), (shape.long_tail_fraction, shape.long_tail_width_kev)


def _tail(special: Any, offset: Array, bell: Array, slope: Array) -> Array:
    """Return the share of an exponential tail, convolved with the peak, below a border in excess of the peak's."""
    xp = array_namespace(offset)
    argument = (offset + slope) / np.sqrt(2.0)
    # erfcx keeps the product of a huge exponential and a tiny erfc finite; far below the peak erfc is 2 and erfcx
    # overflows
    near = 0.5 * bell * special.erfcx(xp.clip(argument, min=-5.0))
    far = xp.exp(xp.clip(offset * slope + 0.5 * slope**2, max=0.0))
    return xp.where(argument > -5.0, near, far)


def _placed(matrix: Array, rows: NDArray[np.int64], columns: NDArray[np.int64], values: Array) -> Array:
    """Return a matrix with values scattered into it."""
    if isinstance(matrix, np.ndarray):
        matrix[rows, columns] = values
        return matrix
    return matrix.index_put((_index(rows, matrix), _index(columns, matrix)), values)


def _index(values: NDArray[Any], like: Array) -> Any:
    return array_namespace(like).asarray(values, device=like.device)


def _plain(value: Any) -> Any:
    """Return a number or numpy array without derivatives."""
    return value.detach().cpu().numpy() if is_torch_array(value) else value


def _with_rows_added(matrix: Array, rows: NDArray[np.intp], added: Array) -> Array:
    """Return a matrix with values added to some of its rows."""
    if isinstance(matrix, np.ndarray):
        matrix[rows] += added
        return matrix
    return matrix.index_add(0, _index(rows, matrix), added)


def _column(values: Numbers, shape: Shape) -> Array:
    return as_array(values, _tensor_of(shape))[:, None]


def _tensor_of(shape: Shape) -> Array:
    """Return one of the shape's tensors, or a NumPy number where none is a tensor."""
    values = (getattr(shape, name) for name in Shape.__dataclass_fields__)
    return next((value for value in values if is_torch_array(value)), np.asarray(0.0))


def _special(like: Array) -> Any:
    """Return the special functions of an array's library; torch is imported only for its tensors."""
    return sys.modules["torch"].special if is_torch_array(like) else scipy.special


@lru_cache
def _k_lines(number: int) -> tuple[tuple[float, float], ...]:
    names = ("KL2_LINE", "KL3_LINE", "KM2_LINE", "KM3_LINE")
    rows = [
        (float(xraylib.LineEnergy(number, line)), float(xraylib.RadRate(number, line)))
        for line in (getattr(xraylib, name) for name in names)
        if _has_rate(number, line)
    ]
    groups: list[list[tuple[float, float]]] = []
    for row in sorted(rows):
        if groups and row[0] - groups[-1][0][0] < ESCAPE_MERGED_KEV:
            groups[-1].append(row)
        else:
            groups.append([row])
    total = sum(rate for _, rate in rows)
    return tuple(
        (sum(kev * rate for kev, rate in group) / weight, weight / total)
        for group in groups
        for weight in [sum(rate for _, rate in group)]
    )


def _has_rate(number: int, line: int) -> bool:
    try:
        return float(xraylib.RadRate(number, line)) > 0 and float(xraylib.LineEnergy(number, line)) > 0
    except ValueError:
        return False


MAX_COUNTS = 2e9
"""Largest expected counts that fit into a 32-bit channel, Poisson noise included."""


def count(expected: NDArray[np.floating], *, rng: np.random.Generator) -> NDArray[np.int32]:
    """Draw Poisson counts.

    Parameters
    ----------
    expected : array
        Expected counts, already scaled to the live time or total wanted.
    rng : numpy.random.Generator
        Source of randomness.

    Raises
    ------
    SampleError
        An expected count is negative, not a number or too large for a channel.
    """
    ends = (float(np.min(expected)), float(np.max(expected))) if expected.size else (0.0, 0.0)
    if not (ends[0] >= 0 and ends[1] <= MAX_COUNTS):
        raise SampleError(
            f"Cannot count photons: a channel's expected counts run from {ends[0]:g} to {ends[1]:g}; 0 to "
            f"{MAX_COUNTS:g} are possible. Ask for fewer counts, or for expected counts without noise."
        )
    return rng.poisson(np.asarray(expected, dtype=np.float64)).astype(np.int32)


def counts_needed(
    line_counts: Numbers,
    energy_kev: Numbers,
    expected: NDArray[np.floating],
    axis: EnergyAxis,
    detector: Detector,
    *,
    model_error: float = 0.0,
    sigmas: float = 3.0,
) -> Numbers:
    """Return the total counts at which lines exceed the limit of detection.

    The rule is ``S > 3 sqrt(2 B)``: with shares s of the lines and b of the background in the spectrum, this is ``18 b
    / s**2`` counts, and at least nine counts in the lines where there is no background. Where the background has the
    relative error e, ``S > 3 sqrt(2 (B + (e B)**2))``: ``18 b / (s**2 - 18 (e b)**2)`` counts, or infinity. ``sigmas``
    replaces the factor three.

    Parameters
    ----------
    line_counts : (n_sample, n_line) array
        Detected counts of the lines in question, on the scale of ``expected``.
    energy_kev : (n_line,) array
        keV.
    expected : (n_sample, n_channel) array
        Spectra on ``axis``.
    model_error : float
        Relative error of the background under the lines.
    sigmas : float
        How far the lines have to rise.

    Returns
    -------
    (n_sample,) array
        Infinite where the lines are absent, outside the recorded range, or within the model's error.
    """
    total = expected.sum(axis=1)
    window = key_window(line_counts, energy_kev, expected.shape[1], axis, detector)
    recorded = (expected > 0) & window
    covered = _covered(energy_kev, expected, axis)
    signal = np.sum(line_counts * covered, axis=1) / total
    under = np.maximum(np.sum(np.where(recorded, expected, 0.0), axis=1) / total - signal, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        rise = 2.0 * sigmas**2
        above = signal**2 - rise * (model_error * under) ** 2
        needed = np.maximum(rise * under / above, sigmas**2 / signal)
    return np.asarray(np.where((signal > 0) & (above > 0), needed, np.inf))


def key_window(
    line_counts: Numbers, energy_kev: Numbers, n_channel: int, axis: EnergyAxis, detector: Detector
) -> NDArray[np.bool_]:
    """Return (n_sample, n_channel) channels within half a FWHM on either side of each sample's stronger lines."""
    half = 0.5 * FWHM_PER_SIGMA * resolution_sigma(detector, energy_kev)
    low = np.searchsorted(axis.edges_kev[1:], energy_kev - half)
    high = np.searchsorted(axis.edges_kev[:-1], energy_kev + half)
    strongest = line_counts.max(axis=1, keepdims=True) if line_counts.shape[1] else np.zeros((len(line_counts), 1))
    channels = np.arange(n_channel)
    inside = (channels >= low[:, None]) & (channels < high[:, None])
    # weak satellites would widen the window and bring background but hardly any signal
    return np.asarray((line_counts > 0.1 * strongest).astype(np.float32) @ inside.astype(np.float32) > 0)


def _covered(energy_kev: Numbers, expected: NDArray[np.floating], axis: EnergyAxis) -> NDArray[np.bool_]:
    """Return (n_sample, n_line) whether each line is within the recorded range."""
    channel = np.round(axis.channel(0.0) + energy_kev / axis.gain_kev).astype(np.int64)
    inside = (channel >= 0) & (channel < axis.n_channel)
    return np.asarray(inside & (expected[:, np.clip(channel, 0, axis.n_channel - 1)] > 0))


SECONDS_PER_US = 1e-6


def pile_up(expected: Array, rate_per_s: Array | float, detector: Detector, axis: EnergyAxis) -> Array:
    """Return expected counts after photons closer than the pulse-pair resolution were recorded as one.

    A recorded pulse contains one photon and those that follow within the pulse-pair resolution, Poisson distributed in
    number; their energies add up. With x the rate times the resolution and p the spectrum of one photon, the spectrum
    of a pulse has the Fourier transform ``p exp(x (p - 1))``, with all orders of coincidence, and there are ``1 / (1 +
    x)`` pulses per photon: the total energy is conserved (Wielopolski & Gardner 1976, for a rectangular pulse shape).

    Parameters
    ----------
    expected : (n_sample, n_channel) array
        Expected counts without pile-up, numpy or torch, on any scale: ``render``'s. They should contain all photons
        detected: those outside the axis do not pile up.
    rate_per_s : (n_sample,) array or float
        Detected photons per second of live time.
    detector : Detector
        Its ``pulse_pair_us``; zero leaves the counts as they are.
    axis : EnergyAxis
        Energy of the channels.

    Returns
    -------
    (n_sample, n_channel) array
        Sums beyond the last channel, or below the first, are lost.

    Raises
    ------
    InstrumentError
        A rate is negative or not finite.
    """
    xp = array_namespace(expected)
    rate = as_array(rate_per_s, expected) * xp.ones_like(expected[:, 0])
    if not bool(xp.all(xp.isfinite(rate) & (rate >= 0))):
        raise InstrumentError(
            "Cannot compute pile-up: a count rate is negative or not finite; give photons per second, 0 or more."
        )
    if detector.pulse_pair_us == 0:
        return expected
    chance = (rate * (detector.pulse_pair_us * SECONDS_PER_US))[:, None]
    total = xp.sum(expected, axis=1, keepdims=True)
    # room for sums of two full scales; higher sums are rare and far above any axis
    length = 1 << int(np.ceil(np.log2(3 * axis.n_channel)))
    single = xp.fft.rfft(expected / xp.where(total > 0, total, 1.0), n=length, axis=1)
    pulse = single * xp.exp(chance * (single * _from_zero(axis, length, single) - 1.0))
    recorded = xp.fft.irfft(pulse, n=length, axis=1)[:, : axis.n_channel]
    return xp.clip(recorded, min=0.0) * (total / (1.0 + chance))


def live_share(rate_per_s: Array | float, detector: Detector) -> Array:
    """Return live over real time: no other photon within the dead time before (paralysable: every photon prolongs it).

    Parameters
    ----------
    rate_per_s : array or float
        Detected photons per second.
    detector : Detector
        Its ``dead_time_us``: the shaping time's peaking and flat top, twice over.
    """
    return np.exp(-np.asarray(rate_per_s) * detector.dead_time_us * SECONDS_PER_US)


def _from_zero(axis: EnergyAxis, length: int, like: Array) -> Array:
    """Return the Fourier phase of a shift by the axis' zero: energies add up, channel numbers do not."""
    shift = axis.zero_kev / axis.gain_kev
    phase = np.exp(-2j * np.pi * np.arange(length // 2 + 1) / length * shift)
    xp = array_namespace(like)
    return xp.asarray(phase, dtype=like.dtype, device=like.device)
