"""An error that another one causes is stated once."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from underpaint.elements import parse_composition
from underpaint.errors import InstrumentError, SampleError, ScanError, UnderpaintError, reason_of
from underpaint.io.results.regions import read_regions
from underpaint.io.results.session import read_session
from underpaint.physics.instrument import read_source_spectrum


def test_no_error_says_twice_what_cannot_be_done(tmp_path: Path) -> None:
    (tmp_path / "regions.json").mkdir()
    (tmp_path / "session.json").mkdir()
    calls: tuple[tuple[Callable[[Any], Any], Any, type[UnderpaintError]], ...] = (
        (parse_composition, "Xx 5", SampleError),
        (read_source_spectrum, tmp_path / "none.txt", InstrumentError),
        (read_regions, tmp_path, ScanError),
        (read_session, tmp_path, ScanError),
    )
    for call, argument, fault in calls:
        with pytest.raises(fault) as raised:
            call(argument)
        text = str(raised.value)
        assert text.startswith("Cannot ")
        assert text.count("Cannot ") == 1
        assert ".." not in text


def test_the_reason_keeps_all_but_the_opening() -> None:
    assert reason_of(UnderpaintError("Cannot read C:\\a b.h5: it is empty: 0 bytes.")) == "it is empty: 0 bytes."
    assert (
        reason_of(UnderpaintError("No pigment is called 'x': choose one.")) == "No pigment is called 'x': choose one."
    )
    assert reason_of(PermissionError(13, "Permission denied", "/a")) == "Permission denied"
