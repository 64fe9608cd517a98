"""Commands that show the built-in pigments, indistinguishable pigments, and instruments."""

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from underpaint.cli._console import PlainHelp, list_table, progress, say, show, show_json, two_columns
from underpaint.cli._outputs import careful, new_file
from underpaint.cli._scans import Json, Overwrite, Quiet
from underpaint.errors import InstrumentError

if TYPE_CHECKING:
    from underpaint.physics.instrument import Instrument
    from underpaint.physics.instrument.pymca import PymcaConfiguration, Untranslated
    from underpaint.physics.materials import Library, Palette, Pigment
    from underpaint.pigments.limits import Composite, Group, Separation


def list_pigments(
    element: Annotated[
        list[str] | None,
        typer.Option(metavar="SYMBOL", help="Only pigments that contain this element; may be repeated."),
    ] = None,
    period: Annotated[
        str | None,
        typer.Option(metavar="YEAR|FROM:TO", help="Only pigments in use at this time; --period=-500:400 for BC."),
    ] = None,
    palette: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Only pigments of a palette.")] = None,
    as_json: Json = False,
) -> None:
    """List pigments with their formula, density, years of use and groups.

    For example:

        underpaint pigments list --element Cu --period 1500:1600

        underpaint pigments list --palette rembrandt
    """
    from underpaint.physics.materials import library

    records = [_list_record(pigment) for pigment in _select_pigments(library(), element or [], period, palette)]
    if as_json:
        show_json(records)
    else:
        _show_list(records)


def show_pigment(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name, synonym or abbreviation.")],
    as_json: Json = False,
) -> None:
    """Show all that is known of one pigment, with the sources.

    For example:

        underpaint pigments show vermilion
    """
    from underpaint.physics.materials import library

    pigment_library = library()
    record = _full_record(pigment_library, pigment_library[name])
    if as_json:
        show_json(record)
    else:
        _show_record(record)


def list_palettes(as_json: Json = False) -> None:
    """List the palettes: the pigments of a painter or a period.

    For example:

        underpaint pigments palettes

        underpaint identify painting.h5 --palette rembrandt
    """
    from underpaint.physics.materials import load_palette, palette_names

    records = [_palette_record(load_palette(name)) for name in palette_names()]
    if as_json:
        show_json(records)
        return
    table = list_table(f"{len(records)} palettes", ("name", "label", "years", "pigments"))
    for record in records:
        years = "" if record["first"] is None else f"{record['first']} to {record['last']}"
        table.add_row(record["name"], record["label"], years, str(len(record["pigments"])))
    show(table)


class InstrumentAction(StrEnum):
    """Action on instruments."""

    list = "list"
    show = "show"
    convert = "convert"


