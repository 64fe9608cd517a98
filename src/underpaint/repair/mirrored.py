"""Snake scans: every second row is recorded from right to left, by scanners that measure in both directions."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.repair._pictures import band_edges, band_images, band_sums, cosine_taper
from underpaint.repair.record import Step

Array = NDArray[np.float64]

MIN_ROWS, MIN_COLUMNS = 8, 16
"""Fewer are not compared."""
MAX_COLUMNS = 6.0
"""No stage lags by more."""
_STEP_COLUMNS = 0.1
_MIN_SIGMAS = 5.0
_MIN_GAIN = 0.15
_MIN_LIKENESS = 0.7
_SAMPLE_BYTES = 32e6
_N_RUN, _MIN_SAMPLED_COLUMNS = 8, 400


@dataclass(frozen=True)
class RowDirection:
    """How well odd rows (1, 3, ...) fit their neighbours as they are, and mirrored.

    Parameters
    ----------
    as_recorded, mirrored : float
        Correlation with the mean of the two neighbours at the best lag, 1 at most.
    neighbours : float
        Correlation of these two with each other, which have the same direction: the reference.
    mirrored_columns : float
        The lag, in pixels.
    sigmas : float
        Difference of the two correlations over its noise, without the most influential row; positive: mirrored is
        better.
    error : float
        One standard deviation of a correlation, from noise and differences of neighbours.
    """

    as_recorded: float
    mirrored: float
    neighbours: float
    mirrored_columns: float
    sigmas: float
    error: float

    @property
    def is_mirrored(self) -> bool:
        """Whether odd rows certainly run the other way."""
        return self._clear(self.mirrored, self.as_recorded, self.sigmas)

    @property
    def is_straight(self) -> bool:
        """Whether all rows certainly run the same way."""
        return self._clear(self.as_recorded, self.mirrored, -self.sigmas)

    def _clear(self, better: float, worse: float, sigmas: float) -> bool:
        differs = better - worse > _MIN_GAIN * self.neighbours
        return differs and better > _MIN_LIKENESS * self.neighbours and sigmas > _MIN_SIGMAS

    @property
    def looks_symmetric(self) -> bool:
        """Whether odd rows fit their neighbours both as they are and mirrored."""
        fits = min(self.as_recorded, self.mirrored)
        least = max(_MIN_SIGMAS * self.error, _MIN_LIKENESS * self.neighbours)
        return not self.is_mirrored and not self.is_straight and fits > least

    def describe(self) -> str:
        """Describe it in a sentence without a full stop."""
        figures = f"correlation with their neighbours {self.mirrored:.2f} mirrored, {self.as_recorded:.2f} as recorded"
        if self.is_mirrored:
            return f"every second row is mirrored, recorded from right to left ({figures})"
        if self.is_straight:
            return f"all rows run the same way ({figures})"
        if self.looks_symmetric:
            return f"the picture is too symmetric to decide whether every second row is mirrored ({figures})"
        return f"the rows have too little structure to decide whether every second one is mirrored ({figures})"


def find_row_direction(scan: Scan) -> RowDirection | None:
    """Compare odd rows with the mean of their two neighbours, as they are and mirrored.

    Parameters
    ----------
    scan : Scan
        At least 8 rows of 16 columns.

    Returns
    -------
    RowDirection or None
        None for a smaller scan, or rows without structure.

    Notes
    -----
    Rows are compared by the square roots of their counts in energy bands, minus each row's mean. A lag of up to six
    columns is allowed in either direction, so that the lag of the stage does not matter.
    """
    n_row, n_column, _ = scan.shape
    return None if n_row < MIN_ROWS or n_column < MIN_COLUMNS else direction_of(root_images(scan))


def root_images(scan: Scan) -> Array:
    """(n_band, n_row, n_column) square roots of counts, whose noise is uniform; 0 without counts."""
    return _roots(band_images(scan))


def _roots(images: Array) -> Array:
    return np.asarray(np.sqrt(np.maximum(np.nan_to_num(images), 0.0)))


def direction_of(images: Array, rows: NDArray[np.intp] | None = None) -> RowDirection | None:
    """Compare the odd rows of (n_band, n_row, n_column) square roots of counts, or those that have these numbers."""
    numbers = np.arange(images.shape[1]) if rows is None else rows
    middle = np.flatnonzero((numbers[1:-1] % 2 == 1) & (numbers[2:] - numbers[:-2] == 2)) + 1
    n_column = images.shape[2]
    tapered = (images - images.mean(axis=2, keepdims=True)) * cosine_taper(n_column)
    above, odd, below = (tapered[:, middle + step] for step in (-1, 0, 1))
    mean = 0.5 * (above + below)
    energy = float((odd**2).sum()), float((mean**2).sum())
    scale = float(np.sqrt(energy[0] * energy[1]))
    if len(middle) < MIN_ROWS // 2 - 1 or not scale > 0:
        return None
    straight, _ = _at_the_best_lag(odd, mean)
    mirrored, mirrored_lag = _at_the_best_lag(odd[..., ::-1], mean)
    # Twice the variance of a value; differences between two rows count as noise.
    variance = ((above - below) ** 2).sum() / (images.shape[0] * len(middle) * (cosine_taper(n_column) ** 2).sum())
    error = float(np.sqrt(0.5 * variance * (energy[1] + 0.5 * energy[0])))
    difference = mirrored - straight
    total = float(difference.sum())
    rest = np.sign(total) * max(float((np.sign(total) * (total - difference)).min()), 0.0)
    norm = float(np.sqrt((above**2).sum() * (below**2).sum()))
    return RowDirection(
        as_recorded=float(straight.sum()) / scale,
        mirrored=float(mirrored.sum()) / scale,
        neighbours=float((above * below).sum()) / norm if norm > 0 else 0.0,
        mirrored_columns=mirrored_lag,
        sigmas=float(rest) / max(float(np.sqrt(2.0)) * error, 1e-12 * scale),
        error=error / scale,
    )


def _at_the_best_lag(rows: Array, mean: Array) -> tuple[Array, float]:
    """(n_row,) products of rows and means, summed over bands and columns, and the lag at which their sum is highest."""
    cross = (np.fft.rfft(rows, axis=2) * np.conj(np.fft.rfft(mean, axis=2))).sum(axis=0)
    n_column = rows.shape[2]
    # all frequencies but the first, which is 0, and the last of an even number represent two
    weight = np.full(cross.shape[1], 2.0 / n_column)
    weight[-1] /= 2.0 if n_column % 2 == 0 else 1.0
    reach = min(MAX_COLUMNS, n_column / 4)
    lags = np.arange(-reach, reach + 0.5 * _STEP_COLUMNS, _STEP_COLUMNS)
    phase = np.exp(2j * np.pi * np.outer(lags, np.arange(cross.shape[1])) / n_column)
    products = ((phase * weight) @ cross.T).real
    best = int(np.argmax(products.sum(axis=1)))
    return np.asarray(products[best]), float(lags[best])


def note_mirrored_rows(scan: Scan) -> Scan:
    """Return the scan with a note on the remedy if every second row is mirrored; else unchanged.

    Of a large scan only a part is looked at, runs of rows spread over it: 32 MB, or 400 columns.
    """
    n_row, n_column, _ = scan.shape
    if n_row < MIN_ROWS or n_column < MIN_COLUMNS:
        return scan
    runs, columns = _sampled_part(scan)
    rows = np.concatenate([np.arange(run.start, run.stop) for run in runs])
    parts = [np.nan_to_num(scan.read(run, columns), posinf=0.0) for run in runs]
    edges = band_edges(np.sum([part.sum(axis=(0, 1), dtype=np.float64) for part in parts], axis=0))
    images = np.concatenate([band_sums(part, edges) for part in parts])
    if scan.present is not None:
        images[~scan.present[rows, columns]] = 0.0
    direction = direction_of(_roots(np.moveaxis(images, 2, 0)), rows)
    if direction is None or not direction.is_mirrored:
        return scan
    note = f"Beware: {direction.describe()}. Mirror them back: underpaint repair SCAN --out FILE.h5 --snake."
    return replace(scan, notes=(*scan.notes, note))


def _sampled_part(scan: Scan) -> tuple[list[slice], slice]:
    """Return all rows, or runs of rows spread evenly, and of very long rows the columns in the middle."""
    n_row, n_column, _ = scan.shape
    pixel_bytes = scan.counts.nbytes / scan.n_pixel
    length = max(int(_SAMPLE_BYTES / (n_column * pixel_bytes) / _N_RUN), 5)
    if length * _N_RUN >= n_row:
        return [slice(0, n_row)], slice(0, n_column)
    starts = np.linspace(0, n_row - length, _N_RUN).astype(int).tolist()
    n_skipped = n_column - max(int(_SAMPLE_BYTES / (_N_RUN * length * pixel_bytes)), _MIN_SAMPLED_COLUMNS)
    margin = max(n_skipped // 2, 0)  # the same on both sides, so that a mirrored row covers itself
    return [slice(start, start + length) for start in starts], slice(margin, n_column - margin)


def with_rows_mirrored(scan: Scan, direction: RowDirection | None = None) -> tuple[Scan, Step]:
    """Return the scan with odd rows mirrored, and what was done; counts stay as they are, times and gaps move along.

    The picture does not show which of two neighbours runs the right way: the direction of the first row is kept.

    Parameters
    ----------
    scan : Scan
        The scan.
    direction : RowDirection or None
        From :func:`find_row_direction`, for the record.

    Raises
    ------
    ScanError
        All rows certainly run the same way, or there is but one.
    """
    if scan.shape[0] < 2:
        raise ScanError("Cannot mirror every second row: the scan has 1 row, at least 2 are needed. Leave out --snake.")
    if direction is not None and direction.is_straight:
        raise ScanError(f"Cannot mirror every second row: {direction.describe()}. Leave out --snake.")
    counts = scan.counts.rechunk({1: -1}).map_blocks(_mirrored_block, dtype=scan.counts.dtype, meta=scan.counts._meta)  # noqa: SLF001 - dask has no public name for it
    images: dict[str, Any] = {
        name: None if getattr(scan, name) is None else _mirrored(getattr(scan, name), 0)
        for name in ("live_time_s", "real_time_s", "present")
    }
    note = "odd rows mirrored; the first row's direction is kept, since the picture does not determine it"
    facts: dict[str, Any] = {"mirrored": "odd rows"}
    if direction is not None:
        note = f"{direction.describe()}: {note}"
        facts |= {"correlation_mirrored": direction.mirrored, "correlation_as_recorded": direction.as_recorded}
    return replace(scan, counts=counts, notes=(*scan.notes, note), **images), Step("snake", note, facts)


def _mirrored(image: NDArray[Any], first: int) -> NDArray[Any]:
    result = image.copy()
    start = (first + 1) % 2
    result[start::2] = image[start::2, ::-1]
    return result


def _mirrored_block(block: NDArray[Any], block_info: Any = None) -> NDArray[Any]:
    return _mirrored(block, block_info[0]["array-location"][0][0] if block_info else 0)
