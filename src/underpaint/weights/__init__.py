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
from underpaint.weights.graph import check_network, read_network
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
    "check_network",
    "load_card",
    "model_path",
    "read_network",
    "shipped",
]
