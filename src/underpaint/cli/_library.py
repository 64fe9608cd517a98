"""Commands that show built-in pigments, pigments that cannot be distinguished, and instruments."""

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from underpaint.cli._console import PlainHelp, list_table, progress, say, show, show_json, two_column_table
from underpaint.cli._outputs import new_file, with_output_check
from underpaint.cli._scans import JsonOption, OverwriteOption, QuietOption
from underpaint.errors import InstrumentError

if TYPE_CHECKING:
    from underpaint.physics.instrument import Instrument
    from underpaint.physics.instrument.pymca import PymcaConfiguration, Untranslated
    from underpaint.physics.materials import Library, Palette, Pigment
    from underpaint.pigments.limits import Composite, Group, Separation


def list_pigments(
    element: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SYMBOL", help="List only pigments that contain this element. The option may be repeated."
        ),
    ] = None,
    period: Annotated[
        str | None,
        typer.Option(
            metavar="YEAR|FROM:TO",
            help="List only pigments in use in these years. Years BC are negative, as in --period=-500:400.",
        ),
    ] = None,
    palette: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="List only pigments of a palette.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List pigments, each with its formula, density, years of use and groups.

    For example:

        underpaint pigments list --element Cu --period 1500:1600

        underpaint pigments list --palette rembrandt
    """
    from underpaint.physics.materials import library

    pigment_records = [
        _short_pigment_record(pigment) for pigment in _select_pigments(library(), element or [], period, palette)
    ]
    if as_json:
        show_json(pigment_records)
    else:
        _show_pigments(pigment_records)


def show_pigment(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name, synonym or abbreviation of a pigment.")],
    as_json: JsonOption = False,
) -> None:
    """Show the properties of one pigment, and where their values come from.

    For example:

        underpaint pigments show vermilion
    """
    from underpaint.physics.materials import library

    pigment_library = library()
    pigment_record = _full_pigment_record(pigment_library, pigment_library[name])
    if as_json:
        show_json(pigment_record)
    else:
        _show_pigment_record(pigment_record)


def list_palettes(as_json: JsonOption = False) -> None:
    """List the palettes. A palette contains the pigments of a painter or a period.

    For example:

        underpaint pigments palettes

        underpaint identify painting.h5 --palette rembrandt
    """
    from underpaint.physics.materials import load_palette, palette_names

    palette_records = [_palette_record(load_palette(palette_name)) for palette_name in palette_names()]
    if as_json:
        show_json(palette_records)
        return
    palette_table = list_table(f"{len(palette_records)} palettes", ("name", "label", "years", "pigments"))
    for palette_record in palette_records:
        years = "" if palette_record["first"] is None else f"{palette_record['first']} to {palette_record['last']}"
        palette_table.add_row(
            palette_record["name"], palette_record["label"], years, str(len(palette_record["pigments"]))
        )
    show(palette_table)


class InstrumentAction(StrEnum):
    """What the command ``instruments`` does."""

    list = "list"
    show = "show"
    convert = "convert"


def instruments(
    action: Annotated[
        InstrumentAction,
        typer.Argument(
            metavar="[list|show|convert]",
            help="List the built-in instruments, show one instrument, or convert one to another file format.",
        ),
    ] = InstrumentAction.list,
    name: Annotated[
        str | None,
        typer.Argument(metavar="PRESET|FILE", help="Preset, instrument file, or PyMca configuration (.cfg)."),
    ] = None,
    out: Annotated[
        Path | None,
        new_file("FILE.toml|.cfg", "File that convert writes: an instrument file, or a PyMca configuration (.cfg)."),
    ] = None,
    families: Annotated[
        str | None,
        typer.Option(metavar="Fe_K,Pb_L3,...", help="Line families that PyMca shall fit, if convert writes a .cfg."),
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """List or show instruments, or convert between PyMca configurations and instrument files.

    Values that cannot be converted are listed, each with the reason. Every option of underpaint that takes an
    instrument file also takes a PyMca configuration (.cfg).

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
        raise InstrumentError(f"Cannot {action.value} an instrument: no instrument is named. Give a preset or a file.")
    configuration = _load_configuration(name)
    if action is InstrumentAction.show:
        _show_instrument(configuration, as_json=as_json)
        return
    if out is None:
        raise InstrumentError(
            f"Cannot convert {name}: no file to write is named. Give the file with --out, e.g. lab.toml."
        )
    families_to_fit = (
        configuration.families
        if families is None
        else tuple(family_name.strip() for family_name in families.split(","))
    )
    untranslated_entries = _write_instrument(configuration, families_to_fit, out)
    if as_json:
        show_json(
            {
                "out": str(out),
                "families": families_to_fit,
                "not_translated": [asdict(untranslated_entry) for untranslated_entry in untranslated_entries],
            }
        )
        return
    _say_families(families_to_fit)
    _say_untranslated(untranslated_entries)
    say(f"Wrote {out}")


