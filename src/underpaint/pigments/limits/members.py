"""Prior of the members of a group, and methods that distinguish members."""

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
from underpaint.pigments.limits.comparison import MIN_ATOMIC_NUMBER, shown_elements
from underpaint.simulate import outputs_for, visibility

OUT_OF_USE_WEIGHT = 0.01
"""Prior weight of a pigment outside its period. The weight is above 0, because dates are approximate and paintings are
restored."""
DEFAULT_YEARS = (-10_000, 3_000)
"""First and last year that are assumed for a palette without years."""
MIN_PROBABILITY = 1e-7
"""Minimum distance of probabilities from 0 and 1 in the calculation of log-odds."""
PIXELS_PER_BLOCK = 65_536
MAX_PIGMENT_TO_BINDER = 9.0
OIL_TO_ABSORPTION_RATIO = 1.45
"""Ratio of the oil in a brushable, hand-ground paint (18th-19th century) to the pigment's oil absorption, by mass."""
ALUMINIUM_ATOMIC_NUMBER = 13
_LINES_METHOD = "XRF"
METHODS = {
    "colour": "colour",
    "xrd": "X-ray diffraction",
    "raman": "Raman (1/cm)",
    "ftir": "infrared (1/cm)",
    "uv": "luminescence",
}


@dataclass(frozen=True)
class Circumstances:
    """Dates, palette and composition of a painting, which determine the prior of the members of a group.

    Parameters
    ----------
    years : pair of int or None
        Earliest and latest year of painting (negative: BC).
    palette : mapping of str to float
        Weight of each pigment, 0 or more. An empty mapping means equal weights. Pigments that are not in the palette
        have weight 0.
    min_share : mapping of str to float
        Minimum mass fraction of an element in the paint, e.g. from a cross-section. Members whose paint cannot reach
        this fraction even with the minimum amount of oil are excluded.

    Raises
    ------
    SampleError
        The first year is after the last, or a weight or share is outside its range.
    """

    years: tuple[int, int] | None = None
    palette: Mapping[str, float] = field(default_factory=dict)
    min_share: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.years is not None and self.years[0] > self.years[1]:
            raise SampleError(f"Cannot use the years {self.years[0]} to {self.years[1]}: give the earlier one first.")
        if any(not (math.isfinite(prior_weight) and prior_weight >= 0) for prior_weight in self.palette.values()):
            raise SampleError(
                f"Cannot weight pigments by {dict(self.palette)}: weights must be finite and not negative."
            )
        if any(not 0 <= mass_fraction <= 1 for mass_fraction in self.min_share.values()):
            raise SampleError(f"Cannot require shares of {dict(self.min_share)}: mass fractions lie between 0 and 1.")
        object.__setattr__(
            self, "palette", {library()[name].name: palette_weight for name, palette_weight in self.palette.items()}
        )


