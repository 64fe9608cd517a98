"""Variation of line ratios in random paint, from the forward model.

A line family has no fixed shape. Paint absorbs low-energy lines more than high-energy lines, and lines of other
elements excite some shells more than others. Simulations of random stratigraphies give the mean shape and the variation
of each family and of scatter.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import scipy.linalg
import xraylib
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.elements._families import CANDIDATES, family_template, is_recorded
from underpaint.physics.atomic import SHELLS
from underpaint.physics.forward import efficiency, emit, response_matrix
from underpaint.physics.instrument import Detector, Filter, Geometry, Instrument, Tube
from underpaint.physics.materials import Layer, Stratigraphy, load_palette
from underpaint.runtime.cache import cached_arrays
from underpaint.simulate import RandomStratigraphies, StratigraphySampler

Array = NDArray[np.float64]

N_STRATIGRAPHIES = 1000
N_SIMILAR_STRATIGRAPHIES = 150
"""Number of similar stratigraphies from which the line ratios of a class of pixels are computed."""
LINE_FRACTION_ERROR = {"K": 0.015, "L": 0.04, "M": 0.12}
"""Relative error of a line's share of its family, by shell, due to errors of tabulated radiative rates."""
_MIN_FAMILY_FRACTION = 0.003
"""Minimum share of a family in the line counts of a stratigraphy that is used for the family's line ratios."""
_MIN_STRATIGRAPHIES, _N_FALLBACK_STRATIGRAPHIES = 30, 40
_N_SHAPE_COMPONENTS, _N_SCATTER_COMPONENTS = 5, 8
_ADDED_ELEMENT_FRACTIONS = (3e-4, 0.1)
"""Range of mass fractions of added elements. Elements are added so that rare elements are simulated as well."""
_SEED = 1
COMMON_INSTRUMENTS = tuple(
    Instrument(
        name=f"{anode} {voltage_kv:.0f} kV",
        tube=Tube.model_validate({"anode": anode, "voltage_kv": voltage_kv}),
        filters=filters,
        geometry=Geometry.model_validate({"incidence_angle_deg": incidence, "takeoff_angle_deg": takeoff}),
    )
    for anode, voltage_kv, incidence, takeoff, filters in (
        ("Rh", 50.0, 90.0, 45.0, ()),
        ("Rh", 40.0, 60.0, 60.0, ()),
        ("Rh", 30.0, 90.0, 50.0, ()),
        ("Mo", 40.0, 90.0, 45.0, ()),
        ("Ag", 40.0, 45.0, 45.0, ()),
        ("Rh", 50.0, 50.0, 50.0, (Filter(formula="Al", density=2.7, thickness_um=100.0),)),
    )
)
"""Common instruments, which are tried if the instrument of a scan is unknown."""


@dataclass(frozen=True)
class LineCounts:
    """Line and scatter counts of random stratigraphies.

    Parameters
    ----------
    family : tuple of str
        Family of each line, such as ``Pb_L``.
    shell : (n_line,) int array
        Shell with the vacancy, as an index into ``SHELLS``.
    energy_kev : (n_line,) array
        Line energies in keV.
    counts : (n, n_line) array
        Detected counts of each line, on the scale of ``scatter``.
    scatter : (n, n_energy) array
        Detected counts per bin of scattered tube radiation, and of lines after Compton scatter.
    scatter_kev, scatter_spread_kev : (n_energy,) arrays
        Centres and standard deviations of the bins of the scatter, in keV.
    """

    family: tuple[str, ...]
    shell: NDArray[np.int64]
    energy_kev: Array
    counts: Array
    scatter: Array
    scatter_kev: Array
    scatter_spread_kev: Array


def simulate_line_counts(instrument: Instrument, n: int = N_STRATIGRAPHIES) -> LineCounts:
    """Simulate the counts of random stratigraphies of the default palette, to which rare elements are added.

    Parameters
    ----------
    instrument : Instrument
        Source, filters, geometry and crystal; the energy axis is not used.
    n : int
        Number of stratigraphies.
    """
    detector = instrument.detector
    ignored_settings = {"name": "", "note": "", "scale": None, "detector": Detector.model_validate({})}
    photons = _simulated_photons(instrument.model_copy(update=ignored_settings), n)
    return replace(
        photons,
        counts=photons.counts * efficiency(detector, photons.energy_kev),
        scatter=photons.scatter * efficiency(detector, photons.scatter_kev),
    )


