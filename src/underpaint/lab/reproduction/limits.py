"""Detection limit and error rates of the paper's networks, and effects of the paper's choices."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import XU_NETWORK_AXIS, EnergyAxis
from underpaint.display.plot import save_png
from underpaint.display.plot.paper import Detection, detection_panels
from underpaint.lab.reproduction.arms import paper_columns, predict_mockups, pretrain, test_rows
from underpaint.lab.reproduction.contestants import default_answers, paper_answers, paper_network
from underpaint.lab.reproduction.figure_answers import (
    AFTER_FINETUNING,
    BEFORE_FINETUNING,
    DEFAULT_NETWORK,
    PRESENT_PROBABILITY,
    Networks,
)
from underpaint.lab.reproduction.measured import get_mockups
from underpaint.lab.reproduction.mockups import Mockups
from underpaint.lab.reproduction.plan import Plan
from underpaint.lab.reproduction.scoring import scores_over_folds
from underpaint.lab.reproduction.simulation import (
    draw_counts,
    grid_pigments,
    mockup_library,
    paper_outputs,
    simulated_as_in_paper,
    simulation_set,
    study_grid,
)
from underpaint.lab.training import load_checkpoint, load_trainable
from underpaint.physics.forward import count, emit, render
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer
from underpaint.pigments.limits import counts_to_see
from underpaint.pigments.weights import NetworkKind
from underpaint.runtime.progress import Progress
from underpaint.simulate.recipes import paper_mixtures


def error_rates(plan: Plan, mockups: Mockups, progress: Progress) -> dict[str, Any]:
    """Return the false-negative and false-positive rates of each pigment.

    Returns
    -------
    dict
        ``{pigment: {"missed_on_top", "missed_below", "missed_under": {cover: share}, "said_with": {other: share}}}``.
        Rates are over the test spectra of all folds. A claim is a probability above 0.5. The keys that begin with
        ``missed`` have false-negative rates. ``said_with`` has false-positive rates in spectra that contain another
        material but not the pigment. A rate without any spectrum is NaN.
    """
    library = simulation_set(plan, mockups)
    _, answers_simulated = pretrain(plan, library, progress)
    pigment_pairs = np.asarray(grid_pigments(plan))[test_rows(library, plan)]
    claims = np.stack([probability > 0.5 for probability in answers_simulated.probability])
    return {
        name: _error_rates_of_pigment(
            name,
            claims[:, :, pigment_column],
            answers_simulated.label[0][:, pigment_column],
            pigment_pairs[:, 0],
            pigment_pairs[:, 1],
        )
        for pigment_column, name in enumerate(paper_outputs().names)
    }


def _error_rates_of_pigment(
    pigment: str,
    claims: NDArray[np.bool_],
    is_present: NDArray[np.bool_],
    upper_pigments: NDArray[np.str_],
    lower_pigments: NDArray[np.str_],
) -> dict[str, Any]:
    """Return the error rates of one pigment, from (n_fold, n) claims and the (n,) materials of both layers."""
    is_on_top, is_below = upper_pigments == pigment, is_present & (upper_pigments != pigment)
    materials = sorted({*upper_pigments, *lower_pigments} - {pigment})
    return {
        "missed_on_top": _claim_fraction(~claims, is_on_top),
        "missed_below": _claim_fraction(~claims, is_below),
        "missed_under": {
            str(material): _claim_fraction(~claims, is_below & (upper_pigments == material)) for material in materials
        },
        "said_with": {
            str(material): _claim_fraction(
                claims, ~is_present & ((upper_pigments == material) | (lower_pigments == material))
            )
            for material in materials
        },
    }


def _claim_fraction(claims: NDArray[np.bool_], spectrum_mask: NDArray[np.bool_]) -> float:
    return float(claims[:, spectrum_mask].mean()) if spectrum_mask.any() else float("nan")


PredictionFunction = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Function that returns (n, 11) probabilities for (n, n_channel) counts in the paper's channels."""
PIXEL_SECONDS = (0.1, 1.0, 10.0)
VERMILION_FRACTIONS = np.geomspace(0.0005, 0.10, 12)
"""Mass fractions of vermilion in the dry pigments of the paint Bottom 2B."""
PAPER_VERMILION_FRACTION = 0.006
COVER_THICKNESS_UM, BOTTOM_THICKNESS_UM, GROUND_UM = 100.0, 125.0, 175.0
SCORED_TOTAL_COUNTS = (1e2, 1e3, 1e4, 1e5)
FULL_AXIS = EnergyAxis(XU_NETWORK_AXIS.gain_kev, 0.0, 4095)
"""The paper's channels without the cut at 2.80 keV."""


