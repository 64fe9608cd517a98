"""A scan of any size, through the real commands: `python benchmarks/scan.py --pixels N --json FILE`.

A virtual panel of N x N pixels, 2048 channels, uint16, is simulated into compressed HDF5. `identify --no-elements`,
`identify` and `elements` run on it, each in a separate process whose peak memory and stages are reported; then element
maps compared with PyMca's fast linear fit, on one array in memory and with the same line families; what one spectrum
costs, part by part, on one thread; how time grows with the pixels (--growth); how long `info` and `--help` take.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import dask.array as da
import numpy as np
import psutil
from matplotlib.figure import Figure
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from underpaint.data import EnergyAxis, Scan
from underpaint.data.rebin import apply_rebin, rebin_matrix
from underpaint.display.plot import save_png
from underpaint.display.plot.figure import TEXT_SIZE, new_figure
from underpaint.elements import fit_elements, known_families, plan_all_families, prepare_fit, unlikeness
from underpaint.io import load, save_scan, survey
from underpaint.physics.forward import emit, render
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.pigments.predict import open_model, plan_answers
from underpaint.pipeline.blocks import BlockWork
from underpaint.runtime.files import atomic_write
from underpaint.simulate import PanelSettings, make_panel
from underpaint.simulate.instrument_inputs import conditions_of

N_CHANNEL, GAIN_KEV = 2048, 0.02
COUNTS = 30_000.0
BLOCK_ROWS = 8
CORES = 2
IN_MEMORY_PIXELS = 65_536
CLEAR_VARIANCE = 100.0
"""Of a map, over its mean squared uncertainty."""
TARGETS = {"identify_per_s": 10_000, "elements_ratio": 3.0, "elements_correlation": 0.99, "peak_mb": 1500}
RUN = """
import json, sys, time
from underpaint.pipeline.plan import Settings
from underpaint.pipeline.run import elements_to_folder, identify_to_folder
which, source, out, options = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
begun, stages, last = time.perf_counter(), {}, [None, 0.0]
def step(what, done, every):
    now = time.perf_counter()
    if last[0] is not None and what != last[0]:
        stages[last[0]] = now - last[1]
    if what != last[0]:
        last[:] = [what, now]
run = {"identify": identify_to_folder, "elements": elements_to_folder}[which]
run(source, out, Settings(**options), progress=step)
stages[last[0]] = time.perf_counter() - last[1]
peak = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(json.dumps({"stages_s": stages, "peak_mb": int(peak[0]) / 1024}))
"""


def main() -> None:
    """Measure, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pixels", type=int, default=1000, help="rows, and columns")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument(
        "--growth", type=int, nargs="*", default=[], help="other numbers of rows, for the growth of time"
    )
    parser.add_argument("--picture", type=Path, help="draw time against pixels")
    parser.add_argument("--keep", type=Path, help="folder in which the scans stay, or are found")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        place = options.keep or Path(temporary)
        place.mkdir(parents=True, exist_ok=True)
        for figures in measured(place, options.pixels, options.growth):
            if options.json is not None:
                with atomic_write(options.json) as part:
                    part.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=1))
    if options.picture is not None:
        save_png(picture(figures["scaling"]), options.picture)


def measured(place: Path, side: int, growth: list[int]) -> Iterator[dict[str, Any]]:
    """Yield the record, with more entries after each step."""
    scan = make_scan(place, side)
    figures: dict[str, Any] = {
        "pixels": [side, side],
        "channels": N_CHANNEL,
        "counts_a_pixel": COUNTS,
        "file_mb": round(scan.stat().st_size / 2**20),
        "cube_mb": round(2 * side * side * N_CHANNEL / 2**20),
        "cores": CORES,
        "targets": TARGETS,
        "load_average_before": psutil.getloadavg()[0],
    }
    with other_work() as load_times:
        without_elements = command("identify", scan, place, {"elements": False})
    # Of the processor's time alone, were both cores always busy: which other load does not change.
    by_processor = round(side * side * CORES / without_elements["processor_seconds"])
    figures |= {"identify_per_s": per_s(side, without_elements), "identify_per_s_by_processor_time": by_processor}
    figures |= {
        "identify": without_elements,
        "peak_mb": without_elements["peak_mb"],
        "cores_taken_by_other_work": load_times["mean"],
    }
    yield figures
    times = {side * side: without_elements}
    for n_pixel_other in growth:
        times[n_pixel_other * n_pixel_other] = command(
            "identify", make_scan(place, n_pixel_other), place, {"elements": False}
        )
    figures["scaling"] = {
        str(n_pixel): {
            "seconds": seconds["seconds"],
            "processor_seconds": seconds["processor_seconds"],
            "of_blocks_s": seconds["stages_s"]["Identifying pigments"],
        }
        for n_pixel, seconds in sorted(times.items())
    }
    yield figures
    figures |= compare_pymca(scan)
    yield figures
    figures["microseconds_a_spectrum_on_one_thread"] = parts(scan)
    figures |= {"info_s": info_seconds(scan), "help_s": help_seconds()}
    yield figures
    for name, which, options in (
        ("elements_command", "elements", {"model": "none"}),
        ("identify_with_elements", "identify", {}),
    ):
        run = command(which, scan, place, options)
        figures |= {f"{name}_per_s": per_s(side, run), name: run, "peak_mb": max(figures["peak_mb"], run["peak_mb"])}
        figures["load_average_after"] = psutil.getloadavg()[0]
        yield figures


