"""The start page: choose and upload scans, see their content, calibrate, choose pigments, run a queue, open results."""

import json
import os
import re
import secrets
import shutil
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from underpaint.calibrate import axis_through_lines, instrument_by_hand
from underpaint.data import EnergyAxis, Scan
from underpaint.display.viewer.pages import page_file
from underpaint.display.viewer.result_site import ResultSite
from underpaint.display.viewer.runs import DONE, QUEUED, RUNNING, Runs
from underpaint.display.viewer.server import Answer, Request, json_answer
from underpaint.errors import OutputError, SampleError, ScanError
from underpaint.io import formats, is_finished, split_location
from underpaint.io.readers import reader_of
from underpaint.physics.atomic import line_labels
from underpaint.physics.instrument import Instrument, load_instrument, preset_names, save_instrument
from underpaint.physics.materials import Palette, library, load_palette, palette_names, save_palette
from underpaint.pigments.weights import shipped_models
from underpaint.runtime.files import atomic_write, encoding_fault, is_reserved, write_json
from underpaint.runtime.untrusted import MAX_SETTINGS_BYTES, read_bounded

MAX_SIMULTANEOUS_UPLOADS = 20
MAX_UPLOAD_BYTES = 2**40


class _Cancelled(Exception):  # noqa: N818 - not an error
    """The upload was cancelled."""


@dataclass
class _Upload:
    target: Path
    size: int
    partial_path: Path
    write_context: ExitStack
    n_piece: int = 0
    n_byte: int = 0

    def discard(self) -> None:
        self.write_context.__exit__(_Cancelled, _Cancelled(), None)


