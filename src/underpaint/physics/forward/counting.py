"""Where photons are counted out: Poisson noise, and what shows above it."""

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.errors import SampleError
from underpaint.physics.forward.response import resolution_sigma
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
