"""Known values of a scan's instrument: from the user, else from the scan's file, else from its lines."""

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
"""Energies that a monochromatic beam may have, in keV."""
_VOLTAGE_RANGE_KV = (4.0, 200.0)
_VOLTS_PER_KILOVOLT = 1000.0
_MIN_CONTRADICTION_EV, _MIN_CONTRADICTION_SIGMAS = 50.0, 5.0
_MIN_DEVIATION_EV, _MIN_DEVIATION_SIGMAS = 15.0, 3.0
_MAX_LISTED_LINES = 4
_REQUIRED_WITH = {
    "detector.fano": {"detector.noise_fwhm_kev"},
    "detector.zero_kev": {"detector.gain_kev"},
    "detector.n_channel": {"detector.gain_kev"},
    "geometry.scatter_angle_deg": {"geometry.incidence_angle_deg", "geometry.takeoff_angle_deg"},
}
"""Values that are only meaningful together with other values, which must have the same origin."""


@dataclass(frozen=True)
class Knowledge:
    """Known values of an instrument.

    Parameters
    ----------
    instrument : Instrument
        Instrument with default values for unknown ones; its ``model_fields_set`` are the known values.
    origin : mapping of str to {"given", "file", "spectrum"}
        Origin of each known value, by name (``tube.anode``).
    notes : tuple of str
        Notes on impossible values of the file.
    """

    instrument: Instrument
    origin: Mapping[str, Origin] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def beam_kev(self) -> float | None:
        """Energy of a monochromatic beam, in keV; None for a tube or another source."""
        source = self.instrument.source_spectrum
        return source.energy_kev[0] if source is not None and len(source.energy_kev) == 1 else None

    @property
    def knows_excitation(self) -> bool:
        """Whether the highest energy of the source photons is known."""
        return not {"tube.voltage_kv", "source_spectrum"}.isdisjoint(self.origin)

    def known(self) -> InstrumentConditions:
        """Return the known values, without assumed ones, as inputs of networks."""
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
        """Return the known values with their origin, JSON-serialisable."""
        record = self.instrument.model_dump(mode="json")
        return {
            path: {"value": _value_at(record, path), "origin": origin} for path, origin in sorted(self.origin.items())
        }


