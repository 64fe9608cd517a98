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
from underpaint.runtime.untrusted import MAX_TABLE_BYTES, read_bounded

Array = NDArray[np.float64]

_MIN_OVERLAP = 8
"""Rows and columns below which an overlap is not compared."""
_N_BAND = 8
_STAGE_SD_PIXELS = 2.0
"""Standard deviation of the stage's positions, compared with ``_REGISTERED_SD_PIXELS`` of a registration."""
_REGISTERED_SD_PIXELS = 0.1
_MIN_LIKENESS = 0.3
_ROWS = 16
_MIN_FILLED = 0.25
"""Minimum share of the mosaic that its tiles fill, relative to a chain of tiles."""
_STEP_TOLERANCE = 0.01


@dataclass(frozen=True)
class Tile:
    """A scan, and the stage's position at its first pixel.

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
    """Overlap of two tiles.

    Parameters
    ----------
    first, second : int
        Their places in the sequence of tiles.
    shift_pixels : (float, float)
        Rows and columns by which the second tile is farther down and right than the stage's positions.
    likeness : float
        Correlation of the two images once shifted, -1 to 1.
    used : bool
        Whether it corrected the positions: sufficient correlation, and a shift within the largest correction.
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
        Correction of the stage's positions.
    overlaps : tuple of Overlap
        Every pair that was compared.
    isolated : tuple of int
        Tiles that share too few rows or columns with any other to be compared.
    """

    scan: Scan
    corner_pixels: Array
    corrected_pixels: Array
    overlaps: tuple[Overlap, ...]
    isolated: tuple[int, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """JSON-serialisable."""
        return {
            "corner_pixels": self.corner_pixels.round(3).tolist(),
            "corrected_pixels": self.corrected_pixels.round(3).tolist(),
            "overlaps": [vars(overlap) for overlap in self.overlaps],
            "apart": list(self.isolated),
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
        The file cannot be read, a column is missing, a position is not a number, or a tile is listed twice.
    """
    positions: dict[str, tuple[float, float]] = {}
    try:
        text = read_bounded(Path(path), MAX_TABLE_BYTES, ScanError).decode("utf-8")
        for row in csv.DictReader(io.StringIO(text, newline="")):
            name, place = row["tile"].strip(), (float(row["row_mm"]), float(row["column_mm"]))
            if name in positions or not np.isfinite(place).all():
                raise ScanError(f"Cannot use {path}: the tile {name!r} is listed twice, or is at {place} mm.")
            positions[name] = place
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        if isinstance(error, ScanError):
            raise
        raise ScanError(
            f"Cannot read positions from {path}: {error}. A CSV table tile,row_mm,column_mm is needed."
        ) from error
    return positions


def join_tiles(tiles: Sequence[Tile], *, register: bool = True, max_pixels: float = 5.0) -> Mosaic:
    """Join overlapping scans to one.

    Parameters
    ----------
    tiles : sequence of Tile
        Two or more, of one pixel size and with equal channels (on another energy axis: moved to the first one's).
    register : bool
        Correct the positions of tiles that overlap by at least 8 rows and columns, by the shift of best correlation.
        The shifts of pairs are reconciled by least squares, with the stage's positions as a weak prior.
    max_pixels : float
        Pairs with a larger correction are ignored.

    Returns
    -------
    Mosaic
        Its scan is lazy. A pixel in several tiles is taken from the tile in which it is farthest from the edge, at the
        nearest pixel: counts are neither changed nor added.

    Raises
    ------
    ScanError
        There are fewer than two tiles, their pixel sizes differ or are unknown, they are far apart, or their channels
        differ and they have no energy axes.

    Notes
    -----
    For each shift the correlation is computed over the overlapping pixels of images in energy bands. Phase correlation,
    which requires tapered images, is biased towards no shift for narrow overlaps.
    """
    step = _common_step(tiles)
    scans = _on_one_axis([tile.scan for tile in tiles])
    stage = np.array([[tile.row_mm / step[0], tile.column_mm / step[1]] for tile in tiles])
    stage -= stage.min(axis=0)
    sizes = np.array([scan.shape[:2] for scan in scans])
    _refuse_far_tiles(stage, sizes, step)
    overlaps = _compared(scans, stage, max_pixels) if register else ()
    places = _reconciled(stage, overlaps)
    corners = _on_whole_pixels(places)
    first = np.rint(corners).astype(np.int64)
    mosaic_scan = _assembled(scans, first)
    moved = places - stage
    moved -= moved.mean(axis=0)
    return Mosaic(replace(mosaic_scan, step_mm=step), corners, moved, overlaps, _isolated_tiles(first, sizes))


def _on_whole_pixels(places: Array) -> Array:
    """Return positions with a common offset that minimises the effect of rounding on their distances.

    The first row and column are 0. Without the offset, tiles 0.0 rows apart at 0.5 could be rounded differently.
    """
    turns = np.exp(2j * np.pi * places).mean(axis=0)
    moved = places - np.angle(turns) / (2.0 * np.pi)
    return np.asarray(moved - np.rint(moved).min(axis=0))


