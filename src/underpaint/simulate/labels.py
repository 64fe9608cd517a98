"""Labels of simulated spectra, and the total counts that a spectrum needs before each label is detectable."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.data.maps import PLACES, Place, at_place, split_place
from underpaint.physics.forward import Emission, counts_needed, efficiency
from underpaint.physics.instrument import Detector
from underpaint.physics.materials import Stratigraphy, library, pigment_share
from underpaint.simulate.outputs import Outputs, families_of, group_element, label_matrix

MAX_SCAN_COUNTS = 1e15
"""Total counts that no scan reaches. A label that needs more counts is never detectable."""
MODEL_ERROR = 0.02
"""Relative error that limits of detection assume for the background below lines."""
DETECTABLE_SIGMAS, UNDETECTABLE_SIGMAS = 3.0, 0.7
"""Significances in standard deviations: lines above the first are detectable, and lines below the second are not."""


def pigments_in(stratigraphy: Stratigraphy) -> set[str]:
    """Return the names of all pigments in a stratigraphy, ground included, each with the places where it occurs."""
    return {
        at_place(name, place)
        for place in PLACES
        for layer_index in layers_at(stratigraphy, place)
        for name in stratigraphy.layers[layer_index].pigments
    }


def layers_at(stratigraphy: Stratigraphy, place: Place) -> list[int]:
    """Return the indices of the layers with pigments at a place, counted from the surface."""
    paint_layers = [layer_index for layer_index, layer in enumerate(stratigraphy.layers) if layer.pigments]
    return {"anywhere": paint_layers, "surface": paint_layers[:1], "below": paint_layers[1:]}[place]


def surface_thickness_um(stratigraphies: Sequence[Stratigraphy]) -> NDArray[np.float32]:
    """Return the (n_sample,) thickness of the uppermost paint layer in um, or NaN for samples without paint."""
    uppermost_layers = [
        stratigraphy.layers[layers[0]] if (layers := layers_at(stratigraphy, "surface")) else None
        for stratigraphy in stratigraphies
    ]
    return np.asarray([np.nan if layer is None else layer.thickness_um for layer in uppermost_layers], dtype=np.float32)


def surface_shares(stratigraphies: Sequence[Stratigraphy], outputs: Outputs) -> NDArray[np.float32]:
    """Return the (n_sample, n_material) mass fractions of pigments and groups in the dry pigments at the surface.

    The columns are the names of ``outputs`` without places. The fraction of a group is the sum over its members. A
    pigment that belongs to two groups counts fully in both.
    """
    column_by_material = {material: material_index for material_index, material in enumerate(materials(outputs.names))}
    mass_fractions = np.zeros((len(stratigraphies), len(column_by_material)), dtype=np.float32)
    for sample_index, stratigraphy in enumerate(stratigraphies):
        for layer_index in layers_at(stratigraphy, "surface"):
            pigments = stratigraphy.layers[layer_index].pigments
            pigment_sum = sum(pigments.values())
            for material, fraction in pigments.items():
                for label in {material, *library()[material].groups} & column_by_material.keys():
                    mass_fractions[sample_index, column_by_material[label]] += fraction / pigment_sum
    return mass_fractions


def group_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return those output names that are groups. Places are kept."""
    library_groups = {group.name for group in library().groups}
    return tuple(name for name in names if split_place(name)[0] in library_groups)


