"""Maps of the results of reflectance: pigment of the surface, and groups below the surface."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.colors import ListedColormap, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from numpy.typing import NDArray

from underpaint.data.maps import NONE_OF_LIBRARY, PRESENT_PROBABILITY, Results
from underpaint.display.plot.figure import NO_ANSWER_COLOR, TEXT_SIZE, close_fit, new_figure, put_title
from underpaint.display.plot.images import (
    PANEL_WIDTH_IN,
    PROBABILITY_MAP,
    draw_image,
    map_extent,
    panel_height,
    pixel_aspect,
    remove_ticks,
    scale_bar,
    thin_map,
)

UNSURE_COLOR, NO_MEMBER_COLOR = "#f7f5f0", "#4a4a4a"
MAX_COLORS = 18
_LEGEND_ROW_IN = 0.22
_LEGEND_COLUMNS = 3


def member_map(results: Results, names: Sequence[str]) -> Figure:
    """Draw a map of the pigments that determine the colour of the surface with a probability above one half.

    Parameters
    ----------
    results : Results
    names : sequence of str
        Members with a separate colour, at most :data:`MAX_COLORS`; other members are "another pigment".
    """
    colors = [to_hex(mpl.colormaps["tab20"](color_index)) for color_index in range(min(len(names), MAX_COLORS))]
    named_entries = [(results.member_label(name), color) for name, color in zip(names, colors, strict=False)]
    color_index, max_probability = _color_indices(results, names)
    legend_entries = [
        *named_entries,
        ("another pigment", "#c9a0dc"),
        (results.member_label(NONE_OF_LIBRARY), NO_MEMBER_COLOR),
    ]
    legend_entries += [("none above one half", UNSURE_COLOR), ("no answer", NO_ANSWER_COLOR)]
    used_indices = [number for number in range(len(legend_entries)) if (color_index == number).any()]
    n_row = -(-len(used_indices) // _LEGEND_COLUMNS)
    height = 2.0 * panel_height(results.shape, results.step_mm)
    legend_height_in = 0.1 + n_row * _LEGEND_ROW_IN
    figure = new_figure(2.0 * PANEL_WIDTH_IN + 1.2, height + legend_height_in + 0.1)
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
        Patch(facecolor=legend_entries[number][1], edgecolor="#808080", linewidth=0.5, label=legend_entries[number][0])
        for number in used_indices
    ]
    figure.legend(handles=patches, loc="lower center", ncols=_LEGEND_COLUMNS, frameon=False, fontsize=TEXT_SIZE)
    return close_fit(figure, 0.1, 0.1, legend_height_in, 0.1)


def _color_indices(results: Results, names: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return the index of each pixel's colour in the legend, and the probability of its pigment."""
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
    """Draw the probability that groups lie below the surface, from 0 to 1.

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
    figure = new_figure(columns * PANEL_WIDTH_IN, n_row * (height + 0.3) + 0.05)
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
