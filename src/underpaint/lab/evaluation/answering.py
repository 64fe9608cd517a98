"""Spectra as input of a model, and the answers of the model by group."""

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

BATCH_SIZE = 2048
"""Number of spectra in one call of a network."""


@dataclass(frozen=True)
class Spectra:
    """Counts, and the conditions under which they were measured.

    Parameters
    ----------
    counts : (n, n_channel) array
        Counts in the channels of ``axis``.
    axis : EnergyAxis
    recorded_kev : (n, 2) float32 array
        Lowest and highest recorded energy, in keV.
    conditions : (n, n_input) float32 array or None
        Instrument conditions in the order of :data:`~underpaint.simulate.instrument_inputs.INSTRUMENT_INPUTS`.
        None means that the instrument conditions are unknown.
    """

    counts: NDArray[np.floating] | NDArray[np.integer]
    axis: EnergyAxis
    recorded_kev: NDArray[np.float32]
    conditions: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of spectra."""
        return len(self.counts)

    def select_rows(self, rows: NDArray[np.integer] | slice) -> "Spectra":
        """Return the spectra in the given rows."""
        conditions = None if self.conditions is None else self.conditions[rows]
        return replace(self, counts=self.counts[rows], recorded_kev=self.recorded_kev[rows], conditions=conditions)

    @classmethod
    def from_instrument(cls, counts: NDArray[Any], axis: EnergyAxis, instrument: Instrument) -> "Spectra":
        """Return spectra of an instrument that recorded the whole energy axis."""
        n_spectra, recorded_kev = len(counts), np.asarray([axis.start_kev, axis.stop_kev], dtype=np.float32)
        return cls(
            counts, axis, np.tile(recorded_kev, (n_spectra, 1)), np.tile(instrument_inputs(instrument), (n_spectra, 1))
        )

    def rows_by_conditions(self) -> list[tuple[NDArray[np.int64], NDArray[np.float32] | None]]:
        """Group spectra by instrument conditions. Return the rows and conditions (None if unknown) of each group."""
        if self.conditions is None:
            return [(np.arange(len(self)), None)]
        # NaN does not equal itself, so NaN is replaced by a number that no condition has
        _, first_row_of_set, set_index_of_row = np.unique(
            np.nan_to_num(self.conditions, nan=-9.0), axis=0, return_index=True, return_inverse=True
        )
        return [
            (np.flatnonzero(set_index_of_row.ravel() == set_index), self.conditions[first_row])
            for set_index, first_row in enumerate(first_row_of_set)
        ]

    def without_conditions(self) -> "Spectra":
        """Return a copy of the spectra without instrument conditions."""
        return replace(self, conditions=None)


@dataclass(frozen=True)
class ModelAnswers:
    """Answers of a model for n spectra.

    Parameters
    ----------
    card : ModelCard
    log_odds, probability : (n, n_name) float32 arrays
        NaN if the model gives no answer.
    quantity, sigma : (n, n_quantity) float32 arrays or None
        Estimates of the model's quantities, such as a thickness, and their standard deviations.
        Estimates and standard deviations are on the scales of :mod:`underpaint.data.maps`. None means that the model
        has no quantities.
    amount : (n, n_amount n_edge) float32 array or None
        Log-odds that a mass fraction reaches each class edge, or None if the model does not predict amounts.
    """

    card: ModelCard
    log_odds: NDArray[np.float32]
    probability: NDArray[np.float32]
    quantity: NDArray[np.float32] | None = None
    sigma: NDArray[np.float32] | None = None
    amount: NDArray[np.float32] | None = None

    def select_row(self, spectrum_index: int) -> "ModelAnswers":
        """Return the answers for the spectrum with the given index."""
        return replace(
            self,
            log_odds=self.log_odds[spectrum_index : spectrum_index + 1],
            probability=self.probability[spectrum_index : spectrum_index + 1],
        )

    def probability_by_name(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Return (n, n_name) probabilities, or NaN for names that are not outputs of the model."""
        return columns_by_name(self.probability, self.card.names, names)

    def probability_by_group(self, groups: Sequence[str]) -> NDArray[np.float32]:
        """Return (n, n_group) probabilities that a group is present anywhere in the paint.

        If a group is not an output of the model, its probability is that of its most probable member. If neither the
        group nor any member is an output, the probability is NaN.
        """
        probability = self.probability_by_name(groups)
        for group_column, group in enumerate(groups):
            if group not in self.card.names:
                members = [
                    member_column
                    for member_column, member_groups in enumerate(self.card.groups)
                    if group in member_groups
                ]
                if members:
                    probability[:, group_column] = self.probability[:, members].max(axis=1)
        return probability


