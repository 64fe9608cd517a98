"""Answers that need the scan's counts again: maps of energy windows, and fits with lines that the page ticks."""

import math
import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from underpaint.data import EnergyAxis, Spectrum
from underpaint.display.viewer.open_results import ResultRequests, Routes, entry_facts, pixel_of
from underpaint.display.viewer.server import Answer, Request, json_answer
from underpaint.display.viewer.windows import fits_memory
from underpaint.errors import CalibrationError, ScanError
from underpaint.io.results.regions import parse_region
from underpaint.io.results.result_maps import ResultMaps, computed_entry
from underpaint.physics.instrument import Instrument
from underpaint.pigments.explain import region_spectrum

if TYPE_CHECKING:
    from underpaint.elements.fit import FitChoice

_MOST_NAMES = 200


class Refits:
    """Fits of spectra of one scan; families, resolution and likely instruments are chosen once, from its sum.

    Parameters
    ----------
    total, highest : (n_channel,) arrays or None
        Sum and maximum spectrum of the scan.
    axis : EnergyAxis or None
        Of the results, which the calibration of the file may differ from.
    instrument : mapping or None
        Settings of the instrument that the run used, with the detector's resolution; None finds both in the spectrum.
    """

    def __init__(self, total: Any, highest: Any, axis: EnergyAxis | None, instrument: Any = None) -> None:
        self.axis = axis
        self._total, self._highest, self._instrument = total, highest, instrument
        self._choice: FitChoice | None = None
        self._lock = threading.Lock()

    def __call__(self, spectrum: Spectrum, *, add: Sequence[str] = (), drop: Sequence[str] = ()) -> dict[str, Any]:
        """Return the fit of a spectrum for the page: fitted spectrum, its parts, net counts by line family.

        Parameters
        ----------
        spectrum : Spectrum
        add, drop : sequence of str
            Families to fit besides those that are fitted by default, and families to leave out.

        Raises
        ------
        CalibrationError
            The results have no energy axis.
        ScanError, CoverageError
            The spectrum cannot be fitted, or an added family lies outside the axis.
        """
        from underpaint.elements.fixed_fit import candidate_families
        from underpaint.elements.spectrum_fit import fit_with_choice

        choice = self.choice(spectrum.counts)
        added = candidate_families(add, choice.selection_input) if add else []
        names = [name for name in dict.fromkeys((*choice.families, *added)) if name not in set(drop)]
        fit = fit_with_choice(replace(spectrum, axis=self.axis), choice, names)
        return {
            "name": fit.name,
            "counts": fit.counts.tolist(),
            "fitted": _numbers(fit.fitted),
            "background": _numbers(np.where(np.isnan(fit.fitted), np.nan, fit.background)),
            "residual": _numbers(np.where(fit.sigma > 0, fit.residual / np.maximum(fit.sigma, 1e-9), np.nan)),
            "chi_square": fit.chi_square,
            "families": [
                {
                    "name": name,
                    "area": family.area,
                    "sigma": family.sigma,
                    "limit": family.detection_limit,
                    "present": bool(family.present),
                }
                for name, family in sorted(fit.families.items(), key=lambda entry: -entry[1].area)
            ],
            "add": list(add),
            "drop": list(drop),
        }

    def choice(self, counts: NDArray[Any]) -> "FitChoice":
        """Return what is chosen once: from the scan's sum and maximum, or from a spectrum where they are not known.

        Raises
        ------
        CalibrationError
            The results have no energy axis.
        """
        from underpaint.elements.fit import choose_families

        if self.axis is None:
            raise CalibrationError("Cannot fit: the results have no energy axis. Calibrate the scan and run it again.")
        with self._lock:
            if self._choice is None:
                total = np.asarray(counts if self._total is None else self._total, dtype=np.float64)
                highest = total if self._highest is None else np.asarray(self._highest, dtype=np.float64)
                self._choice = choose_families(total, highest, self.axis, None, (), (), _instrument(self._instrument))
            return self._choice


def _instrument(settings: Any) -> Instrument | None:
    """Return the instrument of a record; None where there is none, or one that an earlier version wrote."""
    try:
        return Instrument.model_validate(settings) if settings else None
    except ValidationError:
        return None


def _numbers(values: Any) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


