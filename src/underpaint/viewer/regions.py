"""Regions that are drawn on the maps: which pixels they hold, and how they are kept with the results."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label

from underpaint.errors import OutputError, ScanError
from underpaint.files import whole_file
from underpaint.io.companions import REGIONS_FILE, REGIONS_FOLDER

MOST_CORNERS = 5000
MOST_RUNS = 200_000
MOST_NAME = 60


@dataclass(frozen=True)
class Region:
    """A part of the maps.

    Parameters
    ----------
    name : str
    corners : tuple of (row, column)
        Of a polygon, in pixels; the middle of the first pixel is (0.5, 0.5).
    runs : tuple of (row, first column, last column)
        Pixels of a region that is no polygon; it then has no corners.
    """

    name: str
    corners: tuple[tuple[float, float], ...] = ()
    runs: tuple[tuple[int, int, int], ...] = ()

    def mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the (n_row, n_column) pixels whose middles lie within.

        Raises
        ------
        ScanError
            It holds no pixel.
        """
        n_row, n_column = shape
        if self.runs:
            return self._filled(shape)
        rows, columns = (np.array([own[axis] for own in self.corners]) for axis in (0, 1))
        inside = np.zeros(shape, dtype=np.bool_)
        first_row, last_row = max(int(rows.min()), 0), min(math.ceil(rows.max()), n_row)
        for row in range(first_row, last_row):
            # Where the edges cross the line through the middles of this row's pixels (even-odd rule).
            low, high = rows, np.roll(rows, -1)
            crossed = (low <= row + 0.5) != (high <= row + 0.5)
            step = (row + 0.5 - low[crossed]) / (high[crossed] - low[crossed])
            at = columns[crossed] + step * (np.roll(columns, -1)[crossed] - columns[crossed])
            right_of = (np.arange(n_column) + 0.5)[:, None] > at[None, :]
            inside[row] = right_of.sum(axis=1) % 2 == 1
        if not inside.any():
            message = f"The region {self.name!r} holds no pixel of the maps. Draw it larger, over the picture."
            raise ScanError(message)
        return inside

    def _filled(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the (n_row, n_column) pixels of the runs; those outside the maps are left out."""
        inside = np.zeros(shape, dtype=np.bool_)
        for row, first, last in self.runs:
            if 0 <= row < shape[0]:
                inside[row, max(first, 0) : last + 1] = True
        if not inside.any():
            message = f"The region {self.name!r} holds no pixel of the maps."
            raise ScanError(message)
        return inside


def connected_region(values: NDArray[np.float32], row: int, column: int, least: float) -> Region:
    """Return the pixels that hang together with one, all of them at or above a value.

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
        message = (
            f"There is no class at ({row}, {column}): the map is below {least:.3g} there. Click where it is above."
        )
        raise ScanError(message)
    parts, _ = label(values >= least)
    inside = parts == parts[row, column]
    edges = np.diff(np.pad(inside.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    starts, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
    if len(starts) > MOST_RUNS:
        message = f"Cannot take this class: it is torn into {len(starts)} pieces, over {MOST_RUNS}. Draw a lasso."
        raise ScanError(message)
    runs = tuple((int(at), int(first), int(after) - 1) for (at, first), (_, after) in zip(starts, ends, strict=True))
    return Region("class", (), runs)


def read_region_request(value: Mapping[str, Any]) -> Region:
    """Return the region that a page sent.

    Raises
    ------
    ScanError
        It has fewer than three corners or far too many, or one of them is no number.
    """
    name = str(value.get("name", "")).strip()[:MOST_NAME] or "region"
    try:
        runs = tuple((int(row), int(first), int(last)) for row, first, last in value.get("runs") or ())
        if 0 < len(runs) <= MOST_RUNS:
            return Region(name, (), runs)
        corners = tuple((float(row), float(column)) for row, column in value["corners"])
    except (KeyError, TypeError, ValueError) as error:
        message = "Cannot use the region: its corners are pairs of a row and a column."
        raise ScanError(message) from error
    if not 3 <= len(corners) <= MOST_CORNERS or not all(math.isfinite(at) for own in corners for at in own):
        message = f"Cannot use the region: it has {len(corners)} corners; 3 to {MOST_CORNERS} numbers are needed."
        raise ScanError(message)
    return Region(name, corners)


def read_regions(folder: Path) -> list[Region]:
    """Return the regions that were saved with the results.

    Raises
    ------
    ScanError
        The file is damaged.
    """
    path = folder / REGIONS_FILE
    if not path.is_file():
        return []
    try:
        return [read_region_request(own) for own in json.loads(path.read_text("utf-8"))["regions"]]
    except (ScanError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        message = f"Cannot read {path}: {error}. New regions can be drawn; the damaged file is then kept beside them."
        raise ScanError(message) from error


def save_regions(folder: Path, regions: Sequence[Region], shape: tuple[int, int]) -> None:
    """Write the regions: corners in ``regions.json``, and a mask for `underpaint explain --region` of each.

    A record that is damaged is kept under another name.

    Raises
    ------
    OutputError
        The folder cannot be written.
    """
    place = folder / REGIONS_FOLDER
    try:
        stale = mask_names(read_regions(folder))  # of our own making; what else lies there stays
    except ScanError:
        stale = []
        _put_away(folder / REGIONS_FILE)
    try:
        place.mkdir(exist_ok=True)
        for name in stale:
            (place / name).unlink(missing_ok=True)
    except OSError as error:
        message = f"Cannot save regions in {place}: {error.strerror or error}. Check that the folder is writable."
        raise OutputError(message) from error
    masks = mask_names(regions)
    for own, name in zip(regions, masks, strict=True):
        with whole_file(place / name) as part:
            Image.fromarray(np.where(own.mask(shape), 255, 0).astype(np.uint8)).save(part, format="PNG")
    record = {"regions": [asdict(own) | {"mask": name} for own, name in zip(regions, masks, strict=True)]}
    with whole_file(folder / REGIONS_FILE) as part:
        part.write_text(json.dumps(record, ensure_ascii=False, indent=1), encoding="utf-8")


def _put_away(path: Path) -> None:
    """Rename a damaged file to a name that is free."""
    names = (path.with_name(f"{path.stem}_damaged{number or ''}{path.suffix}") for number in range(10_000))
    try:
        path.replace(next(own for own in names if not own.exists()))
    except OSError as error:
        message = f"Cannot keep the damaged {path}: {error.strerror or error}. Check that the folder is writable."
        raise OutputError(message) from error


def mask_names(regions: Sequence[Region]) -> list[str]:
    """Return a file name for each region's mask; two of the same name get a number."""
    names: list[str] = []
    for own in regions:
        stem = re.sub(r"[^A-Za-z0-9_-]+", "_", own.name).strip("_") or "region"
        taken = sum(name == f"{stem}.png" or name.startswith(f"{stem}_") for name in names)
        names.append(f"{stem}.png" if not taken else f"{stem}_{taken + 1}.png")
    return names
