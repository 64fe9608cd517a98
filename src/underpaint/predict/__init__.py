"""From a scan and a trained network to pigment maps, block by block."""

from underpaint.predict.mapping import identify, silent_notes
from underpaint.predict.model import OnnxModel, open_model

__all__ = ["OnnxModel", "identify", "open_model", "silent_notes"]
