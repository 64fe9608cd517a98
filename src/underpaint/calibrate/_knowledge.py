"""Knowledge of a scan's instrument: user, else the scan's file, else its lines."""

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

from underpaint.calibrate._excitation import Beam
from underpaint.calibrate.calibration import Calibration, describe_assumptions, describe_estimates
from underpaint.data import EnergyAxis, Scan
from underpaint.errors import UnderpaintError
from underpaint.physics.atomic import atomic_number, symbol
from underpaint.physics.instrument import ANODES, Instrument
from underpaint.simulate.instrument_inputs import InstrumentConditions, conditions_of

Origin = Literal["given", "file", "spectrum"]

BEAM_RANGE_KEV = (0.5, 200.0)
"""Energies that a monochromatic beam may have, keV."""
_VOLTAGES_KV = (4.0, 200.0)
_VOLTS = 1000.0
_CONTRADICTION_EV, _CONTRADICTION_SIGMAS = 50.0, 5.0
_DEVIATION_EV, _DEVIATION_SIGMAS = 15.0, 3.0
_LINES_NAMED = 4
_TOGETHER = {
    "detector.fano": {"detector.noise_fwhm_kev"},
    "detector.zero_kev": {"detector.gain_kev"},
    "detector.n_channel": {"detector.gain_kev"},
    "geometry.scatter_angle_deg": {"geometry.incidence_angle_deg", "geometry.takeoff_angle_deg"},
}
"""Values that are only meaningful together come from the same source."""


@dataclass(frozen=True)
class Knowledge:
    """Known values of an instrument.

    Parameters
    ----------
    instrument : Instrument
        Complete, with usual values for the unknown ones. Its ``model_fields_set`` are the known values.
    origin : mapping of str to {"given", "file", "spectrum"}
        Origin of each known value, by name (``tube.anode``).
    notes : tuple of str
        Texts on impossible values of the file.
    """

    instrument: Instrument
    origin: Mapping[str, Origin] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def beam_kev(self) -> float | None:
        """Energy of a monochromatic beam, keV; None: a tube, or another source."""
        source = self.instrument.source_spectrum
        return source.energy_kev[0] if source is not None and len(source.energy_kev) == 1 else None

    @property
    def knows_excitation(self) -> bool:
        """Whether the highest energy of the exciting photons is known."""
        return not {"tube.voltage_kv", "source_spectrum"}.isdisjoint(self.origin)

    def known(self) -> InstrumentConditions:
        """Return the known values as input of networks, without assumed ones."""
        conditions, origin = conditions_of(self.instrument), self.origin
        paths = {
            "anode": ("tube.anode",),
            "voltage_kv": ("tube.voltage_kv",),
            "incidence_deg": ("geometry.incidence_angle_deg",),
            "takeoff_deg": ("geometry.takeoff_angle_deg",),
            "scatter_deg": ("geometry.scatter_angle_deg",)
            if "geometry.scatter_angle_deg" in origin
            else ("geometry.incidence_angle_deg", "geometry.takeoff_angle_deg"),
            "fwhm_kev": ("detector.noise_fwhm_kev",),
        }
        values = {
            name: getattr(conditions, name) for name, names in paths.items() if all(path in origin for path in names)
        }
        return InstrumentConditions(**values)

    def facts(self) -> dict[str, dict[str, Any]]:
        """Return each known value with its origin; JSON-serialisable."""
        record = self.instrument.model_dump(mode="json")
        return {path: {"value": _get(record, path), "origin": origin} for path, origin in sorted(self.origin.items())}


def merge_knowledge(
    scan: Scan,
    *,
    user_instrument: Instrument | None = None,
    calibration: Calibration | None = None,
    beam: Beam | None = None,
    usual: Instrument | None = None,
    measured_axis: bool = False,
) -> Knowledge:
    """Merge the knowledge of an instrument: from the user, else from the scan's file, else from its lines.

    Parameters
    ----------
    scan : Scan
        Its metadata are the values of the file.
    user_instrument : Instrument or None
        The user's instrument; only fields that were set count.
    calibration : Calibration or None
        From the scan's lines.
    beam : Beam or None
        A monochromatic beam detected in the spectrum.
    usual : Instrument or None
        Values for all that is unknown; None: the defaults of :class:`~underpaint.physics.instrument.Instrument`.
    measured_axis : bool
        Use axis and resolution of ``calibration`` even if the user gave others.

    Returns
    -------
    Knowledge
    """
    of_file, notes = _of_file(scan.metadata)
    of_given = {} if user_instrument is None else _fields(user_instrument)
    if measured_axis and calibration is not None:
        of_given = {path: value for path, value in of_given.items() if path not in _of_axis(calibration)}
    values: dict[str, Any] = {}
    origin: dict[str, Origin] = {}
    layers: tuple[tuple[Origin, dict[str, Any]], ...] = (
        ("spectrum", _of_spectrum(calibration, beam)),
        ("file", of_file),
        ("given", of_given),
    )
    for name, layer in layers:
        if "source_spectrum" in layer or "tube.anode" in layer or "tube.voltage_kv" in layer:
            _forget_other_source(values, origin, layer)
        for path, value in layer.items():
            values[path], origin[path] = value, name
        for path, leaders in _TOGETHER.items():
            if leaders <= layer.keys() and path not in layer:
                values.pop(path, None)
                origin.pop(path, None)
    record = _nested(values) | _name_and_note(scan, user_instrument, calibration, measured_axis=measured_axis)
    merged = record if usual is None else _on_top_of(usual, record)
    return Knowledge(Instrument.model_validate(merged), origin, notes)


