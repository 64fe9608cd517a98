"""What lies at the surface and what below it, in numbers and plain words; no drawing here."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import PLACED_PROBABILITY, PRESENT_PROBABILITY, SURFACE_UM, Place, Results
from underpaint.display.report.findings import LEAST_PIXELS, LEAST_SHARE, is_present
from underpaint.pigments.predict.order import BELOW, ON_TOP, TOGETHER, LayerOrder, layer_orders

LEAST_ARRANGEMENT = 0.01
"""Share of the answered pixels from which an arrangement is told."""
MOST_ARRANGEMENTS = 12
LEAST_DETERMINED = 0.5
"""Share of its pixels in which the thickness has to be determined to be given for an arrangement."""
_NOWHERE, _SURFACE, _BELOW, _BOTH, _UNPLACED = range(5)


@dataclass(frozen=True)
class Thickness:
    """Medians over pixels of a thickness and of its 90 % interval, um."""

    median_um: float
    low_um: float
    high_um: float


@dataclass(frozen=True)
class Arrangement:
    """Groups in the order in which many pixels hold them.

    Parameters
    ----------
    surface, below, unplaced : tuple of str
        Labels of the groups in the uppermost layer, under it (or in the ground), and of those whose place is open.
        A group in both places is in both.
    n_pixel : int
    share : float
        Of the answered pixels.
    thickness : Thickness or None
        Of the uppermost layer; None where it is not determined in most of these pixels.
    """

    surface: tuple[str, ...]
    below: tuple[str, ...]
    unplaced: tuple[str, ...]
    n_pixel: int
    share: float
    thickness: Thickness | None

    @property
    def text(self) -> str:
        """In words: "vermilion at the surface, about 20 µm (12 to 35), lead pigment below"."""
        if len(self.surface) == 1 and self.surface == self.below and not self.unplaced:
            return f"{self.surface[0]} alone; it may be the bare ground"
        parts = [f"{_joined(self.surface)} at the surface, {thickness_text(self.thickness)}"] if self.surface else []
        if self.below:
            parts.append(f"{_joined(self.below)} below")
        elif self.surface and not self.unplaced:
            # There is always something, if only the ground: that it is not seen is no finding.
            parts.append("below not determined")
        parts += [f"{_joined(self.unplaced)}, place not determined"] if self.unplaced else []
        return "; ".join(parts)


@dataclass(frozen=True)
class PlaceShares:
    """Where a group that was found lies, as shares of the answered pixels.

    Parameters
    ----------
    name, label : str
    surface, below : float
        Where its probability at that place is ``PLACED_PROBABILITY`` at least; both may hold.
    unplaced : float
        Where the group is present and neither holds: its depth is undetermined.
    """

    name: str
    label: str
    surface: float
    below: float
    unplaced: float


def knows_places(results: Results) -> bool:
    """Whether the results tell the surface from what is below it."""
    return {"surface", "below"} <= set(results.places)


def present_groups(results: Results) -> list[str]:
    """Return the groups that are present anywhere, of a model without groups the pigments, in the model's order."""
    return [name for name in results.targets if is_present(results[name])]


def place_shares(results: Results) -> list[PlaceShares]:
    """Return where the groups that were found lie, the most widespread at the surface first."""
    if not knows_places(results):
        return []
    n_known = max(int(results.answered.sum()), 1)
    rows = []
    for name in present_groups(results):
        code = _codes(results, name)
        counts = np.bincount(code[code != _NOWHERE], minlength=5) / n_known
        surface, below = float(counts[_SURFACE] + counts[_BOTH]), float(counts[_BELOW] + counts[_BOTH])
        rows.append(PlaceShares(name, results.short_label(name), surface, below, float(counts[_UNPLACED])))
    return sorted(rows, key=lambda own: (-own.surface, -own.below))


def find_arrangements(results: Results) -> list[Arrangement]:
    """Return which groups lie how in how many pixels, the most widespread first; those under one per cent are left out.

    A group is at a place where its probability there is ``PLACED_PROBABILITY`` at least. Of a model without
    places there are none.
    """
    names = present_groups(results) if knows_places(results) else []
    if not names:
        return []
    codes = np.stack([_codes(results, name).ravel() for name in names], axis=1)
    kinds, which, counts = _kinds(codes)
    n_known = max(int(results.answered.sum()), 1)
    least = max(LEAST_ARRANGEMENT * n_known, min(LEAST_PIXELS, n_known))
    ordered = [index for index in np.argsort(-counts, kind="stable") if kinds[index].any() and counts[index] >= least]
    return [
        _arrangement(results, names, kinds[index], which.ravel() == index, n_known)
        for index in ordered[:MOST_ARRANGEMENTS]
    ]


