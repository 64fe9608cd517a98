"""What the maps say, in numbers and plain words; no drawing here."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import PIGMENT, PRESENT_PROBABILITY, Results
from underpaint.errors import SampleError
from underpaint.physics.materials import library
from underpaint.pigments.limits import distinguishing_methods_text, member_shares

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
        As in the results.
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
        Whether lines were fitted at all.
    left_out : tuple of str
        Those of ``members`` that were not asked for.
    by_palette : bool
        Whether a palette left them out; else the network does not know them.
    answers : str
        Of a group: how its answers are spread over the pixels, as :meth:`Results.answer_summary` words it.
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
    answers: str = ""

    @property
    def doubtful(self) -> bool:
        """Whether lines were fitted, and none of the pigment stands out where the model sees it."""
        return self.fitted and max((own.share for own in self.evidence), default=0.0) < 0.5


def find_groups(results: Results) -> list[Finding]:
    """Return the groups that are present, the most widespread first and the doubtful last, each with its members.

    Where amounts are known, those that a pigment brings come before traces. A model without groups gives its members
    instead.
    """
    present = [_finding(results, name) for name in results.targets if is_present(results[name])]
    return sorted(present, key=lambda each: (each.doubtful, -_pigment_share(results, each.name), -each.share))


def _pigment_share(results: Results, name: str) -> float:
    """Return the share of the pixels in which a group is a pigment; 0 where amounts are not known."""
    known = "state" in results.stacks and (name,) in results.stacks["state"]
    return results.state_shares(name)[PIGMENT] if known else 0.0


def is_present(probability: NDArray[np.float32]) -> bool:
    """Whether enough pixels exceed a probability of one half."""
    n_inside = int((probability > PRESENT_PROBABILITY).sum())
    n_known = max(int(np.isfinite(probability).sum()), 1)
    return n_inside >= min(LEAST_PIXELS, n_known) and n_inside / n_known >= LEAST_SHARE


def absent_names(results: Results) -> list[str]:
    """Labels of the groups (or members) that were asked for and not found."""
    return [results.label(name) for name in results.targets if not is_present(results[name])]


def element_evidence(results: Results) -> list[Evidence]:
    """Line families above five standard deviations in at least one pixel of a hundred; the most certain first.

    Their median is of the pixels in which they stand out: over all pixels it would be noise where a paint is rare.
    """
    lines = []
    for family in results.lines:
        area, error = results[family], results.map("area_sigma", family)
        known = np.isfinite(area) & np.isfinite(error)
        certain = known & (area > CERTAIN_SIGMA * np.maximum(error, 1e-9))
        median = float(np.median(area[certain])) if certain.any() else 0.0
        lines.append(Evidence(family, float(certain.sum() / max(int(known.sum()), 1)), median))
    return sorted(
        (one for one in lines if one.share >= LEAST_LINE_SHARE), key=lambda one: (-one.share, -one.median_counts)
    )


def telling_lines(results: Results, families: Sequence[str], most: int = 3, first: str | None = None) -> list[str]:
    """Return the families whose maps vary most over their noise, and are least alike, the first the most telling.

    Each next one has the largest variation times one less its largest absolute correlation with those before. A family
    ``first`` is the first one, if it is among them.
    """
    maps = {name: np.nan_to_num(results[name]).ravel() for name in families}
    noise = {name: float(np.nanmedian(results.map("area_sigma", name))) for name in families}
    variation = {name: float(maps[name].std()) / max(noise[name], 1e-9) for name in families}
    chosen = [name for name in families if name == first]
    while len(chosen) < min(most, len(families)):
        rest = [name for name in families if name not in chosen]
        alike = {name: max((_correlation(maps[name], maps[one]) for one in chosen), default=0.0) for name in rest}
        chosen.append(max(rest, key=lambda name: variation[name] * (1.0 - alike[name])))
    return chosen


def _correlation(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    spread = float(one.std() * other.std())
    return abs(float(((one - one.mean()) * (other - other.mean())).mean())) / spread if spread > 0 else 1.0


def low_count_share(pixel_counts: NDArray[np.float64]) -> float:
    """Return the share of pixels under a thousand counts, where faint pigments cannot be seen."""
    return float((pixel_counts < FEW_COUNTS).mean()) if pixel_counts.size else 0.0


def _finding(results: Results, name: str) -> Finding:
    probability = results[name]
    inside = probability > PRESENT_PROBABILITY
    n_known = max(int(np.isfinite(probability).sum()), 1)
    families = results.materials[name].elements
    evidence = [_evidence(results, family, inside) for family in families if family in results.lines]
    is_group = results.materials[name].kind == "group"
    shares = _shares(results, name) if is_group else []
    members = _members(results, name) if is_group else ()
    requested = _requested(results, name) | {library()[member].label for member, _ in shares}
    return Finding(
        name,
        results.label(name),
        float(inside.sum()) / n_known,
        float(probability[inside].mean()) if inside.any() else 0.0,
        tuple(sorted(evidence, key=lambda own: -own.share)),
        members,
        _leanings(results, name) if is_group else (),
        tuple((library()[member].label, share) for member, share in shares),
        _told_apart(name, [member for member, _ in shares]) if is_group else "",
        results.has_elements,
        tuple(label for label in members if requested and label not in requested),
        bool(results.settings_of("pigments").get("member_prior", {}).get("palette")),
        results.answer_summary(name),
    )


def _evidence(results: Results, family: str, inside: NDArray[np.bool_]) -> Evidence:
    area, error = results[family][inside], results.map("area_sigma", family)[inside]
    known = np.isfinite(area) & np.isfinite(error)
    if not known.any():
        return Evidence(family, 0.0, 0.0)
    above = area[known] > LINE_SIGMA * np.maximum(error[known], 1e-9)
    return Evidence(family, float(above.mean()), float(np.median(area[known])))


def _leanings(results: Results, group: str) -> tuple[Finding, ...]:
    if member_shares(results, group):
        return ()
    names = [name for name in results.pigments if group in results.materials[name].groups and is_present(results[name])]
    found = [_finding(results, name) for name in names]
    return tuple(sorted(found, key=lambda own: -own.share))


def _shares(results: Results, group: str) -> list[tuple[str, float]]:
    """Return the members' shares of the group, the largest first; empty where no prior was stated."""
    shares = member_shares(results, group)
    place = {pigment.name: index for index, pigment in enumerate(library())}
    return sorted(shares.items(), key=lambda own: (-own[1], place[own[0]]))


def _told_apart(group: str, names: list[str]) -> str:
    """Say what would tell apart the first two of the members, or of the library's where none are given."""
    try:
        names = names or [pigment.name for pigment in library().members(library().group(group).name)]
    except SampleError:
        return ""
    return distinguishing_methods_text(*names[:2], include_lines=True) if len(names) > 1 else ""


def _members(results: Results, group: str) -> tuple[str, ...]:
    """Pigments of the library that count as the group; of a group of the user's own, those of the model."""
    known = library()
    try:
        known.group(group)
    except SampleError:
        return tuple(own.label for name, own in results.materials.items() if group in own.groups and name != group)
    return tuple(pigment.label for pigment in known.members(group))


def _requested(results: Results, group: str) -> frozenset[str]:
    """Return the labels of the members of a group that have a probability of their own."""
    members = (results.materials[name] for name in results.pigments)
    return frozenset(member.label for member in members if group in member.groups)
