"""The start page in Chromium: wrong paths, what one scan leaves for the next, results that are there already."""

from pathlib import Path
from typing import Any

import pytest
from chromium import press, text_of, wait
from viewer_fakes import results, scan

from underpaint.display.viewer import serve_start

pytestmark = pytest.mark.browser


def go(opened: Any, path: Path) -> None:
    """Type a path."""
    opened.execute_script("document.getElementById('path').value = arguments[0]", str(path))
    press(opened, "#go button:last-child")


def held(opened: Any, path: Path) -> None:
    """Choose a scan, and wait until it was looked into."""
    go(opened, path)
    wait(opened, f"document.getElementById('held-words').textContent.includes({str(path)!r})")


def test_a_scan_leaves_nothing_behind_for_the_next_one_nor_for_a_wrong_path(chromium: Any, tmp_path: Path) -> None:
    folder = results(tmp_path)
    scan(tmp_path / "other.h5")
    with serve_start(home=tmp_path.parent) as server:
        chromium.get(server.address)
        wait(chromium, "document.body.dataset.ready === 'start'")
        held(chromium, tmp_path / "panel.h5")
        chromium.execute_script("document.getElementById('instrument').value = 'elio'")
        assert chromium.execute_script("return document.getElementById('instrument').value") == "elio"
        press(chromium, "#start-run")
        wait(chromium, "document.getElementById('message').textContent.includes('Tick')")
        assert "--" not in text_of(chromium, "message")
        assert (folder / "report.html").read_text() == "<p>report</p>"

        held(chromium, tmp_path / "other.h5")
        assert chromium.execute_script("return document.getElementById('instrument').value") == ""
        go(chromium, tmp_path / "nowhere")
        wait(chromium, "document.getElementById('message').textContent.includes('no such file or folder')")
        assert chromium.execute_script("return document.getElementById('held').hidden && run.hidden")

        held(chromium, tmp_path / "panel.h5")
        (folder / "results.h5").write_text("damaged")
        press(chromium, "#files button")
        wait(chromium, "document.getElementById('message').textContent.includes('damaged')")
        assert chromium.execute_script("return document.getElementById('held').hidden && run.hidden")


def test_opened_results_have_a_way_back_to_the_folder_they_lie_in(chromium: Any, tmp_path: Path) -> None:
    results(tmp_path)
    with serve_start(home=tmp_path.parent) as server:
        chromium.get(server.address)
        wait(chromium, "document.body.dataset.ready === 'start'")
        go(chromium, tmp_path)
        wait(chromium, "document.getElementById('files').textContent.includes('panel_underpaint')")
        press(chromium, "#files button")
        wait(chromium, "document.body.dataset.ready === 'all'")
        press(chromium, "#start")
        wait(chromium, "document.body.dataset.ready === 'start'")
        assert chromium.execute_script("return document.getElementById('path').value") == str(tmp_path)
        assert str(tmp_path) in text_of(chromium, "recent")
