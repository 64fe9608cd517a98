"""The Single File System (AidAim) that Bruker's ``.bcf`` is: small files inside one file, read with bounds checked.

Little-endian. ``AAMVHFSS`` at byte 0; float32 version and uint32 chunk size at 0x124; at 0x140 three uint32: chunk of
the file tree, number of its entries, number of chunks. Chunk n begins at 0x118 + n * chunk size with 32 bytes (the
first four: the chunk that continues it), its content follows. A tree entry has 512 bytes: int32 chunk of its table of
chunks, uint64 size, 28 bytes of times and rights, int32 parent (-1: none), 176 bytes, a flag for folders, 3 bytes, name
(256 bytes), 32 bytes. A packed file begins ``AACS``, uint32 unpacked size of a block, uint32, uint32 number of blocks;
from byte 0x80 follow the blocks, each after its packed size (uint32) and 12 bytes, as zlib streams.

Source: not published by AidAim; found by P. Jokubauskas and documented in the source of rosettasciio (2016-2026), which
the tests compare with. No name inside the file ever becomes a path outside.
"""

import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.io._source import probe

MAGIC = b"AAMVHFSS"
_FIRST_CHUNK, _CHUNK_HEAD, _ENTRY_BYTES = 0x118, 32, 0x200
_ENTRY = struct.Struct("<iQ28xi176x?3x256s32x")
_CHUNK_BYTES_RANGE = (1024, 16 * 2**20)
_PACKED_MAGIC, _PACKED_START = b"AACS", 0x80
_LARGEST_BLOCK = 64 * 2**20
_PLAIN_BYTES = 4 * 2**20


class BrokenContainerError(ValueError):
    """The container contradicts itself; the text says where."""


@dataclass(frozen=True)
class Entry:
    """One file inside: where its chunks are, and its stored size."""

    size: int
    chunks: NDArray[np.int64]


@dataclass(frozen=True)
class Piece:
    """Where a piece of a file is kept: its bytes as stored, and at most how many it unpacks to."""

    place: int
    stored: int
    unpacked: int
    packed: bool


class Container:
    """The files inside a container, by their path with slashes; opened anew for each read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.n_byte: int = probe(path.stat, str(path)).st_size
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
            A piece is missing, cannot be unpacked, or is larger than announced.
        """
        return (content for _, content in self.pieces(name))

    def content(self, name: str, at_most: int) -> bytes:
        """Whole content of a small file.

        Raises
        ------
        ScanError
            As :meth:`blocks`, or it has more than ``at_most`` bytes.
        """
        pieces, held = [], 0
        for piece in self.blocks(name):
            held += len(piece)
            if held > at_most:
                raise ScanError(
                    f"Cannot read {self.path}: {name} inside has over {at_most} bytes, more than it can have."
                )
            pieces.append(piece)
        return b"".join(pieces)

    def pieces(self, name: str) -> Iterator[tuple["Piece", bytes]]:
        """Pieces of a file, in order, each with where it is kept.

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
        if block_bytes > _LARGEST_BLOCK or 16 * n_block > self.files[name].size:
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
            own[: per_chunk * _ENTRY_BYTES] for own in self._chain(self._tree_chunk, -(-self._n_entry // per_chunk))
        )
        raw = [_ENTRY.unpack_from(tree, index * _ENTRY_BYTES) for index in range(self._n_entry)]
        names = [own[4].split(b"\x00", 1)[0].decode("utf-8", "replace") for own in raw]
        parents = [int(own[2]) for own in raw]
        for index, (table, size, _, is_folder, _) in enumerate(raw):
            if not is_folder:
                yield _path(index, names, parents), Entry(int(size), self._table(names[index], table, int(size)))

    def _table(self, name: str, chunk: int, size: int) -> NDArray[np.int64]:
        """Chunks of a file; each must be inside the container."""
        if size > self.n_byte:
            raise BrokenContainerError(f"{name} announces {size} bytes, the whole file has {self.n_byte}")
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
            raise BrokenContainerError(f"byte {place} is asked for, the file has {self.n_byte}")

        def read() -> bytes:
            with self.path.open("rb") as stream:
                stream.seek(place)
                return stream.read(length)

        content: bytes = probe(read, str(self.path))
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
