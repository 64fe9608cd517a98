"""Answers that need the counts of the scan: maps of energy windows, and fits with line families chosen on the page."""

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
from underpaint.display.viewer.open_results import ResultRequests, Routes, entry_facts, pixel_position
from underpaint.display.viewer.server import Answer, Request, json_answer
from underpaint.display.viewer.windows import fits_memory
from underpaint.errors import CalibrationError, ScanError
from underpaint.io.results.regions import parse_region
from underpaint.io.results.result_maps import ResultMaps, computed_entry
from underpaint.physics.instrument import Instrument
from underpaint.pigments.explain import region_spectrum

if TYPE_CHECKING:
    from underpaint.elements.fit import FitChoice

_MAX_FAMILIES = 200


class Refits:
    """Fits of single spectra of a scan. Line families and resolution are chosen once, from the sum spectrum.

    Parameters
    ----------
    sum_counts, max_counts : (n_channel,) arrays or None
        Sum and maximum spectrum of the scan.
    axis : EnergyAxis or None
        Energy axis of the results. The scan's file may contain a different energy axis.
    instrument : mapping or None
        Settings of the instrument that the run used. If None, tube and resolution are derived from the spectrum.
    """

    def __init__(self, sum_counts: Any, max_counts: Any, axis: EnergyAxis | None, instrument: Any = None) -> None:
        self.axis = axis
        self._sum_counts, self._max_counts, self._instrument_settings = sum_counts, max_counts, instrument
        self._choice: FitChoice | None = None
        self._lock = threading.Lock()

    def __call__(self, spectrum: Spectrum, *, add: Sequence[str] = (), drop: Sequence[str] = ()) -> dict[str, Any]:
        """Return the fitted spectrum, its background and residual, and net counts by line family, for the page.

        Parameters
        ----------
        spectrum : Spectrum
        add, drop : sequence of str
            Families to fit in addition to the chosen families, and families to omit.

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
        added_families = candidate_families(add, choice.selection_input) if add else []
        names = [name for name in dict.fromkeys((*choice.families, *added_families)) if name not in set(drop)]
        fit = fit_with_choice(replace(spectrum, axis=self.axis), choice, names)
        return {
            "name": fit.name,
            "counts": fit.counts.tolist(),
            "fitted": _json_numbers(fit.fitted),
            "background": _json_numbers(np.where(np.isnan(fit.fitted), np.nan, fit.background)),
            "residual": _json_numbers(np.where(fit.sigma > 0, fit.residual / np.maximum(fit.sigma, 1e-9), np.nan)),
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
        """Return the choice of families, made from the scan's sum and maximum spectra or else from ``counts``.

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
                sum_counts = np.asarray(counts if self._sum_counts is None else self._sum_counts, dtype=np.float64)
                max_counts = sum_counts if self._max_counts is None else np.asarray(self._max_counts, dtype=np.float64)
                self._choice = choose_families(
                    sum_counts, max_counts, self.axis, None, (), (), _instrument_settings(self._instrument_settings)
                )
            return self._choice


def _instrument_settings(settings: Any) -> Instrument | None:
    """Return the instrument from its recorded settings; None if these are missing or from an earlier version."""
    try:
        return Instrument.model_validate(settings) if settings else None
    except ValidationError:
        return None


def _json_numbers(values: Any) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]


