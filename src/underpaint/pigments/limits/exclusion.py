"""Pigments that a spectrum cannot distinguish, and pigments that a spectrum cannot show below the detected paint."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform

from underpaint.data import EnergyAxis
from underpaint.data.maps import (
    CANNOT_EXCLUDE,
    MIN_STATED_PROBABILITY,
    NO_ANSWER,
    NOT_DETECTED,
    PIGMENT,
    PRESENT,
    PRESENT_PROBABILITY,
    TRACE,
    Results,
)
from underpaint.errors import SampleError
from underpaint.physics.forward import Emission, counts_needed, efficiency, emit, render
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import Layer, Paint, Stratigraphy, ground_layer, library, mix_elements
from underpaint.physics.materials.paint import DEFAULT_BINDER, formula_fractions, material_table_row
from underpaint.pigments.limits._paint_models import component_spectra, grid_paint_model
from underpaint.pigments.limits.comparison import ComparisonSettings, channels_for, shown_elements
from underpaint.pigments.limits.composites import Composite, composites_of
from underpaint.pigments.limits.deviance import fit_paint_model
from underpaint.pigments.weights import PredictionSets
from underpaint.runtime.progress import Progress, no_progress
from underpaint.runtime.threads import one_blas_thread

FloatArray = NDArray[np.float64]
MODEL_COUNTS = 1e6
"""Counts above which the simulation error of about 1 % exceeds Poisson noise."""
MAX_LOG10_COUNTS = 12.0


@dataclass(frozen=True)
class Group:
    """Pigments that are pairwise indistinguishable at a given number of counts.

    Parameters
    ----------
    pigments : tuple of str
        Library names, in the order of the palette.
    elements : tuple of str
        Elements that have visible lines and are in all pigments of the group.
    neighbours : tuple of str
        Pigments of other groups that are indistinguishable from some, but not all, pigments of this group.
    """

    pigments: tuple[str, ...]
    elements: tuple[str, ...]
    neighbours: tuple[str, ...] = ()


@dataclass(frozen=True)
class Separation:
    """Total counts that a spectrum needs to distinguish each pair of pigments.

    Parameters
    ----------
    pigments : tuple of str
    exclusion_counts : (n, n) array
        Total counts at which a spectrum of the first pigment excludes the best fit by the second. The diagonal contains
        the limit of the calculation. The limit is the number of counts at which a pigment's spectrum excludes the
        interpolated model of this pigment.
    composites : tuple of Composite
        Mixtures whose spectrum resembles that of a pigment.
    instrument : str
        Name of the instrument.
    settings : ComparisonSettings
    """

    pigments: tuple[str, ...]
    exclusion_counts: FloatArray
    composites: tuple[Composite, ...]
    instrument: str
    settings: ComparisonSettings

    @property
    def mutual_counts(self) -> FloatArray:
        """(n, n) counts at which a pair is distinguishable, regardless of which of the two is present.

        A pair is indistinguishable if either pigment can have the spectrum of the other. The counts are infinite on the
        diagonal and for pairs whose difference does not exceed the errors of the calculation.
        """
        larger_exclusion_counts = np.maximum(self.exclusion_counts, self.exclusion_counts.T)
        self_exclusion_counts = np.diag(self.exclusion_counts)
        return np.where(
            larger_exclusion_counts >= np.maximum(self_exclusion_counts[:, None], self_exclusion_counts[None]),
            np.inf,
            larger_exclusion_counts,
        )

    def counts_needed(self, first_pigment: str, second_pigment: str) -> float:
        """Return the counts at which two pigments are distinguishable, or infinity above ``max_resolved_counts``.

        Raises
        ------
        SampleError
            One of the pigments was not compared.
        """
        return float(self.mutual_counts[self._pigment_index(first_pigment), self._pigment_index(second_pigment)])

    def max_resolved_counts(self, first_pigment: str, second_pigment: str) -> float:
        """Return the counts up to which the calculation can distinguish two pigments."""
        return float(
            max(
                self.exclusion_counts[index, index]
                for index in (self._pigment_index(first_pigment), self._pigment_index(second_pigment))
            )
        )

    def groups(self, counts: float) -> list[Group]:
        """Return the groups of pigments that are indistinguishable at a number of counts, the largest group first.

        All members of a group are indistinguishable (complete linkage). If the counts decrease, groups can merge but
        not split. Indistinguishable pigments of different groups are listed in ``neighbours``.

        Raises
        ------
        SampleError
            ``counts`` is not positive.
        """
        if not counts > 0:
            raise SampleError(f"Cannot group pigments at {counts} counts; give a positive number.")
        is_indistinguishable = self.mutual_counts >= counts
        group_labels = np.zeros(1, dtype=np.int64)
        if len(self.pigments) > 1:
            # without the constant 1e-9, rounding could separate a pair exactly at its limit
            max_distance = max(MAX_LOG10_COUNTS - float(np.log10(counts)), 0.0) + 1e-9
            group_labels = fcluster(self._linkage_tree(), max_distance, criterion="distance")
        groups = [
            self._make_group(np.flatnonzero(group_labels == cluster), is_indistinguishable)
            for cluster in dict.fromkeys(group_labels.tolist())
        ]
        return sorted(groups, key=lambda group: -len(group.pigments))

    def similarity_order(self) -> list[int]:
        """Return the indices of the pigments, ordered so that similar pigments are adjacent."""
        if len(self.pigments) < 2:
            return list(range(len(self.pigments)))
        return [int(index) for index in leaves_list(self._linkage_tree())]

    def _linkage_tree(self) -> FloatArray:
        """Return the linkage tree, in which the distance of a pair is 12 minus log10 of the pair's counts."""
        distance = MAX_LOG10_COUNTS - np.clip(np.log10(self.mutual_counts), 0.0, MAX_LOG10_COUNTS)
        np.fill_diagonal(distance, 0.0)
        return np.asarray(linkage(squareform(distance), "complete", optimal_ordering=True))

    def _make_group(self, members: NDArray[np.intp], is_indistinguishable: NDArray[np.bool_]) -> Group:
        member_names = tuple(self.pigments[index] for index in members)
        visible_elements = frozenset.intersection(*(shown_elements(name) for name in member_names))
        neighbour_indices = set(np.flatnonzero(is_indistinguishable[members].any(axis=0)).tolist()) - set(
            members.tolist()
        )
        return Group(
            member_names,
            tuple(sorted(visible_elements)),
            tuple(self.pigments[index] for index in sorted(neighbour_indices)),
        )

    def _pigment_index(self, name: str) -> int:
        library_name = library()[name].name
        if library_name not in self.pigments:
            raise SampleError(
                f"Cannot compare {name}: only {', '.join(self.pigments)} were compared. Choose one of these pigments."
            )
        return self.pigments.index(library_name)


