"""Candidate stratigraphies from a network's answers to a spectrum."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from underpaint.data.maps import Results
from underpaint.lab.evaluation.candidates.candidate import (
    PAINT_UM,
    Candidate,
    Film,
    ground_film,
    paint_film,
    stack_name,
    without,
)
from underpaint.lab.evaluation.candidates.fit import StratigraphyFit
from underpaint.physics.materials import Paint, ground_layer, library

PRESENT = 0.5
"""Least probability of a group in the candidates."""
HIDDEN = 0.1
"""Least probability of a group that is tried below the paint."""
MOST_CANDIDATES = 12
"""Most stratigraphies of the first round, with the best less each of its pigments; rivals of the best are extra."""
MOST_PIGMENTS = 5
TOP_UM, BELOW_UM, GROUND_UM = 15.0, 30.0, 150.0
"""Initial thicknesses."""
PRIMING = "lead_white"
"""The commonest underlayer, tried where no other is suspected."""


@dataclass(frozen=True)
class Suspects:
    """The pigments that candidates are made of.

    Parameters
    ----------
    pigments : tuple of str
        Library names, the surest first; each stands for its equivalence group.
    hidden : tuple of str
        Pigments that are tried in a layer below.
    """

    pigments: tuple[str, ...]
    hidden: tuple[str, ...] = ()


def suspects(results: Results, ground: str) -> Suspects:
    """Return the pigments for which a network's answers are evidence.

    Of every group that is present, its likeliest member whose other groups are present, too. Groups of the ground are
    left to the ground.

    Parameters
    ----------
    results : Results
        Of a single spectrum: (1, 1) pixels.
    ground : str
        Name of the ground that lies under all candidates.
    """
    probability = {name: float(results[name][0, 0]) for name in (*results.groups, *results.pigments)}
    groups = {name: probability[name] for name in results.groups if np.isfinite(probability[name])}
    below = _ground_groups(ground)
    ranked = sorted(groups, key=lambda name: -groups[name])
    sure = [name for name in ranked if groups[name] >= PRESENT]
    unsure = [name for name in ranked if HIDDEN <= groups[name] < PRESENT and name not in below]
    selected = [name for name in sure if name not in below] or sure
    pigments = _members(selected, set(sure), results, probability)
    suspected = _members(unsure[:1], {*sure, *unsure}, results, probability)
    return Suspects(tuple(pigments[:MOST_PIGMENTS]), tuple(name for name in suspected if name not in pigments))


def propose(suspected: Suspects, ground: str) -> list[Candidate]:
    """Return the candidates: one mixed layer, the pigments shared between two layers, hidden layers.

    One mixed layer of all; each pigment alone above, and below, the others; other ways to share them between two
    layers; a hidden pigment below the mixture. There are at most ``MOST_CANDIDATES``, with one more for each pigment
    that is left out of the best. ``rearrangements`` returns other arrangements of the best.
    """
    names = suspected.pigments
    base = ground_film(ground, GROUND_UM)
    if not names:
        return [_stack(suspected.hidden, (), base)] if suspected.hidden else []
    candidates = [_stack(names, (), base)]
    hidden = suspected.hidden or ((PRIMING,) if _may_be_primed(names) else ())
    candidates += [_stack(names, (name,), base) for name in hidden]
    candidates += [_stack(top, tuple(name for name in names if name not in top), base) for top in _upper_layers(names)]
    return candidates[: MOST_CANDIDATES - (len(names) if len(names) > 1 else 0)]


def rearrangements(best: Candidate) -> list[Candidate]:
    """Return other arrangements of a candidate's pigments: one layer, the layers swapped, one pigment moved across.

    Of a candidate in one layer: each pigment alone above, and alone below, the others.
    """
    painted = [film.painted for film in best.films if film.painted]
    base = best.films[len(painted) :]
    if len(painted) > 2 or len(base) != 1:
        return []
    if len(painted) == 1:
        (names,) = painted
        pairs = [((name,), _rest(names, name)) for name in names if len(names) > 1]
        return [_stack(*layers, base[0]) for pair in pairs for layers in dict.fromkeys((pair, pair[::-1]))]
    above, below = painted
    moved = [(_rest(above, name), (*below, name)) for name in above if len(above) > 1]
    moved += [((*above, name), _rest(below, name)) for name in below if len(below) > 1]
    return [_stack(top, bottom, base[0]) for top, bottom in [((*above, *below), ()), (below, above), *moved]]


def layer_pigments(candidate: Candidate) -> tuple[frozenset[str], ...]:
    """Return the pigments of each layer of paint, from the surface down."""
    return tuple(frozenset(film.painted) for film in candidate.films if film.painted)


def with_pure_pigments(candidate: Candidate) -> Candidate | None:
    """Return a candidate with pigments of one group in place of those of several; None where nothing changes.

    Lead white with chrome oxide green has the lines of lead white with chrome orange, in other possible orders. A
    composite is replaced where other pigments have the rest of its groups.
    """
    names = candidate.pigments
    swaps: dict[str, str] = {}
    for name in sorted(names):
        other_groups = {group for other in names - {name} for group in library()[other].groups}
        remaining = [group for group in library()[name].groups if group not in other_groups]
        if len(library()[name].groups) > 1 and len(remaining) == 1:
            pure = next((each.name for each in library().members(remaining[0]) if each.groups == (remaining[0],)), None)
            swaps |= {} if pure is None or pure in names else {name: pure}
    painted = [tuple(swaps.get(name, name) for name in film.painted) for film in candidate.films if film.painted]
    if not swaps or len(painted) > 2:
        return None
    return _stack(painted[0], painted[1] if len(painted) > 1 else (), candidate.films[-1])


def without_each_pigment(best: StratigraphyFit) -> list[Candidate]:
    """Return the best candidate less each of its pigments in turn, starting from the fitted values."""
    fitted = with_fitted_values(best)
    reduced = (without(fitted, name) for name in sorted(fitted.pigments))
    return [candidate for candidate in reduced if candidate is not None]


def with_fitted_values(best: StratigraphyFit) -> Candidate:
    """Return a candidate that starts from its fitted values."""
    shares, thickness = best.candidate.shares(best.place), best.thickness_um
    films = [
        _restarted(film, share, float(um))
        for film, share, um in zip(best.candidate.films, shares, thickness, strict=True)
    ]
    return Candidate(best.candidate.name, tuple(films))


def _restarted(film: Film, shares: dict[str, float], thickness_um: float) -> Film:
    if film.paint is None:
        return replace(film, layer=replace(film.layer, thickness_um=thickness_um))
    return paint_film(replace(film.paint, pigments=shares), float(np.clip(thickness_um, *PAINT_UM)))


def _rest(names: Sequence[str], name: str) -> tuple[str, ...]:
    return tuple(other for other in names if other != name)


def _stack(top: Sequence[str], below: Sequence[str], base: Film) -> Candidate:
    films = [paint_film(Paint(dict.fromkeys(top, 1.0)), TOP_UM if below else BELOW_UM)]
    if below:
        films.append(paint_film(Paint(dict.fromkeys(below, 1.0)), BELOW_UM))
    return Candidate(stack_name(films), (*films, base))


def _upper_layers(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the possible upper layers, the simplest first: one pigment, all but one, then the rest."""
    count = len(names)
    sizes = sorted(range(1, count), key=lambda size: (min(size, count - size), size))
    return [top for size in sizes for top in combinations(names, size)]


