"""In the user's cache folder, keep arrays that take seconds to compute and depend on few settings."""

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
"""Maximum number of cached files, each of a few MB. The least recently read files are removed first."""


def cached_arrays(
    file_prefix: str, settings: Mapping[str, Any], packages: tuple[str, ...], compute_arrays: Callable[[], Arrays]
) -> Arrays:
    """Return the arrays that ``compute_arrays`` computes, from the cache if possible.

    Parameters
    ----------
    file_prefix : str
        Prefix of the file name.
    settings : mapping
        JSON-serialisable settings on which the arrays depend.
    packages : tuple of str
        Packages of underpaint on which the arrays depend. Cached arrays become invalid when a file in these packages
        changes.
    compute_arrays : callable
        Function that returns the arrays by name.

    Notes
    -----
    The cache folder may be removed at any time. Nothing is cached if the folder cannot be read or written.

    Examples
    --------
    >>> import numpy as np
    >>> cached_arrays("squares", {"n": 3}, (), lambda: {"square": np.arange(3) ** 2})["square"].tolist()
    [0, 1, 4]
    """
    dependency_text = json.dumps(
        [settings, __version__, np.__version__, [_package_digest(package) for package in packages]], sort_keys=True
    )
    path = cache_folder() / f"{file_prefix}-{hashlib.sha256(dependency_text.encode()).hexdigest()[:20]}.npz"
    with suppress(OSError, ValueError, KeyError, EOFError, BadZipFile):
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            arrays = {key: archive[key] for key in archive.files}
        os.utime(path)
        return arrays
    arrays = compute_arrays()
    with suppress(OSError, OutputError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path) as temporary_path, temporary_path.open("wb") as output_stream:
            np.savez(output_stream, **arrays)  # type: ignore[arg-type]
        remove_oldest(cache_folder(), f"{file_prefix}-*.npz", MAX_FILES)
    return arrays


def cache_folder() -> Path:
    """Return the cache folder: ``~/.cache/underpaint`` on Linux, and the equivalent on other systems."""
    return user_cache_path("underpaint", appauthor=False)


def remove_oldest(folder: Path, pattern: str, max_files: int) -> None:
    """Remove all but the ``max_files`` newest files that match a pattern."""
    paths_by_age = sorted(folder.glob(pattern), key=lambda path: path.stat().st_mtime)
    for path in paths_by_age[:-max_files]:
        with suppress(OSError):  # on Windows, a file may be open in another process
            path.unlink(missing_ok=True)


@cache
def _package_digest(package: str) -> str:
    """Return a digest of the names, sizes and modification times of a package's files."""
    package_folder = Path(__file__).parents[1] / package
    file_states = [
        (path.relative_to(package_folder).as_posix(), path.stat().st_size, path.stat().st_mtime_ns)
        for path in sorted(package_folder.rglob("*"))
        if path.is_file() and path.suffix != ".pyc"
    ]
    return hashlib.sha256(repr(file_states).encode()).hexdigest()
