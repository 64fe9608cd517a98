"""Files of what the page shows: figures at print size, and values of spectra and maps."""

import io
import math
import re
from dataclasses import replace
from pathlib import Path
from tempfile import NamedTemporaryFile, TemporaryDirectory
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import NO_ANSWER, Results
from underpaint.display.viewer.open_results import OpenResults
from underpaint.display.viewer.region_table import region_table, table_rows
from underpaint.display.viewer.scan_source import READY
from underpaint.display.viewer.server import Answer, Request
from underpaint.display.viewer.spots import spot, unknown
from underpaint.errors import OutputError
from underpaint.io import read_results, write_tiff
from underpaint.io.results.csv_text import write_csv
from underpaint.io.results.regions import parse_region, parse_regions
from underpaint.io.results.result_maps import MapEntry, ResultMaps
from underpaint.pigments.limits.exclusion import LINE_SIGMA

MAX_VALUES = 80_000_000
"""Of a table of all maps, which is held in memory and takes some ten bytes for each."""
PRINT_DPI = 300
_COLORS = ("inferno", "viridis", "cividis", "gray")
_KINDS = {
    "png": "image/png",
    "svg": "image/svg+xml",
    "pdf": "application/pdf",
    "tif": "image/tiff",
    "ome.tif": "image/tiff",
    "csv": "text/csv; charset=utf-8",
}
Window = tuple[slice, slice]


def ome_tiff(maps: ResultMaps) -> BinaryIO:
    """Return a file with all maps as an OME-TIFF stack: float32, a channel for each, with the size of a pixel.

    ImageJ with Bio-Formats, QuPath, napari and tifffile read it. NaN means no answer.
    """
    import tifffile

    facts: dict[str, Any] = {
        "axes": "CYX",
        "Channel": {"Name": [f"{entry.kind}: {entry.label} ({entry.unit})" for entry in maps.entries]},
        "Description": "Maps of underpaint; NaN: no answer",
    }
    if maps.step_mm is not None and min(maps.step_mm) > 0:
        down, across = maps.step_mm
        facts |= {
            "PhysicalSizeX": across, "PhysicalSizeXUnit": "mm", "PhysicalSizeY": down, "PhysicalSizeYUnit": "mm",
        }  # fmt: skip
    file = cast("BinaryIO", NamedTemporaryFile())  # noqa: SIM115 - closed by the server once it is sent
    pages = (np.ascontiguousarray(maps.values(index), dtype=np.float32) for index in range(len(maps.entries)))
    shape = (len(maps.entries), *maps.shape)
    tifffile.imwrite(file, pages, shape=shape, dtype=np.float32, photometric="minisblack", ome=True, metadata=facts)
    file.seek(0)
    return file


def maps_csv(maps: ResultMaps) -> BinaryIO:
    """Return a CSV file with a line for each pixel: row, column, all maps and their standard deviations.

    Raises
    ------
    OutputError
        There are too many values for a table.
    """
    n_map = len(maps.entries) + sum(bool(entry.error_path) for entry in maps.entries)
    n_value = n_map * maps.shape[0] * maps.shape[1]
    if n_value > MAX_VALUES:
        raise OutputError(
            f"Cannot write {n_map} maps of {maps.shape[0]} x {maps.shape[1]} pixels as CSV: {n_value / 1e6:.0f} "
            f"million values, over {MAX_VALUES / 1e6:.0f} million. Take the OME-TIFF stack, or read results.h5."
        )
    columns, heads = [], ["row", "column"]
    for index, entry in enumerate(maps.entries):
        for values, what in ((maps.values(index), ""), (maps.errors(index), " standard deviation")):
            if values is not None:
                columns.append(values)
                heads.append(f"{entry.kind}: {entry.name}{what} ({entry.unit})")
    file = cast("BinaryIO", NamedTemporaryFile())  # noqa: SIM115 - closed by the server once it is sent
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    write_csv(text, [heads])
    for row in range(maps.shape[0]):
        cells = np.char.mod("%.6g", np.stack([values[row] for values in columns], axis=1))
        cells[cells == "nan"] = ""
        text.writelines(f"{row},{column},{','.join(line)}\r\n" for column, line in enumerate(cells.tolist()))
    text.flush()
    text.detach()
    file.seek(0)
    return file


