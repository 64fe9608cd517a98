"""Where in a painting the counts of each line come from."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import SampleError
from underpaint.physics.atomic import LineTable
from underpaint.physics.forward.transport import emit
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Stratigraphy

Numbers = NDArray[np.float64]
SLICES = 24
"""Slices a layer between whose faces the origin is interpolated."""


@dataclass(frozen=True)
class Origin:
    """Depth of origin of the photons of each line that leave a stratigraphy towards the detector.

    Parameters
    ----------
    lines : LineTable
        n_line lines.
    share : (n_layer, n_line) array
        Share of a line's photons that each layer sends, from the surface down; columns sum to one, or are zero where
        the line is not there.
    depth_um : (n_face,) array
        Depths, um, of the faces of thin slices; zero first.
    above : (n_face, n_line) array
        Share of a line's photons that comes from above each depth.
    """

    lines: LineTable
    share: Numbers
    depth_um: Numbers
    above: Numbers

    def information_depth_um(self, share: float = 0.95) -> Numbers:
        """Return the (n_line,) depths, um, above which a share of each line's photons comes from; NaN without any.

        Raises
        ------
        SampleError
            The share is not between zero and one.
        """
        if not 0.0 < share < 1.0:
            raise SampleError(
                f"Cannot find an information depth for a share of {share:g}; it must lie between 0 and 1."
            )
        depths = [np.interp(share, column, self.depth_um) if column[-1] > 0 else np.nan for column in self.above.T]
        return np.asarray(depths)


def depth_of_origin(stratigraphy: Stratigraphy, instrument: Instrument) -> Origin:
    """Return the depth of origin of every line: all orders, absorption on the way out included.

    Each layer is cut into slices, which changes nothing for the primary and little for the enhancement; what a slice
    sends is what comes from its depth.

    Raises
    ------
    SampleError
        As ``emit``.
    """
    slices = [
        replace(layer, thickness_um=layer.thickness_um / SLICES) for layer in stratigraphy.layers for _ in range(SLICES)
    ]
    emission = emit([Stratigraphy(tuple(slices), stratigraphy.name)], instrument)
    photons = np.asarray(emission.layer_photons[0], dtype=np.float64)
    total = photons.sum(axis=0)
    shares = np.divide(photons, total, out=np.zeros_like(photons), where=total > 0)
    return Origin(
        emission.lines,
        shares.reshape(len(stratigraphy.layers), SLICES, -1).sum(axis=1),
        np.concatenate([[0.0], np.cumsum([layer.thickness_um for layer in slices])]),
        np.vstack([np.zeros(total.size), np.cumsum(shares, axis=0)]),
    )
