"""Which line families are in a scan, from its sum and its maximum spectrum."""

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from underpaint.elements.templates import Templates
from underpaint.spectrum import EnergyAxis

Array = NDArray[np.float64]

K_ELEMENTS = "Al Si P S Cl Ar K Ca Ti V Cr Mn Fe Co Ni Cu Zn As Se Br Rb Sr Zr Mo Ag Cd Sn Sb Ba"
L_ELEMENTS = "Ag Cd Sn Sb Ba W Pt Au Hg Pb Bi"
CANDIDATES = (*(f"{name}_K" for name in K_ELEMENTS.split()), *(f"{name}_L" for name in L_ELEMENTS.split()))
"""Families that paintings, their grounds and supports, and air show."""

SMALLEST_SIGMAS = 6.0
"""A family enters when its area in the sum spectrum exceeds this many standard deviations ..."""
SMALLEST_SHARE = 1e-4
"""... and this share of all counts: below it, errors of the templates and the background decide."""


def find_families(
    total: Array, background: Array, templates: Templates, axis: EnergyAxis, brightest: Array | None = None
) -> tuple[str, ...]:
    """Return the families whose lines a spectrum needs, strongest first.

    Parameters
    ----------
    total, background : (n_channel,) arrays
        Sum spectrum and what lies under its peaks, counts.
    templates : Templates
        All candidates, and scatter peaks.
    brightest : (n_channel,) array, optional
        Net maximum spectrum: families of a few pixels, lost in the sum, show there.
    """
    del axis
    net = np.maximum(total - background, 0.0)
    found = _needed(net, total + 0.03 * background, templates, total.sum())
    if brightest is not None:
        # the maximum of many Poisson draws lies high everywhere: ask for clearly more than that
        found |= _needed(brightest, brightest + 10.0, templates, brightest.sum(), sigmas=12.0, share=5e-3)
    area = _areas(net, total, templates)
    ranked = sorted(found, key=lambda name: -area[templates.names.index(name)])
    return tuple(name for name in ranked if not name.startswith("scatter"))


def _needed(
    net: Array,
    variance: Array,
    templates: Templates,
    whole: float,
    sigmas: float = SMALLEST_SIGMAS,
    share: float = SMALLEST_SHARE,
) -> set[str]:
    """Fit all, drop the insignificant, and repeat until all that are left are needed."""
    left = templates
    while left.names:
        area = _areas(net, variance, left)
        weighted = left.columns / np.sqrt(np.maximum(variance, 1.0))
        information = np.einsum("fc,fc->f", weighted, weighted)
        signal = area * np.sqrt(information)
        weak = {
            name
            for name, strength, counts in zip(left.names, signal, area, strict=True)
            if strength < sigmas or counts < share * whole
        }
        if not weak:
            break
        left = left.without(weak)
    return set(left.names)


def _areas(net: Array, variance: Array, templates: Templates) -> Array:
    scale = 1.0 / np.sqrt(np.maximum(variance, 1.0))
    return np.asarray(nnls((templates.columns * scale).T, net * scale)[0])
