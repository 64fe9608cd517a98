"""Measurement and correction of the shift of odd rows in scans recorded in alternating direction.

Every second row is shifted by the same distance. The causes are the delay between position and clock, and the backlash
of the stage.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import shift as shifted_image

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.repair._pictures import cosine_taper
from underpaint.repair.mirrored import (
    MAX_LAG_COLUMNS,
    MIN_COLUMNS,
    MIN_ROWS,
    RowDirection,
    direction_of,
    root_images,
)
from underpaint.repair.record import Step

Array = NDArray[np.float64]

_SHIFT_STEP_COLUMNS = 0.01
_N_JACKKNIFE_GROUPS = 8
_MIN_SIGMAS = 4.0
_MIN_SHIFT_COLUMNS = 0.1
_MIN_SHIFT_DIFFERENCE_COLUMNS = 0.5
_N_ITERATIONS = 3


@dataclass(frozen=True)
class RowShift:
    """Shift of odd rows (1, 3, ...) relative to even rows.

    Parameters
    ----------
    columns, error_columns : float
        Shift to the right and its standard deviation, in pixels.
    direction : RowDirection or None
        Correlation of odd rows as recorded and mirrored, if computed.
    """

    columns: float
    error_columns: float
    direction: RowDirection | None = None

    @property
    def is_significant(self) -> bool:
        """Whether the shift exceeds a tenth of a pixel and four standard deviations."""
        return abs(self.columns) > max(_MIN_SHIFT_COLUMNS, _MIN_SIGMAS * self.error_columns)

    def describe(self) -> str:
        """Return a description of the shift."""
        shift_phrase = "are shifted by" if self.is_significant else "are not significantly shifted:"
        description = (
            f"odd rows {shift_phrase} {self.columns:+.2f} ± {self.error_columns:.2f} columns relative to even rows"
        )
        if self.direction is not None and self.direction.looks_symmetric:
            description += f"; {self.direction.describe()}"
        return description


def find_row_shift(scan: Scan) -> RowShift:
    """Return the shift of odd rows relative to the mean of their two neighbouring rows.

    The mean of each row is subtracted, and the cross-spectra of the rows are summed over rows and energy bands. The
    shift is the position of the maximum of the cross-correlation, interpolated by its Fourier series. The noise of the
    rows is independent and causes no bias.

    Parameters
    ----------
    scan : Scan
        Scan with at least 8 rows of 16 columns.

    Raises
    ------
    ScanError
        The scan has too few rows or columns, or no structure. Odd rows may be mirrored, or the shift exceeds the
        measurable range.
    """
    n_row, n_column, _ = scan.shape
    if n_row < MIN_ROWS or n_column < MIN_COLUMNS:
        raise ScanError(
            f"Cannot find the shift of rows: the scan has {n_row} rows of {n_column} columns; at least {MIN_ROWS} "
            f"of {MIN_COLUMNS} are needed. Omit --rows."
        )
    images = root_images(scan)
    direction = direction_of(images)
    if direction is not None and direction.is_mirrored:
        raise ScanError(
            f"Cannot find the shift of rows: {direction.describe()}. Add --snake, which corrects them; their "
            "shift is then measured with --rows."
        )
    if direction is not None and direction.neighbour_correlation < _MIN_SIGMAS * direction.correlation_error:
        raise ScanError(
            "Cannot find the shift of rows: they have no common structure, as on a uniform surface (correlation of "
            f"neighbours {direction.neighbour_correlation:.2f} ± {direction.correlation_error:.2f}; "
            f"{_MIN_SIGMAS:g} deviations are needed). "
            "Omit --rows, or give the shift with --row-shift."
        )
    columns, shift_error = 0.0, 0.0
    for _ in range(_N_ITERATIONS):
        # the taper causes a bias towards zero, which decreases with the remaining shift in each iteration
        aligned_images = images.copy()
        aligned_images[:, 1::2] = shifted_image(images[:, 1::2], (0.0, 0.0, -columns), order=3, mode="nearest")
        remaining_shift, shift_error = _measure_shift(_cross_spectra(aligned_images), n_column)
        columns += remaining_shift
    shift = RowShift(columns, float(np.hypot(shift_error, _SHIFT_STEP_COLUMNS)), direction)
    if shift.is_significant:
        _check_range(shift, n_column)
    return shift


def _check_range(shift: RowShift, n_column: int) -> None:
    """Raise an error if the shift is at the limit of the range, or if mirrored rows would have a smaller shift."""
    max_shift = min(MAX_LAG_COLUMNS, n_column / 4)
    direction = shift.direction
    if abs(shift.columns) > max_shift - 0.5 * _SHIFT_STEP_COLUMNS:
        message = (
            f"Cannot measure the shift of odd rows: it exceeds the range of {max_shift:g} columns. "
            "Give a larger shift with --row-shift, or omit --rows."
        )
    elif direction is not None and direction.looks_symmetric and (
        abs(direction.mirrored_lag_columns) < abs(shift.columns) - _MIN_SHIFT_DIFFERENCE_COLUMNS
    ):  # fmt: skip
        message = (
            f"Cannot measure the shift of odd rows: {direction.describe()}, or shifted by {shift.columns:+.2f} "
            "columns. Add --snake if the scanner records in both directions, else give --row-shift "
            f"{shift.columns:.2f}."
        )
    else:
        return
    raise ScanError(message)


def _measure_shift(cross_spectra: NDArray[np.complex128], n_column: int) -> tuple[float, float]:
    """Return the shift and its standard deviation, from a jackknife over groups of rows."""
    if not np.abs(cross_spectra).sum() > 0:
        raise ScanError("Cannot find the shift of rows: all pixels of a row are equal. Omit --rows.")
    total_cross_spectrum = cross_spectra.sum(axis=0)
    group_spectra = [
        cross_spectra[group_spectrum::_N_JACKKNIFE_GROUPS].sum(axis=0)
        for group_spectrum in range(min(_N_JACKKNIFE_GROUPS, len(cross_spectra)))
    ]
    jackknife_shifts = np.asarray(
        [_best_shift(total_cross_spectrum - group_spectrum, n_column) for group_spectrum in group_spectra]
    )
    shift_error = float(np.sqrt((len(group_spectra) - 1) * np.mean((jackknife_shifts - jackknife_shifts.mean()) ** 2)))
    return _best_shift(total_cross_spectrum, n_column), shift_error


def _cross_spectra(images: Array) -> NDArray[np.complex128]:
    """Return the (n_odd, n_frequency) cross-spectra of odd rows and the mean of their neighbours, summed over bands."""
    tapered_images = (images - images.mean(axis=2, keepdims=True)) * cosine_taper(images.shape[2])
    spectra = np.fft.rfft(tapered_images, axis=2)
    odd_spectra = spectra[:, 1:-1:2]
    neighbour_spectra = 0.5 * (spectra[:, 0:-2:2] + spectra[:, 2::2])[:, : odd_spectra.shape[1]]
    # all bands have equal weights, since square roots of counts have the same noise in all bands
    return np.asarray((odd_spectra * np.conj(neighbour_spectra)).sum(axis=0))


def _best_shift(cross_spectrum: NDArray[np.complex128], n_column: int) -> float:
    max_shift = min(MAX_LAG_COLUMNS, n_column / 4)
    shifts = np.arange(-max_shift, max_shift + 0.5 * _SHIFT_STEP_COLUMNS, _SHIFT_STEP_COLUMNS)
    phase_factors = np.exp(2j * np.pi * np.outer(shifts, np.arange(cross_spectrum.size)) / n_column)
    return float(shifts[int(np.argmax((phase_factors @ cross_spectrum).real))])


def with_rows_aligned(scan: Scan, shift: RowShift) -> tuple[Scan, Step]:
    """Return the scan with the shift of odd rows corrected in counts and times, and a record of the repair.

    The counts of each pixel of odd rows are divided between the two pixels that it covers. Corrected counts are not
    integers. Counts are lost only at the ends of rows. At the end of a row, the counts of pixels that are at least half
    covered are scaled up. Other incomplete pixels are marked as missing. Even rows are not changed.

    Parameters
    ----------
    scan : Scan
    shift : RowShift
        Result of :func:`find_row_shift`, or a shift from the specification of the stage.

    Raises
    ------
    ScanError
        The shift is larger than a row.
    """
    n_row, n_column, _ = scan.shape
    if not abs(shift.columns) < n_column - 1:
        raise ScanError(f"Cannot shift rows of {n_column} columns by {shift.columns:g} columns. Give a smaller shift.")
    interpolation = _RowInterpolation.from_shift(shift.columns, n_column)
    counts = scan.counts.rechunk({1: -1, 2: -1}).map_blocks(
        _shifted_block, interpolation, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32)
    )
    is_odd = np.arange(n_row) % 2 == 1
    shifted_times: dict[str, Any] = {
        field_name: _shifted_times(getattr(scan, field_name), interpolation, is_odd)
        for field_name in ("live_time_s", "real_time_s")
    }
    step = Step("rows", f"odd rows shifted by {-shift.columns:+.2f} columns",
                {"shift_columns": shift.columns, "error_columns": shift.error_columns})  # fmt: skip
    present = _shifted_mask(scan, interpolation, is_odd)
    return scan.replace(counts=counts, present=present, notes=(*scan.notes, step.description), **shifted_times), step


@dataclass(frozen=True)
class _RowInterpolation:
    """Linear interpolation along a row, between the two recorded pixels that each corrected pixel covers.

    Unlike a matrix product, two products and a sum for each pixel give identical results for blocks of any size.

    Parameters
    ----------
    near_columns, far_columns : (n_column,) int arrays
        Columns of the two recorded pixels.
    near_weights, far_weights : (n_column,) arrays
        Weights of the two pixels. The sum of the weights is 1, or 0 if less than half of the corrected pixel was
        recorded.
    """

    near_columns: NDArray[np.intp]
    far_columns: NDArray[np.intp]
    near_weights: Array
    far_weights: Array

    @classmethod
    def from_shift(cls, shift: float, n_column: int) -> "_RowInterpolation":
        n_whole_columns = int(np.floor(shift))
        near_columns = np.arange(n_column) + n_whole_columns
        far_columns, column_fraction = near_columns + 1, shift - n_whole_columns
        weights = np.stack(
            [
                (1.0 - column_fraction) * _is_recorded(near_columns, n_column),
                column_fraction * _is_recorded(far_columns, n_column),
            ]
        )
        covered_share = weights.sum(axis=0)
        weights = np.where(covered_share >= 0.5, weights / np.maximum(covered_share, 0.5), 0.0)
        return cls(near_columns.clip(0, n_column - 1), far_columns.clip(0, n_column - 1), *weights)

    def __call__(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Return interpolated (n_row, n_column, ...) values, with the data type of the input."""
        shape = (-1, *(1,) * (rows.ndim - 2))
        near_weights, far_weights = (
            weights.reshape(shape).astype(rows.dtype) for weights in (self.near_weights, self.far_weights)
        )
        return np.asarray(near_weights * rows[:, self.near_columns] + far_weights * rows[:, self.far_columns])