def separate(
    pigments: Sequence[str],
    instrument: Instrument,
    *,
    settings: ComparisonSettings | None = None,
    composites: bool = True,
    progress: Progress | None = None,
) -> Separation:
    """Compute the counts that are needed to distinguish pigments.

    Every other pigment is fitted to the expected spectrum of each pigment. Thickness, binder, ground, scale and scatter
    are free. Mixtures of other pigments are also fitted if they have the visible elements of the pigment.

    Parameters
    ----------
    pigments : sequence of str
        Names, synonyms or abbreviations from the library. Duplicates are ignored.
    instrument : Instrument
    settings : ComparisonSettings, optional
        Expected paint, its ground, and the parameter ranges of the fitted paint.
    composites : bool
        Whether mixtures are fitted as well.
    progress : callable, optional
        Called with the step, the number of completed items and the total number.

    Raises
    ------
    SampleError
        A pigment is unknown, or no pigment is given.
    """
    names = tuple(dict.fromkeys(library()[name].name for name in pigments))
    if not names:
        raise SampleError("Cannot compare pigments: none was given. Give pigments or a palette.")
    settings = ComparisonSettings() if settings is None else settings
    channels = channels_for(instrument, settings.start_kev)
    report_progress = progress or no_progress
    exclusion_counts = np.empty((len(names), len(names)))
    all_composites: list[Composite] = []
    # with two threads, the products of these small matrices take six times as long
    with one_blas_thread():
        expected_spectra = [component_spectra([settings.paint({name: 1.0})], instrument, channels)[0] for name in names]
        for column, name in enumerate(names):
            report_progress("Comparing pigments", column, len(names))
            interpolated_paint = grid_paint_model(name, instrument, channels, settings)
            exclusion_counts[:, column] = [
                fit_paint_model(components, interpolated_paint, channels.middle_kev).counts_needed
                for components in expected_spectra
            ]
        for row, name in enumerate(names if composites else ()):
            report_progress("Comparing with mixtures", row, len(names))
            all_composites += composites_of(name, names, instrument, settings)
    return Separation(names, exclusion_counts, tuple(all_composites), instrument.name, settings)


