"""The command line: all commands of ``underpaint``."""

import gc
from typing import Annotated

import typer

from underpaint._version import __version__
from underpaint.cli import (
    _about,
    _calibrate,
    _evaluate,
    _learn,
    _library,
    _paints,
    _plan,
    _reflect,
    _repair,
    _scans,
    _view,
    _virtual,
)
from underpaint.cli._console import PlainErrors, escape_unencodable
from underpaint.cli._outputs import careful

app = typer.Typer(
    name="underpaint",
    cls=PlainErrors,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # half of the time of --help was spent on rich and its Markdown
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

READ, SIMULATE, TRAIN, ABOUT = "Read a scan", "Simulate", "Train and measure", "This program"

app.command(rich_help_panel=READ)(careful(_scans.identify))
app.command("elements", rich_help_panel=READ)(careful(_scans.map_elements))
app.command(rich_help_panel=READ)(careful(_scans.fit))
app.command(rich_help_panel=READ)(careful(_scans.info))
app.command(rich_help_panel=READ)(careful(_calibrate.calibrate))
app.command(rich_help_panel=READ)(careful(_reflect.reflect))
app.command(rich_help_panel=READ)(careful(_scans.explain))
app.command(rich_help_panel=READ)(careful(_paints.paints))
app.command(rich_help_panel=READ)(careful(_plan.plan))
app.command(rich_help_panel=READ)(careful(_scans.compare))
app.command(rich_help_panel=READ)(careful(_view.view))
app.command(rich_help_panel=READ)(careful(_view.report))
app.command(hidden=True)(careful(_view.work))
app.command(rich_help_panel=READ)(careful(_scans.convert))
app.command(rich_help_panel=READ)(careful(_repair.repair))
app.command(rich_help_panel=READ)(careful(_repair.mosaic))
app.command(rich_help_panel=READ)(careful(_scans.formats))
_library.pigment_commands.command("add-reflectance")(careful(_reflect.add_reflectance))
_library.pigment_commands.command("reflectance")(careful(_reflect.reflectance))
app.add_typer(_library.pigment_commands, name="pigments", rich_help_panel=READ)
app.command(rich_help_panel=READ)(careful(_library.instruments))
app.command(rich_help_panel=SIMULATE)(careful(_virtual.mockup))
app.command(rich_help_panel=SIMULATE)(careful(_virtual.simulate))
app.command(rich_help_panel=TRAIN)(careful(_learn.train))
app.command(rich_help_panel=TRAIN)(careful(_learn.finetune))
app.command(rich_help_panel=TRAIN)(careful(_learn.adapt))
app.command(rich_help_panel=TRAIN)(careful(_evaluate.evaluate))
app.command(rich_help_panel=TRAIN)(careful(_learn.reproduce))
app.add_typer(_evaluate.benchmark_commands, name="benchmark", rich_help_panel=TRAIN)
app.command(rich_help_panel=ABOUT)(careful(_about.cite))
app.command(rich_help_panel=ABOUT)(careful(_about.desktop))


def _version(is_requested: bool) -> None:
    if is_requested:
        typer.echo(f"underpaint {__version__}")
        raise typer.Exit


@app.callback()
def start(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show where an error comes from.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find the pigments of a painting in its X-ray fluorescence scan.

    Start with

        underpaint info SCAN

        underpaint identify SCAN

    and open the report that it names. `underpaint COMMAND --help` shows an example for each command; `underpaint`
    alone opens a page in the browser, from which scans can be analysed without commands.
    """
    del debug, version
    if context.invoked_subcommand is None:
        _view.start_page()


def main() -> None:
    """Run the command line."""
    # A command is short, and its many objects live until the end, so frequent garbage collection would waste time.
    gc.set_threshold(50_000, 20, 100)
    escape_unencodable()
    app()
