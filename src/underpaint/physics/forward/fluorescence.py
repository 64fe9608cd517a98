"""Fluorescence of a batch: primary fluorescence in closed form, and higher orders from cell to cell.

Array dimensions: ``n`` samples, ``j`` layers, ``c`` cells, ``p`` lines of a sample (padded), ``m`` exciting groups of
lines (padded), ``r`` rows. A row is a line that is present in a layer of a sample.
"""

from dataclasses import dataclass

from array_api_compat import array_namespace

from underpaint.physics.forward.cells import (
    MAX_LAYER_OPTICAL_DEPTH,
    MIN_CELL_PHOTONS,
    Cells,
    as_array,
    limited_transmission,
    make_cells,
    repeat_for_cells,
    transmission,
)
from underpaint.physics.forward.ordinates import cell_thickness_fractions
from underpaint.physics.forward.setting import Setting
from underpaint.physics.forward.stack import Array, Stack

ROWS_PER_CHUNK = 192
"""Number of rows per chunk of the primary fluorescence; arrays of a chunk fit into the processor's cache."""
MIN_RELATIVE_BRIGHTNESS = 2e-2
"""Brightness above which a group is always an exciting group, as a fraction of the sample's brightest group."""
MIN_DENOMINATOR = 1e-30
"""Smallest denominator, to avoid division by zero."""
POWER_MEAN_EXPONENT = 4.0
"""Exponent of the power mean of relative gains; the power mean approximates the maximum."""


@dataclass(frozen=True)
class PrimaryExcitation:
    """Production cross sections of a setting. Lines that excite other lines form groups (``Setting.group_membership``).

    Parameters
    ----------
    setting : Setting
        Source, geometry and atomic data.
    group_attenuation : (n_element, n_group) array
        Mass attenuation coefficient for the photons of a group, in cm2/g.
    group_production : (n_group, n_energy) array
        Production of a group by photons of each source energy, multiplied by the source weight.
    line_fraction : (n_line, n_group) array
        Fraction of a group's photons that belongs to each line.
    pair_production : (n_line, n_group) array
        Production of a line by the photons of a group, in cm2/g.
    beam_production : (n_group,) array
        Production of a group by the full beam.
    relative_gain : (n_line, n_group) array
        Ratio of a line's production through a group to its production by the full beam. The ratio is divided by
        ``gain_scale`` and raised to the power ``POWER_MEAN_EXPONENT``.
    gain_scale : () array
        Largest ratio of a line's production through a group to its production by the full beam.
    node_production : (2, n_node, n_line) array
        Production of lines by coherently and by Compton scattered source radiation, per track length of photons of a
        node.
    """

    setting: Setting
    group_attenuation: Array
    group_production: Array
    line_fraction: Array
    pair_production: Array
    beam_production: Array
    relative_gain: Array
    gain_scale: Array
    node_production: Array


def make_primary_excitation(setting: Setting) -> PrimaryExcitation:
    """Return the production cross sections of a setting."""
    xp = array_namespace(setting.weight)
    line_production = setting.production @ setting.weight
    is_produced = line_production > 0
    group_line_production = setting.group_membership * line_production[:, None]
    beam_production = xp.sum(group_line_production, axis=0)
    line_fraction = group_line_production / xp.where(beam_production > 0, beam_production, 1.0)
    pair_production = setting.line_production @ line_fraction
    relative_gain = (
        xp.where(is_produced[:, None], pair_production / xp.where(is_produced, line_production, 1.0)[:, None], 0.0)
        * beam_production
    )
    gain_scale = xp.max(relative_gain) + MIN_DENOMINATOR
    node_weight = setting.source_node_weights * setting.weight[:, None]
    return PrimaryExcitation(
        setting=setting,
        group_attenuation=setting.line_attenuation @ line_fraction,
        group_production=(xp.permute_dims(setting.group_membership, (1, 0)) @ setting.production) * setting.weight,
        line_fraction=line_fraction,
        pair_production=pair_production,
        beam_production=beam_production,
        relative_gain=(relative_gain / gain_scale) ** POWER_MEAN_EXPONENT,
        gain_scale=gain_scale,
        node_production=xp.stack(
            [
                xp.permute_dims(production_table @ node_weight, (1, 0))
                for production_table in (setting.production, setting.scattered_production)
            ]
        ),
    )


