"""Scatter of a tube's radiation by simple samples above the pigments' lines, and its misfit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import nnls

from underpaint.calibrate._anode import ANODES
from underpaint.calibrate._patterns import line_groups
from underpaint.calibrate._refine import Response
from underpaint.data.axis import EnergyAxis
from underpaint.data.peaks import peak_counts
from underpaint.data.pile_up import pile_up_shape, self_convolution
from underpaint.physics.forward import (
    ORDERS,
    SCATTER,
    Detail,
    Emission,
    Setting,
    efficiency,
    render,
    setting_for,
    source_spectrum,
    stack_layers,
    transport,
)
from underpaint.physics.forward.setting import directed_scatter
from underpaint.physics.forward.stack import cut_thick
from underpaint.physics.instrument import Detector, Geometry, Instrument, SourceSpectrum, Tube
from underpaint.physics.materials import Stratigraphy, ground_layer, support_layer

Array = NDArray[np.float64]

_HIGHEST_KV = (42.0, 54.0, 66.0)
"""A tube is modelled among all those up to the next of these voltages, and none above."""
LOWEST_KEV = 14.0
"""Paintings have too many lines below this energy."""
SHARP = ("Sr_K", "Zr_K", "Nb_K", "Mo_K", "Ag_K", "Cd_K", "Sn_K", "Sb_K", "Ba_K", "Hg_L", "Pb_L", "Bi_L")
"""Families of pigments and metals that may shine among the scatter; of L families the last lines do."""
THICKNESSES_UM = (300.0, 1000.0)
"""Range of crystal thicknesses of detectors."""
_ANY_ANGLE_DEG = 120.0
_BIN_KEV = 0.1
_FILTER_KEV = 16.0
"""A filter lets through 1/e there."""
_SOFTEST_KEV = LOWEST_KEV - 2.0
_MODEL_ERROR = 0.015
_MIN_BINS, _MIN_RANGE_KEV = 25, 4.0


@dataclass(frozen=True)
class UpperPart:
    """The part of a spectrum above the pigments' lines, in bins of about 0.1 keV.

    Parameters
    ----------
    axis : EnergyAxis
        Of the n_bin bins.
    counts, deviation : (n_bin,) arrays
        Counts, and one standard deviation, model error included.
    pile_up : (n_bin, 2) array
        Limiting shapes of pile-up.
    response : Response
        Axis and resolution of the full spectrum.
    """

    axis: EnergyAxis
    counts: Array
    deviation: Array
    pile_up: Array
    response: Response


@dataclass(frozen=True)
class ScatterReference:
    """A tube, and the angle through which its light was scattered.

    Parameters
    ----------
    anode : str
        Element symbol.
    angle_deg, voltage_kv : float
        Degree, kV.
    """

    anode: str
    angle_deg: float
    voltage_kv: float


def upper_part(counts: Array, response: Response, folds: tuple[Array, Array] | None = None) -> UpperPart | None:
    """Return the part of a sum spectrum above ``LOWEST_KEV``; None if too little of it was recorded."""
    axis = response.axis(counts.size)
    group = max(round(_BIN_KEV / axis.gain_kev), 1)
    first = max(int(np.ceil(axis.channel(LOWEST_KEV - 1.0))), 0)
    n_bin = (counts.size - first) // group
    if n_bin < _MIN_BINS or axis.stop_kev < LOWEST_KEV + _MIN_RANGE_KEV:
        return None
    upper = slice(first, first + n_bin * group)
    piling = pile_up_shape(self_convolution(counts[None, :]) if folds is None else folds, axis)
    counts_upper, *piled = (part[upper].reshape(n_bin, group).sum(axis=1) for part in (counts, *piling))
    gain = axis.gain_kev * group
    zero = axis.energy_kev[first] + 0.5 * (group - 1) * axis.gain_kev
    smooth = gaussian_filter1d(counts_upper, 1.5)
    deviation = np.sqrt(np.maximum(smooth, 1.0) + (_MODEL_ERROR * smooth) ** 2)
    return UpperPart(EnergyAxis(gain, float(zero), n_bin), counts_upper, deviation, np.column_stack(piled), response)


def misfit_of(data: UpperPart, reference: ScatterReference, from_kev: float, to_kev: float = np.inf) -> float:
    """Return chi squared of the best mixture of scatter of simple samples, lines and pile-up, in a range."""
    return _misfit(data, reference, _lines(data, reference), SHARP, (from_kev, to_kev))


def misfits_without(
    data: UpperPart, reference: ScatterReference, from_kev: float, to_kev: float
) -> tuple[float, float]:
    """Return chi squared without the tube's Rayleigh lines (or fluorescence in their place), and without Compton's."""
    lines = _lines(data, reference)
    other_families = tuple(family for family in SHARP if family != f"{reference.anode}_K")
    coherent, shifted = lines[: len(lines) // 2], lines[len(lines) // 2 :]
    between = (from_kev, to_kev)
    return _misfit(data, reference, shifted, other_families, between), _misfit(
        data, reference, coherent, SHARP, between
    )


def _misfit(
    data: UpperPart,
    reference: ScatterReference,
    lines: Sequence[Array],
    sharp: tuple[str, ...],
    between_kev: tuple[float, float],
) -> float:
    used = (data.axis.energy_kev > between_kev[0]) & (data.axis.energy_kev < between_kev[1])
    fluorescence = _fluorescence(data.axis, data.response, reference.voltage_kv, sharp)
    columns = np.column_stack([*_continuum(data, reference), *lines, *fluorescence, data.pile_up])
    weighted = (columns / data.deviation[:, None])[used]
    scale = np.sqrt((weighted**2).sum(axis=0))
    positive = scale > 0
    if not used.any() or not positive.any():
        # scipy's solver ends the process on empty arrays
        return float(np.sum((data.counts / data.deviation)[used] ** 2))
    target = (data.counts / data.deviation)[used]
    return float(nnls(weighted[:, positive] / scale[positive], target, maxiter=100 * int(positive.sum()))[1] ** 2)


@lru_cache(maxsize=8)
def _fluorescence(axis: EnergyAxis, response: Response, voltage_kv: float, families: tuple[str, ...]) -> list[Array]:
    groups = [group for family in families for group in line_groups(family, voltage_kv)]
    lines = [
        (
            np.append(line_group.energy_kev, line_group.satellite_kev),
            np.append(line_group.share, line_group.satellite_share),
        )
        for line_group in groups
    ]
    return [
        peak_counts(axis, energy, share / share.sum(), response.fwhm_kev(energy))
        for energy, share in lines
        if energy.max() > LOWEST_KEV - 1.0
    ]


@lru_cache(maxsize=1)
def simple_samples() -> tuple[Stratigraphy, ...]:
    """Return samples that span how paintings scatter: light, middle, heavy."""
    canvas = support_layer("canvas")
    return (
        Stratigraphy((canvas,)),
        Stratigraphy((ground_layer("chalk", 200.0), canvas)),
        Stratigraphy((ground_layer("lead_white", 100.0), canvas)),
    )


def _continuum(data: UpperPart, reference: ScatterReference) -> tuple[Array, ...]:
    """Return the scattered continuum, coherent and Compton separately, for each sample and crystal."""
    return _kept_continuum(reference, data.response.noise_fwhm_kev, data.response.fano, data.axis)


def _lines(data: UpperPart, reference: ScatterReference) -> tuple[Array, ...]:
    """Return the tube's lines, coherent and Compton separately, for each sample."""
    return _kept_lines(reference, data.response.noise_fwhm_kev, data.response.fano, data.axis)


