"""Files that a scan consists of: itself, its folder, and files that it refers to."""

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py

_MAX_OBJECTS = 20_000
"""Limit of the groups and datasets of an HDF5 file that are searched for references."""


def scan_files(path: Path) -> list[tuple[Path, os.stat_result]]:
    """Return every regular file that a scan consists of, by name.

    Parameters
    ----------
    path : Path
        A file, or a folder with all files at any depth. For a file also those of the same name with another ending
        (``.rpl`` with its ``.raw``), and files that an HDF5 file refers to (virtual datasets, external links, external
        data) in its folder or below.

    Returns
    -------
    list of (Path, stat_result)
        Without files elsewhere, pipes or devices, which are never opened.
    """
    path = path.absolute()
    if path.is_dir():
        names = (Path(folder) / name for folder, _, files in os.walk(path) for name in files)
        listed = sorted(names, key=str)
    else:
        listed = [path, *_paired_files(path)]
        if _is_hdf5(path):
            listed += sorted(_pointed_at(path, path.parent.resolve(), {path.resolve()}), key=str)
    about = [(file, _regular(file)) for file in dict.fromkeys(listed)]
    return [(file, facts) for file, facts in about if facts is not None]


def belongs_to(path: Path, source: Path) -> bool:
    """Whether a file is part of a scan, or in a folder that is read; reports may be replaced."""
    if source.is_dir():
        is_report = path.suffix.lower() in {".html", ".pdf"}
        return not is_report and path.resolve().is_relative_to(source.resolve())
    return path.exists() and any(path.samefile(file) for file, _ in scan_files(source))


def _paired_files(path: Path) -> list[Path]:
    """Return the other half of a scan of two files: a header and its numbers."""
    of_envi = (".raw", ".dat", ".img", ".bil", ".bip", ".bsq", ".bin")
    pairs = {**dict.fromkeys(of_envi, (".hdr",)), ".rpl": (".raw",), ".raw": (".rpl", ".hdr"), ".hdr": of_envi}
    endings = pairs.get(path.suffix.lower(), ())
    return [file for ending in endings for file in (path.with_suffix(ending), path.with_suffix(ending.upper()))]


def _regular(path: Path) -> os.stat_result | None:
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts if stat.S_ISREG(facts.st_mode) else None


def _is_hdf5(path: Path) -> bool:
    try:
        return _regular(path) is not None and bool(h5py.is_hdf5(path))
    except (OSError, ValueError):
        return False


def _pointed_at(path: Path, folder: Path, visited: set[Path]) -> Iterator[Path]:
    """Return the files that an HDF5 file points at, and those that they point at."""
    try:
        with h5py.File(path, "r") as file:
            names = set(_outside(file))
    except (OSError, RuntimeError, KeyError, ValueError):
        return  # damaged: the reader will report it
    for name in names:
        for target in sorted(path.parent.glob(name.replace("%b", "*"))) if "%b" in name else [path.parent / name]:
            place = target.resolve()
            if place in visited or not place.is_relative_to(folder) or _regular(place) is None:
                continue
            visited.add(place)
            yield target
            if _is_hdf5(place):
                yield from _pointed_at(place, folder, visited)


def _outside(file: Any) -> Iterator[str]:
    """Return the names of other files in an HDF5 file, as they are written there."""
    waiting, visited = [file], set[int]()
    while waiting and len(visited) < _MAX_OBJECTS:
        group = waiting.pop()
        for name in group:
            link = group.get(name, getlink=True)
            if isinstance(link, h5py.ExternalLink):
                yield link.filename
            if not isinstance(link, h5py.HardLink):
                continue
            item = group.get(name)
            address = h5py.h5o.get_info(item.id).addr
            if address in visited:
                continue
            visited.add(address)
            if isinstance(item, h5py.Group):
                waiting.append(item)
            elif isinstance(item, h5py.Dataset):
                if item.is_virtual:
                    yield from (source.file_name for source in item.virtual_sources() if source.file_name != ".")
                yield from (str(name) for name, *_ in item.external or ())
