"""Counts as they would be had every pixel been measured for the same live time."""

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import lambertw

from underpaint.data import EnergyAxis, Scan, survey
from underpaint.errors import ScanError
from underpaint.repair.record import Step

_MOST_FACTOR = 20.0


def with_equal_live_time(scan: Scan) -> tuple[Scan, Step]:
    """Return the scan with each pixel's counts times the median live time over its own, and what was done.

    Pixels of unknown live time, and those measured for less than a twentieth of the median, stay as they are and are
    marked as missing. Counts are no longer whole numbers: their noise is that of the counts recorded.

    Raises
    ------
    ScanError
        The scan has no live times.
    """
    if scan.live_time_s is None or not (scan.live_time_s > 0).any():
        raise ScanError(
            f"Cannot make the live times of scan {scan.name!r} equal: its file has none. Leave out --live-time, or "
            "convert the scan from the instrument's own files, which hold them."
        )
    live = scan.live_time_s
    median = float(np.median(live[live > 0]))
    known = np.isfinite(live) & (live > median / _MOST_FACTOR)
    factor = np.where(known, median / np.where(known, live, 1.0), 1.0).astype(np.float32)
    counts = scan.counts.astype(np.float32) * factor[:, :, None]
    present = known if scan.present is None else known & scan.present
    used = factor[known]
    said = f"counts times {used.min():.3f} to {used.max():.3f}, as for {median:.4g} s of live time in every pixel"
    if not known.all():
        said += f"; {int((~known).sum())} of {known.size} pixels of unknown or very short live time are now missing"
    step = Step("live_time", said, {"live_time_s": median, "unknown": np.argwhere(~known).tolist()})
    return (
        replace(
            scan,
            counts=counts,
            live_time_s=np.where(known, median, live),
            real_time_s=None if scan.real_time_s is None else scan.real_time_s * factor,
            present=None if present.all() else present,
            notes=(*scan.notes, said),
        ),
        step,
    )


_MOST_CHANCE = 0.3
_SECONDS_PER_US = 1e-6


def without_sum_peaks(scan: Scan, pulse_pair_us: float) -> tuple[Scan, Step]:
    """Return the scan as it would be had no two photons been taken for one, and what was done.

    Parameters
    ----------
    scan : Scan
        With energy axis and live times.
    pulse_pair_us : float
        Time within which two photons count as one, microseconds; the electronics' manual gives it.

    Raises
    ------
    ScanError
        The resolving time is not positive; live times are missing; a pixel's rate times the resolving time is over
        0.3, where the model does not hold.
    CalibrationError
        The scan has no energy axis.

    Notes
    -----
    A pulse holds one photon and those that follow within the resolving time, Poisson in number; with x the rate times
    that time and q, p the spectra of a pulse and of a photon as Fourier transforms, ``q = p exp(x (p - 1))``, so
    ``p = W(x q exp(x)) / x`` with Lambert's W; of n pulses come ``n (1 + x)`` photons, so sums count as the photons
    that they were. Sums beyond the last channel were not recorded and cannot be given back. The rate of photons is
    ``n (1 + x)`` over the live time, which gives x from the pulses.
    """
    axis = scan.require_axis()
    if not (np.isfinite(pulse_pair_us) and pulse_pair_us > 0):
        raise ScanError(f"Cannot take out sum peaks: a resolving time of {pulse_pair_us:g} µs; it must be positive.")
    if scan.live_time_s is None or not np.all((scan.live_time_s > 0)[... if scan.present is None else scan.present]):
        raise ScanError(
            f"Cannot take out sum peaks of scan {scan.name!r}: they depend on the rate, and its file lacks the live "
            "time of some pixels. Convert the scan from the instrument's own files, which hold them."
        )
    pulses = survey(scan).pixel_counts
    seen = pulses / np.where(scan.live_time_s > 0, scan.live_time_s, np.inf) * pulse_pair_us * _SECONDS_PER_US
    chance = seen / np.maximum(1.0 - seen, 1e-9)
    if chance.max() > _MOST_CHANCE or seen.max() >= 1.0:
        raise ScanError(
            f"Cannot take out sum peaks: {seen.max():.2f} photons arrive in {pulse_pair_us:g} µs in the fastest "
            f"pixel; up to {_MOST_CHANCE} can be told apart. Check the resolving time."
        )
    whole = scan.counts.rechunk({1: -1, 2: -1})
    counts = whole.map_blocks(_parted, chance, axis, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    said = f"sum peaks taken out for {pulse_pair_us:g} µs: {chance.max():.2%} of the pulses at most held two photons"
    step = Step("sum_peaks", said, {"pulse_pair_us": pulse_pair_us, "most_chance": float(chance.max())})
    return replace(scan, counts=counts, notes=(*scan.notes, said)), step


def _parted(
    block: NDArray[Any], chance: NDArray[np.float64], axis: EnergyAxis, block_info: Any = None
) -> NDArray[np.float32]:
    first = block_info[0]["array-location"][0][0] if block_info else 0
    x = chance[first : first + len(block)][:, :, None]
    pulses = block.sum(axis=2, keepdims=True, dtype=np.float64)
    length = 1 << int(np.ceil(np.log2(3 * axis.n_channel)))
    frequency = np.arange(length // 2 + 1) / length
    # energies add up, channel numbers do not: the axis' zero shifts a sum
    phase = np.exp(-2j * np.pi * frequency * axis.zero_kev / axis.gain_kev)
    pulse = np.fft.rfft(block / np.maximum(pulses, 1.0), n=length, axis=2) * phase
    small = np.maximum(x, 1e-12)
    single = lambertw(small * pulse * np.exp(small)) / small
    photons = np.fft.irfft(single / phase, n=length, axis=2)[:, :, : axis.n_channel]
    return np.asarray(np.maximum(photons, 0.0) * pulses * (1.0 + x), dtype=np.float32)
