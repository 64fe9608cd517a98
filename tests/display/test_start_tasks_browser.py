"""What people do on the start page, driven in Chromium: a queue, a palette, a calibration, a detector, an upload."""

import sys
from pathlib import Path
from typing import Any

import h5py
import pytest
from chromium import press, text_of, wait
from selenium.webdriver.common.keys import Keys
from start_fakes import AXIS, LINES, WRONG_AXIS, counts, panel, spectra_folder, two_detectors, wrongly_calibrated
from viewer_fakes import results

from underpaint.display.viewer import serve_start
from underpaint.display.viewer.runs import Run
from underpaint.io import read_results
from underpaint.physics.instrument import Instrument, load_instrument, save_instrument
from underpaint.physics.materials import load_palette

pytestmark = pytest.mark.browser

WORKER = """
import json, sys
job = json.loads(sys.stdin.readline())
def tell(**what): print(json.dumps(what), flush=True)
facts = {"shape": [4, 6, 8], "format": "HDF5", "step_mm": None, "total_counts": 1, "mean_pixel_counts": 1}
facts |= {"n_missing": 0, "notes": [], "detectors": [], "detector": "", "sum": [1, 2, 3], "peaks": []}
if job["what"] == "look":
    axis = {"gain_kev": 0.01, "zero_kev": 0.0, "found": [], "anode": None, "notes": []}
    out = job["scan"].removesuffix(".h5") + "_underpaint"
    tell(result=facts | {"calibration": axis, "out": out, "finished": False})
else:
    tell(progress=["Identifying pigments", 3, 24])
    if "panel_2" in job["scan"]:
        sys.stdin.read()
    tell(result={"folder": job["out"], "notes": [], "alerts": [], "aside": "", "unexplained": []})
"""
STATES = "[...document.querySelectorAll('#queue li')].map((item) => item.dataset.state).join()"


def opened(page: Any, server: Any) -> None:
    page.get(server.address)
    wait(page, "document.body.dataset.ready === 'start'")


def choose(page: Any, *names: str) -> None:
    """Tick scans, and wait until all were looked into."""
    for name in names:
        press(page, f"#files li[data-path$='/{name}'] input")
    words = f"in {len(names)} scans" if len(names) > 1 else "Find the pigments"
    wait(page, f"document.getElementById('actions').textContent.includes({words!r}) && !run.hidden")


def fill(page: Any, name: str, value: str) -> None:
    """Set a field, as a person who leaves it."""
    script = "const field = document.getElementById(arguments[0]); field.value = arguments[1];"
    page.execute_script(f"{script} field.dispatchEvent(new Event('change'))", name, value)


def channel_of(page: Any, name: str) -> str:
    """Return the channel of a line, "" where it has none."""
    return str(page.execute_script(f"return document.querySelector('[aria-label=\"Channel of {name}\"]').value"))


def done(page: Any, number: int) -> None:
    """Wait until all runs are done; show why one failed."""
    wait(page, f"/^((done|failed|cancelled)(,|$)){{{number}}}$/.test({STATES})")
    assert page.execute_script(f"return {STATES}") == ",".join(["done"] * number), text_of(page, "queue")


def test_three_scans_run_in_one_queue_with_a_new_palette(chromium: Any, tmp_path: Path) -> None:
    names = [panel(tmp_path / f"panel_{number}.h5", number).name for number in (1, 2, 3)]
    with serve_start(home=tmp_path) as server:
        opened(chromium, server)
        choose(chromium, *names)
        press(chromium, "#edit-palette")
        chromium.switch_to.active_element.send_keys("Own pigments")
        for name in ("vermilion", "lead_white", "chalk"):
            press(chromium, f"#pigments input[value={name}]")
        assert "3 of" in text_of(chromium, "palette-count")
        press(chromium, "#palette-form button.primary")
        wait(chromium, "document.getElementById('palette').value.endsWith('Own pigments.toml')")
        press(chromium, "#start-run")
        done(chromium, 3)
        for name in names:
            written = read_results(tmp_path / name.replace(".h5", "_underpaint"))
            assert set(written.groups) == {"mercury_red", "lead_pigment", "calcium_white"}
            palette = load_palette(written.settings["palette"])
            assert palette.pigments == ("lead_white", "chalk", "vermilion")
        chromium.refresh()
        wait(chromium, "document.querySelectorAll('#queue li').length === 3")
        press(chromium, "#queue button")
        wait(chromium, "document.body.dataset.ready === 'all'")


