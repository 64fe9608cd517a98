"""The layouts of Figs. 5 to 10 of Xu et al. 2022: truth, element and pigment maps, overlays, scatters; line ratios."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from underpaint.plot.comparison import lesser_area, overlay_image
from underpaint.plot.figure import SMALL_SIZE, TEXT_SIZE, new_figure, quiet_axes
from underpaint.plot.images import bare, draw_area, draw_probability
from underpaint.plot.lines import siegbahn

PLACE_COLORS = ("#f2f0ea", "#e2953b", "#8c1c3a")
PLACE_LABELS = ("not there", "in the covered layer alone", "in the uppermost layer")
"""Of a pixel's place of a pigment: 0, 1 and 2."""
MAP_WIDTH_IN, SCATTER_WIDTH_IN = 1.22, 1.25
PANEL_IN = 2.9
_BACKGROUNDS = ("green", "blue")
_CURVE_COLORS = ("#8c1c3a", "#1f4e79", "#6b8f3c")


@dataclass(frozen=True)
class CaseRow:
    """A pigment of a case study.

    Parameters
    ----------
    label : str
        For people.
    families : tuple of str
        One or two line families, ``Hg_L``.
    areas : tuple of (n_row, n_column) arrays
        Their net counts.
    place : (n_row, n_column) int array
        Where the pigment is: 0 nowhere, 1 in the covered layer alone, 2 in the uppermost.
    probability : mapping of str to (n_row, n_column) array
        By what the answering network is called.
    """

    label: str
    families: tuple[str, ...]
    areas: tuple[NDArray[np.float32], ...]
    place: NDArray[np.int64]
    probability: Mapping[str, NDArray[np.float32]]


@dataclass(frozen=True)
class Panel:
    """A map of a mock-up: probability, counts (``is_area``) or place (integers 0, 1, 2)."""

    title: str
    values: NDArray[np.generic]
    is_area: bool = False


