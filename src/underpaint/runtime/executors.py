"""Executors: this process, local processes or threads, or a dask.distributed cluster; all give equal results."""

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
from underpaint.runtime.threads import one_blas_thread, one_blas_thread_for_good

Result = TypeVar("Result")
CONNECT_TIMEOUT_S = 10
DESERTED_S = 30.0
"""Time that a cluster may be without workers after it had some."""
_LOOK_S = 2.0
DECIDING = ("underpaint", "numpy", "scipy", "xraylib")
"""Packages whose version affects the last bits of a result."""


class Future(Protocol):
    """A pending result."""

    def result(self) -> Any:
        """Wait for the result and return it."""


class Executor(Protocol):
    """What runs tasks; more are submitted than there are workers, so that no worker is idle."""

    @property
    def max_pending(self) -> int:
        """Number of tasks to keep submitted."""

    @property
    def n_workers(self) -> int:
        """Number of workers now; 0 on a cluster that has none yet."""

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        """Submit a task."""


def ordered_results(
    executor: Executor, function: Callable[..., Result], tasks: Iterable[tuple[int, tuple[Any, ...]]]
) -> Iterator[tuple[int, Result]]:
    """Yield (index, result) of tasks in their order; at most ``max_pending`` of them are submitted at once.

    Raises
    ------
    ClusterError
        A worker process died.
    """
    pending: deque[tuple[int, Future]] = deque()
    try:
        for index, arguments in tasks:
            pending.append((index, executor.submit(function, *arguments)))
            if len(pending) >= executor.max_pending:
                first, future = pending.popleft()
                yield first, future.result()
        while pending:
            first, future = pending.popleft()
            yield first, future.result()
    except BrokenProcessPool as error:
        raise ClusterError(
            "Cannot continue: a worker process died, perhaps out of memory. Call again to resume, "
            "with fewer --workers or a smaller chunk."
        ) from error


@contextmanager
def make_executor(workers: int | None = None, scheduler: str | None = None) -> Iterator[Executor]:
    """Return an executor: a cluster where a scheduler is named, else ``workers`` processes (None: one per core).

    Linear algebra runs on one thread in all of them, since the order of its sums, and so the last bits of a result,
    depend on the number of threads.

    Raises
    ------
    ClusterError
        The scheduler does not answer.
    MissingExtraError
        dask.distributed is not installed.
    """
    workers = workers or os.cpu_count() or 1
    if scheduler is not None:
        with _cluster(scheduler) as executor:
            yield executor
    elif workers == 1:
        with one_blas_thread():
            yield _InProcess()
    else:
        with _processes(workers) as executor:
            yield executor


@contextmanager
def threads_or_cluster(scheduler: str | None = None, threads: int | None = None) -> Iterator[Executor]:
    """Return an executor for data read by this process: a cluster, else threads of this process, one per core.

    As in :func:`make_executor`, each task computes on one thread.

    Raises
    ------
    ClusterError
        The scheduler does not answer.
    MissingExtraError
        dask.distributed is not installed.
    """
    if scheduler is not None:
        with _cluster(scheduler) as executor:
            yield executor
        return
    threads = threads or os.cpu_count() or 1
    pool = ThreadPoolExecutor(threads)
    try:
        with one_blas_thread():
            yield _Pool(pool, threads)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


class _Completed:
    def __init__(self, value: Any) -> None:
        self._value = value

    def result(self) -> Any:
        return self._value


class _InProcess:
    max_pending = 1
    n_workers = 1

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        return _Completed(function(*arguments))


class _Pool:
    def __init__(self, pool: ProcessPoolExecutor | ThreadPoolExecutor, workers: int) -> None:
        self._pool = pool
        self.max_pending, self.n_workers = 2 * workers, workers

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        return self._pool.submit(function, *arguments)


@contextmanager
def _processes(workers: int) -> Iterator[Executor]:
    # spawn: a fork would copy the locks of BLAS and HDF5 threads in whatever state they are
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare_process)
    try:
        yield _Pool(pool, workers)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare_process() -> None:
    one_blas_thread_for_good()
    # Ctrl-C reaches the whole process group; a worker that dies holding the queue's lock would hang the pool
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # workers get no notice when their parent is killed, and would wait for ever
    Thread(target=_leave_with_parent, daemon=True).start()