class FitRequests(ResultRequests):
    """Answers to requests for energy windows and fits."""

    def routes(self) -> Routes:
        """Return the functions that answer requests, by method and path."""
        return {
            ("POST", "window"): self._answer_window,
            ("GET", "cache"): self._answer_cache_size,
            ("DELETE", "cache"): self._answer_cache_size,
            ("POST", "fit"): self._answer_fit,
            ("POST", "refit"): self._answer_refit,
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

    def _answer_window(self, request: Request) -> Answer:
        """Add a map of an energy window. A large scan is first sorted by channel; the page then repeats the request."""
        request_body = request.json()
        low_kev, high_kev = _window_ends(request_body)
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
        first_channel, last_channel = (
            math.floor((end_kev - zero_kev) / gain_kev + 0.5) for end_kev in (low_kev, high_kev)
        )
        start_bin, stop_bin = store.bins(first_channel, last_channel)
        window_ends_kev = [
            zero_kev + gain_kev * (bin_index * store.bin_width - 0.5) for bin_index in (start_bin, stop_bin)
        ]
        subtract_background = request_body.get("background") is not False
        range_text = (
            f"{window_ends_kev[0]:.2f}–{window_ends_kev[1]:.2f} keV"
            if self.results.axis
            else f"channels {first_channel}–{last_channel}"
        )
        name = f"window_{window_ends_kev[0]:.2f}_{window_ends_kev[1]:.2f}{'' if subtract_background else '_gross'}"
        label = range_text if subtract_background else f"{range_text}, with background"
        entry = computed_entry("windows", name, label, "window", "counts")

        def window_map(map_index: int) -> NDArray[np.float32]:
            current_store = self.results.windows.open(scan)
            if current_store is None:
                raise ScanError("Cannot make the map again: its cache was removed. Drag over the energy window again.")
            return current_store.window(first_channel, last_channel, background=subtract_background)[map_index]

        map_number = self.results.maps.add(entry, lambda: window_map(0), lambda: window_map(1))
        return json_answer({"map": map_number, "entry": entry_facts(entry), "ends": window_ends_kev})

    def _answer_cache_size(self, request: Request) -> Answer:
        """Answer with the size of the scan's cache file in bytes. A DELETE request removes the file first."""
        scan = self.results.source.scan()
        if request.method == "DELETE":
            self.results.windows.remove(scan)
        return json_answer({"bytes": self.results.windows.size(scan), "in_memory": fits_memory(scan)})

    def _answer_fit(self, request: Request) -> Answer:
        """Fit the spectrum of a pixel, a region or the whole scan with the line families chosen on the page."""
        request_body = request.json()
        add, drop = (_family_names(request_body.get(key)) for key in ("add", "drop"))
        if request_body.get("region"):
            region = parse_region(request_body["region"])
            scan, mask = self.results.source.scan(), region.mask(self.results.maps.shape)
            spectrum = replace(region_spectrum(scan, mask), name=region.name)
            n_pixel = int((mask if scan.present is None else mask & scan.present).sum())
        elif request_body.get("pixel"):
            row, column = pixel_position(request_body["pixel"])
            self.results.maps.at(row, column)
            spectrum = replace(self.results.source.scan().pixel(row, column), name=f"row {row}, column {column}")
            n_pixel = 1
        else:
            sum_counts = self.results.summary.get("sum_counts")
            if sum_counts is None:
                raise ScanError("Cannot fit the scan: the results hold no sum spectrum. Choose a pixel or a region.")
            spectrum = Spectrum(np.asarray(sum_counts, dtype=np.float64), name="sum of all pixels")
            n_pixel = self.results.maps.shape[0] * self.results.maps.shape[1]
        return json_answer({"n_pixel": n_pixel, **self.refits(spectrum, add=add, drop=drop)})

    def _answer_refit(self, request: Request) -> Answer:
        """Start a fit of all pixels by the chosen line families, or answer with the maps of a finished fit.

        The maps are written to a new folder of results beside the present folder.
        """
        request_body = request.json()
        if request_body.get("run") is None:
            scan = self.results.source.scan()
            folder_names = (f"{self.results.folder.name}_refit{number or ''}" for number in range(1000))
            output_folder = next(
                path for name in folder_names if not os.path.lexists(path := self.results.folder.parent / name)
            )
            job = {
                "what": "elements",
                "scan": scan.source,
                "out": str(output_folder),
                "instrument": self.results.instrument_name() or None,
            }
            return json_answer(
                {
                    "run": self.results.begin(
                        job | {key: _family_names(request_body.get(key)) for key in ("add", "drop")}
                    )
                }
            )
        run = self.results.runs_of_page.get(str(request_body["run"]))
        run_result = None if run is None else run.state().get("result")
        if not isinstance(run_result, dict):
            raise ScanError(
                "Cannot show the maps of the fit: the fit has not ended. Wait until it ends, or start it again."
            )
        refitted = self.results.further_maps.setdefault(run_result["folder"], ResultMaps(run_result["folder"]))
        if refitted.shape != self.results.maps.shape:
            raise ScanError(
                f"Cannot show the maps in {run_result['folder']}: they have different numbers of rows and columns."
            )
        added_maps = []
        for number, entry in enumerate(refitted.entries):
            if entry.kind == "element":
                label = f"{entry.label}, {refitted.folder.name.removeprefix(self.results.folder.name + '_')}"
                map_entry = computed_entry(refitted.folder.name, entry.name, label, "refit", entry.unit)
                values, errors = partial(refitted.values, number), partial(_map_errors, refitted, number)
                added_maps.append(
                    {"map": self.results.maps.add(map_entry, values, errors), "entry": entry_facts(map_entry)}
                )
        return json_answer({"maps": added_maps, "folder": refitted.folder.name})


def _map_errors(maps: ResultMaps, map_number: int) -> NDArray[np.float32]:
    """Return the standard deviations of a map; NaN if the map has none."""
    errors = maps.errors(map_number)
    return np.full(maps.shape, np.nan, dtype=np.float32) if errors is None else errors


def _window_ends(request_body: dict[str, Any]) -> tuple[float, float]:
    """Return the lower and upper end, in keV, of an energy window that a page sent.

    Raises
    ------
    ScanError
        The ends are not two numbers in ascending order.
    """
    end_values = request_body.get("low"), request_body.get("high")
    numbers = [float(end) for end in end_values if isinstance(end, int | float) and math.isfinite(end)]
    if len(numbers) != 2 or not numbers[0] < numbers[1]:
        raise ScanError("Cannot make the map: give the lower and the upper end of an energy window, in keV.")
    return numbers[0], numbers[1]


def _family_names(family_names: Any) -> list[str]:
    """Return the names of line families that a page sent.

    Raises
    ------
    ScanError
        The value is not a list of names.
    """
    if family_names is None:
        return []
    if not (
        isinstance(family_names, list)
        and len(family_names) <= _MAX_FAMILIES
        and all(isinstance(name, str) for name in family_names)
    ):
        raise ScanError("Cannot fit: the page sent no list of line families. Load the page again.")
    return family_names
