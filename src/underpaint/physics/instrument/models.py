"""Instrument settings: tube, filters, geometry, detector; validated on construction."""

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
"""Dry air by mass (CRC Handbook)."""
AIR_DENSITY = 0.001205
"""g/cm3 at 20 degrees Celsius and 1013 hPa."""
ANODES = range(22, 93)
"""Atomic numbers of anodes, titanium to uranium: softer lines do not pass a tube's window."""

HIGHEST_KEV = 200.0
"""Kissel's photoelectric cross sections in xraylib go no farther."""


MAX_ENTRIES = 65_536
"""Of a table in an instrument file."""


_N_NEAR = 3


class Settings(BaseModel):
    """Base of all settings: frozen; unknown fields, and values that are no finite number, are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*")
    @classmethod
    def _check_size(cls, value: object, info: ValidationInfo) -> object:
        if isinstance(value, str):
            # a note may have several lines
            text = " ".join(value.split()) if info.field_name == "note" else value
            if fault := fault_of_name(text):
                raise ValueError(fault)
        elif isinstance(value, tuple) and len(value) > MAX_ENTRIES:
            raise ValueError(f"{len(value)} entries; up to {MAX_ENTRIES} are read")
        return value


class Filter(Settings):
    """A homogeneous sheet in the beam."""

    formula: str = Field(description="chemical formula of the material, e.g. 'Al' or 'C22H10N2O5'")
    density: float = Field(gt=0, le=23, description="g/cm3; osmium, the densest material, has 22.6")
    thickness_um: float = Field(ge=0, le=1e6, description="thickness along the beam, um")


class Tube(Settings):
    """An X-ray tube."""

    anode: str = Field("Rh", description="element symbol of the anode")
    voltage_kv: float = Field(40.0, ge=5, le=100, description="tube voltage, kV")
    electron_angle_deg: float = Field(75.0, gt=0, le=90, description="electrons' angle to the anode's surface, degree")
    takeoff_angle_deg: float = Field(15.0, gt=0, le=90, description="X-rays' angle to the anode's surface, degree")
    window: Filter = Field(default_factory=lambda: Filter(formula="Be", density=1.848, thickness_um=127.0))
    target_um: float | None = Field(
        None, gt=0, le=1e6, description="thickness of a transmission target, um; None: a thick anode"
    )
    line_factor: float = Field(1.0, gt=0, le=1000, description="the anode's lines over those of Ebel 1999 and 2003")

    @field_validator("anode")
    @classmethod
    def _check_anode(cls, anode: str) -> str:
        if atomic_number(anode) not in ANODES:
            ends = f"{symbol(ANODES[0])} to {symbol(ANODES[-1])}"
            raise ValueError(f"{anode} is not an anode that the tube formula covers; use one from {ends}")
        return anode


class SourceSpectrum(Settings):
    """An explicit exciting spectrum that replaces the tube's.

    ``weight`` is in photons (any common scale) per entry of ``energy_kev``. An entry is monochromatic, or a bin of a
    continuum where ``width_kev`` is above zero.
    """

    energy_kev: tuple[float, ...]
    weight: tuple[float, ...]
    width_kev: tuple[float, ...] | None = None

    @model_validator(mode="after")
    def _check(self) -> "SourceSpectrum":
        widths = self.energy_kev if self.width_kev is None else self.width_kev
        if not len(self.energy_kev) == len(self.weight) == len(widths) or not self.energy_kev:
            lengths = f"energy_kev has {len(self.energy_kev)} entries, weight {len(self.weight)}"
            raise ValueError(f"{lengths}, width_kev {len(widths)}; equal and not empty is needed")
        if min(self.energy_kev) <= 0 or min(self.weight) < 0 or min(widths) < 0:
            raise ValueError("energies must be positive (keV), weights and widths not negative")
        if max(self.energy_kev) > HIGHEST_KEV:
            raise ValueError(
                f"an energy is {max(self.energy_kev):g} keV; the tables of cross sections end at {HIGHEST_KEV:g} keV"
            )
        self._check_bins(widths if self.width_kev is not None else ())
        return self

    def _check_bins(self, widths: tuple[float, ...]) -> None:
        bins = sorted((energy, width) for energy, width in zip(self.energy_kev, widths, strict=False) if width > 0)
        for (low, narrow), (high, wide) in pairwise(bins):
            # tables round their energies
            if high - low < 0.49 * (narrow + wide) - 1e-3:
                raise ValueError(
                    f"the bins about {low:g} and {high:g} keV overlap; width_kev is the full width of a bin"
                )


class Optic(Settings):
    """A polycapillary or another optic in the beam, as a table of its transmission; linear in between.

    Outside the table its end values apply.
    """

    energy_kev: tuple[float, ...] = Field(min_length=2)
    transmission: tuple[float, ...] = Field(min_length=2, description="share or gain, any common scale")

    @model_validator(mode="after")
    def _check(self) -> "Optic":
        if len(self.energy_kev) != len(self.transmission):
            lengths = f"energy_kev has {len(self.energy_kev)} entries, transmission {len(self.transmission)}"
            raise ValueError(f"{lengths}; equal numbers are needed")
        if min(self.transmission) < 0 or self.energy_kev[0] <= 0 or not np.all(np.diff(self.energy_kev) > 0):
            raise ValueError("energies must be positive and rise (keV), transmissions not be negative")
        return self

    def at(self, energy_kev: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return the transmission at some energies, keV."""
        return np.interp(energy_kev, self.energy_kev, self.transmission)


