"""An explanation as values for JSON."""

from dataclasses import asdict
from typing import Any

from underpaint.pigments.explain.explanation import Explanation
from underpaint.pigments.explain.verdict import Estimate, LayerVerdict, surface_shares
from underpaint.pigments.explain.words import in_words


def record(explanation: Explanation) -> dict[str, Any]:
    """Return an explanation as values for JSON; results that are not stated are None."""
    number = explanation.number
    return {
        "name": explanation.spectrum.name,
        "counts": float(explanation.spectrum.counts.sum()),
        "ground": explanation.ground,
        "groups": explanation.presence,
        "network": dict(explanation.candidates.probability) or None,
        "known": None if explanation.candidates.known is None else explanation.candidates.known.model_dump(mode="json"),
        "describes": explanation.stated,
        "chi_square": explanation.fit.chi_square,
        "n_bin": explanation.fit.n_bin,
        "misfits": [asdict(misfit) for misfit in explanation.fit.misfits],
        "order": [asdict(order) for order in explanation.orders] if explanation.stated else None,
        "number_of_layers": asdict(number) if explanation.stated else None,
        "layers": [_layer_record(layer) for layer in explanation.layers] if explanation.stated else None,
        "from_surface": (
            {family: _estimate_record(share) for family, share in surface_shares(explanation.runs).items()}
            if explanation.stated
            else None
        ),
        "log_evidence": [run.log_evidence for run in explanation.runs],
        "words": in_words(explanation),
    }


def _layer_record(layer: LayerVerdict) -> dict[str, Any]:
    return {
        "layer": layer.layer + 1,
        "thickness_um": _estimate_record(layer.thickness),
        "thickness_um_by_pigment": {name: _estimate_record(estimate) for name, estimate in layer.by_member.items()},
        "presence": layer.presence,
        "share_range": {name: _estimate_record(estimate) for name, estimate in layer.shares.items()},
    }


def _estimate_record(estimate: Estimate) -> dict[str, Any]:
    """Return an interval; open limits, and all values of undetermined estimates, are None."""
    is_determined = estimate.determined
    return {
        "low": estimate.low if is_determined and not estimate.open_low else None,
        "median": estimate.median if is_determined else None,
        "high": estimate.high if is_determined and not estimate.open_high else None,
        "determined": is_determined,
        "reason": estimate.reason,
    }
