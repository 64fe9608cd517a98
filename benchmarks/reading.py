"""Files read against their right values: energy axis, counts, live time, shape, elements, false claims.

    python benchmarks/reading.py FOLDER [--truth FILE] [--only NAME] [--json FILE]

FOLDER holds the files and ``truth.toml`` (or ``--truth`` names one), with a table ``[[file]]`` for each file: ``name``
(its path in FOLDER, ``FILE::NAME`` for one array of it) and any of

- ``gain_kev``, ``zero_kev``: of the energy axis, both as read from the file and as ``identify`` uses it, refined on
  the lines; the nearer of the two counts, for simulated files often state another axis than their lines lie on. With
  ``lines_agree = true`` the axis that is used must be right: so in all measured files;
- ``total_counts``; ``live_time_s``, the median over the pixels; ``shape`` (rows, columns, channels);
- ``elements``: symbols of which a line family must stand over five deviations, in a pixel or in the sum;
- ``absent_groups``: pigment groups that must not be claimed with a probability over one half, in any pixel; a network
  that says that it does not cover the scan claims nothing;
- ``may_refuse``: whether an error message in place of an answer is right, too (false unless stated).

The JSON holds ``files`` (by name: ``read``, ``gain_rel_error``, ``zero_error_kev``, ``total_ok``, ``live_time_ok``,
``shape_ok``, ``missing``, ``false_groups``, ``message``, ``right``), ``n_wrong`` and ``n_refused``. A gain more than
0.2 % off, a zero more than 20 eV off, totals and live times more than 0.1 % off are wrong, whatever the notes say.
The truth of the repository: ``benchmarks/truth/cases.toml`` and ``benchmarks/truth/data.toml``.
"""

import argparse
import json
import sys
import tomllib
import traceback
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

import underpaint as up
from underpaint.calibrate import resolve_energy_axis
from underpaint.data.maps import Results
from underpaint.errors import CoverageError
from underpaint.io import describe

GAIN_TOLERANCE = 2e-3
ZERO_TOLERANCE_KEV = 0.020
TOTAL_TOLERANCE = 1e-3
MIN_SIGMAS = 5.0


@dataclass
class Reading:
    """Outcome of reading one file; None where the truth does not state the value.

    Parameters
    ----------
    read : bool
        The scan was loaded and gave all required results.
    message : str
        The error that was shown, or the notes.
    """

    read: bool = False
    gain_rel_error: float | None = None
    zero_error_kev: float | None = None
    total_ok: bool | None = None
    live_time_ok: bool | None = None
    shape_ok: bool | None = None
    missing: list[str] = field(default_factory=list)
    false_groups: list[str] = field(default_factory=list)
    message: str = ""
    refused: bool = False
    right: bool = False

    def is_right(self, may_refuse: bool) -> bool:
        """Whether every value that the truth states was met, or the refusal is allowed."""
        if self.refused:
            return may_refuse
        return (
            self.read
            and abs(self.gain_rel_error or 0.0) <= GAIN_TOLERANCE
            and abs(self.zero_error_kev or 0.0) <= ZERO_TOLERANCE_KEV
            and False not in (self.total_ok, self.live_time_ok, self.shape_ok)
            and not self.missing
            and not self.false_groups
        )


def read_file(location: str, truth: dict[str, Any]) -> Reading:
    """Read one file as a user would, and compare."""
    reading = Reading()
    try:
        _compare(reading, location, truth)
        reading.read = True
    except up.UnderpaintError as error:
        reading.refused, reading.message = True, str(error)
    except Exception:  # a crash is a result here, and the other files are still to be read
        reading.message = traceback.format_exc(limit=-3)
    reading.right = reading.is_right(bool(truth.get("may_refuse", False)))
    return reading


