"""Views that are kept and shared, what experts state, and keys alone, in Chromium."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import press, results_page, text_of, wait
from viewer_fakes import results

from underpaint.display.report import write_report
from underpaint.io.results.regions import read_regions
from underpaint.io.results.session import read_session

pytestmark = pytest.mark.browser


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return results(tmp_path)


@pytest.fixture
def page(chromium: Any, folder: Path) -> Iterator[Any]:
    with results_page(chromium, folder):
        yield chromium


def test_results_open_with_the_view_that_was_kept(page: Any, folder: Path) -> None:
    page.execute_script("return window.viewer.computed.window(9.91, 10.09)")
    page.execute_script("window.viewer.setPanes(2); return window.viewer.showNamed('lead_pigment')")
    page.execute_script(
        "window.viewer.pane.shown.threshold = 0.4; window.viewer.zoom(2); window.viewer.spectrum.setScale('root')"
    )
    page.execute_script("return window.viewer.choosePixel(3, 4)")
    press(page, "#tab-export")
    press(page, "#keep-view")
    wait(page, "document.body.dataset.session")
    assert len(read_session(folder).view["panes"]) == 2
    page.refresh()
    wait(page, "document.body.dataset.view === '2'")
    shown = page.execute_script(
        "const v = window.viewer; return [v.panes[0].entry.name, v.panes[0].shown.threshold, v.view.zoom,"
        "v.spectrum.scaleName, v.chosen]"
    )
    assert shown == ["lead_pigment", 0.4, 2, "root", [3, 4]]
    kinds = page.execute_script("return window.viewer.entries.map((entry) => entry.kind)")
    assert kinds.count("window") == 1  # made again, for the viewer has the scan open


def test_a_session_is_shared_as_one_file(page: Any, folder: Path, tmp_path: Path) -> None:
    content = {
        "underpaint_session": 1,
        "markers": [{"energy_kev": 6.4, "label": "iron"}],
        "statements": [],
        "regions": [{"name": "hand", "corners": [[0, 0], [0, 4], [4, 4], [4, 0]], "runs": []}],
        "view": {"panes": [{"mode": "map", "map": {"kind": "element", "name": "Pb_L"}, "layers": []}]},
    }
    (tmp_path / "shared.json").write_text(json.dumps(content), encoding="utf-8")
    (tmp_path / "other.json").write_text("{}", encoding="utf-8")
    press(page, "#tab-export")
    page.find_element("id", "session-file").send_keys(str(tmp_path / "other.json"))
    wait(page, "document.getElementById('message').textContent.includes('no session of the viewer')")
    page.find_element("id", "session-file").send_keys(str(tmp_path / "shared.json"))
    wait(page, "document.body.dataset.opened === 'shared.json'")
    assert page.execute_script("return window.viewer.pane.entry.name") == "Pb_L"
    page.execute_script("return window.viewer.regionPanel.saving")
    assert [region.name for region in read_regions(folder)] == ["hand"]
    assert read_session(folder).markers[0].label == "iron"
    wait(page, "window.viewer.regions[0].measurement?.n_pixel === 16")
    press(page, "#undo")
    page.execute_script("return Promise.all([window.viewer.regionPanel.saving, window.viewer.session.saving])")
    assert read_regions(folder) == []
    assert read_session(folder).markers == ()


def test_an_experts_word_stands_beside_the_programs_answer(page: Any, folder: Path) -> None:
    page.execute_script("return window.viewer.choosePixel(3, 4)")
    press(page, "#spot .expert button")
    page.execute_script(
        "document.getElementById('statement-verdict').value = 'corrected';"
        "document.getElementById('statement-correction').value = 'red lead';"
        "document.getElementById('statement-reason').value = '<b>sample</b> 3';"
        "document.getElementById('statement-author').value = 'A. Expert';"
    )
    press(page, "#statement-save")
    wait(page, "document.body.dataset.session")
    (statement,) = read_session(folder).statements
    assert (statement.subject, statement.name, statement.verdict) == ("group", "mercury_red", "corrected")
    words = text_of(page, "spot")
    assert "Corrected: it is red lead. <b>sample</b> 3 (A. Expert" in words
    assert "0.97" in words  # the program's answer stays
    page.execute_script("return window.viewer.showNamed('mercury_red')")
    assert "Expert: corrected: red lead, A. Expert" in page.execute_script(
        "return document.querySelector('.legend').textContent"
    )
    assert "Stated by experts, not by the program" in text_of(page, "summary")
    report = write_report(folder).read_text(encoding="utf-8")
    assert "Stated by experts" in report
    assert "&lt;b&gt;sample&lt;/b&gt; 3" in report


def test_the_composite_and_a_removed_region_come_back(page: Any, folder: Path) -> None:
    page.execute_script("return window.viewer.regionPanel.add({ corners: [[0, 0], [0, 4], [4, 4], [4, 0]] })")
    press(page, "[aria-label='Remove region 1']")
    assert page.execute_script("return window.viewer.regions.length") == 0
    page.find_element("tag name", "body").send_keys("\ue009z\ue000")  # Ctrl+Z
    wait(page, "window.viewer.regions.length === 1")
    before = page.execute_script("return window.viewer.pane.parts.length")
    press(page, "[aria-label='Remove map 1']")
    wait(page, f"window.viewer.pane.parts.length === {before - 1}")
    press(page, "#undo")
    wait(page, f"window.viewer.pane.parts.length === {before}")


def test_the_map_is_within_five_tab_stops(page: Any) -> None:
    from selenium.webdriver.common.keys import Keys

    page.execute_script("document.activeElement.blur(); window.scrollTo(0, 0)")
    stops = 0
    while page.execute_script("return document.activeElement !== window.viewer.panes[0].canvas"):
        page.switch_to.active_element.send_keys(Keys.TAB)
        stops += 1
        assert stops <= 5
    page.switch_to.active_element.send_keys(Keys.ARROW_DOWN)
    wait(page, "window.viewer.chosen")


def test_a_view_that_makes_no_sense_is_shown_as_far_as_it_does(page: Any) -> None:
    view = {
        "panes": [
            {"mode": "constructor", "map": {"kind": "element", "name": "Pb_L"}, "colors": "constructor", "layers": 3}
        ],
        "scale": "constructor",
        "range": ["a"],
        "zoom": "x",
        "middle": [None, 1],
        "chosen": [900, 900],
        "hidden": 5,
        "computed": [{"what": "nonsense"}],
    }
    page.execute_script("return window.viewer.viewState.apply(arguments[0])", view)
    assert page.execute_script("return [window.viewer.pane.entry.name, window.viewer.pane.shown.mode]") == [
        "Pb_L",
        "map",
    ]
    assert page.execute_script("return window.viewer.spectrum.scaleName") == "log"
    assert [entry for entry in page.get_log("browser") if "400 (Bad Request)" not in entry["message"]] == []
