"""EDF, the ESRF data format: text headers and numbers, one or more frames a file; a scan is a stack of them.

Specification:

- A header is text between ``{`` and ``}`` and a line's end, padded to a multiple of 512 bytes, of ``key = value ;``.
  ``DataType``, ``ByteOrder`` (``LowByteFirst``, ``HighByteFirst``), ``Dim_1`` (fastest) to ``Dim_3``; the numbers
  follow, then the next frame. ``SignedLong`` and ``UnsignedLong`` have 4 bytes, or 8 where ``Size`` says so.
- Stack of spectra, as PyMca reads it: channels along ``Dim_1``, columns along ``Dim_2``, rows along ``Dim_3``, the
  frames, or the files of a folder. Where each frame holds one spectrum (``Dim_2 = 1``), frames are columns and
  files are rows. ``FILE::images`` or ``FOLDER::images`` reads a frame as the image of one channel instead. A missing
  number among the files is noted, and refused where they are channels.
- ESRF XIA: ``NAME_xia<detector>_<numbers>_<line>.edf``, one file a line and detector; ``NAME_xiast_...`` has six
  numbers a detector and pixel (detector, events, input rate, output rate, live time in ms, dead time in percent).
- ``MCA a``, ``MCA b``, ``MCA c`` or ``McaCalib``: zero, gain, quadratic; keV, or eV by size.

Compressed frames are not read: numbers that a header promises must be in the file.

Source: fabio ``fabio/edfimage.py`` (MIT), PyMca ``PyMca5/PyMcaIO/EdfFile.py``, ``EDFStack.py`` and
``PyMca5/PyMcaCore/XiaEdf.py``. fabio itself is not used: it fills frames that are cut off with zeros.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._energies import NO_CALIBRATION, Axis, axis_of_coefficients
from underpaint.io._source import (
    SAME_CHANNELS,
    entries_inside,
    first_bytes,
    lazy_counts,
    missing_numbers,
    numbers_in_name,
    shown_numbers,
    try_read,
)
from underpaint.io.readers import Format

FORMAT = Format(
    "EDF",
    "EDF stack, one file or a folder",
    endings=(".edf",),
    recognised_by="a header in braces with DataType or Dim_1",
    source="fabio source, edfimage.py; PyMca5 source, EdfFile, EDFStack, XiaEdf",
    parts=True,
)
_MAX_HEADER = 2**20
_PIECE = 4096
_MAX_FRAMES = 1_000_000
_DTYPES = {
    "signedbyte": "i1",
    "unsignedbyte": "u1",
    "signedshort": "i2",
    "unsignedshort": "u2",
    "signedinteger": "i4",
    "unsignedinteger": "u4",
    "signedlong": "i4",
    "unsignedlong": "u4",
    "signed64": "i8",
    "unsigned64": "u8",
    "longinteger": "i4",
    "float": "f4",
    "floatvalue": "f4",
    "real": "f4",
    "double": "f8",
    "doublevalue": "f8",
}
_XIA = re.compile(r"(?P<head>.*)_xia(?P<detector>\d+|st|[sS]\w*)_(?P<numbers>.*?)(?P<line>\d+)$")
_NUMBERED = re.compile(r"(?P<head>.*?)(?P<line>\d*)$")
_STATISTICS = 6
_LIVE_TIME = 4


@dataclass(frozen=True)
class Frame:
    """Where a frame's numbers lie: file, first byte, sizes (slowest first), type; and its header."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fields: dict[str, str]


class SpectraCube:
    """Lines of pixels, each a piece of numbers (column, channel) somewhere in a file."""

    def __init__(self, lines: Sequence[Sequence[Frame]]) -> None:
        first = lines[0][0]
        self.lines, self.dtype = lines, first.dtype.newbyteorder("=")
        self.per_frame = first.shape[0]
        self.shape = (len(lines), len(lines[0]) * self.per_frame, first.shape[1])

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels."""
        block = np.empty((rows.stop - rows.start, columns.stop - columns.start, self.shape[2]), dtype=self.dtype)
        for place, line in enumerate(self.lines[rows]):
            for number, frame in enumerate(line):
                begin = number * self.per_frame
                start, stop = max(columns.start, begin), min(columns.stop, begin + self.per_frame)
                if start < stop:
                    part = _numbers(frame, start - begin, stop - begin)
                    block[place, start - columns.start : stop - columns.start] = part
        return block


class ImageCube:
    """Frames that are the images of one channel each."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.frames, self.dtype = frames, frames[0].dtype.newbyteorder("=")
        self.shape = (frames[0].shape[0], frames[0].shape[1], len(frames))

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels; of each image only its lines."""
        block = np.empty((rows.stop - rows.start, columns.stop - columns.start, self.shape[2]), dtype=self.dtype)
        for channel, frame in enumerate(self.frames):
            block[:, :, channel] = _numbers(frame, rows.start, rows.stop)[:, columns]
        return block


def _begins(head: bytes) -> bool:
    """Whether a file's first bytes are those of an EDF header."""
    start = head.lstrip()
    return start.startswith(b"{") and b"=" in start and bool(re.search(rb"(?i)\b(Dim_1|DataType|EDF_\w+)\s*=", start))


