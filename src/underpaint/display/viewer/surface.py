"""Answers to requests for reflectance: the picture of the cube, and a pixel's reflectance with pigment spectra."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from underpaint.data.maps import BELOW_PROBABILITY
from underpaint.display.viewer.server import Answer, Request, file_answer, json_answer
from underpaint.io import read_results
from underpaint.io.results.contained import has_file
from underpaint.io.results.nexus import read_reflectance_spectrum
from underpaint.io.results.result_maps import ResultMaps
from underpaint.io.results.sidecars import REFLECTANCE_FILE

_PROCESS = "reflectance"
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
        self._indices = [index for index, entry in enumerate(maps.entries) if entry.process == _PROCESS]
        self._settings: Mapping[str, Any] = read_results(folder).settings_of(_PROCESS) if self._indices else {}

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
        members = values_by_kind.get("surface_member", {})
        most_probable = sorted(members, key=lambda name: -np.nan_to_num(members[name]))[:_MAX_MEMBERS]
        hidden_probability = values_by_kind.get("hidden", {})
        return {
            "row": row,
            "column": column,
            "wavelength": wavelength.tolist(),
            "reflectance": reflectance.astype(np.float64).tolist(),
            "members": [
                {
                    "label": labels_by_name[name],
                    "probability": members[name],
                    "presence": values_by_kind.get("surface_presence", {}).get(name),
                    "share": values_by_kind.get("surface_share", {}).get(name),
                    "spectrum": self._settings.get("member_spectra", {}).get(name),
                }
                for name in most_probable
                if members[name] >= _MIN_SHOWN_PROBABILITY
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