class Uploads:
    """Uploads that a server is receiving."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._open: dict[str, _Upload] = {}

    def begin(self, folder: Path, name: object, size: object) -> dict[str, Any]:
        """Start an upload and return its progress. The entry ``upload`` contains the key of the upload.

        Raises
        ------
        OutputError
            The name is invalid or in use, the disk is full, or too many uploads are in progress.
        """
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= MAX_UPLOAD_BYTES:
            raise OutputError("Cannot upload: the page sent no valid size. Load the page again.")
        target = folder / _valid_file_name(name)
        if os.path.lexists(target):
            raise OutputError(
                f"Cannot upload {target.name}: {folder} already contains a file with this name, which is not "
                "replaced. Rename the file, or choose another folder."
            )
        free_bytes = shutil.disk_usage(folder).free
        if size >= free_bytes:
            size_text = f"it has {size / 1e6:,.0f} MB, and {folder} has {free_bytes / 1e6:,.0f} MB free"
            raise OutputError(f"Cannot upload {target.name}: {size_text}. Make room, or choose another folder.")
        with self._lock:
            if len(self._open) >= MAX_SIMULTANEOUS_UPLOADS:
                raise OutputError(
                    f"Cannot upload {target.name}: {MAX_SIMULTANEOUS_UPLOADS} uploads are in progress. Try again later."
                )
            write_context = ExitStack()
            partial_path = write_context.enter_context(atomic_write(target, replace=False))
            key = secrets.token_hex(8)
            self._open[key] = _Upload(target, size, partial_path, write_context)
            partial_path.touch()
            return self._append_piece(key, b"")

    def receive(self, key: str, piece: int, body: bytes) -> dict[str, Any] | None:
        """Append the next piece of an upload and return its progress; None for an unknown key.

        Raises
        ------
        OutputError
            The piece is out of order, too long, or cannot be written; the upload is then cancelled.
        """
        with self._lock:
            upload = self._open.get(key)
            if upload is None:
                return None
            if piece != upload.n_piece or not body or upload.n_byte + len(body) > upload.size:
                self._discard_upload(key)
                raise OutputError(f"Cannot upload {upload.target.name}: its pieces were not sent in order. Try again.")
            try:
                return self._append_piece(key, body)
            except BaseException:
                self._discard_upload(key)
                raise

    def cancel(self, key: str) -> bool:
        """Cancel an upload and remove its data; return whether the key was known."""
        with self._lock:
            return self._discard_upload(key)

    def close(self) -> None:
        """Cancel all uploads."""
        with self._lock:
            for key in list(self._open):
                self._discard_upload(key)

    def _append_piece(self, key: str, body: bytes) -> dict[str, Any]:
        upload = self._open[key]
        with upload.partial_path.open("ab") as stream:
            stream.write(body)
        upload.n_byte += len(body)
        upload.n_piece += bool(body)
        is_complete = upload.n_byte == upload.size
        if is_complete:
            del self._open[key]
            upload.write_context.close()
        return {"upload": key, "bytes": upload.n_byte, "complete": is_complete, "path": str(upload.target)}

    def _discard_upload(self, key: str) -> bool:
        upload = self._open.pop(key, None)
        if upload is not None:
            upload.discard()
        return upload is not None


def _valid_file_name(file_name: object) -> str:
    is_valid_name = (
        isinstance(file_name, str)
        and file_name not in {"", ".", ".."}
        and not any(separator in file_name for separator in "/\\")
        and not file_name.startswith(".")
        and not encoding_fault(file_name)
        and not is_reserved(file_name)
    )
    if not (is_valid_name and isinstance(file_name, str)):
        raise OutputError(f"Cannot upload {str(file_name)[:200]!a}: it is not a valid file name. Rename the file.")
    return file_name


MAX_RECENT = 12
MAX_FOLDER_ENTRIES = 2000
MAX_LINES = 50
_PARTIAL_SUFFIX = ".part"
_STATE_VARIABLE = "UNDERPAINT_STATE"
_SETTINGS_SUFFIXES = {".toml", ".cfg"}
_TEXT_SETTINGS = ("instrument", "palette", "model", "out", "shape", "detector", "step")
_FLAG_SETTINGS = ("overwrite", "trust_instrument")
_PALETTE_NAME = re.compile(r"[\w][\w .,;'’()&+-]{0,59}")
_MAX_LISTED_SPECTRA = 20
_MAX_PROBED_ENTRIES = 200
_CALIBRATION_FAMILIES = (
    *("Al_K", "Si_K", "S_K", "Cl_K", "Ar_K", "K_K", "Ca_K", "Ti_K", "Cr_K", "Mn_K", "Fe_K", "Co_K", "Ni_K", "Cu_K"),
    *("Zn_K", "As_K", "Se_K", "Br_K", "Sr_K", "Zr_K", "Mo_K", "Rh_K", "Pd_K", "Ag_K", "Cd_K", "Sn_K", "Sb_K", "Ba_K"),
    *("Sn_L", "Sb_L", "Ba_L", "W_L", "Pt_L", "Au_L", "Hg_L", "Pb_L", "Bi_L"),
)


class StartSite:
    """Site of the start page and of all results opened from it.

    Parameters
    ----------
    home : str, Path or None
        Folder shown first; by default the folder of the last visit, or else the home folder.
    """

    def __init__(self, home: str | Path | None = None) -> None:
        self.home = Path(home or _last_folder() or Path.home()).resolve()
        self.runs = Runs()
        self.uploads = Uploads()
        self._opened_sites: list[ResultSite] = []
        self._routes: dict[tuple[str, str], Callable[[Request], Answer | None]] = {
            ("GET", "choices"): self._answer_choices,
            ("GET", "list"): self._answer_folder,
            ("GET", "kind"): self._answer_path_kind,
            ("POST", "run"): self._start_job,
            ("GET", "run"): self._answer_job_state,
            ("DELETE", "run"): self._cancel_job,
            ("GET", "queue"): self._answer_queue,
            ("POST", "open"): self._open_results,
            ("POST", "palette"): self._save_palette,
            ("POST", "axis"): self._axis_through_lines,
            ("POST", "calibration"): self._save_calibration,
            ("POST", "upload"): self._receive_upload,
            ("DELETE", "upload"): self._cancel_upload,
        }

    def __call__(self, request: Request) -> Answer | None:
        """Answer a request for the start page, or for results that were opened from it."""
        if not request.parts:
            return page_file("start.html")
        if request.parts[0] == "open" and len(request.parts) > 1:
            site_number = request.parts[1]
            is_opened_number = (
                site_number.isdecimal() and len(site_number) <= 9 and int(site_number) < len(self._opened_sites)
            )
            return self._opened_sites[int(site_number)](request.under(2)) if is_opened_number else None
        route = self._routes.get((request.method, request.parts[0]))
        return page_file(request.parts[-1]) if route is None else route(request.under(1))

    def close(self) -> None:
        """Cancel all runs and uploads, and close all results."""
        self.uploads.close()
        self.runs.close()
        for site in self._opened_sites:
            site.close()

    def _answer_choices(self, _: Request) -> Answer:
        return json_answer(
            {
                "home": str(self.home),
                "instruments": [_instrument_entry(name) for name in preset_names()],
                "palettes": [*map(_palette_entry, palette_names()), *_saved_palettes()],
                "pigments": [
                    {
                        "name": pigment.name,
                        "label": pigment.label,
                        "color": pigment.color,
                        "first": pigment.period.first,
                        "last": pigment.period.last,
                        "period": pigment.period.text,
                    }
                    for pigment in library()
                ],
                "models": list(shipped_models()),
                "lines": dict(line_labels(_CALIBRATION_FAMILIES)),
                "recent": recent_results(),
            }
        )

    def _answer_folder(self, request: Request) -> Answer:
        """Answer with the entries of a folder: folders, results, and files that may be scans."""
        path_text = request.query.get("path", "")
        folder = (
            Path(path_text)
            if path_text
            else next(candidate for candidate in (self.home, Path.home(), Path("/")) if candidate.is_dir())
        )
        if not folder.is_absolute() or not folder.is_dir():
            raise ScanError(f"Cannot list {path_text}: it is no folder of this machine. Give its absolute path.")
        self.home = folder  # a reloaded page starts in this folder
        _update_start_state(place=str(folder))
        scan_endings = {ending.lower() for scan_format in formats() for ending in scan_format.endings}
        entries = []
        for path in sorted(folder.iterdir(), key=lambda entry: entry.name.lower())[:MAX_FOLDER_ENTRIES]:
            with suppress(OSError):  # the user may not read this entry
                if not path.name.startswith(".") and path.suffix != _PARTIAL_SUFFIX:
                    entries.append(_path_entry(path, scan_endings))
        n_hidden_files, folders = 0, [entry for entry in entries if entry.get("folder")]
        scan_files = [entry for entry in entries if entry["kind"] == "scan" and not entry.get("folder")]
        # A folder is also one scan if it contains only folders, one for each detector.
        has_detector_folders = bool(folders) and not scan_files and all(entry["kind"] == "scan" for entry in folders)
        is_scan_folder = _is_scan_folder(folder, scan_endings) or (
            has_detector_folders and reader_of(folder, b"") is not None
        )
        if (
            is_scan_folder and len(scan_files) > _MAX_LISTED_SPECTRA
        ):  # these files are the pixels of one scan, which is shown as one entry
            n_hidden_files, entries = len(scan_files), [entry for entry in entries if entry not in scan_files]
        folder_facts = {
            "path": str(folder),
            "parent": str(folder.parent),
            "results": is_finished(folder),
            "roots": _root_folders(),
        }
        return json_answer(folder_facts | {"scan": is_scan_folder, "folded": n_hidden_files, "entries": entries})

    def _answer_path_kind(self, request: Request) -> Answer:
        """Answer with the kind of a path: folder, instrument, palette, or otherwise scan."""
        path_text = str(_absolute_path(request.query.get("path", "")))
        path, dataset_name = split_location(path_text)
        path_facts: dict[str, Any] = {"folder": str(path.parent)}
        if path.is_dir() and dataset_name is None:
            return json_answer(path_facts | {"kind": "folder"})
        if path.suffix.lower() in _SETTINGS_SUFFIXES:
            return json_answer(path_facts | _settings_entry(path))
        return json_answer(path_facts | {"kind": "scan"})

    def _start_job(self, request: Request) -> Answer:
        """Start a job that reads a scan's content or identifies its pigments."""
        request_body = request.json()
        job_kind, scan = request_body.get("what"), request_body.get("scan")
        if job_kind not in ("look", "identify") or not isinstance(scan, str) or not scan or "\0" in scan:
            raise ScanError("Cannot run: choose a scan first.")
        job = {"what": job_kind, "scan": scan} | {
            setting_name: request_body[setting_name]
            for setting_name in _TEXT_SETTINGS
            if request_body.get(setting_name)
        }
        if not all(isinstance(setting, str) and not encoding_fault(setting) for setting in job.values()):
            raise ScanError("Cannot run: the page sent settings that are not UTF-8 text. Load the page again.")
        if job_kind == "identify" and "out" in job and job["out"] in self._busy_folders():
            raise OutputError(
                f"Cannot run {scan}: another run in the queue writes to {job['out']}. Wait until it ends, or cancel it."
            )
        return json_answer(
            self.runs.start(
                job | {setting_name: request_body.get(setting_name) is True for setting_name in _FLAG_SETTINGS}
            ).state()
        )

    def _busy_folders(self) -> set[str]:
        run_states = (run.state() for run in self.runs.of_kind("identify"))
        return {str(state["job"].get("out")) for state in run_states if state["state"] in {QUEUED, RUNNING}}

    def _answer_job_state(self, request: Request) -> Answer | None:
        run = self.runs.get(request.query.get("run", ""))
        return None if run is None else json_answer(run.state())

    def _answer_queue(self, _: Request) -> Answer:
        """Answer with the state of every run that identifies pigments, the earliest first."""
        return json_answer({"runs": [run.state() for run in self.runs.of_kind("identify")]})

    def _cancel_job(self, request: Request) -> Answer | None:
        run = self.runs.get(request.query.get("run", ""))
        if run is None:
            return None
        run.cancel()
        return json_answer(run.state())

    def _open_results(self, request: Request) -> Answer:
        """Open a folder of results and answer with the address of its pages."""
        folder = _absolute_path(request.json().get("folder")).resolve()
        for number, site in enumerate(self._opened_sites):
            # Results that have changed since they were opened are opened again.
            if site.folder == folder and site.is_current():
                return json_answer({"address": f"open/{number}/"})
        site = ResultSite(folder, self.runs.scan_of(folder), self.runs)
        self._opened_sites.append(site)
        remember_folder(folder)
        return json_answer({"address": f"open/{len(self._opened_sites) - 1}/"})

    def _save_palette(self, request: Request) -> Answer:
        """Save the chosen pigments as a palette file of the user."""
        request_body = request.json()
        name, pigments = request_body.get("name"), request_body.get("pigments")
        name = name.strip() if isinstance(name, str) else ""
        if not _PALETTE_NAME.fullmatch(name) or is_reserved(name) or name in palette_names():
            raise SampleError(
                f"Cannot save the palette {name[:60]!r}: a name has up to 60 letters, digits, spaces and marks such as "
                "comma or hyphen, begins with a letter or digit, and is no palette of the package. Change the name."
            )
        if not isinstance(pigments, list) or not all(isinstance(pigment, str) for pigment in pigments):
            raise SampleError(f"Cannot save the palette {name!r}: the page sent no pigments. Load the page again.")
        path = _palette_folder() / f"{name}.toml"
        may_replace = request_body.get("replace") is True
        if path.exists() and not may_replace:
            raise OutputError(f"Cannot save the palette {name!r}: {path} exists. Tick “replace”, or change the name.")
        path.parent.mkdir(parents=True, exist_ok=True)
        save_palette(Palette(name, tuple(pigments)), path, replace=may_replace)
        return json_answer(_palette_entry(path))

    def _axis_through_lines(self, request: Request) -> Answer:
        """Answer with the energy axis that is fitted to lines at given channels, and the residuals in eV."""
        request_body = request.json()
        axis, residual_ev = axis_through_lines(
            *_assigned_lines(request_body), _n_channel(request_body.get("n_channel"))
        )
        axis_facts = {"gain_kev": axis.gain_kev, "zero_kev": axis.zero_kev}
        return json_answer(axis_facts | {"residual_ev": residual_ev.tolist()})

    def _save_calibration(self, request: Request) -> Answer:
        """Save an energy axis set by hand as an instrument file beside the scan."""
        request_body = request.json()
        run = self.runs.get(str(request_body.get("run")))
        run_state = {} if run is None else run.state()
        if run is None or run.job["what"] != "look" or run_state["state"] != DONE:
            raise ScanError("Cannot calibrate: the viewer no longer knows this scan. Choose it again.")
        scan_result = run_state["result"]
        counts = np.array(scan_result["sum"], dtype=np.float64)
        axis, _ = axis_through_lines(*_assigned_lines(request_body), counts.size)
        base_instrument = request_body.get("instrument")
        instrument, calibration = instrument_by_hand(
            Scan(counts[None, None, :], name=scan_result["name"]),
            axis,
            load_instrument(base_instrument) if isinstance(base_instrument, str) and base_instrument else None,
        )
        path = _calibration_file(Path(scan_result["out"]))
        save_instrument(instrument, path, only_known=True, replace=False)
        return json_answer(_instrument_entry(str(path)) | _calibration_facts(instrument, axis, calibration))

    def _receive_upload(self, request: Request) -> Answer | None:
        """Start an upload, or receive its next piece."""
        if request.parts:
            progress = self.uploads.receive(request.parts[0], request.number("piece"), request.body)
            return None if progress is None else json_answer(progress)
        request_body = request.json()
        folder = _absolute_path(request_body.get("folder"))
        if not folder.is_dir():
            raise OutputError(f"Cannot upload to {folder}: it is no folder of this machine. Choose a folder.")
        return json_answer(self.uploads.begin(folder, request_body.get("name"), request_body.get("size")))

    def _cancel_upload(self, request: Request) -> Answer | None:
        return json_answer({}) if request.parts and self.uploads.cancel(request.parts[0]) else None


