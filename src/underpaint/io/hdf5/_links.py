"""Safe access to HDF5 files. Links are followed one at a time, and never out of the file's folder.

HDF5 itself follows links to any readable file, and a virtual dataset that refers to itself ends the process. All HDF5
files are therefore opened through this module.
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
"""Errors that h5py raises for damaged files."""
MAX_COMPRESSION_RATIO = 10_000
"""Maximum plausible ratio of the size of counts to their compressed size."""
_MAX_FOLLOWED_LINKS = 16
_MAX_GROUP_ITEMS = 20_000
_MAX_VIRTUAL_SOURCES = 100_000
ObjectId = tuple[int, int]


def open_file(path: Path) -> Any:
    """Open a file for reading by its resolved path. HDF5 resolves relative names from there."""
    return h5py.File(path.resolve(), "r")


def file_of(hdf5_object: Any) -> Path:
    """Return the path of the file that contains an object. External links lead to other files."""
    return Path(hdf5_object.file.filename).resolve()


def object_id(hdf5_object: Any) -> ObjectId:
    """Return the file number and address of an object, which identify it under all its names."""
    object_info = h5py.h5o.get_info(hdf5_object.id)
    return int(object_info.fileno), int(object_info.addr)


def follow(group: Any, path: str, _n_link: int = 0) -> Any:
    """Return the group or dataset at a path, or None if the path does not exist.

    Raises
    ------
    ScanError
        A link leads out of the folder, to a missing file, or back to itself.
    """
    hdf5_object = group.file["/"] if path.startswith("/") else group
    for path_part in path.split("/"):
        if path_part in {"", "."}:
            continue
        if not isinstance(hdf5_object, h5py.Group):
            return None
        hdf5_object = _follow_link(hdf5_object, path_part, _n_link)
    return hdf5_object


def walk(top_group: Any, faults: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the path and object of each group and dataset below a group, each object once.

    The reasons for refused links are added to ``faults``.
    """
    visited_ids: set[ObjectId] = {object_id(top_group)}
    pending_groups = [("", top_group)]
    while pending_groups and len(visited_ids) < _MAX_GROUP_ITEMS:
        path, group = pending_groups.pop(0)
        for child_name in group:
            item_path = f"{path}/{child_name}"
            try:
                hdf5_object = follow(group, child_name)
            except ScanError as error:
                faults.append(str(error))
                continue
            if not isinstance(hdf5_object, h5py.Group | h5py.Dataset) or object_id(hdf5_object) in visited_ids:
                continue
            visited_ids.add(object_id(hdf5_object))
            yield item_path, hdf5_object
            if isinstance(hdf5_object, h5py.Group):
                pending_groups.append((item_path, hdf5_object))


def read_values(dataset: Any) -> NDArray[Any]:
    """Return all values of a small dataset.

    Raises
    ------
    ScanError
        The values are missing, outside the file's folder, or in an external raw file.
    """
    check_sources(dataset)
    if dataset.external:
        raise ScanError(
            f"Cannot read {dataset.file.filename}::{dataset.name}: its values are in an external raw file, which "
            "is allowed "
            "only for counts."
        )
    return np.asarray(dataset[()])


def read_part(path: Path, dataset_path: str, slices: Any) -> NDArray[Any]:
    """Open a file, and read a part of the dataset at ``dataset_path``."""
    with open_file(path) as file:
        dataset = follow(file, dataset_path)
        if not isinstance(dataset, h5py.Dataset):
            raise OSError(f"the dataset {dataset_path} no longer exists")
        if not dataset.external:
            return np.asarray(dataset[slices])
        del dataset  # HDF5 applies the prefix only if the dataset is not open already
        # without a prefix, HDF5 searches external raw files in the working folder
        access_properties = h5py.h5p.create(h5py.h5p.DATASET_ACCESS)
        access_properties.set_efile_prefix(b"${ORIGIN}")
        return np.asarray(h5py.Dataset(h5py.h5d.open(file.id, dataset_path.encode(), access_properties))[slices])


def check_sources(dataset: Any, _parent_ids: tuple[ObjectId, ...] = ()) -> float:
    """Refuse a dataset that refers to itself, or whose values are missing or outside the file's folder.

    Returns
    -------
    float
        Total size in bytes of the files that contain the values.

    Raises
    ------
    ScanError
        The dataset is refused; the message states the reason.
    """
    location = f"{dataset.file.filename}::{dataset.name}"
    if object_id(dataset) in _parent_ids:
        raise ScanError(
            f"Cannot read {location}: this virtual dataset refers to itself, so it has no values. Make it again."
        )
    if dataset.is_virtual:
        return _check_virtual(dataset, location, (*_parent_ids, object_id(dataset)))
    source_files = [neighbour_path(dataset, file_name, location) for file_name, *_ in dataset.external or ()]
    return float(sum(file.stat().st_size for file in source_files or [file_of(dataset)]))


