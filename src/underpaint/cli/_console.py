"""Output of all commands: console, tables, progress bar and error messages."""

import errno
import io
import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperGroup

from underpaint.errors import UnderpaintError
from underpaint.runtime.progress import Progress
from underpaint.runtime.untrusted import plain_json, plain_text

if TYPE_CHECKING:
    from rich.table import Table

EXIT_INTERRUPTED = 130
EXIT_FAILED = 1
SHORT_CELL = 10
"""Columns of a table whose cells have at most this number of characters are not wrapped if there is space."""
PROGRESS_LINE_S = 15.0
"""Minimum time in s between two lines of progress if standard error is not a terminal."""


class PlainHelp(TyperGroup):
    """A group of commands whose help lists the commands under headings."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands under their headings, each with the first paragraph of its help."""
        commands_by_panel: dict[str, list[tuple[str, str]]] = {}
        for command_name in self.list_commands(ctx):
            command: Any = self.get_command(ctx, command_name)
            if not command.hidden:
                help_summary = (command.help or "").partition("\n\n")[0]
                commands_by_panel.setdefault(command.rich_help_panel or "Commands", []).append(
                    (command_name, help_summary)
                )
        for panel, commands in commands_by_panel.items():
            with formatter.section(panel):
                formatter.write_dl(commands)


class PlainErrors(PlainHelp):
    """A group of commands that report errors as a message and an exit code, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command. If an error occurs that a user can resolve, print a message."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say_error(f"Stopped. {_resume_hint(ctx.invoked_subcommand)}")
            raise typer.Exit(EXIT_INTERRUPTED) from None
        except BrokenPipeError:
            raise
        except (UnderpaintError, OSError, MemoryError) as error:
            if _is_debugging(ctx):
                raise
            say_error(error_text(error))
            raise typer.Exit(EXIT_FAILED) from None


def _resume_hint(command: str | None) -> str:
    if command in {"identify", "elements"}:
        return "The results folder is unchanged, and finished blocks are kept: --resume continues from them."
    if command in {"simulate", "train", "finetune", "adapt", "reproduce"}:
        return "The same command continues the interrupted run."
    return "No incomplete results were left."


def error_text(error: BaseException) -> str:
    """Return the message for an error. The message states the fault and the remedy."""
    if isinstance(error, UnderpaintError):
        return str(error)
    if isinstance(error, MemoryError):
        return "Out of memory. Close other programs, or cut the scan into parts."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"The disk is full ({error.filename or 'while writing'}). Free space, or choose another disk with --out."
    if isinstance(error, OSError) and error.filename:
        return f"Cannot use {error.filename}: {error.strerror}. Check the path and its permissions."
    return f"{error}" or type(error).__name__


def say_error(message: str) -> None:
    """Write an error message to standard error."""
    _print_to_stderr("Error: ", "bold red", message)


def say_warning(message: str) -> None:
    """Write a warning to standard error."""
    _print_to_stderr("Warning: ", "bold yellow", message)


def _print_to_stderr(prefix: str, style: str, message: str) -> None:
    error_console = console(stderr=True)
    error_console.print(prefix, style=style, end="")
    error_console.print(message, highlight=False, soft_wrap=True)


def say(message: str = "", *, quiet: bool = False, style: str | None = None) -> None:
    """Write a line to standard output. If ``quiet`` is true, write nothing."""
    if quiet:
        return
    console().print(message, highlight=False, soft_wrap=True, style=style)


def show(renderable: Any) -> None:
    """Print a table or another object of the package rich. Words in columns with headings are not broken.

    If the words do not fit side by side, each row of the table is printed as a list.
    """
    from rich.table import Table

    output_console = console()
    if not (isinstance(renderable, Table) and renderable.show_header) or _fit_columns(renderable, output_console.width):
        output_console.print(renderable)
        return
    say(str(renderable.title or ""))
    for cells in zip(*(column.cells for column in renderable.columns), strict=True):
        for column_index, (column, cell) in enumerate(zip(renderable.columns, cells, strict=True)):
            if str(cell):
                say(f"{'  ' if column_index else '- '}{column.header}: {cell}")
    if renderable.caption:
        say(str(renderable.caption))


def _fit_columns(table: "Table", max_width: int) -> bool:
    """Set the widths of a table's columns so that no word is broken. Return False if the words do not fit."""
    from rich.cells import cell_len

    texts = [[plain_text(str(text)) for text in (column.header, *column.cells)] for column in table.columns]
    word_widths = [max(cell_len(word) for text in column for word in text.split() or [""]) for column in texts]
    full_widths = [max(map(cell_len, column)) for column in texts]
    widths = [max(word, min(full, SHORT_CELL)) for word, full in zip(word_widths, full_widths, strict=True)]
    width_for_cells = max_width - 3 * len(widths) - 1  # a border and two spaces per column
    if sum(widths) > width_for_cells:
        widths = word_widths
    n_spare = width_for_cells - sum(widths)
    if n_spare < 0:
        return False
    for _ in range(min(n_spare, sum(full_widths) - sum(widths))):
        # the column with the most lines gets the next character
        narrowest = max(
            (index for index, width in enumerate(widths) if width < full_widths[index]),
            key=lambda index: full_widths[index] / widths[index],
        )
        widths[narrowest] += 1
    for column, width in zip(table.columns, widths, strict=True):
        column.width = width
    return True


