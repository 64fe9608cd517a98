"""Atomic data: known energies, sums, edges, and agreement with fisx."""

import numpy as np
import pytest
import xraylib

from underpaint.errors import SampleError
from underpaint.physics.atomic import (
    SHELLS,
    atomic_number,
    atomic_tables,
    atomic_weight,
    compound_attenuation,
    compton_energy,
    differential_scatter,
    edge_energy,
    family_lines,
    line_table,
    mass_attenuation,
    profile_integrals,
    profile_mixture,
    scattering_momentum,
    symbol,
)

CLASSICAL_RADIUS_CM = 2.8179403e-13
AVOGADRO = 6.02214076e23


@pytest.mark.parametrize(
    ("line", "energy_kev"),
    [
        ("Fe-KL3", 6.404),
        ("Ca-KL3", 3.692),
        ("Cu-KL3", 8.048),
        ("Zn-KL3", 8.639),
        ("Sn-KL3", 25.271),
        ("Pb-L3M5", 10.551),
        ("Pb-L2M4", 12.614),
        ("Hg-L3M5", 9.989),
        ("Pb-M5N7", 2.345),
    ],
)
def test_known_line_energies(line: str, energy_kev: float) -> None:
    lines = line_table([line.partition("-")[0]])
    # merged lines bear the strongest one's name and stand at their mean
    assert lines.energy_kev[lines.name.index(line)] == pytest.approx(energy_kev, abs=0.011)


def test_symbols_and_weights() -> None:
    assert symbol(atomic_number("Pb")) == "Pb"
    assert atomic_weight("Pb") == pytest.approx(207.2, abs=0.1)
    with pytest.raises(SampleError, match="No element has the symbol 'Xx'"):
        atomic_number("Xx")


@pytest.mark.parametrize(("element", "shell"), [("Fe", "K"), ("Sn", "K"), ("Sn", "L"), ("Pb", "L"), ("Hg", "M")])
def test_family_lines_sum_to_one(element: str, shell: str) -> None:
    energy, share = family_lines(element, shell)
    assert share.sum() == pytest.approx(1.0)
    assert share.min() > 0
    assert energy.max() < edge_energy(atomic_number(element), SHELLS.index(f"{shell}1" if shell != "K" else "K"))


def test_family_beyond_the_voltage_is_empty() -> None:
    energy, share = family_lines("Pb", "K", 40.0)
    assert energy.size == share.size == 0


def test_voltage_between_the_l_edges_leaves_only_the_lower_shells() -> None:
    below_l1 = family_lines("Pb", "L", 13.5)[0]
    all_lines = family_lines("Pb", "L", 40.0)[0]
    assert 0 < below_l1.size < all_lines.size


def test_k_beta_share_of_iron() -> None:
    """Fe K-beta over K-alpha is 0.135 (Scofield 1974) to 0.14 (measured)."""
    energy, share = family_lines("Fe", "K")
    assert share[energy > 6.8].sum() / share[energy < 6.8].sum() == pytest.approx(0.137, abs=0.01)


def test_no_line_without_its_edge() -> None:
    energies = np.linspace(1.0, 20.0, 77)
    tables = atomic_tables(["Fe", "Pb", "Sn", "Hg", "Ca"], energies)
    for row, number, shell in zip(tables.production, tables.lines.atomic_number, tables.lines.shell, strict=True):
        assert np.all(row[energies <= edge_energy(int(number), int(shell))] == 0)
    assert np.all(tables.production >= 0)
    assert "Sn_K" not in tables.lines.family
    assert "Sn_L" in tables.lines.family


def test_rates_of_a_shell_stay_below_one() -> None:
    lines = line_table(["Fe", "Pb", "Sn"])
    for number in set(lines.atomic_number):
        for shell in set(lines.shell):
            assert lines.rate[(lines.atomic_number == number) & (lines.shell == shell)].sum() <= 1.0 + 1e-6


def test_production_is_less_than_attenuation() -> None:
    energies = np.linspace(2.0, 40.0, 39)
    tables = atomic_tables(["Fe"], energies)
    assert np.all(tables.production.sum(axis=0) < tables.mass_attenuation[0])


def test_line_production_is_production_at_the_lines() -> None:
    tables = atomic_tables(["Fe", "Cu"], np.asarray([20.0]))
    lines = tables.lines
    iron, copper = lines.name.index("Fe-KL3"), lines.name.index("Cu-KL3")
    assert tables.line_production[iron, copper] > 0
    assert tables.line_production[copper, iron] == 0


