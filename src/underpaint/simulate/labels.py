"""Labels of simulated spectra, and the total counts at which each label is detectable."""

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
"""Total counts that no scan reaches; labels that need more are never detectable."""
MODEL_ERROR = 0.02
"""Relative error of the background under lines, for limits of detection."""
DETECTABLE_SIGMAS, UNDETECTABLE_SIGMAS = 3.0, 0.7
"""Significance, in standard deviations, above which lines are detectable, and below which they are not."""


def pigments_in(stratigraphy: Stratigraphy) -> set[str]:
    """Return the names of all pigments of a stratigraphy, ground included, combined with each place."""
    return {
        at_place(name, place)
        for place in PLACES
        for layer_index in layers_at(stratigraphy, place)
        for name in stratigraphy.layers[layer_index].pigments
    }


def layers_at(stratigraphy: Stratigraphy, place: Place) -> list[int]:
    """Return the indices, from the top, of the layers at a place; only layers with pigments count."""
    paint_layers = [layer_index for layer_index, layer in enumerate(stratigraphy.layers) if layer.pigments]
    return {"anywhere": paint_layers, "surface": paint_layers[:1], "below": paint_layers[1:]}[place]


def surface_thickness_um(stratigraphies: Sequence[Stratigraphy]) -> NDArray[np.float32]:
    """Return the (n_sample,) thickness of the uppermost paint layer, in um; NaN without paint."""
    uppermost = [
        stratigraphy.layers[layers[0]] if (layers := layers_at(stratigraphy, "surface")) else None
        for stratigraphy in stratigraphies
    ]
    return np.asarray([np.nan if layer is None else layer.thickness_um for layer in uppermost], dtype=np.float32)


def surface_shares(stratigraphies: Sequence[Stratigraphy], outputs: Outputs) -> NDArray[np.float32]:
    """Return the (n_sample, n_material) mass fraction of each material in the dry pigments at the surface.

    The materials are the names of ``outputs`` without their place. The fraction of a group is the sum over its members;
    a pigment of two groups counts fully in both.
    """
    column_by_name = {name: index for index, name in enumerate(materials(outputs.names))}
    mass_fractions = np.zeros((len(stratigraphies), len(column_by_name)), dtype=np.float32)
    for sample, stratigraphy in enumerate(stratigraphies):
        for layer_index in layers_at(stratigraphy, "surface"):
            pigments = stratigraphy.layers[layer_index].pigments
            total = sum(pigments.values())
            for name, fraction in pigments.items():
                for label in {name, *library()[name].groups} & column_by_name.keys():
                    mass_fractions[sample, column_by_name[label]] += fraction / total
    return mass_fractions


