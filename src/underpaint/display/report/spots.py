"""Typical spots of findings, and the spectra of these spots."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.data.maps import PRESENT_PROBABILITY, Results
from underpaint.display.report.findings import LINE_SIGMA, Finding
from underpaint.errors import ScanError
from underpaint.pigments.explain import region_spectrum

MAX_SPOTS = 10
MAX_REGIONS = 8
_MARGIN_PIXELS = 1
"""Number of rows and columns that are added on each side of a typical pixel. In the sum, weak lines become
significant."""

BoolMask = NDArray[np.bool_]


@dataclass(frozen=True)
class SpotSpectrum:
    """Sum spectrum of a spot or region.

    Parameters
    ----------
    title : str
        Title such as "mercury red, a typical spot: 9 pixels around row 12, column 40".
    counts : (n_channel,) array
        Sum of the spectra of the pixels, in counts.
    n_pixel : int
    families : tuple of str
        Line families that exceed three standard deviations in the sum spectrum, the strongest first.
    """

    title: str
    counts: NDArray[np.float64]
    n_pixel: int
    families: tuple[str, ...]


def typical_pixel(results: Results, finding: Finding) -> tuple[int, int] | None:
    """Return the row and column of a typical pixel of a pigment; None if the pigment is not present in any pixel.

    Only the more probable half of the pigment's pixels is considered. The typical pixel is the pixel whose net counts
    in the pigment's strongest line are nearest to the median. Without element maps, probabilities replace the net
    counts.
    """
    probability = results[finding.name]
    is_present = probability > PRESENT_PROBABILITY
    if not is_present.any():
        return None
    is_probable = is_present & (probability >= np.median(probability[is_present]))
    compared_values = probability if not finding.evidence else results[finding.evidence[0].family]
    median_deviation = np.where(
        is_probable & np.isfinite(compared_values),
        np.abs(compared_values - np.nanmedian(compared_values[is_probable])),
        np.inf,
    )
    if not np.isfinite(median_deviation).any():
        return None
    row, column = np.unravel_index(int(median_deviation.argmin()), median_deviation.shape)
    return int(row), int(column)


def typical_spots(results: Results, findings: Sequence[Finding], scan: Scan) -> list[SpotSpectrum]:
    """Return a spectrum for each finding, summed over a typical pixel and its neighbours that contain the pigment.

    Raises
    ------
    ScanError
        The scan cannot be read.
    """
    spot_spectra = []
    for finding in findings[:MAX_SPOTS]:
        centre = typical_pixel(results, finding)
        if centre is None:
            continue
        mask = np.zeros(results.shape, dtype=bool)
        mask[tuple(slice(max(position - _MARGIN_PIXELS, 0), position + _MARGIN_PIXELS + 1) for position in centre)] = (
            True
        )
        mask &= results[finding.name] > PRESENT_PROBABILITY
        n_pixel = int(mask.sum())
        position_text = (
            f"row {centre[0]}, column {centre[1]}"
            if n_pixel == 1
            else f"{n_pixel} pixels around row {centre[0]}, column {centre[1]}"
        )
        title = f"{finding.label.partition(' (')[0]}, a typical spot: {position_text}"
        spot_spectra += _sum_spectrum(title, mask, results, scan)
    return spot_spectra


def region_spots(regions: Mapping[str, BoolMask], results: Results, scan: Scan) -> list[SpotSpectrum]:
    """Return the spectrum of each region that the user drew; regions without a spectrum are omitted."""
    spot_spectra = []
    for region_name, mask in list(regions.items())[:MAX_REGIONS]:
        spot_spectra += _sum_spectrum(f"{region_name}, drawn region: {int(mask.sum())} pixels", mask, results, scan)
    return spot_spectra


def _sum_spectrum(title: str, mask: BoolMask, results: Results, scan: Scan) -> list[SpotSpectrum]:
    is_measured = mask if scan.present is None else mask & scan.present
    if not is_measured.any():
        return []
    counts = region_spectrum(scan, is_measured).counts
    return [SpotSpectrum(title, counts, int(is_measured.sum()), _significant_families(results, is_measured))]


def _significant_families(results: Results, mask: BoolMask) -> tuple[str, ...]:
    if not results.has_elements:
        return ()
    if results.shape != mask.shape:
        raise ScanError(f"Cannot show spots: maps of {results.shape} pixels, regions of {mask.shape}.")
    total_area = np.array([np.nansum(results[name][mask], dtype=np.float64) for name in results.lines])
    error_maps = (results.map("area_sigma", name)[mask].astype(np.float64) for name in results.lines)
    sum_sigma = np.array([np.sqrt(np.nansum(error_map**2)) for error_map in error_maps])
    return tuple(
        results.lines[index] for index in np.argsort(-total_area) if total_area[index] > LINE_SIGMA * sum_sigma[index]
    )
