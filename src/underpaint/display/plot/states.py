"""Figures of the state of each group, and of unassigned peaks."""

from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from underpaint.data.maps import (
    CANNOT_EXCLUDE,
    NO_ANSWER,
    NOT_DETECTED,
    PIGMENT,
    PRESENT,
    STATES,
    TRACE,
    Results,
)
from underpaint.display.plot.figure import NO_ANSWER_COLOR, SMALL_SIZE, TEXT_SIZE, close_fit, new_figure, put_title
from underpaint.display.plot.images import (
    HATCH,
    PANEL_WIDTH_INCH,
    draw_image,
    hatch,
    map_extent,
    panel_height,
    pixel_aspect,
    remove_ticks,
    scale_bar,
    thin_map,
)

STATE_COLORS = {
    NOT_DETECTED: "#f7f5f0",
    PRESENT: "#b0605a",
    CANNOT_EXCLUDE: "#e6c877",
    PIGMENT: "#7a1f1b",
    TRACE: "#e0aaa2",
    NO_ANSWER: NO_ANSWER_COLOR,
}
HATCH_COLOR = "#9a7a22"
_LEGEND_HEIGHT_INCH = 0.5
_MAX_SIGMAS = 10.0


def detectability_gallery(results: Results, names: Sequence[str], *, columns: int = 4) -> Figure:
    """Draw the states of several groups side by side.

    Dark red means pigment, red present, light red trace, and white not detected. Hatched pixels cannot be excluded, and
    grey pixels have no answer.

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
    figure = new_figure(columns * PANEL_WIDTH_INCH, n_row * (height + 0.3) + 0.05 + _LEGEND_HEIGHT_INCH)
    for index, name in enumerate(names):
        axes = figure.add_subplot(n_row, columns, index + 1)
        _draw_states(axes, results, name)
        put_title(axes, results.short_label(name), pad=3)
        scale_bar(axes, results.shape, results.step_mm if index == 0 else None)
    close_fit(figure, 0.05, 0.05, 0.05 + _LEGEND_HEIGHT_INCH, 0.25)
    figure.subplots_adjust(wspace=0.06, hspace=0.3 / height)
    figure.legend(
        handles=_legend_patches(), loc="lower center", ncols=len(STATES) // 2, frameon=False, fontsize=TEXT_SIZE
    )
    return figure


def state_map(results: Results, name: str, *, title: str = "") -> Figure:
    """Draw the states of one group in the colours of :func:`detectability_gallery`.

    Parameters
    ----------
    results : Results
    name : str
        Name of the group.
    title : str
        Title above the map.
    """
    height = 2.0 * panel_height(results.shape, results.step_mm)
    figure = new_figure(2.0 * PANEL_WIDTH_INCH + 0.6, height + 0.4 + _LEGEND_HEIGHT_INCH)
    axes = figure.add_subplot()
    _draw_states(axes, results, name)
    put_title(axes, title)
    scale_bar(axes, results.shape, results.step_mm)
    figure.legend(
        handles=_legend_patches(),
        loc="lower center",
        ncols=len(STATES) // 2,
        frameon=False,
        fontsize=SMALL_SIZE,
        columnspacing=1.2,
    )
    return close_fit(figure, 0.35, 0.35, 0.1 + _LEGEND_HEIGHT_INCH, 0.3)


def unlikeness_map(results: Results, *, title: str = "") -> Figure:
    """Draw the significance of unassigned peaks from 0 to 10 standard deviations."""
    height = 2.0 * panel_height(results.shape, results.step_mm)
    figure = new_figure(2.0 * PANEL_WIDTH_INCH + 0.6, height + 0.4)
    axes = figure.add_subplot()
    close_fit(figure, 0.1, 0.7, 0.1, 0.3)
    colors = mpl.colormaps["inferno"].with_extremes(bad=NO_ANSWER_COLOR)
    image = draw_image(axes, results.map("unlikeness"), colors, 0.0, _MAX_SIGMAS, results.step_mm)
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


def _legend_patches() -> list[Patch]:
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
