"""Saving the session of a page with the results."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from underpaint.display.viewer.one_writer import one_writer
from underpaint.errors import OutputError
from underpaint.io.results.contained import digest_contained
from underpaint.io.results.session import Session, read_session
from underpaint.io.results.sidecars import SESSION_FILE
from underpaint.runtime.files import write_json


class NewerSessionError(OutputError):
    """Another page saved its session since this one read it."""


def session_and_version(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the saved session, and a version that changes with it ("" where none is saved).

    Raises
    ------
    ScanError
        The record is damaged, or a link.
    """
    version = digest_contained(folder, SESSION_FILE) or ""
    return asdict(read_session(folder)), version


def save_session(folder: Path, session: Session, version: str) -> str:
    """Write the session and return its version.

    Raises
    ------
    NewerSessionError
        The saved one is not the version that this one was made from; nothing was written.
    ScanError
        The saved one is damaged; nothing was written.
    OutputError
        The folder cannot be written.
    """
    with one_writer(folder):
        _, current = session_and_version(folder)
        if current != version:
            raise NewerSessionError("Another page saved markers or statements meanwhile. Nothing was replaced.")
        write_json(folder / SESSION_FILE, asdict(session))
        return digest_contained(folder, SESSION_FILE) or ""
