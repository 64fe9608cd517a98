"""Clicks and seconds of the tasks that people do with results: `python benchmarks/tasks.py --json FILE`.

A virtual panel is painted, scanned and identified (or results are given), its page is opened in Chromium, and each task
is driven with the mouse and the keys alone: what is clicked is found by its words or its label, as a person finds it.
The tasks of the start page use small scans of known lines. A click is a press of the mouse or a drag. The seconds count
from the first click until the answer is on the page, runs included, and include no time for thinking.
"""

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

for _folder in ("tools", "tests/display"):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1] / _folder))
from start_fakes import AXIS, panel, two_detectors, wrongly_calibrated

from screenshots import chromium, copied, make_result, until
from underpaint.display.viewer import serve, serve_start
from underpaint.io import read_summary
from underpaint.io.results.sidecars import existing_scan_path
from underpaint.physics.instrument import Instrument, save_instrument
from underpaint.runtime.files import atomic_write

_ATTEMPTS = 10


class Person:
    """Drives the page as a person does, and counts the clicks."""

    def __init__(self, opened: Any) -> None:
        self.opened = opened
        self.clicks = 0

    def click(self, words: str, within: str = "body") -> None:
        """Click the first visible button, link or summary with these words."""
        self._press(
            "const all = [...document.querySelectorAll(`${arguments[0]} :is(button, a, summary)`)];"
            "const seen = all.filter((each) => each.getClientRects().length);"
            "return seen.find((each) => each.textContent.trim().startsWith(arguments[1]))",
            within,
            words,
        )

    def tick(self, name: str) -> None:
        """Tick or untick the line of the fit."""
        self._press("return document.querySelector(`[data-family=${arguments[0]}]`)", name)

    def press(self, selector: str) -> None:
        """Click what a person finds by its label or place."""
        self._press("return document.querySelector(arguments[0])", selector)

    def write(self, selector: str, text: str) -> None:
        """Click a field and type."""
        self.press(selector)
        self.opened.switch_to.active_element.send_keys(text)

    def select(self, name: str, words: str) -> None:
        """Open a list and choose the entry with these words: two clicks."""
        self.clicks += 2
        self.opened.execute_script(
            "const field = document.getElementById(arguments[0]);"
            "field.value = [...field.options].find((each) => each.textContent.includes(arguments[1])).value;"
            "field.dispatchEvent(new Event('change'))",
            name,
            words,
        )

    def line(self, name: str, channel: float) -> None:
        """Drag a line of the calibration by hand to a channel."""
        x, y, to = self.opened.execute_script(
            "const plot = document.getElementById('hand-plot'); plot.scrollIntoView({ block: 'center' });"
            "const line = document.querySelector(`.hand-line[aria-label^='${arguments[0]}'] line`);"
            "const from = line.getBoundingClientRect(), frame = plot.getBoundingClientRect();"
            "const tick = [...plot.querySelectorAll('text.tick')].find((each) => each.textContent === '1000');"
            "return [from.left, from.top + 40, frame.left + tick.getAttribute('x') * arguments[1] / 1000]",
            name,
            channel,
        )
        self._move([[x, y], [0.5 * (x + to), y], [to, y]])

    def point(self, row: int, column: int) -> None:
        """Click a pixel of the first map."""
        self._drag([(row + 0.5, column + 0.5)])

    def box(self, first: tuple[int, int], last: tuple[int, int]) -> None:
        """Drag from one pixel of the first map to another."""
        self._drag([first, last])

    def window(self, low_kev: float, high_kev: float) -> None:
        """Drag over a range of the spectrum."""
        places = self.opened.execute_script(
            "const s = window.viewer.spectrum, b = s.place.getBoundingClientRect();"
            "return arguments[0].map((energy) => [b.left + s.scale.x(energy), b.top + b.height / 2])",
            [low_kev, 0.5 * (low_kev + high_kev), high_kev],
        )
        self._move(places)

    def sees(self, script: str) -> None:
        """Wait until an expression of the page is true."""
        until(self.opened, script)

    def _press(self, script: str, *values: object) -> None:
        from selenium.common.exceptions import StaleElementReferenceException

        self.clicks += 1
        for _ in range(_ATTEMPTS):  # a panel may just be filled anew
            element = self.opened.execute_script(script, *values)
            if element is None:
                sys.exit(f"There is nothing to click: {values}.")
            with suppress(StaleElementReferenceException):
                self.opened.execute_script("arguments[0].scrollIntoView({ block: 'center' })", element)
                element.click()
                return
        sys.exit(f"What is to be clicked changes all the time: {values}.")

    def _drag(self, corners: list[tuple[float, float]]) -> None:
        middle = [0.5 * (corners[0][axis] + corners[-1][axis]) for axis in (0, 1)]
        places = self.opened.execute_script(
            "const pane = window.viewer.panes[0], f = pane.frame(), b = pane.canvas.getBoundingClientRect();"
            "const sharp = pane.canvas.width / b.width;"
            "return arguments[0].map(([row, column]) => [b.left + (f.left + column * f.across) / sharp,"
            "b.top + (f.top + row * f.down) / sharp])",
            corners if len(corners) == 1 else [corners[0], middle, corners[-1]],
        )
        self._move(places)

    def _move(self, places: list[list[float]]) -> None:
        from selenium.webdriver.common.action_chains import ActionChains

        self.clicks += 1
        chain = ActionChains(self.opened, duration=10)
        pointer = chain.w3c_actions.pointer_action
        for number, (x, y) in enumerate(places):
            pointer.move_to_location(round(x), round(y))
            if not number:
                pointer.pointer_down()
        pointer.pointer_up()
        chain.w3c_actions.perform()


