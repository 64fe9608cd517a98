"""Reader of ``.bcf`` files, maps with spectra and photographs from Bruker's Esprit (M4 Tornado, M6 Jetstream, SEM).

The file is a container (described below). ``EDSDatabase/HeaderData`` is XML, described in
:mod:`underpaint.io.readers._bruker_xml`. Each detector has a map ``EDSDatabase/SpectrumData<n>``. The map begins with
the numbers of rows and columns as int32. From byte 0x1A0, each row has its number of pixels (uint32) and then its
pixels. A pixel has a header of 22 bytes and the packed spectrum. The header holds uint32 column, uint16 channels of the
map and of the pixel, uint32, uint16 packing, uint16, uint16 pulses, and uint32 size. In packings 0 and 1, each pulse is
stored as its channel number in 16 or 12 bits. In other packings, a run of channels has one base and one bit width.
After the runs follow ``pulses`` more pulses of 16 bits. The image ``PixelTimes`` in the XML holds the time of each
pixel in microseconds. If this image is empty, the time of a pixel is ``PixelTime`` times the number of times that its
row was scanned (``LineCounter``).

Source: Bruker publishes no specification. P. Jokubauskas reverse-engineered the format, which the source of
rosettasciio (2016-2026) documents. The extra ``bruker`` installs rosettasciio (GPL), which decompresses the pixels.
rosettasciio does not check the data, so every row is checked first. No pixel may be outside the map, and no size may
exceed the data.

The container is a Single File System (AidAim), which holds files inside one file. The container begins with
``AAMVHFSS``, and all its numbers are little-endian. At byte 0x124 are the version (float32) and the chunk size
(uint32). At byte 0x140 are three uint32: the chunk of the file tree, the number of tree entries, and the number of
chunks. Chunk n begins at 0x118 + n * chunk size. The first four bytes of a chunk are the number of the next chunk of
the same file. The content of a chunk begins after 32 bytes. A tree entry has 512 bytes, and begins with the chunk of
the file's chunk table (int32), the file's size (uint64), and 28 bytes of times and rights. The parent's number (int32,
-1 for none) and 176 bytes follow. The entry ends with a flag for folders, 3 bytes, the name (256 bytes) and 32 bytes. A
compressed file begins with ``AACS``, the decompressed block size (uint32), a uint32, and the number of blocks (uint32).
The blocks begin at byte 0x80. Each block is a zlib stream after its compressed size (uint32) and 12 bytes. AidAim
publishes no specification. P. Jokubauskas reverse-engineered the container, which the source of rosettasciio
(2016-2026) documents. The tests compare with rosettasciio. Names in the container are never used as paths of files on
disk.
"""

import base64
import binascii
import re
import struct
import xml.etree.ElementTree as ET
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import MissingExtraError, ScanError
from underpaint.io._energies import parse_number
from underpaint.io._single import FileSpectrum
from underpaint.io._source import lazy_counts, try_read
from underpaint.io.readers import Format, Photograph
from underpaint.io.readers._bruker_xml import find_instance, parse_xml, read_spectrum_node, short_values

MAGIC = b"AAMVHFSS"
_FIRST_CHUNK_OFFSET, _CHUNK_HEADER_BYTES, _ENTRY_BYTES = 0x118, 32, 0x200
_ENTRY_STRUCT = struct.Struct("<iQ28xi176x?3x256s32x")
_CHUNK_BYTES_RANGE = (1024, 16 * 2**20)
_COMPRESSED_MAGIC, _COMPRESSED_START = b"AACS", 0x80
_MAX_BLOCK_BYTES = 64 * 2**20
_UNCOMPRESSED_BLOCK_BYTES = 4 * 2**20


class BrokenContainerError(ValueError):
    """Error for an inconsistent container, with a message that states what is inconsistent."""


@dataclass(frozen=True)
class Entry:
    """File in a container: its stored size in bytes and the numbers of its chunks."""

    size: int
    chunks: NDArray[np.int64]


