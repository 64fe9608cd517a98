"""Training libraries: simulated spectra with labels, on disk, reproducible for any number and kind of workers."""

import json
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py

from underpaint.errors import OutputError
from underpaint.runtime.executors import Crew, crew_of, in_order
from underpaint.runtime.pieces import Pieces, pieces_of, was_cut_off_at_the_end
from underpaint.runtime.progress import Progress, silent
from underpaint.simulate.instrument_inputs import INSTRUMENT_INPUTS
from underpaint.simulate.jobs import (
    LibrarySettings,
    chunk_size,
    job_axis,
    job_outputs,
    n_chunk,
    n_stratigraphies,
    resolved,
    transport_settings,
)
from underpaint.simulate.labels import materials
from underpaint.simulate.outputs import Outputs
from underpaint.simulate.photons import CHUNKS, chunk_bytes, open_photons, photons_from_bytes, photons_to_bytes
from underpaint.simulate.rendering import Chunk, chunk_to_bytes, render_chunk, transport_chunk

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
    """Simulate a training library; a call that was interrupted, or killed, is taken up again by the next one.

    Parameters
    ----------
    settings : LibrarySettings
        What to draw.
    out : path
        HDF5 file with ``expected`` (n, n_bin) noise-free spectra that sum to one over the recorded range,
        ``recorded`` (n, 2) start and stop, keV, ``labels`` and ``counts_needed`` (n, n_name), ``source`` (n,);
        of the uppermost paint ``surface_um`` (n,) and ``surface_share`` (n, n_material), mass of the dry pigments;
        ``instrument`` (n, n_input) as :data:`underpaint.simulate.instrument_inputs.INSTRUMENT_INPUTS` names them.
    photons : path, optional
        HDF5 file that keeps the photons. If it is there, the transport is not repeated: only what a detector and
        its electronics make of the photons is computed.
    workers : int, optional
        Processes; None: one per core.
    scheduler : str, optional
        Address of a dask.distributed scheduler, whose workers then do the work.
    progress : callable, optional

    Raises
    ------
    OutputError
        The file exists, was begun with other settings, or the photons are those of another job.

    Notes
    -----
    The result depends on neither workers nor scheduler, to the last bit, on processors of one kind (linear algebra
    takes other instructions, and so rounds otherwise, on others).
    """
    job, target = resolved(settings), Path(out)
    if was_cut_off_at_the_end(target, _library_job(job)):
        return target
    show = progress or silent
    with pieces_of(target, _library_job(job), n_chunk(job)) as pieces, crew_of(workers, scheduler) as crew:
        if photons is None:
            _work(crew, pieces, job, _direct, ((index, (job, index)) for index in pieces.missing()), "Simulating", show)
        else:
            transport_to(Path(photons), job, crew, show)
            with open_photons(photons) as file:
                tasks = ((index, (job, index, chunk_bytes(file, index))) for index in pieces.missing())
                _work(crew, pieces, job, _from_photons, tasks, "Rendering", show)
        show("Writing", 0, 1)
        pieces.join(lambda file, chunks: _write_library(file, chunks, job))
    return target


def transport_to(path: Path, job: LibrarySettings, crew: Crew, show: Progress) -> None:
    """Make a file of photons, unless it is there.

    Raises
    ------
    OutputError
        It holds the photons of another job.
    """
    wanted = transport_settings(job)
    if was_cut_off_at_the_end(path, wanted):
        return
    if path.exists():
        open_photons_of(path, wanted).close()
        return
    with pieces_of(path, wanted, n_chunk(job)) as pieces:
        _work(crew, pieces, job, _photons, ((index, (job, index)) for index in pieces.missing()), "Photons", show)
        show("Writing", 0, 1)
        pieces.join(lambda file, chunks: write_photons_file(file, chunks, job.seed))


def open_photons_of(path: Path, wanted: dict[str, Any]) -> h5py.File:
    """Open a file of photons, if they are those of the job that is wanted.

    Raises
    ------
    OutputError
        They are those of another job.
    """
    file, wanted = open_photons(path), json.loads(json.dumps(wanted))
    held = json.loads(file.attrs["job"])
    differ = [name for name in wanted if held.get(name) != wanted[name]]
    if not differ:
        return file
    file.close()
    faults = "; ".join(_difference(name, held.get(name), wanted[name]) for name in differ)
    raise OutputError(
        f"Cannot render the photons {path}: they are those of another job ({faults}). Choose another name."
    )


def _difference(name: str, there: Any, here: Any) -> str:
    if isinstance(here, dict | list):
        return f"{name} differs"
    return f"{name}: {there} there, {here} wanted"


def write_photons_file(file: h5py.File, chunks: Iterator[h5py.File], seed: int) -> None:
    """Join chunks of photons: a group for each, its compressed arrays copied as they are."""
    file.attrs.update(seed=seed, versions=json.dumps(versions()))
    group = file.create_group(CHUNKS)
    for index, chunk in enumerate(chunks):
        chunk.copy(chunk["/"], group, name=f"{index:06d}")


def make_chunk(settings: LibrarySettings, index: int) -> Chunk:
    """Simulate one chunk; it depends on the seeds and the chunk's index alone."""
    return render_chunk(settings, index, transport_chunk(settings, index))


def versions() -> dict[str, str]:
    """Return the versions of what made a file."""
    return {name: version(name) for name in ("underpaint", "numpy", "scipy", "xraylib", "h5py")}


def _direct(settings: LibrarySettings, index: int) -> bytes:
    return chunk_to_bytes(make_chunk(settings, index))


def _photons(settings: LibrarySettings, index: int) -> bytes:
    return photons_to_bytes(transport_chunk(settings, index))


def _from_photons(settings: LibrarySettings, index: int, data: bytes) -> bytes:
    return chunk_to_bytes(render_chunk(settings, index, photons_from_bytes(data)))


def _work(
    crew: Crew,
    pieces: Pieces,
    job: LibrarySettings,
    function: Callable[..., bytes],
    tasks: Tasks,
    what: str,
    show: Progress,
) -> None:
    total = n_stratigraphies(job)
    done = total - sum(chunk_size(job, index) for index in pieces.missing())
    show(what, done, total)
    for index, data in in_order(crew, function, tasks):
        pieces.save(index, data)
        done += chunk_size(job, index)
        show(what, done, total)


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
    ):
        file.create_dataset(name, (0, width), kind, maxshape=(None, width), chunks=(256, width))
    for name, kind in (("source", "i4"), ("surface_um", "f4")):
        file.create_dataset(name, (0,), kind, maxshape=(None,), chunks=(4096,))


def _append(file: h5py.File, chunk: h5py.File) -> None:
    for name, dataset in file.items():
        start = len(dataset)
        dataset.resize(start + len(chunk[name]), axis=0)
        dataset[start:] = chunk[name][()]
