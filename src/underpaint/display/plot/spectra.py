"""Figures of spectra: sum and maximum spectra, calibrations, fits, and explanations by layers."""

from collections.abc import Iterable, Mapping
from textwrap import wrap
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection, PatchCollection
from matplotlib.figure import Figure
from matplotlib.patches import Patch, Rectangle
from numpy.typing import NDArray

from underpaint.calibrate import Calibration
from underpaint.data import EnergyAxis
from underpaint.display.plot.figure import SMALL_SIZE, TEXT_SIZE, close_fit, new_figure, put_title, quiet_axes
from underpaint.physics.atomic import compton_energy, family_lines, line_labels
from underpaint.physics.materials import library
from underpaint.pigments.explain import Explanation
from underpaint.pigments.explain.words import group_name
from underpaint.units import MN_K_ALPHA_KEV

if TYPE_CHECKING:
    from underpaint.elements import SpectrumFit

SUM_COLOR, MAX_COLOR = "#1f4e79", "#d08a2e"
_MEASURED_COLOR, _FITTED_COLOR, _BACKGROUND_COLOR, _SCATTER_COLOR = "#111111", "#b2182b", "#7f7f7f", "#1f9ea8"
_FAMILY_COLORS = ("#1f4e79", "#d08a2e", "#3a7d44", "#8e44ad", "#a0522d", "#c2185b", "#00796b", "#5c6bc0")
_MAX_FAMILIES = 14
_MAX_PULL = 6.0
_MIN_SHOWN_COUNTS = 0.3
_PEAK_HEIGHT_FRACTION, _LEVEL_HEIGHT_FRACTION, _N_LABEL_LEVELS = 0.7, 0.058, 4
"""Height of the highest peak and of one level of labels, as fractions of the axes' height; number of label levels."""
_LETTER_WIDTH_FRACTION = 0.0075
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")
_MARK_COLOR = "#8a1c1c"
_TEXT_WIDTH = 150
_LINE_HEIGHT_INCH, _BOTTOM_MARGIN_INCH = 0.14, 0.06
MEASURED_COLOR, FITTED_COLOR, BAND_COLOR = "#111111", "#c0392b", "#d9d9d9"
GROUND_COLOR = "#efece4"
MIN_SHOWN_COUNTS = 0.3
"""Lower end of the logarithmic axis, in counts per channel."""
MIN_RESIDUAL_RANGE_SIGMAS = 6.0
N_DRAWN_STACKS, MAX_DEPTH_UM = 60, 400.0


def spectrum(
    axis: EnergyAxis | None,
    sum_counts: NDArray[np.float64],
    max_counts: NDArray[np.float64] | None = None,
    families: Iterable[str] = (),
    *,
    title: str = "",
    anode: str | None = None,
    labels: tuple[str, str] = ("sum of all pixels", "maximum of any pixel"),
    height_inch: float = 3.9,
) -> Figure:
    """Draw the sum spectrum and the maximum spectrum on a logarithmic axis.

    Parameters
    ----------
    axis : EnergyAxis or None
        Energy axis. With None, counts are drawn against channels, and lines are not labelled.
    sum_counts, max_counts : (n_channel,) arrays
        Counts; ``max_counts`` may be None.
    families : iterable of str
        Line families to label, such as ``Fe_K``, the most important first. Labels that do not fit are omitted.
    title : str
        Title above the figure.
    anode : str or None
        Element symbol of the tube's anode. Scattered lines of the anode are labelled as lines of the tube.
    labels : (str, str)
        Labels of the two curves.
    height_inch : float
        Height of the figure, in inches.

    Returns
    -------
    Figure
    """
    figure = new_figure(9.6, height_inch)
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
    """Label the lines of families above a spectrum, the most important first. Labels that do not fit are omitted."""
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
    axes.minorticks_off()  # forty minor ticks would double the drawing time
    top_counts = max(
        float(sum_counts.max(initial=0.0)),
        0.0 if max_counts is None else float(np.nanmax(max_counts, initial=0.0)),
        10.0,
    )
    positive_counts = (
        sum_counts[sum_counts > 0]
        if max_counts is None
        else np.concatenate([sum_counts[sum_counts > 0], max_counts[max_counts > 0]])
    )
    min_counts = max(float(positive_counts.min(initial=1.0)), 0.5, top_counts / 1e6)
    _set_count_limits(axes, min_counts * 0.8, top_counts)
    used_channels = np.nonzero(sum_counts > 0)[0]
    if used_channels.size > 1:
        axes.set_xlim(positions[used_channels[0]], positions[used_channels[-1]])
    axes.set_xlabel(x_label, fontsize=TEXT_SIZE)
    axes.set_ylabel("counts in a channel", fontsize=TEXT_SIZE)
    axes.grid(visible=True, which="major", linewidth=0.3, color="#dddddd")
    quiet_axes(axes)


