"""Names, numbers and weights of the elements."""

from functools import cache

import xraylib

from underpaint.errors import SampleError


@cache
def atomic_number(symbol: str) -> int:
    """Return the atomic number of an element.

    Raises
    ------
    SampleError
        There is no such element.
    """
    try:
        return int(xraylib.SymbolToAtomicNumber(symbol))
    except ValueError as error:
        raise SampleError(
            f"No element has the symbol {symbol!r}; write it as in the periodic table, e.g. 'Pb'."
        ) from error


@cache
def symbol(number: int) -> str:
    """Return the symbol of an element by its atomic number."""
    return str(xraylib.AtomicNumberToSymbol(number))


@cache
def atomic_weight(name: str) -> float:
    """Return the atomic weight of an element, g/mol (xraylib)."""
    return float(xraylib.AtomicWeight(atomic_number(name)))
