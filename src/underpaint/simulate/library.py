"""Training libraries: files of simulated spectra with labels, independent of the number and kind of workers."""

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
    n_chunks,
    n_stratigraphies,
    transport_settings,
    with_file_contents,
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
    """Return the photons of a chunk; the random numbers depend only on the seed and the index of the chunk."""
    return _paper_photons(settings, index) if settings.kind == "paper" else _random_photons(settings, index)


def _random_photons(settings: LibrarySettings, index: int) -> Photons:
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(index, 0)))
    draw_instrument = any_instrument if settings.varied else random_instrument
    instrument = job_instrument(settings, index) or draw_instrument(rng)
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


def _paper_photons(settings: LibrarySettings, index: int) -> Photons:
    grid = paper_grid()[index * settings.chunk : (index + 1) * settings.chunk]
    stratigraphies = [paper_stratigraphy(*structure) for structure in grid]
    instrument = job_instrument(settings, index) or load_instrument(PAPER_INSTRUMENT)
    return make_photons(stratigraphies, instrument, emit(stratigraphies, instrument, single=True))


INSTRUMENT_FAMILIES = (
    ("Ar", "K"),
    ("Ni", "K"),
    ("Cu", "K"),
    ("Fe", "K"),
    ("Zr", "K"),
    ("Au", "L"),
    ("W", "L"),
    ("Zn", "K"),
)
INSTRUMENT_LINE_PROBABILITIES = (0.7, 0.08, 0.08, 0.08, 0.05, 0.03, 0.03, 0.03)
PILE_UP_PROBABILITY = 0.5
PILE_UP_RANGE, WIDE_PILE_UP_RANGE = (1e-4, 0.03), (1e-4, 0.15)
"""Range of the pile-up probability, for usual and for widely varied libraries."""
SCATTER_RANGE, WIDE_SCATTER_RANGE = (0.6, 2.5), (0.4, 4.0)
"""Range of the scatter relative to the forward model, for usual and for widely varied libraries."""
PULSE_PAIR_US = 0.5
"""Pulse-pair resolution of a typical fast channel, us; only its product with the random rate matters."""


@dataclass(frozen=True)
class Chunk:
    """Labelled spectra of one chunk; the first axis of all arrays is the spectrum.

    The fields are the datasets of the file that :func:`~.simulate_library` describes.
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
class _RenderedSpectra:
    """Spectra of a chunk's stratigraphies with one detector; the fields are those of a chunk."""

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
    """Return the spectra of a chunk; the random numbers depend only on the rendering seed and the chunk's index."""
    if settings.kind == "paper":
        return _assemble_chunk(settings, index, photons, [_render_paper_spectra(settings, photons)])
    seed = settings.seed if settings.render_seed is None else settings.render_seed
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index, 1)))
    return _assemble_chunk(
        settings, index, photons, [_render_random_spectra(rng, settings, photons) for _ in range(settings.renders)]
    )


def _assemble_chunk(
    settings: LibrarySettings, index: int, photons: Photons, renderings: Sequence[_RenderedSpectra]
) -> Chunk:
    samples, n_rendering, outputs = photons.stratigraphies, len(renderings), job_outputs(settings)
    instrument_columns = [
        np.tile(instrument_inputs(photons.instrument, rendering.detector), (len(samples), 1))
        for rendering in renderings
    ]
    return Chunk(
        expected=np.concatenate([rendering.expected for rendering in renderings]),
        recorded=np.concatenate([rendering.recorded for rendering in renderings]),
        labels=np.concatenate([rendering.labels for rendering in renderings]),
        counts_needed=np.concatenate([rendering.counts_needed for rendering in renderings]),
        source=np.tile(np.arange(len(samples), dtype=np.int32) + index * settings.chunk, n_rendering),
        surface_um=np.tile(surface_thickness_um(samples), n_rendering),
        surface_share=np.tile(surface_shares(samples, outputs), (n_rendering, 1)),
        instrument=np.concatenate(instrument_columns),
        lines_needed=np.concatenate([rendering.lines[0] for rendering in renderings]),
        lines_hidden=np.concatenate([rendering.lines[1] for rendering in renderings]),
        amount=np.tile(element_shares(samples, group_names(outputs.names)), (n_rendering, 1)),
    )


def _render_paper_spectra(settings: LibrarySettings, photons: Photons) -> _RenderedSpectra:
    axis, detector = job_axis(settings), job_detector(settings) or photons.instrument.detector
    expected_counts = np.asarray(render(photons.emission, detector, axis), dtype=np.float64)
    labels, counts_needed = visibility(
        photons.stratigraphies, photons.emission, expected_counts, job_outputs(settings), detector, axis
    )
    groups = group_names(job_outputs(settings).names)
    lines = lines_needed(photons.stratigraphies, photons.emission, expected_counts, groups, detector, axis)
    expected_counts /= expected_counts.sum(axis=1, keepdims=True)
    recorded = np.tile(np.asarray([axis.start_kev, axis.stop_kev], dtype=np.float32), (len(expected_counts), 1))
    return _RenderedSpectra(expected_counts.astype(np.float32), recorded, labels, counts_needed, lines, detector)


