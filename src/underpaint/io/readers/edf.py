"""Reader of stacks of frames in EDF, the format of the ESRF with text headers and binary data.

Specification:

- A header is text between ``{`` and ``}`` with entries ``key = value ;``, padded to a multiple of 512 bytes. The keys
  are ``DataType``, ``ByteOrder`` (``LowByteFirst``, ``HighByteFirst``) and ``Dim_1`` (fastest) to ``Dim_3``. The
  numbers follow, and then the next frame. ``SignedLong`` and ``UnsignedLong`` have 4 bytes, or 8 if ``Size`` requires
  it.
- In a stack of spectra, as in PyMca, ``Dim_1`` is the channels and ``Dim_2`` the columns. The rows are ``Dim_3``, the
  frames of a file, or the files of a folder. If each frame holds one spectrum (``Dim_2 = 1``), frames are columns and
  files are rows. ``FILE::images`` or ``FOLDER::images`` reads each frame as the image of one channel. If the numbers of
  a folder's files have a gap, the scan has a note. If the files are images of channels, a gap is an error.
- In the XIA files of the ESRF, ``NAME_xia<detector>_<numbers>_<line>.edf`` holds one line of one detector.
  ``NAME_xiast_...`` has six values per detector and pixel: detector, events, input rate, output rate, live time in ms,
  and dead time in percent.
- ``MCA a``, ``MCA b`` and ``MCA c``, or ``McaCalib``, are zero, gain and quadratic term, in keV or eV according to
  their size.

Compressed frames, and files with less data than declared, are refused.

Source: fabio ``fabio/edfimage.py`` (MIT), PyMca ``PyMca5/PyMcaIO/EdfFile.py``, ``EDFStack.py`` and
``PyMca5/PyMcaCore/XiaEdf.py``. This module does not use fabio, since fabio fills truncated frames with zeros.
"""

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
    missing_file_numbers,
    natural_sort_key,
    number_list,
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
_MAX_HEADER_BYTES = 2**20
_READ_BYTES = 4096
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
_XIA_NAME = re.compile(r"(?P<head>.*)_xia(?P<detector>\d+|st|[sS]\w*)_(?P<numbers>.*?)(?P<line>\d+)$")
_NUMBERED_NAME = re.compile(r"(?P<head>.*?)(?P<line>\d*)$")
_N_STATISTICS = 6
_LIVE_TIME_INDEX = 4


@dataclass(frozen=True)
class Frame:
    """Frame of a file: its header, and the position, type and shape (slowest dimension first) of its data."""

    path: Path
    offset: int
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fields: dict[str, str]


class SpectraCube:
    """Cube of frames that hold one row of spectra each, as (column, channel) values."""

    def __init__(self, frame_rows: Sequence[Sequence[Frame]]) -> None:
        first_frame = frame_rows[0][0]
        self.frame_rows, self.dtype = frame_rows, first_frame.dtype.newbyteorder("=")
        self.columns_per_frame = first_frame.shape[0]
        self.shape = (len(frame_rows), len(frame_rows[0]) * self.columns_per_frame, first_frame.shape[1])

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels."""
        block = np.empty((rows.stop - rows.start, columns.stop - columns.start, self.shape[2]), dtype=self.dtype)
        for block_row, frames in enumerate(self.frame_rows[rows]):
            for frame_index, frame in enumerate(frames):
                first_column = frame_index * self.columns_per_frame
                start_column, stop_column = (
                    max(columns.start, first_column),
                    min(columns.stop, first_column + self.columns_per_frame),
                )
                if start_column < stop_column:
                    spectra = _read_lines(frame, start_column - first_column, stop_column - first_column)
                    block[block_row, start_column - columns.start : stop_column - columns.start] = spectra
        return block


class ImageCube:
    """Cube of frames that hold the image of one channel each."""

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.frames, self.dtype = frames, frames[0].dtype.newbyteorder("=")
        self.shape = (frames[0].shape[0], frames[0].shape[1], len(frames))

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels. Only the lines of the rectangle are read from each image."""
        block = np.empty((rows.stop - rows.start, columns.stop - columns.start, self.shape[2]), dtype=self.dtype)
        for channel, frame in enumerate(self.frames):
            block[:, :, channel] = _read_lines(frame, rows.start, rows.stop)[:, columns]
        return block


