"""Members of a group: their prior, and methods that distinguish them."""

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
from underpaint.pigments.limits.question import MIN_ATOMIC_NUMBER, shown_elements
from underpaint.simulate import outputs_for, visibility

OUT_OF_USE_WEIGHT = 0.01
"""Prior weight of a pigment outside its period: dates are approximate, and paintings are restored."""
DEFAULT_YEARS = (-10_000, 3_000)
"""First and last year of palettes that state none."""
MIN_PROBABILITY = 1e-7
"""Limits of probabilities, from 0 and 1, of which log-odds are computed."""
PIXELS_AT_ONCE = 65_536
MAX_PIGMENT_TO_BINDER = 9.0
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
    """Facts about a painting besides its spectra, from which the prior of the members of a group is computed.

    Parameters
    ----------
    years : pair of int or None
        Earliest and latest year of painting (negative: BC).
    palette : mapping of str to float
        Weight of each pigment, 0 or more; empty for equal weights. Pigments that are not in the palette have weight 0.
    least_share : mapping of str to float
        Minimum mass fraction of an element in the paint, e.g. from a cross-section. Members whose paint cannot reach it
        with the least possible oil are excluded.

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
        object.__setattr__(self, "palette", {library()[name].name: value for name, value in self.palette.items()})


def circumstances_of(palette: Palette | Sequence[str]) -> Circumstances:
    """Return the facts in a palette: its years, and equal weights for its pigments.

    Names that are not in the library are omitted, since their period is unknown.
    """
    if not isinstance(palette, Palette):
        return Circumstances(palette=dict.fromkeys((name for name in palette if name in library()), 1.0))
    years = None
    if palette.first is not None or palette.last is not None:
        years = tuple(
            year if year is not None else default_year
            for year, default_year in zip((palette.first, palette.last), DEFAULT_YEARS, strict=True)
        )
    return Circumstances(None if years is None else (years[0], years[1]), dict.fromkeys(palette.pigments, 1.0))


def within_group_prior(members: Sequence[str], circumstances: Circumstances | None = None) -> dict[str, float]:
    """Return the prior of the members of a group, which sums to one and is independent of the spectrum.

    The product of three weights: use in those years (1, else ``OUT_OF_USE_WEIGHT``); the palette; and whether the paint
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
        Results of a network. Groups are unchanged, and so are members without a group in the results or unknown to the
        library.
    circumstances : Circumstances, optional
        Facts about the painting; equal weights by default.
    overwrite : bool
        Modify the arrays of ``results``, which halves the memory use.

    Returns
    -------
    Results
        ``settings_of("pigments")["member_prior"]`` has the facts and each group's prior. Without groups or members, the
        results are unchanged.

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
    painting, members = Circumstances() if circumstances is None else circumstances, _known_members(results)
    if not members:
        return results
    weight = {name: _weight(library()[name], painting) for name in members}
    settings = {**results.settings_of("pigments"), "member_prior": _prior_record(members, painting)}
    stacks = {name: results.stacks[name] for name in ("probability", "log_odds") if name in results.stacks}
    if not overwrite:
        stacks = {name: Stack(stack.keys, stack.values.copy()) for name, stack in stacks.items()}
    for place in results.places:
        members_at_place = {
            name: groups
            for name, groups in members.items()
            if all(results.holds(material, place) for material in (name, *groups))
        }
        _share_at_place(place, members_at_place, weight, stacks)
    return replace(
        results,
        stacks={**results.stacks, **stacks},
        process_settings={**results.process_settings, "pigments": settings},
    )


