"""The path in air that a detector sees, from argon's line beside the scatter of the sample."""

import numpy as np
from numpy.typing import NDArray

from underpaint.calibrate._refine import GroupModel, Response
from underpaint.calibrate._scatter import Lamp, simple_samples, tube_of
from underpaint.data.axis import EnergyAxis
from underpaint.physics.forward import Detail, emit, render
from underpaint.physics.instrument import Detector

Array = NDArray[np.float64]

ARGON = "Ar_K"
HIDDEN_UNDER = ("Pd", "Ag")
"""Anodes whose scattered L lines lie on argon's."""
_SCATTER_KEV = (14.0, 19.0)


def argon_counts(model: GroupModel, response: Response) -> float:
    """Return the counts of argon's K lines, zero where they are not among the significant ones."""
    areas = model.areas(model.design(response))
    return float(sum(area for group, area in zip(model.groups, areas[:-1], strict=True) if group.family == ARGON))


def seen_air_cm(argon: float, counts: Array, response: Response, lamp: Lamp) -> float:
    """Return the path in air, cm, that gives as much argon beside as much scatter from 14 to 19 keV.

    Parameters
    ----------
    argon : float
        Counts of argon's K lines.
    counts : (n_channel,) array
        Sum spectrum.
    response : Response
        Its axis and resolution.
    lamp : Lamp
        The tube found.
    """
    axis = EnergyAxis(0.05, 0.0, int(_SCATTER_KEV[1] / 0.05) + 2)
    tube = tube_of(lamp)
    lit = tube.model_copy(update={"geometry": tube.geometry.model_copy(update={"seen_air_cm": 1.0})})
    detector = Detector(noise_fwhm_kev=response.noise_fwhm_kev, fano=response.fano)
    dark, seen = (
        np.asarray(render(emit(simple_samples(), own, detail=Detail(orders=1)), detector, axis)) for own in (tube, lit)
    )
    air = seen - dark
    low = axis.energy_kev < 4.0
    # what lies under the line is scatter of the air itself
    per_cm = air[:, low].sum(axis=1) / _between(dark, axis)
    measured = argon / _between(counts[None, :], response.axis(counts.size))[0]
    return float(measured / np.exp(np.log(per_cm).mean()))


def _between(counts: Array, axis: EnergyAxis) -> Array:
    inside = (axis.energy_kev > _SCATTER_KEV[0]) & (axis.energy_kev < _SCATTER_KEV[1])
    return np.asarray(counts[:, inside].sum(axis=1))
