"""Texts for numbers and findings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from underpaint.display import plot
from underpaint.display.report.findings import MIN_SHARE, Evidence, Finding
from underpaint.display.report.layers import PlaceShares
from underpaint.io.results.session import Statement

LIST_LIMIT = 12
CERTAIN, LIKELY, POSSIBLE, DOUBTFUL = "certain", "likely", "possible", "doubtful"
CERTAIN_PROBABILITY, LIKELY_PROBABILITY = 0.9, 0.75
CERTAIN_LINE_SHARE, LIKELY_LINE_SHARE = 0.9, 0.5
"""Minimum fractions of a group's pixels in which its strongest line is significant, for "certain" and "likely"."""
MEANINGS = {
    CERTAIN: f"mean probability of at least {CERTAIN_PROBABILITY:g} where the group is present, and a line above 3σ in "
    f"at least {100 * CERTAIN_LINE_SHARE:.0f} % of these pixels",
    LIKELY: f"at least {LIKELY_PROBABILITY:g} and {100 * LIKELY_LINE_SHARE:.0f} %",
    POSSIBLE: "lower values",
    DOUBTFUL: "no line above 3σ in half of the pixels, so check the element map",
}
_EXTENT_WORDS = (
    (0.9, "almost everywhere"),
    (0.5, "over most of the scan"),
    (0.05, "in places"),
    (0.0, "in a few spots"),
)
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_MAX_NAMED_MEMBERS = 3
EQUAL_PROBABILITY_TOLERANCE = 0.01
"""Relative difference of two probabilities below which the pigments count as equally probable."""
_MIN_SHARE_IN_REGION = 0.5


@dataclass(frozen=True)
class KeyFinding:
    """Text of a finding for the first page of the report.

    Parameters
    ----------
    title : str
        Name, such as "Mercury red".
    members : str
        Possible pigments, such as "vermilion or calomel"; "" for a single pigment.
    extent : str
        Extent, such as "in places (25 % of the area)".
    depth : str
        Depth, such as "at the surface in 20 %, below it in 8 %"; "" for a model that predicts no places.
    certainty : str
        Certainty that the group is present at any depth, a key of :data:`MEANINGS`. The certainty does not refer to a
        single pigment or to the depth.
    finding : Finding
    """

    title: str
    members: str
    extent: str
    depth: str
    certainty: str
    finding: Finding

    @property
    def details(self) -> str:
        """Text that follows the name in a sentence, such as ": certain, in places (25 % of the area)"."""
        members = f" ({self.members})" if self.members else ""
        answers = f": {self.finding.answers}" if self.finding.answers else ""
        return f"{members}: {self.certainty}, {self.extent}{answers}"

    @property
    def sentence(self) -> str:
        """One sentence on the finding, and a second sentence on the depth if it is known."""
        depth = f" Depth: {self.depth}." if self.depth else ""
        return f"{self.title}{self.details}.{depth}"


def element_sentence(line: Evidence) -> str:
    """Return a sentence on the extent and strength of a line family."""
    counts = thousands(line.median_counts)
    return f"{line_name(line.family)} in {percent(line.share)} of the pixels, with a median of {counts} counts there"


def key_finding(finding: Finding, places: Sequence[PlaceShares], regions: Mapping[str, float]) -> KeyFinding:
    """Return the text of a finding.

    Parameters
    ----------
    finding : Finding
    places : sequence of PlaceShares
        Places of all groups; empty for a model that predicts no places.
    regions : mapping of str to float
        For each region, the fraction of its pixels in which the group was detected.
    """
    title = capitalised(short_label(finding.label))
    return KeyFinding(
        title,
        member_text(finding),
        _extent_text(finding, regions),
        _depth_text(finding, places),
        certainty(finding),
        finding,
    )


