"""An explanation in sentences, the main results first."""

from collections.abc import Iterable, Sequence

from underpaint.physics.materials import library
from underpaint.pigments.explain.explanation import Explanation, Misfit
from underpaint.pigments.explain.states import THICKNESS_RANGE_UM
from underpaint.pigments.explain.verdict import (
    MAX_EVIDENCE_DIFFERENCE,
    MIN_PIGMENT_PROBABILITY,
    MIN_PROBABILITY,
    Estimate,
    LayerVerdict,
    PairOrder,
    evidence_difference,
    um_text,
)

NOT_DETERMINED = "not determined"
LAYER_NUMBER_TEXTS = ("one layer", "two layers", "three layers")
LAYER_NAMES = ("the top layer", "the second layer", "the third layer")


def in_words(explanation: Explanation) -> list[str]:
    """Return sentences on the order of the groups, thickness, number of layers, open questions, and misfits.

    The result of another method, if there is one, is the first sentence.
    """
    known = explanation.candidates.known
    known_sentences = [] if known is None else [known.words]
    if not explanation.stated:
        return [
            *known_sentences,
            _withheld_sentence(explanation),
            *_misfits(explanation),
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
        *_misfits(explanation),
        *_network_sentences(explanation),
        *explanation.candidates.notes,
    ]


def group_name(name: str) -> str:
    """Return a group's label without its examples."""
    return library().group(name).label.partition(" (")[0]


def estimate_text(estimate: Estimate, *, share: bool = False) -> str:
    """Return an interval for people: "47 um (31 to 70)", "at least 42 um", "20 to 60 %", "not determined"."""
    if not estimate.determined:
        return NOT_DETERMINED
    if share:
        low, high = (f"{100 * limit:.0f}" for limit in (estimate.low, estimate.high))
        return f"{low} to {high} %" if low != high else f"{low} %"
    low, median, high = (um_text(limit) for limit in (estimate.low, estimate.median, estimate.high))
    if estimate.open_high:
        return f"at least {low} um"
    if estimate.open_low:
        return f"at most {high} um"
    return f"{median} um ({low} to {high})"


def _stated_orders(explanation: Explanation) -> list[PairOrder]:
    """Return the orders that are certain enough to be stated."""
    return [order for order in explanation.orders if order.determined and explanation.stated]


def _order_sentences(explanation: Explanation) -> list[str]:
    below: dict[str, list[str]] = {}
    probability: dict[str, float] = {}
    for order in _stated_orders(explanation):
        below.setdefault(order.above, []).append(order.below)
        probability[order.above] = min(order.probability, probability.get(order.above, 1.0))
    groups_above_by_groups_below: dict[tuple[str, ...], list[str]] = {}
    for above, names in below.items():
        groups_above_by_groups_below.setdefault(tuple(sorted(names)), []).append(above)
    sentences = [
        f"{_name_list(above)} {'begins' if len(above) == 1 else 'begin'} above {_name_list(names)} "
        f"(P {min(probability[name] for name in above):.2f})."
        for names, above in groups_above_by_groups_below.items()
    ]
    open_pairs = [
        order for order in explanation.orders if not order.determined and order.probability > MIN_PIGMENT_PROBABILITY
    ]
    if not sentences and explanation.orders:
        sentences = [
            f"The order of the layers is {NOT_DETERMINED}: no pair of groups reaches {MIN_PROBABILITY:g} in both runs."
        ]
    elif open_pairs:
        pairs = ", ".join(f"{group_name(order.above)} and {group_name(order.below)}" for order in open_pairs)
        sentences.append(f"Their order is {NOT_DETERMINED}: {pairs}.")
    return sentences


