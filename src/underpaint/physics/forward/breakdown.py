"""Contributions to a spectrum, by line family, layer of origin, order of fluorescence and kind of scatter."""

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

FloatArray = NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)
SCATTERED = "scatter"
"""Name of scattered tube radiation, used in place of an element or a family."""


@dataclass(frozen=True)
class Part:
    """One contribution to a spectrum.

    Parameters
    ----------
    family : str
        Line family, such as ``Pb_L``; "scatter" for scattered tube radiation.
    layer : int or None
        Layer of origin, 0 at the surface; None for scatter, whose layer is not known.
    order : str
        Order of fluorescence or kind of scatter: a name in ``ORDERS`` or ``SCATTER``.
    photons : float
        Photons that reach the detector's window; ``photons`` and ``counts`` have the same scale.
    counts : float
        Counts recorded within the energy axis: peak, tail, shelf and escape.
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
    """A spectrum, and contributions whose sum is the spectrum.

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
        Expected counts of the full spectrum, computed independently of ``spectra``.
    """

    axis: EnergyAxis
    layer_names: tuple[str, ...]
    parts: tuple[Part, ...]
    spectra: FloatArray
    total: FloatArray

    def by_element(self) -> dict[str, FloatArray]:
        """Return the (n_channel,) spectrum of each element and of "scatter", strongest spectrum first."""
        return self._sum_spectra_by(lambda part: part.element)

    def by_family(self) -> dict[str, FloatArray]:
        """Return the (n_channel,) spectrum of each line family and of "scatter", strongest spectrum first."""
        return self._sum_spectra_by(lambda part: part.family)

    def by_layer(self) -> dict[int | None, FloatArray]:
        """Return the (n_channel,) spectrum of each layer, from the surface down, and of scatter (key None)."""
        spectra = self._sum_spectra_by(lambda part: part.layer)
        return dict(sorted(spectra.items(), key=lambda item: (item[0] is None, item[0] or 0)))

    def by_order(self) -> dict[str, FloatArray]:
        """Return the (n_channel,) spectrum of each order of fluorescence and each kind of scatter."""
        spectra = self._sum_spectra_by(lambda part: part.order)
        return {name: spectra[name] for name in (*ORDERS, *SCATTER) if name in spectra}

    def scaled(self, counts: float) -> "Breakdown":
        """Return the breakdown, scaled to a total of ``counts`` detected counts.

        Raises
        ------
        SampleError
            ``counts`` is not positive.
        """
        if not counts > 0:
            raise SampleError(f"Cannot scale a spectrum to {counts} counts; give a positive number.")
        scale_factor = counts / float(self.total.sum())
        parts = tuple(
            replace(part, photons=part.photons * scale_factor, counts=part.counts * scale_factor) for part in self.parts
        )
        return replace(self, parts=parts, spectra=self.spectra * scale_factor, total=self.total * scale_factor)

    def _sum_spectra_by(self, key: Callable[[Part], Key]) -> dict[Key, FloatArray]:
        part_keys = [key(part) for part in self.parts]
        summed_spectra = {
            part_key: self.spectra[
                [index for index, key_of_part in enumerate(part_keys) if key_of_part == part_key]
            ].sum(axis=0)
            for part_key in dict.fromkeys(part_keys)
        }
        return dict(sorted(summed_spectra.items(), key=lambda item: -float(item[1].sum())))


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
        Total detected counts of the spectrum; by default, counts have the scale of ``Emission``.
    axis : EnergyAxis, optional
        Energy axis; by default, the axis of the detector.
    detail : Detail, optional
        Orders and accuracy of the transport calculation.

    Returns
    -------
    Breakdown
        Line families by layer and order, followed by coherent, Compton and multiple scatter. Contributions without
        photons are omitted. Pile-up is not included, since it mixes photons of different contributions.

    Raises
    ------
    SampleError
        The stratigraphy cannot be simulated (see ``emit``).
    """
    emission = emit([stratigraphy], instrument, detail=detail)
    unscaled_parts, part_emission = _split_emission(emission)
    axis = axis_of(instrument.detector) if axis is None else axis
    spectra = np.asarray(render(part_emission, instrument.detector, axis), dtype=np.float64)
    spectrum = np.asarray(render(emission, instrument.detector, axis), dtype=np.float64)[0]
    part_counts = spectra.sum(axis=1)
    parts_with_counts = tuple(
        replace(part, counts=float(part_count)) for part, part_count in zip(unscaled_parts, part_counts, strict=True)
    )
    layer_names = tuple(layer.name or f"layer {depth}" for depth, layer in enumerate(stratigraphy.layers, start=1))
    unscaled_breakdown = Breakdown(axis, layer_names, parts_with_counts, spectra, spectrum)
    return unscaled_breakdown if counts is None else unscaled_breakdown.scaled(counts)


