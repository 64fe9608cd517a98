"""``report``: results as a document to read, print or send."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from underpaint.cli._console import progress, say, show_json
from underpaint.cli._outputs import new_file


class Form(StrEnum):
    """Kind of file."""

    html = "html"
    pdf = "pdf"

    @property
    def name_for_report(self) -> Literal["html", "pdf"]:
        """Its name as the report knows it."""
        return "pdf" if self is Form.pdf else "html"


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of results.")],
    form: Annotated[Form, typer.Option("--format", help="pdf is printed by Chromium, Chrome or Edge.")] = Form.html,
    out: Annotated[
        Path | None, new_file("FILE", "File to write; by default report.html or report.pdf in DIR, replaced.")
    ] = None,
    subject: Annotated[
        str, typer.Option("--object", metavar="TEXT", help="The painting, as the title block names it.")
    ] = "",
    scan: Annotated[
        str | None, typer.Option(metavar="SCAN", help="The scan, where it is not where it was when it was read.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")] = False,
) -> None:
    """Write the report of results anew: with the photograph, the regions, and spectra of typical spots.

    `identify` writes one, too; this one has what was added since in `underpaint view`.

    **Examples**

        underpaint report painting_underpaint --object "Portrait, inv. 1234"

        underpaint report painting_underpaint --format pdf
    """
    del overwrite  # looked at with the outputs
    from underpaint.view.report import write_report

    with progress(quiet=quiet or as_json) as step:
        step("Writing the report", 0, 1)
        path = write_report(folder, out, form=form.name_for_report, scan=scan, subject=subject)
    if as_json:
        show_json({"report": str(path)})
    say(f"Wrote {path}", quiet=quiet or as_json)
