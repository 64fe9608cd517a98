"""From layers to emission: closed forms for the first order, depth cells for the enhancement.

Shapes: ``n`` samples, ``j`` layers, ``l`` lines, ``m`` exciting lines, ``e`` source energies, ``c`` cells.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expn

from underpaint.atomic import AtomicTables, LineTable, ScatterTables, atomic_tables, compton_width, scatter_tables
from underpaint.errors import SampleError
from underpaint.forward.emission import Emission
from underpaint.forward.source import air_transmission, source_spectrum
from underpaint.instrument import Instrument
from underpaint.sample import Stratigraphy

Array = NDArray[np.float64]

BATCH = 4
"""Samples per step: their (lines x energies) arrays then stay in the processor's cache."""
WEAKEST_EXCITING = 1e-3
"""A line excites others if it could add this share to the primary of any of them (see ``emit``)."""
LOWEST_EXCITING_KEV = 2.0
"""Softer lines excite only lines below 2 keV, which hardly leave the paint."""
SMALLEST_DEPTH = 1e-300
"""Stands for no depth at all where one divides by it."""
CELLS = (4, 8)
"""Depth cells a layer for the two runs that Richardson's extrapolation combines."""


@dataclass(frozen=True)
class Stack:
    """A batch of stratigraphies as padded arrays.

    Parameters
    ----------
    fractions : (n, j, n_element) array
        Mass fractions; zero in layers that do not exist.
    areal : (n, j) array
        Areal density, g/cm2; zero in layers that do not exist.
    """

    fractions: Array
    areal: Array


def emit(
    stratigraphies: Sequence[Stratigraphy],
    instrument: Instrument,
    *,
    secondary: bool = True,
    workers: int = 1,
    tables: AtomicTables | None = None,
    weakest_exciting: float = WEAKEST_EXCITING,
) -> Emission:
    """Compute what leaves a batch of stratigraphies towards the detector.

    Parameters
    ----------
    stratigraphies : sequence of Stratigraphy
        Any number of layers each.
    instrument : Instrument
        Source, filters and geometry; the detector's response is applied by ``render``.
    secondary : bool
        Compute the enhancement by fluorescence, within and between layers.
    workers : int
        Threads; results do not depend on it.
    tables : AtomicTables, optional
        Atomic data to use in place of xraylib's, on the source's energies.
    weakest_exciting : float
        Lines that could add less than this share to the primary of any line are not followed as exciting ones.
        Smaller is slower and more exact: 1e-3 leaves up to 0.5 % of a line, 2e-5 nothing that counts.

    Raises
    ------
    SampleError
        The batch is empty, or no element has a line that the source excites.

    Notes
    -----
    Primary fluorescence and scatter are exact closed forms (Sherman 1955, eq. 9, for a stack of layers). The
    enhancement follows photons of each exciting line from depth cell to depth cell with the exponential integral
    E3, and is extrapolated in the number of cells (Richardson 1911).
    """
    if not stratigraphies:
        message = "Cannot simulate an empty batch; give at least one stratigraphy."
        raise SampleError(message)
    source = source_spectrum(instrument)
    elements = sorted({name for entry in stratigraphies for layer in entry.layers for name in layer.mass_fractions})
    tables = atomic_tables(elements, source[0]) if tables is None else tables
    if len(tables.lines) == 0:
        message = (
            f"Cannot simulate: the source ends at {source[0].max():.4g} keV, below every edge of "
            f"{', '.join(elements)}. Raise the voltage or add a heavier element."
        )
        raise SampleError(message)
    stack = stack_layers(stratigraphies, tables.elements)
    model = _Model.build(instrument, tables, source, weakest_exciting if secondary else None)
    # stacks of like depth share a batch, so that little of it is padding
    order = np.argsort([len(entry.layers) for entry in stratigraphies], kind="stable")
    steps = [order[start : start + BATCH] for start in range(0, len(order), BATCH)]
    parts = [Stack(stack.fractions[step], stack.areal[step]) for step in steps]
    if workers > 1:
        with ThreadPoolExecutor(workers) as pool:
            pieces = list(pool.map(model.run, parts))
    else:
        pieces = [model.run(part) for part in parts]
    back = np.argsort(order)
    return model.emission(*(np.concatenate(arrays)[back] for arrays in zip(*pieces, strict=True)))


