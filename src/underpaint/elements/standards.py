"""Scale of an instrument from a standard: ratio of measured to modelled counts, per second and per scatter count."""

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan, survey
from underpaint.elements.fit import fit_elements
from underpaint.elements.quantities import (
    INFINITE_AREAL_DENSITY,
    MODELLED_COUNTS_ERROR,
    line_areas,
    predict_counts,
    scatter_window,
)
from underpaint.errors import CoverageError, FormulaError, SampleError, reason_of
from underpaint.physics.instrument import Instrument, Scale
from underpaint.physics.materials import Layer, Stratigraphy, mass_fractions

Array = NDArray[np.float64]

REMAINDER_COMPOUNDS = ("O2", "CO2", "H2O", "C", "MgO", "SiO2", "C18H32O2")
"""Compounds assumed for the unstated part of a standard: each compound alone, and the mixture of all."""
MIN_STANDARD_SIGMAS = 5.0
"""Smallest significance, in standard deviations, of a family that is used for the scale."""
_STANDARD_ERROR = 0.06
"""Additional relative error of a family's factor, due to the standard's grains, surface and certified values.

Each of five shales was used as the standard; the value is the median difference over nine elements
(``benchmarks/shales.py``).
"""
_ENTRY_PATTERN = re.compile(r"(?P<formula>[A-Z][^\s:=]*)\s*[\s:=]\s*(?P<percent>\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+)\s*%?")


