"""The header of a Blosc buffer, checked before the library unpacks it.

Blosc trusts the sizes in its header, also where they point behind the end of the buffer: a damaged one ends the
process. Source: c-blosc 1.21, README_CHUNK_FORMAT.rst.
"""

import struct

import numpy as np

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
