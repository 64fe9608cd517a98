"""Sentences on an explanation, with the main results first."""

from collections.abc import Iterable, Sequence

from underpaint.physics.materials import library
from underpaint.pigments.explain.explanation import Explanation, Misfit
from underpaint.pigments.explain.states import THICKNESS_RANGE_UM
from underpaint.pigments.explain.verdict import (
    MAX_EVIDENCE_DIFFERENCE,
    MIN_PIGMENT_PROBABILITY,
    MIN_PROBABILITY,
    Estimate,
    LayerResult,
    PairOrder,
    evidence_difference,
    um_text,
)

NOT_DETERMINED = "not determined"
LAYER_NUMBER_TEXTS = ("one layer", "two layers", "three layers")
LAYER_NAMES = ("the top layer", "the second layer", "the third layer")


def explanation_sentences(explanation: Explanation) -> list[str]:
    """Return sentences on order of groups, thickness, number of layers, results that are not determined, and misfits.

    The first sentence states the result of another method, if known.
    """
    known_layers = explanation.candidates.known_layers
    known_sentences = [] if known_layers is None else [known_layers.sentence]
    if not explanation.is_stated:
        return [
            *known_sentences,
            _withheld_sentence(explanation),
            *_misfit_sentences(explanation),
            *explanation.candidates.notes,
        ]
    return [
        *known_sentences,
        *_order_sentences(explanation),
        *(sentence for layer in explanation.layers for sentence in _layer_sentences(layer)),
        _number_sentence(explanation),
        *_absent_sentences(explanation),
        *_run_sentences(explanation),
        _fit_sentence(explanation),
        *_misfit_sentences(explanation),
        *_network_sentences(explanation),
        *explanation.candidates.notes,
    ]


def group_name(name: str) -> str:
    """Return the label of a group without its examples."""
    return library().group(name).label.partition(" (")[0]


def estimate_text(estimate: Estimate, *, share: bool = False) -> str:
    """Return the text of an interval: "47 um (31 to 70)", "at least 42 um", "20 to 60 %", "not determined"."""
    if not estimate.determined:
        return NOT_DETERMINED
    if share:
        low_text, high_text = (f"{100 * limit:.0f}" for limit in (estimate.low, estimate.high))
        return f"{low_text} to {high_text} %" if low_text != high_text else f"{low_text} %"
    low_text, median_text, high_text = (um_text(limit) for limit in (estimate.low, estimate.median, estimate.high))
    if estimate.open_high:
        return f"at least {low_text} um"
    if estimate.open_low:
        return f"at most {high_text} um"
    return f"{median_text} um ({low_text} to {high_text})"


def _stated_orders(explanation: Explanation) -> list[PairOrder]:
    """Return the orders that are stated."""
    return [order for order in explanation.orders if order.determined and explanation.is_stated]


def _order_sentences(explanation: Explanation) -> list[str]:
    groups_below: dict[str, list[str]] = {}
    probability_by_group: dict[str, float] = {}
    for order in _stated_orders(explanation):
        groups_below.setdefault(order.above, []).append(order.below)
        probability_by_group[order.above] = min(order.probability, probability_by_group.get(order.above, 1.0))
    groups_above_by_groups_below: dict[tuple[str, ...], list[str]] = {}
    for groups_above, group_names in groups_below.items():
        groups_above_by_groups_below.setdefault(tuple(sorted(group_names)), []).append(groups_above)
    sentences = [
        f"{_name_list(groups_above)} {'begins' if len(groups_above) == 1 else 'begin'} above {_name_list(group_names)} "
        f"(P {min(probability_by_group[name] for name in groups_above):.2f})."
        for group_names, groups_above in groups_above_by_groups_below.items()
    ]
    undetermined_pairs = [
        order for order in explanation.orders if not order.determined and order.probability > MIN_PIGMENT_PROBABILITY
    ]
    if not sentences and explanation.orders:
        sentences = [
            f"The order of the layers is {NOT_DETERMINED}: no pair of groups reaches {MIN_PROBABILITY:g} in both runs."
        ]
    elif undetermined_pairs:
        pair_texts = ", ".join(
            f"{group_name(order.above)} and {group_name(order.below)}" for order in undetermined_pairs
        )
        sentences.append(f"The order is {NOT_DETERMINED} for {pair_texts}.")
    return sentences