def overview(person: Person) -> None:
    """See what was found: the first view answers it."""
    person.sees("document.body.dataset.overview && document.querySelectorAll('.sentences li').length")


def vermilion(person: Person) -> None:
    """Find the vermilion."""
    person.click("mercury red", "#list")
    person.sees(
        "window.viewer.pane.entry.name === 'mercury_red' && window.viewer.pane.parts[0].entry.name === 'mercury_red'"
    )


def lead_under_vermilion(person: Person) -> None:
    """Is there lead under it, and how sure: the pixel's summary says so."""
    row, column = person.opened.execute_script(
        "const { values } = window.viewer.pane.parts[0], width = window.viewer.about.shape[1];"
        "const at = values.reduce((best, value, pixel) => (value > values[best] ? pixel : best), 0);"
        "return [Math.floor(at / width), at % width]"
    )
    person.point(row, column)
    person.sees(
        "/\\((> )?0\\.\\d\\d\\)/.test(document.querySelector('#spot .short')?.textContent)"
        " && document.querySelector('#spot .short').textContent.includes('below the surface')"
    )


def doubt_a_line(person: Person) -> None:
    """Doubt a line: leave it out of the fit and look at the residual."""
    person.click("Fit", "#tabs")
    person.sees("document.querySelector('[data-family=Hg_L]')")
    person.tick("Hg_L")
    person.sees("document.body.dataset.fit.endsWith('Hg_L') && document.querySelector('.curve.residual')")


def energy_window(person: Person) -> None:
    """A map of an energy window."""
    person.window(6.2, 6.6)
    person.sees("window.viewer.pane.parts[0]?.entry.kind === 'window'")


