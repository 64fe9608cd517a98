"""Inside a group: the prior that its members share, and what else would tell them apart."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import PRESENT_PROBABILITY, Place, Results, Stack
from underpaint.errors import SampleError
from underpaint.physics.atomic import atomic_number
from underpaint.physics.forward import axis_of, emit, render
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Palette, Pigment, Stratigraphy, library
from underpaint.pigments.limits.question import LIGHTEST_SHOWN, shown_elements
from underpaint.simulate import outputs_for, visibility

OUT_OF_USE = 0.01
"""Weight of a pigment outside its dates: dates are approximate, and paintings are restored."""
OPEN_YEARS = (-10_000, 3_000)
"""What stands for a palette's first or last year where it gives none."""
LEAST_PROBABILITY = 1e-7
"""Nearest to 0 and 1 that the log-odds of a shared probability are taken."""
PIXELS_AT_ONCE = 65_536
MOST_PIGMENT_TO_BINDER = 9.0
OIL_PER_ABSORPTION = 1.45
"""Mass of oil in a brushable paint over the oil absorption (18th-19th century, hand-ground)."""
ALUMINIUM = 13
_LINES = "XRF"
METHODS = {
    "colour": "colour",
    "xrd": "X-ray diffraction",
    "raman": "Raman (1/cm)",
    "ftir": "infrared (1/cm)",
    "uv": "luminescence",
}


@dataclass(frozen=True)
class Circumstances:
    """What is known of a painting beside its spectrum; the prior inside a group rests on nothing else.

    Parameters
    ----------
    years : pair of int or None
        Earliest and latest year of painting (negative: BC).
    palette : mapping of str to float
        Weight by pigment, from 0 (not used here) on; empty for even weights. Pigments that are not in it have none.
    least_share : mapping of str to float
        Mass fraction of an element that the paint is known to hold (of a cross-section, say): members whose paint
        cannot reach it, with as little oil as it needs, are left out.

    Raises
    ------
    SampleError
        The years are reversed, or a weight or a share lies outside its range.
    """

    years: tuple[int, int] | None = None
    palette: Mapping[str, float] = field(default_factory=dict)
    least_share: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.years is not None and self.years[0] > self.years[1]:
            raise SampleError(f"Cannot use the years {self.years[0]} to {self.years[1]}: give the earlier one first.")
        if any(not (math.isfinite(weight) and weight >= 0) for weight in self.palette.values()):
            raise SampleError(f"Cannot weigh pigments by {dict(self.palette)}: weights are finite and not negative.")
        if any(not 0 <= share <= 1 for share in self.least_share.values()):
            raise SampleError(f"Cannot ask for shares of {dict(self.least_share)}: mass fractions lie between 0 and 1.")
        object.__setattr__(self, "palette", {library()[name].name: own for name, own in self.palette.items()})


def circumstances_of(palette: Palette | Sequence[str]) -> Circumstances:
    """Return what a palette says of a painting: its years, and even weights for its pigments.

    Names that the library does not know are left out: nothing is known of when they were used.
    """
    if not isinstance(palette, Palette):
        return Circumstances(palette=dict.fromkeys((name for name in palette if name in library()), 1.0))
    years = None
    if palette.first is not None or palette.last is not None:
        years = tuple(
            own if own is not None else end for own, end in zip((palette.first, palette.last), OPEN_YEARS, strict=True)
        )
    return Circumstances(None if years is None else (years[0], years[1]), dict.fromkeys(palette.pigments, 1.0))


def within_group_prior(members: Sequence[str], circumstances: Circumstances | None = None) -> dict[str, float]:
    """Return the prior of the members of a group; it sums to one and knows no spectrum.

    The product of three weights: in use in those years (1, else ``OUT_OF_USE``); the palette's; and whether the paint
    can hold what it is known to hold (1 or 0). Even where nothing is known.

    Parameters
    ----------
    members : sequence of str
        Names from the library.
    circumstances : Circumstances, optional

    Raises
    ------
    SampleError
        There is no member, or the circumstances leave none.

    Examples
    --------
    >>> prior = within_group_prior(["titanium_white", "zinc_white"], Circumstances(years=(1850, 1860)))
    >>> round(prior["zinc_white"], 2)
    0.99
    """
    known = Circumstances() if circumstances is None else circumstances
    names = [library()[name].name for name in members]
    weights = {name: _weight(library()[name], known) for name in names}
    total = sum(weights.values())
    if not total > 0:
        raise SampleError(
            f"Cannot share a probability between {', '.join(names) or 'no pigments'}: the circumstances (palette, "
            "least share) leave none of them. Widen the palette, or lower the share."
        )
    return {name: weight / total for name, weight in weights.items()}


