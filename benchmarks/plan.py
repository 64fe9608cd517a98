"""Whether simulated scans answer a question at the counts that a plan gives.

    python benchmarks/plan.py --json FILE [--scans 16]

For each question, `plan` gives the counts of a spectrum at which half of the scans state that one group begins above
another (``counts_planned``; ``share``: the fraction of scans that state it, by counts). Then spectra of the same layers
are drawn with Poisson noise and explained as `underpaint explain` does it, one after the other: fewer counts after a
scan that gave the answer, more after a scan that did not (a staircase). ``answered``: the counts of each scan, whether
the answer was stated, and the probability of the answer in each of the two runs. ``factor``: the factor on the planned
counts with which the plan's curve fits these scans best (maximum likelihood); ``factor_range``: factors at which the
log-likelihood is less than 0.5 below its maximum; null beyond a factor of 8. ``wrong``: scans that stated the reverse
order. The questions take turns, and FILE is written after each scan; a new run measures everything again.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri

from underpaint.data import Spectrum
from underpaint.physics.instrument import Instrument, load_instrument
from underpaint.physics.materials import Paint, Stratigraphy, ground_layer
from underpaint.pigments.explain import explain, given_groups
from underpaint.pigments.explain.planning import (
    COUNTS,
    N_SCAN,
    AnsweredShares,
    OrderQuestion,
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
SEED = 64
STEP = 1.6
FACTORS = np.geomspace(1 / 8, 8, 241)
OF_LIKELIHOOD = 0.5


def layers_of(text: str) -> Stratigraphy:
    """Return the layers of a question."""
    paints = [Paint({name: 1.0}).layer(um) for name, um in QUESTIONS[text]]
    return Stratigraphy((*paints, ground_layer("chalk", GROUND_UM)))


def plan(text: str, instrument: Instrument) -> dict[str, Any]:
    """Plan for a question, and return the record of its measurement, as yet without scans."""
    question = OrderQuestion.from_text(text)
    started = time.process_time()
    candidates = given_groups([question.lower_group, question.upper_group])
    planned = answered_shares(layers_of(text), instrument, candidates, question, COUNTS)
    print(text, f"planned {planned.counts_needed():,.0f}", flush=True)
    return {
        "layers": [f"{name} {um:g} um" for name, um in QUESTIONS[text]],
        "counts": planned.counts.tolist(),
        "share": planned.answered_share.tolist(),
        "counts_planned": planned.counts_needed(),
        "seconds_plan": time.process_time() - started,
        "answered": [],
        "wrong": 0,
    }


def add_scan(text: str, record: dict[str, Any], instrument: Instrument) -> None:
    """Explain one more scan of a question, and add its result to the record."""
    question, number = OrderQuestion.from_text(text), len(record["answered"])
    total = record["counts_planned"] * STEP ** sum(-1 if is_given else 1 for _, is_given, _ in record["answered"])
    rate, axis = expected_spectrum(layers_of(text), instrument)
    rng = np.random.default_rng((SEED, list(QUESTIONS).index(text), number))
    spectrum = Spectrum(rng.poisson(rate * total / rate.sum()).astype(np.float64), axis, name=text)
    candidates = given_groups([question.lower_group, question.upper_group])
    explanation = explain(spectrum, instrument, candidates, seed=int(rng.integers(2**31)))
    stated = [order for order in explanation.orders if order.determined and explanation.is_stated]
    is_given = any((order.above, order.below) == (question.upper_group, question.lower_group) for order in stated)
    above, below = (explanation.draws.groups.index(name) for name in (question.upper_group, question.lower_group))
    probability_by_run = [
        float((run.uppermost_layer[:, above] < run.uppermost_layer[:, below]).mean()) for run in explanation.runs
    ]
    record["answered"].append([total, is_given, probability_by_run])
    record["wrong"] += bool(stated) and not is_given
    record |= fitted(record)
    print(text, f"{total:,.0f}", is_given, probability_by_run, record["factor"], flush=True)


def fitted(record: dict[str, Any]) -> dict[str, Any]:
    """Return the factor by which the plan's curve must be moved to fit the scans, and its range."""
    planned = AnsweredShares(*(np.asarray(record[name], dtype=np.float64) for name in ("counts", "share", "share")))
    logs, quantiles = np.log(planned.counts), ndtri(np.clip(planned.answered_share, 1 / N_SCAN, 1 - 1 / N_SCAN))
    slope = np.polyfit(logs[-3:], quantiles[-3:], 1)[0]
    counts, is_given, _ = (np.asarray(each) for each in zip(*record["answered"], strict=True))
    # beyond the counts that were simulated the curve goes on as it ended
    away = np.log(counts[None] / (record["counts_planned"] * FACTORS[:, None])) * slope
    chance = np.clip(ndtr(away), 1e-3, 1 - 1e-3)
    log_like = np.where(is_given, np.log(chance), np.log1p(-chance)).sum(axis=1)
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
    instrument = load_instrument("elio")
    result: dict[str, Any] = {}
    for text in QUESTIONS:
        result[text] = plan(text, instrument)
        arguments.json.write_text(json.dumps(result, indent=1), "utf-8")
    for _ in range(arguments.scans):
        for text, record in result.items():
            add_scan(text, record, instrument)
            arguments.json.write_text(json.dumps(result, indent=1), "utf-8")
    for text, record in result.items():
        print(f"{text}: planned {record['counts_planned']:,.0f}, factor {record['factor']}, {record['factor_range']}")


if __name__ == "__main__":
    main()
