"""Energy axis of a scan: the user's instrument, else the scan's lines; and contradictions."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from underpaint.calibrate._excitation import Beam, beam_contradiction, find_beam
from underpaint.calibrate._knowledge import BEAM_RANGE_KEV, Knowledge, contradiction, deviation_note, merge_knowledge
from underpaint.calibrate.calibration import Calibration, DoubtedAxisError, calibrate, calibration_notes
from underpaint.data import EnergyAxis, Scan, Spectrum, survey
from underpaint.data.peaks import resolution_fwhm_kev
from underpaint.errors import CalibrationError, InstrumentError
from underpaint.physics.instrument import Instrument, SourceSpectrum, load_instrument
from underpaint.runtime.progress import Progress
from underpaint.simulate.instrument_inputs import InstrumentConditions

_NO_ANODE = (
    "The tube's anode is not known. Its lines, scattered by the sample, may look like a pigment's (chromium, copper). "
    "Give it with an instrument file (tube.anode)."
)
ORIGINS = {"given": "given", "file": "by the scan's file", "spectrum": "by its elastic and Compton peaks"}
"""Texts on the origin of the source's values."""


@dataclass(frozen=True)
class CalibratedScan:
    """A scan on its energy axis, and the origin of the axis.

    Parameters
    ----------
    scan : Scan
        With an axis.
    knowledge : Knowledge or None
        Knowledge of the instrument: user, else the scan's file, else its lines.
    calibration : Calibration or None
        The calibration; None if the axis was given.
    notes : tuple of str
        Notes for the user.
    alerts : tuple of str
        Warnings that results may be wrong or are withheld.
    is_doubted : bool
        The axis is the file's and contradicts the scan's lines: no pigment is reported.
    """

    scan: Scan
    knowledge: Knowledge | None = None
    calibration: Calibration | None = None
    notes: tuple[str, ...] = ()
    alerts: tuple[str, ...] = ()
    is_doubted: bool = False

    @property
    def instrument(self) -> Instrument | None:
        """The instrument; None if neither its resolution nor its excitation is known."""
        knowledge = self.knowledge
        if knowledge is None or not (knowledge.knows_excitation or "detector.noise_fwhm_kev" in knowledge.origin):
            return None
        return knowledge.instrument

    @property
    def beam_kev(self) -> float | None:
        """Energy of the monochromatic beam, keV; None: a tube, or not known."""
        return None if self.knowledge is None else self.knowledge.beam_kev

    def known(self) -> InstrumentConditions:
        """Known values of the instrument as input of networks."""
        return InstrumentConditions() if self.knowledge is None else self.knowledge.known()

    def facts(self) -> dict[str, Any]:
        """JSON-serialisable record for the results."""
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
    """Return a scan on its energy axis, with the knowledge of its instrument.

    The axis is the user instrument's if it sets one; else it is calibrated from the lines.

    Parameters
    ----------
    scan : Scan
        With or without an axis.
    instrument : str, Path, Instrument or None
        Preset, file or instrument.
    calibrated : bool
        False trusts the file's axis.
    total : Spectrum or None
        The scan's sum spectrum, if already computed; saves reading the scan.
    tube : bool
        Also estimate the tube's voltage; takes some seconds more.
    trust_instrument : bool
        Use the instrument although the spectra contradict it, with an alert.
    beam_kev : float or None
        Energy of a monochromatic beam, keV.
    progress : callable or None
        Called with (what is being done, done, in all).

    Raises
    ------
    CalibrationError
        There is no axis and the calibration fails.
    InstrumentError
        The beam's energy is not between 0.5 and 200 keV; or the spectra contradict the instrument: its axis is more
        than 50 eV off the lines, or it has a tube and they show a monochromatic beam.
    """
    user_instrument = load_instrument(instrument) if isinstance(instrument, str | Path) else instrument
    check_beam(beam_kev)
    counts = survey(scan).total if total is None else np.asarray(total.counts, dtype=np.float64)
    placed, lines, faults = _placed(scan, user_instrument, total, calibrated=calibrated, tube=tube, progress=progress)
    if beam_kev is not None:
        source = SourceSpectrum(energy_kev=(beam_kev,), weight=(1.0,))
        user_instrument = (user_instrument or Instrument.model_validate({})).model_copy(
            update={"source_spectrum": source}
        )
    knowledge = merge_knowledge(scan, user_instrument=user_instrument, calibration=placed.calibration)
    detector, axis = knowledge.instrument.detector, placed.scan.require_axis()
    beam = find_beam(counts, axis, resolution_fwhm_kev(axis.energy_kev, detector.noise_fwhm_kev, detector.fano))
    beam_alerts: tuple[str, ...] = ()
    if knowledge.beam_kev is not None:
        beam_alerts = _beam_alerts(knowledge, beam, lines)
    elif "source_spectrum" not in knowledge.origin:
        knowledge = merge_knowledge(scan, user_instrument=user_instrument, calibration=placed.calibration, beam=beam)
        if beam is not None and knowledge.beam_kev is None:
            faults.append(f"it has a tube, and the spectra show a monochromatic beam of {beam.energy_kev:.1f} keV")
    alerts = (*placed.alerts, *beam_alerts, *_contradicted(user_instrument, faults, trusted=trust_instrument))
    unknown = (_NO_ANODE,) if tube and knowledge.beam_kev is None and "tube.anode" not in knowledge.origin else ()
    return replace(placed, knowledge=knowledge, notes=(*placed.notes, *knowledge.notes, *unknown), alerts=alerts)


