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
from underpaint.io._source import lazy_counts, probe, told
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
_LARGEST_METADATA = 4 * 2**20
_LARGEST_CHUNK = 2**28
_LARGEST_RATIO = 10_000
_CODECS = re.compile(r"(numcodecs\.)?(bytes|transpose|crc32c?|blosc|zstd|gzip|zlib|lz4|shuffle|vlen-utf8|default)")


class DatastackCube:
    """The cube; the zip file is opened anew for each block, so that any process can read it."""

    def __init__(self, path: Path, name: str, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        self.path, self.name, self.shape, self.dtype = path, name, shape, dtype

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels."""
        return _values(self.path, self.name, (rows, columns))


def sniff(path: Path, head: bytes) -> bool:
    """Whether a zip file holds a zarr store."""
    if not head.startswith(ZIP_MAGIC):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(own.rsplit("/", 1)[-1] in {*_MARKS, ".zgroup"} for own in archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def read(path: Path, name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the cube of a datastack; its counts are read when computed.

    Raises
    ------
    ScanError
        The file is damaged or holds no such cube.
    MissingExtraError
        zarr is not installed.
    """
    zarr_library()
    arrays = _arrays(path)
    wanted = _latest(arrays, name.strip("/") if name else _CUBE)
    size, chunks, dtype = arrays.get(wanted, ((), (), np.dtype(float)))
    if len(size) != 3 or dtype.kind not in "uif" or 0 in size:
        holds = ", ".join(f"{own} {found[0]}" for own, found in arrays.items()) or "no array"
        raise ScanError(
            f"Cannot read {path}: {name or _CUBE} (row, column, channel) is needed; the zarr store holds {holds}."
        )
    _refuse_sizes(path, wanted, size, chunks, dtype)
    energies = _latest(arrays, _ENERGIES)
    listed = _energies(path, energies, arrays.get(energies), size[2])
    axis = None if listed is None else axis_of_list(listed, size[2], "kev")[0]
    source = f"{path}::{wanted}"
    own = "maxrf4u smooths the spectra over 7 channels: counts are not as recorded"
    smoothed = (own,) if wanted.startswith(_CUBE) else ()
    return [
        Scan(
            lazy_counts(DatastackCube(path, wanted, (size[0], size[1], size[2]), dtype), source, max(1, chunks[0])),
            axis=axis,
            name=path.stem,
            source=source,
            format=FORMAT.name,
            notes=(*smoothed, *(() if axis is not None else ("no energy calibration in the file",))),
        )
    ]


_Array = tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any]]


def _arrays(path: Path) -> dict[str, _Array]:
    """Shape, chunks and type of each array, from their metadata; nothing else is unpacked."""
    found: dict[str, _Array] = {}
    try:
        with probe(lambda: zipfile.ZipFile(path), str(path)) as archive:
            for own in archive.infolist():
                folder, _, mark = own.filename.rpartition("/")
                if mark in _MARKS and own.file_size <= _LARGEST_METADATA:
                    record = json.loads(archive.read(own))
                    if isinstance(record, dict) and record.get("node_type", "array") == "array":
                        _refuse_codecs(path, folder, record)
                        found[folder] = _array(record)
    except ScanError:
        raise
    except Exception as error:  # zipfile, zlib and json raise whatever they like at damaged files
        raise ScanError(
            f"Cannot read {path}: the zarr store in the zip file is damaged ({told(error)}). Copy it again."
        ) from error
    return found


def _array(record: dict[str, Any]) -> _Array:
    grid = record["chunks"] if "chunks" in record else record["chunk_grid"]["configuration"]["chunk_shape"]
    kind = str(record.get("data_type", record.get("dtype")))
    dtype = np.dtype(kind) if re.fullmatch(r"[<>|]?[uifb]\d|u?int\d+|float\d+|bool", kind) else np.dtype(object)
    return tuple(int(own) for own in record["shape"]), tuple(int(own) for own in grid), dtype


def _refuse_codecs(path: Path, name: str, record: dict[str, Any]) -> None:
    """A store can name codecs that run code (pickle); only the plain ones are opened."""
    text = json.dumps([record.get(own) for own in ("codecs", "filters", "compressor")])
    names = re.findall(r'"(?:name|id)": "([^"]*)"', text)
    strange = [own for own in names if _CODECS.fullmatch(own) is None]
    if strange:
        raise ScanError(
            f"Cannot read {path}::{name}: it is packed with {', '.join(strange)}, which is not opened here."
        )


def _refuse_sizes(path: Path, name: str, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    promised, chunk = dtype.itemsize, dtype.itemsize
    for own in shape:
        promised *= own
    for own in chunks:
        chunk *= own
    held = path.stat().st_size
    fits = len(shape) == len(chunks) and min(*shape, *chunks) > 0
    if not fits or promised > _LARGEST_RATIO * held or chunk > max(_LARGEST_CHUNK, held):
        raise ScanError(
            f"Cannot read {path}::{name}: {shape} {dtype} in chunks of {chunks} from {held} bytes, which cannot be. "
            "The file is damaged; copy it again."
        )


def _latest(arrays: dict[str, _Array], name: str) -> str:
    return max((own for own in arrays if own.rstrip("_") == name.rstrip("_")), key=len, default=name)


def _energies(path: Path, name: str, found: _Array | None, n_channel: int) -> NDArray[np.float64] | None:
    if found is None or found[0] != (n_channel,) or found[2].kind not in "uif":
        return None
    _refuse_sizes(path, name, *found)
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
            f"Cannot read {path}::{name}: the zarr array is damaged ({told(error)}). Copy the file again."
        ) from error
