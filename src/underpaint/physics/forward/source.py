"""Spectrum of the source at the sample: X-ray tube, followed by window, filters, optics and air."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import xraylib
from array_api_compat import array_namespace, is_torch_array
from numpy.typing import NDArray

from underpaint.errors import InstrumentError
from underpaint.physics.atomic import (
    SHELLS,
    atomic_number,
    atomic_weight,
    compound_attenuation,
    edge_energy,
    line_table,
    mass_attenuation,
)
from underpaint.physics.forward.cells import as_array
from underpaint.physics.instrument import AIR, AIR_DENSITY, Filter, Instrument, SourceSpectrum, Tube
from underpaint.physics.materials import mass_fractions
from underpaint.units import CM_PER_UM

FloatArray = NDArray[np.float64]
Array = Any

MIN_PHOTON_KEV = 1.5
"""Lowest photon energy, in keV. Photons of lower energy do not pass the tube's window and excite no recorded line."""
FINE_STEP_KEV, COARSE_STEP_KEV, COARSE_START_KEV = 0.1, 0.2, 16.0
CONTINUUM_CONSTANT = 1.35e9
"""Constant of the continuum, in photons / (s sr mA keV) (Ebel 1999, equation 3)."""
LINE_CONSTANTS = {"K": 5.0e13, "L1": 0.71e13, "L2": 2.70e13, "L3": 4.94e13}
"""Constants of line intensities, in photons / (s sr mA) (K: Ebel 1999, equation 6; L: Ebel 2003, table 1).

For K lines, XMI-MSIM also uses 5.0e13. PyMca uses 6.0e13, which makes K lines a fifth stronger relative to the
continuum. K and L lines of spekpy are 1.5 to 1.7 times as strong as those of Ebel (``tests/physics/test_spekpy.py``).
``Tube.line_factor`` corrects such differences.
"""


@dataclass(frozen=True)
class SourceSettings:
    """Settings of the source, as numbers or as differentiable 0-d torch tensors.

    Parameters
    ----------
    voltage_kv : float
        Tube voltage in kV.
    electron_angle_deg, takeoff_angle_deg : float
        Angles between the anode's surface and the directions of electrons and X-rays, in degrees.
    window_um : float
        Thickness of the tube's window, in um.
    filters_um : tuple of float
        Thickness of each filter, in um.
    air_cm : float
        Air path from tube to sample, in cm.
    """

    voltage_kv: Any
    electron_angle_deg: Any
    takeoff_angle_deg: Any
    window_um: Any
    filters_um: tuple[Any, ...]
    air_cm: Any


def source_settings(instrument: Instrument) -> SourceSettings:
    """Return the source settings of an instrument."""
    tube = instrument.tube
    return SourceSettings(
        tube.voltage_kv,
        tube.electron_angle_deg,
        tube.takeoff_angle_deg,
        tube.window.thickness_um,
        tuple(sheet.thickness_um for sheet in instrument.filters),
        instrument.geometry.source_air_cm,
    )


