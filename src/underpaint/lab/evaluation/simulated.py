"""Held-out instruments and structures: spectra of no training library, with their labels."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.data import DEFAULT_NETWORK_AXIS, EnergyAxis
from underpaint.data.maps import split_place
from underpaint.lab.evaluation.answering import Spectra
from underpaint.lab.evaluation.groups import summarise
from underpaint.lab.evaluation.plan import TrustPlan
from underpaint.physics.forward import count
from underpaint.physics.instrument import Detector, Filter, Geometry, Instrument, Tube
from underpaint.physics.materials import library, load_palette
from underpaint.pigments.weights import ModelCard
from underpaint.runtime.progress import Progress
from underpaint.simulate import LibrarySettings, simulate_library
from underpaint.simulate.labels import labels_by_lines, materials, present_at

PALETTE = "easel_15_to_20"
"""Palette of the simulation where the model answers all of its visible pigments."""
TEST, TUNING, UNSEEN = 0, 1, 2
"""Added to the seed, so that no two sets share a draw."""
FEW_CHUNKS = 8
Answer = Callable[[Spectra], NDArray[np.float32]]
"""Returns (n, n_group) probabilities, NaN for no answer."""


@dataclass(frozen=True)
class HeldOut:
    """Simulated spectra with their labels.

    Parameters
    ----------
    expected : (n, n_channel) float32 array
        Sums of one.
    recorded : (n, 2) float32 array
    labels, counts_needed : (n, n_name) arrays
        Presence of each name, and the counts from which it is visible.
    surface_um : (n,) float32 array
        Thickness of the uppermost paint, um; NaN where there is none.
    surface_share : (n, n_material) float32 array
        Of each material in the dry pigments of the uppermost paint, by mass.
    instrument : (n, n_input) float32 array
    names, kinds, materials : tuple of str
    axis : EnergyAxis
    hidden : (n, n_name) float32 array or None
        Counts up to which a name counts as absent for a network whose presence is that of lines; None: no limit.
    """

    expected: NDArray[np.float32]
    recorded: NDArray[np.float32]
    labels: NDArray[np.uint8]
    counts_needed: NDArray[np.float32]
    surface_um: NDArray[np.float32]
    surface_share: NDArray[np.float32]
    instrument: NDArray[np.float32]
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    materials: tuple[str, ...]
    axis: EnergyAxis = DEFAULT_NETWORK_AXIS
    hidden: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of spectra."""
        return len(self.expected)

    @property
    def machine(self) -> NDArray[np.int64]:
        """(n,) index of each spectrum's instrument."""
        return np.asarray(np.unique(self.instrument, axis=0, return_inverse=True)[1].ravel(), dtype=np.int64)

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups, anywhere."""
        named = zip(self.names, self.kinds, strict=True)
        return tuple(name for name, kind in named if kind == "group" and split_place(name)[1] == "anywhere")

    def columns(self, names: tuple[str, ...]) -> list[int]:
        """Return the columns of names in ``labels``."""
        return [self.names.index(name) for name in names]

    def only(self, rows: NDArray[np.integer] | slice) -> "HeldOut":
        """Return some of the spectra."""
        arrays = ("expected", "recorded", "labels", "counts_needed", "surface_um", "surface_share", "instrument")
        hidden = None if self.hidden is None else self.hidden[rows]
        return replace(self, hidden=hidden, **{name: getattr(self, name)[rows] for name in arrays})

    def counted(self, counts: NDArray[np.floating] | float, seed: tuple[int, ...]) -> Spectra:
        """Draw counts, (n,) or one number for all: totals within the recorded range, on average."""
        rng = np.random.default_rng(seed)
        totals = np.broadcast_to(np.asarray(counts, dtype=np.float64), (len(self),))
        drawn = count(self.expected * totals[:, None], rng=rng).astype(np.float32)
        return Spectra(drawn, self.axis, self.recorded, self.instrument)

    def present(self, counts: NDArray[np.floating] | float) -> NDArray[np.bool_]:
        """Return (n, n_name) whether a name counts as present at these counts, visible or not."""
        return present_at(self.labels, self.hidden, self._totals(counts))

    def visible(self, counts: NDArray[np.floating] | float) -> NDArray[np.bool_]:
        """Return (n, n_name) whether a name is present and visible at these counts."""
        return np.asarray(self.present(counts) & (self.counts_needed <= self._totals(counts)))

    def _totals(self, counts: NDArray[np.floating] | float) -> NDArray[np.float64]:
        return np.broadcast_to(np.asarray(counts, dtype=np.float64), (len(self),))[:, None]


def palette_for(card: ModelCard) -> tuple[str, ...]:
    """Return the pigments to simulate: those of easel painting, or a model's own where it answers fewer."""
    easel = tuple(load_palette(PALETTE).pigments)
    visible = {group.name for group in library().groups if group.visible}
    shown = {name for name in easel if visible.intersection(library()[name].groups)}
    known = materials([name for name, kind in zip(card.names, card.kinds, strict=True) if kind == "member"])
    return easel if shown <= set(known) else tuple(known)