def circumstances_of(palette: Palette | Sequence[str]) -> Circumstances:
    """Return circumstances with the years of a palette and equal weights for its pigments.

    Names that are not in the library are omitted, because their period is unknown.
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
    """Return the prior probability of each member of a group. The prior does not depend on the spectrum.

    The prior is proportional to the product of three weights. The period weight is 1 for pigments in use in the given
    years and ``OUT_OF_USE_WEIGHT`` for others. The palette weight is the pigment's weight in the palette. The
    composition weight is 1 if a paint of the pigment can reach the minimum mass fractions, and 0 otherwise. Without
    circumstances, all members have equal weights.

    Parameters
    ----------
    members : sequence of str
        Names from the library.
    circumstances : Circumstances, optional

    Raises
    ------
    SampleError
        There is no member, or the circumstances exclude all members.

    Examples
    --------
    >>> prior = within_group_prior(["titanium_white", "zinc_white"], Circumstances(years=(1850, 1860)))
    >>> round(prior["zinc_white"], 2)
    0.99
    """
    used_circumstances = Circumstances() if circumstances is None else circumstances
    names = [library()[name].name for name in members]
    weights = {name: _prior_weight(library()[name], used_circumstances) for name in names}
    total_weight = sum(weights.values())
    if not total_weight > 0:
        raise SampleError(
            f"Cannot share a probability between {', '.join(names) or 'no pigments'}: the circumstances (palette, "
            "minimum share) exclude all of them. Extend the palette, or reduce the share."
        )
    return {name: prior_weight / total_weight for name, prior_weight in weights.items()}


def share_group(probability: float, prior: Mapping[str, float]) -> dict[str, float]:
    """Return the probability of each member, given the probability of its group and the prior of the members.

    Raises
    ------
    SampleError
        ``probability`` is not between 0 and 1.
    """
    if not 0.0 <= probability <= 1.0:
        raise SampleError(f"Cannot share a probability of {probability}; the value must be between 0 and 1.")
    return {name: probability * prior_weight for name, prior_weight in prior.items()}


def share_members(results: Results, circumstances: Circumstances | None = None, *, overwrite: bool = False) -> Results:
    """Return results in which the probability of each group, at every place, is divided between the group's members.

    Parameters
    ----------
    results : Results
        Results of a network. Only members that are in the library and have a group in the results are changed.
    circumstances : Circumstances, optional
        Dates, palette and composition of the painting, by default with equal weights for all members.
    overwrite : bool
        Modify the arrays of ``results`` in place, which halves the memory use.

    Returns
    -------
    Results
        ``settings_of("pigments")["member_prior"]`` contains the circumstances and the prior of each group. Results
        without groups or without members are returned unchanged.

    Raises
    ------
    SampleError
        The circumstances exclude all members of a group.

    Notes
    -----
    The probability of a member of group g is ``P(g) w q / sum(w q)``. The sum includes all members of g. The weight w
    is the prior weight of the member. The factor q is the product of the probabilities of the member's other groups
    (chrome yellow belongs to lead *and* chromium). A member of several groups has the minimum of its probabilities in
    these groups. The spectrum affects the result only through the probabilities of the groups. Two members of the same
    groups therefore keep the ratio of their priors, whatever the network predicts for them.
    """
    used_circumstances, members = Circumstances() if circumstances is None else circumstances, _known_members(results)
    if not members:
        return results
    prior_weight = {name: _prior_weight(library()[name], used_circumstances) for name in members}
    settings = {**results.settings_of("pigments"), "member_prior": _prior_record(members, used_circumstances)}
    stacks = {name: results.stacks[name] for name in ("probability", "log_odds") if name in results.stacks}
    if not overwrite:
        stacks = {name: Stack(stack.keys, stack.values.copy()) for name, stack in stacks.items()}
    for place in results.places:
        members_at_place = {
            name: groups
            for name, groups in members.items()
            if all(results.holds(material, place) for material in (name, *groups))
        }
        _write_member_probabilities(place, members_at_place, prior_weight, stacks)
    return replace(
        results,
        stacks={**results.stacks, **stacks},
        process_settings={**results.process_settings, "pigments": settings},
    )


def _write_member_probabilities(
    place: Place, members: Mapping[str, tuple[str, ...]], prior_weight: Mapping[str, float], stacks: Mapping[str, Stack]
) -> None:
    """Write the probabilities and log-odds of the members at a place into the arrays."""
    probabilities = stacks["probability"].values
    column_by_name = {
        name: map_index
        for map_index, (name, column_place) in enumerate(stacks["probability"].keys)
        if column_place == place
    }
    rows_per_block = max(PIXELS_PER_BLOCK // max(probabilities.shape[1], 1), 1)
    for start_row in range(0, len(probabilities), rows_per_block):
        rows = slice(start_row, start_row + rows_per_block)
        group_probabilities = {
            name: probabilities[rows, :, column_by_name[name]]
            for member_groups in members.values()
            for name in member_groups
        }
        for name, member_probability in _member_probabilities(members, prior_weight, group_probabilities).items():
            probabilities[rows, :, column_by_name[name]] = member_probability
            if "log_odds" in stacks:
                clipped_probability = np.clip(member_probability, MIN_PROBABILITY, 1.0 - MIN_PROBABILITY)
                stacks["log_odds"].values[rows, :, column_by_name[name]] = np.log(
                    clipped_probability / (1.0 - clipped_probability)
                )


def member_shares(results: Results, group: str) -> dict[str, float]:
    """Return each member's mean share in the probability of a group, over the pixels in which the group is present.

    The share in a pixel is ``w q / sum(w q)``, with w and q as in :func:`share_members`.

    Parameters
    ----------
    results : Results
        Results of :func:`share_members`.
    group : str

    Returns
    -------
    dict of str to float
        Share of each member that has a prior. Pixels are weighted by the group's probability, and the shares sum to
        one. If no pixel contains the group, the shares are those of the prior. Without a prior, the mapping is empty.
    """
    prior_weight = results.settings_of("pigments").get("member_prior", {}).get("groups", {}).get(group, {})
    is_present = results[group] > PRESENT_PROBABILITY
    if not prior_weight or not is_present.any():
        return dict(prior_weight)
    materials = results.materials
    groups_of_member = {
        name: materials[name].groups if name in materials else library()[name].groups for name in prior_weight
    }
    groups_in_results = {
        name: tuple(group_name for group_name in group_probabilities if group_name in materials)
        for name, group_probabilities in groups_of_member.items()
    }
    group_probabilities = {
        other_group: results[other_group][is_present]
        for other_group in {
            group,
            *(group_name for other_group in groups_in_results.values() for group_name in other_group),
        }
    }
    total_weight = sum(
        (
            _weighted_probability(groups_in_results[name], prior_weight[name], group, group_probabilities)
            for name in prior_weight
        ),
        start=np.float32(1e-30),
    )
    group_probability = group_probabilities[group].astype(np.float64)
    return {
        name: float(
            (
                group_probability
                * _weighted_probability(groups_in_results[name], prior_weight[name], group, group_probabilities)
                / total_weight
            ).sum()
            / group_probability.sum()
        )
        for name in prior_weight
    }


def _weighted_probability(
    member_groups: tuple[str, ...],
    prior_weight: float,
    group: str,
    group_probabilities: Mapping[str, NDArray[np.float32]],
) -> NDArray[np.float32]:
    """Return ``w q``, the weight of a member times the probabilities of the member's other groups."""
    other_group_probabilities = [
        group_probabilities[other_group] for other_group in member_groups if other_group != group
    ]
    return np.float32(prior_weight) * math.prod(
        other_group_probabilities, start=np.ones_like(group_probabilities[group])
    )


