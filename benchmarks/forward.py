"""How many spectra a second the forward model computes, on one core and on two.

    OMP_NUM_THREADS=1 python benchmarks/forward.py --json FILE [--spectra 256] [--fisx 1]

Random easel paintings (three paint layers of one to four pigments over a ground and mostly a support, 40 kV Rh tube)
with enhancement and scatter. "emit" is the transport, "emit + render" ends at counts per channel of 4,096. Threads
share one interpreter: the steps between numpy's loops do not overlap, so processes are measured too, each with its
own atomic tables, ready beforehand. numpy must be held to one thread, or its threads compete with these. fisx, where
installed, computes some of the same samples under the same exciting energies: minutes each.
"""

import argparse
import json
import os
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from underpaint.forward import emit, render, source_spectrum
from underpaint.instrument import Instrument
from underpaint.sample import Stratigraphy, load_palette
from underpaint.synth.draw import RandomStratigraphies, StratigraphySampler

CORES = 2
REPEATS = 3
INSTRUMENT = Instrument()


def main() -> None:
    """Measure, print a table, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--spectra", type=int, default=256)
    parser.add_argument("--fisx", type=int, default=0, help="samples that fisx computes too, about two minutes each")
    arguments = parser.parse_args()
    samples = draw(arguments.spectra)
    load = os.getloadavg()[0]
    result: dict[str, Any] = {
        "one_core": _rates(samples),
        "two_threads": _rates(samples, threads=CORES),
        "two_processes": in_processes(arguments.spectra),
    }
    result["spectra_per_s"] = max(result[name]["emit_and_render"] for name in ("two_threads", "two_processes"))
    result |= {"n_spectra": arguments.spectra, "load_before": load, "cores": os.cpu_count()}
    result |= against_fisx(samples[: arguments.fisx], result["one_core"]["emit"])
    arguments.json.write_text(json.dumps(result, indent=1), "utf-8")
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


def simulate(samples: Sequence[Stratigraphy], *, rendered: bool, threads: int = 1) -> int:
    """Compute a batch; the arrays stay in the process, as they do when a library is made."""
    emission = emit(samples, INSTRUMENT, workers=threads)
    return int(render(emission, INSTRUMENT.detector).shape[0]) if rendered else len(emission.coherent)


def in_processes(count: int) -> dict[str, float]:
    """Return spectra per second of processes that share the samples."""
    with ProcessPoolExecutor(CORES, mp_context=get_context("spawn")) as pool:
        rates = {}
        for name, rendered in (("emit", False), ("emit_and_render", True)):
            seconds = []
            for _ in range(REPEATS + 1):
                start = time.perf_counter()
                jobs = [pool.submit(_simulate_part, count, part, rendered) for part in range(CORES)]
                done = sum(job.result() for job in jobs)
                seconds.append(time.perf_counter() - start)
            # the first round draws the samples and fills the caches
            rates[name] = done / min(seconds[1:])
    return rates


def _simulate_part(count: int, part: int, rendered: bool) -> int:
    return simulate(draw(count)[part::CORES], rendered=rendered)


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
    return {
        "fisx_s_per_spectrum": float(np.mean(seconds)),
        "times_fisx_on_one_core": float(np.mean(seconds)) * our_rate,
    }


def show(result: dict[str, Any]) -> None:
    """Print the rates and the ratio to fisx."""
    table = Table("spectra a second", "emit", "emit + render", title=f"forward model, {result['n_spectra']} samples")
    for name in ("one_core", "two_threads", "two_processes"):
        rates = result[name]
        table.add_row(name.replace("_", " "), f"{rates['emit']:.0f}", f"{rates['emit_and_render']:.0f}")
    console = Console()
    console.print(table)
    console.print(f"load before: {result['load_before']:.1f} on {result['cores']} cores")
    if "fisx_s_per_spectrum" in result:
        seconds, ratio = result["fisx_s_per_spectrum"], result["times_fisx_on_one_core"]
        console.print(f"fisx: {seconds:.2f} s a spectrum; one core of ours is {ratio:.0f} times as fast")


def _rates(samples: Sequence[Stratigraphy], threads: int = 1) -> dict[str, float]:
    rates = {}
    for name, rendered in (("emit", False), ("emit_and_render", True)):
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            simulate(samples, rendered=rendered, threads=threads)
            seconds.append(time.perf_counter() - start)
        rates[name] = len(samples) / min(seconds)
    return rates


def _shines(element: str, shell: str) -> bool:
    from underpaint.atomic import family_lines

    return bool(family_lines(element, shell, INSTRUMENT.tube.voltage_kv)[0].size)


if __name__ == "__main__":
    main()
