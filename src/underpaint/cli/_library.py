"""Commands that show what ships: pigments, which of them no spectrum tells apart, and instruments."""

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from underpaint.cli._console import list_table, progress, say, show, show_json, two_columns
from underpaint.cli._outputs import careful, new_file
from underpaint.cli._scans import Json, Overwrite, Quiet
from underpaint.errors import InstrumentError

if TYPE_CHECKING:
    from underpaint.physics.instrument import Instrument
    from underpaint.physics.instrument.pymca import PymcaConfiguration, Untranslated
    from underpaint.physics.materials import Library, Palette, Pigment
    from underpaint.pigments.limits import Composite, Group, Separation


class Action(StrEnum):
    """What to do with the library."""

    list = "list"
    show = "show"
    palettes = "palettes"


def pigments(
    action: Annotated[
        Action, typer.Argument(metavar="[list|show|palettes]", help="A table, one in full, or the palettes.")
    ] = Action.list,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Name, synonym or abbreviation.")] = None,
    element: Annotated[
        list[str] | None, typer.Option(metavar="SYMBOL", help="Only those that hold it; again for more elements.")
    ] = None,
    period: Annotated[
        str | None, typer.Option(metavar="YEAR|FROM:TO", help="Only those in use then; --period=-500:400 for BC.")
    ] = None,
    palette: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Only those of a palette.")] = None,
    as_json: Json = False,
) -> None:
    """Show the pigment library: names, formulas, densities, periods, lines, sources.

    **Examples**

        underpaint pigments list --element Cu --period 1500:1600

        underpaint pigments list --palette rembrandt

        underpaint pigments show vermilion

        underpaint pigments palettes
    """
    from underpaint.errors import SampleError
    from underpaint.physics.materials import library

    known = library()
    if action is Action.palettes:
        _list_palettes(as_json=as_json)
        return
    if action is Action.list:
        records = [_short(pigment) for pigment in _chosen(known, element or [], period, palette)]
        if as_json:
            show_json(records)
        else:
            _show_list(records)
        return
    if name is None:
        raise SampleError("Cannot show a pigment without its name: `underpaint pigments show vermilion`.")
    record = _full(known, known[name])
    if as_json:
        show_json(record)
    else:
        _show_record(record)


class InstrumentAction(StrEnum):
    """What to do with instruments."""

    list = "list"
    show = "show"
    convert = "convert"


