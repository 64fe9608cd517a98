"""What lies at the surface, by X-rays and reflectance, beside what is below it; and the thickness of the top layer."""

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
    PANEL_WIDTH_IN,
    PROBABILITY_MAP,
    bare,
    draw_image,
    extent,
    hatch,
    panel_height,
    pixel_aspect,
    scale_bar,
    thinned,
)

UNSURE_COLOR, NONE_COLOR = "#f7f5f0", "#4a4a4a"
MOST_COLORS = 18
_LEGEND_ROW_IN = 0.22
_LEGEND_COLUMNS = 3
THICKNESS_MAP = "viridis"
THICKNESS_TICKS_UM = (1, 2, 5, 10, 20, 50, 100, 200, 500)
OPEN_PLACE_COLOR, UNDETERMINED_COLOR = "#7fd4ff", "#b0b0b0"
_PLACES: tuple[tuple[Place, str], ...] = (("anywhere", "anywhere"), ("surface", "at the surface"), ("below", "below"))
_LEFT_IN, _TOP_IN, _LEGEND_IN = 1.15, 0.3, 0.35
COLUMN_IN, HEIGHT_IN = 1.6, 2.5
MOST_SECTIONS = 6
_UNKNOWN_COLOR = "#d9d6cf"
_SURFACE, _BELOW, _UNPLACED = (0.66, 1.0), (0.2, 0.66), (0.0, 0.2)
"""Heights of the layers, as shares of the sketch: it is not to scale."""


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
    index, highest = _surface_index(results, names)
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


def _surface_index(results: Results, names: Sequence[str]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
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


def place_gallery(results: Results, names: Sequence[str]) -> Figure:
    """Draw a row of a group: its probability anywhere, at the surface, and below.

    Parameters
    ----------
    results : Results
        Of a model that knows places.
    names : sequence of str
        Groups or pigments, in order; at least one. Hatched where one is there and neither place reaches
        ``PLACED_PROBABILITY``.
    """
    height = panel_height(results.shape, results.step_mm)
    width = _LEFT_IN + len(_PLACES) * PANEL_WIDTH_IN + 0.55
    figure = new_figure(width, _TOP_IN + len(names) * (height + 0.06) + _LEGEND_IN)
    grid = figure.subplots(len(names), len(_PLACES), squeeze=False)
    for row, name in enumerate(names):
        open_places = _unplaced(results, name)
        for axes, (place, title) in zip(grid[row], _PLACES, strict=True):
            colors = mpl.colormaps[PROBABILITY_MAP].with_extremes(bad=NO_ANSWER_COLOR)
            image = draw_image(axes, results[name, place], colors, 0.0, 1.0, results.step_mm)
            if place != "anywhere":
                hatch(axes, open_places, OPEN_PLACE_COLOR)
            if row == 0:
                put_title(axes, title, pad=3)
        grid[row][0].yaxis.set_visible(True)
        grid[row][0].set_ylabel(_wrapped(results, name), fontsize=SMALL_SIZE, rotation=0, ha="right", va="center")
    scale_bar(grid[0][0], results.shape, results.step_mm)
    close_fit(figure, _LEFT_IN, 0.55, _LEGEND_IN, _TOP_IN)
    figure.subplots_adjust(wspace=0.05, hspace=0.06 / height)
    _bar(figure, grid[0][-1], image)
    figure.legend(handles=_place_legend(), loc="lower center", ncols=2, frameon=False, fontsize=SMALL_SIZE)
    return figure


def thickness_map(results: Results, *, title: str = "") -> Figure:
    """Draw the thickness of the uppermost layer of paint, um, beside the ends of its 90 % interval.

    White and hatched where it is not determined; grey where there is no answer.

    Parameters
    ----------
    results : Results
        Of a model that answers quantities.
    title : str
        Shown above.

    Raises
    ------
    ScanError
        The model answers none.
    """
    estimate = results.estimate(SURFACE_UM)
    known = results.is_determined(SURFACE_UM)
    answered = np.isfinite(estimate.value)
    height = panel_height(estimate.value.shape, results.step_mm)
    figure = new_figure(3 * PANEL_WIDTH_IN + 0.8, height + 0.5 + _LEGEND_IN)
    grid = figure.subplots(1, 3, squeeze=False)[0]
    low, high = _limits(estimate.low[known], estimate.high[known])
    panels = zip(grid, (estimate.low, estimate.value, estimate.high), ("lower end", "median", "upper end"), strict=True)
    for axes, values, words in panels:
        axes.set_facecolor(NO_ANSWER_COLOR)
        image = axes.imshow(
            np.ma.masked_where(~known, values), cmap=mpl.colormaps[THICKNESS_MAP], norm=LogNorm(low, high),
            interpolation="nearest", aspect=pixel_aspect(results.step_mm), origin="upper", zorder=1,
        )  # fmt: skip
        _blank(axes, answered & ~known)
        bare(axes)
        put_title(axes, words, pad=3)
    scale_bar(grid[0], estimate.value.shape, results.step_mm)
    close_fit(figure, 0.1, 0.65, 0.05 + _LEGEND_IN, 0.45)
    figure.subplots_adjust(wspace=0.06)
    bar = _bar(figure, grid[-1], image)
    ticks = [um for um in THICKNESS_TICKS_UM if low <= um <= high]
    bar.ax.yaxis.set_major_locator(FixedLocator(ticks))
    bar.ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g} µm"))
    bar.ax.yaxis.set_minor_locator(NullLocator())
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    figure.suptitle(title, fontsize=TEXT_SIZE, y=1 - 0.06 / figure.get_figheight(), va="top")
    figure.legend(handles=_thickness_legend(), loc="lower center", ncols=2, frameon=False, fontsize=SMALL_SIZE)
    return figure


