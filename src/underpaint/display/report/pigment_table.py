"""The pigments that each group found may be: formula, period, and what is said for each."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from underpaint.display.report.findings import Finding
from underpaint.display.report.wording import AS_LIKELY, certainty, line_name, percent
from underpaint.physics.materials import Pigment, library

MOST_ROWS = 10
"""Pigments told of a group; the others are named below them."""


@dataclass(frozen=True)
class PigmentRow:
    """A pigment that a group may be.

    Parameters
    ----------
    label, formula, period, weight : str
        ``weight``: how likely it is where the group was found, or where the model leans to it, or that it was not asked
        for; "" where nothing is said.
    """

    label: str
    formula: str = ""
    period: str = ""
    weight: str = ""


@dataclass(frozen=True)
class GroupRows:
    """A group with its pigments.

    Parameters
    ----------
    label, certainty, evidence : str
    rows : tuple of PigmentRow
    others : tuple of str
        Labels of the pigments without a row.
    told_apart : str
        Which other method would tell the two likeliest apart; "" where there are not two.
    """

    label: str
    certainty: str
    evidence: str
    rows: tuple[PigmentRow, ...]
    others: tuple[str, ...]
    told_apart: str


def pigment_table(findings: Sequence[Finding]) -> list[GroupRows]:
    """Return the groups that were found with the pigments that each may be, the likeliest first."""
    return [_group(own) for own in findings]


def period_text(pigment: Pigment) -> str:
    """Say when painters used a pigment: "antiquity to 20th century", or its years."""
    own = pigment.period
    if own.text:
        return own.text
    if own.first is None and own.last is None:
        return "not known"
    first = "" if own.first is None else f"from {own.first}" if own.first > 0 else f"from {-own.first} BC"
    return " ".join(part for part in (first, "" if own.last is None else f"to {own.last}") if part)


def _group(own: Finding) -> GroupRows:
    weights = _chances(own) | {other.label: f"leaning in {percent(other.share)}" for other in own.leanings}
    names = list(dict.fromkeys([*weights, *own.members])) or [own.label]
    why = "left out by the palette" if own.by_palette else "unknown to the network"
    weights |= dict.fromkeys(own.left_out, why)
    rows = tuple(_row(name, weights.get(name, "")) for name in names[:MOST_ROWS])
    evidence = "; ".join(f"{line_name(line.family)} above 3σ in {percent(line.share)}" for line in own.evidence)
    return GroupRows(
        own.label,
        certainty(own),
        evidence or ("no line fitted" if own.fitted else "lines not looked for"),
        rows,
        tuple(names[MOST_ROWS:]),
        own.told_apart,
    )


def _chances(own: Finding) -> dict[str, str]:
    """Say how likely each pigment is where the group is there; no number where all are alike."""
    shares = [share for _, share in own.shares]
    if len(shares) == 1:
        return {own.shares[0][0]: "the only one asked for"}
    if shares and math.isclose(min(shares), max(shares), rel_tol=AS_LIKELY):
        return {label: "as likely as the others" for label, _ in own.shares}
    return {label: percent(share) for label, share in own.shares}


def _row(label: str, weight: str) -> PigmentRow:
    if label not in library():
        return PigmentRow(label, weight=weight)
    pigment = library()[label]
    return PigmentRow(label, pigment.formula, period_text(pigment), weight)
