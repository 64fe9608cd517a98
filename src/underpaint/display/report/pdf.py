"""Printing of reports to PDF by an installed browser."""

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
TIME_LIMIT_S = 300.0
_PROGRAM_NAMES = (
    "chromium",
    "chromium-browser",
    "google-chrome",
    "google-chrome-stable",
    "chrome",
    "microsoft-edge",
    "msedge",
    "brave-browser",
)
_WINDOWS_PATHS = (
    "Google/Chrome/Application/chrome.exe",
    "Microsoft/Edge/Application/msedge.exe",
    "Chromium/Application/chrome.exe",
)
_MACOS_APPLICATIONS = ("Google Chrome", "Chromium", "Microsoft Edge", "Brave Browser")


def find_browser() -> str:
    """Return the path of a browser based on Chromium.

    Raises
    ------
    OutputError
        No browser is installed, or ``UNDERPAINT_BROWSER`` does not name a program.
    """
    browser_name = os.environ.get(BROWSER_VARIABLE)
    if browser_name:
        browser_path = shutil.which(browser_name)
        if browser_path is None:
            raise OutputError(
                f"Cannot print a PDF: {BROWSER_VARIABLE} is {browser_name!r}, which is not a program. "
                "Name another program, or unset the variable."
            )
        return browser_path
    browser_path = next((candidate for candidate in _browser_candidates() if shutil.which(candidate)), None)
    if browser_path is None:
        raise OutputError(
            "Cannot print a PDF: there is no Chromium, Chrome or Edge on this machine. Install one (on Debian and "
            f"Ubuntu: apt-get install chromium), name one in {BROWSER_VARIABLE}, or print report.html yourself."
        )
    return str(shutil.which(browser_path))


def print_pdf(page_html: str, target: Path, browser: str | None = None) -> None:
    """Print a page to a PDF file.

    Parameters
    ----------
    page_html : str
        Self-contained HTML.
    target : Path
        File to write.
    browser : str or None
        Path of the browser; by default the first installed browser.

    Raises
    ------
    OutputError
        No browser is installed, the browser fails, or the file cannot be written.
    """
    browser_path = browser or find_browser()
    try:
        # The folder is next to the target, because a sandboxed browser cannot access the system's temporary folders.
        with TemporaryDirectory(
            prefix="underpaint_", dir=target.resolve().parent, ignore_cleanup_errors=True
        ) as folder:
            page_path, printed_path = Path(folder) / "report.html", Path(folder) / "report.pdf"
            page_path.write_text(page_html, encoding="utf-8")
            browser_output = _run_browser(browser_path, page_path, printed_path)
            if not (printed_path.is_file() and printed_path.stat().st_size):
                raise OutputError(
                    f"Cannot print {target}: {browser_path} wrote no PDF. It says: {browser_output or 'nothing'}"
                )
            with atomic_write(target) as partial_path:
                shutil.copyfile(printed_path, partial_path)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"Cannot write {target}: {error.strerror or error}. Check that the folder exists and is writable."
        ) from error


def _run_browser(program: str, page_path: Path, printed_path: Path) -> str:
    """Run the browser and return the end of its error output."""
    browser_flags = [
        "--headless=new",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-extensions",
    ]
    if sys.platform != "win32" and os.geteuid() == 0:
        browser_flags.append("--no-sandbox")  # Chromium requires this flag for root; the page has no scripts
    command = [
        program, *browser_flags, f"--user-data-dir={page_path.parent / 'profile'}", "--no-pdf-header-footer",
        f"--print-to-pdf={printed_path}", page_path.as_uri(),
    ]  # fmt: skip
    try:
        process = subprocess.run(  # noqa: S603 - an installed browser, or a program named by the user
            command, capture_output=True, text=True, errors="replace", timeout=TIME_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {TIME_LIMIT_S:g} s"
    return " ".join(process.stderr.split())[-300:]


def _browser_candidates() -> Iterator[str]:
    yield from _PROGRAM_NAMES
    for folder_variable in ("ProgramFiles", "ProgramFiles(x86)", "LocalAppData"):
        if os.environ.get(folder_variable):
            yield from (str(Path(os.environ[folder_variable]) / candidate) for candidate in _WINDOWS_PATHS)
    yield from (f"/Applications/{candidate}.app/Contents/MacOS/{candidate}" for candidate in _MACOS_APPLICATIONS)
