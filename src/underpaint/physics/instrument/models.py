"""Instrument settings (tube, filters, geometry, detector), which are validated on construction."""

from difflib import get_close_matches
from itertools import pairwise
from typing import Annotated, Any, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from underpaint.errors import InstrumentError
from underpaint.physics.atomic import atomic_number, family_lines, symbol
from underpaint.runtime.untrusted import describe_faults, fault_of_name

AIR = {"N": 0.7553, "O": 0.2318, "Ar": 0.0129}
"""Mass fractions of dry air (CRC Handbook)."""
AIR_DENSITY = 0.001205
"""Density of air in g/cm3, at 20 degrees Celsius and 1013 hPa."""
ANODES = range(22, 93)
"""Atomic numbers of anodes: titanium to uranium. Lines of lighter anodes do not pass a tube's window."""

MAX_PHOTON_KEV = 200.0
"""Highest photon energy, in keV, of Kissel's photoelectric cross sections in xraylib."""


MAX_TABLE_ENTRIES = 65_536
"""Largest number of entries of a table in an instrument file."""


_N_NEIGHBOUR_FAMILIES = 3
"""Number of families, nearest in energy, from which the factor of a missing family is estimated."""


class Settings(BaseModel):
    """Immutable base class of settings that rejects unknown fields and values that are not finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _check_length_and_text(cls, field_value: object, info: ValidationInfo) -> object:
        if isinstance(field_value, str):
            # notes alone may have several lines
            single_line = " ".join(field_value.split()) if info.field_name == "note" else field_value
            if fault := fault_of_name(single_line):
                raise ValueError(fault)
        elif isinstance(field_value, tuple) and len(field_value) > MAX_TABLE_ENTRIES:
            raise ValueError(f"{len(field_value)} entries; up to {MAX_TABLE_ENTRIES} are allowed")
        return field_value


class Filter(Settings):
    """A homogeneous sheet in the beam."""

    formula: str = Field(description="chemical formula of the material, such as 'Al' or 'C22H10N2O5'")
    density: float = Field(gt=0, le=23, description="density in g/cm3; osmium, the densest material, has 22.6")
    thickness_um: float = Field(ge=0, le=1e6, description="thickness along the beam in um")


class Tube(Settings):
    """An X-ray tube."""

    anode: str = Field("Rh", description="element symbol of the anode")
    voltage_kv: float = Field(40.0, ge=5, le=100, description="tube voltage in kV")
    electron_angle_deg: float = Field(
        75.0, gt=0, le=90, description="angle between electrons and anode surface, in degrees"
    )
    takeoff_angle_deg: float = Field(
        15.0, gt=0, le=90, description="angle between X-rays and anode surface, in degrees"
    )
    window: Filter = Field(default_factory=lambda: Filter(formula="Be", density=1.848, thickness_um=127.0))
    target_um: float | None = Field(
        None, gt=0, le=1e6, description="thickness of a transmission target in um; None for a thick anode"
    )
    line_factor: float = Field(
        1.0, gt=0, le=1000, description="factor for the anode's line intensities of Ebel 1999 and 2003"
    )

    @field_validator("anode")
    @classmethod
    def _check_anode(cls, anode: str) -> str:
        if atomic_number(anode) not in ANODES:
            anode_range = f"{symbol(ANODES[0])} to {symbol(ANODES[-1])}"
            raise ValueError(f"{anode} is not an anode that the tube formula covers; use one from {anode_range}")
        return anode


class SourceSpectrum(Settings):
    """A tabulated source spectrum that replaces the spectrum of the tube.

    ``weight`` is the number of photons of each entry of ``energy_kev``, on any scale. An entry whose ``width_kev`` is
    above zero is a bin of a continuum. All other entries are monochromatic.
    """

    energy_kev: tuple[float, ...]
    weight: tuple[float, ...]
    width_kev: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> "SourceSpectrum":
        width_kev = self.energy_kev if self.width_kev is None else self.width_kev
        if not len(self.energy_kev) == len(self.weight) == len(width_kev) or not self.energy_kev:
            length_text = f"energy_kev has {len(self.energy_kev)} entries, weight {len(self.weight)}"
            raise ValueError(f"{length_text}, width_kev {len(width_kev)}; the numbers must be equal and not zero")
        if min(self.energy_kev) <= 0 or min(self.weight) < 0 or min(width_kev) < 0:
            raise ValueError("energies must be positive (keV), weights and widths not negative")
        if max(self.energy_kev) > MAX_PHOTON_KEV:
            raise ValueError(
                f"an energy is {max(self.energy_kev):g} keV; the tables of cross sections end at {MAX_PHOTON_KEV:g} keV"
            )
        self._check_bins(width_kev if self.width_kev is not None else ())
        return self

    def _check_bins(self, width_kev: tuple[float, ...]) -> None:
        continuum_bins = sorted(
            (centre_kev, bin_width_kev)
            for centre_kev, bin_width_kev in zip(self.energy_kev, width_kev, strict=False)
            if bin_width_kev > 0
        )
        for (lower_kev, lower_width_kev), (upper_kev, upper_width_kev) in pairwise(continuum_bins):
            # the tolerance allows for rounded energies in tables
            if upper_kev - lower_kev < 0.49 * (lower_width_kev + upper_width_kev) - 1e-3:
                raise ValueError(
                    f"the bins about {lower_kev:g} and {upper_kev:g} keV overlap; width_kev is the full width of a bin"
                )


class Optic(Settings):
    """A polycapillary or another optic in the beam; a table describes the transmission of the optic.

    The transmission is interpolated linearly. Outside the table's energies, the first or the last entry applies.
    """

    energy_kev: tuple[float, ...] = Field(min_length=2)
    transmission: tuple[float, ...] = Field(min_length=2, description="transmission or gain, on any scale")

    @model_validator(mode="after")
    def _check(self) -> "Optic":
        if len(self.energy_kev) != len(self.transmission):
            length_text = f"energy_kev has {len(self.energy_kev)} entries, transmission {len(self.transmission)}"
            raise ValueError(f"{length_text}; equal numbers are needed")
        if min(self.transmission) < 0 or self.energy_kev[0] <= 0 or not np.all(np.diff(self.energy_kev) > 0):
            raise ValueError("energies must be positive (keV) and increase, transmissions must not be negative")
        return self

    def transmission_at(self, energy_kev: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the transmission at the given energies, in keV."""
        return np.interp(energy_kev, self.energy_kev, self.transmission)


