"""Commands that train networks: train, finetune, adapt, reproduce."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from underpaint.cli._console import list_table, progress, say, show, show_json
from underpaint.cli._outputs import new_folder
from underpaint.cli._scans import InstrumentOption, Json, NoCalibrate, OneScan, Quiet, TrustInstrument

if TYPE_CHECKING:
    from rich.table import Table


class SplitBy(StrEnum):
    """Unit of the split into training and test set."""

    structure = "structure"
    pixel = "pixel"


StartOption = Annotated[str, typer.Option(metavar="NAME|FILE", help="Initial network: default, an .onnx or a .ckpt.")]
PaletteOption = Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Pigments that may occur.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of paintings, instruments, noise and order.")]


def train(
    config: Annotated[Path | None, typer.Argument(metavar="CONFIG", help="TOML file of the training settings.")] = None,
    instrument: Annotated[
        str | None, typer.Option(metavar="PRESET|FILE", help="Your scanner, e.g. a file from `underpaint calibrate`.")
    ] = None,
    palette: PaletteOption = None,
    out: Annotated[Path | None, new_folder("DIR", "Folder of the model; by default INSTRUMENT_PALETTE.")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="Maximum time on this machine, minutes.")] = 10.0,
    name: Annotated[str | None, typer.Option(help="Name of the model; by default the name of the folder.")] = None,
    model: StartOption = "default",
    seed: SeedOption = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a network on the library of a CONFIG, or in minutes a model for your instrument and palette.

    With --instrument and --palette, paintings are simulated for your scanner, and the weights of the built-in network
    are transferred for the pigments that it has, and trained further. The result is compared with the built-in network
    on held-out simulated paintings. CONFIG names a library of `underpaint simulate` and all settings.

    Writes checkpoints, report.json, and NAME.onnx with its model card. The same command resumes an interrupted run.
    Needs the extra `train`.

    For example:

        underpaint train --instrument ours.toml --palette old_master --out ours

        underpaint identify painting.h5 --model ours/ours_old_master.onnx

        underpaint train examples/default_training.toml
    """
    _require_torch()
    show_progress = not (quiet or as_json)
    if config is None:
        from underpaint.cli._finetune import TrainingOptions, make_instrument_model, print_instrument_model

        instrument_model_report = make_instrument_model(
            TrainingOptions(model, instrument, palette, out, minutes, seed), name, quiet=not show_progress
        )
        if as_json:
            show_json(instrument_model_report.as_dict())
        elif not quiet:
            print_instrument_model(instrument_model_report, model)
        return
    _refuse_options_with_config(config, [instrument, palette, out, name])
    from underpaint.lab.training import export, load_settings
    from underpaint.lab.training import train as run

    settings = load_settings(config).model_copy(update={"progress": show_progress})
    report = run(settings)
    exported = export(report.trained_model.network, report.trained_model.card, settings.out)
    _show_report(report.as_dict(), exported, quiet=quiet, as_json=as_json)


def _refuse_options_with_config(config: Path, other_options: list[object]) -> None:
    from underpaint.errors import TrainingError

    if any(option is not None for option in other_options):
        raise TrainingError(
            f"Cannot train by {config} and by --instrument, --palette, --out or --name at once. Omit the file or the "
            "options; the file names its library and folder."
        )


