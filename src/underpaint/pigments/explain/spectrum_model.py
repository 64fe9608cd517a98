"""Likelihood of a spectrum: expected counts of many states at once, and the error of the simulation."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Spectrum
from underpaint.errors import CalibrationError, SampleError, ScanError
from underpaint.physics.forward import Emission, Stack, setting_for, source_spectrum, transport
from underpaint.physics.forward.response import response_matrix
from underpaint.physics.instrument import Instrument
from underpaint.pigments.explain.states import FloatArray, PaintPrior, States

RealArray = NDArray[np.floating]
START_KEV = 3.05
"""Minimum energy: lines below depend on air and window more than on the paint."""
BIN_WIDTH_KEV, COARSE_START_KEV, COARSE_FACTOR = 0.04, 16.0, 3
"""Width of the bins in keV; above ``COARSE_START_KEV`` they are wider by a factor of ``COARSE_FACTOR``."""
LEVEL_SIGMA = (0.4, 0.4, 0.3)
"""Relative prior standard deviations of the levels of coherent and other scatter, and of their slope in ln(E)."""
MAX_SMOOTHED_COUNTS = 20
BATCH_STATES = 512


@dataclass(frozen=True)
class ModelError:
    """Standard deviations of the error of a simulated spectrum.

    The values were fitted to layered paints simulated by an independent Monte Carlo code at 1e5 counts.

    Parameters
    ----------
    independent : float
        Relative standard deviation, independent in each bin.
    smooth : float
        Relative standard deviation from yields, attenuation and efficiency, correlated over ``smooth_kev``.
    shift_kev : float
        Standard deviation of line energies, correlated over ``shift_range_kev``.
    tail : float
        Standard deviation of the tail and shelf of peaks, relative to a generic shape.
    """

    independent: float = 0.005
    smooth: float = 0.05
    smooth_kev: float = 0.5
    shift_kev: float = 0.003
    shift_range_kev: float = 0.3
    tail: float = 1.0


class SpectrumModel:
    """One spectrum, and the likelihood of batches of states.

    The likelihood is Gaussian, with one covariance for all states that is fixed from a reference spectrum: Poisson
    noise and ``ModelError``. The scale and the levels of scatter are linear and are integrated out for every state.

    Parameters
    ----------
    spectrum : Spectrum
        Counts with an energy axis.
    instrument : Instrument
    prior : PaintPrior
    error : ModelError, optional

    Raises
    ------
    CalibrationError, ScanError
        The spectrum has no axis; no counts in the range of the fit; or counts that are negative or no numbers.
    SampleError
        The model error is negative or above one.
    """

    def __init__(
        self, spectrum: Spectrum, instrument: Instrument, prior: PaintPrior, error: ModelError | None = None
    ) -> None:
        self.prior = prior
        self.error = error or ModelError()
        self.axis, self.counts = fitted_range(spectrum, instrument, self.error)
        self.energy_kev = self.axis.energy_kev
        self.bins = _bin_matrix(self.energy_kev)
        self.setting = setting_for(instrument, prior.elements)
        # the setting lists elements in an order of its own
        self._element_columns = [prior.elements.index(name) for name in self.setting.elements]
        self.single_precision_setting = self.setting.to(np.zeros(1, np.float32))
        setting = self.setting
        energy = np.concatenate([setting.lines.energy_kev, setting.source_kev, setting.grid_kev])
        width_kev = np.concatenate([np.zeros(len(setting.lines)), setting.width_kev, setting.grid_width_kev])
        self.response = np.asarray(response_matrix(instrument.detector, self.axis, energy, width_kev / np.sqrt(12)))
        self.log_energy = np.log(self.energy_kev / np.sqrt(self.energy_kev[0] * self.energy_kev[-1]))
        self._detected_fraction = self.response.sum(axis=1).astype(np.float32)
        self.refer_to(_smoothed_counts(self.counts))

    @property
    def n_bin(self) -> int:
        """Bins of the likelihood."""
        return int(self.bins.shape[1])

    def refer_to(self, reference: FloatArray) -> None:
        """Fix the covariance from an expected spectrum, (n_channel,) counts on ``axis``."""
        self.covariance = _covariance(np.maximum(reference, 0.3), self.energy_kev, self.error)
        whitening = np.linalg.inv(np.linalg.cholesky(self.bins.T @ self.covariance @ self.bins))
        self.whitening = whitening
        self.whitened_counts = whitening @ (self.counts @ self.bins)
        # whitened in double precision: neighbouring bins nearly cancel
        whitened_bins = self.bins @ whitening.T
        self._whitened_response = (self.response @ whitened_bins).astype(np.float32)
        self._whitened_tilted_response = ((self.response * self.log_energy) @ whitened_bins).astype(np.float32)

    @property
    def channel_sigma(self) -> FloatArray:
        """(n_channel,) standard deviations of the counts, the model's error included."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))

    def evaluate(self, states: States) -> tuple[FloatArray, FloatArray]:
        """Return (n, n_bin + 3) residuals and (n,) log-likelihoods.

        Residuals are whitened, with the levels at their best; the last three are those of the levels' prior. In the
        log-likelihood the levels are integrated out.
        """
        batches = [self._evaluate(states.rows(rows)) for rows in _batches(len(states))]
        return np.concatenate([batch[0] for batch in batches]), np.concatenate([batch[1] for batch in batches])

    def log_likelihood(self, states: States) -> FloatArray:
        """Return (n,) log-likelihoods."""
        return self.evaluate(states)[1]

    def residual_changes(self, states: States, noise: FloatArray) -> FloatArray:
        """Return (n_draw, n, n_bin + 3) by how much noise on the counts changes the residuals of states.

        Parameters
        ----------
        states : States
        noise : (n_draw, n_channel) array
            Counts that are added to the spectrum; the levels follow them.
        """
        columns = self._columns(self._photons(states), self._whitened_response, self._whitened_tilted_response).astype(
            np.float64
        )
        _, information = self._levels(columns)
        white = noise @ self.bins @ self.whitening.T
        slope = np.einsum("nib,kb->kni", columns, white)
        levels = np.linalg.solve(information[None], slope[..., None])[..., 0]
        change = white[:, None] - np.einsum("kni,nib->knb", levels, columns)
        return np.concatenate([change, levels[..., 1:]], axis=2)

    def _evaluate(self, states: States) -> tuple[FloatArray, FloatArray]:
        photons = self._photons(states)
        columns = self._columns(photons, self._whitened_response, self._whitened_tilted_response)
        levels, information = self._levels(columns)
        misfit = self.whitened_counts - np.matmul(levels[:, None].astype(np.float32), columns)[:, 0]
        residuals = np.concatenate([misfit, levels[:, 1:]], axis=1)
        scale = np.maximum(levels[:, 0], 1e-3)
        log_like = -0.5 * (residuals**2).sum(axis=1) - 0.5 * np.linalg.slogdet(information)[1] - np.log(scale)
        return residuals, np.where((levels[:, 0] > 0) & np.isfinite(log_like), log_like, -1e30)

    def expected(self, states: States) -> FloatArray:
        """Return (n, n_channel) expected counts on ``axis`` with the levels at their best."""
        return np.concatenate([self._expected(states.rows(rows)) for rows in _batches(len(states))])

    def _expected(self, states: States) -> FloatArray:
        photons = self._photons(states)
        levels, _ = self._levels(self._columns(photons, self._whitened_response, self._whitened_tilted_response))
        columns = self._columns(photons, self.response, self.response * self.log_energy)
        return np.asarray(np.maximum(np.einsum("ni,nic->nc", levels, columns), 0.0))

    @property
    def families(self) -> tuple[str, ...]:
        """Line families of the elements that states hold, those with a line in the range of the fit."""
        visible = self._detected_fraction[: len(self.setting.lines)] > 0
        return tuple(dict.fromkeys(np.asarray(self.setting.lines.family)[visible].tolist()))

    def surface_shares(self, states: States) -> FloatArray:
        """Return (n, n_family) the share of each family's detected counts that comes from the uppermost layer.

        NaN where a state sends out none.
        """
        batches = [self._surface_shares(states.rows(rows)) for rows in _batches(len(states))]
        return np.concatenate(batches)

    def _surface_shares(self, states: States) -> FloatArray:
        by_layer = self._emission(states).layer_photons * self._detected_fraction[: len(self.setting.lines)]
        line_families = np.asarray(self.setting.lines.family)
        is_member = np.stack([line_families == family for family in self.families], axis=1).astype(np.float64)
        counts = by_layer.astype(np.float64) @ is_member
        total = counts.sum(axis=1)
        return np.asarray(np.divide(counts[:, 0], total, out=np.full(total.shape, np.nan), where=total > 0))

    def _emission(self, states: States) -> Emission:
        fractions, areal_density = (array.astype(np.float32) for array in self.prior.stack(states))
        return transport(
            Stack(fractions[:, :, self._element_columns], areal_density, self.setting.elements),
            self.single_precision_setting,
        )

    def _photons(self, states: States) -> RealArray:
        """Return (n, 3, n_energy) photons of everything, of coherent and of other scatter."""
        emission = self._emission(states)
        lines, coherent, shifted = emission.line_photons, emission.coherent, emission.shifted
        photons = np.zeros((len(states), 3, len(self._detected_fraction)), np.float32)
        coherent_start, shifted_start = lines.shape[1], lines.shape[1] + coherent.shape[1]
        photons[:, 0] = np.concatenate([lines, coherent, shifted], axis=1)
        photons[:, 1, coherent_start:shifted_start] = coherent
        photons[:, 2, shifted_start:] = shifted
        # scaled to the measured total counts
        scale = self.counts.sum() / np.maximum(photons[:, 0] @ self._detected_fraction, 1e-30)
        return np.asarray(photons * scale[:, None, None], dtype=np.float32)

    def _columns(self, photons: RealArray, response: RealArray, tilted_response: RealArray) -> RealArray:
        """Return (n, 4, ...) counts per unit of each level."""
        components = np.matmul(photons, response)
        slope = np.matmul(photons[:, 1] + photons[:, 2], tilted_response)
        coherent_sigma, other_sigma, tilt_sigma = LEVEL_SIGMA
        return np.stack(
            [components[:, 0], coherent_sigma * components[:, 1], other_sigma * components[:, 2], tilt_sigma * slope],
            axis=1,
        )

    def _levels(self, columns: RealArray) -> tuple[FloatArray, FloatArray]:
        """Return the (n, 4) best-fit levels, and their (n, 4, 4) information matrices."""
        information = np.matmul(columns, columns.transpose(0, 2, 1)).astype(np.float64)
        information += np.diag([0.0, 1.0, 1.0, 1.0])
        slope = (columns @ self.whitened_counts.astype(np.float32)).astype(np.float64)
        return np.linalg.solve(information, slope[..., None])[..., 0], information


