"""Sample and instrument -> expected spectrum; the only place where photons are counted out."""

from underpaint.forward.counting import count, counts_needed
from underpaint.forward.emission import Emission
from underpaint.forward.response import efficiency, render, resolution_sigma, response_matrix
from underpaint.forward.source import source_spectrum
from underpaint.forward.transport import emit

__all__ = [
    "Emission",
    "count",
    "counts_needed",
    "efficiency",
    "emit",
    "render",
    "resolution_sigma",
    "response_matrix",
    "source_spectrum",
]
