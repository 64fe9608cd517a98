"""Find the pigments of a painting in its X-ray fluorescence scan, the paint underneath included."""

__version__ = "0.1.0"
