"""Answers to requests for maps: the first view, the values of a map, its thumbnail, and the values of a pixel."""

import threading
from functools import cached_property

import numpy as np

from underpaint.display.report import Overview, overview
from underpaint.display.viewer.open_results import OpenResults, ResultRequests, Routes, listed_numbers
from underpaint.display.viewer.scan_source import READY
from underpaint.display.viewer.server import Answer, Request, json_answer
from underpaint.display.viewer.spots import spot
from underpaint.io import read_results
from underpaint.pigments.limits.exclusion import LINE_SIGMA


class MapRequests(ResultRequests):
    """Answers about maps and pixels."""

    def __init__(self, results: OpenResults) -> None:
        super().__init__(results)
        threading.Thread(target=self._warm_up, daemon=True).start()

    def routes(self) -> Routes:
        """Return the requests that are answered here."""
        return {
            ("GET", "overview"): self._overview,
            ("GET", "paint"): self._paint,
            ("GET", "lines"): self._lines,
            ("GET", "candidates"): self._candidates,
            ("GET", "map"): self._map,
            ("GET", "thumbnail"): self._thumbnail,
            ("GET", "pixel"): self._pixel,
        }

    @cached_property
    def overview(self) -> Overview:
        """Contents of the first view, computed from all maps."""
        with self.results.working:  # two pages that begin at once share it
            return overview(read_results(self.results.folder))

    def _overview(self, _: Request) -> Answer:
        shown = self.overview
        numbers = {
            entry.name: number for number, entry in enumerate(self.results.maps.entries) if entry.kind == "element"
        }
        return json_answer(
            {
                "maps": [numbers[name] for name in shown.lines if name in numbers],
                "sentences": shown.sentences,
                "certainties": shown.certainties,
                "shares": shown.shares,
                "absent": shown.absent,
                "detected": shown.detected,
                "paints": shown.paints,
            }
        )

    def _paint(self, _: Request) -> Answer:
        """Send the number of each pixel's paint: (n_row, n_column) uint8."""
        return Answer(
            read_results(self.results.folder).map("paint").astype(np.uint8).tobytes(), "application/octet-stream"
        )

    @cached_property
    def _labels(self) -> dict[str, dict[str, float]]:
        from underpaint.display.plot import line_labels

        labels = {family: dict(line_labels([family])) for family in self._strongest_families()}
        anode = self.results.summary.get("settings", {}).get("calibration", {}).get("anode")
        tube = {f"{label} (tube)": at for label, at in line_labels([f"{anode}_K"], 60.0).items()} if anode else {}
        return {**labels, "tube": tube}

    def _strongest_families(self) -> list[str]:
        """Return all line families, that with the most counts where it stands out first."""
        areas = {}
        for index, entry in enumerate(self.results.maps.entries):
            if entry.kind == "element":
                counts, errors = self.results.maps.values(index), self.results.maps.errors(index)
                there = np.isfinite(counts) if errors is None else counts > LINE_SIGMA * errors
                areas[entry.name] = float(counts[there].sum(dtype=np.float64))
        return sorted(areas, key=lambda name: -areas[name])

    def _lines(self, _: Request) -> Answer:
        return json_answer(self._labels)

    def _candidates(self, _: Request) -> Answer:
        """Answer with the lines of all families that a fit looks for, for the read-out under the pointer."""
        from underpaint.display.plot import line_labels
        from underpaint.elements import CANDIDATES

        return json_answer({family: dict(line_labels([family])) for family in CANDIDATES})

    def _map(self, request: Request) -> Answer:
        return Answer(
            self.results.maps.values(self.results.index(request)).astype("<f4").tobytes(), "application/octet-stream"
        )

    def _thumbnail(self, request: Request) -> Answer:
        """Send the thumbnail of a map: its size, followed by every n-th pixel of the map."""
        values = self.results.maps.values(self.results.index(request))
        step = max(1, -(-max(values.shape) // max(16, min(request.number("size"), 256))))
        thumbnail = np.ascontiguousarray(values[::step, ::step], dtype="<f4")
        return Answer(
            np.asarray(thumbnail.shape, dtype="<i4").tobytes() + thumbnail.tobytes(), "application/octet-stream"
        )

    def _pixel(self, request: Request) -> Answer:
        row, column = request.number("row"), request.number("column")
        answers = spot(self.results.maps, row, column)
        counts = self.results.source.pixel(row, column) if self.results.source.state == READY else None
        return json_answer(answers | {"spectrum": listed_numbers(counts), "scan": self.results.scan_state()})

    def _warm_up(self) -> None:
        # The first click would otherwise wait for the libraries of lines and pigments. Maps are not touched: they may
        # be closed by now.
        from underpaint.display.plot import line_labels

        line_labels([entry.name for entry in self.results.maps.entries if entry.kind == "element"])
