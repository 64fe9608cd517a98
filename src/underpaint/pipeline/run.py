"""Analysis of a scan from its file to a results folder, which is created only when complete.

The functions are called by the command line and print nothing. ``progress`` is called with the task, the number of
completed steps and the total number.
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
from underpaint.io.results.provenance import (
    DEPENDENCIES_KEY,
    check_provenance,
    file_facts,
    refuse_change,
    result_folders,
)
from underpaint.io.results.sidecars import copy_sidecars
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Palette, load_palette
from underpaint.pigments.weights import load_card, model_path
from underpaint.pipeline.blocks import load_survey, save_survey
from underpaint.pipeline.plan import NO_MODEL, Settings, plan, read_survey
from underpaint.runtime.files import sha256_of
from underpaint.runtime.progress import Progress, no_progress

_BYTES_PER_MAP_VALUE = 12
_TYPICAL_N_FAMILIES = 40


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
        As for :func:`underpaint.load`. ``FILE::NAME`` selects an array.
    out : str or Path
        Folder of the results, which is created only when complete.
    settings : Settings or None
        Settings of the analysis, such as model, palette, instrument and engine.
    resume : bool
        Keep finished results of the same scan and settings, and continue an interrupted run.
    overwrite : bool
        Replace finished results. With ``resume``, replace only results of another scan or other settings.
    scheduler : str or None
        Address of a dask scheduler whose workers compute, or None for threads of this process.
    progress : callable or None
        Called with the task, the number of completed steps and the total number.

    Returns
    -------
    Results
        Results read from the folder by :func:`underpaint.read_results`. ``summary`` also has ``folder``, ``skipped``
        and ``aside``. ``skipped`` is true if finished results were kept. ``aside`` is a sentence on the location of
        regions or a photograph of replaced results that do not fit the new maps, or "".

    Raises
    ------
    UnderpaintError
        The scan, the model or the folder cannot be used, or the run to resume had another scan, model or settings. No
        incomplete folder remains, but finished blocks are kept in a working folder beside ``out``.

    Notes
    -----
    The scan is read twice, block by block, for the survey and for the analysis. Memory use is independent of the number
    of maps.

    Examples
    --------
    >>> import underpaint as up
    >>> results = up.identify_to_folder("panel.h5", "result", up.Settings(model="none"))
    >>> results.lines == up.read_results("result").lines
    True
    """
    # All arguments are checked before the scan is read.
    settings = settings or Settings()
    palette = load_palette(settings.palette) if isinstance(settings.palette, str | Path) else settings.palette
    instrument = settings.instrument
    instrument = load_instrument(instrument) if isinstance(instrument, str | Path) else instrument
    check_beam(settings.beam_kev)
    if settings.quantities is not None:
        settings.quantities.check(instrument)
    check_map_names(load_card(settings.model).names if settings.pigments else ())
    refuse_output_in_scan(out, scan)
    source_facts = file_facts(scan)
    dependencies = {
        **source_facts,
        "network": sha256_of(model_path(settings.model))[:16] if settings.pigments else None,
        "palette holds": asdict(palette) if isinstance(palette, Palette) else palette and list(palette),
        "instrument is": instrument and instrument.model_dump(mode="json"),
    }
    recorded_values = {"source": str(scan), "version": __version__, **settings.record()}
    provenance = recorded_values | dependencies
    if resume:
        recover(out)
    if resume and is_finished(out) and _can_be_kept(out, provenance, overwrite=overwrite):
        return _results_of_run(out, skipped=True)
    report_progress = progress or no_progress
    report_progress("Opening the scan", 0, 1)
    scan_read = load(scan, detector=settings.detector, shape=settings.shape, counts_scale=settings.counts_scale)
    if settings.step_mm is not None:
        scan_read = scan_read.replace(step_mm=settings.step_mm)
    needed_bytes = _needed_bytes(scan_read, settings)
    provenance["scan blocks"] = [list(chunk_sizes) for chunk_sizes in scan_read.chunks]
    with result_folder(
        out, resume=resume, overwrite=overwrite, needed_bytes=needed_bytes, settings=provenance
    ) as output_folder:
        scan_survey = load_survey(output_folder.blocks, scan_read)
        if scan_survey is None:
            scan_survey = read_survey(scan_read, report_progress)
            save_survey(output_folder.blocks, scan_survey)
        analysis_plan = plan(
            scan_read,
            replace(settings, palette=palette, instrument=instrument),
            surveyed=scan_survey,
            progress=report_progress,
        )
        store = BlockStore(output_folder.blocks / "maps", scan_read.shape[:2])
        results = analysis_plan.run(store, scheduler=scheduler, progress=report_progress)
        report_progress("Writing the maps", 0, 1)
        recorded_settings = {**results.summary["settings"], **recorded_values, DEPENDENCIES_KEY: dependencies}
        write_results(output_folder.path, replace(results, summary={**results.summary, "settings": recorded_settings}))
        # The files are copied before the report, which includes regions and photograph.
        earlier_folder = copy_sidecars(output_folder.earlier, output_folder.path)
        report_progress("Writing the report", 0, 1)
        _write_report(output_folder.path, analysis_plan.calibrated_scan.scan)
        refuse_change(scan, source_facts, out)
    return _results_of_run(
        out, aside="" if earlier_folder is None else _earlier_files_note(Path(out) / earlier_folder.name)
    )


