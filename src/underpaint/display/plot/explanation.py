"""A measured spectrum, the best stratigraphy's, and what is left: by element, by layer, and channel by channel."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from underpaint.display.plot.breakdown import draw_parts, frame_parts, label_lines, shortened, strongest_parts
from underpaint.display.plot.figure import SMALL_SIZE, TEXT_SIZE, close_fit, new_figure, quiet_axes
from underpaint.physics.forward.breakdown import SCATTERED
from underpaint.pigments.explain import Explanation
from underpaint.pigments.explain.words import layer_name

Numbers = NDArray[np.float64]
MEASURED_COLOR = "#111111"
BAND_COLOR = "#d9d9d9"
LEAST_SHOWN = 0.3
"""Counts in a channel where a logarithmic axis begins: a single count stands clear of the frame."""
LABEL_ROOM = 120.0
MOST_SIGMAS = 6.0


def explanation_figure(found: Explanation, *, title: str = "") -> Figure:
    """Draw what was measured over what the best stratigraphy gives, by element and by layer, and the residuals.

    Parameters
    ----------
    found : Explanation
        From ``underpaint.pigments.explain.explain``.
    title : str
        Shown above; by default the spectrum's name and the best stratigraphy's.

    Returns
    -------
    Figure
        To be saved by the caller.
    """
    figure = new_figure(10.4, 8.6)
    upper, middle, lower = figure.subplots(3, 1, sharex=True, height_ratios=(1.25, 1.0, 0.55))
    best, parts = found.best, found.parts
    layers = {
        SCATTERED if depth is None else f"{depth + 1}  {shortened(layer_name(best.candidate, depth))}": own
        for depth, own in parts.by_layer().items()
    }
    draw_parts(upper, parts, strongest_parts(parts.by_element()), "by element")
    draw_parts(middle, parts, layers, "by layer, 1 at the surface")
    for axes, headroom in ((upper, LABEL_ROOM), (middle, 3.0)):
        frame_parts(axes, parts, headroom)
        _draw_measured(axes, found)
    label_lines(upper, parts)
    _draw_residuals(lower, found)
    lower.set_xlabel("energy (keV)", fontsize=TEXT_SIZE)
    above = title or ": ".join(name for name in (found.spectrum.name, best.candidate.name) if name)
    figure.suptitle(above, fontsize=TEXT_SIZE + 2, x=0.07, y=0.99, ha="left")
    close_fit(figure, 0.75, 2.55, 0.5, 0.5)
    figure.subplots_adjust(hspace=0.12)
    return figure


def _draw_measured(axes: Axes, found: Explanation) -> None:
    energy, counts, merged = _smoothed(found)
    axes.plot(
        energy,
        np.where(counts > 0, counts, np.nan),
        linestyle="none",
        marker=".",
        markersize=2.0,
        color=MEASURED_COLOR,
        label="measured" if merged == 1 else f"measured, mean of {merged} channels",
        zorder=1.5,
    )
    floor, top = axes.get_ylim()
    axes.set_ylim(max(floor, LEAST_SHOWN / merged), top)
    axes.set_ylabel("counts in a channel", fontsize=TEXT_SIZE)
    legend = axes.get_legend()
    handles, labels = axes.get_legend_handles_labels()
    axes.legend(
        [handles[-1], *handles[:-1]],
        [labels[-1], "fitted", *labels[1:-1]],
        loc="upper left",
        bbox_to_anchor=(1.01, 1.02),
        fontsize=SMALL_SIZE,
        frameon=False,
        title="" if legend is None else legend.get_title().get_text(),
        title_fontproperties={"size": TEXT_SIZE, "weight": "bold"},
        alignment="left",
        markerscale=4.0,
    )


def _smoothed(found: Explanation) -> tuple[Numbers, Numbers, int]:
    """Return energy and mean counts of the channels that the fit merges, and how many these are."""
    axis = found.parts.axis
    merged = max(round(found.measured.axis.gain_kev / axis.gain_kev), 1)
    whole = axis.n_channel // merged * merged
    counts = np.asarray(found.spectrum.counts[:whole], dtype=np.float64)
    energy, means = (own.reshape(-1, merged).mean(axis=1) for own in (axis.energy_kev[:whole], counts))
    return energy, means, merged


def _draw_residuals(axes: Axes, found: Explanation) -> None:
    own = found.measured
    residuals = own.residuals(found.best.expected)
    axes.axhspan(-2, 2, color=BAND_COLOR, linewidth=0, alpha=0.6)
    axes.axhline(0.0, color="#888888", linewidth=0.5)
    axes.plot(own.energy_kev, residuals, color=MEASURED_COLOR, linewidth=0.5)
    reach = max(MOST_SIGMAS, 1.1 * float(np.abs(residuals).max()))
    axes.set_ylim(-reach, reach)
    axes.set_ylabel("residual (sigma)", fontsize=TEXT_SIZE)
    allowed = f"model error of {100 * own.model_error:g} % a channel"
    note = f"measured less fitted, in standard\ndeviations of counting and of a\n{allowed};\nthe band is two of them"
    axes.text(1.02, 1.0, note, transform=axes.transAxes, fontsize=SMALL_SIZE, va="top", ha="left")
    quiet_axes(axes)
