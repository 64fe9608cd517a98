"""Results in the browser, served to this machine alone: maps, pixels, regions, the photograph."""

from underpaint.viewer.notebook import View, view
from underpaint.viewer.server import Server
from underpaint.viewer.viewing import serve, serve_start

__all__ = ["Server", "View", "serve", "serve_start", "view"]
