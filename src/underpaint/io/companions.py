"""What belongs to results and is not in them: the scan that they were made of, the photograph, the regions."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from underpaint.errors import ScanError
from underpaint.io.load import load
from underpaint.spectrum import Scan

PHOTOGRAPH_FILE = "photograph.jpg"
PLACE_FILE = "photograph.json"
REGISTERED_FILE = "photograph_registered.png"
REGIONS_FOLDER = "regions"
"""Holds a mask (PNG, white inside) for each region that was drawn."""


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
        message = f"{what}, so no pixel's spectrum can be shown. Say where it is with --scan FILE."
        raise ScanError(message)
    grid = settings.get("shape")
    scan = load(location, detector=settings.get("detector"), shape=tuple(grid) if grid else None)
    if scan.shape[:2] != shape:
        message = (
            f"The scan {location} has {scan.shape[0]} rows x {scan.shape[1]} columns, the maps {shape[0]} x {shape[1]}:"
            " it is another one. Say where the right one is with --scan FILE."
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
    try:
        return dict(json.loads(path.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        message = f"Cannot read {path}: {error}. Lay the photograph anew in `underpaint view`."
        raise ScanError(message) from error


def _found(told: str, folder: Path) -> str | None:
    if not told:
        return None
    path, mark, array = (told, "", "") if Path(told).exists() else told.partition("::")
    names = [Path(path), *(base / Path(path).name for base in (folder.parent, folder))]
    suffix = f"{mark}{array}"
    return next((f"{name}{suffix}" for name in names if name.exists()), None)
