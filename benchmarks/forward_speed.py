"""How many spectra a second the forward model simulates, enhancement included.

    python benchmarks/forward_speed.py [--workers 2] [--batch 512] [--json FILE]

Random stratigraphies of the default training set (one to three paint layers of one to four pigments over ground and
support) under the preset ``elio``, from layers to Poisson counts in 4096 channels. The atomic tables are
read in a first batch that is not timed.
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np

from underpaint.forward import count, emit, render
from underpaint.instrument import Instrument, load_instrument
from underpaint.sample import Stratigraphy, load_palette
from underpaint.synth.draw import RandomStratigraphies, StratigraphySampler

PALETTE = "easel_15_to_20"
COUNTS = 1e5


def draw(n_sample: int, seed: int) -> list[Stratigraphy]:
    """Draw stratigraphies as for training."""
    sampler = StratigraphySampler(RandomStratigraphies(palette=load_palette(PALETTE).pigments))
    rng = np.random.default_rng(seed)
    return [sampler.draw(rng) for _ in range(n_sample)]


def simulate(stratigraphies: list[Stratigraphy], instrument: Instrument, workers: int) -> None:
    """Go from layers to counts."""
    emission = emit(stratigraphies, instrument, secondary=True, workers=workers)
    expected = np.asarray(render(emission, instrument.detector))
    scaled = expected * (COUNTS / expected.sum(axis=1, keepdims=True))
    count(scaled, rng=np.random.default_rng(0))


def measure(workers: int, batch: int, repeats: int) -> dict[str, float | int]:
    """Time some batches; the tables are read before."""
    instrument = load_instrument("elio")
    simulate(draw(batch, seed=0), instrument, workers)
    batches = [draw(batch, seed=index + 1) for index in range(repeats)]
    start = time.perf_counter()
    for stratigraphies in batches:
        simulate(stratigraphies, instrument, workers)
    seconds = time.perf_counter() - start
    return {"spectra_per_s": round(batch * repeats / seconds), "workers": workers, "batch": batch, "channels": 4096}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=4)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    result = measure(arguments.workers, arguments.batch, arguments.repeats)
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