def _absolute_path(value: object) -> Path:
    """Return a path that a page sent.

    Raises
    ------
    ScanError
        The value is not an absolute path.
    """
    if not isinstance(value, str) or "\0" in value or encoding_fault(value) or not Path(value).is_absolute():
        raise ScanError(f"Cannot look for {str(value)[:200]!a}: give the absolute path of a folder or a file.")
    return Path(value)


def recent_results() -> list[dict[str, Any]]:
    """Return the recently opened folders of results that still exist, the latest first."""
    try:
        folders = [Path(folder) for folder in _read_start_state().get("folders", []) if is_finished(folder)]
    except TypeError:
        return []
    return [{"folder": str(folder), "name": folder.name, "place": str(folder.parent)} for folder in folders]


def remember_folder(folder: Path) -> None:
    """Add a folder of results to the top of the list of recent results."""
    earlier_folders = [
        recent_entry["folder"] for recent_entry in recent_results() if recent_entry["folder"] != str(folder)
    ]
    _update_start_state(folders=[str(folder), *earlier_folders][:MAX_RECENT])


def _last_folder() -> Path | None:
    """Return the folder that was shown last; None if it no longer exists."""
    folder_path = _read_start_state().get("place")
    return Path(folder_path) if isinstance(folder_path, str) and Path(folder_path).is_dir() else None


