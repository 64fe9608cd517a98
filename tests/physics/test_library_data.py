"""The tables behind the library: sourced, consistent with the chemistry, and dense as their crystals."""

import json
import runpy
from importlib.resources import files
from pathlib import Path

import pytest

from underpaint.errors import SampleError
from underpaint.physics.atomic import atomic_weight
from underpaint.physics.materials import (
    Paint,
    Pigment,
    coating_layer,
    ground_layer,
    library,
    load_palette,
    mass_fractions,
    palette_names,
    parse_formula,
    pigment_to_binder_in_oil,
    support_layer,
)
from underpaint.physics.materials.library import data_table
from underpaint.physics.materials.paint import formula_fractions
from underpaint.simulate import outputs_for

ROOT = Path(__file__).resolve().parents[2]
AVOGADRO_PER_A3 = 0.602214
"""Avogadro's number times 1e-24 cm3: g/mol per cubic angstrom into g/cm3."""
SHOWS_FROM = 0.001
"""Mass fraction from which an element of a group has to be counted, or named as accessory."""

CELLS = {
    "aluminium_hydrate": (428.2, 8),
    "anhydrite": (305.3, 4),
    "antimony_white": (331.0, 4),
    "antlerite": (597.2, 4),
    "atacamite": (377.5, 4),
    "azurite": (302.9, 2),
    "barium_white": (346.8, 4),
    "barium_yellow": (370.4, 4),
    "bismuth_vanadate": (310.0, 4),
    "bismuth_white": (111.1, 2),
    "bone_white": (528.7, 2),
    "cadmium_yellow": (99.45, 2),
    "calomel": (218.8, 2),
    "carmine_lake": (71.5, 2),
    "celestine": (307.3, 4),
    "cerulean_blue": (645.0, 8),
    "cerussite": (270.1, 4),
    "chalk": (367.9, 6),
    "chrome_oxide_green": (289.5, 6),
    "chrome_yellow": (351.8, 4),
    "cobalt_blue": (532.2, 8),
    "cobalt_chromite_green": (578.6, 8),
    "cobalt_titanate_green": (602.9, 8),
    "cobalt_violet": (319.5, 2),
    "cobalt_violet_arsenate": (633.9, 2),
    "cobalt_yellow": (1144.0, 4),
    "conichalcite": (397.2, 4),
    "covellite": (203.3, 6),
    "dolomite": (320.7, 3),
    "egyptian_blue": (806.2, 4),
    "galena": (209.2, 4),
    "gypsum": (495.0, 4),
    "han_blue": (892.9, 4),
    "han_purple": (2220.0, 16),
    "huntite": (611.2, 3),
    "indigo": (579.0, 2),
    "iodine_scarlet": (237.6, 2),
    "iron_oxide_red": (302.7, 6),
    "jarosite": (793.8, 3),
    "kaolin": (329.0, 2),
    "lead_tin_yellow": (478.6, 4),
    "lead_white": (565.5, 3),
    "malachite": (364.3, 4),
    "manganese_black": (55.6, 2),
    "mars_black": (591.9, 8),
    "mars_yellow": (138.6, 4),
    "massicot": (153.8, 4),
    "mica": (934.0, 4),
    "mosaic_gold": (67.99, 1),
    "naples_yellow": (1124.9, 8),
    "orpiment": (467.7, 4),
    "phosgenite": (591.3, 4),
    "plattnerite": (83.06, 2),
    "prussian_blue": (1039.5, 1),
    "pseudomalachite": (437.8, 2),
    "realgar": (799.7, 4),
    "red_lead": (509.5, 4),
    "shell_white": (226.9, 4),
    "silica": (113.0, 3),
    "spinel_black": (282.9, 4),
    "stibnite": (487.7, 4),
    "strontium_yellow": (344.9, 4),
    "titanium_white": (62.4, 2),
    "titanium_white_anatase": (136.3, 4),
    "ultramarine": (753.6, 1),
    "verdigris_neutral": (1392.0, 8),
    "vermilion": (141.55, 3),
    "vivianite": (616.6, 2),
    "zinc_sulfide_white": (158.3, 4),
    "zinc_white": (47.6, 2),
}
"""Volume of the unit cell in cubic angstrom and formula units in it: cell constants of the handbooks, from memory."""
OUT_OF_PERIOD = {
    "turner": ["azurite"],  # stands for blue verditer, made long after the mineral had run out
    "easel_15_to_20": ["egyptian_blue"],  # was lost by then, but the default network answers it
    "every_group": ["egyptian_blue"],
}
LIGHTER = {
    "naples_yellow": "Artists' Pigments measured fired pigment, porous and seldom the pure pyrochlore",
    "cerulean_blue": "a maker's product with more tin oxide or extender than Co2SnO4 has",
}
"""Figures of the literature that stay far below the crystal, each with its reason."""