def console(*, stderr: bool = False) -> Any:
    """Return a console that prints all text literally.

    Markup and emoji names are not interpreted, and control characters are printed as escapes.
    """
    from rich.console import Console
    from rich.text import Text

    class PlainConsole(Console):
        def render_str(self, text: str, **render_options: Any) -> Text:
            return super().render_str(plain_text(text), **render_options | {"markup": False, "emoji": False})

    return PlainConsole(stderr=stderr, markup=False, emoji=False)


def show_json(record: Any) -> None:
    """Write a record as JSON to standard output. NaN becomes null."""
    json_record = json.loads(json.dumps(record, default=str), parse_constant=lambda _: None)
    ascii_only = not str(getattr(sys.stdout, "encoding", "") or "").lower().startswith("utf")
    json_text = json.dumps(json_record, indent=2, ensure_ascii=ascii_only)
    typer.echo(plain_json(json_text))


def list_table(title: str, headings: Iterable[str]) -> "Table":
    """Return an empty table with the given headings. Long cells are wrapped."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for heading in headings:
        table.add_column(heading, overflow="fold")
    return table


def two_column_table(title: str) -> "Table":
    """Return an empty table with two columns: names in bold, and values, which are wrapped."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def escape_unencodable() -> None:
    """Print escapes for characters that the terminal's encoding (such as cp1252 on Windows) does not have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def progress(*, quiet: bool) -> Iterator[Progress]:
    """Show progress on standard error. Yield a function of the task's name, the steps done, and the number of steps.

    On a terminal, progress is a bar. Elsewhere, a line is written now and then.
    """
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    error_console = console(stderr=True)
    if not quiet and not error_console.is_terminal:
        yield lines_of_progress()
        return
    description_column = TextColumn("{task.description}", markup=False)
    bar_columns = (SpinnerColumn(), description_column, BarColumn(bar_width=24), TimeElapsedColumn())
    with RichProgress(*bar_columns, console=error_console, disable=quiet, transient=True) as progress_bar:
        task_id = progress_bar.add_task("Starting", total=None)

        def report_progress(task_name: str, n_done: int, n_steps: int) -> None:
            # The progress within a single step is unknown, so the bar pulses.
            progress_bar.update(
                task_id, description=plain_text(task_name), completed=n_done, total=n_steps if n_steps > 1 else None
            )

        yield report_progress


def lines_of_progress() -> Progress:
    """Return a function that now and then writes a line of progress, where a bar cannot be drawn."""
    start_s = last_line_s = time.monotonic()

    def report_progress(task_name: str, n_done: int, n_steps: int) -> None:
        nonlocal last_line_s
        now_s = time.monotonic()
        if now_s - last_line_s >= PROGRESS_LINE_S:
            last_line_s = now_s
            steps_text = f", {n_done:,} of {n_steps:,}" if n_steps > 1 else ""
            console(stderr=True).print(f"{now_s - start_s:.0f} s: {task_name}{steps_text}", soft_wrap=True)

    return report_progress


def _is_debugging(ctx: Any) -> bool:
    is_requested = bool((ctx.find_root().params or {}).get("debug"))
    return is_requested or os.environ.get("UNDERPAINT_DEBUG", "") not in {"", "0"}
