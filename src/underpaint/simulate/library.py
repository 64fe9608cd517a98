"""Training libraries: simulated spectra with labels, on disk, reproducible for any number and kind of workers."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from importlib.metadata import version
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.errors import OutputError
from underpaint.physics.atomic import family_lines
from underpaint.physics.forward import Emission, emit, pile_up, render, resolution_sigma
from underpaint.physics.instrument import Detector, load_instrument
from underpaint.runtime.executors import Executor, make_executor, ordered_results
from underpaint.runtime.pieces import ChunkStore, finalize_interrupted, open_chunk_store
from underpaint.runtime.progress import Progress, no_progress
from underpaint.simulate.draw import RandomStratigraphies, StratigraphySampler
from underpaint.simulate.instrument_inputs import INSTRUMENT_INPUTS, instrument_inputs
from underpaint.simulate.jobs import (
    LibrarySettings,
    chunk_size,
    job_axis,
    job_detector,
    job_instrument,
    job_outputs,
    job_palette,
    n_chunk,
    n_stratigraphies,
    resolved,
    transport_settings,
)
from underpaint.simulate.labels import (
    element_shares,
    group_names,
    lines_needed,
    materials,
    surface_shares,
    surface_thickness_um,
    visibility,
)
from underpaint.simulate.outputs import Outputs
from underpaint.simulate.photons import (
    CHUNKS,
    Photons,
    chunk_bytes,
    make_photons,
    open_photons,
    photons_from_bytes,
    photons_to_bytes,
)
from underpaint.simulate.randomise import (
    any_detector,
    any_instrument,
    log_uniform,
    random_detector,
    random_instrument,
)
from underpaint.simulate.recipes import paper_grid, paper_stratigraphy

PAPER_INSTRUMENT = "elio"


def transport_chunk(settings: LibrarySettings, index: int) -> Photons:
    """Return the photons of a chunk; its random numbers depend only on the seed and the chunk's index."""
    return _paper(settings, index) if settings.kind == "paper" else _random(settings, index)


def _random(settings: LibrarySettings, index: int) -> Photons:
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(index, 0)))
    drawn = any_instrument if settings.varied else random_instrument
    instrument = job_instrument(settings, index) or drawn(rng)
    sampler = StratigraphySampler(
        RandomStratigraphies(
            palette=job_palette(settings),
            max_paint_layers=settings.max_paint_layers,
            max_pigments_per_layer=settings.max_pigments_per_layer,
            gapless=settings.gapless,
            varied_supports=settings.varied,
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
PILE_UP, PILE_UP_VARIED = (1e-4, 0.03), (1e-4, 0.15)
"""Pile-up probability."""
SCATTER, SCATTER_VARIED = (0.6, 2.5), (0.4, 4.0)
"""Scatter over that of the forward model."""
PULSE_PAIR_US = 0.5
"""A usual fast channel; only its product with the rate, which is random, matters."""


@dataclass(frozen=True)
class Chunk:
    """Labelled spectra of one chunk; the arrays' first axis is the spectrum.

    In addition to :func:`~.simulate_library`: thickness (um) and mass fractions of the pigments of the uppermost paint,
    and the instrument conditions for networks.
    """

    expected: NDArray[np.float32]
    recorded: NDArray[np.float32]
    labels: NDArray[np.uint8]
    counts_needed: NDArray[np.float32]
    source: NDArray[np.int32]
    surface_um: NDArray[np.float32]
    surface_share: NDArray[np.float32]
    instrument: NDArray[np.float32]
    lines_needed: NDArray[np.float32]
    lines_hidden: NDArray[np.float32]
    amount: NDArray[np.float32]


@dataclass(frozen=True)
class _View:
    """The stratigraphies of a chunk measured by one detector; arrays as in a chunk."""

    expected: NDArray[np.float32]
    recorded: NDArray[np.float32]
    labels: NDArray[np.uint8]
    counts_needed: NDArray[np.float32]
    lines: tuple[NDArray[np.float32], NDArray[np.float32]]
    detector: Detector


def chunk_to_bytes(chunk: Chunk) -> bytes:
    """Return a chunk as the bytes of an HDF5 file."""
    stream = BytesIO()
    with h5py.File(stream, "w") as file:
        for field in fields(Chunk):
            file.create_dataset(field.name, data=getattr(chunk, field.name))
    return stream.getvalue()


def render_chunk(settings: LibrarySettings, index: int, photons: Photons) -> Chunk:
    """Return the spectra of a chunk; its random numbers depend only on the seed of rendering and the index."""
    if settings.kind == "paper":
        return _chunk(settings, index, photons, [_as_it_is(settings, photons)])
    seed = settings.seed if settings.render_seed is None else settings.render_seed
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, 1)))
    return _chunk(settings, index, photons, [_varied(rng, settings, photons) for _ in range(settings.renders)])


