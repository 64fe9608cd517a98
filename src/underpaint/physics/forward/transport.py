"""Emission of batches of layered samples: fluorescence and scatter.

First-order scatter of the tube radiation is computed in closed form. Scatter of higher orders is followed from cell to
cell, as is the fluorescence that scattered radiation excites. Array dimensions: ``n`` samples, ``j`` layers, ``c``
cells, ``k`` directions, ``g`` nodes, ``e`` source energies, ``p`` lines.
"""

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from itertools import islice

import numpy as np
from array_api_compat import array_namespace

from underpaint.errors import SampleError
from underpaint.physics.atomic import AtomicTables, atomic_tables
from underpaint.physics.forward.cells import (
    directed_track_lengths,
    isotropic_track_lengths,
    make_cells,
    repeat_for_cells,
    transmission,
)
from underpaint.physics.forward.emission import ORDERS, Emission
from underpaint.physics.forward.fluorescence import (
    MIN_DENOMINATOR,
    Batch,
    ExcitedCells,
    ExcitingGroups,
    PrimaryExcitation,
    coarsen_cells,
    leaving_photons,
    make_batch,
    make_excited_cells,
    make_exciting_groups,
    make_primary_excitation,
    photons_of_all_lines,
    primary_photons,
    secondary_excitation,
    slanted_depths,
    sum_over_cells,
    take_by_sample,
    transmission_from_cells,
    transmission_to_cells,
    values_for_all_lines,
)
from underpaint.physics.forward.setting import Setting, make_setting
from underpaint.physics.forward.source import source_spectrum
from underpaint.physics.forward.stack import Array, Stack, join_layer_parts, split_thick_layers, stack_layers
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Stratigraphy
from underpaint.runtime.threads import one_blas_thread

BATCH_SIZE = 16
"""Number of samples per batch; arrays of a batch fit into the processor's cache."""
PART_SIZE = 256
"""Number of stratigraphies that ``emit_parts`` computes at a time."""


@dataclass(frozen=True)
class Detail:
    """Orders of fluorescence and scatter, and accuracy, of the transport calculation.

    Parameters
    ----------
    orders : int
        Highest order of fluorescence: 1 for primary, 2 for secondary, 3 for tertiary.
    scatter : bool
        Whether to include multiple scatter, and lines that scattered radiation excites.
    weakest_exciting : float
        Minimum fraction that an exciting line could add to the primary fluorescence of another line. Weaker exciting
        lines are neglected. With 1e-3, the error is up to 0.3 % of a line; with 2e-5, it is negligible. Smaller values
        take longer.
    cells : int
        Number of depth cells per layer, a multiple of four. The result is extrapolated from ``cells`` and from half as
        many cells (Richardson 1911).
    """

    orders: int = 3
    scatter: bool = True
    weakest_exciting: float = 1e-3
    cells: int = 8

    def __post_init__(self) -> None:
        if self.orders not in {1, 2, 3} or self.cells < 4 or self.cells % 4 or not self.weakest_exciting >= 0:
            raise SampleError(
                f"Cannot simulate with {self.orders} orders, {self.cells} cells and weakest_exciting = "
                f"{self.weakest_exciting:g}: give 1 to 3 orders, cells as a multiple of four, and 0 or more for "
                "weakest_exciting."
            )


