"""Reader of PyMca fit configurations (``.cfg``): instrument, line families to fit, and matrix of the sample."""

import re
from collections.abc import Mapping, Sequence
from configparser import ConfigParser
from configparser import Error as ParserError
from dataclasses import dataclass
from itertools import pairwise
from math import isfinite
from pathlib import Path
from typing import Any, NoReturn

from underpaint.data import EnergyAxis
from underpaint.errors import CalibrationError, FormulaError, InstrumentError, SampleError
from underpaint.physics.atomic import atomic_number, atomic_weight, family_lines
from underpaint.physics.instrument.models import AIR, AIR_DENSITY, MAX_PHOTON_KEV, Instrument, instrument_from
from underpaint.physics.materials import Layer, mass_fractions
from underpaint.runtime.untrusted import MAX_SETTINGS_BYTES, plain_text, read_bounded

__all__ = ["PymcaConfiguration", "Untranslated", "is_pymca", "read_pymca"]

UM_PER_CM = 1e4
SHORT_TAIL_FLAG, LONG_TAIL_FLAG, STEP_TAIL_FLAG = 2, 4, 8
"""Bits of PyMca's ``hypermetflag`` for the components of a peak other than the Gaussian."""
PYMCA_SHELLS = ("K", "L", "L1", "L2", "L3", "M", "M1", "M2", "M3", "M4", "M5")

_SECTION_PATTERN = re.compile(rb"^\[(attenuators|peaks|fit|peakshape|concentrations|multilayer)\]\s*$", re.MULTILINE)
_REQUIRED_SECTIONS = ("attenuators", "peaks", "fit", "detector")
_MAX_CHANNEL_WIDTH_KEV = 0.5
_MIN_CONTINUUM_ENTRIES = 20
"""Minimum number of entries of an energy table that describes a continuum."""
_MAX_LINE_DISTANCE_KEV = 0.05
"""Largest difference, in keV, between a tabulated energy and the anode line that it is attributed to."""
_MAX_VOLTAGE_GAP_KV = 1.0
"""Largest difference, in kV, between the tube voltage and the last energy of the table."""
_AIR_TOLERANCE = 0.02
"""Maximum difference from air, in mass fractions and in relative density, of a material that is treated as air."""
_MAX_MATERIAL_NESTING = 10

_CRYSTAL_REASON = "only crystals of one element are modelled; silicon is used instead"
_SAMPLE_REASON = "the sample is not part of an instrument; in Python, use the matrix of the configuration"
_REASON_BY_SECTION = {
    "fit": "background, channel range and convergence of PyMca's fit, which this package chooses for each scan",
    "detector": "limits, sum peaks and escape of PyMca's fit; this package models sum peaks and escape differently",
    "peakshape": "a limit of PyMca's fit, or a shape that its hypermetflag does not use",
    "concentrations": "flux, time and solid angle of a quantification are not part of an instrument",
    "multilayer": _SAMPLE_REASON,
    "userattenuators": "a table of transmission in front of the detector; only sheets of a material are modelled",
    "tube": "a setting of PyMca's tube calculator, which did not compute the energies in [fit]",
    "xrfmc": "settings of a Monte Carlo program",
    "fisx": "results of a correction that PyMca stores",
}
_TUBE_REASON = "a setting of PyMca's tube calculator without a counterpart in this package"
_UNKNOWN_OPTION_REASON = "an option of PyMca without a counterpart in this package"


@dataclass(frozen=True)
class Untranslated:
    """An entry of a configuration that has no counterpart in this package.

    Parameters
    ----------
    entry : str
        Section and option, such as ``fit.snipwidth``.
    value : str
        Value as written in the file.
    reason : str
        Reason why the entry was not translated.
    """

    entry: str
    value: str
    reason: str


