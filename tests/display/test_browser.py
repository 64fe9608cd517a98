"""The pages in Chromium: what a person clicks, and what then stands there."""

import io
import json
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from chromium import press, results_page, text_of, wait
from viewer_fakes import HOSTILE, SHAPE, element_maps, pigment_maps, results, spectrum_of

from underpaint.cli import _view
from underpaint.display.viewer import Server, regions, serve, serve_start
from underpaint.display.viewer.regions import regions_and_version, save_regions
from underpaint.errors import OutputError
from underpaint.io import write_results
from underpaint.io.results.regions import Region, read_regions

pytestmark = pytest.mark.browser


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return results(tmp_path)


@pytest.fixture
def page(chromium: Any, folder: Path) -> Iterator[tuple[Any, Server]]:
    with results_page(chromium, folder) as server:
        chromium.execute_script("return window.viewer.showNamed('mercury_red')")
        yield chromium, server


def on_screen(opened: Any, row: float, column: float, pane: int = 0) -> tuple[float, float]:
    """Return where a place on a map lies in the window."""
    x, y = opened.execute_script(
        "const pane = window.viewer.panes[arguments[0]], f = pane.frame(), b = pane.canvas.getBoundingClientRect();"
        "const sharp = pane.canvas.width / b.width;"
        "return [b.left + (f.left + arguments[2] * f.across) / sharp, b.top + (f.top + arguments[1] * f.down) / sharp]",
        pane,
        row,
        column,
    )
    return float(x), float(y)


def drag(opened: Any, places: list[tuple[float, float]]) -> None:
    """Press at the first place, go through the others, let go at the last one."""
    from selenium.webdriver.common.action_chains import ActionChains

    chain = ActionChains(opened, duration=10)
    pointer = chain.w3c_actions.pointer_action
    first, *more_places = places
    pointer.move_to_location(round(first[0]), round(first[1]))
    pointer.pointer_down()
    for place in more_places:
        pointer.move_to_location(round(place[0]), round(place[1]))
    pointer.pointer_up()
    chain.w3c_actions.perform()


def test_a_click_shows_the_spectrum_and_numbers_of_the_pixel(page: tuple[Any, Server]) -> None:
    opened, _ = page
    drag(opened, [on_screen(opened, 3.5, 4.5)])
    wait(opened, "document.body.dataset.spot === '3,4' && window.viewer.spot.spectrum")
    np.testing.assert_array_equal(opened.execute_script("return window.viewer.spot.spectrum"), spectrum_of(3, 4))
    text = text_of(opened, "spot")
    assert "row 3, column 4" in text
    assert "0.97" in text
    assert "Hg L 400 ± 10 counts (40 σ)" in text
    assert "at the surface: 0.95" in text
    assert "row 3, column 4" in text_of(opened, "spectrum-legend")


def test_a_name_from_a_file_stays_text(page: tuple[Any, Server]) -> None:
    opened, _ = page
    assert HOSTILE.split(" (", maxsplit=1)[0] in text_of(opened, "list")
    assert opened.execute_script("return document.querySelectorAll('img[src=\"x\"]').length") == 0


def test_arrows_choose_the_next_pixel(page: tuple[Any, Server]) -> None:
    from selenium.webdriver.common.keys import Keys

    opened, _ = page
    drag(opened, [on_screen(opened, 3.5, 4.5)])
    wait(opened, "document.body.dataset.spot === '3,4'")
    opened.execute_script("window.viewer.panes[0].canvas.focus()")
    opened.switch_to.active_element.send_keys(Keys.ARROW_RIGHT)
    wait(opened, "document.body.dataset.spot === '3,5'")