def group_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, with places, that are groups."""
    groups = {group.name for group in library().groups}
    return tuple(name for name in names if split_place(name)[0] in groups)


def element_shares(stratigraphies: Sequence[Stratigraphy], names: Sequence[str]) -> NDArray[np.float32]:
    """Return the mass fraction of each group's element in the dry paint at the group's place.

    Parameters
    ----------
    stratigraphies : sequence of Stratigraphy
    names : sequence of str
        Names of groups, with places.

    Returns
    -------
    (n_sample, n_name) array
        Largest mass fraction over the paint and ground layers at the place, from pigments and traces; zero if absent.
    """
    mass_fractions = np.zeros((len(stratigraphies), len(names)), dtype=np.float32)
    elements = [(group_element(group), place) for group, place in map(split_place, names)]
    for sample, stratigraphy in enumerate(stratigraphies):
        fractions_at = {
            place: [stratigraphy.layers[layer_index].mass_fractions for layer_index in layers_at(stratigraphy, place)]
            for place in PLACES
        }
        mass_fractions[sample] = [
            max((fractions.get(element, 0.0) for fractions in fractions_at[place]), default=0.0)
            for element, place in elements
        ]
    return mass_fractions


def lines_needed(
    stratigraphies: Sequence[Stratigraphy],
    emission: Emission,
    expected_counts: NDArray[np.floating],
    names: Sequence[str],
    detector: Detector,
    axis: EnergyAxis,
    added: Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating]]] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the total counts at which the lines of each group's element become detectable.

    All lines of the element count, from pigments, traces, support and instrument. For the place "surface" only lines
    from the uppermost paint layer count, for "below" lines from all lower layers. The relative error of the background
    is ``MODEL_ERROR``.

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
    added : mapping of str to ((n_line,) array, (n_sample, n_line) array), optional
        Energies (keV) and counts of lines from the instrument, by family.

    Returns
    -------
    needed : (n_sample, n_name) float32 array
        Counts above which the lines exceed ``DETECTABLE_SIGMAS``; infinite if they never do.
    undetectable : (n_sample, n_name) float32 array
        Counts below which the lines are under ``UNDETECTABLE_SIGMAS``; infinite if they always are. Both arrays are NaN
        for samples without photons of these lines.
    """
    photons = emission.layer_photons * efficiency(detector, emission.lines.energy_kev)
    limits = np.full((2, len(stratigraphies), len(names)), np.nan, dtype=np.float32)
    instrument_lines = added or {}
    place_masks = {place: _place_mask(stratigraphies, photons.shape[1], place) for place in PLACES}
    for column, (group, place) in enumerate(map(split_place, names)):
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
            [emission.lines.energy_kev[is_group_line], *(extra_kev for extra_kev, _ in extra_lines)]
        )
        samples = np.flatnonzero(line_counts.sum(axis=1) > 0)
        for limit_index, sigmas in enumerate((DETECTABLE_SIGMAS, UNDETECTABLE_SIGMAS) if samples.size else ()):
            counts = counts_needed(
                line_counts[samples],
                energy_kev,
                expected_counts[samples],
                axis,
                detector,
                model_error=MODEL_ERROR,
                sigmas=sigmas,
            )
            limits[limit_index, samples, column] = np.where(counts < MAX_SCAN_COUNTS, counts, np.inf)
    return limits[0], limits[1]