def _kinds(codes: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.intp], NDArray[np.intp]]:
    """Return the different rows of a large table of small numbers, which of them each row is, and how often each is."""
    which, first = np.zeros(len(codes), np.intp), np.zeros(1, np.intp)
    for column in codes.T:
        # One column after the other: sorting whole numbers takes a tenth of the time of sorting rows.
        _, first, which = np.unique(which * (_UNPLACED + 1) + column, return_index=True, return_inverse=True)
    return codes[first], which, np.bincount(which, minlength=len(first))


def thickness_inside(results: Results, inside: NDArray[np.bool_]) -> Thickness | None:
    """Return medians of the surface layer's thickness over some of the pixels; None where most do not determine it."""
    if "quantity" not in results.stacks or not inside.any():
        return None
    known = inside & results.is_determined(SURFACE_UM)
    if known.sum() < LEAST_DETERMINED * inside.sum():
        return None
    return Thickness(*(float(np.median(image[known])) for image in results.estimate(SURFACE_UM)))


def thickness_text(own: Thickness | None) -> str:
    """Say a thickness for people."""
    if own is None:
        return "thickness not determined"
    return f"about {two_figures(own.median_um)} µm ({two_figures(own.low_um)} to {two_figures(own.high_um)})"


def order_rows(results: Results) -> list[LayerOrder]:
    """Return the orders of the pairs of groups that were found and share pixels."""
    if not (knows_places(results) and all(has_places(results, name) for name in results.groups)):
        return []
    return layer_orders(results, present_groups(results), least_share=LEAST_SHARE)


def order_text(results: Results, own: LayerOrder) -> str:
    """Say which of a pair lies on top."""
    one, other = results.short_label(own.first), results.short_label(own.second)
    words = {
        ON_TOP: f"{one} over {other}",
        BELOW: f"{other} over {one}",
        TOGETHER: f"{one} and {other} together at the surface",
    }
    return words.get(own.answer, "not determined")


def share_below_in_paint(results: Results) -> float:
    """Return the share of the pixels in which a group is below because the layers of their paint say so."""
    if not results.paints:
        return 0.0
    open_places = [
        (results[name] > PRESENT_PROBABILITY)
        & ~_likely_at(results, name, "surface")
        & ~_likely_at(results, name, "below")
        & results.below_in_paint(name)
        for name in present_groups(results)
    ]
    return float(np.any(open_places, axis=0).mean()) if open_places else 0.0


def _codes(results: Results, name: str) -> NDArray[np.uint8]:
    at_surface, below = _likely_at(results, name, "surface"), _likely_at(results, name, "below")
    code = (_SURFACE * at_surface + _BELOW * below).astype(np.uint8)
    code[(code == _NOWHERE) & (results[name] > PRESENT_PROBABILITY)] = _UNPLACED
    code[(code == _UNPLACED) & results.below_in_paint(name)] = _BELOW
    return code


def has_places(results: Results, name: str) -> bool:
    """Whether the results hold where a group or pigment lies; of pigments they do so only where that is likely."""
    return results.holds(name, "surface") and results.holds(name, "below")


def _likely_at(results: Results, name: str, place: Place) -> NDArray[np.bool_]:
    """Return where a group is at a place; nowhere, if no map was kept, as that says that it is nowhere likely."""
    if not results.holds(name, place):
        return np.zeros(results.shape, dtype=np.bool_)
    return np.asarray(results[name, place] >= PLACED_PROBABILITY)


def _arrangement(
    results: Results, names: list[str], code: NDArray[np.uint8], inside: NDArray[np.bool_], n_known: int
) -> Arrangement:
    def those(*wanted: int) -> tuple[str, ...]:
        return tuple(results.short_label(name) for name, own in zip(names, code, strict=True) if own in wanted)

    n_pixel = int(inside.sum())
    return Arrangement(
        surface=those(_SURFACE, _BOTH),
        below=those(_BELOW, _BOTH),
        unplaced=those(_UNPLACED),
        n_pixel=n_pixel,
        share=n_pixel / n_known,
        thickness=thickness_inside(results, inside.reshape(results.shape)),
    )


def _joined(labels: tuple[str, ...]) -> str:
    return labels[0] if len(labels) == 1 else f"{', '.join(labels[:-1])} and {labels[-1]}"


def two_figures(value: float) -> str:
    """Write a number with two figures, of quantities whose intervals are wide; never as a power of ten."""
    return f"{float(f'{value:.2g}'):.10f}".rstrip("0").rstrip(".")
