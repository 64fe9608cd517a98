"""Sum spectrum with the results of a calibration."""

from textwrap import wrap

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from underpaint.calibrate import Calibration
from underpaint.display.plot.figure import SMALL_SIZE, close_fit
from underpaint.display.plot.spectra import spectrum
from underpaint.physics.atomic import compton_energy, family_lines
from underpaint.units import MN_K_ALPHA_KEV

_MARK_COLOR = "#8a1c1c"
_TEXT_WIDTH = 150
_LINE_HEIGHT_IN, _BOTTOM_MARGIN_IN = 0.14, 0.06


def calibration_figure(
    calibration: Calibration,
    sum_counts: NDArray[np.float64],
    max_counts: NDArray[np.float64] | None = None,
    *,
    title: str = "",
) -> Figure:
    """Draw the spectrum on the calibrated axis, with lines, Compton peak and end of the continuum.

    Text below the axes states the other results.

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
    lines = _text_lines(calibration)
    text_height_in = _LINE_HEIGHT_IN * len(lines) + _BOTTOM_MARGIN_IN
    figure.set_size_inches(9.6, 3.9 + text_height_in)
    height_in = float(figure.get_size_inches()[1])
    for number, line in enumerate(lines):
        text_y = (_BOTTOM_MARGIN_IN + (len(lines) - number - 0.6) * _LINE_HEIGHT_IN) / height_in
        figure.text(0.75 / 9.6, text_y, line, fontsize=SMALL_SIZE, va="center", color="#222222")
    return close_fit(figure, 0.75, 0.15, 0.5 + text_height_in, 0.3)


def describe(calibration: Calibration) -> tuple[str, ...]:
    """Return a text for each result of a calibration, with its standard deviation if known."""
    gain_ev, zero_ev = 1e3 * calibration.axis.gain_kev, 1e3 * calibration.axis.zero_kev
    sentences = [
        f"channel {gain_ev:.4f} ± {1e3 * calibration.gain_uncertainty_kev:.4f} eV",
        f"channel 0 at {zero_ev:.1f} ± {1e3 * calibration.zero_uncertainty_kev:.1f} eV",
        f"noise {1e3 * calibration.noise_fwhm_kev:.1f} ± {1e3 * calibration.noise_uncertainty_kev:.1f} eV FWHM",
        f"Fano factor {calibration.fano:.4f} ± {calibration.fano_uncertainty:.4f}",
        f"{1e3 * float(calibration.fwhm_kev(MN_K_ALPHA_KEV)):.0f} eV wide at Mn K",
    ]
    if calibration.anode is not None:
        sentences.append(f"{calibration.anode} anode")
    if calibration.voltage_kv is not None:
        sentences.append(f"{calibration.voltage_kv:.1f} ± {calibration.voltage_uncertainty_kv:.1f} kV")
    if calibration.scatter_angle_deg is not None:
        uncertainty_deg = calibration.scatter_angle_uncertainty_deg
        sentences.append(
            f"scattered through {calibration.scatter_angle_deg:.0f}°"
            + ("" if uncertainty_deg is None else f" ± {uncertainty_deg:.1f}°")
        )
    if calibration.seen_air_cm is not None:
        sentences.append(f"about {calibration.seen_air_cm:.2g} cm of beam in air seen (factor 2.5)")
    return tuple(sentences)


def _text_lines(calibration: Calibration) -> list[str]:
    lines = wrap("Found: " + "; ".join(describe(calibration)) + ".", _TEXT_WIDTH)
    return lines + [line for text in calibration.missing for line in wrap("Not found: " + text + ".", _TEXT_WIDTH)]


def _mark_compton(axes: Axes, calibration: Calibration) -> None:
    if calibration.anode is None or calibration.scatter_angle_deg is None:
        return
    energy, line_strength = family_lines(calibration.anode, "K", 60.0)
    strongest_line_kev = np.asarray([float(energy[np.argmax(line_strength)])])
    _mark(
        axes,
        float(compton_energy(strongest_line_kev, calibration.scatter_angle_deg)[0]),
        f"{calibration.anode} Compton",
    )


def _mark_endpoint(axes: Axes, calibration: Calibration) -> None:
    if calibration.voltage_kv is not None:
        _mark(axes, calibration.voltage_kv, f"end: {calibration.voltage_kv:.1f} kV")


def _mark(axes: Axes, energy_kev: float, text: str) -> None:
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
