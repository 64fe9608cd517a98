"""Training libraries: files of simulated, labelled spectra. Results do not depend on the number of worker processes."""

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


def transport_chunk(settings: LibrarySettings, chunk_index: int) -> Photons:
    """Return the photons of a chunk. All random numbers depend only on the seed and the chunk's index."""
    return _paper_photons(settings, chunk_index) if settings.kind == "paper" else _random_photons(settings, chunk_index)


def _random_photons(settings: LibrarySettings, chunk_index: int) -> Photons:
    rng = np.random.default_rng(np.random.SeedSequence(settings.seed, spawn_key=(chunk_index, 0)))
    draw_instrument = any_instrument if settings.varied else random_instrument
    instrument = job_instrument(settings, chunk_index) or draw_instrument(rng)
    sampler = StratigraphySampler(
        RandomStratigraphies(
            palette=job_palette(settings),
            max_paint_layers=settings.max_paint_layers,
            max_pigments_per_layer=settings.max_pigments_per_layer,
            gapless=settings.gapless,
            varied_supports=settings.varied,
        )
    )
    stratigraphies = [sampler.draw(rng) for _ in range(chunk_size(settings, chunk_index))]
    return make_photons(stratigraphies, instrument, emit(stratigraphies, instrument, single=True))


def _paper_photons(settings: LibrarySettings, chunk_index: int) -> Photons:
    chunk_structures = paper_grid()[chunk_index * settings.chunk : (chunk_index + 1) * settings.chunk]
    stratigraphies = [paper_stratigraphy(*structure) for structure in chunk_structures]
    instrument = job_instrument(settings, chunk_index) or load_instrument(PAPER_INSTRUMENT)
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
"""Range of the pile-up probability, first for usual libraries, then for libraries with ``varied``."""
SCATTER_RANGE, WIDE_SCATTER_RANGE = (0.6, 2.5), (0.4, 4.0)
"""Range of the scatter relative to the forward model, first for usual libraries, then for libraries with ``varied``."""
PULSE_PAIR_US = 0.5
"""Pulse-pair resolution of a typical fast channel, in us. Simulated pile-up depends only on the product of this time
and the count rate.
"""


@dataclass(frozen=True)
class Chunk:
    """Labelled spectra of one chunk. The first axis of each array is the spectrum.

    :func:`~.simulate_library` describes the fields, which become datasets of the library.
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
    """Spectra and labels of a chunk's stratigraphies for one detector."""

    expected_spectra: NDArray[np.float32]
    recorded_ranges_kev: NDArray[np.float32]
    labels: NDArray[np.uint8]
    counts_needed: NDArray[np.float32]
    line_limits: tuple[NDArray[np.float32], NDArray[np.float32]]
    detector: Detector


def chunk_to_bytes(chunk: Chunk) -> bytes:
    """Write a chunk as an HDF5 file in memory, and return its bytes."""
    buffer = BytesIO()
    with h5py.File(buffer, "w") as file:
        for field in fields(Chunk):
            file.create_dataset(field.name, data=getattr(chunk, field.name))
    return buffer.getvalue()


def render_chunk(settings: LibrarySettings, chunk_index: int, photons: Photons) -> Chunk:
    """Return the spectra of a chunk. All random numbers depend only on the rendering seed and the chunk's index."""
    if settings.kind == "paper":
        return _assemble_chunk(settings, chunk_index, photons, [_render_paper_spectra(settings, photons)])
    seed = settings.seed if settings.render_seed is None else settings.render_seed
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(chunk_index, 1)))
    return _assemble_chunk(
        settings,
        chunk_index,
        photons,
        [_render_random_spectra(rng, settings, photons) for _ in range(settings.renders)],
    )


def _assemble_chunk(
    settings: LibrarySettings, chunk_index: int, photons: Photons, renderings: Sequence[_RenderedSpectra]
) -> Chunk:
    samples, n_renderings, outputs = photons.stratigraphies, len(renderings), job_outputs(settings)
    instrument_columns = [
        np.tile(instrument_inputs(photons.instrument, rendering.detector), (len(samples), 1))
        for rendering in renderings
    ]
    return Chunk(
        expected=np.concatenate([rendering.expected_spectra for rendering in renderings]),
        recorded=np.concatenate([rendering.recorded_ranges_kev for rendering in renderings]),
        labels=np.concatenate([rendering.labels for rendering in renderings]),
        counts_needed=np.concatenate([rendering.counts_needed for rendering in renderings]),
        source=np.tile(np.arange(len(samples), dtype=np.int32) + chunk_index * settings.chunk, n_renderings),
        surface_um=np.tile(surface_thickness_um(samples), n_renderings),
        surface_share=np.tile(surface_shares(samples, outputs), (n_renderings, 1)),
        instrument=np.concatenate(instrument_columns),
        lines_needed=np.concatenate([rendering.line_limits[0] for rendering in renderings]),
        lines_hidden=np.concatenate([rendering.line_limits[1] for rendering in renderings]),
        amount=np.tile(element_shares(samples, group_names(outputs.names)), (n_renderings, 1)),
    )


