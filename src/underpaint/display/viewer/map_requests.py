"""Answers to requests for maps: the overview, the values and thumbnail of a map, and the values of a pixel."""

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
    """Answers to requests for maps and pixels."""

    def __init__(self, results: OpenResults) -> None:
        super().__init__(results)
        threading.Thread(target=self._warm_up, daemon=True).start()

    def routes(self) -> Routes:
        """Return the functions that answer requests, by method and path."""
        return {
            ("GET", "overview"): self._answer_overview,
            ("GET", "paint"): self._send_paint_numbers,
            ("GET", "lines"): self._answer_line_energies,
            ("GET", "candidates"): self._answer_candidate_lines,
            ("GET", "map"): self._send_map,
            ("GET", "thumbnail"): self._send_thumbnail,
            ("GET", "pixel"): self._answer_pixel,
        }

    @cached_property
    def overview(self) -> Overview:
        """Content of the overview, computed from all maps."""
        with self.results.working:  # two pages that load at the same time share the overview
            return overview(read_results(self.results.folder))

    def _answer_overview(self, _: Request) -> Answer:
        content = self.overview
        map_numbers = {
            entry.name: number for number, entry in enumerate(self.results.maps.entries) if entry.kind == "element"
        }
        return json_answer(
            {
                "maps": [map_numbers[name] for name in content.lines if name in map_numbers],
                "sentences": content.sentences,
                "certainties": content.certainties,
                "shares": content.shares,
                "absent": content.absent,
                "detected": content.detected,
                "paints": content.paints,
            }
        )

    def _send_paint_numbers(self, _: Request) -> Answer:
        """Send the number of each pixel's paint as (n_row, n_column) uint8."""
        return Answer(
            read_results(self.results.folder).map("paint").astype(np.uint8).tobytes(), "application/octet-stream"
        )

    @cached_property
    def _line_energies_by_family(self) -> dict[str, dict[str, float]]:
        from underpaint.display.plot import line_labels

        labels = {family: dict(line_labels([family])) for family in self._strongest_families()}
        anode = self.results.summary.get("settings", {}).get("calibration", {}).get("anode")
        tube_lines = (
            {f"{label} (tube)": energy_kev for label, energy_kev in line_labels([f"{anode}_K"], 60.0).items()}
            if anode
            else {}
        )
        return {**labels, "tube": tube_lines}

    def _strongest_families(self) -> list[str]:
        """Return all line families, sorted by descending counts of the pixels where they are significant."""
        total_counts = {}
        for index, entry in enumerate(self.results.maps.entries):
            if entry.kind == "element":
                counts, errors = self.results.maps.values(index), self.results.maps.errors(index)
                is_significant = np.isfinite(counts) if errors is None else counts > LINE_SIGMA * errors
                total_counts[entry.name] = float(counts[is_significant].sum(dtype=np.float64))
        return sorted(total_counts, key=lambda name: -total_counts[name])

    def _answer_line_energies(self, _: Request) -> Answer:
        return json_answer(self._line_energies_by_family)

    def _answer_candidate_lines(self, _: Request) -> Answer:
        """Answer with the line energies of all families that a fit can use, for the text at the pointer."""
        from underpaint.display.plot import line_labels
        from underpaint.elements import CANDIDATES

        return json_answer({family: dict(line_labels([family])) for family in CANDIDATES})

    def _send_map(self, request: Request) -> Answer:
        return Answer(
            self.results.maps.values(self.results.index(request)).astype("<f4").tobytes(), "application/octet-stream"
        )

    def _send_thumbnail(self, request: Request) -> Answer:
        """Send the thumbnail of a map: the size, followed by every n-th pixel of the map."""
        values = self.results.maps.values(self.results.index(request))
        stride = max(1, -(-max(values.shape) // max(16, min(request.number("size"), 256))))
        thumbnail = np.ascontiguousarray(values[::stride, ::stride], dtype="<f4")
        return Answer(
            np.asarray(thumbnail.shape, dtype="<i4").tobytes() + thumbnail.tobytes(), "application/octet-stream"
        )

    def _answer_pixel(self, request: Request) -> Answer:
        row, column = request.number("row"), request.number("column")
        evidence = spot(self.results.maps, row, column)
        counts = self.results.source.pixel(row, column) if self.results.source.state == READY else None
        return json_answer(evidence | {"spectrum": listed_numbers(counts), "scan": self.results.scan_state()})

    def _warm_up(self) -> None:
        # Without this call the first click would wait for the line and pigment libraries. The maps may be closed by
        # now and are not read.
        from underpaint.display.plot import line_labels

        line_labels([entry.name for entry in self.results.maps.entries if entry.kind == "element"])
