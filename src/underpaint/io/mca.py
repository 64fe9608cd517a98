"""Amptek-style ``.mca`` text files (``<<PMCA SPECTRUM>>``): single spectra, and folders of them as scans."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import CalibrationError, ScanError
from underpaint.io._source import lazy_counts, leads_out, own_entries, probe
from underpaint.spectrum import EnergyAxis, Scan, Spectrum

FORMAT = "Amptek .mca"
MAGIC = b"<<PMCA SPECTRUM>>"
GRID_FILE = "colonneXrighe.txt"
_DATA, _END, _CALIBRATION = b"<<DATA>>", b"<<END>>", b"<<CALIBRATION>>"
_HEAD_BYTES = 2048
_MAX_GRID_FILE_BYTES = 4096
_LARGEST_COUNT = 2**32 - 1
_NUMBERED = re.compile(r"^(?P<stem>.*?)[_-]?(?P<number>\d+)$")
_FIELD = re.compile(rb"^([A-Z][A-Z0-9_ ]*?) - ?([^\r\n]*)", re.MULTILINE)
_ROW_WORDS, _COLUMN_WORDS = ("righe", "rows", "row"), ("colonne", "columns", "column", "cols")


def is_mca(head: bytes) -> bool:
    """Whether a file's first bytes are those of an ``.mca`` spectrum."""
    return head.lstrip(b"\xef\xbb\xbf \r\n").startswith(MAGIC)


def read_mca(path: Path) -> Spectrum:
    """Read one ``.mca`` file.

    Raises
    ------
    ScanError
        The file is cut off, holds no data, or something that is no count.
    """
    text = probe(path.read_bytes, str(path))
    counts = _parse_counts(_data_section(text, path), path)
    fields = _fields(text)
    return Spectrum(
        counts.astype(np.float64),
        _axis(text, counts.size)[0],
        _seconds(fields.get("LIVE_TIME")),
        _seconds(fields.get("REAL_TIME")),
        path.stem,
    )


def read_mca_scan(folder: Path, shape: tuple[int, int] | None = None) -> list[Scan]:
    """Read a folder of numbered ``.mca`` files, one a pixel, row-major from 1; one scan per detector folder.

    Parameters
    ----------
    folder : Path
        The spectra's folder, or the one above it that holds the grid file and one folder per detector.
    shape : (int, int) or None
        Rows and columns; None reads them from the grid file (``righe`` rows, ``colonne`` columns).

    Raises
    ------
    ScanError
        No spectra, no grid, or the two do not fit together.
    """
    return [_read_folder(own, folder, shape) for own in spectra_folders(folder)]


def spectra_folders(folder: Path) -> list[Path]:
    """Folders that hold ``.mca`` files: this one, or else those directly below it."""
    if _mca_files(folder):
        return [folder]
    below = sorted(entry for entry in probe(lambda: list(folder.iterdir()), str(folder)) if entry.is_dir())
    return own_entries(folder, (entry for entry in below if _mca_files(entry)))


@dataclass(frozen=True)
class Grid:
    """Rows, columns and dwell time of a raster, and where they were read."""

    n_row: int
    n_column: int
    dwell_s: float | None = None
    source: Path | None = None


class McaFolder:
    """The cube of a folder of ``.mca`` files; pixels without a file are zero."""

    dtype: np.dtype[Any] = np.dtype(np.uint32)

    def __init__(self, folder: Path, names: Mapping[int, str], grid: Grid, n_channel: int) -> None:
        self.folder, self.names = folder, dict(names)
        self.shape = (grid.n_row, grid.n_column, n_channel)

    def read(self, rows: slice, columns: slice) -> NDArray[np.uint32]:
        """Read and check the files of a rectangle of pixels."""
        row_range, column_range = range(rows.start, rows.stop), range(columns.start, columns.stop)
        block = np.zeros((len(row_range), len(column_range), self.shape[2]), dtype=np.uint32)
        for i, row in enumerate(row_range):
            for j, column in enumerate(column_range):
                name = self.names.get(row * self.shape[1] + column + 1)
                if name is not None:
                    block[i, j] = self._read_pixel(self.folder / name, row, column)
        return block

    def _read_pixel(self, path: Path, row: int, column: int) -> NDArray[np.int64]:
        where = f"{path} (pixel row {row}, column {column})"
        counts = _parse_counts(_data_section(probe(path.read_bytes, where), where), where)
        if counts.size != self.shape[2]:
            message = (
                f"Cannot use {where}: it has {counts.size} channels, the scan's first "
                f"spectrum {self.shape[2]}. "
                "All spectra of a scan must have equally many; move files of other measurements elsewhere."
            )
            raise ScanError(message)
        return counts


