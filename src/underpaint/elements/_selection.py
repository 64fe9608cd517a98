"""Selection of the families in a scan, and the detector's resolution, from its sum and maximum spectra."""

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

_SUM_ERROR, _MAX_ERROR = 0.012, 0.06
_SHAPE_ERROR = 0.03
_KNOT_STEP_KEV = 1.5
_MIN_SIGNIFICANCE = 10.0
_STRONG = 4.0
_MIN_SIGNIFICANCE_RARE = 20.0
_RARE = frozenset(("Al_K", "Br_K", "Rb_K", "Zr_K", "Mo_K", "Sb_K", "Sb_L", "W_L"))
_RATIO_SPREAD = 0.15
_RATIO_LIMITS = (0.6, 1.6)
_NOISE_RANGE_KEV = (0.02, 0.25)


@dataclass(frozen=True)
class Problem:
    """A spectrum to be explained by templates over a free smooth background.

    Parameters
    ----------
    counts, sigma : (n_channel,) arrays
        Counts, and one standard deviation including the model's error.
    background : (n_channel, n_spline) array
        Columns of the background.
    used : (n_channel,) bool array
        Channels that count.
    """

    counts: Array
    sigma: Array
    background: Array
    used: NDArray[np.bool_]

    def solve(self, design: Array) -> Array:
        """Non-negative areas of the (n_channel, n_column) design; the background is solved along."""
        weighted, target = self.weighted(design)
        return self.least_squares(weighted, target)[: design.shape[1]]

    def weighted(self, design: Array) -> tuple[Array, Array]:
        """Design with the background's columns, and counts, over the deviation in the channels used."""
        columns_all = np.concatenate([design, self.background], axis=1)
        return (columns_all / self.sigma[:, None])[self.used], (self.counts / self.sigma)[self.used]

    def misfit(self, design: Array) -> float:
        """Mean squared misfit of the best non-negative fit."""
        weighted, target = self.weighted(design)
        return float(np.mean((weighted @ self.least_squares(weighted, target) - target) ** 2))

    @staticmethod
    def least_squares(weighted: Array, target: Array) -> Array:
        """Non-negative least squares on columns of equal length."""
        scale = np.maximum(np.sqrt((weighted**2).sum(axis=0)), 1e-12)
        return np.asarray(nnls(weighted / scale, target, maxiter=50 * scale.size)[0] / scale)


@dataclass(frozen=True)
class Recorded:
    """A sum or maximum spectrum with the deviations of its channels.

    Parameters
    ----------
    counts, fwhm, energy_kev : (n_channel,) arrays
        Counts; peak width in channels; energy, keV.
    used : (n_channel,) bool array
        Channels to fit.
    model_error : float
        Error of the model over the counts.
    """

    counts: Array
    fwhm: Array
    energy_kev: Array
    used: NDArray[np.bool_]
    model_error: float

    def problem(self, peaks: Array | None = None) -> Problem:
        """Set up the fit; the background is the rest after subtraction of the known peaks."""
        # On the flank of a strong peak a small fault of position or width counts more than one of height.
        flank = _SHAPE_ERROR * self.fwhm * np.abs(np.gradient(self.counts))
        variance = np.maximum(self.counts, 1.0) + (self.model_error * self.counts) ** 2 + flank**2
        rest = self.counts if peaks is None else np.maximum(self.counts - peaks, 0.0)
        background = background_columns(rest, self.fwhm, self.energy_kev, self.used)
        return Problem(self.counts, np.sqrt(variance), background, self.used)

    def cleaned(self, templates: Sequence[Template], always: int = 0) -> tuple[Problem, list[Template]]:
        """Set up the fit over a background without the strong families, whose line ratios are adapted.

        Clipping alone leaves humps between neighbouring lines, such as the L lines of lead and mercury.
        """
        first = self.problem()
        strong = significant(first, templates, always, factor=_STRONG)
        if not strong:
            return first, list(templates)
        adapted = refine_ratios(first, [templates[index] for index in strong])
        design = np.stack([template.counts for template in adapted], axis=1)
        fitted_problem = self.problem(design @ first.solve(design))
        replaced = dict(zip(strong, adapted, strict=True))
        return fitted_problem, [replaced.get(index, template) for index, template in enumerate(templates)]


def sum_spectrum(total: Array, fwhm: Array, energy_kev: Array, used: NDArray[np.bool_]) -> Recorded:
    """Return the sum spectrum for fitting."""
    return Recorded(total, fwhm, energy_kev, used, _SUM_ERROR)


def max_spectrum(highest: Array, fwhm: Array, energy_kev: Array, used: NDArray[np.bool_]) -> Recorded:
    """Return the maximum spectrum; its line ratios are less accurate, since its channels are from different pixels."""
    return Recorded(highest, fwhm, energy_kev, used, _MAX_ERROR)


def background_columns(counts: Array, fwhm: Array, energy_kev: Array, used: NDArray[np.bool_]) -> Array:
    """Clipped background times cubic splines with a knot every 1.5 keV: too stiff to follow a peak."""
    inside = slice(int(np.flatnonzero(used)[0]), int(np.flatnonzero(used)[-1]) + 1)
    # Smoothed before, so that clipping does not follow the noise, and after, to remove the edges of the window, without
    # the step at the threshold.
    typical = float(np.median(fwhm[inside]))
    smooth = gaussian_filter1d(counts[inside], 0.4 * typical, mode="nearest")
    clipped = gaussian_filter1d(snip(smooth, fwhm[inside]), 0.8 * typical, mode="nearest")
    energy = energy_kev[inside]
    low, high = float(energy[0]), float(energy[-1]) + 1e-9
    n_piece = max(round((high - low) / _KNOT_STEP_KEV), 1)
    padded = np.concatenate([[low] * 3, np.linspace(low, high, n_piece + 1), [high] * 3])
    splines = BSpline.design_matrix(energy, padded, 3).toarray()
    columns = np.zeros((counts.size, splines.shape[1]))
    columns[inside] = splines * (clipped / max(float(clipped.max()), 1e-12) + 1e-4)[:, None]
    return columns