@dataclass(frozen=True)
class Curves:
    """Curves of one plot: (x, y) by label; a line label's energy, keV, where lines are marked."""

    title: str
    x_label: str
    y_label: str
    curves: Mapping[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    marks: Mapping[str, float]
    logarithmic: bool = False


def case_study(rows: Sequence[CaseRow], title: str) -> Figure:
    """Draw Fig. 5: a pigment a row; truth and element maps, then map, overlay and scatter of each network.

    Parameters
    ----------
    rows : sequence of CaseRow
        All with the same networks and pixels.
    title : str
        Shown above; says that the painting is virtual.
    """
    networks = tuple(rows[0].probability)
    n_row, n_column = rows[0].place.shape
    height = MAP_WIDTH_IN * n_row / n_column
    widths = [MAP_WIDTH_IN] * 2 + [MAP_WIDTH_IN, MAP_WIDTH_IN, SCATTER_WIDTH_IN] * len(networks)
    gaps = [0.3, 0.06, *([0.12, 0.06, 0.42] * len(networks))]
    total = sum(widths) + sum(gaps) + 0.15
    top, between, bottom = 0.92, 0.48, 0.62
    tall = top + bottom + len(rows) * height + (len(rows) - 1) * between
    figure = new_figure(total, tall)
    for number, row in enumerate(rows):
        base = tall - top - (number + 1) * height - number * between
        left = np.cumsum(gaps) + np.cumsum([0.0, *widths[:-1]])
        axes = [
            figure.add_axes((x / total, base / tall, width / total, height / tall))
            for x, width in zip(left, widths, strict=True)
        ]
        _case_row(axes, row)
    starts = np.cumsum(gaps) + np.cumsum([0.0, *widths[:-1]])
    for number, network in enumerate(networks):
        middle = (starts[2 + 3 * number] + starts[4 + 3 * number] + SCATTER_WIDTH_IN) / 2
        place = (middle / total, 1 - 0.5 / tall)
        figure.text(*place, network, ha="center", fontsize=TEXT_SIZE + 1, fontweight="bold")
    figure.text(0.1 / total, 1 - 0.25 / tall, title, ha="left", fontsize=TEXT_SIZE + 2)
    _place_legend(figure, (0.1 / total, 0.1 / tall))
    return figure


def panels(parts: Sequence[Panel], title: str, *, columns: int, row_names: Mapping[str, float] | None = None,
           column_names: Mapping[str, float] | None = None) -> Figure:  # fmt: skip
    """Draw Figs. 8 and 9: maps of a mock-up side by side.

    Parameters
    ----------
    parts : sequence of Panel
        In reading order.
    title : str
        Shown above; says that the mock-up is virtual.
    columns : int
        Maps in a row.
    row_names, column_names : mapping of str to float
        Names of the strips with the pixel of their middles.
    """
    n_row, n_column = parts[0].values.shape
    height, lines = PANEL_IN * n_row / n_column, -(-len(parts) // columns)
    total = columns * (PANEL_IN + 0.55) + 0.75
    tall = lines * (height + 0.85) + 0.75
    figure = new_figure(total, tall)
    for number, part in enumerate(parts):
        line, column = divmod(number, columns)
        left, base = 0.7 + column * (PANEL_IN + 0.55), tall - 0.55 - (line + 1) * (height + 0.85) + 0.6
        # A colour bar takes its room from the axes: truth, without one, is made as narrow.
        width = PANEL_IN + (0.25 if part.values.dtype.kind == "f" else 0.0)
        axes = figure.add_axes((left / total, base / tall, width / total, height / tall))
        _panel(figure, axes, part)
        axes.set_title(f"({chr(ord('a') + number)}) {part.title}", fontsize=TEXT_SIZE, loc="left", pad=4)
        _strip_names(axes, row_names if column == 0 else None, column_names)
    figure.text(0.1 / total, 1 - 0.25 / tall, title, ha="left", fontsize=TEXT_SIZE + 2)
    if any(part.values.dtype.kind != "f" for part in parts):
        _place_legend(figure, (0.1 / total, 0.1 / tall))
    return figure


def line_ratios(spectra: Curves, ratios: Sequence[Curves], title: str) -> Figure:
    """Draw Fig. 10: the spectra with their lines, and how the ratios of lines change with thickness."""
    figure = new_figure(9.6, 6.6)
    grid = figure.add_gridspec(2, len(ratios), left=0.075, right=0.985, top=0.885, bottom=0.08, hspace=0.38, wspace=0.2)
    _curves(figure.add_subplot(grid[0, :]), spectra, 0)
    for number, each in enumerate(ratios):
        _curves(figure.add_subplot(grid[1, number]), each, number + 1)
    figure.text(0.012, 0.955, title, ha="left", fontsize=TEXT_SIZE + 2)
    return figure


def _case_row(axes: Sequence[Axes], row: CaseRow) -> None:
    _draw_place(axes[0], row.place)
    axes[0].set_title("truth", fontsize=SMALL_SIZE, pad=3)
    axes[0].set_ylabel(row.label, fontsize=TEXT_SIZE, labelpad=3)
    axes[1].imshow(overlay_image(np.zeros(row.place.shape, np.float32), row.areas), interpolation="nearest")
    named = zip(row.families, _BACKGROUNDS, strict=False)
    axes[1].set_title(", ".join(f"{siegbahn(name)} {color}" for name, color in named), fontsize=SMALL_SIZE, pad=3)
    bare(axes[1])
    for number, probability in enumerate(row.probability.values()):
        shown, laid, scattered = axes[2 + 3 * number : 5 + 3 * number]
        shown.imshow(overlay_image(probability, ()), interpolation="nearest")
        shown.set_title("probability", fontsize=SMALL_SIZE, pad=3)
        bare(shown)
        laid.imshow(overlay_image(probability, row.areas), interpolation="nearest")
        laid.set_title("both", fontsize=SMALL_SIZE, pad=3)
        bare(laid)
        _scatter(scattered, row, probability)


def _scatter(axes: Axes, row: CaseRow, probability: NDArray[np.float32]) -> None:
    area = lesser_area(row.areas)
    for place, color in enumerate(PLACE_COLORS):
        own = (row.place == place) & np.isfinite(area) & np.isfinite(probability)
        shown = "#9a9a9a" if place == 0 else color
        axes.plot(area[own], probability[own], ".", markersize=2.0, alpha=0.4, color=shown, markeredgewidth=0)
    axes.set_ylim(-0.04, 1.04)
    axes.set_yticks([0.0, 0.5, 1.0])
    axes.locator_params(axis="x", nbins=3)
    unit = f"{siegbahn(row.families[0])} (counts)"
    if len(row.areas) > 1:
        unit = f"lesser of {' and '.join(name.split('_')[0] for name in row.families)}"
    axes.set_xlabel(unit, fontsize=SMALL_SIZE, labelpad=1.5)
    axes.set_title("probability over area", fontsize=SMALL_SIZE, pad=3)
    axes.grid(visible=True, linewidth=0.3, color="#dddddd")
    quiet_axes(axes)


def _panel(figure: Figure, axes: Axes, part: Panel) -> None:
    if part.values.dtype.kind != "f":
        _draw_place(axes, np.asarray(part.values, dtype=np.int64))
        return
    values = np.asarray(part.values, dtype=np.float32)
    if part.is_area:
        draw_area(figure, axes, values, None)
    else:
        draw_probability(figure, axes, values, None)


def _strip_names(axes: Axes, rows: Mapping[str, float] | None, columns: Mapping[str, float] | None) -> None:
    if rows:
        axes.set_yticks(list(rows.values()), list(rows), fontsize=SMALL_SIZE)
    if columns:
        axes.set_xticks(list(columns.values()), list(columns), fontsize=SMALL_SIZE)
    axes.tick_params(length=0, pad=2)


def _draw_place(axes: Axes, place: NDArray[np.int64]) -> None:
    axes.imshow(place, cmap=ListedColormap(PLACE_COLORS), vmin=-0.5, vmax=2.5, interpolation="nearest")
    bare(axes)


def _place_legend(figure: Figure, corner: tuple[float, float]) -> None:
    handles = [
        Line2D([], [], linestyle="", marker="s", color=color, markeredgecolor="#666666", label=label)
        for color, label in zip(PLACE_COLORS, PLACE_LABELS, strict=True)
    ]
    figure.legend(
        handles=handles, loc="lower left", bbox_to_anchor=corner, ncols=3, fontsize=SMALL_SIZE, frameon=False,
        title="truth: the pigment is", title_fontsize=SMALL_SIZE, alignment="left", borderpad=0, handletextpad=0.2,
    )  # fmt: skip


def _curves(axes: Axes, part: Curves, number: int) -> None:
    for (label, (x, y)), color in zip(part.curves.items(), _CURVE_COLORS, strict=False):
        axes.plot(x, y, color=color, linewidth=1.2, label=label)
    if part.logarithmic:
        axes.set_yscale("log")
    for label, energy in part.marks.items():
        axes.axvline(energy, color="#999999", linewidth=0.5, linestyle=":")
        above = axes.get_xaxis_transform()
        axes.text(energy, 0.97, label, transform=above, fontsize=SMALL_SIZE, ha="center", va="top",
                  bbox={"facecolor": "white", "linewidth": 0, "pad": 1.0})  # fmt: skip
    axes.set_xlabel(part.x_label, fontsize=TEXT_SIZE)
    axes.set_ylabel(part.y_label, fontsize=TEXT_SIZE)
    axes.set_title(f"({chr(ord('a') + number)}) {part.title}", fontsize=TEXT_SIZE, loc="left")
    axes.margins(x=0.0)
    axes.grid(visible=True, linewidth=0.3, color="#dddddd")
    axes.legend(fontsize=SMALL_SIZE, frameon=False)
    quiet_axes(axes)
