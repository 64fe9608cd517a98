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
SHORT_TAIL, LONG_TAIL, STEP_TAIL = 2, 4, 8
"""Bits of PyMca's ``hypermetflag`` for the components of a peak besides the Gaussian."""
SHELLS = ("K", "L", "L1", "L2", "L3", "M", "M1", "M2", "M3", "M4", "M5")

_SECTION_PATTERN = re.compile(rb"^\[(attenuators|peaks|fit|peakshape|concentrations|multilayer)\]\s*$", re.MULTILINE)
_REQUIRED_SECTIONS = ("attenuators", "peaks", "fit", "detector")
_MAX_CHANNEL_KEV = 0.5
_MIN_CONTINUUM_ENTRIES = 20
"""Smallest number of entries of an energy table that describes a continuum."""
_MAX_LINE_DISTANCE_KEV = 0.05
"""Largest distance between a tabulated energy and a line of the anode, in keV."""
_MAX_VOLTAGE_GAP_KV = 1.0
"""Largest difference between tube voltage and the end of the energy table, in kV."""
_AIR_TOLERANCE = 0.02
"""Largest deviation of mass fractions, and relative deviation of the density, from those of air."""
_MAX_NESTING = 10

_CRYSTAL_REASON = "only crystals of one element are modelled; silicon is used instead"
_SAMPLE_REASON = "the sample is not part of an instrument; in Python it is the matrix of the configuration"
_REASON_BY_SECTION = {
    "fit": "background, channel range or convergence of PyMca's fit; here they are chosen for each scan",
    "detector": "limits, sum peaks or escape of PyMca's fit; escape is always modelled here, pile-up by count rate",
    "peakshape": "a limit of PyMca's fit, or a shape that its hypermetflag does not use",
    "concentrations": "flux, time or solid angle of a quantification, which are not part of an instrument",
    "multilayer": _SAMPLE_REASON,
    "userattenuators": "a table of transmission in front of the detector, where only sheets of a material are modelled",
    "tube": "a setting of PyMca's tube calculator, which did not compute the energies in [fit]",
    "xrfmc": "settings of a Monte Carlo program",
    "fisx": "results of a correction that PyMca stores",
}
_TUBE_REASON = "a setting of PyMca's tube calculator without a counterpart here"
_OTHER_REASON = "an option of PyMca without a counterpart here"


@dataclass(frozen=True)
class Untranslated:
    """An entry of a configuration that has no counterpart in this package.

    Parameters
    ----------
    entry : str
        Section and option, ``fit.snipwidth``.
    value : str
        Value as written in the file.
    reason : str
        Why it was not translated.
    """

    entry: str
    value: str
    reason: str


@dataclass(frozen=True)
class PymcaConfiguration:
    """A PyMca fit configuration in the terms of this package.

    Parameters
    ----------
    instrument : Instrument
        Instrument; values that the file lacks have their defaults and are not in ``model_fields_set``.
    families : tuple of str
        Line families to fit: ``Fe_K``, or ``W_L3`` for a single subshell.
    matrix : tuple of Layer
        Layers of the sample, from the surface; empty without a matrix.
    untranslated : tuple of Untranslated
        Entries without a counterpart.
    """

    instrument: Instrument
    families: tuple[str, ...]
    matrix: tuple[Layer, ...]
    untranslated: tuple[Untranslated, ...]

    def axis(self, n_channel: int) -> EnergyAxis:
        """Return the energy axis for a number of channels, which the configuration does not contain.

        Raises
        ------
        CalibrationError
            The configuration has no calibration.
        """
        detector = self.instrument.detector
        if not {"gain_kev", "zero_kev"} <= detector.model_fields_set:
            raise CalibrationError(
                f"Cannot make an energy axis from {self.instrument.name!r}: its section [detector] lacks gain or zero "
                "(keV). Add them, or calibrate a scan."
            )
        return EnergyAxis(detector.gain_kev, detector.zero_kev, n_channel)


def is_pymca(path: Path) -> bool:
    """Return whether a file is a PyMca configuration: its suffix is ``.cfg``, or it has sections of PyMca."""
    return path.suffix.lower() == ".cfg" or bool(
        _SECTION_PATTERN.search(read_bounded(path, MAX_SETTINGS_BYTES, InstrumentError))
    )


