"""All that is done with the spectra of a scan, block by block: what is found of one is on disk before the next.

The blocks are those of the scan's dask array. Threads of this process work on them, or the workers of a dask
cluster, to which the counts are sent, so that they need neither the scan nor the network's file. A block is one
thread's work; so the same blocks give the same bits, whoever works on them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan, Survey
from underpaint.data.maps import OpenSet, PigmentMaps, QuantityMaps, Results
from underpaint.io import BlockStore
from underpaint.physics.instrument import Instrument
from underpaint.runtime.executors import in_order, threads_or_cluster
from underpaint.runtime.threads import one_blas_thread

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from underpaint.elements import ElementFit, Leftovers
    from underpaint.physics.materials import Palette
    from underpaint.pigments.predict import AnswerPlan

Stacks = dict[str, NDArray[Any]]
_SURVEY = "survey.npz"
_SURVEY_ARRAYS = ("total", "highest", "pixel_counts", "tiles", "tile_pixels", "sample")


class Output(NamedTuple):
    """Maps that a plan will make: the name of their stack, the maps' names, and their unit."""

    stack: str
    names: tuple[str, ...]
    units: str


@dataclass(frozen=True)
class Plan:
    """What is done with any block of a scan; what comes out is known before. It travels to the workers as it is.

    Parameters
    ----------
    axis : EnergyAxis
    step_mm : (float, float) or None
    answers : AnswerPlan or None
        What the network answers; None: no pigments.
    palette : Palette, sequence of str, or None
        What is known of the pigments beforehand, by which the members of a group share its probability.
    elements : ElementFit or None
    unlike : Leftovers or None
    instrument : Instrument or None
        Given where it is to be said what cannot be excluded.
    """

    axis: EnergyAxis
    step_mm: tuple[float, float] | None = None
    answers: "AnswerPlan | None" = None
    palette: "Palette | Sequence[str] | None" = None
    elements: "ElementFit | None" = None
    unlike: "Leftovers | None" = None
    instrument: Instrument | None = None

    def __call__(
        self, counts: NDArray[Any], present: NDArray[np.bool_] | None, pixel_counts: NDArray[np.float64]
    ) -> Stacks:
        """Return the stacks of (n_row, n_column, n_channel) counts."""
        there = np.ones(counts.shape[:2], bool) if present is None else present
        answers = elements = unlike = None
        if self.answers is not None:
            answers = self.answers.arrays((counts.shape[0], counts.shape[1]))
            with one_blas_thread():
                self.answers.fill(answers, counts, there)
        if self.elements is not None:
            elements = self.elements(counts, present)
        if self.unlike is not None:
            unlike = self.unlike(counts, present)
        return _stacks(self._results(answers, elements, unlike, pixel_counts))

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What will be made of a scan, known before any spectrum is read."""
        empty = self._empty()
        names: dict[str, tuple[str, ...]] = {"unlikeness": ("score", "energy_kev")}
        units = {"area": "counts", "uncertainty": "counts"}
        if empty.pigment_maps is not None:
            names["probability"] = empty.pigment_maps.names
            if empty.pigment_maps.quantities is not None:
                names["value"] = names["sigma"] = empty.pigment_maps.quantities.names
        if empty.element_maps is not None:
            names["area"] = names["uncertainty"] = empty.element_maps.names
        if empty.detectability_maps is not None:
            names["state"] = empty.detectability_maps.names
        return tuple(Output(stack, names[stack], units.get(stack, "1")) for stack in _stacks(empty))

    def read(self, store: BlockStore) -> Results:
        """Return the maps of the whole scan as they lie on disk."""
        empty = self._empty()
        arrays = {name: store.stack(name, stack.shape[2]).as_array() for name, stack in _stacks(empty).items()}
        pigments, elements, states = empty.pigment_maps, empty.element_maps, empty.detectability_maps
        if pigments is not None and self.answers is not None:
            quantities = pigments.quantities
            pigments = replace(
                pigments,
                probability=arrays["probability"],
                log_odds=None,
                quantities=quantities and QuantityMaps(quantities.names, arrays["value"], arrays["sigma"]),
                notes=(*pigments.notes, *self.answers.notes_of(arrays["probability"])),
            )
        if elements is not None:
            elements = replace(elements, area=arrays["area"], uncertainty=arrays["uncertainty"])
        if states is not None:
            states = replace(states, state=arrays["state"])
        unlike = None if self.unlike is None else self.unlike.map(arrays["unlikeness"], self.step_mm)
        return Results(pigments, elements, states, OpenSet(unlikeness=unlike))

    def _empty(self) -> Results:
        """Return results of no pixel, which have all names, labels, notes and settings."""
        elements = None if self.elements is None else np.empty((0, 0, len(self.elements.names), 2), np.float32)
        unlike = None if self.unlike is None else np.empty((0, 0, 2), np.float32)
        answers = None if self.answers is None else self.answers.arrays((0, 0))
        return self._results(answers, elements, unlike, np.empty((0, 0)))

    def _results(
        self,
        answers: "dict[str, NDArray[np.float32]] | None",
        fitted: NDArray[np.float32] | None,
        unlike: NDArray[np.float32] | None,
        pixel_counts: NDArray[np.float64],
    ) -> Results:
        elements = pigments = states = unlikeness = None
        if self.elements is not None and fitted is not None:
            elements = self.elements.maps(fitted, self.step_mm)
        if self.unlike is not None and unlike is not None:
            unlikeness = self.unlike.map(unlike, self.step_mm)
        if self.answers is not None and answers is not None:
            pigments = shared(self.answers.maps(answers, step_mm=self.step_mm), self.palette)
        if pigments is not None and self.instrument is not None:
            from underpaint.pigments.limits import detectability_maps

            states = detectability_maps(pigments, pixel_counts, self.instrument, self.axis, elements=elements)
        return Results(pigments, elements, states, OpenSet(unlikeness=unlikeness))


def _stacks(results: Results) -> Stacks:
    """Return the numbers alone, by name, each (n_row, n_column, n_map)."""
    stacks: Stacks = {}
    pigments, elements, states = results.pigment_maps, results.element_maps, results.detectability_maps
    if pigments is not None:
        stacks["probability"] = pigments.probability
        if pigments.quantities is not None:
            stacks |= {"value": pigments.quantities.value, "sigma": pigments.quantities.sigma}
    if elements is not None:
        stacks |= {"area": elements.area, "uncertainty": elements.uncertainty}
    unlike = None if results.open_set is None else results.open_set.unlikeness
    if unlike is not None:
        stacks["unlikeness"] = np.stack([unlike.score, unlike.energy_kev], axis=2)
    if states is not None:
        stacks["state"] = states.state
    return stacks


def shared(maps: PigmentMaps, palette: "Palette | Sequence[str] | None") -> PigmentMaps:
    """Let the members of each group share its probability by what is known beforehand.

    Of a network without places and without a palette the members stay as it says: its leanings, which rest on the
    pigments that it was trained with; and so do those of one that was fine-tuned: what was labelled is the prior there.
    """
    from underpaint.pigments.limits import circumstances_of, share_members

    model = maps.settings.get("model")
    finetuned = isinstance(model, dict) and "finetuned_from" in model.get("training", {}).get("config", {})
    if finetuned or (palette is None and maps.places == ("anywhere",)):
        return maps
    return share_members(maps, None if palette is None else circumstances_of(palette), overwrite=True)


def do_blocks(
    scan: Scan,
    plan: Plan,
    store: BlockStore,
    pixel_counts: NDArray[np.float64],
    *,
    scheduler: str | None = None,
    progress: "Callable[[int, int], None] | None" = None,
    waiting: "Callable[[], None] | None" = None,
) -> None:
    """Do the blocks that are not finished, and put each on disk as it is done.

    Parameters
    ----------
    scan : Scan
    plan : Plan
    store : BlockStore
        Of maps of the scan's rows and columns.
    pixel_counts : (n_row, n_column) array
        Counts of each whole spectrum.
    scheduler : str or None
        Address of a dask scheduler, ``tcp://host:8786``; None: threads of this process.
    progress : callable, optional
        Called with (pixels done, pixels in all), first with those that an earlier run had done.
    waiting : callable, optional
        Called where nothing can begin, because the cluster has no worker yet.

    Raises
    ------
    ClusterError, MissingExtraError
        There is no such cluster, or it fails; or dask.distributed is not installed.
    ScanError
        A block cannot be read.
    OutputError
        The disk is full.
    """
    blocks, finished = list(scan.blocks()), store.finished()
    done = sum(_n_pixel(blocks[number]) for number in finished)
    tell = progress or (lambda *_: None)

    def tasks() -> Iterator[tuple[int, tuple[Any, ...]]]:
        for number, own in enumerate(blocks):
            if number not in finished:
                present = None if scan.present is None else scan.present[own]
                yield (
                    number,
                    (np.asarray(scan.counts[own].compute(scheduler="synchronous")), present, pixel_counts[own]),
                )

    with threads_or_cluster(scheduler) as crew:
        if crew.hands or waiting is None:
            tell(done, scan.n_pixel)
        else:
            waiting()
        for number, stacks in in_order(crew, plan, tasks()):
            rows, columns = blocks[number]
            store.put(number, rows, columns, stacks)
            done += _n_pixel(blocks[number])
            tell(done, scan.n_pixel)


def _n_pixel(block: tuple[slice, slice]) -> int:
    rows, columns = block
    return int((rows.stop - rows.start) * (columns.stop - columns.start))


def load_survey(folder: Path, scan: Scan) -> Survey | None:
    """Return what an interrupted run had learned of the whole scan, or None."""
    path = folder / _SURVEY
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as kept:
        arrays = {name: kept[name] for name in _SURVEY_ARRAYS}
        present = kept.get("present")
        notes = tuple(str(note) for note in kept["notes"])
    return Survey(replace(scan, present=present, notes=notes), **arrays)


def save_survey(folder: Path, seen: Survey) -> None:
    """Keep what is known of the whole scan, for a run that goes on from here."""
    from underpaint.runtime.files import whole_file

    arrays = {name: getattr(seen, name) for name in _SURVEY_ARRAYS}
    if seen.scan.present is not None:
        arrays["present"] = seen.scan.present
    with whole_file(folder / _SURVEY) as part, part.open("wb") as stream:
        np.savez(stream, notes=np.asarray(seen.scan.notes, dtype=np.str_), **arrays)