def emit(
    stratigraphies: Sequence[Stratigraphy],
    instrument: Instrument,
    *,
    detail: Detail | None = None,
    workers: int = 1,
    tables: AtomicTables | None = None,
    single: bool = False,
) -> Emission:
    """Compute the emission of a batch of stratigraphies towards the detector.

    Parameters
    ----------
    stratigraphies : sequence of Stratigraphy
        Samples, each with any number of layers.
    instrument : Instrument
        Source, filters and geometry. The detector's response is not included; ``render`` applies it.
    detail : Detail, optional
        Orders and accuracy; by default, all orders and multiple scatter are included.
    workers : int
        Number of threads; results do not depend on it.
    tables : AtomicTables, optional
        Atomic data, at the energies of the source, that replace those of xraylib.
    single : bool
        Whether to use single precision. Single precision is nearly twice as fast; the relative error of any line is at
        most 2e-5.

    Raises
    ------
    SampleError
        The batch is empty, or no element has a line that the source excites.

    Notes
    -----
    Primary fluorescence and first-order scatter are exact closed forms (Sherman 1955, equation 9, for a stack of
    layers). Photons of higher orders are followed from cell to cell, in six directions (discrete ordinates,
    Chandrasekhar 1950). Results are extrapolated to infinitely many cells (Richardson 1911). For torch arrays, use
    ``transport``.
    """
    if not stratigraphies:
        raise SampleError("Cannot simulate an empty batch; give at least one stratigraphy.")
    elements = sorted(
        {name for stratigraphy in stratigraphies for layer in stratigraphy.layers for name in layer.mass_fractions}
    )
    setting = setting_for(instrument, elements, tables)
    split_layers = split_thick_layers(stratigraphies)
    stack = stack_layers(split_layers.stratigraphies, setting.elements)
    if single:
        stack = replace(
            stack, fractions=stack.fractions.astype(np.float32), areal_density=stack.areal_density.astype(np.float32)
        )
        setting = setting.to(stack.areal_density)
    emission = transport(stack, setting, detail=detail, workers=workers)
    if split_layers.layer_of_part is None:
        return emission
    return replace(
        emission, **{name: join_layer_parts(getattr(emission, name), split_layers.layer_of_part) for name in ORDERS}
    )


def emit_parts(
    stratigraphies: Iterable[Stratigraphy],
    instrument: Instrument,
    *,
    part: int = PART_SIZE,
    detail: Detail | None = None,
    single: bool = False,
) -> Iterator[Emission]:
    """Compute the emission of stratigraphies, ``part`` at a time, to limit the memory that is needed.

    Parameters and errors are those of ``emit``. Yields one ``Emission`` for each part of the stratigraphies.
    """
    remaining_stratigraphies = iter(stratigraphies)
    while batch := list(islice(remaining_stratigraphies, part)):
        with one_blas_thread():
            emission = emit(batch, instrument, detail=detail, single=single)
        yield emission


def setting_for(instrument: Instrument, elements: Iterable[str], tables: AtomicTables | None = None) -> Setting:
    """Return the setting of an instrument for the given elements; settings with xraylib's data are cached.

    Raises
    ------
    SampleError
        No element has a line that the source excites.
    """
    sorted_elements = tuple(sorted(set(elements)))
    return (
        _cached_setting(instrument, sorted_elements)
        if tables is None
        else _setting_from_tables(instrument, sorted_elements, tables)
    )


@lru_cache(maxsize=8)
def _cached_setting(instrument: Instrument, elements: tuple[str, ...]) -> Setting:
    return _setting_from_tables(instrument, elements, atomic_tables(elements, source_spectrum(instrument)[0]))


def _setting_from_tables(instrument: Instrument, elements: tuple[str, ...], tables: AtomicTables) -> Setting:
    source = source_spectrum(instrument)
    if len(tables.lines) == 0:
        raise SampleError(
            f"Cannot simulate: the source ends at {source[0].max():.4g} keV, below every edge of "
            f"{', '.join(elements)}. Raise the voltage or add a heavier element."
        )
    return make_setting(instrument, tables, source)


def transport(
    stack: Stack, setting: Setting, *, detail: Detail | None = None, workers: int = 1, batch_size: int = BATCH_SIZE
) -> Emission:
    """Compute the emission of a stack of layers, with numpy or torch arrays.

    With torch, the emission is differentiable. Derivatives are available for areal densities, for mass fractions of
    elements that are present, and for the setting's weights and angles. ``setting.to(stack.areal_density)`` moves the
    setting to the stack's device.

    Parameters
    ----------
    stack : Stack
        Layers of the samples, from ``stack_layers`` or other arrays.
    setting : Setting
        Instrument and atomic data, from ``setting_for``. Setting and stack must have the same library, precision and
        device.
    detail : Detail, optional
        Orders and accuracy.
    workers : int
        Number of threads; the samples are divided among them.
    batch_size : int
        Number of samples that are computed at once. On a GPU, use larger batches than the default.

    Raises
    ------
    SampleError
        The stack is empty, or the elements, library or precision of stack and setting differ.

    Notes
    -----
    This function does not split layers. For accurate enhancement, split layers with an optical depth above 15 first, as
    ``emit`` does with ``split_thick_layers``.
    """
    _check_inputs(stack, setting, batch_size)
    xp = array_namespace(stack.areal_density)
    # samples of similar size are computed together, to reduce padding
    sample_order = xp.argsort(_size_sort_key(stack), stable=True)
    batch_indices = [
        sample_order[first_sample : first_sample + batch_size] for first_sample in range(0, len(stack), batch_size)
    ]
    compute_batch = partial(_transport_batch, excitation=make_primary_excitation(setting), detail=detail or Detail())
    stacks = [stack.part(sample_indices) for sample_indices in batch_indices]
    if workers > 1:
        with one_blas_thread(), ThreadPoolExecutor(workers) as thread_pool:
            batch_results = list(thread_pool.map(compute_batch, stacks))
    else:
        batch_results = [compute_batch(batch_stack) for batch_stack in stacks]
    original_order = xp.argsort(sample_order)
    photon_arrays = [
        xp.concat(list(batch_arrays), axis=0)[original_order] for batch_arrays in zip(*batch_results, strict=True)
    ]
    return _make_emission(setting, photon_arrays)


