"""Sum and maximum spectrum with labelled lines; a spectrum with its fit."""

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
_MEASURED, _FITTED, _BACKGROUND, _SCATTER = "#111111", "#b2182b", "#7f7f7f", "#1f9ea8"
_COLORS = ("#1f4e79", "#d08a2e", "#3a7d44", "#8e44ad", "#a0522d", "#c2185b", "#00796b", "#5c6bc0")
_MOST_FAMILIES = 14
_MOST_SIGMAS = 6.0
_LEAST_SHOWN = 0.3
_PEAK_SHARE, _LEVEL_SHARE, _LEVELS = 0.7, 0.058, 4
"""Of the axes' height: what the highest peak takes, and each of the levels of labels above it."""
_LETTER_SHARE = 0.0075
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
        None draws over channels, without labels.
    sum_counts, max_counts : (n_channel,) arrays
        Counts; ``max_counts`` may be None.
    families : iterable of str
        Line families to label (``Fe_K``), the most important first: labels without room are left out.
    title : str
        Shown above.
    anode : str or None
        Element symbol of the tube's anode; its scattered lines are labelled as such.
    labels : (str, str)
        What the two curves are, where they are no sum and no maximum.
    height_in : float
        Of the figure, inches.

    Returns
    -------
    Figure
        To be saved by the caller.
    """
    figure = new_figure(9.6, height_in)
    axes = figure.add_subplot()
    place = np.arange(sum_counts.size, dtype=np.float64) if axis is None else axis.energy_kev
    _curve(axes, place, sum_counts, SUM_COLOR, labels[0])
    if max_counts is not None:
        _curve(axes, place, max_counts, MAX_COLOR, labels[1])
    _frame(axes, place, sum_counts, max_counts, "channel" if axis is None else "energy (keV)")
    if axis is not None:
        label_families(axes, place, sum_counts, families, anode)
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
    """Label lines of families above a spectrum, the most important first: labels without room are left out."""
    excitation_kev = min(max(float(energy_kev[-1]), 10.0), 60.0)
    _label(axes, energy_kev, counts, {**line_labels(families, excitation_kev), **_scattered(anode)})


def _scattered(anode: str | None) -> Mapping[str, float]:
    if anode is None:
        return {}
    return {f"{label} (tube)": energy for label, energy in line_labels([f"{anode}_K"], 60.0).items()}


def _curve(axes: Axes, place: NDArray[np.float64], counts: NDArray[np.float64], color: str, label: str) -> None:
    axes.plot(place, np.where(counts > 0, counts, np.nan), color=color, linewidth=0.9, label=label)


def _frame(
    axes: Axes,
    place: NDArray[np.float64],
    total: NDArray[np.float64],
    highest: NDArray[np.float64] | None,
    unit: str,
) -> None:
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(_power_of_ten)
    axes.minorticks_off()  # forty of them, which take as long to draw as all else
    top = max(float(total.max(initial=0.0)), 0.0 if highest is None else float(np.nanmax(highest, initial=0.0)), 10.0)
    positive = total[total > 0] if highest is None else np.concatenate([total[total > 0], highest[highest > 0]])
    floor = max(float(positive.min(initial=1.0)), 0.5, top / 1e6)
    _leave_room(axes, floor * 0.8, top)
    used = np.nonzero(total > 0)[0]
    if used.size > 1:
        axes.set_xlim(place[used[0]], place[used[-1]])
    axes.set_xlabel(unit, fontsize=TEXT_SIZE)
    axes.set_ylabel("counts in a channel", fontsize=TEXT_SIZE)
    axes.grid(visible=True, which="major", linewidth=0.3, color="#dddddd")
    quiet_axes(axes)


def _leave_room(axes: Axes, floor: float, top: float) -> None:
    """Set the limits of a logarithmic axis so that there is room for labels above the highest peak."""
    axes.set_ylim(floor, top * (top / floor) ** (1.0 / _PEAK_SHARE - 1.0))


def _power_of_ten(value: float, _: float) -> str:
    """Write a power of ten without a formula, whose setting takes longer than the curve."""
    return "10" + str(round(np.log10(value))).translate(_SUPERSCRIPTS)


def _label(axes: Axes, place: NDArray[np.float64], counts: NDArray[np.float64], labels: Mapping[str, float]) -> None:
    """Write each label above its line, on the lowest level where it does not touch another."""
    left, right = axes.get_xlim()
    bottom, top = axes.get_ylim()
    taken: list[list[tuple[float, float]]] = [[] for _ in range(_LEVELS)]
    step = np.log(top / bottom)
    marks = []
    for text, energy in labels.items():
        if not left < energy < right:
            continue
        half = 0.5 * len(text) * _LETTER_SHARE * (right - left)
        level = next((n for n, row in enumerate(taken) if all(abs(energy - at) > half + own for at, own in row)), None)
        if level is None:
            continue
        taken[level].append((energy, half))
        high = bottom * np.exp(step * (_PEAK_SHARE + 0.045 + _LEVEL_SHARE * level))
        peak = max(float(counts[max(int(np.searchsorted(place, energy)) - 2, 0) :][:5].max(initial=bottom)), bottom)
        marks.append(((energy, min(peak * 1.15, high)), (energy, high * 0.97)))
        axes.text(
            energy, high, text, fontsize=SMALL_SIZE, ha="center", va="bottom", color="#222222",
            bbox={"facecolor": "white", "linewidth": 0, "pad": 0.5},  # over the marks of labels further up
        )  # fmt: skip
    axes.add_collection(LineCollection(marks, colors="#888888", linewidths=0.4), autolim=False)


def spectrum_fit_figure(fit: "SpectrumFit", *, title: str = "") -> Figure:
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
    _part(upper, energy, fit.background[used], _BACKGROUND, "background, sum peaks")
    _part(upper, energy, fit.scatter[used], _SCATTER, "scattered lines of the tube")
    present = {name: family for name, family in fit.families.items() if family.present}
    strongest = sorted(present, key=lambda name: -present[name].area)
    for index, name in enumerate(strongest[:_MOST_FAMILIES]):
        _part(upper, energy, present[name].counts[used], _COLORS[index % len(_COLORS)], None)
    upper.plot(energy, fit.counts[used], color=_MEASURED, linewidth=0.8, label="measured")
    upper.plot(energy, fit.fitted[used], color=_FITTED, linewidth=0.8, label="fitted")
    top = float(fit.counts[used].max())
    upper.set_yscale("log")
    _leave_room(upper, max(_LEAST_SHOWN, 3e-6 * top), top)
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


def _part(axes: Axes, energy: NDArray[np.float64], counts: NDArray[np.float64], color: str, label: str | None) -> None:
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
