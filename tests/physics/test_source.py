"""The tube: range, lines of the anode, filters, air."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from underpaint.errors import FormulaError, InstrumentError
from underpaint.physics.atomic import atomic_number, edge_energy, family_lines
from underpaint.physics.forward import SourceSettings, source_settings, source_spectrum, source_weights
from underpaint.physics.forward.source import air_transmission, filter_transmission
from underpaint.physics.instrument import (
    Filter,
    Geometry,
    Instrument,
    Optic,
    SourceSpectrum,
    Tube,
    read_source_spectrum,
)


@pytest.mark.parametrize("anode", ["Rh", "Ag", "Mo", "W", "Pd", "Cu", "Au", "Cr"])
def test_spectrum_ends_at_the_voltage_and_has_lines(anode: str) -> None:
    energy, weight, width = source_spectrum(Instrument(tube=Tube(anode=anode, voltage_kv=40.0)))
    assert np.all(np.diff(energy) >= 0)
    assert energy.max() < 40.0
    assert np.all(weight > 0)
    assert (width == 0).any()
    assert (width > 0).any()


def test_tungsten_shines_with_l_lines_at_40_kv() -> None:
    energy, weight, width = source_spectrum(Instrument(tube=Tube(anode="W", voltage_kv=40.0)))
    assert energy[width == 0].max() < 13.0
    alpha = (width == 0) & (np.abs(energy - 8.398) < 0.03)
    assert weight[alpha].sum() > 0.01 * weight.sum()


def test_no_line_above_the_voltage() -> None:
    energy, _, width = source_spectrum(Instrument(tube=Tube(anode="Rh", voltage_kv=20.0)))
    # Rh K needs 23.22 kV
    assert energy[width == 0].max() < 4.0


def test_more_voltage_gives_more_photons() -> None:
    totals = [source_spectrum(Instrument(tube=Tube(voltage_kv=kilovolt)))[1].sum() for kilovolt in (20.0, 30.0, 50.0)]
    assert totals == sorted(totals)


def test_filters_and_air_only_take_away() -> None:
    plain = Instrument(geometry=Geometry(source_air_cm=0.0))
    sheet = Filter(formula="Al", density=2.70, thickness_um=100.0)
    energy, weight, _ = source_spectrum(plain)
    filtered = source_spectrum(plain.model_copy(update={"filters": (sheet,)}))
    np.testing.assert_allclose(filtered[1], weight * filter_transmission(sheet, energy))
    aired = source_spectrum(plain.model_copy(update={"geometry": Geometry(source_air_cm=5.0)}))
    np.testing.assert_allclose(aired[1], weight * air_transmission(5.0, energy))


def test_known_transmissions() -> None:
    """NIST (Hubbell & Seltzer 1995): Al at 10 keV 26.23 cm2/g, air at 5 keV 40.27 cm2/g."""
    sheet = Filter(formula="Al", density=2.699, thickness_um=100.0)
    assert filter_transmission(sheet, np.asarray([10.0]))[0] == pytest.approx(np.exp(-26.23 * 2.699e-2), rel=0.02)
    assert air_transmission(1.0, np.asarray([5.0]))[0] == pytest.approx(np.exp(-40.27 * 0.001205), rel=0.01)


def test_opaque_filter_is_refused() -> None:
    blocked = Instrument(filters=(Filter(formula="Pb", density=11.3, thickness_um=1e5),))
    with pytest.raises(InstrumentError, match="no photon of 'custom' passes"):
        source_spectrum(blocked)


@given(anode=st.sampled_from(["Cr", "Cu", "Mo", "Rh", "Pd", "Ag", "W", "Au"]), voltage=st.floats(10.0, 60.0))
@settings(max_examples=60)
def test_every_tube_has_the_lines_that_its_voltage_excites(anode: str, voltage: float) -> None:
    energy, weight, width = source_spectrum(Instrument(tube=Tube(anode=anode, voltage_kv=voltage)))
    assert np.all(np.isfinite(weight))
    assert np.all(weight > 0)
    number, lines = atomic_number(anode), energy[width == 0]
    for shell, name in ((0, "K"), (3, "L")):
        strongest = family_lines(anode, name, 100.0)
        if strongest[0].size == 0:
            continue
        place = strongest[0][strongest[1].argmax()]
        # soft lines do not leave the window; just above its edge a line is too weak to keep
        if place > 2.5 and voltage > 1.05 * edge_energy(number, shell):
            assert np.abs(lines - place).min() < 1e-6
        if voltage < edge_energy(number, shell):
            assert not np.any(np.abs(lines - place) < 1e-6)


def test_voltage_moves_the_spectrum_smoothly() -> None:
    """Bins end at the voltage: a hundredth of a kilovolt changes no sum by more than a thousandth."""
    totals = [source_spectrum(Instrument(tube=Tube(voltage_kv=kv)))[1].sum() for kv in np.arange(35.0, 35.5, 0.01)]
    assert np.abs(np.diff(totals) / totals[0]).max() < 1e-3


FILTERED = Instrument(tube=Tube(voltage_kv=35.0), filters=(Filter(formula="Al", density=2.70, thickness_um=80.0),))


@pytest.mark.parametrize("name", [*SourceSettings.__dataclass_fields__])
def test_derivatives_to_the_settings(name: str) -> None:
    """Autograd against central differences on the same energies."""
    torch = pytest.importorskip("torch", reason="torch comes with the extra underpaint[train]")
    plain = source_settings(FILTERED)
    at = plain.filters_um[0] if name == "filters_um" else getattr(plain, name)
    photons = torch.asarray(np.random.default_rng(2).uniform(0.0, 1e-9, source_spectrum(FILTERED)[0].size))

    def total(value: Any) -> Any:
        changed = replace(plain, **{name: (value,) if name == "filters_um" else value})
        return (source_weights(FILTERED, changed) * photons).sum()

    variable = torch.tensor(at, dtype=torch.float64, requires_grad=True)
    total(variable).backward()
    step = 1e-5 * at
    sides = [float(total(torch.tensor(at + way * step, dtype=torch.float64))) for way in (-1, 1)]
    assert float(variable.grad) == pytest.approx((sides[1] - sides[0]) / (2.0 * step), rel=1e-5)


@pytest.mark.parametrize(
    "changed",
    [
        {"voltage_kv": 4.0},
        {"voltage_kv": float("nan")},
        {"takeoff_angle_deg": 0.0},
        {"electron_angle_deg": 91.0},
        {"window_um": -1.0},
        {"filters_um": (-1.0,)},
        {"air_cm": float("inf")},
    ],
)
def test_impossible_drives_are_refused(changed: dict[str, Any]) -> None:
    with pytest.raises(InstrumentError, match=f"Cannot use {next(iter(changed))}"):
        source_weights(FILTERED, replace(source_settings(FILTERED), **changed))


@pytest.mark.parametrize("anode", ["Cr", "Cu", "Mo", "Rh", "Pd", "Ag", "W", "Au"])
def test_every_entry_grows_steadily_with_the_voltage(anode: str) -> None:
    """On the bins of 60 kV: across every edge of the anode, and where the voltage enters a bin, nothing leaps."""
    instrument = Instrument(tube=Tube(anode=anode, voltage_kv=60.0))
    energy, _, width = source_spectrum(instrument)
    rows = np.stack(
        [
            source_weights(instrument, replace(source_settings(instrument), voltage_kv=kv))
            for kv in np.arange(10.0, 60.0, 0.1)
        ]
    )
    assert np.all(np.isfinite(rows))
    assert np.all(rows >= 0)
    leaps = np.abs(np.diff(rows, axis=0)).max(axis=0) / rows.max(axis=0)
    # a tenth of a kilovolt of fifty: lines and bins reach their full weight over many kilovolts
    assert leaps[width == 0].max() < 0.02
    assert leaps[(width > 0) & (energy < 50.0)].max() < 0.03


def of_foil(thickness_um: float) -> tuple[Any, Any]:
    tube = Tube(anode="Ag", voltage_kv=30.0, target_um=thickness_um, electron_angle_deg=90.0, takeoff_angle_deg=90.0)
    return source_spectrum(Instrument(tube=tube))[:2]


def test_photons_of_a_thin_target_grow_with_its_thickness() -> None:
    np.testing.assert_allclose(of_foil(2e-4)[1] / of_foil(1e-4)[1], 2.0, rtol=1e-3)


def test_target_deeper_than_the_electrons_go_only_absorbs() -> None:
    (energy, weight), (other, behind) = of_foil(6.0), of_foil(8.0)
    common = np.isin(energy, other)
    transmission = filter_transmission(Filter(formula="Ag", density=10.5, thickness_um=2.0), energy[common])
    np.testing.assert_allclose(behind / weight[common], transmission, rtol=2e-3)


def test_optic_multiplies_the_source() -> None:
    energy, weight, _ = source_spectrum(Instrument())
    optic = Optic(energy_kev=(5.0, 20.0), transmission=(1.0, 0.1))
    through = source_spectrum(Instrument(optic=optic))[1]
    np.testing.assert_allclose(through / weight, np.interp(energy, [5.0, 20.0], [1.0, 0.1]))


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"energy_kev": (5.0, 4.0), "transmission": (1.0, 1.0)}, "increase"),
        ({"energy_kev": (5.0, 6.0), "transmission": (1.0,)}, "at least 2"),
        ({"energy_kev": (5.0, 6.0), "transmission": (1.0, -1.0)}, "negative"),
        ({"energy_kev": (-5.0, 6.0), "transmission": (1.0, 1.0)}, "positive"),
        ({"energy_kev": (5.0, 6.0), "transmission": (1.0, float("nan"))}, "finite"),
        ({"energy_kev": (5.0, 6.0), "transmission": (1.0, 1.0, 1.0)}, "equal"),
    ],
)
def test_impossible_optics_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Optic(**fields)


def test_tabulated_source_from_a_file(tmp_path: Path) -> None:
    path = tmp_path / "source.csv"
    path.write_text("# measured\nenergy_kev,photons,width_kev\n10.0,5.0,0.5\n10.5,4.0,0.5\n20.2,7.0,0\n", "utf-8")
    spectrum = read_source_spectrum(path)
    energy, weight, width = source_spectrum(Instrument(source_spectrum=spectrum, geometry=Geometry(source_air_cm=0.0)))
    assert energy.tolist() == [10.0, 10.5, 20.2]
    assert weight.tolist() == [5.0, 4.0, 7.0]
    assert width.tolist() == [0.5, 0.5, 0.0]


@pytest.mark.parametrize("text", ["", "10,x\n11,2\n", "10 1\n11\n", "1 2 3 4\n", "10 -1\n", "nan 1\n"])
def test_broken_tables_are_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "source.txt"
    path.write_text("10 1\n" + text if text[:1] in {"n"} else text, "utf-8")
    with pytest.raises(InstrumentError, match="Cannot"):
        read_source_spectrum(path)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"anode": "Xx"}, "No element has the symbol 'Xx'"),
        ({"anode": "He"}, "use one from Ti to U"),
        ({"voltage_kv": 4.9}, "greater than or equal to 5"),
        ({"voltage_kv": 101.0}, "less than or equal to 100"),
        ({"voltage_kv": float("nan")}, "finite"),
        ({"takeoff_angle_deg": 0.0}, "greater than 0"),
        ({"electron_angle_deg": 91.0}, "less than or equal to 90"),
        ({"target_um": 0.0}, "greater than 0"),
    ],
)
def test_impossible_tubes_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Tube(**fields)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"density": 0.0}, "greater than 0"),
        ({"density": 50.0}, "less than or equal to 23"),
        ({"thickness_um": -1.0}, "greater than or equal to 0"),
        ({"thickness_um": float("inf")}, "finite"),
    ],
)
def test_impossible_filters_are_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        Filter(**{"formula": "Al", "density": 2.7, "thickness_um": 10.0, **fields})


def test_filter_of_no_element_is_refused() -> None:
    with pytest.raises(FormulaError, match="expected an element's symbol"):
        source_spectrum(Instrument(filters=(Filter(formula="Zz", density=1.0, thickness_um=1.0),)))


def test_energies_beyond_the_tables_are_refused() -> None:
    with pytest.raises(ValidationError, match="an energy is 1000 keV; the tables of cross sections end at 200 keV"):
        SourceSpectrum(energy_kev=(20.0, 1000.0), weight=(1.0, 1.0))


def test_overlapping_bins_are_refused() -> None:
    with pytest.raises(ValidationError, match=r"bins about 10 and 10\.5 keV overlap"):
        SourceSpectrum(energy_kev=(10.0, 10.5), weight=(1.0, 1.0), width_kev=(1.0, 1.0))
    SourceSpectrum(energy_kev=(10.0, 10.5, 10.6), weight=(1.0, 1.0, 1.0), width_kev=(0.5, 0.5, 0.0))
