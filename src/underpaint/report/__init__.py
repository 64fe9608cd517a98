"""Saved results -> one self-contained page to read, print or send."""

from underpaint.report.findings import Finding, find_groups
from underpaint.report.layers import Arrangement, find_arrangements
from underpaint.report.page import render_report, write_report
from underpaint.report.unexplained import explain_lines, line_text

__all__ = [
    "Arrangement",
    "Finding",
    "explain_lines",
    "find_arrangements",
    "find_groups",
    "line_text",
    "render_report",
    "write_report",
]
