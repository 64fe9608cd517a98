"""Choice of a scan's energy axis (from the user, the instrument or the lines), with checks against the lines."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from underpaint.calibrate._excitation import Beam, beam_contradiction, find_beam
from underpaint.calibrate._knowledge import (
    BEAM_RANGE_KEV,
    Knowledge,
    calibrated_instrument,
    contradiction,
    deviation_note,
    merge_knowledge,
)
from underpaint.calibrate._peaks import GAIN_RANGE_KEV, find_spectrum_peaks
from underpaint.calibrate.calibration import Calibration, DoubtedAxisError, calibrate, calibration_notes
from underpaint.data import EnergyAxis, Scan, Spectrum, survey
from underpaint.data.peaks import resolution_fwhm_kev
from underpaint.errors import CalibrationError, InstrumentError
from underpaint.physics.instrument import Instrument, SourceSpectrum, load_instrument
from underpaint.runtime.progress import Progress

if TYPE_CHECKING:
    from underpaint.simulate.instrument_inputs import InstrumentConditions

_MAX_ENERGY_KEV = 200.0


def peak_channels(counts: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the centres of a spectrum's peaks, in fractional channels.

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
    """Fit an energy axis to lines at given channels by least squares. Return the axis and the residuals.

    Parameters
    ----------
    channel, energy_kev : (n_line,) sequences
        Centre of each peak in fractional channels, and energy in keV of the line that is assigned to the peak.
    n_channel : int
        Number of channels of the spectrum.

    Returns
    -------
    axis : EnergyAxis
    residual_ev : (n_line,) array
        Energy of each peak on the fitted axis minus the energy of its line, in eV.

    Raises
    ------
    CalibrationError
        There are fewer than two different channels, or a channel, an energy or the fitted gain is impossible.

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
    """Return the instrument with an axis set by hand. If the lines of the scan confirm this axis, it is refined.

    Parameters
    ----------
    scan : Scan
        Scan, or a scan whose only pixel is the sum spectrum.
    axis : EnergyAxis
        Axis set by hand. The refinement starts from this axis, not from the axis of the scan's file.
    base : Instrument or None
        Instrument with further known values.

    Returns
    -------
    instrument : Instrument
    calibration : Calibration or None
        Calibration from the lines, or None if the axis is used unchanged because the lines do not confirm it.
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


_NO_ANODE_NOTE = (
    "The tube's anode is not known. Scattered lines of the anode may look like lines of a pigment (chromium, "
    "copper). Give the anode in an instrument file (tube.anode)."
)
ORIGINS = {"given": "given", "file": "by the scan's file", "spectrum": "by its elastic and Compton peaks"}
"""Wording for each origin of the X-ray source's settings."""


@dataclass(frozen=True)
class CalibratedScan:
    """A scan with its energy axis, and what is known about the axis and the instrument.

    Parameters
    ----------
    scan : Scan
        Scan with an energy axis.
    knowledge : Knowledge or None
        Known values of the instrument.
    calibration : Calibration or None
        Calibration from the lines, or None if the axis comes from the user or the file.
    notes : tuple of str
        Notes for the user.
    alerts : tuple of str
        Warnings that results may be wrong or incomplete.
    is_doubted : bool
        Whether the lines contradict the axis of the file, in which case no pigments are reported.
    """

    scan: Scan
    knowledge: Knowledge | None = None
    calibration: Calibration | None = None
    notes: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    is_doubted: bool = False

    @property
    def instrument(self) -> Instrument | None:
        """Instrument, or None if both its resolution and its source are unknown."""
        knowledge = self.knowledge
        if knowledge is None or not (knowledge.knows_excitation or "detector.noise_fwhm_kev" in knowledge.origin):
            return None
        return knowledge.instrument

    @property
    def beam_kev(self) -> float | None:
        """Energy of the monochromatic beam in keV, or None if the source is a tube or unknown."""
        return None if self.knowledge is None else self.knowledge.beam_kev

    def known_conditions(self) -> "InstrumentConditions":
        """Return the known values of the instrument as network inputs."""
        from underpaint.simulate.instrument_inputs import InstrumentConditions

        return InstrumentConditions() if self.knowledge is None else self.knowledge.known_conditions()

    def facts(self) -> dict[str, Any]:
        """Return the axis and its origin as a JSON-serialisable record for the results."""
        axis = self.scan.require_axis()
        calibration = self.calibration
        record: dict[str, Any] = {
            "source": "given" if calibration is None else "found in the scan's lines",
            "gain_kev": axis.gain_kev,
            "zero_kev": axis.zero_kev,
            "notes": list(self.notes),
            "known": {} if self.knowledge is None else self.knowledge.facts(),
        }
        if calibration is not None:
            record |= {
                "noise_fwhm_kev": calibration.noise_fwhm_kev,
                "fano": calibration.fano,
                "residual_ev": calibration.residual_ev,
                "axis_uncertainty_ev": calibration.axis_uncertainty_ev,
                "found": list(calibration.families),
                "missing": list(calibration.missing),
                "anode": calibration.anode,
                "scatter_angle_deg": calibration.scatter_angle_deg,
            }
        return record


