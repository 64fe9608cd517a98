"""The start page: choose scans, see their content, calibrate by hand, choose pigments, run a queue, open results."""

import json
import os
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np

from underpaint.calibrate import axis_through_lines, instrument_by_hand
from underpaint.data import EnergyAxis, Scan
from underpaint.display.viewer.pages import page_file
from underpaint.display.viewer.result_site import ResultSite
from underpaint.display.viewer.runs import DONE, QUEUED, RUNNING, Runs
from underpaint.display.viewer.server import Answer, Request, json_answer
from underpaint.display.viewer.uploads import Uploads
from underpaint.errors import OutputError, SampleError, ScanError
from underpaint.io import formats, is_finished, split_location
from underpaint.io.readers import reader_of
from underpaint.physics.atomic import line_labels
from underpaint.physics.instrument import Instrument, load_instrument, preset_names, save_instrument
from underpaint.physics.materials import Palette, library, load_palette, palette_names, save_palette
from underpaint.pigments.weights import shipped_models
from underpaint.runtime.files import encoding_fault, is_reserved, write_json
from underpaint.runtime.untrusted import MAX_SETTINGS_BYTES, read_bounded

MOST_RECENT = 12
MOST_ENTRIES = 2000
MAX_LINES = 50
_UNFINISHED = ".part"
_STATE_VARIABLE = "UNDERPAINT_STATE"
_SETTINGS = {".toml", ".cfg"}
_TEXTS = ("instrument", "palette", "model", "out", "shape", "detector", "step")
_FLAGS = ("overwrite", "trust_instrument")
_PALETTE_NAME = re.compile(r"[\w][\w .,;'’()&+-]{0,59}")
_MANY_SPECTRA = 20
_PROBED_ENTRIES = 200
_CALIBRATION_FAMILIES = (
    *("Al_K", "Si_K", "S_K", "Cl_K", "Ar_K", "K_K", "Ca_K", "Ti_K", "Cr_K", "Mn_K", "Fe_K", "Co_K", "Ni_K", "Cu_K"),
    *("Zn_K", "As_K", "Se_K", "Br_K", "Sr_K", "Zr_K", "Mo_K", "Rh_K", "Pd_K", "Ag_K", "Cd_K", "Sn_K", "Sb_K", "Ba_K"),
    *("Sn_L", "Sb_L", "Ba_L", "W_L", "Pt_L", "Au_L", "Hg_L", "Pb_L", "Bi_L"),
)


