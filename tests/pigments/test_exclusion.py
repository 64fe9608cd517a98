"""What may be called absent: covers hide more where they are thicker, where counts are fewer, and where lines meet."""

from dataclasses import replace

import numpy as np
import pytest

from result_parts import configured
from underpaint.data import EnergyAxis
from underpaint.data.maps import CANNOT_EXCLUDE, NO_ANSWER, NOT_DETECTED, PIGMENT, PRESENT, TRACE, Results, Stack
from underpaint.errors import SampleError
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer
from underpaint.pigments.limits import Burial, answer_states, counts_to_exclude, counts_to_see
from underpaint.pigments.weights import PredictionSets

NAMES = ("lead_pigment", "mercury_red", "titanium_pigment", "tin_pigment")
FAMILIES = (("Pb_L",), ("Hg_L",), ("Ti_K",), ("Sn_K", "Sn_L"))


@pytest.fixture(scope="module")
def elio() -> Instrument:
    return load_instrument("elio")


@pytest.fixture(scope="module")
def axis(elio: Instrument) -> EnergyAxis:
    return EnergyAxis(elio.detector.gain_kev, elio.detector.zero_kev, elio.detector.n_channel)


def maps_of(names_by_pixel: list[list[str]], names: tuple[str, ...] = NAMES) -> Results:
    """One row; each pixel with the names that are found there."""
    probability = np.array(
        [[[0.9 if name in present_names else 0.1 for name in names] for present_names in names_by_pixel]], np.float32
    )
    families = dict(zip(NAMES, FAMILIES, strict=True))
    return Results.of_pigments(
        names,
        probability,
        kinds=("group",) * len(names),
        groups=tuple((name.partition(".")[0],) for name in names),
        labels=names,
        elements=tuple(families[name.partition(".")[0]] for name in names),
    )


def test_a_cover_of_vermilion_hides_lead_as_the_forward_model_says(elio: Instrument, axis: EnergyAxis) -> None:
    table = counts_to_exclude(NAMES, FAMILIES, elio, axis)
    layers = (Paint({"vermilion": 1}).layer(50.0), Paint({"lead_white": 1}).layer(20.0), ground_layer("chalk", 150.0))
    (alone,) = counts_to_see([Stratigraphy(layers)], "lead_white", elio)
    needed = table.required_counts("lead_pigment", ["mercury_red"])
    # the model's error of 1 % asks for a little more than counting noise does
    assert alone <= needed < 1.05 * alone


def test_what_hides_the_most_of_what_was_found_decides(elio: Instrument, axis: EnergyAxis) -> None:
    table = counts_to_exclude(NAMES, FAMILIES, elio, axis)
    alone = table.required_counts("lead_pigment", ["titanium_pigment"])
    assert (
        table.required_counts("lead_pigment")
        < alone
        < table.required_counts("lead_pigment", ["titanium_pigment", "mercury_red"])
    )
    assert table.required_counts("lead_pigment", ["tin_pigment"]) == np.inf, "lead-tin yellow holds lead itself"


def test_thicker_covers_hide_more(elio: Instrument, axis: EnergyAxis) -> None:
    needed = [
        counts_to_exclude(NAMES, FAMILIES, elio, axis, Burial(cover_um=thickness)).required_counts(
            "lead_pigment", ["mercury_red"]
        )
        for thickness in (20.0, 50.0, 100.0)
    ]
    assert needed[0] < needed[1] < needed[2]


def test_states_follow_counts_and_answers(elio: Instrument, axis: EnergyAxis) -> None:
    maps = maps_of([["mercury_red"], ["mercury_red"], ["mercury_red", "lead_pigment"], []])
    maps.stacks["probability"].values[0, 3] = np.nan
    states = answer_states(maps, np.array([[50, 1e5, 50, 1e5]]), elio, axis)
    assert states.map("state", "lead_pigment").tolist() == [[CANNOT_EXCLUDE, NOT_DETECTED, PRESENT, NO_ANSWER]]
    assert states.map("state", "mercury_red").tolist() == [[PRESENT, PRESENT, PRESENT, NO_ANSWER]]
    assert (states.map("state", "titanium_pigment")[0, :3] == CANNOT_EXCLUDE).all(), (
        "titanium's lines do not pass 50 um of vermilion"
    )
    assert states.state_shares("lead_pigment")[CANNOT_EXCLUDE] == pytest.approx(1 / 3)
    assert "50 µm" in states.notes[0]