class Geometry(Settings):
    """Angles from the sample's surface, and the paths in air."""

    incidence_angle_deg: float = Field(60.0, gt=0, le=90, description="beam to surface, degree")
    takeoff_angle_deg: float = Field(60.0, gt=0, le=90, description="surface to detector, degree")
    scatter_angle_deg: float | None = Field(
        None, gt=0, le=180, description="scattering angle; None: incidence + take-off"
    )
    source_air_cm: float = Field(1.0, ge=0, description="air between tube and sample, cm")
    detector_air_cm: float = Field(1.0, ge=0, description="air between sample and detector, cm")
    seen_air_cm: float = Field(
        0.0, ge=0, description="length of the beam in air within the detector's view, cm: argon lines, scatter"
    )

    @property
    def scattering_angle_deg(self) -> float:
        """The scattering angle in use, degree."""
        if self.scatter_angle_deg is not None:
            return self.scatter_angle_deg
        return self.incidence_angle_deg + self.takeoff_angle_deg


class Detector(Settings):
    """An energy-dispersive detector and its electronics."""

    material: str = Field("Si", description="element symbol of the crystal")
    density: float = Field(2.33, gt=0, le=23, description="g/cm3")
    thickness_um: float = Field(450.0, gt=0, le=1e6, description="um")
    dead_layer_um: float = Field(0.05, ge=0, le=1e6, description="inactive crystal in front, um")
    window: Filter = Field(default_factory=lambda: Filter(formula="Be", density=1.848, thickness_um=12.5))
    filters: tuple[Filter, ...] = Field((), max_length=50, description="sheets between sample and window")
    noise_fwhm_kev: float = Field(0.07, ge=0, le=5, description="electronic noise, FWHM, keV")
    fano: float = Field(0.114, gt=0, lt=1, description="Fano factor")
    shelf_fraction: float = Field(0.002, ge=0, lt=1, description="area of the flat shelf over that of the peak")
    tail_fraction: float = Field(0.01, ge=0, lt=1, description="area of the exponential tail over that of the peak")
    tail_width_kev: float = Field(0.15, gt=0, le=20, description="decay length of the tail, keV")
    long_tail_fraction: float = Field(0.0, ge=0, lt=1, description="area of a second, longer tail over the peak's")
    long_tail_width_kev: float = Field(1.0, gt=0, le=20, description="decay length of the longer tail, keV")
    gain_kev: float = Field(0.01, ge=1e-4, le=10, description="channel width, keV")
    zero_kev: float = Field(0.0, ge=-1000, le=1000, description="energy of channel 0, keV")
    n_channel: int = Field(4096, ge=16, le=65536)
    pulse_pair_us: float = Field(
        0.0, ge=0, le=1e6, description="photons closer than this are recorded as one, us; 0: none"
    )
    dead_time_us: float = Field(0.0, ge=0, le=1e6, description="pulse-pair resolution, us; 0: no pile-up")

    @model_validator(mode="after")
    def _check_shares(self) -> "Detector":
        total = self.shelf_fraction + self.tail_fraction + self.long_tail_fraction
        if not total < 1:
            raise ValueError(
                f"shelf_fraction, tail_fraction and long_tail_fraction sum to {total:g}: it must be less than 1"
            )
        return self


