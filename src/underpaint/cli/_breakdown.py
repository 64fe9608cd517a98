"""``simulate --explain``: tables of the contributions to a spectrum."""

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.columns import Columns
from rich.console import Group
from rich.table import Table

from underpaint.display.plot.breakdown import ORDER_NAMES
from underpaint.errors import SampleError
from underpaint.physics.forward import ORDERS
from underpaint.physics.forward.breakdown import SCATTERED, Breakdown, breakdown
from underpaint.simulate.explicit import ExplicitSettings, explicit_instrument
from underpaint.simulate.jobs import LibrarySettings

MIN_SHOWN_FRACTION = 1e-4
"""Minimum fraction of the counts of a line family and layer that are shown; smaller ones are summed."""
ORDER_HEADINGS = ("primary", "second", "third", "by\nscatter", "re-\nscatter")
"""Column headings for ``ORDERS``."""


def job_breakdowns(job: ExplicitSettings | LibrarySettings) -> dict[str, Breakdown]:
    """Return the breakdown of each stratigraphy of a job, by name.

    Raises
    ------
    SampleError
        The job is a training library.
    """
    if isinstance(job, LibrarySettings):
        raise SampleError(
            "Cannot explain a training library: its stratigraphies are random. Give a job with [[stratigraphy]] "
            "tables, such as examples/two_paints.toml."
        )
    instrument = explicit_instrument(job)
    names = [entry.name or f"stratigraphy {index}" for index, entry in enumerate(job.stratigraphy, start=1)]
    stratigraphies = [entry.stratigraphy() for entry in job.stratigraphy]
    return {
        name if names.count(name) == 1 else f"{name} ({index})": breakdown(stratigraphy, instrument, counts=job.counts)
        for index, (name, stratigraphy) in enumerate(zip(names, stratigraphies, strict=True), start=1)
    }


def figure_paths(path: Path, names: Iterable[str]) -> dict[str, Path]:
    """Return the file of each stratigraphy's figure: the given path, numbered if there are several."""
    name_list = list(names)
    if len(name_list) == 1:
        return {name_list[0]: path}
    return {name: path.with_stem(f"{path.stem}-{index}") for index, name in enumerate(name_list, start=1)}


def breakdown_tables(name: str, spectrum_breakdown: Breakdown) -> Group:
    """Return tables of the lines by layer and order, and of sums by element, by layer, and by order and scatter."""
    layers = [
        (_layer_name(spectrum_breakdown, depth), float(counts.sum()))
        for depth, counts in spectrum_breakdown.by_layer().items()
    ]
    orders = [(ORDER_NAMES[order], float(counts.sum())) for order, counts in spectrum_breakdown.by_order().items()]
    elements = [(element, float(counts.sum())) for element, counts in spectrum_breakdown.by_element().items()]
    total = float(spectrum_breakdown.total.sum())
    sums = [
        _sums_table(quantity, quantity_rows, total)
        for quantity, quantity_rows in (("element", elements), ("layer", layers), ("order", orders))
    ]
    return Group(_lines_table(name, spectrum_breakdown, total), Columns(sums, padding=(0, 2)))


def breakdown_record(spectrum_breakdown: Breakdown) -> dict[str, Any]:
    """Return the breakdown as values for JSON."""
    return {
        "counts": float(spectrum_breakdown.total.sum()),
        "layers": list(spectrum_breakdown.layer_names),
        "by_element": {name: float(counts.sum()) for name, counts in spectrum_breakdown.by_element().items()},
        "by_layer": {
            _layer_name(spectrum_breakdown, depth): float(counts.sum())
            for depth, counts in spectrum_breakdown.by_layer().items()
        },
        "by_order": {name: float(counts.sum()) for name, counts in spectrum_breakdown.by_order().items()},
        "parts": [
            {
                "family": part.family,
                "layer": None if part.layer is None else part.layer + 1,
                "order": part.order,
                "photons": part.photons,
                "counts": part.counts,
            }
            for part in spectrum_breakdown.parts
        ],
    }


def _lines_table(name: str, spectrum_breakdown: Breakdown, total: float) -> Table:
    table = Table(title=f"{name}: {total:,.0f} counts expected", title_justify="left", box=SIMPLE_HEAD, show_edge=False)
    table.add_column("lines")
    table.add_column("layer", justify="right")
    for heading in (*ORDER_HEADINGS, "counts", "%"):
        table.add_column(heading, justify="right")
    rows: dict[tuple[str, int], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for line_part in spectrum_breakdown.parts:
        if line_part.layer is not None:
            rows[line_part.family, line_part.layer][line_part.order] += line_part.counts
    shown_rows = {
        key: counts_by_order
        for key, counts_by_order in rows.items()
        if sum(counts_by_order.values()) >= MIN_SHOWN_FRACTION * total
    }
    for (family, layer), counts_by_order in sorted(shown_rows.items(), key=lambda item: -sum(item[1].values())):
        table.add_row(family.replace("_", " "), str(layer + 1), *_cells(counts_by_order, total))
    weak_counts: dict[str, float] = defaultdict(float)
    for key, counts_by_order in rows.items():
        if key not in shown_rows:
            for order, counts in counts_by_order.items():
                weak_counts[order] += counts
    if weak_counts:
        table.add_row(f"{len(rows) - len(shown_rows)} weak", "", *_cells(weak_counts, total))
    return table


def _cells(counts_by_order: dict[str, float], total: float) -> list[str]:
    counts = sum(counts_by_order.values())
    return [
        *(_counts_text(counts_by_order.get(order, 0.0)) for order in ORDERS),
        _counts_text(counts),
        _percent_text(counts / total),
    ]


def _sums_table(quantity: str, rows: list[tuple[str, float]], total: float) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column(f"by {quantity}")
    table.add_column("counts", justify="right")
    table.add_column("%", justify="right")
    for name, counts in rows:
        table.add_row(name, _counts_text(counts), _percent_text(counts / total))
    table.add_section()
    table.add_row(
        "sum", _counts_text(sum(counts for _, counts in rows)), _percent_text(sum(counts for _, counts in rows) / total)
    )
    return table


def _layer_name(spectrum_breakdown: Breakdown, depth: int | None) -> str:
    return SCATTERED if depth is None else f"{depth + 1} {spectrum_breakdown.layer_names[depth]}"


def _counts_text(counts: float) -> str:
    if counts == 0:
        return "-"
    if counts < 0.05:
        return "<0.1"
    return f"{counts:,.0f}" if counts >= 10 else f"{counts:.1f}"


def _percent_text(fraction: float) -> str:
    return f"{100 * fraction:.2f}"
