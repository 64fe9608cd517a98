"""Proposals of candidate stratigraphies from a network's answers for a spectrum."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from underpaint.data.maps import Results
from underpaint.lab.evaluation.candidates.candidate import (
    PAINT_THICKNESS_UM,
    Candidate,
    Film,
    ground_film,
    paint_film,
    stack_name,
    without_pigment,
)
from underpaint.lab.evaluation.candidates.fit import StratigraphyFit
from underpaint.physics.materials import Paint, ground_layer, library

MIN_PRESENT_PROBABILITY = 0.5
"""Minimum group probability for a pigment of the group to be in every candidate."""
MIN_HIDDEN_PROBABILITY = 0.1
"""Minimum group probability for a pigment of the group to be tried in a hidden layer."""
MAX_CANDIDATES = 12
"""Maximum number of candidates in the first round.

Candidates with a pigment left out count, but rearrangements do not.
"""
MAX_PIGMENTS = 5
UPPER_LAYER_UM, LOWER_LAYER_UM, GROUND_LAYER_UM = 15.0, 30.0, 150.0
"""Initial thicknesses, in um, of an upper layer, of a lower or single layer, and of the ground."""
PRIMING_PIGMENT = "lead_white"
"""Commonest pigment of underlayers, tried if no other hidden pigment is suspected."""


@dataclass(frozen=True)
class SuspectedPigments:
    """Suspected pigments, from which candidates are made.

    Parameters
    ----------
    pigments : tuple of str
        Library names in order of probability, the highest first. Each pigment represents its equivalence group.
    hidden_pigments : tuple of str
        Pigments that are tried in a hidden layer.
    """

    pigments: tuple[str, ...]
    hidden_pigments: tuple[str, ...] = ()


def suspect_pigments(network_results: Results, ground: str) -> SuspectedPigments:
    """Return the pigments that a network's answers suggest.

    For each present group, the most probable member is suggested. Members that also belong to an absent group are not
    considered. No member is suggested for a group of the ground.

    Parameters
    ----------
    network_results : Results
        Answers for a single pixel, as maps with the shape (1, 1).
    ground : str
        Name of the ground, the lowest layer of all candidates.
    """
    probability = {
        name: float(network_results[name][0, 0]) for name in (*network_results.groups, *network_results.pigments)
    }
    group_probability = {name: probability[name] for name in network_results.groups if np.isfinite(probability[name])}
    ground_groups = _ground_groups(ground)
    ranked_groups = sorted(group_probability, key=lambda name: -group_probability[name])
    present_groups = [name for name in ranked_groups if group_probability[name] >= MIN_PRESENT_PROBABILITY]
    doubtful_groups = [
        name
        for name in ranked_groups
        if MIN_HIDDEN_PROBABILITY <= group_probability[name] < MIN_PRESENT_PROBABILITY and name not in ground_groups
    ]
    paint_groups = [name for name in present_groups if name not in ground_groups] or present_groups
    pigments = _member_of_each_group(paint_groups, set(present_groups), network_results, probability)
    hidden_pigments = _member_of_each_group(
        doubtful_groups[:1], {*present_groups, *doubtful_groups}, network_results, probability
    )
    return SuspectedPigments(
        tuple(pigments[:MAX_PIGMENTS]), tuple(name for name in hidden_pigments if name not in pigments)
    )


def propose_candidates(suspected_pigments: SuspectedPigments, ground: str) -> list[Candidate]:
    """Return candidates with the suspected pigments in one layer or divided between two layers.

    The first candidate has all pigments in one layer. The next candidates have a hidden pigment below the mixture of
    all pigments. In the last candidates, the pigments are divided between two layers. Candidates with a single pigment
    in one layer come first. The number of candidates is at most ``MAX_CANDIDATES``, including later candidates with a
    pigment left out. ``rearrangements`` returns other arrangements of the best candidate.
    """
    names = suspected_pigments.pigments
    base_film = ground_film(ground, GROUND_LAYER_UM)
    if not names:
        return (
            [_layered_candidate(suspected_pigments.hidden_pigments, (), base_film)]
            if suspected_pigments.hidden_pigments
            else []
        )
    candidates = [_layered_candidate(names, (), base_film)]
    hidden_pigments = suspected_pigments.hidden_pigments or ((PRIMING_PIGMENT,) if _may_be_primed(names) else ())
    candidates += [_layered_candidate(names, (name,), base_film) for name in hidden_pigments]
    candidates += [
        _layered_candidate(upper_pigments, tuple(name for name in names if name not in upper_pigments), base_film)
        for upper_pigments in _upper_layers(names)
    ]
    return candidates[: MAX_CANDIDATES - (len(names) if len(names) > 1 else 0)]


def rearrangements(candidate: Candidate) -> list[Candidate]:
    """Return other arrangements of a candidate's pigments.

    Other arrangements of two layers are a single mixture, the layers swapped, and one pigment moved to the other layer.
    Other arrangements of one layer have one pigment alone, above or below all other pigments.
    """
    pigments_by_layer = [film.paint_pigments for film in candidate.films if film.paint_pigments]
    lower_films = candidate.films[len(pigments_by_layer) :]
    if len(pigments_by_layer) > 2 or len(lower_films) != 1:
        return []
    if len(pigments_by_layer) == 1:
        (names,) = pigments_by_layer
        layer_pairs = [((name,), _names_without(names, name)) for name in names if len(names) > 1]
        return [
            _layered_candidate(*layers, lower_films[0])
            for layer_pair in layer_pairs
            for layers in dict.fromkeys((layer_pair, layer_pair[::-1]))
        ]
    upper_pigments, lower_pigments = pigments_by_layer
    with_moved_pigment = [
        (_names_without(upper_pigments, name), (*lower_pigments, name))
        for name in upper_pigments
        if len(upper_pigments) > 1
    ]
    with_moved_pigment += [
        ((*upper_pigments, name), _names_without(lower_pigments, name))
        for name in lower_pigments
        if len(lower_pigments) > 1
    ]
    return [
        _layered_candidate(upper_pigment_names, lower_pigment_names, lower_films[0])
        for upper_pigment_names, lower_pigment_names in [
            ((*upper_pigments, *lower_pigments), ()),
            (lower_pigments, upper_pigments),
            *with_moved_pigment,
        ]
    ]


def layer_pigments(candidate: Candidate) -> tuple[frozenset[str], ...]:
    """Return the pigments of each layer of paint, from the surface down."""
    return tuple(frozenset(film.paint_pigments) for film in candidate.films if film.paint_pigments)


def with_pure_pigments(candidate: Candidate) -> Candidate | None:
    """Return a candidate with composite pigments replaced by pigments of one group, or None if nothing changes.

    A composite pigment is replaced if other pigments of the candidate have all its groups but one. For example, lead
    white with chrome orange becomes lead white with chrome oxide green. Both mixtures have the same lines, but allow
    different layer orders.
    """
    names = candidate.pigments
    pure_by_composite: dict[str, str] = {}
    for name in sorted(names):
        other_groups = {group for other_name in names - {name} for group in library()[other_name].groups}
        remaining_groups = [group for group in library()[name].groups if group not in other_groups]
        if len(library()[name].groups) > 1 and len(remaining_groups) == 1:
            pure_pigment = next(
                (
                    pigment.name
                    for pigment in library().members(remaining_groups[0])
                    if pigment.groups == (remaining_groups[0],)
                ),
                None,
            )
            pure_by_composite |= {} if pure_pigment is None or pure_pigment in names else {name: pure_pigment}
    pigments_by_layer = [
        tuple(pure_by_composite.get(name, name) for name in film.paint_pigments)
        for film in candidate.films
        if film.paint_pigments
    ]
    if not pure_by_composite or len(pigments_by_layer) > 2:
        return None
    return _layered_candidate(
        pigments_by_layer[0], pigments_by_layer[1] if len(pigments_by_layer) > 1 else (), candidate.films[-1]
    )


def without_each_pigment(fit: StratigraphyFit) -> list[Candidate]:
    """Return copies of a fitted candidate, each without one pigment. The copies start from the fitted values."""
    candidate_at_fit = with_fitted_values(fit)
    reduced_candidates = (without_pigment(candidate_at_fit, name) for name in sorted(candidate_at_fit.pigments))
    return [candidate for candidate in reduced_candidates if candidate is not None]


def with_fitted_values(fit: StratigraphyFit) -> Candidate:
    """Return the candidate of a fit with the fitted values as initial values."""
    fractions_by_layer, thicknesses_um = fit.candidate.mass_fractions(fit.parameter_values), fit.thickness_um
    films = [
        _film_at_values(film, fractions, float(thickness_um))
        for film, fractions, thickness_um in zip(fit.candidate.films, fractions_by_layer, thicknesses_um, strict=True)
    ]
    return Candidate(fit.candidate.name, tuple(films))


def _film_at_values(film: Film, fractions: dict[str, float], thickness_um: float) -> Film:
    if film.paint is None:
        return replace(film, layer=replace(film.layer, thickness_um=thickness_um))
    return paint_film(replace(film.paint, pigments=fractions), float(np.clip(thickness_um, *PAINT_THICKNESS_UM)))


def _names_without(names: Sequence[str], excluded_name: str) -> tuple[str, ...]:
    return tuple(name for name in names if name != excluded_name)


def _layered_candidate(
    upper_pigments: Sequence[str], lower_pigments: Sequence[str], ground_layer_film: Film
) -> Candidate:
    films = [
        paint_film(Paint(dict.fromkeys(upper_pigments, 1.0)), UPPER_LAYER_UM if lower_pigments else LOWER_LAYER_UM)
    ]
    if lower_pigments:
        films.append(paint_film(Paint(dict.fromkeys(lower_pigments, 1.0)), LOWER_LAYER_UM))
    return Candidate(stack_name(films), (*films, ground_layer_film))


def _upper_layers(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the possible upper layers, those with one pigment first, and those with all but one pigment second."""
    n_pigment = len(names)
    upper_sizes = sorted(
        range(1, n_pigment), key=lambda upper_size: (min(upper_size, n_pigment - upper_size), upper_size)
    )
    return [pigments for upper_size in upper_sizes for pigments in combinations(names, upper_size)]


