"""The work of `train`, `adapt` and `finetune` with a user's spectra, and the printed summaries."""

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
from underpaint.lab.training import finetune as run
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
        """Return the optional settings that were given."""
        settings = {"minutes": self.minutes, "seed": self.seed}
        return {name: value for name, value in settings.items() if value is not None}


def make_instrument_model(options: TrainingOptions, name: str | None, *, quiet: bool) -> InstrumentModelReport:
    """Train a model for an instrument and a palette.

    Raises
    ------
    TrainingError
        The instrument or the palette was not given.
    """
    if options.instrument is None or options.palette is None:
        raise TrainingError(
            "Cannot train: give a CONFIG file, or both --instrument and --palette for a model of your instrument "
            "(`underpaint calibrate` writes an instrument file, `underpaint pigments palettes` lists palettes)."
        )
    instrument, palette = load_instrument(options.instrument), load_palette(options.palette)
    label = name or "_".join((Path(options.instrument).stem, Path(options.palette).stem))
    base_settings = {"instrument": instrument, "palette": palette.pigments, "start": options.model, "name": label}
    settings = InstrumentModelSettings.model_validate(
        {**base_settings, "out": options.out or Path(label), **options.given_settings()}
    )
    with progress(quiet=quiet) as step:
        return train_instrument_model(settings, step)


def adapt_to_scan(scan: str, options: TrainingOptions, *, quiet: bool) -> tuple[AdaptReport, Path]:
    """Adapt a network to a scan without labels; return the report and the output folder."""
    base = None if options.instrument is None else load_instrument(options.instrument)
    palette = None if options.palette is None else load_palette(options.palette).pigments
    with progress(quiet=quiet) as step:
        step("Opening the scan", 0, 1)
        spectra = load(scan)
        out = options.out or Path(f"{spectra.name}_adapted")
        settings = AdaptSettings.model_validate(
            {"out": out, "model": options.model, "palette": palette, **options.given_settings()}
        )
        return adapt(spectra, settings, known_instrument=base, progress=step), out


def print_instrument_model(report: InstrumentModelReport, start: str) -> None:
    """Print the training data, the time, and the gain or loss compared with the initial model."""
    dataset_sizes, initial_weights = report.sizes, report.transferred_network
    minutes_text = ", ".join(f"{stage} {minutes:.1f}" for stage, minutes in report.minutes.items())
    say(
        f"Simulated {dataset_sizes.n_stratigraphies} stratigraphies and {dataset_sizes.n_held_out} held out; "
        f"{dataset_sizes.epochs} epochs."
    )
    say(f"Minutes: {sum(report.minutes.values()):.1f} in this call ({minutes_text}).")
    fresh_text = f"; re-initialised: {_name_list(initial_weights.new_names)}" if initial_weights.new_names else ""
    n_known = len(initial_weights.transferred_names)
    say(f"Weights transferred from {start}: {n_known} of {n_known + len(initial_weights.new_names)} names{fresh_text}.")
    show(_comparison_table(report, start))
    if report.f1_of_new_names:
        f1_texts = [f"{name} {f1:.2f}" for name, f1 in report.f1_of_new_names.items()]
        say(f"F1 of names that {start} does not have: {', '.join(f1_texts)}")
    say(f"Wrote {report.model} and its card; use it with --model {report.model}")


def _comparison_table(report: InstrumentModelReport, start: str) -> "Table":
    headings = ("held-out spectra", "names", start, "this model", "gain", "standard error")
    table = list_table("Mean F1", headings)
    for spectrum_set, comparison in report.comparisons.items():
        cells = (
            f"{comparison.before:.3f}",
            f"{comparison.after:.3f}",
            f"{comparison.gain:+.3f}",
            f"{comparison.standard_error:.3f}",
        )
        table.add_row(spectrum_set, str(comparison.n_name), *cells)
    return table