@dataclass(frozen=True)
class PymcaConfiguration:
    """A PyMca fit configuration, converted to objects of this package.

    Parameters
    ----------
    instrument : Instrument
        Instrument. Settings that the file lacks have default values and are not in ``model_fields_set``.
    families : tuple of str
        Line families to fit: ``Fe_K``, or ``W_L3`` for a single subshell.
    matrix : tuple of Layer
        Layers of the sample, from the surface down; empty if the file has no matrix.
    untranslated : tuple of Untranslated
        Entries without a counterpart.
    """

    instrument: Instrument
    families: tuple[str, ...]
    matrix: tuple[Layer, ...]
    untranslated: tuple[Untranslated, ...]

    def axis(self, n_channel: int) -> EnergyAxis:
        """Return the energy axis for a given number of channels.

        Raises
        ------
        CalibrationError
            The configuration has no calibration.
        """
        detector = self.instrument.detector
        if not {"gain_kev", "zero_kev"} <= detector.model_fields_set:
            raise CalibrationError(
                f"Cannot make an energy axis from {self.instrument.name!r}: its section [detector] lacks gain or zero "
                "(keV). Add gain and zero, or calibrate a scan."
            )
        return EnergyAxis(detector.gain_kev, detector.zero_kev, n_channel)


def is_pymca(path: Path) -> bool:
    """Return whether a file is a PyMca configuration: it has the suffix ``.cfg`` or sections of PyMca."""
    return path.suffix.lower() == ".cfg" or bool(
        _SECTION_PATTERN.search(read_bounded(path, MAX_SETTINGS_BYTES, InstrumentError))
    )


def read_pymca(path: str | Path) -> PymcaConfiguration:
    """Read a PyMca fit configuration.

    Parameters
    ----------
    path : str or Path
        File that PyMca saved (``.cfg``). Energies are in keV, thicknesses in cm, and densities in g/cm3.

    Returns
    -------
    PymcaConfiguration

    Raises
    ------
    InstrumentError
        The file is not a readable PyMca configuration, a material or layer of the matrix is missing, or a value is out
        of range.

    References
    ----------
    Solé et al., 2007, Spectrochimica Acta B 62, 63-68 (PyMca).
    """
    return _ConfigurationReader(Path(path)).configuration()


