"""Report of saved results as one self-contained HTML page or PDF."""

from underpaint.display.report.findings import Finding, find_groups
from underpaint.display.report.layers import Arrangement, find_arrangements
from underpaint.display.report.overview import Overview, overview
from underpaint.display.report.page import render_report, write_report
from underpaint.display.report.unexplained import explain_lines, line_text, unexplained_text

__all__ = [
    "Arrangement",
    "Finding",
    "Overview",
    "explain_lines",
    "find_arrangements",
    "find_groups",
    "line_text",
    "overview",
    "render_report",
    "unexplained_text",
    "write_report",
]
