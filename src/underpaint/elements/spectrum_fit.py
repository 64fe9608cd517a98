"""Fit of one spectrum, of a pixel or a region: fitted spectrum, families, scatter, background, residual."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Spectrum
from underpaint.elements._families import Template, family_template
from underpaint.elements.fit import Choice, check_names, choose
from underpaint.errors import CalibrationError, ScanError
from underpaint.physics.instrument import Instrument

Array = NDArray[np.float64]
LIMIT_SIGMAS = 3.0
"""Deviations of an absent family's area up to its limit of detection (IUPAC 1978)."""
_MIN_COUNTS = 100


@dataclass(frozen=True)
class Family:
    """A line family in a spectrum.

    Parameters
    ----------
    area, sigma : float
        Net counts over all its lines, and one standard deviation.
    detection_limit : float
        Smallest detectable net counts.
    counts : (n_channel,) array
        Its part of the fitted spectrum; zero outside the channels fitted.
    hardness, hardness_sigma : float
        Logarithm of the ratio of its other lines to the strongest, relative to random paint, and one standard
        deviation. Paint on top changes it: soft lines are absorbed more than hard ones, or less if an absorption edge
        is between them (lead's L-beta under vermilion). NaN for a family with a single peak.
    """

    area: float
    sigma: float
    detection_limit: float
    counts: Array
    hardness: float = np.nan
    hardness_sigma: float = np.nan

    @property
    def present(self) -> bool:
        """Whether the area stands above the limit of detection and above three of its deviations."""
        return self.area > max(self.detection_limit, LIMIT_SIGMAS * self.sigma)


@dataclass(frozen=True)
class SpectrumFit:
    """A fitted spectrum and its parts.

    Parameters
    ----------
    name : str
    energy_kev, counts : (n_channel,) arrays
        The spectrum: keV; counts.
    fitted : (n_channel,) array
        The model; NaN outside the channels fitted.
    families : dict of str to Family
        All fitted families by name, ``Fe_K``.
    scatter, background : (n_channel,) arrays
        Lines of the source as the sample scatters them, and all that is smooth, sum peaks included.
    sigma : (n_channel,) array
        One standard deviation of the residual, counting and model error.
    chi_square : float
        Mean of (residual / sigma)**2 over the fitted channels: at most about one if the model describes the spectrum.
    """

    name: str
    energy_kev: Array
    counts: Array
    fitted: Array
    families: dict[str, Family]
    scatter: Array
    background: Array
    sigma: Array
    chi_square: float

    @property
    def residual(self) -> Array:
        """(n_channel,) counts less those fitted."""
        return self.counts - self.fitted


def fit_spectrum(
    spectrum: Spectrum,
    *,
    families: Sequence[str] | None = None,
    add: Sequence[str] = (),
    drop: Sequence[str] = (),
    instrument: Instrument | None = None,
) -> SpectrumFit:
    """Fit one spectrum as the element maps are fitted, and return all parts of the model.

    Parameters
    ----------
    spectrum : Spectrum
        Counts of a pixel, or summed over a region, with an axis.
    families : sequence of str, optional
        Those to fit, and no others. By default all that may be there.
    add, drop, instrument
        As for :func:`~underpaint.elements.fit_elements`.

    Raises
    ------
    CalibrationError
        The spectrum has no energy axis.
    ScanError
        It has too few counts.
    CoverageError
        A family lies outside the recorded range.

    Examples
    --------
    >>> import underpaint as up
    >>> from underpaint.elements import fit_spectrum
    >>> scan = up.load("panel.h5")
    >>> fit = fit_spectrum(scan.sum_spectrum())
    >>> fit.families["Pb_L"].present
    True
    """
    check_names(families, add, drop)
    counts, axis = _fittable(spectrum)
    chosen = choose(counts, counts, axis, families, add, drop, instrument)
    return fit_chosen(spectrum, chosen, chosen.families if families is None else chosen.names)


