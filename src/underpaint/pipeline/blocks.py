"""All that is done with the spectra of a scan, block by block: what is found of one is on disk before the next.

The blocks are those of the scan's dask array. Threads of this process work on them, or the workers of a dask
cluster, to which the counts are sent, so that they need neither the scan nor the network's file. A block is one
thread's work; so the same blocks give the same bits, whoever works on them.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan, Survey
from underpaint.data.maps import DetectabilityMaps, ElementMaps, PigmentMaps, QuantityMaps, UnlikenessMap
from underpaint.io import BlockStore
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Palette
from underpaint.runtime.executors import in_order, threads_or_cluster
from underpaint.simulate.instrument_inputs import KnownInstrument

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from underpaint.elements import ElementFit, Leftovers, LineEvidence
    from underpaint.pigments.predict import OnnxModel

Stacks = dict[str, NDArray[Any]]
_SURVEY = "survey.npz"
_SURVEY_ARRAYS = ("total", "highest", "pixel_counts", "tiles", "tile_pixels")


@dataclass(frozen=True)
class Found:
    """What was found, of a block or of a scan; None: not asked for."""

    pigments: PigmentMaps | None
    elements: ElementMaps | None
    unlikeness: UnlikenessMap | None
    detectability: DetectabilityMaps | None

    def stacks(self) -> Stacks:
        """Return the numbers alone, by name, each (n_row, n_column, n_map)."""
        stacks: Stacks = {}
        if self.pigments is not None:
            stacks["probability"] = self.pigments.probability
            if self.pigments.quantities is not None:
                stacks |= {"value": self.pigments.quantities.value, "sigma": self.pigments.quantities.sigma}
        if self.elements is not None:
            stacks |= {"area": self.elements.area, "uncertainty": self.elements.uncertainty}
        if self.unlikeness is not None:
            stacks["unlikeness"] = np.stack([self.unlikeness.score, self.unlikeness.energy_kev], axis=2)
        if self.detectability is not None:
            stacks["state"] = self.detectability.state
        return stacks


@dataclass(frozen=True)
class Work:
    """What is to be done with any block of a scan; it travels to the workers as it is.

    Parameters
    ----------
    axis : EnergyAxis
    step_mm : (float, float) or None
    model : OnnxModel or None
        The network to ask; None: no pigments.
    palette : Palette, sequence of str, or None
    known : KnownInstrument
        What the network is told.
    elements : ElementFit or None
    unlike : Leftovers or None
    instrument : Instrument or None
        Given where it is to be said what cannot be excluded.
    evidence : LineEvidence or None
        Holds spectra against what the network claims.
    """

    axis: EnergyAxis
    step_mm: tuple[float, float] | None = None
    model: "OnnxModel | None" = None
    palette: "Palette | Sequence[str] | None" = None
    known: KnownInstrument = field(default_factory=KnownInstrument)
    elements: "ElementFit | None" = None
    unlike: "Leftovers | None" = None
    instrument: Instrument | None = None
    evidence: "LineEvidence | None" = None

    def __call__(
        self, counts: NDArray[Any], present: NDArray[np.bool_] | None, pixel_counts: NDArray[np.float64]
    ) -> Stacks:
        """Return what is found of (n_row, n_column, n_channel) counts."""
        return self.found(counts, present, pixel_counts).stacks()

    def found(
        self, counts: NDArray[Any], present: NDArray[np.bool_] | None, pixel_counts: NDArray[np.float64]
    ) -> Found:
        """Return it as maps."""
        scan = Scan(counts, axis=self.axis, step_mm=self.step_mm, present=present)
        pigments = (
            None if self.model is None else (asked(scan, self.model, self.palette, self.known, evidence=self.evidence))
        )
        elements = None if self.elements is None else self.elements.maps(self.elements(counts, present), self.step_mm)
        unlike = None if self.unlike is None else self.unlike.map(self.unlike(counts, present), self.step_mm)
        hidden = None
        if pigments is not None and self.instrument is not None:
            from underpaint.pigments.limits import detectability_maps

            hidden = detectability_maps(pigments, pixel_counts, self.instrument, self.axis, elements=elements)
        return Found(pigments, elements, unlike, hidden)

    def from_store(self, store: BlockStore) -> Found:
        """Return the maps of the whole scan as they lie on disk; names and settings are those of any block."""
        one = np.ones((1, 1, self.axis.n_channel), np.uint16)
        # of a spectrum that is none, nothing is withheld
        frame = replace(self, evidence=None).found(one, None, one.sum(axis=2, dtype=np.float64))
        arrays = {name: store.stack(name, own.shape[2]).as_array() for name, own in frame.stacks().items()}
        return Found(
            None if frame.pigments is None else _pigments(frame.pigments, arrays, self.evidence),
            None
            if frame.elements is None
            else replace(frame.elements, area=arrays["area"], uncertainty=arrays["uncertainty"]),
            None
            if frame.unlikeness is None
            else replace(
                frame.unlikeness, score=arrays["unlikeness"][:, :, 0], energy_kev=arrays["unlikeness"][:, :, 1]
            ),
            None if frame.detectability is None else replace(frame.detectability, state=arrays["state"]),
        )


def _pigments(frame: PigmentMaps, arrays: Stacks, evidence: "LineEvidence | None") -> PigmentMaps:
    from underpaint.pigments.predict import silent_notes, withheld_notes

    own, notes = frame.quantities, silent_notes(arrays["probability"])
    if evidence is not None:
        notes = (*notes, *withheld_notes(arrays["probability"], frame.names, frame.labels, evidence.groups))
    return replace(
        frame,
        probability=arrays["probability"],
        log_odds=None,
        quantities=None if own is None else QuantityMaps(own.names, arrays["value"], arrays["sigma"]),
        notes=(*frame.notes, *notes),
    )


def asked(
    scan: Scan,
    model: "str | Path | OnnxModel",
    palette: "Palette | Sequence[str] | None",
    known: KnownInstrument,
    progress: "Callable[[int, int], None] | None" = None,
    evidence: "LineEvidence | None" = None,
) -> PigmentMaps:
    """Ask the network, hold the spectra against its claims, and let the members of each group share it by the prior.

    Of a network without places and without a palette the members stay as it says: its leanings, which rest on the
    pigments that it was trained with; and so do those of one that was fine-tuned: what was labelled is the prior there.
    """
    from underpaint.pigments.limits import circumstances_of, share_members
    from underpaint.pigments.predict import identify

    found = identify(scan, model, palette, instrument=known, doubt=evidence, progress=progress)
    if _taught(found) or (palette is None and found.places == ("anywhere",)):
        return found
    return share_members(found, None if palette is None else circumstances_of(palette), overwrite=True)


def _taught(maps: PigmentMaps) -> bool:
    """Whether the network was fine-tuned on labels."""
    model = maps.settings.get("model")
    return isinstance(model, dict) and "finetuned_from" in model.get("training", {}).get("config", {})


def do_blocks(
    scan: Scan,
    work: Work,
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
    work : Work
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
        for number, stacks in in_order(crew, work, tasks()):
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
