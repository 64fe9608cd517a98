"""What belongs to results and is not in them: the scan that they were made of, the photograph, the regions."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py

from underpaint.errors import OutputError, ScanError
from underpaint.io.load import load
from underpaint.io.stored import RESULTS_FILE
from underpaint.spectrum import Scan

PHOTOGRAPH_FILE = "photograph.jpg"
PLACE_FILE = "photograph.json"
REGISTERED_FILE = "photograph_registered.png"
REGIONS_FILE = "regions.json"
REGIONS_FOLDER = "regions"
"""Holds a mask (PNG, white inside) for each region that was drawn."""
SUMMARY_FILE = "summary.csv"
MADE = (
    *(RESULTS_FILE, SUMMARY_FILE, "report.html", "report.pdf", "unlikeness.tif"),
    *("pigments", "elements", "quantities", "detectability"),
)
"""What a run makes in a folder of results; all else in it is the user's own."""
_OF_THE_MAPS = (REGIONS_FILE, REGIONS_FOLDER, PHOTOGRAPH_FILE, PLACE_FILE, REGISTERED_FILE)
_MAPS = ("entry/pigments/results/probability", "entry/elements/results/parameters")


def find_scan(folder: Path, summary: Mapping[str, Any], given: str | None, shape: tuple[int, int]) -> Scan:
    """Open the scan that results were made of.

    Parameters
    ----------
    folder : Path
        Of the results.
    summary : mapping
        As :func:`underpaint.io.read_results` returns it.
    given : str or None
        Where the user says it is; else it is looked for where it was, and beside the results.
    shape : (n_row, n_column)
        Of the maps.

    Raises
    ------
    ScanError
        It is nowhere, cannot be read, or has other pixels.
    """
    settings = summary.get("settings", {})
    told = str(settings.get("source") or summary.get("source") or "")
    location = given or _found(told, folder)
    if location is None:
        what = f"The scan {told} is not there" if told else "The results do not say which scan they are of"
        message = (
            f"{what}, so no pixel's spectrum can be shown. Put it there or beside the results, or say where it is: "
            "underpaint view --scan FILE."
        )
        raise ScanError(message)
    grid = settings.get("shape")
    scan = load(
        location,
        detector=settings.get("detector"),
        shape=tuple(grid) if grid else None,
        counts_scale=settings.get("counts_scale"),
    )
    if scan.shape[:2] != shape:
        message = (
            f"The scan {location} has {scan.shape[0]} rows x {scan.shape[1]} columns, the maps {shape[0]} x {shape[1]}:"
            " it is another one. Put the right one beside the results, or say where it is: underpaint view --scan FILE."
        )
        raise ScanError(message)
    return scan


def registration_of(folder: Path) -> dict[str, Any] | None:
    """Return how the photograph was laid over the maps (``how``, ``error_px``, ``matrix``); None where it was not.

    Raises
    ------
    ScanError
        The record is damaged.
    """
    path = folder / PLACE_FILE
    if not (path.is_file() and (folder / REGISTERED_FILE).is_file()):
        return None
    record = _record(path, "Lay the photograph anew in the viewer; until then the file is left as it is.")
    off = record.get("error_px")
    if not isinstance(record.get("how"), str) or not (off is None or isinstance(off, float | int)):
        message = f"Cannot read {path}: it does not say how the photograph was laid. Lay it anew in the viewer."
        raise ScanError(message)
    return record


def region_names(folder: Path) -> dict[str, str]:
    """Return what the user calls each region, by the file of its mask.

    Raises
    ------
    ScanError
        The record is damaged.
    """
    path = folder / REGIONS_FILE
    if not path.is_file():
        return {}
    regions = _record(path, "Mend it, or move it away.").get("regions")
    known = [own for own in regions if isinstance(own, dict)] if isinstance(regions, list) else []
    return {str(own["mask"]): str(own["name"]) for own in known if own.get("mask") and own.get("name")}


def _record(path: Path, remedy: str) -> dict[str, Any]:
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError, RecursionError) as error:
        message = f"Cannot read {path}: {error}. {remedy}"
        raise ScanError(message) from error


def carry_over(earlier: Path, new: Path) -> Path | None:
    """Copy what is the user's own from results to those that will replace them.

    Parameters
    ----------
    earlier, new : Path
        Folders of results; where there are no earlier ones, nothing is done.

    Returns
    -------
    Path or None
        Where regions, photograph and its registration were put that lie on maps of another size; None where all fits.

    Raises
    ------
    OutputError
        It cannot be copied.
    """
    own = [] if not earlier.is_dir() else [path for path in sorted(earlier.iterdir()) if _is_of_the_user(path)]
    laid = [path for path in own if path.name in _OF_THE_MAPS]
    shape = _map_shape(earlier)
    fits = not laid or (shape is not None and shape == _map_shape(new))
    place = new if fits else new / _aside(earlier, shape)
    try:
        place.mkdir(exist_ok=True)
        for path in own:
            _copy(path, (place if path in laid else new) / path.name)
    except OSError as error:
        message = f"Cannot take regions and photograph along from {earlier}: {error}. Nothing was replaced."
        raise OutputError(message) from error
    return None if fits else place


def _is_of_the_user(path: Path) -> bool:
    return path.name not in MADE and path.suffix != ".part" and not path.name.startswith(".")


def _map_shape(folder: Path) -> tuple[int, int] | None:
    """Return rows and columns of the maps of results; None where they cannot be read."""
    try:
        with h5py.File(folder / RESULTS_FILE, "r") as file:
            n_row, n_column = next(file[name].attrs["shape"] for name in _MAPS if name in file)
    except (OSError, KeyError, ValueError, StopIteration):
        return None
    return int(n_row), int(n_column)


def _aside(earlier: Path, shape: tuple[int, int] | None) -> str:
    """Return a name that is not yet taken for what lies on maps of another size."""
    name = "earlier" if shape is None else f"earlier_{shape[0]}x{shape[1]}"
    names = (name, *(f"{name}_{number}" for number in range(2, 10_000)))
    return next(own for own in names if not (earlier / own).exists())


def _copy(path: Path, target: Path) -> None:
    if not path.is_dir():
        shutil.copy2(path, target)
        return
    if target.is_dir():
        shutil.rmtree(target)
    shutil.copytree(path, target)


def _found(told: str, folder: Path) -> str | None:
    if not told:
        return None
    path, mark, array = (told, "", "") if Path(told).exists() else told.partition("::")
    names = [Path(path), *(base / Path(path).name for base in (folder.parent, folder))]
    suffix = f"{mark}{array}"
    return next((f"{name}{suffix}" for name in names if name.exists()), None)
