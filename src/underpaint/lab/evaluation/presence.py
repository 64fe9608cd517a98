"""Scores of presence, place and amount on Monte Carlo panels, compared with a threshold of line areas."""

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
from underpaint.lab.evaluation.answering import ModelAnswers, Spectra, columns_by_name, run_model
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

SCORED_COUNTS = (1e3, 1e4, 1e5, 1e6)
LINE_SIGMAS = 5.0
"""Minimum area of a line family for a claim without a network, in standard deviations."""
CLEAR_LINE_SIGMAS, NO_EVIDENCE_SIGMAS = 10.0, 2.0
"""Line areas, in sigma, above which a line is clearly visible, and below which a line is no evidence."""
_MIN_AMOUNT_PROBABILITY = 0.95
_PIGMENT_MASS_FRACTION = 0.01
"""Mass fraction above which an element belongs to a pigment, and below which it is a trace."""
_N_RESAMPLE = 2000
SCORED_PLACES: tuple[Place, ...] = ("surface", "below")

Mask = NDArray[np.bool_]
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """Ground truth of the samples of one or more folders, as (n_sample, n_group) arrays.

    Parameters
    ----------
    is_contained : bool array
        Whether any layer contains the element of the group.
    counts_needed : array
        Total counts above which the lines of the element are visible despite a model error of 2 %.
    is_contained_by_place, counts_needed_by_place : mapping of Place to array
        ``is_contained`` and ``counts_needed`` for the uppermost layer ("surface") and for all other layers ("below").
        ``is_contained_by_place`` and ``counts_needed_by_place`` are computed with the forward model of this package.
    mass_fraction : array
        Largest mass fraction of the element in any layer.
    thickness_um : (n_sample,) array
        Thickness of the uppermost layer, in um.
    """

    is_contained: Mask
    counts_needed: Numbers
    is_contained_by_place: dict[Place, Mask]
    counts_needed_by_place: dict[Place, Numbers]
    mass_fraction: Numbers
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
    """Score a network on Monte Carlo panels at total counts from 1e3 to 1e6.

    An element is present if its lines, from any material, are visible despite a model error of 2 %. Elements that a
    sample contains without visible lines are not scored. All groups of the library are scored. If a group is not an
    output of a network, the network's answer is "absent".

    Parameters
    ----------
    folders : sequence of path
        Folders that each contain ``mc_panels.json`` and ``mc_panels.npz``.
    model : str, Path or OnnxModel
        The network to score. The rule "area above 5 sigma" and the baseline "always yes" are also scored.
    other_models : mapping of str to (str, Path or OnnxModel), optional
        Further networks to score, by their key in the result.
        The default is the shipped network with the key ``shipped``, unless ``model`` is the shipped network.
    draws : int
        Number of spectra drawn from every sample.
    seed : int
        Seed of the draws.
    progress : callable, optional

    Returns
    -------
    dict
        JSON-serialisable scores by method and counts, from :func:`presence_scores`.
        Networks also have the scores of :func:`place_scores` and :func:`amount_scores`.
        Each network is scored alone and ``with_evidence`` of line areas. ``with_evidence`` removes claims that line
        areas contradict, and adds groups that line areas prove.

    Raises
    ------
    ScanError, ModelError
        A folder contains no panels, or a model does not exist.
    """
    show_progress = progress or no_progress
    groups = tuple(group.name for group in library().groups if group.visible)
    panels = [read_panels(folder) for folder in folders]
    truth = _join_truths([_panel_truth(panel_set, groups) for panel_set in panels])
    networks = {"model": _open_network(model)}
    if other_models is None:
        shipped_model = open_model("default")
        other_models = {"shipped": shipped_model} if shipped_model.card != networks["model"].card else {}
    networks |= {model_name: _open_network(network) for model_name, network in other_models.items()}
    score_record: dict[str, Any] = {"about": _provenance(networks["model"], panels, groups, draws, seed)}
    for counts_index, counts in enumerate(SCORED_COUNTS):
        show_progress("Monte Carlo panels", counts_index, len(SCORED_COUNTS))
        spectra = [panel_set.draw_spectra(counts, draws, seed) for panel_set in panels]
        area_sigmas = np.concatenate([line_sigmas(panel_spectra, groups) for panel_spectra in spectra])
        answers = {
            model_name: [run_model(network, panel_spectra) for panel_spectra in spectra]
            for model_name, network in networks.items()
        }
        network_claims = {
            model_name: np.concatenate([_claims_by_group(panel_answers, groups) for panel_answers in answers_by_panel])
            for model_name, answers_by_panel in answers.items()
        }
        evidence_by_panel = [
            _line_evidence(panel_set, panel_spectra, groups)
            for panel_set, panel_spectra in zip(panels, spectra, strict=True)
        ]
        log_odds_needed, is_proven = (
            np.concatenate(arrays_by_panel) for arrays_by_panel in zip(*evidence_by_panel, strict=True)
        )
        for model_name, network in networks.items():
            is_output = np.isin(groups, network.card.names)
            log_odds = np.concatenate(
                [
                    columns_by_name(panel_answers.log_odds, panel_answers.card.names, groups)
                    for panel_answers in answers[model_name]
                ]
            )
            with_evidence = (network_claims[model_name] & (log_odds >= log_odds_needed)) | (is_proven & is_output)
            network_claims["with_evidence" if model_name == "model" else f"{model_name}_with_evidence"] = with_evidence
        network_claims["line_over_5_sigma"] = area_sigmas > LINE_SIGMAS
        network_claims["always_yes"] = np.ones_like(area_sigmas, dtype=bool)
        for model_name, model_claims in network_claims.items():
            scores = presence_scores(truth, model_claims, area_sigmas, counts, groups, seed)
            if model_name in answers:
                joined_answers = _join_answers(answers[model_name])
                scores |= place_scores(truth, joined_answers, counts, groups) | amount_scores(
                    truth, joined_answers, model_claims, counts, groups
                )
            score_record.setdefault(model_name, {})[counts_key(counts)] = scores
    show_progress("Monte Carlo panels", len(SCORED_COUNTS), len(SCORED_COUNTS))
    return score_record


