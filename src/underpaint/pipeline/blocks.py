"""Processing of a scan block by block, with storage of the results of each block.

Blocks are processed by threads of this process or by the workers of a dask cluster. Workers receive the counts, and
need no access to the scan or to the network's file.
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
from underpaint.pipeline.pooling import POOL_RADIUS, BlockEvidence, Pooling
from underpaint.runtime.blocks import map_blocks
from underpaint.runtime.files import atomic_write

if TYPE_CHECKING:
    from underpaint.elements import ElementFit, LineEvidence, Unlikeness, VariableFit
    from underpaint.physics.materials import Palette
    from underpaint.pigments.predict import AnswerPlan

ArraysByQuantity = dict[str, NDArray[Any]]
_SURVEY_FILE = "survey.npz"
_SURVEY_ARRAYS = ("total", "highest", "pixel_counts", "tiles", "tile_pixels", "sample")
_OMITTED_QUANTITY = "log_odds"
"""Quantity that is computed for each block, but not stored."""


class Output(NamedTuple):
    """Output maps of one quantity: name, dimensions besides row and column, key of each map, and unit."""

    quantity: str
    dimensions: tuple[str, ...]
    keys: tuple[tuple[str, ...], ...]
    units: str


@dataclass(frozen=True)
class BlockWork:
    """Function that computes known outputs for a block of a scan, and that is pickled for the workers.

    Parameters
    ----------
    axis : EnergyAxis
        Energy axis of the scan.
    step_mm : (float, float) or None
        Distance between pixels along rows and columns.
    answer_plan : AnswerPlan or None
        Outputs of the network, or None without pigments.
    palette : Palette, sequence of str, or None
        Palette, from which the prior of the members of a group is derived.
    element_fit : ElementFit or None
        Fit for the element maps.
    family_fit : VariableFit or None
        Fit of all families, by which the network's predictions are checked and unassigned peaks are found.
    line_evidence : LineEvidence or None
        Evidence of lines for and against the network's predictions.
    unlikeness : Unlikeness or None
        Score of unassigned peaks.
    pooling : Pooling or None
        Summation of similar neighbouring pixels for the network's input, which requires ``family_fit``.
    instrument : Instrument or None
        Instrument for the computation of groups that cannot be excluded.
    """

    axis: EnergyAxis
    step_mm: tuple[float, float] | None = None
    answer_plan: "AnswerPlan | None" = None
    palette: "Palette | Sequence[str] | None" = None
    element_fit: "ElementFit | None" = None
    family_fit: "VariableFit | None" = None
    line_evidence: "LineEvidence | None" = None
    unlikeness: "Unlikeness | None" = None
    pooling: "Pooling | None" = None
    instrument: Instrument | None = None

    def __call__(
        self,
        counts: NDArray[Any],
        present: NDArray[np.bool_] | None,
        core: tuple[slice, slice],
        pixel_counts: NDArray[np.float64],
        *detectors: NDArray[Any],
    ) -> ArraysByQuantity:
        """Return the (n_row, n_column, n_map) values of each quantity for the core of a block.

        The core is surrounded by :attr:`halo` pixels on each side, which may be summed with pixels of the core.
        """
        block_evidence = None if self.family_fit is None else BlockEvidence.of_block(self.family_fit, counts, present)
        core_counts, core_present = counts[core], None if present is None else present[core]
        core_evidence = None if block_evidence is None else block_evidence.cropped(core)
        element_maps = unlikeness_maps = pool_sizes = None
        if self.element_fit is not None:
            evidence = (
                None
                if core_evidence is None or self.element_fit.engine is not self.family_fit
                else core_evidence.evidence
            )
            element_maps = self.element_fit.without_diffraction(
                core_counts, core_present, [detector_counts[core] for detector_counts in detectors], evidence
            )
        if self.unlikeness is not None and core_evidence is not None:
            unlikeness_maps = core_evidence.to_grid(np.stack(self.unlikeness(core_evidence.evidence), axis=1))
        spectra, spectrum_counts = core_counts, pixel_counts[core]
        if self.pooling is not None and block_evidence is not None:
            spectra, spectrum_counts, pool_sizes = self.pooling(block_evidence, counts, pixel_counts, core)
        answer_arrays = None if self.answer_plan is None else self.answer_plan(spectra, core_present)
        if (
            self.line_evidence is not None
            and self.answer_plan is not None
            and answer_arrays is not None
            and self.family_fit is not None
        ):
            answer_evidence = (
                core_evidence if pool_sizes is None else BlockEvidence.of_block(self.family_fit, spectra, core_present)
            )
            if answer_evidence is not None:
                needed_log_odds, is_proven = (
                    self.line_evidence(answer_evidence.evidence),
                    self.line_evidence.proves(answer_evidence.evidence),
                )
                self.answer_plan.withhold(
                    answer_arrays, self.line_evidence.groups, answer_evidence.to_grid(needed_log_odds)
                )
                self.answer_plan.confirm(answer_arrays, self.line_evidence.groups, answer_evidence.to_grid(is_proven))
        results = self._assemble_results(answer_arrays, element_maps, unlikeness_maps, pool_sizes, spectrum_counts)
        return {name: stack.values for name, stack in results.stacks.items() if name != _OMITTED_QUANTITY}

    @property
    def halo(self) -> int:
        """Number of pixels on each side of a block that are needed to process the block."""
        return 0 if self.pooling is None else POOL_RADIUS

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Outputs of each block, which are known before any spectrum is read."""
        stacks = self._empty_results().stacks
        return tuple(Output(name, DIMENSIONS[name][0], stacks[name].keys, DIMENSIONS[name][1]) for name in stacks)

    def read(self, store: "Store") -> Results:
        """Return the results of the whole scan, with values from a store."""
        empty_results = self._empty_results()
        stacks = {
            name: Stack(stack.keys, store.stack(name, len(stack.keys))) for name, stack in empty_results.stacks.items()
        }
        results = replace(empty_results, stacks=stacks)
        if self.answer_plan is None:
            return results
        results = self.answer_plan.add_notes(results, () if self.line_evidence is None else self.line_evidence.groups)
        return results if self.pooling is None else self.pooling.with_note(results)

    def _empty_results(self) -> Results:
        """Return results without pixels, but with all names, labels, notes and settings."""
        results = self._assemble_results(
            None if self.answer_plan is None else self.answer_plan.empty_arrays((0, 0)),
            None if self.element_fit is None else self.element_fit.empty_maps(),
            None if self.unlikeness is None else np.empty((0, 0, 2), np.float32),
            None if self.pooling is None else np.empty((0, 0, 1), np.float32),
            np.empty((0, 0)),
        )
        return replace(
            results, stacks={name: results.stacks[name] for name in results.stacks if name != _OMITTED_QUANTITY}
        )

    def _assemble_results(
        self,
        answer_arrays: dict[str, NDArray[np.float32]] | None,
        element_maps: tuple[NDArray[np.float32], NDArray[np.float32] | None] | None,
        unlikeness_maps: NDArray[np.float32] | None,
        pool_sizes: NDArray[np.float32] | None,
        pixel_counts: NDArray[np.float64],
    ) -> Results:
        results = Results(step_mm=self.step_mm)
        if self.element_fit is not None and element_maps is not None:
            line_maps, peak_maps = element_maps
            results |= self.element_fit.results(line_maps, self.step_mm, peak_maps)
        if self.unlikeness is not None and unlikeness_maps is not None:
            results |= self.unlikeness.results(unlikeness_maps, self.step_mm)
        if self.answer_plan is not None and answer_arrays is not None:
            results = (
                with_shared_members(self.answer_plan.results(answer_arrays, step_mm=self.step_mm), self.palette)
                | results
            )
            if pool_sizes is not None:
                results = Results.of_pools(pool_sizes, step_mm=self.step_mm) | results
            from underpaint.pigments.limits import answer_states

            results |= answer_states(results, pixel_counts, self.instrument, self.axis)
        return results