def _render_paper_spectra(settings: LibrarySettings, photons: Photons) -> _RenderedSpectra:
    axis, detector = job_axis(settings), job_detector(settings) or photons.instrument.detector
    expected_counts = np.asarray(render(photons.emission, detector, axis), dtype=np.float64)
    labels, counts_needed = visibility(
        photons.stratigraphies, photons.emission, expected_counts, job_outputs(settings), detector, axis
    )
    groups = group_names(job_outputs(settings).names)
    line_limits = lines_needed(photons.stratigraphies, photons.emission, expected_counts, groups, detector, axis)
    expected_counts /= expected_counts.sum(axis=1, keepdims=True)
    recorded_ranges_kev = np.tile(
        np.asarray([axis.start_kev, axis.stop_kev], dtype=np.float32), (len(expected_counts), 1)
    )
    return _RenderedSpectra(
        expected_counts.astype(np.float32), recorded_ranges_kev, labels, counts_needed, line_limits, detector
    )


def _render_random_spectra(rng: np.random.Generator, settings: LibrarySettings, photons: Photons) -> _RenderedSpectra:
    """Return spectra with one random set of detector, energy axis, scatter, pile-up and instrument background."""
    axis, outputs = job_axis(settings), job_outputs(settings)
    detector = _rendering_detector(rng, settings, photons)
    emission = _vary_scatter(rng, photons.emission, WIDE_SCATTER_RANGE if settings.varied else SCATTER_RANGE)
    recorded_range_kev = _random_range(rng, photons.instrument.highest_kev)
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
    expected_counts[:, (energy_kev < recorded_range_kev[0]) | (energy_kev > recorded_range_kev[1])] = 0.0
    labels, counts_needed = visibility(
        photons.stratigraphies, emission, expected_counts, outputs, detector, assumed_axis
    )
    groups = group_names(outputs.names)
    line_limits = lines_needed(
        photons.stratigraphies, emission, expected_counts, groups, detector, assumed_axis, instrument_lines
    )
    expected_counts /= expected_counts.sum(axis=1, keepdims=True)
    recorded_ranges_kev = np.tile(np.asarray(recorded_range_kev, dtype=np.float32), (len(expected_counts), 1))
    return _RenderedSpectra(
        expected_counts.astype(np.float32), recorded_ranges_kev, labels, counts_needed, line_limits, detector
    )


def _rendering_detector(rng: np.random.Generator, settings: LibrarySettings, photons: Photons) -> Detector:
    detector = job_detector(settings)
    if detector is not None:
        return detector
    if settings.instrument is not None:
        return photons.instrument.detector
    return any_detector(rng) if settings.varied else random_detector(rng)


def _vary_scatter(rng: np.random.Generator, emission: Emission, scale_range: tuple[float, float]) -> Emission:
    """Scale Rayleigh and Compton scatter by random factors, to imitate rough surfaces, air and collimators."""
    scatter_scale = log_uniform(rng, *scale_range)
    coherent_scale, compton_scale = scatter_scale * rng.lognormal(0.0, 0.3), scatter_scale * rng.lognormal(0.0, 0.3)
    scaled_arrays = {
        array_name: getattr(emission, array_name) * compton_scale for array_name in ("compton", "multiple")
    }
    return replace(emission, coherent=emission.coherent * coherent_scale, **scaled_arrays)


def _with_random_pile_up(
    rng: np.random.Generator,
    expected_counts: NDArray[np.float64],
    detector: Detector,
    axis: EnergyAxis,
    probability_range: tuple[float, float],
) -> NDArray[np.float64]:
    """With the probability ``PILE_UP_PROBABILITY``, add a random amount of pile-up to the spectra."""
    if rng.random() > PILE_UP_PROBABILITY:
        return expected_counts
    rate_per_s = log_uniform(rng, *probability_range) * 1e6 / PULSE_PAIR_US
    slow_detector = detector.model_copy(update={"pulse_pair_us": PULSE_PAIR_US})
    return np.asarray(pile_up(expected_counts, rate_per_s, slow_detector, axis))


