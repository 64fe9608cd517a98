"""Files that belong to results: their scan, the photograph, the regions."""

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
from underpaint.io.results.contained import DAMAGE, open_results_file
from underpaint.io.results.paints import PAINT_MAP, PAINTS_FILE
from underpaint.io.results.pictures import PHOTOGRAPH_FILE, PICTURES_FOLDER, PLACE_FILE, REGISTERED_FILE
from underpaint.io.results.stored import RESULTS_FILE
from underpaint.runtime.files import is_link, is_working_folder

REGIONS_FILE = "regions.json"
REGIONS_FOLDER = "regions"
"""Folder of masks (PNG, white inside), one for each region."""
SESSION_FILE = "session.json"
"""Markers, statements of experts, and the view of the viewer's page."""
SUMMARY_FILE = "summary.csv"
REFLECTANCE_FILE = "reflectance.png"
"""The cube as an eye sees it, over the maps."""
CUBE_PLACE_FILE = "reflectance.json"
"""How the cube lies over the maps; kept, for points may have made it."""
_FOLDERS = ("pigments", "elements", "scatter", "quantities", "detectability", "depth", "surface", "hidden")
GENERATED_NAMES = (
    RESULTS_FILE, SUMMARY_FILE, PAINTS_FILE, PAINT_MAP, "report.html", "report.pdf", "pool.tif", "unlikeness.tif",
    REFLECTANCE_FILE, *_FOLDERS,
)  # fmt: skip
"""Files that a run makes in a folder of results, with its maps in subfolders; all others are the user's."""
_OF_THE_MAPS = (
    REGIONS_FILE, REGIONS_FOLDER, SESSION_FILE, PHOTOGRAPH_FILE, PLACE_FILE, REGISTERED_FILE, PICTURES_FOLDER,
    CUBE_PLACE_FILE,
)  # fmt: skip
_STACKS = (
    "entry/pigments/results/probability",
    "entry/pigments/results/quantities",
    "entry/elements/results/parameters",
    "entry/scatter/results/counts",
    "entry/depth/results/counts",
    "entry/quantities/results/mass_fraction",
    "entry/quantities/results/areal_mass",
    "entry/amounts/results/amount",
    "entry/detectability/results/state",
    "entry/reflectance/results/surface_member",
    "entry/reflectance/results/hidden",
)
MAP_STACKS = ("entry/pigments/results/probability", "entry/elements/results/parameters")


def scan_path(summary: Mapping[str, Any]) -> str:
    """Return the recorded path of the results' scan; "" if not recorded."""
    settings = summary.get("settings")
    return str((settings.get("source") if isinstance(settings, dict) else "") or summary.get("source") or "")


def scan_place(folder: Path, summary: Mapping[str, Any]) -> Path | None:
    """Return the path of the results' scan on this machine; None if missing."""
    location = _locate(scan_path(summary), folder, shares=False)
    return None if location is None else split_location(location)[0]


