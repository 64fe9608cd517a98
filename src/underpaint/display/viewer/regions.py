"""Regions drawn on the maps: connected pixels of a class, saving in the folder of results, and answers to requests."""

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from http import HTTPStatus
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label

from underpaint.display.viewer.exports import number_of
from underpaint.display.viewer.one_writer import folder_inside, one_writer
from underpaint.display.viewer.open_results import ResultRequests, Routes, listed_numbers
from underpaint.display.viewer.region_table import json_row, region_table
from underpaint.display.viewer.scan_source import READY
from underpaint.display.viewer.server import Answer, Request, json_answer
from underpaint.errors import OutputError, ScanError
from underpaint.io.results.contained import digest_contained
from underpaint.io.results.regions import MAX_RUNS, Region, parse_region, parse_regions, read_regions
from underpaint.io.results.sidecars import REGIONS_FILE, REGIONS_FOLDER
from underpaint.runtime.files import atomic_write, write_json

_N_HISTOGRAM_BIN = 40


def connected_region(values: NDArray[np.float32], row: int, column: int, min_value: float) -> Region:
    """Return the region of connected pixels, at or above ``min_value``, that contains a given pixel.

    Parameters
    ----------
    values : (n_row, n_column) array
        A map.
    row, column : int
    min_value : float

    Raises
    ------
    ScanError
        The pixel is below the minimum value or outside the map, or the region has more than ``MAX_RUNS`` row segments.
    """
    n_row, n_column = values.shape
    if not (0 <= row < n_row and 0 <= column < n_column and values[row, column] >= min_value):
        raise ScanError(
            f"There is no class at ({row}, {column}): the map is below {min_value:.3g} there. Click a higher pixel."
        )
    component_numbers, _ = label(values >= min_value)
    is_same_component = component_numbers == component_numbers[row, column]
    run_edges = np.diff(np.pad(is_same_component.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    run_starts, run_ends = np.argwhere(run_edges == 1), np.argwhere(run_edges == -1)
    if len(run_starts) > MAX_RUNS:
        raise ScanError(
            f"Cannot take this class: it has {len(run_starts)} row segments, over {MAX_RUNS}. Draw a lasso."
        )
    runs = tuple(
        (int(row_index), int(first_column), int(column_after) - 1)
        for (row_index, first_column), (_, column_after) in zip(run_starts, run_ends, strict=True)
    )
    return Region("class", (), runs)


class NewerRegionsError(OutputError):
    """Another page saved regions after the present page had read them."""


def regions_and_version(folder: Path) -> tuple[list[Region], str]:
    """Return the saved regions, and a text that identifies their version ("" without regions).

    Raises
    ------
    ScanError
        The file of regions is damaged, or it is a link.
    """
    for _ in range(3):
        version = _regions_version(folder)
        regions = read_regions(folder)
        if version == _regions_version(folder):  # no page saved regions in between
            break
    return regions, version


def save_regions(folder: Path, regions: Sequence[Region], shape: tuple[int, int], version: str) -> str:
    """Write the corners of all regions to ``regions.json``, and a mask per region for `underpaint explain --region`.

    Old masks are removed only after the new files are complete. A damaged ``regions.json`` is renamed.

    Parameters
    ----------
    folder : Path
        Folder of results.
    regions : sequence of Region
        All regions, which replace the saved regions.
    shape : (n_row, n_column)
        Shape of the maps.
    version : str
        Version of the regions to be replaced, from :func:`regions_and_version`.

    Returns
    -------
    str
        Version of the saved regions.

    Raises
    ------
    NewerRegionsError
        The saved regions have another version; nothing was written.
    ScanError
        A region contains no pixel; nothing was written.
    OutputError
        The folder cannot be written.
    """
    masks = [region.mask(shape) for region in regions]
    with one_writer(folder):
        try:
            old_regions = read_regions(folder)
        except ScanError:
            old_regions = []
            _rename_damaged(folder / REGIONS_FILE)
        else:
            if _regions_version(folder) != version:
                raise NewerRegionsError(
                    "The regions were changed by another page since this one read them. Nothing was replaced."
                )
        old_mask_names = {region.mask_file for region in old_regions if region.mask_file}
        mask_folder = folder_inside(folder, REGIONS_FOLDER)
        mask_names = _mask_names(regions, {path.name for path in mask_folder.iterdir()} - old_mask_names)
        for mask, name in zip(masks, mask_names, strict=True):
            with atomic_write(mask_folder / name) as partial_path:
                Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(partial_path, format="PNG")
        record = {"regions": [_region_record(region, name) for region, name in zip(regions, mask_names, strict=True)]}
        write_json(folder / REGIONS_FILE, record)
        for name in old_mask_names - set(mask_names):  # other files in the folder remain
            (mask_folder / name).unlink(missing_ok=True)
        return _regions_version(folder)


def _regions_version(folder: Path) -> str:
    return digest_contained(folder, REGIONS_FILE) or ""


def _region_record(region: Region, name: str) -> dict[str, object]:
    record = asdict(replace(region, mask_file=""))
    del record["mask_file"]
    return record | {"mask": name}


def _rename_damaged(path: Path) -> None:
    """Rename a damaged file or a link to an unused name."""
    free_names = (path.with_name(f"{path.stem}_damaged{number or ''}{path.suffix}") for number in range(10_000))
    try:
        path.rename(next(free_name for free_name in free_names if not (free_name.exists() or free_name.is_symlink())))
    except OSError as error:
        raise OutputError(
            f"Cannot keep the damaged {path}: {error.strerror or error}. Check that the folder is writable."
        ) from error


def _mask_names(regions: Sequence[Region], existing_names: set[str]) -> list[str]:
    """Return a unique file name for the mask of each region, none of them among ``existing_names``."""
    mask_names: list[str] = []
    used_names = {mask_name.casefold() for mask_name in existing_names}
    for region in regions:
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", region.name).strip("_") or "region"
        numbered_names = (f"{stem}_{number}.png" if number > 1 else f"{stem}.png" for number in range(1, 10_000))
        mask_names.append(next(mask_name for mask_name in numbered_names if mask_name.casefold() not in used_names))
        used_names.add(mask_names[-1].casefold())
    return mask_names


class RegionRequests(ResultRequests):
    """Answers to requests for regions."""

    def routes(self) -> Routes:
        """Return the functions that answer requests, by method and path."""
        return {
            ("GET", "regions"): self._answer_regions,
            ("POST", "regions"): self._save_regions,
            ("POST", "region"): self._answer_region,
            ("POST", "table"): self._answer_table,
            ("GET", "class"): self._answer_class,
        }

    def _answer_regions(self, _: Request) -> Answer:
        regions, version = regions_and_version(self.results.folder)
        return json_answer({"regions": [asdict(region) for region in regions], "version": version})

    def _save_regions(self, request: Request) -> Answer:
        """Save all regions of a page, or send the regions that another page has saved meanwhile."""
        request_body = request.json()
        regions, version = parse_regions(request_body), request_body.get("version")
        if not isinstance(version, str):
            raise ScanError("Cannot save: the page sent no version of the regions. Load the page again.")
        try:
            version = save_regions(self.results.folder, regions, self.results.maps.shape, version)
        except NewerRegionsError as error:
            newer_regions, version = regions_and_version(self.results.folder)
            conflict_body = {
                "error": str(error),
                "regions": [asdict(region) for region in newer_regions],
                "version": version,
            }
            return json_answer(conflict_body, HTTPStatus.CONFLICT)
        return json_answer({"saved": len(regions), "version": version})

    def _answer_region(self, request: Request) -> Answer:
        """Answer with the spectra of a region, and statistics and histograms of the requested maps."""
        request_body = request.json()
        mask = parse_region(request_body).mask(self.results.maps.shape)
        map_indices = request_body.get("maps")
        valid_indices = (
            [index for index in map_indices if isinstance(index, int)] if isinstance(map_indices, list) else []
        )
        map_statistics = [
            self._map_statistics(index, mask) for index in valid_indices if 0 <= index < len(self.results.maps.entries)
        ]
        region_content: dict[str, Any] = {"n_pixel": int(mask.sum()), "maps": map_statistics, "mean": None, "max": None}
        if self.results.source.state == READY and not request_body.get("no_spectrum"):
            try:
                spectra = self.results.source.region(mask)
            except (ScanError, OSError) as error:  # a region without spectra still has map statistics
                region_content["why"] = str(error)
            else:
                region_content |= {"mean": listed_numbers(spectra.mean), "max": listed_numbers(spectra.maximum)}
        return json_answer(region_content)

    def _map_statistics(self, index: int, mask: np.ndarray[Any, np.dtype[np.bool_]]) -> dict[str, Any]:
        values = self.results.maps.values(index)
        region_values = values[mask & np.isfinite(values)].astype(np.float64)
        if not region_values.size:
            return {"map": index, "n": 0}
        all_values = values[np.isfinite(values)]
        entry = self.results.maps.entries[index]
        histogram_limit = (
            1.0 if entry.kind in {"group", "member"} else max(float(np.percentile(all_values, 99.5)), 1e-6)
        )
        histogram, bin_edges = np.histogram(
            np.clip(region_values, 0.0, histogram_limit), bins=_N_HISTOGRAM_BIN, range=(0.0, histogram_limit)
        )
        return {
            "map": index,
            "n": int(region_values.size),
            "mean": float(region_values.mean()),
            "median": float(np.median(region_values)),
            "deviation": float(region_values.std()),
            "low": float(region_values.min()),
            "high": float(region_values.max()),
            "above_half": float((region_values > 0.5).mean()) if entry.kind in {"group", "member"} else None,
            "histogram": histogram.tolist(),
            "edges": [float(bin_edges[0]), float(bin_edges[-1])],
        }

    def _answer_class(self, request: Request) -> Answer:
        """Answer with the region of connected pixels, at or above a minimum value, that contains a given pixel."""
        min_value = number_of(request, "least")
        values = self.results.maps.values(self.results.index(request))
        return json_answer(
            asdict(
                connected_region(
                    values, request.number("row"), request.number("column"), 0.5 if min_value is None else min_value
                )
            )
        )

    def _answer_table(self, request: Request) -> Answer:
        """Answer with the mean of each map in each region."""
        masks = [region.mask(self.results.maps.shape) for region in parse_regions(request.json())]
        return json_answer({"rows": [json_row(row) for row in region_table(self.results.maps, masks)]})
