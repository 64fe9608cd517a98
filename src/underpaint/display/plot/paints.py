"""The map of the paints, each in its colour, with its number."""

import numpy as np
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from underpaint.data.maps import NO_ANSWER, Results
from underpaint.display.plot.figure import NO_ANSWER_COLOR, SMALL_SIZE, close_fit, new_figure
from underpaint.display.plot.images import PANEL_WIDTH_IN, bare, panel_height, pixel_aspect, scale_bar

MIXED_COLOR = "#f7f5f0"
COLORS = (
    "#4477aa", "#cc6677", "#ddcc77", "#117733", "#88ccee", "#882255", "#44aa99", "#999933", "#aa4499", "#e69f4d",
    "#332288", "#7a5c3e", "#8fae3e", "#d98cb3", "#5b7f95", "#b5493a",
)  # fmt: skip
"""Of the paints, in the order of their numbers, over and over."""
_LEAST_FOR_NUMBER = 2.0
"""Pixels from the edge of a paint, at its widest, from which its number is written into it."""


def paint_color(number: int) -> str:
    """Return the colour of a paint in maps and legends."""
    return COLORS[(number - 1) % len(COLORS)]


def paint_map(results: Results) -> Figure:
    """Draw the map of the paints; what is mixed or of no paint is nearly white, no answer grey."""
    label = results.map("paint")
    height = 2.0 * panel_height(label.shape, results.step_mm)
    figure = new_figure(2.0 * PANEL_WIDTH_IN, height + 0.1)
    axes = figure.add_subplot()
    colors = ListedColormap([MIXED_COLOR, *(paint_color(area.number) for area in results.paints), NO_ANSWER_COLOR])
    shown = np.where(label == NO_ANSWER, len(results.paints) + 1, label)
    axes.imshow(
        shown, cmap=colors, vmin=-0.5, vmax=len(results.paints) + 1.5, interpolation="nearest",
        aspect=pixel_aspect(results.step_mm),
    )  # fmt: skip
    for area in results.paints:
        if (place := _widest(label == area.number)) is not None:
            light = sum(to_rgb(paint_color(area.number))) > 1.6
            axes.text(
                place[1], place[0], str(area.number), color="black" if light else "white", fontsize=SMALL_SIZE,
                ha="center", va="center",
            )  # fmt: skip
    bare(axes)
    scale_bar(axes, label.shape, results.step_mm)
    return close_fit(figure, 0.05, 0.05, 0.05, 0.05)


def _widest(mask: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Return row and column farthest from a paint's edge; None where a number has no room."""
    depth = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), depth.shape)
    return (int(row), int(column)) if depth[row, column] >= _LEAST_FOR_NUMBER else None
