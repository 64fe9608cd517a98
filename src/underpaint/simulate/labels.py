"""Labels and the counts at which each becomes visible, from the forward model's own bookkeeping."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.data.maps import PLACES, Place, at_place, split_place
from underpaint.physics.forward import Emission, counts_needed, efficiency
from underpaint.physics.instrument import Detector
from underpaint.physics.materials import Stratigraphy, library, pigment_share
from underpaint.simulate.outputs import Outputs, families_of, group_element, label_matrix

NEVER = 1e15
"""Counts that no scan collects."""
MODEL_ERROR = 0.02
"""Relative error of what lies under lines, by which it is judged whether they show."""
SHOWN_SIGMAS, HIDDEN_SIGMAS = 3.0, 0.7
"""How far lines rise over what lies under them where they show, and up to which they do not."""


def pigments_in(stratigraphy: Stratigraphy) -> set[str]:
    """Return the names of all pigments in a stratigraphy, the ground included, for every place where they are."""
    return {
        at_place(name, place)
        for place in PLACES
        for depth in layers_at(stratigraphy, place)
        for name in stratigraphy.layers[depth].pigments
    }


def layers_at(stratigraphy: Stratigraphy, place: Place) -> list[int]:
    """Return the layers of paint or ground at a place, by their number from the top; varnish and support are none."""
    painted = [depth for depth, layer in enumerate(stratigraphy.layers) if layer.pigments]
    return {"anywhere": painted, "surface": painted[:1], "below": painted[1:]}[place]


def surface_thickness_um(stratigraphies: Sequence[Stratigraphy]) -> NDArray[np.float32]:
    """Return (n_sample,) the thickness of the uppermost layer of paint, um; NaN where there is none."""
    top = [entry.layers[layers[0]] if (layers := layers_at(entry, "surface")) else None for entry in stratigraphies]
    return np.asarray([np.nan if layer is None else layer.thickness_um for layer in top], dtype=np.float32)


def surface_shares(stratigraphies: Sequence[Stratigraphy], outputs: Outputs) -> NDArray[np.float32]:
    """Return (n_sample, n_material) what each material brings to the mass of the dry pigments at the surface.

    The materials are those that ``outputs`` names without a place. A group's share is that of its members; a pigment
    of two groups counts wholly in both.
    """
    column = {name: index for index, name in enumerate(materials(outputs.names))}
    shares = np.zeros((len(stratigraphies), len(column)), dtype=np.float32)
    for row, stratigraphy in enumerate(stratigraphies):
        for depth in layers_at(stratigraphy, "surface"):
            pigments = stratigraphy.layers[depth].pigments
            total = sum(pigments.values())
            for name, fraction in pigments.items():
                for own in {name, *library()[name].groups} & column.keys():
                    shares[row, column[own]] += fraction / total
    return shares


def group_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return those names, places included, that are groups."""
    groups = {group.name for group in library().groups}
    return tuple(name for name in names if split_place(name)[0] in groups)


def element_shares(stratigraphies: Sequence[Stratigraphy], names: Sequence[str]) -> NDArray[np.float32]:
    """Return (n_sample, n_name) the mass share of each group's element in the dry paint at a place.

    Parameters
    ----------
    stratigraphies : sequence of Stratigraphy
    names : sequence of str
        Groups, with places.

    Returns
    -------
    (n_sample, n_name) array
        The largest of the layers at the place, ground included, support and varnish not; pigment, companion and trace
        together. Zero where there is none.
    """
    shares = np.zeros((len(stratigraphies), len(names)), dtype=np.float32)
    elements = [(group_element(group), place) for group, place in map(split_place, names)]
    for row, stratigraphy in enumerate(stratigraphies):
        layers = {
            place: [stratigraphy.layers[depth].mass_fractions for depth in layers_at(stratigraphy, place)]
            for place in PLACES
        }
        shares[row] = [
            max((fractions.get(element, 0.0) for fractions in layers[place]), default=0.0)
            for element, place in elements
        ]
    return shares


