"""Labels by place, and what else a network of the layers is taught."""

from pathlib import Path

import h5py
import numpy as np
import pytest

from underpaint.data import DEFAULT_NETWORK_AXIS
from underpaint.data.maps import PLACES, at_place, split_place
from underpaint.physics.forward import emit, render
from underpaint.physics.instrument import SourceSpectrum, load_instrument
from underpaint.physics.materials import Paint, Stratigraphy, coating_layer, ground_layer, library, support_layer
from underpaint.simulate import LibrarySettings, outputs_for, simulate_library, visibility
from underpaint.simulate.instrument_inputs import INSTRUMENT_INPUTS, instrument_inputs
from underpaint.simulate.labels import materials, pigments_in, surface_shares, surface_thickness_um

VERMILION_OVER_LEAD = Stratigraphy(
    (
        coating_layer("dammar_varnish", 10.0),
        Paint({"vermilion": 3, "chrome_yellow": 1}).layer(30.0),
        Paint({"lead_white": 1}).layer(40.0),
        ground_layer("chalk", 100.0),
        support_layer("canvas"),
    )
)


def test_names_carry_their_place() -> None:
    assert [at_place("vermilion", place) for place in PLACES] == [
        "vermilion",
        "vermilion.surface",
        "vermilion.below",
    ]
    for place in PLACES:
        assert split_place(at_place("lead_white", place)) == ("lead_white", place)
    with pytest.raises(ValueError, match="does not end in a place"):
        split_place("vermilion.behind")


def test_varnish_is_no_surface_and_canvas_is_not_below() -> None:
    assert pigments_in(VERMILION_OVER_LEAD) == {
        *("vermilion", "chrome_yellow", "lead_white", "chalk"),
        *("vermilion.surface", "chrome_yellow.surface"),
        *("lead_white.below", "chalk.below"),
    }


def test_a_group_at_a_place_is_shown_by_the_lines_from_there() -> None:
    outputs = outputs_for(["vermilion", "chrome_yellow", "lead_white", "chalk"]).with_places()
    instrument, axis = load_instrument("elio"), DEFAULT_NETWORK_AXIS
    emission = emit([VERMILION_OVER_LEAD], instrument)
    expected = np.asarray(render(emission, instrument.detector, axis))
    labels, needed = visibility([VERMILION_OVER_LEAD], emission, expected, outputs, instrument.detector, axis)
    label = dict(zip(outputs.names, labels[0].tolist(), strict=True))
    counts = dict(zip(outputs.names, needed[0].tolist(), strict=True))
    for place in PLACES:
        assert label[at_place("lead_pigment", place)] == 1  # chrome yellow brings it to the surface
    assert (label["vermilion.below"], label["lead_white.surface"], label["mercury_red.surface"]) == (0, 0, 1)
    assert np.isinf(counts["vermilion.below"])
    # what lies anywhere shows at fewer counts than the part of it that lies at one place
    assert counts["lead_pigment"] < min(counts["lead_pigment.surface"], counts["lead_pigment.below"])
    assert counts["vermilion"] == counts["vermilion.surface"]


def test_what_the_surface_is_made_of() -> None:
    bare = Stratigraphy((support_layer("canvas"),))
    outputs = outputs_for(["vermilion", "chrome_yellow", "lead_white"]).with_places()
    names = materials(outputs.names)
    shares = surface_shares([VERMILION_OVER_LEAD, bare], outputs)
    assert shares.shape == (2, len(names)) == (2, len(outputs.names) // 3)
    share_of = dict(zip(names, shares[0].tolist(), strict=True))
    assert (share_of["vermilion"], share_of["mercury_red"]) == pytest.approx((0.75, 0.75))
    assert (share_of["chrome_yellow"], share_of["lead_pigment"], share_of["chromium_pigment"]) == pytest.approx(
        (0.25,) * 3
    )
    assert share_of["lead_white"] == 0.0
    assert not shares[1].any()
    assert set(library()["chrome_yellow"].groups) == {"lead_pigment", "chromium_pigment"}
    np.testing.assert_array_equal(surface_thickness_um([VERMILION_OVER_LEAD, bare]), [30.0, np.nan])


def test_an_instrument_as_numbers() -> None:
    elio = load_instrument("elio")
    inputs = dict(zip(INSTRUMENT_INPUTS, instrument_inputs(elio).tolist(), strict=True))
    assert inputs[f"anode_{elio.tube.anode}"] == 1.0
    assert sum(value for name, value in inputs.items() if name.startswith("anode_")) == 1.0
    assert inputs["voltage_kv"] == pytest.approx(elio.tube.voltage_kv / 50.0)
    assert 0.8 < inputs["fwhm_kev"] < 1.2
    broad = elio.detector.model_copy(update={"noise_fwhm_kev": 0.2})
    assert instrument_inputs(elio, broad)[-1] > inputs["fwhm_kev"]
    source = SourceSpectrum(energy_kev=(17.4,), weight=(1.0,))
    unknown = instrument_inputs(elio.model_copy(update={"source_spectrum": source}))
    assert np.isnan(unknown[: INSTRUMENT_INPUTS.index("voltage_kv") + 1]).all()
    assert np.isfinite(unknown[INSTRUMENT_INPUTS.index("incidence_deg") :]).all()


def test_a_library_with_places(tmp_path: Path) -> None:
    settings = LibrarySettings(n_stratigraphies=6, renders=2, chunk=4, seed=3, places=True)
    with h5py.File(simulate_library(settings, tmp_path / "places.h5", workers=1)) as file:
        labels, share, thickness = (file[name][()] for name in ("labels", "surface_share", "surface_um"))
        instrument = file["instrument"][()]
    anywhere, surface, below = np.split(labels, 3, axis=1)
    np.testing.assert_array_equal(anywhere, surface | below)
    assert below.any()
    np.testing.assert_array_equal(share > 0, surface == 1)
    assert np.all((thickness >= 5.0) & (thickness <= 200.0))
    assert instrument.shape == (12, len(INSTRUMENT_INPUTS))
    assert len(np.unique(instrument[:, -1])) == 4  # two chunks, each seen with two detectors
