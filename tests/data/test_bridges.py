"""Scans and results in a notebook and in other programs: HTML, xarray, HyperSpy."""

from typing import Any

import numpy as np
import pytest

import underpaint as up
from underpaint.data.maps import Results
from underpaint.errors import MissingExtraError


def scan(axis: up.EnergyAxis | None, **facts: Any) -> up.Scan:
    counts = np.arange(2 * 3 * 8, dtype=np.uint16).reshape(2, 3, 8)
    return up.Scan(counts, axis, name="small & <bold>", **facts)


AXIS = up.EnergyAxis(0.5, 0.1, 8)


def test_a_labelled_array_has_energies_positions_and_times() -> None:
    live_time_s = np.full((2, 3), 0.25)
    array = scan(AXIS, step_mm=(0.5, 2.0), live_time_s=live_time_s).to_dataarray()
    assert array.dims == ("row", "column", "energy_kev")
    np.testing.assert_allclose(array.energy_kev[[0, -1]], [0.1, 3.6])
    assert array.sel(row=1, column=2).sel(energy_kev=1.1, method="nearest") == 42
    np.testing.assert_array_equal(array.x_mm, [0.0, 2.0, 4.0])
    np.testing.assert_array_equal(array.y_mm, [0.0, 0.5])
    np.testing.assert_array_equal(array.live_time_s, live_time_s)


def test_without_an_axis_the_channels_stand() -> None:
    assert scan(None).to_dataarray().dims == ("row", "column", "channel")


def test_missing_pixels_are_zero() -> None:
    present = np.array([[True, True, True], [True, True, False]])
    assert scan(AXIS, present=present).to_dataarray().sel(row=1, column=2).sum() == 0


@pytest.mark.parametrize("axis", [AXIS, None])
def test_a_scan_shows_itself_in_a_notebook(axis: up.EnergyAxis | None) -> None:
    page = scan(axis)._repr_html_()
    assert "small &amp; &lt;bold&gt;: 2 rows x 3 columns" in page
    assert "<bold>" not in page
    assert "xr-wrap" in page


def test_results_show_themselves_in_a_notebook() -> None:
    area = np.ones((2, 3, 1), np.float32)
    page = Results.of_lines(("Fe_K",), area, area)._repr_html_()
    assert "lines       Fe_K" in page
    assert "area_sigma" in page
    assert "Dataset" in Results()._repr_html_()


def test_a_hyperspy_signal_has_the_axes_of_the_scan() -> None:
    pytest.importorskip("hyperspy", reason="HyperSpy is not installed")
    original = scan(AXIS, step_mm=(0.5, 2.0))
    signal = original.to_hyperspy()
    assert signal._lazy
    energy = signal.axes_manager.signal_axes[0]
    assert (energy.scale, energy.offset, energy.units, energy.size) == (0.5, 0.1, "keV", 8)
    # HyperSpy lists navigation axes from the fastest
    assert [(axis.name, axis.scale, axis.size) for axis in signal.axes_manager.navigation_axes] == [
        ("x", 2.0, 3), ("y", 0.5, 2),
    ]  # fmt: skip
    np.testing.assert_array_equal(signal.data.compute(), original.counts.compute())


def test_without_hyperspy_the_error_names_what_to_install() -> None:
    try:
        import hyperspy  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtraError, match="pip install hyperspy"):
            scan(AXIS).to_hyperspy()
    else:
        pytest.skip("HyperSpy is installed")


def test_reflectance_goes_into_the_dataset_beside_groups() -> None:
    maps = np.ones((2, 3, 2), np.float32)
    parts = {"surface_member": maps, "surface_presence": maps[:, :, :1], "surface_share": maps[:, :, :1]}
    names = ("zinc_pigment", "lead_pigment")
    pigments = Results.of_pigments(
        names,
        maps,
        kinds=("group",) * 2,
        groups=[(name,) for name in names],
        labels=names,
        elements=[("Zn_K",), ("Pb_L",)],
    )
    hidden = {"hidden": (("lead_pigment",), maps[:, :, :1])}
    dataset = (pigments | Results.of_reflectance(("azurite", "none_of_these"), parts | hidden)).to_dataset()
    assert dataset.group.values.tolist() == list(names)
    assert dataset.hidden.sel(group="zinc_pigment").isnull().all()
    assert dataset.hidden.sel(group="lead_pigment").notnull().all()
    assert dataset.member_label.sel(member="azurite") == "azurite"
    assert dataset.surface_presence.sel(member="none_of_these").isnull().all()
