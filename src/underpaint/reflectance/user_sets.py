"""Sets of measured spectra that a user added: a file each in the user's data folder, read beside the package's."""

import os
import re
from pathlib import Path

from platformdirs import user_data_path

from underpaint.errors import OutputError
from underpaint.reflectance.library import ReflectanceLibrary, read

FOLDER_VARIABLE = "UNDERPAINT_DATA"
"""Environment variable with another place for the user's data."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")


def sets_folder() -> Path:
    """Return the folder of the user's sets, which need not exist."""
    base = os.environ.get(FOLDER_VARIABLE)
    return (Path(base) if base else user_data_path("underpaint", appauthor=False)) / "reflectance"


def user_sets() -> dict[str, Path]:
    """Return the files of the user's sets by name."""
    folder = sets_folder()
    return {path.stem: path for path in sorted(folder.glob("*.npz"))} if folder.is_dir() else {}


def add_set(path: str | Path, name: str, *, overwrite: bool = False) -> ReflectanceLibrary:
    """Keep a set of measured spectra under a name, for all later cubes.

    Parameters
    ----------
    path : str or Path
        As for :func:`underpaint.reflectance.read`.
    name : str
        Letters, digits, ``-`` and ``_``.
    overwrite : bool
        Whether a set of this name may be replaced.

    Returns
    -------
    ReflectanceLibrary
        What was read.

    Raises
    ------
    ScanError
        The file is no set of spectra.
    OutputError
        The name cannot be, or is taken; or the folder cannot be written.
    """
    if not _NAME.fullmatch(name):
        raise OutputError(
            f"Cannot keep a set called {name[:60]!r}: names have up to 60 letters, digits, '-' and '_'. Give another "
            "with --name."
        )
    spectra = read(path)
    folder = sets_folder()
    target = folder / f"{name}.npz"
    if target.exists() and not overwrite:
        raise OutputError(
            f"Cannot keep the set {name!r}: there is one of this name ({target}). Give another with --name, or add "
            "--overwrite."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"Cannot keep the set {name!r} in {folder}: {error.strerror}. Set {FOLDER_VARIABLE} to a folder where you "
            "may write."
        ) from error
    spectra.save(target, overwrite=overwrite)
    return spectra