def merge_knowledge(
    scan: Scan,
    *,
    user_instrument: Instrument | None = None,
    calibration: Calibration | None = None,
    beam: Beam | None = None,
    default_instrument: Instrument | None = None,
    measured_axis: bool = False,
) -> Knowledge:
    """Return the merged values of an instrument: from the user, else from the scan's file, else from its lines.

    Parameters
    ----------
    scan : Scan
        Scan whose metadata are the values of the file.
    user_instrument : Instrument or None
        Instrument of the user; only its ``model_fields_set`` are used.
    calibration : Calibration or None
        Calibration of the scan from its lines.
    beam : Beam or None
        Monochromatic beam detected in the spectrum.
    default_instrument : Instrument or None
        Values for unknown quantities; None: defaults of :class:`~underpaint.physics.instrument.Instrument`.
    measured_axis : bool
        Use axis and resolution of ``calibration`` even if the user set others.

    Returns
    -------
    Knowledge
    """
    file_values, notes = _file_values(scan.metadata)
    user_values = {} if user_instrument is None else _set_values(user_instrument)
    if measured_axis and calibration is not None:
        user_values = {path: value for path, value in user_values.items() if path not in _axis_values(calibration)}
    values: dict[str, Any] = {}
    origin: dict[str, Origin] = {}
    layers: tuple[tuple[Origin, dict[str, Any]], ...] = (
        ("spectrum", _spectrum_values(calibration, beam)),
        ("file", file_values),
        ("given", user_values),
    )
    for origin_name, layer_values in layers:
        if "source_spectrum" in layer_values or "tube.anode" in layer_values or "tube.voltage_kv" in layer_values:
            _remove_other_source(values, origin, layer_values)
        for path, value in layer_values.items():
            values[path], origin[path] = value, origin_name
        for path, required in _REQUIRED_WITH.items():
            if required <= layer_values.keys() and path not in layer_values:
                values.pop(path, None)
                origin.pop(path, None)
    table = _nested(values) | _name_and_note(scan, user_instrument, calibration, measured_axis=measured_axis)
    merged = table if default_instrument is None else _merged_with_defaults(default_instrument, table)
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
        Other known values (voltage, window, air path ...).

    Returns
    -------
    Instrument
        ``base`` with the calibrated axis and resolution; tube and geometry that ``base`` does not set are those of the
        scan's file and lines.
    """
    return merge_knowledge(scan, user_instrument=base, calibration=calibration, measured_axis=True).instrument


def contradiction(axis: EnergyAxis, calibration: Calibration) -> str:
    """Return a text on lines that deviate by more than 50 eV from an instrument's axis; "" if there are none.

    Parameters
    ----------
    axis : EnergyAxis
        Energy axis of the instrument, with the channels of the scan.
    calibration : Calibration
        Calibration of the scan from its lines.
    """
    deviations_ev = _deviations_ev(axis, calibration)
    limit_ev = max(_MIN_CONTRADICTION_EV, _MIN_CONTRADICTION_SIGMAS * calibration.axis_uncertainty_ev)
    if not deviations_ev or max(map(abs, deviations_ev.values())) <= limit_ev:
        return ""
    return f"its energy axis does not fit the lines of the scan ({_list_largest(deviations_ev)})"


def deviation_note(axis: EnergyAxis, calibration: Calibration) -> str:
    """Return a text on lines that deviate significantly, by 15 eV or more, from an instrument's axis; "" if none do.

    Parameters
    ----------
    axis : EnergyAxis
        Energy axis of the instrument, with the channels of the scan.
    calibration : Calibration
        Calibration of the scan from its lines.
    """
    deviations_ev = _deviations_ev(axis, calibration)
    limit_ev = max(_MIN_DEVIATION_EV, _MIN_DEVIATION_SIGMAS * calibration.axis_uncertainty_ev)
    if max(map(abs, deviations_ev.values()), default=0.0) < limit_ev:
        return ""
    return (
        f"The lines of the scan deviate from it within the accepted limit ({_list_largest(deviations_ev)}); "
        "`underpaint calibrate` determines the axis that fits them."
    )


def _deviations_ev(axis: EnergyAxis, calibration: Calibration) -> dict[tuple[str, float], float]:
    """Return the deviation of an axis at each line in eV, keyed by the line's name and tabulated energy in keV."""
    return {
        (line, energy_kev): 1e3 * (axis.zero_kev + axis.gain_kev * calibration.axis.channel(energy_kev) - energy_kev)
        for line, energy_kev in sorted(calibration.line_energy_kev.items(), key=lambda item: item[1])
    }


def _list_largest(deviations_ev: Mapping[tuple[str, float], float]) -> str:
    largest = sorted(deviations_ev, key=lambda line: -abs(deviations_ev[line]))[:_MAX_LISTED_LINES]
    return ", ".join(
        f"{line} ({energy_kev:.2f} keV) {deviations_ev[line, energy_kev]:+.0f} eV" for line, energy_kev in largest
    )


def _set_values(instrument: Instrument) -> dict[str, Any]:
    """Return the values that are set in an instrument, by path (``tube.anode``)."""
    values: dict[str, Any] = {}
    for name in instrument.model_fields_set - {"name", "note"}:
        value = getattr(instrument, name)
        if name in ("tube", "geometry", "detector"):
            values |= {f"{name}.{key}": getattr(value, key) for key in value.model_fields_set}
        elif value is not None:
            values[name] = value
    return {path: value for path, value in values.items() if value is not None}


def _axis_values(calibration: Calibration) -> dict[str, Any]:
    return {
        "detector.gain_kev": calibration.axis.gain_kev,
        "detector.zero_kev": calibration.axis.zero_kev,
        "detector.n_channel": calibration.axis.n_channel,
        "detector.noise_fwhm_kev": calibration.noise_fwhm_kev,
        "detector.fano": calibration.fano,
    }


