"""Commands that make one scan of another: repair, mosaic."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from underpaint.cli._console import progress, say, show_json
from underpaint.cli._outputs import new_file
from underpaint.cli._scans import (
    CountsScaleOption,
    DetectorOption,
    InstrumentOption,
    Json,
    OneScan,
    Quiet,
    ShapeOption,
    TrustInstrument,
    rows_and_columns,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underpaint.data import Scan
    from underpaint.repair import Step

OutScan = Annotated[Path, new_file("FILE.h5", "Scan to write; a file that is there is not replaced.")]


def repair(
    scan: OneScan,
    out: OutScan,
    crop: Annotated[
        str | None, typer.Option(metavar="ROWS,COLUMNS", help="Keep these, e.g. 10:50,0:80 (from 0, the last not in).")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep these pixels: a mask (.npy, .png, .tif) or a list (.csv).")
    ] = None,
    sum_peaks: Annotated[
        float | None, typer.Option(metavar="MICROSECONDS", min=0, help="Take out sum peaks, for this resolving time.")
    ] = None,
    pixels: Annotated[bool, typer.Option("--pixels", help="Put neighbours' means for dead and short pixels.")] = False,
    snake: Annotated[
        bool, typer.Option("--snake", help="Mirror every second row: recorded to and fro, the way back as it came.")
    ] = False,
    rows: Annotated[bool, typer.Option("--rows", help="Find how far every second row lies off; move it.")] = False,
    row_shift: Annotated[
        float | None, typer.Option(metavar="COLUMNS", help="Move every second row back by this, found or not.")
    ] = None,
    live_time: Annotated[bool, typer.Option("--live-time", help="Make the live times of all pixels equal.")] = False,
    bins: Annotated[
        str | None, typer.Option("--bin", metavar="ROWSxCOLUMNS", help="Add up so many pixels, e.g. 2x2.")
    ] = None,
    instrument: InstrumentOption = None,
    trust_instrument: TrustInstrument = False,
    detector: DetectorOption = None,
    shape: ShapeOption = None,
    counts_scale: CountsScaleOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a scan anew with what you ask for mended, and a record of it; the original stays as it is.

    The repairs are done in the order of the options above. The file keeps what was found and done, the original's
    name and its fingerprint, under /entry/settings.

    **Examples**

        underpaint repair painting.h5 --out straight.h5 --rows --pixels

        underpaint repair painting.h5 --out part.h5 --crop 10:50,0:80 --bin 2x2
    """
    from underpaint.errors import ScanError
    from underpaint.io import load, save_scan, split_location
    from underpaint.io.load import refuse_output_in_scan
    from underpaint.repair import fingerprint

    _refuse_to_replace(out)
    refuse_output_in_scan(out, scan)
    grid = rows_and_columns(bins, "--bin", "2x2")
    asked = _Asked(crop, mask, sum_peaks, pixels, snake, rows, row_shift, live_time, grid)
    if not asked.anything:
        raise ScanError(f"Cannot repair {scan}: no repair is asked for. Name one, such as --rows or --crop.")
    with progress(quiet=quiet or as_json) as step:
        step("Looking for what is to be mended", 0, 1)
        read = load(scan, detector=detector, shape=rows_and_columns(shape), counts_scale=counts_scale)
        own, steps = _repaired(read, asked, instrument, trusted=trust_instrument)
        path, _ = split_location(scan)
        record = {"original": str(scan), "original_blake2b": fingerprint(path), "detector": detector, "shape": shape,
                  "counts_scale": read.counts_scale,
                  "repairs": [each.as_record() for each in steps]}  # fmt: skip
        step("Writing", 0, 1)
        save_scan(own, out, settings=_with_version(record), replace=False)
    _tell(steps, record, out, quiet=quiet, as_json=as_json)


class _Asked:
    """The repairs that were asked for."""

    def __init__(self, *values: Any) -> None:
        names = ("crop", "mask", "sum_peaks", "pixels", "snake", "rows", "row_shift", "live_time", "bins")
        self.values = dict(zip(names, values, strict=True))

    @property
    def anything(self) -> bool:
        """Whether there is one; a shift of 0 is."""
        return any(value is not None and value is not False for value in self.values.values())