def _split_emission(emission: Emission) -> tuple[list[Part], Emission]:
    """Return the contributions, and an ``Emission`` in which each contribution is a sample."""
    line_families = np.asarray(emission.lines.family)
    parts: list[Part] = []
    spectra_by_kind: dict[str, list[FloatArray]] = {family: [] for family in ("lines", *SCATTER)}
    zero_photons = {family: np.zeros(getattr(emission, family).shape[1]) for family in SCATTER}
    zero_photons["lines"] = np.zeros(len(emission.lines))
    for order in ORDERS:
        for layer_index, photons in enumerate(getattr(emission, order)[0]):
            for family in dict.fromkeys(line_families[photons > 0].tolist()):
                family_photons = np.where(line_families == family, photons, 0.0)
                parts.append(Part(family, layer_index, order, float(family_photons.sum()), 0.0))
                _append_photons(spectra_by_kind, zero_photons, "lines", family_photons)
    for scatter_kind in SCATTER:
        photons = getattr(emission, scatter_kind)[0]
        if photons.any():
            parts.append(Part(SCATTERED, None, scatter_kind, float(photons.sum()), 0.0))
            _append_photons(spectra_by_kind, zero_photons, scatter_kind, photons)
    line_photons = np.stack(spectra_by_kind["lines"])[:, None, :]
    photon_arrays: dict[str, Any] = {order: np.zeros_like(line_photons) for order in ORDERS} | {ORDERS[0]: line_photons}
    photon_arrays |= {scatter_kind: np.stack(spectra_by_kind[scatter_kind]) for scatter_kind in SCATTER}
    return parts, replace(emission, **photon_arrays)


def _append_photons(
    spectra_by_kind: dict[str, list[FloatArray]], zero_photons: dict[str, FloatArray], kind: str, photons: FloatArray
) -> None:
    for name, spectrum in spectra_by_kind.items():
        spectrum.append(photons if name == kind else zero_photons[name])


N_SLICES = 24
"""Number of slices per layer; depths of origin are interpolated between the faces of the slices."""


@dataclass(frozen=True)
class Origin:
    """Depth of origin, for each line, of the photons that leave a stratigraphy towards the detector.

    Parameters
    ----------
    lines : LineTable
        The n_line lines.
    share : (n_layer, n_line) array
        Fraction of a line's photons that each layer emits, from the surface down. The column of a line sums to one, or
        to zero if the line is absent.
    depth_um : (n_face,) array
        Depths of the faces of thin slices, in um, from the surface down.
    above : (n_face, n_line) array
        Fraction of a line's photons that are emitted above each depth.
    """

    lines: LineTable
    share: FloatArray
    depth_um: FloatArray
    above: FloatArray

    def information_depth_um(self, share: float = 0.95) -> FloatArray:
        """Return the (n_line,) depths in um above which ``share`` of a line's photons is emitted; NaN for absent lines.

        Raises
        ------
        SampleError
            ``share`` is not between zero and one.
        """
        if not 0.0 < share < 1.0:
            raise SampleError(
                f"Cannot compute an information depth for a fraction of {share:g}; give a fraction between 0 and 1."
            )
        information_depths = [
            np.interp(share, cumulative_fraction, self.depth_um) if cumulative_fraction[-1] > 0 else np.nan
            for cumulative_fraction in self.above.T
        ]
        return np.asarray(information_depths)


def depth_of_origin(stratigraphy: Stratigraphy, instrument: Instrument) -> Origin:
    """Return the depth of origin of every line's photons; all orders of fluorescence are included.

    Each layer is cut into thin slices. The emission of the slices gives the distribution of depths. Cutting a layer
    does not change primary fluorescence, and hardly changes enhancement.

    Raises
    ------
    SampleError
        The stratigraphy cannot be simulated (see ``emit``).
    """
    layer_slices = [
        replace(layer, thickness_um=layer.thickness_um / N_SLICES)
        for layer in stratigraphy.layers
        for _ in range(N_SLICES)
    ]
    emission = emit([Stratigraphy(tuple(layer_slices), stratigraphy.name)], instrument)
    photons = np.asarray(emission.layer_photons[0], dtype=np.float64)
    total_photons = photons.sum(axis=0)
    slice_fractions = np.divide(photons, total_photons, out=np.zeros_like(photons), where=total_photons > 0)
    return Origin(
        emission.lines,
        slice_fractions.reshape(len(stratigraphy.layers), N_SLICES, -1).sum(axis=1),
        np.concatenate([[0.0], np.cumsum([layer.thickness_um for layer in layer_slices])]),
        np.vstack([np.zeros(total_photons.size), np.cumsum(slice_fractions, axis=0)]),
    )
