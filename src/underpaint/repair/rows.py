"""Rows shifted against each other, by a stage that is read out while it moves in both directions.

Every second row is shifted by the same fraction of a pixel: the delay between position and clock, and the backlash of
the drive.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import shift as moved_by

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.repair._pictures import cosine_taper
from underpaint.repair.mirrored import (
    MAX_COLUMNS,
    MIN_COLUMNS,
    MIN_ROWS,
    RowDirection,
    direction_of,
    root_images,
)
from underpaint.repair.record import Step

Array = NDArray[np.float64]

_STEP_COLUMNS = 0.01
_GROUPS = 8
_MIN_SIGMAS = 4.0
_MIN_SHIFT = 0.1
_MIN_DIFFERENCE = 0.5
_ROUNDS = 3


@dataclass(frozen=True)
class RowShift:
    """Shift of the odd rows (1, 3, ...) to the right of the even ones.

    Parameters
    ----------
    columns, error_columns : float
        Pixels, and one standard deviation from groups of rows.
    direction : RowDirection or None
        Correlation of odd rows as recorded and mirrored, if examined.
    """

    columns: float
    error_columns: float
    direction: RowDirection | None = None

    @property
    def significant(self) -> bool:
        """Whether it is more than a tenth of a pixel and four deviations."""
        return abs(self.columns) > max(_MIN_SHIFT, _MIN_SIGMAS * self.error_columns)

    def describe(self) -> str:
        """Describe the shift."""
        state = "lie off by" if self.significant else "do not lie off:"
        words = f"odd rows {state} {self.columns:+.2f} ± {self.error_columns:.2f} columns against even ones"
        if self.direction is not None and self.direction.looks_symmetric:
            words += f"; {self.direction.describe()}"
        return words


def find_row_shift(scan: Scan) -> RowShift:
    """Measure how far odd rows are shifted against the mean of their two neighbours.

    The cross-spectrum of the rows, minus each row's mean, is summed over rows and energy bands; the shift is the
    maximum of the cross-correlation, interpolated by its Fourier series. The noise of the rows is independent and
    causes no bias.

    Parameters
    ----------
    scan : Scan
        At least 8 rows of 16 columns.

    Raises
    ------
    ScanError
        There are fewer rows or columns, or no structure to compare; or every second row is, or may be, mirrored, or
        shifted beyond the range.
    """
    n_row, n_column, _ = scan.shape
    if n_row < MIN_ROWS or n_column < MIN_COLUMNS:
        raise ScanError(
            f"Cannot find the shift of rows: the scan has {n_row} rows of {n_column} columns; at least {MIN_ROWS} "
            f"of {MIN_COLUMNS} are needed. Leave out --rows."
        )
    images = root_images(scan)
    direction = direction_of(images)
    if direction is not None and direction.is_mirrored:
        raise ScanError(
            f"Cannot find the shift of rows: {direction.describe()}. Add --snake, which mirrors them back; with "
            "--rows, their shift is found thereafter."
        )
    if direction is not None and direction.neighbours < _MIN_SIGMAS * direction.error:
        raise ScanError(
            "Cannot find the shift of rows: they have no structure in common, as on a uniform surface (correlation of "
            f"neighbours {direction.neighbours:.2f} ± {direction.error:.2f}; {_MIN_SIGMAS:g} deviations are needed). "
            "Leave out --rows, or give the shift with --row-shift."
        )
    columns, error = 0.0, 0.0
    for _ in range(_ROUNDS):
        # the taper is the same for both rows and so biases towards no shift, less so for smaller remaining shifts
        straight = images.copy()
        straight[:, 1::2] = moved_by(images[:, 1::2], (0.0, 0.0, -columns), order=3, mode="nearest")
        rest, error = _remaining(_cross_spectra(straight), n_column)
        columns += rest
    shift = RowShift(columns, float(np.hypot(error, _STEP_COLUMNS)), direction)
    if shift.significant:
        _refuse_doubtful(shift, n_column)
    return shift


def _refuse_doubtful(shift: RowShift, n_column: int) -> None:
    """Refuse a shift at the end of the range that was searched, or one for which mirrored rows need less."""
    reach = min(MAX_COLUMNS, n_column / 4)
    direction = shift.direction
    if abs(shift.columns) > reach - 0.5 * _STEP_COLUMNS:
        message = (
            f"Cannot measure the shift of odd rows: they fit their neighbours at no shift up to {reach:g} columns. "
            "Give a larger one with --row-shift, or leave out --rows."
        )
    elif direction is not None and direction.looks_symmetric and (
        abs(direction.mirrored_columns) < abs(shift.columns) - _MIN_DIFFERENCE
    ):  # fmt: skip
        message = (
            f"Cannot measure the shift of odd rows: {direction.describe()}, or moved by {shift.columns:+.2f} columns. "
            f"Add --snake if the scanner records the way back, else give --row-shift {shift.columns:.2f}."
        )
    else:
        return
    raise ScanError(message)


def _remaining(cross: NDArray[np.complex128], n_column: int) -> tuple[float, float]:
    """Return the shift, and one standard deviation by a jackknife over groups of rows."""
    if not np.abs(cross).sum() > 0:
        raise ScanError("Cannot find the shift of rows: all pixels of a row are equal. Leave out --rows.")
    total = cross.sum(axis=0)
    groups = [cross[group::_GROUPS].sum(axis=0) for group in range(min(_GROUPS, len(cross)))]
    without = np.asarray([_highest(total - group, n_column) for group in groups])
    spread = float(np.sqrt((len(groups) - 1) * np.mean((without - without.mean()) ** 2)))
    return _highest(total, n_column), spread


def _cross_spectra(images: Array) -> NDArray[np.complex128]:
    """(n_odd, n_frequency) cross-spectra of odd rows and the mean of their neighbours, summed over bands."""
    tapered = (images - images.mean(axis=2, keepdims=True)) * cosine_taper(images.shape[2])
    spectra = np.fft.rfft(tapered, axis=2)
    odd = spectra[:, 1:-1:2]
    mean = 0.5 * (spectra[:, 0:-2:2] + spectra[:, 2::2])[:, : odd.shape[1]]
    # bands of weak elements count as much as their counts deserve: square roots have the same noise everywhere
    return np.asarray((odd * np.conj(mean)).sum(axis=0))


def _highest(cross: NDArray[np.complex128], n_column: int) -> float:
    reach = min(MAX_COLUMNS, n_column / 4)
    shifts = np.arange(-reach, reach + 0.5 * _STEP_COLUMNS, _STEP_COLUMNS)
    phase = np.exp(2j * np.pi * np.outer(shifts, np.arange(cross.size)) / n_column)
    return float(shifts[int(np.argmax((phase @ cross).real))])


def with_rows_aligned(scan: Scan, shift: RowShift) -> tuple[Scan, Step]:
    """Return the scan with odd rows shifted back, and the step; times are shifted as well.

    A pixel's counts are divided between the two pixels that it covers, so they are no longer integers, and none is lost
    between the ends; even rows are unchanged. At the uncovered end of a row, a pixel covered by at least half is scaled
    up; other pixels are marked as missing.

    Parameters
    ----------
    scan : Scan
        The scan.
    shift : RowShift
        From :func:`find_row_shift`, or from the stage's specification.

    Raises
    ------
    ScanError
        The shift is as large as a row is long.
    """
    n_row, n_column, _ = scan.shape
    if not abs(shift.columns) < n_column - 1:
        raise ScanError(f"Cannot move rows of {n_column} columns by {shift.columns:g}. Give a smaller shift.")
    taps = _TwoTaps.of(shift.columns, n_column)
    counts = scan.counts.rechunk({1: -1, 2: -1}).map_blocks(
        _moved_block, taps, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
    )
    odd = np.arange(n_row) % 2 == 1
    times: dict[str, Any] = {
        name: _moved_times(getattr(scan, name), taps, odd) for name in ("live_time_s", "real_time_s")
    }
    step = Step("rows", f"odd rows moved by {-shift.columns:+.2f} columns",
                {"shift_columns": shift.columns, "error_columns": shift.error_columns})  # fmt: skip
    present = _present(scan, taps, odd)
    return replace(scan, counts=counts, present=present, notes=(*scan.notes, step.description), **times), step


@dataclass(frozen=True)
class _TwoTaps:
    """Linear interpolation along a row: shares of the two recorded pixels that a true pixel covers.

    Two products and a sum for each pixel: the same bits in blocks of any size, which a matrix product has not.

    Parameters
    ----------
    near, far : (n_column,) int arrays
        The two recorded pixels.
    near_share, far_share : (n_column,) arrays
        Their shares; they sum to 1, or to 0 if less than half of the pixel was recorded.
    """

    near: NDArray[np.intp]
    far: NDArray[np.intp]
    near_share: Array
    far_share: Array

    @classmethod
    def of(cls, shift: float, n_column: int) -> "_TwoTaps":
        n_whole = int(np.floor(shift))
        near = np.arange(n_column) + n_whole
        far, part = near + 1, shift - n_whole
        shares = np.stack([(1.0 - part) * _inside(near, n_column), part * _inside(far, n_column)])
        covered = shares.sum(axis=0)
        shares = np.where(covered >= 0.5, shares / np.maximum(covered, 0.5), 0.0)
        return cls(near.clip(0, n_column - 1), far.clip(0, n_column - 1), *shares)

    def __call__(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Interpolate (n_row, n_column, ...) values in their precision."""
        shape = (-1, *(1,) * (rows.ndim - 2))
        near, far = (share.reshape(shape).astype(rows.dtype) for share in (self.near_share, self.far_share))
        return np.asarray(near * rows[:, self.near] + far * rows[:, self.far])


def _inside(column: NDArray[np.intp], n_column: int) -> NDArray[np.bool_]:
    return (column >= 0) & (column < n_column)


def _moved_block(block: NDArray[Any], taps: _TwoTaps, block_info: Any = None) -> NDArray[np.float32]:
    first = block_info[0]["array-location"][0][0] if block_info else 0
    moved = block.astype(np.float32)
    start = (first + 1) % 2
    moved[start::2] = taps(moved[start::2])
    return moved


def _moved_times(time_s: Array | None, taps: _TwoTaps, odd: NDArray[np.bool_]) -> Array | None:
    if time_s is None:
        return None
    unknown = taps(np.isnan(time_s).astype(np.float64)) > 0
    return np.where(odd[:, None], np.where(unknown, np.nan, taps(np.nan_to_num(time_s))), time_s)


def _present(scan: Scan, taps: _TwoTaps, odd: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    recorded = np.ones(scan.shape[:2], bool) if scan.present is None else scan.present
    # a pixel is present if all pixels that cover it are
    mask = np.where(odd[:, None], taps(recorded.astype(np.float64)) > 1.0 - 1e-9, recorded)
    return None if mask.all() else mask
