"""Cache of arrays that take seconds to compute and depend on few settings, in the user's cache folder."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from platformdirs import user_cache_path

from underpaint._version import __version__
from underpaint.errors import OutputError
from underpaint.runtime.files import atomic_write

Arrays = dict[str, NDArray[Any]]

MAX_FILES = 24
"""Number of cached files, some MB each; the least recently read one is removed first."""


def cached_arrays(
    name: str, settings: Mapping[str, Any], packages: tuple[str, ...], make: Callable[[], Arrays]
) -> Arrays:
    """Return the arrays that ``make`` computes, from the cache where possible.

    Parameters
    ----------
    name : str
        Prefix of the file name.
    settings : mapping
        What the arrays depend on, JSON-serialisable.
    packages : tuple of str
        Packages of underpaint whose code and data the arrays depend on: a change of one of their files invalidates the
        cache.
    make : callable
        Computes the arrays by name.

    Notes
    -----
    The folder may be removed at any time. Where it cannot be read or written, nothing is cached.

    Examples
    --------
    >>> import numpy as np
    >>> cached_arrays("squares", {"n": 3}, (), lambda: {"square": np.arange(3) ** 2})["square"].tolist()
    [0, 1, 4]
    """
    depends = json.dumps(
        [settings, __version__, np.__version__, [_state_of(package) for package in packages]], sort_keys=True
    )
    path = folder() / f"{name}-{hashlib.sha256(depends.encode()).hexdigest()[:20]}.npz"
    with suppress(OSError, ValueError, KeyError, EOFError, BadZipFile):
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as stored:
            arrays = {key: stored[key] for key in stored.files}
        os.utime(path)
        return arrays
    arrays = make()
    with suppress(OSError, OutputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as part, part.open("wb") as target:
            np.savez(target, **arrays)  # type: ignore[arg-type]
        remove_oldest(folder(), f"{name}-*.npz", MAX_FILES)
    return arrays


def folder() -> Path:
    """Return the cache folder: ``~/.cache/underpaint`` on Linux, its equivalent on other systems."""
    return user_cache_path("underpaint", appauthor=False)


def remove_oldest(place: Path, pattern: str, most: int) -> None:
    """Remove all but the ``most`` newest of the files that fit a pattern."""
    files = sorted(place.glob(pattern), key=lambda path: path.stat().st_mtime)
    for path in files[:-most]:
        with suppress(OSError):  # open in another process on Windows
            path.unlink(missing_ok=True)


@cache
def _state_of(package: str) -> str:
    """Return a digest of the names, sizes and modification times of a package's files."""
    root = Path(__file__).parents[1] / package
    states = [
        (path.relative_to(root).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*"))
        if path.is_file() and path.suffix != ".pyc"
    ]
    return hashlib.sha256(repr(states).encode()).hexdigest()
