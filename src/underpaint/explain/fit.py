"""Fit layer thicknesses to a measured spectrum by Poisson likelihood with the forward model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import CalibrationError, ScanError
from underpaint.forward import ORDERS, SCATTER, Emission, emit, render
from underpaint.instrument import Instrument
from underpaint.sample import Layer, Stratigraphy
from underpaint.spectrum import EnergyAxis, Spectrum

STEP = 0.02
"""Relative step of the finite differences: the counts' curvature in log thickness stays under 1e-3 of them."""
LARGEST_MOVE = 0.7
"""A step changes a thickness or a scale at most by this factor's exponential, so that the fit cannot run away."""


@dataclass(frozen=True)
class StratigraphyFit:
    """A stratigraphy fitted to one spectrum.

    Parameters
    ----------
    stratigraphy : Stratigraphy
        With the fitted thicknesses.
    thickness_um, uncertainty_um : (n_layer,) arrays
        Thicknesses and one standard deviation each from the Fisher information, um. An uncertainty larger than the
        thickness means that the layer is too thick or too deep for the spectrum to tell.
    deviance : float
        Twice the log-likelihood ratio against a model that matches every channel (Baker & Cousins 1984, eq. 3).
    n_channel : int
        Channels that were fitted; a perfect model leaves a deviance of about this many.
    expected : (n_channel,) array
        Fitted counts on the spectrum's axis.
    """

    stratigraphy: Stratigraphy
    thickness_um: NDArray[np.float64]
    uncertainty_um: NDArray[np.float64]
    deviance: float
    n_channel: int
    expected: NDArray[np.float64]


def compare(
    spectrum: Spectrum, candidates: Sequence[Stratigraphy], instrument: Instrument, *, start_kev: float = 2.8
) -> list[StratigraphyFit]:
    """Fit every candidate and return them, best first (smallest deviance)."""
    fits = [fit_thickness(spectrum, candidate, instrument, start_kev=start_kev) for candidate in candidates]
    return sorted(fits, key=lambda fit: fit.deviance)


def fit_thickness(
    spectrum: Spectrum,
    stratigraphy: Stratigraphy,
    instrument: Instrument,
    *,
    start_kev: float = 2.8,
    iterations: int = 12,
) -> StratigraphyFit:
    """Fit the thickness of every layer, the overall scale and the two scatters' scales by Fisher scoring.

    Parameters
    ----------
    spectrum : Spectrum
        Counts with an energy axis.
    stratigraphy : Stratigraphy
        Composition, and thicknesses to start from.
    start_kev : float
        Channels below are left out: soft lines depend on air and window more than on the paint.

    Raises
    ------
    CalibrationError, ScanError
        The spectrum has no axis, or no counts above ``start_kev``.
    """
    axis, counts, used = _fitted_part(spectrum, start_kev)
    thickness = np.asarray([layer.thickness_um for layer in stratigraphy.layers])
    logs = np.zeros(thickness.size + 3)
    logs[-3] = np.log(counts[used].sum() / _model(stratigraphy, thickness, logs, instrument, axis)[0][used].sum())
    for _ in range(iterations):
        expected, jacobian = _model(stratigraphy, thickness, logs, instrument, axis)
        information, gradient = _fisher(counts[used], expected[used], jacobian[used])
        logs = logs + np.clip(np.linalg.solve(information, gradient), -LARGEST_MOVE, LARGEST_MOVE)
    expected, jacobian = _model(stratigraphy, thickness, logs, instrument, axis)
    information, _ = _fisher(counts[used], expected[used], jacobian[used])
    sigma = np.sqrt(np.diag(np.linalg.inv(information)))[: thickness.size]
    fitted = thickness * np.exp(logs[: thickness.size])
    return StratigraphyFit(
        _with_thickness(stratigraphy, fitted),
        fitted,
        fitted * sigma,
        poisson_deviance(counts[used], expected[used]),
        int(used.sum()),
        expected,
    )


