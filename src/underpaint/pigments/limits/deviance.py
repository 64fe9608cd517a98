"""Deviance per count between an expected spectrum and the best fit by another paint."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from underpaint.pigments.limits._paint_models import PaintModel
from underpaint.pigments.limits.comparison import MIN_DEVIANCE

FloatArray = NDArray[np.float64]
MAX_NUISANCE_VALUES = np.asarray([6.0, 2.0, 2.0, 2.0, 1.0])
"""Maximum absolute values of the nuisance parameters. These are the logarithms of the scale and of the two scatter
levels, and the slope and curvature of the scatter."""
MAX_MODEL_EVALUATIONS = 100
MAX_ROUGH_FIT_COUNTS = 100.0
"""A pair that is distinguishable below this number of counts needs only a rough fit from one start."""
ROUGH_TOLERANCE, EXACT_TOLERANCE = 1e-2, 1e-6
"""Relative changes of the deviance at which a rough fit and an exact fit end."""
MAX_SERIES_DIFFERENCE = 1e-3
MIN_SHARE = 1e-12
"""Minimum expected fraction of the counts in one channel, since detectors have an electronic background."""


@dataclass(frozen=True)
class PaintModelFit:
    """The best fit of a paint model to a spectrum.

    Parameters
    ----------
    parameters : (n_free,) array
        Parameters of the paint model.
    deviance_per_count : float
        Poisson deviance (Baker & Cousins 1984, equation 3), divided by the total counts of the fitted spectrum.
    """

    parameters: FloatArray
    deviance_per_count: float

    @property
    def counts_needed(self) -> float:
        """Total counts of a spectrum at which the deviance reaches ``MIN_DEVIANCE``."""
        return MIN_DEVIANCE / max(self.deviance_per_count, MIN_SHARE)


def fit_paint_model(components: FloatArray, paint_model: PaintModel, middle_kev: FloatArray) -> PaintModelFit:
    """Fit a paint model to an expected spectrum.

    Parameters
    ----------
    components : (n_part, n_bin) array
        Expected counts of each component, on any scale. Only the sum of the components is fitted.
    paint_model : PaintModel
        Paint with free parameters.
    middle_kev : (n_bin,) array
        Energy of the channels, in keV.

    Notes
    -----
    The fit also varies the scale, because live times may be wrong. The levels of coherent and of other scatter also
    vary, and share a slope and a curvature in ln(energy). These parameters allow for scatter from support, air and
    holders. The parameters also allow for errors of some per cent in the shape of simulated scatter. For expected
    counts without noise (Asimov data; Cowan, Cranmer, Gross & Vitells 2011), the deviance is exactly proportional to
    the total counts.
    """
    total_counts = components.sum(axis=0)
    count_fractions = np.maximum(total_counts / total_counts.sum(), MIN_SHARE)
    log_energy = np.log(middle_kev / np.sqrt(middle_kev[0] * middle_kev[-1]))
    nuisance_curves = np.stack([log_energy, log_energy**2])
    initial_parameters = paint_model.initial_parameters(count_fractions)
    rough_fit = _fit_from_start(count_fractions, paint_model, nuisance_curves, initial_parameters[0], ROUGH_TOLERANCE)
    if rough_fit.counts_needed < MAX_ROUGH_FIT_COUNTS:
        return rough_fit
    fits = [
        _fit_from_start(count_fractions, paint_model, nuisance_curves, start_values, EXACT_TOLERANCE)
        for start_values in (rough_fit.parameters, *initial_parameters[1:])
    ]
    return min(fits, key=lambda fit: fit.deviance_per_count)


def _fit_from_start(
    count_fractions: FloatArray,
    paint_model: PaintModel,
    nuisance_curves: FloatArray,
    start_parameters: FloatArray,
    tolerance: float,
) -> PaintModelFit:
    log_scale = -np.log(np.exp(paint_model.log_spectra(start_parameters)[0]).sum())
    min_parameters, max_parameters = paint_model.bounds.T
    start_values = np.concatenate(
        [np.clip(start_parameters, min_parameters + 1e-6, max_parameters - 1e-6), np.zeros(MAX_NUISANCE_VALUES.size)]
    )
    cached_model: dict[bytes, tuple[FloatArray, FloatArray]] = {}

    def evaluate_model(free_values: FloatArray) -> tuple[FloatArray, FloatArray]:
        # residuals and derivatives use the same simulation
        cache_key = free_values.tobytes()
        if cache_key not in cached_model:
            cached_model.clear()
            cached_model[cache_key] = _expected_count_fractions(paint_model, nuisance_curves, log_scale, free_values)
        return cached_model[cache_key]

    least_squares_result = least_squares(
        lambda free_values: _residuals(count_fractions, evaluate_model(free_values)[0]),
        start_values,
        jac=lambda free_values: _jacobian(count_fractions, *evaluate_model(free_values)),
        bounds=(
            np.concatenate([min_parameters, -MAX_NUISANCE_VALUES]),
            np.concatenate([max_parameters, MAX_NUISANCE_VALUES]),
        ),
        method="trf",
        x_scale="jac",
        ftol=tolerance,
        xtol=1e-8,
        gtol=1e-14,
        max_nfev=MAX_MODEL_EVALUATIONS,
    )
    return PaintModelFit(
        np.asarray(least_squares_result.x[: len(start_parameters)]), 2.0 * float(least_squares_result.cost)
    )


def _expected_count_fractions(
    paint_model: PaintModel, nuisance_curves: FloatArray, log_scale: float, free_values: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return the (n_bin,) expected fraction of the counts in each channel, and its (n_bin, n_free + 5) derivatives."""
    n_free = len(free_values) - MAX_NUISANCE_VALUES.size
    log_spectra, derivatives = paint_model.log_spectra(free_values[:n_free])
    nuisance_term = free_values[n_free + 3 :] @ nuisance_curves
    log_levels = np.stack(
        [
            0.0 * nuisance_term,
            0.0 * nuisance_term,
            free_values[n_free + 1] + nuisance_term,
            free_values[n_free + 2] + nuisance_term,
        ]
    )
    component_fractions = np.exp(log_spectra + log_scale + free_values[n_free] + log_levels)
    expected_fractions = component_fractions.sum(axis=0) + MIN_SHARE
    coherent_fractions, other_fractions = component_fractions[2:]
    derivative_rows = [
        *np.einsum("fpb,pb->fb", derivatives, component_fractions),
        expected_fractions,
        coherent_fractions,
        other_fractions,
        *((coherent_fractions + other_fractions) * nuisance_curves),
    ]
    return expected_fractions, np.stack(derivative_rows, axis=1)