def _set_count_limits(axes: Axes, min_counts: float, max_counts: float) -> None:
    """Set the limits of a logarithmic axis, with space for labels above the highest peak."""
    axes.set_ylim(min_counts, max_counts * (max_counts / min_counts) ** (1.0 / _PEAK_HEIGHT_FRACTION - 1.0))


def _power_of_ten(value: float, _: float) -> str:
    """Return a power of ten as plain text, because a formula takes longer to draw than the curve."""
    return "10" + str(round(np.log10(value))).translate(_SUPERSCRIPTS)


def _draw_labels(
    axes: Axes, positions: NDArray[np.float64], counts: NDArray[np.float64], labels: Mapping[str, float]
) -> None:
    """Write each label above its line, at the lowest free height."""
    min_kev, max_kev = axes.get_xlim()
    min_counts, max_counts = axes.get_ylim()
    occupied_spans: list[list[tuple[float, float]]] = [[] for _ in range(_N_LABEL_LEVELS)]
    log_range = np.log(max_counts / min_counts)
    label_marks = []
    for line_label, energy in labels.items():
        if not min_kev < energy < max_kev:
            continue
        half_width = 0.5 * len(line_label) * _LETTER_WIDTH_FRACTION * (max_kev - min_kev)
        level = next(
            (
                level_index
                for level_index, level_spans in enumerate(occupied_spans)
                if all(
                    abs(energy - occupied_kev) > half_width + occupied_width
                    for occupied_kev, occupied_width in level_spans
                )
            ),
            None,
        )
        if level is None:
            continue
        occupied_spans[level].append((energy, half_width))
        label_height = min_counts * np.exp(log_range * (_PEAK_HEIGHT_FRACTION + 0.045 + _LEVEL_HEIGHT_FRACTION * level))
        peak_counts = max(
            float(counts[max(int(np.searchsorted(positions, energy)) - 2, 0) :][:5].max(initial=min_counts)), min_counts
        )
        label_marks.append(((energy, min(peak_counts * 1.15, label_height)), (energy, label_height * 0.97)))
        axes.text(
            energy, label_height, line_label, fontsize=SMALL_SIZE, ha="center", va="bottom", color="#222222",
            bbox={"facecolor": "white", "linewidth": 0, "pad": 0.5},  # the white box hides the marks of higher labels
        )  # fmt: skip
    axes.add_collection(LineCollection(label_marks, colors="#888888", linewidths=0.4), autolim=False)


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
            spectrum_axes,
            energy,
            present_families[name].counts[used_channels],
            _FAMILY_COLORS[index % len(_FAMILY_COLORS)],
            None,
        )
    spectrum_axes.plot(energy, fit.counts[used_channels], color=_MEASURED_COLOR, linewidth=0.8, label="measured")
    spectrum_axes.plot(energy, fit.fitted[used_channels], color=_FITTED_COLOR, linewidth=0.8, label="fitted")
    max_counts = float(fit.counts[used_channels].max())
    spectrum_axes.set_yscale("log")
    _set_count_limits(spectrum_axes, max(_MIN_SHOWN_COUNTS, 3e-6 * max_counts), max_counts)
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


def _draw_residuals(axes: Axes, energy: NDArray[np.float64], pulls: NDArray[np.float64], chi_square: float) -> None:
    axes.axhspan(-1, 1, color="#e5e5e5", linewidth=0)
    axes.plot(energy, np.clip(pulls, -_MAX_PULL, _MAX_PULL), color=_MEASURED_COLOR, linewidth=0.6)
    axes.set_ylim(-_MAX_PULL, _MAX_PULL)
    axes.set_ylabel("residual / σ", fontsize=TEXT_SIZE)
    axes.set_xlabel("energy (keV)", fontsize=TEXT_SIZE)
    axes.text(
        0.995, 0.93, f"χ² = {chi_square:.2f}", transform=axes.transAxes, ha="right", va="top", fontsize=SMALL_SIZE
    )


