"""Limit linear algebra to one thread if tasks are distributed over workers, and small loops of OpenMP to one thread.

The matrices are small, so BLAS threads would mostly wait for each other. The number of threads also affects the order
of summation and thus the last bits of results.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from threading import Lock
from typing import Any

from threadpoolctl import ThreadpoolController, threadpool_limits

_LOCK = Lock()
_n_contexts = 0
_blas_limits: Any = None


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit linear algebra to one thread within the context, and restore the previous number of threads afterwards.

    The limit applies to all threads of the process. The first thread that enters the context sets the limit. The last
    thread that leaves the context restores the previous number of threads.
    """
    global _n_contexts, _blas_limits  # noqa: PLW0603
    with _LOCK:
        if _n_contexts == 0:
            _blas_limits = _limit_blas()
        _n_contexts += 1
    try:
        yield
    finally:
        with _LOCK:
            _n_contexts -= 1
            if _n_contexts == 0:
                _allow_any_thread_to_set_limit()
                _blas_limits.restore_original_limits()
                _allow_any_thread_to_set_limit()


@cache
def limit_to_one_blas_thread() -> None:
    """Limit linear algebra in this process permanently to one thread, because a worker may run tasks in parallel."""
    _limit_blas()


def one_openmp_thread() -> AbstractContextManager[Any]:
    """Return a context in which loops that the calling thread starts through OpenMP take one thread.

    In small loops, threads mostly wait for each other; on a busy machine, the wait takes much longer than the loop.
    The library of the loops must be loaded before the first call.
    """
    limits: AbstractContextManager[Any] = _openmp_libraries().limit(limits=1)
    return limits


@cache
def _openmp_libraries() -> ThreadpoolController:
    return ThreadpoolController().select(user_api="openmp")


def _limit_blas() -> Any:
    # SciPy has a separate BLAS library, which must be loaded before its threads can be limited
    import scipy.linalg  # noqa: F401

    _allow_any_thread_to_set_limit()
    return threadpool_limits(1)


def _allow_any_thread_to_set_limit() -> None:
    """Allow any thread to set the limit. Otherwise threadpoolctl 3.7 and later ignores all threads but the first."""
    for library in ThreadpoolController().lib_controllers:
        if hasattr(library, "clear_controlling_thread"):
            library.clear_controlling_thread(force=True)
