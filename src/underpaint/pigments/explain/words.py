"""An explanation in plain words, the verdict first."""

from collections.abc import Iterable, Sequence

from underpaint.physics.materials import library
from underpaint.pigments.explain.explanation import Explanation, Misfit
from underpaint.pigments.explain.states import THICKNESS_UM
from underpaint.pigments.explain.verdict import LIKELY, SURE, Estimate, LayerVerdict, PairOrder, um_text

FAR_APART = 5.0
"""Difference of the runs' log evidence that is mentioned."""
NOT_DETERMINED = "not determined"
NUMBERS = ("one layer", "two layers", "three layers")
PLACES = ("the top layer", "the second layer", "the third layer")


def in_words(found: Explanation) -> list[str]:
    """Return sentences: the order of the groups, thickness, number of layers, what is open, and what does not fit."""
    if not found.stated:
        return [_withheld(found), *_misfits(found), *found.wanted.notes]
    return [
        *_orders(found),
        *(sentence for own in found.layers for sentence in _layer(own)),
        _number(found),
        *_absent(found),
        *_runs(found),
        _fit(found),
        *_misfits(found),
        *_network(found),
        *found.wanted.notes,
    ]


def group_name(name: str) -> str:
    """Return a group's label without its examples."""
    return library().group(name).label.partition(" (")[0]


def estimate_text(own: Estimate, *, share: bool = False) -> str:
    """Return an interval for people: "47 um (31 to 70)", "at least 42 um", "20 to 60 %", "not determined"."""
    if not own.determined:
        return NOT_DETERMINED
    if share:
        low, high = (f"{100 * each:.0f}" for each in (own.low, own.high))
        return f"{low} to {high} %" if low != high else f"{low} %"
    low, median, high = (um_text(each) for each in (own.low, own.median, own.high))
    if own.open_high:
        return f"at least {low} um"
    if own.open_low:
        return f"at most {high} um"
    return f"{median} um ({low} to {high})"


def stated_orders(found: Explanation) -> list[PairOrder]:
    """Return the orders that may be stated."""
    return [own for own in found.orders if own.determined and found.stated]


def _orders(found: Explanation) -> list[str]:
    below: dict[str, list[str]] = {}
    chance: dict[str, float] = {}
    for own in stated_orders(found):
        below.setdefault(own.above, []).append(own.below)
        chance[own.above] = min(own.probability, chance.get(own.above, 1.0))
    together: dict[tuple[str, ...], list[str]] = {}
    for above, names in below.items():
        together.setdefault(tuple(sorted(names)), []).append(above)
    sentences = [
        f"{_listed(above)} {'begins' if len(above) == 1 else 'begin'} above {_listed(names)} "
        f"(P {min(chance[own] for own in above):.2f})."
        for names, above in together.items()
    ]
    open_pairs = [own for own in found.orders if not own.determined and own.probability > LIKELY]
    if not sentences and len(found.wanted.groups) > 1:
        sentences = [f"The order of the layers is {NOT_DETERMINED}: no pair of groups reaches {SURE:g} in both runs."]
    elif open_pairs:
        pairs = ", ".join(f"{group_name(own.above)} and {group_name(own.below)}" for own in open_pairs)
        sentences.append(f"Their order is {NOT_DETERMINED}: {pairs}.")
    return sentences


def _layer(own: LayerVerdict) -> list[str]:
    place, names = PLACES[own.layer], _listed(own.presence)
    of = f" ({names})" if names else ""
    if own.thickness.determined:
        sentences = [f"Thickness of {place}{of}: {estimate_text(own.thickness)}, 90 %."]
    else:
        sentences = [f"Thickness of {place}{of}: {NOT_DETERMINED}; {own.thickness.reason}."]
    if own.by_member and own.thickness.determined:
        each = "; ".join(f"{library()[name].label} {estimate_text(one)}" for name, one in own.by_member.items())
        sentences.append(f"It depends on the pigment, which the spectrum leaves open: {each}.")
    return sentences


def _number(found: Explanation) -> str:
    number = found.number
    if number.determined is not None:
        chance = number.probability[number.determined - 1]
        return (
            f"{NUMBERS[number.determined - 1].capitalize()} of paint can be told apart (P {chance:.2f}); what an "
            "opaque layer hides is not counted, nor is a further layer of the same groups."
        )
    chances = ", ".join(
        f"{name} {chance:.2f}" for name, chance in zip(NUMBERS, number.probability, strict=True) if chance >= 0.01
    )
    alone = len(found.wanted.groups) == 1
    why = "layers of one group are not told apart" if alone else chances
    return f"The number of layers is {NOT_DETERMINED}: {why}."


def _absent(found: Explanation) -> list[str]:
    open_groups = [f"{group_name(name)} (P {p:.2f})" for name, p in found.presence.items() if 0.05 < p < SURE]
    gone = [f"{group_name(name)} (P {p:.2f})" for name, p in found.presence.items() if p <= 0.05]
    sentences = [f"May be there or not: {', '.join(open_groups)}."] if open_groups else []
    return sentences + ([f"Not needed for the spectrum: {', '.join(gone)}."] if gone else [])


def _runs(found: Explanation) -> list[str]:
    evidence = [run.log_evidence for run in found.runs]
    apart = max(evidence) - min(evidence)
    if apart < FAR_APART:
        return []
    return [f"The runs differ by {apart:.0f} in log evidence: one of them missed likely layers, and both may have."]


def _fit(found: Explanation) -> str:
    fit = found.fit
    return (
        f"The best draw describes the spectrum within the model's error: chi-square {fit.chi_square:,.0f} for "
        f"{fit.n_bin} bins. Layers thinner than {THICKNESS_UM[0]:g} um are not considered."
    )


def _withheld(found: Explanation) -> str:
    fit = found.fit
    return (
        f"Layers, order and thickness are withheld: nothing that was tried describes the spectrum, even within the "
        f"model's error (chi-square {fit.chi_square:,.0f} for {fit.n_bin} bins). Check the instrument's description, "
        "and whether a pigment is missing."
    )


def _misfits(found: Explanation) -> list[str]:
    return [_misfit(own) for own in found.fit.misfits]


def _misfit(own: Misfit) -> str:
    more = "more" if own.measured > own.expected else "fewer"
    line = (
        f"; {own.family.replace('_', ' ')} lies there, and no pigment that was tried carries it" if own.family else ""
    )
    return (
        f"At {own.energy_kev:.2f} keV there are {more} counts than expected: {own.measured:,.0f} where "
        f"{own.expected:,.0f} are ({own.sigmas:+.0f} sigma){line}."
    )


def _network(found: Explanation) -> list[str]:
    likely = {name: own for name, own in found.wanted.probability.items() if own >= LIKELY}
    if not likely:
        return []
    return [
        f"The network's probabilities: {', '.join(f'{group_name(name)} {own:.2f}' for name, own in likely.items())}."
    ]


def _listed(names: Iterable[str]) -> str:
    labels: Sequence[str] = [group_name(name) for name in names]
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}" if labels else ""