def _unplaced(results: Results, name: str) -> NDArray[np.bool_]:
    there = results[name] > PRESENT_PROBABILITY
    at_surface, below = (results[name, place] >= PLACED_PROBABILITY for place in ("surface", "below"))
    return np.asarray(there & ~at_surface & ~below)


def _blank(axes: Axes, where: NDArray[np.bool_]) -> None:
    """Leave pixels white, and hatch them."""
    white = np.ma.masked_where(~where, np.zeros(where.shape))
    colors = ListedColormap(["white"])
    axes.imshow(white, cmap=colors, interpolation="nearest", aspect=axes.get_aspect(), origin="upper", zorder=2)
    hatch(axes, where, UNDETERMINED_COLOR)


def _limits(low: NDArray[np.float32], high: NDArray[np.float32]) -> tuple[float, float]:
    """Return the range of the colours, um: what most of the intervals lie in."""
    if not low.size:
        return 1.0, 200.0
    ends = float(np.percentile(low, 2)), float(np.percentile(high, 98))
    return max(ends[0], 0.5), max(ends[1], 2.0 * max(ends[0], 0.5))


def _wrapped(results: Results, name: str) -> str:
    words = results.short_label(name).split()
    lines = [""]
    for word in words:
        if lines[-1] and len(lines[-1]) + len(word) > 12:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return "\n".join(lines)


def _place_legend() -> list[Patch]:
    return [_patch("#2a0a3a", OPEN_PLACE_COLOR, "place not determined", HATCH), _no_answer()]


def _thickness_legend() -> list[Patch]:
    return [_patch("white", UNDETERMINED_COLOR, "not determined", HATCH), _no_answer()]


def _no_answer() -> Patch:
    return _patch(NO_ANSWER_COLOR, "#808080", "no answer", None)


def _patch(face: str, edge: str, words: str, hatching: str | None) -> Patch:
    with mpl.rc_context({"hatch.linewidth": HATCH_WIDTH}):
        return Patch(facecolor=face, edgecolor=edge, hatch=hatching, linewidth=0.5, label=words)


def _bar(figure: Figure, axes: Axes, image: AxesImage) -> Colorbar:
    """Draw a colour bar beside axes without taking room from them."""
    box, width = axes.get_position(), figure.get_figwidth()
    bar = figure.colorbar(image, cax=figure.add_axes((box.x1 + 0.08 / width, box.y0, 0.1 / width, box.height)))
    bar.ax.tick_params(labelsize=SMALL_SIZE - 1, width=0.5, length=2)
    bar.outline.set_linewidth(0.4)
    return bar


@dataclass(frozen=True)
class Section:
    """What is drawn of an arrangement of layers.

    Parameters
    ----------
    title, thickness : str
        Written above, and in the uppermost layer.
    surface, below, unplaced : tuple of (str, str)
        Label and colour of what is in the uppermost layer, under it, and of what is there at a place that is open.
    """

    title: str
    thickness: str
    surface: tuple[tuple[str, str], ...]
    below: tuple[tuple[str, str], ...]
    unplaced: tuple[tuple[str, str], ...]


def stratigraphy_sketch(sections: Sequence[Section]) -> Figure:
    """Draw sections side by side, not to scale.

    Parameters
    ----------
    sections : sequence of Section
        At least one; those after the sixth are left out.
    """
    shown = sections[:MOST_SECTIONS]
    figure = new_figure(len(shown) * COLUMN_IN + 0.1, HEIGHT_IN)
    for axes, own in zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True):
        axes.set_axis_off()
        axes.set_xlim(0, 1)
        axes.set_ylim(0 if any(each.unplaced for each in shown) else _BELOW[0], 1)
        put_title(axes, own.title, pad=4)
        _layer(axes, _SURFACE, own.surface, own.thickness if own.surface else "", "nothing certain")
        _layer(axes, _BELOW, own.below, "", "nothing seen below")
        if own.unplaced:
            _layer(axes, _UNPLACED, own.unplaced, "place not determined", "")
    close_fit(figure, 0.05, 0.05, 0.05, 0.3)
    figure.subplots_adjust(wspace=0.08)
    return figure


def _layer(
    axes: Axes, ends: tuple[float, float], held: Sequence[tuple[str, str]], thickness: str, nothing: str
) -> None:
    """Draw a layer as stripes of what it holds, with the names over them."""
    bottom, top = ends
    for index, (_, color) in enumerate(held or (("", _UNKNOWN_COLOR),)):
        width = 1 / max(len(held), 1)
        axes.add_patch(Rectangle((index * width, bottom), width, top - bottom, facecolor=color, linewidth=0))
    style = "-" if held else ":"
    axes.add_patch(
        Rectangle((0, bottom), 1, top - bottom, linestyle=style, facecolor="none", edgecolor="#333333", linewidth=0.8)
    )
    words = "\n".join([*(label for label, _ in held), *([thickness] if thickness else [])]) or nothing
    dark = bool(held) and max(_lightness(color) for _, color in held) < 0.5
    box = {"facecolor": "#000000" if dark else "#ffffff", "alpha": 0.7, "linewidth": 0, "pad": 1.0}
    axes.text(
        0.5, 0.5 * (bottom + top), words, fontsize=SMALL_SIZE, ha="center", va="center", linespacing=1.15,
        color="white" if dark else "#111111", bbox=box if held else None,
    )  # fmt: skip


def _lightness(color: str) -> float:
    red, green, blue = to_rgb(color)
    return 0.3 * red + 0.6 * green + 0.1 * blue