def test_a_wrong_calibration_is_mended_by_hand_with_the_keyboard_alone(chromium: Any, tmp_path: Path) -> None:
    wrongly_calibrated(tmp_path / "wrong.h5")
    with serve_start(home=tmp_path) as server:
        opened(chromium, server)
        choose(chromium, "wrong.h5")
        assert "none confirm the axis" in text_of(chromium, "held-words")
        press(chromium, "#by-hand summary")
        wait(chromium, "document.querySelectorAll('.hand-line').length > 1")
        assert chromium.execute_script("return document.getElementById('accept-axis').disabled")
        calcium = chromium.find_element("css selector", ".hand-line[aria-label^='Ca Kα']")
        calcium.send_keys(Keys.ENTER)  # to the nearest peak
        wait(chromium, "document.getElementById('hand-axis').textContent.startsWith('1 of')")
        channel = chromium.find_element("css selector", "[aria-label='Channel of Fe Kα']")
        channel.send_keys("637", Keys.TAB)
        wait(chromium, "document.getElementById('hand-axis').textContent.includes('2 lines')")
        for _ in range(3):
            at = channel_of(chromium, "Fe Kα")
            chromium.find_element("css selector", ".hand-line[aria-label^='Fe Kα']").send_keys(Keys.ARROW_RIGHT)
            wait(chromium, f"document.querySelector('[aria-label=\"Channel of Fe Kα\"]').value !== '{at}'")
        wait(chromium, "!document.getElementById('accept-axis').disabled")
        press(chromium, "#accept-axis")
        wait(chromium, "document.getElementById('instrument').value.endsWith('wrong_calibrated.toml')")
        assert "Refined by" in text_of(chromium, "held-words")
        assert load_instrument(tmp_path / "wrong_calibrated.toml").detector.gain_kev == pytest.approx(0.01, rel=2e-3)
        press(chromium, "#start-run")
        done(chromium, 1)
    written = read_results(tmp_path / "wrong_underpaint")
    assert written.settings["calibration"]["gain_kev"] == pytest.approx(0.01, rel=2e-3)
    assert written.settings["calibration"]["gain_kev"] != WRONG_AXIS.gain_kev
    assert written.has_pigments


def test_a_line_is_dragged_to_its_peak(chromium: Any, tmp_path: Path) -> None:
    from selenium.webdriver.common.action_chains import ActionChains

    wrongly_calibrated(tmp_path / "wrong.h5")
    with serve_start(home=tmp_path) as server:
        opened(chromium, server)
        choose(chromium, "wrong.h5")
        press(chromium, "#by-hand summary")
        wait(chromium, "document.querySelectorAll('.hand-line').length > 1")
        for name, energy_kev in (("Ca Kα", 3.69), ("Fe Kα", 6.40)):
            x, y, to = chromium.execute_script(
                "const plot = document.getElementById('hand-plot'); plot.scrollIntoView({ block: 'center' });"
                "const line = document.querySelector(`.hand-line[aria-label^='${arguments[0]}'] line`);"
                "const from = line.getBoundingClientRect(), frame = plot.getBoundingClientRect();"
                "const tick = [...plot.querySelectorAll('text.tick')].find((each) => each.textContent === '1000');"
                "return [from.left, from.top + 40, frame.left + tick.getAttribute('x') * arguments[1] / 1000]",
                name,
                energy_kev / 0.01,
            )
            chain = ActionChains(chromium, duration=10)
            pointer = chain.w3c_actions.pointer_action
            pointer.move_to_location(round(x), round(y))
            pointer.pointer_down()
            pointer.move_to_location(round(0.5 * (x + to)), round(y))
            pointer.move_to_location(round(to), round(y))
            pointer.pointer_up()
            chain.w3c_actions.perform()
            wait(chromium, f"document.querySelector('[aria-label=\"Channel of {name}\"]').value !== ''")
            channel = float(channel_of(chromium, name))
            assert channel == pytest.approx(energy_kev / 0.01, abs=2.0)  # the peak's centre, not the pointer's place
        wait(chromium, "document.getElementById('hand-axis').textContent.includes('2 lines')")


def test_one_of_two_detectors_is_chosen_and_an_instrument_from_a_file(chromium: Any, tmp_path: Path) -> None:
    two_detectors(tmp_path / "two.h5")
    detector = {"gain_kev": AXIS.gain_kev, "zero_kev": AXIS.zero_kev}
    instrument = Instrument.model_validate({"name": "ours", "detector": detector})
    save_instrument(instrument, tmp_path / "ours.toml", only_known=True)
    with serve_start(home=tmp_path) as server:
        opened(chromium, server)
        choose(chromium, "two.h5")
        options = "[...document.getElementById('detector').options].map((each) => each.textContent).join()"
        assert chromium.execute_script(f"return {options}") == "all 2, added,only det1,only det2"
        fill(chromium, "detector", "det2")
        wait(chromium, "document.getElementById('out').textContent.includes('two_det2_underpaint') && !run.hidden")
        fill(chromium, "step", "0.25x0.5")
        press(chromium, "#files li[data-path$='/ours.toml'] button")
        wait(chromium, "document.getElementById('instrument').value.endsWith('/ours.toml')")
        press(chromium, "#start-run")
        done(chromium, 1)
    written = read_results(tmp_path / "two_det2_underpaint")
    assert written.settings["detector"] == "det2"
    assert written.step_mm == (0.25, 0.5)