def columns_by_name(
    answers: NDArray[np.float32], names: Sequence[str], wanted_names: Sequence[str]
) -> NDArray[np.float32]:
    """Return the (n, n_wanted) columns of the wanted names, or NaN for names without a column."""
    wanted_columns = np.full((len(answers), len(wanted_names)), np.nan, dtype=np.float32)
    for wanted_column, name in enumerate(wanted_names):
        if name in names:
            wanted_columns[:, wanted_column] = answers[:, list(names).index(name)]
    return wanted_columns


def run_model(model: OnnxModel, spectra: Spectra) -> ModelAnswers:
    """Rebin spectra to the axis of a model, and run the model on them.

    Answers are NaN for spectra without counts on the model's axis. Spectra with the same instrument conditions are
    processed together.
    """
    rebinning_matrix = rebin_matrix(spectra.axis, model.card.axis.edges_kev)
    counts = apply_rebin(np.asarray(spectra.counts, dtype=np.float32), rebinning_matrix)
    batches: list[tuple[NDArray[np.float32], ...]] = []
    batch_rows: list[NDArray[np.int64]] = []
    for rows, conditions in _rows_by_conditions(spectra, model.card):
        for batch_start in range(0, rows.size, BATCH_SIZE):
            batch_rows.append(rows[batch_start : batch_start + BATCH_SIZE])
            batches.append(model(counts[batch_rows[-1]], spectra.recorded_kev[batch_rows[-1]], conditions))
    original_order = np.argsort(np.concatenate(batch_rows))
    outputs = [np.concatenate(batch_outputs)[original_order] for batch_outputs in zip(*batches, strict=True)]
    for output in outputs:
        output[counts.sum(axis=1) <= 0] = np.nan
    return ModelAnswers(model.card, **dict(zip(model.card.output_names, outputs, strict=True)))


def _rows_by_conditions(
    spectra: Spectra, model_card: ModelCard
) -> list[tuple[NDArray[np.int64], NDArray[np.float32] | None]]:
    """Group spectra by instrument conditions. Return rows, and conditions in the order of the model inputs."""
    if not model_card.instrument_inputs:
        return [(np.arange(len(spectra)), None)]
    # the index -1 marks a model input without a known condition, and selects a column of NaN
    input_columns = [
        INSTRUMENT_INPUTS.index(name) if name in INSTRUMENT_INPUTS else -1 for name in model_card.instrument_inputs
    ]
    return [
        (rows, None if conditions is None else np.append(conditions, np.float32(np.nan))[input_columns])
        for rows, conditions in spectra.rows_by_conditions()
    ]


def draw_spectra(
    instrument: Instrument, expected_counts: NDArray[np.floating], counts: float, rng: np.random.Generator
) -> Spectra:
    """Draw spectra in the channels of an instrument. The mean total counts of each spectrum are ``counts``.

    Parameters
    ----------
    expected_counts : (n, n_channel) array
        Expected counts in arbitrary units.
    """
    axis = axis_of(instrument.detector)
    scaled_counts = np.asarray(expected_counts, dtype=np.float64) * (
        counts / expected_counts.sum(axis=1, keepdims=True)
    )
    return Spectra.from_instrument(count(scaled_counts, rng=rng), axis, instrument)
