"""Outputs of a network: first pigment groups, then the pigments that belong to them."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import PLACE_WORDS, PLACES, at_place, split_place
from underpaint.physics.materials import Pigment, library


@dataclass(frozen=True)
class Outputs:
    """Outputs of a network, each with its groups and line families.

    Parameters
    ----------
    names : tuple of str
        Names in snake case, including the place if the output has one (:func:`underpaint.data.maps.at_place`).
    kinds : tuple of str
        "group" or "member" (a pigment) for each output.
    labels : tuple of str
        Names for display.
    groups : tuple of tuple of str
        Groups to which each output belongs (for a group, the group itself).
    elements : tuple of tuple of str
        Line families whose detection indicates each output, strongest first.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    labels: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    elements: tuple[tuple[str, ...], ...]

    def index(self, name: str) -> int:
        """Return the index of the output with a name."""
        return self.names.index(name)

    def select_output_names(self, names: Sequence[str]) -> "Outputs":
        """Return the outputs whose names are in ``names``. The order of the outputs does not change."""
        output_indices = [output_index for output_index, name in enumerate(self.names) if name in names]
        return Outputs(
            names=tuple(self.names[output_index] for output_index in output_indices),
            kinds=tuple(self.kinds[output_index] for output_index in output_indices),
            labels=tuple(self.labels[output_index] for output_index in output_indices),
            groups=tuple(self.groups[output_index] for output_index in output_indices),
            elements=tuple(self.elements[output_index] for output_index in output_indices),
        )

    def with_places(self) -> "Outputs":
        """Repeat all outputs for each place: first anywhere, then at the surface, then below the surface."""
        return Outputs(
            names=tuple(at_place(name, place) for place in PLACES for name in self.names),
            kinds=self.kinds * len(PLACES),
            labels=tuple(label + PLACE_WORDS[place] for place in PLACES for label in self.labels),
            groups=tuple(
                tuple(at_place(group, place) for group in groups) for place in PLACES for groups in self.groups
            ),
            elements=self.elements * len(PLACES),
        )


def outputs_for(pigments: Sequence[str], *, with_groups: bool = True) -> Outputs:
    """Return the outputs for a palette: first its detectable groups, then its pigments of these groups.

    Pigments without a detectable group, such as carbon black or lakes on alumina, have no output.
    """
    members = [library()[name] for name in pigments]
    visible_groups = {group.name: group for group in library().groups if group.visible}
    members = [pigment for pigment in members if any(group in visible_groups for group in pigment.groups)]
    group_names = (
        [name for name in visible_groups if any(name in pigment.groups for pigment in members)] if with_groups else []
    )
    return Outputs(
        names=(*group_names, *(pigment.name for pigment in members)),
        kinds=("group",) * len(group_names) + ("member",) * len(members),
        labels=(*(visible_groups[name].label for name in group_names), *(pigment.label for pigment in members)),
        groups=(*((name,) for name in group_names), *(_visible_groups_of(pigment) for pigment in members)),
        elements=(
            *(tuple(visible_groups[name].key_families) for name in group_names),
            *(families_of(_visible_groups_of(pigment)) for pigment in members),
        ),
    )


def families_of(groups: Sequence[str]) -> tuple[str, ...]:
    """Return the line families of all groups in ``groups``."""
    group_by_name = {group.name: group for group in library().groups}
    return tuple(family for name in groups for family in group_by_name[name].key_families)


def group_element(group: str) -> str:
    """Return the element symbol of a group."""
    return str(next(library_group.element for library_group in library().groups if library_group.name == group))


def label_matrix(sample_pigments: Sequence[set[str]], outputs: Outputs) -> NDArray[np.uint8]:
    """Return the (n_sample, n_name) labels. Each sample is given as the names of its pigments with their places."""
    labels = np.zeros((len(sample_pigments), len(outputs.names)), dtype=np.uint8)
    for sample_index, pigments in enumerate(sample_pigments):
        present_names = pigments | {group for output_name in pigments for group in _groups_at_place(output_name)}
        labels[sample_index] = [output_name in present_names for output_name in outputs.names]
    return labels


def _groups_at_place(name: str) -> list[str]:
    pigment, place = split_place(name)
    return [at_place(group, place) for group in _visible_groups_of(library()[pigment])]


def _visible_groups_of(pigment: Pigment) -> tuple[str, ...]:
    visible_names = {group.name for group in library().groups if group.visible}
    return tuple(group for group in pigment.groups if group in visible_names)
