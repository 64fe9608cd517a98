"""Evidence at a pixel: probabilities by place, lines for each pigment, pigments that X-rays cannot distinguish."""

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

WORTH_WORDS = 0.1
"""Probability from which the evidence for a pigment is listed."""
MOST_LINES = 4


def spot(maps: ResultMaps, row: int, column: int) -> dict[str, Any]:
    """Return what the results hold at a pixel, for the page.

    Returns
    -------
    dict
        ``groups`` (the most probable first): probability by place, state, lines with counts and standard deviations,
        members, and what would tell the members apart. ``elements`` and ``quantities`` with their deviations;
        ``unlike``: an unassigned peak, or None.

    Raises
    ------
    ScanError
        The pixel lies outside.
    """
    values, errors = maps.at(row, column)
    ends = [maps.interval(index, row, column) if entry.end_paths else None for index, entry in enumerate(maps.entries)]
    own = [_Valued(*each) for each in zip(maps.entries, values.tolist(), errors.tolist(), ends, strict=True)]
    lines = {each.entry.name: each for each in own if each.entry.kind == "element"}
    kind = "group" if any(each.entry.kind == "group" for each in own) else "member"
    asked = [each for each in own if each.entry.kind in {"group", "member"}]
    shown = [each for each in asked if each.entry.kind == kind and each.entry.place == "anywhere"]
    groups = [_group(each, asked, lines, own) for each in sorted(shown, key=lambda each: -_known(each.value))]
    return {
        "row": row,
        "column": column,
        "groups": groups,
        "elements": [
            {"name": name, "counts": each.value, "error": each.error, "sigma": each.sigma, "there": each.there}
            for name, each in sorted(lines.items(), key=lambda item: -_known(item[1].value))
        ],
        "quantities": [
            each.told()
            for each in own
            if each.entry.process == "quantities"
            or (each.entry.kind == "quantity" and each.entry.process == "pigments" and not material_of(each.entry.name))
        ],
        "unlike": _unlike(own),
    }


def unknown(probability: NDArray[np.float32], state: NDArray[np.float32], place: str = "anywhere") -> NDArray[np.bool_]:
    """Return the (n_row, n_column) pixels where a pigment is not seen and cannot be excluded.

    Parameters
    ----------
    probability : (n_row, n_column) array
        Of a group or pigment, at the place.
    state : (n_row, n_column) array
        Keys of ``STATES``, NaN for no answer.
    place : str
        Below the surface a pigment that is there may still be unseen.
    """
    possible = np.isfinite(state) & (state != NOT_DETECTED) if place == "below" else state == CANNOT_EXCLUDE
    return np.asarray((probability < PRESENT_PROBABILITY) & possible)


def _unlike(own: Sequence["_Valued"]) -> dict[str, float] | None:
    """Return significance and energy of the strongest unassigned peak; None below the limit."""
    found = {each.entry.name: each.value for each in own if each.entry.process == "open_set"}
    if not found.get("score", 0.0) > UNLIKE_SIGMA:
        return None
    return {"sigma": found["score"], "energy_kev": found.get("energy_kev", float("nan"))}


class _Valued:
    """An entry with its value at a pixel."""

    def __init__(self, entry: MapEntry, value: float, error: float, ends: tuple[float, float] | None) -> None:
        self.entry, self.value, self.error, self.ends = entry, value, error, ends

    def told(self) -> dict[str, Any]:
        """Return it with its unit and whatever is known of its error, for the page."""
        entry = self.entry
        known = {"label": entry.label, "value": self.value, "error": self.error, "unit": entry.unit}
        return known | ({} if self.ends is None else {"low": self.ends[0], "high": self.ends[1]})

    @property
    def sigma(self) -> float:
        """Value over its standard deviation; 0 where that is not known."""
        return self.value / self.error if self.error > 0 else 0.0

    @property
    def there(self) -> bool:
        """Whether a line stands out."""
        return self.sigma > LINE_SIGMA


def _group(
    own: _Valued, asked: Sequence[_Valued], lines: dict[str, _Valued], every: Sequence[_Valued]
) -> dict[str, Any]:
    entry = own.entry
    places = {each.entry.place: each.value for each in asked if each.entry.material == entry.name and each is not own}
    state = next((each.value for each in every if each.entry.kind == "state" and each.entry.name == entry.name), None)
    amount = next((each for each in every if each.entry.name == f"{AMOUNT}.{entry.name}"), None)
    most = float("nan") if amount is None or amount.ends is None else amount.ends[1]
    found: dict[str, Any] = {
        "name": entry.name,
        "label": entry.label,
        "probability": own.value,
        "places": places,
        "state": int(state) if state is not None and math.isfinite(state) else None,
        "answer": answer_words(int(state), most) if state is not None and math.isfinite(state) else "",
    }
    if _known(own.value) < WORTH_WORDS:
        return found
    share = next((each.told() for each in every if each.entry.name == share_of(entry.name)), None)
    members = sorted(
        (
            each
            for each in asked
            if each.entry.kind == "member" and entry.name in each.entry.groups and each.entry.place == "anywhere"
        ),
        key=lambda each: -_known(each.value),
    )
    return found | {
        "lines": [_line(family, lines[family]) for family in entry.elements if family in lines][:MOST_LINES],
        "unmeasured": [family for family in entry.elements if family not in lines],
        "share": share,
        "amount": None if amount is None else amount.told(),
        "members": [{"label": each.entry.label, "probability": each.value} for each in members],
        "alike": alike(entry.name),
        "left_out": left_out(entry.name, [each.entry.label for each in members]),
        "apart": apart([each.entry.name for each in members]),
    }


def _line(family: str, own: _Valued) -> dict[str, Any]:
    return {
        "family": family,
        "counts": own.value,
        "error": own.error,
        "sigma": own.sigma,
        "there": own.there,
    }


def alike(group: str) -> list[str]:
    """Return the labels of all pigments of the library that count as a group; none for an unknown one."""
    try:
        return [pigment.label for pigment in library().members(library().group(group).name)]
    except SampleError:
        return []


def left_out(group: str, asked: Sequence[str]) -> list[str]:
    """Return the labels of the pigments of the library that count as a group and were not asked for."""
    return [label for label in alike(group) if asked and label not in asked]


def apart(names: Sequence[str]) -> str:
    """Return how to distinguish the two most probable members; "" for fewer than two of the library."""
    library_names = [name for name in names if name in library()]
    return (
        distinguishing_methods_text(library_names[0], library_names[1], include_lines=True)
        if len(library_names) > 1
        else ""
    )


def _known(value: float) -> float:
    return value if math.isfinite(value) else -1.0
