"""Spectra of one scan fitted anew with the lines that the page ticks."""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from underpaint.data import EnergyAxis, Spectrum
from underpaint.errors import CalibrationError
from underpaint.physics.instrument import Instrument

if TYPE_CHECKING:
    from underpaint.elements.fit import FitChoice


class Refits:
    """Fits of spectra of one scan; families, resolution and likely instruments are chosen once, from its sum.

    Parameters
    ----------
    total, highest : (n_channel,) arrays or None
        Sum and maximum spectrum of the scan.
    axis : EnergyAxis or None
        Of the results, which the calibration of the file may differ from.
    instrument : mapping or None
        Settings of the instrument that the run used, with the detector's resolution; None finds both in the spectrum.
    """

    def __init__(self, total: Any, highest: Any, axis: EnergyAxis | None, instrument: Any = None) -> None:
        self.axis = axis
        self._total, self._highest, self._instrument = total, highest, instrument
        self._choice: FitChoice | None = None
        self._lock = threading.Lock()

    def __call__(self, spectrum: Spectrum, *, add: Sequence[str] = (), drop: Sequence[str] = ()) -> dict[str, Any]:
        """Return the fit of a spectrum for the page: fitted spectrum, its parts, net counts by line family.

        Parameters
        ----------
        spectrum : Spectrum
        add, drop : sequence of str
            Families to fit besides those that are fitted by default, and families to leave out.

        Raises
        ------
        CalibrationError
            The results have no energy axis.
        ScanError, CoverageError
            The spectrum cannot be fitted, or an added family lies outside the axis.
        """
        from underpaint.elements.fixed_fit import candidates_of
        from underpaint.elements.spectrum_fit import fit_chosen

        choice = self.choice(spectrum.counts)
        added = candidates_of(add, choice.stage) if add else []
        names = [name for name in dict.fromkeys((*choice.families, *added)) if name not in set(drop)]
        fit = fit_chosen(replace(spectrum, axis=self.axis), choice, names)
        return {
            "name": fit.name,
            "counts": fit.counts.tolist(),
            "fitted": _numbers(fit.fitted),
            "background": _numbers(np.where(np.isnan(fit.fitted), np.nan, fit.background)),
            "residual": _numbers(np.where(fit.sigma > 0, fit.residual / np.maximum(fit.sigma, 1e-9), np.nan)),
            "chi_square": fit.chi_square,
            "families": [
                {
                    "name": name,
                    "area": family.area,
                    "sigma": family.sigma,
                    "limit": family.detection_limit,
                    "present": bool(family.present),
                }
                for name, family in sorted(fit.families.items(), key=lambda entry: -entry[1].area)
            ],
            "add": list(add),
            "drop": list(drop),
        }

    def choice(self, counts: NDArray[Any]) -> "FitChoice":
        """Return what is chosen once: from the scan's sum and maximum, or from a spectrum where they are not known.

        Raises
        ------
        CalibrationError
            The results have no energy axis.
        """
        from underpaint.elements.fit import choose_families

        if self.axis is None:
            raise CalibrationError("Cannot fit: the results have no energy axis. Calibrate the scan and run it again.")
        with self._lock:
            if self._choice is None:
                total = np.asarray(counts if self._total is None else self._total, dtype=np.float64)
                highest = total if self._highest is None else np.asarray(self._highest, dtype=np.float64)
                self._choice = choose_families(total, highest, self.axis, None, (), (), _instrument(self._instrument))
            return self._choice


def _instrument(settings: Any) -> Instrument | None:
    """Return the instrument of a record; None where there is none, or one that an earlier version wrote."""
    try:
        return Instrument.model_validate(settings) if settings else None
    except ValidationError:
        return None


def _numbers(values: Any) -> list[float | None]:
    return [float(value) if np.isfinite(value) else None for value in values]
