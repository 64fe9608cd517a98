"""Commands about files as such: which formats are known, and one written as another."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from underpaint.cli._console import list_table, say, show, show_json
from underpaint.cli._outputs import new_folder
from underpaint.cli._scans import DetectorOption, Json, OneScan, Quiet, ShapeOption, rows_and_columns

if TYPE_CHECKING:
    from underpaint.io import Format


def formats(as_json: Json = False) -> None:
    """List the file formats that can be read and written, and how each is recognised.

    A file is known by its content; its ending does not matter.

    **Example**

        underpaint formats

        underpaint formats --json
    """
    from underpaint.io import formats as known_formats

    records = [_record(known) for known in known_formats()]
    if as_json:
        show_json(records)
        return
    table = list_table("formats", ("format", "endings", "recognised by", "extra", "source of the specification"))
    for known in known_formats():
        title = f"{known.title} (also written)" if known.written else known.title
        table.add_row(title, " ".join(known.endings), known.recognised_by, known.extra or "-", known.source)
    show(table)
    say('Extras are installed with `pip install "underpaint[NAME]"`. Not among them? Export as ripple or HDF5.')


def convert(
    scan: OneScan,
    target: Annotated[Path, typer.Argument(metavar="TARGET", help="File ending in .h5 (HDF5), or folder in .zarr.")],
    photographs: Annotated[
        Path | None, new_folder("DIR", "Also save the photographs in the file (.bcf) as TIFF here, in a new folder.")
    ] = None,
    detector: DetectorOption = None,
    shape: ShapeOption = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a scan as HDF5 (which PyMca reads) or zarr: compressed, every count as it was, checked by reading back.

    Each detector stays on its own, unless --detector picks one or their sum. TARGET appears when it is whole; one
    that is there is never replaced.

    **Examples**

        underpaint convert painting.bcf painting.h5 --photographs photographs

        underpaint convert scan_folder painting.zarr
    """
    from underpaint.cli._pace import pace
    from underpaint.io import convert_scan, photographs_of, save_photographs
    from underpaint.io.convert import refuse_existing

    grid = rows_and_columns(shape)
    if photographs is not None:
        refuse_existing(photographs)
    with pace(quiet=quiet or as_json, unit="rows") as step:
        done = convert_scan(scan, target, detector=detector, shape=grid, step=step)
    saved = [] if photographs is None else save_photographs(photographs_of(scan), photographs)
    if as_json:
        show_json(
            {
                "target": str(done.target),
                "shapes": [list(own) for own in done.shapes],
                "size_bytes": done.size_bytes,
                "counts_bytes": done.counts_bytes,
                "photographs": list(done.photographs),
                "photograph_files": [str(own) for own in saved],
            }
        )
        return
    sizes = "; ".join(" x ".join(map(str, own)) for own in done.shapes)
    say(f"{done.target}: {sizes}, {done.size_bytes / 1e6:.1f} MB for {done.counts_bytes / 1e6:.1f} MB", quiet=quiet)
    for own in saved:
        say(f"{own}", quiet=quiet)


def _record(known: "Format") -> dict[str, object]:
    return {
        "name": known.title,
        "endings": list(known.endings),
        "recognised_by": known.recognised_by,
        "extra": known.extra,
        "source": known.source,
        "written": known.written,
    }
