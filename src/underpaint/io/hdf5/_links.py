"""Links of an HDF5 file, followed one step at a time and never out of the folder of their file.

HDF5 itself follows a link to any readable file, and ends the process for a virtual dataset that refers to itself. All
access to files therefore goes through this module.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.io._source import first_line

READ_ERRORS = (OSError, KeyError, RuntimeError, ValueError, TypeError, MemoryError, OverflowError)
"""Errors of h5py for damaged files."""
MAX_RATIO = 10_000
"""Largest plausible compression ratio of counts."""
_MAX_LINKS = 16
_MAX_ITEMS = 20_000
_MAX_SOURCES = 100_000
Identity = tuple[int, int]


def open_file(path: Path) -> Any:
    """Open a file for reading, by its real place, from which HDF5 then counts relative names."""
    return h5py.File(path.resolve(), "r")


def file_of(item: Any) -> Path:
    """Return the file of an object, which can differ from the opened one after an external link."""
    return Path(item.file.filename).resolve()


def identity(item: Any) -> Identity:
    """Return an identity that is equal for all names of an object."""
    info = h5py.h5o.get_info(item.id)
    return int(info.fileno), int(info.addr)


def follow(group: Any, path: str, _n_link: int = 0) -> Any:
    """Return the group or dataset at a path, by its name in its file; None if the path does not exist.

    Raises
    ------
    ScanError
        A link leads out of the folder, to no file, or in a circle.
    """
    item = group.file["/"] if path.startswith("/") else group
    for part in path.split("/"):
        if part in {"", "."}:
            continue
        if not isinstance(item, h5py.Group):
            return None
        item = _step(item, part, _n_link)
    return item


def items(top: Any, faults: list[str]) -> Iterator[tuple[str, Any]]:
    """Each group and dataset below a group once, with its path from there; links that are refused go to ``faults``."""
    visited: set[Identity] = {identity(top)}
    waiting = [("", top)]
    while waiting and len(visited) < _MAX_ITEMS:
        path, group = waiting.pop(0)
        for name in group:
            inside = f"{path}/{name}"
            try:
                item = follow(group, name)
            except ScanError as error:
                faults.append(str(error))
                continue
            if not isinstance(item, h5py.Group | h5py.Dataset) or identity(item) in visited:
                continue
            visited.add(identity(item))
            yield inside, item
            if isinstance(item, h5py.Group):
                waiting.append((inside, item))


def read_values(item: Any) -> NDArray[Any]:
    """Return all values of a small dataset.

    Raises
    ------
    ScanError
        They are outside the folder, in an external raw file, or missing.
    """
    check_sources(item)
    if item.external:
        raise ScanError(
            f"Cannot read {item.file.filename}::{item.name}: its values are in an external raw file; only counts may "
            "be."
        )
    return np.asarray(item[()])


def read_part(path: Path, name: str, key: Any) -> NDArray[Any]:
    """Read a part of the dataset at a path inside a file, which is opened for it."""
    with open_file(path) as file:
        item = follow(file, name)
        if not isinstance(item, h5py.Dataset):
            raise OSError(f"there is no dataset {name} any more")
        if not item.external:
            return np.asarray(item[key])
        del item  # it would be opened with two prefixes at once
        # HDF5 resolves names of external raw files in the working folder, unless given a prefix
        access = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
        access.set_efile_prefix(b"${ORIGIN}")
        return np.asarray(h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access))[key])


def check_sources(dataset: Any, _within: tuple[Identity, ...] = ()) -> float:
    """Refuse a dataset whose values are outside the file's folder, missing, or refer to themselves.

    Returns
    -------
    float
        Size of the files with the values, bytes.

    Raises
    ------
    ScanError
        With the reason.
    """
    location = f"{dataset.file.filename}::{dataset.name}"
    if identity(dataset) in _within:
        raise ScanError(
            f"Cannot read {location}: this virtual dataset refers to itself, so it has no values. Make it again."
        )
    if dataset.is_virtual:
        return _check_virtual(dataset, location, (*_within, identity(dataset)))
    files = [neighbour_path(dataset, name, location) for name, *_ in dataset.external or ()]
    return float(sum(file.stat().st_size for file in files or [file_of(dataset)]))


def neighbour_path(item: Any, name: str, location: str) -> Path:
    """Return a file that an HDF5 object names, if it is a plain file in the folder of its own file, or below it.

    Raises
    ------
    ScanError
        It is not, or not there.
    """
    folder = file_of(item).parent
    place = (folder / name).resolve()
    if not place.is_relative_to(folder):
        raise ScanError(f"Cannot read {location}: it is in {place}, outside the file's folder. Copy that file here.")
    if not place.is_file():  # HDF5 would read zeros instead
        raise ScanError(f"Cannot read {location}: it is in {place}, which does not exist. Copy that file here.")
    return place


def _step(group: Any, name: str, n_link: int) -> Any:
    try:
        link = group.get(name, getlink=True)
    except TypeError:  # a user-defined link
        return None
    if link is None or isinstance(link, h5py.HardLink):
        return None if link is None else group[name]
    location = f"{group.file.filename}::{group.name.rstrip('/')}/{name}"
    if n_link >= _MAX_LINKS:
        raise ScanError(f"Cannot read {location}: this link leads in a circle. Remove it, or export the file again.")
    if isinstance(link, h5py.SoftLink):
        return follow(group, link.path, n_link + 1)
    place = neighbour_path(group, link.filename, location)
    try:
        file = open_file(place)
    except READ_ERRORS as error:
        raise ScanError(
            f"Cannot read {location}: {place} does not open as HDF5 ({first_line(error)}). Copy that file again."
        ) from error
    return follow(file, "/" + link.path, n_link + 1)


def _check_virtual(dataset: Any, location: str, within: tuple[Identity, ...]) -> float:
    sources = dataset.virtual_sources()
    if len(sources) > _MAX_SOURCES:
        raise ScanError(
            f"Cannot read {location}: a virtual dataset of {len(sources)} sources; {_MAX_SOURCES} are the most."
        )
    stored_bytes = 0.0
    for file_name, name in dict.fromkeys((source.file_name, source.dset_name) for source in sources):
        stored_bytes += sum(
            _check_source(file, name, location, within) for file in _source_files(dataset, file_name, location)
        )
    declared_bytes = float(np.prod(dataset.shape, dtype=np.float64)) * dataset.dtype.itemsize
    if declared_bytes > MAX_RATIO * stored_bytes:
        raise ScanError(
            f"Cannot read {location}: this virtual dataset declares {dataset.shape} numbers, "
            f"{declared_bytes / 1e6:.0f} MB; its sources contain {stored_bytes / 1e6:.3f} MB, which is impossible. "
            "Create it again, or name a source itself."
        )
    return stored_bytes


def _check_source(file: Any, name: str, location: str, within: tuple[Identity, ...]) -> float:
    source = follow(file, "/" + name)
    if not isinstance(source, h5py.Dataset):
        raise ScanError(f"Cannot read {location}: its source {name} is not in {file.filename}. Copy that file again.")
    return check_sources(source, within)


def _source_files(dataset: Any, name: str, location: str) -> list[Any]:
    """Open the file that a virtual dataset names; for a numbered name (``%b``) all files that it matches."""
    if name == ".":
        return [dataset.file]
    if "%" not in name.replace("%%", ""):
        return [_opened(neighbour_path(dataset, name.replace("%%", "%"), location), location)]
    folder = (file_of(dataset).parent / name).parent
    pattern = Path(name).name.replace("%b", "[0-9]*")
    places = sorted(folder.glob(pattern)) if folder.resolve().is_relative_to(file_of(dataset).parent) else []
    if "%" in pattern or not places:
        raise ScanError(
            f"Cannot read {location}: no file in its folder has the name {name} with a number. Copy the files here."
        )
    return [_opened(neighbour_path(dataset, str(place), location), location) for place in places]


def _opened(place: Path, location: str) -> Any:
    try:
        return open_file(place)
    except READ_ERRORS as error:
        raise ScanError(
            f"Cannot read {location}: its source {place} does not open ({first_line(error)}). Copy that file again."
        ) from error
