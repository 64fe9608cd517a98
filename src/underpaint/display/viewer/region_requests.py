"""Answers about regions: kept with the results, measured, and in a table."""

from dataclasses import asdict
from http import HTTPStatus
from typing import Any

import numpy as np

from underpaint.display.viewer.exports import number_of
from underpaint.display.viewer.open_results import ResultRequests, Routes, listed_numbers
from underpaint.display.viewer.region_table import plain, region_table
from underpaint.display.viewer.regions import NewerRegionsError, connected_region, regions_and_version, save_regions
from underpaint.display.viewer.scan_source import READY
from underpaint.display.viewer.server import Answer, Request, json_answer
from underpaint.errors import ScanError
from underpaint.io.results.regions import parse_region, parse_regions

_N_BIN = 40


class RegionRequests(ResultRequests):
    """Answers about regions."""

    def routes(self) -> Routes:
        """Return the requests that are answered here."""
        return {
            ("GET", "regions"): self._regions,
            ("POST", "regions"): self._save_regions,
            ("POST", "region"): self._region,
            ("POST", "table"): self._table,
            ("GET", "class"): self._class,
        }

    def _regions(self, _: Request) -> Answer:
        regions, version = regions_and_version(self.results.folder)
        return json_answer({"regions": [asdict(region) for region in regions], "version": version})

    def _save_regions(self, request: Request) -> Answer:
        """Save all regions of a page; those that another page saved meanwhile are sent back instead."""
        sent = request.json()
        regions, version = parse_regions(sent), sent.get("version")
        if not isinstance(version, str):
            raise ScanError("Cannot save: the page does not say which regions it read before. Load the page again.")
        try:
            version = save_regions(self.results.folder, regions, self.results.maps.shape, version)
        except NewerRegionsError as error:
            newer, version = regions_and_version(self.results.folder)
            conflict = {"error": str(error), "regions": [asdict(region) for region in newer], "version": version}
            return json_answer(conflict, HTTPStatus.CONFLICT)
        return json_answer({"saved": len(regions), "version": version})

    def _region(self, request: Request) -> Answer:
        """Answer with a region's spectra, and the values and histograms of the maps asked for."""
        sent = request.json()
        mask = parse_region(sent).mask(self.results.maps.shape)
        listed = sent.get("maps")
        wanted = [index for index in listed if isinstance(index, int)] if isinstance(listed, list) else []
        maps = [self._region_map(index, mask) for index in wanted if 0 <= index < len(self.results.maps.entries)]
        measured: dict[str, Any] = {"n_pixel": int(mask.sum()), "maps": maps, "mean": None, "max": None}
        if self.results.source.state == READY and not sent.get("no_spectrum"):
            try:
                spectra = self.results.source.region(mask)
            except (ScanError, OSError) as error:  # the region stands, with or without a spectrum
                measured["why"] = str(error)
            else:
                measured |= {"mean": listed_numbers(spectra.mean), "max": listed_numbers(spectra.highest)}
        return json_answer(measured)

    def _region_map(self, index: int, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, Any]:
        values = self.results.maps.values(index)
        inside = values[mask & np.isfinite(values)].astype(np.float64)
        if not inside.size:
            return {"map": index, "n": 0}
        whole = values[np.isfinite(values)]
        entry = self.results.maps.entries[index]
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

    def _class(self, request: Request) -> Answer:
        """Answer with the pixels that are connected to one on a map, at or above a value."""
        least = number_of(request, "least")
        values = self.results.maps.values(self.results.index(request))
        return json_answer(
            asdict(
                connected_region(
                    values, request.number("row"), request.number("column"), 0.5 if least is None else least
                )
            )
        )

    def _table(self, request: Request) -> Answer:
        """Answer with all maps by region."""
        masks = [region.mask(self.results.maps.shape) for region in parse_regions(request.json())]
        return json_answer({"rows": [plain(row) for row in region_table(self.results.maps, masks)]})
