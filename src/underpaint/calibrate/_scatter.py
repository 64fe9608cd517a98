"""What a tube's light, scattered by simple samples, looks like above the pigments' lines, and how well it fits."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import nnls

from underpaint.calibrate._patterns import line_groups
from underpaint.calibrate._pile_up import pile_up_shape
from underpaint.calibrate._refine import Response
from underpaint.forward import ORDERS, SCATTER, Detail, Emission, efficiency, emit, render, source_spectrum
from underpaint.instrument import Detector, Geometry, Instrument, SourceSpectrum, Tube
from underpaint.sample import Stratigraphy, ground_layer, support_layer
from underpaint.spectrum.axis import EnergyAxis
from underpaint.spectrum.peaks import peak_counts

Array = NDArray[np.float64]

LOWEST_KEV = 14.0
"""Below, paintings have too many lines."""
SHARP = ("Sr_K", "Zr_K", "Nb_K", "Mo_K", "Ag_K", "Cd_K", "Sn_K", "Sb_K", "Ba_K")
"""Families of pigments and metals that may shine among the scatter."""
THICKNESSES_UM = (300.0, 1000.0)
"""Crystals between which a detector's lies."""
_BIN_KEV = 0.1
_MODEL_ERROR = 0.015
_LEAST_BINS, _LEAST_RANGE_KEV = 25, 4.0


@dataclass(frozen=True)
class UpperPart:
    """The part of a spectrum above the pigments' lines, in bins of about 0.1 keV.

    Parameters
    ----------
    axis : EnergyAxis
        Of the n_bin bins.
    counts, deviation : (n_bin,) arrays
        Counts, and one standard deviation, model error included.
    pile_up : (n_bin,) array
        Shape of what two photons at once leave there.
    response : Response
        Axis and resolution of the whole spectrum.
    """

    axis: EnergyAxis
    counts: Array
    deviation: Array
    pile_up: Array
    response: Response


@dataclass(frozen=True)
class Lamp:
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


def upper_part(counts: Array, response: Response) -> UpperPart | None:
    """Return the part of a sum spectrum above ``LOWEST_KEV``, None where too little of it was recorded."""
    axis = response.axis(counts.size)
    group = max(round(_BIN_KEV / axis.gain_kev), 1)
    first = max(int(np.ceil(axis.channel(LOWEST_KEV - 1.0))), 0)
    n_bin = (counts.size - first) // group
    if n_bin < _LEAST_BINS or axis.stop_kev < LOWEST_KEV + _LEAST_RANGE_KEV:
        return None
    upper = slice(first, first + n_bin * group)
    own, piled = (part[upper].reshape(n_bin, group).sum(axis=1) for part in (counts, pile_up_shape(counts, axis)))
    gain = axis.gain_kev * group
    zero = axis.energy_kev[first] + 0.5 * (group - 1) * axis.gain_kev
    smooth = gaussian_filter1d(own, 1.5)
    deviation = np.sqrt(np.maximum(smooth, 1.0) + (_MODEL_ERROR * smooth) ** 2)
    return UpperPart(EnergyAxis(gain, float(zero), n_bin), own, deviation, piled, response)


def misfit_of(data: UpperPart, lamp: Lamp, from_kev: float, to_kev: float = np.inf) -> float:
    """Return chi squared of the best mixture of what simple samples scatter, lines and pile-up, in a range."""
    return _misfit(data, lamp, _lines(data, lamp), SHARP, (from_kev, to_kev))