def _member_of_each_group(
    groups: Sequence[str], allowed_groups: set[str], network_results: Results, probability: dict[str, float]
) -> list[str]:
    """Return the most probable member of each group, without repeats.

    A pigment of several groups represents only one group, whose alternative pigment is the least probable. All other
    groups are represented by pigments of a single group, so that layer orders can be distinguished.
    """
    members_by_group = {group: _member_options(group, allowed_groups, network_results, probability) for group in groups}
    single_group_member = {group: names[-1] for group, names in members_by_group.items() if names}
    chosen_members: dict[str, str] = {}
    for group in sorted(single_group_member, key=lambda group: probability.get(single_group_member[group], 0.0)):
        best_member, pure_pigment = members_by_group[group]
        chosen_members[group] = pure_pigment if best_member in chosen_members.values() else best_member
    return list(dict.fromkeys(chosen_members[group] for group in groups if group in chosen_members))


def _member_options(
    group: str, allowed_groups: set[str], network_results: Results, probability: dict[str, float]
) -> tuple[str, ...]:
    """Return the most probable member of a group, and the most probable member that belongs to no other group."""

    def probability_of(name: str) -> float:
        return probability.get(name, 0.0)

    members = [name for name in network_results.pigments if name in library() and group in library()[name].groups]
    # for a network without members, the order of the library decides: the most common member is the first
    members = members or [pigment.name for pigment in library().members(group)]
    allowed_members = [name for name in members if set(library()[name].groups) <= allowed_groups]
    single_group_members = [name for name in allowed_members if len(library()[name].groups) == 1]
    if not allowed_members:
        return ()
    best_member, pure_pigment = (
        max(allowed_members, key=probability_of),
        max(single_group_members or allowed_members, key=probability_of),
    )
    return (best_member if probability_of(best_member) >= MIN_PRESENT_PROBABILITY else pure_pigment, pure_pigment)


def _ground_groups(ground: str) -> set[str]:
    return {group for name in ground_layer(ground, 1.0).pigments for group in library()[name].groups}


def _may_be_primed(names: Sequence[str]) -> bool:
    """Return whether the paint is free of lead, so that lead white below it can be detected."""
    return not any("lead_pigment" in library()[name].groups for name in names)