def _chunk(settings: LibrarySettings, index: int, photons: Photons, views: Sequence[_View]) -> Chunk:
    samples, n_view, outputs = photons.stratigraphies, len(views), job_outputs(settings)
    instrument_columns = [
        np.tile(instrument_inputs(photons.instrument, item.detector), (len(samples), 1)) for item in views
    ]
    return Chunk(
        expected=np.concatenate([item.expected for item in views]),
        recorded=np.concatenate([item.recorded for item in views]),
        labels=np.concatenate([item.labels for item in views]),
        counts_needed=np.concatenate([item.counts_needed for item in views]),
        source=np.tile(np.arange(len(samples), dtype=np.int32) + index * settings.chunk, n_view),
        surface_um=np.tile(surface_thickness_um(samples), n_view),
        surface_share=np.tile(surface_shares(samples, outputs), (n_view, 1)),
        instrument=np.concatenate(instrument_columns),
        lines_needed=np.concatenate([view.lines[0] for view in views]),
        lines_hidden=np.concatenate([view.lines[1] for view in views]),
        amount=np.tile(element_shares(samples, group_names(outputs.names)), (n_view, 1)),
    )


def _as_it_is(settings: LibrarySettings, photons: Photons) -> _View:
    axis, detector = job_axis(settings), job_detector(settings) or photons.instrument.detector
    full = np.asarray(render(photons.emission, detector, axis), dtype=np.float64)
    labels, needed = visibility(photons.stratigraphies, photons.emission, full, job_outputs(settings), detector, axis)
    groups = group_names(job_outputs(settings).names)
    lines = lines_needed(photons.stratigraphies, photons.emission, full, groups, detector, axis)
    full /= full.sum(axis=1, keepdims=True)
    recorded = np.tile(np.asarray([axis.start_kev, axis.stop_kev], dtype=np.float32), (len(full), 1))
    return _View(full.astype(np.float32), recorded, labels, needed, lines, detector)


def _varied(rng: np.random.Generator, settings: LibrarySettings, photons: Photons) -> _View:
    """Return the spectra under one draw of everything that may vary."""
    axis, outputs = job_axis(settings), job_outputs(settings)
    detector = _detector(rng, settings, photons)
    emission = _scatter_jitter(rng, photons.emission, SCATTER_VARIED if settings.varied else SCATTER)
    recorded = _random_range(rng, photons.instrument.highest_kev)
    assumed_axis = _miscalibrated(rng, axis, settings)
    expected = np.asarray(render(emission, detector, assumed_axis), dtype=np.float64)
    added, added_lines = _blank(rng, expected.sum(axis=1), assumed_axis, detector)
    expected = _piled_up(rng, expected + added, detector, assumed_axis, PILE_UP_VARIED if settings.varied else PILE_UP)
    centre = axis.energy_kev
    expected[:, (centre < recorded[0]) | (centre > recorded[1])] = 0.0
    labels, needed = visibility(photons.stratigraphies, emission, expected, outputs, detector, assumed_axis)
    groups = group_names(outputs.names)
    lines = lines_needed(photons.stratigraphies, emission, expected, groups, detector, assumed_axis, added_lines)
    expected /= expected.sum(axis=1, keepdims=True)
    ranges = np.tile(np.asarray(recorded, dtype=np.float32), (len(expected), 1))
    return _View(expected.astype(np.float32), ranges, labels, needed, lines, detector)


def _detector(rng: np.random.Generator, settings: LibrarySettings, photons: Photons) -> Detector:
    detector = job_detector(settings)
    if detector is not None:
        return detector
    if settings.instrument is not None:
        return photons.instrument.detector
    return any_detector(rng) if settings.varied else random_detector(rng)


def _scatter_jitter(rng: np.random.Generator, emission: Emission, most: tuple[float, float]) -> Emission:
    """Scale both kinds of scatter: rough surfaces, air and collimators change them by tens of per cent."""
    common = log_uniform(rng, *most)
    coherent, compton = common * rng.lognormal(0.0, 0.3), common * rng.lognormal(0.0, 0.3)
    shifted = {name: getattr(emission, name) * compton for name in ("compton", "multiple")}
    return replace(emission, coherent=emission.coherent * coherent, **shifted)


