"""How fast the forward model is, how it grows, and its memory, compared with fisx on the same samples.

    python benchmarks/forward.py --json FILE [--spectra 512] [--fisx 1] [--cuda] [--out PICTURE.png]

Random easel paintings (three paint layers of one to four pigments over a ground and mostly a support, 40 kV Rh tube):
secondary, tertiary, first and higher orders of scatter, and the detector, to counts in 4,096 channels. Two processes
share the samples, as when a library is made; atomic tables are ready beforehand. "Single" is single precision, which
libraries are made in. `threads_ratio` is the speed of two processes with the threads that the program gives them, over
that with OMP, OpenBLAS and MKL held to one thread by hand: the median over pairs of child processes in turn. fisx,
where installed, computes primary and secondary of some of the same samples under the same exciting energies: minutes
each. The paper's set is its 16,224 stratigraphies (Xu 2022).
"""

import argparse
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table

from underpaint.physics.forward import (
    Detail,
    Stack,
    emit_parts,
    render,
    setting_for,
    source_spectrum,
    stack_layers,
    transport,
)
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.physics.materials import Layer, Stratigraphy, load_palette
from underpaint.runtime.executors import make_executor
from underpaint.simulate.draw import TRACE_ELEMENTS, RandomStratigraphies, StratigraphySampler
from underpaint.simulate.recipes import paper_grid, paper_stratigraphy

CORES = 2
REPEATS = 3
ROUNDS = 5
"""Of each of the two settings of threads, in turn."""
BY_HAND = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
INSTRUMENT = Instrument()
PART = 128
"""Samples that are computed and rendered at once."""
LINED_ELEMENTS = (*TRACE_ELEMENTS, "Hg", "Cd", "Sb", "Se", "Br", "Mo")
"""For the growth with lines: from four of them to all."""
PARTS = {
    "primary": Detail(orders=1, scatter=False),
    "secondary": Detail(orders=2, scatter=False),
    "tertiary": Detail(orders=3, scatter=False),
    "everything": Detail(),
}


def main() -> None:
    """Measure, print tables, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--spectra", type=int, default=512)
    parser.add_argument("--fisx", type=int, default=0, help="samples that fisx computes too, about two minutes each")
    parser.add_argument("--cuda", action="store_true", help="measure the transport on a GPU, too (needs torch)")
    parser.add_argument("--out", type=Path, help="picture of the growth with samples, layers and lines")
    parser.add_argument("--speed-only", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.speed_only:
        print(in_processes(arguments.spectra, paper=False)["spectra_per_s"])
        return
    load = os.getloadavg()[0]
    result: dict[str, Any] = {"one_core": one_core(arguments.spectra)}
    result |= in_processes(arguments.spectra)
    result |= threads_ratio(arguments.spectra)
    result |= {"scaling": scaling(arguments.spectra), "peak_mb": peak_mb()}
    result |= {"n_spectra": arguments.spectra, "load_before": load, "cores": os.cpu_count(), "numpy": np.__version__}
    result |= against_fisx(draw(arguments.spectra)[: arguments.fisx], result["spectra_per_s"])
    result |= traffic(samples=draw(64))
    if arguments.cuda:
        result["cuda"] = on_cuda(arguments.spectra)
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(result, indent=1), "utf-8")
    if arguments.out is not None:
        picture(result["scaling"]).savefig(arguments.out, dpi=120)
    show(result)


@lru_cache(maxsize=1)
def draw(count: int) -> list[Stratigraphy]:
    """Return stratigraphies with three paint layers each."""
    sampler = StratigraphySampler(RandomStratigraphies(palette=load_palette().pigments))
    rng = np.random.default_rng(20220411)
    samples: list[Stratigraphy] = []
    while len(samples) < count:
        sample = sampler.draw(rng)
        if sum(bool(layer.pigments) for layer in sample.layers) == 4:
            samples.append(sample)
    return samples


def simulate(samples: Sequence[Stratigraphy], detail: Detail, *, single: bool, rendered: bool) -> int:
    """Compute samples, part by part as everywhere in the package; the arrays are not kept."""
    n_done = 0
    for emission in emit_parts(samples, INSTRUMENT, part=PART, detail=detail, single=single):
        n_done += len(render(emission, INSTRUMENT.detector) if rendered else emission.coherent)
    return n_done


def one_core(count: int) -> dict[str, float]:
    """Return spectra per second of one process: what each step of the physics costs."""
    rates = {}
    for name, detail in PARTS.items():
        rates[name] = _rate(draw(count), detail, single=False, rendered=False)
    rates["everything_and_detector"] = _rate(draw(count), Detail(), single=False, rendered=True)
    rates["single"] = _rate(draw(count), Detail(), single=True, rendered=False)
    rates["single_and_detector"] = _rate(draw(count), Detail(), single=True, rendered=True)
    return rates


def in_processes(count: int, *, paper: bool = True) -> dict[str, float]:
    """Return what two processes reach together: spectra per second, and the seconds of the paper's set."""
    with make_executor(CORES) as pool:
        rates = {}
        for name, single in (
            (("spectra_per_s_double", False), ("spectra_per_s", True)) if paper else (("spectra_per_s", True),)
        ):
            seconds = []
            for _ in range(REPEATS + 1):
                start = time.perf_counter()
                jobs = [pool.submit(_share, count, part, single) for part in range(CORES)]
                n_done = sum(job.result() for job in jobs)
                seconds.append(time.perf_counter() - start)
            # the first round draws the samples and fills the caches
            rates[name] = n_done / min(seconds[1:])
        if paper:
            start = time.perf_counter()
            jobs = [pool.submit(_paper_share, part) for part in range(CORES)]
            rates["paper_set_spectra"] = sum(job.result() for job in jobs)
            rates["paper_set_seconds"] = time.perf_counter() - start
    return rates


