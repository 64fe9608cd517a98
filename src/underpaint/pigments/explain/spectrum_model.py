"""Likelihood of a spectrum for batches of states, including the error of the simulation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Spectrum
from underpaint.errors import CalibrationError, SampleError, ScanError
from underpaint.physics.forward import Detail, Emission, Stack, setting_for, source_spectrum, transport
from underpaint.physics.forward.response import response_matrix
from underpaint.physics.instrument import Instrument
from underpaint.pigments.explain.states import FloatArray, PaintPrior, States

RealArray = NDArray[np.floating]
START_KEV = 3.05
"""Minimum energy of the fit, in keV. Lines at lower energies depend more on air and detector window than on the
paint."""
BIN_WIDTH_KEV, COARSE_START_KEV, COARSE_WIDTH_FACTOR = 0.04, 16.0, 3
"""Width of the bins in keV. Above ``COARSE_START_KEV``, bins are wider by a factor of ``COARSE_WIDTH_FACTOR``."""
SCATTER_PRIOR_SIGMAS = (0.4, 0.4, 0.3)
"""Relative prior standard deviations of the levels of coherent and of other scatter, and of their slope in ln(E)."""
MAX_SMOOTHED_COUNTS = 20
BATCH_STATES = 512


@dataclass(frozen=True)
class ModelError:
    """Standard deviations of the errors of a simulated spectrum.

    The default values were fitted to simulated spectra of layered paints. An independent Monte Carlo code simulated
    these spectra, with 1e5 counts each.

    Parameters
    ----------
    independent : float
        Relative standard deviation of errors that are independent in each bin.
    smooth : float
        Relative standard deviation of errors of yields, attenuation and efficiency. The errors are correlated over
        ``smooth_kev``.
    shift_kev : float
        Standard deviation of errors of line energies. The errors are correlated over ``shift_range_kev``.
    tail : float
        Standard deviation of the tail and shelf of peaks, relative to a typical tail and shelf.
    """

    independent: float = 0.005
    smooth: float = 0.05
    smooth_kev: float = 0.5
    shift_kev: float = 0.003
    shift_range_kev: float = 0.3
    tail: float = 1.0


class SpectrumModel:
    """Likelihood of one spectrum for batches of states.

    The likelihood is Gaussian. All states share one covariance, which is the sum of Poisson noise and ``ModelError``
    for a reference spectrum. The scale and the levels of scatter are linear parameters and are integrated out for every
    state.

    Parameters
    ----------
    spectrum : Spectrum
        Counts with an energy axis.
    instrument : Instrument
    prior : PaintPrior
    model_error : ModelError, optional

    Raises
    ------
    CalibrationError, ScanError
        The spectrum has no energy axis, no counts in the range of the fit, or counts that are negative or not numbers.
    SampleError
        The model error is negative or above 1.
    """

    def __init__(
        self, spectrum: Spectrum, instrument: Instrument, prior: PaintPrior, model_error: ModelError | None = None
    ) -> None:
        self.prior = prior
        self.model_error = model_error or ModelError()
        self.axis, self.counts = fitted_range(spectrum, instrument, self.model_error)
        self.energy_kev = self.axis.energy_kev
        self.bins = _bin_matrix(self.energy_kev)
        self.setting = setting_for(instrument, prior.elements)
        # the order of the elements in the setting can differ from that in the prior
        self._element_columns = [prior.elements.index(name) for name in self.setting.elements]
        self.single_precision_setting = self.setting.to(np.zeros(1, np.float32))
        setting = self.setting
        input_energy_kev = np.concatenate([setting.lines.energy_kev, setting.source_kev, setting.grid_kev])
        input_width_kev = np.concatenate([np.zeros(len(setting.lines)), setting.width_kev, setting.grid_width_kev])
        self.response = np.asarray(
            response_matrix(instrument.detector, self.axis, input_energy_kev, input_width_kev / np.sqrt(12))
        )
        self.log_energy = np.log(self.energy_kev / np.sqrt(self.energy_kev[0] * self.energy_kev[-1]))
        self._detected_fraction = self.response.sum(axis=1).astype(np.float32)
        self.set_reference(_smoothed_counts(self.counts))

    @property
    def n_bin(self) -> int:
        """Number of bins of the likelihood."""
        return int(self.bins.shape[1])

    def set_reference(self, reference_counts: FloatArray) -> None:
        """Compute the covariance from (n_channel,) expected counts on ``axis``."""
        self.covariance = _covariance(np.maximum(reference_counts, 0.3), self.energy_kev, self.model_error)
        whitening = np.linalg.inv(np.linalg.cholesky(self.bins.T @ self.covariance @ self.bins))
        self.whitening = whitening
        self.whitened_counts = whitening @ (self.counts @ self.bins)
        # whitening needs double precision, since neighbouring bins nearly cancel
        whitened_bins = self.bins @ whitening.T
        self._whitened_response = (self.response @ whitened_bins).astype(np.float32)
        self._whitened_tilted_response = ((self.response * self.log_energy) @ whitened_bins).astype(np.float32)

    @property
    def channel_sigma(self) -> FloatArray:
        """(n_channel,) standard deviations of the counts, including model error."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))

    def evaluate(self, states: States, detail: Detail | None = None) -> tuple[FloatArray, FloatArray]:
        """Return (n, n_bin + 3) residuals and (n,) log-likelihoods.

        Residuals are whitened and computed with the best-fit levels. The last three residuals belong to the prior of
        the levels. The log-likelihood is integrated over the levels. ``detail`` is that of ``transport``.
        """
        batches = [self._evaluate(states.select(batch_rows), detail) for batch_rows in _batches(len(states))]
        return np.concatenate([batch[0] for batch in batches]), np.concatenate([batch[1] for batch in batches])

    def log_likelihood(self, states: States) -> FloatArray:
        """Return (n,) log-likelihoods."""
        return self.evaluate(states)[1]

    def residual_changes(self, states: States, noise: FloatArray) -> FloatArray:
        """Return the (n_draw, n, n_bin + 3) changes of the states' residuals that noise in the counts causes.

        Parameters
        ----------
        states : States
        noise : (n_draw, n_channel) array
            Counts that are added to the spectrum. The levels are fitted again.
        """
        level_columns = self._level_columns(
            self._photons(states), self._whitened_response, self._whitened_tilted_response
        ).astype(np.float64)
        _, information_matrix = self._fit_levels(level_columns)
        whitened_noise = noise @ self.bins @ self.whitening.T
        gradients = np.einsum("nib,kb->kni", level_columns, whitened_noise)
        levels = np.linalg.solve(information_matrix[None], gradients[..., None])[..., 0]
        residual_changes = whitened_noise[:, None] - np.einsum("kni,nib->knb", levels, level_columns)
        return np.concatenate([residual_changes, levels[..., 1:]], axis=2)

    def _evaluate(self, states: States, detail: Detail | None) -> tuple[FloatArray, FloatArray]:
        photons = self._photons(states, detail)
        level_columns = self._level_columns(photons, self._whitened_response, self._whitened_tilted_response)
        levels, information_matrix = self._fit_levels(level_columns)
        count_residuals = self.whitened_counts - np.matmul(levels[:, None].astype(np.float32), level_columns)[:, 0]
        residuals = np.concatenate([count_residuals, levels[:, 1:]], axis=1)
        count_scale = np.maximum(levels[:, 0], 1e-3)
        log_like = (
            -0.5 * (residuals**2).sum(axis=1) - 0.5 * np.linalg.slogdet(information_matrix)[1] - np.log(count_scale)
        )
        return residuals, np.where((levels[:, 0] > 0) & np.isfinite(log_like), log_like, -1e30)

    def expected_counts(self, states: States) -> FloatArray:
        """Return (n, n_channel) expected counts on ``axis`` with the best-fit levels."""
        return np.concatenate([self._expected_counts(states.select(rows)) for rows in _batches(len(states))])

    def _expected_counts(self, states: States) -> FloatArray:
        photons = self._photons(states)
        levels, _ = self._fit_levels(
            self._level_columns(photons, self._whitened_response, self._whitened_tilted_response)
        )
        level_columns = self._level_columns(photons, self.response, self.response * self.log_energy)
        return np.asarray(np.maximum(np.einsum("ni,nic->nc", levels, level_columns), 0.0))

    @property
    def line_families(self) -> tuple[str, ...]:
        """Line families with a line in the fitted range, for the elements in the prior."""
        is_visible = self._detected_fraction[: len(self.setting.lines)] > 0
        return tuple(dict.fromkeys(np.asarray(self.setting.lines.family)[is_visible].tolist()))

    def surface_shares(self, states: States) -> FloatArray:
        """Return the (n, n_family) fraction of a family's counts that the uppermost layer emits, NaN without counts."""
        batches = [self._surface_shares(states.select(rows)) for rows in _batches(len(states))]
        return np.concatenate(batches)

    def _surface_shares(self, states: States) -> FloatArray:
        layer_counts = self._emission(states).layer_photons * self._detected_fraction[: len(self.setting.lines)]
        families_of_lines = np.asarray(self.setting.lines.family)
        is_line_of_family = np.stack([families_of_lines == family for family in self.line_families], axis=1).astype(
            np.float64
        )
        family_counts = layer_counts.astype(np.float64) @ is_line_of_family
        total_counts = family_counts.sum(axis=1)
        return np.asarray(
            np.divide(
                family_counts[:, 0], total_counts, out=np.full(total_counts.shape, np.nan), where=total_counts > 0
            )
        )

    def _emission(self, states: States, detail: Detail | None = None) -> Emission:
        fractions, areal_density = (
            stack_array.astype(np.float32) for stack_array in self.prior.mass_fractions_and_densities(states)
        )
        return transport(
            Stack(fractions[:, :, self._element_columns], areal_density, self.setting.elements),
            self.single_precision_setting,
            detail=detail,
        )

    def _photons(self, states: States, detail: Detail | None = None) -> RealArray:
        """Return the (n, n_energy) photons of lines, coherent scatter and other scatter, for the measured counts."""
        emission = self._emission(states, detail)
        photons = np.concatenate([emission.line_photons, emission.coherent, emission.shifted], axis=1)
        count_scale = self.counts.sum() / np.maximum(photons @ self._detected_fraction, 1e-30)
        return np.asarray(photons * count_scale[:, None], dtype=np.float32)

    def _level_columns(self, photons: RealArray, response: RealArray, tilted_response: RealArray) -> RealArray:
        """Return (n, 4, ...) counts per unit of each level."""
        coherent_start = len(self.setting.lines)
        other_start = coherent_start + len(self.setting.source_kev)
        line_counts, coherent_counts, other_counts = (
            photons[:, part] @ response[part]
            for part in (slice(coherent_start), slice(coherent_start, other_start), slice(other_start, None))
        )
        tilted_counts = photons[:, coherent_start:] @ tilted_response[coherent_start:]
        coherent_sigma, other_sigma, tilt_sigma = SCATTER_PRIOR_SIGMAS
        return np.stack(
            [
                line_counts + coherent_counts + other_counts,
                coherent_sigma * coherent_counts,
                other_sigma * other_counts,
                tilt_sigma * tilted_counts,
            ],
            axis=1,
        )

    def _fit_levels(self, level_columns: RealArray) -> tuple[FloatArray, FloatArray]:
        """Return the (n, 4) best-fit levels, and their (n, 4, 4) information matrices."""
        information_matrix = np.matmul(level_columns, level_columns.transpose(0, 2, 1)).astype(np.float64)
        information_matrix += np.diag([0.0, 1.0, 1.0, 1.0])
        gradients = (level_columns @ self.whitened_counts.astype(np.float32)).astype(np.float64)
        return np.linalg.solve(information_matrix, gradients[..., None])[..., 0], information_matrix