def compare_two_regions(person: Person) -> None:
    """Compare two places: a table of their elements with the significance of the differences."""
    rows, columns = person.opened.execute_script("return window.viewer.about.shape")
    person.click("Box")
    person.box((rows // 8, columns // 8), (rows // 3, columns // 3))
    person.sees("window.viewer.regions[0]?.found?.maps")
    person.box((rows // 2, columns // 2), (3 * rows // 4, 3 * columns // 4))
    person.sees("window.viewer.regions[1]?.found?.maps")
    person.click("Table and differences")
    person.sees("document.getElementById('table').open && document.querySelectorAll('#table tbody tr').length")
    person.click("Close", "#table")


def belongs_together(person: Person) -> None:
    """What belongs together: clusters of the pixels."""
    person.click("Explore", "#tabs")
    person.click("Find clusters")
    person.sees("document.body.dataset.clusters")


def paper_figure(person: Person) -> None:
    """The figure for a paper: one click more would download it."""
    person.click("Groups", "#kinds")
    person.click("mercury red", "#list")
    person.click("Save", "#tabs")
    person.sees("document.querySelector('#export a[href*=figure5]')")


def state_something(person: Person) -> None:
    """State as an expert that a group is confirmed."""
    person.click("Spot", "#tabs")
    person.click("Confirm or correct", "#spot")
    person.opened.execute_script("document.getElementById('statement-author').value = 'A. Person'")
    person.click("Save", "#statement")
    person.sees("document.querySelector('#spot .expert .note')")


def look_into(person: Person, *names: str) -> None:
    """Tick scans on the start page, and wait until the page says what they hold."""
    for name in names:
        person.press(f"#files li[data-path$='/{name}'] input")
    words = f"in {len(names)} scans" if len(names) > 1 else "Find the pigments"
    person.sees(f"!run.hidden && document.getElementById('actions').textContent.includes('{words}')")


def run_ends(person: Person, states: str) -> None:
    """Wait until the last runs of the queue have ended so."""
    number = len(states.split(","))
    person.sees(
        f"[...document.querySelectorAll('#queue li')].slice(-{number}).map((each) => each.dataset.state).join() === "
        f"'{states}'"
    )


def three_scans_with_a_palette(person: Person) -> None:
    """Run three scans with a palette of one's own."""
    look_into(person, "panel_1.h5", "panel_2.h5", "panel_3.h5")
    person.click("Edit palette")
    person.opened.switch_to.active_element.send_keys("Own pigments")  # the name has the focus
    for name in ("vermilion", "lead_white", "chalk"):
        person.press(f"#pigments input[value={name}]")
    person.click("Save palette")
    person.sees("document.getElementById('palette').value.endsWith('Own pigments.toml')")
    person.click("Find the pigments")
    run_ends(person, "done,done,done")


def mend_a_calibration(person: Person) -> None:
    """Mend a wrong calibration by hand, and run with it."""
    look_into(person, "wrong.h5")
    person.click("Calibrate by hand")
    person.sees("document.querySelectorAll('.hand-line').length > 1")
    for number, (name, energy_kev) in enumerate((("Ca Kα", 3.69), ("Fe Kα", 6.40)), start=1):
        person.line(name, energy_kev / AXIS.gain_kev)
        person.sees(f"document.getElementById('hand-axis').textContent.includes('{number} ')")
    person.sees("!document.getElementById('accept-axis').disabled")
    person.click("Accept and save")
    person.sees("document.getElementById('instrument').value.endsWith('wrong_calibrated.toml')")
    person.click("Find the pigments")
    run_ends(person, "done")


def second_detector(person: Person) -> None:
    """Run the second detector of a file, with an instrument file and a pixel size."""
    look_into(person, "two.h5")
    person.select("detector", "det2")
    person.sees("document.getElementById('out').textContent.includes('two_det2_underpaint') && !run.hidden")
    person.write("#step", "0.25")
    person.press("#files li[data-path$='/ours.toml'] button")
    person.sees("document.getElementById('instrument').value.endsWith('ours.toml')")
    person.click("Find the pigments")
    run_ends(person, "done")


def cancel_one_of_three(person: Person) -> None:
    """Cancel one run of a queue; the others go on."""
    names = [f"panel_{number}.h5" for number in (1, 2, 3)]
    look_into(person, *names)
    person.press("#replace")
    person.click("Find the pigments")
    person.sees("document.querySelectorAll('#queue li:is([data-state=queued], [data-state=running])').length === 3")
    person.press("#queue li:nth-last-child(2) button")
    run_ends(person, "done,cancelled,done")


START_TASKS: dict[str, Callable[[Person], None]] = {
    task.__name__: task
    for task in (three_scans_with_a_palette, mend_a_calibration, second_detector, cancel_one_of_three)
}

TASKS: dict[str, Callable[[Person], None]] = {
    task.__name__: task
    for task in (
        *(overview, vermilion, lead_under_vermilion, doubt_a_line, energy_window, compare_two_regions),
        *(belongs_together, paper_figure, state_something),
    )
}


def driven(opened: Any, tasks: dict[str, Callable[[Person], None]]) -> dict[str, Any]:
    """Drive tasks, and return the clicks and seconds of each."""
    figures = {}
    for name, task in tasks.items():
        person, began = Person(opened), time.perf_counter()
        task(person)
        seconds = round(time.perf_counter() - began, 2)
        figures[name] = {"what": (task.__doc__ or "").strip(), "clicks": person.clicks, "seconds": seconds}
    return figures


def start_folder(place: Path) -> Path:
    """Make the scans and the instrument file for the start page."""
    folder = place / "scans"
    folder.mkdir()
    for number in (1, 2, 3):
        panel(folder / f"panel_{number}.h5", number)
    wrongly_calibrated(folder / "wrong.h5")
    two_detectors(folder / "two.h5")
    detector = {"gain_kev": AXIS.gain_kev, "zero_kev": AXIS.zero_kev}
    save_instrument(Instrument.model_validate({"detector": detector}), folder / "ours.toml", only_known=True)
    return folder


def main() -> None:
    """Drive every task, print, and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--result", type=Path, help="results to use, in place of a new panel's")
    options = parser.parse_args()
    figures: dict[str, Any] = {"load_average": psutil.getloadavg()[0], "tasks": {}}
    with tempfile.TemporaryDirectory(prefix="underpaint_") as place:
        os.environ["UNDERPAINT_STATE"] = str(Path(place) / "state")
        made = options.result or make_result(Path(place))
        place_of_scan = existing_scan_path(made, read_summary(made))
        scan = None if place_of_scan is None else str(place_of_scan)
        folder = copied(made, Path(place) / "shown_underpaint")
        with (
            chromium(Path(place) / "profile") as opened,
            serve(folder, scan=scan) as server,
        ):
            opened.get(server.address)
            until(opened, "document.body.dataset.ready === 'all'")
            until(opened, "window.viewer.about.scan.state === 'ready'")
            figures["tasks"] |= driven(opened, TASKS)
        with chromium(Path(place) / "profile_start") as opened, serve_start(home=start_folder(Path(place))) as server:
            opened.get(server.address)
            until(opened, "document.body.dataset.ready === 'start'")
            figures["tasks"] |= driven(opened, START_TASKS)
    print(json.dumps(figures, indent=1))
    if options.json is not None:
        with atomic_write(options.json) as part:
            part.write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
