"""Commands that train networks: ``train``, ``finetune``, ``adapt`` and ``reproduce``."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from underpaint.cli._console import list_table, progress, say, show, show_json
from underpaint.cli._outputs import new_folder
from underpaint.cli._scans import (
    InstrumentOption,
    JsonOption,
    NoCalibrateOption,
    QuietOption,
    ScanArgument,
    TrustInstrumentOption,
)

if TYPE_CHECKING:
    from rich.table import Table


class SplitBy(StrEnum):
    """What stays together when spectra are split into training and test set."""

    structure = "structure"
    pixel = "pixel"


StartOption = Annotated[
    str, typer.Option(metavar="NAME|FILE", help="Initial network: default, an .onnx file or a .ckpt file.")
]
PaletteOption = Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Palette: the pigments that may occur.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of the random numbers in simulation and training.")]


def train(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="TOML file with the training settings.")
    ] = None,
    instrument: Annotated[
        str | None,
        typer.Option(metavar="PRESET|FILE", help="Your scanner, for example a file from `underpaint calibrate`."),
    ] = None,
    palette: PaletteOption = None,
    out: Annotated[Path | None, new_folder("DIR", "Folder for the model, by default INSTRUMENT_PALETTE.")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="Maximum time on this machine in minutes.")] = 10.0,
    name: Annotated[str | None, typer.Option(help="Name of the model, by default the name of the folder.")] = None,
    model: StartOption = "default",
    seed: SeedOption = 0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Train a network with the settings in CONFIG, or in minutes for your instrument and palette.

    With --instrument and --palette, spectra of paintings are simulated for your scanner. Training starts from the
    weights of the built-in network, for all pigments that it has. The result is compared with the built-in network on
    simulated paintings that were held out. CONFIG names a library of `underpaint simulate` and all settings.

    The command writes NAME.onnx with its model card, report.json and checkpoints. The same command resumes an
    interrupted run. The extra `train` is required.

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
    from underpaint.lab.training import train as train_network

    training_settings = load_settings(config).model_copy(update={"progress": show_progress})
    training_report = train_network(training_settings)
    exported_file = export(
        training_report.trained_model.network, training_report.trained_model.card, training_settings.out
    )
    _show_report(training_report.as_dict(), exported_file, quiet=quiet, as_json=as_json)


def _refuse_options_with_config(config: Path, other_options: list[object]) -> None:
    from underpaint.errors import TrainingError

    if any(option is not None for option in other_options):
        raise TrainingError(
            f"Cannot train by {config} and by --instrument, --palette, --out or --name at once. Omit the file or the "
            f"options. The file names its library and folder."
        )


def adapt(
    scan: ScanArgument,
    out: Annotated[Path | None, new_folder("DIR", "Folder for the result, by default SCAN_adapted.")] = None,
    model: StartOption = "default",
    labels: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Labels of some pixels, with which the network is fine-tuned.")
    ] = None,
    instrument: Annotated[
        str | None,
        typer.Option(metavar="PRESET|FILE", help="Instrument with values that a spectrum does not determine."),
    ] = None,
    palette: PaletteOption = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="Maximum time on this machine in minutes.")] = 5.0,
    seed: SeedOption = 0,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Adapt a network to a scan without labels from an unknown instrument, or state why this would not help.

    The instrument is estimated from the scan's lines and scatter. Paintings are simulated for this instrument, and
    several methods of adaptation are compared on them. The best method is tested on newly simulated spectra. The method
    is used only if it improves on the unchanged network by more than two standard errors.

    With --labels, the network is fine-tuned as in the paper. `underpaint finetune` has more options. The same command
    resumes an interrupted run. The extra `train` is required.

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

    adaptation_report, folder = adapt_to_scan(
        scan, TrainingOptions(model, instrument, palette, out, minutes, seed), quiet=quiet or as_json
    )
    if as_json:
        show_json(adaptation_report.as_dict())
    elif not quiet:
        print_adaptation(adaptation_report, folder)


def reproduce(
    study: Annotated[
        str,
        typer.Argument(
            metavar="[WHAT]",
            help="Study to run: all, table3, figure5, figure6, figure8, figure9, figure10, limits or comparison.",
        ),
    ] = "table3",
    out: Annotated[Path, new_folder("DIR", "Folder for tables, figures and networks.")] = Path("reproduced"),
    small: Annotated[
        bool, typer.Option("--quick", help="Run all steps in minutes, as a trial. The scores have no meaning.")
    ] = False,
    materials: Annotated[
        str,
        typer.Option(metavar="table2|table1", help="Table from which the simulation set takes its thirteen materials."),
    ] = "table2",
    mockups: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER|SCAN", help="Use these measured mock-ups instead of virtual ones. Requires --labels."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="CSV",
            help="Labels of the mock-ups. Columns: file (or row, column), pigments, top, bottom, thickness_um.",
        ),
    ] = None,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Repeat the paper's experiments, and compare the scores with those of Xu et al. 2022.

    The data of the paper's mock-ups are not public, so virtual mock-ups replace them. Every table states this.

    The study table3 trains the paper's three models, and variants with other counts, materials, held-out structures and
    thicknesses. The studies figure5 to figure10 repeat the paper's figures with virtual paintings. The study limits
    determines the smallest detectable amount of vermilion, false positives, and effects of the paper's choices. The
    study comparison trains other networks by the same protocol.

    A run takes hours on two cores, or minutes with --quick. The same command resumes an interrupted run. The extra
    `train` is required.

    For example:

        underpaint reproduce all --quick --out quick

        underpaint reproduce table3 --out reproduced

        underpaint reproduce table3 --mockups FOLDER --labels labels.csv --out mine
    """
    _require_torch()
    from underpaint.errors import TrainingError
    from underpaint.lab.reproduction.plan import Plan, quick
    from underpaint.lab.reproduction.studies import STUDIES, mockup_note
    from underpaint.lab.reproduction.studies import reproduce as reproduce_study

    if materials not in {"table1", "table2"}:
        raise TrainingError(f"Cannot make the simulation set from {materials!r}: --materials is table2 or table1.")
    if (mockups is None) != (labels is None):
        raise TrainingError("Cannot use measured mock-ups: both --mockups and --labels are needed.")
    plan_update = {"materials": materials, "mockups": mockups, "labels": labels}
    study_plan = (quick(out) if small else Plan(out=out)).model_copy(update=plan_update)
    with progress(quiet=quiet or as_json) as report_progress:
        study_result = reproduce_study(study, study_plan, report_progress)
    if as_json:
        show_json(study_result)
        return
    table3_result = study_result if study == "table3" else study_result.get("table3")
    if not quiet and table3_result:
        show(_arm_scores_table(table3_result))
    written_files = ", ".join(f"{study_name}.json" for study_name in (STUDIES if study == "all" else (study,)))
    say(f"{mockup_note(study_plan)} Wrote {written_files} in {out}.", quiet=quiet)


