"""Figures of probability, line-area and state maps, without interpolation. Pixels without an answer are grey."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colorbar import make_axes, make_axes_gridspec
from matplotlib.colors import Colormap, ListedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from underpaint.data.maps import (
    CANNOT_EXCLUDE,
    NO_ANSWER,
    NOT_DETECTED,
    PIGMENT,
    PRESENT,
    STATES,
    TRACE,
    Results,
    unit_of,
)
from underpaint.display.plot.figure import (
    NO_ANSWER_COLOR,
    SMALL_SIZE,
    TEXT_SIZE,
    close_fit,
    new_figure,
    put_title,
    short_label,
)
from underpaint.physics.atomic import siegbahn

STATE_COLORS = {
    NOT_DETECTED: "#f7f5f0",
    PRESENT: "#b0605a",
    CANNOT_EXCLUDE: "#e6c877",
    PIGMENT: "#7a1f1b",
    TRACE: "#e0aaa2",
    NO_ANSWER: NO_ANSWER_COLOR,
}
HATCH_COLOR = "#9a7a22"
_STATE_LEGEND_HEIGHT_INCH = 0.5
_MAX_PEAK_SIGMAS = 10.0


def detectability_gallery(results: Results, names: Sequence[str], *, columns: int = 4) -> Figure:
    """Draw the state maps of several groups side by side.

    Dark red means "pigment", red "present", light red "trace", and white "not detected". In hatched pixels the group
    cannot be excluded. Grey pixels have no answer.

    Parameters
    ----------
    results : Results
    names : sequence of str
        Groups in the order of the figure; at least one.
    columns : int
        Number of maps per row.
    """
    height = panel_height(results.shape, results.step_mm)
    n_row = -(-len(names) // columns)
    figure = new_figure(columns * PANEL_WIDTH_INCH, n_row * (height + 0.3) + 0.05 + _STATE_LEGEND_HEIGHT_INCH)
    for index, name in enumerate(names):
        axes = figure.add_subplot(n_row, columns, index + 1)
        _draw_states(axes, results, name)
        put_title(axes, results.short_label(name), pad=3)
        scale_bar(axes, results.shape, results.step_mm if index == 0 else None)
    close_fit(figure, 0.05, 0.05, 0.05 + _STATE_LEGEND_HEIGHT_INCH, 0.25)
    figure.subplots_adjust(wspace=0.06, hspace=0.3 / height)
    figure.legend(
        handles=_state_legend_patches(), loc="lower center", ncols=len(STATES) // 2, frameon=False, fontsize=TEXT_SIZE
    )
    return figure


def state_map(results: Results, name: str, *, title: str = "") -> Figure:
    """Draw the state map of one group in the colours of :func:`detectability_gallery`.

    Parameters
    ----------
    results : Results
    name : str
        Name of the group.
    title : str
        Title above the map.
    """
    height = 2.0 * panel_height(results.shape, results.step_mm)
    figure = new_figure(2.0 * PANEL_WIDTH_INCH + 0.6, height + 0.4 + _STATE_LEGEND_HEIGHT_INCH)
    axes = figure.add_subplot()
    _draw_states(axes, results, name)
    put_title(axes, title)
    scale_bar(axes, results.shape, results.step_mm)
    figure.legend(
        handles=_state_legend_patches(),
        loc="lower center",
        ncols=len(STATES) // 2,
        frameon=False,
        fontsize=SMALL_SIZE,
        columnspacing=1.2,
    )
    return close_fit(figure, 0.35, 0.35, 0.1 + _STATE_LEGEND_HEIGHT_INCH, 0.3)


def unlikeness_map(results: Results, *, title: str = "") -> Figure:
    """Draw the significance of each pixel's strongest unassigned peak, from 0 to 10 standard deviations."""
    height = 2.0 * panel_height(results.shape, results.step_mm)
    figure = new_figure(2.0 * PANEL_WIDTH_INCH + 0.6, height + 0.4)
    axes = figure.add_subplot()
    close_fit(figure, 0.1, 0.7, 0.1, 0.3)
    colors = mpl.colormaps["inferno"].with_extremes(bad=NO_ANSWER_COLOR)
    image = draw_image(axes, results.map("unlikeness"), colors, 0.0, _MAX_PEAK_SIGMAS, results.step_mm)
    figure.colorbar(image, ax=axes, fraction=0.05, pad=0.025, aspect=25, extend="max")
    scale_bar(axes, results.shape, results.step_mm)
    put_title(axes, title)
    return figure


