"""Reader of zarr stores (version 2 or 3) with (row, column, channel) arrays and metadata in attributes.

``underpaint convert`` writes the array ``counts``, or ``<detector>/counts`` for each of several detectors. ``underpaint
convert`` writes every chunk, even if a chunk contains only zeros. The attributes of ``counts`` are ``gain_kev``,
``zero_kev``, ``step_mm``, ``detector``, ``notes`` and ``metadata``. The same group contains the arrays ``live_time_s``,
``real_time_s`` and ``present``, if known. The extra ``zarr`` installs the library.

Source: zarr core specification 3.0 (2023) and 2 (2019), zarr-specs.readthedocs.io.

Codecs that can run code, such as pickle, and links out of the store are refused before the store is opened.

Blosc does not check the sizes in the header of a compressed buffer, so a damaged buffer can end the process. The header
is therefore checked before decompression. Source: c-blosc 1.21, README_CHUNK_FORMAT.rst.
"""

import json
import math
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan
from underpaint.errors import CalibrationError, MissingExtraError, ScanError
from underpaint.io._axes import ENERGY_NAME, channel_dimension
from underpaint.io._detectors import LOCATION_KEY, ArrayLocation
from underpaint.io._energies import Axis, axis_of_list
from underpaint.io._hyperspy import EXPERIMENTS_GROUP, TIME_PATHS, Signal, read_axes, valid_seconds
from underpaint.io._source import first_line, is_outside, lazy_counts, try_read
from underpaint.io.readers import Format

FORMAT = Format(
    "zarr",
    "zarr store, version 2 or 3",
    endings=(".zarr",),
    recognised_by="a folder with zarr.json, .zgroup or .zarray",
    source="zarr-specs.readthedocs.io, core specification 2 and 3.0",
    priority=30,
    parts=True,
    store=True,
    extra="zarr",
    written=True,
)
_METADATA_NAMES = ("zarr.json", ".zgroup", ".zarray")
_NON_CHUNK_NAMES = {*_METADATA_NAMES, ".zattrs", ".zmetadata"}
_ALLOWED_CODECS = {
    *("bytes", "transpose", "crc32c", "sharding_indexed", "blosc", "zstd", "gzip", "zlib", "lz4", "lzma", "bz2"),
    *("shuffle", "bitshuffle", "delta", "crc32", "adler32", "fletcher32", "default"),
}
_ENERGY_NAMES = ("energy", "energies")
_MAX_METADATA_BYTES = 4 * 2**20
_MAX_CHUNK_BYTES = 2**30
_MAX_UNCHECKED_CHUNK_BYTES = 64 * 2**20
_MAX_COMPRESSION_RATIO = 100
"""Maximum compression ratio of chunks above ``_MAX_UNCHECKED_CHUNK_BYTES``. Counts do not reach this ratio."""


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a folder is a zarr store."""
    return not head and any((path / file_name).is_file() for file_name in _METADATA_NAMES)


def zarr_library() -> Any:
    """Import and return the zarr library.

    Raises
    ------
    MissingExtraError
        The zarr library is not installed.
    """
    try:
        return import_module("zarr")
    except ImportError as error:
        raise MissingExtraError(
            'Cannot use zarr stores: zarr is not installed. Run `pip install "underpaint[zarr]"`, or use HDF5.'
        ) from error


def wait_for_zarr() -> None:
    """Wait until zarr has written all pending chunks. zarr continues to write chunks after an error."""
    import asyncio  # slow to import

    async def wait_for_others() -> None:
        pending_tasks = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*pending_tasks, return_exceptions=True)

    import_module("zarr.core.sync").sync(wait_for_others())


def read(path: Path, part_name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the cubes of a store, or only the array ``part_name``.

    If cubes are called ``counts`` or ``data``, all other cubes are ignored.

    Raises
    ------
    ScanError
        There is no 3-D array of numbers, or none called ``part_name``. A link leads out of the store, a codec is
        unknown, or a chunk is missing.
    MissingExtraError
        The zarr library is not installed.
    """
    zarr_library()
    _refuse_links(path)
    cubes = {node.name: node for node in _array_nodes(path) if len(node.shape) in {2, 3} and node.dtype.kind in "uif"}
    signals = {array_name: node for array_name, node in cubes.items() if _read_signal(node) is not None}
    cubes = signals or {array_name: node for array_name, node in cubes.items() if len(node.shape) == 3}
    preferred_cubes = {
        array_name: node for array_name, node in cubes.items() if array_name.rsplit("/", 1)[-1] in {"counts", "data"}
    } or cubes
    selected_cubes = (
        preferred_cubes
        if part_name is None
        else {
            array_name: node
            for array_name, node in cubes.items()
            if f"{array_name}/".startswith(f"{part_name.strip('/')}/")
        }
    )
    if not selected_cubes:
        array_list = ", ".join(f"{array_name} {node.shape}" for array_name, node in cubes.items()) or "none"
        raise ScanError(
            f"Cannot read {path if part_name is None else f'{path}::{part_name}'} as a scan: a 3-D array (row, "
            "column, channel) "
            f"of numbers is needed; the zarr store contains {array_list}."
        )
    return [_scan(path, node, is_single=len(selected_cubes) == 1) for node in selected_cubes.values()]


