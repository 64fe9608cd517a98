"""What can be known, drawn: counts that tell pigments apart, and how often a planned scan gives the answer."""

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

FEWEST, MOST = 10.0, 1e8
CELL_IN = 0.135
LABELS_IN = 1.8
GROUP_COLOR = "#0072B2"
COLORS = "magma"
_CURVE_COLORS = ("#111111", "#c0392b", "#2e6da4", "#3d8b4f", "#8e5ea2")
_MARKED = (0.5, 0.9)


def separation_matrix(separation: Separation, counts: float, *, title: str = "") -> Figure:
    """Draw the counts at which each pair of pigments parts; white frames are the groups at ``counts``.

    Parameters
    ----------
    separation : Separation
        From ``underpaint.pigments.limits.separate``.
    counts : float
        Of the whole spectrum.
    title : str
        Shown above.

    Returns
    -------
    Figure
        To be saved by the caller.
    """
    order = separation.order()
    side = max(CELL_IN * len(order), 1.6)
    figure = new_figure(side + LABELS_IN + 1.35, side + LABELS_IN + 0.55)
    axes = figure.subplots()
    # a pair beyond the scale, and a pigment with itself, take the end of the scale
    needed = np.clip(np.nan_to_num(separation.mutual, posinf=MOST), FEWEST, MOST)[np.ix_(order, order)]
    image = axes.imshow(needed, cmap=COLORS, norm=LogNorm(FEWEST, MOST), interpolation="nearest")
    _frames(axes, separation, order, counts)
    labels = [library()[separation.pigments[index]].label for index in order]
    axes.set_xticks(range(len(order)), labels, rotation=90)
    axes.set_yticks(range(len(order)), labels)
    quiet_axes(axes)
    put_title(axes, title, size=TEXT_SIZE + 2, left=True)
    close_fit(figure, LABELS_IN, 1.35, LABELS_IN, 0.55)
    _scale(figure, image, counts)
    return figure


def _frames(axes: Axes, separation: Separation, order: list[int], counts: float) -> None:
    place = {separation.pigments[index]: row for row, index in enumerate(order)}
    for group in separation.groups(counts):
        rows = [place[name] for name in group.pigments]
        if len(rows) > 1:
            low, size = min(rows) - 0.5, len(rows)
            # members of a group lie side by side, because the order is that of the tree that the groups are cut from
            axes.add_patch(Rectangle((low, low), size, size, fill=False, edgecolor="white", linewidth=1.6))
            axes.add_patch(Rectangle((low, low), size, size, fill=False, edgecolor=GROUP_COLOR, linewidth=0.9))


def _scale(figure: Figure, image: object, counts: float) -> None:
    width, height = figure.get_size_inches()
    top = 0.55 + 0.2
    room = figure.add_axes((1 - 1.15 / width, 1 - (top + 2.6) / height, 0.14 / width, 2.4 / height))
    bar = figure.colorbar(image, cax=room)  # type: ignore[arg-type]
    bar.ax.tick_params(labelsize=SMALL_SIZE)
    bar.ax.axhline(counts, color=GROUP_COLOR, linewidth=1.6)
    bar.ax.axhline(MODEL_COUNTS, color="white", linewidth=1.2, linestyle="--")
    bar.ax.set_ylabel("counts in the spectrum at which a pair parts", fontsize=SMALL_SIZE)
    notes = f"blue: groups at\n{counts:.3g} counts\n\ndashed: beyond, the\nmodel's errors rule"
    room.text(0.0, -0.08, notes, transform=room.transAxes, fontsize=SMALL_SIZE, va="top")


def plan_figure(
    curves: Sequence[tuple[str, NDArray[np.float64], NDArray[np.float64]]], *, x_label: str, title: str
) -> Figure:
    """Draw the curves of a plan.

    Parameters
    ----------
    curves : sequence of (label, (n,) times or counts, (n,) shares)
        One for each voltage.
    x_label, title : str

    Returns
    -------
    Figure
        To be saved by the caller.
    """
    figure = new_figure(6.0, 3.6)
    axes = figure.add_subplot()
    for level in _MARKED:
        axes.axhline(100 * level, color="#c4c4c4", linewidth=0.6)
    for number, (label, place, share) in enumerate(curves):
        color = _CURVE_COLORS[number % len(_CURVE_COLORS)]
        axes.plot(place, 100 * share, color=color, linewidth=1.0, marker="o", markersize=3.0, label=label)
    axes.set_xscale("log")
    axes.set_ylim(-3, 103)
    axes.set_xlabel(x_label, fontsize=TEXT_SIZE)
    axes.set_ylabel("simulated scans that give the answer, %", fontsize=TEXT_SIZE)
    axes.legend(fontsize=SMALL_SIZE, frameon=False)
    quiet_axes(axes)
    put_title(axes, title, left=True)
    return close_fit(figure, 0.6, 0.15, 0.5, 0.35)
