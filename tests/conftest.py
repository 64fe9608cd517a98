"""For all tests."""

import hashlib
import os
import pickle
import signal
from collections.abc import Callable, Iterator
from contextlib import nullcontext, suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from underpaint.runtime.threads import one_blas_thread

SEVERAL_WORKERS = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) > 1
if SEVERAL_WORKERS:
    # for the commands that tests start, and for libraries that are loaded later than one_thread_beside_other_workers
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell that starts the suite in the background has it ignore Ctrl-C, and so would the commands that are tested
    with suppress(ValueError):  # not of a thread
        signal.signal(signal.SIGINT, signal.default_int_handler)

# the time that an example takes depends on the load of the machine
settings.register_profile(
    "no clock", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
settings.load_profile("no clock")


@pytest.fixture(scope="module", autouse=True)
def one_thread_beside_other_workers() -> Iterator[None]:
    """Where pytest runs several workers, linear algebra of each takes one thread."""
    with one_blas_thread() if SEVERAL_WORKERS else nullcontext():
        yield


@pytest.fixture(scope="session", autouse=True)
def cache_of_the_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Tests, and the commands that they start, use a new cache folder, shared by all workers, and not the user's."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with pytest.MonkeyPatch.context() as patch:
        for variable in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
            patch.setenv(variable, str(folder / "cache"))
        patch.setattr("underpaint.runtime.cache.MAX_FILES", 100)  # the tests use more instruments than a user does
        yield


@pytest.fixture(scope="session", autouse=True)
def one_search_per_spectrum() -> Iterator[None]:
    """Search the axis, the tube, the likely instruments and the noise of a sum spectrum once in each process.

    Many tests analyse the same scan, and these searches take most of the time. Their results depend on the arguments
    alone, and nothing changes them.
    """
    from underpaint.calibrate import calibration
    from underpaint.elements import fit

    with pytest.MonkeyPatch.context() as patch:
        for module, names in (
            (calibration, ("_best_axis", "find_tube")),
            (fit, ("_likely_instruments", "fit_noise_fwhm")),
        ):
            for name in names:
                patch.setattr(module, name, remembering(getattr(module, name)))
        yield


def remembering(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that computes its result once for the same content of its arguments."""
    results: dict[bytes, Any] = {}

    def remembered(*arguments: Any) -> Any:
        key = hashlib.sha256(pickle.dumps(arguments)).digest()
        if key not in results:
            results[key] = function(*arguments)
        return results[key]

    return remembered


@pytest.fixture(scope="module")
def patient_cluster() -> Iterator[None]:
    """Let scheduler and workers of a cluster wait 10 min for each other; on a busy machine 30 s are too few."""
    dask = pytest.importorskip("dask")
    timeouts = {f"distributed.comm.timeouts.{name}": "600s" for name in ("connect", "tcp")}
    with dask.config.set(timeouts), pytest.MonkeyPatch.context() as patch:
        patch.setattr("underpaint.runtime.executors.CONNECT_TIMEOUT_S", 600)
        yield


@pytest.fixture
def without_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Write no report: its pictures take most of the time of a small scan."""
    monkeypatch.setattr("underpaint.display.report.write_report", lambda *_, **__: None)


@pytest.fixture
def short_explanation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Explain a spectrum in one process, with a search that is shorter than an answer would need."""
    from underpaint.pigments.explain import search

    monkeypatch.setattr("underpaint.cli._explain.N_WORKERS", 1)
    for name, value in {"N_SCREENED": 100, "N_NEIGHBOURS": 15, "N_OPTIMISED": 4, "N_VARIANTS": 2}.items():
        monkeypatch.setattr(search, name, value)
    monkeypatch.setattr("underpaint.pigments.explain.sampling.N_STATE", 40)
