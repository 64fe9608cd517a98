"""Text files that list the energies or wavelengths of a stack, one number per line."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.io._energies import last_number
from underpaint.io._source import entries_inside, try_read

_MAX_LIST_BYTES = 2**22


def list_beside(
    folder: Path, stem: str, list_name: str | None, source: str, quantity_names: tuple[str, str]
) -> Path | None:
    """Return the path of a stack's list of energies or wavelengths, or None if there is none.

    Parameters
    ----------
    folder : Path
        Folder of the stack, where ``STEM.txt``, ``STEM.csv``, ``STEM_QUANTITY.txt`` and ``QUANTITY.txt`` are searched
        in this order.
    stem : str
    list_name : str or None
        Name of the list in the folder, or its path. If None, the folder is searched.
    source : str
        Name of the stack in error messages.
    quantity_names : (str, str)
        Plural and singular of the listed quantity, such as ``("energies", "energy")``.

    Raises
    ------
    ScanError
        The named list does not exist, or the list is a link out of the folder.
    """
    if list_name is not None:
        named_list = next((path for path in (folder / list_name, Path(list_name)) if path.is_file()), None)
        if named_list is None:
            raise ScanError(
                f"Cannot read {source}: the list of {quantity_names[0]} {list_name} is neither in its folder nor a "
                "path. Correct it."
            )
        return named_list
    file_names = (
        f"{stem}.txt",
        f"{stem}.csv",
        *(f"{stem}_{quantity_name}.txt" for quantity_name in quantity_names),
        *(f"{quantity_name}.txt" for quantity_name in quantity_names),
    )
    candidate_files = (folder / file_name for file_name in file_names)
    return next(iter(entries_inside(folder, [path for path in candidate_files if path.is_file()])), None)


def read_list(path: Path, quantity_names: tuple[str, str]) -> tuple[NDArray[np.float64], list[str]]:
    """Return the last number of each line, and the first three lines of text, which may state the unit.

    Raises
    ------
    ScanError
        The file is larger than 4 MiB or contains no number.
    """
    if path.stat().st_size > _MAX_LIST_BYTES:
        raise ScanError(
            f"Cannot read {path}: {path.stat().st_size} bytes are too many for a list of {quantity_names[0]}, "
            "which has one "
            f"number per line and at most {_MAX_LIST_BYTES} bytes. Rename or correct the file."
        )
    text_lines = try_read(path.read_bytes, str(path)).decode("utf-8", "replace").splitlines()
    listed_numbers = [listed_number for listed_number in map(last_number, text_lines) if listed_number is not None]
    if not listed_numbers:
        raise ScanError(f"Cannot read {path}: it holds no {quantity_names[0]}. Write one number in each line.")
    return np.array(listed_numbers), text_lines[:3]
