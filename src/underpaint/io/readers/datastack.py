"""maxrf4u's ``.datastack``: a zarr store in a zip file.

Specification:

- ``maxrf_cube`` (row, column, channel), float32. **Its spectra are smoothed** (a Gaussian of 7 channels) when maxrf4u
  makes the file from a ripple cube, so its counts are no longer Poisson-distributed; the scan's notes say so.
- ``maxrf_energies`` (channel), keV, where maxrf4u has calibrated.
- An array that was written again has underscores behind its name; the one with most is the latest.

Source: maxrf4u 0.1.27, ``maxrf4u/storage.py`` and ``calibration.py``. The extra ``zarr`` brings the library.
"""

import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._energies import axis_of_list
from underpaint.io._source import first_line, lazy_counts, try_read
from underpaint.io.readers import ZIP_MAGIC, Format
from underpaint.io.readers.zarr import zarr_library

FORMAT = Format(
    "maxrf4u .datastack",
    "maxrf4u datastack",
    endings=(".datastack",),
    recognised_by="zip signature with members of a zarr store",
    source="maxrf4u 0.1.27 source, storage.py",
    priority=40,
    parts=True,
    extra="zarr",
)
_CUBE, _ENERGIES = "maxrf_cube", "maxrf_energies"
_MARKS = ("zarr.json", ".zarray")
_MAX_METADATA = 4 * 2**20
_MAX_CHUNK = 2**28
_MAX_RATIO = 10_000
_CODECS = re.compile(r"(numcodecs\.)?(bytes|transpose|crc32c?|blosc|zstd|gzip|zlib|lz4|shuffle|vlen-utf8|default)")


class DatastackCube:
    """The cube; the zip file is opened again for each block, so that any process can read it."""

    def __init__(self, path: Path, name: str, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        self.path, self.name, self.shape, self.dtype = path, name, shape, dtype

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels."""
        return _values(self.path, self.name, (rows, columns))


def sniff(path: Path, head: bytes) -> bool:
    """Whether a zip file contains a zarr store."""
    if not head.startswith(ZIP_MAGIC):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(member.rsplit("/", 1)[-1] in {*_MARKS, ".zgroup"} for member in archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def read(path: Path, name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the cube of a datastack; its counts are read when computed.

    Raises
    ------
    ScanError
        The file is damaged or has no such cube.
    MissingExtraError
        zarr is not installed.
    """
    zarr_library()
    arrays = _arrays(path)
    key = _latest(arrays, name.strip("/") if name else _CUBE)
    size, chunks, dtype = arrays.get(key, ((), (), np.dtype(float)))
    if len(size) != 3 or dtype.kind not in "uif" or 0 in size:
        holds = ", ".join(f"{key} {array[0]}" for key, array in arrays.items()) or "no array"
        raise ScanError(
            f"Cannot read {path}: {name or _CUBE} (row, column, channel) is needed; the zarr store contains {holds}."
        )
    _refuse_sizes(path, key, size, chunks, dtype)
    energies = _latest(arrays, _ENERGIES)
    listed = _energies(path, energies, arrays.get(energies), size[2])
    axis = None if listed is None else axis_of_list(listed, size[2], "kev")[0]
    source = f"{path}::{key}"
    note = "maxrf4u smooths the spectra over 7 channels: counts are not as recorded"
    smoothed = (note,) if key.startswith(_CUBE) else ()
    return [
        Scan(
            lazy_counts(DatastackCube(path, key, (size[0], size[1], size[2]), dtype), source, max(1, chunks[0])),
            axis=axis,
            name=path.stem,
            source=source,
            format=FORMAT.name,
            notes=(*smoothed, *(() if axis is not None else ("no energy calibration in the file",))),
        )
    ]


_Array = tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any]]


def _arrays(path: Path) -> dict[str, _Array]:
    """Shape, chunks and type of each array, from their metadata; nothing else is decompressed."""
    arrays: dict[str, _Array] = {}
    try:
        with try_read(lambda: zipfile.ZipFile(path), str(path)) as archive:
            for member in archive.infolist():
                folder, _, mark = member.filename.rpartition("/")
                if mark in _MARKS and member.file_size <= _MAX_METADATA:
                    record = json.loads(archive.read(member))
                    if isinstance(record, dict) and record.get("node_type", "array") == "array":
                        _refuse_codecs(path, folder, record)
                        arrays[folder] = _array(record)
    except ScanError:
        raise
    except Exception as error:  # zipfile, zlib and json raise whatever they like at damaged files
        raise ScanError(
            f"Cannot read {path}: the zarr store in the zip file is damaged ({first_line(error)}). Copy it again."
        ) from error
    return arrays


def _array(record: dict[str, Any]) -> _Array:
    grid = record["chunks"] if "chunks" in record else record["chunk_grid"]["configuration"]["chunk_shape"]
    kind = str(record.get("data_type", record.get("dtype")))
    dtype = np.dtype(kind) if re.fullmatch(r"[<>|]?[uifb]\d|u?int\d+|float\d+|bool", kind) else np.dtype(object)
    return tuple(int(size) for size in record["shape"]), tuple(int(size) for size in grid), dtype


def _refuse_codecs(path: Path, name: str, record: dict[str, Any]) -> None:
    """A store can name codecs that run code (pickle); only the plain ones are opened."""
    text = json.dumps([record.get(key) for key in ("codecs", "filters", "compressor")])
    names = re.findall(r'"(?:name|id)": "([^"]*)"', text)
    strange = [key for key in names if _CODECS.fullmatch(key) is None]
    if strange:
        raise ScanError(
            f"Cannot read {path}::{name}: it is packed with {', '.join(strange)}, which is not opened here."
        )


def _refuse_sizes(path: Path, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    declared_bytes, chunk = dtype.itemsize, dtype.itemsize
    for length in shape:
        declared_bytes *= length
    for length in chunks:
        chunk *= length
    stored_bytes = path.stat().st_size
    fits = len(shape) == len(chunks) and min(*shape, *chunks) > 0
    if not fits or declared_bytes > _MAX_RATIO * stored_bytes or chunk > max(_MAX_CHUNK, stored_bytes):
        raise ScanError(
            f"Cannot read {path}::{name}: {shape} {dtype} in chunks of {chunks} from {stored_bytes} bytes, which "
            "is impossible. The file is damaged; copy it again."
        )


def _latest(arrays: dict[str, _Array], name: str) -> str:
    return max((key for key in arrays if key.rstrip("_") == name.rstrip("_")), key=len, default=name)


def _energies(path: Path, name: str, array: _Array | None, n_channel: int) -> NDArray[np.float64] | None:
    if array is None or array[0] != (n_channel,) or array[2].kind not in "uif":
        return None
    _refuse_sizes(path, name, *array)
    return np.asarray(_values(path, name, ()), dtype=np.float64)


def _values(path: Path, name: str, key: Any) -> NDArray[Any]:
    library = zarr_library()
    try:
        store = library.storage.ZipStore(path, mode="r", read_only=True)
        try:
            return np.asarray(library.open_array(store, path=name, mode="r")[key])
        finally:
            store.close()
    except Exception as error:  # zarr and its codecs raise whatever they like at damaged data
        raise ScanError(
            f"Cannot read {path}::{name}: the zarr array is damaged ({first_line(error)}). Copy the file again."
        ) from error
