"""For all tests."""

import os
from collections.abc import Iterator

import pytest

from underpaint.runtime.threads import one_blas_thread


@pytest.fixture(scope="module", autouse=True)
def one_thread_beside_other_workers() -> Iterator[None]:
    """Where pytest runs several workers, linear algebra of each takes one thread."""
    if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) < 2:
        yield
        return
    with one_blas_thread():
        yield