def labels_by_lines(
    names: Sequence[str],
    labels: NDArray[np.uint8],
    counts: NDArray[np.float32],
    detection_limits: NDArray[np.float32],
    absence_limits: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Return labels in which a group is present where its element has lines, from any source.

    Parameters
    ----------
    names : sequence of str
        Names of all outputs; the groups among them are the columns of the two limits.
    labels, counts : (n_sample, n_name) arrays
        Results of :func:`visibility`; those of pigments are kept.
    detection_limits, absence_limits : (n_sample, n_group) arrays
        Results of :func:`lines_needed`.

    Returns
    -------
    labels : (n_sample, n_name) array
        One for present outputs.
    counts : (n_sample, n_name) array
        Total counts above which a present label is detectable.
    max_absent_counts : (n_sample, n_name) array
        Total counts below which the label counts as absent (:func:`present_at`).
    """
    columns = [list(names).index(name) for name in group_names(names)]
    labels, counts, max_absent_counts = labels.copy(), counts.copy(), np.zeros_like(counts)
    labels[:, columns] = ~np.isnan(detection_limits)
    counts[:, columns] = np.nan_to_num(detection_limits, nan=np.inf, posinf=np.inf)
    max_absent_counts[:, columns] = np.nan_to_num(absence_limits, nan=0.0, posinf=np.inf)
    return labels, counts, max_absent_counts


def present_at(
    labels: NDArray[np.uint8], max_absent_counts: NDArray[np.floating] | None, counts: NDArray[np.floating] | float
) -> NDArray[np.bool_]:
    """Return the (n_sample, n_name) mask of labels that count as present at (n_sample, 1) total counts."""
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
    lines: bool,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Return labels, detection limits and absence limits, (n_sample, n_name) each.

    They are those of :func:`labels_by_lines` if ``lines``, else those of :func:`visibility` with absence limits of
    zero.
    """
    labels, counts = visibility(stratigraphies, emission, expected_counts, outputs, detector, axis)
    if not lines:
        return labels, counts, np.zeros_like(counts)
    groups = group_names(outputs.names)
    limits = lines_needed(stratigraphies, emission, expected_counts, groups, detector, axis)
    return labels_by_lines(outputs.names, labels, counts, *limits)


def _place_mask(stratigraphies: Sequence[Stratigraphy], n_layer: int, place: Place) -> NDArray[np.float64]:
    """Return an (n_sample, n_layer) array: one for layers at a place, supports included, else zero."""
    layer_index = np.arange(n_layer)
    uppermost = np.asarray(
        [next(iter(layers_at(stratigraphy, "surface")), n_layer) for stratigraphy in stratigraphies]
    )[:, None]
    mask = {"anywhere": layer_index >= 0, "surface": layer_index == uppermost, "below": layer_index > uppermost}[place]
    return np.broadcast_to(mask, (len(stratigraphies), n_layer)).astype(np.float64)


def materials(names: Sequence[str]) -> tuple[str, ...]:
    """Return the pigments and groups among output names, without places."""
    return tuple(dict.fromkeys(split_place(name)[0] for name in names))


def visibility(
    stratigraphies: Sequence[Stratigraphy],
    emission: Emission,
    expected_counts: NDArray[np.floating],
    outputs: Outputs,
    detector: Detector,
    axis: EnergyAxis,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the labels, and the total counts at which each label is detectable.

    A label is detectable when the counts of its key lines exceed ``3 sqrt(2 B)``, B being the other counts under these
    lines. With the fractions s and b of lines and background in the spectrum, this needs ``18 b / s**2`` total counts.
    A pigment of several groups is detectable when all its groups are. For a place, only lines from its layers count.

    Parameters
    ----------
    stratigraphies : sequence of Stratigraphy
    emission : Emission
        Emission of the stratigraphies.
    expected_counts : (n_sample, n_channel) array
        Expected counts on ``axis``, on any scale, rendered from ``emission`` with ``detector``.
    outputs : Outputs
        Outputs to label.
    detector : Detector
    axis : EnergyAxis

    Returns
    -------
    labels : (n_sample, n_name) uint8 array
        One for present outputs.
    counts : (n_sample, n_name) float32 array
        Total counts within the recorded range; infinite if the label is absent or never detectable.
    """
    labels = label_matrix([pigments_in(stratigraphy) for stratigraphy in stratigraphies], outputs)
    label_counts = np.full(labels.shape, np.inf, dtype=np.float32)
    line_counts = emission.layer_photons * efficiency(detector, emission.lines.energy_kev)
    for column, name in enumerate(outputs.names):
        samples = np.flatnonzero(labels[:, column])
        if samples.size:
            counts = _counts_for_label(
                name, samples, stratigraphies, line_counts, expected_counts, emission, outputs, detector, axis
            )
            # labels that need more counts than any scan has are never detectable
            label_counts[samples, column] = np.where(counts < MAX_SCAN_COUNTS, counts, np.inf)
    return labels, label_counts


def _counts_for_label(
    name: str,
    samples: NDArray[np.intp],
    stratigraphies: Sequence[Stratigraphy],
    line_counts: NDArray[np.floating],
    expected_counts: NDArray[np.floating],
    emission: Emission,
    outputs: Outputs,
    detector: Detector,
    axis: EnergyAxis,
) -> NDArray[np.float64]:
    max_counts = np.zeros(samples.size)
    material, place = split_place(name)
    for group in (split_place(label)[0] for label in outputs.groups[outputs.index(name)]):
        is_group_line = np.isin(np.asarray(emission.lines.family), families_of((group,)))
        element_fraction = element_share(
            material, group, [stratigraphies[sample] for sample in samples], line_counts.shape[1], place
        )
        line_counts_of_group = np.einsum("nl,nlm->nm", element_fraction, line_counts[samples][:, :, is_group_line])
        energy_kev = emission.lines.energy_kev[is_group_line]
        max_counts = np.maximum(
            max_counts, counts_needed(line_counts_of_group, energy_kev, expected_counts[samples], axis, detector)
        )
    return max_counts


def element_share(
    name: str, group: str, stratigraphies: Sequence[Stratigraphy], n_layer: int, place: Place = "anywhere"
) -> NDArray[np.float64]:
    """Return the (n_sample, n_layer) fraction of a group's element that is due to a pigment or group, at a place."""
    element = group_element(group)
    element_fraction = np.zeros((len(stratigraphies), n_layer))
    for sample, stratigraphy in enumerate(stratigraphies):
        for layer_index in layers_at(stratigraphy, place):
            fraction_by_pigment = pigment_share(stratigraphy.layers[layer_index], element)
            element_fraction[sample, layer_index] = sum(
                pigment_fraction
                for key, pigment_fraction in fraction_by_pigment.items()
                if _is_member(key, name, group)
            )
    return element_fraction


def _is_member(pigment: str, name: str, group: str) -> bool:
    return pigment == name or (name == group and group in library()[pigment].groups)
