"""What looks at the painting: tube, filters, geometry, detector; presets and instrument files."""

from underpaint.physics.instrument.instrument import (
    ANODES,
    Detector,
    Filter,
    Geometry,
    Instrument,
    Optic,
    SourceSpectrum,
    Tube,
    load_instrument,
    preset_names,
    read_source_spectrum,
    save_instrument,
)

__all__ = [
    "ANODES",
    "Detector",
    "Filter",
    "Geometry",
    "Instrument",
    "Optic",
    "SourceSpectrum",
    "Tube",
    "load_instrument",
    "preset_names",
    "read_source_spectrum",
    "save_instrument",
]
