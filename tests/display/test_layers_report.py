"""What lies over what: in words, in the report, and on the command line's record."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import report_fakes as fakes

from place_fakes import SHAPE, SIGMA, THIN_UM, placed_maps
from result_parts import changed, configured, joined
from underpaint.data.maps import CANNOT_EXCLUDE, NOT_DETECTED, SURFACE_UM, Results
from underpaint.display.report import find_arrangements, find_groups
from underpaint.display.report.layers import order_rows, order_text, place_shares, thickness_text
from underpaint.display.report.pigment_table import pigment_table
from underpaint.display.report.wording import member_text, percent
from underpaint.physics.materials import library
from underpaint.pigments.limits import Circumstances, share_members

pytestmark = pytest.mark.usefixtures("without_drawing")


def page(**changes: Any) -> str:
    maps = share_members(placed_maps(), Circumstances(years=(1600, 1700)))
    return fakes.full_report(changed(maps, **changes))


def test_a_conservator_reads_what_is_at_the_surface_how_thick_and_what_is_below() -> None:
    texts = {round(group.share, 3): group.text for group in find_arrangements(placed_maps())}
    low, high = THIN_UM * np.exp(-1.645 * SIGMA), THIN_UM * np.exp(1.645 * SIGMA)
    thin = f"about {THIN_UM:.0f} µm ({low:.0f} to {high:.0f})"
    assert texts[0.448] == f"vermilion or calomel at the surface, {thin}; lead pigment below"
    assert texts[0.052] == f"vermilion or calomel at the surface, {thin}; lead pigment, place not determined"


def test_a_thickness_that_most_pixels_do_not_determine_is_not_given() -> None:
    maps = placed_maps()
    maps.map("quantity_sigma", SURFACE_UM)[:, 22:] = 1.2
    right = next(group for group in find_arrangements(maps) if group.surface == ("lead pigment",))
    assert right.thickness is None
    assert thickness_text(right.thickness) == "thickness not determined"


def test_shares_by_place_add_up() -> None:
    lead, mercury = place_shares(placed_maps())
    assert (lead.name, mercury.name) == ("lead_pigment", "mercury_red")
    assert lead.surface + lead.below + lead.unplaced == pytest.approx(1.0)
    assert (mercury.surface, mercury.below) == (0.5, 0.0)


def test_a_place_is_stated_from_three_quarters_on_and_open_below() -> None:
    maps = placed_maps()
    maps["mercury_red", "surface"][:, :5] = 0.7
    maps["lead_pigment", "below"][:, :20] = 0.7
    shares = {group.name: group for group in place_shares(maps)}
    assert (shares["mercury_red"].surface, shares["mercury_red"].unplaced) == pytest.approx((15 / 40, 5 / 40))
    assert (shares["lead_pigment"].below, shares["lead_pigment"].unplaced) == pytest.approx((0.0, 0.5))
    text = " ".join(fakes.full_report(maps).split())
    assert "Depth: at the surface in 38 %, undetermined in 12 %.</span>" in text
    assert "not to its depth. The depth is stated if its probability is at least 0.75" in text


def test_one_group_alone_in_both_places_may_be_the_bare_ground() -> None:
    maps = placed_maps()
    maps["lead_pigment", "below"][:-1, 20:] = 0.95
    texts = [group.text for group in find_arrangements(maps)]
    assert "lead pigment alone; it may be the bare ground" in texts
    assert any(group.startswith("vermilion or calomel at the surface") for group in texts)


def test_a_group_below_nothing_is_not_called_below() -> None:
    maps = placed_maps()
    maps["lead_pigment", "surface"][:, 20:], maps["lead_pigment", "below"][:, 20:] = 0.7, 0.95
    texts = [group.text for group in find_arrangements(maps)]
    assert "lead pigment with no paint detected above; it may be the bare ground" in texts
    assert "lead pigment below" not in texts
    assert any(
        group.startswith("vermilion or calomel at the surface") and "lead pigment below" in group for group in texts
    )


def test_what_was_not_seen_below_is_not_determined() -> None:
    maps = placed_maps()
    maps["lead_pigment", "below"][:, :20] = 0.05
    maps["lead_pigment"][:, :20] = 0.3
    group = next(group for group in find_arrangements(maps) if group.surface == ("vermilion or calomel",))
    assert group.below == ()
    assert group.text.endswith("; below not determined")
    text = " ".join(fakes.full_report(maps).split())
    assert re.search(r"<td>vermilion or calomel</td><td>about [^<]*</td><td>not determined</td><td>–</td>", text)
    assert "These groups may be present under other paint" in text


def detectable(maps: Results, cover_um: float) -> Results:
    """Copper could hide under the left half; of it, and of the others, all else is said."""
    names = ("lead_pigment", "mercury_red", "copper_green_blue")
    state = np.full((*SHAPE, 3), NOT_DETECTED, np.uint8)
    state[:, :20, 2] = CANNOT_EXCLUDE
    burial = {"cover_um": cover_um, "hidden_um": 20.0}
    return Results.of_states(names, names, state, settings={"burial": burial})


@pytest.mark.parametrize(("cover_um", "thicker"), [(THIN_UM / 2, True), (1000.0, False)])
def test_not_detected_is_stated_only_for_the_assumed_thickness(cover_um: float, *, thicker: bool) -> None:
    maps = placed_maps()
    text = " ".join(fakes.full_report(maps | detectable(maps, cover_um)).split())
    assert f"or 20 µm of it under {cover_um:g} µm of paint would not have been detected." in text
    assert "not found, and would have been detected" not in text
    assert f"determine whether 20 µm of it under {cover_um:g} µm of paint would have been detected." in text
    assert "Its absence here means nothing" not in text
    assert "These groups cannot be excluded below other paint: copper green blue (in 50 % of the area)." in text
    assert ("the uppermost layer is probably thicker than the assumed" in text) == thicker
    assert "These groups may be present under other paint" not in text


def test_the_order_of_a_detected_pair_is_reported() -> None:
    maps = placed_maps()
    (group,) = order_rows(maps)
    assert order_text(maps, group) == "vermilion or calomel over lead pigment"
    assert group.n_pixel == (SHAPE[0] - 1) * 20


def test_the_report_shows_places_thickness_orders_and_the_prior() -> None:
    text = page()
    assert 'id="layers"' in text
    for words in (
        "lead pigment below",
        "Thickness of the uppermost layer",
        "Order of pairs",
        "prior-driven",
        "1600 to",
    ):
        assert words in text
    assert "Leanings within the group" not in text
    assert "present in some layer" not in text


def test_many_maps_are_drawn_in_several_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("underpaint.display.report.page._HALF_PAGE_HEIGHT_INCH", 0.1)
    monkeypatch.setattr("underpaint.display.report.page.MAX_MAPS_IN_FIGURE", 2)
    maps = placed_maps()
    text = fakes.full_report(maps | fakes.element_maps() | detectable(maps, 50.0))
    assert text.count('alt="Probability of the detected groups anywhere') == 2
    assert text.count('alt="Element maps, net counts') == 2
    assert text.count('alt="Maps of the state of each group') == 1  # only copper is not "not detected" all over


@pytest.mark.parametrize("present", [True, False])
def test_what_stays_together_on_a_page_is_closed(*, present: bool) -> None:
    """An unclosed block would keep all that follows on one page."""
    maps = placed_maps()
    if not present:
        maps.stacks["probability"].values[:] = 0.0
    hidden = detectable(maps, 50.0)
    nothing_hidden = changed(hidden, state=0 * hidden.stacks["state"].values)
    for parts in ((), (fakes.element_maps(), hidden), (nothing_hidden,)):
        text = fakes.full_report(joined(maps, *parts, summary=fakes.summary()))
        sections = re.findall(r"<section.*?</section>", text, re.DOTALL)
        assert len(sections) >= 5
        assert all(part.count("<div") == part.count("</div>") for part in sections)


def test_a_model_without_places_has_no_section_of_layers() -> None:
    text = fakes.full_report(fakes.pigment_maps())
    assert 'id="layers"' not in text
    assert "present in some layer" in text
    assert "would be told apart by" in text
    assert find_arrangements(fakes.pigment_maps()) == []


def test_without_quantities_only_the_places_are_reported() -> None:
    text = page(quantity=None)
    assert "Thickness of the uppermost layer" not in text
    assert "vermilion or calomel at the surface, thickness not determined; lead pigment below" in text


def test_no_detected_group_is_reported() -> None:
    text = page(probability=np.full_like(placed_maps().stacks["probability"].values, 0.01))
    assert "No place (surface or below) could be determined for any group" in text


def test_a_group_shared_by_the_prior_has_no_leanings_and_says_what_would_tell_its_members_apart() -> None:
    maps = fakes.pigment_maps()
    assert find_groups(maps)[0].separate_findings
    lead = {"red_lead": 0.25, "lead_white": 0.75}
    shared = configured(maps, {"member_prior": {"groups": {"lead_pigment": lead}}})
    candidate = {group.name: group for group in find_groups(shared)}
    assert candidate["lead_pigment"].separate_findings == ()
    assert candidate["lead_pigment"].shares == (("lead white", 0.75), ("red lead", 0.25))
    assert candidate["lead_pigment"].distinguishing_text.startswith(
        "lead white and red lead would be told apart by colour"
    )


@pytest.mark.parametrize("palette", [["red_lead", "lead_white"], []])
def test_pigments_outside_the_palette_are_named_too(palette: list[str]) -> None:
    maps = placed_maps()
    prior = {"groups": {"lead_pigment": {"lead_white": 1.0}}, "palette": palette, "years": None}
    lead = next(o for o in find_groups(configured(maps, {"member_prior": prior})) if "lead" in o.name)
    assert "red lead" in lead.omitted_members
    assert "lead white" not in lead.omitted_members
    n_other = len(library().members("lead_pigment")) - 1
    assert ("; the palette leaves out" in member_text(lead)) == bool(palette)
    if palette:
        assert member_text(lead) == f"lead white; the palette leaves out {n_other} others of the group"
    (group,) = pigment_table([lead])
    weights = {row.label: row.weight for row in group.rows}
    assert weights["lead white"] == "the only candidate"
    assert set(weights.values()) - {"the only candidate"} == {
        "not in the palette" if palette else "unknown to the network"
    }


def test_pigments_that_nothing_tells_apart_have_no_numbers() -> None:
    even = {"member_prior": {"groups": {"lead_pigment": {"red_lead": 0.5, "lead_white": 0.5}}}}
    group = next(o for o in find_groups(configured(fakes.pigment_maps(), even)) if "lead" in o.name)
    rows = {row.label: row.weight for row in pigment_table([group])[0].rows}
    assert rows["red lead"] == rows["lead white"] == "as probable as the others"


def shared_lead(tin: float) -> Results:
    """Lead everywhere, tin as likely as is asked, and five pigments of lead to share it."""
    names = ("lead_white", "lead_tin_yellow", "massicot", "red_lead", "cerussite")
    groups = ("lead_pigment", "tin_pigment")
    probability = np.full((4, 5, 7), 0.5, np.float32)
    probability[:, :, 0], probability[:, :, 1] = 0.9, tin
    maps = Results.of_pigments(
        (*groups, *names),
        probability,
        kinds=("group",) * 2 + ("member",) * 5,
        groups=(*((name,) for name in groups), *(library()[name].groups for name in names)),
        labels=(*groups, *(library()[name].label for name in names)),
        elements=(("Pb_L",), ("Sn_K",), *[("Pb_L",)] * 5),
    )
    return share_members(maps)


def test_a_pigment_whose_other_element_is_not_found_has_next_to_no_share_of_its_group() -> None:
    for tin, share in ((0.02, 0.02 / 4.02), (0.98, 0.98 / 4.98)):
        maps = shared_lead(tin)
        group = next(candidate for candidate in find_groups(maps) if candidate.name == "lead_pigment")
        assert dict(group.shares)["lead-tin yellow"] == pytest.approx(share, rel=1e-4)
        assert dict(group.shares)["lead white"] == pytest.approx(maps["lead_white"].mean() / 0.9, rel=1e-4)
        rows = {row.label: row.weight for row in pigment_table([group])[0].rows}
        assert rows["lead-tin yellow"] == percent(share)


def test_pigments_of_which_none_is_likelier_are_named_as_examples() -> None:
    group = next(candidate for candidate in find_groups(shared_lead(0.02)) if candidate.name == "lead_pigment")
    assert member_text(group) == "for example lead white or massicot"
    first, *other_shares = group.shares
    assert member_text(replace(group, shares=((first[0], 0.6), *other_shares))) == "lead white or another"
    second, *rest = other_shares
    stands_out = ((first[0], 0.6), (second[0], 0.3), *rest)
    assert member_text(replace(group, shares=stands_out)) == "lead white, massicot or another"
    assert member_text(replace(group, shares=(), members=("a", "b", "c", "d"))) == "for example a or b"


def test_only_pigments_of_the_same_elements_are_called_indistinguishable() -> None:
    text = " ".join(fakes.full_report(shared_lead(0.02)).split())
    assert "XRF cannot distinguish members of a group that contain the same elements." in text
    assert "lead-tin yellow, for example, belongs to lead and tin" in text
    assert "The spectrum does not enter" not in text


def test_what_the_network_received_stands_in_the_report() -> None:
    summary = {"settings": {"instrument_told": {"anode": "Rh", "voltage_kv": 40.0, "scatter_deg": None}}}
    assert "Rh anode, 40.0 kV" in fakes.full_report(Results(summary=summary))
    assert "none, neither given nor determined" in fakes.full_report(
        Results(summary={"settings": {"instrument_told": {}}})
    )
