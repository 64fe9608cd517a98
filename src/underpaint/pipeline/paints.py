"""Paints of a painting from its results: areas, summed spectra, and layers."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from underpaint.calibrate import Beam, CalibratedScan, Knowledge, check_instrument, merge_knowledge, resolve_energy_axis
from underpaint.data import Scan, Spectrum
from underpaint.data.maps import NO_ANSWER, Results
from underpaint.data.paint_areas import MIXED, PaintArea
from underpaint.errors import SampleError, ScanError
from underpaint.io import read_results
from underpaint.io.results.sidecars import find_scan
from underpaint.io.results.with_paints import replace_paints
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.physics.materials import ground_layer
from underpaint.pigments.explain import CandidateGroups, ModelError, explain
from underpaint.pigments.explain.candidate_groups import CERTAIN_PROBABILITY, likely_groups
from underpaint.pigments.explain.known import KnownLayers, read_known
from underpaint.pigments.explain.record import explanation_record
from underpaint.pigments.paints import find_paints, split_by_depth, with_summed_spectra
from underpaint.runtime.progress import Progress, no_progress

DEFAULT_INSTRUMENT = "elio"
"""Preset for values of the instrument that are neither given nor in the scan's file nor measured from its lines."""
N_PROCESS = 2
"""Number of processes for an explanation: one for each independent run."""
ALL_PAINTS = -1
"""Value that stands for the numbers of all paints."""


def with_paints(results: Results) -> Results:
    """Return results with their paints; if none are found, a note says why."""
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
    """Find the paints of a results folder again, sum their spectra, explain their layers, and save these in the folder.

    Parameters
    ----------
    folder : str or Path
        Folder from ``underpaint identify`` or ``underpaint elements``; its maps and its report are extended.
    scan : str or None
        Path of the scan, if it was moved. Without the scan there are areas and groups, but no spectra.
    explained : sequence of int
        Numbers of the paints whose layers are computed, a minute or two each; or :data:`ALL_PAINTS` alone.
    known : str, Path or None
        File with results of other methods, see :func:`underpaint.pigments.explain.known.read_known`. Groups that are
        absent there are removed from the paint; order and thickness are taken as given when the layers are computed.
    instrument : str or None
        Preset or file of the scanner; unknown values are those of :data:`DEFAULT_INSTRUMENT`.
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
        There are no results, they contain no elements, the scan is needed but missing, or a paint does not exist.
    UnderpaintError
        The instrument, the ground or the known results cannot be used, or the files cannot be written.

    Examples
    --------
    >>> from underpaint.pipeline.paints import paints_of_folder
    >>> results = paints_of_folder("panel_underpaint")
    >>> results.paint.dims, len(results.paints) == int(results.paint.where(results.paint < 255).max())
    (('row', 'column'), True)
    """
    step, results_folder = progress or no_progress, Path(folder)
    given_instrument = None if instrument is None else load_instrument(instrument)
    entries = () if known is None else read_known(known)
    ground_layer(ground, 100.0)
    step("Reading the maps", 0, 1)
    results = read_results(results_folder)
    step("Finding the paints", 0, 1)
    results |= find_paints(results, seed=seed)
    known_by_paint = _known_by_paint(entries, results)
    results = replace(
        results, paints=tuple(_with_known(area, known_by_paint.get(area.number)) for area in results.paints)
    )
    numbers = _paint_numbers(explained, results.paints)
    opened_scan: Scan | None = None
    notes: tuple[str, ...] = ()
    try:
        opened_scan = find_scan(results_folder, results.summary, scan, results.shape, required=scan is not None)
    except ScanError as error:
        if numbers or scan is not None:
            raise
        notes = (f"The spectra of the paints were not summed. {error}",)
    if opened_scan is not None:
        areas = with_summed_spectra(opened_scan, results.map("paint"), results.paints, step)
        if numbers:
            areas = _explained(opened_scan, areas, numbers, results, known_by_paint, given_instrument, ground, step)
        results = replace(results, paints=areas)
    results = replace(results, process_notes={**results.process_notes, "paints": notes})
    results = replace(results, stacks={name: results.stacks[name] for name in results.stacks if "depth" not in name})
    results |= split_by_depth(results)
    step("Writing the paints", 0, 1)
    replace_paints(results_folder, results)
    from underpaint.display.report import write_report  # the drawing library takes a second to import

    write_report(results_folder, scan=opened_scan)
    return results


