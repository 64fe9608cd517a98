"""Answers by place as a network of layers gives them, with a truth that can be seen in them."""

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import PLACES, SURFACE_UM, Results, at_place, share_of

SHAPE = (24, 40)
GROUPS = ("mercury_red", "lead_pigment", "copper_green_blue")
MEMBERS = {"vermilion": ("mercury_red",), "lead_white": ("lead_pigment",), "azurite": ("copper_green_blue",)}
LABELS = {"mercury_red": "vermilion or calomel (mercury)", "lead_pigment": "lead pigment (lead white, red lead)"}
FAMILIES = {"mercury_red": "Hg_L", "lead_pigment": "Pb_L", "copper_green_blue": "Cu_K"}
THIN_UM, SIGMA = 20.0, 0.3


def placed_maps(settings: dict[str, object] | None = None) -> Results:
    """Vermilion, 20 um, over lead white in the left half; lead white alone in the right; a corner undecided.

    The last row has no answer; the thickness is not determined in the right quarter; copper is nowhere.
    """
    materials = (*GROUPS, *MEMBERS)
    maps = {name: np.full(SHAPE, 0.03, np.float32) for name in (at_place(m, p) for p in PLACES for m in materials)}
    for name in ("mercury_red", "vermilion"):
        maps[name][:, :20] = maps[f"{name}.surface"][:, :20] = 0.97
    for name in ("lead_pigment", "lead_white"):
        maps[name][:] = 0.98
        maps[f"{name}.below"][:, :20] = maps[f"{name}.surface"][:, 20:] = 0.95
        maps[f"{name}.below"][:6, :8] = 0.4
    names = tuple(maps)
    probability = np.stack([maps[name] for name in names], axis=2)
    probability[-1] = np.nan
    belongs = {**{group: (group,) for group in GROUPS}, **MEMBERS}
    outputs = [(material, place) for place in PLACES for material in materials]
    return Results.of_pigments(
        names=names,
        probability=probability,
        kinds=tuple("group" if material in GROUPS else "member" for material, _ in outputs),
        groups=tuple(tuple(at_place(owner, place) for owner in belongs[material]) for material, place in outputs),
        labels=tuple(LABELS.get(material, material.replace("_", " ")) for material, _ in outputs),
        elements=tuple(tuple(FAMILIES[owner] for owner in belongs[material]) for material, _ in outputs),
        step_mm=(1.0, 1.0),
        settings=settings or {"model": {"name": "layers", "limits": []}},
        quantities=_quantities(),
    )


def _quantities() -> tuple[tuple[str, ...], NDArray[np.float32], NDArray[np.float32]]:
    names = (SURFACE_UM, *(share_of(group) for group in GROUPS))
    value, sigma = np.full((*SHAPE, 4), 0.5, np.float32), np.full((*SHAPE, 4), 0.2, np.float32)
    value[:, :20, 0], sigma[:, :, 0] = THIN_UM, SIGMA
    value[:, 20:, 0] = 80.0 + np.arange(20)
    sigma[:, 30:, 0] = 1.2
    value[-1] = sigma[-1] = np.nan
    return names, value, sigma
