"""Scattered tube radiation: first order in closed form, higher orders and what they excite from cell to cell.

Shapes: ``n`` samples, ``j`` layers, ``c`` cells, ``k`` directions, ``g`` nodes, ``e`` source energies, ``p`` lines.
"""

from dataclasses import dataclass

from array_api_compat import array_namespace

from underpaint.physics.forward.cells import directed_tracks, make_cells, per_cell, transmission
from underpaint.physics.forward.fluorescence import (
    SMALLEST,
    Batch,
    Exciting,
    LitCells,
    among_all,
    beam_depths,
    entering_cells,
    escape_from_cells,
    per_layer,
    pick,
)
from underpaint.physics.forward.stack import Array

COHERENT, COMPTON = 0, 1
LARGEST_RATIO = 0.9
"""A generation of scattered photons is at most this share of the one before."""


@dataclass(frozen=True)
class Scattered:
    """Light of the source after its first scatter, and what becomes of it.

    Parameters
    ----------
    tracks : pair of (n, c, g) arrays
        Track in each cell of coherently and of Compton scattered photons, per photon of the source at a node.
    by_shifts : three (n, g) arrays
        Photons of a node that are scattered again and leave towards the detector, by the Compton scatters that they
        went through: none, one, two.
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
    # five profiles do not add up to nothing exactly where there is nothing
    return coherent, array_namespace(spectrum).clip(spectrum, min=0.0)


def _once(batch: Batch, attenuation_out: Array, cross_sections: Array) -> list[Array]:
    """Return (n, e) photons after one scatter for each table (n_element, e) of cross sections, cm2/g."""
    xp = array_namespace(batch.depth_in)
    setting, stack = batch.setting, batch.stack
    depth_out, above_out = beam_depths(stack, attenuation_out, setting.sin_out)
    _, mean = transmission(batch.depth_in + depth_out)
    seen = batch.above_in * above_out * mean * (stack.areal / setting.sin_in)[:, :, None]
    return [setting.weight * xp.sum(seen * (stack.fractions @ table), axis=1) for table in cross_sections]


def scattered_light(batch: Batch, count: int) -> Scattered:
    """Follow the light of the source after its first scatter, at the nodes, on ``count`` cells a layer."""
    xp = array_namespace(batch.depth_in)
    setting, fractions = batch.setting, batch.stack.fractions
    into = [_by_layer(fractions, table) for table in setting.scatter.into]
    out = [per_cell(_by_layer(fractions, table), count) for table in setting.scatter.out]
    entering = entering_cells(*beam_depths(batch.stack, setting.node_attenuation[COHERENT], setting.sin_in), count)
    escape = [_escape(batch, table, count) for table in setting.node_attenuation]
    tracks, born = [], 0.0
    by_shifts = [0.0, 0.0, 0.0]
    for kind in (COHERENT, COMPTON):
        cells = make_cells(_across(batch, setting.node_attenuation[kind]), batch.stack.areal, count)
        lit = (entering * cells.areal / setting.sin_in)[:, :, None, :]
        strength = per_cell(into[kind], count)
        down, up = directed_tracks(cells, strength[:, :, 0] * lit, strength[:, :, 1] * lit)
        tracks.append(xp.sum(down + up, axis=2))
        born = born + xp.sum(xp.sum(strength, axis=(2, 3)) * lit[:, :, 0], axis=1)
        for again in (COHERENT, COMPTON):
            towards = xp.sum(down * out[again][:, :, 0] + up * out[again][:, :, 1], axis=2)
            by_shifts[kind + again] = by_shifts[kind + again] + xp.sum(towards * escape[max(kind, again)], axis=1)
    total = per_cell(xp.sum(into[COHERENT] + into[COMPTON], axis=(2, 3)), count)
    again = xp.sum((tracks[COHERENT] + tracks[COMPTON]) * total, axis=1)
    return Scattered((tracks[0], tracks[1]), by_shifts, xp.clip(again / (born + SMALLEST), 0.0, LARGEST_RATIO))


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
    batch: Batch, exciting: Exciting, lit: LitCells, tracks: Array, first: Array
) -> tuple[Array, Array]:
    """Return what the primary photons of the lines do by scatter, taken as isotropic.

    Parameters
    ----------
    tracks : (n, c, m) array
        Of the photons of the exciting groups.
    first : (n, j, n_line) array
        Primary photons towards the detector.

    Returns
    -------
    coherent : (n, j, n_line) array
        Photons that leave towards the detector after coherent scatter, by layer of birth. Lines that are not
        followed are taken to scatter like the others of their family.
    compton : (n, n_grid) array
        Photons that leave after Compton scatter.
    """
    xp = array_namespace(tracks)
    setting = batch.setting
    # group photons keep their lines' shares
    layers = per_layer((tracks @ xp.permute_dims(exciting.share, (0, 2, 1))) * lit.escape, lit.count)
    followed = among_all(batch, xp.astype(xp.any(exciting.share > 0, axis=2), tracks.dtype))
    coherent, compton = (
        among_all(batch, xp.sum(layers * pick(batch.stack.fractions @ table, batch.chosen), axis=1))
        for table in setting.line_scatter
    )
    by_family = [photons @ setting.family for photons in (coherent, xp.sum(first, axis=1) * followed)]
    ratio = xp.where(by_family[1] > 0, by_family[0] / (by_family[1] + SMALLEST), 0.0)
    again = xp.clip(ratio, 0.0, LARGEST_RATIO) @ xp.permute_dims(setting.family, (1, 0))
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