def find_scan(
    folder: Path, summary: Mapping[str, Any], stated: str | None, shape: tuple[int, int], *, required: bool = False
) -> Scan:
    r"""Open the scan of results.

    Parameters
    ----------
    folder : Path
        Of the results.
    summary : mapping
        See :class:`underpaint.data.maps.Results`.
    stated : str or None
        Path given by the user; else the recorded path and the folder of the results are searched.
    shape : (n_row, n_column)
        Of the maps.
    required : bool
        Whether the user requested to open the scan at its recorded path: only then are paths on other machines
        (``\\server\share``) accessed, since access identifies the user to that machine.

    Raises
    ------
    ScanError
        It is missing, cannot be read, or has other pixels.
    """
    settings = summary.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    recorded_path = scan_path(summary)
    location = stated or _locate(recorded_path, folder, shares=required)
    if location is None:
        problem = f"The scan {recorded_path} is not there" if recorded_path else "The results do not record their scan"
        raise ScanError(
            f"{problem}, so no pixel's spectrum can be shown. Put the file or folder there or beside the results, or "
            "say where it is: underpaint view --scan FILE."
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
        if stated is not None:
            raise
        # The reason may quote the file, which may be of another kind, since the results name it.
        raise ScanError(
            f"The file {location} that the results name cannot be read as a scan; `underpaint info` says why. Put the "
            "right one there or beside the results, or say where it is: underpaint view --scan FILE."
        ) from error
    if scan.shape[:2] != shape:
        raise ScanError(
            f"The scan {location} has {scan.shape[0]} rows x {scan.shape[1]} columns, the maps {shape[0]} x {shape[1]}:"
            " it is another one. Put the right one next to the results, or say where it is: underpaint view --scan "
            "FILE."
        )
    return scan


def copy_sidecars(earlier: Path, new: Path) -> Path | None:
    """Copy the user's files from results to those that will replace them.

    All files are the user's except those that a run makes: notes, hidden files, a folder under version control, a
    picture among the maps. Links, pipes and devices are not copied but moved at the end.

    Parameters
    ----------
    earlier, new : Path
        Folders of results; nothing is done without earlier ones.

    Returns
    -------
    Path or None
        Folder of regions, photograph and registration for maps of another size; None if the size is the same.

    Raises
    ------
    OutputError
        It cannot be copied.
    """
    entries = _of_the_user(earlier)
    shape, names = _map_shape(earlier), _map_names(new)
    fits = not any(entry.name in _OF_THE_MAPS for entry in entries) or (shape is not None and shape == _map_shape(new))
    earlier_folder = None if fits else _earlier_name(earlier, shape)
    try:
        # The folder's own entries first: one may be a file called "earlier".
        for entry in sorted(entries, key=lambda path: len(path.parts)):
            target = new / _place_of(entry.relative_to(earlier), earlier_folder)
            _copy(entry, _conflict_name(target, new) if _is_made(target, new, names) else target)
    except OSError as error:
        raise OutputError(
            f"Cannot take regions and photograph along from {earlier}: {error}. Nothing was replaced."
        ) from error
    return None if earlier_folder is None else new / earlier_folder


def move_remaining(old: Path, new: Path, earlier_folder: str | None) -> None:
    """Move files that users added or changed since :func:`copy_sidecars` to the new results.

    Parameters
    ----------
    old, new : Path
        Folders of results; the old one is about to be removed.
    earlier_folder : str or None
        Name of the folder for files of maps of another size.

    Raises
    ------
    OSError
        A file cannot be moved; nothing is lost.
    """
    names = _map_names(new)
    for entry in _of_the_user(old):
        for file in _files_of(entry):
            target = new / _place_of(file.relative_to(old), earlier_folder)
            if any(_is_same_file(file, place) for place in (target, _conflict_name(target, new))):
                continue
            target = _conflict_name(target, new) if _is_barred(target, new) else target
            target.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(target):
                newer = file.lstat().st_mtime_ns > target.lstat().st_mtime_ns
                target = target if newer and not _is_made(target, new, names) else _free_name(target)
            file.replace(target)


def _files_of(entry: Path) -> Iterator[Path]:
    """Return an entry, or all files of a folder at any depth."""
    if entry.is_symlink() or not entry.is_dir():
        yield entry
        return
    for below in list(entry.iterdir()):
        yield from _files_of(below)


def _place_of(name: Path, earlier_folder: str | None) -> Path:
    """Return the target of a user's file: those for maps of another size go to the earlier folder."""
    return Path(earlier_folder) / name if earlier_folder is not None and name.parts[0] in _OF_THE_MAPS else name


def _conflict_name(target: Path, folder: Path) -> Path:
    """Return the path of a user's file if a new map has its name, or a link is in the way."""
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
    """Return entries that no run made, of the folder and its folders of maps."""
    if not folder.is_dir():
        return []
    names = _map_names(folder)
    entries = []
    for entry in sorted(folder.iterdir()):
        inside = entry.name in _FOLDERS and entry.is_dir() and not entry.is_symlink()
        entries += sorted(entry.iterdir()) if inside else [entry]
    return [entry for entry in entries if not _is_made(entry, folder, names)]


def _is_made(path: Path, folder: Path, names: set[str]) -> bool:
    """Whether a run made a file of results with maps of some names."""
    if path.is_symlink():
        return False  # wherever it leads
    if path == folder / RESULTS_FILE:
        return not is_foreign(folder)
    if path.parent == folder:
        return path.name in GENERATED_NAMES or is_working_folder(path)
    in_maps = path.parent.parent == folder and path.parent.name in _FOLDERS
    return in_maps and path.suffix == ".tif" and _map_name(path) in names


def is_foreign(folder: Path) -> bool:
    """Whether the ``results.h5`` of a folder is an HDF5 file that no run has made, such as a scan of that name."""
    if not (folder / RESULTS_FILE).is_file():
        return False  # reading a pipe would block
    try:
        with h5py.File(folder / RESULTS_FILE, "r") as file:
            return str(file.attrs.get("creator", "")) != "underpaint"
    except (OSError, RuntimeError):
        return False  # damaged, or not there


def _map_name(path: Path) -> str:
    return path.stem.removesuffix(".low_90").removesuffix(".high_90")


def _map_names(folder: Path) -> set[str]:
    """Return the names of all maps in results; none if unreadable, so that all files count as the user's."""
    if not (folder / RESULTS_FILE).is_file():
        return set()
    try:
        with h5py.File(folder / RESULTS_FILE, "r") as file:
            return {name for path in _STACKS if path in file for name in file[path]}
    except (OSError, KeyError, RuntimeError):
        return set()


def _is_same_file(file_a: Path, file_b: Path) -> bool:
    """Whether one is a file and the other its copy."""
    try:
        first, second = file_a.lstat(), file_b.lstat()
    except OSError:
        return False
    kinds = stat.S_ISREG(first.st_mode) and stat.S_ISREG(second.st_mode)
    return kinds and (first.st_size, first.st_mtime_ns) == (second.st_size, second.st_mtime_ns)


def _map_shape(folder: Path) -> tuple[int, int] | None:
    """Return rows and columns of the maps of results; None if unreadable."""
    try:
        with open_results_file(folder) as file:
            n_row, n_column = next(file[name].attrs["shape"] for name in MAP_STACKS if name in file)
            return int(n_row), int(n_column)
    except (*DAMAGE, ScanError, StopIteration):
        return None


def _earlier_name(earlier: Path, shape: tuple[int, int] | None) -> str:
    """Return an unused name of a folder for files of maps of another size."""
    name = "earlier" if shape is None else f"earlier_{shape[0]}x{shape[1]}"
    names = (name, *(f"{name}_{number}" for number in range(2, 10_000)))
    return next(candidate for candidate in names if not os.path.lexists(earlier / candidate))


def _copy(path: Path, target: Path) -> None:
    """Copy a file, or a folder with its files, except links, pipes and devices, which are moved at the end."""
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


def _locate(recorded_path: str, folder: Path, *, shares: bool) -> str | None:
    if not recorded_path:
        return None

    def is_data(path: Path) -> bool:
        """Whether a path is a file or folder, not a pipe or device, whose opening could block."""
        if not shares and str(path).startswith(("\\\\", "//")):
            return False
        try:
            status = path.lstat() if path.parent == folder else path.stat()  # no link out of the results is followed
        except (OSError, ValueError):
            return False
        return stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)

    path, mark, array = (recorded_path, "", "") if is_data(Path(recorded_path)) else recorded_path.partition("::")
    names = [Path(path), *(base / Path(path).name for base in (folder.parent, folder))]
    suffix = f"{mark}{array}"
    return next((f"{name}{suffix}" for name in names if is_data(name)), None)