def _render_random_spectra(rng: np.random.Generator, settings: LibrarySettings, photons: Photons) -> _RenderedSpectra:
    """Return the spectra for one random detector, energy axis, scatter, pile-up and instrument background."""
    axis, outputs = job_axis(settings), job_outputs(settings)
    detector = _rendering_detector(rng, settings, photons)
    emission = _vary_scatter(rng, photons.emission, WIDE_SCATTER_RANGE if settings.varied else SCATTER_RANGE)
    recorded_kev = _random_range(rng, photons.instrument.highest_kev)
    assumed_axis = _miscalibrated_axis(rng, axis, settings)
    expected_counts = np.asarray(render(emission, detector, assumed_axis), dtype=np.float64)
    instrument_counts, instrument_lines = _instrument_background(
        rng, expected_counts.sum(axis=1), assumed_axis, detector
    )
    expected_counts = _with_random_pile_up(
        rng,
        expected_counts + instrument_counts,
        detector,
        assumed_axis,
        WIDE_PILE_UP_RANGE if settings.varied else PILE_UP_RANGE,
    )
    energy_kev = axis.energy_kev
    expected_counts[:, (energy_kev < recorded_kev[0]) | (energy_kev > recorded_kev[1])] = 0.0
    labels, counts_needed = visibility(
        photons.stratigraphies, emission, expected_counts, outputs, detector, assumed_axis
    )
    groups = group_names(outputs.names)
    lines = lines_needed(
        photons.stratigraphies, emission, expected_counts, groups, detector, assumed_axis, instrument_lines
    )
    expected_counts /= expected_counts.sum(axis=1, keepdims=True)
    recorded = np.tile(np.asarray(recorded_kev, dtype=np.float32), (len(expected_counts), 1))
    return _RenderedSpectra(expected_counts.astype(np.float32), recorded, labels, counts_needed, lines, detector)


def _rendering_detector(rng: np.random.Generator, settings: LibrarySettings, photons: Photons) -> Detector:
    detector = job_detector(settings)
    if detector is not None:
        return detector
    if settings.instrument is not None:
        return photons.instrument.detector
    return any_detector(rng) if settings.varied else random_detector(rng)


def _vary_scatter(rng: np.random.Generator, emission: Emission, scale_range: tuple[float, float]) -> Emission:
    """Scale coherent and Compton scatter by random factors, because rough surfaces, air and collimators change them."""
    scale = log_uniform(rng, *scale_range)
    coherent_scale, compton_scale = scale * rng.lognormal(0.0, 0.3), scale * rng.lognormal(0.0, 0.3)
    scaled_arrays = {name: getattr(emission, name) * compton_scale for name in ("compton", "multiple")}
    return replace(emission, coherent=emission.coherent * coherent_scale, **scaled_arrays)


def _with_random_pile_up(
    rng: np.random.Generator,
    expected_counts: NDArray[np.float64],
    detector: Detector,
    axis: EnergyAxis,
    probability_range: tuple[float, float],
) -> NDArray[np.float64]:
    """Add a random amount of pile-up to the spectra with the probability ``PILE_UP_PROBABILITY``."""
    if rng.random() > PILE_UP_PROBABILITY:
        return expected_counts
    rate_per_s = log_uniform(rng, *probability_range) * 1e6 / PULSE_PAIR_US
    slow_detector = detector.model_copy(update={"pulse_pair_us": PULSE_PAIR_US})
    return np.asarray(pile_up(expected_counts, rate_per_s, slow_detector, axis))


def _miscalibrated_axis(rng: np.random.Generator, axis: EnergyAxis, settings: LibrarySettings) -> EnergyAxis:
    """Return the true energy axis of channels whose assumed axis has random errors of gain and zero."""
    gain_factor = 1.0 + rng.uniform(-settings.gain_error, settings.gain_error)
    zero_error_kev = rng.uniform(-settings.zero_error_kev, settings.zero_error_kev)
    return EnergyAxis(axis.gain_kev * gain_factor, axis.zero_kev * gain_factor + zero_error_kev, axis.n_channel)


def _random_range(rng: np.random.Generator, voltage_kv: float) -> tuple[float, float]:
    start = 1.0 if rng.random() < 0.3 else float(rng.uniform(1.0, 2.8))
    stop = 41.0 if rng.random() < 0.5 else float(rng.uniform(min(18.0, voltage_kv), 41.0))
    return start, stop


