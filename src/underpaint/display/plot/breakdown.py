"""One spectrum taken apart, on three panels: by element, by layer, by order and kind of scatter."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from underpaint.display.plot.figure import SMALL_SIZE, TEXT_SIZE, close_fit, new_figure, quiet_axes
from underpaint.physics.atomic import line_labels
from underpaint.physics.forward.breakdown import SCATTERED, Breakdown

Numbers = NDArray[np.float64]
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5C00")
"""Okabe and Ito 2008, told apart by colour-blind eyes; their yellow, too pale for a line, is brown here."""
DASHES: tuple[str, ...] = ("-", "--", "-.")
SCATTER_COLOR, WHOLE_COLOR = "#555555", "#d9d9d9"
ORDER_NAMES = {
    "primary": "primary: by the beam",
    "secondary": "secondary: by fluorescence",
    "tertiary": "tertiary: by that",
    "by_scatter": "excited by scattered light",
    "rescattered": "scattered on their way",
    "coherent": "coherent (Rayleigh)",
    "compton": "Compton",
    "multiple": "multiple scatter",
    "air": "air",
}
MOST_ELEMENTS = 9
DECADES = 5.5
_LETTER_SHARE = 0.0085
_LEVELS, _LEVEL_DECADES = 4, 0.45
_WEAKEST_NAMED = 3e-4


def breakdown_figure(breakdown: Breakdown, *, title: str = "") -> Figure:
    """Draw a spectrum and its parts on logarithmic axes; the whole is the grey area behind them.

    Parameters
    ----------
    breakdown : Breakdown
        From ``underpaint.physics.forward.breakdown``.
    title : str
        Shown above.

    Returns
    -------
    Figure
        To be saved by the caller.
    """
    figure = new_figure(10.4, 9.2)
    panels = figure.subplots(3, 1, sharex=True)
    layers = {
        f"{depth + 1}  {shortened(breakdown.layer_names[depth])}" if depth is not None else SCATTERED: own
        for depth, own in breakdown.by_layer().items()
    }
    orders = {ORDER_NAMES[name]: own for name, own in breakdown.by_order().items()}
    elements = strongest_parts(breakdown.by_element())
    contents = (
        ("by element", elements),
        ("by layer, 1 at the surface", layers),
        ("by order and kind of scatter", orders),
    )
    for axes, (what, curves) in zip(panels, contents, strict=True):
        draw_parts(axes, breakdown, curves, what)
        # room above the peaks of the first panel for the lines' names
        frame_parts(axes, breakdown, headroom=10.0 ** (_LEVELS * _LEVEL_DECADES + 0.6) if axes is panels[0] else 3.0)
    label_lines(panels[0], breakdown)
    panels[-1].set_xlabel("energy (keV)", fontsize=TEXT_SIZE)
    figure.suptitle(title, fontsize=TEXT_SIZE + 2, x=0.07, y=0.99, ha="left")
    close_fit(figure, 0.75, 2.55, 0.5, 0.5)
    figure.subplots_adjust(hspace=0.14)
    return figure


def strongest_parts(curves: Mapping[str, Numbers]) -> dict[str, Numbers]:
    """Keep the strongest elements and the scatter; the sum of the others is one curve."""
    names = [name for name in curves if name != SCATTERED]
    kept = {name: curves[name] for name in names[:MOST_ELEMENTS]}
    rest = names[MOST_ELEMENTS:]
    if rest:
        kept[f"{len(rest)} others"] = np.sum([curves[name] for name in rest], axis=0)
    return kept | ({SCATTERED: curves[SCATTERED]} if SCATTERED in curves else {})


def draw_parts(axes: Axes, breakdown: Breakdown, curves: Mapping[str, Numbers], what: str) -> None:
    """Draw a spectrum as an area and its parts, by name, as lines; ``what`` they are is the legend's title."""
    energy, whole = breakdown.axis.energy_kev, float(breakdown.total.sum())
    axes.fill_between(energy, breakdown.total, color=WHOLE_COLOR, linewidth=0, label="whole spectrum")
    for index, (name, counts) in enumerate(curves.items()):
        color = SCATTER_COLOR if name == SCATTERED else COLORS[index % len(COLORS)]
        dashes = ":" if name == SCATTERED else DASHES[index // len(COLORS) % len(DASHES)]
        label = f"{name}, {_percent(float(counts.sum()) / whole)}"
        drawn = np.where(counts > 0, counts, np.nan)
        axes.plot(energy, drawn, color=color, linestyle=dashes, linewidth=1.0, label=label)
    axes.set_yscale("log")
    axes.set_ylabel("expected counts in a channel", fontsize=TEXT_SIZE)
    axes.grid(visible=True, which="major", linewidth=0.3, color="#e4e4e4")
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        fontsize=SMALL_SIZE,
        frameon=False,
        title=what,
        title_fontproperties={"size": TEXT_SIZE, "weight": "bold"},
        alignment="left",
    )
    quiet_axes(axes)


def frame_parts(axes: Axes, breakdown: Breakdown, headroom: float) -> None:
    """Show the decades and energies that matter, and a factor of ``headroom`` above the highest peak."""
    top = float(breakdown.total.max())
    floor = top * 10.0**-DECADES
    used = breakdown.axis.energy_kev[breakdown.total > floor]
    axes.set_ylim(floor, top * headroom)
    axes.set_xlim(max(float(used[0]), 0.5), float(used[-1]))


def label_lines(axes: Axes, breakdown: Breakdown) -> None:
    """Write the names of the lines that stand out above their peaks, each on the lowest level with room."""
    families = [name for name in breakdown.by_family() if name != SCATTERED]
    (left, right), energy, top = axes.get_xlim(), breakdown.axis.energy_kev, float(breakdown.total.max())
    taken: list[list[tuple[float, float]]] = [[] for _ in range(_LEVELS)]
    for text, place in line_labels(families, right).items():
        near = np.abs(energy - place) < 0.05
        own = breakdown.by_element()[text.split()[0]][near]
        half = 0.5 * len(text) * _LETTER_SHARE * (right - left)
        stands_out = left < place < right and float(own.max(initial=0.0)) > 0.3 * float(breakdown.total[near].max())
        level = next((n for n, row in enumerate(taken) if all(abs(place - at) > half + o for at, o in row)), None)
        if not stands_out or own.max() < top * _WEAKEST_NAMED or level is None:
            continue
        taken[level].append((place, half))
        high = top * 10.0 ** (0.3 + _LEVEL_DECADES * level)
        axes.plot([place, place], [float(own.max()) * 1.3, high], color="#888888", linewidth=0.4)
        axes.text(place, high, text, fontsize=SMALL_SIZE, ha="center", va="bottom", color="#222222")


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share >= 1e-4 else "< 0.01 %"


def shortened(name: str, most: int = 30) -> str:
    """Return a name, cut where it is too long for a legend."""
    return name if len(name) <= most else name[: most - 1] + "…"