def neighbour_path(hdf5_object: Any, file_name: str, location: str) -> Path:
    """Return the path of a file to which an HDF5 object refers, if the file is in the object's folder or below.

    Raises
    ------
    ScanError
        The file is outside the folder, or is not a regular file.
    """
    folder = file_of(hdf5_object).parent
    resolved_path = (folder / file_name).resolve()
    if not resolved_path.is_relative_to(folder):
        raise ScanError(
            f"Cannot read {location}: it is in {resolved_path}, outside the file's folder. Copy that file here."
        )
    if not resolved_path.is_file():  # HDF5 would read zeros for a missing file
        raise ScanError(f"Cannot read {location}: it is in {resolved_path}, which does not exist. Copy that file here.")
    return resolved_path


def _follow_link(group: Any, link_name: str, n_link: int) -> Any:
    try:
        link = group.get(link_name, getlink=True)
    except TypeError:  # h5py cannot read links of user-defined types
        return None
    if link is None or isinstance(link, h5py.HardLink):
        return None if link is None else group[link_name]
    location = f"{group.file.filename}::{group.name.rstrip('/')}/{link_name}"
    if n_link >= _MAX_FOLLOWED_LINKS:
        raise ScanError(
            f"Cannot read {location}: this link leads in a circle. Remove the link, or export the file again."
        )
    if isinstance(link, h5py.SoftLink):
        return follow(group, link.path, n_link + 1)
    target_file = neighbour_path(group, link.filename, location)
    try:
        file = open_file(target_file)
    except READ_ERRORS as error:
        raise ScanError(
            f"Cannot read {location}: {target_file} does not open as HDF5 ({first_line(error)}). Copy that file again."
        ) from error
    return follow(file, "/" + link.path, n_link + 1)


def _check_virtual(dataset: Any, location: str, parent_ids: tuple[ObjectId, ...]) -> float:
    virtual_sources = dataset.virtual_sources()
    if len(virtual_sources) > _MAX_VIRTUAL_SOURCES:
        raise ScanError(
            f"Cannot read {location}: a virtual dataset of {len(virtual_sources)} sources; at most "
            f"{_MAX_VIRTUAL_SOURCES} are allowed."
        )
    stored_bytes = 0.0
    for file_name, dataset_path in dict.fromkeys((source.file_name, source.dset_name) for source in virtual_sources):
        stored_bytes += sum(
            _check_source(file, dataset_path, location, parent_ids)
            for file in _source_files(dataset, file_name, location)
        )
    declared_bytes = float(np.prod(dataset.shape, dtype=np.float64)) * dataset.dtype.itemsize
    if declared_bytes > MAX_COMPRESSION_RATIO * stored_bytes:
        raise ScanError(
            f"Cannot read {location}: this virtual dataset declares {dataset.shape} numbers, "
            f"{declared_bytes / 1e6:.0f} MB; its sources contain {stored_bytes / 1e6:.3f} MB, which is impossible. "
            "Create the dataset again, or give one of its sources."
        )
    return stored_bytes


def _check_source(file: Any, dataset_path: str, location: str, parent_ids: tuple[ObjectId, ...]) -> float:
    source_dataset = follow(file, "/" + dataset_path)
    if not isinstance(source_dataset, h5py.Dataset):
        raise ScanError(
            f"Cannot read {location}: its source {dataset_path} is not in {file.filename}. Copy that file again."
        )
    return check_sources(source_dataset, parent_ids)


def _source_files(dataset: Any, file_name: str, location: str) -> list[Any]:
    """Open the file that a virtual dataset names. A name with ``%b`` opens all files numbered like this."""
    if file_name == ".":
        return [dataset.file]
    if "%" not in file_name.replace("%%", ""):
        return [_open_source(neighbour_path(dataset, file_name.replace("%%", "%"), location), location)]
    folder = (file_of(dataset).parent / file_name).parent
    name_pattern = Path(file_name).name.replace("%b", "[0-9]*")
    paths = sorted(folder.glob(name_pattern)) if folder.resolve().is_relative_to(file_of(dataset).parent) else []
    if "%" in name_pattern or not paths:
        raise ScanError(
            f"Cannot read {location}: no file in its folder has the name {file_name} with a number. Copy the files "
            "here."
        )
    return [_open_source(neighbour_path(dataset, str(matching_path), location), location) for matching_path in paths]


def _open_source(path: Path, location: str) -> Any:
    try:
        return open_file(path)
    except READ_ERRORS as error:
        raise ScanError(
            f"Cannot read {location}: its source {path} does not open ({first_line(error)}). Copy that file again."
        ) from error