@dataclass(frozen=True)
class Node:
    """Array in a store, as its metadata file describes it."""

    name: str
    folder: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    attributes: dict[str, Any]
    blosc: bool = False
    """Whether each chunk file is a Blosc buffer."""
    dimensions: tuple[str, ...] = ()
    """Names of the dimensions; empty if the store does not name them."""


class ZarrCube:
    """Cube of an array in a store. The store is opened again for each block, so that any process can read the cube."""

    def __init__(self, node: Node, dimension_order: tuple[int, ...]) -> None:
        self.node, self.dtype, self.dimension_order = node, node.dtype, dimension_order
        n_row, n_column, n_channel = (1, *(node.shape[dimension] for dimension in dimension_order))[-3:]
        self.shape = (n_row, n_column, n_channel)

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels. A list of spectra is one row."""
        slices = dict(
            zip(self.dimension_order, (rows, columns) if len(self.dimension_order) == 3 else (columns,), strict=False)
        )
        stored_values = _read_values(
            self.node, tuple(slices.get(dimension, slice(None)) for dimension in range(len(self.dimension_order)))
        )
        stored_values = np.transpose(stored_values, self.dimension_order)
        return np.ascontiguousarray(stored_values if len(self.dimension_order) == 3 else stored_values[None][rows])


def _read_values(node: Node, slices: Any = ()) -> NDArray[Any]:
    zarr_module = zarr_library()
    try:
        zarr_array = zarr_module.open_array(_open_store(node), mode="r")
        stored_values = np.asarray(zarr_array[slices])
    except Exception as error:  # zarr and its codecs raise many kinds of errors for damaged data
        raise ScanError(
            f"Cannot read {node.folder}: the zarr array is damaged ({first_line(error)}). Copy the store again."
        ) from error
    if stored_values.dtype.kind not in "buif":
        raise ScanError(f"Cannot read {node.folder}: the zarr array contains {stored_values.dtype}, not numbers.")
    return stored_values


def _open_store(node: Node) -> Any:
    if not node.blosc:
        return zarr_library().storage.LocalStore(node.folder, read_only=True)
    return _checking_store()(node.folder, math.prod(node.chunks) * node.dtype.itemsize)


@lru_cache(maxsize=1)
def _checking_store() -> Any:
    """Return a class of zarr stores that check each Blosc chunk before zarr decompresses it."""
    local_store: Any = zarr_library().storage.LocalStore

    class BloscStore(local_store):  # type: ignore[misc]
        """Store of one array whose chunks are Blosc buffers of known decompressed size."""

        def __init__(self, folder: Path, chunk_bytes: int) -> None:
            super().__init__(folder, read_only=True)
            self.chunk_bytes = chunk_bytes

        async def get(self, key: str, *arguments: Any, **keywords: Any) -> Any:
            return self._checked_buffer(key, await super().get(key, *arguments, **keywords))

        def get_sync(self, key: str, *arguments: Any, **keywords: Any) -> Any:
            return self._checked_buffer(key, super().get_sync(key, *arguments, **keywords))

        def _checked_buffer(self, key: str, buffer: Any) -> Any:
            if buffer is None or key.rsplit("/", 1)[-1] in _NON_CHUNK_NAMES:
                return buffer
            fault = blosc_fault(buffer.to_bytes(), self.chunk_bytes)
            if fault:
                raise ScanError(fault)
            return buffer

    return BloscStore


def _refuse_links(path: Path) -> None:
    for folder, folders, files in os.walk(path):
        for entry_path in (Path(folder) / entry_name for entry_name in (*folders, *files)):
            if is_outside(entry_path, path):
                raise ScanError(
                    f"Cannot read {path}: {entry_path.relative_to(path)} is a link that leads out of the store."
                )


def _array_nodes(path: Path) -> Iterator[Node]:
    for folder, folders, files in os.walk(path):
        folders.sort()
        array_folder = Path(folder)
        array_metadata = next(
            (_read_json(array_folder / file_name) for file_name in ("zarr.json", ".zarray") if file_name in files), None
        )
        if array_metadata is None or array_metadata.get("node_type", "array") != "array":
            continue
        folders.clear()  # the folder of an array contains no other arrays
        yield _read_node(path, array_folder, array_metadata)


def _read_node(path: Path, folder: Path, array_metadata: dict[str, Any]) -> Node:
    refused_codecs = sorted(
        {codec for codec in _codec_names(array_metadata) if codec.removeprefix("numcodecs.") not in _ALLOWED_CODECS}
    )
    if refused_codecs:
        raise ScanError(
            f"Cannot read {folder}: the zarr array is encoded with {', '.join(refused_codecs)}, which is not allowed."
        )
    try:
        shape = tuple(int(dimension_size) for dimension_size in array_metadata["shape"])
        stored_chunk_shape = (
            array_metadata["chunks"]
            if "chunks" in array_metadata
            else array_metadata["chunk_grid"]["configuration"]["chunk_shape"]
        )
        chunk_shape = tuple(int(dimension_size) for dimension_size in stored_chunk_shape)
        dtype = np.dtype(str(array_metadata.get("data_type", array_metadata.get("dtype"))))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ScanError(
            f"Cannot read {folder}: the zarr array's metadata is incomplete ({error}). Copy the store again."
        ) from error
    _refuse_sizes(folder, shape, chunk_shape, dtype)
    stored_attributes = (
        _read_json(folder / ".zattrs") if (folder / ".zattrs").is_file() else array_metadata.get("attributes")
    )
    attributes = stored_attributes if isinstance(stored_attributes, dict) else {}
    name = "/".join(folder.relative_to(path).parts)
    dimension_names = array_metadata.get("dimension_names") or attributes.get("_ARRAY_DIMENSIONS") or ()
    dimensions = (
        tuple(str(name) for name in dimension_names)
        if isinstance(dimension_names, list) and len(dimension_names) == len(shape)
        else ()
    )
    return Node(name, folder, shape, dtype, chunk_shape, attributes, _is_blosc(array_metadata), dimensions)


def _is_blosc(array_metadata: dict[str, Any]) -> bool:
    """Return whether Blosc is the last codec of an array, so that each chunk file is a Blosc buffer."""
    codecs = array_metadata.get("codecs")
    last_codec = (
        array_metadata.get("compressor")
        if codecs is None
        else codecs[-1]
        if isinstance(codecs, list) and codecs
        else None
    )
    return (
        isinstance(last_codec, dict)
        and str(last_codec.get("name", last_codec.get("id"))).removeprefix("numcodecs.") == "blosc"
    )


def _refuse_sizes(folder: Path, shape: tuple[int, ...], chunk_shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    are_sizes_consistent = len(shape) == len(chunk_shape) and all(
        dimension_size > 0 for dimension_size in (*shape, *chunk_shape)
    )
    if not are_sizes_consistent or math.prod(chunk_shape) * dtype.itemsize > _MAX_CHUNK_BYTES:
        raise ScanError(
            f"Cannot read {folder}: a zarr array of shape {shape} in chunks of {chunk_shape}; chunks must be "
            f"of the same number of dimensions and at most {_MAX_CHUNK_BYTES} bytes."
        )
    chunk_bytes = math.prod(chunk_shape) * dtype.itemsize
    if chunk_bytes > _MAX_UNCHECKED_CHUNK_BYTES and chunk_bytes > _MAX_COMPRESSION_RATIO * _stored_bytes(folder):
        raise ScanError(
            f"Cannot read {folder}: a zarr array in chunks of {chunk_shape} {dtype}, {chunk_bytes / 1e6:.0f} MB "
            "each, and "
            f"all its files hold {_stored_bytes(folder) / 1e6:.3f} MB. The store is damaged or cut off; copy the "
            "store again."
        )
    if len(shape) == 3 and shape[1] * shape[2] * dtype.itemsize > _MAX_CHUNK_BYTES:
        raise ScanError(f"Cannot read {folder}: one row of a zarr array of shape {shape} does not fit into memory.")


def _stored_bytes(folder: Path) -> int:
    return sum(
        (Path(directory) / file_name).stat().st_size for directory, _, files in os.walk(folder) for file_name in files
    )


def _codec_names(array_metadata: Any) -> Iterator[str]:
    """Yield the names of all codecs in an array's metadata, including codecs inside other codecs."""
    codec_lists = [array_metadata.get(codecs_key) for codecs_key in ("codecs", "index_codecs", "filters", "compressor")]
    for codec_list in codec_lists:
        for codec in codec_list if isinstance(codec_list, list) else [codec_list] if codec_list else []:
            if isinstance(codec, dict):
                yield str(codec.get("name", codec.get("id")))
                codec_configuration = codec.get("configuration")
                yield from _codec_names(codec_configuration) if isinstance(codec_configuration, dict) else ()
            else:
                yield str(codec)