def _member_probabilities(
    members: Mapping[str, tuple[str, ...]],
    prior_weight: Mapping[str, float],
    group_probabilities: Mapping[str, NDArray[np.float32]],
) -> dict[str, NDArray[np.float32]]:
    """Return the probability of each member, computed from the probabilities of the groups."""
    total_weight = {group: np.full_like(member_groups, 1e-30) for group, member_groups in group_probabilities.items()}
    for name, member_groups in members.items():
        for group in member_groups:
            total_weight[group] += _weighted_probability(member_groups, prior_weight[name], group, group_probabilities)

    def probability_by_group(name: str, member_groups: tuple[str, ...]) -> list[NDArray[np.float32]]:
        return [
            group_probabilities[group]
            * _weighted_probability(member_groups, prior_weight[name], group, group_probabilities)
            / total_weight[group]
            for group in member_groups
        ]

    return {name: np.min(probability_by_group(name, member_groups), axis=0) for name, member_groups in members.items()}


def _known_members(results: Results) -> dict[str, tuple[str, ...]]:
    """Return the groups of each member that is in the library and whose groups are all in the results."""
    groups_by_member = {name: results.materials[name].groups for name in results.pigments}
    return {
        name: groups
        for name, groups in groups_by_member.items()
        if groups and all(map(results.holds, groups)) and name in library()
    }


def _prior_record(members: Mapping[str, tuple[str, ...]], used_circumstances: Circumstances) -> dict[str, Any]:
    """Return the circumstances and the prior of every group as a JSON-serialisable mapping."""
    members_by_group: dict[str, list[str]] = {}
    for name, groups in members.items():
        for group in groups:
            members_by_group.setdefault(group, []).append(name)
    return {
        "years": None if used_circumstances.years is None else list(used_circumstances.years),
        "palette": sorted(used_circumstances.palette),
        "groups": {
            group: within_group_prior(group_members, used_circumstances)
            for group, group_members in members_by_group.items()
        },
    }


