"""A scan: a lazy cube of spectra, (row, column, channel)."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from underpaint.data.axis import EnergyAxis
from underpaint.data.spectrum import Spectrum
from underpaint.errors import CalibrationError, ScanError


@dataclass(frozen=True)
class Scan:
    """A scan as lazy counts with what its file says about it.

    Parameters
    ----------
    counts : (n_row, n_column, n_channel) dask array
        Counts, any numeric type; chunked over rows (and columns), whole along the channel.
    axis : EnergyAxis or None
        Energy calibration; None where the file has none (``calibrate`` finds it).
    name : str
        Short name, used for result folders.
    source : str
        Path (and ``::array``) that the scan was read from.
    format : str
        Name of the file format.
    live_time_s, real_time_s : (n_row, n_column) array, or None
        Seconds per pixel; None where unknown. NaN for single unknown pixels.
    step_mm : (float, float) or None
        Distance between pixels along rows and columns, mm.
    detector : str
        The detector's name or serial number; "" where unknown.
    present : (n_row, n_column) bool array, or None
        False where the pixel's spectrum is missing; None where all are there.
    notes : tuple of str
        What the reader wants the user to know (files skipped, times unknown ...).
    metadata : dict
        What else the file says, by its own names.
    counts_scale : float
        What was stored per count: the file's values were divided by it. Of a scan with a scale for each pixel, the
        median.
    """

    counts: Any
    axis: EnergyAxis | None = None
    name: str = "scan"
    source: str = ""
    format: str = ""
    live_time_s: NDArray[np.float64] | None = None
    real_time_s: NDArray[np.float64] | None = None
    step_mm: tuple[float, float] | None = None
    detector: str = ""
    present: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    counts_scale: float = 1.0

    def __post_init__(self) -> None:
        if not isinstance(self.counts, da.Array):
            object.__setattr__(self, "counts", da.from_array(np.asarray(self.counts), chunks=(16, -1, -1), name=False))
        if self.counts.ndim != 3:
            raise ScanError(
                f"Cannot make a scan from an array of shape {self.counts.shape}: (row, column, channel) is needed."
            )
        if 0 in self.counts.shape:
            raise ScanError(f"Cannot make a scan from an array of shape {self.counts.shape}: it is empty.")
        if self.axis is not None and self.axis.n_channel != self.counts.shape[2]:
            raise ScanError(
                f"Cannot make a scan: the cube has {self.counts.shape[2]} channels, "
                f"its energy axis {self.axis.n_channel}."
            )

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n_row, n_column, n_channel)."""
        n_row, n_column, n_channel = self.counts.shape
        return int(n_row), int(n_column), int(n_channel)

    @property
    def n_pixel(self) -> int:
        """Number of pixels."""
        return self.shape[0] * self.shape[1]

    def require_axis(self) -> EnergyAxis:
        """Return the energy axis, or say how to get one."""
        if self.axis is None:
            raise CalibrationError(
                f"Scan {self.name!r} has no energy calibration. "
                "Run `underpaint calibrate` on it and pass the instrument file that it "
                "writes with --instrument."
            )
        return self.axis

    def with_axis(self, axis: EnergyAxis) -> "Scan":
        """Return the same counts under another energy axis."""
        return replace(self, axis=axis)

    def row_blocks(self) -> Iterator[slice]:
        """Rows, block by block as the dask array is chunked."""
        start = 0
        for n_row in self.counts.chunks[0]:
            yield slice(start, start + n_row)
            start += n_row

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Rows and columns, block by block as the dask array is chunked: what a reader reads in one piece."""
        for rows in self.row_blocks():
            start = 0
            for n_column in self.counts.chunks[1]:
                yield rows, slice(start, start + n_column)
                start += n_column

    def pixel(self, row: int, column: int) -> Spectrum:
        """Read one pixel's spectrum."""
        counts = np.asarray(self.counts[row, column], dtype=np.float64)
        live, real = (_time(times, row, column) for times in (self.live_time_s, self.real_time_s))
        return Spectrum(counts, self.axis, live, real, f"{self.name} ({row}, {column})")

    def present_counts(self) -> Any:
        """Lazy counts with 0 where the pixel is missing, marked so or because a value is no number."""
        counts = self.counts
        if counts.dtype.kind == "f":
            counts = da.where(da.isfinite(counts), counts, 0)
        return counts if self.present is None else da.where(self.present[:, :, None], counts, 0)

    def sum_spectrum(self) -> Spectrum:
        """Sum over the pixels that are there; see :func:`~underpaint.data.survey` for more from one reading."""
        total: Spectrum = _survey(self).sum_spectrum()
        return total

    def max_spectrum(self) -> Spectrum:
        """Largest count of any pixel, channel by channel; it shows what the sum hides."""
        highest: Spectrum = _survey(self).max_spectrum()
        return highest


def _survey(scan: Scan) -> Any:
    from underpaint.data._survey import survey  # which builds on this module

    return survey(scan)


def _time(time_s: NDArray[np.float64] | None, row: int, column: int) -> float | None:
    return None if time_s is None or np.isnan(time_s[row, column]) else float(time_s[row, column])


def sound_spectra(counts: NDArray[Any]) -> NDArray[np.bool_]:
    """(...) True where a spectrum of (..., n_channel) has counts, none of them negative or not a number."""
    # A minimum with a NaN is NaN, and no comparison with NaN is true.
    most = counts.max(axis=-1)
    return np.asarray((counts.min(axis=-1) >= 0) & np.isfinite(most) & (most > 0))
