"""PDF reports, printed by an installed browser."""

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
        path = shutil.which(browser_name)
        if path is None:
            raise OutputError(
                f"Cannot print a PDF: {BROWSER_VARIABLE} is {browser_name!r}, which is not a program. "
                "Name another, or unset it."
            )
        return path
    path = next((candidate for candidate in _candidates() if shutil.which(candidate)), None)
    if path is None:
        raise OutputError(
            "Cannot print a PDF: there is no Chromium, Chrome or Edge on this machine. Install one (on Debian and "
            f"Ubuntu: apt-get install chromium), name it in {BROWSER_VARIABLE}, or open report.html and print it."
        )
    return str(shutil.which(path))


def print_pdf(text: str, target: Path, browser: str | None = None) -> None:
    """Print a page to a PDF file.

    Parameters
    ----------
    text : str
        Self-contained HTML.
    target : Path
        File to write.
    browser : str or None
        Path of the browser; None for the first that is found.

    Raises
    ------
    OutputError
        There is no browser, the browser does not print, or the file cannot be written.
    """
    program = browser or find_browser()
    try:
        # The folder is beside the file, because a browser in a sandbox cannot access temporary folders.
        with TemporaryDirectory(
            prefix="underpaint_", dir=target.resolve().parent, ignore_cleanup_errors=True
        ) as folder:
            page_path, printed_path = Path(folder) / "report.html", Path(folder) / "report.pdf"
            page_path.write_text(text, encoding="utf-8")
            browser_output = _run(program, page_path, printed_path)
            if not (printed_path.is_file() and printed_path.stat().st_size):
                raise OutputError(
                    f"Cannot print {target}: {program} wrote no PDF. It says: {browser_output or 'nothing'}"
                )
            with atomic_write(target) as partial_path:
                shutil.copyfile(printed_path, partial_path)
    except OutputError:
        raise
    except OSError as error:
        raise OutputError(
            f"Cannot write {target}: {error.strerror or error}. Check that the folder exists and is writable."
        ) from error


def _run(program: str, page_path: Path, printed_path: Path) -> str:
    """Run the browser and return the end of its error output."""
    flags = [
        "--headless=new",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-extensions",
    ]
    if sys.platform != "win32" and os.geteuid() == 0:
        flags.append("--no-sandbox")  # Chromium as root needs this; the page has no script
    command = [
        program, *flags, f"--user-data-dir={page_path.parent / 'profile'}", "--no-pdf-header-footer",
        f"--print-to-pdf={printed_path}", page_path.as_uri(),
    ]  # fmt: skip
    try:
        process = subprocess.run(  # noqa: S603 - the program was found by this module or named by the user
            command, capture_output=True, text=True, errors="replace", timeout=TIME_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"it did not end within {TIME_LIMIT_S:g} s"
    return " ".join(process.stderr.split())[-300:]


def _candidates() -> Iterator[str]:
    yield from _PROGRAM_NAMES
    for folder_variable in ("ProgramFiles", "ProgramFiles(x86)", "LocalAppData"):
        if os.environ.get(folder_variable):
            yield from (str(Path(os.environ[folder_variable]) / candidate) for candidate in _WINDOWS_PATHS)
    yield from (f"/Applications/{candidate}.app/Contents/MacOS/{candidate}" for candidate in _MACOS_APPLICATIONS)