def misfits_without(data: UpperPart, lamp: Lamp, from_kev: float, to_kev: float) -> tuple[float, float]:
    """Return chi squared without the tube's Rayleigh lines (or fluorescence in their place), and without Compton's."""
    lines = _lines(data, lamp)
    others = tuple(family for family in SHARP if family != f"{lamp.anode}_K")
    coherent, shifted = lines[: len(lines) // 2], lines[len(lines) // 2 :]
    between = (from_kev, to_kev)
    return _misfit(data, lamp, shifted, others, between), _misfit(data, lamp, coherent, SHARP, between)


def _misfit(
    data: UpperPart, lamp: Lamp, lines: Sequence[Array], sharp: Sequence[str], between_kev: tuple[float, float]
) -> float:
    used = (data.axis.energy_kev > between_kev[0]) & (data.axis.energy_kev < between_kev[1])
    fluorescence = _fluorescence(data, lamp.voltage_kv, sharp)
    columns = np.column_stack([*_continuum(data, lamp), *lines, *fluorescence, data.pile_up])
    weighted = (columns / data.deviation[:, None])[used]
    scale = np.sqrt((weighted**2).sum(axis=0))
    seen = scale > 0
    if not used.any() or not seen.any():
        # scipy's solver ends the process on empty arrays
        return float(np.sum((data.counts / data.deviation)[used] ** 2))
    target = (data.counts / data.deviation)[used]
    return float(nnls(weighted[:, seen] / scale[seen], target, maxiter=100 * int(seen.sum()))[1] ** 2)


def _fluorescence(data: UpperPart, voltage_kv: float, families: Sequence[str]) -> list[Array]:
    return [
        peak_counts(data.axis, group.energy_kev, group.share / group.strength, data.response.fwhm_kev(group.energy_kev))
        for family in families
        for group in line_groups(family, voltage_kv)
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


def _continuum(data: UpperPart, lamp: Lamp) -> tuple[Array, ...]:
    """Return scattered continuum, coherent and shifted apart, for each sample and crystal."""
    return _kept_continuum(lamp, data.response.noise_fwhm_kev, data.response.fano, data.axis)


def _lines(data: UpperPart, lamp: Lamp) -> tuple[Array, ...]:
    """Return the tube's lines, coherent and shifted apart, for each sample."""
    return _kept_lines(lamp, data.response.noise_fwhm_kev, data.response.fano, data.axis)


@lru_cache(maxsize=128)
def _kept_continuum(lamp: Lamp, noise_fwhm_kev: float, fano: float, axis: EnergyAxis) -> tuple[Array, ...]:
    detector = Detector(noise_fwhm_kev=noise_fwhm_kev, fano=fano)
    coherent, shifted = _rendered(tube_of(lamp), detector, axis, lines=False)
    lines = _kept_lines(lamp, noise_fwhm_kev, fano, axis)
    if lines:
        shifted = np.maximum(shifted - np.asarray(lines[len(lines) // 2 :]), 0.0)
    crystals = _crystals(detector, axis)
    return tuple(row for part in (coherent, shifted) for crystal in crystals for row in part * crystal)


@lru_cache(maxsize=128)
def _kept_lines(lamp: Lamp, noise_fwhm_kev: float, fano: float, axis: EnergyAxis) -> tuple[Array, ...]:
    source = line_source(tube_of(lamp))
    if source is None:
        return ()
    detector = Detector(noise_fwhm_kev=noise_fwhm_kev, fano=fano)
    return tuple(row for part in _rendered(source, detector, axis, lines=True) for row in part)


def _crystals(detector: Detector, axis: EnergyAxis) -> list[Array]:
    """Return the efficiency of thin and thick crystals over the usual one's."""
    usual = efficiency(detector, axis.energy_kev)
    others = [detector.model_copy(update={"thickness_um": own}) for own in THICKNESSES_UM]
    return [efficiency(own, axis.energy_kev) / np.maximum(usual, 1e-12) for own in others]


def tube_of(lamp: Lamp) -> Instrument:
    """Return an unfiltered tube that looks at the sample under a scattering angle."""
    half = min(0.5 * lamp.angle_deg, 90.0)
    geometry = Geometry(incidence_angle_deg=half, takeoff_angle_deg=half, scatter_angle_deg=lamp.angle_deg)
    return Instrument(tube=Tube(anode=lamp.anode, voltage_kv=lamp.voltage_kv), geometry=geometry)


def line_source(tube: Instrument) -> Instrument | None:
    """Return a source of the tube's lines alone, None where the voltage excites none."""
    energy, weight, width = source_spectrum(tube)
    line = width == 0
    if not line.any():
        return None
    source = SourceSpectrum(energy_kev=tuple(energy[line]), weight=tuple(weight[line]))
    geometry = tube.geometry.model_copy(update={"source_air_cm": 0.0})
    return tube.model_copy(update={"source_spectrum": source, "geometry": geometry})


def _rendered(source: Instrument, detector: Detector, axis: EnergyAxis, *, lines: bool) -> list[Array]:
    """Return Rayleigh scatter (of lines or of the continuum) and all that is shifted, (n_sample, n_bin) each."""
    emission = emit(simple_samples(), source, detail=Detail(orders=1))
    none = {name: 0.0 * getattr(emission, name) for name in (*ORDERS, *SCATTER)}
    coherent = none | {"coherent": emission.coherent * ((emission.width_kev == 0) == lines)}
    shifted = none | {"compton": emission.compton, "multiple": emission.multiple}
    parts = [_with(emission, own) for own in (coherent, shifted)]
    return [np.asarray(render(part, detector, axis), dtype=np.float64) for part in parts]


def _with(emission: Emission, photons: dict[str, Any]) -> Emission:
    return replace(emission, **photons)