def test_regions_are_drawn_by_keys_alone(page: tuple[Any, Server]) -> None:
    from selenium.webdriver.common.keys import Keys

    opened, _ = page
    opened.execute_script("return window.viewer.choosePixel(2, 8)")
    keys = opened.find_element("tag name", "body")
    keys.send_keys("b")
    keys = opened.switch_to.active_element
    keys.send_keys(Keys.ENTER, Keys.ARROW_DOWN, *[Keys.ARROW_RIGHT] * 3)
    assert opened.execute_script("return window.viewer.drawing") == [[2, 8], [2, 12], [4, 12], [4, 8]]
    keys.send_keys(Keys.ENTER)
    wait(opened, "window.viewer.regions[0]?.measurement?.n_pixel === 8")
    assert opened.execute_script("return window.viewer.drawing") is None
    opened.execute_script("return window.viewer.choosePixel(5, 5)")
    keys.send_keys("l", Keys.ENTER, *[Keys.ARROW_RIGHT] * 3, Keys.ENTER, *[Keys.ARROW_DOWN] * 3, Keys.ENTER)
    keys.send_keys(*[Keys.ARROW_LEFT] * 3, Keys.ENTER, *[Keys.ARROW_UP] * 3, Keys.ENTER)
    wait(opened, "window.viewer.regions[1]?.measurement?.mean")
    middles = [[5.5, 5.5], [5.5, 8.5], [8.5, 8.5], [8.5, 5.5]]
    assert opened.execute_script("return window.viewer.regions[1].corners") == middles
    keys.send_keys("b", Keys.ENTER, Keys.ESCAPE)
    assert opened.execute_script("return [window.viewer.drawing, window.viewer.marked.length]") == [None, 0]
    wait(opened, "document.body.dataset.spot === '5,5'")


def test_the_threshold_takes_what_is_below_away(page: tuple[Any, Server]) -> None:
    opened, _ = page
    color = (
        "(() => { const p = window.viewer.panes[0].picture.getContext('2d').getImageData(arguments[0], 2, 1, 1).data;"
        "return [p[0], p[1], p[2]]; })()"
    )
    before = opened.execute_script(f"return {color}", 2)
    opened.execute_script(
        "const own = document.getElementById('threshold'); own.value = '0.99'; own.dispatchEvent(new Event('input'))"
    )
    wait(opened, "window.viewer.panes[0].shown.threshold === 0.99")
    wait(opened, "window.viewer.panes[0].legend.textContent.includes('from 0.99')")
    after = opened.execute_script(f"return {color}", 2)
    assert sum(before) > 500
    assert sum(after) < 20


def test_maps_side_by_side_zoom_together(page: tuple[Any, Server]) -> None:
    opened, _ = page
    press(opened, "[data-panes='4']")
    wait(opened, "window.viewer.panes.length === 4 && window.viewer.panes.every((own) => own.picture)")
    press(opened, "[data-zoom='in']")
    frames = opened.execute_script("return window.viewer.panes.map((own) => own.frame().across / own.canvas.width)")
    assert np.ptp(frames) < 0.01
    assert opened.execute_script("return window.viewer.view.zoom") == pytest.approx(1.5)


def test_maps_side_by_side_are_level_whatever_their_legends_hold(page: tuple[Any, Server]) -> None:
    opened, _ = page
    press(opened, "[data-panes='2']")
    opened.execute_script(
        "const m = document.getElementById('mode'); m.value = 'composite'; m.dispatchEvent(new Event('change'))"
    )
    wait(opened, "window.viewer.panes.length === 2 && window.viewer.panes.every((own) => own.picture)")
    opened.execute_script("document.querySelector('.pane .legend').append('a long legend '.repeat(20))")
    tops, heights = opened.execute_script(
        "const all = window.viewer.panes.map((own) => own.canvas.getBoundingClientRect());"
        "return [all.map((own) => own.top), all.map((own) => own.height)]"
    )
    assert np.ptp(tops) < 1
    assert np.ptp(heights) < 1
    assert heights[0] > 100


def test_depth_is_named_where_names_are_short(page: tuple[Any, Server]) -> None:
    opened, _ = page
    opened.execute_script("window.viewer.showPlace('mercury_red', 'below')")
    wait(opened, "window.viewer.panes[0].parts[0].entry.name === 'mercury_red.below'")
    opened.execute_script(
        "const m = document.getElementById('mode'); m.value = 'composite'; m.dispatchEvent(new Event('change'))"
    )
    short = f"{HOSTILE.split(' (', maxsplit=1)[0]}, below the surface, to 1"
    wait(opened, f"document.querySelector('.legend').textContent.includes({json.dumps(short)})")