def _draw_states(axes: Axes, results: Results, name: str) -> None:
    state_indices = np.searchsorted(sorted(STATES), thin_map(results.map("state", name)))
    colors = ListedColormap([STATE_COLORS[state] for state in sorted(STATES)])
    aspect = pixel_aspect(results.step_mm)
    axes.imshow(
        state_indices,
        cmap=colors,
        vmin=-0.5,
        vmax=len(STATES) - 0.5,
        interpolation="nearest",
        aspect=aspect,
        extent=map_extent(results.shape),
    )
    hatch(axes, results.map("state", name) == CANNOT_EXCLUDE, HATCH_COLOR)
    remove_ticks(axes)


def _state_legend_patches() -> list[Patch]:
    return [
        Patch(
            facecolor=STATE_COLORS[state],
            edgecolor=HATCH_COLOR if state == CANNOT_EXCLUDE else "#808080",
            hatch=HATCH if state == CANNOT_EXCLUDE else None,
            linewidth=0.5,
            label=label,
        )
        for state, label in STATES.items()
    ]


Step = tuple[float, float] | None
PROBABILITY_MAP, AREA_MAP = "inferno", "viridis"
PANEL_WIDTH_INCH = 2.35
MAX_POINTS = 700
"""Maximum number of points drawn along a side of a map. A panel is about 300 screen pixels wide."""
HATCH, HATCH_WIDTH = "////", 0.5
_LEGEND_HEIGHT_INCH = 0.25
_SCALE_BAR_MM = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
COMPOSITE_COLORS = {
    "red": "#ff0000", "green": "#00ff00", "blue": "#0000ff", "yellow": "#ffff00", "cyan": "#00ffff",
    "magenta": "#ff00ff", "orange": "#ff8000", "white": "#ffffff",
}  # fmt: skip
"""Colours of the maps in a composite. The sum of the colours is limited to white."""
CHANNELS = ("red", "green", "blue")
_TEXT_COLORS = {
    "red": "#c23b22", "green": "#2e8b3d", "blue": "#2a5db0", "yellow": "#8f7a00", "cyan": "#00808c",
    "magenta": "#a626a4", "orange": "#b35900", "white": "#555555",
}  # fmt: skip


def pigment_map(probability: NDArray[np.float32], *, title: str = "", step_mm: Step = None) -> Figure:
    """Draw a probability map from 0 to 1.

    Parameters
    ----------
    probability : (n_row, n_column) array
        Probabilities. NaN means no answer, and is drawn grey.
    title : str
        Title above the map.
    step_mm : (float, float) or None
        Distance between rows and between columns, in mm, for the scale bar.
    """
    figure, axes = _single_map_figure(probability, step_mm)
    draw_probability(axes, probability, step_mm)
    put_title(axes, title)
    return figure


def element_map(area: NDArray[np.float32], *, title: str = "", step_mm: Step = None) -> Figure:
    """Draw the net counts of a line family, from zero to their 99th percentile; arguments as in :func:`pigment_map`."""
    figure, axes = _single_map_figure(area, step_mm)
    draw_area(axes, area, step_mm)
    put_title(axes, title)
    return figure


def shown_map(
    values: NDArray[np.float32],
    max_value: float,
    color_map: str,
    *,
    title: str = "",
    step_mm: Step = None,
    min_shown: float | None = None,
    hatching: tuple[NDArray[np.bool_], str] | None = None,
) -> Figure:
    """Draw a map with a legend, according to the user's display settings.

    Parameters
    ----------
    values : (n_row, n_column) array
        Values of the map. NaN means no answer, and is drawn grey.
    max_value : float
        Value that is drawn in the last colour of the colour map.
    color_map : str
        Name of a matplotlib colour map.
    title : str
        Title above the map.
    step_mm : (float, float) or None
        Distance between rows and between columns, in mm, for the scale bar.
    min_shown : float or None
        Minimum value that is shown. Values below this minimum are drawn in the first colour of the colour map.
    hatching : ((n_row, n_column) array of bool, str) or None
        Pixels to hatch, and their label in the legend.
    """
    figure, axes = _single_map_figure(values, step_mm, legend_height_inch=_LEGEND_HEIGHT_INCH)
    shown_values = values if min_shown is None else np.where(values < min_shown, np.float32(0.0), values)
    image = draw_image(axes, shown_values, _color_map(color_map), 0.0, max_value, step_mm)
    _draw_color_bar(axes, image)
    scale_bar(axes, values.shape, step_mm)
    if hatching is not None:
        hatch(axes, hatching[0], "white")
    patches = _legend_patches(values, color_map, min_shown, hatching)
    figure.legend(handles=patches, loc="lower center", ncols=max(len(patches), 1), frameon=False, fontsize=SMALL_SIZE)
    put_title(axes, title)
    return figure


