"""Fraction of simulated scans that answer a question, by the time per pixel."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from underpaint.display.plot.figure import SMALL_SIZE, TEXT_SIZE, close_fit, new_figure, put_title, quiet_axes

COLORS = ("#111111", "#c0392b", "#2e6da4", "#3d8b4f", "#8e5ea2")
MARKED_SHARES = (0.5, 0.9)


def plan_figure(
    curves: Sequence[tuple[str, NDArray[np.float64], NDArray[np.float64]]], *, x_label: str, title: str
) -> Figure:
    """Draw the curves of a plan.

    Parameters
    ----------
    curves : sequence of (label, (n,) times or counts, (n,) shares)
        Curve for each voltage.
    x_label, title : str

    Returns
    -------
    Figure
    """
    figure = new_figure(6.0, 3.6)
    axes = figure.add_subplot()
    for level in MARKED_SHARES:
        axes.axhline(100 * level, color="#c4c4c4", linewidth=0.6)
    for index, (label, x_values, share) in enumerate(curves):
        color = COLORS[index % len(COLORS)]
        axes.plot(x_values, 100 * share, color=color, linewidth=1.0, marker="o", markersize=3.0, label=label)
    axes.set_xscale("log")
    axes.set_ylim(-3, 103)
    axes.set_xlabel(x_label, fontsize=TEXT_SIZE)
    axes.set_ylabel("simulated scans that give the answer, %", fontsize=TEXT_SIZE)
    axes.legend(fontsize=SMALL_SIZE, frameon=False)
    quiet_axes(axes)
    put_title(axes, title, left=True)
    return close_fit(figure, 0.6, 0.15, 0.5, 0.35)
