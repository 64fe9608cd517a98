"""For all tests."""

import os
import signal
from collections.abc import Iterator
from contextlib import suppress

import pytest

from underpaint.runtime.threads import one_blas_thread

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell that starts the suite in the background has it ignore Ctrl-C, and so would the commands that are tested
    with suppress(ValueError):  # not of a thread
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def one_thread_beside_other_workers() -> Iterator[None]:
    """Where pytest runs several workers, linear algebra of each takes one thread."""
    if int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) < 2:
        yield
        return
    with one_blas_thread():
        yield


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests, and the commands that they start, keep nothing in the user's cache folder."""
    place = tmp_path_factory.getbasetemp() / "cache"
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
            patch.setenv(variable, str(place))
        yield
