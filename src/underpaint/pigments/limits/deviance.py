"""The profiled deviance: how far the best imitation stays from a spectrum, per count."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from underpaint.pigments.limits._imitation import Imitation
from underpaint.pigments.limits.question import CLAIM

Numbers = NDArray[np.float64]
FARTHEST = np.asarray([6.0, 2.0, 2.0, 2.0, 1.0])
"""How far the logarithms of scale, the two scatters' levels, and their slope and curvature may go."""
EVALUATIONS = 100
OBVIOUS = 100.0
"""A pair that parts below so many counts is not fitted more finely, nor from another start."""
ROUGH, EXACT = 1e-2, 1e-6
"""Change of the deviance at which a fit ends, over the deviance."""
SMALL = 1e-3
FLOOR = 1e-12
"""Expected share of a channel below which it is taken as this: detectors' electronics are never darker."""


@dataclass(frozen=True)
class Best:
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
        return CLAIM / max(self.deviance_per_count, FLOOR)


def imitate(parts: Numbers, imitation: Imitation, middle_kev: Numbers) -> Best:
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
    whole = parts.sum(axis=0)
    share = np.maximum(whole / whole.sum(), FLOOR)
    level = np.log(middle_kev / np.sqrt(middle_kev[0] * middle_kev[-1]))
    curves = np.stack([level, level**2])
    starts = imitation.starts(share)
    rough = _fit(share, imitation, curves, starts[0], ROUGH)
    if rough.counts_needed < OBVIOUS:
        return rough
    found = [_fit(share, imitation, curves, start, EXACT) for start in (rough.place, *starts[1:])]
    return min(found, key=lambda best: best.deviance_per_count)


def _fit(share: Numbers, imitation: Imitation, curves: Numbers, first: Numbers, tolerance: float) -> Best:
    scale = -np.log(np.exp(imitation.logs(first)[0]).sum())
    low, high = imitation.bounds.T
    start = np.concatenate([np.clip(first, low + 1e-6, high - 1e-6), np.zeros(FARTHEST.size)])
    kept: dict[bytes, tuple[Numbers, Numbers]] = {}

    def model(free: Numbers) -> tuple[Numbers, Numbers]:
        # one simulation serves the residuals and their derivatives
        key = free.tobytes()
        if key not in kept:
            kept.clear()
            kept[key] = _model(imitation, curves, scale, free)
        return kept[key]

    result = least_squares(
        lambda free: _residuals(share, model(free)[0]),
        start,
        jac=lambda free: _slope(share, *model(free)),
        bounds=(np.concatenate([low, -FARTHEST]), np.concatenate([high, FARTHEST])),
        method="trf",
        x_scale="jac",
        ftol=tolerance,
        xtol=1e-8,
        gtol=1e-14,
        max_nfev=EVALUATIONS,
    )
    return Best(np.asarray(result.x[: len(first)]), 2.0 * float(result.cost))


def _model(imitation: Imitation, curves: Numbers, scale: float, free: Numbers) -> tuple[Numbers, Numbers]:
    """Return (n_bin,) expected shares, and (n_bin, n_free + 5) derivatives."""
    count = len(free) - FARTHEST.size
    logs, slopes = imitation.logs(free[:count])
    bend = free[count + 3 :] @ curves
    levels = np.stack([0.0 * bend, 0.0 * bend, free[count + 1] + bend, free[count + 2] + bend])
    addends = np.exp(logs + scale + free[count] + levels)
    expected = addends.sum(axis=0) + FLOOR
    coherent, other = addends[2:]
    rows = [*np.einsum("fpb,pb->fb", slopes, addends), expected, coherent, other, *((coherent + other) * curves)]
    return expected, np.stack(rows, axis=1)


def _residuals(share: Numbers, expected: Numbers) -> Numbers:
    """Return signed roots of the channels' deviances."""
    over = (share - expected) / expected
    exact = 2.0 * ((1.0 + over) * np.log1p(over) - over)
    # where both agree the difference of logarithms loses its digits
    series = over**2 * (1.0 - over / 3.0 + over**2 / 6.0)
    return np.asarray(-np.sign(over) * np.sqrt(expected * np.where(np.abs(over) < SMALL, series, np.abs(exact))))


def _slope(share: Numbers, expected: Numbers, derivative: Numbers) -> Numbers:
    residual = _residuals(share, expected)
    near = np.abs(share - expected) < SMALL * expected
    safe = np.where(near, 1.0, residual)
    weight = np.where(near, 1.0 / np.sqrt(expected), (1.0 - share / expected) / safe)
    return np.asarray(weight[:, None] * derivative)
