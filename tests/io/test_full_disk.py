"""A disk that fills up while a scan is written: a message, nothing left, and the process lives on."""

import subprocess
import sys
from pathlib import Path

import pytest

FULL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from underpaint.errors import OutputError
from underpaint.io import convert_scan, save_scan
from underpaint.data import Scan

folder, what = Path(sys.argv[1]), sys.argv[2]
counts = np.random.default_rng(0).integers(0, 60000, (24, 20, 512)).astype(np.uint16)
np.savez(folder / "scan.npz", counts=counts)
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), -1))
try:
    if what == "save":
        save_scan(Scan(counts), folder / "out.h5")
    else:
        convert_scan(folder / "scan.npz", folder / f"out.{what}")
except OutputError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits are POSIX's")
@pytest.mark.parametrize(("kind", "n_byte"), [("save", 200_000), ("h5", 200_000), ("zarr", 10_000)])
def test_a_full_disk_ends_in_a_message_and_leaves_nothing(tmp_path: Path, kind: str, n_byte: int) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path), kind, str(n_byte)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.stderr, done.returncode) == ("", 0)
    assert done.stdout.startswith(f"Cannot write {tmp_path / 'out'}")
    assert "has space" in done.stdout  # the cause as well, from most releases of h5py
    assert [entry.name for entry in tmp_path.iterdir()] == ["scan.npz"]
