"""Run tasks in this process, in local processes, in threads or on a cluster, with bit-identical results."""

import os
import platform
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import cache
from importlib.metadata import version
from multiprocessing import get_context, parent_process
from threading import Thread
from typing import Any, Protocol, TypeVar

from underpaint.errors import ClusterError, MissingExtraError
from underpaint.runtime.threads import limit_to_one_blas_thread, one_blas_thread

Result = TypeVar("Result")
CONNECT_TIMEOUT_S = 10
MAX_TIME_WITHOUT_WORKERS_S = 30.0
"""Maximum time that a cluster may stay without workers after all its workers have stopped, in s."""
_POLL_INTERVAL_S = 2.0
VERSIONED_PACKAGES = ("underpaint", "numpy", "scipy", "xraylib")
"""Packages whose versions may affect the last bits of results."""


class Future(Protocol):
    """A pending result."""

    def result(self) -> Any:
        """Wait for the result and return it."""


class Executor(Protocol):
    """Executor of tasks. More tasks than workers are submitted at a time, so that no worker is idle."""

    @property
    def max_pending(self) -> int:
        """Maximum number of unfinished tasks that are submitted at a time."""

    @property
    def n_workers(self) -> int:
        """Current number of workers; 0 for a cluster without workers."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Submit a task."""


def ordered_results(
    executor: Executor, function: Callable[..., Result], tasks: Iterable[tuple[int, tuple[Any, ...]]]
) -> Iterator[tuple[int, Result]]:
    """Yield the index and result of each task in order. At most ``max_pending`` tasks are submitted at a time.

    Raises
    ------
    ClusterError
        A worker process died.
    """
    pending_futures: deque[tuple[int, Future]] = deque()
    try:
        for task_index, arguments in tasks:
            pending_futures.append((task_index, executor.submit(function, *arguments)))
            if len(pending_futures) >= executor.max_pending:
                first_index, future = pending_futures.popleft()
                yield first_index, future.result()
        while pending_futures:
            first_index, future = pending_futures.popleft()
            yield first_index, future.result()
    except BrokenProcessPool as error:
        raise ClusterError(
            "Cannot continue: a worker process died, perhaps for lack of memory. Call again to resume, with fewer "
            "--workers or a smaller chunk."
        ) from error


@contextmanager
def make_executor(workers: int | None = None, scheduler: str | None = None) -> Iterator[Executor]:
    """Yield an executor: a cluster if a scheduler is given, otherwise ``workers`` processes (None: one per core).

    Every worker uses one thread for linear algebra. The number of threads affects the order of summation and thus the
    last bits of results.

    Raises
    ------
    ClusterError
        The scheduler does not respond.
    MissingExtraError
        dask.distributed is not installed.
    """
    workers = workers or os.cpu_count() or 1
    if scheduler is not None:
        with _cluster_executor(scheduler) as executor:
            yield executor
    elif workers == 1:
        with one_blas_thread():
            yield _InProcessExecutor()
    else:
        with _process_executor(workers) as executor:
            yield executor


@contextmanager
def thread_or_cluster_executor(scheduler: str | None = None, threads: int | None = None) -> Iterator[Executor]:
    """Yield an executor of tasks whose data this process reads: a cluster, or threads (by default one per core).

    Each task uses one thread for linear algebra, as in :func:`make_executor`.

    Raises
    ------
    ClusterError
        The scheduler does not respond.
    MissingExtraError
        dask.distributed is not installed.
    """
    if scheduler is not None:
        with _cluster_executor(scheduler) as executor:
            yield executor
        return
    threads = threads or os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads)
    try:
        with one_blas_thread():
            yield _PoolExecutor(pool, threads)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _CompletedFuture:
    def __init__(self, result_value: Any) -> None:
        self._value = result_value

    def result(self) -> Any:
        return self._value


class _InProcessExecutor:
    max_pending = 1
    n_workers = 1

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        return _CompletedFuture(function(*arguments))


class _PoolExecutor:
    def __init__(self, pool: ProcessPoolExecutor | ThreadPoolExecutor, workers: int) -> None:
        self._pool = pool
        self.max_pending, self.n_workers = 2 * workers, workers

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        return self._pool.submit(function, *arguments)


