"""Progress of a long task."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Function that is called with the name of a task, the completed number and the total number."""


def no_progress(task: str, completed: int, total: int) -> None:
    """Ignore progress."""
