"""Tables for ``simulate --explain`` of what contributes to a spectrum."""

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
"""Line families with a smaller fraction of the total counts share one row of the table."""
ORDER_HEADINGS = ("primary", "second", "third", "by\nscatter", "re-\nscatter")
"""Column headings for the orders of fluorescence in ``ORDERS``."""


def job_breakdowns(job: ExplicitSettings | LibrarySettings) -> dict[str, Breakdown]:
    """Return the breakdown of each stratigraphy's spectrum, by name of the stratigraphy.

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
    stratigraphy_names = [
        stratigraphy_settings.name or f"stratigraphy {stratigraphy_number}"
        for stratigraphy_number, stratigraphy_settings in enumerate(job.stratigraphy, start=1)
    ]
    stratigraphies = [stratigraphy_settings.stratigraphy() for stratigraphy_settings in job.stratigraphy]
    return {
        stratigraphy_name
        if stratigraphy_names.count(stratigraphy_name) == 1
        else f"{stratigraphy_name} ({stratigraphy_number})": breakdown(stratigraphy, instrument, counts=job.counts)
        for stratigraphy_number, (stratigraphy_name, stratigraphy) in enumerate(
            zip(stratigraphy_names, stratigraphies, strict=True), start=1
        )
    }


def figure_paths(path: Path, stratigraphy_names: Iterable[str]) -> dict[str, Path]:
    """Return the figure file for each stratigraphy. The files of several stratigraphies are numbered."""
    stratigraphy_list = list(stratigraphy_names)
    if len(stratigraphy_list) == 1:
        return {stratigraphy_list[0]: path}
    return {
        stratigraphy_name: path.with_stem(f"{path.stem}-{stratigraphy_number}")
        for stratigraphy_number, stratigraphy_name in enumerate(stratigraphy_list, start=1)
    }


def breakdown_tables(stratigraphy_name: str, spectrum_breakdown: Breakdown) -> Group:
    """Return a table of lines by layer and order, and three tables of sums: by element, by layer and by order."""
    layer_sums = [
        (_layer_name(spectrum_breakdown, layer_index), float(counts.sum()))
        for layer_index, counts in spectrum_breakdown.by_layer().items()
    ]
    order_sums = [(ORDER_NAMES[order], float(counts.sum())) for order, counts in spectrum_breakdown.by_order().items()]
    element_sums = [(element, float(counts.sum())) for element, counts in spectrum_breakdown.by_element().items()]
    total_counts = float(spectrum_breakdown.total.sum())
    sum_tables = [
        _sums_table(sum_category, named_sums, total_counts)
        for sum_category, named_sums in (("element", element_sums), ("layer", layer_sums), ("order", order_sums))
    ]
    return Group(_lines_table(stratigraphy_name, spectrum_breakdown, total_counts), Columns(sum_tables, padding=(0, 2)))


def breakdown_record(spectrum_breakdown: Breakdown) -> dict[str, Any]:
    """Return the breakdown of a spectrum as a JSON-serialisable record."""
    return {
        "counts": float(spectrum_breakdown.total.sum()),
        "layers": list(spectrum_breakdown.layer_names),
        "by_element": {element: float(counts.sum()) for element, counts in spectrum_breakdown.by_element().items()},
        "by_layer": {
            _layer_name(spectrum_breakdown, layer_index): float(counts.sum())
            for layer_index, counts in spectrum_breakdown.by_layer().items()
        },
        "by_order": {order: float(counts.sum()) for order, counts in spectrum_breakdown.by_order().items()},
        "parts": [
            {
                "family": line_part.family,
                "layer": None if line_part.layer is None else line_part.layer + 1,
                "order": line_part.order,
                "photons": line_part.photons,
                "counts": line_part.counts,
            }
            for line_part in spectrum_breakdown.parts
        ],
    }


def _lines_table(stratigraphy_name: str, spectrum_breakdown: Breakdown, total_counts: float) -> Table:
    lines_table = Table(
        title=f"{stratigraphy_name}: {total_counts:,.0f} counts expected",
        title_justify="left",
        box=SIMPLE_HEAD,
        show_edge=False,
    )
    lines_table.add_column("lines")
    lines_table.add_column("layer", justify="right")
    for heading in (*ORDER_HEADINGS, "counts", "%"):
        lines_table.add_column(heading, justify="right")
    counts_by_line_and_layer: dict[tuple[str, int], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for line_part in spectrum_breakdown.parts:
        if line_part.layer is not None:
            counts_by_line_and_layer[line_part.family, line_part.layer][line_part.order] += line_part.counts
    shown_counts = {
        line_and_layer: counts_by_order
        for line_and_layer, counts_by_order in counts_by_line_and_layer.items()
        if sum(counts_by_order.values()) >= MIN_SHOWN_FRACTION * total_counts
    }
    for (family, layer), counts_by_order in sorted(
        shown_counts.items(), key=lambda table_entry: -sum(table_entry[1].values())
    ):
        lines_table.add_row(family.replace("_", " "), str(layer + 1), *_row_cells(counts_by_order, total_counts))
    weak_counts: dict[str, float] = defaultdict(float)
    for line_and_layer, counts_by_order in counts_by_line_and_layer.items():
        if line_and_layer not in shown_counts:
            for order, counts in counts_by_order.items():
                weak_counts[order] += counts
    if weak_counts:
        lines_table.add_row(
            f"{len(counts_by_line_and_layer) - len(shown_counts)} weak", "", *_row_cells(weak_counts, total_counts)
        )
    return lines_table


def _row_cells(counts_by_order: dict[str, float], total_counts: float) -> list[str]:
    counts = sum(counts_by_order.values())
    return [
        *(_counts_text(counts_by_order.get(order, 0.0)) for order in ORDERS),
        _counts_text(counts),
        _percent_text(counts / total_counts),
    ]


def _sums_table(sum_category: str, named_sums: list[tuple[str, float]], total_counts: float) -> Table:
    sums_table = Table(box=SIMPLE_HEAD)
    sums_table.add_column(f"by {sum_category}")
    sums_table.add_column("counts", justify="right")
    sums_table.add_column("%", justify="right")
    for row_label, counts in named_sums:
        sums_table.add_row(row_label, _counts_text(counts), _percent_text(counts / total_counts))
    sums_table.add_section()
    sums_table.add_row(
        "sum",
        _counts_text(sum(counts for _, counts in named_sums)),
        _percent_text(sum(counts for _, counts in named_sums) / total_counts),
    )
    return sums_table


def _layer_name(spectrum_breakdown: Breakdown, layer_index: int | None) -> str:
    return SCATTERED if layer_index is None else f"{layer_index + 1} {spectrum_breakdown.layer_names[layer_index]}"


def _counts_text(counts: float) -> str:
    if counts == 0:
        return "-"
    if counts < 0.05:
        return "<0.1"
    return f"{counts:,.0f}" if counts >= 10 else f"{counts:.1f}"


def _percent_text(counts_fraction: float) -> str:
    return f"{100 * counts_fraction:.2f}"
