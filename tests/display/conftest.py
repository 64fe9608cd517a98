"""What these tests open is no result that the user opened lately."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import browser


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Chromium, one for all tests of a file."""
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture(autouse=True)
def _empty_list_of_recent_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERPAINT_STATE", str(tmp_path / "state"))


@pytest.fixture
def without_drawing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Embed empty pictures in reports: drawing takes most of their time."""
    monkeypatch.setattr("underpaint.display.plot.to_png", lambda *_: b"")