def _repaired(scan: "Scan", asked: _Asked, instrument: str | None, *, trusted: bool) -> "tuple[Scan, list[Step]]":
    from underpaint import repair as room
    from underpaint.pigments.explain import read_region

    steps: list[Step] = []
    wanted = asked.values
    if wanted["sum_peaks"] is not None and (instrument is not None or scan.axis is None):
        scan, step = _on_an_axis(scan, instrument, trusted=trusted)
        steps.append(step)

    def done(result: "tuple[Scan, Step]") -> "Scan":
        steps.append(result[1])
        return result[0]

    if wanted["crop"] is not None:
        scan = done(room.cropped(scan, *_ranges(wanted["crop"])))
    if wanted["mask"] is not None:
        scan = done(room.masked(scan, read_region(wanted["mask"], scan.shape[:2])))
    if wanted["sum_peaks"] is not None:
        scan = done(room.without_sum_peaks(scan, wanted["sum_peaks"]))
    if wanted["pixels"]:
        scan = done(room.with_pixels_repaired(scan, room.find_faulty_pixels(scan)))
    if wanted["snake"]:
        scan = done(room.with_rows_mirrored(scan, room.find_row_direction(scan)))
    if wanted["rows"] or wanted["row_shift"] is not None:
        scan, step = _aligned(scan, wanted["row_shift"])
        steps.append(step)
    if wanted["live_time"]:
        scan = done(room.with_equal_live_time(scan))
    if wanted["bins"] is not None:
        scan = done(room.binned(scan, *wanted["bins"]))
    return scan, steps


def _on_an_axis(scan: "Scan", instrument: str | None, *, trusted: bool) -> "tuple[Scan, Step]":
    """Put a scan on the instrument's axis, or on the one found in its lines: sum peaks lie at sums of energies."""
    from underpaint.calibrate import resolve_energy_axis
    from underpaint.repair import Step

    found = resolve_energy_axis(scan, instrument=instrument, trust_instrument=trusted)
    axis = found.scan.require_axis()
    facts = {"gain_kev": axis.gain_kev, "zero_kev": axis.zero_kev, "instrument": instrument}
    return found.scan, Step("axis", " ".join((*found.alerts, *found.notes)), facts)


def _aligned(scan: "Scan", given: float | None) -> "tuple[Scan, Step]":
    """Move rows by what is given, or by what is found if that is significant."""
    from underpaint import repair as room

    shift = room.find_row_shift(scan) if given is None else room.RowShift(given, 0.0)
    if given is None and not shift.significant:
        facts = {"shift_columns": 0.0, "found_columns": shift.columns, "error_columns": shift.error_columns}
        return scan, room.Step("rows", f"{shift.describe()}: left as they are", facts)
    moved, step = room.with_rows_aligned(scan, shift)
    return moved, step if given is not None else replace(step, description=f"{shift.describe()}; {step.description}")


