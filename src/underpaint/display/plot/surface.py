"""Maps of what reflectance says: the pigment of the surface by name, and what lies below it."""

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
    bare,
    draw_image,
    extent,
    panel_height,
    pixel_aspect,
    scale_bar,
    thinned,
)

UNSURE_COLOR, NONE_COLOR = "#f7f5f0", "#4a4a4a"
MOST_COLORS = 18
_LEGEND_ROW_IN = 0.22
_LEGEND_COLUMNS = 3


def member_map(results: Results, names: Sequence[str]) -> Figure:
    """Draw which pigment gives the surface its colour, where its probability exceeds one half.

    Parameters
    ----------
    results : Results
    names : sequence of str
        Members with a colour of their own, at most :data:`MOST_COLORS`; the others are "another pigment".
    """
    colors = [to_hex(mpl.colormaps["tab20"](index)) for index in range(min(len(names), MOST_COLORS))]
    legend = [(results.member_label(name), color) for name, color in zip(names, colors, strict=False)]
    index, highest = _index(results, names)
    keys = [*legend, ("another pigment", "#c9a0dc"), (results.member_label(NONE_OF_LIBRARY), NONE_COLOR)]
    keys += [("none above one half", UNSURE_COLOR), ("no answer", NO_ANSWER_COLOR)]
    used = [number for number in range(len(keys)) if (index == number).any()]
    n_row = -(-len(used) // _LEGEND_COLUMNS)
    height = 2.0 * panel_height(results.shape, results.step_mm)
    below = 0.1 + n_row * _LEGEND_ROW_IN
    figure = new_figure(2.0 * PANEL_WIDTH_IN + 1.2, height + below + 0.1)
    axes = figure.add_subplot()
    axes.imshow(
        thinned(index), cmap=ListedColormap([color for _, color in keys]), vmin=-0.5, vmax=len(keys) - 0.5,
        interpolation="nearest", aspect=pixel_aspect(results.step_mm), extent=extent(results.shape),
        alpha=thinned(np.clip(0.35 + 0.65 * np.nan_to_num(highest, nan=1.0), 0, 1)),
    )  # fmt: skip
    bare(axes)
    scale_bar(axes, results.shape, results.step_mm)
    patches = [Patch(facecolor=keys[n][1], edgecolor="#808080", linewidth=0.5, label=keys[n][0]) for n in used]
    figure.legend(handles=patches, loc="lower center", ncols=_LEGEND_COLUMNS, frameon=False, fontsize=TEXT_SIZE)
    return close_fit(figure, 0.1, 0.1, below, 0.1)


def _index(results: Results, names: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return each pixel's place in the legend, and the probability of its pigment."""
    n_name = len(names)
    best = np.full(results.shape, n_name + 2)
    highest = np.full(results.shape, np.float32(PRESENT_PROBABILITY))
    for (name,) in results.stacks["surface_member"].keys:
        values = results.map("surface_member", name)
        place = names.index(name) if name in names else n_name + 1 if name == NONE_OF_LIBRARY else n_name
        better = values > highest
        best[better], highest[better] = place, values[better]
    best[~np.isfinite(values)] = n_name + 3
    return best, highest


def hidden_gallery(results: Results, names: Sequence[str], *, columns: int = 4) -> Figure:
    """Draw the probability that groups lie below the surface, from 0 to 1.

    Parameters
    ----------
    results : Results
    names : sequence of str
        Groups, at least one.
    columns : int
        Maps in a row.
    """
    height = panel_height(results.shape, results.step_mm)
    n_row = -(-len(names) // columns)
    figure = new_figure(columns * PANEL_WIDTH_IN, n_row * (height + 0.3) + 0.05)
    colors = mpl.colormaps[PROBABILITY_MAP].with_extremes(bad=NO_ANSWER_COLOR)
    for index, name in enumerate(names):
        axes = figure.add_subplot(n_row, columns, index + 1)
        image = draw_image(axes, results.map("hidden", name), colors, 0.0, 1.0, results.step_mm)
        figure.colorbar(image, ax=axes, fraction=0.05, pad=0.025, aspect=25)
        scale_bar(axes, results.shape, results.step_mm if index == 0 else None)
        put_title(axes, results.short_label(name) if name in results.materials else name.replace("_", " "), pad=3)
    close_fit(figure, 0.05, 0.35, 0.05, 0.25)
    figure.subplots_adjust(wspace=0.28, hspace=0.3 / height)
    return figure
