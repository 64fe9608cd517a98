"""Reader of NumPy archives (``.npz``) that contain (row, column, channel) arrays."""

import lzma
import math
import zipfile
import zlib
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan
from underpaint.errors import ScanError
from underpaint.io._axes import channel_dimension
from underpaint.io._detectors import LOCATION_KEY, ArrayLocation
from underpaint.io._energies import axis_of_list
from underpaint.io._source import first_line, lazy_counts, try_read
from underpaint.io.readers import ZIP_MAGIC, Format

FORMAT = Format(
    "numpy .npz",
    "numpy archive",
    endings=(".npz",),
    recognised_by="zip signature with .npy members; nothing is unpickled",
    source="numpy documentation: numpy.lib.format, versions 1.0-3.0",
    parts=True,
)
_ENERGY_NAMES = ("energy", "energies", "energy_kev")
_DAMAGE_ERRORS = (
    zipfile.BadZipFile,
    ValueError,
    TypeError,
    EOFError,
    KeyError,
    RuntimeError,
    OverflowError,
    MemoryError,
)
_DECOMPRESSION_ERRORS = (zlib.error, lzma.LZMAError)
"""Errors that the decompressors raise for damaged archives."""
_MAX_UNCHECKED_BYTES = 256 * 2**20
_MAX_COMPRESSION_RATIO = 300
"""Maximum compression ratio of arrays above ``_MAX_UNCHECKED_BYTES``, since arrays are decompressed in memory. Even a
nearly empty scan has a lower ratio. zlib compresses zeros by a factor of 1000.
"""


class NpzCube:
    """Cube of an array in an archive. The whole array is read at once, since it is compressed as a whole."""

    def __init__(
        self,
        path: Path,
        member: str,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        dimension_order: tuple[int, ...] = (0, 1, 2),
    ) -> None:
        self.path, self.member, self.dtype, self.dimension_order, self.stored_shape = (
            path,
            member,
            dtype,
            dimension_order,
            shape,
        )
        self.shape = (shape[dimension_order[0]], shape[dimension_order[1]], shape[dimension_order[2]])
        self._counts: NDArray[Any] | None = None
        self._lock = Lock()

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Return a rectangle of pixels. The first call reads the whole array."""
        with self._lock:
            if self._counts is None:
                self._counts = np.transpose(
                    _read_member(self.path, self.member).reshape(self.stored_shape), self.dimension_order
                )
        return self._counts[rows, columns]

    def __getstate__(self) -> dict[str, Any]:
        """Return the state without the counts. Another process reads the counts again."""
        return {
            attribute_name: attribute
            for attribute_name, attribute in self.__dict__.items()
            if attribute_name not in {"_counts", "_lock"}
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore the state. The counts will be read again."""
        self.__dict__.update(state, _counts=None, _lock=Lock())


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file begins like a zip archive."""
    return head.startswith(ZIP_MAGIC)


def read(path: Path, part_name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the 3-D arrays of an ``.npz`` file, its lists of spectra if it has no such arrays, or only ``part_name``.

    The energies are in the optional arrays ``gain_kev`` and ``zero_kev``, or in ``energy`` (channel). ``live_time_s``
    is a (row, column) array or a scalar. ``step_mm`` has one number, or one for rows and one for columns.

    Raises
    ------
    ScanError
        There is no 3-D array of numbers, or none called ``part_name``. The message lists the arrays in the file.
    """
    shapes_and_types = try_read(lambda: _array_headers(path), str(path))
    numeric_arrays = {
        array_name: shape_and_dtype
        for array_name, shape_and_dtype in shapes_and_types.items()
        if shape_and_dtype[1].kind in "uif" and 0 not in shape_and_dtype[0]
    }
    cube_names = [array_name for array_name, (shape, _) in numeric_arrays.items() if len(shape) == 3]
    if not cube_names:
        # A 2-D array is a list of spectra if another array holds the energies of its channels. It is read as one row.
        energy_list_lengths = {
            math.prod(numeric_arrays[array_name][0]) for array_name in _ENERGY_NAMES if array_name in numeric_arrays
        }
        spectrum_lists = {
            array_name: shape_and_dtype
            for array_name, shape_and_dtype in numeric_arrays.items()
            if len(shape_and_dtype[0]) == 2 and energy_list_lengths & set(shape_and_dtype[0])
        }
        shapes_and_types |= {array_name: ((1, *shape), dtype) for array_name, (shape, dtype) in spectrum_lists.items()}
        cube_names = list(spectrum_lists)
    if part_name is not None and part_name not in shapes_and_types:
        raise ScanError(
            f"Cannot read {path}::{part_name}: the file has no array of that name, only "
            f"{_array_list(shapes_and_types)}."
        )
    selected_members = cube_names if part_name is None else [member for member in cube_names if member == part_name]
    if not selected_members:
        raise ScanError(
            f"Cannot read {path if part_name is None else f'{path}::{part_name}'} as a scan: a non-empty 3-D array "
            f"(row, column, channel) of numbers is needed; the file contains {_array_list(shapes_and_types)}."
        )
    scan_names = {member: path.stem if len(cube_names) == 1 else f"{path.stem}_{member}" for member in selected_members}
    return [_scan(path, member, shapes_and_types, scan_names[member]) for member in selected_members]


