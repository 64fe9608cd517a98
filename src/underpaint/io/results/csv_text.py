"""Writing of CSV files in which spreadsheets find no formulas."""

import csv
import re
from collections.abc import Iterable
from typing import Any

_NUMBER_PATTERN = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")
_FORMULA_PATTERN = re.compile(r"(^|[;\t\r\n])(?=\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])")
"""Pattern of the beginning of a formula in a cell. In countries with decimal commas, semicolons also separate cells."""


def write_csv(stream: Any, rows: Iterable[Iterable[Any]], line_end: str = "\r\n") -> None:
    """Write rows as CSV. An apostrophe is put before text that a spreadsheet would read as a formula.

    Names of files, regions and pigments can be formulas, which can send the content of a table to a server.

    Parameters
    ----------
    stream : text file
        File to write, opened with ``newline=""``.
    rows : iterable of iterables
        Cells of each row, where None is an empty cell. Numbers, and texts that are numbers, are written unchanged.
    line_end : str
        Characters that end a line.
    """
    csv.writer(stream, lineterminator=line_end).writerows([_safe_cell(cell) for cell in row] for row in rows)


def _safe_cell(cell: Any) -> Any:
    if cell is None or isinstance(cell, int | float):
        return cell
    cell_text = str(cell)
    return cell_text if _NUMBER_PATTERN.fullmatch(cell_text) else _FORMULA_PATTERN.sub(r"\1'", cell_text)
