"""Lines that no detected pigment explains, except lines with an ordinary source such as the tube."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import PRESENT_PROBABILITY, Results, UnexplainedLine
from underpaint.display.plot import siegbahn
from underpaint.display.report.findings import CERTAIN_SIGMA, MIN_PIXELS, MIN_SHARE
from underpaint.display.report.wording import percent
from underpaint.elements.element_sources import (
    AIR_ELEMENTS,
    GROUND_MINERAL_ELEMENTS,
    IMPURITY_RATIOS,
    INSTRUMENT_METALS,
    drier_elements,
    elements_of_pigments,
)
from underpaint.errors import SampleError
from underpaint.physics.materials import library

MIN_RATIO_TO_STRONGEST = 0.01
"""Minimum ratio of a family's net counts to the net counts of the strongest family, both summed over all pixels. Weaker
lines may be errors of the fit."""
MAX_METAL_PART_SHARE = 0.01
"""Maximum net counts of a line from metal parts of the instrument, as a fraction of the net counts of all lines."""
MAX_METAL_LINE_EXCESS = 0.3
"""An instrument line may exceed its median over the scan by this fraction of the median plus three standard
deviations."""
MAX_DRIER_RATIO = 0.03
"""Maximum ratio of the net counts of a drier's metal to the net counts of the strongest family."""
TUBE_FAMILIES = ("Mo_K", "Rh_K", "Rh_L", "Pd_K", "Pd_L")
_MEDIAN_DIFFERENCE_PER_SIGMA = 0.6745 * 2**0.5
"""Median absolute difference of two Gaussian random numbers, divided by the standard deviation of each."""
_NOISE_MARGIN_FACTOR = 1.2
"""Factor by which the noise may exceed its estimate from neighbouring pixels."""
_MAX_LISTED_PIGMENTS = 4
_MIN_MASS_FRACTION = 0.01

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _CandidateLine:
    """Line family, and the mask of the pixels in which no detected pigment explains it."""

    family: str
    is_unassigned: Mask
    is_known: Mask
    results: Results

    @property
    def element(self) -> str:
        return self.family.partition("_")[0]

    def median(self, family: str) -> float:
        """Return the median net counts of a family in the unassigned pixels; if there are none, in all pixels."""
        mask = self.is_unassigned if self.is_unassigned.any() else self.is_known
        return float(np.median(self.results[family][mask])) if mask.any() else 0.0


def explain_lines(results: Results, *, anode: str | None = None) -> Results:
    """Find significant lines that no detected pigment explains.

    Parameters
    ----------
    results : Results
        Results with pigments and line families.
    anode : str, optional
        Symbol of the tube's anode, if known.

    Returns
    -------
    Results
        Results with two more fields. ``unexplained`` contains one unexplained line family per element. ``ordinary``
        contains the line families that have an ordinary source, as defined by the constants of this module.

    Raises
    ------
    ScanError
        No pigments were identified.

    Notes
    -----
    A line is unassigned in a pixel if it exceeds five standard deviations and no present group or pigment explains its
    element. A group or pigment is present if its probability exceeds one half. A group explains its key element, its
    accessory elements, and those elements of its members that have no group. A line is reported in two cases. In the
    first case, the line is unassigned in at least 0.1 % of the pixels and in at least three pixels. In the second case,
    no detected group explains the line in any pixel, and the sum of the line over all pixels is significant. A sum is
    significant if it exceeds five standard deviations and one per cent of the strongest family's sum.

    Ordinary sources are argon in the air, the anode of the tube, minerals of grounds and supports, metal parts of the
    instrument, impurities, and driers. A line of a metal part must be weak and uniform over the scan. The host element
    of an impurity must be present and far stronger. Lines of driers must be weak.
    """
    has_prediction = results.has_prediction
    names = (*results.groups, *results.pigments)
    explained_elements = {name: explained_elements_of(results, name) for name in names}
    line_by_element: dict[str, UnexplainedLine] = {}
    ordinary_sources: dict[str, str] = {}
    for family in results.lines:
        area, area_sigma = (results.map(name, family).astype(np.float64) for name in ("area", "area_sigma"))
        is_known = np.isfinite(area) & np.isfinite(area_sigma) & has_prediction
        element = family.partition("_")[0]
        carrier_names = (name for name in names if element in explained_elements[name])
        is_explained = np.zeros(is_known.shape, dtype=bool)
        for name in carrier_names:
            is_explained |= results[name] > PRESENT_PROBABILITY
        is_significant = area > CERTAIN_SIGMA * np.maximum(area_sigma, 1e-9)
        candidate = _CandidateLine(family, is_known & is_significant & ~is_explained, is_known, results)
        sum_sigma = _sum_sigma(area, area_sigma)
        if not (_is_in_pixels(candidate) or (not is_explained.any() and _is_in_sum(candidate, sum_sigma))):
            continue
        ordinary_origin = ordinary_source(candidate, anode)
        if ordinary_origin:
            ordinary_sources[family] = ordinary_origin
        else:
            line = _unexplained_line(candidate, sum_sigma, results, explained_elements)
            line_by_element[element] = max(
                line_by_element.get(element, line),
                line,
                key=lambda candidate_line: (candidate_line.n_pixel, candidate_line.sum_sigma),
            )
    sorted_lines = sorted(line_by_element.values(), key=lambda line: (-line.n_pixel, -line.sum_sigma))
    return replace(results, unexplained=tuple(sorted_lines), ordinary=tuple(ordinary_sources.items()))


