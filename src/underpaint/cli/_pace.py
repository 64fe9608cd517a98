"""How long jobs show their pace: bar, done of all, rate and time left."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from underpaint.cli._console import console
from underpaint.runtime.progress import Progress
from underpaint.runtime.untrusted import plain_text


@contextmanager
def pace(*, quiet: bool, unit: str) -> Iterator[Progress]:
    """Show the pace on standard error; yields a function (what, done, in all).

    The rate is that of the last half minute, of this call alone: what an earlier call had done counts as done, not
    as fast.
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
    with Bars(*columns, console=console(stderr=True), disable=quiet, transient=True) as bar:
        tasks: dict[str, Any] = {}

        def step(what: str, done: int, total: int) -> None:
            if what not in tasks:
                for task in tasks.values():
                    bar.update(task, visible=False)
                tasks[what] = bar.add_task(
                    plain_text(what), total=total if total > 1 else None, completed=done, rate=""
                )
            task = tasks[what]
            bar.update(task, completed=done)
            bar.update(task, rate=_rate(bar.tasks[bar.task_ids.index(task)].speed, unit))

        yield step


def _rate(speed: float | None, unit: str) -> str:
    return "" if not speed else f"{speed:,.0f} {unit}/s"
