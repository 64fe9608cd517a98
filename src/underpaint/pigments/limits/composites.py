"""Mixtures whose spectrum resembles that of one pigment, such as lead white with viridian for chrome yellow."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, islice, product

import numpy as np

from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import library
from underpaint.pigments.limits._paint_models import MixturePaintModel, component_spectra
from underpaint.pigments.limits.comparison import ComparisonSettings, channels_for, shown_elements
from underpaint.pigments.limits.deviance import fit_paint_model

MAX_COMPONENTS = 3
N_ALTERNATIVES = 2
"""Maximum number of tested pigments with identical elements. Those listed first in the palette are tested."""
MAX_MIXTURES = 16


@dataclass(frozen=True)
class Composite:
    """Mixture in one layer whose spectrum resembles that of a pigment.

    Parameters
    ----------
    pigment : str
    mixture : mapping of str to float
        Mass fraction of each pigment in the dry mixture of the best fit.
    counts_needed : float
        Total counts of a spectrum at which mixture and pigment are distinguishable.
    """

    pigment: str
    mixture: Mapping[str, float]
    counts_needed: float


def composites_of(
    pigment: str, palette: Sequence[str], instrument: Instrument, settings: ComparisonSettings
) -> list[Composite]:
    """Return the mixtures of a palette whose spectrum resembles that of a pigment, the best fit first."""
    composites = [composite(pigment, mixture, instrument, settings) for mixture in mixtures_for(pigment, palette)]
    return sorted(composites, key=lambda fitted_composite: -fitted_composite.counts_needed)


def composite(pigment: str, mixture: Sequence[str], instrument: Instrument, settings: ComparisonSettings) -> Composite:
    """Fit the simulated spectrum of a mixture, or of another pigment, to the spectrum of a pigment."""
    channels = channels_for(instrument, settings.start_kev)
    components = component_spectra([settings.paint({pigment: 1.0})], instrument, channels)[0]
    paint_model = MixturePaintModel(
        tuple(mixture), instrument, channels, settings, _initial_log_shares(pigment, mixture)
    )
    best_fit = fit_paint_model(components, paint_model, channels.middle_kev)
    return Composite(pigment, paint_model.dry_fractions(best_fit.parameters), best_fit.counts_needed)


def mixtures_for(pigment: str, palette: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the mixtures of a palette with the same visible elements as a pigment.

    In some mixtures, every pigment is needed to cover all elements (lead white and viridian for chrome yellow). In
    other mixtures, one pigment contains all elements, and a second pigment changes their ratio (cadmium red and cadmium
    yellow for cadmium orange).
    """
    target_elements = shown_elements(pigment)
    names_by_elements: dict[frozenset[str], list[str]] = {}
    for pigment_name in palette:
        visible_elements = shown_elements(pigment_name)
        if pigment_name != pigment and visible_elements and visible_elements <= target_elements:
            names_by_elements.setdefault(visible_elements, []).append(pigment_name)
    if len(target_elements) < 2:
        return []
    mixtures: list[tuple[str, ...]] = []
    for n_components in range(2, MAX_COMPONENTS + 1):
        for element_sets in combinations(names_by_elements, n_components):
            if _is_minimal_cover(element_sets, target_elements) or (
                n_components == 2 and target_elements in element_sets
            ):
                n_alternatives = N_ALTERNATIVES if n_components == 2 else 1
                mixtures += product(*(names_by_elements[element_set][:n_alternatives] for element_set in element_sets))
    mixtures += combinations(names_by_elements.get(target_elements, [])[: N_ALTERNATIVES + 1], 2)
    return list(islice(mixtures, MAX_MIXTURES))


def _is_minimal_cover(element_sets: Sequence[frozenset[str]], target_elements: frozenset[str]) -> bool:
    if frozenset().union(*element_sets) != target_elements:
        return False
    return all(
        frozenset().union(*(element_set for element_set in element_sets if element_set is not omitted_elements))
        != target_elements
        for omitted_elements in element_sets
    )


def _initial_log_shares(pigment: str, mixture: Sequence[str]) -> "np.ndarray[tuple[int], np.dtype[np.float64]]":
    """Return the log ratio of each share to the first share, for the mixture that best fits the pigment's elements."""
    target_fractions = library()[pigment].mass_fractions
    elements = sorted(shown_elements(pigment))
    fraction_matrix = np.asarray(
        [[library()[pigment_name].mass_fractions.get(element, 0.0) for pigment_name in mixture] for element in elements]
    )
    element_fractions = np.asarray([target_fractions[element] for element in elements])
    shares = (
        np.linalg.lstsq(fraction_matrix / element_fractions[:, None], np.ones(len(elements)), rcond=None)[0]
        if elements
        else np.ones(1)
    )
    shares = np.maximum(shares, 0.01)
    return np.asarray(np.log(shares[1:] / shares[0]))
