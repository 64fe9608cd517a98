"""Figures of pigments at the surface and below, and of the thickness of the uppermost layer."""

from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import Colorbar
from matplotlib.colors import ListedColormap, LogNorm, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, StrMethodFormatter
from numpy.typing import NDArray

from underpaint.data.maps import NONE_OF_LIBRARY, PLACED_PROBABILITY, PRESENT_PROBABILITY, SURFACE_UM, Place, Results
from underpaint.display.plot.figure import NO_ANSWER_COLOR, SMALL_SIZE, TEXT_SIZE, close_fit, new_figure, put_title
from underpaint.display.plot.images import (
    HATCH,
    HATCH_WIDTH,
    PANEL_WIDTH_INCH,
    PROBABILITY_MAP,
    draw_image,
    hatch,
    map_extent,
    panel_height,
    pixel_aspect,
    remove_ticks,
    scale_bar,
    thin_map,
)

LOW_PROBABILITY_COLOR, NONE_OF_LIBRARY_COLOR = "#f7f5f0", "#4a4a4a"
MAX_COLORS = 18
_LEGEND_ROW_HEIGHT_INCH = 0.22
_LEGEND_COLUMNS = 3
THICKNESS_MAP = "viridis"
THICKNESS_TICKS_UM = (1, 2, 5, 10, 20, 50, 100, 200, 500)
UNDETERMINED_PLACE_COLOR, UNDETERMINED_COLOR = "#7fd4ff", "#b0b0b0"
_PLACE_TITLES: tuple[tuple[Place, str], ...] = (
    ("anywhere", "anywhere"),
    ("surface", "at the surface"),
    ("below", "below"),
)
_LEFT_MARGIN_INCH, _TOP_MARGIN_INCH, _LEGEND_HEIGHT_INCH = 1.15, 0.3, 0.35
SECTION_WIDTH_INCH, SECTION_HEIGHT_INCH = 1.6, 2.5
MAX_SECTIONS = 6
_UNKNOWN_COLOR = "#d9d6cf"
_SURFACE_RANGE, _BELOW_RANGE, _UNDETERMINED_RANGE = (0.66, 1.0), (0.2, 0.66), (0.0, 0.2)
"""Lower and upper limits of the layers as fractions of the sketch's height. The sketch is not to scale."""