def adapt(
    scan: OneScan,
    out: Annotated[Path | None, new_folder("DIR", "Folder of the result; by default SCAN_adapted.")] = None,
    model: StartOption = "default",
    labels: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Labels of some pixels; the network is then fine-tuned.")
    ] = None,
    instrument: Annotated[
        str | None,
        typer.Option(metavar="PRESET|FILE", help="Source of values that a spectrum does not determine."),
    ] = None,
    palette: PaletteOption = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="Maximum time on this machine, minutes.")] = 5.0,
    seed: SeedOption = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Adapt a network to a scan of an unknown instrument, without labels; or state why that would not help.

    The instrument is fitted to the scan's lines and scatter, paintings are simulated for this instrument, and several
    methods of adaptation are compared. The best is used only if it is better than the unchanged network by more than
    two standard errors on newly simulated spectra of this instrument.

    With --labels, the network is fine-tuned as in the paper; `underpaint finetune` has more options. The same command
    resumes an interrupted run. Needs the extra `train`.

    For example:

        underpaint adapt painting.h5 --out ours

        underpaint adapt painting.h5 --instrument ours.toml --minutes 10

        underpaint adapt mockups.h5 --labels mockups.csv
    """
    if labels is not None:
        finetune(config=None, model=model, spectra=scan, labels=labels, out=out, seed=seed, instrument=instrument,
                 quiet=quiet, as_json=as_json)  # fmt: skip
        return
    _require_torch()
    from underpaint.cli._finetune import TrainingOptions, adapt_to_scan, print_adaptation

    report, folder = adapt_to_scan(
        scan, TrainingOptions(model, instrument, palette, out, minutes, seed), quiet=quiet or as_json
    )
    if as_json:
        show_json(report.as_dict())
    elif not quiet:
        print_adaptation(report, folder)


def reproduce(
    study: Annotated[
        str,
        typer.Argument(
            metavar="[WHAT]",
            help="all, table3, figure5, figure6, figure8, figure9, figure10, limits or comparison.",
        ),
    ] = "table3",
    out: Annotated[Path, new_folder("DIR", "Folder for tables, figures and networks.")] = Path("reproduced"),
    small: Annotated[
        bool, typer.Option("--quick", help="The same steps in minutes; the scores are meaningless.")
    ] = False,
    materials: Annotated[
        str, typer.Option(metavar="table2|table1", help="The thirteen materials of the simulation set.")
    ] = "table2",
    mockups: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER|SCAN", help="Measured mock-ups instead of virtual ones; needs --labels."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV", help="Labels of the mock-ups: file (or row, column), pigments, top, bottom, thickness_um."
        ),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Reproduce the experiments of Xu et al. 2022 and compare the scores; the same command resumes an interrupted run.

    The paper's mock-ups are not public: virtual mock-ups replace them, and every table states this.

    table3: the three arms, and variants of counts, materials, and held-out structures and thickness. figure5 to
    figure10: the paper's figures on virtual paintings. limits: minimum detectable vermilion, false positives, and the
    effect of the paper's choices. comparison: other networks by the same protocol.

    Hours on two cores, minutes with --quick. Needs the extra `train`.

    For example:

        underpaint reproduce all --quick --out quick

        underpaint reproduce table3 --out reproduced

        underpaint reproduce table3 --mockups FOLDER --labels labels.csv --out mine
    """
    _require_torch()
    from underpaint.errors import TrainingError
    from underpaint.lab.reproduction.plan import Plan, quick
    from underpaint.lab.reproduction.studies import STUDIES, mockup_note
    from underpaint.lab.reproduction.studies import reproduce as run

    if materials not in {"table1", "table2"}:
        raise TrainingError(f"Cannot make the simulation set from {materials!r}: --materials is table2 or table1.")
    if (mockups is None) != (labels is None):
        raise TrainingError("Cannot use measured mock-ups: both --mockups and --labels are needed.")
    update = {"materials": materials, "mockups": mockups, "labels": labels}
    plan = (quick(out) if small else Plan(out=out)).model_copy(update=update)
    with progress(quiet=quiet or as_json) as step:
        result = run(study, plan, step)
    if as_json:
        show_json(result)
        return
    table3_result = result if study == "table3" else result.get("table3")
    if not quiet and table3_result:
        show(_table3_of_result(table3_result))
    written = ", ".join(f"{name}.json" for name in (STUDIES if study == "all" else (study,)))
    say(f"{mockup_note(plan)} Wrote {written} in {out}.", quiet=quiet)


def _table3_of_result(result: dict[str, Any]) -> "Table":
    columns = ("arm", "accuracy", "sensitivity", "F1", "paper's F1", "always yes F1", "groups' F1")
    table = list_table("means of eleven pigments", columns)
    for arm, arm_scores in result.items():
        if arm == "about":
            continue
        mean_scores = arm_scores["mean"]
        paper_f1 = f"{mean_scores['paper'][2]:.3f}" if "paper" in mean_scores else ""
        cells = [f"{mean_scores[name]:.3f}" for name in ("accuracy", "sensitivity", "f1")]
        comparison_scores = (f"{mean_scores['always_yes']['f1']:.3f}", f"{arm_scores['groups']['mean']['f1']:.3f}")
        table.add_row(arm.replace("_", " "), *cells, paper_f1, *comparison_scores)
    return table


