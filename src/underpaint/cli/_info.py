"""Tables of facts: what ``info`` and many scans at once show."""

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from underpaint.calibrate import Calibration, calibrate, calibration_notes
from underpaint.cli._console import list_table, two_columns
from underpaint.data import EnergyAxis, Scan, Spectrum
from underpaint.errors import CalibrationError
from underpaint.io import ScanInfo
from underpaint.physics.atomic import line_labels

_BLANK = 0x2800
# Bits of a braille character by (row, column) of its 4 x 2 dots.
_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
_MARGIN = 8


@dataclass(frozen=True)
class Frame:
    """Size in characters, and the range of energies or channels that is shown."""

    width: int
    height: int
    start: float
    stop: float

    def column(self, position: float) -> int:
        """Return the character column of an energy or channel."""
        return round((position - self.start) / (self.stop - self.start) * (self.width - 1))


def draw(counts: NDArray[np.float64], frame: Frame, labels: Mapping[str, float], title: str, unit: str) -> list[str]:
    """Draw counts as lines of text: labels above, braille, an axis below.

    Parameters
    ----------
    counts : (n,) array
        Counts, evenly spaced from ``frame.start`` to ``frame.stop``; drawn on a logarithmic axis.
    frame : Frame
        Size and range.
    labels : mapping of str to float
        Line names with their positions, the most important first; those without room are left out.
    title, unit : str
        Shown above, and below at the end of the axis.
    """
    heights, low, high = _heights(counts, 2 * frame.width, 4 * frame.height)
    body = _braille(heights, frame.height)
    scale = [f"{high:.0e}", *[""] * (frame.height - 2), f"{low:.0e}"] if frame.height > 1 else [f"{high:.0e}"]
    lines = [title]
    lines += [" " * (_MARGIN + 1) + row for row in _label_rows(labels, frame)]
    lines += [f"{tick:>{_MARGIN}}|{row}" for tick, row in zip(scale, body, strict=True)]
    return [*lines, " " * (_MARGIN + 1) + _ticks(frame, unit)]


def _heights(counts: NDArray[np.float64], n_dot: int, n_level: int) -> tuple[NDArray[np.int64], float, float]:
    """Highest count of each dot column as a level from 0 to ``n_level``, and the counts of lowest and highest level."""
    edges = np.linspace(0, counts.size, n_dot + 1)
    tallest = np.array([counts[int(a) : max(math.ceil(b), int(a) + 1)].max() for a, b in pairwise(edges)])
    high = max(float(tallest.max()), 1.0)
    # What lies under the continuum, such as the channels below the threshold, need not be shown.
    low = max(high / 1e5, 0.5, 0.5 * float(np.percentile(tallest, 10)))
    low = min(low, high / 10)
    share = np.log(np.maximum(tallest, low) / low) / max(math.log(high / low), 1e-9)
    return np.round(share * n_level).astype(np.int64), low, high


def _braille(heights: NDArray[np.int64], n_row: int) -> list[str]:
    level = 4 * n_row - np.arange(4 * n_row)[:, None]
    # A line two dots thick, so that the flanks of a peak look connected.
    dots = (level <= heights[None, :]) & (level > heights[None, :] - np.maximum(_drop(heights), 1)[None, :])
    cells = dots.reshape(n_row, 4, -1, 2)
    codes = _BLANK + (cells * _BITS[None, :, None, :]).sum(axis=(1, 3))
    return ["".join(chr(code) for code in row) for row in codes]


def _drop(heights: NDArray[np.int64]) -> NDArray[np.int64]:
    """How far each column stands above the lower one of its neighbours."""
    padded = np.pad(heights, 1, mode="edge")
    return heights - np.minimum(padded[:-2], padded[2:])


def _label_rows(labels: Mapping[str, float], frame: Frame, n_row: int = 3) -> list[str]:
    """Place labels above their lines, on as many rows as needed (at most ``n_row``)."""
    rows = [[" "] * frame.width for _ in range(n_row)]
    for text, position in labels.items():
        if not frame.start <= position <= frame.stop:
            continue
        first = min(max(frame.column(position) - len(text) // 2, 0), max(frame.width - len(text), 0))
        for row in reversed(rows):
            if all(cell == " " for cell in row[max(first - 1, 0) : first + len(text) + 1]):
                row[first : first + len(text)] = list(text)[: frame.width - first]
                break
    return [text for row in rows if (text := "".join(row).rstrip())]


def _ticks(frame: Frame, unit: str) -> str:
    span = frame.stop - frame.start
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10**5) if span / step <= 10)
    row = [" "] * (frame.width + 6 + len(unit))
    last = 0.0
    for position in np.arange(math.ceil(frame.start / step) * step, frame.stop, step):
        text, first = f"{position:g}", frame.column(position)
        row[first : first + len(text)] = list(text)
        last = first + len(text)
    row[int(last) + 1 : int(last) + 1 + len(unit)] = list(unit)
    return "".join(row).rstrip()


_PICTURE_ROWS = 8


