"""What belongs to results and is not in them: the scan that they were made of, the photograph, the regions."""

import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import h5py

from underpaint.data import Scan
from underpaint.errors import OutputError, ScanError
from underpaint.io.load import load, split_location
from underpaint.io.results.contained import DAMAGE, digest_contained, open_results_file, read_contained_text
from underpaint.io.results.stored import RESULTS_FILE
from underpaint.runtime.files import is_link, is_working_folder

PHOTOGRAPH_FILE = "photograph.jpg"
PLACE_FILE = "photograph.json"
PHOTOGRAPH_KEY = "photograph_sha256"
"""Key, in the record of a registration, of the photograph that it belongs to."""
REGISTERED_FILE = "photograph_registered.png"
REGIONS_FILE = "regions.json"
REGIONS_FOLDER = "regions"
"""Holds a mask (PNG, white inside) for each region that was drawn."""
SUMMARY_FILE = "summary.csv"
_FOLDERS = ("pigments", "elements", "scatter", "quantities", "detectability")
MADE = (RESULTS_FILE, SUMMARY_FILE, "report.html", "report.pdf", "pool.tif", "unlikeness.tif", *_FOLDERS)
"""What a run makes in a folder of results, with the maps of its names in the folders; all else is the user's own."""
_OF_THE_MAPS = (REGIONS_FILE, REGIONS_FOLDER, PHOTOGRAPH_FILE, PLACE_FILE, REGISTERED_FILE)
_STACKS = (
    "entry/pigments/results/probability",
    "entry/pigments/results/quantities",
    "entry/elements/results/parameters",
    "entry/scatter/results/counts",
    "entry/quantities/results/mass_fraction",
    "entry/quantities/results/areal_mass",
    "entry/amounts/results/amount",
    "entry/detectability/results/state",
)
MAP_STACKS = ("entry/pigments/results/probability", "entry/elements/results/parameters")


def scan_path(summary: Mapping[str, Any]) -> str:
    """Return where the scan lay that results were made of, as they say; "" where they do not."""
    settings = summary.get("settings")
    return str((settings.get("source") if isinstance(settings, dict) else "") or summary.get("source") or "")


def scan_place(folder: Path, summary: Mapping[str, Any]) -> Path | None:
    """Return the file or folder of the scan that results were made of, on this machine; None where it is gone."""
    location = _found(scan_path(summary), folder, shares=False)
    return None if location is None else split_location(location)[0]


def find_scan(
    folder: Path, summary: Mapping[str, Any], given: str | None, shape: tuple[int, int], *, asked: bool = False
) -> Scan:
    r"""Open the scan that results were made of.

    Parameters
    ----------
    folder : Path
        Of the results.
    summary : mapping
        As of :class:`underpaint.data.maps.Results`.
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
        raise ScanError(
            f"{what}, so no pixel's spectrum can be shown. Put the file or folder there or beside the results, or say "
            "where it is: underpaint view --scan FILE."
        )
    grid, detector, counts_scale = (settings.get(key) for key in ("shape", "detector", "counts_scale"))
    grid = grid if isinstance(grid, list) and len(grid) == 2 and all(isinstance(size, int) for size in grid) else None
    try:
        scan = load(
            location,
            detector=None if detector is None else str(detector),
            shape=tuple(grid) if grid else None,
            counts_scale=counts_scale if isinstance(counts_scale, int | float) else None,
        )
    except ScanError as error:
        if given is not None:
            raise
        # The reason may quote the file, which need not be a scan: whoever made the results chose it.
        raise ScanError(
            f"The file {location} that the results name cannot be read as a scan; `underpaint info` says why. Put the "
            "right one there or beside the results, or say where it is: underpaint view --scan FILE."
        ) from error
    if scan.shape[:2] != shape:
        raise ScanError(
            f"The scan {location} has {scan.shape[0]} rows x {scan.shape[1]} columns, the maps {shape[0]} x {shape[1]}:"
            " it is another one. Put the right one beside the results, or say where it is: underpaint view --scan FILE."
        )
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
        raise ScanError(
            f"Cannot read {path}: {error}. Lay the photograph anew in the viewer; until then the file is left."
        ) from error
    off = record.get("error_px")
    if not isinstance(record.get("how"), str) or not (off is None or isinstance(off, float | int)):
        raise ScanError(f"Cannot read {path}: it does not say how the photograph was laid. Lay it anew in the viewer.")
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
        raise ScanError(
            f"Cannot read {folder / PHOTOGRAPH_FILE}: {error.strerror or error}. Check that you may read it."
        ) from error


def carry_over(earlier: Path, new: Path) -> Path | None:
    """Copy what is the user's own from results to those that will replace them.

    Everything counts as the user's but the files that a run makes: notes, hidden files, a folder under version
    control, a picture among the maps. Links, pipes and devices are not copied; they are moved at the end.

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
    entries = _of_the_user(earlier)
    shape, names = _map_shape(earlier), _map_names(new)
    fits = not any(entry.name in _OF_THE_MAPS for entry in entries) or (shape is not None and shape == _map_shape(new))
    aside = None if fits else _aside(earlier, shape)
    try:
        # What lies in the folder itself first: among it may be a file called "earlier".
        for entry in sorted(entries, key=lambda path: len(path.parts)):
            target = new / _place_of(entry.relative_to(earlier), aside)
            _copy(entry, _beside(target, new) if _is_made(target, new, names) else target)
    except OSError as error:
        raise OutputError(
            f"Cannot take regions and photograph along from {earlier}: {error}. Nothing was replaced."
        ) from error
    return None if aside is None else new / aside