def explained_elements_of(results: Results, name: str) -> frozenset[str]:
    """Return the elements that a group or pigment of the results explains.

    A group explains its key elements, the accessory elements of its members, and those elements of its members that
    have no group. Any other element is explained only by its own group.
    """
    elements = {family.partition("_")[0] for family in results.materials[name].elements}
    if name in library():
        return frozenset(elements | _contained_elements(name))
    elements_with_group = {group.element for group in library().groups if group.visible}
    for member in _considered_members(results, name):
        elements |= {element for element in _contained_elements(member) if element not in elements_with_group} | set(
            library()[member].accessory
        )
    return frozenset(elements)


def ordinary_source(line: _CandidateLine, anode: str | None) -> str:
    """Return the ordinary source of an element that no pigment explains; "" if there is none."""
    element, family = line.element, line.family
    if element in AIR_ELEMENTS:
        return "air"
    if element == anode or family in line.results.settings_of("elements").get("scatter", ()):
        return "scattered lines of the tube"
    if anode is None and family in TUBE_FAMILIES:
        return "possibly scattered lines of the tube; give the instrument to decide"
    if element in INSTRUMENT_METALS and _is_even_and_faint(line):
        return "metal parts of the instrument: even over the scan, and faint"
    if element in GROUND_MINERAL_ELEMENTS:
        return "ground, support or dirt"
    host_element = _impurity_host(line)
    if host_element:
        return f"an impurity of a material with {host_element}"
    if element in drier_elements() and line.median(family) <= MAX_DRIER_RATIO * _max_median_counts(line):
        return "a drier, or an impurity"
    return ""


def line_text(line: UnexplainedLine) -> str:
    """Return a text on an unexplained line."""
    printed_name = siegbahn(line.family)
    pigments_text = (
        f"Pigments with this element: {', '.join(line.carriers)}."
        if line.carriers
        else "No pigment of the library contains this element."
    )
    if line.n_pixel:
        evidence_text = f"{printed_name} exceeds {CERTAIN_SIGMA:g}σ in {percent(line.share)} of the pixels"
    else:
        evidence_text = f"{printed_name} is significant in the sum of all pixels ({line.sum_sigma:.0f}σ)"
    if line.carried == "not in the palette":
        return f"{evidence_text}, and no pigment of this palette contains this element. {pigments_text}"
    return f"{evidence_text}, and no pigment that contains this element was detected there. {pigments_text}"


def unexplained_text(results: Results) -> list[str]:
    """Return texts on unexplained lines and on spectra with unassigned peaks."""
    texts = [line_text(line) for line in results.unexplained or ()]
    if results.is_unlike:
        n_pixel = int(results.unlike_pixels.sum())
        texts.append(
            f"{n_pixel} spectra contain a peak that no known element explains. See unlikeness.tif and the report."
        )
    return texts


def _is_in_pixels(line: _CandidateLine) -> bool:
    n_unassigned, n_known = int(line.is_unassigned.sum()), int(line.is_known.sum())
    return n_unassigned >= min(MIN_PIXELS, max(n_known, 1)) and n_unassigned >= MIN_SHARE * n_known