def _read_start_state() -> dict[str, Any]:
    """Return the saved state of the start page; an empty dictionary if the file is missing or damaged."""
    try:
        start_state = json.loads(_state_file().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return start_state if isinstance(start_state, dict) else {}


def _update_start_state(**changes: Any) -> None:
    with suppress(OSError, OutputError):  # the state is not saved if its folder is not writable
        path = _state_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, _read_start_state() | changes)


def _state_file() -> Path:
    return _state_folder() / "recent.json"


def _state_folder() -> Path:
    state_path = os.environ.get(_STATE_VARIABLE)
    if state_path:
        return Path(state_path)
    base_folder = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base_folder) / "underpaint"


def _palette_folder() -> Path:
    return _state_folder() / "palettes"


def _saved_palettes() -> list[dict[str, Any]]:
    """Return the readable palettes that were saved on the start page."""
    entries = []
    for path in sorted(_palette_folder().glob("*.toml")):
        with suppress(SampleError):
            entries.append(_palette_entry(path))
    return entries


def _palette_entry(name_or_path: str | Path) -> dict[str, Any]:
    palette = load_palette(name_or_path)
    label = palette.label or palette.name.replace("_", " ")
    return {
        "kind": "palette",
        "name": str(name_or_path),
        "label": f"{label} ({len(palette.pigments)} pigments)",
        "painter": palette.painter,
        "file": isinstance(name_or_path, Path),
        "title": palette.name,
        "pigments": list(palette.pigments),
    }


