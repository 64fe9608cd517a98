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
from underpaint.pigments.limits._imitation import component_spectra, grid_imitation
from underpaint.pigments.limits.comparison import ComparisonSettings, channels_for, shown_elements
from underpaint.pigments.limits.composites import Composite, composites_of
from underpaint.pigments.limits.deviance import imitate
from underpaint.runtime.progress import Progress, no_progress

Numbers = NDArray[np.float64]
MODEL_COUNTS = 1e6
"""Counts above which the errors of any simulation, about a per cent, exceed Poisson noise."""
MAX_DECADE = 12.0


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
        Total counts of a spectrum of the first pigment at which the best fit by the second is excluded. The diagonal is
        the limit of the calculation. It contains the counts at which a pigment would be excluded by its own
        interpolation.
    composites : tuple of Composite
        Mixtures with the spectrum of a pigment.
    instrument : str
        Name of the instrument.
    settings : ComparisonSettings
    """

    pigments: tuple[str, ...]
    exclusion_counts: Numbers
    composites: tuple[Composite, ...]
    instrument: str
    settings: ComparisonSettings

    @property
    def mutual_counts(self) -> Numbers:
        """(n, n) counts at which a pair is distinguishable, whichever pigment is present.

        If one pigment can imitate the other, the pair remains indistinguishable. The counts are infinite on the
        diagonal and for pairs that differ by no more than the errors of the calculation.
        """
        larger_counts = np.maximum(self.exclusion_counts, self.exclusion_counts.T)
        self_distance = np.diag(self.exclusion_counts)
        return np.where(larger_counts >= np.maximum(self_distance[:, None], self_distance[None]), np.inf, larger_counts)

    def counts_needed(self, first_pigment: str, second_pigment: str) -> float:
        """Return the counts at which two pigments are distinguishable; infinite above ``max_resolved_counts``.

        Raises
        ------
        SampleError
            One of the pigments was not compared.
        """
        return float(self.mutual_counts[self._index(first_pigment), self._index(second_pigment)])

    def max_resolved_counts(self, first_pigment: str, second_pigment: str) -> float:
        """Return the counts above which the calculation does not resolve two pigments."""
        return float(
            max(
                self.exclusion_counts[index, index]
                for index in (self._index(first_pigment), self._index(second_pigment))
            )
        )

    def groups(self, counts: float) -> list[Group]:
        """Return the groups at a number of counts, the largest first.

        No two members of a group are distinguishable (complete linkage), and groups only merge with decreasing counts.
        Pigments of different groups may still be indistinguishable; ``neighbours`` lists them.

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
            # the small addend keeps rounding from separating a pair exactly at its limit
            max_distance = max(MAX_DECADE - float(np.log10(counts)), 0.0) + 1e-9
            group_labels = fcluster(self._tree(), max_distance, criterion="distance")
        groups = [
            self._group(np.flatnonzero(group_labels == cluster), is_indistinguishable)
            for cluster in dict.fromkeys(group_labels.tolist())
        ]
        return sorted(groups, key=lambda group: -len(group.pigments))

    def order(self) -> list[int]:
        """Return the indices of the pigments, ordered so that similar pigments are neighbours."""
        if len(self.pigments) < 2:
            return list(range(len(self.pigments)))
        return [int(index) for index in leaves_list(self._tree())]

    def _tree(self) -> Numbers:
        """Return the tree of groups; a distance is the number of decades of counts below ``MAX_DECADE``."""
        distance = MAX_DECADE - np.clip(np.log10(self.mutual_counts), 0.0, MAX_DECADE)
        np.fill_diagonal(distance, 0.0)
        return np.asarray(linkage(squareform(distance), "complete", optimal_ordering=True))

    def _group(self, members: NDArray[np.intp], is_indistinguishable: NDArray[np.bool_]) -> Group:
        names = tuple(self.pigments[index] for index in members)
        visible_elements = frozenset.intersection(*(shown_elements(name) for name in names))
        neighbour_indices = set(np.flatnonzero(is_indistinguishable[members].any(axis=0)).tolist()) - set(
            members.tolist()
        )
        return Group(
            names, tuple(sorted(visible_elements)), tuple(self.pigments[index] for index in sorted(neighbour_indices))
        )

    def _index(self, name: str) -> int:
        key = library()[name].name
        if key not in self.pigments:
            raise SampleError(
                f"Cannot say how {name} differs: it was not compared. Compared were {', '.join(self.pigments)}."
            )
        return self.pigments.index(key)


def separate(
    pigments: Sequence[str],
    instrument: Instrument,
    *,
    settings: ComparisonSettings | None = None,
    composites: bool = True,
    progress: Progress | None = None,
) -> Separation:
    """Compute the counts that are needed to distinguish pigments.

    The expected spectrum of each pigment is fitted with every other pigment, with free thickness, binder, ground, scale
    and scatter (``imitate``), and with mixtures of other pigments with the same visible elements.

    Parameters
    ----------
    pigments : sequence of str
        Names, synonyms or abbreviations from the library; duplicates are ignored.
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
        interpolated_paint = grid_imitation(name, instrument, channels, settings)
        exclusion_counts[:, column] = [
            imitate(components, interpolated_paint, channels.middle_kev).counts_needed
            for components in expected_spectra
        ]
    all_composites: list[Composite] = []
    for row, name in enumerate(names if composites else ()):
        report_progress("Comparing with mixtures", row, len(names))
        all_composites += composites_of(name, names, instrument, settings)
    return Separation(names, exclusion_counts, tuple(all_composites), instrument.name, settings)