@dataclass(frozen=True)
class StoredBlock:
    """Location of a block in a file: offset, stored size and maximum decompressed size, in bytes."""

    offset: int
    stored_bytes: int
    max_decompressed_bytes: int
    is_compressed: bool


class Container:
    """Container of files, which is opened again for each read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_byte: int = try_read(path.stat, str(path)).st_size
        try:
            self._read_header()
            self.files = dict(self._entries())
        except (BrokenContainerError, struct.error) as error:
            raise ScanError(
                f"Cannot read {path}: a Bruker .bcf container, but damaged: {error}. Copy the file again."
            ) from error

    def read_stored(self, file_name: str, offset: int, n_byte: int) -> bytes:
        """Read stored bytes of a file without decompressing them."""
        stored_file = self.files[file_name]
        stop_offset = min(offset + n_byte, stored_file.size)
        if not 0 <= offset <= stop_offset:
            raise BrokenContainerError(
                f"bytes {offset} to {offset + n_byte} of {file_name}, which has {stored_file.size}"
            )
        first_chunk, last_chunk = offset // self.usable_bytes, -(-stop_offset // self.usable_bytes)
        chunk_bytes = self._read_chunks(stored_file.chunks[first_chunk:last_chunk])
        return chunk_bytes[offset - first_chunk * self.usable_bytes : stop_offset - first_chunk * self.usable_bytes]

    def blocks(self, file_name: str) -> Iterator[bytes]:
        """Return the decompressed content of a file, block by block.

        Raises
        ------
        ScanError
            A block is missing, cannot be decompressed, or is larger than declared.
        """
        return (block_content for _, block_content in self.iterate_blocks(file_name))

    def content(self, file_name: str, max_bytes: int) -> bytes:
        """Return the decompressed content of a small file.

        Raises
        ------
        ScanError
            As for :meth:`blocks`, or the file is larger than ``max_bytes``.
        """
        block_contents, n_byte_read = [], 0
        for block in self.blocks(file_name):
            n_byte_read += len(block)
            if n_byte_read > max_bytes:
                raise ScanError(
                    f"Cannot read {self.path}: {file_name} inside has over {max_bytes} bytes, more than it can have."
                )
            block_contents.append(block)
        return b"".join(block_contents)

    def iterate_blocks(self, file_name: str) -> Iterator[tuple["StoredBlock", bytes]]:
        """Yield the location and decompressed content of each block of a file.

        Raises
        ------
        ScanError
            As for :meth:`blocks`.
        """
        with self._as_scan_error(file_name):
            is_compressed = self.read_stored(file_name, 0, 4) == _COMPRESSED_MAGIC
            yield from self._compressed_blocks(file_name) if is_compressed else self._uncompressed_blocks(file_name)

    def read_block(self, file_name: str, block: "StoredBlock") -> bytes:
        """Read and decompress one block of a file.

        Raises
        ------
        ScanError
            As for :meth:`blocks`.
        """
        with self._as_scan_error(file_name):
            stored_content = self.read_stored(file_name, block.offset, block.stored_bytes)
            return _decompress(stored_content, block) if block.is_compressed else stored_content

    def _uncompressed_blocks(self, file_name: str) -> Iterator[tuple["StoredBlock", bytes]]:
        block_bytes = max(1, _UNCOMPRESSED_BLOCK_BYTES // self.usable_bytes) * self.usable_bytes
        for block_start in range(0, self.files[file_name].size, block_bytes):
            block_content = self.read_stored(file_name, block_start, block_bytes)
            if len(block_content) < min(block_bytes, self.files[file_name].size - block_start):
                raise BrokenContainerError(f"it ends at byte {block_start + len(block_content)}")
            yield StoredBlock(block_start, len(block_content), len(block_content), is_compressed=False), block_content

    def _compressed_blocks(self, file_name: str) -> Iterator[tuple["StoredBlock", bytes]]:
        block_bytes, _, n_block = struct.unpack("<III", self.read_stored(file_name, 4, 12))
        if block_bytes > _MAX_BLOCK_BYTES or 16 * n_block > self.files[file_name].size:
            raise BrokenContainerError(f"{n_block} compressed blocks of {block_bytes} bytes are declared")
        offset = _COMPRESSED_START
        for _ in range(n_block):
            (compressed_bytes,) = struct.unpack("<I", self.read_stored(file_name, offset, 4))
            block = StoredBlock(offset + 16, compressed_bytes, block_bytes, is_compressed=True)
            yield block, _decompress(self.read_stored(file_name, offset + 16, compressed_bytes), block)
            offset += 16 + compressed_bytes

    @contextmanager
    def _as_scan_error(self, file_name: str) -> Iterator[None]:
        try:
            yield
        except (BrokenContainerError, struct.error, zlib.error) as error:
            raise ScanError(
                f"Cannot read {self.path}: {file_name} inside is damaged: {error}. Copy the file again."
            ) from error

    # --- the container itself -----------------------------------------------------------------------

    def _read_header(self) -> None:
        header = self._read_bytes(0, 0x14C)
        self.chunk_bytes = int(struct.unpack_from("<I", header, 0x128)[0])
        self._tree_chunk, self._n_entry, _ = struct.unpack_from("<III", header, 0x140)
        min_bytes, max_bytes = _CHUNK_BYTES_RANGE
        if not min_bytes <= self.chunk_bytes <= max_bytes:
            raise BrokenContainerError(
                f"its chunks have {self.chunk_bytes} bytes ({min_bytes} to {max_bytes} are allowed)"
            )
        if not 0 < self._n_entry * _ENTRY_BYTES <= self.n_byte:
            raise BrokenContainerError(f"{self._n_entry} files are declared, in {self.n_byte} bytes")
        self.usable_bytes = self.chunk_bytes - _CHUNK_HEADER_BYTES

    def _entries(self) -> Iterator[tuple[str, Entry]]:
        entries_per_chunk = self.usable_bytes // _ENTRY_BYTES
        tree_bytes = b"".join(
            chunk[: entries_per_chunk * _ENTRY_BYTES]
            for chunk in self._chained_chunks(self._tree_chunk, -(-self._n_entry // entries_per_chunk))
        )
        entry_records = [_ENTRY_STRUCT.unpack_from(tree_bytes, index * _ENTRY_BYTES) for index in range(self._n_entry)]
        entry_names = [
            entry_record[4].split(b"\x00", 1)[0].decode("utf-8", "replace") for entry_record in entry_records
        ]
        parent_indices = [int(entry_record[2]) for entry_record in entry_records]
        for index, (table_chunk, file_bytes, _, is_folder, _) in enumerate(entry_records):
            if not is_folder:
                yield (
                    _container_path(index, entry_names, parent_indices),
                    Entry(int(file_bytes), self._chunk_table(entry_names[index], table_chunk, int(file_bytes))),
                )

    def _chunk_table(self, file_name: str, chunk: int, file_bytes: int) -> NDArray[np.int64]:
        """Return the numbers of a file's chunks. All chunks must be inside the container."""
        if file_bytes > self.n_byte:
            raise BrokenContainerError(f"{file_name} declares {file_bytes} bytes, the whole file has {self.n_byte}")
        n_chunk = -(-file_bytes // self.usable_bytes)
        table_bytes = b"".join(self._chained_chunks(chunk, -(-n_chunk // (self.usable_bytes // 4))))
        if len(table_bytes) < 4 * n_chunk:
            raise BrokenContainerError(f"the table of chunks of {file_name} is cut off")
        chunks = np.frombuffer(table_bytes, "<u4", n_chunk).astype(np.int64)
        last_chunk = (self.n_byte - _FIRST_CHUNK_OFFSET - _CHUNK_HEADER_BYTES) // self.chunk_bytes
        if chunks.size and chunks.max() > last_chunk:
            raise BrokenContainerError(f"{file_name} reaches to chunk {chunks.max()}, the last one is {last_chunk}")
        return chunks

    def _chained_chunks(self, chunk: int, n_chunk: int) -> Iterator[bytes]:
        """Yield the content of each chunk in a chain, where each chunk states the number of the next one."""
        for _ in range(n_chunk):
            chunk_content = self._read_bytes(_FIRST_CHUNK_OFFSET + chunk * self.chunk_bytes, self.chunk_bytes)
            if len(chunk_content) < _CHUNK_HEADER_BYTES:
                raise BrokenContainerError(f"chunk {chunk} lies beyond its end")
            yield chunk_content[_CHUNK_HEADER_BYTES:]
            (chunk,) = struct.unpack_from("<I", chunk_content)

    def _read_chunks(self, chunks: NDArray[np.int64]) -> bytes:
        """Return the joined content of chunks. Consecutive chunks are read with a single seek."""
        chunk_runs = np.split(chunks, np.flatnonzero(np.diff(chunks) != 1) + 1) if chunks.size else []
        chunk_contents = []
        for chunk_run in chunk_runs:
            run_content = self._read_bytes(
                _FIRST_CHUNK_OFFSET + int(chunk_run[0]) * self.chunk_bytes, chunk_run.size * self.chunk_bytes
            )
            chunk_contents += [
                run_content[chunk_start + _CHUNK_HEADER_BYTES : chunk_start + self.chunk_bytes]
                for chunk_start in range(0, chunk_run.size * self.chunk_bytes, self.chunk_bytes)
            ]
        return b"".join(chunk_contents)

    def _read_bytes(self, offset: int, n_byte: int) -> bytes:
        if not 0 <= offset <= self.n_byte:
            raise BrokenContainerError(f"byte {offset} is requested, the file has {self.n_byte} bytes")

        def read() -> bytes:
            with self.path.open("rb") as stream:
                stream.seek(offset)
                return stream.read(n_byte)

        bytes_read: bytes = try_read(read, str(self.path))
        return bytes_read


def _container_path(index: int, entry_names: list[str], parent_indices: list[int]) -> str:
    path_parts: list[str] = []
    while index != -1:
        if not 0 <= index < len(entry_names) or len(path_parts) > len(entry_names):
            raise BrokenContainerError(f"the parent folders of {entry_names[0]} are inconsistent")
        path_parts.append(entry_names[index])
        index = parent_indices[index]
    return "/".join(reversed(path_parts))


def _decompress(compressed_content: bytes, block: StoredBlock) -> bytes:
    decompressor = zlib.decompressobj()
    decompressed = decompressor.decompress(compressed_content, block.max_decompressed_bytes + 1)
    if len(decompressed) > block.max_decompressed_bytes or not decompressor.eof:
        raise BrokenContainerError(f"the compressed block at byte {block.offset} does not have its declared size")
    return decompressed


FORMAT = Format(
    "Bruker .bcf",
    "Bruker map",
    endings=(".bcf",),
    recognised_by="AAMVHFSS at byte 0",
    source="unpublished; reverse-engineered by P. Jokubauskas, documented in rosettasciio (2016-2026)",
    extra="bruker",
)
_XML_NAME = "EDSDatabase/HeaderData"
_MAP_PATTERN = re.compile(r"EDSDatabase/SpectrumData(\d+)$")
_FIRST_ROW_OFFSET = 0x1A0
_PIXEL_STRUCT = struct.Struct("<IHHIHHHI")
_MAX_PIXEL_BYTES = 65535
"""Maximum size of a packed spectrum in bytes. A spectrum of 4096 channels in the widest packing has 16 kB."""
_ROW_PADDING = bytes(65536)
"""Zeros that are appended to the last row. A run with too many channels is then still read inside the block."""
_MAX_ROW_BYTES = 2**30
_NON_PHOTOGRAPHS = {"Counter", "PixelTimes"}


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file begins like a ``.bcf`` container."""
    return head.startswith(MAGIC)


def read(path: Path, part_name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the maps of a ``.bcf`` file as one scan per detector.

    The spectra are decompressed row by row when needed.

    Raises
    ------
    ScanError
        The container is damaged or contains no map.
    MissingExtraError
        rosettasciio, which decompresses the pixels, is not installed.
    """
    decompress = _decompressor()
    container = Container(path)
    database = _database(container)
    map_indices = sorted(
        int(map_match[1]) for file_name in container.files if (map_match := _MAP_PATTERN.match(file_name))
    )
    if not map_indices:
        raise ScanError(f"Cannot read {path}: a Bruker .bcf file without a map of X-ray spectra in it.")
    return [
        _scan(container, database, map_index, decompress, is_single=len(map_indices) == 1) for map_index in map_indices
    ]


def read_photographs(path: Path) -> list[Photograph]:
    """Read the images of the object that a ``.bcf`` file contains.

    Raises
    ------
    ScanError
        The container or its XML is damaged, or an image has less data than declared.
    """
    container = Container(path)
    images = _database(container).iter("ClassInstance")
    photographs = [
        photograph
        for image_element in images
        if image_element.get("Type") == "TRTImageData" and image_element.get("Name") not in _NON_PHOTOGRAPHS
        for photograph in _image_planes(image_element, path)
    ]
    return _with_unique_names(photographs)


class BcfCube:
    """Cube of one detector's packed spectra."""

    dtype: np.dtype[Any] = np.dtype(np.uint32)

    def __init__(self, container: Container, map_name: str, n_channel: int, decompress: Any) -> None:
        self.container, self.name, self._decompress = container, map_name, decompress
        row_scanner = _RowScanner(container, map_name)
        self.shape = (row_scanner.n_row, row_scanner.n_column, n_channel)
        if 4 * row_scanner.n_column * n_channel > _MAX_ROW_BYTES:
            raise ScanError(
                f"Cannot read {container.path}: one row of {row_scanner.n_column} pixels does not fit into memory."
            )
        self.row_offsets = row_scanner.row_offsets()
        self.block_sizes = row_scanner.block_sizes

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Decompress a rectangle of pixels."""
        first_row, last_row = rows.start, rows.stop
        map_header = struct.pack("<ii", last_row - first_row, self.shape[1]).ljust(_FIRST_ROW_OFFSET, b"\x00")
        row_bytes = (
            map_header
            + self._decompressed_bytes(int(self.row_offsets[first_row]), int(self.row_offsets[last_row]))
            + _ROW_PADDING
        )
        shape = (last_row - first_row, *self.shape[1:])
        return np.asarray(self._decompress(_SingleBlockFile(row_bytes), shape, self.dtype), dtype=self.dtype)[
            :, columns
        ]

    def _decompressed_bytes(self, start_offset: int, stop_offset: int) -> bytes:
        block_offsets = np.cumsum([0, *(n_bytes for _, n_bytes in self.block_sizes)])
        first_block, last_block = (
            int(np.searchsorted(block_offsets, offset, "right")) - 1
            for offset in (start_offset, max(stop_offset - 1, start_offset))
        )
        block_contents = b"".join(
            self.container.read_block(self.name, block) for block, _ in self.block_sizes[first_block : last_block + 1]
        )
        return block_contents[
            start_offset - int(block_offsets[first_block]) : stop_offset - int(block_offsets[first_block])
        ]


@dataclass(frozen=True)
class _SingleBlockFile:
    """Container of one file with one block, with the interface that rosettasciio needs."""

    content: bytes

    def get_iter_and_properties(self) -> tuple[Iterator[bytes], int, int]:
        return iter([self.content]), len(self.content), 1


class _RowScanner:
    """Scanner that checks all sizes in a packed map and finds the offset of each row, without decompressing pixels."""

    def __init__(self, container: Container, map_name: str) -> None:
        self.source = f"{container.path}, {map_name}"
        self.block_sizes: list[tuple[StoredBlock, int]] = []
        self._remaining_blocks = container.iterate_blocks(map_name)
        self._buffer, self._position, self._buffer_offset = b"", 0, 0
        self.n_row, self.n_column = self._unpack_next(struct.Struct("<ii"), "its size")
        if self.n_row < 1 or self.n_column < 1:
            raise ScanError(
                f"Cannot read {self.source}: a map of {self.n_row} x {self.n_column} pixels. Copy the file again."
            )
        self._position = _FIRST_ROW_OFFSET

    def row_offsets(self) -> NDArray[np.int64]:
        """Check each pixel, and return (n_row + 1,) offsets in bytes: the start of each row and the end of the last."""
        row_starts = []
        for row in range(self.n_row):
            row_starts.append(self._buffer_offset + self._position)
            (n_pixel,) = self._unpack_next(_N_PIXEL_STRUCT, f"row {row}")
            for _ in range(n_pixel):
                self._skip_pixel(row)
        self._load_bytes(0, f"row {self.n_row - 1}")
        for block, block_content in self._remaining_blocks:  # reading all blocks also detects missing data at the end
            self.block_sizes.append((block, len(block_content)))
        return np.array([*row_starts, self._buffer_offset + self._position])

    def _skip_pixel(self, row: int) -> None:
        column, _, _, _, packing, _, n_pulse, packed_bytes = self._unpack_next(_PIXEL_STRUCT, f"row {row}")
        if column >= self.n_column or not _has_room_for_pulses(packing, n_pulse, packed_bytes):
            raise ScanError(
                f"Cannot read {self.source}: row {row} holds a pixel at column {column} of {self.n_column}, in packing "
                f"{packing} with {n_pulse} pulses in {packed_bytes} bytes, which is impossible. Copy the file again."
            )
        self._position += packed_bytes + (2 * n_pulse if packing > 1 else 0)

    def _unpack_next(self, record_struct: struct.Struct, location: str) -> tuple[Any, ...]:
        if self._position + record_struct.size > len(self._buffer):
            self._load_bytes(record_struct.size, location)
        unpacked_values = record_struct.unpack_from(self._buffer, self._position)
        self._position += record_struct.size
        return unpacked_values

    def _load_bytes(self, n_byte: int, location: str) -> None:
        """Load the next ``n_byte`` bytes, and discard the bytes that were scanned."""
        while self._position + n_byte > len(self._buffer):
            block, block_content = next(self._remaining_blocks, (None, b""))
            if block is None:
                raise ScanError(
                    f"Cannot read {self.source}: the map ends within {location} of {self._size_text()}. Copy the "
                    "file again."
                )
            self.block_sizes.append((block, len(block_content)))
            n_consumed_byte = min(self._position, len(self._buffer))
            self._buffer, self._position, self._buffer_offset = (
                self._buffer[n_consumed_byte:] + block_content,
                self._position - n_consumed_byte,
                self._buffer_offset + n_consumed_byte,
            )

    def _size_text(self) -> str:
        return f"{getattr(self, 'n_row', 'unknown')} rows"


_N_PIXEL_STRUCT = struct.Struct("<I")


def _has_room_for_pulses(packing: int, n_pulse: int, packed_bytes: int) -> bool:
    """Return whether a pixel's packed bytes have room for its pulses."""
    if packing == 0:
        return 2 * n_pulse <= packed_bytes
    if packing == 1:
        return 3 * n_pulse <= 2 * packed_bytes + 1
    return 4 <= packed_bytes <= _MAX_PIXEL_BYTES


def _decompressor() -> Any:
    try:
        return import_module("rsciio.bruker.unbcf_fast").parse_to_numpy
    except ImportError:
        return _slow_decompressor()


def _slow_decompressor() -> Any:
    try:
        return import_module("rsciio.bruker._api").py_parse_hypermap
    except ImportError as error:
        raise MissingExtraError(
            "Cannot read .bcf files: rosettasciio, which decompresses their pixels, is not installed. "
            'Run `pip install "underpaint[bruker]"`, or export the map from Esprit as ripple (.rpl/.raw).'
        ) from error


# --- the header ------------------------------------------------------------------------------------


def _database(container: Container) -> ET.Element:
    if _XML_NAME not in container.files:
        file_list = ", ".join(sorted(container.files)[:5]) or "nothing"
        raise ScanError(
            f"Cannot read {container.path}: the container of a Bruker .bcf file, but it contains {file_list} "
            "instead of "
            "a map."
        )
    # The limit depends on the file's size, since compressed XML could expand to any size.
    header_xml = container.content(_XML_NAME, 64 * 2**20 + 4 * container.n_byte)
    database_node = find_instance(parse_xml(header_xml, f"{container.path}, {_XML_NAME}"), "TRTSpectrumDatabase")
    if database_node is None:
        raise ScanError(
            f"Cannot read {container.path}: a Bruker .bcf file whose header describes no map. Copy the file again."
        )
    return database_node


def _scan(container: Container, database: ET.Element, index: int, decompress: Any, *, is_single: bool) -> Scan:
    path = container.path
    sum_spectrum = _sum_spectrum(database, index, path)
    cube = BcfCube(container, f"EDSDatabase/SpectrumData{index}", sum_spectrum.counts.size, decompress)
    real_time = _real_time_s(database, cube.shape[:2])
    live_time = _live_time_s(real_time, sum_spectrum)
    source = str(path) if is_single else f"{path}, detector {index}"
    return Scan(
        lazy_counts(cube, source),
        axis=sum_spectrum.axis,
        name=path.stem if is_single else f"{path.stem}_{index}",
        source=source,
        format=FORMAT.name,
        live_time_s=live_time,
        real_time_s=real_time,
        step_mm=_step_mm(database),
        detector=sum_spectrum.detector,
        notes=(*sum_spectrum.notes, *_scan_notes(database, real_time, live_time)),
        metadata={"name": database.get("Name", ""), **_metadata(database), **sum_spectrum.metadata},
    )


def _sum_spectrum(database: ET.Element, index: int, path: Path) -> FileSpectrum:
    node = database.find(f"./SpectrumData{index}/ClassInstance")
    if node is None:
        raise ScanError(
            f"Cannot read {path}: its header lacks the sum spectrum of detector {index}, which defines the channels."
        )
    return read_spectrum_node(node, f"{path}, sum spectrum of detector {index}")


def _metadata(database: ET.Element) -> dict[str, Any]:
    object_types = {"xrf": "TRTXRFData", "sem": "TRTSEMData", "stage": "TRTSEMStageData", "scan": "TRTDSPConfiguration"}
    return {
        f"{key_prefix}.{value_name}": value_text
        for key_prefix, object_type in object_types.items()
        for value_name, value_text in short_values(find_instance(database, object_type)).items()
    }


def _step_mm(database: ET.Element) -> tuple[float, float] | None:
    stage_values = short_values(find_instance(database, "TRTSEMData"))
    row_um, column_um = parse_number(stage_values.get("DY")), parse_number(stage_values.get("DX"))
    if row_um is None or column_um is None or row_um <= 0 or column_um <= 0:
        return None
    return row_um / 1000, column_um / 1000


def _real_time_s(database: ET.Element, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    """Return the time of each pixel in s, from the image of times or from how often each row was scanned."""
    times_image = database.find("./ClassInstance[@Type='TRTImageData'][@Name='PixelTimes']")
    encoded_times = None if times_image is None else times_image.findtext("./Plane0/Data")
    pixel_times = (
        np.frombuffer(_decode_base64(encoded_times or ""), "<u4")
        if encoded_times and len(encoded_times) >= 4 * shape[0] * shape[1]
        else None
    )
    if pixel_times is not None and pixel_times.size == shape[0] * shape[1] and pixel_times.any():
        return np.where(pixel_times > 0, pixel_times * 1e-6, np.nan).reshape(shape)
    return _row_times(database, shape)


def _row_times(database: ET.Element, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    row_visits = [
        parse_number(visits_text)
        for visits_text in (database.findtext("./LineCounter") or "").split(",")
        if visits_text.strip()
    ]
    timing_values = short_values(find_instance(database, "TRTDSPConfiguration"))
    time_factors = [
        parse_number(timing_values.get(value_name)) for value_name in ("PixelTime", "PixelAverage", "LineAverage")
    ]
    visits_and_factors = [
        parsed_value for parsed_value in (*row_visits, *time_factors) if parsed_value is not None and parsed_value >= 0
    ]
    if (
        len(row_visits) != shape[0]
        or len(visits_and_factors) != len(row_visits) + len(time_factors)
        or not any(visits_and_factors[: shape[0]])
    ):
        return None
    visit_time_us = float(np.prod(visits_and_factors[shape[0] :]))
    row_times = np.array(visits_and_factors[: shape[0]]) * visit_time_us * 1e-6
    return np.repeat(np.where(row_times > 0, row_times, np.nan)[:, None], shape[1], axis=1)


def _live_time_s(real_time_s: NDArray[np.float64] | None, sum_spectrum: FileSpectrum) -> NDArray[np.float64] | None:
    if real_time_s is None or sum_spectrum.live_time_s is None or sum_spectrum.real_time_s is None:
        return None
    return real_time_s * min(sum_spectrum.live_time_s / sum_spectrum.real_time_s, 1.0)


def _scan_notes(
    database: ET.Element, real_time: NDArray[np.float64] | None, live_time: NDArray[np.float64] | None
) -> tuple[str, ...]:
    n_detector = parse_number(database.findtext("./DetectorCount")) or 1
    possible_notes = (
        (real_time is None, "the file has no pixel times"),
        (live_time is not None, "live times: the pixels' real times times the live fraction of the map"),
        (n_detector > 1, f"the header names {n_detector:g} detectors"),
    )
    return tuple(note for is_applicable, note in possible_notes if is_applicable)


# --- images ----------------------------------------------------------------------------------------


def _image_planes(image: ET.Element, path: Path) -> Iterator[Photograph]:
    """Yield the planes of an image, without planes of zeros."""
    image_values = short_values(image)
    declared_sizes = [
        parse_number(image_values.get(value_name)) for value_name in ("Height", "Width", "ItemSize", "PlaneCount")
    ]
    image_height, image_width, bytes_per_pixel, n_plane = (
        0 if declared_size is None else int(declared_size) for declared_size in declared_sizes
    )
    file_name = (image.get("Name") or "").strip()
    for plane_index in range(min(n_plane, len(image))):
        image_plane = image.find(f"./Plane{plane_index}")
        image_bytes = _decode_base64("" if image_plane is None else image_plane.findtext("./Data") or "")
        if (
            min(image_height, image_width) < 1
            or bytes_per_pixel not in {1, 2, 3, 4}
            or len(image_bytes) != image_height * image_width * bytes_per_pixel
        ):
            raise ScanError(
                f"Cannot read the image {file_name or plane_index} of {path}: {image_height} x {image_width} pixels of "
                f"{bytes_per_pixel} bytes are declared, {len(image_bytes)} bytes exist. Copy the file again."
            )
        if any(image_bytes):
            plane_label = (
                ""
                if image_plane is None
                else image_plane.findtext("./Description") or image_plane.findtext("./Name") or ""
            )
            yield Photograph(
                " ".join(filter(None, (file_name, plane_label.strip()))),
                _image_pixels(image_bytes, image_height, image_width, bytes_per_pixel),
            )


def _image_pixels(image_bytes: bytes, height: int, width: int, bytes_per_pixel: int) -> NDArray[Any]:
    if bytes_per_pixel < 3:
        return np.frombuffer(image_bytes, f"<u{bytes_per_pixel}").reshape(height, width)
    blue_green_red = np.frombuffer(image_bytes, np.uint8).reshape(height, width, bytes_per_pixel)[:, :, :3]
    return np.ascontiguousarray(blue_green_red[:, :, ::-1])


def _decode_base64(encoded_text: str) -> bytes:
    try:
        return base64.b64decode(encoded_text, validate=False)
    except (binascii.Error, ValueError):
        return b""


def _with_unique_names(photographs: list[Photograph]) -> list[Photograph]:
    photograph_names = [photograph.name or "image" for photograph in photographs]
    return [
        Photograph(
            photograph_name
            if photograph_names.count(photograph_name) == 1
            else f"{photograph_name} {photograph_names[: index + 1].count(photograph_name)}",
            photograph.pixels,
        )
        for index, (photograph_name, photograph) in enumerate(zip(photograph_names, photographs, strict=True))
    ]
