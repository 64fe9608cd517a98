"""The paper's tables, the suites and the baselines: how good the answers are."""

from underpaint.lab.evaluation.panel import evaluate_panel
from underpaint.lab.evaluation.scores import (
    Scores,
    auroc,
    average_precision,
    cohen_kappa,
    expected_calibration_error,
    score,
)

__all__ = [
    "Scores",
    "auroc",
    "average_precision",
    "cohen_kappa",
    "evaluate_panel",
    "expected_calibration_error",
    "score",
]
