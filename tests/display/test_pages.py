"""What a new user meets in Chromium: a first run, keys alone, zoom, dark and light, the report, a notebook, aurora."""

from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pytest
from chromium import press, results_page, text_of, wait
from viewer_fakes import element_maps, pigment_maps, results

from underpaint.display.viewer import serve, serve_start, view
from underpaint.io import load, read_results
from underpaint.pipeline.run import identify_to_folder
from underpaint.simulate import PanelSettings, make_panel, save_panel

pytestmark = pytest.mark.browser

AURORA = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "aurora" / "prova1.npz"
LEAST_CONTRAST = 4.5
"""Of text of usual size: WCAG 2.2, 1.4.3."""
UNNAMED = """
return [...document.querySelectorAll('button, select, input, a[href], canvas[tabindex]')].filter((own) => {
  if (!own.getClientRects().length) return false;
  const labels = own.labels ? [...own.labels].map((label) => label.textContent).join('') : '';
  return !(own.textContent || own.getAttribute('aria-label') || labels).trim();
}).map((own) => own.outerHTML.slice(0, 120))
"""
CONTRASTS = """
const light = (text) => {
  const [r, g, b] = text.match(/[0-9.]+/g).map((own) => Number(own) / 255)
    .map((own) => (own <= 0.04045 ? own / 12.92 : ((own + 0.055) / 1.055) ** 2.4));
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (own) => {
  for (let at = own; at; at = at.parentElement) {
    const color = getComputedStyle(at).backgroundColor;
    if (!color.startsWith('rgba(0, 0, 0, 0')) return color;
  }
  return 'rgb(255, 255, 255)';
};
return arguments[0].map((selector) => {
  const own = document.querySelector(selector);
  const [a, b] = [light(getComputedStyle(own).color), light(behind(own))].sort((one, other) => other - one);
  return [selector, (a + 0.05) / (b + 0.05)];
})
"""


@pytest.fixture
def shown(chromium: Any, tmp_path: Path) -> Iterator[tuple[Any, Path]]:
    """Results in the browser, and their folder."""
    folder = results(tmp_path)
    with results_page(chromium, folder):
        yield chromium, folder


def summary_of(opened: Any, row: int, column: int) -> str:
    """Choose a pixel; return the summary that the page gives of it."""
    opened.execute_script(f"window.viewer.choosePixel({row}, {column})")
    wait(opened, f"document.body.dataset.spot === '{row},{column}'")
    return str(opened.execute_script("return document.querySelector('#spot .short').innerText"))


def test_what_lies_below_a_pigment_is_named_and_shown(shown: tuple[Any, Path]) -> None:
    opened, _ = shown
    text = summary_of(opened, 8, 4)
    assert "at the surface: no group with a probability of 0.75 or more" in text
    assert "below the surface: <img src=x onerror=alert" in text
    links = "[...document.querySelectorAll('#spot .card button')]"
    opened.execute_script(f"{links}.find((own) => own.textContent === 'below the surface').click()")
    wait(opened, "window.viewer.panes[0].parts[0].entry.name === 'mercury_red.below'")


def test_what_a_pixel_says_in_short_leaves_nothing_certain_out(shown: tuple[Any, Path]) -> None:
    opened, _ = shown
    text = summary_of(opened, 3, 15)
    # Lead is there, and its depth was never asked; mercury could hide.
    assert "Present, depth undetermined: lead pigment" in text
    assert "Cannot be excluded: <img src=x onerror=alert" in text


