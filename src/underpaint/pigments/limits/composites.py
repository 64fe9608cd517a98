"""Mixtures that imitate a pigment: chrome yellow as a lead pigment with a chromium pigment."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, product

import numpy as np

from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import library
from underpaint.pigments.limits._imitation import MixedImitation, component_spectra
from underpaint.pigments.limits.deviance import imitate
from underpaint.pigments.limits.question import Question, channels_for, shown_elements

MAX_COMPONENTS = 3
N_ALTERNATIVES = 2
"""Number of pigments with the same elements that are tried, in the order of the palette."""
MAX_MIXTURES = 16


@dataclass(frozen=True)
class Composite:
    """Mixture with the spectrum of a pigment in one layer.

    Parameters
    ----------
    pigment : str
    mixture : mapping of str to float
        Mass fractions of the dry mixture by pigment, in the best fit.
    counts_needed : float
        Total counts of a spectrum at which mixture and pigment are distinguishable.
    """

    pigment: str
    mixture: Mapping[str, float]
    counts_needed: float


def composites_of(pigment: str, palette: Sequence[str], instrument: Instrument, question: Question) -> list[Composite]:
    """Return the mixtures of a palette with a spectrum like a pigment's, the best fit first."""
    composites = [composite(pigment, mixture, instrument, question) for mixture in mixtures_for(pigment, palette)]
    return sorted(composites, key=lambda entry: -entry.counts_needed)


def composite(pigment: str, mixture: Sequence[str], instrument: Instrument, question: Question) -> Composite:
    """Fit the spectrum of a pigment by a mixture or another pigment, simulated without interpolation."""
    channels = channels_for(instrument, question.start_kev)
    parts = component_spectra([question.paint({pigment: 1.0})], instrument, channels)[0]
    imitation = MixedImitation(tuple(mixture), instrument, channels, question, _initial_log_shares(pigment, mixture))
    best = imitate(parts, imitation, channels.middle_kev)
    return Composite(pigment, imitation.dry(best.place), best.counts_needed)


def mixtures_for(pigment: str, palette: Sequence[str]) -> list[tuple[str, ...]]:
    """Return mixtures of a palette that show the same elements as a pigment.

    Either no member is to spare (lead white and viridian for chrome yellow), or one shows all and another shifts the
    elements' ratio (cadmium red and cadmium yellow for cadmium orange).
    """
    target_elements = shown_elements(pigment)
    by_shown: dict[frozenset[str], list[str]] = {}
    for name in palette:
        shown = shown_elements(name)
        if name != pigment and shown and shown <= target_elements:
            by_shown.setdefault(shown, []).append(name)
    if len(target_elements) < 2:
        return []
    mixtures: list[tuple[str, ...]] = []
    for count in range(2, MAX_COMPONENTS + 1):
        for element_sets in combinations(by_shown, count):
            if _covers(element_sets, target_elements) or (count == 2 and target_elements in element_sets):
                n_alternatives = N_ALTERNATIVES if count == 2 else 1
                mixtures += product(*(by_shown[element_set][:n_alternatives] for element_set in element_sets))
    mixtures += combinations(by_shown.get(target_elements, [])[: N_ALTERNATIVES + 1], 2)
    return list(islice(mixtures, MAX_MIXTURES))


def _covers(element_sets: Sequence[frozenset[str]], target_elements: frozenset[str]) -> bool:
    if frozenset().union(*element_sets) != target_elements:
        return False
    return all(
        frozenset().union(*(element_set for element_set in element_sets if element_set is not omitted))
        != target_elements
        for omitted in element_sets
    )


def _initial_log_shares(pigment: str, mixture: Sequence[str]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return logarithms of shares over the first's that give the pigment's elements as nearly as they can."""
    target_fractions = library()[pigment].mass_fractions
    elements = sorted(shown_elements(pigment))
    rows = np.asarray([[library()[name].mass_fractions.get(element, 0.0) for name in mixture] for element in elements])
    scale = np.asarray([target_fractions[element] for element in elements])
    shares = np.linalg.lstsq(rows / scale[:, None], np.ones(len(elements)), rcond=None)[0] if elements else np.ones(1)
    shares = np.maximum(shares, 0.01)
    return np.asarray(np.log(shares[1:] / shares[0]))
