"""Presence, place and amount on Monte Carlo panels, sample by sample, compared with a rule without a network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan, survey
from underpaint.data.maps import (
    PLACED_PROBABILITY,
    PRESENT_PROBABILITY,
    SURFACE_UM,
    Place,
    at_place,
    estimate,
    from_unbounded,
    is_determined,
)
from underpaint.elements import line_evidence, plan_all_families
from underpaint.lab.evaluation.answering import ModelAnswers, Spectra, ask, columns_of
from underpaint.lab.evaluation.baselines import line_sigmas
from underpaint.lab.evaluation.groups import macro_f1, score_names
from underpaint.lab.evaluation.monte_carlo import Panels, read_panels
from underpaint.lab.evaluation.scores import counts_key
from underpaint.physics.forward import emit, render
from underpaint.physics.materials import library
from underpaint.pigments.predict import OnnxModel, open_model
from underpaint.pigments.predict.mapping import UPPER_PROBABILITY
from underpaint.runtime.progress import Progress, no_progress
from underpaint.simulate.labels import MODEL_ERROR, element_shares, lines_needed

COUNTS = (1e3, 1e4, 1e5, 1e6)
LINE_SIGMAS = 5.0
"""Least area of a line family for the rule without a network, in standard deviations."""
SEEN_SIGMAS, UNSEEN_SIGMAS = 10.0, 2.0
_AMOUNT_STATED = 0.95
_PIGMENT_SHARE = 0.01
_RESAMPLES = 2000
PLACED: tuple[Place, ...] = ("surface", "below")

Mask = NDArray[np.bool_]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """Contents of the samples of one or more folders; arrays (n_sample, n_group), at a place by its name.

    Parameters
    ----------
    contained, needed : array, array
        Whether the element is in any layer, and the counts from which its lines are visible with a model error of 2 %.
    contained_at, needed_at : mapping of Place to array
        The same of the uppermost layer and of those under it; visibility is that of our forward model.
    share : array
        Largest mass share of the element in any layer.
    thickness_um : (n_sample,) array
        Of the uppermost layer.
    """

    contained: Mask
    needed: Numbers
    contained_at: dict[Place, Mask]
    needed_at: dict[Place, Numbers]
    share: Numbers
    thickness_um: Numbers


def evaluate_monte_carlo(
    folders: Sequence[str | Path],
    model: str | Path | OnnxModel = "default",
    *,
    other_models: Mapping[str, str | Path | OnnxModel] | None = None,
    draws: int = 10,
    seed: int = 20261122,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Score a network on Monte Carlo panels at 1e3 to 1e6 counts.

    An element is present where its lines are visible, from any material, with a model error of 2 %. Elements contained
    but not visible count neither for nor against. All groups of the library are scored; a group that a network does not
    answer counts as absent.

    Parameters
    ----------
    folders : sequence of path
        Each with ``mc_panels.json`` and ``mc_panels.npz``.
    model : str, Path or OnnxModel
        The network to score, beside the rule "area over 5 sigma" and always yes.
    other_models : mapping of str to (str, Path or OnnxModel), optional
        Further networks, by the name of their figures; None: the shipped one as ``shipped``, if it is another.
    draws : int
        Draws of counts of every sample.
    seed : int
    progress : callable, optional

    Returns
    -------
    dict
        By contestant and counts the figures of :func:`presence_figures`, and of networks those of
        :func:`place_figures` and :func:`amount_figures`; JSON-serialisable. Each network is scored alone, and
        ``with_evidence``: without the claims that the lines contradict, and with the groups that they prove.

    Raises
    ------
    ScanError, ModelError
        A folder holds no panels; there is no such model.
    """
    show = progress or no_progress
    groups = tuple(group.name for group in library().groups if group.visible)
    panels = [read_panels(folder) for folder in folders]
    truth = _join_truths([_truth(each, groups) for each in panels])
    networks = {"model": _open(model)}
    if other_models is None:
        shipped = open_model("default")
        other_models = {"shipped": shipped} if shipped.card != networks["model"].card else {}
    networks |= {model_name: _open(network) for model_name, network in other_models.items()}
    record: dict[str, Any] = {"about": _about(networks["model"], panels, groups, draws, seed)}
    for step, counts in enumerate(COUNTS):
        show("Monte Carlo panels", step, len(COUNTS))
        spectra = [each.drawn(counts, draws, seed) for each in panels]
        sigmas = np.concatenate([line_sigmas(each, groups) for each in spectra])
        answers = {model_name: [ask(network, each) for each in spectra] for model_name, network in networks.items()}
        claims = {
            model_name: np.concatenate([_by_group(each, groups) for each in parts])
            for model_name, parts in answers.items()
        }
        by_lines = [_needed_and_proven(each, drawn, groups) for each, drawn in zip(panels, spectra, strict=True)]
        needed, proven = (np.concatenate(parts) for parts in zip(*by_lines, strict=True))
        for model_name, network in networks.items():
            answered = np.isin(groups, network.card.names)
            log_odds = np.concatenate(
                [columns_of(each.log_odds, each.card.names, groups) for each in answers[model_name]]
            )
            with_evidence = (claims[model_name] & (log_odds >= needed)) | (proven & answered)
            claims["with_evidence" if model_name == "model" else f"{model_name}_with_evidence"] = with_evidence
        claims["line_over_5_sigma"] = sigmas > LINE_SIGMAS
        claims["always_yes"] = np.ones_like(sigmas, dtype=bool)
        for model_name, claimed in claims.items():
            figures = presence_figures(truth, claimed, sigmas, counts, groups, seed)
            if model_name in answers:
                joined = _join_answers(answers[model_name])
                figures |= place_figures(truth, joined, counts, groups) | amount_figures(
                    truth, joined, claimed, counts, groups
                )
            record.setdefault(model_name, {})[counts_key(counts)] = figures
    show("Monte Carlo panels", len(COUNTS), len(COUNTS))
    return record


