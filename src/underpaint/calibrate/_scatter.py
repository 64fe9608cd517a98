"""Model of scattered tube radiation above the lines of pigments, and chi squared of its fit to a spectrum."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

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
    Setting,
    efficiency,
    response_matrix,
    scatter_per_photon,
    setting_for,
    source_spectrum,
    stack_layers,
)
from underpaint.physics.forward.setting import directional_scatter
from underpaint.physics.forward.stack import split_thick_layers
from underpaint.physics.instrument import Detector, Geometry, Instrument, SourceSpectrum, Tube
from underpaint.physics.materials import Stratigraphy, ground_layer, support_layer

Array = NDArray[np.float64]

_VOLTAGE_LIMITS_KV = (42.0, 54.0, 66.0)
"""Upper limits of voltage ranges, in kV. Tubes within one range share a grid of photon energies."""
MIN_SCATTER_KEV = 14.0
"""Lowest fitted energy, in keV. Spectra of paintings have too many lines at lower energies."""
SHARP_LINE_FAMILIES = ("Sr_K", "Zr_K", "Nb_K", "Mo_K", "Ag_K", "Cd_K", "Sn_K", "Sb_K", "Ba_K", "Hg_L", "Pb_L", "Bi_L")
"""Line families of pigments and metals that have lines above 14 keV, such as the highest lines of lead's L family."""
CRYSTAL_THICKNESSES_UM = (300.0, 1000.0)
"""Smallest and largest thickness of detector crystals, in um."""
_ARBITRARY_ANGLE_DEG = 120.0
_BIN_WIDTH_KEV = 0.1
_FILTER_CUTOFF_KEV = 16.0
"""Energy at which the modelled filter transmits 1/e of the photons, in keV."""
_MIN_PHOTON_KEV = MIN_SCATTER_KEV - 2.0
_RELATIVE_MODEL_ERROR = 0.015
_MIN_BINS, _MIN_RANGE_KEV = 25, 4.0


@dataclass(frozen=True)
class UpperSpectrum:
    """The part of a spectrum above the lines of pigments, in bins of about 0.1 keV.

    Parameters
    ----------
    axis : EnergyAxis
        Energy axis whose channels are the bins.
    counts, deviation : (n_bin,) arrays
        Counts per bin, and their standard deviation including the model error.
    pile_up : (n_bin, 2) array
        Shapes of the pile-up spectrum at low and at high pile-up probability.
    response : Response
        Energy axis and resolution of the whole spectrum.
    """

    axis: EnergyAxis
    counts: Array
    deviation: Array
    pile_up: Array
    response: Response


@dataclass(frozen=True)
class ScatterReference:
    """Anode and voltage of a tube, and a scattering angle.

    Parameters
    ----------
    anode : str
        Element symbol.
    angle_deg : float
        Scattering angle in degrees.
    voltage_kv : float
        Tube voltage in kV.
    """

    anode: str
    angle_deg: float
    voltage_kv: float


def cut_upper_spectrum(
    counts: Array, response: Response, convolutions: tuple[Array, Array] | None = None
) -> UpperSpectrum | None:
    """Return the part of a sum spectrum from 1 keV below ``MIN_SCATTER_KEV``, or None if this part is too short."""
    axis = response.axis(counts.size)
    channels_per_bin = max(round(_BIN_WIDTH_KEV / axis.gain_kev), 1)
    first_channel = max(int(np.ceil(axis.channel(MIN_SCATTER_KEV - 1.0))), 0)
    n_bin = (counts.size - first_channel) // channels_per_bin
    if n_bin < _MIN_BINS or axis.stop_kev < MIN_SCATTER_KEV + _MIN_RANGE_KEV:
        return None
    used_channels = slice(first_channel, first_channel + n_bin * channels_per_bin)
    pile_up_shapes = pile_up_shape(self_convolution(counts[None, :]) if convolutions is None else convolutions, axis)
    bin_counts, *binned_pile_up = (
        channel_values[used_channels].reshape(n_bin, channels_per_bin).sum(axis=1)
        for channel_values in (counts, *pile_up_shapes)
    )
    bin_width_kev = axis.gain_kev * channels_per_bin
    first_bin_kev = axis.energy_kev[first_channel] + 0.5 * (channels_per_bin - 1) * axis.gain_kev
    smoothed_counts = gaussian_filter1d(bin_counts, 1.5)
    deviation = np.sqrt(np.maximum(smoothed_counts, 1.0) + (_RELATIVE_MODEL_ERROR * smoothed_counts) ** 2)
    return UpperSpectrum(
        EnergyAxis(bin_width_kev, float(first_bin_kev), n_bin),
        bin_counts,
        deviation,
        np.column_stack(binned_pile_up),
        response,
    )