class Geometry(Settings):
    """Angles of beam and detector to the sample's surface, and path lengths in air."""

    incidence_angle_deg: float = Field(60.0, gt=0, le=90, description="angle between beam and surface, in degrees")
    takeoff_angle_deg: float = Field(60.0, gt=0, le=90, description="angle between detector and surface, in degrees")
    scatter_angle_deg: float | None = Field(
        None, gt=0, le=180, description="scattering angle in degrees; None for incidence plus take-off angle"
    )
    source_air_cm: float = Field(1.0, ge=0, description="path in air from tube to sample, in cm")
    detector_air_cm: float = Field(1.0, ge=0, description="path in air from sample to detector, in cm")
    seen_air_cm: float = Field(
        0.0, ge=0, description="length in cm of the beam in air that the detector sees (argon lines, scatter)"
    )

    @property
    def scattering_angle_deg(self) -> float:
        """Scattering angle in degrees; by default the sum of incidence and take-off angle."""
        if self.scatter_angle_deg is not None:
            return self.scatter_angle_deg
        return self.incidence_angle_deg + self.takeoff_angle_deg


class Detector(Settings):
    """An energy-dispersive detector and its electronics."""

    material: str = Field("Si", description="element symbol of the crystal")
    density: float = Field(2.33, gt=0, le=23, description="density of the crystal in g/cm3")
    thickness_um: float = Field(450.0, gt=0, le=1e6, description="thickness of the crystal in um")
    dead_layer_um: float = Field(0.05, ge=0, le=1e6, description="thickness of the crystal's inactive layer in um")
    window: Filter = Field(default_factory=lambda: Filter(formula="Be", density=1.848, thickness_um=12.5))
    filters: tuple[Filter, ...] = Field((), max_length=50, description="sheets between sample and window")
    noise_fwhm_kev: float = Field(0.07, ge=0, le=5, description="electronic noise (FWHM) in keV")
    fano: float = Field(0.114, gt=0, lt=1, description="Fano factor")
    shelf_fraction: float = Field(0.002, ge=0, lt=1, description="area of the flat shelf, as a fraction of the peak")
    tail_fraction: float = Field(
        0.01, ge=0, lt=1, description="area of the exponential tail, as a fraction of the peak"
    )
    tail_width_kev: float = Field(0.15, gt=0, le=20, description="decay length of the tail in keV")
    long_tail_fraction: float = Field(
        0.0, ge=0, lt=1, description="area of a second, longer tail, as a fraction of the peak"
    )
    long_tail_width_kev: float = Field(1.0, gt=0, le=20, description="decay length of the longer tail in keV")
    gain_kev: float = Field(0.01, ge=1e-4, le=10, description="channel width in keV")
    zero_kev: float = Field(0.0, ge=-1000, le=1000, description="energy of channel 0 in keV")
    n_channel: int = Field(4096, ge=16, le=65536)
    pulse_pair_us: float = Field(
        0.0,
        ge=0,
        le=1e6,
        description="time in us within which photons are recorded as one pulse; 0 for no pile-up",
    )
    dead_time_us: float = Field(0.0, ge=0, le=1e6, description="dead time per photon in us; 0 for no dead time")

    @model_validator(mode="after")
    def _check_fractions(self) -> "Detector":
        total_fraction = self.shelf_fraction + self.tail_fraction + self.long_tail_fraction
        if not total_fraction < 1:
            raise ValueError(
                f"shelf_fraction, tail_fraction and long_tail_fraction sum to {total_fraction:g}; "
                "the sum must be below 1"
            )
        return self