def _read_folder(folder: Path, top: Path, shape: tuple[int, int] | None) -> Scan:
    numbered, notes = _pixels(folder)
    grid = Grid(*shape) if shape is not None else _find_grid(folder, top, len(numbered))
    _check_grid(grid, sorted(numbered), folder, explicit=shape is not None)
    present = _presence(numbered, grid)
    if not present.all():
        notes.append(f"{int((~present).sum())} of {present.size} pixels have no file; they count as not measured")
    first = folder / numbered[min(numbered)]
    text = probe(first.read_bytes, str(first))
    n_channel = _parse_counts(_data_section(text, first), first).size
    axis, axis_note = _axis(text, n_channel)
    live, real, time_notes = _times(folder, numbered, grid, _calibration_section(text))
    fields = _fields(text)
    if grid.dwell_s is not None:
        fields["dwell_time_s"] = str(grid.dwell_s)
    return Scan(
        lazy_counts(McaFolder(folder, numbered, grid, n_channel), str(folder)),
        axis=axis,
        name=folder.name,
        source=str(folder),
        format=FORMAT,
        live_time_s=live,
        real_time_s=real,
        detector=fields.get("SERIAL_NUMBER", ""),
        present=None if present.all() else present,
        notes=(*notes, *axis_note, *time_notes),
        metadata=fields,
    )


def _mca_files(folder: Path) -> list[str]:
    entries = probe(lambda: list(folder.iterdir()), str(folder))
    spectra = (entry for entry in entries if entry.suffix.lower() == ".mca" and entry.name[0] != ".")
    return sorted(entry.name for entry in own_entries(folder, spectra))


def _pixels(folder: Path) -> tuple[dict[int, str], list[str]]:
    """Files by pixel number, and what was left out."""
    groups: dict[str, dict[int, str]] = {}
    skipped: list[str] = []
    for name in _mca_files(folder):
        match = _NUMBERED.match(name[: -len(".mca")])
        if match is None or match["stem"].lower().startswith("spot"):
            skipped.append(name)
        else:
            groups.setdefault(match["stem"], {})[int(match["number"])] = name
    notes = [f"{len(skipped)} spectra are not pixels and were skipped: {', '.join(skipped[:4])}"] if skipped else []
    return _single_group(groups, folder), notes


def _single_group(groups: dict[str, dict[int, str]], folder: Path) -> dict[int, str]:
    if not groups:
        message = (
            f"Cannot read {folder} as a scan: it holds no numbered .mca files (None_1.mca, None_2.mca ...). "
            "Give the folder of the pixels' spectra."
        )
        raise ScanError(message)
    if len(groups) > 1:
        found = ", ".join(f"{stem or '(number only)'}: {len(files)}" for stem, files in sorted(groups.items()))
        message = (
            f"Cannot read {folder} as one scan: its .mca files have several series of names ({found}). "
            "Move each series to a folder of its own."
        )
        raise ScanError(message)
    return next(iter(groups.values()))


def _find_grid(folder: Path, top: Path, n_file: int) -> Grid:
    for place in dict.fromkeys((folder, top, folder.parent)):
        for candidate in _grid_candidates(place):
            grid = _parse_grid(candidate)
            if grid is not None:
                return grid
    message = (
        f"Cannot read {folder} as a scan: {n_file} spectra, but no grid file ({GRID_FILE} with the lines "
        "'righe <rows>' and 'colonne <columns>') in it or one level above. Add one, or give "
        "the shape (`--shape ROWSxCOLUMNS`; Python: `shape=(rows, columns)`)."
    )
    raise ScanError(message)


