"""Command ``paints``, which finds the paints of a painting from its results."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from underpaint.cli._console import list_table, progress, say, show, show_json
from underpaint.cli._scans import JsonOption, QuietOption

if TYPE_CHECKING:
    from underpaint.data.maps import Results

MAX_LISTED_PAINTS = 20


def paints(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Results folder to which the paints are added.")],
    explain: Annotated[
        str | None,
        typer.Option(
            metavar="all|1,2,...", help="Compute the layer structure of these paints, in one or two minutes for each."
        ),
    ] = None,
    known: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.toml",
            help="Results of other methods, such as a cross-section, which constrain the layers.",
        ),
    ] = None,
    scan: Annotated[
        str | None, typer.Option(metavar="SCAN", help="New path of the scan if it was moved after the analysis.")
    ] = None,
    instrument: Annotated[
        str | None,
        typer.Option(metavar="PRESET|FILE", help="Instrument of the scan, with unknown values from elio."),
    ] = None,
    ground: Annotated[str, typer.Option(help="Ground below the paint.")] = "chalk",
    seed: Annotated[int, typer.Option(min=0, help="Seed of the segmentation. Another seed may give other areas.")] = 0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find the paints of a painting: areas of similar pixels, with groups, summed spectra and layers.

    `identify` also finds the paints. The command `paints` adds their summed spectra and, with --explain, their layers.
    The map and the table of paints are added to the folder (results.h5, paint.tif, paints.csv) and to the report.

    The option --known reads results of other methods from a file with one entry for each paint:

        [[known]]
        pixel = [12, 40]                          # or paint = 3
        method = "cross-section, SEM-EDX"
        source = "sample S2, 4 March 2026"
        order = ["mercury_red", "lead_pigment"]   # from the surface down
        thickness_um = [20, 30]                   # of the top layer
        absent = ["copper_green_blue"]

    The layers are computed with these results as constraints, which the answers state.

    For example:

        underpaint paints painting_underpaint

        underpaint paints painting_underpaint --explain 1,4 --instrument ours.toml

        underpaint paints painting_underpaint --explain all --known sections.toml
    """
    from underpaint.pipeline.paints import paints_of_folder

    with progress(quiet=quiet or as_json) as report_progress:
        results = paints_of_folder(
            folder,
            scan=scan,
            explained=_parse_paint_numbers(explain),
            known=known,
            instrument=instrument,
            ground=ground,
            seed=seed,
            progress=report_progress,
        )
    if as_json:
        show_json({"paints": [paint.record() for paint in results.paints], "assigned_share": assigned_share(results)})
    elif not quiet:
        _show_paints(results)
        say(f"Report: {folder / 'report.html'}")


def assigned_share(results: "Results") -> float:
    """Return the fraction of the pixels with an answer that belong to a paint."""
    return sum(paint.share for paint in results.paints)


def _show_paints(results: "Results") -> None:
    paint_table = list_table("paints", ("paint", "share", "area", "counts", "groups"))
    for paint in results.paints[:MAX_LISTED_PAINTS]:
        group_labels = ", ".join(results.short_label(group) for group in paint.groups) or "-"
        paint_table.add_row(
            str(paint.number),
            f"{100 * paint.share:.1f} %",
            "-" if paint.area_mm2 is None else f"{paint.area_mm2:,.0f} mm2",
            "-" if paint.spectrum is None else f"{paint.spectrum.sum():,.0f}",
            group_labels,
        )
    show(paint_table)
    n_unlisted = len(results.paints) - MAX_LISTED_PAINTS
    unlisted_text = f" {n_unlisted} smaller paints are in paints.csv." if n_unlisted > 0 else ""
    say(f"{100 * (1 - assigned_share(results)):.1f} % of the pixels are mixed or belong to no paint.{unlisted_text}")
    for paint in results.paints:
        for sentence in paint.stratigraphy:
            say(f"- paint {paint.number}: {sentence}")
    for note in results.process_notes.get("paints", ()):
        say(f"- {note}")


def _parse_paint_numbers(option_text: str | None) -> tuple[int, ...]:
    """Parse the value of --explain.

    Raises
    ------
    typer.BadParameter
        The text is neither "all" nor a list of numbers.
    """
    from underpaint.pipeline.paints import ALL_PAINTS

    if option_text is None:
        return ()
    if option_text.strip() == "all":
        return (ALL_PAINTS,)
    number_texts: list[Any] = [number_text.strip() for number_text in option_text.split(",")]
    if not all(number_text.isdecimal() and int(number_text) > 0 for number_text in number_texts):
        raise typer.BadParameter(
            f"--explain {option_text!r} names no paints. Give their numbers, counted from 1, such as 1,4, or all."
        )
    return tuple(int(number_text) for number_text in number_texts)