def sniff(path: Path, head: bytes) -> bool:
    """Whether a file begins with an EDF header, or a folder holds such files."""
    return _begins(head) if head else bool(_edf_files(path))


def _edf_files(folder: Path) -> list[Path]:
    """Return the EDF files of a folder, by content, in the order of the numbers in their names."""
    named = (file for file in folder.iterdir() if file.suffix.lower() in {".edf", ".cor"} and file.is_file())
    edf_files = entries_inside(folder, (file for file in named if _begins(first_bytes(file, _PIECE))))
    return sorted(edf_files, key=numbers_in_name)


def read(path: Path, name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read an EDF file, or those of a folder, as a stack; its counts are read when computed.

    Parameters
    ----------
    path : Path
        The file or folder.
    name : str or None
        ``images`` where a frame is the image of one channel; of a folder, also how the names of its files begin.

    Raises
    ------
    ScanError
        A header is damaged, promises more than the file holds, or frames differ.
    """
    return _read_folder(path, name) if path.is_dir() else [_scan([path], path, path.stem, "", name)]


def _read_folder(path: Path, name: str | None) -> list[Scan]:
    """Read the EDF files of a folder as the lines of a scan, one scan a detector where they are of XIA.

    Raises
    ------
    ScanError
        As for :func:`read`; or the files are of several scans: name one by the beginning of its files.
    """
    groups, statistics = _groups(_edf_files(path), None if name == "images" else name)
    scans = {head for head, _ in groups}
    if len(scans) != 1:
        available = ", ".join(sorted(scans)) or "none of that name"
        raise ScanError(
            f"Cannot read {path} as one scan: its EDF files are of {len(scans)} ({available}). Pick one by ::NAME."
        )
    single = len(groups) == 1
    scans_read = []
    for (head, detector), files in sorted(groups.items()):
        title = path.name if single else f"{path.name}_{detector}"
        scan = _scan(files, path / f"{head}*", title, detector, name)
        scans_read.append(_with_live_time(scan, statistics.get(head, []), detector))
    return scans_read


def _groups(files: list[Path], detector: str | None) -> tuple[dict[tuple[str, str], list[Path]], dict[str, list[Path]]]:
    """Files by scan and detector, and the files of statistics by scan."""
    groups: dict[tuple[str, str], list[Path]] = {}
    statistics: dict[str, list[Path]] = {}
    for file in files:
        xia, numbered = _XIA.match(file.stem), _NUMBERED.match(file.stem)
        head = f"{xia['head']}_{xia['numbers']}" if xia else (numbered["head"] if numbered else file.stem)
        if detector is not None and not file.stem.startswith(detector):
            continue
        if xia and xia["detector"] == "st":
            statistics.setdefault(head, []).append(file)
        elif not xia or xia["detector"].isdigit():  # sums that XIA's programs wrote would count twice
            groups.setdefault((head, xia["detector"] if xia else ""), []).append(file)
    return groups, statistics


def _scan(files: list[Path], source: Path, name: str, detector: str, method: str | None) -> Scan:
    lines = [list(_frames(file)) for file in files]
    frames = [frame for line in lines for frame in line]
    _check_alike(frames, source)
    first = frames[0]
    if method == "images" and (len(frames) < 2 or len(first.shape) != 2):
        raise ScanError(f"Cannot read {source} as images: two or more frames of two dimensions are needed.")
    cube = ImageCube(frames) if method == "images" else SpectraCube(_lines(lines, source))
    axis, axis_notes = _axis(first.fields, cube.shape[2])
    missing = missing_numbers(files)
    if missing and method == "images":
        raise ScanError(
            f"Cannot read {source} as images: its {len(files)} numbered files lack {shown_numbers(missing)}, "
            "and all channels above would move down. Copy the files again."
        )
    gap = (f"the numbered files lack {shown_numbers(missing)}: the rows below move up",) if missing else ()
    return Scan(
        lazy_counts(cube, str(source)),
        axis=axis,
        name=name,
        source=f"{source}::images" if method == "images" else str(source),
        format=FORMAT.name,
        detector=detector,
        notes=(*axis_notes, *gap),
        metadata={**first.fields, **({SAME_CHANNELS: True} if detector and axis is None else {})},
    )


def _check_alike(frames: list[Frame], source: Path) -> None:
    if not frames:
        raise ScanError(f"Cannot read {source}: it has no frame with numbers.")
    odd = next((frame for frame in frames if (frame.shape, frame.dtype) != (frames[0].shape, frames[0].dtype)), None)
    if odd is not None:
        raise ScanError(
            f"Cannot read {source}: a frame of {frames[0].path.name} is {frames[0].shape} {frames[0].dtype}, one of "
            f"{odd.path.name} is {odd.shape} {odd.dtype}; the frames of a stack must be equal in size and type."
        )


def _lines(lines: list[list[Frame]], source: Path) -> list[list[Frame]]:
    """Which frames make up each row."""
    shape = lines[0][0].shape
    if len(shape) == 3:
        return [[_plane(plane_frame, number)] for line in lines for plane_frame in line for number in range(shape[0])]
    if len(shape) == 2 and shape[0] > 1:
        return [[plane_frame] for line in lines for plane_frame in line]
    short = [len(line) for line in lines if len(line) != len(lines[0])]
    if short:
        raise ScanError(f"Cannot read {source}: its first line has {len(lines[0])} spectra, another {short[0]}.")
    return lines


def _plane(frame: Frame, number: int) -> Frame:
    size = int(np.prod(frame.shape[1:])) * frame.dtype.itemsize
    return Frame(frame.path, frame.offset + number * size, frame.shape[1:], frame.dtype, frame.fields)


def _with_live_time(scan: Scan, files: list[Path], detector: str) -> Scan:
    """Take the live time of a detector from the files of statistics; as it was if they do not fit."""
    lines = [frame for file in files for frame in _frames(file)]
    shapes = {frame.shape for frame in lines}
    if (
        len(lines) != scan.shape[0]
        or any(len(shape) != 2 or shape[0] != scan.shape[1] for shape in shapes)
        or len(shapes) > 1
    ):
        return scan
    values = np.stack([_numbers(frame, 0, frame.shape[0]) for frame in lines]).astype(np.float64)
    detectors = values.reshape(*scan.shape[:2], -1)[:, :, : values.shape[2] // _STATISTICS * _STATISTICS]
    table = detectors.reshape(*scan.shape[:2], -1, _STATISTICS)
    rows_found = np.flatnonzero(table[0, 0, :, 0] == int(detector)) if detector.isdecimal() else np.array([], dtype=int)
    if rows_found.size != 1:
        return scan
    seconds = table[:, :, int(rows_found[0]), _LIVE_TIME] / 1000.0
    return replace(scan, live_time_s=np.where(seconds > 0, seconds, np.nan)) if (seconds > 0).any() else scan


def _frames(path: Path) -> Iterator[Frame]:
    """Find the frames of a file by their headers; numbers are not read."""
    n_byte = try_read(path.stat, str(path)).st_size
    with try_read(lambda: path.open("rb"), str(path)) as stream:
        position = 0
        for _ in range(_MAX_FRAMES):
            header = _header(stream, position, path)
            if header is None:
                return
            fields, begin = header
            frame = _frame(path, begin, fields, n_byte)
            if frame is not None:
                yield frame
                position = begin + _size(fields, frame)
            else:
                position = begin


def _header(stream: BinaryIO, position: int, path: Path) -> tuple[dict[str, str], int] | None:
    """Return the fields of the header at or after a position, and where its numbers begin; None at the end."""
    stream.seek(position)
    content = b""
    end = None
    while end is None and len(content) < _MAX_HEADER:
        piece = stream.read(_PIECE)
        content += piece
        end = re.search(rb"\}[ \t]*\r?\n", content)
        if not piece:
            break
    if not content.strip(b"\x00 \r\n\t"):
        return None
    if end is None or not content.lstrip().startswith(b"{"):
        problem = "has no end" if content.lstrip().startswith(b"{") else f"begins {content[:16]!r}, not with {{"
        raise ScanError(
            f"Cannot read {path}: it is EDF, but the header at byte {position} {problem}. It is damaged or cut off."
        )
    return _fields(content[: end.start()]), position + end.end()


def _fields(content: bytes) -> dict[str, str]:
    pairs = (part.partition("=") for part in content.decode("latin-1").lstrip().removeprefix("{").split(";"))
    return {key.strip(): value.strip() for key, equals, value in pairs if equals}


def _frame(path: Path, begin: int, fields: dict[str, str], n_byte: int) -> Frame | None:
    lower = {key.lower(): value for key, value in fields.items()}
    if "dim_1" not in lower:
        return None
    packed = lower.get("compression", "none").lower()
    if packed not in {"none", "nocompression", "no", ""}:
        raise ScanError(f"Cannot read {path}: its frames are packed ({packed}). Write it again without compression.")
    dims = [_positive_integer(lower[key], key, path) for key in ("dim_3", "dim_2", "dim_1") if key in lower]
    kind = _DTYPES.get(lower.get("datatype", "").lower())
    if kind is None:
        raise ScanError(
            f"Cannot read {path}: its header at byte {begin} has the DataType {lower.get('datatype', '')!r}."
        )
    order = ">" if lower.get("byteorder", "").lower() == "highbytefirst" else "<"
    shape = tuple(dims) if len(dims) > 1 else (1, *dims)
    if "long" in lower["datatype"].lower() and _integer_or_zero(lower, "size") == 8 * math.prod(shape):
        kind = kind[0] + "8"  # long numbers of 8 bytes, recognisable only by the size
    dtype = np.dtype(order + kind)
    needed = begin + math.prod(shape) * dtype.itemsize
    if needed > n_byte:
        raise ScanError(
            f"Cannot read {path}: its header promises {' x '.join(map(str, shape))} numbers up to byte {needed}; "
            f"the file holds {n_byte} bytes. It is cut off; copy it again."
        )
    return Frame(path, begin, shape, dtype, fields)


def _size(fields: dict[str, str], frame: Frame) -> int:
    """Bytes to the next header: those of the numbers, or more where the header says so."""
    lower = {key.lower(): value for key, value in fields.items()}
    frame_bytes = math.prod(frame.shape) * frame.dtype.itemsize
    return max(frame_bytes, _integer_or_zero(lower, "edf_binarysize"), _integer_or_zero(lower, "size"))


def _integer_or_zero(lower: dict[str, str], key: str) -> int:
    """Return a whole number of the header, 0 where there is none."""
    word = lower.get(key, "")
    return int(word) if word.isdecimal() and word.isascii() and len(word) < 16 else 0


def _positive_integer(value: str, key: str, path: Path) -> int:
    if not (value.isdecimal() and value.isascii() and len(value) < 16 and int(value) > 0):
        raise ScanError(f"Cannot read {path}: {key} is {value!r}; it must be a whole number, 1 or more.")
    return int(value)


def _numbers(frame: Frame, start: int, stop: int) -> NDArray[Any]:
    """Read lines of a frame of two dimensions."""
    width = frame.shape[1]
    line = width * frame.dtype.itemsize

    def read() -> bytes:
        with frame.path.open("rb") as stream:
            stream.seek(frame.offset + start * line)
            return stream.read((stop - start) * line)

    content: bytes = try_read(read, str(frame.path))
    if len(content) != (stop - start) * line:
        raise ScanError(f"Cannot read {frame.path}: the file became shorter than its header says. Copy it again.")
    return np.frombuffer(content, frame.dtype).reshape(stop - start, width).astype(frame.dtype.newbyteorder("="))


def _axis(fields: dict[str, str], n_channel: int) -> Axis:
    lower = {key.lower(): value for key, value in fields.items()}
    listed = re.findall(r"[-+\d.eE]+", lower.get("mcacalib", ""))
    words = listed or [lower.get(f"mca {name}", "0" if name == "c" else "") for name in "abc"]
    try:
        return axis_of_coefficients([float(word) for word in words], n_channel)
    except ValueError:
        return None, (NO_CALIBRATION,)
