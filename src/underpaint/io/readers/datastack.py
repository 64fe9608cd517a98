"""Reader of maxrf4u's ``.datastack`` files, which are zarr stores in zip files.

Specification:

- ``maxrf_cube`` (row, column, channel) holds the counts as float32. When maxrf4u converts a ripple cube, it **smooths
  the spectra** with a Gaussian of 7 channels. Smoothed counts are not Poisson-distributed, so the scan has a note.
- ``maxrf_energies`` (channel) holds the energies in keV, if the scan was calibrated in maxrf4u.
- If an array is written again, an underscore is appended to its name, so the array with the longest name is the latest.

Source: maxrf4u 0.1.27, ``maxrf4u/storage.py`` and ``calibration.py``. The extra ``zarr`` installs the zarr library.
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
_CUBE_NAME, _ENERGIES_NAME = "maxrf_cube", "maxrf_energies"
_METADATA_NAMES = ("zarr.json", ".zarray")
_MAX_METADATA_BYTES = 4 * 2**20
_MAX_CHUNK_BYTES = 2**28
_MAX_COMPRESSION_RATIO = 10_000
_ALLOWED_CODECS = re.compile(
    r"(numcodecs\.)?(bytes|transpose|crc32c?|blosc|zstd|gzip|zlib|lz4|shuffle|vlen-utf8|default)"
)


class DatastackCube:
    """Cube of a datastack, whose zip file is opened again for each block, so that any process can read the cube."""

    def __init__(self, path: Path, array_name: str, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> None:
        self.path, self.name, self.shape, self.dtype = path, array_name, shape, dtype

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels."""
        return _read_array(self.path, self.name, (rows, columns))


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file is a zip file that contains a zarr store."""
    if not head.startswith(ZIP_MAGIC):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(member.rsplit("/", 1)[-1] in {*_METADATA_NAMES, ".zgroup"} for member in archive.namelist())
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError):
        return False


def read(path: Path, part_name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the cube of a datastack, whose counts are read only when they are computed.

    Raises
    ------
    ScanError
        The file is damaged, or does not contain the requested cube.
    MissingExtraError
        The zarr library is not installed.
    """
    zarr_library()
    array_headers = _array_headers(path)
    array_name = _latest_name(array_headers, part_name.strip("/") if part_name else _CUBE_NAME)
    array_shape, chunk_shape, dtype = array_headers.get(array_name, ((), (), np.dtype(float)))
    if len(array_shape) != 3 or dtype.kind not in "uif" or 0 in array_shape:
        array_list = (
            ", ".join(f"{array_name} {array_header[0]}" for array_name, array_header in array_headers.items())
            or "no array"
        )
        raise ScanError(
            f"Cannot read {path}: {part_name or _CUBE_NAME} (row, column, channel) is needed; the zarr store contains "
            f"{array_list}."
        )
    _refuse_sizes(path, array_name, array_shape, chunk_shape, dtype)
    energies_name = _latest_name(array_headers, _ENERGIES_NAME)
    energies_kev = _read_energies(path, energies_name, array_headers.get(energies_name), array_shape[2])
    axis = None if energies_kev is None else axis_of_list(energies_kev, array_shape[2], "kev")[0]
    source = f"{path}::{array_name}"
    smoothing_text = "maxrf4u smooths the spectra over 7 channels: counts are not as recorded"
    smoothing_note = (smoothing_text,) if array_name.startswith(_CUBE_NAME) else ()
    return [
        Scan(
            lazy_counts(
                DatastackCube(path, array_name, (array_shape[0], array_shape[1], array_shape[2]), dtype),
                source,
                max(1, chunk_shape[0]),
            ),
            axis=axis,
            name=path.stem,
            source=source,
            format=FORMAT.name,
            notes=(*smoothing_note, *(() if axis is not None else ("no energy calibration in the file",))),
        )
    ]


_ArrayHeader = tuple[tuple[int, ...], tuple[int, ...], np.dtype[Any]]