@lru_cache(maxsize=128)
def _kept_continuum(
    reference: ScatterReference, noise_fwhm_kev: float, fano: float, axis: EnergyAxis
) -> tuple[Array, ...]:
    detector = Detector(noise_fwhm_kev=noise_fwhm_kev, fano=fano)
    crystals = _crystals(detector, axis)
    parts = _rendered(reference, detector, axis, lines=False)
    return tuple(row for part in parts for crystal in crystals for row in part * crystal)


@lru_cache(maxsize=128)
def _kept_lines(reference: ScatterReference, noise_fwhm_kev: float, fano: float, axis: EnergyAxis) -> tuple[Array, ...]:
    detector = Detector(noise_fwhm_kev=noise_fwhm_kev, fano=fano)
    return tuple(row for part in _rendered(reference, detector, axis, lines=True) for row in part if part.any())


@lru_cache(maxsize=8)
def _crystals(detector: Detector, axis: EnergyAxis) -> list[Array]:
    """Return the efficiency of thin and thick crystals, and of one behind a filter, relative to the usual one."""
    usual = efficiency(detector, axis.energy_kev)
    efficiencies = [
        efficiency(detector.model_copy(update={"thickness_um": thickness_um}), axis.energy_kev)
        for thickness_um in THICKNESSES_UM
    ]
    # absorbers before, in or behind the sample absorb about with the cube of the wavelength
    filtered = efficiencies[-1] * np.exp(-((_FILTER_KEV / np.maximum(axis.energy_kev, 1.0)) ** 3))
    return [values / np.maximum(usual, 1e-12) for values in (*efficiencies, filtered)]


