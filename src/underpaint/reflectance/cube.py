"""Open a spectral cube as reflectance: apply the references and the scale, and exclude faulty bands and values.

If a file does not state its scale, the scale is inferred from a sample of the pixels, and stated in a note. A cube with
an ambiguous scale is refused.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.io._source import MappedCube, MemoryCube
from underpaint.io.cubes import StoredCube, open_cube

MIN_BANDS = 6
BLOCK_BYTES = 32 * 2**20
"""Size of one block of 32-bit floats, in bytes."""
_COMPRESSED_BLOCK_FACTOR = 8
"""Factor by which blocks of compressed cubes are larger than other blocks. A chunk is decompressed again for each block
that overlaps it, so large blocks save time."""
_MAX_SAMPLED_BYTES = 48 * 2**20
_MAX_SAMPLE_ROWS = 32
MAX_REFLECTANCE = 1.6
"""Maximum valid reflectance. Higher reflectance is caused by gloss or errors, and becomes NaN."""
MIN_REFLECTANCE = 1e-4
"""Lower limit to which reflectance is clipped, so that its logarithm exists."""
_MIN_NOISE_REFLECTANCE = -0.2
"""Minimum valid reflectance. Lower reflectance becomes NaN, but slightly negative reflectance is noise."""
_SCALE_LIMITS = ((1.6, 1.0), (160.0, 100.0), (1600.0, None), (16000.0, 10000.0))
"""Pairs: the upper limit of the stored values, and the scale assumed below this limit (None if ambiguous)."""
_SATURATION_VALUES = (255, 1023, 4095, 16383, 65535)
"""Largest stored values of cameras with 8, 10, 12, 14 and 16 bits."""
_MIN_SATURATED_FRACTION = 1e-4
"""The camera is considered saturated if at least this fraction of the values equals its largest stored value."""
_MAX_MISSING_PIXEL_FRACTION = 0.5
"""A band is excluded if a larger fraction of its pixels is missing."""
_MAX_LAMP_FLATNESS = 0.15
"""Bright pixels are considered to show the spectrum of a lamp if the darkest band is at most this fraction of the
brightest."""
_MAX_ROUGHNESS_RATIO = 3.0
"""The byte order is considered wrong if swapping the bytes reduces the roughness of the spectra by more than this
factor."""
_LAMP_RANGE_NM = (450.0, 900.0)
_WAVELENGTH_TOLERANCE_NM = 1.0
_VISIBLE_CENTRES_NM = (("red", 610.0), ("green", 550.0), ("blue", 465.0))
_VISIBLE_HALF_WIDTH_NM = 20.0
_N_OVERVIEW_CHANNELS = 12
OVERVIEW_SIDE = 640
"""Length of the longer side of the overview picture, in pixels."""


@dataclass(frozen=True)
class ReflectanceCube:
    """Reflectance of each pixel, read from the file block by block.

    Parameters
    ----------
    stored_cube : StoredCube
    bands : (n_band,) array of int
        Indices of the stored bands that are used, in the order of their wavelengths.
    wavelength_nm : (n_band,) array
        Wavelengths of these bands, increasing.
    scale : float
        Stored value of a reflectance of 1. The scale is 1 if there is a white reference.
    white, dark : Reference or None
        White and dark reference; None if there is none.
    saturation : float or None
        Stored value at which the camera is saturated; None if no value is saturated.
    notes : tuple of str
        Notes on assumptions, and on excluded bands and values.
    """

    stored_cube: StoredCube
    bands: NDArray[np.intp]
    wavelength_nm: NDArray[np.float64]
    scale: float = 1.0
    white: "Reference | None" = None
    dark: "Reference | None" = None
    saturation: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Numbers of rows, columns and used bands."""
        return (*self.stored_cube.shape[:2], self.bands.size)

    @property
    def block_bytes(self) -> int:
        """Size of one block, in bytes."""
        return BLOCK_BYTES if isinstance(self.stored_cube.cube, MappedCube) else _COMPRESSED_BLOCK_FACTOR * BLOCK_BYTES

    def read(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Return the (row, column, band) reflectance of a rectangle of pixels; NaN where no value is valid."""
        stored_values = self.stored_cube.cube.read(rows, columns)[:, :, self.bands]
        reflectance = stored_values.astype(np.float32)
        if self.stored_cube.missing is not None:
            reflectance[stored_values == self.stored_cube.missing] = np.nan
        if self.saturation is not None:
            reflectance[stored_values >= self.saturation] = np.nan
        # pixels that are zero in all bands are margins of rectified or stitched images
        reflectance[(stored_values == 0).all(axis=2)] = np.nan
        if self.white is not None:
            white_values = self.white.part(rows, columns)[:, :, self.bands]
            dark_values = np.float32(0) if self.dark is None else self.dark.part(rows, columns)[:, :, self.bands]
            with np.errstate(divide="ignore", invalid="ignore"):
                reflectance = (reflectance - dark_values) / (white_values - dark_values)
        elif self.scale != 1.0:
            reflectance /= np.float32(self.scale)
        with np.errstate(invalid="ignore"):
            reflectance[
                (reflectance > MAX_REFLECTANCE) | (reflectance < _MIN_NOISE_REFLECTANCE) | ~np.isfinite(reflectance)
            ] = np.nan
        return np.maximum(reflectance, np.float32(MIN_REFLECTANCE))


class Reference:
    """A white or dark reference: one spectrum per pixel, per column of a line scanner, or for all pixels."""

    def __init__(self, reference_cube: StoredCube, cube: StoredCube, reference_kind: str) -> None:
        n_row, n_column = cube.shape[:2]
        _check_reference(reference_cube, cube, reference_kind)
        reference_shape = reference_cube.shape[:2]
        self.stored_cube = reference_cube
        self.values: NDArray[np.float32] | None = None
        if reference_shape == (n_row, n_column) and min(reference_shape) > 1:
            self.note = f"{reference_kind} reference {reference_cube.source}: one spectrum per pixel"
        elif reference_shape[1] == n_column:
            self.values = _mean_over_rows(reference_cube)
            self.note = f"{reference_kind} reference {reference_cube.source}: mean of {reference_shape[0]} lines"
        elif reference_shape == (1, 1):
            self.values = _mean_over_rows(reference_cube)
            self.note = f"{reference_kind} reference {reference_cube.source}: one spectrum"
        else:
            raise ScanError(
                f"Cannot use the {reference_kind} reference {reference_cube.source}: it has {reference_shape[0]} rows "
                f"and {reference_shape[1]} columns, the cube {n_row} and {n_column}. A reference has as many columns "
                "as the cube, or is a single spectrum. Give a reference of the same camera and binning."
            )

    def part(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Return the reference for a rectangle of pixels, (1 or n_row, 1 or n_column, n_band)."""
        if self.values is None:
            return np.asarray(self.stored_cube.cube.read(rows, columns), dtype=np.float32)
        return self.values[:, columns] if self.values.shape[1] > 1 else self.values


def open_reflectance(
    location: str | Path,
    *,
    white: str | Path | None = None,
    dark: str | Path | None = None,
    scale: float | None = None,
) -> ReflectanceCube:
    """Open a cube as reflectance.

    Parameters
    ----------
    location : str or Path
        File in a format that :func:`underpaint.io.cubes.open_cube` reads.
    white, dark : str, Path or None
        References recorded by the same camera: frames, which are averaged along the scan direction, or one spectrum.
        The white reference is assumed to have a reflectance of 1. Without references, the cube must contain
        reflectance.
    scale : float or None
        Stored value of a reflectance of 1. If None, the scale is read from the file, or inferred from the values and
        stated in a note.

    Raises
    ------
    ScanError
        The cube or a reference cannot be read, or the cube contains no wavelengths or no reflectance.
    """
    stored_cube = open_cube(location)
    wavelength_nm = stored_cube.wavelength_nm
    if wavelength_nm is None:
        raise ScanError(
            f"Cannot use {location}: it states no wavelengths for its {stored_cube.shape[2]} bands. Put a text file "
            "called wavelengths.txt with one wavelength per line (nm or um) beside the cube."
        )
    n_row, n_column, n_band = stored_cube.shape
    is_compressed = not isinstance(stored_cube.cube, MappedCube)
    n_byte = n_row * n_column * n_band * np.dtype(stored_cube.cube.dtype).itemsize
    if is_compressed and n_byte <= _COMPRESSED_BLOCK_FACTOR * BLOCK_BYTES:
        stored_cube = replace(stored_cube, cube=MemoryCube(stored_cube.cube.read(slice(0, n_row), slice(0, n_column))))
    if dark is not None and white is None:
        raise ScanError(f"Cannot use the dark reference {dark} without a white reference. Add --white FILE.")
    if scale is not None and not (np.isfinite(scale) and scale > 0):
        raise ScanError(
            f"Cannot divide the values of {location} by {scale:g}: the stored value of a reflectance of 1 must be "
            "above 0. Correct --scale, or omit it."
        )
    sample = _sample_rows(stored_cube)
    _check_number_format(sample, stored_cube)
    sample_values = sample.astype(np.float32)
    if stored_cube.missing is not None:
        sample_values[sample == stored_cube.missing] = np.nan
    references = {
        reference_kind: None
        if reference_path is None
        else Reference(open_cube(reference_path, stored_cube.shape[2]), stored_cube, reference_kind)
        for reference_kind, reference_path in (("white", white), ("dark", dark))
    }
    saturation = _saturation_value(sample)
    notes = [*stored_cube.notes, *(reference.note for reference in references.values() if reference is not None)]
    divisor = 1.0
    if references["white"] is None:
        divisor, note = _reflectance_scale(sample_values, stored_cube, scale, saturation)
        notes += note
        sample_values[sample_values > MAX_REFLECTANCE * divisor] = np.nan
        saturation = None
    else:
        if references["dark"] is None:
            notes.append("no dark reference: a dark signal of 0 is assumed; if this is wrong, give --dark")
        if saturation is not None:
            sample_values[sample >= saturation] = np.nan
            notes.append(f"values of {saturation:g} are saturated and excluded")
    is_unusable = _bad_bands(sample_values, stored_cube, references["white"], references["dark"], saturation, notes)
    band_order = np.argsort(wavelength_nm, kind="stable")
    if not (np.diff(wavelength_nm) > 0).all():
        notes.append("the bands are sorted by their wavelengths")
    bands = band_order[~is_unusable[band_order]]
    repeated_bands = np.flatnonzero(np.diff(wavelength_nm[bands]) <= 0) + 1
    if repeated_bands.size:
        notes.append(f"bands excluded because another band has the same wavelength: {repeated_bands.size}")
        bands = np.delete(bands, repeated_bands)
    if bands.size < MIN_BANDS:
        raise ScanError(
            f"Cannot use {location}: {bands.size} of its {stored_cube.shape[2]} bands are usable; {MIN_BANDS} are "
            f"needed ({'; '.join(notes[-3:]) or 'no band is left out'}). Record the cube again with less light, or "
            "give a cube with more bands."
        )
    cube = ReflectanceCube(
        stored_cube, bands, wavelength_nm[bands], divisor, references["white"], references["dark"], saturation,
        tuple(dict.fromkeys(notes)),
    )  # fmt: skip
    _check_reflectance_range(cube)
    return cube


def _sample_rows(stored_cube: StoredCube) -> NDArray[Any]:
    """Return the (n, n_band) stored spectra of evenly spaced rows of the cube."""
    n_row, n_column, n_band = stored_cube.shape
    row_bytes = n_column * n_band * np.dtype(stored_cube.cube.dtype).itemsize
    n_sampled_row = int(np.clip(_MAX_SAMPLED_BYTES // row_bytes, 1, min(n_row, _MAX_SAMPLE_ROWS)))
    rows = np.unique(((np.arange(n_sampled_row) + 0.5) * n_row / n_sampled_row).astype(int))
    sampled_rows = [stored_cube.cube.read(slice(row, row + 1), slice(0, n_column))[0] for row in rows.tolist()]
    pixel_step = max(1, len(sampled_rows) * n_column // 8192)
    return np.concatenate(sampled_rows)[::pixel_step]


def _check_number_format(sample: NDArray[Any], stored_cube: StoredCube) -> None:
    """Check that the stored values are consistent with the data type and byte order in the header.

    Raises
    ------
    ScanError
        The values show that the data type or the byte order is wrong.
    """
    dtype = sample.dtype
    advice = "Correct 'byte order' or 'data type' in its header, or export it again."
    if dtype.kind == "f":
        magnitudes = np.abs(sample[np.isfinite(sample) & (sample != 0)]).astype(np.float64)
        if np.isfinite(sample).mean() < 0.01:
            raise ScanError(f"Cannot use {stored_cube.source}: fewer than 1 % of its values are numbers. {advice}")
        if magnitudes.size and (np.percentile(magnitudes, 95) > 1e7 or np.median(magnitudes) < 1e-12):
            raise ScanError(
                f"Cannot use {stored_cube.source}: its values run from {magnitudes.min():.2g} to "
                f"{magnitudes.max():.2g}, which neither reflectance nor counts do. {advice}"
            )
        return
    if dtype.kind == "i" and (sample < -0.05 * sample.max(initial=1)).mean() > 0.01:
        valid_values = sample if stored_cube.missing is None else sample[sample != stored_cube.missing]
        if valid_values.size and (valid_values < -0.05 * valid_values.max(initial=1)).mean() > 0.01:
            raise ScanError(
                f"Cannot use {stored_cube.source}: {(valid_values < 0).mean():.0%} of its values are negative, down to "
                f"{valid_values.min()}, which counts and reflectance are not. The values are probably unsigned "
                f"integers. {advice}"
            )
    if dtype.itemsize > 1 and _spectral_roughness(sample) > _MAX_ROUGHNESS_RATIO * _spectral_roughness(
        sample.byteswap()
    ):
        raise ScanError(
            f"Cannot use {stored_cube.source}: its spectra look like noise, but become smooth when the byte order is "
            f"reversed, so the stated byte order is probably wrong. {advice}"
        )


def _spectral_roughness(sample: NDArray[Any]) -> float:
    """Return the mean absolute difference of neighbouring bands, divided by the standard deviation of all values."""
    sample_values = sample.astype(np.float64)
    standard_deviation = sample_values.std()
    return float(np.abs(np.diff(sample_values, axis=1)).mean() / standard_deviation) if standard_deviation > 0 else 0.0


def _saturation_value(sample: NDArray[Any]) -> float | None:
    """Return the stored value at which the camera was saturated; None if no value is saturated."""
    max_value = sample.max() if sample.dtype.kind in "ui" else 0
    return (
        float(max_value)
        if int(max_value) in _SATURATION_VALUES and (sample == max_value).mean() >= _MIN_SATURATED_FRACTION
        else None
    )


def _reflectance_scale(
    sample_values: NDArray[np.float32], stored_cube: StoredCube, scale: float | None, saturation: float | None
) -> tuple[float, list[str]]:
    """Return the stored value of a reflectance of 1, and notes on the assumptions made.

    Raises
    ------
    ScanError
        The scale is ambiguous, or the values are counts of a camera.
    """
    if scale is not None:
        return scale, [f"the stored values are divided by {scale:g} (--scale)"]
    band_maxima = np.percentile(np.nan_to_num(sample_values, posinf=0, neginf=0), 99.5, axis=0)
    # a few faulty bands do not change the median over the bands
    typical_maximum = float(np.median(band_maxima[band_maxima > 0])) if (band_maxima > 0).any() else 0.0
    if typical_maximum <= 0:
        raise ScanError(f"Cannot use {stored_cube.source}: none of its values is above 0. Check the path.")
    if stored_cube.scale and 0.02 <= typical_maximum / stored_cube.scale <= MAX_REFLECTANCE:
        return stored_cube.scale, []
    assumed_scale = next(
        (candidate_scale for max_value, candidate_scale in _SCALE_LIMITS if typical_maximum <= max_value), None
    )
    is_integer = np.dtype(stored_cube.cube.dtype).kind in "ui"
    if (
        assumed_scale is None
        or (is_integer and assumed_scale == 1.0)
        or saturation is not None
        or (assumed_scale > 100 and _shows_lamp_spectrum(sample_values, stored_cube))
    ):
        max_value_text = (
            f"{saturation:g}, where the camera is saturated" if saturation is not None else f"{typical_maximum:.4g}"
        )
        raise ScanError(
            f"Cannot use {stored_cube.source} as reflectance: its values go up to {max_value_text}; reflectance is "
            "stored as 0 to 1, 0 to 100 per cent, or 0 to 10000. If the values are counts, give the references "
            "(--white FILE --dark FILE); if they are scaled reflectance, give the value of a reflectance of 1 "
            "(--scale VALUE)."
        )
    note = (
        f"the scale is not stated; {assumed_scale:g} is assumed to be a reflectance of 1, so that the brightest pixels "
        f"have {typical_maximum / assumed_scale:.2f}; if this is wrong, give --scale"
    )
    notes = [note] if assumed_scale != 1.0 else []
    return assumed_scale, notes


def _shows_lamp_spectrum(sample_values: NDArray[np.float32], stored_cube: StoredCube) -> bool:
    """Return whether the brightest pixels show the spectrum of a lamp, which proves that the values are counts."""
    wavelength_nm = stored_cube.wavelength_nm
    if wavelength_nm is None:
        return False
    is_in_lamp_range = (wavelength_nm >= _LAMP_RANGE_NM[0]) & (wavelength_nm <= _LAMP_RANGE_NM[1])
    if is_in_lamp_range.sum() < MIN_BANDS:
        return False
    bright_spectrum = np.nanpercentile(np.nan_to_num(sample_values[:, is_in_lamp_range]), 99, axis=0)
    positive_values = bright_spectrum[bright_spectrum > 0]
    return bool(positive_values.size and positive_values.min() < _MAX_LAMP_FLATNESS * positive_values.max())


def _bad_bands(
    sample_values: NDArray[np.float32],
    stored_cube: StoredCube,
    white: Reference | None,
    dark: Reference | None,
    saturation: float | None,
    notes: list[str],
) -> NDArray[np.bool_]:
    """Return an (n_band,) boolean mask of unusable bands. The reasons are appended to ``notes``.

    Raises
    ------
    ScanError
        The white reference is not brighter than the dark reference, or is saturated in all bands.
    """
    faults = [(stored_cube.bad_band, "are marked as bad in the file")]
    faults.append(
        (
            (~np.isfinite(sample_values)).mean(axis=0) > _MAX_MISSING_PIXEL_FRACTION,
            "are saturated or missing in most pixels",
        )
    )
    filled_values = np.nan_to_num(sample_values)
    faults.append((filled_values.max(axis=0) <= filled_values.min(axis=0), "have the same value in all pixels"))
    if white is not None:
        window = (slice(0, min(stored_cube.shape[0], 64)), slice(0, stored_cube.shape[1]))
        white_values = white.part(*window)
        dark_values = np.zeros(1, np.float32) if dark is None else dark.part(*window)
        white_signal = np.median(white_values - dark_values, axis=(0, 1))
        if white_signal.max() <= 0:
            raise ScanError(
                f"Cannot use the white reference {white.stored_cube.source}: it is not brighter than the dark "
                "reference. Perhaps the references are exchanged: give the bright reference with --white."
            )
        faults.append((white_signal <= 0.002 * white_signal.max(), "have no light in the white reference"))
        if saturation is not None:
            is_saturated = (white_values >= 0.99 * saturation).mean(axis=(0, 1)) > 0.1
            if is_saturated.all():
                raise ScanError(
                    f"Cannot use the white reference {white.stored_cube.source}: it is saturated at {saturation:g} in "
                    "all bands. Record the reference again with less exposure."
                )
            faults.append((is_saturated, "are saturated in the white reference"))
    is_unusable = np.zeros(stored_cube.shape[2], dtype=bool)
    for is_faulty, reason in faults:
        is_newly_unusable = is_faulty & ~is_unusable
        if is_newly_unusable.any():
            notes.append(
                f"{int(is_newly_unusable.sum())} of {is_newly_unusable.size} bands {reason} and are excluded "
                f"({_wavelength_list(stored_cube, is_newly_unusable)} nm)"
            )
        is_unusable |= is_newly_unusable
    return is_unusable


def _wavelength_list(stored_cube: StoredCube, is_bad: NDArray[np.bool_]) -> str:
    wavelengths_nm = [] if stored_cube.wavelength_nm is None else np.sort(stored_cube.wavelength_nm[is_bad]).tolist()
    list_text = ", ".join(f"{wavelength_nm:.0f}" for wavelength_nm in wavelengths_nm[:6])
    return list_text if len(wavelengths_nm) <= 6 else f"{list_text}, ..., {wavelengths_nm[-1]:.0f}"


def _check_reflectance_range(cube: ReflectanceCube) -> None:
    """Check that the reflectance is within a plausible range.

    Raises
    ------
    ScanError
        More than nine tenths of the values are missing or out of range, or no value exceeds 0.001.
    """
    n_row, n_column, _ = cube.shape
    rows = np.unique(((np.arange(4) + 0.5) * n_row / 4).astype(int)).tolist()
    reflectance = np.concatenate([cube.read(slice(row, row + 1), slice(0, n_column))[0] for row in rows])
    is_valid = np.isfinite(reflectance)
    if is_valid.mean() < 0.1 or np.nanmax(reflectance) < 1e-3:
        raise ScanError(
            f"Cannot use {cube.stored_cube.source}: {1 - is_valid.mean():.0%} of its reflectance values are missing or "
            f"outside 0 to {MAX_REFLECTANCE:g}, and the highest other value is "
            f"{np.nanmax(reflectance, initial=0.0):.2g}. Use references of the same camera, exposure and lamp, or "
            "correct --scale."
        )


def _check_reference(reference_cube: StoredCube, cube: StoredCube, reference_kind: str) -> None:
    if reference_cube.shape[2] != cube.shape[2]:
        raise ScanError(
            f"Cannot use the {reference_kind} reference {reference_cube.source}: it has {reference_cube.shape[2]} "
            f"bands, the cube {cube.shape[2]}. Give a reference of the same camera and binning."
        )
    if reference_cube.wavelength_nm is None or cube.wavelength_nm is None:
        return
    difference_nm = float(np.abs(reference_cube.wavelength_nm - cube.wavelength_nm).max())
    if difference_nm > _WAVELENGTH_TOLERANCE_NM:
        raise ScanError(
            f"Cannot use the {reference_kind} reference {reference_cube.source}: its wavelengths differ from the "
            f"cube's by up to {difference_nm:.1f} nm; {_WAVELENGTH_TOLERANCE_NM:g} nm are allowed. Give one of the "
            "same camera and binning."
        )


def _mean_over_rows(reference_cube: StoredCube) -> NDArray[np.float32]:
    """Return the mean of a reference over its rows, (1, n_column, n_band)."""
    n_row, n_column, n_band = reference_cube.shape
    n_block_row = max(1, BLOCK_BYTES // (4 * n_column * n_band))
    value_sum = np.zeros((1, n_column, n_band))
    for first_row in range(0, n_row, n_block_row):
        block = reference_cube.cube.read(slice(first_row, min(first_row + n_block_row, n_row)), slice(0, n_column))
        value_sum += np.nansum(block, axis=0, keepdims=True, dtype=np.float64)
    return np.asarray(value_sum / n_row, dtype=np.float32)


@dataclass(frozen=True)
class Overview:
    """A small picture of a cube.

    Parameters
    ----------
    pixel_side : int
        Side of one pixel of the picture, in pixels of the cube.
    rgb : (height, width, 3) array
        Colours, 0 to 1. For a cube without visible bands, each colour is the mean of a third of the bands.
    channels : sequence of (height, width) arrays
        Logarithm of the mean reflectance of each group of bands, from short to long wavelengths.
    """

    pixel_side: int
    rgb: NDArray[np.float32]
    channels: Sequence[NDArray[np.float32]]


def reduce_cube(cube: ReflectanceCube, progress: Callable[[str, int, int], None] | None = None) -> Overview:
    """Return a small picture of a cube. The cube is read once, and its pixels are averaged."""
    n_row, n_column, n_band = cube.shape
    pixel_side = max(1, -(-max(n_row, n_column) // OVERVIEW_SIDE))
    band_groups = np.array_split(np.arange(n_band), min(_N_OVERVIEW_CHANNELS, n_band))
    color_bands = [_bands_near(cube.wavelength_nm, centre_nm) for _, centre_nm in _VISIBLE_CENTRES_NM]
    if any(not band_indices.size for band_indices in color_bands):
        color_bands = list(reversed(np.array_split(np.arange(n_band), 3)))
    band_weights = np.zeros((n_band, len(band_groups) + 3), dtype=np.float32)
    for index, band_indices in enumerate([*band_groups, *color_bands]):
        band_weights[band_indices, index] = 1.0 / len(band_indices)
    height, width = -(-n_row // pixel_side), -(-n_column // pixel_side)
    weighted_sums, valid_weights = (
        np.zeros((height, width, band_weights.shape[1])),
        np.zeros((height, width, band_weights.shape[1])),
    )
    n_block_row = pixel_side * max(1, cube.block_bytes // (4 * pixel_side * n_column * cube.stored_cube.shape[2]))
    column_starts = np.arange(0, n_column, pixel_side)
    for first_row in range(0, n_row, n_block_row):
        if progress is not None:
            progress("Reading the cube", first_row, n_row)
        last_row = min(first_row + n_block_row, n_row)
        reflectance = cube.read(slice(first_row, last_row), slice(0, n_column))
        row_starts = np.arange(0, last_row - first_row, pixel_side)
        picture_rows = slice(first_row // pixel_side, first_row // pixel_side + row_starts.size)
        block_values: list[NDArray[Any]] = [np.nan_to_num(reflectance), np.isfinite(reflectance).astype(np.float32)]
        for picture_sum, pixel_values in zip((weighted_sums, valid_weights), block_values, strict=True):
            picture_sum[picture_rows] = np.add.reduceat(
                np.add.reduceat(pixel_values @ band_weights, row_starts, axis=0), column_starts, axis=1
            )
    with np.errstate(divide="ignore", invalid="ignore"):
        picture = (weighted_sums / valid_weights).astype(np.float32)
    picture[valid_weights <= 0] = np.nan
    log_reflectance = np.log(np.maximum(picture[:, :, : len(band_groups)], MIN_REFLECTANCE))
    rgb = np.clip(np.nan_to_num(picture[:, :, len(band_groups) :]), 0, 1) ** np.float32(1 / 2.2)
    return Overview(pixel_side, rgb, [log_reflectance[:, :, index] for index in range(len(band_groups))])


def _bands_near(wavelength_nm: NDArray[np.float64], centre_nm: float) -> NDArray[np.intp]:
    return np.flatnonzero(np.abs(wavelength_nm - centre_nm) <= _VISIBLE_HALF_WIDTH_NM)