def _layer_sentences(layer_result: LayerResult) -> list[str]:
    layer_name, group_names = LAYER_NAMES[layer_result.layer], _name_list(layer_result.presence)
    names_in_brackets = f" ({group_names})" if group_names else ""
    if layer_result.thickness.determined:
        sentences = [f"Thickness of {layer_name}{names_in_brackets}: {estimate_text(layer_result.thickness)}, 90 %."]
    else:
        sentences = [
            f"Thickness of {layer_name}{names_in_brackets}: {NOT_DETERMINED}; {layer_result.thickness.reason}."
        ]
    if layer_result.thickness_by_member:
        thickness_texts = "; ".join(
            f"{library()[name].label} {estimate_text(estimate)}"
            for name, estimate in layer_result.thickness_by_member.items()
        )
        sentences.append(f"The thickness depends on the pigment, which is not determined: {thickness_texts}.")
    return sentences


def _number_sentence(explanation: Explanation) -> str:
    layer_number = explanation.layer_number
    if layer_number.determined is not None:
        probability = layer_number.probability[layer_number.determined - 1]
        return (
            f"{LAYER_NUMBER_TEXTS[layer_number.determined - 1].capitalize()} of paint are distinguishable (P "
            f"{probability:.2f}). Layers below an opaque layer and further layers of the same groups are not counted."
        )
    probability_texts = ", ".join(
        f"{name} {probability:.2f}"
        for name, probability in zip(LAYER_NUMBER_TEXTS, layer_number.probability, strict=True)
        if probability >= 0.01
    )
    has_one_group = len(explanation.candidates.groups) == 1
    reason = "layers of one group are indistinguishable" if has_one_group else probability_texts
    return f"The number of layers is {NOT_DETERMINED}: {reason}."


def _absent_sentences(explanation: Explanation) -> list[str]:
    uncertain_groups = [
        f"{group_name(name)} (P {probability:.2f})"
        for name, probability in explanation.presence.items()
        if 0.05 < probability < MIN_PROBABILITY
    ]
    unneeded_groups = [
        f"{group_name(name)} (P {probability:.2f})"
        for name, probability in explanation.presence.items()
        if probability <= 0.05
    ]
    sentences = [f"Possibly present: {', '.join(uncertain_groups)}."] if uncertain_groups else []
    return sentences + ([f"Not needed for the spectrum: {', '.join(unneeded_groups)}."] if unneeded_groups else [])


def _run_sentences(explanation: Explanation) -> list[str]:
    log_evidence_difference = evidence_difference(explanation.runs)
    if log_evidence_difference < MAX_EVIDENCE_DIFFERENCE:
        return []
    return [f"The runs differ by {log_evidence_difference:.0f} in log evidence: at least one run missed likely layers."]


def _fit_sentence(explanation: Explanation) -> str:
    fit = explanation.fit
    return (
        f"The best draw describes the spectrum within the model's error: chi-square {fit.chi_square:,.0f} for "
        f"{fit.n_bin} bins. Layers thinner than {THICKNESS_RANGE_UM[0]:g} um are not considered."
    )


def _withheld_sentence(explanation: Explanation) -> str:
    fit = explanation.fit
    return (
        f"Layers, order and thickness are not stated: no combination of the candidates describes the spectrum within "
        f"the model's error (chi-square {fit.chi_square:,.0f} for {fit.n_bin} bins). Check the description of the "
        "instrument, and whether a pigment is missing."
    )


def _misfit_sentences(explanation: Explanation) -> list[str]:
    return [_misfit_sentence(misfit) for misfit in explanation.fit.misfits]


def _misfit_sentence(misfit: Misfit) -> str:
    comparison = "more" if misfit.measured > misfit.expected else "fewer"
    family_text = (
        f"; {misfit.family.replace('_', ' ')} has a line at this energy, and no candidate pigment contains this element"
        if misfit.family
        else ""
    )
    return (
        f"At {misfit.energy_kev:.2f} keV there are {comparison} counts than expected: {misfit.measured:,.0f} "
        f"instead of {misfit.expected:,.0f} ± {misfit.error:,.0f} ({misfit.sigmas:+.0f} sigma of counting noise "
        f"and model error){family_text}."
    )


def _network_sentences(explanation: Explanation) -> list[str]:
    likely_groups = {
        name: probability
        for name, probability in explanation.candidates.probability.items()
        if probability >= MIN_PIGMENT_PROBABILITY
    }
    if not likely_groups:
        return []
    probability_texts = ", ".join(
        f"{group_name(name)} {probability:.2f}" for name, probability in likely_groups.items()
    )
    return [f"The network's probabilities: {probability_texts}."]


def _name_list(names: Iterable[str]) -> str:
    labels: Sequence[str] = [group_name(name) for name in names]
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}" if labels else ""
