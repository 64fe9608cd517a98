"""Kills at random moments: nothing of the user's is lost, and what was stopped goes on to the same numbers."""

import os
from pathlib import Path

import pytest

from kills import tally_of

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked on POSIX alone")
FEW_KILLS, MANY_KILLS = 6, 100


def test_kills_lose_nothing(tmp_path: Path) -> None:
    tally = tally_of(FEW_KILLS, 3, tmp_path)
    assert tally.faults == []
    assert tally.kills == FEW_KILLS


@pytest.mark.robust
def test_a_hundred_kills_lose_nothing(tmp_path: Path) -> None:
    tally = tally_of(MANY_KILLS, 5, tmp_path)
    assert tally.faults == []
    assert tally.kills == MANY_KILLS
