"""Second stage of a library: photons seen with a detector, as labelled spectra on a network's axis."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from io import BytesIO

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.physics.atomic import family_lines
from underpaint.physics.forward import Emission, emit, pile_up, render, resolution_sigma
from underpaint.physics.instrument import Detector, load_instrument
from underpaint.simulate.draw import RandomStratigraphies, StratigraphySampler
from underpaint.simulate.instrument_inputs import instrument_inputs
from underpaint.simulate.jobs import (
    LibrarySettings,
    chunk_size,
    job_axis,
    job_detector,
    job_instrument,
    job_outputs,
    job_palette,
)
from underpaint.simulate.labels import surface_shares, surface_thickness_um, visibility
from underpaint.simulate.photons import Photons, make_photons
from underpaint.simulate.randomise import log_uniform, random_detector, random_instrument
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


BLANK_FAMILIES = (("Ar", "K"), ("Ni", "K"), ("Cu", "K"), ("Fe", "K"), ("Zr", "K"), ("Au", "L"), ("W", "L"), ("Zn", "K"))
BLANK_CHANCE = (0.7, 0.08, 0.08, 0.08, 0.05, 0.03, 0.03, 0.03)
PILE_UP_CHANCE = 0.5
PULSE_PAIR_US = 0.5
"""A usual fast channel; what counts is its product with the rate, which is drawn."""


@dataclass(frozen=True)
class Chunk:
    """Labelled spectra of one chunk; the arrays' first axis is the spectrum.

    Beside what :func:`~.simulate_library` describes: thickness (um) and shares by mass of the pigments
    of the uppermost paint, and what a network may be told of the instrument.
    """

    expected: NDArray[np.float32]
    recorded: NDArray[np.float32]
    labels: NDArray[np.uint8]
    counts_needed: NDArray[np.float32]
    source: NDArray[np.int32]
    surface_um: NDArray[np.float32]
    surface_share: NDArray[np.float32]
    instrument: NDArray[np.float32]


@dataclass(frozen=True)
class _View:
    """The stratigraphies of a chunk as one detector sees them; arrays as in a chunk."""

    expected: NDArray[np.float32]
    recorded: NDArray[np.float32]
    labels: NDArray[np.uint8]
    counts_needed: NDArray[np.float32]
    detector: Detector


def chunk_to_bytes(chunk: Chunk) -> bytes:
    """Return a chunk as the bytes of an HDF5 file."""
    stream = BytesIO()
    with h5py.File(stream, "w") as file:
        for field in fields(Chunk):
            file.create_dataset(field.name, data=getattr(chunk, field.name))
    return stream.getvalue()


def render_chunk(settings: LibrarySettings, index: int, photons: Photons) -> Chunk:
    """Return the spectra of a chunk; its random numbers depend on the seed of rendering and the index alone."""
    if settings.kind == "paper":
        return _chunk(settings, index, photons, [_as_it_is(settings, photons)])
    seed = settings.seed if settings.render_seed is None else settings.render_seed
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, 1)))
    return _chunk(settings, index, photons, [_varied(rng, settings, photons) for _ in range(settings.renders)])


def _chunk(settings: LibrarySettings, index: int, photons: Photons, views: Sequence[_View]) -> Chunk:
    samples, n_view, outputs = photons.stratigraphies, len(views), job_outputs(settings)
    told = [np.tile(instrument_inputs(photons.instrument, own.detector), (len(samples), 1)) for own in views]
    return Chunk(
        expected=np.concatenate([own.expected for own in views]),
        recorded=np.concatenate([own.recorded for own in views]),
        labels=np.concatenate([own.labels for own in views]),
        counts_needed=np.concatenate([own.counts_needed for own in views]),
        source=np.tile(np.arange(len(samples), dtype=np.int32) + index * settings.chunk, n_view),
        surface_um=np.tile(surface_thickness_um(samples), n_view),
        surface_share=np.tile(surface_shares(samples, outputs), (n_view, 1)),
        instrument=np.concatenate(told),
    )


def _as_it_is(settings: LibrarySettings, photons: Photons) -> _View:
    axis, detector = job_axis(settings), job_detector(settings) or photons.instrument.detector
    full = np.asarray(render(photons.emission, detector, axis), dtype=np.float64)
    labels, needed = visibility(photons.stratigraphies, photons.emission, full, job_outputs(settings), detector, axis)
    full /= full.sum(axis=1, keepdims=True)
    recorded = np.tile(np.asarray([axis.start_kev, axis.stop_kev], dtype=np.float32), (len(full), 1))
    return _View(full.astype(np.float32), recorded, labels, needed, detector)


def _varied(rng: np.random.Generator, settings: LibrarySettings, photons: Photons) -> _View:
    """Return the spectra under one draw of everything that may vary."""
    axis, outputs = job_axis(settings), job_outputs(settings)
    detector = _detector(rng, settings, photons)
    emission = _scatter_jitter(rng, photons.emission)
    recorded = _random_range(rng, photons.instrument.tube.voltage_kv)
    seen = _miscalibrated(rng, axis, settings)
    expected = np.asarray(render(emission, detector, seen), dtype=np.float64)
    expected = expected + _blank(rng, expected.sum(axis=1), seen, detector)
    expected = _piled_up(rng, expected, detector, seen)
    centre = axis.energy_kev
    expected[:, (centre < recorded[0]) | (centre > recorded[1])] = 0.0
    labels, needed = visibility(photons.stratigraphies, emission, expected, outputs, detector, seen)
    expected /= expected.sum(axis=1, keepdims=True)
    ranges = np.tile(np.asarray(recorded, dtype=np.float32), (len(expected), 1))
    return _View(expected.astype(np.float32), ranges, labels, needed, detector)


def _detector(rng: np.random.Generator, settings: LibrarySettings, photons: Photons) -> Detector:
    given = job_detector(settings)
    if given is not None:
        return given
    return random_detector(rng) if settings.instrument is None else photons.instrument.detector


def _scatter_jitter(rng: np.random.Generator, emission: Emission) -> Emission:
    """Scale both kinds of scatter: rough surfaces, air and collimators change them by tens of per cent."""
    common = log_uniform(rng, 0.6, 2.5)
    coherent, compton = common * rng.lognormal(0.0, 0.3), common * rng.lognormal(0.0, 0.3)
    shifted = {name: getattr(emission, name) * compton for name in ("compton", "multiple")}
    return replace(emission, coherent=emission.coherent * coherent, **shifted)


def _piled_up(
    rng: np.random.Generator, expected: NDArray[np.float64], detector: Detector, axis: EnergyAxis
) -> NDArray[np.float64]:
    """Return spectra with pile-up in half of the cases: 0.01 to 3 % of the photons meet another."""
    if rng.random() > PILE_UP_CHANCE:
        return expected
    rate = log_uniform(rng, 1e-4, 0.03) * 1e6 / PULSE_PAIR_US
    slow = detector.model_copy(update={"pulse_pair_us": PULSE_PAIR_US})
    return np.asarray(pile_up(expected, rate, slow, axis))


def _miscalibrated(rng: np.random.Generator, axis: EnergyAxis, settings: LibrarySettings) -> EnergyAxis:
    """Return the true energies of the bins of an axis that was calibrated a little wrongly."""
    scale = 1.0 + rng.uniform(-settings.gain_error, settings.gain_error)
    shift = rng.uniform(-settings.zero_error_kev, settings.zero_error_kev)
    return EnergyAxis(axis.gain_kev * scale, axis.zero_kev * scale + shift, axis.n_channel)


def _random_range(rng: np.random.Generator, voltage_kv: float) -> tuple[float, float]:
    start = 1.0 if rng.random() < 0.3 else float(rng.uniform(1.0, 2.8))
    stop = 41.0 if rng.random() < 0.5 else float(rng.uniform(min(18.0, voltage_kv), 41.0))
    return start, stop


def _blank(
    rng: np.random.Generator, totals: NDArray[np.float64], axis: EnergyAxis, detector: Detector
) -> NDArray[np.float64]:
    """Add what the instrument itself brings: argon of the air, lines of its metal parts, a smooth background."""
    energy = axis.energy_kev
    shape = np.zeros(axis.n_channel)
    for (symbol, shell), chance in zip(BLANK_FAMILIES, BLANK_CHANCE, strict=True):
        if rng.random() < chance:
            level = 10.0 ** rng.uniform(-4.5, -2.5)
            for line, ratio in zip(*family_lines(symbol, shell, 40.0), strict=True):
                sigma = resolution_sigma(detector, np.asarray(line))
                peak = np.exp(-0.5 * ((energy - line) / sigma) ** 2) * axis.gain_kev / (sigma * np.sqrt(2 * np.pi))
                shape += level * ratio * peak
    return np.asarray(
        totals[:, None] * (shape * rng.lognormal(0, 0.3, size=(len(totals), 1)) + _smooth(rng, len(totals), energy))
    )


def _smooth(rng: np.random.Generator, count_: int, energy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n, n_channel) smooth backgrounds, 0.1 to 50 % of the counts: air, collimators, incomplete charge."""
    position = energy / 40.0
    slope, bend = rng.normal(0.0, 2.0, size=(2, count_, 1))
    shape = np.exp(slope * position + bend * position**2)
    level = 10.0 ** rng.uniform(-3.0, -0.3, size=(count_, 1))
    return np.asarray(level * shape / shape.sum(axis=1, keepdims=True))
