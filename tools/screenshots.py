"""Pictures of every view of the viewer, on a virtual panel: `python tools/screenshots.py`, or `make screenshots`."""

import argparse
import io
import os
import shutil
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import zoom

from underpaint.data.maps import Results
from underpaint.display.report import write_report
from underpaint.display.viewer import serve, serve_start
from underpaint.io import read_summary, write_results
from underpaint.io.results.result_maps import ResultMaps
from underpaint.io.results.sidecars import existing_scan_path
from underpaint.pipeline.run import identify_to_folder
from underpaint.runtime.files import atomic_write
from underpaint.simulate import PanelSettings, make_panel, save_panel

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
_LIMIT_S = 300.0
# Width and height in the page's pixels, and how many of the screen's there are to one. Zoomed to 200 %, a window of
# 1440 x 1000 has half as many of the page's.
WINDOWS = {"narrow": (360, 780, 1.0), "large": (3840, 2160, 1.0), "zoomed": (720, 500, 2.0)}
Views = dict[str, Callable[[Any], None]]


def main() -> None:
    """Make a panel, identify it, open every view, and save what Chromium shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder of the pictures")
    parser.add_argument("--result", type=Path, help="results to show, in place of a new panel's")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="underpaint_") as place:
        os.environ["UNDERPAINT_STATE"] = str(Path(place) / "state")  # what is opened here is no result of the user's
        results = arguments.result or make_result(Path(place))
        scan = existing_scan_path(results, read_summary(results))
        if scan is not None and scan.parent != Path(place):
            shutil.copy(scan, place)  # beside the copied results, where a scan is looked for
        folder = copied(results, Path(place) / "panel_underpaint_shown")
        with chromium(Path(place) / "profile") as opened:
            shoot_results(opened, folder, arguments.out)
            shoot_poor_results(opened, Path(place), folder, arguments.out)
            shoot_start(opened, Path(place) / "start", arguments.out)
            shoot_report(opened, folder, arguments.out)


def ask_to_open_scan(address: str) -> None:
    """Open the scan as a click on its button does."""
    urllib.request.urlopen(f"{address}scan", data=b"", timeout=60).close()  # noqa: S310 - our own server


def shoot_results(opened: Any, folder: Path, out: Path) -> None:
    """Save the views of results: in a usual window, a narrow one, a large one, and at 200 % zoom."""
    with serve(folder) as server:
        ask_to_open_scan(server.address)
        shoot(opened, server.address, result_views(folder), out)
        for name, size in WINDOWS.items():
            with window(opened, *size):
                shoot(opened, server.address, {f"viewer_{name}": pointed, f"viewer_{name}_summary": summary}, out)
        opened.execute_script("localStorage.clear()")


def shoot_poor_results(opened: Any, place: Path, folder: Path, out: Path) -> None:
    """Save what stands there where the scan is gone, where nothing has an answer, and where no map has a name."""
    lost = copied(folder, place / "elsewhere" / "lost_underpaint")
    with serve(lost, scan=str(place / "elsewhere" / "gone.h5")) as server:
        shoot(opened, server.address, {"viewer_without_scan": pointed}, out)

        def unknown(page: Any) -> None:
            run(page, "const own = document.getElementById('search'); own.value = 'unobtainium';")
            run(page, "document.getElementById('search').dispatchEvent(new Event('input'));")

        shoot(opened, server.address, {"viewer_no_such_map": unknown}, out)
    missing = np.full((40, 60, 1), np.nan, np.float32)
    empty = replace(Results.of_lines(("Fe_K",), missing, missing), summary={"name": "empty"})
    write_results(place / "empty", empty)
    with serve(place / "empty") as server:
        shoot(opened, server.address, {"viewer_empty": lambda page: run(page, "viewer.choosePixel(20, 30)")}, out)


def shoot_start(opened: Any, home: Path, out: Path) -> None:
    """Save the start page through a real run: chosen, calibrated, a palette, running, cancelled, refused."""
    home.mkdir()
    save_panel(make_panel(PanelSettings(recipe="fig7", cell_pixels=2, gap_pixels=1)), home / "small_panel.h5")
    (home / "damaged.h5").write_bytes(b"no HDF5")

    def click(page: Any, words: str) -> None:
        page.execute_script(
            "[...document.querySelectorAll('button')].find((own) => own.textContent.includes(arguments[0])).click()",
            words,
        )

    def look(page: Any) -> None:
        click(page, "small_panel.h5")
        until(page, "!document.getElementById('run').hidden")

    def calibration(page: Any) -> None:
        page.execute_script("document.querySelector('#by-hand summary').click()")
        until(page, "document.querySelectorAll('.hand-line').length > 2")
        page.execute_script("document.getElementById('by-hand').scrollIntoView()")

    def palette(page: Any) -> None:
        click(page, "Edit palette")
        until(page, "document.getElementById('palette-editor').open")

    def running(page: Any) -> None:
        click(page, "Cancel")
        page.execute_script("document.getElementById('start-run').click()")
        until(page, "document.querySelector('#queue .step')?.textContent.includes('Identifying')")

    def cancelled(page: Any) -> None:
        page.execute_script("document.querySelector('#queue button').click()")
        until(page, "document.querySelector('#queue .step').textContent.includes('Cancelled')")

    def refused(page: Any) -> None:
        page.execute_script("window.scrollTo(0, 0)")
        click(page, "damaged.h5")
        until(page, "document.getElementById('held-words').textContent.includes('Cannot')")

    views = {
        "start": lambda _: None,
        "start_scan": look,
        "start_calibration": calibration,
        "start_palette": palette,
        "start_running": running,
        "start_cancelled": cancelled,
        "start_refused": refused,
    }
    with serve_start(home=home) as server:
        shoot(opened, server.address, views, out)
        with window(opened, *WINDOWS["narrow"]):
            shoot(opened, server.address, {"start_narrow": look}, out)


def shoot_report(opened: Any, folder: Path, out: Path) -> None:
    """Save the first page of the report, in a usual, a narrow and a dark window, and sections of the full report."""
    address = write_report(folder, subject="Virtual panel of Fig. 7").as_uri()
    full = write_report(folder, folder / "full.html", subject="Virtual panel of Fig. 7", full=True).as_uri()
    places = {"report": "findings", "report_layers": "layers", "report_spots": "spots", "report_table": "table"}
    for name, place in places.items():
        opened.get(f"{full}#{place}" if name != "report" else address)
        save(opened, out / f"{name}.png")
    with window(opened, *WINDOWS["narrow"]):
        opened.get(address)
        save(opened, out / "report_narrow.png")
    opened.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    )
    opened.get(address)
    save(opened, out / "report_dark.png")
    opened.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def copied(folder: Path, place: Path) -> Path:
    """Copy results, for regions and a photograph are saved with them."""
    shutil.copytree(folder, place)
    return place


def pointed(opened: Any) -> None:
    """Choose a pixel."""
    until(opened, "window.viewer.about.scan.state !== 'opening'")
    run(opened, "viewer.choosePixel(20, 30)")
    until(opened, "document.body.dataset.spot === '20,30'")


def summary(opened: Any) -> None:
    """Look at what was found."""
    until(opened, "document.body.dataset.overview")
    run(opened, "document.getElementById('tab-summary').click()")


@contextmanager
def window(opened: Any, width: int, height: int, scale: float) -> Iterator[None]:
    """Show pages as in a window of this size."""
    facts = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": False}
    opened.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", facts)
    try:
        yield
    finally:
        opened.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def make_result(place: Path) -> Path:
    """Paint, scan and identify the panel of Fig. 7."""
    with chdir(place):  # so that the pictures show the scan's name, and not where it was
        save_panel(make_panel(PanelSettings(recipe="fig7")), Path("panel.h5"))
        identify_to_folder("panel.h5", place / "panel_underpaint")
    return place / "panel_underpaint"


def result_views(folder: Path) -> Views:
    """Return what is clicked before each picture."""
    picture = photograph(folder)

    def composite(opened: Any) -> None:
        run(opened, "viewer.setPanes(1); viewer.pane.shown.mode = 'overlay'; viewer.changed()")
        run(opened, "document.getElementById('tab-export').click()")
        until(opened, "window.viewer.pane.parts.length > 1")

    def four(opened: Any) -> None:
        run(opened, "viewer.setPanes(4)")
        until(opened, "window.viewer.panes.every((own) => own.picture)")

    def window_map(opened: Any) -> None:
        run(opened, "viewer.setPanes(1); return viewer.computed.window(6.2, 6.6)")

    def fit(opened: Any) -> None:
        run(opened, "document.getElementById('tab-fit').click()")
        until(opened, "document.body.dataset.fit")
        run(opened, "viewer.spectrum.range = [5, 14]; viewer.spectrum.draw(); viewer.spectrum.point(6.4)")

    def explore(opened: Any) -> None:
        run(opened, "viewer.fitPanel.clear(); viewer.spectrum.range = null")
        run(
            opened, "document.getElementById('tab-explore').click(); document.getElementById('find-components').click()"
        )
        until(opened, "document.body.dataset.components")
        run(opened, "document.getElementById('find-clusters').click()")
        until(opened, "document.body.dataset.clusters")
        run(opened, "document.getElementById('find-embedding').click()")
        until(opened, "document.body.dataset.embedding")
        run(opened, "document.querySelector('#explore canvas').scrollIntoView()")

    def table(opened: Any) -> None:
        run(opened, "document.getElementById('open-table').click()")
        until(opened, "document.getElementById('table').open")

    def regions(opened: Any) -> None:
        run(opened, "viewer.extraCurves = []; return viewer.showNamed('mercury_red')")
        run(opened, "viewer.setPanes(2)")
        run(opened, "viewer.regionPanel.add({ corners: [[4,6],[4,30],[20,30],[20,6]] })")
        until(opened, "document.body.dataset.region === 'region 1'")
        run(opened, "viewer.regionPanel.add({ corners: [[30,50],[30,80],[50,66]] })")
        until(opened, "document.body.dataset.region === 'region 2'")

    def scatter(opened: Any) -> None:
        run(opened, "document.getElementById('table').close()")
        run(opened, "document.getElementById('tab-scatter').click()")
        until(opened, "window.viewer.scatter.values")
        run(opened, "viewer.scatter.light([0.3, 1], [0.5, 1])")

    def pictures(opened: Any) -> None:
        run(opened, "viewer.scatter.clear(); document.getElementById('tab-pictures').click()")
        for number, kind in enumerate(("visible", "infrared"), start=1):
            run(opened, f"viewer.pictures.kind = '{kind}'")
            opened.find_element("id", "picture-file").send_keys(str(picture))
            until(opened, f"window.viewer.pictures.layers.length === {number}")
            run(opened, "viewer.pictures.register(viewer.pictures.layers[0], { automatic: true })")
            until(opened, "!!window.viewer.pictures.layers[0].image")
        run(opened, "viewer.pictures.open('')")

    def dark(opened: Any) -> None:
        run(opened, "document.documentElement.dataset.theme = 'dark'; viewer.setPanes(1); viewer.spectrum.draw()")
        run(opened, "viewer.pane.shown.mode = 'map'; viewer.changed(); document.getElementById('tab-spot').click()")

    return {
        "viewer_first": lambda opened: until(opened, "document.body.dataset.overview"),
        "viewer_spot": pointed,
        "viewer_window": window_map,
        "viewer_fit": fit,
        "viewer_explore": explore,
        "viewer_four": four,
        "viewer_regions": regions,
        "viewer_table": table,
        "viewer_scatter": scatter,
        "viewer_pictures": pictures,
        "viewer_save": composite,
        "viewer_dark": dark,
    }


def photograph(folder: Path) -> Path:
    """Render a photograph: the panel's maps in the colours of their pigments, on a wall, a little turned."""
    maps = ResultMaps(folder)
    colors = {
        "mercury_red": (190, 45, 35),
        "copper_green_blue": (40, 110, 150),
        "iron_pigment": (170, 120, 50),
        "cobalt_pigment": (40, 50, 140),
        "chromium_pigment": (50, 120, 60),
    }
    image = np.full((*maps.shape, 3), 225.0)
    for index, entry in enumerate(maps.entries):
        if entry.kind == "group" and entry.name in colors:
            is_present = np.nan_to_num(maps.values(index)) > 0.5
            image[is_present] = 0.35 * image[is_present] + 0.65 * np.array(colors[entry.name])
    maps.close()
    large = zoom(image, (8, 8, 1), order=0).clip(0, 255).astype(np.uint8)
    painted = Image.fromarray(large).rotate(3, expand=True, fillcolor=(120, 116, 110))
    wall = Image.new("RGB", (painted.width + 120, painted.height + 90), (120, 116, 110))
    wall.paste(painted, (70, 40))
    path = folder.parent / "photograph.png"
    wall.save(path)
    return path


