"""The stages of the evaluation suite."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint._version import __version__
from underpaint.data.maps import split_place
from underpaint.errors import CoverageError, OutputError, TrainingError
from underpaint.lab.evaluation import baselines, calibration, measured_scan, monte_carlo, open_set, order
from underpaint.lab.evaluation.answering import Spectra, ask
from underpaint.lab.evaluation.groups import mean, summarise
from underpaint.lab.evaluation.plan import TrustPlan
from underpaint.lab.evaluation.scores import counts_key
from underpaint.lab.evaluation.simulated import (
    Answer,
    HeldOut,
    LabelledMockups,
    can_finetune,
    finetuned_scores,
    group_scores,
    held_out_set,
    palette_for,
    simulate_mockups,
    tuning_set,
    unseen_instruments,
    unseen_set,
    without_finetuning,
)
from underpaint.physics.instrument import load_instrument
from underpaint.pigments.predict import OnnxModel, open_model
from underpaint.pigments.weights import load_card, model_path
from underpaint.runtime.files import claim_folder, plain, sha256_of, write_json
from underpaint.runtime.progress import Progress, no_progress


class Stages:
    """A folder of finished stages.

    Parameters
    ----------
    folder : Path
        Created where it is missing.
    facts : dict
        Settings, model and versions that all figures depend on. A stage stored with other facts is run again.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder, self._facts = folder, facts
        claim_folder(folder)

    def take(self, name: str, make: Callable[[], dict[str, Any]], facts: dict[str, Any] | None = None) -> Any:
        """Return a stage's figures: the stored ones, or those that ``make`` returns.

        Parameters
        ----------
        name : str
            Of the stage and its file.
        make : callable
            Computes the figures, plain values.
        facts : dict, optional
            Further facts that this stage depends on.
        """
        stage_facts = plain({**self._facts, **(facts or {})})
        path = self.folder / f"{name}.json"
        stored = self._read(path)
        if stored.get("facts") == stage_facts:
            return stored["figures"]
        start = time.perf_counter()
        figures = plain(make())
        record = {"facts": stage_facts, "seconds": round(time.perf_counter() - start, 1), "figures": figures}
        write_json(path, record)
        return figures

    def seconds(self) -> dict[str, float]:
        """Return the run time of each stage, s."""
        records = {path.stem: self._read(path) for path in sorted(self.folder.glob("*.json"))}
        return {name: record["seconds"] for name, record in records.items() if "seconds" in record}

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        if not path.is_file():
            return {}
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            # not written by this class, which writes whole files: run again
            return {}
        return record if isinstance(record, dict) else {}


def spectra_per_second(model: OnnxModel, seconds: float, *, block: int = 2048) -> float:
    """Measure a model's speed over some seconds on blocks of spectra in memory."""
    axis = model.card.axis
    counts = np.random.default_rng(0).poisson(20.0, (block, axis.n_bin)).astype(np.float32)
    recorded = np.tile(np.array([[axis.start_kev, axis.stop_kev]], dtype=np.float32), (block, 1))
    model(counts, recorded)
    start, n_spectra = time.perf_counter(), 0
    while time.perf_counter() - start < seconds:
        model(counts, recorded)
        n_spectra += block
    return n_spectra / (time.perf_counter() - start)


INSTRUMENT = "elio"
"""Of the pairs of the layer order, the open set and the likelihood fit."""
UNSEEN_COUNTS = (1e4, 1e5)
PAPER = "xu2022"
"""The shipped reproduction of the paper's network."""
AURORA = ("auroc", "spearman")
PAPER_BLOCK = 128
"""The paper's network is slow: a larger block takes longer than it is measured for, and is no faster."""


