"""Section of the report on pigments at the surface from a reflectance cube."""

from collections.abc import Callable
from typing import Any

import numpy as np

from underpaint.data.maps import BELOW_PROBABILITY, NONE_OF_LIBRARY, Results, below_surface, share_present
from underpaint.display.plot.layers import MAX_COLORS, hidden_gallery, member_map

MIN_SHARE = 0.001
_MAX_HIDDEN = 12


def surface_section(results: Results, picture: Callable[[Any, str], Any]) -> dict[str, Any] | None:
    """Return the contents of the section; None without a reflectance cube.

    Parameters
    ----------
    results : Results
    picture : callable
        Function that embeds a figure with a description.
    """
    if not results.has_reflectance:
        return None
    member_fractions = {
        name: share_present(results.map("surface_member", name)) for (name,) in _stack_keys(results, "surface_member")
    }
    member_names = sorted(
        (name for name in member_fractions if name != NONE_OF_LIBRARY), key=lambda name: -member_fractions[name]
    )
    shown_members = [name for name in member_names if member_fractions[name] >= MIN_SHARE]
    hidden_maps = {name: results.map("hidden", name) for (name,) in _stack_keys(results, "hidden")}
    has_answer = np.isfinite(results.map("surface_member", NONE_OF_LIBRARY))
    summaries = {name: below_surface(image, has_answer) for name, image in hidden_maps.items()}
    hidden_groups = sorted(
        (name for name in hidden_maps if summaries[name].share >= MIN_SHARE), key=lambda name: -summaries[name].share
    )
    undetermined_groups = sorted(
        (name for name in hidden_maps if summaries[name].undetermined_share >= MIN_SHARE),
        key=lambda name: -summaries[name].undetermined_share,
    )
    settings = results.settings_of("reflectance")
    registration = settings.get("registration", {})
    description = "Map of the pigment that determines the colour of the surface, by reflectance."
    return {
        "map": picture(member_map(results, shown_members[:MAX_COLORS]), description),
        "members": [(results.member_label(name), member_fractions[name]) for name in shown_members],
        "none": member_fractions.get(NONE_OF_LIBRARY, 0.0),
        "hidden": [
            {
                "label": _group_label(results, name),
                "share": summaries[name].share,
                "certainty": summaries[name].certainty,
            }
            for name in hidden_groups
        ],
        "least": BELOW_PROBABILITY,
        "undetermined": [
            (_group_label(results, name), summaries[name].undetermined_share) for name in undetermined_groups
        ],
        "pictures": [
            picture(hidden_gallery(results, hidden_groups[:_MAX_HIDDEN]), "Maps of groups that lie below the surface.")
        ]
        if hidden_groups
        else [],
        "cube": settings.get("cube", ""),
        "bands": settings.get("bands_used"),
        "range": settings.get("wavelength_nm", (0, 0)),
        "place": _registration_text(registration),
        "doubtful": registration.get("verdict") != "well",
        "library": settings.get("library", ""),
        "spectra": settings.get("library_spectra", 0),
        "sources": settings.get("library_sources", ()),
    }


def _group_label(results: Results, group: str) -> str:
    return results.short_label(group) if group in results.materials else group.replace("_", " ")


def _stack_keys(results: Results, quantity: str) -> tuple[tuple[str, ...], ...]:
    return results.stacks[quantity].keys if quantity in results.stacks else ()


def _registration_text(registration: dict[str, Any]) -> str:
    method_name, error_px = registration.get("how", "an unknown way"), registration.get("error_px")
    return f"by {method_name}" + (f", {error_px:.1f} pixels off on average" if isinstance(error_px, float) else "")
