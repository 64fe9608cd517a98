"""Contributions to a spectrum by line family, layer of origin, order and kind of scatter."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.errors import SampleError
from underpaint.physics.atomic import LineTable
from underpaint.physics.forward.emission import ORDERS, SCATTER, Emission
from underpaint.physics.forward.response import axis_of, render
from underpaint.physics.forward.transport import Detail, emit
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Stratigraphy

Numbers = NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)
SCATTERED = "scatter"
"""Element and layer of scattered tube radiation."""


@dataclass(frozen=True)
class Part:
    """One addend of a spectrum.

    Parameters
    ----------
    family : str
        ``Pb_L``; "scatter" for scattered tube radiation.
    layer : int or None
        Layer of origin, 0 at the surface; None for scatter, which is not followed by layer.
    order : str
        A name of ``ORDERS`` or ``SCATTER``.
    photons : float
        That reach the detector's window, on the scale of ``counts``.
    counts : float
        Detected within the axis: peak, tail, shelf and escape.
    """

    family: str
    layer: int | None
    order: str
    photons: float
    counts: float

    @property
    def element(self) -> str:
        """Symbol of the element, or "scatter"."""
        return self.family.partition("_")[0]


@dataclass(frozen=True)
class Breakdown:
    """A spectrum and its parts, which sum to it.

    Parameters
    ----------
    axis : EnergyAxis
    layer_names : tuple of str
        From the surface down.
    parts : tuple of Part
        n_part addends.
    spectra : (n_part, n_channel) array
        Expected counts of each part.
    total : (n_channel,) array
        Expected counts of the full spectrum, rendered separately.
    """

    axis: EnergyAxis
    layer_names: tuple[str, ...]
    parts: tuple[Part, ...]
    spectra: Numbers
    total: Numbers

    def by_element(self) -> dict[str, Numbers]:
        """Return the (n_channel,) spectra of each element and of "scatter", the strongest first."""
        return self._by(lambda part: part.element)

    def by_family(self) -> dict[str, Numbers]:
        """Return the (n_channel,) spectra of each line family and of "scatter", the strongest first."""
        return self._by(lambda part: part.family)

    def by_layer(self) -> dict[int | None, Numbers]:
        """Return the (n_channel,) spectra of each layer from the surface down, that of scatter (None) last."""
        spectra = self._by(lambda part: part.layer)
        return dict(sorted(spectra.items(), key=lambda item: (item[0] is None, item[0] or 0)))

    def by_order(self) -> dict[str, Numbers]:
        """Return the (n_channel,) spectra of each order of fluorescence and each kind of scatter."""
        spectra = self._by(lambda part: part.order)
        return {name: spectra[name] for name in (*ORDERS, *SCATTER) if name in spectra}

    def scaled(self, counts: float) -> "Breakdown":
        """Return the same for a spectrum with ``counts`` detected counts in all.

        Raises
        ------
        SampleError
            ``counts`` is not positive.
        """
        if not counts > 0:
            raise SampleError(f"Cannot scale a spectrum to {counts} counts; give a positive number.")
        factor = counts / float(self.total.sum())
        parts = tuple(replace(part, photons=part.photons * factor, counts=part.counts * factor) for part in self.parts)
        return replace(self, parts=parts, spectra=self.spectra * factor, total=self.total * factor)

    def _by(self, key: Callable[[Part], Key]) -> dict[Key, Numbers]:
        keys = [key(part) for part in self.parts]
        sums = {
            label: self.spectra[[index for index, entry in enumerate(keys) if entry == label]].sum(axis=0)
            for label in dict.fromkeys(keys)
        }
        return dict(sorted(sums.items(), key=lambda item: -float(item[1].sum())))


def breakdown(
    stratigraphy: Stratigraphy,
    instrument: Instrument,
    *,
    counts: float | None = None,
    axis: EnergyAxis | None = None,
    detail: Detail | None = None,
) -> Breakdown:
    """Compute the contributions to the spectrum of a stratigraphy.

    Parameters
    ----------
    stratigraphy : Stratigraphy
    instrument : Instrument
    counts : float, optional
        Total detected counts; by default on the scale of ``Emission``.
    axis : EnergyAxis, optional
        By default the detector's channels.
    detail : Detail, optional
        Orders and accuracy of the transport.

    Returns
    -------
    Breakdown
        Line families by layer and order, then coherent, Compton and multiple scatter. Contributions without photons are
        omitted. Pile-up is not included, since it mixes the contributions.

    Raises
    ------
    SampleError
        As ``emit``.
    """
    emission = emit([stratigraphy], instrument, detail=detail)
    parts, masked = _parts(emission)
    axis = axis_of(instrument.detector) if axis is None else axis
    spectra = np.asarray(render(masked, instrument.detector, axis), dtype=np.float64)
    spectrum = np.asarray(render(emission, instrument.detector, axis), dtype=np.float64)[0]
    detected = spectra.sum(axis=1)
    counted = tuple(replace(part, counts=float(share)) for part, share in zip(parts, detected, strict=True))
    names = tuple(layer.name or f"layer {depth}" for depth, layer in enumerate(stratigraphy.layers, start=1))
    result = Breakdown(axis, names, counted, spectra, spectrum)
    return result if counts is None else result.scaled(counts)


def _parts(emission: Emission) -> tuple[list[Part], Emission]:
    """Return the contributions, and an emission with one sample for each of them."""
    family = np.asarray(emission.lines.family)
    parts: list[Part] = []
    rows: dict[str, list[Numbers]] = {name: [] for name in ("lines", *SCATTER)}
    blank = {name: np.zeros(getattr(emission, name).shape[1]) for name in SCATTER}
    blank["lines"] = np.zeros(len(emission.lines))
    for order in ORDERS:
        for layer, photons in enumerate(getattr(emission, order)[0]):
            for name in dict.fromkeys(family[photons > 0].tolist()):
                contribution = np.where(family == name, photons, 0.0)
                parts.append(Part(name, layer, order, float(contribution.sum()), 0.0))
                _append(rows, blank, "lines", contribution)
    for kind in SCATTER:
        photons = getattr(emission, kind)[0]
        if photons.any():
            parts.append(Part(SCATTERED, None, kind, float(photons.sum()), 0.0))
            _append(rows, blank, kind, photons)
    lines = np.stack(rows["lines"])[:, None, :]
    arrays: dict[str, Any] = {order: np.zeros_like(lines) for order in ORDERS} | {ORDERS[0]: lines}
    arrays |= {kind: np.stack(rows[kind]) for kind in SCATTER}
    return parts, replace(emission, **arrays)


def _append(rows: dict[str, list[Numbers]], blank: dict[str, Numbers], kind: str, photons: Numbers) -> None:
    for name, spectrum in rows.items():
        spectrum.append(photons if name == kind else blank[name])


SLICES = 24
"""Number of slices per layer; the depth of origin is interpolated between their faces."""


@dataclass(frozen=True)
class Origin:
    """Depth of origin of the photons of each line that leave a stratigraphy towards the detector.

    Parameters
    ----------
    lines : LineTable
        n_line lines.
    share : (n_layer, n_line) array
        Share of a line's photons that each layer emits, from the surface down; columns sum to one, or to zero for an
        absent line.
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
        """Return the (n_line,) depths, um, above which a share of each line's photons originates; NaN for absent lines.

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

    Each layer is cut into slices, which leaves the primary fluorescence unchanged and the enhancement nearly so. The
    emission of a slice is that of its depth.

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