def _legend_patches(
    values: NDArray[np.float32], color_map: str, min_shown: float | None, hatching: tuple[NDArray[np.bool_], str] | None
) -> list[Patch]:
    background_color = _color_map(color_map)(0.0)
    patches = []
    if min_shown is not None:
        patches.append(
            Patch(
                facecolor=background_color, edgecolor="#808080", linewidth=0.5, label=f"below {min_shown:.3g}: omitted"
            )
        )
    if hatching is not None and hatching[0].any():
        patches.append(
            Patch(facecolor=background_color, edgecolor="white", hatch=HATCH, linewidth=0.5, label=hatching[1])
        )
    if np.isnan(values).any():
        patches.append(Patch(facecolor=NO_ANSWER_COLOR, edgecolor="#808080", linewidth=0.5, label="no answer"))
    return patches


def element_gallery(results: Results, names: Sequence[str], *, columns: int = 4) -> Figure:
    """Draw several element maps side by side.

    Parameters
    ----------
    results : Results
    names : sequence of str
        Line families in the order of the figure; at least one.
    columns : int
        Number of maps per row.
    """
    return _draw_gallery([(f"{siegbahn(name)} (counts)", results[name]) for name in names], results.step_mm, columns)


def quantity_gallery(results: Results, names: Sequence[str], *, columns: int = 4) -> Figure:
    """Draw maps of quantities as in :func:`element_gallery`. Pixels without a determined quantity are hatched."""
    maps = [
        (f"{name.rpartition('.')[2]} ({display_unit(unit_of(name))})", results.estimate(name).value) for name in names
    ]
    figure = _draw_gallery(maps, results.step_mm, columns)
    for axes, name in zip(figure.axes[::2], names, strict=True):
        hatch(axes, ~results.is_determined(name), "white")
    return figure


def display_unit(unit: str) -> str:
    """Return a unit with its printed symbols, such as "µm" for "um"."""
    return unit.replace("um", "µm").replace("ug/cm2", "µg/cm²")


