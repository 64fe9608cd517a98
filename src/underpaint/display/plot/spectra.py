"""Sum and maximum spectrum with labelled lines."""

from collections.abc import Iterable, Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.display.plot.figure import SMALL_SIZE, TEXT_SIZE, close_fit, new_figure, put_title, quiet_axes
from underpaint.physics.atomic import line_labels

SUM_COLOR, MAX_COLOR = "#1f4e79", "#d08a2e"
_LEVELS = 4
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
        excitation_kev = min(max(place[-1], 10.0), 60.0)
        _label(axes, place, sum_counts, {**line_labels(families, excitation_kev), **_scattered(anode)})
    axes.legend(loc="upper right", fontsize=SMALL_SIZE, frameon=False)
    put_title(axes, title, left=True)
    return close_fit(figure, 0.75, 0.15, 0.5, 0.3)


def label_families(
    axes: Axes, energy_kev: NDArray[np.float64], counts: NDArray[np.float64], families: Iterable[str]
) -> None:
    """Label lines of families above a spectrum, the most important first: labels without room are left out."""
    _label(axes, energy_kev, counts, line_labels(families, min(max(float(energy_kev[-1]), 10.0), 60.0)))


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
    top = max(float(total.max(initial=0.0)), 10.0)
    positive = total[total > 0] if highest is None else np.concatenate([total[total > 0], highest[highest > 0]])
    floor = max(float(positive.min(initial=1.0)), 0.5, top / 1e6)
    # Room above the highest peak for the labels.
    axes.set_ylim(floor * 0.8, top * (top / floor) ** 0.42)
    used = np.nonzero(total > 0)[0]
    if used.size > 1:
        axes.set_xlim(place[used[0]], place[used[-1]])
    axes.set_xlabel(unit, fontsize=TEXT_SIZE)
    axes.set_ylabel("counts in a channel", fontsize=TEXT_SIZE)
    axes.grid(visible=True, which="major", linewidth=0.3, color="#dddddd")
    quiet_axes(axes)


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
        high = bottom * np.exp(step * (0.745 + 0.058 * level))
        peak = max(float(counts[max(int(np.searchsorted(place, energy)) - 2, 0) :][:5].max(initial=bottom)), bottom)
        marks.append(((energy, min(peak * 1.15, high)), (energy, high * 0.97)))
        axes.text(energy, high, text, fontsize=SMALL_SIZE, ha="center", va="bottom", color="#222222")
    axes.add_collection(LineCollection(marks, colors="#888888", linewidths=0.4), autolim=False)