def _residuals(count_fractions: FloatArray, expected_fractions: FloatArray) -> FloatArray:
    """Return the signed square root of each channel's deviance."""
    relative_difference = (count_fractions - expected_fractions) / expected_fractions
    exact_deviance = 2.0 * ((1.0 + relative_difference) * np.log1p(relative_difference) - relative_difference)
    # if expected and measured fraction are nearly equal, a series replaces the imprecise logarithm
    series_deviance = relative_difference**2 * (1.0 - relative_difference / 3.0 + relative_difference**2 / 6.0)
    return np.asarray(
        -np.sign(relative_difference)
        * np.sqrt(
            expected_fractions
            * np.where(np.abs(relative_difference) < MAX_SERIES_DIFFERENCE, series_deviance, np.abs(exact_deviance))
        )
    )


def _jacobian(count_fractions: FloatArray, expected_fractions: FloatArray, derivatives: FloatArray) -> FloatArray:
    residual = _residuals(count_fractions, expected_fractions)
    is_close = np.abs(count_fractions - expected_fractions) < MAX_SERIES_DIFFERENCE * expected_fractions
    safe_residual = np.where(is_close, 1.0, residual)
    derivative_weights = np.where(
        is_close, 1.0 / np.sqrt(expected_fractions), (1.0 - count_fractions / expected_fractions) / safe_residual
    )
    return np.asarray(derivative_weights[:, None] * derivatives)
