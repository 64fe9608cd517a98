"""What belongs to results and is not in them: the scan that they were made of, the photograph, the regions."""

import json
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from underpaint.errors import OutputError, ScanError
from underpaint.io.contained import DAMAGE, digest_contained, is_link, open_results_file, read_contained_text
from underpaint.io.load import load
from underpaint.io.stored import RESULTS_FILE
from underpaint.spectrum import Scan

PHOTOGRAPH_FILE = "photograph.jpg"
PLACE_FILE = "photograph.json"
PHOTOGRAPH_KEY = "photograph_sha256"
"""Key, in the record of a registration, of the photograph that it belongs to."""
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


def scan_path(summary: Mapping[str, Any]) -> str:
    """Return where the scan lay that results were made of, as they say; "" where they do not."""
    settings = summary.get("settings")
    return str((settings.get("source") if isinstance(settings, dict) else "") or summary.get("source") or "")


def find_scan(
    folder: Path, summary: Mapping[str, Any], given: str | None, shape: tuple[int, int], *, asked: bool = False
) -> Scan:
    r"""Open the scan that results were made of.

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
    asked : bool
        Whether the user asked to open the scan where the results say that it is: only then is a place on another
        machine (``\\server\share``) looked at, since asking for it tells that machine who asks.

    Raises
    ------
    ScanError
        It is nowhere, cannot be read, or has other pixels.
    """
    settings = summary.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    told = scan_path(summary)
    location = given or _found(told, folder, shares=asked)
    if location is None:
        what = f"The scan {told} is not there" if told else "The results do not say which scan they are of"
        message = (
            f"{what}, so no pixel's spectrum can be shown. Put the file or folder there or beside the results, or say "
            "where it is: underpaint view --scan FILE."
        )
        raise ScanError(message)
    grid, detector = settings.get("shape"), settings.get("detector")
    grid = grid if isinstance(grid, list) and len(grid) == 2 and all(isinstance(size, int) for size in grid) else None
    try:
        scan = load(location, detector=None if detector is None else str(detector), shape=tuple(grid) if grid else None)
    except ScanError as error:
        if given is not None:
            raise
        # The reason may quote the file, which need not be a scan: whoever made the results chose it.
        message = (
            f"The file {location} that the results name cannot be read as a scan; `underpaint info` says why. Put the "
            "right one there or beside the results, or say where it is: underpaint view --scan FILE."
        )
        raise ScanError(message) from error
    if scan.shape[:2] != shape:
        message = (
            f"The scan {location} has {scan.shape[0]} rows x {scan.shape[1]} columns, the maps {shape[0]} x {shape[1]}:"
            " it is another one. Put the right one beside the results, or say where it is: underpaint view --scan FILE."
        )
        raise ScanError(message)
    return scan


def registration_of(folder: Path) -> dict[str, Any] | None:
    """Return how the photograph was laid over the maps (``how``, ``error_px``, ``matrix``); None where it was not.

    A registration that names another photograph than the one that is there does not count.

    Raises
    ------
    ScanError
        The record is damaged.
    """
    path = folder / PLACE_FILE
    if not ((path.exists() or path.is_symlink()) and (folder / REGISTERED_FILE).exists()):
        return None
    try:
        record = dict(json.loads(read_contained_text(folder, PLACE_FILE)))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        message = f"Cannot read {path}: {error}. Lay the photograph anew in the viewer; until then the file is left."
        raise ScanError(message) from error
    off = record.get("error_px")
    if not isinstance(record.get("how"), str) or not (off is None or isinstance(off, float | int)):
        message = f"Cannot read {path}: it does not say how the photograph was laid. Lay it anew in the viewer."
        raise ScanError(message)
    return record if record.get(PHOTOGRAPH_KEY) in {None, photograph_digest(folder)} else None


def photograph_digest(folder: Path) -> str | None:
    """Return what tells a photograph from another one (SHA-256); None where there is none.

    Raises
    ------
    ScanError
        It cannot be read.
    """
    try:
        return digest_contained(folder, PHOTOGRAPH_FILE)
    except OSError as error:
        message = f"Cannot read {folder / PHOTOGRAPH_FILE}: {error.strerror or error}. Check that you may read it."
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
        with open_results_file(folder) as file:
            n_row, n_column = next(file[name].attrs["shape"] for name in _MAPS if name in file)
            return int(n_row), int(n_column)
    except (*DAMAGE, ScanError, StopIteration):
        return None


def _aside(earlier: Path, shape: tuple[int, int] | None) -> str:
    """Return a name that is not yet taken for what lies on maps of another size."""
    name = "earlier" if shape is None else f"earlier_{shape[0]}x{shape[1]}"
    names = (name, *(f"{name}_{number}" for number in range(2, 10_000)))
    return next(own for own in names if not (earlier / own).exists())


def _copy(path: Path, target: Path) -> None:
    """Copy a file or folder; a link stays a link, so that nothing outside is read."""
    if is_link(path) or not path.is_dir():
        shutil.copy2(path, target, follow_symlinks=False)
        return
    if target.is_dir():
        shutil.rmtree(target)
    shutil.copytree(path, target, symlinks=True)


def _found(told: str, folder: Path, *, shares: bool) -> str | None:
    if not told:
        return None

    def is_data(path: Path) -> bool:
        """Whether a path is a file or folder, which a pipe or a device, whose opening could block for ever, is not."""
        if not shares and str(path).startswith(("\\\\", "//")):
            return False
        try:
            status = path.lstat() if path.parent == folder else path.stat()  # no link out of the results is followed
        except (OSError, ValueError):
            return False
        return stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)

    path, mark, array = (told, "", "") if is_data(Path(told)) else told.partition("::")
    names = [Path(path), *(base / Path(path).name for base in (folder.parent, folder))]
    suffix = f"{mark}{array}"
    return next((f"{name}{suffix}" for name in names if is_data(name)), None)
