import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

JOB = 'kind = "random"\nn_stratigraphies = 4000\nrenders = 1\nchunk = 16\n'


@pytest.mark.skipif(os.name == "nt", reason="signals to a group of processes are POSIX")
def test_ctrl_c_ends_a_simulation_and_its_workers(tmp_path: Path) -> None:
    (tmp_path / "job.toml").write_text(JOB)
    command = [sys.executable, "-m", "underpaint", "simulate", "job.toml", "--out", "library.h5", "--workers", "2"]
    process = subprocess.Popen(
        command, cwd=tmp_path, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    part = tmp_path / "library.h5.part"
    deadline = time.monotonic() + 90
    while not part.exists() and time.monotonic() < deadline:
        time.sleep(0.2)
    time.sleep(3)
    # a terminal sends Ctrl-C to the whole group
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(timeout=60) == 130
    assert part.exists()
    assert gone(process.pid)


def gone(group: int, patience_s: float = 10.0) -> bool:
    """Tell whether every process of a group ends in time."""
    deadline = time.monotonic() + patience_s
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.2)
    return False
