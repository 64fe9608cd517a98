"""Trained networks as ONNX files with their model cards; opens without torch."""

from underpaint.weights.card import ModelAxis, ModelCard, NetworkKind, Training
from underpaint.weights.store import load_card, model_path, shipped

__all__ = ["ModelAxis", "ModelCard", "NetworkKind", "Training", "load_card", "model_path", "shipped"]
