"""Conversion of an explanation to JSON values."""

from dataclasses import asdict
from typing import Any

from underpaint.pigments.explain.explanation import Explanation
from underpaint.pigments.explain.verdict import Estimate, LayerResult, surface_shares
from underpaint.pigments.explain.words import explanation_sentences


def explanation_record(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation as JSON values, with None for results that are not stated."""
    layer_number = explanation.layer_number
    return {
        "name": explanation.spectrum.name,
        "counts": float(explanation.spectrum.counts.sum()),
        "ground": explanation.ground,
        "groups": explanation.presence,
        "network": dict(explanation.candidates.probability) or None,
        "known": None
        if explanation.candidates.known_layers is None
        else explanation.candidates.known_layers.model_dump(mode="json"),
        "describes": explanation.is_stated,
        "chi_square": explanation.fit.chi_square,
        "n_bin": explanation.fit.n_bin,
        "misfits": [asdict(misfit) for misfit in explanation.fit.misfits],
        "order": [asdict(pair_order) for pair_order in explanation.orders] if explanation.is_stated else None,
        "number_of_layers": asdict(layer_number) if explanation.is_stated else None,
        "layers": [_layer_record(layer) for layer in explanation.layers] if explanation.is_stated else None,
        "from_surface": (
            {family: _estimate_record(estimate) for family, estimate in surface_shares(explanation.runs).items()}
            if explanation.is_stated
            else None
        ),
        "log_evidence": [run.log_evidence for run in explanation.runs],
        "words": explanation_sentences(explanation),
    }


def _layer_record(layer_result: LayerResult) -> dict[str, Any]:
    return {
        "layer": layer_result.layer + 1,
        "thickness_um": _estimate_record(layer_result.thickness),
        "thickness_um_by_pigment": {
            name: _estimate_record(estimate) for name, estimate in layer_result.thickness_by_member.items()
        },
        "presence": layer_result.presence,
        "share_range": {name: _estimate_record(estimate) for name, estimate in layer_result.shares.items()},
    }


def _estimate_record(estimate: Estimate) -> dict[str, Any]:
    """Return an interval as JSON values, with None for open limits and for estimates that are not determined."""
    is_determined = estimate.determined
    return {
        "low": estimate.low if is_determined and not estimate.open_low else None,
        "median": estimate.median if is_determined else None,
        "high": estimate.high if is_determined and not estimate.open_high else None,
        "determined": is_determined,
        "reason": estimate.reason,
    }