def _members(groups: Sequence[str], allowed: set[str], results: Results, probability: dict[str, float]) -> list[str]:
    """Return a member of each group, without repeats.

    The likeliest. A pigment of several groups stands for one of them alone, the least likely otherwise, and only where
    it is likely itself. The others get a pigment of one group, so that orders can be distinguished.
    """
    options = {group: _options(group, allowed, results, probability) for group in groups}
    pure = {group: names[-1] for group, names in options.items() if names}
    chosen: dict[str, str] = {}
    for group in sorted(pure, key=lambda group: probability.get(pure[group], 0.0)):
        likeliest, plain = options[group]
        chosen[group] = plain if likeliest in chosen.values() else likeliest
    return list(dict.fromkeys(chosen[group] for group in groups if group in chosen))


def _options(group: str, allowed: set[str], results: Results, probability: dict[str, float]) -> tuple[str, ...]:
    """Return the likeliest member of a group and the likeliest of this group alone; empty where there is none."""

    def score(name: str) -> float:
        return probability.get(name, 0.0)

    known = [name for name in results.pigments if name in library() and group in library()[name].groups]
    # a network of groups alone leaves the choice to the library's order, which puts the commonest first
    known = known or [pigment.name for pigment in library().members(group)]
    permitted = [name for name in known if set(library()[name].groups) <= allowed]
    pure = [name for name in permitted if len(library()[name].groups) == 1]
    if not permitted:
        return ()
    likeliest, plain = max(permitted, key=score), max(pure or permitted, key=score)
    return (likeliest if score(likeliest) >= PRESENT else plain, plain)


def _ground_groups(ground: str) -> set[str]:
    return {group for name in ground_layer(ground, 1.0).pigments for group in library()[name].groups}


def _may_be_primed(names: Sequence[str]) -> bool:
    """Return whether the paint has no lead: lead below can be distinguished only then."""
    return not any("lead_pigment" in library()[name].groups for name in names)
