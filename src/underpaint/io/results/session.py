"""What people add to results in the viewer: markers on the spectrum, statements of experts, the view itself."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from underpaint.errors import ScanError
from underpaint.io.results.contained import read_contained_text
from underpaint.io.results.sidecars import SESSION_FILE

MAX_ENTRIES = 500
MAX_TEXT = 2000
MAX_NAME = 120
MAX_VIEW_CHARACTERS = 200_000
Subject = Literal["group", "line", "paint"]
Verdict = Literal["confirmed", "corrected", "comment"]


@dataclass(frozen=True)
class Marker:
    """A marker on the energy axis.

    Parameters
    ----------
    energy_kev : float
        Channel number where the results have no energy axis.
    label : str
    """

    energy_kev: float
    label: str


@dataclass(frozen=True)
class Statement:
    """What an expert states about a group, a line or a paint; never an answer of the program.

    Parameters
    ----------
    subject : {"group", "line", "paint"}
    name : str
        As in the results: ``mercury_red``, ``Sn_L``.
    verdict : {"confirmed", "corrected", "comment"}
    correction : str
        What it is instead; "" unless corrected.
    reason, author, date : str
        The date as ISO 8601.
    """

    subject: Subject
    name: str
    verdict: Verdict
    correction: str
    reason: str
    author: str
    date: str


@dataclass(frozen=True)
class Session:
    """All that the viewer saves besides regions and pictures.

    Parameters
    ----------
    markers : tuple of Marker
    statements : tuple of Statement
    view : dict
        Maps, colours and layers on the page, as the page describes them.
    """

    markers: tuple[Marker, ...] = ()
    statements: tuple[Statement, ...] = ()
    view: dict[str, Any] = field(default_factory=dict)


def parse_session(value: Any) -> Session:
    """Return a session from the JSON object of a page or of the record.

    Raises
    ------
    ScanError
        It is not one.
    """
    try:
        markers = tuple(Marker(_number(each["energy_kev"]), _text(each, "label")) for each in _list(value, "markers"))
        statements = tuple(_statement(each) for each in _list(value, "statements"))
        view = value.get("view") or {}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ScanError(
            "Cannot use the session: it has no lists of markers and statements. Choose a file that the viewer saved."
        ) from error
    if not isinstance(view, dict) or len(json.dumps(view)) > MAX_VIEW_CHARACTERS:
        raise ScanError(
            f"Cannot use the session: its view is no object of at most {MAX_VIEW_CHARACTERS} characters. "
            "Choose a file that the viewer saved."
        )
    return Session(markers, statements, view)


def read_session(folder: Path) -> Session:
    """Return the session that was saved with the results; an empty one where there is none.

    Raises
    ------
    ScanError
        The record is damaged, or a link.
    """
    try:
        return parse_session(json.loads(read_contained_text(folder, SESSION_FILE)))
    except FileNotFoundError:
        return Session()
    except (OSError, ValueError, RecursionError, ScanError) as error:
        raise ScanError(
            f"Cannot read {folder / SESSION_FILE}: {error}. Move it away; the viewer then begins a new one."
        ) from error


def _statement(value: Any) -> Statement:
    subject, verdict = value["subject"], value["verdict"]
    if subject not in get_args(Subject) or verdict not in get_args(Verdict):
        raise ValueError(f"{subject!r}, {verdict!r}")
    texts = (_text(value, key) for key in ("correction", "reason", "author", "date"))
    return Statement(subject, _text(value, "name"), verdict, *texts)


def _list(value: Any, key: str) -> list[Any]:
    listed = value.get(key) or []
    if not isinstance(listed, list) or len(listed) > MAX_ENTRIES:
        raise ValueError(key)
    return listed


def _number(value: Any) -> float:
    if not math.isfinite(value):
        raise ValueError(value)
    return float(value)


def _text(value: Any, key: str) -> str:
    text = value.get(key, "")
    if not isinstance(text, str):
        raise TypeError(key)
    return text.encode(errors="replace").decode().strip()[: MAX_TEXT if key == "reason" else MAX_NAME]
