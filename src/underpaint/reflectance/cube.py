"""A cube of spectral images as reflectance: white and dark references, scale, faulty bands and values.

What a file does not state is decided from a sample of its pixels and noted; what cannot be decided is refused.
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
"""Size of what is read at once, as 32-bit floats."""
_PACKED_FACTOR = 8
"""So much more is read at once of a cube whose pieces may be packed: each is unpacked for every block that it is in."""
_SAMPLE_BYTES = 48 * 2**20
_MOST_ROWS = 32
HIGHEST = 1.6
"""A reflectance above is gloss, or no reflectance."""
LOWEST = 1e-4
"""What is darker, and what noise put below zero, counts as this, so that it has a logarithm."""
_FARTHEST_BELOW = -0.2
_SCALES = ((1.6, 1.0), (160.0, 100.0), (1600.0, None), (16000.0, 10000.0))
"""Highest value that a scale is assumed up to; None: it may be anything."""
_CEILINGS = (255, 1023, 4095, 16383, 65535)
_PILED_UP = 1e-4
_BAD_SHARE = 0.5
_FLATNESS = 0.15
_ROUGHER = 3.0
_LAMP_NM = (450.0, 900.0)
_SAME_NM = 1.0
_VISIBLE_NM = (("red", 610.0), ("green", 550.0), ("blue", 465.0))
_WIDTH_NM = 20.0
_N_CHANNEL = 12
OVERVIEW_SIDE = 640
"""Longer side of the overview, pixels."""


@dataclass(frozen=True)
class ReflectanceCube:
    """Reflectance of each pixel, read when it is needed.

    Parameters
    ----------
    stored : StoredCube
    bands : (n_band,) array of int
        The stored bands that are used, in the order of their wavelengths.
    wavelength_nm : (n_band,) array
        Increasing.
    scale : float
        Stored value of a reflectance of 1; 1 with a white reference.
    white, dark : Reference or None
    ceiling : float or None
        Stored value at which the camera is saturated.
    notes : tuple of str
        What was assumed and what is left out.
    """

    stored: StoredCube
    bands: NDArray[np.intp]
    wavelength_nm: NDArray[np.float64]
    scale: float = 1.0
    white: "Reference | None" = None
    dark: "Reference | None" = None
    ceiling: float | None = None
    notes: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, int, int]:
        """Rows, columns and bands that are used."""
        return (*self.stored.shape[:2], self.bands.size)

    @property
    def block_bytes(self) -> int:
        """Size of what to read at once."""
        return BLOCK_BYTES if isinstance(self.stored.cube, MappedCube) else _PACKED_FACTOR * BLOCK_BYTES

    def read(self, rows: slice, columns: slice) -> NDArray[np.float32]:
        """Return (row, column, band) reflectance of a rectangle; NaN where it is missing, saturated or impossible."""
        raw = self.stored.cube.read(rows, columns)[:, :, self.bands]
        values = raw.astype(np.float32)
        if self.stored.missing is not None:
            values[raw == self.stored.missing] = np.nan
        if self.ceiling is not None:
            values[raw >= self.ceiling] = np.nan
        # what rectifying or stitching fills up; a dark paint still has noise in some band
        values[(raw == 0).all(axis=2)] = np.nan
        if self.white is not None:
            white = self.white.part(rows, columns)[:, :, self.bands]
            dark = np.float32(0) if self.dark is None else self.dark.part(rows, columns)[:, :, self.bands]
            with np.errstate(divide="ignore", invalid="ignore"):
                values = (values - dark) / (white - dark)
        elif self.scale != 1.0:
            values /= np.float32(self.scale)
        with np.errstate(invalid="ignore"):
            values[(values > HIGHEST) | (values < _FARTHEST_BELOW) | ~np.isfinite(values)] = np.nan
        return np.maximum(values, np.float32(LOWEST))


class Reference:
    """A white or dark reference: a value for each column of a line scanner, for each pixel, or one spectrum."""

    def __init__(self, stored: StoredCube, cube: StoredCube, kind: str) -> None:
        n_row, n_column, n_band = cube.shape
        _check_reference(stored, cube, kind)
        size = stored.shape[:2]
        self.stored = stored
        self.values: NDArray[np.float32] | None = None
        if size == (n_row, n_column) and min(size) > 1:
            self.note = f"{kind} reference {stored.source}: a value for each pixel"
        elif size[1] == n_column:
            self.values = _mean(stored)
            self.note = f"{kind} reference {stored.source}: {size[0]} lines, averaged"
        elif size == (1, 1):
            self.values = _mean(stored)
            self.note = f"{kind} reference {stored.source}: one spectrum"
        else:
            raise ScanError(
                f"Cannot use the {kind} reference {stored.source}: it has {size[0]} x {size[1]} pixels and "
                f"{stored.shape[2]} bands, the cube {n_row} x {n_column} and {n_band}. One of the same camera and "
                "binning has as many columns, or is one spectrum; give that."
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
        As for :func:`underpaint.io.cubes.open_cube`.
    white, dark : str, Path or None
        References of the same camera: frames, averaged along the scan direction, or one spectrum. The white one is
        taken as a reflectance of 1. Without them, the cube must hold reflectance.
    scale : float or None
        Stored value of a reflectance of 1; None: as the file says, or by the size of the values, with a note.

    Raises
    ------
    ScanError
        The cube or a reference cannot be read, has no wavelengths, or holds no reflectance.
    """
    stored = open_cube(location)
    wavelength_nm = stored.wavelength_nm
    if wavelength_nm is None:
        raise ScanError(
            f"Cannot use {location}: it has {stored.shape[2]} bands and states no wavelengths. Put a text file of one "
            "wavelength a line (nm or um) beside it, called wavelengths.txt."
        )
    n_row, n_column, n_band = stored.shape
    packed = not isinstance(stored.cube, MappedCube)
    if packed and n_row * n_column * n_band * np.dtype(stored.cube.dtype).itemsize <= _PACKED_FACTOR * BLOCK_BYTES:
        stored = replace(stored, cube=MemoryCube(stored.cube.read(slice(0, n_row), slice(0, n_column))))
    if dark is not None and white is None:
        raise ScanError(f"Cannot use the dark reference {dark} alone: reflectance needs a white one, too; add --white.")
    if scale is not None and not (np.isfinite(scale) and scale > 0):
        raise ScanError(
            f"Cannot divide {location} by {scale:g}: the stored value of a reflectance of 1 is a number above 0. "
            "Correct --scale, or omit it."
        )
    sample = _sample(stored)
    _check_bits(sample, stored)
    values = sample.astype(np.float32)
    if stored.missing is not None:
        values[sample == stored.missing] = np.nan
    references = {
        kind: None if place is None else Reference(open_cube(place, stored.shape[2]), stored, kind)
        for kind, place in (("white", white), ("dark", dark))
    }
    ceiling = _ceiling(sample)
    notes = [*stored.notes, *(each.note for each in references.values() if each is not None)]
    used_scale = 1.0
    if references["white"] is None:
        used_scale, note = _scale_of(values, stored, scale, ceiling)
        notes += note
        values[values > HIGHEST * used_scale] = np.nan
        ceiling = None
    elif ceiling is not None:
        values[sample >= ceiling] = np.nan
        notes.append(f"stored values of {ceiling:g} are saturated and left out")
    bad = _bad_bands(values, stored, references["white"], references["dark"], ceiling, notes)
    order = np.argsort(wavelength_nm, kind="stable")
    if not (np.diff(wavelength_nm) > 0).all():
        notes.append("the bands are sorted by their wavelengths")
    bands = order[~bad[order]]
    repeated = np.flatnonzero(np.diff(wavelength_nm[bands]) <= 0) + 1
    if repeated.size:
        notes.append(f"{repeated.size} bands of a wavelength that another one has are left out")
        bands = np.delete(bands, repeated)
    if bands.size < MIN_BANDS:
        raise ScanError(
            f"Cannot use {location}: {bands.size} of its {stored.shape[2]} bands are usable, {MIN_BANDS} needed "
            f"({'; '.join(notes[-3:]) or 'nothing is left out'}). Scan again with less light, or give a cube of more "
            "bands."
        )
    cube = ReflectanceCube(
        stored, bands, wavelength_nm[bands], used_scale, references["white"], references["dark"], ceiling,
        tuple(dict.fromkeys(notes)),
    )  # fmt: skip
    _check_level(cube)
    return cube


