"""Areas, summed spectra and layers of the paints of a painting, from its results."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from underpaint.calibrate import Beam, CalibratedScan, Knowledge, check_instrument, merge_knowledge, resolve_energy_axis
from underpaint.data import Scan, Spectrum
from underpaint.data.maps import NO_ANSWER, SURFACE_UM, Results
from underpaint.data.paint_areas import MIXED, PaintArea
from underpaint.errors import SampleError, ScanError
from underpaint.io import read_results
from underpaint.io.results.contained import open_results_file
from underpaint.io.results.nexus import write_depth_maps, write_estimate_tiffs, write_paint_map, write_paints
from underpaint.io.results.paints import PAINT_MAP, PAINTS_FILE, write_paint_table
from underpaint.io.results.sidecars import find_scan
from underpaint.io.results.stored import RESULTS_FILE
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.physics.materials import ground_layer
from underpaint.pigments.explain import CandidateGroups, ModelError, explain
from underpaint.pigments.explain.candidate_groups import CERTAIN_PROBABILITY, likely_groups
from underpaint.pigments.explain.known import KnownLayers, read_known
from underpaint.pigments.explain.record import explanation_record
from underpaint.pigments.paints import find_paints, split_by_depth, with_summed_spectra
from underpaint.runtime.files import atomic_write
from underpaint.runtime.progress import Progress, no_progress


def replace_paints(folder: Path, results: Results) -> None:
    """Replace the paints in results on disk, and leave all other content unchanged.

    Parameters
    ----------
    folder : Path
        Results folder.
    results : Results
        Results with the new paints and the labels of the groups.

    Raises
    ------
    ScanError
        The folder holds no results, or they are damaged.
    OutputError
        A file cannot be written. No file was changed.
    """
    with open_results_file(folder):
        pass  # opening raises an error if the folder holds no results
    with atomic_write(folder / RESULTS_FILE) as temporary_path:
        shutil.copyfile(folder / RESULTS_FILE, temporary_path)
        with h5py.File(temporary_path, "r+") as file:
            earlier_depth_maps = set(file.get("entry/depth/results/counts", ()))
            for name in {"paints", "depth"} & set(file["entry"]):
                del file[f"entry/{name}"]
            write_paints(file["entry"], results)
    with atomic_write(folder / PAINTS_FILE) as temporary_path:
        write_paint_table(temporary_path, results)
    with atomic_write(folder / PAINT_MAP) as temporary_path:
        write_paint_map(temporary_path, results)
    for name in earlier_depth_maps:  # these maps belong to the replaced results
        (folder / "depth" / f"{name}.tif").unlink(missing_ok=True)
    write_depth_maps(folder / "depth", results)
    if "quantity" in results.stacks and (SURFACE_UM,) in results.stacks["quantity"]:
        # the map has the paint's thickness if the pixel's thickness is not determined
        write_estimate_tiffs(folder / "quantities", results, SURFACE_UM)


DEFAULT_INSTRUMENT = "elio"
"""Instrument preset for values that are not given, not in the scan's file and not measured from its lines."""
N_EXPLANATION_PROCESSES = 2
"""Number of processes for an explanation, one for each independent run."""
ALL_PAINTS = -1
"""Value of ``explained`` that selects all paints."""


def with_paints(results: Results) -> Results:
    """Return results with their paints, or with a note if no paints are found."""
    try:
        return results | find_paints(results)
    except ScanError as error:
        return replace(results, process_notes={**results.process_notes, "paints": (str(error),)})


