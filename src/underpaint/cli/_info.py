"""Tables of facts: what ``info`` and many scans at once show."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.table import Table

from underpaint.calibrate import Calibration, calibrate, calibration_notes
from underpaint.cli._terminal_plot import Frame, draw
from underpaint.data import EnergyAxis, Scan, Spectrum
from underpaint.errors import CalibrationError
from underpaint.io import ScanInfo
from underpaint.physics.atomic import line_labels

if TYPE_CHECKING:
    from underpaint.pipeline.run import Outcome

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
            "found": [] if found is None else list(found.found),
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


def facts_table(info: ScanInfo, axis: InfoAxis) -> Table:
    """Facts of a scan as two columns."""
    n_row, n_column, n_channel = info.shape
    table = _two_columns(info.name)
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
        table.add_row("lines", ", ".join(name.replace("_", " ") for name in axis.calibration.found))
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
    families = () if axis.calibration is None else axis.calibration.found
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


def outcomes_table(outcomes: "list[Outcome]") -> Table:
    """One row per scan: where the results are; why there are none is told below, once."""
    table = Table(title="scans", title_justify="left")
    for title in ("scan", "state", "results"):
        table.add_column(title, overflow="fold")
    for own in outcomes:
        state = "failed" if own.error else "left alone" if own.skipped else "done"
        table.add_row(own.source, state, "" if own.error else str(own.folder))
    return table


def _of(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"


def _two_columns(title: str) -> Table:
    table = Table(title=title, show_header=False, title_justify="left", box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def _axis(axis: EnergyAxis | None) -> str:
    if axis is None:
        return "none"
    return f"{axis.start_kev:.2f}-{axis.stop_kev:.2f} keV, {1e3 * axis.gain_kev:.3f} eV a channel"


def _anode(found: Calibration) -> str:
    return "anode unknown" if found.anode is None else f"{found.anode} anode"
