"""Linear algebra takes one thread where work is shared, and as many as before afterwards."""

from collections.abc import Iterator
from threading import Barrier, Thread

import pytest
import scipy.linalg  # noqa: F401 - its BLAS is one of those that are limited
import xraylib_np  # noqa: F401 - it brings OpenMP
from threadpoolctl import threadpool_info, threadpool_limits

from underpaint.runtime.executors import make_executor, thread_or_cluster_executor
from underpaint.runtime.threads import one_blas_thread, one_openmp_thread


def blas_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"}


@pytest.fixture(scope="module", autouse=True)
def one_thread_beside_other_workers() -> None:
    """These tests set the number themselves: the fixture of this name in conftest.py is left out."""


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    with threadpool_limits(2, user_api="blas"):
        if blas_threads() != {2}:
            pytest.skip("this BLAS does not take two threads")
        yield


def test_one_thread_inside_and_as_many_as_before_after() -> None:
    with one_blas_thread():
        assert blas_threads() == {1}
        with one_blas_thread():
            assert blas_threads() == {1}
        assert blas_threads() == {1}
    assert blas_threads() == {2}


def test_an_error_leaves_as_many_as_before() -> None:
    with pytest.raises(ZeroDivisionError), one_blas_thread():
        1 / 0  # noqa: B018
    assert blas_threads() == {2}


def test_of_two_threads_the_last_one_restores() -> None:
    inside, first_is_out = Barrier(2, timeout=30), Barrier(2, timeout=30)
    thread_counts: list[set[int]] = []

    def stays() -> None:
        with one_blas_thread():
            inside.wait()
            first_is_out.wait()
            thread_counts.append(blas_threads())

    other = Thread(target=stays)
    with one_blas_thread():
        other.start()
        inside.wait()
    first_is_out.wait()
    other.join()
    assert thread_counts == [{1}]
    assert blas_threads() == {2}


def test_workers_have_one_each() -> None:
    with thread_or_cluster_executor(threads=2) as executor:
        assert executor.submit(blas_threads).result() == {1}
    with make_executor(1) as executor:
        assert executor.submit(blas_threads).result() == {1}
    assert blas_threads() == {2}
    with make_executor(2) as executor:
        assert executor.submit(blas_threads).result() == {1}


def openmp_threads() -> set[int]:
    return {pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "openmp"}


def test_small_loops_take_one_openmp_thread_in_every_thread() -> None:
    inside: list[set[int]] = []

    def limited() -> None:
        with threadpool_limits(2, user_api="openmp"):
            with one_openmp_thread():
                inside.append(openmp_threads())
            inside.append(openmp_threads())

    if not openmp_threads():
        pytest.skip("xraylib is built without OpenMP")
    other = Thread(target=limited)
    other.start()
    other.join()
    limited()
    assert inside == [{1}, {2}] * 2