def paints_of_folder(
    folder: str | Path,
    *,
    scan: str | None = None,
    explained: Sequence[int] = (),
    known: str | Path | None = None,
    instrument: str | None = None,
    ground: str = "chalk",
    seed: int = 0,
    progress: Progress | None = None,
) -> Results:
    """Find the paints of a results folder, sum their spectra, explain their layers, and store the results.

    Parameters
    ----------
    folder : str or Path
        Folder from ``underpaint identify`` or ``underpaint elements``, whose maps and report are extended.
    scan : str or None
        Path of the scan, if the scan was moved. Without a scan, paints have areas and groups, but no spectra.
    explained : sequence of int
        Numbers of the paints whose layers are computed (one or two minutes each), or only :data:`ALL_PAINTS`.
    known : str, Path or None
        File with results of other methods, see :func:`underpaint.pigments.explain.known.read_known`. Groups that these
        methods exclude are removed from the paint. The known order and thickness are fixed in the computation of the
        layers.
    instrument : str or None
        Preset or file of the scanner. Unknown values are taken from :data:`DEFAULT_INSTRUMENT`.
    ground : str
        Ground of the library.
    seed : int
        Seed of the search for areas.
    progress : callable, optional
        Called with (task, steps done, total steps).

    Returns
    -------
    Results
        Results with :attr:`~underpaint.Results.paints` and :attr:`~underpaint.Results.paint`.

    Raises
    ------
    ScanError
        The results are missing or contain no elements, the needed scan is missing, or a paint does not exist.
    UnderpaintError
        The instrument, the ground or the known results cannot be used, or the files cannot be written.

    Examples
    --------
    >>> from underpaint.pipeline.paints import paints_of_folder
    >>> results = paints_of_folder("panel_underpaint")
    >>> results.paint.dims, len(results.paints) == int(results.paint.where(results.paint < 255).max())
    (('row', 'column'), True)
    """
    report_progress, results_folder = progress or no_progress, Path(folder)
    given_instrument = None if instrument is None else load_instrument(instrument)
    entries = () if known is None else read_known(known)
    ground_layer(ground, 100.0)
    report_progress("Reading the maps", 0, 1)
    results = read_results(results_folder)
    report_progress("Finding the paints", 0, 1)
    results |= find_paints(results, seed=seed)
    known_by_paint = _known_by_paint(entries, results)
    results = replace(
        results, paints=tuple(_with_known_layers(area, known_by_paint.get(area.number)) for area in results.paints)
    )
    explained_numbers = _paint_numbers(explained, results.paints)
    opened_scan: Scan | None = None
    notes: tuple[str, ...] = ()
    try:
        opened_scan = find_scan(results_folder, results.summary, scan, results.shape, allow_shares=scan is not None)
    except ScanError as error:
        if explained_numbers or scan is not None:
            raise
        notes = (f"The spectra of the paints were not summed. {error}",)
    if opened_scan is not None:
        areas = with_summed_spectra(opened_scan, results.map("paint"), results.paints, report_progress)
        if explained_numbers:
            areas = _explain_areas(
                opened_scan,
                areas,
                explained_numbers,
                results,
                known_by_paint,
                given_instrument,
                ground,
                report_progress,
            )
        results = replace(results, paints=areas)
    results = replace(results, process_notes={**results.process_notes, "paints": notes})
    results = replace(results, stacks={name: results.stacks[name] for name in results.stacks if "depth" not in name})
    results |= split_by_depth(results)
    report_progress("Writing the paints", 0, 1)
    replace_paints(results_folder, results)
    from underpaint.display.report import write_report  # the import of the plotting library takes a second

    write_report(results_folder, scan=opened_scan)
    return results


def _paint_numbers(explained: Sequence[int], areas: Sequence[PaintArea]) -> tuple[int, ...]:
    """Return the numbers of the paints to explain.

    Raises
    ------
    ScanError
        A paint does not exist.
    """
    existing_numbers = tuple(area.number for area in areas)
    if tuple(explained) == (ALL_PAINTS,):
        return existing_numbers
    if unknown_numbers := [number for number in explained if number not in existing_numbers]:
        raise ScanError(
            f"Cannot explain paint {unknown_numbers[0]}: there are paints 1 to {len(existing_numbers)}. `underpaint "
            "paints` "
            "lists the paints."
        )
    return tuple(explained)


def _known_by_paint(entries: Sequence[KnownLayers], results: Results) -> dict[int, KnownLayers]:
    """Return the known results, by the number of the paint.

    Raises
    ------
    SampleError
        The location of an entry is in no paint, or two entries are in the same paint.
    """
    paint_map, known_by_paint = results.map("paint"), dict[int, KnownLayers]()
    for entry in entries:
        paint_number, entry_location = entry.paint, f"paint {entry.paint}"
        if entry.pixel is not None:
            row, column = entry.pixel
            entry_location = f"pixel ({row}, {column})"
            is_inside = row < paint_map.shape[0] and column < paint_map.shape[1]
            paint_number = (
                int(paint_map[row, column]) if is_inside and paint_map[row, column] not in (MIXED, NO_ANSWER) else None
            )
        if paint_number is None or paint_number > len(results.paints):
            raise SampleError(
                f"Cannot use the result of {entry.method} at {entry_location}: the location is in no paint. There are "
                "paints 1 to "
                f"{len(results.paints)}, on {paint_map.shape[0]} rows x {paint_map.shape[1]} columns. Give the "
                "number of a paint, or a pixel in a paint."
            )
        if paint_number in known_by_paint:
            raise SampleError(
                f"Cannot use two results for paint {paint_number} ({known_by_paint[paint_number].source}; "
                f"{entry.source}). Combine both in one entry."
            )
        known_by_paint[paint_number] = entry
    return known_by_paint


