"""TIFF stacks as cubes: an image for each band, in one file or a folder, as the reader of scans takes them."""

from pathlib import Path

from underpaint.io.cubes._parts import CubeParts
from underpaint.io.readers.tiff import open_stack, sniff

__all__ = ["read", "sniff"]


def read(path: Path, name: str | None, n_band: int | None) -> CubeParts:
    """Open a stack; its wavelengths lie beside it.

    Raises
    ------
    ScanError
        It is no stack, or damaged.
    """
    del name, n_band
    return CubeParts(open_stack(path))
