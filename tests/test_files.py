"""Files appear whole or not at all."""

from pathlib import Path

import pytest

from underpaint.errors import OutputError
from underpaint.files import whole_file


def test_a_file_takes_the_place_of_the_old_one(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with whole_file(target) as part:
        part.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_an_error_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def broken() -> None:
        with whole_file(target) as part:
            part.write_text("ne")
            message = "half way"
            raise ValueError(message)

    with pytest.raises(ValueError, match="half"):
        broken()
    assert target.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.txt"]


def test_a_missing_folder_is_told(tmp_path: Path) -> None:
    def write() -> None:
        with whole_file(tmp_path / "no" / "a.txt") as part:
            part.write_text("x")

    with pytest.raises(OutputError, match=r"Cannot write .*Check that the folder exists"):
        write()