def parse_composition(text: str) -> dict[str, float]:
    """Return the mass fractions of a composition that is given in mass per cent of formulas or elements.

    Parameters
    ----------
    text : str
        Composition in mass per cent, such as ``SiO2 50, CaO 10, Fe 3``; the remainder to 100 is unknown.

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
    percent_sum = 0.0
    for composition_entry in filter(None, (mass_fraction.strip() for mass_fraction in re.split(r"[,;\n]", text))):
        entry_match = _ENTRY_PATTERN.fullmatch(composition_entry)
        if entry_match is None:
            raise SampleError(
                f"Cannot read the composition at {composition_entry!r}: each entry is a formula and its mass per cent. "
                "Write it as 'SiO2 50, CaO 10, Fe 3'."
            )
        percent = float(entry_match["percent"])
        try:
            formula_fractions = mass_fractions(entry_match["formula"])
        except FormulaError as error:
            raise SampleError(f"Cannot read the composition at {composition_entry!r}: {reason_of(error)}") from error
        percent_sum += percent
        for element, mass_fraction in formula_fractions.items():
            fractions[element] = fractions.get(element, 0.0) + 0.01 * percent * mass_fraction
    if not percent_sum:
        raise SampleError(
            f"Cannot use the composition {text!r}: it has no positive amount. Write it as 'SiO2 50, CaO 10, Fe 3'."
        )
    if percent_sum > 100.5:
        raise SampleError(
            f"Cannot use a composition with a sum of {percent_sum:g} %: at most 100 mass per cent are possible. "
            "Give oxides or elements, not both."
        )
    return {element: fraction / max(percent_sum / 100.0, 1.0) for element, fraction in fractions.items()}


def scale_from_standard(
    scan: Scan,
    instrument: Instrument,
    composition: Mapping[str, float],
    thickness_g_cm2: float = INFINITE_AREAL_DENSITY,
    *,
    families: Sequence[str] | None = None,
) -> Scale:
    """Return the scale for which the forward model reproduces the areas of a standard.

    Parameters
    ----------
    scan : Scan
        Scan of the standard; the spectra of all pixels are summed.
    instrument : Instrument
        Source, geometry and detector. A scale that the instrument already has is not used.
    composition : mapping of str to float
        Mass fraction by element, from :func:`parse_composition`.
    thickness_g_cm2 : float
        Areal mass of the standard, in g/cm2; by default, the standard is infinitely thick.
    families : sequence of str, optional
        Line families to fit; by default those of the spectrum.

    Returns
    -------
    Scale
        Scale per count of scattered radiation and, if the live time is known, per second. Each line family that exceeds
        five standard deviations in the standard has a factor.

    Raises
    ------
    CoverageError
        No line of the elements of the composition is detected.
    """
    axis = scan.require_axis()
    scan_survey = survey(scan)
    sum_scan = Scan(scan_survey.total[None, None], axis, name=scan.name)
    element_maps = fit_elements(sum_scan, families=families, instrument=instrument)
    scatter_channels = scatter_window(instrument, axis)
    area, sigma = (line_areas(element_maps, quantity_name)[0] for quantity_name in ("area", "area_sigma"))
    usable_indices = [
        index
        for index, family in enumerate(element_maps.lines)
        if composition.get(family.partition("_")[0], 0.0) > 0 and area[index] > MIN_STANDARD_SIGMAS * sigma[index]
    ]
    if not usable_indices:
        raise CoverageError(
            f"Cannot compute the scale: no line of {', '.join(composition)} exceeds {MIN_STANDARD_SIGMAS:g} standard "
            f"deviations in the spectrum of the standard, which has {', '.join(element_maps.lines)}. Check that the "
            "spectrum is from this material."
        )
    usable_families = tuple(element_maps.lines[index] for index in usable_indices)
    modelled_counts = predict_counts(
        _standard_stratigraphies(composition, thickness_g_cm2), instrument, axis, usable_families, scatter_channels
    )
    log_ratio = np.log(area[usable_indices]) - np.log(modelled_counts.counts[:, 0])
    model_error = np.asarray([MODELLED_COUNTS_ERROR[family.partition("_")[2][0]] for family in usable_families])
    log_scale = np.average(log_ratio, axis=1, weights=1.0 / model_error**2)
    log_scatter_scale = (
        log_scale + np.log(modelled_counts.scatter) - np.log(float(scan_survey.total[scatter_channels].sum()))
    )
    log_factors = log_ratio - log_scale[:, None]
    scale_error = float(np.hypot(log_scatter_scale.std(), _STANDARD_ERROR))
    factor_errors = np.sqrt(
        log_factors.std(axis=0) ** 2 + (sigma[usable_indices] / area[usable_indices]) ** 2 + _STANDARD_ERROR**2
    )
    live_time_s = None if scan.live_time_s is None else float(np.nansum(scan.live_time_s))
    return Scale(
        counts_per_s=None if not live_time_s else float(np.exp(log_scale[-1]) / live_time_s),
        counts_per_scatter=float(np.exp(log_scatter_scale[-1])),
        error=scale_error,
        families=usable_families,
        factors=tuple(np.exp(log_factors[-1]).tolist()),
        factor_errors=tuple(factor_errors.tolist()),
        note=f"from {scan.name}",
    )


def _standard_stratigraphies(composition: Mapping[str, float], thickness_g_cm2: float) -> list[Stratigraphy]:
    """Return stratigraphies of the standard with different unstated parts; the last unstated part is the mean."""
    unstated_fraction = max(1.0 - sum(composition.values()), 0.0)
    # compounds that contain stated elements besides C, H and O are excluded
    compounds = [
        candidate_compound
        for candidate_compound in REMAINDER_COMPOUNDS
        if not (set(mass_fractions(candidate_compound)) - {"C", "H", "O"}) & set(composition)
    ]
    unstated_mixtures = [{compound: 1.0} for compound in compounds]
    unstated_mixtures.append(dict.fromkeys(compounds, 1.0 / len(compounds)))
    stratigraphies = []
    for unstated_mixture in unstated_mixtures:
        fractions = dict(composition)
        for compound, compound_fraction in unstated_mixture.items():
            for element, fraction in mass_fractions(compound).items():
                fractions[element] = fractions.get(element, 0.0) + unstated_fraction * compound_fraction * fraction
        fraction_sum = sum(fractions.values())
        fractions = {element: fraction / fraction_sum for element, fraction in fractions.items()}
        stratigraphies.append(Stratigraphy((Layer(fractions, 1.0, 1e4 * thickness_g_cm2),)))
    return stratigraphies