def _instrument_background(
    rng: np.random.Generator, totals: NDArray[np.float64], axis: EnergyAxis, detector: Detector
) -> tuple[NDArray[np.float64], dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]]:
    """Return the contribution of the instrument: argon in air, lines of metal parts, and a smooth background.

    Returns
    -------
    (n_sample, n_channel) array
        Counts.
    dict of str to ((n_line,) array, (n_sample, n_line) array)
        Energies (keV) and counts of the lines, by family.
    """
    energy_kev = axis.energy_kev
    line_spectrum = np.zeros(axis.n_channel)
    families = {}
    for (symbol, shell), probability in zip(INSTRUMENT_FAMILIES, INSTRUMENT_LINE_PROBABILITIES, strict=True):
        if rng.random() < probability:
            level = 10.0 ** rng.uniform(-4.5, -2.5)
            lines_kev, ratios = family_lines(symbol, shell, 40.0)
            families[f"{symbol}_{shell}"] = (lines_kev, level * ratios)
            for line_kev, ratio in zip(lines_kev, ratios, strict=True):
                sigma = resolution_sigma(detector, np.asarray(line_kev))
                peak = (
                    np.exp(-0.5 * ((energy_kev - line_kev) / sigma) ** 2) * axis.gain_kev / (sigma * np.sqrt(2 * np.pi))
                )
                line_spectrum += level * ratio * peak
    scale = totals[:, None] * rng.lognormal(0, 0.3, size=(len(totals), 1))
    counts = np.asarray(line_spectrum * scale + totals[:, None] * _smooth_background(rng, len(totals), energy_kev))
    return counts, {family: (lines_kev, scale * line_levels) for family, (lines_kev, line_levels) in families.items()}