def _sample(stored: StoredCube) -> NDArray[Any]:
    """Return (n, n_band) values of some rows over the whole height, as stored."""
    n_row, n_column, n_band = stored.shape
    row_bytes = n_column * n_band * np.dtype(stored.cube.dtype).itemsize
    number = int(np.clip(_SAMPLE_BYTES // row_bytes, 1, min(n_row, _MOST_ROWS)))
    rows = np.unique(((np.arange(number) + 0.5) * n_row / number).astype(int))
    parts = [stored.cube.read(slice(row, row + 1), slice(0, n_column))[0] for row in rows.tolist()]
    step = max(1, len(parts) * n_column // 8192)
    return np.concatenate(parts)[::step]


def _check_bits(sample: NDArray[Any], stored: StoredCube) -> None:
    """Refuse numbers that were stored in another type or byte order than the file says.

    Raises
    ------
    ScanError
        They are.
    """
    dtype = sample.dtype
    advice = "Correct 'byte order' or 'data type' in its header, or export it again."
    if dtype.kind == "f":
        size = np.abs(sample[np.isfinite(sample) & (sample != 0)]).astype(np.float64)
        if np.isfinite(sample).mean() < 0.01:
            raise ScanError(f"Cannot use {stored.source}: hardly any of its values is a number. {advice}")
        if size.size and (np.percentile(size, 95) > 1e7 or np.median(size) < 1e-12):
            raise ScanError(
                f"Cannot use {stored.source}: its values run from {size.min():.2g} to {size.max():.2g}, and "
                f"reflectance or counts do not. {advice}"
            )
        return
    if dtype.kind == "i" and (sample < -0.05 * sample.max(initial=1)).mean() > 0.01:
        present = sample if stored.missing is None else sample[sample != stored.missing]
        if present.size and (present < -0.05 * present.max(initial=1)).mean() > 0.01:
            raise ScanError(
                f"Cannot use {stored.source}: {(present < 0).mean():.0%} of its values are negative, down to "
                f"{present.min()}; counts and reflectance are not. Probably they have no sign: {advice}"
            )
    if dtype.itemsize > 1 and _roughness(sample) > _ROUGHER * _roughness(sample.byteswap()):
        raise ScanError(
            f"Cannot use {stored.source}: its spectra are noise, and smooth with the bytes of each number swapped. "
            f"{advice}"
        )


def _roughness(sample: NDArray[Any]) -> float:
    """Return how far neighbouring bands differ, in standard deviations of all values."""
    values = sample.astype(np.float64)
    spread = values.std()
    return float(np.abs(np.diff(values, axis=1)).mean() / spread) if spread > 0 else 0.0


def _ceiling(sample: NDArray[Any]) -> float | None:
    """Return the value at which a camera was saturated, if it is one of its usual numbers of bits."""
    top = sample.max() if sample.dtype.kind in "ui" else 0
    return float(top) if int(top) in _CEILINGS and (sample == top).mean() >= _PILED_UP else None


def _scale_of(
    values: NDArray[np.float32], stored: StoredCube, scale: float | None, ceiling: float | None
) -> tuple[float, list[str]]:
    """Return the stored value of a reflectance of 1, with a note on what was assumed.

    Raises
    ------
    ScanError
        It cannot be told, or the values are counts of a camera.
    """
    if scale is not None:
        return scale, [f"the stored values are divided by {scale:g}, as given"]
    # Of the middle one of the bands, so that a few faulty ones do not matter.
    top = float(np.median(np.percentile(np.nan_to_num(values, posinf=0, neginf=0), 99.5, axis=0)))
    if top <= 0:
        raise ScanError(f"Cannot use {stored.source}: no pixel of it is above 0. Check that it is the right file.")
    if stored.scale and 0.02 <= top / stored.scale <= HIGHEST:
        return stored.scale, []
    assumed = next((known for highest, known in _SCALES if top <= highest), None)
    integers = np.dtype(stored.cube.dtype).kind in "ui"
    if (
        assumed is None
        or (integers and assumed == 1.0)
        or ceiling is not None
        or (assumed > 100 and _is_lamp(values, stored))
    ):
        reason = f"{ceiling:g}, where the camera is saturated" if ceiling is not None else f"{top:.4g}"
        raise ScanError(
            f"Cannot use {stored.source} as reflectance: its values go up to {reason}, and reflectance is stored as 0 "
            "to 1, per cent, or 0 to 10000. If they are counts, give the white reference (--white FILE --dark FILE); "
            "if they are scaled, the value of a reflectance of 1 (--scale)."
        )
    notes = [f"the stored value of a reflectance of 1 is {assumed:g}, by their size"] if assumed != 1.0 else []
    return assumed, notes


def _is_lamp(values: NDArray[np.float32], stored: StoredCube) -> bool:
    """Whether the brightest pixels rise and fall with the wavelength as no painting but lamp and sensor do."""
    wavelength_nm = stored.wavelength_nm
    if wavelength_nm is None:
        return False
    inside = (wavelength_nm >= _LAMP_NM[0]) & (wavelength_nm <= _LAMP_NM[1])
    if inside.sum() < MIN_BANDS:
        return False
    brightest = np.nanpercentile(np.nan_to_num(values[:, inside]), 99, axis=0)
    usable = brightest[brightest > 0]
    return bool(usable.size and usable.min() < _FLATNESS * usable.max())


def _bad_bands(
    values: NDArray[np.float32],
    stored: StoredCube,
    white: Reference | None,
    dark: Reference | None,
    ceiling: float | None,
    notes: list[str],
) -> NDArray[np.bool_]:
    """Return the bands that tell nothing, and note why.

    Raises
    ------
    ScanError
        The white reference is darker than the dark one, or saturated in all bands.
    """
    kinds = [(stored.bad_band, "the file declares bad")]
    kinds.append(((~np.isfinite(values)).mean(axis=0) > _BAD_SHARE, "are saturated or missing in most pixels"))
    filled = np.nan_to_num(values)
    kinds.append((filled.max(axis=0) <= filled.min(axis=0), "hold one value throughout"))
    if white is not None:
        window = (slice(0, min(stored.shape[0], 64)), slice(0, stored.shape[1]))
        light = white.part(*window)
        below = np.zeros(1, np.float32) if dark is None else dark.part(*window)
        signal = np.median(light - below, axis=(0, 1))
        if signal.max() <= 0:
            raise ScanError(
                f"Cannot use the white reference {white.stored.source}: it is no brighter than the dark one. Perhaps "
                "they are exchanged; give the bright one with --white."
            )
        kinds.append((signal <= 0.002 * signal.max(), "have no light in the white reference"))
        if ceiling is not None:
            saturated = (light >= 0.99 * ceiling).mean(axis=(0, 1)) > 0.1
            if saturated.all():
                raise ScanError(
                    f"Cannot use the white reference {white.stored.source}: it is saturated at {ceiling:g} in all "
                    "bands. Record it again with less exposure."
                )
            kinds.append((saturated, "are saturated in the white reference"))
    bad = np.zeros(stored.shape[2], dtype=bool)
    for faulty, reason in kinds:
        new = faulty & ~bad
        if new.any():
            notes.append(f"{int(new.sum())} of {new.size} bands {reason} and are left out ({_listed(stored, new)} nm)")
        bad |= new
    return bad


def _listed(stored: StoredCube, bad: NDArray[np.bool_]) -> str:
    places = [] if stored.wavelength_nm is None else np.sort(stored.wavelength_nm[bad]).tolist()
    shown = ", ".join(f"{place:.0f}" for place in places[:6])
    return shown if len(places) <= 6 else f"{shown}, ..., {places[-1]:.0f}"


def _check_level(cube: ReflectanceCube) -> None:
    """Refuse a cube whose reflectance is impossible.

    Raises
    ------
    ScanError
        Most of it is above 1.6, below zero, or nowhere above a thousandth.
    """
    n_row, n_column, _ = cube.shape
    rows = np.unique(((np.arange(4) + 0.5) * n_row / 4).astype(int)).tolist()
    values = np.concatenate([cube.read(slice(row, row + 1), slice(0, n_column))[0] for row in rows])
    known = np.isfinite(values)
    if known.mean() < 0.1 or np.nanmax(values) < 1e-3:
        raise ScanError(
            f"Cannot use {cube.stored.source}: {1 - known.mean():.0%} of its reflectance is missing or outside 0 to "
            f"{HIGHEST:g}, the rest {np.nanmax(values, initial=0.0):.2g} at most. Check the references: the same "
            "camera, exposure and lamp; and --scale."
        )


def _check_reference(stored: StoredCube, cube: StoredCube, kind: str) -> None:
    if stored.shape[2] != cube.shape[2]:
        raise ScanError(
            f"Cannot use the {kind} reference {stored.source}: it has {stored.shape[2]} bands, the cube "
            f"{cube.shape[2]}. Give one of the same camera and binning."
        )
    if stored.wavelength_nm is None or cube.wavelength_nm is None:
        return
    off = float(np.abs(stored.wavelength_nm - cube.wavelength_nm).max())
    if off > _SAME_NM:
        raise ScanError(
            f"Cannot use the {kind} reference {stored.source}: its wavelengths differ from the cube's by up to "
            f"{off:.1f} nm, {_SAME_NM:g} nm at most is allowed. Give one of the same camera and binning."
        )


def _mean(stored: StoredCube) -> NDArray[np.float32]:
    """Return the mean of a reference along its rows, (1, n_column, n_band)."""
    n_row, n_column, n_band = stored.shape
    step = max(1, BLOCK_BYTES // (4 * n_column * n_band))
    total = np.zeros((1, n_column, n_band))
    for first in range(0, n_row, step):
        part = stored.cube.read(slice(first, min(first + step, n_row)), slice(0, n_column))
        total += np.nansum(part, axis=0, keepdims=True, dtype=np.float64)
    return np.asarray(total / n_row, dtype=np.float32)


@dataclass(frozen=True)
class Overview:
    """A small picture of a cube.

    Parameters
    ----------
    step : int
        Pixels of the cube along one of the picture.
    rgb : (height, width, 3) array
        0 to 1, as an eye sees it; of a cube without visible bands a third of its bands for each colour.
    channels : sequence of (height, width) arrays
        Logarithm of the reflectance in groups of bands, from short to long wavelengths.
    """

    step: int
    rgb: NDArray[np.float32]
    channels: Sequence[NDArray[np.float32]]


def overview(cube: ReflectanceCube, progress: Callable[[str, int, int], None] | None = None) -> Overview:
    """Read a cube once for a small picture of it, by the mean of its pixels."""
    n_row, n_column, n_band = cube.shape
    step = max(1, -(-max(n_row, n_column) // OVERVIEW_SIDE))
    groups = np.array_split(np.arange(n_band), min(_N_CHANNEL, n_band))
    colours = [_near(cube.wavelength_nm, centre_nm) for _, centre_nm in _VISIBLE_NM]
    if any(not part.size for part in colours):
        colours = list(reversed(np.array_split(np.arange(n_band), 3)))
    mixing = np.zeros((n_band, len(groups) + 3), dtype=np.float32)
    for index, part in enumerate([*groups, *colours]):
        mixing[part, index] = 1.0 / len(part)
    height, width = -(-n_row // step), -(-n_column // step)
    total, weight = np.zeros((height, width, mixing.shape[1])), np.zeros((height, width, mixing.shape[1]))
    rows = step * max(1, cube.block_bytes // (4 * step * n_column * cube.stored.shape[2]))
    across = np.arange(0, n_column, step)
    for first in range(0, n_row, rows):
        if progress is not None:
            progress("Reading the cube", first, n_row)
        last = min(first + rows, n_row)
        values = cube.read(slice(first, last), slice(0, n_column))
        down = np.arange(0, last - first, step)
        place = slice(first // step, first // step + down.size)
        parts: list[NDArray[Any]] = [np.nan_to_num(values), np.isfinite(values).astype(np.float32)]
        for target, part in zip((total, weight), parts, strict=True):
            target[place] = np.add.reduceat(np.add.reduceat(part @ mixing, down, axis=0), across, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        means = (total / weight).astype(np.float32)
    means[weight <= 0] = np.nan
    logs = np.log(np.maximum(means[:, :, : len(groups)], LOWEST))
    rgb = np.clip(np.nan_to_num(means[:, :, len(groups) :]), 0, 1) ** np.float32(1 / 2.2)
    return Overview(step, rgb, [logs[:, :, index] for index in range(len(groups))])


def _near(wavelength_nm: NDArray[np.float64], centre_nm: float) -> NDArray[np.intp]:
    return np.flatnonzero(np.abs(wavelength_nm - centre_nm) <= _WIDTH_NM)