def _list_instruments(*, as_json: bool) -> None:
    from underpaint.physics.instrument import load_instrument, preset_names

    instrument_records = [
        _instrument_record(preset_name, load_instrument(preset_name)) for preset_name in preset_names()
    ]
    if as_json:
        show_json(instrument_records)
        return
    instrument_table = list_table("instruments", instrument_records[0])
    for instrument_record in instrument_records:
        instrument_table.add_row(*(str(cell_value) for cell_value in instrument_record.values()))
    show(instrument_table)
    say("`underpaint calibrate SCAN --out mine.toml` writes a file for your instrument.")


def _load_configuration(name: str) -> "PymcaConfiguration":
    """Return an instrument, with line families and layers if it comes from a PyMca configuration."""
    from underpaint.physics.instrument import load_instrument
    from underpaint.physics.instrument.pymca import PymcaConfiguration, is_pymca, read_pymca

    if Path(name).is_file() and is_pymca(Path(name)):
        return read_pymca(name)
    return PymcaConfiguration(load_instrument(name), (), (), ())


def _given_instrument_values(instrument: "Instrument") -> dict[str, Any]:
    return instrument.model_dump(mode="json", exclude_none=True, exclude_unset=True)


def _show_instrument(configuration: "PymcaConfiguration", *, as_json: bool) -> None:
    from underpaint.runtime.toml_text import to_toml

    instrument_values = _given_instrument_values(configuration.instrument)
    if as_json:
        untranslated_records = [asdict(untranslated_entry) for untranslated_entry in configuration.untranslated]
        show_json(
            {
                "instrument": instrument_values,
                "families": configuration.families,
                "not_translated": untranslated_records,
            }
        )
        return
    say(to_toml(instrument_values))
    _say_families(configuration.families)
    _say_untranslated(configuration.untranslated)


def _write_instrument(
    configuration: "PymcaConfiguration", families: Sequence[str], out: Path
) -> tuple["Untranslated", ...]:
    """Write an instrument in the format that the file's ending names. Return the entries without a counterpart."""
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
            f"Cannot write {out}: {instrument.name!r} sets no energy axis, and PyMca needs one. Put "
            f"detector.gain_kev and detector.zero_kev into the instrument file. `underpaint calibrate` finds both "
            f"from a scan."
        )
    axis = EnergyAxis(detector.gain_kev, detector.zero_kev, detector.n_channel)
    untranslated_entries = [
        untranslated_entry
        for untranslated_entry in configuration.untranslated
        if untranslated_entry.entry != "attenuators.Matrix"
    ]
    return (*untranslated_entries, *write_pymca(instrument, axis, families, out, configuration.matrix))


def _say_families(families: Sequence[str]) -> None:
    if families:
        say(f"Families to fit: {','.join(families)}")


def _say_untranslated(untranslated_entries: "Sequence[Untranslated]") -> None:
    """Print the entries that the other format lacks, grouped by reason."""
    entries_by_reason: dict[str, list[str]] = {}
    for untranslated_entry in untranslated_entries:
        entries_by_reason.setdefault(untranslated_entry.reason, []).append(
            f"{untranslated_entry.entry} = {untranslated_entry.value[:60]}"
        )
    if entries_by_reason:
        say("Without a counterpart:")
    for reason, entry_texts in entries_by_reason.items():
        say(f"- {reason}: {'; '.join(entry_texts)}")


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
    year_range = None if period is None else _parse_years(period)
    candidate_pigments = (
        [pigment_library[pigment_name] for pigment_name in load_palette(palette).pigments]
        if palette
        else list(pigment_library)
    )
    return [
        pigment
        for pigment in candidate_pigments
        if all(symbol in pigment.mass_fractions for symbol in elements)
        and (year_range is None or pigment.period.overlaps(*year_range))
    ]


def _parse_years(period_text: str) -> tuple[int, int]:
    from underpaint.errors import SampleError

    first_year, _, last_year = period_text.partition(":")
    try:
        year_range = int(first_year), int(last_year or first_year)
    except ValueError:
        year_range = (1, 0)
    if year_range[0] > year_range[1]:
        raise SampleError(
            f"Cannot read the period {period_text!r}: give a year, or two years with the earlier first, such as "
            f"1600:1700."
        )
    return year_range


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


def _short_pigment_record(pigment: "Pigment") -> dict[str, Any]:
    return {
        "name": pigment.name,
        "formula": pigment.formula,
        "density": pigment.density,
        "period": pigment.period.text,
        "groups": list(pigment.groups),
    }


def _full_pigment_record(pigment_library: "Library", pigment: "Pigment") -> dict[str, Any]:
    groups = [pigment_library.group(group_name) for group_name in pigment.groups]
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