def test_a_drawn_box_is_measured_and_saved(page: tuple[Any, Server], folder: Path) -> None:
    opened, _ = page
    press(opened, "[data-tool='box']")
    drag(opened, [on_screen(opened, 2, 8), on_screen(opened, 3, 10), on_screen(opened, 4, 12)])
    wait(opened, "document.body.dataset.region === 'region 1'")
    assert opened.execute_script("return window.viewer.regions[0].measurement.n_pixel") == 8
    assert opened.execute_script("return window.viewer.regions[0].measurement.mean[500]") == pytest.approx(
        np.mean([100 * row + column for row in (2, 3) for column in range(8, 12)])
    )
    wait(opened, "document.getElementById('regions').textContent.includes('8 pixels')")
    wait_for_saved(folder)


def wait_for_saved(folder: Path) -> None:
    """Wait until the first region is kept with the results."""
    for _ in range(100):
        if read_regions(folder):
            break
        time.sleep(0.05)
    assert [region.name for region in read_regions(folder)] == ["region 1"]


def test_a_class_is_outlined_hidden_removed_and_brought_back(page: tuple[Any, Server], folder: Path) -> None:
    opened, _ = page
    x, y = (round(region) for region in on_screen(opened, 2.5, 2.5))
    color = (
        "(() => { const c = window.viewer.panes[0].canvas, b = c.getBoundingClientRect(), context = c.getContext('2d');"
        "return [...context.getImageData(arguments[0] - b.left, arguments[1] - b.top, 1, 1).data].join(); })()"
    )
    edge = [round(region) for region in on_screen(opened, 2.5, 10.0)]
    before = opened.execute_script(f"return {color}", x, y)
    before_edge = opened.execute_script(f"return {color}", *edge)
    opened.execute_script("return window.viewer.chooseClass(3, 4)")
    wait(opened, "window.viewer.regions[0]?.measurement?.mean && document.body.dataset.region")
    assert (
        opened.execute_script("return window.viewer.regions[0].measurement.n_pixel") == (SHAPE[0] - 1) * SHAPE[1] // 2
    )
    assert opened.execute_script(f"return {color}", x, y) == before
    assert opened.execute_script(f"return {color}", *edge) != before_edge
    largest = "document.querySelectorAll('#spectrum-plot .largest').length"
    assert opened.execute_script(f"return {largest}") == 1
    press(opened, "#regions input[type='checkbox']")
    assert opened.execute_script(f"return {color}", *edge) == before_edge
    assert opened.execute_script(f"return {largest}") == 0
    press(opened, "#regions [aria-label='Remove region 1']")
    assert opened.execute_script("return window.viewer.regions.length") == 0
    buttons = "[...document.querySelectorAll('#regions button')]"
    opened.execute_script(f"{buttons}.find((own) => own.textContent.startsWith('Bring back')).click()")
    assert opened.execute_script("return window.viewer.regions[0].name") == "region 1"
    wait_for_saved(folder)


def test_all_regions_are_measured_on_the_maps_that_are_shown(page: tuple[Any, Server]) -> None:
    opened, _ = page
    for row in (1, 5):
        corners = [[row, 8], [row, 12], [row + 2, 12], [row + 2, 8]]
        opened.execute_script("return window.viewer.regionPanel.add({ corners: arguments[0] })", corners)
    opened.execute_script("window.viewer.showNamed('Pb_L')")
    lead = opened.execute_script("return window.viewer.entries.find((own) => own.name === 'Pb_L').index")
    shown = "window.viewer.regions.map((own) => own.measurement.maps.map((map) => map.map).join()).join(';')"
    wait(opened, f"{shown} === '{lead};{lead}'")
    assert opened.execute_script(
        "return window.viewer.regions.every((own) => own.measurement.mean && own.measurement.max)"
    )


