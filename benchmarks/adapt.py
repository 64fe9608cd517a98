"""Ways to adapt a network to an unlabelled scan, on instruments outside the range that it was trained on.

    python benchmarks/adapt.py --json docs/figures/adapt.json [--seeds 2] [--size 1024] [--epochs 6]
        [--model default] [--only NAME ...]

Each instrument scans SIDE x SIDE random easel paintings (Poisson noise, 1e4 to 1e5 counts a pixel, on its own axis).
``adapt`` is given that scan alone. Every way that it tries is then scored on other paintings under the *true*
instrument, which it never saw: macro F1 of the groups, with the standard error of its difference from the network as
given (stratigraphies resampled). ``inside`` is an instrument as the training had them: nothing is to be gained there,
and nothing may be lost.

The same call goes on where one was interrupted. A way is worse where its difference is below minus two standard errors;
``decided`` is what a user gets, who keeps the given network where ``adapt`` declines.
"""

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from underpaint import __version__
from underpaint.data import EnergyAxis, Scan
from underpaint.errors import CalibrationError
from underpaint.lab.training.adapting import AdaptReport, AdaptSettings, adapt
from underpaint.lab.training.instrument_model import Sizes, simulate_or_read
from underpaint.lab.training.paired import Answers, answers_of, compare
from underpaint.lab.training.settings import TrainSettings
from underpaint.physics.forward import count, emit, render
from underpaint.physics.instrument import Instrument, Optic, load_instrument
from underpaint.physics.materials import load_palette
from underpaint.runtime.files import atomic_write
from underpaint.runtime.progress import no_progress
from underpaint.simulate import LibrarySettings
from underpaint.simulate.draw import RandomStratigraphies, StratigraphySampler

SIDE = 10
COUNTS = (1e4, 1e5)
TRUE_SEED = 4_000_000
OPTIC = Optic(
    energy_kev=(1.0, 3.0, 6.0, 9.0, 13.0, 18.0, 25.0, 40.0),
    transmission=(0.2, 0.6, 0.9, 1.0, 0.6, 0.25, 0.08, 0.02),
)
"""The shape of a polycapillary's transmission: best near 9 keV, a few per cent above 25 keV."""


def instruments() -> dict[str, Instrument]:
    """Return one instrument within the ranges of training, and others each outside in one property."""
    elio = load_instrument("elio")
    detector, geometry, tube = elio.detector, elio.geometry, elio.tube
    changed: dict[str, dict[str, Any]] = {
        "inside": {},
        # with silicon's own 118 eV at Mn K-alpha
        "fwhm_190_ev": {"detector": detector.model_copy(update={"noise_fwhm_kev": 0.149})},
        "strong_tails": {
            "detector": detector.model_copy(
                update={"tail_fraction": 0.12, "tail_width_kev": 0.6, "shelf_fraction": 0.03}
            )
        },
        "air_20_cm": {"geometry": geometry.model_copy(update={"detector_air_cm": 20.0})},
        "chromium_anode": {"tube": tube.model_copy(update={"anode": "Cr", "voltage_kv": 30.0})},
        "polycapillary": {"optic": OPTIC},
    }
    return {name: elio.model_copy(update={"name": name, **update}) for name, update in changed.items()}


def virtual_scan(instrument: Instrument, seed: int, side: int = SIDE) -> Scan:
    """Scan random paintings with an instrument."""
    rng = np.random.default_rng((seed, 5))
    sampler = StratigraphySampler(RandomStratigraphies(palette=load_palette().pigments))
    expected = np.asarray(render(emit([sampler.draw(rng) for _ in range(side**2)], instrument), instrument.detector))
    target_counts = np.exp(rng.uniform(np.log(COUNTS[0]), np.log(COUNTS[1]), (side**2, 1)))
    counts = count(expected * (target_counts / expected.sum(axis=1, keepdims=True)), rng=rng)
    detector = instrument.detector
    axis = EnergyAxis(detector.gain_kev, detector.zero_kev, detector.n_channel)
    return Scan(counts.reshape(side, side, -1), axis=axis, name=instrument.name)


def measure(name: str, seed: int, model: str, sizes: Sizes, n_true: int) -> dict[str, Any]:
    """Adapt to a scan of one instrument, and score every way under the true one."""
    instrument, begin = instruments()[name], time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        settings = AdaptSettings(out=Path(folder, "adapted"), model=model, sizes=sizes, workers=1, threads=1, seed=seed)
        try:
            report = adapt(virtual_scan(instrument, seed), settings)
        except CalibrationError as error:
            return {"instrument": name, "seed": seed, "error": str(error)}
        job = LibrarySettings(
            instrument=instrument, n_stratigraphies=n_true, renders=1, chunk=64, seed=TRUE_SEED + seed,
            places=bool(report.given_model.card.instrument_inputs), gapless=bool(report.given_model.card.amounts),
        )  # fmt: skip
        truth = simulate_or_read(job, Path(folder, "true.h5"), 1, no_progress)
    scored = _scores(report, truth, seed)
    return {
        "instrument": name,
        "seed": seed,
        "found": {"anode": report.calibration.anode, "voltage_kv": report.calibration.voltage_kv,
                  "fwhm_ev": 1e3 * float(report.calibration.fwhm_kev(5.895))},
        "chosen": report.chosen_method,
        "taken": report.is_accepted,
        "on_fitted": report.comparison.as_dict(),
        "validation": dict(report.validation),
        "ways": scored | {"decided": scored[report.chosen_method] if report.is_accepted else scored["given"]},
        "seconds": time.perf_counter() - begin,
    }  # fmt: skip