def presence_scores(
    truth: Truth, is_claimed: Mask, area_sigmas: NDArray[np.floating], counts: float, groups: Sequence[str], seed: int
) -> dict[str, Any]:
    """Return the scores of claims that groups are present.

    Parameters
    ----------
    is_claimed : (n_sample draws, n_group) bool array
        Whether the group is claimed. The draws of a sample are in consecutive rows.
    area_sigmas : (n_sample draws, n_group) array
        Area of each group's strongest line family in the element fit, in standard deviations.
    counts : float
        Total counts of the spectra.

    Returns
    -------
    dict
        Scores, among them ``macro_f1``.
        ``exact_sets`` is the fraction of spectra in which all scored answers are right.
        ``exact_sets_interval`` is the 95 % interval of ``exact_sets`` from resampling the samples.
        ``present_missed`` is the number of visible elements that are not claimed.
        ``present_missed_over_10_sigma`` is the number of missed elements with lines above 10 sigma.
        ``false_claims`` is the number of claims of elements that the sample does not contain.
        ``false_share`` is the number of false claims divided by ``n_negative``.
        ``claims_without_evidence`` is the number of claims of groups that have no line family above 2 sigma.
        ``n`` is the number of scored answers.
        ``n_negative`` is the number of answers for elements that the sample does not contain.
    """
    n_draw = len(is_claimed) // len(truth.is_contained)
    is_contained, is_visible = (
        np.repeat(sample_mask, n_draw, axis=0) for sample_mask in (truth.is_contained, truth.counts_needed <= counts)
    )
    is_present = is_contained & is_visible
    is_scored = is_present | ~is_contained
    exact_fraction = ((is_claimed == is_present) | ~is_scored).all(axis=1).reshape(-1, n_draw).mean(axis=1)
    is_missed, is_false_claim = is_present & ~is_claimed, is_claimed & ~is_contained
    scores_by_name = score_names(is_claimed.astype(np.float32), is_contained.astype(np.uint8), is_visible, groups)
    resampled_rows = np.random.default_rng(seed).integers(len(exact_fraction), size=(_N_RESAMPLE, len(exact_fraction)))
    return {
        "macro_f1": macro_f1(scores_by_name),
        "exact_sets": float(exact_fraction.mean()),
        "exact_sets_interval": np.quantile(exact_fraction[resampled_rows].mean(axis=1), (0.025, 0.975)).tolist(),
        "present_missed": int(is_missed.sum()),
        "present_missed_over_10_sigma": int((is_missed & (area_sigmas > CLEAR_LINE_SIGMAS)).sum()),
        "false_claims": int(is_false_claim.sum()),
        "false_share": float(is_false_claim.sum() / max((~is_contained).sum(), 1)),
        "claims_without_evidence": int((is_claimed & (area_sigmas < NO_EVIDENCE_SIGMAS)).sum()),
        "n": int(is_scored.sum()),
        "n_negative": int((~is_contained).sum()),
        "missed_by_group": _numbers_by_group(groups, is_missed),
        "false_by_group": _numbers_by_group(groups, is_false_claim),
    }


