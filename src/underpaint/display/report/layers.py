"""Layers of the painting as numbers and texts, without figures."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import PRESENT_PROBABILITY, SURFACE_UM, Place, Results, is_stated
from underpaint.display.report.findings import MIN_PIXELS, MIN_SHARE, is_present
from underpaint.pigments.predict.order import BOTH_AT_SURFACE, FIRST_ON_TOP, SECOND_ON_TOP, LayerOrder, layer_orders

MIN_ARRANGEMENT_SHARE = 0.01
"""An arrangement is reported if it covers at least this fraction of the pixels with an answer."""
MAX_ARRANGEMENTS = 12
MIN_DETERMINED_SHARE = 0.5
"""A thickness is reported if it is determined in at least this fraction of the arrangement's pixels."""
_NOWHERE, _SURFACE, _BELOW, _BOTH, _UNPLACED = range(5)


@dataclass(frozen=True)
class Thickness:
    """Thickness and the limits of its 90 % interval, each as the median over pixels, in um."""

    median_um: float
    low_um: float
    high_um: float


@dataclass(frozen=True)
class Arrangement:
    """Layer order of groups that is the same in many pixels.

    Parameters
    ----------
    surface, below, unplaced : tuple of str
        Labels of the groups in the uppermost layer, below this layer or in the ground, and at an undetermined place. A
        group may be both at the surface and below.
    n_pixel : int
        Number of pixels with this layer order.
    share : float
        Number of pixels with this layer order, divided by the number of pixels with an answer.
    thickness : Thickness or None
        Thickness of the uppermost layer; None if it is determined in fewer than half of the arrangement's pixels.
    """

    surface: tuple[str, ...]
    below: tuple[str, ...]
    unplaced: tuple[str, ...]
    n_pixel: int
    share: float
    thickness: Thickness | None

    @property
    def text(self) -> str:
        """Text such as "vermilion at the surface, about 20 µm (12 to 35); lead pigment below"."""
        if len(self.surface) == 1 and self.surface == self.below and not self.unplaced:
            return f"{self.surface[0]} alone; it may be the bare ground"
        if not self.surface and not self.unplaced:
            # "Below" alone would claim a layer above. Only paint without lines can lie there.
            return f"{_join_labels(self.below)} with no paint detected above; it may be the bare ground"
        text_parts = (
            [f"{_join_labels(self.surface)} at the surface, {thickness_text(self.thickness)}"] if self.surface else []
        )
        if self.below:
            text_parts.append(f"{_join_labels(self.below)} below")
        elif self.surface and not self.unplaced:
            # A lower layer, at least the ground, always exists. The text therefore never states that nothing lies
            # below.
            text_parts.append("below not determined")
        text_parts += [f"{_join_labels(self.unplaced)}, place not determined"] if self.unplaced else []
        return "; ".join(text_parts)


@dataclass(frozen=True)
class PlaceShares:
    """Places of a detected group, as fractions of the pixels with an answer.

    Parameters
    ----------
    name, label : str
    surface, below : float
        Fraction of pixels in which the group's probability at this place is at least ``PLACED_PROBABILITY``. A pixel
        may count for both places.
    unplaced : float
        Fraction of pixels in which the group is present, but its place is undetermined.
    """

    name: str
    label: str
    surface: float
    below: float
    unplaced: float


def knows_places(results: Results) -> bool:
    """Return whether the results distinguish the surface from lower layers."""
    return {"surface", "below"} <= set(results.places)


def present_groups(results: Results) -> list[str]:
    """Return the groups (or the pigments of a model without groups) that are present, in the order of the model."""
    return [name for name in results.targets if is_present(results[name])]


def place_shares(results: Results) -> list[PlaceShares]:
    """Return the places of the detected groups, sorted by descending fraction at the surface."""
    if not knows_places(results):
        return []
    n_with_result = max(int(results.has_prediction.sum()), 1)
    all_shares = []
    for name in present_groups(results):
        place_codes = _place_codes_of(results, name)
        shares = np.bincount(place_codes[place_codes != _NOWHERE], minlength=5) / n_with_result
        surface, below = float(shares[_SURFACE] + shares[_BOTH]), float(shares[_BELOW] + shares[_BOTH])
        all_shares.append(PlaceShares(name, results.short_label(name), surface, below, float(shares[_UNPLACED])))
    return sorted(all_shares, key=lambda row: (-row.surface, -row.below))


def find_arrangements(results: Results) -> list[Arrangement]:
    """Return the arrangements that cover at least one per cent of the pixels, the most widespread first.

    A group is at a place if its probability at this place is at least ``PLACED_PROBABILITY``. The list is empty for a
    model that predicts no places.
    """
    names = present_groups(results) if knows_places(results) else []
    if not names:
        return []
    place_codes = np.stack([_place_codes_of(results, name).ravel() for name in names], axis=1)
    code_rows, row_index, row_counts = _distinct_rows(place_codes)
    n_with_result = max(int(results.has_prediction.sum()), 1)
    min_pixels = max(MIN_ARRANGEMENT_SHARE * n_with_result, min(MIN_PIXELS, n_with_result))
    selected_rows = [
        index
        for index in np.argsort(-row_counts, kind="stable")
        if code_rows[index].any() and row_counts[index] >= min_pixels
    ]
    return [
        _arrangement(results, names, code_rows[index], row_index.ravel() == index, n_with_result)
        for index in selected_rows[:MAX_ARRANGEMENTS]
    ]


