"""Waiting time of a user at the start of each command: `python benchmarks/start.py --json FILE`.

Each command runs in a process of its own, in the environment as it is; the best of several runs counts. The scans are
the virtual panel of `make demo` and a virtual scan of 1000 x 1000 pixels, 2048 channels (``benchmarks/scan.py``).
Shares are what the stages of `identify` report of themselves; ``imports and end`` is what passes outside them.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from scan import command, help_seconds, info_seconds, make_scan, timed
from underpaint.io import save_scan
from underpaint.simulate import PanelSettings, make_panel

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
    """Return seconds of each command, the shares of `identify`, and the other load of the machine."""
    panel, large = place / "panel.h5", make_scan(place, 1000)
    if not panel.is_file():
        save_scan(make_panel(PanelSettings()).scan, panel)
    before = psutil.getloadavg()[0]
    run = min((command("identify", panel, temporary, {}) for _ in range(3)), key=lambda each: each["seconds"])
    return {
        "help_s": help_seconds(),
        "load_s": min(timed(partial(load_in_process, panel))[0] for _ in range(5)),
        "info_4gb_s": info_seconds(large),
        "identify_demo_s": run["seconds"],
        "identify_demo_shares_s": {
            "imports and end": round(run["seconds"] - sum(run["stages_s"].values()), 2),
            **run["stages_s"],
        },
        "limits_s": LIMITS_S,
        "load_average_before": before,
    }


def load_in_process(panel: Path) -> None:
    """Load a scan in a process of its own."""
    subprocess.run([sys.executable, "-c", LOAD, str(panel)], check=True)


if __name__ == "__main__":
    main()