class StartSite:
    """Answers for the start page, and for every result that is opened from it.

    Parameters
    ----------
    home : str, Path or None
        Folder shown first; None: the folder shown last, or else the home folder.
    """

    def __init__(self, home: str | Path | None = None) -> None:
        self.home = Path(home or _last_place() or Path.home()).resolve()
        self.runs = Runs()
        self.uploads = Uploads()
        self._opened: list[ResultSite] = []
        self._routes: dict[tuple[str, str], Callable[[Request], Answer | None]] = {
            ("GET", "choices"): self._choices,
            ("GET", "list"): self._list,
            ("GET", "kind"): self._kind,
            ("POST", "run"): self._start,
            ("GET", "run"): self._state,
            ("DELETE", "run"): self._cancel,
            ("GET", "queue"): self._queue,
            ("POST", "open"): self._open,
            ("POST", "palette"): self._save_palette,
            ("POST", "axis"): self._axis,
            ("POST", "calibration"): self._save_calibration,
            ("POST", "upload"): self._upload,
            ("DELETE", "upload"): self._cancel_upload,
        }

    def __call__(self, request: Request) -> Answer | None:
        """Answer a request for the start page or an opened result."""
        if not request.parts:
            return page_file("start.html")
        if request.parts[0] == "open" and len(request.parts) > 1:
            number = request.parts[1]
            is_opened_number = number.isdecimal() and len(number) <= 9 and int(number) < len(self._opened)
            return self._opened[int(number)](request.under(2)) if is_opened_number else None
        route = self._routes.get((request.method, request.parts[0]))
        return page_file(request.parts[-1]) if route is None else route(request.under(1))

    def close(self) -> None:
        """Cancel what runs and close what is open."""
        self.uploads.close()
        self.runs.close()
        for site in self._opened:
            site.close()

    def _choices(self, _: Request) -> Answer:
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
                "recent": recent(),
            }
        )

    def _list(self, request: Request) -> Answer:
        """Answer with the names in a folder: folders, results, and files that may be scans."""
        text = request.query.get("path", "")
        place = Path(text) if text else next(each for each in (self.home, Path.home(), Path("/")) if each.is_dir())
        if not place.is_absolute() or not place.is_dir():
            raise ScanError(f"Cannot list {text}: it is no folder of this machine. Give its whole path.")
        self.home = place  # where a page that is loaded again goes on
        _keep(place=str(place))
        endings = {ending.lower() for scan_format in formats() for ending in scan_format.endings}
        entries = []
        for path in sorted(place.iterdir(), key=lambda entry: entry.name.lower())[:MOST_ENTRIES]:
            with suppress(OSError):  # a name that this user may not look at
                if not path.name.startswith(".") and path.suffix != _UNFINISHED:
                    entries.append(_listed(path, endings))
        folded, folders = 0, [entry for entry in entries if entry.get("folder")]
        spectra = [entry for entry in entries if entry["kind"] == "scan" and not entry.get("folder")]
        # A folder for each detector, and nothing else, is one scan, too.
        per_detector = bool(folders) and not spectra and all(entry["kind"] == "scan" for entry in folders)
        is_scan = _is_scan_folder(place, endings) or (per_detector and reader_of(place, b"") is not None)
        if is_scan and len(spectra) > _MANY_SPECTRA:  # they are its pixels: one entry stands for all
            folded, entries = len(spectra), [entry for entry in entries if entry not in spectra]
        facts = {"path": str(place), "parent": str(place.parent), "results": is_finished(place), "roots": _roots()}
        return json_answer(facts | {"scan": is_scan, "folded": folded, "entries": entries})

    def _kind(self, request: Request) -> Answer:
        """Answer what a path is: a folder, an instrument, a palette, or what may be a scan."""
        text = str(_path(request.query.get("path", "")))
        path, name = split_location(text)
        facts: dict[str, Any] = {"folder": str(path.parent)}
        if path.is_dir() and name is None:
            return json_answer(facts | {"kind": "folder"})
        if path.suffix.lower() in _SETTINGS:
            return json_answer(facts | _settings_entry(path))
        return json_answer(facts | {"kind": "scan"})

    def _start(self, request: Request) -> Answer:
        """Begin a job: look into a scan, or identify its pigments."""
        sent = request.json()
        what, scan = sent.get("what"), sent.get("scan")
        if what not in ("look", "identify") or not isinstance(scan, str) or not scan or "\0" in scan:
            raise ScanError("Cannot run: choose a scan first.")
        job = {"what": what, "scan": scan} | {key: sent[key] for key in _TEXTS if sent.get(key)}
        if not all(isinstance(value, str) and not encoding_fault(value) for value in job.values()):
            raise ScanError("Cannot run: the page sent settings that are no text in UTF-8. Load the page again.")
        if what == "identify" and "out" in job and job["out"] in self._busy_folders():
            raise OutputError(
                f"Cannot run {scan}: another run in the queue writes to {job['out']}. Wait until it ends, or cancel it."
            )
        return json_answer(self.runs.start(job | {key: sent.get(key) is True for key in _FLAGS}).state())

    def _busy_folders(self) -> set[str]:
        states = (run.state() for run in self.runs.of("identify"))
        return {str(state["job"].get("out")) for state in states if state["state"] in {QUEUED, RUNNING}}

    def _state(self, request: Request) -> Answer | None:
        run = self.runs.get(request.query.get("run", ""))
        return None if run is None else json_answer(run.state())

    def _queue(self, _: Request) -> Answer:
        """Answer with the state of every run that identifies pigments, the first one first."""
        return json_answer({"runs": [run.state() for run in self.runs.of("identify")]})

    def _cancel(self, request: Request) -> Answer | None:
        run = self.runs.get(request.query.get("run", ""))
        if run is None:
            return None
        run.cancel()
        return json_answer(run.state())

    def _open(self, request: Request) -> Answer:
        """Open a folder of results; the answer says where its pages are."""
        folder = _path(request.json().get("folder")).resolve()
        for number, site in enumerate(self._opened):
            # Results that were made anew since have to be read anew.
            if site.folder == folder and site.is_current():
                return json_answer({"address": f"open/{number}/"})
        site = ResultSite(folder, self.runs.scan_of(folder), self.runs)
        self._opened.append(site)
        remember(folder)
        return json_answer({"address": f"open/{len(self._opened) - 1}/"})

    def _save_palette(self, request: Request) -> Answer:
        """Save the pigments that were ticked as a palette file of the user's."""
        sent = request.json()
        name, pigments = sent.get("name"), sent.get("pigments")
        name = name.strip() if isinstance(name, str) else ""
        if not _PALETTE_NAME.fullmatch(name) or is_reserved(name) or name in palette_names():
            raise SampleError(
                f"Cannot save the palette {name[:60]!r}: a name has up to 60 letters, digits, spaces and marks such as "
                "comma or hyphen, begins with a letter or digit, and is no palette of the package. Change the name."
            )
        if not isinstance(pigments, list) or not all(isinstance(each, str) for each in pigments):
            raise SampleError(f"Cannot save the palette {name!r}: the page sent no pigments. Load the page again.")
        path = _palette_folder() / f"{name}.toml"
        replace = sent.get("replace") is True
        if path.exists() and not replace:
            raise OutputError(f"Cannot save the palette {name!r}: {path} exists. Tick “replace”, or change the name.")
        path.parent.mkdir(parents=True, exist_ok=True)
        save_palette(Palette(name, tuple(pigments)), path, replace=replace)
        return json_answer(_palette_entry(path))

    def _axis(self, request: Request) -> Answer:
        """Answer with the energy axis through lines with given channels, and the residuals."""
        sent = request.json()
        axis, residual_ev = axis_through_lines(*_assigned(sent), _n_channel(sent.get("n_channel")))
        facts = {"gain_kev": axis.gain_kev, "zero_kev": axis.zero_kev}
        return json_answer(facts | {"residual_ev": residual_ev.tolist()})

    def _save_calibration(self, request: Request) -> Answer:
        """Save the axis that was set by hand as an instrument file beside the scan."""
        sent = request.json()
        run = self.runs.get(str(sent.get("run")))
        state = {} if run is None else run.state()
        if run is None or run.job["what"] != "look" or state["state"] != DONE:
            raise ScanError("Cannot calibrate: the viewer no longer knows this scan. Choose it again.")
        result = state["result"]
        counts = np.array(result["sum"], dtype=np.float64)
        axis, _ = axis_through_lines(*_assigned(sent), counts.size)
        base = sent.get("instrument")
        instrument, calibration = instrument_by_hand(
            Scan(counts[None, None, :], name=result["name"]),
            axis,
            load_instrument(base) if isinstance(base, str) and base else None,
        )
        path = _calibration_file(Path(result["out"]))
        save_instrument(instrument, path, only_known=True, replace=False)
        return json_answer(_instrument_entry(str(path)) | _calibration_facts(instrument, axis, calibration))

    def _upload(self, request: Request) -> Answer | None:
        """Begin an upload, or receive its next part."""
        if request.parts:
            facts = self.uploads.receive(request.parts[0], request.number("piece"), request.body)
            return None if facts is None else json_answer(facts)
        sent = request.json()
        folder = _path(sent.get("folder"))
        if not folder.is_dir():
            raise OutputError(f"Cannot upload to {folder}: it is no folder of this machine. Choose a folder.")
        return json_answer(self.uploads.begin(folder, sent.get("name"), sent.get("size")))

    def _cancel_upload(self, request: Request) -> Answer | None:
        return json_answer({}) if request.parts and self.uploads.cancel(request.parts[0]) else None


