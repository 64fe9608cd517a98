"""From a scan and a trained network to pigment maps, block by block."""

from underpaint.pigments.predict.mapping import Doubt, identify, silent_notes, withheld_notes
from underpaint.pigments.predict.model import OnnxModel, open_model

__all__ = ["Doubt", "OnnxModel", "identify", "open_model", "silent_notes", "withheld_notes"]
