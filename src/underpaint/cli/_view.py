"""Commands ``view``, ``report`` and ``work``. ``work`` is the process in which the pages run long jobs."""

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

from underpaint.cli._console import EXIT_FAILED, error_text, progress, say, say_warning, show_json
from underpaint.cli._outputs import check_ending, new_file
from underpaint.cli._scans import MovedScanOption
from underpaint.errors import OutputError, ScanError, UnderpaintError
from underpaint.runtime.progress import Progress

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from underpaint.display.viewer import Server


class ReportForm(StrEnum):
    """File type of a report."""

    html = "html"
    pdf = "pdf"

    @property
    def name_for_report(self) -> Literal["html", "pdf"]:
        """Name of the file type that the report writer expects."""
        return "pdf" if self is ReportForm.pdf else "html"


def report(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Results folder.")],
    form: Annotated[
        ReportForm, typer.Option("--format", help="File type of the report. pdf requires Chromium, Chrome or Edge.")
    ] = ReportForm.html,
    out: Annotated[
        Path | None,
        new_file("FILE.html|.pdf", "File to write. By default, report.html or report.pdf in DIR, which is replaced."),
    ] = None,
    subject: Annotated[
        str, typer.Option("--object", metavar="TEXT", help="Name of the painting, for the title block.")
    ] = "",
    scan: MovedScanOption = None,
    full: Annotated[
        bool, typer.Option("--full", help="Add images of each group, places of groups, spots, and all settings.")
    ] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing file.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only errors.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Write JSON to standard output.")] = False,
) -> None:
    """Write the report on results again, with the photograph, the regions, and spectra of typical spots.

    `identify` writes the first report. `report` adds what was entered in `underpaint view` since then.

    For example:

        underpaint report painting_underpaint --object "Portrait, inv. 1234"

        underpaint report painting_underpaint --format pdf --full
    """
    del overwrite  # checked by ``with_output_check``
    from underpaint.display.report import write_report

    if out is not None:
        check_ending(out, f"FILE.{form.value}")
    with progress(quiet=quiet or as_json) as report_progress:
        report_progress("Writing the report", 0, 1)
        path = write_report(folder, out, form=form.name_for_report, scan=scan, subject=subject, full=full)
    if as_json:
        show_json({"report": str(path)})
    say(f"Wrote {path}", quiet=quiet or as_json)


MIN_STEP_MM, MAX_STEP_MM = 1e-4, 1e3
_LOCALHOST = "127.0.0.1"
_CANCEL_TIMEOUT_S = 20.0
_REDIRECT_TIMEOUT_S = 600.0

PortOption = Annotated[int, typer.Option(min=0, max=65535, help="Port on this machine. 0 selects a free port.")]
NoBrowserOption = Annotated[bool, typer.Option("--no-browser", help="Print the address, but open no browser.")]


