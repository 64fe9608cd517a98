"""Which pixels are asked about: one, or a region from a mask or a list; their spectra summed."""

import csv
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray

from underpaint.data import Scan, Spectrum
from underpaint.errors import ScanError

Mask = NDArray[np.bool_]
_MOST_COLOURS = 4
_BAND_BYTES = 32 * 2**20
"""Of the counts that are read at once."""
ALLOWED = (
    "A region is a mask as large as the scan (.npy, .png, .tif; what is not zero belongs to it) or a .csv with the "
    "row and column of a pixel on each line, counted from 0."
)


def read_pixel(text: str) -> tuple[int, int]:
    """Return row and column of "12,40".

    Raises
    ------
    ScanError
        It is not two whole numbers.
    """
    parts = text.split(",")
    try:
        row, column = (int(part) for part in parts)
    except ValueError as error:
        raise ScanError(
            f"Cannot read the pixel {text!r}: give row and column, counted from 0, as --pixel 12,40."
        ) from error
    return row, column


def pixel_mask(row: int, column: int, shape: tuple[int, int]) -> Mask:
    """Return the (n_row, n_column) region of a single pixel.

    Raises
    ------
    ScanError
        It lies outside the scan.
    """
    _check_inside(np.asarray([[row, column]]), shape, "the pixel")
    mask = np.zeros(shape, dtype=np.bool_)
    mask[row, column] = True
    return mask


