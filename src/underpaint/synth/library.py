"""Training libraries: simulated spectra with labels, on disk, reproducible for any number of workers."""

import json
import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import h5py
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from underpaint.atomic import family_lines
from underpaint.errors import OutputError
from underpaint.forward import Emission, emit, render
from underpaint.instrument import Detector, Instrument, load_instrument
from underpaint.sample import load_palette
from underpaint.spectrum import DEFAULT_NETWORK_AXIS, XU_NETWORK_AXIS, EnergyAxis
from underpaint.synth.draw import RandomStratigraphies, StratigraphySampler
from underpaint.synth.labels import visibility
from underpaint.synth.outputs import Outputs, outputs_for
from underpaint.synth.randomise import random_detector, random_instrument
from underpaint.synth.recipes import paper_classes, paper_grid, paper_stratigraphy

Progress = Callable[[int, int], None]
"""Called with (chunks done, chunks in all)."""

BLANK_FAMILIES = (("Ar", "K"), ("Ni", "K"), ("Cu", "K"), ("Fe", "K"), ("Zr", "K"), ("Au", "L"), ("W", "L"), ("Zn", "K"))
BLANK_CHANCE = (0.7, 0.08, 0.08, 0.08, 0.05, 0.03, 0.03, 0.03)


class LibrarySettings(BaseModel):
    """A job for ``underpaint simulate``."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["random", "paper"] = Field("random", description="random paintings, or the 16,224 spectra of Xu 2022")
    n_stratigraphies: int = Field(20000, ge=1, description="how many stratigraphies to draw (random)")
    renders: int = Field(3, ge=1, le=32, description="detectors and energy axes that each is seen with (random)")
    palette: str = Field("easel_15_to_20", description="palette by name or TOML file (random)")
    instrument: str | None = Field(None, description="preset or file; None: random instruments; paper: elio")
    max_paint_layers: int = Field(3, ge=1, le=6)
    max_pigments_per_layer: int = Field(4, ge=1, le=8)
    chunk: int = Field(128, ge=1, description="stratigraphies per chunk; each chunk has one tube and geometry")
    seed: int = 0


@dataclass(frozen=True)
class Chunk:
    """Labelled spectra of one chunk; the arrays' first axis is the spectrum."""

    expected: NDArray[np.float32]
    recorded: NDArray[np.float32]
    labels: NDArray[np.uint8]
    counts_needed: NDArray[np.float32]
    source: NDArray[np.int32]


def simulate_library(
    settings: LibrarySettings, out: str | Path, *, workers: int | None = None, progress: Progress | None = None
) -> Path:
    """Simulate a training library; a call that was interrupted is resumed.

    Parameters
    ----------
    settings : LibrarySettings
        What to draw.
    out : path
        HDF5 file with ``expected`` (n, n_bin) noise-free spectra that sum to one over the recorded range,
        ``recorded`` (n, 2) start and stop, keV, ``labels`` and ``counts_needed`` (n, n_name), ``source`` (n,).
    workers : int, optional
        Processes; None: one per core. The result does not depend on it.

    Raises
    ------
    OutputError
        The file exists and is complete, or was begun with other settings.
    """
    target = Path(out)
    part = target.with_name(target.name + ".part")
    if target.exists():
        message = f"Cannot write {target}: it exists. Delete it or choose another name."
        raise OutputError(message)
    outputs, axis = _outputs(settings), _axis(settings)
    total = n_chunk(settings)
    with h5py.File(part, "a") as file:
        done = _open(file, settings, outputs, axis, part)
        for index, chunk in _chunks(settings, range(done, total), workers):
            _append(file, chunk, index + 1)
            if progress is not None:
                progress(index + 1, total)
    part.replace(target)
    return target


