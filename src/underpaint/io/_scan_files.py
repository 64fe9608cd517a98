"""Collection of all files that belong to a scan."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

_MAX_SEARCHED_OBJECTS = 20_000
"""Maximum number of groups and datasets that are searched for references in an HDF5 file."""


def scan_files(path: Path) -> list[tuple[Path, os.stat_result]]:
    """Return the regular files of a scan with their status.

    Parameters
    ----------
    path : Path
        A file or a folder. All files of a folder are returned, at any depth. A file is returned with its companion
        files, such as the ``.raw`` of an ``.rpl``. Files to which an HDF5 file refers are returned if they are in the
        HDF5 file's folder or below.

    Returns
    -------
    list of (Path, stat_result)
        Path and status of each regular file. Pipes, devices and files outside the scan's folder are never opened.
    """
    path = path.absolute()
    if path.is_dir():
        folder_files = (Path(folder) / name for folder, _, files in os.walk(path) for name in files)
        paths = sorted(folder_files, key=str)
    else:
        paths = [path, *_companion_files(path)]
        if _is_hdf5(path):
            paths += sorted(_referenced_files(path, path.parent.resolve(), {path.resolve()}), key=str)
    file_stats = [(file, _regular_file_stat(file)) for file in dict.fromkeys(paths)]
    return [(file, stat_result) for file, stat_result in file_stats if stat_result is not None]


def belongs_to(path: Path, source: Path) -> bool:
    """Return whether a file belongs to a scan or is in its folder, so that it must not be overwritten.

    Reports (``.html``, ``.pdf``) in the scan's folder may be overwritten.
    """
    if source.is_dir():
        is_report = path.suffix.lower() in {".html", ".pdf"}
        return not is_report and path.resolve().is_relative_to(source.resolve())
    return path.exists() and any(path.samefile(file) for file, _ in scan_files(source))


def _companion_files(path: Path) -> list[Path]:
    """Return the possible paths of a file's companion files, such as the data file of a header."""
    envi_endings = (".raw", ".dat", ".img", ".bil", ".bip", ".bsq", ".bin")
    companion_endings = {
        **dict.fromkeys(envi_endings, (".hdr",)),
        ".rpl": (".raw",),
        ".raw": (".rpl", ".hdr"),
        ".hdr": envi_endings,
    }
    endings = companion_endings.get(path.suffix.lower(), ())
    return [file for ending in endings for file in (path.with_suffix(ending), path.with_suffix(ending.upper()))]


def _regular_file_stat(path: Path) -> os.stat_result | None:
    try:
        stat_result = path.stat()
    except OSError:
        return None
    return stat_result if stat.S_ISREG(stat_result.st_mode) else None


def _is_hdf5(path: Path) -> bool:
    try:
        return _regular_file_stat(path) is not None and bool(h5py.is_hdf5(path))
    except (OSError, ValueError):
        return False


def _referenced_files(path: Path, folder: Path, visited_files: set[Path]) -> Iterator[Path]:
    """Yield the files that an HDF5 file refers to, directly or through other files."""
    try:
        with h5py.File(path, "r") as file:
            referenced_names = set(_external_names(file))
    except (OSError, RuntimeError, KeyError, ValueError):
        return  # the format's reader reports the damage later
    for referenced_name in referenced_names:
        for referenced_file in (
            sorted(path.parent.glob(referenced_name.replace("%b", "*")))
            if "%b" in referenced_name
            else [path.parent / referenced_name]
        ):
            resolved_path = referenced_file.resolve()
            if (
                resolved_path in visited_files
                or not resolved_path.is_relative_to(folder)
                or _regular_file_stat(resolved_path) is None
            ):
                continue
            visited_files.add(resolved_path)
            yield referenced_file
            if _is_hdf5(resolved_path):
                yield from _referenced_files(resolved_path, folder, visited_files)


def _external_names(file: Any) -> Iterator[str]:
    """Yield the names of the files to which external links, virtual datasets and external data refer."""
    pending_groups, visited_addresses = [file], set[int]()
    while pending_groups and len(visited_addresses) < _MAX_SEARCHED_OBJECTS:
        group = pending_groups.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield link.filename
            if not isinstance(link, h5py.HardLink):
                continue
            hdf5_object = group.get(name)
            object_address = h5py.h5o.get_info(hdf5_object.id).addr
            if object_address in visited_addresses:
                continue
            visited_addresses.add(object_address)
            if isinstance(hdf5_object, h5py.Group):
                pending_groups.append(hdf5_object)
            elif isinstance(hdf5_object, h5py.Dataset):
                if hdf5_object.is_virtual:
                    yield from (
                        virtual_source.file_name
                        for virtual_source in hdf5_object.virtual_sources()
                        if virtual_source.file_name != "."
                    )
                yield from (str(name) for name, *_ in hdf5_object.external or ())
