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
CERTAIN_LINES, LIKELY_LINES = 0.9, 0.5
"""Minimum mean probability in a group's pixels, and minimum fraction of them in which its strongest line is
significant."""
MEANINGS = {
    CERTAIN: f"mean probability of {CERTAIN_PROBABILITY:g} at least where it was found, and a line of it above 3σ in "
    f"{100 * CERTAIN_LINES:.0f} % of these pixels at least",
    LIKELY: f"{LIKELY_PROBABILITY:g} and {100 * LIKELY_LINES:.0f} % at least",
    POSSIBLE: "less than that",
    DOUBTFUL: "no line of it stands out in half of the pixels: look at the element map before you believe it",
}
_SPREADS = ((0.9, "almost everywhere"), (0.5, "over most of the scan"), (0.05, "in places"), (0.0, "in a few spots"))
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_MAX_NAMED = 3
MAX_RELATIVE_DIFFERENCE = 0.01
"""Relative difference of two shares below which both pigments are called equally probable."""
_MIN_SHARE_IN_REGION = 0.5


@dataclass(frozen=True)
class KeyFinding:
    """Text of a finding for the first page of the report.

    Parameters
    ----------
    what : str
        Name, such as "Mercury red".
    members : str
        Possible pigments, such as "vermilion or calomel"; "" for a single pigment.
    where : str
        Extent, such as "in places (25 % of the area)".
    depth : str
        "at the surface in 20 %, below it in 8 %"; "" for a model without places.
    certainty : str
        Certainty of the group anywhere in the paint, a key of :data:`MEANINGS`; not that of the pigment or depth.
    finding : Finding
    """

    what: str
    members: str
    where: str
    depth: str
    certainty: str
    finding: Finding

    @property
    def details(self) -> str:
        """Text that follows the name in a sentence: ": certain, in places (25 % of the area)"."""
        members = f" ({self.members})" if self.members else ""
        answers = f": {self.finding.answers}" if self.finding.answers else ""
        return f"{members}: {self.certainty}, {self.where}{answers}"

    @property
    def sentence(self) -> str:
        """The finding as one sentence; a second one states the depth."""
        depth = f" Depth: {self.depth}." if self.depth else ""
        return f"{self.what}{self.details}.{depth}"


def element_sentence(line: Evidence) -> str:
    """Return a sentence on the extent and strength of a line family."""
    counts = thousands(line.median_counts)
    return f"{line_name(line.family)} in {percent(line.share)} of the pixels, there with a median of {counts} counts"


def key_finding(finding: Finding, places: Sequence[PlaceShares], regions: Mapping[str, float]) -> KeyFinding:
    """Return the text of a finding.

    Parameters
    ----------
    finding : Finding
    places : sequence of PlaceShares
        Places of all groups; empty for a model without places.
    regions : mapping of str to float
        Fraction of each region in which the group was detected.
    """
    what = capitalised(before_bracket(finding.label))
    return KeyFinding(
        what,
        member_text(finding),
        _extent_text(finding, regions),
        _depth_text(finding, places),
        certainty(finding),
        finding,
    )


