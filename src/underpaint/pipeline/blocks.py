"""All that is done with the spectra of a scan, block by block: the numbers of one are on disk before the next.

Threads of this process work on the blocks, or the workers of a dask cluster, to which the counts are sent, so that
they need neither the scan nor the network's file.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan, Survey
from underpaint.data.maps import DIMENSIONS, Results, Stack
from underpaint.physics.instrument import Instrument
from underpaint.pipeline.pooling import RADIUS, Pooling, Shown
from underpaint.runtime.blocks import map_blocks
from underpaint.runtime.files import atomic_write

if TYPE_CHECKING:
    from underpaint.elements import ElementFit, LineEvidence, Unlikeness, VariableFit
    from underpaint.physics.materials import Palette
    from underpaint.pigments.predict import AnswerPlan

Stacks = dict[str, NDArray[Any]]
_SURVEY = "survey.npz"
_SURVEY_ARRAYS = ("total", "highest", "pixel_counts", "tiles", "tile_pixels", "sample")
_NOT_KEPT = "log_odds"
"""Needed beside a block's probabilities alone."""


class Output(NamedTuple):
    """Maps that will be made: their quantity, its dimensions beside row and column, the maps' keys, their unit."""

    quantity: str
    dimensions: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]
    units: str


@dataclass(frozen=True)
class BlockWork:
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
        What is fitted for the maps of elements.
    fit : VariableFit or None
        Of all families: what answers are held against, and what nothing explains.
    lines : LineEvidence or None
    unlike : Unlikeness or None
    pooling : Pooling or None
        How like neighbours are summed for the network's answers; needs ``fit``.
    instrument : Instrument or None
        Given where it is to be said what cannot be excluded.
    """

    axis: EnergyAxis
    step_mm: tuple[float, float] | None = None
    answers: "AnswerPlan | None" = None
    palette: "Palette | Sequence[str] | None" = None
    elements: "ElementFit | None" = None
    fit: "VariableFit | None" = None
    lines: "LineEvidence | None" = None
    unlike: "Unlikeness | None" = None
    pooling: "Pooling | None" = None
    instrument: Instrument | None = None

    def __call__(
        self,
        counts: NDArray[Any],
        present: NDArray[np.bool_] | None,
        core: tuple[slice, slice],
        pixel_counts: NDArray[np.float64],
        *detectors: NDArray[Any],
    ) -> Stacks:
        """Return the numbers of the core of (n_row, n_column, n_channel) counts by quantity, (n_row, n_column, n_map).

        Around the core lie :attr:`halo` pixels, which may be summed with those of the core.
        """
        shown = None if self.fit is None else Shown.of_block(self.fit, counts, present)
        inner, mask = counts[core], None if present is None else present[core]
        of_core = None if shown is None else shown.only(core)
        fitted = unlike = pool = None
        if self.elements is not None:
            evidence = None if of_core is None or self.elements.engine is not self.fit else of_core.evidence
            fitted = self.elements.without_diffraction(inner, mask, [part[core] for part in detectors], evidence)
        if self.unlike is not None and of_core is not None:
            unlike = of_core.spread(np.stack(self.unlike(of_core.evidence), axis=1))
        spectra, n_counts = inner, pixel_counts[core]
        if self.pooling is not None and shown is not None:
            spectra, n_counts, pool = self.pooling(shown, counts, pixel_counts, core)
        answers = None if self.answers is None else self.answers(spectra, mask)
        if self.lines is not None and self.answers is not None and answers is not None and self.fit is not None:
            of_answers = of_core if pool is None else Shown.of_block(self.fit, spectra, mask)
            if of_answers is not None:
                needed, proven = self.lines(of_answers.evidence), self.lines.proves(of_answers.evidence)
                self.answers.withhold(answers, self.lines.groups, of_answers.spread(needed))
                self.answers.confirm(answers, self.lines.groups, of_answers.spread(proven))
        results = self._results(answers, fitted, unlike, pool, n_counts)
        return {name: stack.values for name, stack in results.stacks.items() if name != _NOT_KEPT}

    @property
    def halo(self) -> int:
        """Pixels around a block that are needed with it."""
        return 0 if self.pooling is None else RADIUS

    @property
    def outputs(self) -> tuple[Output, ...]:
        """What will be made of a scan, known before any spectrum is read."""
        stacks = self._declared().stacks
        return tuple(Output(name, DIMENSIONS[name][0], stacks[name].keys, DIMENSIONS[name][1]) for name in stacks)

    def read(self, store: "Store") -> Results:
        """Return the results of the whole scan, with the numbers that a store holds."""
        declared = self._declared()
        stacks = {
            name: Stack(stack.keys, store.stack(name, len(stack.keys))) for name, stack in declared.stacks.items()
        }
        results = replace(declared, stacks=stacks)
        if self.answers is None:
            return results
        results = self.answers.noted(results, () if self.lines is None else self.lines.groups)
        return results if self.pooling is None else self.pooling.noted(results)

    def _declared(self) -> Results:
        """Return results of no pixel, which have all names, labels, notes and settings."""
        results = self._results(
            None if self.answers is None else self.answers.arrays((0, 0)),
            None if self.elements is None else self.elements.empty_maps(),
            None if self.unlike is None else np.empty((0, 0, 2), np.float32),
            None if self.pooling is None else np.empty((0, 0, 1), np.float32),
            np.empty((0, 0)),
        )
        return replace(results, stacks={name: results.stacks[name] for name in results.stacks if name != _NOT_KEPT})

    def _results(
        self,
        answers: dict[str, NDArray[np.float32]] | None,
        fitted: tuple[NDArray[np.float32], NDArray[np.float32] | None] | None,
        unlike: NDArray[np.float32] | None,
        pool: NDArray[np.float32] | None,
        pixel_counts: NDArray[np.float64],
    ) -> Results:
        results = Results(step_mm=self.step_mm)
        if self.elements is not None and fitted is not None:
            values, peaks = fitted
            results |= self.elements.results(values, self.step_mm, peaks)
        if self.unlike is not None and unlike is not None:
            results |= self.unlike.results(unlike, self.step_mm)
        if self.answers is not None and answers is not None:
            results = shared(self.answers.results(answers, step_mm=self.step_mm), self.palette) | results
            if pool is not None:
                results = Results.of_pools(pool, step_mm=self.step_mm) | results
            from underpaint.pigments.limits import answer_states

            results |= answer_states(results, pixel_counts, self.instrument, self.axis)
        return results


def shared(results: Results, palette: "Palette | Sequence[str] | None") -> Results:
    """Let the members of each group share its probability by what is known beforehand.

    Of a network without places and without a palette the members stay as it says: its leanings, which rest on the
    pigments that it was trained with; and so do those of one that was fine-tuned: what was labelled is the prior there.
    """
    from underpaint.pigments.limits import circumstances_of, share_members

    finetuned = "finetuned_from" in results.model_card.get("training", {}).get("config", {})
    if finetuned or (palette is None and results.places == ("anywhere",)):
        return results
    return share_members(results, None if palette is None else circumstances_of(palette), overwrite=True)


class Store(Protocol):
    """Where the numbers of blocks go: a folder, or memory."""

    def finished(self) -> set[int]:
        """Return the numbers of the finished blocks."""

    def put(self, number: int, rows: slice, columns: slice, stacks: Mapping[str, NDArray[Any]]) -> None:
        """Take a block's numbers."""

    def stack(self, name: str, n_map: int) -> Any:
        """Return the (n_row, n_column, n_map) numbers of a quantity."""


