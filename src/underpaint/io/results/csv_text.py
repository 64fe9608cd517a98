"""CSV as it is written here: no cell of it is a formula to the spreadsheet that opens it."""

import csv
import re
from collections.abc import Iterable
from typing import Any

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|[+-]?(inf|nan)")
_FORMULA = re.compile(r"(^|[;\t\r\n])(?=\s*[=+\-@\uff1d\uff0b\uff0d\uff20]|[\t\r\n])")
"""Also after what parts cells in the spreadsheets of countries that write 0,5."""


def write_csv(stream: Any, rows: Iterable[Iterable[Any]], line_end: str = "\r\n") -> None:
    """Write rows as CSV; text that a spreadsheet would take for a formula gets an apostrophe before it.

    Names of files, regions and pigments come from others, and a formula can send what stands in a table to a server.

    Parameters
    ----------
    stream : text file
        Opened with ``newline=""``.
    rows : iterable of iterables
        Cells: numbers, also as text, are written as they are; None is an empty cell.
    line_end : str
    """
    csv.writer(stream, lineterminator=line_end).writerows([_cell(value) for value in row] for row in rows)


def _cell(value: Any) -> Any:
    if value is None or isinstance(value, int | float):
        return value
    text = str(value)
    return text if _NUMBER.fullmatch(text) else _FORMULA.sub(r"\1'", text)
