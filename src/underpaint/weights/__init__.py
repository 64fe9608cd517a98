"""Trained networks as ONNX files with their model cards; opens without torch."""

from underpaint.weights.card import LayersKind, ModelAxis, ModelCard, NetworkKind, PaperKind, Training
from underpaint.weights.store import load_card, model_path, shipped

__all__ = [
    "LayersKind",
    "ModelAxis",
    "ModelCard",
    "NetworkKind",
    "PaperKind",
    "Training",
    "load_card",
    "model_path",
    "shipped",
]
