"""The library in twenty lines: a panel is painted and scanned, its elements and pigments are mapped, kept and read."""

from pathlib import Path

import underpaint as up
from underpaint.simulate import PanelSettings, save_panel


def test_from_a_scan_to_maps(tmp_path: Path) -> None:
    save_panel(up.make_panel(PanelSettings(recipe="fig7", cell_pixels=1, gap_pixels=0)), tmp_path / "panel.h5")
    scan = up.load(tmp_path / "panel.h5")
    assert scan.sum_spectrum().counts.sum() > 1e6

    elements = up.fit_elements(scan, families=["Hg_L", "Pb_L"])
    assert elements.area.sel(line="Hg_L").max() > 10 * elements.area_sigma.sel(line="Hg_L").max()

    pigments = up.identify(scan, palette=["vermilion", "lead_white", "chalk"], calibrated=False)
    surface = pigments.probability.sel(group="mercury_red", place="surface")
    assert surface.dims == ("row", "column")
    assert surface.max() > 0.9

    settings = up.Settings(model="none", calibrated=False)
    quantities = [output.quantity for output in up.plan(scan, settings).outputs]
    assert quantities == ["area", "area_sigma", "scatter", "scatter_sigma"]
    up.identify_to_folder(tmp_path / "panel.h5", tmp_path / "result", settings)
    assert "Hg_L" in up.read_results(tmp_path / "result").lines
