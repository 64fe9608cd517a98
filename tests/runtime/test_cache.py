"""Arrays are made once, and again when what they depend on changes; a cache that cannot be used is no error."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from underpaint.runtime import cache


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path / "cache")
    return tmp_path / "cache"


@pytest.fixture
def make() -> Callable[[], cache.Arrays]:
    calls = [0]

    def made() -> cache.Arrays:
        calls[0] += 1
        return {"call": np.asarray(calls[0]), "name": np.asarray(["Fe_K"])}

    return made


def call_of(arrays: cache.Arrays) -> int:
    return int(arrays["call"])


def test_made_once_until_what_it_depends_on_changes(place: Path, make: Callable[[], cache.Arrays]) -> None:
    assert [call_of(cache.cached_arrays("a", {"n": 1}, ("data",), make)) for _ in range(3)] == [1, 1, 1]
    assert call_of(cache.cached_arrays("a", {"n": 2}, ("data",), make)) == 2
    assert call_of(cache.cached_arrays("a", {"n": 1}, ("units",), make)) == 3
    assert len(list(place.iterdir())) == 3


def test_a_damaged_file_is_made_anew(place: Path, make: Callable[[], cache.Arrays]) -> None:
    cache.cached_arrays("a", {}, (), make)
    (cached,) = place.iterdir()
    for damage in (b"", b"PK\x03\x04 and no more", cached.read_bytes()[:-40]):
        cached.write_bytes(damage)
        before = call_of(cache.cached_arrays("a", {}, (), make))
        assert call_of(cache.cached_arrays("a", {}, (), make)) == before


def test_without_a_folder_nothing_is_kept(place: Path, make: Callable[[], cache.Arrays]) -> None:
    place.parent.mkdir(exist_ok=True)
    place.write_bytes(b"a file")
    assert [call_of(cache.cached_arrays("a", {}, (), make)) for _ in range(2)] == [1, 2]


def test_the_oldest_go(place: Path, make: Callable[[], cache.Arrays]) -> None:
    for n in range(cache.MAX_FILES + 3):
        cache.cached_arrays("a", {"n": n}, (), make)
    (place / "users_own.npz").write_bytes(b"")
    cache.cached_arrays("a", {"n": -1}, (), make)
    assert len(list(place.glob("a-*.npz"))) == cache.MAX_FILES
    assert (place / "users_own.npz").exists()