@dataclass(frozen=True)
class Inputs:
    """Inputs of the suite.

    Parameters
    ----------
    model : str or Path
        A shipped name, or an ``.onnx`` file.
    reference : Path or None
        Folder of the Monte Carlo panels; None leaves them out.
    scans : tuple of str
        A measured scan, once for each of its detectors; empty leaves it out.
    instrument_model : Path or None
        A model for one instrument and palette (``underpaint train --instrument``), whose card has the figures of its
        training.
    """

    model: str | Path = "default"
    reference: Path | None = None
    scans: tuple[str, ...] = ()
    instrument_model: Path | None = None

    @property
    def missing(self) -> list[str]:
        """Inputs of a complete run that are missing."""
        lacks = {"monte_carlo": self.reference is None, "aurora": len(self.scans) < 2}
        return [name for name, absent in lacks.items() if absent]


class Suite:
    """The stages of one run.

    Parameters
    ----------
    folder : Path
        Holds the finished stages.
    inputs : Inputs
    plan : TrustPlan
    step : callable
        Called with (what is being done, done, in all).
    """

    def __init__(self, folder: Path, inputs: Inputs, plan: TrustPlan, step: Progress) -> None:
        self.inputs, self.plan, self.step = inputs, plan, step
        self.model = open_model(inputs.model, threads=plan.threads)
        self.digest = sha256_of(model_path(inputs.model))
        self.instrument_card = None if inputs.instrument_model is None else load_card(inputs.instrument_model)
        facts = {"plan": plan.model_dump(mode="json", exclude={"workers", "threads"}), "version": __version__}
        self.stages = Stages(folder, facts)
        self.folder = self.stages.folder

    def take(self, stage: str, make: Callable[[], dict[str, Any]], *, of_model: bool = True, **facts: Any) -> Any:
        """Return the figures of a stage; they depend on the model unless ``of_model`` is False."""
        self.step(stage.replace("_", " ").capitalize(), 0, 1)
        return self.stages.take(stage, make, facts | ({"model": self.digest} if of_model else {}))

    @cached_property
    def held(self) -> HeldOut:
        """The held-out set."""
        return held_out_set(self.plan, self.model.card, self.folder, self.step)

    @cached_property
    def mockups(self) -> LabelledMockups:
        """The virtual mock-ups."""
        return simulate_mockups(self.plan, lines=self.lines)

    @cached_property
    def paper(self) -> OnnxModel:
        """The paper's network."""
        return open_model(PAPER, threads=self.plan.threads)

    @property
    def lines(self) -> bool:
        """Whether the model answers which lines are visible, not which pigments are present."""
        return bool(self.model.card.amounts)

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups that the model answers anywhere, or whose members it does."""
        counted = {split_place(group)[0] for member_groups in self.model.card.groups for group in member_groups}
        return tuple(sorted(counted))

    def answer(self, groups: Sequence[str], model: OnnxModel | None = None) -> Answer:
        """Return the function that answers groups by a model, by default the one of the suite."""
        return lambda spectra: ask(model or self.model, spectra).by_group(groups)

    def without_conditions(self, groups: Sequence[str]) -> Answer:
        """Return the function that answers groups by the model without instrument conditions."""
        return lambda spectra: ask(self.model, spectra.without_conditions()).by_group(groups)

    def rivals(self, groups: Sequence[str], threshold: float) -> dict[str, Answer]:
        """Return the baselines that answer any spectra."""

        def by_lines(spectra: Spectra) -> NDArray[np.float32]:
            return np.asarray(baselines.line_sigmas(spectra, groups) > threshold, dtype=np.float32)

        return {
            "always_yes": lambda spectra: baselines.always_yes(spectra, groups),
            PAPER: self.answer(groups, self.paper),
            "element_thresholds": by_lines,
        }

    # the stages

    def simulated(self) -> dict[str, Any]:
        """Score the groups on the held-out set, with and without instrument conditions."""
        held, plan = self.held, self.plan
        scores = {
            counts_key(counts): group_scores(held, self.answer(held.groups), counts, plan.seed)
            for counts in plan.counts
        }
        without_conditions = {
            counts_key(counts): group_scores(held, self.without_conditions(held.groups), counts, plan.seed)
            for counts in UNSEEN_COUNTS
        }
        return {"data": "simulated", "n": len(held), "by_counts": scores, "untold": macro_by_counts(without_conditions)}

    def calibrated(self) -> dict[str, Any]:
        """Return calibration errors, coverage of sets and of intervals by decade of counts."""
        held = self.held
        drawn = calibration.counted_by_decade(held, self.plan.seed)
        answered = [ask(self.model, draw.spectra) for draw in drawn]
        answers = calibration.AnswersByDecade(held, drawn, [answer.by_group(held.groups) for answer in answered])
        sets = self.model.card.sets
        recalibrated = calibration.conformal_coverage(answers)
        return {
            "data": "simulated",
            **calibration.calibration_error(answers),
            "coverage": recalibrated if sets is None else calibration.stated_coverage(answers, answered, sets),
            "sets_of": "half of the held-out instruments" if sets is None else "the model's card",
            "coverage_calibrated_here": recalibrated,
            "intervals": {"thickness_um": calibration.thickness_intervals(held, answered)},
        }

    def unseen(self) -> dict[str, Any]:
        """Score the groups on instruments outside the ranges of training, with and without instrument conditions."""
        figures: dict[str, Any] = {}
        for number, machine in enumerate(unseen_instruments()):
            self.step("Unseen instruments", number, len(unseen_instruments()))
            held = unseen_set(self.plan, self.model.card, self.folder, machine, self.step)
            ways = {"told": self.answer(held.groups), "untold": self.without_conditions(held.groups)}
            figures[machine] = {
                way: macro_by_counts(
                    {counts_key(counts): group_scores(held, answer, counts, self.plan.seed) for counts in UNSEEN_COUNTS}
                )
                for way, answer in ways.items()
            }
        over_all = {
            way: {
                counts_key(counts): mean([row[way][counts_key(counts)] for row in figures.values()])
                for counts in UNSEEN_COUNTS
            }
            for way in ("told", "untold")
        }
        about = {key: machine.name for key, machine in unseen_instruments().items()}
        return {"data": "simulated", "instruments": about, "by_instrument": figures, "mean": over_all}

    def threshold(self) -> dict[str, Any]:
        """Choose the element thresholds on a separate set of spectra."""
        held = tuning_set(self.plan, self.model.card, self.folder, self.step)
        return {"sigmas": baselines.choose_threshold(held, UNSEEN_COUNTS, self.plan.seed), "n": len(held)}

    def baseline_scores(self, threshold: float) -> dict[str, Any]:
        """Score the baselines and the model on a part of the held-out set."""
        held = self.held.only(slice(0, min(self.plan.baseline_spectra, len(self.held))))
        figures: dict[str, Any] = {}
        contestants = {"model": self.answer(held.groups), **self.rivals(held.groups, threshold)}
        drawn = calibration.counted_by_decade(held, self.plan.seed)
        for number, (model_name, answer) in enumerate(contestants.items()):
            self.step("Baselines", number, len(contestants))
            probability = [answer(draw.spectra) for draw in drawn]
            figures[model_name] = {
                "by_counts": {
                    counts_key(counts): group_scores(held, answer, counts, self.plan.seed)
                    for counts in self.plan.counts
                },
                **calibration.calibration_error(calibration.AnswersByDecade(held, drawn, probability)),
            }
        return {"data": "simulated", "n": len(held), "by_contestant": figures}

    def structures(self, threshold: float) -> dict[str, Any]:
        """Score the model and the baselines on the mock-ups without fine-tuning."""
        mockups = self.mockups
        contestants = {"model": self.answer(mockups.groups), **self.rivals(mockups.groups, threshold)}
        figures = {model_name: without_finetuning(mockups, answer) for model_name, answer in contestants.items()}
        return {"data": "simulated", "n": len(mockups.mockups), "by_contestant": figures}

    def structures_finetuned(self) -> dict[str, Any]:
        """Score the groups on mock-ups that were left out of the fine-tuning."""
        reason = can_finetune(self.model.card)
        if reason:
            return {"left_out": reason}
        mockups = self.mockups
        out = self.folder / f"finetuned_{self.digest[:12]}"
        try:
            figures, folds = finetuned_scores(mockups, self.inputs.model, self.plan, out, self.step)
        except (CoverageError, TrainingError) as error:
            return {"left_out": str(error)}
        return {"data": "simulated", "folds": folds, **figures}

    def panels(self, threshold: float) -> dict[str, Any]:
        """Score the model and the baselines on the Monte Carlo panels, sample by sample."""
        if self.inputs.reference is None:
            return {"left_out": "no reference was given"}
        plan, panels = self.plan, monte_carlo.read_panels(self.inputs.reference)
        contestants = {"model": self.answer(self.groups), **self.rivals(self.groups, threshold)}
        figures = {
            model_name: {
                counts_key(counts): monte_carlo.panel_scores(
                    panels, answer, self.groups, counts, plan.panel_draws, plan.seed, lines=self.lines
                )
                for counts in plan.panel_counts
            }
            for model_name, answer in contestants.items()
        }
        return {"data": "Monte Carlo", "by_contestant": figures}

    def order_bound(self) -> dict[str, Any]:
        """Return the deviance of other orders from each pair's spectrum."""
        show = partial(self.step, "Fitting other orders")
        return order.rivals_of(self.plan.order_pigments, load_instrument(INSTRUMENT), show)

    def layer_order(self, rivals: dict[str, dict[str, float]]) -> dict[str, Any]:
        """Compare the orders of the network, and of fits of its pigments, with the bound."""
        plan, instrument = self.plan, load_instrument(INSTRUMENT)
        pairs = order.pairs_of(rivals, instrument)
        table = {}
        for counts in plan.order_counts:
            spectra = order.drawn(pairs, instrument, counts, plan.order_draws, plan.seed)
            claims = order.network_order(ask(self.model, spectra), pairs, plan.order_draws)
            fewer = order.drawn(pairs, instrument, counts, plan.refined_draws, plan.seed)
            show = partial(self.step, f"Fitting orders at {counts_key(counts)} counts")
            fitted = order.refined_order(ask(self.model, fewer), fewer, pairs, plan.refined_draws, instrument, show)
            table[counts_key(counts)] = {
                "bound": order.bound(pairs, counts),
                "network": order.order_figures(claims, pairs, counts),
                "refined": order.order_figures(fitted, pairs, counts),
            }
        layers = f"{order.TOP_UM:g} um over {order.BELOW_UM:g} um over {order.GROUND_UM:g} um {order.GROUND}"
        return {"data": "simulated", "instrument": INSTRUMENT, "layers": layers, "by_counts": table}

    def elements_left_out(self) -> dict[str, Any]:
        """Score the unlikeness with each element left out in turn."""
        plan, instrument = self.plan, load_instrument(INSTRUMENT)
        show = partial(self.step, "Simulating the open set")
        samples = open_set.draw_samples(plan.open_set_spectra, instrument, plan.seed, progress=show)
        table = {
            counts_key(counts): open_set.leave_each_out(samples, counts, instrument, plan.seed)
            for counts in plan.open_set_counts
        }
        return {"data": "simulated", "instrument": INSTRUMENT, "n": plan.open_set_spectra, "by_counts": table}

    def fitted(self, threshold: float) -> dict[str, Any]:
        """Fit the forward model to a small set, and score the other methods on the same spectra."""
        instrument = load_instrument(INSTRUMENT)
        data = baselines.fit_set(self.plan, palette_for(self.model.card), instrument, lines=self.lines)
        show = partial(self.step, "Fitting the forward model")
        presence, seconds = baselines.likelihood_fit(data, threshold, show)
        contestants = {"model": self.answer(data.groups), **self.rivals(data.groups, threshold)}
        answers = {model_name: answer(data.spectra) for model_name, answer in contestants.items()} | {
            "likelihood_fit": presence
        }
        figures = {
            model_name: summarise(each, data.labels, data.visible, data.groups) for model_name, each in answers.items()
        }
        about = {"n": len(data.spectra), "counts": self.plan.fitted_counts, "seconds_per_spectrum": seconds}
        return {"data": "simulated", "instrument": INSTRUMENT, **about, "by_contestant": figures}

    def aurora(self, model: str | OnnxModel) -> dict[str, Any]:
        """Compare the pigments of a measured scan with its lines, and one detector with the other."""
        if not self.inputs.scans:
            return {"left_out": "no scan was given"}
        try:
            scans = [measured_scan.identify_scan(source, model) for source in self.inputs.scans]
        except CoverageError as error:
            return {"left_out": str(error)}
        named = zip(self.inputs.scans, scans, strict=True)
        by_scan = {Path(source).name: measured_scan.compare_with_lines(scan) for source, scan in named}
        keys = [prefix + key for key in AURORA for prefix in ("", "baseline_")]
        figures: dict[str, Any] = {key: measured_scan.worst([part[key] for part in by_scan.values()]) for key in keys}
        named = zip(self.inputs.scans, scans, strict=True)
        figures["below_against_scatter"] = {
            Path(source).name: measured_scan.below_against_scatter(scan.results) for source, scan in named
        }
        figures["place_determined"] = measured_scan.worst(
            [measured_scan.place_determined(scan.results) for scan in scans]
        )
        if len(scans) > 1:
            first, second = (scan.results for scan in scans[:2])
            figures["place_contradictions"] = measured_scan.place_contradictions(first, second)
            figures["kappa"] = measured_scan.agreement(first, second)
            halves = [measured_scan.counting_agreement(scan, model, self.plan.seed) for scan in scans]
            figures["kappa_of_halves"] = measured_scan.worst(halves, max)
            figures["baseline_kappa"] = measured_scan.line_agreement(*scans[:2])
            figures["kappa_where_both_are_sure"] = measured_scan.agreement(first, second, sure=measured_scan.SURE)
        return {"data": "measured", **figures, "by_scan": by_scan}

    def speed(self) -> dict[str, Any]:
        """Measure spectra per second."""
        seconds = self.plan.speed_seconds
        rates = {
            "model": spectra_per_second(self.model, seconds),
            PAPER: spectra_per_second(self.paper, seconds, block=PAPER_BLOCK),
        }
        return {"spectra_per_second": rates, "threads": self.plan.threads}

    def instrument_model(self) -> dict[str, Any]:
        """Return the held-out figures in the card of a model for one instrument and palette."""
        card = self.instrument_card
        if card is None:
            return {"left_out": "no model was given"}
        figures = card.figures.get("own_model")
        return {"name": card.name, **figures} if figures else {"left_out": f"{card.name} was trained otherwise"}

    def run(self) -> dict[str, Any]:
        """Run every stage that is not finished yet; return the figures of all by name."""
        palette = list(palette_for(self.model.card))
        details = {
            "simulated": self.take("simulated", self.simulated),
            "calibration": self.take("calibration", self.calibrated),
            "unseen_instrument": self.take("unseen_instruments", self.unseen),
            "threshold": self.take(
                "element_threshold", self.threshold, of_model=False, palette=palette, lines=self.lines
            ),
        }
        sigmas = float(details["threshold"]["sigmas"])
        reference, scans = self._reference_facts(), list(self.inputs.scans)
        details |= {
            "baselines": self.take("baselines", partial(self.baseline_scores, sigmas), sigmas=sigmas),
            "structure_out": self.take("structures", partial(self.structures, sigmas), sigmas=sigmas),
            "structure_out_finetuned": self.take("structures_finetuned", self.structures_finetuned),
            "monte_carlo": self.take("monte_carlo", partial(self.panels, sigmas), sigmas=sigmas, reference=reference),
        }
        rivals = self.take("order_bound", self.order_bound, of_model=False)
        details |= {
            "order": self.take("layer_order", partial(self.layer_order, rivals), rivals=rivals),
            "open_set": self.take("open_set", self.elements_left_out, of_model=False),
            "likelihood_fit": self.take("likelihood_fit", partial(self.fitted, sigmas), sigmas=sigmas),
            "aurora": self.take("measured_scan", partial(self.aurora, self.model), scans=scans),
            "aurora_xu2022": self.take(
                "measured_scan_xu2022", partial(self.aurora, PAPER), of_model=False, scans=scans
            ),
            "speed": self.take("speed", self.speed),
            "own_model": self.instrument_model(),
        }
        return details

    def _reference_facts(self) -> list[str]:
        folder = self.inputs.reference
        return (
            []
            if folder is None
            else [sha256_of(folder / file_name) for file_name in monte_carlo.FILES if (folder / file_name).is_file()]
        )