def print_adaptation(report: AdaptReport, out: Path) -> None:
    """Print the fitted instrument, the loss of each method, the decision, and the files written."""
    say(f"Instrument: {report.instrument.note}")
    for missing in report.calibration.missing:
        say(f"- not found: {missing}")
    show(_methods_table(report))
    say(report.as_sentence())
    say(f"Wrote {out / 'instrument.toml'} and {out / 'report.json'}.")
    if report.model is not None:
        say(f"Wrote {report.model} and its card; use it with --model {report.model}")
    elif report.is_accepted:
        say(f"The weights are unchanged: give the instrument to the model with --instrument {out / 'instrument.toml'}")


def _methods_table(report: AdaptReport) -> "Table":
    table = list_table("Loss on simulated spectra of the fitted instrument", ("method", "loss"))
    for method, loss in report.validation.items():
        suffix = " (lowest)" if method == report.chosen_method else ""
        table.add_row(f"{method.replace('_', ', ')}{suffix}", f"{loss:.4f}")
    return table


def _name_list(names: tuple[str, ...]) -> str:
    suffix = f" and {len(names) - _MAX_LISTED_NAMES} more" if len(names) > _MAX_LISTED_NAMES else ""
    return ", ".join(names[:_MAX_LISTED_NAMES]) + suffix


_STEPS_PER_EPOCH = 20
_MIN_BATCH, _PAPER_BATCH = 4, 64


@dataclass(frozen=True)
class UserData:
    """Spectra and labels of a user, as given by the options."""

    spectra: str | None
    labels: Path | None
    instrument: str | None
    calibrated: bool
    trust_instrument: bool = False
    notes: list[str] = field(default_factory=list)

    def on_axis(self, scan: Scan) -> Scan:
        """Return the scan on the energy axis that `identify` would use; add the alerts and notes to ``notes``."""
        axis = resolve_energy_axis(
            scan, instrument=self.instrument, calibrated=self.calibrated, trust_instrument=self.trust_instrument
        )
        self.notes.extend((*axis.alerts, *axis.notes))
        return axis.scan


def from_config(
    config: Path, model: str, other_options: Sequence[object], *, progress: bool
) -> tuple[FinetuneReport, Path]:
    """Fine-tune with a settings file.

    Raises
    ------
    TrainingError
        Options that the file replaces were given as well.
    """
    if any(option is not None for option in other_options):
        raise TrainingError(
            f"Cannot fine-tune by {config} and by --spectra, --labels or --out at once. Write library, labels and out "
            "into the file, or omit the file."
        )
    settings = load_finetune_settings(config).model_copy(update={"progress": progress})
    return run(model, settings), settings.out


def from_spectra(
    model: str, data: UserData, out: Path | None, given_settings: dict[str, Any], *, quiet: bool
) -> tuple[FinetuneReport, Path]:
    """Fine-tune on a user's spectra with the paper's settings, except those that were given.

    Raises
    ------
    TrainingError
        The spectra or the labels were not given.
    """
    if data.spectra is None or data.labels is None:
        raise TrainingError(
            "Cannot fine-tune without spectra and labels. Give both, as in `underpaint finetune --spectra SCAN "
            "--labels CSV` (see `underpaint finetune --help` for the CSV), or a settings file."
        )
    with progress(quiet=quiet) as step:
        step("Opening the network", 0, 1)
        trained = load_trainable(model)
        step("Reading the labelled spectra", 0, 1)
        library = labelled_library(data.spectra, data.labels, trained.card, on_axis=data.on_axis)
    settings = _settings(model, trained, data, library, out, given_settings)
    for note in (*dict.fromkeys(data.notes), *_structure_notes(library, settings)):
        say(note, quiet=quiet)
    return run(trained, settings, library), settings.out


