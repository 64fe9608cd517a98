"""The exciting spectrum: an X-ray tube after window, filters, optics and air."""

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

Numbers = NDArray[np.float64]
Array = Any

LOWEST_KEV = 1.5
"""Softer photons neither leave the tube's window nor excite a recorded line."""
FINE_STEP_KEV, COARSE_STEP_KEV, COARSE_FROM_KEV = 0.1, 0.2, 16.0
CONTINUUM_CONSTANT = 1.35e9
"""Photons / (s sr mA keV), Ebel 1999, eq. 3."""
LINE_CONSTANTS = {"K": 5.0e13, "L1": 0.71e13, "L2": 2.70e13, "L3": 4.94e13}
"""Photons / (s sr mA), Ebel 1999, eq. 6 (K) and Ebel 2003, table 1 (L).

For K lines XMI-MSIM takes the same 5.0e13, PyMca 6.0e13: K lines a fifth stronger over the same continuum. spekpy
has K and L lines 1.5 to 1.7 times as strong as Ebel (``tests/physics/test_spekpy.py``): hence ``Tube.line_factor``.
"""


@dataclass(frozen=True)
class Drive:
    """Settings that shape the source; numbers, or 0-d tensors of torch that carry derivatives.

    Parameters
    ----------
    voltage_kv, electron_angle_deg, takeoff_angle_deg : float
        Of the tube.
    window_um : float
        Thickness of the tube's window.
    filters_um : tuple of float
        Thickness of each filter.
    air_cm : float
        Path from tube to sample.
    """

    voltage_kv: Any
    electron_angle_deg: Any
    takeoff_angle_deg: Any
    window_um: Any
    filters_um: tuple[Any, ...]
    air_cm: Any


def drive_of(instrument: Instrument) -> Drive:
    """Return an instrument's settings of the source."""
    tube = instrument.tube
    return Drive(
        tube.voltage_kv,
        tube.electron_angle_deg,
        tube.takeoff_angle_deg,
        tube.window.thickness_um,
        tuple(sheet.thickness_um for sheet in instrument.filters),
        instrument.geometry.source_air_cm,
    )


def source_spectrum(instrument: Instrument) -> tuple[Numbers, Numbers, Numbers]:
    """Return the spectrum at the sample.

    Returns
    -------
    energy_kev : (n_energy,) array
        Middles of the continuum's bins, then the lines; ascending.
    weight : (n_energy,) array
        Photons per bin or line, per s, sr and mA (for an explicit spectrum: on its scale).
    width_kev : (n_energy,) array
        Width of the bin; zero for lines.

    Raises
    ------
    InstrumentError
        Window, filters, optics and air absorb everything.
    """
    energy, width, _ = _grid(instrument)
    weight = np.asarray(source_weights(instrument))
    if not weight.sum() > 0:
        raise InstrumentError(
            f"Cannot excite anything: no photon of {instrument.name!r} passes its filters and air path. Thin them."
        )
    return energy, weight, width


def source_weights(instrument: Instrument, drive: Drive | None = None) -> Array:
    """Return the (n_energy,) weights of ``source_spectrum``, for settings that may carry derivatives.

    Parameters
    ----------
    drive : Drive, optional
        In place of the instrument's own settings. The energies stay those of the instrument: a voltage above its own
        adds no bin.

    Returns
    -------
    (n_energy,) array
        Of numpy, or of torch where the drive holds tensors.

    Raises
    ------
    InstrumentError
        A setting of the drive is out of range.
    """
    drive = drive_of(instrument) if drive is None else drive
    _check(drive)
    energy, width, lines = _grid(instrument)
    like = _tensor_of(drive)
    xp = array_namespace(like)
    depth = _depth(AIR, AIR_DENSITY * 1e4, energy, like) * drive.air_cm
    for sheet, thickness in zip(instrument.filters, drive.filters_um, strict=True):
        depth = depth + _depth(mass_fractions(sheet.formula), sheet.density, energy, like) * thickness
    if instrument.source_spectrum is None:
        tube = instrument.tube
        photons = _tube_photons(tube, energy, width, lines, drive, like)
        photons = photons * _as(np.where(lines >= 0, tube.line_factor, 1.0), like)
        window = mass_fractions(tube.window.formula)
        depth = depth + _depth(window, tube.window.density, energy, like) * drive.window_um
    else:
        photons = _as(_explicit(instrument.source_spectrum)[1], like)
    if instrument.optic is not None:
        photons = photons * _as(instrument.optic.at(energy), like)
    return photons * xp.exp(-depth)


def filter_transmission(sheet: Filter, energy_kev: Numbers) -> Numbers:
    """Return the transmission of a sheet at each energy."""
    attenuation = compound_attenuation(mass_fractions(sheet.formula), energy_kev)
    return np.asarray(np.exp(-attenuation * sheet.density * sheet.thickness_um * CM_PER_UM))


