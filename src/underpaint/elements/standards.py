"""The scale of an instrument from a standard: counts over those of the forward model, per second and per scatter."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan, survey
from underpaint.elements.fit import fit_elements
from underpaint.elements.quantities import (
    SENSITIVITY_ERROR,
    THICK_G_CM2,
    line_areas,
    predicted,
    scatter_window,
)
from underpaint.errors import CoverageError, FormulaError, SampleError
from underpaint.physics.instrument import Instrument, Scale
from underpaint.physics.materials import Layer, Stratigraphy, mass_fractions

Array = NDArray[np.float64]

REST = ("O2", "CO2", "H2O", "C", "MgO", "SiO2", "C18H32O2")
"""Compounds assumed for the unstated part of a standard, each alone and all together."""
STRONG_SIGMAS = 5.0
"""Standard deviations from which a family is used for the scale."""
_REPEAT_ERROR = 0.06
"""Additional relative error of a factor: grains, surface, certified values.

So far five shales as standards in turn differ, the median over nine elements (``benchmarks/shales.py``).
"""
_ENTRY = re.compile(r"(?P<formula>[A-Z][^\s:=]*)\s*[\s:=]\s*(?P<percent>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*%?")


def parse_composition(text: str) -> dict[str, float]:
    """Read a composition, mass per cent of formulas or elements.

    Parameters
    ----------
    text : str
        ``SiO2 50, CaO 10, Fe 3``; the remainder to 100 is unknown.

    Returns
    -------
    dict
        Mass fraction by element; their sum is at most 1.

    Raises
    ------
    SampleError
        An entry cannot be read, a formula is wrong, or the sum is over 100.

    Examples
    --------
    >>> parse_composition("Fe 3, NaCl 0")
    {'Fe': 0.03, 'Na': 0.0, 'Cl': 0.0}
    """
    fractions: dict[str, float] = {}
    total = 0.0
    for entry in filter(None, (part.strip() for part in re.split(r"[,;\n]", text))):
        match = _ENTRY.fullmatch(entry)
        if match is None:
            raise SampleError(
                f"Cannot read the composition at {entry!r}: each entry is a formula and its mass per cent. "
                "Write it as 'SiO2 50, CaO 10, Fe 3'."
            )
        percent = float(match["percent"])
        try:
            parts = mass_fractions(match["formula"])
        except FormulaError as error:
            raise SampleError(f"Cannot read the composition at {entry!r}: {error}") from error
        total += percent
        for name, part in parts.items():
            fractions[name] = fractions.get(name, 0.0) + 0.01 * percent * part
    if not total:
        raise SampleError(
            f"Cannot use the composition {text!r}: it has no positive amount. Write it as 'SiO2 50, CaO 10, Fe 3'."
        )
    if total > 100.5:
        raise SampleError(
            f"Cannot use a composition of {total:g} % in all: it may be 100 mass per cent at most. "
            "Give oxides or elements, not both."
        )
    return {name: fraction / max(total / 100.0, 1.0) for name, fraction in fractions.items()}


def scale_from_standard(
    scan: Scan,
    instrument: Instrument,
    composition: Mapping[str, float],
    thickness_g_cm2: float = THICK_G_CM2,
    *,
    families: Sequence[str] | None = None,
) -> Scale:
    """Return the scale for which the forward model reproduces the areas of a standard.

    Parameters
    ----------
    scan : Scan
        One spectrum or more of the standard, which are added.
    instrument : Instrument
        Source, geometry and detector; a scale of it is not used.
    composition : mapping of str to float
        Mass fraction by element, from :func:`parse_composition`.
    thickness_g_cm2 : float
        Areal mass of the standard; by default it is thick.
    families : sequence of str, optional
        Line families to fit; by default those of the spectrum.

    Returns
    -------
    Scale
        Per count of scattered radiation and, where the live time is known, per second; with a factor for each family of
        the standard above five standard deviations.

    Raises
    ------
    CoverageError
        No line of the composition's elements is detected.
    """
    axis = scan.require_axis()
    summary = survey(scan)
    sum_scan = Scan(summary.total[None, None], axis, name=scan.name)
    maps = fit_elements(sum_scan, families=families, instrument=instrument)
    window = scatter_window(instrument, axis)
    area, sigma = (line_areas(maps, quantity_name)[0] for quantity_name in ("area", "area_sigma"))
    usable = [
        index
        for index, name in enumerate(maps.lines)
        if composition.get(name.partition("_")[0], 0.0) > 0 and area[index] > STRONG_SIGMAS * sigma[index]
    ]
    if not usable:
        raise CoverageError(
            f"Cannot find the scale: no line of {', '.join(composition)} stands {STRONG_SIGMAS:g} standard deviations "
            f"out of the standard's spectrum, which shows {', '.join(maps.lines)}. Is it the spectrum of this material?"
        )
    names = tuple(maps.lines[index] for index in usable)
    counts_model = predicted(_standards(composition, thickness_g_cm2), instrument, axis, names, window)
    ratio = np.log(area[usable]) - np.log(counts_model.counts[:, 0])
    error = np.asarray([SENSITIVITY_ERROR[name.partition("_")[2][0]] for name in names])
    scale = np.average(ratio, axis=1, weights=1.0 / error**2)
    by_scatter = scale + np.log(counts_model.scatter) - np.log(float(summary.total[window].sum()))
    factor = ratio - scale[:, None]
    spread = float(np.hypot(by_scatter.std(), _REPEAT_ERROR))
    errors = np.sqrt(factor.std(axis=0) ** 2 + (sigma[usable] / area[usable]) ** 2 + _REPEAT_ERROR**2)
    seconds = None if scan.live_time_s is None else float(np.nansum(scan.live_time_s))
    return Scale(
        counts_per_s=None if not seconds else float(np.exp(scale[-1]) / seconds),
        counts_per_scatter=float(np.exp(by_scatter[-1])),
        error=spread,
        families=names,
        factors=tuple(np.exp(factor[-1]).tolist()),
        factor_errors=tuple(errors.tolist()),
        note=f"from {scan.name}",
    )


def _standards(composition: Mapping[str, float], thickness_g_cm2: float) -> list[Stratigraphy]:
    """Return possible compositions of the standard by its unstated part; the last is their mean."""
    rest = max(1.0 - sum(composition.values()), 0.0)
    # elements with lines are stated
    compounds = [
        candidate for candidate in REST if not (set(mass_fractions(candidate)) - {"C", "H", "O"}) & set(composition)
    ]
    mixtures = [{compound: 1.0} for compound in compounds]
    mixtures.append(dict.fromkeys(compounds, 1.0 / len(compounds)))
    standards = []
    for mixture in mixtures:
        fractions = dict(composition)
        for compound, share in mixture.items():
            for name, part in mass_fractions(compound).items():
                fractions[name] = fractions.get(name, 0.0) + rest * share * part
        total = sum(fractions.values())
        fractions = {name: part / total for name, part in fractions.items()}
        standards.append(Stratigraphy((Layer(fractions, 1.0, 1e4 * thickness_g_cm2),)))
    return standards