def _read_json(path: Path) -> dict[str, Any]:
    if try_read(path.stat, str(path)).st_size > _MAX_METADATA_BYTES:
        raise ScanError(f"Cannot read {path}: metadata of a zarr array has at most {_MAX_METADATA_BYTES} bytes.")
    try:
        metadata = json.loads(try_read(path.read_bytes, str(path)))
    except (ValueError, RecursionError) as error:
        raise ScanError(
            f"Cannot read {path}: the metadata of the zarr store is damaged ({error}). Copy the store again."
        ) from error
    if not isinstance(metadata, dict):
        raise ScanError(
            f"Cannot read {path}: the metadata of the zarr store is not a JSON object. Copy the store again."
        )
    return metadata


def _scan(path: Path, node: Node, *, is_single: bool) -> Scan:
    _refuse_missing_chunks(node)
    signal, attributes = _read_signal(node), node.attributes
    dimension_order, dimension_note = ((*signal.dimension_order,), "") if signal is not None else _dimension_order(node)
    cube = ZarrCube(node, dimension_order)
    axis, unit_notes = (signal.axis, signal.notes) if signal is not None else _axis(node, cube.shape[2])
    notes, metadata = attributes.get("notes"), attributes.get("metadata")
    calibration_notes = unit_notes if axis is not None else ("no energy calibration in the store",)
    hyperspy_times = _hyperspy_times(node) if signal is not None else {}
    live_time, real_time = (
        np.full(cube.shape[:2], hyperspy_times[time_name])
        if time_name in hyperspy_times
        else _sibling_array(node, f"{time_name}_s", cube.shape[:2])
        for time_name in ("live_time", "real_time")
    )
    array_location = ArrayLocation("/" + node.name.rpartition("/")[0] if signal is not None else "")
    # Every array that ``underpaint convert`` writes is a detector, so none is left out.
    location_metadata = {} if "n_chunk_written" in attributes else {LOCATION_KEY: array_location}
    is_present = _sibling_array(node, "present", cube.shape[:2])
    row_multiple = (
        max(1, min(node.chunks[dimension_order[0]], node.shape[dimension_order[0]])) if len(dimension_order) == 3 else 1
    )
    return Scan(
        lazy_counts(cube, f"{path}::{node.name}", row_multiple),
        axis=axis,
        name=path.stem if is_single else f"{path.stem}_{node.name.replace('/', '_')}",
        source=f"{path}::{node.name}",
        format=FORMAT.name,
        live_time_s=live_time,
        real_time_s=real_time,
        step_mm=_step_mm_of(attributes.get("step_mm")) if signal is None else signal.step_mm,
        detector=str(attributes.get("detector", "")),
        present=None if is_present is None else is_present.astype(bool),
        notes=(
            *(map(str, notes) if isinstance(notes, list) else ()),
            *((dimension_note,) if dimension_note else ()),
            *calibration_notes,
        ),
        metadata={**(metadata if isinstance(metadata, dict) else {}), **location_metadata},
    )


