"""Write docs/reference/pigments.md from the tables of the sample room.

``--check`` changes nothing and fails when the page is not what the tables say.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from underpaint.physics.materials import Pigment, library, load_palette, palette_names
from underpaint.physics.materials.library import OIL_FACTOR, data_table

PAGE = Path(__file__).resolve().parents[1] / "docs" / "reference" / "pigments.md"
HEAD = """# Pigments, palettes and what goes with them

Printed from the tables in `src/underpaint/physics/materials/data` by `python tools/pigments_page.py`; edit those, not
this page.
`underpaint pigments list` shows the same, by element, period or palette; `underpaint pigments show NAME` shows one in
full.

A number in brackets is the source, listed at the end. **Much here rests on memory** and says so: {memory} of {figures}
densities, formulas, oil absorptions and loadings, in whole or in part. Replace such a figure when you have a better
one. Colour Index names are from memory throughout; `PBr7`, `PW18` and the like each cover several pigments.

- **Density** is of the dry pigment, g/cm3. A paint is much lighter: it is mixed by volume with its binder.
- **Oil** is the oil absorption, g linseed oil per 100 g pigment: the least that makes a stiff paste.
- **Loading** is the greatest mass share of a paint film: 100 / (100 + oil), or as stated for leaf, resins and lakes.
- **Groups** are the elements that show it. In brackets: elements that it holds too, but that are not counted.
- Years are approximate; negative years are BC.
"""
Row = tuple[str, ...]


class Sources:
    """Numbers sources in the order of their first mention."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def mark(self, source: str) -> str:
        """Return the number of a source in brackets."""
        return f"[{self.numbers.setdefault(source, len(self.numbers) + 1)}]"


def table(header: Row, rows: Sequence[Row]) -> str:
    """Return a Markdown table."""
    lines = [header, tuple("---" for _ in header), *rows]
    return "".join(f"| {' | '.join(entry.replace('|', '/') for entry in line)} |\n" for line in lines)


def figures(pigment: Pigment) -> list[str]:
    """Return the sources of the figures of a pigment."""
    sources = [pigment.formula_source, pigment.density_source, pigment.oil_absorption_source, pigment.loading_source]
    return [source for source in sources if source]


def pigment_row(pigment: Pigment, sources: Sources) -> Row:
    """Return one pigment as a line of the table."""
    elements = {group.name: group.element for group in library().groups}
    names = "; ".join((*pigment.synonyms, *filter(None, [pigment.abbreviation])))
    oil, loading, share = "", "", pigment.achievable_loading
    if pigment.oil_absorption is not None:
        oil = f"{pigment.oil_absorption:g} {sources.mark(pigment.oil_absorption_source)}"
    if share is not None:
        loading = f"{share:.2f}" + (f" {sources.mark(pigment.loading_source)}" if pigment.loading is not None else "")
    shown = ", ".join(elements[name] for name in pigment.groups) or "none"
    also = f" ({', '.join(pigment.accessory)})" if pigment.accessory else ""
    return (
        f"`{pigment.name}`",
        names,
        f"{pigment.formula} {sources.mark(pigment.formula_source)}",
        f"{pigment.density:g} {sources.mark(pigment.density_source)}",
        oil,
        loading,
        f"{pigment.period.text} {sources.mark(pigment.period.source)}",
        shown + also,
        pigment.colour_index,
    )


def pigments_section(sources: Sources) -> str:
    """Return the table of all pigments and their notes."""
    header = ("Name", "Also called", "Formula", "Density", "Oil", "Loading", "In use", "Groups", "C.I.")
    text = f"\n## {len(library())} pigments, grounds and extenders\n\n"
    text += table(header, [pigment_row(pigment, sources) for pigment in library()])
    notes = "".join(f"- `{pigment.name}`: {pigment.note}\n" for pigment in library() if pigment.note)
    return text + "\n### Notes\n\n" + notes


def palettes_section(sources: Sources) -> str:
    """Return the palettes."""
    text = "\n## Palettes\n\nA name for `--palette`; a file of your own serves as well.\n"
    for name in palette_names():
        palette = load_palette(name)
        years = "" if palette.first is None else f" ({palette.first} to {palette.last})"
        text += f"\n**`{palette.name}`**: {palette.label}{years} {sources.mark(palette.source)}. "
        text += ", ".join(palette.pigments) + ".\n"
    return text


def contents(row: Mapping[str, Any]) -> str:
    """Return what a row of the binders, coatings, supports or grounds is made of."""
    parts = row.get("components") or row.get("pigments") or {row.get("formula", ""): 1.0}
    return " + ".join(f"{name} ({100 * share:.3g} %)" if len(parts) > 1 else name for name, share in parts.items())