def check_beam(beam_kev: float | None) -> None:
    """Refuse an energy that no monochromatic beam has."""
    low, high = BEAM_RANGE_KEV
    if beam_kev is not None and not low <= beam_kev <= high:
        remedy = "Give the energy of the monochromatic beam, or leave it out if the source is a tube."
        if low <= beam_kev / 1000 <= high:
            remedy = f"Is it in eV? Then give {beam_kev / 1000:g}."
        raise InstrumentError(f"Cannot use a beam of {beam_kev:g} keV: {low:g} to {high:g} keV are allowed. {remedy}")


def _placed(
    scan: Scan,
    user_instrument: Instrument | None,
    total: Spectrum | None,
    *,
    calibrated: bool,
    tube: bool,
    progress: Progress | None,
) -> tuple[CalibratedScan, Calibration | None, list[str]]:
    """Return a scan on its axis, its calibration, and contradictions of the given axis."""
    single = scan if total is None else _one_pixel(scan, total)
    if user_instrument is not None and "gain_kev" in user_instrument.detector.model_fields_set:
        placed = _on_given_axis(scan, user_instrument)
        axis = placed.scan.require_axis()
        try:
            found_axis = calibrate(single)
        except CalibrationError:
            note = "It could not be checked against lines: those of the scan fit no axis with certainty."
            return replace(placed, notes=(*placed.notes, note)), None, []
        fault = contradiction(axis, found_axis)
        note = "" if fault else deviation_note(axis, found_axis)
        placed = replace(placed, notes=(*placed.notes, note) if note else placed.notes)
        return placed, found_axis, [fault] if fault else []
    if not calibrated:
        scan.require_axis()
        note = "The energy axis is the file's; it was not checked against the lines."
        return CalibratedScan(scan, notes=(note,)), None, []
    try:
        found_axis = calibrate(single, tube=tube, progress=progress)
    except CalibrationError as error:
        if scan.axis is None:
            raise
        alert = f"The energy axis of the file could not be checked against lines, and all answers rest on it. {error}"
        return CalibratedScan(scan, alerts=(alert,), is_doubted=isinstance(error, DoubtedAxisError)), None, []
    notes = calibration_notes(scan.axis, found_axis)
    return CalibratedScan(scan.with_axis(found_axis.axis), calibration=found_axis, notes=notes), found_axis, []


def _beam_alerts(knowledge: Knowledge, shown: Beam | None, lines: Calibration | None) -> tuple[str, ...]:
    """Return an alert if the spectra contradict the beam of the user or the file."""
    beam_kev = knowledge.beam_kev
    families, anode = ((), None) if lines is None else (lines.families, lines.anode)
    fault = "" if beam_kev is None else beam_contradiction(beam_kev, shown, families, anode)
    if not fault:
        return ()
    origin = ORIGINS[knowledge.origin["source_spectrum"]]
    return (
        f"The spectra contradict the monochromatic beam of {beam_kev:g} keV ({origin}): {fault}. It was used "
        "nevertheless: results may be wrong. Give the right energy with --beam (beam_kev=), or none for a tube.",
    )


def _contradicted(user_instrument: Instrument | None, faults: list[str], *, trusted: bool) -> tuple[str, ...]:
    """Refuse an instrument that the spectra contradict, or return the alert that it was used nevertheless."""
    if user_instrument is None or not faults:
        return ()
    contradiction_text = f"The spectra contradict the instrument {user_instrument.name!r}: {'; '.join(faults)}."
    if not trusted:
        raise InstrumentError(
            f"{contradiction_text} Leave the instrument out, name the right one, put the values of "
            "`underpaint calibrate` into its file, or use it nevertheless with --trust-instrument "
            "(trust_instrument=True)."
        )
    return (f"{contradiction_text} It was used nevertheless: results may be wrong.",)


def check_instrument(axis: CalibratedScan, instrument: Instrument, *, trusted: bool) -> tuple[str, ...]:
    """Compare a user's instrument with the axis of the lines; return alerts if it is trusted.

    Raises
    ------
    InstrumentError
        The lines contradict it and it is not trusted.
    """
    if axis.calibration is None or "gain_kev" not in instrument.detector.model_fields_set:
        return ()
    scan_axis = EnergyAxis(instrument.detector.gain_kev, instrument.detector.zero_kev, axis.scan.shape[2])
    fault = contradiction(scan_axis, axis.calibration)
    return _contradicted(instrument, [fault] if fault else [], trusted=trusted)


def _on_given_axis(scan: Scan, instrument: Instrument) -> CalibratedScan:
    detector, n_channel = instrument.detector, scan.shape[2]
    notes = [f"The energy axis is that of the instrument {instrument.name!r}."]
    if "n_channel" in detector.model_fields_set and detector.n_channel != n_channel:
        notes.append(
            f"The scan has {n_channel} channels, the instrument {detector.n_channel}; the first ones are used."
        )
    return CalibratedScan(
        scan.with_axis(EnergyAxis(detector.gain_kev, detector.zero_kev, n_channel)), notes=tuple(notes)
    )


def _one_pixel(scan: Scan, total: Spectrum) -> Scan:
    """Make a scan of the sum spectrum alone, which is all that the calibration uses."""
    return Scan(total.counts[None, None, :], axis=scan.axis, name=scan.name)
