"""zarr stores (version 2 or 3) in a folder: 3-D arrays (row, column, channel), with the scan's facts as attributes.

Layout that ``underpaint convert`` writes: ``counts`` (for several detectors: ``<detector>/counts``), chunked by pixels,
every chunk written; attributes ``gain_kev``, ``zero_kev``, ``step_mm``, ``detector``, ``notes``, ``metadata``; beside
it ``live_time_s``, ``real_time_s`` and ``present`` where known. Source: zarr core specification 3.0 (2023) and 2
(2019), zarr-specs.readthedocs.io. The extra ``zarr`` brings the library.

A store can use codecs that run code (pickle) and contain links to the outside: both are refused before it is opened.
Blosc chunks are checked before decompression, since damaged ones end the process.

Blosc does not check the sizes in a buffer's header against the buffer: a damaged one ends the process, so the header is
checked first. Source: c-blosc 1.21, README_CHUNK_FORMAT.rst.
"""

import asyncio
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
from underpaint.io._hyperspy import EXPERIMENTS, TIME_PATHS, Signal, read_axes, valid_seconds
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
_MARKS = ("zarr.json", ".zgroup", ".zarray")
_METADATA = {*_MARKS, ".zattrs", ".zmetadata"}
_CODECS = {
    *("bytes", "transpose", "crc32c", "sharding_indexed", "blosc", "zstd", "gzip", "zlib", "lz4", "lzma", "bz2"),
    *("shuffle", "bitshuffle", "delta", "crc32", "adler32", "fletcher32", "default"),
}
_ENERGIES = ("energy", "energies")
_MAX_METADATA = 4 * 2**20
_MAX_CHUNK = 2**30
_ALWAYS_HELD = 64 * 2**20
_MAX_PACKING = 100
"""A chunk above ``_ALWAYS_HELD`` bytes must be stored in at least this share of its size; counts pack less."""


def sniff(path: Path, head: bytes) -> bool:
    """Whether a folder is a zarr store."""
    return not head and any((path / mark).is_file() for mark in _MARKS)


def zarr_library() -> Any:
    """Return the zarr library.

    Raises
    ------
    MissingExtraError
        It is not installed.
    """
    try:
        return import_module("zarr")
    except ImportError as error:
        raise MissingExtraError(
            'Cannot use zarr stores: zarr is not installed. Run `pip install "underpaint[zarr]"`, or use HDF5.'
        ) from error


def wait_for_zarr() -> None:
    """Wait for pending chunks: when one cannot be written, zarr continues with the others."""

    async def wait_for_others() -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*rest, return_exceptions=True)

    import_module("zarr.core.sync").sync(wait_for_others())


