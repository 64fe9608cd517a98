"""Figures that are laid out like Figures 5 to 10 of Xu et al. 2022."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from underpaint.display.plot.comparison import min_scaled_area, overlay_image
from underpaint.display.plot.figure import SMALL_SIZE, TEXT_SIZE, new_figure, put_title, quiet_axes
from underpaint.display.plot.images import draw_area, draw_probability, remove_ticks
from underpaint.physics.atomic import siegbahn

PLACE_COLORS = ("#f2f0ea", "#e2953b", "#8c1c3a")
PLACE_LABELS = ("truth: absent", "in the covered layer only", "in the uppermost layer")
"""Labels of the places 0, 1 and 2 of a pigment."""
MAP_WIDTH_INCH, SCATTER_WIDTH_INCH = 1.22, 1.25
PANEL_WIDTH_INCH = 2.9
_HEADER_HEIGHT_INCH, _CASE_GAP_INCH, _PANEL_GAP_INCH = 0.85, 0.46, 0.55
_ELEMENT_COLORS = ("green", "blue")
_CURVE_COLORS = ("#8c1c3a", "#1f4e79", "#6b8f3c")


@dataclass(frozen=True)
class CaseRow:
    """Maps of a pigment in a case study.

    Parameters
    ----------
    label : str
        Label of the pigment.
    families : tuple of str
        One or two line families, such as ``Hg_L``.
    areas : tuple of (n_row, n_column) arrays
        Net counts of the line families.
    place : (n_row, n_column) int array
        Place of the pigment in each pixel: 0 nowhere, 1 only in the covered layer, 2 in the uppermost layer.
    probability : mapping of str to (n_row, n_column) array
        Probability map of each network, by the name of the network.
    """

    label: str
    families: tuple[str, ...]
    areas: tuple[NDArray[np.float32], ...]
    place: NDArray[np.int64]
    probability: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Panel:
    """Map of a mock-up and its title. The map shows probability, counts (``is_area``) or place (integers 0, 1, 2)."""

    title: str
    values: NDArray[np.generic]
    is_area: bool = False


@dataclass(frozen=True)
class Curves:
    """Plot of labelled curves (x, y), with labelled marks at the energies of lines, in keV."""

    title: str
    x_label: str
    y_label: str
    curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    marks: Mapping[str, float]
    logarithmic: bool = False


def case_study(rows: Sequence[CaseRow], title: str) -> Figure:
    """Draw a row for each pigment, as in Figure 5: truth, element map, and three panels for each network.

    Parameters
    ----------
    rows : sequence of CaseRow
        Rows of the figure, which all have the same networks and the same pixels.
    title : str
        Title above the figure; it states that the painting is virtual.
    """
    networks = tuple(rows[0].probability)
    n_row, n_column = rows[0].place.shape
    height = MAP_WIDTH_INCH * n_row / n_column
    panel_widths = [MAP_WIDTH_INCH] * 2 + [MAP_WIDTH_INCH, MAP_WIDTH_INCH, SCATTER_WIDTH_INCH] * len(networks)
    gap_widths = [0.3, 0.06, *([0.14, 0.06, 0.36] * len(networks))]
    left_edges = np.cumsum(gap_widths) + np.cumsum([0.0, *panel_widths[:-1]])
    total_width = sum(panel_widths) + sum(gap_widths) + 0.15
    total_height = _HEADER_HEIGHT_INCH + len(rows) * (height + _CASE_GAP_INCH) + 0.28
    figure = new_figure(total_width, total_height)
    for index, row in enumerate(rows):
        bottom_inch = total_height - _HEADER_HEIGHT_INCH - height - index * (height + _CASE_GAP_INCH)
        boxes = [
            (x / total_width, bottom_inch / total_height, width / total_width, height / total_height)
            for x, width in zip(left_edges, panel_widths, strict=True)
        ]
        _draw_case_row([figure.add_axes(box) for box in boxes], row)
    for index, network in enumerate(networks):
        title_x_inch = (left_edges[2 + 3 * index] + left_edges[4 + 3 * index] + SCATTER_WIDTH_INCH) / 2
        title_position = (title_x_inch / total_width, 1 - 0.5 / total_height)
        figure.text(*title_position, network, ha="center", va="center", fontsize=TEXT_SIZE + 1, fontweight="bold")
    figure.text(0.1 / total_width, 1 - 0.25 / total_height, title, ha="left", fontsize=TEXT_SIZE + 1)
    _draw_legend(figure, [row.place for row in rows], PLACE_LABELS)
    return figure


def panels(
    parts: Sequence[Panel],
    title: str,
    *,
    columns: int,
    row_names: Mapping[str, float] | None = None,
    column_names: Mapping[str, float] | None = None,
    place_labels: Sequence[str] = PLACE_LABELS,
) -> Figure:
    """Draw maps of a mock-up side by side, as in Figures 8 and 9.

    Parameters
    ----------
    parts : sequence of Panel
        Panels in reading order.
    title : str
        Title above the figure; it states that the mock-up is virtual.
    columns : int
        Number of maps per row.
    row_names, column_names : mapping of str to float
        Name of each strip, and the pixel at its centre.
    place_labels : sequence of str
        Labels of the integers 0, 1 and 2 in maps of places.
    """
    n_row, n_column = parts[0].values.shape
    height = PANEL_WIDTH_INCH * n_row / n_column
    panel_step_x, panel_step_y = PANEL_WIDTH_INCH + 0.72, height + _PANEL_GAP_INCH
    total_width, total_height = columns * panel_step_x + 0.65, -(-len(parts) // columns) * panel_step_y + 0.85
    figure = new_figure(total_width, total_height)
    for index, map_panel in enumerate(parts):
        row, column = divmod(index, columns)
        left_inch, bottom_inch = 0.62 + column * panel_step_x, total_height - 0.7 - height - row * panel_step_y
        # a map of places has no colour bar; it is as wide as the other maps without their colour bars
        width = PANEL_WIDTH_INCH + (0.25 if _has_float_values(map_panel.values) else 0.0)
        axes = figure.add_axes(
            (left_inch / total_width, bottom_inch / total_height, width / total_width, height / total_height)
        )
        _draw_panel(axes, map_panel)
        put_title(axes, f"({_panel_letter(index)}) {map_panel.title}", pad=4, left=True)
        _label_strips(axes, row_names if column == 0 else None, column_names)
    figure.text(0.1 / total_width, 1 - 0.27 / total_height, title, ha="left", fontsize=TEXT_SIZE + 2)
    _draw_legend(
        figure, [map_panel.values for map_panel in parts if not _has_float_values(map_panel.values)], place_labels
    )
    return figure


def line_ratios(spectra: Curves, ratios: Sequence[Curves], title: str) -> Figure:
    """Draw spectra with labelled lines, and line ratios against thickness, as in Figure 10."""
    figure = new_figure(9.6, 6.6)
    grid = figure.add_gridspec(2, len(ratios), left=0.075, right=0.985, top=0.9, bottom=0.075, hspace=0.38, wspace=0.2)
    _draw_curves(figure.add_subplot(grid[0, :]), spectra, 0)
    for index, ratio_curves in enumerate(ratios):
        _draw_curves(figure.add_subplot(grid[1, index]), ratio_curves, index + 1)
    figure.text(0.012, 0.955, title, ha="left", fontsize=TEXT_SIZE + 2)
    return figure


@dataclass(frozen=True)
class Detection:
    """Mean probability of each network against a mass fraction in per cent; bands are 10th to 90th percentiles.

    ``min_visible_percent`` is the minimum mass fraction at which the pigment's lines are visible. If None, the lines
    are invisible at all drawn fractions.
    """

    title: str
    percent: NDArray[np.float64]
    curves: Mapping[str, NDArray[np.float64]]
    min_visible_percent: float | None
    bands: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]


def detection_panels(parts: Sequence[Detection], title: str, *, marked_percent: float) -> Figure:
    """Draw probability against mass fraction, with three panels per row and a mark at ``marked_percent``."""
    figure = new_figure(10.5, 0.8 + 2.7 * (-(-len(parts) // 3)))
    figure.suptitle(title, x=0.02, ha="left", fontsize=TEXT_SIZE + 2)
    grid = figure.subplots(-(-len(parts) // 3), 3, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, detection in zip(grid, parts, strict=True):
        for index, (name, curve) in enumerate(detection.curves.items()):
            axes.fill_between(detection.percent, *detection.bands[name], color=f"C{index}", alpha=0.2, linewidth=0)
            axes.plot(detection.percent, curve, color=f"C{index}", label=name, linewidth=1.4)
        axes.axvline(
            marked_percent, color="0.5", linestyle=":", linewidth=1, label=f"{marked_percent:g} %, missed in the paper"
        )
        if detection.min_visible_percent is not None:
            axes.axvspan(
                detection.min_visible_percent, detection.percent[-1], color="0.94", zorder=-1, label="visible lines"
            )
        axes.axhline(0.5, color="0.85", linewidth=0.8, zorder=0)
        axes.set_xscale("log")
        axes.set_xticks([0.1, 1.0, 10.0], ["0.1", "1", "10"])
        axes.set_ylim(-0.03, 1.03)
        put_title(axes, detection.title, left=True)
        axes.tick_params(labelsize=TEXT_SIZE - 1)
    handles, names = grid[0].get_legend_handles_labels()
    legend_style = {"fontsize": TEXT_SIZE - 1, "frameon": False, "ncols": len(names)}
    figure.legend(handles, names, loc="upper left", bbox_to_anchor=(0.015, 0.965), **legend_style)
    figure.supxlabel("mass fraction of vermilion in the dry paint (%)", fontsize=TEXT_SIZE)
    figure.supylabel("probability", fontsize=TEXT_SIZE)
    figure.tight_layout(rect=(0.01, 0.01, 1, 0.95))
    return figure


def _draw_case_row(axes: Sequence[Axes], row: CaseRow) -> None:
    _draw_place(axes[0], row.place)
    put_title(axes[0], "truth", pad=3, size=SMALL_SIZE)
    axes[0].yaxis.set_visible(True)
    axes[0].set_ylabel(row.label, fontsize=TEXT_SIZE, labelpad=3)
    axes[1].imshow(overlay_image(np.zeros(row.place.shape, np.float32), row.areas), interpolation="nearest")
    named_colors = zip(row.families, _ELEMENT_COLORS, strict=False)
    put_title(axes[1], ", ".join(f"{siegbahn(name)} {color}" for name, color in named_colors), pad=3, size=SMALL_SIZE)
    remove_ticks(axes[1])
    for index, probability in enumerate(row.probability.values()):
        probability_axes, overlay_axes, scatter_axes = axes[2 + 3 * index : 5 + 3 * index]
        probability_axes.imshow(overlay_image(probability, ()), interpolation="nearest")
        put_title(probability_axes, "probability", pad=3, size=SMALL_SIZE)
        remove_ticks(probability_axes)
        overlay_axes.imshow(overlay_image(probability, row.areas), interpolation="nearest")
        put_title(overlay_axes, "both", pad=3, size=SMALL_SIZE)
        remove_ticks(overlay_axes)
        _draw_scatter(scatter_axes, row, probability)


def _draw_scatter(axes: Axes, row: CaseRow, probability: NDArray[np.float32]) -> None:
    area = min_scaled_area(row.areas)
    for place, color in enumerate(PLACE_COLORS):
        is_drawn = (row.place == place) & np.isfinite(area) & np.isfinite(probability)
        point_color = "#9a9a9a" if place == 0 else color
        axes.plot(
            area[is_drawn], probability[is_drawn], ".", markersize=3.0, alpha=0.5, color=point_color, markeredgewidth=0
        )
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([0.0, 0.5, 1.0])
    axes.locator_params(axis="x", nbins=3)
    x_label = f"{siegbahn(row.families[0])} (counts)"
    if len(row.areas) > 1:
        x_label = f"lesser of {' and '.join(name.split('_')[0] for name in row.families)}"
    axes.set_xlabel(x_label, fontsize=SMALL_SIZE, labelpad=1.5)
    put_title(axes, "probability over counts", pad=3, size=SMALL_SIZE)
    axes.grid(visible=True, linewidth=0.3, color="#dddddd")
    quiet_axes(axes)


def _draw_panel(axes: Axes, map_panel: Panel) -> None:
    if not _has_float_values(map_panel.values):
        _draw_place(axes, np.asarray(map_panel.values, dtype=np.int64))
        return
    values = np.asarray(map_panel.values, dtype=np.float32)
    if map_panel.is_area:
        draw_area(axes, values, None)
    else:
        draw_probability(axes, values, None)


def _label_strips(axes: Axes, rows: Mapping[str, float] | None, columns: Mapping[str, float] | None) -> None:
    if rows:
        axes.set_yticks(list(rows.values()), list(rows), fontsize=SMALL_SIZE)
    if columns:
        axes.set_xticks(list(columns.values()), list(columns), fontsize=SMALL_SIZE, linespacing=1.0)
    axes.tick_params(length=0, pad=2)


def _draw_place(axes: Axes, place: NDArray[np.int64]) -> None:
    axes.imshow(place, cmap=ListedColormap(PLACE_COLORS), vmin=-0.5, vmax=2.5, interpolation="nearest")
    remove_ticks(axes)


def _draw_legend(figure: Figure, maps: Sequence[NDArray[np.generic]], place_labels: Sequence[str]) -> None:
    """Draw a legend of the colours in maps of places."""
    used_values = sorted({int(value) for values in maps for value in np.unique(values)})
    legend_entries = [
        Line2D(
            [],
            [],
            linestyle="",
            marker="s",
            color=PLACE_COLORS[value],
            markeredgecolor="#666666",
            label=place_labels[value],
        )
        for value in used_values
    ]
    width, height = figure.get_size_inches()
    figure.legend(
        handles=legend_entries, loc="lower left", bbox_to_anchor=(0.1 / width, 0.08 / height), ncols=len(used_values),
        fontsize=SMALL_SIZE, frameon=False, borderpad=0, handletextpad=0.2,
    )  # fmt: skip


def _has_float_values(values: NDArray[np.generic]) -> bool:
    return values.dtype.kind == "f"


def _panel_letter(index: int) -> str:
    return chr(ord("a") + index)


def _draw_curves(axes: Axes, curves: Curves, panel_index: int) -> None:
    for (label, (x, y)), color in zip(curves.curves.items(), _CURVE_COLORS, strict=False):
        axes.plot(x, y, color=color, linewidth=1.2, label=label)
    if curves.logarithmic:
        axes.set_yscale("log")
    for label, energy in curves.marks.items():
        axes.axvline(energy, color="#999999", linewidth=0.5, linestyle=":")
        transform = axes.get_xaxis_transform()
        axes.text(energy, 0.97, label, transform=transform, fontsize=SMALL_SIZE, ha="center", va="top",
                  bbox={"facecolor": "white", "linewidth": 0, "pad": 1.0})  # fmt: skip
    if curves.marks and not curves.logarithmic:
        axes.set_ylim(0.0, 1.18 * max(float(np.nanmax(y)) for _, y in curves.curves.values()))
    axes.set_xlabel(curves.x_label, fontsize=TEXT_SIZE)
    axes.set_ylabel(curves.y_label, fontsize=TEXT_SIZE)
    put_title(axes, f"({_panel_letter(panel_index)}) {curves.title}", left=True)
    axes.margins(x=0.0)
    axes.grid(visible=True, linewidth=0.3, color="#dddddd")
    axes.legend(fontsize=SMALL_SIZE, frameon=False)
    quiet_axes(axes)