@pytest.mark.parametrize("pigment", library(), ids=lambda pigment: pigment.name)
def test_every_figure_of_a_pigment_has_its_source(pigment: Pigment) -> None:
    assert pigment.formula_source
    assert pigment.density_source
    assert pigment.period.source
    assert pigment.period.text
    assert bool(pigment.oil_absorption) == bool(pigment.oil_absorption_source)
    assert bool(pigment.loading) == bool(pigment.loading_source)
    assert 0 < (pigment.achievable_loading or 0) <= 1


@pytest.mark.parametrize("pigment", library(), ids=lambda pigment: pigment.name)
def test_groups_are_the_elements_that_show(pigment: Pigment) -> None:
    groups = {group.element: group.name for group in library().groups}
    strong = {element for element, share in pigment.mass_fractions.items() if share > SHOWS_FROM} & set(groups)
    counted = {library().group(name).element for name in pigment.groups}
    assert counted <= strong
    assert strong - counted == set(pigment.accessory)


def test_the_library_is_large_and_in_its_old_order() -> None:
    names = [pigment.name for pigment in library()]
    assert len(names) >= 80
    assert names[:3] == ["lead_white", "zinc_white", "titanium_white"]
    assert names[78] == "manganese_black"  # what came later stands behind


def test_no_name_or_synonym_is_given_twice() -> None:
    owner_of: dict[str, str] = {}
    for pigment in library():
        aliases = {pigment.name, pigment.label, pigment.abbreviation, *pigment.synonyms} - {""}
        for alias in {" ".join(name.casefold().replace("_", " ").replace("-", " ").split()) for name in aliases}:
            assert owner_of.setdefault(alias, pigment.name) == pigment.name, alias


def test_no_pigment_is_called_as_a_group() -> None:
    assert not {group.name for group in library().groups} & {pigment.name for pigment in library()}


@pytest.mark.parametrize("pigment", library(), ids=lambda pigment: pigment.name)
def test_periods_run_forward(pigment: Pigment) -> None:
    assert pigment.period.first is not None
    assert pigment.period.last is None or pigment.period.first <= pigment.period.last


@pytest.mark.parametrize("name", CELLS)
def test_densities_are_near_those_of_the_crystals(name: str) -> None:
    volume, units = CELLS[name]
    pigment = library()[name]
    (formula,) = pigment.components
    weight = sum(count * atomic_weight(element) for element, count in parse_formula(formula).items())
    crystal = units * weight / (volume * AVOGADRO_PER_A3)
    ratio = pigment.density / crystal
    # fine powders hold water and voids, and synthetic sulphides are partly amorphous: 15 % below, never far above
    assert (0.85 if name not in LIGHTER else 0.7) < ratio < 1.08, f"{pigment.density} against {crystal:.2f}"
    assert (ratio < 0.85) == (name in LIGHTER)


def test_the_default_network_answers_what_it_did() -> None:
    card = json.loads((files("underpaint.pigments.weights") / "data" / "default.json").read_text("utf-8"))
    outputs = outputs_for(load_palette("every_group").pigments).with_places()
    assert list(outputs.names) == card["names"]
    assert [list(groups) for groups in outputs.groups] == card["groups"]


@pytest.mark.parametrize("name", palette_names())
def test_palettes_have_a_source_and_fit_their_years(name: str) -> None:
    palette = load_palette(name)
    assert palette.source
    assert palette.label
    if palette.first is None or palette.last is None:
        return
    assert palette.first < palette.last
    late = [
        pigment for pigment in palette.pigments if not library()[pigment].period.overlaps(palette.first, palette.last)
    ]
    assert late == OUT_OF_PERIOD.get(name, [])


def test_painters_and_periods_are_both_there() -> None:
    palettes = [load_palette(name) for name in palette_names()]
    assert {palette.name for palette in palettes if palette.painter} >= {"gauguin", "rembrandt", "titian", "turner"}
    assert {"antiquity", "renaissance", "baroque"} <= {palette.name for palette in palettes if not palette.painter}


