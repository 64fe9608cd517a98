"""Results in the browser, served to this machine alone: maps, pixels, regions, the photograph."""

from underpaint.view.viewer.notebook import View, view
from underpaint.view.viewer.server import Server
from underpaint.view.viewer.viewing import serve, serve_start

__all__ = ["Server", "View", "serve", "serve_start", "view"]
