"""``view``, ``report`` and the start page; ``work`` runs long jobs of the pages in a separate process."""

import _thread
import html
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from underpaint.cli._console import FAILED, error_text, progress, say, say_warning, show_json
from underpaint.cli._outputs import new_file
from underpaint.errors import OutputError, ScanError, UnderpaintError
from underpaint.runtime.progress import Progress

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from underpaint.display.viewer import Server


class Form(StrEnum):
    """File type of a report."""

    html = "html"
    pdf = "pdf"

    @property
    def name_for_report(self) -> Literal["html", "pdf"]:
        """Name of the file type, as the report writer expects it."""
        return "pdf" if self is Form.pdf else "html"


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Results folder.")],
    form: Annotated[Form, typer.Option("--format", help="pdf is printed by Chromium, Chrome or Edge.")] = Form.html,
    out: Annotated[
        Path | None, new_file("FILE", "File to write; by default report.html or report.pdf in DIR, replaced.")
    ] = None,
    subject: Annotated[
        str, typer.Option("--object", metavar="TEXT", help="Name of the painting in the title block.")
    ] = "",
    scan: Annotated[
        str | None, typer.Option(metavar="SCAN", help="The scan, if it was moved since it was analysed.")
    ] = None,
    full: Annotated[
        bool, typer.Option("--full", help="Also images for each group, places, spots, and all settings.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")] = False,
) -> None:
    """Write the report of results again: with the photograph, the regions, and spectra of typical spots.

    `identify` also writes a report; this one includes additions from `underpaint view`.

    For example:

        underpaint report painting_underpaint --object "Portrait, inv. 1234"

        underpaint report painting_underpaint --format pdf --full
    """
    del overwrite  # already checked with the outputs
    from underpaint.display.report import write_report

    with progress(quiet=quiet or as_json) as step:
        step("Writing the report", 0, 1)
        path = write_report(folder, out, form=form.name_for_report, scan=scan, subject=subject, full=full)
    if as_json:
        show_json({"report": str(path)})
    say(f"Wrote {path}", quiet=quiet or as_json)


MIN_STEP_MM, MAX_STEP_MM = 1e-4, 1e3
_LOCALHOST = "127.0.0.1"
_CANCEL_TIMEOUT_S = 20.0
_REDIRECT_TIMEOUT_S = 600.0

PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine; 0 takes a free one.")]
NoBrowser = Annotated[bool, typer.Option("--no-browser", help="Only print the address.")]


def view(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Results folder; without it, the start page opens.")
    ] = None,
    scan: Annotated[
        str | None, typer.Option(metavar="SCAN", help="The scan, if it was moved since it was analysed.")
    ] = None,
    port: PortOption = 0,
    host: Annotated[
        str, typer.Option(metavar="ADDRESS", help="Listen on another address: other computers can then connect.")
    ] = _LOCALHOST,
    no_browser: NoBrowser = False,
) -> None:
    """Show results in the browser: maps, pixels, regions, the photograph; Ctrl-C ends it.

    Without DIR the start page opens: choose a scan, run it, open its results.

    For example:

        underpaint view painting_underpaint

        underpaint view
    """
    from underpaint.display.viewer import serve, serve_start

    if host != _LOCALHOST:
        say_warning(
            f"Listening on {host}: anyone on the network who knows the address can see the results and run scans. "
            f"Omit --host to allow only this machine."
        )
    if folder is None:
        _show(serve_start(port=port, host=host), "The start page", no_browser=no_browser)
    else:
        _show(serve(folder, port=port, host=host, scan=scan), "The maps", no_browser=no_browser)


def start_page() -> None:
    """Open the start page; Ctrl-C ends it."""
    from underpaint.display.viewer import serve_start

    _show(serve_start(), "The start page", no_browser=False, hint="`underpaint --help` shows the commands.")


def work() -> None:
    """Run one job, given as a line of JSON on standard input; write progress as lines of JSON to standard output."""
    job = json.loads(sys.stdin.readline())
    cancelled = threading.Event()
    threading.Thread(target=_cancel_at_end_of_input, args=(cancelled,), daemon=True).start()

    def step(task_name: str, done: int, total: int) -> None:
        if cancelled.is_set():
            raise _Cancelled
        _write_message(progress=[task_name, done, total])

    try:
        _write_message(result=_JOBS[job["what"]](job, step))
    except (_Cancelled, KeyboardInterrupt):
        raise typer.Exit(FAILED) from None
    except (UnderpaintError, OSError, MemoryError) as error:
        _write_message(error=error_text(error))
        raise typer.Exit(FAILED) from None


class _Cancelled(Exception):  # noqa: N818 - not an error
    """The page requested to stop the job."""


