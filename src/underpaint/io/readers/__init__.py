"""Readers of file formats, one module per format, which are discovered without a list.

A reader is a module, or any other object, with the attributes of :class:`Reader`:

- ``FORMAT``, a :class:`Format`;
- ``sniff(path, head)``, which returns whether the file or folder is of that format;
- ``read(path, part_name, shape)``, which returns the scan or scans;
- optionally ``read_photographs(path)``, which returns a list of :class:`Photograph`.

Readers of other packages are discovered by entry points of the group ``underpaint.readers``.
``docs/how-to/extending.md`` has an example. Several readers share the modules whose names begin with an underscore.
"""

import pkgutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, Protocol

from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.io._single import FileSpectrum, spectrum_scan
from underpaint.io._source import Cube, first_line, lazy_counts

__all__ = [
    "Cube",
    "FileSpectrum",
    "Format",
    "Photograph",
    "Reader",
    "formats",
    "lazy_counts",
    "reader_of",
    "readers",
    "spectrum_scan",
]

ENTRY_POINTS = "underpaint.readers"
ZIP_MAGIC = b"PK\x03\x04"


@dataclass(frozen=True)
class Format:
    """A file format.

    Parameters
    ----------
    name : str
        Short name for scans and messages.
    title : str
        Title in the table of formats.
    endings : tuple of str
        Usual endings of file names; they are not used to recognise the format.
    recognised_by : str
        Content by which a file is recognised.
    source : str
        Source of its specification.
    priority : int
        Readers are tried in ascending order. A special case of another format needs a lower number, and a format that
        accepts nearly any file needs a higher number.
    parts : bool
        Whether ``FILE::NAME`` picks a part of a file: an array, or one of several spectra.
    store : bool
        Whether a folder is read as one container, so that folders in it are parts, not scans.
    extra : str
        Optional dependency that the reader needs; "" for none.
    written : bool
        Whether ``underpaint convert`` writes the format.
    """

    name: str
    title: str
    endings: tuple[str, ...]
    recognised_by: str
    source: str
    priority: int = 50
    parts: bool = False
    store: bool = False
    extra: str = ""
    written: bool = False


@dataclass(frozen=True)
class Photograph:
    """An image in a file of spectra, such as a mosaic or a camera image.

    Parameters
    ----------
    name : str
        Name in the file.
    pixels : (n_row, n_column) or (n_row, n_column, 3) array
        Unsigned integers as stored; the order of three colours is red, green, blue.
    """

    name: str
    pixels: NDArray[Any]


class Reader(Protocol):
    """Interface of a reader module."""

    FORMAT: Format

    def sniff(self, path: Path, head: bytes, /) -> bool:
        """Return whether a file or folder is of this format, judged quickly by its content.

        Parameters
        ----------
        path : Path
            A file or folder that exists.
        head : bytes
            The first 4096 bytes of a non-empty file; ``b""`` for a folder.
        """

    def read(self, path: Path, part_name: str | None, shape: tuple[int, int] | None, /) -> Scan | list[Scan]:
        """Read one or several scans, with lazy counts (:func:`lazy_counts`).

        Parameters
        ----------
        path : Path
            Path accepted by :meth:`sniff`.
        part_name : str or None
            NAME of ``FILE::NAME``.
        shape : (int, int) or None
            Rows and columns given by the user; the caller reshapes a scan of one row to these.

        Raises
        ------
        ScanError
            The file is damaged or contains no scan.
        """


@cache
def readers() -> tuple[Reader, ...]:
    """Return the readers of this package and of other packages, in the order in which they are tried.

    A reader of another package that cannot be imported is skipped with a warning.
    """
    module_names = (module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    reader_modules: list[Any] = [import_module(f"{__name__}.{module}") for module in module_names]
    return tuple(sorted([*reader_modules, *_external_readers()], key=lambda reader: reader.FORMAT.priority))


def reader_of(path: Path, head: bytes) -> Reader | None:
    """Return the first reader that recognises a file by its first bytes, or a folder (``b""``), or None."""
    return next((reader for reader in readers() if reader.sniff(path, head)), None)


def formats() -> tuple[Format, ...]:
    """Return all formats that can be read, sorted by title."""
    return tuple(sorted((reader.FORMAT for reader in readers()), key=lambda reader_format: reader_format.title.lower()))


def _external_readers() -> Iterator[Any]:
    for entry_point in metadata.entry_points(group=ENTRY_POINTS):
        try:
            reader = entry_point.load()
            _ = reader.FORMAT.priority, reader.sniff, reader.read
        except Exception as error:
            warnings.warn(
                f"The reader {entry_point.name!r} ({entry_point.value}) cannot be used and is skipped: "
                f"{first_line(error)}. "
                "It must have FORMAT, sniff and read; update or remove the package that provides it.",
                stacklevel=2,
            )
        else:
            yield reader
