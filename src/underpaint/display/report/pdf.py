"""A report as PDF, printed by the browser that the machine has."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

from underpaint.errors import OutputError
from underpaint.runtime.files import atomic_write

BROWSER_VARIABLE = "UNDERPAINT_BROWSER"
LIMIT_S = 300.0
_NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "msedge",
    "brave-browser",
)
_WINDOWS = (
    "Google/Chrome/Application/chrome.exe",
    "Microsoft/Edge/Application/msedge.exe",
    "Chromium/Application/chrome.exe",
)
_MACOS = ("Google Chrome", "Chromium", "Microsoft Edge", "Brave Browser")


def find_browser() -> str:
    """Return the path of a browser of Chromium's family.

    Raises
    ------
    OutputError
        There is none, or what ``UNDERPAINT_BROWSER`` names is none.
    """
    named = os.environ.get(BROWSER_VARIABLE)
    if named:
        found = shutil.which(named)
        if found is None:
            raise OutputError(
                f"Cannot print a PDF: {BROWSER_VARIABLE} is {named!r}, which is no program. Name another, or unset it."
            )
        return found
    found = next((own for own in _candidates() if shutil.which(own)), None)
    if found is None:
        raise OutputError(
            "Cannot print a PDF: there is no Chromium, Chrome or Edge on this machine. Install one (on Debian and "
            f"Ubuntu: apt-get install chromium), name it in {BROWSER_VARIABLE}, or open report.html and print it."
        )
    return str(shutil.which(found))


def print_pdf(text: str, target: Path, browser: str | None = None) -> None:
    """Print a page to a PDF file.

    Parameters
    ----------
    text : str
        HTML with all that it needs inside.
    target : Path
        File to write.
    browser : str or None
        Program; None: the first that is found.

    Raises
    ------
    OutputError
        There is no browser, it does not print, or the file cannot be written.
    """
    program = browser or find_browser()
    try:
        # Beside the file, for a browser in a sandbox sees no temporary folders.
        with TemporaryDirectory(prefix="underpaint_", dir=target.resolve().parent, ignore_cleanup_errors=True) as place:
            page, printed = Path(place) / "report.html", Path(place) / "report.pdf"
            page.write_text(text, encoding="utf-8")
            said = _run(program, page, printed)
            if not (printed.is_file() and printed.stat().st_size):
                raise OutputError(f"Cannot print {target}: {program} wrote no PDF. It says: {said or 'nothing'}")
            with atomic_write(target) as part:
                shutil.copyfile(printed, part)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"Cannot write {target}: {error.strerror or error}. Check that the folder exists and is writable."
        ) from error


def _run(program: str, page: Path, printed: Path) -> str:
    """Run the browser; returns the end of what it says."""
    flags = [
        "--headless=new",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-extensions",
    ]
    if sys.platform != "win32" and os.geteuid() == 0:
        flags.append("--no-sandbox")  # it refuses to run as root with one; the page is ours and has no script
    command = [
        program, *flags, f"--user-data-dir={page.parent / 'profile'}", "--no-pdf-header-footer",
        f"--print-to-pdf={printed}", page.as_uri(),
    ]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=LIMIT_S, check=False)  # noqa: S603 - found by us, or named by the user
    except subprocess.TimeoutExpired:
        return f"it did not end within {LIMIT_S:g} s"
    return " ".join(done.stderr.split())[-300:]


def _candidates() -> Iterator[str]:
    yield from _NAMES
    for variable in ("ProgramFiles", "ProgramFiles(x86)", "LocalAppData"):
        if os.environ.get(variable):
            yield from (str(Path(os.environ[variable]) / own) for own in _WINDOWS)
    yield from (f"/Applications/{own}.app/Contents/MacOS/{own}" for own in _MACOS)
