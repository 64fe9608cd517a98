"""Pages and answers for one folder of results, including the saved session and long tasks."""

import os
from dataclasses import asdict
from http import HTTPStatus
from pathlib import Path
from typing import Any

from underpaint.data.maps import NO_ANSWER, STATES
from underpaint.display.viewer import exports
from underpaint.display.viewer.exploration import ExplorationRequests
from underpaint.display.viewer.fit_requests import FitRequests
from underpaint.display.viewer.map_requests import MapRequests, ReflectanceCube
from underpaint.display.viewer.one_writer import one_writer
from underpaint.display.viewer.open_results import (
    OpenResults,
    ResultRequests,
    Routes,
    entry_facts,
    listed_numbers,
    pixel_position,
)
from underpaint.display.viewer.pages import page_file
from underpaint.display.viewer.pictures import Pictures
from underpaint.display.viewer.regions import RegionRequests
from underpaint.display.viewer.runs import Runs
from underpaint.display.viewer.scan_source import READY
from underpaint.display.viewer.server import Answer, Request, file_answer, json_answer
from underpaint.errors import OutputError
from underpaint.io.results.contained import digest_contained, has_file
from underpaint.io.results.pictures import picture_files, picture_keys
from underpaint.io.results.session import Session, parse_session, read_session
from underpaint.io.results.sidecars import REGIONS_FILE, SESSION_FILE
from underpaint.runtime.files import write_json

_MAX_SUBJECT_LENGTH = 200
REPORT_FILE = "report.html"
_SERVED_SUFFIXES = {".html", ".csv", ".tif", ".h5", ".pdf"}
# The report contains its style and pictures and loads nothing else.
_REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


class JobRequests(ResultRequests):
    """Answers to requests for long tasks."""

    def routes(self) -> Routes:
        """Return the functions that answer requests, by method and path."""
        return {
            ("POST", "explain"): self._start_explanation,
            ("POST", "report"): self._start_report,
            ("GET", "run"): self._answer_job_state,
            ("DELETE", "run"): self._cancel_job,
        }

    def _start_explanation(self, request: Request) -> Answer:
        """Start the search for layers that explain the spectrum of a pixel. The page then requests the progress."""
        request_body = request.json()
        row, column = pixel_position([request_body.get("row"), request_body.get("column")])
        self.results.maps.at(row, column)
        instrument = request_body.get("instrument") or self.results.instrument_name() or "elio"
        job = {
            "what": "explain",
            "scan": self.results.source.scan().source,
            "pixel": f"{row},{column}",
            "instrument": str(instrument),
        }
        return json_answer({"run": self.results.begin(job), "instrument": instrument})

    def _start_report(self, request: Request) -> Answer:
        """Start to write the report again, with the present photograph and regions."""
        request_body = request.json()
        job = {
            "what": "report",
            "folder": str(self.results.folder),
            "form": "pdf" if request_body.get("form") == "pdf" else "html",
            "full": request_body.get("full") is True,
            "subject": str(request_body.get("subject") or "")[:_MAX_SUBJECT_LENGTH],
            "scan": self.results.source.scan().source if self.results.source.state == READY else None,
        }
        return json_answer({"run": self.results.begin(job)})

    def _answer_job_state(self, request: Request) -> Answer | None:
        run = self.results.runs_of_page.get(request.query.get("run", ""))
        return None if run is None else json_answer(run.state())

    def _cancel_job(self, request: Request) -> Answer | None:
        run = self.results.runs_of_page.pop(request.query.get("run", ""), None)
        if run is None:
            return None
        run.cancel()
        return json_answer(run.state())


class NewerSessionError(OutputError):
    """Another page saved its session after the present page had read it."""