def poisson_deviance(counts: NDArray[np.float64], expected: NDArray[np.float64]) -> float:
    """Return ``2 sum(mu - n + n ln(n / mu))`` (Baker & Cousins 1984, eq. 3)."""
    logs = np.where(counts > 0, counts * np.log(np.where(counts > 0, counts, 1.0) / expected), 0.0)
    return float(2.0 * np.sum(expected - counts + logs))


def _fitted_part(spectrum: Spectrum, start_kev: float) -> tuple[EnergyAxis, NDArray[np.float64], NDArray[np.bool_]]:
    if spectrum.axis is None:
        message = f"Cannot fit {spectrum.name or 'the spectrum'}: it has no energy axis; calibrate the scan first."
        raise CalibrationError(message)
    used = spectrum.axis.energy_kev >= start_kev
    counts = np.asarray(spectrum.counts, dtype=np.float64)
    if not counts[used].sum() > 0:
        message = f"Cannot fit {spectrum.name or 'the spectrum'}: it has no counts above {start_kev} keV."
        raise ScanError(message)
    return spectrum.axis, counts, used


def _model(
    stratigraphy: Stratigraphy,
    thickness: NDArray[np.float64],
    logs: NDArray[np.float64],
    instrument: Instrument,
    axis: EnergyAxis,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return expected counts (n_channel,) and their derivative to every parameter (n_channel, n_parameter).

    Parameters are the logarithms of the thicknesses (relative to the start), of the scale, and of the coherent
    and the Compton scatter's scales.
    """
    count = thickness.size
    shifts = np.vstack([np.zeros(count), STEP * np.eye(count), -STEP * np.eye(count)])
    batch = [_with_thickness(stratigraphy, thickness * np.exp(logs[:count] + shift)) for shift in shifts]
    emission = emit(batch, instrument)
    coherent, compton = np.exp(logs[-2]), np.exp(logs[-1])
    shifted = {name: getattr(emission, name) * compton for name in ("compton", "multiple")}
    scaled = replace(emission, coherent=emission.coherent * coherent, **shifted)
    spectra = np.exp(logs[-3]) * np.asarray(render(scaled, instrument.detector, axis), dtype=np.float64)
    expected = np.maximum(spectra[0], 1e-9)
    by_thickness = (spectra[1 : count + 1] - spectra[count + 1 :]) / (2.0 * STEP)
    by_scatter = [np.exp(logs[-3]) * _scatter_alone(scaled, kind, instrument, axis) for kind in ("coherent", "compton")]
    return expected, np.stack([*by_thickness, expected, *by_scatter], axis=1)


def _scatter_alone(emission: Emission, kind: str, instrument: Instrument, axis: EnergyAxis) -> NDArray[np.float64]:
    kept = {"coherent"} if kind == "coherent" else {"compton", "multiple"}
    dark = {name: 0.0 * getattr(emission, name) for name in (*ORDERS, *SCATTER) if name not in kept}
    only = replace(emission, **dark)
    return np.asarray(render(only, instrument.detector, axis)[0], dtype=np.float64)


def _fisher(
    counts: NDArray[np.float64], expected: NDArray[np.float64], jacobian: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weighted = jacobian / expected[:, None]
    information = weighted.T @ jacobian
    # a trace of prior (a factor e is one standard deviation of ten) keeps layers that the spectrum cannot see in place
    information += np.eye(len(information)) * 0.01
    return information, weighted.T @ (counts - expected)


def _with_thickness(stratigraphy: Stratigraphy, thickness_um: NDArray[np.float64]) -> Stratigraphy:
    layers = [
        Layer(layer.mass_fractions, layer.density, float(thickness), layer.name, layer.pigments)
        for layer, thickness in zip(stratigraphy.layers, thickness_um, strict=True)
    ]
    return Stratigraphy(tuple(layers), stratigraphy.name)
