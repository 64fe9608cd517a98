"""Trained networks as ONNX files with their model cards; opens without torch."""

from underpaint.weights.card import (
    EVERYTHING,
    LayersKind,
    ModelAxis,
    ModelCard,
    NetworkKind,
    PaperKind,
    PredictionSets,
    Training,
)
from underpaint.weights.store import load_card, model_path, shipped

__all__ = [
    "EVERYTHING",
    "LayersKind",
    "ModelAxis",
    "ModelCard",
    "NetworkKind",
    "PaperKind",
    "PredictionSets",
    "Training",
    "load_card",
    "model_path",
    "shipped",
]