def test_attenuation_agrees_with_fisx() -> None:
    """Kissel's photoelectric cross sections lie within 4 % of fisx's; plain ``CS_Total`` is 4-13 % off for Cr."""
    pytest.importorskip("fisx")
    from fisx import DataDir, Elements

    data = Elements(DataDir.FISX_DATA_DIR)
    data.initializeAsPyMca()
    energies = np.asarray([5.0, 6.4, 7.2, 8.6, 10.5, 12.6, 16.0, 20.2, 25.3, 30.0, 38.0])
    elements = "H Be C N O Na Mg Al Ca Cr Fe Cu Zn As Sr Sn Ba Hg Pb"
    for element in elements.split():
        near_edge = [abs(energies - edge_energy(atomic_number(element), shell)).min() < 0.05 for shell in range(4)]
        assert not any(near_edge)
        theirs = np.asarray(data.getMassAttenuationCoefficients(element, list(energies))["total"])
        np.testing.assert_allclose(mass_attenuation(element, energies), theirs, rtol=0.04, err_msg=element)


@pytest.mark.parametrize(
    ("element", "energy_kev", "attenuation"),
    [("Be", 5.0, 4.369), ("Be", 8.0, 1.124), ("C", 10.0, 2.373), ("C", 20.0, 0.442), ("O", 20.0, 0.8651)],
)
def test_attenuation_of_light_elements(element: str, energy_kev: float, attenuation: float) -> None:
    """NIST (Hubbell & Seltzer 1995). Kissel's tables have no photoelectric effect left here."""
    assert mass_attenuation(element, np.asarray([energy_kev]))[0] == pytest.approx(attenuation, rel=0.01)


def test_mixture_attenuates_by_mass() -> None:
    energies = np.asarray([5.0, 10.0])
    mixed = compound_attenuation({"Pb": 0.25, "O": 0.75}, energies)
    expected = 0.25 * mass_attenuation("Pb", energies) + 0.75 * mass_attenuation("O", energies)
    np.testing.assert_allclose(mixed, expected)


@pytest.mark.parametrize("angle", [30.0, 90.0, 120.0, 180.0])
def test_compton_energy_closed_form(angle: float) -> None:
    """The wavelength grows by h / (m c) (1 - cos theta) = 0.0242631 Angstrom (1 - cos theta)."""
    energy = np.asarray([5.0, 20.216, 40.0])
    wavelength = 12.398420 / energy + 0.02426310 * (1.0 - np.cos(np.radians(angle)))
    np.testing.assert_allclose(compton_energy(energy, angle), 12.398420 / wavelength, rtol=1e-6)


def test_profiles_are_those_of_xraylib() -> None:
    """Mixed from five, every element's electrons lie within 1 % of their number where Biggs 1975 has them."""
    momentum = np.asarray([0.0, 0.3, 1.0, 3.0, 10.0])
    for name in ("C", "O", "Ca", "Fe", "Pb"):
        number = atomic_number(name)
        grid = np.linspace(0.0, 100.0, 20001)
        profile = np.asarray([xraylib.ComptonProfile(number, value) for value in grid])
        below = np.concatenate([[0.0], np.cumsum((profile[1:] + profile[:-1]) / 2.0)])
        expected = 0.5 * np.interp(momentum, grid, below) / below[-1]
        ours = profile_mixture([name])[0] @ profile_integrals(momentum)
        np.testing.assert_allclose(ours, expected, atol=0.01)


def test_an_electron_at_rest_gives_comptons_energy() -> None:
    energy = np.asarray([5.0, 20.0])
    np.testing.assert_allclose(scattering_momentum(energy, compton_energy(energy, 110.0), 110.0), 0.0, atol=1e-9)


def test_scatter_lies_below_the_free_electron() -> None:
    """Compton scatter is bounded by Klein-Nishina, coherent by Thomson's on all electrons in phase."""
    energy, angle = np.asarray([10.0, 20.0, 35.0]), 120.0
    coherent, compton = (table[0, :, 0] for table in differential_scatter(["O"], energy, [angle]))
    cosine, ratio = np.cos(np.radians(angle)), compton_energy(energy, angle) / energy
    electrons = 8 * AVOGADRO / atomic_weight("O")
    klein_nishina = 0.5 * CLASSICAL_RADIUS_CM**2 * ratio**2 * (ratio + 1 / ratio - 1 + cosine**2)
    assert np.all(compton < electrons * klein_nishina * 1.001)
    thomson = 0.5 * CLASSICAL_RADIUS_CM**2 * (1 + cosine**2)
    assert np.all(coherent < 8 * electrons * thomson)
    assert np.all(compton > 0.7 * electrons * klein_nishina)