def air_transmission(path_cm: float, energy_kev: Numbers) -> Numbers:
    """Return the transmission of a path in air at each energy."""
    return np.asarray(np.exp(-compound_attenuation(AIR, energy_kev) * AIR_DENSITY * path_cm))


@lru_cache(maxsize=256)
def _grid(instrument: Instrument) -> tuple[Numbers, Numbers, NDArray[np.int64]]:
    """Return energies, widths, and for each entry the anode's line (its number, or -1 for the continuum)."""
    if instrument.source_spectrum is not None:
        energy, _, width = _explicit(instrument.source_spectrum)
        return energy, width, np.full(energy.size, -1)
    return _tube_grid(instrument.tube)


@lru_cache(maxsize=256)
def _tube_grid(tube: Tube) -> tuple[Numbers, Numbers, NDArray[np.int64]]:
    energy, width = _continuum_grid(tube.voltage_kv)
    lines = line_table([tube.anode])
    excited = np.asarray([_edge(tube.anode, line) < tube.voltage_kv for line in range(len(lines))])
    lines_used = np.flatnonzero(excited & (lines.energy_kev > LOWEST_KEV) & (lines.shell < SHELLS.index("M1")))
    energies = np.concatenate([energy, lines.energy_kev[lines_used]])
    widths = np.concatenate([width, np.zeros(lines_used.size)])
    index = np.concatenate([np.full(energy.size, -1), lines_used])
    order = np.argsort(energies, kind="stable")
    energies, widths, index = energies[order], widths[order], index[order]
    instrument = Instrument(tube=tube)
    photons = _tube_photons(tube, energies, widths, index, drive_of(instrument), np.asarray(0.0))
    photons = photons * filter_transmission(tube.window, energies)
    strong = photons > 1e-7 * photons.max()
    return energies[strong], widths[strong], index[strong]


def _explicit(source: SourceSpectrum) -> tuple[Numbers, Numbers, Numbers]:
    order = np.argsort(source.energy_kev, kind="stable")
    width = np.asarray(source.width_kev or (0.0,) * len(source.energy_kev))
    return np.asarray(source.energy_kev)[order], np.asarray(source.weight)[order], width[order]


def _continuum_grid(voltage_kv: float) -> tuple[Numbers, Numbers]:
    edges = np.arange(LOWEST_KEV, min(voltage_kv, COARSE_FROM_KEV), FINE_STEP_KEV)
    if voltage_kv > COARSE_FROM_KEV:
        edges = np.concatenate([edges, np.arange(COARSE_FROM_KEV, voltage_kv, COARSE_STEP_KEV)])
    edges = np.append(edges[edges < voltage_kv - 1e-6], voltage_kv)
    return (edges[1:] + edges[:-1]) / 2.0, np.diff(edges)


def _tube_photons(
    tube: Tube, energy: Numbers, width: Numbers, lines: NDArray[np.int64], drive: Drive, like: Array
) -> Array:
    """Return photons / (s sr mA) per entry before the window: Ebel 1999 (continuum, K) and 2003 (L)."""
    xp = array_namespace(like)
    is_line = lines >= 0
    edge = np.ones(energy.size)
    edge[is_line] = [_edge(tube.anode, int(line)) for line in lines[is_line]]
    starts = _as(np.where(is_line, edge, energy), like)
    # an entry that the voltage no longer reaches has no photons
    over = xp.clip(drive.voltage_kv / starts, min=1.0 + 1e-6)
    number = atomic_number(tube.anode)
    exponent = 1.109 - 0.00435 * number + 0.00175 * drive.voltage_kv
    continuum = CONTINUUM_CONSTANT * number * (over - 1.0) ** exponent * _as(width, like)
    photons = xp.where(_as(is_line, like) > 0, _line_photons(tube.anode, lines, edge, over, drive, like), continuum)
    return photons * _escape(tube, energy, over, drive, like)


def _escape(tube: Tube, energy: Numbers, over: Array, drive: Drive, like: Array) -> Array:
    """Share of the photons that leave the anode: Ebel 1999, eqs. 4-5, with the mean depth of Love & Scott 1978."""
    xp = array_namespace(like)
    number, voltage = atomic_number(tube.anode), drive.voltage_kv
    mean_ionisation = 0.0135 * number
    backscatter = _backscatter(number, voltage)
    deepest = (
        atomic_weight(tube.anode) / number * (0.787e-5 * mean_ionisation**0.5 * voltage**1.5 + 0.735e-6 * voltage**2)
    )
    log = xp.log(over)
    shape = (0.49269 - 1.0987 * backscatter + 0.78557 * backscatter**2) * log
    depth = deepest * shape / (0.70256 - 1.09865 * backscatter + 1.0046 * backscatter**2 + log)
    radian = np.pi / 180.0
    sine_in, sine_out = (_sine(angle * radian, like) for angle in (drive.electron_angle_deg, drive.takeoff_angle_deg))
    attenuation = _as(mass_attenuation(tube.anode, energy), like)
    if tube.target_um is None:
        return _mean_transmission(2.0 * attenuation * depth * sine_in / sine_out)
    # X-rays leave a foil on the far side; electrons that pass through it produce fewer of them
    deep, foil = 2.0 * depth * sine_in, xraylib.ElementDensity(number) * tube.target_um * CM_PER_UM
    depth_um = xp.clip(deep, max=foil)
    beyond = xp.exp(-attenuation * (foil - depth_um) / sine_out)
    return beyond * _mean_transmission(attenuation * depth_um / sine_out) * depth_um / deep


