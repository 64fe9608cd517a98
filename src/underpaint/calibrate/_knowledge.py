"""Known values of a scan's instrument: from the user, else from the scan's file, else from its spectrum."""

import math
import numbers
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from underpaint.calibrate._excitation import Beam
from underpaint.calibrate.calibration import Calibration, describe_assumptions, describe_estimates
from underpaint.data import EnergyAxis, Scan
from underpaint.errors import UnderpaintError
from underpaint.physics.atomic import atomic_number, symbol
from underpaint.physics.instrument import ANODES, Instrument

if TYPE_CHECKING:
    from underpaint.simulate.instrument_inputs import InstrumentConditions

Origin = Literal["given", "file", "spectrum"]

BEAM_RANGE_KEV = (0.5, 200.0)
"""Range of allowed energies of a monochromatic beam, in keV."""
_VOLTAGE_RANGE_KV = (4.0, 200.0)
_VOLTS_PER_KILOVOLT = 1000.0
_MIN_CONTRADICTION_EV, _MIN_CONTRADICTION_SIGMAS = 50.0, 5.0
_MIN_DEVIATION_EV, _MIN_DEVIATION_SIGMAS = 15.0, 3.0
_MAX_LISTED_LINES = 4
_REQUIRED_VALUES = {
    "detector.fano": {"detector.noise_fwhm_kev"},
    "detector.zero_kev": {"detector.gain_kev"},
    "detector.n_channel": {"detector.gain_kev"},
    "geometry.scatter_angle_deg": {"geometry.incidence_angle_deg", "geometry.takeoff_angle_deg"},
}
"""Values that can only be used together with other values of the same origin."""