def resolve_energy_axis(
    scan: Scan,
    *,
    instrument: str | Path | Instrument | None = None,
    calibrated: bool = True,
    total: Spectrum | None = None,
    tube: bool = False,
    trust_instrument: bool = False,
    beam_kev: float | None = None,
    progress: Progress | None = None,
) -> CalibratedScan:
    """Return a scan with its energy axis and the known values of its instrument.

    If the user's instrument has an axis, this axis is used. Otherwise the axis is calibrated from the lines.

    Parameters
    ----------
    scan : Scan
        Scan with or without an axis.
    instrument : str, Path, Instrument or None
        Preset, instrument file or instrument.
    calibrated : bool
        Whether to calibrate the axis from the lines. If False, the axis of the file is used.
    total : Spectrum or None
        Sum spectrum of the scan. If None, the sum spectrum is computed from the scan.
    tube : bool
        Also estimate the tube voltage, which takes some seconds more.
    trust_instrument : bool
        Use the instrument even if the spectra contradict it, and add an alert.
    beam_kev : float or None
        Energy of a monochromatic beam, in keV.
    progress : callable or None
        Called with the step's name, the number of completed parts, and the number of all parts.

    Raises
    ------
    CalibrationError
        The scan has no axis and the calibration fails.
    InstrumentError
        The beam energy is not between 0.5 and 200 keV, or the spectra contradict the instrument. A line that deviates
        from the instrument's axis by more than 50 eV is a contradiction. A monochromatic beam is a contradiction if the
        instrument has a tube.
    """
    user_instrument = load_instrument(instrument) if isinstance(instrument, str | Path) else instrument
    check_beam(beam_kev)
    sum_counts = survey(scan).total if total is None else np.asarray(total.counts, dtype=np.float64)
    scan_on_axis, line_calibration, faults = _put_on_axis(
        scan, user_instrument, total, calibrated=calibrated, tube=tube, progress=progress
    )
    if beam_kev is not None:
        source_spectrum = SourceSpectrum(energy_kev=(beam_kev,), weight=(1.0,))
        user_instrument = (user_instrument or Instrument.model_validate({})).model_copy(
            update={"source_spectrum": source_spectrum}
        )
    knowledge = merge_knowledge(scan, user_instrument=user_instrument, calibration=scan_on_axis.calibration)
    detector, axis = knowledge.instrument.detector, scan_on_axis.scan.require_axis()
    beam = find_beam(sum_counts, axis, resolution_fwhm_kev(axis.energy_kev, detector.noise_fwhm_kev, detector.fano))
    beam_alerts: tuple[str, ...] = ()
    if knowledge.beam_kev is not None:
        beam_alerts = _beam_alerts(knowledge, beam, line_calibration)
    elif "source_spectrum" not in knowledge.origin:
        knowledge = merge_knowledge(
            scan, user_instrument=user_instrument, calibration=scan_on_axis.calibration, beam=beam
        )
        if beam is not None and knowledge.beam_kev is None:
            faults.append(
                f"the instrument has a tube, and the spectra show a monochromatic beam of {beam.energy_kev:.1f} keV"
            )
    alerts = (
        *scan_on_axis.alerts,
        *beam_alerts,
        *_handle_contradictions(user_instrument, faults, is_trusted=trust_instrument),
    )
    missing_anode_notes = (
        (_NO_ANODE_NOTE,) if tube and knowledge.beam_kev is None and "tube.anode" not in knowledge.origin else ()
    )
    return replace(
        scan_on_axis,
        knowledge=knowledge,
        notes=(*scan_on_axis.notes, *knowledge.notes, *missing_anode_notes),
        alerts=alerts,
    )


def check_beam(beam_kev: float | None) -> None:
    """Raise an InstrumentError if a beam energy (in keV) is out of range."""
    min_beam_kev, max_beam_kev = BEAM_RANGE_KEV
    if beam_kev is not None and not min_beam_kev <= beam_kev <= max_beam_kev:
        remedy = "Give the energy of the monochromatic beam, or omit it if the source is a tube."
        if min_beam_kev <= beam_kev / 1000 <= max_beam_kev:
            remedy = f"Is it in eV? Then give {beam_kev / 1000:g}."
        raise InstrumentError(
            f"Cannot use a beam of {beam_kev:g} keV: {min_beam_kev:g} to {max_beam_kev:g} keV are allowed. {remedy}"
        )


