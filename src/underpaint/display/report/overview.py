"""Overview of results: the most informative element maps, findings in sentences, and absent groups."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from underpaint.data.maps import Results
from underpaint.display.report.findings import (
    Evidence,
    Finding,
    absent_names,
    element_evidence,
    find_groups,
    informative_lines,
)
from underpaint.display.report.layers import place_shares
from underpaint.display.report.paints import legend_rows
from underpaint.display.report.wording import by_certainty, element_sentence, key_finding

MAX_SENTENCES = 5


@dataclass(frozen=True)
class Overview:
    """Contents of the first view of results.

    Parameters
    ----------
    lines : tuple of str
        Line families for red, green and blue: that of the first finding, and those with the most informative maps.
    sentences : tuple of str
        The first findings, in the order of the report.
    certainties, shares : dict of str to str, float
        Certainty and fraction of the pixels of each group that was found, in the order of the report.
    absent : tuple of str
        Labels of the groups that were not found.
    detected : tuple of str
        Line families above five standard deviations in a hundredth of the pixels, the most certain first.
    paints : tuple of mapping
        Legend of the larger paints, as :func:`~underpaint.display.report.paints.legend_rows` gives it.
    """

    lines: tuple[str, ...]
    sentences: tuple[str, ...]
    certainties: dict[str, str]
    shares: dict[str, float]
    absent: tuple[str, ...]
    detected: tuple[str, ...]
    paints: tuple[Mapping[str, Any], ...] = ()


def overview_lines(results: Results, strong: Sequence[Evidence], findings: Sequence[Finding]) -> list[str]:
    """Return the line families for red, green and blue, selected from evidence and findings."""
    leading = next((line.family for finding in findings[:1] for line in finding.evidence), None)
    return informative_lines(results, [line.family for line in strong], first_name=leading)


def overview(results: Results) -> Overview:
    """Return the first view of results."""
    findings = by_certainty(find_groups(results))
    places, strong = place_shares(results), element_evidence(results)
    named = [key_finding(finding, places, {}) for finding in findings]
    sentences = [each.sentence for each in named] or [element_sentence(line) for line in strong]
    lines = overview_lines(results, strong, findings)
    return Overview(
        tuple(lines),
        tuple(sentences[:MAX_SENTENCES]),
        {each.finding.name: each.certainty for each in named},
        {each.finding.name: each.finding.share for each in named},
        tuple(absent_names(results)),
        tuple(line.family for line in strong),
        tuple(legend_rows(results, lines)) if results.paints else (),
    )