def answer(request: Request, site: OpenResults) -> Answer | None:
    """Answer ``export/`` and the name of what is to be exported."""
    what = request.parts[0] if request.parts else ""
    makers = {
        "map": _map,
        "composite": _composite,
        "figure5": _figure5,
        "spectrum": _spectrum,
        "region": _region,
        "values": _values,
        "table": _table,
        "stack": _stack,
        "maps": _all_maps,
    }
    return makers[what](request, site) if what in makers else None


def _map(request: Request, site: OpenResults) -> Answer:
    """Send a map as a figure, or as a TIFF of its numbers; only the part that is seen, where one is given."""
    index = _index(request, site)
    entry = site.maps.entries[index]
    window = _window(request, site)
    values = site.maps.values(index)[window]
    ending = _ending(request, ("png", "svg", "pdf", "tif"))
    if ending == "tif":
        return _tiff(values, entry, site)
    if entry.kind == "state":
        return _figure(_state_figure(values, entry, site), ending, f"{entry.name}_detectability")
    from underpaint.display import plot

    figure = plot.shown_map(
        values,
        _top(entry, site.maps.values(index)),
        _colors(request, entry),
        title=_title(entry),
        step_mm=site.maps.step_mm,
        min_shown=number_of(request, "threshold"),
        hatching=_hatched(request, index, window, site),
    )
    return _figure(figure, ending, entry.name)


def _colors(request: Request, entry: MapEntry) -> str:
    default_color = _COLORS[0] if entry.kind in {"group", "member"} else _COLORS[1]
    colors = request.query.get("colors", default_color)
    if colors not in _COLORS:
        raise OutputError(f"Cannot draw in the colours {colors[:20]!r}; choose {', '.join(_COLORS)}.")
    return colors


def _hatched(request: Request, index: int, window: Window, site: OpenResults) -> tuple[NDArray[np.bool_], str] | None:
    """Return where a pigment that is not seen is not absent either, where the page hatches that, and in what words."""
    entry = site.maps.entries[index]
    if request.query.get("hatch") != "1" or entry.kind not in {"group", "member"}:
        return None
    same = (n for n, own in enumerate(site.maps.entries) if own.kind == "state" and own.material == entry.material)
    state = next(same, None)
    if state is None:
        return None
    return unknown(site.maps.values(index), site.maps.values(state), entry.place)[window], "not seen, not excluded"


def _state_figure(values: NDArray[np.float32], entry: MapEntry, site: OpenResults) -> Any:
    from underpaint.display import plot

    state = np.where(np.isnan(values), NO_ANSWER, values).astype(np.uint8)[:, :, None]
    results = Results.of_states((entry.name,), (entry.label,), state, step_mm=site.maps.step_mm)
    return plot.state_map(results, entry.name, title=f"{entry.label}: answer")


def _composite(request: Request, site: OpenResults) -> Answer:
    """Send maps over one another, each in its own colour: red, green and blue where no colours are given."""
    from underpaint.display.plot.images import CHANNELS, COMPOSITE_COLORS, composite_figure

    chosen = request.query.get("maps", "").split(",")[: len(COMPOSITE_COLORS)]
    colors = request.query["colors"].split(",") if request.query.get("colors") else list(CHANNELS)
    is_map_number = [text.isdecimal() and len(text) <= 9 and int(text) < len(site.maps.entries) for text in chosen]
    if not any(is_map_number) or len(chosen) > len(colors) or not set(colors) <= set(COMPOSITE_COLORS):
        raise OutputError(
            f"Cannot draw the maps {request.query.get('maps', '')[:40]!r} in {','.join(colors)[:40]!r}: give the "
            f"numbers of one to {len(COMPOSITE_COLORS)} maps and a colour for each, of {', '.join(COMPOSITE_COLORS)}."
        )
    window = _window(request, site)
    parts: list[tuple[str, NDArray[np.float32], float]] = []
    for text, is_map in zip(chosen, is_map_number, strict=True):
        if is_map:
            entry = site.maps.entries[int(text)]
            whole = site.maps.values(int(text))
            parts.append((entry.label, whole[window], _top(entry, whole)))
        else:
            parts.append(("", np.zeros((0, 0), np.float32), 1.0))
    first = next((int(text) for text, is_map in zip(chosen, is_map_number, strict=True) if is_map), None)
    hatched = None if first is None else _hatched(request, first, window, site)
    figure = composite_figure(
        parts, colors, step_mm=site.maps.step_mm, hatch_mask=None if hatched is None else hatched[0]
    )
    return _figure(figure, _ending(request, ("png", "svg", "pdf")), "composite")


