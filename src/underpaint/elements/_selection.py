"""Select line families and fit the resolution, from the sum and maximum spectra of a scan."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import BSpline
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize_scalar, nnls

from underpaint.data.background import snip
from underpaint.elements._families import Template

Array = NDArray[np.float64]

_SUM_MODEL_ERROR, _MAXIMUM_MODEL_ERROR = 0.012, 0.06
_PEAK_SHAPE_ERROR = 0.03
_BACKGROUND_KNOT_STEP_KEV = 1.5
_MIN_SIGNIFICANCE = 10.0
_STRONG_SIGNIFICANCE_FACTOR = 4.0
_MIN_RARE_SIGNIFICANCE = 20.0
_RARE_FAMILIES = frozenset(("Al_K", "Br_K", "Rb_K", "Zr_K", "Mo_K", "Sb_K", "Sb_L", "W_L"))
_LINE_RATIO_SPREAD = 0.15
_LINE_RATIO_LIMITS = (0.6, 1.6)
_NOISE_RANGE_KEV = (0.02, 0.25)


@dataclass(frozen=True)
class FitProblem:
    """Non-negative least-squares fit of templates and a smooth background to a spectrum.

    Parameters
    ----------
    counts, sigma : (n_channel,) arrays
        Counts, and the standard deviation of the counts, which includes the model error.
    background : (n_channel, n_spline) array
        Components whose weighted sum is the background.
    is_fitted : (n_channel,) bool array
        Channels to fit.
    """

    counts: Array
    sigma: Array
    background: Array
    is_fitted: NDArray[np.bool_]

    def solve(self, design: Array) -> Array:
        """Return the non-negative areas of an (n_channel, n_column) design, fitted together with the background."""
        weighted_design, weighted_counts = self.weighted(design)
        return self.least_squares(weighted_design, weighted_counts)[: design.shape[1]]

    def weighted(self, design: Array) -> tuple[Array, Array]:
        """Return the design (including background) and the counts, both in fitted channels and divided by ``sigma``."""
        full_design = np.concatenate([design, self.background], axis=1)
        return (full_design / self.sigma[:, None])[self.is_fitted], (self.counts / self.sigma)[self.is_fitted]

    def misfit(self, design: Array) -> float:
        """Return the mean of (residual / sigma)**2 of the best non-negative fit."""
        weighted_design, weighted_counts = self.weighted(design)
        return float(
            np.mean((weighted_design @ self.least_squares(weighted_design, weighted_counts) - weighted_counts) ** 2)
        )

    @staticmethod
    def least_squares(weighted_design: Array, weighted_counts: Array) -> Array:
        """Return the non-negative least-squares solution; the computation normalises the columns."""
        column_norms = np.maximum(np.sqrt((weighted_design**2).sum(axis=0)), 1e-12)
        return np.asarray(
            nnls(weighted_design / column_norms, weighted_counts, maxiter=50 * column_norms.size)[0] / column_norms
        )


@dataclass(frozen=True)
class FittedSpectrum:
    """A sum or maximum spectrum to be fitted.

    Parameters
    ----------
    counts : (n_channel,) array
        Counts.
    fwhm : (n_channel,) array
        FWHM of a peak at each channel, in channels.
    energy_kev : (n_channel,) array
        Energies of the channels, in keV.
    is_fitted : (n_channel,) bool array
        Channels to fit.
    model_error : float
        Relative error of the modelled counts.
    """

    counts: Array
    fwhm: Array
    energy_kev: Array
    is_fitted: NDArray[np.bool_]
    model_error: float

    def problem(self, peaks: Array | None = None) -> FitProblem:
        """Return the fit problem; ``peaks`` are subtracted before the background is computed."""
        # On the flank of a strong peak, small errors of position or width matter more than errors of height.
        flank_error = _PEAK_SHAPE_ERROR * self.fwhm * np.abs(np.gradient(self.counts))
        variance = np.maximum(self.counts, 1.0) + (self.model_error * self.counts) ** 2 + flank_error**2
        residual_counts = self.counts if peaks is None else np.maximum(self.counts - peaks, 0.0)
        background = background_columns(residual_counts, self.fwhm, self.energy_kev, self.is_fitted)
        return FitProblem(self.counts, np.sqrt(variance), background, self.is_fitted)

    def without_strong_families(
        self, templates: Sequence[Template], n_fixed: int = 0
    ) -> tuple[FitProblem, list[Template]]:
        """Remove strong families from the background, and adapt line ratios; return the fit problem and templates.

        With clipping alone, the background has humps between neighbouring lines, such as the L lines of lead and
        mercury.
        """
        first_problem = self.problem()
        strong_indices = significant_indices(
            first_problem, templates, n_fixed, significance_factor=_STRONG_SIGNIFICANCE_FACTOR
        )
        if not strong_indices:
            return first_problem, list(templates)
        adapted_templates = refine_ratios(first_problem, [templates[index] for index in strong_indices])
        design = np.stack([template.counts for template in adapted_templates], axis=1)
        cleaned_problem = self.problem(design @ first_problem.solve(design))
        adapted_by_index = dict(zip(strong_indices, adapted_templates, strict=True))
        return cleaned_problem, [adapted_by_index.get(index, template) for index, template in enumerate(templates)]


def sum_spectrum(sum_counts: Array, fwhm: Array, energy_kev: Array, is_fitted: NDArray[np.bool_]) -> FittedSpectrum:
    """Return the sum spectrum to fit, including the model error."""
    return FittedSpectrum(sum_counts, fwhm, energy_kev, is_fitted, _SUM_MODEL_ERROR)


def max_spectrum(max_counts: Array, fwhm: Array, energy_kev: Array, is_fitted: NDArray[np.bool_]) -> FittedSpectrum:
    """Return the maximum spectrum to fit. The model error is large, since channels come from different pixels."""
    return FittedSpectrum(max_counts, fwhm, energy_kev, is_fitted, _MAXIMUM_MODEL_ERROR)


def background_columns(counts: Array, fwhm: Array, energy_kev: Array, is_fitted: NDArray[np.bool_]) -> Array:
    """Return components of the background: the clipped background times cubic splines (knots every 1.5 keV)."""
    fitted_range = slice(int(np.flatnonzero(is_fitted)[0]), int(np.flatnonzero(is_fitted)[-1]) + 1)
    # Smoothing before clipping suppresses noise. Smoothing after clipping removes edges that the clipping window
    # leaves.
    typical_fwhm = float(np.median(fwhm[fitted_range]))
    smoothed_counts = gaussian_filter1d(counts[fitted_range], 0.4 * typical_fwhm, mode="nearest")
    clipped_counts = gaussian_filter1d(snip(smoothed_counts, fwhm[fitted_range]), 0.8 * typical_fwhm, mode="nearest")
    energy_in_range_kev = energy_kev[fitted_range]
    start_kev, stop_kev = float(energy_in_range_kev[0]), float(energy_in_range_kev[-1]) + 1e-9
    n_intervals = max(round((stop_kev - start_kev) / _BACKGROUND_KNOT_STEP_KEV), 1)
    spline_knots = np.concatenate([[start_kev] * 3, np.linspace(start_kev, stop_kev, n_intervals + 1), [stop_kev] * 3])
    splines = BSpline.design_matrix(energy_in_range_kev, spline_knots, 3).toarray()
    columns = np.zeros((counts.size, splines.shape[1]))
    columns[fitted_range] = splines * (clipped_counts / max(float(clipped_counts.max()), 1e-12) + 1e-4)[:, None]
    return columns


def significant_indices(
    problem: FitProblem, templates: Sequence[Template], n_fixed: int = 0, significance_factor: float = 1.0
) -> list[int]:
    """Return the indices of the significant templates, by stepwise selection.

    Each step adds the most significant template. At the end, templates that are no longer significant are removed. The
    selection does not start with all templates, since many weak families together can fit a part of the background.

    Parameters
    ----------
    problem : FitProblem
    templates : sequence of Template
    n_fixed : int
        Number of templates at the start of the list that are always kept.
    significance_factor : float
        Factor that multiplies the required significance.
    """
    columns = np.stack([template.counts for template in templates], axis=1)
    required_significance = significance_factor * np.array(
        [_required_significance(template.name) for template in templates]
    )
    selected_indices = list(range(n_fixed))
    weighted, target = problem.weighted(columns)
    weighted = weighted[:, : len(templates)]
    original_norms = np.maximum(np.sqrt((weighted**2).sum(axis=0)), 1e-30)
    orthonormal_basis, _ = np.linalg.qr(problem.weighted(columns[:, selected_indices])[0])
    column_residuals, count_residuals = (
        weighted - orthonormal_basis @ (orthonormal_basis.T @ weighted),
        target - orthonormal_basis @ (orthonormal_basis.T @ target),
    )
    while len(selected_indices) < len(templates):
        relative_significance = (
            _added_significance(column_residuals, count_residuals, original_norms, selected_indices)
            / required_significance
        )
        if relative_significance.max() < 1:
            break
        selected_indices.append(int(relative_significance.argmax()))
        # remove the component along the selected column (Gram-Schmidt)
        selected_direction = column_residuals[:, selected_indices[-1]] / np.linalg.norm(
            column_residuals[:, selected_indices[-1]]
        )
        column_residuals = column_residuals - selected_direction[:, None] * (selected_direction @ column_residuals)
        count_residuals = count_residuals - selected_direction * (selected_direction @ count_residuals)
    return _remove_insignificant(problem, columns, required_significance, sorted(selected_indices), n_fixed)


def _added_significance(
    column_residuals: Array, count_residuals: Array, original_norms: Array, selected_indices: Sequence[int]
) -> Array:
    """Return the significance of adding each column to the selected columns; -inf for linearly dependent columns.

    Residuals of columns and counts are those after the fit of the selected columns. ``original_norms`` are the norms of
    the columns before this fit.
    """
    residual_norms = np.sqrt((column_residuals**2).sum(axis=0))
    significance = np.where(
        residual_norms > 1e-3 * original_norms,
        column_residuals.T @ count_residuals / np.maximum(residual_norms, 1e-30),
        -np.inf,
    )
    significance[list(selected_indices)] = -np.inf
    return np.asarray(significance)


def _remove_insignificant(
    problem: FitProblem, columns: Array, required_significance: Array, selected_indices: list[int], n_fixed: int
) -> list[int]:
    """Remove the least significant template until all others are significant; return the remaining indices."""
    while len(selected_indices) > n_fixed:
        design = columns[:, selected_indices]
        weighted, _ = problem.weighted(design)
        column_norms = np.maximum(np.sqrt((weighted**2).sum(axis=0)), 1e-12)
        covariance = np.linalg.pinv(
            (weighted / column_norms).T @ (weighted / column_norms), rcond=1e-10, hermitian=True
        )
        # rounding errors can make variances of nearly collinear columns negative
        deviation = (
            np.sqrt(np.maximum(np.diag(covariance), 0.0))[: len(selected_indices)]
            / column_norms[: len(selected_indices)]
        )
        relative_significance = (
            problem.solve(design) / np.maximum(deviation, 1e-12) / required_significance[selected_indices]
        )
        relative_significance[:n_fixed] = np.inf
        if relative_significance.min() >= 1:
            break
        del selected_indices[int(relative_significance.argmin())]
    return selected_indices


def _required_significance(name: str) -> float:
    """Return the significance that a family must have; it is higher for families that are rare in paint."""
    return _MIN_RARE_SIGNIFICANCE if name in _RARE_FAMILIES else _MIN_SIGNIFICANCE


def refine_ratios(problem: FitProblem, templates: Sequence[Template]) -> list[Template]:
    """Adapt the group ratios of templates to the sum spectrum, since absorption in the paint changes line ratios.

    The prior has a standard deviation of 15 % of the tabulated ratio. The ratio changes appreciably only for groups
    with a separate peak.
    """
    areas = problem.solve(np.stack([template.counts for template in templates], axis=1))
    group_columns = np.concatenate([template.groups for template in templates]).T
    weighted_design, weighted_counts = problem.weighted(group_columns)
    template_index = np.concatenate([np.full(len(template.groups), index) for index, template in enumerate(templates)])
    first_group = np.flatnonzero(np.diff(template_index, prepend=-1))[template_index]
    prior_design = np.eye(template_index.size, weighted_design.shape[1])
    prior_design[np.arange(template_index.size), first_group] -= 1.0
    free_groups = np.flatnonzero(first_group != np.arange(template_index.size))
    prior_weight = 1.0 / (_LINE_RATIO_SPREAD * np.maximum(areas[template_index[free_groups]], 1e-9))
    augmented_design = np.concatenate([weighted_design, prior_design[free_groups] * prior_weight[:, None]])
    group_areas = problem.least_squares(augmented_design, np.append(weighted_counts, np.zeros(free_groups.size)))[
        : template_index.size
    ]
    ratio_factors = np.clip(
        np.divide(
            group_areas, group_areas[first_group], out=np.ones_like(group_areas), where=group_areas[first_group] > 0
        ),
        *_LINE_RATIO_LIMITS,
    )
    return [
        template.scale_group_ratios(ratio_factors[template_index == index]) for index, template in enumerate(templates)
    ]


def fit_noise(problem: FitProblem, make_templates: Callable[[float], list[Template]]) -> float:
    """Return the electronic noise (FWHM in keV) for which the templates fit the sum spectrum best."""

    def misfit(noise_fwhm_kev: float) -> float:
        return problem.misfit(np.stack([template.counts for template in make_templates(noise_fwhm_kev)], axis=1))

    best_noise = minimize_scalar(
        misfit, bounds=_NOISE_RANGE_KEV, method="bounded", options={"xatol": 2e-3, "maxiter": 14}
    )
    return float(best_noise.x)
