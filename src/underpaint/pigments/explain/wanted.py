"""Which pigment groups are looked for in a spectrum: those that a network sees, or those that are given."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from underpaint.data import Scan, Spectrum
from underpaint.errors import SampleError
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import ground_layer, library
from underpaint.pigments.explain.known import Known
from underpaint.pigments.explain.states import PaintPrior
from underpaint.pigments.predict import identify
from underpaint.simulate.instrument_inputs import InstrumentConditions, conditions_of

CERTAIN = 0.95
"""Groups of at least this probability are taken to be there."""
LEAST = 0.1
"""Groups of a smaller probability are left out."""
MOST_GROUPS = 10


@dataclass(frozen=True)
class Wanted:
    """The groups that are looked for.

    Parameters
    ----------
    groups : tuple of str
    absent : tuple of float
        Prior probability of each not to be there.
    probability : mapping of str to float
        What the network gives every group; empty where the groups were given.
    pigments : mapping of str to sequence of str
        Pigments of a group, where only these are possible.
    notes : tuple of str
        What the user should know of the choice.
    known : Known or None
        What another method has shown; groups of its order are among ``groups``, its absent ones are not.
    """

    groups: tuple[str, ...]
    absent: tuple[float, ...]
    probability: Mapping[str, float] = field(default_factory=dict)
    pigments: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    known: Known | None = None

    def with_known(self, known: Known | None) -> "Wanted":
        """Return the same with what another method has shown: groups that are there, and those that are not.

        Raises
        ------
        SampleError
            No group is left.
        """
        if known is None:
            return self
        absent = dict(zip(self.groups, self.absent, strict=True)) | dict.fromkeys(known.order, 0.0)
        left = {name: chance for name, chance in absent.items() if name not in known.absent}
        if not left:
            raise SampleError(
                f"Cannot explain a spectrum of which {known.method} shows no group: all that were seen "
                f"({', '.join(self.groups)}) are absent there. Correct the known results."
            )
        return replace(self, groups=tuple(left), absent=tuple(left.values()), known=known)


def prior_of(groups: Wanted, ground: str) -> PaintPrior:
    """Return what may lie under a spectrum before it is seen."""
    return PaintPrior(groups.groups, ground, groups.absent, groups.pigments, groups.known)


def given_groups(names: Sequence[str]) -> Wanted:
    """Return groups that are known to be there, by names of groups or of pigments.

    Of a group that is given by pigments, only these are tried.

    Raises
    ------
    SampleError
        No name, an unknown one, or a pigment that X-rays show nothing of.
    """
    groups: dict[str, list[str]] = {}
    known = {group.name for group in library().groups}
    for name in names:
        if name in known:
            groups.setdefault(name, [])
            continue
        pigment = library()[name]
        if not pigment.groups:
            raise SampleError(
                f"Cannot look for {pigment.label}: no element of it shows, so no spectrum says anything of it. "
                "Leave it out."
            )
        for group in pigment.groups:
            groups.setdefault(group, []).append(pigment.name)
    if not groups:
        raise SampleError("Cannot look for no pigment: name at least one group or pigment, such as mercury_red.")
    pigments = {group: tuple(dict.fromkeys(names)) for group, names in groups.items() if names}
    return Wanted(tuple(groups), (0.0,) * len(groups), pigments=pigments)


def seen_by_network(
    spectrum: Spectrum,
    ground: str,
    model: str | Path = "default",
    instrument: Instrument | InstrumentConditions | None = None,
) -> Wanted:
    """Return the groups that a trained network sees in a spectrum.

    Parameters
    ----------
    spectrum : Spectrum
        With an energy axis.
    ground : str
        Groups that it brings are left to it.
    model : str or Path
        As of ``predict.identify``.
    instrument : Instrument, InstrumentConditions or None
        That made the spectrum, or what is known of it.

    Raises
    ------
    SampleError
        The network sees no group.
    UnderpaintError
        As ``predict.identify``.
    """
    scan = Scan(np.asarray(spectrum.counts, dtype=np.float32)[None, None], axis=spectrum.axis, name=spectrum.name)
    known = conditions_of(instrument) if isinstance(instrument, Instrument) else instrument
    answers = identify(scan, model, instrument=known)
    probability = {name: float(answers[name][0, 0]) for name in answers.groups}
    return likely_groups(probability, ground, spectrum.name)


def likely_groups(probability: Mapping[str, float], ground: str, name: str = "") -> Wanted:
    """Return the groups of at least ``LEAST`` probability, but for those that the ground brings.

    Raises
    ------
    SampleError
        There is none.
    """
    known = {group: value for group, value in probability.items() if np.isfinite(value)}
    ranked = [group for group in sorted(known, key=lambda group: -known[group]) if known[group] >= LEAST]
    below = {group for name in ground_layer(ground, 1.0).pigments for group in library()[name].groups}
    kept = [group for group in ranked if group not in below] or ranked
    if not kept:
        best = max(known, key=lambda group: known[group], default="")
        nearest = f" (most likely: {best}, {known[best]:.2f})" if best else ""
        raise SampleError(
            f"Cannot explain {name or 'the spectrum'}: the network sees no pigment group with a probability of "
            f"{LEAST:g} or more{nearest}. Sum more pixels, or name the pigments with --pigments."
        )
    notes = []
    if left := [group for group in ranked if group not in kept]:
        notes.append(f"{_labels(left)}: left to the ground, which brings its elements.")
    if len(kept) > MOST_GROUPS:
        notes.append(f"Not looked for, as the network is less sure: {_labels(kept[MOST_GROUPS:])}.")
    kept = kept[:MOST_GROUPS]
    absent = [0.0 if known[group] >= CERTAIN or group == kept[0] else 1.0 - known[group] for group in kept]
    return Wanted(tuple(kept), tuple(absent), known, notes=tuple(notes))


def _labels(groups: Sequence[str]) -> str:
    return ", ".join(library().group(name).label for name in groups)