def _scan(
    path: Path, member: str, shapes_and_types: dict[str, tuple[tuple[int, ...], np.dtype[Any]]], scan_name: str
) -> Scan:
    stored_shape, dtype = shapes_and_types[member]
    source = f"{path}::{member}"
    optional_names = ("gain_kev", "zero_kev", "live_time_s", "step_mm", *_ENERGY_NAMES)
    metadata_arrays = {
        array_name: _read_numbers(path, array_name) for array_name in optional_names if array_name in shapes_and_types
    }
    energies = next(
        (metadata_arrays[array_name].ravel() for array_name in _ENERGY_NAMES if array_name in metadata_arrays), None
    )
    energy_list_lengths = () if energies is None else (energies.size,)
    channel_dim, channel_note = channel_dimension(
        stored_shape, energy_list_lengths, lambda slices: _read_member(path, member).reshape(stored_shape)[slices]
    )
    dimension_order = (*(dimension for dimension in range(3) if dimension != channel_dim), channel_dim)
    cube = NpzCube(path, member, stored_shape, dtype, dimension_order)
    axis_notes: tuple[str, ...] = ()
    axis = _axis(metadata_arrays, cube.shape[2])
    if axis is None and energies is not None:
        axis, axis_notes = axis_of_list(energies.astype(np.float64), cube.shape[2])
    if axis is None:
        axis_notes = ("no energy calibration in the file",)
    return Scan(
        lazy_counts(cube, source),
        axis=axis,
        name=scan_name,
        source=source,
        format=FORMAT.name,
        live_time_s=_live_time(metadata_arrays.get("live_time_s"), cube.shape[:2], source),
        step_mm=_step_mm(metadata_arrays.get("step_mm")),
        detector=member.removeprefix("det_") if member.startswith("det_") else "",
        notes=(*((channel_note,) if channel_note else ()), *axis_notes),
        metadata={LOCATION_KEY: ArrayLocation()},
    )


def _array_headers(path: Path) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
    """Return the shape and type of each array from its header."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {
                member.removesuffix(".npy"): _array_header(archive, member)
                for member in archive.namelist()
                if member.endswith(".npy")
            }
    except (*_DAMAGE_ERRORS, *_DECOMPRESSION_ERRORS) as error:
        if isinstance(error, ScanError):
            raise
        raise ScanError(
            f"Cannot read {path}: the .npz archive is damaged ({first_line(error)}). Write or copy the file again."
        ) from error


def _array_header(archive: zipfile.ZipFile, member: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    with archive.open(member) as stream:
        header_version = np.lib.format.read_magic(stream)
        read_header = (
            np.lib.format.read_array_header_1_0 if header_version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, _, dtype = read_header(stream)
        needed_bytes, stored_bytes = (
            math.prod(shape) * dtype.itemsize,
            archive.getinfo(member).file_size - stream.tell(),
        )
    if min((0, *shape)) < 0 or (needed_bytes > stored_bytes and not dtype.hasobject):
        raise ValueError(f"{member} declares {shape} {dtype}, {needed_bytes} bytes, and holds {stored_bytes}")
    _refuse_zip_bomb(f"{archive.filename}::{member.removesuffix('.npy')}", archive.getinfo(member))
    return shape, dtype


def _refuse_zip_bomb(source: str, member: zipfile.ZipInfo) -> None:
    if member.file_size <= max(_MAX_UNCHECKED_BYTES, _MAX_COMPRESSION_RATIO * member.compress_size):
        return
    raise ScanError(
        f"Cannot read {source}: it is compressed {member.file_size / max(member.compress_size, 1):,.0f} times and "
        f"would take {member.file_size / 1e6:,.0f} MB of memory; counts are compressed at most "
        f"{_MAX_COMPRESSION_RATIO} times. "
        "If it is a scan, write it with numpy.savez, which does not compress, or as HDF5."
    )


def _read_member(path: Path, member: str) -> NDArray[Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return np.asarray(archive[member])
    except (*_DAMAGE_ERRORS, *_DECOMPRESSION_ERRORS) as error:
        raise ScanError(
            f"Cannot read {path}::{member}: {first_line(error)}. Write the file again with numpy.savez, plain "
            "numbers only."
        ) from error


def _read_numbers(path: Path, member: str) -> NDArray[Any]:
    member_array = _read_member(path, member)
    if member_array.dtype.kind not in "uif" or member_array.size == 0:
        raise ScanError(
            f"Cannot read {path}::{member}: it holds {member_array.shape} {member_array.dtype}; a number is needed."
        )
    return member_array


def _axis(metadata_arrays: dict[str, NDArray[Any]], n_channel: int) -> EnergyAxis | None:
    if "gain_kev" not in metadata_arrays:
        return None
    zero_kev = float(metadata_arrays["zero_kev"].flat[0]) if "zero_kev" in metadata_arrays else 0.0
    return EnergyAxis(float(metadata_arrays["gain_kev"].flat[0]), zero_kev, n_channel)


def _live_time(stored_times: NDArray[Any] | None, shape: tuple[int, ...], source: str) -> NDArray[np.float64] | None:
    if stored_times is None:
        return None
    if stored_times.size != 1 and stored_times.shape != shape:
        raise ScanError(
            f"Cannot read {source}: live_time_s has the shape {stored_times.shape}; one number or the scan's "
            f"rows and columns {tuple(shape)} are needed."
        )
    return np.array(np.broadcast_to(stored_times.astype(np.float64).reshape(stored_times.shape or ()), shape))


def _step_mm(stored_steps: NDArray[Any] | None) -> tuple[float, float] | None:
    if stored_steps is None or stored_steps.size not in {1, 2}:
        return None
    return float(stored_steps.ravel()[0]), float(stored_steps.ravel()[-1])


def _array_list(shapes_and_types: dict[str, tuple[tuple[int, ...], np.dtype[Any]]]) -> str:
    return (
        ", ".join(f"{array_name} {shape} {dtype}" for array_name, (shape, dtype) in shapes_and_types.items())
        or "no array at all"
    )
