"""The linear energy axis of a spectrum."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import CalibrationError


@dataclass(frozen=True)
class EnergyAxis:
    """Energy of each channel: ``zero_kev + gain_kev * channel``.

    Parameters
    ----------
    gain_kev : float
        Width of a channel, in keV.
    zero_kev : float
        Energy of the centre of channel 0, in keV.
    n_channel : int
        Number of channels.

    Examples
    --------
    >>> import underpaint as up
    >>> float(up.EnergyAxis(0.02, 0.0, 2048).energy_kev[320])
    6.4
    """

    gain_kev: float
    zero_kev: float
    n_channel: int

    def __post_init__(self) -> None:
        if not (np.isfinite(self.gain_kev) and self.gain_kev > 0):
            raise CalibrationError(
                f"Cannot make an energy axis: gain is {self.gain_kev} keV per channel; it must be positive."
            )
        if not np.isfinite(self.zero_kev):
            raise CalibrationError(f"Cannot make an energy axis: zero is {self.zero_kev} keV; it must be finite.")
        if self.n_channel < 2:
            raise CalibrationError(f"Cannot make an energy axis of {self.n_channel} channels; at least 2 are needed.")

    @classmethod
    def from_energies(cls, energy_kev: NDArray[np.float64] | None) -> "EnergyAxis | None":
        """Return the axis through evenly spaced channel energies, in keV; None if there are fewer than two energies."""
        if energy_kev is None or len(energy_kev) < 2:
            return None
        gain = float(energy_kev[-1] - energy_kev[0]) / (len(energy_kev) - 1)
        return cls(gain, float(energy_kev[0]), len(energy_kev))

    @property
    def energy_kev(self) -> NDArray[np.float64]:
        """(n_channel,) energy of the centre of each channel, in keV."""
        return self.zero_kev + self.gain_kev * np.arange(self.n_channel, dtype=np.float64)

    @property
    def edges_kev(self) -> NDArray[np.float64]:
        """(n_channel + 1,) energies of the borders between channels, in keV."""
        return self.zero_kev + self.gain_kev * (np.arange(self.n_channel + 1, dtype=np.float64) - 0.5)

    @property
    def start_kev(self) -> float:
        """Lower border of the first channel, in keV."""
        return self.zero_kev - 0.5 * self.gain_kev

    @property
    def stop_kev(self) -> float:
        """Upper border of the last channel, in keV."""
        return self.start_kev + self.gain_kev * self.n_channel

    def channel(self, energy_kev: float) -> float:
        """Return the channel at an energy in keV, as a fractional number."""
        return (energy_kev - self.zero_kev) / self.gain_kev


DEFAULT_NETWORK_AXIS = EnergyAxis(gain_kev=0.04, zero_kev=1.02, n_channel=1000)
"""Energy axis of the default network: 1000 bins of 40 eV, from 1.0 to 41.0 keV."""

XU_NETWORK_AXIS = EnergyAxis(gain_kev=0.01, zero_kev=2.805, n_channel=3815)
"""Energy axis of Xu et al. 2022: 3815 channels from 2.80 to 40.95 keV. The channel width of 10 eV is inferred."""
