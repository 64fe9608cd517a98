"""One folder of results as pages and answers: maps, pixels, regions, the photograph, exports, the report."""

import threading
from collections.abc import Callable
from dataclasses import asdict
from functools import cached_property
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np

from underpaint.data import EnergyAxis
from underpaint.data.maps import NO_ANSWER, STATES
from underpaint.display.viewer import exports
from underpaint.display.viewer.exports import number_of
from underpaint.display.viewer.pages import page_file
from underpaint.display.viewer.photograph import Photograph
from underpaint.display.viewer.regions import NewerRegionsError, connected_region, regions_and_version, save_regions
from underpaint.display.viewer.runs import Run, Runs
from underpaint.display.viewer.scan_source import READY, ScanSource
from underpaint.display.viewer.server import Answer, Request, file_answer, json_answer
from underpaint.display.viewer.spots import spot
from underpaint.display.viewer.surface import Surface
from underpaint.errors import ScanError
from underpaint.io import read_summary
from underpaint.io.results.contained import has_file
from underpaint.io.results.regions import parse_region
from underpaint.io.results.result_maps import ResultMaps
from underpaint.io.results.sidecars import find_scan, scan_path
from underpaint.physics.instrument import preset_names
from underpaint.pigments.limits.exclusion import LINE_SIGMA

REPORT_FILE = "report.html"
_SERVED = {".html", ".csv", ".tif", ".h5", ".pdf"}
# The report brings its own style and pictures along, and needs nothing else.
_REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_N_BIN = 40
_MOST_SUBJECT = 200
_MOST_REGIONS = 500


