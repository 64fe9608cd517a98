"""Virtual twins: a panel's reflectance beside its scan."""

from pathlib import Path

import numpy as np
import pytest

from underpaint.errors import OutputError, SampleError
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer
from underpaint.reflectance import builtin
from underpaint.reflectance.library import envi_entries
from underpaint.reflectance.twin import panel_reflectance, save_twin, split_halves


def panel(top: str, thickness_um: float) -> Stratigraphy:
    bottom = Paint({"azurite": 1.0}).layer(120.0)
    return Stratigraphy((Paint({top: 1.0}).layer(thickness_um), bottom, ground_layer("chalk", 150.0)))


def test_the_halves_share_no_patch_and_both_have_what_was_measured_twice() -> None:
    first, second = split_halves(builtin())
    assert {reference.patch for reference in first.spectra}.isdisjoint(reference.patch for reference in second.spectra)
    assert len(first) + len(second) == len(builtin())
    needed = {"lead_white", "zinc_white", "vermilion", "cobalt_blue", "prussian_blue", "chrome_yellow", "carmine_lake"}
    assert needed <= set(first.members) & set(second.members)


def test_a_thick_layer_hides_what_a_thin_one_shows() -> None:
    first, _ = split_halves(builtin())
    thin, thick = panel("vermilion", 1.0), panel("vermilion", 500.0)
    bare = Stratigraphy(thin.layers[1:])
    twin = panel_reflectance([bare, thin, thick, thick], (2, 2), first, magnification=1, seed=4)
    azurite, through, red, _ = twin.reflectance.reshape(4, -1)
    long_waves = twin.wavelength_nm > 650
    assert red[long_waves].mean() > 2 * azurite[long_waves].mean()
    assert azurite[long_waves].mean() < through[long_waves].mean() < red[long_waves].mean()


def test_a_twin_is_the_same_for_a_seed_and_written_as_envi(tmp_path: Path) -> None:
    first, _ = split_halves(builtin())
    reference, two = (panel_reflectance([panel("vermilion", 50.0)] * 6, (2, 3), first, seed=7) for _ in range(2))
    np.testing.assert_array_equal(reference.reflectance, two.reflectance)
    assert reference.reflectance.shape[:2] == (4, 6)
    header = save_twin(reference, tmp_path / "twin.hdr")
    entries = envi_entries(header.read_text())
    assert "virtual" in entries["description"]
    stored = np.fromfile(tmp_path / "twin.img", "<u2").reshape(4, int(entries["bands"]), 6).transpose(0, 2, 1)
    np.testing.assert_allclose(stored / 10_000, reference.reflectance, atol=1e-4)
    with pytest.raises(OutputError):
        save_twin(reference, tmp_path / "twin.hdr")


def test_a_pigment_without_a_spectrum_is_named() -> None:
    _, second = split_halves(builtin())
    with pytest.raises(SampleError, match="smalt"):
        panel_reflectance([panel("smalt", 50.0)], (1, 1), second)