def _check_inputs(stack: Stack, setting: Setting, batch_size: int) -> None:
    if not len(stack) or batch_size < 1:
        raise SampleError(f"Cannot simulate {len(stack)} samples, {batch_size} at once; give at least one of each.")
    if stack.elements != setting.elements:
        raise SampleError(
            f"Cannot simulate: the stack holds {', '.join(stack.elements)}, but the setting is for "
            f"{', '.join(setting.elements)}, in this order; give "
            "stack_layers the setting's elements."
        )
    checked_arrays = (stack.fractions, stack.areal_density, setting.weight)
    array_types = {
        (array_namespace(checked_array), checked_array.dtype, str(checked_array.device))
        for checked_array in checked_arrays
    }
    if len(array_types) > 1:
        raise SampleError(
            "Cannot simulate: mass fractions, areal densities and setting differ in library, precision or device; "
            "convert the fractions, and move the setting with setting.to(stack.areal_density)."
        )


def _size_sort_key(stack: Stack) -> Array:
    """Return an (n,) key that sorts samples by number of layers, then by number of elements."""
    xp = array_namespace(stack.areal_density)
    layers = xp.sum(xp.astype(stack.areal_density > 0, xp.int64), axis=1)
    elements = xp.sum(xp.astype(xp.any(stack.fractions > 0, axis=1), xp.int64), axis=1)
    return layers * 1000 + elements


def _make_emission(setting: Setting, photon_arrays: list[Array]) -> Emission:
    line_photons, (coherent, compton, multiple) = photon_arrays[:5], photon_arrays[5:]
    primary, secondary, tertiary, excited_by_scatter, rescattered = (
        photons * setting.air_lines for photons in line_photons
    )
    return Emission(
        lines=setting.lines,
        primary=primary,
        secondary=secondary,
        tertiary=tertiary,
        by_scatter=excited_by_scatter,
        rescattered=rescattered,
        source_kev=setting.source_kev,
        width_kev=setting.width_kev,
        coherent=coherent * setting.air_source,
        compton_kev=setting.grid_kev,
        compton_width_kev=setting.grid_width_kev,
        compton=compton * setting.air_grid,
        multiple=multiple * setting.air_grid,
        air=(setting.weight @ setting.air_scatter * setting.air_grid)[None, :] + 0.0 * multiple,
    )


def _transport_batch(stack: Stack, excitation: PrimaryExcitation, detail: Detail) -> tuple[Array, ...]:
    batch = make_batch(stack, excitation)
    xp = array_namespace(stack.areal_density)
    coherent, compton = first_order_scatter(batch)
    primary = primary_photons(batch)
    secondary = tertiary = excited_by_scatter = rescattered = xp.zeros_like(primary)
    multiple = xp.zeros_like(compton)
    if detail.orders > 1 or detail.scatter:
        exciting = make_exciting_groups(batch, detail.weakest_exciting)
        fine_cells = make_excited_cells(batch, exciting, detail.cells)
        coarse_cells = coarsen_cells(batch, exciting, fine_cells)
        coarse_tracks = isotropic_track_lengths(coarse_cells.cells, coarse_cells.production)
        if detail.orders > 1:
            orders_by_cells = (
                _higher_orders(batch, exciting, coarse_cells, coarse_tracks, detail.orders),
                _higher_orders(
                    batch,
                    exciting,
                    fine_cells,
                    isotropic_track_lengths(fine_cells.cells, fine_cells.production),
                    detail.orders,
                ),
            )
            secondary, tertiary = (
                photons_of_all_lines(batch, _extrapolate_cells(*photon_pair))
                for photon_pair in zip(*orders_by_cells, strict=True)
            )
        if detail.scatter:
            scattered_source = first_scatter(batch, coarse_cells.n_cells)
            excited_photons = leaving_photons(batch, coarse_cells, photons_excited_by_scatter(batch, scattered_source))
            rescattered, shifted_lines = scattered_lines(batch, exciting, coarse_cells, coarse_tracks, primary)
            excited_by_scatter = photons_of_all_lines(batch, excited_photons)
            multiple = multiple_scatter(batch, scattered_source) + shifted_lines
    return primary, secondary, tertiary, excited_by_scatter, rescattered, coherent, compton, multiple