def element_shares(stratigraphies: Sequence[Stratigraphy], names: Sequence[str]) -> NDArray[np.float32]:
    """Return the mass fraction of each group's element in the layers at the group's place.

    Parameters
    ----------
    stratigraphies : sequence of Stratigraphy
    names : sequence of str
        Names of groups, with places.

    Returns
    -------
    (n_sample, n_name) array
        Largest mass fraction of the element in any paint or ground layer at the place. Pigments and traces contribute.
        The fraction is zero if the element is absent.
    """
    mass_fractions = np.zeros((len(stratigraphies), len(names)), dtype=np.float32)
    elements_and_places = [(group_element(group), place) for group, place in map(split_place, names)]
    for sample_index, stratigraphy in enumerate(stratigraphies):
        fractions_by_place = {
            place: [stratigraphy.layers[layer_index].mass_fractions for layer_index in layers_at(stratigraphy, place)]
            for place in PLACES
        }
        mass_fractions[sample_index] = [
            max((fractions.get(element, 0.0) for fractions in fractions_by_place[place]), default=0.0)
            for element, place in elements_and_places
        ]
    return mass_fractions


def lines_needed(
    stratigraphies: Sequence[Stratigraphy],
    emission: Emission,
    expected_counts: NDArray[np.floating],
    names: Sequence[str],
    detector: Detector,
    axis: EnergyAxis,
    added_lines: Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating]]] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the total counts that a spectrum needs before the lines of each group's element are detectable.

    The element's lines count whether they come from pigments, traces, support or instrument. For the place "surface",
    only lines from the uppermost paint layer count. For the place "below", only lines from lower layers count. The
    relative error of the background is ``MODEL_ERROR``.

    Parameters
    ----------
    stratigraphies : sequence of Stratigraphy
    emission : Emission
        Emission of the stratigraphies.
    expected_counts : (n_sample, n_channel) array
        Expected counts on ``axis``, on any scale, rendered from ``emission`` with ``detector``.
    names : sequence of str
        Names of groups, with places.
    detector : Detector
    axis : EnergyAxis
    added_lines : mapping of str to ((n_line,) array, (n_sample, n_line) array), optional
        Energies (keV) and counts of the lines that the instrument adds, by family.

    Returns
    -------
    needed : (n_sample, n_name) float32 array
        Total counts above which the significance of the lines exceeds ``DETECTABLE_SIGMAS``. Infinity if the lines
        never become that significant.
    undetectable : (n_sample, n_name) float32 array
        Total counts below which the significance of the lines is less than ``UNDETECTABLE_SIGMAS``. Infinity if the
        lines are always less significant. Both arrays are NaN for samples that emit no photons of the group's lines.
    """
    photons = emission.layer_photons * efficiency(detector, emission.lines.energy_kev)
    line_limits = np.full((2, len(stratigraphies), len(names)), np.nan, dtype=np.float32)
    instrument_lines = added_lines or {}
    place_masks = {place: _place_mask(stratigraphies, photons.shape[1], place) for place in PLACES}
    for name_index, (group, place) in enumerate(map(split_place, names)):
        families = families_of((group,))
        is_group_line = np.isin(np.asarray(emission.lines.family), families)
        extra_lines = [
            instrument_lines[family] for family in families if place == "anywhere" and family in instrument_lines
        ]
        line_counts = np.concatenate(
            [
                np.einsum("nl,nlm->nm", place_masks[place], photons[:, :, is_group_line]),
                *(extra_counts for _, extra_counts in extra_lines),
            ],
            axis=1,
        )
        energy_kev = np.concatenate(
            [emission.lines.energy_kev[is_group_line], *(extra_energies_kev for extra_energies_kev, _ in extra_lines)]
        )
        sample_indices = np.flatnonzero(line_counts.sum(axis=1) > 0)
        for limit_index, sigmas in enumerate((DETECTABLE_SIGMAS, UNDETECTABLE_SIGMAS) if sample_indices.size else ()):
            counts = counts_needed(
                line_counts[sample_indices],
                energy_kev,
                expected_counts[sample_indices],
                axis,
                detector,
                model_error=MODEL_ERROR,
                sigmas=sigmas,
            )
            line_limits[limit_index, sample_indices, name_index] = np.where(counts < MAX_SCAN_COUNTS, counts, np.inf)
    return line_limits[0], line_limits[1]


def labels_by_lines(
    names: Sequence[str],
    labels: NDArray[np.uint8],
    counts: NDArray[np.float32],
    detection_limits: NDArray[np.float32],
    absence_limits: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Return labels in which a group is present if its element has lines from any source.

    Parameters
    ----------
    names : sequence of str
        Names of all outputs. The outputs that are groups are the columns of the two limits.
    labels, counts : (n_sample, n_name) arrays
        Results of :func:`visibility`. The results for pigments are returned unchanged.
    detection_limits, absence_limits : (n_sample, n_group) arrays
        Results of :func:`lines_needed`.

    Returns
    -------
    labels : (n_sample, n_name) array
        One if the group or pigment is present, else zero.
    counts : (n_sample, n_name) array
        Total counts above which a present group or pigment is detectable.
    max_absent_counts : (n_sample, n_name) array
        Total counts below which the group or pigment counts as absent (:func:`present_at`).
    """
    group_columns = [list(names).index(name) for name in group_names(names)]
    labels, counts, max_absent_counts = labels.copy(), counts.copy(), np.zeros_like(counts)
    labels[:, group_columns] = ~np.isnan(detection_limits)
    counts[:, group_columns] = np.nan_to_num(detection_limits, nan=np.inf, posinf=np.inf)
    max_absent_counts[:, group_columns] = np.nan_to_num(absence_limits, nan=0.0, posinf=np.inf)
    return labels, counts, max_absent_counts


