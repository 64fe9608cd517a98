"""The linear fit of line families over a SNIP background, block by block."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from underpaint import __version__
from underpaint.elements.families import CANDIDATES, find_families
from underpaint.elements.templates import Templates, family_templates, scatter_templates
from underpaint.errors import ScanError
from underpaint.forward import resolution_sigma
from underpaint.instrument import Detector, Instrument
from underpaint.maps import ElementMaps
from underpaint.spectrum import EnergyAxis, Scan, scan_spectra
from underpaint.spectrum.background import snip
from underpaint.units import FWHM_PER_SIGMA

Array = NDArray[np.float64]
Progress = Callable[[int, int], None]
START_KEV = 1.2
"""Below lie electronic noise and lines that no air path lets through."""


@dataclass(frozen=True)
class _Fit:
    """One factorisation that serves every pixel."""

    names: tuple[str, ...]
    first_channel: int
    solve: Array
    fwhm_channels: Array

    def __call__(self, counts: Array) -> tuple[Array, Array]:
        """Return net areas and standard deviations, (n_pixel, n_family), of (n_pixel, n_channel) counts."""
        used = counts[:, self.first_channel :]
        background = smooth_background(used, self.fwhm_channels[self.first_channel :])
        area = (used - background) @ self.solve.T
        # Poisson variance of the counts; the background is smooth and adds about as much again under the peaks
        variance = (used + 0.3 * background) @ (self.solve**2).T
        return area, np.sqrt(np.maximum(variance, 1.0))


def fit_elements(
    scan: Scan,
    *,
    families: Sequence[str] | None = None,
    instrument: Instrument | None = None,
    engine: Literal["underpaint", "pymca"] = "underpaint",
    progress: Progress | None = None,
) -> ElementMaps:
    """Fit the net counts of each line family in every pixel.

    Parameters
    ----------
    scan : Scan
        With an energy axis.
    families : sequence of str, optional
        ``Fe_K``, ``Pb_L`` ...; None: those that the sum and the maximum spectrum need.
    instrument : Instrument, optional
        Gives the resolution, and the anode whose scattered lines are fitted beside; None: a usual detector.
    engine : {"underpaint", "pymca"}
        Our linear fit, or PyMca's ``FastXRFLinearFit`` (extra ``pymca``).
    progress : callable, optional
        Called with (rows done, rows in all).

    Returns
    -------
    ElementMaps
        Areas of whole families; NaN where a pixel is missing or has no counts.

    Raises
    ------
    CalibrationError, ScanError, MissingExtraError
        No energy axis; a family that the axis does not hold; the engine is not installed.
    """
    axis = scan.require_axis()
    detector = (instrument or Instrument()).detector
    total, brightest = (np.asarray(spectrum.counts, dtype=np.float64) for spectrum in scan_spectra(scan))
    templates = _templates(axis, detector, instrument, families)
    fwhm = _fwhm_channels(detector, axis)
    start = max(int(np.ceil(axis.channel(START_KEV))), 0)
    chosen = _chosen(total, brightest, templates, axis, fwhm, start, families)
    detector = _detector(instrument, axis, plan.noise_fwhm_kev)
    if engine == "pymca":
        from underpaint.elements.pymca import fit_with_pymca

        area, sigma = fit_with_pymca(scan, axis, detector, chosen, instrument)
    else:
        area, sigma = _fit_all(scan, _factorise(total, templates, chosen, fwhm, start), progress)
    silent = ~(np.asarray(scan.counts.sum(axis=2)) > 0)
    area[silent], sigma[silent] = np.nan, np.nan
    return ElementMaps(
        names=chosen,
        area=area.astype(np.float32),
        uncertainty=sigma.astype(np.float32),
        step_mm=scan.step_mm,
        settings=_settings(axis, detector, engine, families),
    )


def smooth_background(counts: Array, fwhm_channels: Array) -> Array:
    """Return the SNIP background of spectra, smoothed first so that single channels of few counts do not pull it down.

    The filter is a Gaussian of half the mean resolution: a tenth of the work of Ryan's count-dependent one, which
    a per-pixel fit over millions of spectra cannot afford.
    """
    smoothed = gaussian_filter1d(counts, float(np.mean(fwhm_channels)) / FWHM_PER_SIGMA, axis=-1, mode="nearest")
    return snip(np.maximum(smoothed, 0.0), fwhm_channels)


def _templates(
    axis: EnergyAxis, detector: Detector, instrument: Instrument | None, families: Sequence[str] | None
) -> Templates:
    excitation = axis.stop_kev if instrument is None else max(instrument.tube.voltage_kv, axis.stop_kev)
    lines = family_templates(tuple(families or CANDIDATES), detector, axis, excitation)
    missing = set(families or ()) - set(lines.names)
    if missing:
        message = (
            f"Cannot fit {', '.join(sorted(missing))}: no such lines between {axis.start_kev:.2f} and "
            f"{axis.stop_kev:.2f} keV. Write families as 'Fe_K' or 'Pb_L'."
        )
        raise ScanError(message)
    if instrument is None:
        return lines
    scatter = scatter_templates(instrument.tube.anode, detector, axis, instrument.geometry.scattering_angle_deg)
    own = {f"{instrument.tube.anode}_K", f"{instrument.tube.anode}_L"} - set(families or ())
    kept = lines.without(own)
    return Templates((*kept.names, *scatter.names), np.concatenate([kept.columns, scatter.columns]))


def _chosen(
    total: Array,
    brightest: Array,
    templates: Templates,
    axis: EnergyAxis,
    fwhm: Array,
    start: int,
    families: Sequence[str] | None,
) -> tuple[str, ...]:
    if families is not None:
        return tuple(families)
    part = Templates(templates.names, templates.columns[:, start:])
    background = smooth_background(total[None, start:], fwhm[start:])[0]
    peak = brightest[start:] - smooth_background(brightest[None, start:], fwhm[start:])[0]
    found = find_families(total[start:], background, part, axis, np.maximum(peak, 0.0))
    if not found:
        message = "Cannot fit elements: no characteristic line rises over the background. Check the energy calibration."
        raise ScanError(message)
    return found


def _factorise(total: Array, templates: Templates, chosen: tuple[str, ...], fwhm: Array, start: int) -> _Fit:
    scatter = tuple(name for name in templates.names if name.startswith("scatter"))
    names = (*chosen, *scatter)
    columns = templates.columns[[templates.names.index(name) for name in names], start:].T
    # weights from the mean spectrum: pixels differ in size more than in shape, and one factorisation serves all
    scale = 1.0 / np.sqrt(np.maximum(total[start:], total[start:].mean() * 1e-3))
    solve = np.linalg.pinv(columns * scale[:, None], rcond=1e-8) * scale
    return _Fit(chosen, start, solve[: len(chosen)], fwhm)


def _fit_all(scan: Scan, fit: _Fit, progress: Progress | None) -> tuple[Array, Array]:
    n_row, n_column, n_channel = scan.shape
    area, sigma = np.empty((2, n_row, n_column, len(fit.names)))
    for rows in _row_blocks(scan):
        counts = np.asarray(scan.counts[rows], dtype=np.float64).reshape(-1, n_channel)
        for target, values in zip((area, sigma), fit(counts), strict=True):
            target[rows] = values.reshape(-1, n_column, len(fit.names))
        if progress is not None:
            progress(rows.stop, n_row)
    return area, sigma


def _row_blocks(scan: Scan) -> list[slice]:
    stops = np.cumsum(scan.counts.chunks[0])
    return [slice(int(stop - size), int(stop)) for stop, size in zip(stops, scan.counts.chunks[0], strict=True)]


def _fwhm_channels(detector: Detector, axis: EnergyAxis) -> Array:
    sigma = resolution_sigma(detector, np.maximum(axis.energy_kev, 0.1))
    return np.asarray(FWHM_PER_SIGMA * sigma / axis.gain_kev)


def _settings(axis: EnergyAxis, detector: Detector, engine: str, families: Sequence[str] | None) -> dict[str, Any]:
    return {
        "engine": engine,
        "gain_kev": axis.gain_kev,
        "zero_kev": axis.zero_kev,
        "noise_fwhm_kev": detector.noise_fwhm_kev,
        "fano": detector.fano,
        "families": "found" if families is None else list(families),
        "package_version": __version__,
    }
