"""Dead and short pixels: found beside their neighbours, replaced by the mean of those that are sound."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import convolve, generic_filter

from underpaint.data import Scan, survey
from underpaint.errors import ScanError
from underpaint.repair.record import Step

Array = NDArray[np.float64]

SHORT_SHARE = 0.5
"""A pixel with less than this share of every neighbour's counts was cut short."""
_SHORT_SIGMAS = 8.0
_MOST_SHARE = 0.05
_AROUND = np.array([[1, 1, 1], [1, 0, 1], [1, 1, 1]])


@dataclass(frozen=True)
class FaultyPixels:
    """Pixels that hold nothing, or far less than all that lie around them.

    Parameters
    ----------
    dead, short : (n_row, n_column) bool arrays
        Without counts (or missing); with too few.
    """

    dead: NDArray[np.bool_]
    short: NDArray[np.bool_]

    @property
    def any(self) -> NDArray[np.bool_]:
        """(n_row, n_column) dead or short."""
        return np.asarray(self.dead | self.short)


def find_faulty_pixels(scan: Scan) -> FaultyPixels:
    """Find dead pixels, and short ones: under half of every neighbour's counts, by eight deviations.

    Paint has no edge that makes one pixel darker than all eight around it by so much; a read-out that lost part of
    its dwell time has. Short pixels that the live times tell of are kept: :func:`with_equal_live_time` mends them, and
    keeps what they recorded.

    Parameters
    ----------
    scan : Scan
        Read once.
    """
    total = survey(scan).pixel_counts  # 0 where the pixel is missing
    dead = total <= 0
    rate = total if scan.live_time_s is None else total / np.where(scan.live_time_s > 0, scan.live_time_s, np.nan)
    rate = np.where(dead | ~np.isfinite(rate), np.inf, rate)
    least = generic_filter(rate, np.min, footprint=_AROUND, mode="constant", cval=np.inf)
    expected = np.where(np.isfinite(least), SHORT_SHARE * least, 0.0)
    seconds = 1.0 if scan.live_time_s is None else np.nan_to_num(scan.live_time_s)
    missed = (expected - np.where(np.isfinite(rate), rate, 0.0)) * seconds
    short = ~dead & np.isfinite(rate) & (missed > _SHORT_SIGMAS * np.sqrt(np.maximum(expected * seconds, 1.0)))
    return FaultyPixels(np.asarray(dead), np.asarray(short))


def with_pixels_mended(scan: Scan, faulty: FaultyPixels) -> tuple[Scan, Step]:
    """Return the scan with each faulty pixel the mean of its sound neighbours (of up to eight), and what was done.

    Pixels without a sound neighbour stay as they are. Times are the neighbours' mean, too. Counts are no longer whole
    numbers there, and have less noise than those of a pixel that was measured.

    Raises
    ------
    ScanError
        More than a twentieth of the pixels is faulty: so much is not mended by guessing.
    """
    wrong = faulty.any
    if wrong.sum() > _MOST_SHARE * wrong.size:
        raise ScanError(
            f"Cannot mend pixels: {wrong.sum()} of {wrong.size} are dead or short; up to {_MOST_SHARE:.0%} are mended. "
            "Mask them instead, or crop."
        )
    n_sound = convolve((~wrong).astype(np.int64), _AROUND, mode="constant")
    mended = wrong & (n_sound > 0)
    counts = scan.counts.astype(np.float32) if mended.any() else scan.counts
    counts = counts.rechunk({1: -1, 2: -1})
    if mended.any():
        counts = counts.map_overlap(
            _mended_block, depth={0: 1, 1: 0, 2: 0}, boundary="none", trim=False, mended=mended, wrong=wrong,
            chunks=counts.chunks, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32), starts=_starts(counts),
        )  # fmt: skip
    times: dict[str, Any] = {
        name: _mended_times(getattr(scan, name), mended, ~wrong) for name in ("live_time_s", "real_time_s")
    }
    present = None if scan.present is None else scan.present | mended
    kinds = (("dead", faulty.dead & mended), ("short", faulty.short & mended), ("left", wrong & ~mended))
    facts = {name: np.argwhere(own).tolist() for name, own in kinds}
    said = f"{len(facts['dead'])} dead and {len(facts['short'])} short pixels replaced by the mean of their neighbours"
    if facts["left"]:
        said += f"; {len(facts['left'])} have no sound neighbour and are left"
    notes = (*scan.notes, said) if wrong.any() else scan.notes
    return replace(scan, counts=counts, present=present, notes=notes, **times), Step("pixels", said, facts)


def _starts(counts: Any) -> tuple[int, ...]:
    return tuple(np.concatenate([[0], np.cumsum(counts.chunks[0])[:-1]]).tolist())


def _mended_block(
    block: NDArray[Any], *, mended: NDArray[np.bool_], wrong: NDArray[np.bool_], starts: tuple[int, ...],
    block_info: Any = None,
) -> NDArray[np.float32]:  # fmt: skip
    """Mend a block of whole rows that has one more row on either side, where there is one."""
    index = block_info[0]["chunk-location"][0] if block_info else 0
    first = starts[index]
    above = 1 if index > 0 else 0
    below = 1 if index < len(starts) - 1 else 0
    own = block[above : len(block) - below].copy()
    for row, column in np.argwhere(mended[first : first + len(own)]):
        rows = slice(max(row + above - 1, 0), row + above + 2)
        columns = slice(max(column - 1, 0), column + 2)
        sound = ~wrong[first - above :][rows, columns]
        own[row, column] = block[rows, columns][sound].mean(axis=0)
    return own


def _mended_times(time_s: Array | None, mended: NDArray[np.bool_], sound: NDArray[np.bool_]) -> Array | None:
    if time_s is None:
        return None
    known = sound & np.isfinite(time_s)
    total = convolve(np.where(known, time_s, 0.0), _AROUND, mode="constant")
    number = convolve(known.astype(np.int64), _AROUND, mode="constant")
    return np.where(mended, np.where(number > 0, total / np.maximum(number, 1), np.nan), time_s)
