"""zarr stores (version 2 or 3) in a folder: 3-D arrays (row, column, channel), with the scan's facts as attributes.

Layout that ``underpaint convert`` writes: ``counts`` (for several detectors: ``<detector>/counts``), chunked by pixels,
every chunk written; attributes ``gain_kev``, ``zero_kev``, ``step_mm``, ``detector``, ``notes``, ``metadata``; beside
it ``live_time_s``, ``real_time_s`` and ``present`` where known. Source: zarr core specification 3.0 (2023) and 2
(2019), zarr-specs.readthedocs.io. The extra ``zarr`` brings the library.

A store can name codecs that run code (pickle), and hold links that lead elsewhere: both are refused before it is
opened. Chunks packed with Blosc are checked before they are unpacked, since damaged ones end the process.

Blosc trusts the sizes in a buffer's header, also where they point behind the end of the buffer: a damaged one ends the
process, so the header is checked first. Source: c-blosc 1.21, README_CHUNK_FORMAT.rst.
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
from underpaint.io._detectors import PLACE, Place
from underpaint.io._energies import Axis, axis_of_list
from underpaint.io._hyperspy import EXPERIMENTS, TIMES, Signal, read_axes, seconds
from underpaint.io._source import lazy_counts, leads_out, probe, told
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
_LARGEST_METADATA = 4 * 2**20
_LARGEST_CHUNK = 2**30
_ALWAYS_HELD = 64 * 2**20
_LARGEST_PACKING = 100
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


def let_zarr_finish() -> None:
    """Wait for the chunks that are on their way: when one cannot be written, zarr goes on with those beside it."""

    async def others() -> None:
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*rest, return_exceptions=True)

    import_module("zarr.core.sync").sync(others())


def read(path: Path, name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the cubes of a store, or the one called ``name``; those called ``counts`` or ``data``, if any are.

    Raises
    ------
    ScanError
        No 3-D array of numbers is there, or none of that name; a link leads out of the store; a codec is not known;
        a chunk that was written is missing.
    MissingExtraError
        zarr is not installed.
    """
    zarr_library()
    _refuse_links(path)
    found = {own.name: own for own in _nodes(path) if len(own.shape) in {2, 3} and own.dtype.kind in "uif"}
    signals = {key: own for key, own in found.items() if _signal(own) is not None}
    found = signals or {key: own for key, own in found.items() if len(own.shape) == 3}
    named = {key: own for key, own in found.items() if key.rsplit("/", 1)[-1] in {"counts", "data"}} or found
    wanted = (
        named
        if name is None
        else {key: own for key, own in found.items() if f"{key}/".startswith(f"{name.strip('/')}/")}
    )
    if not wanted:
        holds = ", ".join(f"{key} {own.shape}" for key, own in found.items()) or "none"
        raise ScanError(
            f"Cannot read {path if name is None else f'{path}::{name}'} as a scan: a 3-D array (row, column, channel) "
            f"of numbers is needed; the zarr store holds {holds}."
        )
    return [_scan(path, own, alone=len(wanted) == 1) for own in wanted.values()]


@dataclass(frozen=True)
class Node:
    """An array of a store, by its own metadata file."""

    name: str
    folder: Path
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    attributes: dict[str, Any]
    blosc: bool = False
    """Whether the chunks' files are Blosc buffers."""
    dimensions: tuple[str, ...] = ()
    """Names of the dimensions, where the store has them."""


class ZarrCube:
    """One array; opened anew for each block, so that any process can read it."""

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
            f"Cannot read {node.folder}: the zarr array is damaged ({told(error)}). Copy the store again."
        ) from error
    if values.dtype.kind not in "buif":
        raise ScanError(f"Cannot read {node.folder}: the zarr array holds {values.dtype}, not numbers.")
    return values


def _store(node: Node) -> Any:
    if not node.blosc:
        return zarr_library().storage.LocalStore(node.folder, read_only=True)
    return _checking_store()(node.folder, math.prod(node.chunks) * node.dtype.itemsize)


