"""Which stratigraphies to try, from what the network sees in a spectrum."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import combinations

import numpy as np

from underpaint.explain.candidate import PAINT_UM, Candidate, Film, ground_film, label_of, paint_film, without
from underpaint.explain.fit import StratigraphyFit
from underpaint.maps import PigmentMaps
from underpaint.sample import Paint, ground_layer, library

PRESENT = 0.5
"""Groups of at least this probability are taken into the candidates."""
HIDDEN = 0.1
"""Groups of at least this probability are tried below the paint."""
MOST_CANDIDATES = 12
"""Fits of one run: those that are proposed, and the best one less each of its pigments."""
MOST_PIGMENTS = 4
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


def suspects(found: PigmentMaps, ground: str, *, present: float = PRESENT, hidden: float = HIDDEN) -> Suspects:
    """Return the pigments that a network's answer speaks for.

    Of every group that is present, its likeliest member whose other groups are present, too. Groups that the ground
    brings along are left to the ground.

    Parameters
    ----------
    found : PigmentMaps
        Of a single spectrum: (1, 1) pixels.
    ground : str
        Name of the ground that lies under all candidates.
    present, hidden : float
        Least probability of a group to be taken, or to be tried below the paint.
    """
    probability = {name: float(found[name][0, 0]) for name in found.names}
    groups = {name: probability[name] for name in found.select("group") if np.isfinite(probability[name])}
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
    best, there are at most ``MOST_CANDIDATES``.
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


def ways_to_share(count: int) -> int:
    """Return in how many ways so many pigments can be shared between two layers, each in one of them."""
    return max((1 << count) - 2, 0)


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


def _stack(top: Sequence[str], below: Sequence[str], base: Film) -> Candidate:
    films = [paint_film(Paint(dict.fromkeys(top, 1.0)), TOP_UM if below else BELOW_UM)]
    name = label_of(top)
    if below:
        films.append(paint_film(Paint(dict.fromkeys(below, 1.0)), BELOW_UM))
        name = f"{name} over {label_of(below)}"
    elif len(top) > 1:
        name = f"{name}, one layer"
    return Candidate(name, (*films, base))


def _tops(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Return what may lie above, the plainest first: one pigment, all but one, then the rest."""
    count = len(names)
    sizes = sorted(range(1, count), key=lambda size: (min(size, count - size), size))
    return [top for size in sizes for top in combinations(names, size)]


def _members(groups: Sequence[str], allowed: set[str], found: PigmentMaps, probability: dict[str, float]) -> list[str]:
    """Return the likeliest member of each group whose other groups are allowed, too; each once."""
    chosen: list[str] = []
    for group in groups:
        own = [
            name
            for name, kind, belongs in zip(found.names, found.kinds, found.groups, strict=True)
            if kind == "member" and group in belongs and set(belongs) <= allowed and name in library()
        ]
        # a network of groups alone leaves the choice to the library's order, which puts the commonest first
        own = own or [pigment.name for pigment in library().members(group) if set(pigment.groups) <= allowed]
        if own:
            chosen.append(max(own, key=lambda name: probability.get(name, 0.0)))
    return list(dict.fromkeys(chosen))


def _ground_groups(ground: str) -> set[str]:
    return {group for name in ground_layer(ground, 1.0).pigments for group in library()[name].groups}


def _may_be_primed(names: Sequence[str]) -> bool:
    """Lead below shows apart from what is above only where that has none."""
    return not any("lead_pigment" in library()[name].groups for name in names)


def _labels(groups: Sequence[str]) -> str:
    return ", ".join(library().group(name).label for name in groups)
