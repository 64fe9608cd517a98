"""Export of figures at print resolution, and of the values of spectra and maps."""

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
from underpaint.display.viewer.spots import not_excluded_mask, spot
from underpaint.errors import OutputError
from underpaint.io import read_results, write_tiff
from underpaint.io.results.csv_text import write_csv
from underpaint.io.results.regions import parse_region, parse_regions
from underpaint.io.results.result_maps import MapEntry, ResultMaps
from underpaint.pigments.limits.exclusion import LINE_SIGMA

MAX_VALUES = 80_000_000
"""Maximum number of values in a table of all maps. In memory, the table needs about ten bytes per value."""
PRINT_DPI = 300
_COLOR_MAPS = ("inferno", "viridis", "cividis", "gray")
_MEDIA_TYPES = {
    "png": "image/png",
    "svg": "image/svg+xml",
    "pdf": "application/pdf",
    "tif": "image/tiff",
    "ome.tif": "image/tiff",
    "csv": "text/csv; charset=utf-8",
}
MapWindow = tuple[slice, slice]


def ome_tiff(maps: ResultMaps) -> BinaryIO:
    """Return all maps as an OME-TIFF stack of float32. Each map is a channel; the metadata state the pixel size.

    ImageJ with Bio-Formats, QuPath, napari and tifffile can read the file. NaN means no answer.
    """
    import tifffile

    metadata: dict[str, Any] = {
        "axes": "CYX",
        "Channel": {"Name": [f"{entry.kind}: {entry.label} ({entry.unit})" for entry in maps.entries]},
        "Description": "Maps of underpaint; NaN: no answer",
    }
    if maps.step_mm is not None and min(maps.step_mm) > 0:
        row_step_mm, column_step_mm = maps.step_mm
        metadata |= {
            "PhysicalSizeX": column_step_mm,
            "PhysicalSizeXUnit": "mm",
            "PhysicalSizeY": row_step_mm,
            "PhysicalSizeYUnit": "mm",
        }
    file = cast("BinaryIO", NamedTemporaryFile())  # noqa: SIM115 - the server closes the file after sending
    map_values = (np.ascontiguousarray(maps.values(index), dtype=np.float32) for index in range(len(maps.entries)))
    shape = (len(maps.entries), *maps.shape)
    tifffile.imwrite(
        file, map_values, shape=shape, dtype=np.float32, photometric="minisblack", ome=True, metadata=metadata
    )
    file.seek(0)
    return file


def maps_csv(maps: ResultMaps) -> BinaryIO:
    """Return a CSV file with a line for each pixel: row, column, and the value and standard deviation of each map.

    Raises
    ------
    OutputError
        The maps have more than ``MAX_VALUES`` values.
    """
    n_map = len(maps.entries) + sum(bool(entry.error_path) for entry in maps.entries)
    n_value = n_map * maps.shape[0] * maps.shape[1]
    if n_value > MAX_VALUES:
        raise OutputError(
            f"Cannot write {n_map} maps of {maps.shape[0]} x {maps.shape[1]} pixels as CSV: {n_value / 1e6:.0f} "
            f"million values, over {MAX_VALUES / 1e6:.0f} million. Export the OME-TIFF stack, or read results.h5."
        )
    value_columns, column_titles = [], ["row", "column"]
    for index, entry in enumerate(maps.entries):
        for values, title_suffix in ((maps.values(index), ""), (maps.errors(index), " standard deviation")):
            if values is not None:
                value_columns.append(values)
                column_titles.append(f"{entry.kind}: {entry.name}{title_suffix} ({entry.unit})")
    file = cast("BinaryIO", NamedTemporaryFile())  # noqa: SIM115 - the server closes the file after sending
    text_stream = io.TextIOWrapper(file, encoding="utf-8", newline="")
    write_csv(text_stream, [column_titles])
    for row in range(maps.shape[0]):
        row_cells = np.char.mod("%.6g", np.stack([values[row] for values in value_columns], axis=1))
        row_cells[row_cells == "nan"] = ""
        text_stream.writelines(
            f"{row},{column},{','.join(pixel_cells)}\r\n" for column, pixel_cells in enumerate(row_cells.tolist())
        )
    text_stream.flush()
    text_stream.detach()
    file.seek(0)
    return file


def answer(request: Request, site: OpenResults) -> Answer | None:
    """Answer a request for ``export/NAME``; None for an unknown name."""
    export_name = request.parts[0] if request.parts else ""
    export_functions = {
        "map": _export_map,
        "composite": _export_composite,
        "figure5": _export_figure5,
        "spectrum": _export_spectrum,
        "region": _export_region,
        "values": _export_pixel_values,
        "table": _export_region_table,
        "stack": _export_stack,
        "maps": _export_all_maps,
    }
    return export_functions[export_name](request, site) if export_name in export_functions else None


