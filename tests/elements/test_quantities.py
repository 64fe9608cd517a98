"""Quantities contain the truth: of our own model under another instrument, of an independent one, of thin layers."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray
from typer.testing import CliRunner

from underpaint.cli import app
from underpaint.data import EnergyAxis, Scan
from underpaint.data.maps import Results
from underpaint.elements import Quantifier, parse_composition, quantify, scale_from_standard
from underpaint.elements.quantities import INFINITE_AREAL_DENSITY, predict_counts, scatter_window
from underpaint.errors import CoverageError, InstrumentError, SampleError, ScanError
from underpaint.io import read_results, save_scan
from underpaint.physics.forward import axis_of, emit, render
from underpaint.physics.instrument import (
    Detector,
    Geometry,
    Instrument,
    Scale,
    SourceSpectrum,
    Tube,
    load_instrument,
    save_instrument,
)
from underpaint.physics.materials import Layer, Paint, Stratigraphy, ground_layer, mass_fractions

Array = NDArray[np.float64]
REFERENCE = Path(__file__).resolve().parents[2].parent / "shared" / "reference"

INSTRUMENT = Instrument(
    name="ours",
    tube=Tube(anode="Rh", voltage_kv=40.0, line_factor=1.0),
    detector=Detector(gain_kev=0.02, n_channel=1400),
)
AXIS = axis_of(INSTRUMENT.detector)
FAMILIES = ("Si_K", "S_K", "K_K", "Ca_K", "Fe_K", "Cu_K", "Zn_K", "Sr_K", "Hg_L", "Pb_L")
GLASS = "SiO2 70, Na2O 13, CaO 9, K2O 3, Fe2O3 2, SrO 1, ZnO 2"


def areas_of(
    stratigraphies: list[Stratigraphy],
    instrument: Instrument,
    families: tuple[str, ...] = FAMILIES,
    counts: float = 1e5,
) -> tuple[Array, Array, Array]:
    """Return areas, deviations and scatter of spectra with so many counts in the lines."""
    made = predict_counts(stratigraphies, instrument, AXIS, families, scatter_window(instrument, AXIS))
    area = made.counts.sum(axis=1)
    scale = counts / area.sum(axis=1)
    area = area * scale[:, None]
    return area, np.sqrt(area + 25.0 + (0.01 * area) ** 2), made.scatter * scale


def held(result: Array, truth: Array) -> NDArray[np.bool_]:
    """Return which determined intervals hold the truth, 1-d."""
    known = np.isfinite(result[..., 0]) & (truth > 0.5)
    return ((result[..., 1] <= truth) & (truth <= result[..., 2]))[known]


def test_thick_paints_are_recovered_under_an_instrument_that_is_not_quite_known() -> None:
    paints = [{"vermilion": 1.0, "lead_white": 1.0}, {"zinc_white": 1.0, "lead_white": 0.3}, {"malachite": 1.0}]
    layers = [Paint(paint).layer(3000.0) for paint in paints]
    real = INSTRUMENT.model_copy(
        update={
            "tube": Tube(anode="Rh", voltage_kv=42.0, line_factor=1.1),
            "geometry": Geometry(incidence_angle_deg=55.0, takeoff_angle_deg=65.0),
        }
    )
    area, sigma, scatter = areas_of([Stratigraphy((layer,)) for layer in layers], real)
    model = Quantifier(FAMILIES, area, sigma, scatter, INSTRUMENT, AXIS, n_hypotheses=48)
    result = model(area, sigma, scatter)
    truth = 100.0 * np.asarray(
        [[layer.mass_fractions.get(element, 0.0) for element in model.elements] for layer in layers]
    )
    assert held(result, truth).all()
    present = truth > 2.0
    assert np.median(np.abs(np.log(result[..., 0][present] / truth[present]))) < 0.2
    # what is not there is nearly nothing
    assert np.all(result[..., 1][truth == 0] < 0.3)
    assert any("relative" in note for note in model.notes)


def test_a_pixel_between_the_classes_has_a_composition_in_between() -> None:
    layers = [Paint({"vermilion": share, "lead_white": 1.0 - share}).layer(2000.0) for share in (0.2, 0.3, 0.4)]
    area, sigma, scatter = areas_of([Stratigraphy((layer,)) for layer in layers], INSTRUMENT)
    model = Quantifier(FAMILIES, area[[1]], sigma[[1]], scatter[[1]], INSTRUMENT, AXIS, n_hypotheses=24)
    result = model(area, sigma, scatter)
    mercury = result[:, model.elements.index("Hg"), 0]
    truth = np.asarray([layer.mass_fractions["Hg"] for layer in layers])
    np.testing.assert_allclose(mercury / mercury[1], truth / truth[1], rtol=0.06)


def test_monte_carlo_paints_lie_in_the_intervals() -> None:
    if not (REFERENCE / "mc_panels.json").is_file():
        pytest.skip("the Monte Carlo panels (../shared/reference) are not there")
    facts = json.loads((REFERENCE / "mc_panels.json").read_text("utf-8"))
    with np.load(REFERENCE / "mc_panels.npz", allow_pickle=False) as arrays:
        spectra, nodes, photons = (
            arrays[name] for name in ("conv", "tube_cont_energy_keV", "tube_cont_phot_per_s_sr_mA_keV")
        )
    middle = np.arange(1.55, 40.0, 0.1)
    lines = facts["tube"]["lines"]
    source = SourceSpectrum(
        energy_kev=(*middle.tolist(), *(line[0] for line in lines)),
        weight=(*(0.1 * np.interp(middle, nodes, photons)).tolist(), *(line[1] for line in lines)),
    )
    geometry = Geometry(incidence_angle_deg=60.0, takeoff_angle_deg=60.0, source_air_cm=0.0, detector_air_cm=1.5)
    instrument = Instrument(source_spectrum=source, geometry=geometry, detector=Detector(dead_layer_um=0.0))
    axis = EnergyAxis(0.01, 0.0, 4096)
    rows = [index for index, sample in enumerate(facts["samples"]) if sample["name"].startswith("single_")]
    families = ("Al_K", "S_K", "Cr_K", "Co_K", "Cu_K", "Zn_K", "As_K", "Hg_L", "Pb_L", "Hg_M", "Pb_M")
    area = np.zeros((len(rows), len(families)))
    for row, index in enumerate(rows):
        for line in facts["samples"][index]["lines"]:
            if (name := f"{line['el']}_{line['line'][0]}") in families:
                area[row, families.index(name)] += line["counts"]
    scatter = spectra[rows, 2][:, scatter_window(instrument, axis)].sum(axis=1)
    scale = 1e5 / spectra[rows, 2].sum(axis=1)
    area, scatter = area * scale[:, None], scatter * scale
    sigma = np.sqrt(2.0 * area + 25.0 + (0.01 * area) ** 2)
    for kind in ("mass_percent", "surface"):
        model = Quantifier(families, area, sigma, scatter, instrument, axis, kind=kind, n_hypotheses=48)
        result = model(area, sigma, scatter)
        tops = [facts["samples"][index]["layers_from_surface"][0]["elements"] for index in rows]
        truth = 100.0 * np.asarray([[top.get(element, 0.0) for element in model.elements] for top in tops])
        inside = held(result, truth)
        assert inside.size >= 8
        assert inside.mean() >= 0.9


def test_what_may_lie_beneath_is_not_claimed_at_the_surface() -> None:
    hidden = Stratigraphy((Paint({"zinc_white": 1.0}).layer(40.0), Paint({"malachite": 1.0}).layer(100.0)))
    area, sigma, scatter = areas_of([hidden], INSTRUMENT)
    one_layer, surface = (
        Quantifier(FAMILIES, area, sigma, scatter, INSTRUMENT, AXIS, kind=kind, n_hypotheses=48)
        for kind in ("mass_percent", "surface")
    )
    copper = one_layer.elements.index("Cu")
    assert one_layer(area, sigma, scatter)[0, copper, 1] > 2.0
    assert surface(area, sigma, scatter)[0, copper, 1] < 1.0
    assert "--thickness 500-inf" in one_layer.wide_interval_note
    assert "--thickness" not in surface.wide_interval_note


def test_an_element_that_is_not_there_rules_no_hypothesis_out() -> None:
    """Its lines are noise, whose ratio says nothing of the layer."""
    names = ("Ca_K", "Fe_K", "Pb_L", "Pb_M", "Sb_K", "Sb_L")
    layer = Paint({"lead_white": 1.0, "chalk": 2.0}).layer(60.0)
    area, sigma, scatter = areas_of([Stratigraphy((layer,))], INSTRUMENT, names[:4], 1e6)
    area, sigma = np.hstack([area, [[5.0, -3.0]]]), np.hstack([sigma, [[20.0, 20.0]]])
    model = Quantifier(names, area, sigma, scatter, INSTRUMENT, AXIS, n_hypotheses=48)
    areas, sigmas, scatters, seconds = (np.repeat(values, 48, axis=0) for values in (area, sigma, scatter, np.ones(1)))

    def weights() -> Array:
        return model._solve_amounts(areas, sigmas, scatters, seconds, np.arange(48)).log_weight

    of_all = weights()
    model._other = [index for index in model._other if not names[index].startswith("Sb")]
    assert np.all(of_all - weights() > -1.5)


@pytest.fixture(scope="module")
def standard() -> Scan:
    """A thick glass, 50 s live, that gives a known number of counts for one of the model."""
    fractions = parse_composition(GLASS)
    return Scan(
        spectrum_of(Layer(fractions, 1.0, 1e4 * INFINITE_AREAL_DENSITY), 50.0), AXIS, live_time_s=np.full((1, 1), 50.0)
    )


COUNTS_PER_S = 3e4 / 50.0


def spectrum_of(layer: Layer, seconds: float, *beneath: Layer) -> NDArray[np.int64]:
    made = np.asarray(render(emit([Stratigraphy((layer, *beneath))], INSTRUMENT), INSTRUMENT.detector, AXIS))
    unit = np.asarray(
        render(
            emit([Stratigraphy((Layer(parse_composition(GLASS), 1.0, 1e5),))], INSTRUMENT), INSTRUMENT.detector, AXIS
        )
    ).sum()
    counts = np.random.default_rng(5).poisson(made * (100.0 * COUNTS_PER_S * seconds / unit))
    return np.asarray(counts).reshape(1, 1, -1)


@pytest.fixture(scope="module")
def scaled(standard: Scan) -> Instrument:
    return INSTRUMENT.model_copy(update={"scale": scale_from_standard(standard, INSTRUMENT, parse_composition(GLASS))})


def test_a_standard_gives_the_scale(scaled: Instrument, tmp_path: Path) -> None:
    scale = scaled.scale
    assert scale is not None
    # the model's own spectra: no factor but one, and as much scatter as it says
    np.testing.assert_allclose(scale.factors, 1.0, atol=0.12)
    assert scale.counts_per_scatter == pytest.approx(1.0, abs=0.1)
    assert scale.counts_per_s is not None
    assert {"Ca_K", "Fe_K", "Sr_K"} <= set(scale.families)
    save_instrument(scaled, tmp_path / "scaled.toml")
    assert load_instrument(tmp_path / "scaled.toml") == scaled
    # a family that the standard does not show has the factor of those beside it
    factor, error = scale.factor("Mn_K")
    assert min(scale.factors) <= factor <= max(scale.factors)
    assert error >= 0


@pytest.mark.parametrize("with_times", [True, False])
def test_a_thin_layer_has_its_areal_mass(scaled: Instrument, with_times: bool) -> None:
    truth = {"Fe": 120e-6, "Pb": 60e-6}
    areal = sum(truth.values()) / 0.7
    binder = {name: 0.3 * part for name, part in mass_fractions("C18H32O2").items()}
    film = Layer({**{name: mass / areal for name, mass in truth.items()}, **binder}, 1.0, 1e4 * areal)
    scan = Scan(
        spectrum_of(film, 200.0, Layer(mass_fractions("C6H10O5"), 1.0, 1e5)),
        AXIS,
        live_time_s=np.full((1, 1), 200.0) if with_times else None,
    )
    result = quantify(scan, scaled, kind="ug_cm2")
    assert result.areal_mass.attrs["units"] == "ug/cm2"
    for name, mass in truth.items():
        low, value, high = result.areal_mass.sel(element=name).values[:, 0, 0]
        assert low <= 1e6 * mass <= high
        assert value == pytest.approx(1e6 * mass, rel=0.12 if with_times else 0.4)
        assert high / low < (2.0 if with_times else 4.0)


def test_maps_are_written(scaled: Instrument, tmp_path: Path) -> None:
    paint = Paint({"vermilion": 1.0, "lead_white": 2.0}).layer(500.0)
    counts = np.random.default_rng(7).poisson(spectrum_of(paint, 30.0), size=(3, 4, AXIS.n_channel))
    save_scan(Scan(counts, AXIS, live_time_s=np.full((3, 4), 30.0)), tmp_path / "scan.h5")
    save_instrument(scaled, tmp_path / "ours.toml")
    command = ["elements", str(tmp_path / "scan.h5"), "--instrument", str(tmp_path / "ours.toml"), "--no-calibrate"]
    command += ["--out", str(tmp_path / "out"), "--quantities", "mass_percent", "--thickness", "100-inf", "--json"]
    done = CliRunner().invoke(app, command, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert any("absolute, from a standard, per second" in note for note in json.loads(done.stdout)["notes"])
    folder = tmp_path / "out" / "quantities"
    value, low, high = (tifffile.imread(folder / f"mass_fraction.Hg{end}.tif") for end in ("", ".low_90", ".high_90"))
    assert value.shape == (3, 4)
    assert np.all((low <= 100.0 * paint.mass_fractions["Hg"]) & (100.0 * paint.mass_fractions["Hg"] <= high))
    results = read_results(tmp_path / "out")
    np.testing.assert_array_equal(results.mass_fraction.sel(element="Hg"), [low, value, high])
    with (tmp_path / "out" / "summary.csv").open(encoding="utf-8", newline="") as stream:
        rows = {row["name"]: row for row in csv.DictReader(stream)}
    assert rows["mass_fraction.Hg"]["kind"] == "mass fraction"
    assert rows["mass_fraction.Hg"]["label"] == "Hg, mass fraction (one homogeneous layer) (%)"
    assert float(rows["mass_fraction.Hg"]["determined_share"]) == 1.0
    assert float(rows["mass_fraction.Hg"]["median_value"]) == pytest.approx(float(np.median(value)), rel=1e-3)
    report = (tmp_path / "out" / "report.html").read_text("utf-8").replace("\N{NO-BREAK SPACE}", " ")
    assert "Mass fraction (one homogeneous layer), with 90 % intervals" in report
    assert "per second of live time" in report


def test_a_composition_is_read() -> None:
    fractions = parse_composition("SiO2 50, CaO: 10; Fe=3 %")
    assert fractions["Fe"] == pytest.approx(0.03)
    assert sum(fractions.values()) == pytest.approx(0.63)
    assert fractions["Si"] / fractions["Ca"] == pytest.approx(5.0 * 28.086 / 60.084 / (40.078 / 56.077), rel=1e-3)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "has no positive amount"),
        ("Fe 0", "has no positive amount"),
        ("SiO2 60, CaO 50", "sum of 110 %"),
        ("SiO2", "at 'SiO2': each entry is a formula and its mass per cent. Write it as 'SiO2 50"),
        ("Xx2 5", "at 'Xx2 5': expected an element's symbol"),
        ("SiO2 -5", "at 'SiO2 -5'"),
    ],
)
def test_a_composition_that_cannot_be_is_refused(text: str, fault: str) -> None:
    with pytest.raises(SampleError, match=fault):
        parse_composition(text)


def test_what_cannot_be_computed_is_refused(standard: Scan) -> None:
    area, sigma, scatter = np.full((1, 1), 1e4), np.full((1, 1), 100.0), np.full(1, 1e4)

    def made(instrument: Instrument = INSTRUMENT, axis: EnergyAxis = AXIS, **options: Any) -> Quantifier:
        names, counts = options.pop("names", ("Fe_K",)), options.pop("scatter", scatter)
        return Quantifier(names, area, sigma, counts, instrument, axis, **options)

    with pytest.raises(SampleError, match="'percent': available are mass_percent, surface, ug_cm2"):
        made(kind="percent")
    with pytest.raises(SampleError, match="matrix 'stone': available are paint, oxides"):
        made(matrix="stone")
    with pytest.raises(SampleError, match="Omit the thickness"):
        made(kind="ug_cm2", thickness_um=(20.0, 100.0))
    with pytest.raises(SampleError, match=r"100 to 20 um thick.*Give the range as \(20, 100\)"):
        made(thickness_um=(100.0, 20.0))
    with pytest.raises(InstrumentError, match=r"'ours' has no scale.*underpaint calibrate --standard"):
        made(kind="ug_cm2")
    by_time = INSTRUMENT.model_copy(update={"scale": Scale(counts_per_s=2.0)})
    with pytest.raises(InstrumentError, match="is per second, and the scan has no live times"):
        made(by_time)
    with pytest.raises(CoverageError, match="50 counts of scattered tube radiation were recorded, at least 100"):
        made(scatter=np.full(1, 50.0))
    with pytest.raises(CoverageError, match="excites none of Ar_K"):
        made(names=("Ar_K",))
    with pytest.raises(CoverageError, match=r"the spectra end at 10\.0 keV, and scattered tube radiation is measured"):
        made(axis=EnergyAxis(0.01, 0.0, 1001))
    with pytest.raises(CoverageError, match="no line of U exceeds"):
        scale_from_standard(standard, INSTRUMENT, {"U": 0.5})
    with pytest.raises(ValueError, match="neither counts_per_s nor counts_per_scatter"):
        Scale()
    other = Results.of_lines(("Fe_K",), np.ones((2, 2, 1), np.float32), np.ones((2, 2, 1), np.float32))
    with pytest.raises(ScanError, match="the scan has 1 x 1 pixels, the element maps have 2 x 2"):
        quantify(standard, INSTRUMENT, maps=other)


def test_the_command_line_refuses_before_it_reads(tmp_path: Path) -> None:
    def output_of(*arguments: str) -> str:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code != 0
        return " ".join(done.output.split())

    assert "has no scale" in output_of("elements", "none.h5", "--quantities", "ug_cm2")
    assert "is not LOW-HIGH" in output_of("elements", "none.h5", "--quantities", "surface", "--thickness", "9")
    assert "no quantities were requested. Add --quantities" in output_of("elements", "none.h5", "--thickness", "20-100")
    assert "no quantities were requested. Add --quantities" in output_of("elements", "none.h5", "--matrix", "oxides")
    assert "--standard and --composition together" in output_of("calibrate", "--standard", "none.spx")
    assert "sum of 110 %" in output_of("calibrate", "--standard", "none.spx", "--composition", "SiO2 60, CaO 50")


def test_calibrate_writes_the_scale(standard: Scan, tmp_path: Path) -> None:
    save_scan(standard, tmp_path / "glass.h5")
    save_instrument(INSTRUMENT, tmp_path / "ours.toml")
    command = ["calibrate", "--standard", str(tmp_path / "glass.h5"), "--composition", GLASS, "--json"]
    command += ["--instrument", str(tmp_path / "ours.toml"), "--out", str(tmp_path / "scaled.toml")]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    scale = load_instrument(tmp_path / "scaled.toml").scale
    assert scale is not None
    assert json.loads(done.stdout)["scale"]["counts_per_scatter"] == pytest.approx(scale.counts_per_scatter)
    assert scale.counts_per_scatter == pytest.approx(1.0, abs=0.15)
    assert not any("fractions of one" in note for note in json.loads(done.stdout)["notes"])


def test_a_standard_without_its_lines_leaves_no_instrument_file(standard: Scan, tmp_path: Path) -> None:
    save_scan(standard, tmp_path / "glass.h5")
    (tmp_path / "scaled.toml").write_text("before")
    command = ["calibrate", "--standard", str(tmp_path / "glass.h5"), "--composition", "U 50", "--overwrite"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "scaled.toml")])
    assert done.exit_code != 0
    assert "no line of U exceeds" in " ".join(done.output.split())
    assert (tmp_path / "scaled.toml").read_text() == "before"


def test_a_composition_in_fractions_of_one_is_noticed(standard: Scan, tmp_path: Path) -> None:
    save_scan(standard, tmp_path / "glass.h5")
    fractions = re.sub(r"[0-9.]+(?=,|$)", lambda number: f"{float(number.group()) / 100:.5f}", GLASS)
    command = ["calibrate", "--standard", str(tmp_path / "glass.h5"), "--composition", fractions, "--json"]
    done = CliRunner().invoke(app, [*command, "--out", str(tmp_path / "scaled.toml")])
    assert done.exit_code == 0, done.output
    assert any("fractions of one" in note for note in json.loads(done.stdout)["notes"])


def test_grounds_do_not_stop_a_thick_paint() -> None:
    layer = Paint({"lead_white": 1.0}).layer(200.0)
    area, sigma, scatter = areas_of([Stratigraphy((layer, ground_layer("chalk", 200.0)))], INSTRUMENT)
    model = Quantifier(FAMILIES, area, sigma, scatter, INSTRUMENT, AXIS, n_hypotheses=48)
    lead = model(area, sigma, scatter)[0, model.elements.index("Pb")]
    assert lead[1] <= 100.0 * layer.mass_fractions["Pb"] <= lead[2]
