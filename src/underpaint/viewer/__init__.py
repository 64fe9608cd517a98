"""A folder's report in the browser, served to this machine alone."""

from underpaint.viewer.server import ReportServer, serve

__all__ = ["ReportServer", "serve"]
