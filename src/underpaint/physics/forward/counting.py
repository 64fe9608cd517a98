"""Where photons are counted out: Poisson noise, and what shows above it."""

import numpy as np
from array_api_compat import array_namespace
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.errors import InstrumentError, SampleError
from underpaint.physics.forward.cells import as_array
from underpaint.physics.forward.response import resolution_sigma
from underpaint.physics.forward.stack import Array as AnyArray
from underpaint.physics.instrument import Detector
from underpaint.units import FWHM_PER_SIGMA

Array = NDArray[np.float64]
MOST_COUNTS = 2e9
"""Counts that a channel of 32 bits surely holds, Poisson noise included."""


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
        An expected count is negative, not a number or more than a channel holds.
    """
    ends = (float(np.min(expected)), float(np.max(expected))) if expected.size else (0.0, 0.0)
    if not (ends[0] >= 0 and ends[1] <= MOST_COUNTS):
        raise SampleError(
            f"Cannot count photons: a channel's expected counts run from {ends[0]:g} to {ends[1]:g}; 0 to "
            f"{MOST_COUNTS:g} are possible. Ask for fewer counts, or for expected counts without noise."
        )
    return rng.poisson(np.asarray(expected, dtype=np.float64)).astype(np.int32)


def counts_needed(
    own: Array,
    energy_kev: Array,
    expected: NDArray[np.floating],
    axis: EnergyAxis,
    detector: Detector,
    *,
    model_error: float = 0.0,
) -> Array:
    """Return the total counts at which lines rise over what lies under them.

    The rule is ``S > 3 sqrt(2 B)``: with shares s and b of the whole spectrum, at ``18 b / s**2`` counts; and
    never below nine counts of the lines themselves, where no background is left to compare with. Where what lies
    under them is known to a relative error e only, ``S > 3 sqrt(2 (B + (e B)**2))``: at
    ``18 b / (s**2 - 18 (e b)**2)`` counts, or never.

    Parameters
    ----------
    own : (n_sample, n_line) array
        Detected counts of the lines in question, on the scale of ``expected``.
    energy_kev : (n_line,) array
        keV.
    expected : (n_sample, n_channel) array
        Whole spectra on ``axis``.
    model_error : float
        Relative error of what lies under the lines.

    Returns
    -------
    (n_sample,) array
        Infinite where the lines are absent, outside the recorded range, or within the model's error.
    """
    total = expected.sum(axis=1)
    window = key_window(own, energy_kev, expected.shape[1], axis, detector)
    recorded = (expected > 0) & window
    covered = _covered(energy_kev, expected, axis)
    signal = np.sum(own * covered, axis=1) / total
    under = np.maximum(np.sum(np.where(recorded, expected, 0.0), axis=1) / total - signal, 0.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        above = signal**2 - 18.0 * (model_error * under) ** 2
        needed = np.maximum(18.0 * under / above, 9.0 / signal)
    return np.asarray(np.where((signal > 0) & (above > 0), needed, np.inf))


def key_window(
    own: Array, energy_kev: Array, n_channel: int, axis: EnergyAxis, detector: Detector
) -> NDArray[np.bool_]:
    """Return (n_sample, n_channel) channels within half a FWHM on either side of each sample's stronger lines."""
    half = 0.5 * FWHM_PER_SIGMA * resolution_sigma(detector, energy_kev)
    low = np.searchsorted(axis.edges_kev[1:], energy_kev - half)
    high = np.searchsorted(axis.edges_kev[:-1], energy_kev + half)
    strongest = own.max(axis=1, keepdims=True) if own.shape[1] else np.zeros((len(own), 1))
    channels = np.arange(n_channel)
    inside = (channels >= low[:, None]) & (channels < high[:, None])
    # weak satellites would widen the window and bring background but hardly any signal
    return np.asarray((own > 0.1 * strongest).astype(np.float32) @ inside.astype(np.float32) > 0)


def _covered(energy_kev: Array, expected: NDArray[np.floating], axis: EnergyAxis) -> NDArray[np.bool_]:
    """Return (n_sample, n_line) whether each line lies where the spectrum was recorded."""
    channel = np.round(axis.channel(0.0) + energy_kev / axis.gain_kev).astype(np.int64)
    inside = (channel >= 0) & (channel < axis.n_channel)
    return np.asarray(inside & (expected[:, np.clip(channel, 0, axis.n_channel - 1)] > 0))


SECONDS_PER_US = 1e-6


def pile_up(expected: AnyArray, rate_per_s: AnyArray | float, detector: Detector, axis: EnergyAxis) -> AnyArray:
    """Return expected counts after photons closer than the pulse-pair resolution were recorded as one.

    A recorded pulse holds one photon and those that follow within the resolution, Poisson in number; their energies
    add up. So with x = rate times resolution and p the spectrum of one photon, the spectrum of a pulse has the
    Fourier transform ``p exp(x (p - 1))``, all orders of coincidence included, and there are ``1 / (1 + x)`` pulses a
    photon: no photon's energy is lost (Wielopolski & Gardner 1976, for a rectangular pulse shape).

    Parameters
    ----------
    expected : (n_sample, n_channel) array
        Expected counts without pile-up, numpy or torch, on any scale: ``render``'s. They should hold all that the
        detector sees: photons that fall outside the axis pile up with none.
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
    # room for sums of two full scales; higher ones are rare and lie far above any axis
    length = 1 << int(np.ceil(np.log2(3 * axis.n_channel)))
    single = xp.fft.rfft(expected / xp.where(total > 0, total, 1.0), n=length, axis=1)
    pulse = single * xp.exp(chance * (single * _from_zero(axis, length, single) - 1.0))
    recorded = xp.fft.irfft(pulse, n=length, axis=1)[:, : axis.n_channel]
    return xp.clip(recorded, min=0.0) * (total / (1.0 + chance))


def live_share(rate_per_s: AnyArray | float, detector: Detector) -> AnyArray:
    """Return live over real time: no other photon within the dead time before (paralysable: every photon prolongs it).

    Parameters
    ----------
    rate_per_s : array or float
        Detected photons per second.
    detector : Detector
        Its ``dead_time_us``: the shaping time's peaking and flat top, twice over.
    """
    return np.exp(-np.asarray(rate_per_s) * detector.dead_time_us * SECONDS_PER_US)


def _from_zero(axis: EnergyAxis, length: int, like: AnyArray) -> AnyArray:
    """Return the Fourier phase of a shift by the axis' zero: energies add up, channel numbers do not."""
    shift = axis.zero_kev / axis.gain_kev
    phase = np.exp(-2j * np.pi * np.arange(length // 2 + 1) / length * shift)
    xp = array_namespace(like)
    return xp.asarray(phase, dtype=like.dtype, device=like.device)