def _arm_scores_table(table3_result: dict[str, Any]) -> "Table":
    headings = ("arm", "accuracy", "sensitivity", "F1", "paper's F1", "always yes F1", "groups' F1")
    scores_table = list_table("means of eleven pigments", headings)
    for experiment_arm, arm_scores in table3_result.items():
        if experiment_arm == "about":
            continue
        mean_scores = arm_scores["mean"]
        paper_f1 = f"{mean_scores['paper'][2]:.3f}" if "paper" in mean_scores else ""
        score_cells = [f"{mean_scores[score_name]:.3f}" for score_name in ("accuracy", "sensitivity", "f1")]
        comparison_scores = (f"{mean_scores['always_yes']['f1']:.3f}", f"{arm_scores['groups']['mean']['f1']:.3f}")
        scores_table.add_row(experiment_arm.replace("_", " "), *score_cells, paper_f1, *comparison_scores)
    return scores_table


def finetune(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="TOML file with all settings. It replaces the options.")
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="Initial network: default, xu2022, an .onnx file or a .ckpt file.")
    ] = "default",
    spectra: Annotated[
        str | None, typer.Option(metavar="FOLDER|SCAN", help="A scan, or a folder with single spectra.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(metavar="CSV", help="Labels of the spectra, in the format above.")
    ] = None,
    out: Annotated[Path | None, new_folder("DIR", "Folder for the new model, by default NAME_finetuned.")] = None,
    split: Annotated[
        SplitBy, typer.Option(help="What the test set holds out: whole structures, or single pixels as in the paper.")
    ] = SplitBy.structure,
    test_share: Annotated[
        float, typer.Option(min=0, max=0.9, help="Fraction of the spectra in the test set (0.8 in the paper).")
    ] = 0.2,
    dense_epochs: Annotated[
        int, typer.Option(min=1, help="Maximum number of epochs in the first step (dense layers).")
    ] = 20,
    epochs: Annotated[int, typer.Option(min=1, help="Maximum number of epochs in the second step (all layers).")] = 60,
    fresh_dense: Annotated[bool, typer.Option("--fresh-dense", help="Re-initialise the dense layers.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the random numbers in the split and in the training.")] = 0,
    instrument: InstrumentOption = None,
    trust_instrument: TrustInstrumentOption = False,
    no_calibrate: NoCalibrateOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Fine-tune a network with your labelled spectra: first the dense layers, then all layers, as in Xu et al. 2022.

    CSV has one line for each labelled pixel of a scan, counted from 0, or for each file of a folder:

        row,column,pigments,structure
        0,3,vermilion;lead_white;chalk,strip 1
        0,4,,bare canvas

        file,pigments
        spot_01.mca,azurite;chalk

    Name all pigments that are present, including those in the ground. All other pigments count as absent. The name of a
    group (mercury_red) means that at least one of its pigments is present. If the CSV has the columns `present` and
    `absent` instead of `pigments`, all other pigments count as unknown. The column `structure` is optional. Spectra
    with the same structure are all in the training set or all in the test set.

    A fifth of the spectra is held out as the test set. A fifth of the other spectra is held out for early stopping. The
    paper held out four fifths of 6,604 spectra. The command writes DIR/NAME.onnx with its model card, report.json and
    checkpoints. The same command resumes an interrupted run. The extra `train` is required.

    For example:

        underpaint finetune --spectra mockups.h5 --labels mockups.csv

        underpaint finetune --model xu2022 --spectra spots --labels spots.csv --out ours

        underpaint identify painting.h5 --model ours/xu2022_finetuned.onnx

        underpaint finetune settings.toml --model runs/default/best.ckpt
    """
    _require_torch()
    from underpaint.cli._finetune import UserData, finetune_on_spectra, finetune_with_settings_file, print_finetuning
    from underpaint.lab.training import export

    show_progress = not (quiet or as_json)
    if config is not None:
        finetuning_report, folder = finetune_with_settings_file(
            config, model, [spectra, labels, out], progress=show_progress
        )
    else:
        user_data = UserData(
            spectra, labels, instrument, calibrated=not no_calibrate, trust_instrument=trust_instrument
        )
        given_settings = {
            "split": split.value,
            "test_share": test_share,
            "dense_epochs": dense_epochs,
            "epochs": epochs,
        }
        given_settings |= {"fresh_dense": fresh_dense, "seed": seed, "progress": show_progress}
        finetuning_report, folder = finetune_on_spectra(model, user_data, out, given_settings, quiet=not show_progress)
    exported_file = export(finetuning_report.trained_model.network, finetuning_report.trained_model.card, folder)
    if as_json:
        show_json(finetuning_report.as_dict() | {"model": str(exported_file)})
    elif not quiet:
        print_finetuning(finetuning_report, exported_file)


def _show_report(report_values: dict[str, Any], exported_file: Any, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        show_json(report_values | {"model": str(exported_file)})
        return
    last_step_values = report_values.get("second", report_values)
    say(f"Epochs: {last_step_values['epochs']}, validation loss {last_step_values['validation_loss']}", quiet=quiet)
    say(f"Wrote {exported_file}. Use it with --model {exported_file}", quiet=quiet)


def _require_torch() -> None:
    """Raise an error if a package that training needs is not installed.

    Raises
    ------
    MissingExtraError
        torch, lightning or onnx is not installed.
    """
    from importlib.util import find_spec

    from underpaint.errors import MissingExtraError

    missing_packages = [package for package in ("torch", "lightning", "onnx") if find_spec(package) is None]
    if missing_packages:
        raise MissingExtraError(
            f'Cannot train: {", ".join(missing_packages)} is not installed. Run `pip install "underpaint[train]"`.'
        )