def take_what_is_left(old: Path, new: Path, aside: str | None) -> None:
    """Move to new results what users have put into the old ones since :func:`carry_over`, or changed there.

    Parameters
    ----------
    old, new : Path
        Folders of results; the old one is about to be removed.
    aside : str or None
        Name of the folder for what lies on maps of another size.

    Raises
    ------
    OSError
        It cannot be moved; nothing is lost.
    """
    names = _map_names(new)
    for entry in _of_the_user(old):
        for file in _files_of(entry):
            target = new / _place_of(file.relative_to(old), aside)
            if any(_is_same_file(file, place) for place in (target, _beside(target, new))):
                continue
            target = _beside(target, new) if _is_barred(target, new) else target
            target.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(target):
                newer = file.lstat().st_mtime_ns > target.lstat().st_mtime_ns
                target = target if newer and not _is_made(target, new, names) else _free_name(target)
            file.replace(target)


def _files_of(entry: Path) -> Iterator[Path]:
    """Return an entry, or all that lies in a folder at any depth, but folders."""
    if entry.is_symlink() or not entry.is_dir():
        yield entry
        return
    for below in list(entry.iterdir()):
        yield from _files_of(below)


def _place_of(name: Path, aside: str | None) -> Path:
    """Return where a user's file goes: those that lie on maps of another size go aside."""
    return Path(aside) / name if aside is not None and name.parts[0] in _OF_THE_MAPS else name


def _beside(target: Path, folder: Path) -> Path:
    """Return the name of a user's file where a new map has taken its own, or a link stands in the way."""
    names = ("earlier", *(f"earlier_{number}" for number in range(2, 10_000)))
    places = (folder / name / target.relative_to(folder) for name in names)
    return next(place for place in places if not _is_barred(place, folder))


def _is_barred(target: Path, folder: Path) -> bool:
    """Whether the way from a folder to a file in it leads over a link, or over a file."""
    way = target.relative_to(folder).parts[:-1]
    steps = (folder.joinpath(*way[: number + 1]) for number in range(len(way)))
    return any(os.path.lexists(step) and (is_link(step) or not step.is_dir()) for step in steps)


def _free_name(path: Path) -> Path:
    names = (path.with_name(f"{path.stem}_earlier{number or ''}{path.suffix}") for number in range(10_000))
    return next(name for name in names if not os.path.lexists(name))


def _of_the_user(folder: Path) -> list[Path]:
    """Return what a run has not made: entries of the folder, and of its folders of maps."""
    if not folder.is_dir():
        return []
    names = _map_names(folder)
    entries = []
    for entry in sorted(folder.iterdir()):
        inside = entry.name in _FOLDERS and entry.is_dir() and not entry.is_symlink()
        entries += sorted(entry.iterdir()) if inside else [entry]
    return [entry for entry in entries if not _is_made(entry, folder, names)]


def _is_made(path: Path, folder: Path, names: set[str]) -> bool:
    """Whether a run has made a file of results that hold maps of some names."""
    if path.is_symlink():
        return False  # wherever it leads
    if path == folder / RESULTS_FILE:
        return not is_of_others(folder)
    if path.parent == folder:
        return path.name in MADE or is_working_folder(path)
    in_maps = path.parent.parent == folder and path.parent.name in _FOLDERS
    return in_maps and path.suffix == ".tif" and _map_name(path) in names


def is_of_others(folder: Path) -> bool:
    """Whether the ``results.h5`` of a folder is an HDF5 file that no run has made, such as a scan of that name."""
    if not (folder / RESULTS_FILE).is_file():
        return False  # a pipe would never answer
    try:
        with h5py.File(folder / RESULTS_FILE, "r") as file:
            return str(file.attrs.get("creator", "")) != "underpaint"
    except (OSError, RuntimeError):
        return False  # damaged, or not there


def _map_name(path: Path) -> str:
    return path.stem.removesuffix(".low_90").removesuffix(".high_90")


def _map_names(folder: Path) -> set[str]:
    """Return the names of all maps in results; none where they cannot be read, so that nothing counts as made."""
    if not (folder / RESULTS_FILE).is_file():
        return set()
    try:
        with h5py.File(folder / RESULTS_FILE, "r") as file:
            return {name for path in _STACKS if path in file for name in file[path]}
    except (OSError, KeyError, RuntimeError):
        return set()


def _is_same_file(one: Path, other: Path) -> bool:
    """Whether one is a file and the other its copy."""
    try:
        first, second = one.lstat(), other.lstat()
    except OSError:
        return False
    kinds = stat.S_ISREG(first.st_mode) and stat.S_ISREG(second.st_mode)
    return kinds and (first.st_size, first.st_mtime_ns) == (second.st_size, second.st_mtime_ns)


def _map_shape(folder: Path) -> tuple[int, int] | None:
    """Return rows and columns of the maps of results; None where they cannot be read."""
    try:
        with open_results_file(folder) as file:
            n_row, n_column = next(file[name].attrs["shape"] for name in MAP_STACKS if name in file)
            return int(n_row), int(n_column)
    except (*DAMAGE, ScanError, StopIteration):
        return None


def _aside(earlier: Path, shape: tuple[int, int] | None) -> str:
    """Return a name that is not yet taken for what lies on maps of another size."""
    name = "earlier" if shape is None else f"earlier_{shape[0]}x{shape[1]}"
    names = (name, *(f"{name}_{number}" for number in range(2, 10_000)))
    return next(own for own in names if not os.path.lexists(earlier / own))


def _copy(path: Path, target: Path) -> None:
    """Copy a file, or a folder with its files; links, pipes and devices are left, to be moved at the end."""
    if _is_same_file(path, target) or is_link(path):
        return
    if path.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for entry in path.iterdir():
            _copy(entry, target / entry.name)
    elif path.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copy2(path, target)


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
