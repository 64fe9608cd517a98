"""``simulate --explain``: tables of what a spectrum is made of."""

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

WEAKEST_SHOWN = 1e-4
"""Lines of a layer with less of the counts than this are shown as one sum."""
ORDER_HEADS = ("primary", "second", "third", "by\nscatter", "re-\nscatter")
"""The columns for ``ORDERS``."""


def explained(job: ExplicitSettings | LibrarySettings) -> dict[str, Breakdown]:
    """Return the breakdown of every stratigraphy of a job by its name.

    Raises
    ------
    SampleError
        The job is a training library.
    """
    if isinstance(job, LibrarySettings):
        raise SampleError(
            "Cannot explain a training library: it draws its stratigraphies. Give a job with [[stratigraphy]] tables, "
            "such as examples/two_paints.toml."
        )
    instrument = explicit_instrument(job)
    names = [entry.name or f"stratigraphy {number}" for number, entry in enumerate(job.stratigraphy, start=1)]
    layered = [entry.stratigraphy() for entry in job.stratigraphy]
    return {
        name if names.count(name) == 1 else f"{name} ({number})": breakdown(own, instrument, counts=job.counts)
        for number, (name, own) in enumerate(zip(names, layered, strict=True), start=1)
    }


def figure_paths(path: Path, names: Iterable[str]) -> dict[str, Path]:
    """Return the file of each stratigraphy's figure: the path itself, or numbered where there are several."""
    listed = list(names)
    if len(listed) == 1:
        return {listed[0]: path}
    return {name: path.with_stem(f"{path.stem}-{number}") for number, name in enumerate(listed, start=1)}


def tables(name: str, parts: Breakdown) -> Group:
    """Return the tables for people: lines by layer and order; sums by element, by layer, by order and scatter."""
    layers = [(_layer(parts, depth), float(own.sum())) for depth, own in parts.by_layer().items()]
    orders = [(ORDER_NAMES[order], float(own.sum())) for order, own in parts.by_order().items()]
    elements = [(element, float(own.sum())) for element, own in parts.by_element().items()]
    total = float(parts.total.sum())
    sums = [_sums(what, rows, total) for what, rows in (("element", elements), ("layer", layers), ("order", orders))]
    return Group(_lines(name, parts, total), Columns(sums, padding=(0, 2)))


def record(parts: Breakdown) -> dict[str, Any]:
    """Return the same as plain values for JSON."""
    return {
        "counts": float(parts.total.sum()),
        "layers": list(parts.layer_names),
        "by_element": {name: float(own.sum()) for name, own in parts.by_element().items()},
        "by_layer": {_layer(parts, depth): float(own.sum()) for depth, own in parts.by_layer().items()},
        "by_order": {name: float(own.sum()) for name, own in parts.by_order().items()},
        "parts": [
            {
                "family": part.family,
                "layer": None if part.layer is None else part.layer + 1,
                "order": part.order,
                "photons": part.photons,
                "counts": part.counts,
            }
            for part in parts.parts
        ],
    }


def _lines(name: str, parts: Breakdown, total: float) -> Table:
    table = Table(title=f"{name}: {total:,.0f} counts expected", title_justify="left", box=SIMPLE_HEAD, show_edge=False)
    table.add_column("lines")
    table.add_column("layer", justify="right")
    for head in (*ORDER_HEADS, "counts", "%"):
        table.add_column(head, justify="right")
    rows: dict[tuple[str, int], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for part in parts.parts:
        if part.layer is not None:
            rows[part.family, part.layer][part.order] += part.counts
    shown = {key: own for key, own in rows.items() if sum(own.values()) >= WEAKEST_SHOWN * total}
    for (family, layer), own in sorted(shown.items(), key=lambda item: -sum(item[1].values())):
        table.add_row(family.replace("_", " "), str(layer + 1), *_cells(own, total))
    weak: dict[str, float] = defaultdict(float)
    for key, own in rows.items():
        if key not in shown:
            for order, counts in own.items():
                weak[order] += counts
    if weak:
        table.add_row(f"{len(rows) - len(shown)} weak", "", *_cells(weak, total))
    return table


def _cells(own: dict[str, float], total: float) -> list[str]:
    counts = sum(own.values())
    return [*(_number(own.get(order, 0.0)) for order in ORDERS), _number(counts), _share(counts / total)]


def _sums(what: str, rows: list[tuple[str, float]], total: float) -> Table:
    table = Table(box=SIMPLE_HEAD)
    table.add_column(f"by {what}")
    table.add_column("counts", justify="right")
    table.add_column("%", justify="right")
    for name, counts in rows:
        table.add_row(name, _number(counts), _share(counts / total))
    table.add_section()
    table.add_row("sum", _number(sum(counts for _, counts in rows)), _share(sum(counts for _, counts in rows) / total))
    return table


def _layer(parts: Breakdown, depth: int | None) -> str:
    return SCATTERED if depth is None else f"{depth + 1} {parts.layer_names[depth]}"


def _number(counts: float) -> str:
    if counts == 0:
        return "-"
    if counts < 0.05:
        return "<0.1"
    return f"{counts:,.0f}" if counts >= 10 else f"{counts:.1f}"


def _share(share: float) -> str:
    return f"{100 * share:.2f}"