@contextmanager
def chromium(profile: Path) -> Iterator[Any]:
    """Start Chromium with a new profile."""
    from selenium import webdriver

    browser, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if browser is None or driver is None:
        sys.exit("Chromium and its driver are needed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-background-networking"):
        options.add_argument(flag)
    options.add_argument("--window-size=1440,1000")
    options.add_argument("--hide-scrollbars")
    options.add_argument(f"--user-data-dir={profile}")
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield opened
    finally:
        opened.quit()


def shoot(opened: Any, address: str, views: Views, out: Path) -> None:
    """Go through the views one after the other, and save each."""
    opened.get(address)
    until(opened, "['all', 'start'].includes(document.body.dataset.ready)")
    for name, prepare in views.items():
        prepare(opened)
        save(opened, out / f"{name}.png")


def save(opened: Any, path: Path) -> None:
    """Save what is seen, once it stands still."""
    time.sleep(1.0)
    with Image.open(io.BytesIO(opened.get_screenshot_as_png())) as image, atomic_write(path) as part:
        image.convert("RGB").save(part, format="PNG", optimize=True)
    print(f"Wrote {path}", flush=True)


def run(opened: Any, script: str) -> None:
    """Run a script in the page."""
    opened.execute_script(f"const viewer = window.viewer; {script}")


def until(opened: Any, script: str) -> None:
    """Wait until an expression of the page is true."""
    end = time.monotonic() + _LIMIT_S
    while not opened.execute_script(f"return {script}"):
        if time.monotonic() > end:
            sys.exit(f"The page did not come to {script}.")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