@lru_cache(maxsize=1)
def _checking_store() -> Any:
    """Return a class of stores whose chunks are sound Blosc buffers, or an error."""
    local: Any = zarr_library().storage.LocalStore

    class BloscStore(local):  # type: ignore[misc]
        """Chunks of one array, each a Blosc buffer of a known size unpacked."""

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
        for own in (Path(folder) / entry for entry in (*folders, *files)):
            if leads_out(own, path):
                raise ScanError(f"Cannot read {path}: {own.relative_to(path)} is a link that leads out of the store.")


def _nodes(path: Path) -> Iterator[Node]:
    for folder, folders, files in os.walk(path):
        folders.sort()
        here = Path(folder)
        record = next((_json(here / mark) for mark in ("zarr.json", ".zarray") if mark in files), None)
        if record is None or record.get("node_type", "array") != "array":
            continue
        folders.clear()  # an array has only chunks below it
        yield _node(path, here, record)


def _node(path: Path, folder: Path, record: dict[str, Any]) -> Node:
    strange = sorted({own for own in _codecs(record) if own.removeprefix("numcodecs.") not in _CODECS})
    if strange:
        raise ScanError(
            f"Cannot read {folder}: the zarr array is packed with {', '.join(strange)}, which is not opened here."
        )
    try:
        shape = tuple(int(own) for own in record["shape"])
        grid = record["chunks"] if "chunks" in record else record["chunk_grid"]["configuration"]["chunk_shape"]
        chunks = tuple(int(own) for own in grid)
        dtype = np.dtype(str(record.get("data_type", record.get("dtype"))))
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ScanError(
            f"Cannot read {folder}: the zarr array's metadata is not whole ({error}). Copy the store again."
        ) from error
    _refuse_sizes(folder, shape, chunks, dtype)
    own_attributes = _json(folder / ".zattrs") if (folder / ".zattrs").is_file() else record.get("attributes")
    attributes = own_attributes if isinstance(own_attributes, dict) else {}
    name = "/".join(folder.relative_to(path).parts)
    names = record.get("dimension_names") or attributes.get("_ARRAY_DIMENSIONS") or ()
    dimensions = tuple(str(own) for own in names) if isinstance(names, list) and len(names) == len(shape) else ()
    return Node(name, folder, shape, dtype, chunks, attributes, _is_blosc(record), dimensions)


def _is_blosc(record: dict[str, Any]) -> bool:
    """Whether Blosc packs last, so that the chunks' files are its buffers."""
    codecs = record.get("codecs")
    last = record.get("compressor") if codecs is None else codecs[-1] if isinstance(codecs, list) and codecs else None
    return isinstance(last, dict) and str(last.get("name", last.get("id"))).removeprefix("numcodecs.") == "blosc"


