"""Access to the scan of the results; a thread opens the scan in the background."""

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.display.viewer.page_words import page_words
from underpaint.errors import ScanError
from underpaint.pigments.explain.region import region_counts

CLOSED, OPENING, READY, MISSING = "closed", "opening", "ready", "missing"


@dataclass(frozen=True)
class RegionSpectra:
    """Spectra of the pixels of a region.

    Parameters
    ----------
    mean, maximum : (n_channel,) arrays
        Mean and maximum counts of the pixels in each channel.
    n_pixel : int
        Number of pixels with a spectrum.
    """

    mean: NDArray[np.float64]
    maximum: NDArray[np.float64]
    n_pixel: int


class ScanSource:
    """Opens a scan on request. A separate thread is used, because large folders and network drives are slow.

    Parameters
    ----------
    open_scan : callable
        Function that returns the scan or raises an error.
    path : str
        Path of the scan, for display to the user.
    """

    def __init__(self, open_scan: Callable[[], Scan], path: str = "") -> None:
        self.path = path
        self._open = open_scan
        self._scan: Scan | None = None
        self._failure = ""
        self._lock = threading.Lock()
        self._opening_thread: threading.Thread | None = None

    def open(self) -> None:
        """Start to open the scan if it is neither open nor being opened; try again after a failure."""
        with self._lock:
            if self._opening_thread is None or self.state == MISSING:
                self._failure = ""
                self._opening_thread = threading.Thread(target=self._open_scan, daemon=True)
                self._opening_thread.start()

    @property
    def state(self) -> str:
        """``CLOSED``, ``OPENING``, ``READY`` or ``MISSING``."""
        if self._opening_thread is None:
            return CLOSED
        return READY if self._scan is not None else MISSING if self._failure else OPENING

    @property
    def failure(self) -> str:
        """Reason why the scan could not be opened; "" without a failure."""
        return self._failure

    def scan(self) -> Scan:
        """Wait for the scan and return it.

        Raises
        ------
        ScanError
            The scan is not open, or it cannot be read.
        """
        if self._opening_thread is None:
            raise ScanError("The scan is not open. Open it in the viewer first.")
        self._opening_thread.join()
        if self._scan is None:
            raise ScanError(self._failure)
        return self._scan

    def pixel(self, row: int, column: int) -> NDArray[np.float64] | None:
        """Return the (n_channel,) counts of a pixel; None for a pixel without a spectrum. No other pixel is read."""
        scan = self.scan()
        if scan.present is not None and not scan.present[row, column]:
            return None
        counts = scan.read(slice(row, row + 1), slice(column, column + 1))[0, 0].astype(np.float64)
        return counts if np.isfinite(counts).all() else None

    def region(self, mask: NDArray[np.bool_]) -> RegionSpectra:
        """Return the mean and maximum spectra of a region. Only the region's rows and columns are read, in blocks.

        Raises
        ------
        ScanError
            No pixel of the region has a spectrum.
        """
        scan = self.scan()
        is_measured = mask if scan.present is None else mask & scan.present
        sum_counts, maximum = region_counts(scan, is_measured)
        n_pixel = int(is_measured.sum())
        return RegionSpectra(sum_counts / n_pixel, maximum, n_pixel)

    def _open_scan(self) -> None:
        try:
            self._scan = self._open()
        except Exception as error:  # readers from several libraries raise errors without a common base class
            self._failure = page_words(str(error) or type(error).__name__)