def _miscalibrated_axis(rng: np.random.Generator, axis: EnergyAxis, settings: LibrarySettings) -> EnergyAxis:
    """Return the true energy axis if the assumed ``axis`` has random errors of gain and zero."""
    gain_factor = 1.0 + rng.uniform(-settings.gain_error, settings.gain_error)
    zero_error_kev = rng.uniform(-settings.zero_error_kev, settings.zero_error_kev)
    return EnergyAxis(axis.gain_kev * gain_factor, axis.zero_kev * gain_factor + zero_error_kev, axis.n_channel)


def _random_range(rng: np.random.Generator, voltage_kv: float) -> tuple[float, float]:
    start_kev = 1.0 if rng.random() < 0.3 else float(rng.uniform(1.0, 2.8))
    stop_kev = 41.0 if rng.random() < 0.5 else float(rng.uniform(min(18.0, voltage_kv), 41.0))
    return start_kev, stop_kev


def _instrument_background(
    rng: np.random.Generator, total_counts: NDArray[np.float64], axis: EnergyAxis, detector: Detector
) -> tuple[NDArray[np.float64], dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]]:
    """Return counts that do not come from the sample: argon in air, lines of metal parts, and a smooth background.

    Returns
    -------
    (n_sample, n_channel) array dict of str to ((n_line,) array, (n_sample, n_line) array)
        Energies (keV) and counts of the instrument's lines, by family.
    """
    energy_kev = axis.energy_kev
    line_spectrum = np.zeros(axis.n_channel)
    lines_by_family = {}
    for (symbol, shell), line_probability in zip(INSTRUMENT_FAMILIES, INSTRUMENT_LINE_PROBABILITIES, strict=True):
        if rng.random() < line_probability:
            family_fraction = 10.0 ** rng.uniform(-4.5, -2.5)
            lines_kev, line_ratios = family_lines(symbol, shell, 40.0)
            lines_by_family[f"{symbol}_{shell}"] = (lines_kev, family_fraction * line_ratios)
            for line_kev, line_ratio in zip(lines_kev, line_ratios, strict=True):
                sigma = resolution_sigma(detector, np.asarray(line_kev))
                line_shape = (
                    np.exp(-0.5 * ((energy_kev - line_kev) / sigma) ** 2) * axis.gain_kev / (sigma * np.sqrt(2 * np.pi))
                )
                line_spectrum += family_fraction * line_ratio * line_shape
    random_totals = total_counts[:, None] * rng.lognormal(0, 0.3, size=(len(total_counts), 1))
    counts = np.asarray(
        line_spectrum * random_totals + total_counts[:, None] * _smooth_background(rng, len(total_counts), energy_kev)
    )
    return counts, {
        family: (lines_kev, random_totals * line_fractions)
        for family, (lines_kev, line_fractions) in lines_by_family.items()
    }


