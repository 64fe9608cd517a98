"""An explanation as plain values."""

from dataclasses import asdict
from typing import Any

from underpaint.pigments.explain.explanation import Explanation
from underpaint.pigments.explain.verdict import Estimate, LayerVerdict, surface_shares
from underpaint.pigments.explain.words import in_words


def record(explanation: Explanation) -> dict[str, Any]:
    """Return the same as plain values for JSON; what may not be stated is null."""
    number = explanation.number
    return {
        "name": explanation.spectrum.name,
        "counts": float(explanation.spectrum.counts.sum()),
        "ground": explanation.ground,
        "groups": explanation.presence,
        "network": dict(explanation.wanted.probability) or None,
        "known": None if explanation.wanted.known is None else explanation.wanted.known.model_dump(mode="json"),
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
        "thickness_um_by_pigment": {name: _estimate_record(each) for name, each in layer.by_member.items()},
        "presence": layer.presence,
        "share_range": {name: _estimate_record(each) for name, each in layer.shares.items()},
    }


def _estimate_record(estimate: Estimate) -> dict[str, Any]:
    """Return an interval; an end that the spectrum does not give, and all that is not determined, is null."""
    known = estimate.determined
    return {
        "low": estimate.low if known and not estimate.open_low else None,
        "median": estimate.median if known else None,
        "high": estimate.high if known and not estimate.open_high else None,
        "determined": known,
        "reason": estimate.reason,
    }
