"""From a file to a folder of results, which appears whole or not at all.

The command line calls this; it prints nothing. ``progress`` is called with (what is being done, done, in all).
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from underpaint._version import __version__
from underpaint.calibrate import check_beam
from underpaint.data import Scan
from underpaint.data.maps import Results
from underpaint.errors import OutputError, UnderpaintError
from underpaint.io import BlockStore, is_finished, load, read_results, recover, result_folder, write_results
from underpaint.io.load import refuse_output_in_scan
from underpaint.io.results.nexus import check_map_names
from underpaint.io.results.provenance import DEPENDS, check_provenance, file_facts, refuse_change, result_folders
from underpaint.io.results.sidecars import copy_sidecars
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Palette, load_palette
from underpaint.pigments.weights import load_card, model_path
from underpaint.pipeline.blocks import load_survey, save_survey
from underpaint.pipeline.plan import NO_MODEL, Settings, plan, read_survey
from underpaint.runtime.files import sha256_of
from underpaint.runtime.progress import Progress, no_progress

_BYTES_PER_MAP_VALUE = 12
_USUAL_FAMILIES = 40


def identify_to_folder(
    scan: str | Path,
    out: str | Path,
    settings: Settings | None = None,
    *,
    resume: bool = False,
    overwrite: bool = False,
    scheduler: str | None = None,
    progress: Progress | None = None,
) -> Results:
    """Identify the pigments of one scan, fit its elements, and write results and report to a folder.

    Parameters
    ----------
    scan : str or Path
        As for :func:`underpaint.load`; ``FILE::NAME`` picks an array.
    out : str or Path
        Folder to make; it appears whole or not at all.
    settings : Settings or None
        Model, palette, instrument, engine.
    resume : bool
        Leave finished results of the same scan and settings alone, and go on with the next block of what was
        interrupted.
    overwrite : bool
        Replace finished results; with ``resume``, those of another scan or other settings alone.
    scheduler : str or None
        Address of a dask scheduler whose workers compute; None: threads of this process.
    progress : callable or None
        Called with (what is being done, done, in all), of spectra where there are many.

    Returns
    -------
    Results
        As :func:`underpaint.read_results` reads them from the folder. ``summary`` also has ``folder``; ``skipped``,
        true where finished results were left alone; and ``aside``, in words where regions and photograph of replaced
        results are that do not fit these, or "".

    Raises
    ------
    UnderpaintError
        The scan, the model or the folder cannot be used, or what is to be resumed was begun, or finished, with another
        scan, model or settings. The folder is whole or not there; finished blocks stay beside it, in ``<out>.part``.

    Notes
    -----
    The scan is read twice, block by block: for its sum, and for all else. Memory does not grow with the number of maps.

    Examples
    --------
    >>> import underpaint as up
    >>> results = up.identify_to_folder("panel.h5", "result", up.Settings(model="none"))
    >>> results.lines == up.read_results("result").lines
    True
    """
    # What can be wrong with the call is found out before the scan is read.
    settings = settings or Settings()
    palette = load_palette(settings.palette) if isinstance(settings.palette, str | Path) else settings.palette
    instrument = settings.instrument
    instrument = load_instrument(instrument) if isinstance(instrument, str | Path) else instrument
    check_beam(settings.beam_kev)
    if settings.quantities is not None:
        settings.quantities.check(instrument)
    check_map_names(load_card(settings.model).names if settings.pigments else ())
    refuse_output_in_scan(out, scan)
    facts = file_facts(scan)
    depends = {
        **facts,
        "network": sha256_of(model_path(settings.model))[:16] if settings.pigments else None,
        "palette holds": asdict(palette) if isinstance(palette, Palette) else palette and list(palette),
        "instrument is": instrument and instrument.model_dump(mode="json"),
    }
    about = {"source": str(scan), "version": __version__, **settings.record()}
    flat = about | depends
    if resume:
        recover(out)
    if resume and is_finished(out) and _is_left_alone(out, flat, overwrite=overwrite):
        return _of_run(out, skipped=True)
    step = progress or no_progress
    step("Opening the scan", 0, 1)
    opened = load(scan, detector=settings.detector, shape=settings.shape, counts_scale=settings.counts_scale)
    if settings.step_mm is not None:
        opened = replace(opened, step_mm=settings.step_mm)
    needed = _needed_bytes(opened, settings)
    flat["scan blocks"] = [list(sizes) for sizes in opened.counts.chunks]
    with result_folder(out, resume=resume, overwrite=overwrite, needed_bytes=needed, settings=flat) as place:
        surveyed = load_survey(place.blocks, opened)
        if surveyed is None:
            surveyed = read_survey(opened, step)
            save_survey(place.blocks, surveyed)
        planned = plan(
            opened, replace(settings, palette=palette, instrument=instrument), surveyed=surveyed, progress=step
        )
        store = BlockStore(place.blocks / "maps", opened.shape[:2])
        results = planned.run(store, scheduler=scheduler, progress=step)
        step("Writing the maps", 0, 1)
        recorded_settings = {**results.summary["settings"], **about, DEPENDS: depends}
        write_results(place.path, replace(results, summary={**results.summary, "settings": recorded_settings}))
        # Before the report, which tells of regions and photograph, too.
        aside = copy_sidecars(place.earlier, place.path)
        step("Writing the report", 0, 1)
        _write_report(place.path, planned.calibrated.scan)
        refuse_change(scan, facts, out)
    return _of_run(out, aside="" if aside is None else _put_aside(Path(out) / aside.name))


def elements_to_folder(scan: str | Path, out: str | Path, settings: Settings | None = None, **options: Any) -> Results:
    """Fit the elements of one scan and write maps and report to a folder; as :func:`identify_to_folder`."""
    return identify_to_folder(scan, out, replace(settings or Settings(), model=NO_MODEL), **options)


def _of_run(out: str | Path, *, skipped: bool = False, aside: str = "") -> Results:
    results = read_results(out)
    about = {"folder": str(out), "skipped": skipped, "aside": aside}
    return replace(results, summary={**results.summary, **about})


def _write_report(folder: Path, scan: Scan) -> None:
    # Reports draw, and what draws takes a second to be imported: `underpaint info` does without.
    from underpaint.display.report import write_report

    write_report(folder, scan=scan)


def _is_left_alone(out: str | Path, depends: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Whether finished results are those that are asked for; others may be replaced, or it is an error."""
    try:
        check_provenance(out, depends)
    except UnderpaintError:
        if overwrite:
            return False
        raise
    return True


