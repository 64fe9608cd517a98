"""The version of the package; a module of its own, since all others may need it."""

__version__ = "0.1.0"
