"""Sample and instrument -> expected spectrum; the only place where photons are counted out."""

from underpaint.forward.counting import count, counts_needed
from underpaint.forward.emission import ORDERS, SCATTER, Emission
from underpaint.forward.origin import Origin, depth_of_origin
from underpaint.forward.pileup import live_share, pile_up
from underpaint.forward.response import efficiency, render, resolution_sigma, response_matrix
from underpaint.forward.setting import Setting
from underpaint.forward.source import Drive, drive_of, source_spectrum, source_weights
from underpaint.forward.stack import Stack, stack_layers
from underpaint.forward.transport import Detail, emit, emit_parts, setting_for, transport

__all__ = [
    "ORDERS",
    "SCATTER",
    "Detail",
    "Drive",
    "Emission",
    "Origin",
    "Setting",
    "Stack",
    "count",
    "counts_needed",
    "depth_of_origin",
    "drive_of",
    "efficiency",
    "emit",
    "emit_parts",
    "live_share",
    "pile_up",
    "render",
    "resolution_sigma",
    "response_matrix",
    "setting_for",
    "source_spectrum",
    "source_weights",
    "stack_layers",
    "transport",
]
