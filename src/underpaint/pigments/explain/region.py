"""Selection of a pixel, or of a region given by a mask or list, and summation of its spectra."""

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
_MAX_COLOUR_CHANNELS = 4
_MAX_READ_BYTES = 32 * 2**20
"""Maximum size of the counts that are read at once, in bytes."""
ALLOWED_FORMATS = (
    "A region is a mask as large as the scan (.npy, .png, .tif; what is not zero belongs to it) or a .csv with the "
    "row and column of a pixel on each line, counted from 0."
)


def read_pixel(text: str) -> tuple[int, int]:
    """Return the row and column of a pixel from a text such as "12,40".

    Raises
    ------
    ScanError
        The text is not a pair of integers.
    """
    number_texts = text.split(",")
    try:
        row, column = (int(number_text) for number_text in number_texts)
    except ValueError as error:
        raise ScanError(
            f"Cannot read the pixel {text!r}: give row and column, counted from 0, as --pixel 12,40."
        ) from error
    return row, column


def pixel_mask(row: int, column: int, shape: tuple[int, int]) -> Mask:
    """Return the (n_row, n_column) mask of a single pixel.

    Raises
    ------
    ScanError
        The pixel is outside the scan.
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
        Mask (.npy, .png, .tif, .tiff), or list of rows and columns (.csv).
    shape : (n_row, n_column)
        Shape of the scan.

    Raises
    ------
    ScanError
        The file cannot be read, its size is not that of the scan, or it selects no pixel.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ScanError(
            f"Cannot read the region {path}: files that end in {path.suffix!r} are not supported. {ALLOWED_FORMATS}"
        )
    if not path.is_file():
        raise ScanError(f"Cannot read the region {path}: there is no such file.")
    try:
        mask = reader(path, shape)
    except ScanError:
        raise
    except Exception as error:  # the errors of the three libraries have no common base class
        raise ScanError(f"Cannot read the region {path}: {error}. {ALLOWED_FORMATS}") from error
    if not mask.any():
        raise ScanError(f"Cannot use the region {path}: no pixel belongs to it. {ALLOWED_FORMATS}")
    return mask


def read_spot(pixel: str | None, region: Path | None, shape: tuple[int, int]) -> Mask:
    """Return the (n_row, n_column) mask of a pixel such as "12,40", or of a region from a file.

    Raises
    ------
    ScanError
        Neither pixel nor region is given, both are given, or the selection cannot be used.
    """
    if pixel is not None and region is None:
        return pixel_mask(*read_pixel(pixel), shape)
    if region is not None and pixel is None:
        return read_region(region, shape)
    raise ScanError("Cannot tell which spectra to sum: give either --pixel ROW,COLUMN or --region FILE.")


def region_spectrum(scan: Scan, mask: Mask) -> Spectrum:
    """Return the sum spectrum of a region. Only the region's bounding box is read.

    Parameters
    ----------
    scan : Scan
    mask : (n_row, n_column) bool array

    Raises
    ------
    ScanError
        All pixels of the region are missing.
    """
    sum_spectrum, _ = region_counts(scan, mask)
    is_present = mask if scan.present is None else mask & scan.present
    rows, columns = np.nonzero(is_present)
    live_time_s, real_time_s = (_total_time(times, is_present) for times in (scan.live_time_s, scan.real_time_s))
    n_pixel = int(is_present.sum())
    region_name = f"pixel ({rows[0]}, {columns[0]})" if n_pixel == 1 else f"region of {n_pixel} pixels"
    return Spectrum(sum_spectrum, scan.axis, live_time_s, real_time_s, f"{scan.name}, {region_name}")


def region_counts(scan: Scan, mask: Mask) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the (n_channel,) sum spectrum and maximum spectrum of a region.

    Parameters
    ----------
    scan : Scan
    mask : (n_row, n_column) bool array
        Mask of the region. Missing pixels are ignored.

    Raises
    ------
    ScanError
        All pixels of the region are missing.
    """
    present_mask = mask if scan.present is None else mask & scan.present
    if not present_mask.any():
        raise ScanError(f"Cannot sum the region: none of its {int(mask.sum())} pixels has a spectrum in {scan.name!r}.")
    rows, columns = (np.flatnonzero(present_mask.any(axis=axis)) for axis in (1, 0))
    column_slice = slice(int(columns[0]), int(columns[-1]) + 1)
    n_row_at_once = max(
        1, _MAX_READ_BYTES // ((column_slice.stop - column_slice.start) * scan.shape[2] * scan.counts.dtype.itemsize)
    )
    sum_spectrum, maximum_spectrum = np.zeros(scan.shape[2]), np.zeros(scan.shape[2])
    for first_row in range(int(rows[0]), int(rows[-1]) + 1, n_row_at_once):
        row_slice = slice(first_row, min(first_row + n_row_at_once, int(rows[-1]) + 1))
        if present_mask[row_slice, column_slice].any():
            spectra = scan.read(row_slice, column_slice)[present_mask[row_slice, column_slice]]
            sum_spectrum += spectra.sum(axis=0, dtype=np.float64)
            maximum_spectrum = np.maximum(maximum_spectrum, spectra.max(axis=0))
    return sum_spectrum, maximum_spectrum


