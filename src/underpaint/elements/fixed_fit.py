"""Linear fits of line families with fixed line ratios, by this package or by PyMca.

Fits with fixed line ratios are planned fast, but areas are wrong where paint absorbs lines. The fits of
``variable_fit`` are correct there.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from underpaint.data import EnergyAxis
from underpaint.elements._families import (
    FIXED_RATIO_CANDIDATES,
    Template,
    family_templates,
    fwhm_channels,
    is_recorded,
    scatter_templates,
)
from underpaint.elements._selection import (
    FitProblem,
    FittedSpectrum,
    fit_noise,
    max_spectrum,
    refine_ratios,
    significant_indices,
    sum_spectrum,
)
from underpaint.errors import CoverageError, MissingExtraError
from underpaint.physics.instrument import Detector, Instrument

_SNIP_WIDTH_FWHM = 2.0
_UM_PER_CM = 1e4
_PYMCA_LOCK = Lock()
"""Lock around calls of PyMca, since PyMca does not document its thread safety."""


class PymcaFit:
    """Planned fit of line families with PyMca's ``FastXRFLinearFit``.

    The SNIP background of each pixel is subtracted. Standard deviations are those of a pixel with the mean spectrum.

    References
    ----------
    Solé et al., 2007, Spectrochimica Acta B 62, 63-68 (PyMca).
    """

    def __init__(
        self,
        families: Sequence[str],
        configuration: dict[str, Any],
        mean_spectrum: NDArray[np.float64],
        settings: dict[str, Any],
    ) -> None:
        self.names, self.configuration, self.mean, self.settings = (
            tuple(families),
            configuration,
            mean_spectrum,
            settings,
        )

    @classmethod
    def plan(
        cls,
        axis: EnergyAxis,
        families: Sequence[str],
        detector: Detector,
        excitation_kev: float,
        channels: tuple[int, int],
        scatter_families: Sequence[str],
        mean_spectrum: NDArray[np.float64],
    ) -> "PymcaFit":
        """Plan the fit of line families and make the PyMca configuration.

        Parameters
        ----------
        axis : EnergyAxis
            Energy axis of the spectra.
        families : sequence of str
            Families to fit and return.
        detector : Detector
            Detector with resolution and crystal.
        excitation_kev : float
            Photon energy at which line ratios are computed, in keV.
        channels : (int, int)
            First and last channel of the fit.
        scatter_families : sequence of str
            Families of the anode, which are fitted but not returned.
        mean_spectrum : (n_channel,) array
            Mean spectrum of the scan, in counts; it determines the weights of the channels.

        Raises
        ------
        MissingExtraError
            PyMca is not installed.
        """
        _, pymca_version = _pymca_fit_class()
        fitted_families = [
            *families,
            *(name for name in scatter_families if name.count("_") == 1 and name not in families),
        ]
        configuration = pymca_configuration(fitted_families, detector, axis, excitation_kev, channels)
        settings = {
            "engine": "pymca",
            "version": pymca_version,
            "gain_kev": axis.gain_kev,
            "zero_kev": axis.zero_kev,
            "noise_fwhm_kev": detector.noise_fwhm_kev,
            "fano": detector.fano,
            "snip_width_channels": configuration["fit"]["snipwidth"],
            "families": list(families),
        }
        return cls(families, configuration, mean_spectrum, settings)

    def __call__(self, counts: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the (n, n_family) areas and standard deviations of (n, n_channel) counts."""
        with _PYMCA_LOCK:
            area, sigma = _fit_block(
                _pymca_fit_class()[0], self.configuration, counts[None].astype(np.float32), self.mean, self.names
            )
        return area[0], sigma[0]


