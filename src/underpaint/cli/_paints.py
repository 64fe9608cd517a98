"""``paints``: the paints of a painting, from its results."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from underpaint.cli._console import list_table, progress, say, show, show_json
from underpaint.cli._scans import Json, Quiet

if TYPE_CHECKING:
    from underpaint.data.maps import Results

MAX_LISTED_PAINTS = 20


def paints(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Results folder; the paints are added to it.")],
    explain: Annotated[
        str | None,
        typer.Option(metavar="all|1,2,...", help="Compute the layer structure of these paints: a minute or two each."),
    ] = None,
    known: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Results of other methods, such as a cross-section, which are taken as given.",
        ),
    ] = None,
    scan: Annotated[
        str | None, typer.Option(metavar="SCAN", help="The scan, if it was moved since it was analysed.")
    ] = None,
    instrument: Annotated[
        str | None, typer.Option(metavar="PRESET|FILE", help="The scanner; unknown values are those of elio.")
    ] = None,
    ground: Annotated[str, typer.Option(help="The ground under the paint.")] = "chalk",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the segmentation; another seed may give other areas.")] = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Find the paints of a painting: areas of similar pixels, with groups, summed spectra and layers.

    `identify` finds the paints, too; this command also sums their spectra and, with --explain, computes their layers.
    Map and table are added to the folder (results.h5, paint.tif, paints.csv), and to the report.

    --known reads results of other methods: a file with one entry for each paint,

        [[known]]
        pixel = [12, 40]                          # or paint = 3
        method = "cross-section, SEM-EDX"
        source = "sample S2, 4 March 2026"
        order = ["mercury_red", "lead_pigment"]   # from the surface down
        thickness_um = [20, 30]                   # of the top layer
        absent = ["copper_green_blue"]

    The layers are computed with these results as given, and the answers say so.

    For example:

        underpaint paints painting_underpaint

        underpaint paints painting_underpaint --explain 1,4 --instrument ours.toml

        underpaint paints painting_underpaint --explain all --known sections.toml
    """
    from underpaint.pipeline.paints import paints_of_folder

    with progress(quiet=quiet or as_json) as step:
        results = paints_of_folder(
            folder,
            scan=scan,
            explained=_paint_numbers(explain),
            known=known,
            instrument=instrument,
            ground=ground,
            seed=seed,
            progress=step,
        )
    if as_json:
        show_json({"paints": [area.record() for area in results.paints], "assigned_share": assigned_share(results)})
    elif not quiet:
        _show(results)
        say(f"Report: {folder / 'report.html'}")


def assigned_share(results: "Results") -> float:
    """Return the fraction of the pixels with an answer that belong to a paint."""
    return sum(area.share for area in results.paints)


def _show(results: "Results") -> None:
    table = list_table("paints", ("paint", "share", "area", "counts", "groups"))
    for area in results.paints[:MAX_LISTED_PAINTS]:
        names = ", ".join(results.short_label(name) for name in area.groups) or "-"
        table.add_row(
            str(area.number),
            f"{100 * area.share:.1f} %",
            "-" if area.area_mm2 is None else f"{area.area_mm2:,.0f} mm2",
            "-" if area.spectrum is None else f"{area.spectrum.sum():,.0f}",
            names,
        )
    show(table)
    n_more = len(results.paints) - MAX_LISTED_PAINTS
    more_text = f" {n_more} smaller paints are in paints.csv." if n_more > 0 else ""
    say(f"Mixed, or no paint: {100 * (1 - assigned_share(results)):.1f} % of the pixels.{more_text}")
    for area in results.paints:
        for sentence in area.stratigraphy:
            say(f"- paint {area.number}: {sentence}")
    for note in results.process_notes.get("paints", ()):
        say(f"- {note}")


def _paint_numbers(text: str | None) -> tuple[int, ...]:
    """Read --explain.

    Raises
    ------
    typer.BadParameter
        The text is neither "all" nor a list of numbers.
    """
    from underpaint.pipeline.paints import ALL_PAINTS

    if text is None:
        return ()
    if text.strip() == "all":
        return (ALL_PAINTS,)
    number_texts: list[Any] = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in number_texts):
        raise typer.BadParameter(
            f"--explain {text!r} names no paints. Give their numbers, counted from 1, such as 1,4, or all."
        )
    return tuple(int(part) for part in number_texts)
