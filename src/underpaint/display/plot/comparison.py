"""Figures that compare pigment maps with element maps, as in Figure 5 of Xu et al. 2022."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap, to_rgb
from matplotlib.figure import Figure
from numpy.typing import NDArray

from underpaint.data.maps import Place, Results
from underpaint.display.plot.figure import (
    NO_ANSWER_COLOR,
    SMALL_SIZE,
    close_fit,
    new_figure,
    put_title,
    quiet_axes,
    short_label,
)
from underpaint.display.plot.images import (
    PANEL_WIDTH_INCH,
    Step,
    draw_area,
    draw_image,
    draw_probability,
    limits_text,
    panel_height,
    pixel_aspect,
    remove_ticks,
    upper_limit,
)
from underpaint.physics.atomic import siegbahn

MAX_SCATTER_POINTS = 8000
_SCATTER_WIDTH_INCH = 2.1
_GAP_WIDTH_INCH = 0.28
_ELEMENT_COLORS = ("green", "blue")
_TITLE_HEIGHT_INCH = 0.37
_CONTRADICTION_COLORS = ("#efece5", "#b3261e")


def overlay(
    probability: NDArray[np.float32], areas: Sequence[NDArray[np.float32]], *, title: str = "", step_mm: Step = None
) -> Figure:
    """Draw a pigment map in red and its element maps in green and blue. Yellow and white show agreement.

    Parameters
    ----------
    probability : (n_row, n_column) array
        Probability of the pigment, drawn in red from 0 to 1.
    areas : sequence of (n_row, n_column) arrays
        One or two line-area maps, each scaled to its 99th percentile as in Figure 5 of Xu et al. 2022.
    title : str
        Title above the map.
    step_mm : (float, float) or None
        Distance between rows and between columns, in mm.
    """
    figure = new_figure(2 * PANEL_WIDTH_INCH, 2 * panel_height(probability.shape, step_mm) + 0.4)
    axes = figure.add_subplot()
    _draw_overlay(axes, probability, areas, step_mm)
    put_title(axes, title)
    return close_fit(figure, 0.1, 0.1, 0.1, 0.3)


def scatter(
    probability: NDArray[np.float32], areas: Sequence[NDArray[np.float32]], names: Sequence[str], *, title: str = ""
) -> Figure:
    """Draw probability against line area, with a point for each pixel.

    Parameters
    ----------
    probability : (n_row, n_column) array
        Probabilities; pixels with NaN are omitted.
    areas : sequence of (n_row, n_column) arrays
        One or two line-area maps, in counts. For two maps, each map is divided by its 99th percentile, and the smaller
        of the two values is drawn.
    names : sequence of str
        Line families of the maps, for the label of the axis.
    title : str
        Title above the plot.
    """
    figure = new_figure(4.2, 3.2)
    axes = figure.add_subplot()
    _draw_scatter(axes, probability, areas, names)
    put_title(axes, title)
    return close_fit(figure, 0.6, 0.15, 0.55, 0.3)


def contradiction_maps(
    maps: Sequence[NDArray[np.float32]],
    is_contradicted: NDArray[np.bool_],
    titles: Sequence[str],
    *,
    show_counts: bool,
    step_mm: Step = None,
) -> Figure:
    """Draw two maps of the same pixels, and a map of the pixels in which the two maps contradict each other.

    Parameters
    ----------
    maps : sequence of two (n_row, n_column) arrays
        Probabilities or counts; NaN is drawn grey.
    is_contradicted : (n_row, n_column) bool array
        Pixels with a contradiction, drawn in red.
    titles : sequence of two str
        Titles of the maps.
    show_counts : bool
        Whether the maps contain counts instead of probabilities.
    step_mm : (float, float) or None
        Distance between rows and between columns, in mm.
    """
    height = panel_height(is_contradicted.shape, step_mm)
    figure = new_figure(3 * PANEL_WIDTH_INCH, height + _TITLE_HEIGHT_INCH + 0.1)
    for index, (values, title) in enumerate(zip(maps, titles, strict=True)):
        axes = figure.add_subplot(1, 3, index + 1)
        if show_counts:
            draw_area(axes, values, step_mm if index == 0 else None, step_mm)
        else:
            draw_probability(axes, values, step_mm)
        put_title(axes, title, pad=3)
    axes = figure.add_subplot(1, 3, 3)
    draw_image(axes, is_contradicted.astype(np.float32), ListedColormap(_CONTRADICTION_COLORS), 0.0, 1.0, step_mm)
    put_title(axes, "pixels that contradict (red)", pad=3)
    close_fit(figure, 0.05, 0.1, 0.05, _TITLE_HEIGHT_INCH)
    figure.subplots_adjust(wspace=0.28)
    return figure


def pigment_row(results: Results, name: str, place: Place = "anywhere") -> Figure:
    """Draw the map, element maps, overlay and scatter plot of a pigment, as in Figure 5 of Xu et al. 2022.

    Parameters
    ----------
    results : Results
        Results of a scan. Without lines of the pigment in the results, only the pigment map is drawn.
    name : str
        Pigment or group.
    place : {"anywhere", "surface", "below"}
    """
    families = mapped_families(results, name)
    areas = [results[family] for family in families]
    step_mm, probability = results.step_mm, results[name, place]
    height = max(panel_height(probability.shape, step_mm), 1.25)
    figure, row_axes = _new_row_figure(len(areas), height)
    draw_probability(row_axes[0], probability, step_mm)
    put_title(row_axes[0], f"{short_label(results.label(name, place))}\nprobability", pad=3)
    for axes, area, family in zip(row_axes[1:], areas, families, strict=False):
        draw_area(axes, area, None, step_mm)
        put_title(axes, f"{siegbahn(family)}\n{limits_text(upper_limit(area))} counts", pad=3)
    if areas:
        _draw_overlay(row_axes[-2], probability, areas, step_mm)
        put_title(row_axes[-2], _overlay_title(families, areas), pad=3)
        _copy_axes_size(row_axes[-2], row_axes[0])
        _draw_scatter(row_axes[-1], probability, areas, families)
    return figure


def mapped_families(results: Results, name: str) -> tuple[str, ...]:
    """Return the first mapped line family of each element of a pigment, at most two families."""
    family_by_element: dict[str, str] = {}
    for family in results.materials[name].elements:
        if family in results.lines:
            family_by_element.setdefault(family.partition("_")[0], family)
    return tuple(family_by_element.values())[:2]


def min_scaled_area(areas: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return one line-area map unchanged, or the minimum of two maps after scaling each to its 99th percentile."""
    if len(areas) == 1:
        return np.asarray(areas[0], dtype=np.float64)
    return np.asarray(np.minimum.reduce([area / upper_limit(area) for area in areas]), dtype=np.float64)


