"""How fast the viewer opens a large result and answers a click: `python benchmarks/viewer.py --json FILE`.

A result of 60 maps of 1000 x 1000 pixels and its scan are made in a temporary folder, the real server is started, and
the page's requests are sent through HTTP. With --browser the page is opened in Chromium, and its clicks are timed as
well: also the first and a further map of an energy window, the refit of a region, and the embedding of the pixels of
a smaller result (``EMBEDDED_SHAPE``). The cache of window maps lies in the temporary folder. The processor time of
server and client together is also reported, since the clock includes other load of the machine.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import psutil
from numpy.typing import NDArray

from underpaint.data.maps import Results
from underpaint.display.viewer import serve
from underpaint.io import write_results
from underpaint.physics.materials import library
from underpaint.runtime.files import atomic_write

N_GROUP, N_MEMBER, N_ELEMENT = 20, 25, 15
N_CHANNEL = 1024
N_CLICK = 40
OPEN_LIMIT_S, CLICK_LIMIT_MS = 3.0, 200.0
FIRST_WINDOW_LIMIT_S, WINDOW_LIMIT_MS, REFIT_LIMIT_MS, EMBEDDING_LIMIT_S = 30.0, 1000.0, 1000.0, 10.0
EMBEDDED_SHAPE = (60, 120)
N_WINDOW, N_REFIT = 5, 5


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--pixels", type=int, default=1000, help="rows and columns")
    parser.add_argument("--browser", action="store_true", help="drive Chromium, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        os.environ["XDG_CACHE_HOME"] = str(Path(place) / "cache")
        make_scan(Path(place) / "scan.h5", options.pixels)
        folder = make_result(Path(place) / "result", Path(place) / "scan.h5", (options.pixels, options.pixels))
        figures = {
            "pixels": [options.pixels, options.pixels],
            "maps": N_GROUP + N_MEMBER + N_ELEMENT,
            "channels": N_CHANNEL,
            "result_mb": round((folder / "results.h5").stat().st_size / 2**20),
            "limits": {
                "open_s": OPEN_LIMIT_S,
                "click_ms": CLICK_LIMIT_MS,
                "first_window_s": FIRST_WINDOW_LIMIT_S,
                "window_map_ms": WINDOW_LIMIT_MS,
                "refit_ms": REFIT_LIMIT_MS,
                "embedding_s": EMBEDDING_LIMIT_S,
            },
            "load_average": psutil.getloadavg()[0],
            **measure_server(folder, options.pixels),
        }
        if options.browser:
            small = make_result(Path(place) / "small", Path(place) / "small.h5", EMBEDDED_SHAPE)
            figures["browser"] = measure_browser(folder, options.pixels, Path(place) / "profile", small)
            (cached,) = (Path(place) / "cache" / "underpaint" / "windows").glob("*.h5")
            figures["browser"]["cache_share_of_scan"] = round(
                cached.stat().st_size / (Path(place) / "scan.h5").stat().st_size, 3
            )
    print(json.dumps(figures, indent=1))
    if options.json is not None:
        with atomic_write(options.json) as part:
            part.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


def make_scan(path: Path, n_pixel: int) -> None:
    """Write a cube of Poisson counts, in chunks of a few pixels, with little in memory at a time."""
    rng = np.random.default_rng(5)
    block = rng.poisson(expected_counts(), (1, n_pixel, N_CHANNEL)).astype(np.uint8)
    with h5py.File(path, "w") as file:
        data = file.create_dataset(
            "counts", (n_pixel, n_pixel, N_CHANNEL), np.uint8, chunks=(1, 16, N_CHANNEL), compression="lzf"
        )
        for row in range(n_pixel):
            data[row] = np.roll(block, row, axis=1)[0]


def expected_counts() -> NDArray[np.float64]:
    """Return the (n_channel,) mean counts of a pixel: a line of iron on a flat background."""
    energy_kev = 0.04 * np.arange(N_CHANNEL)
    return np.asarray(0.05 + 8.0 * np.exp(-0.5 * ((energy_kev - 6.4) / 0.08) ** 2))


def make_result(folder: Path, scan: Path, shape: tuple[int, int]) -> Path:
    """Write maps of smooth shapes and noise, as a large painting has them."""
    rng = np.random.default_rng(6)
    rows, columns = np.indices(shape, dtype=np.float32) / max(shape)
    groups, members = (
        [entry.name for entry in library().groups][:N_GROUP],
        [entry.name for entry in library()][:N_MEMBER],
    )
    names = [*groups, *members]
    probability = np.empty((*shape, len(names)), np.float32)
    for index in range(len(names)):
        waves = np.sin(7 * rows * (1 + index % 5) + index) * np.cos(5 * columns * (1 + index % 3))
        probability[:, :, index] = 1 / (1 + np.exp(-6 * waves + rng.normal(0, 0.5, waves.shape)))
    families = ("Ca_K", "Cr_K", "Mn_K", "Fe_K", "Co_K", "Cu_K", "Zn_K", "Hg_L", "Pb_L", "Sn_L", "Ti_K", "K_K", "Ba_L",
                "Sr_K", "As_K")[:N_ELEMENT]  # fmt: skip
    area = rng.poisson(40 + 400 * probability[:, :, : len(families)]).astype(np.float32)
    pigments = Results.of_pigments(
        names=tuple(names),
        probability=probability,
        kinds=("group",) * len(groups) + ("member",) * len(members),
        groups=tuple((groups[index % len(groups)],) for index in range(len(names))),
        labels=tuple(name.replace("_", " ") for name in names),
        elements=tuple((families[index % len(families)],) for index in range(len(names))),
        step_mm=(0.5, 0.5),
    )
    elements = Results.of_lines(families, area, np.sqrt(area + 20), step_mm=(0.5, 0.5))
    expected = expected_counts()
    spectra = {"sum_counts": shape[0] * shape[1] * expected, "max_counts": 2 * expected + 3}
    summary: dict[str, Any] = {"name": "large", "energy_kev": 0.04 * np.arange(N_CHANNEL), **spectra}
    summary["settings"] = {"source": str(scan)}
    write_results(folder, replace(pigments | elements, summary=summary))
    return folder


def measure_server(folder: Path, n_pixel: int) -> dict[str, Any]:
    """Time the requests of the page: until its first map, and for a pixel of all maps and of the scan."""
    process = psutil.Process()
    before = process.memory_info().rss
    began, began_cpu = time.perf_counter(), time.process_time()
    with serve(folder, scan=str(folder.with_name("scan.h5"))) as server:
        for path in ("", "viewer.js", "about", "colors.json", "map?map=0"):
            ask(server.address + path)
        open_s, open_cpu_s = time.perf_counter() - began, time.process_time() - began_cpu
        while json.loads(ask(server.address + "scan"))["state"] == "opening":
            time.sleep(0.05)
        ask(server.address + "lines")
        rng = np.random.default_rng(7)
        clicks, clicks_cpu = [], []
        for row, column in rng.integers(0, n_pixel, (N_CLICK, 2)):
            at, at_cpu = time.perf_counter(), time.process_time()
            answer = json.loads(ask(f"{server.address}pixel?row={row}&column={column}"))
            clicks.append(1e3 * (time.perf_counter() - at))
            clicks_cpu.append(1e3 * (time.process_time() - at_cpu))
            if answer["spectrum"] is None:
                sys.exit("The scan was not read.")
        maps = []
        for index in range(0, N_GROUP + N_MEMBER + N_ELEMENT, 6):
            at = time.perf_counter()
            ask(f"{server.address}map?map={index}")
            maps.append(1e3 * (time.perf_counter() - at))
        peak = process.memory_info().rss
    return {
        "open_s": round(open_s, 3),
        "open_cpu_s": round(open_cpu_s, 3),
        "click_ms": round(statistics.median(clicks), 1),
        "click_cpu_ms": round(statistics.median(clicks_cpu), 1),
        "click_ms_worst": round(max(clicks), 1),
        "another_map_ms": round(statistics.median(maps), 1),
        "peak_mb": round((peak - before) / 2**20),
    }


def measure_browser(folder: Path, n_pixel: int, profile: Path, small: Path) -> dict[str, float]:
    """Time the page in Chromium: from its address to its first map on the screen, and from what is done to its answer.

    The embedding is that of the pixels of a smaller result.
    """
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={profile}")
    with serve(folder, scan=str(folder.with_name("scan.h5"))) as server:
        opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
        try:
            opened.set_script_timeout(120)
            began = time.perf_counter()
            opened.get(server.address)
            until = "const done = arguments[0]; (function look() { %s ? done(%s) : setTimeout(look, 5); })()"
            opened.execute_async_script(until % ("document.body.dataset.ready", "1"))
            open_s = time.perf_counter() - began
            opened.execute_async_script(
                until % ("document.body.dataset.ready === 'all' && window.viewer.about.scan.state === 'ready'", "1")
            )
            clicks = []
            for row, column in np.random.default_rng(8).integers(0, n_pixel, (N_CLICK // 2, 2)).tolist():
                clicks.append(
                    opened.execute_async_script(
                        "const done = arguments[2], at = performance.now();"
                        "window.viewer.choosePixel(arguments[0], arguments[1])"
                        ".then(() => requestAnimationFrame(() => done(performance.now() - at)))",
                        row,
                        column,
                    )
                )
            done = "window.viewer.computed.window(arguments[0], arguments[1])"
            first_window_ms = timed(opened, done, 6.2, 6.6)
            windows = [timed(opened, done, 6.2 + 0.1 * step, 7.0 + 0.1 * step) for step in range(1, N_WINDOW + 1)]
            opened.execute_script(
                "const corners = [[10, 10], [10, 110], [110, 110], [110, 10]];"
                "window.viewer.regions = [{ name: 'a', corners, runs: [] }];"
                "window.viewer.fitPanel.what = 'region 0'; document.getElementById('fit').hidden = false"
            )
            done = "window.viewer.fitPanel.refit()"
            first_fit_ms = timed(opened, done)
            refits = [timed(opened, done) for _ in range(N_REFIT)]
            with serve(small) as other:
                opened.get(other.address)
                opened.execute_async_script(until % ("document.body.dataset.ready === 'all'", "1"))
                embedding_ms = timed(opened, "window.viewer.explore.findPlaces()")
        finally:
            opened.quit()
    return {
        "open_s": round(open_s, 3),
        "click_ms": round(statistics.median(clicks), 1),
        "first_window_s": round(first_window_ms / 1e3, 2),
        "window_map_ms": round(statistics.median(windows), 1),
        "first_fit_s": round(first_fit_ms / 1e3, 2),
        "refit_ms": round(statistics.median(refits), 1),
        "embedding_s": round(embedding_ms / 1e3, 2),
    }


def timed(opened: Any, action: str, *values: float) -> float:
    """Return how long the page takes to do something and to draw it, milliseconds."""
    script = (
        "const done = arguments[arguments.length - 1], at = performance.now();"
        f"Promise.resolve({action}).then(() => requestAnimationFrame(() => done(performance.now() - at)))"
    )
    return float(opened.execute_async_script(script, *values))


def ask(address: str) -> bytes:
    """Return what the server answers."""
    with urllib.request.urlopen(address, timeout=120) as answer:  # noqa: S310 - our own server
        return bytes(answer.read())


if __name__ == "__main__":
    main()
