"""Kills runs at random moments, and counts what of the user's is lost; also what a resumed run gets wrong or leaves.

``run_kills(n, seed)`` is all that others need. Commands run as children that are forked from a process which has
imported everything, so that a kill costs the time of the command alone.
"""

import hashlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

PATIENCE_S = 300.0
KILLS_A_CASE = 3
AXIS = (0.02, 0.0, 1024)
RESULT = ("--out", "RESULT", "--resume", "--overwrite", "--no-calibrate", "--quiet")
COMMANDS = {
    "elements": ("elements", "scan.h5", *RESULT),
    "identify": ("identify", "scan.h5", *RESULT),
    "convert": ("convert", "scan.h5", "done.h5", "--quiet"),
    "simulate": ("simulate", "job.toml", "--out", "library.h5", "--workers", "1", "--quiet"),
    "picture": ("info", "scan.h5", "--picture", "picture.png", "--overwrite", "--quiet"),
}
GENERATED_NAMES = {
    "elements": "RESULT",
    "identify": "RESULT",
    "convert": "done.h5",
    "simulate": "library.h5",
    "picture": "picture.png",
}
JOB = 'kind = "random"\nn_stratigraphies = 12\nrenders = 1\nchunk = 2\nseed = 11\n'
NEIGHBOURS = (
    *(
        "RESULT.old/results.h5",
        "RESULT.part/results.h5",
        "RESULT.lock",
        ".RESULT.part/a",
        "done.h5.part",
        "done.h5.lock",
    ),
    *(".done.h5.part/mine", "library.h5.part/000000.h5", "library.h5.part/job.json", "picture.png.part"),
    *(".underpaint-mine/notes.txt", "results.h5", "poetry.lock"),
)
ADDED = (
    "notes.txt",
    ".git/HEAD",
    ".git/objects/ab/cdef",
    "elements/sketch.png",
    "regions.json",
    "RESULT.old/x",
    ".hidden",
)


@dataclass
class Tally:
    """What came of the kills; each fault in words."""

    kills: int = 0
    faults: list[str] = field(default_factory=list)


def run_kills(n: int, seed: int = 0, place: Path | None = None) -> tuple[int, int]:
    """Kill commands at random moments.

    Parameters
    ----------
    n : int
        Number of kills.
    seed : int
        Of the moments.
    place : Path or None
        Where to work; None: a temporary folder.

    Returns
    -------
    (int, int)
        Kills, and how many files of the user's were lost or changed, or results were wrong or never finished.
    """
    tally = tally_of(n, seed, place)
    return tally.kills, len(tally.faults)


def tally_of(n: int, seed: int = 0, place: Path | None = None) -> Tally:
    """Kill commands at random moments; return the faults in words."""
    rng, tally = np.random.default_rng(seed), Tally()
    with tempfile.TemporaryDirectory() as temporary, zygote() as start:
        base = Path(place or temporary)
        quiet = {name: _quiet(name, base / f"quiet_{name}", start) for name in COMMANDS}
        number = 0
        while tally.kills < n:
            name = list(COMMANDS)[number % len(COMMANDS)]
            _case(name, base / f"case_{number}", quiet[name], rng, start, tally, n)
            number += 1
    return tally


def _quiet(name: str, folder: Path, start: Any) -> tuple[str, float]:
    """Run a command undisturbed; return a digest of its numbers, and what it takes, s."""
    _inputs(folder)
    begin = time.monotonic()
    code = start(folder, COMMANDS[name]).wait()
    if code != 0:
        raise RuntimeError(f"{name} fails undisturbed with the code {code}")
    return _digest(folder / GENERATED_NAMES[name]), time.monotonic() - begin


