"""Pre-training on a library, fine-tuning on labelled spectra, and export to ONNX with a model card."""

from underpaint.lab.training.calibration import calibrate_network
from underpaint.lab.training.checkpoint import TrainedNetwork, load_checkpoint, load_trainable
from underpaint.lab.training.exporting import export
from underpaint.lab.training.finetuning import FinetuneReport, finetune
from underpaint.lab.training.labelled import labelled_library, labelled_scan, labelled_spectra
from underpaint.lab.training.library import Library, load_library
from underpaint.lab.training.loop import TrainReport, answers, cross_validate, train
from underpaint.lab.training.settings import FinetuneSettings, TrainSettings, load_finetune_settings, load_settings

__all__ = [
    "FinetuneReport",
    "FinetuneSettings",
    "Library",
    "TrainReport",
    "TrainSettings",
    "TrainedNetwork",
    "answers",
    "calibrate_network",
    "cross_validate",
    "export",
    "finetune",
    "labelled_library",
    "labelled_scan",
    "labelled_spectra",
    "load_checkpoint",
    "load_finetune_settings",
    "load_library",
    "load_settings",
    "load_trainable",
    "train",
]