def read(path: Path, name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the cubes of a store, or the one called ``name``; those called ``counts`` or ``data``, if any are.

    Raises
    ------
    ScanError
        There is no 3-D array of numbers of this name; a link leads out of the store; a codec is unknown; a chunk is
        missing.
    MissingExtraError
        zarr is not installed.
    """
    zarr_library()
    _refuse_links(path)
    cubes = {node.name: node for node in _nodes(path) if len(node.shape) in {2, 3} and node.dtype.kind in "uif"}
    signals = {key: node for key, node in cubes.items() if _signal(node) is not None}
    cubes = signals or {key: node for key, node in cubes.items() if len(node.shape) == 3}
    named = {key: node for key, node in cubes.items() if key.rsplit("/", 1)[-1] in {"counts", "data"}} or cubes
    selected = (
        named
        if name is None
        else {key: node for key, node in cubes.items() if f"{key}/".startswith(f"{name.strip('/')}/")}
    )
    if not selected:
        holds = ", ".join(f"{key} {node.shape}" for key, node in cubes.items()) or "none"
        raise ScanError(
            f"Cannot read {path if name is None else f'{path}::{name}'} as a scan: a 3-D array (row, column, channel) "
            f"of numbers is needed; the zarr store contains {holds}."
        )
    return [_scan(path, node, single=len(selected) == 1) for node in selected.values()]


@dataclass(frozen=True)
class Node:
    """An array of a store, from its metadata file."""

    name: str
    folder: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    attributes: dict[str, Any]
    blosc: bool = False
    """Whether the chunks' files are Blosc buffers."""
    dimensions: tuple[str, ...] = ()
    """Names of the dimensions, if stored."""


class ZarrCube:
    """One array; opened again for each block, so that any process can read it."""

    def __init__(self, node: Node, order: tuple[int, ...]) -> None:
        self.node, self.dtype, self.order = node, node.dtype, order
        n_row, n_column, n_channel = (1, *(node.shape[number] for number in order))[-3:]
        self.shape = (n_row, n_column, n_channel)

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels; a list of spectra is one row."""
        parts = dict(zip(self.order, (rows, columns) if len(self.order) == 3 else (columns,), strict=False))
        values = _values(self.node, tuple(parts.get(number, slice(None)) for number in range(len(self.order))))
        values = np.transpose(values, self.order)
        return np.ascontiguousarray(values if len(self.order) == 3 else values[None][rows])


def _values(node: Node, key: Any = ()) -> NDArray[Any]:
    library = zarr_library()
    try:
        array = library.open_array(_store(node), mode="r")
        values = np.asarray(array[key])
    except Exception as error:  # zarr and its codecs raise whatever they like at damaged data
        raise ScanError(
            f"Cannot read {node.folder}: the zarr array is damaged ({first_line(error)}). Copy the store again."
        ) from error
    if values.dtype.kind not in "buif":
        raise ScanError(f"Cannot read {node.folder}: the zarr array contains {values.dtype}, not numbers.")
    return values


def _store(node: Node) -> Any:
    if not node.blosc:
        return zarr_library().storage.LocalStore(node.folder, read_only=True)
    return _checking_store()(node.folder, math.prod(node.chunks) * node.dtype.itemsize)


@lru_cache(maxsize=1)
def _checking_store() -> Any:
    """Return a class of stores that checks its Blosc chunks."""
    local: Any = zarr_library().storage.LocalStore

    class BloscStore(local):  # type: ignore[misc]
        """Chunks of one array, each a Blosc buffer of known decompressed size."""

        def __init__(self, folder: Path, chunk_bytes: int) -> None:
            super().__init__(folder, read_only=True)
            self.chunk_bytes = chunk_bytes

        async def get(self, key: str, *rest: Any, **named: Any) -> Any:
            return self._sound(key, await super().get(key, *rest, **named))

        def get_sync(self, key: str, *rest: Any, **named: Any) -> Any:
            return self._sound(key, super().get_sync(key, *rest, **named))

        def _sound(self, key: str, buffer: Any) -> Any:
            if buffer is None or key.rsplit("/", 1)[-1] in _METADATA:
                return buffer
            fault = fault_of_blosc(buffer.to_bytes(), self.chunk_bytes)
            if fault:
                raise ScanError(fault)
            return buffer

    return BloscStore


def _refuse_links(path: Path) -> None:
    for folder, folders, files in os.walk(path):
        for entry_path in (Path(folder) / entry for entry in (*folders, *files)):
            if is_outside(entry_path, path):
                raise ScanError(
                    f"Cannot read {path}: {entry_path.relative_to(path)} is a link that leads out of the store."
                )


def _nodes(path: Path) -> Iterator[Node]:
    for folder, folders, files in os.walk(path):
        folders.sort()
        root = Path(folder)
        record = next((_json(root / mark) for mark in ("zarr.json", ".zarray") if mark in files), None)
        if record is None or record.get("node_type", "array") != "array":
            continue
        folders.clear()  # an array has only chunks below it
        yield _node(path, root, record)


def _node(path: Path, folder: Path, record: dict[str, Any]) -> Node:
    strange = sorted({codec for codec in _codecs(record) if codec.removeprefix("numcodecs.") not in _CODECS})
    if strange:
        raise ScanError(
            f"Cannot read {folder}: the zarr array is packed with {', '.join(strange)}, which is not opened here."
        )
    try:
        shape = tuple(int(length) for length in record["shape"])
        grid = record["chunks"] if "chunks" in record else record["chunk_grid"]["configuration"]["chunk_shape"]
        chunks = tuple(int(length) for length in grid)
        dtype = np.dtype(str(record.get("data_type", record.get("dtype"))))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ScanError(
            f"Cannot read {folder}: the zarr array's metadata is incomplete ({error}). Copy the store again."
        ) from error
    _refuse_sizes(folder, shape, chunks, dtype)
    attributes_of_node = _json(folder / ".zattrs") if (folder / ".zattrs").is_file() else record.get("attributes")
    attributes = attributes_of_node if isinstance(attributes_of_node, dict) else {}
    name = "/".join(folder.relative_to(path).parts)
    names = record.get("dimension_names") or attributes.get("_ARRAY_DIMENSIONS") or ()
    dimensions = tuple(str(name) for name in names) if isinstance(names, list) and len(names) == len(shape) else ()
    return Node(name, folder, shape, dtype, chunks, attributes, _is_blosc(record), dimensions)


def _is_blosc(record: dict[str, Any]) -> bool:
    """Whether Blosc packs last, so that the chunks' files are its buffers."""
    codecs = record.get("codecs")
    last = record.get("compressor") if codecs is None else codecs[-1] if isinstance(codecs, list) and codecs else None
    return isinstance(last, dict) and str(last.get("name", last.get("id"))).removeprefix("numcodecs.") == "blosc"


def _refuse_sizes(folder: Path, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    sizes_fit = len(shape) == len(chunks) and all(length > 0 for length in (*shape, *chunks))
    if not sizes_fit or math.prod(chunks) * dtype.itemsize > _MAX_CHUNK:
        raise ScanError(
            f"Cannot read {folder}: a zarr array of shape {shape} in chunks of {chunks}; chunks must be "
            f"of the same number of sizes and at most {_MAX_CHUNK} bytes."
        )
    chunk_bytes = math.prod(chunks) * dtype.itemsize
    if chunk_bytes > _ALWAYS_HELD and chunk_bytes > _MAX_PACKING * _stored_bytes(folder):
        raise ScanError(
            f"Cannot read {folder}: a zarr array in chunks of {chunks} {dtype}, {chunk_bytes / 1e6:.0f} MB each, and "
            f"all its files hold {_stored_bytes(folder) / 1e6:.3f} MB. It is damaged or cut off; copy the store again."
        )
    if len(shape) == 3 and shape[1] * shape[2] * dtype.itemsize > _MAX_CHUNK:
        raise ScanError(f"Cannot read {folder}: one row of a zarr array of shape {shape} does not fit into memory.")


def _stored_bytes(folder: Path) -> int:
    return sum((Path(directory) / name).stat().st_size for directory, _, files in os.walk(folder) for name in files)


def _codecs(record: Any) -> Iterator[str]:
    """Names of all codecs in an array's metadata, nested ones included."""
    pieces = [record.get(key) for key in ("codecs", "index_codecs", "filters", "compressor")]
    for piece in pieces:
        for part in piece if isinstance(piece, list) else [piece] if piece else []:
            if isinstance(part, dict):
                yield str(part.get("name", part.get("id")))
                inner = part.get("configuration")
                yield from _codecs(inner) if isinstance(inner, dict) else ()
            else:
                yield str(part)


def _json(path: Path) -> dict[str, Any]:
    if try_read(path.stat, str(path)).st_size > _MAX_METADATA:
        raise ScanError(f"Cannot read {path}: metadata of a zarr array has at most {_MAX_METADATA} bytes.")
    try:
        record = json.loads(try_read(path.read_bytes, str(path)))
    except (ValueError, RecursionError) as error:
        raise ScanError(
            f"Cannot read {path}: the metadata of the zarr store is damaged ({error}). Copy the store again."
        ) from error
    if not isinstance(record, dict):
        raise ScanError(f"Cannot read {path}: the metadata of the zarr store is no record. Copy the store again.")
    return record


def _scan(path: Path, node: Node, *, single: bool) -> Scan:
    _refuse_missing_chunks(node)
    signal, facts = _signal(node), node.attributes
    order, guess = ((*signal.order,), "") if signal is not None else _order(node)
    cube = ZarrCube(node, order)
    axis, converted = (signal.axis, signal.notes) if signal is not None else _axis(node, cube.shape[2])
    notes, metadata = facts.get("notes"), facts.get("metadata")
    calibration_notes = converted if axis is not None else ("no energy calibration in the store",)
    times = _hyperspy_times(node) if signal is not None else {}
    live, real = (
        np.full(cube.shape[:2], times[name]) if name in times else _sibling_array(node, f"{name}_s", cube.shape[:2])
        for name in ("live_time", "real_time")
    )
    place = ArrayLocation("/" + node.name.rpartition("/")[0] if signal is not None else "")
    # ``convert`` writes only detectors.
    entry = {} if "n_chunk_written" in facts else {LOCATION_KEY: place}
    present = _sibling_array(node, "present", cube.shape[:2])
    multiple = max(1, min(node.chunks[order[0]], node.shape[order[0]])) if len(order) == 3 else 1
    return Scan(
        lazy_counts(cube, f"{path}::{node.name}", multiple),
        axis=axis,
        name=path.stem if single else f"{path.stem}_{node.name.replace('/', '_')}",
        source=f"{path}::{node.name}",
        format=FORMAT.name,
        live_time_s=live,
        real_time_s=real,
        step_mm=_pair(facts.get("step_mm")) if signal is None else signal.step_mm,
        detector=str(facts.get("detector", "")),
        present=None if present is None else present.astype(bool),
        notes=(*(map(str, notes) if isinstance(notes, list) else ()), *((guess,) if guess else ()), *calibration_notes),
        metadata={**(metadata if isinstance(metadata, dict) else {}), **entry},
    )


def _order(node: Node) -> tuple[tuple[int, ...], str]:
    """Dimensions of rows, columns and channels, and a note if they were guessed."""
    named = [number for number, name in enumerate(node.dimensions) if ENERGY_NAME.search(name)]
    if len(named) == 1:
        channel, note = named[0], ""
    else:
        lengths = tuple(sibling.shape[0] for sibling in _siblings(node, _ENERGIES) if len(sibling.shape) == 1)
        channel, note = channel_dimension(node.shape, lengths, lambda key: _values(node, key))
    return (*(number for number in range(len(node.shape)) if number != channel), channel), note


# --- HyperSpy's .zspy --------------------------------------------------------------------------------


def _signal(node: Node) -> Signal | None:
    """Return the signal described by the attributes of HyperSpy's axes; None without them."""
    parts = node.name.split("/")
    if len(parts) != 3 or (parts[0], parts[2]) != (EXPERIMENTS, "data"):
        return None
    folder = node.folder.parent
    return read_axes([_attributes(folder / f"axis-{number}") for number in range(len(node.shape))], node.shape)


def _hyperspy_times(node: Node) -> dict[str, float]:
    for place in TIME_PATHS:
        record = _attributes(node.folder.parent / place)
        times = {name: valid_seconds(record.get(name)) for name in ("live_time", "real_time")}
        if any(times.values()):
            return {name: value for name, value in times.items() if value is not None}
    return {}


def _attributes(folder: Path) -> dict[str, Any]:
    """Return the attributes of a group; empty without such a group."""
    if (folder / ".zattrs").is_file():
        return _json(folder / ".zattrs")
    record = _json(folder / "zarr.json") if (folder / "zarr.json").is_file() else {}
    attributes = record.get("attributes")
    return attributes if isinstance(attributes, dict) else {}


def _refuse_missing_chunks(node: Node) -> None:
    """Missing chunks are empty pixels in zarr, unless the writer stated that it wrote all."""
    expected = node.attributes.get("n_chunk_written")
    if not isinstance(expected, int):
        return
    n_stored = sum(len(files) for folder, _, files in os.walk(node.folder / "c"))
    if n_stored < expected:
        raise ScanError(
            f"Cannot read {node.folder}: {expected} chunks were written, {n_stored} exist. Copy the store again."
        )


def _axis(node: Node, n_channel: int) -> Axis:
    facts = node.attributes
    try:
        return EnergyAxis(float(facts["gain_kev"]), float(facts.get("zero_kev", 0.0)), n_channel), ()
    except (KeyError, TypeError, ValueError, CalibrationError):
        pass
    energies = next((sibling for sibling in _siblings(node, _ENERGIES) if sibling.shape == (n_channel,)), None)
    if energies is None:
        return None, ()
    unit = str(energies.attributes.get("units", "")).lower()
    unit_known = unit if unit in {"kev", "ev"} else ""
    return axis_of_list(np.asarray(_values(energies), dtype=np.float64), n_channel, unit_known)


def _pair(step: Any) -> tuple[float, float] | None:
    if not (isinstance(step, list) and len(step) == 2 and all(isinstance(value, int | float) for value in step)):
        return None
    return float(step[0]), float(step[1])


def _sibling_array(node: Node, name: str, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    sibling = next((candidate for candidate in _siblings(node, (name,)) if candidate.shape == shape), None)
    return None if sibling is None else np.asarray(_values(sibling), dtype=np.float64)


def _siblings(node: Node, names: tuple[str, ...]) -> Iterator[Node]:
    """Arrays of some names in the group of an array."""
    for folder in (node.folder.parent / name for name in names):
        mark = next((file_name for file_name in ("zarr.json", ".zarray") if (folder / file_name).is_file()), None)
        if mark is not None and node.name and _json(folder / mark).get("node_type", "array") == "array":
            yield _node(folder.parent, folder, _json(folder / mark))


HEADER_BYTES = 16
_MAX_SPLIT_TYPE, _MIN_SPLIT_BYTES = 16, 128
_COPIED, _UNSPLIT = 0x02, 0x10
_SIZE = struct.Struct("<i")


def fault_of_blosc(packed: bytes, unpacked_bytes: int) -> str:
    """Return the inconsistency of a Blosc buffer; empty if it can be decompressed.

    Parameters
    ----------
    packed : bytes
        The complete buffer.
    unpacked_bytes : int
        Its required decompressed size.
    """
    if len(packed) < HEADER_BYTES:
        return f"a Blosc chunk of {len(packed)} bytes, the header alone has {HEADER_BYTES}"
    flags, type_bytes = packed[2], packed[3]
    n_byte, block_bytes, packed_bytes = struct.unpack_from("<3I", packed, 4)
    if packed_bytes != len(packed):
        return f"a Blosc chunk of {len(packed)} bytes says that it has {packed_bytes}"
    if n_byte != unpacked_bytes:
        return f"a Blosc chunk says that it holds {n_byte} bytes, the array's chunks have {unpacked_bytes}"
    if type_bytes == 0 or not 0 < block_bytes <= max(n_byte, 1):
        return f"a Blosc chunk has items of {type_bytes} and blocks of {block_bytes} bytes"
    if flags & _COPIED:
        is_whole = packed_bytes == n_byte + HEADER_BYTES
        return "" if is_whole else f"a Blosc chunk that is not packed has {packed_bytes} bytes for {n_byte}"
    is_valid = _blocks_fit(packed, n_byte, block_bytes, type_bytes, split=not flags & _UNSPLIT)
    return "" if is_valid else "the blocks of a Blosc chunk are outside of it"


def _blocks_fit(packed: bytes, n_byte: int, block_bytes: int, type_bytes: int, *, split: bool) -> bool:
    """Whether each block, and each part of it, is inside the buffer."""
    n_block = -(-n_byte // block_bytes)
    behind_starts = HEADER_BYTES + _SIZE.size * n_block
    if behind_starts > len(packed):
        return False
    starts = np.frombuffer(packed, "<i4", n_block, HEADER_BYTES)
    for index, start in enumerate(starts.tolist()):
        block_length = min(block_bytes, n_byte - index * block_bytes)
        pieces = type_bytes if split and block_length == block_bytes and _is_split(block_bytes, type_bytes) else 1
        if start < behind_starts or not _pieces_fit(packed, start, pieces, block_length // pieces):
            return False
    return True


def _is_split(block_bytes: int, type_bytes: int) -> bool:
    return type_bytes <= _MAX_SPLIT_TYPE and block_bytes // type_bytes >= _MIN_SPLIT_BYTES


def _pieces_fit(packed: bytes, start: int, pieces: int, unpacked_bytes: int) -> bool:
    place = start
    for _ in range(pieces):
        if place + _SIZE.size > len(packed):
            return False
        size = _SIZE.unpack_from(packed, place)[0]
        place += _SIZE.size + size
        if not 0 < size <= unpacked_bytes or place > len(packed):
            return False
    return True