def _case(
    name: str, folder: Path, quiet: tuple[str, float], rng: np.random.Generator, start: Any, tally: Tally, n: int
) -> None:
    """Kill one command a few times, then let it come to its end, and look at everything."""
    expected, takes_s = quiet
    _inputs(folder)
    mine = _files_of_the_user(folder, inside=name in {"elements", "identify"} and bool(rng.integers(0, 2)))
    for _ in range(KILLS_A_CASE):
        child = start(folder, COMMANDS[name])
        time.sleep(float(rng.uniform(0.0, 1.1 * takes_s)))
        tally.kills += child.kill(signal.SIGINT if rng.integers(0, 3) == 0 else signal.SIGKILL)
        held = {path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        tally.faults += [f"{name}: {key} is nowhere after a kill" for key, text in mine.items() if text not in held]
        if tally.kills >= n:
            break
    made = folder / GENERATED_NAMES[name]
    if name != "convert" or not made.exists():
        code = start(folder, COMMANDS[name]).wait()
        if code != 0 and not (name == "simulate" and made.exists()):
            tally.faults.append(f"{name}: does not go on, code {code}")
    if not made.exists() or _digest(made) != expected:
        tally.faults.append(f"{name}: other numbers than undisturbed")
    for key, text in mine.items():
        path = folder / key
        if not path.is_file() or path.read_bytes() != text:
            tally.faults.append(f"{name}: {key} is lost")
    left = [path.name for path in folder.glob(".underpaint-*") if (path / "underpaint.json").exists()]
    tally.faults += [f"{name}: {remnant} is left" for remnant in left if name not in {"convert", "simulate"}]
    if not tally.faults:
        shutil.rmtree(folder)


def _inputs(folder: Path) -> None:
    from underpaint.data import EnergyAxis, Scan
    from underpaint.io import save_scan

    folder.mkdir(parents=True)
    axis = EnergyAxis(*AXIS)
    rng, energy = np.random.default_rng(1), axis.energy_kev
    expected = 6.0 * np.exp(-energy / 10) * np.ones((24, 6, 1))
    for line, area in ((3.69, 200), (6.40, 500), (7.06, 65), (8.05, 300)):
        expected = expected + area * np.exp(-0.5 * ((energy - line) / 0.06) ** 2) * 0.02 / (0.06 * 2.507)
    save_scan(Scan(rng.poisson(expected).astype(np.uint16), axis=axis, name="panel"), folder / "scan.h5")
    (folder / "job.toml").write_text(JOB)
    os.utime(folder / "scan.h5", ns=(10**18, 10**18))


def _files_of_the_user(folder: Path, *, inside: bool) -> dict[str, bytes]:
    """Write files that are nobody's but the user's, beside everything, and into earlier results; return them all."""
    names = [*NEIGHBOURS]
    if inside:
        from underpaint.data.maps import Results
        from underpaint.io import write_results

        ones = np.ones((24, 6, 1), np.float32)
        maps = replace(Results.of_lines(("Au_L",), ones, ones), summary={"settings": {"source": "another"}})
        write_results(folder / "RESULT", maps)
        names += [f"RESULT/{name}" for name in ADDED]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(f"mine: {name}")
    files = {name: (folder / name).read_bytes() for name in names}
    return files | {name: (folder / name).read_bytes() for name in ("scan.h5", "job.toml")}


def _digest(path: Path) -> str:
    """Return a digest of all numbers in results, or in a file."""
    digest, file = hashlib.sha256(), path / "results.h5" if path.is_dir() else path
    if file.suffix != ".h5":
        return str(file.read_bytes()[:8])

    def take(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind in "fui":
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(item[()]).tobytes())

    try:
        with h5py.File(file) as opened:
            opened.visititems(take)
    except OSError as error:
        return str(error)
    return digest.hexdigest()


# --- children that are forked from a process which has imported everything ---------------------------------


class Child:
    """A command that runs."""

    def __init__(self, pid: int, answers: Any) -> None:
        self.pid, self._answers = pid, answers

    def wait(self) -> int:
        """Return how it ended, as a shell says it."""
        if not select.select([self._answers], [], [], PATIENCE_S)[0]:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, signal.SIGKILL)
        return int(json.loads(self._answers.readline())["code"])

    def kill(self, sent: int) -> bool:
        """Kill it; return whether it was still running."""
        with suppress(ProcessLookupError):  # it came to its end a moment ago
            os.killpg(self.pid, sent)
        return self.wait() in {-sent, 130}


@contextmanager
def zygote() -> Iterator[Any]:
    """Start the process from which commands are forked; yields a function (folder, command) that starts one."""
    process = subprocess.Popen(
        [sys.executable, __file__],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        bufsize=1,
        env=os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    requests, answers = process.stdin, process.stdout
    assert requests is not None
    assert answers is not None

    def start(folder: Path, command: tuple[str, ...]) -> Child:
        requests.write(json.dumps({"folder": str(folder), "command": command}) + "\n")
        requests.flush()
        return Child(int(json.loads(answers.readline())["pid"]), answers)

    try:
        yield start
    finally:
        requests.close()
        process.wait(timeout=60)
        answers.close()


def serve() -> None:
    """Fork a child for each line of standard input."""
    import underpaint.display.report
    import underpaint.io._source
    import underpaint.pigments.explain
    import underpaint.pigments.predict
    import underpaint.pipeline.run
    import underpaint.simulate
    from underpaint.cli import main
    from underpaint.io import BlockStore

    del underpaint.pipeline.run, underpaint.pigments.explain, underpaint.pigments.predict, underpaint.simulate
    underpaint.io._source.BLOCK_BYTES = 1 << 15  # several blocks in a small scan
    setattr(underpaint.display.report, "write_report", lambda *_, **__: None)  # noqa: B010 - its pictures take most of the time
    put = BlockStore.put

    def slow_put(*arguments: Any) -> None:
        put(*arguments)
        time.sleep(0.02)

    setattr(BlockStore, "put", slow_put)  # noqa: B010
    for line in sys.stdin:
        job = json.loads(line)
        pid = os.fork()
        if pid == 0:
            _run(job, main)
        with suppress(OSError):
            os.setpgid(pid, pid)
        print(json.dumps({"pid": pid}), flush=True)  # noqa: T201
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"code": os.waitstatus_to_exitcode(status)}), flush=True)  # noqa: T201


def _run(job: dict[str, Any], main: Any) -> None:
    code = 1
    try:
        os.setpgid(0, 0)
        null_device = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null_device, stream)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.chdir(job["folder"])
        sys.argv = ["underpaint", *job["command"]]
        main()
        code = 0
    except SystemExit as ended:
        code = int(ended.code or 0) if isinstance(ended.code, int | None) else 1
    except KeyboardInterrupt:
        code = 130
    finally:
        os._exit(code)


if __name__ == "__main__":
    serve()
