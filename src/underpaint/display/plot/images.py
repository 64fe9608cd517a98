"""Maps as images: probability, line areas; nearest-neighbour pixels, grey where there is no answer."""

from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch, Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from underpaint.data.maps import Results, unit_of
from underpaint.display.plot.figure import (
    NO_ANSWER_COLOR,
    SMALL_SIZE,
    close_fit,
    new_figure,
    put_title,
    short_label,
)
from underpaint.physics.atomic import siegbahn

Step = tuple[float, float] | None
PROBABILITY_MAP, AREA_MAP = "inferno", "viridis"
PANEL_WIDTH_IN = 2.35
MOST_POINTS = 700
"""Of a picture of a map, along a side: a panel has some 300."""
HATCH, HATCH_WIDTH = "////", 0.5
_KEYS_IN = 0.25
_BAR_SHARE, _BAR_LIMITS, _TICK_LENGTH = 0.075, (1.027, 1.07), 0.015
"""Share of a cell for the colour bar; left and right limit of the bar, and length of ticks, in widths of the map."""
_SCALE_BAR_MM = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
COMPOSITE_COLORS = {
    "red": "#ff0000", "green": "#00ff00", "blue": "#0000ff", "yellow": "#ffff00", "cyan": "#00ffff",
    "magenta": "#ff00ff", "orange": "#ff8000", "white": "#ffffff",
}  # fmt: skip
"""Colours of the maps in a composite; they add up to white at most."""
CHANNELS = ("red", "green", "blue")
_WRITTEN = {
    "red": "#c23b22", "green": "#2e8b3d", "blue": "#2a5db0", "yellow": "#8f7a00", "cyan": "#00808c",
    "magenta": "#a626a4", "orange": "#b35900", "white": "#555555",
}  # fmt: skip


def pigment_map(probability: NDArray[np.float32], *, title: str = "", step_mm: Step = None) -> Figure:
    """Draw a probability map from 0 to 1.

    Parameters
    ----------
    probability : (n_row, n_column) array
        NaN is drawn grey, "no answer".
    title : str
        Shown above.
    step_mm : (float, float) or None
        Distance between pixels along rows and columns, mm; gives the scale bar.
    """
    figure, axes = _single(probability, step_mm)
    draw_probability(axes, probability, step_mm)
    put_title(axes, title)
    return figure


def element_map(area: NDArray[np.float32], *, title: str = "", step_mm: Step = None) -> Figure:
    """Draw net counts of a line family, from zero to their 99th percentile; arguments as of :func:`pigment_map`."""
    figure, axes = _single(area, step_mm)
    draw_area(axes, area, step_mm)
    put_title(axes, title)
    return figure


def shown_map(
    values: NDArray[np.float32],
    top: float,
    colors: str,
    *,
    title: str = "",
    step_mm: Step = None,
    least: float | None = None,
    hatched: tuple[NDArray[np.bool_], str] | None = None,
) -> Figure:
    """Draw a map as somebody chose to see it, with a key to whatever its colours do not say.

    Parameters
    ----------
    values : (n_row, n_column) array
        NaN is drawn grey, "no answer".
    top : float
        Drawn in the last of the colours.
    colors : str
        Name of a matplotlib colour map.
    title : str
        Shown above.
    step_mm : (float, float) or None
        As for :func:`pigment_map`.
    least : float or None
        What is below is left out: drawn in the first colour.
    hatched : ((n_row, n_column) array of bool, str) or None
        Pixels to hatch, and what that means.
    """
    figure, axes = _single(values, step_mm, below_in=_KEYS_IN)
    kept = values if least is None else np.where(values < least, np.float32(0.0), values)
    image = draw_image(axes, kept, _map(colors), 0.0, top, step_mm)
    _color_bar(axes, image)
    scale_bar(axes, values.shape, step_mm)
    if hatched is not None:
        hatch(axes, hatched[0], "white")
    keys = _keys(values, colors, least, hatched)
    figure.legend(handles=keys, loc="lower center", ncols=max(len(keys), 1), frameon=False, fontsize=SMALL_SIZE)
    put_title(axes, title)
    return figure