def _grid_candidates(place: Path) -> list[Path]:
    texts = [entry for entry in probe(lambda: list(place.iterdir()), str(place)) if entry.suffix.lower() == ".txt"]
    files = (entry for entry in texts if entry.is_file() and not leads_out(entry, place))
    small = [entry for entry in files if entry.stat().st_size <= _MAX_GRID_FILE_BYTES]
    return sorted(small, key=lambda entry: (entry.name != GRID_FILE, entry.name))


def _parse_grid(path: Path) -> Grid | None:
    """Rows and columns of a grid file; None where the text speaks of neither."""
    words: dict[str, str] = {}
    for line in probe(path.read_bytes, str(path)).decode("latin-1").splitlines():
        parts = line.replace("=", " ").replace(":", " ").split()
        if len(parts) >= 2:
            words[parts[0].lower()] = parts[1].replace(",", ".")
    rows = next((words[word] for word in _ROW_WORDS if word in words), None)
    columns = next((words[word] for word in _COLUMN_WORDS if word in words), None)
    if rows is None or columns is None:
        return None
    return Grid(_whole(rows, path), _whole(columns, path), _seconds(words.get("dwell-time")), path)


def _whole(text: str, path: Path) -> int:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not (value >= 1 and value.is_integer()):
        message = f"Cannot use the grid file {path}: {text!r} is not a number of rows or columns (1, 2, 3 ...)."
        raise ScanError(message)
    return int(value)


def _check_grid(grid: Grid, numbers: list[int], folder: Path, *, explicit: bool) -> None:
    """Refuse a grid that the numbering contradicts; single missing files are allowed."""
    n_pixel = grid.n_row * grid.n_column
    told = "the given shape" if grid.source is None else str(grid.source)
    missing = n_pixel - len(numbers)
    ends_early = not explicit and numbers[-1] < n_pixel - 1
    if (
        grid.n_row < 1
        or grid.n_column < 1
        or numbers[0] < 1
        or numbers[-1] > n_pixel
        or ends_early
        or 2 * missing > n_pixel
    ):
        message = (
            f"Cannot read {folder} as a scan: {told} says {grid.n_row} rows x {grid.n_column} "
            f"columns = {n_pixel} pixels, "
            f"but there are {len(numbers)} spectra, numbered {numbers[0]} to {numbers[-1]}. "
            "Correct the grid file, or give the shape (`--shape ROWSxCOLUMNS`; Python: `load(path, shape=(rows, "
            "columns))`); a scan that stopped early is read with its planned shape if half of its pixels are there."
        )
        raise ScanError(message)


def _presence(numbered: Mapping[int, str], grid: Grid) -> NDArray[np.bool_]:
    present = np.zeros(grid.n_row * grid.n_column, dtype=bool)
    present[np.fromiter(numbered, dtype=np.int64) - 1] = True
    return present.reshape(grid.n_row, grid.n_column)


def _times(
    folder: Path, numbered: Mapping[int, str], grid: Grid, calibration: bytes
) -> tuple[NDArray[np.float64] | None, NDArray[np.float64] | None, list[str]]:
    """Live and real time of each pixel from the files' heads; a time of 0 is unknown."""
    live, real = np.full(grid.n_row * grid.n_column, np.nan), np.full(grid.n_row * grid.n_column, np.nan)
    other = 0
    for number, name in numbered.items():
        head = probe(partial(_head, folder / name), str(folder / name))
        live[number - 1] = _time(head, b"\nLIVE_TIME - ")
        real[number - 1] = _time(head, b"\nREAL_TIME - ")
        other += _calibration_section(head) != calibration
    notes = []
    if np.isnan(live).all():
        notes.append("live time is unknown (0 in the files)")
    if other:
        notes.append(f"{other} spectra carry another calibration than the first; the first one's is used for all")
    shape = (grid.n_row, grid.n_column)
    return _known(live, shape), _known(real, shape), notes