def pymca_configuration(
    families: Sequence[str],
    detector: Detector,
    axis: EnergyAxis,
    excitation_kev: float,
    channels: tuple[int, int],
) -> dict[str, Any]:
    """Return PyMca's fit configuration: linear, Gaussian peaks, SNIP background, escape, Poisson weights."""
    from PyMca5.PyMcaPhysics.xrf import ClassMcaTheory

    configuration: dict[str, Any] = ClassMcaTheory.McaTheory().getConfiguration()
    shells_by_element: dict[str, list[str]] = {}
    for family in families:
        symbol, shell = family.split("_")
        shells_by_element.setdefault(symbol, []).append(shell)
    snip_width = int(np.rint(_SNIP_WIDTH_FWHM * np.median(fwhm_channels(detector, axis))))
    # Without smoothing, the background would be too low at few counts. PyMca requires an odd filter width.
    filter_width = 2 * (snip_width // 2) + 1
    configuration["peaks"] = shells_by_element
    configuration["fit"].update(
        xmin=channels[0], xmax=channels[1], use_limit=1, linearfitflag=1, fitweight=1, hypermetflag=1, fitfunction=0,
        continuum=0, stripflag=1, stripalgorithm=1, snipwidth=snip_width, stripfilterwidth=filter_width, escapeflag=1,
        sumflag=0, scatterflag=0, energy=[excitation_kev], energyweight=[1.0], energyflag=[1], energyscatter=[0],
    )  # fmt: skip
    configuration["detector"].update(
        zero=axis.zero_kev, gain=axis.gain_kev, noise=detector.noise_fwhm_kev, fano=detector.fano, sum=0.0,
        fixedzero=1, fixedgain=1, fixednoise=1, fixedfano=1, fixedsum=1, detele=detector.material,
    )  # fmt: skip
    thickness_cm = detector.thickness_um / _UM_PER_CM
    configuration["attenuators"]["Detector"] = [1, f"{detector.material}1", detector.density, thickness_cm]
    return configuration


def _pymca_fit_class() -> tuple[Any, str]:
    try:
        import PyMca5
        from PyMca5.PyMcaPhysics.xrf import FastXRFLinearFit
    except ImportError as error:
        raise MissingExtraError(
            "Cannot fit with engine 'pymca': PyMca is not installed. "
            "Install PyMca with `pip install underpaint[pymca]`, or use engine 'underpaint'."
        ) from error
    return FastXRFLinearFit.FastXRFLinearFit, str(PyMca5.version())


def _fit_block(
    fit_class: Any,
    configuration: dict[str, Any],
    counts: NDArray[np.float32],
    mean_spectrum: NDArray[np.float64],
    families: Sequence[str],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the (n_row, n_column, n_family) areas and standard deviations of a block."""
    pymca_fit = fit_class()
    pymca_fit.setFitConfiguration(configuration)
    # In PyMca, the standard deviation of a channel is that of a mean spectrum: sqrt(ysum) / (number of spectra) + 1.
    # Multiplying the mean spectrum by (number of spectra)**2 gives the standard deviation of one pixel, for any block.
    fit_result = pymca_fit.fitMultipleSpectra(
        x=np.arange(counts.shape[-1], dtype=np.float64),
        y=counts,
        ysum=mean_spectrum * float(counts[..., 0].size) ** 2,
        weight=1,
        refit=False,
    )
    parameter_names = [str(parameter_label).replace(" ", "_") for parameter_label in fit_result.labels("parameters")]
    family_indices = [parameter_names.index(family) for family in families]
    return (
        np.moveaxis(np.asarray(fit_result["parameters"], dtype=np.float32)[family_indices], 0, -1),
        np.moveaxis(np.asarray(fit_result["uncertainties"], dtype=np.float32)[family_indices], 0, -1),
    )


Array = NDArray[np.float64]

_MIN_ENERGY_KEV = 1.2
_DEFAULT_EXCITATION_KEV = 40.0


@dataclass(frozen=True)
class FitPlan:
    """Plan of a linear fit that can be applied to any number of pixels.

    Parameters
    ----------
    names : tuple of str
        Families, such as ``Fe_K``.
    design : (n_channel, n_column) array
        Components (templates, scatter, background); zero in channels that are not fitted.
    weight : (n_channel,) array
        Inverse variance of the mean spectrum; zero in channels that are not fitted.
    detector : Detector
        Detector with the resolution of the fit.
    excitation_kev : float
        Highest photon energy in keV.
    scatter : tuple of str
        Names of the fitted scatter peaks.
    """

    names: tuple[str, ...]
    design: Array
    weight: Array
    detector: Detector
    excitation_kev: float
    scatter: tuple[str, ...] = ()

    @property
    def channels(self) -> tuple[int, int]:
        """First and last channel of the fit."""
        used_channels = np.flatnonzero(self.weight > 0)
        return int(used_channels[0]), int(used_channels[-1])

    def solver(self, n_column: int | None = None) -> Array:
        """Return the (n_column, n_channel) matrix that converts counts to areas of the design's first columns."""
        root_weight = np.sqrt(self.weight)[:, None]
        return np.asarray(np.linalg.pinv(self.design[:, :n_column] * root_weight, rcond=1e-10) * root_weight.T)


@dataclass(frozen=True)
class SelectionInput:
    """Input for selecting families: spectra, fitted channels, detector and scatter templates."""

    sum_counts: Array
    max_counts: Array
    axis: EnergyAxis
    is_fitted: NDArray[np.bool_]
    detector: Detector
    excitation_kev: float
    scatter: tuple[Template, ...]

    def sum_spectrum(self) -> FittedSpectrum:
        """Return the sum spectrum to fit, with the resolution of the detector."""
        return sum_spectrum(
            self.sum_counts, fwhm_channels(self.detector, self.axis), self.axis.energy_kev, self.is_fitted
        )

    def max_spectrum(self) -> FittedSpectrum:
        """Return the maximum spectrum to fit, with the resolution of the detector."""
        return max_spectrum(
            self.max_counts, fwhm_channels(self.detector, self.axis), self.axis.energy_kev, self.is_fitted
        )


def plan_fit(
    sum_counts: Array,
    max_counts: Array,
    axis: EnergyAxis,
    n_pixel: int,
    *,
    families: Sequence[str] | None = None,
    instrument: Instrument | None = None,
) -> FitPlan:
    """Plan a linear fit: determine families, resolution, line ratios, background and weights.

    Parameters
    ----------
    sum_counts, max_counts : (n_channel,) arrays
        Sum spectrum and maximum spectrum of the pixels, in counts.
    axis : EnergyAxis
        Energy axis.
    n_pixel : int
        Number of pixels in the sum.
    families, instrument
        See :func:`fit_elements`.

    Returns
    -------
    FitPlan

    Raises
    ------
    CoverageError
        No family is detected, or a requested family is outside the recorded range.
    """
    selection_input = make_selection_input(sum_counts, max_counts, axis, instrument)
    names = candidate_families(families, selection_input)
    selection_input = fit_resolution(selection_input, names, instrument)
    selected_families = (
        names if families is not None else select_families(selection_input, names, include_rare_pixels=True)
    )
    if not selected_families:
        raise CoverageError(
            "Cannot fit elements: no line family is detected. Give the families, or check the energy axis."
        )
    fit_plan = _plan_families(selection_input, selected_families, n_pixel)
    if families is not None:
        return fit_plan
    # A negative area in the sum spectrum is due to an error in the shape of a strong neighbouring peak.
    areas = fit_plan.solver() @ sum_counts
    positive_families = [name for name, area in zip(fit_plan.names, areas, strict=False) if area > 0]
    return (
        fit_plan
        if len(positive_families) in (0, len(fit_plan.names))
        else _plan_families(selection_input, positive_families, n_pixel)
    )


def _plan_families(selection_input: SelectionInput, selected_families: Sequence[str], n_pixel: int) -> FitPlan:
    problem, templates = _adapted_templates(selection_input, selected_families)
    design_columns = [*(template.counts for template in templates), *problem.background.T]
    return FitPlan(
        names=tuple(selected_families),
        design=np.stack(design_columns, axis=1) * selection_input.is_fitted[:, None],
        weight=_channel_weights(selection_input.sum_counts / n_pixel, selection_input.is_fitted),
        detector=selection_input.detector,
        excitation_kev=selection_input.excitation_kev,
        scatter=tuple(template.name for template in selection_input.scatter),
    )


def _adapted_templates(
    selection_input: SelectionInput, selected_families: Sequence[str]
) -> tuple[FitProblem, list[Template]]:
    """Return the fit problem, and templates (families, then scatter) with line ratios adapted to the sum spectrum."""
    n_scatter = len(selection_input.scatter)
    problem, adapted_templates = selection_input.sum_spectrum().without_strong_families(
        [*selection_input.scatter, *recorded_templates(selection_input, selected_families)], n_scatter
    )
    return problem, refine_ratios(problem, [*adapted_templates[n_scatter:], *adapted_templates[:n_scatter]])


def make_selection_input(
    sum_counts: Array, max_counts: Array, axis: EnergyAxis, instrument: Instrument | None
) -> SelectionInput:
    """Return the input for selecting families; the resolution is that of the instrument, or the default."""
    base_detector = Detector.model_validate({}) if instrument is None else instrument.detector
    detector = base_detector.model_copy(
        update={"gain_kev": axis.gain_kev, "zero_kev": axis.zero_kev, "n_channel": axis.n_channel}
    )
    excitation_kev = _DEFAULT_EXCITATION_KEV if instrument is None else instrument.highest_kev
    scatter = () if instrument is None else tuple(scatter_templates(instrument, axis))
    return SelectionInput(
        sum_counts, max_counts, axis, _used_channels(sum_counts, axis), detector, excitation_kev, scatter
    )


def _used_channels(sum_counts: Array, axis: EnergyAxis) -> NDArray[np.bool_]:
    """Return the mask of channels above the electronic threshold and 1.2 keV, up to the last channel with counts."""
    occupied_channels = np.flatnonzero(sum_counts > 0)
    channel_index = np.arange(sum_counts.size)
    margin_channels = int(np.ceil(0.15 / axis.gain_kev)) if occupied_channels[0] > 0 else 0
    is_in_range = (channel_index >= occupied_channels[0] + margin_channels) & (channel_index <= occupied_channels[-1])
    return np.asarray(is_in_range & (axis.energy_kev > _MIN_ENERGY_KEV))


def recorded_templates(selection_input: SelectionInput, names: Sequence[str]) -> list[Template]:
    """Return the templates of families that are recorded in the fitted channels."""
    templates = family_templates(names, selection_input.detector, selection_input.axis, selection_input.excitation_kev)
    return [
        template for template in templates if is_recorded(template.counts, template.counts[selection_input.is_fitted])
    ]


def candidate_families(families: Sequence[str] | None, selection_input: SelectionInput) -> list[str]:
    """Return the requested families, or all families within the axis except those of the anode."""
    if families is None:
        scatter_names = {template.name for template in selection_input.scatter}
        return [
            template.name
            for template in recorded_templates(
                selection_input, [family for family in FIXED_RATIO_CANDIDATES if family not in scatter_names]
            )
        ]
    requested_families = list(dict.fromkeys(families))
    available_families = {template.name for template in recorded_templates(selection_input, requested_families)}
    unavailable_families = [family for family in requested_families if family not in available_families]
    if unavailable_families or not requested_families:
        fitted_kev = selection_input.axis.energy_kev[selection_input.is_fitted]
        raise CoverageError(
            f"Cannot fit {', '.join(unavailable_families) or 'no family'}: the strongest line is not in the recorded "
            f"range {fitted_kev[0]:.2f}-{fitted_kev[-1]:.2f} keV, or {selection_input.excitation_kev:.0f} keV do not "
            "excite it. Omit these families; names have the form 'Fe_K' or 'Pb_L'."
        )
    return requested_families


def is_resolution_known(instrument: Instrument | None) -> bool:
    """Return whether the resolution of the detector is known, from the user or a calibration."""
    return instrument is not None and "noise_fwhm_kev" in instrument.detector.model_fields_set


def fit_resolution(
    selection_input: SelectionInput, names: Sequence[str], instrument: Instrument | None
) -> SelectionInput:
    """Fit the electronic noise to the sum spectrum, unless the resolution is known; return the updated input."""
    if is_resolution_known(instrument):
        return selection_input
    selected_families = select_families(selection_input, names, include_rare_pixels=False)
    if not selected_families:
        return selection_input
    cleaned_problem, _ = selection_input.sum_spectrum().without_strong_families(
        recorded_templates(selection_input, selected_families)
    )
    return replace_noise(
        selection_input,
        fit_noise(
            cleaned_problem,
            lambda noise_fwhm_kev: recorded_templates(
                replace_noise(selection_input, noise_fwhm_kev), selected_families
            ),
        ),
    )


def replace_noise(selection_input: SelectionInput, noise_fwhm_kev: float) -> SelectionInput:
    """Return the input for selecting families, with the given electronic noise."""
    return replace(
        selection_input, detector=selection_input.detector.model_copy(update={"noise_fwhm_kev": noise_fwhm_kev})
    )


def select_families(selection_input: SelectionInput, names: Sequence[str], *, include_rare_pixels: bool) -> list[str]:
    """Return the significant families of the sum spectrum, and of the maximum spectrum if ``include_rare_pixels``."""
    templates = [*selection_input.scatter, *recorded_templates(selection_input, names)]
    n_scatter = len(selection_input.scatter)
    spectra = (
        [selection_input.sum_spectrum(), selection_input.max_spectrum()]
        if include_rare_pixels
        else [selection_input.sum_spectrum()]
    )
    selected_indices: set[int] = set()
    for spectrum in spectra:
        problem, adapted_templates = spectrum.without_strong_families(templates, n_scatter)
        selected_indices.update(significant_indices(problem, adapted_templates, n_scatter))
    return [
        template.name for index, template in enumerate(templates) if index in selected_indices and index >= n_scatter
    ]


def _channel_weights(mean_spectrum: Array, is_fitted: NDArray[np.bool_]) -> Array:
    """Return the inverse Poisson variance of the smoothed mean spectrum; smoothing avoids infinite weights."""
    smoothed_spectrum = gaussian_filter1d(mean_spectrum, 1.0)
    return np.asarray(
        is_fitted / np.maximum(smoothed_spectrum, 1e-3 * float(smoothed_spectrum[is_fitted].max()) + 1e-12)
    )


class FixedFit:
    """Planned linear fit, applied to blocks of spectra as a matrix product.

    The matrix P is the same for all pixels: ``area = P counts`` and ``variance = P**2 counts``. The standard deviation
    includes only counting statistics.
    """

    def __init__(self, fit_plan: FitPlan) -> None:
        self.names = fit_plan.names
        first_channel, last_channel = fit_plan.channels
        self.channels = slice(first_channel, last_channel + 1)
        solver_matrix = fit_plan.solver()[: len(fit_plan.names), self.channels].T
        self.solver = np.ascontiguousarray(solver_matrix, np.float32)
        self.squared = np.ascontiguousarray(solver_matrix**2, np.float32)

    def __call__(self, counts: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the (n, n_family) areas and standard deviations of (n, n_channel) counts."""
        # single precision: rounding errors are far below counting noise
        fitted_counts = counts[:, self.channels].astype(np.float32)
        return fitted_counts @ self.solver, np.sqrt(fitted_counts @ self.squared)
