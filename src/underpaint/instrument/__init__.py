"""What looks at the painting: tube, filters, geometry, detector; presets and instrument files."""

from underpaint.instrument.files import load_instrument, preset_names, save_instrument
from underpaint.instrument.instrument import (
    Detector,
    Filter,
    Geometry,
    Instrument,
    SourceSpectrum,
    Tube,
)

__all__ = [
    "Detector",
    "Filter",
    "Geometry",
    "Instrument",
    "SourceSpectrum",
    "Tube",
    "load_instrument",
    "preset_names",
    "save_instrument",
]
