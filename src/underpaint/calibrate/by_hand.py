"""Energy calibration by hand, from lines that a person assigns to peaks of the mean spectrum."""

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
    """Return the centres of the peaks of a spectrum in fractional channels.

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
    """Return the energy axis fitted to lines at given channels by least squares, and the residuals.

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
    channels, energies_kev = np.asarray(channel, dtype=np.float64), np.asarray(energy_kev, dtype=np.float64)
    if not (
        channels.size == energies_kev.size
        and np.isfinite(channels).all()
        and ((channels >= 0) & (channels < n_channel)).all()
    ):
        raise CalibrationError(f"Cannot calibrate: channels go from 0 to {n_channel - 1}. Correct the channel.")
    if not ((energies_kev > 0) & (energies_kev <= _MAX_ENERGY_KEV)).all():
        invalid_energy_kev = energies_kev[~((energies_kev > 0) & (energies_kev <= _MAX_ENERGY_KEV))][0]
        raise CalibrationError(
            f"Cannot calibrate with a line at {invalid_energy_kev:g} keV: energies above 0 and up to "
            f"{_MAX_ENERGY_KEV:g} keV are "
            "allowed. Correct the energy in keV."
        )
    if np.unique(channels).size < 2:
        raise CalibrationError(
            f"Cannot calibrate with peaks at {np.unique(channels).size} channels: peaks at two channels are needed. "
            "Assign another line."
        )
    gain_kev, zero_kev = (float(coefficient) for coefficient in np.polyfit(channels, energies_kev, 1))
    min_gain_kev, max_gain_kev = GAIN_RANGE_KEV
    if not min_gain_kev <= gain_kev <= max_gain_kev:
        raise CalibrationError(
            f"Cannot use an axis of {1e3 * gain_kev:.3g} eV per channel: {1e3 * min_gain_kev:g} to "
            f"{1e3 * max_gain_kev:g} eV are possible. "
            "Check the line of each peak."
        )
    return EnergyAxis(gain_kev, zero_kev, n_channel), 1e3 * (zero_kev + gain_kev * channels - energies_kev)


def instrument_by_hand(
    scan: Scan, axis: EnergyAxis, base: Instrument | None = None
) -> tuple[Instrument, Calibration | None]:
    """Return the instrument with an axis set by hand, refined if the lines of the scan confirm the axis.

    Parameters
    ----------
    scan : Scan
        Scan, or its sum spectrum as one pixel.
    axis : EnergyAxis
        Axis set by hand, from which the refinement starts instead of the axis of the scan's file.
    base : Instrument or None
        Instrument with other known values.

    Returns
    -------
    instrument : Instrument
    calibration : Calibration or None
        Calibration from the lines, or None if the lines do not confirm the axis, which is then used unchanged.
    """
    scan_on_axis = scan.with_axis(axis)
    try:
        calibration = calibrate(scan_on_axis, instrument=base)
    except CalibrationError:
        calibration = None
    if calibration is not None and not contradiction(axis, calibration):
        return calibrated_instrument(scan_on_axis, calibration, base), calibration
    instrument = merge_knowledge(scan_on_axis, user_instrument=base).instrument
    detector = instrument.detector.model_copy(
        update={"gain_kev": axis.gain_kev, "zero_kev": axis.zero_kev, "n_channel": axis.n_channel}
    )
    instrument_note = f"{instrument.note} Energy axis set by hand.".strip()
    return instrument.model_copy(
        update={"detector": detector, "name": f"{scan.name}_calibrated", "note": instrument_note}
    ), None
