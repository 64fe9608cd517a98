"""Open a cube of spectral images as reflectance: white and dark references, scale, faulty bands and values.

If a file does not state its scale, the scale is inferred from a sample of the pixels, with a note. If the sample leaves
it open, the cube is refused.
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
"""Size of one block, stored as 32-bit floats, bytes."""
_COMPRESSED_FACTOR = 8
"""Blocks of a compressed cube are larger by this factor: a chunk is decompressed again for each block it overlaps."""
_MAX_SAMPLED_BYTES = 48 * 2**20
_MAX_SAMPLE_ROWS = 32
MAX_REFLECTANCE = 1.6
"""Values above are gloss or an error, and become NaN."""
MIN_REFLECTANCE = 1e-4
"""Smaller values, also those that noise made negative, are set to this, so that their logarithm exists."""
_MIN_NOISE = -0.2
"""Negative values down to this are noise; values below become NaN."""
_SCALES = ((1.6, 1.0), (160.0, 100.0), (1600.0, None), (16000.0, 10000.0))
"""Pairs of the highest value in a cube and the scale assumed up to it; None: the scale is ambiguous."""
_SATURATION_VALUES = (255, 1023, 4095, 16383, 65535)
"""Highest values of cameras of 8, 10, 12, 14 and 16 bits."""
_MIN_SATURATED_FRACTION = 1e-4
"""Fraction of values at the highest one from which the camera counts as saturated."""
_MAX_BAD_FRACTION = 0.5
"""Fraction of missing pixels above which a band is left out."""
_LAMP_FLATNESS = 0.15
"""Ratio of the darkest band to the brightest, in the brightest pixels, below which they show a lamp's spectrum."""
_MAX_ROUGHNESS_RATIO = 3.0
"""Roughness of the spectra relative to that with the bytes swapped, above which the byte order is wrong."""
_LAMP_NM = (450.0, 900.0)
_WAVELENGTH_TOLERANCE_NM = 1.0
_VISIBLE_NM = (("red", 610.0), ("green", 550.0), ("blue", 465.0))
_WIDTH_NM = 20.0
_N_CHANNEL = 12
OVERVIEW_SIDE = 640
"""Length of the longer side of the overview picture, in pixels."""


@dataclass(frozen=True)
class ReflectanceCube:
    """Reflectance of each pixel, read from the file block by block.

    Parameters
    ----------
    stored : StoredCube
    bands : (n_band,) array of int
        Indices of the stored bands in use, in the order of their wavelengths.
    wavelength_nm : (n_band,) array
        Increasing.
    scale : float
        Stored value of a reflectance of 1; 1 with a white reference.
    white, dark : Reference or None
        White and dark reference.
    saturation : float or None
        Stored value at which the camera is saturated; None if it is not.
    notes : tuple of str
        Assumptions made, and bands and values that are left out.
    """

    stored: StoredCube
    bands: NDArray[np.intp]
    wavelength_nm: NDArray[np.float64]
    scale: float = 1.0
    white: "Reference | None" = None
    dark: "Reference | None" = None
    saturation: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and bands in use."""
        return (*self.stored.shape[:2], self.bands.size)

    @property
    def block_bytes(self) -> int:
        """Size of one block, bytes."""
        return BLOCK_BYTES if isinstance(self.stored.cube, MappedCube) else _COMPRESSED_FACTOR * BLOCK_BYTES

    def read(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Return the (row, column, band) reflectance of a rectangle; NaN where missing, saturated or out of range."""
        raw = self.stored.cube.read(rows, columns)[:, :, self.bands]
        values = raw.astype(np.float32)
        if self.stored.missing is not None:
            values[raw == self.stored.missing] = np.nan
        if self.saturation is not None:
            values[raw >= self.saturation] = np.nan
        # margins that rectifying or stitching filled with zeros; even a dark paint has noise in some band
        values[(raw == 0).all(axis=2)] = np.nan
        if self.white is not None:
            white = self.white.part(rows, columns)[:, :, self.bands]
            dark = np.float32(0) if self.dark is None else self.dark.part(rows, columns)[:, :, self.bands]
            with np.errstate(divide="ignore", invalid="ignore"):
                values = (values - dark) / (white - dark)
        elif self.scale != 1.0:
            values /= np.float32(self.scale)
        with np.errstate(invalid="ignore"):
            values[(values > MAX_REFLECTANCE) | (values < _MIN_NOISE) | ~np.isfinite(values)] = np.nan
        return np.maximum(values, np.float32(MIN_REFLECTANCE))


