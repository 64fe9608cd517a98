"""Additions of users to results in the viewer: markers on the spectrum, statements of experts, and the view."""

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from underpaint.errors import ScanError, reason_of
from underpaint.io.results.contained import read_contained_text
from underpaint.io.results.sidecars import SESSION_FILE

MAX_RECORDS = 500
MAX_REASON_LENGTH = 2000
MAX_NAME_LENGTH = 120
MAX_VIEW_CHARACTERS = 200_000
Subject = Literal["group", "line", "paint"]
Verdict = Literal["confirmed", "corrected", "comment"]


@dataclass(frozen=True)
class Marker:
    """Marker at an energy of the spectrum.

    Parameters
    ----------
    energy_kev : float
        Energy in keV, or channel number if the results have no energy axis.
    label : str
        Text that is shown at the marker.
    """

    energy_kev: float
    label: str


@dataclass(frozen=True)
class Statement:
    """Statement of an expert about a group, a line or a paint, as opposed to a result of the program.

    Parameters
    ----------
    subject : {"group", "line", "paint"}
        What kind of object the statement is about.
    name : str
        Name of the subject in the results, such as ``mercury_red`` or ``Sn_L``.
    verdict : {"confirmed", "corrected", "comment"}
        Opinion of the expert on the program's answer.
    correction : str
        Answer of the expert, if the verdict is "corrected"; "" otherwise.
    reason, author, date : str
        Reason for the statement, name of the expert, and date in the format of ISO 8601.
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
    """Content of the viewer's session file.

    Parameters
    ----------
    markers : tuple of Marker
        Markers on the spectrum.
    statements : tuple of Statement
        Statements of experts.
    view : dict
        Maps, colours and layers that the page shows, in the page's own format.
    """

    markers: tuple[Marker, ...] = ()
    statements: tuple[Statement, ...] = ()
    view: dict[str, Any] = field(default_factory=dict)


def parse_session(json_object: Any) -> Session:
    """Convert a JSON object, from a page or from the saved file, to a session.

    Raises
    ------
    ScanError
        The object does not describe a session.
    """
    try:
        markers = tuple(
            Marker(_finite_number(json_record["energy_kev"]), _read_text(json_record, "label"))
            for json_record in _read_list(json_object, "markers")
        )
        statements = tuple(_parse_statement(json_record) for json_record in _read_list(json_object, "statements"))
        view = json_object.get("view") or {}
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ScanError(
            "Cannot use the session: it has no lists of markers and statements. Choose a file that the viewer saved."
        ) from error
    if not isinstance(view, dict) or len(json.dumps(view)) > MAX_VIEW_CHARACTERS:
        raise ScanError(
            f"Cannot use the session: its view must be an object of at most {MAX_VIEW_CHARACTERS} characters. "
            "Choose a file that the viewer saved."
        )
    return Session(markers, statements, view)


def read_session(folder: Path) -> Session:
    """Return the session that is saved with the results, or an empty session if there is none.

    Raises
    ------
    ScanError
        The file is damaged or is a link.
    """
    try:
        return parse_session(json.loads(read_contained_text(folder, SESSION_FILE)))
    except FileNotFoundError:
        return Session()
    except (OSError, ValueError, RecursionError, ScanError) as error:
        raise ScanError(
            f"Cannot read {folder / SESSION_FILE}: {reason_of(error).rstrip('.')}. "
            "Move the file away; the viewer then starts a new session."
        ) from error


def _parse_statement(json_object: Any) -> Statement:
    subject, verdict = json_object["subject"], json_object["verdict"]
    if subject not in get_args(Subject) or verdict not in get_args(Verdict):
        raise ValueError(f"{subject!r}, {verdict!r}")
    optional_texts = (_read_text(json_object, field_name) for field_name in ("correction", "reason", "author", "date"))
    return Statement(subject, _read_text(json_object, "name"), verdict, *optional_texts)


def _read_list(json_object: Any, field_name: str) -> list[Any]:
    json_records = json_object.get(field_name) or []
    if not isinstance(json_records, list) or len(json_records) > MAX_RECORDS:
        raise ValueError(field_name)
    return json_records


def _finite_number(json_number: Any) -> float:
    if not math.isfinite(json_number):
        raise ValueError(json_number)
    return float(json_number)


def _read_text(json_object: Any, field_name: str) -> str:
    field_text = json_object.get(field_name, "")
    if not isinstance(field_text, str):
        raise TypeError(field_name)
    return (
        field_text.encode(errors="replace")
        .decode()
        .strip()[: MAX_REASON_LENGTH if field_name == "reason" else MAX_NAME_LENGTH]
    )
