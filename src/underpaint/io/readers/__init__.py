"""The readers of file formats: each module here reads one format, and none of them is listed anywhere.

A reader is a module (or any other object) with these attributes, see :class:`Reader`:

- ``FORMAT``, a :class:`Format`;
- ``sniff(path, head)``, whether the file or folder is of that format;
- ``read(path, name, shape)``, its scan or scans;
- where files hold photographs, ``read_photographs(path)``, a list of :class:`Photograph`.

Readers of other packages are found by entry points of the group ``underpaint.readers``; ``docs/how-to/extending.md``
has an example. Modules whose names begin with an underscore are not readers but parts of them.
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
        Usual endings; they play no part in recognising it.
    recognised_by : str
        Content by which a file is recognised.
    source : str
        Source of its specification.
    priority : int
        Readers are tried in the order of these numbers; a format that is a special case of another one needs a lower
        number, one that accepts nearly everything a higher one.
    parts : bool
        Whether ``FILE::NAME`` picks a part of a file: an array, or one of several spectra.
    store : bool
        Whether a folder is read as one container, so that folders in it are parts, not scans.
    extra : str
        Optional dependency that it needs; "" for none.
    written : bool
        Whether ``underpaint convert`` writes it.
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
    """An image in a file of spectra: the mosaic, a camera's, a detector's.

    Parameters
    ----------
    name : str
        As the file calls it.
    pixels : (n_row, n_column) or (n_row, n_column, 3) array
        Unsigned integers as stored; three colours are red, green, blue.
    """

    name: str
    pixels: NDArray[Any]


class Reader(Protocol):
    """Interface of a reader module."""

    FORMAT: Format

    def sniff(self, path: Path, head: bytes, /) -> bool:
        """Return whether a file or folder is of this format, by its content; must not read or import anything large.

        Parameters
        ----------
        path : Path
            A file or folder that exists.
        head : bytes
            The first 4096 bytes of a file, which is not empty; ``b""`` of a folder.
        """

    def read(self, path: Path, name: str | None, shape: tuple[int, int] | None, /) -> Scan | list[Scan]:
        """Read a scan or several; counts are read lazily (:func:`lazy_counts`).

        Parameters
        ----------
        path : Path
            Path accepted by :meth:`sniff`.
        name : str or None
            NAME of ``FILE::NAME``.
        shape : (int, int) or None
            Rows and columns given by the user; a single row of all spectra is reshaped to them afterwards.

        Raises
        ------
        ScanError
            The file is damaged or contains no scan.
        """


@cache
def readers() -> tuple[Reader, ...]:
    """Return the readers of this package and of others, in the order in which they are tried.

    A reader of another package that cannot be imported is skipped with a warning.
    """
    modules = (module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))
    modules_found: list[Any] = [import_module(f"{__name__}.{module}") for module in modules]
    return tuple(sorted([*modules_found, *_of_other_packages()], key=lambda reader: reader.FORMAT.priority))


def reader_of(path: Path, head: bytes) -> Reader | None:
    """Return the first reader that recognises a file by its first bytes, or a folder (``b""``); else None."""
    return next((reader for reader in readers() if reader.sniff(path, head)), None)


def formats() -> tuple[Format, ...]:
    """Return all formats that are read, by their titles."""
    return tuple(sorted((reader.FORMAT for reader in readers()), key=lambda file_format: file_format.title.lower()))


def _of_other_packages() -> Iterator[Any]:
    for entry in metadata.entry_points(group=ENTRY_POINTS):
        try:
            reader = entry.load()
            _ = reader.FORMAT.priority, reader.sniff, reader.read
        except Exception as error:
            warnings.warn(
                f"The reader {entry.name!r} ({entry.value}) cannot be used and is skipped: {first_line(error)}. "
                "It must have FORMAT, sniff and read; update or remove the package that brings it.",
                stacklevel=2,
            )
        else:
            yield reader
