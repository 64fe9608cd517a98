"""The start page: choose a scan, see what it holds, run it, watch and cancel, open results."""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from underpaint.display.viewer.pages import page_file
from underpaint.display.viewer.result_site import ResultSite
from underpaint.display.viewer.runs import Runs
from underpaint.display.viewer.server import Answer, Request, json_answer
from underpaint.errors import OutputError, ScanError
from underpaint.io import formats, is_finished, split_location
from underpaint.physics.instrument import load_instrument, preset_names
from underpaint.physics.materials import load_palette, palette_names
from underpaint.pigments.weights import shipped
from underpaint.runtime.files import fault_of_text, write_json

MOST_RECENT = 12
MOST_ENTRIES = 2000
_UNFINISHED = ".part"
_STATE_VARIABLE = "UNDERPAINT_STATE"


class StartSite:
    """Answers for the start page, and for every result that is opened from it.

    Parameters
    ----------
    home : str, Path or None
        Folder whose files are offered first; None: the one that was looked into last, or else the user's own.
    """

    def __init__(self, home: str | Path | None = None) -> None:
        self.home = Path(home or _last_place() or Path.home()).resolve()
        self.runs = Runs()
        self._opened: list[ResultSite] = []
        self._routes: dict[tuple[str, str], Callable[[Request], Answer | None]] = {
            ("GET", "choices"): self._choices,
            ("GET", "list"): self._list,
            ("GET", "kind"): self._kind,
            ("POST", "run"): self._start,
            ("GET", "run"): self._state,
            ("DELETE", "run"): self._cancel,
            ("POST", "open"): self._open,
        }

    def __call__(self, request: Request) -> Answer | None:
        """Answer a request for the start page or an opened result."""
        if not request.parts:
            return page_file("start.html")
        if request.parts[0] == "open" and len(request.parts) > 1:
            number = request.parts[1]
            known = number.isdecimal() and len(number) <= 9 and int(number) < len(self._opened)
            return self._opened[int(number)](request.under(2)) if known else None
        route = self._routes.get((request.method, request.parts[0]))
        return page_file(request.parts[-1]) if route is None else route(request.under(1))

    def close(self) -> None:
        """Cancel what runs and close what is open."""
        self.runs.close()
        for site in self._opened:
            site.close()

    def _choices(self, _: Request) -> Answer:
        return json_answer(
            {
                "home": str(self.home),
                "instruments": [{"name": name, "label": _instrument_label(name)} for name in preset_names()],
                "palettes": [
                    {"name": name, "label": f"{name.replace('_', ' ')} ({len(load_palette(name).pigments)} pigments)"}
                    for name in palette_names()
                ],
                "models": list(shipped()),
                "recent": recent(),
            }
        )

    def _list(self, request: Request) -> Answer:
        """Answer with the names in a folder: folders, results, and files that may be scans."""
        text = request.query.get("path", "")
        place = Path(text) if text else next(own for own in (self.home, Path.home(), Path("/")) if own.is_dir())
        if not place.is_absolute() or not place.is_dir():
            raise ScanError(f"Cannot list {text}: it is no folder of this machine. Give its whole path.")
        self.home = place  # where a page that is loaded again goes on
        _keep(place=str(place))
        endings = {ending.lower() for known in formats() for ending in known.endings}
        found = []
        for own in sorted(place.iterdir(), key=lambda entry: entry.name.lower())[:MOST_ENTRIES]:
            with suppress(OSError):  # a name that this user may not look at
                if not own.name.startswith(".") and own.suffix != _UNFINISHED:
                    found.append(_listed(own, endings))
        told = {"path": str(place), "parent": str(place.parent), "results": is_finished(place)}
        return json_answer(told | {"entries": found, "roots": _roots()})

    def _kind(self, request: Request) -> Answer:
        """Answer whether a path is that of a folder, or of what may be a scan."""
        text = str(_path(request.query.get("path", "")))
        path, name = split_location(text)
        kind = "folder" if path.is_dir() and name is None else "scan"
        return json_answer({"kind": kind, "folder": str(path.parent)})

    def _start(self, request: Request) -> Answer:
        """Begin a job: look into a scan, or identify its pigments."""
        sent = request.json()
        what, scan = sent.get("what"), sent.get("scan")
        if what not in ("look", "identify") or not isinstance(scan, str) or not scan or "\0" in scan:
            raise ScanError("Cannot run: choose a scan first.")
        known = ("instrument", "palette", "model", "out", "shape", "detector")
        job = {"what": what, "scan": scan} | {key: sent[key] for key in known if sent.get(key)}
        if not all(isinstance(value, str) and not fault_of_text(value) for value in job.values()):
            raise ScanError("Cannot run: the page sent settings that are no text in UTF-8. Load the page again.")
        return json_answer(self.runs.start(job | {"overwrite": sent.get("overwrite") is True}).state())

    def _state(self, request: Request) -> Answer | None:
        run = self.runs.get(request.query.get("run", ""))
        return None if run is None else json_answer(run.state())

    def _cancel(self, request: Request) -> Answer | None:
        run = self.runs.get(request.query.get("run", ""))
        if run is None:
            return None
        run.cancel()
        return json_answer(run.state())

    def _open(self, request: Request) -> Answer:
        """Open a folder of results; the answer says where its pages are."""
        folder = _path(request.json().get("folder")).resolve()
        for number, own in enumerate(self._opened):
            # Results that were made anew since have to be read anew.
            if own.folder == folder and own.is_current():
                return json_answer({"address": f"open/{number}/"})
        site = ResultSite(folder, self.runs.scan_of(folder), self.runs)
        self._opened.append(site)
        remember(folder)
        return json_answer({"address": f"open/{len(self._opened) - 1}/"})


