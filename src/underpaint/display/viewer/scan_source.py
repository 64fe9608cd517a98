"""Access to the scan from which a result was computed; a thread opens it in the background."""

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
    mean, highest : (n_channel,) arrays
        Counts of the mean pixel; the largest count of any pixel in each channel.
    n_pixel : int
        Pixels that have a spectrum.
    """

    mean: NDArray[np.float64]
    highest: NDArray[np.float64]
    n_pixel: int


class ScanSource:
    """Opens a scan in a thread of its own, once asked to: a folder of a million files takes a while, a server for ever.

    Parameters
    ----------
    open_scan : callable
        Returns the scan, or raises what is wrong.
    path : str
        Where the scan lies, for the user.
    """

    def __init__(self, open_scan: Callable[[], Scan], path: str = "") -> None:
        self.path = path
        self._open = open_scan
        self._scan: Scan | None = None
        self._why = ""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        """Begin to open the scan, unless that has begun; once more where it failed."""
        with self._lock:
            if self._thread is None or self.state == MISSING:
                self._why = ""
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()

    @property
    def state(self) -> str:
        """``CLOSED``, ``OPENING``, ``READY`` or ``MISSING``."""
        if self._thread is None:
            return CLOSED
        return READY if self._scan is not None else MISSING if self._why else OPENING

    @property
    def why(self) -> str:
        """Why there is no scan; "" where there is one."""
        return self._why

    def scan(self) -> Scan:
        """Wait for the scan and return it.

        Raises
        ------
        ScanError
            It is not there or cannot be read.
        """
        if self._thread is None:
            raise ScanError("The scan is not open. Open it in the viewer first.")
        self._thread.join()
        if self._scan is None:
            raise ScanError(self._why)
        return self._scan

    def pixel(self, row: int, column: int) -> NDArray[np.float64] | None:
        """Return the (n_channel,) counts of a pixel, and nothing else of the scan; None where it has none."""
        scan = self.scan()
        if scan.present is not None and not scan.present[row, column]:
            return None
        counts = scan.read(slice(row, row + 1), slice(column, column + 1))[0, 0].astype(np.float64)
        return counts if np.isfinite(counts).all() else None

    def region(self, mask: NDArray[np.bool_]) -> RegionSpectra:
        """Return the spectra of a region; only the rows and columns around it are read, block by block.

        Raises
        ------
        ScanError
            No pixel of it has a spectrum.
        """
        scan = self.scan()
        there = mask if scan.present is None else mask & scan.present
        total, highest = region_counts(scan, there)
        n_pixel = int(there.sum())
        return RegionSpectra(total / n_pixel, highest, n_pixel)

    def _run(self) -> None:
        try:
            self._scan = self._open()
        except Exception as error:  # the readers of many libraries share no base of their errors
            self._why = page_words(str(error) or type(error).__name__)