def _piled_up(
    rng: np.random.Generator,
    expected: NDArray[np.float64],
    detector: Detector,
    axis: EnergyAxis,
    share: tuple[float, float],
) -> NDArray[np.float64]:
    """Return spectra, half of them with pile-up of a random probability."""
    if rng.random() > PILE_UP_CHANCE:
        return expected
    rate = log_uniform(rng, *share) * 1e6 / PULSE_PAIR_US
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
) -> tuple[NDArray[np.float64], dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]]:
    """Return the instrument's contribution: argon in air, lines of its metal parts, a smooth background.

    Returns
    -------
    (n_sample, n_channel) array
    dict of str to ((n_line,) array, (n_sample, n_line) array)
        By family, energies (keV) and counts of the lines.
    """
    energy = axis.energy_kev
    shape = np.zeros(axis.n_channel)
    families = {}
    for (symbol, shell), chance in zip(BLANK_FAMILIES, BLANK_CHANCE, strict=True):
        if rng.random() < chance:
            level = 10.0 ** rng.uniform(-4.5, -2.5)
            lines, ratios = family_lines(symbol, shell, 40.0)
            families[f"{symbol}_{shell}"] = (lines, level * ratios)
            for line, ratio in zip(lines, ratios, strict=True):
                sigma = resolution_sigma(detector, np.asarray(line))
                peak = np.exp(-0.5 * ((energy - line) / sigma) ** 2) * axis.gain_kev / (sigma * np.sqrt(2 * np.pi))
                shape += level * ratio * peak
    scale = totals[:, None] * rng.lognormal(0, 0.3, size=(len(totals), 1))
    added = np.asarray(shape * scale + totals[:, None] * _smooth(rng, len(totals), energy))
    return added, {family: (lines, scale * levels) for family, (lines, levels) in families.items()}