def group_posterior(
    deviances: Mapping[str, float],
    groups: Sequence[Sequence[str]],
    group_prior: Sequence[float] | None = None,
    circumstances: Circumstances | None = None,
) -> tuple[list[float], dict[str, float]]:
    """Return the probabilities of groups and members, given that a spectrum is that of one of the pigments.

    The likelihood of a group is the likelihood of its best member. Differences between members are ignored, because
    they lie within the errors of the model and the noise.

    Parameters
    ----------
    deviances : mapping of str to float
        Deviance of the best fit by each pigment.
    groups : sequence of sequence of str
        Members of each group, as returned by ``Separation.groups``.
    group_prior : sequence of float, optional
        Prior weight of each group. By default, all groups have the same weight.
    circumstances : Circumstances, optional
        Passed to ``within_group_prior``.

    Raises
    ------
    SampleError
        There is no group, a group has no member, or the prior does not have one weight for each group.
    """
    weights = [1.0] * len(groups) if group_prior is None else list(group_prior)
    if not groups or len(weights) != len(groups) or not all(groups) or not sum(weights) > 0:
        raise SampleError(
            f"Cannot weight {len(groups)} groups with {len(weights)} prior weights: give one for each, not all zero."
        )
    best_deviances = [min(deviances[name] for name in members) for members in groups]
    min_deviance = min(best_deviances)
    group_evidence = [
        prior_weight * math.exp(-0.5 * (deviance - min_deviance))
        for prior_weight, deviance in zip(weights, best_deviances, strict=True)
    ]
    probabilities = [deviance / sum(group_evidence) for deviance in group_evidence]
    member_probabilities: dict[str, float] = {}
    for probability, members in zip(probabilities, groups, strict=True):
        member_probabilities |= share_group(probability, within_group_prior(members, circumstances))
    return probabilities, member_probabilities


@dataclass(frozen=True)
class Difference:
    """Difference between two pigments that an analytical method shows.

    Parameters
    ----------
    method : str
        Name of the method.
    first, second : str
        Result of the method for each pigment, such as its elements, or "nothing" if there are none.
    source : str
        Source of these results.
    """

    method: str
    first: str
    second: str
    source: str


def distinguishing_methods(first_name: str, second_name: str, *, include_lines: bool = False) -> list[Difference]:
    """Return methods that distinguish two pigments if X-ray fluorescence in air does not.

    Parameters
    ----------
    first_name, second_name : str
    include_lines : bool
        List first the elements whose lines in air distinguish the pigments, in case their spectra were not compared.

    Notes
    -----
    The elements of a pigment are taken from its formula. Lines below 2.8 keV need helium or vacuum. The results of all
    other methods are taken from a table. A method is omitted if the table does not state its result for both pigments.
    """
    first_pigment, second_pigment = library()[first_name], library()[second_name]
    method_rows = [_methods_by_pigment().get(pigment.name, {}) for pigment in (first_pigment, second_pigment)]
    differences = (
        _difference_by_elements(_LINES_METHOD, shown_elements(first_pigment.name), shown_elements(second_pigment.name))
        if include_lines
        else []
    )
    for method_key, method in METHODS.items():
        detected_texts = [method_row.get(method_key, "") for method_row in method_rows]
        if detected_texts[0] != detected_texts[1] and all(detected_texts):
            sources = "; ".join(dict.fromkeys(method_row.get("source", "") for method_row in method_rows if method_row))
            differences.append(Difference(method, detected_texts[0], detected_texts[1], sources))
    return differences + _difference_by_elements(
        "XRF below 2.8 keV", _elements_with_soft_lines(first_pigment), _elements_with_soft_lines(second_pigment)
    )


def distinguishing_methods_text(first_name: str, second_name: str, *, include_lines: bool = False) -> str:
    """Return a sentence such as "lead white and red lead would be told apart by colour (white / orange-red)."."""
    pigment_labels = f"{library()[first_name].label} and {library()[second_name].label}"
    differences = distinguishing_methods(first_name, second_name, include_lines=include_lines)
    if not differences:
        return f"{pigment_labels}: underpaint lists no method that can tell them apart."
    # Lines do not distinguish the pigments if another pigment of the paint contains the same elements.
    method_names = {_LINES_METHOD: f"{_LINES_METHOD}, unless other paint there holds the same elements"}
    method_texts = "; ".join(
        f"{method_names.get(difference.method, difference.method)} ({difference.first} / {difference.second})"
        for difference in differences
    )
    return f"{pigment_labels} would be told apart by {method_texts}."