@dataclass(frozen=True)
class Batch:
    """A stack of samples, optical depths of the layers, and the lines that each sample emits.

    Parameters
    ----------
    stack : Stack
        Layers of the samples.
    excitation : PrimaryExcitation
        Production cross sections of the setting.
    beam_depth : (n, j, n_energy) array
        Optical depth of each layer along the beam.
    beam_transmission : (n, j, n_energy) array
        Transmission, along the beam, of the layers above each layer.
    normal_depth : (n, j, n_line) array
        Optical depth of each layer along the normal, at the energy of every line.
    line_index : (n, p) int array
        Indices of the lines of each sample.
    concentration : (n, j, p) array
        Mass fraction, in each layer, of the element that emits each line of ``line_index``; zero for padding.
    """

    stack: Stack
    excitation: PrimaryExcitation
    beam_depth: Array
    beam_transmission: Array
    normal_depth: Array
    line_index: Array
    concentration: Array

    @property
    def setting(self) -> Setting:
        """Source, geometry and atomic data of the excitation."""
        return self.excitation.setting


def make_batch(stack: Stack, excitation: PrimaryExcitation) -> Batch:
    """Return the batch for a stack: optical depths of the layers, and lines of each sample."""
    setting = excitation.setting
    beam_depth, beam_transmission = slanted_depths(stack, setting.attenuation, setting.sin_incidence)
    line_index, is_line = _lines_by_sample(stack, setting)
    concentration = take_by_sample(stack.fractions, setting.line_element[line_index]) * is_line[:, None, :]
    normal_depth = (stack.fractions @ setting.line_attenuation) * stack.areal_density[:, :, None]
    return Batch(stack, excitation, beam_depth, beam_transmission, normal_depth, line_index, concentration)


def slanted_depths(stack: Stack, attenuation: Array, sine: Array) -> tuple[Array, Array]:
    """Return, along a slanted path, the (n, j, e) optical depths of layers and the transmission of the layers above."""
    depth = (stack.fractions @ attenuation) * (stack.areal_density / sine)[:, :, None]
    return depth, limited_transmission(optical_depth_above(depth))


def optical_depth_above(depth: Array) -> Array:
    """Return the optical depth above each layer or cell (second axis)."""
    return array_namespace(depth).cumulative_sum(depth, axis=1) - depth


def primary_photons(batch: Batch) -> Array:
    """Return the (n, j, n_line) photons that the beam excites (Sherman 1955, equation 9, for a stack of layers)."""
    xp = array_namespace(batch.beam_depth)
    stack, setting = batch.stack, batch.setting
    detector_depth = batch.normal_depth / setting.sin_takeoff
    detector_transmission = limited_transmission(optical_depth_above(detector_depth))
    sample_index, layer_index, line_position = xp.nonzero(batch.concentration * stack.areal_density[:, :, None] > 0)
    line_index = batch.line_index[sample_index, line_position]
    row_detector_depth = detector_depth[sample_index, layer_index, line_index]
    row_index = sample_index * stack.areal_density.shape[1] + layer_index
    beam_depth, entering_photons = (
        _flatten_layers(array) for array in (batch.beam_depth, setting.weight * batch.beam_transmission)
    )
    transmitted_photons = entering_photons * limited_transmission(beam_depth, MAX_LAYER_OPTICAL_DEPTH)
    # each chunk of rows computes (1 - exp(-(in + out))) / (in + out)
    production = [
        xp.vecdot(
            setting.production[line_index[rows], :],
            (
                entering_photons[row_index[rows], :]
                - transmitted_photons[row_index[rows], :]
                * limited_transmission(row_detector_depth[rows], MAX_LAYER_OPTICAL_DEPTH)[:, None]
            )
            / (beam_depth[row_index[rows], :] + row_detector_depth[rows][:, None]),
        )
        for rows in _row_chunks(int(row_index.shape[0]))
    ]
    photons = xp.zeros_like(batch.normal_depth)
    if production:
        concentration = batch.concentration[sample_index, layer_index, line_position]
        emission_factor = (
            concentration
            * stack.areal_density[sample_index, layer_index]
            / setting.sin_incidence
            * detector_transmission[sample_index, layer_index, line_index]
        )
        photons[sample_index, layer_index, line_index] = emission_factor * xp.concat(production)
    return photons