def test_a_box_in_the_scatter_lights_up_its_pixels(page: tuple[Any, Server]) -> None:
    opened, _ = page
    press(opened, "#tab-scatter")
    wait(opened, "window.viewer.scatter.values")
    # The chosen map against its first element: the upper right corner is where both are.
    frame = opened.execute_script(
        "const b = window.viewer.scatter.stage.getBoundingClientRect(); return [b.left, b.top, b.width, b.height]"
    )
    left, top, width, height = frame
    drag(opened, [(left + 0.5 * width, top + 0.3 * height), (left + 0.9 * width, top + 3), (left + width - 2, top + 1)])
    brushed = int(wait(opened, "document.body.dataset.brushed"))
    assert brushed == (SHAPE[0] - 1) * SHAPE[1] // 2


def test_both_axes_of_the_scatter_bear_numbers_where_they_belong(page: tuple[Any, Server]) -> None:
    opened, _ = page
    press(opened, "#tab-scatter")
    wait(opened, "document.querySelectorAll('.ticks span').length")
    # Mercury has 400 counts at most, and most pixels have: the scale ends there, not beyond.
    assert opened.execute_script("return window.viewer.scatter.tops") == [400, 1]
    ticks = "[...document.querySelectorAll('.ticks.{0} span')].map((own) => own.textContent)"
    assert opened.execute_script(f"return {ticks.format('across')}") == ["0", "100", "200", "300", "400"]
    assert opened.execute_script(f"return {ticks.format('up')}") == ["0", "0.2", "0.4", "0.6", "0.8", "1"]
    shift = opened.execute_script(
        "const [zero] = document.querySelectorAll('.ticks.across span'), b = window.viewer.scatter.stage;"
        "const own = zero.getBoundingClientRect(), stage = b.getBoundingClientRect();"
        "return (own.left + own.width / 2 - stage.left) / stage.width"
    )
    assert 0.03 < shift < 0.06


def test_what_is_seen_is_exported(page: tuple[Any, Server]) -> None:
    opened, _ = page
    opened.execute_script("window.viewer.showNamed('Pb_L')")
    wait(opened, "window.viewer.panes[0].parts[0].entry.name === 'Pb_L'")
    press(opened, "#tab-export")
    address = opened.execute_script(
        "return [...document.querySelectorAll('#export a')].find((own) => own.textContent.startsWith('TIFF')).href"
    )
    with urllib.request.urlopen(address, timeout=30) as answer:  # noqa: S310 - our own server
        np.testing.assert_array_equal(tifffile.imread(io.BytesIO(answer.read())), element_maps()["Pb_L"])


def test_the_links_of_an_open_save_tab_follow_what_is_seen(page: tuple[Any, Server]) -> None:
    opened, _ = page
    press(opened, "#tab-export")
    opened.find_element("id", "report-object").send_keys("Portrait")
    links = "[...document.querySelectorAll('#export a')].map((own) => own.getAttribute('href')).join(' ')"
    number = {
        name: opened.execute_script("return window.viewer.entries.find((own) => own.name === arguments[0]).index", name)
        for name in ("Pb_L", "mercury_red.below")
    }
    opened.execute_script("window.viewer.showNamed('Pb_L')")
    wait(opened, f"{links}.includes('map=' + {number['Pb_L']} + '&format=tif')")
    opened.execute_script("window.viewer.showPlace('mercury_red', 'below')")
    wait(opened, f"{links}.includes('figure5?map=' + {number['mercury_red.below']} + '&')")
    assert f"map?map={number['Pb_L']}&" not in opened.execute_script(f"return {links}")
    opened.execute_script(
        "const own = document.getElementById('threshold'); own.value = '0.5'; own.dispatchEvent(new Event('input'))"
    )
    wait(opened, f"{links}.includes('threshold=0.5')")
    opened.execute_script("window.viewer.choosePixel(3, 4)")
    wait(opened, f"{links}.includes('spectrum?row=3&column=4')")
    press(opened, "[data-zoom='in']")
    wait(opened, f"{links}.includes('window=')")
    assert opened.execute_script("return document.getElementById('report-object').value") == "Portrait"


