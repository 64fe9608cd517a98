"""The transport against fisx, line by line, with fisx's own atomic tables fed in; then with xraylib's.

    python benchmarks/fisx_tables.py --json FILE [--reference fisx_layers.json] [--all-lines]

The reference file holds six stratigraphies computed with fisx 1.3.2 (primary, secondary by fluorescence, and
enhancement by coherently scattered beam apart). fisx is needed for its tables: pip install underpaint[pymca].

With xraylib's tables K families agree within 0.5 %, and L families of heavy elements are 1 to 2 % stronger:
they hold L3-O4,5, which fisx lacks. Where others do not agree, cross sections of the shells still do
(0.3 %), and it is the fluorescence yields that differ: Sn L by -7 % (L3: 0.067 in xraylib, 0.072 in fisx), Hg M by
+4 to +9 % (M2: 0.033 against 0.0037). Co K under chrome yellow differs by -2 %: chromium attenuates 1.4 % more.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from underpaint.physics.atomic import AtomicTables, LineTable, atomic_number
from underpaint.physics.forward import Detail, emit
from underpaint.physics.instrument import Geometry, Instrument, SourceSpectrum
from underpaint.physics.materials import Layer, Stratigraphy

REFERENCE = Path(__file__).resolve().parents[2] / "shared" / "reference" / "fisx_layers.json"
HARD_KEV = 4.0
"""Lines below are called soft: Sn L, Hg M and Pb M, where fisx and a converged depth integral differ."""


def main() -> None:
    """Compare, print the worst lines, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--reference", type=Path, default=REFERENCE)
    parser.add_argument("--all-lines", action="store_true", help="print every line, not the worst of each case")
    arguments = parser.parse_args()
    reference = json.loads(arguments.reference.read_text("utf-8"))
    rows = [row for name, case in reference["cases"].items() for row in compare(name, case, reference["beam"])]
    result = summary(rows) | {"lines": rows}
    show(rows, result, all_rows=arguments.all_lines)
    arguments.json.write_text(json.dumps(result, indent=1), "utf-8")