def present_at(
    labels: NDArray[np.uint8], max_absent_counts: NDArray[np.floating] | None, counts: NDArray[np.floating] | float
) -> NDArray[np.bool_]:
    """Return which labels count as present in spectra with the given total counts: an (n_sample, n_name) mask."""
    is_present = labels == 1
    return np.asarray(is_present if max_absent_counts is None else is_present & ~(max_absent_counts >= counts))


def visible_labels(
    stratigraphies: Sequence[Stratigraphy],
    emission: Emission,
    expected_counts: NDArray[np.floating],
    outputs: Outputs,
    detector: Detector,
    axis: EnergyAxis,
    *,
    by_lines: bool,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Return labels, detection limits and absence limits. Each is an (n_sample, n_name) array.

    If ``by_lines``, the results come from :func:`labels_by_lines`. Otherwise the results come from :func:`visibility`,
    and all absence limits are zero.
    """
    labels, counts = visibility(stratigraphies, emission, expected_counts, outputs, detector, axis)
    if not by_lines:
        return labels, counts, np.zeros_like(counts)
    groups = group_names(outputs.names)
    limits = lines_needed(stratigraphies, emission, expected_counts, groups, detector, axis)
    return labels_by_lines(outputs.names, labels, counts, *limits)


def _place_mask(stratigraphies: Sequence[Stratigraphy], n_layer: int, place: Place) -> NDArray[np.float64]:
    """Return an (n_sample, n_layer) array: one for layers at a place, zero for all others. Supports count as layers."""
    layer_index = np.arange(n_layer)
    uppermost_layers = np.asarray(
        [next(iter(layers_at(stratigraphy, "surface")), n_layer) for stratigraphy in stratigraphies]
    )[:, None]
    layer_mask = {
        "anywhere": layer_index >= 0,
        "surface": layer_index == uppermost_layers,
        "below": layer_index > uppermost_layers,
    }[place]
    return np.broadcast_to(layer_mask, (len(stratigraphies), n_layer)).astype(np.float64)


def materials(names: Sequence[str]) -> tuple[str, ...]:
    """Return the pigments and groups in output names, without places and duplicates."""
    return tuple(dict.fromkeys(split_place(name)[0] for name in names))


def visibility(
    stratigraphies: Sequence[Stratigraphy],
    emission: Emission,
    expected_counts: NDArray[np.floating],
    outputs: Outputs,
    detector: Detector,
    axis: EnergyAxis,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the labels of each spectrum, and the total counts at which each label becomes detectable.

    A label is detectable if the counts of its key lines exceed ``3 sqrt(2 B)`` for B background counts below these
    lines. If the lines are a fraction s of all counts, and the background a fraction b, ``18 b / s**2`` counts are
    needed. A pigment of several groups is detectable only if all its groups are. If a label names a place, only lines
    from the layers at this place count.

    Parameters
    ----------
    stratigraphies : sequence of Stratigraphy
    emission : Emission
        Emission of the stratigraphies.
    expected_counts : (n_sample, n_channel) array
        Expected counts on ``axis``, on any scale, rendered from ``emission`` with ``detector``.
    outputs : Outputs
        Network outputs to label.
    detector : Detector
    axis : EnergyAxis

    Returns
    -------
    labels : (n_sample, n_name) uint8 array
        One if the group or pigment is present, else zero.
    counts : (n_sample, n_name) float32 array
        Total counts needed within the recorded range. Infinity if the pigment or group is absent or never detectable.
    """
    labels = label_matrix([pigments_in(stratigraphy) for stratigraphy in stratigraphies], outputs)
    label_counts = np.full(labels.shape, np.inf, dtype=np.float32)
    line_counts = emission.layer_photons * efficiency(detector, emission.lines.energy_kev)
    for name_index, name in enumerate(outputs.names):
        sample_indices = np.flatnonzero(labels[:, name_index])
        if sample_indices.size:
            counts = _counts_for_label(
                name, sample_indices, stratigraphies, line_counts, expected_counts, emission, outputs, detector, axis
            )
            # a label that needs more counts than any scan has is never detectable
            label_counts[sample_indices, name_index] = np.where(counts < MAX_SCAN_COUNTS, counts, np.inf)
    return labels, label_counts


def _counts_for_label(
    name: str,
    sample_indices: NDArray[np.intp],
    stratigraphies: Sequence[Stratigraphy],
    line_counts: NDArray[np.floating],
    expected_counts: NDArray[np.floating],
    emission: Emission,
    outputs: Outputs,
    detector: Detector,
    axis: EnergyAxis,
) -> NDArray[np.float64]:
    max_counts = np.zeros(sample_indices.size)
    material, place = split_place(name)
    for group in (split_place(label)[0] for label in outputs.groups[outputs.index(name)]):
        is_group_line = np.isin(np.asarray(emission.lines.family), families_of((group,)))
        element_fraction = element_share(
            material,
            group,
            [stratigraphies[sample_index] for sample_index in sample_indices],
            line_counts.shape[1],
            place,
        )
        line_counts_of_group = np.einsum(
            "nl,nlm->nm", element_fraction, line_counts[sample_indices][:, :, is_group_line]
        )
        energy_kev = emission.lines.energy_kev[is_group_line]
        max_counts = np.maximum(
            max_counts, counts_needed(line_counts_of_group, energy_kev, expected_counts[sample_indices], axis, detector)
        )
    return max_counts


def element_share(
    name: str, group: str, stratigraphies: Sequence[Stratigraphy], n_layer: int, place: Place = "anywhere"
) -> NDArray[np.float64]:
    """Return the part of a group's element in each layer that comes from one pigment or group: (n_sample, n_layer)."""
    element = group_element(group)
    element_fraction = np.zeros((len(stratigraphies), n_layer))
    for sample_index, stratigraphy in enumerate(stratigraphies):
        for layer_index in layers_at(stratigraphy, place):
            fraction_by_pigment = pigment_share(stratigraphy.layers[layer_index], element)
            element_fraction[sample_index, layer_index] = sum(
                pigment_fraction
                for pigment, pigment_fraction in fraction_by_pigment.items()
                if _is_member(pigment, name, group)
            )
    return element_fraction


def _is_member(pigment: str, name: str, group: str) -> bool:
    return pigment == name or (name == group and group in library()[pigment].groups)
