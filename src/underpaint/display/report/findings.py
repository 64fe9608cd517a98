"""What the maps say, in numbers and plain words; no drawing here."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import PRESENT_PROBABILITY, ElementMaps, PigmentMaps
from underpaint.errors import SampleError
from underpaint.physics.materials import library
from underpaint.pigments.limits import member_shares, told_apart_text

LEAST_SHARE = 0.001
LEAST_PIXELS = 3
LINE_SIGMA = 3.0
CERTAIN_SIGMA = 5.0
LEAST_LINE_SHARE = 0.01
FEW_COUNTS = 1e3
# First estimates with a perfect forward model, thickness and ground free.
LAYER_LIMIT = (
    "To see lead white through vermilion takes some 200 counts a pixel at 50 µm of vermilion, "
    "10 thousand at 100 µm, a million at 150 µm."
)


@dataclass(frozen=True)
class Evidence:
    """How a line family stands out where a pigment was found.

    Parameters
    ----------
    family : str
        ``Hg_L``.
    share : float
        Share of the pigment's pixels in which the line exceeds three standard deviations.
    median_counts : float
        Median net counts of these pixels.
    """

    family: str
    share: float
    median_counts: float


@dataclass(frozen=True)
class Finding:
    """A pigment or group that was found.

    Parameters
    ----------
    name, label : str
        As in the maps.
    share : float
        Share of the answered pixels with a probability over one half.
    mean_inside : float
        Mean probability of these pixels.
    evidence : tuple of Evidence
        Of each of the pigment's line families that has a map, strongest first.
    members : tuple of str
        Of a group: labels of all pigments that count as it.
    leanings : tuple of Finding
        Of a group: its members whose own probability exceeds one half somewhere; empty where they share it.
    shares : tuple of (str, float)
        Of a group that its members share by a stated prior: their labels and their shares of it, the largest first.
    told_apart : str
        Of a group of several members: what would tell the first two apart.
    fitted : bool
        Whether there are element maps at all.
    left_out : tuple of str
        Those of ``members`` that were not asked for.
    by_palette : bool
        Whether a palette left them out; else the network does not know them.
    """

    name: str
    label: str
    share: float
    mean_inside: float
    evidence: tuple[Evidence, ...] = ()
    members: tuple[str, ...] = ()
    leanings: tuple["Finding", ...] = ()
    shares: tuple[tuple[str, float], ...] = ()
    told_apart: str = ""
    fitted: bool = True
    left_out: tuple[str, ...] = ()
    by_palette: bool = False

    @property
    def doubtful(self) -> bool:
        """Whether lines were fitted, and none of the pigment stands out where the model sees it."""
        return self.fitted and max((own.share for own in self.evidence), default=0.0) < 0.5


def find_groups(pigments: PigmentMaps, elements: ElementMaps | None) -> list[Finding]:
    """Return the groups that are present, the most widespread first and the doubtful last, each with its members.

    A model without groups gives its members instead.
    """
    kind = "group" if pigments.select("group") else "member"
    found = [_finding(pigments, elements, name) for name in pigments.select(kind) if is_present(pigments[name])]
    return sorted(found, key=lambda own: (own.doubtful, -own.share))


def is_present(probability: NDArray[np.float32]) -> bool:
    """Whether enough pixels exceed a probability of one half."""
    n_inside = int((probability > PRESENT_PROBABILITY).sum())
    n_known = max(int(np.isfinite(probability).sum()), 1)
    return n_inside >= min(LEAST_PIXELS, n_known) and n_inside / n_known >= LEAST_SHARE


def absent_names(pigments: PigmentMaps) -> list[str]:
    """Labels of the groups (or members) that were asked for and not found."""
    kind = "group" if pigments.select("group") else "member"
    return [_label(pigments, name) for name in pigments.select(kind) if not is_present(pigments[name])]


def element_evidence(elements: ElementMaps) -> list[Evidence]:
    """Line families above five standard deviations in at least one pixel of a hundred; the most certain first."""
    everywhere = np.ones(elements.area.shape[:2], dtype=bool)
    found = [_evidence(elements, family, everywhere, CERTAIN_SIGMA) for family in elements.names]
    return sorted(
        (own for own in found if own.share >= LEAST_LINE_SHARE), key=lambda own: (-own.share, -own.median_counts)
    )


def low_count_share(pixel_counts: NDArray[np.float64]) -> float:
    """Return the share of pixels under a thousand counts, where faint pigments cannot be seen."""
    return float((pixel_counts < FEW_COUNTS).mean()) if pixel_counts.size else 0.0


def _finding(pigments: PigmentMaps, elements: ElementMaps | None, name: str) -> Finding:
    probability = pigments[name]
    inside = probability > PRESENT_PROBABILITY
    n_known = max(int(np.isfinite(probability).sum()), 1)
    families = pigments.elements[pigments.names.index(name)]
    known = [family for family in families if elements is not None and family in elements.names]
    evidence = [_evidence(elements, family, inside, LINE_SIGMA) for family in known if elements is not None]
    is_group = pigments.kinds[pigments.names.index(name)] == "group"
    shares = _shares(pigments, name) if is_group else []
    members = _members(pigments, name) if is_group else ()
    asked = _asked(pigments, name) | {library()[member].label for member, _ in shares}
    return Finding(
        name,
        _label(pigments, name),
        float(inside.sum()) / n_known,
        float(probability[inside].mean()) if inside.any() else 0.0,
        tuple(sorted(evidence, key=lambda own: -own.share)),
        members,
        _leanings(pigments, elements, name) if is_group else (),
        tuple((library()[member].label, share) for member, share in shares),
        _told_apart(name, [member for member, _ in shares]) if is_group else "",
        elements is not None,
        tuple(label for label in members if asked and label not in asked),
        bool(pigments.settings.get("member_prior", {}).get("palette")),
    )


def _evidence(elements: ElementMaps, family: str, inside: NDArray[np.bool_], sigma: float) -> Evidence:
    area, error = elements[family][inside], elements.uncertainty[inside, elements.names.index(family)]
    known = np.isfinite(area) & np.isfinite(error)
    if not known.any():
        return Evidence(family, 0.0, 0.0)
    above = area[known] > sigma * np.maximum(error[known], 1e-9)
    return Evidence(family, float(above.mean()), float(np.median(area[known])))


def _leanings(pigments: PigmentMaps, elements: ElementMaps | None, group: str) -> tuple[Finding, ...]:
    if member_shares(pigments, group):
        return ()
    names = [
        name
        for name, kind, groups in zip(pigments.names, pigments.kinds, pigments.groups, strict=True)
        if kind == "member" and group in groups and is_present(pigments[name])
    ]
    found = [_finding(pigments, elements, name) for name in names]
    return tuple(sorted(found, key=lambda own: -own.share))


def _shares(pigments: PigmentMaps, group: str) -> list[tuple[str, float]]:
    """Return the members' shares of the group, the largest first; empty where no prior was stated."""
    shares = member_shares(pigments, group)
    place = {pigment.name: index for index, pigment in enumerate(library())}
    return sorted(shares.items(), key=lambda own: (-own[1], place[own[0]]))


def _told_apart(group: str, names: list[str]) -> str:
    """Say what would tell apart the first two of the members, or of the library's where none are given."""
    try:
        names = names or [pigment.name for pigment in library().members(library().group(group).name)]
    except SampleError:
        return ""
    return told_apart_text(*names[:2], by_lines=True) if len(names) > 1 else ""


def _members(pigments: PigmentMaps, group: str) -> tuple[str, ...]:
    """Pigments of the library that count as the group; of a group of the user's own, those of the model."""
    known = library()
    try:
        known.group(group)
    except SampleError:
        members = [
            n for n, groups in zip(pigments.names, pigments.groups, strict=True) if group in groups and n != group
        ]
        return tuple(_label(pigments, name) for name in members)
    return tuple(pigment.label for pigment in known.members(group))


def _asked(pigments: PigmentMaps, group: str) -> frozenset[str]:
    """Return the labels of the members of a group that have a probability of their own."""
    rows = zip(pigments.labels, pigments.kinds, pigments.groups, strict=True)
    return frozenset(label for label, kind, groups in rows if kind == "member" and group in groups)


def _label(pigments: PigmentMaps, name: str) -> str:
    return pigments.labels[pigments.names.index(name)]