def study_limits(plan: Plan, networks: Networks, progress: Progress) -> dict[str, Any]:
    """Return detection limit, false positives, error rates and ablations, and write ``limits.png`` to ``plan.out``."""
    mockups = get_mockups(plan)
    prediction_functions: dict[str, PredictionFunction] = {
        BEFORE_FINETUNING: partial(paper_answers, plan, load_checkpoint(networks.before_finetuning)),
        AFTER_FINETUNING: partial(paper_answers, plan, load_checkpoint(networks.after_finetuning)),
        DEFAULT_NETWORK: partial(default_answers, plan, load_trainable("default")),
    }
    progress("Computing the detection limit of vermilion", 0, 1)
    detection_scores = detection_limit(plan, mockups, prediction_functions)
    progress("Counting false positives", 0, 1)
    false_positive_rates = false_positives(plan, mockups, prediction_functions)
    save_png(
        _limits_figure(detection_scores, "Vermilion in virtual lead white; the paper's 0.6 % is marked"),
        plan.out / "limits.png",
    )
    return {
        "detection": detection_scores,
        "false_positives": false_positive_rates,
        "mistakes": error_rates(plan, mockups, progress),
        "ablation": run_ablation(plan, progress),
    }


def detection_limit(
    plan: Plan, mockups: Mockups, prediction_functions: dict[str, PredictionFunction]
) -> dict[str, Any]:
    """Return the probability of vermilion for several mass fractions in Bottom 2B, without cover and under Top 1.

    Returns
    -------
    dict
        ``{cover: {"fraction": [...], "counts_to_see": [...], "visible_percent": {s: ...}, "seconds": {s: {network:
        {"mean", "low", "high"}}}}}``. ``low`` and ``high`` are the 10th and 90th percentiles of the probability over
        random spectra. ``counts_to_see`` is the total counts above which vermilion is visible. ``visible_percent`` is
        the mass fraction, in %, above which vermilion is visible at the counts of a pixel.
    """
    n_draw = plan.draws
    vermilion_column = paper_outputs().names.index("vermilion")
    limits_by_cover = {}
    for cover_name in ("none", "Top 1"):
        stratigraphies = [_bottom_2b(float(fraction), cover_name) for fraction in VERMILION_FRACTIONS]
        expected_counts = _expected_spectra(stratigraphies, mockups)
        probability_by_seconds: dict[str, Any] = {}
        for seconds_per_pixel in PIXEL_SECONDS:
            rng = np.random.default_rng((plan.seed, round(100 * seconds_per_pixel)))
            mean_counts = plan.counts * seconds_per_pixel / PIXEL_SECONDS[-1]
            counts = count(np.repeat(expected_counts * mean_counts, n_draw, axis=0), rng=rng).astype(np.float32)
            probabilities = {
                name: predict_probability(counts)[:, vermilion_column].reshape(-1, n_draw)
                for name, predict_probability in prediction_functions.items()
            }
            probability_by_seconds[f"{seconds_per_pixel:g}"] = {
                name: _probability_band(draw_probabilities) for name, draw_probabilities in probabilities.items()
            }
        counts_needed = counts_to_see(stratigraphies, "vermilion", mockups.instrument)
        limits_by_cover[cover_name] = {
            "fraction": VERMILION_FRACTIONS.tolist(),
            "counts_to_see": counts_needed,
            "visible_percent": {
                f"{seconds_per_pixel:g}": _visible_percent(
                    counts_needed, plan.counts * seconds_per_pixel / PIXEL_SECONDS[-1]
                )
                for seconds_per_pixel in PIXEL_SECONDS
            },
            "seconds": probability_by_seconds,
        }
    return limits_by_cover