@lru_cache(maxsize=16)
def _simulated_photons(instrument: Instrument, n: int) -> LineCounts:
    """Return the photons that the stratigraphies emit, cached for all scans with this source and geometry."""

    def simulate_arrays() -> dict[str, NDArray[Any]]:
        emission = emit(_random_stratigraphies(n), instrument, workers=2, single=True)
        # scatter and lines from the air are excluded, since argon is a family of the fit
        return {
            "family": np.asarray(emission.lines.family),
            "shell": emission.lines.shell,
            "energy_kev": emission.lines.energy_kev,
            "counts": np.asarray(emission.line_photons, np.float32),
            "scatter": np.concatenate(
                [emission.coherent, emission.compton + emission.multiple], axis=1, dtype=np.float32
            ),
            "scatter_kev": np.concatenate([emission.source_kev, emission.compton_kev]),
            "scatter_spread_kev": np.concatenate([emission.width_kev, emission.compton_width_kev]) / np.sqrt(12.0),
        }

    settings = {"instrument": instrument.model_dump(mode="json"), "n": n, "seed": _SEED, "xraylib": xraylib.__version__}
    photon_arrays = cached_arrays("line_counts", settings, ("physics", "simulate", "elements"), simulate_arrays)
    return LineCounts(tuple(photon_arrays.pop("family").tolist()), **photon_arrays)


@lru_cache(maxsize=4)
def _random_stratigraphies(n: int) -> tuple[Stratigraphy, ...]:
    """Return random stratigraphies, the same for all instruments."""
    sampler = StratigraphySampler(RandomStratigraphies(palette=load_palette().pigments))
    rng = np.random.default_rng(_SEED)
    elements = sorted({family.partition("_")[0] for family in CANDIDATES})
    return tuple(_add_elements(rng, sampler.draw(rng), elements) for _ in range(n))


def _add_elements(rng: np.random.Generator, stratigraphy: Stratigraphy, elements: Sequence[str]) -> Stratigraphy:
    """Return the stratigraphy with up to three elements added to one of its layers."""
    layer_index = int(rng.integers(len(stratigraphy.layers)))
    layer = stratigraphy.layers[layer_index]
    added_fractions = {
        str(element): float(np.exp(rng.uniform(*np.log(_ADDED_ELEMENT_FRACTIONS))))
        for element in rng.choice(elements, int(rng.integers(0, 4)), replace=False)
    }
    original_fraction = 1.0 - sum(added_fractions.values())
    mass_fractions = {element: original_fraction * fraction for element, fraction in layer.mass_fractions.items()}
    for element, fraction in added_fractions.items():
        mass_fractions[element] = mass_fractions.get(element, 0.0) + fraction
    changed_layer = Layer(mass_fractions, layer.density, layer.thickness_um, layer.name)
    layers = (*stratigraphy.layers[:layer_index], changed_layer, *stratigraphy.layers[layer_index + 1 :])
    return Stratigraphy(layers, stratigraphy.name)


@dataclass(frozen=True)
class BinnedShapes:
    """Binned shapes of line families and of scatter, and variations of these shapes, for similar pixels.

    Parameters
    ----------
    templates : (n_family, n_bin) array
        Mean shape of each family, normalised to one count.
    changes : tuple of (n_change, n_bin) arrays
        Principal components of each family's shape variation. Components are scaled to one standard deviation and to
        one count of the family.
    scatter : (1, n_bin) array
        Mean shape of the scattered radiation, normalised to one count.
    scatter_changes : (n_change, n_bin) array
        Principal components of the variation of the scatter's shape. Components are scaled to one standard deviation
        and to one count of scatter.
    """

    templates: Array
    changes: tuple[Array, ...]
    scatter: Array
    scatter_changes: Array