def _keys(
    values: NDArray[np.float32], colors: str, least: float | None, hatched: tuple[NDArray[np.bool_], str] | None
) -> list[Patch]:
    first = _map(colors)(0.0)
    keys = []
    if least is not None:
        keys.append(Patch(facecolor=first, edgecolor="#808080", linewidth=0.5, label=f"below {least:.3g}: left out"))
    if hatched is not None and hatched[0].any():
        keys.append(Patch(facecolor=first, edgecolor="white", hatch=HATCH, linewidth=0.5, label=hatched[1]))
    if np.isnan(values).any():
        keys.append(Patch(facecolor=NO_ANSWER_COLOR, edgecolor="#808080", linewidth=0.5, label="no answer"))
    return keys


def element_gallery(results: Results, names: Sequence[str], *, columns: int = 4) -> Figure:
    """Draw several element maps side by side.

    Parameters
    ----------
    results : Results
        The maps.
    names : sequence of str
        Which of them, in order; at least one.
    columns : int
        Maps in a row.
    """
    return _gallery([(f"{siegbahn(name)} (counts)", results[name]) for name in names], results.step_mm, columns)


def quantity_gallery(results: Results, names: Sequence[str], *, columns: int = 4) -> Figure:
    """Draw maps of quantities side by side, hatched where they are not determined; arguments as of element_gallery."""
    maps = [
        (f"{name.rpartition('.')[2]} ({shown_unit(unit_of(name))})", results.estimate(name).value) for name in names
    ]
    figure = _gallery(maps, results.step_mm, columns)
    for axes, name in zip(figure.axes, names, strict=True):
        hatch(axes, ~results.is_determined(name), "white")
    return figure


def shown_unit(unit: str) -> str:
    """Return a unit as people write it."""
    return unit.replace("um", "µm").replace("ug/cm2", "µg/cm²")


