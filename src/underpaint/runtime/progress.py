"""Progress of a long task."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with (task, completed, total)."""


def no_progress(task: str, completed: int, total: int) -> None:
    """Ignore progress."""