def instruments(
    action: Annotated[
        InstrumentAction,
        typer.Argument(
            metavar="[list|show|convert]", help="The built-in instruments, one in full, or one as another file."
        ),
    ] = InstrumentAction.list,
    name: Annotated[str | None, typer.Argument(metavar="PRESET|FILE", help="Instrument file, or PyMca's .cfg.")] = None,
    out: Annotated[
        Path | None, new_file("FILE", "convert: .cfg for PyMca's fit configuration, else an instrument file (TOML).")
    ] = None,
    families: Annotated[
        str | None, typer.Option(metavar="Fe_K,Pb_L3,...", help="convert to .cfg: line families to fit in PyMca.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """List the built-in instruments; show one; convert a PyMca configuration to an instrument file and back.

    Values that cannot be converted are listed with the reason. Every option for an instrument file also accepts a
    PyMca configuration (.cfg).

    For example:

        underpaint instruments

        underpaint instruments show lab.cfg

        underpaint instruments convert lab.cfg --out lab.toml

        underpaint instruments convert lab.toml --out lab.cfg --families Ca_K,Fe_K,Hg_L,Pb_L

        underpaint identify painting.h5 --instrument lab.cfg
    """
    del overwrite  # already checked with the outputs
    if action is InstrumentAction.list:
        _list_instruments(as_json=as_json)
        return
    if name is None:
        raise InstrumentError(f"Cannot {action.value} an instrument: none is named. Give a preset or a file.")
    configuration = _configuration(name)
    if action is InstrumentAction.show:
        _show_instrument(configuration, as_json=as_json)
        return
    if out is None:
        raise InstrumentError(f"Cannot convert {name}: no file to write is named. Give it with --out, e.g. lab.toml.")
    families_to_fit = (
        configuration.families if families is None else tuple(family.strip() for family in families.split(","))
    )
    untranslated = _write_instrument(configuration, families_to_fit, out)
    if as_json:
        show_json(
            {
                "out": str(out),
                "families": families_to_fit,
                "not_translated": [asdict(untranslated_entry) for untranslated_entry in untranslated],
            }
        )
        return
    _say_families(families_to_fit)
    _say_untranslated(untranslated)
    say(f"Wrote {out}")


def _list_instruments(*, as_json: bool) -> None:
    from underpaint.physics.instrument import load_instrument, preset_names

    records = [_instrument_record(name, load_instrument(name)) for name in preset_names()]
    if as_json:
        show_json(records)
        return
    table = list_table("instruments", records[0])
    for record in records:
        table.add_row(*(str(value) for value in record.values()))
    show(table)
    say("`underpaint calibrate SCAN --out mine.toml` writes a file for your instrument.")


def _configuration(name: str) -> "PymcaConfiguration":
    """Return an instrument, with the line families and layers of a PyMca configuration."""
    from underpaint.physics.instrument import load_instrument
    from underpaint.physics.instrument.pymca import PymcaConfiguration, is_pymca, read_pymca

    if Path(name).is_file() and is_pymca(Path(name)):
        return read_pymca(name)
    return PymcaConfiguration(load_instrument(name), (), (), ())


def _set_values(instrument: "Instrument") -> dict[str, Any]:
    return instrument.model_dump(mode="json", exclude_none=True, exclude_unset=True)


def _show_instrument(configuration: "PymcaConfiguration", *, as_json: bool) -> None:
    from underpaint.runtime.toml_text import to_toml

    record = _set_values(configuration.instrument)
    if as_json:
        left_out = [asdict(entry) for entry in configuration.untranslated]
        show_json({"instrument": record, "families": configuration.families, "not_translated": left_out})
        return
    say(to_toml(record))
    _say_families(configuration.families)
    _say_untranslated(configuration.untranslated)


def _write_instrument(
    configuration: "PymcaConfiguration", families: Sequence[str], out: Path
) -> tuple["Untranslated", ...]:
    """Write a file in the format of its ending; return the entries that it cannot hold."""
    from underpaint.data import EnergyAxis
    from underpaint.io.pymca import write_pymca
    from underpaint.physics.instrument import save_instrument

    instrument = configuration.instrument
    if out.suffix.lower() != ".cfg":
        save_instrument(instrument, out, only_known=True)
        return configuration.untranslated
    detector = instrument.detector
    if "gain_kev" not in detector.model_fields_set:
        raise InstrumentError(
            f"Cannot write {out}: {instrument.name!r} sets no energy axis, and PyMca needs one. Put detector.gain_kev "
            "and detector.zero_kev into its file; `underpaint calibrate` finds them from a scan."
        )
    axis = EnergyAxis(detector.gain_kev, detector.zero_kev, detector.n_channel)
    untranslated = [entry for entry in configuration.untranslated if entry.entry != "attenuators.Matrix"]
    return (*untranslated, *write_pymca(instrument, axis, families, out, configuration.matrix))


def _say_families(families: Sequence[str]) -> None:
    if families:
        say(f"Families to fit: {','.join(families)}")


def _say_untranslated(entries: "Sequence[Untranslated]") -> None:
    """Print the entries without a counterpart, a line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for entry in entries:
        by_reason.setdefault(entry.reason, []).append(f"{entry.entry} = {entry.value[:60]}")
    if by_reason:
        say("Without a counterpart:")
    for reason, names in by_reason.items():
        say(f"- {reason}: {'; '.join(names)}")


def _instrument_record(name: str, instrument: Any) -> dict[str, Any]:
    return {
        "name": name,
        "tube": f"{instrument.tube.anode}, {instrument.tube.voltage_kv:g} kV",
        "channel_ev": round(1e3 * instrument.detector.gain_kev, 3),
        "note": instrument.note,
    }


def _select_pigments(
    pigment_library: "Library", elements: list[str], period: str | None, palette: str | None
) -> "list[Pigment]":
    from underpaint.physics.atomic import atomic_weight
    from underpaint.physics.materials import load_palette

    for symbol in elements:
        atomic_weight(symbol)
    years = None if period is None else _parse_years(period)
    candidates = (
        [pigment_library[name] for name in load_palette(palette).pigments] if palette else list(pigment_library)
    )
    return [
        pigment
        for pigment in candidates
        if all(symbol in pigment.mass_fractions for symbol in elements)
        and (years is None or pigment.period.overlaps(*years))
    ]


def _parse_years(text: str) -> tuple[int, int]:
    from underpaint.errors import SampleError

    first_year, _, last_year = text.partition(":")
    try:
        years = int(first_year), int(last_year or first_year)
    except ValueError:
        years = (1, 0)
    if years[0] > years[1]:
        raise SampleError(
            f"Cannot read the period {text!r}: give a year, or two years such as 1600:1700, the earlier first."
        )
    return years


def _palette_record(palette: "Palette") -> dict[str, Any]:
    return {
        "name": palette.name,
        "label": palette.label,
        "painter": palette.painter,
        "first": palette.first,
        "last": palette.last,
        "pigments": list(palette.pigments),
        "source": palette.source,
    }


def _list_record(pigment: "Pigment") -> dict[str, Any]:
    return {
        "name": pigment.name,
        "formula": pigment.formula,
        "density": pigment.density,
        "period": pigment.period.text,
        "groups": list(pigment.groups),
    }


def _full_record(pigment_library: "Library", pigment: "Pigment") -> dict[str, Any]:
    groups = [pigment_library.group(name) for name in pigment.groups]
    return {
        "name": pigment.name,
        "label": pigment.label,
        "synonyms": list(pigment.synonyms),
        "abbreviation": pigment.abbreviation,
        "formula": pigment.formula,
        "formula_source": pigment.formula_source,
        "mass_fractions": dict(pigment.mass_fractions),
        "density": pigment.density,
        "density_source": pigment.density_source,
        "period": pigment.period.text,
        "period_source": pigment.period.source,
        "lines": [family for group in groups for family in group.key_families],
        "groups": list(pigment.groups),
        "same_group": list(
            dict.fromkeys(
                member.name
                for group in pigment.groups
                for member in pigment_library.members(group)
                if member is not pigment
            )
        ),
        "oil_absorption": pigment.oil_absorption,
        "oil_absorption_source": pigment.oil_absorption_source,
        "achievable_loading": pigment.achievable_loading,
        "loading_source": _loading_source(pigment),
        "colour_index": pigment.colour_index,
        "note": pigment.note,
    }


def _loading_source(pigment: "Pigment") -> str:
    if pigment.loading is None and pigment.oil_absorption is not None:
        return "from the oil absorption"
    return pigment.loading_source


def _show_list(records: list[dict[str, Any]]) -> None:
    from rich.table import Table

    table = Table(title=f"{len(records)} pigments", title_justify="left")
    for title, width in (("name", 26), ("formula", None), ("g/cm3", None), ("period", None), ("groups", None)):
        table.add_column(title, overflow="fold", max_width=width)
    for record in records:
        groups = ", ".join(record["groups"]) or "shows no line"
        table.add_row(record["name"], record["formula"], f"{record['density']:g}", record["period"], groups)
    show(table)


def _show_record(record: dict[str, Any]) -> None:
    units = {"density": " g/cm3", "oil_absorption": " g oil per 100 g"}
    table = two_columns(record["label"])
    for key, value in record.items():
        text = _value_text(value)
        if text:
            table.add_row(key.replace("_", " "), text + units.get(key, ""))
    show(table)


def _value_text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {100 * share:.1f} %" for key, share in value.items())
    if isinstance(value, list):
        return ", ".join(str(entry) for entry in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else f"{value}"


MIN_SHOWN_COUNTS = 1e3
"""Minimum counts for distinction of the mixtures that are listed; others are easily distinguished."""


class ListByDefault(PlainHelp):
    """Group of commands in which `list` is the default."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the command `list` before its options unless help is requested."""
        if not args or (args[0].startswith("-") and args[0] not in {"--help", "-h"}):
            args = ["list", *args]
        return super().parse_args(ctx, args)


pigment_commands = typer.Typer(cls=ListByDefault, context_settings={"help_option_names": ["-h", "--help"]})
pigment_commands.command("list")(careful(list_pigments))
pigment_commands.command("show")(careful(show_pigment))
pigment_commands.command("palettes")(careful(list_palettes))


@pigment_commands.callback()
def start() -> None:
    """Show the pigment library, or groups of pigments that cannot be distinguished by a spectrum.

    For example:

        underpaint pigments list

        underpaint pigments show vermilion

        underpaint pigments groups --counts 1e5
    """


@pigment_commands.command()
@careful
def groups(
    instrument: Annotated[str, typer.Option(metavar="PRESET|FILE", help="The scanner.")] = "elio",
    counts: Annotated[float, typer.Option(metavar="N", help="Total counts of a spectrum.")] = 1e5,
    palette: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Only these pigments.")] = None,
    ground: Annotated[str, typer.Option(metavar="NAME", help="Ground below the paint.")] = "chalk",
    start_kev: Annotated[float, typer.Option(metavar="KEV", help="Minimum energy, keV.")] = 2.8,
    mixtures: Annotated[bool, typer.Option(help="Also search for mixtures with the spectrum of a pigment.")] = True,
    out_figure: Annotated[Path | None, new_file("PNG", "Draw the counts needed to distinguish each pair.")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Group pigments that no method can distinguish by a spectrum of the given counts.

    The expected spectrum of each pigment is fitted by every other pigment and by mixtures, with free thickness, binder,
    ground and scatter. Two pigments are distinguishable if the deviance exceeds 25. The default palette takes some
    minutes.

    For example:

        underpaint pigments groups

        underpaint pigments groups --palette xu2022 --counts 1e4 --out-figure groups.png
    """
    del overwrite  # already checked with the outputs
    from underpaint.physics.instrument import load_instrument
    from underpaint.physics.materials import DEFAULT_PALETTE, load_palette
    from underpaint.pigments.limits import ComparisonSettings, separate

    selected_palette, scanner = load_palette(palette or DEFAULT_PALETTE), load_instrument(instrument)
    settings = ComparisonSettings(ground=ground, start_kev=start_kev)
    with progress(quiet=quiet) as step:
        separation = separate(selected_palette.pigments, scanner, settings=settings, composites=mixtures, progress=step)
    pigment_groups = separation.groups(counts)
    if out_figure is not None:
        _draw_separation(separation, counts, out_figure)
    if as_json:
        show_json(_separation_record(separation, pigment_groups, counts, selected_palette.name))
    elif not quiet:
        _show_separation(separation, pigment_groups, counts)


def _draw_separation(separation: "Separation", counts: float, path: Path) -> None:
    from underpaint.display.plot import save_png
    from underpaint.display.plot.limits import separation_matrix

    title = (
        f"Counts needed to distinguish two pigments ({separation.instrument}); frames: groups at {counts:.3g} counts"
    )
    save_png(separation_matrix(separation, counts, title=title), path)


def _separation_record(
    separation: "Separation", pigment_groups: "list[Group]", counts: float, palette: str
) -> dict[str, Any]:
    from dataclasses import asdict

    from underpaint._version import __version__

    return {
        "version": __version__,
        "instrument": separation.instrument,
        "palette": palette,
        "counts": counts,
        "question": asdict(separation.settings),
        "groups": [_group_record(separation, entry) for entry in pigment_groups],
        "composites": [
            {
                "pigment": entry.pigment,
                "mixture": dict(entry.mixture),
                "counts_needed": entry.counts_needed,
                "told_apart": entry.counts_needed < counts,
            }
            for entry in separation.composites
        ],
        "pigments": list(separation.pigments),
        "counts_needed": _finite(separation.mutual_counts.tolist()),
        "counts_needed_one_way": separation.exclusion_counts.tolist(),
    }


def _group_record(separation: "Separation", group: "Group") -> dict[str, Any]:
    from underpaint.pigments.limits import distinguishing_methods_text, within_group_prior

    pairs = [(first, second) for index, first in enumerate(group.pigments) for second in group.pigments[index + 1 :]]
    return {
        "pigments": list(group.pigments),
        "elements": list(group.elements),
        "neighbours": list(group.neighbours),
        "prior": within_group_prior(group.pigments),
        "pairs": [
            {
                "pigments": [first, second],
                "counts_needed": _finite(separation.counts_needed(first, second)),
                "resolved_to": separation.max_resolved_counts(first, second),
                "would_be_told_apart_by": distinguishing_methods_text(first, second),
            }
            for first, second in pairs
        ],
    }


def _finite(value: Any) -> Any:
    """Return numbers with None instead of infinity, which JSON does not have."""
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if value == float("inf") else value


def _show_separation(separation: "Separation", pigment_groups: "list[Group]", counts: float) -> None:
    from underpaint.pigments.limits import MODEL_COUNTS

    title = f"{len(pigment_groups)} groups at {counts:.3g} counts, {separation.instrument}"
    table = list_table(title, ("elements", "pigments", "counts for the easiest pair", "also resembles"))
    for group in pigment_groups:
        neighbours_text = ", ".join(group.neighbours[:6]) + (
            f" and {len(group.neighbours) - 6}" if len(group.neighbours) > 6 else ""
        )
        table.add_row(
            ", ".join(group.elements) or "none",
            ", ".join(group.pigments),
            _easiest_pair(separation, group),
            neighbours_text,
        )
    show(table)
    similar_mixtures = [
        composite for composite in separation.composites if composite.counts_needed >= max(counts, MIN_SHOWN_COUNTS)
    ]
    if similar_mixtures:
        show(_mixtures_table(similar_mixtures))
    say("Members of a group share its probability by period, palette and loading, never by the spectrum (--json).")
    if counts > MODEL_COUNTS:
        say(f"Above {MODEL_COUNTS:.0e} counts, the errors of the simulation (1 %) exceed these differences.")


def _easiest_pair(separation: "Separation", group: "Group") -> str:
    if len(group.pigments) < 2:
        return ""
    counts_needed, pair = min(
        (separation.counts_needed(first, second), (first, second))
        for index, first in enumerate(group.pigments)
        for second in group.pigments[index + 1 :]
    )
    return (
        f"{counts_needed:.1e} ({pair[0]}, {pair[1]})" if counts_needed < float("inf") else "never, as far as computed"
    )


def _mixtures_table(composites: "list[Composite]") -> Any:
    table = list_table("mixtures with the spectrum of a pigment", ("pigment", "mixture, % by mass", "counts needed"))
    for composite in composites:
        mixture_text = " + ".join(f"{name} {100 * share:.0f}" for name, share in composite.mixture.items())
        table.add_row(composite.pigment, mixture_text, f"{composite.counts_needed:.1e}")
    return table