def _gallery(maps: Sequence[tuple[str, NDArray[np.float32]]], step_mm: Step, columns: int) -> Figure:
    height = panel_height(maps[0][1].shape, step_mm)
    n_row = -(-len(maps) // columns)
    figure = new_figure(columns * PANEL_WIDTH_IN, n_row * (height + 0.3) + 0.05)
    for index, (title, values) in enumerate(maps):
        axes = figure.add_subplot(n_row, columns, index + 1)
        draw_area(axes, values, step_mm if index == 0 else None, step_mm)
        put_title(axes, title, pad=3)
    close_fit(figure, 0.05, 0.45, 0.05, 0.25)
    figure.subplots_adjust(wspace=0.28, hspace=0.3 / height)
    return figure


def draw_probability(axes: Axes, probability: NDArray[np.float32], step_mm: Step) -> None:
    """Draw a probability map with its colour bar into axes."""
    image = draw_image(axes, probability, _map(PROBABILITY_MAP), 0.0, 1.0, step_mm)
    _color_bar(axes, image)
    scale_bar(axes, probability.shape, step_mm)


def draw_area(axes: Axes, area: NDArray[np.float32], bar_step_mm: Step, step_mm: Step = None) -> None:
    """Draw a line-area map with its colour bar into axes; ``bar_step_mm`` None leaves the scale bar out."""
    image = draw_image(axes, area, _map(AREA_MAP), 0.0, upper_limit(area), bar_step_mm or step_mm)
    _color_bar(axes, image)
    scale_bar(axes, area.shape, bar_step_mm)


def draw_image(
    axes: Axes, values: NDArray[np.float32], colors: Colormap, low: float, high: float, step_mm: Step
) -> AxesImage:
    """Draw values as square (or as the step says) pixels, without ticks."""
    masked = np.ma.masked_invalid(thinned(values))
    image = axes.imshow(
        masked,
        cmap=colors,
        vmin=low,
        vmax=high,
        interpolation="nearest",
        aspect=pixel_aspect(step_mm),
        origin="upper",
        extent=extent(values.shape),
    )
    bare(axes)
    return image


def thinned(values: NDArray[Any]) -> NDArray[Any]:
    """Return every second, third ... row and column of a large map: more than a picture has points to show."""
    every = -(-max(values.shape) // MOST_POINTS)
    return values[::every, ::every]


def extent(shape: tuple[int, ...]) -> tuple[float, float, float, float]:
    """Return where a map lies in its axes, in its own pixels, whether it was thinned or not."""
    return -0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5


def bare(axes: Axes) -> None:
    """Take ticks and labels away and make the frame thin."""
    axes.set_xticks([])
    axes.set_yticks([])
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_visible(False)  # without ticks, too, it takes as long to draw as the map
    for spine in axes.spines.values():
        spine.set_linewidth(0.5)


def hatch(axes: Axes, where: NDArray[np.bool_], color: str) -> None:
    """Hatch some pixels, over what is drawn there."""
    if where.any() and min(where.shape) > 1:
        with mpl.rc_context({"hatch.color": color, "hatch.linewidth": HATCH_WIDTH}):
            coarse = thinned(where).astype(float)
            every = -(-max(where.shape) // MOST_POINTS)
            rows, columns = (every * np.arange(size) for size in coarse.shape)
            axes.contourf(columns, rows, coarse, levels=[0.5, 1.5], colors="none", hatches=[HATCH], zorder=3)


def scale_bar(axes: Axes, shape: tuple[int, ...], step_mm: Step) -> None:
    """Draw a bar of a round number of mm, about a quarter of the width, where the step is known."""
    if step_mm is None or not step_mm[1] > 0 or shape[1] < 8:
        return
    width_mm = shape[1] * step_mm[1]
    length_mm = max((own for own in _SCALE_BAR_MM if own <= 0.3 * width_mm), default=None)
    if length_mm is None:
        return
    share = length_mm / width_mm
    axes.add_patch(
        Rectangle((0.04, 0.035), share, 0.018, transform=axes.transAxes, color="white", ec="black", linewidth=0.4)
    )
    axes.text(
        0.04 + share / 2, 0.065, f"{length_mm} mm", transform=axes.transAxes, color="white", ha="center", va="bottom",
        fontsize=SMALL_SIZE, bbox={"facecolor": "black", "alpha": 0.55, "pad": 0.8, "linewidth": 0},
    )  # fmt: skip


def upper_limit(area: NDArray[np.float32]) -> float:
    """Return the 99th percentile of the counts, or one where all are zero or unknown."""
    known = area[np.isfinite(area)]
    limit = float(np.percentile(known, 99)) if known.size else 0.0
    return limit if limit > 0 else max(float(known.max(initial=0.0)), 1.0)


def limits_text(top: float) -> str:
    """Write the values from black to full colour: "0 to 5337"."""
    return f"0 to {top:.0f}" if top >= 100 else f"0 to {top:.3g}"


def pixel_aspect(step_mm: Step) -> float:
    """Return height over width of a pixel."""
    if step_mm is None or min(step_mm) <= 0:
        return 1.0
    return step_mm[0] / step_mm[1]


def panel_height(shape: tuple[int, ...], step_mm: Step) -> float:
    """Return the height in inches of a map that is as wide as a panel, kept within reason."""
    ratio = shape[0] * pixel_aspect(step_mm) / shape[1]
    return float(np.clip(0.86 * PANEL_WIDTH_IN * ratio, 0.8, 3.4))


def _single(values: NDArray[np.float32], step_mm: Step, below_in: float = 0.0) -> tuple[Figure, Axes]:
    height = 2.0 * panel_height(values.shape, step_mm)
    figure = new_figure(2.0 * PANEL_WIDTH_IN + 0.6, height + 0.4 + below_in)
    axes = figure.add_subplot()
    close_fit(figure, 0.1, 0.7, 0.1 + below_in, 0.3)
    return figure, axes


def _color_bar(axes: Axes, image: AxesImage) -> None:
    """Draw the colours from the smallest to the largest value beside a map; a bar with axes takes longer than the map.

    The unit is in the title of the map: a label beside the bar would need the space of the next map.
    """
    cell = axes.get_subplotspec()
    if cell is not None:
        axes.set_subplotspec(cell.subgridspec(1, 2, wspace=0.0, width_ratios=(1.0 - _BAR_SHARE, _BAR_SHARE))[0])
    axes.set_anchor("E")
    low, high = image.get_clim()
    left, right = _BAR_LIMITS
    bar = AxesImage(
        axes, cmap=image.cmap, origin="lower", extent=(left, right, 0.0, 1.0), transform=axes.transAxes, clip_on=False
    )
    bar.set_data(np.linspace(low, high, 256)[:, None])
    bar.set_clim(low, high)
    axes.add_artist(bar)
    values = [value for value in MaxNLocator(5, steps=[1, 2, 5, 10]).tick_values(low, high) if low <= value <= high]
    heights = [(value - low) / ((high - low) or 1.0) for value in values]
    frame = [(left, 0.0), (right, 0.0), (right, 1.0), (left, 1.0), (left, 0.0)]
    ticks = [(x, height) for height in heights for x in (np.nan, right, right + _TICK_LENGTH)]
    x, y = zip(*frame, *ticks, strict=True)
    axes.add_artist(Line2D(x, y, transform=axes.transAxes, color="black", linewidth=0.5, clip_on=False))
    for value, height in zip(values, heights, strict=True):
        axes.text(
            right + 2.0 * _TICK_LENGTH, height, f"{value:.7g}", transform=axes.transAxes, va="center",
            fontsize=SMALL_SIZE - 1,
        )  # fmt: skip


def _map(name: str) -> Colormap:
    return mpl.colormaps[name].with_extremes(bad=NO_ANSWER_COLOR)


def composite_figure(
    parts: Sequence[tuple[str, NDArray[np.float32], float]],
    colors: Sequence[str] = CHANNELS,
    *,
    step_mm: Step = None,
    hatched: NDArray[np.bool_] | None = None,
) -> Figure:
    """Draw maps over one another, each in its own colour.

    Parameters
    ----------
    parts : sequence of (label, (n_row, n_column) array, top)
        The top is drawn at full colour. An empty array leaves its colour out. NaN is drawn grey.
    colors : sequence of str
        Of each part, keys of :data:`COMPOSITE_COLORS`.
    step_mm : (float, float) or None
        Distance between pixels along rows and columns, mm.
    hatched : (n_row, n_column) array of bool or None
        Where the first of them would not be seen.

    Raises
    ------
    ValueError
        There is no map, or more than colours.
    """
    used = [(*part, color) for part, color in zip(parts, colors, strict=False) if part[1].size]
    if not used or len(parts) > len(colors):
        raise ValueError(f"Cannot draw {len(parts)} maps in {len(colors)} colours; give a colour for each map.")
    shape = used[0][1].shape
    image = np.zeros((*shape, 3))
    for _, values, top, color in used:
        image += np.minimum(np.maximum(values / top, 0.0), 1.0)[:, :, None] * np.asarray(
            to_rgb(COMPOSITE_COLORS[color])
        )
    image[~np.isfinite(image).all(axis=2)] = to_rgb(NO_ANSWER_COLOR)
    lines = -(-len(used) // 3)
    above_in = 0.15 + 0.2 * lines
    height = 2.0 * panel_height(shape, step_mm)
    figure = new_figure(2.0 * PANEL_WIDTH_IN, height + above_in + 0.1)
    axes = figure.add_subplot()
    axes.imshow(np.clip(image, 0.0, 1.0), interpolation="nearest", aspect=pixel_aspect(step_mm))
    bare(axes)
    scale_bar(axes, shape, step_mm)
    if hatched is not None:
        hatch(axes, hatched, "white")
    close_fit(figure, 0.1, 0.1, 0.1, above_in)
    for number, (label, _, top, color) in enumerate(used):
        figure.text(
            0.02 + 0.325 * (number % 3), 1 - (0.2 + 0.2 * (number // 3)) / (height + above_in + 0.1),
            f"{color}: {short_label(label)}, {limits_text(top)}", color=_WRITTEN[color], fontsize=SMALL_SIZE, ha="left",
        )  # fmt: skip
    return figure