def test_lines_that_were_not_measured_speak_neither_for_nor_against(shown: tuple[Any, Path]) -> None:
    opened, _ = shown
    opened.execute_script("window.viewer.choosePixel(3, 4)")
    wait(opened, "document.body.dataset.spot === '3,4'")
    card = (
        "const found = structuredClone(window.viewer.spot); Object.assign(found.groups[0], arguments[0]);"
        "return import('./spot.js').then((own) => {"
        " own.showSpot(window.viewer, found); return document.querySelector('#spot .card').innerText; })"
    )
    assert "Against it: nothing: all expected lines are present" in opened.execute_script(card, {})
    some = opened.execute_script(card, {"unmeasured": ["Hg_M"]})
    assert "Against it: nothing: all measured lines are present" in some
    none = opened.execute_script(card, {"lines": [], "unmeasured": ["Hg_L", "Hg_M"]})
    assert "For it: none of its lines was measured" in none
    assert "Against it: unknown, none of its lines was measured" in none


def test_every_control_has_a_name(shown: tuple[Any, Path]) -> None:
    opened, _ = shown
    for tab in ("spot", "regions", "scatter", "pictures", "export"):
        press(opened, f"#tab-{tab}")
        assert opened.execute_script(UNNAMED) == []


def test_a_map_and_a_pixel_are_reached_by_keys_alone(shown: tuple[Any, Path]) -> None:
    from selenium.webdriver.common.keys import Keys

    opened, _ = shown
    body = opened.find_element("tag name", "body")
    body.send_keys("/")
    opened.switch_to.active_element.send_keys("Pb")
    wait(opened, "document.querySelectorAll('#list button').length === 1")
    opened.switch_to.active_element.send_keys(Keys.TAB)
    opened.switch_to.active_element.send_keys(Keys.ENTER)
    wait(opened, "window.viewer.panes[0].shown.map === window.viewer.entries.find((own) => own.name === 'Pb_L').index")
    for _ in range(40):
        if opened.execute_script("return document.activeElement === window.viewer.panes[0].canvas"):
            break
        opened.switch_to.active_element.send_keys(Keys.TAB)
    assert opened.execute_script("return document.activeElement === window.viewer.panes[0].canvas")
    opened.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    wait(opened, "document.body.dataset.spot")
    opened.execute_script("document.getElementById('tab-spot').focus()")
    opened.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    assert opened.execute_script("return document.activeElement.id") == "tab-fit"
    assert not opened.execute_script("return document.getElementById('fit').hidden")


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_stand_out_from_what_is_behind_them(shown: tuple[Any, Path], theme: str) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    opened, _ = shown
    opened.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
    opened.execute_script("document.querySelector('#list button').click()")  # a composite marks none
    selectors = ["#title", "#facts", "#list button", "#list [aria-pressed='true']", "#readout", "#tab-spot", ".empty",
                 "#tab-regions", ".legend span", "#report"]  # fmt: skip
    faint = [(name, ratio) for name, ratio in opened.execute_script(CONTRASTS, selectors) if ratio < LEAST_CONTRAST]
    assert faint == []
    pressed = "[data-panes='1']"
    ActionChains(opened).move_to_element(opened.find_element("css selector", pressed)).perform()
    wait(opened, f"document.querySelector(\"{pressed}\").matches(':hover')")
    assert opened.execute_script(CONTRASTS, [pressed])[0][1] >= LEAST_CONTRAST