@contextmanager
def _process_executor(workers: int) -> Iterator[Executor]:
    # processes are spawned, because a fork would copy the locks of BLAS and HDF5 threads in an undefined state
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare_process)
    try:
        yield _PoolExecutor(pool, workers)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare_process() -> None:
    limit_to_one_blas_thread()
    # workers ignore Ctrl-C, because a worker that dies while it holds the queue's lock would block the pool
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # a worker is not notified when its parent process is killed, and would otherwise wait forever
    Thread(target=_exit_with_parent, daemon=True).start()


def _exit_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _ClusterExecutor:
    def __init__(self, client: Any, scheduler: str) -> None:
        self._client, self._scheduler = client, scheduler
        self._versions = _package_versions()
        self._without_workers_since: float | None = None
        self._had_workers = False

    @property
    def max_pending(self) -> int:
        return max(2 * self.n_workers, 2)

    @property
    def n_workers(self) -> int:
        return int(sum(self._client.nthreads().values()))

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        # dask would hash the arguments to recognise repeated calls; pure=False prevents this
        future = self._client.submit(_run_on_cluster, self._versions, function, *arguments, pure=False)
        return _ClusterFuture(future, self)

    def require_workers(self) -> None:
        """Check that the cluster still has workers.

        Raises
        ------
        ClusterError
            The cluster has had no workers for more than :data:`MAX_TIME_WITHOUT_WORKERS_S`.
        """
        if self.n_workers:
            self._had_workers, self._without_workers_since = True, None
        elif self._had_workers and self._without_workers_since is None:
            self._without_workers_since = time.monotonic()
        elif (
            self._without_workers_since is not None
            and time.monotonic() - self._without_workers_since > MAX_TIME_WITHOUT_WORKERS_S
        ):
            raise ClusterError(
                f"Cannot continue: all workers of the cluster at {self._scheduler} have stopped, and none has joined "
                f"for {MAX_TIME_WITHOUT_WORKERS_S:g} s. Start workers with `dask worker {self._scheduler}`, with more "
                "memory if necessary; call again to resume."
            )


class _ClusterFuture:
    def __init__(self, future: Any, cluster: _ClusterExecutor) -> None:
        self._future, self._cluster = future, cluster

    def result(self) -> Any:
        from concurrent.futures import CancelledError

        from distributed import TimeoutError as FutureTimeout
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker

        try:
            while True:
                self._cluster.require_workers()
                try:
                    return self._future.result(timeout=_POLL_INTERVAL_S)
                except FutureTimeout:
                    # either the task ended just after the timeout, or the task itself raised this error
                    if self._future.done():
                        return self._future.result()
        except (CancelledError, CommClosedError) as error:
            raise ClusterError(
                f"Cannot continue: the scheduler of the cluster has stopped ({str(error)[:200]}). Start the scheduler "
                "again, then call again to resume."
            ) from error
        except KilledWorker as error:
            raise ClusterError(
                f"Cannot continue: a task crashed every worker that ran it ({error}). Give the workers more memory, or "
                "choose smaller chunks; call again to resume."
            ) from error


@contextmanager
def _cluster_executor(scheduler: str) -> Iterator[Executor]:
    try:
        import dask
        from distributed import Client
        from distributed.comm import resolve_address
    except ImportError as error:
        raise MissingExtraError(
            "Cannot use --scheduler: dask.distributed is missing. Run: pip install 'underpaint[cluster]'."
        ) from error
    try:
        # the address is checked first, because a client takes long to reject an invalid address
        resolve_address(scheduler)
        client = Client(scheduler, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"Cannot reach a dask scheduler at {scheduler!r} ({error}). Start a scheduler with `dask scheduler`, and "
            "give the address that it prints, such as tcp://host:8786."
        ) from error
    # the counts of a chunk are sent with its task, so that they are not lost when a worker dies
    with client, dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"}):
        yield _ClusterExecutor(client, scheduler)


def _run_on_cluster(versions: dict[str, str], function: Callable[..., Result], *arguments: Any) -> Result:
    worker_versions = _package_versions()
    if worker_versions != versions:
        difference_text = "; ".join(
            f"{name}: {worker_versions.get(name)} on the worker, {versions[name]} here"
            for name in versions
            if worker_versions.get(name) != versions[name]
        )
        raise ClusterError(
            f"Cannot compute on the worker {platform.node()}: {difference_text}. Install the same versions on all "
            "machines."
        )
    limit_to_one_blas_thread()
    return function(*arguments)


@cache
def _package_versions() -> dict[str, str]:
    return {name: version(name) for name in VERSIONED_PACKAGES}