def _export_map(request: Request, site: OpenResults) -> Answer:
    """Send a map as a figure, or its values as a TIFF. If the query gives a window, only that window is sent."""
    index = _map_index(request, site)
    entry = site.maps.entries[index]
    window = _map_window(request, site)
    values = site.maps.values(index)[window]
    ending = _file_ending(request, ("png", "svg", "pdf", "tif"))
    if ending == "tif":
        return _tiff_attachment(values, entry, site)
    if entry.kind == "state":
        return _figure_attachment(_state_figure(values, entry, site), ending, f"{entry.name}_detectability")
    from underpaint.display import plot

    figure = plot.shown_map(
        values,
        _full_color_value(entry, site.maps.values(index)),
        _color_map_name(request, entry),
        title=_map_title(entry),
        step_mm=site.maps.step_mm,
        min_shown=number_of(request, "threshold"),
        hatching=_hatching(request, index, window, site),
    )
    return _figure_attachment(figure, ending, entry.name)


def _color_map_name(request: Request, entry: MapEntry) -> str:
    default_color = _COLOR_MAPS[0] if entry.kind in {"group", "member"} else _COLOR_MAPS[1]
    colors = request.query.get("colors", default_color)
    if colors not in _COLOR_MAPS:
        raise OutputError(f"Cannot draw in the colours {colors[:20]!r}; choose {', '.join(_COLOR_MAPS)}.")
    return colors


def _hatching(
    request: Request, index: int, window: MapWindow, site: OpenResults
) -> tuple[NDArray[np.bool_], str] | None:
    """Return the pixels to hatch, in which a pigment cannot be excluded, and their legend; None without hatching."""
    entry = site.maps.entries[index]
    if request.query.get("hatch") != "1" or entry.kind not in {"group", "member"}:
        return None
    state_indices = (
        state_index
        for state_index, state_entry in enumerate(site.maps.entries)
        if state_entry.kind == "state" and state_entry.material == entry.material
    )
    state_map_index = next(state_indices, None)
    if state_map_index is None:
        return None
    return not_excluded_mask(site.maps.values(index), site.maps.values(state_map_index), entry.place)[
        window
    ], "not detected, cannot be excluded"


def _state_figure(values: NDArray[np.float32], entry: MapEntry, site: OpenResults) -> Any:
    from underpaint.display import plot

    state = np.where(np.isnan(values), NO_ANSWER, values).astype(np.uint8)[:, :, None]
    results = Results.of_states((entry.name,), (entry.label,), state, step_mm=site.maps.step_mm)
    return plot.state_map(results, entry.name, title=f"{entry.label}: answer")


def _export_composite(request: Request, site: OpenResults) -> Answer:
    """Send a composite of several maps in different colours, by default red, green and blue."""
    from underpaint.display.plot.images import CHANNELS, COMPOSITE_COLORS, composite_figure

    map_texts = request.query.get("maps", "").split(",")[: len(COMPOSITE_COLORS)]
    colors = request.query["colors"].split(",") if request.query.get("colors") else list(CHANNELS)
    is_map_number = [
        map_text.isdecimal() and len(map_text) <= 9 and int(map_text) < len(site.maps.entries) for map_text in map_texts
    ]
    if not any(is_map_number) or len(map_texts) > len(colors) or not set(colors) <= set(COMPOSITE_COLORS):
        raise OutputError(
            f"Cannot draw the maps {request.query.get('maps', '')[:40]!r} in {','.join(colors)[:40]!r}: give the "
            f"numbers of one to {len(COMPOSITE_COLORS)} maps and a colour for each, of {', '.join(COMPOSITE_COLORS)}."
        )
    window = _map_window(request, site)
    colored_maps: list[tuple[str, NDArray[np.float32], float]] = []
    for map_text, is_map in zip(map_texts, is_map_number, strict=True):
        if is_map:
            entry = site.maps.entries[int(map_text)]
            all_values = site.maps.values(int(map_text))
            colored_maps.append((entry.label, all_values[window], _full_color_value(entry, all_values)))
        else:
            colored_maps.append(("", np.zeros((0, 0), np.float32), 1.0))
    first_index = next(
        (int(map_text) for map_text, is_map in zip(map_texts, is_map_number, strict=True) if is_map), None
    )
    hatching = None if first_index is None else _hatching(request, first_index, window, site)
    figure = composite_figure(
        colored_maps, colors, step_mm=site.maps.step_mm, hatch_mask=None if hatching is None else hatching[0]
    )
    return _figure_attachment(figure, _file_ending(request, ("png", "svg", "pdf")), "composite")