def fit_chosen(spectrum: Spectrum, chosen: Choice, families: Sequence[str]) -> SpectrumFit:
    """Fit one spectrum with line families, resolution and instruments that were chosen before.

    Many spectra of one scan need them chosen only once: this takes most of the time of :func:`fit_spectrum`.

    Parameters
    ----------
    spectrum : Spectrum
        With an axis.
    chosen : Choice
        From the sum and maximum spectra of the scan, for instance.
    families : sequence of str
        To fit.

    Raises
    ------
    CalibrationError
        The spectrum has no energy axis.
    ScanError
        It has too few counts.
    """
    counts, axis = _fittable(spectrum)
    fit = chosen.make(counts[None], chosen.stage.detector, per_fwhm=np.inf, families=list(families))
    solver, channels = fit.classes[0], slice(int(fit.bins.start[0]), fit.bins.stop)
    shown = solver(counts[None, channels].astype(np.float32))

    def spread(part: Array) -> Array:
        spectrum_out = np.zeros(axis.n_channel)
        spectrum_out[channels] = part
        return spectrum_out

    parts = solver.parts()
    n_family = len(fit.names)
    templates = (family_template(name, chosen.stage.detector, axis, chosen.stage.excitation_kev) for name in fit.names)
    soft = np.stack([_strongest(template, fit.bins.energy_kev, axis) for template in templates if template is not None])
    of_families = (part[0, :n_family] for part in (shown.area, shown.sigma, LIMIT_SIGMAS * shown.sigma_if_absent))
    values = np.stack([*of_families, *solver.hardness(soft)], axis=1).tolist()
    named = {}
    for name, part, (net, deviation, limit, hard, hard_sigma) in zip(fit.names, parts, values, strict=False):
        named[name] = Family(net, deviation, limit, spread(part), hard, hard_sigma)
    n_anode = len(chosen.stage.scatter)
    fitted = np.full(axis.n_channel, np.nan)
    fitted[channels] = parts.sum(axis=0)
    return SpectrumFit(
        spectrum.name,
        axis.energy_kev,
        counts,
        fitted,
        named,
        spread(parts[n_family : n_family + n_anode].sum(axis=0)),
        spread(parts[n_family + n_anode :].sum(axis=0)),
        spread(np.sqrt(solver.noise)),
        solver.misfit,
    )


def _fittable(spectrum: Spectrum) -> tuple[Array, EnergyAxis]:
    """Return the counts and the axis of a spectrum that can be fitted; raises as :func:`fit_spectrum`."""
    if not isinstance(spectrum, Spectrum):
        raise ScanError(
            f"Cannot fit a {type(spectrum).__name__}: counts and an energy axis are needed. Give a Spectrum: "
            "`scan.pixel(row, column)`, or `underpaint.data.Spectrum(counts, axis)`."
        )
    if spectrum.axis is None:
        raise CalibrationError(
            f"Cannot fit {spectrum.name or 'the spectrum'}: it has no energy axis. Calibrate the scan first."
        )
    counts = np.asarray(spectrum.counts, np.float64)
    if counts.sum() < _MIN_COUNTS:
        raise ScanError(
            f"Cannot fit {spectrum.name or 'the spectrum'}: it has {counts.sum():.0f} counts, at least "
            f"{_MIN_COUNTS} are needed."
        )
    return counts, spectrum.axis


def _strongest(template: Template, energy_kev: Array, axis: EnergyAxis) -> NDArray[np.bool_]:
    """Return the (n_bin,) bins of a family's strongest peak, up to the midpoint to the next peak."""
    peaks = np.asarray([axis.energy_kev[group.argmax()] for group in template.groups])
    above, below = peaks[peaks > peaks[0]], peaks[peaks < peaks[0]]
    high = 0.5 * (peaks[0] + above.min()) if above.size else np.inf
    low = 0.5 * (peaks[0] + below.max()) if below.size else -np.inf
    return np.asarray((energy_kev > low) & (energy_kev < high))
