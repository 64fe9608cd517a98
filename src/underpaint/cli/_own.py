"""What `train --instrument` and `adapt` do, and how they tell the result."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from underpaint.cli._console import progress, say, show
from underpaint.errors import TrainingError
from underpaint.io import load
from underpaint.lab.training.adapting import AdaptReport, AdaptSettings, adapt
from underpaint.lab.training.own_model import OwnModelReport, OwnModelSettings, train_own_model
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


def own_model(asked: Asked, name: str | None, *, quiet: bool) -> OwnModelReport:
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
    settings = OwnModelSettings.model_validate({**given, "out": asked.out or Path(label), **asked.chosen()})
    with progress(quiet=quiet) as step:
        return train_own_model(settings, step)


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


def show_own_model(report: OwnModelReport, start: str) -> None:
    """Print what was done, how long it took, and what the model gains or loses beside the one it began with."""
    sizes, begun = report.sizes, report.begun
    spent = ", ".join(f"{part} {minutes:.1f}" for part, minutes in report.minutes.items())
    say(f"Simulated {sizes.n_stratigraphies} stratigraphies and {sizes.n_held_out} to score on; {sizes.epochs} epochs.")
    say(f"Minutes: {sum(report.minutes.values()):.1f} in this call ({spent}).")
    fresh = f"; begun anew: {_some(begun.fresh)}" if begun.fresh else ""
    say(f"Taken over from {start}: {len(begun.taken)} of {len(begun.taken) + len(begun.fresh)} names{fresh}.")
    show(_against_start(report, start))
    if report.fresh_f1:
        told = [f"{name} {f1:.2f}" for name, f1 in report.fresh_f1.items()]
        say(f"F1 of what {start} does not know: {', '.join(told)}")
    say(f"Wrote {report.model} and its card; use it with --model {report.model}")


def _against_start(report: OwnModelReport, start: str) -> "Table":
    from rich.table import Table

    found = Table(
        "held-out spectra",
        "names",
        start,
        "this model",
        "gain",
        "standard error",
        title="Mean F1",
        title_justify="left",
    )
    for what, own in report.against_start.items():
        found.add_row(
            what,
            str(own.n_name),
            f"{own.before:.3f}",
            f"{own.after:.3f}",
            f"{own.gain:+.3f}",
            f"{own.standard_error:.3f}",
        )
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
    elif report.taken:
        say(f"The weights stay: tell the model the instrument with --instrument {out / 'instrument.toml'}")


def _ways(report: AdaptReport) -> "Table":
    from rich.table import Table

    found = Table("way", "loss", title="Loss on simulated spectra of the fitted instrument", title_justify="left")
    for way, loss in report.validation.items():
        best = " (lowest)" if way == report.chosen else ""
        found.add_row(f"{way.replace('_', ', ')}{best}", f"{loss:.4f}")
    return found


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return ", ".join(names[:_FEW]) + more