def member_map(results: Results, names: Sequence[str]) -> Figure:
    """Draw a map of the pigments that determine the colour of the surface with a probability above one half.

    Parameters
    ----------
    results : Results
    names : sequence of str
        At most :data:`MAX_COLORS` members that get a separate colour. All other members are "another pigment".
    """
    colors = [to_hex(mpl.colormaps["tab20"](color_index)) for color_index in range(min(len(names), MAX_COLORS))]
    named_entries = [(results.member_label(name), color) for name, color in zip(names, colors, strict=False)]
    color_index, max_probability = _color_indices(results, names)
    legend_entries = [
        *named_entries,
        ("another pigment", "#c9a0dc"),
        (results.member_label(NONE_OF_LIBRARY), NONE_OF_LIBRARY_COLOR),
    ]
    legend_entries += [("none above one half", LOW_PROBABILITY_COLOR), ("no answer", NO_ANSWER_COLOR)]
    used_indices = [index for index in range(len(legend_entries)) if (color_index == index).any()]
    n_row = -(-len(used_indices) // _LEGEND_COLUMNS)
    height = 2.0 * panel_height(results.shape, results.step_mm)
    legend_height_inch = 0.1 + n_row * _LEGEND_ROW_HEIGHT_INCH
    figure = new_figure(2.0 * PANEL_WIDTH_INCH + 1.2, height + legend_height_inch + 0.1)
    axes = figure.add_subplot()
    axes.imshow(
        thin_map(color_index), cmap=ListedColormap([color for _, color in legend_entries]),
        vmin=-0.5, vmax=len(legend_entries) - 0.5,
        interpolation="nearest", aspect=pixel_aspect(results.step_mm), extent=map_extent(results.shape),
        alpha=thin_map(np.clip(0.35 + 0.65 * np.nan_to_num(max_probability, nan=1.0), 0, 1)),
    )  # fmt: skip
    remove_ticks(axes)
    scale_bar(axes, results.shape, results.step_mm)
    patches = [
        Patch(facecolor=legend_entries[index][1], edgecolor="#808080", linewidth=0.5, label=legend_entries[index][0])
        for index in used_indices
    ]
    figure.legend(handles=patches, loc="lower center", ncols=_LEGEND_COLUMNS, frameon=False, fontsize=TEXT_SIZE)
    return close_fit(figure, 0.1, 0.1, legend_height_inch, 0.1)


def _color_indices(results: Results, names: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return for each pixel the index of its colour in the legend, and the probability of its pigment."""
    n_name = len(names)
    color_index = np.full(results.shape, n_name + 2)
    max_probability = np.full(results.shape, np.float32(PRESENT_PROBABILITY))
    for (name,) in results.stacks["surface_member"].keys:
        values = results.map("surface_member", name)
        legend_index = names.index(name) if name in names else n_name + 1 if name == NONE_OF_LIBRARY else n_name
        is_higher = values > max_probability
        color_index[is_higher], max_probability[is_higher] = legend_index, values[is_higher]
    color_index[~np.isfinite(values)] = n_name + 3
    return color_index, max_probability


def hidden_gallery(results: Results, names: Sequence[str], *, columns: int = 4) -> Figure:
    """Draw one map for each group: the probability that the group lies below the surface.

    Parameters
    ----------
    results : Results
    names : sequence of str
        Names of groups; at least one.
    columns : int
        Number of maps per row.
    """
    height = panel_height(results.shape, results.step_mm)
    n_row = -(-len(names) // columns)
    figure = new_figure(columns * PANEL_WIDTH_INCH, n_row * (height + 0.3) + 0.05)
    colors = mpl.colormaps[PROBABILITY_MAP].with_extremes(bad=NO_ANSWER_COLOR)
    for color_index, name in enumerate(names):
        axes = figure.add_subplot(n_row, columns, color_index + 1)
        image = draw_image(axes, results.map("hidden", name), colors, 0.0, 1.0, results.step_mm)
        figure.colorbar(image, ax=axes, fraction=0.05, pad=0.025, aspect=25)
        scale_bar(axes, results.shape, results.step_mm if color_index == 0 else None)
        put_title(axes, results.short_label(name) if name in results.materials else name.replace("_", " "), pad=3)
    close_fit(figure, 0.05, 0.35, 0.05, 0.25)
    figure.subplots_adjust(wspace=0.28, hspace=0.3 / height)
    return figure


def place_gallery(results: Results, names: Sequence[str]) -> Figure:
    """Draw a row of maps for each group: its probability anywhere, at the surface, and below.

    Pixels are hatched if a group is present, but its probability reaches ``PLACED_PROBABILITY`` neither at the surface
    nor below.

    Parameters
    ----------
    results : Results
        Results of a model that predicts places.
    names : sequence of str
        Groups or pigments in the order of the figure; at least one.
    """
    height = panel_height(results.shape, results.step_mm)
    width = _LEFT_MARGIN_INCH + len(_PLACE_TITLES) * PANEL_WIDTH_INCH + 0.55
    figure = new_figure(width, _TOP_MARGIN_INCH + len(names) * (height + 0.06) + _LEGEND_HEIGHT_INCH)
    grid = figure.subplots(len(names), len(_PLACE_TITLES), squeeze=False)
    for row, name in enumerate(names):
        undetermined_place_mask = _undetermined_place_mask(results, name)
        for axes, (place, title) in zip(grid[row], _PLACE_TITLES, strict=True):
            colors = mpl.colormaps[PROBABILITY_MAP].with_extremes(bad=NO_ANSWER_COLOR)
            image = draw_image(axes, results[name, place], colors, 0.0, 1.0, results.step_mm)
            if place != "anywhere":
                hatch(axes, undetermined_place_mask, UNDETERMINED_PLACE_COLOR)
            if row == 0:
                put_title(axes, title, pad=3)
        grid[row][0].yaxis.set_visible(True)
        grid[row][0].set_ylabel(_wrapped_label(results, name), fontsize=SMALL_SIZE, rotation=0, ha="right", va="center")
    scale_bar(grid[0][0], results.shape, results.step_mm)
    close_fit(figure, _LEFT_MARGIN_INCH, 0.55, _LEGEND_HEIGHT_INCH, _TOP_MARGIN_INCH)
    figure.subplots_adjust(wspace=0.05, hspace=0.06 / height)
    _draw_color_bar(figure, grid[0][-1], image)
    figure.legend(handles=_place_legend(), loc="lower center", ncols=2, frameon=False, fontsize=SMALL_SIZE)
    return figure


def thickness_map(results: Results, *, title: str = "") -> Figure:
    """Draw maps of the uppermost layer's thickness, and of the limits of its 90 % interval, in um.

    Pixels are white and hatched if the thickness is not determined, and grey if there is no answer.

    Parameters
    ----------
    results : Results
        Results of a model that predicts quantities.
    title : str
        Title above the figure.

    Raises
    ------
    ScanError
        The model predicts no quantities.
    """
    estimate = results.estimate(SURFACE_UM)
    is_determined = results.is_determined(SURFACE_UM)
    has_answer = np.isfinite(estimate.value)
    height = panel_height(estimate.value.shape, results.step_mm)
    figure = new_figure(3 * PANEL_WIDTH_INCH + 0.8, height + 0.5 + _LEGEND_HEIGHT_INCH)
    grid = figure.subplots(1, 3, squeeze=False)[0]
    min_um, max_um = _color_limits_um(estimate.low[is_determined], estimate.high[is_determined])
    panels = zip(grid, (estimate.low, estimate.value, estimate.high), ("lower end", "median", "upper end"), strict=True)
    for axes, values, label in panels:
        axes.set_facecolor(NO_ANSWER_COLOR)
        image = axes.imshow(
            np.ma.masked_where(~is_determined, values), cmap=mpl.colormaps[THICKNESS_MAP], norm=LogNorm(min_um, max_um),
            interpolation="nearest", aspect=pixel_aspect(results.step_mm), origin="upper", zorder=1,
        )  # fmt: skip
        _hatch_undetermined(axes, has_answer & ~is_determined)
        remove_ticks(axes)
        put_title(axes, label, pad=3)
    scale_bar(grid[0], estimate.value.shape, results.step_mm)
    close_fit(figure, 0.1, 0.65, 0.05 + _LEGEND_HEIGHT_INCH, 0.45)
    figure.subplots_adjust(wspace=0.06)
    color_bar = _draw_color_bar(figure, grid[-1], image)
    ticks_um = [tick_um for tick_um in THICKNESS_TICKS_UM if min_um <= tick_um <= max_um]
    color_bar.ax.yaxis.set_major_locator(FixedLocator(ticks_um))
    color_bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g} µm"))
    color_bar.ax.yaxis.set_minor_locator(NullLocator())
    color_bar.ax.yaxis.set_minor_formatter(NullFormatter())
    figure.suptitle(title, fontsize=TEXT_SIZE, y=1 - 0.06 / figure.get_figheight(), va="top")
    figure.legend(handles=_thickness_legend(), loc="lower center", ncols=2, frameon=False, fontsize=SMALL_SIZE)
    return figure


def _undetermined_place_mask(results: Results, name: str) -> NDArray[np.bool_]:
    is_present = results[name] > PRESENT_PROBABILITY
    is_at_surface, is_below = (results[name, place] >= PLACED_PROBABILITY for place in ("surface", "below"))
    return np.asarray(is_present & ~is_at_surface & ~is_below)


def _hatch_undetermined(axes: Axes, mask: NDArray[np.bool_]) -> None:
    """Draw the pixels of a mask white and hatched."""
    white_image = np.ma.masked_where(~mask, np.zeros(mask.shape))
    colors = ListedColormap(["white"])
    axes.imshow(white_image, cmap=colors, interpolation="nearest", aspect=axes.get_aspect(), origin="upper", zorder=2)
    hatch(axes, mask, UNDETERMINED_COLOR)


def _color_limits_um(lower_um: NDArray[np.float32], upper_um: NDArray[np.float32]) -> tuple[float, float]:
    """Return limits of the colour scale in um, which enclose most of the intervals."""
    if not lower_um.size:
        return 1.0, 200.0
    thickness_range_um = float(np.percentile(lower_um, 2)), float(np.percentile(upper_um, 98))
    return max(thickness_range_um[0], 0.5), max(thickness_range_um[1], 2.0 * max(thickness_range_um[0], 0.5))


def _wrapped_label(results: Results, name: str) -> str:
    label_words = results.short_label(name).split()
    label_lines = [""]
    for word in label_words:
        if label_lines[-1] and len(label_lines[-1]) + len(word) > 12:
            label_lines.append("")
        label_lines[-1] = f"{label_lines[-1]} {word}".strip()
    return "\n".join(label_lines)


def _place_legend() -> list[Patch]:
    return [_legend_patch("#2a0a3a", UNDETERMINED_PLACE_COLOR, "place not determined", HATCH), _no_answer_patch()]


def _thickness_legend() -> list[Patch]:
    return [_legend_patch("white", UNDETERMINED_COLOR, "not determined", HATCH), _no_answer_patch()]


def _no_answer_patch() -> Patch:
    return _legend_patch(NO_ANSWER_COLOR, "#808080", "no answer", None)


def _legend_patch(face_color: str, edge_color: str, label: str, hatch_pattern: str | None) -> Patch:
    with mpl.rc_context({"hatch.linewidth": HATCH_WIDTH}):
        return Patch(facecolor=face_color, edgecolor=edge_color, hatch=hatch_pattern, linewidth=0.5, label=label)


def _draw_color_bar(figure: Figure, axes: Axes, image: AxesImage) -> Colorbar:
    """Draw a colour bar beside axes without changing their size."""
    box, width = axes.get_position(), figure.get_figwidth()
    color_bar = figure.colorbar(image, cax=figure.add_axes((box.x1 + 0.08 / width, box.y0, 0.1 / width, box.height)))
    color_bar.ax.tick_params(labelsize=SMALL_SIZE - 1, width=0.5, length=2)
    color_bar.outline.set_linewidth(0.4)
    return color_bar


@dataclass(frozen=True)
class Section:
    """Content of one column in the sketch of stratigraphies.

    Parameters
    ----------
    title, thickness : str
        Text above the column, and text in its uppermost layer.
    surface, below, undetermined_groups : tuple of (str, str)
        Labels and colours of the groups in the uppermost layer, below this layer, and at an undetermined place.
    """

    title: str
    thickness: str
    surface: tuple[tuple[str, str], ...]
    below: tuple[tuple[str, str], ...]
    undetermined_groups: tuple[tuple[str, str], ...]


def stratigraphy_sketch(sections: Sequence[Section]) -> Figure:
    """Draw stratigraphies side by side, not to scale.

    Parameters
    ----------
    sections : sequence of Section
        Sections to draw, at least one. Sections after the sixth are omitted.
    """
    shown_sections = sections[:MAX_SECTIONS]
    figure = new_figure(len(shown_sections) * SECTION_WIDTH_INCH + 0.1, SECTION_HEIGHT_INCH)
    for axes, section in zip(figure.subplots(1, len(shown_sections), squeeze=False)[0], shown_sections, strict=True):
        axes.set_axis_off()
        axes.set_xlim(0, 1)
        axes.set_ylim(0 if any(section.undetermined_groups for section in shown_sections) else _BELOW_RANGE[0], 1)
        put_title(axes, section.title, pad=4)
        _draw_layer(
            axes, _SURFACE_RANGE, section.surface, section.thickness if section.surface else "", "nothing certain"
        )
        _draw_layer(axes, _BELOW_RANGE, section.below, "", "nothing detected below")
        if section.undetermined_groups:
            _draw_layer(axes, _UNDETERMINED_RANGE, section.undetermined_groups, "place not determined", "")
    close_fit(figure, 0.05, 0.05, 0.05, 0.3)
    figure.subplots_adjust(wspace=0.08)
    return figure


def _draw_layer(
    axes: Axes,
    height_range: tuple[float, float],
    materials: Sequence[tuple[str, str]],
    thickness: str,
    empty_label: str,
) -> None:
    """Draw a layer as coloured stripes of its materials, with their names."""
    bottom, top = height_range
    for index, (_, color) in enumerate(materials or (("", _UNKNOWN_COLOR),)):
        width = 1 / max(len(materials), 1)
        axes.add_patch(Rectangle((index * width, bottom), width, top - bottom, facecolor=color, linewidth=0))
    line_style = "-" if materials else ":"
    axes.add_patch(
        Rectangle(
            (0, bottom), 1, top - bottom, linestyle=line_style, facecolor="none", edgecolor="#333333", linewidth=0.8
        )
    )
    label = "\n".join([*(label for label, _ in materials), *([thickness] if thickness else [])]) or empty_label
    is_dark = bool(materials) and max(_lightness(color) for _, color in materials) < 0.5
    box = {"facecolor": "#000000" if is_dark else "#ffffff", "alpha": 0.7, "linewidth": 0, "pad": 1.0}
    axes.text(
        0.5, 0.5 * (bottom + top), label, fontsize=SMALL_SIZE, ha="center", va="center", linespacing=1.15,
        color="white" if is_dark else "#111111", bbox=box if materials else None,
    )  # fmt: skip


def _lightness(color: str) -> float:
    red, green, blue = to_rgb(color)
    return 0.3 * red + 0.6 * green + 0.1 * blue