def _instrument_entry(name_or_path: str) -> dict[str, Any]:
    instrument = load_instrument(name_or_path)
    return {"kind": "instrument", "name": name_or_path, "label": _instrument_label(name_or_path, instrument)}


def _instrument_label(name: str, instrument: Instrument) -> str:
    tube = instrument.tube
    has_known_tube = "tube" in instrument.model_fields_set and {"anode", "voltage_kv"} <= tube.model_fields_set
    return f"{Path(name).name} ({tube.anode} anode, {tube.voltage_kv:g} kV)" if has_known_tube else Path(name).name


def _settings_entry(path: Path) -> dict[str, Any]:
    """Return the entry of a palette or instrument file."""
    settings_text = ""
    with suppress(
        SampleError, UnicodeDecodeError
    ):  # an unreadable file raises an error when it is loaded as an instrument
        settings_text = read_bounded(path, MAX_SETTINGS_BYTES, SampleError).decode("utf-8")
    is_palette = path.suffix.lower() == ".toml" and re.search(r"^\s*pigments\s*=", settings_text, re.MULTILINE)
    return _palette_entry(path) if is_palette else _instrument_entry(str(path))


def _path_entry(path: Path, scan_endings: set[str]) -> dict[str, Any]:
    entry = {"name": path.name, "path": str(path)}
    if path.is_dir():
        if is_finished(path):
            return entry | {"kind": "results"}
        return entry | {"folder": True, "kind": "scan" if _is_scan_folder(path, scan_endings) else "folder"}
    suffix = path.suffix.lower()
    kind = "scan" if suffix in scan_endings else "settings" if suffix in _SETTINGS_SUFFIXES else "file"
    return entry | {"kind": kind, "bytes": path.stat().st_size}