TYPICAL_PIGMENTS = {
    "lead_pigment": "lead_white",
    "mercury_red": "vermilion",
    "iron_pigment": "yellow_ochre",
    "copper_green_blue": "azurite",
    "chromium_pigment": "viridian",
    "zinc_pigment": "zinc_white",
    "titanium_pigment": "titanium_white",
    "calcium_white": "chalk",
    "cobalt_pigment": "cobalt_blue",
    "tin_pigment": "lead_tin_yellow",
    "arsenic_pigment": "orpiment",
    "antimony_pigment": "naples_yellow",
    "cadmium_pigment": "cadmium_yellow",
    "selenium_pigment": "cadmium_red",
    "barium_pigment": "barium_white",
    "strontium_pigment": "strontium_yellow",
    "manganese_pigment": "umber",
    "bromine_lake": "geranium_lake",
}
"""Representative pigment of each group. Groups that are not listed are represented by their first pigment in the
library."""
LINE_SIGMA = 3.0
MODEL_ERROR = 0.01
"""Relative error of the simulated and fitted counts below a line's peak."""
MIN_SHARED_ELEMENT_FRACTION = 0.01
"""Minimum mass fraction at which an element of the covering pigment hides the same element in the layer below."""
PREDICTION_SET_COVERAGE = 0.99
"""Coverage of the prediction sets that are used to exclude a group."""


@dataclass(frozen=True)
class Burial:
    """Assumed layers of a pigment that is hidden below the detected paint.

    Parameters
    ----------
    cover_um : float
        Thickness of the upper layer, which is a paint of a detected group, or oil if no group is detected.
    hidden_um : float
        Thickness of the paint of the hidden group.
    ground_um : float
        Thickness of the ground.
    ground : str
        Name of the ground in the library.
    pigment_to_binder : float
        Mass ratio of pigment to binder in both paints.

    Raises
    ------
    SampleError
        A thickness or the mass ratio is not positive.
    """

    cover_um: float = 50.0
    hidden_um: float = 20.0
    ground_um: float = 150.0
    ground: str = "chalk"
    pigment_to_binder: float = 3.0

    def __post_init__(self) -> None:
        for field_name, field_value in asdict(self).items():
            if isinstance(field_value, float | int) and not 0 < field_value < float("inf"):
                raise SampleError(
                    f"Cannot simulate a hidden pigment with {field_name} = {field_value:g}: the value must be "
                    "positive and finite."
                )


@dataclass(frozen=True)
class Exclusion:
    """Total counts at which a spectrum shows each hidden pigment.

    Parameters
    ----------
    names : tuple of str
        Names of groups or pigments.
    typical_pigments : tuple of str
        Representative pigment of each name.
    elements : tuple of tuple of str
        Key elements of each name.
    counts : tuple of (n_name + 1, n_element) arrays
        One array for each name. Rows are the covers (``names`` in order, then oil), and columns are the key elements.
        The counts are infinite for elements that are never detected.
    burial : Burial
        Assumed layers.
    """

    names: tuple[str, ...]
    typical_pigments: tuple[str, ...]
    elements: tuple[tuple[str, ...], ...]
    counts: tuple[FloatArray, ...]
    burial: Burial

    def required_counts(self, name: str, covers: Sequence[str] = ()) -> float:
        """Return the counts at which a pigment or group is detected below its most absorbing cover, or below oil."""
        cover_rows = [self.names.index(cover) for cover in covers] or [len(self.names)]
        return float(self.counts[self.names.index(name)][cover_rows].max(axis=0).min())


def typical_pigment(name: str) -> str:
    """Return the representative pigment of a group, or the pigment of that name.

    Raises
    ------
    SampleError
        The library has neither a group nor a pigment of that name.
    """
    if name in TYPICAL_PIGMENTS:
        return TYPICAL_PIGMENTS[name]
    if name in library():
        return library()[name].name
    members = library().members(library().group(name).name)
    if not members:
        raise SampleError(f"Cannot simulate hidden {name}: the library has no pigment of this group.")
    return members[0].name


