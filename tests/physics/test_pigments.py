"""The pigment library: complete, sourced, and honest about what it does not know."""

from pathlib import Path

import pytest

from underpaint.errors import SampleError
from underpaint.physics.materials import Pigment, library, load_palette, mass_fractions, palette_names, parse_formula

TABLE_1 = {
    "CrG": ("chrome oxide green", "Cr2O3"),
    "CrY": ("chrome yellow", "PbCrO4"),
    "CB": ("cobalt blue", "CoO.Al2O3"),
    "EG": ("emerald green", "Cu(CH3COO)2.3Cu(AsO2)2"),
    "IO": ("iron oxide", "Fe2O3"),
    "LW": ("lead white", "2PbCO3.Pb(OH)2"),
    "PB": ("Prussian blue", "Fe[Fe2(CN)6]3"),
    "RL": ("red lead", "Pb3O4"),
    "CM": ("carmine", "SnO2"),
    "VM": ("vermilion", "HgS"),
    "ZW": ("zinc white", "ZnO"),
    "VG": ("verdigris", "Cu(CH3COO)2.2Cu(OH)2"),
    "SA": ("sodium arsenite", "NaAsO2"),
}
"""Table 1 of Xu et al. 2022 with the two substitutes of its note b; chalk stands there without an abbreviation."""


@pytest.mark.parametrize("pigment", library(), ids=lambda pigment: pigment.name)
def test_every_pigment_is_sound(pigment: Pigment) -> None:
    for formula in pigment.components:
        parse_formula(formula)
    assert sum(pigment.components.values()) == pytest.approx(1.0, abs=0.01)
    assert sum(pigment.mass_fractions.values()) == pytest.approx(1.0)
    assert pigment.formula_source
    assert pigment.density_source
    assert 0.9 < pigment.density < 20.0
    for group in pigment.groups:
        assert library().group(group).element in pigment.mass_fractions


def test_library_holds_at_least_forty_pigments() -> None:
    assert len(library()) >= 40
    assert len({pigment.name for pigment in library()}) == len(library())


def test_names_are_not_shared() -> None:
    for pigment in library():
        for alias in (pigment.name, pigment.label, *pigment.synonyms):
            assert library()[alias].name == pigment.name, f"{alias!r} leads to another pigment"


@pytest.mark.parametrize("code", TABLE_1)
def test_table_1_is_present(code: str) -> None:
    label, formula = TABLE_1[code]
    pigment = library()[code]
    assert pigment.abbreviation == code
    assert library()[label] is pigment
    marker = next(iter(parse_formula(formula)))
    # lakes carry their metal on an organic base, the library's verdigris is the hydrated one, earths are mixtures
    if len(pigment.components) == 1 and code not in {"CM", "VG"}:
        assert pigment.mass_fractions[marker] == pytest.approx(mass_fractions(formula)[marker], rel=0.25)
    else:
        assert marker in pigment.mass_fractions


def test_chalk_is_calcium_carbonate() -> None:
    assert library()["calcium carbonate"].formula == "CaCO3"


def test_groups_have_members_and_families() -> None:
    for group in library().groups:
        assert library().members(group.name)
        assert group.key_families
        assert all(family.split("_")[0] == group.element for family in group.key_families)
    with pytest.raises(SampleError, match="No pigment group is called 'unobtainium'"):
        library().group("unobtainium")


def test_unknown_pigment_is_refused_with_near_names() -> None:
    with pytest.raises(SampleError, match=r"Did you mean .*lead_white"):
        library()["lead wite"]
    assert "lead wite" not in library()
    assert 3 not in library()


@pytest.mark.parametrize("name", palette_names())
def test_palettes_load(name: str) -> None:
    palette = load_palette(name)
    assert palette.name == name
    assert all(pigment in library() for pigment in palette.pigments)


def test_papers_palette_is_table_1() -> None:
    expected = {library()[code].name for code in TABLE_1} | {"chalk"}
    assert set(load_palette("xu2022").pigments) == expected


def test_a_users_palette_is_read(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\npigments = ["VM", "vermilion", "lead white"]\n', "utf-8")
    assert load_palette(path).pigments == ("vermilion", "lead_white")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("pigments = [", "not TOML"),
        ('name = "empty"\npigments = []', "needs a list"),
        ("pigments = [1]", "needs a list"),
        ('pigments = ["VM"]\n[[pigment]]\nname = "my_red"', "it has the unknown keys pigment; allowed are"),
        ('pigments = ["VM"]\npriors = { VM = 0.5 }', "unknown keys priors"),
        ('pigments = ["vermilon"]', r"Did you mean .*vermilion"),
    ],
)
def test_bad_palettes_are_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text, "utf-8")
    with pytest.raises(SampleError, match=reason):
        load_palette(path)


def test_missing_palette_names_those_there_are() -> None:
    with pytest.raises(SampleError, match="xu2022"):
        load_palette("nowhere")
