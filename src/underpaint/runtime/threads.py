"""How many threads linear algebra takes: one, wherever work is shared among workers already.

The matrices here are small: threads of BLAS mostly wait for each other, and those of several workers for the cores.
The order of a sum, and with it the last bit of a result, depends on their number, too.
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
    """Keep linear algebra on one thread inside; afterwards it has as many as before.

    The number belongs to the process: where several threads are inside, the first one sets it and the last one restores
    it.
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
    """Keep linear algebra of this process on one thread: a worker's tasks may run beside each other."""
    _limited()


def _limited() -> Any:
    # scipy brings a BLAS of its own; one that is loaded later would not be limited
    import scipy.linalg  # noqa: F401

    _take_control()
    return threadpool_limits(1)


def _take_control() -> None:
    """Let this thread set the number: threadpoolctl (3.7 and later) else heeds the first thread alone, silently."""
    for library in ThreadpoolController().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)