def fitted_range(spectrum: Spectrum, instrument: Instrument, model_error: ModelError) -> tuple[EnergyAxis, FloatArray]:
    """Return the energy axis and the counts of the merged channels that are fitted.

    Raises
    ------
    CalibrationError, ScanError, SampleError
        As for :class:`SpectrumModel`.
    """
    spectrum_name = spectrum.name or "the spectrum"
    if spectrum.axis is None:
        raise CalibrationError(f"Cannot explain {spectrum_name}: it has no energy axis; calibrate the scan first.")
    if not 0 <= model_error.independent < 1:
        raise SampleError(
            f"Cannot explain {spectrum_name} with a model error of {100 * model_error.independent:g} %: "
            "0 to 100 % are possible, 0.5 is usual."
        )
    axis = spectrum.axis
    stop_kev = min(float(source_spectrum(instrument)[0].max()), axis.stop_kev)
    n_merged = max(round(BIN_WIDTH_KEV / axis.gain_kev), 1)
    return merged_counts(spectrum, axis, (START_KEV, stop_kev), n_merged, "explain")


def merged_counts(
    spectrum: Spectrum, axis: EnergyAxis, range_kev: tuple[float, float], n_merged: int, action: str
) -> tuple[EnergyAxis, FloatArray]:
    """Return the energy axis and the counts of merged channels within a range.

    Parameters
    ----------
    spectrum : Spectrum
    axis : EnergyAxis
        Energy axis of the spectrum.
    range_kev : (float, float)
        Minimum and maximum energy, in keV.
    n_merged : int
    action : str
        Verb for the error message, such as "explain".

    Raises
    ------
    ScanError
        Counts in the range are negative or not numbers, or the range has no counts.
    """
    spectrum_name, (start_kev, stop_kev) = spectrum.name or "the spectrum", range_kev
    first_channel = max(int(np.searchsorted(axis.edges_kev[:-1], start_kev)), 0)
    n_channel = max(int(np.searchsorted(axis.edges_kev[1:], stop_kev, side="right")) - first_channel, 0) // n_merged
    counts = np.asarray(spectrum.counts[first_channel : first_channel + n_channel * n_merged], dtype=np.float64)
    if not (np.all(np.isfinite(counts)) and np.all(counts >= 0)):
        raise ScanError(
            f"Cannot {action} {spectrum_name}: it has counts that are negative or not numbers. Give raw counts."
        )
    if not counts.sum() > 0:
        raise ScanError(
            f"Cannot {action} {spectrum_name}: it has no counts above {start_kev} keV. Choose pixels with counts."
        )
    merged_axis = EnergyAxis(
        axis.gain_kev * n_merged, float(axis.energy_kev[first_channel : first_channel + n_merged].mean()), n_channel
    )
    return merged_axis, counts.reshape(n_channel, n_merged).sum(axis=1)