def _path(text: object) -> Path:
    """Return a path that a page sent.

    Raises
    ------
    ScanError
        It is no whole path.
    """
    if not isinstance(text, str) or "\0" in text or encoding_fault(text) or not Path(text).is_absolute():
        raise ScanError(f"Cannot look for {str(text)[:200]!a}: give the whole path of a folder or a file.")
    return Path(text)


def recent() -> list[dict[str, Any]]:
    """Return the folders of results that were opened last and still exist, the latest first."""
    try:
        folders = [Path(each) for each in _kept().get("folders", []) if is_finished(each)]
    except TypeError:
        return []
    return [{"folder": str(each), "name": each.name, "place": str(each.parent)} for each in folders]


def remember(folder: Path) -> None:
    """Put a folder of results on top of the list of recent ones."""
    kept = [each["folder"] for each in recent() if each["folder"] != str(folder)]
    _keep(folders=[str(folder), *kept][:MOST_RECENT])


def _last_place() -> Path | None:
    """Return the folder shown last, if it still exists."""
    place = _kept().get("place")
    return Path(place) if isinstance(place, str) and Path(place).is_dir() else None


def _kept() -> dict[str, Any]:
    """Return what is kept from one start to the next: conveniences; damaged ones are begun anew."""
    try:
        kept = json.loads(_state_file().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return kept if isinstance(kept, dict) else {}


def _keep(**facts: Any) -> None:
    with suppress(OSError, OutputError):  # whoever has no home to write to has no list
        path = _state_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, _kept() | facts)


