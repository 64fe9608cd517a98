"""The expected spectrum of many candidates at once, and its derivatives, in one call of the forward model."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from underpaint.lab.evaluation.candidates.candidate import Candidate
from underpaint.lab.evaluation.candidates.measured import FAINTEST, Measured
from underpaint.physics.forward import ORDERS, SCATTER, Emission, emit, render
from underpaint.physics.instrument import Instrument

Numbers = NDArray[np.float64]
STEP = 0.02
"""Step of the finite differences of logarithms: the counts' curvature stays under 1e-2 of their slope."""
LEVELS = ("scale", "coherent", "other scatter", "slope of the scatter", "curvature of the scatter")
"""Free parameters besides the stratigraphy, as in ``limits``: support, air and holders scatter, too."""
FARTHEST = np.asarray([30.0, 2.0, 2.0, 2.0, 1.0])
"""Limits of these logarithms; slope and curvature are in ln(energy)."""


@dataclass(frozen=True)
class Question:
    """A candidate at coordinates whose spectrum and derivatives are needed.

    Parameters
    ----------
    candidate : Candidate
    place : (n_free,) array
        Coordinates of the candidate.
    levels : (5,) array
        ``LEVELS``.
    """

    candidate: Candidate
    place: Numbers
    levels: Numbers


@dataclass(frozen=True)
class Answer:
    """Expected counts and their derivatives.

    Parameters
    ----------
    expected : (n_bin,) array
    jacobian : (n_bin, n_free + 5) array
        Derivatives to the coordinates, then to ``LEVELS``.
    """

    expected: Numbers
    jacobian: Numbers


def answers(questions: Sequence[Question], measured: Measured, instrument: Instrument) -> list[Answer]:
    """Return the spectrum and the derivatives of every question.

    All stratigraphies, moved ones included, go through one call of ``emit``: they share the atomic tables.

    Parameters
    ----------
    questions : sequence of Question
    measured : Measured
        Supplies the channels.
    instrument : Instrument
    """
    moves = [_steps(question) for question in questions]
    places = [
        np.concatenate([question.place[None], question.place + np.diag(move)])
        for question, move in zip(questions, moves, strict=True)
    ]
    batch = [question.candidate.at(place) for question, rows in zip(questions, places, strict=True) for place in rows]
    levels = np.concatenate(
        [np.tile(question.levels, (len(rows), 1)) for question, rows in zip(questions, places, strict=True)]
    )
    # single precision is within 2e-5 of any line, a thousandth of the steps
    emission = with_levels(emit(batch, instrument, single=True), levels, measured)
    scale = np.exp(levels[:, :1])
    modelled = scale * _rendered(emission, measured, instrument)
    firsts = np.cumsum([0, *(len(rows) for rows in places)])
    bases = rows_of(emission, firsts[:-1])
    coherent = scale[firsts[:-1]] * _rendered(only(bases, "coherent"), measured, instrument)
    other = scale[firsts[:-1]] * _rendered(only(bases, "compton", "multiple", "air"), measured, instrument)
    bend = _curvature_terms(measured.energy_kev, measured)
    results = []
    for index, move in enumerate(moves):
        spectra = modelled[firsts[index] : firsts[index + 1]]
        by_place = (spectra[1:] - spectra[0]) / move[:, None]
        by_levels = [spectra[0], coherent[index], other[index], *((coherent[index] + other[index]) * bend)]
        results.append(Answer(np.maximum(spectra[0], FAINTEST), np.stack([*by_place, *by_levels], axis=1)))
    return results


def with_levels(emission: Emission, levels: Numbers, measured: Measured) -> Emission:
    """Return an emission with the scatter, and not the total, of each sample scaled by its levels, (n_sample, 5)."""
    shifted = np.exp(levels[:, 2:3] + levels[:, 3:] @ _curvature_terms(emission.compton_kev, measured))
    return replace(
        emission,
        coherent=emission.coherent
        * np.exp(levels[:, 1:2] + levels[:, 3:] @ _curvature_terms(emission.source_kev, measured)),
        **{name: getattr(emission, name) * shifted for name in ("compton", "multiple", "air")},
    )


def only(emission: Emission, *components: str) -> Emission:
    """Return an emission with the named orders and kinds of scatter alone."""
    dark = {name: np.zeros_like(getattr(emission, name)) for name in (*ORDERS, *SCATTER) if name not in components}
    return replace(emission, **dark)


def rows_of(emission: Emission, rows: NDArray[np.int64]) -> Emission:
    """Return some samples of an emission."""
    return replace(emission, **{name: getattr(emission, name)[rows] for name in (*ORDERS, *SCATTER)})


def _steps(question: Question) -> Numbers:
    """Return (n_free,) steps, away from the nearer bound."""
    low, high = question.candidate.bounds.T
    return np.asarray(np.where(question.place + STEP <= high, STEP, -STEP) * np.ones_like(low))


def _curvature_terms(energy_kev: Numbers, measured: Measured) -> Numbers:
    """Return (2, n) the logarithm of the energy over the middle of the range, and its square."""
    start, stop = measured.axis.start_kev, measured.axis.stop_kev
    level = np.log(energy_kev / np.sqrt(start * stop))
    # beyond the fitted channels the curve would diverge
    level = np.clip(level, np.log(np.sqrt(start / stop)), np.log(np.sqrt(stop / start)))
    return np.stack([level, level**2])


def _rendered(emission: Emission, measured: Measured, instrument: Instrument) -> Numbers:
    return np.asarray(render(emission, instrument.detector, measured.axis), dtype=np.float64)
