"""Numbers and findings in plain words."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from underpaint.display import plot
from underpaint.display.report.findings import LEAST_SHARE, Evidence, Finding
from underpaint.display.report.layers import PlaceShares
from underpaint.io.results.session import Statement

LIST_LIMIT = 12
CERTAIN, LIKELY, POSSIBLE, DOUBTFUL = "certain", "likely", "possible", "doubtful"
CERTAIN_PROBABILITY, LIKELY_PROBABILITY = 0.9, 0.75
CERTAIN_LINES, LIKELY_LINES = 0.9, 0.5
"""Mean probability where a group is found, and the share of these pixels in which its strongest line stands out."""
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
_MOST_NAMED = 3
AS_LIKELY = 0.01
"""Relative difference of two shares below which neither pigment is called likelier."""
_IN_REGION = 0.5


@dataclass(frozen=True)
class KeyFinding:
    """A finding as the first page of the report states it.

    Parameters
    ----------
    what : str
        "Mercury red".
    members : str
        "vermilion or calomel"; "" of a single pigment.
    where : str
        "in places (25 % of the area)".
    depth : str
        "at the surface in 20 %, below it in 8 %"; "" for a model without places.
    certainty : str
        Of the group anywhere in the paint, neither of the pigment nor of the depth: a key of :data:`MEANINGS`.
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
        """What follows its name in a sentence: ": certain, in places (25 % of the area)"."""
        members = f" ({self.members})" if self.members else ""
        answers = f": {self.finding.answers}" if self.finding.answers else ""
        return f"{members}: {self.certainty}, {self.where}{answers}"

    @property
    def sentence(self) -> str:
        """The finding as one sentence; a second one states the depth."""
        depth = f" Depth: {self.depth}." if self.depth else ""
        return f"{self.what}{self.details}.{depth}"


def element_sentence(line: Evidence) -> str:
    """Return a sentence on where a line family is significant, and its counts."""
    counts = thousands(line.median_counts)
    return f"{line_name(line.family)} in {percent(line.share)} of the pixels, there with a median of {counts} counts"


def key_finding(finding: Finding, places: Sequence[PlaceShares], regions: Mapping[str, float]) -> KeyFinding:
    """Return a finding in words.

    Parameters
    ----------
    finding : Finding
    places : sequence of PlaceShares
        Of all groups; empty for a model without places.
    regions : mapping of str to float
        Share of each region that was drawn in which the group was found.
    """
    what = capitalised(before_bracket(finding.label))
    return KeyFinding(
        what, may_be(finding), _where(finding, regions), _depth(finding, places), certainty(finding), finding
    )


def by_certainty(findings: Sequence[Finding]) -> list[Finding]:
    """Return findings in the order of report and viewer: by certainty, and as given among equally certain ones."""
    order = list(MEANINGS)
    return sorted(findings, key=lambda each: order.index(certainty(each)))


def certainty(finding: Finding) -> str:
    """Return how certain it is that the group (or pigment) is present."""
    if finding.doubtful:
        return DOUBTFUL
    if not finding.fitted:
        return LIKELY if finding.mean_inside >= LIKELY_PROBABILITY else POSSIBLE
    lines = max(line.share for line in finding.evidence)
    if finding.mean_inside >= CERTAIN_PROBABILITY and lines >= CERTAIN_LINES:
        return CERTAIN
    return LIKELY if finding.mean_inside >= LIKELY_PROBABILITY and lines >= LIKELY_LINES else POSSIBLE


def may_be(finding: Finding) -> str:
    """Return the most likely pigments of a group; "" for a single pigment.

    "lead white, red lead or another"; where neither is likelier than a third, "for example lead white or red lead". Of
    a palette it is said how many it leaves out, as the group may be one of them, too.
    """
    named = _likeliest(finding)
    if not (finding.by_palette and finding.left_out):
        return named
    count = len(finding.left_out)
    return f"{named}; the palette leaves out {count} {'other' if count == 1 else 'others'} of the group"


def _likeliest(finding: Finding) -> str:
    ranked = finding.shares or tuple((other.label, other.share) for other in finding.leanings)
    names = [label for label, _ in ranked] or list(finding.members)
    if len(names) > _MOST_NAMED:
        return _first_named(names, [share for _, share in ranked] or [0.0] * len(names))
    return f"{', '.join(names[:-1])} or {names[-1]}" if len(names) > 1 else "".join(names)


def _first_named(names: Sequence[str], shares: Sequence[float]) -> str:
    """Name the first one or two of many, if they stand out; else two as examples."""
    if not math.isclose(shares[1], shares[2], rel_tol=AS_LIKELY):
        return f"{names[0]}, {names[1]} or another"
    if not math.isclose(shares[0], shares[2], rel_tol=AS_LIKELY):
        return f"{names[0]} or another"
    return f"for example {names[0]} or {names[1]}"


def _where(finding: Finding, regions: Mapping[str, float]) -> str:
    spread = next(words for least, words in _SPREADS if finding.share >= least)
    parts = [f"{spread} ({percent(finding.share)} of the area)"]
    named = [f"“{name}” ({percent(share)})" for name, share in regions.items() if share >= _IN_REGION]
    parts.append(f"in the {'region' if len(named) == 1 else 'regions'} {', '.join(named)}" if named else "")
    return "; ".join(part for part in parts if part)


def _depth(finding: Finding, places: Sequence[PlaceShares]) -> str:
    place = next((each for each in places if each.name == finding.name), None)
    if place is None:
        return ""
    known = ((place.surface, "at the surface"), (place.below, "below it"), (place.unplaced, "undetermined"))
    return ", ".join(f"{words} in {percent(share)}" for share, words in known if share >= LEAST_SHARE)


def statement_text(statement: Statement, label: str) -> str:
    """Return the statement of an expert in words, with reason, author and date."""
    corrected = f"corrected to {statement.correction}" if statement.correction else "not this"
    verdict = {"confirmed": "confirmed", "corrected": corrected}.get(statement.verdict, "comment")
    reason = f": {statement.reason}" if statement.reason else ""
    return (
        f"{capitalised(label)}, {verdict}{reason} ({statement.author or 'no name'}, {date_text(statement.date[:10])})"
    )


def percent(share: float) -> str:
    """Write a share as a percentage that is as precise as it needs to be."""
    if share > 0.995 and share < 1:
        return "over 99 %"
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.1f} %"


def thousands(value: float) -> str:
    """Write a number with narrow spaces between its thousands."""
    return f"{value:,.0f}".replace(",", "\u202f")


def date_text(text: str) -> str:
    """Write a date for people, "21 November 2026, 23:08 UTC"; what is no date of ISO 8601 stays as it is."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return text
    day = f"{moment.day} {_MONTHS[moment.month - 1]} {moment.year}"
    if len(text) <= len("2026-11-21"):
        return day
    return f"{day}, {moment:%H:%M} {moment.tzname() or ''}".strip()


def line_name(family: str) -> str:
    """Write ``Hg_L`` as "Hg L"."""
    return plot.siegbahn(family)


def listed(names: Sequence[str], limit: int = LIST_LIMIT) -> str:
    """Write names in a row, and of very many only how many more there are."""
    shown = ", ".join(names[:limit])
    return shown if len(names) <= limit else f"{shown} and {len(names) - limit} more"


def capitalised(sentence: str) -> str:
    """Begin a sentence with a capital and leave the rest of it as it is."""
    return sentence[:1].upper() + sentence[1:]


def before_bracket(label: str) -> str:
    """Leave out the examples that a group's label gives in brackets."""
    return label.partition(" (")[0]
