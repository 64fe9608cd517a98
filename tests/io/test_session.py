"""Markers, statements and the view that the viewer saves with results."""

import json
from pathlib import Path

import pytest

from underpaint.display.viewer.result_site import NewerSessionError, save_session, session_and_version
from underpaint.errors import ScanError
from underpaint.io.results.session import Marker, Session, Statement, parse_session, read_session

STATEMENT = Statement("line", "Sn_L", "corrected", "calcium", "pile-up", "A. Expert", "2026-11-30")


def test_a_session_is_read_as_it_was_saved(tmp_path: Path) -> None:
    session = Session((Marker(6.4, "iron?"),), (STATEMENT,), {"panes": 2})
    version = save_session(tmp_path, session, "")
    assert read_session(tmp_path) == session
    assert session_and_version(tmp_path)[1] == version


def test_what_another_page_saved_is_not_replaced(tmp_path: Path) -> None:
    save_session(tmp_path, Session((Marker(6.4, "iron?"),)), "")
    with pytest.raises(NewerSessionError):
        save_session(tmp_path, Session(), "")
    assert len(read_session(tmp_path).markers) == 1


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"markers": 3},
        {"markers": [{"energy_kev": float("nan"), "label": ""}]},
        {"markers": [{"label": "no energy"}]},
        {"markers": [{"energy_kev": 1.0, "label": 3}]},
        {"statements": [{"subject": "person", "name": "", "verdict": "confirmed"}]},
        {"statements": [{"subject": "line", "name": "Sn_L", "verdict": "denied"}]},
        {"view": "x"},
        {"view": {"x": "y" * 300_000}},
    ],
)
def test_what_is_no_session_is_refused(value: object) -> None:
    with pytest.raises(ScanError, match="Cannot use the session"):
        parse_session(value)


def test_a_damaged_record_is_named_and_kept(tmp_path: Path) -> None:
    (tmp_path / "session.json").write_text("{", encoding="utf-8")
    with pytest.raises(ScanError, match=r"session\.json"):
        save_session(tmp_path, Session(), "")
    assert (tmp_path / "session.json").read_text(encoding="utf-8") == "{"


def test_texts_are_cut_to_a_length_that_fits(tmp_path: Path) -> None:
    record = {"markers": [{"energy_kev": 1, "label": "x" * 500}]}
    (tmp_path / "session.json").write_text(json.dumps(record), encoding="utf-8")
    assert len(read_session(tmp_path).markers[0].label) == 120