def test_the_report_is_written_from_the_page_and_fits_a_narrow_window(shown: tuple[Any, Path]) -> None:
    opened, folder = shown
    press(opened, "#tab-export")
    opened.find_element("id", "report-object").send_keys("Portrait <of nobody>")
    press(opened, "#report-html")
    wait(opened, "document.querySelector('#export a[href=\"files/report.html\"]')")
    assert "Portrait &lt;of nobody&gt;" in (folder / "report.html").read_text("utf-8")
    size = {"width": 360, "height": 780, "deviceScaleFactor": 1, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    opened.get(opened.execute_script("return new URL('files/report.html', location.href).href"))
    assert opened.execute_script("return document.documentElement.scrollWidth") <= 360
    assert opened.execute_script("return [...document.images].every((own) => own.complete && own.naturalWidth > 0)")
    opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_first_run_is_looked_into_cancelled_and_opened(chromium: Any, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    save_panel(make_panel(PanelSettings(cell_pixels=2, gap_pixels=1, counts=2e4)), home / "panel.h5")
    (home / "<img src=x onerror=alert(1)>.h5").write_bytes(b"no HDF5")
    with serve_start(home=home) as server:
        chromium.get(server.address)
        wait(chromium, "document.body.dataset.ready === 'start'")
        assert chromium.execute_script(UNNAMED) == []
        assert chromium.execute_script("return document.querySelectorAll('img').length") == 0
        assert "<img src=x" in text_of(chromium, "files")
        for ends, button in (("No incomplete results remain", "Cancel"), ("Done in", "Open")):
            press(chromium, "#files li[data-path$='/panel.h5'] button")
            wait(chromium, "!document.getElementById('run').hidden")
            assert "13 rows × 19 columns" in text_of(chromium, "held-words")
            press(chromium, "#start-run")
            item = "#queue li:last-child"
            if button == "Cancel":
                wait(chromium, f"document.querySelector('{item} button')?.textContent === 'Cancel'")
                press(chromium, f"{item} button")
            wait(chromium, f"document.querySelector('{item} .step').textContent.includes('{ends}')")
            assert (home / "panel_underpaint").exists() == (button == "Open")
        press(chromium, "#queue li:last-child button")
        wait(chromium, "document.body.dataset.ready === 'all' && !!window.viewer")
        assert "panel" in text_of(chromium, "title")
    assert (home / "panel_underpaint" / "report.html").is_file()


def test_a_notebook_shows_the_viewer_in_its_page(chromium: Any) -> None:
    shown = view(pigment_maps() | element_maps())
    with closing(shown), notebook(shown._repr_html_()) as address:
        chromium.get(address)
        chromium.switch_to.frame(chromium.find_element("tag name", "iframe"))
        wait(chromium, "document.body.dataset.ready === 'all'")
        assert "vermilion" in chromium.execute_script("return window.viewer.entries.map((own) => own.name)")
        chromium.switch_to.default_content()


@pytest.mark.skipif(not AURORA.is_file(), reason="the aurora scan is not there (shared/data/aurora)")
def test_a_real_scan_is_opened_and_its_pixel_read(chromium: Any, tmp_path: Path) -> None:
    source, folder = f"{AURORA}::det_10264", tmp_path / "aurora"
    identify_to_folder(source, folder)
    results = read_results(folder, lazily=False)
    row, column = (int(value) for value in np.unravel_index(np.nanargmax(results["Hg_L"]), results.shape))
    with serve(folder) as server:
        chromium.get(server.address)
        wait(chromium, "document.body.dataset.ready === 'all'")
        press(chromium, ".open-scan")
        wait(chromium, "window.viewer.about.scan.state === 'ready'")
        chromium.execute_script("window.viewer.choosePixel(arguments[0], arguments[1])", row, column)
        wait(chromium, f"document.body.dataset.spot === '{row},{column}' && window.viewer.spot.spectrum")
        spectrum = chromium.execute_script("return window.viewer.spot.spectrum")
        np.testing.assert_array_equal(spectrum, load(source).pixel(row, column).counts)
        groups = {
            value["name"]: value["probability"] for value in chromium.execute_script("return window.viewer.spot.groups")
        }
        assert groups["mercury_red"] == pytest.approx(float(results["mercury_red"][row, column]), abs=1e-6)
        assert "Hg L" in text_of(chromium, "spot")


@contextmanager
def notebook(cell: str) -> Iterator[str]:
    """Serve a page that holds what a notebook's cell shows."""
    body = f"<!doctype html><title>notebook</title>{cell}".encode()

    class Handler(BaseHTTPRequestHandler):
        """Answers everything with the page."""

        def do_GET(self) -> None:
            """Send it."""
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Stay silent."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://localhost:{server.server_address[1]}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