class _CaseSensitiveParser(ConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr


class _ConfigurationReader:
    """Reader of one configuration; translated entries are removed from ``sections``."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sections = self._parse_sections(read_bounded(path, MAX_SETTINGS_BYTES, InstrumentError))
        self.materials = {
            name.partition(".")[2].replace("_|_", "."): self.sections.pop(name)
            for name in [*self.sections]
            if name == "materials" or name.startswith("materials.")
        }
        self.untranslated: list[Untranslated] = []
        self.detector: dict[str, Any] = {}
        self.geometry: dict[str, Any] = {}
        self.filters: list[dict[str, Any]] = []
        self.detector_filters: list[dict[str, Any]] = []
        self.matrix: tuple[Layer, ...] = ()

    def configuration(self) -> PymcaConfiguration:
        self._read_detector()
        self._read_peak_shape()
        self._read_attenuators()
        source_settings = self._read_source()
        families = self._read_families()
        if self.detector_filters:
            self.detector["filters"] = self.detector_filters
        instrument_parts = {
            "filters": self.filters,
            "geometry": self.geometry,
            "detector": self.detector,
        } | source_settings
        general_settings = {"name": self.path.stem, "note": f"From the PyMca configuration {self.path.name}."}
        instrument = instrument_from(
            general_settings
            | {name: settings_part for name, settings_part in instrument_parts.items() if settings_part},
            str(self.path),
        )
        self._add_remaining_entries()
        return PymcaConfiguration(instrument, families, self.matrix, tuple(self.untranslated))

    def _parse_sections(self, file_bytes: bytes) -> dict[str, dict[str, str]]:
        if b"\0" in file_bytes:
            self._raise_error(
                "the file is binary", "PyMca's configurations are text. Save the configuration from PyMca as .cfg"
            )
        # PyMca writes % as %%, but no entry needs interpolation
        config_parser = _CaseSensitiveParser(interpolation=None)
        try:
            file_text = file_bytes.decode("utf-8")
        except UnicodeDecodeError:
            file_text = file_bytes.decode("latin-1")
        try:
            config_parser.read_string(file_text.removeprefix("\ufeff"))
        except ParserError as error:
            parser_message = plain_text(" ".join(str(error).split()))[:200]
            self._raise_error(
                f"the file is not written as [section] and name = value ({parser_message})",
                "Save the configuration again from PyMca",
            )
        sections = {
            name: {option: value.replace("%%", "%") for option, value in config_parser[name].items()}
            for name in config_parser.sections()
        }
        if not any(name in sections for name in _REQUIRED_SECTIONS):
            section_names = ", ".join(f"[{plain_text(name)[:30]}]" for name in [*sections][:5]) or "none"
            self._raise_error(
                f"the file has none of the sections [{'], ['.join(_REQUIRED_SECTIONS)}] "
                f"(its sections: {section_names})",
                "Give a fit configuration that PyMca saved; instrument files of this program end in .toml",
            )
        return sections

    def _raise_error(self, fault: str, remedy: str) -> NoReturn:
        raise InstrumentError(f"Cannot read the PyMca configuration {str(self.path)!r}: {fault}. {remedy}.")

    def _pop_option(self, section: str, option: str) -> str | None:
        return self.sections.get(section, {}).pop(option, None)

    def _parse_number(self, number_text: str, entry: str, unit: str = "") -> float:
        try:
            number = float(number_text)
        except ValueError:
            number = float("nan")
        if not isfinite(number):
            self._raise_error(
                f"{entry} is {plain_text(number_text)[:40]!r}",
                f"It must be a number{f' in {unit}' if unit else ''}; correct the entry",
            )
        return number

    def _pop_number(self, section: str, option: str, unit: str = "") -> float | None:
        number_text = self._pop_option(section, option)
        return None if number_text is None else self._parse_number(number_text, f"{section}.{option}", unit)

    def _add_untranslated(self, entry: str, value: object, reason: str) -> None:
        self.untranslated.append(Untranslated(entry, " ".join(str(value).split()), reason))

    def _read_detector(self) -> None:
        field_by_option = {"gain": "gain_kev", "zero": "zero_kev", "noise": "noise_fwhm_kev", "fano": "fano"}
        for option, detector_field in field_by_option.items():
            number = self._pop_number("detector", option, "" if option == "fano" else "keV")
            if number is not None:
                self.detector[detector_field] = number
        gain_kev = self.detector.get("gain_kev", _MAX_CHANNEL_WIDTH_KEV)
        if not 0 < gain_kev <= _MAX_CHANNEL_WIDTH_KEV:
            remedy = f"for a value in eV, write {gain_kev / 1000:g}" if gain_kev > 0 else "correct the gain"
            self._raise_error(
                f"detector.gain is {gain_kev:g} keV",
                f"0 to {_MAX_CHANNEL_WIDTH_KEV} keV per channel are allowed; {remedy}",
            )
        crystal = self._pop_option("detector", "detele")
        if crystal and _is_element(crystal):
            self.detector["material"] = crystal
        elif crystal:
            self._add_untranslated("detector.detele", crystal, _CRYSTAL_REASON)

    def _read_peak_shape(self) -> None:
        shape_flags = int(self._pop_number("fit", "hypermetflag") or 0)
        fit_function = self._pop_number("fit", "fitfunction")
        if fit_function:
            self._add_untranslated(
                "fit.fitfunction",
                f"{fit_function:g}",
                "pseudo-Voigt peaks are not modelled; Gaussians with tails are used",
            )
            return
        area_ratio = {"st": 0.0, "lt": 0.0}
        tail_options = {"st": ("tail", SHORT_TAIL_FLAG), "lt": ("long_tail", LONG_TAIL_FLAG)}
        for option_prefix, (tail_name, flag_bit) in tail_options.items():
            if shape_flags & flag_bit:
                area_ratio[option_prefix] = self._pop_number("peakshape", f"{option_prefix}_arearatio") or 0.0
                if area_ratio[option_prefix] < 0:
                    self._raise_error(
                        f"peakshape.{option_prefix}_arearatio is {area_ratio[option_prefix]:g}",
                        "Write a ratio of 0 or more",
                    )
                tail_width_kev = self._pop_number("peakshape", f"{option_prefix}_sloperatio", "keV")
                if tail_width_kev is not None:
                    self.detector[f"{tail_name}_width_kev"] = tail_width_kev
        for option_prefix, (tail_name, flag_bit) in tail_options.items():
            if shape_flags & flag_bit:
                # PyMca gives areas as ratios to the Gaussian; this package gives them as fractions of the full peak
                self.detector[f"{tail_name}_fraction"] = area_ratio[option_prefix] / (
                    1 + area_ratio["st"] + area_ratio["lt"]
                )
        if shape_flags & STEP_TAIL_FLAG:
            step_height = self._pop_option("peakshape", "step_heightratio")
            reason = "PyMca's step has a constant height, detector.shelf_fraction a constant area"
            self._add_untranslated("peakshape.step_heightratio", step_height, reason)

    def _read_attenuators(self) -> None:
        for name, value_list in self.sections.pop("attenuators", {}).items():
            entry, attenuator_values = (
                f"attenuators.{name}",
                [value_text.strip() for value_text in value_list.split(",")],
            )
            is_used = bool(self._parse_number(attenuator_values[0], f"the flag of {entry}"))
            if name.upper() == "MATRIX":
                self._read_matrix(entry, attenuator_values, in_use=is_used)
            elif is_used:
                self._read_sheet(entry, name, attenuator_values)

    def _read_sheet(self, entry: str, name: str, attenuator_values: Sequence[str]) -> None:
        material, density, thickness_cm = self._attenuator_values(entry, attenuator_values)
        covered_fraction = (
            self._parse_number(attenuator_values[4], f"the covered share of {entry}")
            if len(attenuator_values) > 4
            else 1.0
        )
        if abs(covered_fraction - 1) > 1e-10:
            self._add_untranslated(
                entry,
                ", ".join(attenuator_values),
                "the sheet covers a part of the beam; only sheets across the whole beam are modelled",
            )
            return
        is_beam_filter = re.fullmatch(r"BEAMFILTER\d", name.upper()) is not None
        if name.upper() == "DETECTOR":
            self._read_crystal(entry, material, density, thickness_cm)
        elif self._is_air(material):
            is_air_density = abs(density / AIR_DENSITY - 1) < _AIR_TOLERANCE
            path_cm = thickness_cm if is_air_density else thickness_cm * density / AIR_DENSITY
            air_path_name = "source_air_cm" if is_beam_filter else "detector_air_cm"
            self.geometry[air_path_name] = self.geometry.get(air_path_name, 0.0) + path_cm
        else:
            sheet = {
                "formula": self._formula_of_material(material),
                "density": density,
                "thickness_um": _cm_to_um(thickness_cm),
            }
            if is_beam_filter:
                self.filters.append(sheet)
            elif name.lower() == "window":
                self.detector["window"] = sheet
            elif name.lower() == "deadlayer" and [*self._mass_fractions(material)] == [
                self.detector.get("material", "Si")
            ]:
                self.detector["dead_layer_um"] = _cm_to_um(thickness_cm)
            else:
                self.detector_filters.append(sheet)

    def _attenuator_values(self, entry: str, attenuator_values: Sequence[str]) -> tuple[str, float, float]:
        """Return the material, density (in g/cm3) and thickness (in cm) of an attenuator or a layer."""
        if len(attenuator_values) < 4:
            self._raise_error(
                f"{entry} has {len(attenuator_values)} values ({plain_text(', '.join(attenuator_values))[:60]})",
                "Write four values: in use (0 or 1), material, density in g/cm3, thickness in cm",
            )
        self._mass_fractions(attenuator_values[1], entry)
        return (
            attenuator_values[1],
            self._parse_number(attenuator_values[2], f"the density of {entry}", "g/cm3"),
            self._parse_number(attenuator_values[3], f"the thickness of {entry}", "cm"),
        )

    def _read_crystal(self, entry: str, material: str, density: float, thickness_cm: float) -> None:
        elements = [*self._mass_fractions(material)]
        if len(elements) > 1:
            self._add_untranslated(entry, f"{material}, {density:g}, {thickness_cm:g}", _CRYSTAL_REASON)
            self.detector.pop("material", None)
            return
        self.detector |= {"material": elements[0], "density": density, "thickness_um": _cm_to_um(thickness_cm)}

    def _read_matrix(self, entry: str, attenuator_values: Sequence[str], *, in_use: bool) -> None:
        multilayer_options = self.sections.get("multilayer", {})
        active_layers: dict[str, Sequence[str]] = {}
        for name in [*multilayer_options]:
            layer_values = [value_text.strip() for value_text in multilayer_options[name].split(",")]
            if not self._parse_number(layer_values[0], f"the flag of multilayer.{name}"):
                del multilayer_options[name]
            elif in_use and len(attenuator_values) > 1 and attenuator_values[1].upper() == "MULTILAYER":
                active_layers[name] = layer_values
                del multilayer_options[name]
        if not in_use:
            angle_text = ", ".join(attenuator_values[4:6])
            reason = "the matrix is switched off, so that PyMca ignores its angles (degree)"
            self._add_untranslated(f"{entry} (angles)", angle_text, reason)
            return
        if len(attenuator_values) < 6:
            self._raise_error(
                f"{entry} has {len(attenuator_values)} values ({plain_text(', '.join(attenuator_values))[:60]})",
                "Six are needed: in use (0 or 1), material, density in g/cm3, thickness in cm, and the angles of "
                "beam and detector to the surface in degree. Correct it",
            )
        self._read_angles(entry, attenuator_values)
        if attenuator_values[1].upper() != "MULTILAYER":
            active_layers = {"Matrix": attenuator_values}
        elif not active_layers:
            self._raise_error(
                f"{entry} is a MULTILAYER and no layer in [multilayer] is in use",
                "Give at least one layer the flag 1, or switch the matrix off",
            )
        self.matrix = tuple(
            self._make_layer(name, layer_values) for name, layer_values in sorted(active_layers.items())
        )
        layer_texts = "; ".join(f"{layer.name} {layer.thickness_um:g} um" for layer in self.matrix)
        self._add_untranslated(entry, layer_texts, _SAMPLE_REASON)

    def _make_layer(self, name: str, layer_values: Sequence[str]) -> Layer:
        material, density, thickness_cm = self._attenuator_values(
            f"multilayer.{name}" if name != "Matrix" else "Matrix", layer_values
        )
        try:
            return Layer(self._mass_fractions(material), density, _cm_to_um(thickness_cm), name=material)
        except SampleError as error:
            raise InstrumentError(f"Cannot read the PyMca configuration {str(self.path)!r}: {error}") from error

    def _read_angles(self, entry: str, attenuator_values: Sequence[str]) -> None:
        incidence_deg, takeoff_deg = (
            self._parse_number(angle_text, f"an angle of {entry}", "degree") for angle_text in attenuator_values[4:6]
        )
        if min(incidence_deg, takeoff_deg) < 0:
            reason = "a negative angle means a transmission geometry, which is not modelled"
            self._add_untranslated(f"{entry} (angles)", f"{incidence_deg:g}, {takeoff_deg:g}", reason)
            return
        self.geometry |= {"incidence_angle_deg": incidence_deg, "takeoff_angle_deg": takeoff_deg}
        if len(attenuator_values) > 7 and self._parse_number(attenuator_values[6], f"the scattering flag of {entry}"):
            self.geometry["scatter_angle_deg"] = self._parse_number(
                attenuator_values[7], f"the scattering angle of {entry}", "degree"
            )

    def _read_source(self) -> dict[str, Any]:
        """Return settings of the tube or of the source spectrum; an empty dictionary if the file uses no energy."""
        option_texts = {
            name: self._pop_option("fit", name) or ""
            for name in ("energy", "energyweight", "energyflag", "energyscatter")
        }
        option_values = {
            name: [value_text for value_text in re.split(r"[\[\],\s]+", option_text) if value_text]
            for name, option_text in option_texts.items()
        }
        weight_texts = [*option_values["energyweight"]] + ["1"] * len(option_values["energy"])
        flag_texts = [*option_values["energyflag"]] + ["1"] * len(option_values["energy"])
        scatter_texts = [*option_values["energyscatter"]] + ["0"] * len(option_values["energy"])
        source_rows = sorted(
            (
                self._parse_number(energy_text, "fit.energy", "keV"),
                self._parse_number(weight_text, "fit.energyweight"),
                _is_enabled(scatter_text),
            )
            for energy_text, weight_text, flag_text, scatter_text in zip(
                option_values["energy"], weight_texts, flag_texts, scatter_texts, strict=False
            )
            if energy_text not in ("None", "-") and _is_enabled(flag_text)
        )
        if not source_rows:
            return {}
        if source_rows[-1][0] > MAX_PHOTON_KEV:
            self._raise_error(
                f"fit.energy holds {source_rows[-1][0]:g} keV",
                f"Energies up to {MAX_PHOTON_KEV:g} keV are read; "
                f"for a value in eV, write {source_rows[-1][0] / 1000:g}",
            )
        tube = self._read_tube(source_rows)
        if tube is not None:
            return {"tube": tube}
        energy_kev = [source_row[0] for source_row in source_rows]
        source_settings: dict[str, Any] = {
            "energy_kev": energy_kev,
            "weight": [source_row[1] for source_row in source_rows],
        }
        if len(source_rows) >= _MIN_CONTINUUM_ENTRIES and not all(source_row[2] for source_row in source_rows):
            # PyMca marks lines as scattering; unmarked entries of a long table are bins of a continuum
            energy_gaps = [upper_kev - lower_kev for lower_kev, upper_kev in pairwise(energy_kev)]
            bin_widths = [
                min(adjacent_gaps)
                for adjacent_gaps in zip([energy_gaps[0], *energy_gaps], [*energy_gaps, energy_gaps[-1]], strict=True)
            ]
            source_settings["width_kev"] = [
                0.0 if source_row[2] else bin_width_kev
                for source_row, bin_width_kev in zip(source_rows, bin_widths, strict=True)
            ]
        return {"source_spectrum": source_settings}

    def _read_tube(self, source_rows: Sequence[tuple[float, float, bool]]) -> dict[str, Any] | None:
        """Return the tube from which PyMca computed the energies (lines and continuum); None if there is no tube."""
        tube_options = self.sections.get("tube", {})
        anode, voltage_kv = (
            tube_options.get("anode", ""),
            self._parse_number(tube_options.get("voltage", "0"), "tube.voltage", "kV"),
        )
        scattered_kev = [energy_kev for energy_kev, _, is_scattered in source_rows if is_scattered]
        if (
            len(source_rows) < _MIN_CONTINUUM_ENTRIES
            or not voltage_kv - _MAX_VOLTAGE_GAP_KV < source_rows[-1][0] <= voltage_kv
        ):
            return None
        if not any(self._is_line_of(anode, voltage_kv, energy_kev) for energy_kev in scattered_kev):
            return None
        tube_settings: dict[str, Any] = {"anode": self._pop_option("tube", "anode"), "voltage_kv": voltage_kv}
        del tube_options["voltage"]
        angle_options = {"alphae": "electron_angle_deg", "alphax": "takeoff_angle_deg"}
        for option, setting_name in angle_options.items():
            angle_deg = self._pop_number("tube", option, "degree")
            if angle_deg is not None:
                tube_settings[setting_name] = angle_deg
        for option in ("window", "filter1"):
            sheet = self._read_tube_sheet(option)
            if sheet is not None and option == "window":
                tube_settings["window"] = sheet
            elif sheet is not None and sheet["thickness_um"] > 0:
                self.filters.append(sheet)
        if self._pop_number("tube", "transmission"):
            tube_settings["target_um"] = _cm_to_um(self._pop_number("tube", "anodethickness", "cm") or 0.0)
        for option in [*tube_options]:
            self._add_untranslated(f"tube.{option}", tube_options.pop(option), _TUBE_REASON)
        return tube_settings

    def _read_tube_sheet(self, option: str) -> dict[str, Any] | None:
        material = self._pop_option("tube", option)
        density = self._pop_number("tube", f"{option}density", "g/cm3")
        thickness_cm = self._pop_number("tube", f"{option}thickness", "cm")
        if not material or density is None or thickness_cm is None:
            return None
        return {
            "formula": self._formula_of_material(material),
            "density": density,
            "thickness_um": _cm_to_um(thickness_cm),
        }

    def _is_line_of(self, anode: str, voltage_kv: float, energy_kev: float) -> bool:
        if not _is_element(anode):
            return False
        for shell in ("K", "L"):
            line_kev, line_intensity = family_lines(anode, shell, voltage_kv)
            if line_kev.size and abs(line_kev[line_intensity.argmax()] - energy_kev) < _MAX_LINE_DISTANCE_KEV:
                return True
        return False

    def _read_families(self) -> tuple[str, ...]:
        families = []
        for element, shell_list in self.sections.pop("peaks", {}).items():
            for shell in re.split(r"[,\s]+", shell_list.strip().strip(",")):
                if not _is_element(element) or shell.rstrip("ab") not in PYMCA_SHELLS:
                    self._add_untranslated(
                        f"peaks.{element}", shell, "not an element, or not a shell with tabulated lines"
                    )
                    continue
                if shell != shell.rstrip("ab"):
                    reason = f"K-alpha and K-beta are fitted as one family, {element}_K"
                    self._add_untranslated(f"peaks.{element}", shell, reason)
                families.append(f"{element}_{shell.rstrip('ab')}")
        return tuple(sorted(dict.fromkeys(families), key=lambda name: (atomic_number(name.split("_")[0]), name)))

    def _add_remaining_entries(self) -> None:
        for section, options in self.sections.items():
            section_kind = section.partition(".")[0]
            if section_kind == "userattenuators" and not _is_enabled(options.get("use", "0")):
                continue
            for option, value in options.items():
                self._add_untranslated(
                    f"{section}.{option}", value, _REASON_BY_SECTION.get(section_kind, _UNKNOWN_OPTION_REASON)
                )

    def _is_air(self, material: str) -> bool:
        material_fractions = self._mass_fractions(material)
        return all(abs(material_fractions.get(element, 0.0) - AIR[element]) < _AIR_TOLERANCE for element in ("N", "O"))

    def _formula_of_material(self, material: str) -> str:
        """Return the formula of a material: the name if it is a formula, else a formula from atomic percentages."""
        element_fractions = self._mass_fractions(material)
        try:
            formula_fractions = mass_fractions(material)
        except (FormulaError, SampleError):
            return formula_of_fractions(element_fractions)
        is_formula = formula_fractions.keys() == element_fractions.keys() and all(
            abs(formula_fractions[element] - element_fractions[element]) < 1e-6 for element in formula_fractions
        )
        return material if is_formula else formula_of_fractions(element_fractions)

    def _mass_fractions(self, material: str, entry: str = "", nesting_depth: int = 0) -> dict[str, float]:
        """Return the mass fraction of each element of a material or a formula."""
        material_entries = self.materials.get(material)
        if material_entries is None:
            return self._fractions_of_formula(material, entry)
        section = f"materials.{material}"
        if nesting_depth > _MAX_MATERIAL_NESTING:
            self._raise_error(f"{section} contains itself", "Correct the CompoundList of this material")
        compound_names = [
            list_item.strip() for list_item in material_entries.get("CompoundList", "").split(",") if list_item.strip()
        ]
        compound_fractions = [
            self._parse_number(list_item, f"{section} CompoundFraction")
            for list_item in material_entries.get("CompoundFraction", "").split(",")
            if list_item.strip()
        ]
        if (
            len(compound_names) != len(compound_fractions)
            or not sum(compound_fractions) > 0
            or min(compound_fractions) < 0
        ):
            self._raise_error(
                f"{section} has {len(compound_names)} compounds and {len(compound_fractions)} mass fractions",
                "Give one mass fraction for each compound, none of them negative",
            )
        total_fractions: dict[str, float] = {}
        for compound_name, compound_fraction in zip(compound_names, compound_fractions, strict=True):
            for element, fraction in self._mass_fractions(compound_name, entry or section, nesting_depth + 1).items():
                total_fractions[element] = total_fractions.get(element, 0.0) + fraction * compound_fraction / sum(
                    compound_fractions
                )
        return total_fractions

    def _fractions_of_formula(self, material: str, entry: str) -> dict[str, float]:
        if material.lower() == "air":
            return {element: mass_fraction / sum(AIR.values()) for element, mass_fraction in AIR.items()}
        try:
            return mass_fractions(material)
        except (FormulaError, SampleError):
            return self._raise_error(
                f"{entry or 'a sheet'} is made of {plain_text(material)[:40]!r}, which is neither a formula nor a "
                "material of the file",
                "Formulas such as Al1 and names with a section [materials.NAME] are read; add the section, give the "
                f"formula, or switch {entry or 'the sheet'} off (flag 0)",
            )


def formula_of_fractions(fractions: Mapping[str, float]) -> str:
    """Return a formula for one hundred atoms that has the given mass fractions."""
    atoms = {element: mass_fraction / atomic_weight(element) for element, mass_fraction in fractions.items()}
    total_atoms = sum(atoms.values())
    atoms_per_hundred = {
        element: f"{100 * n_atoms / total_atoms:.5f}".rstrip("0").rstrip(".") for element, n_atoms in atoms.items()
    }
    joined_formula = "".join(
        f"{element}{n_atoms}" for element, n_atoms in atoms_per_hundred.items() if float(n_atoms) > 0
    )
    return f"({joined_formula})"


def _cm_to_um(thickness_cm: float) -> float:
    # rounded, since 0.0035 cm would give 35.00000000000001 um
    return float(f"{thickness_cm * UM_PER_CM:.12g}")


def _is_enabled(text: str) -> bool:
    return text.strip() not in ("", "0", "0.0", "None", "False")


def _is_element(name: str) -> bool:
    try:
        return atomic_number(name) > 0
    except SampleError:
        return False