def held_out_set(plan: TrustPlan, card: ModelCard, folder: Path, progress: Progress) -> HeldOut:
    """Simulate structures and instruments like those of training with another seed, or read those of an earlier run."""
    return _simulated(plan, card, folder / "held_out.h5", plan.stratigraphies, TEST, None, progress)


def tuning_set(plan: TrustPlan, card: ModelCard, folder: Path, progress: Progress) -> HeldOut:
    """Simulate a second set, on which thresholds may be chosen."""
    return _simulated(plan, card, folder / "tuning.h5", plan.tuning_stratigraphies, TUNING, None, progress)


def unseen_set(plan: TrustPlan, card: ModelCard, folder: Path, name: str, progress: Progress) -> HeldOut:
    """Simulate structures recorded with one of the unseen instruments."""
    out = folder / f"unseen_{name}.h5"
    seed = UNSEEN + list(unseen_instruments()).index(name)
    return _simulated(plan, card, out, plan.unseen_stratigraphies, seed, unseen_instruments()[name], progress)


def unseen_instruments() -> dict[str, Instrument]:
    """Return instruments outside the ranges of training, by the property that is outside."""
    wide = Detector(noise_fwhm_kev=0.16)
    flat = Geometry(incidence_angle_deg=35.0, takeoff_angle_deg=20.0)
    tube = Tube(anode="W", voltage_kv=70.0)
    thick = Filter(formula="Al", density=2.70, thickness_um=1500.0)
    return {
        "chromium_anode": Instrument(name="Cr anode, 35 kV", tube=Tube(anode="Cr", voltage_kv=35.0)),
        "high_voltage": Instrument(name="W anode, 70 kV, 1.5 mm Al", tube=tube, filters=(thick,)),
        "flat_angles": Instrument(name="Rh anode, 40 kV, incidence 35, take-off 20 degree", geometry=flat),
        "poor_resolution": Instrument(name="Mo anode, 40 kV, about 205 eV", tube=Tube(anode="Mo"), detector=wide),
    }


def group_scores(held: HeldOut, answer: Answer, counts: float, seed: int) -> dict[str, Any]:
    """Return the scores of a model's groups at a number of counts, as :func:`summarise` does."""
    columns = held.columns(held.groups)
    probability = answer(held.counted(counts, (seed, round(counts))))
    return summarise(probability, held.present(counts)[:, columns], held.visible(counts)[:, columns], held.groups)


def _simulated(
    plan: TrustPlan,
    card: ModelCard,
    out: Path,
    n: int,
    seed: int,
    instrument: Instrument | None,
    progress: Progress,
) -> HeldOut:
    settings = LibrarySettings(
        n_stratigraphies=n,
        palette=palette_for(card),
        instrument=instrument,
        chunk=plan.per_instrument,
        seed=plan.seed + seed,
        renders=1,
        places=True,
    )
    if out.is_file() and not _is_of(out, settings):
        out.unlink()
    if not out.is_file():
        # processes take longer to begin than a few chunks to simulate
        workers = 1 if n <= FEW_CHUNKS * plan.per_instrument else plan.workers
        simulate_library(settings, out, workers=workers, progress=progress)
    return read_held_out(out, lines=bool(card.amounts))


def _is_of(path: Path, settings: LibrarySettings) -> bool:
    with h5py.File(path, "r") as file:
        return LibrarySettings.model_validate_json(file.attrs["config"]) == settings


def read_held_out(path: Path, *, lines: bool = False) -> HeldOut:
    """Read a library of :func:`underpaint.simulate.simulate_library` that has labels by place.

    With ``lines`` a group is present where the lines of its element show, as networks with amounts are trained.
    """
    arrays = ("expected", "recorded", "labels", "counts_needed", "surface_um", "surface_share", "instrument")
    with h5py.File(path, "r") as file:
        words: dict[str, Any] = {name: tuple(json.loads(file.attrs[name])) for name in ("names", "kinds", "materials")}
        values = {name: file[name][()] for name in arrays}
        if lines:
            shown = file["lines_needed"][()], file["lines_hidden"][()]
            by_lines = labels_by_lines(words["names"], values["labels"], values["counts_needed"], *shown)
            values |= dict(zip(("labels", "counts_needed", "hidden"), by_lines, strict=True))
        return HeldOut(**values, **words)