def _is_edf(head: bytes) -> bool:
    """Return whether a file begins like an EDF header."""
    header_start = head.lstrip()
    return (
        header_start.startswith(b"{")
        and b"=" in header_start
        and bool(re.search(rb"(?i)\b(Dim_1|DataType|EDF_\w+)\s*=", header_start))
    )


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file begins like an EDF header, or a folder contains such files."""
    return _is_edf(head) if head else bool(_edf_files(path))


def _edf_files(folder: Path) -> list[Path]:
    """Return the EDF files of a folder, sorted by the numbers in their names."""
    candidate_files = (file for file in folder.iterdir() if file.suffix.lower() in {".edf", ".cor"} and file.is_file())
    edf_files = entries_inside(folder, (file for file in candidate_files if _is_edf(first_bytes(file, _READ_BYTES))))
    return sorted(edf_files, key=natural_sort_key)


def read(path: Path, part_name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read an EDF file, or the EDF files of a folder. The counts are read only when they are computed.

    Parameters
    ----------
    path : Path
        The file or folder.
    part_name : str or None
        ``images`` if each frame is the image of one channel, otherwise the beginning of the names of a folder's files.

    Raises
    ------
    ScanError
        A header is damaged or declares more data than the file has, or the frames differ in size or type.
    """
    return _read_folder(path, part_name) if path.is_dir() else [_scan([path], path, path.stem, "", part_name)]


def _read_folder(path: Path, part_name: str | None) -> list[Scan]:
    """Read the EDF files of a folder, one line of the scan per file. XIA files give one scan per detector.

    Raises
    ------
    ScanError
        As for :func:`read`, or the files belong to several scans.
    """
    files_by_detector, statistics_by_scan = _group_files(_edf_files(path), None if part_name == "images" else part_name)
    found_series = {series_name for series_name, _ in files_by_detector}
    if len(found_series) != 1:
        series_list = ", ".join(sorted(found_series)) or "none of that name"
        raise ScanError(
            f"Cannot read {path} as one scan: its EDF files belong to {len(found_series)} series ({series_list}). "
            "Pick one by "
            "::NAME."
        )
    is_single = len(files_by_detector) == 1
    scans = []
    for (series_name, detector), files in sorted(files_by_detector.items()):
        scan_name = path.name if is_single else f"{path.name}_{detector}"
        scan = _scan(files, path / f"{series_name}*", scan_name, detector, part_name)
        scans.append(_with_live_time(scan, statistics_by_scan.get(series_name, []), detector))
    return scans


def _group_files(
    files: list[Path], name_prefix: str | None
) -> tuple[dict[tuple[str, str], list[Path]], dict[str, list[Path]]]:
    """Group files of counts by scan and detector, and files of statistics by scan."""
    files_by_detector: dict[tuple[str, str], list[Path]] = {}
    statistics_by_scan: dict[str, list[Path]] = {}
    for file in files:
        xia_match, number_match = _XIA_NAME.match(file.stem), _NUMBERED_NAME.match(file.stem)
        series_name = (
            f"{xia_match['head']}_{xia_match['numbers']}"
            if xia_match
            else (number_match["head"] if number_match else file.stem)
        )
        if name_prefix is not None and not file.stem.startswith(name_prefix):
            continue
        if xia_match and xia_match["detector"] == "st":
            statistics_by_scan.setdefault(series_name, []).append(file)
        elif (
            not xia_match or xia_match["detector"].isdigit()
        ):  # sums of detectors, which XIA's programs write, would count twice
            files_by_detector.setdefault((series_name, xia_match["detector"] if xia_match else ""), []).append(file)
    return files_by_detector, statistics_by_scan