def test_one_run_is_cancelled_and_the_others_go_on(
    chromium: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Run.__init__, "__defaults__", ((sys.executable, "-c", WORKER), None))
    names = [f"panel_{number}.h5" for number in (1, 2, 3)]
    for name in names:
        (tmp_path / name).touch()
    with serve_start(home=tmp_path) as server:
        opened(chromium, server)
        choose(chromium, *names)
        press(chromium, "#start-run")
        wait(chromium, f"{STATES} === 'done,running,done' && document.querySelector('#queue progress').value === 3")
        assert chromium.title == "(2 of 3) underpaint"
        press(chromium, "#queue li:nth-child(2) button")
        wait(chromium, f"{STATES} === 'done,cancelled,done'")
        assert "No incomplete results remain" in text_of(chromium, "queue")
        assert not chromium.find_elements("css selector", "#files input:checked")


def test_spectra_without_a_grid_ask_for_rows_and_columns(chromium: Any, tmp_path: Path) -> None:
    spectra_folder(tmp_path / "spectra")
    with serve_start(home=tmp_path) as server:
        opened(chromium, server)
        press(chromium, "#files li[data-path$='/spectra'] button")
        wait(chromium, "document.getElementById('held-words').textContent.includes('no grid file')")
        fill(chromium, "shape", "5x6")
        wait(chromium, "document.getElementById('held-words').textContent.includes('5 rows × 6 columns')")


def test_one_of_the_scans_in_a_file_is_chosen(chromium: Any, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "two.h5", "w") as file:
        file["first/counts"], file["second/counts"] = counts(LINES, (4, 6)), counts(LINES, (3, 5))
    with serve_start(home=tmp_path) as server:
        opened(chromium, server)
        press(chromium, "#files li[data-path$='/two.h5'] button")
        wait(chromium, "document.querySelectorAll('#held-words button').length === 2")
        assert "contains 2 scans" in text_of(chromium, "held-words")
        press(chromium, "#held-words button:last-child")
        wait(chromium, "document.getElementById('held-words').textContent.includes('3 rows × 5 columns')")


def test_files_are_uploaded_or_dropped_and_one_that_is_there_is_not_replaced(chromium: Any, tmp_path: Path) -> None:
    source, home = tmp_path / "elsewhere", tmp_path / "home"
    source.mkdir()
    home.mkdir()
    panel(source / "panel.h5")
    with serve_start(home=home) as server:
        opened(chromium, server)
        field = chromium.find_element("css selector", "#upload-files")
        field.send_keys(str(source / "panel.h5"))
        wait(chromium, "document.getElementById('held-words').textContent.includes('4 rows')")
        assert (home / "panel.h5").read_bytes() == (source / "panel.h5").read_bytes()
        (source / "panel.h5").write_bytes(b"other")
        field.send_keys(str(source / "panel.h5"))
        wait(
            chromium,
            "document.getElementById('uploads').textContent.includes('already contains a file with this name')",
        )
        assert (home / "panel.h5").read_bytes() != b"other"
        chromium.execute_script(
            "const data = new DataTransfer(); data.items.add(new File(['1,2\\n3,4\\n'], 'dropped.csv'));"
            "const facts = { dataTransfer: data, bubbles: true, cancelable: true };"
            "document.body.dispatchEvent(new DragEvent('drop', facts))"
        )
        wait(chromium, "!!document.querySelector('#files li[data-path$=\"/dropped.csv\"]')")
        assert (home / "dropped.csv").read_text(encoding="utf-8") == "1,2\n3,4\n"


@pytest.mark.parametrize("width", [360, 3840])
@pytest.mark.parametrize("theme", ["dark", "light"])
def test_the_page_fits_every_screen(chromium: Any, tmp_path: Path, width: int, theme: str) -> None:
    results(tmp_path)
    with serve_start(home=tmp_path) as server:
        size = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        try:
            opened(chromium, server)
            chromium.execute_script("document.documentElement.dataset.theme = arguments[0]", theme)
            choose(chromium, "panel.h5")
            press(chromium, "#by-hand summary")
            wait(chromium, "document.querySelectorAll('.hand-line').length > 1")
            assert chromium.execute_script("return document.documentElement.scrollWidth <= innerWidth")
            press(chromium, "#edit-palette")
            assert chromium.execute_script(
                "const box = document.getElementById('palette-editor').getBoundingClientRect();"
                "return box.left >= 0 && box.right <= innerWidth"
            )
        finally:
            chromium.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
