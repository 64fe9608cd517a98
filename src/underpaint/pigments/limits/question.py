"""Assumptions for the comparison of two pigments: paint, ground, and energy range."""

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
FINE_KEV = 0.02
BIN_SIGMAS = 0.7
"""Width of merged channels in standard deviations of a peak, which loses no information on a Gaussian."""
MIN_ATOMIC_NUMBER = 19
"""Minimum atomic number of elements with a line above 2.8 keV: potassium."""
MIN_ELEMENT_FRACTION = 0.01


@dataclass(frozen=True)
class Question:
    """Paint of a pigment whose spectrum is expected, and the free parameters of the paint fitted to it.

    Parameters
    ----------
    thickness_um, pigment_to_binder, ground_um : float
        Expected paint: thickness, mass of pigment per mass of oil, thickness of the ground.
    ground : str
        Name of the ground in the library.
    start_kev : float
        Minimum energy.
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
        for quantity, value, (low, high), unit in rows:
            if not 0 < low <= value <= high or not low < high:
                raise SampleError(
                    f"Cannot compare pigments with {quantity} {value:g} {unit}: the imitation may take {low:g} to "
                    f"{high:g} {unit}, and must be able to reach it. Choose a value inside, or a wider range."
                )

    @property
    def ranges(self) -> Numbers:
        """(3, 2) logarithms of the lower and upper limits of layer thickness, mass ratio and ground thickness."""
        return np.asarray(np.log([self.thickness_range_um, self.ratio_range, self.ground_range_um]))

    @property
    def position(self) -> Numbers:
        """(3,) logarithms of the expected paint's thickness, mass ratio and ground thickness."""
        return np.asarray(np.log([self.thickness_um, self.pigment_to_binder, self.ground_um]))

    def paint(self, dry: Mapping[str, float], logs: Numbers | None = None) -> Stratigraphy:
        """Return a dry mixture as paint over the ground; ``logs`` as ``position``, which is the default."""
        thickness, ratio, ground = np.exp(self.position if logs is None else logs)
        layer = Paint(dry, pigment_to_binder=float(ratio)).layer(float(thickness))
        return Stratigraphy((layer, replace(ground_layer(self.ground, 100.0), thickness_um=float(ground))))


@dataclass(frozen=True)
class Channels:
    """Channels of a comparison: fine ones that are merged as far as the resolution allows.

    Parameters
    ----------
    axis : EnergyAxis
        Fine channels, from the first that is used to the end of the source.
    starts : (n_bin,) array
        First fine channel of each merged one.
    middle_kev : (n_bin,) array
        Energy, keV.
    """

    axis: EnergyAxis
    starts: NDArray[np.int64]
    middle_kev: Numbers

    def merge(self, fine: Numbers) -> Numbers:
        """Return (..., n_bin) from (..., n_channel) counts."""
        return np.add.reduceat(fine, self.starts, axis=-1)


def channels_for(instrument: Instrument, start_kev: float) -> Channels:
    """Return the channels on which an instrument's spectra are compared.

    Raises
    ------
    SampleError
        The source ends below ``start_kev``.
    """
    detector = instrument.detector
    stop = min(instrument.highest_kev, detector.zero_kev + detector.gain_kev * detector.n_channel)
    if not stop > start_kev + 1.0:
        raise SampleError(f"Cannot compare spectra from {start_kev:g} keV on: this instrument ends at {stop:.4g} keV.")
    fine = EnergyAxis(FINE_KEV, start_kev + 0.5 * FINE_KEV, int((stop - start_kev) / FINE_KEV))
    width = np.maximum(BIN_SIGMAS * resolution_sigma(detector, fine.energy_kev), FINE_KEV)
    # a channel opens a new bin when the widths passed reach the next whole number
    n_widths = np.floor(np.cumsum(FINE_KEV / width))
    starts = np.flatnonzero(np.diff(n_widths, prepend=-1.0) > 0)
    stops = np.append(starts[1:], fine.n_channel)
    return Channels(fine, starts, 0.5 * (fine.energy_kev[starts] + fine.energy_kev[stops - 1]))


def shown_elements(pigment: str) -> frozenset[str]:
    """Return the elements of a pigment that have a line above 2.8 keV and a share of a per cent."""
    fractions = library()[pigment].mass_fractions
    return frozenset(
        name
        for name, part in fractions.items()
        if part >= MIN_ELEMENT_FRACTION and atomic_number(name) >= MIN_ATOMIC_NUMBER
    )