def _is_scan_folder(folder: Path, scan_endings: set[str]) -> bool:
    """Return whether a folder is one scan, that is, a file for each pixel or a chunked store."""
    with suppress(OSError, ScanError), os.scandir(folder) as entries:
        names = [entry.name for entry, _ in zip(entries, range(_MAX_PROBED_ENTRIES), strict=False)]
        reader = reader_of(folder, b"") if names else None
        if reader is None or reader.FORMAT.store:
            return reader is not None
        reader_endings = {ending.lower() for ending in reader.FORMAT.endings} & scan_endings
        return sum(Path(name).suffix.lower() in reader_endings for name in names) > 1
    return False


def _assigned_lines(request_body: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Return the channels of the lines that a page sent, and their energies in keV."""
    lines = request_body.get("lines")
    try:
        channel_energy_pairs = [(float(line["channel"]), float(line["energy_kev"])) for line in lines] if lines else []
    except (TypeError, ValueError, KeyError, OverflowError):
        channel_energy_pairs = None
    if channel_energy_pairs is None or len(channel_energy_pairs) > MAX_LINES:
        raise ScanError(
            f"Cannot calibrate: the page must send up to {MAX_LINES} lines, each with a channel and an energy in keV."
        )
    return [channel for channel, _ in channel_energy_pairs], [energy for _, energy in channel_energy_pairs]


def _n_channel(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 2 <= value <= 2**17:
        raise ScanError("Cannot calibrate: the page sent no valid number of channels. Load the page again.")
    return value


def _calibration_facts(instrument: Instrument, axis: EnergyAxis, calibration: Any) -> dict[str, Any]:
    """Return the saved energy axis, and the residuals of the scan's lines."""
    residual_ev = {} if calibration is None else calibration.residual_ev
    calibration_note = (
        "The lines of the scan neither confirm nor contradict this axis. The axis is used as set by hand."
        if calibration is None
        else f"Refined by {len(residual_ev)} lines of the scan; the largest residual is "
        f"{calibration.largest_residual_ev:.1f} eV."
    )
    return {
        "gain_kev": instrument.detector.gain_kev,
        "zero_kev": instrument.detector.zero_kev,
        "found": [] if calibration is None else list(calibration.families),
        "anode": None if calibration is None else calibration.anode,
        "residual_ev": residual_ev,
        "set_by_hand": {"gain_kev": axis.gain_kev, "zero_kev": axis.zero_kev},
        "notes": [calibration_note],
    }


def _calibration_file(results_folder: Path) -> Path:
    """Return an unused path for a scan's instrument file, beside its folder of results."""
    file_stem = f"{results_folder.name.removesuffix('_underpaint')}_calibrated"
    numbered_paths = (results_folder.with_name(f"{file_stem}{'' if n == 1 else f'_{n}'}.toml") for n in count(1))
    return next(path for path in numbered_paths if not os.path.lexists(path))


def _root_folders() -> Sequence[str]:
    """Return the drives on Windows; on other systems the root folder."""
    if os.name != "nt":
        return ["/"]
    return [f"{drive_letter}:\\" for drive_letter in "CDEFGHIJKLMNOPQRSTUVWXYZ" if Path(f"{drive_letter}:\\").is_dir()]
