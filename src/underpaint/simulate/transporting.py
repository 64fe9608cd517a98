"""First stage of a library: draw stratigraphies and an instrument, and follow the photons."""

import numpy as np

from underpaint.physics.forward import emit
from underpaint.physics.instrument import load_instrument
from underpaint.simulate.draw import RandomStratigraphies, StratigraphySampler
from underpaint.simulate.jobs import LibrarySettings, chunk_size, job_instrument, job_palette
from underpaint.simulate.photons import Photons, make_photons
from underpaint.simulate.randomise import random_instrument
from underpaint.simulate.recipes import paper_grid, paper_stratigraphy

PAPER_INSTRUMENT = "elio"


def transport_chunk(settings: LibrarySettings, index: int) -> Photons:
    """Return the photons of a chunk; its random numbers depend on the seed and the chunk's index alone."""
    return _paper(settings, index) if settings.kind == "paper" else _random(settings, index)


def _random(settings: LibrarySettings, index: int) -> Photons:
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(index, 0)))
    instrument = job_instrument(settings, index) or random_instrument(rng)
    sampler = StratigraphySampler(
        RandomStratigraphies(
            palette=job_palette(settings),
            max_paint_layers=settings.max_paint_layers,
            max_pigments_per_layer=settings.max_pigments_per_layer,
        )
    )
    stratigraphies = [sampler.draw(rng) for _ in range(chunk_size(settings, index))]
    return make_photons(stratigraphies, instrument, emit(stratigraphies, instrument, single=True))


def _paper(settings: LibrarySettings, index: int) -> Photons:
    grid = paper_grid()[index * settings.chunk : (index + 1) * settings.chunk]
    stratigraphies = [paper_stratigraphy(*entry) for entry in grid]
    instrument = job_instrument(settings, index) or load_instrument(PAPER_INSTRUMENT)
    return make_photons(stratigraphies, instrument, emit(stratigraphies, instrument, single=True))
