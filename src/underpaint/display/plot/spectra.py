"""Spectra: sum and maximum with labelled lines, a calibration, a fit, and an explanation by layers."""

from collections.abc import Iterable, Mapping
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.display.plot.figure import SMALL_SIZE, TEXT_SIZE, close_fit, new_figure, put_title, quiet_axes
from underpaint.physics.atomic import compton_energy, family_lines, line_labels
from underpaint.physics.materials import library
from underpaint.units import MN_K_ALPHA_KEV

if TYPE_CHECKING:
    from underpaint.calibrate import Calibration
    from underpaint.elements import SpectrumFit
    from underpaint.pigments.explain import Explanation

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
_MARK_COLOR = "#8a1c1c"
_TEXT_WIDTH = 150
_LINE_IN, _FOOT_IN = 0.14, 0.06
_BAND_COLOR, _GROUND_COLOR = "#d9d9d9", "#efece4"
_N_STACK, _DEEPEST_UM = 60, 400.0


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


def calibration_figure(
    found: "Calibration",
    sum_counts: NDArray[np.float64],
    max_counts: NDArray[np.float64] | None = None,
    *,
    title: str = "",
) -> Figure:
    """Draw the spectrum on the axis found, with lines, Compton peak and end of the continuum; the rest in words.

    Parameters
    ----------
    found : Calibration
        What was found.
    sum_counts, max_counts : (n_channel,) arrays
        Counts; ``max_counts`` may be None.
    title : str
        Shown above.
    """
    figure = spectrum(found.axis, sum_counts, max_counts, found.families, title=title, anode=found.anode)
    axes = figure.axes[0]
    _mark_compton(axes, found)
    _mark_end(axes, found)
    lines = _lines(found)
    room_in = _LINE_IN * len(lines) + _FOOT_IN
    figure.set_size_inches(9.6, 3.9 + room_in)
    height = float(figure.get_size_inches()[1])
    for number, line in enumerate(lines):
        place = (_FOOT_IN + (len(lines) - number - 0.6) * _LINE_IN) / height
        figure.text(0.75 / 9.6, place, line, fontsize=SMALL_SIZE, va="center", color="#222222")
    return close_fit(figure, 0.75, 0.15, 0.5 + room_in, 0.3)


def calibration_words(found: "Calibration") -> tuple[str, ...]:
    """Say what was found, one quantity a sentence, with one standard deviation where there is one."""
    gain, zero = 1e3 * found.axis.gain_kev, 1e3 * found.axis.zero_kev
    said = [
        f"channel {gain:.4f} ± {1e3 * found.gain_uncertainty_kev:.4f} eV",
        f"channel 0 at {zero:.1f} ± {1e3 * found.zero_uncertainty_kev:.1f} eV",
        f"noise {1e3 * found.noise_fwhm_kev:.1f} ± {1e3 * found.noise_uncertainty_kev:.1f} eV FWHM",
        f"Fano factor {found.fano:.4f} ± {found.fano_uncertainty:.4f}",
        f"{1e3 * float(found.fwhm_kev(MN_K_ALPHA_KEV)):.0f} eV wide at Mn K",
    ]
    if found.anode is not None:
        said.append(f"{found.anode} anode")
    if found.voltage_kv is not None:
        said.append(f"{found.voltage_kv:.1f} ± {found.voltage_uncertainty_kv:.1f} kV")
    if found.scatter_angle_deg is not None:
        error = found.scatter_angle_uncertainty_deg
        said.append(f"scattered through {found.scatter_angle_deg:.0f}°" + ("" if error is None else f" ± {error:.1f}°"))
    if found.seen_air_cm is not None:
        said.append(f"about {found.seen_air_cm:.2g} cm of beam in air seen (factor 2.5)")
    return tuple(said)


def _lines(found: "Calibration") -> list[str]:
    told = wrap("Found: " + "; ".join(calibration_words(found)) + ".", _TEXT_WIDTH)
    return told + [line for text in found.missing for line in wrap("Not found: " + text + ".", _TEXT_WIDTH)]


def _mark_compton(axes: Axes, found: "Calibration") -> None:
    if found.anode is None or found.scatter_angle_deg is None:
        return
    energy, share = family_lines(found.anode, "K", 60.0)
    strongest = np.asarray([float(energy[np.argmax(share)])])
    _mark_energy(axes, float(compton_energy(strongest, found.scatter_angle_deg)[0]), f"{found.anode} Compton")


def _mark_end(axes: Axes, found: "Calibration") -> None:
    if found.voltage_kv is not None:
        _mark_energy(axes, found.voltage_kv, f"end: {found.voltage_kv:.1f} kV")


def _mark_energy(axes: Axes, energy_kev: float, text: str) -> None:
    axes.axvline(energy_kev, ymax=0.62, color=_MARK_COLOR, linewidth=0.8, linestyle=(0, (4, 3)))
    axes.annotate(
        text,
        (energy_kev, 0.62),
        xycoords=("data", "axes fraction"),
        xytext=(0, 2),
        textcoords="offset points",
        ha="center",
        fontsize=SMALL_SIZE,
        color=_MARK_COLOR,
    )