def _refuse_far_tiles(stage: Array, sizes: NDArray[np.int64], step: tuple[float, float]) -> None:
    n_row, n_column = np.ceil((stage + sizes).max(axis=0))
    filled = float(sizes.prod(axis=1).sum() / (n_row * n_column))
    if filled >= _MIN_FILLED / len(sizes):
        return
    raise ScanError(
        f"Cannot join tiles that fill {filled:.2g} of {n_row:.0f} x {n_column:.0f} pixels: by their positions they lie "
        f"up to {(stage.max(axis=0) * step).max():g} mm apart. Check that the positions and the pixel size "
        f"({step[0]:g} x {step[1]:g} mm) are in mm."
    )


def _isolated_tiles(corners: NDArray[np.int64], sizes: NDArray[np.int64]) -> tuple[int, ...]:
    low = np.maximum(corners[:, None], corners[None])
    high = np.minimum((corners + sizes)[:, None], (corners + sizes)[None])
    overlapping = ((high - low) >= _MIN_OVERLAP).all(axis=2) & ~np.eye(len(sizes), dtype=bool)
    return tuple(np.flatnonzero(~overlapping.any(axis=1)).tolist())


def _common_step(tiles: Sequence[Tile]) -> tuple[float, float]:
    if len(tiles) < 2:
        raise ScanError(f"Cannot join {len(tiles)} tile; give two or more.")
    steps = [tile.scan.step_mm for tile in tiles]
    first = steps[0]
    if first is None or any(step is None or not np.allclose(step, first, rtol=_STEP_TOLERANCE) for step in steps):
        sizes = ", ".join(f"{tile.scan.name}: {tile.scan.step_mm or 'unknown'}" for tile in tiles)
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
    if all(scan.shape[2] == first.shape[2] and scan.axis == first.axis for scan in scans):
        return list(scans)
    return [rebin_scan(scan, first.require_axis()) for scan in scans]


# --- positions of the tiles ------------------------------------------------------------------------


def _compared(scans: Sequence[Scan], stage: Array, max_pixels: float) -> tuple[Overlap, ...]:
    total = sum(survey(scan).total for scan in scans)
    cumulated = np.cumsum(total)
    borders = np.searchsorted(cumulated, np.linspace(0.0, cumulated[-1], _N_BAND + 1)[1:-1])
    edges = np.unique(np.concatenate([[0], borders, [cumulated.size]]))
    images = [np.sqrt(bands_between(scan, edges)) for scan in scans]
    overlaps = []
    for first, second in combinations(range(len(scans)), 2):
        overlap = _overlap(images, stage, (first, second), max_pixels)
        if overlap is not None:
            overlaps.append(overlap)
    return tuple(overlaps)


def _overlap(images: Sequence[Array], stage: Array, pair: tuple[int, int], max_pixels: float) -> Overlap | None:
    """Return the shift of the second of two tiles relative to the first; None for a small overlap."""
    first, second = pair
    stage_apart = stage[second] - stage[first]
    nearest = np.rint(stage_apart).astype(np.int64)
    if min(_common_part(images[first], images[second], nearest)[0].shape[1:]) < _MIN_OVERLAP:
        return None
    reach = int(np.ceil(max_pixels)) + 1
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
    used = bool(highest > _MIN_LIKENESS and np.abs(off).max() <= max_pixels)
    return Overlap(first, second, (float(off[0]), float(off[1])), max(highest, -1.0), used=used)


def _likeness_at(first: Array, second: Array, offset: NDArray[np.int64]) -> float:
    """Return the correlation of two images where they overlap; -2 for a small overlap."""
    first_part, second_part = _common_part(first, second, offset)
    return _likeness(first_part, second_part) if min(first_part.shape[1:]) >= _MIN_OVERLAP // 2 else -2.0


def _vertex(values: Array, best: np.intp) -> float:
    """Return how far from the highest of equally spaced values a parabola through it and its neighbours is highest."""
    if not 0 < best < values.size - 1:
        return 0.0
    left, middle, right = values[best - 1 : best + 2]
    curvature = left - 2.0 * middle + right
    return float(0.5 * (left - right) / curvature) if curvature < 0 else 0.0