def _scores(report: AdaptReport, truth: Any, seed: int) -> dict[str, dict[str, Any]]:
    card = report.given_model.card
    level = TrainSettings(library=(Path("true.h5"),), out=Path(), kind=card.kind, counts_min=COUNTS[0],
                          counts_max=COUNTS[1], seed=seed)  # fmt: skip
    groups = [name for name, kind in zip(card.names, card.kinds, strict=True) if kind == "group"]
    instrument_inputs = report.conditions.inputs(card.instrument_inputs) if card.instrument_inputs else None

    def ask(way: str) -> Answers:
        network = report.given_model.network if way == "given" else report.candidates[way].network
        answers = answers_of(network, card.names, truth, level, None if way == "given" else instrument_inputs)
        return answers.select_output_names([name for name in truth.names if name in groups])

    baseline = ask("given")
    return {way: compare(baseline, ask(way), seed=seed).as_dict() for way in ("given", *report.candidates)}


def summary(cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return for each way the mean gain, by instrument and outside the training's range, and how often it was worse."""
    completed = [case for case in cases if "ways" in case]
    names = list(dict.fromkeys(way for case in completed for way in case["ways"]))
    result: dict[str, Any] = {}
    for way in names:
        entries = [(case["instrument"], case["ways"][way]) for case in completed if way in case["ways"]]
        outside = [each["gain"] for name, each in entries if name != "inside"]
        result[way] = {
            "mean_gain_outside": float(np.mean(outside)) if outside else None,
            "worst_gain": min(each["gain"] for _, each in entries),
            "worse_by_two_standard_errors": sum(each["gain"] < -2 * each["standard_error"] for _, each in entries),
            "better_by_two_standard_errors": sum(each["gain"] > 2 * each["standard_error"] for _, each in entries),
            "cases": len(entries),
            "by_instrument": {
                name: float(np.mean([each["after"] for name_of_case, each in entries if name_of_case == name]))
                for name in dict.fromkeys(name for name, _ in entries)
            },
        }
    return result


def cases_done(path: Path | None, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the cases that an earlier call of the same sizes has written."""
    if path is None or not path.is_file():
        return []
    stored = json.loads(path.read_text(encoding="utf-8"))
    return list(stored["cases"]) if all(stored.get(name) == value for name, value in request.items()) else []


def table(result: dict[str, Any]) -> Table:
    """Return the mean F1 of each way by instrument."""
    columns = list(result["given"]["by_instrument"])
    shown = Table("way", *columns, "mean gain outside", "worse", "better", title="macro F1 of the groups")
    for way, each in result.items():
        gain = each["mean_gain_outside"]
        shown.add_row(
            way, *(f"{each['by_instrument'][name]:.3f}" for name in columns), "" if gain is None else f"{gain:+.4f}",
            f"{each['worse_by_two_standard_errors']}/{each['cases']}",
            f"{each['better_by_two_standard_errors']}/{each['cases']}",
        )  # fmt: skip
    return shown


def main() -> None:
    """Run, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", type=Path)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--size", type=int, default=1024, help="stratigraphies to fine-tune on")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--true", type=int, default=384, help="stratigraphies to score on")
    parser.add_argument("--model", default="default")
    parser.add_argument("--only", nargs="*", choices=list(instruments()))
    options = parser.parse_args()
    sizes = Sizes(n_stratigraphies=options.size, n_held_out=max(64, options.size // 4), epochs=options.epochs)
    request = {"model": options.model, "sizes": sizes.model_dump(), "n_true": options.true, "counts": list(COUNTS),
             "scan": f"{SIDE} x {SIDE}", "version": __version__}  # fmt: skip
    cases = cases_done(options.json, request)
    completed = {(case["instrument"], case["seed"]) for case in cases}
    for seed, name in ((seed, name) for seed in range(options.seeds) for name in options.only or instruments()):
        if (name, seed) in completed:
            continue
        cases.append(measure(name, seed, options.model, sizes, options.true))
        Console().print(cases[-1])
        if options.json is not None:
            with atomic_write(options.json) as part:
                result = {**request, "summary": summary(cases), "cases": cases}
                part.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    Console().print(table(summary(cases)))


if __name__ == "__main__":
    main()
