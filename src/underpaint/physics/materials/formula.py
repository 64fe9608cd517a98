"""Parser of chemical formulas with hydrates, brackets, dots and decimal counts."""

from functools import cache
from typing import NoReturn

from underpaint.errors import FormulaError, SampleError
from underpaint.physics.atomic import atomic_weight

OPENING_BRACKETS, CLOSING_BRACKETS, PART_SEPARATORS = "([", ")]", ".·*"
MAX_FORMULA_CHARACTERS = 200
_MAX_ATOM_COUNT = 1e6


def parse_formula(formula: str) -> dict[str, float]:
    """Count the atoms of a formula.

    Parameters
    ----------
    formula : str
        Formula such as ``2PbCO3.Pb(OH)2``, ``Fe4[Fe(CN)6]3.14H2O`` or ``Pb2SnSbO6.5``. Parts are joined by ``.``, ``·``
        or ``*``. A number before a part multiplies the part. Counts and multipliers may be decimal. A dot between
        digits is a decimal point inside brackets (``Pb(Sn0.5Si0.5)O3``) and in multipliers (``CaSO4·0.5H2O``). It is
        also a decimal point before a bracket, a dot or the end (``O6.5``). Any other dot joins two parts (``3.14H2O``).
        ``CaSO4.0.5H2O`` is ambiguous and raises an error.

    Returns
    -------
    dict
        Number of atoms by element symbol, in the order of the formula.

    Raises
    ------
    FormulaError
        The formula is not valid. The message marks the position of the error.

    Examples
    --------
    >>> parse_formula("CaSO4.2H2O")
    {'Ca': 1.0, 'S': 1.0, 'O': 6.0, 'H': 4.0}
    """
    formula_text = formula.strip()
    if not formula_text:
        raise FormulaError("Cannot read an empty formula; write it as 'PbCO3'.")
    if len(formula_text) > MAX_FORMULA_CHARACTERS:
        raise FormulaError(
            f"Cannot read a formula of {len(formula_text)} characters; up to {MAX_FORMULA_CHARACTERS} are allowed."
        )
    return _FormulaParser(formula_text).parse()


@cache
def _cached_mass_fractions(formula: str) -> tuple[tuple[str, float], ...]:
    element_masses = {element: n_atoms * atomic_weight(element) for element, n_atoms in parse_formula(formula).items()}
    total_mass = sum(element_masses.values())
    return tuple((element, element_mass / total_mass) for element, element_mass in element_masses.items())


def mass_fractions(formula: str) -> dict[str, float]:
    """Return the mass fraction of each element in a compound; atomic weights are from xraylib."""
    return dict(_cached_mass_fractions(formula))


class _FormulaParser:
    """Recursive-descent parser of one formula."""

    def __init__(self, formula_text: str) -> None:
        self._text = formula_text
        self._position = 0
        self._depth = 0

    def parse(self) -> dict[str, float]:
        total_atoms: dict[str, float] = {}
        while True:
            multiplier = self._parse_number(always_decimal=True)
            _add_atoms(total_atoms, self._parse_part(closing_bracket=""), 1.0 if multiplier is None else multiplier)
            if self._position == len(self._text):
                return total_atoms
            if self._text[self._position] not in PART_SEPARATORS:
                self._raise_error("expected an element, a bracket or a dot")
            self._position += 1

    def _parse_part(self, closing_bracket: str) -> dict[str, float]:
        atoms: dict[str, float] = {}
        start_position = self._position
        while self._position < len(self._text) and self._text[self._position] not in PART_SEPARATORS + CLOSING_BRACKETS:
            _add_atoms(atoms, self._parse_unit(), 1.0)
        if self._position == start_position:
            self._raise_error("expected an element or an opening bracket")
        if not closing_bracket and self._position < len(self._text) and self._text[self._position] in CLOSING_BRACKETS:
            self._raise_error("this bracket was never opened")
        return atoms

    def _parse_unit(self) -> dict[str, float]:
        is_bracket = self._text[self._position] in OPENING_BRACKETS
        atoms = self._parse_bracket() if is_bracket else {self._parse_element(): 1.0}
        multiplier = self._parse_number(always_decimal=self._depth > 0)
        return atoms if multiplier is None else {element: n_atoms * multiplier for element, n_atoms in atoms.items()}

    def _parse_bracket(self) -> dict[str, float]:
        opening_position = self._position
        closing_bracket = CLOSING_BRACKETS[OPENING_BRACKETS.index(self._text[opening_position])]
        self._position += 1
        self._depth += 1
        atoms = self._parse_part(closing_bracket)
        self._depth -= 1
        if self._position == len(self._text) or self._text[self._position] != closing_bracket:
            self._position = opening_position
            self._raise_error(f"this bracket is not closed by '{closing_bracket}'")
        self._position += 1
        return atoms

    def _parse_element(self) -> str:
        next_characters = self._text[self._position : self._position + 2]
        for symbol_length in (2, 1):
            possible_symbol = next_characters[:symbol_length]
            if (
                len(possible_symbol) == symbol_length
                and possible_symbol.isalpha()
                and possible_symbol[0].isupper()
                and possible_symbol[1:].islower() | (symbol_length == 1)
            ):
                try:
                    atomic_weight(possible_symbol)
                except SampleError:
                    continue
                self._position += symbol_length
                return possible_symbol
        return self._raise_error("expected an element's symbol")

    def _parse_number(self, *, always_decimal: bool) -> float | None:
        end_position = self._end_of_digits(self._position)
        if end_position == self._position:
            return None
        if self._text[end_position : end_position + 1] == ".":
            decimal_end_position = self._end_of_digits(end_position + 1)
            if (
                self._text[decimal_end_position : decimal_end_position + 1] == "."
                and self._end_of_digits(decimal_end_position + 1) > decimal_end_position + 1
            ):
                self._raise_error("two dots between numbers; write '·' between the parts")
            is_part_end = (
                decimal_end_position == len(self._text)
                or self._text[decimal_end_position] in PART_SEPARATORS + CLOSING_BRACKETS + OPENING_BRACKETS
            )
            if decimal_end_position > end_position + 1 and (always_decimal or is_part_end):
                end_position = decimal_end_position
        atom_count = float(self._text[self._position : end_position])
        if atom_count == 0:
            self._raise_error("a count of zero")
        if atom_count > _MAX_ATOM_COUNT:
            self._raise_error(f"a count above {_MAX_ATOM_COUNT:g}")
        self._position = end_position
        return atom_count

    def _end_of_digits(self, start_position: int) -> int:
        end_position = start_position
        while end_position < len(self._text) and self._text[end_position] in "0123456789":
            end_position += 1
        return end_position

    def _raise_error(self, reason: str) -> NoReturn:
        raise FormulaError(
            f"Cannot read the formula at character {self._position + 1}: {reason}.\n"
            f"  {self._text}\n  {' ' * self._position}^"
        )


def _add_atoms(total_atoms: dict[str, float], atoms: dict[str, float], multiplier: float) -> None:
    for element, n_atoms in atoms.items():
        total_atoms[element] = total_atoms.get(element, 0.0) + multiplier * n_atoms
