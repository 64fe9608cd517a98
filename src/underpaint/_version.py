"""Version of the package, in a separate module that all other modules can import."""

__version__ = "0.1.0"
