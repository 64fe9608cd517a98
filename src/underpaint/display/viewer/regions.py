"""Regions that are drawn on the maps: those of a class, and how they are saved with the results."""

import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy.ndimage import label

from underpaint.display.viewer.one_writer import folder_inside, one_writer
from underpaint.errors import OutputError, ScanError
from underpaint.io.results.contained import digest_contained
from underpaint.io.results.regions import MAX_RUNS, Region, read_regions
from underpaint.io.results.sidecars import REGIONS_FILE, REGIONS_FOLDER
from underpaint.runtime.files import atomic_write, write_json


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
    inside = parts == parts[row, column]
    edges = np.diff(np.pad(inside.astype(np.int8), ((0, 0), (1, 1))), axis=1)
    starts, ends = np.argwhere(edges == 1), np.argwhere(edges == -1)
    if len(starts) > MAX_RUNS:
        raise ScanError(f"Cannot take this class: it is torn into {len(starts)} pieces, over {MAX_RUNS}. Draw a lasso.")
    runs = tuple((int(at), int(first), int(after) - 1) for (at, first), (_, after) in zip(starts, ends, strict=True))
    return Region("class", (), runs)


class NewerRegionsError(OutputError):
    """Somebody else saved regions after those were read that are to be replaced."""


def regions_and_version(folder: Path) -> tuple[list[Region], str]:
    """Return the saved regions, and what tells this state of theirs from another one ("" where there are none).

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