def overlay_image(probability: NDArray[np.float32], areas: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return the (n_row, n_column, 3) colours of an overlay, from 0 to 1. Pixels without an answer are grey."""
    image = np.zeros((*probability.shape, 3))
    image[:, :, 0] = probability
    for channel, area in enumerate(areas[:2], start=1):
        image[:, :, channel] = area / upper_limit(area)
    is_unknown = ~np.isfinite(image).all(axis=2)
    image[is_unknown] = to_rgb(NO_ANSWER_COLOR)
    return np.clip(image, 0.0, 1.0)


def _new_row_figure(n_area: int, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure with a row of axes. The widths of the axes do not depend on the number of elements."""
    n_map = n_area + 2 if n_area else 1
    widths = [*([PANEL_WIDTH_INCH] * n_map), *([_SCATTER_WIDTH_INCH] if n_area else [])]
    total_width = sum(widths) + _GAP_WIDTH_INCH * len(widths) + (0.3 if n_area else 0.0)
    total_height = 0.4 + height + _TITLE_HEIGHT_INCH
    figure = new_figure(total_width, total_height)
    row_axes, left_inch = [], 0.08
    for index, width in enumerate(widths):
        is_scatter = bool(n_area) and index == len(widths) - 1
        left_inch += 0.3 if is_scatter else 0.0
        box = (left_inch / total_width, 0.4 / total_height, (width - 0.1) / total_width, height / total_height)
        row_axes.append(figure.add_axes(box))
        left_inch += width + _GAP_WIDTH_INCH
    return figure, row_axes


def _overlay_title(families: Sequence[str], areas: Sequence[NDArray[np.float32]]) -> str:
    title_parts = zip(families, areas, _ELEMENT_COLORS, strict=False)
    family_texts = [
        f"{siegbahn(family)} in {color}, {limits_text(upper_limit(area))}" for family, area, color in title_parts
    ]
    return "\n".join(["probability in red, 0 to 1", "; ".join(family_texts)])


def _copy_axes_size(axes: Axes, reference_axes: Axes) -> None:
    """Give axes the same size as reference axes, which a colour bar has made smaller."""
    old_box, reference_box = axes.get_position(original=True), reference_axes.get_position(original=True)
    axes.set_position((old_box.x0, reference_box.y0, reference_box.width, reference_box.height))


def _draw_overlay(
    axes: Axes, probability: NDArray[np.float32], areas: Sequence[NDArray[np.float32]], step_mm: Step
) -> None:
    axes.imshow(overlay_image(probability, areas), interpolation="nearest", aspect=pixel_aspect(step_mm))
    remove_ticks(axes)


def _draw_scatter(
    axes: Axes, probability: NDArray[np.float32], areas: Sequence[NDArray[np.float32]], names: Sequence[str]
) -> None:
    area = min_scaled_area(areas)
    is_known = np.isfinite(area) & np.isfinite(probability)
    x, y = area[is_known], probability[is_known]
    stride = -(-max(x.size, 1) // MAX_SCATTER_POINTS)
    axes.plot(x[::stride], y[::stride], ".", markersize=2.0, alpha=0.35, color="#7a1f3d", markeredgewidth=0)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlim(left=min(0.0, float(x.min(initial=0.0))))
    x_label = f"{siegbahn(names[0])} (counts)" if len(areas) == 1 else f"lesser of {' and '.join(map(siegbahn, names))}"
    axes.set_xlabel(x_label, fontsize=SMALL_SIZE)
    axes.set_ylabel("probability", fontsize=SMALL_SIZE)
    axes.grid(visible=True, linewidth=0.3, color="#dddddd")
    quiet_axes(axes)
