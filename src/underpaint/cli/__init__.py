"""The command line ``underpaint``, with all its commands."""

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
    _reflect,
    _repair,
    _scans,
    _view,
    _virtual,
)
from underpaint.cli._console import PlainErrors, escape_unencodable
from underpaint.cli._outputs import with_output_check

app = typer.Typer(
    name="underpaint",
    cls=PlainErrors,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # loading rich and its Markdown parser took half of the time of --help
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)

READ_HEADING, SIMULATE_HEADING, TRAIN_HEADING, ABOUT_HEADING = (
    "Read a scan",
    "Simulate",
    "Train and measure",
    "This program",
)

app.command(rich_help_panel=READ_HEADING)(with_output_check(_scans.identify))
app.command("elements", rich_help_panel=READ_HEADING)(with_output_check(_scans.map_elements))
app.command(rich_help_panel=READ_HEADING)(with_output_check(_scans.fit))
app.command(rich_help_panel=READ_HEADING)(with_output_check(_scans.info))
app.command(rich_help_panel=READ_HEADING)(with_output_check(_calibrate.calibrate))
app.command(rich_help_panel=READ_HEADING)(with_output_check(_reflect.reflect))
app.command(rich_help_panel=READ_HEADING)(with_output_check(_scans.explain))
app.command(rich_help_panel=READ_HEADING)(with_output_check(_paints.paints))
app.command(rich_help_panel=READ_HEADING)(with_output_check(_paints.plan))
app.command(rich_help_panel=READ_HEADING)(with_output_check(_scans.compare))
app.command(rich_help_panel=READ_HEADING)(with_output_check(_view.view))
app.command(rich_help_panel=READ_HEADING)(with_output_check(_view.report))
app.command(hidden=True)(with_output_check(_view.work))
app.command(rich_help_panel=READ_HEADING)(with_output_check(_scans.convert))
app.command(rich_help_panel=READ_HEADING)(with_output_check(_repair.repair))
app.command(rich_help_panel=READ_HEADING)(with_output_check(_repair.mosaic))
app.command(rich_help_panel=READ_HEADING)(with_output_check(_scans.formats))
_library.pigment_commands.command("add-reflectance")(with_output_check(_reflect.add_reflectance))
_library.pigment_commands.command("reflectance")(with_output_check(_reflect.reflectance))
app.add_typer(_library.pigment_commands, name="pigments", rich_help_panel=READ_HEADING)
app.command(rich_help_panel=READ_HEADING)(with_output_check(_library.instruments))
app.command(rich_help_panel=SIMULATE_HEADING)(with_output_check(_virtual.mockup))
app.command(rich_help_panel=SIMULATE_HEADING)(with_output_check(_virtual.simulate))
app.command(rich_help_panel=TRAIN_HEADING)(with_output_check(_learn.train))
app.command(rich_help_panel=TRAIN_HEADING)(with_output_check(_learn.finetune))
app.command(rich_help_panel=TRAIN_HEADING)(with_output_check(_learn.adapt))
app.command(rich_help_panel=TRAIN_HEADING)(with_output_check(_evaluate.evaluate))
app.command(rich_help_panel=TRAIN_HEADING)(with_output_check(_learn.reproduce))
app.add_typer(_evaluate.benchmark_commands, name="benchmark", rich_help_panel=TRAIN_HEADING)
app.command(rich_help_panel=ABOUT_HEADING)(with_output_check(_about.cite))
app.command(rich_help_panel=ABOUT_HEADING)(with_output_check(_about.desktop))


def _show_version(is_requested: bool) -> None:
    if is_requested:
        typer.echo(f"underpaint {__version__}")
        raise typer.Exit


@app.callback()
def start_program(
    context: typer.Context,
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback if an error occurs.")] = False,
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Identify the pigments of a painting from its X-ray fluorescence scan.

    Start with

        underpaint info SCAN

        underpaint identify SCAN

    The second command writes a report and prints its path. `underpaint COMMAND --help` explains a command by examples.
    Without a command, `underpaint` opens a page in the browser, where scans can be analysed as well.
    """
    del debug, version
    if context.invoked_subcommand is None:
        _view.open_start_page()


def main() -> None:
    """Run the command line."""
    # A command runs briefly and needs most of its objects until the end. Frequent garbage collection would waste time.
    gc.set_threshold(50_000, 20, 100)
    escape_unencodable()
    app()
