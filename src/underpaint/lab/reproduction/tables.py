"""Results as files: JSON whole, and tables for people as CSV and HTML."""

import json
from collections.abc import Sequence
from html import escape
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np

from underpaint.io.results.csv_text import write_csv
from underpaint.lab.reproduction.scoring import SCORES
from underpaint.runtime.files import whole_file

Row = Sequence[str | float | None]
STYLE = (
    "body{font:14px/1.5 sans-serif;margin:2em auto;max-width:75em;padding:0 1em}table{border-collapse:collapse}"
    "td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #eee}td:first-child,th:first-child,"
    "td:nth-child(2),th:nth-child(2){text-align:left}tr.mean{font-weight:bold;background:#f6f6f6}img{max-width:100%}"
)
PAPER_SCORES = ("accuracy", "sensitivity", "f1")


def write_json(result: dict[str, Any], path: Path) -> None:
    """Write a result, None for what is undefined; it appears whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as part:
        part.write_text(json.dumps(_known(result), indent=1, allow_nan=False) + "\n", "utf-8")


def write_table(header: Sequence[str], rows: Sequence[Row], path: Path, *, title: str, note: str) -> None:
    """Write ``path`` with the suffixes .csv and .html; values with three decimals, None as an empty cell."""
    cells = [[_cell(value) for value in row] for row in rows]
    stream = StringIO()
    write_csv(stream, [header, *cells], line_end="\n")
    for suffix, text in ((".csv", stream.getvalue()), (".html", _page(header, cells, title, note))):
        with whole_file(path.with_suffix(suffix)) as part:
            part.write_text(text, "utf-8")


def arm_rows(result: dict[str, Any]) -> tuple[list[str], list[Row]]:
    """Return Table 3 as a header and rows: arm, pigment or group, our scores, the paper's, the baselines."""
    header = ["arm", "name", *SCORES, "F1 spread", *(f"paper {name}" for name in PAPER_SCORES)]
    rows: list[Row] = []
    for arm, figures in result.items():
        if arm == "about":
            continue
        named = {name: row for name, row in figures.items() if name != "groups"}
        groups = {f"group: {name}": row for name, row in figures["groups"].items()}
        for name, row in (named | groups).items():
            paper = row.get("paper", [None] * len(PAPER_SCORES))
            scores = [row[key] for key in SCORES]
            baselines = (row["always_yes"]["f1"], row["majority_accuracy"])
            rows.append([arm.replace("_", " "), name, *scores, row["f1_spread"], *paper, *baselines])
    return [*header, "always yes F1", "majority accuracy"], rows


def flat_rows(table: dict[str, dict[str, Any]], first: str) -> tuple[list[str], list[Row]]:
    """Return ``{name: {column: value}}`` as a header and rows."""
    columns = list(next(iter(table.values())))
    return [first, *columns], [[name, *(row[column] for column in columns)] for name, row in table.items()]


def _known(value: Any) -> Any:
    """Return a value with None for what is undefined, which JSON has no other word for; long decimals cut."""
    if isinstance(value, dict):
        return {str(key): _known(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_known(each) for each in value]
    if isinstance(value, float):
        return float(f"{value:.5g}") if np.isfinite(value) else None
    return value


def _cell(value: str | float | None) -> str:
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return ""
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _page(header: Sequence[str], cells: Sequence[Sequence[str]], title: str, note: str) -> str:
    titles = "".join(f"<th>{escape(cell)}</th>" for cell in header)
    body = "\n".join(_line(row) for row in cells)
    return (
        f"<!doctype html><html lang=en><meta charset=utf-8><title>{escape(title)}</title><style>{STYLE}</style>"
        f"<h1>{escape(title)}</h1><p>{escape(note)}</p>"
        f"<table><thead><tr>{titles}</tr></thead>\n<tbody>{body}</tbody></table></html>\n"
    )


def _line(row: Sequence[str]) -> str:
    kind = " class=mean" if "mean" in row[1] else ""
    return f"<tr{kind}>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>"
