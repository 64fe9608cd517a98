"""Kubelka-Munk model: compute the reflectance of paint films from absorption K and scattering S, and the reverse.

For a film, K and S are given times its thickness, without a unit. For an opaque paint, only the ratio K/S matters.
Kubelka, P. (1948), J. Opt. Soc. Am. 38, 448; surface correction: Saunderson, J. L. (1942), J. Opt. Soc. Am. 32, 727.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Spectra = NDArray[np.float64]
SURFACE_REFLECTION = 0.04
"""Reflectance of the boundary between air and binder (refractive index 1.5) at normal incidence."""
INTERNAL_REFLECTION = 0.6
"""Fraction of the diffuse light in the paint that this boundary reflects back (refractive index 1.5)."""
MIN_REFLECTANCE, MAX_REFLECTANCE = 1e-3, 0.995
"""Limits to which reflectance is clipped before K/S is computed. Beyond these limits, K/S would only contain noise."""


def k_over_s_from_reflectance(reflectance: ArrayLike) -> Spectra:
    """Return ``K/S = (1 - R)^2 / 2R`` of an opaque paint from its reflectance R, a fraction (array of any shape)."""
    bounded_reflectance = np.clip(np.asarray(reflectance, dtype=np.float64), MIN_REFLECTANCE, MAX_REFLECTANCE)
    return np.asarray((1.0 - bounded_reflectance) ** 2 / (2.0 * bounded_reflectance))


def reflectance_from_k_over_s(absorption_over_scattering: ArrayLike) -> Spectra:
    """Return the reflectance of an opaque paint from its K/S. This inverts :func:`k_over_s_from_reflectance`."""
    k_over_s = np.asarray(absorption_over_scattering, dtype=np.float64)
    # this form of 1 + q - sqrt(q (q + 2)), where q = K/S, avoids cancellation at large q
    return np.asarray(1.0 / (1.0 + k_over_s + np.sqrt(k_over_s * (k_over_s + 2.0))))


def film_reflectance(absorption: ArrayLike, scattering: ArrayLike, backing: ArrayLike) -> Spectra:
    """Return the reflectance of a film over a backing.

    Parameters
    ----------
    absorption, scattering : array
        K and S, each times the thickness of the film. S must be positive.
    backing : array
        Reflectance of the backing. The three arrays are broadcast against each other.

    Returns
    -------
    array
        Reflectance as a fraction, in the broadcast shape.
    """
    scattering = np.asarray(scattering, dtype=np.float64)
    backing = np.asarray(backing, dtype=np.float64)
    a = 1.0 + np.asarray(absorption, dtype=np.float64) / scattering
    b = np.sqrt(np.maximum(a * a - 1.0, 1e-12))
    b_coth = b / np.tanh(np.maximum(b * scattering, 1e-12))
    return np.asarray((1.0 - backing * (a - b_coth)) / (a - backing + b_coth))


def film_optics(reflectance: Spectra, backing: Spectra) -> tuple[Spectra, Spectra]:
    """Return K and S, each times the thickness, of a film measured on two or more backings.

    Parameters
    ----------
    reflectance, backing : (n_backing, n_band) array
        Reflectance of the film on each backing, and of each bare backing.

    Returns
    -------
    absorption, scattering : (n_band,) array
        NaN in bands in which the film is opaque or the values contradict the model.

    Notes
    -----
    Let ``a = 1 + K/S``, ``b = sqrt(a^2 - 1)`` and ``c = b coth(b S)``. A film's reflectance R over a backing of
    reflectance B obeys ``a (R + B) + c (R - B) = 1 + R B``. The equation is linear in a and c, which are fitted to all
    backings by least squares.
    """
    reflectance_sum, reflectance_difference, right_side = (
        reflectance + backing,
        reflectance - backing,
        1.0 + reflectance * backing,
    )
    normal_aa, normal_cc, normal_ac = (
        (reflectance_sum * reflectance_sum).sum(0),
        (reflectance_difference * reflectance_difference).sum(0),
        (reflectance_sum * reflectance_difference).sum(0),
    )
    normal_a, normal_c = (reflectance_sum * right_side).sum(0), (reflectance_difference * right_side).sum(0)
    determinant = normal_aa * normal_cc - normal_ac * normal_ac
    with np.errstate(divide="ignore", invalid="ignore"):
        a = (normal_cc * normal_a - normal_ac * normal_c) / determinant
        c = (normal_aa * normal_c - normal_ac * normal_a) / determinant
        b = np.sqrt(a * a - 1.0)
        scattering = np.arctanh(b / c) / b
        absorption = (a - 1.0) * scattering
        is_translucent = np.ptp(reflectance, axis=0) > 0.02 * np.ptp(backing, axis=0)
        is_valid = is_translucent & (a > 1.0) & (c > b) & np.isfinite(scattering)
    return np.where(is_valid, absorption, np.nan), np.where(is_valid, scattering, np.nan)


def internal_reflectance(reflectance: ArrayLike, specular: ArrayLike = SURFACE_REFLECTION) -> Spectra:
    """Return the internal reflectance of a paint, without its boundary to air, from its measured reflectance.

    Parameters
    ----------
    reflectance : array
        Measured reflectance, a fraction.
    specular : float or array
        Specular reflectance contained in the measurement: ``SURFACE_REFLECTION`` if the instrument includes the
        specular component, 0 if it excludes this component.
    """
    without_specular = np.maximum(np.asarray(reflectance, dtype=np.float64) - np.asarray(specular), MIN_REFLECTANCE)
    return np.asarray(
        without_specular
        / ((1.0 - SURFACE_REFLECTION) * (1.0 - INTERNAL_REFLECTION) + INTERNAL_REFLECTION * without_specular)
    )


def measured_reflectance(reflectance: ArrayLike, specular: ArrayLike = SURFACE_REFLECTION) -> Spectra:
    """Return the measured reflectance of a paint. This inverts :func:`internal_reflectance`."""
    internal = np.asarray(reflectance, dtype=np.float64)
    return np.asarray(
        np.asarray(specular)
        + (1.0 - SURFACE_REFLECTION) * (1.0 - INTERNAL_REFLECTION) * internal / (1.0 - INTERNAL_REFLECTION * internal)
    )