def with_shared_members(results: Results, palette: "Palette | Sequence[str] | None") -> Results:
    """Return results in which the probability of each group is divided between its members by their prior.

    The network's probabilities of members are kept for fine-tuned networks. These probabilities are also kept for
    networks without places if no palette is given.
    """
    from underpaint.pigments.limits import circumstances_of, share_members

    is_finetuned = "finetuned_from" in results.model_card.get("training", {}).get("config", {})
    if is_finetuned or (palette is None and results.places == ("anywhere",)):
        return results
    return share_members(results, None if palette is None else circumstances_of(palette), overwrite=True)


class Store(Protocol):
    """Store of the values of blocks, in a folder or in memory."""

    def finished(self) -> set[int]:
        """Return the indices of the finished blocks."""

    def put(self, index: int, rows: slice, columns: slice, stacks: Mapping[str, NDArray[Any]]) -> None:
        """Store the values of a block."""

    def stack(self, name: str, n_map: int) -> Any:
        """Return the (n_row, n_column, n_map) values of a quantity."""


class MemoryStore:
    """Maps of a scan in memory, with the methods of :class:`~underpaint.io.BlockStore`."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape
        self._arrays: ArraysByQuantity = {}

    def finished(self) -> set[int]:
        """Return an empty set, since memory has no blocks of an earlier run."""
        return set()

    def put(self, index: int, rows: slice, columns: slice, stacks: Mapping[str, NDArray[Any]]) -> None:
        """Store a block's (n_row, n_column, n_map) values of each quantity."""
        del index
        for name, map_values in stacks.items():
            if name not in self._arrays:
                self._arrays[name] = np.empty((*self.shape, map_values.shape[2]), map_values.dtype)
            self._arrays[name][rows, columns] = map_values

    def stack(self, name: str, n_map: int) -> NDArray[Any]:
        """Return the maps of a quantity."""
        del n_map
        return self._arrays[name]


