"""How many counts a spectrum needs before a buried pigment shows."""

from collections.abc import Sequence

import numpy as np

from underpaint.data import EnergyAxis
from underpaint.errors import SampleError
from underpaint.physics.forward import emit, render
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Stratigraphy, library
from underpaint.simulate import outputs_for, visibility


def counts_to_see(stratigraphies: Sequence[Stratigraphy], pigment: str, instrument: Instrument) -> list[float]:
    """Return the total counts at which a pigment's own lines rise over what lies under them.

    The rule: the counts of its key lines exceed ``3 sqrt(2 B)``, B the other counts within one FWHM of them
    (the detection limit of Currie 1968 with a known background, at three standard deviations).

    Parameters
    ----------
    stratigraphies : sequence of Stratigraphy
        Each should hold the pigment; infinity is returned where one does not.
    pigment : str
        Name, synonym or abbreviation from the library.

    Raises
    ------
    SampleError
        The pigment has no line that such an instrument sees.
    """
    name = library()[pigment].name
    outputs = outputs_for([name])
    if name not in outputs.names:
        raise SampleError(f"Cannot say when {name} shows: it has no element with a visible line; no XRF scan shows it.")
    detector = instrument.detector
    axis = EnergyAxis(detector.gain_kev, detector.zero_kev, detector.n_channel)
    emission = emit(stratigraphies, instrument)
    expected = np.asarray(render(emission, detector, axis))
    _, needed = visibility(stratigraphies, emission, expected, outputs, detector, axis)
    return [float(value) for value in needed[:, outputs.index(name)]]
