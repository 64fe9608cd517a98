"""Stored values turned into counts: rates, normalised and rescaled stacks are divided by what one count is worth."""

from dataclasses import replace
from functools import partial
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.data.poisson import Sample, Scale, in_own_quanta
from underpaint.errors import ScanError

_MOST_PIXELS, _MOST_BYTES = 256, 8 * 2**20
_PLACES = (0.5, 0.25, 0.75)
"""Of the pixels that are looked at, as shares of the rows; the next where one does not tell."""


def with_counts(scan: Scan, counts_scale: float | None) -> Scan:
    """Return the scan with its stored values divided by what one count is worth, and a note that says so.

    Parameters
    ----------
    scan : Scan
        As read.
    counts_scale : float or None
        Stored value per count; 1: they are counts. None: it is estimated from some of the pixels.

    Raises
    ------
    ScanError
        The given scale is not above 0, or the values are no multiples of counts, but a function of them.
    """
    if counts_scale is not None:
        if not (np.isfinite(counts_scale) and counts_scale > 0):
            raise ScanError(
                f"Cannot divide the values of {scan.source or scan.name} by {counts_scale:g}: the stored value per "
                "count is a number above 0. Give that of --counts-scale, or leave it out."
            )
        note = f"the stored values are divided by {counts_scale:g}, the value per count that was given"
        return scan if counts_scale == 1 else _divided(scan, Scale(counts_scale), note)
    values = _some_spectra(scan)
    sample = None if values is None else Sample(values)
    if sample is not None and (transform := sample.transform()):
        raise ScanError(
            f"Cannot take the values of {scan.source or scan.name} for counts: they scatter as the {transform} of "
            "counts does, not more where they are larger. Export the counts themselves; --counts-scale 1 reads the "
            "values as they are, with wrong deviations and detection limits."
        )
    scale = None if sample is None else sample.scale()
    if scale is None:
        return scan if values is None or not _fractional(values) else replace(scan, notes=(_UNKNOWN, *scan.notes))
    return scan if scale.value == 1 else _divided(scan, scale, _note(scale))


_UNKNOWN = (
    "the values are no whole numbers, and it cannot be told whether they are counts: they are taken as such. If they "
    "are rates, normalised, smoothed or rescaled, deviations and detection limits are wrong; give the stored value per "
    "count with --counts-scale"
)


def _note(scale: Scale) -> str:
    if scale.rounding is not None and scale.uncertainty:
        return (
            f"the stored values are whole numbers that scatter less than counts do: counts times {scale.value:.3g} +- "
            f"{scale.uncertainty:.1g}, rounded, by which they are divided. What was rounded off is lost, faint lines "
            "with it: export the counts themselves. Another value per count is given with --counts-scale, 1 leaves "
            "them as they are"
        )
    if scale.rounding is not None:
        how = f"they are counts times {scale.value:.4g}, rounded, since the numbers in between are never there,"
    elif scale.of_pixel:
        how = f"they are whole multiples of one number in each pixel, {scale.value:.4g} in the middle,"
    elif scale.uncertainty:
        how = f"they scatter as counts times {scale.value:.3g} +- {scale.uncertainty:.1g} do,"
    else:
        how = f"they are whole multiples of {scale.value:.6g}"
    return (
        f"the stored values are no counts (rates, normalised, added twice or rescaled): {how} and are divided by it. "
        "Another value per count is given with --counts-scale, 1 leaves them as they are"
    )


def _divided(scan: Scan, scale: Scale, note: str) -> Scan:
    counts = scan.counts
    whole = counts.dtype.kind in "iu" and not scale.uncertainty and float(scale.value).is_integer()
    if scale.of_pixel:
        block: Any = partial(in_own_quanta, usual=scale.value)
        counts = counts.map_blocks(block, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    elif scale.rounding is not None and not scale.uncertainty:
        counts = da.rint((counts + scale.rounding) / scale.value).astype(np.float32)
    elif whole and scale.value <= np.iinfo(counts.dtype).max:
        counts = counts // counts.dtype.type(scale.value)
    else:
        counts = (counts / scale.value).astype(np.float32)
    return replace(scan, counts=counts, counts_scale=scale.value, notes=(note, *scan.notes))


def _some_spectra(scan: Scan) -> NDArray[Any] | None:
    """Return values of up to 256 neighbouring pixels; None where they cannot be read, which reading them all says."""
    n_row, n_column, n_channel = scan.shape
    most = int(np.clip(_MOST_BYTES // (8 * n_channel), 16, _MOST_PIXELS))
    columns = min(n_column, most)
    rows = min(n_row, max(1, most // columns))
    left = (n_column - columns) // 2
    for place in _PLACES:
        top = int(place * (n_row - rows))
        part = slice(top, top + rows), slice(left, left + columns)
        try:
            values = scan.read(*part).reshape(-1, n_channel)
        except (ScanError, OSError):
            return None
        values = values[np.isfinite(values).all(axis=1)]
        if values.any():
            return np.asarray(values)
    return None


def _fractional(values: NDArray[Any]) -> bool:
    return values.dtype.kind == "f" and bool((values != np.rint(values)).any())
