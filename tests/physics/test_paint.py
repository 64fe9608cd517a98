"""Paints, layers and stratigraphies: mass and volume balance, and what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import pytest

from underpaint.errors import SampleError
from underpaint.physics.materials import (
    Layer,
    Paint,
    Stratigraphy,
    coating_layer,
    ground_layer,
    library,
    mass_fractions,
    pigment_share,
    support_layer,
)

PANELS = Path(__file__).resolve().parents[2].parent / "shared" / "reference" / "mc_panels.json"
OIL_DENSITY = 1.0
"""Of the library's linseed oil, g/cm3."""


def test_mass_balance() -> None:
    layer = Paint({"lead_white": 3.0, "vermilion": 1.0}, pigment_to_binder=3.0).layer(50.0)
    assert layer.pigments == pytest.approx({"lead_white": 0.5625, "vermilion": 0.1875})
    assert layer.mass_fractions["Hg"] == pytest.approx(0.1875 * mass_fractions("HgS")["Hg"])
    assert sum(layer.mass_fractions.values()) == pytest.approx(1.0)
    assert layer.areal_density == pytest.approx(layer.density * 50e-4)


def test_volumes_add() -> None:
    layer = Paint({"vermilion": 1.0}, pigment_to_binder=3.0).layer(10.0)
    assert layer.density == pytest.approx(1.0 / (0.75 / library()["vermilion"].density + 0.25 / OIL_DENSITY))


def test_density_given_by_the_user_wins() -> None:
    assert Paint({"VM": 1.0}, density=4.0).layer(10.0).density == 4.0


@pytest.mark.skipif(not PANELS.is_file(), reason="the Monte Carlo panels are not at hand")
def test_paints_of_the_monte_carlo_panels() -> None:
    """Elements that only pigments bring follow from the formulas; the panels' oil and densities differ a little."""
    facts: dict[str, Any] = json.loads(PANELS.read_text("utf-8"))
    skipped = {"PB", "VG"}  # the library holds these two as hydrates
    compared = 0
    for sample in facts["samples"]:
        for row in sample["layers_from_surface"]:
            contents = {code: share for code, share in row["components"].items() if code != "OIL"}
            if skipped & set(contents) or not contents or set(row["components"]) - set(facts["materials"]):
                continue
            oil = row["components"].get("OIL", 0.0)
            ratio = sum(contents.values()) / oil if oil else math.inf
            assert ratio in (math.inf, pytest.approx(3.0))
            paint = Paint(contents, pigment_to_binder=ratio, density=row["density"])
            layer = paint.layer(row["thickness_um"])
            assert layer.density == row["density"]
            for element in set(row["elements"]) - {"C", "H", "O"}:
                assert layer.mass_fractions[element] == pytest.approx(row["elements"][element], rel=2e-3)
            by_volumes = Paint(contents, pigment_to_binder=ratio).layer(row["thickness_um"])
            assert by_volumes.density == pytest.approx(row["density"], rel=0.08)
            compared += 1
    assert compared >= 8


def test_no_binder() -> None:
    layer = Paint({"zinc white": 1.0}, pigment_to_binder=math.inf).layer(10.0)
    assert dict(layer.mass_fractions) == pytest.approx(mass_fractions("ZnO"))
    assert layer.density == pytest.approx(library()["zinc_white"].density)


def test_shares_need_no_scale_and_synonyms_add_up() -> None:
    first = Paint({"VM": 20.0, "vermilion": 20.0, "ZW": 60.0}).layer(10.0)
    second = Paint({"vermilion": 0.4, "zinc_white": 0.6}).layer(10.0)
    assert first.pigments == pytest.approx(dict(second.pigments))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"pigments": {"VM": -1.0, "ZW": 2.0}}, "must not be negative"),
        ({"pigments": {"VM": 0.0}}, "must not all be zero"),
        ({"pigments": {}}, "must not all be zero"),
        ({"pigments": {"VM": 1.0}, "pigment_to_binder": 0.0}, "0.0 g pigment per g binder"),
        ({"pigments": {"no such red": 1.0}}, "No pigment is called 'no such red'"),
    ],
)
def test_bad_paints_are_refused(arguments: dict, reason: str) -> None:  # type: ignore[type-arg]
    with pytest.raises(SampleError, match=reason):
        Paint(**arguments)