def _export_figure5(request: Request, site: OpenResults) -> Answer:
    """Send the map, element maps, overlay and scatter plot of a pigment, as in Figure 5 of Xu et al. 2022."""
    from underpaint.display import plot

    index = _map_index(request, site)
    entry = site.maps.entries[index]
    if entry.kind not in {"group", "member"}:
        raise OutputError(
            f"Cannot draw {entry.label} as in Fig. 5: choose a pigment or a group, not a map of {entry.kind}s."
        )
    figure = plot.pigment_row(read_results(site.maps.folder), entry.material, entry.place)
    return _figure_attachment(figure, _file_ending(request, ("png", "svg", "pdf")), f"{entry.name}_figure5")


def _export_spectrum(request: Request, site: OpenResults) -> Answer:
    """Send a pixel's spectrum with the sum and maximum spectra of the scan, as CSV or as a figure."""
    row, column = request.number("row"), request.number("column")
    site.maps.at(row, column)
    counts = site.source.pixel(row, column) if site.source.state == READY else None
    columns = {"counts": counts, "sum": site.summary.get("sum_counts"), "max": site.summary.get("max_counts")}
    ending, name = _file_ending(request, ("csv", "png", "svg", "pdf")), f"spectrum_{row}_{column}"
    available_columns = {key: values for key, values in columns.items() if values is not None}
    if ending == "csv" and available_columns:
        return _attachment(_spectrum_csv(site, available_columns), ending, name)
    if counts is None:
        raise OutputError(f"Pixel ({row}, {column}) has no spectrum to draw. {site.source.failure}".strip())
    families = [line["name"] for line in spot(site.maps, row, column)["elements"] if line["there"]]
    return _figure_attachment(
        _spectrum_figure(site, counts, None, families, (f"row {row}, column {column}", "")), ending, name
    )


def _export_region(request: Request, site: OpenResults) -> Answer:
    """Send the mean and maximum spectra of a region, as CSV or as a figure."""
    request_body = request.json()
    region = parse_region(request_body)
    mask = region.mask(site.maps.shape)
    spectra = site.source.region(mask)
    ending = _file_ending(
        Request("GET", (), {"format": str(request_body.get("format", "csv"))}), ("csv", "png", "svg", "pdf")
    )
    name = f"spectrum_{region.name}"
    if ending == "csv":
        return _attachment(_spectrum_csv(site, {"mean": spectra.mean, "max": spectra.maximum}), ending, name)
    curve_labels = (f"{region.name}: mean of {spectra.n_pixel} pixels", "maximum of these pixels")
    return _figure_attachment(
        _spectrum_figure(site, spectra.mean, spectra.maximum, _significant_families(site, mask), curve_labels),
        ending,
        name,
    )


def _significant_families(site: OpenResults, mask: NDArray[np.bool_]) -> list[str]:
    """Return the line families that are significant in the summed counts of a region, the strongest first."""
    significant_counts = {}
    for index, entry in enumerate(site.maps.entries):
        errors = site.maps.errors(index) if entry.kind == "element" else None
        if errors is not None:
            region_counts = float(np.nansum(site.maps.values(index)[mask], dtype=np.float64))
            if region_counts > LINE_SIGMA * math.sqrt(float(np.nansum(np.square(errors[mask], dtype=np.float64)))):
                significant_counts[entry.name] = region_counts
    return sorted(significant_counts, key=lambda name: -significant_counts[name])


def _spectrum_figure(
    site: OpenResults,
    counts: NDArray[np.float64],
    max_counts: NDArray[np.float64] | None,
    families: list[str],
    curve_labels: tuple[str, str],
) -> Any:
    from underpaint.display import plot

    axis = site.axis and replace(site.axis, n_channel=counts.size)
    title = str(site.summary.get("name", "scan"))
    return plot.spectrum(axis, counts, max_counts, families, title=title, labels=curve_labels)


def _export_pixel_values(request: Request, site: OpenResults) -> Answer:
    """Send the values of all maps at a pixel as CSV."""
    row, column = request.number("row"), request.number("column")
    values, errors = site.maps.at(row, column)
    rows: list[list[str]] = [["kind", "name", "label", "value", "standard_deviation", "unit"]]
    for entry, value, error in zip(site.maps.entries, values, errors, strict=True):
        numbers = [_decimal_text(np.float32(number)) if np.isfinite(number) else "" for number in (value, error)]
        rows.append([entry.kind, entry.name, entry.label, *numbers, entry.unit])
    return _attachment(_csv_bytes(rows), "csv", f"values_{row}_{column}")


def _export_region_table(request: Request, site: OpenResults) -> Answer:
    """Send the means of all maps in each region as CSV."""
    regions = parse_regions(request.json())
    rows = region_table(site.maps, [region.mask(site.maps.shape) for region in regions])
    return _attachment(_csv_bytes(table_rows(site.maps, [region.name for region in regions], rows)), "csv", "regions")


