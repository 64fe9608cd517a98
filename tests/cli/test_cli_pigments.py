"""``underpaint pigments``: the library by element, period and palette, and the palettes themselves."""

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from underpaint.cli import app
from underpaint.physics.materials import library, palette_names


def pigments(*arguments: str) -> Any:
    """Run ``underpaint pigments``; the JSON that it prints."""
    result = CliRunner().invoke(app, ["pigments", *arguments, "--json"])
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def test_the_whole_library_is_listed() -> None:
    assert [record["name"] for record in pigments("list")] == [pigment.name for pigment in library()]


def test_the_list_is_shown_where_no_command_is_named() -> None:
    assert pigments() == pigments("list")
    assert pigments("--element", "Cd") == pigments("list", "--element", "Cd")


def test_by_elements_all_of_which_a_pigment_holds() -> None:
    names = {record["name"] for record in pigments("list", "--element", "Cu", "--element", "As")}
    assert {"emerald_green", "scheeles_green", "conichalcite", "cornwallite"} == names


def test_by_year_and_by_period() -> None:
    in_1600 = {record["name"] for record in pigments("list", "--period", "1600")}
    assert "smalt" in in_1600
    assert "prussian_blue" not in in_1600
    early = {record["name"] for record in pigments("list", "--period=-800:-500")}
    assert {"egyptian_blue", "han_blue"} <= early
    assert "lead_tin_yellow" not in early


def test_by_palette_and_element_together() -> None:
    blues = [record["name"] for record in pigments("list", "--palette", "vermeer", "--element", "Co")]
    assert blues == ["smalt"]


def test_one_in_full_says_how_much_paint_can_hold() -> None:
    shown = pigments("show", "lead white")
    assert shown["achievable_loading"] == pytest.approx(1 / 1.1)
    assert shown["loading_source"] == "from the oil absorption"
    assert shown["colour_index"] == "PW1"
    assert pigments("show", "gold_leaf")["loading_source"] == "leaf metal, which has no binder"


def test_palettes_are_listed_with_their_sources() -> None:
    records = pigments("palettes")
    assert [record["name"] for record in records] == list(palette_names())
    assert all(record["source"] for record in records)
    shown = CliRunner().invoke(app, ["pigments", "palettes"]).stdout
    assert "rembrandt" in shown


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--element", "Xx"), "No element has the symbol 'Xx'"),
        (("--period", "soon"), "Cannot read the period 'soon'"),
        (("--period", "1700:1600"), "the earlier first"),
        (("--palette", "nobody"), "No palette 'nobody'"),
    ],
)
def test_what_cannot_be_chosen_is_refused(arguments: tuple[str, str], reason: str) -> None:
    result = CliRunner().invoke(app, ["pigments", "list", *arguments])
    assert result.exit_code != 0
    assert reason in f"{result.output}{result.exception}"
