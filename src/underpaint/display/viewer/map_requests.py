"""Answers to requests for maps, their thumbnails, the values of a pixel, and the reflectance cube."""

import threading
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from underpaint.data.maps import BELOW_PROBABILITY
from underpaint.display.report import Overview, overview
from underpaint.display.viewer.open_results import OpenResults, ResultRequests, Routes, listed_numbers
from underpaint.display.viewer.scan_source import READY
from underpaint.display.viewer.server import Answer, Request, file_answer, json_answer
from underpaint.display.viewer.spots import spot
from underpaint.io import read_results
from underpaint.io.results.contained import has_file
from underpaint.io.results.nexus import read_reflectance_spectrum
from underpaint.io.results.result_maps import ResultMaps
from underpaint.io.results.sidecars import REFLECTANCE_FILE
from underpaint.pigments.limits.exclusion import LINE_SIGMA

_PROCESS_NAME = "reflectance"
_MAX_MEMBERS, _MIN_SHOWN_PROBABILITY = 5, 0.02


class ReflectanceCube:
    """Reflectance cube of a folder of results.

    Parameters
    ----------
    folder : Path
        Folder of results.
    maps : ResultMaps
    """

    def __init__(self, folder: Path, maps: ResultMaps) -> None:
        self.folder, self.maps = folder, maps
        self._indices = [index for index, entry in enumerate(maps.entries) if entry.process == _PROCESS_NAME]
        self._settings: Mapping[str, Any] = read_results(folder).settings_of(_PROCESS_NAME) if self._indices else {}

    def facts(self) -> dict[str, Any]:
        """Return whether a cube and its picture exist, and how the cube was registered to the maps."""
        registration = self._settings.get("registration", {})
        return {
            "there": bool(self._indices),
            "picture": bool(self._indices) and has_file(self.folder, REFLECTANCE_FILE),
            "verdict": str(registration.get("verdict", "")),
            "how": str(registration.get("how", "")),
            "error_px": registration.get("error_px"),
            "library": str(self._settings.get("library", "")),
        }

    def answer(self, request: Request) -> Answer | None:
        """Send the picture of the cube, or the reflectance and probabilities of a pixel."""
        content_name = request.parts[0] if request.parts else ""
        if content_name == "picture":
            return file_answer(self.folder, REFLECTANCE_FILE)
        if content_name == "pixel":
            return json_answer(self._pixel_content(request.number("row"), request.number("column")))
        return None

    def _pixel_content(self, row: int, column: int) -> dict[str, Any]:
        values, _ = self.maps.at(row, column)
        wavelength, reflectance = read_reflectance_spectrum(self.folder, row, column)
        values_by_kind: dict[str, dict[str, float]] = {}
        labels_by_name: dict[str, str] = {}
        for index in self._indices:
            entry = self.maps.entries[index]
            kind = entry.path.split("/")[-2]
            values_by_kind.setdefault(kind, {})[entry.name] = float(values[index])
            labels_by_name[entry.name] = entry.label.partition(": ")[2] or entry.label
        member_probabilities = values_by_kind.get("surface_member", {})
        probable_names = sorted(member_probabilities, key=lambda name: -np.nan_to_num(member_probabilities[name]))[
            :_MAX_MEMBERS
        ]
        hidden_probability = values_by_kind.get("hidden", {})
        return {
            "row": row,
            "column": column,
            "wavelength": wavelength.tolist(),
            "reflectance": reflectance.astype(np.float64).tolist(),
            "members": [
                {
                    "label": labels_by_name[name],
                    "probability": member_probabilities[name],
                    "presence": values_by_kind.get("surface_presence", {}).get(name),
                    "share": values_by_kind.get("surface_share", {}).get(name),
                    "spectrum": self._settings.get("member_spectra", {}).get(name),
                }
                for name in probable_names
                if member_probabilities[name] >= _MIN_SHOWN_PROBABILITY
            ],
            "hidden": [
                {
                    "label": labels_by_name[name],
                    "probability": hidden_probability[name],
                    "stated": hidden_probability[name] > BELOW_PROBABILITY,
                }
                for name in sorted(hidden_probability, key=lambda name: -np.nan_to_num(hidden_probability[name]))
                if hidden_probability[name] > 1.0 - BELOW_PROBABILITY
            ],
        }


class MapRequests(ResultRequests):
    """Answers to requests for maps and pixels."""

    def __init__(self, results: OpenResults) -> None:
        super().__init__(results)
        threading.Thread(target=self._load_libraries, daemon=True).start()

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
        overview_content = self.overview
        map_numbers = {
            entry.name: number for number, entry in enumerate(self.results.maps.entries) if entry.kind == "element"
        }
        return json_answer(
            {
                "maps": [map_numbers[name] for name in overview_content.lines if name in map_numbers],
                "sentences": overview_content.sentences,
                "certainties": overview_content.certainties,
                "shares": overview_content.shares,
                "absent": overview_content.absent,
                "detected": overview_content.detected,
                "paints": overview_content.paints,
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

        energies_by_family = {family: dict(line_labels([family])) for family in self._strongest_families()}
        anode = self.results.summary.get("settings", {}).get("calibration", {}).get("anode")
        tube_lines = (
            {f"{label} (tube)": energy_kev for label, energy_kev in line_labels([f"{anode}_K"], 60.0).items()}
            if anode
            else {}
        )
        return {**energies_by_family, "tube": tube_lines}

    def _strongest_families(self) -> list[str]:
        """Return all line families by descending counts, summed over the pixels where a family is significant."""
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
        """Answer with the line energies of all families that a fit can use, for the read-out at the pointer."""
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

    def _load_libraries(self) -> None:
        # This call loads the line and pigment libraries, so that the first click need not wait. Maps are not read,
        # because they may be closed by now.
        from underpaint.display.plot import line_labels

        line_labels([entry.name for entry in self.results.maps.entries if entry.kind == "element"])
