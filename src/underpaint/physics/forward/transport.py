"""From layers to emission: batches of samples through fluorescence and scatter.

Scattered tube radiation: first order in closed form, higher orders and their fluorescence from cell to cell. Its
shapes: ``n`` samples, ``j`` layers, ``c`` cells, ``k`` directions, ``g`` nodes, ``e`` source energies, ``p`` lines.
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
from underpaint.physics.forward.cells import directed_tracks, isotropic_tracks, make_cells, per_cell, transmission
from underpaint.physics.forward.emission import ORDERS, Emission
from underpaint.physics.forward.fluorescence import (
    SMALLEST,
    Batch,
    ExcitedCells,
    Exciting,
    Light,
    among_all,
    beam_depths,
    coarsened,
    entering_cells,
    escape_from_cells,
    leaving,
    make_batch,
    make_excited_cells,
    make_exciting,
    make_primary_excitation,
    per_layer,
    pick,
    primary,
    secondary_excitation,
    spread,
)
from underpaint.physics.forward.setting import Setting, make_setting
from underpaint.physics.forward.source import source_spectrum
from underpaint.physics.forward.stack import Array, Stack, cut_thick, joined, stack_layers
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Stratigraphy
from underpaint.runtime.threads import one_blas_thread

BATCH = 16
"""Samples per step: their arrays then stay in the processor's cache."""
PART = 256
"""Stratigraphies that are computed at once when there is no end of them."""


