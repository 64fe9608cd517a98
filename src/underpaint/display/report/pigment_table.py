"""Tables of the report: possible pigments of each detected group, and surface pigments from a reflectance cube."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from underpaint.data.maps import BELOW_PROBABILITY, NONE_OF_LIBRARY, Results, below_surface, share_present
from underpaint.display.plot.layers import MAX_COLORS, hidden_gallery, member_map
from underpaint.display.report.findings import Finding
from underpaint.display.report.wording import EQUAL_PROBABILITY_TOLERANCE, certainty, line_name, percent
from underpaint.physics.materials import Pigment, library

MIN_SHARE = 0.001
_MAX_HIDDEN_MAPS = 12


def surface_section(results: Results, picture: Callable[[Any, str], Any]) -> dict[str, Any] | None:
    """Return the contents of the section on the surface; None without a reflectance cube.

    Parameters
    ----------
    results : Results
    picture : callable
        Function that embeds a figure with a description.
    """
    if not results.has_reflectance:
        return None
    member_fractions = {
        name: share_present(results.map("surface_member", name)) for (name,) in _stack_keys(results, "surface_member")
    }
    member_names = sorted(
        (name for name in member_fractions if name != NONE_OF_LIBRARY), key=lambda name: -member_fractions[name]
    )
    shown_members = [name for name in member_names if member_fractions[name] >= MIN_SHARE]
    hidden_maps = {name: results.map("hidden", name) for (name,) in _stack_keys(results, "hidden")}
    has_answer = np.isfinite(results.map("surface_member", NONE_OF_LIBRARY))
    summaries = {name: below_surface(image, has_answer) for name, image in hidden_maps.items()}
    hidden_groups = sorted(
        (name for name in hidden_maps if summaries[name].share >= MIN_SHARE), key=lambda name: -summaries[name].share
    )
    undetermined_groups = sorted(
        (name for name in hidden_maps if summaries[name].undetermined_share >= MIN_SHARE),
        key=lambda name: -summaries[name].undetermined_share,
    )
    settings = results.settings_of("reflectance")
    registration = settings.get("registration", {})
    description = "Map of the pigment that determines the colour of the surface, by reflectance."
    return {
        "map": picture(member_map(results, shown_members[:MAX_COLORS]), description),
        "members": [(results.member_label(name), member_fractions[name]) for name in shown_members],
        "none": member_fractions.get(NONE_OF_LIBRARY, 0.0),
        "hidden": [
            {
                "label": _group_label(results, name),
                "share": summaries[name].share,
                "certainty": summaries[name].certainty,
            }
            for name in hidden_groups
        ],
        "least": BELOW_PROBABILITY,
        "undetermined": [
            (_group_label(results, name), summaries[name].undetermined_share) for name in undetermined_groups
        ],
        "pictures": [
            picture(
                hidden_gallery(results, hidden_groups[:_MAX_HIDDEN_MAPS]), "Maps of groups that lie below the surface."
            )
        ]
        if hidden_groups
        else [],
        "cube": settings.get("cube", ""),
        "bands": settings.get("bands_used"),
        "range": settings.get("wavelength_nm", (0, 0)),
        "place": _registration_text(registration),
        "doubtful": registration.get("verdict") != "well",
        "library": settings.get("library", ""),
        "spectra": settings.get("library_spectra", 0),
        "sources": settings.get("library_sources", ()),
    }


def _group_label(results: Results, group: str) -> str:
    return results.short_label(group) if group in results.materials else group.replace("_", " ")


def _stack_keys(results: Results, quantity: str) -> tuple[tuple[str, ...], ...]:
    return results.stacks[quantity].keys if quantity in results.stacks else ()


def _registration_text(registration: dict[str, Any]) -> str:
    method_name, error_px = registration.get("how", "an unknown way"), registration.get("error_px")
    return f"by {method_name}" + (f", {error_px:.1f} pixels off on average" if isinstance(error_px, float) else "")


MAX_ROWS = 10
"""Maximum number of rows for a group. Further pigments are named below the rows."""


@dataclass(frozen=True)
class PigmentRow:
    """Row for a possible pigment of a group.

    Parameters
    ----------
    label, formula, period, weight : str
        ``weight`` states the probability of the pigment given the group, or the fraction of pixels in which the model
        prefers the pigment. For a pigment that was not considered, ``weight`` states the reason. An unknown ``weight``
        is "".
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
    """Return the rows of each detected group, in which the most probable pigments come first."""
    return [_group_rows(finding) for finding in findings]


def period_text(pigment: Pigment) -> str:
    """Return the period in which painters used a pigment, such as "antiquity to 20th century" or "from 1935"."""
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
    """Return the probability of each pigment given the group as text, without numbers if all are equally probable."""
    member_shares = [share for _, share in finding.shares]
    if len(member_shares) == 1:
        return {finding.shares[0][0]: "the only candidate"}
    if member_shares and math.isclose(min(member_shares), max(member_shares), rel_tol=EQUAL_PROBABILITY_TOLERANCE):
        return {label: "as probable as the others" for label, _ in finding.shares}
    return {label: percent(share) for label, share in finding.shares}


def _pigment_row(label: str, weight: str) -> PigmentRow:
    if label not in library():
        return PigmentRow(label, weight=weight)
    pigment = library()[label]
    return PigmentRow(label, pigment.formula, period_text(pigment), weight)
