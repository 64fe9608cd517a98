"""Functions that report the progress of a long task."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Function that is called with the name of a task, the number of completed items and the total number of items."""


def no_progress(task: str, n_completed: int, n_total: int) -> None:
    """Ignore progress."""