def _with_known_layers(area: PaintArea, known_layers: KnownLayers | None) -> PaintArea:
    if known_layers is None:
        return area
    groups = {name: state for name, state in area.groups.items() if name not in known_layers.absent}
    return replace(area, groups=groups, known=known_layers.sentence)


def _explain_areas(
    scan: Scan,
    areas: Sequence[PaintArea],
    numbers: Sequence[int],
    results: Results,
    known_by_paint: Mapping[int, KnownLayers],
    given_instrument: Instrument | None,
    ground: str,
    report_progress: Progress,
) -> tuple[PaintArea, ...]:
    """Explain the summed spectra of the paints with the given numbers, and return all paints."""
    report_progress("Finding the energy axis", 0, 1)
    calibrated = resolve_energy_axis(scan, calibrated=was_calibrated(results))
    if given_instrument is not None:
        check_instrument(calibrated, given_instrument, trusted=False)
    instrument = spectrum_knowledge(scan, calibrated, given_instrument).instrument
    finished_areas: list[PaintArea] = []
    for area in areas:
        if area.number not in numbers or area.spectrum is None:
            finished_areas.append(area)
            continue
        spectrum = Spectrum(area.spectrum, calibrated.scan.require_axis(), name=f"paint {area.number}")
        n_explained = sum(finished_area.explanation is not None for finished_area in finished_areas)
        report_progress(f"Computing the layers of paint {area.number}", n_explained, len(numbers))
        known_layers = known_by_paint.get(area.number)
        explanation = _explanation_record(area, spectrum, results, known_layers, instrument, ground)
        finished_areas.append(replace(area, explanation=explanation))
    return tuple(finished_areas)


def _explanation_record(
    area: PaintArea,
    spectrum: Spectrum,
    results: Results,
    known_layers: KnownLayers | None,
    instrument: Instrument,
    ground: str,
) -> dict[str, Any]:
    """Return the record of an explanation, or a record with the reason if no group is likely."""
    try:
        groups = candidate_groups_of(area, results, ground).with_known_layers(known_layers)
    except SampleError as error:
        return {"name": spectrum.name, "describes": False, "words": [str(error)]}
    return explanation_record(
        explain(spectrum, instrument, groups, ground=ground, error=ModelError(), workers=N_EXPLANATION_PROCESSES)
    )


def candidate_groups_of(area: PaintArea, results: Results, ground: str) -> CandidateGroups:
    """Return the candidate groups of a paint, which are present or have a sufficient probability.

    Raises
    ------
    SampleError
        The paint has no candidate group.
    """
    if not results.has_pigments:
        raise SampleError(
            f"Cannot explain paint {area.number}: these results contain no pigment groups. Run `underpaint identify`, "
            "or name the pigments with `underpaint explain --region paint.tif --pigments`."
        )
    mask = results.map("paint") == area.number
    probability = {name: float(np.nanmedian(results[name][mask])) for name in results.groups}
    probability |= {name: max(probability.get(name, 0.0), CERTAIN_PROBABILITY) for name in area.groups}
    return likely_groups(probability, ground, f"paint {area.number}")


def spectrum_knowledge(scan: Scan, calibrated: CalibratedScan, given_instrument: Instrument | None) -> Knowledge:
    """Return the values of the scan's instrument, with unknown values from :data:`DEFAULT_INSTRUMENT`."""
    return merge_knowledge(
        scan,
        user_instrument=given_instrument,
        calibration=calibrated.calibration,
        beam=None
        if calibrated.beam_kev is None
        else Beam(calibrated.beam_kev, calibrated.known_conditions().scatter_deg),
        default_instrument=load_instrument(DEFAULT_INSTRUMENT),
        measured_axis=True,
    )


def was_calibrated(results: Results) -> bool:
    """Return whether the energy axis of the results was calibrated with the lines of the scan."""
    return bool(results.settings.get("calibrated", True))