def test_the_line_under_the_map_speaks_of_the_map_that_is_shown(page: tuple[Any, Server]) -> None:
    from selenium.webdriver.common.keys import Keys

    opened, _ = page
    drag(opened, [on_screen(opened, 3.5, 4.5)])
    wait(opened, "document.getElementById('readout').textContent === 'row 3, column 4: 0.97'")
    opened.execute_script("window.viewer.showNamed('Pb_L')")
    wait(opened, "document.getElementById('readout').textContent === 'row 3, column 4: 850 counts'")
    opened.execute_script("window.viewer.panes[0].canvas.focus()")
    opened.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    wait(opened, "document.getElementById('readout').textContent === 'row 4, column 4: 800 counts'")


def test_a_search_begins_with_the_group_and_its_map_says_what_is_unknown(page: tuple[Any, Server]) -> None:
    opened, _ = page
    opened.execute_script(
        "const s = document.getElementById('search'); s.value = 'mercury'; s.dispatchEvent(new Event('input'));"
        "document.querySelector('#list button').click()"
    )
    entry = "window.viewer.panes[0].parts[0].entry"
    wait(opened, f"{entry}.name === 'mercury_red' && {entry}.kind === 'group'")
    opened.execute_script("window.viewer.showPlace('mercury_red', 'below')")
    wait(opened, f"{entry}.name === 'mercury_red.below'")
    wait(opened, "document.querySelector('.legend').textContent.includes('not detected, cannot be excluded')")
    # Present, yet at the surface: what lies below is unknown. In the right half it could hide anywhere.
    hatched = "window.viewer.panes[0].hatched.getContext('2d').getImageData({0}, {1}, 1, 1).data[3]"
    assert opened.execute_script(f"return {hatched.format(2, 2)}") == 255
    assert opened.execute_script(f"return {hatched.format(15, 2)}") == 255
    assert opened.execute_script(f"return {hatched.format(2, 8)}") == 0
    chosen = "document.querySelector('#list [aria-pressed=\"true\"]').dataset.map"
    assert opened.execute_script(f"return window.viewer.entries[{chosen}].name") == "mercury_red"


def test_a_single_pigment_leads_to_its_group(page: tuple[Any, Server]) -> None:
    opened, _ = page
    opened.execute_script("window.viewer.showNamed('lead_white')")
    wait(opened, "window.viewer.panes[0].parts[0].entry.name === 'lead_white'")
    assert opened.execute_script("return document.getElementById('place').disabled")
    wait(opened, "document.querySelector('.legend').textContent.includes('only the group has a depth')")
    press(opened, ".legend button")
    wait(opened, "window.viewer.panes[0].parts[0].entry.name === 'lead_pigment'")


def test_the_strongest_lines_of_a_scan_are_labelled_first(page: tuple[Any, Server]) -> None:
    opened, _ = page
    labels = "[...document.querySelectorAll('text.line')].map((own) => own.textContent)"
    # Lead has more counts than mercury: first both first lines, then the second ones.
    assert opened.execute_script(f"return {labels}")[:3] == ["Pb Lα", "Hg Lα", "Pb Lβ"]
    opened.execute_script(
        "const s = window.viewer.spectrum; s.lines = { ...s.lines, As_K: { 'As Kα': 10.54, 'As Kβ': 11.72 } };"
        "s.families = ['Pb_L', 'As_K']; s.draw()"
    )
    assert not [region for region in opened.execute_script(f"return {labels}") if region.startswith("As")]
    opened.execute_script("window.viewer.choosePixel(3, 15)")
    wait(opened, f"document.body.dataset.spot === '3,15' && !{labels}.includes('Hg Lα')")


@pytest.mark.parametrize("width", [360, 720, 1440, 3840])  # 720: a usual window at 200 % zoom
def test_nothing_hangs_over_the_edge(chromium: Any, folder: Path, width: int) -> None:
    chromium.set_window_size(max(width, 500), 1000)
    chromium.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 1000, "deviceScaleFactor": 1, "mobile": False},
    )
    with serve(folder) as server:
        chromium.get(server.address)
        wait(chromium, "document.body.dataset.ready === 'all'")
        assert chromium.execute_script("return document.documentElement.scrollWidth") <= width
        assert chromium.execute_script("return window.viewer.panes[0].canvas.width") > 0.4 * min(width, 1000)
    chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
    chromium.set_window_size(1440, 1000)


