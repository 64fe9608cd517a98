"""Results as the viewer holds them open: their maps, their scan, and what runs for the page."""

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
from underpaint.display.viewer.windows import Windows
from underpaint.errors import ScanError
from underpaint.io import read_summary
from underpaint.io.results.result_maps import MapEntry, ResultMaps
from underpaint.io.results.sidecars import find_scan, scan_path
from underpaint.physics.instrument import preset_names

Routes = dict[tuple[str, str], Callable[[Request], Answer | None]]
"""Answers by method and first part of the path."""


class OpenResults:
    """A folder of results with its scan, shared by all that answers requests about it.

    Parameters
    ----------
    folder : str or Path
        Results of ``identify`` or ``elements``.
    scan : str or None
        Path of the scan, which is then opened; None searches its recorded path and the folder of the results on
        request.
    runs : Runs or None
        Runs long tasks (explaining a spot, the report); None: a new one.

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
        if scan is not None:  # else whoever made the results would choose which file is opened
            self.source.open()
        self.windows = Windows()
        self.working = threading.Lock()
        """Held while something is computed once for all pages."""
        self.further_maps: dict[str, ResultMaps] = {}
        """Results of refits, by folder."""
        self.runs_of_page: dict[str, Run] = {}
        self._runs = runs or Runs()

    def close(self) -> None:
        """Stop what runs and close the files."""
        for run in self.runs_of_page.values():
            run.cancel()
        self.windows.close()
        for maps in (self.maps, *self.further_maps.values()):
            maps.close()

    @cached_property
    def axis(self) -> EnergyAxis | None:
        """The energy axis; None where the results have none."""
        return EnergyAxis.from_energies(self.summary.get("energy_kev"))

    def scan_state(self) -> dict[str, str]:
        """Return whether the scan is open, why not, and its path."""
        return {"state": self.source.state, "why": self.source.why, "path": self.source.path}

    def instrument_name(self) -> str:
        """Return the instrument that the results name: a preset or a file; "" where it is neither."""
        settings = self.summary.get("settings")
        name = settings.get("instrument") if isinstance(settings, dict) else None
        if not isinstance(name, str) or name.startswith(("\\\\", "//")):
            return ""
        return name if name in preset_names() or Path(name).is_file() else ""  # a pipe is no file

    def index(self, request: Request) -> int:
        """Return the number of the map that a request names.

        Raises
        ------
        ScanError
            There is none of that number.
        """
        index = request.number("map")
        if not 0 <= index < len(self.maps.entries):
            raise ScanError(f"There is no map {index}; there are {len(self.maps.entries)}.")
        return index

    def begin(self, job: dict[str, Any]) -> str:
        """Start a long task, and return its key, by which the page asks for its progress."""
        run = self._runs.start(job)
        self.runs_of_page[run.key] = run
        return run.key


class ResultRequests:
    """Answers to some of the requests of a page about results.

    Parameters
    ----------
    results : OpenResults
    """

    def __init__(self, results: OpenResults) -> None:
        self.results = results

    def routes(self) -> Routes:
        """Return the functions that answer, by method and first part of the address."""
        raise NotImplementedError


def entry_facts(entry: MapEntry) -> dict[str, Any]:
    """Return what the page needs to know of a map."""
    return {key: value for key, value in asdict(entry).items() if key not in {"path", "error_path"}}


def pixel_of(value: Any) -> tuple[int, int]:
    """Return the row and column that a page sent.

    Raises
    ------
    ScanError
        They are not two whole numbers.
    """
    if not (isinstance(value, list) and len(value) == 2 and all(type(each) is int for each in value)):
        raise ScanError("Cannot read the spectrum: choose a pixel first.")
    return value[0], value[1]


def listed_numbers(values: Any) -> list[float] | None:
    """Return numbers as JSON takes them; None as it is."""
    return None if values is None else np.asarray(values, dtype=np.float64).tolist()