@lru_cache(maxsize=16)
def counts_to_exclude(
    names: tuple[str, ...],
    families: tuple[tuple[str, ...], ...],
    instrument: Instrument,
    axis: EnergyAxis,
    burial: Burial | None = None,
) -> Exclusion:
    """Return the total counts at which each group or pigment is detected below each of the others.

    Parameters
    ----------
    names : tuple of str
        Groups or pigments of the library.
    families : tuple of tuple of str
        Key line families of each name, as in ``Material.elements``.
    instrument : Instrument
    axis : EnergyAxis
        Energy axis of the scan.
    burial : Burial, optional

    Returns
    -------
    Exclusion
        A key line is detected if its counts from the hidden layer exceed ``3 sqrt(2 (B + (0.01 B)**2))``. B is the
        number of all other counts within half a FWHM of the line (Currie 1968, with the model error). A key line is
        never detected below a pigment that contains the same element.

    Raises
    ------
    SampleError
        The library does not know a name.
    """
    assumed_burial = burial or Burial()
    typical_pigments = tuple(typical_pigment(name) for name in names)
    cover_layers = [_paint_layer(pigment, assumed_burial.cover_um, assumed_burial) for pigment in typical_pigments] + [
        _oil_layer(assumed_burial.cover_um)
    ]
    hidden_layers = [_paint_layer(pigment, assumed_burial.hidden_um, assumed_burial) for pigment in typical_pigments]
    ground_of_samples = ground_layer(assumed_burial.ground, assumed_burial.ground_um)
    stratigraphies = [
        Stratigraphy((cover_layer, hidden_layer, ground_of_samples))
        for cover_layer, hidden_layer in product(cover_layers, hidden_layers)
    ]
    emission = emit(stratigraphies, instrument)
    expected_spectra = np.asarray(render(emission, instrument.detector, axis), dtype=np.float64)
    elements = tuple(
        tuple(dict.fromkeys(family.partition("_")[0] for family in key_families)) for key_families in families
    )
    counts_by_name = []
    for name_index, (key_elements, key_families) in enumerate(zip(elements, families, strict=True)):
        sample_rows = slice(name_index, None, len(names))
        # the family that needs the fewest counts is used, since other families of the element may overlap other lines
        required_counts = [
            np.min(
                [
                    _needed_counts(emission, expected_spectra, sample_rows, family, axis, instrument)
                    for family in _families_of_element(element, key_families)
                ],
                axis=0,
            )
            for element in key_elements
        ]
        is_shared_element = [[_contains_element(cover, element) for cover in cover_layers] for element in key_elements]
        counts_by_name.append(np.where(np.asarray(is_shared_element), np.inf, np.asarray(required_counts)).T)
    return Exclusion(tuple(names), typical_pigments, elements, tuple(counts_by_name), assumed_burial)


def detectable_groups(
    results: Results,
    is_present: NDArray[np.bool_],
    is_significant: Mapping[str, NDArray[np.bool_]],
    pixel_counts: FloatArray,
    instrument: Instrument,
    axis: EnergyAxis,
    burial: Burial | None = None,
) -> tuple[NDArray[np.bool_], Exclusion]:
    """Return a mask of the excluded groups, which would have been detected below the present groups.

    A group is excluded in a pixel if two conditions hold. None of the group's lines is significant. A layer of the
    group below any present group would be detected at the counts of the pixel.

    Parameters
    ----------
    results : Results
        Results of a network. If the model has no groups, its pigments are tested.
    is_present : (n_row, n_column, n_target) bool array
        True for present groups.
    is_significant : mapping of str to (n_row, n_column) bool array
        Result of :func:`significant_lines`.
    pixel_counts : (n_row, n_column) array
        Total counts of each spectrum.
    instrument : Instrument
        Instrument that recorded the scan.
    axis : EnergyAxis
        Energy axis of the scan.
    burial : Burial, optional
        Assumed layers of a hidden pigment.

    Returns
    -------
    (n_row, n_column, n_target) bool array
        True for excluded groups.
    Exclusion

    Raises
    ------
    SampleError
        The library does not know a name of the results.
    """
    names = results.targets
    families = tuple(results.materials[name].elements for name in names)
    exclusion = counts_to_exclude(names, families, instrument, axis, burial)
    is_cover = _is_cover(results, names, is_present)
    excluded_masks = [
        _is_excluded(exclusion, name_index, is_cover, pixel_counts, is_significant) for name_index in range(len(names))
    ]
    return np.stack(excluded_masks, axis=2), exclusion


