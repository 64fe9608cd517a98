"""Lines of a batch: the primary in closed form, higher orders from cell to cell.

Shapes: ``n`` samples, ``j`` layers, ``c`` cells, ``p`` lines of a sample (padded), ``m`` exciting lines (padded),
``r`` rows: the lines that a layer of a sample does have, whatever sample and layer.
"""

from dataclasses import dataclass

from array_api_compat import array_namespace

from underpaint.physics.forward.cells import (
    DEEPEST_LAYER,
    FAINTEST_LIGHT,
    Cells,
    as_array,
    attenuated,
    make_cells,
    per_cell,
    transmission,
)
from underpaint.physics.forward.ordinates import cell_shares
from underpaint.physics.forward.setting import Setting
from underpaint.physics.forward.stack import Array, Stack

ROWS = 192
"""Rows of the primary that are computed at once: their (rows x energies) arrays stay in the processor's cache."""
FAINTEST = 2e-2
"""Lines are followed above this share of a sample's strongest line, before absorption."""
SMALLEST = 1e-30
"""Smallest value, to avoid division by zero."""
SHARPNESS = 4.0
"""Exponent of the power mean that approximates the maximum gain, within the fourth root of their number."""


@dataclass(frozen=True)
class Light:
    """A setting's light as the lines feel it. Lines excite others as groups (``Setting.member``).

    Parameters
    ----------
    setting : Setting
    group_attenuation : (n_element, n_group) array
        cm2/g, of a group's photons.
    group_production : (n_group, n_energy) array
        Production of a group by the source's photons, weighted.
    group_share : (n_line, n_group) array
        Share of a group's photons that each of its lines has.
    excited : (n_line, n_group) array
        Production of a line by a group, cm2/g.
    of_group : (n_group,) array
        Production of a group by the full beam.
    gain : (n_line, n_group) array
        The same relative to the line's production by the full beam, times the group's production, to the power
        ``SHARPNESS``, scaled.
    scale : () array
        Scale of ``gain`` before the power.
    by_nodes : (2, n_node, n_line) array
        Production by coherent and Compton scattered light of the source, per track of the nodes' photons.
    """

    setting: Setting
    group_attenuation: Array
    group_production: Array
    group_share: Array
    excited: Array
    of_group: Array
    gain: Array
    scale: Array
    by_nodes: Array


def make_primary_excitation(setting: Setting) -> Light:
    """Return the light of a setting."""
    xp = array_namespace(setting.weight)
    by_beam = setting.production @ setting.weight
    present = by_beam > 0
    in_group = setting.member * by_beam[:, None]
    of_group = xp.sum(in_group, axis=0)
    share = in_group / xp.where(of_group > 0, of_group, 1.0)
    excited = setting.line_production @ share
    gain = xp.where(present[:, None], excited / xp.where(present, by_beam, 1.0)[:, None], 0.0) * of_group
    scale = xp.max(gain) + SMALLEST
    spread_weight = setting.hat * setting.weight[:, None]
    return Light(
        setting=setting,
        group_attenuation=setting.line_attenuation @ share,
        group_production=(xp.permute_dims(setting.member, (1, 0)) @ setting.production) * setting.weight,
        group_share=share,
        excited=excited,
        of_group=of_group,
        gain=(gain / scale) ** SHARPNESS,
        scale=scale,
        by_nodes=xp.stack(
            [
                xp.permute_dims(table @ spread_weight, (1, 0))
                for table in (setting.production, setting.scattered_production)
            ]
        ),
    )


@dataclass(frozen=True)
class Batch:
    """A stack in a light, and which lines its samples have.

    Parameters
    ----------
    stack : Stack
    light : Light
    depth_in : (n, j, n_energy) array
        Optical depth of each layer along the beam.
    above_in : (n, j, n_energy) array
        Transmission of the layers above it.
    vertical : (n, j, n_line) array
        Optical depth of each layer straight across, at every line.
    chosen : (n, p) int array
        Lines of each sample.
    concentration : (n, j, p) array
        Mass fraction of their elements; zero for padding.
    """

    stack: Stack
    light: Light
    depth_in: Array
    above_in: Array
    vertical: Array
    chosen: Array
    concentration: Array

    @property
    def setting(self) -> Setting:
        """The light's setting."""
        return self.light.setting


