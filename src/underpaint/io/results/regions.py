"""Regions that the user drew on the maps: their pixels, and their record in the folder of results."""

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError, reason_of
from underpaint.io.results.contained import read_contained_text
from underpaint.io.results.sidecars import REGIONS_FILE

MAX_CORNERS = 5000
MAX_RUNS = 200_000
MAX_NAME_LENGTH = 60
MAX_REGIONS = 500
_MAX_CORNER_COORDINATE = 1e6
_MASK_NAME = re.compile(r"[A-Za-z0-9_-]+\.png")


@dataclass(frozen=True)
class Region:
    """Region that the user drew on the maps.

    Parameters
    ----------
    name : str
        Name that the user gave to the region.
    corners : tuple of (row, column)
        Corners of the polygon in pixels. The centre of the first pixel is (0.5, 0.5).
    runs : tuple of (row, first column, last column)
        Runs of pixels that define a region without corners, which is not a polygon.
    mask_file : str
        Name of the file with the region's mask; "" until the mask is saved.
    """

    name: str
    corners: tuple[tuple[float, float], ...] = ()
    runs: tuple[tuple[int, int, int], ...] = ()
    mask_file: str = ""

    def mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the (n_row, n_column) mask of the pixels whose centres are inside the region.

        Raises
        ------
        ScanError
            The region contains no pixel.
        """
        n_row, n_column = shape
        if self.runs:
            return self._runs_mask(shape)
        corner_rows, corner_columns = (np.array([corner[axis] for corner in self.corners]) for axis in (0, 1))
        is_inside = np.zeros(shape, dtype=np.bool_)
        first_row, last_row = max(int(corner_rows.min()), 0), min(math.ceil(corner_rows.max()), n_row)
        for row in range(first_row, last_row):
            # A pixel is inside if an odd number of edges cross its row on the left of the pixel's centre.
            start_rows, end_rows = corner_rows, np.roll(corner_rows, -1)
            is_crossed = (start_rows <= row + 0.5) != (end_rows <= row + 0.5)
            edge_fractions = (row + 0.5 - start_rows[is_crossed]) / (end_rows[is_crossed] - start_rows[is_crossed])
            crossing_columns = corner_columns[is_crossed] + edge_fractions * (
                np.roll(corner_columns, -1)[is_crossed] - corner_columns[is_crossed]
            )
            is_right_of_edges = (np.arange(n_column) + 0.5)[:, None] > crossing_columns[None, :]
            is_inside[row] = is_right_of_edges.sum(axis=1) % 2 == 1
        if not is_inside.any():
            raise ScanError(
                f"The region {self.name!r} contains no pixel of the maps. Draw it larger, inside the image."
            )
        return is_inside

    def _runs_mask(self, shape: tuple[int, int]) -> NDArray[np.bool_]:
        """Return the (n_row, n_column) mask of the runs. Pixels outside the maps are left out."""
        is_inside = np.zeros(shape, dtype=np.bool_)
        for row, first_column, last_column in self.runs:
            if 0 <= row < shape[0]:
                is_inside[row, max(first_column, 0) : last_column + 1] = True
        if not is_inside.any():
            raise ScanError(f"The region {self.name!r} contains no pixel of the maps.")
        return is_inside


def parse_region(json_object: Any) -> Region:
    """Convert a JSON object, from a page or from the saved file, to a region.

    Raises
    ------
    ScanError
        The value is not an object, or the region has fewer than three or too many corners. A corner is invalid or far
        outside the maps.
    """
    try:
        name = str(json_object.get("name", "")).encode(errors="replace").decode().strip()[:MAX_NAME_LENGTH] or "region"
        mask_file = str(json_object.get("mask", ""))
        runs = tuple(
            (int(row), int(first_column), int(last_column))
            for row, first_column, last_column in json_object.get("runs") or ()
        )
        corners = tuple((float(row), float(column)) for row, column in json_object.get("corners") or ())
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise ScanError("Cannot use the region: its corners must be pairs of a row and a column.") from error
    if mask_file and not _MASK_NAME.fullmatch(mask_file):
        raise ScanError(f"Cannot use the region {name!r}: {mask_file[:40]!r} is not a valid name of a mask file.")
    if 0 < len(runs) <= MAX_RUNS:
        return Region(name, (), runs, mask_file)
    if not 3 <= len(corners) <= MAX_CORNERS or not all(
        abs(coordinate) <= _MAX_CORNER_COORDINATE for corner in corners for coordinate in corner
    ):
        raise ScanError(f"Cannot use the region: it has {len(corners)} corners; 3 to {MAX_CORNERS} numbers are needed.")
    return Region(name, corners, (), mask_file)


def parse_regions(json_object: Any) -> list[Region]:
    """Convert a page's JSON object to regions.

    Raises
    ------
    ScanError
        The object has no list of regions, the list is too long, or a region is invalid.
    """
    region_records = json_object.get("regions")
    if not (isinstance(region_records, list) and len(region_records) <= MAX_REGIONS):
        raise ScanError(
            f"Cannot use the regions: the page sent no list of at most {MAX_REGIONS} regions. Load the page again."
        )
    return [parse_region(region_record) for region_record in region_records]


def read_regions(folder: Path) -> list[Region]:
    """Return the regions that are saved with the results.

    Raises
    ------
    ScanError
        The file is damaged or is a link.
    """
    try:
        return [
            parse_region(region_record)
            for region_record in json.loads(read_contained_text(folder, REGIONS_FILE))["regions"]
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, LookupError, TypeError, RecursionError, ScanError) as error:
        raise ScanError(
            f"Cannot read {folder / REGIONS_FILE}: {reason_of(error).rstrip('.')}. "
            "New regions can be drawn in the viewer; the damaged file "
            "is then kept next to them."
        ) from error
