"""Lines that no detected pigment explains, apart from lines with an ordinary source."""

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
"""Minimum ratio of net counts to those of the strongest family for a line in the sum of all pixels; weaker lines may be
errors of the fit."""
MAX_METAL_PART_SHARE = 0.01
"""Maximum ratio of the net counts of a metal part to those of all lines."""
MAX_RELATIVE_EXCESS = 0.3
"""Maximum relative excess over the scan's median, in addition to three deviations, for a line of the instrument."""
MAX_DRIER_RATIO = 0.03
"""Maximum ratio of the net counts of a drier's metal to those of the strongest family."""
TUBE_FAMILIES = ("Mo_K", "Rh_K", "Rh_L", "Pd_K", "Pd_L")
_MEDIAN_DIFFERENCE = 0.6745 * 2**0.5
"""Ratio of the median absolute difference of two Gaussian numbers to their standard deviation."""
_NOISE_MARGIN_FACTOR = 1.2
"""Factor by which the noise may exceed its estimate, which comes from few pixels."""
_MAX_CARRIERS = 4
_MIN_MASS_FRACTION = 0.01

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Line:
    """A line family, the pixels in which no detected pigment explains it, and the results."""

    family: str
    is_unassigned: Mask
    is_known: Mask
    results: Results

    @property
    def element(self) -> str:
        return self.family.partition("_")[0]

    def median(self, family: str) -> float:
        """Return the median net counts of a family in the unassigned pixels, or in the scan if there are none."""
        mask = self.is_unassigned if self.is_unassigned.any() else self.is_known
        return float(np.median(self.results[family][mask])) if mask.any() else 0.0


def explain_lines(results: Results, *, anode: str | None = None) -> Results:
    """Find lines above five standard deviations that no detected pigment explains.

    Parameters
    ----------
    results : Results
        Pigments and line families.
    anode : str, optional
        Symbol of the tube's anode, if known.

    Returns
    -------
    Results
        Results with ``unexplained``, one family per element, and ``ordinary``, families that have no pigment but an
        ordinary source according to the constants of this module.

    Raises
    ------
    ScanError
        No pigments were identified.

    Notes
    -----
    A line is unassigned in a pixel if its net counts exceed five standard deviations and no group or pigment with a
    probability above one half explains its element. A group explains an element that is its key element, an accessory,
    or an element of a member that has no separate group. The line is reported in two cases. Either it is unassigned in
    at least 0.1 % of the pixels and three pixels, or no detected group explains it anywhere and the sum over all pixels
    exceeds five standard deviations and one per cent of the strongest family.

    Ordinary sources are argon of the air; lines of the anode; metal parts of the instrument, if the line is weak and
    uniform over the scan; minerals of grounds and supports; impurities, if their host element is present and far
    stronger; and metals of driers, if they are weak.
    """
    has_prediction = results.has_prediction
    names = (*results.groups, *results.pigments)
    carries = {name: carried_elements(results, name) for name in names}
    lines: dict[str, UnexplainedLine] = {}
    ordinary_sources: dict[str, str] = {}
    for family in results.lines:
        area, area_sigma = (results.map(name, family).astype(np.float64) for name in ("area", "area_sigma"))
        is_known = np.isfinite(area) & np.isfinite(area_sigma) & has_prediction
        element = family.partition("_")[0]
        carrier_names = (name for name in names if element in carries[name])
        is_explained = np.zeros(is_known.shape, dtype=bool)
        for name in carrier_names:
            is_explained |= results[name] > PRESENT_PROBABILITY
        is_significant = area > CERTAIN_SIGMA * np.maximum(area_sigma, 1e-9)
        candidate = _Line(family, is_known & is_significant & ~is_explained, is_known, results)
        sum_sigma = _sum_sigma(area, area_sigma)
        if not (_is_in_pixels(candidate) or (not is_explained.any() and _is_in_sum(candidate, sum_sigma))):
            continue
        source = ordinary_source(candidate, anode)
        if source:
            ordinary_sources[family] = source
        else:
            line = _line(candidate, sum_sigma, results, carries)
            lines[element] = max(lines.get(element, line), line, key=lambda each: (each.n_pixel, each.sum_sigma))
    sorted_lines = sorted(lines.values(), key=lambda line: (-line.n_pixel, -line.sum_sigma))
    return replace(results, unexplained=tuple(sorted_lines), ordinary=tuple(ordinary_sources.items()))


def carried_elements(results: Results, name: str) -> frozenset[str]:
    """Return the elements that a group or pigment of the results explains.

    A group explains its key elements, the accessories of its members, and elements of its members that have no group.
    An element with a group must be detected by that group.
    """
    elements = {family.partition("_")[0] for family in results.materials[name].elements}
    if name in library():
        return frozenset(elements | _contained_elements(name))
    elements_with_group = {group.element for group in library().groups if group.visible}
    for member in _members(results, name):
        elements |= {element for element in _contained_elements(member) if element not in elements_with_group} | set(
            library()[member].accessory
        )
    return frozenset(elements)


def ordinary_source(line: _Line, anode: str | None) -> str:
    """Return the ordinary source of an element without a pigment; "" without such a source."""
    element, family = line.element, line.family
    if element in AIR_ELEMENTS:
        return "air"
    if element == anode or family in line.results.settings_of("elements").get("scatter", ()):
        return "the tube's own lines, scattered"
    if anode is None and family in TUBE_FAMILIES:
        return "perhaps the tube's own lines, scattered; name the instrument to tell"
    if element in INSTRUMENT_METALS and _is_even_and_faint(line):
        return "metal parts of the instrument: even over the scan, and faint"
    if element in GROUND_MINERAL_ELEMENTS:
        return "ground, support or dirt"
    host = _host(line)
    if host:
        return f"an impurity of what holds {host}"
    if element in drier_elements() and line.median(family) <= MAX_DRIER_RATIO * _max_median_counts(line):
        return "a drier, or an impurity"
    return ""