def _smooth_background(
    rng: np.random.Generator, n_spectra: int, energy_kev: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return n smooth backgrounds, each with 0.1 to 50 % of a spectrum's counts, as an (n, n_channel) array."""
    relative_energy = energy_kev / 40.0
    linear_coefficient, quadratic_coefficient = rng.normal(0.0, 2.0, size=(2, n_spectra, 1))
    background_shape = np.exp(linear_coefficient * relative_energy + quadratic_coefficient * relative_energy**2)
    background_level = 10.0 ** rng.uniform(-3.0, -0.3, size=(n_spectra, 1))
    return np.asarray(background_level * background_shape / background_shape.sum(axis=1, keepdims=True))


IndexedTasks = Iterator[tuple[int, tuple[Any, ...]]]


def simulate_library(
    settings: LibrarySettings,
    out: str | Path,
    *,
    photons: str | Path | None = None,
    workers: int | None = None,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Path:
    """Simulate a training library, or resume an interrupted simulation with the same settings.

    Parameters
    ----------
    settings : LibrarySettings
        Settings of the library.
    out : path
        HDF5 file to write, with the datasets listed below.
    photons : path, optional
        HDF5 file of the photons that the samples emit. If the file exists, it is read and only detector and electronics
        are simulated.
    workers : int, optional
        Number of processes, by default one per core.
    scheduler : str, optional
        Address of a dask.distributed scheduler whose workers simulate the library.
    progress : callable, optional

    Returns
    -------
    Path
        The written file.

    Raises
    ------
    OutputError
        The file exists, an interrupted run had other settings, or the photons belong to another job.

    Notes
    -----
    Datasets of the file, for n spectra:

    - ``expected`` (n, n_bin): noise-free spectra, each with a sum of one over the recorded range.
    - ``recorded`` (n, 2): lowest and highest recorded energy, in keV.
    - ``labels``, ``counts_needed`` (n, n_name): results of :func:`~underpaint.simulate.visibility`.
    - ``source`` (n,): index of the spectrum's stratigraphy.
    - ``surface_um`` (n,): thickness of the uppermost paint layer, in um.
    - ``surface_share`` (n, n_material): mass fractions of pigments and groups in the dry pigments of the uppermost
      layer.
    - ``lines_needed`` (n, n_group): total counts above which the lines of a group's element are detectable. NaN if
      there are no lines, infinity if they are never detectable.
    - ``lines_hidden`` (n, n_group): total counts below which the lines of a group's element are not detectable.
    - ``amount`` (n, n_group): largest mass fraction of the group's element in a layer at the group's place.
    - ``instrument`` (n, n_input): network inputs :data:`~underpaint.simulate.instrument_inputs.INSTRUMENT_INPUTS`.

    On processors of the same type, the file is bit-identical for any number of workers and any scheduler. Between types
    of processors, linear algebra may round differently.
    """
    job, library_path = with_file_contents(settings), Path(out)
    if finalize_interrupted(library_path, _library_job(job)):
        return library_path
    report_progress = progress or no_progress
    with (
        open_chunk_store(library_path, _library_job(job), n_chunks(job)) as chunk_store,
        make_executor(workers, scheduler) as executor,
    ):
        if photons is None:
            _run_tasks(
                executor,
                chunk_store,
                job,
                _chunk_task,
                ((chunk_index, (job, chunk_index)) for chunk_index in chunk_store.missing_chunks()),
                "Simulating",
                report_progress,
            )
        else:
            write_job_photons(Path(photons), job, executor, report_progress)
            with open_photons(photons) as file:
                tasks = (
                    (chunk_index, (job, chunk_index, chunk_bytes(file, chunk_index)))
                    for chunk_index in chunk_store.missing_chunks()
                )
                _run_tasks(executor, chunk_store, job, _rendering_task, tasks, "Rendering", report_progress)
        report_progress("Writing", 0, 1)
        chunk_store.join(lambda file, chunks: _write_library(file, chunks, job))
    return library_path


def write_job_photons(photons_path: Path, job: LibrarySettings, executor: Executor, report_progress: Progress) -> None:
    """Compute the photons of a job and write them to a file. If the file exists, only check that it belongs to the job.

    Raises
    ------
    OutputError
        The file contains the photons of another job.
    """
    photons_request = transport_settings(job)
    if finalize_interrupted(photons_path, photons_request):
        return
    if photons_path.exists():
        open_photons_of(photons_path, photons_request).close()
        return
    with open_chunk_store(photons_path, photons_request, n_chunks(job)) as chunk_store:
        _run_tasks(
            executor,
            chunk_store,
            job,
            _photons_task,
            ((chunk_index, (job, chunk_index)) for chunk_index in chunk_store.missing_chunks()),
            "Photons",
            report_progress,
        )
        report_progress("Writing", 0, 1)
        chunk_store.join(lambda file, chunks: write_photons_file(file, chunks, job.seed))


def open_photons_of(path: Path, photons_request: dict[str, Any]) -> h5py.File:
    """Open a file of photons for reading, after a check that it belongs to the requested job.

    Raises
    ------
    OutputError
        The photons belong to another job.
    """
    file, photons_request = open_photons(path), json.loads(json.dumps(photons_request))
    # a setting that an older file lacks had its default value
    stored_settings = LibrarySettings().model_dump(mode="json") | json.loads(file.attrs["job"])
    differing_settings = [
        setting_name
        for setting_name in photons_request
        if stored_settings.get(setting_name) != photons_request[setting_name]
    ]
    if not differing_settings:
        return file
    file.close()
    differences = "; ".join(
        _difference_text(setting_name, stored_settings.get(setting_name), photons_request[setting_name])
        for setting_name in differing_settings
    )
    raise OutputError(
        f"Cannot render the photons {path}: the photons belong to another job ({differences}). Choose another name."
    )


def _difference_text(setting_name: str, stored_value: Any, requested_value: Any) -> str:
    if isinstance(requested_value, dict | list):
        return f"{setting_name} differs"
    return f"{setting_name}: {stored_value} in the file, {requested_value} requested"


def write_photons_file(file: h5py.File, chunks: Iterator[h5py.File], seed: int) -> None:
    """Write chunks of photons into one file, as one group each. Arrays are copied in their compressed form."""
    file.attrs.update(seed=seed, versions=json.dumps(package_versions()))
    chunks_group = file.create_group(CHUNKS)
    for chunk_index, chunk in enumerate(chunks):
        chunk.copy(chunk["/"], chunks_group, name=f"{chunk_index:06d}")


def make_chunk(settings: LibrarySettings, chunk_index: int) -> Chunk:
    """Simulate one chunk. The result depends only on the settings and the chunk's index."""
    return render_chunk(settings, chunk_index, transport_chunk(settings, chunk_index))


def package_versions() -> dict[str, str]:
    """Return the versions of the packages that affect a simulation."""
    return {package: version(package) for package in ("underpaint", "numpy", "scipy", "xraylib", "h5py")}


def _chunk_task(settings: LibrarySettings, chunk_index: int) -> bytes:
    return chunk_to_bytes(make_chunk(settings, chunk_index))


def _photons_task(settings: LibrarySettings, chunk_index: int) -> bytes:
    return photons_to_bytes(transport_chunk(settings, chunk_index))


def _rendering_task(settings: LibrarySettings, chunk_index: int, photon_bytes: bytes) -> bytes:
    return chunk_to_bytes(render_chunk(settings, chunk_index, photons_from_bytes(photon_bytes)))


def _run_tasks(
    executor: Executor,
    chunk_store: ChunkStore,
    job: LibrarySettings,
    task_function: Callable[..., bytes],
    tasks: IndexedTasks,
    step_name: str,
    report_progress: Progress,
) -> None:
    n_samples = n_stratigraphies(job)
    n_completed = n_samples - sum(chunk_size(job, chunk_index) for chunk_index in chunk_store.missing_chunks())
    report_progress(step_name, n_completed, n_samples)
    for chunk_index, chunk_data in ordered_results(executor, task_function, tasks):
        chunk_store.save(chunk_index, chunk_data)
        n_completed += chunk_size(job, chunk_index)
        report_progress(step_name, n_completed, n_samples)


def _library_job(job: LibrarySettings) -> dict[str, Any]:
    return job.model_dump(mode="json")


def _write_library(file: h5py.File, chunks: Iterator[h5py.File], job: LibrarySettings) -> None:
    outputs, axis = job_outputs(job), job_axis(job)
    for attribute_name, attribute_value in (
        ("names", outputs.names),
        ("kinds", outputs.kinds),
        ("groups", outputs.groups),
        ("labels_for_people", outputs.labels),
        ("elements", outputs.elements),
        ("materials", materials(outputs.names)),
        ("instrument_inputs", INSTRUMENT_INPUTS),
        ("versions", package_versions()),
    ):
        file.attrs[attribute_name] = json.dumps(attribute_value)
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
    n_output_names = len(outputs.names)
    for dataset_name, n_columns, dtype in (
        ("expected", n_bin, "f4"),
        ("recorded", 2, "f4"),
        ("labels", n_output_names, "u1"),
        ("counts_needed", n_output_names, "f4"),
        ("surface_share", len(materials(outputs.names)), "f4"),
        ("instrument", len(INSTRUMENT_INPUTS), "f4"),
        *(
            (dataset_name, len(group_names(outputs.names)), "f4")
            for dataset_name in ("lines_needed", "lines_hidden", "amount")
        ),
    ):
        if n_columns == 0:  # outputs without groups
            continue
        file.create_dataset(dataset_name, (0, n_columns), dtype, maxshape=(None, n_columns), chunks=(256, n_columns))
    for dataset_name, dtype in (("source", "i4"), ("surface_um", "f4")):
        file.create_dataset(dataset_name, (0,), dtype, maxshape=(None,), chunks=(4096,))


def _append_chunk(file: h5py.File, chunk: h5py.File) -> None:
    for dataset_name, dataset in file.items():
        n_spectra = len(dataset)
        dataset.resize(n_spectra + len(chunk[dataset_name]), axis=0)
        dataset[n_spectra:] = chunk[dataset_name][()]
