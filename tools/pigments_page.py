"""Write docs/reference/pigments.md from the tables of the materials.

``--check`` changes nothing and fails if the page differs from the tables.
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
HEAD = """# Pigments, palettes and other materials

`python tools/pigments_page.py` prints this page from the tables in `src/underpaint/physics/materials/data`. Edit the
tables, not this page.
`underpaint pigments list` lists the same pigments by element, period or palette, and `underpaint pigments show NAME`
shows all data of one pigment.

A number in brackets refers to the list of sources at the end. **Many figures are from memory**, as their source states:
{memory} of {figures} densities, formulas, oil absorptions and loadings, in whole or in part. Replace such a figure if
you have a better one. All Colour Index names are from memory; names such as `PBr7` and `PW18` cover several pigments.

- **Density** is that of the dry pigment, g/cm3. A paint has a much lower density, because pigment and binder mix by
  volume.
- **Oil** is the oil absorption: the lowest amount of linseed oil that makes a stiff paste, g per 100 g pigment.
- **Loading** is the highest mass share of pigment in a paint film: 100 / (100 + oil), or as stated for leaf, resins and
  lakes.
- **Groups** are the elements by which a pigment is detected. Elements in brackets are present but not counted.
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
    text = "\n## Palettes\n\nThe option `--palette` takes one of these names, or the path of a palette file.\n\n"
    rows: list[Row] = []
    for name in palette_names():
        palette = load_palette(name)
        years = "" if palette.first is None else f"{palette.first} to {palette.last}"
        label = f"{palette.label} {sources.mark(palette.source)}"
        rows.append((f"`{palette.name}`", label, years, ", ".join(palette.pigments)))
    return text + table(("Name", "Period or painter", "Years", "Pigments"), rows)


def contents(row: Mapping[str, Any]) -> str:
    """Return the composition of a row of the binders, coatings, supports or grounds."""
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
        text += f"\n### {title}\n\n" + table(("Name", "", "Simulated as", "Density", "Usual thickness"), rows)
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
    text += '\n### Driers\n\n`Paint(..., driers={"lead_drier": 0.005})` adds a drier to the binder. '
    text += "A drier is never a label.\n\n"
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
gram of oil from the oil absorption. The amount of oil is `factor` times the oil absorption, so the ratio is
`100 / (factor x oil)`.
This function is used only on request, because `Paint` has a default ratio of 3 : 1, as in Xu et al. 2022.

The factor {OIL_FACTOR} is from a public paint-physics note on paint ground by hand in the 18th and 19th century, which
cites Watin's lead white. The note has a factor of 1.2 for smalt and vermilion. Published recipes have more oil and vary
widely:

"""
    for maker, label in makers.items():
        tenths = statistics.quantiles(ratios[maker], n=10)
        text += (
            f"- {label}: the median of {len(ratios[maker])} colours is {statistics.median(ratios[maker]):.1f} times "
            f"the oil absorption, and 80 % of them are between {tenths[0]:.1f} and {tenths[-1]:.1f} times.\n"
        )
    text += """
The factor is therefore a range: 1.2 to 2.5 for most pigments, and more for siennas, umbers and cobalt blue.

The table gives g oil per 100 g pigment. Sources are Church, *The Chemistry of Paints and Painting*, for the tubes of
1901, and R. Massey, *Formulas for Painters*. The pigments of that time are not those of the oil absorptions.

"""
    return text + table(("Pigment", "Oil absorption", "Rule", *makers.values()), rows)


def page() -> str:
    """Return the whole page."""
    sources = Sources()
    parts = pigments_section(sources), palettes_section(sources), materials_section(sources), oil_section()
    stated = [source for pigment in library() for source in figures(pigment)]
    memory = sum("memory" in source or "general knowledge" in source for source in stated)
    head = HEAD.format(memory=memory, figures=len(stated))
    listed = table(("Number", "Source"), [(f"{number}", source) for source, number in sources.numbers.items()])
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
