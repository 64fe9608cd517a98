"""What `finetune` does with a user's spectra, and how it tells the result."""

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
    Trained,
    labelled,
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


_FEW = 6


@dataclass(frozen=True)
class Asked:
    """What both commands may be asked for."""

    model: str
    instrument: str | None
    palette: str | None
    out: Path | None
    minutes: float | None
    seed: int

    def chosen(self) -> dict[str, Any]:
        """Return the settings that were given."""
        own = {"minutes": self.minutes, "seed": self.seed}
        return {name: value for name, value in own.items() if value is not None}


def make_instrument_model(asked: Asked, name: str | None, *, quiet: bool) -> InstrumentModelReport:
    """Train for an instrument and a palette.

    Raises
    ------
    TrainingError
        One of the two was not given.
    """
    if asked.instrument is None or asked.palette is None:
        raise TrainingError(
            "Cannot train: give a CONFIG file, or both --instrument and --palette for a model of your own "
            "(`underpaint calibrate` makes an instrument file, `underpaint pigments palettes` lists palettes)."
        )
    instrument, palette = load_instrument(asked.instrument), load_palette(asked.palette)
    label = name or "_".join((Path(asked.instrument).stem, Path(asked.palette).stem))
    given = {"instrument": instrument, "palette": palette.pigments, "start": asked.model, "name": label}
    settings = InstrumentModelSettings.model_validate({**given, "out": asked.out or Path(label), **asked.chosen()})
    with progress(quiet=quiet) as step:
        return train_instrument_model(settings, step)


def adapted(scan: str, asked: Asked, *, quiet: bool) -> tuple[AdaptReport, Path]:
    """Adapt to a scan without labels; returns the report and the folder."""
    base = None if asked.instrument is None else load_instrument(asked.instrument)
    palette = None if asked.palette is None else load_palette(asked.palette).pigments
    with progress(quiet=quiet) as step:
        step("Opening the scan", 0, 1)
        spectra = load(scan)
        out = asked.out or Path(f"{spectra.name}_adapted")
        settings = AdaptSettings.model_validate(
            {"out": out, "model": asked.model, "palette": palette, **asked.chosen()}
        )
        return adapt(spectra, settings, base=base, progress=step), out


def show_instrument_model(report: InstrumentModelReport, start: str) -> None:
    """Print what was done, how long it took, and what the model gains or loses beside the one it began with."""
    sizes, begun = report.sizes, report.initial
    spent = ", ".join(f"{part} {minutes:.1f}" for part, minutes in report.minutes.items())
    say(f"Simulated {sizes.n_stratigraphies} stratigraphies and {sizes.n_held_out} to score on; {sizes.epochs} epochs.")
    say(f"Minutes: {sum(report.minutes.values()):.1f} in this call ({spent}).")
    fresh = f"; begun anew: {_some(begun.fresh)}" if begun.fresh else ""
    n_known = len(begun.transferred)
    say(f"Taken over from {start}: {n_known} of {n_known + len(begun.fresh)} names{fresh}.")
    show(_against_start(report, start))
    if report.fresh_f1:
        told = [f"{name} {f1:.2f}" for name, f1 in report.fresh_f1.items()]
        say(f"F1 of what {start} does not know: {', '.join(told)}")
    say(f"Wrote {report.model} and its card; use it with --model {report.model}")


def _against_start(report: InstrumentModelReport, start: str) -> "Table":
    heads = ("held-out spectra", "names", start, "this model", "gain", "standard error")
    found = list_table("Mean F1", heads)
    for what, own in report.against_start.items():
        figures = f"{own.before:.3f}", f"{own.after:.3f}", f"{own.gain:+.3f}", f"{own.standard_error:.3f}"
        found.add_row(what, str(own.n_name), *figures)
    return found


def show_adapted(report: AdaptReport, out: Path) -> None:
    """Print what was found of the instrument, how each way did, what was decided, and where it lies."""
    say(f"Instrument: {report.instrument.note}")
    for missing in report.calibration.missing:
        say(f"- not found: {missing}")
    show(_ways(report))
    say(report.in_words())
    say(f"Wrote {out / 'instrument.toml'} and {out / 'report.json'}.")
    if report.model is not None:
        say(f"Wrote {report.model} and its card; use it with --model {report.model}")
    elif report.accepted:
        say(f"The weights stay: tell the model the instrument with --instrument {out / 'instrument.toml'}")


def _ways(report: AdaptReport) -> "Table":
    found = list_table("Loss on simulated spectra of the fitted instrument", ("way", "loss"))
    for way, loss in report.validation.items():
        best = " (lowest)" if way == report.chosen else ""
        found.add_row(f"{way.replace('_', ', ')}{best}", f"{loss:.4f}")
    return found


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more


_STEPS_PER_EPOCH = 20
_SMALLEST_BATCH, _PAPERS_BATCH = 4, 64


@dataclass(frozen=True)
class UserData:
    """Spectra and labels of a user, as the options name them."""

    spectra: str | None
    labels: Path | None
    instrument: str | None
    calibrated: bool
    trust_instrument: bool = False
    notes: list[str] = field(default_factory=list)

    def on_axis(self, scan: Scan) -> Scan:
        """Put a scan on the energy axis that `identify` would use; what there is to say about it joins the notes."""
        axis = resolve_energy_axis(
            scan, instrument=self.instrument, calibrated=self.calibrated, trust_instrument=self.trust_instrument
        )
        self.notes.extend((*axis.alerts, *axis.notes))
        return axis.scan


