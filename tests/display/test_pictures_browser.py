"""Pictures as layers over the maps, in Chromium: added, aligned, ordered, seen through the lens, kept, and removed."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import press, results_page, text_of, wait
from PIL import Image
from viewer_fakes import results

from underpaint.io.results.session import read_session

pytestmark = pytest.mark.browser
POINTS = [[0, 0, 0, 0], [200, 0, 20, 0], [0, 120, 0, 12], [200, 120, 20, 12]]
COLOR_AT = """
const [row, column] = arguments;
const pane = window.viewer.panes[0], frame = pane.frame(), context = pane.canvas.getContext('2d');
const at = [frame.left + (column + 0.2) * frame.across, frame.top + (row + 0.2) * frame.down].map(Math.round);
return [...context.getImageData(...at, 1, 1).data].slice(0, 3);
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return results(tmp_path)


@pytest.fixture
def page(chromium: Any, folder: Path) -> Iterator[Any]:
    with results_page(chromium, folder, scan=False):
        press(chromium, "#tab-pictures")
        yield chromium


def add(page: Any, place: Path, kind: str, color: tuple[int, int, int]) -> None:
    """Add a picture of one colour, and align it by points so that it covers the maps."""
    path = place / f"{kind}.png"
    Image.fromarray(np.full((120, 200, 3), color, np.uint8)).save(path)
    page.execute_script(
        "const kind = document.getElementById('picture-kind'); kind.value = arguments[0];"
        "kind.dispatchEvent(new Event('change'))",
        kind,
    )
    before = page.execute_script("return window.viewer.pictures.layers.length")
    page.find_element("id", "picture-file").send_keys(str(path))
    wait(page, f"window.viewer.pictures.layers.length === {before + 1}")
    page.execute_script(
        "const own = window.viewer.pictures; return own.register(own.layers[0], { points: arguments[0] })", POINTS
    )
    wait(page, "!!window.viewer.pictures.layers[0]?.image")


def opacity(page: Any, key: str, value: float) -> None:
    page.execute_script(
        "const own = document.getElementById(`opacity-${arguments[0]}`); own.value = arguments[1];"
        "own.dispatchEvent(new Event('input')); own.dispatchEvent(new Event('change'))",
        key,
        value,
    )


def color_at(page: Any, row: int, column: int) -> Any:
    return page.execute_script(COLOR_AT, row, column)


def test_layers_are_mixed_ordered_and_kept(page: Any, folder: Path, tmp_path: Path) -> None:
    add(page, tmp_path, "visible", (250, 0, 0))
    add(page, tmp_path, "infrared", (0, 250, 0))
    assert page.execute_script("return document.body.dataset.pictures") == "infrared_1:aligned photograph:aligned"
    for key in ("photograph", "infrared_1"):
        opacity(page, key, 1)
    np.testing.assert_allclose(color_at(page, 2, 3), [0, 250, 0], atol=3)
    opacity(page, "infrared_1", 0.5)
    np.testing.assert_allclose(color_at(page, 2, 3), [125, 125, 0], atol=4)
    press(page, "#up-photograph")
    np.testing.assert_allclose(color_at(page, 2, 3), [250, 0, 0], atol=3)
    press(page, "#undo")
    np.testing.assert_allclose(color_at(page, 2, 3), [125, 125, 0], atol=4)
    press(page, "#show-infrared_1")
    np.testing.assert_allclose(color_at(page, 2, 3), [250, 0, 0], atol=3)
    press(page, "#up-photograph")
    press(page, "#tab-export")
    press(page, "#keep-view")
    wait(page, "document.body.dataset.session")
    saved = read_session(folder).view["pictures"]["layers"]
    assert [(each["key"], each["shown"]) for each in saved] == [("photograph", True), ("infrared_1", False)]
    page.refresh()
    wait(page, "document.body.dataset.view === '1'")
    np.testing.assert_allclose(color_at(page, 2, 3), [250, 0, 0], atol=3)
    assert page.execute_script("return window.viewer.pictures.state().layers") == saved


def test_the_lens_shows_one_picture_round_the_chosen_pixel(page: Any, tmp_path: Path) -> None:
    add(page, tmp_path, "x_radiograph", (0, 0, 250))
    press(page, "#show-x_radiograph_1")  # off: the lens alone shows it
    before = color_at(page, 2, 3)
    press(page, "#lens-x_radiograph_1")
    page.execute_script("window.viewer.pane.canvas.focus(); return window.viewer.choosePixel(2, 3)")
    from selenium.webdriver.common.keys import Keys

    page.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    wait(page, "document.body.dataset.spot === '2,4'")
    np.testing.assert_allclose(color_at(page, 2, 3), [0, 0, 250], atol=3)
    assert color_at(page, 2, 3) != before


def test_points_are_marked_by_keys_alone(page: Any, folder: Path, tmp_path: Path) -> None:
    from selenium.webdriver.common.keys import Keys

    path = tmp_path / "painting.png"
    Image.fromarray(np.full((120, 200, 3), 128, np.uint8)).save(path)
    page.find_element("id", "picture-file").send_keys(str(path))
    wait(page, "!!document.getElementById('mark-points')")
    color = "return getComputedStyle(document.querySelector('.pane h2')).color"
    before = page.execute_script(color)
    press(page, "#mark-points")
    assert page.execute_script(color) == before  # the style of points is not that of the maps' titles
    for steps, pixel in (([], (6, 10)), ([Keys.SHIFT, *[Keys.ARROW_RIGHT] * 2, Keys.NULL], (6, 14))):
        page.execute_script("document.getElementById('picture-stage').focus()")
        page.switch_to.active_element.send_keys(*steps, Keys.ENTER)
        page.execute_script("return window.viewer.choosePixel(...arguments[0])", pixel)
        page.execute_script("window.viewer.pane.canvas.focus()")
        page.switch_to.active_element.send_keys(Keys.ENTER)
    press(page, "#align-points")
    wait(page, "!!window.viewer.pictures.layers[0]?.image")
    assert (folder / "photograph_registered.png").is_file()
    assert "Aligned by points" in text_of(page, "pictures")
    scale = page.execute_script("return window.viewer.pictures.layers[0].facts.registration.matrix[0][0]")
    assert scale == pytest.approx(10, rel=1e-6)  # 40 pixels of the picture for 4 of the maps


def test_a_picture_is_removed_when_that_is_confirmed(page: Any, folder: Path, tmp_path: Path) -> None:
    add(page, tmp_path, "ultraviolet", (9, 9, 9))
    page.execute_script("window.confirm = () => false")
    press(page, "#remove-ultraviolet_1")
    assert (folder / "pictures" / "ultraviolet_1.jpg").is_file()
    page.execute_script("window.confirm = () => true")
    press(page, "#remove-ultraviolet_1")
    wait(page, "!window.viewer.pictures.layers.length")
    assert not list((folder / "pictures").iterdir())
