"""Groups of pigments that are indistinguishable by a spectrum, computed from the forward model."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, leaves_list, linkage
from scipy.spatial.distance import squareform

from underpaint.errors import SampleError
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import library
from underpaint.pigments.limits._paint_models import component_spectra, grid_paint_model
from underpaint.pigments.limits.comparison import ComparisonSettings, channels_for, shown_elements
from underpaint.pigments.limits.composites import Composite, composites_of
from underpaint.pigments.limits.deviance import fit_paint_model
from underpaint.runtime.progress import Progress, no_progress

FloatArray = NDArray[np.float64]
MODEL_COUNTS = 1e6
"""Counts above which the errors of a simulation, about 1 %, exceed Poisson noise."""
MAX_LOG10_COUNTS = 12.0


@dataclass(frozen=True)
class Group:
    """Pigments that are pairwise indistinguishable at a given number of counts.

    Parameters
    ----------
    pigments : tuple of str
        Library names, in the order of the palette.
    elements : tuple of str
        Elements that have visible lines in all members.
    neighbours : tuple of str
        Pigments of other groups that are indistinguishable from some members, but not from all.
    """

    pigments: tuple[str, ...]
    elements: tuple[str, ...]
    neighbours: tuple[str, ...] = ()


@dataclass(frozen=True)
class Separation:
    """Counts needed to distinguish pigments.

    Parameters
    ----------
    pigments : tuple of str
    exclusion_counts : (n, n) array
        Total counts of a spectrum of the first pigment at which the best fit by the second is excluded. The diagonal
        contains the counts at which the interpolated model of a pigment excludes the same pigment, which is the limit
        of the calculation.
    composites : tuple of Composite
        Mixtures with the spectrum of a pigment.
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

        If one pigment can have the spectrum of the other, the pair is indistinguishable. The counts are infinite on the
        diagonal and for pairs whose difference does not exceed the errors of the calculation.
        """
        larger_counts = np.maximum(self.exclusion_counts, self.exclusion_counts.T)
        self_exclusion_counts = np.diag(self.exclusion_counts)
        return np.where(
            larger_counts >= np.maximum(self_exclusion_counts[:, None], self_exclusion_counts[None]),
            np.inf,
            larger_counts,
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
        """Return the groups at a number of counts, the largest first.

        All members of a group are indistinguishable (complete linkage). Groups only merge with decreasing counts.
        Indistinguishable pigments of different groups are listed in ``neighbours``.

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
            # the constant 1e-9 prevents that rounding separates a pair exactly at its limit
            max_distance = max(MAX_LOG10_COUNTS - float(np.log10(counts)), 0.0) + 1e-9
            group_labels = fcluster(self._linkage_tree(), max_distance, criterion="distance")
        groups = [
            self._make_group(np.flatnonzero(group_labels == cluster), is_indistinguishable)
            for cluster in dict.fromkeys(group_labels.tolist())
        ]
        return sorted(groups, key=lambda group: -len(group.pigments))

    def similarity_order(self) -> list[int]:
        """Return the indices of the pigments in an order in which similar pigments are neighbours."""
        if len(self.pigments) < 2:
            return list(range(len(self.pigments)))
        return [int(index) for index in leaves_list(self._linkage_tree())]

    def _linkage_tree(self) -> FloatArray:
        """Return the linkage tree, with distances in decades of counts below 1e12."""
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

    Every other pigment is fitted to the expected spectrum of each pigment, with free thickness, binder, ground, scale
    and scatter. Mixtures of other pigments with the same visible elements are fitted as well.

    Parameters
    ----------
    pigments : sequence of str
        Names, synonyms or abbreviations from the library. Duplicates are ignored.
    instrument : Instrument
    settings : ComparisonSettings, optional
        Expected paint and ground, and ranges of the fitted paint.
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
    expected_spectra = [component_spectra([settings.paint({name: 1.0})], instrument, channels)[0] for name in names]
    exclusion_counts = np.empty((len(names), len(names)))
    for column, name in enumerate(names):
        report_progress("Comparing pigments", column, len(names))
        interpolated_paint = grid_paint_model(name, instrument, channels, settings)
        exclusion_counts[:, column] = [
            fit_paint_model(components, interpolated_paint, channels.middle_kev).counts_needed
            for components in expected_spectra
        ]
    all_composites: list[Composite] = []
    for row, name in enumerate(names if composites else ()):
        report_progress("Comparing with mixtures", row, len(names))
        all_composites += composites_of(name, names, instrument, settings)
    return Separation(names, exclusion_counts, tuple(all_composites), instrument.name, settings)