def from_config(config: Path, model: str, others: Sequence[object], *, progress: bool) -> tuple[FinetuneReport, Path]:
    """Fine-tune by a file of settings.

    Raises
    ------
    TrainingError
        Options that the file stands for were given as well.
    """
    if any(each is not None for each in others):
        raise TrainingError(
            f"Cannot fine-tune by {config} and by --spectra, --labels or --out at once. Write library, labels and out "
            "into the file, or leave the file away."
        )
    settings = load_finetune_settings(config).model_copy(update={"progress": progress})
    return run(model, settings), settings.out


def from_spectra(
    model: str, data: UserData, out: Path | None, chosen: dict[str, Any], *, quiet: bool
) -> tuple[FinetuneReport, Path]:
    """Fine-tune on a user's spectra with the paper's settings, but for what was chosen.

    Raises
    ------
    TrainingError
        The spectra or the labels were not given.
    """
    if data.spectra is None or data.labels is None:
        raise TrainingError(
            "Cannot fine-tune without spectra and labels. Give both, as in `underpaint finetune --spectra SCAN "
            "--labels CSV` (see `underpaint finetune --help` for the CSV), or a file of settings."
        )
    with progress(quiet=quiet) as step:
        step("Opening the network", 0, 1)
        start = load_trainable(model)
        step("Reading the labelled spectra", 0, 1)
        library = labelled(data.spectra, data.labels, start.card, on_axis=data.on_axis)
    settings = _settings(model, start, data, library, out, chosen)
    for note in (*dict.fromkeys(data.notes), *_on_structures(library, settings)):
        say(note, quiet=quiet)
    return run(start, settings, library), settings.out


def _settings(
    model: str, start: Trained, data: UserData, library: Library, out: Path | None, chosen: dict[str, Any]
) -> FinetuneSettings:
    stem = start.card.name if Path(model).suffix == ".ckpt" else Path(model).stem
    n_train = len(library) * (1 - chosen["test_share"])
    return FinetuneSettings.model_validate(
        {
            "library": [data.spectra],
            "labels": data.labels,
            "out": out or Path(f"{library.origin[0]}_finetuned"),
            "name": f"{stem.removesuffix('_finetuned')}_finetuned",
            "kind": start.card.kind,
            # The paper's 64 of 1,300 spectra are some twenty steps an epoch; fewer spectra take smaller batches.
            "batch": min(_PAPERS_BATCH, max(_SMALLEST_BATCH, round(n_train / _STEPS_PER_EPOCH))),
            "precision": "32",
            **chosen,
        }
    )


def _on_structures(library: Library, settings: FinetuneSettings) -> list[str]:
    if settings.split == "pixel" or np.unique(library.source).size < len(library):
        return []
    return [
        "The labels name no structures: each spectrum counts as its own. Where several show one strip of paint, the "
        "test flatters; a column `structure` keeps them together."
    ]


def show_finetuned(report: FinetuneReport, exported: Path) -> None:
    """Print which layers were loaded, frozen and begun anew, what was reached, and where the model lies."""
    figures = report.as_dict()
    show(_layers(figures))
    show(_steps(figures))
    for sentence in _remarks(figures):
        say(sentence)
    say(f"Wrote {exported} and its card; use it with --model {exported}")


def _layers(figures: dict[str, Any]) -> "Table":
    table = list_table("Layers", ("layer", "weights", "begins", "first step", "second step"))
    for name, n_weight in figures["weights"].items():
        begins = "re-initialised" if name in figures["reinitialised"] else "loaded"
        first = "frozen" if name in figures["frozen_in_first_step"] else "trained"
        table.add_row(name, f"{n_weight:,}", begins, first, "trained")
    return table


def _steps(figures: dict[str, Any]) -> "Table":
    n_spectra = figures["n_spectra"]
    where = "test" if n_spectra["test"] else "validation"
    title = f"Means over the names in {n_spectra[where]} {where} spectra ({n_spectra['training']} trained)"
    table = list_table(title, ("network", "epochs", "validation loss", "F1", "always yes"))
    if n_spectra["test"]:
        loss = figures["before"]["validation_loss"]
        chosen = " (kept)" if figures["chosen"] == "before" else ""
        table.add_row(
            f"as given{chosen}", "", "" if loss is None else f"{loss:.4f}", *_means(figures["before"]["test"])
        )
    for key, name in (("first", "dense layers"), ("second", "all layers")):
        own = figures[key]
        chosen = " (taken)" if figures["chosen"] == key else ""
        loss = f"{own['validation_loss']:.4f}"
        table.add_row(f"{name}{chosen}", str(own["epochs"]), loss, *_means(own[where]))
    return table


def _means(figures: dict[str, Any]) -> list[str]:
    means = (figures["macro_f1"], figures["macro_always_yes_f1"])
    return ["" if mean is None else f"{mean:.3f}" for mean in means]


def _remarks(figures: dict[str, Any]) -> list[str]:
    remarks = []
    if figures["chosen"] == "before":
        remarks.append("Fine-tuning made it no better on the spectra that were held out: the network is as it was.")
    if figures["n_hidden_labels"]:
        remarks.append(
            f"{figures['n_hidden_labels']:,} labels (of pigments and groups, by place) were left open: their lines do "
            "not stand out of their spectra, so that nothing can be learned from them."
        )
    if figures["absent"]:
        remarks.append(
            f"{len(figures['absent'])} names were in no training spectrum: the network has learned that they are "
            "absent. Do not ask it for them (identify --palette); report.json lists them."
        )
    return remarks
