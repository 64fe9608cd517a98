"""Pictures of every view of the viewer, on a virtual panel: `python tools/screenshots.py`, or `make screenshots`."""

import argparse
import io
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from scipy.ndimage import zoom

from underpaint.api import identify_to_folder
from underpaint.files import whole_file
from underpaint.io.result_maps import ResultMaps
from underpaint.synth import PanelSettings, make_panel, save_panel
from underpaint.viewer import serve, serve_start

IMAGES = Path(__file__).resolve().parents[1] / "docs" / "images"
_LIMIT_S = 300.0
Views = dict[str, Callable[[Any], None]]


def main() -> None:
    """Make a panel, identify it, open every view, and save what Chromium shows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=IMAGES, help="folder of the pictures")
    parser.add_argument("--result", type=Path, help="results to show, in place of a new panel's")
    asked = parser.parse_args()
    asked.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        folder = asked.result or make_result(Path(place))
        with chromium(Path(place) / "profile") as opened:
            with serve(folder) as server:
                shoot(opened, server.address, result_views(folder), asked.out)
            with serve_start(home=folder.parent) as server:
                shoot(opened, server.address, {"viewer_start": lambda _: None}, asked.out)


def make_result(place: Path) -> Path:
    """Paint, scan and identify the panel of Fig. 7."""
    scan = place / "panel.h5"
    save_panel(make_panel(PanelSettings(recipe="fig7")), scan)
    identify_to_folder(scan, place / "panel_underpaint")
    return place / "panel_underpaint"


def result_views(folder: Path) -> Views:
    """Return what is clicked before each picture."""
    picture = photograph(folder)

    def spot(opened: Any) -> None:
        run(opened, "viewer.choosePixel(20, 30)")
        until(opened, "document.body.dataset.spot === '20,30' && window.viewer.spot.spectrum")

    def four(opened: Any) -> None:
        run(opened, "viewer.setPanes(4)")
        until(opened, "window.viewer.panes.every((own) => own.picture)")

    def regions(opened: Any) -> None:
        run(opened, "viewer.setPanes(2)")
        run(opened, "viewer.regionPanel.add({ corners: [[4,6],[4,30],[20,30],[20,6]] })")
        until(opened, "document.body.dataset.region === 'region 1'")
        run(opened, "viewer.regionPanel.add({ corners: [[30,50],[30,80],[50,66]] })")
        until(opened, "document.body.dataset.region === 'region 2'")

    def scatter(opened: Any) -> None:
        run(opened, "document.getElementById('tab-scatter').click()")
        until(opened, "window.viewer.scatter.values")
        run(opened, "viewer.scatter.light([0.3, 1], [0.5, 1])")

    def photo(opened: Any) -> None:
        run(opened, "viewer.scatter.clear(); document.getElementById('tab-photograph').click()")
        opened.find_element("id", "photograph-file").send_keys(str(picture))
        until(opened, "document.body.dataset.photograph === 'there'")
        run(opened, "viewer.photograph.lay({ automatic: true })")
        until(opened, "document.body.dataset.photograph === 'laid'")

    def dark(opened: Any) -> None:
        run(opened, "document.documentElement.dataset.theme = 'dark'; viewer.setPanes(1); viewer.spectrum.draw()")
        run(opened, "document.getElementById('tab-spot').click()")

    return {
        "viewer_spot": spot,
        "viewer_four": four,
        "viewer_regions": regions,
        "viewer_scatter": scatter,
        "viewer_photograph": photo,
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
            there = np.nan_to_num(maps.values(index)) > 0.5
            image[there] = 0.35 * image[there] + 0.65 * np.array(colors[entry.name])
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

    found, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if found is None or driver is None:
        sys.exit("Chromium and its driver are needed: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = found
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
        time.sleep(1.0)
        with Image.open(io.BytesIO(opened.get_screenshot_as_png())) as image, whole_file(out / f"{name}.png") as part:
            image.convert("RGB").save(part, format="PNG", optimize=True)
        print(f"Wrote {out / name}.png")


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