def presence_figures(
    truth: Truth, claimed: Mask, sigmas: NDArray[np.floating], counts: float, groups: Sequence[str], seed: int
) -> dict[str, Any]:
    """Score claims of presence.

    Parameters
    ----------
    claimed : (n_sample draws, n_group) bool array
        The draws of a sample follow one another.
    sigmas : (n_sample draws, n_group) array
        Standard deviations of the area of each group's strongest family, by the element fit.
    counts : float

    Returns
    -------
    dict
        ``macro_f1``; ``exact_sets``, the share of spectra whose counted answers are all right, with its 95 % interval
        by resampling the samples; ``present_missed`` and ``present_missed_over_10_sigma``, present and visible and not
        claimed; ``false_claims``, without the element, and their ``false_share``; ``claims_without_evidence``, with no
        family over 2 sigma; ``n`` answers that count, ``n_negative`` of them without the element.
    """
    draws = len(claimed) // len(truth.contained)
    contained, visible = (np.repeat(each, draws, axis=0) for each in (truth.contained, truth.needed <= counts))
    present = contained & visible
    counted = present | ~contained
    exact = ((claimed == present) | ~counted).all(axis=1).reshape(-1, draws).mean(axis=1)
    missed, false = present & ~claimed, claimed & ~contained
    table = score_names(claimed.astype(np.float32), contained.astype(np.uint8), visible, groups)
    resampled = np.random.default_rng(seed).integers(len(exact), size=(_RESAMPLES, len(exact)))
    return {
        "macro_f1": macro_f1(table),
        "exact_sets": float(exact.mean()),
        "exact_sets_interval": np.quantile(exact[resampled].mean(axis=1), (0.025, 0.975)).tolist(),
        "present_missed": int(missed.sum()),
        "present_missed_over_10_sigma": int((missed & (sigmas > SEEN_SIGMAS)).sum()),
        "false_claims": int(false.sum()),
        "false_share": float(false.sum() / max((~contained).sum(), 1)),
        "claims_without_evidence": int((claimed & (sigmas < UNSEEN_SIGMAS)).sum()),
        "n": int(counted.sum()),
        "n_negative": int((~contained).sum()),
        "missed_by_group": _by_name(groups, missed),
        "false_by_group": _by_name(groups, false),
    }