def source_spectrum(instrument: Instrument) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the spectrum of the source at the sample.

    Returns
    -------
    energy_kev : (n_energy,) array
        Centres of the bins of the continuum, and energies of the lines, in keV, in ascending order.
    weight : (n_energy,) array
        Photons in each bin or line, per s, sr and mA. A tabulated spectrum keeps its own scale.
    width_kev : (n_energy,) array
        Width of each bin, in keV; zero for lines.

    Raises
    ------
    InstrumentError
        Window, filters, optics and air absorb all photons.
    """
    energy_kev, width_kev, _ = _source_grid(instrument)
    weight = np.asarray(source_weights(instrument))
    if not weight.sum() > 0:
        raise InstrumentError(
            f"Cannot compute the source spectrum: no photon of {instrument.name!r} passes its filters and air path. "
            "Reduce their thickness."
        )
    return energy_kev, weight, width_kev


def source_weights(instrument: Instrument, settings: SourceSettings | None = None) -> Array:
    """Return the weights of ``source_spectrum`` for given settings of the source.

    Parameters
    ----------
    instrument : Instrument
    settings : SourceSettings, optional
        Settings that replace those of the instrument. The energies are not replaced: a higher voltage adds no bins.

    Returns
    -------
    (n_energy,) array
        Weights; a torch tensor if the settings hold tensors.

    Raises
    ------
    InstrumentError
        A setting is out of range.
    """
    settings = source_settings(instrument) if settings is None else settings
    _check_settings(settings)
    energy_kev, width_kev, line_index = _source_grid(instrument)
    reference_array = _tensor_of(settings)
    xp = array_namespace(reference_array)
    optical_depth = _depth_per_um(AIR, AIR_DENSITY * 1e4, energy_kev, reference_array) * settings.air_cm
    for filter_sheet, thickness_um in zip(instrument.filters, settings.filters_um, strict=True):
        optical_depth = (
            optical_depth
            + _depth_per_um(mass_fractions(filter_sheet.formula), filter_sheet.density, energy_kev, reference_array)
            * thickness_um
        )
    if instrument.source_spectrum is None:
        tube = instrument.tube
        photons = _tube_photons(tube, energy_kev, width_kev, line_index, settings, reference_array)
        photons = photons * _convert_like(np.where(line_index >= 0, tube.line_factor, 1.0), reference_array)
        window_fractions = mass_fractions(tube.window.formula)
        optical_depth = (
            optical_depth
            + _depth_per_um(window_fractions, tube.window.density, energy_kev, reference_array) * settings.window_um
        )
    else:
        photons = _convert_like(_sorted_spectrum(instrument.source_spectrum)[1], reference_array)
    if instrument.optic is not None:
        photons = photons * _convert_like(instrument.optic.transmission_at(energy_kev), reference_array)
    return photons * xp.exp(-optical_depth)


def filter_transmission(sheet: Filter, energy_kev: FloatArray) -> FloatArray:
    """Return the transmission of a sheet at each energy."""
    attenuation = compound_attenuation(mass_fractions(sheet.formula), energy_kev)
    return np.asarray(np.exp(-attenuation * sheet.density * sheet.thickness_um * CM_PER_UM))


def air_transmission(path_cm: float, energy_kev: FloatArray) -> FloatArray:
    """Return the transmission of a path in air at each energy."""
    return np.asarray(np.exp(-compound_attenuation(AIR, energy_kev) * AIR_DENSITY * path_cm))


@lru_cache(maxsize=256)
def _source_grid(instrument: Instrument) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    """Return, for each entry, energy and width in keV and the index of the anode's line (-1 for the continuum)."""
    if instrument.source_spectrum is not None:
        energy_kev, _, width_kev = _sorted_spectrum(instrument.source_spectrum)
        return energy_kev, width_kev, np.full(energy_kev.size, -1)
    return _tube_grid(instrument.tube)


@lru_cache(maxsize=256)
def _tube_grid(tube: Tube) -> tuple[FloatArray, FloatArray, NDArray[np.int64]]:
    continuum_kev, continuum_width_kev = _continuum_grid(tube.voltage_kv)
    lines = line_table([tube.anode])
    is_excited = np.asarray([_line_edge(tube.anode, line) < tube.voltage_kv for line in range(len(lines))])
    excited_lines = np.flatnonzero(
        is_excited & (lines.energy_kev > MIN_PHOTON_KEV) & (lines.shell < SHELLS.index("M1"))
    )
    energy_kev = np.concatenate([continuum_kev, lines.energy_kev[excited_lines]])
    width_kev = np.concatenate([continuum_width_kev, np.zeros(excited_lines.size)])
    line_index = np.concatenate([np.full(continuum_kev.size, -1), excited_lines])
    energy_order = np.argsort(energy_kev, kind="stable")
    energy_kev, width_kev, line_index = energy_kev[energy_order], width_kev[energy_order], line_index[energy_order]
    instrument = Instrument(tube=tube)
    photons = _tube_photons(tube, energy_kev, width_kev, line_index, source_settings(instrument), np.asarray(0.0))
    photons = photons * filter_transmission(tube.window, energy_kev)
    is_relevant = photons > 1e-7 * photons.max()
    return energy_kev[is_relevant], width_kev[is_relevant], line_index[is_relevant]


def _sorted_spectrum(source: SourceSpectrum) -> tuple[FloatArray, FloatArray, FloatArray]:
    energy_order = np.argsort(source.energy_kev, kind="stable")
    width_kev = np.asarray(source.width_kev or (0.0,) * len(source.energy_kev))
    return np.asarray(source.energy_kev)[energy_order], np.asarray(source.weight)[energy_order], width_kev[energy_order]


def _continuum_grid(voltage_kv: float) -> tuple[FloatArray, FloatArray]:
    edge_kev = np.arange(MIN_PHOTON_KEV, min(voltage_kv, COARSE_START_KEV), FINE_STEP_KEV)
    if voltage_kv > COARSE_START_KEV:
        edge_kev = np.concatenate([edge_kev, np.arange(COARSE_START_KEV, voltage_kv, COARSE_STEP_KEV)])
    edge_kev = np.append(edge_kev[edge_kev < voltage_kv - 1e-6], voltage_kv)
    return (edge_kev[1:] + edge_kev[:-1]) / 2.0, np.diff(edge_kev)


