"""Assumed paint, ground and energy range for the comparison of two pigments."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.errors import SampleError
from underpaint.physics.atomic import atomic_number
from underpaint.physics.forward import resolution_sigma
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer, library

FloatArray = NDArray[np.float64]
MIN_DEVIANCE = 25.0
"""Minimum deviance between two distinguishable pigments, equal to five standard deviations of one parameter."""
FINE_CHANNEL_KEV = 0.02
BIN_SIGMAS = 0.7
"""Width of merged channels, in standard deviations of a peak. At this width, a Gaussian peak keeps its shape."""
MIN_ATOMIC_NUMBER = 19
"""Atomic number of potassium, the lightest element of pigments with a line above 2.8 keV."""
MIN_ELEMENT_FRACTION = 0.01


@dataclass(frozen=True)
class ComparisonSettings:
    """Parameters of the expected paint, and parameter ranges of the paint that is fitted to its spectrum.

    Parameters
    ----------
    thickness_um, pigment_to_binder, ground_um : float
        Thickness of the expected paint, mass of pigment per mass of oil, and thickness of the ground.
    ground : str
        Name of the ground in the library.
    start_kev : float
        Minimum energy of the compared range, in keV.
    thickness_range_um, ratio_range, ground_range_um : pair of float
        Ranges of thickness, mass ratio and ground thickness of the fitted paint.

    Raises
    ------
    SampleError
        The expected paint is outside a range, or a range is empty.
    """

    thickness_um: float = 35.0
    pigment_to_binder: float = 3.0
    ground_um: float = 150.0
    ground: str = "chalk"
    start_kev: float = 2.8
    thickness_range_um: tuple[float, float] = (3.0, 200.0)
    ratio_range: tuple[float, float] = (0.25, 9.0)
    ground_range_um: tuple[float, float] = (40.0, 400.0)

    def __post_init__(self) -> None:
        checked_ranges = (
            ("a thickness of", self.thickness_um, self.thickness_range_um, "um"),
            ("a pigment to binder ratio of", self.pigment_to_binder, self.ratio_range, "by mass"),
            ("a ground of", self.ground_um, self.ground_range_um, "um"),
        )
        for quantity, expected_value, (min_value, max_value), unit in checked_ranges:
            if not 0 < min_value <= expected_value <= max_value or not min_value < max_value:
                raise SampleError(
                    f"Cannot compare pigments with {quantity} {expected_value:g} {unit}: the range of the fitted paint "
                    f"is {min_value:g} to {max_value:g} {unit} and must contain this value. Choose "
                    "another value or range."
                )

    @property
    def log_ranges(self) -> FloatArray:
        """(3, 2) logarithms of the lower and upper limits of thickness, mass ratio and ground thickness."""
        return np.asarray(np.log([self.thickness_range_um, self.ratio_range, self.ground_range_um]))

    @property
    def log_parameters(self) -> FloatArray:
        """(3,) logarithms of the expected paint's thickness, mass ratio and ground thickness."""
        return np.asarray(np.log([self.thickness_um, self.pigment_to_binder, self.ground_um]))

    def paint(self, dry_fractions: Mapping[str, float], log_parameters: FloatArray | None = None) -> Stratigraphy:
        """Return a layer of a dry mixture in oil over the ground, by default with the expected paint's parameters."""
        thickness_um, pigment_to_binder, ground_um = np.exp(
            self.log_parameters if log_parameters is None else log_parameters
        )
        paint_layer = Paint(dry_fractions, pigment_to_binder=float(pigment_to_binder)).layer(float(thickness_um))
        return Stratigraphy((paint_layer, replace(ground_layer(self.ground, 100.0), thickness_um=float(ground_um))))


@dataclass(frozen=True)
class Channels:
    """Channels for the comparison of two spectra, merged from fine channels according to the detector's resolution.

    Parameters
    ----------
    axis : EnergyAxis
        Energy axis of the fine channels, which ends at the maximum energy of the source.
    first_channels : (n_bin,) array
        First fine channel of each merged channel.
    middle_kev : (n_bin,) array
        Energy at the centre of each merged channel, in keV.
    """

    axis: EnergyAxis
    first_channels: NDArray[np.int64]
    middle_kev: FloatArray

    def merge(self, fine_counts: FloatArray) -> FloatArray:
        """Return the (..., n_bin) counts of the merged channels, given (..., n_channel) counts of the fine channels."""
        return np.add.reduceat(fine_counts, self.first_channels, axis=-1)


def channels_for(instrument: Instrument, start_kev: float) -> Channels:
    """Return the channels in which the spectra of an instrument are compared.

    Raises
    ------
    SampleError
        The source ends below ``start_kev``.
    """
    detector = instrument.detector
    stop_kev = min(instrument.highest_kev, detector.zero_kev + detector.gain_kev * detector.n_channel)
    if not stop_kev > start_kev + 1.0:
        raise SampleError(
            f"Cannot compare spectra from {start_kev:g} keV upwards: this instrument ends at {stop_kev:.4g} keV."
        )
    fine_axis = EnergyAxis(
        FINE_CHANNEL_KEV, start_kev + 0.5 * FINE_CHANNEL_KEV, int((stop_kev - start_kev) / FINE_CHANNEL_KEV)
    )
    channel_widths_kev = np.maximum(BIN_SIGMAS * resolution_sigma(detector, fine_axis.energy_kev), FINE_CHANNEL_KEV)
    # a new merged channel starts where the cumulative number of widths reaches the next integer
    cumulative_widths = np.floor(np.cumsum(FINE_CHANNEL_KEV / channel_widths_kev))
    first_channels = np.flatnonzero(np.diff(cumulative_widths, prepend=-1.0) > 0)
    stop_channels = np.append(first_channels[1:], fine_axis.n_channel)
    return Channels(
        fine_axis,
        first_channels,
        0.5 * (fine_axis.energy_kev[first_channels] + fine_axis.energy_kev[stop_channels - 1]),
    )


def shown_elements(pigment: str) -> frozenset[str]:
    """Return the elements of a pigment with a line above 2.8 keV and a mass fraction of at least 1 %."""
    mass_fractions = library()[pigment].mass_fractions
    return frozenset(
        element
        for element, mass_fraction in mass_fractions.items()
        if mass_fraction >= MIN_ELEMENT_FRACTION and atomic_number(element) >= MIN_ATOMIC_NUMBER
    )
