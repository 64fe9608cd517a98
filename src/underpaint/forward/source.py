"""The exciting spectrum: an X-ray tube after window, filters and air."""

from functools import lru_cache

import numpy as np
import xraylib
from numpy.typing import NDArray

from underpaint.atomic import (
    SHELLS,
    atomic_number,
    atomic_weight,
    compound_attenuation,
    edge_energy,
    line_table,
    mass_attenuation,
)
from underpaint.errors import InstrumentError
from underpaint.instrument import Filter, Instrument, Tube
from underpaint.sample import mass_fractions
from underpaint.units import CM_PER_UM

Array = NDArray[np.float64]

AIR = {"N": 0.7553, "O": 0.2318, "Ar": 0.0129}
"""Dry air by mass (CRC Handbook)."""
AIR_DENSITY = 0.001205
"""g/cm3 at 20 degrees Celsius and 1013 hPa."""
LOWEST_KEV = 1.5
"""Softer tube photons neither leave the window nor excite a line that is recorded."""
FINE_STEP_KEV, COARSE_STEP_KEV, COARSE_FROM_KEV = 0.1, 0.2, 16.0
CONTINUUM_CONSTANT = 1.35e9
"""Photons / (s sr mA keV), Ebel 1999, eq. 3."""
LINE_CONSTANTS = {"K": 5.0e13, "L1": 0.71e13, "L2": 2.70e13, "L3": 4.94e13}
"""Photons / (s sr mA), Ebel 1999, eq. 6 (K) and Ebel 2003, table 1 (L).

For K lines XMI-MSIM takes the same 5.0e13, PyMca 6.0e13: K lines a fifth stronger over the same continuum.
"""


def source_spectrum(instrument: Instrument) -> tuple[Array, Array, Array]:
    """Return what reaches the sample.

    Returns
    -------
    energy_kev : (n_energy,) array
        Middles of the continuum's bins, then the lines; ascending.
    weight : (n_energy,) array
        Photons per bin or line, per s, sr and mA (of an explicit spectrum: on its own scale).
    width_kev : (n_energy,) array
        Width of the bin; zero for lines.

    Raises
    ------
    InstrumentError
        Nothing is left after window, filters and air.
    """
    explicit = instrument.source_spectrum
    if explicit is not None:
        order = np.argsort(explicit.energy_kev, kind="stable")
        energy, weight = np.asarray(explicit.energy_kev)[order], np.asarray(explicit.weight)[order]
        width = np.zeros(energy.size)
    else:
        energy, weight, width = tube_spectrum(instrument.tube)
    weight = weight * air_transmission(instrument.geometry.source_air_cm, energy)
    for sheet in instrument.filters:
        weight = weight * filter_transmission(sheet, energy)
    if not weight.sum() > 0:
        message = (
            f"Cannot excite anything: no photon of {instrument.name!r} passes its filters and air path. Thin them."
        )
        raise InstrumentError(message)
    return energy, weight, width


@lru_cache(maxsize=256)
def tube_spectrum(tube: Tube) -> tuple[Array, Array, Array]:
    """Return the tube's continuum and K and L lines behind its window (Ebel 1999, 2003), as ``source_spectrum``."""
    energy, width = _continuum_grid(tube.voltage_kv)
    lines = line_table([tube.anode], tube.voltage_kv)
    soft = (lines.energy_kev > LOWEST_KEV) & (lines.shell < SHELLS.index("M1"))
    line_energy, line_weight = lines.energy_kev[soft], _line_photons(tube)[soft]
    energies = np.concatenate([energy, line_energy])
    weights = np.concatenate([_continuum_photons(tube, energy) * width, line_weight])
    widths = np.concatenate([width, np.zeros(line_energy.size)])
    weights *= filter_transmission(tube.window, energies)
    order = np.argsort(energies, kind="stable")
    kept = order[weights[order] > 1e-7 * weights.max()]
    return energies[kept], weights[kept], widths[kept]


def filter_transmission(sheet: Filter, energy_kev: Array) -> Array:
    """Return the transmission of a sheet at each energy."""
    attenuation = compound_attenuation(mass_fractions(sheet.formula), energy_kev)
    return np.asarray(np.exp(-attenuation * sheet.density * sheet.thickness_um * CM_PER_UM))


def air_transmission(path_cm: float, energy_kev: Array) -> Array:
    """Return the transmission of a path in air at each energy."""
    return np.asarray(np.exp(-compound_attenuation(AIR, energy_kev) * AIR_DENSITY * path_cm))


