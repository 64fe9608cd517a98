"""What hangs on the wall: pigments and their library, paints, layers, stratigraphies."""

from underpaint.sample.stratigraphy import Layer, Stratigraphy

__all__ = ["Layer", "Stratigraphy"]
