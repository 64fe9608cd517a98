"""Rows shifted against each other, as a stage leaves them that is read while it runs to and fro.

Every second row lies off by the same part of a pixel: the delay between position and clock, and the play of the drive.
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import shift as moved_by
from scipy.signal.windows import tukey

from underpaint.errors import ScanError
from underpaint.repair._pictures import band_images
from underpaint.repair.record import Step
from underpaint.spectrum import Scan

Array = NDArray[np.float64]

MOST_COLUMNS = 6.0
"""No stage lags by more."""
_STEP_COLUMNS = 0.01
_LEAST_ROWS, _LEAST_COLUMNS = 8, 16
_GROUPS = 8
_LEAST_SIGMAS = 4.0
_LEAST_SHIFT = 0.1
_TAPER = 0.3
_ROUNDS = 3


@dataclass(frozen=True)
class RowShift:
    """How far the odd rows (1, 3, ...) lie to the right of the even ones.

    Parameters
    ----------
    columns, error_columns : float
        Pixels, and one standard deviation from groups of rows.
    """

    columns: float
    error_columns: float

    @property
    def significant(self) -> bool:
        """Whether it is more than a tenth of a pixel and four deviations."""
        return abs(self.columns) > max(_LEAST_SHIFT, _LEAST_SIGMAS * self.error_columns)

    def in_words(self) -> str:
        """Say what was found."""
        state = "lie off by" if self.significant else "do not lie off:"
        return f"odd rows {state} {self.columns:+.2f} ± {self.error_columns:.2f} columns against even ones"


def find_row_shift(scan: Scan) -> RowShift:
    """Measure how far odd rows are shifted against the mean of their two neighbours.

    The cross-spectrum of the rows is summed over rows and energy bands, each row's mean taken off; the shift is where
    the cross-correlation, interpolated by Fourier's sum, is highest. The noise of the two is independent, so it does
    not pull.

    Parameters
    ----------
    scan : Scan
        At least 8 rows of 16 columns.

    Raises
    ------
    ScanError
        There are fewer, or the rows hold no structure that could be compared.
    """
    n_row, n_column, _ = scan.shape
    if n_row < _LEAST_ROWS or n_column < _LEAST_COLUMNS:
        message = (
            f"Cannot look for shifted rows: the scan has {n_row} rows of {n_column} columns; at least {_LEAST_ROWS} "
            f"of {_LEAST_COLUMNS} are needed. Leave out --rows."
        )
        raise ScanError(message)
    images = np.sqrt(band_images(scan))
    columns, error = 0.0, 0.0
    for _ in range(_ROUNDS):
        # the taper holds both rows fast and so pulls towards no shift, the less the less is left
        straight = images.copy()
        straight[:, 1::2] = moved_by(images[:, 1::2], (0.0, 0.0, -columns), order=3, mode="nearest")
        rest, error = _remaining(_cross_spectra(straight), n_column)
        columns += rest
    return RowShift(columns, float(np.hypot(error, _STEP_COLUMNS)))


def _remaining(cross: NDArray[np.complex128], n_column: int) -> tuple[float, float]:
    """Return the shift, and one standard deviation by a jackknife over groups of rows."""
    if not np.abs(cross).sum() > 0:
        message = "Cannot look for shifted rows: all pixels of a row are alike. Leave out --rows."
        raise ScanError(message)
    whole = cross.sum(axis=0)
    groups = [cross[own::_GROUPS].sum(axis=0) for own in range(min(_GROUPS, len(cross)))]
    without = np.asarray([_highest(whole - own, n_column) for own in groups])
    spread = float(np.sqrt((len(groups) - 1) * np.mean((without - without.mean()) ** 2)))
    return _highest(whole, n_column), spread


def _cross_spectra(images: Array) -> NDArray[np.complex128]:
    """(n_odd, n_frequency) cross-spectra of odd rows and the mean of their neighbours, summed over bands."""
    tapered = (images - images.mean(axis=2, keepdims=True)) * tukey(images.shape[2], _TAPER)
    spectra = np.fft.rfft(tapered, axis=2)
    odd = spectra[:, 1:-1:2]
    mean = 0.5 * (spectra[:, 0:-2:2] + spectra[:, 2::2])[:, : odd.shape[1]]
    # bands of weak elements count as much as their counts deserve: square roots have the same noise everywhere
    return np.asarray((odd * np.conj(mean)).sum(axis=0))


def _highest(cross: NDArray[np.complex128], n_column: int) -> float:
    reach = min(MOST_COLUMNS, n_column / 4)
    shifts = np.arange(-reach, reach + 0.5 * _STEP_COLUMNS, _STEP_COLUMNS)
    phase = np.exp(2j * np.pi * np.outer(shifts, np.arange(cross.size)) / n_column)
    return float(shifts[int(np.argmax((phase @ cross).real))])


def with_rows_aligned(scan: Scan, shift: RowShift) -> tuple[Scan, Step]:
    """Return the scan with odd rows moved back, and what was done; times move along.

    A pixel's counts go to the two that it covers, in proportion; so they are no longer whole numbers, none is lost
    between the ends, and even rows stay as they are. At the end that a row leaves uncovered, what covers at least half
    a pixel is scaled up to a whole one; other pixels are marked as missing.

    Parameters
    ----------
    scan : Scan
        The scan.
    shift : RowShift
        From :func:`find_row_shift`, or what is known of the stage.

    Raises
    ------
    ScanError
        The shift is as large as a row is long.
    """
    n_row, n_column, _ = scan.shape
    if not abs(shift.columns) < n_column - 1:
        message = f"Cannot move rows of {n_column} columns by {shift.columns:g}. Give a smaller shift."
        raise ScanError(message)
    matrix = _moving(shift.columns, n_column)
    counts = scan.counts.rechunk({1: -1, 2: -1}).map_blocks(
        _moved_block, matrix, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
    )
    odd = np.arange(n_row) % 2 == 1
    times: dict[str, Any] = {
        name: _moved_times(getattr(scan, name), matrix, odd) for name in ("live_time_s", "real_time_s")
    }
    step = Step("rows", f"odd rows moved by {-shift.columns:+.2f} columns",
                {"shift_columns": shift.columns, "error_columns": shift.error_columns})  # fmt: skip
    present = _present(scan, matrix, odd)
    return replace(scan, counts=counts, present=present, notes=(*scan.notes, step.said), **times), step


def _moving(shift: float, n_column: int) -> Array:
    """(n_column, n_column) share of each recorded pixel that belongs to each true one; rows sum to 1 or 0."""
    whole, part = int(np.floor(shift)), shift - np.floor(shift)
    matrix = (1 - part) * np.eye(n_column, k=whole) + part * np.eye(n_column, k=whole + 1)
    covered = matrix.sum(axis=1, keepdims=True)
    return np.asarray(np.where(covered >= 0.5, matrix / np.maximum(covered, 0.5), 0.0))


def _moved_block(block: NDArray[Any], matrix: Array, block_info: Any = None) -> NDArray[np.float32]:
    first = block_info[0]["array-location"][0][0] if block_info else 0
    moved = block.astype(np.float32)
    start = (first + 1) % 2
    moved[start::2] = np.einsum("tr,nrc->ntc", matrix.astype(np.float32), moved[start::2], optimize=True)
    return moved


def _moved_times(time_s: Array | None, matrix: Array, odd: NDArray[np.bool_]) -> Array | None:
    if time_s is None:
        return None
    unknown = np.isnan(time_s)
    moved = np.where(unknown.astype(np.float64) @ matrix.T > 0, np.nan, np.nan_to_num(time_s) @ matrix.T)
    return np.where(odd[:, None], moved, time_s)


def _present(scan: Scan, matrix: Array, odd: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    own = np.ones(scan.shape[:2], bool) if scan.present is None else scan.present
    # a pixel is there where all that covers it is
    there = np.where(odd[:, None], (own @ matrix.T) > 1.0 - 1e-9, own)
    return None if there.all() else there
