"""Commands ``repair`` and ``mosaic``: modified copies of scans."""

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
    JsonOption,
    QuietOption,
    ScanArgument,
    ShapeOption,
    TrustInstrumentOption,
    rows_and_columns,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from underpaint.data import Scan
    from underpaint.repair import Step

OutScanOption = Annotated[Path, new_file("FILE.h5", "Scan to write. An existing file is never replaced.")]


def repair(
    scan: ScanArgument,
    out: OutScanOption,
    crop: Annotated[
        str | None,
        typer.Option(
            metavar="ROWS,COLUMNS", help="Rows and columns to keep. 10:50,0:80 keeps rows 10 to 49 and columns 0 to 79."
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Pixels to keep, as a mask (.npy, .png, .tif) or as a list (.csv)."),
    ] = None,
    sum_peaks: Annotated[
        float | None,
        typer.Option(
            metavar="MICROSECONDS",
            min=0,
            help="Remove the sum peaks that occur at this pulse-pair resolving time, in microseconds.",
        ),
    ] = None,
    pixels: Annotated[
        bool,
        typer.Option(
            "--pixels", help="Replace dead pixels, and pixels with too few counts, by the mean of their neighbours."
        ),
    ] = False,
    snake: Annotated[
        bool,
        typer.Option(
            "--snake", help="Mirror every second row, if the scanner recorded rows in alternating directions."
        ),
    ] = False,
    rows: Annotated[
        bool, typer.Option("--rows", help="Measure by how much every second row is shifted, and correct the shift.")
    ] = False,
    row_shift: Annotated[
        float | None, typer.Option(metavar="COLUMNS", help="Correct this shift of every second row, in columns.")
    ] = None,
    live_time: Annotated[
        bool, typer.Option("--live-time", help="Scale the counts of all pixels to the same live time.")
    ] = False,
    bins: Annotated[
        str | None, typer.Option("--bin", metavar="ROWSxCOLUMNS", help="Sum blocks of pixels, e.g. of 2x2.")
    ] = None,
    instrument: InstrumentOption = None,
    trust_instrument: TrustInstrumentOption = False,
    detector: DetectorOption = None,
    shape: ShapeOption = None,
    counts_scale: CountsScaleOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a repaired copy of a scan. The copy contains a record of the repairs.

    The original is not changed. The repairs are done in the order in which the options are listed. The record is stored
    under /entry/settings. The record includes the original's name and hash.

    For example:

        underpaint repair painting.h5 --out straight.h5 --rows --pixels

        underpaint repair painting.h5 --out part.h5 --crop 10:50,0:80 --bin 2x2
    """
    from underpaint.errors import ScanError
    from underpaint.io import load, save_scan, split_location
    from underpaint.io.load import refuse_output_in_scan
    from underpaint.repair import fingerprint

    refuse_output_in_scan(out, scan)
    bin_shape = rows_and_columns(bins, "--bin", "2x2")
    requested_repairs = _RequestedRepairs(crop, mask, sum_peaks, pixels, snake, rows, row_shift, live_time, bin_shape)
    if not requested_repairs.is_any:
        raise ScanError(f"Cannot repair {scan}: no repair was requested. Request a repair, such as --rows or --crop.")
    with progress(quiet=quiet or as_json) as report_progress:
        report_progress("Finding faults", 0, 1)
        original_scan = load(scan, detector=detector, shape=rows_and_columns(shape), counts_scale=counts_scale)
        repaired_scan, repair_steps = _apply_repairs(
            original_scan, requested_repairs, instrument, is_trusted=trust_instrument
        )
        path, _ = split_location(scan)
        repair_record = {
            "original": str(scan),
            "original_blake2b": fingerprint(path),
            "detector": detector,
            "shape": shape,
            "counts_scale": original_scan.counts_scale,
            "repairs": [repair_step.as_record() for repair_step in repair_steps],
        }
        report_progress("Writing", 0, 1)
        save_scan(repaired_scan, out, settings=_add_version(repair_record), replace=False)
    _print_repair_steps(repair_steps, repair_record, out, quiet=quiet, as_json=as_json)


class _RequestedRepairs:
    """The values of the repair options, by option name."""

    def __init__(self, *option_values: Any) -> None:
        option_names = ("crop", "mask", "sum_peaks", "pixels", "snake", "rows", "row_shift", "live_time", "bins")
        self.values = dict(zip(option_names, option_values, strict=True))

    @property
    def is_any(self) -> bool:
        """Whether any repair is requested. A row shift of 0 counts as a request."""
        return any(option_value is not None and option_value is not False for option_value in self.values.values())


def _apply_repairs(
    scan: "Scan", requested_repairs: _RequestedRepairs, instrument: str | None, *, is_trusted: bool
) -> "tuple[Scan, list[Step]]":
    from underpaint import repair as repair_tools
    from underpaint.pigments.explain import read_region

    repair_steps: list[Step] = []
    option_values = requested_repairs.values
    if option_values["sum_peaks"] is not None and (instrument is not None or scan.axis is None):
        scan, repair_step = _with_energy_axis(scan, instrument, is_trusted=is_trusted)
        repair_steps.append(repair_step)

    def add_step(scan_and_step: "tuple[Scan, Step]") -> "Scan":
        repair_steps.append(scan_and_step[1])
        return scan_and_step[0]

    if option_values["crop"] is not None:
        scan = add_step(repair_tools.cropped(scan, *_parse_ranges(option_values["crop"])))
    if option_values["mask"] is not None:
        scan = add_step(repair_tools.masked(scan, read_region(option_values["mask"], scan.shape[:2])))
    if option_values["sum_peaks"] is not None:
        scan = add_step(repair_tools.without_sum_peaks(scan, option_values["sum_peaks"]))
    if option_values["pixels"]:
        scan = add_step(repair_tools.with_pixels_repaired(scan, repair_tools.find_faulty_pixels(scan)))
    if option_values["snake"]:
        scan = add_step(repair_tools.with_rows_mirrored(scan, repair_tools.find_row_direction(scan)))
    if option_values["rows"] or option_values["row_shift"] is not None:
        scan, repair_step = _with_rows_aligned(scan, option_values["row_shift"])
        repair_steps.append(repair_step)
    if option_values["live_time"]:
        scan = add_step(repair_tools.with_equal_live_time(scan))
    if option_values["bins"] is not None:
        scan = add_step(repair_tools.binned(scan, *option_values["bins"]))
    return scan, repair_steps


def _with_energy_axis(scan: "Scan", instrument: str | None, *, is_trusted: bool) -> "tuple[Scan, Step]":
    """Put the scan on the instrument's energy axis, or on the axis from its lines. Also return the repair step."""
    from underpaint.calibrate import resolve_energy_axis
    from underpaint.repair import Step

    calibrated_scan = resolve_energy_axis(scan, instrument=instrument, trust_instrument=is_trusted)
    axis = calibrated_scan.scan.require_axis()
    step_values = {"gain_kev": axis.gain_kev, "zero_kev": axis.zero_kev, "instrument": instrument}
    return calibrated_scan.scan, Step("axis", " ".join((*calibrated_scan.alerts, *calibrated_scan.notes)), step_values)


def _with_rows_aligned(scan: "Scan", given_shift_columns: float | None) -> "tuple[Scan, Step]":
    """Align every second row by the given shift, or by the measured shift if that is significant."""
    from underpaint import repair as repair_tools

    row_shift = (
        repair_tools.find_row_shift(scan)
        if given_shift_columns is None
        else repair_tools.RowShift(given_shift_columns, 0.0)
    )
    if given_shift_columns is None and not row_shift.is_significant:
        step_values = {
            "shift_columns": 0.0,
            "found_columns": row_shift.columns,
            "error_columns": row_shift.error_columns,
        }
        return scan, repair_tools.Step("rows", f"{row_shift.describe()}: left as they are", step_values)
    aligned_scan, alignment_step = repair_tools.with_rows_aligned(scan, row_shift)
    return aligned_scan, alignment_step if given_shift_columns is not None else replace(
        alignment_step, description=f"{row_shift.describe()}; {alignment_step.description}"
    )


def _parse_ranges(option_text: str) -> tuple[tuple[int, int], tuple[int, int]]:
    """Parse the row and column ranges of --crop."""
    try:
        (first_row, row_stop), (first_column, column_stop) = (
            range_text.split(":") for range_text in option_text.split(",")
        )
        return (int(first_row), int(row_stop)), (int(first_column), int(column_stop))
    except ValueError:
        raise typer.BadParameter(
            f"--crop {option_text!r} is not ROWS,COLUMNS. Give two ranges of integers, such as 10:50,0:80."
        ) from None


def mosaic(
    tiles: Annotated[
        list[str], typer.Argument(metavar="TILE...", help="Overlapping scans. FILE::NAME selects one scan in a file.")
    ],
    out: OutScanOption,
    positions: Annotated[
        Path,
        typer.Option(
            metavar="FILE.csv", help="Stage position of each tile's first pixel. Columns: tile,row_mm,column_mm."
        ),
    ],
    step_mm: Annotated[
        float | None,
        typer.Option(
            metavar="MM", min=0, help="Distance between pixels in mm, if the files do not state this distance."
        ),
    ] = None,
    register: Annotated[
        bool,
        typer.Option(
            "--register/--no-register", help="Correct the stage positions by registration of overlapping tiles."
        ),
    ] = True,
    max_shift_pixels: Annotated[
        float,
        typer.Option(
            "--most-pixels", metavar="PIXELS", min=0, help="Largest plausible correction of a position, in pixels."
        ),
    ] = 5.0,
    detector: DetectorOption = None,
    counts_scale: CountsScaleOption = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Join overlapping tiles into one scan. Stage positions are corrected by registration of the overlaps.

    A tile that cannot be read is left out. A message names the tile, and the exit code is 1.

    For example:

        underpaint mosaic left.h5 right.h5 --positions stage.csv --out whole.h5
    """
    from underpaint.cli._console import EXIT_FAILED, say_error
    from underpaint.errors import UnderpaintError
    from underpaint.io import load, save_scan
    from underpaint.repair import Tile, join_tiles, positions_of, read_positions

    tile_positions = positions_of(tiles, read_positions(positions))
    read_tiles: list[tuple[str, Tile]] = []
    failed_tiles: dict[str, str] = {}
    with progress(quiet=quiet or as_json) as report_progress:
        for tile_index, (tile_name, tile_position) in enumerate(zip(tiles, tile_positions, strict=True)):
            report_progress("Opening the tiles", tile_index, len(tiles))
            try:
                scan = load(tile_name, detector=detector, counts_scale=counts_scale)
            except (UnderpaintError, OSError, MemoryError) as error:
                failed_tiles[tile_name] = str(error) or type(error).__name__
                continue
            read_tiles.append(
                (
                    tile_name,
                    Tile(scan if step_mm is None else scan.replace(step_mm=(step_mm, step_mm)), *tile_position),
                )
            )
        report_progress("Comparing the tiles", 0, 1)
        joined_mosaic = join_tiles([tile for _, tile in read_tiles], register=register, max_pixels=max_shift_pixels)
        mosaic_record = {
            "tiles": [tile_name for tile_name, _ in read_tiles],
            "failed": failed_tiles,
            "mosaic": joined_mosaic.as_record(),
        }
        report_progress("Writing", 0, 1)
        save_scan(joined_mosaic.scan, out, settings=_add_version(mosaic_record), replace=False)
    for tile_name, error_text in failed_tiles.items():
        say_error(error_text if tile_name in error_text else f"{tile_name}: {error_text}")
    if as_json:
        show_json(mosaic_record | {"out": str(out), "shape": joined_mosaic.scan.shape})
    else:
        _print_mosaic(joined_mosaic, [tile_name for tile_name, _ in read_tiles], out, quiet=quiet)
    if failed_tiles:
        raise typer.Exit(EXIT_FAILED)


def _print_mosaic(joined_mosaic: Any, tile_names: "Sequence[str]", out: Path, *, quiet: bool) -> None:
    for tile_name, (corner_row, corner_column), (row_correction, column_correction) in zip(
        tile_names, joined_mosaic.corner_pixels, joined_mosaic.correction_pixels, strict=True
    ):
        correction_text = (
            f"corrected by {_pixels_text(row_correction, '+')} rows and {_pixels_text(column_correction, '+')} columns"
        )
        pixel_text = f"row {_pixels_text(corner_row)}, column {_pixels_text(corner_column)}"
        say(f"- {Path(tile_name).name}: first pixel at {pixel_text}; {correction_text}", quiet=quiet)
    for overlap in joined_mosaic.overlaps:
        if not overlap.used:
            pair_text = f"{Path(tile_names[overlap.first]).name} and {Path(tile_names[overlap.second]).name}"
            say(
                f"! {pair_text} overlap, but are not similar enough to correct their positions "
                f"({overlap.likeness:.2f})",
                quiet=quiet,
            )
    for tile_index in joined_mosaic.isolated_tiles:
        tile_name = Path(tile_names[tile_index]).name
        say(
            f"! {tile_name} overlaps too little with other tiles: its stage position could not be verified", quiet=quiet
        )
    n_row, n_column, _ = joined_mosaic.scan.shape
    n_missing = 0 if joined_mosaic.scan.present is None else int((~joined_mosaic.scan.present).sum())
    missing_text = f" {n_missing} pixels are in no tile and are missing." if n_missing else ""
    say(f"Wrote {out}: {n_row} x {n_column} pixels of {len(tile_names)} tiles.{missing_text}", quiet=quiet)


def _pixels_text(pixels: float, sign_format: str = "") -> str:
    """Return a number of pixels with two decimals. Zero has no minus sign."""
    return f"{round(pixels, 2) + 0.0:{sign_format}.2f}"


def _print_repair_steps(
    repair_steps: "Sequence[Step]", record: dict[str, Any], out: Path, *, quiet: bool, as_json: bool
) -> None:
    if as_json:
        show_json(record | {"out": str(out)})
        return
    for repair_step in repair_steps:
        say(f"- {repair_step.description}", quiet=quiet)
    say(f"Wrote {out}. {record['original']} is unchanged.", quiet=quiet)


def _add_version(scan_record: dict[str, Any]) -> dict[str, Any]:
    from underpaint._version import __version__

    return scan_record | {"version": __version__}