def n_chunk(settings: LibrarySettings) -> int:
    """Return the number of chunks of a job."""
    size = len(paper_grid()) if settings.kind == "paper" else settings.n_stratigraphies
    return -(-size // settings.chunk)


def make_chunk(settings: LibrarySettings, index: int) -> Chunk:
    """Simulate one chunk; its random numbers depend on the seed and the chunk's index alone."""
    return _paper_chunk(settings, index) if settings.kind == "paper" else _random_chunk(settings, index)


def _random_chunk(settings: LibrarySettings, index: int) -> Chunk:
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(index,)))
    instrument = random_instrument(rng) if settings.instrument is None else load_instrument(settings.instrument)
    outputs, sampler = _outputs(settings), StratigraphySampler(_sampler(settings))
    size = min(settings.chunk, settings.n_stratigraphies - index * settings.chunk)
    stratigraphies = [sampler.draw(rng) for _ in range(size)]
    emission = emit(stratigraphies, instrument)
    pieces = []
    for _ in range(settings.renders):
        detector = random_detector(rng) if settings.instrument is None else instrument.detector
        pieces.append(_render_one(rng, stratigraphies, _scatter_jitter(rng, emission), detector, outputs, instrument))
    source = np.tile(np.arange(size, dtype=np.int32) + index * settings.chunk, settings.renders)
    expected, recorded, labels, needed = (np.concatenate(arrays) for arrays in zip(*pieces, strict=True))
    return Chunk(expected, recorded, labels, needed, source)


def _render_one(
    rng: np.random.Generator,
    stratigraphies: list[Any],
    emission: Emission,
    detector: Detector,
    outputs: Outputs,
    instrument: Instrument,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.uint8], NDArray[np.float32]]:
    axis = DEFAULT_NETWORK_AXIS
    recorded = _random_range(rng, instrument.tube.voltage_kv)
    seen = _miscalibrated(rng, axis)
    expected = np.asarray(render(emission, detector, seen), dtype=np.float64)
    expected = expected + _blank(rng, expected.sum(axis=1), seen, detector)
    centre = axis.energy_kev
    expected[:, (centre < recorded[0]) | (centre > recorded[1])] = 0.0
    labels, needed = visibility(stratigraphies, emission, expected, outputs, detector, seen)
    expected /= expected.sum(axis=1, keepdims=True)
    ranges = np.tile(np.asarray(recorded, dtype=np.float32), (len(expected), 1))
    return expected.astype(np.float32), ranges, labels, needed


def _scatter_jitter(rng: np.random.Generator, emission: Emission) -> Emission:
    """Scale both kinds of scatter: higher orders and collimators change them by tens of per cent."""
    common = np.exp(rng.uniform(np.log(0.6), np.log(4.0)))
    coherent, compton = common * rng.lognormal(0.0, 0.3), common * rng.lognormal(0.0, 0.3)
    shifted = {name: getattr(emission, name) * compton for name in ("compton", "multiple")}
    return replace(emission, coherent=emission.coherent * coherent, **shifted)


def _miscalibrated(rng: np.random.Generator, axis: EnergyAxis) -> EnergyAxis:
    """Return the true energies of the bins of an axis that was calibrated a little wrongly."""
    scale, shift = 1.0 + rng.uniform(-0.003, 0.003), rng.uniform(-0.02, 0.02)
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
                sigma = np.sqrt(detector.noise_fwhm_kev**2 / 5.545 + 3.85e-3 * detector.fano * line)
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


def _paper_chunk(settings: LibrarySettings, index: int) -> Chunk:
    grid = paper_grid()[index * settings.chunk : (index + 1) * settings.chunk]
    stratigraphies = [paper_stratigraphy(*entry) for entry in grid]
    instrument = load_instrument(settings.instrument or "elio")
    emission = emit(stratigraphies, instrument)
    outputs, axis = _outputs(settings), _axis(settings)
    full = np.asarray(render(emission, instrument.detector, axis), dtype=np.float64)
    labels, needed = visibility(stratigraphies, emission, full, outputs, instrument.detector, axis)
    full /= full.sum(axis=1, keepdims=True)
    recorded = np.tile(np.asarray([axis.start_kev, axis.stop_kev], dtype=np.float32), (len(grid), 1))
    source = np.arange(len(grid), dtype=np.int32) + index * settings.chunk
    return Chunk(full.astype(np.float32), recorded, labels, needed, source)