def _total_time(time_s: NDArray[np.float64] | None, is_present: Mask) -> float | None:
    return None if time_s is None or not np.isfinite(time_s[is_present]).all() else float(time_s[is_present].sum())


def _read_npy_mask(path: Path, shape: tuple[int, int]) -> Mask:
    mask_values = np.load(path, mmap_mode="r", allow_pickle=False)
    _check_size(mask_values.shape, shape, path)
    return _as_mask(mask_values)


def _read_tiff_mask(path: Path, shape: tuple[int, int]) -> Mask:
    with tifffile.TiffFile(path) as file:
        _check_size(file.series[0].shape, shape, path)
        return _as_mask(file.asarray())


def _read_png_mask(path: Path, shape: tuple[int, int]) -> Mask:
    from PIL import Image

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked before decompression
        with Image.open(path) as image:
            _check_size((image.height, image.width), shape, path)
            # transparency is ignored, since it would select all pixels of a mask on a transparent background
            return _as_mask(np.asarray(image.convert("L")))


def _check_size(mask_shape: tuple[int, ...], shape: tuple[int, int], path: Path) -> None:
    """Raise an error if the size of a mask is not that of the scan. A third dimension may contain colours."""
    if mask_shape[:2] != shape or len(mask_shape) > 3 or mask_shape[2:] > (_MAX_COLOUR_CHANNELS,):
        raise ScanError(
            f"Cannot use the region {path}: the mask has {' x '.join(map(str, mask_shape))} pixels, "
            f"the scan {shape[0]} rows x {shape[1]} columns. {ALLOWED_FORMATS}"
        )


def _as_mask(mask_values: NDArray[np.generic]) -> Mask:
    if mask_values.dtype.kind not in "biuf":
        raise ValueError(f"it contains {mask_values.dtype}, not numbers")
    is_selected = mask_values[..., :3].any(axis=-1) if mask_values.ndim == 3 else mask_values
    # pixels with NaN are outside the region, as in the maps of results
    return np.asarray((is_selected != 0) & ~np.isnan(is_selected), dtype=np.bool_)


def _read_pixel_list(path: Path, shape: tuple[int, int]) -> Mask:
    with path.open(newline="", encoding="utf-8-sig") as stream:
        reader = csv.reader(stream)
        lines = [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    if lines and not any(cell.strip().lstrip("-")[:1].isdigit() for cell in lines[0][1][:2]):
        headings = [cell.strip().lower() for cell in lines[0][1][:2]]
        if headings[0].startswith(("col", "x")) or (headings[1:2] and headings[1].startswith("row")):
            raise ScanError(
                f"Cannot use the region {path}: its columns are {','.join(headings)!r}, and would be taken for row and "
                f"column. Put the row first. {ALLOWED_FORMATS}"
            )
        lines = lines[1:]
    mask = np.zeros(shape, dtype=np.bool_)
    if lines:
        pixels = np.asarray([_parse_pixel_line(cells, line_number, path) for line_number, cells in lines])
        _check_inside(pixels, shape, str(path))
        mask[tuple(pixels.T)] = True
    return mask


def _parse_pixel_line(cells: list[str], line_number: int, path: Path) -> tuple[int, int]:
    """Return the row and column from a line of a list of pixels. Further cells are ignored."""
    try:
        row, column = (int(cell) for cell in cells[:2])
    except ValueError as error:
        raise ScanError(
            f"Cannot read the region {path}: line {line_number} is {','.join(cells)!r}, not the row and column of a "
            f"pixel as two integers. {ALLOWED_FORMATS}"
        ) from error
    return row, column


def _check_inside(pixels: NDArray[np.int64], shape: tuple[int, int], subject: str) -> None:
    pixels_outside = pixels[((pixels < 0) | (pixels >= np.asarray(shape))).any(axis=1)]
    if len(pixels_outside):
        row, column = pixels_outside[0]
        raise ScanError(
            f"Cannot use {subject}: there is no pixel ({row}, {column}); rows are 0 to {shape[0] - 1}, columns 0 to "
            f"{shape[1] - 1}."
        )


READERS: dict[str, Callable[[Path, tuple[int, int]], Mask]] = {
    ".npy": _read_npy_mask,
    ".png": _read_png_mask,
    ".tif": _read_tiff_mask,
    ".tiff": _read_tiff_mask,
    ".csv": _read_pixel_list,
}
"""Functions that read a region, by file extension."""