def place_figures(truth: Truth, answers: ModelAnswers, counts: float, groups: Sequence[str]) -> dict[str, Any]:
    """Score places and the thickness of the uppermost layer.

    Returns
    -------
    dict
        ``surface_right`` and ``below_right``: of stated places (probability over 0.75, or under 0.25) of visible
        groups, whether the element is there; ``below_f1`` at 0.5; ``not_determined``, share of these groups' places
        that
        are not stated; ``determined_of_determinable``, share stated where the lines from the place show; ``coverage``
        and ``determined`` of the thickness.
    """
    draws = len(answers.probability) // len(truth.contained)
    shows = np.repeat(truth.contained & (truth.needed <= counts), draws, axis=0)
    figures: dict[str, Any] = {}
    stated_of, counted_of, stated_where = [], [], []
    for place in PLACED:
        probability = answers.by_name([at_place(name, place) for name in groups])
        contained = np.repeat(truth.contained_at[place], draws, axis=0)
        visible = contained & np.repeat(truth.needed_at[place] <= counts, draws, axis=0)
        counted = shows & (visible | ~contained) & ~np.isnan(probability)
        stated = (probability >= PLACED_PROBABILITY) | (probability <= 1.0 - PLACED_PROBABILITY)
        right = (probability > PRESENT_PROBABILITY) == contained
        figures[f"{place}_right"] = _share(right, counted & stated)
        if place == "below":
            claimed = (probability > PRESENT_PROBABILITY) & counted
            figures["below_f1"] = _ratio(2 * (claimed & contained).sum(), claimed.sum() + (contained & counted).sum())
        stated_of.append(stated[counted])
        counted_of.append(np.ones(counted.sum()))
        stated_where.append(stated[shows & visible & ~np.isnan(probability)])
    figures["not_determined"] = 1.0 - _ratio(np.concatenate(stated_of).sum(), np.concatenate(counted_of).sum())
    figures["determined_of_determinable"] = float(np.concatenate(stated_where).mean())
    return figures | _thickness(truth, answers, draws)


def amount_figures(
    truth: Truth, answers: ModelAnswers, claimed: Mask, counts: float, groups: Sequence[str]
) -> dict[str, Any]:
    """Score amounts; empty for a network without them.

    Returns
    -------
    dict
        ``pigment_right`` and ``trace_right``: where 1 % of the element is stated with 95 % to be reached, or not to be,
        in present groups; ``less_than_holds``: of elements that are contained but not visible, the share whose
        amount is under the smallest edge that is stated as not reached (:data:`~.mapping.UPPER_PROBABILITY`); each
        with its number.
    """
    card = answers.card
    if answers.amount is None:
        return {}
    edges, draws = np.asarray(card.amount_edges), len(claimed) // len(truth.contained)
    columns = [card.amounts.index(name) if name in card.amounts else -1 for name in groups]
    log_odds = answers.amount.reshape(len(claimed), len(card.amounts), edges.size)[:, columns]
    reached = 1.0 / (1.0 + np.exp(-log_odds))
    hidden = np.repeat(truth.contained & ~(truth.needed <= counts), draws, axis=0)
    share = np.repeat(truth.share, draws, axis=0)
    at_pigment = reached[:, :, np.argmin(np.abs(edges - _PIGMENT_SHARE))]
    known = (np.asarray(columns) >= 0)[None, :]
    pigment = claimed & known & (at_pigment > _AMOUNT_STATED)
    trace = claimed & known & (at_pigment < 1.0 - _AMOUNT_STATED)
    under = reached < 1.0 - UPPER_PROBABILITY
    limit = np.where(under.any(axis=2), edges[np.argmax(under, axis=2)], np.inf)
    hidden &= known
    return {
        "pigment_right": _share(share >= _PIGMENT_SHARE, pigment),
        "pigment_stated": int(pigment.sum()),
        "trace_right": _share(share < _PIGMENT_SHARE, trace),
        "trace_stated": int(trace.sum()),
        "less_than_holds": _share(share < limit, hidden),
        "hidden": int(hidden.sum()),
    }


def _thickness(truth: Truth, answers: ModelAnswers, draws: int) -> dict[str, float]:
    if answers.quantity is None or answers.sigma is None or SURFACE_UM not in answers.card.quantities:
        return {}
    column = answers.card.quantities.index(SURFACE_UM)
    value = from_unbounded(SURFACE_UM, answers.quantity[:, column])[:, None]
    interval = estimate(SURFACE_UM, value, answers.sigma[:, column : column + 1])
    true = np.repeat(truth.thickness_um, draws)[:, None]
    inside = (interval.low <= true) & (true <= interval.high)
    return {"coverage": float(inside.mean()), "determined": float(is_determined(SURFACE_UM, interval).mean())}