@dataclass(frozen=True)
class ExcitingGroups:
    """Groups of lines that excite other lines, for each sample.

    Parameters
    ----------
    group_index : (n, m) int array
        Indices of the groups in the arrays of the excitation.
    pair_production : (n, m, p) array
        Production of the sample's lines by each group, in cm2/g; zero for padding.
    line_fraction : (n, p, m) array
        Fraction of a group's photons that belongs to each line of the sample; zero for padding.
    """

    group_index: Array
    pair_production: Array
    line_fraction: Array


@dataclass(frozen=True)
class ExcitedCells:
    """Depth cells of a batch, at the energies of its exciting groups.

    Parameters
    ----------
    n_cells : int
        Number of cells per layer.
    cells : Cells
        Attenuation, in the cells, of the photons of the exciting groups.
    production : (n, c, m) array
        Primary photons emitted in each cell.
    escape : (n, c, p) array
        Mean transmission from a cell to the surface, in the direction of the detector.
    """

    n_cells: int
    cells: Cells
    production: Array
    escape: Array


def make_exciting_groups(batch: Batch, min_gain: float) -> ExcitingGroups:
    """Return the groups that could increase the photons of at least one line by the fraction ``min_gain``."""
    xp = array_namespace(batch.beam_depth)
    group_index, is_followed = _strongest_groups(batch, min_gain)
    pair_production = (
        batch.excitation.pair_production[batch.line_index[:, None, :], group_index[:, :, None]]
        * is_followed[:, :, None]
    )
    line_fraction = (
        batch.excitation.line_fraction[batch.line_index[:, :, None], group_index[:, None, :]] * is_followed[:, None, :]
    )
    is_present = xp.astype(xp.any(batch.concentration > 0, axis=1), line_fraction.dtype)
    return ExcitingGroups(group_index, pair_production, line_fraction * is_present[:, :, None])


def make_excited_cells(batch: Batch, exciting: ExcitingGroups, n_cells: int) -> ExcitedCells:
    """Return the cells of a batch, ``n_cells`` per layer, with their excitation by the beam."""
    xp = array_namespace(batch.beam_depth)
    stack, setting, excitation = batch.stack, batch.setting, batch.excitation
    cells = make_cells(group_depths(batch, exciting), stack.areal_density, n_cells)
    concentration = repeat_for_cells(
        take_by_sample(stack.fractions, setting.exciting_element[exciting.group_index]), n_cells
    )
    production = xp.permute_dims(excitation.group_production[exciting.group_index, :], (0, 2, 1))
    production_per_cell = transmission_to_cells(batch.beam_depth, batch.beam_transmission, n_cells) @ production
    return ExcitedCells(
        n_cells,
        cells,
        production_per_cell * concentration * cells.areal_density / setting.sin_incidence,
        transmission_from_cells(take_by_sample(batch.normal_depth, batch.line_index) / setting.sin_takeoff, n_cells),
    )


def coarsen_cells(batch: Batch, exciting: ExcitingGroups, fine_cells: ExcitedCells) -> ExcitedCells:
    """Return the excited cells with half the number of cells per layer.

    With cosine spacing, every other edge of the fine cells is an edge of the coarse cells.
    """
    n_cells = fine_cells.n_cells // 2
    cells = make_cells(group_depths(batch, exciting), batch.stack.areal_density, n_cells)
    relative_thickness = as_array(cell_thickness_fractions(fine_cells.n_cells), fine_cells.production)[:, None]
    cell_weight = (
        relative_thickness
        / repeat_for_cells(as_array(cell_thickness_fractions(n_cells), fine_cells.production)[None, :, None], 2)[0]
    )
    return ExcitedCells(
        n_cells,
        cells,
        _sum_cell_pairs(fine_cells.production),
        _sum_cell_pairs(fine_cells.escape * _repeat_for_layers(cell_weight, batch.stack.areal_density.shape[1])),
    )