def _smooth(rng: np.random.Generator, count_: int, energy: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return (n, n_channel) smooth backgrounds, 0.1 to 50 % of the counts: air, collimators, incomplete charge."""
    position = energy / 40.0
    slope, bend = rng.normal(0.0, 2.0, size=(2, count_, 1))
    shape = np.exp(slope * position + bend * position**2)
    level = 10.0 ** rng.uniform(-3.0, -0.3, size=(count_, 1))
    return np.asarray(level * shape / shape.sum(axis=1, keepdims=True))


Tasks = Iterator[tuple[int, tuple[Any, ...]]]


def simulate_library(
    settings: LibrarySettings,
    out: str | Path,
    *,
    photons: str | Path | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Simulate a training library; the next call resumes one that was interrupted or killed.

    Parameters
    ----------
    settings : LibrarySettings
        Settings of the library.
    out : path
        HDF5 file with ``expected`` (n, n_bin) noise-free spectra that sum to one over the recorded range,
        ``recorded`` (n, 2) start and stop, keV, ``labels`` and ``counts_needed`` (n, n_name), ``source`` (n,);
        of the uppermost paint ``surface_um`` (n,) and ``surface_share`` (n, n_material), mass of the dry pigments;
        of each group and place ``lines_needed`` and ``lines_hidden`` (n, n_group), counts from which the element's
        lines show (NaN: none, infinite: never) and up to which they do not, and ``amount`` (n, n_group), mass share of
        the element in the dry paint;
        ``instrument`` (n, n_input) as :data:`underpaint.simulate.instrument_inputs.INSTRUMENT_INPUTS` names them.
    photons : path, optional
        HDF5 file of the photons. If it exists, the transport is not repeated; only detector and electronics are
        simulated.
    workers : int, optional
        Processes; None: one per core.
    scheduler : str, optional
        Address of a dask.distributed scheduler, whose workers are used.
    progress : callable, optional

    Raises
    ------
    OutputError
        The file exists, was started with other settings, or the photons are those of another job.

    Notes
    -----
    On processors of one kind the result is bit-identical for any workers or scheduler (other processors round
    differently in linear algebra).
    """
    job, target = resolved(settings), Path(out)
    if finalize_interrupted(target, _library_job(job)):
        return target
    show = progress or no_progress
    with (
        open_chunk_store(target, _library_job(job), n_chunk(job)) as pieces,
        make_executor(workers, scheduler) as executor,
    ):
        if photons is None:
            _work(
                executor,
                pieces,
                job,
                _direct,
                ((index, (job, index)) for index in pieces.missing()),
                "Simulating",
                show,
            )
        else:
            transport_to(Path(photons), job, executor, show)
            with open_photons(photons) as file:
                tasks = ((index, (job, index, chunk_bytes(file, index))) for index in pieces.missing())
                _work(executor, pieces, job, _from_photons, tasks, "Rendering", show)
        show("Writing", 0, 1)
        pieces.join(lambda file, chunks: _write_library(file, chunks, job))
    return target


def transport_to(path: Path, job: LibrarySettings, executor: Executor, show: Progress) -> None:
    """Make a file of photons, unless it exists.

    Raises
    ------
    OutputError
        It contains the photons of another job.
    """
    request = transport_settings(job)
    if finalize_interrupted(path, request):
        return
    if path.exists():
        open_photons_of(path, request).close()
        return
    with open_chunk_store(path, request, n_chunk(job)) as pieces:
        _work(executor, pieces, job, _photons, ((index, (job, index)) for index in pieces.missing()), "Photons", show)
        show("Writing", 0, 1)
        pieces.join(lambda file, chunks: write_photons_file(file, chunks, job.seed))


def open_photons_of(path: Path, request: dict[str, Any]) -> h5py.File:
    """Open a file of photons, if they are those of the requested job.

    Raises
    ------
    OutputError
        They are those of another job.
    """
    file, request = open_photons(path), json.loads(json.dumps(request))
    # a file written before a setting existed was made with its default
    stored = LibrarySettings().model_dump(mode="json") | json.loads(file.attrs["job"])
    differ = [name for name in request if stored.get(name) != request[name]]
    if not differ:
        return file
    file.close()
    faults = "; ".join(_difference(name, stored.get(name), request[name]) for name in differ)
    raise OutputError(
        f"Cannot render the photons {path}: they are those of another job ({faults}). Choose another name."
    )


def _difference(name: str, stored: Any, requested: Any) -> str:
    if isinstance(requested, dict | list):
        return f"{name} differs"
    return f"{name}: {stored} there, {requested} wanted"


def write_photons_file(file: h5py.File, chunks: Iterator[h5py.File], seed: int) -> None:
    """Join chunks of photons: a group for each, its compressed arrays copied as they are."""
    file.attrs.update(seed=seed, versions=json.dumps(versions()))
    group = file.create_group(CHUNKS)
    for index, chunk in enumerate(chunks):
        chunk.copy(chunk["/"], group, name=f"{index:06d}")


def make_chunk(settings: LibrarySettings, index: int) -> Chunk:
    """Simulate one chunk; it depends only on the seeds and the chunk's index."""
    return render_chunk(settings, index, transport_chunk(settings, index))


def versions() -> dict[str, str]:
    """Return the versions of the software that makes a file."""
    return {name: version(name) for name in ("underpaint", "numpy", "scipy", "xraylib", "h5py")}


def _direct(settings: LibrarySettings, index: int) -> bytes:
    return chunk_to_bytes(make_chunk(settings, index))


def _photons(settings: LibrarySettings, index: int) -> bytes:
    return photons_to_bytes(transport_chunk(settings, index))


def _from_photons(settings: LibrarySettings, index: int, data: bytes) -> bytes:
    return chunk_to_bytes(render_chunk(settings, index, photons_from_bytes(data)))


def _work(
    executor: Executor,
    pieces: ChunkStore,
    job: LibrarySettings,
    function: Callable[..., bytes],
    tasks: Tasks,
    task: str,
    show: Progress,
) -> None:
    total = n_stratigraphies(job)
    completed = total - sum(chunk_size(job, index) for index in pieces.missing())
    show(task, completed, total)
    for index, data in ordered_results(executor, function, tasks):
        pieces.save(index, data)
        completed += chunk_size(job, index)
        show(task, completed, total)


def _library_job(job: LibrarySettings) -> dict[str, Any]:
    return job.model_dump(mode="json")


def _write_library(file: h5py.File, chunks: Iterator[h5py.File], job: LibrarySettings) -> None:
    outputs, axis = job_outputs(job), job_axis(job)
    for name, value in (
        ("names", outputs.names),
        ("kinds", outputs.kinds),
        ("groups", outputs.groups),
        ("labels_for_people", outputs.labels),
        ("elements", outputs.elements),
        ("materials", materials(outputs.names)),
        ("instrument_inputs", INSTRUMENT_INPUTS),
        ("versions", versions()),
    ):
        file.attrs[name] = json.dumps(value)
    file.attrs.update(
        config=job.model_dump_json(),
        seed=job.seed,
        start_kev=axis.start_kev,
        bin_kev=axis.gain_kev,
        n_bin=axis.n_channel,
    )
    _create_datasets(file, axis.n_channel, outputs)
    for chunk in chunks:
        _append(file, chunk)


def _create_datasets(file: h5py.File, n_bin: int, outputs: Outputs) -> None:
    n_name = len(outputs.names)
    for name, width, kind in (
        ("expected", n_bin, "f4"),
        ("recorded", 2, "f4"),
        ("labels", n_name, "u1"),
        ("counts_needed", n_name, "f4"),
        ("surface_share", len(materials(outputs.names)), "f4"),
        ("instrument", len(INSTRUMENT_INPUTS), "f4"),
        *((name, len(group_names(outputs.names)), "f4") for name in ("lines_needed", "lines_hidden", "amount")),
    ):
        if width == 0:  # answers without groups
            continue
        file.create_dataset(name, (0, width), kind, maxshape=(None, width), chunks=(256, width))
    for name, kind in (("source", "i4"), ("surface_um", "f4")):
        file.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(4096,))


def _append(file: h5py.File, chunk: h5py.File) -> None:
    for name, dataset in file.items():
        start = len(dataset)
        dataset.resize(start + len(chunk[name]), axis=0)
        dataset[start:] = chunk[name][()]
