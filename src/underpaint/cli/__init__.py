"""The command line: parses, shows, and calls the functions that Python users call."""

from underpaint.cli._app import app, main

__all__ = ["app", "main"]