def _outputs(settings: LibrarySettings) -> Outputs:
    if settings.kind == "paper":
        return outputs_for(paper_classes(), with_groups=False)
    return outputs_for(load_palette(settings.palette).pigments)


def _axis(settings: LibrarySettings) -> EnergyAxis:
    return XU_NETWORK_AXIS if settings.kind == "paper" else DEFAULT_NETWORK_AXIS


def _sampler(settings: LibrarySettings) -> RandomStratigraphies:
    return RandomStratigraphies(
        palette=tuple(load_palette(settings.palette).pigments),
        max_paint_layers=settings.max_paint_layers,
        max_pigments_per_layer=settings.max_pigments_per_layer,
    )


def _chunks(settings: LibrarySettings, indices: range, workers: int | None) -> Iterator[tuple[int, Chunk]]:
    workers = workers or os.cpu_count() or 1
    if workers == 1:
        yield from ((index, make_chunk(settings, index)) for index in indices)
        return
    # spawn: a fork would copy the threads' locks of BLAS and HDF5 in whatever state they are
    pool = ProcessPoolExecutor(workers, mp_context=get_context("spawn"), initializer=_prepare_worker)
    try:
        pending: list[tuple[int, Any]] = []
        for index in indices:
            pending.append((index, pool.submit(make_chunk, settings, index)))
            if len(pending) >= 2 * workers:
                first, future = pending.pop(0)
                yield first, future.result()
        for first, future in pending:
            yield first, future.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _prepare_worker() -> None:
    os.environ["OMP_NUM_THREADS"] = "1"
    # Ctrl-C reaches the whole group of processes; a worker that dies of it holding the queue's lock would hang the pool
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _open(file: h5py.File, settings: LibrarySettings, outputs: Outputs, axis: EnergyAxis, path: Path) -> int:
    config = settings.model_dump_json()
    if "config" in file.attrs:
        if file.attrs["config"] != config:
            message = f"Cannot resume {path}: it was begun with other settings. Delete it or choose another name."
            raise OutputError(message)
        return int(file.attrs["chunks_done"])
    from underpaint import __version__  # not at the top: the package's door imports this room

    for name, value in (
        ("names", outputs.names),
        ("kinds", outputs.kinds),
        ("groups", outputs.groups),
        ("labels_for_people", outputs.labels),
        ("elements", outputs.elements),
        ("versions", {"underpaint": __version__, "numpy": np.__version__, "h5py": h5py.__version__}),
    ):
        file.attrs[name] = json.dumps(value)
    file.attrs.update(
        config=config,
        seed=settings.seed,
        start_kev=axis.start_kev,
        bin_kev=axis.gain_kev,
        n_bin=axis.n_channel,
        chunks_done=0,
        spectra_done=0,
    )
    n_name = len(outputs.names)
    for name, width, kind in (
        ("expected", axis.n_channel, "f4"),
        ("recorded", 2, "f4"),
        ("labels", n_name, "u1"),
        ("counts_needed", n_name, "f4"),
    ):
        file.create_dataset(name, (0, width), kind, maxshape=(None, width), chunks=(256, width))
    file.create_dataset("source", (0,), "i4", maxshape=(None,), chunks=(4096,))
    return 0


def _append(file: h5py.File, chunk: Chunk, chunks_done: int) -> None:
    start = int(file.attrs["spectra_done"])
    stop = start + len(chunk.expected)
    for name in ("expected", "recorded", "labels", "counts_needed", "source"):
        dataset = file[name]
        dataset.resize(stop, axis=0)
        dataset[start:stop] = getattr(chunk, name)
    file.attrs["spectra_done"] = stop
    file.attrs["chunks_done"] = chunks_done
    file.flush()