def make_batch(stack: Stack, light: Light) -> Batch:
    """Return the optical depths of a batch."""
    setting = light.setting
    depth_in, above_in = beam_depths(stack, setting.attenuation, setting.sin_in)
    chosen, used = _present_lines(stack, setting)
    concentration = pick(stack.fractions, setting.line_element[chosen]) * used[:, None, :]
    vertical = (stack.fractions @ setting.line_attenuation) * stack.areal[:, :, None]
    return Batch(stack, light, depth_in, above_in, vertical, chosen, concentration)


def beam_depths(stack: Stack, attenuation: Array, sine: Array) -> tuple[Array, Array]:
    """Return (n, j, e) optical depths along a slanted path, and the transmission of the layers above."""
    depth = (stack.fractions @ attenuation) * (stack.areal / sine)[:, :, None]
    return depth, attenuated(before(depth))


def before(depth: Array) -> Array:
    """Return the optical depth above each layer or cell (second axis)."""
    return array_namespace(depth).cumulative_sum(depth, axis=1) - depth


def primary(batch: Batch) -> Array:
    """Return (n, j, n_line) photons excited by the beam (Sherman 1955, eq. 9, for a stack of layers)."""
    xp = array_namespace(batch.depth_in)
    stack, setting = batch.stack, batch.setting
    depth_out = batch.vertical / setting.sin_out
    above_out = attenuated(before(depth_out))
    sample, level, position = xp.nonzero(batch.concentration * stack.areal[:, :, None] > 0)
    line = batch.chosen[sample, position]
    out = depth_out[sample, level, line]
    flat = sample * stack.areal.shape[1] + level
    depth_in, entering = (_flat(array) for array in (batch.depth_in, setting.weight * batch.above_in))
    passing = entering * attenuated(depth_in, DEEPEST_LAYER)
    # numerator and denominator of (1 - exp(-(in + out))) / (in + out), for a part of the rows at a time
    excited = [
        xp.vecdot(
            setting.production[line[part], :],
            (entering[flat[part], :] - passing[flat[part], :] * attenuated(out[part], DEEPEST_LAYER)[:, None])
            / (depth_in[flat[part], :] + out[part][:, None]),
        )
        for part in _parts(int(flat.shape[0]))
    ]
    result = xp.zeros_like(batch.vertical)
    if excited:
        concentration = batch.concentration[sample, level, position]
        factor = concentration * stack.areal[sample, level] / setting.sin_in * above_out[sample, level, line]
        result[sample, level, line] = factor * xp.concat(excited)
    return result


@dataclass(frozen=True)
class Exciting:
    """Groups of lines that excite others in each sample.

    Parameters
    ----------
    groups : (n, m) int array
        Indices among the groups of the light.
    pairs : (n, m, p) array
        Production of the sample's lines by each, cm2/g; zero for padding.
    share : (n, p, m) array
        Share of a group's photons that each of the sample's lines has; zero for padding.
    """

    groups: Array
    pairs: Array
    share: Array


@dataclass(frozen=True)
class ExcitedCells:
    """The cells of a batch, as its exciting groups see them.

    Parameters
    ----------
    count : int
        Cells a layer.
    cells : Cells
        For the exciting groups.
    production : (n, c, m) array
        Primary photons emitted in each cell.
    escape : (n, c, p) array
        Mean transmission from a cell to the surface, along the way to the detector.
    """

    count: int
    cells: Cells
    production: Array
    escape: Array


