"""Training and printed summaries of the commands ``train``, ``adapt`` and ``finetune``."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from underpaint.calibrate import resolve_energy_axis
from underpaint.cli._console import list_table, progress, say, show
from underpaint.data import Scan
from underpaint.errors import TrainingError
from underpaint.io import load
from underpaint.lab.training import (
    FinetuneReport,
    FinetuneSettings,
    Library,
    TrainedNetwork,
    labelled_library,
    load_finetune_settings,
    load_trainable,
)
from underpaint.lab.training import finetune as finetune_network
from underpaint.lab.training.adapting import AdaptReport, AdaptSettings, adapt
from underpaint.lab.training.instrument_model import (
    InstrumentModelReport,
    InstrumentModelSettings,
    train_instrument_model,
)
from underpaint.physics.instrument import load_instrument
from underpaint.physics.materials import load_palette

if TYPE_CHECKING:
    from rich.table import Table


_MAX_LISTED_NAMES = 6


@dataclass(frozen=True)
class TrainingOptions:
    """Options shared by ``train`` and ``adapt``."""

    model: str
    instrument: str | None
    palette: str | None
    out: Path | None
    minutes: float | None
    seed: int

    def given_settings(self) -> dict[str, Any]:
        """Return minutes and seed as settings, if they were given."""
        optional_settings = {"minutes": self.minutes, "seed": self.seed}
        return {setting_name: setting for setting_name, setting in optional_settings.items() if setting is not None}


def make_instrument_model(options: TrainingOptions, name: str | None, *, quiet: bool) -> InstrumentModelReport:
    """Train a model for one instrument and one palette.

    Raises
    ------
    TrainingError
        The instrument or the palette was not given.
    """
    if options.instrument is None or options.palette is None:
        raise TrainingError(
            "Cannot train: neither a CONFIG file nor both --instrument and --palette were given. Give CONFIG, or an "
            "instrument (a file by `underpaint calibrate`) and a palette (listed by `underpaint pigments palettes`)."
        )
    instrument, palette = load_instrument(options.instrument), load_palette(options.palette)
    model_name = name or "_".join((Path(options.instrument).stem, Path(options.palette).stem))
    required_settings = {
        "instrument": instrument,
        "palette": palette.pigments,
        "start": options.model,
        "name": model_name,
    }
    settings = InstrumentModelSettings.model_validate(
        {**required_settings, "out": options.out or Path(model_name), **options.given_settings()}
    )
    with progress(quiet=quiet) as report_progress:
        return train_instrument_model(settings, report_progress)


def adapt_to_scan(scan: str, options: TrainingOptions, *, quiet: bool) -> tuple[AdaptReport, Path]:
    """Adapt a network to a scan without labels. Return the report and the output folder."""
    base_instrument = None if options.instrument is None else load_instrument(options.instrument)
    palette = None if options.palette is None else load_palette(options.palette).pigments
    with progress(quiet=quiet) as report_progress:
        report_progress("Opening the scan", 0, 1)
        loaded_scan = load(scan)
        out = options.out or Path(f"{loaded_scan.name}_adapted")
        settings = AdaptSettings.model_validate(
            {"out": out, "model": options.model, "palette": palette, **options.given_settings()}
        )
        return adapt(loaded_scan, settings, known_instrument=base_instrument, progress=report_progress), out


def print_instrument_model(report: InstrumentModelReport, initial_network: str) -> None:
    """Print the size of the training data, the training time, and the change of F1 relative to the initial model."""
    dataset_sizes, initial_weights = report.sizes, report.transferred_network
    minutes_text = ", ".join(f"{training_stage} {minutes:.1f}" for training_stage, minutes in report.minutes.items())
    say(
        f"Simulated {dataset_sizes.n_stratigraphies} stratigraphies for training and {dataset_sizes.n_held_out} held "
        f"out, and trained {dataset_sizes.epochs} epochs."
    )
    say(f"Training in this call took {sum(report.minutes.values()):.1f} minutes ({minutes_text}).")
    reinitialised_text = (
        f"; re-initialised: {_name_list(initial_weights.new_names)}" if initial_weights.new_names else ""
    )
    n_transferred = len(initial_weights.transferred_names)
    say(
        f"Weights transferred from {initial_network}: {n_transferred} of "
        f"{n_transferred + len(initial_weights.new_names)} names{reinitialised_text}."
    )
    show(_comparison_table(report, initial_network))
    if report.f1_of_new_names:
        f1_texts = [f"{name} {f1:.2f}" for name, f1 in report.f1_of_new_names.items()]
        say(f"F1 of names that {initial_network} does not have: {', '.join(f1_texts)}")
    say(f"Wrote {report.model} and its card. Use it with --model {report.model}")


def _comparison_table(report: InstrumentModelReport, initial_network: str) -> "Table":
    headings = ("held-out spectra", "names", initial_network, "this model", "gain", "standard error")
    summary_table = list_table("Mean F1", headings)
    for spectrum_set, comparison in report.comparisons.items():
        comparison_cells = (
            f"{comparison.before:.3f}",
            f"{comparison.after:.3f}",
            f"{comparison.gain:+.3f}",
            f"{comparison.standard_error:.3f}",
        )
        summary_table.add_row(spectrum_set, str(comparison.n_name), *comparison_cells)
    return summary_table


def print_adaptation(report: AdaptReport, out: Path) -> None:
    """Print the fitted instrument, the loss of each method, whether the network was adapted, and the files written."""
    say(f"Instrument: {report.instrument.note}")
    for missing_value in report.calibration.missing:
        say(f"- not found: {missing_value}")
    show(_methods_table(report))
    say(report.as_sentence())
    say(f"Wrote {out / 'instrument.toml'} and {out / 'report.json'}.")
    if report.model is not None:
        say(f"Wrote {report.model} and its card. Use it with --model {report.model}")
    elif report.is_accepted:
        say(f"The weights are unchanged. Use the fitted instrument with --instrument {out / 'instrument.toml'}")


def _methods_table(report: AdaptReport) -> "Table":
    summary_table = list_table("Loss on simulated spectra of the fitted instrument", ("method", "loss"))
    for method, loss in report.validation.items():
        choice_mark = " (lowest)" if method == report.chosen_method else ""
        summary_table.add_row(f"{method.replace('_', ', ')}{choice_mark}", f"{loss:.4f}")
    return summary_table


def _name_list(names: tuple[str, ...]) -> str:
    omission_text = f" and {len(names) - _MAX_LISTED_NAMES} more" if len(names) > _MAX_LISTED_NAMES else ""
    return ", ".join(names[:_MAX_LISTED_NAMES]) + omission_text


_STEPS_PER_EPOCH = 20
_MIN_BATCH_SIZE, _PAPER_BATCH_SIZE = 4, 64


@dataclass(frozen=True)
class UserData:
    """The user's spectra and labels, and how their energy axis is determined."""

    spectra: str | None
    labels: Path | None
    instrument: str | None
    calibrated: bool
    trust_instrument: bool = False
    notes: list[str] = field(default_factory=list)

    def on_axis(self, scan: Scan) -> Scan:
        """Return the scan with the energy axis that ``identify`` would use. Alerts and notes are added to ``notes``."""
        calibrated_scan = resolve_energy_axis(
            scan, instrument=self.instrument, calibrated=self.calibrated, trust_instrument=self.trust_instrument
        )
        self.notes.extend((*calibrated_scan.alerts, *calibrated_scan.notes))
        return calibrated_scan.scan