def _higher_orders(
    batch: Batch, exciting: ExcitingGroups, excited_cells: ExcitedCells, tracks: Array, orders: int
) -> tuple[Array, Array]:
    """Return (n, j, p) secondary and tertiary photons, given the (n, c, m) track lengths of the primary photons."""
    excited_photons = tracks @ exciting.pair_production
    secondary = leaving_photons(batch, excited_cells, excited_photons)
    if orders < 3:
        return secondary, array_namespace(secondary).zeros_like(secondary)
    tertiary_photons = (
        isotropic_track_lengths(
            excited_cells.cells, secondary_excitation(batch, exciting, excited_cells, excited_photons)
        )
        @ exciting.pair_production
    )
    return secondary, leaving_photons(batch, excited_cells, tertiary_photons)


def _extrapolate_cells(coarse_result: Array, fine_result: Array) -> Array:
    """Extrapolate to infinitely many cells; doubling the number of cells reduces the error to a quarter."""
    return array_namespace(fine_result).clip((4.0 * fine_result - coarse_result) / 3.0, min=0.0)


COHERENT, COMPTON = 0, 1
MAX_SCATTER_RATIO = 0.9
"""Largest ratio of the photons of one scattering order to those of the previous order."""


@dataclass(frozen=True)
class FirstScatter:
    """Source radiation after the first scatter event.

    Parameters
    ----------
    tracks : pair of (n, c, g) arrays
        Track length, in each cell, of coherently and of Compton scattered photons, per source photon at a node.
    photons_by_shifts : three (n, g) arrays
        Photons, by node, that are scattered twice and leave towards the detector. The arrays are for zero, one and two
        Compton scatter events.
    ratio : (n, g) array
        Number of second scatter events per first scatter event.
    """

    tracks: tuple[Array, Array]
    photons_by_shifts: list[Array]
    ratio: Array


def first_order_scatter(batch: Batch) -> tuple[Array, Array]:
    """Return photons scattered once towards the detector: (n, e) by coherent, (n, n_grid) by Compton scatter."""
    setting, cross_sections = batch.setting, batch.setting.scatter
    coherent = _single_scatter(batch, setting.attenuation, cross_sections.coherent[None])[0]
    compton = _single_scatter(batch, cross_sections.shifted_attenuation, cross_sections.compton)
    compton_spectrum = sum(photons @ profile for photons, profile in zip(compton, cross_sections.profile, strict=True))
    # outside the Compton profile, the sum of five basis profiles is not exactly zero
    return coherent, array_namespace(compton_spectrum).clip(compton_spectrum, min=0.0)


def scatter_per_photon(stack: Stack, setting: Setting, n_cells: int = 4) -> tuple[Array, list[tuple[Array, Array]]]:
    """Return the scatter per source photon, for each source energy; a weighted sum is the scatter of a source.

    Parameters
    ----------
    stack : Stack
        Layers of the samples.
    setting : Setting
        Instrument and atomic data; the source weights are not used.
    n_cells : int
        Number of depth cells per layer for multiple scatter.

    Returns
    -------
    coherent : (n, e) array
        Photons towards the detector after one coherent scatter.
    shifted : list of (n, e) and (e, n_grid) arrays
        Photons towards the detector after Compton or multiple scatter, and their distribution over the bins of
        ``compton_kev``.
    """
    unit_source_setting = replace(setting, weight=array_namespace(setting.weight).ones_like(setting.weight))
    batch, cross_sections = make_batch(stack, make_primary_excitation(unit_source_setting)), setting.scatter
    coherent = _single_scatter(batch, setting.attenuation, cross_sections.coherent[None])[0]
    compton = _single_scatter(batch, cross_sections.shifted_attenuation, cross_sections.compton)
    multiple = _multiply_scattered(batch, first_scatter(batch, n_cells))
    distributions = [
        *cross_sections.profile,
        setting.source_unshifted,
        setting.source_after_one_compton,
        setting.source_after_two_compton,
    ]
    return coherent * setting.air_source, [
        (photons, distribution * setting.air_grid)
        for photons, distribution in zip([*compton, *multiple], distributions, strict=True)
    ]


