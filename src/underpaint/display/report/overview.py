"""Overview of results: the most informative element maps, findings as sentences, and undetected groups."""

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
    """Overview of results.

    Parameters
    ----------
    lines : tuple of str
        Line families drawn in red, green and blue: the strongest line of the first finding, and the most informative
        other lines.
    sentences : tuple of str
        Sentences on the first findings, in the order of the report.
    certainties, shares : dict of str to str, float
        Certainty of each detected group, and the fraction of pixels in which it is present, in the order of the report.
    absent : tuple of str
        Labels of the groups that were not detected.
    detected : tuple of str
        Line families that exceed five standard deviations in at least 1 % of the pixels, the most frequent first.
    paints : tuple of mapping
        Legend of the largest paints, from :func:`~underpaint.display.report.paints.legend_rows`.
    """

    lines: tuple[str, ...]
    sentences: tuple[str, ...]
    certainties: dict[str, str]
    shares: dict[str, float]
    absent: tuple[str, ...]
    detected: tuple[str, ...]
    paints: tuple[Mapping[str, Any], ...] = ()


def overview_lines(results: Results, significant_lines: Sequence[Evidence], findings: Sequence[Finding]) -> list[str]:
    """Return the line families to draw in red, green and blue, selected from evidence and findings."""
    first_family = next((line.family for finding in findings[:1] for line in finding.evidence), None)
    return informative_lines(results, [line.family for line in significant_lines], first_name=first_family)


def overview(results: Results) -> Overview:
    """Return the overview of results."""
    findings = by_certainty(find_groups(results))
    group_places, significant_lines = place_shares(results), element_evidence(results)
    texts = [key_finding(finding, group_places, {}) for finding in findings]
    sentences = [key_text.sentence for key_text in texts] or [element_sentence(line) for line in significant_lines]
    lines = overview_lines(results, significant_lines, findings)
    return Overview(
        tuple(lines),
        tuple(sentences[:MAX_SENTENCES]),
        {key_text.finding.name: key_text.certainty for key_text in texts},
        {key_text.finding.name: key_text.finding.share for key_text in texts},
        tuple(absent_names(results)),
        tuple(line.family for line in significant_lines),
        tuple(legend_rows(results, lines)) if results.paints else (),
    )
