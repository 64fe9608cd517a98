"""Figures of limits: counts that distinguish pigments, and success rates of planned scans."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from underpaint.display.plot.figure import SMALL_SIZE, TEXT_SIZE, close_fit, new_figure, put_title, quiet_axes
from underpaint.physics.materials import library
from underpaint.pigments.limits import MODEL_COUNTS, Separation

MIN_COUNTS, MAX_COUNTS = 10.0, 1e8
CELL_SIZE_INCH = 0.135
LABEL_MARGIN_INCH = 1.8
GROUP_COLOR = "#0072B2"
COLOR_MAP = "magma"
_CURVE_COLORS = ("#111111", "#c0392b", "#2e6da4", "#3d8b4f", "#8e5ea2")
MARKED_SUCCESS_SHARES = (0.5, 0.9)


def separation_matrix(separation: Separation, counts: float, *, title: str = "") -> Figure:
    """Draw the counts that distinguish each pair of pigments. Frames mark pigments that ``counts`` do not distinguish.

    Parameters
    ----------
    separation : Separation
        Result of ``underpaint.pigments.limits.separate``.
    counts : float
        Total counts of a spectrum.
    title : str
        Title above the figure.

    Returns
    -------
    Figure
    """
    pigment_order = separation.similarity_order()
    side_inch = max(CELL_SIZE_INCH * len(pigment_order), 1.6)
    figure = new_figure(side_inch + LABEL_MARGIN_INCH + 1.35, side_inch + LABEL_MARGIN_INCH + 0.55)
    axes = figure.subplots()
    # pairs that need more counts than the scale shows, and the diagonal, have the last colour of the scale
    counts_needed = np.clip(np.nan_to_num(separation.mutual_counts, posinf=MAX_COUNTS), MIN_COUNTS, MAX_COUNTS)[
        np.ix_(pigment_order, pigment_order)
    ]
    image = axes.imshow(counts_needed, cmap=COLOR_MAP, norm=LogNorm(MIN_COUNTS, MAX_COUNTS), interpolation="nearest")
    _draw_group_frames(axes, separation, pigment_order, counts)
    labels = [library()[separation.pigments[index]].label for index in pigment_order]
    axes.set_xticks(range(len(pigment_order)), labels, rotation=90)
    axes.set_yticks(range(len(pigment_order)), labels)
    quiet_axes(axes)
    put_title(axes, title, size=TEXT_SIZE + 2, left=True)
    close_fit(figure, LABEL_MARGIN_INCH, 1.35, LABEL_MARGIN_INCH, 0.55)
    _draw_color_scale(figure, image, counts)
    return figure


def _draw_group_frames(axes: Axes, separation: Separation, pigment_order: list[int], counts: float) -> None:
    row_by_pigment = {separation.pigments[index]: row for row, index in enumerate(pigment_order)}
    for group in separation.groups(counts):
        group_rows = [row_by_pigment[name] for name in group.pigments]
        if len(group_rows) > 1:
            corner, n_member = min(group_rows) - 0.5, len(group_rows)
            # members of a group are adjacent, because the order of the pigments and the groups come from the same
            # cluster tree
            axes.add_patch(
                Rectangle((corner, corner), n_member, n_member, fill=False, edgecolor="white", linewidth=1.6)
            )
            axes.add_patch(
                Rectangle((corner, corner), n_member, n_member, fill=False, edgecolor=GROUP_COLOR, linewidth=0.9)
            )


def _draw_color_scale(figure: Figure, image: object, counts: float) -> None:
    width, height = figure.get_size_inches()
    top_margin_inch = 0.55 + 0.2
    scale_axes = figure.add_axes((1 - 1.15 / width, 1 - (top_margin_inch + 2.6) / height, 0.14 / width, 2.4 / height))
    color_bar = figure.colorbar(image, cax=scale_axes)  # type: ignore[arg-type]
    color_bar.ax.tick_params(labelsize=SMALL_SIZE)
    color_bar.ax.axhline(counts, color=GROUP_COLOR, linewidth=1.6)
    color_bar.ax.axhline(MODEL_COUNTS, color="white", linewidth=1.2, linestyle="--")
    color_bar.ax.set_ylabel("counts that distinguish a pair", fontsize=SMALL_SIZE)
    scale_note = f"blue: groups at\n{counts:.3g} counts\n\ndashed: above this,\nmodel errors dominate"
    scale_axes.text(0.0, -0.08, scale_note, transform=scale_axes.transAxes, fontsize=SMALL_SIZE, va="top")


def plan_figure(
    curves: Sequence[tuple[str, NDArray[np.float64], NDArray[np.float64]]], *, x_label: str, title: str
) -> Figure:
    """Draw the fraction of successful simulated scans against time or counts.

    Parameters
    ----------
    curves : sequence of (label, (n,) times or counts, (n,) shares)
        One curve for each voltage.
    x_label, title : str

    Returns
    -------
    Figure
    """
    figure = new_figure(6.0, 3.6)
    axes = figure.add_subplot()
    for marked_share in MARKED_SUCCESS_SHARES:
        axes.axhline(100 * marked_share, color="#c4c4c4", linewidth=0.6)
    for index, (label, x_values, share) in enumerate(curves):
        color = _CURVE_COLORS[index % len(_CURVE_COLORS)]
        axes.plot(x_values, 100 * share, color=color, linewidth=1.0, marker="o", markersize=3.0, label=label)
    axes.set_xscale("log")
    axes.set_ylim(-3, 103)
    axes.set_xlabel(x_label, fontsize=TEXT_SIZE)
    axes.set_ylabel("successful simulated scans, %", fontsize=TEXT_SIZE)
    axes.legend(fontsize=SMALL_SIZE, frameon=False)
    quiet_axes(axes)
    put_title(axes, title, left=True)
    return close_fit(figure, 0.6, 0.15, 0.5, 0.35)