def false_positives(
    plan: Plan, mockups: Mockups, prediction_functions: dict[str, PredictionFunction]
) -> dict[str, Any]:
    """Return the false-positive rate as a function of the total counts.

    Returns
    -------
    dict
        ``{"bare_ground"|"mockups": {counts: {network: {"share", "by_pigment": {...}}}}}``.
    """
    n_draw = 4 * plan.draws
    rng = np.random.default_rng((plan.seed, 3))
    ground_spectrum = _expected_spectra([Stratigraphy((ground_layer("chalk", GROUND_UM),))], mockups)
    library = mockup_library(mockups)
    labels = paper_columns(library, library.labels) == 1
    mockup_rows = np.sort(rng.choice(len(mockups), size=min(len(mockups), 8 * n_draw), replace=False))
    mockup_spectra = mockups.counts[mockup_rows] / mockups.counts[mockup_rows].sum(axis=1, keepdims=True)
    truth_by_case = {
        "bare_ground": (np.repeat(ground_spectrum, n_draw, axis=0), np.zeros((n_draw, labels.shape[1]), dtype=bool)),
        # spectra drawn from mock-up spectra also have the smaller noise of the mock-up spectra
        "mockups": (mockup_spectra, labels[mockup_rows]),
    }
    rates_by_case: dict[str, Any] = {}
    for name, (spectra, is_present) in truth_by_case.items():
        rates_by_case[name] = {}
        for mean_counts in SCORED_TOTAL_COUNTS:
            counts = count(spectra * mean_counts, rng=rng).astype(np.float32)
            rates_by_case[name][f"{mean_counts:g}"] = {
                network: _false_positive_rate(predict_probability(counts), is_present)
                for network, predict_probability in prediction_functions.items()
            }
    return rates_by_case


def run_ablation(plan: Plan, progress: Progress) -> dict[str, Any]:
    """Train networks that each omit one choice of the paper, on a part of the paper's grid, and score the networks.

    Returns
    -------
    dict
        ``{choice: {"f1_simulation", "f1_mockups", "always_yes_f1", "seconds", "epochs"}}``.
        The scores are the mean F1 on test spectra of the simulation set, and on mock-ups without fine-tuning.
        Networks with ``counted`` in their key are trained on spectra with the counts and noise of a mock-up pixel.
    """
    settings_by_choice: dict[str, tuple[NetworkKind, EnergyAxis, bool, bool]] = {
        "as_in_the_paper": ("xu2022", XU_NETWORK_AXIS, True, False),
        "no_cut_at_2.80_kev": ("xu2022", FULL_AXIS, True, False),
        "root_for_log_log": ("xu2022_root", XU_NETWORK_AXIS, True, False),
        "no_normalisation": ("xu2022_unscaled", XU_NETWORK_AXIS, True, False),
        "no_background": ("xu2022", XU_NETWORK_AXIS, False, False),
        "counted": ("xu2022", XU_NETWORK_AXIS, True, True),
        "counted_root": ("xu2022_root", XU_NETWORK_AXIS, True, True),
    }
    scores_by_choice = {}
    stratigraphies, pigments_by_stratigraphy = study_grid(plan)
    mockups_by_axis = {axis: get_mockups(plan, axis) for axis in (XU_NETWORK_AXIS, FULL_AXIS)}
    for paper_choice, (network_kind, axis, with_background, with_counts) in settings_by_choice.items():
        mockups = mockups_by_axis[axis]
        library = simulated_as_in_paper(
            stratigraphies, pigments_by_stratigraphy, mockups, with_background=with_background
        )
        if with_counts:
            library = draw_counts(library, plan)
        run_name = f"ablation_{paper_choice}"
        checkpoints, answers_simulated = pretrain(
            plan, library, progress, name=run_name, folds=1, network_kind=network_kind
        )
        mockup_scores = scores_over_folds(predict_mockups(plan, paper_network(checkpoints, mockups)))["mean"]
        scores_by_choice[paper_choice] = {
            "f1_simulation": scores_over_folds(answers_simulated)["mean"]["f1"],
            "f1_mockups": mockup_scores["f1"],
            "auprc_mockups": mockup_scores["auprc"],
            "always_yes_f1": mockup_scores["always_yes"]["f1"],
            "seconds": round(answers_simulated.seconds, 1),
            "epochs": answers_simulated.epochs,
        }
    return scores_by_choice


