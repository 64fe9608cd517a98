"""Quantities that a network answers beside presence: their names, and the scales on which their errors are even."""

import numpy as np
from numpy.typing import NDArray

SURFACE_UM = "thickness_um.surface"
"""Thickness of the uppermost layer of paint, um."""
_SHARE = "share."
_LEAST_SHARE = 0.002
_LEAST_UM = 0.1


def share_of(material: str) -> str:
    """Return the name of a material's share of the mass of the dry pigments at the surface."""
    return f"{_SHARE}{material}"


def material_of(quantity: str) -> str | None:
    """Return the material whose share a quantity is; None for the thickness."""
    return quantity.removeprefix(_SHARE) if quantity.startswith(_SHARE) else None


def on_scale(quantity: str, value: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return values without bounds: ln(um) of a thickness, ln(s / (1 - s)) of a share; NaN stays."""
    if material_of(quantity) is None:
        return np.asarray(np.log(np.maximum(value, _LEAST_UM)), dtype=np.float32)
    share = np.clip(value, _LEAST_SHARE, 1.0 - _LEAST_SHARE)
    return np.asarray(np.log(share / (1.0 - share)), dtype=np.float32)


def from_scale(quantity: str, value: NDArray[np.floating]) -> NDArray[np.float32]:
    """Return what :func:`on_scale` was given."""
    if material_of(quantity) is None:
        return np.asarray(np.exp(value), dtype=np.float32)
    return np.asarray(1.0 / (1.0 + np.exp(-value)), dtype=np.float32)