def fitted_range(spectrum: Spectrum, instrument: Instrument, error: ModelError) -> tuple[EnergyAxis, FloatArray]:
    """Return the merged channels that are fitted, and their counts.

    Raises
    ------
    CalibrationError, ScanError, SampleError
        As :class:`SpectrumModel`.
    """
    name = spectrum.name or "the spectrum"
    if spectrum.axis is None:
        raise CalibrationError(f"Cannot explain {name}: it has no energy axis; calibrate the scan first.")
    if not 0 <= error.independent < 1:
        raise SampleError(
            f"Cannot explain {name} with a model error of {100 * error.independent:g} %: 0 to 100 % are possible, "
            "0.5 is usual."
        )
    axis = spectrum.axis
    stop_kev = min(float(source_spectrum(instrument)[0].max()), axis.stop_kev)
    n_merged = max(round(BIN_WIDTH_KEV / axis.gain_kev), 1)
    return merged_counts(spectrum, axis, (START_KEV, stop_kev), n_merged, "explain")


def merged_counts(
    spectrum: Spectrum, axis: EnergyAxis, range_kev: tuple[float, float], n_merged: int, verb: str
) -> tuple[EnergyAxis, FloatArray]:
    """Return the channels within a range, so many of them merged into one, and their counts.

    Parameters
    ----------
    spectrum : Spectrum
    axis : EnergyAxis
        Of its channels.
    range_kev : (float, float)
        First and last energy that is used.
    n_merged : int
    verb : str
        What cannot be done with a spectrum that is refused.

    Raises
    ------
    ScanError
        Counts are negative or no numbers, or there are none in the range.
    """
    name, (start_kev, stop_kev) = spectrum.name or "the spectrum", range_kev
    first_channel = max(int(np.searchsorted(axis.edges_kev[:-1], start_kev)), 0)
    n_channel = max(int(np.searchsorted(axis.edges_kev[1:], stop_kev, side="right")) - first_channel, 0) // n_merged
    counts = np.asarray(spectrum.counts[first_channel : first_channel + n_channel * n_merged], dtype=np.float64)
    if not (np.all(np.isfinite(counts)) and np.all(counts >= 0)):
        raise ScanError(f"Cannot {verb} {name}: it holds counts that are negative or no numbers. Give raw counts.")
    if not counts.sum() > 0:
        raise ScanError(f"Cannot {verb} {name}: it has no counts above {start_kev} keV. Choose pixels that have some.")
    merged_axis = EnergyAxis(
        axis.gain_kev * n_merged, float(axis.energy_kev[first_channel : first_channel + n_merged].mean()), n_channel
    )
    return merged_axis, counts.reshape(n_channel, n_merged).sum(axis=1)