def _scan(files: list[Path], source: Path, scan_name: str, detector: str, part_name: str | None) -> Scan:
    frames_by_file = [list(_frames(file)) for file in files]
    frames = [frame for file_frames in frames_by_file for frame in file_frames]
    _check_equal_frames(frames, source)
    first_frame = frames[0]
    if part_name == "images" and (len(frames) < 2 or len(first_frame.shape) != 2):
        raise ScanError(f"Cannot read {source} as images: two or more frames of two dimensions are needed.")
    cube = ImageCube(frames) if part_name == "images" else SpectraCube(_frame_rows(frames_by_file, source))
    axis, axis_notes = _axis(first_frame.fields, cube.shape[2])
    missing_numbers = missing_file_numbers(files)
    if missing_numbers and part_name == "images":
        raise ScanError(
            f"Cannot read {source} as images: its {len(files)} numbered files lack {number_list(missing_numbers)}, "
            "which would shift all higher channels. Copy the files again."
        )
    gap_note = (
        (f"the numbered files lack {number_list(missing_numbers)}: all rows below are shifted up",)
        if missing_numbers
        else ()
    )
    return Scan(
        lazy_counts(cube, str(source)),
        axis=axis,
        name=scan_name,
        source=f"{source}::images" if part_name == "images" else str(source),
        format=FORMAT.name,
        detector=detector,
        notes=(*axis_notes, *gap_note),
        metadata={**first_frame.fields, **({SAME_CHANNELS: True} if detector and axis is None else {})},
    )


def _check_equal_frames(frames: list[Frame], source: Path) -> None:
    if not frames:
        raise ScanError(f"Cannot read {source}: it has no frame with numbers.")
    unequal_frame = next(
        (frame for frame in frames if (frame.shape, frame.dtype) != (frames[0].shape, frames[0].dtype)), None
    )
    if unequal_frame is not None:
        raise ScanError(
            f"Cannot read {source}: a frame of {frames[0].path.name} is {frames[0].shape} {frames[0].dtype}, one of "
            f"{unequal_frame.path.name} is {unequal_frame.shape} {unequal_frame.dtype}; the frames of a stack must "
            "be equal in size "
            "and type."
        )


def _frame_rows(frames_by_file: list[list[Frame]], source: Path) -> list[list[Frame]]:
    """Group the frames of one or several files into rows of the scan."""
    shape = frames_by_file[0][0].shape
    if len(shape) == 3:
        return [
            [_single_plane(plane_frame, plane_index)]
            for file_frames in frames_by_file
            for plane_frame in file_frames
            for plane_index in range(shape[0])
        ]
    if len(shape) == 2 and shape[0] > 1:
        return [[plane_frame] for file_frames in frames_by_file for plane_frame in file_frames]
    unequal_lengths = [len(file_frames) for file_frames in frames_by_file if len(file_frames) != len(frames_by_file[0])]
    if unequal_lengths:
        raise ScanError(
            f"Cannot read {source}: its first line has {len(frames_by_file[0])} spectra, and another line has "
            f"{unequal_lengths[0]}."
        )
    return frames_by_file


def _single_plane(frame: Frame, plane_index: int) -> Frame:
    plane_bytes = int(np.prod(frame.shape[1:])) * frame.dtype.itemsize
    return Frame(frame.path, frame.offset + plane_index * plane_bytes, frame.shape[1:], frame.dtype, frame.fields)