def _path(text: object) -> Path:
    """Return a path that a page sent.

    Raises
    ------
    ScanError
        It is no whole path.
    """
    if not isinstance(text, str) or "\0" in text or fault_of_text(text) or not Path(text).is_absolute():
        raise ScanError(f"Cannot look for {str(text)[:200]!a}: give the whole path of a folder or a file.")
    return Path(text)


def recent() -> list[dict[str, Any]]:
    """Return the results that were opened lately and are still there, the last one first."""
    try:
        folders = [Path(own) for own in _kept().get("folders", []) if is_finished(own)]
    except TypeError:
        return []
    return [{"folder": str(own), "name": own.name, "place": str(own.parent)} for own in folders]


def remember(folder: Path) -> None:
    """Put a folder of results on top of the list of recent ones."""
    kept = [own["folder"] for own in recent() if own["folder"] != str(folder)]
    _keep(folders=[str(folder), *kept][:MOST_RECENT])


def _last_place() -> Path | None:
    """Return the folder that was looked into last, if it is still there."""
    place = _kept().get("place")
    return Path(place) if isinstance(place, str) and Path(place).is_dir() else None


def _kept() -> dict[str, Any]:
    """Return what is kept from one start to the next: conveniences; damaged ones are begun anew."""
    try:
        found = json.loads(_state_file().read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _keep(**facts: Any) -> None:
    with suppress(OSError, OutputError):  # whoever has no home to write to has no list
        path = _state_file()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, _kept() | facts)


def _state_file() -> Path:
    told = os.environ.get(_STATE_VARIABLE)
    if told:
        return Path(told) / "recent.json"
    base = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "underpaint" / "recent.json"


def _listed(own: Path, endings: set[str]) -> dict[str, Any]:
    if own.is_dir():
        return {"name": own.name, "path": str(own), "kind": "results" if is_finished(own) else "folder"}
    kind = "scan" if own.suffix.lower() in endings else "file"
    return {"name": own.name, "path": str(own), "kind": kind, "bytes": own.stat().st_size}


def _roots() -> Sequence[str]:
    """Return the drives of Windows; elsewhere the one root."""
    if os.name != "nt":
        return ["/"]
    return [f"{letter}:\\" for letter in "CDEFGHIJKLMNOPQRSTUVWXYZ" if Path(f"{letter}:\\").is_dir()]


def _instrument_label(name: str) -> str:
    own = load_instrument(name)
    return f"{name} ({own.tube.anode} anode, {own.tube.voltage_kv:g} kV)"
