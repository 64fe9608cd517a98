"""Limits of the paper's networks: too little pigment, too few counts, bare ground; and the effect of its choices."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import XU_NETWORK_AXIS, EnergyAxis
from underpaint.display.plot import save_png
from underpaint.display.plot.paper import Detection, detection_panels
from underpaint.lab.reproduction.arms import of_paper, predict_mockups, pretrain, test_rows
from underpaint.lab.reproduction.contestants import default_answers, paper_answers, paper_network
from underpaint.lab.reproduction.figure_answers import AFTER, BEFORE, DEFAULT, THRESHOLD, Networks
from underpaint.lab.reproduction.measured import get_mockups
from underpaint.lab.reproduction.mockups import Mockups
from underpaint.lab.reproduction.plan import Plan
from underpaint.lab.reproduction.scoring import over_folds
from underpaint.lab.reproduction.simulation import (
    counted,
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


def mistakes(plan: Plan, mockups: Mockups, progress: Progress) -> dict[str, Any]:
    """Return the false negatives and false positives of each pigment.

    Returns
    -------
    dict
        ``{pigment: {"missed_on_top", "missed_below", "missed_under": {cover: share}, "said_with": {other: share}}}``:
        shares of the test spectra of all folds, answers over one half; ``said_with`` of the spectra that hold the
        material and not the pigment. Not a number where no spectrum is of that kind.
    """
    simulated = simulation_set(plan, mockups)
    _, answers_simulated = pretrain(plan, simulated, progress)
    pairs = np.asarray(grid_pigments(plan))[test_rows(simulated, plan)]
    positive = np.stack([probability > 0.5 for probability in answers_simulated.probability])
    return {
        name: _of_one(name, positive[:, :, column], answers_simulated.label[0][:, column], pairs[:, 0], pairs[:, 1])
        for column, name in enumerate(paper_outputs().names)
    }


def _of_one(
    name: str,
    positive: NDArray[np.bool_],
    truth: NDArray[np.bool_],
    upper: NDArray[np.str_],
    lower: NDArray[np.str_],
) -> dict[str, Any]:
    """Return the mistakes about one pigment from (n_fold, n) answers and the (n,) materials of both layers."""
    top, below = upper == name, truth & (upper != name)
    materials = sorted({*upper, *lower} - {name})
    return {
        "missed_on_top": _share(~positive, top),
        "missed_below": _share(~positive, below),
        "missed_under": {str(each): _share(~positive, below & (upper == each)) for each in materials},
        "said_with": {str(each): _share(positive, ~truth & ((upper == each) | (lower == each))) for each in materials},
    }


def _share(answers: NDArray[np.bool_], mask: NDArray[np.bool_]) -> float:
    return float(answers[:, mask].mean()) if mask.any() else float("nan")


Ask = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(n, n_channel) counts on the paper's channels in, (n, 11) probabilities out."""
SECONDS = (0.1, 1.0, 10.0)
FRACTIONS = np.geomspace(0.0005, 0.10, 12)
"""Mass fractions of vermilion among the dry pigments of Bottom 2B."""
PAPER_FRACTION = 0.006
COVER_UM, BOTTOM_UM, GROUND_UM = 100.0, 125.0, 175.0
LOW_COUNTS = (1e2, 1e3, 1e4, 1e5)
FULL_AXIS = EnergyAxis(XU_NETWORK_AXIS.gain_kev, 0.0, 4095)
"""The paper's channels without the cut at 2.80 keV."""


def limits(plan: Plan, networks: Networks, progress: Progress) -> dict[str, Any]:
    """Return detection limit, false positives, mistakes and ablations; writes ``limits.png`` into ``plan.out``."""
    mockups = get_mockups(plan)
    asks: dict[str, Ask] = {
        BEFORE: partial(paper_answers, plan, load_checkpoint(networks.before)),
        AFTER: partial(paper_answers, plan, load_checkpoint(networks.after)),
        DEFAULT: partial(default_answers, plan, load_trainable("default")),
    }
    progress("Looking for little vermilion", 0, 1)
    detection = detection_limit(plan, mockups, asks)
    progress("Counting false positives", 0, 1)
    false = false_positives(plan, mockups, asks)
    save_png(
        _picture(detection, "Vermilion in virtual lead white; the paper's 0.6 % is marked"), plan.out / "limits.png"
    )
    return {
        "detection": detection,
        "false_positives": false,
        "mistakes": mistakes(plan, mockups, progress),
        "ablation": ablation(plan, progress),
    }


