"""Merged channels of a measured spectrum, and the likelihood of the counts under a model with a relative error."""

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
"""Lowest energy of the fit, in keV. Lines at lower energies depend more on air and detector window than on paint."""
BIN_SIGMAS = 0.7
"""Maximum width of a merged channel that preserves nearly all information, in standard deviations of a peak."""
MODEL_ERROR = 0.01
"""Relative standard deviation of the forward model in a merged channel."""
MIN_EXPECTED = 1e-9
"""Minimum expected counts in a channel. It keeps logarithms finite."""


@dataclass(frozen=True)
class MergedSpectrum:
    """Spectrum in merged channels, with the likelihood of its counts under a model.

    Parameters
    ----------
    axis : EnergyAxis
        Axis of the merged channels, from the lowest energy of the fit to the highest energy of the source.
    counts : (n_bin,) array
        Measured counts.
    model_error : float
        Relative standard deviation of the model in a channel. Model errors of different channels are independent.

    Notes
    -----
    Counts have a Poisson distribution, and the Poisson mean has a gamma distribution about the model's value ``mu``.
    The counts therefore have a negative binomial distribution with the variance ``mu + (model_error mu)**2``. For few
    counts, or a model error of zero, the negative binomial distribution is close to the Poisson distribution. The
    negative binomial deviance (McCullagh & Nelder 1989, table 9.1) limits the weight of high counts to the accuracy of
    the simulation.
    """

    axis: EnergyAxis
    counts: Numbers
    model_error: float = MODEL_ERROR

    @property
    def energy_kev(self) -> Numbers:
        """Energies of the channel centres, in keV, with the shape (n_bin,)."""
        return self.axis.energy_kev

    def variance(self, expected_counts: Numbers) -> Numbers:
        """Return the (..., n_bin) variance of the counts for given expected counts."""
        return expected_counts + (self.model_error * expected_counts) ** 2

    def deviance(self, expected_counts: Numbers) -> float:
        """Return the deviance: twice the log-likelihood ratio of a perfect model to the given model."""
        return float(self._channel_deviances(expected_counts).sum())

    def residuals(self, expected_counts: Numbers) -> Numbers:
        """Return the (n_bin,) deviance residuals, in standard deviations, which are also valid for few counts."""
        return np.asarray(
            np.sign(self.counts - expected_counts) * np.sqrt(np.maximum(self._channel_deviances(expected_counts), 0.0))
        )

    def _channel_deviances(self, expected_counts: Numbers) -> Numbers:
        count_difference = self.counts - expected_counts
        if self.model_error == 0:
            return 2.0 * (_counts_times_log(self.counts, expected_counts) - count_difference)
        gamma_shape = self.model_error**-2
        gamma_term = (self.counts + gamma_shape) * np.log1p(count_difference / (expected_counts + gamma_shape))
        return np.asarray(2.0 * (_counts_times_log(self.counts, expected_counts) - gamma_term))

    def with_counts(self, counts: Numbers) -> "MergedSpectrum":
        """Return a spectrum with the given (n_bin,) counts in the same channels."""
        return replace(self, counts=counts)

    def pulls(self, expected_counts: Numbers) -> Numbers:
        """Return the (n_bin,) measured minus expected counts, in standard deviations."""
        return np.asarray((self.counts - expected_counts) / np.sqrt(self.variance(expected_counts)))


def merge_channels(
    spectrum: Spectrum, instrument: Instrument, *, start_kev: float = START_KEV, model_error: float = MODEL_ERROR
) -> MergedSpectrum:
    """Merge the channels of a spectrum in the energy range of the fit.

    Parameters
    ----------
    spectrum : Spectrum
        Counts with an energy axis.
    instrument : Instrument
        The source energy limits the energy range. The detector resolution limits the number of merged channels.
    start_kev : float
        Lowest energy of the fit, in keV.
    model_error : float
        Relative standard deviation of the model in a channel.

    Raises
    ------
    CalibrationError, ScanError
        The spectrum has no energy axis, no counts in the range, or counts that are negative or not finite.
    SampleError
        The model error is negative, or is 1 or more.
    """
    name = spectrum.name or "the spectrum"
    if spectrum.axis is None:
        raise CalibrationError(f"Cannot fit {name}: it has no energy axis. Calibrate the scan first.")
    if not 0 <= model_error < 1:
        raise SampleError(
            f"Cannot fit with a model error of {100 * model_error:g} %. Give a value from 0 to 100 %, usually 1 %."
        )
    axis = spectrum.axis
    stop_kev = min(float(source_spectrum(instrument)[0].max()), axis.stop_kev)
    sigma_kev = float(resolution_sigma(instrument.detector, np.asarray([start_kev]))[0])
    n_merged = max(int(BIN_SIGMAS * sigma_kev / axis.gain_kev), 1)
    return MergedSpectrum(*merged_counts(spectrum, axis, (start_kev, stop_kev), n_merged, "fit"), model_error)


def poisson_deviance(counts: Numbers, expected_counts: Numbers) -> float:
    """Return ``2 sum(mu - n + n ln(n / mu))`` for counts n and expected counts mu (Baker & Cousins 1984, eq. 3)."""
    return float(2.0 * np.sum(expected_counts - counts + _counts_times_log(counts, expected_counts)))


def _counts_times_log(counts: Numbers, expected_counts: Numbers) -> Numbers:
    """Return ``n ln(n / mu)``, which is zero in channels without counts."""
    has_counts = counts > 0
    return np.where(
        has_counts, counts * np.log(np.where(has_counts, counts, 1.0) / np.maximum(expected_counts, MIN_EXPECTED)), 0.0
    )