def _sum_cell_pairs(values: Array) -> Array:
    """Sum (n, c, ...) values over pairs of neighbouring cells."""
    return values[:, ::2] + values[:, 1::2]


def _repeat_for_layers(cell_weight: Array, n_layers: int) -> Array:
    return array_namespace(cell_weight).tile(cell_weight, (n_layers, 1))


def group_depths(batch: Batch, exciting: ExcitingGroups) -> Array:
    """Return the (n, j, m) optical depths of layers, along the normal, for photons of the exciting groups."""
    stack = batch.stack
    return take_by_sample(
        (stack.fractions @ batch.excitation.group_attenuation) * stack.areal_density[:, :, None], exciting.group_index
    )


def transmission_to_cells(depth: Array, transmission_above: Array, n_cells: int) -> Array:
    """Return the (n, c, e) transmission from the surface to each cell, averaged over the cell.

    ``depth`` is the (n, j, e) optical depth of each layer. ``transmission_above`` is the transmission of the layers
    above each layer.
    """
    xp = array_namespace(depth)
    relative_thickness = as_array(cell_thickness_fractions(n_cells), depth)
    cell_depth = depth[:, :, None, :] * relative_thickness[:, None]
    cell_transmission, mean_transmission = transmission(cell_depth)
    transmission_by_cell, entering_fraction = [], transmission_above
    for cell in range(n_cells):
        transmission_by_cell.append(entering_fraction * mean_transmission[:, :, cell])
        entering_fraction = entering_fraction * cell_transmission[:, :, cell] + MIN_CELL_PHOTONS
    entering_transmission = xp.stack(transmission_by_cell, axis=2)
    return xp.reshape(entering_transmission, (depth.shape[0], -1, depth.shape[2]))


def transmission_from_cells(depth: Array, n_cells: int) -> Array:
    """Return the (n, c, p) mean transmission from cells to the surface, given (n, j, p) optical depths of layers."""
    return transmission_to_cells(depth, limited_transmission(optical_depth_above(depth)), n_cells)


def secondary_excitation(
    batch: Batch, exciting: ExcitingGroups, excited_cells: ExcitedCells, excited_photons: Array
) -> Array:
    """Return the (n, c, m) photons of each exciting group, given the (n, c, p) photons of excited lines."""
    xp = array_namespace(excited_photons)
    is_in_group = xp.astype(exciting.line_fraction > 0, excited_photons.dtype)
    return (excited_photons * repeat_for_cells(batch.concentration, excited_cells.n_cells)) @ is_in_group


def leaving_photons(batch: Batch, excited_cells: ExcitedCells, excited_photons: Array) -> Array:
    """Of the photons excited in the cells, return the (n, j, p) photons that leave towards the detector."""
    return sum_over_cells(excited_photons * excited_cells.escape, excited_cells.n_cells) * batch.concentration


def sum_over_cells(values: Array, n_cells: int) -> Array:
    """Sum (n, c, ...) values over the cells of each layer; return (n, j, ...) values."""
    xp = array_namespace(values)
    return xp.sum(xp.reshape(values, (values.shape[0], -1, n_cells, *values.shape[2:])), axis=2)


def photons_of_all_lines(batch: Batch, photons: Array) -> Array:
    """Arrange (n, j, p) photons of the samples' lines in an (n, j, n_line) array of all lines."""
    xp = array_namespace(photons)
    sample_index, layer_index, line_position = xp.nonzero(batch.concentration > 0)
    all_lines = xp.zeros_like(batch.normal_depth)
    all_lines[sample_index, layer_index, batch.line_index[sample_index, line_position]] = photons[
        sample_index, layer_index, line_position
    ]
    return all_lines


