"""Symbols, atomic numbers and atomic weights of the elements."""

from functools import cache

import xraylib

from underpaint.errors import SampleError


@cache
def atomic_number(symbol: str) -> int:
    """Return the atomic number of an element.

    Raises
    ------
    SampleError
        No element has this symbol.
    """
    try:
        return int(xraylib.SymbolToAtomicNumber(symbol))
    except ValueError as error:
        raise SampleError(
            f"No element has the symbol {symbol!r}; write it as in the periodic table, such as 'Pb'."
        ) from error


@cache
def symbol(z: int) -> str:
    """Return the symbol of the element with atomic number ``z``."""
    return str(xraylib.AtomicNumberToSymbol(z))


@cache
def atomic_weight(element: str) -> float:
    """Return the atomic weight of an element in g/mol (xraylib)."""
    return float(xraylib.AtomicWeight(atomic_number(element)))
