"""From results to the paints of the painting: areas and legend, their summed spectra, the layers of each."""

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
from underpaint.pigments.explain.known import Known, read_known
from underpaint.pigments.explain.record import record
from underpaint.pigments.paints import find_paints, split_by_depth, summed
from underpaint.runtime.progress import Progress, no_progress

USUAL = "elio"
"""The scanner where none is given: of it is taken what neither the scan's file nor its lines tell."""
WORKERS = 2
"""Processes of a posterior: one for each independent run."""
EVERY = -1
"""In place of the numbers of paints: all of them."""


def with_paints(results: Results) -> Results:
    """Return results with the paints that their maps show; without any, and why in a note, where they show none."""
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
    """Find the paints of a folder of results anew, sum their spectra, sample their layers, and keep all of it there.

    Parameters
    ----------
    folder : str or Path
        As ``underpaint identify`` or ``underpaint elements`` writes it; its maps and its report are extended.
    scan : str or None
        Where the scan is, if it was moved. Without it there are areas and groups, but no spectra.
    explained : sequence of int
        Paints whose layers are sampled; :data:`EVERY` alone: all. Each takes up to a minute or two.
    known : str, Path or None
        File of what other methods have shown, see :func:`underpaint.pigments.explain.known.read_known`. Groups that are
        absent are taken from the paint's groups; layers are sampled with what is known as given.
    instrument : str or None
        Preset or file: the scanner; what is not known of it is as of :data:`USUAL`.
    ground : str
        Under the paint, of the library.
    seed : int
        Of the areas.
    progress : callable, optional
        Called with (what is being done, done, in all).

    Returns
    -------
    Results
        With :attr:`~underpaint.Results.paints` and :attr:`~underpaint.Results.paint`.

    Raises
    ------
    ScanError
        There are no results, no elements in them, the scan is gone although it is needed, or there is no such paint.
    UnderpaintError
        The instrument, the ground or the known results cannot be used, or the files cannot be written.

    Examples
    --------
    >>> from underpaint.pipeline.paints import paints_of_folder
    >>> results = paints_of_folder("panel_underpaint")
    >>> results.paint.dims, len(results.paints) == int(results.paint.where(results.paint < 255).max())
    (('row', 'column'), True)
    """
    step, place = progress or no_progress, Path(folder)
    given = None if instrument is None else load_instrument(instrument)
    entries = () if known is None else read_known(known)
    ground_layer(ground, 100.0)
    step("Reading the maps", 0, 1)
    results = read_results(place)
    step("Finding the paints", 0, 1)
    results |= find_paints(results, seed=seed)
    by_paint = _by_paint(entries, results)
    results = replace(results, paints=tuple(_with_known(area, by_paint.get(area.number)) for area in results.paints))
    numbers = _numbers(explained, results.paints)
    opened: Scan | None = None
    notes: tuple[str, ...] = ()
    try:
        opened = find_scan(place, results.summary, scan, results.shape, required=scan is not None)
    except ScanError as error:
        if numbers or scan is not None:
            raise
        notes = (f"No spectra of the paints: {error}",)
    if opened is not None:
        areas = summed(opened, results.map("paint"), results.paints, step)
        if numbers:
            areas = _explained(opened, areas, numbers, results, by_paint, given, ground, step)
        results = replace(results, paints=areas)
    results = replace(results, process_notes={**results.process_notes, "paints": notes})
    results = replace(results, stacks={name: results.stacks[name] for name in results.stacks if "depth" not in name})
    results |= split_by_depth(results)
    step("Writing the paints", 0, 1)
    replace_paints(place, results)
    from underpaint.display.report import write_report  # what draws takes a second to be imported

    write_report(place, scan=opened)
    return results


def _numbers(explained: Sequence[int], areas: Sequence[PaintArea]) -> tuple[int, ...]:
    every = tuple(area.number for area in areas)
    if tuple(explained) == (EVERY,):
        return every
    if unknown := [number for number in explained if number not in every]:
        raise ScanError(
            f"Cannot explain paint {unknown[0]}: there are paints 1 to {len(every)}. `underpaint paints` lists them."
        )
    return tuple(explained)