def place_scores(truth: Truth, answers: ModelAnswers, counts: float, groups: Sequence[str]) -> dict[str, Any]:
    """Return scores of places and of the thickness of the uppermost layer.

    Returns
    -------
    dict
        Scores of visible groups. A place is stated if its probability is above 0.75 or below 0.25.
        ``surface_right`` and ``below_right`` are the fractions of statements that are right.
        ``below_f1`` is the F1 of the place "below" at a probability of 0.5.
        ``not_determined`` is the fraction of places that are not stated.
        ``determined_of_determinable`` is the fraction of places with visible lines that are stated.
        ``coverage`` is the fraction of true thicknesses within the thickness interval.
        ``determined`` is the fraction of spectra with a determined thickness.
    """
    n_draw = len(answers.probability) // len(truth.is_contained)
    is_group_visible = np.repeat(truth.is_contained & (truth.counts_needed <= counts), n_draw, axis=0)
    scores: dict[str, Any] = {}
    is_stated_by_place, is_scored_by_place, is_stated_where_visible = [], [], []
    for place in SCORED_PLACES:
        place_probability = answers.probability_by_name([at_place(name, place) for name in groups])
        is_contained = np.repeat(truth.is_contained_by_place[place], n_draw, axis=0)
        is_visible = is_contained & np.repeat(truth.counts_needed_by_place[place] <= counts, n_draw, axis=0)
        is_scored = is_group_visible & (is_visible | ~is_contained) & ~np.isnan(place_probability)
        is_stated = (place_probability >= PLACED_PROBABILITY) | (place_probability <= 1.0 - PLACED_PROBABILITY)
        is_right = (place_probability > PRESENT_PROBABILITY) == is_contained
        scores[f"{place}_right"] = _fraction_right(is_right, is_scored & is_stated)
        if place == "below":
            is_claimed = (place_probability > PRESENT_PROBABILITY) & is_scored
            scores["below_f1"] = _ratio(
                2 * (is_claimed & is_contained).sum(), is_claimed.sum() + (is_contained & is_scored).sum()
            )
        is_stated_by_place.append(is_stated[is_scored])
        is_scored_by_place.append(np.ones(is_scored.sum()))
        is_stated_where_visible.append(is_stated[is_group_visible & is_visible & ~np.isnan(place_probability)])
    scores["not_determined"] = 1.0 - _ratio(
        np.concatenate(is_stated_by_place).sum(), np.concatenate(is_scored_by_place).sum()
    )
    scores["determined_of_determinable"] = float(np.concatenate(is_stated_where_visible).mean())
    return scores | _thickness_scores(truth, answers, n_draw)


