"""Values of an instrument (anode, voltage, angles, resolution) as network inputs."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.physics.forward import resolution_sigma
from underpaint.physics.instrument import Detector, Instrument
from underpaint.units import FWHM_PER_SIGMA, MN_K_ALPHA_KEV

ANODES = ("Cr", "Cu", "Mo", "Rh", "Pd", "Ag", "W", "Au")
QUANTITY_NAMES = ("voltage_kv", "incidence_deg", "takeoff_deg", "scatter_deg", "fwhm_kev")
INSTRUMENT_INPUTS = (*(f"anode_{anode}" for anode in ANODES), *QUANTITY_NAMES)
"""Names of the inputs: eight one-hot anodes, then the voltage, the angles and the resolution."""
_FEATURE_SCALES = dict(zip(QUANTITY_NAMES, (50.0, 90.0, 90.0, 180.0, 0.15), strict=True))


@dataclass(frozen=True)
class InstrumentConditions:
    """Values of an instrument. Unknown values are None.

    Parameters
    ----------
    anode : str or None
        Element symbol of the tube's anode.
    voltage_kv : float or None
        Tube voltage in kV.
    incidence_deg, takeoff_deg, scatter_deg : float or None
        Incidence, take-off and scattering angle, in degrees.
    fwhm_kev : float or None
        Resolution (FWHM) at Mn K-alpha in keV.
    """

    anode: str | None = None
    voltage_kv: float | None = None
    incidence_deg: float | None = None
    takeoff_deg: float | None = None
    scatter_deg: float | None = None
    fwhm_kev: float | None = None

    def inputs(self, names: Sequence[str] = INSTRUMENT_INPUTS) -> NDArray[np.float32]:
        """Return the (n_input,) network inputs with the given names, scaled to order one. Unknown values are NaN.

        If the anode is not in :data:`ANODES`, all anode inputs are zero.
        """
        features = dict.fromkeys(names, math.nan)
        if self.anode is not None:
            features |= {f"anode_{anode}": float(self.anode == anode) for anode in ANODES}
        for feature_name, quantity in asdict(self).items():
            if feature_name in _FEATURE_SCALES and quantity is not None:
                features[feature_name] = quantity / _FEATURE_SCALES[feature_name]
        return np.asarray([features[feature_name] for feature_name in names], dtype=np.float32)

    @classmethod
    def from_inputs(
        cls, inputs: NDArray[np.floating], names: Sequence[str] = INSTRUMENT_INPUTS
    ) -> "InstrumentConditions":
        """Return the conditions that (n_input,) network inputs encode. An anode outside :data:`ANODES` becomes None."""
        feature_values = {
            feature_name: float(feature)
            for feature_name, feature in zip(names, inputs, strict=True)
            if np.isfinite(feature)
        }
        anode = next((symbol for symbol in ANODES if feature_values.get(f"anode_{symbol}", 0.0) > 0.5), None)
        return cls(
            anode,
            **{
                feature_name: feature_values[feature_name] * scale
                for feature_name, scale in _FEATURE_SCALES.items()
                if feature_name in feature_values
            },
        )

    def facts(self) -> dict[str, str | float | None]:
        """Return a JSON-serialisable dictionary of the values by name. Unknown values are None."""
        return asdict(self)


def conditions_of(instrument: Instrument, detector: Detector | None = None) -> InstrumentConditions:
    """Return the conditions of an instrument. All values of the instrument count as known, even defaults.

    Parameters
    ----------
    instrument : Instrument
        Instrument. If its source spectrum is tabulated, anode and voltage are None.
    detector : Detector or None
        Detector whose resolution replaces that of the instrument's detector.
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
    """Return the network inputs for an instrument, scaled to order one, in the order of :data:`INSTRUMENT_INPUTS`.

    Parameters
    ----------
    instrument : Instrument
        See :func:`conditions_of`.
    detector : Detector or None
        See :func:`conditions_of`.

    Returns
    -------
    (n_input,) float32 array
        Network inputs. If the source spectrum is tabulated, anode and voltage are NaN.
    """
    return conditions_of(instrument, detector).inputs()
