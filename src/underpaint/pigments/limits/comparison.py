"""Settings for the comparison of two pigments: paint, ground, and energy range."""

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

Numbers = NDArray[np.float64]
MIN_DEVIANCE = 25.0
"""Minimum deviance of two distinguishable pigments: five standard deviations for one parameter."""
FINE_CHANNEL_KEV = 0.02
BIN_SIGMAS = 0.7
"""Width of merged channels in standard deviations of a peak; no information on a Gaussian is lost."""
MIN_ATOMIC_NUMBER = 19
"""Minimum atomic number of elements with a line above 2.8 keV: potassium."""
MIN_ELEMENT_FRACTION = 0.01


@dataclass(frozen=True)
class ComparisonSettings:
    """Paint of a pigment whose spectrum is expected, and the free parameters of the paint fitted to it.

    Parameters
    ----------
    thickness_um, pigment_to_binder, ground_um : float
        Thickness of the expected paint, its mass of pigment per mass of oil, and the thickness of the ground.
    ground : str
        Name of the ground in the library.
    start_kev : float
        Minimum energy that is compared, in keV.
    thickness_range_um, ratio_range, ground_range_um : pair of float
        Ranges of the fitted paint.

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
        rows = (
            ("a thickness of", self.thickness_um, self.thickness_range_um, "um"),
            ("a pigment to binder ratio of", self.pigment_to_binder, self.ratio_range, "by mass"),
            ("a ground of", self.ground_um, self.ground_range_um, "um"),
        )
        for quantity, value, (min_value, max_value), unit in rows:
            if not 0 < min_value <= value <= max_value or not min_value < max_value:
                raise SampleError(
                    f"Cannot compare pigments with {quantity} {value:g} {unit}: the imitation may take {min_value:g} "
                    f"to {max_value:g} {unit}, and must be able to reach it. Choose a value inside, or a wider range."
                )

    @property
    def log_ranges(self) -> Numbers:
        """(3, 2) logarithms of the lower and upper limits of layer thickness, mass ratio and ground thickness."""
        return np.asarray(np.log([self.thickness_range_um, self.ratio_range, self.ground_range_um]))

    @property
    def log_parameters(self) -> Numbers:
        """(3,) logarithms of the expected paint's thickness, mass ratio and ground thickness."""
        return np.asarray(np.log([self.thickness_um, self.pigment_to_binder, self.ground_um]))

    def paint(self, dry_fractions: Mapping[str, float], log_parameters: Numbers | None = None) -> Stratigraphy:
        """Return a dry mixture as paint over the ground, by default with the expected paint's ``log_parameters``."""
        thickness_um, pigment_to_binder, ground_um = np.exp(
            self.log_parameters if log_parameters is None else log_parameters
        )
        layer = Paint(dry_fractions, pigment_to_binder=float(pigment_to_binder)).layer(float(thickness_um))
        return Stratigraphy((layer, replace(ground_layer(self.ground, 100.0), thickness_um=float(ground_um))))


@dataclass(frozen=True)
class Channels:
    """Channels of a comparison: fine channels, merged as far as the resolution permits.

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
    middle_kev: Numbers

    def merge(self, fine_axis: Numbers) -> Numbers:
        """Merge (..., n_channel) counts into (..., n_bin) counts."""
        return np.add.reduceat(fine_axis, self.first_channels, axis=-1)


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
    width = np.maximum(BIN_SIGMAS * resolution_sigma(detector, fine_axis.energy_kev), FINE_CHANNEL_KEV)
    # a channel starts a new bin if the cumulative number of widths reaches the next integer
    n_widths = np.floor(np.cumsum(FINE_CHANNEL_KEV / width))
    first_channels = np.flatnonzero(np.diff(n_widths, prepend=-1.0) > 0)
    stop_channels = np.append(first_channels[1:], fine_axis.n_channel)
    return Channels(
        fine_axis,
        first_channels,
        0.5 * (fine_axis.energy_kev[first_channels] + fine_axis.energy_kev[stop_channels - 1]),
    )


def shown_elements(pigment: str) -> frozenset[str]:
    """Return the elements of a pigment with a line above 2.8 keV and a mass fraction of at least 1 %."""
    fractions = library()[pigment].mass_fractions
    return frozenset(
        name
        for name, fraction in fractions.items()
        if fraction >= MIN_ELEMENT_FRACTION and atomic_number(name) >= MIN_ATOMIC_NUMBER
    )