def _tube_photons(
    tube: Tube,
    energy_kev: FloatArray,
    width_kev: FloatArray,
    line_index: NDArray[np.int64],
    settings: SourceSettings,
    reference_array: Array,
) -> Array:
    """Return the photons of each entry before the window, per s, sr and mA (continuum, K: Ebel 1999; L: 2003)."""
    xp = array_namespace(reference_array)
    is_line = line_index >= 0
    edge_kev = np.ones(energy_kev.size)
    edge_kev[is_line] = [_line_edge(tube.anode, int(line)) for line in line_index[is_line]]
    threshold_kev = _convert_like(np.where(is_line, edge_kev, energy_kev), reference_array)
    # the overvoltage is at least 1, where the number of photons is zero
    overvoltage = xp.clip(settings.voltage_kv / threshold_kev, min=1.0 + 1e-6)
    anode_number = atomic_number(tube.anode)
    continuum_exponent = 1.109 - 0.00435 * anode_number + 0.00175 * settings.voltage_kv
    continuum_photons = (
        CONTINUUM_CONSTANT
        * anode_number
        * (overvoltage - 1.0) ** continuum_exponent
        * _convert_like(width_kev, reference_array)
    )
    photons = xp.where(
        _convert_like(is_line, reference_array) > 0,
        _line_photons(tube.anode, line_index, edge_kev, overvoltage, settings, reference_array),
        continuum_photons,
    )
    return photons * _anode_escape(tube, energy_kev, overvoltage, settings, reference_array)


def _anode_escape(
    tube: Tube, energy_kev: FloatArray, overvoltage: Array, settings: SourceSettings, reference_array: Array
) -> Array:
    """Return the fraction of photons that leave the anode (Ebel 1999, equations 4-5; mean depth: Love & Scott 1978)."""
    xp = array_namespace(reference_array)
    anode_number, voltage_kv = atomic_number(tube.anode), settings.voltage_kv
    mean_ionisation = 0.0135 * anode_number
    backscatter_coefficient = _backscatter_coefficient(anode_number, voltage_kv)
    max_depth = (
        atomic_weight(tube.anode)
        / anode_number
        * (0.787e-5 * mean_ionisation**0.5 * voltage_kv**1.5 + 0.735e-6 * voltage_kv**2)
    )
    log_overvoltage = xp.log(overvoltage)
    depth_factor = (0.49269 - 1.0987 * backscatter_coefficient + 0.78557 * backscatter_coefficient**2) * log_overvoltage
    mean_depth = (
        max_depth
        * depth_factor
        / (0.70256 - 1.09865 * backscatter_coefficient + 1.0046 * backscatter_coefficient**2 + log_overvoltage)
    )
    radians_per_degree = np.pi / 180.0
    sine_in, sine_out = (
        _sine(angle_deg * radians_per_degree, reference_array)
        for angle_deg in (settings.electron_angle_deg, settings.takeoff_angle_deg)
    )
    attenuation = _convert_like(mass_attenuation(tube.anode, energy_kev), reference_array)
    if tube.target_um is None:
        return _mean_transmission(2.0 * attenuation * mean_depth * sine_in / sine_out)
    # X-rays leave a foil on the far side; electrons that pass through the foil produce fewer X-rays
    total_depth, foil_thickness = (
        2.0 * mean_depth * sine_in,
        xraylib.ElementDensity(anode_number) * tube.target_um * CM_PER_UM,
    )
    source_depth = xp.clip(total_depth, max=foil_thickness)
    foil_transmission = xp.exp(-attenuation * (foil_thickness - source_depth) / sine_out)
    return foil_transmission * _mean_transmission(attenuation * source_depth / sine_out) * source_depth / total_depth


def _mean_transmission(depth: Array) -> Array:
    """Return the transmission, averaged over optical depths from zero to ``depth``."""
    xp = array_namespace(depth)
    return xp.where(depth > 1e-9, -xp.expm1(-depth) / xp.clip(depth, min=1e-9), 1.0)


def _backscatter_coefficient(z: int, voltage_kv: Any) -> Any:
    log_z = np.log(z)
    voltage_exponent = 0.1382 - 0.9211 / np.sqrt(z)
    return voltage_kv**voltage_exponent * (0.1904 - 0.2236 * log_z + 0.1292 * log_z**2 - 0.0149 * log_z**3)