class FitRequests(ResultRequests):
    """Answers about energy windows and fits."""

    def routes(self) -> Routes:
        """Return the requests that are answered here."""
        return {
            ("POST", "window"): self._window,
            ("GET", "cache"): self._cache,
            ("DELETE", "cache"): self._cache,
            ("POST", "fit"): self._fit,
            ("POST", "refit"): self._refit,
        }

    @cached_property
    def refits(self) -> Refits:
        """Fits of single spectra."""
        instrument = self.results.summary.get("settings", {}).get("instrument_settings")
        return Refits(
            self.results.summary.get("sum_counts"),
            self.results.summary.get("max_counts"),
            self.results.axis,
            instrument,
        )

    def _window(self, request: Request) -> Answer:
        """Make a map of an energy window, or begin to sort a large scan's counts by channel; the page asks again."""
        sent = request.json()
        low, high = _ends_of(sent)
        scan = self.results.source.scan()
        store = self.results.windows.open(scan)
        if store is None:
            return json_answer({"run": self.results.begin({"what": "windows", "scan": scan.source})})
        if store.counts.shape[1:] != self.results.maps.shape:
            raise ScanError(
                f"Cannot make the map: the scan has {store.counts.shape[1]} x {store.counts.shape[2]} pixels, the maps "
                f"{self.results.maps.shape[0]} x {self.results.maps.shape[1]}. Run the analysis again."
            )
        zero_kev, gain_kev = (
            (self.results.axis.zero_kev, self.results.axis.gain_kev) if self.results.axis else (0.0, 1.0)
        )
        first, last = (math.floor((end - zero_kev) / gain_kev + 0.5) for end in (low, high))
        start, stop = store.bins(first, last)
        ends = [zero_kev + gain_kev * (bins * store.merged - 0.5) for bins in (start, stop)]
        net = sent.get("background") is not False
        text = f"{ends[0]:.2f}–{ends[1]:.2f} keV" if self.results.axis else f"channels {first}–{last}"
        name = f"window_{ends[0]:.2f}_{ends[1]:.2f}{'' if net else '_gross'}"
        label = text if net else f"{text}, with background"
        entry = computed_entry("windows", name, label, "window", "counts")

        def part(number: int) -> NDArray[np.float32]:
            current = self.results.windows.open(scan)
            if current is None:
                raise ScanError("Cannot make the map again: its cache was removed. Drag over the window once more.")
            return current.window(first, last, background=net)[number]

        number = self.results.maps.add(entry, lambda: part(0), lambda: part(1))
        return json_answer({"map": number, "entry": entry_facts(entry), "ends": ends})

    def _cache(self, request: Request) -> Answer:
        """Answer with the size of this scan's cache file; a DELETE removes it."""
        scan = self.results.source.scan()
        if request.method == "DELETE":
            self.results.windows.remove(scan)
        return json_answer({"bytes": self.results.windows.size(scan), "in_memory": fits_memory(scan)})

    def _fit(self, request: Request) -> Answer:
        """Fit the spectrum of a pixel, a region or the whole scan with the lines that the page ticks."""
        sent = request.json()
        add, drop = (_names(sent.get(key)) for key in ("add", "drop"))
        if sent.get("region"):
            region = parse_region(sent["region"])
            scan, mask = self.results.source.scan(), region.mask(self.results.maps.shape)
            spectrum = replace(region_spectrum(scan, mask), name=region.name)
            n_pixel = int((mask if scan.present is None else mask & scan.present).sum())
        elif sent.get("pixel"):
            row, column = pixel_of(sent["pixel"])
            self.results.maps.at(row, column)
            spectrum = replace(self.results.source.scan().pixel(row, column), name=f"row {row}, column {column}")
            n_pixel = 1
        else:
            total = self.results.summary.get("sum_counts")
            if total is None:
                raise ScanError("Cannot fit the scan: the results hold no sum spectrum. Choose a pixel or a region.")
            spectrum = Spectrum(np.asarray(total, dtype=np.float64), name="sum of all pixels")
            n_pixel = self.results.maps.shape[0] * self.results.maps.shape[1]
        return json_answer({"n_pixel": n_pixel, **self.refits(spectrum, add=add, drop=drop)})

    def _refit(self, request: Request) -> Answer:
        """Begin to fit all pixels with the lines that the page ticks; with the run that did so, answer with its maps.

        The maps are written to a new folder of results beside these.
        """
        sent = request.json()
        if sent.get("run") is None:
            scan = self.results.source.scan()
            names = (f"{self.results.folder.name}_refit{number or ''}" for number in range(1000))
            out = next(path for name in names if not os.path.lexists(path := self.results.folder.parent / name))
            job = {
                "what": "elements",
                "scan": scan.source,
                "out": str(out),
                "instrument": self.results.instrument_name() or None,
            }
            return json_answer(
                {"run": self.results.begin(job | {key: _names(sent.get(key)) for key in ("add", "drop")})}
            )
        run = self.results.runs_of_page.get(str(sent["run"]))
        result = None if run is None else run.state().get("result")
        if not isinstance(result, dict):
            raise ScanError("Cannot show the maps of the fit: it has not ended. Wait for it, or begin it again.")
        refitted = self.results.further_maps.setdefault(result["folder"], ResultMaps(result["folder"]))
        if refitted.shape != self.results.maps.shape:
            raise ScanError(f"Cannot show the maps in {result['folder']}: they have other rows and columns.")
        maps = []
        for number, entry in enumerate(refitted.entries):
            if entry.kind == "element":
                label = f"{entry.label}, {refitted.folder.name.removeprefix(self.results.folder.name + '_')}"
                added = computed_entry(refitted.folder.name, entry.name, label, "refit", entry.unit)
                values, errors = partial(refitted.values, number), partial(_errors_of, refitted, number)
                maps.append({"map": self.results.maps.add(added, values, errors), "entry": entry_facts(added)})
        return json_answer({"maps": maps, "folder": refitted.folder.name})


def _errors_of(maps: ResultMaps, number: int) -> NDArray[np.float32]:
    """Return the standard deviations of a map; NaN where there are none."""
    errors = maps.errors(number)
    return np.full(maps.shape, np.nan, dtype=np.float32) if errors is None else errors


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