def test_results_without_their_scan_say_so(chromium: Any, tmp_path: Path) -> None:
    with serve(results(tmp_path, with_scan=False)) as server:
        chromium.get(server.address)
        wait(chromium, "document.querySelector('.open-scan')")
        press(chromium, ".open-scan")
        wait(chromium, "document.getElementById('message').textContent.includes('open the scan again')")


def test_the_start_page_opens_results(chromium: Any, tmp_path: Path) -> None:
    results(tmp_path)
    with serve_start(home=tmp_path) as server:
        chromium.get(server.address)
        wait(chromium, "document.body.dataset.ready === 'start'")
        press(chromium, "#files button")
        wait(chromium, "document.body.dataset.ready === 'all' && !!window.viewer")
        assert "panel" in text_of(chromium, "title")
        chromium.get(server.address)
        wait(chromium, "document.querySelector('#recent button')")
        assert "panel_underpaint" in text_of(chromium, "recent")


def region_buttons(opened: Any, label: str) -> None:
    """Press the button of the regions with a label."""
    opened.execute_script(
        "[...document.querySelectorAll('#regions button')].find((own) => own.textContent === arguments[0]).click()",
        label,
    )


def test_a_save_over_newer_regions_is_refused_and_both_are_shown(page: tuple[Any, Server], folder: Path) -> None:
    opened, _ = page
    add = "return window.viewer.regionPanel.add({ corners: arguments[0] }).then(() => document.body.dataset.saved)"
    opened.execute_script(add, [[1, 1], [1, 4], [3, 4], [3, 1]])
    _, version = regions_and_version(folder)
    theirs = Region("of the other tab", ((5.0, 1.0), (5.0, 4.0), (8.0, 4.0), (8.0, 1.0)))
    save_regions(folder, [theirs], SHAPE, version)
    opened.execute_script(add, [[1, 6], [1, 9], [3, 9], [3, 6]])
    wait(opened, "document.getElementById('newer-regions')")
    words = text_of(opened, "newer-regions")
    assert "of the other tab" in words
    assert "region 1, region 2" in words
    assert [region.name for region in read_regions(folder)] == ["of the other tab"]
    region_buttons(opened, "Keep both")
    wait(opened, "!document.getElementById('newer-regions') && !window.viewer.regionPanel.unsaved")
    assert [region.name for region in read_regions(folder)] == ["region 1", "region 2", "of the other tab"]
    # The browser itself puts the refusal into its log.
    assert [entry for entry in opened.get_log("browser") if "409" not in entry["message"]] == []