def explanation_figure(explanation: "Explanation", *, title: str = "") -> Figure:
    """Draw the spectrum with the draws' spread, the residuals, and a sample of the stacks that were drawn.

    The stacks are left out where nothing describes the spectrum.

    Parameters
    ----------
    explanation : Explanation
        From ``underpaint.pigments.explain.explain``.
    title : str
        Shown above; by default the spectrum's name.

    Returns
    -------
    Figure
        To be saved by the caller.
    """
    figure = new_figure(10.4, 8.6)
    upper, middle, lower = figure.subplots(3, 1, height_ratios=(1.2, 0.6, 1.0))
    _draw_spectrum(upper, explanation)
    _draw_residuals(middle, explanation)
    middle.set_xlim(upper.get_xlim())
    _draw_stacks(lower, explanation)
    figure.suptitle(title or explanation.spectrum.name, fontsize=TEXT_SIZE + 2, x=0.07, y=0.99, ha="left")
    close_fit(figure, 0.75, 2.55, 0.5, 0.5)
    figure.subplots_adjust(hspace=0.28)
    return figure


def _draw_spectrum(axes: Axes, explanation: "Explanation") -> None:
    fit = explanation.fit
    energy = fit.axis.energy_kev
    axes.fill_between(energy, fit.low, fit.high, color=_FITTED, alpha=0.3, linewidth=0, label="90 % of the draws")
    axes.plot(energy, fit.expected, color=_FITTED, linewidth=0.7, label="best draw")
    counts = np.where(fit.counts > 0, fit.counts, np.nan)
    axes.plot(energy, counts, linestyle="none", marker=".", markersize=2.0, color=_MEASURED, label="measured")
    axes.set_yscale("log")
    axes.set_ylim(bottom=_LEAST_SHOWN)
    axes.set_ylabel("counts", fontsize=TEXT_SIZE)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), fontsize=SMALL_SIZE, frameon=False, markerscale=4.0)
    quiet_axes(axes)


def _draw_residuals(axes: Axes, explanation: "Explanation") -> None:
    pulls = explanation.fit.pulls
    axes.axhspan(-2, 2, color=_BAND_COLOR, linewidth=0, alpha=0.6)
    axes.axhline(0.0, color="#888888", linewidth=0.5)
    axes.plot(explanation.fit.axis.energy_kev, pulls, color=_MEASURED, linewidth=0.5)
    reach = max(_MOST_SIGMAS, 1.1 * float(np.abs(pulls).max()))
    axes.set_ylim(-reach, reach)
    axes.set_ylabel("residual (sigma)", fontsize=TEXT_SIZE)
    axes.set_xlabel("energy (keV)", fontsize=TEXT_SIZE)
    note = "measured less the best draw, in\nstandard deviations of counting and\nmodel error; the band is two of them"
    axes.text(1.02, 1.0, note, transform=axes.transAxes, fontsize=SMALL_SIZE, va="top", ha="left")
    quiet_axes(axes)


def _draw_stacks(axes: Axes, explanation: "Explanation") -> None:
    """Draw one column a draw, sorted by the top layer's thickness; widths within a column are shares."""
    if not explanation.stated:
        axes.axis("off")
        axes.text(0.0, 0.9, "Nothing that was tried describes the spectrum: no layers are shown.", fontsize=TEXT_SIZE)
        return
    from underpaint.pigments.explain.words import group_name

    draws = explanation.draws
    rows = np.linspace(0, len(draws) - 1, _N_STACK).astype(np.int64)
    rows = rows[np.argsort(draws.thickness_um[rows, 0])]
    patches, colors = [], []
    for column, row in enumerate(rows):
        depth = 0.0
        for layer in range(int(draws.n_layer[row])):
            thickness, left = float(draws.thickness_um[row, layer]), float(column)
            share = draws.share[row, layer] / draws.share[row, layer].sum()
            for group in np.flatnonzero(share):
                patches.append(Rectangle((left, depth), float(share[group]), thickness))
                colors.append(library().group(draws.groups[group]).color)
                left += float(share[group])
            depth += thickness
            axes.plot([column, column + 1], [depth, depth], color="white", linewidth=0.6)
    axes.add_collection(PatchCollection(patches, facecolors=colors, linewidths=0))
    axes.set_facecolor(_GROUND_COLOR)
    axes.set_xlim(0, len(rows))
    deepest = 1.2 * float(np.quantile(np.nansum(draws.thickness_um, axis=1), 0.95))
    axes.set_ylim(min(deepest, _DEEPEST_UM), 0.0)
    axes.set_xticks([])
    axes.set_xlabel(f"{len(rows)} of {len(draws)} draws, by the thickness of the top layer", fontsize=TEXT_SIZE)
    axes.set_ylabel("depth (um)", fontsize=TEXT_SIZE)
    handles = [Patch(color=library().group(name).color, label=group_name(name)) for name in draws.groups]
    handles.append(Patch(facecolor=_GROUND_COLOR, edgecolor="#888888", label=f"ground ({explanation.ground})"))
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.02), fontsize=SMALL_SIZE, frameon=False)
    quiet_axes(axes)
