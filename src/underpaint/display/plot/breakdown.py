"""Plot the components of a spectrum in three panels: by element, by layer, and by fluorescence order and scatter."""

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from underpaint.display.plot.figure import SMALL_SIZE, TEXT_SIZE, close_fit, new_figure, quiet_axes
from underpaint.physics.atomic import line_labels
from underpaint.physics.forward.breakdown import SCATTERED, Breakdown

FloatArray = NDArray[np.float64]
CURVE_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7A5C00")
"""Colours of Okabe and Ito 2008 for colour-blind people, with brown instead of pale yellow."""
LINE_STYLES: tuple[str, ...] = ("-", "--", "-.")
SCATTER_COLOR, TOTAL_COLOR = "#555555", "#d9d9d9"
ORDER_NAMES = {
    "primary": "primary: by the beam",
    "secondary": "secondary: by fluorescence",
    "tertiary": "tertiary: by secondary fluorescence",
    "by_scatter": "excited by scattered X-rays",
    "rescattered": "scattered before detection",
    "coherent": "coherent (Rayleigh)",
    "compton": "Compton",
    "multiple": "multiple scatter",
    "air": "air",
}
MAX_ELEMENTS = 9
SHOWN_COUNT_DECADES = 5.5
_LETTER_WIDTH_FRACTION = 0.0085
_N_LABEL_LEVELS, _LEVEL_DECADES = 4, 0.45
_MIN_LABELLED_FRACTION = 3e-4


def breakdown_figure(breakdown: Breakdown, *, title: str = "") -> Figure:
    """Draw a spectrum as a grey area, and its components as curves, on logarithmic axes.

    Parameters
    ----------
    breakdown : Breakdown
        Result of ``underpaint.physics.forward.breakdown``.
    title : str
        Title above the figure.

    Returns
    -------
    Figure
    """
    figure = new_figure(10.4, 9.2)
    panels = figure.subplots(3, 1, sharex=True)
    counts_by_layer = {
        f"{layer_index + 1}  {shortened_name(breakdown.layer_names[layer_index])}"
        if layer_index is not None
        else SCATTERED: part_counts
        for layer_index, part_counts in breakdown.by_layer().items()
    }
    counts_by_order = {ORDER_NAMES[name]: part_counts for name, part_counts in breakdown.by_order().items()}
    counts_by_element = strongest_components(breakdown.by_element())
    panel_contents = (
        ("by element", counts_by_element),
        ("by layer, 1 at the surface", counts_by_layer),
        ("by fluorescence order and scatter", counts_by_order),
    )
    for axes, (legend_title, component_curves) in zip(panels, panel_contents, strict=True):
        draw_components(axes, breakdown, component_curves, legend_title)
        # the first panel needs space above the peaks for labels of lines
        set_axis_limits(
            axes, breakdown, headroom=10.0 ** (_N_LABEL_LEVELS * _LEVEL_DECADES + 0.6) if axes is panels[0] else 3.0
        )
    label_lines(panels[0], breakdown)
    panels[-1].set_xlabel("energy (keV)", fontsize=TEXT_SIZE)
    figure.suptitle(title, fontsize=TEXT_SIZE + 2, x=0.07, y=0.99, ha="left")
    close_fit(figure, 0.75, 2.55, 0.5, 0.5)
    figure.subplots_adjust(hspace=0.14)
    return figure