class LineRatios:
    """Shapes of families and of scatter in the bins of a fit; the shapes depend on the composition.

    Parameters
    ----------
    simulations : sequence of LineCounts
        Simulations for the instrument, or for several likely instruments.
    detector : Detector
        Detector whose response shapes the peaks.
    axis : EnergyAxis
        Energy axis of the spectra.
    bin_counts : callable
        Function that bins (..., n_channel) counts to (..., n_bin) counts. The function must be hashable, since line
        shapes are cached.
    families : sequence of str
        Families to fit, such as ``Pb_L``, or ``Pb_L3`` for a single shell. Families outside the bins are ignored.
    excitation_kev : float
        Highest photon energy, in keV; it is used for families that are not simulated.
    """

    def __init__(
        self,
        simulations: Sequence[LineCounts],
        detector: Detector,
        axis: EnergyAxis,
        bin_counts: Callable[[Array], Array],
        families: Iterable[str],
        excitation_kev: float,
    ) -> None:
        self.names: tuple[str, ...] = ()
        self._lines: list[Array] = []
        self._shares: list[Array] = []
        areas: list[Array] = []
        for family in families:
            energy_kev, counts = _family_lines(simulations, family)
            area = counts.sum(axis=1)
            if not area.any():
                energy_kev, counts = np.zeros(0), np.zeros((len(counts), 1))
            line_shapes = _line_shapes(family, tuple(energy_kev.tolist()), detector, axis, bin_counts, excitation_kev)
            if line_shapes is None:
                continue
            self.names += (family,)
            self._lines.append(line_shapes)
            areas.append(area)
            self._shares.append(counts / np.maximum(area, 1e-300)[:, None])
        area = np.stack(areas, axis=1)
        self.relative_areas = area / np.maximum(area.sum(axis=1, keepdims=True), 1e-300)
        scatter_spectra = [
            line_counts.scatter
            @ bin_counts(response_matrix(detector, axis, line_counts.scatter_kev, line_counts.scatter_spread_kev))
            for line_counts in simulations
        ]
        scatter_shapes = np.concatenate(scatter_spectra)
        self._scatter = scatter_shapes / scatter_shapes.sum(axis=1, keepdims=True)
        self._common_shapes = [self._family_shape(index, np.ones(len(area))) for index in range(len(self.names))]
        self.mean_shapes = np.stack([family_mean for family_mean, _ in self._common_shapes])
        """(n_family, n_bin) mean shapes over all stratigraphies."""

    def shapes_near(self, area: Array) -> BinnedShapes:
        """Return the shapes for pixels whose areas resemble the given (n_family,) areas."""
        area = np.maximum(area, 0.0)
        log_composition = np.log(area / max(float(area.sum()), 1e-9) + _MIN_FAMILY_FRACTION)
        composition_distance = ((np.log(self.relative_areas + _MIN_FAMILY_FRACTION) - log_composition) ** 2).sum(axis=1)
        nearest_indices = np.argpartition(composition_distance, N_SIMILAR_STRATIGRAPHIES)[:N_SIMILAR_STRATIGRAPHIES]
        weight = np.zeros(len(composition_distance))
        weight[nearest_indices] = 1.001 - composition_distance[nearest_indices] / max(
            float(composition_distance[nearest_indices].max()), 1e-12
        )
        is_supported = (self.relative_areas[nearest_indices] > _MIN_FAMILY_FRACTION).sum(axis=0) >= _MIN_STRATIGRAPHIES
        shapes = [
            self._family_shape(index, weight) if is_supported[index] and area[index] > 0 else self._common_shapes[index]
            for index in range(len(self.names))
        ]
        return BinnedShapes(
            np.stack([family_mean for family_mean, _ in shapes]),
            tuple(changes for _, changes in shapes),
            *self._scatter_shape(weight),
        )

    def _family_shape(self, index: int, weight: Array) -> tuple[Array, Array]:
        """Return the (n_bin,) mean shape of a family, and the (n_change, n_bin) components of the shape variation."""
        line_fractions, line_shapes = self._shares[index], self._lines[index]
        if len(line_shapes) == 1:
            return line_shapes[0], np.zeros((0, line_shapes.shape[1]))
        relative_area = self.relative_areas[:, index]
        weight = np.where(relative_area > _MIN_FAMILY_FRACTION, weight, 0.0)
        if np.count_nonzero(weight) < _MIN_STRATIGRAPHIES:
            min_relative_area = np.sort(relative_area)[
                -min(_N_FALLBACK_STRATIGRAPHIES, int(np.count_nonzero(relative_area)))
            ]
            weight = ((relative_area >= min_relative_area) & (relative_area > 0)).astype(np.float64)
        used_rows = np.flatnonzero(weight)
        weight = weight[used_rows] / weight[used_rows].sum()
        mean_fractions = weight @ line_fractions[used_rows]
        weighted_deviation = np.sqrt(weight)[:, None] * (line_fractions[used_rows] - mean_fractions)
        # errors of the tabulated rates are independent, but the fractions of the lines sum to one
        rate_error = (np.eye(mean_fractions.size) - mean_fractions) * (
            LINE_FRACTION_ERROR[self.names[index].partition("_")[2][0]] * mean_fractions
        )[:, None]
        eigenvalues, eigenvectors = np.linalg.eigh(
            weighted_deviation.T @ weighted_deviation + rate_error.T @ rate_error
        )
        eigenvalues = np.sqrt(np.maximum(eigenvalues[-_N_SHAPE_COMPONENTS:], 0.0))
        return mean_fractions @ line_shapes, (eigenvectors[:, -_N_SHAPE_COMPONENTS:] * eigenvalues).T @ line_shapes

    def _scatter_shape(self, weight: Array) -> tuple[Array, Array]:
        """Return the (1, n_bin) mean shape of the scatter, and (n_change, n_bin) components of the shape variation.

        The scatter includes Compton-scattered lines, whose counts depend on the composition.
        """
        used_rows = np.flatnonzero(weight)
        weight = weight[used_rows] / weight[used_rows].sum()
        mean_shape = weight @ self._scatter[used_rows] + 1e-12
        root_mean_shape = np.sqrt(mean_shape)
        weighted_deviation = np.sqrt(weight)[:, None] * (self._scatter[used_rows] / root_mean_shape - root_mean_shape)
        _, eigenvectors = scipy.linalg.eigh(
            weighted_deviation @ weighted_deviation.T,
            subset_by_index=(len(weighted_deviation) - _N_SCATTER_COMPONENTS, len(weighted_deviation) - 1),
        )
        return np.asarray(mean_shape[None]), np.asarray(eigenvectors.T @ weighted_deviation * root_mean_shape)


