"""Parser of chemical formulas with hydrates, brackets, dots and decimal counts."""

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
        Formula such as ``2PbCO3.Pb(OH)2``, ``Fe4[Fe(CN)6]3.14H2O`` or ``Pb2SnSbO6.5``. Parts are joined by ``.``, ``·``
        or ``*``; a number before a part multiplies the part. Counts and multipliers may be decimal. A dot between
        digits is a decimal point inside brackets (``Pb(Sn0.5Si0.5)O3``), in a multiplier (``CaSO4·0.5H2O``), and where
        the digits are followed by the end, a bracket or a dot (``O6.5``); otherwise it joins two parts (``3.14H2O``).
        ``CaSO4.0.5H2O`` is ambiguous and refused.

    Returns
    -------
    dict
        Number of atoms by element symbol, in the order of the formula.

    Raises
    ------
    FormulaError
        The formula is not valid; the message marks the position of the error.

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
    return _FormulaParser(text).parse()


@cache
def _cached_fractions(formula: str) -> tuple[tuple[str, float], ...]:
    weights = {name: n_atoms * atomic_weight(name) for name, n_atoms in parse_formula(formula).items()}
    total = sum(weights.values())
    return tuple((name, weight / total) for name, weight in weights.items())


def mass_fractions(formula: str) -> dict[str, float]:
    """Return the mass fraction of each element of a formula; atomic weights are from xraylib."""
    return dict(_cached_fractions(formula))


class _FormulaParser:
    """Recursive-descent parser of one formula."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._position = 0
        self._depth = 0

    def parse(self) -> dict[str, float]:
        total: dict[str, float] = {}
        while True:
            factor = self._parse_number(always_decimal=True)
            _add_atoms(total, self._parse_part(closing=""), 1.0 if factor is None else factor)
            if self._position == len(self._text):
                return total
            if self._text[self._position] not in DOTS:
                self._fail("expected an element, a bracket or a dot")
            self._position += 1

    def _parse_part(self, closing: str) -> dict[str, float]:
        atoms: dict[str, float] = {}
        start = self._position
        while self._position < len(self._text) and self._text[self._position] not in DOTS + CLOSING:
            _add_atoms(atoms, self._parse_unit(), 1.0)
        if self._position == start:
            self._fail("expected an element or an opening bracket")
        if not closing and self._position < len(self._text) and self._text[self._position] in CLOSING:
            self._fail("this bracket was never opened")
        return atoms

    def _parse_unit(self) -> dict[str, float]:
        in_brackets = self._text[self._position] in OPENING
        atoms = self._parse_bracket() if in_brackets else {self._parse_element(): 1.0}
        count = self._parse_number(always_decimal=self._depth > 0)
        return atoms if count is None else {name: number * count for name, number in atoms.items()}

    def _parse_bracket(self) -> dict[str, float]:
        opening_position = self._position
        closing = CLOSING[OPENING.index(self._text[opening_position])]
        self._position += 1
        self._depth += 1
        atoms = self._parse_part(closing)
        self._depth -= 1
        if self._position == len(self._text) or self._text[self._position] != closing:
            self._position = opening_position
            self._fail(f"this bracket is not closed by '{closing}'")
        self._position += 1
        return atoms

    def _parse_element(self) -> str:
        next_characters = self._text[self._position : self._position + 2]
        for length in (2, 1):
            candidate = next_characters[:length]
            if (
                len(candidate) == length
                and candidate.isalpha()
                and candidate[0].isupper()
                and candidate[1:].islower() | (length == 1)
            ):
                try:
                    atomic_weight(candidate)
                except SampleError:
                    continue
                self._position += length
                return candidate
        return self._fail("expected an element's symbol")

    def _parse_number(self, *, always_decimal: bool) -> float | None:
        end = self._end_of_digits(self._position)
        if end == self._position:
            return None
        if self._text[end : end + 1] == ".":
            decimal_end = self._end_of_digits(end + 1)
            if (
                self._text[decimal_end : decimal_end + 1] == "."
                and self._end_of_digits(decimal_end + 1) > decimal_end + 1
            ):
                self._fail("two dots between numbers; write '·' between the parts")
            ends_here = decimal_end == len(self._text) or self._text[decimal_end] in DOTS + CLOSING + OPENING
            if decimal_end > end + 1 and (always_decimal or ends_here):
                end = decimal_end
        value = float(self._text[self._position : end])
        if value == 0:
            self._fail("a count of zero")
        if value > _MAX_COUNT:
            self._fail(f"a count above {_MAX_COUNT:g}")
        self._position = end
        return value

    def _end_of_digits(self, start: int) -> int:
        end = start
        while end < len(self._text) and self._text[end] in "0123456789":
            end += 1
        return end

    def _fail(self, reason: str) -> NoReturn:
        raise FormulaError(
            f"Cannot read the formula at character {self._position + 1}: {reason}.\n"
            f"  {self._text}\n  {' ' * self._position}^"
        )


def _add_atoms(total: dict[str, float], atoms: dict[str, float], factor: float) -> None:
    for name, n_atoms in atoms.items():
        total[name] = total.get(name, 0.0) + factor * n_atoms