def calibration_figure(
    calibration: Calibration,
    sum_counts: NDArray[np.float64],
    max_counts: NDArray[np.float64] | None = None,
    *,
    title: str = "",
) -> Figure:
    """Draw the spectrum on the calibrated axis, and mark the lines, the Compton peak and the end of the continuum.

    Further results of the calibration are written below the axes.

    Parameters
    ----------
    calibration : Calibration
    sum_counts, max_counts : (n_channel,) arrays
        Counts; ``max_counts`` may be None.
    title : str
        Title above the figure.
    """
    figure = spectrum(
        calibration.axis, sum_counts, max_counts, calibration.families, title=title, anode=calibration.anode
    )
    axes = figure.axes[0]
    _mark_compton(axes, calibration)
    _mark_endpoint(axes, calibration)
    text_lines = _text_lines(calibration)
    text_height_inch = _LINE_HEIGHT_INCH * len(text_lines) + _BOTTOM_MARGIN_INCH
    figure.set_size_inches(9.6, 3.9 + text_height_inch)
    height_inch = float(figure.get_size_inches()[1])
    for line_index, text_line in enumerate(text_lines):
        text_y = (_BOTTOM_MARGIN_INCH + (len(text_lines) - line_index - 0.6) * _LINE_HEIGHT_INCH) / height_inch
        figure.text(0.75 / 9.6, text_y, text_line, fontsize=SMALL_SIZE, va="center", color="#222222")
    return close_fit(figure, 0.75, 0.15, 0.5 + text_height_inch, 0.3)


def calibration_words(calibration: Calibration) -> tuple[str, ...]:
    """Return a text for each result of a calibration, with the standard deviation if it is known."""
    gain_ev, zero_ev = 1e3 * calibration.axis.gain_kev, 1e3 * calibration.axis.zero_kev
    result_texts = [
        f"channel {gain_ev:.4f} ± {1e3 * calibration.gain_uncertainty_kev:.4f} eV",
        f"channel 0 at {zero_ev:.1f} ± {1e3 * calibration.zero_uncertainty_kev:.1f} eV",
        f"noise {1e3 * calibration.noise_fwhm_kev:.1f} ± {1e3 * calibration.noise_uncertainty_kev:.1f} eV FWHM",
        f"Fano factor {calibration.fano:.4f} ± {calibration.fano_uncertainty:.4f}",
        f"{1e3 * float(calibration.fwhm_kev(MN_K_ALPHA_KEV)):.0f} eV FWHM at Mn K",
    ]
    if calibration.anode is not None:
        result_texts.append(f"{calibration.anode} anode")
    if calibration.voltage_kv is not None:
        result_texts.append(f"{calibration.voltage_kv:.1f} ± {calibration.voltage_uncertainty_kv:.1f} kV")
    if calibration.scatter_angle_deg is not None:
        uncertainty_deg = calibration.scatter_angle_uncertainty_deg
        result_texts.append(
            f"scattering angle {calibration.scatter_angle_deg:.0f}°"
            + ("" if uncertainty_deg is None else f" ± {uncertainty_deg:.1f}°")
        )
    if calibration.seen_air_cm is not None:
        result_texts.append(f"about {calibration.seen_air_cm:.2g} cm of air in the beam (factor 2.5)")
    return tuple(result_texts)


def _text_lines(calibration: Calibration) -> list[str]:
    wrapped_lines = wrap("Found: " + "; ".join(calibration_words(calibration)) + ".", _TEXT_WIDTH)
    return wrapped_lines + [
        wrapped_line
        for missing_text in calibration.missing
        for wrapped_line in wrap("Not found: " + missing_text + ".", _TEXT_WIDTH)
    ]


def _mark_compton(axes: Axes, calibration: Calibration) -> None:
    if calibration.anode is None or calibration.scatter_angle_deg is None:
        return
    energy, line_strength = family_lines(calibration.anode, "K", 60.0)
    strongest_line_kev = np.asarray([float(energy[np.argmax(line_strength)])])
    _mark_energy(
        axes,
        float(compton_energy(strongest_line_kev, calibration.scatter_angle_deg)[0]),
        f"{calibration.anode} Compton",
    )


def _mark_endpoint(axes: Axes, calibration: Calibration) -> None:
    if calibration.voltage_kv is not None:
        _mark_energy(axes, calibration.voltage_kv, f"end: {calibration.voltage_kv:.1f} kV")


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