def read_pymca(path: str | Path) -> PymcaConfiguration:
    """Read a PyMca fit configuration.

    Parameters
    ----------
    path : str or Path
        File that PyMca saved (``.cfg``), with energies in keV, thicknesses in cm and densities in g/cm3.

    Returns
    -------
    PymcaConfiguration

    Raises
    ------
    InstrumentError
        The file cannot be read or is not a PyMca configuration; a material or a layer of the matrix is missing; or a
        value is out of range.

    References
    ----------
    V. A. Sole et al., Spectrochim. Acta B 62 (2007) 63-68 (PyMca).
    """
    return _Reader(Path(path)).configuration()


class _CaseSensitive(ConfigParser):
    def optionxform(self, optionstr: str) -> str:
        return optionstr


class _Reader:
    """Reads one file. Translated entries are removed from ``sections``, so that untranslated entries remain."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.sections = self._parse(read_bounded(path, MAX_SETTINGS_BYTES, InstrumentError))
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
        source = self._source()
        families = self._families()
        if self.detector_filters:
            self.detector["filters"] = self.detector_filters
        parts = {"filters": self.filters, "geometry": self.geometry, "detector": self.detector} | source
        table = {"name": self.path.stem, "note": f"From the PyMca configuration {self.path.name}."}
        instrument = instrument_from(table | {name: part for name, part in parts.items() if part}, str(self.path))
        self._add_remaining_entries()
        return PymcaConfiguration(instrument, families, self.matrix, tuple(self.untranslated))

    def _parse(self, content: bytes) -> dict[str, dict[str, str]]:
        if b"\0" in content:
            self._fail("it is a binary file", "PyMca's configurations are text. Save it from PyMca as .cfg")
        # PyMca writes % as %%, for an interpolation that no entry uses
        parser = _CaseSensitive(interpolation=None)
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            text = content.decode("latin-1")
        try:
            parser.read_string(text.removeprefix("\ufeff"))
        except ParserError as error:
            reason = plain_text(" ".join(str(error).split()))[:200]
            self._fail(f"it is not written as [section] and name = value ({reason})", "Save it again from PyMca")
        sections = {
            name: {key: value.replace("%%", "%") for key, value in parser[name].items()} for name in parser.sections()
        }
        if not any(name in sections for name in _REQUIRED_SECTIONS):
            section_names = ", ".join(f"[{plain_text(name)[:30]}]" for name in [*sections][:5]) or "none"
            self._fail(
                f"it has none of the sections [{'], ['.join(_REQUIRED_SECTIONS)}] (its sections: {section_names})",
                "Give a fit configuration that PyMca saved; an instrument file of this program ends in .toml",
            )
        return sections

    def _fail(self, fault: str, remedy: str) -> NoReturn:
        raise InstrumentError(f"Cannot read the PyMca configuration {str(self.path)!r}: {fault}. {remedy}.")

    def _pop(self, section: str, option: str) -> str | None:
        return self.sections.get(section, {}).pop(option, None)

    def _number(self, text: str, entry: str, unit: str = "") -> float:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not isfinite(value):
            self._fail(
                f"{entry} is {plain_text(text)[:40]!r}",
                f"It must be a number{f' in {unit}' if unit else ''}; correct it",
            )
        return value

    def _pop_number(self, section: str, option: str, unit: str = "") -> float | None:
        text = self._pop(section, option)
        return None if text is None else self._number(text, f"{section}.{option}", unit)

    def _add_untranslated(self, entry: str, value: object, reason: str) -> None:
        self.untranslated.append(Untranslated(entry, " ".join(str(value).split()), reason))

    def _read_detector(self) -> None:
        field_by_option = {"gain": "gain_kev", "zero": "zero_kev", "noise": "noise_fwhm_kev", "fano": "fano"}
        for option, field in field_by_option.items():
            value = self._pop_number("detector", option, "" if option == "fano" else "keV")
            if value is not None:
                self.detector[field] = value
        gain = self.detector.get("gain_kev", _MAX_CHANNEL_KEV)
        if not 0 < gain <= _MAX_CHANNEL_KEV:
            remedy = f"is it in eV? then {gain / 1000:g}" if gain > 0 else "correct it"
            self._fail(
                f"detector.gain is {gain:g} keV", f"0 to {_MAX_CHANNEL_KEV} keV per channel are allowed; {remedy}"
            )
        crystal = self._pop("detector", "detele")
        if crystal and _is_element(crystal):
            self.detector["material"] = crystal
        elif crystal:
            self._add_untranslated("detector.detele", crystal, _CRYSTAL_REASON)

    def _read_peak_shape(self) -> None:
        flags = int(self._pop_number("fit", "hypermetflag") or 0)
        function = self._pop_number("fit", "fitfunction")
        if function:
            self._add_untranslated(
                "fit.fitfunction", f"{function:g}", "pseudo-Voigt peaks; Gaussians with tails are fitted here"
            )
            return
        area_ratio = {"st": 0.0, "lt": 0.0}
        tails = {"st": ("tail", SHORT_TAIL), "lt": ("long_tail", LONG_TAIL)}
        for prefix, (name, bit) in tails.items():
            if flags & bit:
                area_ratio[prefix] = self._pop_number("peakshape", f"{prefix}_arearatio") or 0.0
                if area_ratio[prefix] < 0:
                    self._fail(
                        f"peakshape.{prefix}_arearatio is {area_ratio[prefix]:g}", "It must be 0 or more; correct it"
                    )
                width = self._pop_number("peakshape", f"{prefix}_sloperatio", "keV")
                if width is not None:
                    self.detector[f"{name}_width_kev"] = width
        for prefix, (name, bit) in tails.items():
            if flags & bit:
                # PyMca's ratio is relative to the Gaussian, the fraction here to the full peak
                self.detector[f"{name}_fraction"] = area_ratio[prefix] / (1 + area_ratio["st"] + area_ratio["lt"])
        if flags & STEP_TAIL:
            height = self._pop("peakshape", "step_heightratio")
            reason = "a step of constant height; the shelf here has a constant area (detector.shelf_fraction)"
            self._add_untranslated("peakshape.step_heightratio", height, reason)

    def _read_attenuators(self) -> None:
        for name, text in self.sections.pop("attenuators", {}).items():
            entry, values = f"attenuators.{name}", [value.strip() for value in text.split(",")]
            is_used = bool(self._number(values[0], f"the flag of {entry}"))
            if name.upper() == "MATRIX":
                self._read_matrix(entry, values, in_use=is_used)
            elif is_used:
                self._read_sheet(entry, name, values)

    def _read_sheet(self, entry: str, name: str, parts: Sequence[str]) -> None:
        material, density, thickness_cm = self._attenuator_values(entry, parts)
        covered_share = self._number(parts[4], f"the covered share of {entry}") if len(parts) > 4 else 1.0
        if abs(covered_share - 1) > 1e-10:
            self._add_untranslated(
                entry, ", ".join(parts), "it covers a part of the beam; here sheets cover the whole beam"
            )
            return
        beam_side = re.fullmatch(r"BEAMFILTER\d", name.upper()) is not None
        if name.upper() == "DETECTOR":
            self._read_crystal(entry, material, density, thickness_cm)
        elif self._is_air(material):
            is_air_density = abs(density / AIR_DENSITY - 1) < _AIR_TOLERANCE
            path_cm = thickness_cm if is_air_density else thickness_cm * density / AIR_DENSITY
            key = "source_air_cm" if beam_side else "detector_air_cm"
            self.geometry[key] = self.geometry.get(key, 0.0) + path_cm
        else:
            sheet = {"formula": self._formula(material), "density": density, "thickness_um": _um(thickness_cm)}
            if beam_side:
                self.filters.append(sheet)
            elif name.lower() == "window":
                self.detector["window"] = sheet
            elif name.lower() == "deadlayer" and [*self._fractions(material)] == [self.detector.get("material", "Si")]:
                self.detector["dead_layer_um"] = _um(thickness_cm)
            else:
                self.detector_filters.append(sheet)

    def _attenuator_values(self, entry: str, parts: Sequence[str]) -> tuple[str, float, float]:
        """Return material, density (g/cm3) and thickness (cm) of an attenuator or a layer."""
        if len(parts) < 4:
            self._fail(
                f"{entry} has {len(parts)} values ({plain_text(', '.join(parts))[:60]})",
                "Four are needed: in use (0 or 1), material, density in g/cm3, thickness in cm. Correct it",
            )
        self._fractions(parts[1], entry)
        return (
            parts[1],
            self._number(parts[2], f"the density of {entry}", "g/cm3"),
            self._number(parts[3], f"the thickness of {entry}", "cm"),
        )

    def _read_crystal(self, entry: str, material: str, density: float, thickness_cm: float) -> None:
        elements = [*self._fractions(material)]
        if len(elements) > 1:
            self._add_untranslated(entry, f"{material}, {density:g}, {thickness_cm:g}", _CRYSTAL_REASON)
            self.detector.pop("material", None)
            return
        self.detector |= {"material": elements[0], "density": density, "thickness_um": _um(thickness_cm)}

    def _read_matrix(self, entry: str, parts: Sequence[str], *, in_use: bool) -> None:
        layers = self.sections.get("multilayer", {})
        active_layers: dict[str, Sequence[str]] = {}
        for name in [*layers]:
            values = [part.strip() for part in layers[name].split(",")]
            if not self._number(values[0], f"the flag of multilayer.{name}"):
                del layers[name]
            elif in_use and len(parts) > 1 and parts[1].upper() == "MULTILAYER":
                active_layers[name] = values
                del layers[name]
        if not in_use:
            angles = ", ".join(parts[4:6])
            reason = "the matrix is switched off; PyMca uses its angles (degree) only when it is on"
            self._add_untranslated(f"{entry} (angles)", angles, reason)
            return
        if len(parts) < 6:
            self._fail(
                f"{entry} has {len(parts)} values ({plain_text(', '.join(parts))[:60]})",
                "Six are needed: in use (0 or 1), material, density in g/cm3, thickness in cm, and the angles of "
                "beam and detector to the surface in degree. Correct it",
            )
        self._read_angles(entry, parts)
        if parts[1].upper() != "MULTILAYER":
            active_layers = {"Matrix": parts}
        elif not active_layers:
            self._fail(
                f"{entry} is a MULTILAYER and no layer in [multilayer] is in use",
                "At least one must have the flag 1. Switch the layers on, or the matrix off",
            )
        self.matrix = tuple(self._layer(name, values) for name, values in sorted(active_layers.items()))
        names = "; ".join(f"{layer.name} {layer.thickness_um:g} um" for layer in self.matrix)
        self._add_untranslated(entry, names, _SAMPLE_REASON)

    def _layer(self, name: str, values: Sequence[str]) -> Layer:
        material, density, thickness_cm = self._attenuator_values(
            f"multilayer.{name}" if name != "Matrix" else "Matrix", values
        )
        try:
            return Layer(self._fractions(material), density, _um(thickness_cm), name=material)
        except SampleError as error:
            raise InstrumentError(f"Cannot read the PyMca configuration {str(self.path)!r}: {error}") from error

    def _read_angles(self, entry: str, parts: Sequence[str]) -> None:
        incidence, takeoff = (self._number(text, f"an angle of {entry}", "degree") for text in parts[4:6])
        if min(incidence, takeoff) < 0:
            reason = "a negative angle means a transmission geometry, which is not modelled"
            self._add_untranslated(f"{entry} (angles)", f"{incidence:g}, {takeoff:g}", reason)
            return
        self.geometry |= {"incidence_angle_deg": incidence, "takeoff_angle_deg": takeoff}
        if len(parts) > 7 and self._number(parts[6], f"the scattering flag of {entry}"):
            self.geometry["scatter_angle_deg"] = self._number(parts[7], f"the scattering angle of {entry}", "degree")

    def _source(self) -> dict[str, Any]:
        """Return the settings of the tube or of the source spectrum; empty if no energy is in use."""
        texts = {
            name: self._pop("fit", name) or "" for name in ("energy", "energyweight", "energyflag", "energyscatter")
        }
        columns = {name: [part for part in re.split(r"[\[\],\s]+", value) if part] for name, value in texts.items()}
        weights = [*columns["energyweight"]] + ["1"] * len(columns["energy"])
        flags = [*columns["energyflag"]] + ["1"] * len(columns["energy"])
        scatters = [*columns["energyscatter"]] + ["0"] * len(columns["energy"])
        rows = sorted(
            (self._number(energy, "fit.energy", "keV"), self._number(weight, "fit.energyweight"), _is_enabled(scatter))
            for energy, weight, flag, scatter in zip(columns["energy"], weights, flags, scatters, strict=False)
            if energy not in ("None", "-") and _is_enabled(flag)
        )
        if not rows:
            return {}
        if rows[-1][0] > MAX_PHOTON_KEV:
            self._fail(
                f"fit.energy holds {rows[-1][0]:g} keV",
                f"Up to {MAX_PHOTON_KEV:g} keV are read; is it in eV? then {rows[-1][0] / 1000:g}",
            )
        tube = self._tube(rows)
        if tube is not None:
            return {"tube": tube}
        energies = [row[0] for row in rows]
        source: dict[str, Any] = {"energy_kev": energies, "weight": [row[1] for row in rows]}
        if len(rows) >= _MIN_CONTINUUM_ENTRIES and not all(row[2] for row in rows):
            # PyMca flags lines as scattering; other entries of a long table are bins of a continuum
            gaps = [upper_kev - lower_kev for lower_kev, upper_kev in pairwise(energies)]
            widths = [min(pair) for pair in zip([gaps[0], *gaps], [*gaps, gaps[-1]], strict=True)]
            source["width_kev"] = [0.0 if row[2] else gap for row, gap in zip(rows, widths, strict=True)]
        return {"source_spectrum": source}

    def _tube(self, rows: Sequence[tuple[float, float, bool]]) -> dict[str, Any] | None:
        """Return the tube if PyMca computed the energies from it (lines and continuum), else None."""
        tube = self.sections.get("tube", {})
        anode, voltage = tube.get("anode", ""), self._number(tube.get("voltage", "0"), "tube.voltage", "kV")
        scattered_kev = [energy for energy, _, scattered in rows if scattered]
        if len(rows) < _MIN_CONTINUUM_ENTRIES or not voltage - _MAX_VOLTAGE_GAP_KV < rows[-1][0] <= voltage:
            return None
        if not any(self._is_line_of(anode, voltage, energy) for energy in scattered_kev):
            return None
        settings: dict[str, Any] = {"anode": self._pop("tube", "anode"), "voltage_kv": voltage}
        del tube["voltage"]
        angles = {"alphae": "electron_angle_deg", "alphax": "takeoff_angle_deg"}
        for option, name in angles.items():
            value = self._pop_number("tube", option, "degree")
            if value is not None:
                settings[name] = value
        for option in ("window", "filter1"):
            sheet = self._tube_sheet(option)
            if sheet is not None and option == "window":
                settings["window"] = sheet
            elif sheet is not None and sheet["thickness_um"] > 0:
                self.filters.append(sheet)
        if self._pop_number("tube", "transmission"):
            settings["target_um"] = _um(self._pop_number("tube", "anodethickness", "cm") or 0.0)
        for option in [*tube]:
            self._add_untranslated(f"tube.{option}", tube.pop(option), _TUBE_REASON)
        return settings

    def _tube_sheet(self, option: str) -> dict[str, Any] | None:
        material = self._pop("tube", option)
        density = self._pop_number("tube", f"{option}density", "g/cm3")
        thickness = self._pop_number("tube", f"{option}thickness", "cm")
        if not material or density is None or thickness is None:
            return None
        return {"formula": self._formula(material), "density": density, "thickness_um": _um(thickness)}

    def _is_line_of(self, anode: str, voltage_kv: float, energy_kev: float) -> bool:
        if not _is_element(anode):
            return False
        for shell in ("K", "L"):
            energy, rate = family_lines(anode, shell, voltage_kv)
            if energy.size and abs(energy[rate.argmax()] - energy_kev) < _MAX_LINE_DISTANCE_KEV:
                return True
        return False

    def _families(self) -> tuple[str, ...]:
        families = []
        for element, text in self.sections.pop("peaks", {}).items():
            for shell in re.split(r"[,\s]+", text.strip().strip(",")):
                if not _is_element(element) or shell.rstrip("ab") not in SHELLS:
                    self._add_untranslated(
                        f"peaks.{element}", shell, "not an element, or not a shell with tabulated lines"
                    )
                    continue
                if shell != shell.rstrip("ab"):
                    reason = f"K-alpha and K-beta are one family here, {element}_K"
                    self._add_untranslated(f"peaks.{element}", shell, reason)
                families.append(f"{element}_{shell.rstrip('ab')}")
        return tuple(sorted(dict.fromkeys(families), key=lambda name: (atomic_number(name.split("_")[0]), name)))

    def _add_remaining_entries(self) -> None:
        for section, options in self.sections.items():
            kind = section.partition(".")[0]
            if kind == "userattenuators" and not _is_enabled(options.get("use", "0")):
                continue
            for option, value in options.items():
                self._add_untranslated(f"{section}.{option}", value, _REASON_BY_SECTION.get(kind, _OTHER_REASON))

    def _is_air(self, material: str) -> bool:
        fractions = self._fractions(material)
        return all(abs(fractions.get(name, 0.0) - AIR[name]) < _AIR_TOLERANCE for name in ("N", "O"))

    def _formula(self, material: str) -> str:
        """Return the formula of a material: its name if that is correct, else its atomic percentages."""
        fractions = self._fractions(material)
        try:
            fractions_of_name = mass_fractions(material)
        except (FormulaError, SampleError):
            return formula_of(fractions)
        is_formula = fractions_of_name.keys() == fractions.keys() and all(
            abs(fractions_of_name[key] - fractions[key]) < 1e-6 for key in fractions_of_name
        )
        return material if is_formula else formula_of(fractions)

    def _fractions(self, material: str, entry: str = "", depth: int = 0) -> dict[str, float]:
        """Return the mass fraction of each element of a material or a formula."""
        material_entries = self.materials.get(material)
        if material_entries is None:
            return self._fractions_of_formula(material, entry)
        section = f"materials.{material}"
        if depth > _MAX_NESTING:
            self._fail(f"{section} contains itself", "Correct its CompoundList")
        compounds = [text.strip() for text in material_entries.get("CompoundList", "").split(",") if text.strip()]
        compound_fractions = [
            self._number(text, f"{section} CompoundFraction")
            for text in material_entries.get("CompoundFraction", "").split(",")
            if text.strip()
        ]
        if len(compounds) != len(compound_fractions) or not sum(compound_fractions) > 0 or min(compound_fractions) < 0:
            self._fail(
                f"{section} has {len(compounds)} compounds and {len(compound_fractions)} mass fractions",
                "Their numbers must be equal, and no fraction may be negative. Correct it",
            )
        total_fractions: dict[str, float] = {}
        for compound, compound_fraction in zip(compounds, compound_fractions, strict=True):
            for name, fraction in self._fractions(compound, entry or section, depth + 1).items():
                total_fractions[name] = total_fractions.get(name, 0.0) + fraction * compound_fraction / sum(
                    compound_fractions
                )
        return total_fractions

    def _fractions_of_formula(self, material: str, entry: str) -> dict[str, float]:
        if material.lower() == "air":
            return {name: share / sum(AIR.values()) for name, share in AIR.items()}
        try:
            return mass_fractions(material)
        except (FormulaError, SampleError):
            return self._fail(
                f"{entry or 'a sheet'} is made of {plain_text(material)[:40]!r}, which is neither a formula nor a "
                "material of the file",
                "Formulas such as Al1 and names with a section [materials.NAME] are read; add the section, give the "
                f"formula, or switch {entry or 'the sheet'} off (flag 0)",
            )


def formula_of(fractions: Mapping[str, float]) -> str:
    """Return the formula of a hundred atoms with the given mass fractions."""
    atoms = {name: share / atomic_weight(name) for name, share in fractions.items()}
    total = sum(atoms.values())
    counts = {name: f"{100 * n_atoms / total:.5f}".rstrip("0").rstrip(".") for name, n_atoms in atoms.items()}
    text = "".join(f"{name}{n_atoms}" for name, n_atoms in counts.items() if float(n_atoms) > 0)
    return f"({text})"


def _um(thickness_cm: float) -> float:
    # rounded, since 0.0035 cm would give 35.00000000000001 um
    return float(f"{thickness_cm * UM_PER_CM:.12g}")


def _is_enabled(text: str) -> bool:
    return text.strip() not in ("", "0", "0.0", "None", "False")


def _is_element(name: str) -> bool:
    try:
        return atomic_number(name) > 0
    except SampleError:
        return False