def _distinct_rows(codes: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.intp], NDArray[np.intp]]:
    """Return an array's distinct rows, the index of each row among them, and how often each distinct row occurs."""
    row_index, first_index = np.zeros(len(codes), np.intp), np.zeros(1, np.intp)
    for column in codes.T:
        # Columns are combined into integers, because sorting integers is ten times as fast as sorting rows.
        _, first_index, row_index = np.unique(
            row_index * (_UNPLACED + 1) + column, return_index=True, return_inverse=True
        )
    return codes[first_index], row_index, np.bincount(row_index, minlength=len(first_index))


def median_thickness_in_mask(results: Results, mask: NDArray[np.bool_]) -> Thickness | None:
    """Return the median thickness of the uppermost layer in a mask; None if it is unknown in most pixels."""
    if "quantity" not in results.stacks or not mask.any():
        return None
    is_determined = mask & results.is_determined(SURFACE_UM)
    if is_determined.sum() < MIN_DETERMINED_SHARE * mask.sum():
        return None
    return Thickness(*(float(np.median(image[is_determined])) for image in results.estimate(SURFACE_UM)))


def thickness_text(thickness: Thickness | None) -> str:
    """Return a thickness and its interval as text."""
    if thickness is None:
        return "thickness not determined"
    low_text, median_text, high_text = map(two_figures, (thickness.low_um, thickness.median_um, thickness.high_um))
    return f"about {median_text} µm ({low_text} to {high_text})"


def order_rows(results: Results) -> list[LayerOrder]:
    """Return the layer order of each pair of detected groups that occur in the same pixels."""
    if not (knows_places(results) and all(has_places(results, name) for name in results.groups)):
        return []
    return layer_orders(results, present_groups(results), min_share=MIN_SHARE)


def order_text(results: Results, order: LayerOrder) -> str:
    """Return a text on the layer order of a pair of groups."""
    first_label, second_label = results.short_label(order.first_group), results.short_label(order.second_group)
    order_texts = {
        FIRST_ON_TOP: f"{first_label} over {second_label}",
        SECOND_ON_TOP: f"{second_label} over {first_label}",
        BOTH_AT_SURFACE: f"{first_label} and {second_label} together at the surface",
    }
    return order_texts.get(order.order_key, "not determined")


def share_below_in_paint(results: Results) -> float:
    """Return the fraction of pixels whose only evidence of a group below the surface is the layers of the paint."""
    if not results.paints:
        return 0.0
    undetermined_masks = [
        (results[name] > PRESENT_PROBABILITY)
        & ~_likely_at(results, name, "surface")
        & ~_likely_at(results, name, "below")
        & results.below_in_paint(name)
        for name in present_groups(results)
    ]
    return float(np.any(undetermined_masks, axis=0).mean()) if undetermined_masks else 0.0


def _place_codes_of(results: Results, name: str) -> NDArray[np.uint8]:
    is_at_surface, is_below = _likely_at(results, name, "surface"), _likely_at(results, name, "below")
    place_codes = (_SURFACE * is_at_surface + _BELOW * is_below).astype(np.uint8)
    place_codes[(place_codes == _NOWHERE) & (results[name] > PRESENT_PROBABILITY)] = _UNPLACED
    place_codes[(place_codes == _UNPLACED) & results.below_in_paint(name)] = _BELOW
    return place_codes


def has_places(results: Results, name: str) -> bool:
    """Return whether a group or pigment has maps by place. For a pigment, this requires a probable place."""
    return results.holds(name, "surface") and results.holds(name, "below")


def _likely_at(results: Results, name: str, place: Place) -> NDArray[np.bool_]:
    """Return the mask of pixels where a group is probably at a place; all False if the place has no map."""
    if not results.holds(name, place):
        return np.zeros(results.shape, dtype=np.bool_)
    return is_stated(results[name, place], place)


def _arrangement(
    results: Results, names: list[str], group_places: NDArray[np.uint8], mask: NDArray[np.bool_], n_with_result: int
) -> Arrangement:
    def labels_of_codes(*selected_codes: int) -> tuple[str, ...]:
        return tuple(
            results.short_label(name)
            for name, name_code in zip(names, group_places, strict=True)
            if name_code in selected_codes
        )

    n_pixel = int(mask.sum())
    return Arrangement(
        surface=labels_of_codes(_SURFACE, _BOTH),
        below=labels_of_codes(_BELOW, _BOTH),
        unplaced=labels_of_codes(_UNPLACED),
        n_pixel=n_pixel,
        share=n_pixel / n_with_result,
        thickness=median_thickness_in_mask(results, mask.reshape(results.shape)),
    )


def _join_labels(labels: tuple[str, ...]) -> str:
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


def two_figures(value: float) -> str:
    """Return a number as text with two significant digits and without an exponent."""
    return f"{float(f'{value:.2g}'):.10f}".rstrip("0").rstrip(".")
