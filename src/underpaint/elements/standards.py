"""Scale of an instrument from a standard: ratio of measured to modelled counts, per second and per scatter."""

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

REMAINDER_COMPOUNDS = ("O2", "CO2", "H2O", "C", "MgO", "SiO2", "C18H32O2")
"""Compounds assumed for the unstated part of a standard, each alone and all as a mixture."""
MIN_STANDARD_SIGMAS = 5.0
"""Smallest significance, standard deviations, of a family that is used for the scale."""
_REPEAT_ERROR = 0.06
"""Additional relative error of a factor, from grains, surface and certified values.

It is the median difference over nine elements when each of five shales is used as the standard
(``benchmarks/shales.py``).
"""
_ENTRY_PATTERN = re.compile(r"(?P<formula>[A-Z][^\s:=]*)\s*[\s:=]\s*(?P<percent>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*%?")


def parse_composition(text: str) -> dict[str, float]:
    """Return the mass fractions of a composition given as mass per cent of formulas or elements.

    Parameters
    ----------
    text : str
        Composition such as ``SiO2 50, CaO 10, Fe 3``; the remainder to 100 is unknown.

    Returns
    -------
    dict
        Mass fraction by element; the sum is at most 1.

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
        match = _ENTRY_PATTERN.fullmatch(entry)
        if match is None:
            raise SampleError(
                f"Cannot read the composition at {entry!r}: each entry is a formula and its mass per cent. "
                "Write it as 'SiO2 50, CaO 10, Fe 3'."
            )
        percent = float(match["percent"])
        try:
            formula_fractions = mass_fractions(match["formula"])
        except FormulaError as error:
            raise SampleError(f"Cannot read the composition at {entry!r}: {error}") from error
        total += percent
        for name, part in formula_fractions.items():
            fractions[name] = fractions.get(name, 0.0) + 0.01 * percent * part
    if not total:
        raise SampleError(
            f"Cannot use the composition {text!r}: it has no positive amount. Write it as 'SiO2 50, CaO 10, Fe 3'."
        )
    if total > 100.5:
        raise SampleError(
            f"Cannot use a composition with a sum of {total:g} %: at most 100 mass per cent are possible. "
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
        Spectra of the standard, which are summed.
    instrument : Instrument
        Source, geometry and detector; its scale is not used.
    composition : mapping of str to float
        Mass fraction by element, from :func:`parse_composition`.
    thickness_g_cm2 : float
        Areal mass of the standard, in g/cm2; by default it is infinitely thick.
    families : sequence of str, optional
        Line families to fit; by default those of the spectrum.

    Returns
    -------
    Scale
        Scale per count of scattered radiation and, if the live time is known, per second, with a factor for each line
        family that exceeds five standard deviations in the standard.

    Raises
    ------
    CoverageError
        No line of the elements of the composition is detected.
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
        if composition.get(name.partition("_")[0], 0.0) > 0 and area[index] > MIN_STANDARD_SIGMAS * sigma[index]
    ]
    if not usable:
        raise CoverageError(
            f"Cannot compute the scale: no line of {', '.join(composition)} exceeds {MIN_STANDARD_SIGMAS:g} standard "
            f"deviations in the spectrum of the standard, which has {', '.join(maps.lines)}. Check that it is the "
            "spectrum of this material."
        )
    names = tuple(maps.lines[index] for index in usable)
    modelled = predicted(_standard_stratigraphies(composition, thickness_g_cm2), instrument, axis, names, window)
    ratio = np.log(area[usable]) - np.log(modelled.counts[:, 0])
    error = np.asarray([SENSITIVITY_ERROR[name.partition("_")[2][0]] for name in names])
    log_scale = np.average(ratio, axis=1, weights=1.0 / error**2)
    log_scatter_scale = log_scale + np.log(modelled.scatter) - np.log(float(summary.total[window].sum()))
    log_factors = ratio - log_scale[:, None]
    scale_error = float(np.hypot(log_scatter_scale.std(), _REPEAT_ERROR))
    errors = np.sqrt(log_factors.std(axis=0) ** 2 + (sigma[usable] / area[usable]) ** 2 + _REPEAT_ERROR**2)
    live_time_s = None if scan.live_time_s is None else float(np.nansum(scan.live_time_s))
    return Scale(
        counts_per_s=None if not live_time_s else float(np.exp(log_scale[-1]) / live_time_s),
        counts_per_scatter=float(np.exp(log_scatter_scale[-1])),
        error=scale_error,
        families=names,
        factors=tuple(np.exp(log_factors[-1]).tolist()),
        factor_errors=tuple(errors.tolist()),
        note=f"from {scan.name}",
    )


def _standard_stratigraphies(composition: Mapping[str, float], thickness_g_cm2: float) -> list[Stratigraphy]:
    """Return stratigraphies of the standard with different unstated parts; the last has their mean."""
    remainder = max(1.0 - sum(composition.values()), 0.0)
    # compounds with other stated elements are excluded
    compounds = [
        candidate
        for candidate in REMAINDER_COMPOUNDS
        if not (set(mass_fractions(candidate)) - {"C", "H", "O"}) & set(composition)
    ]
    mixtures = [{compound: 1.0} for compound in compounds]
    mixtures.append(dict.fromkeys(compounds, 1.0 / len(compounds)))
    standards = []
    for mixture in mixtures:
        fractions = dict(composition)
        for compound, share in mixture.items():
            for name, fraction in mass_fractions(compound).items():
                fractions[name] = fractions.get(name, 0.0) + remainder * share * fraction
        total = sum(fractions.values())
        fractions = {name: fraction / total for name, fraction in fractions.items()}
        standards.append(Stratigraphy((Layer(fractions, 1.0, 1e4 * thickness_g_cm2),)))
    return standards