def finetune_with_settings_file(
    settings_file: Path, model: str, other_options: Sequence[object], *, progress: bool
) -> tuple[FinetuneReport, Path]:
    """Fine-tune a network with the settings of a file.

    Raises
    ------
    TrainingError
        An option was given that the settings file replaces.
    """
    if any(option is not None for option in other_options):
        raise TrainingError(
            f"Cannot fine-tune by {settings_file} and by --spectra, --labels or --out at once. Write library, labels "
            f"and out "
            "into the file, or omit the file."
        )
    settings = load_finetune_settings(settings_file).model_copy(update={"progress": progress})
    return finetune_network(model, settings), settings.out


def finetune_on_spectra(
    model: str, user_data: UserData, out: Path | None, given_settings: dict[str, Any], *, quiet: bool
) -> tuple[FinetuneReport, Path]:
    """Fine-tune a network on the user's spectra. The paper's settings apply where ``given_settings`` has none.

    Raises
    ------
    TrainingError
        The spectra or the labels were not given.
    """
    if user_data.spectra is None or user_data.labels is None:
        raise TrainingError(
            "Cannot fine-tune without spectra and labels. Give both, as in `underpaint finetune --spectra SCAN "
            "--labels CSV` (see `underpaint finetune --help` for the CSV), or a settings file."
        )
    with progress(quiet=quiet) as report_progress:
        report_progress("Opening the network", 0, 1)
        trained_network = load_trainable(model)
        report_progress("Reading the labelled spectra", 0, 1)
        labelled_spectra = labelled_library(
            user_data.spectra, user_data.labels, trained_network.card, on_axis=user_data.on_axis
        )
    settings = _finetune_settings(model, trained_network, user_data, labelled_spectra, out, given_settings)
    for note in (*dict.fromkeys(user_data.notes), *_structure_notes(labelled_spectra, settings)):
        say(note, quiet=quiet)
    return finetune_network(trained_network, settings, labelled_spectra), settings.out