def _share_at_place(
    place: Place, members: Mapping[str, tuple[str, ...]], weight: Mapping[str, float], stacks: Mapping[str, Stack]
) -> None:
    """Put the members' probabilities, and log-odds, at a place into their arrays."""
    probability = stacks["probability"].values
    column = {name: index for index, (name, key_place) in enumerate(stacks["probability"].keys) if key_place == place}
    at_once = max(PIXELS_AT_ONCE // max(probability.shape[1], 1), 1)
    for first in range(0, len(probability), at_once):
        rows = slice(first, first + at_once)
        groups = {
            name: probability[rows, :, column[name]] for member_groups in members.values() for name in member_groups
        }
        for name, member_groups in _member_probabilities(members, weight, groups).items():
            probability[rows, :, column[name]] = member_groups
            if "log_odds" in stacks:
                clipped = np.clip(member_groups, MIN_PROBABILITY, 1.0 - MIN_PROBABILITY)
                stacks["log_odds"].values[rows, :, column[name]] = np.log(clipped / (1.0 - clipped))


def member_shares(results: Results, group: str) -> dict[str, float]:
    """Return each member's share of a group where the group is present: the mean of ``w q / sum(w q)``.

    Parameters
    ----------
    results : Results
        Results of :func:`share_members`; w is their prior, q is explained there.
    group : str

    Returns
    -------
    dict of str to float
        Shares of all members in the prior, weighted by the group's probability; they sum to one. The prior if the group
        is not present in any pixel; empty without a prior.
    """
    weight = results.settings_of("pigments").get("member_prior", {}).get("groups", {}).get(group, {})
    is_present = results[group] > PRESENT_PROBABILITY
    if not weight or not is_present.any():
        return dict(weight)
    materials = results.materials
    groups_of_member = {
        name: materials[name].groups if name in materials else library()[name].groups for name in weight
    }
    members = {
        name: tuple(name_of_group for name_of_group in groups if name_of_group in materials)
        for name, groups in groups_of_member.items()
    }
    groups = {
        other_group: results[other_group][is_present]
        for other_group in {
            group,
            *(name_of_group for other_group in members.values() for name_of_group in other_group),
        }
    }
    total = sum(
        (_weighted_probability(members[name], weight[name], group, groups) for name in weight), start=np.float32(1e-30)
    )
    present = groups[group].astype(np.float64)
    return {
        name: float(
            (present * _weighted_probability(members[name], weight[name], group, groups) / total).sum() / present.sum()
        )
        for name in weight
    }


def _weighted_probability(
    of_groups: tuple[str, ...], weight: float, group: str, groups: Mapping[str, NDArray[np.float32]]
) -> NDArray[np.float32]:
    """Return ``w q``: a member's weight times the probabilities of the groups beside this one that it counts as."""
    other_probabilities = [groups[other] for other in of_groups if other != group]
    return np.float32(weight) * math.prod(other_probabilities, start=np.ones_like(groups[group]))


def _member_probabilities(
    members: Mapping[str, tuple[str, ...]], weight: Mapping[str, float], groups: Mapping[str, NDArray[np.float32]]
) -> dict[str, NDArray[np.float32]]:
    """Return the probability of each member from those of the groups, arrays of one shape."""
    total = {group: np.full_like(member_groups, 1e-30) for group, member_groups in groups.items()}
    for name, member_groups in members.items():
        for group in member_groups:
            total[group] += _weighted_probability(member_groups, weight[name], group, groups)

    def probability_by_group(name: str, member_groups: tuple[str, ...]) -> list[NDArray[np.float32]]:
        return [
            groups[group] * _weighted_probability(member_groups, weight[name], group, groups) / total[group]
            for group in member_groups
        ]

    return {name: np.min(probability_by_group(name, member_groups), axis=0) for name, member_groups in members.items()}


def _known_members(results: Results) -> dict[str, tuple[str, ...]]:
    """Return the members that the library knows, with their groups, all of which were answered."""
    groups_of = {name: results.materials[name].groups for name in results.pigments}
    return {
        name: groups
        for name, groups in groups_of.items()
        if groups and all(map(results.holds, groups)) and name in library()
    }


def _prior_record(members: Mapping[str, tuple[str, ...]], painting: Circumstances) -> dict[str, Any]:
    """Return what was known and the prior of every group, JSON-serialisable."""
    of_group: dict[str, list[str]] = {}
    for name, groups in members.items():
        for group in groups:
            of_group.setdefault(group, []).append(name)
    return {
        "years": None if painting.years is None else list(painting.years),
        "palette": sorted(painting.palette),
        "groups": {group: within_group_prior(group_members, painting) for group, group_members in of_group.items()},
    }


def group_posterior(
    deviances: Mapping[str, float],
    groups: Sequence[Sequence[str]],
    group_prior: Sequence[float] | None = None,
    circumstances: Circumstances | None = None,
) -> tuple[list[float], dict[str, float]]:
    """Return the probability of each group and member, if one of the pigments made a spectrum.

    A group's likelihood is that of its best member; differences between members are within the errors of the model
    and of the noise and do not enter.

    Parameters
    ----------
    deviances : mapping of str to float
        Deviance of the best fit by each pigment.
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
    min_deviance = min(best)
    evidence = [weight * math.exp(-0.5 * (value - min_deviance)) for weight, value in zip(weights, best, strict=True)]
    probabilities = [value / sum(evidence) for value in evidence]
    member_probabilities: dict[str, float] = {}
    for probability, members in zip(probabilities, groups, strict=True):
        member_probabilities |= share_group(probability, within_group_prior(members, circumstances))
    return probabilities, member_probabilities


@dataclass(frozen=True)
class Difference:
    """Difference of two pigments by a method.

    Parameters
    ----------
    method : str
        Name of the method.
    first, second : str
        What the method detects of each pigment; "nothing" if it detects no element.
    source : str
        Source of the values.
    """

    method: str
    first: str
    second: str
    source: str


def distinguishing_methods(first_name: str, second_name: str, *, by_lines: bool = False) -> list[Difference]:
    """Return the methods that distinguish two pigments if X-ray fluorescence in air cannot.

    Parameters
    ----------
    first_name, second_name : str
    by_lines : bool
        Begin with the elements that such a spectrum shows of the one alone, if there are any: where two pigments are
        named side by side, and no spectrum has yet been found to fit both.

    Notes
    -----
    Elements (soft lines, below 2.8 keV, need helium or vacuum) come from the formulas; the rest from a table of its
    own. A method of which that table does not say what it sees of both is left out.
    """
    first_pigment, second_pigment = library()[first_name], library()[second_name]
    rows = [_methods_table().get(pigment.name, {}) for pigment in (first_pigment, second_pigment)]
    differences = (
        _difference_by_elements(_LINES, shown_elements(first_pigment.name), shown_elements(second_pigment.name))
        if by_lines
        else []
    )
    for key, method in METHODS.items():
        detected = [row.get(key, "") for row in rows]
        if detected[0] != detected[1] and all(detected):
            sources = "; ".join(dict.fromkeys(row.get("source", "") for row in rows if row))
            differences.append(Difference(method, detected[0], detected[1], sources))
    return differences + _difference_by_elements(
        "XRF below 2.8 keV", _soft_elements(first_pigment), _soft_elements(second_pigment)
    )


def distinguishing_methods_text(first_name: str, second_name: str, *, by_lines: bool = False) -> str:
    """Return a sentence: "lead white and red lead would be told apart by colour (white / orange-red), ..."."""
    labels = f"{library()[first_name].label} and {library()[second_name].label}"
    differences = distinguishing_methods(first_name, second_name, by_lines=by_lines)
    if not differences:
        return f"{labels}: no method is known here that would tell them apart."
    # Their lines were looked at already: they do not tell them apart where another pigment holds the same elements.
    method_names = {_LINES: f"{_LINES}, unless other paint there holds the same elements"}
    method_texts = "; ".join(
        f"{method_names.get(difference.method, difference.method)} ({difference.first} / {difference.second})"
        for difference in differences
    )
    return f"{labels} would be told apart by {method_texts}."


def _difference_by_elements(
    method: str, first_elements: frozenset[str], second_elements: frozenset[str]
) -> list[Difference]:
    """Return a list of one difference between two sets of elements; empty if they are equal."""
    element_texts = [
        ", ".join(sorted(elements, key=atomic_number)) or "nothing" for elements in (first_elements, second_elements)
    ]
    return (
        []
        if first_elements == second_elements
        else [Difference(method, element_texts[0], element_texts[1], "the formulas of the library")]
    )


def most_pigment_to_binder(pigment: Pigment) -> float:
    """Return the maximum mass ratio of pigment to oil in a brushable paint, from the oil absorption."""
    if pigment.oil_absorption is None:
        return MAX_PIGMENT_TO_BINDER
    return min(100.0 / (OIL_PER_ABSORPTION * pigment.oil_absorption), MAX_PIGMENT_TO_BINDER)


def _weight(pigment: Pigment, known: Circumstances) -> float:
    weight = known.palette.get(pigment.name, 0.0) if known.palette else 1.0
    ratio = most_pigment_to_binder(pigment)
    solid = ratio / (1.0 + ratio)
    if any(solid * pigment.mass_fractions.get(name, 0.0) < least for name, least in known.least_share.items()):
        return 0.0
    return weight * (1.0 if known.years is None or _in_use(pigment, known.years) else OUT_OF_USE_WEIGHT)


def _in_use(pigment: Pigment, years: tuple[int, int]) -> bool:
    first, last = pigment.period.first, pigment.period.last
    return (first is None or first <= years[1]) and (last is None or last >= years[0])


def _soft_elements(pigment: Pigment) -> frozenset[str]:
    """Return the elements with K lines below 2.8 keV that still pass a detector window."""
    return frozenset(
        name
        for name, share in pigment.mass_fractions.items()
        if share > 0.01 and ALUMINIUM <= atomic_number(name) < MIN_ATOMIC_NUMBER - 1
    )


def methods_for_layers() -> tuple[Mapping[str, str], ...]:
    """Return the methods that settle layers: "method", what it "settles", what it "needs", and its "source"."""
    return tuple(_other_methods()["layers"])


def _methods_table() -> Mapping[str, Mapping[str, str]]:
    return {row["name"]: row for row in _other_methods()["pigment"]}


@lru_cache(maxsize=1)
def _other_methods() -> Mapping[str, Any]:
    text = (files("underpaint.pigments.limits") / "data" / "other_methods.toml").read_text("utf-8")
    return tomllib.loads(text)


def counts_to_see(stratigraphies: Sequence[Stratigraphy], pigment: str, instrument: Instrument) -> list[float]:
    """Return the total counts at which a pigment's key lines exceed their detection limit.

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