def _known(time_s: NDArray[np.float64], shape: tuple[int, int]) -> NDArray[np.float64] | None:
    return None if np.isnan(time_s).all() else time_s.reshape(shape)


def _head(path: Path) -> bytes:
    with path.open("rb", buffering=0) as stream:
        return stream.read(_HEAD_BYTES)


def _time(head: bytes, label: bytes) -> float:
    start = head.find(label)
    if start < 0:
        return float("nan")
    value = _seconds(head[start + len(label) : head.find(b"\n", start + len(label))].decode("latin-1"))
    return float("nan") if value is None else value


def _data_section(text: bytes, where: Path | str) -> bytes:
    start, stop = text.find(_DATA), text.rfind(_END)
    if not is_mca(text[:64]) or start < 0:
        message = f"Cannot read {where}: it is not an .mca spectrum (no {MAGIC.decode()} or no <<DATA>> in it)."
        raise ScanError(message)
    if stop < start:
        message = (
            f"Cannot read {where}: the file is cut off (no <<END>> after its data). Copy it from the instrument again."
        )
        raise ScanError(message)
    return text[start + len(_DATA) : stop]


def _parse_counts(section: bytes, where: Path | str) -> NDArray[np.int64]:
    """Whole numbers, quickly; what is no digit is looked at one by one for a message."""
    if section.translate(None, b"0123456789 \t\r\n"):
        _refuse_numbers(section, where)
    if not section.strip():
        message = f"Cannot read {where}: its data section is empty. Copy it from the instrument again."
        raise ScanError(message)
    counts = np.fromstring(section, dtype=np.int64, sep=" ")
    if counts.max() > _LARGEST_COUNT:  # longer numbers end as the largest that the type holds
        channel = int(counts.argmax())
        message = (
            f"Cannot read {where}: channel {channel} holds {section.split()[channel].decode()[:30]} counts, more than "
            f"can be ({_LARGEST_COUNT}). The file is damaged; copy it again."
        )
        raise ScanError(message)
    return counts


def _refuse_numbers(section: bytes, where: Path | str) -> None:
    for channel, word in enumerate(section.split()):
        if not word.isdigit():
            message = (
                f"Cannot read {where}: channel {channel} holds {word.decode('latin-1')!r}; "
                "counts must be whole numbers and not negative."
            )
            raise ScanError(message)


def _fields(text: bytes) -> dict[str, str]:
    head = text[: max(text.find(_DATA), 0)].decode("latin-1").encode("utf-8")
    return {key.decode(): value.decode().strip() for key, value in _FIELD.findall(head)}


def _seconds(text: str | None) -> float | None:
    """A time in s with point or comma; None for 0 or none."""
    try:
        value = float((text or "").strip().replace(",", "."))
    except ValueError:
        return None
    return value if np.isfinite(value) and value > 0 else None


def _calibration_section(text: bytes) -> bytes:
    start = text.find(_CALIBRATION)
    if start < 0:
        return b""
    return text[start + len(_CALIBRATION) : text.find(b"<<", start + len(_CALIBRATION))]


def _axis(text: bytes, n_channel: int) -> tuple[EnergyAxis | None, tuple[str, ...]]:
    """Straight line through the calibration points (channel, keV)."""
    points = []
    for line in _calibration_section(text).decode("latin-1").replace(",", ".").splitlines():
        parts = line.split()
        if len(parts) == 2 and all(re.fullmatch(r"[-+]?\d*\.?\d+([eE][-+]?\d+)?", part) for part in parts):
            points.append((float(parts[0]), float(parts[1])))
    if len({channel for channel, _ in points}) < 2:
        return None, ("no energy calibration in the files",)
    channel, energy_kev = np.transpose(points)
    unit_kev = 1e-3 if _fields(text).get("LABEL", "").lower() == "ev" else 1.0
    gain_kev, zero_kev = np.polyfit(channel, unit_kev * energy_kev, 1)
    try:
        return EnergyAxis(float(gain_kev), float(zero_kev), n_channel), ()
    except CalibrationError as error:
        return None, (f"the files' calibration points were not used: {error}",)
