"""Results in the browser, served to this machine alone: maps, pixels, regions, the photograph."""

from underpaint.display.viewer.server import Server
from underpaint.display.viewer.viewing import View, serve, serve_start, view

__all__ = ["Server", "View", "serve", "serve_start", "view"]