class Scale(Settings):
    """Ratio of measured to modelled counts, from a standard of known composition."""

    counts_per_s: float | None = Field(
        None, gt=0, description="measured counts per second of live time, per modelled count"
    )
    counts_per_scatter: float | None = Field(
        None, gt=0, description="measured ratio of line counts to scatter counts, divided by the modelled ratio"
    )
    error: float = Field(0.05, gt=0, lt=2, description="relative standard uncertainty of the scale")
    families: tuple[str, ...] = ()
    factors: tuple[float, ...] = Field(
        (), description="ratio of measured to modelled counts of each family, divided by the scale"
    )
    factor_errors: tuple[float, ...] = Field((), description="relative standard uncertainties of the factors")
    note: str = ""

    @model_validator(mode="after")
    def _check(self) -> "Scale":
        if self.counts_per_s is None and self.counts_per_scatter is None:
            raise ValueError("neither counts_per_s nor counts_per_scatter is set; one is needed")
        if not len(self.families) == len(self.factors) == len(self.factor_errors):
            length_text = f"families has {len(self.families)} entries, factors {len(self.factors)}"
            raise ValueError(f"{length_text}, factor_errors {len(self.factor_errors)}; equal numbers are needed")
        if min((*self.factors, *self.factor_errors), default=1.0) <= 0:
            raise ValueError("factors and their errors must be positive")
        return self

    def factor(self, family: str) -> tuple[float, float]:
        """Return the factor of a family, and the factor's relative error.

        If the standard lacks a family, the factor is the median factor of the three families nearest in energy. Factors
        vary smoothly with energy. The relative error is the spread of the three factors.
        """
        if family in self.families:
            family_index = self.families.index(family)
            return self.factors[family_index], self.factor_errors[family_index]
        if not self.families:
            return 1.0, 0.0
        log_energy_distances = [
            abs(np.log(_line_kev(family) / _line_kev(reference_family))) for reference_family in self.families
        ]
        log_factors = np.log(
            [self.factors[family_index] for family_index in np.argsort(log_energy_distances)[:_N_NEIGHBOUR_FAMILIES]]
        )
        median_log_factor = float(np.median(log_factors))
        return float(np.exp(median_log_factor)), float(np.median(np.abs(log_factors - median_log_factor)) / 0.67)


