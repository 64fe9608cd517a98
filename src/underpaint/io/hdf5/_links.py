"""Links of HDF5 files, followed one at a time and never out of the folder of their file.

HDF5 itself follows a link to any readable file, and a virtual dataset that refers to itself ends the process. All
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
MAX_COMPRESSION_RATIO = 10_000
"""Maximum plausible compression ratio of counts."""
_MAX_LINKS = 16
_MAX_ITEMS = 20_000
_MAX_SOURCES = 100_000
ObjectId = tuple[int, int]


def open_file(path: Path) -> Any:
    """Open a file for reading by its resolved path, against which HDF5 then resolves relative names."""
    return h5py.File(path.resolve(), "r")


def file_of(item: Any) -> Path:
    """Return the file of an object, which can differ from the opened one after an external link."""
    return Path(item.file.filename).resolve()


def object_id(item: Any) -> ObjectId:
    """Return file number and address of an object, which are equal for all its names."""
    info = h5py.h5o.get_info(item.id)
    return int(info.fileno), int(info.addr)


def follow(group: Any, path: str, _n_link: int = 0) -> Any:
    """Return the group or dataset at a path; None if the path does not exist.

    Raises
    ------
    ScanError
        A link leads out of the folder, to a missing file, or in a circle.
    """
    item = group.file["/"] if path.startswith("/") else group
    for component in path.split("/"):
        if component in {"", "."}:
            continue
        if not isinstance(item, h5py.Group):
            return None
        item = _follow_link(item, component, _n_link)
    return item


def walk(top_group: Any, faults: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield path and object of each group and dataset below a group once; refused links are added to ``faults``."""
    visited: set[ObjectId] = {object_id(top_group)}
    pending = [("", top_group)]
    while pending and len(visited) < _MAX_ITEMS:
        path, group = pending.pop(0)
        for name in group:
            item_path = f"{path}/{name}"
            try:
                item = follow(group, name)
            except ScanError as error:
                faults.append(str(error))
                continue
            if not isinstance(item, h5py.Group | h5py.Dataset) or object_id(item) in visited:
                continue
            visited.add(object_id(item))
            yield item_path, item
            if isinstance(item, h5py.Group):
                pending.append((item_path, item))


def read_values(item: Any) -> NDArray[Any]:
    """Return all values of a small dataset.

    Raises
    ------
    ScanError
        The values are outside the folder, in an external raw file, or missing.
    """
    check_sources(item)
    if item.external:
        raise ScanError(
            f"Cannot read {item.file.filename}::{item.name}: its values are in an external raw file, which is allowed "
            "only for counts."
        )
    return np.asarray(item[()])


def read_part(path: Path, name: str, key: Any) -> NDArray[Any]:
    """Open a file and read a part of the dataset at a path in it."""
    with open_file(path) as file:
        item = follow(file, name)
        if not isinstance(item, h5py.Dataset):
            raise OSError(f"the dataset {name} no longer exists")
        if not item.external:
            return np.asarray(item[key])
        del item  # else it would be open with two different prefixes
        # HDF5 resolves names of external raw files in the working folder, unless given a prefix
        access_properties = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
        access_properties.set_efile_prefix(b"${ORIGIN}")
        return np.asarray(h5py.Dataset(h5py.h5d.open(file.id, name.encode(), access_properties))[key])


def check_sources(dataset: Any, _parents: tuple[ObjectId, ...] = ()) -> float:
    """Refuse a dataset whose values are outside the file's folder, missing, or refer to themselves.

    Returns
    -------
    float
        Size of the files with the values, in bytes.

    Raises
    ------
    ScanError
        The dataset is refused; the message states the reason.
    """
    location = f"{dataset.file.filename}::{dataset.name}"
    if object_id(dataset) in _parents:
        raise ScanError(
            f"Cannot read {location}: this virtual dataset refers to itself, so it has no values. Make it again."
        )
    if dataset.is_virtual:
        return _check_virtual(dataset, location, (*_parents, object_id(dataset)))
    files = [neighbour_path(dataset, name, location) for name, *_ in dataset.external or ()]
    return float(sum(file.stat().st_size for file in files or [file_of(dataset)]))


