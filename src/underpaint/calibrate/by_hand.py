"""Energy calibration by hand: lines that a person assigns to peaks of the mean spectrum."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from underpaint.calibrate._knowledge import calibrated_instrument, contradiction, merge_knowledge
from underpaint.calibrate._peaks import GAIN_RANGE_KEV, find_spectrum_peaks
from underpaint.calibrate.calibration import Calibration, calibrate
from underpaint.data import EnergyAxis, Scan
from underpaint.errors import CalibrationError
from underpaint.physics.instrument import Instrument

_MAX_ENERGY_KEV = 200.0


def peak_channels(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the centres of the peaks of a spectrum, fractional channels.

    Parameters
    ----------
    counts : (n_channel,) array
        Counts of the sum spectrum.
    """
    peaks = find_spectrum_peaks(np.asarray(counts, dtype=np.float64))
    return np.empty(0) if peaks is None else np.sort(peaks.channel)


def axis_through_lines(
    channel: Sequence[float], energy_kev: Sequence[float], n_channel: int
) -> tuple[EnergyAxis, NDArray[np.float64]]:
    """Return the energy axis through lines at given channels, by least squares, and the residuals.

    Parameters
    ----------
    channel, energy_kev : (n_line,) sequences
        Centre of each peak (fractional channel), and the energy of the line assigned to it, in keV.
    n_channel : int
        Number of channels of the spectrum.

    Returns
    -------
    axis : EnergyAxis
    residual_ev : (n_line,) array
        Energy of each peak on this axis minus the energy of its line, in eV.

    Raises
    ------
    CalibrationError
        There are fewer than two lines at different channels, a channel or an energy is impossible, or no detector has
        the resulting channel width.

    Examples
    --------
    >>> axis, residual_ev = axis_through_lines([369.0, 640.0, 1055.0], [3.69, 6.40, 10.55], 2048)
    >>> round(axis.gain_kev, 6), bool(abs(residual_ev).max() < 1e-6)
    (0.01, True)
    """
    at, energies = np.asarray(channel, dtype=np.float64), np.asarray(energy_kev, dtype=np.float64)
    if not (at.size == energies.size and np.isfinite(at).all() and ((at >= 0) & (at < n_channel)).all()):
        raise CalibrationError(f"Cannot calibrate: channels go from 0 to {n_channel - 1}. Correct the channel.")
    if not ((energies > 0) & (energies <= _MAX_ENERGY_KEV)).all():
        worst = energies[~((energies > 0) & (energies <= _MAX_ENERGY_KEV))][0]
        raise CalibrationError(
            f"Cannot calibrate with a line at {worst:g} keV: energies above 0 and up to {_MAX_ENERGY_KEV:g} keV are "
            "allowed. Correct the energy; it is in keV."
        )
    if np.unique(at).size < 2:
        raise CalibrationError(
            f"Cannot calibrate with {np.unique(at).size} of the peaks: two at different channels are needed. "
            "Assign another line."
        )
    gain, zero = (float(value) for value in np.polyfit(at, energies, 1))
    low, high = GAIN_RANGE_KEV
    if not low <= gain <= high:
        raise CalibrationError(
            f"Cannot use an axis of {1e3 * gain:.3g} eV a channel: {1e3 * low:g} to {1e3 * high:g} eV are usual. "
            "Check which line each peak is."
        )
    return EnergyAxis(gain, zero, n_channel), 1e3 * (zero + gain * at - energies)


def instrument_by_hand(
    scan: Scan, axis: EnergyAxis, base: Instrument | None = None
) -> tuple[Instrument, Calibration | None]:
    """Return the instrument with an axis set by hand; the axis is refined if the lines of the scan confirm it.

    Parameters
    ----------
    scan : Scan
        A scan, or its sum spectrum as one pixel.
    axis : EnergyAxis
        Axis set by hand; the refinement uses it in place of the axis of the scan's file.
    base : Instrument or None
        Instrument with other known values.

    Returns
    -------
    instrument : Instrument
    calibration : Calibration or None
        Calibration from the lines; None if they do not confirm the axis, which is then used unchanged.
    """
    placed = scan.with_axis(axis)
    try:
        calibration = calibrate(placed, instrument=base)
    except CalibrationError:
        calibration = None
    if calibration is not None and not contradiction(axis, calibration):
        return calibrated_instrument(placed, calibration, base), calibration
    instrument = merge_knowledge(placed, user_instrument=base).instrument
    detector = instrument.detector.model_copy(
        update={"gain_kev": axis.gain_kev, "zero_kev": axis.zero_kev, "n_channel": axis.n_channel}
    )
    note = f"{instrument.note} Energy axis set by hand.".strip()
    return instrument.model_copy(update={"detector": detector, "name": f"{scan.name}_calibrated", "note": note}), None