def _line_kev(family: str) -> float:
    """Return the energy of a family's strongest line, in keV."""
    element, _, shell = family.partition("_")
    energy_kev, relative_intensity = family_lines(element, shell, MAX_PHOTON_KEV)
    return float(energy_kev[relative_intensity.argmax()])


class Instrument(Settings):
    """A scanner: source, filters, geometry and detector."""

    name: str = "custom"
    note: str = Field("", description="origin of the values")
    tube: Tube = Field(default_factory=Tube)
    source_spectrum: SourceSpectrum | None = None
    filters: tuple[Filter, ...] = Field((), max_length=50)
    optic: Optic | None = None
    geometry: Geometry = Field(default_factory=Geometry)
    detector: Detector = Field(default_factory=Detector)
    scale: Scale | None = None

    @property
    def highest_kev(self) -> float:
        """Highest energy of the source photons, in keV. Absorption edges of higher energy are not excited."""
        return self.tube.voltage_kv if self.source_spectrum is None else max(self.source_spectrum.energy_kev)


_UNIT_BY_SUFFIX = {"kev": "keV", "kv": "kV", "um": "um", "cm": "cm", "deg": "degree", "us": "us"}
"""Unit of a setting, by the suffix of the setting's name."""
_MAX_SHOWN_VALUE = 1e15
"""Largest value that messages show; larger integers may not be convertible to floats."""


def instrument_from(settings_table: dict[str, Any], name: str) -> Instrument:
    """Return the instrument that a nested table of settings describes.

    Raises
    ------
    InstrumentError
        A setting is unknown or wrong; the message names the setting.
    """
    try:
        return Instrument.model_validate(settings_table)
    except ValidationError as error:
        raise InstrumentError(
            f"Cannot use the instrument {name!r}: {describe_faults(error.errors(), _suggest_correction)}."
        ) from error


def _settings_model_at(location: tuple[Any, ...]) -> type[BaseModel] | None:
    """Return the settings model that contains a faulty field, or None if there is no such model."""
    model: type[BaseModel] | None = Instrument
    for location_part in location:
        if isinstance(location_part, int):  # an integer is an index into a tuple; the field is the tuple
            continue
        model_field = None if model is None else model.model_fields.get(location_part)
        field_types = () if model_field is None else (model_field.annotation, *get_args(model_field.annotation))
        model = next(
            (
                field_type
                for field_type in field_types
                if isinstance(field_type, type) and issubclass(field_type, BaseModel)
            ),
            None,
        )
    return model


def _suggest_correction(fault: Any) -> str:
    """Return, in brackets, a suggestion for an unknown key or the given value with its unit; "" if neither applies."""
    model = _settings_model_at(fault["loc"][:-1])
    if model is None or not fault["loc"]:
        return ""
    field_name, setting_value = str(fault["loc"][-1]), fault["input"]
    if fault["type"] == "extra_forbidden":
        similar_names = get_close_matches(field_name, model.model_fields, n=1)
        suggestion = (
            f"did you mean {similar_names[0]}?" if similar_names else f"known keys are {', '.join(model.model_fields)}"
        )
        return f" (unknown key; {suggestion})"
    if (
        field_name not in model.model_fields
        or isinstance(setting_value, bool)
        or not isinstance(setting_value, int | float)
    ):
        return ""
    if not abs(setting_value) < _MAX_SHOWN_VALUE:
        return ""
    unit = _UNIT_BY_SUFFIX.get(field_name.rpartition("_")[2], "")
    smaller_unit = {"keV": "eV", "kV": "V"}.get(unit)
    is_valid_in_smaller_unit = smaller_unit is not None and _is_valid_setting(
        setting_value / 1000, model.model_fields[field_name]
    )
    unit_hint = f"; for a value in {smaller_unit}, write {setting_value / 1000:g}" if is_valid_in_smaller_unit else ""
    return f" (it is {setting_value:g}{' ' if unit else ''}{unit}{unit_hint})"


def _is_valid_setting(setting_value: float, model_field: Any) -> bool:
    try:
        TypeAdapter(Annotated[model_field.annotation, *model_field.metadata]).validate_python(setting_value)
    except ValidationError:
        return False
    return True