def calibrated_instrument(scan: Scan, calibration: Calibration, base: Instrument | None = None) -> Instrument:
    """Return the instrument with the results of the calibration; save it with ``save_instrument``.

    Parameters
    ----------
    scan : Scan
        The scan that was calibrated.
    calibration : Calibration
        Result of ``calibrate``.
    base : Instrument, optional
        Other known values (voltage, window, path in air ...).

    Returns
    -------
    Instrument
        ``base`` with the calibrated axis and resolution, and with the tube and geometry of the scan's file and lines
        where it does not set them.
    """
    return merge_knowledge(scan, user_instrument=base, calibration=calibration, measured_axis=True).instrument


def contradiction(axis: EnergyAxis, calibration: Calibration) -> str:
    """Return the lines that are more than 50 eV off an instrument's axis, as text; "" if it may be correct.

    Parameters
    ----------
    axis : EnergyAxis
        That of the instrument, with the scan's channels.
    calibration : Calibration
        From the lines of the scan.
    """
    off_ev = _deviations_ev(axis, calibration)
    least = max(_CONTRADICTION_EV, _CONTRADICTION_SIGMAS * calibration.axis_uncertainty_ev)
    if not off_ev or max(map(abs, off_ev.values())) <= least:
        return ""
    return f"its energy axis has the lines of the scan in the wrong place ({_worst(off_ev)})"


def deviation_note(axis: EnergyAxis, calibration: Calibration) -> str:
    """Return where an instrument's axis is significantly, by 15 eV or more, off the lines, as text; "" if nowhere.

    Parameters
    ----------
    axis : EnergyAxis
        That of the instrument, with the scan's channels.
    calibration : Calibration
        From the lines of the scan.
    """
    off_ev = _deviations_ev(axis, calibration)
    least = max(_DEVIATION_EV, _DEVIATION_SIGMAS * calibration.axis_uncertainty_ev)
    if max(map(abs, off_ev.values()), default=0.0) < least:
        return ""
    return (
        f"It is off the lines of the scan, yet by no more than is accepted ({_worst(off_ev)}); "
        "`underpaint calibrate` finds the axis that fits them."
    )


def _deviations_ev(axis: EnergyAxis, calibration: Calibration) -> dict[tuple[str, float], float]:
    """Return the deviation of an axis at each line, eV, by line and its tabulated energy, keV."""
    return {
        (line, energy_kev): 1e3 * (axis.zero_kev + axis.gain_kev * calibration.axis.channel(energy_kev) - energy_kev)
        for line, energy_kev in sorted(calibration.line_energy_kev.items(), key=lambda item: item[1])
    }


def _worst(off_ev: Mapping[tuple[str, float], float]) -> str:
    worst = sorted(off_ev, key=lambda line: -abs(off_ev[line]))[:_LINES_NAMED]
    return ", ".join(f"{line} ({energy_kev:.2f} keV) {off_ev[line, energy_kev]:+.0f} eV" for line, energy_kev in worst)


def _fields(instrument: Instrument) -> dict[str, Any]:
    """Return the values that an instrument's description sets, by path."""
    fields: dict[str, Any] = {}
    for name in instrument.model_fields_set - {"name", "note"}:
        value = getattr(instrument, name)
        if name in ("tube", "geometry", "detector"):
            fields |= {f"{name}.{key}": getattr(value, key) for key in value.model_fields_set}
        elif value is not None:
            fields[name] = value
    return {path: value for path, value in fields.items() if value is not None}


def _of_axis(calibration: Calibration) -> dict[str, Any]:
    return {
        "detector.gain_kev": calibration.axis.gain_kev,
        "detector.zero_kev": calibration.axis.zero_kev,
        "detector.n_channel": calibration.axis.n_channel,
        "detector.noise_fwhm_kev": calibration.noise_fwhm_kev,
        "detector.fano": calibration.fano,
    }


