"""Training: pre-train on a library, fine-tune on labelled spectra, export to ONNX with a model card."""

from underpaint.train.checkpoint import Trained, load_checkpoint
from underpaint.train.export import export
from underpaint.train.library import Library, load_library
from underpaint.train.loop import TrainReport, train
from underpaint.train.metrics import NameFigures
from underpaint.train.settings import TrainSettings, load_settings

__all__ = [
    "Library",
    "NameFigures",
    "TrainReport",
    "TrainSettings",
    "Trained",
    "export",
    "load_checkpoint",
    "load_library",
    "load_settings",
    "train",
]
