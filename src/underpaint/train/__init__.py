"""Training: pre-train on a library, fine-tune on labelled spectra, export to ONNX with a model card."""

from underpaint.train.checkpoint import Trained, load_checkpoint
from underpaint.train.export import export
from underpaint.train.finetune import FinetuneReport, finetune, labelled_spectra
from underpaint.train.library import Library, load_library
from underpaint.train.loop import TrainReport, train
from underpaint.train.metrics import NameFigures
from underpaint.train.settings import FinetuneSettings, TrainSettings, load_finetune_settings, load_settings

__all__ = [
    "FinetuneReport",
    "FinetuneSettings",
    "Library",
    "NameFigures",
    "TrainReport",
    "TrainSettings",
    "Trained",
    "export",
    "finetune",
    "labelled_spectra",
    "load_checkpoint",
    "load_finetune_settings",
    "load_library",
    "load_settings",
    "train",
]
