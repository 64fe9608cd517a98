"""Reader of HDF5 files with 3-D arrays of numbers, such as those of NeXus, PyMca and ``underpaint``.

Other programs' layouts have separate readers (``hdf5_*``), which are tried first. :mod:`underpaint.io.hdf5._stack`
describes how channels, calibration and positions are found.
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
    """Read each detector of an HDF5 file as a scan, or only the detectors at the path ``part_name`` in the file.

    The counts are read only when they are computed.

    Parameters
    ----------
    path : Path
        The file, which is opened for reading only.
    part_name : str or None
        Path in the file of a dataset, or of a group that contains a dataset.
    shape : (int, int) or None
        Numbers of rows and columns, if ``part_name`` is a list of spectra (spectrum, channel).

    Raises
    ------
    ScanError
        The file is damaged, has no 3-D array of numbers, or has no such array at ``part_name``.
    """
    with open_scan(path) as file:
        return read_stacks(path, file, shape) if part_name is None else read_named(path, file, part_name, shape)