def tube_of(reference: ScatterReference) -> Instrument:
    """Return an unfiltered tube with a scattering angle."""
    half = min(0.5 * reference.angle_deg, 90.0)
    geometry = Geometry(incidence_angle_deg=half, takeoff_angle_deg=half, scatter_angle_deg=reference.angle_deg)
    return Instrument(tube=Tube(anode=reference.anode, voltage_kv=reference.voltage_kv), geometry=geometry)


def _rendered(reference: ScatterReference, detector: Detector, axis: EnergyAxis, *, lines: bool) -> list[Array]:
    """Return Rayleigh scatter (of the tube's lines or of its continuum) and all that is shifted, (n_sample, n_bin)."""
    emission = _scattered(reference, lines=lines)
    none = {name: 0.0 * np.concatenate([getattr(emission, name)] * 2) for name in (*ORDERS, *SCATTER)}
    dark, shifted = 0.0 * emission.coherent, emission.compton + emission.multiple
    settings: dict[str, Any] = {
        "coherent": np.concatenate([emission.coherent, dark]),
        "compton": np.concatenate([0.0 * shifted, shifted]),
    }
    rendered = np.asarray(render(replace(emission, **none | settings), detector, axis), dtype=np.float64)
    return np.split(rendered, 2)


def _scattered(reference: ScatterReference, *, lines: bool) -> Emission:
    """Return the scatter of a tube's lines, or of its continuum, by the simple samples.

    The cross sections at an angle are the same for all tubes; only the incident spectrum differs.
    """
    highest_kv = (
        _HIGHEST_KV[-1] if lines else next(limit_kv for limit_kv in _HIGHEST_KV if limit_kv >= reference.voltage_kv)
    )
    setting = _setting_at(reference.angle_deg, lines, highest_kv)
    energy, weight, width = _light(reference.anode, reference.voltage_kv)
    ours = ((width == 0) == lines) & (energy > _SOFTEST_KEV)
    nearest = np.abs(energy[ours][:, None] - setting.source_kev).argmin(axis=1)
    falling = np.zeros(setting.source_kev.size)
    np.add.at(falling, nearest, weight[ours])
    stack = stack_layers(cut_thick(simple_samples()).stratigraphies, setting.elements)
    return transport(stack, replace(setting, weight=falling), detail=Detail(orders=1))


@lru_cache(maxsize=128)
def _light(anode: str, voltage_kv: float) -> tuple[Array, Array, Array]:
    """Return energies, photons and widths of a tube's spectrum."""
    return source_spectrum(tube_of(ScatterReference(anode, _ANY_ANGLE_DEG, voltage_kv)))


@lru_cache(maxsize=8)
def _setting_at(angle_deg: float, lines: bool, highest_kv: float) -> Setting:
    """Return the setting of a source with the lines of every anode, or the bins of any continuum, at an angle."""
    setting, geometry = (
        _any_setting(lines, highest_kv),
        tube_of(ScatterReference(ANODES[0], angle_deg, highest_kv)).geometry,
    )
    return replace(
        setting,
        scatter=directed_scatter(setting.elements, setting.source_kev, geometry),
        sin_in=np.sin(np.radians(geometry.incidence_angle_deg)),
        sin_out=np.sin(np.radians(geometry.takeoff_angle_deg)),
    )


@lru_cache(maxsize=8)
def _any_setting(lines: bool, highest_kv: float) -> Setting:
    """Return the setting at an arbitrary angle, for values that do not depend on it; scatter from air is not used."""
    tubes = [tube_of(ScatterReference(anode, _ANY_ANGLE_DEG, highest_kv)) for anode in ANODES]
    entries = {(energy, width) for tube in tubes for energy, _, width in zip(*source_spectrum(tube), strict=True)}
    # photons gain no energy by scatter: softer ones never enter the range
    used = sorted((energy, width) for energy, width in entries if energy > _SOFTEST_KEV and (width == 0) == lines)
    energy, width = zip(*used, strict=True)
    source = SourceSpectrum(energy_kev=energy, weight=(1.0,) * len(energy), width_kev=width)
    geometry = tubes[0].geometry.model_copy(update={"source_air_cm": 0.0})
    instrument = tubes[0].model_copy(update={"source_spectrum": source, "geometry": geometry})
    return setting_for(
        instrument, {name for sample in simple_samples() for layer in sample.layers for name in layer.mass_fractions}
    )