@dataclass(frozen=True)
class Knowledge:
    """Known values of an instrument.

    Parameters
    ----------
    instrument : Instrument
        Instrument. All values that ``origin`` does not list are defaults.
    origin : mapping of str to {"given", "file", "spectrum"}
        Origin of each known value, by dotted path (``tube.anode``).
    notes : tuple of str
        Notes on impossible values in the scan's file.
    """

    instrument: Instrument
    origin: Mapping[str, Origin] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def beam_kev(self) -> float | None:
        """Energy of the monochromatic beam in keV, or None for other sources."""
        source = self.instrument.source_spectrum
        return source.energy_kev[0] if source is not None and len(source.energy_kev) == 1 else None

    @property
    def knows_excitation(self) -> bool:
        """Whether the tube voltage or the source spectrum is known."""
        return not {"tube.voltage_kv", "source_spectrum"}.isdisjoint(self.origin)

    def known_conditions(self) -> "InstrumentConditions":
        """Return the known values as network inputs. Assumed values are left out."""
        from underpaint.simulate.instrument_inputs import InstrumentConditions, conditions_of

        instrument_conditions, origin = conditions_of(self.instrument), self.origin
        paths_by_input = {
            "anode": ("tube.anode",),
            "voltage_kv": ("tube.voltage_kv",),
            "incidence_deg": ("geometry.incidence_angle_deg",),
            "takeoff_deg": ("geometry.takeoff_angle_deg",),
            "scatter_deg": ("geometry.scatter_angle_deg",)
            if "geometry.scatter_angle_deg" in origin
            else ("geometry.incidence_angle_deg", "geometry.takeoff_angle_deg"),
            "fwhm_kev": ("detector.noise_fwhm_kev",),
        }
        known_values = {
            input_name: getattr(instrument_conditions, input_name)
            for input_name, value_paths in paths_by_input.items()
            if all(path in origin for path in value_paths)
        }
        return InstrumentConditions(**known_values)

    def facts(self) -> dict[str, dict[str, Any]]:
        """Return a JSON-serialisable record of each known value and its origin."""
        instrument_record = self.instrument.model_dump(mode="json")
        return {
            path: {"value": _nested_value(instrument_record, path), "origin": origin}
            for path, origin in sorted(self.origin.items())
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
    """Return an instrument's values: from the user, else from the scan's file, else from its spectrum.

    Parameters
    ----------
    scan : Scan
        Scan with the metadata of its file.
    user_instrument : Instrument or None
        Instrument of the user. Fields that the user did not set are ignored.
    calibration : Calibration or None
        Calibration of the scan from its lines.
    beam : Beam or None
        Monochromatic beam detected in the spectrum.
    default_instrument : Instrument or None
        Values for unknown quantities, by default those of :class:`~underpaint.physics.instrument.Instrument`.
    measured_axis : bool
        Use the axis and resolution of ``calibration`` even if ``user_instrument`` has others.

    Returns
    -------
    Knowledge
    """
    file_values, notes = _file_values(scan.metadata)
    user_values = {} if user_instrument is None else _given_values(user_instrument)
    if measured_axis and calibration is not None:
        user_values = {
            value_path: value
            for value_path, value in user_values.items()
            if value_path not in _axis_values(calibration)
        }
    value_by_path: dict[str, Any] = {}
    origin: dict[str, Origin] = {}
    values_by_priority: tuple[tuple[Origin, dict[str, Any]], ...] = (
        ("spectrum", _spectrum_values(calibration, beam)),
        ("file", file_values),
        ("given", user_values),
    )
    for origin_name, source_values in values_by_priority:
        if "source_spectrum" in source_values or "tube.anode" in source_values or "tube.voltage_kv" in source_values:
            _remove_other_source(value_by_path, origin, source_values)
        for value_path, value in source_values.items():
            value_by_path[value_path], origin[value_path] = value, origin_name
        for value_path, required_paths in _REQUIRED_VALUES.items():
            if required_paths <= source_values.keys() and value_path not in source_values:
                value_by_path.pop(value_path, None)
                origin.pop(value_path, None)
    nested_values = _nest_values(value_by_path) | _name_and_note(
        scan, user_instrument, calibration, measured_axis=measured_axis
    )
    merged_values = (
        nested_values if default_instrument is None else _merge_with_defaults(default_instrument, nested_values)
    )
    return Knowledge(Instrument.model_validate(merged_values), origin, notes)


def calibrated_instrument(scan: Scan, calibration: Calibration, base: Instrument | None = None) -> Instrument:
    """Return the instrument with the results of the calibration. ``save_instrument`` writes the instrument to a file.

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
        ``base`` with the calibrated axis and resolution. Tube and geometry values that ``base`` does not set come from
        the scan's file and spectrum.
    """
    return merge_knowledge(scan, user_instrument=base, calibration=calibration, measured_axis=True).instrument


def contradiction(axis: EnergyAxis, calibration: Calibration) -> str:
    """Return a text that lists lines whose energies deviate from an instrument's axis by more than 50 eV.

    The text is "" if there are no such lines.

    Parameters
    ----------
    axis : EnergyAxis
        Energy axis of the instrument, with the channels of the scan.
    calibration : Calibration
        Calibration of the scan from its lines.
    """
    deviations_ev = _deviations_ev(axis, calibration)
    max_deviation_ev = max(_MIN_CONTRADICTION_EV, _MIN_CONTRADICTION_SIGMAS * calibration.axis_uncertainty_ev)
    if not deviations_ev or max(map(abs, deviations_ev.values())) <= max_deviation_ev:
        return ""
    return f"the instrument's energy axis does not fit the lines of the scan ({_list_largest(deviations_ev)})"


def deviation_note(axis: EnergyAxis, calibration: Calibration) -> str:
    """Return a text that lists lines whose energies deviate from an instrument's axis by at least 15 eV and 3 sigma.

    The text is "" if there are no such lines.

    Parameters
    ----------
    axis : EnergyAxis
        Energy axis of the instrument, with the channels of the scan.
    calibration : Calibration
        Calibration of the scan from its lines.
    """
    deviations_ev = _deviations_ev(axis, calibration)
    min_deviation_ev = max(_MIN_DEVIATION_EV, _MIN_DEVIATION_SIGMAS * calibration.axis_uncertainty_ev)
    if max(map(abs, deviations_ev.values()), default=0.0) < min_deviation_ev:
        return ""
    return (
        f"The lines of the scan deviate from the instrument's axis within the accepted limit "
        f"({_list_largest(deviations_ev)}). "
        "`underpaint calibrate` determines an axis that fits the lines."
    )


def _deviations_ev(axis: EnergyAxis, calibration: Calibration) -> dict[tuple[str, float], float]:
    """Return the axis error at each line in eV. Keys are the line's name and its tabulated energy in keV."""
    return {
        (line, energy_kev): 1e3 * (axis.zero_kev + axis.gain_kev * calibration.axis.channel(energy_kev) - energy_kev)
        for line, energy_kev in sorted(calibration.line_energy_kev.items(), key=lambda item: item[1])
    }


def _list_largest(deviations_ev: Mapping[tuple[str, float], float]) -> str:
    largest_deviations = sorted(deviations_ev, key=lambda line: -abs(deviations_ev[line]))[:_MAX_LISTED_LINES]
    return ", ".join(
        f"{line} ({energy_kev:.2f} keV) {deviations_ev[line, energy_kev]:+.0f} eV"
        for line, energy_kev in largest_deviations
    )


def _given_values(instrument: Instrument) -> dict[str, Any]:
    """Return the values that were set explicitly in an instrument, by dotted path (``tube.anode``)."""
    value_by_path: dict[str, Any] = {}
    for section_name in instrument.model_fields_set - {"name", "note"}:
        section_value = getattr(instrument, section_name)
        if section_name in ("tube", "geometry", "detector"):
            value_by_path |= {
                f"{section_name}.{field_name}": getattr(section_value, field_name)
                for field_name in section_value.model_fields_set
            }
        elif section_value is not None:
            value_by_path[section_name] = section_value
    return {
        value_path: section_value for value_path, section_value in value_by_path.items() if section_value is not None
    }


def _axis_values(calibration: Calibration) -> dict[str, Any]:
    return {
        "detector.gain_kev": calibration.axis.gain_kev,
        "detector.zero_kev": calibration.axis.zero_kev,
        "detector.n_channel": calibration.axis.n_channel,
        "detector.noise_fwhm_kev": calibration.noise_fwhm_kev,
        "detector.fano": calibration.fano,
    }


def _spectrum_values(calibration: Calibration | None, beam: Beam | None) -> dict[str, Any]:
    value_by_path: dict[str, Any] = {}
    if calibration is not None:
        value_by_path |= _axis_values(calibration) | {
            "tube.anode": calibration.anode,
            "tube.voltage_kv": _round_or_none(calibration.voltage_kv, 1),
            "geometry.scatter_angle_deg": _round_or_none(calibration.scatter_angle_deg, 1),
            "geometry.seen_air_cm": _round_or_none(calibration.seen_air_cm, 2),
        }
    if beam is not None:
        value_by_path |= _beam_values(beam.energy_kev)
        value_by_path |= {
            "tube.anode": None,
            "tube.voltage_kv": None,
            "geometry.scatter_angle_deg": beam.scatter_angle_deg,
        }
    return {path: value for path, value in value_by_path.items() if value is not None}


def _beam_values(energy_kev: float) -> dict[str, Any]:
    return {"source_spectrum": {"energy_kev": (round(energy_kev, 3),), "weight": (1.0,)}}


def _file_values(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Return the usable values of a scan's file, and notes on its impossible values."""
    notes: list[str] = []

    def usable_number(metadata_key: str, minimum: float, maximum: float, unit: str) -> float | None:
        value = metadata.get(metadata_key)
        # a value that was not entered is missing or zero
        if isinstance(value, bool | np.bool_) or not isinstance(value, numbers.Real) or value == 0:
            return None
        file_value = float(value)
        if (
            unit in ("kV", "keV")
            and maximum < file_value <= maximum * _VOLTS_PER_KILOVOLT
            and file_value / _VOLTS_PER_KILOVOLT >= minimum
        ):
            notes.append(
                f"The file gives a {_quantity_name(metadata_key)} of {file_value:g} {unit}: read as "
                f"{file_value / _VOLTS_PER_KILOVOLT:g} {unit}."
            )
            return file_value / _VOLTS_PER_KILOVOLT
        if not minimum <= file_value <= maximum or math.isnan(file_value):
            notes.append(
                f"The file gives a {_quantity_name(metadata_key)} of {file_value:g} {unit}, outside {minimum:g} to "
                f"{maximum:g}: not used."
            )
            return None
        return file_value

    value_by_path = {
        "tube.anode": _file_anode(metadata, notes),
        "tube.voltage_kv": usable_number("tube_voltage_kv", *_VOLTAGE_RANGE_KV, "kV"),
        "geometry.incidence_angle_deg": usable_number("incidence_angle_deg", 1.0, 90.0, "degree"),
        "geometry.takeoff_angle_deg": usable_number("takeoff_angle_deg", 1.0, 90.0, "degree"),
    }
    beam_kev = usable_number("incident_energy_kev", *BEAM_RANGE_KEV, "keV")
    if beam_kev is not None:
        value_by_path |= _beam_values(beam_kev) | {"tube.anode": None, "tube.voltage_kv": None}
    return {path: value for path, value in value_by_path.items() if value is not None}, tuple(notes)


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
        notes.append(f"The file gives an anode of atomic number {float(value):g}, which no tube has: not used.")
        return None
    return symbol(int(float(value)))


def _quantity_name(metadata_key: str) -> str:
    return metadata_key.rpartition("_")[0].replace("_", " ")


def _remove_other_source(
    value_by_path: dict[str, Any], origin: dict[str, Origin], new_values: Mapping[str, Any]
) -> None:
    """Remove the tube values if a source spectrum is added, or the source spectrum if tube values are added."""
    removed_paths = ("tube.anode", "tube.voltage_kv") if "source_spectrum" in new_values else ("source_spectrum",)
    for removed_path in removed_paths:
        value_by_path.pop(removed_path, None)
        origin.pop(removed_path, None)


def _nest_values(value_by_path: Mapping[str, Any]) -> dict[str, Any]:
    nested_values: dict[str, Any] = {}
    for value_path, value in value_by_path.items():
        section, _, field_name = value_path.rpartition(".")
        (nested_values.setdefault(section, {}) if section else nested_values)[field_name] = value
    return nested_values


def _merge_with_defaults(defaults: Instrument, nested_values: Mapping[str, Any]) -> dict[str, Any]:
    merged_values = defaults.model_dump()
    return merged_values | {
        name: {**merged_values[name], **value}
        if isinstance(value, dict) and isinstance(merged_values[name], dict)
        else value
        for name, value in nested_values.items()
    }


def _name_and_note(
    scan: Scan, user_instrument: Instrument | None, calibration: Calibration | None, *, measured_axis: bool
) -> dict[str, str]:
    name, note = (scan.name, "") if user_instrument is None else (user_instrument.name, user_instrument.note)
    if calibration is not None and (user_instrument is None or measured_axis):
        assumptions_text = describe_assumptions(calibration) if user_instrument is None else ""
        name = f"{scan.name}_calibrated"
        note = f"{note} From the lines of {scan.name}: {describe_estimates(calibration)}. {assumptions_text}"
    return {"name": name, "note": note.strip()}


def _nested_value(nested_values: Mapping[str, Any], path: str) -> Any:
    for name in path.split("."):
        nested_values = nested_values[name]
    return nested_values


def _round_or_none(value: float | None, n_digits: int) -> float | None:
    return None if value is None else round(value, n_digits)
