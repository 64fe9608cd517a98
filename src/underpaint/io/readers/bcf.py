"""Maps of Bruker's Esprit (M4 Tornado, M6 Jetstream, SEM), ``.bcf``: the spectra of all pixels, and photographs.

A container (below) with ``EDSDatabase/HeaderData`` (XML as :mod:`underpaint.io.readers._bruker_xml`
describes) and one ``EDSDatabase/SpectrumData<n>`` for each detector: int32 rows and columns, and from byte 0x1A0 for
each row the number of pixels (uint32), then for each pixel a header of 22 bytes (uint32 column, uint16 channels of the
map and of the pixel, uint32, uint16 packing, uint16, uint16 pulses, uint32 size) and the packed spectrum. In packings
0 and 1 each pulse is stored as its channel number in 16 or 12 bits; in other packings runs of channels share a base
and a bit width, and ``pulses`` further pulses of 16 bits follow. The image ``PixelTimes`` in the header holds the time
of each pixel in microseconds; if it is empty, the number of visits of a row (``LineCounter``) times ``PixelTime`` is
used.

Source: no specification is published; P. Jokubauskas reverse-engineered the format, and the rosettasciio source
(2016-2026) documents it. The extra ``bruker`` installs rosettasciio (GPL), which decompresses the pixels. It does not
validate its input, so every row is checked first: no pixel may be outside the map, no size beyond the data.

The file is a Single File System (AidAim): files inside one file, read with all bounds checked. Little-endian.
``AAMVHFSS`` at byte 0; float32 version and uint32 chunk size at 0x124; at 0x140 three uint32: chunk of the file tree,
number of its entries, number of chunks. Chunk n begins at 0x118 + n * chunk size with 32 bytes (the first four: the
chunk that continues it), its content follows. A tree entry has 512 bytes: int32 chunk of its table of chunks, uint64
size, 28 bytes of times and rights, int32 parent (-1: none), 176 bytes, a flag for folders, 3 bytes, name (256 bytes),
32 bytes. A compressed file begins ``AACS``, uint32 decompressed size of a block, uint32, uint32 number of blocks; the
blocks follow from byte 0x80 as zlib streams, each after its compressed size (uint32) and 12 bytes. Source: not
published by AidAim; reverse-engineered by P. Jokubauskas and documented in the source of rosettasciio (2016-2026), with
which the tests compare.
No name inside the file ever becomes a path outside.
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
    """The container is inconsistent; the message states where."""


@dataclass(frozen=True)
class Entry:
    """A file in the container: its stored size in bytes, and its chunks."""

    size: int
    chunks: NDArray[np.int64]


@dataclass(frozen=True)
class StoredBlock:
    """Location of a block of a file: offset, stored size and maximum decompressed size, bytes."""

    offset: int
    stored_bytes: int
    max_decompressed_bytes: int
    compressed: bool


class Container:
    """The files in a container, by path; the container is opened again for each read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_byte: int = try_read(path.stat, str(path)).st_size
        try:
            self._read_header()
            self.files = dict(self._entries())
        except (BrokenContainerError, struct.error) as error:
            raise ScanError(
                f"Cannot read {path}: a Bruker .bcf container, but damaged: {error}. Copy it again."
            ) from error

    def read_stored(self, name: str, offset: int, length: int) -> bytes:
        """Read bytes of a file as stored, without decompression."""
        entry = self.files[name]
        stop = min(offset + length, entry.size)
        if not 0 <= offset <= stop:
            raise BrokenContainerError(f"bytes {offset} to {offset + length} of {name}, which has {entry.size}")
        first, last = offset // self.usable_bytes, -(-stop // self.usable_bytes)
        content = self._read_chunks(entry.chunks[first:last])
        return content[offset - first * self.usable_bytes : stop - first * self.usable_bytes]

    def blocks(self, name: str) -> Iterator[bytes]:
        """Return the content of a file in blocks, decompressed.

        Raises
        ------
        ScanError
            A block is missing, cannot be decompressed, or is larger than declared.
        """
        return (content for _, content in self.iterate_blocks(name))

    def content(self, name: str, max_bytes: int) -> bytes:
        """Return the content of a small file.

        Raises
        ------
        ScanError
            As for :meth:`blocks`, or the file has more than ``max_bytes`` bytes.
        """
        contents, n_read = [], 0
        for block in self.blocks(name):
            n_read += len(block)
            if n_read > max_bytes:
                raise ScanError(
                    f"Cannot read {self.path}: {name} inside has over {max_bytes} bytes, more than it can have."
                )
            contents.append(block)
        return b"".join(contents)

    def iterate_blocks(self, name: str) -> Iterator[tuple["StoredBlock", bytes]]:
        """Yield location and content of the blocks of a file, in order.

        Raises
        ------
        ScanError
            As for :meth:`blocks`.
        """
        with self._as_scan_error(name):
            compressed = self.read_stored(name, 0, 4) == _COMPRESSED_MAGIC
            yield from self._compressed_blocks(name) if compressed else self._uncompressed_blocks(name)

    def read_block(self, name: str, block: "StoredBlock") -> bytes:
        """Read one block again.

        Raises
        ------
        ScanError
            As for :meth:`blocks`.
        """
        with self._as_scan_error(name):
            content = self.read_stored(name, block.offset, block.stored_bytes)
            return _decompress(content, block) if block.compressed else content

    def _uncompressed_blocks(self, name: str) -> Iterator[tuple["StoredBlock", bytes]]:
        block_bytes = max(1, _UNCOMPRESSED_BLOCK_BYTES // self.usable_bytes) * self.usable_bytes
        for start in range(0, self.files[name].size, block_bytes):
            content = self.read_stored(name, start, block_bytes)
            if len(content) < min(block_bytes, self.files[name].size - start):
                raise BrokenContainerError(f"it ends at byte {start + len(content)}")
            yield StoredBlock(start, len(content), len(content), compressed=False), content

    def _compressed_blocks(self, name: str) -> Iterator[tuple["StoredBlock", bytes]]:
        block_bytes, _, n_block = struct.unpack("<III", self.read_stored(name, 4, 12))
        if block_bytes > _MAX_BLOCK_BYTES or 16 * n_block > self.files[name].size:
            raise BrokenContainerError(f"{n_block} compressed blocks of {block_bytes} bytes are declared")
        offset = _COMPRESSED_START
        for _ in range(n_block):
            (size,) = struct.unpack("<I", self.read_stored(name, offset, 4))
            block = StoredBlock(offset + 16, size, block_bytes, compressed=True)
            yield block, _decompress(self.read_stored(name, offset + 16, size), block)
            offset += 16 + size

    @contextmanager
    def _as_scan_error(self, name: str) -> Iterator[None]:
        try:
            yield
        except (BrokenContainerError, struct.error, zlib.error) as error:
            raise ScanError(
                f"Cannot read {self.path}: {name} inside is damaged: {error}. Copy the file again."
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
        per_chunk = self.usable_bytes // _ENTRY_BYTES
        tree = b"".join(
            chunk[: per_chunk * _ENTRY_BYTES]
            for chunk in self._chained_chunks(self._tree_chunk, -(-self._n_entry // per_chunk))
        )
        records = [_ENTRY_STRUCT.unpack_from(tree, index * _ENTRY_BYTES) for index in range(self._n_entry)]
        names = [entry[4].split(b"\x00", 1)[0].decode("utf-8", "replace") for entry in records]
        parents = [int(entry[2]) for entry in records]
        for index, (table_chunk, size, _, is_folder, _) in enumerate(records):
            if not is_folder:
                yield (
                    _path(index, names, parents),
                    Entry(int(size), self._chunk_table(names[index], table_chunk, int(size))),
                )

    def _chunk_table(self, name: str, chunk: int, size: int) -> NDArray[np.int64]:
        """Return the chunks of a file; each must be inside the container."""
        if size > self.n_byte:
            raise BrokenContainerError(f"{name} declares {size} bytes, the whole file has {self.n_byte}")
        n_chunk = -(-size // self.usable_bytes)
        content = b"".join(self._chained_chunks(chunk, -(-n_chunk // (self.usable_bytes // 4))))
        if len(content) < 4 * n_chunk:
            raise BrokenContainerError(f"the table of chunks of {name} is cut off")
        chunks = np.frombuffer(content, "<u4", n_chunk).astype(np.int64)
        last = (self.n_byte - _FIRST_CHUNK_OFFSET - _CHUNK_HEADER_BYTES) // self.chunk_bytes
        if chunks.size and chunks.max() > last:
            raise BrokenContainerError(f"{name} reaches to chunk {chunks.max()}, the last one is {last}")
        return chunks

    def _chained_chunks(self, chunk: int, n_chunk: int) -> Iterator[bytes]:
        """Yield the contents of a chain of chunks, each of which names the next."""
        for _ in range(n_chunk):
            content = self._read_bytes(_FIRST_CHUNK_OFFSET + chunk * self.chunk_bytes, self.chunk_bytes)
            if len(content) < _CHUNK_HEADER_BYTES:
                raise BrokenContainerError(f"chunk {chunk} lies beyond its end")
            yield content[_CHUNK_HEADER_BYTES:]
            (chunk,) = struct.unpack_from("<I", content)

    def _read_chunks(self, chunks: NDArray[np.int64]) -> bytes:
        """Return the joined contents of chunks, with one seek for each run of consecutive chunks."""
        runs = np.split(chunks, np.flatnonzero(np.diff(chunks) != 1) + 1) if chunks.size else []
        contents = []
        for run in runs:
            content = self._read_bytes(
                _FIRST_CHUNK_OFFSET + int(run[0]) * self.chunk_bytes, run.size * self.chunk_bytes
            )
            contents += [
                content[start + _CHUNK_HEADER_BYTES : start + self.chunk_bytes]
                for start in range(0, run.size * self.chunk_bytes, self.chunk_bytes)
            ]
        return b"".join(contents)

    def _read_bytes(self, offset: int, length: int) -> bytes:
        if not 0 <= offset <= self.n_byte:
            raise BrokenContainerError(f"byte {offset} is requested, the file has {self.n_byte}")

        def read() -> bytes:
            with self.path.open("rb") as stream:
                stream.seek(offset)
                return stream.read(length)

        content: bytes = try_read(read, str(self.path))
        return content


def _path(index: int, names: list[str], parents: list[int]) -> str:
    components: list[str] = []
    while index != -1:
        if not 0 <= index < len(names) or len(components) > len(names):
            raise BrokenContainerError(f"the parent folders of {names[0]} are inconsistent")
        components.append(names[index])
        index = parents[index]
    return "/".join(reversed(components))


def _decompress(content: bytes, block: StoredBlock) -> bytes:
    decompressor = zlib.decompressobj()
    decompressed = decompressor.decompress(content, block.max_decompressed_bytes + 1)
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
_HEADER_NAME = "EDSDatabase/HeaderData"
_MAP_PATTERN = re.compile(r"EDSDatabase/SpectrumData(\d+)$")
_FIRST_ROW_OFFSET = 0x1A0
_PIXEL_STRUCT = struct.Struct("<IHHIHHHI")
_MAX_PIXEL_BYTES = 65535
"""Maximum size of a packed spectrum; 4096 channels of the widest packing need 16 kB."""
_PADDING = bytes(65536)
"""Appended to the last row, so that a run that declares too many channels is still read within the block."""
_MAX_ROW_BYTES = 2**30
_NON_PHOTOGRAPHS = {"Counter", "PixelTimes"}


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file's first bytes are those of a .bcf container."""
    return head.startswith(MAGIC)


def read(path: Path, name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the maps of a .bcf file, one scan for each detector; their spectra are decompressed row by row on demand.

    Raises
    ------
    ScanError
        The container has other content, is damaged, or contains no map.
    MissingExtraError
        rosettasciio, which decompresses the pixels, is not installed.
    """
    decompress = _decompressor()
    container = Container(path)
    database = _database(container)
    indices = sorted(int(match[1]) for name in container.files if (match := _MAP_PATTERN.match(name)))
    if not indices:
        raise ScanError(f"Cannot read {path}: a Bruker .bcf file without a map of X-ray spectra in it.")
    return [_scan(container, database, index, decompress, is_single=len(indices) == 1) for index in indices]


def read_photographs(path: Path) -> list[Photograph]:
    """Read the images of a .bcf file: the mosaic and other images of the object.

    Raises
    ------
    ScanError
        The container or its header is damaged, or an image has less data than declared.
    """
    container = Container(path)
    images = _database(container).iter("ClassInstance")
    photographs = [
        photograph
        for image in images
        if image.get("Type") == "TRTImageData" and image.get("Name") not in _NON_PHOTOGRAPHS
        for photograph in _image_planes(image, path)
    ]
    return _with_unique_names(photographs)


class BcfCube:
    """Packed spectra of one detector, as (row, column, channel)."""

    dtype: np.dtype[Any] = np.dtype(np.uint32)

    def __init__(self, container: Container, name: str, n_channel: int, decompress: Any) -> None:
        self.container, self.name, self._decompress = container, name, decompress
        rows = _RowScanner(container, name)
        self.shape = (rows.n_row, rows.n_column, n_channel)
        if 4 * rows.n_column * n_channel > _MAX_ROW_BYTES:
            raise ScanError(
                f"Cannot read {container.path}: one row of {rows.n_column} pixels does not fit into memory."
            )
        self.row_offsets = rows.row_offsets()
        self.block_sizes = rows.block_sizes

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Decompress a rectangle of pixels."""
        first, last = rows.start, rows.stop
        head = struct.pack("<ii", last - first, self.shape[1]).ljust(_FIRST_ROW_OFFSET, b"\x00")
        row_bytes = (
            head + self._decompressed_bytes(int(self.row_offsets[first]), int(self.row_offsets[last])) + _PADDING
        )
        shape = (last - first, *self.shape[1:])
        return np.asarray(self._decompress(_SingleBlockFile(row_bytes), shape, self.dtype), dtype=self.dtype)[
            :, columns
        ]

    def _decompressed_bytes(self, start: int, stop: int) -> bytes:
        offsets = np.cumsum([0, *(n_bytes for _, n_bytes in self.block_sizes)])
        first, last = (int(np.searchsorted(offsets, offset, "right")) - 1 for offset in (start, max(stop - 1, start)))
        content = b"".join(
            self.container.read_block(self.name, block) for block, _ in self.block_sizes[first : last + 1]
        )
        return content[start - int(offsets[first]) : stop - int(offsets[first])]


@dataclass(frozen=True)
class _SingleBlockFile:
    """A file in a container, as rosettasciio reads it: a single block, and its size."""

    content: bytes

    def get_iter_and_properties(self) -> tuple[Iterator[bytes], int, int]:
        return iter([self.content]), len(self.content), 1


class _RowScanner:
    """Scanner of a packed map that checks all sizes and finds the offset of each row, without decompressing pixels."""

    def __init__(self, container: Container, name: str) -> None:
        self.source = f"{container.path}, {name}"
        self.block_sizes: list[tuple[StoredBlock, int]] = []
        self._remaining_blocks = container.iterate_blocks(name)
        self._buffer, self._position, self._buffer_offset = b"", 0, 0
        self.n_row, self.n_column = self._unpack_next(struct.Struct("<ii"), "its size")
        if self.n_row < 1 or self.n_column < 1:
            raise ScanError(
                f"Cannot read {self.source}: a map of {self.n_row} x {self.n_column} pixels. Copy it again."
            )
        self._position = _FIRST_ROW_OFFSET

    def row_offsets(self) -> NDArray[np.int64]:
        """Check each pixel and return the (n_row + 1,) offsets of the rows and of the end."""
        offsets = []
        for row in range(self.n_row):
            offsets.append(self._buffer_offset + self._position)
            (n_pixel,) = self._unpack_next(_COUNT_STRUCT, f"row {row}")
            for _ in range(n_pixel):
                self._skip_pixel(row)
        self._load(0, f"row {self.n_row - 1}")
        for block, content in self._remaining_blocks:  # so that a missing later part is detected
            self.block_sizes.append((block, len(content)))
        return np.array([*offsets, self._buffer_offset + self._position])

    def _skip_pixel(self, row: int) -> None:
        column, _, _, _, packing, _, n_pulse, size = self._unpack_next(_PIXEL_STRUCT, f"row {row}")
        if column >= self.n_column or not _has_room(packing, n_pulse, size):
            raise ScanError(
                f"Cannot read {self.source}: row {row} holds a pixel at column {column} of {self.n_column}, in packing "
                f"{packing} with {n_pulse} pulses in {size} bytes, which is impossible. Copy the file again."
            )
        self._position += size + (2 * n_pulse if packing > 1 else 0)

    def _unpack_next(self, layout: struct.Struct, position: str) -> tuple[Any, ...]:
        if self._position + layout.size > len(self._buffer):
            self._load(layout.size, position)
        values = layout.unpack_from(self._buffer, self._position)
        self._position += layout.size
        return values

    def _load(self, n_byte: int, position: str) -> None:
        """Load the next ``n_byte`` bytes and release bytes already scanned."""
        while self._position + n_byte > len(self._buffer):
            block, content = next(self._remaining_blocks, (None, b""))
            if block is None:
                raise ScanError(
                    f"Cannot read {self.source}: the map ends within {position} of {self._size_text()}. Copy it again."
                )
            self.block_sizes.append((block, len(content)))
            consumed = min(self._position, len(self._buffer))
            self._buffer, self._position, self._buffer_offset = (
                self._buffer[consumed:] + content,
                self._position - consumed,
                self._buffer_offset + consumed,
            )

    def _size_text(self) -> str:
        return f"{getattr(self, 'n_row', 'unknown')} rows"


_COUNT_STRUCT = struct.Struct("<I")


def _has_room(packing: int, n_pulse: int, size: int) -> bool:
    """Return whether a pixel's pulses fit into its bytes."""
    if packing == 0:
        return 2 * n_pulse <= size
    if packing == 1:
        return 3 * n_pulse <= 2 * size + 1
    return 4 <= size <= _MAX_PIXEL_BYTES


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
    if _HEADER_NAME not in container.files:
        names = ", ".join(sorted(container.files)[:5]) or "nothing"
        raise ScanError(
            f"Cannot read {container.path}: the container of a Bruker .bcf file, but it contains {names} instead of "
            "a map."
        )
    # The XML of a small file cannot be large: a compressed one could expand to any size.
    content = container.content(_HEADER_NAME, 64 * 2**20 + 4 * container.n_byte)
    node = find_instance(parse_xml(content, f"{container.path}, {_HEADER_NAME}"), "TRTSpectrumDatabase")
    if node is None:
        raise ScanError(
            f"Cannot read {container.path}: a Bruker .bcf file whose header describes no map. Copy it again."
        )
    return node


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
        notes=(*sum_spectrum.notes, *_notes(database, real_time, live_time)),
        metadata={"name": database.get("Name", ""), **_metadata(database), **sum_spectrum.metadata},
    )


def _sum_spectrum(database: ET.Element, index: int, path: Path) -> FileSpectrum:
    node = database.find(f"./SpectrumData{index}/ClassInstance")
    if node is None:
        raise ScanError(
            f"Cannot read {path}: its header lacks the sum spectrum of detector {index}, and so the channels."
        )
    return read_spectrum_node(node, f"{path}, sum spectrum of detector {index}")


def _metadata(database: ET.Element) -> dict[str, Any]:
    object_types = {"xrf": "TRTXRFData", "sem": "TRTSEMData", "stage": "TRTSEMStageData", "scan": "TRTDSPConfiguration"}
    return {
        f"{group}.{key}": value
        for group, object_type in object_types.items()
        for key, value in short_values(find_instance(database, object_type)).items()
    }


def _step_mm(database: ET.Element) -> tuple[float, float] | None:
    facts = short_values(find_instance(database, "TRTSEMData"))
    row_um, column_um = parse_number(facts.get("DY")), parse_number(facts.get("DX"))
    if row_um is None or column_um is None or row_um <= 0 or column_um <= 0:
        return None
    return row_um / 1000, column_um / 1000


def _real_time_s(database: ET.Element, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    """Return the time of each pixel: from the file's image of times, else from the number of visits of the row."""
    image = database.find("./ClassInstance[@Type='TRTImageData'][@Name='PixelTimes']")
    data = None if image is None else image.findtext("./Plane0/Data")
    times = np.frombuffer(_decode_base64(data or ""), "<u4") if data and len(data) >= 4 * shape[0] * shape[1] else None
    if times is not None and times.size == shape[0] * shape[1] and times.any():
        return np.where(times > 0, times * 1e-6, np.nan).reshape(shape)
    return _row_times(database, shape)


def _row_times(database: ET.Element, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    row_visits = [parse_number(word) for word in (database.findtext("./LineCounter") or "").split(",") if word.strip()]
    facts = short_values(find_instance(database, "TRTDSPConfiguration"))
    factors = [parse_number(facts.get(key)) for key in ("PixelTime", "PixelAverage", "LineAverage")]
    given_values = [value for value in (*row_visits, *factors) if value is not None and value >= 0]
    if (
        len(row_visits) != shape[0]
        or len(given_values) != len(row_visits) + len(factors)
        or not any(given_values[: shape[0]])
    ):
        return None
    visit_us = float(np.prod(given_values[shape[0] :]))
    row_times = np.array(given_values[: shape[0]]) * visit_us * 1e-6
    return np.repeat(np.where(row_times > 0, row_times, np.nan)[:, None], shape[1], axis=1)


def _live_time_s(real_s: NDArray[np.float64] | None, sum_spectrum: FileSpectrum) -> NDArray[np.float64] | None:
    if real_s is None or sum_spectrum.live_time_s is None or sum_spectrum.real_time_s is None:
        return None
    return real_s * min(sum_spectrum.live_time_s / sum_spectrum.real_time_s, 1.0)


def _notes(
    database: ET.Element, real_time: NDArray[np.float64] | None, live_time: NDArray[np.float64] | None
) -> tuple[str, ...]:
    n_detector = parse_number(database.findtext("./DetectorCount")) or 1
    candidates = (
        (real_time is None, "the file has no pixel times"),
        (live_time is not None, "live times: the pixels' real times times the live fraction of the map"),
        (n_detector > 1, f"the header names {n_detector:g} detectors"),
    )
    return tuple(text for applies, text in candidates if applies)


# --- images ----------------------------------------------------------------------------------------


def _image_planes(image: ET.Element, path: Path) -> Iterator[Photograph]:
    """Yield the planes that are not all zero; colours interleaved in one plane are separated."""
    fields = short_values(image)
    sizes = [parse_number(fields.get(key)) for key in ("Height", "Width", "ItemSize", "PlaneCount")]
    height, width, bytes_per_pixel, n_plane = (0 if value is None else int(value) for value in sizes)
    file_name = (image.get("Name") or "").strip()
    for index in range(min(n_plane, len(image))):
        plane = image.find(f"./Plane{index}")
        raw = _decode_base64("" if plane is None else plane.findtext("./Data") or "")
        if (
            min(height, width) < 1
            or bytes_per_pixel not in {1, 2, 3, 4}
            or len(raw) != height * width * bytes_per_pixel
        ):
            raise ScanError(
                f"Cannot read the image {file_name or index} of {path}: {height} x {width} pixels of "
                f"{bytes_per_pixel} bytes are declared, {len(raw)} bytes exist. Copy the file again."
            )
        if any(raw):
            label = "" if plane is None else plane.findtext("./Description") or plane.findtext("./Name") or ""
            yield Photograph(
                " ".join(filter(None, (file_name, label.strip()))), _pixels(raw, height, width, bytes_per_pixel)
            )


def _pixels(raw: bytes, height: int, width: int, bytes_per_pixel: int) -> NDArray[Any]:
    if bytes_per_pixel < 3:
        return np.frombuffer(raw, f"<u{bytes_per_pixel}").reshape(height, width)
    blue_green_red = np.frombuffer(raw, np.uint8).reshape(height, width, bytes_per_pixel)[:, :, :3]
    return np.ascontiguousarray(blue_green_red[:, :, ::-1])


def _decode_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=False)
    except (binascii.Error, ValueError):
        return b""


def _with_unique_names(photographs: list[Photograph]) -> list[Photograph]:
    names = [photograph.name or "image" for photograph in photographs]
    return [
        Photograph(name if names.count(name) == 1 else f"{name} {names[: index + 1].count(name)}", photograph.pixels)
        for index, (name, photograph) in enumerate(zip(names, photographs, strict=True))
    ]
