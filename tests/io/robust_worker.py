"""Reads the scans that it is told of on standard input, one path a line, and says as JSON what became of each.

A process of its own, so that a crash, a hang or a flood of memory is one failed example and not the end of the tests.
"""

import json
import resource
import sys
import time
import traceback
from itertools import islice
from pathlib import Path

import numpy as np

from underpaint import io
from underpaint.errors import UnderpaintError

ADDRESS_SPACE_BEYOND = 1 * 2**30
MOST_BLOCKS = 24
MEBIBYTE = 2**20


def read_whole(location: str) -> int:
    """Read a scan as the commands do, block by block; of very many blocks the first and the last."""
    n_scan = 0
    for scan in io.load_all(location):
        counts = scan.counts
        places = [*islice(np.ndindex(*counts.numblocks), MOST_BLOCKS), tuple(count - 1 for count in counts.numblocks)]
        for place in places:
            counts.blocks[place].compute(scheduler="synchronous")
        _ = scan.live_time_s, scan.real_time_s, scan.axis, scan.present, scan.notes, str(scan.metadata)
        n_scan += 1
    io.photographs_of(location)
    return n_scan


def resident_bytes(line: str) -> int:
    """Memory of this process: VmRSS (now), VmHWM (peak since it was set back), VmSize (addresses)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return 1024 * int(next(entry for entry in status.splitlines() if entry.startswith(line)).split()[1])


def example(location: str) -> dict[str, object]:
    """Read one scan; tell what became of it and what it took."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # sets the peak back to what is held now
    before, start = resident_bytes("VmRSS"), time.process_time()
    text = ""
    try:
        outcome = "read" if read_whole(location) else "nothing"
    except UnderpaintError as error:
        outcome, text = "refused", str(error)
    except BaseException:
        outcome, text = "traceback", traceback.format_exc()
    return {
        "outcome": outcome,
        "text": text,
        "seconds": time.process_time() - start,
        "more_mb": (resident_bytes("VmHWM") - before) / MEBIBYTE,
    }


def main() -> None:
    """Answer until standard input ends; memory is bounded once a first, whole file was read."""
    for number, line in enumerate(sys.stdin):
        print(json.dumps(example(line.rstrip("\n"))), flush=True)  # noqa: T201
        if number == 0:
            now = resident_bytes("VmSize")
            resource.setrlimit(resource.RLIMIT_AS, (now + ADDRESS_SPACE_BEYOND, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
