"""How well the score of unlikeness detects an element that its line families do not include.

Random paintings of all pigments of the library, impurities included, are simulated for one instrument. Each element in
turn is left out of the line families of the score, as if no pigment contained it. Positive are the spectra in which
its own lines exceed ``5 sqrt(2 B)``, B the other counts under them; negative those without a trace of it; the rest
is left out.
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
AT_ONCE = 100
LEAST = 20
SIGMAS = 5.0
"""In place of the three of ``counts_needed``: its counts go with the square."""
BACKGROUND_SHARE = 0.02


@dataclass(frozen=True)
class Samples:
    """Expected spectra that sum to one; by family the counts needed and the share of the spectrum."""

    expected: Array
    needed: dict[str, Array]
    share: dict[str, Array]
    elements: list[set[str]]


def draw_samples(
    n: int, instrument: Instrument, seed: int, *, progress: Callable[[int, int], None] | None = None
) -> Samples:
    """Draw paintings and simulate their spectra over a smooth background of 2 % of the counts."""
    axis = axis_of(instrument.detector)
    rng = np.random.default_rng(seed)
    visible = {group.name for group in library().groups if group.visible}
    palette = tuple(pigment.name for pigment in library() if visible & set(pigment.groups))
    sampler = StratigraphySampler(RandomStratigraphies(palette=palette))
    drawn = [sampler.draw(rng) for _ in range(n)]
    expected = np.zeros((n, axis.n_channel))
    needed: dict[str, Array] = {}
    share: dict[str, Array] = {}
    for start in range(0, n, AT_ONCE):
        rows = slice(start, start + AT_ONCE)
        emission = emit(drawn[rows], instrument)
        energy, family = np.asarray(emission.lines.energy_kev), np.asarray(emission.lines.family)
        line_counts = np.asarray(emission.line_photons) * efficiency(instrument.detector, energy)
        spectra = np.asarray(render(emission, instrument.detector, axis), dtype=np.float64)
        spectra += BACKGROUND_SHARE * spectra.sum(axis=1, keepdims=True) / axis.n_channel
        expected[rows] = spectra / spectra.sum(axis=1, keepdims=True)
        for name in set(family.tolist()):
            lines = family == name
            counts = counts_needed(line_counts[:, lines], energy[lines], spectra, axis, instrument.detector)
            needed.setdefault(name, np.full(n, np.inf))[rows] = (SIGMAS / 3.0) ** 2 * counts
            inside = (energy[lines] > axis.start_kev) & (energy[lines] < axis.stop_kev)
            share.setdefault(name, np.zeros(n))[rows] = (line_counts[:, lines] * inside).sum(axis=1) / spectra.sum(
                axis=1
            )
        if progress is not None:
            progress(min(start + AT_ONCE, n), n)
    elements = [{name for layer in sample.layers for name in layer.mass_fractions} for sample in drawn]
    return Samples(expected, needed, share, elements)


def leave_each_out(samples: Samples, counts: float, instrument: Instrument, seed: int) -> dict[str, Any]:
    """Score the spectra at a number of counts with each element left out in turn.

    Returns
    -------
    dict
        By element: ``auroc``; ``auroc_fit``, with spectra as positive where the true counts of its lines exceed five
        standard deviations of a fit that includes the element (it differs where other elements' lines lie at the same
        energies); ``spectra``. ``alarms`` is the share of the spectra that are flagged when every
        element is known.
    """
    axis = axis_of(instrument.detector)
    measured = count(counts * samples.expected, rng=np.random.default_rng(seed))
    known = known_families()
    fit = plan_all_families(survey(Scan(measured[None], axis)), axis, instrument)
    parts = [fit(measured[start : start + AT_ONCE]) for start in range(0, len(measured), AT_ONCE)]
    shown = Evidence(*(np.concatenate(part) for part in zip(*parts, strict=True)))
    deviation = dict(zip(fit.names, shown.sigma_if_absent.T, strict=False))
    score, _ = unlikeness(known, fit, axis, instrument)(shown)
    result: dict[str, Any] = {
        "alarms": float((score > UNLIKE_SIGMA).mean()),
        "auroc": {},
        "auroc_fit": {},
        "spectra": {},
    }
    for element in sorted({family.partition("_")[0] for family in known}):
        families = [name for name in samples.needed if name.partition("_")[0] == element]
        absent = np.array([element not in present for present in samples.elements])
        if not families or element == instrument.tube.anode:
            continue
        clear = np.min([samples.needed[name] for name in families], axis=0) < counts
        fitted = [counts * samples.share[name] > SIGMAS * deviation[name] for name in families if name in deviation]
        if min(clear.sum(), absent.sum()) < LEAST:
            continue
        rest = [name for name in known if name.partition("_")[0] != element]
        score, _ = unlikeness(rest, fit, axis, instrument)(shown)
        result["auroc"][element] = _auroc(score, clear, absent)
        result["auroc_fit"][element] = _auroc(score, np.any(fitted, axis=0), absent) if fitted else None
        result["spectra"][element] = {
            "present": int(clear.sum()),
            "absent": int(absent.sum()),
            "present_flagged": float((score[clear] > UNLIKE_SIGMA).mean()),
            "absent_flagged": float((score[absent] > UNLIKE_SIGMA).mean()),
        }
    result["missed"] = [name for name, value in result["auroc"].items() if value < 0.95]
    result["missed_fit"] = [name for name, value in result["auroc_fit"].items() if value is not None and value < 0.95]
    return result


def _auroc(score: NDArray[np.floating], present: NDArray[np.bool_], absent: NDArray[np.bool_]) -> float | None:
    if min(present.sum(), absent.sum()) < LEAST:
        return None
    used = present | absent
    return auroc(score[used], present[used])
