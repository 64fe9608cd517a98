"""Figures of the sum and maximum spectrum with labelled lines, and of a spectrum with its fit."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.display.plot.figure import SMALL_SIZE, TEXT_SIZE, close_fit, new_figure, put_title, quiet_axes
from underpaint.physics.atomic import line_labels

if TYPE_CHECKING:
    from underpaint.elements import SpectrumFit

SUM_COLOR, MAX_COLOR = "#1f4e79", "#d08a2e"
_MEASURED_COLOR, _FITTED_COLOR, _BACKGROUND_COLOR, _SCATTER_COLOR = "#111111", "#b2182b", "#7f7f7f", "#1f9ea8"
_COLORS = ("#1f4e79", "#d08a2e", "#3a7d44", "#8e44ad", "#a0522d", "#c2185b", "#00796b", "#5c6bc0")
_MAX_FAMILIES = 14
_MAX_SIGMAS = 6.0
_MIN_SHOWN_COUNTS = 0.3
_PEAK_HEIGHT_FRACTION, _LEVEL_HEIGHT_FRACTION, _N_LABEL_LEVELS = 0.7, 0.058, 4
"""Fractions of the height of the axes for the highest peak and for each level of labels; number of levels."""
_LETTER_WIDTH_FRACTION = 0.0075
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def spectrum(
    axis: EnergyAxis | None,
    sum_counts: NDArray[np.float64],
    max_counts: NDArray[np.float64] | None = None,
    families: Iterable[str] = (),
    *,
    title: str = "",
    anode: str | None = None,
    labels: tuple[str, str] = ("sum of all pixels", "maximum of any pixel"),
    height_in: float = 3.9,
) -> Figure:
    """Draw the sum spectrum, and the maximum over the pixels, on a logarithmic axis.

    Parameters
    ----------
    axis : EnergyAxis or None
        Energy axis; None for an axis of channels without labels.
    sum_counts, max_counts : (n_channel,) arrays
        Counts; ``max_counts`` may be None.
    families : iterable of str
        Line families to label (``Fe_K``), the most important first; labels without room are omitted.
    title : str
        Title above the figure.
    anode : str or None
        Element symbol of the tube's anode; its scattered lines are labelled as such.
    labels : (str, str)
        Labels of the two curves.
    height_in : float
        Height of the figure, inches.

    Returns
    -------
    Figure
    """
    figure = new_figure(9.6, height_in)
    axes = figure.add_subplot()
    positions = np.arange(sum_counts.size, dtype=np.float64) if axis is None else axis.energy_kev
    _draw_curve(axes, positions, sum_counts, SUM_COLOR, labels[0])
    if max_counts is not None:
        _draw_curve(axes, positions, max_counts, MAX_COLOR, labels[1])
    _format_axes(axes, positions, sum_counts, max_counts, "channel" if axis is None else "energy (keV)")
    if axis is not None:
        label_families(axes, positions, sum_counts, families, anode)
    axes.legend(loc="upper right", fontsize=SMALL_SIZE, frameon=False)
    put_title(axes, title, left=True)
    return close_fit(figure, 0.75, 0.15, 0.5, 0.3)


def label_families(
    axes: Axes,
    energy_kev: NDArray[np.float64],
    counts: NDArray[np.float64],
    families: Iterable[str],
    anode: str | None = None,
) -> None:
    """Label lines of families above a spectrum, the most important first; labels without room are omitted."""
    excitation_kev = min(max(float(energy_kev[-1]), 10.0), 60.0)
    _draw_labels(axes, energy_kev, counts, {**line_labels(families, excitation_kev), **_tube_line_labels(anode)})


def _tube_line_labels(anode: str | None) -> Mapping[str, float]:
    if anode is None:
        return {}
    return {f"{label} (tube)": energy for label, energy in line_labels([f"{anode}_K"], 60.0).items()}


def _draw_curve(
    axes: Axes, positions: NDArray[np.float64], counts: NDArray[np.float64], color: str, label: str
) -> None:
    axes.plot(positions, np.where(counts > 0, counts, np.nan), color=color, linewidth=0.9, label=label)


def _format_axes(
    axes: Axes,
    positions: NDArray[np.float64],
    sum_counts: NDArray[np.float64],
    max_counts: NDArray[np.float64] | None,
    x_label: str,
) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_power_of_ten)
    axes.minorticks_off()  # forty minor ticks take as long to draw as the rest of the figure
    top = max(
        float(sum_counts.max(initial=0.0)),
        0.0 if max_counts is None else float(np.nanmax(max_counts, initial=0.0)),
        10.0,
    )
    positive_counts = (
        sum_counts[sum_counts > 0]
        if max_counts is None
        else np.concatenate([sum_counts[sum_counts > 0], max_counts[max_counts > 0]])
    )
    min_shown = max(float(positive_counts.min(initial=1.0)), 0.5, top / 1e6)
    _set_limits(axes, min_shown * 0.8, top)
    used_channels = np.nonzero(sum_counts > 0)[0]
    if used_channels.size > 1:
        axes.set_xlim(positions[used_channels[0]], positions[used_channels[-1]])
    axes.set_xlabel(x_label, fontsize=TEXT_SIZE)
    axes.set_ylabel("counts in a channel", fontsize=TEXT_SIZE)
    axes.grid(visible=True, which="major", linewidth=0.3, color="#dddddd")
    quiet_axes(axes)


def _set_limits(axes: Axes, min_shown: float, top: float) -> None:
    """Set the limits of a logarithmic axis with room for labels above the highest peak."""
    axes.set_ylim(min_shown, top * (top / min_shown) ** (1.0 / _PEAK_HEIGHT_FRACTION - 1.0))


def _power_of_ten(value: float, _: float) -> str:
    """Return a power of ten as plain text; typesetting a formula takes longer than drawing the curve."""
    return "10" + str(round(np.log10(value))).translate(_SUPERSCRIPTS)


def _draw_labels(
    axes: Axes, positions: NDArray[np.float64], counts: NDArray[np.float64], labels: Mapping[str, float]
) -> None:
    """Write each label above its line, on the lowest level with room."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    occupied_spans: list[list[tuple[float, float]]] = [[] for _ in range(_N_LABEL_LEVELS)]
    log_range = np.log(top / bottom)
    marks = []
    for text, energy in labels.items():
        if not left < energy < right:
            continue
        half_width = 0.5 * len(text) * _LETTER_WIDTH_FRACTION * (right - left)
        level = next(
            (
                index
                for index, row in enumerate(occupied_spans)
                if all(abs(energy - occupied_kev) > half_width + occupied_width for occupied_kev, occupied_width in row)
            ),
            None,
        )
        if level is None:
            continue
        occupied_spans[level].append((energy, half_width))
        label_height = bottom * np.exp(log_range * (_PEAK_HEIGHT_FRACTION + 0.045 + _LEVEL_HEIGHT_FRACTION * level))
        peak = max(float(counts[max(int(np.searchsorted(positions, energy)) - 2, 0) :][:5].max(initial=bottom)), bottom)
        marks.append(((energy, min(peak * 1.15, label_height)), (energy, label_height * 0.97)))
        axes.text(
            energy, label_height, text, fontsize=SMALL_SIZE, ha="center", va="bottom", color="#222222",
            bbox={"facecolor": "white", "linewidth": 0, "pad": 0.5},  # covers the marks of labels above
        )  # fmt: skip
    axes.add_collection(LineCollection(marks, colors="#888888", linewidths=0.4), autolim=False)