def elements_to_folder(scan: str | Path, out: str | Path, settings: Settings | None = None, **options: Any) -> Results:
    """Fit the elements of one scan and write maps and report to a folder, as :func:`identify_to_folder`."""
    return identify_to_folder(scan, out, replace(settings or Settings(), model=NO_MODEL), **options)


def _results_of_run(out: str | Path, *, skipped: bool = False, aside: str = "") -> Results:
    results = read_results(out)
    run_facts = {"folder": str(out), "skipped": skipped, "aside": aside}
    return replace(results, summary={**results.summary, **run_facts})


def _write_report(folder: Path, scan: Scan) -> None:
    # The plotting library is imported late, because its import takes a second.
    from underpaint.display.report import write_report

    write_report(folder, scan=scan)


def _can_be_kept(out: str | Path, dependencies: Mapping[str, Any], *, overwrite: bool) -> bool:
    """Return whether finished results are those requested, or raise an error if other results may not be replaced."""
    try:
        check_provenance(out, dependencies)
    except UnderpaintError:
        if overwrite:
            return False
        raise
    return True


def default_folder(scan: str | Path, base_folder: str | Path = ".") -> Path:
    """Return the default results folder, ``<scan name>_underpaint`` in ``base_folder``."""
    scan_text = str(scan)
    path, _, array_name = (scan_text, "", "") if Path(scan_text).exists() else scan_text.rpartition("::")
    resolved_path = Path(path or scan_text).resolve()
    scan_name = resolved_path.name if resolved_path.is_dir() else resolved_path.stem
    joined_name = "_".join(name_part for name_part in (scan_name, array_name.strip("/").replace("/", "_")) if name_part)
    return Path(base_folder) / f"{joined_name}_underpaint"


def distinct_folders(scans: Sequence[str | Path], base_folder: str | Path = ".") -> list[Path]:
    """Return a results folder for each scan, either that of earlier results or a new default folder."""
    return result_folders(scans, [default_folder(scan, base_folder) for scan in scans])


def _earlier_files_note(folder: Path) -> str:
    return f"Regions and photograph of the earlier results belong to maps of another size; they are kept in {folder}."


def _needed_bytes(scan: Scan, settings: Settings) -> int:
    # Each map is stored at most three times: as blocks, in HDF5 and as TIFF.
    # Elements and quantities also have maps of standard deviations.
    n_map = (2 if settings.quantities is None else 5) * _TYPICAL_N_FAMILIES
    if settings.pigments:
        card = load_card(settings.model)
        n_map += len(card.names) + 2 * len(card.quantities)
    return scan.n_pixel * n_map * _BYTES_PER_MAP_VALUE + 32 * 2**20


def check_new_file(path: str | Path, *, overwrite: bool | None = None) -> None:
    """Check that a file can be written, before the computation.

    Parameters
    ----------
    path : str or Path
        File to write.
    overwrite : bool or None
        Whether an existing file may be replaced, or None if the command has no such option.

    Raises
    ------
    OutputError
        The file exists and ``overwrite`` is not true, or the file is a device or a pipe. The folder is missing or not
        writable.
    """
    file_path = Path(path)
    if os.path.lexists(file_path) and not overwrite:
        advice = "or move it away" if overwrite is None else "or add --overwrite to replace it"
        raise OutputError(
            f"Cannot write {file_path}: it already exists, and is not replaced. Give another name, {advice}."
        )
    if os.path.lexists(file_path) and not (file_path.is_symlink() or file_path.is_file() or file_path.is_dir()):
        raise OutputError(f"Cannot write {file_path}: it is a device or a pipe, not a file. Give the name of a file.")
    folder = file_path.resolve().parent
    if not folder.is_dir():
        raise OutputError(f"Cannot write {file_path}: the folder {folder} does not exist. Create the folder first.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise OutputError(f"Cannot write {file_path}: the folder {folder} is not writable. Give a writable folder.")
