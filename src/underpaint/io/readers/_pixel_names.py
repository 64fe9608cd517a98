"""Which pixel a spectrum is, by the numbers in its file's name.

- One number that runs (``None_1``, ``scan_0``, behind a date and time or not): pixels in rows, counted from 0 or 1.
- Row and column by name, in any order: ``r000_c001``, ``row1_col2``, ``x12_y03``, ``Y003X012``, ``line3-column4``,
  ``Zeile1_Spalte2``; also positions, ``x0.5_y-1.5``.
- Two numbers at the end, set off from the name (``scan_0001_0002``, ``12-34``): row and column.

Dates and times in names count nothing.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from math import gcd
from typing import Any

_DATE = r"(?:19|20)\d\d([-_.]?)(?:0[1-9]|1[0-2])\1(?:0[1-9]|[12]\d|3[01])"
_TIME = r"(?:[01]\d|2[0-3])([-_.]?)[0-5]\d\2[0-5]\d"
_STAMP = re.compile(rf"(?<!\d){_DATE}(?:[T _-]?{_TIME})?(?!\d)")
_CLOCK = re.compile(r"(?<!\d)(?:[01]\d|2[0-3])[-.][0-5]\d[-.][0-5]\d(?!\d)")
_PLACE = r"[ _=]?(-?)(\d+(?:[.,]\d+)?)"
_ROW = re.compile(rf"(?i)(?<![a-z])(?:row|riga|line|ligne|zeile|reihe|rij|r|y){_PLACE}")
_COLUMN = re.compile(rf"(?i)(?<![a-z])(?:column|colonna|colonne|spalte|kolom|pixel|col|c|x){_PLACE}")
_PAIR = re.compile(r"^(?P<series>(?:.*[ _.-])?)(?P<row>\d+)[ _x,-](?P<column>\d+)$")
_NUMBER = re.compile(r"^(?P<series>.*?)[ _.-]?(?P<number>\d+)$")


@dataclass(frozen=True)
class Series:
    """Files whose names differ in their numbers alone.

    Parameters
    ----------
    places : dict of (int, int) to str
        File names by row and column as counted in the names; those of one running number by (0, number).
    rows_named : bool
        Whether the names say which number is the row.
    in_grid : bool
        Whether the names have a row and a column.
    """

    places: dict[tuple[int, int], str]
    in_grid: bool
    rows_named: bool = False

    @property
    def numbers(self) -> list[int]:
        """Running numbers in order; of a series that is not in a grid."""
        return sorted(number for _, number in self.places)

    def turned(self) -> "Series":
        """Return the series with the first number as the column."""
        return Series({(row, column): name for (column, row), name in self.places.items()}, self.in_grid)


def series_of(names: Iterable[str]) -> tuple[dict[str, Series], list[str]]:
    """Sort file names (with ending) into series by what is left of them without numbers; and those without any."""
    stems = {name: _CLOCK.sub("*", _STAMP.sub("*", name.rpartition(".")[0])) for name in names}
    named, rest = _with_row_and_column(stems)
    paired, rest = _pairs(rest)
    single: dict[str, dict[tuple[int, int], str]] = {}
    odd = []
    for name, stem in rest.items():
        match = _NUMBER.match(stem)
        if match is None or match["series"].lower().startswith("spot"):
            odd.append(name)
        else:
            _put(single, match["series"], (0, int(match["number"])), name, odd)
    running = {key: Series(places, in_grid=False) for key, places in single.items()}
    return {**named, **paired, **running}, odd


def _with_row_and_column(stems: dict[str, str]) -> tuple[dict[str, Series], dict[str, str]]:
    by_name: dict[str, tuple[str, re.Match[str], re.Match[str]]] = {}
    for name, stem in stems.items():
        row, column = _ROW.search(_apart(stem)), _COLUMN.search(_apart(stem))
        if row is not None and column is not None:
            left = _COLUMN.sub("", _ROW.sub("", _apart(stem), count=1), count=1)
            by_name[name] = re.sub(r"\W", "", left).strip("_"), row, column
    rows, columns = (_whole_places([match[side] for match in by_name.values()]) for side in (1, 2))
    matched = {
        name: (left, (row, column))
        for (name, (left, *_)), row, column in zip(by_name.items(), rows, columns, strict=True)
    }
    # A number beside row and column names the series, or runs along: then it is not needed to tell the pixels apart.
    running = len({(re.sub(r"\d", "", left), place) for left, place in matched.values()}) == len(matched)
    groups: dict[str, dict[tuple[int, int], str]] = {}
    odd: list[str] = []
    for name, (left, place) in matched.items():
        _put(groups, re.sub(r"\d+", "", left) if running else left, place, name, odd)
    rest = {name: stem for name, stem in stems.items() if name not in matched or name in odd}
    return {key: Series(places, in_grid=True, rows_named=True) for key, places in groups.items()}, rest


def _whole_places(matches: list[Any]) -> list[int]:
    """Return rows or columns as whole numbers, in the last decimal place that any has; a hyphen of all parts words."""
    is_sign = not all(match[1] for match in matches)
    places = [Decimal(match[2].replace(",", ".")) for match in matches]
    n_decimal = max((-int(place.as_tuple().exponent) for place in places), default=0)
    return [
        int(place.scaleb(n_decimal)) * (-1 if is_sign and match[1] else 1)
        for place, match in zip(places, matches, strict=True)
    ]


def _apart(stem: str) -> str:
    """Part a letter from the number before it, as in Y003X012, so that it begins a word."""
    return re.sub(r"(?<=\d)(?=[A-Za-z])", " ", stem)


def _pairs(stems: dict[str, str]) -> tuple[dict[str, Series], dict[str, str]]:
    """Series of two numbers; where the second runs through all files, it is the pixel's number and the first is not."""
    groups: dict[str, dict[tuple[int, int], str]] = {}
    rest: dict[str, str] = {}
    odd: list[str] = []
    for name, stem in stems.items():
        match = _PAIR.match(stem)
        if match is None or stem.lower().startswith("spot"):
            rest[name] = stem
        else:
            _put(groups, match["series"].rstrip(" _.-"), (int(match["row"]), int(match["column"])), name, odd)
    rest |= {name: stems[name] for name in odd}
    series = {}
    for key, places in groups.items():
        rows, columns = ({place[side] for place in places} for side in (0, 1))
        if len(columns) < len(places):
            series[key] = Series(places, in_grid=True)
        elif len(rows) > 1:
            series[key] = Series({(0, column): name for (_, column), name in places.items()}, in_grid=False)
        else:
            rest |= {name: stems[name] for name in places.values()}
    return series, rest


def _put(
    groups: dict[str, dict[tuple[int, int], str]], key: str, place: tuple[int, int], name: str, odd: list[str]
) -> None:
    """Add a name to its series; one whose place is taken (``a_1`` and ``a_01``) is odd."""
    places = groups.setdefault(key, {})
    if place in places:
        odd.append(name)
    else:
        places[place] = name


def steps_and_origin(values: Iterable[int]) -> tuple[int, int]:
    """Return the step and the first of numbers of rows or columns that may be positions (0, 50, 100)."""
    distinct = sorted(set(values))
    step = 0
    for value in distinct[1:]:
        step = gcd(step, value - distinct[0])
    return step or 1, distinct[0]