def threads_ratio(count: int) -> dict[str, Any]:
    """Return the speed of two processes as installed, over that with one thread each set by hand, and all runs."""
    installed = {name: value for name, value in os.environ.items() if name not in BY_HAND}
    environments = {"as_installed": installed, "hand_set": installed | dict.fromkeys(BY_HAND, "1")}
    rates: dict[str, list[float]] = {name: [] for name in environments}
    command = [sys.executable, __file__, "--speed-only", "--spectra", str(count)]
    for number in range(ROUNDS):
        # each is first in turn, so that a load that grows or falls favours neither
        for name in list(environments)[:: 1 - 2 * (number % 2)]:
            completed = subprocess.run(command, env=environments[name], check=True, capture_output=True, text=True)
            rates[name].append(float(completed.stdout))
    pairs = zip(rates["as_installed"], rates["hand_set"], strict=True)
    return {"threads_ratio": statistics.median(free / limited for free, limited in pairs), "threads_runs": rates}


def scaling(count: int) -> dict[str, dict[str, float]]:
    """Return time by number of samples, layers and lines."""
    samples = draw(count)
    by_layers = {}
    for layers in (1, 2, 4, 8):
        stacks = [Stratigraphy((sample.layers * 2)[:layers]) for sample in samples[:PART]]
        by_layers[str(layers)] = 1e3 * _seconds(stacks, Detail()) / len(stacks)
    sizes = [size for size in (32, 64, 128, 256, 512, 1024) if size <= count]
    by_lines = {}
    for number in (4, 8, 16, len(LINED_ELEMENTS)):
        stacks = [_made_of(LINED_ELEMENTS[:number], sample) for sample in samples[:PART]]
        by_lines[str(_n_line(stacks[0]))] = 1e3 * _seconds(stacks, Detail()) / len(stacks)
    return {
        "seconds_by_samples": {str(size): _seconds(samples[:size], Detail()) for size in sizes},
        "ms_by_layers": by_layers,
        "ms_by_lines": by_lines,
    }


