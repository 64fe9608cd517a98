"""Spectra as they are put to a model, and its answers by group."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

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
    """Counts with what is known of how they were recorded.

    Parameters
    ----------
    counts : (n, n_channel) array
        On ``axis``.
    axis : EnergyAxis
    recorded : (n, 2) float32 array
        Start and stop of the recorded range, keV.
    told : (n, n_input) float32 array or None
        What is known of the instrument, as :data:`~underpaint.simulate.instrument_inputs.INSTRUMENT_INPUTS` names it;
        None: nothing.
    """

    counts: NDArray[np.floating] | NDArray[np.integer]
    axis: EnergyAxis
    recorded: NDArray[np.float32]
    told: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of spectra."""
        return len(self.counts)

    def only(self, rows: NDArray[np.integer] | slice) -> "Spectra":
        """Return some of the spectra."""
        told = None if self.told is None else self.told[rows]
        return replace(self, counts=self.counts[rows], recorded=self.recorded[rows], told=told)

    def untold(self) -> "Spectra":
        """Return the same spectra with nothing known of the instrument."""
        return replace(self, told=None)


@dataclass(frozen=True)
class Answered:
    """What a model said of spectra.

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

    def only(self, row: int) -> "Answered":
        """Return what was said of one spectrum."""
        return replace(self, log_odds=self.log_odds[row : row + 1], probability=self.probability[row : row + 1])

    def by_name(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Return (n, n_name) probabilities; NaN of a name that the model does not answer."""
        return columns_of(self.probability, self.card.names, names)

    def by_group(self, groups: Sequence[str]) -> NDArray[np.float32]:
        """Return (n, n_group) probabilities of groups anywhere.

        A model without groups answers by its likeliest member; NaN where it has none.
        """
        found = self.by_name(groups)
        for column, group in enumerate(groups):
            if group not in self.card.names:
                own = [index for index, counted in enumerate(self.card.groups) if group in counted]
                if own:
                    found[:, column] = self.probability[:, own].max(axis=1)
        return found


def columns_of(values: NDArray[np.float32], names: Sequence[str], wanted: Sequence[str]) -> NDArray[np.float32]:
    """Return (n, n_wanted) columns of (n, n_name) values; NaN where there is none of that name."""
    found = np.full((len(values), len(wanted)), np.nan, dtype=np.float32)
    for column, name in enumerate(wanted):
        if name in names:
            found[:, column] = values[:, list(names).index(name)]
    return found


def ask(model: OnnxModel, spectra: Spectra) -> Answered:
    """Put spectra to a model, on its own axis.

    Spectra without counts on that axis get no answer, NaN. Spectra of one instrument are asked about together.
    """
    matrix = rebin_matrix(spectra.axis, model.card.axis.edges_kev)
    counts = apply_rebin(np.asarray(spectra.counts, dtype=np.float32), matrix)
    parts: list[tuple[NDArray[np.float32], ...]] = []
    rows: list[NDArray[np.int64]] = []
    for own, told in _by_instrument(spectra, model.card):
        for first in range(0, own.size, AT_ONCE):
            rows.append(own[first : first + AT_ONCE])
            parts.append(model(counts[rows[-1]], spectra.recorded[rows[-1]], told))
    back = np.argsort(np.concatenate(rows))
    found = [np.concatenate(each)[back] for each in zip(*parts, strict=True)]
    for own in found:
        own[counts.sum(axis=1) <= 0] = np.nan
    return Answered(model.card, **dict(zip(model.card.output_names, found, strict=True)))


def _by_instrument(spectra: Spectra, card: ModelCard) -> list[tuple[NDArray[np.int64], NDArray[np.float32] | None]]:
    """Return rows that share what is told of the instrument, with what it is, in the model's own order."""
    everything = np.arange(len(spectra))
    if spectra.told is None or not card.instrument_inputs:
        return [(everything, None)]
    known = [INSTRUMENT_INPUTS.index(name) if name in INSTRUMENT_INPUTS else -1 for name in card.instrument_inputs]
    # NaN is unlike itself: told apart by a number that no input has
    _, first, which = np.unique(np.nan_to_num(spectra.told, nan=-9.0), axis=0, return_index=True, return_inverse=True)
    which = which.ravel()
    nothing = np.float32(np.nan)
    return [
        (
            np.flatnonzero(which == index),
            np.asarray([spectra.told[row, column] if column >= 0 else nothing for column in known], dtype=np.float32),
        )
        for index, row in enumerate(first)
    ]


def seen_by(instrument: Instrument, expected: NDArray[np.floating], counts: float, rng: np.random.Generator) -> Spectra:
    """Return spectra as an instrument counts them, their sum ``counts`` on average, on its own channels.

    Parameters
    ----------
    expected : (n, n_channel) array
        Any scale.
    """
    axis = axis_of(instrument.detector)
    scaled = np.asarray(expected, dtype=np.float64) * (counts / expected.sum(axis=1, keepdims=True))
    recorded = np.tile(np.asarray([axis.start_kev, axis.stop_kev], dtype=np.float32), (len(expected), 1))
    told = np.tile(instrument_inputs(instrument), (len(expected), 1))
    return Spectra(count(scaled, rng=rng), axis, recorded, told)