class Reference:
    """A white or dark reference: one spectrum per column of a line scanner, one per pixel, or a single one."""

    def __init__(self, stored: StoredCube, cube: StoredCube, kind: str) -> None:
        n_row, n_column = cube.shape[:2]
        _check_reference(stored, cube, kind)
        size = stored.shape[:2]
        self.stored = stored
        self.values: NDArray[np.float32] | None = None
        if size == (n_row, n_column) and min(size) > 1:
            self.note = f"{kind} reference {stored.source}: one spectrum per pixel"
        elif size[1] == n_column:
            self.values = _mean(stored)
            self.note = f"{kind} reference {stored.source}: mean of {size[0]} lines"
        elif size == (1, 1):
            self.values = _mean(stored)
            self.note = f"{kind} reference {stored.source}: one spectrum"
        else:
            raise ScanError(
                f"Cannot use the {kind} reference {stored.source}: it has {size[0]} rows and {size[1]} columns, the "
                f"cube {n_row} and {n_column}. A reference has as many columns as the cube, or is a single spectrum. "
                "Give one of the same camera and binning."
            )

    def part(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Return the values of a rectangle, (1 or n_row, 1 or n_column, n_band)."""
        if self.values is None:
            return np.asarray(self.stored.cube.read(rows, columns), dtype=np.float32)
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
        References of the same camera: frames, which are averaged along the scan direction, or one spectrum. The white
        reference counts as a reflectance of 1. Without references the cube must hold reflectance.
    scale : float or None
        Stored value of a reflectance of 1. If None, the file states it, or it is inferred from the values with a note.

    Raises
    ------
    ScanError
        The cube or a reference cannot be read, the cube has no wavelengths, or it does not hold reflectance.
    """
    stored = open_cube(location)
    wavelength_nm = stored.wavelength_nm
    if wavelength_nm is None:
        raise ScanError(
            f"Cannot use {location}: it states no wavelengths for its {stored.shape[2]} bands. Put a text file called "
            "wavelengths.txt with one wavelength per line (nm or um) beside it."
        )
    n_row, n_column, n_band = stored.shape
    compressed = not isinstance(stored.cube, MappedCube)
    n_byte = n_row * n_column * n_band * np.dtype(stored.cube.dtype).itemsize
    if compressed and n_byte <= _COMPRESSED_FACTOR * BLOCK_BYTES:
        stored = replace(stored, cube=MemoryCube(stored.cube.read(slice(0, n_row), slice(0, n_column))))
    if dark is not None and white is None:
        raise ScanError(f"Cannot use the dark reference {dark} without a white reference. Add --white FILE.")
    if scale is not None and not (np.isfinite(scale) and scale > 0):
        raise ScanError(
            f"Cannot divide the values of {location} by {scale:g}: the stored value of a reflectance of 1 must be "
            "above 0. Correct --scale, or omit it."
        )
    sample = _sample(stored)
    _check_bits(sample, stored)
    values = sample.astype(np.float32)
    if stored.missing is not None:
        values[sample == stored.missing] = np.nan
    references = {
        kind: None if reference_path is None else Reference(open_cube(reference_path, stored.shape[2]), stored, kind)
        for kind, reference_path in (("white", white), ("dark", dark))
    }
    saturation = _saturation(sample)
    notes = [*stored.notes, *(each.note for each in references.values() if each is not None)]
    used_scale = 1.0
    if references["white"] is None:
        used_scale, note = _scale_of(values, stored, scale, saturation)
        notes += note
        values[values > MAX_REFLECTANCE * used_scale] = np.nan
        saturation = None
    else:
        if references["dark"] is None:
            notes.append("no dark reference: the dark signal of the camera is taken as 0; if it is not, give --dark")
        if saturation is not None:
            values[sample >= saturation] = np.nan
            notes.append(f"values of {saturation:g} are saturated and left out")
    unusable = _bad_bands(values, stored, references["white"], references["dark"], saturation, notes)
    by_wavelength = np.argsort(wavelength_nm, kind="stable")
    if not (np.diff(wavelength_nm) > 0).all():
        notes.append("the bands are sorted by their wavelengths")
    bands = by_wavelength[~unusable[by_wavelength]]
    repeated = np.flatnonzero(np.diff(wavelength_nm[bands]) <= 0) + 1
    if repeated.size:
        notes.append(f"bands left out because another band has the same wavelength: {repeated.size}")
        bands = np.delete(bands, repeated)
    if bands.size < MIN_BANDS:
        raise ScanError(
            f"Cannot use {location}: {bands.size} of its {stored.shape[2]} bands are usable; {MIN_BANDS} are needed "
            f"({'; '.join(notes[-3:]) or 'no band is left out'}). Record it again with less light, or give a cube with "
            "more bands."
        )
    cube = ReflectanceCube(
        stored, bands, wavelength_nm[bands], used_scale, references["white"], references["dark"], saturation,
        tuple(dict.fromkeys(notes)),
    )  # fmt: skip
    _check_level(cube)
    return cube


def _sample(stored: StoredCube) -> NDArray[Any]:
    """Return stored values of rows spread evenly over the cube, (n, n_band)."""
    n_row, n_column, n_band = stored.shape
    row_bytes = n_column * n_band * np.dtype(stored.cube.dtype).itemsize
    number = int(np.clip(_MAX_SAMPLED_BYTES // row_bytes, 1, min(n_row, _MAX_SAMPLE_ROWS)))
    rows = np.unique(((np.arange(number) + 0.5) * n_row / number).astype(int))
    parts = [stored.cube.read(slice(row, row + 1), slice(0, n_column))[0] for row in rows.tolist()]
    step = max(1, len(parts) * n_column // 8192)
    return np.concatenate(parts)[::step]


def _check_bits(sample: NDArray[Any], stored: StoredCube) -> None:
    """Check that the numbers have the data type and the byte order that the header states.

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
            raise ScanError(f"Cannot use {stored.source}: fewer than 1 % of its values are numbers. {advice}")
        if magnitudes.size and (np.percentile(magnitudes, 95) > 1e7 or np.median(magnitudes) < 1e-12):
            raise ScanError(
                f"Cannot use {stored.source}: its values run from {magnitudes.min():.2g} to {magnitudes.max():.2g}, "
                f"which neither reflectance nor counts do. {advice}"
            )
        return
    if dtype.kind == "i" and (sample < -0.05 * sample.max(initial=1)).mean() > 0.01:
        valid = sample if stored.missing is None else sample[sample != stored.missing]
        if valid.size and (valid < -0.05 * valid.max(initial=1)).mean() > 0.01:
            raise ScanError(
                f"Cannot use {stored.source}: {(valid < 0).mean():.0%} of its values are negative, down to "
                f"{valid.min()}, which counts and reflectance are not. They are probably unsigned integers. {advice}"
            )
    if dtype.itemsize > 1 and _roughness(sample) > _MAX_ROUGHNESS_RATIO * _roughness(sample.byteswap()):
        raise ScanError(
            f"Cannot use {stored.source}: its spectra look like noise, but become smooth when the byte order is "
            f"reversed, so the stated byte order is probably wrong. {advice}"
        )


def _roughness(sample: NDArray[Any]) -> float:
    """Return the mean difference of neighbouring bands, as a multiple of the standard deviation of all values."""
    values = sample.astype(np.float64)
    standard_deviation = values.std()
    return float(np.abs(np.diff(values, axis=1)).mean() / standard_deviation) if standard_deviation > 0 else 0.0


def _saturation(sample: NDArray[Any]) -> float | None:
    """Return the stored value at which the camera was saturated; None if it was not."""
    maximum = sample.max() if sample.dtype.kind in "ui" else 0
    return (
        float(maximum)
        if int(maximum) in _SATURATION_VALUES and (sample == maximum).mean() >= _MIN_SATURATED_FRACTION
        else None
    )


def _scale_of(
    values: NDArray[np.float32], stored: StoredCube, scale: float | None, saturation: float | None
) -> tuple[float, list[str]]:
    """Return the stored value of a reflectance of 1, with notes on the assumptions made.

    Raises
    ------
    ScanError
        The scale is ambiguous, or the values are counts of a camera.
    """
    if scale is not None:
        return scale, [f"the stored values are divided by {scale:g} (--scale)"]
    band_maxima = np.percentile(np.nan_to_num(values, posinf=0, neginf=0), 99.5, axis=0)
    # the median over the bands ignores a few faulty bands
    typical_maximum = float(np.median(band_maxima[band_maxima > 0])) if (band_maxima > 0).any() else 0.0
    if typical_maximum <= 0:
        raise ScanError(f"Cannot use {stored.source}: none of its values is above 0. Check that it is the right file.")
    if stored.scale and 0.02 <= typical_maximum / stored.scale <= MAX_REFLECTANCE:
        return stored.scale, []
    assumed = next((known for highest, known in _SCALES if typical_maximum <= highest), None)
    is_integer = np.dtype(stored.cube.dtype).kind in "ui"
    if (
        assumed is None
        or (is_integer and assumed == 1.0)
        or saturation is not None
        or (assumed > 100 and _is_lamp(values, stored))
    ):
        reason = (
            f"{saturation:g}, where the camera is saturated" if saturation is not None else f"{typical_maximum:.4g}"
        )
        raise ScanError(
            f"Cannot use {stored.source} as reflectance: its values go up to {reason}; reflectance is stored as 0 to "
            "1, 0 to 100 per cent, or 0 to 10000. If the values are counts, give the references (--white FILE --dark "
            "FILE); if they are scaled reflectance, give the value of a reflectance of 1 (--scale VALUE)."
        )
    note = (
        f"the scale is not stated; {assumed:g} is taken as a reflectance of 1, so that the brightest pixels have "
        f"{typical_maximum / assumed:.2f}; if that is wrong, give --scale"
    )
    notes = [note] if assumed != 1.0 else []
    return assumed, notes


def _is_lamp(values: NDArray[np.float32], stored: StoredCube) -> bool:
    """Return whether the brightest pixels show the spectrum of lamp and sensor, and so are counts."""
    wavelength_nm = stored.wavelength_nm
    if wavelength_nm is None:
        return False
    in_range = (wavelength_nm >= _LAMP_NM[0]) & (wavelength_nm <= _LAMP_NM[1])
    if in_range.sum() < MIN_BANDS:
        return False
    brightest = np.nanpercentile(np.nan_to_num(values[:, in_range]), 99, axis=0)
    positive = brightest[brightest > 0]
    return bool(positive.size and positive.min() < _LAMP_FLATNESS * positive.max())


def _bad_bands(
    values: NDArray[np.float32],
    stored: StoredCube,
    white: Reference | None,
    dark: Reference | None,
    saturation: float | None,
    notes: list[str],
) -> NDArray[np.bool_]:
    """Return which bands are unusable, (n_band,) booleans; the reasons are appended to ``notes``.

    Raises
    ------
    ScanError
        The white reference is not brighter than the dark one, or it is saturated in all bands.
    """
    faults = [(stored.bad_band, "are marked as bad in the file")]
    faults.append(((~np.isfinite(values)).mean(axis=0) > _MAX_BAD_FRACTION, "are saturated or missing in most pixels"))
    finite_values = np.nan_to_num(values)
    faults.append((finite_values.max(axis=0) <= finite_values.min(axis=0), "have the same value in all pixels"))
    if white is not None:
        window = (slice(0, min(stored.shape[0], 64)), slice(0, stored.shape[1]))
        white_values = white.part(*window)
        dark_values = np.zeros(1, np.float32) if dark is None else dark.part(*window)
        signal = np.median(white_values - dark_values, axis=(0, 1))
        if signal.max() <= 0:
            raise ScanError(
                f"Cannot use the white reference {white.stored.source}: it is not brighter than the dark reference. "
                "Perhaps the two are exchanged: give the bright one with --white."
            )
        faults.append((signal <= 0.002 * signal.max(), "have no light in the white reference"))
        if saturation is not None:
            saturated = (white_values >= 0.99 * saturation).mean(axis=(0, 1)) > 0.1
            if saturated.all():
                raise ScanError(
                    f"Cannot use the white reference {white.stored.source}: it is saturated at {saturation:g} in all "
                    "bands. Record it again with less exposure."
                )
            faults.append((saturated, "are saturated in the white reference"))
    unusable = np.zeros(stored.shape[2], dtype=bool)
    for has_fault, reason in faults:
        newly_unusable = has_fault & ~unusable
        if newly_unusable.any():
            notes.append(
                f"{int(newly_unusable.sum())} of {newly_unusable.size} bands {reason} and are left out "
                f"({_listed(stored, newly_unusable)} nm)"
            )
        unusable |= newly_unusable
    return unusable


def _listed(stored: StoredCube, bad: NDArray[np.bool_]) -> str:
    wavelengths_nm = [] if stored.wavelength_nm is None else np.sort(stored.wavelength_nm[bad]).tolist()
    text = ", ".join(f"{place:.0f}" for place in wavelengths_nm[:6])
    return text if len(wavelengths_nm) <= 6 else f"{text}, ..., {wavelengths_nm[-1]:.0f}"


def _check_level(cube: ReflectanceCube) -> None:
    """Check that the reflectance is within a plausible range.

    Raises
    ------
    ScanError
        More than nine tenths of the values are missing or out of range, or no value exceeds 0.001.
    """
    n_row, n_column, _ = cube.shape
    rows = np.unique(((np.arange(4) + 0.5) * n_row / 4).astype(int)).tolist()
    values = np.concatenate([cube.read(slice(row, row + 1), slice(0, n_column))[0] for row in rows])
    is_valid = np.isfinite(values)
    if is_valid.mean() < 0.1 or np.nanmax(values) < 1e-3:
        raise ScanError(
            f"Cannot use {cube.stored.source}: {1 - is_valid.mean():.0%} of its reflectance values are missing or "
            f"outside 0 to {MAX_REFLECTANCE:g}, and the highest other value is {np.nanmax(values, initial=0.0):.2g}. "
            "Use references of the same camera, exposure and lamp, or correct --scale."
        )


def _check_reference(stored: StoredCube, cube: StoredCube, kind: str) -> None:
    if stored.shape[2] != cube.shape[2]:
        raise ScanError(
            f"Cannot use the {kind} reference {stored.source}: it has {stored.shape[2]} bands, the cube "
            f"{cube.shape[2]}. Give one of the same camera and binning."
        )
    if stored.wavelength_nm is None or cube.wavelength_nm is None:
        return
    difference_nm = float(np.abs(stored.wavelength_nm - cube.wavelength_nm).max())
    if difference_nm > _WAVELENGTH_TOLERANCE_NM:
        raise ScanError(
            f"Cannot use the {kind} reference {stored.source}: its wavelengths differ from the cube's by up to "
            f"{difference_nm:.1f} nm; {_WAVELENGTH_TOLERANCE_NM:g} nm are allowed. Give one of the same camera and "
            "binning."
        )


def _mean(stored: StoredCube) -> NDArray[np.float32]:
    """Return the mean of a reference over its rows, (1, n_column, n_band)."""
    n_row, n_column, n_band = stored.shape
    step = max(1, BLOCK_BYTES // (4 * n_column * n_band))
    total = np.zeros((1, n_column, n_band))
    for first in range(0, n_row, step):
        part = stored.cube.read(slice(first, min(first + step, n_row)), slice(0, n_column))
        total += np.nansum(part, axis=0, keepdims=True, dtype=np.float64)
    return np.asarray(total / n_row, dtype=np.float32)


@dataclass(frozen=True)
class Overview:
    """A cube reduced to a small picture.

    Parameters
    ----------
    step : int
        Side of one pixel of the picture, in pixels of the cube.
    rgb : (height, width, 3) array
        Colours, 0 to 1. For a cube without visible bands, each colour is the mean of a third of the bands.
    channels : sequence of (height, width) arrays
        Logarithm of the mean reflectance in groups of bands, from short to long wavelengths.
    """

    step: int
    rgb: NDArray[np.float32]
    channels: Sequence[NDArray[np.float32]]


def overview(cube: ReflectanceCube, progress: Callable[[str, int, int], None] | None = None) -> Overview:
    """Read a cube once and reduce it to a small picture by averaging pixels."""
    n_row, n_column, n_band = cube.shape
    side = max(1, -(-max(n_row, n_column) // OVERVIEW_SIDE))
    groups = np.array_split(np.arange(n_band), min(_N_CHANNEL, n_band))
    colours = [_bands_near(cube.wavelength_nm, centre_nm) for _, centre_nm in _VISIBLE_NM]
    if any(not part.size for part in colours):
        colours = list(reversed(np.array_split(np.arange(n_band), 3)))
    mixing = np.zeros((n_band, len(groups) + 3), dtype=np.float32)
    for index, part in enumerate([*groups, *colours]):
        mixing[part, index] = 1.0 / len(part)
    height, width = -(-n_row // side), -(-n_column // side)
    sums, n_values = np.zeros((height, width, mixing.shape[1])), np.zeros((height, width, mixing.shape[1]))
    rows = side * max(1, cube.block_bytes // (4 * side * n_column * cube.stored.shape[2]))
    first_columns = np.arange(0, n_column, side)
    for first in range(0, n_row, rows):
        if progress is not None:
            progress("Reading the cube", first, n_row)
        last = min(first + rows, n_row)
        values = cube.read(slice(first, last), slice(0, n_column))
        first_rows = np.arange(0, last - first, side)
        place = slice(first // side, first // side + first_rows.size)
        parts: list[NDArray[Any]] = [np.nan_to_num(values), np.isfinite(values).astype(np.float32)]
        for target, part in zip((sums, n_values), parts, strict=True):
            target[place] = np.add.reduceat(np.add.reduceat(part @ mixing, first_rows, axis=0), first_columns, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_values = (sums / n_values).astype(np.float32)
    mean_values[n_values <= 0] = np.nan
    logs = np.log(np.maximum(mean_values[:, :, : len(groups)], MIN_REFLECTANCE))
    rgb = np.clip(np.nan_to_num(mean_values[:, :, len(groups) :]), 0, 1) ** np.float32(1 / 2.2)
    return Overview(side, rgb, [logs[:, :, index] for index in range(len(groups))])


def _bands_near(wavelength_nm: NDArray[np.float64], centre_nm: float) -> NDArray[np.intp]:
    return np.flatnonzero(np.abs(wavelength_nm - centre_nm) <= _WIDTH_NM)