def _continuum_grid(voltage_kv: float) -> tuple[Array, Array]:
    edges = np.arange(LOWEST_KEV, min(voltage_kv, COARSE_FROM_KEV), FINE_STEP_KEV)
    if voltage_kv > COARSE_FROM_KEV:
        edges = np.concatenate([edges, np.arange(COARSE_FROM_KEV, voltage_kv, COARSE_STEP_KEV)])
    edges = np.append(edges[edges < voltage_kv - 1e-6], voltage_kv)
    return (edges[1:] + edges[:-1]) / 2.0, np.diff(edges)


def _continuum_photons(tube: Tube, energy: Array) -> Array:
    """Ebel 1999, eqs. 1-3: photons / (s sr mA keV) before the window."""
    number, voltage = atomic_number(tube.anode), tube.voltage_kv
    exponent = 1.109 - 0.00435 * number + 0.00175 * voltage
    produced = CONTINUUM_CONSTANT * number * (voltage / energy - 1.0) ** exponent
    return np.asarray(produced * _escape(tube, energy, voltage / energy))


def _escape(tube: Tube, energy: Array, overvoltage: Array) -> Array:
    """Share of the photons that leave the anode: Ebel 1999, eqs. 4-5, with the mean depth of Love & Scott 1978."""
    number, voltage = atomic_number(tube.anode), tube.voltage_kv
    mean_ionisation = 0.0135 * number
    backscatter = _backscatter(number, voltage)
    deepest = atomic_weight(tube.anode) / number
    deepest *= 0.787e-5 * mean_ionisation**0.5 * voltage**1.5 + 0.735e-6 * voltage**2
    log = np.log(overvoltage)
    shape = (0.49269 - 1.0987 * backscatter + 0.78557 * backscatter**2) * log
    depth = deepest * shape / (0.70256 - 1.09865 * backscatter + 1.0046 * backscatter**2 + log)
    ratio = np.sin(np.radians(tube.electron_angle_deg)) / np.sin(np.radians(tube.takeoff_angle_deg))
    optical = 2.0 * mass_attenuation(tube.anode, energy) * depth * ratio
    return np.asarray(np.where(optical > 1e-9, -np.expm1(-optical) / np.maximum(optical, 1e-9), 1.0))


def _backscatter(number: int, voltage: float) -> float:
    log = np.log(number)
    power = 0.1382 - 0.9211 / np.sqrt(number)
    return float(voltage**power * (0.1904 - 0.2236 * log + 0.1292 * log**2 - 0.0149 * log**3))


def _line_photons(tube: Tube) -> Array:
    """Ebel 1999, eqs. 6-9 and Ebel 2003, eq. 4: photons / (s sr mA) of each line before the window."""
    number, voltage = atomic_number(tube.anode), tube.voltage_kv
    lines = line_table([tube.anode], voltage)
    photons = np.zeros(len(lines))
    for index in range(len(lines)):
        shell = SHELLS[int(lines.shell[index])]
        if shell not in LINE_CONSTANTS:
            continue
        edge = edge_energy(number, int(lines.shell[index]))
        fluorescence = float(xraylib.FluorYield(number, int(lines.shell[index]))) * float(lines.rate[index])
        escape = float(_escape(tube, lines.energy_kev[index : index + 1], np.asarray([voltage / edge]))[0])
        photons[index] = (
            _shell_constant(shell, number) * _ionisations(number, shell, edge, voltage) * fluorescence * escape
        )
    return photons


def _shell_constant(shell: str, number: int) -> float:
    """Return the constant of a shell's lines; Ebel 2003 corrects L1 and L2 alone, and below Z = 80 alone."""
    if shell in {"K", "L3"} or number >= 80:
        return LINE_CONSTANTS[shell]
    return LINE_CONSTANTS[shell] * (-0.4814 + 0.03781 * number - 2.413e-4 * number**2)


def _ionisations(number: int, shell: str, edge: float, voltage: float) -> float:
    """Stopping power factor and backscatter of Ebel 1999, eqs. 7-8."""
    over = voltage / edge
    electrons, factor = (2.0, 0.35) if shell == "K" else (8.0, 0.25)
    base = over * np.log(over) + 1.0 - over
    mean_ionisation = 0.0135 * number
    slowing = (np.sqrt(over) * np.log(over) + 2.0 * (1.0 - np.sqrt(over))) / base
    inverse_stopping = electrons * factor / number * base * (1.0 + 16.05 * np.sqrt(mean_ionisation / edge) * slowing)
    reflected = 1.0 - 0.0081517 * number + 3.613e-5 * number**2 + 0.009583 * number * np.exp(-over) + 0.001141 * voltage
    return float(inverse_stopping * reflected)
