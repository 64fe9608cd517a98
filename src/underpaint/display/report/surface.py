"""The report's section on the surface: what a reflectance cube adds to the X-ray scan."""

from collections.abc import Callable
from typing import Any

import numpy as np

from underpaint.data.maps import BELOW_PROBABILITY, NONE_OF_LIBRARY, Results, below_surface, share_present
from underpaint.display.plot.layers import MOST_COLORS, hidden_gallery, member_map

LEAST_SHARE = 0.001
_MOST_HIDDEN = 12


def surface_section(results: Results, picture: Callable[[Any, str], Any]) -> dict[str, Any] | None:
    """Return what the section shows; None without a reflectance cube.

    Parameters
    ----------
    results : Results
    picture : callable
        Embeds a figure, with words that stand for it.
    """
    if not results.has_reflectance:
        return None
    members = {name: share_present(results.map("surface_member", name)) for (name,) in _keys(results, "surface_member")}
    named = sorted((name for name in members if name != NONE_OF_LIBRARY), key=lambda name: -members[name])
    shown = [name for name in named if members[name] >= LEAST_SHARE]
    hidden = {name: results.map("hidden", name) for (name,) in _keys(results, "hidden")}
    answered = np.isfinite(results.map("surface_member", NONE_OF_LIBRARY))
    stated = {name: below_surface(image, answered) for name, image in hidden.items()}
    below = sorted((name for name in hidden if stated[name].share >= LEAST_SHARE), key=lambda name: -stated[name].share)
    undetermined = sorted(
        (name for name in hidden if stated[name].undetermined >= LEAST_SHARE),
        key=lambda name: -stated[name].undetermined,
    )
    settings = results.settings_of("reflectance")
    place = settings.get("registration", {})
    words = "Map of the pigment that gives the surface its colour, by reflectance."
    return {
        "map": picture(member_map(results, shown[:MOST_COLORS]), words),
        "members": [(results.member_label(name), members[name]) for name in shown],
        "none": members.get(NONE_OF_LIBRARY, 0.0),
        "hidden": [
            {
                "label": _label(results, name),
                "share": stated[name].share,
                "certainty": stated[name].certainty,
            }
            for name in below
        ],
        "least": BELOW_PROBABILITY,
        "undetermined": [(_label(results, name), stated[name].undetermined) for name in undetermined],
        "pictures": [
            picture(hidden_gallery(results, below[:_MOST_HIDDEN]), "Maps of groups that lie below the surface.")
        ]
        if below
        else [],
        "cube": settings.get("cube", ""),
        "bands": settings.get("bands_used"),
        "range": settings.get("wavelength_nm", (0, 0)),
        "place": _place_text(place),
        "doubtful": place.get("verdict") != "well",
        "library": settings.get("library", ""),
        "spectra": settings.get("library_spectra", 0),
        "sources": settings.get("library_sources", ()),
    }


def _label(results: Results, group: str) -> str:
    return results.short_label(group) if group in results.materials else group.replace("_", " ")


def _keys(results: Results, quantity: str) -> tuple[tuple[str, ...], ...]:
    return results.stacks[quantity].keys if quantity in results.stacks else ()


def _place_text(place: dict[str, Any]) -> str:
    how, error = place.get("how", "an unknown way"), place.get("error_px")
    return f"by {how}" + (f", {error:.1f} pixels off on average" if isinstance(error, float) else "")
