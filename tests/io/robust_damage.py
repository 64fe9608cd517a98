"""Damage to files: cut, bytes changed, numbers made huge, names swapped, pieces moved; files of a folder lost."""

import re
import struct

from hypothesis import strategies as st

NUMBERS = re.compile(rb"-?\d+(?:[.,]\d+)?(?:[eE][-+]?\d+)?")
NAMES = re.compile(rb"[A-Za-z_][A-Za-z_-]{2,}")
ODD_NUMBERS = [b"0", b"-1", b"1", b"2", b"65536", b"4294967295", b"99999999999", b"9" * 30, b"1e308", b"1e-300"]
ODD_NUMBERS += [b"nan", b"inf", b"-inf", b"0x10", b"1_000", b"", b"one", b"\xff", "٣".encode()]
ODD_BYTES = [struct.pack("<I", value) for value in (0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 100_000)]
ODD_BYTES += [struct.pack(">I", value) for value in (1, 0x7FFFFFFF, 100_000)]
ODD_BYTES += [struct.pack("<Q", value) for value in (1 << 31, 1 << 40, 1 << 62, (1 << 64) - 1)]
ODD_BYTES += [struct.pack("<d", value) for value in (float("nan"), float("inf"), -1.0, 1e300)]
HEADS = (64, 600, 4096, 10**9)


def _place(data: st.DataObject, size: int) -> int:
    """A byte of the content, more often one of its head."""
    return data.draw(st.integers(0, max(0, min(size, data.draw(st.sampled_from(HEADS))) - 1)))


def _changed_bytes(data: st.DataObject, content: bytearray) -> None:
    place = _place(data, len(content))
    content[place : place + 1] = bytes([data.draw(st.integers(0, 255))])


def _huge_bytes(data: st.DataObject, content: bytearray) -> None:
    odd = data.draw(st.sampled_from(ODD_BYTES))
    place = _place(data, len(content))
    content[place : place + len(odd)] = odd


def _huge_number(data: st.DataObject, content: bytearray) -> None:
    _replace(data, content, NUMBERS, data.draw(st.sampled_from(ODD_NUMBERS)))


def _swapped_name(data: st.DataObject, content: bytearray) -> None:
    names = sorted(set(NAMES.findall(bytes(content[:20_000]))))
    if names:
        _replace(data, content, NAMES, data.draw(st.sampled_from(names)))


def _replace(data: st.DataObject, content: bytearray, pattern: "re.Pattern[bytes]", odd: bytes) -> None:
    """Put odd words in a match's place; of the same length where the file is binary, so that the rest stays put."""
    stop = data.draw(st.sampled_from(HEADS))
    matches = list(pattern.finditer(bytes(content[: min(stop, 20_000)])))
    if not matches:
        return
    start, stop = data.draw(st.sampled_from(matches)).span()
    keep_length = data.draw(st.booleans())
    content[start:stop] = odd[: stop - start].ljust(stop - start) if keep_length else odd


def _moved_piece(data: st.DataObject, content: bytearray) -> None:
    start, place = _place(data, len(content)), _place(data, len(content))
    piece = content[start : start + data.draw(st.integers(1, 600))]
    if data.draw(st.booleans()):
        del content[start : start + len(piece)]
    content[place:place] = piece * data.draw(st.sampled_from([0, 1, 1, 40]))


def _cut(data: st.DataObject, content: bytearray) -> None:
    del content[data.draw(st.integers(0, len(content))) :]


DAMAGES = (_changed_bytes, _huge_bytes, _huge_number, _swapped_name, _moved_piece, _cut)


def damaged(data: st.DataObject, content: bytes) -> bytes:
    """Return the content after one to four kinds of damage."""
    result = bytearray(content)
    for damage in data.draw(st.lists(st.sampled_from(DAMAGES), min_size=1, max_size=4)):
        if result:
            damage(data, result)
    return bytes(result)


def damaged_folder(data: st.DataObject, files: dict[str, bytes]) -> dict[str, bytes]:
    """Return the files of a folder (by name) after damage to one or two, a loss, or a swap of their names."""
    result = dict(files)
    for name in data.draw(st.lists(st.sampled_from(sorted(result)), min_size=1, max_size=2, unique=True)):
        kind = data.draw(st.sampled_from(["damage", "damage", "damage", "loss", "swap", "empty"]))
        if kind == "damage":
            result[name] = damaged(data, result[name])
        elif kind == "loss":
            del result[name]
        elif kind == "swap":
            other = data.draw(st.sampled_from(sorted(result)))
            result[name], result[other] = result[other], result[name]
        else:
            result[name] = b""
    return result