def _smooth_background(
    rng: np.random.Generator, n_spectra: int, energy_kev: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return (n, n_channel) smooth backgrounds of 0.1 to 50 % of the counts, as from air or incomplete charge."""
    position = energy_kev / 40.0
    slope, curvature = rng.normal(0.0, 2.0, size=(2, n_spectra, 1))
    shape = np.exp(slope * position + curvature * position**2)
    level = 10.0 ** rng.uniform(-3.0, -0.3, size=(n_spectra, 1))
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
    """Simulate a training library; a call with the same settings resumes an interrupted one.

    Parameters
    ----------
    settings : LibrarySettings
        Settings of the library.
    out : path
        HDF5 file to write; the notes describe its contents.
    photons : path, optional
        HDF5 file of the photons. If it exists, the transport is not repeated; only detector and electronics are
        simulated.
    workers : int, optional
        Number of processes; None: one per core.
    scheduler : str, optional
        Address of a dask.distributed scheduler, whose workers are used.
    progress : callable, optional

    Returns
    -------
    Path
        The written file.

    Raises
    ------
    OutputError
        The file exists, was started with other settings, or the photons are those of another job.

    Notes
    -----
    Datasets of the file, for n spectra:

    - ``expected`` (n, n_bin): noise-free spectra, whose sum over the recorded range is one.
    - ``recorded`` (n, 2): start and stop of the recorded range, in keV.
    - ``labels``, ``counts_needed`` (n, n_name): results of :func:`~underpaint.simulate.visibility`.
    - ``source`` (n,): index of the stratigraphy.
    - ``surface_um`` (n,): thickness of the uppermost paint, in um.
    - ``surface_share`` (n, n_material): mass fractions of the dry pigments of the uppermost paint.
    - ``lines_needed``, ``lines_hidden`` (n, n_group): total counts above which the lines of a group's element are
      detectable (NaN: no lines, infinite: never), and below which they are not.
    - ``amount`` (n, n_group): mass fraction of the element in the dry paint.
    - ``instrument`` (n, n_input): features :data:`~underpaint.simulate.instrument_inputs.INSTRUMENT_INPUTS`.

    On processors of the same type the result is bit-identical for any number of workers and any scheduler; other
    processors may round differently in linear algebra.
    """
    job, target = with_file_contents(settings), Path(out)
    if finalize_interrupted(target, _library_job(job)):
        return target
    report = progress or no_progress
    with (
        open_chunk_store(target, _library_job(job), n_chunks(job)) as store,
        make_executor(workers, scheduler) as executor,
    ):
        if photons is None:
            _run_tasks(
                executor,
                store,
                job,
                _chunk_task,
                ((index, (job, index)) for index in store.missing_chunks()),
                "Simulating",
                report,
            )
        else:
            transport_to(Path(photons), job, executor, report)
            with open_photons(photons) as file:
                tasks = ((index, (job, index, chunk_bytes(file, index))) for index in store.missing_chunks())
                _run_tasks(executor, store, job, _rendering_task, tasks, "Rendering", report)
        report("Writing", 0, 1)
        store.join(lambda file, chunks: _write_library(file, chunks, job))
    return target


def transport_to(path: Path, job: LibrarySettings, executor: Executor, report: Progress) -> None:
    """Compute and write a file of photons, unless the file exists.

    Raises
    ------
    OutputError
        The file contains the photons of another job.
    """
    request = transport_settings(job)
    if finalize_interrupted(path, request):
        return
    if path.exists():
        open_photons_of(path, request).close()
        return
    with open_chunk_store(path, request, n_chunks(job)) as store:
        _run_tasks(
            executor,
            store,
            job,
            _photons_task,
            ((index, (job, index)) for index in store.missing_chunks()),
            "Photons",
            report,
        )
        report("Writing", 0, 1)
        store.join(lambda file, chunks: write_photons_file(file, chunks, job.seed))


def open_photons_of(path: Path, request: dict[str, Any]) -> h5py.File:
    """Open a file of photons for reading, if they are those of the requested job.

    Raises
    ------
    OutputError
        The photons are those of another job.
    """
    file, request = open_photons(path), json.loads(json.dumps(request))
    # settings that did not exist when the file was written had their default values
    stored_settings = LibrarySettings().model_dump(mode="json") | json.loads(file.attrs["job"])
    differing_names = [name for name in request if stored_settings.get(name) != request[name]]
    if not differing_names:
        return file
    file.close()
    faults = "; ".join(_difference(name, stored_settings.get(name), request[name]) for name in differing_names)
    raise OutputError(
        f"Cannot render the photons {path}: they are those of another job ({faults}). Choose another name."
    )


def _difference(name: str, stored_value: Any, requested_value: Any) -> str:
    if isinstance(requested_value, dict | list):
        return f"{name} differs"
    return f"{name}: {stored_value} in the file, {requested_value} requested"


def write_photons_file(file: h5py.File, chunks: Iterator[h5py.File], seed: int) -> None:
    """Write chunks of photons into one file, a group each; compressed arrays are copied without decompression."""
    file.attrs.update(seed=seed, versions=json.dumps(versions()))
    group = file.create_group(CHUNKS)
    for index, chunk in enumerate(chunks):
        chunk.copy(chunk["/"], group, name=f"{index:06d}")


def make_chunk(settings: LibrarySettings, index: int) -> Chunk:
    """Return the simulated chunk with an index; it depends only on the settings and the index."""
    return render_chunk(settings, index, transport_chunk(settings, index))


def versions() -> dict[str, str]:
    """Return the versions of the packages on which a simulation depends."""
    return {name: version(name) for name in ("underpaint", "numpy", "scipy", "xraylib", "h5py")}


def _chunk_task(settings: LibrarySettings, index: int) -> bytes:
    return chunk_to_bytes(make_chunk(settings, index))


def _photons_task(settings: LibrarySettings, index: int) -> bytes:
    return photons_to_bytes(transport_chunk(settings, index))


def _rendering_task(settings: LibrarySettings, index: int, data: bytes) -> bytes:
    return chunk_to_bytes(render_chunk(settings, index, photons_from_bytes(data)))


def _run_tasks(
    executor: Executor,
    store: ChunkStore,
    job: LibrarySettings,
    function: Callable[..., bytes],
    tasks: Tasks,
    step_name: str,
    report: Progress,
) -> None:
    n_total = n_stratigraphies(job)
    completed = n_total - sum(chunk_size(job, index) for index in store.missing_chunks())
    report(step_name, completed, n_total)
    for index, data in ordered_results(executor, function, tasks):
        store.save(index, data)
        completed += chunk_size(job, index)
        report(step_name, completed, n_total)


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
        _append_chunk(file, chunk)


def _create_datasets(file: h5py.File, n_bin: int, outputs: Outputs) -> None:
    n_name = len(outputs.names)
    for name, width, dtype in (
        ("expected", n_bin, "f4"),
        ("recorded", 2, "f4"),
        ("labels", n_name, "u1"),
        ("counts_needed", n_name, "f4"),
        ("surface_share", len(materials(outputs.names)), "f4"),
        ("instrument", len(INSTRUMENT_INPUTS), "f4"),
        *((name, len(group_names(outputs.names)), "f4") for name in ("lines_needed", "lines_hidden", "amount")),
    ):
        if width == 0:  # outputs without groups
            continue
        file.create_dataset(name, (0, width), dtype, maxshape=(None, width), chunks=(256, width))
    for name, dtype in (("source", "i4"), ("surface_um", "f4")):
        file.create_dataset(name, (0,), dtype, maxshape=(None,), chunks=(4096,))


def _append_chunk(file: h5py.File, chunk: h5py.File) -> None:
    for name, dataset in file.items():
        start = len(dataset)
        dataset.resize(start + len(chunk[name]), axis=0)
        dataset[start:] = chunk[name][()]