def scatter_misfit(
    upper_spectrum: UpperSpectrum, reference: ScatterReference, min_kev: float, max_kev: float = np.inf
) -> float:
    """Fit scatter, fluorescence lines and pile-up to a range of energies, and return chi squared."""
    return _misfit(
        upper_spectrum, reference, _scattered_lines(upper_spectrum, reference), SHARP_LINE_FAMILIES, (min_kev, max_kev)
    )


def misfits_without_lines(
    upper_spectrum: UpperSpectrum, reference: ScatterReference, min_kev: float, max_kev: float
) -> tuple[float, float]:
    """Return chi squared of two fits: one without the tube's Rayleigh lines, and one without its Compton lines.

    The fit without Rayleigh lines also leaves out fluorescence lines of the anode's element.
    """
    scattered_lines = _scattered_lines(upper_spectrum, reference)
    other_families = tuple(family for family in SHARP_LINE_FAMILIES if family != f"{reference.anode}_K")
    rayleigh_lines, compton_lines = (
        scattered_lines[: len(scattered_lines) // 2],
        scattered_lines[len(scattered_lines) // 2 :],
    )
    range_kev = (min_kev, max_kev)
    return _misfit(upper_spectrum, reference, compton_lines, other_families, range_kev), _misfit(
        upper_spectrum, reference, rayleigh_lines, SHARP_LINE_FAMILIES, range_kev
    )


def _misfit(
    upper_spectrum: UpperSpectrum,
    reference: ScatterReference,
    scattered_lines: Sequence[Array],
    families: tuple[str, ...],
    range_kev: tuple[float, float],
) -> float:
    is_fitted = (upper_spectrum.axis.energy_kev > range_kev[0]) & (upper_spectrum.axis.energy_kev < range_kev[1])
    fluorescence = _fluorescence_spectra(upper_spectrum.axis, upper_spectrum.response, reference.voltage_kv, families)
    components = np.column_stack(
        [*_scattered_continuum(upper_spectrum, reference), *scattered_lines, *fluorescence, upper_spectrum.pile_up]
    )
    weighted_components = (components / upper_spectrum.deviation[:, None])[is_fitted]
    column_norms = np.sqrt((weighted_components**2).sum(axis=0))
    is_component_used = column_norms > 0
    if not is_fitted.any() or not is_component_used.any():
        # with empty arrays, SciPy's solver crashes the process
        return float(np.sum((upper_spectrum.counts / upper_spectrum.deviation)[is_fitted] ** 2))
    counts_in_sigmas = (upper_spectrum.counts / upper_spectrum.deviation)[is_fitted]
    return float(
        nnls(
            weighted_components[:, is_component_used] / column_norms[is_component_used],
            counts_in_sigmas,
            maxiter=100 * int(is_component_used.sum()),
        )[1]
        ** 2
    )


@lru_cache(maxsize=8)
def _fluorescence_spectra(
    axis: EnergyAxis, response: Response, voltage_kv: float, families: tuple[str, ...]
) -> list[Array]:
    fluorescence_groups = [group for family in families for group in line_groups(family, voltage_kv)]
    line_arrays = [
        (
            np.append(line_group.energy_kev, line_group.satellite_kev),
            np.append(line_group.photon_fraction, line_group.satellite_fraction),
        )
        for line_group in fluorescence_groups
    ]
    return [
        peak_counts(axis, energy_kev, photon_fraction / photon_fraction.sum(), response.fwhm_kev(energy_kev))
        for energy_kev, photon_fraction in line_arrays
        if energy_kev.max() > MIN_SCATTER_KEV - 1.0
    ]


@lru_cache(maxsize=1)
def simple_samples() -> tuple[Stratigraphy, ...]:
    """Return three samples with weak, medium and strong attenuation.

    Mixtures of their scatter approximate the scatter of paintings.
    """
    canvas = support_layer("canvas")
    return (
        Stratigraphy((canvas,)),
        Stratigraphy((ground_layer("chalk", 200.0), canvas)),
        Stratigraphy((ground_layer("lead_white", 100.0), canvas)),
    )


def _scattered_continuum(upper_spectrum: UpperSpectrum, reference: ScatterReference) -> tuple[Array, ...]:
    """Return the Rayleigh- and the Compton-scattered continuum for each sample and detector crystal."""
    return _cached_continuum(
        reference, upper_spectrum.response.noise_fwhm_kev, upper_spectrum.response.fano, upper_spectrum.axis
    )


def _scattered_lines(upper_spectrum: UpperSpectrum, reference: ScatterReference) -> tuple[Array, ...]:
    """Return the Rayleigh- and the Compton-scattered tube lines for each sample."""
    return _cached_lines(
        reference, upper_spectrum.response.noise_fwhm_kev, upper_spectrum.response.fano, upper_spectrum.axis
    )


@lru_cache(maxsize=128)
def _cached_continuum(
    reference: ScatterReference, noise_fwhm_kev: float, fano: float, axis: EnergyAxis
) -> tuple[Array, ...]:
    detector = Detector(noise_fwhm_kev=noise_fwhm_kev, fano=fano)
    efficiencies = _relative_efficiencies(detector, axis)
    spectra = _render_scatter(reference, detector, axis, for_lines=False)
    return tuple(
        spectrum
        for scatter_spectra in spectra
        for relative_efficiency in efficiencies
        for spectrum in scatter_spectra * relative_efficiency
    )


@lru_cache(maxsize=128)
def _cached_lines(
    reference: ScatterReference, noise_fwhm_kev: float, fano: float, axis: EnergyAxis
) -> tuple[Array, ...]:
    detector = Detector(noise_fwhm_kev=noise_fwhm_kev, fano=fano)
    return tuple(
        spectrum
        for scatter_spectra in _render_scatter(reference, detector, axis, for_lines=True)
        for spectrum in scatter_spectra
        if scatter_spectra.any()
    )


@lru_cache(maxsize=8)
def _relative_efficiencies(detector: Detector, axis: EnergyAxis) -> list[Array]:
    """Return efficiencies of a thin, a thick, and a thick filtered crystal, relative to the default detector."""
    default_efficiency = efficiency(detector, axis.energy_kev)
    efficiencies = [
        efficiency(detector.model_copy(update={"thickness_um": thickness_um}), axis.energy_kev)
        for thickness_um in CRYSTAL_THICKNESSES_UM
    ]
    # attenuation is about proportional to the cube of the wavelength
    filtered_efficiency = efficiencies[-1] * np.exp(-((_FILTER_CUTOFF_KEV / np.maximum(axis.energy_kev, 1.0)) ** 3))
    return [
        crystal_efficiency / np.maximum(default_efficiency, 1e-12)
        for crystal_efficiency in (*efficiencies, filtered_efficiency)
    ]


def tube_instrument(reference: ScatterReference) -> Instrument:
    """Return an instrument without filter that has the anode, voltage and scattering angle of ``reference``."""
    half_angle_deg = min(0.5 * reference.angle_deg, 90.0)
    geometry = Geometry(
        incidence_angle_deg=half_angle_deg, takeoff_angle_deg=half_angle_deg, scatter_angle_deg=reference.angle_deg
    )
    return Instrument(tube=Tube(anode=reference.anode, voltage_kv=reference.voltage_kv), geometry=geometry)


def _render_scatter(
    reference: ScatterReference, detector: Detector, axis: EnergyAxis, *, for_lines: bool
) -> list[Array]:
    """Return Rayleigh and Compton scatter of the tube's lines or its continuum: two (n_sample, n_bin) arrays.

    At one angle, all tubes share the cross sections. Only the incident spectra of the tubes differ.
    """
    max_voltage_kv = (
        _VOLTAGE_LIMITS_KV[-1]
        if for_lines
        else next(
            voltage_limit_kv for voltage_limit_kv in _VOLTAGE_LIMITS_KV if voltage_limit_kv >= reference.voltage_kv
        )
    )
    forward_setting, coherent_per_photon, compton_per_photon = _scatter_at(
        reference.angle_deg, for_lines, max_voltage_kv
    )
    energy_kev, tube_photons, width_kev = _tube_spectrum(reference.anode, reference.voltage_kv)
    is_used_bin = ((width_kev == 0) == for_lines) & (energy_kev > _MIN_PHOTON_KEV)
    nearest_source_index = np.abs(energy_kev[is_used_bin][:, None] - forward_setting.source_kev).argmin(axis=1)
    incident_photons = np.zeros(forward_setting.source_kev.size)
    np.add.at(incident_photons, nearest_source_index, tube_photons[is_used_bin])
    compton_photons = sum(
        (photons * incident_photons) @ compton_distribution for photons, compton_distribution in compton_per_photon
    )
    return [
        photons @ _cached_response(detector, axis, tuple(energy_kev), tuple(width_kev))
        for photons, energy_kev, width_kev in (
            (coherent_per_photon * incident_photons, forward_setting.source_kev, forward_setting.width_kev),
            (compton_photons, forward_setting.grid_kev, forward_setting.grid_width_kev),
        )
    ]


@lru_cache(maxsize=8)
def _cached_response(
    detector: Detector, axis: EnergyAxis, energy_kev: tuple[float, ...], width_kev: tuple[float, ...]
) -> Array:
    return np.asarray(response_matrix(detector, axis, np.asarray(energy_kev), np.asarray(width_kev) / np.sqrt(12.0)))


@lru_cache(maxsize=128)
def _tube_spectrum(anode: str, voltage_kv: float) -> tuple[Array, Array, Array]:
    """Return a tube's spectrum: energies (keV), photons, and bin widths (keV)."""
    return source_spectrum(tube_instrument(ScatterReference(anode, _ARBITRARY_ANGLE_DEG, voltage_kv)))


@lru_cache(maxsize=8)
def _scatter_at(
    angle_deg: float, for_lines: bool, max_voltage_kv: float
) -> tuple[Setting, Array, list[tuple[Array, Array]]]:
    """Return the setting at a scattering angle, for a source with the lines, or the continuum bins, of all anodes.

    The second and third value are the Rayleigh and the Compton scatter by the simple samples, per source photon.
    """
    forward_setting, geometry = (
        _setting_at_any_angle(for_lines, max_voltage_kv),
        tube_instrument(ScatterReference(ANODES[0], angle_deg, max_voltage_kv)).geometry,
    )
    forward_setting = replace(
        forward_setting,
        scatter=directional_scatter(forward_setting.elements, forward_setting.source_kev, geometry),
        sin_incidence=np.sin(np.radians(geometry.incidence_angle_deg)),
        sin_takeoff=np.sin(np.radians(geometry.takeoff_angle_deg)),
    )
    layer_stack = stack_layers(split_thick_layers(simple_samples()).stratigraphies, forward_setting.elements)
    return forward_setting, *scatter_per_photon(layer_stack, forward_setting)


@lru_cache(maxsize=8)
def _setting_at_any_angle(for_lines: bool, max_voltage_kv: float) -> Setting:
    """Return a setting at an arbitrary angle, for reuse. ``_scatter_at`` replaces the angle-dependent values."""
    tube_instruments = [
        tube_instrument(ScatterReference(anode, _ARBITRARY_ANGLE_DEG, max_voltage_kv)) for anode in ANODES
    ]
    photon_bins = {
        (energy_kev, width_kev)
        for tube in tube_instruments
        for energy_kev, _, width_kev in zip(*source_spectrum(tube), strict=True)
    }
    # photons of lower energy are below the fitted range after scattering
    used_photon_bins = sorted(
        (energy_kev, width_kev)
        for energy_kev, width_kev in photon_bins
        if energy_kev > _MIN_PHOTON_KEV and (width_kev == 0) == for_lines
    )
    energy_kev, width_kev = zip(*used_photon_bins, strict=True)
    flat_source = SourceSpectrum(energy_kev=energy_kev, weight=(1.0,) * len(energy_kev), width_kev=width_kev)
    geometry = tube_instruments[0].geometry.model_copy(update={"source_air_cm": 0.0})
    instrument = tube_instruments[0].model_copy(update={"source_spectrum": flat_source, "geometry": geometry})
    return setting_for(
        instrument,
        {element for sample in simple_samples() for layer in sample.layers for element in layer.mass_fractions},
    )