def picture(growth: dict[str, dict[str, float]]) -> Figure:
    """Return time against samples, layers and lines; straight lines from nothing are proportional."""
    figure = Figure(figsize=(9, 2.8), layout="constrained")
    titles = {
        "seconds_by_samples": ("samples", "s"),
        "ms_by_layers": ("layers", "ms a spectrum"),
        "ms_by_lines": ("lines", "ms a spectrum"),
    }
    for axes, (name, (below, right)) in zip(figure.subplots(1, 3), titles.items(), strict=True):
        x = np.asarray([float(key) for key in growth[name]])
        y = np.asarray(list(growth[name].values()))
        axes.plot(x, y, "o-", color="#0072b2")
        axes.set(xlabel=below, ylabel=right, xlim=(0, 1.05 * x.max()), ylim=(0, 1.15 * y.max()))
    return figure


def peak_mb() -> dict[str, float]:
    """Return the peak memory of a fresh process that computes and renders a thousand and sixteen thousand spectra."""
    peaks = {}
    for count in (1000, 16000):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            peaks[str(count)] = pool.submit(_memory, count).result()
    return peaks


def against_fisx(samples: Sequence[Stratigraphy], our_rate: float) -> dict[str, float]:
    """Return seconds a spectrum of fisx, and how many of ours fit in; empty without fisx."""
    try:
        from fisx import XRF, DataDir, Elements, Material
    except ImportError:
        return {}
    if not samples:
        return {}
    elements = Elements(DataDir.FISX_DATA_DIR)
    elements.initializeAsPyMca()
    energy, weight, _ = source_spectrum(INSTRUMENT)
    seconds = []
    for number, sample in enumerate(samples):
        xrf = XRF()
        xrf.setBeam(energy.tolist(), weight.tolist())
        xrf.setGeometry(INSTRUMENT.geometry.incidence_angle_deg, INSTRUMENT.geometry.takeoff_angle_deg)
        layers, families = [], set()
        for level, layer in enumerate(sample.layers):
            # the name must not read as a chemical formula
            name = f"layer_{number}_{level}"
            material = Material(name, layer.density, layer.thickness_um * 1e-4)
            material.setComposition(dict(layer.mass_fractions))
            elements.addMaterial(material)
            layers.append([name, layer.density, layer.thickness_um * 1e-4])
            families |= {
                f"{element} {shell}" for element in layer.mass_fractions for shell in "KLM" if _shines(element, shell)
            }
        xrf.setSample(layers)
        start = time.perf_counter()
        xrf.getMultilayerFluorescence(sorted(families), elements, secondary=1)
        seconds.append(time.perf_counter() - start)
    mean = float(np.mean(seconds))
    return {"fisx_seconds_per_spectrum": mean, "fisx_spectra": len(seconds), "ratio_fisx": mean * our_rate}


def traffic(samples: Sequence[Stratigraphy]) -> dict[str, float]:
    """Return the work per spectrum: memory written and arithmetic, as torch counts them; or nothing."""
    try:
        import torch
        from torch.profiler import ProfilerActivity, profile
    except ImportError:
        return {}
    setting = setting_for(INSTRUMENT, sorted(set().union(*map(_elements, samples))))
    stack = stack_layers(samples, setting.elements)
    fractions, areal = (torch.asarray(array, dtype=torch.float32) for array in (stack.fractions, stack.areal_density))
    single = Stack(fractions, areal, stack.elements)
    moved_setting = setting.to(single.areal_density)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, with_flops=True) as profiler:
        transport(single, moved_setting, batch_size=len(samples))
    events = [event for event in profiler.key_averages() if event.key != "[memory]"]
    written = sum(max(event.self_cpu_memory_usage, 0) for event in events)
    return {
        "written_mb_per_spectrum": written / len(samples) / 1e6,
        "mflop_per_spectrum": sum(event.flops for event in events) / len(samples) / 1e6,
    }