def test_a_users_palette_may_state_its_years(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('painter = "me"\nfirst = 2001\nlast = 2020\nsource = "box"\npigments = ["VM"]\n', "utf-8")
    palette = load_palette(path)
    assert (palette.painter, palette.first, palette.last, palette.source) == ("me", 2001, 2020, "box")
    path.write_text('first = "1900"\npigments = ["VM"]\n', "utf-8")
    with pytest.raises(SampleError, match="`first` and `last` are years"):
        load_palette(path)


@pytest.mark.parametrize("kind", ["binder", "coating", "drier", "ground", "support"])
def test_other_materials_are_sound_and_sourced(kind: str) -> None:
    rows = data_table(f"{kind}s")[kind]
    assert len({row["name"] for row in rows}) == len(rows)
    for row in rows:
        assert row["source"]
        if kind != "ground":
            parts = formula_fractions(row)
            assert sum(parts.values()) == pytest.approx(1.0)
            for formula in parts:
                parse_formula(formula)
    for row in rows:
        layer = {"coating": coating_layer, "support": support_layer}.get(kind)
        if layer is not None:
            assert layer(row["name"]).density == row["density"]
        if kind == "ground":
            assert ground_layer(row["name"], 100.0).density > 1.0
        if kind == "binder":
            assert 0.9 < row["density"] < 2.8
            assert Paint({"lead_white": 1.0}, binder=row["name"]).layer(10.0).mass_fractions["Pb"] > 0.5


def test_driers_bring_their_metal_and_no_pigment() -> None:
    plain = Paint({"zinc_white": 1.0}).layer(10.0)
    dried = Paint({"zinc_white": 1.0}, driers={"lead_drier": 0.004, "cobalt_drier": 0.001}).layer(10.0)
    assert dried.mass_fractions["Pb"] == pytest.approx(0.25 * 0.004)
    assert dried.mass_fractions["Co"] == pytest.approx(0.25 * 0.001)
    assert dried.mass_fractions["Zn"] == pytest.approx(plain.mass_fractions["Zn"])
    assert dried.pigments == plain.pigments
    assert "Pb" not in plain.mass_fractions


@pytest.mark.parametrize("drier", data_table("driers")["drier"], ids=lambda row: row["name"])
def test_usual_shares_of_driers_fit_into_the_oil(drier: dict) -> None:  # type: ignore[type-arg]
    least, most = drier["share"]
    assert 0 < least < most <= 0.01
    assert mass_fractions(drier["formula"])[drier["element"]] > most


@pytest.mark.parametrize(
    ("driers", "reason"),
    [({"lead_drier": -0.1}, "must not be negative"), ({"lead_drier": 0.9}, "must not exceed the binder")],
)
def test_impossible_driers_are_refused(driers: dict[str, float], reason: str) -> None:
    with pytest.raises(SampleError, match=reason):
        Paint({"zinc_white": 1.0}, driers=driers).layer(10.0)
    with pytest.raises(SampleError, match="No drier is called"):
        Paint({"zinc_white": 1.0}, driers={"salt": 0.1}).layer(10.0)


def test_oil_follows_from_the_oil_absorption() -> None:
    for name, oil in (("lead_white", 13), ("prussian_blue", 39)):
        ratio = pigment_to_binder_in_oil({name: 1.0})
        assert 100 / (1 + ratio) == pytest.approx(oil, abs=0.6)  # per cent by mass, as the rule's authors give it
    mixed = pigment_to_binder_in_oil({"LW": 3.0, "PB": 1.0}, factor=1.0)
    assert mixed == pytest.approx(100 / (0.75 * 10 + 0.25 * 45))


def test_the_rule_is_used_only_on_request() -> None:
    assert Paint({"prussian_blue": 1.0}).pigment_to_binder == 3.0


def test_stiffest_paste_is_the_achievable_loading() -> None:
    for pigment in library():
        if pigment.oil_absorption is not None and pigment.loading is None:
            ratio = pigment_to_binder_in_oil({pigment.name: 1.0}, factor=1.0)
            assert pigment.achievable_loading == pytest.approx(ratio / (1 + ratio))


@pytest.mark.parametrize(
    ("pigments", "factor", "reason"),
    [
        ({"gold_leaf": 1.0}, 1.45, "has no oil absorption"),
        ({"VM": 1.0}, 0.5, "below 1 the paint encloses air"),
        ({"VM": 0.0}, 1.45, "must not all be zero"),
        ({"VM": -1.0, "ZW": 2.0}, 1.45, "must not be negative"),
    ],
)
def test_paint_that_cannot_be_ground_is_refused(pigments: dict[str, float], factor: float, reason: str) -> None:
    with pytest.raises(SampleError, match=reason):
        pigment_to_binder_in_oil(pigments, factor=factor)


def test_rule_for_oil_is_right_within_its_stated_factors() -> None:
    """Published paints hold 1.7 to 2.3 times the oil absorption in the median; siennas, umbers, cobalt far more."""
    for maker in ("roberson", "winsor", "massey"):
        rows = [row for row in data_table("oil_shares")["paint"] if maker in row]
        ratios = sorted(row[maker] / (library()[row["pigment"]].oil_absorption or 1.0) for row in rows)
        assert len(rows) >= 15
        assert 1.45 < ratios[len(ratios) // 2] < 2.5


def test_page_of_the_pigments_shows_the_tables() -> None:
    page = ROOT / "docs" / "reference" / "pigments.md"
    assert page.read_text("utf-8") == runpy.run_path(str(ROOT / "tools" / "pigments_page.py"))["page"]()