class Scale(Settings):
    """Measured over modelled counts, from a standard of known composition."""

    counts_per_s: float | None = Field(None, gt=0, description="counts a second of live time, over the model's")
    counts_per_scatter: float | None = Field(
        None, gt=0, description="counts of lines over those of scattered tube radiation, over the model's"
    )
    error: float = Field(0.05, gt=0, lt=2, description="relative, one standard deviation")
    families: tuple[str, ...] = ()
    factors: tuple[float, ...] = Field((), description="of each family, over the scale")
    factor_errors: tuple[float, ...] = Field((), description="relative, one standard deviation")
    note: str = ""

    @model_validator(mode="after")
    def _check(self) -> "Scale":
        if self.counts_per_s is None and self.counts_per_scatter is None:
            raise ValueError("neither counts_per_s nor counts_per_scatter is set; one is needed")
        if not len(self.families) == len(self.factors) == len(self.factor_errors):
            lengths = f"families has {len(self.families)} entries, factors {len(self.factors)}"
            raise ValueError(f"{lengths}, factor_errors {len(self.factor_errors)}; equal numbers are needed")
        if min((*self.factors, *self.factor_errors), default=1.0) <= 0:
            raise ValueError("factors and their errors must be positive")
        return self

    def factor(self, family: str) -> tuple[float, float]:
        """Return a family's factor and its relative error.

        For a family that the standard lacks, this is the median of the three nearest in energy, since the factor varies
        smoothly with energy; the error is their spread.
        """
        if family in self.families:
            index = self.families.index(family)
            return self.factors[index], self.factor_errors[index]
        if not self.families:
            return 1.0, 0.0
        distance = [abs(np.log(_line_kev(family) / _line_kev(reference))) for reference in self.families]
        near = np.log([self.factors[index] for index in np.argsort(distance)[:_N_NEAR]])
        middle = float(np.median(near))
        return float(np.exp(middle)), float(np.median(np.abs(near - middle)) / 0.67)


def _line_kev(family: str) -> float:
    """Return the energy of a family's strongest line, keV."""
    element, _, shell = family.partition("_")
    energy, rate = family_lines(element, shell, HIGHEST_KEV)
    return float(energy[rate.argmax()])


class Instrument(Settings):
    """A scanner: source, filters, geometry and detector."""

    name: str = "custom"
    note: str = Field("", description="source of the values")
    tube: Tube = Field(default_factory=Tube)
    source_spectrum: SourceSpectrum | None = None
    filters: tuple[Filter, ...] = Field((), max_length=50)
    optic: Optic | None = None
    geometry: Geometry = Field(default_factory=Geometry)
    detector: Detector = Field(default_factory=Detector)
    scale: Scale | None = None

    @property
    def highest_kev(self) -> float:
        """Highest energy of the exciting photons, keV: no edge above it is excited."""
        return self.tube.voltage_kv if self.source_spectrum is None else max(self.source_spectrum.energy_kev)


_UNITS = {"kev": "keV", "kv": "kV", "um": "um", "cm": "cm", "deg": "degree", "us": "us"}
"""Of a setting, by the end of its name."""
_MAX_SHOWN = 1e15
"""Integers of hundreds of digits cannot become floats."""


def instrument_from(table: dict[str, Any], name: str) -> Instrument:
    """Return the instrument that nested tables of settings describe.

    Raises
    ------
    InstrumentError
        A setting is unknown or wrong; the message names it.
    """
    try:
        return Instrument.model_validate(table)
    except ValidationError as error:
        raise InstrumentError(
            f"Cannot use the instrument {name!r}: {describe_faults(error.errors(), _hint)}."
        ) from error


def _settings_at(place: tuple[Any, ...]) -> type[BaseModel] | None:
    """Return the settings model in which a fault lies; None outside of one."""
    inner: type[BaseModel] | None = Instrument
    for part in place:
        if isinstance(part, int):  # an entry of a tuple, whose settings belong to the tuple's name
            continue
        field = None if inner is None else inner.model_fields.get(part)
        kinds = () if field is None else (field.annotation, *get_args(field.annotation))
        inner = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)
    return inner


def _hint(fault: Any) -> str:
    """Return a suggestion for an unknown key, or the value with its unit, in brackets; else ""."""
    model = _settings_at(fault["loc"][:-1])
    if model is None or not fault["loc"]:
        return ""
    key, value = str(fault["loc"][-1]), fault["input"]
    if fault["type"] == "extra_forbidden":
        near = get_close_matches(key, model.model_fields, n=1)
        suggestion = f"did you mean {near[0]}?" if near else f"known keys are {', '.join(model.model_fields)}"
        return f" (unknown key; {suggestion})"
    if key not in model.model_fields or isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if not abs(value) < _MAX_SHOWN:
        return ""
    unit = _UNITS.get(key.rpartition("_")[2], "")
    smaller = {"keV": "eV", "kV": "V"}.get(unit)
    is_smaller = smaller is not None and _is_allowed(value / 1000, model.model_fields[key])
    remedy = f"; is it in {smaller}? then {value / 1000:g}" if is_smaller else ""
    return f" (it is {value:g}{' ' if unit else ''}{unit}{remedy})"


def _is_allowed(value: float, field: Any) -> bool:
    try:
        TypeAdapter(Annotated[field.annotation, *field.metadata]).validate_python(value)
    except ValidationError:
        return False
    return True
