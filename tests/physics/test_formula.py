"""Formulas: known atoms and masses, faults with their place, and a round trip of generated formulas."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from underpaint.errors import FormulaError
from underpaint.physics.materials import mass_fractions, parse_formula
from underpaint.physics.materials.library import mix_elements


@pytest.mark.parametrize(
    ("formula", "atoms"),
    [
        ("ZnO", {"Zn": 1, "O": 1}),
        ("CaSO4.2H2O", {"Ca": 1, "S": 1, "O": 6, "H": 4}),
        ("CaSO4·2H2O", {"Ca": 1, "S": 1, "O": 6, "H": 4}),
        ("CaSO4*2H2O", {"Ca": 1, "S": 1, "O": 6, "H": 4}),
        ("2PbCO3.Pb(OH)2", {"Pb": 3, "C": 2, "O": 8, "H": 2}),
        ("Fe4[Fe(CN)6]3.14H2O", {"Fe": 7, "C": 18, "N": 18, "H": 28, "O": 14}),
        ("Cu(CH3COO)2.3Cu(AsO2)2", {"Cu": 4, "C": 4, "H": 6, "O": 16, "As": 6}),
        ("Fe1.5(OH)3", {"Fe": 1.5, "O": 3, "H": 3}),
        ("MgCl2·6(H2O)", {"Mg": 1, "Cl": 2, "H": 12, "O": 6}),
        ("Pb2SnSbO6.5", {"Pb": 2, "Sn": 1, "Sb": 1, "O": 6.5}),
        (" HgS ", {"Hg": 1, "S": 1}),
        ("Pb(Sn0.5Si0.5)O3", {"Pb": 1, "Sn": 0.5, "Si": 0.5, "O": 3}),
        ("CaSO4·0.5H2O", {"Ca": 1, "S": 1, "O": 4.5, "H": 1}),
        ("1.5PbO", {"Pb": 1.5, "O": 1.5}),
        ("[(Pb)2(OH)]2", {"Pb": 4, "O": 2, "H": 2}),
    ],
)
def test_known_atoms(formula: str, atoms: dict[str, float]) -> None:
    assert parse_formula(formula) == pytest.approx(atoms)


@pytest.mark.parametrize(
    ("formula", "element", "fraction"),
    [("PbCO3", "Pb", 0.7754), ("HgS", "Hg", 0.8622), ("Fe2O3", "Fe", 0.6994), ("CaCO3", "Ca", 0.4004)],
)
def test_known_mass_fractions(formula: str, element: str, fraction: float) -> None:
    assert mass_fractions(formula)[element] == pytest.approx(fraction, abs=2e-4)


@pytest.mark.parametrize(
    ("formula", "place", "reason"),
    [
        ("Pb(OH2", 3, "not closed"),
        ("PbOH)2", 5, "never opened"),
        ("PbXq3", 3, "expected an element's symbol"),
        ("Pb0O", 3, "count of zero"),
        ("Pb(OH]2", 3, "not closed"),
        ("Pb..O", 4, "expected an element"),
        ("CaSO4.0.5H2O", 5, "write '·' between the parts"),
        ("CaSO4.0H2O", 7, "count of zero"),
        ("0PbO", 1, "count of zero"),
        ("pb", 1, "expected an element's symbol"),
        ("Pb()2", 4, "expected an element"),
    ],
)
def test_faults_point_at_their_place(formula: str, place: int, reason: str) -> None:
    with pytest.raises(FormulaError, match=reason) as caught:
        parse_formula(formula)
    message = str(caught.value)
    assert f"at character {place}:" in message
    shown, caret = message.splitlines()[-2:]
    assert shown.strip() == formula
    assert caret.index("^") - 2 == place - 1


def test_empty_formula() -> None:
    with pytest.raises(FormulaError, match="empty formula"):
        parse_formula("  ")


ELEMENTS = st.sampled_from(["H", "C", "N", "O", "S", "Ca", "Cr", "Co", "Fe", "Cu", "As", "Sn", "Hg", "Pb"])
COUNTS = st.integers(1, 20)
GROUPS = st.lists(st.tuples(ELEMENTS, COUNTS), min_size=1, max_size=3)


@st.composite
def formulas(draw: st.DrawFn) -> tuple[str, dict[str, float]]:
    """A formula of one or two parts with brackets, and the atoms that it was written from."""
    text, atoms = [], dict[str, float]()
    for _ in range(draw(st.integers(1, 2))):
        factor = draw(COUNTS)
        part = "" if factor == 1 else str(factor)
        for group in draw(st.lists(GROUPS, min_size=1, max_size=3)):
            count = draw(COUNTS)
            inner = "".join(f"{element}{'' if number == 1 else number}" for element, number in group)
            part += f"({inner}){'' if count == 1 else count}" if count > 1 else inner
            for element, number in group:
                atoms[element] = atoms.get(element, 0.0) + factor * count * number
        text.append(part)
    # a dot before "2(" would be a decimal point by the documented rule; the raised one is not
    return "·".join(text), atoms


@given(formulas())
@settings(max_examples=150)
def test_round_trip(case: tuple[str, dict[str, float]]) -> None:
    formula, atoms = case
    assert parse_formula(formula) == pytest.approx(atoms)
    assert sum(mass_fractions(formula).values()) == pytest.approx(1.0)


def test_mixture_is_linear_in_mass() -> None:
    mixed = mix_elements({"ZnS": 0.29, "BaSO4": 0.71})
    expected = 0.29 * mass_fractions("ZnS")["S"] + 0.71 * mass_fractions("BaSO4")["S"]
    assert mixed["S"] == pytest.approx(expected)
    assert sum(mixed.values()) == pytest.approx(1.0)
