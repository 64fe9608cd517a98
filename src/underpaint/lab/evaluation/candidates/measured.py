"""Merged channels of a measured spectrum, and the likelihood of a model with an error of its own."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Spectrum
from underpaint.errors import CalibrationError, SampleError
from underpaint.physics.forward import resolution_sigma, source_spectrum
from underpaint.physics.instrument import Instrument
from underpaint.pigments.explain.spectrum_model import merged_counts

Numbers = NDArray[np.float64]
START_KEV = 2.8
"""Channels below are left out: soft lines depend on air and window more than on the paint."""
BIN_SIGMAS = 0.7
"""Largest width of merged channels in standard deviations of a peak: a Gaussian loses next to no information."""
MODEL_ERROR = 0.01
"""Relative standard deviation of the forward model in a merged channel."""
FAINTEST = 1e-9


@dataclass(frozen=True)
class Measured:
    """A spectrum in merged channels, and the likelihood of a model of it.

    Parameters
    ----------
    axis : EnergyAxis
        The merged channels, from the first that is used to the end of the source.
    counts : (n_bin,) array
    model_error : float
        Relative standard deviation of the model in a channel, independent from one to the next.

    Notes
    -----
    Counts are taken as Poisson about an expectation that itself scatters about the model's (gamma distribution): the
    negative binomial, whose variance is ``mu + (model_error mu)**2``. It is Poisson where counts are few, and at a
    model error of zero. With its deviance (McCullagh & Nelder 1989, table 9.1) a spectrum of 1e6 counts weighs no more
    than the accuracy of the simulation allows.
    """

    axis: EnergyAxis
    counts: Numbers
    model_error: float = MODEL_ERROR

    @property
    def energy_kev(self) -> Numbers:
        """(n_bin,) middles of the channels, keV."""
        return self.axis.energy_kev

    def variance(self, expected: Numbers) -> Numbers:
        """Return the variance of the counts about an expectation, (..., n_bin)."""
        return expected + (self.model_error * expected) ** 2

    def deviance(self, expected: Numbers) -> float:
        """Return twice the log-likelihood ratio against a model that matches every channel."""
        return float(self._deviances(expected).sum())

    def residuals(self, expected: Numbers) -> Numbers:
        """Return (n_bin,) signed roots of each channel's deviance: standard deviations, also where counts are few."""
        return np.asarray(np.sign(self.counts - expected) * np.sqrt(np.maximum(self._deviances(expected), 0.0)))

    def _deviances(self, expected: Numbers) -> Numbers:
        over = self.counts - expected
        if self.model_error == 0:
            return 2.0 * (_counts_times_log(self.counts, expected) - over)
        shape = self.model_error**-2
        shared = (self.counts + shape) * np.log1p(over / (expected + shape))
        return np.asarray(2.0 * (_counts_times_log(self.counts, expected) - shared))

    def of(self, counts: Numbers) -> "Measured":
        """Return the same channels with other counts, (n_bin,)."""
        return replace(self, counts=counts)

    def pulls(self, expected: Numbers) -> Numbers:
        """Return (n_bin,) differences from an expectation in standard deviations."""
        return np.asarray((self.counts - expected) / np.sqrt(self.variance(expected)))


def measured(
    spectrum: Spectrum, instrument: Instrument, *, start_kev: float = START_KEV, model_error: float = MODEL_ERROR
) -> Measured:
    """Return the part of a spectrum that is fitted.

    Parameters
    ----------
    spectrum : Spectrum
        Counts with an energy axis.
    instrument : Instrument
        Its source limits the range, its resolution the number of channels to merge.
    start_kev : float
        Channels below are left out.
    model_error : float
        As in ``Measured``.

    Raises
    ------
    CalibrationError, ScanError
        The spectrum has no axis; no counts in that range; or counts that are negative or no numbers.
    SampleError
        The model error is negative or above one.
    """
    name = spectrum.name or "the spectrum"
    if spectrum.axis is None:
        raise CalibrationError(f"Cannot fit {name}: it has no energy axis; calibrate the scan first.")
    if not 0 <= model_error < 1:
        raise SampleError(
            f"Cannot fit with a model error of {100 * model_error:g} %: 0 to 100 % are possible; 1 is usual."
        )
    axis = spectrum.axis
    stop_kev = min(float(source_spectrum(instrument)[0].max()), axis.stop_kev)
    sigma = float(resolution_sigma(instrument.detector, np.asarray([start_kev]))[0])
    merged = max(int(BIN_SIGMAS * sigma / axis.gain_kev), 1)
    return Measured(*merged_counts(spectrum, axis, (start_kev, stop_kev), merged, "fit"), model_error)


def poisson_deviance(counts: Numbers, expected: Numbers) -> float:
    """Return ``2 sum(mu - n + n ln(n / mu))`` (Baker & Cousins 1984, eq. 3)."""
    return float(2.0 * np.sum(expected - counts + _counts_times_log(counts, expected)))


def _counts_times_log(counts: Numbers, expected: Numbers) -> Numbers:
    """Return ``n ln(n / mu)``, zero where there are no counts."""
    occupied = counts > 0
    return np.where(occupied, counts * np.log(np.where(occupied, counts, 1.0) / np.maximum(expected, FAINTEST)), 0.0)