def stack_layers(stratigraphies: Sequence[Stratigraphy], elements: Sequence[str]) -> Stack:
    """Return stratigraphies as padded arrays over the given elements.

    Raises
    ------
    SampleError
        A layer holds an element that the tables lack.
    """
    index = {name: position for position, name in enumerate(elements)}
    depth = max(len(entry.layers) for entry in stratigraphies)
    fractions, areal = np.zeros((len(stratigraphies), depth, len(index))), np.zeros((len(stratigraphies), depth))
    for row, entry in enumerate(stratigraphies):
        for level, layer in enumerate(entry.layers):
            areal[row, level] = layer.areal_density
            for name, fraction in layer.mass_fractions.items():
                if name not in index:
                    message = f"Cannot simulate {layer.name or 'a layer'}: there are no atomic tables for {name}."
                    raise SampleError(message)
                fractions[row, level, index[name]] = fraction
    return Stack(fractions, areal)


@dataclass(frozen=True)
class _Model:
    """Everything that does not depend on the sample."""

    tables: AtomicTables
    scatter: ScatterTables
    lines: LineTable
    energy: Array
    weight: Array
    width: Array
    weighted_production: Array
    sin_in: float
    sin_out: float
    air_lines: Array
    air_coherent: Array
    air_compton: Array
    compton_sigma: Array
    weakest_exciting: float | None

    @classmethod
    def build(
        cls,
        instrument: Instrument,
        tables: AtomicTables,
        source: tuple[Array, Array, Array],
        weakest_exciting: float | None,
    ) -> "_Model":
        geometry, (energy, weight, width) = instrument.geometry, source
        angle = geometry.scattering_angle_deg
        scatter = scatter_tables(tables.elements, energy, angle)
        air = geometry.detector_air_cm
        return cls(
            tables,
            scatter,
            tables.lines,
            energy,
            weight,
            width,
            tables.production * weight,
            float(np.sin(np.radians(geometry.incidence_angle_deg))),
            float(np.sin(np.radians(geometry.takeoff_angle_deg))),
            air_transmission(air, tables.lines.energy_kev),
            air_transmission(air, energy),
            air_transmission(air, scatter.compton_kev),
            # oxygen's profile stands for paint: binder, carbonates and oxides scatter most of the beam
            compton_width("O", energy, angle),
            weakest_exciting,
        )

    def emission(self, primary: Array, secondary: Array, coherent: Array, compton: Array) -> Emission:
        return Emission(
            self.lines,
            primary * self.air_lines,
            secondary * self.air_lines,
            self.energy,
            self.width,
            self.scatter.compton_kev,
            self.compton_sigma,
            coherent * self.air_coherent,
            compton * self.air_compton,
        )

    def run(self, stack: Stack) -> tuple[Array, Array, Array, Array]:
        chosen, used = _present_lines(stack, self.tables)
        depth_in = _optical(stack, self.tables.mass_attenuation) / self.sin_in
        above_in = np.exp(-_before(depth_in))
        vertical = _optical_of_lines(stack, self.tables.line_attenuation, chosen)
        concentration = np.where(used[:, None, :], _gather(stack.fractions, self.tables.line_element[chosen]), 0.0)
        primary = self._primary(stack, chosen, depth_in, above_in, vertical, concentration)
        enhanced = np.zeros_like(primary)
        if self.weakest_exciting is not None:
            enhanced = self._enhancement(stack, chosen, depth_in, vertical, concentration)
        coherent, compton = self._scattered(stack, depth_in, above_in)
        return self._spread(primary, chosen), self._spread(enhanced, chosen), coherent, compton

    def _spread(self, values: Array, chosen: NDArray[np.int64]) -> Array:
        """Put (n, j, chosen lines) back among all lines; padding adds zeros."""
        full = np.zeros((*values.shape[:2], len(self.lines)))
        rows, levels = np.arange(len(values))[:, None, None], np.arange(values.shape[1])[None, :, None]
        np.add.at(full, (rows, levels, chosen[:, None, :]), values)
        return full

    def _primary(
        self,
        stack: Stack,
        chosen: NDArray[np.int64],
        depth_in: Array,
        above_in: Array,
        vertical: Array,
        concentration: Array,
    ) -> Array:
        production = self.weighted_production[chosen]
        depth_out = vertical / self.sin_out
        above_out = np.exp(-_before(depth_out))
        result = np.zeros(vertical.shape)
        for level in range(vertical.shape[1]):
            share = _escaped_share(depth_in[:, level, None, :], depth_out[:, level, :, None])
            share *= production
            excited = np.matmul(share, above_in[:, level, :, None])[:, :, 0]
            areal = stack.areal[:, level, None] / self.sin_in
            result[:, level] = areal * concentration[:, level] * above_out[:, level] * excited
        return result

    def _scattered(self, stack: Stack, depth_in: Array, above_in: Array) -> tuple[Array, Array]:
        results = []
        for cross_section, attenuation in (
            (self.scatter.coherent, self.tables.mass_attenuation),
            (self.scatter.compton, self.scatter.compton_attenuation),
        ):
            depth_out = _optical(stack, attenuation) / self.sin_out
            factor = above_in * np.exp(-_before(depth_out)) * _escaped_share(depth_in, depth_out)
            strength = 4.0 * np.pi * np.matmul(stack.fractions, cross_section)
            areal = stack.areal[:, :, None] / self.sin_in
            results.append(self.weight * np.sum(areal * strength * factor, axis=1))
        return results[0], results[1]

    def _enhancement(
        self,
        stack: Stack,
        chosen: NDArray[np.int64],
        depth_in: Array,
        vertical: Array,
        concentration: Array,
    ) -> Array:
        result = np.zeros(vertical.shape)
        # what lies below the last layer with a line (the support) neither excites nor is excited
        shining = np.flatnonzero((concentration * stack.areal[:, :, None]).any(axis=(0, 2)))
        if shining.size == 0:
            return result
        last = int(shining[-1]) + 1
        stack = Stack(stack.fractions[:, :last], stack.areal[:, :last])
        depth_in, vertical, concentration = depth_in[:, :last], vertical[:, :last], concentration[:, :last]
        exciting, followed = self._exciting(stack, chosen, concentration)
        pairs = self.tables.line_production[chosen[:, :, None], np.take_along_axis(chosen, exciting, 1)[:, None, :]]
        # a sample that needs fewer lines than its neighbours in the batch must not gain from theirs
        pairs *= followed[:, None, :]
        across = np.swapaxes(np.take_along_axis(vertical, exciting[:, None, :], 2), 1, 2)
        kernel = edge_kernel(across, CELLS[1])
        # the coarse cells' edges are every other edge of the fine ones
        coarse, fine = (
            self._enhancement_on(
                stack, chosen, exciting, pairs, depth_in, vertical, concentration, kernel[..., ::step, ::step]
            )
            for step in (CELLS[1] // CELLS[0], 1)
        )
        # the error falls as cells**-2
        ratio = (CELLS[1] / CELLS[0]) ** 2
        result[:, :last] = np.maximum((ratio * fine - coarse) / (ratio - 1.0), 0.0)
        return result

    def _exciting(
        self, stack: Stack, chosen: NDArray[np.int64], concentration: Array
    ) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """Return (n, m) positions among the chosen lines of those that add most to any line, and which are followed.

        The measure is the share that line m, as if nothing were absorbed, would add to the primary excitation of
        the line that gains most from it: a hard line may be weak and yet the only one to excite an element.
        """
        by_beam = self.weighted_production.sum(axis=1)[chosen]
        produced = np.sum(stack.areal[:, :, None] * concentration, axis=1) * by_beam
        gain = self.tables.line_production[chosen[:, :, None], chosen[:, None, :]]
        present = (concentration.max(axis=1) > 0) & (by_beam > 0)
        gain *= np.divide(1.0, by_beam, out=np.zeros_like(by_beam), where=present)[:, :, None]
        strength = produced * gain.max(axis=1)
        strength[self.lines.energy_kev[chosen] < LOWEST_EXCITING_KEV] = 0.0
        strong = strength > self.weakest_exciting
        count = max(int(strong.sum(axis=1).max()), 1)
        order = np.argsort(-strength, axis=1, kind="stable")[:, :count]
        return order, np.take_along_axis(strong, order, 1)

    def _enhancement_on(
        self,
        stack: Stack,
        chosen: NDArray[np.int64],
        exciting: NDArray[np.int64],
        pairs: Array,
        depth_in: Array,
        vertical: Array,
        concentration: Array,
        kernel: Array,
    ) -> Array:
        n_sample, n_layer, n_line = vertical.shape
        cells = (kernel.shape[-1] - 1) // n_layer
        share = cell_shares(cells)
        per_cell = np.repeat(np.arange(n_layer), cells)
        thickness = np.tile(share, n_layer)
        cell_in = depth_in[:, per_cell] * thickness[:, None]
        entering = np.exp(-_before(cell_in)) * _mean_transmission(cell_in)
        cell_areal = stack.areal[:, per_cell] * thickness
        source_lines = np.take_along_axis(chosen, exciting, 1)
        born = np.matmul(self.weighted_production[source_lines], np.swapaxes(entering, 1, 2))
        exciting_concentration = np.take_along_axis(concentration, exciting[:, None, :], 2)[:, per_cell]
        born *= np.swapaxes(exciting_concentration * cell_areal[:, :, None] / self.sin_in, 1, 2)
        depth = np.swapaxes(
            np.take_along_axis(vertical, exciting[:, None, :], 2)[:, per_cell] * thickness[:, None], 1, 2
        )
        track = _track_per_cell(kernel, depth, born)
        # optical depth per unit areal density turns tracks into g/cm2
        track *= np.divide(cell_areal[:, None, :], depth, out=np.zeros_like(depth), where=depth > 0)
        excited = np.matmul(pairs, track)
        cell_out = np.swapaxes(vertical[:, per_cell] * thickness[:, None] / self.sin_out, 1, 2)
        escaping = np.exp(-(np.cumsum(cell_out, axis=2) - cell_out)) * _mean_transmission(cell_out)
        emitted = (excited * escaping).reshape(n_sample, n_line, n_layer, cells).sum(axis=3)
        return np.asarray(np.swapaxes(emitted, 1, 2) * concentration)


@lru_cache
def cell_shares(cells: int) -> Array:
    """Return the cells' shares of a layer, denser toward both interfaces (cosine spacing)."""
    edges = 0.5 * (1.0 - np.cos(np.pi * np.arange(cells + 1) / cells))
    return np.diff(edges)


E3_ROOT_STEP, E3_ROOT_END = 0.004, 6.0
"""Table of E3 in the root of its argument, where it is smooth; beyond 36 it is under 1e-17."""


def e3(depth: Array) -> Array:
    """Return the exponential integral E3 from a cubic table, within 1e-10 (tests hold it against scipy).

    Second differences of E3 carry the enhancement; over cells of optical depth 0.001 they are 1e-5, so that
    the table's error stays under 1e-5 of them.
    """
    position = np.sqrt(np.minimum(depth, E3_ROOT_END**2)) / E3_ROOT_STEP
    index = np.minimum(position.astype(np.int32), round(E3_ROOT_END / E3_ROOT_STEP) - 1)
    position -= index
    coefficient = _e3_table()[index]
    value = coefficient[..., 3] * position
    for power in (2, 1):
        value += coefficient[..., power]
        value *= position
    return np.asarray(value + coefficient[..., 0])


@lru_cache(maxsize=1)
def _e3_table() -> Array:
    """Return (n_interval, 4) cubic Hermite coefficients of E3 over the root of its argument."""
    root = np.arange(round(E3_ROOT_END / E3_ROOT_STEP) + 1) * E3_ROOT_STEP
    value = expn(3, root**2)
    # dE3/dx = -E2 and x = root**2
    slope = np.where(root > 0, -2.0 * root * expn(2, root**2), 0.0) * E3_ROOT_STEP
    rise = value[1:] - value[:-1]
    return np.stack(
        [value[:-1], slope[:-1], 3.0 * rise - 2.0 * slope[:-1] - slope[1:], slope[:-1] + slope[1:] - 2.0 * rise], axis=1
    )


def edge_kernel(across: Array, cells: int) -> Array:
    """Return E3 of the optical distances between all edges of the cells, (n, m, n_edge, n_edge).

    ``across`` (n, m, j) is each layer's optical thickness, straight on, at the exciting line. The kernel is
    symmetric: E3 is computed on one side of the diagonal, where it is one half.
    """
    per_cell = (across[..., None] * cell_shares(cells)).reshape(*across.shape[:2], -1)
    edges = np.concatenate([np.zeros((*across.shape[:2], 1)), np.cumsum(per_cell, axis=2)], axis=2)
    upper, lower, lookup = _pairs_of_edges(edges.shape[2])
    values = np.full((*across.shape[:2], upper.size + 1), 0.5)
    values[..., 1:] = e3(edges[..., lower] - edges[..., upper])
    return np.asarray(values[..., lookup])


@lru_cache
def _pairs_of_edges(n_edge: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return upper and lower edge of each pair, and where (n_edge, n_edge) finds it; zero is the diagonal."""
    upper, lower = np.triu_indices(n_edge, 1)
    lookup = np.zeros((n_edge, n_edge), dtype=np.int64)
    lookup[upper, lower] = lookup[lower, upper] = np.arange(1, upper.size + 1)
    return upper, lower, lookup


def _track_per_cell(kernel: Array, depth: Array, born: Array) -> Array:
    """Return (n, m, c) optical track in each cell of the photons born in all cells.

    ``kernel`` is E3 between edges, ``depth`` (n, m, c) each cell's optical thickness at the exciting line, ``born``
    the photons born in it. A photon born uniformly in cell j, in any direction, spends half the second difference
    of E3 over the edges' distances, divided by j's thickness, in cell i.
    """
    per_depth = np.divide(born, depth, out=np.zeros_like(born), where=depth > 0)
    # the differences over j's edges are moved from the kernel to what is born: one product instead of four kernels
    at_edges = np.zeros((*born.shape[:2], born.shape[2] + 1))
    at_edges[..., :-1] = -per_depth
    at_edges[..., 1:] += per_depth
    through = np.matmul(kernel, at_edges[..., None])[..., 0]
    return np.asarray(per_depth * depth - 0.5 * np.diff(through, axis=2))


def _present_lines(stack: Stack, tables: AtomicTables) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return (n, l) indices of each sample's lines, padded, and which of them are not padding."""
    there = (stack.fractions * stack.areal[:, :, None]).max(axis=1) > 0
    present = there[:, tables.line_element] & np.any(tables.production > 0, axis=1)
    count = max(int(present.sum(axis=1).max()), 1)
    order = np.argsort(~present, axis=1, kind="stable")[:, :count]
    return order, np.take_along_axis(present, order, 1)


def _gather(fractions: Array, element: NDArray[np.int64]) -> Array:
    return np.take_along_axis(
        fractions, np.broadcast_to(element[:, None, :], (*fractions.shape[:2], element.shape[1])), 2
    )


def _optical(stack: Stack, attenuation: Array) -> Array:
    """Return (n, j, e) optical thickness of each layer seen straight on."""
    return np.asarray(np.matmul(stack.fractions, attenuation) * stack.areal[:, :, None])


def _optical_of_lines(stack: Stack, attenuation: Array, chosen: NDArray[np.int64]) -> Array:
    per_sample = np.moveaxis(attenuation[:, chosen], 0, 1)
    return np.asarray(np.matmul(stack.fractions, per_sample) * stack.areal[:, :, None])


def _before(depth: Array) -> Array:
    """Return the optical depth above each layer."""
    return np.asarray(np.cumsum(depth, axis=1) - depth)


def _mean_transmission(depth: Array) -> Array:
    """Return (1 - exp(-depth)) / depth, one at zero."""
    return np.asarray(np.divide(-np.expm1(-depth), depth, out=np.ones_like(depth), where=depth > 0))


def _escaped_share(depth_in: Array, depth_out: Array) -> Array:
    """Return (1 - exp(-(in + out))) / (in + out) for broadcast depths.

    The product of two small tables of exponentials spares an exponential for every pair; what one minus it loses
    for thin layers is 1e-16 over the depth: 1e-10 at a depth of 1e-6, thinner than any layer of paint.
    """
    absorbed = np.exp(-depth_in) * np.exp(-depth_out)
    np.subtract(1.0, absorbed, out=absorbed)
    # absent layers have no depth and absorb nothing: zero over the tiniest number is zero
    absorbed /= depth_in + depth_out + SMALLEST_DEPTH
    return np.asarray(absorbed)
