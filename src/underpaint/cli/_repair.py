"""Commands that write a modified scan: repair, mosaic."""

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

OutScan = Annotated[Path, new_file("FILE.h5", "Scan to write; an existing file is not replaced.")]


def repair(
    scan: OneScan,
    out: OutScan,
    crop: Annotated[
        str | None, typer.Option(metavar="ROWS,COLUMNS", help="Keep these, e.g. 10:50,0:80 (from 0, without the last).")
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Keep these pixels: a mask (.npy, .png, .tif) or a list (.csv).")
    ] = None,
    sum_peaks: Annotated[
        float | None, typer.Option(metavar="MICROSECONDS", min=0, help="Remove sum peaks, for this resolving time.")
    ] = None,
    pixels: Annotated[
        bool, typer.Option("--pixels", help="Replace dead and short pixels by the mean of their neighbours.")
    ] = False,
    snake: Annotated[
        bool, typer.Option("--snake", help="Mirror every second row, for scans in alternating direction.")
    ] = False,
    rows: Annotated[bool, typer.Option("--rows", help="Find the shift of every second row and correct it.")] = False,
    row_shift: Annotated[
        float | None, typer.Option(metavar="COLUMNS", help="Correct this shift of every second row.")
    ] = None,
    live_time: Annotated[bool, typer.Option("--live-time", help="Scale all pixels to the same live time.")] = False,
    bins: Annotated[
        str | None, typer.Option("--bin", metavar="ROWSxCOLUMNS", help="Add up blocks of pixels, e.g. 2x2.")
    ] = None,
    instrument: InstrumentOption = None,
    trust_instrument: TrustInstrument = False,
    detector: DetectorOption = None,
    shape: ShapeOption = None,
    counts_scale: CountsScaleOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a copy of a scan with the requested repairs and a record of them; the original is not changed.

    The repairs are done in the order of the options. The record, with the name and hash of the original, is stored
    under /entry/settings.

    For example:

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
    requested_repairs = _RequestedRepairs(crop, mask, sum_peaks, pixels, snake, rows, row_shift, live_time, grid)
    if not requested_repairs.is_any:
        raise ScanError(f"Cannot repair {scan}: no repair was requested. Give one, such as --rows or --crop.")
    with progress(quiet=quiet or as_json) as step:
        step("Finding faults", 0, 1)
        original = load(scan, detector=detector, shape=rows_and_columns(shape), counts_scale=counts_scale)
        repaired_scan, steps = _apply_repairs(original, requested_repairs, instrument, trusted=trust_instrument)
        path, _ = split_location(scan)
        record = {"original": str(scan), "original_blake2b": fingerprint(path), "detector": detector, "shape": shape,
                  "counts_scale": original.counts_scale,
                  "repairs": [repair_step.as_record() for repair_step in steps]}  # fmt: skip
        step("Writing", 0, 1)
        save_scan(repaired_scan, out, settings=_with_version(record), replace=False)
    _print_steps(steps, record, out, quiet=quiet, as_json=as_json)


class _RequestedRepairs:
    """The requested repairs, by option."""

    def __init__(self, *values: Any) -> None:
        names = ("crop", "mask", "sum_peaks", "pixels", "snake", "rows", "row_shift", "live_time", "bins")
        self.values = dict(zip(names, values, strict=True))

    @property
    def is_any(self) -> bool:
        """Whether a repair is requested; a shift of 0 is a repair."""
        return any(value is not None and value is not False for value in self.values.values())


def _apply_repairs(
    scan: "Scan", requested_repairs: _RequestedRepairs, instrument: str | None, *, trusted: bool
) -> "tuple[Scan, list[Step]]":
    from underpaint import repair as repair_tools
    from underpaint.pigments.explain import read_region

    steps: list[Step] = []
    options = requested_repairs.values
    if options["sum_peaks"] is not None and (instrument is not None or scan.axis is None):
        scan, step = _on_energy_axis(scan, instrument, trusted=trusted)
        steps.append(step)

    def add_step(result: "tuple[Scan, Step]") -> "Scan":
        steps.append(result[1])
        return result[0]

    if options["crop"] is not None:
        scan = add_step(repair_tools.cropped(scan, *_parse_ranges(options["crop"])))
    if options["mask"] is not None:
        scan = add_step(repair_tools.masked(scan, read_region(options["mask"], scan.shape[:2])))
    if options["sum_peaks"] is not None:
        scan = add_step(repair_tools.without_sum_peaks(scan, options["sum_peaks"]))
    if options["pixels"]:
        scan = add_step(repair_tools.with_pixels_repaired(scan, repair_tools.find_faulty_pixels(scan)))
    if options["snake"]:
        scan = add_step(repair_tools.with_rows_mirrored(scan, repair_tools.find_row_direction(scan)))
    if options["rows"] or options["row_shift"] is not None:
        scan, step = _with_rows_aligned(scan, options["row_shift"])
        steps.append(step)
    if options["live_time"]:
        scan = add_step(repair_tools.with_equal_live_time(scan))
    if options["bins"] is not None:
        scan = add_step(repair_tools.binned(scan, *options["bins"]))
    return scan, steps


def _on_energy_axis(scan: "Scan", instrument: str | None, *, trusted: bool) -> "tuple[Scan, Step]":
    """Return the scan on the instrument's axis, or on the axis from its lines, which sum peaks require."""
    from underpaint.calibrate import resolve_energy_axis
    from underpaint.repair import Step

    calibrated_scan = resolve_energy_axis(scan, instrument=instrument, trust_instrument=trusted)
    axis = calibrated_scan.scan.require_axis()
    facts = {"gain_kev": axis.gain_kev, "zero_kev": axis.zero_kev, "instrument": instrument}
    return calibrated_scan.scan, Step("axis", " ".join((*calibrated_scan.alerts, *calibrated_scan.notes)), facts)


def _with_rows_aligned(scan: "Scan", given_shift_columns: float | None) -> "tuple[Scan, Step]":
    """Align rows by the given shift, or by the fitted shift if it is significant."""
    from underpaint import repair as repair_tools

    shift = (
        repair_tools.find_row_shift(scan)
        if given_shift_columns is None
        else repair_tools.RowShift(given_shift_columns, 0.0)
    )
    if given_shift_columns is None and not shift.is_significant:
        facts = {"shift_columns": 0.0, "found_columns": shift.columns, "error_columns": shift.error_columns}
        return scan, repair_tools.Step("rows", f"{shift.describe()}: left as they are", facts)
    aligned_scan, step = repair_tools.with_rows_aligned(scan, shift)
    return aligned_scan, step if given_shift_columns is not None else replace(
        step, description=f"{shift.describe()}; {step.description}"
    )


def _parse_ranges(text: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Read --crop."""
    try:
        (first_row, row_stop), (first_column, column_stop) = (range_text.split(":") for range_text in text.split(","))
        return (int(first_row), int(row_stop)), (int(first_column), int(column_stop))
    except ValueError:
        raise typer.BadParameter(
            f"--crop {text!r} is not ROWS,COLUMNS. Give two ranges of integers, such as 10:50,0:80."
        ) from None


def mosaic(
    tiles: Annotated[list[str], typer.Argument(metavar="TILE...", help="Overlapping scans; FILE::NAME picks one.")],
    out: OutScan,
    positions: Annotated[
        Path,
        typer.Option(metavar="FILE.csv", help="Stage position of each tile's first pixel: tile,row_mm,column_mm."),
    ],
    step_mm: Annotated[
        float | None, typer.Option(metavar="MM", min=0, help="Distance between pixels, if the files do not state it.")
    ] = None,
    register: Annotated[
        bool,
        typer.Option("--register/--no-register", help="Correct the positions by registration of overlapping tiles."),
    ] = True,
    max_shift_pixels: Annotated[
        float, typer.Option("--most-pixels", metavar="PIXELS", min=0, help="Maximum plausible correction.")
    ] = 5.0,
    detector: DetectorOption = None,
    counts_scale: CountsScaleOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Join overlapping tiles to one scan, by the stage positions and by registration of overlapping tiles.

    A tile that cannot be read is left out with a message; the exit code is then 1.

    For example:

        underpaint mosaic left.h5 right.h5 --positions stage.csv --out whole.h5
    """
    from underpaint.cli._console import FAILED, say_error
    from underpaint.errors import UnderpaintError
    from underpaint.io import load, save_scan
    from underpaint.repair import Tile, join_tiles, positions_of, read_positions

    _refuse_to_replace(out)
    tile_positions = positions_of(tiles, read_positions(positions))
    tiles_read: list[tuple[str, Tile]] = []
    failed: dict[str, str] = {}
    with progress(quiet=quiet or as_json) as step:
        for index, (name, tile_position) in enumerate(zip(tiles, tile_positions, strict=True)):
            step("Opening the tiles", index, len(tiles))
            try:
                scan = load(name, detector=detector, counts_scale=counts_scale)
            except (UnderpaintError, OSError, MemoryError) as error:
                failed[name] = str(error) or type(error).__name__
                continue
            tiles_read.append(
                (name, Tile(scan if step_mm is None else replace(scan, step_mm=(step_mm, step_mm)), *tile_position))
            )
        step("Comparing the tiles", 0, 1)
        joined_mosaic = join_tiles([tile for _, tile in tiles_read], register=register, max_pixels=max_shift_pixels)
        record = {"tiles": [name for name, _ in tiles_read], "failed": failed, "mosaic": joined_mosaic.as_record()}
        step("Writing", 0, 1)
        save_scan(joined_mosaic.scan, out, settings=_with_version(record), replace=False)
    for name, reason in failed.items():
        say_error(reason if name in reason else f"{name}: {reason}")
    if as_json:
        show_json(record | {"out": str(out), "shape": joined_mosaic.scan.shape})
    else:
        _print_mosaic(joined_mosaic, [name for name, _ in tiles_read], out, quiet=quiet)
    if failed:
        raise typer.Exit(FAILED)


def _print_mosaic(joined_mosaic: Any, names: "Sequence[str]", out: Path, *, quiet: bool) -> None:
    for name, (row, column), (row_correction, column_correction) in zip(
        names, joined_mosaic.corner_pixels, joined_mosaic.correction_pixels, strict=True
    ):
        correction_text = (
            f"corrected by {_pixels_text(row_correction, '+')} rows and {_pixels_text(column_correction, '+')} columns"
        )
        pixel_text = f"row {_pixels_text(row)}, column {_pixels_text(column)}"
        say(f"- {Path(name).name}: first pixel at {pixel_text}; {correction_text}", quiet=quiet)
    for overlap in joined_mosaic.overlaps:
        if not overlap.used:
            pair = f"{Path(names[overlap.first]).name} and {Path(names[overlap.second]).name}"
            say(
                f"! {pair} overlap, but are not similar enough to correct their positions ({overlap.likeness:.2f})",
                quiet=quiet,
            )
    for index in joined_mosaic.isolated_tiles:
        name = Path(names[index]).name
        say(f"! {name} overlaps too little with other tiles: its stage position could not be verified", quiet=quiet)
    n_row, n_column, _ = joined_mosaic.scan.shape
    n_missing = 0 if joined_mosaic.scan.present is None else int((~joined_mosaic.scan.present).sum())
    missing_text = f" {n_missing} of them are in no tile and are missing." if n_missing else ""
    say(f"Wrote {out}: {n_row} x {n_column} pixels of {len(names)} tiles.{missing_text}", quiet=quiet)


def _pixels_text(pixels: float, sign: str = "") -> str:
    """Return a number of pixels with two decimals, without a minus sign for zero."""
    return f"{round(pixels, 2) + 0.0:{sign}.2f}"


def _print_steps(steps: "Sequence[Step]", record: dict[str, Any], out: Path, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        show_json(record | {"out": str(out)})
        return
    for repair_step in steps:
        say(f"- {repair_step.description}", quiet=quiet)
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