def _state_file() -> Path:
    return _state_folder() / "recent.json"


def _state_folder() -> Path:
    state_path = os.environ.get(_STATE_VARIABLE)
    if state_path:
        return Path(state_path)
    base = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "underpaint"


def _palette_folder() -> Path:
    return _state_folder() / "palettes"


def _saved_palettes() -> list[dict[str, Any]]:
    """Return the palettes that were saved on this page; one that cannot be read is left out."""
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
    """Return the palette or the instrument in a file."""
    text = ""
    with suppress(SampleError, UnicodeDecodeError):  # what cannot be read is reported as an instrument
        text = read_bounded(path, MAX_SETTINGS_BYTES, SampleError).decode("utf-8")
    is_palette = path.suffix.lower() == ".toml" and re.search(r"^\s*pigments\s*=", text, re.MULTILINE)
    return _palette_entry(path) if is_palette else _instrument_entry(str(path))


def _listed(path: Path, endings: set[str]) -> dict[str, Any]:
    facts = {"name": path.name, "path": str(path)}
    if path.is_dir():
        if is_finished(path):
            return facts | {"kind": "results"}
        return facts | {"folder": True, "kind": "scan" if _is_scan_folder(path, endings) else "folder"}
    suffix = path.suffix.lower()
    kind = "scan" if suffix in endings else "settings" if suffix in _SETTINGS else "file"
    return facts | {"kind": kind, "bytes": path.stat().st_size}


def _is_scan_folder(folder: Path, endings: set[str]) -> bool:
    """Return whether a folder is one scan, a file for each pixel or a store; folders of several scans are not."""
    with suppress(OSError, ScanError), os.scandir(folder) as entries:
        names = [entry.name for entry, _ in zip(entries, range(_PROBED_ENTRIES), strict=False)]
        reader = reader_of(folder, b"") if names else None
        if reader is None or reader.FORMAT.store:
            return reader is not None
        of_reader = {ending.lower() for ending in reader.FORMAT.endings} & endings
        return sum(Path(name).suffix.lower() in of_reader for name in names) > 1
    return False


def _assigned(sent: dict[str, Any]) -> tuple[list[float], list[float]]:
    """Return the channels and energies (keV) of the lines that a page sent."""
    lines = sent.get("lines")
    try:
        pairs = [(float(line["channel"]), float(line["energy_kev"])) for line in lines] if lines else []
    except (TypeError, ValueError, KeyError, OverflowError):
        pairs = None
    if pairs is None or len(pairs) > MAX_LINES:
        raise ScanError(
            f"Cannot calibrate: the page must send up to {MAX_LINES} lines, each with a channel and an energy in keV."
        )
    return [channel for channel, _ in pairs], [energy for _, energy in pairs]


def _n_channel(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 2 <= value <= 2**17:
        raise ScanError("Cannot calibrate: the page sent no number of channels. Load the page again.")
    return value


def _calibration_facts(instrument: Instrument, axis: EnergyAxis, calibration: Any) -> dict[str, Any]:
    """Return the axis that was saved, and how the scan's lines lie on it."""
    residual_ev = {} if calibration is None else calibration.residual_ev
    note = (
        "The lines of the scan do not confirm this axis, nor contradict it; it is used as you set it."
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
        "notes": [note],
    }


def _calibration_file(results: Path) -> Path:
    """Return a new name for the instrument file of a scan, beside its folder of results."""
    stem = f"{results.name.removesuffix('_underpaint')}_calibrated"
    numbered = (results.with_name(f"{stem}{'' if n == 1 else f'_{n}'}.toml") for n in count(1))
    return next(path for path in numbered if not os.path.lexists(path))


def _roots() -> Sequence[str]:
    """Return the drives of Windows; elsewhere the one root."""
    if os.name != "nt":
        return ["/"]
    return [f"{drive_letter}:\\" for drive_letter in "CDEFGHIJKLMNOPQRSTUVWXYZ" if Path(f"{drive_letter}:\\").is_dir()]
