"""How far a long task is."""

from collections.abc import Callable
from typing import TypeAlias

Progress: TypeAlias = Callable[[str, int, int], None]
"""Called with (what is being done, done, in all)."""


def no_progress(task: str, completed: int, total: int) -> None:
    """Show nothing."""
