"""Groups of pigments that a spectrum cannot tell apart, computed from the forward model."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import leaves_list, linkage
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform

from underpaint.errors import SampleError
from underpaint.instrument import Instrument
from underpaint.limits._imitation import grid_imitation, parts_of
from underpaint.limits.composites import Composite, composites_of
from underpaint.limits.deviance import imitate
from underpaint.limits.question import Question, channels_for, shown_elements
from underpaint.sample import library

Numbers = NDArray[np.float64]
MODEL_COUNTS = 1e6
"""Above so many counts the errors of any simulation, about a per cent, are larger than Poisson noise."""
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Group:
    """Pigments that belong together at some number of counts.

    Parameters
    ----------
    pigments : tuple of str
        Library names, in the order of the palette.
    elements : tuple of str
        Elements that all members show; empty where at least one shows none.
    chained : tuple of pair of str
        Pairs of members that could be told apart, but that others, which resemble both, hold together.
    """

    pigments: tuple[str, ...]
    elements: tuple[str, ...]
    chained: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Separation:
    """How many counts it takes to tell pigments apart.

    Parameters
    ----------
    pigments : tuple of str
    needed : (n, n) array
        Counts of the whole spectrum at which the first, expected, is told from the second, which imitates it. On the
        diagonal stands how far the calculation can be trusted: a pigment's distance from its own interpolation.
    composites : tuple of Composite
        Pigments that mixtures of others imitate.
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
        """(n, n) counts at which a pair parts: both must fail to imitate the other. Infinite on the diagonal.

        If one of the two can pass for the other, the answer "it is the other" stays open, and the pair is together.
        Beyond the trust of the calculation its limit stands in place of what was found.
        """
        worse = np.maximum(self.needed, self.needed.T)
        own = np.diag(self.needed)
        found = np.minimum(worse, np.maximum(own[:, None], own[None]))
        return np.where(np.eye(len(own), dtype=bool), np.inf, found)

    def counts_needed(self, one: str, other: str) -> float:
        """Return the counts at which two pigments part.

        Raises
        ------
        SampleError
            One of them was not compared.
        """
        return float(self.mutual[self._index(one), self._index(other)])

    def is_limit(self, one: str, other: str) -> bool:
        """Tell whether ``counts_needed`` is a lower limit: the calculation resolves no more."""
        rows = self._index(one), self._index(other)
        return bool(
            max(self.needed[rows], self.needed[rows[::-1]])
            >= max(self.needed[rows[0]][rows[0]], self.needed[rows[1]][rows[1]])
        )

    def groups(self, counts: float) -> list[Group]:
        """Return the groups at some number of counts, largest first.

        They are the connected components: two pigments share a group when a chain of pairs that do not part links
        them. So they cover the palette without overlap, no claim is made that a member's twin could refute, and with
        falling counts they only ever merge.

        Raises
        ------
        SampleError
            ``counts`` is not positive.
        """
        if not counts > 0:
            message = f"Cannot group pigments at {counts} counts; give a positive number."
            raise SampleError(message)
        together = self.mutual >= counts
        _, label = connected_components(together, directed=False)
        found = [self._group(np.flatnonzero(label == own), together) for own in np.unique(label)]
        return sorted(found, key=lambda group: -len(group.pigments))

    def order(self) -> list[int]:
        """Return the pigments' indices with those that part last beside each other."""
        if len(self.pigments) < 2:
            return list(range(len(self.pigments)))
        # distance falls with counts needed; single linkage merges in the same order as the groups do
        apart = 12.0 - np.clip(np.log10(self.mutual), 0.0, 11.0)
        np.fill_diagonal(apart, 0.0)
        return [int(index) for index in leaves_list(linkage(squareform(apart), "single", optimal_ordering=True))]

    def _group(self, members: NDArray[np.intp], together: NDArray[np.bool_]) -> Group:
        names = tuple(self.pigments[index] for index in members)
        shown = frozenset.intersection(*(shown_elements(name) for name in names))
        chained = tuple(
            (self.pigments[one], self.pigments[other])
            for place, one in enumerate(members)
            for other in members[place + 1 :]
            if not together[one, other]
        )
        return Group(names, tuple(sorted(shown)), chained)

    def _index(self, name: str) -> int:
        key = library()[name].name
        if key not in self.pigments:
            message = f"Cannot say how {name} differs: it was not compared. There are {', '.join(self.pigments)}."
            raise SampleError(message)
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

    The expected spectrum of each is imitated by each other one with thickness, binder, ground, scale and scatter
    free (``imitate``); and by mixtures of others that show the same elements.

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
        message = "Cannot compare pigments: none was given. Name some, or a palette."
        raise SampleError(message)
    question = Question() if question is None else question
    channels = channels_for(instrument, question.start_kev)
    step = progress or (lambda _what, _done, _all: None)
    expected = [parts_of([question.paint({name: 1.0})], instrument, channels)[0] for name in names]
    needed = np.empty((len(names), len(names)))
    for column, name in enumerate(names):
        step("Comparing pigments", column, len(names))
        grid = grid_imitation({name: 1.0}, instrument, channels, question)
        needed[:, column] = [imitate(parts, grid, channels.middle_kev).counts_needed for parts in expected]
    mixed: list[Composite] = []
    for row, name in enumerate(names if composites else ()):
        step("Comparing with mixtures", row, len(names))
        mixed += composites_of(name, names, instrument, question)
    return Separation(names, needed, tuple(mixed), instrument.name, question)
