"""Training: pre-train on a library, fine-tune on labelled spectra, export to ONNX with a model card."""

from underpaint.train.calibration import calibrated
from underpaint.train.checkpoint import Trained, load_checkpoint, load_trainable
from underpaint.train.exporting import export
from underpaint.train.finetuning import FinetuneReport, finetune
from underpaint.train.labelled import labelled, labelled_folder, labelled_scan, labelled_spectra
from underpaint.train.library import Library, load_library
from underpaint.train.loop import TrainReport, answers, cross_validate, train
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
    "answers",
    "calibrated",
    "cross_validate",
    "export",
    "finetune",
    "labelled",
    "labelled_folder",
    "labelled_scan",
    "labelled_spectra",
    "load_checkpoint",
    "load_finetune_settings",
    "load_library",
    "load_settings",
    "load_trainable",
    "train",
]