def session_and_version(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the saved session, and its version; the version is "" without a saved session.

    Raises
    ------
    ScanError
        The session file is damaged, or it is a link.
    """
    version = digest_contained(folder, SESSION_FILE) or ""
    return asdict(read_session(folder)), version


def save_session(folder: Path, session: Session, version: str) -> str:
    """Write the session and return its version.

    Raises
    ------
    NewerSessionError
        The saved session has another version; nothing was written.
    ScanError
        The saved session is damaged; nothing was written.
    OutputError
        The folder cannot be written.
    """
    with one_writer(folder):
        _, current_version = session_and_version(folder)
        if current_version != version:
            raise NewerSessionError("Another page saved markers or statements meanwhile. Nothing was replaced.")
        write_json(folder / SESSION_FILE, asdict(session))
        return digest_contained(folder, SESSION_FILE) or ""


class ResultSite:
    """Site for one folder of results.

    Parameters
    ----------
    folder, scan, runs
        As for :class:`OpenResults`.

    Raises
    ------
    ScanError
        The folder holds no results.
    """

    def __init__(self, folder: str | Path, scan: str | None = None, runs: Runs | None = None) -> None:
        self.results = OpenResults(folder, scan, runs)
        self.folder, self.maps, self.source = self.results.folder, self.results.maps, self.results.source
        self.pictures = Pictures(self.folder, self.maps)
        self.surface = ReflectanceCube(self.folder, self.maps)
        self._routes: Routes = {
            ("GET", "about"): self._answer_about,
            ("GET", "scan"): self._answer_scan_state,
            ("POST", "scan"): self._open_scan,
            ("GET", "session"): self._answer_session,
            ("POST", "session"): self._save_session,
            ("GET", "pictures"): self.pictures.answer,
            ("POST", "pictures"): self.pictures.answer,
            ("DELETE", "pictures"): self.pictures.answer,
            ("GET", "reflectance"): self.surface.answer,
            ("GET", "export"): self._answer_export,
            ("POST", "export"): self._answer_export,
            ("GET", "files"): self._send_file,
        }
        for requests in (MapRequests, RegionRequests, FitRequests, ExplorationRequests, JobRequests):
            self._routes |= requests(self.results).routes()

    def __call__(self, request: Request) -> Answer | None:
        """Answer a request for this folder."""
        if not request.parts:
            return page_file("viewer.html")
        route = self._routes.get((request.method, request.parts[0]))
        return page_file(request.parts[-1]) if route is None else route(request.under(1))

    def is_current(self) -> bool:
        """Return whether the results are unchanged since they were opened."""
        return self.results.maps.is_current()

    def close(self) -> None:
        """Cancel the running tasks and close the files."""
        self.results.close()

    def _answer_about(self, _: Request) -> Answer:
        summary = self.results.summary
        return json_answer(
            {
                "title": str(summary.get("name") or "scan"),
                "folder": self.results.folder.name,
                "shape": self.results.maps.shape,
                "step_mm": self.results.maps.step_mm,
                "maps": [entry_facts(entry) for entry in self.results.maps.entries],
                "axis": self.results.axis
                and {"zero_kev": self.results.axis.zero_kev, "gain_kev": self.results.axis.gain_kev},
                "sum": listed_numbers(summary.get("sum_counts")),
                "max": listed_numbers(summary.get("max_counts")),
                "notes": [
                    str(note) for note in (*summary.get("settings", {}).get("alerts", []), *summary.get("notes", []))
                ],
                "anode": summary.get("settings", {}).get("calibration", {}).get("anode"),
                "instrument": summary.get("settings", {}).get("instrument"),
                "hiding": self.results.maps.knows_hiding,
                "states": [
                    [state_code, description] for state_code, description in STATES.items() if state_code != NO_ANSWER
                ],
                "written": str(summary.get("written", "")),
                "report": has_file(self.results.folder, REPORT_FILE),
                "report_outdated": is_outdated(self.results.folder),
                "scan": self.results.scan_state(),
                "pictures": self.pictures.facts(),
                "reflectance": self.surface.facts(),
            }
        )

    def _answer_scan_state(self, _: Request) -> Answer:
        return json_answer(self.results.scan_state())

    def _open_scan(self, request: Request) -> Answer:
        self.results.source.open()
        return self._answer_scan_state(request)

    def _answer_session(self, _: Request) -> Answer:
        session, version = session_and_version(self.results.folder)
        return json_answer({"session": session, "version": version})

    def _save_session(self, request: Request) -> Answer:
        """Save the session of a page, or send the session that another page has saved meanwhile."""
        request_body = request.json()
        session = parse_session(request_body.get("session"))
        try:
            version = save_session(self.results.folder, session, str(request_body.get("version")))
        except NewerSessionError as error:
            newer_session, version = session_and_version(self.results.folder)
            return json_answer({"error": str(error), "session": newer_session, "version": version}, HTTPStatus.CONFLICT)
        return json_answer({"version": version})

    def _answer_export(self, request: Request) -> Answer | None:
        return exports.answer(request, self.results)

    def _send_file(self, request: Request) -> Answer | None:
        path_parts = request.parts or (REPORT_FILE,)
        if Path(path_parts[-1]).suffix not in _SERVED_SUFFIXES:
            return None
        return file_answer(self.results.folder, *path_parts, policy=_REPORT_POLICY)


def is_outdated(folder: Path) -> bool:
    """Return whether pictures, regions or the session of a folder of results are newer than its report."""
    sidecar_paths = [(REGIONS_FILE,), (SESSION_FILE,), *(picture_files(key).place for key in picture_keys(folder))]
    report_time_ns = _modified_ns(folder / REPORT_FILE)
    return 0 < report_time_ns < max(_modified_ns(folder.joinpath(*path_parts)) for path_parts in sidecar_paths)


def _modified_ns(path: Path) -> int:
    """Return the time of the last change of a file, in ns; 0 for a missing file."""
    try:
        return os.lstat(path).st_mtime_ns
    except OSError:
        return 0