def materials_section(sources: Sources) -> str:
    """Return binders, driers, coatings, supports and grounds."""
    text = "\n## Binders, driers, varnishes, supports, grounds\n"
    for title, kind, unit in (
        ("Binders", "binder", ""),
        ("Varnishes and dirt", "coating", " um"),
        ("Supports", "support", " um"),
    ):
        rows = [
            (
                f"`{row['name']}`",
                row["label"],
                f"{contents(row)} {sources.mark(row['source'])}",
                f"{row['density']:g}",
                f"{row['thickness_um']:g}{unit}" if unit else "",
            )
            for row in data_table(f"{kind}s")[kind]
        ]
        text += f"\n### {title}\n\n" + table(("Name", "", "Stands for it", "Density", "Usual thickness"), rows)
    driers = [
        (
            f"`{row['name']}`",
            row["label"],
            row["formula"],
            f"{row['share'][0]:g} to {row['share'][1]:g}",
            f"{row['first']} to {row['last']} {sources.mark(row['source'])}",
        )
        for row in data_table("driers")["drier"]
    ]
    text += '\n### Driers\n\nNever labels: `Paint(..., driers={"lead_drier": 0.005})` adds one to the binder.\n\n'
    text += table(("Name", "", "Formula", "g metal per g oil", "In use"), driers)
    grounds = [
        (
            f"`{row['name']}`",
            row["label"],
            contents(row),
            "none" if row.get("pure") else f"{row['binder']}, {row['pigment_to_binder']:g} : 1",
            f"{row['note']} {sources.mark(row['source'])}",
        )
        for row in data_table("grounds")["ground"]
    ]
    return text + "\n### Grounds\n\n" + table(("Name", "", "Made of", "Binder, pigment to it", ""), grounds)


def oil_section() -> str:
    """Return the rule for the binder's share, compared with published recipes."""
    makers = {"roberson": "Roberson 1901", "winsor": "Winsor & Newton 1901", "massey": "Massey"}
    rows: list[Row] = []
    ratios: dict[str, list[float]] = {maker: [] for maker in makers}
    for paint in data_table("oil_shares")["paint"]:
        absorbed = library()[paint["pigment"]].oil_absorption
        if absorbed is None:
            continue
        for maker in makers:
            if maker in paint:
                ratios[maker].append(paint[maker] / absorbed)
        shown = (f"{paint[maker]:g}" if maker in paint else "" for maker in makers)
        rows.append((f"`{paint['pigment']}`", f"{absorbed:g}", f"{OIL_FACTOR * absorbed:.0f}", *shown))
    text = f"""
## How much binder

`underpaint.physics.materials.pigment_to_binder_in_oil(pigments, factor={OIL_FACTOR})` returns the grams of pigment per
gram of oil from the oil absorption: the oil is `factor` times what the pigment takes up, so the ratio is
`100 / (factor x oil)`.
It is used only on request: `Paint` keeps 3 : 1, as Xu et al. 2022 do.

The factor {OIL_FACTOR} is from a public paint-physics note for paint ground by hand in the 18th and 19th century (it
cites Watin's lead white); the note takes 1.2 for smalt and vermilion. Published recipes have more oil, and
scatter widely:

"""
    for maker, label in makers.items():
        tenths = statistics.quantiles(ratios[maker], n=10)
        text += (
            f"- {label}: {statistics.median(ratios[maker]):.1f} times the oil absorption in the median of "
            f"{len(ratios[maker])} colours, 80 % of them between {tenths[0]:.1f} and {tenths[-1]:.1f}\n"
        )
    text += """
So take the factor as a range, 1.2 to 2.5 for most pigments, and more for siennas, umbers and cobalt blue.
g oil per 100 g pigment (Church, *The Chemistry of Paints and Painting*, for the tubes of 1901; R. Massey, *Formulas for
Painters*; the pigments of that time are not those of the oil absorptions):

"""
    return text + table(("Pigment", "Oil absorption", "Rule", *makers.values()), rows)


def page() -> str:
    """Return the whole page."""
    sources = Sources()
    parts = pigments_section(sources), palettes_section(sources), materials_section(sources), oil_section()
    stated = [source for pigment in library() for source in figures(pigment)]
    memory = sum("memory" in source or "general knowledge" in source for source in stated)
    head = HEAD.format(memory=memory, figures=len(stated))
    listed = "".join(f"{number}. {source}\n" for source, number in sources.numbers.items())
    return f"{head}{''.join(parts)}\n## Sources\n\n{listed}"


def main() -> int:
    """Write the page, or with ``--check`` only compare; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when the page is out of date")
    text = page()
    if parser.parse_args().check:
        if not PAGE.is_file() or PAGE.read_text(encoding="utf-8") != text:
            print("docs/reference/pigments.md does not show the tables. Run: python tools/pigments_page.py")
            return 1
        print("docs/reference/pigments.md shows the tables.")
        return 0
    PAGE.write_text(text, encoding="utf-8")
    print(f"Wrote {PAGE.name}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