def read_region(path: Path, shape: tuple[int, int]) -> Mask:
    """Read a region from a mask or a list of pixels.

    Parameters
    ----------
    path : Path
        A mask (.npy, .png, .tif, .tiff), or rows and columns (.csv).
    shape : (n_row, n_column)
        Of the scan.

    Raises
    ------
    ScanError
        The file cannot be read, has another size than the scan, or holds no pixel.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ScanError(f"Cannot read the region {path}: files that end in {path.suffix!r} are not known. {ALLOWED}")
    if not path.is_file():
        raise ScanError(f"Cannot read the region {path}: there is no such file.")
    try:
        mask = reader(path, shape)
    except ScanError:
        raise
    except Exception as error:  # the readers of three libraries share no base of their errors
        raise ScanError(f"Cannot read the region {path}: {error}. {ALLOWED}") from error
    if not mask.any():
        raise ScanError(f"Cannot use the region {path}: no pixel belongs to it. {ALLOWED}")
    return mask


def read_spot(pixel: str | None, region: Path | None, shape: tuple[int, int]) -> Mask:
    """Return the (n_row, n_column) mask of a pixel "12,40" or of a region's file.

    Raises
    ------
    ScanError
        None or both are given, or the one given cannot be used.
    """
    if pixel is not None and region is None:
        return pixel_mask(*read_pixel(pixel), shape)
    if region is not None and pixel is None:
        return read_region(region, shape)
    raise ScanError("Cannot tell which spectra to sum: give either --pixel ROW,COLUMN or --region FILE.")


def region_spectrum(scan: Scan, mask: Mask) -> Spectrum:
    """Return the sum of a region's spectra; only the rows and columns around it are read.

    Parameters
    ----------
    scan : Scan
    mask : (n_row, n_column) bool array

    Raises
    ------
    ScanError
        All pixels of the region are missing.
    """
    total, _ = region_counts(scan, mask)
    there = mask if scan.present is None else mask & scan.present
    rows, columns = np.nonzero(there)
    live, real = (_summed(times, there) for times in (scan.live_time_s, scan.real_time_s))
    number = int(there.sum())
    name = f"pixel ({rows[0]}, {columns[0]})" if number == 1 else f"region of {number} pixels"
    return Spectrum(total, scan.axis, live, real, f"{scan.name}, {name}")


def region_counts(scan: Scan, mask: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the (n_channel,) sum of a region's spectra and the largest counts of any of them in each channel.

    Parameters
    ----------
    scan : Scan
    mask : (n_row, n_column) bool array
        Missing pixels in it are left out.

    Raises
    ------
    ScanError
        All pixels of the region are missing.
    """
    inside = mask if scan.present is None else mask & scan.present
    if not inside.any():
        raise ScanError(f"Cannot sum the region: none of its {int(mask.sum())} pixels has a spectrum in {scan.name!r}.")
    rows, columns = (np.flatnonzero(inside.any(axis=axis)) for axis in (1, 0))
    across = slice(int(columns[0]), int(columns[-1]) + 1)
    step = max(1, _BAND_BYTES // ((across.stop - across.start) * scan.shape[2] * scan.counts.dtype.itemsize))
    total, highest = np.zeros(scan.shape[2]), np.zeros(scan.shape[2])
    for first in range(int(rows[0]), int(rows[-1]) + 1, step):
        down = slice(first, min(first + step, int(rows[-1]) + 1))
        if inside[down, across].any():
            spectra = scan.read(down, across)[inside[down, across]]
            total += spectra.sum(axis=0, dtype=np.float64)
            highest = np.maximum(highest, spectra.max(axis=0))
    return total, highest


def _summed(times: NDArray[np.float64] | None, there: Mask) -> float | None:
    return None if times is None or not np.isfinite(times[there]).all() else float(times[there].sum())


def _from_array(path: Path, shape: tuple[int, int]) -> Mask:
    values = np.load(path, mmap_mode="r", allow_pickle=False)
    _check_size(values.shape, shape, path)
    return _as_mask(values)


def _from_tiff(path: Path, shape: tuple[int, int]) -> Mask:
    with tifffile.TiffFile(path) as file:
        _check_size(file.series[0].shape, shape, path)
        return _as_mask(file.asarray())


def _from_png(path: Path, shape: tuple[int, int]) -> Mask:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # nothing is unpacked before its size is known
        with Image.open(path) as image:
            _check_size((image.height, image.width), shape, path)
            # transparency is no colour: a mask on a transparent ground would be all of it
            return _as_mask(np.asarray(image.convert("L")))


def _check_size(own: tuple[int, ...], shape: tuple[int, int], path: Path) -> None:
    """Refuse a mask of another size than the scan, before it is unpacked; colours may be a third dimension."""
    if own[:2] != shape or len(own) > 3 or own[2:] > (_MOST_COLOURS,):
        raise ScanError(
            f"Cannot use the region {path}: the mask has {' x '.join(map(str, own))} pixels, "
            f"the scan {shape[0]} rows x {shape[1]} columns. {ALLOWED}"
        )


def _as_mask(values: NDArray[np.generic]) -> Mask:
    if values.dtype.kind not in "biuf":
        raise ValueError(f"it holds {values.dtype}, and no numbers")
    own = values[..., :3].any(axis=-1) if values.ndim == 3 else values
    # NaN marks what lies outside, as in the maps that are written
    return np.asarray((own != 0) & ~np.isnan(own), dtype=np.bool_)


def _from_list(path: Path, shape: tuple[int, int]) -> Mask:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.reader(stream)
        lines = [(reader.line_num, line) for line in reader if any(cell.strip() for cell in line)]
    if lines and not any(cell.strip().lstrip("-")[:1].isdigit() for cell in lines[0][1][:2]):
        heads = [cell.strip().lower() for cell in lines[0][1][:2]]
        if heads[0].startswith(("col", "x")) or (heads[1:2] and heads[1].startswith("row")):
            raise ScanError(
                f"Cannot use the region {path}: its columns are {','.join(heads)!r}, and would be taken for row and "
                f"column. Put the row first. {ALLOWED}"
            )
        lines = lines[1:]
    mask = np.zeros(shape, dtype=np.bool_)
    if lines:
        pixels = np.asarray([_listed_pixel(line, number, path) for number, line in lines])
        _check_inside(pixels, shape, str(path))
        mask[tuple(pixels.T)] = True
    return mask


def _listed_pixel(line: list[str], number: int, path: Path) -> tuple[int, int]:
    """Return row and column of a line of a list; what stands after them is not read."""
    try:
        row, column = (int(cell) for cell in line[:2])
    except ValueError as error:
        raise ScanError(
            f"Cannot read the region {path}: line {number} is {','.join(line)!r}, not the row and column of a pixel as "
            f"two whole numbers. {ALLOWED}"
        ) from error
    return row, column


def _check_inside(pixels: NDArray[np.int64], shape: tuple[int, int], what: str) -> None:
    outside = pixels[((pixels < 0) | (pixels >= np.asarray(shape))).any(axis=1)]
    if len(outside):
        row, column = outside[0]
        raise ScanError(
            f"Cannot use {what}: there is no pixel ({row}, {column}); rows are 0 to {shape[0] - 1}, columns 0 to "
            f"{shape[1] - 1}."
        )


READERS: dict[str, Callable[[Path, tuple[int, int]], Mask]] = {
    ".npy": _from_array,
    ".png": _from_png,
    ".tif": _from_tiff,
    ".tiff": _from_tiff,
    ".csv": _from_list,
}
"""What reads a region, by ending."""