def make_exciting(batch: Batch, weakest: float) -> Exciting:
    """Return the groups that could add at least the share ``weakest`` to the primary of any line."""
    xp = array_namespace(batch.depth_in)
    groups, followed = _strongest(batch, weakest)
    pairs = batch.light.excited[batch.chosen[:, None, :], groups[:, :, None]] * followed[:, :, None]
    share = batch.light.group_share[batch.chosen[:, :, None], groups[:, None, :]] * followed[:, None, :]
    present = xp.astype(xp.any(batch.concentration > 0, axis=1), share.dtype)
    return Exciting(groups, pairs, share * present[:, :, None])


def make_excited_cells(batch: Batch, exciting: Exciting, count: int) -> ExcitedCells:
    """Return cells, ``count`` per layer, excited by the beam."""
    xp = array_namespace(batch.depth_in)
    stack, setting, light = batch.stack, batch.setting, batch.light
    cells = make_cells(group_depths(batch, exciting), stack.areal, count)
    concentration = per_cell(pick(stack.fractions, setting.exciting_element[exciting.groups]), count)
    production = xp.permute_dims(light.group_production[exciting.groups, :], (0, 2, 1))
    production_per_cell = entering_cells(batch.depth_in, batch.above_in, count) @ production
    return ExcitedCells(
        count,
        cells,
        production_per_cell * concentration * cells.areal / setting.sin_in,
        escape_from_cells(pick(batch.vertical, batch.chosen) / setting.sin_out, count),
    )


def coarsened(batch: Batch, exciting: Exciting, fine: ExcitedCells) -> ExcitedCells:
    """Return half as many cells a layer: the edges of cosine-spaced cells are every other edge of twice as many."""
    count = fine.count // 2
    cells = make_cells(group_depths(batch, exciting), batch.stack.areal, count)
    share = as_array(cell_shares(fine.count), fine.production)[:, None]
    weight = share / per_cell(as_array(cell_shares(count), fine.production)[None, :, None], 2)[0]
    return ExcitedCells(
        count, cells, _in_pairs(fine.production), _in_pairs(fine.escape * _tiled(weight, batch.stack.areal.shape[1]))
    )


def _in_pairs(values: Array) -> Array:
    """Sum (n, c, ...) over neighbouring cells."""
    return values[:, ::2] + values[:, 1::2]


def _tiled(weight: Array, layers: int) -> Array:
    return array_namespace(weight).tile(weight, (layers, 1))


def group_depths(batch: Batch, exciting: Exciting) -> Array:
    """Return (n, j, m) optical depths straight across for the exciting groups."""
    stack = batch.stack
    return pick((stack.fractions @ batch.light.group_attenuation) * stack.areal[:, :, None], exciting.groups)


def entering_cells(depth: Array, above: Array, cells: int) -> Array:
    """Return (n, c, e) mean transmission from the surface to each cell, averaged over the cell.

    ``depth`` and ``above`` (n, j, e) are the optical depth of the layers and the transmission down to them.
    """
    xp = array_namespace(depth)
    share = as_array(cell_shares(cells), depth)
    part = depth[:, :, None, :] * share[:, None]
    passed, mean = transmission(part)
    result, flux = [], above
    for cell in range(cells):
        result.append(flux * mean[:, :, cell])
        flux = flux * passed[:, :, cell] + FAINTEST_LIGHT
    entering = xp.stack(result, axis=2)
    return xp.reshape(entering, (depth.shape[0], -1, depth.shape[2]))


def escape_from_cells(depth: Array, cells: int) -> Array:
    """Return (n, c, p) mean transmission from each cell to the surface; ``depth`` (n, j, p) is slanted."""
    return entering_cells(depth, attenuated(before(depth)), cells)


def secondary_excitation(batch: Batch, exciting: Exciting, excited_cells: ExcitedCells, excited: Array) -> Array:
    """Return (n, c, m) photons of the exciting groups among the excited lines."""
    xp = array_namespace(excited)
    member = xp.astype(exciting.share > 0, excited.dtype)
    return (excited * per_cell(batch.concentration, excited_cells.count)) @ member


def leaving(batch: Batch, excited_cells: ExcitedCells, excited: Array) -> Array:
    """Return the (n, j, p) photons excited in the cells that leave towards the detector."""
    return per_layer(excited * excited_cells.escape, excited_cells.count) * batch.concentration


