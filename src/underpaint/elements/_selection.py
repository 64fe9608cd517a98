"""Which families a scan shows, and the detector's resolution, from its sum and maximum spectra."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar, nnls

from underpaint.elements._families import Template
from underpaint.spectrum.background import snip

Array = NDArray[np.float64]

_SUM_ERROR, _MAX_ERROR = 0.012, 0.06
_SHAPE_ERROR = 0.03
_LEAST_SIGNIFICANCE = 5.0
_LEAST_SIGNIFICANCE_RARE = 15.0
_RARE = frozenset(("Al_K", "Br_K", "Rb_K", "Zr_K", "Mo_K", "Sb_K", "Sb_L", "W_L"))
_RATIO_SPREAD = 0.15
_RATIO_LIMITS = (0.6, 1.6)
_NOISE_RANGE_KEV = (0.02, 0.25)


@dataclass(frozen=True)
class Problem:
    """A spectrum to be explained.

    Parameters
    ----------
    counts, background, sigma : (n_channel,) arrays
        Counts, their smooth part, and one standard deviation with the model's own error.
    used : (n_channel,) bool array
        Channels that count.
    """

    counts: Array
    background: Array
    sigma: Array
    used: NDArray[np.bool_]

    def solve(self, design: Array) -> Array:
        """Non-negative areas of the (n_channel, n_column) design."""
        weighted, target = self.weighted(design)
        scale = np.maximum(np.sqrt((weighted**2).sum(axis=0)), 1e-12)
        return np.asarray(nnls(weighted / scale, target, maxiter=30 * scale.size)[0] / scale)

    def weighted(self, design: Array) -> tuple[Array, Array]:
        """Design and net counts over the deviation, in the channels used."""
        net = (self.counts - self.background) / self.sigma
        return (design / self.sigma[:, None])[self.used], net[self.used]

    def misfit(self, design: Array) -> float:
        """Mean squared misfit of the best non-negative fit."""
        weighted, target = self.weighted(design)
        return float(np.mean((weighted @ self.solve(design) - target) ** 2))


def problem(counts: Array, fwhm: Array, used: NDArray[np.bool_], model_error: float) -> Problem:
    """Set a spectrum up for fitting over its clipped background."""
    # On the flank of a strong peak a small fault of position or width counts more than one of height.
    flank = _SHAPE_ERROR * fwhm * np.abs(np.gradient(counts))
    sigma = np.sqrt(np.maximum(counts, 1.0) + (model_error * counts) ** 2 + flank**2)
    return Problem(counts, snip(counts, fwhm), sigma, used)


def sum_problem(total: Array, fwhm: Array, used: NDArray[np.bool_]) -> Problem:
    """Set up the sum spectrum."""
    return problem(total, fwhm, used, _SUM_ERROR)


def max_problem(highest: Array, fwhm: Array, used: NDArray[np.bool_]) -> Problem:
    """Set up the maximum spectrum, whose line ratios are rougher: its channels come from different pixels."""
    return problem(highest, fwhm, used, _MAX_ERROR)


def significant(own: Problem, templates: Sequence[Template], always: int = 0) -> list[int]:
    """Drop the least significant family again and again until all that are left are significant.

    The first ``always`` templates stay. The deviation is that of the joint fit, so a family that another one
    can replace is not significant.
    """
    kept = list(range(len(templates)))
    columns = np.stack([template.counts for template in templates], axis=1)
    while len(kept) > always:
        design = columns[:, kept]
        weighted, _ = own.weighted(design)
        areas = own.solve(design)
        scale = np.maximum(np.sqrt((weighted**2).sum(axis=0)), 1e-12)
        information = (weighted / scale).T @ (weighted / scale)
        deviation = np.sqrt(np.diag(np.linalg.pinv(information, rcond=1e-10))) / scale
        strength = areas / np.maximum(deviation, 1e-12)
        strength /= np.array([_needed(templates[index].name) for index in kept])
        strength[:always] = np.inf
        if strength.min() >= 1:
            break
        # Families that the fit leaves empty go all at once, the others one by one: they may stand in for each other.
        empty = {int(place) + always for place in np.flatnonzero(areas[always:] <= 0)}
        drop = empty or {int(strength.argmin())}
        kept = [index for place, index in enumerate(kept) if place not in drop]
    return kept


def _needed(name: str) -> float:
    """Significance that a family needs: more for those that paint rarely has."""
    return _LEAST_SIGNIFICANCE_RARE if name in _RARE else _LEAST_SIGNIFICANCE


def refine_ratios(own: Problem, templates: Sequence[Template]) -> list[Template]:
    """Adapt the shares of each family's groups to the sum spectrum: absorption in the paint changes them.

    Each group is free within a prior of 15 % around its share, so that only groups with a peak of their own move.
    """
    areas = own.solve(np.stack([template.counts for template in templates], axis=1))
    groups = np.concatenate([template.groups for template in templates]).T
    weighted, target = own.weighted(groups)
    owner = np.concatenate([np.full(len(template.groups), n) for n, template in enumerate(templates)])
    first = np.flatnonzero(np.diff(owner, prepend=-1))[owner]
    prior = np.eye(owner.size)
    prior[np.arange(owner.size), first] -= 1.0
    rows = np.flatnonzero(first != np.arange(owner.size))
    strength = 1.0 / (_RATIO_SPREAD * np.maximum(areas[owner[rows]], 1e-9))
    augmented = np.concatenate([weighted, prior[rows] * strength[:, None]])
    free = np.asarray(nnls(augmented, np.append(target, np.zeros(rows.size)), maxiter=30 * owner.size)[0])
    factor = np.clip(np.divide(free, free[first], out=np.ones_like(free), where=free[first] > 0), *_RATIO_LIMITS)
    return [template.with_ratios(factor[owner == n]) for n, template in enumerate(templates)]


def fit_noise(own: Problem, build: Callable[[float], list[Template]]) -> float:
    """Electronic noise (keV FWHM) at which the templates fit the sum spectrum best."""

    def misfit(noise: float) -> float:
        return own.misfit(np.stack([template.counts for template in build(noise)], axis=1))

    found = minimize_scalar(misfit, bounds=_NOISE_RANGE_KEV, method="bounded", options={"xatol": 2e-3, "maxiter": 14})
    return float(found.x)
