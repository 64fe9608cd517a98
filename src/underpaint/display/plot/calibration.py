"""The sum spectrum with everything that a calibration found in it, and what it did not."""

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
_LINE_IN, _FOOT_IN = 0.14, 0.06


def calibration_figure(
    found: Calibration,
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


def words(found: Calibration) -> tuple[str, ...]:
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


def _lines(found: Calibration) -> list[str]:
    told = wrap("Found: " + "; ".join(words(found)) + ".", _TEXT_WIDTH)
    return told + [line for text in found.missing for line in wrap("Not found: " + text + ".", _TEXT_WIDTH)]


def _mark_compton(axes: Axes, found: Calibration) -> None:
    if found.anode is None or found.scatter_angle_deg is None:
        return
    energy, share = family_lines(found.anode, "K", 60.0)
    strongest = np.asarray([float(energy[np.argmax(share)])])
    _mark(axes, float(compton_energy(strongest, found.scatter_angle_deg)[0]), f"{found.anode} Compton")


def _mark_end(axes: Axes, found: Calibration) -> None:
    if found.voltage_kv is not None:
        _mark(axes, found.voltage_kv, f"end: {found.voltage_kv:.1f} kV")


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