def test_a_region_that_cannot_be_saved_stays_with_the_reason(
    page: tuple[Any, Server], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened, _ = page

    def full(*_: object) -> None:
        raise OutputError("Cannot write regions.json: No space left on device. Make room.")

    with monkeypatch.context() as patch:
        patch.setattr(regions, "save_regions", full)
        opened.execute_script("return window.viewer.regionPanel.add({ corners: [[1, 1], [1, 4], [3, 4], [3, 1]] })")
        wait(opened, "document.getElementById('regions').textContent.includes('No space left on device')")
    assert opened.execute_script("return window.viewer.regions.map((own) => own.name)") == ["region 1"]
    assert read_regions(folder) == []
    region_buttons(opened, "Save them again")
    wait(opened, "!window.viewer.regionPanel.unsaved")
    assert [region.name for region in read_regions(folder)] == ["region 1"]
    assert [entry for entry in opened.get_log("browser") if "400" not in entry["message"]] == []


def test_a_private_file_leads_to_the_page_and_goes(chromium: Any, folder: Path) -> None:
    with serve(folder) as server, _view._redirect_file(server) as path:
        chromium.get(path.as_uri())
        wait(chromium, "document.body.dataset.ready === 'all'")
        assert chromium.current_url == server.address
        for _ in range(100):
            if not path.parent.exists():
                break
            time.sleep(0.05)
        assert not path.parent.exists()


def test_a_report_of_somebody_else_runs_nothing_and_has_no_part_in_the_page(chromium: Any, folder: Path) -> None:
    (folder / "report.html").write_text(
        "<title>quiet</title><p id=words>report</p><script>document.title = 'ran'</script><img src=x onerror=alert(1)>"
    )
    with serve(folder) as server:
        chromium.get(f"{server.address}files/report.html")
        assert text_of(chromium, "words") == "report"
        assert chromium.title == "quiet"
        assert chromium.execute_script("return window.origin") == "null"


def test_opening_the_view_opens_no_scan_until_the_button_is_pressed(chromium: Any, folder: Path) -> None:
    with serve(folder) as server:
        chromium.get(server.address)
        wait(chromium, "document.body.dataset.ready === 'all'")
        opened = "window.viewer.about.scan.state"
        assert chromium.execute_script(f"return {opened}") == "closed"
        chromium.execute_script("window.viewer.choosePixel(3, 4)")
        wait(chromium, "document.body.dataset.spot === '3,4'")
        assert chromium.execute_script("return window.viewer.spot.spectrum") is None
        press(chromium, "#spot .open-scan")
        wait(chromium, f"{opened} === 'ready' && window.viewer.spot.spectrum")
        np.testing.assert_array_equal(chromium.execute_script("return window.viewer.spot.spectrum"), spectrum_of(3, 4))


def test_the_first_view_is_the_telling_elements_and_what_was_found(chromium: Any, folder: Path) -> None:
    with serve(folder) as server:
        chromium.get(server.address)
        wait(chromium, "document.body.dataset.overview && window.viewer.pane.parts.length === 2")
        names = "window.viewer.pane.parts.map((part) => part.entry.name)"
        assert set(chromium.execute_script(f"return {names}")) == {"Hg_L", "Pb_L"}
        # A composite is no map of the list: none is marked as shown.
        assert chromium.execute_script("return document.querySelectorAll('#list [aria-pressed=true]').length") == 0
        words = text_of(chromium, "summary")
        assert "lead pigment" in words.lower()
        assert "certain" in words
        listed = "[...document.querySelectorAll('#list > li > button')].map((own) => own.title)"
        # Mercury is certain in half of the area, lead only likely, in all of it.
        assert chromium.execute_script(f"return {listed}") == ["mercury_red", "lead_pigment"]
        press(chromium, "[data-kind=member]")
        assert text_of(chromium, "list").count("by prior") == 2
        press(chromium, "[data-kind=element]")
        assert chromium.execute_script(f"return {listed}") == ["Pb_L", "Hg_L"]  # lead in all pixels, mercury in half


def test_groups_that_were_not_found_are_folded_away(chromium: Any, tmp_path: Path) -> None:
    absent = replace(pigment_maps(), summary={"name": "none"})
    absent.stacks["probability"].values[:, :, 0] = 0.01
    write_results(tmp_path / "none", absent)
    with serve(tmp_path / "none") as server:
        chromium.get(server.address)
        wait(chromium, "document.querySelector('#list details')")
        assert "1 not found" in text_of(chromium, "list")
        assert not chromium.execute_script("return document.querySelector('#list details').open")


def test_a_composite_holds_up_to_eight_maps_each_in_its_colour(page: tuple[Any, Server]) -> None:
    opened, _ = page
    opened.execute_script(
        "const m = document.getElementById('mode'); m.value = 'composite'; m.dispatchEvent(new Event('change'))"
    )
    for _ in range(10):
        press(opened, "#add-layer")
    layers = opened.execute_script("return window.viewer.pane.shown.layers.map((layer) => layer.color)")
    assert len(set(layers)) == len(layers) == 8
    lead = opened.execute_script("return window.viewer.entries.find((own) => own.name === 'Pb_L').index")
    opened.execute_script(
        "window.viewer.pane.shown.layers = [{ map: arguments[0], color: 'orange' }]; return window.viewer.changed()",
        lead,
    )
    wait(opened, "window.viewer.pane.parts.length === 1 && window.viewer.pane.parts[0].color === '#ff8000'")
    color = "[...window.viewer.pane.picture.getContext('2d').getImageData(3, 0, 1, 1).data].slice(0, 3)"
    assert opened.execute_script(f"return {color}") == [255, 128, 0]
    press(opened, "#tab-export")
    assert "colors=orange" in opened.execute_script("return document.querySelector('#export a').href")