def _bottom_2b(vermilion_fraction: float, cover_name: str) -> Stratigraphy:
    """Return a stratigraphy of Bottom 2B with the given mass fraction of vermilion, without cover or under Top 1."""
    paint_fractions = paper_mixtures()
    white_fractions = {name: fraction for name, fraction in paint_fractions["Bottom 2B"].items() if name != "vermilion"}
    white_scale = (1.0 - vermilion_fraction) / sum(white_fractions.values())
    mass_fractions = {name: white_scale * fraction for name, fraction in white_fractions.items()} | {
        "vermilion": vermilion_fraction
    }
    layers = [Paint(mass_fractions, pigment_to_binder=3.0).layer(BOTTOM_THICKNESS_UM), ground_layer("chalk", GROUND_UM)]
    if cover_name != "none":
        layers.insert(0, Paint(paint_fractions["Top 1"], pigment_to_binder=3.0).layer(COVER_THICKNESS_UM))
    return Stratigraphy(tuple(layers))


def _expected_spectra(samples: Sequence[Stratigraphy], mockups: Mockups) -> NDArray[np.float64]:
    """Return the (n, n_channel) expected spectra, normalised to a sum of one, for the instrument of the mock-ups."""
    instrument = mockups.instrument
    spectra = np.asarray(render(emit(samples, instrument), instrument.detector, mockups.axis), dtype=np.float64)
    return np.asarray(spectra / spectra.sum(axis=1, keepdims=True))


def _visible_percent(counts_needed: Sequence[float], counts: float) -> float | None:
    """Return the mass fraction, in %, above which vermilion is visible at the given counts, or None if it never is."""
    log_counts_needed = np.log(np.asarray(counts_needed))[::-1]
    if log_counts_needed[0] > np.log(counts):
        return None
    return float(100.0 * np.exp(np.interp(np.log(counts), log_counts_needed, np.log(VERMILION_FRACTIONS)[::-1])))


def _false_positive_rate(probability: NDArray[np.float32], is_present: NDArray[np.bool_]) -> dict[str, Any]:
    is_false_positive = (probability > PRESENT_PROBABILITY) & ~is_present
    false_positive_rates = is_false_positive.sum(axis=0) / np.maximum((~is_present).sum(axis=0), 1)
    rate_by_pigment = dict(zip(paper_outputs().names, false_positive_rates.tolist(), strict=True))
    return {"share": float(false_positive_rates.mean()), "by_pigment": rate_by_pigment}


def _probability_band(draw_probabilities: NDArray[np.float32]) -> dict[str, list[float]]:
    """Return mean, 10th and 90th percentile of (n_fraction, n_draw) probabilities over the draws."""
    tenth_percentile, ninetieth_percentile = np.quantile(draw_probabilities, (0.1, 0.9), axis=1)
    return {
        "mean": draw_probabilities.mean(axis=1).tolist(),
        "low": tenth_percentile.tolist(),
        "high": ninetieth_percentile.tolist(),
    }


def _limits_figure(detection_scores: dict[str, Any], title: str) -> Any:
    detection_plots = []
    for cover_name, limits_of_cover in detection_scores.items():
        cover_text = "not covered" if cover_name == "none" else f"under {COVER_THICKNESS_UM:.0f} µm of {cover_name}"
        for seconds, limits_of_network in limits_of_cover["seconds"].items():
            detection_curves = {
                name: np.asarray(probability_band["mean"]) for name, probability_band in limits_of_network.items()
            }
            probability_bands = {
                name: (np.asarray(probability_band["low"]), np.asarray(probability_band["high"]))
                for name, probability_band in limits_of_network.items()
            }
            vermilion_percent = 100.0 * np.asarray(limits_of_cover["fraction"])
            detection_plots.append(
                Detection(
                    f"{seconds} s a pixel, {cover_text}",
                    vermilion_percent,
                    detection_curves,
                    limits_of_cover["visible_percent"][seconds],
                    probability_bands,
                )
            )
    return detection_panels(detection_plots, title, marked_percent=100.0 * PAPER_VERMILION_FRACTION)