def compare(name: str, case: dict[str, Any], beam: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Return one row per line of a stratigraphy with the relative differences."""
    layers = [_layer(entry) for entry in case["layers_top_down"]]
    instrument = Instrument(
        source_spectrum=SourceSpectrum(energy_kev=tuple(beam["energy_kev"]), weight=tuple(beam["weight"])),
        geometry=Geometry(incidence_angle_deg=60.0, takeoff_angle_deg=60.0, source_air_cm=0.0, detector_air_cm=0.0),
    )
    stratigraphy = Stratigraphy(tuple(layers), name)
    tables = fisx_tables(sorted({element for layer in layers for element in layer.mass_fractions}), beam["energy_kev"])
    ours = emit([stratigraphy], instrument, tables=tables, detail=Detail(weakest_exciting=2e-5, cells=16))
    kissel = emit([stratigraphy], instrument)
    rows = []
    for line, expected in case["lines"].items():
        if line.replace(" ", "-") not in ours.lines.name:
            continue
        index = ours.lines.name.index(line.replace(" ", "-"))
        primary, secondary = ours.primary[0, :, index].sum(), ours.secondary[0, :, index].sum()
        rows.append(
            {
                "case": name,
                "line": line,
                "energy_kev": expected["energy_kev"],
                "several_layers": len({index for index, layer in enumerate(layers) if _shines(layer)}) > 1,
                "primary": primary,
                "primary_rel": primary / expected["primary"] - 1.0,
                "secondary_share": expected["secondary"] / expected["primary"],
                "secondary_rel": secondary / expected["secondary"] - 1.0 if expected["secondary"] > 0 else None,
                "secondary_rel_of_line": (secondary - expected["secondary"])
                / (expected["primary"] + expected["secondary"]),
                "xraylib_family_rel": _family_difference(ours, kissel, line),
            }
        )
    return rows


def fisx_tables(elements: list[str], energies: list[float]) -> AtomicTables:
    """Return fisx's tables (as PyMca sets them up) in the form that the transport takes."""
    from fisx import DataDir, Elements

    data = Elements(DataDir.FISX_DATA_DIR)
    data.initializeAsPyMca()
    grid = [float(value) for value in energies]
    rows = [
        (element, line, entry["energy"])
        for element in elements
        for line, entry in data.getExcitationFactors(element, [max(grid)], [1.0]).items()
        if entry["energy"] > 1.0 and entry["rate"] > 0
    ]
    line_energies = [energy for _, _, energy in rows]
    return AtomicTables(
        tuple(elements),
        np.asarray(grid),
        LineTable(
            np.asarray([atomic_number(element) for element, _, _ in rows]),
            tuple(f"{element}-{line}" for element, line, _ in rows),
            tuple(f"{element}_{line[0]}" for element, line, _ in rows),
            np.zeros(len(rows), dtype=np.int64),
            np.asarray(line_energies),
            np.ones(len(rows)),
        ),
        np.asarray([elements.index(element) for element, _, _ in rows]),
        _attenuation(data, elements, grid),
        _attenuation(data, elements, line_energies),
        _production(data, elements, rows, grid),
        _production(data, elements, rows, line_energies),
    )


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the figures that the README prints."""
    strong = [row for row in rows if row["secondary_share"] > 0.01]
    soft = [row for row in strong if row["several_layers"] and row["energy_kev"] < HARD_KEV]
    hard = [row for row in strong if row not in soft]
    return {
        "primary_max_rel": max(abs(row["primary_rel"]) for row in rows),
        "secondary_max_rel": max(abs(row["secondary_rel"]) for row in hard),
        "secondary_max_rel_soft_between_layers": max((abs(row["secondary_rel"]) for row in soft), default=None),
        "secondary_max_rel_of_line": max(abs(row["secondary_rel_of_line"]) for row in rows),
        "xraylib_family_median_abs_rel": float(np.median([abs(row["xraylib_family_rel"]) for row in rows])),
        "n_line": len(rows),
    }


def show(rows: list[dict[str, Any]], result: dict[str, Any], *, all_rows: bool) -> None:
    """Print the lines, the worst first, and the summary."""
    table = Table("case", "line", "keV", "primary", "secondary/primary", "secondary", "of the line", "xraylib family")
    ranked = sorted(rows, key=lambda row: -abs(row["secondary_rel_of_line"]))
    for row in ranked if all_rows else ranked[:20]:
        secondary = row["secondary_rel"]
        table.add_row(
            row["case"],
            row["line"],
            f"{row['energy_kev']:.3f}",
            f"{row['primary_rel']:+.1e}",
            f"{100 * row['secondary_share']:.2f} %",
            "-" if secondary is None else f"{100 * secondary:+.2f} %",
            f"{100 * row['secondary_rel_of_line']:+.3f} %",
            f"{100 * row['xraylib_family_rel']:+.1f} %",
        )
    console = Console()
    console.print(table)
    console.print(result if not rows else {key: value for key, value in result.items() if key != "lines"})


def _layer(entry: dict[str, Any]) -> Layer:
    total = sum(entry["mass_fractions"].values())
    fractions = {element: fraction / total for element, fraction in entry["mass_fractions"].items()}
    return Layer(fractions, entry["density_g_cm3"], entry["thickness_um"])


def _shines(layer: Layer) -> bool:
    return any(atomic_number(element) > 15 for element in layer.mass_fractions)


def _attenuation(data: Any, elements: list[str], energies: list[float]) -> NDArray[np.float64]:
    return np.asarray([data.getMassAttenuationCoefficients(name, energies)["total"] for name in elements])


def _production(
    data: Any, elements: list[str], rows: list[tuple[str, str, float]], energies: list[float]
) -> NDArray[np.float64]:
    table = {
        (element, column): data.getExcitationFactors(element, [energy], [1.0])
        for element in elements
        for column, energy in enumerate(energies)
    }
    return np.asarray(
        [
            [table[element, column].get(line, {}).get("rate", 0.0) for column in range(len(energies))]
            for element, line, _ in rows
        ]
    )


def _family_difference(ours: Any, kissel: Any, line: str) -> float:
    element, transition = line.split()
    family = f"{element}_{transition[0]}"
    totals = [entry.line_photons[0][np.asarray(entry.lines.family) == family].sum() for entry in (kissel, ours)]
    return float(totals[0] / totals[1] - 1.0)


if __name__ == "__main__":
    main()