def significant(problem: Problem, templates: Sequence[Template], always: int = 0, factor: float = 1.0) -> list[int]:
    """Add the family that explains most again and again, then drop those that later ones made needless.

    The first ``always`` templates are kept; ``factor`` multiplies the required significance. Selection starts from
    none, since many weak families together can fit a part of the background, and none of them would then seem
    unnecessary.
    """
    columns = np.stack([template.counts for template in templates], axis=1)
    needed = factor * np.array([_needed(template.name) for template in templates])
    selected = list(range(always))
    weighted, target = problem.weighted(columns)
    weighted = weighted[:, : len(templates)]
    length = np.maximum(np.sqrt((weighted**2).sum(axis=0)), 1e-30)
    basis, _ = np.linalg.qr(problem.weighted(columns[:, selected])[0])
    new, rest = weighted - basis @ (basis.T @ weighted), target - basis @ (basis.T @ target)
    while len(selected) < len(templates):
        strength = _gain(new, rest, length, selected) / needed
        if strength.max() < 1:
            break
        selected.append(int(strength.argmax()))
        # the selected column also explains its share of the others (Gram-Schmidt)
        direction = new[:, selected[-1]] / np.linalg.norm(new[:, selected[-1]])
        new = new - direction[:, None] * (direction @ new)
        rest = rest - direction * (direction @ rest)
    return _without_needless(problem, columns, needed, sorted(selected), always)


def _gain(new: Array, rest: Array, length: Array, selected: Sequence[int]) -> Array:
    """Significance of each column when added to those selected; minus infinity for those selected and their mixtures.

    ``new`` and ``rest`` are the residuals of the columns and of the counts, ``length`` the lengths of the columns.
    """
    new_length = np.sqrt((new**2).sum(axis=0))
    gain = np.where(new_length > 1e-3 * length, new.T @ rest / np.maximum(new_length, 1e-30), -np.inf)
    gain[list(selected)] = -np.inf
    return np.asarray(gain)


def _without_needless(problem: Problem, columns: Array, needed: Array, selected: list[int], always: int) -> list[int]:
    """Drop the least significant again and again; the deviation is that of the joint fit."""
    while len(selected) > always:
        design = columns[:, selected]
        weighted, _ = problem.weighted(design)
        scale = np.maximum(np.sqrt((weighted**2).sum(axis=0)), 1e-12)
        covariance = np.linalg.pinv((weighted / scale).T @ (weighted / scale), rcond=1e-10, hermitian=True)
        # rounding can make the variances of nearly collinear columns slightly negative
        deviation = np.sqrt(np.maximum(np.diag(covariance), 0.0))[: len(selected)] / scale[: len(selected)]
        strength = problem.solve(design) / np.maximum(deviation, 1e-12) / needed[selected]
        strength[:always] = np.inf
        if strength.min() >= 1:
            break
        del selected[int(strength.argmin())]
    return selected


def _needed(name: str) -> float:
    """Significance that a family needs: more for those that paint rarely has."""
    return _MIN_SIGNIFICANCE_RARE if name in _RARE else _MIN_SIGNIFICANCE


def refine_ratios(problem: Problem, templates: Sequence[Template]) -> list[Template]:
    """Adapt the shares of each family's groups to the sum spectrum: absorption in the paint changes them.

    Each group is free within a prior of 15 % around its share, so that only groups with a separate peak change.
    """
    areas = problem.solve(np.stack([template.counts for template in templates], axis=1))
    groups = np.concatenate([template.groups for template in templates]).T
    weighted, target = problem.weighted(groups)
    owner = np.concatenate([np.full(len(template.groups), n) for n, template in enumerate(templates)])
    first = np.flatnonzero(np.diff(owner, prepend=-1))[owner]
    prior = np.eye(owner.size, weighted.shape[1])
    prior[np.arange(owner.size), first] -= 1.0
    rows = np.flatnonzero(first != np.arange(owner.size))
    strength = 1.0 / (_RATIO_SPREAD * np.maximum(areas[owner[rows]], 1e-9))
    augmented = np.concatenate([weighted, prior[rows] * strength[:, None]])
    free = problem.least_squares(augmented, np.append(target, np.zeros(rows.size)))[: owner.size]
    factor = np.clip(np.divide(free, free[first], out=np.ones_like(free), where=free[first] > 0), *_RATIO_LIMITS)
    return [template.with_ratios(factor[owner == n]) for n, template in enumerate(templates)]


def fit_noise(problem: Problem, build: Callable[[float], list[Template]]) -> float:
    """Electronic noise (keV FWHM) at which the templates fit the sum spectrum best."""

    def misfit(noise: float) -> float:
        return problem.misfit(np.stack([template.counts for template in build(noise)], axis=1))

    optimum = minimize_scalar(misfit, bounds=_NOISE_RANGE_KEV, method="bounded", options={"xatol": 2e-3, "maxiter": 14})
    return float(optimum.x)