def finetune(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="TOML file of all settings, instead of the options.")
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Initial network: default, xu2022, an .onnx or a .ckpt.")
    ] = "default",
    spectra: Annotated[
        str | None, typer.Option(metavar="FOLDER|SCAN", help="A scan, or a folder of single spectra.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(metavar="CSV", help="Labels of the spectra, see above.")] = None,
    out: Annotated[Path | None, new_folder("DIR", "Folder of the new model; by default NAME_finetuned.")] = None,
    split: Annotated[
        SplitBy, typer.Option(help="Unit of the test set: whole structures, or, as in the paper, single pixels.")
    ] = SplitBy.structure,
    test_share: Annotated[
        float, typer.Option(min=0, max=0.9, help="Fraction held out as the test set; the paper held out 0.8.")
    ] = 0.2,
    dense_epochs: Annotated[int, typer.Option(min=1, help="Maximum epochs of the first step (dense layers).")] = 20,
    epochs: Annotated[int, typer.Option(min=1, help="Maximum epochs of the second step (all layers).")] = 60,
    fresh_dense: Annotated[bool, typer.Option("--fresh-dense", help="Re-initialise the dense layers.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split and the training.")] = 0,
    instrument: InstrumentOption = None,
    trust_instrument: TrustInstrument = False,
    no_calibrate: NoCalibrate = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fine-tune a network on your labelled spectra: first the dense layers, then all, as in Xu et al. 2022.

    CSV contains the labels, a line for each pixel of a scan (counted from 0) or each file of a folder:

        row,column,pigments,structure
        0,3,vermilion;lead_white;chalk,strip 1
        0,4,,bare canvas

        file,pigments
        spot_01.mca,azurite;chalk

    Name all pigments that are present, also in the ground: pigments that a line does not name count as absent. A group
    (mercury_red) means that any of its pigments is present. With columns `present` and `absent` instead of `pigments`,
    pigments that are not named are unknown. Lines of one `structure` (optional) are never split between training and
    test set.

    A fifth is held out as the test set and a fifth of the remainder for early stopping; the paper, with 6,604 spectra,
    held out four fifths. Writes DIR/NAME.onnx with its card, report.json and checkpoints; the same command resumes an
    interrupted run. Needs the extra `train`.

    For example:

        underpaint finetune --spectra mockups.h5 --labels mockups.csv

        underpaint finetune --model xu2022 --spectra spots --labels spots.csv --out ours

        underpaint identify painting.h5 --model ours/xu2022_finetuned.onnx

        underpaint finetune settings.toml --model runs/default/best.ckpt
    """
    _require_torch()
    from underpaint.cli._finetune import UserData, from_config, from_spectra, print_finetuning
    from underpaint.lab.training import export

    show_progress = not (quiet or as_json)
    if config is not None:
        report, folder = from_config(config, model, [spectra, labels, out], progress=show_progress)
    else:
        data = UserData(spectra, labels, instrument, calibrated=not no_calibrate, trust_instrument=trust_instrument)
        given_settings = {
            "split": split.value,
            "test_share": test_share,
            "dense_epochs": dense_epochs,
            "epochs": epochs,
        }
        given_settings |= {"fresh_dense": fresh_dense, "seed": seed, "progress": show_progress}
        report, folder = from_spectra(model, data, out, given_settings, quiet=not show_progress)
    exported = export(report.trained_model.network, report.trained_model.card, folder)
    if as_json:
        show_json(report.as_dict() | {"model": str(exported)})
    elif not quiet:
        print_finetuning(report, exported)


def _show_report(report_values: dict[str, Any], exported: Any, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        show_json(report_values | {"model": str(exported)})
        return
    last_step = report_values.get("second", report_values)
    say(f"Epochs: {last_step['epochs']}, validation loss {last_step['validation_loss']}", quiet=quiet)
    say(f"Wrote {exported}; use it with --model {exported}", quiet=quiet)


def _require_torch() -> None:
    """Raise an error if the packages for training are missing, before anything is read.

    Raises
    ------
    MissingExtraError
        torch or lightning is not installed.
    """
    from importlib.util import find_spec

    from underpaint.errors import MissingExtraError

    missing = [name for name in ("torch", "lightning", "onnx") if find_spec(name) is None]
    if missing:
        raise MissingExtraError(
            f'Cannot train: {", ".join(missing)} is not installed. Run `pip install "underpaint[train]"`.'
        )