def _with_live_time(scan: Scan, files: list[Path], detector: str) -> Scan:
    """Add the live time of a detector to its scan. The scan is unchanged if the statistics do not fit it."""
    statistics_frames = [frame for file in files for frame in _frames(file)]
    frame_shapes = {frame.shape for frame in statistics_frames}
    if (
        len(statistics_frames) != scan.shape[0]
        or any(len(frame_shape) != 2 or frame_shape[0] != scan.shape[1] for frame_shape in frame_shapes)
        or len(frame_shapes) > 1
    ):
        return scan
    statistics_values = np.stack([_read_lines(frame, 0, frame.shape[0]) for frame in statistics_frames]).astype(
        np.float64
    )
    detector_values = statistics_values.reshape(*scan.shape[:2], -1)[
        :, :, : statistics_values.shape[2] // _N_STATISTICS * _N_STATISTICS
    ]
    statistics = detector_values.reshape(*scan.shape[:2], -1, _N_STATISTICS)
    matching_indices = (
        np.flatnonzero(statistics[0, 0, :, 0] == int(detector)) if detector.isdecimal() else np.array([], dtype=int)
    )
    if matching_indices.size != 1:
        return scan
    live_time_s = statistics[:, :, int(matching_indices[0]), _LIVE_TIME_INDEX] / 1000.0
    return scan.replace(live_time_s=np.where(live_time_s > 0, live_time_s, np.nan)) if (live_time_s > 0).any() else scan


def _frames(path: Path) -> Iterator[Frame]:
    """Yield the frames of a file, of which only the headers are read."""
    n_byte = try_read(path.stat, str(path)).st_size
    with try_read(lambda: path.open("rb"), str(path)) as stream:
        header_start = 0
        for _ in range(_MAX_FRAMES):
            header = _read_header(stream, header_start, path)
            if header is None:
                return
            fields, data_start = header
            frame = _parse_frame(path, data_start, fields, n_byte)
            if frame is not None:
                yield frame
                header_start = data_start + _data_bytes(fields, frame)
            else:
                header_start = data_start


def _read_header(stream: BinaryIO, header_start: int, path: Path) -> tuple[dict[str, str], int] | None:
    """Return the fields of the next header and the position of its data, or None at the end of the file."""
    stream.seek(header_start)
    header_bytes = b""
    header_end = None
    while header_end is None and len(header_bytes) < _MAX_HEADER_BYTES:
        header_chunk = stream.read(_READ_BYTES)
        header_bytes += header_chunk
        header_end = re.search(rb"\}[ \t]*\r?\n", header_bytes)
        if not header_chunk:
            break
    if not header_bytes.strip(b"\x00 \r\n\t"):
        return None
    if header_end is None or not header_bytes.lstrip().startswith(b"{"):
        header_fault = (
            "has no end" if header_bytes.lstrip().startswith(b"{") else f"begins {header_bytes[:16]!r}, not with {{"
        )
        raise ScanError(
            f"Cannot read {path}: it is EDF, but the header at byte {header_start} {header_fault}. The file is damaged "
            "or cut off."
        )
    return _header_fields(header_bytes[: header_end.start()]), header_start + header_end.end()


def _header_fields(header_bytes: bytes) -> dict[str, str]:
    field_parts = (
        header_entry.partition("=")
        for header_entry in header_bytes.decode("latin-1").lstrip().removeprefix("{").split(";")
    )
    return {
        field_name.strip(): field_value.strip() for field_name, equals_sign, field_value in field_parts if equals_sign
    }


