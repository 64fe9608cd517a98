"""Counts as they would be had every pixel been measured for the same live time."""

from dataclasses import replace

import numpy as np

from underpaint.data import Scan
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
