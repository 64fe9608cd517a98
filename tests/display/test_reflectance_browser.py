"""Chromium shows the surface: the cube as a layer, a pixel's reflectance beside the library's, what lies below."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import press, text_of, wait
from PIL import Image
from viewer_fakes import SHAPE, element_maps, pigment_maps

from result_parts import joined
from underpaint.data.maps import Results
from underpaint.display.viewer import serve
from underpaint.io import write_results
from underpaint.io.results.sidecars import REFLECTANCE_FILE

pytestmark = pytest.mark.browser
WAVELENGTHS = np.arange(420.0, 981.0, 10.0)


def with_surface(place: Path) -> Path:
    """Azurite everywhere, and mercury below it in the last column; a cube that is red."""
    member = np.zeros((*SHAPE, 2), np.float32)
    member[:, :, 0], member[:, :, 1] = 0.9, 0.1
    hidden = np.zeros((*SHAPE, 1), np.float32)
    hidden[:, -1] = 0.97
    spectra = np.broadcast_to(np.linspace(0.2, 0.6, WAVELENGTHS.size), (*SHAPE, WAVELENGTHS.size)).astype(np.float32)
    parts = {
        "surface_member": member,
        "surface_presence": member[:, :, :1],
        "surface_share": member[:, :, :1],
        "hidden": (("mercury_red",), hidden),
        "reflectance": (WAVELENGTHS, spectra),
    }
    settings = {
        "labels": {"azurite": "azurite", "none_of_these": "none of the library"},
        "member_spectra": {"azurite": np.linspace(0.1, 0.5, WAVELENGTHS.size).tolist()},
        "registration": {"how": "points", "error_px": 0.4, "verdict": "well"},
        "library": "that of the package",
    }
    surface = Results.of_reflectance(("azurite", "none_of_these"), parts, settings=settings)
    write_results(place / "result", joined(pigment_maps(), element_maps(), surface, summary={"name": "panel"}))
    Image.new("RGB", (40, 24), (255, 0, 0)).save(place / "result" / REFLECTANCE_FILE)
    return place / "result"


def test_the_cube_is_a_layer_and_a_pixel_shows_both_spectra(chromium: Any, tmp_path: Path) -> None:
    with serve(with_surface(tmp_path)) as server:
        chromium.get(server.address)
        wait(chromium, "document.body.dataset.ready === 'all' && !!window.viewer.reflectance.picture")
        press(chromium, "#tab-reflectance")
        chromium.execute_script("window.viewer.choosePixel(3, arguments[0])", SHAPE[1] - 1)
        wait(chromium, f"document.body.dataset.reflectance === '3,{SHAPE[1] - 1}'")
        words = text_of(chromium, "reflectance")
        for expected in ("azurite: 90 %", "Below the surface", "97 %", "by points, 0.4 pixels"):
            assert expected in words
        n_line = chromium.execute_script("return document.querySelectorAll('#reflectance polyline').length")
        assert n_line == 2
        middle = (
            "const c = window.viewer.panes[0].canvas; const f = window.viewer.panes[0].frame();"
            "const at = [f.left + 10.5 * f.across, f.top + 6.5 * f.down];"
            "return Array.from(c.getContext('2d').getImageData(...at, 1, 1).data)"
        )
        chromium.execute_script(
            "const own = document.getElementById('reflectance-blend'); own.value = 1;"
            "own.dispatchEvent(new Event('input')); window.viewer.chosen = null; window.viewer.draw();"
        )
        wait(chromium, "window.viewer.reflectance.blend === 1")
        red, green, blue, _ = chromium.execute_script(middle)
        assert red > 240
        assert max(green, blue) < 15
        assert [entry for entry in chromium.get_log("browser") if entry["level"] == "SEVERE"] == []