def _open(model: str | Path | OnnxModel) -> OnnxModel:
    return model if isinstance(model, OnnxModel) else open_model(model)


def _needed_and_proven(panels: Panels, spectra: Spectra, groups: Sequence[str]) -> tuple[Numbers, Mask]:
    """Return (n, n_group) log-odds that claims need, and masks of proven groups.

    The instrument is known.
    """
    scan_statistics = survey(Scan(np.asarray(spectra.counts)[None], panels.axis))
    fit = plan_all_families(scan_statistics, panels.axis, panels.instrument, peaks=False)
    keys = {group: library().group(group).key_families for group in groups}
    lines = line_evidence(keys, fit, scan_statistics, panels.axis, panels.instrument, voltage_known=True)
    shown = fit(np.asarray(spectra.counts))
    needed = np.full((len(spectra), len(groups)), -np.inf)
    proven = np.zeros(needed.shape, bool)
    columns = [list(groups).index(group) for group in lines.groups]
    needed[:, columns], proven[:, columns] = lines(shown), lines.proves(shown)
    return needed, proven


def _truth(panels: Panels, groups: Sequence[str]) -> Truth:
    samples, instrument = panels.stratigraphies(), panels.instrument
    emission = emit(samples, instrument)
    axis = EnergyAxis(panels.axis.gain_kev, panels.axis.zero_kev, panels.axis.n_channel)
    expected = np.asarray(render(emission, instrument.detector, axis), dtype=np.float64)
    names = {place: [at_place(name, place) for name in groups] for place in PLACED}
    return Truth(
        contained=panels.contained_elements(groups) == 1,
        needed=panels.counts_needed(groups, MODEL_ERROR),
        contained_at={place: element_shares(samples, names[place]) > 0 for place in PLACED},
        needed_at={
            place: np.nan_to_num(
                lines_needed(samples, emission, expected, names[place], instrument.detector, axis)[0], nan=np.inf
            )
            for place in PLACED
        },
        share=element_shares(samples, groups).astype(np.float64),
        thickness_um=np.asarray([sample.layers[0].thickness_um for sample in samples]),
    )


def _join_truths(parts: Sequence[Truth]) -> Truth:
    def every(of: Callable[[Truth], NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([of(part) for part in parts])

    return Truth(
        contained=every(lambda part: part.contained),
        needed=every(lambda part: part.needed),
        contained_at={place: np.concatenate([part.contained_at[place] for part in parts]) for place in PLACED},
        needed_at={place: np.concatenate([part.needed_at[place] for part in parts]) for place in PLACED},
        share=every(lambda part: part.share),
        thickness_um=every(lambda part: part.thickness_um),
    )


def _join_answers(parts: Sequence[ModelAnswers]) -> ModelAnswers:
    def every(name: str) -> NDArray[np.float32] | None:
        values = [getattr(part, name) for part in parts]
        return None if values[0] is None else np.concatenate(values)

    fields = ("log_odds", "probability", "quantity", "sigma", "amount")
    return ModelAnswers(parts[0].card, **{name: every(name) for name in fields})  # type: ignore[arg-type]


def _by_group(answers: ModelAnswers, groups: Sequence[str]) -> Mask:
    return np.asarray(np.nan_to_num(answers.by_group(groups), nan=0.0) > PRESENT_PROBABILITY)


def _about(model: OnnxModel, panels: Sequence[Panels], groups: Sequence[str], draws: int, seed: int) -> dict[str, Any]:
    return {
        "model": model.card.name,
        "samples": sum(len(each.names) for each in panels),
        "draws": draws,
        "seed": seed,
        "groups": list(groups),
        "model_error": MODEL_ERROR,
    }


def _by_name(groups: Sequence[str], which: Mask) -> dict[str, int]:
    return {name: int(number) for name, number in zip(groups, which.sum(axis=0), strict=True) if number}


def _share(right: Mask, of: Mask) -> float | None:
    return float(right[of].mean()) if of.any() else None


def _ratio(part: Any, total: Any) -> float:
    return float(part / total) if total else float("nan")