class ResultSite:
    """Answers for one folder.

    Parameters
    ----------
    folder : str or Path
        Results of ``identify`` or ``elements``.
    scan : str or None
        Where the scan is, which is then opened; None looks where it was, and beside the results, once asked to.
    runs : Runs or None
        Runs what takes long (explaining a spot, the report); None: of its own.

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
            lambda: find_scan(self.folder, self.summary, scan, self.maps.shape, required=True),
            scan or scan_path(self.summary),
        )
        if scan is not None:  # else whoever made the results would choose which file is opened
            self.source.open()
        self.photograph = Photograph(self.folder)
        self.surface = Surface(self.folder, self.maps)
        self._runs = runs or Runs()
        self._started: dict[str, Run] = {}
        self._routes: dict[tuple[str, str], Callable[[Request], Answer | None]] = {
            ("GET", "about"): self._about,
            ("GET", "scan"): self._scan_state,
            ("POST", "scan"): self._open_scan,
            ("GET", "lines"): self._lines,
            ("GET", "map"): self._map,
            ("GET", "thumbnail"): self._thumbnail,
            ("GET", "pixel"): self._pixel,
            ("GET", "regions"): self._regions,
            ("POST", "regions"): self._save_regions,
            ("POST", "region"): self._region,
            ("GET", "class"): self._class,
            ("GET", "photograph"): self._photograph,
            ("POST", "photograph"): self._photograph,
            ("DELETE", "photograph"): self._photograph,
            ("GET", "reflectance"): self.surface.answer,
            ("POST", "explain"): self._explain,
            ("POST", "report"): self._report,
            ("GET", "run"): self._run_state,
            ("DELETE", "run"): self._stop_run,
            ("GET", "export"): self._export,
            ("POST", "export"): self._export,
            ("GET", "files"): self._file,
        }
        threading.Thread(target=self._warm_up, daemon=True).start()

    def __call__(self, request: Request) -> Answer | None:
        """Answer a request for this folder."""
        if not request.parts:
            return page_file("viewer.html")
        route = self._routes.get((request.method, request.parts[0]))
        return page_file(request.parts[-1]) if route is None else route(request.under(1))

    def is_current(self) -> bool:
        """Whether the results are still those that were opened."""
        return self.maps.is_current()

    def close(self) -> None:
        """Stop what runs and close the file."""
        for run in self._started.values():
            run.cancel()
        self.maps.close()

    def _about(self, _: Request) -> Answer:
        summary = self.summary
        return json_answer(
            {
                "title": str(summary.get("name") or "scan"),
                "folder": self.folder.name,
                "shape": self.maps.shape,
                "step_mm": self.maps.step_mm,
                "maps": [
                    {key: value for key, value in asdict(entry).items() if key not in {"path", "error_path"}}
                    for entry in self.maps.entries
                ],
                "axis": self.axis and {"zero_kev": self.axis.zero_kev, "gain_kev": self.axis.gain_kev},
                "sum": _listed(summary.get("sum_counts")),
                "max": _listed(summary.get("max_counts")),
                "notes": [
                    str(note) for note in (*summary.get("settings", {}).get("alerts", []), *summary.get("notes", []))
                ],
                "anode": summary.get("settings", {}).get("calibration", {}).get("anode"),
                "instrument": summary.get("settings", {}).get("instrument"),
                "hiding": self.maps.knows_hiding,
                "states": [[state, words] for state, words in STATES.items() if state != NO_ANSWER],
                "written": str(summary.get("written", "")),
                "report": has_file(self.folder, REPORT_FILE),
                "scan": self._state(),
                "photograph": self.photograph.facts(),
                "reflectance": self.surface.facts(),
            }
        )

    @cached_property
    def axis(self) -> EnergyAxis | None:
        """The energy axis; None where the results tell none."""
        return EnergyAxis.through(self.summary.get("energy_kev"))

    def _state(self) -> dict[str, str]:
        return {"state": self.source.state, "why": self.source.why, "path": self.source.path}

    def _scan_state(self, _: Request) -> Answer:
        return json_answer(self._state())

    def _open_scan(self, request: Request) -> Answer:
        self.source.open()
        return self._scan_state(request)

    @cached_property
    def _labels(self) -> dict[str, dict[str, float]]:
        from underpaint.display.plot import line_labels

        found = {family: dict(line_labels([family])) for family in self._strongest_families()}
        anode = self.summary.get("settings", {}).get("calibration", {}).get("anode")
        tube = {f"{label} (tube)": at for label, at in line_labels([f"{anode}_K"], 60.0).items()} if anode else {}
        return {**found, "tube": tube}

    def _strongest_families(self) -> list[str]:
        """Return all line families, that with the most counts where it stands out first."""
        found = {}
        for index, entry in enumerate(self.maps.entries):
            if entry.kind == "element":
                counts, errors = self.maps.values(index), self.maps.errors(index)
                there = np.isfinite(counts) if errors is None else counts > LINE_SIGMA * errors
                found[entry.name] = float(counts[there].sum(dtype=np.float64))
        return sorted(found, key=lambda name: -found[name])

    def _lines(self, _: Request) -> Answer:
        return json_answer(self._labels)

    def _index(self, request: Request) -> int:
        index = request.number("map")
        if not 0 <= index < len(self.maps.entries):
            raise ScanError(f"There is no map {index}; there are {len(self.maps.entries)}.")
        return index

    def _map(self, request: Request) -> Answer:
        return Answer(self.maps.values(self._index(request)).astype("<f4").tobytes(), "application/octet-stream")

    def _thumbnail(self, request: Request) -> Answer:
        """Send a map as small as the list shows it, its size first; every so-manieth pixel, as the large one has it."""
        values = self.maps.values(self._index(request))
        step = max(1, -(-max(values.shape) // max(16, min(request.number("size"), 256))))
        small = np.ascontiguousarray(values[::step, ::step], dtype="<f4")
        return Answer(np.asarray(small.shape, dtype="<i4").tobytes() + small.tobytes(), "application/octet-stream")

    def _pixel(self, request: Request) -> Answer:
        row, column = request.number("row"), request.number("column")
        found = spot(self.maps, row, column)
        counts = self.source.pixel(row, column) if self.source.state == READY else None
        return json_answer(found | {"spectrum": _listed(counts), "scan": self._state()})

    def _regions(self, _: Request) -> Answer:
        regions, version = regions_and_version(self.folder)
        return json_answer({"regions": [asdict(own) for own in regions], "version": version})

    def _save_regions(self, request: Request) -> Answer:
        """Save all regions of a page; those that another page saved meanwhile are sent back instead."""
        sent = request.json()
        listed, version = sent.get("regions"), sent.get("version")
        if not (isinstance(listed, list) and len(listed) <= _MOST_REGIONS and isinstance(version, str)):
            raise ScanError(
                f"Cannot save: the page sent no list of at most {_MOST_REGIONS} regions. Load the page again."
            )
        regions = [parse_region(own) for own in listed]
        try:
            version = save_regions(self.folder, regions, self.maps.shape, version)
        except NewerRegionsError as error:
            newer, version = regions_and_version(self.folder)
            told = {"error": str(error), "regions": [asdict(own) for own in newer], "version": version}
            return json_answer(told, HTTPStatus.CONFLICT)
        return json_answer({"saved": len(regions), "version": version})

    def _class(self, request: Request) -> Answer:
        """Answer with the pixels that are connected to one on a map, at or above a value."""
        least = number_of(request, "least")
        values = self.maps.values(self._index(request))
        return json_answer(
            asdict(
                connected_region(
                    values, request.number("row"), request.number("column"), 0.5 if least is None else least
                )
            )
        )

    def _region(self, request: Request) -> Answer:
        """Answer with a region's spectra, and the values and histograms of the maps asked for."""
        sent = request.json()
        mask = parse_region(sent).mask(self.maps.shape)
        listed = sent.get("maps")
        wanted = [index for index in listed if isinstance(index, int)] if isinstance(listed, list) else []
        maps = [self._region_map(index, mask) for index in wanted if 0 <= index < len(self.maps.entries)]
        found: dict[str, Any] = {"n_pixel": int(mask.sum()), "maps": maps, "mean": None, "max": None}
        if self.source.state == READY and not sent.get("no_spectrum"):
            try:
                spectra = self.source.region(mask)
            except (ScanError, OSError) as error:  # the region stands, with or without a spectrum
                found["why"] = str(error)
            else:
                found |= {"mean": _listed(spectra.mean), "max": _listed(spectra.highest)}
        return json_answer(found)

    def _region_map(self, index: int, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, Any]:
        values = self.maps.values(index)
        inside = values[mask & np.isfinite(values)].astype(np.float64)
        if not inside.size:
            return {"map": index, "n": 0}
        whole = values[np.isfinite(values)]
        entry = self.maps.entries[index]
        high = 1.0 if entry.kind in {"group", "member"} else max(float(np.percentile(whole, 99.5)), 1e-6)
        counted, edges = np.histogram(np.clip(inside, 0.0, high), bins=_N_BIN, range=(0.0, high))
        return {
            "map": index,
            "n": int(inside.size),
            "mean": float(inside.mean()),
            "median": float(np.median(inside)),
            "deviation": float(inside.std()),
            "low": float(inside.min()),
            "high": float(inside.max()),
            "above_half": float((inside > 0.5).mean()) if entry.kind in {"group", "member"} else None,
            "histogram": counted.tolist(),
            "edges": [float(edges[0]), float(edges[-1])],
        }

    def _photograph(self, request: Request) -> Answer | None:
        return self.photograph.answer(request, self.maps)

    def _explain(self, request: Request) -> Answer:
        """Begin to explain a pixel by layers; the page asks again how far it is."""
        sent = request.json()
        row, column = sent.get("row"), sent.get("column")
        if not (isinstance(row, int) and isinstance(column, int)) or isinstance(row, bool) or isinstance(column, bool):
            raise ScanError("Cannot explain: choose a pixel first.")
        self.maps.at(row, column)
        instrument = sent.get("instrument") or self._instrument() or "elio"
        job = {
            "what": "explain",
            "scan": self.source.scan().source,
            "pixel": f"{row},{column}",
            "instrument": str(instrument),
        }
        return json_answer({"run": self._begin(job), "instrument": instrument})

    def _instrument(self) -> str:
        """Return the instrument that the results name: a preset or a file; "" where it is neither."""
        settings = self.summary.get("settings")
        name = settings.get("instrument") if isinstance(settings, dict) else None
        if not isinstance(name, str) or name.startswith(("\\\\", "//")):
            return ""
        return name if name in preset_names() or Path(name).is_file() else ""  # a pipe is no file

    def _report(self, request: Request) -> Answer:
        """Begin to write the report anew, with the photograph and the regions that are there by now."""
        sent = request.json()
        job = {
            "what": "report",
            "folder": str(self.folder),
            "form": "pdf" if sent.get("form") == "pdf" else "html",
            "subject": str(sent.get("subject") or "")[:_MOST_SUBJECT],
            "scan": self.source.scan().source if self.source.state == READY else None,
        }
        return json_answer({"run": self._begin(job)})

    def _begin(self, job: dict[str, Any]) -> str:
        run = self._runs.start(job)
        self._started[run.key] = run
        return run.key

    def _run_state(self, request: Request) -> Answer | None:
        run = self._started.get(request.query.get("run", ""))
        return None if run is None else json_answer(run.state())

    def _stop_run(self, request: Request) -> Answer | None:
        run = self._started.pop(request.query.get("run", ""), None)
        if run is None:
            return None
        run.cancel()
        return json_answer(run.state())

    def _export(self, request: Request) -> Answer | None:
        return exports.answer(request, self)

    def _file(self, request: Request) -> Answer | None:
        names = request.parts or (REPORT_FILE,)
        if Path(names[-1]).suffix not in _SERVED:
            return None
        return file_answer(self.folder, *names, policy=_REPORT_POLICY)

    def _warm_up(self) -> None:
        # The first click would otherwise wait for the libraries of lines and pigments. Maps are not touched: they may
        # be closed by now.
        from underpaint.display.plot import line_labels

        line_labels([entry.name for entry in self.maps.entries if entry.kind == "element"])


def _listed(values: Any) -> list[float] | None:
    return None if values is None else np.asarray(values, dtype=np.float64).tolist()