def _dimension_order(node: Node) -> tuple[tuple[int, ...], str]:
    """Return the indices of the row, column and channel dimensions, and a note if they are a guess ("" otherwise)."""
    named_dimensions = [
        dimension for dimension, dimension_name in enumerate(node.dimensions) if ENERGY_NAME.search(dimension_name)
    ]
    if len(named_dimensions) == 1:
        channel_dim, dimension_note = named_dimensions[0], ""
    else:
        list_lengths = tuple(
            sibling.shape[0] for sibling in _sibling_nodes(node, _ENERGY_NAMES) if len(sibling.shape) == 1
        )
        channel_dim, dimension_note = channel_dimension(
            node.shape, list_lengths, lambda slices: _read_values(node, slices)
        )
    return (
        *(dimension for dimension in range(len(node.shape)) if dimension != channel_dim),
        channel_dim,
    ), dimension_note


# --- HyperSpy's .zspy --------------------------------------------------------------------------------


def _read_signal(node: Node) -> Signal | None:
    """Return the signal that the attributes of HyperSpy's axes describe, or None if there are no such attributes."""
    path_parts = node.name.split("/")
    if len(path_parts) != 3 or (path_parts[0], path_parts[2]) != (EXPERIMENTS_GROUP, "data"):
        return None
    folder = node.folder.parent
    return read_axes(
        [_group_attributes(folder / f"axis-{dimension}") for dimension in range(len(node.shape))], node.shape
    )


