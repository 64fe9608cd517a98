"""Progress bar for long jobs, with rate and remaining time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from underpaint.cli._console import console, lines_of_progress
from underpaint.runtime.progress import Progress
from underpaint.runtime.untrusted import plain_text


@contextmanager
def progress_with_rate(*, quiet: bool, unit: str) -> Iterator[Progress]:
    """Show progress, rate and remaining time on standard error.

    Yields a function of the task's name, the steps done, and the number of steps. The rate is averaged over the last
    half minute. Steps that an earlier, interrupted call finished count as done, but do not affect the rate. Where
    standard error is not a terminal, a line without rate is written now and then.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    error_console = console(stderr=True)
    if not quiet and not error_console.is_terminal:
        yield lines_of_progress()
        return
    bar_columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with RichProgress(*bar_columns, console=error_console, disable=quiet, transient=True) as progress_bar:
        task_ids: dict[str, Any] = {}

        def report_progress(task_name: str, n_done: int, n_steps: int) -> None:
            if task_name not in task_ids:
                for task_id in task_ids.values():
                    progress_bar.update(task_id, visible=False)
                task_ids[task_name] = progress_bar.add_task(
                    plain_text(task_name), total=n_steps if n_steps > 1 else None, completed=n_done, rate=""
                )
            task_id = task_ids[task_name]
            progress_bar.update(task_id, completed=n_done)
            progress_bar.update(
                task_id, rate=_rate_text(progress_bar.tasks[progress_bar.task_ids.index(task_id)].speed, unit)
            )

        yield report_progress


def _rate_text(steps_per_s: float | None, unit: str) -> str:
    return "" if not steps_per_s else f"{steps_per_s:,.0f} {unit}/s"
