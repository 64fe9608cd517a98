"""The evaluation suite and its stages."""

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
from underpaint.lab.evaluation.answering import Spectra, run_model
from underpaint.lab.evaluation.groups import mean, summarise
from underpaint.lab.evaluation.plan import TrustPlan
from underpaint.lab.evaluation.scores import counts_key
from underpaint.lab.evaluation.simulated import (
    Answer,
    HeldOut,
    LabelledMockups,
    finetuned_scores,
    finetuning_obstacle,
    group_scores,
    held_out_set,
    palette_for,
    scores_without_finetuning,
    simulate_mockups,
    tuning_set,
    unseen_instruments,
    unseen_set,
)
from underpaint.physics.instrument import load_instrument
from underpaint.pigments.predict import OnnxModel, open_model
from underpaint.pigments.weights import load_card, model_path
from underpaint.runtime.files import claim_folder, json_types, sha256_of, write_json
from underpaint.runtime.progress import Progress, no_progress


class Stages:
    """A folder of finished stages.

    Parameters
    ----------
    folder : Path
        Folder of the records; it is created if it is missing.
    facts : dict
        Settings, model and versions that all scores depend on. A stage stored with other facts is run again.
    """

    def __init__(self, folder: Path, facts: dict[str, Any]) -> None:
        self.folder, self._facts = folder, facts
        claim_folder(folder)

    def result_of(self, name: str, compute: Callable[[], dict[str, Any]], facts: dict[str, Any] | None = None) -> Any:
        """Return the stored scores of a stage, or compute and store them.

        Parameters
        ----------
        name : str
            Name of the stage and of its file.
        compute : callable
            Function that returns the scores as plain values.
        facts : dict, optional
            Further facts that this stage depends on.
        """
        stage_facts = json_types({**self._facts, **(facts or {})})
        path = self.folder / f"{name}.json"
        stored_record = self._read(path)
        if stored_record.get("facts") == stage_facts:
            return stored_record["figures"]
        start_time = time.perf_counter()
        scores = json_types(compute())
        record = {"facts": stage_facts, "seconds": round(time.perf_counter() - start_time, 1), "figures": scores}
        write_json(path, record)
        return scores

    def seconds(self) -> dict[str, float]:
        """Return the run time of each stage, in s."""
        records = {path.stem: self._read(path) for path in sorted(self.folder.glob("*.json"))}
        return {name: record["seconds"] for name, record in records.items() if "seconds" in record}

    @staticmethod
    def _read(path: Path) -> dict[str, Any]:
        if not path.is_file():
            return {}
        try:
            record = json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            # this class writes whole files, so a damaged file is not its own: the stage is run again
            return {}
        return record if isinstance(record, dict) else {}


def spectra_per_second(model: OnnxModel, seconds: float, *, block: int = 2048) -> float:
    """Measure the spectra per second of a model, over the given time, on blocks of spectra in memory."""
    axis = model.card.axis
    counts = np.random.default_rng(0).poisson(20.0, (block, axis.n_bin)).astype(np.float32)
    recorded = np.tile(np.array([[axis.start_kev, axis.stop_kev]], dtype=np.float32), (block, 1))
    model(counts, recorded)
    start_time, n_spectra = time.perf_counter(), 0
    while time.perf_counter() - start_time < seconds:
        model(counts, recorded)
        n_spectra += block
    return n_spectra / (time.perf_counter() - start_time)


SUITE_INSTRUMENT = "elio"
"""Instrument in the stages for layer order, the open set and the likelihood fit."""
UNSEEN_COUNTS = (1e4, 1e5)
PAPER_MODEL = "xu2022"
"""Name of the shipped reproduction of the paper's network."""
AURORA_SCORES = ("auroc", "spearman")
PAPER_BLOCK_SIZE = 128
"""Spectra per block for the paper's network; larger blocks would exceed the measuring time."""


@dataclass(frozen=True)
class Inputs:
    """Inputs of the suite.

    Parameters
    ----------
    model : str or Path
        Name of a shipped model, or path of an ``.onnx`` file.
    reference : Path or None
        Folder of the Monte Carlo panels; None to leave them out.
    scans : tuple of str
        Files of a measured scan, one for each detector; empty to leave the scan out.
    instrument_model : Path or None
        Model for one instrument and palette (``underpaint train --instrument``). Its model card contains the
        scores from its training.
    """

    model: str | Path = "default"
    reference: Path | None = None
    scans: tuple[str, ...] = ()
    instrument_model: Path | None = None

    @property
    def missing(self) -> list[str]:
        """Names of the inputs that a complete run needs and that are missing."""
        is_missing = {"monte_carlo": self.reference is None, "aurora": len(self.scans) < 2}
        return [name for name, missing in is_missing.items() if missing]