def amount_scores(
    truth: Truth, answers: ModelAnswers, is_claimed: Mask, counts: float, groups: Sequence[str]
) -> dict[str, Any]:
    """Return scores of amounts, or an empty dict for a network that does not predict amounts.

    Returns
    -------
    dict
        Fractions of right statements, and numbers of statements.
        ``pigment_right`` is for the statement that a claimed element has a mass fraction of 1 % or more.
        ``trace_right`` is for the statement that a claimed element has a mass fraction below 1 %.
        Statements on pigments and traces need a probability above 95 %.
        ``less_than_holds`` is the fraction of right upper limits, for elements without visible lines in the sample.
        The nominal probability that an upper limit is right is :data:`~.mapping.UPPER_PROBABILITY`.
    """
    model_card = answers.card
    if answers.amount is None:
        return {}
    fraction_edges, n_draw = np.asarray(model_card.amount_edges), len(is_claimed) // len(truth.is_contained)
    amount_columns = [model_card.amounts.index(name) if name in model_card.amounts else -1 for name in groups]
    log_odds = answers.amount.reshape(len(is_claimed), len(model_card.amounts), fraction_edges.size)[:, amount_columns]
    edge_probability = 1.0 / (1.0 + np.exp(-log_odds))
    is_invisible = np.repeat(truth.is_contained & ~(truth.counts_needed <= counts), n_draw, axis=0)
    mass_fraction = np.repeat(truth.mass_fraction, n_draw, axis=0)
    pigment_probability = edge_probability[:, :, np.argmin(np.abs(fraction_edges - _PIGMENT_MASS_FRACTION))]
    has_amount = (np.asarray(amount_columns) >= 0)[None, :]
    is_stated_pigment = is_claimed & has_amount & (pigment_probability > _MIN_AMOUNT_PROBABILITY)
    is_stated_trace = is_claimed & has_amount & (pigment_probability < 1.0 - _MIN_AMOUNT_PROBABILITY)
    is_below_edge = edge_probability < 1.0 - UPPER_PROBABILITY
    upper_limit = np.where(is_below_edge.any(axis=2), fraction_edges[np.argmax(is_below_edge, axis=2)], np.inf)
    is_invisible &= has_amount
    return {
        "pigment_right": _fraction_right(mass_fraction >= _PIGMENT_MASS_FRACTION, is_stated_pigment),
        "pigment_stated": int(is_stated_pigment.sum()),
        "trace_right": _fraction_right(mass_fraction < _PIGMENT_MASS_FRACTION, is_stated_trace),
        "trace_stated": int(is_stated_trace.sum()),
        "less_than_holds": _fraction_right(mass_fraction < upper_limit, is_invisible),
        "hidden": int(is_invisible.sum()),
    }


def _thickness_scores(truth: Truth, answers: ModelAnswers, n_draw: int) -> dict[str, float]:
    if answers.quantity is None or answers.sigma is None or SURFACE_UM not in answers.card.quantities:
        return {}
    quantity_column = answers.card.quantities.index(SURFACE_UM)
    estimated_um = from_unbounded(SURFACE_UM, answers.quantity[:, quantity_column])[:, None]
    thickness_interval = estimate(SURFACE_UM, estimated_um, answers.sigma[:, quantity_column : quantity_column + 1])
    true_thickness_um = np.repeat(truth.thickness_um, n_draw)[:, None]
    is_in_interval = (thickness_interval.low <= true_thickness_um) & (true_thickness_um <= thickness_interval.high)
    return {
        "coverage": float(is_in_interval.mean()),
        "determined": float(is_determined(SURFACE_UM, thickness_interval).mean()),
    }


def _open_network(model: str | Path | OnnxModel) -> OnnxModel:
    return model if isinstance(model, OnnxModel) else open_model(model)


def _line_evidence(panels: Panels, spectra: Spectra, groups: Sequence[str]) -> tuple[Numbers, Mask]:
    """Return the minimum log-odds for a claim, and the mask of groups that lines prove, as (n, n_group) arrays.

    The log-odds and the mask are computed with the known instrument of the simulation.
    """
    scan_statistics = survey(Scan(np.asarray(spectra.counts)[None], panels.axis))
    family_fit = plan_all_families(scan_statistics, panels.axis, panels.instrument, peaks=False)
    families_by_group = {group: library().group(group).key_families for group in groups}
    line_area_test = line_evidence(
        families_by_group, family_fit, scan_statistics, panels.axis, panels.instrument, voltage_known=True
    )
    fitted_families = family_fit(np.asarray(spectra.counts))
    log_odds_needed = np.full((len(spectra), len(groups)), -np.inf)
    is_proven = np.zeros(log_odds_needed.shape, bool)
    group_columns = [list(groups).index(group) for group in line_area_test.groups]
    log_odds_needed[:, group_columns], is_proven[:, group_columns] = (
        line_area_test(fitted_families),
        line_area_test.proves(fitted_families),
    )
    return log_odds_needed, is_proven