def detection_limit(plan: Plan, mockups: Mockups, asks: dict[str, Ask]) -> dict[str, Any]:
    """Return the probability of vermilion against its mass fraction in Bottom 2B, bare and under Top 1.

    Returns
    -------
    dict
        ``{cover: {"fraction": [...], "counts_to_see": [...], "visible_percent": {s: ...}, "seconds": {s: {network:
        {"mean", "low", "high"}}}}}``: means and tenth and ninetieth percentile of draws of counts; ``counts_to_see`` is
        the physical limit, and ``visible_percent`` the mass fraction from which the pixel has them.
    """
    n_draw = plan.draws
    column = paper_outputs().names.index("vermilion")
    result = {}
    for cover in ("none", "Top 1"):
        samples = [_bottom_2b(float(fraction), cover) for fraction in FRACTIONS]
        expected = _expected(samples, mockups)
        by_seconds: dict[str, Any] = {}
        for seconds in SECONDS:
            rng = np.random.default_rng((plan.seed, round(100 * seconds)))
            total = plan.counts * seconds / SECONDS[-1]
            counts = count(np.repeat(expected * total, n_draw, axis=0), rng=rng).astype(np.float32)
            probabilities = {name: ask(counts)[:, column].reshape(-1, n_draw) for name, ask in asks.items()}
            by_seconds[f"{seconds:g}"] = {name: _band(values) for name, values in probabilities.items()}
        needed = counts_to_see(samples, "vermilion", mockups.instrument)
        result[cover] = {
            "fraction": FRACTIONS.tolist(),
            "counts_to_see": needed,
            "visible_percent": {f"{each:g}": _visible(needed, plan.counts * each / SECONDS[-1]) for each in SECONDS},
            "seconds": by_seconds,
        }
    return result


def false_positives(plan: Plan, mockups: Mockups, asks: dict[str, Ask]) -> dict[str, Any]:
    """Return the share of false positives by total counts.

    Returns
    -------
    dict
        ``{"bare_ground"|"mockups": {counts: {network: {"share", "by_pigment": {...}}}}}``.
    """
    n_draw = 4 * plan.draws
    rng = np.random.default_rng((plan.seed, 3))
    ground = _expected([Stratigraphy((ground_layer("chalk", GROUND_UM),))], mockups)
    labelled = mockup_library(mockups)
    labels = of_paper(labelled, labelled.labels) == 1
    rows = np.sort(rng.choice(len(mockups), size=min(len(mockups), 8 * n_draw), replace=False))
    measured = mockups.counts[rows] / mockups.counts[rows].sum(axis=1, keepdims=True)
    cases = {
        "bare_ground": (np.repeat(ground, n_draw, axis=0), np.zeros((n_draw, labels.shape[1]), dtype=bool)),
        # counts thinned from measured ones: the noise of few counts, plus the remaining noise of many
        "mockups": (measured, labels[rows]),
    }
    result: dict[str, Any] = {}
    for name, (shape, truth) in cases.items():
        result[name] = {}
        for total in LOW_COUNTS:
            counts = count(shape * total, rng=rng).astype(np.float32)
            result[name][f"{total:g}"] = {network: _false(ask(counts), truth) for network, ask in asks.items()}
    return result