def _export_stack(_: Request, site: OpenResults) -> Answer:
    """Send all maps as an OME-TIFF stack."""
    return _attachment(ome_tiff(site.maps), "ome.tif", f"{site.summary.get('name', 'scan')}_maps")


def _export_all_maps(_: Request, site: OpenResults) -> Answer:
    """Send all maps as CSV with a line for each pixel."""
    return _attachment(maps_csv(site.maps), "csv", f"{site.summary.get('name', 'scan')}_maps")


def _spectrum_csv(site: OpenResults, columns: dict[str, Any]) -> bytes:
    n_channel = len(next(iter(columns.values())))
    energy = site.summary.get("energy_kev")
    rows: list[list[Any]] = [["channel", *(["energy_kev"] if energy is not None else []), *columns]]
    for channel in range(n_channel):
        energy_cell = [f"{energy[channel]:.5f}"] if energy is not None else []
        rows.append(
            [channel, *energy_cell, *(_decimal_text(np.float64(column[channel])) for column in columns.values())]
        )
    return _csv_bytes(rows)


def _csv_bytes(rows: list[list[Any]]) -> bytes:
    stream = io.StringIO()
    write_csv(stream, rows)
    return stream.getvalue().encode(errors="replace")


def _decimal_text(value: np.floating[Any]) -> str:
    """Return a number as text with all its digits and without an exponent."""
    return np.format_float_positional(value, trim="-")


def _tiff_attachment(values: NDArray[np.float32], entry: MapEntry, site: OpenResults) -> Answer:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "map.tif"
        write_tiff(path, values, f"{_map_title(entry)}; NaN: no answer", site.maps.step_mm)
        return _attachment(path.read_bytes(), "tif", entry.name)


def _figure_attachment(figure: Any, ending: str, name: str) -> Answer:
    stream = io.BytesIO()
    figure.savefig(stream, format=ending, dpi=PRINT_DPI)
    return _attachment(stream.getvalue(), ending, name)


def _attachment(body: bytes | BinaryIO, ending: str, name: str) -> Answer:
    safe_name = re.sub(r"[^A-Za-z0-9_.+-]+", "_", name)
    return Answer(
        body, _MEDIA_TYPES[ending], headers={"Content-Disposition": f'attachment; filename="{safe_name}.{ending}"'}
    )


def _map_title(entry: MapEntry) -> str:
    if entry.kind in {"group", "member"}:
        return f"{entry.label}, probability"
    return entry.label if entry.unit in {"1", ""} else f"{entry.label} ({entry.unit})"


def _full_color_value(entry: MapEntry, values: NDArray[np.float32]) -> float:
    """Return the value drawn in full colour: 1 for probabilities, the 99th percentile for other maps."""
    from underpaint.display.plot.images import upper_limit

    return 1.0 if entry.kind in {"group", "member"} else upper_limit(values)


def _map_index(request: Request, site: OpenResults) -> int:
    index = request.number("map")
    if not 0 <= index < len(site.maps.entries):
        raise OutputError(f"There is no map {index}; there are {len(site.maps.entries)}.")
    return index


def _file_ending(request: Request, allowed: tuple[str, ...]) -> str:
    ending = request.query.get("format", allowed[0])
    if ending not in allowed:
        raise OutputError(f"Cannot export as {ending!r}; choose {', '.join(allowed)}.")
    return ending


def number_of(request: Request, name: str) -> float | None:
    """Return a number from the query; None if the query does not contain the number.

    Raises
    ------
    OutputError
        The value is not a finite number.
    """
    text = request.query.get(name, "")
    try:
        numeric_value = float(text) if text else None
    except ValueError:
        numeric_value = math.nan
    if numeric_value is not None and not math.isfinite(numeric_value):
        raise OutputError(f"Cannot answer: {name} is {text[:20]!r}; it must be a number.")
    return numeric_value


def _map_window(request: Request, site: OpenResults) -> MapWindow:
    """Return the rows and columns that ``window=row,row,column,column`` selects; without a window, the whole map."""
    text = request.query.get("window", "")
    n_row, n_column = site.maps.shape
    if not text:
        return slice(0, n_row), slice(0, n_column)
    end_texts = text.split(",")
    if len(end_texts) != 4 or not all(part.isdecimal() and len(part) <= 9 for part in end_texts):
        raise OutputError(
            f"Cannot export the window {text[:40]!r}: give first and last row and column, counted from 0."
        )
    first_row, last_row, first_column, last_column = map(int, end_texts)
    if not (0 <= first_row <= last_row < n_row and 0 <= first_column <= last_column < n_column):
        raise OutputError(f"Cannot export the window {text}: rows are 0 to {n_row - 1}, columns 0 to {n_column - 1}.")
    return slice(first_row, last_row + 1), slice(first_column, last_column + 1)