def _mean_transmission(optical: Array) -> Array:
    """Return the mean over depths that are equally likely."""
    xp = array_namespace(optical)
    return xp.where(optical > 1e-9, -xp.expm1(-optical) / xp.clip(optical, min=1e-9), 1.0)


def _backscatter(number: int, voltage: Any) -> Any:
    log = np.log(number)
    power = 0.1382 - 0.9211 / np.sqrt(number)
    return voltage**power * (0.1904 - 0.2236 * log + 0.1292 * log**2 - 0.0149 * log**3)


def _line_photons(anode: str, lines: NDArray[np.int64], edge: Numbers, over: Array, drive: Drive, like: Array) -> Array:
    """Ebel 1999, eqs. 6-9 and Ebel 2003, eq. 4: photons / (s sr mA) of the anode's lines; zero for other entries."""
    xp = array_namespace(like)
    number = atomic_number(anode)
    strength, electrons, factor = np.zeros(lines.size), np.ones(lines.size), np.ones(lines.size)
    table = line_table([anode])
    for entry in np.flatnonzero(lines >= 0):
        line = int(lines[entry])
        shell = SHELLS[int(table.shell[line])]
        fluorescence = float(xraylib.FluorYield(number, int(table.shell[line]))) * float(table.rate[line])
        strength[entry] = _shell_constant(shell, number) * fluorescence
        electrons[entry], factor[entry] = (2.0, 0.35) if shell == "K" else (8.0, 0.25)
    # stopping power factor and backscatter, eqs. 7-8
    base = over * xp.log(over) + 1.0 - over
    slowing = (xp.sqrt(over) * xp.log(over) + 2.0 * (1.0 - xp.sqrt(over))) / base
    slowing = 1.0 + 16.05 * _as(np.sqrt(0.0135 * number / edge), like) * slowing
    inverse_stopping = _as(electrons * factor / number, like) * base * slowing
    reflected = 1.0 - 0.0081517 * number + 3.613e-5 * number**2 + 0.009583 * number * xp.exp(-over)
    reflected = reflected + 0.001141 * drive.voltage_kv
    return _as(strength, like) * inverse_stopping * reflected


def _shell_constant(shell: str, number: int) -> float:
    """Return the constant of a shell's lines; Ebel 2003 corrects only L1 and L2, and only below Z = 80."""
    if shell in {"K", "L3"} or number >= 80:
        return LINE_CONSTANTS[shell]
    return LINE_CONSTANTS[shell] * (-0.4814 + 0.03781 * number - 2.413e-4 * number**2)


def _edge(anode: str, line: int) -> float:
    return edge_energy(atomic_number(anode), int(line_table([anode]).shell[line]))


def _check(drive: Drive) -> None:
    """Check the limits of ``Tube``, ``Filter`` and ``Geometry``, which an optimiser may leave."""
    path = np.finfo(np.float64).max
    limits = {"voltage_kv": (5.0, 100.0), "electron_angle_deg": (1e-3, 90.0), "takeoff_angle_deg": (1e-3, 90.0)}
    for name in Drive.__dataclass_fields__:
        low, high = limits.get(name, (0.0, path))
        for value in drive.filters_um if name == "filters_um" else (getattr(drive, name),):
            plain = value.item() if hasattr(value, "item") else value
            if not low <= plain <= high:
                allowed = f"from {low:g} to {high:g}" if name in limits else "zero or more"
                raise InstrumentError(f"Cannot drive the source with {name} = {plain:g}; give a number {allowed}.")


def _depth(fractions: dict[str, float], density: float, energy: Numbers, like: Array) -> Array:
    """Return the optical depth of a um of a material."""
    return _as(compound_attenuation(fractions, energy) * density * CM_PER_UM, like)


def _sine(radian: Any, like: Array) -> Any:
    return array_namespace(like).sin(_as(radian, like))


def _as(values: Any, like: Array) -> Array:
    return values if is_torch_array(values) else as_array(values, like)


def _tensor_of(drive: Drive) -> Array:
    values = (*drive.filters_um, *(getattr(drive, name) for name in Drive.__dataclass_fields__))
    return next((value for value in values if is_torch_array(value)), np.asarray(0.0))
