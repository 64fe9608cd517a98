"""Answers about long tasks: layers of a pixel, the report, and their progress."""

from underpaint.display.viewer.open_results import ResultRequests, Routes, pixel_of
from underpaint.display.viewer.scan_source import READY
from underpaint.display.viewer.server import Answer, Request, json_answer

_MOST_SUBJECT = 200


class JobRequests(ResultRequests):
    """Answers about long tasks."""

    def routes(self) -> Routes:
        """Return the requests that are answered here."""
        return {
            ("POST", "explain"): self._explain,
            ("POST", "report"): self._report,
            ("GET", "run"): self._run_state,
            ("DELETE", "run"): self._stop_run,
        }

    def _explain(self, request: Request) -> Answer:
        """Begin to explain a pixel by layers; the page requests the progress."""
        sent = request.json()
        row, column = pixel_of([sent.get("row"), sent.get("column")])
        self.results.maps.at(row, column)
        instrument = sent.get("instrument") or self.results.instrument_name() or "elio"
        job = {
            "what": "explain",
            "scan": self.results.source.scan().source,
            "pixel": f"{row},{column}",
            "instrument": str(instrument),
        }
        return json_answer({"run": self.results.begin(job), "instrument": instrument})

    def _report(self, request: Request) -> Answer:
        """Begin to write the report again, with the present pictures, regions and statements."""
        sent = request.json()
        job = {
            "what": "report",
            "folder": str(self.results.folder),
            "form": "pdf" if sent.get("form") == "pdf" else "html",
            "full": sent.get("full") is True,
            "subject": str(sent.get("subject") or "")[:_MOST_SUBJECT],
            "scan": self.results.source.scan().source if self.results.source.state == READY else None,
        }
        return json_answer({"run": self.results.begin(job)})

    def _run_state(self, request: Request) -> Answer | None:
        run = self.results.runs_of_page.get(request.query.get("run", ""))
        return None if run is None else json_answer(run.state())

    def _stop_run(self, request: Request) -> Answer | None:
        run = self.results.runs_of_page.pop(request.query.get("run", ""), None)
        if run is None:
            return None
        run.cancel()
        return json_answer(run.state())
