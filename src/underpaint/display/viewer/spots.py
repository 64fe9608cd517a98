"""Evidence at a pixel: probabilities by place, lines of each pigment, and indistinguishable pigments."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import (
    AMOUNT,
    CANNOT_EXCLUDE,
    NOT_DETECTED,
    PRESENT_PROBABILITY,
    UNLIKE_SIGMA,
    answer_words,
    material_of,
    share_of,
)
from underpaint.errors import SampleError
from underpaint.io.results.result_maps import MapEntry, ResultMaps
from underpaint.physics.materials import library
from underpaint.pigments.limits import distinguishing_methods_text
from underpaint.pigments.limits.exclusion import LINE_SIGMA

MIN_LISTED_PROBABILITY = 0.1
"""The evidence for a group is listed if the group's probability is at least this value."""
MAX_LINES = 4


def spot(maps: ResultMaps, row: int, column: int) -> dict[str, Any]:
    """Return probabilities, lines and quantities at a pixel, for the page.

    Returns
    -------
    dict
        ``groups`` describes each group, the most probable first: probability by place, state, lines with counts,
        members, and methods that distinguish the members. ``elements`` and ``quantities`` contain values and standard
        deviations. ``unlike`` is the strongest unassigned peak, or None.

    Raises
    ------
    ScanError
        The pixel lies outside the maps.
    """
    values, errors = maps.at(row, column)
    interval_limits = [
        maps.interval(index, row, column) if entry.end_paths else None for index, entry in enumerate(maps.entries)
    ]
    pixel_entries = [
        _PixelEntry(*pixel_entry)
        for pixel_entry in zip(maps.entries, values.tolist(), errors.tolist(), interval_limits, strict=True)
    ]
    lines = {
        pixel_entry.entry.name: pixel_entry for pixel_entry in pixel_entries if pixel_entry.entry.kind == "element"
    }
    group_kind = "group" if any(pixel_entry.entry.kind == "group" for pixel_entry in pixel_entries) else "member"
    pigment_entries = [pixel_entry for pixel_entry in pixel_entries if pixel_entry.entry.kind in {"group", "member"}]
    group_entries = [
        pixel_entry
        for pixel_entry in pigment_entries
        if pixel_entry.entry.kind == group_kind and pixel_entry.entry.place == "anywhere"
    ]
    groups = [
        _group_content(pixel_entry, pigment_entries, lines, pixel_entries)
        for pixel_entry in sorted(group_entries, key=lambda pixel_entry: -_sort_value(pixel_entry.value))
    ]
    return {
        "row": row,
        "column": column,
        "groups": groups,
        "elements": [
            {
                "name": name,
                "counts": pixel_entry.value,
                "error": pixel_entry.error,
                "sigma": pixel_entry.sigma,
                "there": pixel_entry.is_significant,
            }
            for name, pixel_entry in sorted(lines.items(), key=lambda item: -_sort_value(item[1].value))
        ],
        "quantities": [
            pixel_entry.json_entry()
            for pixel_entry in pixel_entries
            if pixel_entry.entry.process == "quantities"
            or (
                pixel_entry.entry.kind == "quantity"
                and pixel_entry.entry.process == "pigments"
                and not material_of(pixel_entry.entry.name)
            )
        ],
        "unlike": _unassigned_peak(pixel_entries),
    }


def not_excluded_mask(
    probability: NDArray[np.float32], state: NDArray[np.float32], place: str = "anywhere"
) -> NDArray[np.bool_]:
    """Return the (n_row, n_column) mask of pixels where a pigment is not detected and cannot be excluded.

    Parameters
    ----------
    probability : (n_row, n_column) array
        Probability of a group or pigment at the place.
    state : (n_row, n_column) array
        Keys of ``STATES``, NaN for no answer.
    place : str
        Place to which the probability refers. For ``below``, the mask also includes pixels where the pigment is present
        at another place.
    """
    is_possible = np.isfinite(state) & (state != NOT_DETECTED) if place == "below" else state == CANNOT_EXCLUDE
    return np.asarray((probability < PRESENT_PROBABILITY) & is_possible)


def _unassigned_peak(pixel_entries: Sequence["_PixelEntry"]) -> dict[str, float] | None:
    """Return the significance and energy of the strongest unassigned peak; None if it is not significant."""
    open_set_values = {
        pixel_entry.entry.name: pixel_entry.value
        for pixel_entry in pixel_entries
        if pixel_entry.entry.process == "open_set"
    }
    if not open_set_values.get("score", 0.0) > UNLIKE_SIGMA:
        return None
    return {"sigma": open_set_values["score"], "energy_kev": open_set_values.get("energy_kev", float("nan"))}


