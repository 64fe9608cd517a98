"""What an atom does: edges, lines, yields and cross sections as plain arrays, from xraylib."""

from underpaint.atomic.elements import atomic_number, atomic_weight, symbol
from underpaint.atomic.lines import SHELLS, LineTable, edge_energy, family_lines, line_table
from underpaint.atomic.tables import (
    AtomicTables,
    ScatterTables,
    atomic_tables,
    compound_attenuation,
    compton_energy,
    compton_width,
    line_production,
    mass_attenuation,
    scatter_tables,
)

__all__ = [
    "SHELLS",
    "AtomicTables",
    "LineTable",
    "ScatterTables",
    "atomic_number",
    "atomic_tables",
    "atomic_weight",
    "compound_attenuation",
    "compton_energy",
    "compton_width",
    "edge_energy",
    "family_lines",
    "line_production",
    "line_table",
    "mass_attenuation",
    "scatter_tables",
    "symbol",
]
