"""How long a user waits before anything happens: `python benchmarks/start.py --json FILE`.

Each command runs in a process of its own, in the environment as it is; the best of several runs counts. The scans are
the virtual panel of `make demo` and a virtual scan of 1000 x 1000 pixels, 2048 channels (``benchmarks/scan.py``).
Shares are what the stages of `identify` report of themselves; ``imports`` is what passes before the first of them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from scan import made
from underpaint.io import save_scan
from underpaint.simulate import PanelSettings, make_panel

IDENTIFY = """
import sys, time
begun = float(sys.argv[3])
stages = []
def note(what, done, whole):
    if not stages or stages[-1][0] != what:
        stages.append((what, time.time()))
import underpaint
underpaint.identify_to_folder(sys.argv[1], sys.argv[2], progress=note)
stages.append(("", time.time()))
import json
seconds = {"imports": stages[0][1] - begun}
for (what, start), (_, end) in zip(stages, stages[1:]):
    seconds[what] = seconds.get(what, 0.0) + end - start
print(json.dumps(seconds))
"""
LOAD = "import sys, underpaint; underpaint.load(sys.argv[1])"
LIMITS_S = {"help_s": 0.15, "load_s": 0.72, "info_4gb_s": 2.0, "identify_demo_s": 7.0}


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--keep", type=Path, help="folder in which the scans stay, and are looked for")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = arguments.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        figures = measure(place, Path(temporary))
    print(json.dumps(figures, indent=1))
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def measure(place: Path, temporary: Path) -> dict[str, Any]:
    """Return seconds of each command, the shares of `identify`, and what else the machine did."""
    panel, large = place / "panel.h5", made(place, 1000)
    if not panel.is_file():
        save_scan(make_panel(PanelSettings()).scan, panel)
    before = psutil.getloadavg()[0]
    runs = [identify(panel, temporary / f"result_{number}") for number in range(3)]
    shares = min(runs, key=lambda run: run["whole"])
    return {
        "help_s": best(5, "-m", "underpaint", "--help"),
        "load_s": best(5, "-c", LOAD, str(panel)),
        "info_4gb_s": best(3, "-m", "underpaint", "info", str(large)),
        "identify_demo_s": shares.pop("whole"),
        "identify_demo_shares_s": shares,
        "limits_s": LIMITS_S,
        "load_average_before": before,
    }


def best(n_run: int, *arguments: str) -> float:
    """Return the seconds of the fastest of several runs of a Python command."""
    seconds = []
    for _ in range(n_run):
        begin = time.perf_counter()
        subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
        seconds.append(time.perf_counter() - begin)
    return round(min(seconds), 3)


def identify(panel: Path, out: Path) -> dict[str, float]:
    """Return the seconds of each stage of `identify`, and of the whole process."""
    begin = time.time()
    command = [sys.executable, "-c", IDENTIFY, str(panel), str(out), str(begin)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    seconds = json.loads(output) | {"whole": time.time() - begin}
    return {name: round(value, 3) for name, value in seconds.items()}


if __name__ == "__main__":
    main()
