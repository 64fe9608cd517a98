"""Instruments that the spectra contradict, and beams, through the real command line."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from typer.testing import CliRunner

import underpaint as up
from underpaint.calibrate import beam_contradiction, resolve_energy_axis
from underpaint.cli import app
from underpaint.data import EnergyAxis, Scan
from underpaint.data.peaks import peak_counts, resolution_fwhm_kev
from underpaint.errors import CoverageError, InstrumentError
from underpaint.io import read_results, save_scan
from underpaint.physics.atomic import family_lines
from underpaint.physics.instrument import Instrument, SourceSpectrum, load_instrument, save_instrument

AXIS = EnergyAxis(0.02, 0.0, 1024)
FAMILIES = {("Ca", "K"): 3e3, ("Mn", "K"): 1e3, ("Fe", "K"): 6e3, ("Cu", "K"): 8e3, ("Hg", "L"): 9e3}


def counts(beam_kev: float | None) -> NDArray[np.uint32]:
    """Counts of 3 x 4 pixels under a beam, or over a continuum that ends beyond the axis."""
    energy, area = [], []
    for (element, shell), family_counts in FAMILIES.items():
        line, share = family_lines(element, shell, beam_kev or 40.0)
        energy.append(line)
        area.append(family_counts * share)
    if beam_kev is not None:
        energy.append(np.array([beam_kev, beam_kev / (1 + beam_kev / 511)]))
        area.append(np.array([1e4, 2e4]))
    line = np.concatenate(energy)
    expected = peak_counts(AXIS, line, np.concatenate(area), resolution_fwhm_kev(line, 0.08, 0.115))
    expected += 0.3 if beam_kev is not None else 15.0 * np.exp(-AXIS.energy_kev / 12)
    return np.random.default_rng(1).poisson(expected, (3, 4, AXIS.n_channel)).astype(np.uint32)


@pytest.fixture(scope="module")
def by_tube(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scans") / "tube.h5"
    save_scan(Scan(counts(None), AXIS, name="tube"), path)
    return path


@pytest.fixture(scope="module")
def by_beam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("scans") / "beam.h5"
    save_scan(Scan(counts(12.5), AXIS, name="beam"), path)
    return path


def with_axis(path: Path, zero_kev: float) -> Path:
    elio = load_instrument("elio")
    detector = elio.detector.model_copy(update={"gain_kev": AXIS.gain_kev, "zero_kev": zero_kev, "n_channel": 1024})
    save_instrument(elio.model_copy(update={"name": "other", "detector": detector}), path)
    return path


@pytest.mark.parametrize("command", ["identify", "elements", "explain"])
def test_an_instrument_off_the_lines_is_refused(command: str, by_tube: Path, tmp_path: Path) -> None:
    wrong = with_axis(tmp_path / "wrong.toml", 0.09)
    more = ["--pixel", "1,1"] if command == "explain" else ["--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, [command, str(by_tube), "--instrument", str(wrong), *more])
    assert done.exit_code != 0
    assert isinstance(done.exception, InstrumentError) or "contradict the instrument 'other'" in done.output
    words = str(done.exception) + done.output
    assert "+90 eV" in words or "+89 eV" in words or "+91 eV" in words
    assert "--trust-instrument" in words
    assert not (tmp_path / "out").exists()


def test_an_instrument_on_the_lines_is_taken_and_a_trusted_one_stands_in_red(by_tube: Path, tmp_path: Path) -> None:
    right, wrong = with_axis(tmp_path / "right.toml", 0.02), with_axis(tmp_path / "wrong.toml", 0.09)
    scan = up.load(by_tube)
    assert resolve_energy_axis(scan, instrument=right).alerts == ()
    with pytest.raises(InstrumentError, match="does not fit the lines"):
        up.identify(scan, instrument=wrong)
    arguments = ["elements", str(by_tube), "--instrument", str(wrong), "--trust-instrument", "--json"]
    done = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    (alert,) = json.loads(done.stdout)["alerts"]
    assert "used nevertheless" in alert
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert page.index('class="alert"') < page.index("<main>")


@pytest.mark.parametrize("off_ev", [0, 30, -30])
def test_a_given_axis_somewhat_off_the_lines_is_noted(off_ev: int, by_tube: Path, tmp_path: Path) -> None:
    given = with_axis(tmp_path / "given.toml", off_ev / 1000)
    axis = resolve_energy_axis(up.load(by_tube), instrument=given)
    noted = [float(ev) for note in axis.notes for ev in re.findall(r"keV\) ([+-]\d+) eV", note)]
    assert axis.alerts == ()
    assert bool(noted) == bool(off_ev)
    assert noted == pytest.approx([off_ev] * len(noted), abs=3)


def test_an_axis_that_no_line_can_check_raises_an_alert(tmp_path: Path) -> None:
    flat = np.random.default_rng(2).poisson(15.0 * np.exp(-AXIS.energy_kev / 12), (3, 4, AXIS.n_channel))
    save_scan(Scan(flat.astype(np.uint32), AXIS, name="plastic"), tmp_path / "plastic.h5")
    scan = up.load(tmp_path / "plastic.h5")
    given = resolve_energy_axis(scan, instrument=with_axis(tmp_path / "given.toml", 0.0))
    assert any("could not be checked" in note for note in given.notes)
    arguments = ["identify", str(tmp_path / "plastic.h5"), "--no-elements", "--json", "--out", str(tmp_path / "out")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, f"{done.output}{done.exception}"
    (alert,) = json.loads(done.stdout)["alerts"]
    assert alert.startswith("The energy axis of the file could not be checked, and all results depend on it")
    page = (tmp_path / "out" / "report.html").read_text("utf-8")
    assert "could not be checked" in page.split("<main>")[0]


def with_axis_alone(path: Path) -> Path:
    path.write_text(f'name = "axis alone"\n[detector]\ngain_kev = {AXIS.gain_kev}\nzero_kev = {AXIS.zero_kev}\n')
    return path


@pytest.mark.parametrize("more", [[], ["--detectability"]])
def test_an_instrument_with_only_an_axis_gives_rough_maps(
    more: list[str], by_tube: Path, tmp_path: Path, without_report: None
) -> None:
    given = with_axis_alone(tmp_path / "axis.toml")
    arguments = ["identify", str(by_tube), "--instrument", str(given), "--out", str(tmp_path / "out"), *more]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, f"{done.output}{done.exception}"
    notes = read_results(tmp_path / "out").process_notes["detectability"]
    assert any("'axis alone' has no tube voltage" in note and "approximate" in note for note in notes)


@pytest.mark.parametrize("command", [["elements"], ["explain", "--pixel", "1,1"]])
def test_an_instrument_with_only_an_axis_serves_the_other_commands(
    command: list[str], by_tube: Path, tmp_path: Path, short_explanation: None
) -> None:
    given = with_axis_alone(tmp_path / "axis.toml")
    more = ["--out", str(tmp_path / "out")] if command[0] == "elements" else []
    done = CliRunner().invoke(app, [command[0], str(by_tube), *command[1:], "--instrument", str(given), *more])
    assert done.exit_code == 0, f"{done.output}{done.exception}"


def test_a_beam_gives_elements_it_can_excite_and_no_pigment(by_beam: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["identify", str(by_beam), "--json", "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    record = json.loads(done.stdout)
    assert record["share_above_half"] == {}
    assert "monochromatic beam of 12.5" in record["alerts"][0]
    results = read_results(tmp_path / "out")
    assert not results.has_pigments
    assert "Hg_L" in results.lines
    assert not {"Cd_K", "Sn_K", "Pb_L", "Sr_K", "Se_K", "Br_K"} & set(results.lines)
    known = results.summary["settings"]["calibration"]["known"]
    assert known["source_spectrum"]["origin"] == "spectrum"
    assert "monochromatic beam of 12.5" in (tmp_path / "out" / "report.html").read_text("utf-8").split("<main>")[0]
    with pytest.raises(CoverageError, match="X-ray tubes"):
        up.identify(up.load(by_beam))


def test_a_beam_can_be_given_and_contradicts_a_tube(by_beam: Path, by_tube: Path) -> None:
    scan = up.load(by_beam)
    given = resolve_energy_axis(up.load(by_tube), beam_kev=17.4)
    assert (given.beam_kev, given.known_conditions().voltage_kv) == (17.4, None)
    source = Instrument(source_spectrum=SourceSpectrum(energy_kev=(12.6,), weight=(1.0,)))
    assert resolve_energy_axis(scan, instrument=source).beam_kev == 12.6
    with pytest.raises(InstrumentError, match=r"monochromatic beam of 12\.5 keV"):
        resolve_energy_axis(scan, instrument=Instrument.model_validate({"tube": {"voltage_kv": 40.0}}))


@pytest.mark.parametrize(
    ("beam_kev", "source", "words"),
    [
        (6.0, "tube", r"6 keV \(given\).*cannot excite.*Fe K \(edge at 7\.11 keV\)"),
        (10.0, "tube", r"Hg L \(edge at 12\.28 keV\)"),
        (17.4, "beam", r"17\.4 keV \(given\).*show a monochromatic beam of 12\.5 keV"),
        (17.4, "tube", ""),
        (12.6, "beam", ""),
    ],
)
def test_a_beam_that_the_spectra_contradict_raises_an_alert(
    beam_kev: float, source: str, words: str, request: pytest.FixtureRequest
) -> None:
    path: Path = request.getfixturevalue(f"by_{source}")
    axis = resolve_energy_axis(up.load(path), beam_kev=beam_kev)
    assert axis.beam_kev == beam_kev
    assert [bool(re.search(words, alert)) for alert in axis.alerts] == ([True] if words else [])


@pytest.mark.parametrize(
    ("beam_kev", "anode", "words"),
    [
        (17.4, "Rh", r"anode, Rh K at 20\.[12] keV"),
        (20.2, "Rh", ""),
        (17.4, None, ""),
        (13.1, None, ""),
        (12.0, None, r"Pb L \(edge at 13\.0[34] keV\)"),
    ],
)
def test_what_contradicts_a_beam(beam_kev: float, anode: str | None, words: str) -> None:
    fault = beam_contradiction(beam_kev, None, ("Pb_L", "Fe_K"), anode)
    assert bool(fault) == bool(words)
    assert re.search(words, fault)


@pytest.mark.parametrize(
    ("beam_kev", "remedy"),
    [(-3.0, "omit it"), (0.0, "omit it"), (float("nan"), "omit it"), (12000.0, "eV\\? Then give 12")],
)
def test_a_beam_that_cannot_be_is_refused(beam_kev: float, remedy: str, by_tube: Path, tmp_path: Path) -> None:
    words = rf"beam of {beam_kev:g} keV: 0\.5 to 200 keV are allowed\. .*{remedy}"
    with pytest.raises(InstrumentError, match=words):
        resolve_energy_axis(up.load(by_tube), beam_kev=beam_kev)
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["elements", str(by_tube), f"--beam={beam_kev}", "--out", str(out)])
    assert done.exit_code != 0
    assert re.search(words, " ".join(f"{done.output} {done.exception}".split()))
    assert not out.exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[detector]\ngain_kv = 0.02\n", r"detector\.gain_kv: .*unknown key; did you mean gain_kev\?"),
        ("[tube]\nfoo = 1\n", r"tube\.foo: .*known keys are anode, voltage_kv"),
        ("detektor = 1\n", r"detektor: .*did you mean detector\?"),
        ("[[filters]]\nformla = 'Al'\n", r"filters\.0\.formla: .*did you mean formula\?"),
        ("[tube.window]\nthickness = 1\n", r"tube\.window\.thickness: .*did you mean thickness_um\?"),
        ("[optic]\nenergy = 1\n", r"optic\.energy: .*did you mean energy_kev\?"),
        (
            "[detector]\ngain_kev = 20\n",
            r"gain_kev: .*less than or equal to 10 \(it is 20 keV; for a value in eV, write 0\.02\)",
        ),
        ("[tube]\nvoltage_kv = 40000\n", r"equal to 100 \(it is 40000 kV; for a value in V, write 40\)"),
        ("[tube]\nvoltage_kv = 101\n", r"equal to 100 \(it is 101 kV\)"),
        ("[geometry]\ntakeoff_angle_deg = 0\n", r"greater than 0 \(it is 0 degree\)"),
        ("[tube]\nvoltage_kv = nan\n", r"voltage_kv: Input should be a finite number\."),
        (f"[tube]\nvoltage_kv = {'9' * 400}\n", r"voltage_kv: Input should be"),
        ("[detector]\nn_channel = 4\n", r"equal to 16 \(it is 4\)"),
        ("name = 'x'\n\nx = [", r"not TOML \(.*line 3"),
        ("name = 'x'\nx = = 1\n", r"not TOML \(.*line 2"),
    ],
)
def test_a_fault_in_an_instrument_file_says_what_to_do(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "x.toml").write_text(text)
    with pytest.raises(InstrumentError, match=words):
        load_instrument(tmp_path / "x.toml")


def test_the_engine_that_was_named_fits_the_elements(by_tube: Path, tmp_path: Path, without_report: None) -> None:
    pytest.importorskip("PyMca5", reason="PyMca is not installed")
    iron = {}
    for engine in ("underpaint", "pymca"):
        out = tmp_path / engine
        done = CliRunner().invoke(app, ["elements", str(by_tube), "--engine", engine, "--out", str(out)])
        assert done.exit_code == 0, done.output
        results = read_results(out)
        assert results.settings_of("elements")["engine"] == engine
        iron[engine] = results["Fe_K"]
    assert not np.allclose(iron["pymca"], iron["underpaint"], rtol=1e-4)
    assert iron["pymca"].sum() == pytest.approx(12 * FAMILIES["Fe", "K"], rel=0.1)