def _layer_sentences(layer: LayerVerdict) -> list[str]:
    place, names = LAYER_NAMES[layer.layer], _name_list(layer.presence)
    names_in_brackets = f" ({names})" if names else ""
    if layer.thickness.determined:
        sentences = [f"Thickness of {place}{names_in_brackets}: {estimate_text(layer.thickness)}, 90 %."]
    else:
        sentences = [f"Thickness of {place}{names_in_brackets}: {NOT_DETERMINED}; {layer.thickness.reason}."]
    if layer.by_member:
        thickness_texts = "; ".join(
            f"{library()[name].label} {estimate_text(estimate)}" for name, estimate in layer.by_member.items()
        )
        sentences.append(f"It depends on the pigment, which the spectrum leaves open: {thickness_texts}.")
    return sentences


def _number_sentence(explanation: Explanation) -> str:
    number = explanation.number
    if number.determined is not None:
        probability = number.probability[number.determined - 1]
        return (
            f"{LAYER_NUMBER_TEXTS[number.determined - 1].capitalize()} of paint can be told apart (P "
            f"{probability:.2f}); what an opaque layer hides is not counted, nor is a further layer of the same groups."
        )
    probability_texts = ", ".join(
        f"{name} {probability:.2f}"
        for name, probability in zip(LAYER_NUMBER_TEXTS, number.probability, strict=True)
        if probability >= 0.01
    )
    alone = len(explanation.candidates.groups) == 1
    reason = "layers of one group are not told apart" if alone else probability_texts
    return f"The number of layers is {NOT_DETERMINED}: {reason}."


def _absent_sentences(explanation: Explanation) -> list[str]:
    open_groups = [
        f"{group_name(name)} (P {probability:.2f})"
        for name, probability in explanation.presence.items()
        if 0.05 < probability < MIN_PROBABILITY
    ]
    not_needed = [
        f"{group_name(name)} (P {probability:.2f})"
        for name, probability in explanation.presence.items()
        if probability <= 0.05
    ]
    sentences = [f"May be there or not: {', '.join(open_groups)}."] if open_groups else []
    return sentences + ([f"Not needed for the spectrum: {', '.join(not_needed)}."] if not_needed else [])


def _run_sentences(explanation: Explanation) -> list[str]:
    difference = evidence_difference(explanation.runs)
    if difference < MAX_EVIDENCE_DIFFERENCE:
        return []
    return [
        f"The runs differ by {difference:.0f} in log evidence: one of them missed likely layers, and both may have."
    ]


def _fit_sentence(explanation: Explanation) -> str:
    fit = explanation.fit
    return (
        f"The best draw describes the spectrum within the model's error: chi-square {fit.chi_square:,.0f} for "
        f"{fit.n_bin} bins. Layers thinner than {THICKNESS_RANGE_UM[0]:g} um are not considered."
    )


def _withheld_sentence(explanation: Explanation) -> str:
    fit = explanation.fit
    return (
        f"Layers, order and thickness are withheld: nothing that was tried describes the spectrum, even within the "
        f"model's error (chi-square {fit.chi_square:,.0f} for {fit.n_bin} bins). Check the instrument's description, "
        "and whether a pigment is missing."
    )


def _misfits(explanation: Explanation) -> list[str]:
    return [_misfit(misfit) for misfit in explanation.fit.misfits]


def _misfit(misfit: Misfit) -> str:
    direction = "more" if misfit.measured > misfit.expected else "fewer"
    family_text = (
        f"; {misfit.family.replace('_', ' ')} lies there, and no pigment that was tried carries it"
        if misfit.family
        else ""
    )
    return (
        f"At {misfit.energy_kev:.2f} keV there are {direction} counts than expected: {misfit.measured:,.0f} where "
        f"{misfit.expected:,.0f} are ({misfit.sigmas:+.0f} sigma){family_text}."
    )


def _network_sentences(explanation: Explanation) -> list[str]:
    likely = {
        name: value for name, value in explanation.candidates.probability.items() if value >= MIN_PIGMENT_PROBABILITY
    }
    if not likely:
        return []
    probability_texts = ", ".join(f"{group_name(name)} {value:.2f}" for name, value in likely.items())
    return [f"The network's probabilities: {probability_texts}."]


def _name_list(names: Iterable[str]) -> str:
    labels: Sequence[str] = [group_name(name) for name in names]
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}" if labels else ""
