"""Instrument conditions as input of a network."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.physics.forward import resolution_sigma
from underpaint.physics.instrument import Detector, Instrument
from underpaint.units import FWHM_PER_SIGMA, MN_K_ALPHA_KEV

ANODES = ("Cr", "Cu", "Mo", "Rh", "Pd", "Ag", "W", "Au")
QUANTITIES = ("voltage_kv", "incidence_deg", "takeoff_deg", "scatter_deg", "fwhm_kev")
INSTRUMENT_INPUTS = (*(f"anode_{anode}" for anode in ANODES), *QUANTITIES)
"""Columns: eight anodes (one-hot), then measurable quantities."""
_SCALES = dict(zip(QUANTITIES, (50.0, 90.0, 90.0, 180.0, 0.15), strict=True))


@dataclass(frozen=True)
class InstrumentConditions:
    """Known values of an instrument; None: unknown.

    Parameters
    ----------
    anode : str or None
        Element symbol.
    voltage_kv : float or None
        kV.
    incidence_deg, takeoff_deg, scatter_deg : float or None
        Beam to surface, surface to detector, beam to detected photon; degree.
    fwhm_kev : float or None
        Resolution at Mn K-alpha, keV FWHM.
    """

    anode: str | None = None
    voltage_kv: float | None = None
    incidence_deg: float | None = None
    takeoff_deg: float | None = None
    scatter_deg: float | None = None
    fwhm_kev: float | None = None

    def inputs(self, names: Sequence[str] = INSTRUMENT_INPUTS) -> NDArray[np.float32]:
        """Return (n_input,) values of order one for a network's inputs by name; NaN where unknown.

        For an anode that is not one of :data:`ANODES`, all their columns are zero.
        """
        numbers = dict.fromkeys(names, math.nan)
        if self.anode is not None:
            numbers |= {f"anode_{anode}": float(self.anode == anode) for anode in ANODES}
        for name, value in asdict(self).items():
            if name in _SCALES and value is not None:
                numbers[name] = value / _SCALES[name]
        return np.asarray([numbers[name] for name in names], dtype=np.float32)

    @classmethod
    def from_inputs(
        cls, inputs: NDArray[np.floating], names: Sequence[str] = INSTRUMENT_INPUTS
    ) -> "InstrumentConditions":
        """Return the conditions of (n_input,) ``inputs``; an anode outside :data:`ANODES` is unknown."""
        values = {name: float(value) for name, value in zip(names, inputs, strict=True) if np.isfinite(value)}
        anode = next((each for each in ANODES if values.get(f"anode_{each}", 0.0) > 0.5), None)
        return cls(anode, **{name: values[name] * scale for name, scale in _SCALES.items() if name in values})

    def facts(self) -> dict[str, str | float | None]:
        """Return the values by name, None where unknown; JSON-serialisable."""
        return asdict(self)


def conditions_of(instrument: Instrument, detector: Detector | None = None) -> InstrumentConditions:
    """Return the conditions of an instrument, all known.

    Parameters
    ----------
    instrument : Instrument
        Its tube and geometry. An explicit source spectrum has no anode and no voltage.
    detector : Detector or None
        Detector that replaces the instrument's; its resolution (FWHM at Mn K-alpha) is used.
    """
    geometry, tube = instrument.geometry, instrument.tube
    has_tube = instrument.source_spectrum is None
    sigma = float(resolution_sigma(detector or instrument.detector, np.asarray(MN_K_ALPHA_KEV)))
    return InstrumentConditions(
        anode=tube.anode if has_tube else None,
        voltage_kv=tube.voltage_kv if has_tube else None,
        incidence_deg=geometry.incidence_angle_deg,
        takeoff_deg=geometry.takeoff_angle_deg,
        scatter_deg=geometry.scattering_angle_deg,
        fwhm_kev=sigma * FWHM_PER_SIGMA,
    )


def instrument_inputs(instrument: Instrument, detector: Detector | None = None) -> NDArray[np.float32]:
    """Return (n_input,) numbers of order one about an instrument, as :data:`INSTRUMENT_INPUTS` names them.

    Parameters
    ----------
    instrument, detector : Instrument, Detector or None
        See :func:`conditions_of`.

    Returns
    -------
    (n_input,) float32 array
        NaN where unknown.
    """
    return conditions_of(instrument, detector).inputs()
