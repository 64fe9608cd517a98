"""Prediction of pigment maps from a scan by a trained network, block by block."""

from underpaint.pigments.predict.mapping import AnswerPlan, identify, plan_answers
from underpaint.pigments.predict.model import OnnxModel, open_model

__all__ = ["AnswerPlan", "OnnxModel", "identify", "open_model", "plan_answers"]