def _finetune_settings(
    model: str,
    trained_network: TrainedNetwork,
    user_data: UserData,
    labelled_spectra: Library,
    out: Path | None,
    given_settings: dict[str, Any],
) -> FinetuneSettings:
    network_name = trained_network.card.name if Path(model).suffix == ".ckpt" else Path(model).stem
    n_training = len(labelled_spectra) * (1 - given_settings["test_share"])
    return FinetuneSettings.model_validate(
        {
            "library": [user_data.spectra],
            "labels": user_data.labels,
            "out": out or Path(f"{labelled_spectra.origin[0]}_finetuned"),
            "name": f"{network_name.removesuffix('_finetuned')}_finetuned",
            "kind": trained_network.card.kind,
            # The paper used batches of 64 for 1,300 spectra, which is twenty steps per epoch. This number is kept.
            "batch": min(_PAPER_BATCH_SIZE, max(_MIN_BATCH_SIZE, round(n_training / _STEPS_PER_EPOCH))),
            "precision": "32",
            **given_settings,
        }
    )


def _structure_notes(labelled_spectra: Library, settings: FinetuneSettings) -> list[str]:
    if settings.split == "pixel" or np.unique(labelled_spectra.source).size < len(labelled_spectra):
        return []
    return [
        "The labels name no structures, so each spectrum counts as a separate structure. Several spectra of one "
        "strip of paint make the test scores too high. A column `structure` keeps them in one set."
    ]


def print_finetuning(report: FinetuneReport, exported_file: Path) -> None:
    """Print how each layer was initialised and trained, the scores, and the files written."""
    scores = report.as_dict()
    show(_layers_table(scores))
    show(_steps_table(scores))
    for sentence in _remarks_on_finetuning(scores):
        say(sentence)
    say(f"Wrote {exported_file} and its card. Use it with --model {exported_file}")


def _layers_table(scores: dict[str, Any]) -> "Table":
    summary_table = list_table("Layers", ("layer", "weights", "begins", "first step", "second step"))
    for layer_name, n_weights in scores["weights"].items():
        initial_state = "re-initialised" if layer_name in scores["reinitialised"] else "loaded"
        first_step_state = "frozen" if layer_name in scores["frozen_in_first_step"] else "trained"
        summary_table.add_row(layer_name, f"{n_weights:,}", initial_state, first_step_state, "trained")
    return summary_table


def _steps_table(scores: dict[str, Any]) -> "Table":
    spectra_per_set = scores["n_spectra"]
    test_set_name = "test" if spectra_per_set["test"] else "validation"
    title = f"Mean scores of the names in {spectra_per_set[test_set_name]} {test_set_name} spectra"
    summary_table = list_table(title, ("network", "epochs", "validation loss", "F1", "always yes"))
    if spectra_per_set["test"]:
        loss_text = scores["before"]["validation_loss"]
        choice_mark = " (kept)" if scores["chosen"] == "before" else ""
        summary_table.add_row(
            f"as given{choice_mark}",
            "",
            "" if loss_text is None else f"{loss_text:.4f}",
            *_mean_texts(scores["before"]["test"]),
        )
    for step_name, trained_layers in (("first", "dense layers"), ("second", "all layers")):
        step_scores = scores[step_name]
        choice_mark = " (taken)" if scores["chosen"] == step_name else ""
        loss_text = f"{step_scores['validation_loss']:.4f}"
        summary_table.add_row(
            f"{trained_layers}{choice_mark}",
            str(step_scores["epochs"]),
            loss_text,
            *_mean_texts(step_scores[test_set_name]),
        )
    return summary_table


def _mean_texts(scores: dict[str, Any]) -> list[str]:
    mean_scores = (scores["macro_f1"], scores["macro_always_yes_f1"])
    return ["" if mean_score is None else f"{mean_score:.3f}" for mean_score in mean_scores]


def _remarks_on_finetuning(scores: dict[str, Any]) -> list[str]:
    remarks = []
    if scores["chosen"] == "before":
        remarks.append("Fine-tuning did not improve the network on the held-out spectra: the network is unchanged.")
    if scores["n_hidden_labels"]:
        remarks.append(
            f"{scores['n_hidden_labels']:,} labels of pigments and groups by place were treated as unknown, because "
            f"their lines are not visible in the spectra."
        )
    if scores["absent"]:
        remarks.append(
            f"{len(scores['absent'])} names were in no training spectrum, so the network has learned that they are "
            f"absent. report.json lists these names. Exclude them with identify --palette."
        )
    return remarks