def default_folder(scan: str | Path, base: str | Path = ".") -> Path:
    """Return ``<scan name>_underpaint`` in a folder, for results."""
    text = str(scan)
    path, _, array = (text, "", "") if Path(text).exists() else text.rpartition("::")
    stem = Path(path or text).resolve()
    name = stem.name if stem.is_dir() else stem.stem
    named = "_".join(part for part in (name, array.strip("/").replace("/", "_")) if part)
    return Path(base) / f"{named}_underpaint"


def distinct_folders(scans: Sequence[str | Path], base: str | Path = ".") -> list[Path]:
    """Return a results folder for each scan: that of its earlier results, or one of its name, numbered if need be."""
    return result_folders(scans, [default_folder(scan, base) for scan in scans])


def _put_aside(folder: Path) -> str:
    return (
        "Regions and photograph of the earlier results lie on maps of other rows and columns than these; "
        f"they are kept in {folder}."
    )


def _needed_bytes(scan: Scan, settings: Settings) -> int:
    # Maps once as blocks, once in HDF5 and once as TIFF, at most; of elements and quantities also their errors.
    n_map = (2 if settings.quantities is None else 5) * _USUAL_FAMILIES
    if settings.pigments:
        card = load_card(settings.model)
        n_map += len(card.names) + 2 * len(card.quantities)
    return scan.n_pixel * n_map * _BYTES_PER_MAP_VALUE + 32 * 2**20


def check_new_file(path: str | Path, *, overwrite: bool | None = None) -> None:
    """Refuse to replace a file before an hour was spent on making its contents.

    Parameters
    ----------
    path : str or Path
        The file to write.
    overwrite : bool or None
        Whether it may be replaced; None: never, and there is no option for it.

    Raises
    ------
    OutputError
        It exists and ``overwrite`` is false, is a device or a pipe, or its folder is not there or not writable.
    """
    target = Path(path)
    if os.path.lexists(target) and not overwrite:
        remedy = "or move it away" if overwrite is None else "or add --overwrite to replace it"
        raise OutputError(
            f"Cannot write {target}: it is already there, and is not replaced. Give another name, {remedy}."
        )
    if os.path.lexists(target) and not (target.is_symlink() or target.is_file() or target.is_dir()):
        raise OutputError(f"Cannot write {target}: it is a device or a pipe, not a file. Give the name of a file.")
    folder = target.resolve().parent
    if not folder.is_dir():
        raise OutputError(f"Cannot write {target}: the folder {folder} does not exist. Make it first.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(
            f"Cannot write {target}: you may not write in the folder {folder}. Give a place where you may."
        )