def process_blocks(
    scan: Scan,
    process: Callable[..., ArraysByQuantity],
    store: Store,
    pixel_counts: NDArray[np.float64],
    *,
    detectors: Sequence[Any] = (),
    halo: int | None = None,
    scheduler: str | None = None,
    progress: Callable[[int, int], None] | None = None,
    on_waiting: Callable[[], None] | None = None,
) -> None:
    """Process the blocks that are not finished, and store their values.

    Parameters
    ----------
    scan : Scan
        Scan with an energy axis.
    process : callable
        Function that processes a block, such as :class:`BlockWork`.
    store : Store
        Store of maps with the rows and columns of the scan.
    pixel_counts : (n_row, n_column) array
        Total counts of each spectrum.
    detectors : sequence of (n_row, n_column, n_channel) arrays
        Counts of each detector, if ``process`` compares detectors.
    halo : int or None
        As for :func:`~underpaint.runtime.blocks.map_blocks`.
    scheduler : str or None
        As for :func:`~underpaint.runtime.blocks.map_blocks`.
    progress : callable, optional
        Called with the number of finished pixels and the total number. The first call counts the pixels of an earlier
        run.
    on_waiting : callable, optional
        Called if the cluster has no worker yet.

    Raises
    ------
    ClusterError, MissingExtraError, ScanError
        As for :func:`~underpaint.runtime.blocks.map_blocks`.
    OutputError
        The disk is full.
    """
    blocks, finished_blocks = list(scan.blocks()), store.finished()
    n_done = sum(_n_pixel(blocks[index]) for index in finished_blocks)

    def report_start(n_workers: int) -> None:
        if not n_workers and on_waiting is not None:
            on_waiting()
        elif progress is not None:
            progress(n_done, scan.n_pixel)

    block_results = map_blocks(
        scan,
        process,
        halo=halo,
        arrays=(pixel_counts, *detectors),
        finished_blocks=finished_blocks,
        scheduler=scheduler,
        on_start=report_start,
    )
    for index, (rows, columns), stacks in block_results:
        store.put(index, rows, columns, stacks)
        n_done += _n_pixel((rows, columns))
        if progress is not None:
            progress(n_done, scan.n_pixel)


def _n_pixel(block: tuple[slice, slice]) -> int:
    rows, columns = block
    return int((rows.stop - rows.start) * (columns.stop - columns.start))


def load_survey(folder: Path, scan: Scan) -> Survey | None:
    """Return the survey that an interrupted run stored, or None without a stored survey."""
    path = folder / _SURVEY_FILE
    if not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as survey_file:
        arrays = {name: survey_file[name] for name in _SURVEY_ARRAYS}
        present = survey_file.get("present")
        notes = tuple(str(note) for note in survey_file["notes"])
    return Survey(scan.replace(present=present, notes=notes), **arrays)


def save_survey(folder: Path, surveyed: Survey) -> None:
    """Store the survey of a scan, for a run that resumes."""
    arrays = {name: getattr(surveyed, name) for name in _SURVEY_ARRAYS}
    if surveyed.scan.present is not None:
        arrays["present"] = surveyed.scan.present
    with atomic_write(folder / _SURVEY_FILE) as temporary_path, temporary_path.open("wb") as stream:
        np.savez(stream, notes=np.asarray(surveyed.scan.notes, dtype=np.str_), **arrays)