def _leave_with_parent() -> None:
    parent = parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


class _Cluster:
    def __init__(self, client: Any, scheduler: str) -> None:
        self._client, self._scheduler = client, scheduler
        self._versions = _versions()
        self._deserted_since: float | None = None
        self._had_workers = False

    @property
    def max_pending(self) -> int:
        return max(2 * self.n_workers, 2)

    @property
    def n_workers(self) -> int:
        return int(sum(self._client.nthreads().values()))

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Future:
        # not pure: dask need not hash the arguments to look for equal calls
        future = self._client.submit(_on_cluster, self._versions, function, *arguments, pure=False)
        return _ClusterFuture(future, self)

    def require_workers(self) -> None:
        """Check that the cluster still has workers.

        Raises
        ------
        ClusterError
            It has had none for a while. A cluster that has had no worker yet is waited for.
        """
        if self.n_workers:
            self._had_workers, self._deserted_since = True, None
        elif self._had_workers and self._deserted_since is None:
            self._deserted_since = time.monotonic()
        elif self._deserted_since is not None and time.monotonic() - self._deserted_since > DESERTED_S:
            raise ClusterError(
                f"Cannot continue: all workers of the cluster at {self._scheduler} are gone, and none has joined for "
                f"{DESERTED_S:g} s. Start workers with `dask worker {self._scheduler}`, with more memory if they ran "
                "out of it; call again to resume."
            )


class _ClusterFuture:
    def __init__(self, future: Any, cluster: _Cluster) -> None:
        self._future, self._cluster = future, cluster

    def result(self) -> Any:
        from concurrent.futures import CancelledError

        from distributed import TimeoutError as NotYet
        from distributed.comm import CommClosedError
        from distributed.scheduler import KilledWorker

        try:
            while True:
                self._cluster.require_workers()
                try:
                    return self._future.result(timeout=_LOOK_S)
                except NotYet:
                    # It ended between the two calls, or the task itself raised this error: raise it again.
                    if self._future.done():
                        return self._future.result()
        except (CancelledError, CommClosedError) as error:
            raise ClusterError(
                f"Cannot continue: the cluster's scheduler is gone ({str(error)[:200]}). Start it again, then call "
                "again to resume."
            ) from error
        except KilledWorker as error:
            raise ClusterError(
                f"Cannot continue: every worker that tried one task died ({error}). Give the workers more memory or "
                "choose smaller chunks; call again to resume."
            ) from error


@contextmanager
def _cluster(scheduler: str) -> Iterator[Executor]:
    try:
        import dask
        from distributed import Client
        from distributed.comm import resolve_address
    except ImportError as error:
        raise MissingExtraError(
            "Cannot use --scheduler: dask.distributed is missing. Run: pip install 'underpaint[cluster]'."
        ) from error
    try:
        # check the address first: a client of an invalid address takes long to give up
        resolve_address(scheduler)
        client = Client(scheduler, timeout=CONNECT_TIMEOUT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ClusterError(
            f"Cannot reach a dask scheduler at {scheduler!r} ({error}). Start one with `dask scheduler`, and give the "
            "address that it prints, such as tcp://host:8786."
        ) from error
    # a chunk's photons travel with its task, so that they survive the death of a worker
    with client, dask.config.set({"distributed.admin.large-graph-warning-threshold": "1GB"}):
        yield _Cluster(client, scheduler)


def _on_cluster(versions: dict[str, str], function: Callable[..., Result], *arguments: Any) -> Result:
    versions_here = _versions()
    if versions_here != versions:
        differ = "; ".join(
            f"{name}: {versions_here.get(name)} there, {versions[name]} here"
            for name in versions
            if versions_here.get(name) != versions[name]
        )
        raise ClusterError(
            f"Cannot compute on the worker {platform.node()}: {differ}. Install the same versions on all machines."
        )
    one_blas_thread_for_good()
    return function(*arguments)


@cache
def _versions() -> dict[str, str]:
    return {name: version(name) for name in DECIDING}