def test_a_zero_is_refused_and_not_replaced_by_a_default() -> None:
    with pytest.raises(SampleError, match=r"density is 0.0 g/cm3"):
        Paint({"VM": 1.0}, density=0.0).layer(10.0)
    with pytest.raises(SampleError, match=r"thickness is 0.0 um"):
        support_layer("canvas", 0.0)
    with pytest.raises(SampleError, match=r"thickness is 0.0 um"):
        coating_layer("dirt", 0.0)


def test_unknown_binder_is_refused() -> None:
    with pytest.raises(SampleError, match=r"No binder is called 'water'; there are .*linseed_oil"):
        Paint({"VM": 1.0}, binder="water").layer(10.0)


def test_shares_of_an_element() -> None:
    layer = Paint({"lead_white": 1.0, "chrome_yellow": 1.0, "vermilion": 1.0}).layer(10.0)
    shares = pigment_share(layer, "Pb")
    assert set(shares) == {"lead_white", "chrome_yellow"}
    assert sum(shares.values()) == pytest.approx(1.0)
    assert pigment_share(layer, "Zn") == {}
    # oxygen comes from the oil as well
    assert 0 < sum(pigment_share(layer, "O").values()) < 1.0


def test_shares_never_exceed_the_whole() -> None:
    pigments = {pigment.name: 1.0 for pigment in library()}
    layer = Paint(pigments).layer(10.0)
    for element in layer.mass_fractions:
        assert sum(pigment_share(layer, element).values()) <= 1.0 + 1e-9


def test_grounds_supports_and_coatings() -> None:
    chalk = ground_layer("chalk", 175.0)
    assert dict(chalk.mass_fractions) == pytest.approx(mass_fractions("CaCO3"))
    assert chalk.pigments == {"chalk": 1.0}
    assert support_layer("canvas").thickness_um == 500.0
    assert support_layer("canvas", 300.0).thickness_um == 300.0
    assert support_layer("copper_plate").mass_fractions["Cu"] == pytest.approx(1.0)
    assert not coating_layer("dammar_varnish").pigments
    for build, kind in ((support_layer, "support"), (coating_layer, "coating")):
        with pytest.raises(SampleError, match=f"No {kind} is called"):
            build("nowhere")
    with pytest.raises(SampleError, match="No ground is called"):
        ground_layer("nowhere", 100.0)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (({"Pb": 1.1, "O": -0.1}, 5.0, 10.0), "a mass fraction is negative"),
        (({"Pb": 0.9}, 5.0, 10.0), "sum to 0.9; they must sum to 1"),
        (({"Pb": float("nan")}, 5.0, 10.0), "not a number"),
        (({"Pb": 1.0}, 0.0, 10.0), "density is 0.0 g/cm3"),
        (({"Pb": 1.0}, 5.0, -3.0), "thickness is -3.0 um"),
        (({"Pb": 1.0}, 5.0, float("inf")), "thickness is inf um"),
    ],
)
def test_bad_layers_are_refused(arguments: tuple[dict[str, float], float, float], reason: str) -> None:
    with pytest.raises(SampleError, match=reason):
        Layer(*arguments)


def test_layers_cannot_be_changed_from_outside() -> None:
    fractions = {"Pb": 1.0}
    layer = Layer(fractions, 11.3, 10.0)
    fractions["Pb"] = 0.5
    assert layer.mass_fractions["Pb"] == 1.0
    with pytest.raises(TypeError):
        layer.mass_fractions["Pb"] = 0.5  # type: ignore[index]


def test_stratigraphy_needs_a_layer() -> None:
    with pytest.raises(SampleError, match="at least one"):
        Stratigraphy(())
