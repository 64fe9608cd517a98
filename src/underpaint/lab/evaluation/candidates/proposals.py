"""Which stratigraphies to try, from what the network sees in a spectrum."""

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
    label_of,
    laid_name,
    paint_film,
    without,
)
from underpaint.lab.evaluation.candidates.fit import StratigraphyFit
from underpaint.physics.materials import Paint, ground_layer, library

PRESENT = 0.5
"""Groups of at least this probability are taken into the candidates."""
HIDDEN = 0.1
"""Groups of at least this probability are tried below the paint."""
MOST_CANDIDATES = 12
"""Stratigraphies of the first round, and the best one less each of its pigments; rivals of the best come on top."""
MOST_PIGMENTS = 5
TOP_UM, BELOW_UM, GROUND_UM = 15.0, 30.0, 150.0
"""Thicknesses to begin from."""
PRIMING = "lead_white"
"""Stands for the underlayer that is commonest, where nothing else is suspected below."""


@dataclass(frozen=True)
class Suspects:
    """The pigments that candidates are made of.

    Parameters
    ----------
    pigments : tuple of str
        Library names, the surest first; each stands for its equivalence group.
    hidden : tuple of str
        Pigments that are tried in a layer below.
    probability : dict of str to float
        Of every group that the network answered.
    notes : tuple of str
        What the user should know of the choice.
    """

    pigments: tuple[str, ...]
    hidden: tuple[str, ...]
    probability: dict[str, float]
    notes: tuple[str, ...] = ()


def suspects(found: Results, ground: str, *, present: float = PRESENT, hidden: float = HIDDEN) -> Suspects:
    """Return the pigments that a network's answer speaks for.

    Of every group that is present, its likeliest member whose other groups are present, too. Groups that the ground
    brings along are left to the ground.

    Parameters
    ----------
    found : Results
        Of a single spectrum: (1, 1) pixels.
    ground : str
        Name of the ground that lies under all candidates.
    present, hidden : float
        Least probability of a group to be taken, or to be tried below the paint.
    """
    probability = {name: float(found[name][0, 0]) for name in (*found.groups, *found.pigments)}
    groups = {name: probability[name] for name in found.groups if np.isfinite(probability[name])}
    below = _ground_groups(ground)
    ranked = sorted(groups, key=lambda name: -groups[name])
    sure = [name for name in ranked if groups[name] >= present]
    unsure = [name for name in ranked if hidden <= groups[name] < present and name not in below]
    kept = [name for name in sure if name not in below] or sure
    pigments = _members(kept, set(sure), found, probability)
    notes = []
    if left := [name for name in sure if name not in kept]:
        notes.append(f"{_labels(left)}: left to the ground, which brings its elements.")
    if len(pigments) > MOST_PIGMENTS:
        notes.append(f"Left out of the candidates, as the network is less sure: {label_of(pigments[MOST_PIGMENTS:])}.")
    suspected = _members(unsure[:1], {*sure, *unsure}, found, probability)
    return Suspects(
        tuple(pigments[:MOST_PIGMENTS]),
        tuple(name for name in suspected if name not in pigments),
        groups,
        tuple(notes),
    )


def propose(found: Suspects, ground: str) -> list[Candidate]:
    """Return the candidates: one mixed layer, the pigments shared between two layers, hidden layers.

    One mixed layer of all; each pigment alone above, and below, the others; other ways to share them between two
    layers; a hidden pigment below the mixture. So many that, with one more for each pigment that is left out of the
    best, there are at most ``MOST_CANDIDATES``. What the best of them leaves open, ``rivals_of`` brings.
    """
    names = found.pigments
    base = ground_film(ground, GROUND_UM)
    if not names:
        return [_stack(found.hidden, (), base)] if found.hidden else []
    candidates = [_stack(names, (), base)]
    hidden = found.hidden or ((PRIMING,) if _may_be_primed(names) else ())
    candidates += [_stack(names, (name,), base) for name in hidden]
    candidates += [_stack(top, tuple(name for name in names if name not in top), base) for top in _tops(names)]
    return candidates[: MOST_CANDIDATES - (len(names) if len(names) > 1 else 0)]


def rivals_of(best: Candidate) -> list[Candidate]:
    """Return other ways to lay a candidate's pigments: one layer, the layers swapped, one pigment moved across.

    Of a candidate in one layer: each pigment alone above, and alone below, the others.
    """
    painted = [film.painted for film in best.films if film.painted]
    base = best.films[len(painted) :]
    if len(painted) > 2 or len(base) != 1:
        return []
    if len(painted) == 1:
        (names,) = painted
        pairs = [((name,), _rest(names, name)) for name in names if len(names) > 1]
        return [_stack(*laid, base[0]) for pair in pairs for laid in dict.fromkeys((pair, pair[::-1]))]
    above, below = painted
    moved = [(_rest(above, name), (*below, name)) for name in above if len(above) > 1]
    moved += [((*above, name), _rest(below, name)) for name in below if len(below) > 1]
    return [_stack(top, bottom, base[0]) for top, bottom in [((*above, *below), ()), (below, above), *moved]]