def per_layer(values: Array, count: int) -> Array:
    """Sum (n, c, ...) over the cells of each layer: (n, j, ...)."""
    xp = array_namespace(values)
    return xp.sum(xp.reshape(values, (values.shape[0], -1, count, *values.shape[2:])), axis=2)


def spread(batch: Batch, photons: Array) -> Array:
    """Scatter (n, j, p) photons of a sample's lines into the array of all lines, (n, j, n_line)."""
    xp = array_namespace(photons)
    sample, level, position = xp.nonzero(batch.concentration > 0)
    result = xp.zeros_like(batch.vertical)
    result[sample, level, batch.chosen[sample, position]] = photons[sample, level, position]
    return result


def among_all(batch: Batch, values: Array) -> Array:
    """Scatter (n, p) values of a sample's lines into the array of all lines, (n, n_line)."""
    xp = array_namespace(values)
    result = xp.zeros_like(batch.vertical[:, 0])
    sample, position = xp.nonzero(xp.any(batch.concentration > 0, axis=1))
    result[sample, batch.chosen[sample, position]] = values[sample, position]
    return result


def _strongest(batch: Batch, weakest: float) -> tuple[Array, Array]:
    """Return the (n, m) exciting groups, and one for each that is followed.

    The criterion is the largest relative gain, before absorption, that a group can add to the primary excitation of any
    line: a hard line may be weak and still be the only one that excites an element.
    """
    xp = array_namespace(batch.depth_in)
    light, stack = batch.light, batch.stack
    present = among_all(batch, xp.ones_like(batch.concentration[:, 0]))
    most = light.scale * (present @ light.gain) ** (1.0 / SHARPNESS)
    element = batch.setting.exciting_element
    _, inside = transmission((stack.fractions @ light.group_attenuation) * stack.areal[:, :, None])
    mass = xp.sum(stack.areal[:, :, None] * stack.fractions[:, :, element] * inside, axis=1)
    strength = most * mass
    bright = light.of_group * mass
    # bright lines are followed whatever they excite, as scatter brings them themselves 1-3 %
    bright = bright / (xp.max(bright, axis=1, keepdims=True) + SMALLEST) * (weakest / FAINTEST)
    strength = xp.where(bright > strength, bright, strength)
    strong = strength > weakest
    count = max(int(xp.max(xp.sum(xp.astype(strong, xp.int64), axis=1))), 1)
    order = xp.argsort(-strength, axis=1, stable=True)[:, :count]
    return order, xp.astype(xp.take_along_axis(strong, order, axis=1), batch.depth_in.dtype)


def _present_lines(stack: Stack, setting: Setting) -> tuple[Array, Array]:
    """Return the (n, p) lines of each sample, padded, and one for each that is not padding."""
    xp = array_namespace(stack.areal)
    elements = xp.max(stack.fractions * stack.areal[:, :, None], axis=1) > 0
    excitable = xp.any(setting.production > 0, axis=1)
    present = elements[:, setting.line_element] & excitable
    count = max(int(xp.max(xp.sum(xp.astype(present, xp.int64), axis=1))), 1)
    order = xp.argsort(xp.astype(present, xp.int64), axis=1, stable=True, descending=True)[:, :count]
    return order, xp.astype(xp.take_along_axis(present, order, axis=1), stack.areal.dtype)


def pick(values: Array, index: Array) -> Array:
    """Return (n, j, p) of values (n, j, all) at (n, p) indices."""
    xp = array_namespace(values)
    shape = (values.shape[0], values.shape[1], index.shape[1])
    return xp.take_along_axis(values, xp.broadcast_to(index[:, None, :], shape), axis=2)


def _flat(array: Array) -> Array:
    return array_namespace(array).reshape(array, (-1, array.shape[2]))


def _parts(count: int) -> list[slice]:
    return [slice(start, start + ROWS) for start in range(0, count, ROWS)]
