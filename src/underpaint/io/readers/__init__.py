"""Readers of file formats. Each module in this package reads one format, and is found automatically.

A reader is a module or another object with the attributes of :class:`Reader`:

- ``FORMAT`` is a :class:`Format`.
- ``sniff(path, head)`` returns whether a file or folder has this format.
- ``read(path, part_name, shape)`` returns one or several scans.
- ``read_photographs(path)`` optionally returns a list of :class:`Photograph`.

Readers in other packages are found by their entry points in the group ``underpaint.readers``.
``docs/how-to/extending.md`` has an example. Modules whose names begin with an underscore are shared by several readers.
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
    """Description of a file format.

    Parameters
    ----------
    name : str
        Short name of the format in scans and messages.
    title : str
        Title of the format in the table of formats.
    endings : tuple of str
        Usual endings of file names, by which the format is not recognised.
    recognised_by : str
        Content by which a file of this format is recognised.
    source : str
        Source of the format's specification.
    priority : int
        Readers with lower numbers are tried first. A special case of another format needs a lower number than that
        format. A format that accepts nearly any file needs a high number.
    parts : bool
        Whether ``FILE::NAME`` selects an array or a spectrum of a file.
    store : bool
        Whether a folder is one container, whose subfolders are parts of a scan and not separate scans.
    extra : str
        Extra of the package that installs the reader's dependency; "" if there is none.
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
    """Image in a file of spectra, such as a camera image or a mosaic of camera images.

    Parameters
    ----------
    name : str
        Name in the file.
    pixels : (n_row, n_column) or (n_row, n_column, 3) array
        Stored unsigned integers. The three colours are red, green and blue.
    """

    name: str
    pixels: NDArray[Any]


class Reader(Protocol):
    """Interface of a reader."""

    FORMAT: Format

    def sniff(self, path: Path, head: bytes, /) -> bool:
        """Return whether a file or folder has this format. The content decides, and the check must be fast.

        Parameters
        ----------
        path : Path
            An existing file or folder.
        head : bytes
            The first 4096 bytes of a file that is not empty; ``b""`` for a folder.
        """

    def read(self, path: Path, part_name: str | None, shape: tuple[int, int] | None, /) -> Scan | list[Scan]:
        """Read one or several scans, whose counts are read only when needed (:func:`lazy_counts`).

        Parameters
        ----------
        path : Path
            A path that :meth:`sniff` has accepted.
        part_name : str or None
            NAME in ``FILE::NAME``; None if not given.
        shape : (int, int) or None
            Numbers of rows and columns, if the user gave them. If the reader returns one row, the caller reshapes it.

        Raises
        ------
        ScanError
            The file is damaged or contains no scan.
        """


@cache
def readers() -> tuple[Reader, ...]:
    """Return the readers of this package and of other packages in the order in which they are tried.

    If a reader of another package cannot be imported, it is skipped with a warning.
    """
    module_names = (module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    reader_modules: list[Any] = [import_module(f"{__name__}.{module}") for module in module_names]
    return tuple(sorted([*reader_modules, *_external_readers()], key=lambda reader: reader.FORMAT.priority))


def reader_of(path: Path, head: bytes) -> Reader | None:
    """Return the first reader that recognises a file or folder, or None. ``head`` is ``b""`` for a folder."""
    return next((reader for reader in readers() if reader.sniff(path, head)), None)


def formats() -> tuple[Format, ...]:
    """Return all readable formats, sorted by title."""
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
