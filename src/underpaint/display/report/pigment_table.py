"""Table of the possible pigments of each detected group: formula, period and weight."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from underpaint.display.report.findings import Finding
from underpaint.display.report.wording import MAX_RELATIVE_DIFFERENCE, certainty, line_name, percent
from underpaint.physics.materials import Pigment, library

MAX_ROWS = 10
"""Maximum number of rows for a group; further pigments are named below them."""


@dataclass(frozen=True)
class PigmentRow:
    """A possible pigment of a group.

    Parameters
    ----------
    label, formula, period, weight : str
        ``weight`` states the probability of the pigment given the group, the pixels in which the model prefers it, or
        that it was not considered; "" without a statement.
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
    other_labels : tuple of str
        Labels of the pigments without a row.
    distinguishing_text : str
        Methods that would distinguish the two most probable pigments; "" for fewer than two pigments.
    """

    label: str
    certainty: str
    evidence: str
    rows: tuple[PigmentRow, ...]
    other_labels: tuple[str, ...]
    distinguishing_text: str


def pigment_table(findings: Sequence[Finding]) -> list[GroupRows]:
    """Return the detected groups with their possible pigments, the most probable first."""
    return [_group(finding) for finding in findings]


def period_text(pigment: Pigment) -> str:
    """Return the period in which painters used a pigment: "antiquity to 20th century", or years."""
    period = pigment.period
    if period.text:
        return period.text
    if period.first is None and period.last is None:
        return "not known"
    start_text = (
        "" if period.first is None else f"from {period.first}" if period.first > 0 else f"from {-period.first} BC"
    )
    return " ".join(part for part in (start_text, "" if period.last is None else f"to {period.last}") if part)


def _group(finding: Finding) -> GroupRows:
    weight_texts = _weight_texts(finding) | {
        leaning.label: f"leaning in {percent(leaning.share)}" for leaning in finding.separate_findings
    }
    names = list(dict.fromkeys([*weight_texts, *finding.members])) or [finding.label]
    omission_text = "left out by the palette" if finding.omitted_by_palette else "unknown to the network"
    weight_texts |= dict.fromkeys(finding.omitted_members, omission_text)
    rows = tuple(_row(name, weight_texts.get(name, "")) for name in names[:MAX_ROWS])
    evidence = "; ".join(f"{line_name(line.family)} above 3σ in {percent(line.share)}" for line in finding.evidence)
    return GroupRows(
        finding.label,
        certainty(finding),
        evidence or ("no line fitted" if finding.has_fitted_lines else "lines not looked for"),
        rows,
        tuple(names[MAX_ROWS:]),
        finding.distinguishing_text,
    )


def _weight_texts(finding: Finding) -> dict[str, str]:
    """Return a text for the probability of each pigment given the group; without numbers if all are equal."""
    shares = [share for _, share in finding.shares]
    if len(shares) == 1:
        return {finding.shares[0][0]: "the only one asked for"}
    if shares and math.isclose(min(shares), max(shares), rel_tol=MAX_RELATIVE_DIFFERENCE):
        return {label: "as likely as the others" for label, _ in finding.shares}
    return {label: percent(share) for label, share in finding.shares}


def _row(label: str, weight: str) -> PigmentRow:
    if label not in library():
        return PigmentRow(label, weight=weight)
    pigment = library()[label]
    return PigmentRow(label, pigment.formula, period_text(pigment), weight)
