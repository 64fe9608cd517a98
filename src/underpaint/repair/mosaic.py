"""Overlapping tiles joined to one scan: by the stage's positions, corrected where the images overlap."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import dask
import dask.array as da
import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan, survey
from underpaint.data.rebin import rebin_scan
from underpaint.errors import ScanError
from underpaint.repair._pictures import bands_between
from underpaint.runtime.untrusted import MOST_TABLE_BYTES, read_bounded

Array = NDArray[np.float64]

_LEAST_OVERLAP = 8
"""Rows and columns below which an overlap is not compared."""
_N_BAND = 8
_STAGE_SD_PIXELS = 2.0
"""What the stage is trusted to, against a registration's ``_REGISTERED_SD_PIXELS``."""
_REGISTERED_SD_PIXELS = 0.1
_LEAST_LIKENESS = 0.3
_ROWS = 16
_LEAST_FILLED = 0.25
"""Of what tiles in one chain fill of their mosaic at least, one over their number."""
_STEP_TOLERANCE = 0.01


@dataclass(frozen=True)
class Tile:
    """A scan, and where the stage had its first pixel.

    Parameters
    ----------
    scan : Scan
        Counts.
    row_mm, column_mm : float
        Position of the centre of pixel (0, 0): down and to the right, mm.
    """

    scan: Scan
    row_mm: float
    column_mm: float


@dataclass(frozen=True)
class Overlap:
    """What two tiles see together.

    Parameters
    ----------
    first, second : int
        Their places in the sequence of tiles.
    shift_pixels : (float, float)
        By how many rows and columns the second lies farther down and right than the stage says.
    likeness : float
        Correlation of the two images once shifted, -1 to 1.
    used : bool
        Whether it corrected the positions: alike enough, and not off by more than the largest correction.
    """

    first: int
    second: int
    shift_pixels: tuple[float, float]
    likeness: float
    used: bool


