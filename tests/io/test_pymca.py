"""PyMca fit configurations: read as an instrument, written for PyMca, and held against PyMca's own reader."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

import underpaint as up
from underpaint.calibrate import resolve_energy_axis
from underpaint.cli import app
from underpaint.data import EnergyAxis
from underpaint.errors import CalibrationError, InstrumentError
from underpaint.io.pymca import read_pymca, write_pymca
from underpaint.physics.forward import efficiency
from underpaint.physics.forward.source import filter_transmission
from underpaint.physics.instrument import Detector, Filter, Instrument, load_instrument, save_instrument
from underpaint.physics.materials import Layer, mass_fractions

SHARED = Path(__file__).parents[3] / "shared" / "data" / "spectrum_formats"
real = pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/data/spectrum_formats is not there")
AXIS = EnergyAxis(0.0125, -0.03, 2048)

LAB = """
[attenuators]
kapton = 1, Kapton, 1.42, 0.0025, 1.0
atmosphere = 1, Air, 0.0012048, 1.5, 1.0
Matrix = 1, MULTILAYER, 0.0, 0.0, 70.0, 40.0, 1, 115.0
deadlayer = 1, Si1, 2.33, 0.00001, 1.0
BeamFilter1 = 0, -, 0.0, 0.0, 1.0
BeamFilter0 = 1, Al1, 2.72, 0.01, 1.0
absorber = 1, Al1, 2.72, 0.001, 0.4
window = 1, Be1, 1.848, 0.0025, 1.0
Detector = 1, Si1, 2.33, 0.05, 1.0

[multilayer]
Layer1 = 1, Ca1C1O3, 2.71, 0.01
Layer0 = 1, Paint, 4.0, 0.002
Layer2 = 0, -, 0.0, 0.0

[peaks]
Fe = Ka, Kb
Pb = L1, L3
K = K

[fit]
energy = 17.4, None, 19.6
energyweight = 1.0, 0.0, 0.2
energyflag = 1, 0, 1
energyscatter = 1, 0, 0
hypermetflag = 3
snipwidth = 30

[detector]
detele = Si
zero = -0.03
gain = 0.0125
noise = 0.08
fano = 0.11

[peakshape]
st_arearatio = 0.05
st_sloperatio = 0.4

[tube]
anode = Ag
voltage = 30.0

[materials.Kapton]
Comment = 5 %% of nothing
Density = 1.42
CompoundFraction = 0.628772, 0.066659, 0.304569
CompoundList = C1, N1, O1

[materials.Paint]
CompoundFraction = 90.0, 10.0
CompoundList = Hg1S1, Kapton