def _bin_matrix(energy_kev: FloatArray) -> FloatArray:
    """Return (n_channel, n_bin) ones where a channel belongs to a bin; the last bin may be narrower."""
    n_fine = int(np.searchsorted(energy_kev, COARSE_START_KEV))
    index = np.where(np.arange(energy_kev.size) < n_fine, np.arange(energy_kev.size), 0)
    index[n_fine:] = n_fine + np.arange(energy_kev.size - n_fine) // COARSE_FACTOR
    return np.asarray(index[:, None] == np.arange(index[-1] + 1), dtype=np.float64)


def _covariance(expected: FloatArray, energy_kev: FloatArray, error: ModelError) -> FloatArray:
    """Return the (n_channel, n_channel) covariance of the counts about an expectation."""
    energy_difference = energy_kev - energy_kev[:, None]
    step = energy_kev[1] - energy_kev[0]

    def correlation(length_kev: float) -> FloatArray:
        return np.asarray(np.exp(-0.5 * (energy_difference / length_kev) ** 2))

    positive_difference = np.clip(energy_difference, 0.0, None)
    # a hundredth of a peak as a tail of 0.2 keV, 0.3 % as a shelf down to zero
    shape = np.where(
        energy_difference > 0,
        0.01 * np.exp(-positive_difference / 0.2) * step / 0.2 + 0.003 * step / energy_kev[None],
        0.0,
    )
    tail, slope = shape @ expected, np.gradient(expected, energy_kev)
    smooth = error.smooth**2 * np.outer(expected, expected) + error.tail**2 * np.outer(tail, tail)
    shift = error.shift_kev**2 * np.outer(slope, slope)
    independent = np.diag(expected + (error.independent * expected) ** 2)
    return np.asarray(independent + smooth * correlation(error.smooth_kev) + shift * correlation(error.shift_range_kev))


def _smoothed_counts(counts: FloatArray) -> FloatArray:
    """Return smoothed counts, with a wider kernel where counts are few."""
    wide, narrow = (
        np.convolve(counts, kernel, "same") for kernel in (np.full(15, 1 / 15), np.array([0.25, 0.5, 0.25]))
    )
    return np.where(narrow < MAX_SMOOTHED_COUNTS, wide, narrow)


def _batches(n: int) -> list[NDArray[np.int64]]:
    return [np.arange(start, min(start + BATCH_STATES, n)) for start in range(0, n, BATCH_STATES)]
