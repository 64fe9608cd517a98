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
from underpaint.pigments.limits.composites import Composite, composites_of
from underpaint.pigments.limits.deviance import imitate
from underpaint.pigments.limits.question import Question, channels_for, shown_elements
from underpaint.runtime.progress import Progress, no_progress

Numbers = NDArray[np.float64]
MODEL_COUNTS = 1e6
"""Above so many counts the errors of any simulation, about a per cent, are larger than Poisson noise."""
MAX_DECADE = 12.0


@dataclass(frozen=True)
class Group:
    """Pigments that are pairwise indistinguishable at a number of counts.

    Parameters
    ----------
    pigments : tuple of str
        Library names, in the order of the palette.
    elements : tuple of str
        Elements with visible lines in all members.
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
    needed : (n, n) array
        Total counts of a spectrum of the first pigment at which the best fit by the second is excluded. The diagonal is
        the limit of the calculation: the counts at which a pigment would be excluded by its interpolation.
    composites : tuple of Composite
        Mixtures with the spectrum of a pigment.
    instrument : str
        Name.
    question : Question
    """

    pigments: tuple[str, ...]
    needed: Numbers
    composites: tuple[Composite, ...]
    instrument: str
    question: Question

    @property
    def mutual(self) -> Numbers:
        """(n, n) counts at which a pair is distinguishable, whichever of the two is present.

        If one of the two can pass for the other, the answer "it is the other" stays open, and the pair is together.
        Infinite where the two differ by no more than the calculation's own errors, and on the diagonal.
        """
        larger = np.maximum(self.needed, self.needed.T)
        self_distance = np.diag(self.needed)
        return np.where(larger >= np.maximum(self_distance[:, None], self_distance[None]), np.inf, larger)

    def counts_needed(self, first: str, second: str) -> float:
        """Return the counts at which two pigments part; infinite beyond ``trusted_to``.

        Raises
        ------
        SampleError
            One of them was not compared.
        """
        return float(self.mutual[self._index(first), self._index(second)])

    def trusted_to(self, first: str, second: str) -> float:
        """Return the counts above which the calculation does not resolve two pigments."""
        return float(max(self.needed[index, index] for index in (self._index(first), self._index(second))))

    def groups(self, counts: float) -> list[Group]:
        """Return the groups at some number of counts, the largest first.

        No two members part (complete linkage): inside a group the spectrum has nothing to say, and with falling
        counts groups only ever merge. Pigments of different groups may still resemble each other: ``neighbours``.

        Raises
        ------
        SampleError
            ``counts`` is not positive.
        """
        if not counts > 0:
            raise SampleError(f"Cannot group pigments at {counts} counts; give a positive number.")
        together = self.mutual >= counts
        label = np.zeros(1, dtype=np.int64)
        if len(self.pigments) > 1:
            # a hair more than the distance itself, so that rounding does not part a pair at its own counts
            cut = max(MAX_DECADE - float(np.log10(counts)), 0.0) + 1e-9
            label = fcluster(self._tree(), cut, criterion="distance")
        groups = [self._group(np.flatnonzero(label == cluster), together) for cluster in dict.fromkeys(label.tolist())]
        return sorted(groups, key=lambda group: -len(group.pigments))

    def order(self) -> list[int]:
        """Return the pigments' indices with those that part last beside each other."""
        if len(self.pigments) < 2:
            return list(range(len(self.pigments)))
        return [int(index) for index in leaves_list(self._tree())]

    def _tree(self) -> Numbers:
        """Return the tree of groups; a distance is so many decades of counts below ``MAX_DECADE``."""
        distance = MAX_DECADE - np.clip(np.log10(self.mutual), 0.0, MAX_DECADE)
        np.fill_diagonal(distance, 0.0)
        return np.asarray(linkage(squareform(distance), "complete", optimal_ordering=True))

    def _group(self, members: NDArray[np.intp], together: NDArray[np.bool_]) -> Group:
        names = tuple(self.pigments[index] for index in members)
        shown = frozenset.intersection(*(shown_elements(name) for name in names))
        neighbour_indices = set(np.flatnonzero(together[members].any(axis=0)).tolist()) - set(members.tolist())
        return Group(names, tuple(sorted(shown)), tuple(self.pigments[index] for index in sorted(neighbour_indices)))

    def _index(self, name: str) -> int:
        key = library()[name].name
        if key not in self.pigments:
            raise SampleError(
                f"Cannot say how {name} differs: it was not compared. There are {', '.join(self.pigments)}."
            )
        return self.pigments.index(key)


def separate(
    pigments: Sequence[str],
    instrument: Instrument,
    *,
    question: Question | None = None,
    composites: bool = True,
    progress: Progress | None = None,
) -> Separation:
    """Compute how many counts it takes to tell pigments apart.

    The expected spectrum of each pigment is fitted by every other pigment with free thickness, binder, ground, scale
    and scatter (``imitate``), and by mixtures of others with the same visible elements.

    Parameters
    ----------
    pigments : sequence of str
        Names, synonyms or abbreviations from the library; repeated ones count once.
    instrument : Instrument
    question : Question, optional
        Paint, ground and freedom.
    composites : bool
        Look for mixtures, too.
    progress : callable, optional
        Told (what, done, in all).

    Raises
    ------
    SampleError
        A pigment is unknown, or there is none.
    """
    names = tuple(dict.fromkeys(library()[name].name for name in pigments))
    if not names:
        raise SampleError("Cannot compare pigments: none was given. Name some, or a palette.")
    question = Question() if question is None else question
    channels = channels_for(instrument, question.start_kev)
    step = progress or no_progress
    expected = [component_spectra([question.paint({name: 1.0})], instrument, channels)[0] for name in names]
    needed = np.empty((len(names), len(names)))
    for column, name in enumerate(names):
        step("Comparing pigments", column, len(names))
        grid = grid_imitation(name, instrument, channels, question)
        needed[:, column] = [imitate(parts, grid, channels.middle_kev).counts_needed for parts in expected]
    mixed: list[Composite] = []
    for row, name in enumerate(names if composites else ()):
        step("Comparing with mixtures", row, len(names))
        mixed += composites_of(name, names, instrument, question)
    return Separation(names, needed, tuple(mixed), instrument.name, question)
