"""What an atom does: edges, lines, yields and cross sections as plain arrays, from xraylib."""

from underpaint.physics.atomic.elements import atomic_number, atomic_weight, symbol
from underpaint.physics.atomic.lines import (
    SHELLS,
    LineTable,
    edge_energy,
    family_lines,
    line_labels,
    line_table,
    siegbahn,
)
from underpaint.physics.atomic.tables import (
    AtomicTables,
    atomic_tables,
    compound_attenuation,
    compton_energy,
    differential_scatter,
    line_production,
    mass_attenuation,
    profile_integrals,
    profile_mixture,
    scattering_momentum,
    total_scatter,
)

__all__ = [
    "SHELLS",
    "AtomicTables",
    "LineTable",
    "atomic_number",
    "atomic_tables",
    "atomic_weight",
    "compound_attenuation",
    "compton_energy",
    "differential_scatter",
    "edge_energy",
    "family_lines",
    "line_labels",
    "line_production",
    "line_table",
    "mass_attenuation",
    "profile_integrals",
    "profile_mixture",
    "scattering_momentum",
    "siegbahn",
    "symbol",
    "total_scatter",
]