def _common_part(first: Array, second: Array, offset: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return the common parts of two images at an offset in rows and columns; possibly empty."""
    low = np.maximum(offset, 0)
    high = np.minimum(first.shape[1:], offset + np.asarray(second.shape[1:]))
    high = np.maximum(high, low)
    first_part = first[:, low[0] : high[0], low[1] : high[1]]
    second_part = second[:, low[0] - offset[0] : high[0] - offset[0], low[1] - offset[1] : high[1] - offset[1]]
    return first_part, second_part


def _likeness(first: Array, second: Array) -> float:
    pair = [image - image.mean(axis=(1, 2), keepdims=True) for image in (first, second)]
    scale = float(np.sqrt((pair[0] ** 2).sum() * (pair[1] ** 2).sum()))
    return float((pair[0] * pair[1]).sum()) / scale if scale > 0 else 0.0


def _reconciled(stage: Array, overlaps: Sequence[Overlap]) -> Array:
    """Return the places, pixels, that the stage and all pairs agree on best."""
    n_tile = len(stage)
    rows = [np.eye(n_tile) / _STAGE_SD_PIXELS]
    goals = [np.zeros((n_tile, 2))]
    for overlap in overlaps:
        if overlap.used:
            row = np.zeros((1, n_tile))
            row[0, overlap.second], row[0, overlap.first] = 1.0, -1.0
            rows.append(row / _REGISTERED_SD_PIXELS)
            goals.append(np.asarray(overlap.shift_pixels)[None] / _REGISTERED_SD_PIXELS)
    corrections = np.linalg.lstsq(np.concatenate(rows), np.concatenate(goals), rcond=None)[0]
    return np.asarray(stage + corrections)


# --- one scan of all -------------------------------------------------------------------------------


def _assembled(scans: Sequence[Scan], corners: NDArray[np.int64]) -> Scan:
    n_row, n_column = (int((corners[:, side] + [scan.shape[side] for scan in scans]).max()) for side in (0, 1))
    owner = _owners(scans, corners, (n_row, n_column))
    counts = da.concatenate([_rows(scans, corners, owner, first) for first in range(0, n_row, _ROWS)], axis=0)
    images: dict[str, Any] = {name: _image(scans, corners, owner, name) for name in ("live_time_s", "real_time_s")}
    covered = owner >= 0
    return Scan(
        counts,
        axis=scans[0].axis,
        name=f"{scans[0].name}_mosaic",
        source=" + ".join(scan.source or scan.name for scan in scans),
        format=scans[0].format,
        detector=scans[0].detector,
        present=None if covered.all() else covered,
        notes=(*dict.fromkeys(note for scan in scans for note in scan.notes), f"{len(scans)} tiles joined"),
        **images,
    )


def _owners(scans: Sequence[Scan], corners: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int64]:
    """(n_row, n_column) tile of each pixel: the one in which it is farthest from the edge; -1 for none."""
    owner, depth = np.full(shape, -1), np.zeros(shape)
    for index, (scan, (top, left)) in enumerate(zip(scans, corners, strict=True)):
        n_row, n_column, _ = scan.shape
        part = slice(top, top + n_row), slice(left, left + n_column)
        tile_depth = np.minimum.outer(_depth(n_row), _depth(n_column))
        tile_depth = tile_depth if scan.present is None else np.where(scan.present, tile_depth, 0.0)
        deeper = tile_depth > depth[part]
        owner[part] = np.where(deeper, index, owner[part])
        depth[part] = np.where(deeper, tile_depth, depth[part])
    return owner


def _depth(size: int) -> Array:
    return np.asarray(np.minimum(np.arange(size), np.arange(size)[::-1]) + 1.0)


def _rows(scans: Sequence[Scan], corners: NDArray[np.int64], owner: NDArray[np.int64], first: int) -> da.Array:
    owners = owner[first : first + _ROWS]
    dtype = np.result_type(*(scan.counts.dtype for scan in scans))
    shape = (*owners.shape, scans[0].shape[2])
    pieces = []
    for index in np.unique(owners[owners >= 0]).tolist():
        low = max(first - int(corners[index, 0]), 0)
        high = min(first + len(owners) - int(corners[index, 0]), scans[index].shape[0])
        place = (int(corners[index, 0]) + low - first, int(corners[index, 1]))
        pieces.append((index, place, scans[index].counts[low:high].rechunk(-1)))
    block = dask.delayed(_filled)(owners, shape, dtype, [index for index, _, _ in pieces], [at for _, at, _ in pieces],
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
    """Return the joined image; None if a tile has none."""
    images = [getattr(scan, name) for scan in scans]
    if any(image is None for image in images):
        return None
    joined = np.full(owner.shape, np.nan)
    for index, ((top, left), image) in enumerate(zip(corners, images, strict=True)):
        part = slice(top, top + image.shape[0]), slice(left, left + image.shape[1])
        joined[part] = np.where(owner[part] == index, image, joined[part])
    return joined


def positions_of(names: Sequence[str], positions: Mapping[str, tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the position of each tile by its path or file name.

    Raises
    ------
    ScanError
        A tile has none.
    """
    places = []
    for name in names:
        keys = (name, Path(name).name, Path(name).stem)
        position = next((positions[key] for key in keys if key in positions), None)
        if position is None:
            names_known = ", ".join(positions) or "none"
            raise ScanError(f"Cannot place the tile {name}: the table knows {names_known}. Add a row for it.")
        places.append(position)
    return places