@dataclass(frozen=True)
class Detail:
    """Processes to follow, and their resolution.

    Parameters
    ----------
    orders : int
        1: primary fluorescence; 2: secondary as well; 3: tertiary as well.
    scatter : bool
        Follow scattered light on: multiple scatter, and lines that scattered light excites.
    weakest_exciting : float
        Lines that could add less than this share to the primary fluorescence of any line are not followed as exciting
        lines. Smaller is slower and more accurate: the error is up to 0.3 % of a line at 1e-3 and negligible at 2e-5.
    cells : int
        Depth cells a layer, a multiple of four; Richardson's extrapolation combines them with half as many.
    """

    orders: int = 3
    scatter: bool = True
    weakest_exciting: float = 1e-3
    cells: int = 8

    def __post_init__(self) -> None:
        if self.orders not in {1, 2, 3} or self.cells < 4 or self.cells % 4 or not self.weakest_exciting >= 0:
            raise SampleError(
                f"Cannot simulate with {self.orders} orders, {self.cells} cells and a weakest exciting share of "
                f"{self.weakest_exciting:g}: 1 to 3 orders, a multiple of four cells and no negative share are needed."
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
        Any number of layers each.
    instrument : Instrument
        Source, filters and geometry; the detector's response is applied by ``render``.
    detail : Detail, optional
        Orders and accuracy; by default everything.
    workers : int
        Threads; results do not depend on it.
    tables : AtomicTables, optional
        Atomic data to use in place of xraylib's, on the source's energies.
    single : bool
        Single precision: nearly twice as fast, and within 2e-5 of any line.

    Raises
    ------
    SampleError
        The batch is empty, or no element has a line that the source excites.

    Notes
    -----
    Primary fluorescence and first-order scatter are exact closed forms (Sherman 1955, eq. 9, for a stack of layers).
    Higher orders follow photons from depth cell to depth cell in six directions (discrete ordinates, Chandrasekhar
    1950), extrapolated in the number of cells (Richardson 1911). See ``transport`` for arrays of torch.
    """
    if not stratigraphies:
        raise SampleError("Cannot simulate an empty batch; give at least one stratigraphy.")
    elements = sorted({name for entry in stratigraphies for layer in entry.layers for name in layer.mass_fractions})
    setting = setting_for(instrument, elements, tables)
    cut = cut_thick(stratigraphies)
    stack = stack_layers(cut.stratigraphies, setting.elements)
    if single:
        stack = replace(stack, fractions=stack.fractions.astype(np.float32), areal=stack.areal.astype(np.float32))
        setting = setting.to(stack.areal)
    emission = transport(stack, setting, detail=detail, workers=workers)
    if cut.layer_of_part is None:
        return emission
    return replace(emission, **{name: joined(getattr(emission, name), cut.layer_of_part) for name in ORDERS})


def emit_parts(
    stratigraphies: Iterable[Stratigraphy],
    instrument: Instrument,
    *,
    part: int = PART,
    detail: Detail | None = None,
    single: bool = False,
) -> Iterator[Emission]:
    """Compute any number of stratigraphies, ``part`` of them at a time: memory does not grow with their number.

    Parameters and errors are those of ``emit``; yields an ``Emission`` of each part in turn.
    """
    entries = iter(stratigraphies)
    while batch := list(islice(entries, part)):
        with one_blas_thread():
            emission = emit(batch, instrument, detail=detail, single=single)
        yield emission


def setting_for(instrument: Instrument, elements: Iterable[str], tables: AtomicTables | None = None) -> Setting:
    """Return the setting of an instrument for some elements; settings from xraylib are cached.

    Raises
    ------
    SampleError
        No element has a line that the source excites.
    """
    names = tuple(sorted(set(elements)))
    return _kept_setting(instrument, names) if tables is None else _setting(instrument, names, tables)


@lru_cache(maxsize=8)
def _kept_setting(instrument: Instrument, elements: tuple[str, ...]) -> Setting:
    return _setting(instrument, elements, atomic_tables(elements, source_spectrum(instrument)[0]))


def _setting(instrument: Instrument, elements: tuple[str, ...], tables: AtomicTables) -> Setting:
    source = source_spectrum(instrument)
    if len(tables.lines) == 0:
        raise SampleError(
            f"Cannot simulate: the source ends at {source[0].max():.4g} keV, below every edge of "
            f"{', '.join(elements)}. Raise the voltage or add a heavier element."
        )
    return make_setting(instrument, tables, source)


def transport(
    stack: Stack, setting: Setting, *, detail: Detail | None = None, workers: int = 1, step: int = BATCH
) -> Emission:
    """Compute the emission of a stack of layers, as NumPy or torch arrays.

    With torch, derivatives propagate to the stack's areal densities and fractions (of the elements present) and to the
    setting's weights and angles; move the setting to the stack's device with ``setting.to(stack.areal)``.

    Parameters
    ----------
    stack : Stack
        From ``stack_layers``, or arrays made otherwise.
    setting : Setting
        From ``setting_for``, of the same library, precision and device.
    detail : Detail, optional
        Orders and accuracy.
    workers : int
        Threads over parts of the batch.
    step : int
        Samples at once; more than the default suits a GPU.

    Raises
    ------
    SampleError
        The stack is empty, or its elements, library or precision are not those of the setting.

    Notes
    -----
    Layers are not cut. ``emit`` first cuts opaque ones (``cut_thick``); do the same for layers of more than fifteen
    optical depths, or their enhancement is inaccurate.
    """
    _check_fit(stack, setting, step)
    xp = array_namespace(stack.areal)
    # like stacks share a step, so that little of it is padding
    order = xp.argsort(_size(stack), stable=True)
    steps = [order[start : start + step] for start in range(0, len(stack), step)]
    run = partial(_run, light=make_primary_excitation(setting), detail=detail or Detail())
    parts = [stack.part(rows) for rows in steps]
    if workers > 1:
        with one_blas_thread(), ThreadPoolExecutor(workers) as pool:
            pieces = list(pool.map(run, parts))
    else:
        pieces = [run(part) for part in parts]
    back = xp.argsort(order)
    arrays = [xp.concat(list(piece), axis=0)[back] for piece in zip(*pieces, strict=True)]
    return _emission(setting, arrays)


def _check_fit(stack: Stack, setting: Setting, step: int) -> None:
    if not len(stack) or step < 1:
        raise SampleError(f"Cannot simulate {len(stack)} samples, {step} at once; give at least one of each.")
    if stack.elements != setting.elements:
        raise SampleError(
            f"Cannot simulate: the stack holds {', '.join(stack.elements)}, but the setting is for "
            f"{', '.join(setting.elements)}, in this order; give "
            "stack_layers the setting's elements."
        )
    arrays = (stack.fractions, stack.areal, setting.weight)
    kinds = {(array_namespace(array), array.dtype, str(array.device)) for array in arrays}
    if len(kinds) > 1:
        raise SampleError(
            "Cannot simulate: mass fractions, areal densities and setting differ in library, precision or device; "
            "convert the fractions, and move the setting with setting.to(stack.areal)."
        )


def _size(stack: Stack) -> Array:
    """Return (n,) how many layers and, among like, how many elements a sample has."""
    xp = array_namespace(stack.areal)
    layers = xp.sum(xp.astype(stack.areal > 0, xp.int64), axis=1)
    elements = xp.sum(xp.astype(xp.any(stack.fractions > 0, axis=1), xp.int64), axis=1)
    return layers * 1000 + elements


def _emission(setting: Setting, arrays: list[Array]) -> Emission:
    lines, (coherent, compton, multiple) = arrays[:5], arrays[5:]
    first, second, third, by_scatter, rescattered = (photons * setting.air_lines for photons in lines)
    return Emission(
        lines=setting.lines,
        primary=first,
        secondary=second,
        tertiary=third,
        by_scatter=by_scatter,
        rescattered=rescattered,
        source_kev=setting.source_kev,
        width_kev=setting.width_kev,
        coherent=coherent * setting.air_source,
        compton_kev=setting.grid_kev,
        compton_width_kev=setting.grid_width_kev,
        compton=compton * setting.air_grid,
        multiple=multiple * setting.air_grid,
        air=(setting.weight @ setting.by_air * setting.air_grid)[None, :] + 0.0 * multiple,
    )


def _run(stack: Stack, light: Light, detail: Detail) -> tuple[Array, ...]:
    batch = make_batch(stack, light)
    xp = array_namespace(stack.areal)
    coherent, compton = first_order(batch)
    first = primary(batch)
    second = third = by_scatter = rescattered = xp.zeros_like(first)
    multiple = xp.zeros_like(compton)
    if detail.orders > 1 or detail.scatter:
        exciting = make_exciting(batch, detail.weakest_exciting)
        fine = make_excited_cells(batch, exciting, detail.cells)
        coarse = coarsened(batch, exciting, fine)
        tracks = isotropic_tracks(coarse.cells, coarse.production)
        if detail.orders > 1:
            by_cells = (
                _orders(batch, exciting, coarse, tracks, detail.orders),
                _orders(batch, exciting, fine, isotropic_tracks(fine.cells, fine.production), detail.orders),
            )
            second, third = (spread(batch, _extrapolated(*pair)) for pair in zip(*by_cells, strict=True))
        if detail.scatter:
            scattered = scattered_light(batch, coarse.count)
            excited = leaving(batch, coarse, excited_by_scatter(batch, scattered))
            rescattered, shifted = scattered_lines(batch, exciting, coarse, tracks, first)
            by_scatter = spread(batch, excited)
            multiple = multiple_scatter(batch, scattered) + shifted
    return first, second, third, by_scatter, rescattered, coherent, compton, multiple


def _orders(
    batch: Batch, exciting: Exciting, excited_cells: ExcitedCells, tracks: Array, orders: int
) -> tuple[Array, Array]:
    """Return (n, j, p) secondary and tertiary photons from the tracks (n, c, m) of the primary ones."""
    excited = tracks @ exciting.pairs
    secondary = leaving(batch, excited_cells, excited)
    if orders < 3:
        return secondary, array_namespace(secondary).zeros_like(secondary)
    again = (
        isotropic_tracks(excited_cells.cells, secondary_excitation(batch, exciting, excited_cells, excited))
        @ exciting.pairs
    )
    return secondary, leaving(batch, excited_cells, again)


def _extrapolated(coarse: Array, fine: Array) -> Array:
    """Return the limit of many cells: the error falls as cells**-2, and fine has twice as many."""
    return array_namespace(fine).clip((4.0 * fine - coarse) / 3.0, min=0.0)


COHERENT, COMPTON = 0, 1
MAX_RATIO = 0.9
"""A generation of scattered photons is at most this share of the one before."""


@dataclass(frozen=True)
class Scattered:
    """Source radiation after its first scatter.

    Parameters
    ----------
    tracks : pair of (n, c, g) arrays
        Track in each cell of coherently and of Compton scattered photons, per photon of the source at a node.
    by_shifts : three (n, g) arrays
        Photons of a node that are scattered again and leave towards the detector, by number of Compton scatters: none,
        one, two.
    ratio : (n, g) array
        Photons scattered a second time per photon scattered once.
    """

    tracks: tuple[Array, Array]
    by_shifts: list[Array]
    ratio: Array


def first_order(batch: Batch) -> tuple[Array, Array]:
    """Return (n, e) coherent and (n, n_grid) Compton photons towards the detector."""
    setting, tables = batch.setting, batch.setting.scatter
    coherent = _once(batch, setting.attenuation, tables.coherent[None])[0]
    compton = _once(batch, tables.shifted_attenuation, tables.compton)
    spectrum = sum(photons @ profile for photons, profile in zip(compton, tables.profile, strict=True))
    # five profiles do not add up exactly to zero outside the profile
    return coherent, array_namespace(spectrum).clip(spectrum, min=0.0)


def _once(batch: Batch, attenuation_out: Array, cross_sections: Array) -> list[Array]:
    """Return (n, e) photons after one scatter for each table (n_element, e) of cross sections, cm2/g."""
    xp = array_namespace(batch.depth_in)
    setting, stack = batch.setting, batch.stack
    depth_out, above_out = beam_depths(stack, attenuation_out, setting.sin_out)
    _, mean = transmission(batch.depth_in + depth_out)
    path = batch.above_in * above_out * mean * (stack.areal / setting.sin_in)[:, :, None]
    return [setting.weight * xp.sum(path * (stack.fractions @ table), axis=1) for table in cross_sections]


def scattered_light(batch: Batch, count: int) -> Scattered:
    """Follow the light of the source after its first scatter, at the nodes, on ``count`` cells a layer."""
    xp = array_namespace(batch.depth_in)
    setting, fractions = batch.setting, batch.stack.fractions
    into = [_by_layer(fractions, table) for table in setting.scatter.into]
    out = [per_cell(_by_layer(fractions, table), count) for table in setting.scatter.out]
    entering = entering_cells(*beam_depths(batch.stack, setting.node_attenuation[COHERENT], setting.sin_in), count)
    escape = [_escape(batch, table, count) for table in setting.node_attenuation]
    tracks, production = [], 0.0
    by_shifts = [0.0, 0.0, 0.0]
    for kind in (COHERENT, COMPTON):
        cells = make_cells(_across(batch, setting.node_attenuation[kind]), batch.stack.areal, count)
        incident = (entering * cells.areal / setting.sin_in)[:, :, None, :]
        strength = per_cell(into[kind], count)
        down, up = directed_tracks(cells, strength[:, :, 0] * incident, strength[:, :, 1] * incident)
        tracks.append(xp.sum(down + up, axis=2))
        production = production + xp.sum(xp.sum(strength, axis=(2, 3)) * incident[:, :, 0], axis=1)
        for again in (COHERENT, COMPTON):
            towards = xp.sum(down * out[again][:, :, 0] + up * out[again][:, :, 1], axis=2)
            by_shifts[kind + again] = by_shifts[kind + again] + xp.sum(towards * escape[max(kind, again)], axis=1)
    total = per_cell(xp.sum(into[COHERENT] + into[COMPTON], axis=(2, 3)), count)
    again = xp.sum((tracks[COHERENT] + tracks[COMPTON]) * total, axis=1)
    return Scattered((tracks[0], tracks[1]), by_shifts, xp.clip(again / (production + SMALLEST), 0.0, MAX_RATIO))


def excited_by_scatter(batch: Batch, light: Scattered) -> Array:
    """Return (n, c, p) photons of the sample's lines excited in each cell, per mass fraction of their element."""
    xp = array_namespace(light.ratio)
    excited = 0.0
    for track, table in zip(light.tracks, batch.light.by_nodes, strict=True):
        production = xp.permute_dims(table[:, batch.chosen], (1, 0, 2))
        # each generation is a like share of the one before
        excited = excited + (track / (1.0 - light.ratio)[:, None, :]) @ production
    return excited


def multiple_scatter(batch: Batch, light: Scattered) -> Array:
    """Return (n, n_grid) photons of the source that are scattered twice or more and leave towards the detector."""
    setting = batch.setting
    spread = array_namespace(light.ratio).permute_dims(setting.hat, (1, 0))
    shifts = (setting.beam_unshifted, setting.beam_shift, setting.beam_shift_twice)
    return sum(
        ((photons / (1.0 - light.ratio)) @ spread * setting.weight) @ shift
        for photons, shift in zip(light.by_shifts, shifts, strict=True)
    )


def scattered_lines(
    batch: Batch, exciting: Exciting, excited_cells: ExcitedCells, tracks: Array, first: Array
) -> tuple[Array, Array]:
    """Return the scatter of the primary photons of the lines, assumed isotropic.

    Parameters
    ----------
    tracks : (n, c, m) array
        Of the photons of the exciting groups.
    first : (n, j, n_line) array
        Primary photons towards the detector.

    Returns
    -------
    coherent : (n, j, n_line) array
        Photons that leave towards the detector after coherent scatter, by layer of origin. Lines that are not followed
        scatter like the others of their family.
    compton : (n, n_grid) array
        Photons that leave after Compton scatter.
    """
    xp = array_namespace(tracks)
    setting = batch.setting
    # photons of a group have the shares of its lines
    layers = per_layer(
        (tracks @ xp.permute_dims(exciting.share, (0, 2, 1))) * excited_cells.escape, excited_cells.count
    )
    followed = among_all(batch, xp.astype(xp.any(exciting.share > 0, axis=2), tracks.dtype))
    coherent, compton = (
        among_all(batch, xp.sum(layers * pick(batch.stack.fractions @ table, batch.chosen), axis=1))
        for table in setting.line_scatter
    )
    by_family = [photons @ setting.family for photons in (coherent, xp.sum(first, axis=1) * followed)]
    ratio = xp.where(by_family[1] > 0, by_family[0] / (by_family[1] + SMALLEST), 0.0)
    again = xp.clip(ratio, 0.0, MAX_RATIO) @ xp.permute_dims(setting.family, (1, 0))
    return first * again[:, None, :], compton @ setting.line_shift


def _by_layer(fractions: Array, table: Array) -> Array:
    """Return (n, j, 2, k, g) cross sections of layers from (2, n_element, k, g) of elements."""
    xp = array_namespace(fractions)
    ways = [
        xp.reshape(fractions @ xp.reshape(way, (way.shape[0], -1)), (*fractions.shape[:2], *way.shape[1:]))
        for way in table
    ]
    return xp.stack(ways, axis=2)


def _across(batch: Batch, attenuation: Array) -> Array:
    return (batch.stack.fractions @ attenuation) * batch.stack.areal[:, :, None]


def _escape(batch: Batch, attenuation: Array, count: int) -> Array:
    return escape_from_cells(_across(batch, attenuation) / batch.setting.sin_out, count)
