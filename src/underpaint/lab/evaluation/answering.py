"""Input spectra of a model, and its answers by group."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.data.rebin import apply_rebin, rebin_matrix
from underpaint.physics.forward import axis_of, count
from underpaint.physics.instrument import Instrument
from underpaint.pigments.predict import OnnxModel
from underpaint.pigments.weights import ModelCard
from underpaint.simulate.instrument_inputs import INSTRUMENT_INPUTS, instrument_inputs

AT_ONCE = 2048


@dataclass(frozen=True)
class Spectra:
    """Counts with the conditions of their measurement.

    Parameters
    ----------
    counts : (n, n_channel) array
        On ``axis``.
    axis : EnergyAxis
    recorded : (n, 2) float32 array
        Start and stop of the recorded range, keV.
    conditions : (n, n_input) float32 array or None
        Instrument conditions in the order of :data:`~underpaint.simulate.instrument_inputs.INSTRUMENT_INPUTS`; None:
        unknown.
    """

    counts: NDArray[np.floating] | NDArray[np.integer]
    axis: EnergyAxis
    recorded: NDArray[np.float32]
    conditions: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of spectra."""
        return len(self.counts)

    def only(self, rows: NDArray[np.integer] | slice) -> "Spectra":
        """Return some of the spectra."""
        conditions = None if self.conditions is None else self.conditions[rows]
        return replace(self, counts=self.counts[rows], recorded=self.recorded[rows], conditions=conditions)

    @classmethod
    def of_instrument(cls, counts: NDArray[Any], axis: EnergyAxis, instrument: Instrument) -> "Spectra":
        """Return counts of one instrument whose whole axis was recorded."""
        n, recorded = len(counts), np.asarray([axis.start_kev, axis.stop_kev], dtype=np.float32)
        return cls(counts, axis, np.tile(recorded, (n, 1)), np.tile(instrument_inputs(instrument), (n, 1)))

    def by_conditions(self) -> list[tuple[NDArray[np.int64], NDArray[np.float32] | None]]:
        """Return the rows with equal instrument conditions, and these; None where none are known."""
        if self.conditions is None:
            return [(np.arange(len(self)), None)]
        # NaN does not equal itself: replaced by a number that no input has
        _, first, which = np.unique(
            np.nan_to_num(self.conditions, nan=-9.0), axis=0, return_index=True, return_inverse=True
        )
        return [(np.flatnonzero(which.ravel() == index), self.conditions[row]) for index, row in enumerate(first)]

    def without_conditions(self) -> "Spectra":
        """Return the same spectra without instrument conditions."""
        return replace(self, conditions=None)


@dataclass(frozen=True)
class ModelAnswers:
    """Answers of a model to n spectra.

    Parameters
    ----------
    card : ModelCard
    log_odds, probability : (n, n_name) float32 arrays
        NaN for no answer.
    quantity, sigma : (n, n_quantity) float32 arrays or None
        On the scales of :mod:`underpaint.data.maps`; None where the model has no quantities.
    amount : (n, n_amount n_edge) float32 array or None
        Log-odds that a mass share reaches each edge; None where the model answers no amounts.
    """

    card: ModelCard
    log_odds: NDArray[np.float32]
    probability: NDArray[np.float32]
    quantity: NDArray[np.float32] | None = None
    sigma: NDArray[np.float32] | None = None
    amount: NDArray[np.float32] | None = None

    def only(self, row: int) -> "ModelAnswers":
        """Return the answers to one spectrum."""
        return replace(self, log_odds=self.log_odds[row : row + 1], probability=self.probability[row : row + 1])

    def by_name(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Return (n, n_name) probabilities; NaN of a name that the model does not answer."""
        return columns_of(self.probability, self.card.names, names)

    def by_group(self, groups: Sequence[str]) -> NDArray[np.float32]:
        """Return (n, n_group) probabilities of groups anywhere.

        A model without groups answers by its likeliest member; NaN where it has none.
        """
        probability = self.by_name(groups)
        for column, group in enumerate(groups):
            if group not in self.card.names:
                members = [index for index, counted in enumerate(self.card.groups) if group in counted]
                if members:
                    probability[:, column] = self.probability[:, members].max(axis=1)
        return probability


def columns_of(values: NDArray[np.float32], names: Sequence[str], selected: Sequence[str]) -> NDArray[np.float32]:
    """Return (n, n_wanted) columns of (n, n_name) values; NaN where there is none of that name."""
    columns = np.full((len(values), len(selected)), np.nan, dtype=np.float32)
    for column, name in enumerate(selected):
        if name in names:
            columns[:, column] = values[:, list(names).index(name)]
    return columns


def ask(model: OnnxModel, spectra: Spectra) -> ModelAnswers:
    """Run a model on spectra, rebinned to its axis.

    Spectra without counts on that axis get NaN. Spectra of one instrument are processed together.
    """
    matrix = rebin_matrix(spectra.axis, model.card.axis.edges_kev)
    counts = apply_rebin(np.asarray(spectra.counts, dtype=np.float32), matrix)
    parts: list[tuple[NDArray[np.float32], ...]] = []
    rows: list[NDArray[np.int64]] = []
    for indices, conditions in _by_instrument(spectra, model.card):
        for first in range(0, indices.size, AT_ONCE):
            rows.append(indices[first : first + AT_ONCE])
            parts.append(model(counts[rows[-1]], spectra.recorded[rows[-1]], conditions))
    back = np.argsort(np.concatenate(rows))
    outputs = [np.concatenate(each)[back] for each in zip(*parts, strict=True)]
    for output in outputs:
        output[counts.sum(axis=1) <= 0] = np.nan
    return ModelAnswers(model.card, **dict(zip(model.card.output_names, outputs, strict=True)))


def _by_instrument(spectra: Spectra, card: ModelCard) -> list[tuple[NDArray[np.int64], NDArray[np.float32] | None]]:
    """Return rows with equal instrument conditions, and these conditions in the model's order."""
    if not card.instrument_inputs:
        return [(np.arange(len(spectra)), None)]
    # the last column, of inputs that are not known here, is NaN
    columns = [INSTRUMENT_INPUTS.index(name) if name in INSTRUMENT_INPUTS else -1 for name in card.instrument_inputs]
    return [
        (rows, None if conditions is None else np.append(conditions, np.float32(np.nan))[columns])
        for rows, conditions in spectra.by_conditions()
    ]


def count_spectra(
    instrument: Instrument, expected: NDArray[np.floating], counts: float, rng: np.random.Generator
) -> Spectra:
    """Draw counts on an instrument's channels, with a mean sum of ``counts`` per spectrum.

    Parameters
    ----------
    expected : (n, n_channel) array
        Any scale.
    """
    axis = axis_of(instrument.detector)
    scaled = np.asarray(expected, dtype=np.float64) * (counts / expected.sum(axis=1, keepdims=True))
    return Spectra.of_instrument(count(scaled, rng=rng), axis, instrument)
