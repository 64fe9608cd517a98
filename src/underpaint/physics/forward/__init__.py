"""Forward model: expected spectrum that an instrument records of a sample."""

from underpaint.physics.forward.breakdown import depth_of_origin
from underpaint.physics.forward.emission import ORDERS, SCATTER, Emission
from underpaint.physics.forward.response import (
    axis_of,
    count,
    counts_needed,
    efficiency,
    live_share,
    pile_up,
    render,
    resolution_sigma,
    response_matrix,
)
from underpaint.physics.forward.setting import Setting
from underpaint.physics.forward.source import SourceSettings, source_settings, source_spectrum, source_weights
from underpaint.physics.forward.stack import Stack, stack_layers
from underpaint.physics.forward.transport import Detail, emit, emit_parts, scatter_per_photon, setting_for, transport

__all__ = [
    "ORDERS",
    "SCATTER",
    "Detail",
    "Emission",
    "Setting",
    "SourceSettings",
    "Stack",
    "axis_of",
    "count",
    "counts_needed",
    "depth_of_origin",
    "efficiency",
    "emit",
    "emit_parts",
    "live_share",
    "pile_up",
    "render",
    "resolution_sigma",
    "response_matrix",
    "scatter_per_photon",
    "setting_for",
    "source_settings",
    "source_spectrum",
    "source_weights",
    "stack_layers",
    "transport",
]