def lines_needed(
    stratigraphies: Sequence[Stratigraphy],
    emission: Emission,
    expected: NDArray[np.floating],
    names: Sequence[str],
    detector: Detector,
    axis: EnergyAxis,
    added: Mapping[str, tuple[NDArray[np.floating], NDArray[np.floating]]] | None = None,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return total counts from which the lines of each group's element show, whatever brings them, and up to which not.

    Paint, ground, trace, support and the instrument count alike; at the surface the uppermost layer of paint, below it
    every layer under that one, the support among them. What lies under the lines is known to 2 % (``MODEL_ERROR``).

    Parameters
    ----------
    expected : (n_sample, n_channel) array
        Expected counts on ``axis``, any scale, made from ``emission`` with ``detector``.
    names : sequence of str
        Groups, with places.
    added : mapping of str to ((n_line,) array, (n_sample, n_line) array), optional
        By family, energies (keV) and counts of lines that the instrument itself brings.

    Returns
    -------
    needed, hidden : (n_sample, n_name) float32 arrays
        From ``needed`` counts on the lines rise by ``SHOWN_SIGMAS``, up to ``hidden`` by less than ``HIDDEN_SIGMAS``.
        Infinite for never, and for ever; NaN where there is no photon of these lines.
    """
    photons = emission.layer_photons * efficiency(detector, emission.lines.energy_kev)
    needed = np.full((2, len(stratigraphies), len(names)), np.nan, dtype=np.float32)
    of_instrument = added or {}
    layers = {place: _layers_seen(stratigraphies, photons.shape[1], place) for place in PLACES}
    for column, (group, place) in enumerate(map(split_place, names)):
        families = families_of((group,))
        chosen = np.isin(np.asarray(emission.lines.family), families)
        extra = [of_instrument[family] for family in families if place == "anywhere" and family in of_instrument]
        lines = np.concatenate(
            [np.einsum("nl,nlm->nm", layers[place], photons[:, :, chosen]), *(photons_of for _, photons_of in extra)],
            axis=1,
        )
        energy = np.concatenate([emission.lines.energy_kev[chosen], *(line_kev for line_kev, _ in extra)])
        rows = np.flatnonzero(lines.sum(axis=1) > 0)
        for level, sigmas in enumerate((SHOWN_SIGMAS, HIDDEN_SIGMAS) if rows.size else ()):
            counts = counts_needed(
                lines[rows], energy, expected[rows], axis, detector, model_error=MODEL_ERROR, sigmas=sigmas
            )
            needed[level, rows, column] = np.where(counts < NEVER, counts, np.inf)
    return needed[0], needed[1]


def labels_by_lines(
    names: Sequence[str],
    labels: NDArray[np.uint8],
    counts: NDArray[np.float32],
    needed: NDArray[np.float32],
    hidden: NDArray[np.float32],
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Return labels of which groups are present where lines of their elements show, whatever brings them.

    Parameters
    ----------
    names : sequence of str
        All answers; the groups among them are the columns of ``needed`` and ``hidden``, as of :func:`lines_needed`.
    labels, counts : (n_sample, n_name) arrays
        Labels of pigments and groups, as of :func:`visibility`; those of the pigments stay.

    Returns
    -------
    labels, counts, hidden : (n_sample, n_name) arrays
        From ``counts`` counts on a present label shows; up to ``hidden`` ones it is absent (:func:`present_at`).
    """
    columns = [list(names).index(name) for name in group_names(names)]
    labels, counts, below = labels.copy(), counts.copy(), np.zeros_like(counts)
    labels[:, columns] = ~np.isnan(needed)
    counts[:, columns] = np.nan_to_num(needed, nan=np.inf, posinf=np.inf)
    below[:, columns] = np.nan_to_num(hidden, nan=0.0, posinf=np.inf)
    return labels, counts, below


def present_at(
    labels: NDArray[np.uint8], hidden: NDArray[np.floating] | None, counts: NDArray[np.floating] | float
) -> NDArray[np.bool_]:
    """Return (n_sample, n_name) what labels mean at (n_sample, 1) total counts: what is hidden is absent."""
    present = labels == 1
    return np.asarray(present if hidden is None else present & ~(hidden >= counts))


def labels_shown(
    stratigraphies: Sequence[Stratigraphy],
    emission: Emission,
    expected: NDArray[np.floating],
    outputs: Outputs,
    detector: Detector,
    axis: EnergyAxis,
    *,
    lines: bool,
) -> tuple[NDArray[np.uint8], NDArray[np.float32], NDArray[np.float32]]:
    """Return labels and counts as of :func:`visibility`, or with ``lines`` as of :func:`labels_by_lines`, and hidden.

    Without ``lines`` nothing is hidden.
    """
    labels, counts = visibility(stratigraphies, emission, expected, outputs, detector, axis)
    if not lines:
        return labels, counts, np.zeros_like(counts)
    groups = group_names(outputs.names)
    shown = lines_needed(stratigraphies, emission, expected, groups, detector, axis)
    return labels_by_lines(outputs.names, labels, counts, *shown)


def _layers_seen(stratigraphies: Sequence[Stratigraphy], n_layer: int, place: Place) -> NDArray[np.float64]:
    """Return (n_sample, n_layer) which layers are at a place, supports included."""
    depth = np.arange(n_layer)
    top = np.asarray([next(iter(layers_at(entry, "surface")), n_layer) for entry in stratigraphies])[:, None]
    seen = {"anywhere": depth >= 0, "surface": depth == top, "below": depth > top}[place]
    return np.broadcast_to(seen, (len(stratigraphies), n_layer)).astype(np.float64)


def materials(names: Sequence[str]) -> tuple[str, ...]:
    """Return the pigments and groups that names of answers speak of, without places."""
    return tuple(dict.fromkeys(split_place(name)[0] for name in names))


def visibility(
    stratigraphies: Sequence[Stratigraphy],
    emission: Emission,
    expected: NDArray[np.floating],
    outputs: Outputs,
    detector: Detector,
    axis: EnergyAxis,
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Return the labels and the total counts at which each is visible.

    A label is visible when the counts of its own key lines exceed ``3 sqrt(2 B)``, B the other counts under
    them: with shares s and b of the spectrum, at ``18 b / s**2`` counts in the whole spectrum. A pigment that
    counts as several groups is visible when all of them are. At a place only the lines from there are its own.

    Parameters
    ----------
    expected : (n_sample, n_channel) array
        Expected counts on ``axis``, any scale, made from ``emission`` with ``detector``.

    Returns
    -------
    labels : (n_sample, n_name) uint8 array
    counts : (n_sample, n_name) float32 array
        Total counts within the recorded range; infinite where the label is absent or never visible.
    """
    labels = label_matrix([pigments_in(entry) for entry in stratigraphies], outputs)
    needed = np.full(labels.shape, np.inf, dtype=np.float32)
    line_counts = emission.layer_photons * efficiency(detector, emission.lines.energy_kev)
    for column, name in enumerate(outputs.names):
        rows = np.flatnonzero(labels[:, column])
        if rows.size:
            counts = _needed(name, rows, stratigraphies, line_counts, expected, emission, outputs, detector, axis)
            # beyond any count rate: never
            needed[rows, column] = np.where(counts < NEVER, counts, np.inf)
    return labels, needed


def _needed(
    name: str,
    rows: NDArray[np.intp],
    stratigraphies: Sequence[Stratigraphy],
    line_counts: NDArray[np.floating],
    expected: NDArray[np.floating],
    emission: Emission,
    outputs: Outputs,
    detector: Detector,
    axis: EnergyAxis,
) -> NDArray[np.float64]:
    worst = np.zeros(rows.size)
    material, place = split_place(name)
    for group in (split_place(own)[0] for own in outputs.groups[outputs.index(name)]):
        families = np.isin(np.asarray(emission.lines.family), families_of((group,)))
        share = own_share(material, group, [stratigraphies[row] for row in rows], line_counts.shape[1], place)
        own = np.einsum("nl,nlm->nm", share, line_counts[rows][:, :, families])
        energy = emission.lines.energy_kev[families]
        worst = np.maximum(worst, counts_needed(own, energy, expected[rows], axis, detector))
    return worst


def own_share(
    name: str, group: str, stratigraphies: Sequence[Stratigraphy], n_layer: int, place: Place = "anywhere"
) -> NDArray[np.float64]:
    """Return (n_sample, n_layer) the share of the group's element that the named pigment or group brings at a place."""
    element = group_element(group)
    share = np.zeros((len(stratigraphies), n_layer))
    for row, stratigraphy in enumerate(stratigraphies):
        for depth in layers_at(stratigraphy, place):
            brought = pigment_share(stratigraphy.layers[depth], element)
            share[row, depth] = sum(part for key, part in brought.items() if _belongs(key, name, group))
    return share


def _belongs(pigment: str, name: str, group: str) -> bool:
    return pigment == name or (name == group and group in library()[pigment].groups)