def _compare(reading: Reading, location: str, truth: dict[str, Any]) -> None:
    scan = up.load(location)
    info = describe(scan)
    reading.message = "; ".join(info.notes)
    if "shape" in truth:
        reading.shape_ok = list(scan.shape) == list(truth["shape"])
    if "total_counts" in truth:
        reading.total_ok = _close(info.total_counts, truth["total_counts"])
    if "live_time_s" in truth:
        reading.live_time_ok = info.live_time_s is not None and _close(info.live_time_s, truth["live_time_s"])
    if not {"gain_kev", "zero_kev", "elements", "absent_groups"} & truth.keys():
        return
    calibrated = resolve_energy_axis(scan)
    axis = calibrated.scan.require_axis()
    reading.message = "; ".join((*info.notes, *calibrated.notes))
    as_read = None if truth.get("lines_agree", False) else scan.axis
    axes = [axis] if as_read is None else [axis, as_read]
    errors = [
        (
            axis_read.gain_kev / truth.get("gain_kev", axis_read.gain_kev) - 1.0,
            axis_read.zero_kev - truth.get("zero_kev", axis_read.zero_kev),
        )
        for axis_read in axes
    ]
    gain_error, zero_error = min(
        errors, key=lambda pair: max(abs(pair[0]) / GAIN_TOLERANCE, abs(pair[1]) / ZERO_TOLERANCE_KEV)
    )
    reading.gain_rel_error = gain_error if "gain_kev" in truth else None
    reading.zero_error_kev = zero_error if "zero_kev" in truth else None
    if truth.get("elements"):
        reading.missing = _missing(
            up.fit_elements(calibrated.scan, instrument=calibrated.instrument), truth["elements"]
        )
    if truth.get("absent_groups"):
        try:
            reading.false_groups = _claimed(up.identify(scan), truth["absent_groups"])
        except CoverageError as error:  # the network claims nothing of what it does not cover
            reading.message = str(error)


def _close(value: float, right: float) -> bool:
    return abs(value - right) <= TOTAL_TOLERANCE * abs(right)


def _missing(results: Results, symbols: list[str]) -> list[str]:
    """Return the elements without a detected line family, in any pixel or in the sum of all."""
    area, sigma = np.asarray(results.area, np.float64), np.asarray(results.area_sigma, np.float64)
    total = np.nansum(area, axis=(1, 2)) / np.sqrt(np.maximum(np.nansum(sigma**2, axis=(1, 2)), 1e-30))
    highest = np.nanmax(area / np.maximum(sigma, 1e-30), axis=(1, 2), initial=0.0)
    visible = {
        name.partition("_")[0]
        for name, counts, pixel in zip(results.lines, total, highest, strict=True)
        if max(counts, pixel) > MIN_SIGMAS
    }
    return [symbol for symbol in symbols if symbol not in visible]


def _claimed(results: Results, groups: list[str]) -> list[str]:
    groups_known = [group for group in groups if results.holds(group)]
    return [group for group in groups_known if np.nanmax(results[group], initial=0.0) > 0.5]


def read_folder(folder: Path, truth_file: Path, only: str = "", console: Console | None = None) -> dict[str, Any]:
    """Read every file that the truth names; return the record of the JSON."""
    truth = tomllib.loads(truth_file.read_text(encoding="utf-8"))
    readings: dict[str, Reading] = {}
    for entry in truth["file"]:
        if only not in entry["name"]:
            continue
        if console is not None:
            console.print(entry["name"], style="dim", highlight=False)
        readings[entry["name"]] = read_file(str(folder / entry["name"]), entry)
    return {
        "files": {name: asdict(reading) for name, reading in readings.items()},
        "n_wrong": sum(not reading.right for reading in readings.values()),
        "n_refused": sum(reading.refused for reading in readings.values()),
    }


def show(record: dict[str, Any], console: Console) -> None:
    """Print a row for each file, and whole messages of those that are wrong."""
    table = Table("file", "right", "gain", "zero, eV", "counts", "live", "shape", "missing", "claimed falsely")
    marks = {True: "yes", False: "NO", None: "-"}
    for name, reading in record["files"].items():
        gain, zero = reading["gain_rel_error"], reading["zero_error_kev"]
        table.add_row(
            name,
            ("refused" if reading["refused"] else "yes") if reading["right"] else "[bold red]NO[/]",
            "-" if gain is None else f"{gain:+.2%}",
            "-" if zero is None else f"{1e3 * zero:+.1f}",
            *(marks[reading[key]] for key in ("total_ok", "live_time_ok", "shape_ok")),
            " ".join(reading["missing"]),
            " ".join(reading["false_groups"]),
        )
    console.print(table)
    for name, reading in record["files"].items():
        if not reading["right"]:
            console.print(f"{name}: {reading['message']}", markup=False, highlight=False)
    console.print(f"{record['n_wrong']} wrong, {record['n_refused']} refused, of {len(record['files'])}")


def main() -> None:
    """Read, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of the files")
    parser.add_argument("--truth", type=Path, help="right values; FOLDER/truth.toml if not given")
    parser.add_argument("--only", default="", help="read only files whose name holds this text")
    parser.add_argument("--json", type=Path, help="write the record to this file")
    arguments = parser.parse_args()
    truth_file = arguments.truth or arguments.folder / "truth.toml"
    if not truth_file.is_file():
        sys.exit(f"Cannot read {truth_file}: there is no such file. Name the right values with --truth.")
    console = Console(width=None if sys.stdout.isatty() else 160)
    record = read_folder(arguments.folder, truth_file, arguments.only, console)
    show(record, console)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