def _hyperspy_times(node: Node) -> dict[str, float]:
    for time_path in TIME_PATHS:
        group_attributes = _group_attributes(node.folder.parent / time_path)
        times_s = {
            time_name: valid_seconds(group_attributes.get(time_name)) for time_name in ("live_time", "real_time")
        }
        if any(times_s.values()):
            return {time_name: time_s for time_name, time_s in times_s.items() if time_s is not None}
    return {}


def _group_attributes(folder: Path) -> dict[str, Any]:
    """Return the attributes of a group, or an empty dict if the folder is not a group."""
    if (folder / ".zattrs").is_file():
        return _read_json(folder / ".zattrs")
    group_metadata = _read_json(folder / "zarr.json") if (folder / "zarr.json").is_file() else {}
    attributes = group_metadata.get("attributes")
    return attributes if isinstance(attributes, dict) else {}


def _refuse_missing_chunks(node: Node) -> None:
    """Raise ScanError if chunks are missing and the attributes of the array state that all chunks were written."""
    n_written_chunk = node.attributes.get("n_chunk_written")
    if not isinstance(n_written_chunk, int):
        return
    n_stored_chunk = sum(len(files) for folder, _, files in os.walk(node.folder / "c"))
    if n_stored_chunk < n_written_chunk:
        raise ScanError(
            f"Cannot read {node.folder}: {n_written_chunk} chunks were written, {n_stored_chunk} exist. Copy the "
            "store again."
        )


def _axis(node: Node, n_channel: int) -> Axis:
    attributes = node.attributes
    try:
        return EnergyAxis(float(attributes["gain_kev"]), float(attributes.get("zero_kev", 0.0)), n_channel), ()
    except (KeyError, TypeError, ValueError, CalibrationError):
        pass
    energies = next((sibling for sibling in _sibling_nodes(node, _ENERGY_NAMES) if sibling.shape == (n_channel,)), None)
    if energies is None:
        return None, ()
    unit = str(energies.attributes.get("units", "")).lower()
    known_unit = unit if unit in {"kev", "ev"} else ""
    return axis_of_list(np.asarray(_read_values(energies), dtype=np.float64), n_channel, known_unit)


def _step_mm_of(stored_step: Any) -> tuple[float, float] | None:
    if not (
        isinstance(stored_step, list)
        and len(stored_step) == 2
        and all(isinstance(step_value, int | float) for step_value in stored_step)
    ):
        return None
    return float(stored_step[0]), float(stored_step[1])