def share_group(probability: float, prior: Mapping[str, float]) -> dict[str, float]:
    """Return the probability of each member of a group that is present with ``probability``.

    Raises
    ------
    SampleError
        ``probability`` is none.
    """
    if not 0.0 <= probability <= 1.0:
        raise SampleError(f"Cannot share a probability of {probability}; it lies between 0 and 1.")
    return {name: probability * weight for name, weight in prior.items()}


def share_members(results: Results, circumstances: Circumstances | None = None, *, overwrite: bool = False) -> Results:
    """Return results in which the members of each group share its probability by the prior, at every place.

    Parameters
    ----------
    results : Results
        What a network says. Its groups stay as they are; members without a group of their own among them, and those
        that the library does not know, too.
    circumstances : Circumstances, optional
        Even weights where nothing is known.
    overwrite : bool
        Put the answer into the arrays of ``results``, which saves as much memory again.

    Returns
    -------
    Results
        ``settings_of("pigments")["member_prior"]`` says what was known, and each group's prior; of a model without
        groups or members the results as they are.

    Raises
    ------
    SampleError
        The circumstances leave no member of a group.

    Notes
    -----
    Member m of group g has ``P(g) w q / sum(w q)``, the sum over the members of g: w is the prior's weight, and q the
    product of the probabilities of the other groups that a member counts as (chrome yellow is lead *and* chromium);
    of several groups the least holds. So the spectrum enters by the probabilities of the groups alone, and members of
    the same groups keep the ratio that the prior gives them, whatever the network says of them.
    """
    known, members = Circumstances() if circumstances is None else circumstances, _shareable(results)
    if not members:
        return results
    weight = {name: _weight(library()[name], known) for name in members}
    settings = {**results.settings_of("pigments"), "member_prior": _stated(members, known)}
    stacks = {name: results.stacks[name] for name in ("probability", "log_odds") if name in results.stacks}
    if not overwrite:
        stacks = {name: Stack(stack.keys, stack.values.copy()) for name, stack in stacks.items()}
    for place in results.places:
        held = {
            name: groups
            for name, groups in members.items()
            if all(results.holds(each, place) for each in (name, *groups))
        }
        _share_at(place, held, weight, stacks)
    return replace(
        results,
        stacks={**results.stacks, **stacks},
        process_settings={**results.process_settings, "pigments": settings},
    )


