"""Regions that are drawn on the maps: those of a class, how they are saved with the results, and answers about them."""

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
from underpaint.display.viewer.region_table import plain, region_table
from underpaint.display.viewer.scan_source import READY
from underpaint.display.viewer.server import Answer, Request, json_answer
from underpaint.errors import OutputError, ScanError
from underpaint.io.results.contained import digest_contained
from underpaint.io.results.regions import MAX_RUNS, Region, parse_region, parse_regions, read_regions
from underpaint.io.results.sidecars import REGIONS_FILE, REGIONS_FOLDER
from underpaint.runtime.files import atomic_write, write_json

_N_BIN = 40


def connected_region(values: NDArray[np.float32], row: int, column: int, least: float) -> Region:
    """Return the pixels that are connected to one, all of them at or above a value.

    Parameters
    ----------
    values : (n_row, n_column) array
        A map.
    row, column : int
    least : float

    Raises
    ------
    ScanError
        The pixel itself is below, or outside; or the class is torn into far too many pieces.
    """
    n_row, n_column = values.shape
    if not (0 <= row < n_row and 0 <= column < n_column and values[row, column] >= least):
        raise ScanError(
            f"There is no class at ({row}, {column}): the map is below {least:.3g} there. Click where it is above."
        )
    parts, _ = label(values >= least)
    is_same_part = parts == parts[row, column]
    edges = np.diff(np.pad(is_same_part.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    starts, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
    if len(starts) > MAX_RUNS:
        raise ScanError(f"Cannot take this class: it is torn into {len(starts)} pieces, over {MAX_RUNS}. Draw a lasso.")
    runs = tuple((int(at), int(first), int(after) - 1) for (at, first), (_, after) in zip(starts, ends, strict=True))
    return Region("class", (), runs)


class NewerRegionsError(OutputError):
    """Somebody else saved regions after those were read that are to be replaced."""


def regions_and_version(folder: Path) -> tuple[list[Region], str]:
    """Return the saved regions, and a text that identifies their version ("" without regions).

    Raises
    ------
    ScanError
        The record is damaged, or a link.
    """
    for _ in range(3):
        version = _version(folder)
        regions = read_regions(folder)
        if version == _version(folder):  # nobody saved in between
            break
    return regions, version


def save_regions(folder: Path, regions: Sequence[Region], shape: tuple[int, int], version: str) -> str:
    """Write the regions: corners in ``regions.json``, and a mask for `underpaint explain --region` of each.

    What is new is whole on the disk before anything old goes. A record that is damaged is kept under another name.

    Parameters
    ----------
    folder : Path
        Of the results.
    regions : sequence of Region
        All that are to be there afterwards.
    shape : (n_row, n_column)
        Of the maps.
    version : str
        Of the regions that these replace, as :func:`regions_and_version` returned it.

    Returns
    -------
    str
        The version of what was saved.

    Raises
    ------
    NewerRegionsError
        The saved regions are no longer those; nothing was written.
    ScanError
        A region holds no pixel; nothing was written.
    OutputError
        The folder cannot be written.
    """
    masks = [own.mask(shape) for own in regions]
    with one_writer(folder):
        try:
            before = read_regions(folder)
        except ScanError:
            before = []
            _put_away(folder / REGIONS_FILE)
        else:
            if _version(folder) != version:
                raise NewerRegionsError(
                    "The regions were changed by another page since this one read them. Nothing was replaced."
                )
        ours = {own.mask_file for own in before if own.mask_file}
        place = folder_inside(folder, REGIONS_FOLDER)
        names = _mask_names(regions, {path.name for path in place.iterdir()} - ours)
        for mask, name in zip(masks, names, strict=True):
            with atomic_write(place / name) as part:
                Image.fromarray(np.where(mask, 255, 0).astype(np.uint8)).save(part, format="PNG")
        record = {"regions": [_recorded(own, name) for own, name in zip(regions, names, strict=True)]}
        write_json(folder / REGIONS_FILE, record)
        for name in ours - set(names):  # of our own making; what else lies there stays
            (place / name).unlink(missing_ok=True)
        return _version(folder)


def _version(folder: Path) -> str:
    return digest_contained(folder, REGIONS_FILE) or ""


def _recorded(region: Region, name: str) -> dict[str, object]:
    record = asdict(replace(region, mask_file=""))
    del record["mask_file"]
    return record | {"mask": name}


def _put_away(path: Path) -> None:
    """Rename a damaged file, or a link, to a name that is free."""
    names = (path.with_name(f"{path.stem}_damaged{number or ''}{path.suffix}") for number in range(10_000))
    try:
        path.rename(next(own for own in names if not (own.exists() or own.is_symlink())))
    except OSError as error:
        raise OutputError(
            f"Cannot keep the damaged {path}: {error.strerror or error}. Check that the folder is writable."
        ) from error


def _mask_names(regions: Sequence[Region], taken: set[str]) -> list[str]:
    """Return a file name for each region's mask, different from one another and from the names that are taken."""
    names: list[str] = []
    used = {name.casefold() for name in taken}
    for own in regions:
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", own.name).strip("_") or "region"
        numbered = (f"{stem}_{number}.png" if number > 1 else f"{stem}.png" for number in range(1, 10_000))
        names.append(next(name for name in numbered if name.casefold() not in used))
        used.add(names[-1].casefold())
    return names


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
        region_values = values[mask & np.isfinite(values)].astype(np.float64)
        if not region_values.size:
            return {"map": index, "n": 0}
        whole = values[np.isfinite(values)]
        entry = self.results.maps.entries[index]
        high = 1.0 if entry.kind in {"group", "member"} else max(float(np.percentile(whole, 99.5)), 1e-6)
        counted, edges = np.histogram(np.clip(region_values, 0.0, high), bins=_N_BIN, range=(0.0, high))
        return {
            "map": index,
            "n": int(region_values.size),
            "mean": float(region_values.mean()),
            "median": float(np.median(region_values)),
            "deviation": float(region_values.std()),
            "low": float(region_values.min()),
            "high": float(region_values.max()),
            "above_half": float((region_values > 0.5).mean()) if entry.kind in {"group", "member"} else None,
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
