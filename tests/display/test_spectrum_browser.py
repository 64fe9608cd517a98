"""The spectrum in Chromium: read-out, scales, markers, energy windows, and the fit with lines that are ticked."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import press, results_page, text_of, wait
from test_browser import drag
from viewer_fakes import AXIS, SHAPE, results

from underpaint.io.results.session import Marker, read_session

pytestmark = pytest.mark.browser
PEAK = 100.0 * np.indices(SHAPE)[0] + np.indices(SHAPE)[1]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return results(tmp_path)


@pytest.fixture
def page(chromium: Any, folder: Path) -> Iterator[Any]:
    with results_page(chromium, folder, tolerated="409 (Conflict)"):
        yield chromium


def at_energy(page: Any, energy_kev: float) -> tuple[float, float]:
    """Return where an energy lies in the window."""
    x, y = page.execute_script(
        "const s = window.viewer.spectrum, b = s.place.getBoundingClientRect();"
        "return [b.left + s.scale.x(arguments[0]), b.top + b.height / 2]",
        energy_kev,
    )
    return float(x), float(y)


def shown_values(page: Any) -> Any:
    return np.reshape(page.execute_script("return [...window.viewer.pane.parts[0].values]"), SHAPE)


def test_a_drag_over_a_peak_maps_its_window(page: Any) -> None:
    drag(page, [at_energy(page, 9.8), at_energy(page, 10.1), at_energy(page, 10.2)])
    name = wait(page, "document.body.dataset.window")
    wait(page, "window.viewer.pane.entry.kind === 'window'")
    low, high = (float(end) for end in name.split("_")[1:])
    assert abs(low - 9.8) < 2 * AXIS.gain_kev
    assert abs(high - 10.2) < 2 * AXIS.gain_kev
    np.testing.assert_allclose(shown_values(page), PEAK - 1, atol=1e-3)
    assert f"{low:.2f}–{high:.2f} keV" in text_of(page, "list")


def test_with_its_background_a_window_holds_all_counts(page: Any) -> None:
    press(page, "#spectrum-net")
    page.execute_script("window.viewer.spectrum.chosen([9.91, 10.09])")
    wait(page, "document.body.dataset.window && window.viewer.pane.entry.kind === 'window'")
    channels = shown_values(page)[0, 1]  # the peak holds one count there, as each of the others
    np.testing.assert_allclose(shown_values(page), PEAK + channels - 1)
    assert "with background" in text_of(page, "list")


def test_shift_and_the_zoom_button_look_closer(page: Any) -> None:
    press(page, "[data-drag=zoom]")
    drag(page, [at_energy(page, 5.0), at_energy(page, 6.0), at_energy(page, 8.0)])
    low, high = page.execute_script("return window.viewer.spectrum.range")
    assert abs(low - 5) + abs(high - 8) < 0.2
    press(page, "#spectrum-all")
    assert page.execute_script("return window.viewer.spectrum.range") is None


def test_the_read_out_names_energy_channel_counts_and_lines(page: Any) -> None:
    page.execute_script("window.viewer.choosePixel(3, 4)")
    wait(page, "document.body.dataset.spot === '3,4'")
    page.execute_script("window.viewer.spectrum.point(10.0)")
    words = text_of(page, "spectrum-readout")
    assert "10.00 keV · channel 500 · 304 counts" in words
    assert "Hg Lα 9.99" in words


def test_scales_draw_the_same_counts_at_their_heights(page: Any) -> None:
    share = (
        "const s = window.viewer.spectrum.scale; const [zero, half, full] = [0, 25, 100].map((own) => s.y(own));"
        "return (zero - half) / (zero - full)"
    )
    choose = (
        "const own = document.getElementById('spectrum-scale'); own.value = arguments[0];"
        "own.dispatchEvent(new Event('change'));"
    )
    page.execute_script(choose, "linear")
    assert page.execute_script(share) == pytest.approx(0.25)
    page.execute_script(choose, "root")
    assert page.execute_script(share) == pytest.approx(0.5)
    assert "square-root axis" in page.execute_script("return document.querySelector('#spectrum-plot svg').ariaLabel")


def test_markers_are_saved_and_their_change_is_undone(page: Any, folder: Path) -> None:
    page.execute_script("document.getElementById('spectrum-plot').focus(); window.viewer.spectrum.point(9.99)")
    page.switch_to.active_element.send_keys("m")
    wait(page, "document.body.dataset.session")
    assert read_session(folder).markers == (Marker(9.99, "Hg Lα?"),)
    press(page, "#tab-fit")
    page.execute_script(
        "const own = document.querySelector('#fit li input'); own.value = 'gold?';"
        "own.dispatchEvent(new Event('change'))"
    )
    wait(page, "[...document.querySelectorAll('text.marker')].some((own) => own.textContent === 'gold?')")
    press(page, "#undo")
    wait(page, "[...document.querySelectorAll('text.marker')].some((own) => own.textContent === 'Hg Lα?')")
    press(page, "#undo")
    page.execute_script("return window.viewer.session.saving")
    assert read_session(folder).markers == ()


def test_markers_of_another_page_are_kept(page: Any, folder: Path) -> None:
    page.execute_script(
        "return fetch('session', { method: 'POST', body: JSON.stringify({ version: window.viewer.session.version,"
        "session: { markers: [{ energy_kev: 5, label: 'other' }], statements: [], view: {} } }) })"
    )
    page.execute_script("window.viewer.session.mark(7)")
    page.execute_script("return window.viewer.session.saving")
    assert {marker.energy_kev for marker in read_session(folder).markers} == {5.0, 7.0}


def test_ticked_lines_are_fitted_and_drawn(page: Any) -> None:
    page.execute_script("window.viewer.choosePixel(9, 9)")
    wait(page, "document.body.dataset.spot === '9,9'")
    press(page, "#tab-fit")
    wait(page, "document.body.dataset.fit === 'row 9, column 9||'")
    assert page.execute_script("return document.querySelectorAll('.curve.fit, .curve.residual').length") >= 2
    before = page.execute_script("return window.viewer.fitPanel.fit.chi_square")
    press(page, "[data-family=Hg_L]")
    wait(page, "document.body.dataset.fit === 'row 9, column 9||Hg_L'")
    assert page.execute_script("return window.viewer.fitPanel.fit.chi_square") >= before
    assert "left out" in text_of(page, "fit")
    page.execute_script(
        "const own = document.querySelector('#fit input[type=text]'); own.value = 'eu l';"
        "own.dispatchEvent(new Event('change'))"
    )
    wait(page, "document.body.dataset.fit === 'row 9, column 9|Eu_L|Hg_L'")
    page.execute_script(
        "const own = document.getElementById('fit-what'); own.value = 'scan'; own.dispatchEvent(new Event('change'))"
    )
    wait(page, "document.body.dataset.fit.startsWith('sum of all pixels')")


def test_a_window_is_chosen_by_keys_alone(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    page.execute_script("document.getElementById('spectrum-plot').focus(); window.viewer.spectrum.point(9.9)")
    page.switch_to.active_element.send_keys(Keys.ENTER, Keys.SHIFT, Keys.ARROW_RIGHT, Keys.NULL, Keys.ENTER)
    wait(page, "document.body.dataset.window && window.viewer.pane.entry.kind === 'window'")
    np.testing.assert_allclose(shown_values(page), PEAK - 1, atol=1e-3)


def test_the_marker_button_marks_where_one_pointed_last(page: Any, folder: Path) -> None:
    press(page, "#spectrum-mark")
    assert "Point at the spectrum first" in text_of(page, "message")
    page.execute_script("window.viewer.spectrum.point(6.4); window.viewer.spectrum.point(null)")
    press(page, "#spectrum-mark")
    page.execute_script("return window.viewer.session.saving")
    assert [marker.energy_kev for marker in read_session(folder).markers] == [6.4]


def test_a_line_that_cannot_be_fitted_is_not_kept(page: Any) -> None:
    page.execute_script("return window.viewer.choosePixel(9, 9)")
    press(page, "#tab-fit")
    wait(page, "document.body.dataset.fit")
    enter = (
        "const line = document.querySelector('#fit input[type=text]'); line.value = arguments[0];"
        "line.dispatchEvent(new Event('change'))"
    )
    page.execute_script(enter, "tin")
    assert "name an element and a series" in text_of(page, "message")
    page.execute_script(enter, "Xx K")
    wait(page, "document.getElementById('message').textContent.includes(\"No element has the symbol 'Xx'\")")
    wait(page, "window.viewer.fitPanel.add.length === 0")
    assert [entry for entry in page.get_log("browser") if "400 (Bad Request)" not in entry["message"]] == []
