"""Members of a group share its probability by the prior, whatever the network says of them."""

import numpy as np
import pytest
from numpy.typing import NDArray

from underpaint.data.maps import PLACES, Results
from underpaint.errors import SampleError
from underpaint.physics.materials import load_palette
from underpaint.pigments.limits import Circumstances, circumstances_of, member_shares, share_members, within_group_prior
from underpaint.simulate import outputs_for

PIGMENTS = ("lead_white", "red_lead", "massicot", "chrome_yellow", "viridian", "chrome_oxide_green", "vermilion")
LEAD, CHROMIUM = ("lead_white", "red_lead", "massicot"), ("viridian", "chrome_oxide_green")
WEIGHTS = {"lead_white": 6.0, "red_lead": 3.0, "massicot": 1.0, "chrome_yellow": 2.0, "viridian": 1.0}
PRIOR = Circumstances(palette=WEIGHTS | {"chrome_oxide_green": 4.0, "vermilion": 1.0})


def answered(seed: int, *, by_place: bool = False) -> Results:
    """Random answers of a network, members and groups independent of each other."""
    outputs = outputs_for(PIGMENTS).with_places() if by_place else outputs_for(PIGMENTS)
    log_odds = np.random.default_rng(seed).normal(0, 3, (5, 7, len(outputs.names))).astype(np.float32)
    probability = np.asarray(1 / (1 + np.exp(-log_odds)), dtype=np.float32)
    probability[2, 3] = log_odds[2, 3] = np.nan
    return Results.of_pigments(
        outputs.names,
        probability,
        kinds=outputs.kinds,
        groups=outputs.groups,
        labels=outputs.labels,
        elements=outputs.elements,
        log_odds=log_odds,
    )


def shared(results: Results) -> NDArray[np.float32]:
    """Return the probabilities after the members have shared those of their groups."""
    values: NDArray[np.float32] = share_members(results, PRIOR).stacks["probability"].values
    return values


@pytest.mark.parametrize("seed", range(4))
def test_inside_a_group_the_posterior_follows_the_prior_and_never_the_spectrum(seed: int) -> None:
    shared_maps = share_members(answered(seed), PRIOR)
    for members in (LEAD, CHROMIUM):
        prior = within_group_prior(members, PRIOR)
        total = sum(shared_maps[name] for name in members)
        for name in members:
            np.testing.assert_allclose(shared_maps[name], prior[name] * np.asarray(total), rtol=1e-5)


def test_what_the_network_says_of_members_does_not_enter() -> None:
    first, other = answered(0), answered(1)
    for name in first.groups:
        other[name][:] = first[name]
    np.testing.assert_array_equal(shared(first), shared(other))


def test_a_group_of_one_pigment_is_that_pigment_and_groups_stay() -> None:
    before = answered(2, by_place=True)
    after = share_members(before, PRIOR)
    for place in PLACES:
        np.testing.assert_allclose(after["vermilion", place], before["mercury_red", place], rtol=1e-6)
        np.testing.assert_array_equal(after["lead_pigment", place], before["lead_pigment", place])
    assert np.isnan(after["vermilion"][2, 3])


def test_a_pigment_of_two_groups_needs_both() -> None:
    maps = answered(0)
    for name, value in (("lead_pigment", 0.9), ("chromium_pigment", 0.0)):
        maps[name][:] = value
    without = share_members(maps, PRIOR)
    assert np.nanmax(without["chrome_yellow"]) == 0.0
    np.testing.assert_allclose(sum(without[name][0, 0] for name in LEAD), 0.9, rtol=1e-5)
    maps["chromium_pigment"][:] = 1.0
    both = share_members(maps, PRIOR)
    np.testing.assert_allclose(both["chrome_yellow"][0, 0], 0.9 * 2 / 12, rtol=1e-5)
    np.testing.assert_allclose(both["lead_white"][0, 0], 0.9 * 6 / 12, rtol=1e-5)


def test_mean_shares_of_a_group_follow_the_other_groups_that_a_member_needs() -> None:
    maps = answered(0)
    for name, value in (("lead_pigment", 0.9), ("chromium_pigment", 0.3)):
        maps[name][:] = value
    shares = member_shares(share_members(maps, PRIOR), "lead_pigment")
    assert sum(shares.values()) == pytest.approx(1.0)
    assert shares["chrome_yellow"] == pytest.approx(2 * 0.3 / 10.6, rel=1e-5)
    assert shares["lead_white"] == pytest.approx(6 / 10.6, rel=1e-5)
    assert member_shares(maps, "lead_pigment") == {}


def test_a_group_that_is_nowhere_is_shared_by_the_prior_alone() -> None:
    maps = answered(0)
    maps["lead_pigment"][:] = 0.1
    shared_maps = share_members(maps, PRIOR)
    assert (
        member_shares(shared_maps, "lead_pigment")
        == shared_maps.settings_of("pigments")["member_prior"]["groups"]["lead_pigment"]
    )


def test_log_odds_are_those_of_the_shared_probability() -> None:
    shared_maps = share_members(answered(3), PRIOR)
    log_odds = shared_maps.map("log_odds", "red_lead", "anywhere")
    np.testing.assert_allclose(1 / (1 + np.exp(-log_odds)), shared_maps["red_lead"], atol=1e-6)


def test_arrays_are_written_over_only_where_that_is_allowed() -> None:
    maps = answered(0)
    values = maps.stacks["probability"].values
    before = values.copy()
    shared_maps = shared(maps)
    np.testing.assert_array_equal(values, before)
    share_members(maps, PRIOR, overwrite=True)
    np.testing.assert_array_equal(values, shared_maps)


def test_the_prior_is_kept_with_the_maps() -> None:
    shared_maps = share_members(answered(0), Circumstances(years=(1600, 1700), palette=PRIOR.palette))
    stated = shared_maps.settings_of("pigments")["member_prior"]
    assert stated["years"] == [1600, 1700]
    assert stated["groups"]["mercury_red"] == {"vermilion": 1.0}
    assert sum(stated["groups"]["lead_pigment"].values()) == pytest.approx(1.0)
    assert stated["groups"]["lead_pigment"]["chrome_yellow"] < 0.01  # out of use


def test_names_that_the_library_does_not_know_stay() -> None:
    maps = Results.of_pigments(
        ("our_group", "our_red"),
        np.full((1, 1, 2), 0.4, np.float32),
        kinds=("group", "member"),
        groups=(("our_group",), ("our_group",)),
        labels=("ours", "our red"),
        elements=((), ()),
    )
    assert share_members(maps)["our_red"][0, 0] == np.float32(0.4)


def test_circumstances_that_leave_no_member_are_refused() -> None:
    with pytest.raises(SampleError, match="exclude all of them"):
        share_members(answered(0), Circumstances(palette={"azurite": 1.0}))


def test_a_palette_says_its_years_and_weighs_evenly() -> None:
    baroque = circumstances_of(load_palette("baroque"))
    assert baroque.years == (1600, 1700)
    assert set(baroque.palette.values()) == {1.0}
    assert circumstances_of(("vermilion", "our red")).palette == {"vermilion": 1.0}
    assert circumstances_of(("vermilion",)).years is None
    assert circumstances_of(load_palette()).palette.keys() >= {"vermilion", "lead_white"}


def test_places_are_no_part_of_a_name() -> None:
    maps = answered(0, by_place=True)
    assert maps.places == PLACES
    assert maps.holds("vermilion", "surface")
    assert all("." not in name for name in (*maps.pigments, *maps.groups))
    with pytest.raises(KeyError, match="predicts no places"):
        answered(0)["vermilion", "surface"]