def neighbour_path(item: Any, name: str, location: str) -> Path:
    """Return the path of a file that an HDF5 object refers to, in the folder of the object's file or below.

    Raises
    ------
    ScanError
        The path is outside the folder, or not a regular file.
    """
    folder = file_of(item).parent
    resolved = (folder / name).resolve()
    if not resolved.is_relative_to(folder):
        raise ScanError(f"Cannot read {location}: it is in {resolved}, outside the file's folder. Copy that file here.")
    if not resolved.is_file():  # HDF5 would read zeros instead
        raise ScanError(f"Cannot read {location}: it is in {resolved}, which does not exist. Copy that file here.")
    return resolved


def _follow_link(group: Any, name: str, n_link: int) -> Any:
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
    target = neighbour_path(group, link.filename, location)
    try:
        file = open_file(target)
    except READ_ERRORS as error:
        raise ScanError(
            f"Cannot read {location}: {target} does not open as HDF5 ({first_line(error)}). Copy that file again."
        ) from error
    return follow(file, "/" + link.path, n_link + 1)


def _check_virtual(dataset: Any, location: str, parents: tuple[ObjectId, ...]) -> float:
    sources = dataset.virtual_sources()
    if len(sources) > _MAX_SOURCES:
        raise ScanError(
            f"Cannot read {location}: a virtual dataset of {len(sources)} sources; at most {_MAX_SOURCES} are allowed."
        )
    stored_bytes = 0.0
    for file_name, name in dict.fromkeys((source.file_name, source.dset_name) for source in sources):
        stored_bytes += sum(
            _check_source(file, name, location, parents) for file in _source_files(dataset, file_name, location)
        )
    declared_bytes = float(np.prod(dataset.shape, dtype=np.float64)) * dataset.dtype.itemsize
    if declared_bytes > MAX_COMPRESSION_RATIO * stored_bytes:
        raise ScanError(
            f"Cannot read {location}: this virtual dataset declares {dataset.shape} numbers, "
            f"{declared_bytes / 1e6:.0f} MB; its sources contain {stored_bytes / 1e6:.3f} MB, which is impossible. "
            "Create it again, or name a source itself."
        )
    return stored_bytes


def _check_source(file: Any, name: str, location: str, parents: tuple[ObjectId, ...]) -> float:
    source = follow(file, "/" + name)
    if not isinstance(source, h5py.Dataset):
        raise ScanError(f"Cannot read {location}: its source {name} is not in {file.filename}. Copy that file again.")
    return check_sources(source, parents)


def _source_files(dataset: Any, name: str, location: str) -> list[Any]:
    """Open the file that a virtual dataset names; for a numbered name (``%b``), all matching files."""
    if name == ".":
        return [dataset.file]
    if "%" not in name.replace("%%", ""):
        return [_open_source(neighbour_path(dataset, name.replace("%%", "%"), location), location)]
    folder = (file_of(dataset).parent / name).parent
    pattern = Path(name).name.replace("%b", "[0-9]*")
    paths = sorted(folder.glob(pattern)) if folder.resolve().is_relative_to(file_of(dataset).parent) else []
    if "%" in pattern or not paths:
        raise ScanError(
            f"Cannot read {location}: no file in its folder has the name {name} with a number. Copy the files here."
        )
    return [_open_source(neighbour_path(dataset, str(matching_path), location), location) for matching_path in paths]


def _open_source(path: Path, location: str) -> Any:
    try:
        return open_file(path)
    except READ_ERRORS as error:
        raise ScanError(
            f"Cannot read {location}: its source {path} does not open ({first_line(error)}). Copy that file again."
        ) from error
