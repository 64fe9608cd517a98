"""Typical spots of what was found, and their spectra; no drawing here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.data.maps import PRESENT_PROBABILITY, Results
from underpaint.display.report.findings import LINE_SIGMA, Finding
from underpaint.errors import ScanError
from underpaint.pigments.explain import region_spectrum

MOST_SPOTS = 10
MOST_REGIONS = 8
_AROUND = 1
"""Rows and columns around a spot whose spectra are added to its own: of nine pixels faint lines show better."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class SpotSpectrum:
    """Counts of a spot or region.

    Parameters
    ----------
    title : str
        "mercury red, typical: 9 pixels around row 12, column 40".
    counts : (n_channel,) array
        Summed over its pixels.
    n_pixel : int
    families : tuple of str
        Lines above three standard deviations of the sum, the strongest first.
    """

    title: str
    counts: NDArray[np.float64]
    n_pixel: int
    families: tuple[str, ...]


def typical_pixel(results: Results, own: Finding) -> tuple[int, int] | None:
    """Return row and column where a pigment shows as it mostly does; None where it is nowhere.

    Of the surer half of its pixels the one whose strongest line, or else whose probability, is nearest to the median.
    """
    probability = results[own.name]
    inside = probability > PRESENT_PROBABILITY
    if not inside.any():
        return None
    sure = inside & (probability >= np.median(probability[inside]))
    shown = probability if not own.evidence else results[own.evidence[0].family]
    distance = np.where(sure & np.isfinite(shown), np.abs(shown - np.nanmedian(shown[sure])), np.inf)
    if not np.isfinite(distance).any():
        return None
    row, column = np.unravel_index(int(distance.argmin()), distance.shape)
    return int(row), int(column)


def typical_spots(results: Results, findings: Sequence[Finding], scan: Scan) -> list[SpotSpectrum]:
    """Return a spectrum for each finding; the pixels around a spot that hold the same pigment are added.

    Raises
    ------
    ScanError
        The scan cannot be read.
    """
    found = []
    for own in findings[:MOST_SPOTS]:
        at = typical_pixel(results, own)
        if at is None:
            continue
        mask = np.zeros(results.shape, dtype=bool)
        mask[tuple(slice(max(here - _AROUND, 0), here + _AROUND + 1) for here in at)] = True
        mask &= results[own.name] > PRESENT_PROBABILITY
        n_pixel = int(mask.sum())
        where = (
            f"row {at[0]}, column {at[1]}" if n_pixel == 1 else f"{n_pixel} pixels around row {at[0]}, column {at[1]}"
        )
        title = f"{own.label.partition(' (')[0]}, a typical spot: {where}"
        found += _summed(title, mask, results, scan)
    return found


def region_spots(regions: Mapping[str, Mask], results: Results, scan: Scan) -> list[SpotSpectrum]:
    """Return the spectrum of each region that was drawn; one without any spectrum is left out."""
    found = []
    for name, mask in list(regions.items())[:MOST_REGIONS]:
        found += _summed(f"{name}, a region that was drawn: {int(mask.sum())} pixels", mask, results, scan)
    return found


def _summed(title: str, mask: Mask, results: Results, scan: Scan) -> list[SpotSpectrum]:
    there = mask if scan.present is None else mask & scan.present
    if not there.any():
        return []
    counts = region_spectrum(scan, there).counts
    return [SpotSpectrum(title, counts, int(there.sum()), _families(results, there))]


def _families(results: Results, mask: Mask) -> tuple[str, ...]:
    if not results.has_elements:
        return ()
    if results.shape != mask.shape:
        raise ScanError(f"Cannot show spots: maps of {results.shape} pixels, regions of {mask.shape}.")
    area = np.array([np.nansum(results[name][mask], dtype=np.float64) for name in results.lines])
    errors = (results.map("area_sigma", name)[mask].astype(np.float64) for name in results.lines)
    noise = np.array([np.sqrt(np.nansum(own**2)) for own in errors])
    return tuple(results.lines[index] for index in np.argsort(-area) if area[index] > LINE_SIGMA * noise[index])