def on_cuda(count: int) -> dict[str, float]:
    """Return spectra per second of the transport on a GPU, single precision, by samples at once."""
    import torch

    samples = draw(count)
    setting = setting_for(INSTRUMENT, sorted(set().union(*map(_elements, samples))))
    stack = stack_layers(samples, setting.elements)
    rates = {}
    for size in (256, 1024, 4096):
        rows = np.arange(size) % count
        moved = Stack(
            torch.asarray(stack.fractions[rows], dtype=torch.float32, device="cuda"),
            torch.asarray(stack.areal_density[rows], dtype=torch.float32, device="cuda"),
            stack.elements,
        )
        moved_setting = setting.to(moved.areal_density)
        for _ in range(REPEATS):
            torch.cuda.synchronize()
            start = time.perf_counter()
            transport(moved, moved_setting, batch_size=size)
            torch.cuda.synchronize()
            rates[str(size)] = size / (time.perf_counter() - start)
    return rates


def show(result: dict[str, Any]) -> None:
    """Print the rates, the growth and the ratio to fisx."""
    console = Console()
    table = Table("one core", "spectra a second", title=f"forward model, {result['n_spectra']} samples")
    for name, rate in result["one_core"].items():
        table.add_row(name.replace("_", " "), f"{rate:.0f}")
    console.print(table)
    console.print(
        f"two processes, everything, with detector: {result['spectra_per_s']:.0f} spectra a second "
        f"({result['spectra_per_s_double']:.0f} in double precision)"
    )
    console.print(f"as installed over threads set by hand: {result['threads_ratio']:.3f}")
    console.print(f"the paper's {result['paper_set_spectra']} spectra: {result['paper_set_seconds']:.1f} s")
    console.print(f"peak memory, MB, by spectra: {result['peak_mb']}")
    console.print(f"load before: {result['load_before']:.1f} on {result['cores']} cores")
    for name, values in result["scaling"].items():
        console.print(name.replace("_", " "), {key: round(value, 3) for key, value in values.items()})
    if "ratio_fisx" in result:
        seconds, ratio = result["fisx_seconds_per_spectrum"], result["ratio_fisx"]
        console.print(f"fisx: {seconds:.2f} s a spectrum; ours on two cores are {ratio:.0f} in that time")


def _seconds(samples: Sequence[Stratigraphy], detail: Detail, *, single: bool = True, rendered: bool = False) -> float:
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        simulate(samples, detail, single=single, rendered=rendered)
        seconds.append(time.perf_counter() - start)
    return min(seconds)


def _rate(samples: Sequence[Stratigraphy], detail: Detail, *, single: bool, rendered: bool) -> float:
    return len(samples) / _seconds(samples, detail, single=single, rendered=rendered)


def _share(count: int, part: int, single: bool) -> int:
    return simulate(draw(count)[part::CORES], Detail(), single=single, rendered=True)


def _paper_share(part: int) -> int:
    instrument = load_instrument("elio")
    samples = [paper_stratigraphy(*entry) for entry in paper_grid()[part::CORES]]
    n_done = 0
    for emission in emit_parts(samples, instrument, part=4 * PART, single=True):
        n_done += len(render(emission, instrument.detector))
    return n_done


def _memory(count: int) -> float:
    samples = draw(200)
    simulate([samples[row % 200] for row in range(count)], Detail(), single=True, rendered=True)
    # kilobytes on Linux
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0


def _elements(sample: Stratigraphy) -> set[str]:
    return {name for layer in sample.layers for name in layer.mass_fractions}


def _made_of(elements: Sequence[str], sample: Stratigraphy) -> Stratigraphy:
    """Return a sample with the same layers, each of equal shares of these elements."""
    shares = dict.fromkeys(elements, 1.0 / len(elements))
    return Stratigraphy(tuple(Layer(shares, layer.density, layer.thickness_um) for layer in sample.layers))


def _n_line(sample: Stratigraphy) -> int:
    return len(next(iter(emit_parts([sample], INSTRUMENT, part=1))).lines.energy_kev)


def _shines(element: str, shell: str) -> bool:
    from underpaint.physics.atomic import family_lines

    return bool(family_lines(element, shell, INSTRUMENT.tube.voltage_kv)[0].size)


if __name__ == "__main__":
    main()
