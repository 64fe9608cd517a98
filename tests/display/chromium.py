"""Debian's Chromium, driven through its own driver; tests skip with a reason where it is absent."""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from underpaint.display.viewer import Server, serve

_LIMIT_S = 240.0
_FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--hide-scrollbars",
    "--force-device-scale-factor=1",
)


@contextmanager
def browser(profile: Path, size: tuple[int, int] = (1440, 1000)) -> Iterator[Any]:
    """Start a browser with a profile of its own; skip the test where there is none."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        pytest.skip("Chromium and its driver are not installed (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*_FLAGS, f"--window-size={size[0]},{size[1]}", f"--user-data-dir={profile}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield opened
    finally:
        opened.quit()


def wait(opened: Any, script: str) -> Any:
    """Wait until an expression of the page is true, and return it."""
    end = time.monotonic() + _LIMIT_S
    while time.monotonic() < end:
        value = opened.execute_script(f"return {script}")
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(
        f"the page did not come to {script}; it says {opened.execute_script('return document.body.innerText')}"
    )


@contextmanager
def results_page(opened: Any, folder: Path, *, scan: bool = True, tolerated: str = "") -> Iterator[Server]:
    """Show the page of results, with its scan open; at the end the browser has logged no error but the tolerated."""
    with serve(folder) as server:
        opened.get_log("browser")  # of the page before
        opened.get(server.address)
        wait(
            opened,
            "document.body.dataset.ready === 'all' && document.body.dataset.overview"
            " && window.viewer.spectrum.candidates.length",
        )
        if scan:
            press(opened, ".open-scan")
            wait(opened, "window.viewer.about.scan.state === 'ready'")
        yield server
        severe = [entry["message"] for entry in opened.get_log("browser") if entry["level"] == "SEVERE"]
        assert [message for message in severe if not (tolerated and tolerated in message)] == []


def text_of(opened: Any, name: str) -> str:
    """Return the words of an element."""
    return str(opened.execute_script("return document.getElementById(arguments[0]).textContent", name))


def press(opened: Any, selector: str) -> None:
    """Click the first element of a selector."""
    opened.execute_script("document.querySelector(arguments[0]).click()", selector)
