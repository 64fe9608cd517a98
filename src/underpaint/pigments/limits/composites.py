"""Mixtures that imitate a pigment: chrome yellow as a lead pigment with a chromium pigment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, product

import numpy as np

from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import library
from underpaint.pigments.limits._imitation import MixedImitation, parts_of
from underpaint.pigments.limits.deviance import imitate
from underpaint.pigments.limits.question import Question, channels_for, shown_elements

MOST_PARTS = 3
ALIKE = 2
"""Of pigments that show the same elements so many, the first of the palette, stand for all."""
MOST_MIXTURES = 16


@dataclass(frozen=True)
class Composite:
    """A mixture that imitates a pigment in one layer.

    Parameters
    ----------
    pigment : str
    mixture : mapping of str to float
        Mass share of the dry mixture by pigment, at the best imitation.
    counts_needed : float
        Counts of the whole spectrum at which they part.
    """

    pigment: str
    mixture: Mapping[str, float]
    counts_needed: float


def composites_of(pigment: str, palette: Sequence[str], instrument: Instrument, question: Question) -> list[Composite]:
    """Return the mixtures of a palette that could pass for a pigment, the best imitation first."""
    found = [composite(pigment, mixture, instrument, question) for mixture in mixtures_for(pigment, palette)]
    return sorted(found, key=lambda own: -own.counts_needed)


def composite(pigment: str, mixture: Sequence[str], instrument: Instrument, question: Question) -> Composite:
    """Return how well a mixture of pigments, or a single one, imitates a pigment; simulated without interpolation."""
    channels = channels_for(instrument, question.start_kev)
    parts = parts_of([question.paint({pigment: 1.0})], instrument, channels)[0]
    imitation = MixedImitation(tuple(mixture), instrument, channels, question, _first(pigment, mixture))
    best = imitate(parts, imitation, channels.middle_kev)
    return Composite(pigment, imitation.dry(best.place), best.counts_needed)


def mixtures_for(pigment: str, palette: Sequence[str]) -> list[tuple[str, ...]]:
    """Return mixtures of a palette that show the same elements as a pigment.

    Either no member is to spare (lead white and viridian for chrome yellow), or one shows all and another shifts the
    elements' ratio (cadmium red and cadmium yellow for cadmium orange).
    """
    wanted = shown_elements(pigment)
    by_shown: dict[frozenset[str], list[str]] = {}
    for name in palette:
        shown = shown_elements(name)
        if name != pigment and shown and shown <= wanted:
            by_shown.setdefault(shown, []).append(name)
    if len(wanted) < 2:
        return []
    found: list[tuple[str, ...]] = []
    for count in range(2, MOST_PARTS + 1):
        for kinds in combinations(by_shown, count):
            if _covers(kinds, wanted) or (count == 2 and wanted in kinds):
                alike = ALIKE if count == 2 else 1
                found += product(*(by_shown[kind][:alike] for kind in kinds))
    found += combinations(by_shown.get(wanted, [])[: ALIKE + 1], 2)
    return list(islice(found, MOST_MIXTURES))


def _covers(kinds: Sequence[frozenset[str]], wanted: frozenset[str]) -> bool:
    if frozenset().union(*kinds) != wanted:
        return False
    return all(frozenset().union(*(kind for kind in kinds if kind is not own)) != wanted for own in kinds)


def _first(pigment: str, mixture: Sequence[str]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return logarithms of shares over the first's that give the pigment's elements as nearly as they can."""
    wanted = library()[pigment].mass_fractions
    shown = sorted(shown_elements(pigment))
    rows = np.asarray([[library()[name].mass_fractions.get(element, 0.0) for name in mixture] for element in shown])
    scale = np.asarray([wanted[element] for element in shown])
    shares = np.linalg.lstsq(rows / scale[:, None], np.ones(len(shown)), rcond=None)[0] if shown else np.ones(1)
    shares = np.maximum(shares, 0.01)
    return np.asarray(np.log(shares[1:] / shares[0]))