@dataclass(frozen=True)
class Mosaic:
    """Tiles joined.

    Parameters
    ----------
    scan : Scan
        All of them; pixels that no tile covers are missing.
    corner_pixels : (n_tile, 2) array
        Row and column of each tile's first pixel in the mosaic, not rounded.
    corrected_pixels : (n_tile, 2) array
        By how much that is off from what the stage says.
    overlaps : tuple of Overlap
        Every pair that was compared.
    apart : tuple of int
        Tiles that share too few rows or columns with any other for being compared.
    """

    scan: Scan
    corner_pixels: Array
    corrected_pixels: Array
    overlaps: tuple[Overlap, ...]
    apart: tuple[int, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """JSON-serialisable."""
        return {
            "corner_pixels": self.corner_pixels.round(3).tolist(),
            "corrected_pixels": self.corrected_pixels.round(3).tolist(),
            "overlaps": [vars(own) for own in self.overlaps],
            "apart": list(self.apart),
        }


def read_positions(path: str | Path) -> dict[str, tuple[float, float]]:
    """Read the stage's positions: a CSV table with the columns tile, row_mm and column_mm.

    Returns
    -------
    dict
        By the tile's name as in the table: (row_mm, column_mm) of its first pixel.

    Raises
    ------
    ScanError
        The file cannot be read, a column is missing, a position is no number, or a tile stands there twice.
    """
    found: dict[str, tuple[float, float]] = {}
    try:
        text = read_bounded(Path(path), MOST_TABLE_BYTES, ScanError).decode("utf-8")
        for row in csv.DictReader(io.StringIO(text, newline="")):
            name, place = row["tile"].strip(), (float(row["row_mm"]), float(row["column_mm"]))
            if name in found or not np.isfinite(place).all():
                raise ScanError(f"Cannot use {path}: the tile {name!r} stands there twice, or lies at {place} mm.")
            found[name] = place
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        if isinstance(error, ScanError):
            raise
        raise ScanError(
            f"Cannot read positions from {path}: {error}. A CSV table tile,row_mm,column_mm is needed."
        ) from error
    return found


def join_tiles(tiles: Sequence[Tile], *, register: bool = True, most_pixels: float = 5.0) -> Mosaic:
    """Join overlapping scans to one.

    Parameters
    ----------
    tiles : sequence of Tile
        Two or more, of one pixel size and with equal channels (on another energy axis: moved to the first one's).
    register : bool
        Correct the positions where tiles overlap by at least 8 rows and columns: by the shift at which what both see
        correlates best. The pairs' shifts are reconciled by least squares, the stage's positions as a weak prior.
    most_pixels : float
        A pair that would correct more than this is not believed.

    Returns
    -------
    Mosaic
        Its scan is lazy. A pixel that several tiles cover is taken whole from the tile in which it lies farthest from
        the edge, at the nearest pixel: no count is changed or added twice.

    Raises
    ------
    ScanError
        There are fewer than two tiles, their pixels differ or have no known size, they lie far from each other, or
        nothing can be compared because their channels differ and they have no energy axes.

    Notes
    -----
    For each shift the correlation is taken over the pixels that then overlap, of images in bands of energy. Phase
    correlation, which needs both images tapered to their borders, pulls narrow overlaps towards no shift.
    """
    step = _common_step(tiles)
    scans = _on_one_axis([own.scan for own in tiles])
    stage = np.array([[own.row_mm / step[0], own.column_mm / step[1]] for own in tiles])
    stage -= stage.min(axis=0)
    sizes = np.array([own.shape[:2] for own in scans])
    _refuse_far_tiles(stage, sizes, step)
    overlaps = _compared(scans, stage, most_pixels) if register else ()
    places = _reconciled(stage, overlaps)
    corners = _on_whole_pixels(places)
    first = np.rint(corners).astype(np.int64)
    whole = _assembled(scans, first)
    moved = places - stage
    moved -= moved.mean(axis=0)
    return Mosaic(replace(whole, step_mm=step), corners, moved, overlaps, _apart(first, sizes))


def _on_whole_pixels(places: Array) -> Array:
    """Return places moved together, so that rounding them changes what lies between them as little as it can.

    The first row and column are 0. Rounded one by one, tiles that lie 0.0 rows from each other, at 0.5, may part.
    """
    turns = np.exp(2j * np.pi * places).mean(axis=0)
    moved = places - np.angle(turns) / (2.0 * np.pi)
    return np.asarray(moved - np.rint(moved).min(axis=0))


def _refuse_far_tiles(stage: Array, sizes: NDArray[np.int64], step: tuple[float, float]) -> None:
    n_row, n_column = np.ceil((stage + sizes).max(axis=0))
    filled = float(sizes.prod(axis=1).sum() / (n_row * n_column))
    if filled >= _LEAST_FILLED / len(sizes):
        return
    raise ScanError(
        f"Cannot join tiles that fill {filled:.2g} of {n_row:.0f} x {n_column:.0f} pixels: by their positions they lie "
        f"up to {(stage.max(axis=0) * step).max():g} mm apart. Check that the positions and the pixel size "
        f"({step[0]:g} x {step[1]:g} mm) are in mm."
    )


def _apart(corners: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[int, ...]:
    low = np.maximum(corners[:, None], corners[None])
    high = np.minimum((corners + sizes)[:, None], (corners + sizes)[None])
    together = ((high - low) >= _LEAST_OVERLAP).all(axis=2) & ~np.eye(len(sizes), dtype=bool)
    return tuple(np.flatnonzero(~together.any(axis=1)).tolist())


def _common_step(tiles: Sequence[Tile]) -> tuple[float, float]:
    if len(tiles) < 2:
        raise ScanError(f"Cannot join {len(tiles)} tile; give two or more.")
    steps = [own.scan.step_mm for own in tiles]
    first = steps[0]
    if first is None or any(own is None or not np.allclose(own, first, rtol=_STEP_TOLERANCE) for own in steps):
        sizes = ", ".join(f"{own.scan.name}: {own.scan.step_mm or 'unknown'}" for own in tiles)
        raise ScanError(
            f"Cannot join tiles of different or unknown pixel size, mm ({sizes}). Give their size: --step-mm."
        )
    if not (np.isfinite(first).all() and min(first) > 0):
        raise ScanError(
            f"Cannot join tiles with pixels of {first[0]:g} x {first[1]:g} mm. Give their size, above 0: --step-mm."
        )
    return first


def _on_one_axis(scans: Sequence[Scan]) -> list[Scan]:
    first = scans[0]
    if all(own.shape[2] == first.shape[2] and own.axis == first.axis for own in scans):
        return list(scans)
    return [rebin_scan(own, first.require_axis()) for own in scans]


# --- where the tiles lie ---------------------------------------------------------------------------


def _compared(scans: Sequence[Scan], stage: Array, most_pixels: float) -> tuple[Overlap, ...]:
    total = sum(survey(own).total for own in scans)
    cumulated = np.cumsum(total)
    borders = np.searchsorted(cumulated, np.linspace(0.0, cumulated[-1], _N_BAND + 1)[1:-1])
    edges = np.unique(np.concatenate([[0], borders, [cumulated.size]]))
    images = [np.sqrt(bands_between(own, edges)) for own in scans]
    found = []
    for first, second in combinations(range(len(scans)), 2):
        own = _overlap(images, stage, (first, second), most_pixels)
        if own is not None:
            found.append(own)
    return tuple(found)


def _overlap(images: Sequence[Array], stage: Array, pair: tuple[int, int], most_pixels: float) -> Overlap | None:
    """Return how the second of two tiles lies against the first; None where they overlap too little."""
    first, second = pair
    stage_apart = stage[second] - stage[first]
    nearest = np.rint(stage_apart).astype(np.int64)
    if min(_common_part(images[first], images[second], nearest)[0].shape[1:]) < _LEAST_OVERLAP:
        return None
    reach = int(np.ceil(most_pixels)) + 1
    steps = np.arange(-reach, reach + 1)
    likeness = np.asarray(
        [
            [_likeness_at(images[first], images[second], nearest + np.array([down, right])) for right in steps]
            for down in steps
        ]
    )
    best = np.unravel_index(int(np.argmax(likeness)), likeness.shape)
    shift = [
        steps[best[side]] + _vertex(np.take(likeness, best[1 - side], axis=1 - side), best[side]) for side in (0, 1)
    ]
    off = nearest + shift - stage_apart
    highest = float(likeness[best])
    used = bool(highest > _LEAST_LIKENESS and np.abs(off).max() <= most_pixels)
    return Overlap(first, second, (float(off[0]), float(off[1])), max(highest, -1.0), used=used)


def _likeness_at(first: Array, second: Array, apart: NDArray[np.int64]) -> float:
    """Return how alike two images are where they overlap, -2 where they hardly do."""
    here, there = _common_part(first, second, apart)
    return _likeness(here, there) if min(here.shape[1:]) >= _LEAST_OVERLAP // 2 else -2.0


def _vertex(values: Array, best: np.intp) -> float:
    """Return how far from the highest of equally spaced values a parabola through it and its neighbours is highest."""
    if not 0 < best < values.size - 1:
        return 0.0
    left, middle, right = values[best - 1 : best + 2]
    curvature = left - 2.0 * middle + right
    return float(0.5 * (left - right) / curvature) if curvature < 0 else 0.0


def _common_part(first: Array, second: Array, apart: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return what two images show both, the second lying so many rows and columns farther; perhaps nothing."""
    low = np.maximum(apart, 0)
    high = np.minimum(first.shape[1:], apart + np.asarray(second.shape[1:]))
    high = np.maximum(high, low)
    here = first[:, low[0] : high[0], low[1] : high[1]]
    there = second[:, low[0] - apart[0] : high[0] - apart[0], low[1] - apart[1] : high[1] - apart[1]]
    return here, there


def _likeness(first: Array, second: Array) -> float:
    pair = [own - own.mean(axis=(1, 2), keepdims=True) for own in (first, second)]
    scale = float(np.sqrt((pair[0] ** 2).sum() * (pair[1] ** 2).sum()))
    return float((pair[0] * pair[1]).sum()) / scale if scale > 0 else 0.0


def _reconciled(stage: Array, overlaps: Sequence[Overlap]) -> Array:
    """Return the places, pixels, that the stage and all pairs agree on best."""
    n_tile = len(stage)
    rows = [np.eye(n_tile) / _STAGE_SD_PIXELS]
    goals = [np.zeros((n_tile, 2))]
    for own in overlaps:
        if own.used:
            row = np.zeros((1, n_tile))
            row[0, own.second], row[0, own.first] = 1.0, -1.0
            rows.append(row / _REGISTERED_SD_PIXELS)
            goals.append(np.asarray(own.shift_pixels)[None] / _REGISTERED_SD_PIXELS)
    corrections = np.linalg.lstsq(np.concatenate(rows), np.concatenate(goals), rcond=None)[0]
    return np.asarray(stage + corrections)


# --- one scan of all -------------------------------------------------------------------------------


def _assembled(scans: Sequence[Scan], corners: NDArray[np.int64]) -> Scan:
    n_row, n_column = (int((corners[:, side] + [own.shape[side] for own in scans]).max()) for side in (0, 1))
    owner = _owners(scans, corners, (n_row, n_column))
    counts = da.concatenate([_rows(scans, corners, owner, first) for first in range(0, n_row, _ROWS)], axis=0)
    images: dict[str, Any] = {name: _image(scans, corners, owner, name) for name in ("live_time_s", "real_time_s")}
    covered = owner >= 0
    return Scan(
        counts,
        axis=scans[0].axis,
        name=f"{scans[0].name}_mosaic",
        source=" + ".join(own.source or own.name for own in scans),
        format=scans[0].format,
        detector=scans[0].detector,
        present=None if covered.all() else covered,
        notes=(*dict.fromkeys(note for own in scans for note in own.notes), f"{len(scans)} tiles joined"),
        **images,
    )


def _owners(scans: Sequence[Scan], corners: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int64]:
    """(n_row, n_column) the tile that gives each pixel: the one in which it lies deepest; -1 where there is none."""
    owner, depth = np.full(shape, -1), np.zeros(shape)
    for index, (scan, (top, left)) in enumerate(zip(scans, corners, strict=True)):
        n_row, n_column, _ = scan.shape
        part = slice(top, top + n_row), slice(left, left + n_column)
        own = np.minimum.outer(_depth(n_row), _depth(n_column))
        own = own if scan.present is None else np.where(scan.present, own, 0.0)
        deeper = own > depth[part]
        owner[part] = np.where(deeper, index, owner[part])
        depth[part] = np.where(deeper, own, depth[part])
    return owner


def _depth(size: int) -> Array:
    return np.asarray(np.minimum(np.arange(size), np.arange(size)[::-1]) + 1.0)


def _rows(scans: Sequence[Scan], corners: NDArray[np.int64], owner: NDArray[np.int64], first: int) -> da.Array:
    own = owner[first : first + _ROWS]
    dtype = np.result_type(*(scan.counts.dtype for scan in scans))
    shape = (*own.shape, scans[0].shape[2])
    pieces = []
    for index in np.unique(own[own >= 0]).tolist():
        low = max(first - int(corners[index, 0]), 0)
        high = min(first + len(own) - int(corners[index, 0]), scans[index].shape[0])
        place = (int(corners[index, 0]) + low - first, int(corners[index, 1]))
        pieces.append((index, place, scans[index].counts[low:high].rechunk(-1)))
    block = dask.delayed(_filled)(own, shape, dtype, [index for index, _, _ in pieces], [at for _, at, _ in pieces],
                                  [counts for _, _, counts in pieces])  # fmt: skip
    return da.from_delayed(block, shape, dtype)


def _filled(
    owner: NDArray[np.int64], shape: tuple[int, int, int], dtype: np.dtype[Any], indices: Sequence[int],
    places: Sequence[tuple[int, int]], pieces: Sequence[NDArray[Any]],
) -> NDArray[Any]:  # fmt: skip
    block = np.zeros(shape, dtype)
    for index, (row, column), counts in zip(indices, places, pieces, strict=True):
        part = slice(row, row + counts.shape[0]), slice(column, column + counts.shape[1])
        mine = owner[part] == index
        block[part][mine] = counts[mine]
    return block


def _image(scans: Sequence[Scan], corners: NDArray[np.int64], owner: NDArray[np.int64], name: str) -> Array | None:
    """Return an image put together; None where a tile has none."""
    known = [getattr(own, name) for own in scans]
    if any(own is None for own in known):
        return None
    image = np.full(owner.shape, np.nan)
    for index, ((top, left), own) in enumerate(zip(corners, known, strict=True)):
        part = slice(top, top + own.shape[0]), slice(left, left + own.shape[1])
        image[part] = np.where(owner[part] == index, own, image[part])
    return image


def positions_of(names: Sequence[str], positions: Mapping[str, tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the position of each tile, known by its path or by its file's name.

    Raises
    ------
    ScanError
        A tile has none.
    """
    places = []
    for name in names:
        keys = (name, Path(name).name, Path(name).stem)
        found = next((positions[key] for key in keys if key in positions), None)
        if found is None:
            known = ", ".join(positions) or "none"
            raise ScanError(f"Cannot place the tile {name}: the table knows {known}. Add a row for it.")
        places.append(found)
    return places