def _show(opened: "AbstractContextManager[Server]", content_name: str, *, no_browser: bool, hint: str = "") -> None:
    import webbrowser

    with _interrupted_by_signals(), opened as server:
        say(
            f"{content_name} is at {server.address}"
            if content_name.startswith("The start")
            else f"{content_name} are at {server.address}"
        )
        say(" ".join(["Ctrl-C ends.", hint]).strip())
        try:
            if no_browser:
                server.wait()
            else:
                with _redirect_file(server) as path:
                    webbrowser.open(path.as_uri())
                    server.wait()
        except KeyboardInterrupt:
            say("Closed.")


@contextmanager
def _redirect_file(server: "Server") -> Iterator[Path]:
    """Yield a page that redirects the browser to the server's address; it is removed once it was opened.

    The address contains the token, so it is not passed on the command line, which every user of the machine can read.
    """
    folder = Path(tempfile.mkdtemp(prefix="underpaint_"))  # readable only by this user, also on Windows

    def remove_folder() -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def remove_when_read() -> None:
        if server.visited.wait(_REDIRECT_TIMEOUT_S):
            remove_folder()

    try:
        path = folder / "open.html"
        address = html.escape(server.address, quote=True)
        page = (
            f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={address}">'
            f'<title>underpaint</title><p><a href="{address}">Open underpaint</a></p>'
        )
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write(page)
        threading.Thread(target=remove_when_read, daemon=True).start()
        yield path
    finally:
        remove_folder()


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Treat the signals at the end of the terminal or session as Ctrl-C, which closes the server and its jobs."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [name for name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, name)]
    previous_handlers = {name: signal.signal(getattr(signal, name), interrupt) for name in names}
    try:
        yield
    finally:
        for name, handler in previous_handlers.items():
            signal.signal(getattr(signal, name), handler)


def _cancel_at_end_of_input(cancelled: threading.Event) -> None:
    """Cancel the job when standard input is closed, by the page or at the end of the server."""
    sys.stdin.read()
    cancelled.set()
    exit_timer = threading.Timer(
        _CANCEL_TIMEOUT_S, os._exit, (FAILED,)
    )  # a library may ignore or delay the interrupt below
    exit_timer.daemon = True
    exit_timer.start()
    # The next step may be minutes away, so interrupt at once. Incomplete output is removed, as after Ctrl-C.
    if sys.platform == "win32":
        _thread.interrupt_main()
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _write_message(**message: Any) -> None:
    sys.stdout.write(json.dumps(message, default=str) + "\n")
    sys.stdout.flush()


def _describe_scan(job: dict[str, Any], step: Progress) -> dict[str, Any]:
    """Read a scan once and return its facts; of several detectors, of the chosen one or of all added."""
    from underpaint.calibrate import peak_channels
    from underpaint.cli._info import find_info_axis
    from underpaint.data import survey
    from underpaint.io import is_finished, load, scan_info
    from underpaint.pipeline.run import default_folder, distinct_folders

    step("Opening the scan", 0, 1)
    scan, shape, detector = job["scan"], _pixel_shape(job), job.get("detector")
    detectors = _detectors(scan, shape)
    note = ""
    try:
        opened = load(scan, detector=detector, shape=shape)
    except ScanError as error:
        if detector or not detectors:
            raise
        detector, note = detectors[0]["name"], f"{error}".partition(":")[0] + "; one of them is chosen below."
        opened = load(scan, detector=detector, shape=shape)
    step("Reading the spectra", 0, opened.n_pixel)
    info = scan_info(survey(opened, progress=lambda done, total: step("Reading the spectra", done, total)))
    step("Finding the energy axis", 0, 1)
    axis = find_info_axis(info)
    folder = Path(scan).resolve().parent
    out = default_folder(f"{scan}::{detector}", folder) if detector else distinct_folders([scan], folder)[0]
    counts = info.sum_spectrum.counts
    facts = {key: value for key, value in info.facts().items() if key != "metadata"}
    return facts | {
        "notes": [*([note] if note else []), *facts["notes"]],
        "detectors": detectors,
        "detector": detector or "",
        "calibration": axis.facts(),
        "sum": counts.tolist(),
        "peaks": peak_channels(counts).tolist(),
        "out": str(out),
        "finished": is_finished(out),
    }


def _detectors(scan: str, shape: tuple[int, int] | None) -> list[dict[str, str]]:
    """Return the detectors of a scan, each by a name or number that picks it; none where it has one."""
    from underpaint.io import load, load_all

    scans, choices = load_all(scan, shape=shape), []
    for number, each in enumerate(scans if len(scans) > 1 else [], start=1):
        array = each.source.rpartition("/")[2].rpartition("::")[2]
        for name in filter(None, (each.detector, array, str(number))):
            with suppress(ScanError):
                picked = load(scan, detector=name, shape=shape)
                if (picked.source, picked.detector) == (each.source, each.detector):
                    choices.append({"name": name})
                    break
    return choices


