"""Every reader on damaged files: a scan, or a reason; in bounded time, in bounded memory, and nothing else.

Run with ``pytest -m robust``; ``UNDERPAINT_FUZZ_EXAMPLES`` sets the number of damaged files of each kind.
"""

import json
import os
import select
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import robust_worker
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from robust_damage import damaged, damaged_folder
from robust_samples import MAKERS

pytestmark = [
    pytest.mark.robust,
    pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peak memory is told by Linux alone"),
    # files that the libraries left open which wrote the samples; ours are read in another process
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

EXAMPLES = int(os.environ.get("UNDERPAINT_FUZZ_EXAMPLES", "100"))
MORE_MEMORY_MB = 200.0
LONGEST_CPU_S = 5.0
HANGS_AFTER_S = 120.0
WORKER = Path(__file__).with_name("robust_worker.py")


@dataclass
class Reader:
    """A process that reads scans and tells what became of them; begun anew where one does not come back."""

    process: "subprocess.Popen[str] | None" = None

    def read(self, location: Path) -> dict[str, Any]:
        process = self.process or self._begin()
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(f"{location}\n")
        process.stdin.flush()
        if not select.select([process.stdout], [], [], HANGS_AFTER_S)[0]:
            self.end()
            pytest.fail(f"reading hangs: no answer after {HANGS_AFTER_S:g} s")
        answer = process.stdout.readline()
        if not answer:
            code = process.wait()
            self.process = None
            pytest.fail(f"the reader crashed with the code {code}")
        return dict(json.loads(answer))

    def _begin(self) -> "subprocess.Popen[str]":
        self.process = subprocess.Popen(
            [sys.executable, str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"},
        )
        return self.process

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


@pytest.fixture(scope="module")
def reader() -> Iterator[Reader]:
    started = Reader()
    yield started
    started.end()


@dataclass(frozen=True)
class ScanFiles:
    """A scan's files by name, and which of them is read."""

    files: dict[str, bytes]
    target: str

    def write(self, folder: Path, files: dict[str, bytes]) -> Path:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        for name, content in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder / self.target


@pytest.fixture(params=MAKERS, scope="module")
def scan_files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ScanFiles:
    folder = tmp_path_factory.mktemp("whole")
    target = MAKERS[request.param](folder)
    files = {
        str(entry.relative_to(folder)): entry.read_bytes() for entry in sorted(folder.rglob("*")) if entry.is_file()
    }
    return ScanFiles(files, target)


def test_damaged_files_are_read_or_refused(scan_files: ScanFiles, reader: Reader, tmp_path: Path) -> None:
    first = reader.read(scan_files.write(tmp_path / "scan", scan_files.files))
    assert first["outcome"] == "read", first["text"]
    outcomes: Counter[str] = Counter()
    largest_mb, longest_s = 0.0, 0.0

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(data=st.data())
    def examine(data: st.DataObject) -> None:
        nonlocal largest_mb, longest_s
        if len(scan_files.files) > 1:
            files = damaged_folder(data, scan_files.files)
        else:
            files = {name: damaged(data, content) for name, content in scan_files.files.items()}
        answer = reader.read(scan_files.write(tmp_path / "scan", files))
        file_mb = sum(map(len, files.values())) / 2**20
        assert answer["outcome"] in {"read", "refused"}, answer["text"]
        assert answer["outcome"] == "read" or answer["text"].startswith("Cannot"), answer["text"]
        assert len(answer["text"]) < 2000, answer["text"]
        assert answer["more_mb"] - file_mb < MORE_MEMORY_MB, f"{answer['more_mb']:.0f} MB: {answer['text']}"
        assert answer["seconds"] < LONGEST_CPU_S, f"{answer['seconds']:.1f} s: {answer['text']}"
        outcomes[answer["outcome"]] += 1
        largest_mb, longest_s = max(largest_mb, answer["more_mb"]), max(longest_s, answer["seconds"])

    examine()
    assert outcomes["refused"] > 0
    counted = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
    print(f"{counted}; at most {largest_mb:.0f} MB more, {longest_s:.2f} s")  # noqa: T201 (seen with -s or -rP)


def test_memory_of_a_reading_is_seen(reader: Reader, tmp_path: Path) -> None:
    """The measure itself: a large array shows as large."""
    small, large = tmp_path / "small.npz", tmp_path / "large.npz"
    np.savez_compressed(small, counts=np.ones((2, 3, 8)))
    np.savez_compressed(large, counts=np.ones((120, 100, 1024), np.uint32))  # 47 MiB
    assert reader.read(small)["more_mb"] < 20
    assert reader.read(large)["more_mb"] > 46


@pytest.mark.parametrize("error", [ValueError, MemoryError, RecursionError, KeyboardInterrupt])
def test_what_no_reader_may_raise_is_seen(monkeypatch: pytest.MonkeyPatch, error: type[BaseException]) -> None:
    def broken(_: str) -> None:
        raise error

    monkeypatch.setattr("underpaint.io.load_all", broken)
    assert robust_worker.example("a.h5")["outcome"] == "traceback"
