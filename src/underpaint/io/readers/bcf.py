"""Maps of Bruker's Esprit (M4 Tornado, M6 Jetstream, SEM), ``.bcf``: spectra of every pixel and the photographs.

A container (below) with ``EDSDatabase/HeaderData`` (XML as :mod:`underpaint.io.readers._bruker_xml`
describes) and one ``EDSDatabase/SpectrumData<n>`` for each detector: int32 rows and columns, and from byte 0x1A0 for
each row the number of its pixels (uint32), then for each a head of 22 bytes (uint32 column, uint16 channels of the map
and of the pixel, uint32, uint16 way of packing, uint16, uint16 pulses, uint32 size) and the packed spectrum. Of
packing 0 and 1 each pulse is its channel in 16 or 12 bits; of others runs of channels share a base and a width of
bits, and ``pulses`` further pulses of 16 bits follow. The image ``PixelTimes`` in the header holds the time of each
pixel in microseconds; where it is empty, visits of a row (``LineCounter``) times ``PixelTime`` are taken.

Source: no specification is published; P. Jokubauskas reverse-engineered it, the rosettasciio source (2016-2026)
documents it. The extra ``bruker`` brings rosettasciio (GPL), which decompresses the pixels. It does not validate its
input, so every row is checked first: no pixel outside the map, no size beyond the data.

The file is a Single File System (AidAim): small files inside one file, read with bounds checked. Little-endian.
``AAMVHFSS`` at byte 0; float32 version and uint32 chunk size at 0x124; at 0x140 three uint32: chunk of the file tree,
number of its entries, number of chunks. Chunk n begins at 0x118 + n * chunk size with 32 bytes (the first four: the
chunk that continues it), its content follows. A tree entry has 512 bytes: int32 chunk of its table of chunks, uint64
size, 28 bytes of times and rights, int32 parent (-1: none), 176 bytes, a flag for folders, 3 bytes, name (256 bytes),
32 bytes. A packed file begins ``AACS``, uint32 unpacked size of a block, uint32, uint32 number of blocks; from byte
0x80 follow the blocks, each after its packed size (uint32) and 12 bytes, as zlib streams. Source: not published by
AidAim; found by P. Jokubauskas and documented in the source of rosettasciio (2016-2026), which the tests compare with.
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
from underpaint.io._energies import number
from underpaint.io._single import FileSpectrum
from underpaint.io._source import lazy_counts, try_read
from underpaint.io.readers import Format, Photograph
from underpaint.io.readers._bruker_xml import instance, leaves, parse_xml, read_spectrum_node

MAGIC = b"AAMVHFSS"
_FIRST_CHUNK, _CHUNK_HEAD, _ENTRY_BYTES = 0x118, 32, 0x200
_ENTRY = struct.Struct("<iQ28xi176x?3x256s32x")
_CHUNK_BYTES_RANGE = (1024, 16 * 2**20)
_PACKED_MAGIC, _PACKED_START = b"AACS", 0x80
_MAX_BLOCK = 64 * 2**20
_PLAIN_BYTES = 4 * 2**20


class BrokenContainerError(ValueError):
    """The container is inconsistent; the text says where."""


@dataclass(frozen=True)
class Entry:
    """One file inside: where its chunks are, and its stored size."""

    size: int
    chunks: NDArray[np.int64]


@dataclass(frozen=True)
class Piece:
    """Location of a part of a file: its stored bytes, and its largest decompressed size."""

    place: int
    stored: int
    unpacked: int
    packed: bool


class Container:
    """The files inside a container, by path; opened again for each read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_byte: int = try_read(path.stat, str(path)).st_size
        try:
            self._read_head()
            self.files = dict(self._entries())
        except (BrokenContainerError, struct.error) as error:
            raise ScanError(
                f"Cannot read {path}: a Bruker .bcf container, but damaged: {error}. Copy it again."
            ) from error

    def stored(self, name: str, offset: int, length: int) -> bytes:
        """Read bytes of a file as they are stored."""
        entry = self.files[name]
        stop = min(offset + length, entry.size)
        if not 0 <= offset <= stop:
            raise BrokenContainerError(f"bytes {offset} to {offset + length} of {name}, which has {entry.size}")
        first, last = offset // self.usable, -(-stop // self.usable)
        content = self._chunks(entry.chunks[first:last])
        return content[offset - first * self.usable : stop - first * self.usable]

    def blocks(self, name: str) -> Iterator[bytes]:
        """Content of a file in pieces, unpacked if it is packed.

        Raises
        ------
        ScanError
            A part is missing, cannot be decompressed, or is larger than declared.
        """
        return (content for _, content in self.pieces(name))

    def content(self, name: str, at_most: int) -> bytes:
        """Content of a small file.

        Raises
        ------
        ScanError
            As :meth:`blocks`, or it has more than ``at_most`` bytes.
        """
        pieces, n_read = [], 0
        for piece in self.blocks(name):
            n_read += len(piece)
            if n_read > at_most:
                raise ScanError(
                    f"Cannot read {self.path}: {name} inside has over {at_most} bytes, more than it can have."
                )
            pieces.append(piece)
        return b"".join(pieces)

    def pieces(self, name: str) -> Iterator[tuple["Piece", bytes]]:
        """Parts of a file, in order, with their locations.

        Raises
        ------
        ScanError
            As :meth:`blocks`.
        """
        with self._damage(name):
            packed = self.stored(name, 0, 4) == _PACKED_MAGIC
            yield from self._packed_pieces(name) if packed else self._plain_pieces(name)

    def piece(self, name: str, piece: "Piece") -> bytes:
        """Read one piece again.

        Raises
        ------
        ScanError
            As :meth:`blocks`.
        """
        with self._damage(name):
            content = self.stored(name, piece.place, piece.stored)
            return _unpack(content, piece) if piece.packed else content

    def _plain_pieces(self, name: str) -> Iterator[tuple["Piece", bytes]]:
        step = max(1, _PLAIN_BYTES // self.usable) * self.usable
        for start in range(0, self.files[name].size, step):
            content = self.stored(name, start, step)
            if len(content) < min(step, self.files[name].size - start):
                raise BrokenContainerError(f"it ends at byte {start + len(content)}")
            yield Piece(start, len(content), len(content), packed=False), content

    def _packed_pieces(self, name: str) -> Iterator[tuple["Piece", bytes]]:
        block_bytes, _, n_block = struct.unpack("<III", self.stored(name, 4, 12))
        if block_bytes > _MAX_BLOCK or 16 * n_block > self.files[name].size:
            raise BrokenContainerError(f"{n_block} packed blocks of {block_bytes} bytes announced")
        place = _PACKED_START
        for _ in range(n_block):
            (size,) = struct.unpack("<I", self.stored(name, place, 4))
            piece = Piece(place + 16, size, block_bytes, packed=True)
            yield piece, _unpack(self.stored(name, place + 16, size), piece)
            place += 16 + size

    @contextmanager
    def _damage(self, name: str) -> Iterator[None]:
        try:
            yield
        except (BrokenContainerError, struct.error, zlib.error) as error:
            raise ScanError(
                f"Cannot read {self.path}: {name} inside is damaged: {error}. Copy the file again."
            ) from error

    # --- the container itself -----------------------------------------------------------------------

    def _read_head(self) -> None:
        head = self._at(0, 0x14C)
        self.chunk_bytes = int(struct.unpack_from("<I", head, 0x128)[0])
        self._tree_chunk, self._n_entry, _ = struct.unpack_from("<III", head, 0x140)
        low, high = _CHUNK_BYTES_RANGE
        if not low <= self.chunk_bytes <= high:
            raise BrokenContainerError(f"its chunks have {self.chunk_bytes} bytes ({low} to {high} can be)")
        if not 0 < self._n_entry * _ENTRY_BYTES <= self.n_byte:
            raise BrokenContainerError(f"{self._n_entry} files announced, in {self.n_byte} bytes")
        self.usable = self.chunk_bytes - _CHUNK_HEAD

    def _entries(self) -> Iterator[tuple[str, Entry]]:
        per_chunk = self.usable // _ENTRY_BYTES
        tree = b"".join(
            chunk[: per_chunk * _ENTRY_BYTES] for chunk in self._chain(self._tree_chunk, -(-self._n_entry // per_chunk))
        )
        raw = [_ENTRY.unpack_from(tree, index * _ENTRY_BYTES) for index in range(self._n_entry)]
        names = [entry[4].split(b"\x00", 1)[0].decode("utf-8", "replace") for entry in raw]
        parents = [int(entry[2]) for entry in raw]
        for index, (table, size, _, is_folder, _) in enumerate(raw):
            if not is_folder:
                yield _path(index, names, parents), Entry(int(size), self._table(names[index], table, int(size)))

    def _table(self, name: str, chunk: int, size: int) -> NDArray[np.int64]:
        """Chunks of a file; each must be inside the container."""
        if size > self.n_byte:
            raise BrokenContainerError(f"{name} declares {size} bytes, the whole file has {self.n_byte}")
        n_chunk = -(-size // self.usable)
        content = b"".join(self._chain(chunk, -(-n_chunk // (self.usable // 4))))
        if len(content) < 4 * n_chunk:
            raise BrokenContainerError(f"the table of chunks of {name} is cut off")
        chunks = np.frombuffer(content, "<u4", n_chunk).astype(np.int64)
        last = (self.n_byte - _FIRST_CHUNK - _CHUNK_HEAD) // self.chunk_bytes
        if chunks.size and chunks.max() > last:
            raise BrokenContainerError(f"{name} reaches to chunk {chunks.max()}, the last one is {last}")
        return chunks

    def _chain(self, chunk: int, n_chunk: int) -> Iterator[bytes]:
        """Contents of chunks of which each names the next."""
        for _ in range(n_chunk):
            content = self._at(_FIRST_CHUNK + chunk * self.chunk_bytes, self.chunk_bytes)
            if len(content) < _CHUNK_HEAD:
                raise BrokenContainerError(f"chunk {chunk} lies beyond its end")
            yield content[_CHUNK_HEAD:]
            (chunk,) = struct.unpack_from("<I", content)

    def _chunks(self, chunks: NDArray[np.int64]) -> bytes:
        """Contents of chunks, one seek for each run of neighbours."""
        runs = np.split(chunks, np.flatnonzero(np.diff(chunks) != 1) + 1) if chunks.size else []
        pieces = []
        for run in runs:
            content = self._at(_FIRST_CHUNK + int(run[0]) * self.chunk_bytes, run.size * self.chunk_bytes)
            pieces += [
                content[start + _CHUNK_HEAD : start + self.chunk_bytes]
                for start in range(0, run.size * self.chunk_bytes, self.chunk_bytes)
            ]
        return b"".join(pieces)

    def _at(self, place: int, length: int) -> bytes:
        if not 0 <= place <= self.n_byte:
            raise BrokenContainerError(f"byte {place} is requested, the file has {self.n_byte}")

        def read() -> bytes:
            with self.path.open("rb") as stream:
                stream.seek(place)
                return stream.read(length)

        content: bytes = try_read(read, str(self.path))
        return content


def _path(index: int, names: list[str], parents: list[int]) -> str:
    parts: list[str] = []
    while index != -1:
        if not 0 <= index < len(names) or len(parts) > len(names):
            raise BrokenContainerError(f"the folders of {names[0]} have no top")
        parts.append(names[index])
        index = parents[index]
    return "/".join(reversed(parts))


def _unpack(content: bytes, piece: Piece) -> bytes:
    unpacker = zlib.decompressobj()
    unpacked = unpacker.decompress(content, piece.unpacked + 1)
    if len(unpacked) > piece.unpacked or not unpacker.eof:
        raise BrokenContainerError(f"the packed block at byte {piece.place} does not fit its size")
    return unpacked


FORMAT = Format(
    "Bruker .bcf",
    "Bruker map",
    endings=(".bcf",),
    recognised_by="AAMVHFSS at byte 0",
    source="unpublished; reverse-engineered by P. Jokubauskas, documented in rosettasciio (2016-2026)",
    extra="bruker",
)
_HEADER = "EDSDatabase/HeaderData"
_MAP = re.compile(r"EDSDatabase/SpectrumData(\d+)$")
_FIRST_ROW = 0x1A0
_PIXEL = struct.Struct("<IHHIHHHI")
_MAX_PIXEL = 65535
"""Bytes of one packed spectrum: 4096 channels of the widest packing need 16 kB."""
_MARGIN = bytes(65536)
"""Behind the last row, so that a run that announces more than its pixel has is read within the block."""
_MAX_ROW = 2**30
_NO_PHOTOGRAPH = {"Counter", "PixelTimes"}


def sniff(path: Path, head: bytes) -> bool:
    """Whether a file's first bytes are those of the container that .bcf is."""
    return head.startswith(MAGIC)


def read(path: Path, name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the maps of a .bcf file, one scan for each detector; their spectra are decompressed row by row on demand.

    Raises
    ------
    ScanError
        It is another container, is damaged, or contains no map.
    MissingExtraError
        rosettasciio, which unpacks the pixels, is not installed.
    """
    unpack = _unpacker()
    container = Container(path)
    database = _database(container)
    indices = sorted(int(match[1]) for name in container.files if (match := _MAP.match(name)))
    if not indices:
        raise ScanError(f"Cannot read {path}: a Bruker .bcf file without a map of X-ray spectra in it.")
    return [_scan(container, database, index, unpack, single=len(indices) == 1) for index in indices]


def read_photographs(path: Path) -> list[Photograph]:
    """Read the images of a .bcf file: the mosaic and other images of the object.

    Raises
    ------
    ScanError
        The container or its header is damaged; an image has less data than declared.
    """
    container = Container(path)
    images = _database(container).iter("ClassInstance")
    photographs = [
        photograph
        for image in images
        if image.get("Type") == "TRTImageData" and image.get("Name") not in _NO_PHOTOGRAPH
        for photograph in _planes(image, path)
    ]
    return _named_apart(photographs)


class BcfCube:
    """Packed spectra of one detector, as (row, column, channel)."""

    dtype: np.dtype[Any] = np.dtype(np.uint32)

    def __init__(self, container: Container, name: str, n_channel: int, unpack: Any) -> None:
        self.container, self.name, self._unpack = container, name, unpack
        rows = _Rows(container, name)
        self.shape = (rows.n_row, rows.n_column, n_channel)
        if 4 * rows.n_column * n_channel > _MAX_ROW:
            raise ScanError(
                f"Cannot read {container.path}: one row of {rows.n_column} pixels does not fit into memory."
            )
        self.starts = rows.find_all()
        self.pieces = rows.pieces

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Unpack a rectangle of pixels."""
        first, last = rows.start, rows.stop
        head = struct.pack("<ii", last - first, self.shape[1]).ljust(_FIRST_ROW, b"\x00")
        packed = head + self._bytes(int(self.starts[first]), int(self.starts[last])) + _MARGIN
        shape = (last - first, *self.shape[1:])
        return np.asarray(self._unpack(_OneBlock(packed), shape, self.dtype), dtype=self.dtype)[:, columns]

    def _bytes(self, start: int, stop: int) -> bytes:
        offsets = np.cumsum([0, *(unpacked for _, unpacked in self.pieces)])
        first, last = (int(np.searchsorted(offsets, place, "right")) - 1 for place in (start, max(stop - 1, start)))
        content = b"".join(self.container.piece(self.name, number) for number, _ in self.pieces[first : last + 1])
        return content[start - int(offsets[first]) : stop - int(offsets[first])]


@dataclass(frozen=True)
class _OneBlock:
    """A file inside the container for rosettasciio: one part, and its size."""

    content: bytes

    def get_iter_and_properties(self) -> tuple[Iterator[bytes], int, int]:
        return iter([self.content]), len(self.content), 1


class _Rows:
    """Walk through a packed map without decompressing it; find the start of each row and check all sizes."""

    def __init__(self, container: Container, name: str) -> None:
        self.source = f"{container.path}, {name}"
        self.pieces: list[tuple[Piece, int]] = []
        self._more = container.pieces(name)
        self._held, self._at, self._before = b"", 0, 0
        self.n_row, self.n_column = self._take(struct.Struct("<ii"), "its size")
        if self.n_row < 1 or self.n_column < 1:
            raise ScanError(
                f"Cannot read {self.source}: a map of {self.n_row} x {self.n_column} pixels. Copy it again."
            )
        self._at = _FIRST_ROW

    def find_all(self) -> NDArray[np.int64]:
        """Return the (n_row + 1,) places of the rows, after checking each pixel."""
        starts = []
        for row in range(self.n_row):
            starts.append(self._before + self._at)
            (n_pixel,) = self._take(_COUNT, f"row {row}")
            for _ in range(n_pixel):
                self._skip_pixel(row)
        self._reach(0, f"row {self.n_row - 1}")
        for piece, content in self._more:  # so that a missing later part is detected
            self.pieces.append((piece, len(content)))
        return np.array([*starts, self._before + self._at])

    def _skip_pixel(self, row: int) -> None:
        column, _, _, _, packing, _, pulses, size = self._take(_PIXEL, f"row {row}")
        if column >= self.n_column or not _fits(packing, pulses, size):
            raise ScanError(
                f"Cannot read {self.source}: row {row} holds a pixel at column {column} of {self.n_column}, packed in "
                f"way {packing} with {pulses} pulses in {size} bytes, which is impossible. Copy the file again."
            )
        self._at += size + (2 * pulses if packing > 1 else 0)

    def _take(self, layout: struct.Struct, position: str) -> tuple[Any, ...]:
        if self._at + layout.size > len(self._held):
            self._reach(layout.size, position)
        values = layout.unpack_from(self._held, self._at)
        self._at += layout.size
        return values

    def _reach(self, n_byte: int, position: str) -> None:
        """Load the next ``n_byte`` bytes and release skipped parts."""
        while self._at + n_byte > len(self._held):
            piece, content = next(self._more, (None, b""))
            if piece is None:
                raise ScanError(
                    f"Cannot read {self.source}: the map ends within {position} of {self._size()}. Copy it again."
                )
            self.pieces.append((piece, len(content)))
            consumed = min(self._at, len(self._held))
            self._held, self._at, self._before = (
                self._held[consumed:] + content,
                self._at - consumed,
                self._before + consumed,
            )

    def _size(self) -> str:
        return f"{getattr(self, 'n_row', 'unknown')} rows"


_COUNT = struct.Struct("<I")


def _fits(packing: int, pulses: int, size: int) -> bool:
    """Whether a pixel's pulses have room in its bytes."""
    if packing == 0:
        return 2 * pulses <= size
    if packing == 1:
        return 3 * pulses <= 2 * size + 1
    return 4 <= size <= _MAX_PIXEL


def _unpacker() -> Any:
    try:
        return import_module("rsciio.bruker.unbcf_fast").parse_to_numpy
    except ImportError:
        return _slow_unpacker()


def _slow_unpacker() -> Any:
    try:
        return import_module("rsciio.bruker._api").py_parse_hypermap
    except ImportError as error:
        raise MissingExtraError(
            "Cannot read .bcf files: rosettasciio, which unpacks their pixels, is not installed. "
            'Run `pip install "underpaint[bruker]"`, or export the map from Esprit as ripple (.rpl/.raw).'
        ) from error


# --- the header ------------------------------------------------------------------------------------


def _database(container: Container) -> ET.Element:
    if _HEADER not in container.files:
        inside = ", ".join(sorted(container.files)[:5]) or "nothing"
        raise ScanError(
            f"Cannot read {container.path}: the container of a Bruker .bcf file, but it contains {inside}, no map."
        )
    # The XML of a small file cannot be large: a compressed one could expand to any size.
    content = container.content(_HEADER, 64 * 2**20 + 4 * container.n_byte)
    node = instance(parse_xml(content, f"{container.path}, {_HEADER}"), "TRTSpectrumDatabase")
    if node is None:
        raise ScanError(
            f"Cannot read {container.path}: a Bruker .bcf file whose header describes no map. Copy it again."
        )
    return node


def _scan(container: Container, database: ET.Element, index: int, unpack: Any, *, single: bool) -> Scan:
    path = container.path
    total = _sum_spectrum(database, index, path)
    cube = BcfCube(container, f"EDSDatabase/SpectrumData{index}", total.counts.size, unpack)
    real = _real_time_s(database, cube.shape[:2])
    live = _live_time_s(real, total)
    source = str(path) if single else f"{path}, detector {index}"
    return Scan(
        lazy_counts(cube, source),
        axis=total.axis,
        name=path.stem if single else f"{path.stem}_{index}",
        source=source,
        format=FORMAT.name,
        live_time_s=live,
        real_time_s=real,
        step_mm=_step_mm(database),
        detector=total.detector,
        notes=(*total.notes, *_notes(database, real, live)),
        metadata={"name": database.get("Name", ""), **_facts(database), **total.metadata},
    )


def _sum_spectrum(database: ET.Element, index: int, path: Path) -> FileSpectrum:
    node = database.find(f"./SpectrumData{index}/ClassInstance")
    if node is None:
        raise ScanError(
            f"Cannot read {path}: its header lacks the sum spectrum of detector {index}, and so the channels."
        )
    return read_spectrum_node(node, f"{path}, sum spectrum of detector {index}")


def _facts(database: ET.Element) -> dict[str, Any]:
    kinds = {"xrf": "TRTXRFData", "sem": "TRTSEMData", "stage": "TRTSEMStageData", "scan": "TRTDSPConfiguration"}
    return {
        f"{group}.{key}": value
        for group, kind in kinds.items()
        for key, value in leaves(instance(database, kind)).items()
    }


def _step_mm(database: ET.Element) -> tuple[float, float] | None:
    facts = leaves(instance(database, "TRTSEMData"))
    row_um, column_um = number(facts.get("DY")), number(facts.get("DX"))
    if row_um is None or column_um is None or row_um <= 0 or column_um <= 0:
        return None
    return row_um / 1000, column_um / 1000


def _real_time_s(database: ET.Element, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    """Time of each pixel: the file's image of times, else from the visits of its row."""
    image = database.find("./ClassInstance[@Type='TRTImageData'][@Name='PixelTimes']")
    data = None if image is None else image.findtext("./Plane0/Data")
    times = np.frombuffer(_decoded(data or ""), "<u4") if data and len(data) >= 4 * shape[0] * shape[1] else None
    if times is not None and times.size == shape[0] * shape[1] and times.any():
        return np.where(times > 0, times * 1e-6, np.nan).reshape(shape)
    return _row_times(database, shape)


def _row_times(database: ET.Element, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    visits = [number(word) for word in (database.findtext("./LineCounter") or "").split(",") if word.strip()]
    facts = leaves(instance(database, "TRTDSPConfiguration"))
    factors = [number(facts.get(key)) for key in ("PixelTime", "PixelAverage", "LineAverage")]
    given_values = [value for value in (*visits, *factors) if value is not None and value >= 0]
    if len(visits) != shape[0] or len(given_values) != len(visits) + len(factors) or not any(given_values[: shape[0]]):
        return None
    each_us = float(np.prod(given_values[shape[0] :]))
    rows = np.array(given_values[: shape[0]]) * each_us * 1e-6
    return np.repeat(np.where(rows > 0, rows, np.nan)[:, None], shape[1], axis=1)


def _live_time_s(real_s: NDArray[np.float64] | None, total: FileSpectrum) -> NDArray[np.float64] | None:
    if real_s is None or total.live_time_s is None or total.real_time_s is None:
        return None
    return real_s * min(total.live_time_s / total.real_time_s, 1.0)


def _notes(database: ET.Element, real: NDArray[np.float64] | None, live: NDArray[np.float64] | None) -> tuple[str, ...]:
    detectors = number(database.findtext("./DetectorCount")) or 1
    candidates = (
        (real is None, "the file has no pixel times"),
        (live is not None, "live times: the pixels' real times times the live share of the map"),
        (detectors > 1, f"the header names {detectors:g} detectors"),
    )
    return tuple(text for holds, text in candidates if holds)


# --- images ----------------------------------------------------------------------------------------


def _planes(image: ET.Element, path: Path) -> Iterator[Photograph]:
    """Planes that are not all zero; colours packed in one plane are separated."""
    facts = leaves(image)
    numbers = [number(facts.get(key)) for key in ("Height", "Width", "ItemSize", "PlaneCount")]
    height, width, item, n_plane = (0 if value is None else int(value) for value in numbers)
    file_name = (image.get("Name") or "").strip()
    for index in range(min(n_plane, len(image))):
        plane = image.find(f"./Plane{index}")
        raw = _decoded("" if plane is None else plane.findtext("./Data") or "")
        if min(height, width) < 1 or item not in {1, 2, 3, 4} or len(raw) != height * width * item:
            raise ScanError(
                f"Cannot read the image {file_name or index} of {path}: {height} x {width} pixels of {item} bytes are "
                f"announced, {len(raw)} bytes exist. Copy the file again."
            )
        if any(raw):
            label = "" if plane is None else plane.findtext("./Description") or plane.findtext("./Name") or ""
            yield Photograph(" ".join(filter(None, (file_name, label.strip()))), _pixels(raw, height, width, item))


def _pixels(raw: bytes, height: int, width: int, item: int) -> NDArray[Any]:
    if item < 3:
        return np.frombuffer(raw, f"<u{item}").reshape(height, width)
    blue_green_red = np.frombuffer(raw, np.uint8).reshape(height, width, item)[:, :, :3]
    return np.ascontiguousarray(blue_green_red[:, :, ::-1])


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=False)
    except (binascii.Error, ValueError):
        return b""


def _named_apart(photographs: list[Photograph]) -> list[Photograph]:
    names = [photograph.name or "image" for photograph in photographs]
    return [
        Photograph(name if names.count(name) == 1 else f"{name} {names[: index + 1].count(name)}", photograph.pixels)
        for index, (name, photograph) in enumerate(zip(names, photographs, strict=True))
    ]