def _array_headers(path: Path) -> dict[str, _ArrayHeader]:
    """Return the shape, chunk shape and type of each array from the metadata. No counts are decompressed."""
    array_headers: dict[str, _ArrayHeader] = {}
    try:
        with try_read(lambda: zipfile.ZipFile(path), str(path)) as archive:
            for archive_member in archive.infolist():
                array_name, _, file_name = archive_member.filename.rpartition("/")
                if file_name in _METADATA_NAMES and archive_member.file_size <= _MAX_METADATA_BYTES:
                    metadata = json.loads(archive.read(archive_member))
                    if isinstance(metadata, dict) and metadata.get("node_type", "array") == "array":
                        _refuse_codecs(path, array_name, metadata)
                        array_headers[array_name] = _array_header(metadata)
    except ScanError:
        raise
    except Exception as error:  # zipfile, zlib and json raise many kinds of errors for damaged files
        raise ScanError(
            f"Cannot read {path}: the zarr store in the zip file is damaged ({first_line(error)}). Copy the file again."
        ) from error
    return array_headers


def _array_header(metadata: dict[str, Any]) -> _ArrayHeader:
    chunk_shape = metadata["chunks"] if "chunks" in metadata else metadata["chunk_grid"]["configuration"]["chunk_shape"]
    type_name = str(metadata.get("data_type", metadata.get("dtype")))
    dtype = (
        np.dtype(type_name) if re.fullmatch(r"[<>|]?[uifb]\d|u?int\d+|float\d+|bool", type_name) else np.dtype(object)
    )
    return (
        tuple(int(dimension_size) for dimension_size in metadata["shape"]),
        tuple(int(dimension_size) for dimension_size in chunk_shape),
        dtype,
    )


def _refuse_codecs(path: Path, array_name: str, metadata: dict[str, Any]) -> None:
    """Refuse unknown codecs, since some, such as pickle, can run code."""
    codecs_text = json.dumps([metadata.get(codec_name) for codec_name in ("codecs", "filters", "compressor")])
    codec_names = re.findall(r'"(?:name|id)": "([^"]*)"', codecs_text)
    refused_codecs = [codec_name for codec_name in codec_names if _ALLOWED_CODECS.fullmatch(codec_name) is None]
    if refused_codecs:
        raise ScanError(
            f"Cannot read {path}::{array_name}: it is encoded with {', '.join(refused_codecs)}, which is not allowed."
        )


def _refuse_sizes(
    path: Path, array_name: str, shape: tuple[int, ...], chunk_shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    declared_bytes, chunk_bytes = dtype.itemsize, dtype.itemsize
    for dimension_size in shape:
        declared_bytes *= dimension_size
    for dimension_size in chunk_shape:
        chunk_bytes *= dimension_size
    stored_bytes = path.stat().st_size
    is_consistent = len(shape) == len(chunk_shape) and min(*shape, *chunk_shape) > 0
    if (
        not is_consistent
        or declared_bytes > _MAX_COMPRESSION_RATIO * stored_bytes
        or chunk_bytes > max(_MAX_CHUNK_BYTES, stored_bytes)
    ):
        raise ScanError(
            f"Cannot read {path}::{array_name}: {shape} {dtype} in chunks of {chunk_shape} from {stored_bytes} "
            "bytes, which "
            "is impossible. The file is damaged; copy the file again."
        )


def _latest_name(array_headers: dict[str, _ArrayHeader], base_name: str) -> str:
    return max(
        (array_name for array_name in array_headers if array_name.rstrip("_") == base_name.rstrip("_")),
        key=len,
        default=base_name,
    )


def _read_energies(
    path: Path, array_name: str, header: _ArrayHeader | None, n_channel: int
) -> NDArray[np.float64] | None:
    if header is None or header[0] != (n_channel,) or header[2].kind not in "uif":
        return None
    _refuse_sizes(path, array_name, *header)
    return np.asarray(_read_array(path, array_name, ()), dtype=np.float64)


def _read_array(path: Path, array_name: str, slices: Any) -> NDArray[Any]:
    zarr_module = zarr_library()
    try:
        store = zarr_module.storage.ZipStore(path, mode="r", read_only=True)
        try:
            return np.asarray(zarr_module.open_array(store, path=array_name, mode="r")[slices])
        finally:
            store.close()
    except Exception as error:  # zarr and its codecs raise many kinds of errors for damaged data
        raise ScanError(
            f"Cannot read {path}::{array_name}: the zarr array is damaged ({first_line(error)}). Copy the file again."
        ) from error