def _parse_frame(path: Path, data_start: int, fields: dict[str, str], n_byte: int) -> Frame | None:
    fields_by_lower_key = {field_name.lower(): field_value for field_name, field_value in fields.items()}
    if "dim_1" not in fields_by_lower_key:
        return None
    compression = fields_by_lower_key.get("compression", "none").lower()
    if compression not in {"none", "nocompression", "no", ""}:
        raise ScanError(
            f"Cannot read {path}: its frames are packed ({compression}). Write the file again without compression."
        )
    dimension_sizes = [
        _positive_integer(fields_by_lower_key[field_name], field_name, path)
        for field_name in ("dim_3", "dim_2", "dim_1")
        if field_name in fields_by_lower_key
    ]
    type_code = _DTYPES.get(fields_by_lower_key.get("datatype", "").lower())
    if type_code is None:
        raise ScanError(
            f"Cannot read {path}: its header at byte {data_start} has the DataType "
            f"{fields_by_lower_key.get('datatype', '')!r}."
        )
    byte_order = ">" if fields_by_lower_key.get("byteorder", "").lower() == "highbytefirst" else "<"
    shape = tuple(dimension_sizes) if len(dimension_sizes) > 1 else (1, *dimension_sizes)
    if "long" in fields_by_lower_key["datatype"].lower() and _integer_or_zero(
        fields_by_lower_key, "size"
    ) == 8 * math.prod(shape):
        type_code = type_code[0] + "8"  # only ``Size`` shows whether long integers have 8 bytes
    dtype = np.dtype(byte_order + type_code)
    needed_bytes = data_start + math.prod(shape) * dtype.itemsize
    if needed_bytes > n_byte:
        raise ScanError(
            f"Cannot read {path}: its header declares {' x '.join(map(str, shape))} numbers up to byte {needed_bytes}; "
            f"the file holds {n_byte} bytes. The file is cut off; copy the file again."
        )
    return Frame(path, data_start, shape, dtype, fields)


def _data_bytes(fields: dict[str, str], frame: Frame) -> int:
    """Return the number of bytes between the start of a frame's data and the next header."""
    fields_by_lower_key = {field_name.lower(): field_value for field_name, field_value in fields.items()}
    frame_bytes = math.prod(frame.shape) * frame.dtype.itemsize
    return max(
        frame_bytes,
        _integer_or_zero(fields_by_lower_key, "edf_binarysize"),
        _integer_or_zero(fields_by_lower_key, "size"),
    )


def _integer_or_zero(fields_by_lower_key: dict[str, str], field_name: str) -> int:
    """Return the integer in a field of the header, or 0 if the field is missing or invalid."""
    number_text = fields_by_lower_key.get(field_name, "")
    return int(number_text) if number_text.isdecimal() and number_text.isascii() and len(number_text) < 16 else 0


def _positive_integer(number_text: str, field_name: str, path: Path) -> int:
    if not (number_text.isdecimal() and number_text.isascii() and len(number_text) < 16 and int(number_text) > 0):
        raise ScanError(f"Cannot read {path}: {field_name} is {number_text!r}; it must be an integer, 1 or more.")
    return int(number_text)


def _read_lines(frame: Frame, first_line: int, stop_line: int) -> NDArray[Any]:
    """Read some lines of a two-dimensional frame."""
    n_line_value = frame.shape[1]
    line_bytes = n_line_value * frame.dtype.itemsize

    def read() -> bytes:
        with frame.path.open("rb") as stream:
            stream.seek(frame.offset + first_line * line_bytes)
            return stream.read((stop_line - first_line) * line_bytes)

    line_contents: bytes = try_read(read, str(frame.path))
    if len(line_contents) != (stop_line - first_line) * line_bytes:
        raise ScanError(
            f"Cannot read {frame.path}: the file has become shorter than its header declares. Copy the file again."
        )
    return (
        np.frombuffer(line_contents, frame.dtype)
        .reshape(stop_line - first_line, n_line_value)
        .astype(frame.dtype.newbyteorder("="))
    )


def _axis(fields: dict[str, str], n_channel: int) -> Axis:
    fields_by_lower_key = {field_name.lower(): field_value for field_name, field_value in fields.items()}
    calibration_texts = re.findall(r"[-+\d.eE]+", fields_by_lower_key.get("mcacalib", ""))
    coefficient_texts = calibration_texts or [
        fields_by_lower_key.get(f"mca {coefficient_name}", "0" if coefficient_name == "c" else "")
        for coefficient_name in "abc"
    ]
    try:
        return axis_of_coefficients([float(number_text) for number_text in coefficient_texts], n_channel)
    except ValueError:
        return None, (NO_CALIBRATION,)
