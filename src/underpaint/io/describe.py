"""Summaries of scans, which ``underpaint info`` shows."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan, Spectrum, Survey, survey
from underpaint.io.load import load, load_each


@dataclass(frozen=True)
class ScanInfo:
    """Summary of a scan. The counts are read only once.

    Parameters
    ----------
    name, source, format, detector : str
        As in :class:`~underpaint.data.Scan`.
    shape : (int, int, int)
        Numbers of rows, columns and channels.
    dtype : str
        Data type of the stored counts.
    size_bytes : int
        Size of the full cube in memory, in bytes.
    axis : EnergyAxis or None
        Energy calibration, if the file has one.
    live_time_s, real_time_s : float or None
        Medians over the pixels in s; None if unknown.
    step_mm : (float, float) or None
        Distances between neighbouring rows and between neighbouring columns, in mm.
    total_counts : float
        Total counts of the scan.
    pixel_counts : (n_row, n_column) array
        Counts of each pixel.
    n_empty, n_missing : int
        Number of pixels whose spectrum has no counts, and number of pixels without a spectrum.
    sum_spectrum, max_spectrum : Spectrum
        Sum and maximum over the pixels that are not missing, from :func:`~underpaint.data.survey`.
    read_share : float
        Fraction of the pixels that were read. The two spectra include only the pixels that were read, and the
        ``pixel_counts`` of all other pixels are NaN.
    counts_scale : float
        As in :class:`~underpaint.data.Scan`.
    """

    name: str
    source: str
    format: str
    detector: str
    shape: tuple[int, int, int]
    dtype: str
    size_bytes: int
    axis: EnergyAxis | None
    live_time_s: float | None
    real_time_s: float | None
    step_mm: tuple[float, float] | None
    total_counts: float
    pixel_counts: NDArray[np.float64]
    n_empty: int
    n_missing: int
    notes: tuple[str, ...]
    metadata: dict[str, Any]
    sum_spectrum: Spectrum
    max_spectrum: Spectrum
    read_share: float = 1.0
    counts_scale: float = 1.0

    @property
    def mean_pixel_counts(self) -> float:
        """Mean counts of the pixels that have a spectrum."""
        return self.total_counts / max(self.pixel_counts.size - self.n_missing, 1)

    @property
    def max_pixel_counts(self) -> float:
        """Counts of the brightest pixel."""
        return float(np.nanmax(self.pixel_counts))

    def facts(self) -> dict[str, Any]:
        """Return the summary without the spectra, in types that JSON can store."""
        axis = self.axis
        return {
            "name": self.name,
            "source": self.source,
            "format": self.format,
            "detector": self.detector,
            "shape": list(self.shape),
            "dtype": self.dtype,
            "size_bytes": self.size_bytes,
            "gain_kev": None if axis is None else axis.gain_kev,
            "zero_kev": None if axis is None else axis.zero_kev,
            "live_time_s": self.live_time_s,
            "real_time_s": self.real_time_s,
            "step_mm": None if self.step_mm is None else list(self.step_mm),
            "counts_scale": self.counts_scale,
            "total_counts": self.total_counts,
            "mean_pixel_counts": self.mean_pixel_counts,
            "max_pixel_counts": self.max_pixel_counts,
            "n_empty": self.n_empty,
            "n_missing": self.n_missing,
            "read_share": self.read_share,
            "notes": list(self.notes),
            "metadata": {metadata_key: str(metadata_value) for metadata_key, metadata_value in self.metadata.items()},
        }


def describe(
    source: str | Path | Scan, *, shape: tuple[int, int] | None = None, counts_scale: float | None = None
) -> ScanInfo:
    """Read a scan once, block by block, and return its summary.

    Raises
    ------
    ScanError
        As for :func:`~underpaint.io.load`, or a pixel is damaged.
    """
    scan = source if isinstance(source, Scan) else load(source, shape=shape, counts_scale=counts_scale)
    return scan_info(survey(scan))


def describe_all(
    location: str | Path,
    *,
    detector: str | None = None,
    shape: tuple[int, int] | None = None,
    counts_scale: float | None = None,
    max_bytes: float = np.inf,
) -> list[ScanInfo]:
    """Summarise each detector of a file or folder, or only one detector, or the sum for ``detector="sum"``.

    If the scans exceed ``max_bytes``, only a part of their pixels is read, with a note.
    """
    scans = load_each(location, detector=detector, shape=shape, counts_scale=counts_scale)
    return [scan_info(survey(scan, max_bytes=max_bytes / len(scans))) for scan in scans]


def summarise_scan(source: Scan | ScanInfo) -> dict[str, Any]:
    """Return a scan's facts and spectra as a dict for :attr:`~underpaint.data.maps.Results.summary`.

    Returns
    -------
    dict
        The items of :meth:`ScanInfo.facts`, and the arrays ``sum_counts`` and ``max_counts``. For a calibrated scan,
        also the array ``energy_kev``.
    """
    info = source if isinstance(source, ScanInfo) else describe(source)
    spectrum_arrays = {"sum_counts": info.sum_spectrum.counts, "max_counts": info.max_spectrum.counts}
    if info.axis is not None:
        spectrum_arrays["energy_kev"] = info.axis.energy_kev
    return {**info.facts(), **spectrum_arrays}


def scan_info(summary: Survey) -> ScanInfo:
    """Return the summary of a surveyed scan. If only a part was read, the total counts are estimated."""
    scan, read_share = summary.scan, summary.read_share
    is_missing = np.zeros(scan.shape[:2], dtype=bool) if scan.present is None else ~scan.present
    return ScanInfo(
        name=scan.name,
        source=scan.source,
        format=scan.format,
        detector=scan.detector,
        shape=scan.shape,
        dtype=str(scan.dtype),
        size_bytes=scan.nbytes,
        axis=scan.axis,
        live_time_s=_median_time(scan.live_time_s),
        real_time_s=_median_time(scan.real_time_s),
        step_mm=scan.step_mm,
        total_counts=float(np.nansum(summary.pixel_counts)) / read_share,
        pixel_counts=summary.pixel_counts,
        n_empty=int(((summary.pixel_counts == 0) & ~is_missing).sum()),
        n_missing=int(is_missing.sum()),
        notes=(*scan.notes, *_partial_read_notes(read_share)),
        metadata=scan.metadata,
        sum_spectrum=summary.sum_spectrum(),
        max_spectrum=summary.max_spectrum(),
        read_share=read_share,
        counts_scale=scan.counts_scale,
    )


def _partial_read_notes(read_share: float) -> tuple[str, ...]:
    if read_share == 1:
        return ()
    return (
        f"read in part: {100 * read_share:.1f} % of the pixels, evenly over the scan. The spectra and empty pixels are "
        "of these pixels, and the total counts are estimated. --all reads all pixels.",
    )


def _median_time(time_s: NDArray[np.float64] | None) -> float | None:
    return None if time_s is None else float(np.nanmedian(time_s))