def _draw_gallery(maps: Sequence[tuple[str, NDArray[np.float32]]], step_mm: Step, columns: int) -> Figure:
    height = panel_height(maps[0][1].shape, step_mm)
    n_row = -(-len(maps) // columns)
    figure = new_figure(columns * PANEL_WIDTH_INCH, n_row * (height + 0.3) + 0.05)
    for index, (title, values) in enumerate(maps):
        axes = figure.add_subplot(n_row, columns, index + 1)
        draw_area(axes, values, step_mm if index == 0 else None, step_mm)
        put_title(axes, title, pad=3)
    close_fit(figure, 0.05, 0.45, 0.05, 0.25)
    figure.subplots_adjust(wspace=0.28, hspace=0.3 / height)
    return figure


def draw_probability(axes: Axes, probability: NDArray[np.float32], step_mm: Step) -> None:
    """Draw a probability map and its colour bar into axes."""
    image = draw_image(axes, probability, _color_map(PROBABILITY_MAP), 0.0, 1.0, step_mm)
    _draw_color_bar(axes, image)
    scale_bar(axes, probability.shape, step_mm)


def draw_area(axes: Axes, area: NDArray[np.float32], bar_step_mm: Step, step_mm: Step = None) -> None:
    """Draw a line-area map and its colour bar into axes; there is no scale bar if ``bar_step_mm`` is None."""
    image = draw_image(axes, area, _color_map(AREA_MAP), 0.0, upper_limit(area), bar_step_mm or step_mm)
    _draw_color_bar(axes, image)
    scale_bar(axes, area.shape, bar_step_mm)


def draw_image(
    axes: Axes, values: NDArray[np.float32], color_map: Colormap, min_value: float, max_value: float, step_mm: Step
) -> AxesImage:
    """Draw the values of a map without ticks. Pixels are square if ``step_mm`` is None."""
    masked_values = np.ma.masked_invalid(thin_map(values))
    image = axes.imshow(
        masked_values,
        cmap=color_map,
        vmin=min_value,
        vmax=max_value,
        interpolation="nearest",
        aspect=pixel_aspect(step_mm),
        origin="upper",
        extent=map_extent(values.shape),
    )
    remove_ticks(axes)
    return image


def thin_map(values: NDArray[Any]) -> NDArray[Any]:
    """Return every n-th row and column of a map, so that neither side has more than ``MAX_POINTS``."""
    stride = -(-max(values.shape) // MAX_POINTS)
    return values[::stride, ::stride]


def map_extent(shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Return the extent of a map in its axes, in pixels of the map before thinning."""
    return -0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5


def remove_ticks(axes: Axes) -> None:
    """Remove ticks and labels, and make the frame thin."""
    axes.set_xticks([])
    axes.set_yticks([])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_visible(False)  # even without ticks, a visible axis takes as long to draw as the map
    for frame_line in axes.spines.values():
        frame_line.set_linewidth(0.5)


def hatch(axes: Axes, mask: NDArray[np.bool_], color: str) -> None:
    """Hatch the pixels of a mask."""
    if mask.any() and min(mask.shape) > 1:
        with mpl.rc_context({"hatch.color": color, "hatch.linewidth": HATCH_WIDTH}):
            thinned_mask = thin_map(mask).astype(float)
            stride = -(-max(mask.shape) // MAX_POINTS)
            rows, columns = (stride * np.arange(size) for size in thinned_mask.shape)
            axes.contourf(columns, rows, thinned_mask, levels=[0.5, 1.5], colors="none", hatches=[HATCH], zorder=3)


def scale_bar(axes: Axes, shape: tuple[int, ...], step_mm: Step) -> None:
    """Draw a scale bar if the step is known. The bar has a round length in mm, about a quarter of the map's width."""
    if step_mm is None or not step_mm[1] > 0 or shape[1] < 8:
        return
    width_mm = shape[1] * step_mm[1]
    length_mm = max((length for length in _SCALE_BAR_MM if length <= 0.3 * width_mm), default=None)
    if length_mm is None:
        return
    width_fraction = length_mm / width_mm
    axes.add_patch(
        Rectangle(
            (0.04, 0.035), width_fraction, 0.018, transform=axes.transAxes, color="white", ec="black", linewidth=0.4
        )
    )
    axes.text(
        0.04 + width_fraction / 2, 0.065, f"{length_mm} mm", transform=axes.transAxes, color="white", ha="center",
        va="bottom", fontsize=SMALL_SIZE, bbox={"facecolor": "black", "alpha": 0.55, "pad": 0.8, "linewidth": 0},
    )  # fmt: skip


def upper_limit(area: NDArray[np.float32]) -> float:
    """Return the 99th percentile of the counts. If this percentile is zero, return the maximum, but at least one."""
    known_counts = area[np.isfinite(area)]
    percentile_counts = float(np.percentile(known_counts, 99)) if known_counts.size else 0.0
    return percentile_counts if percentile_counts > 0 else max(float(known_counts.max(initial=0.0)), 1.0)


def limits_text(max_value: float) -> str:
    """Return the range of values from black to full colour as text, such as "0 to 5337"."""
    return f"0 to {max_value:.0f}" if max_value >= 100 else f"0 to {max_value:.3g}"


def pixel_aspect(step_mm: Step) -> float:
    """Return the ratio of height to width of a pixel."""
    if step_mm is None or min(step_mm) <= 0:
        return 1.0
    return step_mm[0] / step_mm[1]


def panel_height(shape: tuple[int, ...], step_mm: Step) -> float:
    """Return the height of a map as wide as a panel, in inches. The height lies between 0.8 and 3.4 inches."""
    height_to_width = shape[0] * pixel_aspect(step_mm) / shape[1]
    return float(np.clip(0.86 * PANEL_WIDTH_INCH * height_to_width, 0.8, 3.4))


def _single_map_figure(
    values: NDArray[np.float32], step_mm: Step, legend_height_inch: float = 0.0
) -> tuple[Figure, Axes]:
    height = 2.0 * panel_height(values.shape, step_mm)
    figure = new_figure(2.0 * PANEL_WIDTH_INCH + 0.6, height + 0.4 + legend_height_inch)
    axes = figure.add_subplot()
    close_fit(figure, 0.1, 0.7, 0.1 + legend_height_inch, 0.3)
    return figure, axes


def _draw_color_bar(axes: Axes, image: AxesImage) -> None:
    """Draw a colour bar as an image. Matplotlib's own colour bar takes longer to draw than the map."""
    # The unit is in the title of the map, because a label would not fit between the bar and the next map.
    make_bar_axes = make_axes if axes.get_subplotspec() is None else make_axes_gridspec
    bar_axes = make_bar_axes(axes, fraction=0.05, pad=0.025, aspect=25)[0]
    min_value, max_value = image.get_clim()
    color_values = np.linspace(min_value, max_value, 256)[:, None]
    bar_axes.imshow(
        color_values, cmap=image.cmap, aspect="auto", origin="lower", extent=(0.0, 1.0, min_value, max_value)
    )
    bar_axes.xaxis.set_visible(False)
    bar_axes.yaxis.tick_right()
    bar_axes.tick_params(axis="y", labelsize=SMALL_SIZE - 1, width=0.5, length=2)
    for frame_line in bar_axes.spines.values():
        frame_line.set_linewidth(0.4)


def _color_map(name: str) -> Colormap:
    return mpl.colormaps[name].with_extremes(bad=NO_ANSWER_COLOR)


def composite_figure(
    colored_maps: Sequence[tuple[str, NDArray[np.float32], float]],
    colors: Sequence[str] = CHANNELS,
    *,
    step_mm: Step = None,
    hatch_mask: NDArray[np.bool_] | None = None,
) -> Figure:
    """Draw the sum of several maps, each in a different colour.

    Parameters
    ----------
    colored_maps : sequence of (label, (n_row, n_column) array, maximum)
        The maximum is drawn in full colour. An empty array leaves its colour unused. NaN is drawn grey.
    colors : sequence of str
        Colours of the maps, as keys of :data:`COMPOSITE_COLORS`.
    step_mm : (float, float) or None
        Distance between rows and between columns, in mm.
    hatch_mask : (n_row, n_column) array of bool or None
        Pixels to hatch, in which the group of the first map cannot be excluded.

    Raises
    ------
    ValueError
        There is no map, or there are more maps than colours.
    """
    used_maps = [
        (*colored_map, color) for colored_map, color in zip(colored_maps, colors, strict=False) if colored_map[1].size
    ]
    if not used_maps or len(colored_maps) > len(colors):
        raise ValueError(f"Cannot draw {len(colored_maps)} maps in {len(colors)} colours; give a colour for each map.")
    shape = used_maps[0][1].shape
    image = np.zeros((*shape, 3))
    for _, values, max_value, color in used_maps:
        image += np.minimum(np.maximum(values / max_value, 0.0), 1.0)[:, :, None] * np.asarray(
            to_rgb(COMPOSITE_COLORS[color])
        )
    image[~np.isfinite(image).all(axis=2)] = to_rgb(NO_ANSWER_COLOR)
    n_text_line = -(-len(used_maps) // 3)
    text_height_inch = 0.15 + 0.2 * n_text_line
    height = 2.0 * panel_height(shape, step_mm)
    figure = new_figure(2.0 * PANEL_WIDTH_INCH, height + text_height_inch + 0.1)
    axes = figure.add_subplot()
    axes.imshow(np.clip(image, 0.0, 1.0), interpolation="nearest", aspect=pixel_aspect(step_mm))
    remove_ticks(axes)
    scale_bar(axes, shape, step_mm)
    if hatch_mask is not None:
        hatch(axes, hatch_mask, "white")
    close_fit(figure, 0.1, 0.1, 0.1, text_height_inch)
    for index, (label, _, max_value, color) in enumerate(used_maps):
        figure.text(
            0.02 + 0.325 * (index % 3), 1 - (0.2 + 0.2 * (index // 3)) / (height + text_height_inch + 0.1),
            f"{color}: {short_label(label)}, {limits_text(max_value)}", color=_TEXT_COLORS[color],
            fontsize=SMALL_SIZE, ha="left",
        )  # fmt: skip
    return figure
