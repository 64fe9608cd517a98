"""Layers of paint as a conservator sketches them: a section for each arrangement, the surface on top."""

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from underpaint.display.plot.figure import SMALL_SIZE, close_fit, new_figure, put_title

COLUMN_IN, HEIGHT_IN = 1.6, 2.5
MOST_SECTIONS = 6
_UNKNOWN_COLOR = "#d9d6cf"
_SURFACE, _BELOW, _UNPLACED = (0.66, 1.0), (0.2, 0.66), (0.0, 0.2)
"""Heights of the layers, as shares of the sketch: it is not to scale."""


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
