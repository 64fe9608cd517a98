"""What every command shares: consoles, progress, messages instead of tracebacks."""

import errno
import io
import json
import os
import sys
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

INTERRUPTED = 130
FAILED = 1


class PlainErrors(TyperGroup):
    """A group of commands whose errors are a message and an exit code, not a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; turn what a user can mend into a message."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            say_error(f"Stopped. {_how_to_go_on(ctx.invoked_subcommand)}")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            raise
        except (UnderpaintError, OSError, MemoryError) as error:
            if _debugging(ctx):
                raise
            say_error(explain(error))
            raise typer.Exit(FAILED) from None


def _how_to_go_on(command: str | None) -> str:
    if command in {"identify", "elements"}:
        return "No half-written result was left; --resume goes on from what is finished."
    if command in {"simulate", "train", "finetune", "adapt", "reproduce"}:
        return "The same command goes on from where it was."
    return "No half-written result was left."


def explain(error: BaseException) -> str:
    """Say in a sentence what went wrong and what to do."""
    if isinstance(error, UnderpaintError):
        return str(error)
    if isinstance(error, MemoryError):
        return "Out of memory. Close other programs, or cut the scan into parts."
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return f"The disk is full ({error.filename or 'while writing'}). Make room, or choose another place with --out."
    if isinstance(error, OSError) and error.filename:
        return f"Cannot use {error.filename}: {error.strerror}. Check the path and its permissions."
    return f"{error}" or type(error).__name__


def say_error(message: str) -> None:
    """Write what went wrong to standard error."""
    _say_aside("Error: ", "bold red", message)


def say_warning(message: str) -> None:
    """Write to standard error what has to be known, though all goes on."""
    _say_aside("Warning: ", "bold yellow", message)


def _say_aside(mark: str, style: str, message: str) -> None:
    shown = console(stderr=True)
    shown.print(mark, style=style, end="")
    shown.print(message, highlight=False, soft_wrap=True)


def say(message: str = "", *, quiet: bool = False, style: str | None = None) -> None:
    """Write a line to standard output, unless asked to be quiet."""
    if quiet:
        return
    console().print(message, highlight=False, soft_wrap=True, style=style)


def show(renderable: Any) -> None:
    """Show a table or another rich object."""
    console().print(renderable)


def console(*, stderr: bool = False) -> Any:
    """Return what all is printed with: text is shown as it is, whatever it comes from.

    Neither rich's markup nor names of emojis are heeded, and what a terminal would obey is shown as an escape.
    """
    from rich.console import Console
    from rich.text import Text

    class PlainConsole(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(plain_text(text), **options | {"markup": False, "emoji": False})

    return PlainConsole(stderr=stderr, markup=False, emoji=False)


def show_json(value: Any) -> None:
    """Write JSON to standard output; NaN becomes null."""
    cleaned = json.loads(json.dumps(value, default=str), parse_constant=lambda _: None)
    plain = not str(getattr(sys.stdout, "encoding", "") or "").lower().startswith("utf")
    text = json.dumps(cleaned, indent=2, ensure_ascii=plain)
    typer.echo(plain_json(text))


def list_table(title: str, heads: Iterable[str]) -> "Table":
    """Return a table under these heads, whose cells fold."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for head in heads:
        table.add_column(head, overflow="fold")
    return table


def two_columns(title: str) -> "Table":
    """Return a table of two columns, names in bold and what is known, whose cells fold."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", show_header=False, box=None, padding=(0, 2, 0, 0))
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    return table


def print_anything() -> None:
    """Let the terminal show an escape for what its encoding does not have (cp1252 on Windows, or no UTF-8 at all)."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def progress(*, quiet: bool) -> Iterator[Progress]:
    """Show on standard error what is being done; yields a function (what, done, in all)."""
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    what_is_done = TextColumn("{task.description}", markup=False)
    columns = (SpinnerColumn(), what_is_done, BarColumn(bar_width=24), TimeElapsedColumn())
    with Bars(*columns, console=console(stderr=True), disable=quiet, transient=True) as bar:
        task = bar.add_task("Starting", total=None)

        def step(what: str, done: int, total: int) -> None:
            # A step of one piece tells nothing of how far it is: the bar swings.
            bar.update(task, description=plain_text(what), completed=done, total=total if total > 1 else None)

        yield step


def _debugging(ctx: Any) -> bool:
    asked = bool((ctx.find_root().params or {}).get("debug"))
    return asked or os.environ.get("UNDERPAINT_DEBUG", "") not in {"", "0"}