def _spectrum_values(calibration: Calibration | None, beam: Beam | None) -> dict[str, Any]:
    values: dict[str, Any] = {}
    if calibration is not None:
        values |= _axis_values(calibration) | {
            "tube.anode": calibration.anode,
            "tube.voltage_kv": _rounded(calibration.voltage_kv, 1),
            "geometry.scatter_angle_deg": _rounded(calibration.scatter_angle_deg, 1),
            "geometry.seen_air_cm": _rounded(calibration.seen_air_cm, 2),
        }
    if beam is not None:
        values |= _beam_values(beam.energy_kev)
        values |= {"tube.anode": None, "tube.voltage_kv": None, "geometry.scatter_angle_deg": beam.scatter_angle_deg}
    return {path: value for path, value in values.items() if value is not None}


def _beam_values(energy_kev: float) -> dict[str, Any]:
    return {"source_spectrum": {"energy_kev": (round(energy_kev, 3),), "weight": (1.0,)}}


def _file_values(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the usable values of a scan's file, and notes on impossible values."""
    notes: list[str] = []

    def number(key: str, minimum: float, maximum: float, unit: str) -> float | None:
        value = metadata.get(key)
        # values that were not entered are missing or zero
        if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real) or value == 0:
            return None
        number_value = float(value)
        if (
            unit in ("kV", "keV")
            and maximum < number_value <= maximum * _VOLTS_PER_KILOVOLT
            and number_value / _VOLTS_PER_KILOVOLT >= minimum
        ):
            notes.append(
                f"The file gives a {_quantity_name(key)} of {number_value:g} {unit}: read as "
                f"{number_value / _VOLTS_PER_KILOVOLT:g} {unit}."
            )
            return number_value / _VOLTS_PER_KILOVOLT
        if not minimum <= number_value <= maximum or math.isnan(number_value):
            notes.append(
                f"The file gives a {_quantity_name(key)} of {number_value:g} {unit}, outside {minimum:g} to "
                f"{maximum:g}: not used."
            )
            return None
        return number_value

    values = {
        "tube.anode": _file_anode(metadata, notes),
        "tube.voltage_kv": number("tube_voltage_kv", *_VOLTAGE_RANGE_KV, "kV"),
        "geometry.incidence_angle_deg": number("incidence_angle_deg", 1.0, 90.0, "degree"),
        "geometry.takeoff_angle_deg": number("takeoff_angle_deg", 1.0, 90.0, "degree"),
    }
    beam_kev = number("incident_energy_kev", *BEAM_RANGE_KEV, "keV")
    if beam_kev is not None:
        values |= _beam_values(beam_kev) | {"tube.anode": None, "tube.voltage_kv": None}
    return {path: value for path, value in values.items() if value is not None}, tuple(notes)


def _file_anode(metadata: Mapping[str, Any], notes: list[str]) -> str | None:
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


def _quantity_name(key: str) -> str:
    return key.rpartition("_")[0].replace("_", " ")


def _remove_other_source(values: dict[str, Any], origin: dict[str, Origin], new_values: Mapping[str, Any]) -> None:
    """Remove the values of the other kind of source: an instrument has either a tube or a source spectrum."""
    removed_paths = ("tube.anode", "tube.voltage_kv") if "source_spectrum" in new_values else ("source_spectrum",)
    for path in removed_paths:
        values.pop(path, None)
        origin.pop(path, None)


def _nested(values: Mapping[str, Any]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for path, value in values.items():
        section, _, name = path.rpartition(".")
        (table.setdefault(section, {}) if section else table)[name] = value
    return table


def _merged_with_defaults(defaults: Instrument, table: Mapping[str, Any]) -> dict[str, Any]:
    merged = defaults.model_dump()
    return merged | {
        name: {**merged[name], **value} if isinstance(value, dict) and isinstance(merged[name], dict) else value
        for name, value in table.items()
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


def _value_at(table: Mapping[str, Any], path: str) -> Any:
    for name in path.split("."):
        table = table[name]
    return table


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)
