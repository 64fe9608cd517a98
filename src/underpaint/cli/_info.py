"""Terminal output of the command ``info``, and a table that lists several scans."""

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
from underpaint.cli._console import list_table, two_column_table
from underpaint.data import EnergyAxis, Scan, Spectrum
from underpaint.errors import CalibrationError
from underpaint.io import ScanInfo
from underpaint.physics.atomic import line_labels

_BLANK_BRAILLE = 0x2800
# Bit of each dot in a braille character. The dots have 4 rows and 2 columns.
_DOT_BITS = np.array([[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]])
_MARGIN_CHARACTERS = 8


@dataclass(frozen=True)
class DrawingFrame:
    """Size of a drawing in characters, and the range of its energy or channel axis."""

    width: int
    height: int
    axis_start: float
    axis_stop: float

    def character_column(self, position: float) -> int:
        """Return the character column at which an energy or channel is drawn."""
        return round((position - self.axis_start) / (self.axis_stop - self.axis_start) * (self.width - 1))


def draw_spectrum(
    counts: NDArray[np.float64], frame: DrawingFrame, labels: Mapping[str, float], title: str, unit: str
) -> list[str]:
    """Draw a spectrum in braille characters. Line labels are above the curve, and an axis is below.

    Parameters
    ----------
    counts : (n,) array
        Counts at evenly spaced positions from ``frame.axis_start`` to ``frame.axis_stop``. The counts axis is
        logarithmic.
    frame : Frame
        Size of the drawing and range of its axis.
    labels : mapping of str to float
        Energies or channels of lines, by line name, most important line first. Labels without free space are left out.
    title, unit : str
        Title above the drawing, and unit that is written at the end of the axis.
    """
    dot_heights, low_counts, high_counts = _dot_heights(counts, 2 * frame.width, 4 * frame.height)
    braille_rows = _draw_braille(dot_heights, frame.height)
    tick_labels = (
        [f"{high_counts:.0e}", *[""] * (frame.height - 2), f"{low_counts:.0e}"]
        if frame.height > 1
        else [f"{high_counts:.0e}"]
    )
    text_lines = [title]
    text_lines += [" " * (_MARGIN_CHARACTERS + 1) + drawing_row for drawing_row in _label_rows(labels, frame)]
    text_lines += [
        f"{tick_label:>{_MARGIN_CHARACTERS}}|{drawing_row}"
        for tick_label, drawing_row in zip(tick_labels, braille_rows, strict=True)
    ]
    return [*text_lines, " " * (_MARGIN_CHARACTERS + 1) + _tick_line(frame, unit)]


def _dot_heights(
    counts: NDArray[np.float64], n_dot_columns: int, n_levels: int
) -> tuple[NDArray[np.int64], float, float]:
    """Return the level of each dot column's maximum counts, and the counts at the lowest and at the highest level."""
    column_edges = np.linspace(0, counts.size, n_dot_columns + 1)
    max_counts = np.array(
        [
            counts[int(first_edge) : max(math.ceil(last_edge), int(first_edge) + 1)].max()
            for first_edge, last_edge in pairwise(column_edges)
        ]
    )
    high_counts = max(float(max_counts.max()), 1.0)
    # Counts far below the continuum, such as those of channels below the detector's threshold, are not drawn.
    low_counts = max(high_counts / 1e5, 0.5, 0.5 * float(np.percentile(max_counts, 10)))
    low_counts = min(low_counts, high_counts / 10)
    relative_heights = np.log(np.maximum(max_counts, low_counts) / low_counts) / max(
        math.log(high_counts / low_counts), 1e-9
    )
    return np.round(relative_heights * n_levels).astype(np.int64), low_counts, high_counts


def _draw_braille(dot_heights: NDArray[np.int64], n_row: int) -> list[str]:
    dot_level = 4 * n_row - np.arange(4 * n_row)[:, None]
    # Each column is filled down to the height of its lower neighbour, so that steep flanks have no gaps.
    is_dot = (dot_level <= dot_heights[None, :]) & (
        dot_level > dot_heights[None, :] - np.maximum(_height_above_neighbours(dot_heights), 1)[None, :]
    )
    dot_cells = is_dot.reshape(n_row, 4, -1, 2)
    braille_codes = _BLANK_BRAILLE + (dot_cells * _DOT_BITS[None, :, None, :]).sum(axis=(1, 3))
    return ["".join(chr(braille_code) for braille_code in code_row) for code_row in braille_codes]