def _settings(
    model: str,
    trained: TrainedNetwork,
    data: UserData,
    library: Library,
    out: Path | None,
    given_settings: dict[str, Any],
) -> FinetuneSettings:
    stem = trained.card.name if Path(model).suffix == ".ckpt" else Path(model).stem
    n_train = len(library) * (1 - given_settings["test_share"])
    return FinetuneSettings.model_validate(
        {
            "library": [data.spectra],
            "labels": data.labels,
            "out": out or Path(f"{library.origin[0]}_finetuned"),
            "name": f"{stem.removesuffix('_finetuned')}_finetuned",
            "kind": trained.card.kind,
            # The paper's batches of 64 of 1,300 spectra are about twenty steps per epoch; keep this number of steps.
            "batch": min(_PAPER_BATCH, max(_MIN_BATCH, round(n_train / _STEPS_PER_EPOCH))),
            "precision": "32",
            **given_settings,
        }
    )


def _structure_notes(library: Library, settings: FinetuneSettings) -> list[str]:
    if settings.split == "pixel" or np.unique(library.source).size < len(library):
        return []
    return [
        "The labels name no structures: each spectrum counts as a separate structure. If several spectra are of one "
        "strip of paint, the test scores are too high; a column `structure` keeps them together."
    ]


def print_finetuning(report: FinetuneReport, exported: Path) -> None:
    """Print which layers were loaded, frozen and re-initialised, the scores, and the files written."""
    scores = report.as_dict()
    show(_layers_table(scores))
    show(_steps_table(scores))
    for sentence in _remarks_on_finetuning(scores):
        say(sentence)
    say(f"Wrote {exported} and its card; use it with --model {exported}")


def _layers_table(scores: dict[str, Any]) -> "Table":
    table = list_table("Layers", ("layer", "weights", "begins", "first step", "second step"))
    for name, n_weight in scores["weights"].items():
        initial_weights = "re-initialised" if name in scores["reinitialised"] else "loaded"
        first_step = "frozen" if name in scores["frozen_in_first_step"] else "trained"
        table.add_row(name, f"{n_weight:,}", initial_weights, first_step, "trained")
    return table


def _steps_table(scores: dict[str, Any]) -> "Table":
    n_spectra = scores["n_spectra"]
    test_set = "test" if n_spectra["test"] else "validation"
    title = f"Means over the names in {n_spectra[test_set]} {test_set} spectra ({n_spectra['training']} trained)"
    table = list_table(title, ("network", "epochs", "validation loss", "F1", "always yes"))
    if n_spectra["test"]:
        loss = scores["before"]["validation_loss"]
        suffix = " (kept)" if scores["chosen"] == "before" else ""
        table.add_row(
            f"as given{suffix}", "", "" if loss is None else f"{loss:.4f}", *_mean_texts(scores["before"]["test"])
        )
    for key, name in (("first", "dense layers"), ("second", "all layers")):
        step_scores = scores[key]
        suffix = " (taken)" if scores["chosen"] == key else ""
        loss = f"{step_scores['validation_loss']:.4f}"
        table.add_row(f"{name}{suffix}", str(step_scores["epochs"]), loss, *_mean_texts(step_scores[test_set]))
    return table


def _mean_texts(scores: dict[str, Any]) -> list[str]:
    means = (scores["macro_f1"], scores["macro_always_yes_f1"])
    return ["" if mean is None else f"{mean:.3f}" for mean in means]


def _remarks_on_finetuning(scores: dict[str, Any]) -> list[str]:
    remarks = []
    if scores["chosen"] == "before":
        remarks.append("Fine-tuning did not improve the network on the held-out spectra: the network is unchanged.")
    if scores["n_hidden_labels"]:
        remarks.append(
            f"{scores['n_hidden_labels']:,} labels (of pigments and groups, by place) were left open: their lines are "
            "not visible in the spectra, so that nothing can be learned from these labels."
        )
    if scores["absent"]:
        remarks.append(
            f"{len(scores['absent'])} names were in no training spectrum: the network has learned that they are "
            "absent. Exclude them with identify --palette; report.json lists them."
        )
    return remarks