def _difference_by_elements(
    method: str, first_elements: frozenset[str], second_elements: frozenset[str]
) -> list[Difference]:
    """Return a list with the difference between two sets of elements, or an empty list if there is none."""
    element_texts = [
        ", ".join(sorted(elements, key=atomic_number)) or "nothing" for elements in (first_elements, second_elements)
    ]
    return (
        []
        if first_elements == second_elements
        else [Difference(method, element_texts[0], element_texts[1], "the formulas of the library")]
    )


def max_pigment_to_binder(pigment: Pigment) -> float:
    """Return the maximum mass ratio of pigment to oil in a brushable paint, from the oil absorption."""
    if pigment.oil_absorption is None:
        return MAX_PIGMENT_TO_BINDER
    return min(100.0 / (OIL_TO_ABSORPTION_RATIO * pigment.oil_absorption), MAX_PIGMENT_TO_BINDER)


def _prior_weight(pigment: Pigment, circumstances: Circumstances) -> float:
    prior_weight = circumstances.palette.get(pigment.name, 0.0) if circumstances.palette else 1.0
    mass_ratio = max_pigment_to_binder(pigment)
    pigment_fraction = mass_ratio / (1.0 + mass_ratio)
    if any(
        pigment_fraction * pigment.mass_fractions.get(element, 0.0) < min_fraction
        for element, min_fraction in circumstances.min_share.items()
    ):
        return 0.0
    return prior_weight * (
        1.0 if circumstances.years is None or _is_in_use(pigment, circumstances.years) else OUT_OF_USE_WEIGHT
    )


def _is_in_use(pigment: Pigment, years: tuple[int, int]) -> bool:
    first_year, last_year = pigment.period.first, pigment.period.last
    return (first_year is None or first_year <= years[1]) and (last_year is None or last_year >= years[0])


def _elements_with_soft_lines(pigment: Pigment) -> frozenset[str]:
    """Return the elements whose K lines are below 2.8 keV but pass a detector window."""
    return frozenset(
        element
        for element, mass_fraction in pigment.mass_fractions.items()
        if mass_fraction > 0.01 and ALUMINIUM_ATOMIC_NUMBER <= atomic_number(element) < MIN_ATOMIC_NUMBER - 1
    )


def methods_for_layers() -> tuple[Mapping[str, str], ...]:
    """Return the methods that determine layers, as mappings with the keys "method", "settles", "needs" and "source"."""
    return tuple(_read_methods()["layers"])


def _methods_by_pigment() -> Mapping[str, Mapping[str, str]]:
    return {method_row["name"]: method_row for method_row in _read_methods()["pigment"]}


@lru_cache(maxsize=1)
def _read_methods() -> Mapping[str, Any]:
    toml_text = (files("underpaint.pigments.limits") / "data" / "other_methods.toml").read_text("utf-8")
    return tomllib.loads(toml_text)


def counts_to_see(stratigraphies: Sequence[Stratigraphy], pigment: str, instrument: Instrument) -> list[float]:
    """Return the total counts at which a pigment's key lines exceed their detection limit.

    The counts of a key line have to exceed ``3 sqrt(2 B)``. B is the number of other counts within one FWHM of the
    line. This limit is the detection limit of Currie (1968) with a known background, at three standard deviations.

    Parameters
    ----------
    stratigraphies : sequence of Stratigraphy
        Stratigraphies to simulate. The result is infinite for stratigraphies without the pigment.
    pigment : str
        Name, synonym or abbreviation from the library.

    Raises
    ------
    SampleError
        The pigment has no line that an XRF scan detects.
    """
    name = library()[pigment].name
    outputs = outputs_for([name])
    if name not in outputs.names:
        raise SampleError(
            f"Cannot compute when {name} shows: none of its elements has a line that an XRF scan detects."
        )
    detector = instrument.detector
    axis = axis_of(detector)
    emission = emit(stratigraphies, instrument)
    expected_spectra = np.asarray(render(emission, detector, axis))
    _, needed_counts = visibility(stratigraphies, emission, expected_spectra, outputs, detector, axis)
    return [float(pigment_counts) for pigment_counts in needed_counts[:, outputs.index(name)]]
