"""A scan cut, masked, or with its pixels put together."""

from dataclasses import replace
from typing import Any

import dask.array as da
import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.repair.record import Step

Array = NDArray[np.float64]


def cropped(scan: Scan, rows: tuple[int, int], columns: tuple[int, int]) -> tuple[Scan, Step]:
    """Return some rows and columns of a scan, and what was done.

    Parameters
    ----------
    scan : Scan
        The scan.
    rows, columns : (int, int)
        First, and the one after the last; counted from 0.

    Raises
    ------
    ScanError
        They hold no pixel, or lie outside the scan.
    """
    for name, (first, stop), size in zip(("rows", "columns"), (rows, columns), scan.shape[:2], strict=True):
        if not 0 <= first < stop <= size:
            raise ScanError(
                f"Cannot crop to {name} {first}:{stop}: the scan has {name} 0 to {size - 1}. "
                f"Give a first and, above it, a last plus one of at most {size}."
            )
    part = slice(*rows), slice(*columns)
    said = f"cropped to rows {rows[0]} to {rows[1] - 1} and columns {columns[0]} to {columns[1] - 1}"
    own = replace(scan, counts=scan.counts[part], notes=(*scan.notes, said), **_each_image(scan, lambda own: own[part]))
    return own, Step("crop", said, {"rows": list(rows), "columns": list(columns), "shape": list(scan.shape)})


def masked(scan: Scan, mask: NDArray[np.bool_]) -> tuple[Scan, Step]:
    """Return the scan with the pixels outside a mask marked as missing, and what was done; no count is changed.

    Raises
    ------
    ScanError
        The mask has another size, or holds no pixel.
    """
    if mask.shape != scan.shape[:2] or not mask.any():
        raise ScanError(
            f"Cannot mask a scan of {scan.shape[0]} x {scan.shape[1]} pixels by {int(mask.sum())} pixels of "
            f"{' x '.join(map(str, mask.shape))}. Give a mask of the scan's size that holds some."
        )
    present = mask if scan.present is None else mask & scan.present
    said = f"masked: {int(mask.sum())} of {mask.size} pixels kept"
    return replace(scan, present=present, notes=(*scan.notes, said)), Step("mask", said, {"kept": int(mask.sum())})


def binned(scan: Scan, rows: int, columns: int) -> tuple[Scan, Step]:
    """Return the scan with blocks of pixels added up, counts and times, and what was done.

    A pixel of the result is missing where one of its block is; rows and columns that fill no whole block are left out.

    Raises
    ------
    ScanError
        A block has no pixel, or more than the scan.
    """
    n_row, n_column, n_channel = scan.shape
    if not (1 <= rows <= n_row and 1 <= columns <= n_column):
        raise ScanError(
            f"Cannot put {rows} x {columns} pixels together: the scan has {n_row} x {n_column}. "
            "Give two whole numbers from 1 to these."
        )
    whole = n_row // rows * rows, n_column // columns * columns

    def added(image: Array) -> Array:
        blocks = image[: whole[0], : whole[1]].reshape(whole[0] // rows, rows, whole[1] // columns, columns)
        return np.asarray(blocks.sum(axis=(1, 3)))

    n_block = np.add.reduceat(np.ones(whole[0], int), np.arange(0, whole[0], max(rows * (16 // rows or 1), 1)))
    counts = scan.counts[: whole[0], : whole[1]].rechunk({0: tuple(n_block.tolist()), 1: -1, 2: n_channel})
    total = da.coarsen(np.sum, counts, {0: rows, 1: columns}, dtype=_wide(scan.counts.dtype))
    present = None if scan.present is None else added((~scan.present).astype(np.float64)) == 0
    times: dict[str, Any] = {
        name: None if getattr(scan, name) is None else added(getattr(scan, name)) for name in _TIMES
    }
    step = None if scan.step_mm is None else (scan.step_mm[0] * rows, scan.step_mm[1] * columns)
    said = f"{rows} x {columns} pixels added to one"
    if whole != (n_row, n_column):
        said += f"; {n_row - whole[0]} rows and {n_column - whole[1]} columns left over"
    own = replace(scan, counts=total, present=present, step_mm=step, notes=(*scan.notes, said), **times)
    return own, Step("bin", said, {"rows": rows, "columns": columns, "shape": list(scan.shape)})


_TIMES = ("live_time_s", "real_time_s")


def _each_image(scan: Scan, change: Any) -> dict[str, Any]:
    names = (*_TIMES, "present")
    return {name: None if getattr(scan, name) is None else change(getattr(scan, name)) for name in names}


def _wide(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return a type that holds sums of such counts."""
    return np.dtype(np.uint32) if dtype.kind == "u" and dtype.itemsize < 4 else dtype
