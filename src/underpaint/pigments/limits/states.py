"""State of each group at each pixel: pigment, trace, present, not detected, cannot be excluded."""

from collections.abc import Mapping
from dataclasses import asdict

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.data.maps import (
    CANNOT_EXCLUDE,
    MIN_STATED_PROBABILITY,
    NO_ANSWER,
    NOT_DETECTED,
    PIGMENT,
    PRESENT,
    PRESENT_PROBABILITY,
    TRACE,
    Results,
)
from underpaint.physics.instrument import Instrument
from underpaint.pigments.limits.exclusion import (
    LINE_SIGMA,
    MODEL_ERROR,
    Burial,
    Exclusion,
    detectable_groups,
    significant_lines,
)
from underpaint.pigments.weights import PredictionSets

SET_COVERAGE = 0.99
"""Coverage of the prediction sets that must contain only one answer."""


def answer_states(
    results: Results,
    pixel_counts: NDArray[np.integer] | NDArray[np.floating],
    instrument: Instrument | None = None,
    axis: EnergyAxis | None = None,
    *,
    burial: Burial | None = None,
) -> Results:
    """Return the state of every group at every pixel.

    A group is present if its probability exceeds one half. For networks with amounts, a present group is a pigment if
    its amount reaches the threshold with a probability of 95 %, and a trace if the amount is below the threshold with
    95 %. A group that is not present cannot be excluded in three cases: one of its lines is significant; the prediction
    set of 99 % coverage for these counts contains more than "absent"; or the instrument is known, and a layer of the
    group below the present groups would not have been detected. All other groups are not detected.

    Parameters
    ----------
    results : Results
        Probabilities, with amounts and element maps if available. For a model without groups, the result contains the
        states of pigments.
    pixel_counts : (n_row, n_column) array
        Total counts of each spectrum.
    instrument : Instrument or None
        Instrument that recorded the scan; None: hidden groups are not considered.
    axis : EnergyAxis or None
        Energy axis of the scan; needed with an instrument.
    burial : Burial, optional
        Assumed layers of a hidden pigment.

    Returns
    -------
    Results
        Results that contain only the states.

    Raises
    ------
    ValueError
        The counts belong to another scan.
    SampleError
        The library does not know a name of the results.
    """
    if pixel_counts.shape != results.shape:
        raise ValueError(
            f"Cannot say what would be seen: {pixel_counts.shape} pixel counts for maps of "
            f"{results.shape} pixels. Give the counts of the same scan."
        )
    names, counts = results.targets, np.asarray(pixel_counts, float)
    probability = np.stack([results[name] for name in names], axis=2)
    is_present, is_significant = probability > PRESENT_PROBABILITY, significant_lines(results)
    state = np.full(probability.shape, NOT_DETECTED, np.uint8)
    state[_cannot_be_excluded(results, is_significant, counts)] = CANNOT_EXCLUDE
    exclusion = None
    if instrument is not None and axis is not None:
        is_excluded, exclusion = detectable_groups(
            results, is_present, is_significant, counts, instrument, axis, burial
        )
        state[~is_excluded] = CANNOT_EXCLUDE
    state[is_present] = PRESENT
    for index, name in enumerate(names):
        if results.knows_amount(name):
            probability_reached = results.map("amount_reached", name, "anywhere")
            state[:, :, index][is_present[:, :, index] & (probability_reached > MIN_STATED_PROBABILITY)] = PIGMENT
            state[:, :, index][is_present[:, :, index] & (probability_reached < 1.0 - MIN_STATED_PROBABILITY)] = TRACE
    state[~np.isfinite(probability)] = NO_ANSWER
    return Results.of_states(
        names,
        [results.label(name) for name in names],
        state,
        step_mm=results.step_mm,
        notes=() if exclusion is None else (_note_on_burial(exclusion.burial),),
        settings={"present_probability": PRESENT_PROBABILITY} | ({} if exclusion is None else _settings(exclusion)),
    )


def _cannot_be_excluded(
    results: Results, is_significant: Mapping[str, NDArray[np.bool_]], counts: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Return where a line is significant, or the prediction set contains more than "absent"."""
    set_record = results.model_card.get("sets") if "log_odds" in results.stacks else None
    prediction_sets = None if set_record is None else PredictionSets.model_validate(set_record)
    masks = []
    for name in results.targets:
        elements = {family.partition("_")[0] for family in results.materials[name].elements}
        masks.append(
            np.any(
                [
                    np.zeros(counts.shape, bool),
                    *(is_significant[element] for element in elements & set(is_significant)),
                ],
                0,
            )
        )
        if prediction_sets is not None:
            masks[-1] |= prediction_sets.is_ambiguous(
                name, results.map("log_odds", name, "anywhere"), counts, SET_COVERAGE
            )
    return np.stack(masks, axis=2)


def _note_on_burial(burial: Burial) -> str:
    return (
        f"Not detected means: {burial.hidden_um:g} µm of plain paint of the group, under {burial.cover_um:g} µm of "
        f"plain paint of any one of the groups that are present, over {burial.ground_um:g} µm of {burial.ground}, "
        "would have been seen at the pixel's counts. Less of it, or under more, may always be there."
    )


def _settings(exclusion: Exclusion) -> dict[str, object]:
    return {
        "burial": asdict(exclusion.burial),
        "typical": dict(zip(exclusion.names, exclusion.typical_pigments, strict=True)),
        "present_probability": PRESENT_PROBABILITY,
        "line_sigma": LINE_SIGMA,
        "model_error": MODEL_ERROR,
    }
