"""Photons that arrive too close together: sum peaks, pile-up and dead time."""

import numpy as np
from array_api_compat import array_namespace

from underpaint.data import EnergyAxis
from underpaint.errors import InstrumentError
from underpaint.physics.forward.cells import as_array
from underpaint.physics.forward.stack import Array
from underpaint.physics.instrument import Detector

SECONDS_PER_US = 1e-6


def pile_up(expected: Array, rate_per_s: Array | float, detector: Detector, axis: EnergyAxis) -> Array:
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
