"""How many spectra a second a trained network answers."""

import time

import numpy as np

from underpaint.pigments.predict import OnnxModel


def spectra_per_second(model: OnnxModel, seconds: float, *, block: int = 2048) -> float:
    """Run a model for some seconds on blocks of spectra that are in memory already."""
    axis = model.card.axis
    counts = np.random.default_rng(0).poisson(20.0, (block, axis.n_bin)).astype(np.float32)
    recorded = np.tile(np.array([[axis.start_kev, axis.stop_kev]], dtype=np.float32), (block, 1))
    model(counts, recorded)
    start, n_spectra = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        model(counts, recorded)
        n_spectra += block
    return n_spectra / (time.perf_counter() - start)
