"""Maps of Compton and Rayleigh scatter beside those of elements."""

import csv
from pathlib import Path

import numpy as np
import pytest
import tifffile

import underpaint as up
from underpaint.data import EnergyAxis
from underpaint.data.maps import Results
from underpaint.display.report import render_report
from underpaint.elements._families import scatter_templates
from underpaint.elements.scatter import plan_scatter
from underpaint.errors import ScanError
from underpaint.io import write_results
from underpaint.io.results.result_maps import ResultMaps
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.simulate import PanelSettings

AXIS = EnergyAxis(0.02, 0.0, 2048)
USED = np.ones(AXIS.n_channel, bool)


def of_anode(symbol: str, voltage_kv: float = 40.0, angle_deg: float = 120.0) -> Instrument:
    elio = load_instrument("elio")
    return elio.model_copy(
        update={
            "tube": elio.tube.model_copy(update={"anode": symbol, "voltage_kv": voltage_kv}),
            "geometry": elio.geometry.model_copy(update={"scatter_angle_deg": angle_deg}),
        }
    )


def spectra(instrument: Instrument, counts: dict[str, float], n: int = 4000) -> np.ndarray:
    """Return (n, n_channel) Poisson counts of scattered lines over a background that falls in a straight line."""
    expected = 3.0 - 2e-4 * np.arange(AXIS.n_channel)
    for template in scatter_templates(instrument, AXIS):
        expected = expected + counts.get(template.name, 0.0) * template.counts
    return np.random.default_rng(7).poisson(expected, (n, AXIS.n_channel))


@pytest.mark.parametrize("anode", ["Rh", "Ag", "Mo", "Pd"])
def test_counts_of_both_peaks_and_their_deviations(anode: str) -> None:
    instrument = of_anode(anode)
    counts = spectra(instrument, {"Compton": 800.0, f"{anode}_K": 150.0})
    peaks = plan_scatter(counts.sum(axis=0).astype(float), AXIS, USED, scatter_templates(instrument, AXIS))
    assert peaks is not None
    assert peaks.names == ("Compton", "Rayleigh")
    values = peaks(counts).astype(np.float64)
    for index, true in enumerate((800.0, 150.0)):
        area, sigma = values[:, index, 0], values[:, index, 1]
        assert area.mean() == pytest.approx(true, abs=5 * area.std() / np.sqrt(len(area)))
        # the deviation also holds a per cent for the shapes, which are exact here
        assert area.std() <= 1.03 * sigma.mean()
        assert sigma.mean() < 1.3 * area.std()


def test_of_several_angles_the_one_that_describes_the_scan_is_taken() -> None:
    counts = spectra(of_anode("Rh", angle_deg=90.0), {"Compton": 800.0, "Rh_K": 150.0})
    templates = [
        scatter_template
        for angle in (90.0, 115.0, 140.0)
        for scatter_template in scatter_templates(of_anode("Rh", angle_deg=angle), AXIS)
    ]
    peaks = plan_scatter(counts.sum(axis=0).astype(float), AXIS, USED, templates)
    assert peaks is not None
    # 20.216 keV, scattered by 90 degrees (Compton 1923)
    assert peaks.energy_kev[0] == pytest.approx(20.216 / (1 + 20.216 / 511.0), abs=0.05)


def test_no_maps_where_the_anode_is_not_known_or_not_seen() -> None:
    counts = spectra(of_anode("Rh"), {}).sum(axis=0).astype(float)
    assert plan_scatter(counts, AXIS, USED, ()) is None
    assert plan_scatter(counts, AXIS, USED, scatter_templates(of_anode("Rh"), AXIS)) is None
    # 15 kV do not excite the K lines, and those of L stand among the elements' lines
    assert plan_scatter(counts, AXIS, USED, scatter_templates(of_anode("Rh", voltage_kv=15.0), AXIS)) is None
    half = USED & (AXIS.energy_kev < 20.0)
    assert plan_scatter(counts, AXIS, half, scatter_templates(of_anode("Rh"), AXIS)) is None


@pytest.fixture(scope="module")
def fitted() -> Results:
    panel = up.make_panel(PanelSettings(recipe="fig7", cell_pixels=1, gap_pixels=0, perturb=False))
    return up.fit_elements(panel.scan, instrument=load_instrument("elio"), engine="fixed")


def test_scatter_is_no_element(fitted: Results, tmp_path: Path) -> None:
    assert fitted.scatter_peaks == ("Compton", "Rayleigh")
    assert not {"Compton", "Rayleigh", "Rh_K"} & set(fitted.lines)
    assert fitted.scatter.dims == ("peak", "row", "column")
    assert fitted.scatter.attrs["units"] == "counts"
    np.testing.assert_array_equal(fitted.scatter.sel(peak="Compton"), fitted["Compton"])
    assert fitted["Compton"].sum() > 10 * np.hypot.reduce(fitted.map("scatter_sigma", "Compton"), axis=None)
    write_results(tmp_path / "out", fitted)
    again = up.read_results(tmp_path / "out")
    assert again.lines == fitted.lines
    for name in fitted.scatter_peaks:
        for quantity in ("scatter", "scatter_sigma"):
            np.testing.assert_array_equal(again.map(quantity, name), fitted.map(quantity, name))
        np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "scatter" / f"{name}.tif"), fitted[name])
    rows = list(csv.DictReader((tmp_path / "out" / "summary.csv").read_text("utf-8").splitlines()))
    assert {row["name"]: row["kind"] for row in rows if row["kind"] != "element"} == dict.fromkeys(
        fitted.scatter_peaks, "scatter"
    )
    maps = ResultMaps(tmp_path / "out")
    try:
        shown = {entry.name: entry for entry in maps.entries if entry.process == "scatter"}
        assert set(shown) == set(fitted.scatter_peaks)
        assert (shown["Compton"].kind, shown["Compton"].label, shown["Compton"].unit) == (
            "quantity",
            "Compton scatter",
            "counts",
        )
        assert shown["Compton"].error_path
    finally:
        maps.close()
    assert "Maps of scatter, counts: Compton, Rayleigh." in render_report(again)


def test_results_without_scatter_say_what_writes_it() -> None:
    ones = np.ones((2, 2, 1), np.float32)
    with pytest.raises(
        ScanError, match="contain no scatter: `underpaint elements` of a scan whose anode or beam is known"
    ):
        _ = Results.of_lines(("Fe_K",), ones, ones).scatter