def _by_paint(entries: Sequence[Known], results: Results) -> dict[int, Known]:
    """Return what is known of each paint.

    Raises
    ------
    SampleError
        A place lies in no paint, or two entries lie in the same one.
    """
    label, by_paint = results.map("paint"), dict[int, Known]()
    for entry in entries:
        number, place = entry.paint, f"paint {entry.paint}"
        if entry.pixel is not None:
            row, column = entry.pixel
            place = f"pixel ({row}, {column})"
            inside = row < label.shape[0] and column < label.shape[1]
            number = int(label[row, column]) if inside and label[row, column] not in (MIXED, NO_ANSWER) else None
        if number is None or number > len(results.paints):
            raise SampleError(
                f"Cannot take in what {entry.method} shows of {place}: no paint lies there. There are paints 1 to "
                f"{len(results.paints)} on {label.shape[0]} rows x {label.shape[1]} columns; give a pixel of one."
            )
        if number in by_paint:
            raise SampleError(
                f"Cannot take in two results for paint {number} ({by_paint[number].source}; {entry.source}): put what "
                "both show into one entry."
            )
        by_paint[number] = entry
    return by_paint


def _with_known(area: PaintArea, known: Known | None) -> PaintArea:
    if known is None:
        return area
    groups = {name: state for name, state in area.groups.items() if name not in known.absent}
    return replace(area, groups=groups, known=known.words)


def _explained(
    scan: Scan,
    areas: Sequence[PaintArea],
    numbers: Sequence[int],
    results: Results,
    by_paint: Mapping[int, Known],
    given: Instrument | None,
    ground: str,
    step: Progress,
) -> tuple[PaintArea, ...]:
    """Return the paints with the layers of some, sampled from their summed spectra."""
    step("Finding the energy axis", 0, 1)
    axis = resolve_energy_axis(scan, calibrated=was_calibrated(results))
    if given is not None:
        check_instrument(axis, given, trusted=False)
    instrument = spectrum_knowledge(scan, axis, given).instrument
    done: list[PaintArea] = []
    for area in areas:
        if area.number not in numbers or area.spectrum is None:
            done.append(area)
            continue
        spectrum = Spectrum(area.spectrum, axis.scan.require_axis(), name=f"paint {area.number}")
        step(
            f"Sampling the layers of paint {area.number}",
            sum(each.explanation is not None for each in done),
            len(numbers),
        )
        known = by_paint.get(area.number)
        done.append(replace(area, explanation=_layers(area, spectrum, results, known, instrument, ground)))
    return tuple(done)


def _layers(
    area: PaintArea, spectrum: Spectrum, results: Results, known: Known | None, instrument: Instrument, ground: str
) -> dict[str, Any]:
    """Return the record of a posterior; why there is none where no group is likely."""
    try:
        groups = candidate_groups_of(area, results, ground).with_known(known)
    except SampleError as error:
        return {"name": spectrum.name, "describes": False, "words": [str(error)]}
    return record(explain(spectrum, instrument, groups, ground=ground, error=ModelError(), workers=WORKERS))


def candidate_groups_of(area: PaintArea, results: Results, ground: str) -> CandidateGroups:
    """Return the groups to look for in a paint: those that are present, and those that are not excluded.

    Raises
    ------
    SampleError
        There is none.
    """
    if not results.has_pigments:
        raise SampleError(
            f"Cannot explain paint {area.number}: these results hold no pigment groups. Run `underpaint identify`, or "
            "name them with `underpaint explain --region paint.tif --pigments`."
        )
    mask = results.map("paint") == area.number
    chance = {name: float(np.nanmedian(results[name][mask])) for name in results.groups}
    chance |= {name: max(chance.get(name, 0.0), CERTAIN_PROBABILITY) for name in area.groups}
    return likely_groups(chance, ground, f"paint {area.number}")


def spectrum_knowledge(scan: Scan, axis: CalibratedScan, given: Instrument | None) -> Knowledge:
    """Return what is known of the instrument of a scan's spectra; what is not is as of :data:`USUAL`."""
    return merge_knowledge(
        scan,
        user_instrument=given,
        calibration=axis.calibration,
        beam=None if axis.beam_kev is None else Beam(axis.beam_kev, axis.known().scatter_deg),
        usual=load_instrument(USUAL),
        measured_axis=True,
    )


def was_calibrated(results: Results) -> bool:
    """Return whether the energy axis of results was found in the scan's lines."""
    return bool(results.settings.get("calibrated", True))
