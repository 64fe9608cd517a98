"""Lines that are there although nothing that was found carries them, with the ordinary ones set apart."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import PRESENT_PROBABILITY, Results, UnexplainedLine
from underpaint.display.plot import siegbahn
from underpaint.display.report.findings import CERTAIN_SIGMA, LEAST_PIXELS, LEAST_SHARE
from underpaint.display.report.wording import percent
from underpaint.elements.element_sources import (
    AIR,
    IMPURITY_RATIOS,
    METAL_PARTS,
    MINERALS_OF_GROUNDS,
    drier_elements,
    elements_of,
)
from underpaint.errors import SampleError
from underpaint.physics.materials import library

LEAST_OF_STRONGEST = 0.01
"""Net counts over the strongest family's from which a line in the sum of all pixels is more than a fault of the fit."""
BLANK_SHARE = 0.01
"""Net counts of a metal part over those of all lines, at most."""
EVEN_SPREAD = 0.3
"""Excess over the scan's median, beside three deviations, up to which a line counts as the instrument's own."""
DRIER_SHARE = 0.03
"""Net counts of a drier's metal over the strongest family's, at most."""
SCATTERED_ONLY = ("Mo_K", "Rh_K", "Rh_L", "Pd_K", "Pd_L")
_MEDIAN_DIFFERENCE = 0.6745 * 2**0.5
"""Median difference of two Gaussian numbers over their standard deviation."""
_NOISE_MARGIN = 1.2
"""The noise is measured on few pixels: so much more than measured may still be noise."""
_MOST_CARRIERS = 4
_LEAST_CARRIED = 0.01

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class _Line:
    """A family with what is needed to judge it: where it stands alone, and what it is compared with."""

    family: str
    orphan: Mask
    known: Mask
    results: Results

    @property
    def element(self) -> str:
        return self.family.partition("_")[0]

    def median(self, family: str) -> float:
        """Median net counts of a family where this one stands alone, or over the scan where it does so nowhere."""
        where = self.orphan if self.orphan.any() else self.known
        return float(np.median(self.results[family][where])) if where.any() else 0.0


def explain_lines(results: Results, *, anode: str | None = None) -> Results:
    """Name the lines above five standard deviations that nothing that was found carries.

    Parameters
    ----------
    results : Results
        Pigments and line families.
    anode : str, optional
        Symbol of the tube's anode, if it is known.

    Returns
    -------
    Results
        The same with ``unexplained``: families, one an element; and ``ordinary``: families without a pigment that have
        an ordinary source, by rules that this module's constants state.

    Raises
    ------
    ScanError
        No pigments were identified.

    Notes
    -----
    A line stands alone in a pixel where its net counts exceed five standard deviations and no group or pigment with a
    probability over one half carries its element: as key element, as accessory, or in a member of the group with no
    group of its own. It is reported where it does so in 0.1 % of the pixels and in three at least; or where nothing
    that was found anywhere carries it and the sum over all pixels exceeds five standard deviations and one per
    cent of the strongest family. Ordinary are: argon of the air; lines of the anode; metal parts of the instrument,
    where the line is even over the scan and faint; minerals of grounds and supports; impurities, where the element that
    they come with is there and far stronger; metals of driers, where they are faint.
    """
    answered = results.answered
    names = (*results.groups, *results.pigments)
    carries = {name: carried_elements(results, name) for name in names}
    lines: dict[str, UnexplainedLine] = {}
    ordinary: dict[str, str] = {}
    for family in results.lines:
        area, error = (results.map(name, family).astype(np.float64) for name in ("area", "area_sigma"))
        known = np.isfinite(area) & np.isfinite(error) & answered
        element = family.partition("_")[0]
        carriers = (name for name in names if element in carries[name])
        carried = np.zeros(known.shape, dtype=bool)
        for name in carriers:
            carried |= results[name] > PRESENT_PROBABILITY
        own = _Line(family, known & (area > CERTAIN_SIGMA * np.maximum(error, 1e-9)) & ~carried, known, results)
        sigma = _sum_sigma(area, error)
        if not (_in_pixels(own) or (not carried.any() and _in_sum(own, sigma))):
            continue
        source = ordinary_source(own, anode)
        if source:
            ordinary[family] = source
        else:
            line = _line(own, sigma, results, carries)
            lines[element] = max(lines.get(element, line), line, key=lambda one: (one.n_pixel, one.sum_sigma))
    ordered = sorted(lines.values(), key=lambda one: (-one.n_pixel, -one.sum_sigma))
    return replace(results, unexplained=tuple(ordered), ordinary=tuple(ordinary.items()))


def carried_elements(results: Results, name: str) -> frozenset[str]:
    """Return the elements that a group or pigment of the results explains.

    A group explains its key elements, the accessories of its members, and their elements that have no group: what has
    one must be found itself.
    """
    keys = {family.partition("_")[0] for family in results.materials[name].elements}
    if name in library():
        return frozenset(keys | _own_elements(name))
    with_group = {group.element for group in library().groups if group.visible}
    for member in _members(results, name):
        keys |= {own for own in _own_elements(member) if own not in with_group} | set(library()[member].accessory)
    return frozenset(keys)