class MemoryStore:
    """The maps of a scan in memory, as :class:`~underpaint.io.BlockStore` holds them on disk."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._arrays: Stacks = {}

    def finished(self) -> set[int]:
        """Return the numbers of the finished blocks: none that an earlier run had done."""
        return set()

    def put(self, number: int, rows: slice, columns: slice, stacks: Mapping[str, NDArray[Any]]) -> None:
        """Take a block's (n_row, n_column, n_map) values of each quantity."""
        del number
        for name, values in stacks.items():
            if name not in self._arrays:
                self._arrays[name] = np.empty((*self.shape, values.shape[2]), values.dtype)
            self._arrays[name][rows, columns] = values

    def stack(self, name: str, n_map: int) -> NDArray[Any]:
        """Return the maps of a quantity."""
        del n_map
        return self._arrays[name]


def process_blocks(
    scan: Scan,
    work: Callable[..., Stacks],
    store: Store,
    pixel_counts: NDArray[np.float64],
    *,
    detectors: Sequence[Any] = (),
    halo: int | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    waiting: Callable[[], None] | None = None,
) -> None:
    """Do the blocks that are not finished, and store each as it is done.

    Parameters
    ----------
    scan : Scan
    work : callable
        As :class:`BlockWork`.
    store : Store
        Of maps of the scan's rows and columns.
    pixel_counts : (n_row, n_column) array
        Counts of each whole spectrum.
    detectors : sequence of (n_row, n_column, n_channel) arrays
        Counts of each detector, where the work compares them.
    halo : int or None
        As of :func:`~underpaint.runtime.blocks.map_blocks`.
    scheduler : str or None
        As of :func:`~underpaint.runtime.blocks.map_blocks`.
    progress : callable, optional
        Called with (pixels done, pixels in all), first with those that an earlier run had done.
    waiting : callable, optional
        Called where nothing can begin, because the cluster has no worker yet.

    Raises
    ------
    ClusterError, MissingExtraError, ScanError
        As of :func:`~underpaint.runtime.blocks.map_blocks`.
    OutputError
        The disk is full.
    """
    blocks, finished = list(scan.blocks()), store.finished()
    done = sum(_n_pixel(blocks[number]) for number in finished)

    def report_start(n_workers: int) -> None:
        if not n_workers and waiting is not None:
            waiting()
        elif progress is not None:
            progress(done, scan.n_pixel)

    loop = map_blocks(
        scan,
        work,
        halo=halo,
        arrays=(pixel_counts, *detectors),
        finished=finished,
        scheduler=scheduler,
        on_start=report_start,
    )
    for number, (rows, columns), stacks in loop:
        store.put(number, rows, columns, stacks)
        done += _n_pixel((rows, columns))
        if progress is not None:
            progress(done, scan.n_pixel)


def _n_pixel(block: tuple[slice, slice]) -> int:
    rows, columns = block
    return int((rows.stop - rows.start) * (columns.stop - columns.start))


def load_survey(folder: Path, scan: Scan) -> Survey | None:
    """Return what an interrupted run had learned of the whole scan, or None."""
    path = folder / _SURVEY
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as stored:
        arrays = {name: stored[name] for name in _SURVEY_ARRAYS}
        present = stored.get("present")
        notes = tuple(str(note) for note in stored["notes"])
    return Survey(replace(scan, present=present, notes=notes), **arrays)


def save_survey(folder: Path, surveyed: Survey) -> None:
    """Keep what is known of the whole scan, for a run that goes on from here."""
    arrays = {name: getattr(surveyed, name) for name in _SURVEY_ARRAYS}
    if surveyed.scan.present is not None:
        arrays["present"] = surveyed.scan.present
    with atomic_write(folder / _SURVEY) as part, part.open("wb") as stream:
        np.savez(stream, notes=np.asarray(surveyed.scan.notes, dtype=np.str_), **arrays)
