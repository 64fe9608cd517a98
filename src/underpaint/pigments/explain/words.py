"""An explanation in plain words, the verdict first."""

from collections.abc import Iterable, Sequence

from underpaint.physics.materials import library
from underpaint.pigments.explain.explanation import Explanation, Misfit
from underpaint.pigments.explain.states import THICKNESS_UM
from underpaint.pigments.explain.verdict import (
    FAR_APART,
    LIKELY,
    SURE,
    Estimate,
    LayerVerdict,
    PairOrder,
    evidence_apart,
    um_text,
)

NOT_DETERMINED = "not determined"
NUMBERS = ("one layer", "two layers", "three layers")
PLACES = ("the top layer", "the second layer", "the third layer")


def in_words(explanation: Explanation) -> list[str]:
    """Return sentences: the order of the groups, thickness, number of layers, what is open, and what does not fit.

    Where something is known from another method, it is the first sentence.
    """
    known = explanation.wanted.known
    put_in = [] if known is None else [known.words]
    if not explanation.stated:
        return [*put_in, _withheld(explanation), *_misfits(explanation), *explanation.wanted.notes]
    return [
        *put_in,
        *_orders(explanation),
        *(sentence for layer in explanation.layers for sentence in _layer(layer)),
        _number(explanation),
        *_absent(explanation),
        *_runs(explanation),
        _fit(explanation),
        *_misfits(explanation),
        *_network(explanation),
        *explanation.wanted.notes,
    ]


def group_name(name: str) -> str:
    """Return a group's label without its examples."""
    return library().group(name).label.partition(" (")[0]


def estimate_text(estimate: Estimate, *, share: bool = False) -> str:
    """Return an interval for people: "47 um (31 to 70)", "at least 42 um", "20 to 60 %", "not determined"."""
    if not estimate.determined:
        return NOT_DETERMINED
    if share:
        low, high = (f"{100 * each:.0f}" for each in (estimate.low, estimate.high))
        return f"{low} to {high} %" if low != high else f"{low} %"
    low, median, high = (um_text(each) for each in (estimate.low, estimate.median, estimate.high))
    if estimate.open_high:
        return f"at least {low} um"
    if estimate.open_low:
        return f"at most {high} um"
    return f"{median} um ({low} to {high})"


def _stated_orders(explanation: Explanation) -> list[PairOrder]:
    """Return the orders that may be stated."""
    return [order for order in explanation.orders if order.determined and explanation.stated]


def _orders(explanation: Explanation) -> list[str]:
    below: dict[str, list[str]] = {}
    chance: dict[str, float] = {}
    for order in _stated_orders(explanation):
        below.setdefault(order.above, []).append(order.below)
        chance[order.above] = min(order.probability, chance.get(order.above, 1.0))
    together: dict[tuple[str, ...], list[str]] = {}
    for above, names in below.items():
        together.setdefault(tuple(sorted(names)), []).append(above)
    sentences = [
        f"{_listed(above)} {'begins' if len(above) == 1 else 'begin'} above {_listed(names)} "
        f"(P {min(chance[name] for name in above):.2f})."
        for names, above in together.items()
    ]
    open_pairs = [order for order in explanation.orders if not order.determined and order.probability > LIKELY]
    if not sentences and explanation.orders:
        sentences = [f"The order of the layers is {NOT_DETERMINED}: no pair of groups reaches {SURE:g} in both runs."]
    elif open_pairs:
        pairs = ", ".join(f"{group_name(order.above)} and {group_name(order.below)}" for order in open_pairs)
        sentences.append(f"Their order is {NOT_DETERMINED}: {pairs}.")
    return sentences


def _layer(layer: LayerVerdict) -> list[str]:
    place, names = PLACES[layer.layer], _listed(layer.presence)
    of = f" ({names})" if names else ""
    if layer.thickness.determined:
        sentences = [f"Thickness of {place}{of}: {estimate_text(layer.thickness)}, 90 %."]
    else:
        sentences = [f"Thickness of {place}{of}: {NOT_DETERMINED}; {layer.thickness.reason}."]
    if layer.by_member:
        each = "; ".join(f"{library()[name].label} {estimate_text(one)}" for name, one in layer.by_member.items())
        sentences.append(f"It depends on the pigment, which the spectrum leaves open: {each}.")
    return sentences


def _number(explanation: Explanation) -> str:
    number = explanation.number
    if number.determined is not None:
        chance = number.probability[number.determined - 1]
        return (
            f"{NUMBERS[number.determined - 1].capitalize()} of paint can be told apart (P {chance:.2f}); what an "
            "opaque layer hides is not counted, nor is a further layer of the same groups."
        )
    chances = ", ".join(
        f"{name} {chance:.2f}" for name, chance in zip(NUMBERS, number.probability, strict=True) if chance >= 0.01
    )
    alone = len(explanation.wanted.groups) == 1
    why = "layers of one group are not told apart" if alone else chances
    return f"The number of layers is {NOT_DETERMINED}: {why}."


def _absent(explanation: Explanation) -> list[str]:
    open_groups = [f"{group_name(name)} (P {p:.2f})" for name, p in explanation.presence.items() if 0.05 < p < SURE]
    gone = [f"{group_name(name)} (P {p:.2f})" for name, p in explanation.presence.items() if p <= 0.05]
    sentences = [f"May be there or not: {', '.join(open_groups)}."] if open_groups else []
    return sentences + ([f"Not needed for the spectrum: {', '.join(gone)}."] if gone else [])


def _runs(explanation: Explanation) -> list[str]:
    apart = evidence_apart(explanation.runs)
    if apart < FAR_APART:
        return []
    return [f"The runs differ by {apart:.0f} in log evidence: one of them missed likely layers, and both may have."]


def _fit(explanation: Explanation) -> str:
    fit = explanation.fit
    return (
        f"The best draw describes the spectrum within the model's error: chi-square {fit.chi_square:,.0f} for "
        f"{fit.n_bin} bins. Layers thinner than {THICKNESS_UM[0]:g} um are not considered."
    )


def _withheld(explanation: Explanation) -> str:
    fit = explanation.fit
    return (
        f"Layers, order and thickness are withheld: nothing that was tried describes the spectrum, even within the "
        f"model's error (chi-square {fit.chi_square:,.0f} for {fit.n_bin} bins). Check the instrument's description, "
        "and whether a pigment is missing."
    )


def _misfits(explanation: Explanation) -> list[str]:
    return [_misfit(misfit) for misfit in explanation.fit.misfits]


def _misfit(misfit: Misfit) -> str:
    more = "more" if misfit.measured > misfit.expected else "fewer"
    line = (
        f"; {misfit.family.replace('_', ' ')} lies there, and no pigment that was tried carries it"
        if misfit.family
        else ""
    )
    return (
        f"At {misfit.energy_kev:.2f} keV there are {more} counts than expected: {misfit.measured:,.0f} where "
        f"{misfit.expected:,.0f} are ({misfit.sigmas:+.0f} sigma){line}."
    )


def _network(explanation: Explanation) -> list[str]:
    likely = {name: value for name, value in explanation.wanted.probability.items() if value >= LIKELY}
    if not likely:
        return []
    each = ", ".join(f"{group_name(name)} {value:.2f}" for name, value in likely.items())
    return [f"The network's probabilities: {each}."]


def _listed(names: Iterable[str]) -> str:
    labels: Sequence[str] = [group_name(name) for name in names]
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}" if labels else ""
