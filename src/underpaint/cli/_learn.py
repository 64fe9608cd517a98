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
    """What a test of fine-tuning keeps apart."""

    structure = "structure"
    pixel = "pixel"


StartOption = Annotated[
    str, typer.Option(metavar="NAME|FILE", help="The network to begin with: default, an .onnx or a .ckpt.")
]
PaletteOption = Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Pigments that may be there.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of paintings, instruments, noise and order.")]


def train(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="TOML file of the training's settings.")
    ] = None,
    instrument: Annotated[
        str | None, typer.Option(metavar="PRESET|FILE", help="Your scanner, as `underpaint calibrate` writes it.")
    ] = None,
    palette: PaletteOption = None,
    out: Annotated[Path | None, new_folder("DIR", "Folder of the model; INSTRUMENT_PALETTE here if not given.")] = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="What it may take on this machine.")] = 10.0,
    name: Annotated[str | None, typer.Option(help="Name of the model; that of the folder if not given.")] = None,
    model: StartOption = "default",
    seed: SeedOption = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train a network on a library by CONFIG, or in minutes a model for your instrument and palette.

    With --instrument and --palette paintings are simulated as your scanner sees them, the shipped network's weights
    are taken over where it knows the palette, and trained; the result is scored beside the shipped network on
    held-out simulated paintings. CONFIG names a library of `underpaint simulate` and all settings.

    Writes checkpoints, report.json, and NAME.onnx with its model card. The same call goes on where an interrupted one
    stopped. Needs the extra `train`.

    **Examples**

        underpaint train --instrument ours.toml --palette old_master --out ours

        underpaint identify painting.h5 --model ours/ours_old_master.onnx

        underpaint train examples/default_training.toml
    """
    _require_torch()
    loud = not (quiet or as_json)
    if config is None:
        from underpaint.cli._finetune import Asked, make_instrument_model, show_instrument_model

        made = make_instrument_model(Asked(model, instrument, palette, out, minutes, seed), name, quiet=not loud)
        if as_json:
            show_json(made.as_dict())
        elif not quiet:
            show_instrument_model(made, model)
        return
    _refuse_beside_config(config, [instrument, palette, out, name])
    from underpaint.lab.training import export, load_settings
    from underpaint.lab.training import train as run

    settings = load_settings(config).model_copy(update={"progress": loud})
    report = run(settings)
    exported = export(report.trained.network, report.trained.card, settings.out)
    _show_report(report.as_dict(), exported, quiet=quiet, as_json=as_json)


def _refuse_beside_config(config: Path, others: list[object]) -> None:
    from underpaint.errors import TrainingError

    if any(each is not None for each in others):
        raise TrainingError(
            f"Cannot train by {config} and by --instrument, --palette, --out or --name at once. Leave either away; "
            "the file itself names its library and folder."
        )


def adapt(
    scan: OneScan,
    out: Annotated[Path | None, new_folder("DIR", "Folder of the result; SCAN_adapted here if not given.")] = None,
    model: StartOption = "default",
    labels: Annotated[
        Path | None, typer.Option(metavar="CSV", help="What is known of some pixels; then as `underpaint finetune`.")
    ] = None,
    instrument: Annotated[
        str | None,
        typer.Option(metavar="PRESET|FILE", help="Supplies what a spectrum cannot tell: window, angles, optic."),
    ] = None,
    palette: PaletteOption = None,
    minutes: Annotated[float, typer.Option(min=0.1, help="What it may take on this machine.")] = 5.0,
    seed: SeedOption = 0,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Adapt a network to a scan of an unknown instrument, without labels; or say why that would not help.

    The instrument is fitted from the scan's own lines and scatter, paintings are simulated as it would see them, and
    several ways of adapting are tried. The best is taken only if it beats the network as it is by more than two
    standard errors on fresh simulated spectra of that instrument.

    With --labels it is the paper's fine-tuning, as `underpaint finetune` does it with more options. The same call goes
    on where an interrupted one stopped. Needs the extra `train`.

    **Examples**

        underpaint adapt painting.h5 --out ours

        underpaint adapt painting.h5 --instrument ours.toml --minutes 10

        underpaint adapt mockups.h5 --labels mockups.csv
    """
    if labels is not None:
        finetune(config=None, model=model, spectra=scan, labels=labels, out=out, seed=seed, instrument=instrument,
                 quiet=quiet, as_json=as_json)  # fmt: skip
        return
    _require_torch()
    from underpaint.cli._finetune import Asked, adapted, show_adapted

    report, folder = adapted(scan, Asked(model, instrument, palette, out, minutes, seed), quiet=quiet or as_json)
    if as_json:
        show_json(report.as_dict())
    elif not quiet:
        show_adapted(report, folder)