def _show_pigments(pigment_records: list[dict[str, Any]]) -> None:
    pigment_table = list_table(f"{len(pigment_records)} pigments", ("name", "formula", "g/cm3", "period", "groups"))
    for pigment_record in pigment_records:
        group_names = ", ".join(pigment_record["groups"]) or "shows no line"
        pigment_table.add_row(
            pigment_record["name"],
            pigment_record["formula"],
            f"{pigment_record['density']:g}",
            pigment_record["period"],
            group_names,
        )
    show(pigment_table)


def _show_pigment_record(pigment_record: dict[str, Any]) -> None:
    unit_by_field = {"density": " g/cm3", "oil_absorption": " g oil per 100 g"}
    pigment_table = two_column_table(pigment_record["label"])
    for field_name, field_value in pigment_record.items():
        field_text = _value_text(field_value)
        if field_text:
            pigment_table.add_row(field_name.replace("_", " "), field_text + unit_by_field.get(field_name, ""))
    show(pigment_table)


def _value_text(field_value: Any) -> str:
    if isinstance(field_value, dict):
        return ", ".join(f"{component} {100 * fraction:.1f} %" for component, fraction in field_value.items())
    if isinstance(field_value, list):
        return ", ".join(str(list_item) for list_item in field_value)
    if isinstance(field_value, float):
        return f"{field_value:.4g}"
    return "" if field_value is None else f"{field_value}"


MIN_SHOWN_COUNTS = 1e3
"""Minimum counts needed to distinguish a listed mixture. Mixtures that need fewer counts are easily distinguished."""


class ListByDefault(PlainHelp):
    """Group of commands that runs the command ``list`` if none is named."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert the command ``list`` if the first argument is an option other than help, or if there is none."""
        if not args or (args[0].startswith("-") and args[0] not in {"--help", "-h"}):
            args = ["list", *args]
        return super().parse_args(ctx, args)


pigment_commands = typer.Typer(cls=ListByDefault, context_settings={"help_option_names": ["-h", "--help"]})
pigment_commands.command("list")(with_output_check(list_pigments))
pigment_commands.command("show")(with_output_check(show_pigment))
pigment_commands.command("palettes")(with_output_check(list_palettes))


@pigment_commands.callback()
def start_pigments() -> None:
    """Show the pigment library, or groups of pigments that a spectrum cannot distinguish.

    For example:

        underpaint pigments list

        underpaint pigments show vermilion

        underpaint pigments groups --counts 1e5
    """


@pigment_commands.command()
@with_output_check
def groups(
    instrument: Annotated[str, typer.Option(metavar="PRESET|FILE", help="Scanner that records the spectra.")] = "elio",
    counts: Annotated[float, typer.Option(metavar="N", help="Total counts of each spectrum.")] = 1e5,
    palette: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="Compare only pigments of a palette.")
    ] = None,
    ground: Annotated[str, typer.Option(metavar="NAME", help="Ground below the paint.")] = "chalk",
    start_kev: Annotated[float, typer.Option(metavar="KEV", help="Lowest energy that is compared, in keV.")] = 2.8,
    mixtures: Annotated[
        bool, typer.Option(help="Also search for mixtures with the same spectrum as a single pigment.")
    ] = True,
    out_figure: Annotated[
        Path | None, new_file("FILE.png", "Plot the counts needed to distinguish each pair of pigments.")
    ] = None,
    overwrite: OverwriteOption = False,
    quiet: QuietOption = False,
    as_json: JsonOption = False,
) -> None:
    """Group the pigments that no method can distinguish by a spectrum with the given total counts.

    Every other pigment, and mixtures, are fitted to the expected spectrum of each pigment. Thickness, binder, ground
    and scatter are free in these fits. Two pigments are distinguishable if the deviance of the fit exceeds 25. The
    command takes three to four minutes for the default palette of 74 pigments, and 15 seconds for the 14 of xu2022.

    For example:

        underpaint pigments groups

        underpaint pigments groups --palette xu2022 --counts 1e4 --out-figure groups.png
    """
    del overwrite  # already checked with the outputs
    from underpaint.physics.instrument import load_instrument
    from underpaint.physics.materials import DEFAULT_PALETTE, load_palette
    from underpaint.pigments.limits import ComparisonSettings, separate

    selected_palette, scanner = load_palette(palette or DEFAULT_PALETTE), load_instrument(instrument)
    comparison_settings = ComparisonSettings(ground=ground, start_kev=start_kev)
    with progress(quiet=quiet) as report_progress:
        separation = separate(
            selected_palette.pigments,
            scanner,
            settings=comparison_settings,
            composites=mixtures,
            progress=report_progress,
        )
    pigment_groups = separation.groups(counts)
    if out_figure is not None:
        _draw_separation(separation, counts, out_figure)
    if as_json:
        show_json(_separation_record(separation, pigment_groups, counts, selected_palette.name))
    elif not quiet:
        _show_separation(separation, pigment_groups, counts)


