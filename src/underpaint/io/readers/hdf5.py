"""HDF5 files of NeXus, PyMca and ``underpaint``, and all others with 3-D arrays of numbers.

The layouts of other programs have separate readers (``hdf5_*``), which are tried first. The recognition of channels,
calibration and positions is described in :mod:`underpaint.io.hdf5._stack`.
"""

from pathlib import Path

from underpaint.data import Scan
from underpaint.io.hdf5._stack import FORMAT_NAME, read_named, read_stacks
from underpaint.io.hdf5.layouts import MAGIC, open_scan
from underpaint.io.readers import Format

FORMAT = Format(
    FORMAT_NAME,
    "HDF5: PyMca stacks, NXdata, virtual panels",
    endings=(
        ".h5",
        ".hdf5",
        ".nxs",
    ),
    recognised_by="HDF5 signature; then the 3-D arrays inside",
    source="The HDF Group, HDF5 file format 3.0; NeXus NXdata (NIAC); PyMca5 source, HDF5Stack1D",
    parts=True,
    written=True,
)


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file starts with the signature of HDF5."""
    return head.startswith(MAGIC)


def read(path: Path, part_name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the scans of an HDF5 file, one per detector, or only those at the path ``part_name``.

    Counts are read only when the scans' dask arrays are computed.

    Parameters
    ----------
    path : Path
        The file; opened for reading only.
    part_name : str or None
        Path of a dataset, or of a group that contains one.
    shape : (int, int) or None
        Rows and columns, for a named list of spectra (spectrum, channel).

    Raises
    ------
    ScanError
        The file is damaged, or has no 3-D array of numbers of this name.
    """
    with open_scan(path) as file:
        return read_stacks(path, file, shape) if part_name is None else read_named(path, file, part_name, shape)
