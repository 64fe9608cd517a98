"""Joining of overlapping tiles to one scan, with stage positions corrected by registration of the overlaps."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan, survey
from underpaint.data.rebin import rebin_scan
from underpaint.errors import ScanError
from underpaint.repair._pictures import bands_between
from underpaint.runtime.untrusted import MAX_TABLE_BYTES, read_bounded

Array = NDArray[np.float64]

_MIN_OVERLAP_PIXELS = 8
"""Minimum numbers of rows and columns in an overlap that is registered."""
_N_BANDS = 8
_STAGE_SD_PIXELS = 2.0
"""Standard deviation of the stage positions, in pixels."""
_REGISTRATION_SD_PIXELS = 0.1
_MIN_CORRELATION = 0.3
_BLOCK_ROWS = 16
_MIN_FILLED_SHARE = 0.25
"""Minimum filled share of a mosaic, relative to a diagonal chain with the same number of tiles."""
_PIXEL_SIZE_TOLERANCE = 0.01


@dataclass(frozen=True)
class Tile:
    """A scan with the position of the stage at its first pixel.

    Parameters
    ----------
    scan : Scan
        Scan of the tile.
    row_mm, column_mm : float
        Position of the centre of pixel (0, 0), in mm. Positions increase downwards and to the right.
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
        Indices of the tiles.
    shift_pixels : (float, float)
        Deviation of the second tile from its stage position relative to the first tile, in rows (down) and columns
        (right).
    likeness : float
        Correlation of the two images after the shift, -1 to 1.
    used : bool
        Whether the shift was used to correct positions. Shifts with a low correlation and large shifts are not used.
    """

    first: int
    second: int
    shift_pixels: tuple[float, float]
    likeness: float
    used: bool


@dataclass(frozen=True)
class Mosaic:
    """A scan joined from tiles.

    Parameters
    ----------
    scan : Scan
        Scan of all tiles. Pixels outside all tiles are marked as missing.
    corner_pixels : (n_tile, 2) array
        Row and column in the mosaic of each tile's first pixel, not rounded.
    correction_pixels : (n_tile, 2) array
        Correction of the stage positions, in pixels.
    overlaps : tuple of Overlap
        All registered pairs of tiles.
    isolated_tiles : tuple of int
        Indices of tiles whose overlaps are too small to be registered.
    """

    scan: Scan
    corner_pixels: Array
    correction_pixels: Array
    overlaps: tuple[Overlap, ...]
    isolated_tiles: tuple[int, ...] = ()

    def as_record(self) -> dict[str, Any]:
        """Return a JSON-serialisable record."""
        return {
            "corner_pixels": self.corner_pixels.round(3).tolist(),
            "corrected_pixels": self.correction_pixels.round(3).tolist(),
            "overlaps": [vars(overlap) for overlap in self.overlaps],
            "apart": list(self.isolated_tiles),
        }


def read_positions(path: str | Path) -> dict[str, tuple[float, float]]:
    """Read stage positions from a CSV table with the columns tile, row_mm and column_mm.

    Returns
    -------
    dict
        Position (row_mm, column_mm) of the first pixel of each tile, by the name in the table.

    Raises
    ------
    ScanError
        The file cannot be read, a column is missing, a position is not a number, or a tile is listed twice.
    """
    positions: dict[str, tuple[float, float]] = {}
    try:
        csv_text = read_bounded(Path(path), MAX_TABLE_BYTES, ScanError).decode("utf-8")
        for csv_row in csv.DictReader(io.StringIO(csv_text, newline="")):
            tile_name, position = csv_row["tile"].strip(), (float(csv_row["row_mm"]), float(csv_row["column_mm"]))
            if tile_name in positions or not np.isfinite(position).all():
                raise ScanError(
                    f"Cannot use {path}: the tile {tile_name!r} is listed twice, or its position is {position} mm."
                )
            positions[tile_name] = position
    except (KeyError, TypeError, ValueError, AttributeError, csv.Error) as error:
        if isinstance(error, ScanError):
            raise
        raise ScanError(
            f"Cannot read positions from {path}: {error}. A CSV table tile,row_mm,column_mm is needed."
        ) from error
    return positions


def join_tiles(tiles: Sequence[Tile], *, register: bool = True, max_pixels: float = 5.0) -> Mosaic:
    """Join overlapping tiles to one scan.

    Parameters
    ----------
    tiles : sequence of Tile
        Two or more tiles that all have the same pixel size. Tiles with another energy axis are rebinned to that of the
        first tile.
    register : bool
        Correct the positions of tiles that overlap by at least 8 rows and columns. The shift of each pair maximises the
        correlation. The positions are a least-squares fit to these shifts and, with less weight, to the stage
        positions.
    max_pixels : float
        Maximum correction of the positions of a pair, in pixels. Pairs with a larger correction are ignored.

    Returns
    -------
    Mosaic
        Mosaic, whose scan is computed only when it is read. Positions are rounded to whole pixels. Each pixel of an
        overlap is taken from the tile in which it is farthest from the edge. Counts are neither changed nor added.

    Raises
    ------
    ScanError
        There are fewer than two tiles, or tiles are too far apart. Pixel sizes differ or are unknown. Channels differ,
        and a tile has no energy axis.

    Notes
    -----
    The correlation at each shift is computed from the overlapping pixels of images in energy bands. Phase correlation
    is not used, because its tapered images cause a bias towards zero shift for narrow overlaps.
    """
    pixel_size_mm = _common_pixel_size(tiles)
    scans = _rebin_to_first_axis([tile.scan for tile in tiles])
    stage_positions = np.array([[tile.row_mm / pixel_size_mm[0], tile.column_mm / pixel_size_mm[1]] for tile in tiles])
    stage_positions -= stage_positions.min(axis=0)
    tile_sizes = np.array([scan.shape[:2] for scan in scans])
    _check_distances(stage_positions, tile_sizes, pixel_size_mm)
    overlaps = _compare_tiles(scans, stage_positions, max_pixels) if register else ()
    positions = _fit_positions(stage_positions, overlaps)
    corners = _round_positions(positions)
    rounded_corners = np.rint(corners).astype(np.int64)
    mosaic_scan = _assemble_scan(scans, rounded_corners)
    corrections = positions - stage_positions
    corrections -= corrections.mean(axis=0)
    return Mosaic(
        mosaic_scan.replace(step_mm=pixel_size_mm),
        corners,
        corrections,
        overlaps,
        _isolated_tiles(rounded_corners, tile_sizes),
    )


def _round_positions(positions: Array) -> Array:
    """Return positions with a common offset that minimises the effect of rounding on their distances.

    The first row and the first column become 0. Without the offset, two tiles at row 0.5 could be rounded to different
    rows.
    """
    mean_phase = np.exp(2j * np.pi * positions).mean(axis=0)
    shifted_positions = positions - np.angle(mean_phase) / (2.0 * np.pi)
    return np.asarray(shifted_positions - np.rint(shifted_positions).min(axis=0))


def _check_distances(stage_positions: Array, tile_sizes: NDArray[np.int64], pixel_size_mm: tuple[float, float]) -> None:
    n_row, n_column = np.ceil((stage_positions + tile_sizes).max(axis=0))
    filled_share = float(tile_sizes.prod(axis=1).sum() / (n_row * n_column))
    if filled_share >= _MIN_FILLED_SHARE / len(tile_sizes):
        return
    raise ScanError(
        f"Cannot join tiles that fill {filled_share:.2g} of {n_row:.0f} x {n_column:.0f} pixels: their positions are "
        f"up to {(stage_positions.max(axis=0) * pixel_size_mm).max():g} mm apart. Check that the "
        f"positions and the pixel size ({pixel_size_mm[0]:g} x {pixel_size_mm[1]:g} mm) are in mm."
    )


def _isolated_tiles(corners: NDArray[np.int64], tile_sizes: NDArray[np.int64]) -> tuple[int, ...]:
    start = np.maximum(corners[:, None], corners[None])
    stop = np.minimum((corners + tile_sizes)[:, None], (corners + tile_sizes)[None])
    is_overlapping = ((stop - start) >= _MIN_OVERLAP_PIXELS).all(axis=2) & ~np.eye(len(tile_sizes), dtype=bool)
    return tuple(np.flatnonzero(~is_overlapping.any(axis=1)).tolist())


def _common_pixel_size(tiles: Sequence[Tile]) -> tuple[float, float]:
    if len(tiles) < 2:
        raise ScanError(f"Cannot join {len(tiles)} tile; give two or more.")
    pixel_sizes = [tile.scan.step_mm for tile in tiles]
    first_pixel_size = pixel_sizes[0]
    if first_pixel_size is None or any(
        pixel_size is None or not np.allclose(pixel_size, first_pixel_size, rtol=_PIXEL_SIZE_TOLERANCE)
        for pixel_size in pixel_sizes
    ):
        size_texts = ", ".join(f"{tile.scan.name}: {tile.scan.step_mm or 'unknown'}" for tile in tiles)
        raise ScanError(
            f"Cannot join tiles of different or unknown pixel size, mm ({size_texts}). Give the size with --step-mm."
        )
    if not (np.isfinite(first_pixel_size).all() and min(first_pixel_size) > 0):
        raise ScanError(
            f"Cannot join tiles with pixels of {first_pixel_size[0]:g} x {first_pixel_size[1]:g} mm. Give a "
            "size above 0 with --step-mm."
        )
    return first_pixel_size


def _rebin_to_first_axis(scans: Sequence[Scan]) -> list[Scan]:
    first_scan = scans[0]
    if all(scan.shape[2] == first_scan.shape[2] and scan.axis == first_scan.axis for scan in scans):
        return list(scans)
    return [rebin_scan(scan, first_scan.require_axis()) for scan in scans]


# --- positions of the tiles ------------------------------------------------------------------------


def _compare_tiles(scans: Sequence[Scan], stage_positions: Array, max_pixels: float) -> tuple[Overlap, ...]:
    sum_spectrum = sum(survey(scan).total for scan in scans)
    cumulative_counts = np.cumsum(sum_spectrum)
    inner_edges = np.searchsorted(cumulative_counts, np.linspace(0.0, cumulative_counts[-1], _N_BANDS + 1)[1:-1])
    edge_channels = np.unique(np.concatenate([[0], inner_edges, [cumulative_counts.size]]))
    images = [np.sqrt(bands_between(scan, edge_channels)) for scan in scans]
    overlaps = []
    for first_tile, second_tile in combinations(range(len(scans)), 2):
        overlap = _overlap(images, stage_positions, (first_tile, second_tile), max_pixels)
        if overlap is not None:
            overlaps.append(overlap)
    return tuple(overlaps)


def _overlap(
    images: Sequence[Array], stage_positions: Array, tile_pair: tuple[int, int], max_pixels: float
) -> Overlap | None:
    """Return the registration of the second tile of a pair relative to the first, or None for a small overlap."""
    first_tile, second_tile = tile_pair
    stage_distance = stage_positions[second_tile] - stage_positions[first_tile]
    rounded_distance = np.rint(stage_distance).astype(np.int64)
    if min(_common_part(images[first_tile], images[second_tile], rounded_distance)[0].shape[1:]) < _MIN_OVERLAP_PIXELS:
        return None
    max_trial_shift = int(np.ceil(max_pixels)) + 1
    trial_shifts = np.arange(-max_trial_shift, max_trial_shift + 1)
    correlations = np.asarray(
        [
            [
                _correlation_at(
                    images[first_tile], images[second_tile], rounded_distance + np.array([row_shift, column_shift])
                )
                for column_shift in trial_shifts
            ]
            for row_shift in trial_shifts
        ]
    )
    best_index = np.unravel_index(int(np.argmax(correlations)), correlations.shape)
    best_shift = [
        trial_shifts[best_index[axis]]
        + _parabola_offset(np.take(correlations, best_index[1 - axis], axis=1 - axis), best_index[axis])
        for axis in (0, 1)
    ]
    correction = rounded_distance + best_shift - stage_distance
    correlation = float(correlations[best_index])
    is_used = bool(correlation > _MIN_CORRELATION and np.abs(correction).max() <= max_pixels)
    return Overlap(
        first_tile, second_tile, (float(correction[0]), float(correction[1])), max(correlation, -1.0), used=is_used
    )


def _correlation_at(first_image: Array, second_image: Array, offset: NDArray[np.int64]) -> float:
    """Return the correlation of two overlapping images at an offset, or -2 for a small overlap."""
    first_part, second_part = _common_part(first_image, second_image, offset)
    return _correlation(first_part, second_part) if min(first_part.shape[1:]) >= _MIN_OVERLAP_PIXELS // 2 else -2.0


def _parabola_offset(correlations: Array, best_index: np.intp) -> float:
    """Return the distance from the largest of equally spaced correlations to the maximum of a fitted parabola."""
    if not 0 < best_index < correlations.size - 1:
        return 0.0
    left_correlation, best_correlation, right_correlation = correlations[best_index - 1 : best_index + 2]
    correlation_curvature = left_correlation - 2.0 * best_correlation + right_correlation
    return (
        float(0.5 * (left_correlation - right_correlation) / correlation_curvature)
        if correlation_curvature < 0
        else 0.0
    )


def _common_part(first_image: Array, second_image: Array, offset: NDArray[np.int64]) -> tuple[Array, Array]:
    """Return the overlapping, possibly empty parts of two images at an offset in rows and columns."""
    start = np.maximum(offset, 0)
    stop = np.minimum(first_image.shape[1:], offset + np.asarray(second_image.shape[1:]))
    stop = np.maximum(stop, start)
    first_part = first_image[:, start[0] : stop[0], start[1] : stop[1]]
    second_part = second_image[
        :, start[0] - offset[0] : stop[0] - offset[0], start[1] - offset[1] : stop[1] - offset[1]
    ]
    return first_part, second_part


def _correlation(first_image: Array, second_image: Array) -> float:
    centred_images = [image - image.mean(axis=(1, 2), keepdims=True) for image in (first_image, second_image)]
    norm = float(np.sqrt((centred_images[0] ** 2).sum() * (centred_images[1] ** 2).sum()))
    return float((centred_images[0] * centred_images[1]).sum()) / norm if norm > 0 else 0.0


def _fit_positions(stage_positions: Array, overlaps: Sequence[Overlap]) -> Array:
    """Return the positions, in pixels, that fit the stage positions and all registered shifts best."""
    n_tile = len(stage_positions)
    equations = [np.eye(n_tile) / _STAGE_SD_PIXELS]
    target_shifts = [np.zeros((n_tile, 2))]
    for overlap in overlaps:
        if overlap.used:
            equation = np.zeros((1, n_tile))
            equation[0, overlap.second], equation[0, overlap.first] = 1.0, -1.0
            equations.append(equation / _REGISTRATION_SD_PIXELS)
            target_shifts.append(np.asarray(overlap.shift_pixels)[None] / _REGISTRATION_SD_PIXELS)
    corrections = np.linalg.lstsq(np.concatenate(equations), np.concatenate(target_shifts), rcond=None)[0]
    return np.asarray(stage_positions + corrections)


# --- assembly of the scan --------------------------------------------------------------------------


def _assemble_scan(scans: Sequence[Scan], corners: NDArray[np.int64]) -> Scan:
    n_row, n_column = (int((corners[:, axis] + [scan.shape[axis] for scan in scans]).max()) for axis in (0, 1))
    tile_index = _tile_of_pixels(scans, corners, (n_row, n_column))
    from underpaint.data.dask_array import da

    counts = da.concatenate(
        [_assemble_rows(scans, corners, tile_index, first_row) for first_row in range(0, n_row, _BLOCK_ROWS)], axis=0
    )
    joined_fields: dict[str, Any] = {
        field_name: _joined_image(scans, corners, tile_index, field_name)
        for field_name in ("live_time_s", "real_time_s")
    }
    is_covered = tile_index >= 0
    return Scan(
        counts,
        axis=scans[0].axis,
        name=f"{scans[0].name}_mosaic",
        source=" + ".join(scan.source or scan.name for scan in scans),
        format=scans[0].format,
        detector=scans[0].detector,
        present=None if is_covered.all() else is_covered,
        notes=(*dict.fromkeys(note for scan in scans for note in scan.notes), f"{len(scans)} tiles joined"),
        **joined_fields,
    )


def _tile_of_pixels(scans: Sequence[Scan], corners: NDArray[np.int64], shape: tuple[int, int]) -> NDArray[np.int64]:
    """Return the (n_row, n_column) index of the tile in which each pixel is farthest from the edge, or -1."""
    tile_index, largest_distance = np.full(shape, -1), np.zeros(shape)
    for tile_number, (scan, (top_row, left_column)) in enumerate(zip(scans, corners, strict=True)):
        n_row, n_column, _ = scan.shape
        tile_slices = slice(top_row, top_row + n_row), slice(left_column, left_column + n_column)
        tile_distance = np.minimum.outer(_edge_distance(n_row), _edge_distance(n_column))
        tile_distance = tile_distance if scan.present is None else np.where(scan.present, tile_distance, 0.0)
        is_farther = tile_distance > largest_distance[tile_slices]
        tile_index[tile_slices] = np.where(is_farther, tile_number, tile_index[tile_slices])
        largest_distance[tile_slices] = np.where(is_farther, tile_distance, largest_distance[tile_slices])
    return tile_index


def _edge_distance(size: int) -> Array:
    return np.asarray(np.minimum(np.arange(size), np.arange(size)[::-1]) + 1.0)


def _assemble_rows(
    scans: Sequence[Scan], corners: NDArray[np.int64], tile_index: NDArray[np.int64], first_row: int
) -> Any:
    tile_of_pixel = tile_index[first_row : first_row + _BLOCK_ROWS]
    dtype = np.result_type(*(scan.counts.dtype for scan in scans))
    shape = (*tile_of_pixel.shape, scans[0].shape[2])
    tile_parts = []
    for tile_number in np.unique(tile_of_pixel[tile_of_pixel >= 0]).tolist():
        start = max(first_row - int(corners[tile_number, 0]), 0)
        stop = min(first_row + len(tile_of_pixel) - int(corners[tile_number, 0]), scans[tile_number].shape[0])
        block_position = (int(corners[tile_number, 0]) + start - first_row, int(corners[tile_number, 1]))
        tile_parts.append((tile_number, block_position, scans[tile_number].counts[start:stop].rechunk(-1)))
    import dask

    from underpaint.data.dask_array import da

    block = dask.delayed(_fill_block)(
        tile_of_pixel,
        shape,
        dtype,
        [tile_number for tile_number, _, _ in tile_parts],
        [part_position for _, part_position, _ in tile_parts],
        [counts for _, _, counts in tile_parts],
    )
    return da.from_delayed(block, shape, dtype)


def _fill_block(
    tile_index: NDArray[np.int64], shape: tuple[int, int, int], dtype: np.dtype[Any], tile_numbers: Sequence[int],
    positions: Sequence[tuple[int, int]], part_counts: Sequence[NDArray[Any]],
) -> NDArray[Any]:  # fmt: skip
    mosaic_block = np.zeros(shape, dtype)
    for tile_number, (row, column), tile_counts in zip(tile_numbers, positions, part_counts, strict=True):
        part_slices = slice(row, row + tile_counts.shape[0]), slice(column, column + tile_counts.shape[1])
        is_tile = tile_index[part_slices] == tile_number
        mosaic_block[part_slices][is_tile] = tile_counts[is_tile]
    return mosaic_block


def _joined_image(
    scans: Sequence[Scan], corners: NDArray[np.int64], tile_index: NDArray[np.int64], field_name: str
) -> Array | None:
    """Return the joined image of a field of the tiles, such as the live time, or None if a tile lacks it."""
    images = [getattr(scan, field_name) for scan in scans]
    if any(image is None for image in images):
        return None
    mosaic_image = np.full(tile_index.shape, np.nan)
    for tile_number, ((top_row, left_column), image) in enumerate(zip(corners, images, strict=True)):
        tile_slices = slice(top_row, top_row + image.shape[0]), slice(left_column, left_column + image.shape[1])
        mosaic_image[tile_slices] = np.where(tile_index[tile_slices] == tile_number, image, mosaic_image[tile_slices])
    return mosaic_image


def positions_of(names: Sequence[str], positions: Mapping[str, tuple[float, float]]) -> list[tuple[float, float]]:
    """Return the position of each tile by its path or file name.

    Raises
    ------
    ScanError
        A tile has no position.
    """
    tile_positions = []
    for tile_name in names:
        name_variants = (tile_name, Path(tile_name).name, Path(tile_name).stem)
        tile_position = next(
            (positions[name_variant] for name_variant in name_variants if name_variant in positions), None
        )
        if tile_position is None:
            known_names = ", ".join(positions) or "none"
            raise ScanError(
                f"Cannot place the tile {tile_name}: the table has only {known_names}. Add a row for this tile."
            )
        tile_positions.append(tile_position)
    return tile_positions