def strongest_components(curves: Mapping[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the curves of the strongest elements, the summed curve of all other elements, and the curve of scatter."""
    element_names = [name for name in curves if name != SCATTERED]
    shown_curves = {name: curves[name] for name in element_names[:MAX_ELEMENTS]}
    other_names = element_names[MAX_ELEMENTS:]
    if other_names:
        shown_curves[f"{len(other_names)} others"] = np.sum([curves[name] for name in other_names], axis=0)
    return shown_curves | ({SCATTERED: curves[SCATTERED]} if SCATTERED in curves else {})


def draw_components(axes: Axes, breakdown: Breakdown, curves: Mapping[str, FloatArray], legend_title: str) -> None:
    """Draw a spectrum as an area, its components as curves, and a legend."""
    energy, total_counts = breakdown.axis.energy_kev, float(breakdown.total.sum())
    axes.fill_between(energy, breakdown.total, color=TOTAL_COLOR, linewidth=0, label="whole spectrum")
    for index, (name, counts) in enumerate(curves.items()):
        color = SCATTER_COLOR if name == SCATTERED else CURVE_COLORS[index % len(CURVE_COLORS)]
        line_style = ":" if name == SCATTERED else LINE_STYLES[index // len(CURVE_COLORS) % len(LINE_STYLES)]
        label = f"{name}, {_percent_text(float(counts.sum()) / total_counts)}"
        positive_counts = np.where(counts > 0, counts, np.nan)
        axes.plot(energy, positive_counts, color=color, linestyle=line_style, linewidth=1.0, label=label)
    axes.set_yscale("log")
    axes.set_ylabel("expected counts in a channel", fontsize=TEXT_SIZE)
    axes.grid(visible=True, which="major", linewidth=0.3, color="#e4e4e4")
    axes.legend(
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        fontsize=SMALL_SIZE,
        frameon=False,
        title=legend_title,
        title_fontproperties={"size": TEXT_SIZE, "weight": "bold"},
        alignment="left",
    )
    quiet_axes(axes)


def set_axis_limits(axes: Axes, breakdown: Breakdown, headroom: float) -> None:
    """Set the limits of both axes. The counts axis ends at ``headroom`` times the highest peak."""
    max_counts = float(breakdown.total.max())
    min_counts = max_counts * 10.0**-SHOWN_COUNT_DECADES
    shown_energies = breakdown.axis.energy_kev[breakdown.total > min_counts]
    axes.set_ylim(min_counts, max_counts * headroom)
    axes.set_xlim(max(float(shown_energies[0]), 0.5), float(shown_energies[-1]))


def label_lines(axes: Axes, breakdown: Breakdown) -> None:
    """Write the names of significant lines above their peaks, each at the lowest free height."""
    families = [name for name in breakdown.by_family() if name != SCATTERED]
    (start_kev, stop_kev), energy, max_counts = axes.get_xlim(), breakdown.axis.energy_kev, float(breakdown.total.max())
    occupied_spans: list[list[tuple[float, float]]] = [[] for _ in range(_N_LABEL_LEVELS)]
    for line_label, line_kev in line_labels(families, stop_kev).items():
        is_near_line = np.abs(energy - line_kev) < 0.05
        part_counts = breakdown.by_element()[line_label.split()[0]][is_near_line]
        half_width = 0.5 * len(line_label) * _LETTER_WIDTH_FRACTION * (stop_kev - start_kev)
        is_visible = start_kev < line_kev < stop_kev and float(part_counts.max(initial=0.0)) > 0.3 * float(
            breakdown.total[is_near_line].max()
        )
        level = next(
            (
                level_index
                for level_index, level_spans in enumerate(occupied_spans)
                if all(
                    abs(line_kev - occupied_kev) > half_width + occupied_width
                    for occupied_kev, occupied_width in level_spans
                )
            ),
            None,
        )
        if not is_visible or part_counts.max() < max_counts * _MIN_LABELLED_FRACTION or level is None:
            continue
        occupied_spans[level].append((line_kev, half_width))
        label_height = max_counts * 10.0 ** (0.3 + _LEVEL_DECADES * level)
        axes.plot([line_kev, line_kev], [float(part_counts.max()) * 1.3, label_height], color="#888888", linewidth=0.4)
        axes.text(line_kev, label_height, line_label, fontsize=SMALL_SIZE, ha="center", va="bottom", color="#222222")


def _percent_text(fraction: float) -> str:
    return f"{100 * fraction:.2g} %" if fraction >= 1e-4 else "< 0.01 %"


def shortened_name(name: str, max_length: int = 30) -> str:
    """Return a name shortened to ``max_length`` characters for a legend."""
    return name if len(name) <= max_length else name[: max_length - 1] + "…"
