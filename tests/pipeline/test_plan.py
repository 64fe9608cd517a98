"""What a run will make is known before any block is worked on, and is what it makes; Python and a folder agree."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import underpaint as up
from underpaint.data import Scan
from underpaint.data.maps import Results
from underpaint.physics.instrument import load_instrument
from underpaint.pipeline.plan import Plan, Settings, plan
from underpaint.pipeline.run import identify_to_folder
from underpaint.simulate import PanelSettings, make_panel, save_panel

SETTINGS = Settings(instrument="elio")


@pytest.fixture(scope="module")
def panel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("panel") / "panel.h5"
    save_panel(make_panel(PanelSettings(recipe="fig7", cell_pixels=1, counts=1e4, perturb=False)), path)
    return path


@pytest.fixture(scope="module")
def planned(panel: Path) -> Plan:
    return plan(up.load(panel), SETTINGS)


@pytest.fixture(scope="module")
def results(planned: Plan) -> Results:
    return planned.run()


def test_outputs_are_declared_and_kept(planned: Plan, results: Results) -> None:
    declared = {output.quantity: output for output in planned.outputs}
    assert set(declared) == {
        "probability", "quantity", "quantity_sigma", "area", "area_sigma", "scatter", "scatter_sigma", "state",
        "pool", "unlikeness", "peak_kev", "amount", "amount_low", "amount_high", "amount_reached",
    }  # fmt: skip
    assert (declared["area"].dimensions, declared["area"].units) == (("line",), "counts")
    assert declared["probability"].dimensions == ("material", "place")
    assert ("mercury_red", "surface") in declared["probability"].keys
    made = {name: stack.keys for name, stack in results.stacks.items() if name != "paint"}  # which needs all blocks
    assert made == {name: output.keys for name, output in declared.items()}
    assert all(stack.values.shape == (*results.shape, len(stack.keys)) for stack in results.stacks.values())


def test_memory_and_folder_hold_the_same(panel: Path, results: Results, tmp_path: Path, without_report: None) -> None:
    written = identify_to_folder(panel, tmp_path / "out", SETTINGS)
    assert set(written.to_dataset()) == set(results.to_dataset())
    for name in ("probability", "area", "area_sigma", "state", "unlikeness"):
        np.testing.assert_array_equal(getattr(written, name), getattr(results, name))
    np.testing.assert_allclose(written.thickness, results.thickness, rtol=1e-4)
    assert written.notes == results.notes
    assert written.unexplained == results.unexplained
    assert repr(written) == repr(results)


def test_blocks_are_worked_on_without_xarray(panel: Path) -> None:
    code = (
        f"import sys, underpaint as up; planned = up.plan(up.load({str(panel)!r}), up.Settings(instrument='elio')); "
        "results = planned.run(); print('xarray' in sys.modules, repr(results)[:20], 'xarray' in sys.modules); "
        "results.area; print('xarray' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:2] == ["False <underpaint results  False", "True"], done.stderr


def test_a_plan_for_elements_asks_no_network(panel: Path) -> None:
    outputs = plan(up.load(panel), replace(SETTINGS, model="none")).outputs
    assert [output.quantity for output in outputs] == ["area", "area_sigma", "scatter", "scatter_sigma"]


@pytest.mark.parametrize("analyse", [up.identify, up.plan, up.fit_elements])
def test_a_path_is_not_a_scan(analyse: Callable[[Any], object]) -> None:
    with pytest.raises(up.UnderpaintError, match=r"'panel.h5': it is a str, and a Scan is needed. Open the file"):
        analyse("panel.h5")


def test_a_scan_in_memory_is_planned_alike(tmp_path: Path) -> None:
    scan: Scan = make_panel(PanelSettings(recipe="fig7", cell_pixels=1, counts=1e4, perturb=False)).scan
    pigments = up.identify(scan, palette=["vermilion", "lead_white"], instrument="elio")
    assert pigments.groups == ("lead_pigment", "mercury_red")
    assert pigments.pigments == ("lead_white", "vermilion")
    assert float(pigments.probability.sel(group="mercury_red", place="surface").max()) > 0.5
    both = pigments | up.fit_elements(scan, instrument=load_instrument("elio"))
    assert float(both.area.sel(line="Hg_L").max()) > 100
    assert both.summary["settings"]["calibration"] == pigments.summary["settings"]["calibration"]
    assert set(both.to_dataset()) >= {"probability", "pigment_probability", "area", "thickness"}
    both.to_dataset().to_netcdf(tmp_path / "panel.nc")
