"""Candidate pigment groups for the explanation of a spectrum, given by a network or by the user."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from underpaint.data import Scan, Spectrum
from underpaint.errors import SampleError
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import ground_layer, library
from underpaint.pigments.explain.known import KnownLayers
from underpaint.pigments.explain.states import PaintPrior
from underpaint.pigments.predict import identify
from underpaint.simulate.instrument_inputs import InstrumentConditions, conditions_of

CERTAIN_PROBABILITY = 0.95
"""Minimum probability of a group that is assumed to be present."""
MIN_PROBABILITY = 0.1
"""Minimum probability at which a group becomes a candidate."""
MAX_GROUPS = 10


@dataclass(frozen=True)
class CandidateGroups:
    """Candidate groups for the explanation of a spectrum.

    Parameters
    ----------
    groups : tuple of str
        Names of the groups.
    absent : tuple of float
        Prior probability that each group is absent.
    probability : mapping of str to float
        The network's probability of every group, or an empty mapping for groups from the user.
    pigments : mapping of str to sequence of str
        Possible pigments of each group that is restricted to some of its pigments.
    notes : tuple of str
        Notes on the selection for the user.
    known_layers : KnownLayers or None
        Result of another method. ``groups`` contains all groups whose order is known from this method, and none that
        are known to be absent.
    """

    groups: tuple[str, ...]
    absent: tuple[float, ...]
    probability: Mapping[str, float] = field(default_factory=dict)
    pigments: Mapping[str, Sequence[str]] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    known_layers: KnownLayers | None = None

    def with_known_layers(self, known_layers: KnownLayers | None) -> "CandidateGroups":
        """Return the candidates, plus the groups that another method found, minus those that it excludes.

        Raises
        ------
        SampleError
            The other method excludes all candidates.
        """
        if known_layers is None:
            return self
        absence_by_group = dict(zip(self.groups, self.absent, strict=True)) | dict.fromkeys(known_layers.order, 0.0)
        remaining_groups = {
            name: probability for name, probability in absence_by_group.items() if name not in known_layers.absent
        }
        if not remaining_groups:
            raise SampleError(
                f"Cannot explain a spectrum of which {known_layers.method} shows no group: all that were seen "
                f"({', '.join(self.groups)}) are absent there. Correct the known results."
            )
        return replace(
            self, groups=tuple(remaining_groups), absent=tuple(remaining_groups.values()), known_layers=known_layers
        )


def prior_of(candidates: CandidateGroups, ground: str) -> PaintPrior:
    """Return the prior of the layers, given the candidate groups and the ground."""
    return PaintPrior(candidates.groups, ground, candidates.absent, candidates.pigments, candidates.known_layers)


def given_groups(names: Sequence[str]) -> CandidateGroups:
    """Return the candidate groups for the names of groups or pigments that are known to be present.

    If pigments of a group are named, only these pigments are candidates.

    Raises
    ------
    SampleError
        No name is given, a name is unknown, or a pigment has no visible line.
    """
    groups: dict[str, list[str]] = {}
    known_groups = {group.name for group in library().groups}
    for name in names:
        if name in known_groups:
            groups.setdefault(name, [])
            continue
        pigment = library()[name]
        if not pigment.groups:
            raise SampleError(
                f"Cannot look for {pigment.label}: none of its elements has a visible line, so a spectrum contains no "
                "evidence of it. Omit this pigment."
            )
        for group in pigment.groups:
            groups.setdefault(group, []).append(pigment.name)
    if not groups:
        raise SampleError("Cannot explain a spectrum without pigments: name a group or pigment, such as mercury_red.")
    pigments = {group: tuple(dict.fromkeys(names)) for group, names in groups.items() if names}
    return CandidateGroups(tuple(groups), (0.0,) * len(groups), pigments=pigments)


def groups_by_network(
    spectrum: Spectrum,
    ground: str,
    model: str | Path = "default",
    instrument: Instrument | InstrumentConditions | None = None,
) -> CandidateGroups:
    """Return the groups that a trained network finds in a spectrum.

    Parameters
    ----------
    spectrum : Spectrum
        Spectrum with an energy axis.
    ground : str
        Name of the ground in the library. Groups of the ground are not candidates.
    model : str or Path
        As for ``predict.identify``.
    instrument : Instrument, InstrumentConditions or None
        Instrument that recorded the spectrum, or its known values.

    Raises
    ------
    SampleError
        The network finds no group.
    UnderpaintError
        As for ``predict.identify``.
    """
    scan = Scan(np.asarray(spectrum.counts, dtype=np.float32)[None, None], axis=spectrum.axis, name=spectrum.name)
    conditions = conditions_of(instrument) if isinstance(instrument, Instrument) else instrument
    predictions = identify(scan, model, instrument=conditions)
    probability = {name: float(predictions[name][0, 0]) for name in predictions.groups}
    return likely_groups(probability, ground, spectrum.name)


def likely_groups(probability: Mapping[str, float], ground: str, spectrum_name: str = "") -> CandidateGroups:
    """Return the groups with at least ``MIN_PROBABILITY``, except those of the ground.

    Raises
    ------
    SampleError
        No group reaches ``MIN_PROBABILITY``.
    """
    finite_probability = {
        group: group_probability for group, group_probability in probability.items() if np.isfinite(group_probability)
    }
    ranked_groups = [
        group
        for group in sorted(finite_probability, key=lambda group: -finite_probability[group])
        if finite_probability[group] >= MIN_PROBABILITY
    ]
    ground_groups = {
        group for spectrum_name in ground_layer(ground, 1.0).pigments for group in library()[spectrum_name].groups
    }
    selected_groups = [group for group in ranked_groups if group not in ground_groups] or ranked_groups
    if not selected_groups:
        best_group = max(finite_probability, key=lambda group: finite_probability[group], default="")
        best_group_text = f" (most likely: {best_group}, {finite_probability[best_group]:.2f})" if best_group else ""
        raise SampleError(
            f"Cannot explain {spectrum_name or 'the spectrum'}: the network finds no pigment group with a probability "
            f"of {MIN_PROBABILITY:g} or more{best_group_text}. Sum more pixels, or name the pigments with --pigments."
        )
    notes = []
    if ground_pigment_groups := [group for group in ranked_groups if group not in selected_groups]:
        notes.append(f"{_labels(ground_pigment_groups)}: attributed to the ground, which has its elements.")
    if len(selected_groups) > MAX_GROUPS:
        notes.append(f"Not considered, since their probability is lower: {_labels(selected_groups[MAX_GROUPS:])}.")
    selected_groups = selected_groups[:MAX_GROUPS]
    absence_probabilities = [
        0.0
        if finite_probability[group] >= CERTAIN_PROBABILITY or group == selected_groups[0]
        else 1.0 - finite_probability[group]
        for group in selected_groups
    ]
    return CandidateGroups(tuple(selected_groups), tuple(absence_probabilities), finite_probability, notes=tuple(notes))


def _labels(groups: Sequence[str]) -> str:
    return ", ".join(library().group(name).label for name in groups)
