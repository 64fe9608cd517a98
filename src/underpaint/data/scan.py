"""A scan: a lazy cube of spectra, (row, column, channel)."""

import html
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol
from weakref import WeakValueDictionary

import dask.array as da
import numpy as np
from dask.base import tokenize
from dask.system import CPU_COUNT
from numpy.typing import NDArray

from underpaint.data.axis import EnergyAxis
from underpaint.data.spectrum import Spectrum
from underpaint.errors import CalibrationError, MissingExtraError, ScanError

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]
Block = tuple[slice, slice]
Progress = Callable[[int, int], None]
_MIN_BLOCKS = 3
_MAX_COUNTS = 1e12
"""In a channel of a pixel; a detector that counts a million a second would need eleven days."""
_MAX_SAMPLED = 4096
_MAX_TILES = 16
"""Along the rows, and along the columns."""
_MIN_CLIPPED = 10
_FLAT_CHANNELS = 3
_TYPE_MAXIMA = tuple(2**bits - 1 for bits in (7, 8, 10, 12, 14, 15, 16, 31, 32))


@dataclass(frozen=True, repr=False)
class Scan:
    """A scan: lazy counts and the metadata of its file.

    Parameters
    ----------
    counts : (n_row, n_column, n_channel) dask array
        Counts, any numeric type; chunked over rows (and columns), not along the channel.
    axis : EnergyAxis or None
        Energy calibration; None if the file has none (``calibrate`` finds it).
    name : str
        Short name, used for result folders.
    source : str
        Path (and ``::array``) that the scan was read from.
    format : str
        Name of the file format.
    live_time_s, real_time_s : (n_row, n_column) array, or None
        Seconds per pixel; None where unknown. NaN for single unknown pixels.
    step_mm : (float, float) or None
        Distance between pixels along rows and columns, mm.
    detector : str
        The detector's name or serial number; "" where unknown.
    present : (n_row, n_column) bool array, or None
        False where the pixel's spectrum is missing; None if all are present.
    notes : tuple of str
        Notes for the user (files skipped, times unknown ...).
    metadata : dict
        Other metadata, by the file's names.
    counts_scale : float
        Stored value per count, by which the file's values were divided. The median for a scan with a scale for each
        pixel.
    detectors : tuple of Scan
        Detectors whose sum the counts are, in the same channels. Empty after changes of the counts, or for a single
        detector.

    Examples
    --------
    >>> import underpaint as up
    >>> up.Scan(np.ones((2, 3, 64)), up.EnergyAxis(0.5, 0.0, 64), name="small")
    <underpaint scan small: 2 rows x 3 columns x 64 channels>
      axis        500.000 eV per channel from 0.000 keV
    """

    counts: Any
    axis: EnergyAxis | None = None
    name: str = "scan"
    source: str = ""
    format: str = ""
    live_time_s: NDArray[np.float64] | None = None
    real_time_s: NDArray[np.float64] | None = None
    step_mm: tuple[float, float] | None = None
    detector: str = ""
    present: NDArray[np.bool_] | None = None
    notes: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)
    counts_scale: float = 1.0
    detectors: tuple["Scan", ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.counts, da.Array):
            object.__setattr__(self, "counts", da.from_array(np.asarray(self.counts), chunks=(16, -1, -1), name=False))
        if self.counts.ndim != 3:
            raise ScanError(
                f"Cannot make a scan from an array of shape {self.counts.shape}: (row, column, channel) is needed."
            )
        if 0 in self.counts.shape:
            raise ScanError(f"Cannot make a scan from an array of shape {self.counts.shape}: it is empty.")
        if self.axis is not None and self.axis.n_channel != self.counts.shape[2]:
            raise ScanError(
                f"Cannot make a scan: the cube has {self.counts.shape[2]} channels, "
                f"its energy axis {self.axis.n_channel}."
            )
        if self.detectors and self.counts.name != name_of_sum(self.detectors):
            object.__setattr__(self, "detectors", ())

    def __repr__(self) -> str:
        n_row, n_column, n_channel = self.shape
        axis = self.axis
        axis_text = "none" if axis is None else f"{1e3 * axis.gain_kev:.3f} eV per channel from {axis.zero_kev:.3f} keV"
        facts = {"file": self.source, "format": self.format, "detector": self.detector, "axis": axis_text}
        lines = [f"<underpaint scan {self.name}: {n_row} rows x {n_column} columns x {n_channel} channels>"]
        lines += [f"  {name:11s} {text}" for name, text in facts.items() if text]
        return "\n".join([*lines, *(f"  note        {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        array: Any = self.to_dataarray()
        return f"<pre style='white-space: pre-wrap'>{html.escape(repr(self))}</pre>{array._repr_html_()}"

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n_row, n_column, n_channel)."""
        n_row, n_column, n_channel = self.counts.shape
        return int(n_row), int(n_column), int(n_channel)

    @property
    def n_pixel(self) -> int:
        """Number of pixels."""
        return self.shape[0] * self.shape[1]

    def require_axis(self) -> EnergyAxis:
        """Return the energy axis, or raise an error on how to get one."""
        if self.axis is None:
            raise CalibrationError(
                f"Scan {self.name!r} has no energy calibration. "
                "Run `underpaint calibrate` on it and pass the instrument file that it "
                "writes with --instrument; in Python `underpaint.calibrate.resolve_energy_axis(scan).scan` has an axis."
            )
        return self.axis

    def with_axis(self, axis: EnergyAxis) -> "Scan":
        """Return the same counts under another energy axis."""
        return replace(self, axis=axis)

    def row_blocks(self) -> Iterator[slice]:
        """Rows, block by block as the dask array is chunked."""
        start = 0
        for n_row in self.counts.chunks[0]:
            yield slice(start, start + n_row)
            start += n_row

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Rows and columns of each block, the chunks of the dask array that a reader reads at once."""
        for rows in self.row_blocks():
            start = 0
            for n_column in self.counts.chunks[1]:
                yield rows, slice(start, start + n_column)
                start += n_column

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read the counts of a rectangle of pixels.

        Directly from the file if possible, since dask reads full blocks.
        """
        reader = READERS.get(self.counts.name)
        if reader is not None and reader.shape == self.shape:
            return reader[rows, columns]
        return np.asarray(self.counts[rows, columns].compute(scheduler="synchronous"))

    def pixel(self, row: int, column: int) -> Spectrum:
        """Read one pixel's spectrum."""
        row, column = range(self.shape[0])[row], range(self.shape[1])[column]
        counts = self.read(slice(row, row + 1), slice(column, column + 1))[0, 0].astype(np.float64)
        live, real = (_time(times, row, column) for times in (self.live_time_s, self.real_time_s))
        return Spectrum(counts, self.axis, live, real, f"{self.name} ({row}, {column})")

    def to_dataarray(self) -> "xr.DataArray":
        """Return the counts as a labelled array (xarray), lazily.

        Returns
        -------
        xarray.DataArray
            Dimensions ``row``, ``column`` and ``energy_kev``, or ``channel`` without an energy axis; coordinates
            ``y_mm``, ``x_mm`` and ``live_time_s`` where known. Missing pixels are 0.

        Examples
        --------
        >>> import underpaint as up
        >>> counts = up.load("panel.h5").to_dataarray()
        >>> counts.sel(energy_kev=slice(9.8, 10.2)).sum("energy_kev").sizes
        Frozen({'row': 7, 'column': 7})
        """
        import xarray as xr

        n_row, n_column, n_channel = self.shape
        rows, columns = np.arange(n_row), np.arange(n_column)
        last = "channel" if self.axis is None else "energy_kev"
        energies = np.arange(n_channel) if self.axis is None else self.axis.energy_kev
        along: dict[str, Any] = {"row": rows, "column": columns, last: energies}
        if self.step_mm is not None:
            along |= {"y_mm": ("row", self.step_mm[0] * rows), "x_mm": ("column", self.step_mm[1] * columns)}
        if self.live_time_s is not None:
            along["live_time_s"] = (("row", "column"), self.live_time_s)
        array = xr.DataArray(self.present_counts(), dims=("row", "column", last), coords=along, name="counts")
        array.attrs = {"units": "counts", "long_name": "counts", "source": self.source}
        if self.axis is not None:
            array[last].attrs = {"units": "keV", "long_name": "energy"}
        return array

    def to_hyperspy(self) -> Any:
        """Return the scan as a lazy ``Signal1D`` of HyperSpy.

        Returns
        -------
        hyperspy.signals.LazySignal1D
            Its signal axis is the energy in keV, or the channel; its navigation axes are in mm, or in pixels.

        Raises
        ------
        MissingExtraError
            HyperSpy is not installed.
        """
        try:
            from hyperspy.api import signals
        except ImportError as error:
            raise MissingExtraError(
                f"Cannot make a HyperSpy signal of scan {self.name!r}: HyperSpy is not installed. "
                "Install it: pip install hyperspy"
            ) from error
        steps = ((1.0, 1.0), "px") if self.step_mm is None else (self.step_mm, "mm")
        axes = [
            {"name": name, "size": size, "scale": step, "offset": 0.0, "units": steps[1]}
            for name, size, step in zip(("y", "x"), self.shape, steps[0], strict=False)
        ]
        energy = {"name": "channel", "scale": 1.0, "offset": 0.0, "units": ""}
        if self.axis is not None:
            energy = {"name": "Energy", "scale": self.axis.gain_kev, "offset": self.axis.zero_kev, "units": "keV"}
        about = {"General": {"title": self.name, "original_filename": self.source}}
        axes.append(energy | {"size": self.shape[2]})
        return signals.Signal1D(self.present_counts(), axes=axes, metadata=about).as_lazy()

    def present_counts(self) -> Any:
        """Lazy counts with 0 for missing pixels, marked or with an invalid value."""
        counts = self.counts
        if counts.dtype.kind == "f":
            counts = da.where(da.isfinite(counts), counts, 0)
        return counts if self.present is None else da.where(self.present[:, :, None], counts, 0)

    def sum_spectrum(self) -> Spectrum:
        """Sum over the present pixels; see :func:`~underpaint.data.survey` for more from one reading."""
        return survey(self).sum_spectrum()

    def max_spectrum(self) -> Spectrum:
        """Largest count of any pixel by channel; it shows elements of few pixels."""
        return survey(self).max_spectrum()


def name_of_sum(detectors: Sequence[Scan]) -> str:
    """Return the name of the dask array that is the sum of detectors; repaired or cropped counts have another."""
    return f"sum-{tokenize(*(scan.counts.name for scan in detectors))}"


def _time(time_s: NDArray[np.float64] | None, row: int, column: int) -> float | None:
    return None if time_s is None or np.isnan(time_s[row, column]) else float(time_s[row, column])


def valid_spectra(counts: NDArray[Any]) -> NDArray[np.bool_]:
    """(...) True where a spectrum of (..., n_channel) has counts, none of them negative or not a number."""
    # A minimum with a NaN is NaN, and no comparison with NaN is true.
    most = counts.max(axis=-1)
    return np.asarray((counts.min(axis=-1) >= 0) & np.isfinite(most) & (most > 0))


# --- survey of a scan: sum, maximum, counts per pixel, invalid values -----------------------------------


class CountsReader(Protocol):
    """Reads a file's counts for dask.

    Parameters
    ----------
    shape : (int, int, int)
    residues : (n_row, n_column) bool array
        Pixels in which it has set negative residues to zero so far.
    """

    shape: tuple[int, int, int]
    residues: NDArray[np.bool_]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Return a part of the counts."""


READERS: WeakValueDictionary[str, CountsReader] = WeakValueDictionary()
"""By the name of the dask array that reads through it."""


@dataclass(frozen=True)
class Survey:
    """Summary of one reading of a scan, or of a part of it.

    Parameters
    ----------
    scan : Scan
        The scan, with unusable pixels marked as missing, and notes on invalid values first.
    total, highest : (n_channel,) arrays
        Sum and maximum over the present pixels that were read, counts.
    pixel_counts : (n_row, n_column) array
        Counts of each pixel; 0 if missing, NaN if not read.
    tiles : (n_tile, n_channel) array
        Sums over rectangles of pixels, up to 16 along the rows and along the columns.
    tile_pixels : (n_tile,) array
        Pixels in each.
    sample : (n, n_channel) array
        Spectra of a random sample of the present pixels, counts.
    """

    scan: Scan
    total: Array
    highest: Array
    pixel_counts: Array
    tiles: Array
    tile_pixels: Array
    sample: NDArray[Any]

    @property
    def n_pixel(self) -> int:
        """Number of pixels in the sum."""
        return int(self.tile_pixels.sum())

    @property
    def read_share(self) -> float:
        """Share of the pixels that were read."""
        return float(np.isfinite(self.pixel_counts).mean())

    def sum_spectrum(self) -> Spectrum:
        """Sum over the pixels, with the summed times if known for every pixel."""
        is_complete = self.read_share == 1
        live, real = (
            self._time(time_s) if is_complete else None for time_s in (self.scan.live_time_s, self.scan.real_time_s)
        )
        return Spectrum(self.total, self.scan.axis, live, real, f"{self.scan.name} (sum)")

    def max_spectrum(self) -> Spectrum:
        """Largest count of any pixel by channel; it shows elements of few pixels."""
        return Spectrum(self.highest, self.scan.axis, None, None, f"{self.scan.name} (maximum)")

    def _time(self, time_s: Array | None) -> float | None:
        if time_s is None:
            return None
        used = time_s if self.scan.present is None else time_s[self.scan.present]
        return float(used.sum()) if np.isfinite(used).all() else None


def survey(scan: Scan, *, progress: Progress | None = None, max_bytes: float = np.inf) -> Survey:
    """Read a scan block by block, on all cores; missing pixels count nowhere.

    Pixels with negative or invalid values become missing, with a note in the result's scan.

    Parameters
    ----------
    scan : Scan
    progress : callable, optional
        Called with (pixels done, pixels in all).
    max_bytes : float
        Of a larger scan only about so much is read, in blocks spread evenly over it.

    Raises
    ------
    ScanError
        A block that is read is damaged, a channel has impossible counts, or no pixel is valid.
    """
    blocks = list(scan.blocks())
    n_read = max(int(len(blocks) * min(max_bytes / max(scan.counts.nbytes, 1), 1.0)), min(_MIN_BLOCKS, len(blocks)))
    blocks = [blocks[index] for index in np.linspace(0, len(blocks) - 1, n_read).astype(int)]
    grid = _cuts(scan.shape[0]), _cuts(scan.shape[1])
    tiles, tile_pixels = np.zeros((len(grid[0]) * len(grid[1]), scan.shape[2])), np.zeros(len(grid[0]) * len(grid[1]))
    highest, pixel_counts = np.zeros(scan.shape[2]), np.full(scan.shape[:2], np.nan)
    usable = np.ones(scan.shape[:2], bool) if scan.present is None else scan.present.copy()
    wall, n_done, sample = _Wall(), 0, []
    picked = np.zeros(scan.shape[:2], bool)
    picked.flat[np.random.default_rng(0).permutation(np.flatnonzero(usable))[:_MAX_SAMPLED]] = True
    # Separate threads, since dask's groups of blocks wait for the slowest one of the group before.
    with ThreadPoolExecutor(CPU_COUNT) as threads:
        for block, part in zip(blocks, threads.map(partial(_block_survey, scan, grid, picked), blocks), strict=True):
            for tile, total, n_pixel in part.tiles:
                tiles[tile] += total
                tile_pixels[tile] += n_pixel
            np.maximum(highest, part.highest, out=highest)
            pixel_counts[block], usable[block] = part.pixel_counts, part.usable
            wall = wall.joined(part.wall)
            sample.append(part.sample)
            n_done += part.usable.size
            if progress is not None:
                progress(n_done, scan.n_pixel)
    _require_usable(scan, usable, pixel_counts)
    notes = (
        *_clipped_note(wall, int(tile_pixels.sum()), scan.shape[2]),
        *_unusable_note(scan, usable),
        *_residue_note(scan),
    )
    present = scan.present if scan.present is None and usable.all() else usable
    cleaned = replace(scan, present=present, notes=tuple(dict.fromkeys((*notes, *scan.notes))))
    spectra, total = np.concatenate(sample), tiles.sum(axis=0)
    if not len(spectra):
        spectra = total[None] / tile_pixels.sum()
    return Survey(cleaned, total, highest, pixel_counts, tiles, tile_pixels, spectra)


@dataclass(frozen=True)
class _Wall:
    """How often the highest value occurs, and how often the values right below it, in the same channels."""

    value: float = 0.0
    number: int = 0
    below: int = 0
    n_pixel: int = 0
    channels: frozenset[int] = frozenset()

    def joined(self, other: "_Wall") -> "_Wall":
        if self.value != other.value:
            return max(self, other, key=lambda wall: wall.value)
        return _Wall(
            self.value,
            self.number + other.number,
            self.below + other.below,
            self.n_pixel + other.n_pixel,
            self.channels | other.channels,
        )

    def clips(self) -> bool:
        """Whether values stop there: more of them than right below, at a number type's end or in flat tops."""
        if self.number < _MIN_CLIPPED or self.number <= self.below:
            return False
        return self.value in _TYPE_MAXIMA or self.number >= _FLAT_CHANNELS * self.n_pixel


@dataclass(frozen=True)
class _BlockSurvey:
    tiles: list[tuple[int, Array, int]]
    highest: Array
    pixel_counts: Array
    usable: NDArray[np.bool_]
    wall: _Wall
    sample: NDArray[Any]


def _block_survey(
    scan: Scan, grid: tuple[list[slice], list[slice]], picked: NDArray[np.bool_], block: Block
) -> _BlockSurvey:
    counts = scan.read(*block)
    usable = np.ones(counts.shape[:2], bool) if scan.present is None else scan.present[block].copy()
    if counts.dtype.kind != "u":
        # No comparison with NaN is true.
        usable &= (counts.min(axis=2) >= 0) & (counts.max(axis=2) < np.inf)
    if not usable.all():
        counts = np.where(usable[:, :, None], counts, counts.dtype.type(0))
    highest = counts.reshape(-1, counts.shape[-1]).max(axis=0)
    if highest.size and highest.max() > _MAX_COUNTS:
        raise ScanError(
            f"Cannot use {scan.source or scan.name}: a channel holds {float(highest.max()):.3g} counts, up to "
            f"{_MAX_COUNTS:.0e} are possible. Is it damaged, or were negative counts stored as unsigned numbers?"
        )
    # Integers are added as such, which is faster and exact.
    sums = np.uint64 if counts.dtype.kind == "u" else np.float64
    tiles = [
        (tile, counts[inside].sum(axis=(0, 1), dtype=sums).astype(np.float64), int(usable[inside].sum()))
        for tile, inside in _tiles_in(grid, block)
    ]
    pixels = counts.sum(axis=2, dtype=sums).astype(np.float64)
    sample = counts[picked[block] & usable]
    return _BlockSurvey(tiles, highest.astype(np.float64), pixels, usable, _wall_of(counts, highest), sample)


def _cuts(size: int) -> list[slice]:
    borders = np.linspace(0, size, min(size, _MAX_TILES) + 1).astype(int)
    return [slice(int(low), int(high)) for low, high in pairwise(borders)]


def _tiles_in(grid: tuple[list[slice], list[slice]], block: Block) -> Iterator[tuple[int, Block]]:
    """Number of each tile that a block overlaps, and the part of the block in it."""
    for first, rows in _overlaps(grid[0], block[0]):
        for second, columns in _overlaps(grid[1], block[1]):
            yield first * len(grid[1]) + second, (rows, columns)


def _overlaps(cuts: list[slice], part: slice) -> Iterator[tuple[int, slice]]:
    for index, cut in enumerate(cuts):
        low, high = max(cut.start, part.start), min(cut.stop, part.stop)
        if low < high:
            yield index, slice(low - part.start, high - part.start)


def _wall_of(counts: NDArray[Any], highest: NDArray[Any]) -> _Wall:
    """Examine the channels that reach the highest value; the others cannot be clipped."""
    top = highest.max()
    if top <= 1:
        return _Wall()
    channels = np.flatnonzero(highest == top)
    values = counts[:, :, channels]
    at_top = values == top
    below = (values >= top - max(2.0, float(np.sqrt(float(top))))) & ~at_top
    touched = int(at_top.any(axis=2).sum())
    return _Wall(float(top), int(at_top.sum()), int(below.sum()), touched, frozenset(channels.tolist()))


def _clipped_note(wall: _Wall, n_pixel: int, n_channel: int) -> tuple[str, ...]:
    if not wall.clips():
        return ()
    return (
        f"clipped: values stop at {wall.value:g} in {_percent(wall.n_pixel, n_pixel)} of the pixels and in "
        f"{len(wall.channels)} of {n_channel} channels. Counts are lost there; what rests on strong lines is wrong. "
        "Export the counts again as 32-bit numbers.",
    )


def _unusable_note(scan: Scan, usable: NDArray[np.bool_]) -> tuple[str, ...]:
    number = int((~usable if scan.present is None else scan.present & ~usable).sum())
    if not number:
        return ()
    return (
        f"{number} of {usable.size} pixels hold values that are no counts (NaN, infinite or negative); "
        "they count as missing",
    )


def _residue_note(scan: Scan) -> tuple[str, ...]:
    readers = [reader for name in scan.counts.dask.layers if (reader := READERS.get(name)) is not None]
    number = max((int(reader.residues.sum()) for reader in readers), default=0)
    if not number:
        return ()
    return (f"small negative values, in {number} of {readers[0].residues.size} pixels, are set to zero",)


def _require_usable(scan: Scan, usable: NDArray[np.bool_], pixel_counts: Array) -> None:
    is_finite = np.isfinite(pixel_counts)
    if scan.present is not None:
        is_finite &= scan.present
    if is_finite.any() and not usable[is_finite].any():
        raise ScanError(
            f"Cannot use {scan.source or scan.name}: none of its {int(is_finite.sum())} pixels holds counts; each has "
            "values that are NaN, infinite or negative. Export the raw counts again."
        )


def _percent(part: int, total: int) -> str:
    share = 100 * part / max(total, 1)
    return f"{share:.0f} %" if share >= 1 else f"{share:.2g} %"
