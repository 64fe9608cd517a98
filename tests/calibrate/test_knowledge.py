"""What is known of an instrument: given, else in the scan's file, else found in its lines."""

from typing import Any

import numpy as np
import pytest

from underpaint.calibrate import Beam, Calibration, calibrated_instrument, contradiction, merge_knowledge
from underpaint.data import EnergyAxis, Scan
from underpaint.physics.instrument import Detector, Filter, Geometry, Instrument, SourceSpectrum, Tube, load_instrument
from underpaint.simulate.instrument_inputs import INSTRUMENT_INPUTS, InstrumentConditions

GIVEN = Instrument(
    name="ours",
    tube=Tube(anode="Mo", voltage_kv=45.0),
    filters=(Filter(formula="Al", density=2.7, thickness_um=100.0),),
    geometry=Geometry(incidence_angle_deg=50.0, takeoff_angle_deg=40.0, scatter_angle_deg=95.0, seen_air_cm=2.0),
    detector=Detector(gain_kev=0.03, zero_kev=-0.1, noise_fwhm_kev=0.1, fano=0.12),
)
METADATA = {
    "tube_voltage_kv": np.float32(40.0),
    "anode_atomic_number": np.int64(45),
    "incidence_angle_deg": 52,
    "takeoff_angle_deg": 55,
}


def calibration(**changes: Any) -> Calibration:
    fields: dict[str, Any] = {
        "axis": EnergyAxis(0.02, 0.0, 1024), "noise_fwhm_kev": 0.08, "fano": 0.115, "residual_ev": {},
        "uncertainty_ev": {}, "gain_uncertainty_kev": 0.0, "zero_uncertainty_kev": 0.0, "axis_uncertainty_ev": 0.0,
        "families": (), "anode": "Pd", "voltage_kv": 38.2, "scatter_angle_deg": 120.0, "seen_air_cm": 1.5,
    }  # fmt: skip
    return Calibration(**fields | changes)


def scan(**metadata: Any) -> Scan:
    return Scan(np.ones((1, 1, 1024)), EnergyAxis(0.02, 0.0, 1024), metadata=metadata)


@pytest.mark.parametrize(
    ("path", "given", "file", "spectrum"),
    [
        ("tube.anode", "Mo", "Rh", "Pd"),
        ("tube.voltage_kv", 45.0, 40.0, 38.2),
        ("geometry.incidence_angle_deg", 50.0, 52.0, None),
        ("geometry.takeoff_angle_deg", 40.0, 55.0, None),
        ("geometry.scatter_angle_deg", 95.0, None, 120.0),
        ("geometry.seen_air_cm", 2.0, None, 1.5),
        ("detector.gain_kev", 0.03, None, 0.02),
        ("detector.zero_kev", -0.1, None, 0.0),
        ("detector.noise_fwhm_kev", 0.1, None, 0.08),
        ("detector.fano", 0.12, None, 0.115),
    ],
)
def test_given_then_file_then_spectrum(path: str, given: object, file: object, spectrum: object) -> None:
    of_given = merge_knowledge(scan(**METADATA), user_instrument=GIVEN, calibration=calibration()).facts()
    assert of_given[path] == {"value": given, "origin": "given"}
    of_file = merge_knowledge(scan(**METADATA), calibration=calibration()).facts()
    if file is not None:
        assert of_file[path] == {"value": file, "origin": "file"}
    elif not path.startswith("geometry.scatter"):
        assert of_file[path] == {"value": spectrum, "origin": "spectrum"}
    of_lines = merge_knowledge(scan(), calibration=calibration()).facts()
    assert of_lines.get(path) == (None if spectrum is None else {"value": spectrum, "origin": "spectrum"})
    assert merge_knowledge(scan()).facts() == {}


def test_filters_are_those_given_and_angles_that_imply_the_scattering_angle_decide_it() -> None:
    assert merge_knowledge(scan(), user_instrument=GIVEN, calibration=calibration()).instrument.filters == GIVEN.filters
    assert merge_knowledge(scan(**METADATA), calibration=calibration()).known_conditions().scatter_deg == 52 + 55


def test_only_known_conditions_are_inputs() -> None:
    known = merge_knowledge(
        scan(), calibration=calibration(anode="Mo", voltage_kv=None, scatter_angle_deg=110.0)
    ).known_conditions()
    assert (known.anode, known.scatter_deg) == ("Mo", 110.0)
    assert known.voltage_kv is known.incidence_deg is known.takeoff_deg is None
    assert known.fwhm_kev == pytest.approx(np.hypot(0.08, 2.355 * np.sqrt(0.115 * 3.85e-3 * 5.895)), rel=0.01)
    inputs = dict(zip(INSTRUMENT_INPUTS, known.inputs().tolist(), strict=True))
    assert (inputs["anode_Mo"], inputs["anode_Rh"]) == (1.0, 0.0)
    assert np.isnan([inputs["voltage_kv"], inputs["incidence_deg"], inputs["takeoff_deg"]]).all()
    assert merge_knowledge(scan()).known_conditions() == InstrumentConditions()