def _figure5(request: Request, site: OpenResults) -> Answer:
    """Send the row of Fig. 5 of Xu et al. 2022 for each pigment asked for: map, elements, overlay, scatter."""
    from underpaint.display import plot

    index = _index(request, site)
    entry = site.maps.entries[index]
    if entry.kind not in {"group", "member"}:
        raise OutputError(
            f"Cannot draw {entry.label} as in Fig. 5: choose a pigment or a group, not a map of {entry.kind}s."
        )
    figure = plot.pigment_row(read_results(site.maps.folder), entry.material, entry.place)
    return _figure(figure, _ending(request, ("png", "svg", "pdf")), f"{entry.name}_figure5")


def _spectrum(request: Request, site: OpenResults) -> Answer:
    """Send a pixel's spectrum with the sum and maximum of the scan: numbers, or a figure."""
    row, column = request.number("row"), request.number("column")
    site.maps.at(row, column)
    counts = site.source.pixel(row, column) if site.source.state == READY else None
    columns = {"counts": counts, "sum": site.summary.get("sum_counts"), "max": site.summary.get("max_counts")}
    ending, name = _ending(request, ("csv", "png", "svg", "pdf")), f"spectrum_{row}_{column}"
    present_columns = {key: values for key, values in columns.items() if values is not None}
    if ending == "csv" and present_columns:
        return _attached(_csv(site, present_columns), ending, name)
    if counts is None:
        raise OutputError(f"Pixel ({row}, {column}) has no spectrum to draw. {site.source.why}".strip())
    families = [own["name"] for own in spot(site.maps, row, column)["elements"] if own["there"]]
    return _figure(_drawn(site, counts, None, families, (f"row {row}, column {column}", "")), ending, name)


def _region(request: Request, site: OpenResults) -> Answer:
    """Send the mean spectrum of a region that the page drew, and the largest counts of any of its pixels."""
    sent = request.json()
    region = parse_region(sent)
    mask = region.mask(site.maps.shape)
    spectra = site.source.region(mask)
    ending = _ending(Request("GET", (), {"format": str(sent.get("format", "csv"))}), ("csv", "png", "svg", "pdf"))
    name = f"spectrum_{region.name}"
    if ending == "csv":
        return _attached(_csv(site, {"mean": spectra.mean, "max": spectra.highest}), ending, name)
    words = (f"{region.name}: mean of {spectra.n_pixel} pixels", "largest of any of them")
    return _figure(_drawn(site, spectra.mean, spectra.highest, _standing_in(site, mask), words), ending, name)


def _standing_in(site: OpenResults, mask: NDArray[np.bool_]) -> list[str]:
    """Return the line families that stand out in the sum of a region's pixels, the strongest first."""
    found = {}
    for index, entry in enumerate(site.maps.entries):
        errors = site.maps.errors(index) if entry.kind == "element" else None
        if errors is not None:
            counts = float(np.nansum(site.maps.values(index)[mask], dtype=np.float64))
            if counts > LINE_SIGMA * math.sqrt(float(np.nansum(np.square(errors[mask], dtype=np.float64)))):
                found[entry.name] = counts
    return sorted(found, key=lambda name: -found[name])


def _drawn(
    site: OpenResults,
    counts: NDArray[np.float64],
    highest: NDArray[np.float64] | None,
    families: list[str],
    words: tuple[str, str],
) -> Any:
    from underpaint.display import plot

    axis = site.axis and replace(site.axis, n_channel=counts.size)
    title = str(site.summary.get("name", "scan"))
    return plot.spectrum(axis, counts, highest, families, title=title, labels=words)


def _values(request: Request, site: OpenResults) -> Answer:
    """Send all that the maps hold at a pixel as a table."""
    row, column = request.number("row"), request.number("column")
    values, errors = site.maps.at(row, column)
    rows: list[list[str]] = [["kind", "name", "label", "value", "standard_deviation", "unit"]]
    for entry, value, error in zip(site.maps.entries, values, errors, strict=True):
        numbers = [_written(np.float32(own)) if np.isfinite(own) else "" for own in (value, error)]
        rows.append([entry.kind, entry.name, entry.label, *numbers, entry.unit])
    return _attached(_csv_bytes(rows), "csv", f"values_{row}_{column}")


def _table(request: Request, site: OpenResults) -> Answer:
    """Send all maps by region as a table."""
    regions = parse_regions(request.json())
    rows = region_table(site.maps, [region.mask(site.maps.shape) for region in regions])
    return _attached(_csv_bytes(table_rows(site.maps, [region.name for region in regions], rows)), "csv", "regions")


