"""Energies by coefficients and lists: units by size, limits, curvature."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from underpaint.io import load
from underpaint.io._energies import axis_of_coefficients, axis_of_list, energy_unit, parse_number

CHANNELS = st.sampled_from([512, 1024, 2048, 4096])
REACH_KEV = st.floats(15.0, 150.0)
ZERO_KEV = st.floats(-1.0, 0.5)


@given(n_channel=CHANNELS, reach_kev=REACH_KEV, zero_kev=ZERO_KEV, scale=st.sampled_from([1.0, 1000.0]))
def test_kev_and_ev_are_distinguished_by_size(n_channel: int, reach_kev: float, zero_kev: float, scale: float) -> None:
    gain_kev = reach_kev / n_channel
    by_line, _ = axis_of_coefficients((zero_kev * scale, gain_kev * scale), n_channel)
    energies = scale * (zero_kev + gain_kev * np.arange(n_channel, dtype=np.float64))
    by_list, notes = axis_of_list(energies, n_channel)
    for axis in (by_line, by_list):
        assert axis is not None
        assert [axis.gain_kev, axis.zero_kev] == pytest.approx([gain_kev, zero_kev], abs=1e-9)
    assert any("read as eV" in note for note in notes) == (scale == 1000.0)


@pytest.mark.parametrize(
    ("coefficients", "unit", "gain_kev"),
    [
        ((0.0, 80.0, 0.0), "", 0.08),
        ((0.0, 80.0), "ev", 0.08),
        ((0.0, 5.0), "ev", 0.005),
        ((0.0, 2e-5), "mev", 0.02),
        ((0.0, 0.08), "kev", 0.08),
    ],
)
def test_units(coefficients: tuple[float, ...], unit: str, gain_kev: float) -> None:
    axis, _ = axis_of_coefficients(coefficients, 512, unit)
    assert axis is not None
    assert axis.gain_kev == pytest.approx(gain_kev)


@pytest.mark.parametrize(
    ("coefficients", "unit"),
    [((0.0, 80.0), "kev"), ((0.0, 0.9), "kev"), ((0.0, -0.02), ""), ((0.0, 1e9), ""), ((-90.0, 0.02), "kev")],
)
def test_an_axis_that_cannot_be_is_left_out_with_a_note(coefficients: tuple[float, ...], unit: str) -> None:
    axis, notes = axis_of_coefficients(coefficients, 512, unit)
    assert axis is None
    assert "energy calibration ignored" in notes[0]
    assert "underpaint calibrate" in notes[0]


@pytest.mark.parametrize("coefficients", [(0.0, 1.0, 0.0), (0.0, 0.0), (-0.5, 1.0)])
def test_placeholders_are_no_axis(coefficients: tuple[float, ...]) -> None:
    assert axis_of_coefficients(coefficients, 512) == (None, ("no energy calibration in the file",))
    assert axis_of_list(np.arange(512.0), 512)[0] is None


@pytest.mark.parametrize(("curvature_ev", "straight"), [(3.0, True), (80.0, False)])
def test_a_slight_curve_is_read_as_a_line_and_a_strong_one_is_not(curvature_ev: float, straight: bool) -> None:
    n_channel = 2048
    quadratic = 8e-3 * curvature_ev / n_channel**2
    axis, notes = axis_of_coefficients((-0.1, 0.02, quadratic), n_channel)
    energy = -0.1 + 0.02 * np.arange(n_channel) + quadratic * np.arange(n_channel) ** 2
    listed, _ = axis_of_list(energy, n_channel, "kev")
    assert (axis is not None, listed is not None) == (straight, straight)
    assert ("linear axis" in notes[0]) is True
    if axis is not None:
        assert np.abs(axis.energy_kev - energy).max() < 0.005


def test_rounded_energies_are_even() -> None:
    axis, _ = axis_of_list(np.round(-0.01 + 0.01463 * np.arange(2048), 2), 2048, "kev")
    assert axis is not None
    assert axis.gain_kev == pytest.approx(0.01463, rel=2e-4)
    assert axis.zero_kev == pytest.approx(-0.01, abs=0.005)


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("Energy (keV)", "kev"),
        ("eV", "ev"),
        ("KEV", "kev"),
        ("energy_ev", "ev"),
        ("level", ""),
        ("MeV", "mev"),
        ("", ""),
    ],
)
def test_units_in_words(text: str, unit: str) -> None:
    assert energy_unit(text) == unit


@pytest.mark.parametrize(("text", "value"), [("0,02", 0.02), (" 1.00000E+006", 1e6), ("x", None), ("nan", None)])
def test_numbers_in_words(text: str, value: float | None) -> None:
    assert parse_number(text) == value


@pytest.mark.parametrize("kind", ["energies", "polynomial", "npz", "zarr", "hspy"])
def test_every_container_says_that_it_took_energies_for_ev(tmp_path: Path, kind: str) -> None:
    counts = np.random.default_rng(0).poisson(3.0, (6, 8, 512)).astype("u2")
    energy_ev = -100.0 + 20 * np.arange(512)
    path = tmp_path / f"a.{kind if kind in {'npz', 'zarr', 'hspy'} else 'h5'}"
    if kind == "npz":
        np.savez(path, counts=counts, energy=energy_ev)
    elif kind == "zarr":
        root = pytest.importorskip("zarr", reason="zarr is not installed").create_group(path)
        root.create_array("counts", data=counts)
        root.create_array("energy", data=energy_ev)
    else:
        with h5py.File(path, "w") as file:
            if kind == "hspy":
                file["Experiments/map/data"] = counts
                for index, (size, scale, zero) in enumerate(((6, 1.0, 0.0), (8, 1.0, 0.0), (512, 20.0, -100.0))):
                    group = file.create_group(f"Experiments/map/axis-{index}")
                    group.attrs.update({"size": size, "scale": scale, "offset": zero, "navigate": index < 2})
            else:
                file["entry/counts"] = counts
                file["entry/energy" if kind == "energies" else "entry/calibration"] = (
                    energy_ev if kind == "energies" else [-100.0, 20.0, 0.0]
                )
    scan = load(path)
    assert scan.axis is not None
    assert (scan.axis.gain_kev, scan.axis.zero_kev) == pytest.approx((0.02, -0.1))
    assert sum("read as eV, which their values suggest" in note for note in scan.notes) == 1