def view(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Results folder. Without DIR, the start page opens.")
    ] = None,
    scan: MovedScanOption = None,
    port: PortOption = 0,
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Network address of the server. With the default, only this machine can connect.",
        ),
    ] = _LOCALHOST,
    no_browser: NoBrowserOption = False,
) -> None:
    """Show results in the browser: maps, pixels, regions and photograph. Ctrl-C ends the command.

    Without DIR, the start page opens. There, scans can be chosen and analysed.

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
        _serve_in_browser(serve_start(port=port, host=host), "The start page", no_browser=no_browser)
    else:
        _serve_in_browser(serve(folder, port=port, host=host, scan=scan), "The maps", no_browser=no_browser)


def open_start_page() -> None:
    """Serve the start page until Ctrl-C."""
    from underpaint.display.viewer import serve_start

    _serve_in_browser(serve_start(), "The start page", no_browser=False, hint="`underpaint --help` shows the commands.")


def work() -> None:
    """Run a job. Standard input has the job as one line of JSON, and progress is written as JSON to standard output."""
    job = json.loads(sys.stdin.readline())
    cancel_event = threading.Event()
    threading.Thread(target=_cancel_at_end_of_input, args=(cancel_event,), daemon=True).start()

    def report_progress(task_name: str, n_done: int, n_steps: int) -> None:
        if cancel_event.is_set():
            raise _JobCancelled
        _write_message(progress=[task_name, n_done, n_steps])

    try:
        _write_message(result=_JOB_FUNCTIONS[job["what"]](job, report_progress))
    except (_JobCancelled, KeyboardInterrupt):
        raise typer.Exit(EXIT_FAILED) from None
    except (UnderpaintError, OSError, MemoryError) as error:
        _write_message(error=error_text(error))
        raise typer.Exit(EXIT_FAILED) from None


class _JobCancelled(Exception):  # noqa: N818 - not an error
    """The page has requested that the job ends."""


def _serve_in_browser(
    server_context: "AbstractContextManager[Server]", content_name: str, *, no_browser: bool, hint: str = ""
) -> None:
    import webbrowser

    with _interrupted_by_signals(), server_context as server:
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
    """Yield the path of an HTML file that redirects the browser to the server's address.

    The address contains a secret token. Every user of the machine can read command lines, so the browser gets the
    address in a file instead. The file is removed after the browser has opened it.
    """
    folder = Path(tempfile.mkdtemp(prefix="underpaint_"))  # only this user can read the folder, also on Windows

    def remove_folder() -> None:
        shutil.rmtree(folder, ignore_errors=True)

    def remove_when_read() -> None:
        if server.visited.wait(_REDIRECT_TIMEOUT_S):
            remove_folder()

    try:
        path = folder / "open.html"
        server_address = html.escape(server.address, quote=True)
        redirect_page = (
            f'<!doctype html><meta charset="utf-8"><meta http-equiv="refresh" content="0; url={server_address}">'
            f'<title>underpaint</title><p><a href="{server_address}">Open underpaint</a></p>'
        )
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write(redirect_page)
        threading.Thread(target=remove_when_read, daemon=True).start()
        yield path
    finally:
        remove_folder()


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Treat the signals that end a terminal or session like Ctrl-C, which closes the server and its jobs."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    signal_names = [signal_name for signal_name in ("SIGTERM", "SIGHUP", "SIGBREAK") if hasattr(signal, signal_name)]
    previous_handlers = {
        signal_name: signal.signal(getattr(signal, signal_name), interrupt) for signal_name in signal_names
    }
    try:
        yield
    finally:
        for signal_name, handler in previous_handlers.items():
            signal.signal(getattr(signal, signal_name), handler)


def _cancel_at_end_of_input(cancel_event: threading.Event) -> None:
    """Cancel the job when standard input closes, because the page cancelled it or the server ended."""
    sys.stdin.read()
    cancel_event.set()
    exit_timer = threading.Timer(
        _CANCEL_TIMEOUT_S, os._exit, (EXIT_FAILED,)
    )  # in case a library ignores or delays the interrupt
    exit_timer.daemon = True
    exit_timer.start()
    # The next call of report_progress may be minutes away, so interrupt now. As after Ctrl-C, partial output is
    # removed.
    if sys.platform == "win32":
        _thread.interrupt_main()
    else:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)


def _write_message(**message_fields: Any) -> None:
    sys.stdout.write(json.dumps(message_fields, default=str) + "\n")
    sys.stdout.flush()


def _describe_scan(job: dict[str, Any], report_progress: Progress) -> dict[str, Any]:
    """Read a scan once. Return its size, spectra, calibration and detectors.

    If the scan has several detectors, only the chosen detector or the sum is read.
    """
    from underpaint.calibrate import peak_channels
    from underpaint.cli._info import find_info_axis
    from underpaint.data import survey
    from underpaint.io import is_finished, load, scan_info
    from underpaint.pipeline.run import default_folder, distinct_folders

    report_progress("Opening the scan", 0, 1)
    scan, shape, detector = job["scan"], _parse_pixel_shape(job), job.get("detector")
    detectors = _detector_choices(scan, shape)
    detector_note = ""
    try:
        loaded_scan = load(scan, detector=detector, shape=shape)
    except ScanError as error:
        if detector or not detectors:
            raise
        detector, detector_note = detectors[0]["name"], f"{error}".partition(":")[0] + "; one of them is chosen below."
        loaded_scan = load(scan, detector=detector, shape=shape)
    report_progress("Reading the spectra", 0, loaded_scan.n_pixel)
    info = scan_info(
        survey(loaded_scan, progress=lambda n_done, n_pixels: report_progress("Reading the spectra", n_done, n_pixels))
    )
    report_progress("Finding the energy axis", 0, 1)
    info_axis = find_info_axis(info)
    folder = Path(scan).resolve().parent
    out = default_folder(f"{scan}::{detector}", folder) if detector else distinct_folders([scan], folder)[0]
    counts = info.sum_spectrum.counts
    info_record = {
        field_name: field_value for field_name, field_value in info.facts().items() if field_name != "metadata"
    }
    return info_record | {
        "notes": [*([detector_note] if detector_note else []), *info_record["notes"]],
        "detectors": detectors,
        "detector": detector or "",
        "calibration": info_axis.as_record(),
        "sum": counts.tolist(),
        "peaks": peak_channels(counts).tolist(),
        "out": str(out),
        "finished": is_finished(out),
    }


def _detector_choices(scan: str, shape: tuple[int, int] | None) -> list[dict[str, str]]:
    """Return a name or number that selects each detector. If there is only one detector, return an empty list."""
    from underpaint.io import load, load_all

    scans, detector_choices = load_all(scan, shape=shape), []
    for detector_number, detector_scan in enumerate(scans if len(scans) > 1 else [], start=1):
        array_name = detector_scan.source.rpartition("/")[2].rpartition("::")[2]
        for detector_name in filter(None, (detector_scan.detector, array_name, str(detector_number))):
            with suppress(ScanError):
                chosen_scan = load(scan, detector=detector_name, shape=shape)
                if (chosen_scan.source, chosen_scan.detector) == (detector_scan.source, detector_scan.detector):
                    detector_choices.append({"name": detector_name})
                    break
    return detector_choices


def _identify_pigments(job: dict[str, Any], report_progress: Progress) -> dict[str, Any]:
    from underpaint.cli._scans import scan_record
    from underpaint.pipeline.plan import Settings
    from underpaint.pipeline.run import default_folder, identify_to_folder

    scan = job["scan"]
    settings = Settings(
        model=job.get("model") or "default",
        palette=job.get("palette"),
        instrument=job.get("instrument"),
        detector=job.get("detector"),
        shape=_parse_pixel_shape(job),
        trust_instrument=bool(job.get("trust_instrument")),
        step_mm=_parse_step_mm(job),
    )
    out = Path(job.get("out") or default_folder(scan, Path(scan).resolve().parent))
    _check_output_folder(out, overwrite=bool(job.get("overwrite")))
    results = identify_to_folder(scan, out, settings, overwrite=bool(job.get("overwrite")), progress=report_progress)
    scan_entry = scan_record(scan, results)
    return {field_name: scan_entry[field_name] for field_name in ("folder", "notes", "alerts", "aside", "unexplained")}


def _check_output_folder(out: Path, *, overwrite: bool) -> None:
    """Raise an error if a job must not write to the output folder. Messages refer to the controls of the page.

    Raises
    ------
    OutputError
        The folder has content that the job must not replace.
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