def explanation_figure(explanation: Explanation, *, title: str = "") -> Figure:
    """Plot the measured spectrum with the range of the random draws, the residuals, and the layers of some draws.

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
    _draw_explained_spectrum(spectrum_axes, explanation)
    _draw_explanation_residuals(residual_axes, explanation)
    residual_axes.set_xlim(spectrum_axes.get_xlim())
    _draw_layer_stacks(stack_axes, explanation)
    figure.suptitle(title or explanation.spectrum.name, fontsize=TEXT_SIZE + 2, x=0.07, y=0.99, ha="left")
    close_fit(figure, 0.75, 2.55, 0.5, 0.5)
    figure.subplots_adjust(hspace=0.28)
    return figure


def _draw_explained_spectrum(axes: Axes, explanation: Explanation) -> None:
    fit = explanation.fit
    energy = fit.axis.energy_kev
    axes.fill_between(
        energy, fit.low_counts, fit.high_counts, color=FITTED_COLOR, alpha=0.3, linewidth=0, label="90 % of the draws"
    )
    axes.plot(energy, fit.expected_counts, color=FITTED_COLOR, linewidth=0.7, label="best draw")
    counts = np.where(fit.counts > 0, fit.counts, np.nan)
    axes.plot(energy, counts, linestyle="none", marker=".", markersize=2.0, color=MEASURED_COLOR, label="measured")
    axes.set_yscale("log")
    axes.set_ylim(bottom=MIN_SHOWN_COUNTS)
    axes.set_ylabel("counts", fontsize=TEXT_SIZE)
    axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), fontsize=SMALL_SIZE, frameon=False, markerscale=4.0)
    quiet_axes(axes)


def _draw_explanation_residuals(axes: Axes, explanation: Explanation) -> None:
    pulls = explanation.fit.pulls
    axes.axhspan(-2, 2, color=BAND_COLOR, linewidth=0, alpha=0.6)
    axes.axhline(0.0, color="#888888", linewidth=0.5)
    axes.plot(explanation.fit.axis.energy_kev, pulls, color=MEASURED_COLOR, linewidth=0.5)
    limit_sigmas = max(MIN_RESIDUAL_RANGE_SIGMAS, 1.1 * float(np.abs(pulls).max()))
    axes.set_ylim(-limit_sigmas, limit_sigmas)
    axes.set_ylabel("residual (sigma)", fontsize=TEXT_SIZE)
    axes.set_xlabel("energy (keV)", fontsize=TEXT_SIZE)
    note = (
        "measured minus best draw, in standard\ndeviations of counting and model\nerror; band: two standard deviations"
    )
    axes.text(1.02, 1.0, note, transform=axes.transAxes, fontsize=SMALL_SIZE, va="top", ha="left")
    quiet_axes(axes)


def _draw_layer_stacks(axes: Axes, explanation: Explanation) -> None:
    """Plot the layers of some draws as columns, sorted by the top layer's thickness; widths are mass fractions."""
    if not explanation.is_stated:
        axes.axis("off")
        axes.text(0.0, 0.9, "No tested layers describe the spectrum, so no layers are shown.", fontsize=TEXT_SIZE)
        return
    draws = explanation.draws
    draw_indices = np.linspace(0, len(draws) - 1, N_DRAWN_STACKS).astype(np.int64)
    draw_indices = draw_indices[np.argsort(draws.thickness_um[draw_indices, 0])]
    patches, colors = [], []
    for column_index, draw_index in enumerate(draw_indices):
        depth_um = 0.0
        for layer_index in range(int(draws.n_layer[draw_index])):
            thickness_um, left_edge = float(draws.thickness_um[draw_index, layer_index]), float(column_index)
            mass_shares = draws.group_share[draw_index, layer_index] / draws.group_share[draw_index, layer_index].sum()
            for group_index in np.flatnonzero(mass_shares):
                patches.append(Rectangle((left_edge, depth_um), float(mass_shares[group_index]), thickness_um))
                colors.append(library().group(draws.groups[group_index]).color)
                left_edge += float(mass_shares[group_index])
            depth_um += thickness_um
            axes.plot([column_index, column_index + 1], [depth_um, depth_um], color="white", linewidth=0.6)
    axes.add_collection(PatchCollection(patches, facecolors=colors, linewidths=0))
    axes.set_facecolor(GROUND_COLOR)
    axes.set_xlim(0, len(draw_indices))
    max_depth_um = 1.2 * float(np.quantile(np.nansum(draws.thickness_um, axis=1), 0.95))
    axes.set_ylim(min(max_depth_um, MAX_DEPTH_UM), 0.0)
    axes.set_xticks([])
    axes.set_xlabel(
        f"{len(draw_indices)} of {len(draws)} draws, sorted by the thickness of the top layer", fontsize=TEXT_SIZE
    )
    axes.set_ylabel("depth (um)", fontsize=TEXT_SIZE)
    handles = [Patch(color=library().group(name).color, label=group_name(name)) for name in draws.groups]
    handles.append(Patch(facecolor=GROUND_COLOR, edgecolor="#888888", label=f"ground ({explanation.ground})"))
    axes.legend(handles=handles, loc="upper left", bbox_to_anchor=(1.01, 1.02), fontsize=SMALL_SIZE, frameon=False)
    quiet_axes(axes)