def evaluate_trust(
    target: str | Path, inputs: Inputs, plan: TrustPlan | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Run the suite and write its record; the same call resumes an interrupted run.

    Parameters
    ----------
    target : path
        JSON file. Finished stages are kept beside it, in a folder of the same name that ends in ``.parts``.
    inputs : Inputs
    plan : TrustPlan, optional
    progress : callable, optional
        Called with (what is being done, done, in all).

    Returns
    -------
    dict
        ``group_macro_f1``, ``order_accuracy``, ``order_bound``, ``ece``, ``coverage``, ``openset_auroc``,
        ``auroc_aurora``, ``spearman_aurora``, ``kappa_aurora``, ``per_s``, ``train_minutes``; ``baselines`` with the
        same names; ``details``; ``about``. What was left out is None.

    Raises
    ------
    OutputError
        The file holds the record of a whole run, which a smaller one would replace.
    """
    path, plan = Path(target), plan or TrustPlan()
    complete = not plan.quick and not inputs.missing
    _refuse_to_shrink(path, complete=complete)
    suite = Suite(path.with_suffix(".parts"), inputs, plan, progress or no_progress)
    details = suite.run()
    figures = headline_figures(details)
    record = plain(figures | {"details": details, "about": _about(suite, complete=complete)})
    write_json(path, record)
    return dict(record)


def _refuse_to_shrink(path: Path, *, complete: bool) -> None:
    if complete or not path.is_file():
        return
    try:
        is_complete = json.loads(path.read_text("utf-8")).get("about", {}).get("complete", False)
    except (ValueError, AttributeError):
        return
    if is_complete:
        raise OutputError(
            f"Cannot write {path}: it holds the record of a whole run, and this one is quick or leaves out the Monte "
            "Carlo panels (--reference) or the scan's two detectors (--scan, twice). Choose another --json."
        )


def _about(suite: Suite, *, complete: bool) -> dict[str, Any]:
    """Return the provenance of the figures."""
    card = suite.model.card
    packages = ("underpaint", "numpy", "scipy", "xraylib", "onnxruntime")
    return {
        "suite": "trust",
        "complete": complete,
        "quick": suite.plan.quick,
        "left_out": suite.inputs.missing,
        "model": {"name": card.name, "version": card.version, "kind": card.kind, "sha256": suite.digest},
        "plan": suite.plan.model_dump(mode="json", exclude={"workers", "threads"}),
        "palette": palette_for(card),
        "present": "lines" if suite.lines else "pigment",
        "versions": {package: version(package) for package in packages},
        "seconds": suite.stages.seconds(),
        "notes": [
            "Simulated means by this package's forward model: held-out seeds, structures and instruments.",
            "Scores count labels that show at the counts at hand; a composite pigment counts as its groups.",
            "Monte Carlo panels are by another code (XMI-MSIM); aurora is measured and has no labels.",
            *(["Quick sizes: the figures only show that the path works."] if suite.plan.quick else []),
        ],
    }


def headline_figures(details: dict[str, Any]) -> dict[str, Any]:
    """Return the headline figures."""
    calibrated, aurora, opened = details["calibration"], details["aurora"], details["open_set"]["by_counts"]
    by_counts = details["order"]["by_counts"]
    return {
        "group_macro_f1": _group_macro_f1(details),
        "order_accuracy": {counts: row["refined"]["accuracy"] for counts, row in by_counts.items()},
        "order_accuracy_network": {counts: row["network"]["accuracy"] for counts, row in by_counts.items()},
        "order_bound": {counts: row["bound"]["accuracy"] for counts, row in by_counts.items()},
        "ece": calibrated["ece"],
        "coverage": calibrated["coverage"],
        "openset_auroc": opened[max(opened, key=float)]["auroc"],
        "auroc_aurora": aurora.get("auroc"),
        "spearman_aurora": aurora.get("spearman"),
        "kappa_aurora": _minimum(aurora.get("kappa")),
        "kappa_aurora_bound": aurora.get("kappa_of_halves"),
        "per_s": details["speed"]["spectra_per_second"]["model"],
        "train_minutes": _train_minutes(details),
        "baselines": _baselines(details),
    }


def _group_macro_f1(details: dict[str, Any]) -> dict[str, Any]:
    finetuned = details["structure_out_finetuned"]
    return {
        "simulated": macro_by_counts(details["simulated"]["by_counts"]),
        "unseen_instrument": details["unseen_instrument"]["mean"],
        "monte_carlo": _panel_macros(details["monte_carlo"], "model"),
        "structure_out": details["structure_out"]["by_contestant"]["model"]["macro_f1"],
        "structure_out_finetuned": finetuned.get("macro_f1"),
    }


def _baselines(details: dict[str, Any]) -> dict[str, Any]:
    """Return the baselines' figures under the same names."""
    table: dict[str, Any] = {}
    for model_name, scores in details["baselines"]["by_contestant"].items():
        if model_name == "model":
            continue
        table[model_name] = {
            "group_macro_f1": {
                "simulated": macro_by_counts(scores["by_counts"]),
                "monte_carlo": _panel_macros(details["monte_carlo"], model_name),
                "structure_out": details["structure_out"]["by_contestant"][model_name]["macro_f1"],
                "fitted": details["likelihood_fit"]["by_contestant"][model_name]["macro_f1"],
            },
            "ece": scores["ece"],
        }
    aurora, paper = details["aurora"], details["aurora_xu2022"]
    table[PAPER] |= {
        "auroc_aurora": paper.get("auroc"),
        "spearman_aurora": paper.get("spearman"),
        "kappa_aurora": _minimum(paper.get("kappa")),
        "per_s": details["speed"]["spectra_per_second"][PAPER],
    }
    fitted = details["likelihood_fit"]
    table["likelihood_fit"] = {
        "group_macro_f1": {"fitted": fitted["by_contestant"]["likelihood_fit"]["macro_f1"]},
        "per_s": 1.0 / fitted["seconds_per_spectrum"],
    }
    table["line_area"] = {
        **{f"{key}_aurora": aurora.get(f"baseline_{key}") for key in AURORA},
        "kappa_aurora": _minimum(aurora.get("baseline_kappa")),
    }
    return table


def _panel_macros(panels: dict[str, Any], model_name: str) -> dict[str, float] | None:
    return macro_by_counts(panels["by_contestant"][model_name]) if "by_contestant" in panels else None


def macro_by_counts(by_counts: dict[str, Any]) -> dict[str, float]:
    """Return the macro F1 at each number of counts."""
    return {counts: figures["macro_f1"] for counts, figures in by_counts.items()}


def _minimum(values: dict[str, float | None] | None) -> float | None:
    """Return the least of the figures that are defined."""
    return min((value for value in (values or {}).values() if value is not None), default=None)


def _train_minutes(details: dict[str, Any]) -> float | None:
    """Return how long the model for one instrument and palette took."""
    minutes = details["own_model"].get("minutes")
    return float(sum(minutes.values())) if minutes else None