def _is_in_sum(line: _CandidateLine, sum_sigma: float) -> bool:
    sum_counts = {name: float(line.results[name][line.is_known].sum(dtype=np.float64)) for name in line.results.lines}
    return sum_sigma > CERTAIN_SIGMA and sum_counts[line.family] >= MIN_RATIO_TO_STRONGEST * max(sum_counts.values())


def _sum_sigma(area: NDArray[np.float64], area_sigma: NDArray[np.float64]) -> float:
    """Return the net counts summed over all pixels, divided by the standard deviation of the sum."""
    # noise is estimated from neighbouring pixels and partly cancels in the sum; errors of line ratios add up
    differences = np.abs(np.diff(area, axis=1))
    median_noise = np.nanmedian(differences) / _MEDIAN_DIFFERENCE_PER_SIGMA if np.isfinite(differences).any() else 0.0
    noise = np.minimum(area_sigma, _NOISE_MARGIN_FACTOR * median_noise)
    systematic_error = np.sqrt(area_sigma**2 - noise**2)
    sum_error = float(np.hypot(np.sqrt(np.nansum(noise**2)), np.nansum(systematic_error)))
    return float(np.nansum(area)) / sum_error if sum_error > 0 else 0.0


def _unexplained_line(
    line: _CandidateLine, sum_sigma: float, results: Results, explained_elements: Mapping[str, frozenset[str]]
) -> UnexplainedLine:
    carrier_names, palette_status = _pigments_with_element(line.element, results, explained_elements)
    share = float(line.is_unassigned.sum()) / max(int(line.is_known.sum()), 1)
    n_pixel = int(line.is_unassigned.sum()) if _is_in_pixels(line) else 0
    return UnexplainedLine(
        line.family, n_pixel, share, line.median(line.family), sum_sigma, palette_status, carrier_names
    )


def _pigments_with_element(
    element: str, results: Results, explained_elements: Mapping[str, frozenset[str]]
) -> tuple[tuple[str, ...], Literal["not found there", "not in the palette"]]:
    explaining_names = [name for name in explained_elements if element in explained_elements[name]]
    explaining_members = [name for name in explaining_names if results.materials[name].kind == "member"]
    if explaining_names:
        labels = [results.label(name) for name in explaining_members or explaining_names]
        return tuple(labels[:_MAX_LISTED_PIGMENTS]), "not found there"
    library_labels = [
        pigment.label for pigment in library() if pigment.mass_fractions.get(element, 0.0) >= _MIN_MASS_FRACTION
    ]
    return tuple(library_labels[:_MAX_LISTED_PIGMENTS]), "not in the palette"


def _contained_elements(name: str) -> set[str]:
    pigment = library()[name]
    return {
        element
        for element in elements_of_pigments([name])
        if pigment.mass_fractions.get(element, 1.0) >= _MIN_MASS_FRACTION
    }


def _considered_members(results: Results, group: str) -> list[str]:
    """Return the members of a group that the model considers; for a model without members, the library's members."""
    member_names = [name for name in results.pigments if group in results.materials[name].groups and name in library()]
    if member_names:
        return member_names
    try:
        library().group(group)
    except SampleError:
        return []
    return [pigment.name for pigment in library().members(group)]


def _is_even_and_faint(line: _CandidateLine) -> bool:
    area = line.results[line.family][line.is_known]
    median_sigma = float(np.median(line.results.map("area_sigma", line.family)[line.is_known]))
    scan_median = float(np.median(area))
    total_counts = sum(max(float(np.median(line.results[name][line.is_known])), 0.0) for name in line.results.lines)
    median_counts = line.median(line.family)
    return (
        median_counts <= MAX_METAL_PART_SHARE * total_counts
        and median_counts <= (1.0 + MAX_METAL_LINE_EXCESS) * max(scan_median, 0.0) + 3.0 * median_sigma
    )


def _impurity_host(line: _CandidateLine) -> str:
    """Return the host element that is strong enough for the line to come from an impurity; "" without a host."""
    for host_element, max_ratio in IMPURITY_RATIOS.get(line.element, {}).items():
        host_families = [name for name in line.results.lines if name.partition("_")[0] == host_element]
        if host_families and line.median(line.family) <= max_ratio * max(line.median(name) for name in host_families):
            return host_element
    return ""


def _max_median_counts(line: _CandidateLine) -> float:
    return max(line.median(name) for name in line.results.lines)
