"""Findings from the maps as numbers and texts, without figures."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import PIGMENT, PRESENT_PROBABILITY, Results
from underpaint.errors import SampleError
from underpaint.physics.materials import library
from underpaint.pigments.limits import distinguishing_methods_text, member_shares

MIN_SHARE = 0.001
MIN_PIXELS = 3
LINE_SIGMA = 3.0
CERTAIN_SIGMA = 5.0
MIN_LINE_SHARE = 0.01
MIN_DETECTABLE_COUNTS = 1e3
# These counts are estimates for a perfect forward model. Thickness and ground are assumed to be unknown.
LAYER_LIMIT = (
    "To detect lead white below vermilion takes about 200 counts a pixel at 50 µm of vermilion, "
    "10 thousand at 100 µm, and a million at 150 µm."
)


@dataclass(frozen=True)
class Evidence:
    """Significance of a line family in the pixels in which a pigment was detected.

    Parameters
    ----------
    family : str
        Line family, such as ``Hg_L``.
    share : float
        Fraction of the pigment's pixels in which the line exceeds three standard deviations.
    median_counts : float
        Median net counts of the line family in the pigment's pixels.
    """

    family: str
    share: float
    median_counts: float


@dataclass(frozen=True)
class Finding:
    """A detected pigment or group.

    Parameters
    ----------
    name, label : str
        Name and label in the results.
    share : float
        Number of pixels whose probability exceeds one half, divided by the number of pixels with an answer.
    mean_probability : float
        Mean probability in the pixels whose probability exceeds one half.
    evidence : tuple of Evidence
        Evidence of each mapped line family of the pigment, the strongest first.
    members : tuple of str
        Labels of all pigments of the group; empty for a pigment.
    separate_findings : tuple of Finding
        Findings of the members that are present according to their separate probability; empty if a prior divides the
        probability of the group.
    shares : tuple of (str, float)
        Label of each member and its share of the group's probability, the largest first; empty unless a prior divides
        this probability.
    distinguishing_text : str
        Methods that would distinguish the first two members of the group.
    has_fitted_lines : bool
        Whether element maps exist.
    omitted_members : tuple of str
        Labels of members that the network did not consider.
    omitted_by_palette : bool
        Whether the palette excludes the omitted members. If false, the network does not include the omitted members.
    answers : str
        Summary of the group's states from :meth:`Results.answer_summary`.
    """

    name: str
    label: str
    share: float
    mean_probability: float
    evidence: tuple[Evidence, ...] = ()
    members: tuple[str, ...] = ()
    separate_findings: tuple["Finding", ...] = ()
    shares: tuple[tuple[str, float], ...] = ()
    distinguishing_text: str = ""
    has_fitted_lines: bool = True
    omitted_members: tuple[str, ...] = ()
    omitted_by_palette: bool = False
    answers: str = ""

    @property
    def is_doubtful(self) -> bool:
        """Whether element maps exist, and every line of the pigment is significant in less than half of its pixels."""
        return self.has_fitted_lines and max((entry.share for entry in self.evidence), default=0.0) < 0.5


def find_groups(results: Results) -> list[Finding]:
    """Return the findings of the present groups, the most widespread first and doubtful groups last.

    If amounts are known, groups with more pixels in the state ``PIGMENT`` come first. For a model without groups, the
    findings are those of pigments.
    """
    findings = [_finding(results, name) for name in results.targets if is_present(results[name])]
    return sorted(
        findings, key=lambda finding: (finding.is_doubtful, -_pigment_share(results, finding.name), -finding.share)
    )


def _pigment_share(results: Results, name: str) -> float:
    """Return the fraction of the pixels in which the state of a group is ``PIGMENT``; 0 if amounts are unknown."""
    is_known = "state" in results.stacks and (name,) in results.stacks["state"]
    return results.state_shares(name)[PIGMENT] if is_known else 0.0


def is_present(probability: NDArray[np.float32]) -> bool:
    """Return whether the probability exceeds one half in at least 0.1 % of the pixels and in at least three pixels."""
    n_present = int((probability > PRESENT_PROBABILITY).sum())
    n_known = max(int(np.isfinite(probability).sum()), 1)
    return n_present >= min(MIN_PIXELS, n_known) and n_present / n_known >= MIN_SHARE


def absent_names(results: Results) -> list[str]:
    """Return the labels of the groups (or members) that were considered but not detected."""
    return [results.label(name) for name in results.targets if not is_present(results[name])]


def element_evidence(results: Results) -> list[Evidence]:
    """Return line families that exceed five standard deviations in at least 1 % of the pixels, the most frequent first.

    The median counts refer to the pixels with a significant line. For a rare paint, a median over all pixels would be
    noise.
    """
    line_evidence = []
    for family in results.lines:
        area, sigma = results[family], results.map("area_sigma", family)
        is_known = np.isfinite(area) & np.isfinite(sigma)
        is_certain = is_known & (area > CERTAIN_SIGMA * np.maximum(sigma, 1e-9))
        median_counts = float(np.median(area[is_certain])) if is_certain.any() else 0.0
        line_evidence.append(Evidence(family, float(is_certain.sum() / max(int(is_known.sum()), 1)), median_counts))
    return sorted(
        (line for line in line_evidence if line.share >= MIN_LINE_SHARE),
        key=lambda line: (-line.share, -line.median_counts),
    )


def informative_lines(
    results: Results, families: Sequence[str], max_number: int = 3, first_name: str | None = None
) -> list[str]:
    """Return the families whose maps have large variation relative to noise and little mutual correlation.

    The families are chosen one after another. Each choice maximises v (1 - r). Here v is the variation of the family's
    map relative to noise, and r is the largest absolute correlation of this map with the maps chosen earlier.
    ``first_name`` comes first if it is among the families.
    """
    maps = {name: np.nan_to_num(results[name]).ravel() for name in families}
    median_sigma = {name: float(np.nanmedian(results.map("area_sigma", name))) for name in families}
    variation = {name: float(maps[name].std()) / max(median_sigma[name], 1e-9) for name in families}
    chosen_names = [name for name in families if name == first_name]
    while len(chosen_names) < min(max_number, len(families)):
        remaining_names = [name for name in families if name not in chosen_names]
        max_correlation = {
            name: max((_correlation(maps[name], maps[chosen_name]) for chosen_name in chosen_names), default=0.0)
            for name in remaining_names
        }
        chosen_names.append(max(remaining_names, key=lambda name: variation[name] * (1.0 - max_correlation[name])))
    return chosen_names


def _correlation(first_map: NDArray[np.float32], second_map: NDArray[np.float32]) -> float:
    deviation_product = float(first_map.std() * second_map.std())
    return (
        abs(float(((first_map - first_map.mean()) * (second_map - second_map.mean())).mean())) / deviation_product
        if deviation_product > 0
        else 1.0
    )


def low_count_share(pixel_counts: NDArray[np.float64]) -> float:
    """Return the fraction of pixels with fewer than a thousand counts, which are too few to detect weak pigments."""
    return float((pixel_counts < MIN_DETECTABLE_COUNTS).mean()) if pixel_counts.size else 0.0


def _finding(results: Results, name: str) -> Finding:
    probability = results[name]
    is_present_pixel = probability > PRESENT_PROBABILITY
    n_known = max(int(np.isfinite(probability).sum()), 1)
    families = results.materials[name].elements
    evidence = [_evidence(results, family, is_present_pixel) for family in families if family in results.lines]
    is_group = results.materials[name].kind == "group"
    shares = _sorted_shares(results, name) if is_group else []
    members = _member_labels(results, name) if is_group else ()
    considered_labels = _considered_labels(results, name) | {library()[member].label for member, _ in shares}
    return Finding(
        name,
        results.label(name),
        float(is_present_pixel.sum()) / n_known,
        float(probability[is_present_pixel].mean()) if is_present_pixel.any() else 0.0,
        tuple(sorted(evidence, key=lambda entry: -entry.share)),
        members,
        _separate_member_findings(results, name) if is_group else (),
        tuple((library()[member].label, share) for member, share in shares),
        _distinguishing_text(name, [member for member, _ in shares]) if is_group else "",
        results.has_elements,
        tuple(label for label in members if considered_labels and label not in considered_labels),
        bool(results.settings_of("pigments").get("member_prior", {}).get("palette")),
        results.answer_summary(name),
    )


def _evidence(results: Results, family: str, is_present_pixel: NDArray[np.bool_]) -> Evidence:
    area, sigma = results[family][is_present_pixel], results.map("area_sigma", family)[is_present_pixel]
    is_known = np.isfinite(area) & np.isfinite(sigma)
    if not is_known.any():
        return Evidence(family, 0.0, 0.0)
    is_significant = area[is_known] > LINE_SIGMA * np.maximum(sigma[is_known], 1e-9)
    return Evidence(family, float(is_significant.mean()), float(np.median(area[is_known])))


def _separate_member_findings(results: Results, group: str) -> tuple[Finding, ...]:
    if member_shares(results, group):
        return ()
    names = [name for name in results.pigments if group in results.materials[name].groups and is_present(results[name])]
    member_findings = [_finding(results, name) for name in names]
    return tuple(sorted(member_findings, key=lambda entry: -entry.share))


def _sorted_shares(results: Results, group: str) -> list[tuple[str, float]]:
    """Return each member's share of the group's probability, the largest first; empty without a stated prior."""
    shares = member_shares(results, group)
    library_index = {pigment.name: index for index, pigment in enumerate(library())}
    return sorted(shares.items(), key=lambda entry: (-entry[1], library_index[entry[0]]))


def _distinguishing_text(group: str, names: list[str]) -> str:
    """Return the methods that distinguish the first two named members; without names, the first two in the library."""
    try:
        names = names or [pigment.name for pigment in library().members(library().group(group).name)]
    except SampleError:
        return ""
    return distinguishing_methods_text(*names[:2], include_lines=True) if len(names) > 1 else ""


def _member_labels(results: Results, group: str) -> tuple[str, ...]:
    """Return the labels of the group's pigments in the library, or in the model for a group defined by the user."""
    pigment_library = library()
    try:
        pigment_library.group(group)
    except SampleError:
        return tuple(
            entry.label for name, entry in results.materials.items() if group in entry.groups and name != group
        )
    return tuple(pigment.label for pigment in pigment_library.members(group))


def _considered_labels(results: Results, group: str) -> frozenset[str]:
    """Return the labels of those members of a group that have a separate probability."""
    members = (results.materials[name] for name in results.pigments)
    return frozenset(member.label for member in members if group in member.groups)