class Suite:
    """The stages of one run.

    Parameters
    ----------
    folder : Path
        Folder of the finished stages.
    inputs : Inputs
    plan : TrustPlan
    progress : callable
        Called with (description, number done, total number).
    """

    def __init__(self, folder: Path, inputs: Inputs, plan: TrustPlan, progress: Progress) -> None:
        self.inputs, self.plan, self.progress = inputs, plan, progress
        self.model = open_model(inputs.model, threads=plan.threads)
        self.digest = sha256_of(model_path(inputs.model))
        self.instrument_card = None if inputs.instrument_model is None else load_card(inputs.instrument_model)
        facts = {"plan": plan.model_dump(mode="json", exclude={"workers", "threads"}), "version": __version__}
        self.stages = Stages(folder, facts)
        self.folder = self.stages.folder

    def run_stage(
        self, stage: str, compute: Callable[[], dict[str, Any]], *, uses_model: bool = True, **facts: Any
    ) -> Any:
        """Return the scores of a stage; they depend on the model unless ``uses_model`` is False."""
        self.progress(stage.replace("_", " ").capitalize(), 0, 1)
        return self.stages.result_of(stage, compute, facts | ({"model": self.digest} if uses_model else {}))

    @cached_property
    def held_out(self) -> HeldOut:
        """The held-out set."""
        return held_out_set(self.plan, self.model.card, self.folder, self.progress)

    @cached_property
    def mockups(self) -> LabelledMockups:
        """The virtual mock-ups."""
        return simulate_mockups(self.plan, lines=self.predicts_lines)

    @cached_property
    def paper_model(self) -> OnnxModel:
        """The paper's network."""
        return open_model(PAPER_MODEL, threads=self.plan.threads)

    @property
    def predicts_lines(self) -> bool:
        """Whether the model predicts which lines are visible, instead of which pigments are present."""
        return bool(self.model.card.amounts)

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups that the model predicts, directly or through their members."""
        group_names = {split_place(group)[0] for member_groups in self.model.card.groups for group in member_groups}
        return tuple(sorted(group_names))

    def answer(self, groups: Sequence[str], model: OnnxModel | None = None) -> Answer:
        """Return a function that computes the group probabilities with a model, by default the model of the suite."""
        return lambda spectra: run_model(model or self.model, spectra).probability_by_group(groups)

    def without_conditions(self, groups: Sequence[str]) -> Answer:
        """Return a function that computes the group probabilities with the model, without instrument conditions."""
        return lambda spectra: run_model(self.model, spectra.without_conditions()).probability_by_group(groups)

    def baseline_answers(self, groups: Sequence[str], threshold: float) -> dict[str, Answer]:
        """Return the baselines that are defined for any spectra."""

        def line_claims(spectra: Spectra) -> NDArray[np.float32]:
            return np.asarray(baselines.line_sigmas(spectra, groups) > threshold, dtype=np.float32)

        return {
            "always_yes": lambda spectra: baselines.always_yes(spectra, groups),
            PAPER_MODEL: self.answer(groups, self.paper_model),
            "element_thresholds": line_claims,
        }

    # the stages

    def simulated_scores(self) -> dict[str, Any]:
        """Score the groups on the held-out set, with and without instrument conditions."""
        held_out, plan = self.held_out, self.plan
        scores_by_counts = {
            counts_key(counts): group_scores(held_out, self.answer(held_out.groups), counts, plan.seed)
            for counts in plan.counts
        }
        scores_without_conditions = {
            counts_key(counts): group_scores(held_out, self.without_conditions(held_out.groups), counts, plan.seed)
            for counts in UNSEEN_COUNTS
        }
        return {
            "data": "simulated",
            "n": len(held_out),
            "by_counts": scores_by_counts,
            "untold": macro_f1_by_counts(scores_without_conditions),
        }

    def calibration_scores(self) -> dict[str, Any]:
        """Return calibration errors, and the coverage of prediction sets and of intervals in each decade of counts."""
        held_out = self.held_out
        sets_by_decade = calibration.draw_by_decade(held_out, self.plan.seed)
        model_answers = [run_model(self.model, decade_spectra.spectra) for decade_spectra in sets_by_decade]
        answers = calibration.AnswersByDecade(
            held_out,
            sets_by_decade,
            [decade_answers.probability_by_group(held_out.groups) for decade_answers in model_answers],
        )
        prediction_sets = self.model.card.sets
        coverage_calibrated_here = calibration.conformal_coverage(answers)
        return {
            "data": "simulated",
            **calibration.calibration_error(answers),
            "coverage": coverage_calibrated_here
            if prediction_sets is None
            else calibration.stated_coverage(answers, model_answers, prediction_sets),
            "sets_of": "half of the held-out instruments" if prediction_sets is None else "the model's card",
            "coverage_calibrated_here": coverage_calibrated_here,
            "intervals": {"thickness_um": calibration.thickness_intervals(held_out, model_answers)},
        }

    def unseen_instrument_scores(self) -> dict[str, Any]:
        """Score the groups on instruments outside the ranges of training, with and without instrument conditions."""
        scores_by_instrument: dict[str, Any] = {}
        for number, instrument_key in enumerate(unseen_instruments()):
            self.progress("Unseen instruments", number, len(unseen_instruments()))
            held_out = unseen_set(self.plan, self.model.card, self.folder, instrument_key, self.progress)
            answers_by_key = {"told": self.answer(held_out.groups), "untold": self.without_conditions(held_out.groups)}
            scores_by_instrument[instrument_key] = {
                key: macro_f1_by_counts(
                    {
                        counts_key(counts): group_scores(held_out, answer, counts, self.plan.seed)
                        for counts in UNSEEN_COUNTS
                    }
                )
                for key, answer in answers_by_key.items()
            }
        mean_scores = {
            key: {
                counts_key(counts): mean([row[key][counts_key(counts)] for row in scores_by_instrument.values()])
                for counts in UNSEEN_COUNTS
            }
            for key in ("told", "untold")
        }
        instrument_names = {key: instrument_key.name for key, instrument_key in unseen_instruments().items()}
        return {
            "data": "simulated",
            "instruments": instrument_names,
            "by_instrument": scores_by_instrument,
            "mean": mean_scores,
        }

    def choose_threshold(self) -> dict[str, Any]:
        """Choose the element thresholds on a separate set of spectra."""
        held_out = tuning_set(self.plan, self.model.card, self.folder, self.progress)
        return {"sigmas": baselines.choose_threshold(held_out, UNSEEN_COUNTS, self.plan.seed), "n": len(held_out)}

    def baseline_scores(self, threshold: float) -> dict[str, Any]:
        """Score the baselines and the model on a part of the held-out set."""
        held_out = self.held_out.select(slice(0, min(self.plan.baseline_spectra, len(self.held_out))))
        scores_by_contestant: dict[str, Any] = {}
        contestants = {"model": self.answer(held_out.groups), **self.baseline_answers(held_out.groups, threshold)}
        sets_by_decade = calibration.draw_by_decade(held_out, self.plan.seed)
        for number, (model_name, answer) in enumerate(contestants.items()):
            self.progress("Baselines", number, len(contestants))
            probability = [answer(decade_spectra.spectra) for decade_spectra in sets_by_decade]
            scores_by_contestant[model_name] = {
                "by_counts": {
                    counts_key(counts): group_scores(held_out, answer, counts, self.plan.seed)
                    for counts in self.plan.counts
                },
                **calibration.calibration_error(calibration.AnswersByDecade(held_out, sets_by_decade, probability)),
            }
        return {"data": "simulated", "n": len(held_out), "by_contestant": scores_by_contestant}

    def structure_scores(self, threshold: float) -> dict[str, Any]:
        """Score the model and the baselines on the mock-ups without fine-tuning."""
        mockups = self.mockups
        contestants = {"model": self.answer(mockups.groups), **self.baseline_answers(mockups.groups, threshold)}
        scores_by_contestant = {
            model_name: scores_without_finetuning(mockups, answer) for model_name, answer in contestants.items()
        }
        return {"data": "simulated", "n": len(mockups.mockups), "by_contestant": scores_by_contestant}

    def finetuned_structure_scores(self) -> dict[str, Any]:
        """Score the groups on mock-ups that were left out of fine-tuning."""
        obstacle = finetuning_obstacle(self.model.card)
        if obstacle:
            return {"left_out": obstacle}
        mockups = self.mockups
        folder = self.folder / f"finetuned_{self.digest[:12]}"
        try:
            scores, n_fold = finetuned_scores(mockups, self.inputs.model, self.plan, folder, self.progress)
        except (CoverageError, TrainingError) as error:
            return {"left_out": str(error)}
        return {"data": "simulated", "folds": n_fold, **scores}

    def panel_scores(self, threshold: float) -> dict[str, Any]:
        """Score the model and the baselines on the Monte Carlo panels."""
        if self.inputs.reference is None:
            return {"left_out": "no reference was given"}
        plan, panels = self.plan, monte_carlo.read_panels(self.inputs.reference)
        contestants = {"model": self.answer(self.groups), **self.baseline_answers(self.groups, threshold)}
        scores_by_contestant = {
            model_name: {
                counts_key(counts): monte_carlo.panel_scores(
                    panels, answer, self.groups, counts, plan.panel_draws, plan.seed, lines=self.predicts_lines
                )
                for counts in plan.panel_counts
            }
            for model_name, answer in contestants.items()
        }
        return {"data": "Monte Carlo", "by_contestant": scores_by_contestant}

    def order_bound(self) -> dict[str, Any]:
        """Return the deviances of wrong layer orders for the spectrum of each pair of pigments."""
        show_progress = partial(self.progress, "Fitting other orders")
        return order.rival_deviances(self.plan.order_pigments, load_instrument(SUITE_INSTRUMENT), show_progress)

    def layer_order(self, rival_deviances: dict[str, dict[str, float]]) -> dict[str, Any]:
        """Score the layer orders from the network, and from fits with its pigments, and compute the upper bound."""
        plan, instrument = self.plan, load_instrument(SUITE_INSTRUMENT)
        pairs = order.pairs_of(rival_deviances, instrument)
        scores_by_counts = {}
        for counts in plan.order_counts:
            spectra = order.draw_pair_spectra(pairs, instrument, counts, plan.order_draws, plan.seed)
            claims = order.network_order(run_model(self.model, spectra), pairs, plan.order_draws)
            refined_spectra = order.draw_pair_spectra(pairs, instrument, counts, plan.refined_draws, plan.seed)
            show_progress = partial(self.progress, f"Fitting orders at {counts_key(counts)} counts")
            refined_claims = order.refined_order(
                run_model(self.model, refined_spectra),
                refined_spectra,
                pairs,
                plan.refined_draws,
                instrument,
                show_progress,
            )
            scores_by_counts[counts_key(counts)] = {
                "bound": order.order_bound(pairs, counts),
                "network": order.order_scores(claims, pairs, counts),
                "refined": order.order_scores(refined_claims, pairs, counts),
            }
        layers = f"{order.TOP_UM:g} um over {order.BELOW_UM:g} um over {order.GROUND_UM:g} um {order.GROUND}"
        return {"data": "simulated", "instrument": SUITE_INSTRUMENT, "layers": layers, "by_counts": scores_by_counts}

    def open_set_scores(self) -> dict[str, Any]:
        """Evaluate the unlikeness score with each element left out in turn."""
        plan, instrument = self.plan, load_instrument(SUITE_INSTRUMENT)
        show_progress = partial(self.progress, "Simulating the open set")
        samples = open_set.draw_samples(plan.open_set_spectra, instrument, plan.seed, progress=show_progress)
        scores_by_counts = {
            counts_key(counts): open_set.leave_each_out(samples, counts, instrument, plan.seed)
            for counts in plan.open_set_counts
        }
        return {
            "data": "simulated",
            "instrument": SUITE_INSTRUMENT,
            "n": plan.open_set_spectra,
            "by_counts": scores_by_counts,
        }

    def likelihood_fit(self, threshold: float) -> dict[str, Any]:
        """Fit the forward model to a small test set, and score the other methods on the same spectra."""
        instrument = load_instrument(SUITE_INSTRUMENT)
        data = baselines.fit_set(self.plan, palette_for(self.model.card), instrument, lines=self.predicts_lines)
        show_progress = partial(self.progress, "Fitting the forward model")
        fitted_presence, seconds_per_spectrum = baselines.likelihood_fit(data, threshold, show_progress)
        contestants = {"model": self.answer(data.groups), **self.baseline_answers(data.groups, threshold)}
        answers = {model_name: answer(data.spectra) for model_name, answer in contestants.items()} | {
            "likelihood_fit": fitted_presence
        }
        scores_by_contestant = {
            model_name: summarise(probability, data.labels, data.is_visible, data.groups)
            for model_name, probability in answers.items()
        }
        settings = {
            "n": len(data.spectra),
            "counts": self.plan.fitted_counts,
            "seconds_per_spectrum": seconds_per_spectrum,
        }
        return {"data": "simulated", "instrument": SUITE_INSTRUMENT, **settings, "by_contestant": scores_by_contestant}

    def scan_scores(self, model: str | OnnxModel) -> dict[str, Any]:
        """Compare the pigments of a measured scan with its line areas, and the scans of its two detectors."""
        if not self.inputs.scans:
            return {"left_out": "no scan was given"}
        try:
            identified_scans = [measured_scan.identify_scan(source, model) for source in self.inputs.scans]
        except CoverageError as error:
            return {"left_out": str(error)}
        sources_and_scans = zip(self.inputs.scans, identified_scans, strict=True)
        scores_by_scan = {
            Path(source).name: measured_scan.compare_with_lines(identified) for source, identified in sources_and_scans
        }
        keys = [prefix + key for key in AURORA_SCORES for prefix in ("", "baseline_")]
        scores: dict[str, Any] = {
            key: measured_scan.worst_scores([scan_scores[key] for scan_scores in scores_by_scan.values()])
            for key in keys
        }
        sources_and_scans = zip(self.inputs.scans, identified_scans, strict=True)
        scores["below_against_scatter"] = {
            Path(source).name: measured_scan.below_scatter_correlation(identified.results)
            for source, identified in sources_and_scans
        }
        scores["place_determined"] = measured_scan.worst_scores(
            [measured_scan.determined_places(identified.results) for identified in identified_scans]
        )
        if len(identified_scans) > 1:
            first_results, second_results = (identified.results for identified in identified_scans[:2])
            scores["place_contradictions"] = measured_scan.contradicting_places(first_results, second_results)
            scores["kappa"] = measured_scan.agreement(first_results, second_results)
            kappa_of_halves = [
                measured_scan.counting_agreement(identified, model, self.plan.seed) for identified in identified_scans
            ]
            scores["kappa_of_halves"] = measured_scan.worst_scores(kappa_of_halves, max)
            scores["baseline_kappa"] = measured_scan.line_agreement(*identified_scans[:2])
            scores["kappa_where_both_are_sure"] = measured_scan.agreement(
                first_results, second_results, confident_probability=measured_scan.CONFIDENT_PROBABILITY
            )
        return {"data": "measured", **scores, "by_scan": scores_by_scan}

    def speed(self) -> dict[str, Any]:
        """Measure the spectra per second of the model and of the paper's network."""
        seconds = self.plan.speed_seconds
        rate_by_model = {
            "model": spectra_per_second(self.model, seconds),
            PAPER_MODEL: spectra_per_second(self.paper_model, seconds, block=PAPER_BLOCK_SIZE),
        }
        return {"spectra_per_second": rate_by_model, "threads": self.plan.threads}

    def instrument_model(self) -> dict[str, Any]:
        """Return the held-out scores in the model card of a model for one instrument and palette."""
        model_card = self.instrument_card
        if model_card is None:
            return {"left_out": "no model was given"}
        scores = model_card.figures.get("own_model")
        return (
            {"name": model_card.name, **scores} if scores else {"left_out": f"{model_card.name} was trained otherwise"}
        )

    def run(self) -> dict[str, Any]:
        """Run every stage that is not finished yet, and return the scores of all stages by name."""
        palette = list(palette_for(self.model.card))
        details = {
            "simulated": self.run_stage("simulated", self.simulated_scores),
            "calibration": self.run_stage("calibration", self.calibration_scores),
            "unseen_instrument": self.run_stage("unseen_instruments", self.unseen_instrument_scores),
            "threshold": self.run_stage(
                "element_threshold", self.choose_threshold, uses_model=False, palette=palette, lines=self.predicts_lines
            ),
        }
        sigmas = float(details["threshold"]["sigmas"])
        reference, scans = self._reference_facts(), list(self.inputs.scans)
        details |= {
            "baselines": self.run_stage("baselines", partial(self.baseline_scores, sigmas), sigmas=sigmas),
            "structure_out": self.run_stage("structures", partial(self.structure_scores, sigmas), sigmas=sigmas),
            "structure_out_finetuned": self.run_stage("structures_finetuned", self.finetuned_structure_scores),
            "monte_carlo": self.run_stage(
                "monte_carlo", partial(self.panel_scores, sigmas), sigmas=sigmas, reference=reference
            ),
        }
        rival_deviances = self.run_stage("order_bound", self.order_bound, uses_model=False)
        details |= {
            "order": self.run_stage("layer_order", partial(self.layer_order, rival_deviances), rivals=rival_deviances),
            "open_set": self.run_stage("open_set", self.open_set_scores, uses_model=False),
            "likelihood_fit": self.run_stage("likelihood_fit", partial(self.likelihood_fit, sigmas), sigmas=sigmas),
            "aurora": self.run_stage("measured_scan", partial(self.scan_scores, self.model), scans=scans),
            "aurora_xu2022": self.run_stage(
                "measured_scan_xu2022", partial(self.scan_scores, PAPER_MODEL), uses_model=False, scans=scans
            ),
            "speed": self.run_stage("speed", self.speed),
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
    """Run the suite and write the record of its scores; the same call resumes an interrupted run.

    Parameters
    ----------
    target : path
        JSON file to write. A folder beside it, with the same name and the ending ``.parts``, keeps finished stages.
    inputs : Inputs
    plan : TrustPlan, optional
    progress : callable, optional
        Called with (description, number done, total number).

    Returns
    -------
    dict
        ``group_macro_f1``, ``order_accuracy``, ``order_bound``, ``ece``, ``coverage``, ``openset_auroc``,
        ``auroc_aurora``, ``spearman_aurora``, ``kappa_aurora``, ``per_s``, ``train_minutes``; ``baselines`` with the
        same names; ``details``; ``about``. Scores that were left out are None.

    Raises
    ------
    OutputError
        The file contains the record of a complete run, and this run would be incomplete.
    """
    path, plan = Path(target), plan or TrustPlan()
    is_complete = not plan.quick and not inputs.missing
    _refuse_smaller_run(path, run_is_complete=is_complete)
    suite = Suite(path.with_suffix(".parts"), inputs, plan, progress or no_progress)
    details = suite.run()
    scores = headline_scores(details)
    record = json_types(scores | {"details": details, "about": _provenance(suite, is_complete=is_complete)})
    write_json(path, record)
    return dict(record)


def _refuse_smaller_run(path: Path, *, run_is_complete: bool) -> None:
    if run_is_complete or not path.is_file():
        return
    try:
        is_complete = json.loads(path.read_text("utf-8")).get("about", {}).get("complete", False)
    except (ValueError, AttributeError):
        return
    if is_complete:
        raise OutputError(
            f"Cannot write {path}: it contains the record of a complete run, and this run is quick or leaves out the "
            "Monte Carlo panels (--reference) or the scan's two detectors (--scan, twice). Choose another --json."
        )


def _provenance(suite: Suite, *, is_complete: bool) -> dict[str, Any]:
    """Return the provenance of the scores."""
    model_card = suite.model.card
    packages = ("underpaint", "numpy", "scipy", "xraylib", "onnxruntime")
    return {
        "suite": "trust",
        "complete": is_complete,
        "quick": suite.plan.quick,
        "left_out": suite.inputs.missing,
        "model": {
            "name": model_card.name,
            "version": model_card.version,
            "kind": model_card.kind,
            "sha256": suite.digest,
        },
        "plan": suite.plan.model_dump(mode="json", exclude={"workers", "threads"}),
        "palette": palette_for(model_card),
        "present": "lines" if suite.predicts_lines else "pigment",
        "versions": {package: version(package) for package in packages},
        "seconds": suite.stages.seconds(),
        "notes": [
            "Simulated spectra are from this package's forward model, with held-out seeds, structures and instruments.",
            "Only labels that are visible at the given counts are scored; a composite pigment counts as its groups.",
            "Monte Carlo panels are from another code (XMI-MSIM); aurora is a measured scan without labels.",
            *(
                ["The sizes of a quick run only show that the suite works; its scores have no significance."]
                if suite.plan.quick
                else []
            ),
        ],
    }


def headline_scores(details: dict[str, Any]) -> dict[str, Any]:
    """Return the headline scores."""
    calibration_scores, aurora, open_set = details["calibration"], details["aurora"], details["open_set"]["by_counts"]
    order_by_counts = details["order"]["by_counts"]
    return {
        "group_macro_f1": _group_macro_f1(details),
        "order_accuracy": {counts: row["refined"]["accuracy"] for counts, row in order_by_counts.items()},
        "order_accuracy_network": {counts: row["network"]["accuracy"] for counts, row in order_by_counts.items()},
        "order_bound": {counts: row["bound"]["accuracy"] for counts, row in order_by_counts.items()},
        "ece": calibration_scores["ece"],
        "coverage": calibration_scores["coverage"],
        "openset_auroc": open_set[max(open_set, key=float)]["auroc"],
        "auroc_aurora": aurora.get("auroc"),
        "spearman_aurora": aurora.get("spearman"),
        "kappa_aurora": _min_score(aurora.get("kappa")),
        "kappa_aurora_bound": aurora.get("kappa_of_halves"),
        "per_s": details["speed"]["spectra_per_second"]["model"],
        "train_minutes": _train_minutes(details),
        "baselines": _baselines(details),
    }


def _group_macro_f1(details: dict[str, Any]) -> dict[str, Any]:
    finetuned_scores = details["structure_out_finetuned"]
    return {
        "simulated": macro_f1_by_counts(details["simulated"]["by_counts"]),
        "unseen_instrument": details["unseen_instrument"]["mean"],
        "monte_carlo": _panel_macro_f1(details["monte_carlo"], "model"),
        "structure_out": details["structure_out"]["by_contestant"]["model"]["macro_f1"],
        "structure_out_finetuned": finetuned_scores.get("macro_f1"),
    }


def _baselines(details: dict[str, Any]) -> dict[str, Any]:
    """Return the headline scores of the baselines, under the same names."""
    scores_by_baseline: dict[str, Any] = {}
    for model_name, scores in details["baselines"]["by_contestant"].items():
        if model_name == "model":
            continue
        scores_by_baseline[model_name] = {
            "group_macro_f1": {
                "simulated": macro_f1_by_counts(scores["by_counts"]),
                "monte_carlo": _panel_macro_f1(details["monte_carlo"], model_name),
                "structure_out": details["structure_out"]["by_contestant"][model_name]["macro_f1"],
                "fitted": details["likelihood_fit"]["by_contestant"][model_name]["macro_f1"],
            },
            "ece": scores["ece"],
        }
    aurora, paper_scores = details["aurora"], details["aurora_xu2022"]
    scores_by_baseline[PAPER_MODEL] |= {
        "auroc_aurora": paper_scores.get("auroc"),
        "spearman_aurora": paper_scores.get("spearman"),
        "kappa_aurora": _min_score(paper_scores.get("kappa")),
        "per_s": details["speed"]["spectra_per_second"][PAPER_MODEL],
    }
    likelihood_fit = details["likelihood_fit"]
    scores_by_baseline["likelihood_fit"] = {
        "group_macro_f1": {"fitted": likelihood_fit["by_contestant"]["likelihood_fit"]["macro_f1"]},
        "per_s": 1.0 / likelihood_fit["seconds_per_spectrum"],
    }
    scores_by_baseline["line_area"] = {
        **{f"{key}_aurora": aurora.get(f"baseline_{key}") for key in AURORA_SCORES},
        "kappa_aurora": _min_score(aurora.get("baseline_kappa")),
    }
    return scores_by_baseline


def _panel_macro_f1(panels: dict[str, Any], model_name: str) -> dict[str, float] | None:
    return macro_f1_by_counts(panels["by_contestant"][model_name]) if "by_contestant" in panels else None


def macro_f1_by_counts(scores_by_counts: dict[str, Any]) -> dict[str, float]:
    """Return the macro F1 for each number of total counts."""
    return {counts: scores["macro_f1"] for counts, scores in scores_by_counts.items()}


def _min_score(values: dict[str, float | None] | None) -> float | None:
    """Return the lowest score that is defined; None if there is none."""
    return min((value for value in (values or {}).values() if value is not None), default=None)


def _train_minutes(details: dict[str, Any]) -> float | None:
    """Return the training time of the model for one instrument and palette, in minutes."""
    minutes = details["own_model"].get("minutes")
    return float(sum(minutes.values())) if minutes else None