def _panel_truth(panels: Panels, groups: Sequence[str]) -> Truth:
    samples, instrument = panels.stratigraphies(), panels.instrument
    emission = emit(samples, instrument)
    axis = EnergyAxis(panels.axis.gain_kev, panels.axis.zero_kev, panels.axis.n_channel)
    expected_counts = np.asarray(render(emission, instrument.detector, axis), dtype=np.float64)
    names_by_place = {place: [at_place(name, place) for name in groups] for place in SCORED_PLACES}
    return Truth(
        is_contained=panels.element_labels(groups) == 1,
        counts_needed=panels.counts_needed(groups, MODEL_ERROR),
        is_contained_by_place={place: element_shares(samples, names_by_place[place]) > 0 for place in SCORED_PLACES},
        counts_needed_by_place={
            place: np.nan_to_num(
                lines_needed(samples, emission, expected_counts, names_by_place[place], instrument.detector, axis)[0],
                nan=np.inf,
            )
            for place in SCORED_PLACES
        },
        mass_fraction=element_shares(samples, groups).astype(np.float64),
        thickness_um=np.asarray([sample.layers[0].thickness_um for sample in samples]),
    )


def _join_truths(truths: Sequence[Truth]) -> Truth:
    def join_arrays(get_array: Callable[[Truth], NDArray[Any]]) -> NDArray[Any]:
        return np.concatenate([get_array(truth) for truth in truths])

    return Truth(
        is_contained=join_arrays(lambda truth: truth.is_contained),
        counts_needed=join_arrays(lambda truth: truth.counts_needed),
        is_contained_by_place={
            place: np.concatenate([truth.is_contained_by_place[place] for truth in truths]) for place in SCORED_PLACES
        },
        counts_needed_by_place={
            place: np.concatenate([truth.counts_needed_by_place[place] for truth in truths]) for place in SCORED_PLACES
        },
        mass_fraction=join_arrays(lambda truth: truth.mass_fraction),
        thickness_um=join_arrays(lambda truth: truth.thickness_um),
    )


def _join_answers(answers_by_panel: Sequence[ModelAnswers]) -> ModelAnswers:
    def join_field(field_name: str) -> NDArray[np.float32] | None:
        panel_arrays = [getattr(answers, field_name) for answers in answers_by_panel]
        return None if panel_arrays[0] is None else np.concatenate(panel_arrays)

    field_names = ("log_odds", "probability", "quantity", "sigma", "amount")
    return ModelAnswers(answers_by_panel[0].card, **{field_name: join_field(field_name) for field_name in field_names})  # type: ignore[arg-type]


def _claims_by_group(answers: ModelAnswers, groups: Sequence[str]) -> Mask:
    return np.asarray(np.nan_to_num(answers.probability_by_group(groups), nan=0.0) > PRESENT_PROBABILITY)


def _provenance(
    model: OnnxModel, panels: Sequence[Panels], groups: Sequence[str], n_draw: int, seed: int
) -> dict[str, Any]:
    return {
        "model": model.card.name,
        "samples": sum(len(panel_set.names) for panel_set in panels),
        "draws": n_draw,
        "seed": seed,
        "groups": list(groups),
        "model_error": MODEL_ERROR,
    }


def _numbers_by_group(groups: Sequence[str], group_mask: Mask) -> dict[str, int]:
    return {name: int(n_spectra) for name, n_spectra in zip(groups, group_mask.sum(axis=0), strict=True) if n_spectra}


def _fraction_right(is_right: Mask, statement_mask: Mask) -> float | None:
    return float(is_right[statement_mask].mean()) if statement_mask.any() else None


def _ratio(numerator: Any, denominator: Any) -> float:
    return float(numerator / denominator) if denominator else float("nan")