def reproduce(
    what: Annotated[
        str,
        typer.Argument(
            metavar="[WHAT]",
            help="all, table3, figure5, figure6, figure8, figure9, figure10, limits or comparison.",
        ),
    ] = "table3",
    out: Annotated[Path, new_folder("DIR", "Folder for tables, pictures and networks.")] = Path("reproduced"),
    small: Annotated[bool, typer.Option("--quick", help="The same path in minutes; its figures mean nothing.")] = False,
    materials: Annotated[
        str, typer.Option(metavar="table2|table1", help="Which thirteen materials make the simulation set.")
    ] = "table2",
    mockups: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER|SCAN", help="Measured mock-ups in place of the virtual ones; needs --labels."),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(metavar="CSV", help="What they hold: file (or row, column), pigments, top, bottom, thickness_um."),
    ] = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run Xu et al. 2022 again and set its figures beside ours; the same call goes on where it stopped.

    The paper's mock-ups are not public: virtual ones stand in, and every table says so.

    table3: the three arms, and beside them counts, both readings of the materials, structures and thickness held out.
    figure5 to figure10: the paper's pictures on virtual paintings. limits: least vermilion, false positives, and what
    the paper's choices change. comparison: other networks by the same protocol.

    Hours on two cores, minutes with --quick. Needs the extra `train`.

    **Examples**

        underpaint reproduce all --quick --out quick

        underpaint reproduce table3 --out reproduced

        underpaint reproduce table3 --mockups FOLDER --labels labels.csv --out mine
    """
    _require_torch()
    from underpaint.errors import TrainingError
    from underpaint.lab.reproduction.plan import Plan, quick
    from underpaint.lab.reproduction.studies import STUDIES, note
    from underpaint.lab.reproduction.studies import reproduce as run

    if materials not in {"table1", "table2"}:
        raise TrainingError(f"Cannot make the simulation set from {materials!r}: --materials is table2 or table1.")
    if (mockups is None) != (labels is None):
        raise TrainingError("Cannot use measured mock-ups: --mockups and --labels are needed both.")
    update = {"materials": materials, "mockups": mockups, "labels": labels}
    plan = (quick(out) if small else Plan(out=out)).model_copy(update=update)
    with progress(quiet=quiet or as_json) as step:
        result = run(what, plan, step)
    if as_json:
        show_json(result)
        return
    table3 = result if what == "table3" else result.get("table3")
    if not quiet and table3:
        show(_table3(table3))
    written = ", ".join(f"{name}.json" for name in (STUDIES if what == "all" else (what,)))
    say(f"{note(plan)} Wrote {written} in {out}.", quiet=quiet)


def _table3(result: dict[str, Any]) -> "Table":
    columns = ("arm", "accuracy", "sensitivity", "F1", "paper's F1", "always yes F1", "groups' F1")
    table = list_table("means of eleven pigments", columns)
    for arm, figures in result.items():
        if arm == "about":
            continue
        mean = figures["mean"]
        paper = f"{mean['paper'][2]:.3f}" if "paper" in mean else ""
        cells = [f"{mean[name]:.3f}" for name in ("accuracy", "sensitivity", "f1")]
        others = (f"{mean['always_yes']['f1']:.3f}", f"{figures['groups']['mean']['f1']:.3f}")
        table.add_row(arm.replace("_", " "), *cells, paper, *others)
    return table


def finetune(
    config: Annotated[
        Path | None, typer.Argument(metavar="CONFIG", help="TOML file of all settings, in place of the options.")
    ] = None,
    model: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="The network to begin with: default, xu2022, an .onnx or a .ckpt.")
    ] = "default",
    spectra: Annotated[
        str | None, typer.Option(metavar="FOLDER|SCAN", help="A scan, or a folder of single spectra.")
    ] = None,
    labels: Annotated[Path | None, typer.Option(metavar="CSV", help="What is known of them, see above.")] = None,
    out: Annotated[Path | None, new_folder("DIR", "Folder of the new model; NAME_finetuned here if not given.")] = None,
    split: Annotated[
        SplitBy, typer.Option(help="What the test keeps apart: whole structures, or, as in the paper, single pixels.")
    ] = SplitBy.structure,
    test_share: Annotated[
        float, typer.Option(min=0, max=0.9, help="Share held out to test the result; the paper held out 0.8.")
    ] = 0.2,
    dense_epochs: Annotated[int, typer.Option(min=1, help="Most epochs of the first step: dense layers alone.")] = 20,
    epochs: Annotated[int, typer.Option(min=1, help="Most epochs of the second step: all layers.")] = 60,
    fresh_dense: Annotated[bool, typer.Option("--fresh-dense", help="Begin with new dense layers.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split and the training.")] = 0,
    instrument: InstrumentOption = None,
    trust_instrument: TrustInstrument = False,
    no_calibrate: NoCalibrate = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Fit a trained network to your own labelled spectra: the dense layers first, then all, as in Xu et al. 2022.

    CSV says what is known, a line for each pixel of a scan (counted from 0) or each file of a folder:

        row,column,pigments,structure
        0,3,vermilion;lead_white;chalk,strip 1
        0,4,,bare canvas

        file,pigments
        spot_01.mca,azurite;chalk

    Name all that is there, the ground too: what a line leaves out counts as absent. A group (mercury_red) stands for
    whichever of its pigments it is. Columns `present` and `absent` in place of `pigments` leave open what they do not
    name. Lines of one `structure` (optional) stay on one side of the test.

    A fifth is held out as the test and, of the rest, a fifth for early stopping: you have few spectra, the paper had
    6,604 and held out four fifths. Writes DIR/NAME.onnx with its card, report.json and checkpoints; called again, it
    goes on where it was interrupted. Needs the extra `train`.

    **Examples**

        underpaint finetune --spectra mockups.h5 --labels mockups.csv

        underpaint finetune --model xu2022 --spectra spots --labels spots.csv --out ours

        underpaint identify painting.h5 --model ours/xu2022_finetuned.onnx

        underpaint finetune settings.toml --model runs/default/best.ckpt
    """
    _require_torch()
    from underpaint.cli._finetune import UserData, from_config, from_spectra, show_finetuned
    from underpaint.lab.training import export

    loud = not (quiet or as_json)
    if config is not None:
        report, folder = from_config(config, model, [spectra, labels, out], progress=loud)
    else:
        data = UserData(spectra, labels, instrument, calibrated=not no_calibrate, trust_instrument=trust_instrument)
        chosen = {"split": split.value, "test_share": test_share, "dense_epochs": dense_epochs, "epochs": epochs}
        chosen |= {"fresh_dense": fresh_dense, "seed": seed, "progress": loud}
        report, folder = from_spectra(model, data, out, chosen, quiet=not loud)
    exported = export(report.trained.network, report.trained.card, folder)
    if as_json:
        show_json(report.as_dict() | {"model": str(exported)})
    elif not quiet:
        show_finetuned(report, exported)


def _show_report(figures: dict[str, Any], exported: Any, *, quiet: bool, as_json: bool) -> None:
    if as_json:
        show_json(figures | {"model": str(exported)})
        return
    last = figures.get("second", figures)
    say(f"Epochs: {last['epochs']}, validation loss {last['validation_loss']}", quiet=quiet)
    say(f"Wrote {exported}; use it with --model {exported}", quiet=quiet)


def _require_torch() -> None:
    """Say which extra is missing, before anything is read.

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