def _height_above_neighbours(dot_heights: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return how many levels each column is higher than the lower of its two neighbours."""
    padded_dot_heights = np.pad(dot_heights, 1, mode="edge")
    return dot_heights - np.minimum(padded_dot_heights[:-2], padded_dot_heights[2:])


def _label_rows(labels: Mapping[str, float], frame: DrawingFrame, n_row: int = 3) -> list[str]:
    """Return at most ``n_row`` rows of text, in which each label is above its line."""
    character_rows = [[" "] * frame.width for _ in range(n_row)]
    for label, axis_position in labels.items():
        if not frame.axis_start <= axis_position <= frame.axis_stop:
            continue
        first_column = min(
            max(frame.character_column(axis_position) - len(label) // 2, 0), max(frame.width - len(label), 0)
        )
        for character_row in reversed(character_rows):
            if all(
                character == " "
                for character in character_row[max(first_column - 1, 0) : first_column + len(label) + 1]
            ):
                character_row[first_column : first_column + len(label)] = list(label)[: frame.width - first_column]
                break
    return [label for character_row in character_rows if (label := "".join(character_row).rstrip())]


def _tick_line(frame: DrawingFrame, unit: str) -> str:
    axis_span = frame.axis_stop - frame.axis_start
    tick_step = next(
        tick_step
        for tick_step in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10**5)
        if axis_span / tick_step <= 10
    )
    tick_characters = [" "] * (frame.width + 6 + len(unit))
    last_column = 0.0
    for axis_position in np.arange(math.ceil(frame.axis_start / tick_step) * tick_step, frame.axis_stop, tick_step):
        tick_label, first_column = f"{axis_position:g}", frame.character_column(axis_position)
        tick_characters[first_column : first_column + len(tick_label)] = list(tick_label)
        last_column = first_column + len(tick_label)
    tick_characters[int(last_column) + 1 : int(last_column) + 1 + len(unit)] = list(unit)
    return "".join(tick_characters).rstrip()


_DRAWING_ROWS = 8


@dataclass(frozen=True)
class InfoAxis:
    """Energy axis of a scan, and its calibration. The axis is from the lines if possible, else from the file."""

    scan_axis: EnergyAxis | None
    calibration: Calibration | None = None
    notes: tuple[str, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """Return the axis and the calibration as a JSON-serialisable record."""
        axis, calibration = self.scan_axis, self.calibration
        return {
            "gain_kev": None if axis is None else axis.gain_kev,
            "zero_kev": None if axis is None else axis.zero_kev,
            "found": [] if calibration is None else list(calibration.families),
            "anode": None if calibration is None else calibration.anode,
            "notes": list(self.notes),
        }


def find_info_axis(info: ScanInfo) -> InfoAxis:
    """Calibrate the axis from the lines of the sum spectrum. If this fails, return the file's axis with a note."""
    sum_scan = Scan(info.sum_spectrum.counts[None, None, :], axis=info.axis, name=info.name)
    try:
        calibration = calibrate(sum_scan)
    except CalibrationError as error:
        return InfoAxis(info.axis, None, (str(error),))
    return InfoAxis(calibration.axis, calibration, calibration_notes(info.axis, calibration))


def axis_offer_lines(info: ScanInfo, axis: InfoAxis) -> list[str]:
    """Return a text that recommends the axis from the scan's lines, if the file's axis differs."""
    if axis.calibration is None or not axis.notes:
        return []
    return [
        f"{info.name}: the file's energy axis ({_axis_text(info.axis)}) was kept. The lines give "
        f"{_axis_text(axis.scan_axis)}. Convert with --axis found to write the axis from the lines."
    ]


def axis_from_lines(info: ScanInfo, axis: InfoAxis) -> EnergyAxis:
    """Return the energy axis that was calibrated from the scan's lines.

    Raises
    ------
    CalibrationError
        The calibration from the lines failed.
    """
    if axis.calibration is None:
        raise CalibrationError(
            f"Cannot write the energy axis found in the lines of {info.name}: none was found. {' '.join(axis.notes)} "
            "Convert without --axis found to keep the file's axis."
        )
    return axis.calibration.axis


def scan_facts_table(info: ScanInfo, axis: InfoAxis) -> Table:
    """Return a table with a scan's size, counts, detector, calibration and notes."""
    n_row, n_column, n_channel = info.shape
    scan_table = two_column_table(info.name)
    scan_table.add_row("file", info.source)
    scan_table.add_row("format", info.format)
    size_text = f"{_count_text(n_row, 'row')} x {_count_text(n_column, 'column')}, {_count_text(n_channel, 'channel')}"
    scan_table.add_row("size", f"{size_text} ({info.size_bytes / 1e6:.0f} MB)")
    scan_table.add_row("step", "unknown" if info.step_mm is None else f"{info.step_mm[0]:g} x {info.step_mm[1]:g} mm")
    scan_table.add_row("detector", info.detector or "unknown")
    scan_table.add_row(
        "counts",
        f"{info.total_counts:.4g} in total, {info.mean_pixel_counts:.4g} per pixel, at most "
        f"{info.max_pixel_counts:.4g}",
    )
    scan_table.add_row("live time", "unknown" if info.live_time_s is None else f"{info.live_time_s:g} s per pixel")
    scan_table.add_row("pixels", f"{info.n_missing} missing, {info.n_empty} without counts")
    scan_table.add_row("axis in file", _axis_text(info.axis))
    if axis.calibration is not None:
        scan_table.add_row("axis found", f"{_axis_text(axis.scan_axis)}; {_anode_text(axis.calibration)}")
        scan_table.add_row("lines", ", ".join(name.replace("_", " ") for name in axis.calibration.families))
    for note in (*info.notes, *axis.notes):
        scan_table.add_row("note", note)
    return scan_table


def spectrum_lines(info: ScanInfo, axis: InfoAxis) -> list[str]:
    """Return drawings of the sum and the maximum spectrum, as lines of text."""
    width = min(max(shutil.get_terminal_size((100, 24)).columns - 16, 40), 140)
    scan_axis = axis.scan_axis
    n_used_channels = max(int((info.sum_spectrum.counts > 0).nonzero()[0].max(initial=1)) + 1, 2)
    axis_start, axis_stop = (
        (0.0, float(n_used_channels))
        if scan_axis is None
        else (scan_axis.start_kev, scan_axis.start_kev + scan_axis.gain_kev * n_used_channels)
    )
    frame = DrawingFrame(width, _DRAWING_ROWS, axis_start, axis_stop)
    families = () if axis.calibration is None else axis.calibration.families
    labels = line_labels(families)
    unit = "channel" if scan_axis is None else "keV"
    titled_spectra: tuple[tuple[str, Spectrum, Mapping[str, float]], ...] = (
        ("sum", info.sum_spectrum, labels),
        ("maximum", info.max_spectrum, {}),
    )
    return [
        text_line
        for title, spectrum, shown_labels in titled_spectra
        for text_line in draw_spectrum(
            spectrum.counts[:n_used_channels], frame, shown_labels, f"{title} spectrum, counts (logarithmic)", unit
        )
    ]


def scans_table(records: list[dict[str, Any]]) -> Table:
    """Return a table with the outcome of each scan's analysis and its results folder."""
    outcome_table = list_table("scans", ("scan", "state", "results"))
    for scan_record in records:
        outcome = "failed" if scan_record["error"] else "left alone" if scan_record["skipped"] else "done"
        outcome_table.add_row(scan_record["source"], outcome, scan_record["folder"] or "")
    return outcome_table


def _count_text(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _axis_text(axis: EnergyAxis | None) -> str:
    if axis is None:
        return "none"
    return f"{axis.start_kev:z.2f} to {axis.stop_kev:z.2f} keV, {1e3 * axis.gain_kev:.3f} eV per channel"


def _anode_text(calibration: Calibration) -> str:
    return "anode unknown" if calibration.anode is None else f"{calibration.anode} anode"
