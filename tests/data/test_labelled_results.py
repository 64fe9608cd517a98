"""Results as labelled arrays: the same numbers as in the file, read when they are computed with."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray

import underpaint as up
from underpaint.data.maps import PLACES, Results, summarise_quantity
from underpaint.errors import ScanError

OLD = Path(__file__).parents[1] / "old_files" / "0.1.0"


@pytest.fixture(scope="module")
def results() -> Results:
    opened: Results = up.read_results(OLD / "default")
    return opened


def stored(path: str) -> NDArray[Any]:
    with h5py.File(OLD / "default" / "results.h5") as file:
        return np.asarray(file[f"entry/{path}"][()])


def test_a_group_at_a_place_is_selected_by_name(results: Results) -> None:
    surface = results.probability.sel(group="mercury_red", place="surface")
    np.testing.assert_array_equal(surface, stored("pigments/results/probability/mercury_red.surface"))
    assert tuple(results.probability.place.values) == PLACES
    assert surface.attrs["units"] == "1"
    assert surface.attrs["source"] == "panel.h5"
    assert "mercury" in str(results.probability.label.sel(group="mercury_red").values)


def test_a_line_is_selected_by_name(results: Results) -> None:
    iron = results.area.sel(line="Pb_L")
    np.testing.assert_array_equal(iron, stored("elements/results/parameters/Pb_L"))
    assert iron.attrs["units"] == "counts"
    np.testing.assert_array_equal(results.area_sigma.sel(line="Pb_L"), stored("elements/results/uncertainties/Pb_L"))


def test_intervals_are_a_dimension(results: Results) -> None:
    low, median, high = results.thickness.sel(quantile=[0.05, 0.5, 0.95], method="nearest")
    np.testing.assert_allclose(median, stored("pigments/results/quantities/thickness_um.surface"))
    np.testing.assert_allclose(low, stored("pigments/results/intervals/thickness_um.surface.low_90"), rtol=1e-5)
    assert bool((low <= median).all())
    assert bool((median <= high).all())
    assert results.share.dims == ("group", "quantile", "row", "column")


def test_states_say_what_their_numbers_mean(results: Results) -> None:
    np.testing.assert_array_equal(
        results.state.sel(group="mercury_red"), stored("detectability/results/state/mercury_red")
    )
    assert results.state.attrs["meaning"]["2"] == "cannot be excluded"


def test_members_stay_sparse(results: Results) -> None:
    assert results.pigment_probability.sel(pigment="vermilion").shape == results.shape
    np.testing.assert_array_equal(
        results.pigment_at("zinc_white", "surface"), stored("pigments/results/probability/zinc_white.surface")
    )
    with pytest.raises(KeyError, match=r"There is no map of vermilion at place 'surface'"):
        results.pigment_at("vermilion", "surface")


def test_results_of_elements_alone_have_no_pigments() -> None:
    elements = up.read_results(OLD / "pymca")
    with pytest.raises(ScanError, match="contain no pigments: `underpaint identify`"):
        _ = elements.probability
    assert elements.groups == ()
    assert "Pb_L" in elements.lines


def test_nothing_is_read_before_it_is_computed_with(results: Results, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AssertionError

    monkeypatch.setattr("underpaint.io.results.nexus.open_results_file", fail)
    lazily = results.to_dataset()
    assert set(lazily) == {
        "probability", "pigment_probability", "area", "area_sigma", "thickness", "share", "state", "unlikeness",
    }  # fmt: skip
    with pytest.raises(AssertionError):
        lazily.area.compute()


def test_results_unpack_as_they_did_before_they_were_a_class() -> None:
    unpacked: Any = up.read_results(OLD / "default", lazily=False)
    pigments, elements, summary = unpacked
    assert pigments["mercury_red"].mean() > 0
    assert elements["Pb_L"].mean() > 0
    assert summary["name"] == "panel"


def test_a_short_page_says_what_there_is(results: Results) -> None:
    page = repr(results)
    assert page.startswith("<underpaint results of panel: ")
    assert "mercury_red" in page
    assert "Pb_L" in page
    assert len(page.splitlines()) < 20


@pytest.mark.parametrize("lazily", [True, False])
def test_quantities_of_elements_come_back_with_their_intervals(tmp_path: Path, lazily: bool) -> None:
    rng = np.random.default_rng(4)
    low, value, high = np.sort(rng.random((3, 4, 5, 2), dtype=np.float32), axis=0)
    lines = Results.of_lines(("Fe_K", "Pb_L"), value, value)
    settings = {"sample": "uppermost paint"}
    quantities = Results.of_quantities(
        "mass_fraction", ("Fe", "Pb"), value, low, high, notes=("rel",), settings=settings
    )
    up.io.write_results(tmp_path, lines | quantities)
    back = up.read_results(tmp_path, lazily=lazily)
    lead = back.mass_fraction.sel(element="Pb")
    assert lead.dims == ("quantile", "row", "column")
    assert lead.attrs["units"] == "%"
    np.testing.assert_array_equal(lead.sel(quantile=[0.05, 0.95]), lead[[0, 2]])
    np.testing.assert_array_equal(lead, [part[:, :, 1] for part in (low, value, high)])
    assert back.quantity_label("mass_fraction.Pb") == "Pb, mass fraction (uppermost paint)"
    assert back.process_notes["quantities"] == ("rel",)
    assert "mass_fraction" in back.to_dataset()
    assert "mass_fraction Fe, Pb" in " ".join(repr(back).split())
    with pytest.raises(ScanError, match="contain no areal masses: `underpaint elements --quantities ug_cm2`"):
        _ = back.areal_mass
    with pytest.raises(ScanError, match=r"`underpaint identify --pool auto` of a scan with few counts writes them"):
        _ = back.pool
    with pytest.raises(ScanError, match=r"do not contain mass_fraction\.Zr; available are Fe, Pb"):
        back.is_determined("mass_fraction.Zr")
    with pytest.raises(ValueError, match=r"only 0\.9 is available"):
        back.estimate("mass_fraction.Pb", level=0.5)


def test_an_interval_from_zero_is_an_upper_limit_and_a_wide_one_is_not_determined() -> None:
    low, high = np.asarray([[[0.0, 1.0, 1.0, 30.0]], [[5.0, 5.0, 20.0, 90.0]]], np.float32)
    percent, areal = (
        Results.of_quantities(kind, ("Fe",), high[..., None], low[..., None], high[..., None])
        for kind in ("mass_fraction", "areal_mass")
    )
    assert percent.is_determined("mass_fraction.Fe").tolist() == [[False, True, False, False]]
    assert areal.is_determined("areal_mass.Fe").tolist() == [[False, True, False, True]]
    summary = summarise_quantity("areal_mass.Fe", areal.estimate("areal_mass.Fe"))
    assert (summary.determined_share, summary.upper_limit_share, summary.median_upper_limit) == (0.5, 0.25, 5.0)
    assert (summary.low, summary.high) == (1.0, 20.0)