def test_a_no_that_its_prediction_set_does_not_bear_cannot_be_excluded(elio: Instrument, axis: EnergyAxis) -> None:
    maps = maps_of([["mercury_red"], [], []])
    probability = maps.stacks["probability"]
    log_odds = Stack(probability.keys, np.log(probability.values / (1.0 - probability.values)))
    # at few counts both answers reach from -9 to 9; at many the thresholds lie between the answers
    sets = PredictionSets(
        names=("mercury_red",), levels=(0.9, 0.99), counts=(1e3, 1e4, 1e6),
        present_from=(((-9.0,), (-9.0,)), ((-9.0,), (0.1,))), absent_to=(((9.0,), (9.0,)), ((9.0,), (-0.1,))),
    )  # fmt: skip
    maps = configured(maps, {"model": {"sets": sets.model_dump(mode="json")}})
    maps = replace(maps, stacks={**maps.stacks, "log_odds": log_odds})
    states = answer_states(maps, np.array([[50, 50, 1e5]]))
    assert states.map("state", "mercury_red").tolist() == [[PRESENT, CANNOT_EXCLUDE, NOT_DETECTED]]
    # about which the sets say nothing
    assert states.map("state", "lead_pigment").tolist() == [[NOT_DETECTED, NOT_DETECTED, NOT_DETECTED]]


def test_an_amount_makes_what_is_present_a_pigment_or_a_trace() -> None:
    maps = maps_of([["mercury_red"], ["mercury_red"], ["mercury_red"], []])
    value = np.full((1, 4, 1), 0.5, np.float16)
    reached = np.array([[[0.97], [0.5], [0.01], [0.97]]], np.float16)
    maps |= Results.of_amounts(("mercury_red",), value, 0.1 * value, np.full_like(value, 0.031), reached)
    results = maps | answer_states(maps, np.full((1, 4), 1e5))
    assert results.map("state", "mercury_red").tolist() == [[PIGMENT, PRESENT, TRACE, NOT_DETECTED]]
    assert [results.answer_at("mercury_red", 0, column) for column in range(4)] == [
        "pigment",
        "present, pigment or trace",
        "trace",
        "not detected (less than 0.03 %)",
    ]


def test_a_line_that_stands_out_is_not_called_absent(elio: Instrument, axis: EnergyAxis) -> None:
    maps = maps_of([["mercury_red"], ["mercury_red"]])
    area = np.array([[[500.0], [5.0]]], np.float32)
    elements = Results.of_lines(("Pb_L",), area, np.full_like(area, 10.0))
    states = answer_states(maps | elements, np.full((1, 2), 1e5), elio, axis)
    assert states.map("state", "lead_pigment").tolist() == [[CANNOT_EXCLUDE, NOT_DETECTED]]


def test_a_model_of_the_surface_gives_the_covering_groups(elio: Instrument, axis: EnergyAxis) -> None:
    names = (*NAMES, *(f"{name}.surface" for name in NAMES))
    counts = np.array([[3000]])
    names_by_pixel = [["mercury_red", "titanium_pigment", "titanium_pigment.surface"]]
    below = answer_states(maps_of(names_by_pixel, names), counts, elio, axis, burial=Burial(cover_um=100.0))
    anywhere = answer_states(
        maps_of([["mercury_red", "titanium_pigment"]]), counts, elio, axis, burial=Burial(cover_um=100.0)
    )
    assert tuple(below.materials) == tuple(anywhere.materials) == NAMES
    assert below.map("state", "lead_pigment").tolist() == [[NOT_DETECTED]]
    assert anywhere.map("state", "lead_pigment").tolist() == [[CANNOT_EXCLUDE]]


def test_what_cannot_be_judged_is_refused(elio: Instrument, axis: EnergyAxis) -> None:
    with pytest.raises(ValueError, match="counts of the same scan"):
        answer_states(maps_of([[]]), np.ones((2, 2)), elio, axis)
    with pytest.raises(SampleError, match="cover_um = -1: the value must be positive"):
        Burial(cover_um=-1.0)