def _is_recorded(columns: NDArray[np.intp], n_column: int) -> NDArray[np.bool_]:
    return (columns >= 0) & (columns < n_column)


def _shifted_block(
    block: NDArray[Any], interpolation: _RowInterpolation, block_info: Any = None
) -> NDArray[np.float32]:
    first_row = block_info[0]["array-location"][0][0] if block_info else 0
    shifted_block = block.astype(np.float32)
    first_odd_row = (first_row + 1) % 2
    shifted_block[first_odd_row::2] = interpolation(shifted_block[first_odd_row::2])
    return shifted_block


def _shifted_times(time_s: Array | None, interpolation: _RowInterpolation, is_odd: NDArray[np.bool_]) -> Array | None:
    if time_s is None:
        return None
    is_unknown = interpolation(np.isnan(time_s).astype(np.float64)) > 0
    return np.where(is_odd[:, None], np.where(is_unknown, np.nan, interpolation(np.nan_to_num(time_s))), time_s)


def _shifted_mask(scan: Scan, interpolation: _RowInterpolation, is_odd: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    is_recorded = np.ones(scan.shape[:2], bool) if scan.present is None else scan.present
    # a corrected pixel is present if both recorded pixels are present
    is_present = np.where(is_odd[:, None], interpolation(is_recorded.astype(np.float64)) > 1.0 - 1e-9, is_recorded)
    return None if is_present.all() else is_present
