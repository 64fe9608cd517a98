import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import h5py
import numpy as np
import pytest

from underpaint.errors import ClusterError, MissingExtraError
from underpaint.runtime.executors import _ClusterFuture, make_executor, ordered_results
from underpaint.simulate import LibrarySettings, simulate_library

SETTINGS = LibrarySettings(n_stratigraphies=12, renders=1, chunk=2, seed=5)


@pytest.fixture(scope="module")
def cluster(patient_cluster: None) -> Iterator[Any]:
    """Two worker processes behind a scheduler on loopback."""
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, host="127.0.0.1", dashboard_address=":0"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def by_one_process(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one")
    return simulate_library(SETTINGS, folder / "one.h5", photons=folder / "photons.h5", workers=1)


def arrays(path: Path) -> dict[str, Any]:
    datasets: dict[str, Any] = {}
    with h5py.File(path) as file:
        file.visititems(lambda name, item: datasets.update({name: item[()]} if isinstance(item, h5py.Dataset) else {}))
    return datasets


def same_arrays(first_file: Path, second_file: Path) -> None:
    first, second = arrays(first_file), arrays(second_file)
    assert first.keys() == second.keys()
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name], err_msg=name)


def test_a_cluster_makes_the_same_bits_as_one_process(cluster: Any, by_one_process: Path, tmp_path: Path) -> None:
    address = cluster.scheduler_address
    out = simulate_library(SETTINGS, tmp_path / "a.h5", photons=tmp_path / "photons.h5", scheduler=address)
    same_arrays(out, by_one_process)
    same_arrays(tmp_path / "photons.h5", by_one_process.with_name("photons.h5"))
    same_arrays(simulate_library(SETTINGS, tmp_path / "b.h5", scheduler=address), by_one_process)


def test_work_lost_with_a_worker_is_done_again(cluster: Any, by_one_process: Path, tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_one(task: str, done: int, total: int) -> None:
        if done >= 2 and not killed:
            process = next(iter(cluster.workers.values())).process.process
            killed.append(process.pid)
            process.kill()

    out = simulate_library(SETTINGS, tmp_path / "a.h5", scheduler=cluster.scheduler_address, progress=kill_one)
    assert killed
    same_arrays(out, by_one_process)


def test_a_worker_with_other_versions_is_refused(cluster: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"underpaint": "0.0.0", "numpy": np.__version__}
    monkeypatch.setattr("underpaint.runtime.executors._package_versions", lambda: versions)
    with (
        make_executor(scheduler=cluster.scheduler_address) as executor,
        pytest.raises(ClusterError, match=r"0\.0\.0 here"),
    ):
        list(ordered_results(executor, abs, [(0, (-1,))]))


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    monkeypatch.setattr("underpaint.runtime.executors.CONNECT_TIMEOUT_S", 1)
    with pytest.raises(ClusterError, match=r"127\.0\.0\.1:9"), make_executor(scheduler="tcp://127.0.0.1:9"):
        pass


def test_an_impossible_address_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that was made for one says a traceback at its end, after 40 s."""
    pytest.importorskip("distributed", reason="dask.distributed is not installed")
    monkeypatch.setattr("distributed.Client", None)
    with pytest.raises(ClusterError, match=r"'foo' \(missing port number"), make_executor(scheduler="foo"):
        pass


def test_without_distributed_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingExtraError, match=r"underpaint\[cluster\]"), make_executor(scheduler="tcp://127.0.0.1:9"):
        pass


def test_no_more_tasks_are_begun_than_are_kept_in_hand() -> None:
    started: list[int] = []

    class Later:
        def __init__(self, value: int) -> None:
            self.value = value

        def result(self) -> int:
            return self.value

    class Executor:
        max_pending = n_workers = 3

        def submit(self, function: Any, *arguments: Any) -> Later:
            started.append(arguments[0])
            return Later(function(*arguments))

    for index, result in ordered_results(Executor(), abs, ((n, (-n,)) for n in range(20))):
        assert result == index
        assert len(started) <= index + 3
    assert len(started) == 20


def test_a_dead_local_worker_is_an_error_message() -> None:
    with make_executor(2) as executor, pytest.raises(ClusterError, match="worker process died"):
        list(ordered_results(executor, os._exit, [(0, (1,))]))


def test_linear_algebra_of_workers_runs_on_one_thread() -> None:
    code = (
        "from threadpoolctl import threadpool_info\n"
        "from underpaint.runtime.threads import limit_to_one_blas_thread\n"
        "limit_to_one_blas_thread()\n"
        "import numpy, scipy.linalg\n"
        "assert all(pool['num_threads'] == 1 for pool in threadpool_info()), threadpool_info()\n"
    )
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)


def test_a_cluster_whose_workers_all_died_is_reported(patient_cluster: None, monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed", reason="dask.distributed is not installed")
    monkeypatch.setattr("underpaint.runtime.executors.MAX_TIME_WITHOUT_WORKERS_S", 1.0)
    options = {"threads_per_worker": 1, "processes": True, "host": "127.0.0.1", "dashboard_address": ":0"}
    with distributed.LocalCluster(n_workers=0, **options) as running:
        address = running.scheduler_address
        command = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--no-nanny", "--no-dashboard"]
        process = subprocess.Popen([*command, "--nthreads", "1"], stderr=subprocess.DEVNULL)
        try:
            with make_executor(scheduler=address) as executor:
                results = ordered_results(executor, time.sleep, ((index, (0.2,)) for index in range(10_000)))
                next(results)
                process.kill()
                with pytest.raises(
                    ClusterError, match=r"all workers of the cluster at tcp.* have stopped.*dask worker"
                ):
                    list(results)
        finally:
            process.kill()
            process.wait()


def test_a_result_that_comes_as_the_wait_for_it_ends_is_taken() -> None:
    distributed = pytest.importorskip("distributed")

    class Late:
        def result(self, timeout: float | None = None) -> str:
            if timeout is not None:
                raise distributed.TimeoutError("timed out")
            return "result"

        def done(self) -> bool:
            return True

    class Cluster:
        def require_workers(self) -> None:
            pass

    assert _ClusterFuture(Late(), cast("Any", Cluster())).result() == "result"
