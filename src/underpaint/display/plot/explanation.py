"""Measured spectrum with the expected spectra of posterior draws, residuals, and the layers of the draws."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle

from underpaint.display.plot.figure import SMALL_SIZE, TEXT_SIZE, close_fit, new_figure, quiet_axes
from underpaint.physics.materials import library
from underpaint.pigments.explain import Explanation
from underpaint.pigments.explain.words import group_name

MEASURED_COLOR, FITTED_COLOR, BAND_COLOR = "#111111", "#c0392b", "#d9d9d9"
GROUND_COLOR = "#efece4"
MIN_SHOWN_COUNTS = 0.3
"""Counts in a channel at which the logarithmic axis starts."""
MIN_RANGE_SIGMAS = 6.0
N_DRAWN_STACKS, MAX_DEPTH_UM = 60, 400.0


def explanation_figure(explanation: Explanation, *, title: str = "") -> Figure:
    """Draw the spectrum with the range of the draws, the residuals, and a sample of the drawn layers.

    Layers are omitted if no draw describes the spectrum.

    Parameters
    ----------
    explanation : Explanation
        Result of ``underpaint.pigments.explain.explain``.
    title : str
        Title above the figure; by default the name of the spectrum.

    Returns
    -------
    Figure
    """
    figure = new_figure(10.4, 8.6)
    spectrum_axes, residual_axes, stack_axes = figure.subplots(3, 1, height_ratios=(1.2, 0.6, 1.0))
    _draw_spectrum(spectrum_axes, explanation)
    _draw_residuals(residual_axes, explanation)
    residual_axes.set_xlim(spectrum_axes.get_xlim())
    _draw_stacks(stack_axes, explanation)
    figure.suptitle(title or explanation.spectrum.name, fontsize=TEXT_SIZE + 2, x=0.07, y=0.99, ha="left")
    close_fit(figure, 0.75, 2.55, 0.5, 0.5)
    figure.subplots_adjust(hspace=0.28)
    return figure


def _draw_spectrum(axes: Axes, explanation: Explanation) -> None:
    fit = explanation.fit
    energy = fit.axis.energy_kev
    axes.fill_between(energy, fit.low, fit.high, color=FITTED_COLOR, alpha=0.3, linewidth=0, label="90 % of the draws")
    axes.plot(energy, fit.expected, color=FITTED_COLOR, linewidth=0.7, label="best draw")
    counts = np.where(fit.counts > 0, fit.counts, np.nan)
    axes.plot(energy, counts, linestyle="none", marker=".", markersize=2.0, color=MEASURED_COLOR, label="measured")
    axes.set_yscale("log")
    axes.set_ylim(bottom=MIN_SHOWN_COUNTS)
    axes.set_ylabel("counts", fontsize=TEXT_SIZE)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), fontsize=SMALL_SIZE, frameon=False, markerscale=4.0)
    quiet_axes(axes)


def _draw_residuals(axes: Axes, explanation: Explanation) -> None:
    sigmas = explanation.fit.pulls
    axes.axhspan(-2, 2, color=BAND_COLOR, linewidth=0, alpha=0.6)
    axes.axhline(0.0, color="#888888", linewidth=0.5)
    axes.plot(explanation.fit.axis.energy_kev, sigmas, color=MEASURED_COLOR, linewidth=0.5)
    limit_sigmas = max(MIN_RANGE_SIGMAS, 1.1 * float(np.abs(sigmas).max()))
    axes.set_ylim(-limit_sigmas, limit_sigmas)
    axes.set_ylabel("residual (sigma)", fontsize=TEXT_SIZE)
    axes.set_xlabel("energy (keV)", fontsize=TEXT_SIZE)
    note = "measured less the best draw, in\nstandard deviations of counting and\nmodel error; the band is two of them"
    axes.text(1.02, 1.0, note, transform=axes.transAxes, fontsize=SMALL_SIZE, va="top", ha="left")
    quiet_axes(axes)


def _draw_stacks(axes: Axes, explanation: Explanation) -> None:
    """Draw a column for each draw, sorted by the thickness of the top layer; widths within a column are shares."""
    if not explanation.stated:
        axes.axis("off")
        axes.text(0.0, 0.9, "Nothing that was tried describes the spectrum: no layers are shown.", fontsize=TEXT_SIZE)
        return
    draws = explanation.draws
    rows = np.linspace(0, len(draws) - 1, N_DRAWN_STACKS).astype(np.int64)
    rows = rows[np.argsort(draws.thickness_um[rows, 0])]
    patches, colors = [], []
    for column, row in enumerate(rows):
        depth = 0.0
        for layer in range(int(draws.n_layer[row])):
            thickness, left_edge = float(draws.thickness_um[row, layer]), float(column)
            share = draws.share[row, layer] / draws.share[row, layer].sum()
            for group in np.flatnonzero(share):
                patches.append(Rectangle((left_edge, depth), float(share[group]), thickness))
                colors.append(library().group(draws.groups[group]).color)
                left_edge += float(share[group])
            depth += thickness
            axes.plot([column, column + 1], [depth, depth], color="white", linewidth=0.6)
    axes.add_collection(PatchCollection(patches, facecolors=colors, linewidths=0))
    axes.set_facecolor(GROUND_COLOR)
    axes.set_xlim(0, len(rows))
    max_depth_um = 1.2 * float(np.quantile(np.nansum(draws.thickness_um, axis=1), 0.95))
    axes.set_ylim(min(max_depth_um, MAX_DEPTH_UM), 0.0)
    axes.set_xticks([])
    axes.set_xlabel(f"{len(rows)} of {len(draws)} draws, by the thickness of the top layer", fontsize=TEXT_SIZE)
    axes.set_ylabel("depth (um)", fontsize=TEXT_SIZE)
    handles = [Patch(color=library().group(name).color, label=group_name(name)) for name in draws.groups]
    handles.append(Patch(facecolor=GROUND_COLOR, edgecolor="#888888", label=f"ground ({explanation.ground})"))
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.02), fontsize=SMALL_SIZE, frameon=False)
    quiet_axes(axes)