def _paint_numbers(explained: Sequence[int], areas: Sequence[PaintArea]) -> tuple[int, ...]:
    """Return the numbers of the paints to explain.

    Raises
    ------
    ScanError
        A paint does not exist.
    """
    existing = tuple(area.number for area in areas)
    if tuple(explained) == (ALL_PAINTS,):
        return existing
    if unknown := [number for number in explained if number not in existing]:
        raise ScanError(
            f"Cannot explain paint {unknown[0]}: there are paints 1 to {len(existing)}. `underpaint paints` lists them."
        )
    return tuple(explained)


def _known_by_paint(entries: Sequence[KnownLayers], results: Results) -> dict[int, KnownLayers]:
    """Return the known result of each paint that has one.

    Raises
    ------
    SampleError
        An entry is in no paint, or two entries are in the same paint.
    """
    label, known_by_paint = results.map("paint"), dict[int, KnownLayers]()
    for entry in entries:
        number, location = entry.paint, f"paint {entry.paint}"
        if entry.pixel is not None:
            row, column = entry.pixel
            location = f"pixel ({row}, {column})"
            is_inside = row < label.shape[0] and column < label.shape[1]
            number = int(label[row, column]) if is_inside and label[row, column] not in (MIXED, NO_ANSWER) else None
        if number is None or number > len(results.paints):
            raise SampleError(
                f"Cannot use the result of {entry.method} at {location}: it is in no paint. There are paints 1 to "
                f"{len(results.paints)}, on {label.shape[0]} rows x {label.shape[1]} columns. Give the number of a "
                "paint, or a pixel in it."
            )
        if number in known_by_paint:
            raise SampleError(
                f"Cannot use two results for paint {number} ({known_by_paint[number].source}; {entry.source}). "
                "Combine them in one entry."
            )
        known_by_paint[number] = entry
    return known_by_paint


def _with_known(area: PaintArea, known: KnownLayers | None) -> PaintArea:
    if known is None:
        return area
    groups = {name: state for name, state in area.groups.items() if name not in known.absent}
    return replace(area, groups=groups, known=known.sentence)


def _explained(
    scan: Scan,
    areas: Sequence[PaintArea],
    numbers: Sequence[int],
    results: Results,
    known_by_paint: Mapping[int, KnownLayers],
    given_instrument: Instrument | None,
    ground: str,
    step: Progress,
) -> tuple[PaintArea, ...]:
    """Return all paints, those with the given numbers with an explanation of their summed spectrum."""
    step("Finding the energy axis", 0, 1)
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
        n_explained = sum(finished.explanation is not None for finished in finished_areas)
        step(f"Computing the layers of paint {area.number}", n_explained, len(numbers))
        known = known_by_paint.get(area.number)
        explanation = _explanation_record(area, spectrum, results, known, instrument, ground)
        finished_areas.append(replace(area, explanation=explanation))
    return tuple(finished_areas)


def _explanation_record(
    area: PaintArea,
    spectrum: Spectrum,
    results: Results,
    known: KnownLayers | None,
    instrument: Instrument,
    ground: str,
) -> dict[str, Any]:
    """Return the record of an explanation; if no group is likely, a record that says so."""
    try:
        groups = candidate_groups_of(area, results, ground).with_known(known)
    except SampleError as error:
        return {"name": spectrum.name, "describes": False, "words": [str(error)]}
    return explanation_record(
        explain(spectrum, instrument, groups, ground=ground, error=ModelError(), workers=N_PROCESS)
    )


def candidate_groups_of(area: PaintArea, results: Results, ground: str) -> CandidateGroups:
    """Return the candidate groups of a paint: the present groups, and those that are not unlikely.

    Raises
    ------
    SampleError
        There is no such group.
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
    """Return the values of the scan's instrument; unknown values are those of :data:`DEFAULT_INSTRUMENT`."""
    return merge_knowledge(
        scan,
        user_instrument=given_instrument,
        calibration=calibrated.calibration,
        beam=None if calibrated.beam_kev is None else Beam(calibrated.beam_kev, calibrated.known().scatter_deg),
        default_instrument=load_instrument(DEFAULT_INSTRUMENT),
        measured_axis=True,
    )


def was_calibrated(results: Results) -> bool:
    """Return whether the energy axis of the results was calibrated with the scan's lines."""
    return bool(results.settings.get("calibrated", True))