def _bin_matrix(energy_kev: FloatArray) -> FloatArray:
    """Return an (n_channel, n_bin) array with ones where a channel belongs to a bin. The last bin may be narrower."""
    n_fine_channel = int(np.searchsorted(energy_kev, COARSE_START_KEV))
    bin_index = np.where(np.arange(energy_kev.size) < n_fine_channel, np.arange(energy_kev.size), 0)
    bin_index[n_fine_channel:] = n_fine_channel + np.arange(energy_kev.size - n_fine_channel) // COARSE_WIDTH_FACTOR
    return np.asarray(bin_index[:, None] == np.arange(bin_index[-1] + 1), dtype=np.float64)


def _covariance(expected_counts: FloatArray, energy_kev: FloatArray, model_error: ModelError) -> FloatArray:
    """Return the (n_channel, n_channel) covariance of counts with the given expected values."""
    energy_difference = energy_kev - energy_kev[:, None]
    channel_width_kev = energy_kev[1] - energy_kev[0]

    def correlation(length_kev: float) -> FloatArray:
        return np.asarray(np.exp(-0.5 * (energy_difference / length_kev) ** 2))

    positive_difference = np.clip(energy_difference, 0.0, None)
    # The tail has 1 % of the peak and decays over 0.2 keV. The shelf has 0.3 % of the peak and extends to 0 keV.
    tail_shape = np.where(
        energy_difference > 0,
        0.01 * np.exp(-positive_difference / 0.2) * channel_width_kev / 0.2
        + 0.003 * channel_width_kev / energy_kev[None],
        0.0,
    )
    tail_counts, count_slope = tail_shape @ expected_counts, np.gradient(expected_counts, energy_kev)
    smooth_covariance = model_error.smooth**2 * np.outer(
        expected_counts, expected_counts
    ) + model_error.tail**2 * np.outer(tail_counts, tail_counts)
    shift_covariance = model_error.shift_kev**2 * np.outer(count_slope, count_slope)
    independent_covariance = np.diag(expected_counts + (model_error.independent * expected_counts) ** 2)
    return np.asarray(
        independent_covariance
        + smooth_covariance * correlation(model_error.smooth_kev)
        + shift_covariance * correlation(model_error.shift_range_kev)
    )


def _smoothed_counts(counts: FloatArray) -> FloatArray:
    """Return smoothed counts, with a wider kernel for channels with few counts."""
    wide_average, narrow_average = (
        np.convolve(counts, kernel, "same") for kernel in (np.full(15, 1 / 15), np.array([0.25, 0.5, 0.25]))
    )
    return np.where(narrow_average < MAX_SMOOTHED_COUNTS, wide_average, narrow_average)


def _batches(n_state: int) -> list[NDArray[np.int64]]:
    return [np.arange(start, min(start + BATCH_STATES, n_state)) for start in range(0, n_state, BATCH_STATES)]