class _PixelEntry:
    """Entry of a map with its value at a pixel."""

    def __init__(self, entry: MapEntry, value: float, error: float, limits: tuple[float, float] | None) -> None:
        self.entry, self.value, self.error, self.limits = entry, value, error, limits

    def json_entry(self) -> dict[str, Any]:
        """Return label, value, unit, standard deviation and interval as a dictionary for JSON."""
        entry = self.entry
        description = {"label": entry.label, "value": self.value, "error": self.error, "unit": entry.unit}
        return description | ({} if self.limits is None else {"low": self.limits[0], "high": self.limits[1]})

    @property
    def sigma(self) -> float:
        """Value divided by its standard deviation; 0 for an unknown standard deviation."""
        return self.value / self.error if self.error > 0 else 0.0

    @property
    def is_significant(self) -> bool:
        """Whether a line exceeds ``LINE_SIGMA`` standard deviations."""
        return self.sigma > LINE_SIGMA


def _group_content(
    group_entry: _PixelEntry,
    pigment_entries: Sequence[_PixelEntry],
    lines: dict[str, _PixelEntry],
    pixel_entries: Sequence[_PixelEntry],
) -> dict[str, Any]:
    entry = group_entry.entry
    probability_by_place = {
        pixel_entry.entry.place: pixel_entry.value
        for pixel_entry in pigment_entries
        if pixel_entry.entry.material == entry.name and pixel_entry is not group_entry
    }
    state = next(
        (
            pixel_entry.value
            for pixel_entry in pixel_entries
            if pixel_entry.entry.kind == "state" and pixel_entry.entry.name == entry.name
        ),
        None,
    )
    amount_entry = next(
        (pixel_entry for pixel_entry in pixel_entries if pixel_entry.entry.name == f"{AMOUNT}.{entry.name}"), None
    )
    max_amount = float("nan") if amount_entry is None or amount_entry.limits is None else amount_entry.limits[1]
    group_content: dict[str, Any] = {
        "name": entry.name,
        "label": entry.label,
        "probability": group_entry.value,
        "places": probability_by_place,
        "state": int(state) if state is not None and math.isfinite(state) else None,
        "answer": answer_words(int(state), max_amount) if state is not None and math.isfinite(state) else "",
    }
    if _sort_value(group_entry.value) < MIN_LISTED_PROBABILITY:
        return group_content
    share_entry = next(
        (pixel_entry.json_entry() for pixel_entry in pixel_entries if pixel_entry.entry.name == share_of(entry.name)),
        None,
    )
    member_entries = sorted(
        (
            pixel_entry
            for pixel_entry in pigment_entries
            if pixel_entry.entry.kind == "member"
            and entry.name in pixel_entry.entry.groups
            and pixel_entry.entry.place == "anywhere"
        ),
        key=lambda pixel_entry: -_sort_value(pixel_entry.value),
    )
    return group_content | {
        "lines": [_line_content(family, lines[family]) for family in entry.elements if family in lines][:MAX_LINES],
        "unmeasured": [family for family in entry.elements if family not in lines],
        "share": share_entry,
        "amount": None if amount_entry is None else amount_entry.json_entry(),
        "members": [
            {"label": pixel_entry.entry.label, "probability": pixel_entry.value} for pixel_entry in member_entries
        ],
        "alike": library_member_labels(entry.name),
        "left_out": omitted_member_labels(entry.name, [pixel_entry.entry.label for pixel_entry in member_entries]),
        "apart": distinguishing_text([pixel_entry.entry.name for pixel_entry in member_entries]),
    }


def _line_content(family: str, line_entry: _PixelEntry) -> dict[str, Any]:
    return {
        "family": family,
        "counts": line_entry.value,
        "error": line_entry.error,
        "sigma": line_entry.sigma,
        "there": line_entry.is_significant,
    }


def library_member_labels(group: str) -> list[str]:
    """Return the labels of all pigments of a group in the library; an empty list for an unknown group."""
    try:
        return [pigment.label for pigment in library().members(library().group(group).name)]
    except SampleError:
        return []


def omitted_member_labels(group: str, answered_labels: Sequence[str]) -> list[str]:
    """Return the labels of a group's pigments in the library, without the pigments that the analysis included."""
    return [label for label in library_member_labels(group) if answered_labels and label not in answered_labels]


def distinguishing_text(member_names: Sequence[str]) -> str:
    """Return a text on methods that distinguish the two most probable members; "" for fewer than two members."""
    library_names = [name for name in member_names if name in library()]
    return (
        distinguishing_methods_text(library_names[0], library_names[1], include_lines=True)
        if len(library_names) > 1
        else ""
    )


def _sort_value(value: float) -> float:
    return value if math.isfinite(value) else -1.0
