"""Whether simulated scans answer a question at the counts that a plan gives.

    python benchmarks/plan.py --json FILE [--scans 16]

Of each question, `plan` gives the counts of a spectrum at which half of the scans say that one group begins above
another (``counts_planned``; ``share``: of the scans that say so, by counts). Then spectra of the same layers are drawn
with Poisson noise and explained as `underpaint explain` does it, one after the other: fewer counts after each that
gave the answer, more after each that did not (a staircase). ``answered``: counts and whether both runs gave the answer.
``factor``: by how much the planned counts must be multiplied so that the plan's curve fits these best (maximum
likelihood); ``factor_range``: where the log-likelihood is less than 0.5 lower; null beyond a factor of 8. ``wrong``:
scans that gave the reverse.
Questions that FILE holds are not measured anew; a part of one is gone on with.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from underpaint.data import Spectrum
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer
from underpaint.pigments.explain import explain, given_groups
from underpaint.pigments.explain.planning import (
    COUNTS,
    N_SCAN,
    OrderQuestion,
    Planned,
    answered_shares,
    expected_spectrum,
)

QUESTIONS = {
    "lead_pigment under mercury_red": (("vermilion", 20.0), ("lead_white", 30.0)),
    "lead_pigment under copper_green_blue": (("azurite", 30.0), ("lead_white", 30.0)),
    "mercury_red under iron_pigment": (("yellow_ochre", 40.0), ("vermilion", 10.0)),
}
"""Layers of paint, um, from the top, over chalk."""
GROUND_UM = 150.0
STEP = 1.6
FACTORS = np.geomspace(1 / 8, 8, 241)
OF_LIKELIHOOD = 0.5


def measure(text: str, record: dict[str, Any], n_scan: int, save: Any) -> None:
    """Plan for a question, and explain scans about the planned counts; the record is filled as they come."""
    instrument, question = load_instrument("elio"), OrderQuestion.of_text(text)
    paints = [Paint({name: 1.0}).layer(um) for name, um in QUESTIONS[text]]
    layers = Stratigraphy((*paints, ground_layer("chalk", GROUND_UM)))
    candidates = given_groups([question.above, question.below])
    if "counts_planned" not in record:
        started = time.process_time()
        planned = answered_shares(layers, instrument, candidates, question, COUNTS)
        record |= {
            "layers": [f"{name} {um:g} um" for name, um in QUESTIONS[text]],
            "counts": planned.counts.tolist(),
            "share": planned.share.tolist(),
            "counts_planned": planned.counts_needed(),
            "seconds_plan": time.process_time() - started,
            "answered": [],
            "wrong": 0,
        }
        save()
    rate, axis = expected_spectrum(layers, instrument)
    while len(record["answered"]) < n_scan:
        number = len(record["answered"])
        total = record["counts_planned"]
        for _, given in record["answered"]:
            total *= 1 / STEP if given else STEP
        noise = np.random.default_rng((number, len(text)))
        spectrum = Spectrum(noise.poisson(rate * total / rate.sum()).astype(np.float64), axis, name=text)
        explanation = explain(spectrum, instrument, candidates, seed=number)
        stated = [order for order in explanation.orders if order.determined and explanation.stated]
        given = any((order.above, order.below) == (question.above, question.below) for order in stated)
        record["answered"].append([total, given])
        record["wrong"] += bool(stated) and not given
        record |= fitted(record)
        save()
        print(text, f"{total:,.0f}", given, record["factor"], flush=True)


def fitted(record: dict[str, Any]) -> dict[str, Any]:
    """Return the factor by which the plan's curve must be moved to fit the scans, and its range."""
    planned = Planned(*(np.asarray(record[name], dtype=np.float64) for name in ("counts", "share", "share")))
    logs, quantiles = np.log(planned.counts), ndtri(np.clip(planned.share, 1 / N_SCAN, 1 - 1 / N_SCAN))
    slope = np.polyfit(logs[-3:], quantiles[-3:], 1)[0]
    counts, given = (np.asarray(each) for each in zip(*record["answered"], strict=True))
    # beyond the counts that were simulated the curve goes on as it ended
    away = np.log(counts[None] / (record["counts_planned"] * FACTORS[:, None])) * slope
    chance = np.clip(ndtr(away), 1e-3, 1 - 1e-3)
    log_like = np.where(given, np.log(chance), np.log1p(-chance)).sum(axis=1)
    inside = FACTORS[log_like >= log_like.max() - OF_LIKELIHOOD]
    values = (FACTORS[log_like.argmax()], inside.min(), inside.max())
    # at an end of what was tried the scans, all of one answer, give no more than a bound
    factor, low, high = (float(each) if FACTORS[0] < each < FACTORS[-1] else None for each in values)
    return {"factor": factor, "factor_range": [low, high]}


def main() -> None:
    """Measure, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True)
    parser.add_argument("--scans", type=int, default=16)
    arguments = parser.parse_args()
    result: dict[str, Any] = json.loads(arguments.json.read_text("utf-8")) if arguments.json.exists() else {}

    def save() -> None:
        arguments.json.write_text(json.dumps(result, indent=1), "utf-8")

    for text in QUESTIONS:
        measure(text, result.setdefault(text, {}), arguments.scans, save)
    for text, record in result.items():
        low, high = record["factor_range"]
        print(
            f"{text}: planned {record['counts_planned']:,.0f}, factor {record['factor']:.2f} ({low:.2f} to {high:.2f})"
        )


if __name__ == "__main__":
    main()