def by_certainty(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings sorted by certainty; equally certain findings keep their order."""
    certainty_order = list(MEANINGS)
    return sorted(findings, key=lambda finding: certainty_order.index(certainty(finding)))


def certainty(finding: Finding) -> str:
    """Return the certainty that a group or pigment is present."""
    if finding.is_doubtful:
        return DOUBTFUL
    if not finding.has_fitted_lines:
        return LIKELY if finding.mean_probability >= LIKELY_PROBABILITY else POSSIBLE
    max_line_fraction = max(line.share for line in finding.evidence)
    if finding.mean_probability >= CERTAIN_PROBABILITY and max_line_fraction >= CERTAIN_LINE_SHARE:
        return CERTAIN
    return (
        LIKELY
        if finding.mean_probability >= LIKELY_PROBABILITY and max_line_fraction >= LIKELY_LINE_SHARE
        else POSSIBLE
    )


def member_text(finding: Finding) -> str:
    """Return a text that names the most probable pigments of a group; "" for a single pigment.

    The text is "lead white, red lead or another", or "for example lead white or red lead" if a third pigment is equally
    probable. The text also states how many members of the group the palette excludes.
    """
    members_text = _most_probable_members(finding)
    if not (finding.omitted_by_palette and finding.omitted_members):
        return members_text
    n_omitted = len(finding.omitted_members)
    return f"{members_text}; the palette leaves out {n_omitted} {'other' if n_omitted == 1 else 'others'} of the group"


def _most_probable_members(finding: Finding) -> str:
    ranked_members = finding.shares or tuple(
        (member_finding.label, member_finding.share) for member_finding in finding.separate_findings
    )
    member_labels = [label for label, _ in ranked_members] or list(finding.members)
    if len(member_labels) > _MAX_NAMED_MEMBERS:
        return _first_pigment_names(member_labels, [share for _, share in ranked_members] or [0.0] * len(member_labels))
    return (
        f"{', '.join(member_labels[:-1])} or {member_labels[-1]}" if len(member_labels) > 1 else "".join(member_labels)
    )


def _first_pigment_names(names: Sequence[str], shares: Sequence[float]) -> str:
    """Return a text with the one or two most probable pigments, or two examples if a third is equally probable."""
    if not math.isclose(shares[1], shares[2], rel_tol=EQUAL_PROBABILITY_TOLERANCE):
        return f"{names[0]}, {names[1]} or another"
    if not math.isclose(shares[0], shares[2], rel_tol=EQUAL_PROBABILITY_TOLERANCE):
        return f"{names[0]} or another"
    return f"for example {names[0]} or {names[1]}"


def _extent_text(finding: Finding, regions: Mapping[str, float]) -> str:
    spread_text = next(spread_words for min_share, spread_words in _EXTENT_WORDS if finding.share >= min_share)
    extent_parts = [f"{spread_text} ({percent(finding.share)} of the area)"]
    region_texts = [
        f"“{region_name}” ({percent(share)})" for region_name, share in regions.items() if share >= _MIN_SHARE_IN_REGION
    ]
    extent_parts.append(
        f"in the {'region' if len(region_texts) == 1 else 'regions'} {', '.join(region_texts)}" if region_texts else ""
    )
    return "; ".join(extent_part for extent_part in extent_parts if extent_part)


def _depth_text(finding: Finding, places: Sequence[PlaceShares]) -> str:
    place = next((group_place for group_place in places if group_place.name == finding.name), None)
    if place is None:
        return ""
    depth_shares = ((place.surface, "at the surface"), (place.below, "below it"), (place.unplaced, "undetermined"))
    return ", ".join(f"{place_words} in {percent(share)}" for share, place_words in depth_shares if share >= MIN_SHARE)


def statement_text(statement: Statement, label: str) -> str:
    """Return an expert's statement on a group, a line or a paint, with reason, author and date."""
    correction_text = f"corrected to {statement.correction}" if statement.correction else "not this"
    verdict_text = {"confirmed": "confirmed", "corrected": correction_text}.get(statement.verdict, "comment")
    reason_text = f": {statement.reason}" if statement.reason else ""
    author_text = f"{statement.author or 'no name'}, {date_text(statement.date[:10])}"
    return f"{capitalised(label)}, {verdict_text}{reason_text} ({author_text})"


def percent(share: float) -> str:
    """Return a fraction as a percentage, with one decimal below 10 %."""
    if share > 0.995 and share < 1:
        return "over 99 %"
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def thousands(value: float) -> str:
    """Return a rounded number as text, with narrow spaces between groups of three digits."""
    return f"{value:,.0f}".replace(",", "\u202f")


def date_text(text: str) -> str:
    """Return a date such as "21 November 2026, 23:08 UTC"; text that is not in ISO 8601 is returned unchanged."""
    try:
        date_time = datetime.fromisoformat(text)
    except ValueError:
        return text
    day_text = f"{date_time.day} {_MONTHS[date_time.month - 1]} {date_time.year}"
    if len(text) <= len("2026-11-21"):
        return day_text
    return f"{day_text}, {date_time:%H:%M} {date_time.tzname() or ''}".strip()


def line_name(family: str) -> str:
    """Return the printed name of a line family: "Hg L" for ``Hg_L``."""
    return plot.siegbahn(family)


def join_names(names: Sequence[str], limit: int = LIST_LIMIT) -> str:
    """Return names joined by commas; names beyond the limit are only counted."""
    shown_names = ", ".join(names[:limit])
    return shown_names if len(names) <= limit else f"{shown_names} and {len(names) - limit} more"


def capitalised(sentence: str) -> str:
    """Return a sentence with an initial capital."""
    return sentence[:1].upper() + sentence[1:]


def short_label(label: str) -> str:
    """Return a group's label without the examples in brackets."""
    return label.partition(" (")[0]
