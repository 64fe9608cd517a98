"""Candidates from a network's answer, and how an order among fitted ones is claimed."""

import numpy as np
import pytest

from underpaint.data.maps import Results
from underpaint.lab.evaluation.candidates.candidate import Candidate, ground_film, joined_labels, paint_film
from underpaint.lab.evaluation.candidates.proposals import (
    MAX_CANDIDATES,
    SuspectedPigments,
    layer_pigments,
    propose_candidates,
    rearrangements,
    suspect_pigments,
    with_pure_pigments,
)
from underpaint.lab.evaluation.order import OrderResult
from underpaint.physics.materials import Paint, library


def answered(**probability: float) -> Results:
    """The answer of a network at one pixel, groups and members by name."""
    groups = {group.name for group in library().groups}
    names = sorted(probability, key=lambda name: name not in groups)
    kinds = tuple("group" if name in groups else "member" for name in names)
    belongs = tuple((name,) if name in groups else library()[name].groups for name in names)
    values = np.asarray([probability[name] for name in names], np.float32)[None, None]
    return Results.of_pigments(names, values, kinds=kinds, groups=belongs, labels=names, elements=((),) * len(names))


def stack(*paints: tuple[tuple[str, ...], float]) -> Candidate:
    films = [paint_film(Paint(dict.fromkeys(names, 1.0)), um) for names, um in paints]
    return Candidate(" over ".join(joined_labels(names) for names, _ in paints), (*films, ground_film("chalk", 150.0)))


def test_every_group_that_is_present_sends_its_likeliest_member() -> None:
    suspected = suspect_pigments(
        answered(lead_pigment=0.99, mercury_red=0.8, tin_pigment=0.2, red_lead=0.3, lead_white=0.6, vermilion=0.7),
        "chalk",
    )
    assert suspected.pigments == ("lead_white", "vermilion")
    assert [set(library()[name].groups) & {"tin_pigment"} for name in suspected.hidden_pigments] == [{"tin_pigment"}]


def test_what_the_ground_brings_is_left_to_it_unless_it_is_all_there_is() -> None:
    both = suspect_pigments(answered(calcium_white=0.9, mercury_red=0.8, chalk=0.7, vermilion=0.7), "chalk")
    assert both.pigments == ("vermilion",)
    alone = suspect_pigments(answered(calcium_white=0.9, chalk=0.7), "chalk")
    assert alone.pigments == ("chalk",)


def test_a_composite_pigment_stands_for_one_of_its_groups_alone() -> None:
    likely = answered(lead_pigment=1.0, chromium_pigment=0.9, lead_white=0.3, chrome_orange=0.7, viridian=0.1)
    assert set(suspect_pigments(likely, "chalk").pigments) == {"lead_white", "chrome_orange"}
    unlikely = answered(lead_pigment=1.0, chromium_pigment=0.9, lead_white=0.3, chrome_orange=0.4, viridian=0.1)
    assert set(suspect_pigments(unlikely, "chalk").pigments) == {"lead_white", "viridian"}


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_proposals_hold_one_layer_and_both_orders_and_are_few(count: int) -> None:
    names = ("vermilion", "azurite", "zinc_white", "iron_oxide_red")[:count]
    candidates = propose_candidates(SuspectedPigments(names), "chalk")
    ways = [layer_pigments(candidate) for candidate in candidates]
    assert ways[0] == (frozenset(names),)
    assert len(set(ways)) == len(ways) <= MAX_CANDIDATES - (count if count > 1 else 0)
    # each pigment alone above or below the others
    for name in names if 1 < count < 4 else ():
        rest = frozenset(names) - {name}
        assert (frozenset({name}), rest) in ways
        assert (rest, frozenset({name})) in ways
    # no lead above: it may be primed with lead white
    assert (frozenset(names), frozenset({"lead_white"})) in ways


def test_rivals_are_one_layer_the_swapped_one_and_each_pigment_moved() -> None:
    best = stack((("vermilion", "zinc_white"), 10.0), (("azurite",), 20.0))
    above, below = frozenset({"vermilion", "zinc_white"}), frozenset({"azurite"})
    assert {layer_pigments(candidate) for candidate in rearrangements(best)} == {
        (above | below,),
        (below, above),
        (frozenset({"zinc_white"}), frozenset({"azurite", "vermilion"})),
        (frozenset({"vermilion"}), frozenset({"azurite", "zinc_white"})),
    }


def test_a_composite_pigment_is_tried_as_a_pure_one() -> None:
    pure = with_pure_pigments(stack((("lead_white", "chrome_orange"), 20.0)))
    assert pure is not None
    (other,) = pure.pigments - {"lead_white"}
    assert library()[other].groups == ("chromium_pigment",)
    assert with_pure_pigments(stack((("lead_white", "vermilion"), 20.0))) is None


def test_an_order_needs_a_stratigraphy_that_fits_and_rivals_that_do_not() -> None:
    assert OrderResult(
        is_layered=True, mixed_deviance_rise=30.0, swapped_deviance_rise=9.5, other_deviance_rise=None
    ).is_determined
    assert not OrderResult(
        is_layered=True, mixed_deviance_rise=30.0, swapped_deviance_rise=8.5, other_deviance_rise=None
    ).is_determined
    assert not OrderResult(
        is_layered=True, mixed_deviance_rise=30.0, swapped_deviance_rise=None, other_deviance_rise=None
    ).is_determined
    assert not OrderResult(
        is_layered=True,
        mixed_deviance_rise=300.0,
        swapped_deviance_rise=300.0,
        other_deviance_rise=None,
        is_fitted=False,
    ).is_determined
