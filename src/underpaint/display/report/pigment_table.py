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
    """Row of a possible pigment of a group.

    Parameters
    ----------
    label, formula, period, weight : str
        ``weight`` is the probability of the pigment given the group, the pixels in which the model prefers the pigment,
        or the reason why it was not considered; "" if unknown.
    """

    label: str
    formula: str = ""
    period: str = ""
    weight: str = ""


@dataclass(frozen=True)
class GroupRows:
    """Rows of a group and its possible pigments.

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
    return [_group_rows(finding) for finding in findings]


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


def _group_rows(finding: Finding) -> GroupRows:
    weight_texts = _weight_texts(finding) | {
        member_finding.label: f"preferred in {percent(member_finding.share)}"
        for member_finding in finding.separate_findings
    }
    pigment_names = list(dict.fromkeys([*weight_texts, *finding.members])) or [finding.label]
    omission_text = "not in the palette" if finding.omitted_by_palette else "unknown to the network"
    weight_texts |= dict.fromkeys(finding.omitted_members, omission_text)
    pigment_rows = tuple(
        _pigment_row(pigment_name, weight_texts.get(pigment_name, "")) for pigment_name in pigment_names[:MAX_ROWS]
    )
    evidence_text = "; ".join(
        f"{line_name(line.family)} above 3σ in {percent(line.share)}" for line in finding.evidence
    )
    return GroupRows(
        finding.label,
        certainty(finding),
        evidence_text or ("no fitted line" if finding.has_fitted_lines else "lines not fitted"),
        pigment_rows,
        tuple(pigment_names[MAX_ROWS:]),
        finding.distinguishing_text,
    )


def _weight_texts(finding: Finding) -> dict[str, str]:
    """Return a text for the probability of each pigment given the group; without numbers if all are equal."""
    member_shares = [share for _, share in finding.shares]
    if len(member_shares) == 1:
        return {finding.shares[0][0]: "the only candidate"}
    if member_shares and math.isclose(min(member_shares), max(member_shares), rel_tol=MAX_RELATIVE_DIFFERENCE):
        return {label: "as probable as the others" for label, _ in finding.shares}
    return {label: percent(share) for label, share in finding.shares}


def _pigment_row(label: str, weight: str) -> PigmentRow:
    if label not in library():
        return PigmentRow(label, weight=weight)
    pigment = library()[label]
    return PigmentRow(label, pigment.formula, period_text(pigment), weight)