def laid(candidate: Candidate) -> tuple[frozenset[str], ...]:
    """Return the pigments of each layer of paint, from the surface down."""
    return tuple(frozenset(film.painted) for film in candidate.films if film.painted)


def made_pure(candidate: Candidate) -> Candidate | None:
    """Return a candidate with a pigment of one group in place of each that counts as several.

    Lead white with chrome oxide green can show what lead white with chrome orange shows, and has an order of its own.
    Only where the rest of a composite's groups are there without it; None where nothing changes.
    """
    names = candidate.pigments
    swaps: dict[str, str] = {}
    for name in sorted(names):
        others = {group for other in names - {name} for group in library()[other].groups}
        own = [group for group in library()[name].groups if group not in others]
        if len(library()[name].groups) > 1 and len(own) == 1:
            pure = next((each.name for each in library().members(own[0]) if each.groups == (own[0],)), None)
            swaps |= {} if pure is None or pure in names else {name: pure}
    painted = [tuple(swaps.get(name, name) for name in film.painted) for film in candidate.films if film.painted]
    if not swaps or len(painted) > 2:
        return None
    return _stack(painted[0], painted[1] if len(painted) > 1 else (), candidate.films[-1])


def less_each_pigment(best: StratigraphyFit) -> list[Candidate]:
    """Return the best candidate less each of its pigments, begun where it was fitted."""
    fitted = refitted(best)
    found = (without(fitted, name) for name in sorted(fitted.pigments))
    return [own for own in found if own is not None]


def refitted(best: StratigraphyFit) -> Candidate:
    """Return a candidate that begins where it was fitted."""
    shares, thickness = best.candidate.shares(best.place), best.thickness_um
    films = [
        _begun(film, own, float(um)) for film, own, um in zip(best.candidate.films, shares, thickness, strict=True)
    ]
    return Candidate(best.candidate.name, tuple(films))


def _begun(film: Film, shares: dict[str, float], thickness_um: float) -> Film:
    if film.paint is None:
        return replace(film, layer=replace(film.layer, thickness_um=thickness_um))
    return paint_film(replace(film.paint, pigments=shares), float(np.clip(thickness_um, *PAINT_UM)))


def _rest(names: Sequence[str], name: str) -> tuple[str, ...]:
    return tuple(other for other in names if other != name)


def _stack(top: Sequence[str], below: Sequence[str], base: Film) -> Candidate:
    films = [paint_film(Paint(dict.fromkeys(top, 1.0)), TOP_UM if below else BELOW_UM)]
    if below:
        films.append(paint_film(Paint(dict.fromkeys(below, 1.0)), BELOW_UM))
    return Candidate(laid_name(films), (*films, base))


def _tops(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return what may lie above, the plainest first: one pigment, all but one, then the rest."""
    count = len(names)
    sizes = sorted(range(1, count), key=lambda size: (min(size, count - size), size))
    return [top for size in sizes for top in combinations(names, size)]


def _members(groups: Sequence[str], allowed: set[str], found: Results, probability: dict[str, float]) -> list[str]:
    """Return a member of each group; each once.

    The likeliest one: but one that counts as several groups only where it is likely itself, and for one of them, the
    one that is least likely otherwise. The others get a pigment of their own, so that orders can be told apart.
    """
    options = {group: _options(group, allowed, found, probability) for group in groups}
    pure = {group: own[-1] for group, own in options.items() if own}
    chosen: dict[str, str] = {}
    for group in sorted(pure, key=lambda group: probability.get(pure[group], 0.0)):
        likeliest, plain = options[group]
        chosen[group] = plain if likeliest in chosen.values() else likeliest
    return list(dict.fromkeys(chosen[group] for group in groups if group in chosen))


def _options(group: str, allowed: set[str], found: Results, probability: dict[str, float]) -> tuple[str, ...]:
    """Return the likeliest member of a group and the likeliest of this group alone; empty where there is none."""

    def score(name: str) -> float:
        return probability.get(name, 0.0)

    known = [name for name in found.pigments if name in library() and group in library()[name].groups]
    # a network of groups alone leaves the choice to the library's order, which puts the commonest first
    known = known or [pigment.name for pigment in library().members(group)]
    own = [name for name in known if set(library()[name].groups) <= allowed]
    pure = [name for name in own if len(library()[name].groups) == 1]
    if not own:
        return ()
    likeliest, plain = max(own, key=score), max(pure or own, key=score)
    return (likeliest if score(likeliest) >= PRESENT else plain, plain)


def _ground_groups(ground: str) -> set[str]:
    return {group for name in ground_layer(ground, 1.0).pigments for group in library()[name].groups}


def _may_be_primed(names: Sequence[str]) -> bool:
    """Lead below shows apart from what is above only where that has none."""
    return not any("lead_pigment" in library()[name].groups for name in names)


def _labels(groups: Sequence[str]) -> str:
    return ", ".join(library().group(name).label for name in groups)