def _share_at(
    place: Place, members: Mapping[str, tuple[str, ...]], weight: Mapping[str, float], stacks: Mapping[str, Stack]
) -> None:
    """Put the members' probabilities, and log-odds, at a place into their arrays."""
    probability = stacks["probability"].values
    column = {name: index for index, (name, where) in enumerate(stacks["probability"].keys) if where == place}
    at_once = max(PIXELS_AT_ONCE // max(probability.shape[1], 1), 1)
    for first in range(0, len(probability), at_once):
        rows = slice(first, first + at_once)
        groups = {name: probability[rows, :, column[name]] for own in members.values() for name in own}
        for name, own in _shared(members, weight, groups).items():
            probability[rows, :, column[name]] = own
            if "log_odds" in stacks:
                certain = np.clip(own, LEAST_PROBABILITY, 1.0 - LEAST_PROBABILITY)
                stacks["log_odds"].values[rows, :, column[name]] = np.log(certain / (1.0 - certain))


def member_shares(results: Results, group: str) -> dict[str, float]:
    """Return what each member has of a group where the group is present: the mean of ``w q / sum(w q)``.

    Parameters
    ----------
    results : Results
        As :func:`share_members` returns them; w is the prior that they state, q as explained there.
    group : str

    Returns
    -------
    dict of str to float
        Of all members that the prior speaks of; they sum to one. Weighed by the group's own probability; the prior
        itself where the group is nowhere present; empty where no prior was stated.
    """
    weight = results.settings_of("pigments").get("member_prior", {}).get("groups", {}).get(group, {})
    inside = results[group] > PRESENT_PROBABILITY
    if not weight or not inside.any():
        return dict(weight)
    known = results.materials
    counted = {name: known[name].groups if name in known else library()[name].groups for name in weight}
    members = {name: tuple(each for each in groups if each in known) for name, groups in counted.items()}
    groups = {own: results[own][inside] for own in {group, *(each for own in members.values() for each in own)}}
    total = sum((_weighed(members[name], weight[name], group, groups) for name in weight), start=np.float32(1e-30))
    present = groups[group].astype(np.float64)
    return {
        name: float((present * _weighed(members[name], weight[name], group, groups) / total).sum() / present.sum())
        for name in weight
    }


def _weighed(
    of_groups: tuple[str, ...], weight: float, group: str, groups: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return ``w q``: a member's weight times the probabilities of the groups beside this one that it counts as."""
    others = [groups[own] for own in of_groups if own != group]
    return np.float32(weight) * math.prod(others, start=np.ones_like(groups[group]))


def _shared(
    members: Mapping[str, tuple[str, ...]], weight: Mapping[str, float], groups: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Return the probability of each member from those of the groups, arrays of one shape."""
    total = {group: np.full_like(own, 1e-30) for group, own in groups.items()}
    for name, own in members.items():
        for group in own:
            total[group] += _weighed(own, weight[name], group, groups)

    def held(name: str, own: tuple[str, ...]) -> list[NDArray[np.float32]]:
        return [groups[group] * _weighed(own, weight[name], group, groups) / total[group] for group in own]

    return {name: np.min(held(name, own), axis=0) for name, own in members.items()}


def _shareable(results: Results) -> dict[str, tuple[str, ...]]:
    """Return the members that the library knows, with their groups, all of which were answered."""
    groups_of = {name: results.materials[name].groups for name in results.pigments}
    return {
        name: groups
        for name, groups in groups_of.items()
        if groups and all(map(results.holds, groups)) and name in library()
    }


def _stated(members: Mapping[str, tuple[str, ...]], known: Circumstances) -> dict[str, Any]:
    """Return what was known and the prior of every group, JSON-serialisable."""
    of_group: dict[str, list[str]] = {}
    for name, groups in members.items():
        for group in groups:
            of_group.setdefault(group, []).append(name)
    return {
        "years": None if known.years is None else list(known.years),
        "palette": sorted(known.palette),
        "groups": {group: within_group_prior(own, known) for group, own in of_group.items()},
    }


def group_posterior(
    deviances: Mapping[str, float],
    groups: Sequence[Sequence[str]],
    group_prior: Sequence[float] | None = None,
    circumstances: Circumstances | None = None,
) -> tuple[list[float], dict[str, float]]:
    """Return P(group), and what of it the prior gives to each member, when one of the pigments made a spectrum.

    A group's likelihood is that of its best member; differences between members are within the errors of the model
    and of the noise and do not enter.

    Parameters
    ----------
    deviances : mapping of str to float
        Of the best fit of each pigment to the spectrum.
    groups : sequence of sequence of str
        Members, as ``Separation.groups`` gives them.
    group_prior : sequence of float, optional
        Even by default.
    circumstances : Circumstances, optional
        For ``within_group_prior``.

    Raises
    ------
    SampleError
        There is no group, the prior has another length, or a group has no member.
    """
    weights = [1.0] * len(groups) if group_prior is None else list(group_prior)
    if not groups or len(weights) != len(groups) or not all(groups) or not sum(weights) > 0:
        raise SampleError(
            f"Cannot weigh {len(groups)} groups with {len(weights)} prior weights: one each, not all zero."
        )
    best = [min(deviances[name] for name in members) for members in groups]
    least = min(best)
    evidence = [weight * math.exp(-0.5 * (own - least)) for weight, own in zip(weights, best, strict=True)]
    found = [own / sum(evidence) for own in evidence]
    shared: dict[str, float] = {}
    for probability, members in zip(found, groups, strict=True):
        shared |= share_group(probability, within_group_prior(members, circumstances))
    return found, shared


@dataclass(frozen=True)
class Difference:
    """What a method would see of two pigments.

    Parameters
    ----------
    method : str
        For people.
    one, other : str
        What it sees of either; of elements "nothing" where it shows none.
    source : str
    """

    method: str
    one: str
    other: str
    source: str


def told_apart_by(one: str, other: str, *, by_lines: bool = False) -> list[Difference]:
    """Return the methods that would tell two pigments apart where X-ray fluorescence through air cannot.

    Parameters
    ----------
    one, other : str
    by_lines : bool
        Begin with the elements that such a spectrum shows of the one alone, if there are any: where two pigments are
        named side by side, and no spectrum has yet been found to fit both.

    Notes
    -----
    Elements (soft lines, below 2.8 keV, need helium or vacuum) come from the formulas; the rest from a table of its
    own. A method of which that table does not say what it sees of both is left out.
    """
    first, second = library()[one], library()[other]
    rows = [_table().get(pigment.name, {}) for pigment in (first, second)]
    found = _by_elements(_LINES, shown_elements(first.name), shown_elements(second.name)) if by_lines else []
    for key, method in METHODS.items():
        seen = [row.get(key, "") for row in rows]
        if seen[0] != seen[1] and all(seen):
            sources = "; ".join(dict.fromkeys(row.get("source", "") for row in rows if row))
            found.append(Difference(method, seen[0], seen[1], sources))
    return found + _by_elements("XRF below 2.8 keV", _soft(first), _soft(second))


def told_apart_text(one: str, other: str, *, by_lines: bool = False) -> str:
    """Return a sentence: "lead white and red lead would be told apart by colour (white / orange-red), ..."."""
    labels = f"{library()[one].label} and {library()[other].label}"
    found = told_apart_by(one, other, by_lines=by_lines)
    if not found:
        return f"{labels}: no method is known here that would tell them apart."
    # Their lines were looked at already: they do not tell them apart where another pigment holds the same elements.
    unless = {_LINES: f"{_LINES}, unless other paint there holds the same elements"}
    ways = "; ".join(f"{unless.get(own.method, own.method)} ({own.one} / {own.other})" for own in found)
    return f"{labels} would be told apart by {ways}."


def _by_elements(method: str, one: frozenset[str], other: frozenset[str]) -> list[Difference]:
    """Return the one difference between two sets of elements, or none."""
    seen = [", ".join(sorted(own, key=atomic_number)) or "nothing" for own in (one, other)]
    return [] if one == other else [Difference(method, seen[0], seen[1], "the formulas of the library")]


def most_pigment_to_binder(pigment: Pigment) -> float:
    """Return the most pigment per oil, by mass, that a brushable paint can hold, from its oil absorption."""
    if pigment.oil_absorption is None:
        return MOST_PIGMENT_TO_BINDER
    return min(100.0 / (OIL_PER_ABSORPTION * pigment.oil_absorption), MOST_PIGMENT_TO_BINDER)


def _weight(pigment: Pigment, known: Circumstances) -> float:
    weight = known.palette.get(pigment.name, 0.0) if known.palette else 1.0
    ratio = most_pigment_to_binder(pigment)
    solid = ratio / (1.0 + ratio)
    if any(solid * pigment.mass_fractions.get(name, 0.0) < least for name, least in known.least_share.items()):
        return 0.0
    return weight * (1.0 if known.years is None or _in_use(pigment, known.years) else OUT_OF_USE)


def _in_use(pigment: Pigment, years: tuple[int, int]) -> bool:
    first, last = pigment.period.first, pigment.period.last
    return (first is None or first <= years[1]) and (last is None or last >= years[0])


def _soft(pigment: Pigment) -> frozenset[str]:
    """Return elements whose K lines lie below 2.8 keV and above what a window lets through."""
    return frozenset(
        name
        for name, share in pigment.mass_fractions.items()
        if share > 0.01 and ALUMINIUM <= atomic_number(name) < LIGHTEST_SHOWN - 1
    )


def methods_for_layers() -> tuple[Mapping[str, str], ...]:
    """Return the methods that settle layers: "method", what it "settles", what it "needs", and its "source"."""
    return tuple(_other_methods()["layers"])


def _table() -> Mapping[str, Mapping[str, str]]:
    return {row["name"]: row for row in _other_methods()["pigment"]}


@lru_cache(maxsize=1)
def _other_methods() -> Mapping[str, Any]:
    text = (files("underpaint.pigments.limits") / "data" / "other_methods.toml").read_text("utf-8")
    return tomllib.loads(text)


def counts_to_see(stratigraphies: Sequence[Stratigraphy], pigment: str, instrument: Instrument) -> list[float]:
    """Return the total counts at which a pigment's own lines rise over what lies under them.

    The rule: the counts of its key lines exceed ``3 sqrt(2 B)``, B the other counts within one FWHM of them
    (the detection limit of Currie 1968 with a known background, at three standard deviations).

    Parameters
    ----------
    stratigraphies : sequence of Stratigraphy
        Each should hold the pigment; infinity is returned where one does not.
    pigment : str
        Name, synonym or abbreviation from the library.

    Raises
    ------
    SampleError
        The pigment has no line that such an instrument sees.
    """
    name = library()[pigment].name
    outputs = outputs_for([name])
    if name not in outputs.names:
        raise SampleError(f"Cannot say when {name} shows: it has no element with a visible line; no XRF scan shows it.")
    detector = instrument.detector
    axis = axis_of(detector)
    emission = emit(stratigraphies, instrument)
    expected = np.asarray(render(emission, detector, axis))
    _, needed = visibility(stratigraphies, emission, expected, outputs, detector, axis)
    return [float(value) for value in needed[:, outputs.index(name)]]