def spectrum_fit_figure(fit: "SpectrumFit", *, title: str = "") -> Figure:
    """Draw the measured spectrum, the fit with its components, and the residual.

    Parameters
    ----------
    fit : SpectrumFit
        Result of ``underpaint.elements.fit_spectrum``.
    title : str
        Title above the figure; by default the name of the spectrum.

    Returns
    -------
    Figure
    """
    figure = new_figure(10.4, 6.4)
    spectrum_axes, residual_axes = figure.subplots(2, 1, sharex=True, height_ratios=(3.2, 1.0))
    used_channels = np.isfinite(fit.fitted)
    energy = fit.energy_kev[used_channels]
    _draw_component(spectrum_axes, energy, fit.background[used_channels], _BACKGROUND_COLOR, "background, sum peaks")
    _draw_component(spectrum_axes, energy, fit.scatter[used_channels], _SCATTER_COLOR, "scattered lines of the tube")
    present_families = {name: family for name, family in fit.families.items() if family.present}
    families_by_area = sorted(present_families, key=lambda name: -present_families[name].area)
    for index, name in enumerate(families_by_area[:_MAX_FAMILIES]):
        _draw_component(
            spectrum_axes, energy, present_families[name].counts[used_channels], _COLORS[index % len(_COLORS)], None
        )
    spectrum_axes.plot(energy, fit.counts[used_channels], color=_MEASURED_COLOR, linewidth=0.8, label="measured")
    spectrum_axes.plot(energy, fit.fitted[used_channels], color=_FITTED_COLOR, linewidth=0.8, label="fitted")
    top = float(fit.counts[used_channels].max())
    spectrum_axes.set_yscale("log")
    _set_limits(spectrum_axes, max(_MIN_SHOWN_COUNTS, 3e-6 * top), top)
    spectrum_axes.set_xlim(float(energy[0]), float(energy[-1]))
    spectrum_axes.set_ylabel("counts per channel", fontsize=TEXT_SIZE)
    label_families(spectrum_axes, fit.energy_kev, fit.counts, families_by_area)
    spectrum_axes.legend(loc="upper right", fontsize=SMALL_SIZE, frameon=False)
    put_title(spectrum_axes, title or fit.name, left=True)
    _draw_residuals(residual_axes, energy, (fit.residual / np.maximum(fit.sigma, 1e-9))[used_channels], fit.chi_square)
    for axes in (spectrum_axes, residual_axes):
        quiet_axes(axes)
    close_fit(figure, 0.75, 0.15, 0.5, 0.3)
    figure.subplots_adjust(hspace=0.06)
    return figure


def _draw_component(
    axes: Axes, energy: NDArray[np.float64], counts: NDArray[np.float64], color: str, label: str | None
) -> None:
    if counts.any():
        axes.plot(energy, np.where(counts > 0, counts, np.nan), color=color, linewidth=0.8, alpha=0.85, label=label)


def _draw_residuals(axes: Axes, energy: NDArray[np.float64], sigmas: NDArray[np.float64], chi_square: float) -> None:
    axes.axhspan(-1, 1, color="#e5e5e5", linewidth=0)
    axes.plot(energy, np.clip(sigmas, -_MAX_SIGMAS, _MAX_SIGMAS), color=_MEASURED_COLOR, linewidth=0.6)
    axes.set_ylim(-_MAX_SIGMAS, _MAX_SIGMAS)
    axes.set_ylabel("residual / σ", fontsize=TEXT_SIZE)
    axes.set_xlabel("energy (keV)", fontsize=TEXT_SIZE)
    axes.text(
        0.995, 0.93, f"χ² = {chi_square:.2f}", transform=axes.transAxes, ha="right", va="top", fontsize=SMALL_SIZE
    )
