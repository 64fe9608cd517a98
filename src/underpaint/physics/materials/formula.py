"""Chemical formulas: hydrates, brackets, dots and decimal counts."""

from functools import cache
from typing import NoReturn

from underpaint.errors import FormulaError, SampleError
from underpaint.physics.atomic import atomic_weight

OPENING, CLOSING, DOTS = "([", ")]", ".·*"
MAX_CHARACTERS = 200
_MAX_COUNT = 1e6


def parse_formula(formula: str) -> dict[str, float]:
    """Count the atoms of a formula.

    Parameters
    ----------
    formula : str
        ``2PbCO3.Pb(OH)2``, ``Fe4[Fe(CN)6]3.14H2O``, ``Pb2SnSbO6.5``: parts are joined by ``.``, ``·`` or ``*``, a
        number before a part multiplies it, both may be decimal. Outside brackets a dot between digits is a decimal
        point if the digits are followed by the end, a bracket or a dot (``O6.5``), and otherwise joins two parts
        (``3.14H2O``); inside brackets (``Pb(Sn0.5Si0.5)O3``) and before a part (``CaSO4·0.5H2O``) it is always a
        decimal point. ``CaSO4.0.5H2O`` could mean either and is refused.

    Returns
    -------
    dict
        Atoms by element symbol, in the order of their first mention.

    Raises
    ------
    FormulaError
        The formula is wrong; the message points at the place.

    Examples
    --------
    >>> parse_formula("CaSO4.2H2O")
    {'Ca': 1.0, 'S': 1.0, 'O': 6.0, 'H': 4.0}
    """
    text = formula.strip()
    if not text:
        raise FormulaError("Cannot read an empty formula; write it as 'PbCO3'.")
    if len(text) > MAX_CHARACTERS:
        raise FormulaError(f"Cannot read a formula of {len(text)} characters; up to {MAX_CHARACTERS} are allowed.")
    return _Parser(text).parse()


@cache
def _fractions(formula: str) -> tuple[tuple[str, float], ...]:
    weights = {name: count * atomic_weight(name) for name, count in parse_formula(formula).items()}
    total = sum(weights.values())
    return tuple((name, weight / total) for name, weight in weights.items())


def mass_fractions(formula: str) -> dict[str, float]:
    """Return the mass fraction of each element of a formula (they sum to one; weights from xraylib)."""
    return dict(_fractions(formula))


class _Parser:
    """Recursive descent over one formula."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def parse(self) -> dict[str, float]:
        total: dict[str, float] = {}
        while True:
            factor = self._number(always_decimal=True)
            _add(total, self._sequence(closing=""), 1.0 if factor is None else factor)
            if self._at == len(self._text):
                return total
            if self._text[self._at] not in DOTS:
                self._fail("expected an element, a bracket or a dot")
            self._at += 1

    def _sequence(self, closing: str) -> dict[str, float]:
        atoms: dict[str, float] = {}
        start = self._at
        while self._at < len(self._text) and self._text[self._at] not in DOTS + CLOSING:
            _add(atoms, self._unit(), 1.0)
        if self._at == start:
            self._fail("expected an element or an opening bracket")
        if not closing and self._at < len(self._text) and self._text[self._at] in CLOSING:
            self._fail("this bracket was never opened")
        return atoms

    def _unit(self) -> dict[str, float]:
        in_brackets = self._text[self._at] in OPENING
        atoms = self._bracket() if in_brackets else {self._element(): 1.0}
        count = self._number(always_decimal=self._depth > 0)
        return atoms if count is None else {name: number * count for name, number in atoms.items()}

    def _bracket(self) -> dict[str, float]:
        opened = self._at
        closing = CLOSING[OPENING.index(self._text[opened])]
        self._at += 1
        self._depth += 1
        atoms = self._sequence(closing)
        self._depth -= 1
        if self._at == len(self._text) or self._text[self._at] != closing:
            self._at = opened
            self._fail(f"this bracket is never closed by '{closing}'")
        self._at += 1
        return atoms

    def _element(self) -> str:
        rest = self._text[self._at : self._at + 2]
        for length in (2, 1):
            name = rest[:length]
            if len(name) == length and name.isalpha() and name[0].isupper() and name[1:].islower() | (length == 1):
                try:
                    atomic_weight(name)
                except SampleError:
                    continue
                self._at += length
                return name
        return self._fail("expected an element's symbol")

    def _number(self, *, always_decimal: bool) -> float | None:
        end = self._digits(self._at)
        if end == self._at:
            return None
        if self._text[end : end + 1] == ".":
            after = self._digits(end + 1)
            if self._text[after : after + 1] == "." and self._digits(after + 1) > after + 1:
                self._fail("two dots between numbers; write '·' between the parts")
            ends_here = after == len(self._text) or self._text[after] in DOTS + CLOSING + OPENING
            if after > end + 1 and (always_decimal or ends_here):
                end = after
        value = float(self._text[self._at : end])
        if value == 0:
            self._fail("a count of zero")
        if value > _MAX_COUNT:
            self._fail(f"a count above {_MAX_COUNT:g}")
        self._at = end
        return value

    def _digits(self, start: int) -> int:
        end = start
        while end < len(self._text) and self._text[end] in "0123456789":
            end += 1
        return end

    def _fail(self, reason: str) -> NoReturn:
        raise FormulaError(
            f"Cannot read the formula at character {self._at + 1}: {reason}.\n  {self._text}\n  {' ' * self._at}^"
        )


def _add(total: dict[str, float], part: dict[str, float], factor: float) -> None:
    for name, count in part.items():
        total[name] = total.get(name, 0.0) + factor * count