def _identify(job: dict[str, Any], step: Progress) -> dict[str, Any]:
    from underpaint.cli._scans import scan_record
    from underpaint.pipeline.plan import Settings
    from underpaint.pipeline.run import default_folder, identify_to_folder

    scan = job["scan"]
    settings = Settings(
        model=job.get("model") or "default",
        palette=job.get("palette"),
        instrument=job.get("instrument"),
        detector=job.get("detector"),
        shape=_pixel_shape(job),
        trust_instrument=bool(job.get("trust_instrument")),
        step_mm=_step_mm(job),
    )
    out = Path(job.get("out") or default_folder(scan, Path(scan).resolve().parent))
    _check_output_folder(out, overwrite=bool(job.get("overwrite")))
    results = identify_to_folder(scan, out, settings, overwrite=bool(job.get("overwrite")), progress=step)
    known = scan_record(scan, results)
    return {name: known[name] for name in ("folder", "notes", "alerts", "aside", "unexplained")}


def _check_output_folder(out: Path, *, overwrite: bool) -> None:
    """Check the output folder as the command does, with messages that refer to the page's controls.

    Raises
    ------
    OutputError
        The folder has content that must not be replaced.
    """
    from underpaint.io import is_finished

    if is_finished(out) and not overwrite:
        raise OutputError(
            f"There are results in {out} already. Tick “replace the results that are there”, or open them."
        )
    if out.is_file() or (out.is_dir() and not is_finished(out) and any(out.iterdir())):
        raise OutputError(
            f"Cannot write results to {out}: it has other content, which was not changed. Move it or rename it."
        )


def _explain(job: dict[str, Any], step: Progress) -> dict[str, Any]:
    from underpaint.cli._explain import Request, explain_spot
    from underpaint.pigments.explain.record import explanation_record

    request = Request(job["pixel"], None, (), job["instrument"], job.get("model") or "default", "chalk", True, 0.5)
    return explanation_record(explain_spot(job["scan"], request, step))


def _elements(job: dict[str, Any], step: Progress) -> dict[str, Any]:
    from underpaint.pipeline.plan import Settings
    from underpaint.pipeline.run import elements_to_folder

    settings = Settings(add=tuple(job["add"]), drop=tuple(job["drop"]), instrument=job.get("instrument"))
    elements_to_folder(job["scan"], job["out"], settings, progress=step)
    return {"folder": job["out"]}


def _windows(job: dict[str, Any], step: Progress) -> dict[str, Any]:
    from underpaint.display.viewer.windows import write_store
    from underpaint.io import load

    step("Opening the scan", 0, 1)
    path = write_store(load(job["scan"]), progress=step)
    return {"bytes": path.stat().st_size}


def _report(job: dict[str, Any], step: Progress) -> dict[str, Any]:
    from underpaint.display.report import write_report

    step("Writing the report", 0, 1)
    path = write_report(
        job["folder"],
        form="pdf" if job["form"] == "pdf" else "html",
        scan=job.get("scan"),
        subject=job["subject"],
        full=job.get("full") is True,
    )
    return {"file": path.name}


def _pixel_shape(job: dict[str, Any]) -> tuple[int, int] | None:
    from underpaint.cli._scans import rows_and_columns

    try:
        return rows_and_columns(job.get("shape") or None, "Rows × columns")
    except typer.BadParameter as error:
        raise ScanError(str(error)) from error


def _step_mm(job: dict[str, Any]) -> tuple[float, float] | None:
    """Return the distance between pixels that the page sent: one number, or those of rows and columns."""
    text = str(job.get("step") or "")
    if not text:
        return None
    parts = text.lower().replace("×", "x").replace(",", ".").split("x")
    with suppress(ValueError):
        steps = [float(part) for part in parts]
        if len(steps) in {1, 2} and all(MIN_STEP_MM <= each <= MAX_STEP_MM for each in steps):
            return steps[0], steps[-1]
    raise ScanError(
        f"Cannot use a pixel size of {text[:40]!r} mm: {MIN_STEP_MM:g} to {MAX_STEP_MM:g} mm are allowed. Give one "
        "number, such as 0.5, or those of rows and columns, such as 0.5x1."
    )


_JOBS: dict[str, Callable[[dict[str, Any], Progress], dict[str, Any]]] = {
    "look": _describe_scan,
    "identify": _identify,
    "explain": _explain,
    "report": _report,
    "elements": _elements,
    "windows": _windows,
}
