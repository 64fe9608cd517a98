"""Profiled deviance per count between a spectrum and its best fit by another paint."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from underpaint.pigments.limits._imitation import Imitation
from underpaint.pigments.limits.question import MIN_DEVIANCE

Numbers = NDArray[np.float64]
MAX_NUISANCE = np.asarray([6.0, 2.0, 2.0, 2.0, 1.0])
"""How far the logarithms of scale, the two scatters' levels, and their slope and curvature may go."""
MAX_EVALUATIONS = 100
MAX_OBVIOUS_COUNTS = 100.0
"""A pair that parts below so many counts is not fitted more finely, nor from another start."""
ROUGH_TOLERANCE, EXACT_TOLERANCE = 1e-2, 1e-6
"""Change of the deviance at which a fit ends, over the deviance."""
SERIES_LIMIT = 1e-3
MIN_SHARE = 1e-12
"""Expected share of a channel below which it is taken as this: detectors' electronics are never darker."""


@dataclass(frozen=True)
class ImitationFit:
    """The best imitation of a spectrum.

    Parameters
    ----------
    place : (n_free,) array
        Of the imitation.
    deviance_per_count : float
        Poisson deviance (Baker & Cousins 1984, eq. 3) over the total counts of the imitated spectrum.
    """

    place: Numbers
    deviance_per_count: float

    @property
    def counts_needed(self) -> float:
        """Counts of the whole spectrum at which the deviance is ``CLAIM``."""
        return MIN_DEVIANCE / max(self.deviance_per_count, MIN_SHARE)


def imitate(parts: Numbers, imitation: Imitation, middle_kev: Numbers) -> ImitationFit:
    """Fit an imitation to an expected spectrum.

    Parameters
    ----------
    parts : (n_part, n_bin) array
        Expected counts to be imitated, any scale; only their sum counts.
    imitation : Imitation
        What may vary.
    middle_kev : (n_bin,) array
        Energy of the channels, keV.

    Notes
    -----
    Beside the imitation's own freedom, the scale is free (no live time is trusted), and so are the levels of coherent
    and of other scatter, and a slope and a curvature of both in ln(energy): a measured scan's scatter comes from
    support, air and holders, too, and its shape is known to some per cent only. With expected counts in place
    of drawn ones (Asimov data, Cowan et al. 2011) the deviance is exactly proportional to them.
    """
    total = parts.sum(axis=0)
    share = np.maximum(total / total.sum(), MIN_SHARE)
    log_energy = np.log(middle_kev / np.sqrt(middle_kev[0] * middle_kev[-1]))
    curves = np.stack([log_energy, log_energy**2])
    starts = imitation.starts(share)
    rough_fit = _fit(share, imitation, curves, starts[0], ROUGH_TOLERANCE)
    if rough_fit.counts_needed < MAX_OBVIOUS_COUNTS:
        return rough_fit
    fits = [_fit(share, imitation, curves, start, EXACT_TOLERANCE) for start in (rough_fit.place, *starts[1:])]
    return min(fits, key=lambda best: best.deviance_per_count)


def _fit(share: Numbers, imitation: Imitation, curves: Numbers, initial: Numbers, tolerance: float) -> ImitationFit:
    scale = -np.log(np.exp(imitation.logs(initial)[0]).sum())
    low, high = imitation.bounds.T
    start = np.concatenate([np.clip(initial, low + 1e-6, high - 1e-6), np.zeros(MAX_NUISANCE.size)])
    cached: dict[bytes, tuple[Numbers, Numbers]] = {}

    def model(free: Numbers) -> tuple[Numbers, Numbers]:
        # one simulation serves the residuals and their derivatives
        key = free.tobytes()
        if key not in cached:
            cached.clear()
            cached[key] = _model(imitation, curves, scale, free)
        return cached[key]

    result = least_squares(
        lambda free: _residuals(share, model(free)[0]),
        start,
        jac=lambda free: _jacobian(share, *model(free)),
        bounds=(np.concatenate([low, -MAX_NUISANCE]), np.concatenate([high, MAX_NUISANCE])),
        method="trf",
        x_scale="jac",
        ftol=tolerance,
        xtol=1e-8,
        gtol=1e-14,
        max_nfev=MAX_EVALUATIONS,
    )
    return ImitationFit(np.asarray(result.x[: len(initial)]), 2.0 * float(result.cost))


def _model(imitation: Imitation, curves: Numbers, scale: float, free: Numbers) -> tuple[Numbers, Numbers]:
    """Return (n_bin,) expected shares, and (n_bin, n_free + 5) derivatives."""
    n_free = len(free) - MAX_NUISANCE.size
    logs, slopes = imitation.logs(free[:n_free])
    curve_term = free[n_free + 3 :] @ curves
    levels = np.stack(
        [0.0 * curve_term, 0.0 * curve_term, free[n_free + 1] + curve_term, free[n_free + 2] + curve_term]
    )
    addends = np.exp(logs + scale + free[n_free] + levels)
    expected = addends.sum(axis=0) + MIN_SHARE
    coherent, other = addends[2:]
    rows = [*np.einsum("fpb,pb->fb", slopes, addends), expected, coherent, other, *((coherent + other) * curves)]
    return expected, np.stack(rows, axis=1)


def _residuals(share: Numbers, expected: Numbers) -> Numbers:
    """Return signed roots of the channels' deviances."""
    relative_difference = (share - expected) / expected
    exact = 2.0 * ((1.0 + relative_difference) * np.log1p(relative_difference) - relative_difference)
    # where both agree the difference of logarithms loses its digits
    series = relative_difference**2 * (1.0 - relative_difference / 3.0 + relative_difference**2 / 6.0)
    return np.asarray(
        -np.sign(relative_difference)
        * np.sqrt(expected * np.where(np.abs(relative_difference) < SERIES_LIMIT, series, np.abs(exact)))
    )


def _jacobian(share: Numbers, expected: Numbers, derivative: Numbers) -> Numbers:
    residual = _residuals(share, expected)
    is_close = np.abs(share - expected) < SERIES_LIMIT * expected
    safe_residual = np.where(is_close, 1.0, residual)
    weight = np.where(is_close, 1.0 / np.sqrt(expected), (1.0 - share / expected) / safe_residual)
    return np.asarray(weight[:, None] * derivative)