def _stack(_: Request, site: OpenResults) -> Answer:
    """Send all maps as an OME-TIFF stack."""
    return _attached(ome_tiff(site.maps), "ome.tif", f"{site.summary.get('name', 'scan')}_maps")


def _all_maps(_: Request, site: OpenResults) -> Answer:
    """Send all maps as a table, a line for each pixel."""
    return _attached(maps_csv(site.maps), "csv", f"{site.summary.get('name', 'scan')}_maps")


def _csv(site: OpenResults, columns: dict[str, Any]) -> bytes:
    n_channel = len(next(iter(columns.values())))
    energy = site.summary.get("energy_kev")
    rows: list[list[Any]] = [["channel", *(["energy_kev"] if energy is not None else []), *columns]]
    for channel in range(n_channel):
        at = [f"{energy[channel]:.5f}"] if energy is not None else []
        rows.append([channel, *at, *(_written(np.float64(own[channel])) for own in columns.values())])
    return _csv_bytes(rows)


def _csv_bytes(rows: list[list[Any]]) -> bytes:
    stream = io.StringIO()
    write_csv(stream, rows)
    return stream.getvalue().encode(errors="replace")


def _written(value: np.floating[Any]) -> str:
    """Return as many digits as the number has, and no exponent."""
    return np.format_float_positional(value, trim="-")


def _tiff(values: NDArray[np.float32], entry: MapEntry, site: OpenResults) -> Answer:
    with TemporaryDirectory() as place:
        path = Path(place) / "map.tif"
        write_tiff(path, values, f"{_title(entry)}; NaN: no answer", site.maps.step_mm)
        return _attached(path.read_bytes(), "tif", entry.name)


def _figure(figure: Any, ending: str, name: str) -> Answer:
    stream = io.BytesIO()
    figure.savefig(stream, format=ending, dpi=PRINT_DPI)
    return _attached(stream.getvalue(), ending, name)


def _attached(body: bytes | BinaryIO, ending: str, name: str) -> Answer:
    safe = re.sub(r"[^A-Za-z0-9_.+-]+", "_", name)
    return Answer(body, _KINDS[ending], headers={"Content-Disposition": f'attachment; filename="{safe}.{ending}"'})


def _title(entry: MapEntry) -> str:
    if entry.kind in {"group", "member"}:
        return f"{entry.label}, probability"
    return entry.label if entry.unit in {"1", ""} else f"{entry.label} ({entry.unit})"


def _top(entry: MapEntry, values: NDArray[np.float32]) -> float:
    """Return the value drawn at full colour: one of a probability, else the 99th percentile."""
    from underpaint.display.plot.images import upper_limit

    return 1.0 if entry.kind in {"group", "member"} else upper_limit(values)


def _index(request: Request, site: OpenResults) -> int:
    index = request.number("map")
    if not 0 <= index < len(site.maps.entries):
        raise OutputError(f"There is no map {index}; there are {len(site.maps.entries)}.")
    return index


def _ending(request: Request, allowed: tuple[str, ...]) -> str:
    ending = request.query.get("format", allowed[0])
    if ending not in allowed:
        raise OutputError(f"Cannot export as {ending!r}; choose {', '.join(allowed)}.")
    return ending


def number_of(request: Request, name: str) -> float | None:
    """Return a number of the query, or None where it is not given.

    Raises
    ------
    OutputError
        It is no number.
    """
    text = request.query.get(name, "")
    try:
        number = float(text) if text else None
    except ValueError:
        number = math.nan
    if number is not None and not math.isfinite(number):
        raise OutputError(f"Cannot answer: {name} is {text[:20]!r}; it must be a number.")
    return number


def _window(request: Request, site: OpenResults) -> Window:
    """Return the rows and columns of ``window=row,row,column,column``; all of them where it is not given."""
    text = request.query.get("window", "")
    n_row, n_column = site.maps.shape
    if not text:
        return slice(0, n_row), slice(0, n_column)
    parts = text.split(",")
    if len(parts) != 4 or not all(part.isdecimal() and len(part) <= 9 for part in parts):
        raise OutputError(
            f"Cannot export the window {text[:40]!r}: give first and last row and column, counted from 0."
        )
    first_row, last_row, first_column, last_column = map(int, parts)
    if not (0 <= first_row <= last_row < n_row and 0 <= first_column <= last_column < n_column):
        raise OutputError(f"Cannot export the window {text}: rows are 0 to {n_row - 1}, columns 0 to {n_column - 1}.")
    return slice(first_row, last_row + 1), slice(first_column, last_column + 1)
