"""``pigments groups``: which pigments no spectrum tells apart; and ``pigments`` as a family of commands."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from underpaint.cli import _library
from underpaint.cli._console import list_table, progress, say, show, show_json
from underpaint.cli._outputs import careful, new_file
from underpaint.cli._scans import Json, Overwrite, Quiet

if TYPE_CHECKING:
    from underpaint.pigments.limits import Composite, Group, Separation

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


pigments = typer.Typer(cls=LibraryByDefault, context_settings={"help_option_names": ["-h", "--help"]})
pigments.command(LIBRARY)(careful(_library.pigments))


@pigments.callback()
def start() -> None:
    """Show the pigment library, or which of its pigments no spectrum tells apart.

    **Examples**

        underpaint pigments list

        underpaint pigments show vermilion

        underpaint pigments groups --counts 1e5
    """


@pigments.command()
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
