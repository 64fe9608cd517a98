"""One folder of results as pages and answers: maps, pixels, regions, the photograph, exports, the report."""

import math
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cached_property, partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Spectrum
from underpaint.data.maps import NO_ANSWER, STATES
from underpaint.display.report import Overview, overview
from underpaint.display.viewer import exploration, exports
from underpaint.display.viewer.exports import number_of
from underpaint.display.viewer.pages import page_file
from underpaint.display.viewer.photograph import Photograph
from underpaint.display.viewer.refits import Refits
from underpaint.display.viewer.region_table import plain, region_table
from underpaint.display.viewer.regions import NewerRegionsError, connected_region, regions_and_version, save_regions
from underpaint.display.viewer.runs import Run, Runs
from underpaint.display.viewer.scan_source import READY, ScanSource
from underpaint.display.viewer.server import Answer, Request, file_answer, json_answer
from underpaint.display.viewer.sessions import NewerSessionError, save_session, session_and_version
from underpaint.display.viewer.spots import spot
from underpaint.display.viewer.surface import Surface
from underpaint.display.viewer.windows import Windows, fits_memory
from underpaint.errors import ScanError
from underpaint.io import read_results, read_summary
from underpaint.io.results.contained import has_file
from underpaint.io.results.regions import parse_region, parse_regions
from underpaint.io.results.result_maps import MapEntry, ResultMaps, computed_entry
from underpaint.io.results.session import parse_session
from underpaint.io.results.sidecars import find_scan, scan_path
from underpaint.physics.instrument import preset_names
from underpaint.pigments.explain import region_spectrum
from underpaint.pigments.limits.exclusion import LINE_SIGMA

