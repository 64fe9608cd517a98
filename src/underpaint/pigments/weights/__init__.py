"""ONNX files and model cards of trained networks, which can be read without torch."""

from underpaint.pigments.weights.card import (
    UNBOUNDED_LOG_ODDS,
    LayersKind,
    ModelAxis,
    ModelCard,
    NetworkKind,
    PaperKind,
    PredictionSets,
    Training,
    load_card,
    model_path,
    shipped_models,
)
from underpaint.pigments.weights.graph import check_network, read_network

__all__ = [
    "UNBOUNDED_LOG_ODDS",
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
    "shipped_models",
]