def _ranges(text: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Read --crop."""
    try:
        (top, bottom), (left, right) = (part.split(":") for part in text.split(","))
        return (int(top), int(bottom)), (int(left), int(right))
    except ValueError:
        raise typer.BadParameter(
            f"--crop {text!r} is not ROWS,COLUMNS. Give two ranges of whole numbers, such as 10:50,0:80."
        ) from None


def mosaic(
    tiles: Annotated[list[str], typer.Argument(metavar="TILE...", help="Overlapping scans; FILE::NAME picks one.")],
    out: OutScan,
    positions: Annotated[
        Path,
        typer.Option(metavar="FILE.csv", help="First pixel of each tile by the stage: tile,row_mm,column_mm."),
    ],
    step_mm: Annotated[
        float | None, typer.Option(metavar="MM", min=0, help="Distance between pixels, where the files do not tell it.")
    ] = None,
    register: Annotated[
        bool, typer.Option("--register/--no-register", help="Correct the positions by what overlapping tiles show.")
    ] = True,
    most_pixels: Annotated[float, typer.Option(metavar="PIXELS", min=0, help="Believe no larger correction.")] = 5.0,
    detector: DetectorOption = None,
    counts_scale: CountsScaleOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Join overlapping tiles to one scan, by the stage's positions and by what overlapping tiles show.

    A tile that cannot be read is left out and told; the exit code is then 1.

    **Example**

        underpaint mosaic left.h5 right.h5 --positions stage.csv --out whole.h5
    """
    from underpaint.cli._console import FAILED, say_error
    from underpaint.errors import UnderpaintError
    from underpaint.io import load, save_scan
    from underpaint.repair import Tile, join_tiles, positions_of, read_positions

    _refuse_to_replace(out)
    places = positions_of(tiles, read_positions(positions))
    read: list[tuple[str, Tile]] = []
    failed: dict[str, str] = {}
    with progress(quiet=quiet or as_json) as step:
        for number, (name, place) in enumerate(zip(tiles, places, strict=True)):
            step("Opening the tiles", number, len(tiles))
            try:
                scan = load(name, detector=detector, counts_scale=counts_scale)
            except (UnderpaintError, OSError, MemoryError) as error:
                failed[name] = str(error) or type(error).__name__
                continue
            read.append((name, Tile(scan if step_mm is None else replace(scan, step_mm=(step_mm, step_mm)), *place)))
        step("Comparing the tiles", 0, 1)
        found = join_tiles([tile for _, tile in read], register=register, max_pixels=most_pixels)
        record = {"tiles": [name for name, _ in read], "failed": failed, "mosaic": found.as_record()}
        step("Writing", 0, 1)
        save_scan(found.scan, out, settings=_with_version(record), replace=False)
    for name, reason in failed.items():
        say_error(reason if name in reason else f"{name}: {reason}")
    if as_json:
        show_json(record | {"out": str(out), "shape": found.scan.shape})
    else:
        _tell_mosaic(found, [name for name, _ in read], out, quiet=quiet)
    if failed:
        raise typer.Exit(FAILED)


def _tell_mosaic(found: Any, names: "Sequence[str]", out: Path, *, quiet: bool) -> None:
    for name, (row, column), (down, right) in zip(names, found.corner_pixels, found.corrected_pixels, strict=True):
        said = f"corrected by {_plain(down, '+')} rows and {_plain(right, '+')} columns"
        place = f"row {_plain(row)}, column {_plain(column)}"
        say(f"- {Path(name).name}: first pixel at {place}; {said}", quiet=quiet)
    for own in found.overlaps:
        if not own.used:
            pair = f"{Path(names[own.first]).name} and {Path(names[own.second]).name}"
            say(f"! {pair} overlap, but are not alike enough to correct their places ({own.likeness:.2f})", quiet=quiet)
    for index in found.isolated:
        name = Path(names[index]).name
        say(f"! {name} shares too little with any other tile: it lies where the stage says, unchecked", quiet=quiet)
    n_row, n_column, _ = found.scan.shape
    missing = 0 if found.scan.present is None else int((~found.scan.present).sum())
    bare = f" {missing} of them lie in no tile and are missing." if missing else ""
    say(f"Wrote {out}: {n_row} x {n_column} pixels of {len(names)} tiles.{bare}", quiet=quiet)


def _plain(pixels: float, sign: str = "") -> str:
    """Return pixels to a hundredth, without a minus where that is 0."""
    return f"{round(pixels, 2) + 0.0:{sign}.2f}"


def _tell(steps: "Sequence[Step]", record: dict[str, Any], out: Path, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        show_json(record | {"out": str(out)})
        return
    for own in steps:
        say(f"- {own.description}", quiet=quiet)
    say(f"Wrote {out}; {record['original']} is unchanged.", quiet=quiet)


def _with_version(record: dict[str, Any]) -> dict[str, Any]:
    from underpaint._version import __version__

    return record | {"version": __version__}


def _refuse_to_replace(out: Path) -> None:
    from underpaint.errors import OutputError
    from underpaint.io.convert import HDF5_ENDINGS, refuse_existing

    if out.suffix.lower() not in HDF5_ENDINGS:
        raise OutputError(
            f"Cannot write {out}: scans are written as HDF5. Give a name that ends in {', '.join(HDF5_ENDINGS)}."
        )
    refuse_existing(out)