def line_text(line: UnexplainedLine) -> str:
    """Say in words that a line is not explained."""
    name = siegbahn(line.family)
    named = f"Pigments with it: {', '.join(line.carriers)}." if line.carriers else "No pigment of the library has it."
    if line.n_pixel:
        shown = f"{name} exceeds {CERTAIN_SIGMA:g}σ in {percent(line.share)} of the pixels"
    else:
        shown = f"{name} shows in the sum of all pixels ({line.sum_sigma:.0f}σ)"
    if line.carried == "not in the palette":
        return f"{shown}, and no pigment of this palette contains it. {named}"
    return f"{shown}, and no pigment that contains it was found there. {named}"


def unexplained_text(results: Results) -> list[str]:
    """Return texts on unexplained lines and on spectra with peaks that no known element explains."""
    texts = [line_text(line) for line in results.unexplained or ()]
    if results.is_unlike:
        n_pixel = int(results.unlike_pixels.sum())
        texts.append(f"{n_pixel} spectra hold a peak that nothing known explains: see unlikeness.tif and the report.")
    return texts


def _is_in_pixels(line: _Line) -> bool:
    n_unassigned, n_known = int(line.is_unassigned.sum()), int(line.is_known.sum())
    return n_unassigned >= min(MIN_PIXELS, max(n_known, 1)) and n_unassigned >= MIN_SHARE * n_known


def _is_in_sum(line: _Line, sum_sigma: float) -> bool:
    sums = {name: float(line.results[name][line.is_known].sum(dtype=np.float64)) for name in line.results.lines}
    return sum_sigma > CERTAIN_SIGMA and sums[line.family] >= MIN_RATIO_TO_STRONGEST * max(sums.values())


def _sum_sigma(area: NDArray[np.float64], area_sigma: NDArray[np.float64]) -> float:
    """Return the significance of the sum over all pixels, in standard deviations."""
    # noise, estimated from neighbouring pixels, averages out over the pixels, but a wrong line ratio does not
    differences = np.abs(np.diff(area, axis=1))
    median_noise = np.nanmedian(differences) / _MEDIAN_DIFFERENCE if np.isfinite(differences).any() else 0.0
    noise = np.minimum(area_sigma, _NOISE_MARGIN_FACTOR * median_noise)
    systematic_error = np.sqrt(area_sigma**2 - noise**2)
    sum_error = float(np.hypot(np.sqrt(np.nansum(noise**2)), np.nansum(systematic_error)))
    return float(np.nansum(area)) / sum_error if sum_error > 0 else 0.0


def _line(line: _Line, sum_sigma: float, results: Results, carries: Mapping[str, frozenset[str]]) -> UnexplainedLine:
    carrier_names, palette_status = _carriers(line.element, results, carries)
    share = float(line.is_unassigned.sum()) / max(int(line.is_known.sum()), 1)
    n_pixel = int(line.is_unassigned.sum()) if _is_in_pixels(line) else 0
    return UnexplainedLine(
        line.family, n_pixel, share, line.median(line.family), sum_sigma, palette_status, carrier_names
    )


def _carriers(
    element: str, results: Results, carries: Mapping[str, frozenset[str]]
) -> tuple[tuple[str, ...], Literal["not found there", "not in the palette"]]:
    groups = [name for name in carries if element in carries[name]]
    members = [name for name in groups if results.materials[name].kind == "member"]
    if groups:
        labels = [results.label(name) for name in members or groups]
        return tuple(labels[:_MAX_CARRIERS]), "not found there"
    library_labels = [
        pigment.label for pigment in library() if pigment.mass_fractions.get(element, 0.0) >= _MIN_MASS_FRACTION
    ]
    return tuple(library_labels[:_MAX_CARRIERS]), "not in the palette"


def _contained_elements(name: str) -> set[str]:
    pigment = library()[name]
    return {
        element
        for element in elements_of_pigments([name])
        if pigment.mass_fractions.get(element, 1.0) >= _MIN_MASS_FRACTION
    }


def _members(results: Results, group: str) -> list[str]:
    """Return the members that the model considered, or those of the library for a model with groups only."""
    member_names = [name for name in results.pigments if group in results.materials[name].groups and name in library()]
    if member_names:
        return member_names
    try:
        library().group(group)
    except SampleError:
        return []
    return [pigment.name for pigment in library().members(group)]


def _is_even_and_faint(line: _Line) -> bool:
    area = line.results[line.family][line.is_known]
    median_sigma = float(np.median(line.results.map("area_sigma", line.family)[line.is_known]))
    scan_median = float(np.median(area))
    total_counts = sum(max(float(np.median(line.results[name][line.is_known])), 0.0) for name in line.results.lines)
    median_counts = line.median(line.family)
    return (
        median_counts <= MAX_METAL_PART_SHARE * total_counts
        and median_counts <= (1.0 + MAX_RELATIVE_EXCESS) * max(scan_median, 0.0) + 3.0 * median_sigma
    )


def _host(line: _Line) -> str:
    """Return the host element of an impurity, if it is present and the ratio of net counts is that of an impurity."""
    for host, ratio in IMPURITY_RATIOS.get(line.element, {}).items():
        families = [name for name in line.results.lines if name.partition("_")[0] == host]
        if families and line.median(line.family) <= ratio * max(line.median(name) for name in families):
            return host
    return ""


def _max_median_counts(line: _Line) -> float:
    return max(line.median(name) for name in line.results.lines)
