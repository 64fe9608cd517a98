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
from underpaint.lab.evaluation import baselines, calibration, measured_scan, monte_carlo, order, simulated
from underpaint.lab.evaluation.answering import Spectra, run_model
from underpaint.lab.evaluation.groups import mean, summarise_scores
from underpaint.lab.evaluation.plan import TrustPlan
from underpaint.lab.evaluation.scores import counts_key
from underpaint.lab.evaluation.simulated import (
    AnswerFunction,
    HeldOutSet,
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
    """Folder with the records of finished stages.

    Parameters
    ----------
    folder : Path
        Folder of the records, which is created if it is missing.
    dependencies : dict
        Settings, model and versions that all scores depend on. A stage stored with other dependencies is run again.
    """

    def __init__(self, folder: Path, dependencies: dict[str, Any]) -> None:
        self.folder, self._dependencies = folder, dependencies
        claim_folder(folder)

    def result_of(
        self, name: str, compute_scores: Callable[[], dict[str, Any]], dependencies: dict[str, Any] | None = None
    ) -> Any:
        """Return the stored scores of a stage, or compute and store them.

        Parameters
        ----------
        name : str
            Name of the stage and of its file.
        compute_scores : callable
            Function that returns the scores as plain values.
        dependencies : dict, optional
            Further dependencies of this stage.
        """
        stage_dependencies = json_types({**self._dependencies, **(dependencies or {})})
        record_path = self.folder / f"{name}.json"
        stored_record = self._read_record(record_path)
        if stored_record.get("facts") == stage_dependencies:
            return stored_record["figures"]
        start_time = time.perf_counter()
        scores = json_types(compute_scores())
        record = {"facts": stage_dependencies, "seconds": round(time.perf_counter() - start_time, 1), "figures": scores}
        write_json(record_path, record)
        return scores

    def seconds(self) -> dict[str, float]:
        """Return the run time of each stage, in s."""
        record_by_stage = {path.stem: self._read_record(path) for path in sorted(self.folder.glob("*.json"))}
        return {name: record["seconds"] for name, record in record_by_stage.items() if "seconds" in record}

    @staticmethod
    def _read_record(record_path: Path) -> dict[str, Any]:
        if not record_path.is_file():
            return {}
        try:
            stage_record = json.loads(record_path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError):
            # a damaged file was not written by this class, so the stage is run again
            return {}
        return stage_record if isinstance(stage_record, dict) else {}


def spectra_per_second(model: OnnxModel, seconds: float, *, block_size: int = 2048) -> float:
    """Measure how many spectra per second a model processes, for blocks of spectra in memory."""
    axis = model.card.axis
    counts = np.random.default_rng(0).poisson(20.0, (block_size, axis.n_bin)).astype(np.float32)
    recorded_kev = np.tile(np.array([[axis.start_kev, axis.stop_kev]], dtype=np.float32), (block_size, 1))
    model(counts, recorded_kev)
    start_time, n_spectra = time.perf_counter(), 0
    while time.perf_counter() - start_time < seconds:
        model(counts, recorded_kev)
        n_spectra += block_size
    return n_spectra / (time.perf_counter() - start_time)


SUITE_INSTRUMENT = "elio"
"""Instrument of the stages for layer order, the open set and the likelihood fit."""
UNSEEN_COUNTS = (1e4, 1e5)
PAPER_MODEL = "xu2022"
"""Name of the shipped reproduction of the paper's network."""
SCAN_SCORE_NAMES = ("auroc", "spearman")
PAPER_BLOCK_SIZE = 128
"""Number of spectra per block when the speed of the paper's network is measured. Larger blocks take too long."""


@dataclass(frozen=True)
class Inputs:
    """Inputs of the suite.

    Parameters
    ----------
    model : str or Path
        Name of a shipped model, or path of an ``.onnx`` file.
    reference : Path or None
        Folder of the Monte Carlo panels, or None to leave them out.
    scans : tuple of str
        Files of a measured scan, one for each detector, or empty to leave the scan out.
    instrument_model : Path or None
        Model for one instrument and palette (``underpaint train --instrument``). The card of this model contains the
        scores from its training.
    """

    model: str | Path = "default"
    reference: Path | None = None
    scans: tuple[str, ...] = ()
    instrument_model: Path | None = None

    @property
    def missing_inputs(self) -> list[str]:
        """Names of the missing inputs, without which a run is incomplete."""
        is_missing = {"monte_carlo": self.reference is None, "aurora": len(self.scans) < 2}
        return [name for name, is_input_missing in is_missing.items() if is_input_missing]


class Suite:
    """Evaluation suite of one model. Its stages are methods.

    Parameters
    ----------
    folder : Path
        Folder of the finished stages.
    inputs : Inputs
    plan : TrustPlan
    progress : callable
        Called with (description, number of steps done, total number of steps).
    """

    def __init__(self, folder: Path, inputs: Inputs, plan: TrustPlan, progress: Progress) -> None:
        self.inputs, self.plan, self.progress = inputs, plan, progress
        self.model = open_model(inputs.model, threads=plan.threads)
        self.digest = sha256_of(model_path(inputs.model))
        self.instrument_card = None if inputs.instrument_model is None else load_card(inputs.instrument_model)
        dependencies = {"plan": plan.model_dump(mode="json", exclude={"workers", "threads"}), "version": __version__}
        self.stages = Stages(folder, dependencies)
        self.folder = self.stages.folder

    def run_stage(
        self, stage: str, compute_scores: Callable[[], dict[str, Any]], *, uses_model: bool = True, **dependencies: Any
    ) -> Any:
        """Return the stored or computed scores of a stage. The scores depend on the model if ``uses_model`` is True."""
        self.progress(stage.replace("_", " ").capitalize(), 0, 1)
        return self.stages.result_of(
            stage, compute_scores, dependencies | ({"model": self.digest} if uses_model else {})
        )

    @cached_property
    def held_out(self) -> HeldOutSet:
        """The simulated held-out set."""
        return held_out_set(self.plan, self.model.card, self.folder, self.progress)

    @cached_property
    def mockups(self) -> LabelledMockups:
        """The virtual mock-ups."""
        return simulate_mockups(self.plan, with_line_labels=self.predicts_lines)

    @cached_property
    def paper_model(self) -> OnnxModel:
        """The paper's network."""
        return open_model(PAPER_MODEL, threads=self.plan.threads)

    @property
    def predicts_lines(self) -> bool:
        """Whether the model predicts which lines are visible, and not which pigments are present."""
        return bool(self.model.card.amounts)

    @property
    def groups(self) -> tuple[str, ...]:
        """Groups that the model predicts, directly or through their members."""
        group_names = {split_place(group)[0] for member_groups in self.model.card.groups for group in member_groups}
        return tuple(sorted(group_names))

    def answer_function(self, groups: Sequence[str], model: OnnxModel | None = None) -> AnswerFunction:
        """Return a function that computes group probabilities of a model (default: the suite's) from spectra."""
        return lambda spectra: run_model(model or self.model, spectra).probability_by_group(groups)

    def answer_without_conditions(self, groups: Sequence[str]) -> AnswerFunction:
        """Return a function that computes group probabilities of the model from spectra without conditions."""
        return lambda spectra: run_model(self.model, spectra.without_conditions()).probability_by_group(groups)

    def baseline_answers(self, groups: Sequence[str], threshold: float) -> dict[str, AnswerFunction]:
        """Return the baselines that need only spectra, by name."""

        def line_claims(spectra: Spectra) -> NDArray[np.float32]:
            return np.asarray(baselines.line_sigmas(spectra, groups) > threshold, dtype=np.float32)

        return {
            "always_yes": lambda spectra: baselines.always_yes(spectra, groups),
            PAPER_MODEL: self.answer_function(groups, self.paper_model),
            "element_thresholds": line_claims,
        }

    # the stages

    def simulated_scores(self) -> dict[str, Any]:
        """Score the groups on the held-out set, with and without instrument conditions."""
        held_out_spectra, plan = self.held_out, self.plan
        scores_by_counts = {
            counts_key(counts): group_scores(
                held_out_spectra, self.answer_function(held_out_spectra.groups), counts, plan.seed
            )
            for counts in plan.counts
        }
        scores_without_conditions = {
            counts_key(counts): group_scores(
                held_out_spectra, self.answer_without_conditions(held_out_spectra.groups), counts, plan.seed
            )
            for counts in UNSEEN_COUNTS
        }
        return {
            "data": "simulated",
            "n": len(held_out_spectra),
            "by_counts": scores_by_counts,
            "untold": macro_f1_by_counts(scores_without_conditions),
        }

    def calibration_scores(self) -> dict[str, Any]:
        """Return calibration errors and coverages of prediction sets and intervals, by decade of total counts."""
        held_out_spectra = self.held_out
        spectra_by_decade = calibration.draw_spectra_by_decade(held_out_spectra, self.plan.seed)
        model_answers = [run_model(self.model, decade_spectra.spectra) for decade_spectra in spectra_by_decade]
        answers = calibration.AnswersByDecade(
            held_out_spectra,
            spectra_by_decade,
            [decade_answers.probability_by_group(held_out_spectra.groups) for decade_answers in model_answers],
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
            "intervals": {"thickness_um": calibration.thickness_intervals(held_out_spectra, model_answers)},
        }

    def unseen_instrument_scores(self) -> dict[str, Any]:
        """Score the groups on instruments outside the training ranges, with and without instrument conditions."""
        scores_by_instrument: dict[str, Any] = {}
        for instrument_number, instrument_key in enumerate(unseen_instruments()):
            self.progress("Unseen instruments", instrument_number, len(unseen_instruments()))
            held_out_spectra = unseen_set(self.plan, self.model.card, self.folder, instrument_key, self.progress)
            answers_by_key = {
                "told": self.answer_function(held_out_spectra.groups),
                "untold": self.answer_without_conditions(held_out_spectra.groups),
            }
            scores_by_instrument[instrument_key] = {
                conditions_key: macro_f1_by_counts(
                    {
                        counts_key(counts): group_scores(held_out_spectra, answer_function, counts, self.plan.seed)
                        for counts in UNSEEN_COUNTS
                    }
                )
                for conditions_key, answer_function in answers_by_key.items()
            }
        mean_scores = {
            conditions_key: {
                counts_key(counts): mean(
                    [
                        scores_by_conditions[conditions_key][counts_key(counts)]
                        for scores_by_conditions in scores_by_instrument.values()
                    ]
                )
                for counts in UNSEEN_COUNTS
            }
            for conditions_key in ("told", "untold")
        }
        instrument_names = {
            conditions_key: instrument_key.name for conditions_key, instrument_key in unseen_instruments().items()
        }
        return {
            "data": "simulated",
            "instruments": instrument_names,
            "by_instrument": scores_by_instrument,
            "mean": mean_scores,
        }

    def choose_threshold(self) -> dict[str, Any]:
        """Choose the element thresholds on a separate set of spectra."""
        held_out_spectra = tuning_set(self.plan, self.model.card, self.folder, self.progress)
        return {
            "sigmas": baselines.choose_threshold(held_out_spectra, UNSEEN_COUNTS, self.plan.seed),
            "n": len(held_out_spectra),
        }

    def baseline_scores(self, threshold: float) -> dict[str, Any]:
        """Score the model and the baselines on a part of the held-out set."""
        held_out_spectra = self.held_out.select_rows(slice(0, min(self.plan.baseline_spectra, len(self.held_out))))
        scores_by_contestant: dict[str, Any] = {}
        contestants = {
            "model": self.answer_function(held_out_spectra.groups),
            **self.baseline_answers(held_out_spectra.groups, threshold),
        }
        spectra_by_decade = calibration.draw_spectra_by_decade(held_out_spectra, self.plan.seed)
        for method_number, (model_name, answer_function) in enumerate(contestants.items()):
            self.progress("Baselines", method_number, len(contestants))
            probability_by_decade = [answer_function(decade_spectra.spectra) for decade_spectra in spectra_by_decade]
            scores_by_contestant[model_name] = {
                "by_counts": {
                    counts_key(counts): group_scores(held_out_spectra, answer_function, counts, self.plan.seed)
                    for counts in self.plan.counts
                },
                **calibration.calibration_error(
                    calibration.AnswersByDecade(held_out_spectra, spectra_by_decade, probability_by_decade)
                ),
            }
        return {"data": "simulated", "n": len(held_out_spectra), "by_contestant": scores_by_contestant}

    def structure_scores(self, threshold: float) -> dict[str, Any]:
        """Score the model and the baselines on the mock-ups without fine-tuning."""
        mockups = self.mockups
        contestants = {
            "model": self.answer_function(mockups.groups),
            **self.baseline_answers(mockups.groups, threshold),
        }
        scores_by_contestant = {
            model_name: scores_without_finetuning(mockups, answer_function)
            for model_name, answer_function in contestants.items()
        }
        return {"data": "simulated", "n": len(mockups.mockups), "by_contestant": scores_by_contestant}

    def finetuned_structure_scores(self) -> dict[str, Any]:
        """Score the groups on mock-ups that were left out of fine-tuning."""
        obstacle_text = finetuning_obstacle(self.model.card)
        if obstacle_text:
            return {"left_out": obstacle_text}
        mockups = self.mockups
        finetuning_folder = self.folder / f"finetuned_{self.digest[:12]}"
        try:
            scores, n_fold = finetuned_scores(mockups, self.inputs.model, self.plan, finetuning_folder, self.progress)
        except (CoverageError, TrainingError) as error:
            return {"left_out": str(error)}
        return {"data": "simulated", "folds": n_fold, **scores}

    def panel_scores(self, threshold: float) -> dict[str, Any]:
        """Score the model and the baselines on the Monte Carlo panels."""
        if self.inputs.reference is None:
            return {"left_out": "no reference was given"}
        plan, panels = self.plan, monte_carlo.read_panels(self.inputs.reference)
        contestants = {"model": self.answer_function(self.groups), **self.baseline_answers(self.groups, threshold)}
        scores_by_contestant = {
            model_name: {
                counts_key(counts): monte_carlo.panel_scores(
                    panels,
                    answer_function,
                    self.groups,
                    counts,
                    plan.panel_draws,
                    plan.seed,
                    with_line_labels=self.predicts_lines,
                )
                for counts in plan.panel_counts
            }
            for model_name, answer_function in contestants.items()
        }
        return {"data": "Monte Carlo", "by_contestant": scores_by_contestant}

    def wrong_order_deviances(self) -> dict[str, Any]:
        """Return the deviances of wrong layer orders for the spectrum of each pair of pigments."""
        show_progress = partial(self.progress, "Fitting other orders")
        return order.rival_deviances(self.plan.order_pigments, load_instrument(SUITE_INSTRUMENT), show_progress)

    def layer_order_scores(self, rival_deviances: dict[str, dict[str, float]]) -> dict[str, Any]:
        """Score the layer orders that the network and the fits claim, and compute the upper bound of the score."""
        plan, instrument = self.plan, load_instrument(SUITE_INSTRUMENT)
        pairs = order.pairs_from_deviances(rival_deviances, instrument)
        scores_by_counts = {}
        for counts in plan.order_counts:
            spectra = order.draw_pair_spectra(pairs, instrument, counts, plan.order_draws, plan.seed)
            order_claims = order.network_order_claims(run_model(self.model, spectra), pairs, plan.order_draws)
            refined_spectra = order.draw_pair_spectra(pairs, instrument, counts, plan.refined_draws, plan.seed)
            show_progress = partial(self.progress, f"Fitting orders at {counts_key(counts)} counts")
            refined_claims = order.fit_order_claims(
                run_model(self.model, refined_spectra),
                refined_spectra,
                pairs,
                plan.refined_draws,
                instrument,
                show_progress,
            )
            scores_by_counts[counts_key(counts)] = {
                "bound": order.order_bound(pairs, counts),
                "network": order.order_scores(order_claims, pairs, counts),
                "refined": order.order_scores(refined_claims, pairs, counts),
            }
        upper_um, lower_um, ground_um = (order.UPPER_LAYER_UM, order.LOWER_LAYER_UM, order.GROUND_LAYER_UM)
        layer_text = f"{upper_um:g} um over {lower_um:g} um over {ground_um:g} um {order.GROUND}"
        return {
            "data": "simulated",
            "instrument": SUITE_INSTRUMENT,
            "layers": layer_text,
            "by_counts": scores_by_counts,
        }

    def open_set_scores(self) -> dict[str, Any]:
        """Evaluate the unlikeness score with each element left out in turn."""
        plan, instrument = self.plan, load_instrument(SUITE_INSTRUMENT)
        show_progress = partial(self.progress, "Simulating the open set")
        open_set_samples = simulated.draw_samples(plan.open_set_spectra, instrument, plan.seed, progress=show_progress)
        scores_by_counts = {
            counts_key(counts): simulated.leave_each_out(open_set_samples, counts, instrument, plan.seed)
            for counts in plan.open_set_counts
        }
        return {
            "data": "simulated",
            "instrument": SUITE_INSTRUMENT,
            "n": plan.open_set_spectra,
            "by_counts": scores_by_counts,
        }

    def likelihood_fit_scores(self, threshold: float) -> dict[str, Any]:
        """Fit the forward model to a small test set, and score the fits and all other methods on this set."""
        instrument = load_instrument(SUITE_INSTRUMENT)
        test_set = baselines.simulate_fit_set(
            self.plan, palette_for(self.model.card), instrument, with_line_labels=self.predicts_lines
        )
        show_progress = partial(self.progress, "Fitting the forward model")
        fitted_presence, seconds_per_spectrum = baselines.likelihood_fit(test_set, threshold, show_progress)
        contestants = {
            "model": self.answer_function(test_set.groups),
            **self.baseline_answers(test_set.groups, threshold),
        }
        answers_by_model = {
            model_name: answer_function(test_set.spectra) for model_name, answer_function in contestants.items()
        } | {"likelihood_fit": fitted_presence}
        scores_by_contestant = {
            model_name: summarise_scores(group_probability, test_set.labels, test_set.is_visible, test_set.groups)
            for model_name, group_probability in answers_by_model.items()
        }
        fit_record = {
            "n": len(test_set.spectra),
            "counts": self.plan.fitted_counts,
            "seconds_per_spectrum": seconds_per_spectrum,
        }
        return {
            "data": "simulated",
            "instrument": SUITE_INSTRUMENT,
            **fit_record,
            "by_contestant": scores_by_contestant,
        }

    def scan_scores(self, model: str | OnnxModel) -> dict[str, Any]:
        """Compare the pigments of a measured scan with its line areas, and compare its two detectors."""
        if not self.inputs.scans:
            return {"left_out": "no scan was given"}
        try:
            identified_scans = [measured_scan.identify_scan(scan_path, model) for scan_path in self.inputs.scans]
        except CoverageError as error:
            return {"left_out": str(error)}
        sources_and_scans = zip(self.inputs.scans, identified_scans, strict=True)
        scores_by_scan = {
            Path(scan_path).name: measured_scan.compare_with_lines(identified_scan)
            for scan_path, identified_scan in sources_and_scans
        }
        score_keys = [key_prefix + score_key for score_key in SCAN_SCORE_NAMES for key_prefix in ("", "baseline_")]
        scores: dict[str, Any] = {
            score_key: measured_scan.worst_scores([scan_scores[score_key] for scan_scores in scores_by_scan.values()])
            for score_key in score_keys
        }
        sources_and_scans = zip(self.inputs.scans, identified_scans, strict=True)
        scores["below_against_scatter"] = {
            Path(scan_path).name: measured_scan.below_scatter_correlation(identified_scan.results)
            for scan_path, identified_scan in sources_and_scans
        }
        scores["place_determined"] = measured_scan.worst_scores(
            [measured_scan.determined_places(identified_scan.results) for identified_scan in identified_scans]
        )
        if len(identified_scans) > 1:
            first_results, second_results = (identified_scan.results for identified_scan in identified_scans[:2])
            scores["place_contradictions"] = measured_scan.contradicting_places(first_results, second_results)
            scores["kappa"] = measured_scan.pigment_agreement(first_results, second_results)
            kappa_of_halves = [
                measured_scan.counting_agreement(identified_scan, model, self.plan.seed)
                for identified_scan in identified_scans
            ]
            scores["kappa_of_halves"] = measured_scan.worst_scores(kappa_of_halves, max)
            scores["baseline_kappa"] = measured_scan.line_agreement(*identified_scans[:2])
            scores["kappa_where_both_are_sure"] = measured_scan.pigment_agreement(
                first_results, second_results, confident_probability=measured_scan.CONFIDENT_PROBABILITY
            )
        return {"data": "measured", **scores, "by_scan": scores_by_scan}

    def measure_speed(self) -> dict[str, Any]:
        """Measure how many spectra per second the model and the paper's network process."""
        seconds = self.plan.speed_seconds
        speed_by_model = {
            "model": spectra_per_second(self.model, seconds),
            PAPER_MODEL: spectra_per_second(self.paper_model, seconds, block_size=PAPER_BLOCK_SIZE),
        }
        return {"spectra_per_second": speed_by_model, "threads": self.plan.threads}

    def instrument_model_scores(self) -> dict[str, Any]:
        """Return the held-out scores of the model for one instrument and palette, from its model card."""
        model_card = self.instrument_card
        if model_card is None:
            return {"left_out": "no model was given"}
        scores = model_card.figures.get("own_model")
        return (
            {"name": model_card.name, **scores} if scores else {"left_out": f"{model_card.name} was trained otherwise"}
        )

    def run(self) -> dict[str, Any]:
        """Run every unfinished stage, and return the scores of all stages by name."""
        palette = list(palette_for(self.model.card))
        scores_by_stage = {
            "simulated": self.run_stage("simulated", self.simulated_scores),
            "calibration": self.run_stage("calibration", self.calibration_scores),
            "unseen_instrument": self.run_stage("unseen_instruments", self.unseen_instrument_scores),
            "threshold": self.run_stage(
                "element_threshold", self.choose_threshold, uses_model=False, palette=palette, lines=self.predicts_lines
            ),
        }
        threshold_sigmas = float(scores_by_stage["threshold"]["sigmas"])
        reference, scans = self._reference_file_hashes(), list(self.inputs.scans)
        scores_by_stage |= {
            "baselines": self.run_stage(
                "baselines", partial(self.baseline_scores, threshold_sigmas), sigmas=threshold_sigmas
            ),
            "structure_out": self.run_stage(
                "structures", partial(self.structure_scores, threshold_sigmas), sigmas=threshold_sigmas
            ),
            "structure_out_finetuned": self.run_stage("structures_finetuned", self.finetuned_structure_scores),
            "monte_carlo": self.run_stage(
                "monte_carlo",
                partial(self.panel_scores, threshold_sigmas),
                sigmas=threshold_sigmas,
                reference=reference,
            ),
        }
        rival_deviances = self.run_stage("order_bound", self.wrong_order_deviances, uses_model=False)
        scores_by_stage |= {
            "order": self.run_stage(
                "layer_order", partial(self.layer_order_scores, rival_deviances), rivals=rival_deviances
            ),
            "open_set": self.run_stage("open_set", self.open_set_scores, uses_model=False),
            "likelihood_fit": self.run_stage(
                "likelihood_fit", partial(self.likelihood_fit_scores, threshold_sigmas), sigmas=threshold_sigmas
            ),
            "aurora": self.run_stage("measured_scan", partial(self.scan_scores, self.model), scans=scans),
            "aurora_xu2022": self.run_stage(
                "measured_scan_xu2022", partial(self.scan_scores, PAPER_MODEL), uses_model=False, scans=scans
            ),
            "speed": self.run_stage("speed", self.measure_speed),
            "own_model": self.instrument_model_scores(),
        }
        return scores_by_stage

    def _reference_file_hashes(self) -> list[str]:
        reference_folder = self.inputs.reference
        return (
            []
            if reference_folder is None
            else [
                sha256_of(reference_folder / file_name)
                for file_name in monte_carlo.FILE_NAMES
                if (reference_folder / file_name).is_file()
            ]
        )


def evaluate_trust(
    target: str | Path, inputs: Inputs, plan: TrustPlan | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Run the suite, and write the record of its scores. The same call resumes an interrupted run.

    Parameters
    ----------
    target : path
        JSON file to write. A folder beside the JSON file, with the same name and the ending ``.parts``, keeps finished
        stages.
    inputs : Inputs
    plan : TrustPlan, optional
    progress : callable, optional
        Called with (description, number of steps done, total number of steps).

    Returns
    -------
    dict
        Headline scores, ``baselines`` with the same keys, ``details`` by stage, and ``about`` with the provenance.
        The headline scores are ``group_macro_f1``, ``order_accuracy``, ``order_bound``, ``ece``, ``coverage``,
        ``openset_auroc``, ``auroc_aurora``, ``spearman_aurora``, ``kappa_aurora``, ``per_s`` and ``train_minutes``.
        Scores of stages that were left out are None.

    Raises
    ------
    OutputError
        The file contains the record of a complete run, and this run would be incomplete.
    """
    record_path, plan = Path(target), plan or TrustPlan()
    is_complete = not plan.quick and not inputs.missing_inputs
    _refuse_smaller_run(record_path, run_is_complete=is_complete)
    suite = Suite(record_path.with_suffix(".parts"), inputs, plan, progress or no_progress)
    scores_by_stage = suite.run()
    scores = headline_scores(scores_by_stage)
    score_record = json_types(
        scores | {"details": scores_by_stage, "about": _provenance(suite, is_complete=is_complete)}
    )
    write_json(record_path, score_record)
    return dict(score_record)


def _refuse_smaller_run(path: Path, *, run_is_complete: bool) -> None:
    if run_is_complete or not path.is_file():
        return
    try:
        is_complete = json.loads(path.read_text("utf-8")).get("about", {}).get("complete", False)
    except (ValueError, AttributeError):
        return
    if is_complete:
        raise OutputError(
            f"Cannot write {path}: the file contains the record of a complete run, and this run is incomplete. It is "
            "quick, or lacks the Monte Carlo panels (--reference) or the scans of two detectors (--scan, twice). "
            "Choose another --json."
        )


def _provenance(suite: Suite, *, is_complete: bool) -> dict[str, Any]:
    """Return the model, settings and versions from which the scores were computed."""
    model_card = suite.model.card
    packages = ("underpaint", "numpy", "scipy", "xraylib", "onnxruntime")
    return {
        "suite": "trust",
        "complete": is_complete,
        "quick": suite.plan.quick,
        "left_out": suite.inputs.missing_inputs,
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
            "Present labels that are not visible at the given counts are not scored.",
            "A composite pigment counts as its groups.",
            "Monte Carlo panels are from another code, XMI-MSIM.",
            "Scores with the key aurora are from a measured scan without labels.",
            *(
                ["A quick run only tests that the suite works. Its scores have no significance."]
                if suite.plan.quick
                else []
            ),
        ],
    }


def headline_scores(details: dict[str, Any]) -> dict[str, Any]:
    """Return the headline scores from the scores of all stages."""
    calibration_scores, aurora_scores, open_set_by_counts = (
        details["calibration"],
        details["aurora"],
        details["open_set"]["by_counts"],
    )
    order_by_counts = details["order"]["by_counts"]
    return {
        "group_macro_f1": _group_macro_f1(details),
        "order_accuracy": {
            counts: order_scores["refined"]["accuracy"] for counts, order_scores in order_by_counts.items()
        },
        "order_accuracy_network": {
            counts: order_scores["network"]["accuracy"] for counts, order_scores in order_by_counts.items()
        },
        "order_bound": {counts: order_scores["bound"]["accuracy"] for counts, order_scores in order_by_counts.items()},
        "ece": calibration_scores["ece"],
        "coverage": calibration_scores["coverage"],
        "openset_auroc": open_set_by_counts[max(open_set_by_counts, key=float)]["auroc"],
        "auroc_aurora": aurora_scores.get("auroc"),
        "spearman_aurora": aurora_scores.get("spearman"),
        "kappa_aurora": _min_score(aurora_scores.get("kappa")),
        "kappa_aurora_bound": aurora_scores.get("kappa_of_halves"),
        "per_s": details["speed"]["spectra_per_second"]["model"],
        "train_minutes": _train_minutes(details),
        "baselines": _baseline_headlines(details),
    }


def _group_macro_f1(scores_by_stage: dict[str, Any]) -> dict[str, Any]:
    finetuned_scores = scores_by_stage["structure_out_finetuned"]
    return {
        "simulated": macro_f1_by_counts(scores_by_stage["simulated"]["by_counts"]),
        "unseen_instrument": scores_by_stage["unseen_instrument"]["mean"],
        "monte_carlo": _panel_macro_f1(scores_by_stage["monte_carlo"], "model"),
        "structure_out": scores_by_stage["structure_out"]["by_contestant"]["model"]["macro_f1"],
        "structure_out_finetuned": finetuned_scores.get("macro_f1"),
    }


def _baseline_headlines(scores_by_stage: dict[str, Any]) -> dict[str, Any]:
    """Return the headline scores of the baselines, by the same keys as those of the model."""
    scores_by_baseline: dict[str, Any] = {}
    for model_name, scores in scores_by_stage["baselines"]["by_contestant"].items():
        if model_name == "model":
            continue
        scores_by_baseline[model_name] = {
            "group_macro_f1": {
                "simulated": macro_f1_by_counts(scores["by_counts"]),
                "monte_carlo": _panel_macro_f1(scores_by_stage["monte_carlo"], model_name),
                "structure_out": scores_by_stage["structure_out"]["by_contestant"][model_name]["macro_f1"],
                "fitted": scores_by_stage["likelihood_fit"]["by_contestant"][model_name]["macro_f1"],
            },
            "ece": scores["ece"],
        }
    aurora_scores, paper_scores = scores_by_stage["aurora"], scores_by_stage["aurora_xu2022"]
    scores_by_baseline[PAPER_MODEL] |= {
        "auroc_aurora": paper_scores.get("auroc"),
        "spearman_aurora": paper_scores.get("spearman"),
        "kappa_aurora": _min_score(paper_scores.get("kappa")),
        "per_s": scores_by_stage["speed"]["spectra_per_second"][PAPER_MODEL],
    }
    likelihood_fit_scores = scores_by_stage["likelihood_fit"]
    scores_by_baseline["likelihood_fit"] = {
        "group_macro_f1": {"fitted": likelihood_fit_scores["by_contestant"]["likelihood_fit"]["macro_f1"]},
        "per_s": 1.0 / likelihood_fit_scores["seconds_per_spectrum"],
    }
    scores_by_baseline["line_area"] = {
        **{f"{score_key}_aurora": aurora_scores.get(f"baseline_{score_key}") for score_key in SCAN_SCORE_NAMES},
        "kappa_aurora": _min_score(aurora_scores.get("baseline_kappa")),
    }
    return scores_by_baseline


def _panel_macro_f1(panels: dict[str, Any], model_name: str) -> dict[str, float] | None:
    return macro_f1_by_counts(panels["by_contestant"][model_name]) if "by_contestant" in panels else None


def macro_f1_by_counts(scores_by_counts: dict[str, Any]) -> dict[str, float]:
    """Return the macro F1 at each value of the total counts."""
    return {counts: scores["macro_f1"] for counts, scores in scores_by_counts.items()}


def _min_score(score_by_group: dict[str, float | None] | None) -> float | None:
    """Return the lowest score that is not None, or None if there is no score."""
    return min((score for score in (score_by_group or {}).values() if score is not None), default=None)


def _train_minutes(scores_by_stage: dict[str, Any]) -> float | None:
    """Return the training time of the model for one instrument and palette, in minutes."""
    minutes_by_step = scores_by_stage["own_model"].get("minutes")
    return float(sum(minutes_by_step.values())) if minutes_by_step else None