def _single_scatter(batch: Batch, detector_attenuation: Array, cross_sections: Array) -> list[Array]:
    """Return (n, e) photons after one scatter, for each (n_element, e) table of cross sections in cm2/g."""
    xp = array_namespace(batch.beam_depth)
    setting, stack = batch.setting, batch.stack
    detector_depth, detector_transmission = slanted_depths(stack, detector_attenuation, setting.sin_takeoff)
    _, mean_transmission = transmission(batch.beam_depth + detector_depth)
    path_density = (
        batch.beam_transmission
        * detector_transmission
        * mean_transmission
        * (stack.areal_density / setting.sin_incidence)[:, :, None]
    )
    return [
        setting.weight * xp.sum(path_density * (stack.fractions @ cross_section), axis=1)
        for cross_section in cross_sections
    ]


def first_scatter(batch: Batch, n_cells: int) -> FirstScatter:
    """Return the source radiation after the first scatter event, at the node energies, for ``n_cells`` per layer."""
    xp = array_namespace(batch.beam_depth)
    setting, fractions = batch.setting, batch.stack.fractions
    beam_to_cells = [
        _layer_cross_sections(fractions, element_cross_sections)
        for element_cross_sections in setting.scatter.beam_to_cells
    ]
    cells_to_detector = [
        repeat_for_cells(_layer_cross_sections(fractions, element_cross_sections), n_cells)
        for element_cross_sections in setting.scatter.cells_to_detector
    ]
    entering_transmission = transmission_to_cells(
        *slanted_depths(batch.stack, setting.node_attenuation[COHERENT], setting.sin_incidence), n_cells
    )
    escape_by_kind = [
        _escape_through_surface(batch, element_cross_sections, n_cells)
        for element_cross_sections in setting.node_attenuation
    ]
    tracks, production = [], 0.0
    photons_by_shifts = [0.0, 0.0, 0.0]
    for first_kind in (COHERENT, COMPTON):
        cells = make_cells(
            _normal_depths(batch, setting.node_attenuation[first_kind]), batch.stack.areal_density, n_cells
        )
        incident_photons = (entering_transmission * cells.areal_density / setting.sin_incidence)[:, :, None, :]
        cross_section = repeat_for_cells(beam_to_cells[first_kind], n_cells)
        downward_tracks, upward_tracks = directed_track_lengths(
            cells, cross_section[:, :, 0] * incident_photons, cross_section[:, :, 1] * incident_photons
        )
        tracks.append(xp.sum(downward_tracks + upward_tracks, axis=2))
        production = production + xp.sum(xp.sum(cross_section, axis=(2, 3)) * incident_photons[:, :, 0], axis=1)
        for second_kind in (COHERENT, COMPTON):
            photons_to_detector = xp.sum(
                downward_tracks * cells_to_detector[second_kind][:, :, 0]
                + upward_tracks * cells_to_detector[second_kind][:, :, 1],
                axis=2,
            )
            photons_by_shifts[first_kind + second_kind] = photons_by_shifts[first_kind + second_kind] + xp.sum(
                photons_to_detector * escape_by_kind[max(first_kind, second_kind)], axis=1
            )
    total_scatter = repeat_for_cells(xp.sum(beam_to_cells[COHERENT] + beam_to_cells[COMPTON], axis=(2, 3)), n_cells)
    twice_scattered = xp.sum((tracks[COHERENT] + tracks[COMPTON]) * total_scatter, axis=1)
    return FirstScatter(
        (tracks[0], tracks[1]),
        photons_by_shifts,
        xp.clip(twice_scattered / (production + MIN_DENOMINATOR), 0.0, MAX_SCATTER_RATIO),
    )


