"""TIFF stacks as cubes, with an image for each band in one file or a folder."""

from pathlib import Path

from underpaint.io.cubes._parts import CubeParts
from underpaint.io.readers.tiff import open_stack, sniff

__all__ = ["read", "sniff"]


def read(path: Path, part_name: str | None, n_band: int | None) -> CubeParts:
    """Open a TIFF stack, whose wavelengths are in a separate file.

    Raises
    ------
    ScanError
        The file is not a stack, or is damaged.
    """
    del part_name, n_band
    return CubeParts(open_stack(path))
