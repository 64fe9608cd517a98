"""Nothing is sent: not a name is looked up, and no file is left but results and the cache of matplotlib."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from underpaint.data import EnergyAxis, Scan
from underpaint.io import save_scan

SILENCE = Path(__file__).parents[1] / "silence.py"
REFUSING = """
import json, os, sys
asked = []
def watch(event, arguments):
    if event in {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg"}:
        if event != "socket.connect" or not isinstance(arguments[1], (str, bytes)):  # a socket of this machine's files
            asked.append(event)
            raise PermissionError(event)
sys.addaudithook(watch)
import atexit
atexit.register(lambda: open(sys.argv.pop(), "w").write(json.dumps(asked)))
from underpaint.cli import main
note = sys.argv[-1]
sys.argv = sys.argv[:-1]
try:
    main()
finally:
    sys.argv.append(note)
"""


def scan(folder: Path) -> Path:
    energy = EnergyAxis(0.02, 0.0, 1024).energy_kev
    expected = 6.0 * np.exp(-energy / 10) * np.ones((4, 4, 1))
    for line, area in ((3.69, 200), (6.40, 500), (7.06, 65), (8.05, 300)):
        expected = expected + area * np.exp(-0.5 * ((energy - line) / 0.06) ** 2) * 0.02 / (0.06 * 2.507)
    counts = np.random.default_rng(1).poisson(expected).astype(np.uint16)
    save_scan(Scan(counts, axis=EnergyAxis(0.02, 0.0, 1024), name="panel"), folder / "scan.h5")
    return folder / "scan.h5"


def fresh_environment(home: Path) -> dict[str, str]:
    environment = {key: value for key, value in os.environ.items() if key in {"PATH", "PYTHONPATH", "SYSTEMROOT"}}
    places = {f"XDG_{name}_HOME": str(home / name.lower()) for name in ("CACHE", "CONFIG", "DATA", "STATE")}
    more = {"OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "TMPDIR": str(home)}
    return {**environment, **places, **more, "HOME": str(home), "USERPROFILE": str(home)}


def left_in(home: Path) -> list[str]:
    files = [str(path.relative_to(home)) for path in home.rglob("*") if not path.is_dir()]
    return [name for name in files if "matplotlib" not in name]


@pytest.mark.robust
def test_identify_asks_nobody_and_leaves_nothing_behind(tmp_path: Path) -> None:
    """Sockets are refused, and those who ask for one are taken down."""
    scan(tmp_path)
    home = tmp_path / "home"
    home.mkdir()
    command = ["identify", "scan.h5", "--out", "RESULT", "--no-calibrate", "--quiet", str(tmp_path / "asked.json")]
    done = subprocess.run(
        [sys.executable, "-c", REFUSING, *command],
        cwd=tmp_path,
        env=fresh_environment(home),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "asked.json").read_text()) == []
    assert left_in(home) == []
    files = {path.name for path in tmp_path.iterdir()}
    assert files == {"scan.h5", "home", "RESULT", "asked.json"}


def silently(folder: Path, *command: str) -> dict[str, Any]:
    """Run a command in a network of its own; skip where the system does not let us."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rnm", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this system does not let us make a network of our own (unshare -rnm)")
    done = subprocess.run(
        [unshare, "-rnm", sys.executable, str(SILENCE), str(folder), *command],
        capture_output=True,
        text=True,
        timeout=300,
        check=True,
    )
    answer = dict(json.loads(done.stdout))
    assert answer["control"] > 0, "a look-up is not seen: the measure itself does not work"
    return answer


@pytest.mark.robust
def test_identify_looks_up_no_name(tmp_path: Path) -> None:
    """Libraries written in C are seen, too."""
    scan(tmp_path)
    command = ("-m", "underpaint", "identify", "scan.h5", "--out", "RESULT", "--no-calibrate", "--quiet")
    answer = silently(tmp_path, sys.executable, *command)
    assert answer["code"] == 0, answer["words"]
    assert answer["queries"] == []
    assert [name for name in answer["files"] if "matplotlib" not in name] == []


def test_no_process_that_runs_a_network_keeps_a_device_id(tmp_path: Path) -> None:
    """Neither this process, nor one that another begins by spawning, as workers are."""
    code = """
import multiprocessing as m
from underpaint.pigments.predict import open_model
def ask(_): return open_model("xu2022", threads=1).card.name
if __name__ == "__main__":
    with m.get_context("spawn").Pool(1) as pool:
        assert pool.map(ask, [0]) == [ask(0)]
"""
    home = tmp_path / "home"
    home.mkdir()
    (tmp_path / "work.py").write_text(code)
    subprocess.run([sys.executable, tmp_path / "work.py"], env=fresh_environment(home), check=True, timeout=600)
    assert left_in(home) == []


def test_the_variable_is_set_before_onnxruntime_comes(tmp_path: Path) -> None:
    code = (
        "import sys, os, underpaint; assert 'onnxruntime' not in sys.modules; import underpaint.pigments.predict; "
        "assert os.environ['ORT_DISABLE_TELEMETRY'] == '1'"
    )
    home = tmp_path / "home"
    home.mkdir()
    subprocess.run([sys.executable, "-c", code], env=fresh_environment(home), check=True, timeout=600)
