"""Results that the viewer has open: the maps, the scan, and the long tasks of a page."""

import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from underpaint.data import EnergyAxis
from underpaint.display.viewer.runs import Run, Runs
from underpaint.display.viewer.scan_source import ScanSource
from underpaint.display.viewer.server import Answer, Request
from underpaint.display.viewer.windows import ChannelStoreCache
from underpaint.errors import ScanError
from underpaint.io import read_summary
from underpaint.io.results.result_maps import MapEntry, ResultMaps
from underpaint.io.results.sidecars import find_scan, scan_path
from underpaint.physics.instrument import preset_names

Routes = dict[tuple[str, str], Callable[[Request], Answer | None]]
"""Functions that answer requests, by method and first part of the path."""


class OpenResults:
    """A folder of results with its scan, shared by all classes that answer requests for these results.

    Parameters
    ----------
    folder : str or Path
        Results of ``identify`` or ``elements``.
    scan : str or None
        Path of the scan, which is opened at once. If None, the scan is opened on request from its recorded path or the
        folder of the results.
    runs : Runs or None
        Runs of long tasks, such as explaining a spot or writing the report. If None, a new object is created.

    Raises
    ------
    ScanError
        The folder holds no results.
    """

    def __init__(self, folder: str | Path, scan: str | None = None, runs: Runs | None = None) -> None:
        self.maps = ResultMaps(folder)
        self.folder = self.maps.folder
        self.summary = read_summary(self.folder)
        self.source = ScanSource(
            lambda: find_scan(self.folder, self.summary, scan, self.maps.shape, allow_shares=True),
            scan or scan_path(self.summary),
        )
        if scan is not None:  # a recorded path is opened only on request, because the author of the results chose it
            self.source.open()
        self.windows = ChannelStoreCache()
        self.working = threading.Lock()
        """Lock for the computation of a value that all pages share."""
        self.further_maps: dict[str, ResultMaps] = {}
        """Results of refits, by folder."""
        self.runs_of_page: dict[str, Run] = {}
        self._runs = runs or Runs()

    def close(self) -> None:
        """Cancel the running tasks and close the files."""
        for run in self.runs_of_page.values():
            run.cancel()
        self.windows.close()
        for maps in (self.maps, *self.further_maps.values()):
            maps.close()

    @cached_property
    def axis(self) -> EnergyAxis | None:
        """Energy axis of the results; None if it is unknown."""
        return EnergyAxis.from_energies(self.summary.get("energy_kev"))

    def scan_state(self) -> dict[str, str]:
        """Return the state of the scan, the reason if it is not open, and its path."""
        return {"state": self.source.state, "why": self.source.failure, "path": self.source.path}

    def instrument_name(self) -> str:
        """Return the instrument preset or file that the results name; "" if neither exists."""
        settings = self.summary.get("settings")
        name = settings.get("instrument") if isinstance(settings, dict) else None
        if not isinstance(name, str) or name.startswith(("\\\\", "//")):
            return ""
        return name if name in preset_names() or Path(name).is_file() else ""  # is_file() excludes named pipes

    def index(self, request: Request) -> int:
        """Return the number of the map that a request names.

        Raises
        ------
        ScanError
            No map has this number.
        """
        index = request.number("map")
        if not 0 <= index < len(self.maps.entries):
            raise ScanError(f"There is no map {index}; there are {len(self.maps.entries)}.")
        return index

    def begin(self, job: dict[str, Any]) -> str:
        """Start a long task and return its key. The page uses this key to request the progress."""
        run = self._runs.start(job)
        self.runs_of_page[run.key] = run
        return run.key


class ResultRequests:
    """Base class of the handlers that answer one group of requests about results.

    Parameters
    ----------
    results : OpenResults
    """

    def __init__(self, results: OpenResults) -> None:
        self.results = results

    def routes(self) -> Routes:
        """Return the functions that answer requests, by method and first part of the path."""
        raise NotImplementedError


def entry_facts(entry: MapEntry) -> dict[str, Any]:
    """Return the fields of a map's entry that the page uses, without paths."""
    return {
        field_name: value for field_name, value in asdict(entry).items() if field_name not in {"path", "error_path"}
    }


def pixel_position(value: Any) -> tuple[int, int]:
    """Return the row and column of a pixel that a page sent.

    Raises
    ------
    ScanError
        The value is not a list of two integers.
    """
    if not (isinstance(value, list) and len(value) == 2 and all(type(index) is int for index in value)):
        raise ScanError("Cannot read the spectrum: choose a pixel first.")
    return value[0], value[1]


def listed_numbers(values: Any) -> list[float] | None:
    """Return numbers as a list for JSON; None remains None."""
    return None if values is None else np.asarray(values, dtype=np.float64).tolist()
