"""Files of the user that belong to results, such as scan, photograph and regions."""

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
from underpaint.io.results.contained import DAMAGE_ERRORS, open_results_file
from underpaint.io.results.paints import PAINT_MAP, PAINTS_FILE
from underpaint.io.results.pictures import PHOTOGRAPH_FILE, PICTURES_FOLDER, REGISTERED_FILE, REGISTRATION_FILE
from underpaint.io.results.stored import RESULTS_FILE
from underpaint.runtime.files import is_link, is_working_folder

REGIONS_FILE = "regions.json"
REGIONS_FOLDER = "regions"
"""Folder of the regions' masks. Each mask is a PNG file in which the region is white."""
SESSION_FILE = "session.json"
"""File with the viewer's markers, statements of experts, and view."""
SUMMARY_FILE = "summary.csv"
REFLECTANCE_FILE = "reflectance.png"
"""Colour image of the reflectance cube, resampled to the maps' pixels."""
CUBE_REGISTRATION_FILE = "reflectance.json"
"""Registration of the reflectance cube to the maps. The file is kept, since the user may have set points."""
_MAP_FOLDERS = ("pigments", "elements", "scatter", "quantities", "detectability", "depth", "surface", "hidden")
GENERATED_NAMES = (
    RESULTS_FILE, SUMMARY_FILE, PAINTS_FILE, PAINT_MAP, "report.html", "report.pdf", "pool.tif", "unlikeness.tif",
    REFLECTANCE_FILE, *_MAP_FOLDERS,
)  # fmt: skip
"""Names of files and map folders that a run writes into a results folder."""
_MAP_DEPENDENT_NAMES = (
    REGIONS_FILE, REGIONS_FOLDER, SESSION_FILE, PHOTOGRAPH_FILE, REGISTRATION_FILE, REGISTERED_FILE, PICTURES_FOLDER,
    CUBE_REGISTRATION_FILE,
)  # fmt: skip
_ALL_MAP_STACKS = (
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
    """Return the path of the scan that a summary records, or "" if it records none."""
    settings = summary.get("settings")
    return str((settings.get("source") if isinstance(settings, dict) else "") or summary.get("source") or "")


def existing_scan_path(folder: Path, summary: Mapping[str, Any]) -> Path | None:
    """Return the path of the scan on this machine, or None if the scan is not found."""
    location = _locate_scan(scan_path(summary), folder, allow_shares=False)
    return None if location is None else split_location(location)[0]


def find_scan(
    folder: Path,
    summary: Mapping[str, Any],
    given_path: str | None,
    shape: tuple[int, int],
    *,
    allow_shares: bool = False,
) -> Scan:
    r"""Open the scan from which results were made.

    Parameters
    ----------
    folder : Path
        Results folder.
    summary : mapping
        Summary of the results (:class:`underpaint.data.maps.Results`).
    given_path : str or None
        Path that the user gave. If None, the recorded path and the results folder are searched.
    shape : (n_row, n_column)
        Shape of the maps.
    allow_shares : bool
        Whether paths on other machines (``\\server\share``) may be accessed. Access reveals the user's identity to the
        other machine, so the user must have asked to open the scan.

    Raises
    ------
    ScanError
        The scan is missing, cannot be read, or differs from ``shape``.
    """
    settings = summary.get("settings")
    settings = settings if isinstance(settings, dict) else {}
    recorded_path = scan_path(summary)
    location = given_path or _locate_scan(recorded_path, folder, allow_shares=allow_shares)
    if location is None:
        problem_text = (
            f"The scan {recorded_path} is missing" if recorded_path else "The results do not record their scan"
        )
        raise ScanError(
            f"{problem_text}, so no pixel's spectrum can be shown. Put the file or folder there or next to the "
            "results, or "
            "give its path: underpaint view --scan FILE."
        )
    given_shape, detector, counts_scale = (
        settings.get(setting_name) for setting_name in ("shape", "detector", "counts_scale")
    )
    given_shape = (
        given_shape
        if isinstance(given_shape, list)
        and len(given_shape) == 2
        and all(isinstance(pixel_count, int) for pixel_count in given_shape)
        else None
    )
    try:
        scan = load(
            location,
            detector=None if detector is None else str(detector),
            shape=tuple(given_shape) if given_shape else None,
            counts_scale=counts_scale if isinstance(counts_scale, int | float) else None,
        )
    except ScanError as error:
        if given_path is not None:
            raise
        # The message does not state the reason, which could quote a file that the user did not name.
        raise ScanError(
            f"The file {location} that the results name cannot be read as a scan; `underpaint info` states why. Put "
            "the right file there or next to the results, or give its path: underpaint view --scan FILE."
        ) from error
    if scan.shape[:2] != shape:
        raise ScanError(
            f"The scan {location} has {scan.shape[0]} rows x {scan.shape[1]} columns, the maps {shape[0]} x {shape[1]}:"
            " it is another scan. Put the right file next to the results, or give its path: underpaint view --scan "
            "FILE."
        )
    return scan


def copy_sidecars(earlier_results: Path, new_results: Path) -> Path | None:
    """Copy the user's files from earlier results to the new results that will replace them.

    The user's files are all files that no run wrote, such as notes, hidden files, or an image in a folder of maps.
    Links, pipes and devices are not copied, but are moved at the end.

    Parameters
    ----------
    earlier_results, new_results : Path
        Results folders. If the earlier one does not exist, nothing is copied.

    Returns
    -------
    Path or None
        Folder to which regions, photograph and registration are copied if earlier and new maps differ in shape;
        otherwise None.

    Raises
    ------
    OutputError
        A file cannot be copied.
    """
    user_entries = _user_entries(earlier_results)
    shape, map_names = _map_shape(earlier_results), _map_names(new_results)
    is_same_size = not any(user_entry.name in _MAP_DEPENDENT_NAMES for user_entry in user_entries) or (
        shape is not None and shape == _map_shape(new_results)
    )
    earlier_folder = None if is_same_size else _earlier_name(earlier_results, shape)
    try:
        # Entries of the results folder itself are copied first, since one of them may be called "earlier".
        for user_entry in sorted(user_entries, key=lambda path: len(path.parts)):
            target = new_results / _relative_target(user_entry.relative_to(earlier_results), earlier_folder)
            _copy_entry(
                user_entry,
                _conflict_name(target, new_results) if _is_generated(target, new_results, map_names) else target,
            )
    except OSError as error:
        raise OutputError(
            f"Cannot copy regions and photograph from {earlier_results}: {error}. Nothing was replaced."
        ) from error
    return None if earlier_folder is None else new_results / earlier_folder


def move_remaining(old_results: Path, new_results: Path, earlier_folder: str | None) -> None:
    """Move files that users have added or changed since :func:`copy_sidecars` to the new results.

    Parameters
    ----------
    old_results, new_results : Path
        Results folders. The old one will be removed afterwards.
    earlier_folder : str or None
        Name of the folder for files that belong to earlier maps, if earlier and new maps differ in shape; otherwise
        None.

    Raises
    ------
    OSError
        A file cannot be moved. No file is lost.
    """
    map_names = _map_names(new_results)
    for user_entry in _user_entries(old_results):
        for file in _files_of(user_entry):
            target = new_results / _relative_target(file.relative_to(old_results), earlier_folder)
            if any(
                _is_same_file(file, possible_target)
                for possible_target in (target, _conflict_name(target, new_results))
            ):
                continue
            target = _conflict_name(target, new_results) if _is_blocked(target, new_results) else target
            target.parent.mkdir(parents=True, exist_ok=True)
            if os.path.lexists(target):
                is_newer = file.lstat().st_mtime_ns > target.lstat().st_mtime_ns
                target = (
                    target if is_newer and not _is_generated(target, new_results, map_names) else _unused_name(target)
                )
            file.replace(target)


def _files_of(folder_entry: Path) -> Iterator[Path]:
    """Yield the entry itself, or all files in it at any depth if it is a folder."""
    if folder_entry.is_symlink() or not folder_entry.is_dir():
        yield folder_entry
        return
    for child in list(folder_entry.iterdir()):
        yield from _files_of(child)


def _relative_target(relative_path: Path, earlier_folder: str | None) -> Path:
    """Return the path of a user's file in the new results, relative to the results folder.

    Files that belong to earlier maps of another shape are moved to ``earlier_folder``.
    """
    return (
        Path(earlier_folder) / relative_path
        if earlier_folder is not None and relative_path.parts[0] in _MAP_DEPENDENT_NAMES
        else relative_path
    )


def _conflict_name(target: Path, folder: Path) -> Path:
    """Return another path for a user's file whose path is that of a new map or leads through a link."""
    folder_names = ("earlier", *(f"earlier_{name_suffix}" for name_suffix in range(2, 10_000)))
    candidate_paths = (folder / folder_name / target.relative_to(folder) for folder_name in folder_names)
    return next(candidate_path for candidate_path in candidate_paths if not _is_blocked(candidate_path, folder))


def _is_blocked(target: Path, folder: Path) -> bool:
    """Return whether a folder between ``folder`` and the target is a link or a file."""
    parent_names = target.relative_to(folder).parts[:-1]
    parent_folders = (folder.joinpath(*parent_names[: index + 1]) for index in range(len(parent_names)))
    return any(
        os.path.lexists(parent_folder) and (is_link(parent_folder) or not parent_folder.is_dir())
        for parent_folder in parent_folders
    )


def _unused_name(path: Path) -> Path:
    candidate_paths = (
        path.with_name(f"{path.stem}_earlier{name_number or ''}{path.suffix}") for name_number in range(10_000)
    )
    return next(candidate_path for candidate_path in candidate_paths if not os.path.lexists(candidate_path))


def _user_entries(folder: Path) -> list[Path]:
    """Return entries of a results folder, and of its folders of maps, that no run wrote."""
    if not folder.is_dir():
        return []
    map_names = _map_names(folder)
    folder_entries = []
    for folder_entry in sorted(folder.iterdir()):
        is_map_folder = folder_entry.name in _MAP_FOLDERS and folder_entry.is_dir() and not folder_entry.is_symlink()
        folder_entries += sorted(folder_entry.iterdir()) if is_map_folder else [folder_entry]
    return [folder_entry for folder_entry in folder_entries if not _is_generated(folder_entry, folder, map_names)]


def _is_generated(path: Path, folder: Path, map_names: set[str]) -> bool:
    """Return whether a run wrote a file in a results folder. ``map_names`` are the names of the run's maps."""
    if path.is_symlink():
        return False  # a run writes no links
    if path == folder / RESULTS_FILE:
        return not is_foreign(folder)
    if path.parent == folder:
        return path.name in GENERATED_NAMES or is_working_folder(path)
    is_in_map_folder = path.parent.parent == folder and path.parent.name in _MAP_FOLDERS
    return is_in_map_folder and path.suffix == ".tif" and _map_name(path) in map_names


def is_foreign(folder: Path) -> bool:
    """Return whether the ``results.h5`` of a folder is an HDF5 file that no run wrote, such as a scan."""
    if not (folder / RESULTS_FILE).is_file():
        return False  # reading a pipe would block
    try:
        with h5py.File(folder / RESULTS_FILE, "r") as file:
            return str(file.attrs.get("creator", "")) != "underpaint"
    except (OSError, RuntimeError):
        return False  # the file is damaged or missing


def _map_name(path: Path) -> str:
    return path.stem.removesuffix(".low_90").removesuffix(".high_90")


def _map_names(folder: Path) -> set[str]:
    """Return the names of all maps in results, or an empty set if the results cannot be read.

    If the set is empty, all files are kept as files of the user.
    """
    if not (folder / RESULTS_FILE).is_file():
        return set()
    try:
        with h5py.File(folder / RESULTS_FILE, "r") as file:
            return {map_name for stack_path in _ALL_MAP_STACKS if stack_path in file for map_name in file[stack_path]}
    except (OSError, KeyError, RuntimeError):
        return set()


def _is_same_file(first_file: Path, second_file: Path) -> bool:
    """Return whether two paths are regular files with equal size and equal time of change."""
    try:
        first_status, second_status = first_file.lstat(), second_file.lstat()
    except OSError:
        return False
    are_regular = stat.S_ISREG(first_status.st_mode) and stat.S_ISREG(second_status.st_mode)
    return are_regular and (first_status.st_size, first_status.st_mtime_ns) == (
        second_status.st_size,
        second_status.st_mtime_ns,
    )


def _map_shape(folder: Path) -> tuple[int, int] | None:
    """Return the numbers of rows and columns of the maps in results, or None if the results cannot be read."""
    try:
        with open_results_file(folder) as file:
            n_row, n_column = next(file[stack_path].attrs["shape"] for stack_path in MAP_STACKS if stack_path in file)
            return int(n_row), int(n_column)
    except (*DAMAGE_ERRORS, ScanError, StopIteration):
        return None


def _earlier_name(earlier_results: Path, shape: tuple[int, int] | None) -> str:
    """Return an unused folder name, for files that belong to earlier maps of another shape."""
    folder_name = "earlier" if shape is None else f"earlier_{shape[0]}x{shape[1]}"
    candidate_names = (folder_name, *(f"{folder_name}_{name_number}" for name_number in range(2, 10_000)))
    return next(
        candidate_name for candidate_name in candidate_names if not os.path.lexists(earlier_results / candidate_name)
    )


def _copy_entry(path: Path, target: Path) -> None:
    """Copy a file, or a folder with its files. Links, pipes and devices are left out."""
    if _is_same_file(path, target) or is_link(path):
        return
    if path.is_dir():
        target.mkdir(parents=True, exist_ok=True)
        for folder_entry in path.iterdir():
            _copy_entry(folder_entry, target / folder_entry.name)
    elif path.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        target.unlink(missing_ok=True)
        shutil.copy2(path, target)


def _locate_scan(recorded_path: str, folder: Path, *, allow_shares: bool) -> str | None:
    if not recorded_path:
        return None

    def is_data(path: Path) -> bool:
        """Return whether a path is a file or folder. Reading a pipe or device could block."""
        if not allow_shares and str(path).startswith(("\\\\", "//")):
            return False
        try:
            path_status = path.lstat() if path.parent == folder else path.stat()  # a link could lead out of the results
        except (OSError, ValueError):
            return False
        return stat.S_ISREG(path_status.st_mode) or stat.S_ISDIR(path_status.st_mode)

    path, path_separator, array_name = (
        (recorded_path, "", "") if is_data(Path(recorded_path)) else recorded_path.partition("::")
    )
    candidate_paths = [Path(path), *(folder_searched / Path(path).name for folder_searched in (folder.parent, folder))]
    name_suffix = f"{path_separator}{array_name}"
    return next(
        (f"{candidate_path}{name_suffix}" for candidate_path in candidate_paths if is_data(candidate_path)), None
    )