def values_for_all_lines(batch: Batch, values: Array) -> Array:
    """Arrange (n, p) values of the samples' lines in an (n, n_line) array of all lines."""
    xp = array_namespace(values)
    all_lines = xp.zeros_like(batch.normal_depth[:, 0])
    sample_index, line_position = xp.nonzero(xp.any(batch.concentration > 0, axis=1))
    all_lines[sample_index, batch.line_index[sample_index, line_position]] = values[sample_index, line_position]
    return all_lines


def _strongest_groups(batch: Batch, min_gain: float) -> tuple[Array, Array]:
    """Return the (n, m) indices of exciting groups, and a mask that is one for groups and zero for padding.

    Groups are selected by the largest relative gain, before absorption, that they can add to the primary excitation of
    any line. A weak group is included if no other group excites an element.
    """
    xp = array_namespace(batch.beam_depth)
    excitation, stack = batch.excitation, batch.stack
    is_present = values_for_all_lines(batch, xp.ones_like(batch.concentration[:, 0]))
    max_gain = excitation.gain_scale * (is_present @ excitation.relative_gain) ** (1.0 / POWER_MEAN_EXPONENT)
    exciting_element = batch.setting.exciting_element
    _, mean_transmission = transmission(
        (stack.fractions @ excitation.group_attenuation) * stack.areal_density[:, :, None]
    )
    emitting_mass = xp.sum(
        stack.areal_density[:, :, None] * stack.fractions[:, :, exciting_element] * mean_transmission, axis=1
    )
    group_strength = max_gain * emitting_mass
    brightness = excitation.beam_production * emitting_mass
    # bright groups are always included, since their scatter adds 1-3 % to lines
    brightness = (
        brightness
        / (xp.max(brightness, axis=1, keepdims=True) + MIN_DENOMINATOR)
        * (min_gain / MIN_RELATIVE_BRIGHTNESS)
    )
    group_strength = xp.where(brightness > group_strength, brightness, group_strength)
    is_followed = group_strength > min_gain
    n_groups = max(int(xp.max(xp.sum(xp.astype(is_followed, xp.int64), axis=1))), 1)
    strongest_indices = xp.argsort(-group_strength, axis=1, stable=True)[:, :n_groups]
    return strongest_indices, xp.astype(
        xp.take_along_axis(is_followed, strongest_indices, axis=1), batch.beam_depth.dtype
    )


def _lines_by_sample(stack: Stack, setting: Setting) -> tuple[Array, Array]:
    """Return the (n, p) indices of each sample's lines, and a mask that is one for lines and zero for padding."""
    xp = array_namespace(stack.areal_density)
    has_element = xp.max(stack.fractions * stack.areal_density[:, :, None], axis=1) > 0
    excitable = xp.any(setting.production > 0, axis=1)
    is_present = has_element[:, setting.line_element] & excitable
    n_lines = max(int(xp.max(xp.sum(xp.astype(is_present, xp.int64), axis=1))), 1)
    line_indices = xp.argsort(xp.astype(is_present, xp.int64), axis=1, stable=True, descending=True)[:, :n_lines]
    return line_indices, xp.astype(xp.take_along_axis(is_present, line_indices, axis=1), stack.areal_density.dtype)


def take_by_sample(values: Array, sample_line_index: Array) -> Array:
    """Return the (n, j, p) entries of (n, j, n_all) values at the (n, p) indices of each sample."""
    xp = array_namespace(values)
    result_shape = (values.shape[0], values.shape[1], sample_line_index.shape[1])
    return xp.take_along_axis(values, xp.broadcast_to(sample_line_index[:, None, :], result_shape), axis=2)


def _flatten_layers(layer_values: Array) -> Array:
    return array_namespace(layer_values).reshape(layer_values, (-1, layer_values.shape[2]))


def _row_chunks(n_rows: int) -> list[slice]:
    return [slice(first_row, first_row + ROWS_PER_CHUNK) for first_row in range(0, n_rows, ROWS_PER_CHUNK)]
