"""Saved results -> one self-contained page to read, print or send."""

from underpaint.report.findings import Finding, find_groups, unexplained_elements
from underpaint.report.page import render_report, write_report

__all__ = ["Finding", "find_groups", "render_report", "unexplained_elements", "write_report"]