def photons_excited_by_scatter(batch: Batch, scattered: FirstScatter) -> Array:
    """Return the (n, c, p) photons that scattered radiation excites in each cell, for a mass fraction of one."""
    xp = array_namespace(scattered.ratio)
    excited_photons = 0.0
    for track_length, node_production in zip(scattered.tracks, batch.excitation.node_production, strict=True):
        production = xp.permute_dims(node_production[:, batch.line_index], (1, 0, 2))
        # the ratio of each order of scatter to the previous order is constant
        excited_photons = excited_photons + (track_length / (1.0 - scattered.ratio)[:, None, :]) @ production
    return excited_photons


def multiple_scatter(batch: Batch, scattered: FirstScatter) -> Array:
    """Return the (n, n_grid) source photons that leave towards the detector after at least two scatter events."""
    setting = batch.setting
    energy_distributions = (
        setting.source_unshifted,
        setting.source_after_one_compton,
        setting.source_after_two_compton,
    )
    return sum(
        photons @ energy_distribution
        for photons, energy_distribution in zip(
            _multiply_scattered(batch, scattered), energy_distributions, strict=True
        )
    )


def _multiply_scattered(batch: Batch, scattered: FirstScatter) -> list[Array]:
    """Return (n, e) photons scattered at least twice, in separate arrays for 0, 1 and 2 Compton scatter events."""
    node_to_energy = array_namespace(scattered.ratio).permute_dims(batch.setting.source_node_weights, (1, 0))
    return [
        (photons / (1.0 - scattered.ratio)) @ node_to_energy * batch.setting.weight
        for photons in scattered.photons_by_shifts
    ]


def scattered_lines(
    batch: Batch, exciting: ExcitingGroups, excited_cells: ExcitedCells, tracks: Array, primary: Array
) -> tuple[Array, Array]:
    """Return the primary line photons that leave after scatter, which is assumed to be isotropic.

    Parameters
    ----------
    tracks : (n, c, m) array
        Track lengths of the photons of the exciting groups.
    primary : (n, j, n_line) array
        Primary photons towards the detector.

    Returns
    -------
    coherent : (n, j, n_line) array
        Photons that leave towards the detector after coherent scatter, by layer of origin. Lines outside the exciting
        groups have the scattered fraction of their family.
    compton : (n, n_grid) array
        Photons that leave towards the detector after Compton scatter.
    """
    xp = array_namespace(tracks)
    setting = batch.setting
    # track lengths of lines, from the track lengths of the groups
    layer_tracks = sum_over_cells(
        (tracks @ xp.permute_dims(exciting.line_fraction, (0, 2, 1))) * excited_cells.escape, excited_cells.n_cells
    )
    is_followed = values_for_all_lines(batch, xp.astype(xp.any(exciting.line_fraction > 0, axis=2), tracks.dtype))
    coherent, compton = (
        values_for_all_lines(
            batch,
            xp.sum(layer_tracks * take_by_sample(batch.stack.fractions @ cross_section, batch.line_index), axis=1),
        )
        for cross_section in setting.line_scatter
    )
    family_photons = [
        photons @ setting.family_membership for photons in (coherent, xp.sum(primary, axis=1) * is_followed)
    ]
    scatter_ratio = xp.where(family_photons[1] > 0, family_photons[0] / (family_photons[1] + MIN_DENOMINATOR), 0.0)
    scattered_fraction = xp.clip(scatter_ratio, 0.0, MAX_SCATTER_RATIO) @ xp.permute_dims(
        setting.family_membership, (1, 0)
    )
    return primary * scattered_fraction[:, None, :], compton @ setting.lines_after_one_compton


def _layer_cross_sections(fractions: Array, direction_table: Array) -> Array:
    """Return the (n, j, 2, k, g) cross sections of layers, given the (2, n_element, k, g) table of the elements."""
    xp = array_namespace(fractions)
    layer_tables = [
        xp.reshape(
            fractions @ xp.reshape(element_table, (element_table.shape[0], -1)),
            (*fractions.shape[:2], *element_table.shape[1:]),
        )
        for element_table in direction_table
    ]
    return xp.stack(layer_tables, axis=2)


def _normal_depths(batch: Batch, attenuation: Array) -> Array:
    return (batch.stack.fractions @ attenuation) * batch.stack.areal_density[:, :, None]


def _escape_through_surface(batch: Batch, attenuation: Array, n_cells: int) -> Array:
    return transmission_from_cells(_normal_depths(batch, attenuation) / batch.setting.sin_takeoff, n_cells)