def ordinary_source(line: _Line, anode: str | None) -> str:
    """Return where an element without a pigment ordinarily comes from; "" where there is no such source."""
    element, family = line.element, line.family
    if element in AIR:
        return "air"
    if element == anode or family in line.results.settings_of("elements").get("scatter", ()):
        return "the tube's own lines, scattered"
    if anode is None and family in SCATTERED_ONLY:
        return "perhaps the tube's own lines, scattered; name the instrument to tell"
    if element in METAL_PARTS and _is_even_and_faint(line):
        return "metal parts of the instrument: even over the scan, and faint"
    if element in MINERALS_OF_GROUNDS:
        return "ground, support or dirt"
    host = _host(line)
    if host:
        return f"an impurity of what holds {host}"
    if element in drier_elements() and line.median(family) <= DRIER_SHARE * _strongest(line):
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
    """Say in words what nothing explains: lines, and spectra that hold a peak of none that is known."""
    words = [line_text(line) for line in results.unexplained or ()]
    if results.is_unlike:
        n_pixel = int(results.unlike.sum())
        words.append(f"{n_pixel} spectra hold a peak that nothing known explains: see unlikeness.tif and the report.")
    return words


def _in_pixels(line: _Line) -> bool:
    count, whole = int(line.orphan.sum()), int(line.known.sum())
    return count >= min(LEAST_PIXELS, max(whole, 1)) and count >= LEAST_SHARE * whole


def _in_sum(line: _Line, sigma: float) -> bool:
    sums = {name: float(line.results[name][line.known].sum(dtype=np.float64)) for name in line.results.lines}
    return sigma > CERTAIN_SIGMA and sums[line.family] >= LEAST_OF_STRONGEST * max(sums.values())


def _sum_sigma(area: NDArray[np.float64], error: NDArray[np.float64]) -> float:
    """Deviations by which the sum over all pixels stands above zero."""
    # noise, which neighbours differ by, averages out over the pixels; a wrong ratio of lines does not
    steps = np.abs(np.diff(area, axis=1))
    noise = np.nanmedian(steps) / _MEDIAN_DIFFERENCE if np.isfinite(steps).any() else 0.0
    noise = np.minimum(error, _NOISE_MARGIN * noise)
    beside = np.sqrt(error**2 - noise**2)
    spread = float(np.hypot(np.sqrt(np.nansum(noise**2)), np.nansum(beside)))
    return float(np.nansum(area)) / spread if spread > 0 else 0.0


def _line(own: _Line, sigma: float, results: Results, carries: Mapping[str, frozenset[str]]) -> UnexplainedLine:
    carriers, carried = _carriers(own.element, results, carries)
    share = float(own.orphan.sum()) / max(int(own.known.sum()), 1)
    n_pixel = int(own.orphan.sum()) if _in_pixels(own) else 0
    return UnexplainedLine(own.family, n_pixel, share, own.median(own.family), sigma, carried, carriers)


def _carriers(
    element: str, results: Results, carries: Mapping[str, frozenset[str]]
) -> tuple[tuple[str, ...], Literal["not found there", "not in the palette"]]:
    groups = [name for name in carries if element in carries[name]]
    members = [name for name in groups if results.materials[name].kind == "member"]
    if groups:
        labels = [results.label(name) for name in members or groups]
        return tuple(labels[:_MOST_CARRIERS]), "not found there"
    of_library = [own.label for own in library() if own.mass_fractions.get(element, 0.0) >= _LEAST_CARRIED]
    return tuple(of_library[:_MOST_CARRIERS]), "not in the palette"


def _own_elements(name: str) -> set[str]:
    pigment = library()[name]
    return {own for own in elements_of([name]) if pigment.mass_fractions.get(own, 1.0) >= _LEAST_CARRIED}


def _members(results: Results, group: str) -> list[str]:
    """Members that were asked for; of a model that names groups alone, those of the library."""
    named = [name for name in results.pigments if group in results.materials[name].groups and name in library()]
    if named:
        return named
    try:
        library().group(group)
    except SampleError:
        return []
    return [own.name for own in library().members(group)]


def _is_even_and_faint(line: _Line) -> bool:
    area = line.results[line.family][line.known]
    noise = float(np.median(line.results.map("area_sigma", line.family)[line.known]))
    middle = float(np.median(area))
    whole = sum(max(float(np.median(line.results[name][line.known])), 0.0) for name in line.results.lines)
    where_alone = line.median(line.family)
    return where_alone <= BLANK_SHARE * whole and where_alone <= (1.0 + EVEN_SPREAD) * max(middle, 0.0) + 3.0 * noise


def _host(line: _Line) -> str:
    """Return the element that this one comes with, where it is there and the ratio of net counts is an impurity's."""
    for host, ratio in IMPURITY_RATIOS.get(line.element, {}).items():
        families = [name for name in line.results.lines if name.partition("_")[0] == host]
        if families and line.median(line.family) <= ratio * max(line.median(name) for name in families):
            return host
    return ""


def _strongest(line: _Line) -> float:
    return max(line.median(name) for name in line.results.lines)
