"""Common code of the readers for HDF5 files in the layout of a single program."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._source import first_line
from underpaint.io.hdf5._links import READ_ERRORS, open_file
from underpaint.io.hdf5._stack import read_named

MAGIC = b"\x89HDF\r\n\x1a\n"


@contextmanager
def open_scan(path: Path) -> Iterator[Any]:
    """Open a file for reading, and raise ScanError if it is damaged."""
    try:
        with open_file(path) as file:
            yield file
    except ScanError:
        raise
    except READ_ERRORS as error:
        raise ScanError(
            f"Cannot read {path}: the HDF5 file is damaged or locked ({first_line(error)}). Copy the file again."
        ) from error


@dataclass(frozen=True)
class Layout:
    """Reader of HDF5 files in the layout of one program.

    Parameters
    ----------
    is_layout : callable
        Takes an open file, and returns whether it has the layout.
    read_scans : callable
        Takes the path of a file and the open file, and returns all scans.
    """

    is_layout: Callable[[Any], bool]
    read_scans: Callable[[Path, Any], list[Scan]]

    def sniff(self, path: Path, head: bytes) -> bool:
        """Return whether a file is an HDF5 file with this layout.

        Raises
        ------
        ScanError
            The file is a damaged HDF5 file.
        """
        if not head.startswith(MAGIC):
            return False
        with open_scan(path) as file:
            return self.is_layout(file)

    def read(self, path: Path, part_name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
        """Read all scans of a file, or only those at the path ``part_name`` in the file.

        If ``part_name`` is not part of the layout, it is read as an array.

        Raises
        ------
        ScanError
            The file is damaged or inconsistent, or ``part_name`` does not exist or contains no counts.
        """
        with open_scan(path) as file:
            scans = self.read_scans(path, file)
            if part_name is None:
                return scans
            inner_path = "/" + part_name.strip("/")
            selected_scans = [scan for scan in scans if f"{scan.source}/".startswith(f"{path}::{inner_path}/")]
            return selected_scans or read_named(path, file, part_name, shape)
