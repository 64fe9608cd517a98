import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from underpaint.simulate import LibrarySettings, simulate_library

JOB = 'kind = "random"\nn_stratigraphies = 4000\nrenders = 1\nchunk = 16\n'
KILLED_JOB = 'kind = "random"\nn_stratigraphies = 160\nrenders = 2\nchunk = 4\nseed = 11\n'
KILLED = LibrarySettings(n_stratigraphies=160, renders=2, chunk=4, seed=11)
MOST_KILLS = 3

pytestmark = pytest.mark.skipif(os.name == "nt", reason="signals to a group of processes are POSIX")


def started(folder: Path, *arguments: str) -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "underpaint", "simulate", "job.toml", "--out", "library.h5", *arguments]
    return subprocess.Popen(
        command, cwd=folder, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def pieces(folder: Path) -> int:
    """Return how far a job is: a finished file counts for all the pieces that it was joined from."""
    return len(list(folder.glob(".underpaint-*/pieces/*.h5"))) + 1000 * len(list(folder.glob("*.h5")))


def test_ctrl_c_ends_a_simulation_and_its_workers(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(JOB)
    process = started(tmp_path, "--workers", "2")
    wait_for_a_new_piece(process, tmp_path, 0)
    # a terminal sends Ctrl-C to the whole group
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert not (tmp_path / "library.h5").exists()
    assert pieces(tmp_path) > 0
    assert has_ended(process.pid)


def test_kills_at_random_moments_leave_a_library_that_is_finished_later(tmp_path: Path) -> None:
    """Through both stages; the workers go with the parent that was killed, and the result is that of a quiet run."""
    (tmp_path / "job.toml").write_text(KILLED_JOB)
    moments, kills = np.random.default_rng(5), 0
    while kills < MOST_KILLS:
        process, before = started(tmp_path, "--photons", "photons.h5", "--workers", "2"), pieces(tmp_path)
        wait_for_a_new_piece(process, tmp_path, before)
        time.sleep(moments.uniform(0.0, 0.4))
        if process.poll() is not None:
            break
        process.kill()
        process.wait()
        kills += 1
        assert has_ended(process.pid)
    if not (tmp_path / "library.h5").exists():
        assert started(tmp_path, "--photons", "photons.h5", "--workers", "2").wait(timeout=120) == 0
    assert kills > 0
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["job.toml", "library.h5", "photons.h5"]
    quiet = simulate_library(KILLED, tmp_path / "quiet.h5", workers=1)
    with h5py.File(tmp_path / "library.h5") as interrupted, h5py.File(quiet) as once:
        for name in ("expected", "recorded", "labels", "counts_needed", "source"):
            np.testing.assert_array_equal(interrupted[name][()], once[name][()])


def wait_for_a_new_piece(process: "subprocess.Popen[bytes]", folder: Path, before: int, patience_s: float = 90) -> None:
    deadline = time.monotonic() + patience_s
    while pieces(folder) <= before and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)


def has_ended(group: int, patience_s: float = 10.0) -> bool:
    """Tell whether every process of a group ends in time."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.2)
    return False