def make_scan(place: Path, side: int) -> Path:
    """Simulate a scan of ``side`` x ``side`` pixels, unless it exists: strips of paint, and noise of each pixel."""
    path = place / f"scan_{side}.h5"
    if path.is_file():
        return path
    panel = make_panel(PanelSettings(recipe="fig7", cell_pixels=4, counts=COUNTS, perturb=False))
    machine = _machine()
    axis = EnergyAxis(machine.detector.gain_kev, machine.detector.zero_kev, N_CHANNEL)
    expected = np.asarray(render(emit(panel.stratigraphies, machine), machine.detector, axis), dtype=np.float64)
    expected *= COUNTS / expected.sum(axis=1).mean()
    cube = expected.reshape(*panel.scan.shape[:2], N_CHANNEL)
    rows, columns = (np.arange(side) * size // side for size in cube.shape[:2])

    def noisy(block_info: Any = None) -> NDArray[np.uint16]:
        (first, last), *_ = block_info[None]["array-location"]
        rng = np.random.default_rng([side, first])
        return rng.poisson(cube[rows[first:last]][:, columns]).astype(np.uint16)

    chunks = ((BLOCK_ROWS,) * (side // BLOCK_ROWS) + ((side % BLOCK_ROWS,) if side % BLOCK_ROWS else ()), (side,))
    counts = da.map_blocks(noisy, chunks=(*chunks, (N_CHANNEL,)), dtype=np.uint16, meta=np.empty((0, 0, 0), np.uint16))
    save_scan(Scan(counts, axis=axis, name=path.stem, step_mm=(0.5, 0.5)), path)
    return path


def _machine() -> Instrument:
    elio = load_instrument("elio")
    detector = elio.detector.model_copy(update={"gain_kev": GAIN_KEV, "n_channel": N_CHANNEL})
    return elio.model_copy(update={"detector": detector})


def command(which: str, scan: Path, place: Path, options: dict[str, Any]) -> dict[str, Any]:
    """Run a command in a process of its own; return seconds from start to end, stages, peak memory and cores used."""
    with tempfile.TemporaryDirectory(dir=place) as folder:
        arguments = [sys.executable, "-c", RUN, which, str(scan), str(Path(folder) / "out"), json.dumps(options)]
        begin = time.perf_counter()
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        output = process.stdout.read() if process.stdout is not None else ""
        # its own mark of most memory: that of wait4 begins with what this process holds
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begin
        if status:
            raise SystemExit(f"{which} failed with {status}")
        size = sum(file.stat().st_size for file in (Path(folder) / "out").rglob("*") if file.is_file())
    report = json.loads(output)
    return {
        "seconds": round(seconds, 2),
        "processor_seconds": round(used.ru_utime + used.ru_stime, 2),
        "peak_mb": round(report["peak_mb"]),
        "results_mb": round(size / 2**20),
        "stages_s": {name: round(file, 2) for name, file in report["stages_s"].items()},
    }


def per_s(side: int, run: dict[str, Any]) -> int:
    """Return spectra a second, from the start of the process to its end."""
    return round(side * side / float(run["seconds"]))


def compare_pymca(path: Path) -> dict[str, Any]:
    """Return spectra a second of both engines on one array in memory, and how their maps correlate."""
    scan = load(path)
    n_row = max(IN_MEMORY_PIXELS // scan.shape[1], 1)
    counts = scan.counts[:: max(scan.shape[0] // n_row, 1)][:n_row].compute()
    scan_in_memory = Scan(da.from_array(counts, chunks=(max(2048 // counts.shape[1], 1), -1, -1)), axis=scan.axis)
    machine = _machine()
    axis, summary = scan_in_memory.require_axis(), survey(scan_in_memory)
    plan = partial(prepare_fit, summary, axis, instrument=machine)
    same = plan().names
    # Families are given to both; ours still finds sums, ratios and weights, PyMca's configuration is ready.
    fast, ours = timed(lambda: fit_elements(scan_in_memory, families=same, instrument=machine))
    fit = plan(families=same, engine="pymca")
    slow, result = timed(lambda: fit(counts))
    theirs = fit.results(result, None)
    correlation, clear = {}, []
    for name in same:
        correlation[name] = round(float(np.corrcoef(ours[name].ravel(), theirs[name].ravel())[0, 1]), 4)
        if ours[name].var() > CLEAR_VARIANCE * np.mean(ours.map("area_sigma", name) ** 2):
            clear.append(name)
    n_pixel = scan_in_memory.n_pixel
    return {
        "in_memory_pixels": n_pixel,
        "elements_per_s": round(n_pixel / fast),
        "pymca_per_s": round(n_pixel / slow),
        "elements_ratio": round(slow / fast, 2),
        # Of maps whose spread is not counting noise, which no two fits share: there more than 0.99 is possible.
        "elements_correlation": min(correlation[name] for name in clear),
        "elements_correlation_of": clear,
        "elements_correlation_by_family": correlation,
        "families": list(same),
    }


def parts(path: Path) -> dict[str, float]:
    """Return the time of each part of the work on a spectrum, microseconds, on one thread."""
    scan = load(path)
    axis = scan.require_axis()
    rows, columns = next(scan.blocks())
    counts = scan.counts[rows, columns].compute()
    summary, machine = survey(Scan(counts, axis=axis)), _machine()
    n_pixel = counts.shape[0] * counts.shape[1]
    model = open_model("default", threads=1)
    matrix = rebin_matrix(axis, model.card.axis.edges_kev)
    rebinned = apply_rebin(counts.reshape(-1, N_CHANNEL), matrix)
    recorded = np.repeat(np.array([[axis.start_kev, axis.stop_kev]], np.float32), n_pixel, axis=0)
    plan = prepare_fit(summary, axis, instrument=machine)
    fit = plan_all_families(summary, axis, machine)
    unlike, flat = unlikeness(known_families(), fit, axis, machine), counts.reshape(-1, N_CHANNEL)
    pigments = BlockWork(axis, answer_plan=plan_answers(axis, model, instrument=conditions_of(machine)))
    full_block = slice(0, counts.shape[0]), slice(0, counts.shape[1])
    steps: dict[str, Callable[[], Any]] = {
        "reading (unpacking)": scan.counts[rows, columns].compute,
        "sum and maximum": lambda: survey(Scan(counts, axis=axis)),
        "rebinning": lambda: apply_rebin(counts.reshape(-1, N_CHANNEL), matrix),
        "network": lambda: model(rebinned, recorded),
        "pigments, all": lambda: pigments(counts, None, full_block, summary.pixel_counts),
        "elements": lambda: plan(counts),
        "elements, and peaks of no family": lambda: unlike(fit(flat)),
    }
    with threadpool_limits(1):
        return {name: round(1e6 * min(timed(step)[0] for _ in range(3)) / n_pixel, 2) for name, step in steps.items()}


def info_seconds(path: Path) -> float:
    """Return how long `underpaint info` takes, the best of three."""
    return min(timed(lambda: _called("info", str(path)))[0] for _ in range(3))


def help_seconds() -> float:
    """Return how long `underpaint --help` takes, the best of five."""
    return min(timed(lambda: _called("--help"))[0] for _ in range(5))


def _called(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "underpaint", *arguments], check=True, stdout=subprocess.DEVNULL)


def timed(action: Callable[[], Any]) -> tuple[float, Any]:
    """Return seconds, and what the action returns."""
    begin = time.perf_counter()
    result = action()
    return round(time.perf_counter() - begin, 4), result


@contextmanager
def other_work() -> Iterator[dict[str, float]]:
    """Return how many cores other processes used meanwhile; filled in at the end."""
    times: dict[str, float] = {}
    begin, before = time.perf_counter(), _busy()
    cpu_before = _cpu_seconds()
    yield times
    seconds = time.perf_counter() - begin
    times["mean"] = round(max(_busy() - before - (_cpu_seconds() - cpu_before), 0.0) / seconds, 2)


def _busy() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _cpu_seconds() -> float:
    times = psutil.Process().cpu_times()
    return float(times.user + times.system + times.children_user + times.children_system)


def picture(scaling: dict[str, dict[str, float]]) -> Figure:
    """Draw time against pixels, by the clock and by the processor, and what a pixel takes."""
    pixels = np.array([float(n_pixel) for n_pixel in scaling])
    figure = new_figure(7.2, 3.0)
    left, right = figure.subplots(1, 2)
    for key, words, color in (
        ("seconds", "clock, start to end", "#0072b2"),
        ("processor_seconds", "processor (both cores)", "#d55e00"),
    ):
        seconds = np.array([n_pixel[key] for n_pixel in scaling.values()])
        left.loglog(pixels, seconds, "o-", color=color, label=words)
        right.loglog(pixels, 1e6 * seconds / pixels, "o-", color=color, label=words)
    left.loglog(pixels, seconds[-1] * pixels / pixels[-1], "--", color="#808080", label="in proportion")
    right.axhline(1e6 / TARGETS["identify_per_s"], color="#808080", linestyle=":", label="10,000 spectra/s")
    left.set_ylabel("identify --no-elements (s)", fontsize=TEXT_SIZE)
    right.set_ylabel("time per pixel (µs)", fontsize=TEXT_SIZE)
    for axes in (left, right):
        axes.set_xlabel("pixels", fontsize=TEXT_SIZE)
        axes.tick_params(labelsize=TEXT_SIZE)
        axes.legend(frameon=False, fontsize=TEXT_SIZE)
    figure.tight_layout()
    return figure


if __name__ == "__main__":
    main()
