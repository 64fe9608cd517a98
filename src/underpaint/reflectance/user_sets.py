"""Sets of measured spectra that the user added. Each set is a file in the user's data folder."""

import os
import re
from pathlib import Path

from platformdirs import user_data_path

from underpaint.errors import OutputError
from underpaint.reflectance.library import ReflectanceLibrary, read

FOLDER_VARIABLE = "UNDERPAINT_DATA"
"""Environment variable with the path of a folder to use instead of the user's default data folder."""
_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")


def sets_folder() -> Path:
    """Return the path of the folder for the user's sets, which may not exist yet."""
    data_folder = os.environ.get(FOLDER_VARIABLE)
    return (Path(data_folder) if data_folder else user_data_path("underpaint", appauthor=False)) / "reflectance"


def user_sets() -> dict[str, Path]:
    """Return a mapping from the name of each user set to its file."""
    folder = sets_folder()
    return {path.stem: path for path in sorted(folder.glob("*.npz"))} if folder.is_dir() else {}


def add_set(path: str | Path, name: str, *, overwrite: bool = False) -> ReflectanceLibrary:
    """Store a set of measured spectra under a name. From then on, all cubes are also compared with this set.

    Parameters
    ----------
    path : str or Path
        File in a format that :func:`underpaint.reflectance.read` reads.
    name : str
        Name of the set: up to 60 letters, digits, ``-`` and ``_``.
    overwrite : bool
        Whether an existing set of this name may be replaced.

    Returns
    -------
    ReflectanceLibrary
        The spectra in the file.

    Raises
    ------
    ScanError
        The file does not hold reflectance spectra.
    OutputError
        The name is invalid or already used, or the folder cannot be written.
    """
    if not _NAME_PATTERN.fullmatch(name):
        raise OutputError(
            f"Cannot store a set called {name[:60]!r}: a name has up to 60 letters, digits, '-' and '_'. Give another "
            "name with --name."
        )
    spectra = read(path)
    folder = sets_folder()
    set_path = folder / f"{name}.npz"
    if set_path.exists() and not overwrite:
        raise OutputError(
            f"Cannot store the set {name!r}: a set of this name exists ({set_path}). Give another name with --name, or "
            "add --overwrite."
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(
            f"Cannot store the set {name!r} in {folder}: {error.strerror}. Set {FOLDER_VARIABLE} to a folder that you "
            "can write to."
        ) from error
    spectra.save(set_path, overwrite=overwrite)
    return spectra