def _sibling_array(node: Node, array_name: str, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    sibling = next(
        (sibling_node for sibling_node in _sibling_nodes(node, (array_name,)) if sibling_node.shape == shape), None
    )
    return None if sibling is None else np.asarray(_read_values(sibling), dtype=np.float64)


def _sibling_nodes(node: Node, array_names: tuple[str, ...]) -> Iterator[Node]:
    """Yield the arrays with the given names that are in the same group as an array."""
    for folder in (node.folder.parent / array_name for array_name in array_names):
        metadata_name = next(
            (candidate_name for candidate_name in ("zarr.json", ".zarray") if (folder / candidate_name).is_file()), None
        )
        if (
            metadata_name is not None
            and node.name
            and _read_json(folder / metadata_name).get("node_type", "array") == "array"
        ):
            yield _read_node(folder.parent, folder, _read_json(folder / metadata_name))


HEADER_BYTES = 16
_MAX_SPLIT_TYPE, _MIN_SPLIT_BYTES = 16, 128
_COPIED_FLAG, _UNSPLIT_FLAG = 0x02, 0x10
_SIZE_STRUCT = struct.Struct("<i")


def blosc_fault(buffer: bytes, unpacked_bytes: int) -> str:
    """Return why a Blosc buffer is inconsistent, or "" if it can be decompressed.

    Parameters
    ----------
    buffer : bytes
        The complete buffer.
    unpacked_bytes : int
        Required size of the decompressed buffer in bytes.
    """
    if len(buffer) < HEADER_BYTES:
        return f"a Blosc chunk of {len(buffer)} bytes, the header alone has {HEADER_BYTES}"
    header_flags, type_bytes = buffer[2], buffer[3]
    n_byte, block_bytes, packed_bytes = struct.unpack_from("<3I", buffer, 4)
    if packed_bytes != len(buffer):
        return f"a Blosc chunk of {len(buffer)} bytes declares {packed_bytes}"
    if n_byte != unpacked_bytes:
        return f"a Blosc chunk declares {n_byte} decompressed bytes, the array's chunks have {unpacked_bytes}"
    if type_bytes == 0 or not 0 < block_bytes <= max(n_byte, 1):
        return f"a Blosc chunk has items of {type_bytes} and blocks of {block_bytes} bytes"
    if header_flags & _COPIED_FLAG:
        is_complete = packed_bytes == n_byte + HEADER_BYTES
        return "" if is_complete else f"an uncompressed Blosc chunk has {packed_bytes} bytes for {n_byte}"
    is_valid = _blocks_fit(buffer, n_byte, block_bytes, type_bytes, split=not header_flags & _UNSPLIT_FLAG)
    return "" if is_valid else "the blocks of a Blosc chunk are outside of it"


def _blocks_fit(packed_buffer: bytes, n_byte: int, block_bytes: int, type_bytes: int, *, split: bool) -> bool:
    """Return whether each block of a buffer, and each stream in a block, ends inside the buffer."""
    n_block = -(-n_byte // block_bytes)
    first_block_offset = HEADER_BYTES + _SIZE_STRUCT.size * n_block
    if first_block_offset > len(packed_buffer):
        return False
    block_starts = np.frombuffer(packed_buffer, "<i4", n_block, HEADER_BYTES)
    for index, block_start in enumerate(block_starts.tolist()):
        block_length = min(block_bytes, n_byte - index * block_bytes)
        n_stream = type_bytes if split and block_length == block_bytes and _is_split(block_bytes, type_bytes) else 1
        if block_start < first_block_offset or not _streams_fit(
            packed_buffer, block_start, n_stream, block_length // n_stream
        ):
            return False
    return True


def _is_split(block_bytes: int, type_bytes: int) -> bool:
    return type_bytes <= _MAX_SPLIT_TYPE and block_bytes // type_bytes >= _MIN_SPLIT_BYTES


def _streams_fit(packed_buffer: bytes, block_start: int, n_stream: int, unpacked_bytes: int) -> bool:
    offset = block_start
    for _ in range(n_stream):
        if offset + _SIZE_STRUCT.size > len(packed_buffer):
            return False
        stream_bytes = _SIZE_STRUCT.unpack_from(packed_buffer, offset)[0]
        offset += _SIZE_STRUCT.size + stream_bytes
        if not 0 < stream_bytes <= unpacked_bytes or offset > len(packed_buffer):
            return False
    return True