def instruments(
    action: Annotated[
        InstrumentAction,
        typer.Argument(metavar="[list|show|convert]", help="Those that ship, one in full, or one as another file."),
    ] = InstrumentAction.list,
    name: Annotated[str | None, typer.Argument(metavar="PRESET|FILE", help="Instrument file, or PyMca's .cfg.")] = None,
    out: Annotated[
        Path | None, new_file("FILE", "convert: .cfg for PyMca's fit configuration, else an instrument file (TOML).")
    ] = None,
    families: Annotated[
        str | None, typer.Option(metavar="Fe_K,Pb_L3,...", help="convert to .cfg: families that PyMca is to fit.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """List the instruments that ship; show one; turn a PyMca configuration into an instrument file and back.

    What one side holds and the other cannot is listed with the reason. Wherever an instrument file is taken, a
    PyMca configuration (.cfg) is taken, too.

    **Examples**

        underpaint instruments

        underpaint instruments show lab.cfg

        underpaint instruments convert lab.cfg --out lab.toml

        underpaint instruments convert lab.toml --out lab.cfg --families Ca_K,Fe_K,Hg_L,Pb_L

        underpaint identify painting.h5 --instrument lab.cfg
    """
    del overwrite  # looked at with the outputs
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
        raise InstrumentError(f"Cannot convert {name}: no file to write is named. Give it with --out, as lab.toml.")
    wanted = configuration.families if families is None else tuple(part.strip() for part in families.split(","))
    lost = _write_instrument(configuration, wanted, out)
    if as_json:
        show_json({"out": str(out), "families": wanted, "not_translated": [asdict(entry) for entry in lost]})
        return
    _say_families(wanted)
    _say_untranslated(lost)
    say(f"Wrote {out}")


def _list_instruments(*, as_json: bool) -> None:
    from underpaint.physics.instrument import load_instrument, preset_names

    records = [_instrument(name, load_instrument(name)) for name in preset_names()]
    if as_json:
        show_json(records)
        return
    table = list_table("instruments", records[0])
    for record in records:
        table.add_row(*(str(value) for value in record.values()))
    show(table)
    say("Write your own with `underpaint calibrate SCAN --out mine.toml`.")


def _configuration(name: str) -> "PymcaConfiguration":
    """Return an instrument with all that its file says beside it."""
    from underpaint.physics.instrument import load_instrument
    from underpaint.physics.instrument.pymca import PymcaConfiguration, is_pymca, read_pymca

    if Path(name).is_file() and is_pymca(Path(name)):
        return read_pymca(name)
    return PymcaConfiguration(load_instrument(name), (), (), ())


def _known(instrument: "Instrument") -> dict[str, Any]:
    return instrument.model_dump(mode="json", exclude_none=True, exclude_unset=True)


def _show_instrument(configuration: "PymcaConfiguration", *, as_json: bool) -> None:
    from underpaint.runtime.toml_text import to_toml

    record = _known(configuration.instrument)
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
    """Write the file that the ending calls for; return what it does not hold."""
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
    lost = [entry for entry in configuration.untranslated if entry.entry != "attenuators.Matrix"]
    return (*lost, *write_pymca(instrument, axis, families, out, configuration.matrix))


def _say_families(families: Sequence[str]) -> None:
    if families:
        say(f"Families to fit: {','.join(families)}")


def _say_untranslated(entries: "Sequence[Untranslated]") -> None:
    """Name the entries without a counterpart, a line for each reason."""
    by_reason: dict[str, list[str]] = {}
    for entry in entries:
        by_reason.setdefault(entry.reason, []).append(f"{entry.entry} = {entry.value[:60]}")
    if by_reason:
        say("Without a counterpart:")
    for reason, names in by_reason.items():
        say(f"- {reason}: {'; '.join(names)}")


def _instrument(name: str, own: Any) -> dict[str, Any]:
    return {
        "name": name,
        "tube": f"{own.tube.anode}, {own.tube.voltage_kv:g} kV",
        "channel_ev": round(1e3 * own.detector.gain_kev, 3),
        "note": own.note,
    }


def _chosen(known: "Library", elements: list[str], period: str | None, palette: str | None) -> "list[Pigment]":
    from underpaint.physics.atomic import atomic_weight
    from underpaint.physics.materials import load_palette

    for symbol in elements:
        atomic_weight(symbol)
    years = None if period is None else _years(period)
    named = [known[name] for name in load_palette(palette).pigments] if palette else list(known)
    return [
        pigment
        for pigment in named
        if all(symbol in pigment.mass_fractions for symbol in elements)
        and (years is None or pigment.period.overlaps(*years))
    ]


def _years(text: str) -> tuple[int, int]:
    from underpaint.errors import SampleError

    first, _, last = text.partition(":")
    try:
        years = int(first), int(last or first)
    except ValueError:
        years = (1, 0)
    if years[0] > years[1]:
        raise SampleError(f"Cannot read the period {text!r}: give a year, or two as 1600:1700, the earlier one first.")
    return years


def _list_palettes(*, as_json: bool) -> None:
    from underpaint.physics.materials import load_palette, palette_names

    records = [_palette(load_palette(name)) for name in palette_names()]
    if as_json:
        show_json(records)
        return
    table = list_table(f"{len(records)} palettes", ("name", "label", "years", "pigments"))
    for record in records:
        years = "" if record["first"] is None else f"{record['first']} to {record['last']}"
        table.add_row(record["name"], record["label"], years, str(len(record["pigments"])))
    show(table)


def _palette(palette: "Palette") -> dict[str, Any]:
    return {
        "name": palette.name,
        "label": palette.label,
        "painter": palette.painter,
        "first": palette.first,
        "last": palette.last,
        "pigments": list(palette.pigments),
        "source": palette.source,
    }


def _short(pigment: "Pigment") -> dict[str, Any]:
    return {
        "name": pigment.name,
        "formula": pigment.formula,
        "density": pigment.density,
        "period": pigment.period.text,
        "groups": list(pigment.groups),
    }


def _full(known: "Library", pigment: "Pigment") -> dict[str, Any]:
    groups = [known.group(name) for name in pigment.groups]
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
        "same_group": [own.name for group in pigment.groups for own in known.members(group) if own is not pigment],
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
        text = _text(value)
        if text:
            table.add_row(key.replace("_", " "), text + units.get(key, ""))
    show(table)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {100 * share:.1f} %" for key, share in value.items())
    if isinstance(value, list):
        return ", ".join(str(entry) for entry in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    return "" if value is None else f"{value}"


LIBRARY = "library"
WORTH_SHOWING = 1e3
"""Mixtures that part at fewer counts imitate badly."""


class LibraryByDefault(TyperGroup):
    """Commands of which the library's own is meant where none is named: ``pigments list``, ``pigments show NAME``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Put the library's command in front unless another, or help, is asked for."""
        asked = args[:1]
        if not asked or (asked[0] not in self.commands and asked[0] not in {"--help", "-h"}):
            args = [LIBRARY, *args]
        return super().parse_args(ctx, args)


pigment_commands = typer.Typer(cls=LibraryByDefault, context_settings={"help_option_names": ["-h", "--help"]})
pigment_commands.command(LIBRARY)(careful(pigments))


@pigment_commands.callback()
def start() -> None:
    """Show the pigment library, or which of its pigments no spectrum tells apart.

    **Examples**

        underpaint pigments list

        underpaint pigments show vermilion

        underpaint pigments groups --counts 1e5
    """


@pigment_commands.command()
@careful
def groups(
    instrument: Annotated[str, typer.Option(metavar="PRESET|FILE", help="Instrument that looks.")] = "elio",
    counts: Annotated[float, typer.Option(metavar="N", help="Counts of a whole spectrum.")] = 1e5,
    palette: Annotated[str | None, typer.Option(metavar="NAME|FILE", help="Only these pigments.")] = None,
    ground: Annotated[str, typer.Option(metavar="NAME", help="Ground below the paint.")] = "chalk",
    start_kev: Annotated[float, typer.Option(metavar="KEV", help="Energies below are not used.")] = 2.8,
    mixtures: Annotated[bool, typer.Option(help="Look for mixtures that imitate a pigment, too.")] = True,
    out_figure: Annotated[Path | None, new_file("PNG", "Draw the counts needed by pair.")] = None,
    overwrite: Overwrite = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Group pigments that no method can tell apart by a spectrum of so many counts.

    Each pigment's expected spectrum is imitated by each other one and by mixtures, with thickness, binder, ground and
    scatter free. Two part where the deviance exceeds 25. The whole default palette takes some minutes.

    **Examples**

        underpaint pigments groups

        underpaint pigments groups --palette xu2022 --counts 1e4 --out-figure groups.png
    """
    del overwrite  # looked at with the outputs
    from underpaint.physics.instrument import load_instrument
    from underpaint.physics.materials import DEFAULT_PALETTE, load_palette
    from underpaint.pigments.limits import Question, separate

    chosen, own = load_palette(palette or DEFAULT_PALETTE), load_instrument(instrument)
    asked = Question(ground=ground, start_kev=start_kev)
    with progress(quiet=quiet) as step:
        found = separate(chosen.pigments, own, question=asked, composites=mixtures, progress=step)
    grouped = found.groups(counts)
    if out_figure is not None:
        _draw(found, counts, out_figure)
    if as_json:
        show_json(_record(found, grouped, counts, chosen.name))
    elif not quiet:
        _show(found, grouped, counts)


def _draw(found: "Separation", counts: float, path: Path) -> None:
    from underpaint.display.plot import save_png
    from underpaint.display.plot.groups import separation_matrix

    title = f"Counts at which two pigments part ({found.instrument}); frames: groups at {counts:.3g} counts"
    save_png(separation_matrix(found, counts, title=title), path)


def _record(found: "Separation", grouped: "list[Group]", counts: float, palette: str) -> dict[str, Any]:
    from dataclasses import asdict

    from underpaint._version import __version__

    return {
        "version": __version__,
        "instrument": found.instrument,
        "palette": palette,
        "counts": counts,
        "question": asdict(found.question),
        "groups": [_group(found, own) for own in grouped],
        "composites": [
            {
                "pigment": own.pigment,
                "mixture": dict(own.mixture),
                "counts_needed": own.counts_needed,
                "told_apart": own.counts_needed < counts,
            }
            for own in found.composites
        ],
        "pigments": list(found.pigments),
        "counts_needed": _finite(found.mutual.tolist()),
        "counts_needed_one_way": found.needed.tolist(),
    }


def _group(found: "Separation", group: "Group") -> dict[str, Any]:
    from underpaint.pigments.limits import told_apart_text, within_group_prior

    pairs = [(one, other) for place, one in enumerate(group.pigments) for other in group.pigments[place + 1 :]]
    return {
        "pigments": list(group.pigments),
        "elements": list(group.elements),
        "neighbours": list(group.neighbours),
        "prior": within_group_prior(group.pigments),
        "pairs": [
            {
                "pigments": [one, other],
                "counts_needed": _finite(found.counts_needed(one, other)),
                "resolved_to": found.trusted_to(one, other),
                "would_be_told_apart_by": told_apart_text(one, other),
            }
            for one, other in pairs
        ],
    }


def _finite(value: Any) -> Any:
    """Return numbers with null in place of infinity, which JSON does not know."""
    if isinstance(value, list):
        return [_finite(entry) for entry in value]
    return None if value == float("inf") else value


def _show(found: "Separation", grouped: "list[Group]", counts: float) -> None:
    from underpaint.pigments.limits import MODEL_COUNTS

    title = f"{len(grouped)} groups at {counts:.3g} counts, {found.instrument}"
    table = list_table(title, ("elements", "pigments", "first pair parts at", "also resembles"))
    for group in grouped:
        near = ", ".join(group.neighbours[:6]) + (
            f" and {len(group.neighbours) - 6}" if len(group.neighbours) > 6 else ""
        )
        table.add_row(", ".join(group.elements) or "none", ", ".join(group.pigments), _first(found, group), near)
    show(table)
    alike = [own for own in found.composites if own.counts_needed >= max(counts, WORTH_SHOWING)]
    if alike:
        show(_mixtures(alike))
    say("Members of a group share its probability by period, palette and loading, never by the spectrum (--json).")
    if counts > MODEL_COUNTS:
        say(f"Beyond {MODEL_COUNTS:.0e} counts a simulation's own errors (1 %) hide what this counts on.")


def _first(found: "Separation", group: "Group") -> str:
    if len(group.pigments) < 2:
        return ""
    needed, pair = min(
        (found.counts_needed(one, other), (one, other))
        for place, one in enumerate(group.pigments)
        for other in group.pigments[place + 1 :]
    )
    return f"{needed:.1e} ({pair[0]}, {pair[1]})" if needed < float("inf") else "never, as far as computed"


def _mixtures(composites: "list[Composite]") -> Any:
    table = list_table("mixtures that pass for a pigment", ("pigment", "mixture, per cent by mass", "part at"))
    for own in composites:
        parts = " + ".join(f"{name} {100 * share:.0f}" for name, share in own.mixture.items())
        table.add_row(own.pigment, parts, f"{own.counts_needed:.1e}")
    return table