@dataclass(frozen=True)
class InfoAxis:
    """The axis that ``info`` draws on: found in the lines, or else the file's own, or none."""

    scan_axis: EnergyAxis | None
    calibration: Calibration | None = None
    notes: tuple[str, ...] = ()

    def facts(self) -> dict[str, Any]:
        """JSON-serialisable."""
        axis, found = self.scan_axis, self.calibration
        return {
            "gain_kev": None if axis is None else axis.gain_kev,
            "zero_kev": None if axis is None else axis.zero_kev,
            "found": [] if found is None else list(found.families),
            "anode": None if found is None else found.anode,
            "notes": list(self.notes),
        }


def found_axis(info: ScanInfo) -> InfoAxis:
    """Find the axis in the sum spectrum; looking at a file never fails for want of it."""
    total = Scan(info.sum_spectrum.counts[None, None, :], axis=info.axis, name=info.name)
    try:
        found = calibrate(total)
    except CalibrationError as error:
        return InfoAxis(info.axis, None, (str(error),))
    return InfoAxis(found.axis, found, calibration_notes(info.axis, found))


def axis_offer(info: ScanInfo, axis: InfoAxis) -> list[str]:
    """Offer the axis that was found where the file has none, or another one."""
    if axis.calibration is None or not axis.notes:
        return []
    return [
        f"{info.name}: the file's energy axis ({_axis(info.axis)}) was kept; the lines give {_axis(axis.scan_axis)}. "
        "Convert with --axis found to write that one."
    ]


def written_axis(info: ScanInfo, axis: InfoAxis) -> EnergyAxis:
    """Return the axis that was found in the lines.

    Raises
    ------
    CalibrationError
        None was found.
    """
    if axis.calibration is None:
        raise CalibrationError(
            f"Cannot write the energy axis found in the lines of {info.name}: none was found. {' '.join(axis.notes)} "
            "Convert without --axis found to keep the file's."
        )
    return axis.calibration.axis


def facts_table(info: ScanInfo, axis: InfoAxis) -> Table:
    """Facts of a scan as two columns."""
    n_row, n_column, n_channel = info.shape
    table = two_columns(info.name)
    table.add_row("file", info.source)
    table.add_row("format", info.format)
    sizes = f"{_of(n_row, 'row')} x {_of(n_column, 'column')}, {_of(n_channel, 'channel')}"
    table.add_row("size", f"{sizes} ({info.size_bytes / 1e6:.0f} MB)")
    table.add_row("step", "unknown" if info.step_mm is None else f"{info.step_mm[0]:g} x {info.step_mm[1]:g} mm")
    table.add_row("detector", info.detector or "unknown")
    table.add_row(
        "counts",
        f"{info.total_counts:.4g} in all, {info.mean_pixel_counts:.4g} a pixel, at most {info.max_pixel_counts:.4g}",
    )
    table.add_row("live time", "unknown" if info.live_time_s is None else f"{info.live_time_s:g} s a pixel")
    table.add_row("pixels", f"{info.n_missing} missing, {info.n_empty} without counts")
    table.add_row("axis in file", _axis(info.axis))
    if axis.calibration is not None:
        table.add_row("axis found", f"{_axis(axis.scan_axis)}; {_anode(axis.calibration)}")
        table.add_row("lines", ", ".join(name.replace("_", " ") for name in axis.calibration.families))
    for note in (*info.notes, *axis.notes):
        table.add_row("note", note)
    return table


def spectrum_lines(info: ScanInfo, axis: InfoAxis) -> list[str]:
    """Sum and maximum spectrum, drawn for the terminal."""
    width = min(max(shutil.get_terminal_size((100, 24)).columns - 16, 40), 140)
    own = axis.scan_axis
    last = max(int((info.sum_spectrum.counts > 0).nonzero()[0].max(initial=1)) + 1, 2)
    start, stop = (0.0, float(last)) if own is None else (own.start_kev, own.start_kev + own.gain_kev * last)
    frame = Frame(width, _PICTURE_ROWS, start, stop)
    families = () if axis.calibration is None else axis.calibration.families
    labels = line_labels(families)
    unit = "channel" if own is None else "keV"
    pictures: tuple[tuple[str, Spectrum, Mapping[str, float]], ...] = (
        ("sum", info.sum_spectrum, labels),
        ("maximum", info.max_spectrum, {}),
    )
    return [
        line
        for title, spectrum, shown in pictures
        for line in draw(spectrum.counts[:last], frame, shown, f"{title} spectrum, counts (logarithmic)", unit)
    ]


def scans_table(records: list[dict[str, Any]]) -> Table:
    """One row per scan: where the results are; why there are none is told below, once."""
    table = list_table("scans", ("scan", "state", "results"))
    for each in records:
        state = "failed" if each["error"] else "left alone" if each["skipped"] else "done"
        table.add_row(each["source"], state, each["folder"] or "")
    return table


def _of(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _axis(axis: EnergyAxis | None) -> str:
    if axis is None:
        return "none"
    return f"{axis.start_kev:.2f}-{axis.stop_kev:.2f} keV, {1e3 * axis.gain_kev:.3f} eV a channel"


def _anode(found: Calibration) -> str:
    return "anode unknown" if found.anode is None else f"{found.anode} anode"
