"""Detection and correction of snake scans, in which every second row is recorded from right to left."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.repair._pictures import band_edges, band_images, band_sums, cosine_taper
from underpaint.repair.record import Step

Array = NDArray[np.float64]

MIN_ROWS, MIN_COLUMNS = 8, 16
"""Minimum numbers of rows and columns that a scan must have for its rows to be compared."""
MAX_LAG_COLUMNS = 6.0
"""Maximum lag of a stage, in pixels."""
_LAG_STEP_COLUMNS = 0.1
_MIN_SIGMAS = 5.0
_MIN_CORRELATION_GAIN = 0.15
_MIN_CORRELATION_RATIO = 0.7
_MAX_SAMPLED_BYTES = 32e6
_N_ROW_RUNS, _MIN_SAMPLED_COLUMNS = 8, 400


@dataclass(frozen=True)
class RowDirection:
    """Correlation of odd rows (1, 3, ...) with their neighbouring rows, as recorded and mirrored.

    Parameters
    ----------
    recorded_correlation, mirrored_correlation : float
        Correlation of odd rows with the mean of their two neighbouring rows, at the best lag. The maximum is 1.
    neighbour_correlation : float
        Correlation between the two neighbouring rows. Both rows have the same direction.
    mirrored_lag_columns : float
        Lag of the mirrored rows, in pixels.
    sigmas : float
        Mirrored minus recorded correlation, without the most influential row, in standard deviations.
    correlation_error : float
        Standard deviation of a correlation, from noise and differences between neighbours.
    """

    recorded_correlation: float
    mirrored_correlation: float
    neighbour_correlation: float
    mirrored_lag_columns: float
    sigmas: float
    correlation_error: float

    @property
    def is_mirrored(self) -> bool:
        """Whether odd rows are significantly better correlated when mirrored."""
        return self._is_significantly_higher(self.mirrored_correlation, self.recorded_correlation, self.sigmas)

    @property
    def is_unidirectional(self) -> bool:
        """Whether odd rows are significantly better correlated as recorded."""
        return self._is_significantly_higher(self.recorded_correlation, self.mirrored_correlation, -self.sigmas)

    def _is_significantly_higher(self, higher_correlation: float, lower_correlation: float, sigmas: float) -> bool:
        is_different = higher_correlation - lower_correlation > _MIN_CORRELATION_GAIN * self.neighbour_correlation
        return (
            is_different
            and higher_correlation > _MIN_CORRELATION_RATIO * self.neighbour_correlation
            and sigmas > _MIN_SIGMAS
        )

    @property
    def looks_symmetric(self) -> bool:
        """Whether odd rows are correlated with their neighbours both as recorded and mirrored."""
        correlation = min(self.recorded_correlation, self.mirrored_correlation)
        min_correlation = max(_MIN_SIGMAS * self.correlation_error, _MIN_CORRELATION_RATIO * self.neighbour_correlation)
        return not self.is_mirrored and not self.is_unidirectional and correlation > min_correlation

    def describe(self) -> str:
        """Return a sentence on the direction of the rows, without a full stop."""
        correlations = (
            f"correlation with their neighbours {self.mirrored_correlation:.2f} mirrored, "
            f"{self.recorded_correlation:.2f} as recorded"
        )
        if self.is_mirrored:
            return f"every second row is mirrored, recorded from right to left ({correlations})"
        if self.is_unidirectional:
            return f"all rows are recorded in the same direction ({correlations})"
        if self.looks_symmetric:
            return f"the image is too symmetric to decide whether every second row is mirrored ({correlations})"
        return f"the rows have too little structure to decide whether every second row is mirrored ({correlations})"


def find_row_direction(scan: Scan) -> RowDirection | None:
    """Compare odd rows, as recorded and mirrored, with the mean of their two neighbouring rows.

    Parameters
    ----------
    scan : Scan
        Scan with at least 8 rows of 16 columns.

    Returns
    -------
    RowDirection or None
        None for smaller scans, and for rows without structure.

    Notes
    -----
    The correlation is computed from the square roots of counts in energy bands, after subtraction of the mean of each
    row. A lag of up to six columns is allowed in either direction, to account for the lag of the stage.
    """
    n_row, n_column, _ = scan.shape
    return None if n_row < MIN_ROWS or n_column < MIN_COLUMNS else direction_of(root_images(scan))


def root_images(scan: Scan) -> Array:
    """Return (n_band, n_row, n_column) square roots of counts, which have uniform noise."""
    return _square_roots(band_images(scan))


def _square_roots(images: Array) -> Array:
    return np.asarray(np.sqrt(np.maximum(np.nan_to_num(images), 0.0)))


def direction_of(images: Array, rows: NDArray[np.intp] | None = None) -> RowDirection | None:
    """Compare the odd rows of images, as recorded and mirrored, with the mean of their neighbouring rows.

    Parameters
    ----------
    images : (n_band, n_row, n_column) array
        Square roots of counts.
    rows : (n_row,) array, optional
        Numbers of the rows in the scan, if the images are only a part of it.

    Returns
    -------
    RowDirection or None
        None for too few rows, or rows without structure.
    """
    row_numbers = np.arange(images.shape[1]) if rows is None else rows
    odd_rows = np.flatnonzero((row_numbers[1:-1] % 2 == 1) & (row_numbers[2:] - row_numbers[:-2] == 2)) + 1
    n_column = images.shape[2]
    tapered_images = (images - images.mean(axis=2, keepdims=True)) * cosine_taper(n_column)
    rows_above, odd_images, rows_below = (tapered_images[:, odd_rows + row_offset] for row_offset in (-1, 0, 1))
    neighbour_mean = 0.5 * (rows_above + rows_below)
    squared_sums = float((odd_images**2).sum()), float((neighbour_mean**2).sum())
    product_scale = float(np.sqrt(squared_sums[0] * squared_sums[1]))
    if len(odd_rows) < MIN_ROWS // 2 - 1 or not product_scale > 0:
        return None
    recorded_products, _ = _best_lag(odd_images, neighbour_mean)
    mirrored_products, mirrored_lag = _best_lag(odd_images[..., ::-1], neighbour_mean)
    # Differences between the neighbouring rows are treated as noise. A difference has twice the variance of one row.
    noise_variance = ((rows_above - rows_below) ** 2).sum() / (
        images.shape[0] * len(odd_rows) * (cosine_taper(n_column) ** 2).sum()
    )
    product_error = float(np.sqrt(0.5 * noise_variance * (squared_sums[1] + 0.5 * squared_sums[0])))
    product_differences = mirrored_products - recorded_products
    total_difference = float(product_differences.sum())
    min_product_difference = np.sign(total_difference) * max(
        float((np.sign(total_difference) * (total_difference - product_differences)).min()), 0.0
    )
    neighbour_norm = float(np.sqrt((rows_above**2).sum() * (rows_below**2).sum()))
    return RowDirection(
        recorded_correlation=float(recorded_products.sum()) / product_scale,
        mirrored_correlation=float(mirrored_products.sum()) / product_scale,
        neighbour_correlation=float((rows_above * rows_below).sum()) / neighbour_norm if neighbour_norm > 0 else 0.0,
        mirrored_lag_columns=mirrored_lag,
        sigmas=float(min_product_difference) / max(float(np.sqrt(2.0)) * product_error, 1e-12 * product_scale),
        correlation_error=product_error / product_scale,
    )


def _best_lag(rows: Array, neighbour_mean: Array) -> tuple[Array, float]:
    """Return the (n_row,) products of rows and means at the best lag, summed over bands and columns, and that lag."""
    cross_spectra = (np.fft.rfft(rows, axis=2) * np.conj(np.fft.rfft(neighbour_mean, axis=2))).sum(axis=0)
    n_column = rows.shape[2]
    # a frequency of the real transform counts twice, except the last one if the number of columns is even
    frequency_weights = np.full(cross_spectra.shape[1], 2.0 / n_column)
    frequency_weights[-1] /= 2.0 if n_column % 2 == 0 else 1.0
    max_lag = min(MAX_LAG_COLUMNS, n_column / 4)
    lags = np.arange(-max_lag, max_lag + 0.5 * _LAG_STEP_COLUMNS, _LAG_STEP_COLUMNS)
    phase_factors = np.exp(2j * np.pi * np.outer(lags, np.arange(cross_spectra.shape[1])) / n_column)
    products = ((phase_factors * frequency_weights) @ cross_spectra.T).real
    best_index = int(np.argmax(products.sum(axis=1)))
    return np.asarray(products[best_index]), float(lags[best_index])


def note_mirrored_rows(scan: Scan) -> Scan:
    """Return the scan, with a note on the correction if every second row is mirrored.

    From a large scan, only evenly spaced runs of rows are read. The sample has at most 32 MB, or 400 columns if these
    are larger.
    """
    n_row, n_column, _ = scan.shape
    if n_row < MIN_ROWS or n_column < MIN_COLUMNS:
        return scan
    row_slices, column_slice = _sampled_part(scan)
    sampled_rows = np.concatenate([np.arange(row_slice.start, row_slice.stop) for row_slice in row_slices])
    blocks = [np.nan_to_num(scan.read(row_slice, column_slice), posinf=0.0) for row_slice in row_slices]
    edges = band_edges(np.sum([block.sum(axis=(0, 1), dtype=np.float64) for block in blocks], axis=0))
    images = np.concatenate([band_sums(block, edges) for block in blocks])
    if scan.present is not None:
        images[~scan.present[sampled_rows, column_slice]] = 0.0
    direction = direction_of(_square_roots(np.moveaxis(images, 2, 0)), sampled_rows)
    if direction is None or not direction.is_mirrored:
        return scan
    note = f"Warning: {direction.describe()}. Correct them: underpaint repair SCAN --out FILE.h5 --snake."
    return scan.replace(notes=(*scan.notes, note))


def _sampled_part(scan: Scan) -> tuple[list[slice], slice]:
    """Return evenly spaced runs of rows, and the central columns of very long rows."""
    n_row, n_column, _ = scan.shape
    pixel_bytes = scan.nbytes / scan.n_pixel
    n_rows_per_run = max(int(_MAX_SAMPLED_BYTES / (n_column * pixel_bytes) / _N_ROW_RUNS), 5)
    if n_rows_per_run * _N_ROW_RUNS >= n_row:
        return [slice(0, n_row)], slice(0, n_column)
    first_rows = np.linspace(0, n_row - n_rows_per_run, _N_ROW_RUNS).astype(int).tolist()
    n_skipped_columns = n_column - max(
        int(_MAX_SAMPLED_BYTES / (_N_ROW_RUNS * n_rows_per_run * pixel_bytes)), _MIN_SAMPLED_COLUMNS
    )
    n_margin_columns = max(n_skipped_columns // 2, 0)  # equal margins keep the same columns in mirrored rows
    return [slice(first_row, first_row + n_rows_per_run) for first_row in first_rows], slice(
        n_margin_columns, n_column - n_margin_columns
    )


def with_rows_mirrored(scan: Scan, direction: RowDirection | None = None) -> tuple[Scan, Step]:
    """Return the scan with odd rows of counts, times and missing pixels mirrored, and a record of the repair.

    The direction of even rows is kept, since the image does not determine which rows are mirrored.

    Parameters
    ----------
    scan : Scan
    direction : RowDirection or None
        Result of :func:`find_row_direction`, for the record.

    Raises
    ------
    ScanError
        The scan has only one row, or all rows have the same direction.
    """
    if scan.shape[0] < 2:
        raise ScanError("Cannot mirror every second row: the scan has 1 row, at least 2 are needed. Omit --snake.")
    if direction is not None and direction.is_unidirectional:
        raise ScanError(f"Cannot mirror every second row: {direction.describe()}. Omit --snake.")
    counts = scan.counts.rechunk({1: -1}).map_blocks(_mirrored_block, dtype=scan.counts.dtype, meta=scan.counts._meta)  # noqa: SLF001 - dask has no public name for it
    mirrored_fields: dict[str, Any] = {
        field_name: None if getattr(scan, field_name) is None else _mirror_odd_rows(getattr(scan, field_name), 0)
        for field_name in ("live_time_s", "real_time_s", "present")
    }
    note = "odd rows mirrored; the direction of even rows is kept, since the image does not determine it"
    record_values: dict[str, Any] = {"mirrored": "odd rows"}
    if direction is not None:
        note = f"{direction.describe()}: {note}"
        record_values |= {
            "correlation_mirrored": direction.mirrored_correlation,
            "correlation_as_recorded": direction.recorded_correlation,
        }
    return scan.replace(counts=counts, notes=(*scan.notes, note), **mirrored_fields), Step("snake", note, record_values)


def _mirror_odd_rows(image: NDArray[Any], first_row: int) -> NDArray[Any]:
    mirrored_image = image.copy()
    first_odd_row = (first_row + 1) % 2
    mirrored_image[first_odd_row::2] = image[first_odd_row::2, ::-1]
    return mirrored_image


def _mirrored_block(block: NDArray[Any], block_info: Any = None) -> NDArray[Any]:
    return _mirror_odd_rows(block, block_info[0]["array-location"][0][0] if block_info else 0)
