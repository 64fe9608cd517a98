"""Fit of a single spectrum, of a pixel or a region: families, scatter, background and residual."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Spectrum
from underpaint.elements._families import Template, family_template
from underpaint.elements.fit import FitChoice, check_names, choose_families
from underpaint.errors import CalibrationError, ScanError
from underpaint.physics.instrument import Instrument

Array = NDArray[np.float64]
DETECTION_LIMIT_SIGMAS = 3.0
"""Limit of detection, as a multiple of the standard deviation of an absent family's area (IUPAC 1978)."""
_MIN_TOTAL_COUNTS = 100


@dataclass(frozen=True)
class Family:
    """A line family in a spectrum.

    Parameters
    ----------
    area, sigma : float
        Net counts, summed over the family's lines, and the standard deviation of this sum.
    detection_limit : float
        Limit of detection, in net counts.
    counts : (n_channel,) array
        Fitted counts of the family; zero outside the fitted channels.
    hardness, hardness_sigma : float
        Logarithm of the ratio of the weaker lines to the strongest line, relative to random paint, and its standard
        deviation. Paint above the element changes the ratio, since paint absorbs low-energy lines more than high-energy
        lines. An absorption edge between the lines can reverse the change (lead's L-beta under vermilion). NaN for a
        family with a single peak.
    """

    area: float
    sigma: float
    detection_limit: float
    counts: Array
    hardness: float = np.nan
    hardness_sigma: float = np.nan

    @property
    def present(self) -> bool:
        """Whether the area exceeds both the limit of detection and three standard deviations."""
        return self.area > max(self.detection_limit, DETECTION_LIMIT_SIGMAS * self.sigma)


@dataclass(frozen=True)
class SpectrumFit:
    """A fitted spectrum and its components.

    Parameters
    ----------
    name : str
        Name of the spectrum.
    energy_kev, counts : (n_channel,) arrays
        Energies of the channels, in keV, and measured counts.
    fitted : (n_channel,) array
        Fitted counts; NaN outside the fitted channels.
    families : dict of str to Family
        Fitted families by name, such as ``Fe_K``.
    scatter, background : (n_channel,) arrays
        Fitted counts of the scattered source lines, and of the smooth background with sum peaks.
    sigma : (n_channel,) array
        Standard deviation of the residual, from counting statistics and model error.
    chi_square : float
        Mean of (residual / sigma)**2 over the fitted channels. Chi-square is about one or less if the model describes
        the spectrum.
    """

    name: str
    energy_kev: Array
    counts: Array
    fitted: Array
    families: dict[str, Family]
    scatter: Array
    background: Array
    sigma: Array
    chi_square: float

    @property
    def residual(self) -> Array:
        """(n_channel,) measured minus fitted counts."""
        return self.counts - self.fitted


def fit_spectrum(
    spectrum: Spectrum,
    *,
    families: Sequence[str] | None = None,
    add: Sequence[str] = (),
    drop: Sequence[str] = (),
    instrument: Instrument | None = None,
) -> SpectrumFit:
    """Fit a single spectrum, with all components of the model of :func:`fit_elements`.

    Parameters
    ----------
    spectrum : Spectrum
        Spectrum of a pixel or region, with an energy axis.
    families : sequence of str, optional
        Families to fit; no others are fitted. By default, all possible families are fitted.
    add, drop, instrument
        See :func:`~underpaint.elements.fit_elements`.

    Raises
    ------
    CalibrationError
        The spectrum has no energy axis.
    ScanError
        The spectrum has too few counts.
    CoverageError
        A family is outside the recorded range.

    Examples
    --------
    >>> import underpaint as up
    >>> from underpaint.elements import fit_spectrum
    >>> scan = up.load("panel.h5")
    >>> fit = fit_spectrum(scan.sum_spectrum())
    >>> fit.families["Pb_L"].present
    True
    """
    check_names(families, add, drop)
    counts, axis = _check_spectrum(spectrum)
    choice = choose_families(counts, counts, axis, families, add, drop, instrument)
    return fit_with_choice(spectrum, choice, choice.families if families is None else choice.names)