def by_certainty(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings in the order of report and viewer: by certainty, and as given among equally certain ones."""
    order = list(MEANINGS)
    return sorted(findings, key=lambda each: order.index(certainty(each)))


def certainty(finding: Finding) -> str:
    """Return the certainty that a group or pigment is present."""
    if finding.is_doubtful:
        return DOUBTFUL
    if not finding.has_fitted_lines:
        return LIKELY if finding.mean_probability >= LIKELY_PROBABILITY else POSSIBLE
    lines = max(line.share for line in finding.evidence)
    if finding.mean_probability >= CERTAIN_PROBABILITY and lines >= CERTAIN_LINES:
        return CERTAIN
    return LIKELY if finding.mean_probability >= LIKELY_PROBABILITY and lines >= LIKELY_LINES else POSSIBLE


def member_text(finding: Finding) -> str:
    """Return the most probable pigments of a group; "" for a single pigment.

    The text is "lead white, red lead or another" or, if a third pigment is equally probable, "for example lead white or
    red lead". If a palette excludes members of the group, the text states how many.
    """
    named = _most_probable_members(finding)
    if not (finding.omitted_by_palette and finding.omitted_members):
        return named
    count = len(finding.omitted_members)
    return f"{named}; the palette leaves out {count} {'other' if count == 1 else 'others'} of the group"


def _most_probable_members(finding: Finding) -> str:
    ranked_members = finding.shares or tuple((other.label, other.share) for other in finding.separate_findings)
    names = [label for label, _ in ranked_members] or list(finding.members)
    if len(names) > _MAX_NAMED:
        return _first_names(names, [share for _, share in ranked_members] or [0.0] * len(names))
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else "".join(names)


def _first_names(names: Sequence[str], shares: Sequence[float]) -> str:
    """Return the first one or two of several names if they are more probable than others; else two as examples."""
    if not math.isclose(shares[1], shares[2], rel_tol=MAX_RELATIVE_DIFFERENCE):
        return f"{names[0]}, {names[1]} or another"
    if not math.isclose(shares[0], shares[2], rel_tol=MAX_RELATIVE_DIFFERENCE):
        return f"{names[0]} or another"
    return f"for example {names[0]} or {names[1]}"


def _extent_text(finding: Finding, regions: Mapping[str, float]) -> str:
    spread = next(words for min_share, words in _SPREADS if finding.share >= min_share)
    parts = [f"{spread} ({percent(finding.share)} of the area)"]
    named = [f"“{name}” ({percent(share)})" for name, share in regions.items() if share >= _MIN_SHARE_IN_REGION]
    parts.append(f"in the {'region' if len(named) == 1 else 'regions'} {', '.join(named)}" if named else "")
    return "; ".join(part for part in parts if part)


def _depth_text(finding: Finding, places: Sequence[PlaceShares]) -> str:
    place = next((each for each in places if each.name == finding.name), None)
    if place is None:
        return ""
    known = ((place.surface, "at the surface"), (place.below, "below it"), (place.unplaced, "undetermined"))
    return ", ".join(f"{words} in {percent(share)}" for share, words in known if share >= MIN_SHARE)


def statement_text(statement: Statement, label: str) -> str:
    """Return an expert's statement on a group, a line or a paint, with reason, author and date."""
    corrected = f"corrected to {statement.correction}" if statement.correction else "not this"
    verdict = {"confirmed": "confirmed", "corrected": corrected}.get(statement.verdict, "comment")
    reason = f": {statement.reason}" if statement.reason else ""
    return (
        f"{capitalised(label)}, {verdict}{reason} ({statement.author or 'no name'}, {date_text(statement.date[:10])})"
    )


def percent(share: float) -> str:
    """Return a share as a percentage with suitable precision."""
    if share > 0.995 and share < 1:
        return "over 99 %"
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def thousands(value: float) -> str:
    """Return a number with narrow spaces between thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def date_text(text: str) -> str:
    """Return a date such as "21 November 2026, 23:08 UTC"; text that is not in ISO 8601 is returned unchanged."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    day = f"{moment.day} {_MONTHS[moment.month - 1]} {moment.year}"
    if len(text) <= len("2026-11-21"):
        return day
    return f"{day}, {moment:%H:%M} {moment.tzname() or ''}".strip()


def line_name(family: str) -> str:
    """Return the printed name of a line family: "Hg L" for ``Hg_L``."""
    return plot.siegbahn(family)


def listed(names: Sequence[str], limit: int = LIST_LIMIT) -> str:
    """Return a list of names as text; names beyond the limit are counted."""
    shown_names = ", ".join(names[:limit])
    return shown_names if len(names) <= limit else f"{shown_names} and {len(names) - limit} more"


def capitalised(sentence: str) -> str:
    """Return a sentence with an initial capital; the rest is unchanged."""
    return sentence[:1].upper() + sentence[1:]


def before_bracket(label: str) -> str:
    """Return a group's label without the examples in brackets."""
    return label.partition(" (")[0]