def ablation(plan: Plan, progress: Progress) -> dict[str, Any]:
    """Return the effect of the paper's choices: networks trained on a share of its grid, one fold each.

    Returns
    -------
    dict
        ``{choice: {"f1_simulation", "f1_mockups", "always_yes_f1", "seconds", "epochs"}}``: mean F1 on test spectra of
        the simulation set, and on the virtual mock-ups, without fine-tuning. ``counted`` trains at a pixel's counts.
    """
    choices: dict[str, tuple[NetworkKind, EnergyAxis, bool, bool]] = {
        "as_in_the_paper": ("xu2022", XU_NETWORK_AXIS, True, False),
        "no_cut_at_2.80_kev": ("xu2022", FULL_AXIS, True, False),
        "root_for_log_log": ("xu2022_root", XU_NETWORK_AXIS, True, False),
        "no_normalisation": ("xu2022_unscaled", XU_NETWORK_AXIS, True, False),
        "no_background": ("xu2022", XU_NETWORK_AXIS, False, False),
        "counted": ("xu2022", XU_NETWORK_AXIS, True, True),
        "counted_root": ("xu2022_root", XU_NETWORK_AXIS, True, True),
    }
    result = {}
    stratigraphies, contents = study_grid(plan)
    mockups_on = {axis: get_mockups(plan, axis) for axis in (XU_NETWORK_AXIS, FULL_AXIS)}
    for choice, (kind, axis, with_background, with_counts) in choices.items():
        mockups = mockups_on[axis]
        simulated = simulated_as_in_paper(stratigraphies, contents, mockups, with_background=with_background)
        if with_counts:
            simulated = counted(simulated, plan)
        name = f"ablation_{choice}"
        checkpoints, answers_simulated = pretrain(plan, simulated, progress, name=name, folds=1, kind=kind)
        mockup_scores = over_folds(predict_mockups(plan, paper_network(checkpoints, mockups)))["mean"]
        result[choice] = {
            "f1_simulation": over_folds(answers_simulated)["mean"]["f1"],
            "f1_mockups": mockup_scores["f1"],
            "auprc_mockups": mockup_scores["auprc"],
            "always_yes_f1": mockup_scores["always_yes"]["f1"],
            "seconds": round(answers_simulated.seconds, 1),
            "epochs": answers_simulated.epochs,
        }
    return result


def _bottom_2b(fraction: float, cover: str) -> Stratigraphy:
    """Return Bottom 2B with a share of vermilion, its whites in the paper's proportion, bare or under Top 1."""
    paints = paper_mixtures()
    white = {name: share for name, share in paints["Bottom 2B"].items() if name != "vermilion"}
    scale = (1.0 - fraction) / sum(white.values())
    shares = {name: scale * share for name, share in white.items()} | {"vermilion": fraction}
    layers = [Paint(shares, pigment_to_binder=3.0).layer(BOTTOM_UM), ground_layer("chalk", GROUND_UM)]
    if cover != "none":
        layers.insert(0, Paint(paints["Top 1"], pigment_to_binder=3.0).layer(COVER_UM))
    return Stratigraphy(tuple(layers))


def _expected(samples: Sequence[Stratigraphy], mockups: Mockups) -> NDArray[np.float64]:
    """Return (n, n_channel) expected spectra that sum to one, by the mock-ups' instrument and the full physics."""
    instrument = mockups.instrument
    spectra = np.asarray(render(emit(samples, instrument), instrument.detector, mockups.axis), dtype=np.float64)
    return np.asarray(spectra / spectra.sum(axis=1, keepdims=True))


def _visible(needed: Sequence[float], counts: float) -> float | None:
    """Return the mass fraction in per cent from which vermilion is detected at these counts; None if never."""
    falling = np.log(np.asarray(needed))[::-1]
    if falling[0] > np.log(counts):
        return None
    return float(100.0 * np.exp(np.interp(np.log(counts), falling, np.log(FRACTIONS)[::-1])))


def _false(probability: NDArray[np.float32], truth: NDArray[np.bool_]) -> dict[str, Any]:
    positive = (probability > THRESHOLD) & ~truth
    share = positive.sum(axis=0) / np.maximum((~truth).sum(axis=0), 1)
    by_pigment = dict(zip(paper_outputs().names, share.tolist(), strict=True))
    return {"share": float(share.mean()), "by_pigment": by_pigment}


def _band(values: NDArray[np.float32]) -> dict[str, list[float]]:
    """Return mean and spread over the draws of each fraction: (n_fraction, n_draw) in."""
    low, high = np.quantile(values, (0.1, 0.9), axis=1)
    return {"mean": values.mean(axis=1).tolist(), "low": low.tolist(), "high": high.tolist()}


def _picture(detection: dict[str, Any], title: str) -> Any:
    parts = []
    for cover, row in detection.items():
        place = "not covered" if cover == "none" else f"under {COVER_UM:.0f} µm of {cover}"
        for seconds, limits_of_network in row["seconds"].items():
            curves = {name: np.asarray(band["mean"]) for name, band in limits_of_network.items()}
            bands = {
                name: (np.asarray(band["low"]), np.asarray(band["high"])) for name, band in limits_of_network.items()
            }
            x = 100.0 * np.asarray(row["fraction"])
            parts.append(Detection(f"{seconds} s a pixel, {place}", x, curves, row["visible_percent"][seconds], bands))
    return detection_panels(parts, title, marked_percent=100.0 * PAPER_FRACTION)
