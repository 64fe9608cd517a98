"""Progress bar of long jobs, with the rate and the remaining time."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from underpaint.cli._console import console
from underpaint.runtime.progress import Progress
from underpaint.runtime.untrusted import plain_text


@contextmanager
def pace(*, quiet: bool, unit: str) -> Iterator[Progress]:
    """Show progress, rate and remaining time on standard error; yields a function of (task, steps done, total steps).

    The rate is averaged over the last half minute. Steps finished by an earlier call count as done, but not for the
    rate.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bars(*columns, console=console(stderr=True), disable=quiet, transient=True) as progress_bar:
        tasks: dict[str, Any] = {}

        def step(task_name: str, done: int, total: int) -> None:
            if task_name not in tasks:
                for task in tasks.values():
                    progress_bar.update(task, visible=False)
                tasks[task_name] = progress_bar.add_task(
                    plain_text(task_name), total=total if total > 1 else None, completed=done, rate=""
                )
            task = tasks[task_name]
            progress_bar.update(task, completed=done)
            progress_bar.update(task, rate=_rate(progress_bar.tasks[progress_bar.task_ids.index(task)].speed, unit))

        yield step


def _rate(speed: float | None, unit: str) -> str:
    return "" if not speed else f"{speed:,.0f} {unit}/s"