def _put_on_axis(
    scan: Scan,
    user_instrument: Instrument | None,
    total: Spectrum | None,
    *,
    calibrated: bool,
    tube: bool,
    progress: Progress | None,
) -> tuple[CalibratedScan, Calibration | None, list[str]]:
    """Return the scan with its axis, the calibration, and texts on lines that contradict the user's axis."""
    sum_scan = scan if total is None else _single_pixel_scan(scan, total)
    if user_instrument is not None and "gain_kev" in user_instrument.detector.model_fields_set:
        scan_on_axis = _put_on_instrument_axis(scan, user_instrument)
        axis = scan_on_axis.scan.require_axis()
        try:
            calibration = calibrate(sum_scan)
        except CalibrationError:
            note = "The instrument's axis could not be checked, because the lines of the scan do not determine an axis."
            return replace(scan_on_axis, notes=(*scan_on_axis.notes, note)), None, []
        fault = contradiction(axis, calibration)
        note = "" if fault else deviation_note(axis, calibration)
        scan_on_axis = replace(scan_on_axis, notes=(*scan_on_axis.notes, note) if note else scan_on_axis.notes)
        return scan_on_axis, calibration, [fault] if fault else []
    if not calibrated:
        scan.require_axis()
        note = "The energy axis of the file is used and was not checked against the lines."
        return CalibratedScan(scan, notes=(note,)), None, []
    try:
        calibration = calibrate(sum_scan, tube=tube, progress=progress)
    except CalibrationError as error:
        if scan.axis is None:
            raise
        alert = f"The energy axis of the file could not be checked, and all results depend on it. {error}"
        return CalibratedScan(scan, alerts=(alert,), is_doubted=isinstance(error, DoubtedAxisError)), None, []
    notes = calibration_notes(scan.axis, calibration)
    return CalibratedScan(scan.with_axis(calibration.axis), calibration=calibration, notes=notes), calibration, []


def _beam_alerts(knowledge: Knowledge, detected_beam: Beam | None, calibration: Calibration | None) -> tuple[str, ...]:
    """Return an alert if the spectra contradict the beam that the user or the file states."""
    beam_kev = knowledge.beam_kev
    families, anode = ((), None) if calibration is None else (calibration.families, calibration.anode)
    fault = "" if beam_kev is None else beam_contradiction(beam_kev, detected_beam, families, anode)
    if not fault:
        return ()
    origin = ORIGINS[knowledge.origin["source_spectrum"]]
    return (
        f"The spectra contradict the monochromatic beam of {beam_kev:g} keV ({origin}): {fault}. The beam energy was "
        f"used nevertheless, so results may be wrong. Give the correct energy with --beam (beam_kev=), or omit it "
        f"for a tube.",
    )


def _handle_contradictions(
    user_instrument: Instrument | None, faults: list[str], *, is_trusted: bool
) -> tuple[str, ...]:
    """Raise an error if the spectra contradict the user's instrument. If the instrument is trusted, return an alert."""
    if user_instrument is None or not faults:
        return ()
    contradiction_text = f"The spectra contradict the instrument {user_instrument.name!r}: {'; '.join(faults)}."
    if not is_trusted:
        raise InstrumentError(
            f"{contradiction_text} Omit the instrument, give the correct one, put the values of `underpaint calibrate` "
            "into its file, or use it nevertheless with --trust-instrument (trust_instrument=True)."
        )
    return (f"{contradiction_text} The instrument was used nevertheless, so results may be wrong.",)


def check_instrument(axis: CalibratedScan, instrument: Instrument, *, trusted: bool) -> tuple[str, ...]:
    """Compare an instrument's axis with the lines. Return an alert if the lines contradict the axis.

    Raises
    ------
    InstrumentError
        The lines contradict the axis of an instrument that is not trusted.
    """
    if axis.calibration is None or "gain_kev" not in instrument.detector.model_fields_set:
        return ()
    scan_axis = EnergyAxis(instrument.detector.gain_kev, instrument.detector.zero_kev, axis.scan.shape[2])
    fault = contradiction(scan_axis, axis.calibration)
    return _handle_contradictions(instrument, [fault] if fault else [], is_trusted=trusted)


def _put_on_instrument_axis(scan: Scan, instrument: Instrument) -> CalibratedScan:
    detector, n_channel = instrument.detector, scan.shape[2]
    notes = [f"The energy axis of the instrument {instrument.name!r} is used."]
    if "n_channel" in detector.model_fields_set and detector.n_channel != n_channel:
        notes.append(
            f"The scan has {n_channel} channels and the instrument has {detector.n_channel}. The first channels of "
            f"the axis are used."
        )
    return CalibratedScan(
        scan.with_axis(EnergyAxis(detector.gain_kev, detector.zero_kev, n_channel)), notes=tuple(notes)
    )


def _single_pixel_scan(scan: Scan, total: Spectrum) -> Scan:
    """Return a scan whose only pixel is the sum spectrum. This spectrum is sufficient for the calibration."""
    return Scan(total.counts[None, None, :], axis=scan.axis, name=scan.name)