@lru_cache(maxsize=1024)
def _line_shapes(
    family: str,
    energy_kev: tuple[float, ...],
    detector: Detector,
    axis: EnergyAxis,
    bin_counts: Callable[[Array], Array],
    excitation_kev: float,
) -> Array | None:
    """Return (n_line, n_bin) shapes of a family's lines, normalised to one count; None if no line is recorded.

    If ``energy_kev`` is empty, the template of the family is the only shape.
    """
    template = family_template(family, detector, axis, excitation_kev)
    if template is None or not is_recorded(template.counts, bin_counts(template.counts)):
        return None
    if not energy_kev:
        return bin_counts(template.counts)[None]
    energy_array_kev = np.asarray(energy_kev)
    return np.asarray(
        bin_counts(response_matrix(detector, axis, energy_array_kev)) / efficiency(detector, energy_array_kev)[:, None]
    )


def _family_lines(simulations: Sequence[LineCounts], family: str) -> tuple[Array, Array]:
    """Return the energies in keV, (n_line,), and the simulated counts, (n, n_line), of a family's lines."""
    symbol, _, shell = family.partition("_")
    energies_and_counts = []
    for line_counts in simulations:
        is_family = np.asarray([line_family == f"{symbol}_{shell[0]}" for line_family in line_counts.family])
        if len(shell) > 1:
            is_family &= line_counts.shell == (SHELLS.index(shell) if shell in SHELLS else -1)
        energies_and_counts.append((line_counts.energy_kev[is_family], line_counts.counts[:, is_family]))
    energies = np.unique(np.concatenate([energy_kev for energy_kev, _ in energies_and_counts]))
    counts_by_simulation = []
    for energy_kev, counts in energies_and_counts:
        aligned_counts = np.zeros((len(counts), energies.size))
        aligned_counts[:, np.searchsorted(energies, energy_kev)] = counts
        counts_by_simulation.append(aligned_counts)
    return energies, np.concatenate(counts_by_simulation)
