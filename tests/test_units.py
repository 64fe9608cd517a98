"""Every constant of the table of units is used: what nobody needs is not kept."""

from pathlib import Path

import pytest

from underpaint import units

SOURCE = Path(units.__file__).parent
CONSTANTS = sorted(name for name in vars(units) if name.isupper())


@pytest.mark.parametrize("name", CONSTANTS)
def test_a_constant_is_used_by_some_room(name: str) -> None:
    other_files = [path for path in SOURCE.rglob("*.py") if path.name != "units.py"]
    assert any(name in path.read_text("utf-8") for path in other_files)