def _refuse_sizes(folder: Path, shape: tuple[int, ...], chunks: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    sizes_fit = len(shape) == len(chunks) and all(own > 0 for own in (*shape, *chunks))
    if not sizes_fit or math.prod(chunks) * dtype.itemsize > _LARGEST_CHUNK:
        raise ScanError(
            f"Cannot read {folder}: a zarr array of shape {shape} in chunks of {chunks}; chunks must be "
            f"of the same number of sizes and at most {_LARGEST_CHUNK} bytes."
        )
    chunk_bytes = math.prod(chunks) * dtype.itemsize
    if chunk_bytes > _ALWAYS_HELD and chunk_bytes > _LARGEST_PACKING * _stored_bytes(folder):
        raise ScanError(
            f"Cannot read {folder}: a zarr array in chunks of {chunks} {dtype}, {chunk_bytes / 1e6:.0f} MB each, and "
            f"all its files hold {_stored_bytes(folder) / 1e6:.3f} MB. It is damaged or cut off; copy the store again."
        )
    if len(shape) == 3 and shape[1] * shape[2] * dtype.itemsize > _LARGEST_CHUNK:
        raise ScanError(f"Cannot read {folder}: one row of a zarr array of shape {shape} is more than can be held.")


def _stored_bytes(folder: Path) -> int:
    return sum((Path(here) / own).stat().st_size for here, _, files in os.walk(folder) for own in files)


def _codecs(record: Any) -> Iterator[str]:
    """Names of all codecs in an array's metadata, nested ones included."""
    pieces = [record.get(key) for key in ("codecs", "index_codecs", "filters", "compressor")]
    for piece in pieces:
        for own in piece if isinstance(piece, list) else [piece] if piece else []:
            if isinstance(own, dict):
                yield str(own.get("name", own.get("id")))
                inner = own.get("configuration")
                yield from _codecs(inner) if isinstance(inner, dict) else ()
            else:
                yield str(own)


def _json(path: Path) -> dict[str, Any]:
    if probe(path.stat, str(path)).st_size > _LARGEST_METADATA:
        raise ScanError(f"Cannot read {path}: metadata of a zarr array has at most {_LARGEST_METADATA} bytes.")
    try:
        record = json.loads(probe(path.read_bytes, str(path)))
    except (ValueError, RecursionError) as error:
        raise ScanError(
            f"Cannot read {path}: the metadata of the zarr store is damaged ({error}). Copy the store again."
        ) from error
    if not isinstance(record, dict):
        raise ScanError(f"Cannot read {path}: the metadata of the zarr store is no record. Copy the store again.")
    return record


def _scan(path: Path, node: Node, *, alone: bool) -> Scan:
    _refuse_missing_chunks(node)
    signal, facts = _signal(node), node.attributes
    order, guess = ((*signal.order,), "") if signal is not None else _order(node)
    cube = ZarrCube(node, order)
    axis, converted = (signal.axis, signal.notes) if signal is not None else _axis(node, cube.shape[2])
    notes, metadata = facts.get("notes"), facts.get("metadata")
    calibration_notes = converted if axis is not None else ("no energy calibration in the store",)
    times = _hyperspy_times(node) if signal is not None else {}
    live, real = (
        np.full(cube.shape[:2], times[name]) if name in times else _beside(node, f"{name}_s", cube.shape[:2])
        for name in ("live_time", "real_time")
    )
    place = Place("/" + node.name.rpartition("/")[0] if signal is not None else "")
    # What ``convert`` wrote are detectors alone.
    entry = {} if "n_chunk_written" in facts else {PLACE: place}
    present = _beside(node, "present", cube.shape[:2])
    multiple = max(1, min(node.chunks[order[0]], node.shape[order[0]])) if len(order) == 3 else 1
    return Scan(
        lazy_counts(cube, f"{path}::{node.name}", multiple),
        axis=axis,
        name=path.stem if alone else f"{path.stem}_{node.name.replace('/', '_')}",
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
    """Dimensions of rows, columns and channels, and a note where they were guessed."""
    named = [number for number, name in enumerate(node.dimensions) if ENERGY_NAME.search(name)]
    if len(named) == 1:
        channel, note = named[0], ""
    else:
        lengths = tuple(own.shape[0] for own in _siblings(node, _ENERGIES) if len(own.shape) == 1)
        channel, note = channel_dimension(node.shape, lengths, lambda key: _values(node, key))
    return (*(number for number in range(len(node.shape)) if number != channel), channel), note


# --- HyperSpy's .zspy --------------------------------------------------------------------------------


def _signal(node: Node) -> Signal | None:
    """Return what the attributes of HyperSpy's axes say of an array; None where there are none."""
    parts = node.name.split("/")
    if len(parts) != 3 or (parts[0], parts[2]) != (EXPERIMENTS, "data"):
        return None
    folder = node.folder.parent
    return read_axes([_attributes(folder / f"axis-{number}") for number in range(len(node.shape))], node.shape)


def _hyperspy_times(node: Node) -> dict[str, float]:
    for place in TIMES:
        record = _attributes(node.folder.parent / place)
        times = {name: seconds(record.get(name)) for name in ("live_time", "real_time")}
        if any(times.values()):
            return {name: value for name, value in times.items() if value is not None}
    return {}


def _attributes(folder: Path) -> dict[str, Any]:
    """Return the attributes of a group; none where there is no such group."""
    if (folder / ".zattrs").is_file():
        return _json(folder / ".zattrs")
    record = _json(folder / "zarr.json") if (folder / "zarr.json").is_file() else {}
    attributes = record.get("attributes")
    return attributes if isinstance(attributes, dict) else {}


def _refuse_missing_chunks(node: Node) -> None:
    """Missing chunks are empty pixels in zarr; not where the writer says that it wrote them all."""
    wanted = node.attributes.get("n_chunk_written")
    if not isinstance(wanted, int):
        return
    there = sum(len(files) for folder, _, files in os.walk(node.folder / "c"))
    if there < wanted:
        raise ScanError(
            f"Cannot read {node.folder}: {wanted} chunks were written, {there} are there. Copy the store again."
        )


def _axis(node: Node, n_channel: int) -> Axis:
    facts = node.attributes
    try:
        return EnergyAxis(float(facts["gain_kev"]), float(facts.get("zero_kev", 0.0)), n_channel), ()
    except (KeyError, TypeError, ValueError, CalibrationError):
        pass
    energies = next((own for own in _siblings(node, _ENERGIES) if own.shape == (n_channel,)), None)
    if energies is None:
        return None, ()
    unit = str(energies.attributes.get("units", "")).lower()
    known = unit if unit in {"kev", "ev"} else ""
    return axis_of_list(np.asarray(_values(energies), dtype=np.float64), n_channel, known)


def _pair(step: Any) -> tuple[float, float] | None:
    if not (isinstance(step, list) and len(step) == 2 and all(isinstance(own, int | float) for own in step)):
        return None
    return float(step[0]), float(step[1])


def _beside(node: Node, name: str, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    beside = next((own for own in _siblings(node, (name,)) if own.shape == shape), None)
    return None if beside is None else np.asarray(_values(beside), dtype=np.float64)


def _siblings(node: Node, names: tuple[str, ...]) -> Iterator[Node]:
    """Arrays of some names in the group of an array."""
    for folder in (node.folder.parent / name for name in names):
        mark = next((own for own in ("zarr.json", ".zarray") if (folder / own).is_file()), None)
        if mark is not None and node.name and _json(folder / mark).get("node_type", "array") == "array":
            yield _node(folder.parent, folder, _json(folder / mark))


HEADER_BYTES = 16
_LARGEST_SPLIT_TYPE, _SMALLEST_SPLIT_BYTES = 16, 128
_COPIED, _WHOLE = 0x02, 0x10
_SIZE = struct.Struct("<i")


def fault_of_blosc(packed: bytes, unpacked_bytes: int) -> str:
    """Say what contradicts itself in a Blosc buffer; empty where it can be unpacked.

    Parameters
    ----------
    packed : bytes
        The whole buffer.
    unpacked_bytes : int
        What it must hold.
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
        whole = packed_bytes == n_byte + HEADER_BYTES
        return "" if whole else f"a Blosc chunk that is not packed has {packed_bytes} bytes for {n_byte}"
    sound = _blocks_fit(packed, n_byte, block_bytes, type_bytes, split=not flags & _WHOLE)
    return "" if sound else "the blocks of a Blosc chunk lie outside of it"


def _blocks_fit(packed: bytes, n_byte: int, block_bytes: int, type_bytes: int, *, split: bool) -> bool:
    """Whether each block, and each piece that it is split into, lies inside the buffer."""
    n_block = -(-n_byte // block_bytes)
    behind_starts = HEADER_BYTES + _SIZE.size * n_block
    if behind_starts > len(packed):
        return False
    starts = np.frombuffer(packed, "<i4", n_block, HEADER_BYTES)
    for index, start in enumerate(starts.tolist()):
        own = min(block_bytes, n_byte - index * block_bytes)
        pieces = type_bytes if split and own == block_bytes and _is_split(block_bytes, type_bytes) else 1
        if start < behind_starts or not _pieces_fit(packed, start, pieces, own // pieces):
            return False
    return True


def _is_split(block_bytes: int, type_bytes: int) -> bool:
    return type_bytes <= _LARGEST_SPLIT_TYPE and block_bytes // type_bytes >= _SMALLEST_SPLIT_BYTES


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