def _explain_pixel(job: dict[str, Any], report_progress: Progress) -> dict[str, Any]:
    from underpaint.cli._explain import ExplainRequest, explain_spot
    from underpaint.pigments.explain.record import explanation_record

    request = ExplainRequest(
        job["pixel"], None, (), job["instrument"], job.get("model") or "default", "chalk", True, 0.5
    )
    return explanation_record(explain_spot(job["scan"], request, report_progress))


def _map_elements(job: dict[str, Any], report_progress: Progress) -> dict[str, Any]:
    from underpaint.pipeline.plan import Settings
    from underpaint.pipeline.run import elements_to_folder

    settings = Settings(add=tuple(job["add"]), drop=tuple(job["drop"]), instrument=job.get("instrument"))
    elements_to_folder(job["scan"], job["out"], settings, progress=report_progress)
    return {"folder": job["out"]}


def _write_energy_windows(job: dict[str, Any], report_progress: Progress) -> dict[str, Any]:
    from underpaint.display.viewer.windows import write_store
    from underpaint.io import load

    report_progress("Opening the scan", 0, 1)
    path = write_store(load(job["scan"]), progress=report_progress)
    return {"bytes": path.stat().st_size}


def _write_report_file(job: dict[str, Any], report_progress: Progress) -> dict[str, Any]:
    from underpaint.display.report import write_report

    report_progress("Writing the report", 0, 1)
    path = write_report(
        job["folder"],
        form="pdf" if job["form"] == "pdf" else "html",
        scan=job.get("scan"),
        subject=job["subject"],
        full=job.get("full") is True,
    )
    return {"file": path.name}


def _parse_pixel_shape(job: dict[str, Any]) -> tuple[int, int] | None:
    from underpaint.cli._scans import rows_and_columns

    try:
        return rows_and_columns(job.get("shape") or None, "Rows × columns")
    except typer.BadParameter as error:
        raise ScanError(str(error)) from error


def _parse_step_mm(job: dict[str, Any]) -> tuple[float, float] | None:
    """Return the distances between rows and between columns in mm from text in the page, or None without text."""
    step_text = str(job.get("step") or "")
    if not step_text:
        return None
    number_texts = step_text.lower().replace("×", "x").replace(",", ".").split("x")
    with suppress(ValueError):
        steps_mm = [float(number_text) for number_text in number_texts]
        if len(steps_mm) in {1, 2} and all(MIN_STEP_MM <= step_mm <= MAX_STEP_MM for step_mm in steps_mm):
            return steps_mm[0], steps_mm[-1]
    raise ScanError(
        f"Cannot use a pixel size of {step_text[:40]!r} mm: {MIN_STEP_MM:g} to {MAX_STEP_MM:g} mm are allowed. Give "
        f"one "
        "number, such as 0.5, or those of rows and columns, such as 0.5x1."
    )


_JOB_FUNCTIONS: dict[str, Callable[[dict[str, Any], Progress], dict[str, Any]]] = {
    "look": _describe_scan,
    "identify": _identify_pigments,
    "explain": _explain_pixel,
    "report": _write_report_file,
    "elements": _map_elements,
    "windows": _write_energy_windows,
}
