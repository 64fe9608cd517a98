"""What these tests open is no result that the user opened lately."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _own_list_of_recent_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UNDERPAINT_STATE", str(tmp_path / "state"))
