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
"""Element and family of scattered tube radiation."""


@dataclass(frozen=True)
class Part:
    """One contribution to a spectrum.

    Parameters
    ----------
    family : str
        Line family, ``Pb_L``; "scatter" for scattered tube radiation.
    layer : int or None
        Layer of origin, 0 at the surface; None for scatter, whose layer is not known.
    order : str
        A name of ``ORDERS`` or ``SCATTER``.
    photons : float
        Photons that reach the detector's window, on the scale of ``counts``.
    counts : float
        Counts detected within the axis: peak, tail, shelf and escape.
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
        Energy axis of the spectra.
    layer_names : tuple of str
        Names of the layers from the surface down.
    parts : tuple of Part
        The n_part contributions.
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
        return self._sums_by(lambda part: part.element)

    def by_family(self) -> dict[str, Numbers]:
        """Return the (n_channel,) spectra of each line family and of "scatter", the strongest first."""
        return self._sums_by(lambda part: part.family)

    def by_layer(self) -> dict[int | None, Numbers]:
        """Return the (n_channel,) spectra of the layers from the surface down, then that of scatter (None)."""
        spectra = self._sums_by(lambda part: part.layer)
        return dict(sorted(spectra.items(), key=lambda item: (item[0] is None, item[0] or 0)))

    def by_order(self) -> dict[str, Numbers]:
        """Return the (n_channel,) spectra of each order of fluorescence and each kind of scatter."""
        spectra = self._sums_by(lambda part: part.order)
        return {name: spectra[name] for name in (*ORDERS, *SCATTER) if name in spectra}

    def scaled(self, counts: float) -> "Breakdown":
        """Return the breakdown of a spectrum with ``counts`` detected counts in total.

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

    def _sums_by(self, key: Callable[[Part], Key]) -> dict[Key, Numbers]:
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
        Layers of the sample.
    instrument : Instrument
        Source, geometry and detector.
    counts : float, optional
        Total detected counts; by default the counts have the scale of ``Emission``.
    axis : EnergyAxis, optional
        Energy axis; by default that of the detector.
    detail : Detail, optional
        Orders and accuracy of the transport.

    Returns
    -------
    Breakdown
        Line families by layer and order, then coherent, Compton and multiple scatter. Contributions without photons are
        omitted. Pile-up is omitted, since it mixes the contributions.

    Raises
    ------
    SampleError
        The stratigraphy cannot be simulated (see ``emit``).
    """
    emission = emit([stratigraphy], instrument, detail=detail)
    parts, part_emission = _split_emission(emission)
    axis = axis_of(instrument.detector) if axis is None else axis
    spectra = np.asarray(render(part_emission, instrument.detector, axis), dtype=np.float64)
    spectrum = np.asarray(render(emission, instrument.detector, axis), dtype=np.float64)[0]
    part_counts = spectra.sum(axis=1)
    counted_parts = tuple(
        replace(part, counts=float(part_count)) for part, part_count in zip(parts, part_counts, strict=True)
    )
    names = tuple(layer.name or f"layer {depth}" for depth, layer in enumerate(stratigraphy.layers, start=1))
    unscaled = Breakdown(axis, names, counted_parts, spectra, spectrum)
    return unscaled if counts is None else unscaled.scaled(counts)


def _split_emission(emission: Emission) -> tuple[list[Part], Emission]:
    """Return the contributions, and an emission whose samples are the contributions."""
    family = np.asarray(emission.lines.family)
    parts: list[Part] = []
    rows: dict[str, list[Numbers]] = {name: [] for name in ("lines", *SCATTER)}
    empty = {name: np.zeros(getattr(emission, name).shape[1]) for name in SCATTER}
    empty["lines"] = np.zeros(len(emission.lines))
    for order in ORDERS:
        for layer, photons in enumerate(getattr(emission, order)[0]):
            for name in dict.fromkeys(family[photons > 0].tolist()):
                contribution = np.where(family == name, photons, 0.0)
                parts.append(Part(name, layer, order, float(contribution.sum()), 0.0))
                _append(rows, empty, "lines", contribution)
    for kind in SCATTER:
        photons = getattr(emission, kind)[0]
        if photons.any():
            parts.append(Part(SCATTERED, None, kind, float(photons.sum()), 0.0))
            _append(rows, empty, kind, photons)
    lines = np.stack(rows["lines"])[:, None, :]
    arrays: dict[str, Any] = {order: np.zeros_like(lines) for order in ORDERS} | {ORDERS[0]: lines}
    arrays |= {kind: np.stack(rows[kind]) for kind in SCATTER}
    return parts, replace(emission, **arrays)


def _append(rows: dict[str, list[Numbers]], empty: dict[str, Numbers], kind: str, photons: Numbers) -> None:
    for name, spectrum in rows.items():
        spectrum.append(photons if name == kind else empty[name])


N_SLICES = 24
"""Number of slices per layer; depths of origin are interpolated between their faces."""


@dataclass(frozen=True)
class Origin:
    """Depth of origin of the photons of each line that leave a stratigraphy towards the detector.

    Parameters
    ----------
    lines : LineTable
        The n_line lines.
    share : (n_layer, n_line) array
        Fraction of the photons of a line that each layer emits, from the surface down; columns sum to one, or to zero
        for an absent line.
    depth_um : (n_face,) array
        Depths of the faces of thin slices, um, from zero down.
    above : (n_face, n_line) array
        Fraction of the photons of a line that are emitted above each depth.
    """

    lines: LineTable
    share: Numbers
    depth_um: Numbers
    above: Numbers

    def information_depth_um(self, share: float = 0.95) -> Numbers:
        """Return the (n_line,) depths, um, above which a fraction of each line's photons is emitted; NaN if absent.

        Raises
        ------
        SampleError
            The fraction is not between zero and one.
        """
        if not 0.0 < share < 1.0:
            raise SampleError(
                f"Cannot compute an information depth for a fraction of {share:g}; give a fraction between 0 and 1."
            )
        depths = [np.interp(share, column, self.depth_um) if column[-1] > 0 else np.nan for column in self.above.T]
        return np.asarray(depths)


def depth_of_origin(stratigraphy: Stratigraphy, instrument: Instrument) -> Origin:
    """Return the depth of origin of the photons of every line, all orders included.

    Each layer is cut into thin slices, whose emission gives the distribution of depths. The slices do not change the
    primary fluorescence, and hardly change the enhancement.

    Raises
    ------
    SampleError
        The stratigraphy cannot be simulated (see ``emit``).
    """
    slices = [
        replace(layer, thickness_um=layer.thickness_um / N_SLICES)
        for layer in stratigraphy.layers
        for _ in range(N_SLICES)
    ]
    emission = emit([Stratigraphy(tuple(slices), stratigraphy.name)], instrument)
    photons = np.asarray(emission.layer_photons[0], dtype=np.float64)
    total = photons.sum(axis=0)
    shares = np.divide(photons, total, out=np.zeros_like(photons), where=total > 0)
    return Origin(
        emission.lines,
        shares.reshape(len(stratigraphy.layers), N_SLICES, -1).sum(axis=1),
        np.concatenate([[0.0], np.cumsum([layer.thickness_um for layer in slices])]),
        np.vstack([np.zeros(total.size), np.cumsum(shares, axis=0)]),
    )
