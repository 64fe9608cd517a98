"""A spectrum with its fit: families, scatter, background, and the residual over its deviation."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from underpaint.display.plot.figure import SMALL_SIZE, TEXT_SIZE, close_fit, new_figure, put_title, quiet_axes
from underpaint.display.plot.spectra import label_families
from underpaint.elements import SpectrumFit

_MEASURED, _FITTED, _BACKGROUND, _SCATTER = "#111111", "#b2182b", "#7f7f7f", "#1f9ea8"
_COLORS = ("#1f4e79", "#d08a2e", "#3a7d44", "#8e44ad", "#a0522d", "#c2185b", "#00796b", "#5c6bc0")
_MOST_FAMILIES = 14
_MOST_SIGMAS = 6.0
_LEAST_SHOWN = 0.3


def spectrum_fit_figure(fit: SpectrumFit, *, title: str = "") -> Figure:
    """Draw what was measured, the fit with its parts on a logarithmic axis, and the residual.

    Parameters
    ----------
    fit : SpectrumFit
        From ``underpaint.elements.fit_spectrum``.
    title : str
        Shown above; by default the spectrum's name.

    Returns
    -------
    Figure
        To be saved by the caller.
    """
    figure = new_figure(10.4, 6.4)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1.0))
    used = np.isfinite(fit.fitted)
    energy = fit.energy_kev[used]
    _line(upper, energy, fit.background[used], _BACKGROUND, "background, sum peaks")
    _line(upper, energy, fit.scatter[used], _SCATTER, "scattered lines of the tube")
    present = {name: family for name, family in fit.families.items() if family.present}
    strongest = sorted(present, key=lambda name: -present[name].area)
    for index, name in enumerate(strongest[:_MOST_FAMILIES]):
        _line(upper, energy, present[name].counts[used], _COLORS[index % len(_COLORS)], None)
    upper.plot(energy, fit.counts[used], color=_MEASURED, linewidth=0.8, label="measured")
    upper.plot(energy, fit.fitted[used], color=_FITTED, linewidth=0.8, label="fitted")
    top = float(fit.counts[used].max())
    upper.set_yscale("log")
    upper.set_ylim(max(_LEAST_SHOWN, 3e-6 * top), 40.0 * top)
    upper.set_xlim(float(energy[0]), float(energy[-1]))
    upper.set_ylabel("counts per channel", fontsize=TEXT_SIZE)
    label_families(upper, fit.energy_kev, fit.counts, strongest)
    upper.legend(loc="upper right", fontsize=SMALL_SIZE, frameon=False)
    put_title(upper, title or fit.name, left=True)
    _residuals(lower, energy, (fit.residual / np.maximum(fit.sigma, 1e-9))[used], fit.chi_square)
    for axes in (upper, lower):
        quiet_axes(axes)
    close_fit(figure, 0.75, 0.15, 0.5, 0.3)
    figure.subplots_adjust(hspace=0.06)
    return figure


def _line(axes: Axes, energy: NDArray[np.float64], counts: NDArray[np.float64], color: str, label: str | None) -> None:
    if counts.any():
        axes.plot(energy, np.where(counts > 0, counts, np.nan), color=color, linewidth=0.8, alpha=0.85, label=label)


def _residuals(axes: Axes, energy: NDArray[np.float64], sigmas: NDArray[np.float64], chi_square: float) -> None:
    axes.axhspan(-1, 1, color="#e5e5e5", linewidth=0)
    axes.plot(energy, np.clip(sigmas, -_MOST_SIGMAS, _MOST_SIGMAS), color=_MEASURED, linewidth=0.6)
    axes.set_ylim(-_MOST_SIGMAS, _MOST_SIGMAS)
    axes.set_ylabel("residual / σ", fontsize=TEXT_SIZE)
    axes.set_xlabel("energy (keV)", fontsize=TEXT_SIZE)
    axes.text(
        0.995, 0.93, f"χ² = {chi_square:.2f}", transform=axes.transAxes, ha="right", va="top", fontsize=SMALL_SIZE
    )