def _is_cover(results: Results, names: Sequence[str], is_present: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return a mask of possible covers: groups at the surface, or present groups if the results have no places."""
    if not all(results.holds(name, "surface") for name in names):
        return is_present
    is_on_top = np.stack([results[name, "surface"] for name in names], axis=2) > PRESENT_PROBABILITY
    return np.where(is_on_top.any(axis=2, keepdims=True), is_on_top, is_present)


def _is_excluded(
    exclusion: Exclusion,
    index: int,
    is_cover: NDArray[np.bool_],
    counts: FloatArray,
    is_significant: Mapping[str, NDArray[np.bool_]],
) -> NDArray[np.bool_]:
    """Return a mask of pixels in which at least one key element would have been detected but was not."""
    is_excluded = np.zeros(counts.shape, dtype=bool)
    for element_index, element in enumerate(exclusion.elements[index]):
        counts_by_cover = exclusion.counts[index][:, element_index]
        required_counts = np.full(counts.shape, -np.inf)
        for cover, cover_counts in enumerate(counts_by_cover[:-1]):
            np.maximum(required_counts, cover_counts, out=required_counts, where=is_cover[:, :, cover])
        required_counts = np.where(is_cover.any(axis=2), required_counts, counts_by_cover[-1])
        is_detectable = counts >= required_counts
        is_excluded |= is_detectable & ~is_significant[element] if element in is_significant else is_detectable
    return is_excluded


def significant_lines(results: Results) -> dict[str, NDArray[np.bool_]]:
    """Return a mask for each element, true where any of its line families is significant."""
    is_significant: dict[str, NDArray[np.bool_]] = {}
    for family in results.lines:
        element = family.partition("_")[0]
        exceeds_threshold = results[family] > LINE_SIGMA * np.maximum(results.map("area_sigma", family), 1e-9)
        is_significant[element] = (
            exceeds_threshold | is_significant[element] if element in is_significant else exceeds_threshold
        )
    return is_significant


def _needed_counts(
    emission: Emission,
    expected_spectra: FloatArray,
    sample_rows: slice,
    family: str,
    axis: EnergyAxis,
    instrument: Instrument,
) -> FloatArray:
    is_family_line = np.asarray(emission.lines.family) == family
    line_energy_kev = np.asarray(emission.lines.energy_kev)[is_family_line]
    if line_energy_kev.size == 0:
        return np.full(len(expected_spectra[sample_rows]), np.inf)
    line_counts = np.asarray(emission.layer_photons)[sample_rows, 1][:, is_family_line] * efficiency(
        instrument.detector, line_energy_kev
    )
    return counts_needed(
        line_counts, line_energy_kev, expected_spectra[sample_rows], axis, instrument.detector, model_error=MODEL_ERROR
    )


def _families_of_element(element: str, families: Sequence[str]) -> list[str]:
    return [family for family in families if family.partition("_")[0] == element]


def _contains_element(layer: Layer, element: str) -> bool:
    total_fraction = sum(layer.mass_fractions.values())
    return layer.mass_fractions.get(element, 0.0) > MIN_SHARED_ELEMENT_FRACTION * total_fraction


def _paint_layer(pigment: str, thickness_um: float, burial: Burial) -> Layer:
    return Paint({pigment: 1.0}, pigment_to_binder=burial.pigment_to_binder).layer(thickness_um)


def _oil_layer(thickness_um: float) -> Layer:
    binder_row = material_table_row("binder", DEFAULT_BINDER)
    return Layer(mix_elements(formula_fractions(binder_row)), binder_row["density"], thickness_um, binder_row["label"])


def answer_states(
    results: Results,
    pixel_counts: NDArray[np.integer] | NDArray[np.floating],
    instrument: Instrument | None = None,
    axis: EnergyAxis | None = None,
    *,
    burial: Burial | None = None,
) -> Results:
    """Return the state of every group at every pixel.

    A group is present if its probability exceeds one half. For networks with amounts, a present group is a pigment if
    its amount reaches the threshold with a probability of 95 %. A present group is a trace if its amount is below the
    threshold with a probability of 95 %. An absent group cannot be excluded if one of its lines is significant. An
    absent group also cannot be excluded if its prediction set of 99 % coverage contains more than "absent". If the
    instrument is known, groups that would not be detected below the present groups cannot be excluded either. All other
    groups are not detected.

    Parameters
    ----------
    results : Results
        Probabilities, and amounts and element maps if available. For a model without groups, the result contains the
        states of pigments.
    pixel_counts : (n_row, n_column) array
        Total counts of each spectrum.
    instrument : Instrument or None
        Instrument that recorded the scan, or None to ignore hidden groups.
    axis : EnergyAxis or None
        Energy axis of the scan, which is needed if an instrument is given.
    burial : Burial, optional
        Assumed layers of a hidden pigment.

    Returns
    -------
    Results
        Results that contain only the states.

    Raises
    ------
    ValueError
        The counts and the results have different numbers of pixels.
    SampleError
        The library does not know a name of the results.
    """
    if pixel_counts.shape != results.shape:
        raise ValueError(
            f"Cannot compute the states of groups: {pixel_counts.shape} pixel counts for maps of "
            f"{results.shape} pixels. Give the counts of the same scan."
        )
    names, counts = results.targets, np.asarray(pixel_counts, float)
    probability = np.stack([results[name] for name in names], axis=2)
    is_present, is_significant = probability > PRESENT_PROBABILITY, significant_lines(results)
    states = np.full(probability.shape, NOT_DETECTED, np.uint8)
    states[_cannot_be_excluded(results, is_significant, counts)] = CANNOT_EXCLUDE
    exclusion = None
    if instrument is not None and axis is not None:
        is_excluded, exclusion = detectable_groups(
            results, is_present, is_significant, counts, instrument, axis, burial
        )
        states[~is_excluded] = CANNOT_EXCLUDE
    states[is_present] = PRESENT
    for name_index, name in enumerate(names):
        if results.knows_amount(name):
            probability_reached = results.map("amount_reached", name, "anywhere")
            states[:, :, name_index][is_present[:, :, name_index] & (probability_reached > MIN_STATED_PROBABILITY)] = (
                PIGMENT
            )
            states[:, :, name_index][
                is_present[:, :, name_index] & (probability_reached < 1.0 - MIN_STATED_PROBABILITY)
            ] = TRACE
    states[~np.isfinite(probability)] = NO_ANSWER
    return Results.of_states(
        names,
        [results.label(name) for name in names],
        states,
        step_mm=results.step_mm,
        notes=() if exclusion is None else (_note_on_burial(exclusion.burial),),
        settings={"present_probability": PRESENT_PROBABILITY}
        | ({} if exclusion is None else _exclusion_settings(exclusion)),
    )


def _cannot_be_excluded(
    results: Results, is_significant: Mapping[str, NDArray[np.bool_]], counts: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return a mask of groups that have a significant line or whose prediction set contains more than "absent"."""
    prediction_set_record = results.model_card.get("sets") if "log_odds" in results.stacks else None
    prediction_sets = None if prediction_set_record is None else PredictionSets.model_validate(prediction_set_record)
    is_not_excluded = []
    for name in results.targets:
        elements = {family.partition("_")[0] for family in results.materials[name].elements}
        is_not_excluded.append(
            np.any(
                [
                    np.zeros(counts.shape, bool),
                    *(is_significant[element] for element in elements & set(is_significant)),
                ],
                0,
            )
        )
        if prediction_sets is not None:
            is_not_excluded[-1] |= prediction_sets.is_ambiguous(
                name, results.map("log_odds", name, "anywhere"), counts, PREDICTION_SET_COVERAGE
            )
    return np.stack(is_not_excluded, axis=2)


def _note_on_burial(burial: Burial) -> str:
    return (
        f"Not detected means: {burial.hidden_um:g} µm of paint of the group alone, below {burial.cover_um:g} µm of "
        f"paint of any present group and above {burial.ground_um:g} µm of {burial.ground}, would have been detected "
        "at the pixel's counts. Thinner paint of the group, or paint below a thicker layer, cannot be excluded."
    )


def _exclusion_settings(exclusion: Exclusion) -> dict[str, object]:
    return {
        "burial": asdict(exclusion.burial),
        "typical": dict(zip(exclusion.names, exclusion.typical_pigments, strict=True)),
        "present_probability": PRESENT_PROBABILITY,
        "line_sigma": LINE_SIGMA,
        "model_error": MODEL_ERROR,
    }