[userattenuators.Polycapillary]
use = 1
energy = 0.0, 10.0
transmission = 0.5, 1.0
"""


def lab(tmp_path: Path, old: str = "", new: str = "") -> Path:
    assert old in LAB
    path = tmp_path / "lab.cfg"
    path.write_text(LAB.replace(old, new, 1))
    return path


def compare(actual: Any, expected: Any) -> None:
    """Equal, floats within a billionth."""
    if isinstance(expected, dict):
        assert actual.keys() == expected.keys()
        for key in expected:
            compare(actual[key], expected[key])
    elif isinstance(expected, tuple | list):
        assert len(actual) == len(expected)
        for actual_item, expected_item in zip(actual, expected, strict=True):
            compare(actual_item, expected_item)
    else:
        assert actual == (pytest.approx(expected, rel=1e-9) if isinstance(expected, float) else expected)


def settings_of(instrument: Instrument) -> dict[str, Any]:
    """All that a configuration can hold."""
    record = instrument.model_dump(exclude={"name", "note"})
    del record["detector"]["n_channel"]
    if instrument.source_spectrum is not None:
        weight = np.asarray(instrument.source_spectrum.weight)
        record["source_spectrum"]["weight"] = (weight / weight.sum()).tolist()
    return record


def test_a_configuration_becomes_an_instrument(tmp_path: Path) -> None:
    configuration = read_pymca(lab(tmp_path))
    instrument = configuration.instrument
    assert instrument.source_spectrum is not None
    assert instrument.source_spectrum.energy_kev == (17.4, 19.6)
    assert instrument.source_spectrum.weight == (1.0, 0.2)
    assert instrument.filters == (Filter(formula="Al1", density=2.72, thickness_um=100.0),)
    geometry, detector = instrument.geometry, instrument.detector
    assert (geometry.incidence_angle_deg, geometry.takeoff_angle_deg, geometry.scatter_angle_deg) == (70, 40, 115)
    assert geometry.detector_air_cm == 1.5
    assert detector.window == Filter(formula="Be1", density=1.848, thickness_um=25.0)
    assert (detector.thickness_um, detector.dead_layer_um) == (500.0, 0.1)
    assert (detector.gain_kev, detector.zero_kev, detector.noise_fwhm_kev, detector.fano) == (0.0125, -0.03, 0.08, 0.11)
    assert detector.tail_fraction == pytest.approx(0.05 / 1.05)
    assert detector.tail_width_kev == 0.4
    (sheet,) = detector.filters
    assert sheet.thickness_um == 25.0
    shares = {"C": 0.628772, "N": 0.066659, "O": 0.304569}
    assert mass_fractions(sheet.formula) == pytest.approx(shares, rel=1e-5)
    assert configuration.families == ("K_K", "Fe_K", "Pb_L1", "Pb_L3")
    assert configuration.axis(2048) == AXIS


def test_the_matrix_is_read_from_the_surface(tmp_path: Path) -> None:
    paint, chalk = read_pymca(lab(tmp_path)).matrix
    assert (paint.name, paint.density, paint.thickness_um) == ("Paint", 4.0, 20.0)
    assert paint.mass_fractions["Hg"] == pytest.approx(0.9 * mass_fractions("HgS")["Hg"])
    assert paint.mass_fractions["O"] == pytest.approx(0.1 * 0.304569)
    assert chalk.mass_fractions == pytest.approx(mass_fractions("CaCO3"))


def test_what_is_not_stated_is_not_known(tmp_path: Path) -> None:
    instrument = read_pymca(lab(tmp_path, "Matrix = 1", "Matrix = 0")).instrument
    assert instrument.geometry.model_fields_set == {"detector_air_cm"}
    assert "tube" not in instrument.model_fields_set
    save_instrument(instrument, tmp_path / "lab.toml", only_known=True)
    again = load_instrument(tmp_path / "lab.toml")
    assert again == instrument
    assert again.detector.model_fields_set == instrument.detector.model_fields_set


def test_entries_without_a_counterpart_are_listed_with_value_and_reason(tmp_path: Path) -> None:
    entries = {entry.entry: entry for entry in read_pymca(lab(tmp_path)).untranslated}
    assert entries["fit.snipwidth"].value == "30"
    assert "a part of the beam" in entries["attenuators.absorber"].reason
    assert entries["tube.voltage"].value == "30.0"
    assert "which did not compute" in entries["tube.voltage"].reason
    assert "K-alpha and K-beta" in entries["peaks.Fe"].reason
    assert entries["attenuators.Matrix"].value == "Paint 20 um; Ca1C1O3 100 um"
    assert entries["userattenuators.Polycapillary.transmission"].value == "0.5, 1.0"
    translated = {"fit.energy", "detector.gain", "attenuators.window", "peakshape.st_arearatio", "multilayer.Layer2"}
    assert not translated & entries.keys()


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("gain = 0.0125", "gain = 12.5", r"detector\.gain is 12\.5 keV.*for a value in eV, write 0\.0125"),
        ("gain = 0.0125", "gain = much", r"detector\.gain is 'much'.*a number in keV"),
        ("energy = 17.4", "energy = 17400", r"17400 keV.*up to 200 keV.*in eV, write 17\.4"),
        ("1.42, 0.0025", "1.42, 250", r"detector\.filters\.0\.thickness_um.*it is 2\.5e\+06 um"),
        ("1, Kapton, 1.42", "1, Captan, 1.42", r"attenuators\.kapton is made of 'Captan'.*\[materials\.NAME\]"),
        ("Hg1S1, Kapton", "Hg1S1, Paint", r"materials\.Paint contains itself.*CompoundList"),
        ("90.0, 10.0", "90.0", r"2 compounds and 1 mass fractions.*one mass fraction for each compound"),
        ("1, Be1, 1.848, 0.0025, 1.0", "1, Be1", r"attenuators\.window has 2 values.*thickness in cm"),
        ("Layer0 = 1, Paint, 4.0, 0.002", "Layer0 = 1, Paint, 4.0, 0.0", r"'Paint'.*thickness"),
        ("115.0", "none", r"scattering angle of attenuators\.Matrix is 'none'.*degree"),
        ("noise = 0.08", "noise = 80", r"noise_fwhm_kev.*it is 80 keV; for a value in eV, write 0\.08"),
        ("st_arearatio = 0.05", "st_arearatio = -1", r"st_arearatio is -1.*0 or more"),
        ("[peaks]", "[peaks", r"not written as \[section\]"),
        ("Detector = 1, Si1", "Detector = yes, Si1", r"flag of attenuators\.Detector is 'yes'"),
    ],
)
def test_a_fault_says_what_it_is_and_what_to_do(old: str, new: str, words: str, tmp_path: Path) -> None:
    path = lab(tmp_path, old, new)
    with pytest.raises(InstrumentError, match=rf"(?s)lab.*{words}"):
        load_instrument(path)


@pytest.mark.parametrize(
    ("old", "new", "entry", "words"),
    [
        (
            "Detector = 1, Si1, 2.33",
            "Detector = 1, Cd1Te1, 5.85",
            "attenuators.Detector",
            "silicon is used instead",
        ),
        ("detele = Si", "detele = CdTe", "detector.detele", "silicon is used instead"),
        ("70.0, 40.0", "90.0, -90.0", "attenuators.Matrix (angles)", "transmission geometry"),
        ("Matrix = 1", "Matrix = 0", "attenuators.Matrix (angles)", "switched off"),
        ("hypermetflag = 3", "fitfunction = 1", "fit.fitfunction", "pseudo-Voigt"),
        ("K = K", "K = Q", "peaks.K", "not a shell"),
    ],
)
def test_what_is_not_modelled_is_listed_and_the_rest_read(
    old: str, new: str, entry: str, words: str, tmp_path: Path
) -> None:
    configuration = read_pymca(lab(tmp_path, old, new))
    assert [words in lost.reason for lost in configuration.untranslated if lost.entry == entry] == [True]
    assert configuration.instrument.detector.gain_kev == 0.0125
    assert configuration.instrument.detector.material == "Si"


def test_a_multilayer_without_a_layer_is_refused(tmp_path: Path) -> None:
    path = lab(tmp_path)
    path.write_text(LAB.replace("Layer1 = 1", "Layer1 = 0").replace("Layer0 = 1", "Layer0 = 0"))
    with pytest.raises(InstrumentError, match=r"no layer in \[multilayer\] is in use.*flag 1"):
        read_pymca(path)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\x89PNG\r\n\0\0", "file is binary"),
        (b"", r"has none of the sections .* \(its sections: none\)"),
        (b"just words\n", r"\[section\] and name = value"),
        (b"[a]\nx = 1\n", r"has none of the sections .* \(its sections: \[a\]\).*\.toml"),
    ],
)
def test_what_is_no_configuration_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.cfg").write_bytes(content)
    with pytest.raises(InstrumentError, match=words):
        load_instrument(tmp_path / "x.cfg")


def test_a_configuration_is_known_by_its_sections_too(tmp_path: Path) -> None:
    by_ending = load_instrument(lab(tmp_path))
    by_content = load_instrument((tmp_path / "lab.cfg").rename(tmp_path / "lab.txt"))
    assert settings_of(by_content) == settings_of(by_ending)


def test_without_a_calibration_there_is_no_axis(tmp_path: Path) -> None:
    configuration = read_pymca(lab(tmp_path, "gain = 0.0125", ""))
    with pytest.raises(CalibrationError, match=r"lacks gain or zero \(keV\)"):
        configuration.axis(1024)


FORMULAS = st.sampled_from(["Al", "Be1", "C22H10N2O5", "CaSO4.2H2O", "(C33.25H41.5O25.25)", "Fe4[Fe(CN)6]3.14H2O"])


def number(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(low, high).map(lambda value: float(f"{value:.6g}"))


SHEETS = st.builds(Filter, formula=FORMULAS, density=number(0.5, 20.0), thickness_um=number(0.0, 500.0))


@st.composite
def instruments(draw: st.DrawFn) -> Instrument:
    """Any that a configuration can hold."""
    table: dict[str, Any] = {
        "geometry": {
            "incidence_angle_deg": draw(number(1.0, 90.0)),
            "takeoff_angle_deg": draw(number(1.0, 90.0)),
            "scatter_angle_deg": draw(st.none() | number(1.0, 180.0)),
            "source_air_cm": draw(number(0.0, 5.0)),
            "detector_air_cm": draw(number(0.0, 5.0)),
        },
        "detector": {
            "material": draw(st.sampled_from(["Si", "Ge"])),
            "density": draw(number(2.0, 6.0)),
            "thickness_um": draw(number(100.0, 1000.0)),
            "dead_layer_um": draw(number(0.01, 1.0)),
            "noise_fwhm_kev": draw(number(0.03, 0.2)),
            "fano": draw(number(0.05, 0.2)),
            "gain_kev": AXIS.gain_kev,
            "zero_kev": AXIS.zero_kev,
        },
        "filters": draw(st.lists(SHEETS, max_size=3)),
    }
    for name, strategy in (
        ("window", SHEETS),
        ("filters", st.lists(SHEETS, min_size=1, max_size=7)),
        ("tail_fraction", number(0.0, 0.2)),
        ("long_tail_fraction", number(0.0, 0.1)),
    ):
        if draw(st.booleans()):
            table["detector"][name] = draw(strategy)
    if draw(st.booleans()):
        table["tube"] = {
            "anode": draw(st.sampled_from(["Cr", "Mo", "Rh", "Ag", "W", "Au"])),
            "voltage_kv": draw(number(20.0, 60.0)),
            "electron_angle_deg": draw(number(10.0, 90.0)),
            "takeoff_angle_deg": draw(number(5.0, 90.0)),
            "window": Filter(formula="Be", density=1.848, thickness_um=draw(number(10.0, 300.0))),
            "target_um": draw(st.none() | number(1.0, 3.0)),
        }
    else:
        energies = draw(st.lists(number(5.0, 60.0), min_size=1, max_size=25, unique=True).map(sorted))
        table["source_spectrum"] = {"energy_kev": energies, "weight": [draw(number(0.1, 10.0)) for _ in energies]}
    return Instrument.model_validate(table)


@settings(max_examples=30)
@given(instrument=instruments(), families=st.lists(st.sampled_from(["Fe_K", "W_L3", "Pb_L", "Pb_M"]), unique=True))
def test_what_is_written_is_read_again(
    instrument: Instrument, families: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("written") / "x.cfg"
    matrix = (Layer({"Pb": 0.8, "C": 0.2}, 3.0, 20.0, name="white lead"), Layer({"Ca": 1.0}, 2.0, 100.0, name="Ca1"))
    assert write_pymca(instrument, AXIS, families, path, matrix) == ()
    again = read_pymca(path)
    compare(settings_of(again.instrument), settings_of(instrument))
    assert again.axis(AXIS.n_channel) == AXIS
    assert sorted(again.families) == sorted(families)
    assert [(layer.name, layer.density, layer.thickness_um) for layer in again.matrix] == [
        (layer.name, layer.density, layer.thickness_um) for layer in matrix
    ]
    assert again.matrix[0].mass_fractions == pytest.approx(matrix[0].mass_fractions)


def test_settings_that_a_configuration_cannot_hold_are_listed(tmp_path: Path) -> None:
    table = {
        "tube": {"line_factor": 1.5},
        "optic": {"energy_kev": [1.0, 40.0], "transmission": [0.1, 0.2]},
        "geometry": {"seen_air_cm": 1.0},
        "detector": {"shelf_fraction": 0.01, "pulse_pair_us": 0.2},
    }
    lost = write_pymca(Instrument.model_validate(table), AXIS, [], tmp_path / "x.cfg")
    assert {entry.entry: entry.value for entry in lost} == {
        "tube.line_factor": "1.5",
        "optic": str(Instrument.model_validate(table).model_dump()["optic"]),
        "geometry.seen_air_cm": "1.0",
        "detector.shelf_fraction": "0.01",
        "detector.pulse_pair_us": "0.2",
    }


@pytest.mark.parametrize("family", ["Fe", "Fe-K", "Xx_K", "Fe_Q", ""])
def test_a_family_that_is_none_is_not_written(family: str, tmp_path: Path) -> None:
    with pytest.raises(InstrumentError, match=rf"family '{family}' for PyMca.*Write it like Fe_K"):
        write_pymca(load_instrument("elio"), AXIS, [family], tmp_path / "x.cfg")
    assert not (tmp_path / "x.cfg").exists()


def test_pymca_reads_what_is_written(tmp_path: Path) -> None:
    theory = pytest.importorskip("PyMca5.PyMcaPhysics.xrf.ClassMcaTheory", reason="PyMca is not installed")
    detector = Detector(filters=(Filter(formula="CaSO4.2H2O", density=2.3, thickness_um=4.0),))
    elio = load_instrument("elio").model_copy(update={"detector": detector})
    write_pymca(elio, AXIS, ["Fe_K", "Pb_L", "W_L3"], tmp_path / "x.cfg")
    fit = theory.McaTheory(str(tmp_path / "x.cfg"))
    configuration = fit.getConfiguration()
    assert configuration["attenuators"]["Matrix"][4:6] == [90.0, 50.0]
    assert configuration["detector"]["gain"] == AXIS.gain_kev
    assert configuration["peaks"] == {"Fe": ["K"], "Pb": ["L"], "W": ["L3"]}
    assert {"Fe K", "Pb L", "W L3"} <= set(fit.PARAMETERS)
    assert max(configuration["fit"]["energy"]) == pytest.approx(40.0, abs=0.2)
    elements = pytest.importorskip("PyMca5.PyMcaPhysics.xrf.Elements")
    name, density, thickness = configuration["attenuators"]["absorber"][1:4]
    depth = (
        density
        * thickness
        * np.asarray(elements.getMaterialMassAttenuationCoefficients(name, 1.0, [5.0, 10.0])["total"])
    )
    ours = filter_transmission(detector.filters[0], np.array([5.0, 10.0]))
    np.testing.assert_allclose(np.exp(-depth), ours, rtol=0.01)


@pytest.mark.parametrize(("voltage", "known"), [(40.0, True), (50.0, False)])
def test_the_energies_that_pymca_computes_for_a_tube_are_the_tube(voltage: float, known: bool, tmp_path: Path) -> None:
    ebel = pytest.importorskip("PyMca5.PyMcaPhysics.xrf.XRayTubeEbel", reason="PyMca is not installed")
    energy, weight, scatter = ebel.generateLists(["Rh", 12.41, 0.0002], 40.0, ["Be", 1.848, 0.0125])
    columns = {"energy": energy, "energyweight": weight, "energyscatter": scatter.astype(int)}
    lines = [f"{name} = {', '.join(map(str, values.tolist()))}" for name, values in columns.items()]
    tube = f"[tube]\nanode = Rh\nvoltage = {voltage}\nalphae = 75.0\nalphax = 15.0\n"
    sheet = "window = Be\nwindowdensity = 1.848\nwindowthickness = 0.0125\n"
    (tmp_path / "x.cfg").write_text("\n".join(["[fit]", *lines, tube + sheet]))
    instrument = read_pymca(tmp_path / "x.cfg").instrument
    assert (instrument.source_spectrum is None) == known
    if known:
        assert (instrument.tube.anode, instrument.tube.voltage_kv, instrument.tube.window.thickness_um) == (
            "Rh",
            40,
            125,
        )
    else:
        source = instrument.source_spectrum
        assert source is not None
        assert source.width_kev is not None
        lines_kev = {energy for energy, width in zip(source.energy_kev, source.width_kev, strict=True) if width == 0}
        assert lines_kev == {float(value) for value, mark in zip(energy, scatter, strict=True) if mark}


def test_of_pymcas_default_configuration_only_the_detector_is_known() -> None:
    data = pytest.importorskip("PyMca5.PyMcaDataDir", reason="PyMca is not installed")
    configuration = read_pymca(Path(data.PYMCA_DATA_DIR) / "McaTheory.cfg")
    instrument = configuration.instrument
    assert instrument.filters == ()
    assert not {"tube", "source_spectrum", "filters"} & instrument.model_fields_set
    assert not instrument.geometry.model_fields_set
    stated = {"gain_kev", "zero_kev", "noise_fwhm_kev", "fano", "material"}
    assert instrument.detector.model_fields_set == stated
    assert (configuration.families, configuration.matrix) == ((), ())


def test_sheets_before_the_window_absorb() -> None:
    energy = np.array([2.0, 5.0, 12.0])
    sheet = Filter(formula="C22H10N2O5", density=1.42, thickness_um=25.0)
    bare = efficiency(Detector(), energy)
    np.testing.assert_allclose(
        efficiency(Detector(filters=(sheet, sheet)), energy), bare * filter_transmission(sheet, energy) ** 2
    )


@real
def test_a_laboratorys_configuration_survives_the_way_to_an_instrument_file_and_back(tmp_path: Path) -> None:
    first = read_pymca(SHARED / "Steel.cfg")
    save_instrument(first.instrument, tmp_path / "steel.toml", only_known=True)
    instrument = load_instrument(tmp_path / "steel.toml")
    assert write_pymca(instrument, first.axis(2048), first.families, tmp_path / "steel.cfg", first.matrix) == ()
    second = read_pymca(tmp_path / "steel.cfg")
    compare(settings_of(second.instrument), settings_of(first.instrument))
    assert second.axis(2048) == first.axis(2048)
    assert second.families == first.families
    assert second.matrix[0].mass_fractions == pytest.approx(first.matrix[0].mass_fractions)
    dictionary = pytest.importorskip("PyMca5.PyMcaIO.ConfigDict", reason="PyMca is not installed").ConfigDict
    theirs, ours = dictionary(filelist=str(SHARED / "Steel.cfg")), dictionary(filelist=str(tmp_path / "steel.cfg"))
    for name in ("window", "atmosphere", "BeamFilter0", "Detector"):
        assert ours["attenuators"][name][1] == theirs["attenuators"][name][1]
        assert ours["attenuators"][name][3] == pytest.approx(theirs["attenuators"][name][3])


@real
def test_the_real_pair_agrees() -> None:
    configuration = read_pymca(SHARED / "Steel.cfg")
    scan = up.load(SHARED / "Steel.spe")
    axis = configuration.axis(scan.shape[2])
    counts = np.asarray(scan.counts, dtype=np.float64)[0, 0]
    near = np.abs(axis.energy_kev - 6.4) < 0.2
    peak_kev = (axis.energy_kev * counts)[near].sum() / counts[near].sum()
    assert abs(peak_kev - 6.399) < 0.02
    placed = resolve_energy_axis(scan, instrument=SHARED / "Steel.cfg")
    assert placed.beam_kev == 16.0
    assert not any("channels and the instrument" in note for note in placed.notes)
    fitted = up.fit_elements(placed.scan, instrument=configuration.instrument)
    # of SRM 1155: 18.4 % Cr, 1.6 % Mn, 64.3 % Fe, 12.4 % Ni, 0.18 % Cu; V is 0.05 %
    assert {"Cr_K", "Mn_K", "Fe_K", "Ni_K", "Cu_K"} <= set(fitted.lines) & set(configuration.families)
    assert max(fitted.lines, key=lambda name: float(fitted[name][0, 0])) == "Fe_K"


@real
def test_pymca_fits_the_same_areas_with_what_was_written(tmp_path: Path) -> None:
    theory = pytest.importorskip("PyMca5.PyMcaPhysics.xrf.ClassMcaTheory", reason="PyMca is not installed")
    counts = np.asarray(up.load(SHARED / "Steel.spe").counts, dtype=np.float64)[0, 0]
    first = read_pymca(SHARED / "Steel.cfg")
    write_pymca(first.instrument, first.axis(2048), first.families, tmp_path / "steel.cfg", first.matrix)
    areas = []
    for path in (SHARED / "Steel.cfg", tmp_path / "steel.cfg"):
        fit = theory.McaTheory(str(path))
        configuration = fit.getConfiguration()
        # what has no counterpart, and the fixed ratios of Fe K-alpha and K-beta
        configuration["fit"].update(linearfitflag=1, stripalgorithm=1, snipwidth=30, sumflag=0, hypermetflag=1)
        configuration["fit"].update(xmin=200, xmax=1432)
        configuration["peaks"]["Fe"] = ["K"]
        fit.setConfiguration(configuration)
        fit.setData(np.arange(2048), counts)
        fit.estimate()
        _, result = fit.startfit(digest=1)
        areas.append({name: result[name]["fitarea"] for name in result["groups"]})
    assert areas[0]["Fe K"] > 3e6
    assert areas[1] == pytest.approx(areas[0], rel=2e-3)


def run(*arguments: object) -> Any:
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_the_command_line_converts_both_ways_and_names_what_is_lost(tmp_path: Path) -> None:
    path = lab(tmp_path)
    done = run("instruments", "convert", path, "--out", tmp_path / "lab.toml")
    assert done.exit_code == 0, f"{done.output}{done.exception}"
    assert "Families to fit: K_K,Fe_K,Pb_L1,Pb_L3" in done.stdout
    assert "fit.snipwidth = 30" in done.stdout
    back = tmp_path / "back.cfg"
    done = run("instruments", "convert", tmp_path / "lab.toml", "--out", back, "--families", "Fe_K, Pb_L3")
    assert done.exit_code == 0, f"{done.output}{done.exception}"
    again = read_pymca(back)
    assert again.families == ("Fe_K", "Pb_L3")
    compare(settings_of(again.instrument), settings_of(read_pymca(path).instrument))
    again = run("instruments", "convert", path, "--out", back, "--overwrite")
    assert again.exit_code == 0, f"{again.output}{again.exception}"
    done = run("instruments", "show", path, "--json")
    record = json.loads(done.stdout)
    assert record["instrument"]["detector"]["gain_kev"] == 0.0125
    assert record["families"] == ["K_K", "Fe_K", "Pb_L1", "Pb_L3"]
    assert {"entry", "value", "reason"} == record["not_translated"][0].keys()


def test_a_configuration_converted_to_one_keeps_families_and_matrix(tmp_path: Path) -> None:
    done = run("instruments", "convert", lab(tmp_path), "--out", tmp_path / "copy.cfg")
    assert done.exit_code == 0, f"{done.output}{done.exception}"
    first, copy = read_pymca(tmp_path / "lab.cfg"), read_pymca(tmp_path / "copy.cfg")
    assert copy.families == first.families
    assert [layer.name for layer in copy.matrix] == ["Paint", "Ca1C1O3"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("show",), "no instrument is named"),
        (("convert", "elio"), "Give the file with --out"),
        (("convert", "axisless.toml", "--out", "x.cfg"), "sets no energy axis"),
        (("convert", "elio", "--out", "axisless.toml"), "not replaced"),
    ],
)
def test_what_the_command_line_refuses(
    arguments: tuple[str, ...], words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "axisless.toml").write_text('name = "axisless"\n')
    done = run("instruments", *arguments)
    assert done.exit_code != 0
    assert words in f"{done.output} {done.exception}"
    assert not (tmp_path / "x.cfg").exists()