def test_all_of_a_preset_is_known_and_of_a_short_file_only_its_values() -> None:
    assert (
        None not in merge_knowledge(scan(), user_instrument=load_instrument("elio")).known_conditions().facts().values()
    )
    little = Instrument.model_validate({"tube": {"voltage_kv": 15.0}})
    assert merge_knowledge(scan(), user_instrument=little).known_conditions() == InstrumentConditions(voltage_kv=15.0)


def test_header_values_are_checked() -> None:
    volts = merge_knowledge(scan(tube_voltage_kv=50000.0))
    assert volts.known_conditions().voltage_kv == 50.0
    assert "read as 50 kV" in volts.notes[0]
    for metadata in (
        {"tube_voltage_kv": 1.2}, {"tube_voltage_kv": -40}, {"tube_voltage_kv": float("nan")},
        {"anode_atomic_number": 6}, {"anode": "Qq"}, {"takeoff_angle_deg": 270.0},
    ):  # fmt: skip
        known = merge_knowledge(scan(**metadata))
        assert known.facts() == {}
        assert "not used" in known.notes[0]
    for empty in ({"takeoff_angle_deg": 0}, {"tube_voltage_kv": 0.0}, {"tube_voltage_kv": True}, {"anode": ""}):
        assert (merge_knowledge(scan(**empty)).facts(), merge_knowledge(scan(**empty)).notes) == ({}, ())
    assert merge_knowledge(scan(anode="Rh")).known_conditions().anode == "Rh"


def test_a_beam_leaves_no_tube_beside_it() -> None:
    shown = merge_knowledge(scan(), calibration=calibration(), beam=Beam(12.5, 90.0))
    assert (shown.beam_kev, shown.origin["source_spectrum"]) == (12.5, "spectrum")
    assert (shown.known_conditions().anode, shown.known_conditions().voltage_kv) == (None, None)
    of_file = merge_knowledge(scan(incident_energy_kev=17000.0), calibration=calibration(), beam=Beam(12.5))
    assert (of_file.beam_kev, of_file.origin["source_spectrum"]) == (17.0, "file")
    tube = merge_knowledge(scan(incident_energy_kev=17.0), user_instrument=GIVEN, beam=Beam(12.5))
    assert (tube.beam_kev, tube.known_conditions().voltage_kv) == (None, 45.0)
    beam = Instrument(source_spectrum=SourceSpectrum(energy_kev=(21.2,), weight=(1.0,)))
    given = merge_knowledge(scan(tube_voltage_kv=40), user_instrument=beam)
    assert (given.beam_kev, given.instrument.highest_kev, given.known_conditions().voltage_kv) == (21.2, 21.2, None)


def test_what_measures_the_axis_anew_keeps_the_rest_that_was_given() -> None:
    instrument = calibrated_instrument(scan(**METADATA), calibration(), GIVEN)
    assert (instrument.detector.gain_kev, instrument.detector.noise_fwhm_kev) == (0.02, 0.08)
    assert (instrument.tube.anode, instrument.tube.voltage_kv, instrument.geometry.scatter_angle_deg) == (
        "Mo",
        45.0,
        95.0,
    )
    with_defaults = merge_knowledge(scan(), calibration=calibration(anode=None), default_instrument=GIVEN)
    assert with_defaults.instrument.tube.anode == "Mo"
    assert "tube.anode" not in with_defaults.origin


def test_an_axis_more_than_fifty_electronvolts_off_contradicts_the_lines() -> None:
    lines = {"Ca-KL3": 3.692, "Fe-KL3": 6.404, "Pb-L3M5": 10.552}
    fitted = calibration(line_energy_kev=lines, axis_uncertainty_ev=3.0)
    assert contradiction(EnergyAxis(0.02, 0.045, 1024), fitted) == ""
    text = contradiction(EnergyAxis(0.02, 0.055, 1024), fitted)
    assert "Fe-KL3 (6.40 keV) +55 eV" in text
    steep = contradiction(EnergyAxis(0.0202, 0.0, 1024), fitted)
    assert "Pb-L3M5 (10.55 keV) +106 eV" in steep
    assert (
        contradiction(EnergyAxis(0.02, 0.055, 1024), calibration(line_energy_kev=lines, axis_uncertainty_ev=20)) == ""
    )
    assert contradiction(EnergyAxis(0.02, 0.055, 1024), calibration()) == ""
