"""Test of whether the unlikeness score detects elements that are left out of its line families.

Random paintings with all pigments of the library and their impurities are simulated for one instrument. Each element in
turn is left out of the line families of the score. Spectra are positive if the line counts of the element exceed ``5
sqrt(2 B)``, where B is the sum of all other counts under these lines. Spectra are negative if the sample does not
contain the element. All other spectra are left out.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan, survey
from underpaint.data.maps import UNLIKE_SIGMA
from underpaint.elements import Evidence, known_families, plan_all_families, unlikeness
from underpaint.lab.evaluation.scores import auroc
from underpaint.physics.forward import axis_of, count, counts_needed, efficiency, emit, render
from underpaint.physics.instrument import Instrument
from underpaint.physics.materials import library
from underpaint.simulate import RandomStratigraphies, StratigraphySampler

Array = NDArray[np.float64]
BATCH_SIZE = 100
MIN_SPECTRA = 20
"""Minimum number of positive spectra, and of negative spectra, for an AUROC."""
PRESENT_SIGMAS = 5.0
"""Significance, in sigma, above which an element is present. ``counts_needed`` assumes 3 sigma and is rescaled."""
BACKGROUND_FRACTION = 0.02
"""Fraction of the counts in the smooth background."""


@dataclass(frozen=True)
class OpenSetSamples:
    """Expected spectra, normalised to a sum of one.

    ``counts_needed`` has the total counts above which each line family is visible. ``line_fraction`` has the fraction
    of the counts in each line family.
    """

    expected_spectra: Array
    counts_needed: dict[str, Array]
    line_fraction: dict[str, Array]
    elements: list[set[str]]


def draw_samples(
    n_painting: int, instrument: Instrument, seed: int, *, progress: Callable[[int, int], None] | None = None
) -> OpenSetSamples:
    """Draw random paintings, and simulate their spectra with a smooth background of 2 % of the counts."""
    axis = axis_of(instrument.detector)
    rng = np.random.default_rng(seed)
    visible_groups = {group.name for group in library().groups if group.visible}
    palette = tuple(pigment.name for pigment in library() if visible_groups & set(pigment.groups))
    sampler = StratigraphySampler(RandomStratigraphies(palette=palette))
    stratigraphies = [sampler.draw(rng) for _ in range(n_painting)]
    expected_spectra = np.zeros((n_painting, axis.n_channel))
    counts_needed_by_family: dict[str, Array] = {}
    line_fraction: dict[str, Array] = {}
    for batch_start in range(0, n_painting, BATCH_SIZE):
        rows = slice(batch_start, batch_start + BATCH_SIZE)
        emission = emit(stratigraphies[rows], instrument)
        energy_kev, family_of_line = np.asarray(emission.lines.energy_kev), np.asarray(emission.lines.family)
        line_counts = np.asarray(emission.line_photons) * efficiency(instrument.detector, energy_kev)
        spectra = np.asarray(render(emission, instrument.detector, axis), dtype=np.float64)
        spectra += BACKGROUND_FRACTION * spectra.sum(axis=1, keepdims=True) / axis.n_channel
        expected_spectra[rows] = spectra / spectra.sum(axis=1, keepdims=True)
        for name in set(family_of_line.tolist()):
            is_family_line = family_of_line == name
            family_counts_needed = counts_needed(
                line_counts[:, is_family_line], energy_kev[is_family_line], spectra, axis, instrument.detector
            )
            counts_needed_by_family.setdefault(name, np.full(n_painting, np.inf))[rows] = (
                PRESENT_SIGMAS / 3.0
            ) ** 2 * family_counts_needed
            in_range = (energy_kev[is_family_line] > axis.start_kev) & (energy_kev[is_family_line] < axis.stop_kev)
            line_fraction.setdefault(name, np.zeros(n_painting))[rows] = (
                line_counts[:, is_family_line] * in_range
            ).sum(axis=1) / spectra.sum(axis=1)
        if progress is not None:
            progress(min(batch_start + BATCH_SIZE, n_painting), n_painting)
    elements = [{name for layer in sample.layers for name in layer.mass_fractions} for sample in stratigraphies]
    return OpenSetSamples(expected_spectra, counts_needed_by_family, line_fraction, elements)


def leave_each_out(samples: OpenSetSamples, counts: float, instrument: Instrument, seed: int) -> dict[str, Any]:
    """Return scores of the unlikeness at the given total counts, with each element left out in turn.

    Returns
    -------
    dict
        ``auroc``, ``auroc_fit`` and ``spectra`` by element, and ``alarms``.
        For ``auroc_fit``, spectra are positive if the element's true line counts exceed 5 sigma of a fit that includes
        the element. ``auroc_fit`` differs from ``auroc`` for elements whose lines overlap with other lines.
        ``alarms`` is the fraction of spectra with a high unlikeness when no element is left out.
    """
    axis = axis_of(instrument.detector)
    spectra = count(counts * samples.expected_spectra, rng=np.random.default_rng(seed))
    all_families = known_families()
    family_fit = plan_all_families(survey(Scan(spectra[None], axis)), axis, instrument)
    batches = [
        family_fit(spectra[batch_start : batch_start + BATCH_SIZE])
        for batch_start in range(0, len(spectra), BATCH_SIZE)
    ]
    evidence = Evidence(*(np.concatenate(batch) for batch in zip(*batches, strict=True)))
    area_sigma = dict(zip(family_fit.names, evidence.sigma_if_absent.T, strict=False))
    unlikeness_score, _ = unlikeness(all_families, family_fit, axis, instrument)(evidence)
    scores_by_element: dict[str, Any] = {
        "alarms": float((unlikeness_score > UNLIKE_SIGMA).mean()),
        "auroc": {},
        "auroc_fit": {},
        "spectra": {},
    }
    for element in sorted({family.partition("_")[0] for family in all_families}):
        element_families = [name for name in samples.counts_needed if name.partition("_")[0] == element]
        is_absent = np.array([element not in present_elements for present_elements in samples.elements])
        if not element_families or element == instrument.tube.anode:
            continue
        is_clearly_present = np.min([samples.counts_needed[name] for name in element_families], axis=0) < counts
        exceeds_fit_limit = [
            counts * samples.line_fraction[name] > PRESENT_SIGMAS * area_sigma[name]
            for name in element_families
            if name in area_sigma
        ]
        if min(is_clearly_present.sum(), is_absent.sum()) < MIN_SPECTRA:
            continue
        remaining_families = [name for name in all_families if name.partition("_")[0] != element]
        unlikeness_score, _ = unlikeness(remaining_families, family_fit, axis, instrument)(evidence)
        scores_by_element["auroc"][element] = _auroc(unlikeness_score, is_clearly_present, is_absent)
        scores_by_element["auroc_fit"][element] = (
            _auroc(unlikeness_score, np.any(exceeds_fit_limit, axis=0), is_absent) if exceeds_fit_limit else None
        )
        scores_by_element["spectra"][element] = {
            "present": int(is_clearly_present.sum()),
            "absent": int(is_absent.sum()),
            "present_flagged": float((unlikeness_score[is_clearly_present] > UNLIKE_SIGMA).mean()),
            "absent_flagged": float((unlikeness_score[is_absent] > UNLIKE_SIGMA).mean()),
        }
    scores_by_element["missed"] = [
        name for name, auroc_value in scores_by_element["auroc"].items() if auroc_value < 0.95
    ]
    scores_by_element["missed_fit"] = [
        name
        for name, auroc_value in scores_by_element["auroc_fit"].items()
        if auroc_value is not None and auroc_value < 0.95
    ]
    return scores_by_element


def _auroc(
    unlikeness_score: NDArray[np.floating], is_present: NDArray[np.bool_], is_absent: NDArray[np.bool_]
) -> float | None:
    if min(is_present.sum(), is_absent.sum()) < MIN_SPECTRA:
        return None
    is_scored = is_present | is_absent
    return auroc(unlikeness_score[is_scored], is_present[is_scored])