REPORT_FILE = "report.html"
_SERVED = {".html", ".csv", ".tif", ".h5", ".pdf"}
# The report brings its own style and pictures along, and needs nothing else.
_REPORT_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
_N_BIN = 40
_MOST_SUBJECT = 200
_MOST_NAMES = 200


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
        self.windows = Windows()
        self._working = threading.Lock()
        self._runs = runs or Runs()
        self._started: dict[str, Run] = {}
        self._opened: dict[str, ResultMaps] = {}
        self._routes: dict[tuple[str, str], Callable[[Request], Answer | None]] = {
            ("GET", "about"): self._about,
            ("GET", "scan"): self._scan_state,
            ("POST", "scan"): self._open_scan,
            ("GET", "overview"): self._overview,
            ("GET", "lines"): self._lines,
            ("GET", "candidates"): self._candidates,
            ("POST", "window"): self._window,
            ("GET", "cache"): self._cache,
            ("DELETE", "cache"): self._cache,
            ("POST", "fit"): self._fit,
            ("POST", "refit"): self._refit,
            ("GET", "map"): self._map,
            ("GET", "thumbnail"): self._thumbnail,
            ("GET", "pixel"): self._pixel,
            ("GET", "regions"): self._regions,
            ("POST", "regions"): self._save_regions,
            ("POST", "region"): self._region,
            ("POST", "table"): self._table,
            ("POST", "explore"): self._explore,
            ("GET", "embedding"): self._embedding,
            ("GET", "session"): self._session,
            ("POST", "session"): self._save_session,
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
        self.windows.close()
        for maps in (self.maps, *self._opened.values()):
            maps.close()

    def _about(self, _: Request) -> Answer:
        summary = self.summary
        return json_answer(
            {
                "title": str(summary.get("name") or "scan"),
                "folder": self.folder.name,
                "shape": self.maps.shape,
                "step_mm": self.maps.step_mm,
                "maps": [_entry_facts(entry) for entry in self.maps.entries],
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

    @cached_property
    def refits(self) -> Refits:
        """Fits of single spectra."""
        instrument = self.summary.get("settings", {}).get("instrument_settings")
        return Refits(self.summary.get("sum_counts"), self.summary.get("max_counts"), self.axis, instrument)

    def _state(self) -> dict[str, str]:
        return {"state": self.source.state, "why": self.source.why, "path": self.source.path}

    def _scan_state(self, _: Request) -> Answer:
        return json_answer(self._state())

    def _open_scan(self, request: Request) -> Answer:
        self.source.open()
        return self._scan_state(request)

    @cached_property
    def overview(self) -> Overview:
        """What the first view shows, worked out from all maps."""
        with self._working:  # two pages that begin at once share it
            return overview(read_results(self.folder))

    def _overview(self, _: Request) -> Answer:
        shown = self.overview
        numbers = {entry.name: number for number, entry in enumerate(self.maps.entries) if entry.kind == "element"}
        return json_answer(
            {
                "maps": [numbers[name] for name in shown.lines if name in numbers],
                "sentences": shown.sentences,
                "certainties": shown.certainties,
                "shares": shown.shares,
                "absent": shown.absent,
                "detected": shown.detected,
            }
        )

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

    def _candidates(self, _: Request) -> Answer:
        """Answer with the lines of all families that a fit looks for, for the read-out under the pointer."""
        from underpaint.display.plot import line_labels
        from underpaint.elements import CANDIDATES

        return json_answer({family: dict(line_labels([family])) for family in CANDIDATES})

    def _window(self, request: Request) -> Answer:
        """Make a map of an energy window, or begin to sort a large scan's counts by channel; the page asks again."""
        sent = request.json()
        low, high = _ends_of(sent)
        scan = self.source.scan()
        store = self.windows.open(scan)
        if store is None:
            return json_answer({"run": self._begin({"what": "windows", "scan": scan.source})})
        if store.counts.shape[1:] != self.maps.shape:
            raise ScanError(
                f"Cannot make the map: the scan has {store.counts.shape[1]} x {store.counts.shape[2]} pixels, the maps "
                f"{self.maps.shape[0]} x {self.maps.shape[1]}. Run the analysis again."
            )
        zero_kev, gain_kev = (self.axis.zero_kev, self.axis.gain_kev) if self.axis else (0.0, 1.0)
        first, last = (math.floor((end - zero_kev) / gain_kev + 0.5) for end in (low, high))
        start, stop = store.bins(first, last)
        ends = [zero_kev + gain_kev * (bins * store.merged - 0.5) for bins in (start, stop)]
        net = sent.get("background") is not False
        text = f"{ends[0]:.2f}–{ends[1]:.2f} keV" if self.axis else f"channels {first}–{last}"
        name = f"window_{ends[0]:.2f}_{ends[1]:.2f}{'' if net else '_gross'}"
        label = text if net else f"{text}, with background"
        entry = computed_entry("windows", name, label, "window", "counts")

        def part(number: int) -> NDArray[np.float32]:
            current = self.windows.open(scan)
            if current is None:
                raise ScanError("Cannot make the map again: its cache was removed. Drag over the window once more.")
            return current.window(first, last, background=net)[number]

        number = self.maps.add(entry, lambda: part(0), lambda: part(1))
        return json_answer({"map": number, "entry": _entry_facts(entry), "ends": ends})

    def _cache(self, request: Request) -> Answer:
        """Answer with the size of this scan's cache file; a DELETE removes it."""
        scan = self.source.scan()
        if request.method == "DELETE":
            self.windows.remove(scan)
        return json_answer({"bytes": self.windows.size(scan), "in_memory": fits_memory(scan)})

    def _fit(self, request: Request) -> Answer:
        """Fit the spectrum of a pixel, a region or the whole scan with the lines that the page ticks."""
        sent = request.json()
        add, drop = (_names(sent.get(key)) for key in ("add", "drop"))
        if sent.get("region"):
            region = parse_region(sent["region"])
            scan, mask = self.source.scan(), region.mask(self.maps.shape)
            spectrum = replace(region_spectrum(scan, mask), name=region.name)
            n_pixel = int((mask if scan.present is None else mask & scan.present).sum())
        elif sent.get("pixel"):
            row, column = _pixel_of(sent["pixel"])
            self.maps.at(row, column)
            spectrum = replace(self.source.scan().pixel(row, column), name=f"row {row}, column {column}")
            n_pixel = 1
        else:
            total = self.summary.get("sum_counts")
            if total is None:
                raise ScanError("Cannot fit the scan: the results hold no sum spectrum. Choose a pixel or a region.")
            spectrum = Spectrum(np.asarray(total, dtype=np.float64), name="sum of all pixels")
            n_pixel = self.maps.shape[0] * self.maps.shape[1]
        return json_answer({"n_pixel": n_pixel, **self.refits(spectrum, add=add, drop=drop)})

    def _refit(self, request: Request) -> Answer:
        """Begin to fit all pixels with the lines that the page ticks; with the run that did so, answer with its maps.

        The maps are written to a new folder of results beside these.
        """
        sent = request.json()
        if sent.get("run") is None:
            scan = self.source.scan()
            names = (f"{self.folder.name}_refit{number or ''}" for number in range(1000))
            out = next(path for name in names if not os.path.lexists(path := self.folder.parent / name))
            job = {"what": "elements", "scan": scan.source, "out": str(out), "instrument": self._instrument() or None}
            return json_answer({"run": self._begin(job | {key: _names(sent.get(key)) for key in ("add", "drop")})})
        run = self._started.get(str(sent["run"]))
        result = None if run is None else run.state().get("result")
        if not isinstance(result, dict):
            raise ScanError("Cannot show the maps of the fit: it has not ended. Wait for it, or begin it again.")
        refitted = self._opened.setdefault(result["folder"], ResultMaps(result["folder"]))
        if refitted.shape != self.maps.shape:
            raise ScanError(f"Cannot show the maps in {result['folder']}: they have other rows and columns.")
        maps = []
        for number, entry in enumerate(refitted.entries):
            if entry.kind == "element":
                label = f"{entry.label}, {refitted.folder.name.removeprefix(self.folder.name + '_')}"
                added = computed_entry(refitted.folder.name, entry.name, label, "refit", entry.unit)
                values, errors = partial(refitted.values, number), partial(_errors_of, refitted, number)
                maps.append({"map": self.maps.add(added, values, errors), "entry": _entry_facts(added)})
        return json_answer({"maps": maps, "folder": refitted.folder.name})

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
        regions, version = parse_regions(sent), sent.get("version")
        if not isinstance(version, str):
            raise ScanError("Cannot save: the page does not say which regions it read before. Load the page again.")
        try:
            version = save_regions(self.folder, regions, self.maps.shape, version)
        except NewerRegionsError as error:
            newer, version = regions_and_version(self.folder)
            told = {"error": str(error), "regions": [asdict(own) for own in newer], "version": version}
            return json_answer(told, HTTPStatus.CONFLICT)
        return json_answer({"saved": len(regions), "version": version})

    def _table(self, request: Request) -> Answer:
        """Answer with all maps by region."""
        masks = [region.mask(self.maps.shape) for region in parse_regions(request.json())]
        return json_answer({"rows": [plain(row) for row in region_table(self.maps, masks)]})

    @cached_property
    def _detected(self) -> exploration.Lines:
        return exploration.detected_lines(self.maps)

    @cached_property
    def _places(self) -> NDArray[np.float32]:
        return exploration.embedding(self._detected)

    def _explore(self, request: Request) -> Answer:
        """Answer with components, clusters or correlations; maps are added to the lists."""
        sent = request.json()
        with self._working:
            makers = {"components": self._components, "clusters": self._clusters, "correlation": self._correlation}
            if sent.get("what") not in makers:
                raise ScanError(f"Cannot explore: choose {', '.join(makers)}.")
            return json_answer(makers[sent["what"]](sent))

    def _components(self, sent: dict[str, Any]) -> dict[str, Any]:
        n = exploration.whole_number(sent.get("n"), 2, exploration.MOST_COMPONENTS, "components")
        counts = None
        if self.source.state == READY and fits_memory(self.source.scan()):
            store = self.windows.open(self.source.scan())
            counts = None if store is None or store.counts.shape[1:] != self.maps.shape else store.counts
        parts = exploration.components(self._detected, n, counts)
        names = [f"component {number}" for number in range(1, len(parts.maps) + 1)]
        maps = [
            self._add_map("component", f"{name} of {len(names)}", "counts", image)
            for name, image in zip(names, parts.maps, strict=True)
        ]
        return {
            "maps": maps,
            "spectra": None if parts.spectra is None else parts.spectra.tolist(),
            "shares": parts.shares.tolist(),
            "words": [exploration.line_share(shares) for shares in parts.strongest],
        }

    def _clusters(self, sent: dict[str, Any]) -> dict[str, Any]:
        n = exploration.whole_number(sent.get("n"), 2, exploration.MOST_CLUSTERS, "clusters")
        parts = exploration.clusters(self._detected, n)
        return {
            **self._add_map("cluster", f"{n} clusters", "1", parts.picture),
            "shares": parts.shares.tolist(),
            "strongest": parts.strongest,
        }

    def _correlation(self, _: dict[str, Any]) -> dict[str, Any]:
        lines = self._detected
        return {
            "names": lines.names,
            "numbers": lines.numbers,
            "correlation": exploration.correlation(lines).round(3).tolist(),
        }

    def _embedding(self, _: Request) -> Answer:
        """Answer with a place in a plane for each pixel: (n_row, n_column, 2) float32."""
        with self._working:
            return Answer(self._places.astype("<f4").tobytes(), "application/octet-stream")

    def _add_map(self, kind: str, label: str, unit: str, image: NDArray[np.float32]) -> dict[str, Any]:
        entry = computed_entry("exploration", label.replace(" ", "_"), label, kind, unit)
        return {"map": self.maps.add(entry, lambda: image), "entry": _entry_facts(entry)}

    def _session(self, _: Request) -> Answer:
        session, version = session_and_version(self.folder)
        return json_answer({"session": session, "version": version})

    def _save_session(self, request: Request) -> Answer:
        """Save markers, statements and view of a page; those that another page saved meanwhile are sent back."""
        sent = request.json()
        session = parse_session(sent.get("session"))
        try:
            version = save_session(self.folder, session, str(sent.get("version")))
        except NewerSessionError as error:
            newer, version = session_and_version(self.folder)
            return json_answer({"error": str(error), "session": newer, "version": version}, HTTPStatus.CONFLICT)
        return json_answer({"version": version})

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
        row, column = _pixel_of([sent.get("row"), sent.get("column")])
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


def _errors_of(maps: ResultMaps, number: int) -> NDArray[np.float32]:
    """Return the standard deviations of a map; NaN where there are none."""
    errors = maps.errors(number)
    return np.full(maps.shape, np.nan, dtype=np.float32) if errors is None else errors


def _entry_facts(entry: MapEntry) -> dict[str, Any]:
    """Return what the page needs to know of a map."""
    return {key: value for key, value in asdict(entry).items() if key not in {"path", "error_path"}}


def _ends_of(sent: dict[str, Any]) -> tuple[float, float]:
    """Return the ends of an energy window that a page sent.

    Raises
    ------
    ScanError
        They are not two numbers, the lower one first.
    """
    ends = sent.get("low"), sent.get("high")
    numbers = [float(end) for end in ends if isinstance(end, int | float) and math.isfinite(end)]
    if len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise ScanError("Cannot make the map: give the lower and the upper end of an energy window, in keV.")
    return numbers[0], numbers[1]


def _names(listed: Any) -> list[str]:
    """Return the names of line families that a page sent.

    Raises
    ------
    ScanError
        It is no list of names.
    """
    if listed is None:
        return []
    if not (isinstance(listed, list) and len(listed) <= _MOST_NAMES and all(isinstance(each, str) for each in listed)):
        raise ScanError("Cannot fit: the page sent no list of line families. Load the page again.")
    return listed


def _pixel_of(value: Any) -> tuple[int, int]:
    """Return the row and column that a page sent.

    Raises
    ------
    ScanError
        They are not two whole numbers.
    """
    if not (isinstance(value, list) and len(value) == 2 and all(type(each) is int for each in value)):
        raise ScanError("Cannot read the spectrum: choose a pixel first.")
    return value[0], value[1]


def _listed(values: Any) -> list[float] | None:
    return None if values is None else np.asarray(values, dtype=np.float64).tolist()
