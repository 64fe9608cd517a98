"""Threads of linear algebra: one, wherever work is distributed over workers.

The matrices are small: BLAS threads mostly wait for each other, and those of several workers for the cores. The order
of a sum, and so the last bits of a result, also depend on their number.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController, threadpool_limits

_LOCK = Lock()
_open = 0
_limits: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit linear algebra to one thread inside the context; the previous number is restored.

    The limit is that of the process: the first thread to enter sets it and the last one restores it.
    """
    global _open, _limits  # noqa: PLW0603
    with _LOCK:
        if _open == 0:
            _limits = _limited()
        _open += 1
    try:
        yield
    finally:
        with _LOCK:
            _open -= 1
            if _open == 0:
                _take_control()
                _limits.restore_original_limits()
                _take_control()


@cache
def one_blas_thread_for_good() -> None:
    """Limit linear algebra of this process to one thread: a worker's tasks may run in parallel."""
    _limited()


def _limited() -> Any:
    # scipy has a separate BLAS; one loaded later would not be limited
    import scipy.linalg  # noqa: F401

    _take_control()
    return threadpool_limits(1)


def _take_control() -> None:
    """Let this thread set the limit: threadpoolctl (3.7 and later) otherwise silently obeys only the first thread."""
    for library in ThreadpoolController().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)
