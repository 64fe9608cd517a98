"""HDF5 files whose groups follow the layout of one program: recognised, and read whole or in part."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._source import told
from underpaint.io.hdf5._links import READ_ERRORS, open_file
from underpaint.io.hdf5._stack import read_named

MAGIC = b"\x89HDF\r\n\x1a\n"


@contextmanager
def open_scan(path: Path) -> Iterator[Any]:
    """Open a file for reading; what h5py raises on damaged ones becomes a ScanError."""
    try:
        with open_file(path) as file:
            yield file
    except ScanError:
        raise
    except READ_ERRORS as error:
        raise ScanError(
            f"Cannot read {path}: the HDF5 file is damaged or locked ({told(error)}). Copy it again."
        ) from error


def has_layout(path: Path, head: bytes, is_layout: Callable[[Any], bool]) -> bool:
    """Whether a file is HDF5, and ``is_layout`` recognises it when it is open.

    Raises
    ------
    ScanError
        It is HDF5, but damaged.
    """
    if not head.startswith(MAGIC):
        return False
    with open_scan(path) as file:
        return is_layout(file)


def read_layout(
    path: Path, name: str | None, shape: tuple[int, int] | None, read: Callable[[Path, Any], list[Scan]]
) -> list[Scan]:
    """Read all scans of a layout, or those at ``name``; what the layout does not know is read as any other array.

    Raises
    ------
    ScanError
        As ``read`` does; the file is damaged; nothing is at ``name``, or no counts.
    """
    with open_scan(path) as file:
        scans = read(path, file)
        if name is None:
            return scans
        inside = "/" + name.strip("/")
        chosen = [scan for scan in scans if f"{scan.source}/".startswith(f"{path}::{inside}/")]
        return chosen or read_named(path, file, name, shape)
