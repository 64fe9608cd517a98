"""Map of the paints, with a colour and a number for each paint."""

import numpy as np
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt

from underpaint.data.maps import NO_ANSWER, Results
from underpaint.display.plot.figure import NO_ANSWER_COLOR, SMALL_SIZE, close_fit, new_figure
from underpaint.display.plot.images import PANEL_WIDTH_INCH, panel_height, pixel_aspect, remove_ticks, scale_bar

MIXED_COLOR = "#f7f5f0"
PAINT_COLORS = (
    "#4477aa", "#cc6677", "#ddcc77", "#117733", "#88ccee", "#882255", "#44aa99", "#999933", "#aa4499", "#e69f4d",
    "#332288", "#7a5c3e", "#8fae3e", "#d98cb3", "#5b7f95", "#b5493a",
)  # fmt: skip
"""Colours of the paints in the order of the paint numbers. If there are more paints, the sequence repeats."""
_MIN_DEPTH_FOR_NUMBER = 2.0
"""Minimum distance of a paint's number from the edge of the paint, in pixels."""


def paint_color(number: int) -> str:
    """Return the colour of a paint in maps and legends."""
    return PAINT_COLORS[(number - 1) % len(PAINT_COLORS)]


def paint_map(results: Results) -> Figure:
    """Draw the map of the paints; mixed and unassigned pixels are nearly white, and pixels without an answer grey."""
    paint_numbers = results.map("paint")
    height = 2.0 * panel_height(paint_numbers.shape, results.step_mm)
    figure = new_figure(2.0 * PANEL_WIDTH_INCH, height + 0.1)
    axes = figure.add_subplot()
    colors = ListedColormap([MIXED_COLOR, *(paint_color(area.number) for area in results.paints), NO_ANSWER_COLOR])
    color_indices = np.where(paint_numbers == NO_ANSWER, len(results.paints) + 1, paint_numbers)
    axes.imshow(
        color_indices, cmap=colors, vmin=-0.5, vmax=len(results.paints) + 1.5, interpolation="nearest",
        aspect=pixel_aspect(results.step_mm),
    )  # fmt: skip
    for area in results.paints:
        if (pixel := _deepest_pixel(paint_numbers == area.number)) is not None:
            is_light_color = sum(to_rgb(paint_color(area.number))) > 1.6
            axes.text(
                pixel[1], pixel[0], str(area.number), color="black" if is_light_color else "white", fontsize=SMALL_SIZE,
                ha="center", va="center",
            )  # fmt: skip
    remove_ticks(axes)
    scale_bar(axes, paint_numbers.shape, results.step_mm)
    return close_fit(figure, 0.05, 0.05, 0.05, 0.05)


def _deepest_pixel(mask: NDArray[np.bool_]) -> tuple[int, int] | None:
    """Return the row and column of the pixel farthest from a paint's edge; None for a very small paint."""
    edge_distance = distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    row, column = np.unravel_index(int(edge_distance.argmax()), edge_distance.shape)
    return (int(row), int(column)) if edge_distance[row, column] >= _MIN_DEPTH_FOR_NUMBER else None