def _of_spectrum(calibration: Calibration | None, beam: Beam | None) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if calibration is not None:
        values |= _of_axis(calibration) | {
            "tube.anode": calibration.anode,
            "tube.voltage_kv": _rounded(calibration.voltage_kv, 1),
            "geometry.scatter_angle_deg": _rounded(calibration.scatter_angle_deg, 1),
            "geometry.seen_air_cm": _rounded(calibration.seen_air_cm, 2),
        }
    if beam is not None:
        values |= _of_beam(beam.energy_kev)
        values |= {"tube.anode": None, "tube.voltage_kv": None, "geometry.scatter_angle_deg": beam.scatter_angle_deg}
    return {path: value for path, value in values.items() if value is not None}


def _of_beam(energy_kev: float) -> dict[str, Any]:
    return {"source_spectrum": {"energy_kev": (round(energy_kev, 3),), "weight": (1.0,)}}


def _of_file(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the possible values of a scan's file, and texts on impossible ones."""
    notes: list[str] = []

    def number(key: str, low: float, high: float, unit: str) -> float | None:
        value = metadata.get(key)
        # nothing, or zero for a value that was not entered
        if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real) or value == 0:
            return None
        number_value = float(value)
        if unit in ("kV", "keV") and high < number_value <= high * _VOLTS and number_value / _VOLTS >= low:
            notes.append(
                f"The file gives a {_words(key)} of {number_value:g} {unit}: read as {number_value / _VOLTS:g} {unit}."
            )
            return number_value / _VOLTS
        if not low <= number_value <= high or math.isnan(number_value):
            notes.append(
                f"The file gives a {_words(key)} of {number_value:g} {unit}, outside {low:g} to {high:g}: not used."
            )
            return None
        return number_value

    values = {
        "tube.anode": _anode(metadata, notes),
        "tube.voltage_kv": number("tube_voltage_kv", *_VOLTAGES_KV, "kV"),
        "geometry.incidence_angle_deg": number("incidence_angle_deg", 1.0, 90.0, "degree"),
        "geometry.takeoff_angle_deg": number("takeoff_angle_deg", 1.0, 90.0, "degree"),
    }
    beam_kev = number("incident_energy_kev", *BEAM_RANGE_KEV, "keV")
    if beam_kev is not None:
        values |= _of_beam(beam_kev) | {"tube.anode": None, "tube.voltage_kv": None}
    return {path: value for path, value in values.items() if value is not None}, tuple(notes)


def _anode(metadata: Mapping[str, Any], notes: list[str]) -> str | None:
    value = metadata.get("anode_atomic_number", metadata.get("anode"))
    if isinstance(value, str) and value.strip():
        try:
            value = atomic_number(value.strip())
        except (UnderpaintError, ValueError):
            notes.append(f"The file gives the anode {value!r}, which is not an element: not used.")
            return None
    if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real) or value == 0:
        return None
    if float(value) not in ANODES:
        notes.append(f"The file gives an anode of atomic number {float(value):g}, which no tube has; not used.")
        return None
    return symbol(int(float(value)))


def _words(key: str) -> str:
    return key.rpartition("_")[0].replace("_", " ")


def _forget_other_source(values: dict[str, Any], origin: dict[str, Origin], layer: Mapping[str, Any]) -> None:
    """A better known source replaces another completely: no tube next to a beam."""
    replaced = ("tube.anode", "tube.voltage_kv") if "source_spectrum" in layer else ("source_spectrum",)
    for path in replaced:
        values.pop(path, None)
        origin.pop(path, None)


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for path, value in values.items():
        part, _, name = path.rpartition(".")
        (record.setdefault(part, {}) if part else record)[name] = value
    return record


def _on_top_of(usual: Instrument, record: Mapping[str, Any]) -> dict[str, Any]:
    merged = usual.model_dump()
    return merged | {
        name: {**merged[name], **value} if isinstance(value, dict) and isinstance(merged[name], dict) else value
        for name, value in record.items()
    }


def _name_and_note(
    scan: Scan, user_instrument: Instrument | None, calibration: Calibration | None, *, measured_axis: bool
) -> dict[str, str]:
    name, note = (scan.name, "") if user_instrument is None else (user_instrument.name, user_instrument.note)
    if calibration is not None and (user_instrument is None or measured_axis):
        assumed = describe_assumptions(calibration) if user_instrument is None else ""
        name = f"{scan.name}_calibrated"
        note = f"{note} From the lines of {scan.name}: {describe_estimates(calibration)}. {assumed}"
    return {"name": name, "note": note.strip()}


def _get(record: Mapping[str, Any], path: str) -> Any:
    for name in path.split("."):
        record = record[name]
    return record


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