def _draw_separation(separation: "Separation", counts: float, figure_path: Path) -> None:
    from underpaint.display.plot import save_png
    from underpaint.display.plot.limits import separation_matrix

    title = (
        f"Counts needed to distinguish two pigments ({separation.instrument}), with frames around groups at "
        f"{counts:.3g} counts"
    )
    save_png(separation_matrix(separation, counts, title=title), figure_path)


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
        "groups": [_group_record(separation, group) for group in pigment_groups],
        "composites": [
            {
                "pigment": composite.pigment,
                "mixture": dict(composite.mixture),
                "counts_needed": composite.counts_needed,
                "told_apart": composite.counts_needed < counts,
            }
            for composite in separation.composites
        ],
        "pigments": list(separation.pigments),
        "counts_needed": _without_infinity(separation.mutual_counts.tolist()),
        "counts_needed_one_way": separation.exclusion_counts.tolist(),
    }


def _group_record(separation: "Separation", group: "Group") -> dict[str, Any]:
    from underpaint.pigments.limits import distinguishing_methods_text, within_group_prior

    pigment_pairs = [
        (first_pigment, second_pigment)
        for pigment_index, first_pigment in enumerate(group.pigments)
        for second_pigment in group.pigments[pigment_index + 1 :]
    ]
    return {
        "pigments": list(group.pigments),
        "elements": list(group.elements),
        "neighbours": list(group.neighbours),
        "prior": within_group_prior(group.pigments),
        "pairs": [
            {
                "pigments": [first_pigment, second_pigment],
                "counts_needed": _without_infinity(separation.counts_needed(first_pigment, second_pigment)),
                "resolved_to": separation.max_resolved_counts(first_pigment, second_pigment),
                "would_be_told_apart_by": distinguishing_methods_text(first_pigment, second_pigment),
            }
            for first_pigment, second_pigment in pigment_pairs
        ],
    }


def _without_infinity(json_value: Any) -> Any:
    """Replace infinite values by None, because JSON has no infinity."""
    if isinstance(json_value, list):
        return [_without_infinity(list_item) for list_item in json_value]
    return None if json_value == float("inf") else json_value


def _show_separation(separation: "Separation", pigment_groups: "list[Group]", counts: float) -> None:
    from underpaint.pigments.limits import MODEL_COUNTS

    title = f"{len(pigment_groups)} groups at {counts:.3g} counts, {separation.instrument}"
    group_table = list_table(title, ("elements", "pigments", "counts for the easiest pair", "also resembles"))
    for group in pigment_groups:
        neighbours_text = ", ".join(group.neighbours[:6]) + (
            f" and {len(group.neighbours) - 6}" if len(group.neighbours) > 6 else ""
        )
        group_table.add_row(
            ", ".join(group.elements) or "none",
            ", ".join(group.pigments),
            _easiest_pair_text(separation, group),
            neighbours_text,
        )
    show(group_table)
    similar_mixtures = [
        composite for composite in separation.composites if composite.counts_needed >= max(counts, MIN_SHOWN_COUNTS)
    ]
    if similar_mixtures:
        show(_mixtures_table(similar_mixtures))
    say(
        "The probability of a group is divided among its pigments by period, palette and loading, not by the "
        "spectrum (--json)."
    )
    if counts > MODEL_COUNTS:
        say(
            f"Above {MODEL_COUNTS:.0e} counts, the errors of the simulation (1 %) exceed the differences between "
            f"spectra."
        )


def _easiest_pair_text(separation: "Separation", group: "Group") -> str:
    if len(group.pigments) < 2:
        return ""
    counts_needed, pigment_pair = min(
        (separation.counts_needed(first_pigment, second_pigment), (first_pigment, second_pigment))
        for pigment_index, first_pigment in enumerate(group.pigments)
        for second_pigment in group.pigments[pigment_index + 1 :]
    )
    return (
        f"{counts_needed:.1e} ({pigment_pair[0]}, {pigment_pair[1]})"
        if counts_needed < float("inf")
        else "never, as far as computed"
    )


def _mixtures_table(composites: "list[Composite]") -> Any:
    mixtures_table = list_table(
        "mixtures with the spectrum of a pigment", ("pigment", "mixture, % by mass", "counts needed")
    )
    for composite in composites:
        mixture_text = " + ".join(
            f"{pigment_name} {100 * mass_fraction:.0f}" for pigment_name, mass_fraction in composite.mixture.items()
        )
        mixtures_table.add_row(composite.pigment, mixture_text, f"{composite.counts_needed:.1e}")
    return mixtures_table