def fit_with_choice(spectrum: Spectrum, choice: FitChoice, families: Sequence[str]) -> SpectrumFit:
    """Fit a single spectrum, given the line families, the resolution and the likely instruments.

    Choosing families and instruments takes most of the time of :func:`fit_spectrum`. The same choice can be used for
    many spectra of a scan.

    Parameters
    ----------
    spectrum : Spectrum
        Spectrum with an energy axis.
    choice : FitChoice
        Choice of families, resolution and instruments, for example from the sum and maximum spectra of the scan.
    families : sequence of str
        Families to fit.

    Raises
    ------
    CalibrationError
        The spectrum has no energy axis.
    ScanError
        The spectrum has too few counts.
    """
    counts, axis = _check_spectrum(spectrum)
    fit = choice.plan_spectra(
        counts[None], choice.selection_input.detector, bins_per_fwhm=np.inf, families=list(families)
    )
    class_fit, channels = fit.classes[0], slice(int(fit.bins.start[0]), fit.bins.stop)
    fitted_areas = class_fit(counts[None, channels].astype(np.float32))

    def to_all_channels(component_counts: Array) -> Array:
        full_spectrum = np.zeros(axis.n_channel)
        full_spectrum[channels] = component_counts
        return full_spectrum

    components = class_fit.parts()
    n_family = len(fit.names)
    templates = (
        family_template(name, choice.selection_input.detector, axis, choice.selection_input.excitation_kev)
        for name in fit.names
    )
    is_strongest_line = np.stack(
        [_strongest_peak_mask(template, fit.bins.energy_kev, axis) for template in templates if template is not None]
    )
    family_arrays = (
        component_counts[0, :n_family]
        for component_counts in (
            fitted_areas.area,
            fitted_areas.sigma,
            DETECTION_LIMIT_SIGMAS * fitted_areas.sigma_if_absent,
        )
    )
    family_values = np.stack([*family_arrays, *class_fit.hardness(is_strongest_line)], axis=1).tolist()
    fitted_families = {}
    for name, component_counts, (area, sigma, detection_limit, hardness, hardness_sigma) in zip(
        fit.names, components, family_values, strict=False
    ):
        fitted_families[name] = Family(
            area, sigma, detection_limit, to_all_channels(component_counts), hardness, hardness_sigma
        )
    n_anode = len(choice.selection_input.scatter)
    fitted_counts = np.full(axis.n_channel, np.nan)
    fitted_counts[channels] = components.sum(axis=0)
    return SpectrumFit(
        spectrum.name,
        axis.energy_kev,
        counts,
        fitted_counts,
        fitted_families,
        to_all_channels(components[n_family : n_family + n_anode].sum(axis=0)),
        to_all_channels(components[n_family + n_anode :].sum(axis=0)),
        to_all_channels(np.sqrt(class_fit.noise)),
        class_fit.misfit,
    )


def _check_spectrum(spectrum: Spectrum) -> tuple[Array, EnergyAxis]:
    """Return counts and energy axis of a spectrum; raise the errors of :func:`fit_spectrum`."""
    if not isinstance(spectrum, Spectrum):
        raise ScanError(
            f"Cannot fit a {type(spectrum).__name__}: counts and an energy axis are needed. Give a Spectrum: "
            "`scan.pixel(row, column)`, or `underpaint.data.Spectrum(counts, axis)`."
        )
    if spectrum.axis is None:
        raise CalibrationError(
            f"Cannot fit {spectrum.name or 'the spectrum'}: it has no energy axis. Calibrate the scan first."
        )
    counts = np.asarray(spectrum.counts, np.float64)
    if counts.sum() < _MIN_TOTAL_COUNTS:
        raise ScanError(
            f"Cannot fit {spectrum.name or 'the spectrum'}: it has {counts.sum():.0f} counts, at least "
            f"{_MIN_TOTAL_COUNTS} are needed."
        )
    return counts, spectrum.axis


def _strongest_peak_mask(template: Template, energy_kev: Array, axis: EnergyAxis) -> NDArray[np.bool_]:
    """Return the (n_bin,) mask of a family's strongest peak, bounded by the midpoints to neighbouring peaks."""
    peak_kev = np.asarray([axis.energy_kev[group_counts.argmax()] for group_counts in template.groups])
    higher_peaks_kev, lower_peaks_kev = peak_kev[peak_kev > peak_kev[0]], peak_kev[peak_kev < peak_kev[0]]
    stop_kev = 0.5 * (peak_kev[0] + higher_peaks_kev.min()) if higher_peaks_kev.size else np.inf
    start_kev = 0.5 * (peak_kev[0] + lower_peaks_kev.max()) if lower_peaks_kev.size else -np.inf
    return np.asarray((energy_kev > start_kev) & (energy_kev < stop_kev))