def _line_photons(
    anode: str,
    line_index: NDArray[np.int64],
    edge_kev: FloatArray,
    overvoltage: Array,
    settings: SourceSettings,
    reference_array: Array,
) -> Array:
    """Return the photons of the anode's lines, in photons / (s sr mA); zero for entries of the continuum.

    The formulas are from Ebel 1999, equations 6-9, and Ebel 2003, equation 4.
    """
    xp = array_namespace(reference_array)
    anode_number = atomic_number(anode)
    yield_factor, n_electrons, stopping_factor = (
        np.zeros(line_index.size),
        np.ones(line_index.size),
        np.ones(line_index.size),
    )
    anode_lines = line_table([anode])
    for entry_index in np.flatnonzero(line_index >= 0):
        line = int(line_index[entry_index])
        shell = SHELLS[int(anode_lines.shell[line])]
        photons_per_vacancy = float(xraylib.FluorYield(anode_number, int(anode_lines.shell[line]))) * float(
            anode_lines.rate[line]
        )
        yield_factor[entry_index] = _shell_constant(shell, anode_number) * photons_per_vacancy
        n_electrons[entry_index], stopping_factor[entry_index] = (2.0, 0.35) if shell == "K" else (8.0, 0.25)
    # stopping power factor and backscatter, equations 7-8
    energy_term = overvoltage * xp.log(overvoltage) + 1.0 - overvoltage
    stopping_correction = (
        xp.sqrt(overvoltage) * xp.log(overvoltage) + 2.0 * (1.0 - xp.sqrt(overvoltage))
    ) / energy_term
    stopping_correction = (
        1.0 + 16.05 * _convert_like(np.sqrt(0.0135 * anode_number / edge_kev), reference_array) * stopping_correction
    )
    inverse_stopping = (
        _convert_like(n_electrons * stopping_factor / anode_number, reference_array) * energy_term * stopping_correction
    )
    backscatter_factor = (
        1.0 - 0.0081517 * anode_number + 3.613e-5 * anode_number**2 + 0.009583 * anode_number * xp.exp(-overvoltage)
    )
    backscatter_factor = backscatter_factor + 0.001141 * settings.voltage_kv
    return _convert_like(yield_factor, reference_array) * inverse_stopping * backscatter_factor


def _shell_constant(shell: str, z: int) -> float:
    """Return the line constant of a shell. Ebel 2003 corrects only L1 and L2, and only for Z below 80."""
    if shell in {"K", "L3"} or z >= 80:
        return LINE_CONSTANTS[shell]
    return LINE_CONSTANTS[shell] * (-0.4814 + 0.03781 * z - 2.413e-4 * z**2)


def _line_edge(anode: str, line: int) -> float:
    return edge_energy(atomic_number(anode), int(line_table([anode]).shell[line]))


def _check_settings(settings: SourceSettings) -> None:
    """Raise an error for settings outside the limits of an instrument; an optimiser may exceed these limits."""
    max_thickness = np.finfo(np.float64).max
    setting_limits = {"voltage_kv": (5.0, 100.0), "electron_angle_deg": (1e-3, 90.0), "takeoff_angle_deg": (1e-3, 90.0)}
    for name in SourceSettings.__dataclass_fields__:
        lower_limit, upper_limit = setting_limits.get(name, (0.0, max_thickness))
        for setting in settings.filters_um if name == "filters_um" else (getattr(settings, name),):
            setting_value = setting.item() if hasattr(setting, "item") else setting
            if not lower_limit <= setting_value <= upper_limit:
                allowed_text = f"from {lower_limit:g} to {upper_limit:g}" if name in setting_limits else "zero or more"
                raise InstrumentError(
                    f"Cannot use {name} = {setting_value:g} for the source; give a number {allowed_text}."
                )


def _depth_per_um(
    element_fractions: dict[str, float], density: float, energy_kev: FloatArray, reference_array: Array
) -> Array:
    """Return the optical depth of a material per um, at each energy."""
    return _convert_like(compound_attenuation(element_fractions, energy_kev) * density * CM_PER_UM, reference_array)


def _sine(angle_rad: Any, reference_array: Array) -> Any:
    return array_namespace(reference_array).sin(_convert_like(angle_rad, reference_array))


def _convert_like(number_or_array: Any, reference_array: Array) -> Array:
    return number_or_array if is_torch_array(number_or_array) else as_array(number_or_array, reference_array)


def _tensor_of(settings: SourceSettings) -> Array:
    setting_values = (*settings.filters_um, *(getattr(settings, name) for name in SourceSettings.__dataclass_fields__))
    return next((setting_value for setting_value in setting_values if is_torch_array(setting_value)), np.asarray(0.0))
