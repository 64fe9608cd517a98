"""Scans and surveys. A scan is a cube of spectra (row, column, channel) with metadata, read when needed."""

import html
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from underpaint.data.axis import EnergyAxis
from underpaint.data.spectrum import Spectrum
from underpaint.errors import CalibrationError, MissingExtraError, ScanError

if TYPE_CHECKING:
    import xarray as xr

Array = NDArray[np.float64]
Block = tuple[slice, slice]
Progress = Callable[[int, int], None]
_MIN_READ_BLOCKS = 3
_MAX_READ_THREADS = 8
"""Maximum number of threads that read blocks. More would wait for the disk, and hold more blocks in memory."""
_BLOCK_ROWS = 16
"""Number of rows in a block of a NumPy array."""
_MAX_COUNTS = 1e12
"""Maximum counts in a channel of a pixel: those of eleven days at a million counts per second."""
_MAX_SAMPLE_SIZE = 4096
_MAX_TILES = 16
"""Maximum number of tiles along each side of a scan."""
_MIN_CLIPPED_VALUES = 10
_MIN_CLIPPED_CHANNELS = 3
_NUMBER_TYPE_MAXIMA = tuple(2**bits - 1 for bits in (7, 8, 10, 12, 14, 15, 16, 31, 32))


class _Counts:
    """Attribute of scans. An array becomes a dask array at its first use, because importing dask takes long."""

    def __get__(self, scan: "Scan | None", _owner: type) -> Any:
        if scan is None:
            raise AttributeError("counts")  # for dataclass: the field has no default
        counts = vars(scan)["counts"]
        if isinstance(counts, np.ndarray | CountsReader):
            from underpaint.data.dask_array import da

            name, meta = getattr(counts, "name", False), np.empty((0, 0, 0), counts.dtype)
            counts = da.from_array(counts, scan.chunks, name, asarray=False, fancy=False, meta=meta)
            vars(scan)["counts"] = counts
        return counts

    def __set__(self, scan: "Scan", counts: Any) -> None:
        vars(scan)["counts"] = counts


@dataclass(frozen=True, repr=False)
class Scan:
    """Counts of a scan, which are read when needed, and metadata.

    Parameters
    ----------
    counts : (n_row, n_column, n_channel) dask array
        Counts of any numeric type. Dask chunks may divide rows and columns, but not channels. NumPy arrays and cubes in
        files (:func:`~underpaint.io.readers.lazy_counts`) are accepted as well, and become dask arrays.
    axis : EnergyAxis or None
        Energy axis; None if the file does not state it. The command ``calibrate`` determines the axis.
    name : str
        Short name, which is also used for folders of results.
    source : str
        Path of the file from which the scan was read; ``::array`` is appended for an array in the file.
    format : str
        Name of the file format.
    live_time_s, real_time_s : (n_row, n_column) array, or None
        Live time and real time of each pixel, in s; NaN if unknown for a pixel, None if unknown for all.
    step_mm : (float, float) or None
        Distance between rows and between columns, in mm.
    detector : str
        Name or serial number of the detector; "" if unknown.
    present : (n_row, n_column) bool array, or None
        False for missing pixels; None if no pixel is missing.
    notes : tuple of str
        Notes for the user (skipped files, unknown times ...).
    metadata : dict
        Other metadata, with the names that they have in the file.
    counts_scale : float
        Stored value of one count, by which the values in the file were divided. If each pixel has its own scale, the
        median over the pixels is given.
    detectors : tuple of Scan
        Detectors whose sum is ``counts``, all with the same channels. Empty if there is a single detector, or if the
        counts were changed later.

    Examples
    --------
    >>> import underpaint as up
    >>> up.Scan(np.ones((2, 3, 64)), up.EnergyAxis(0.5, 0.0, 64), name="small")
    <underpaint scan small: 2 rows x 3 columns x 64 channels>
      axis        500.000 eV per channel from 0.000 keV
    """

    counts: Any = _Counts()
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
        if not hasattr(self._stored_counts, "chunks"):
            object.__setattr__(self, "counts", np.asarray(self._stored_counts))
        shape = self._stored_counts.shape
        if len(shape) != 3:
            raise ScanError(f"Cannot make a scan from an array of shape {shape}: (row, column, channel) is needed.")
        if 0 in shape:
            raise ScanError(f"Cannot make a scan from an array of shape {shape}: it is empty.")
        if self.axis is not None and self.axis.n_channel != shape[2]:
            raise ScanError(
                f"Cannot make a scan: the cube has {shape[2]} channels, but its energy axis has {self.axis.n_channel}."
            )
        if self.detectors and self.counts.name != name_of_sum(self.detectors):
            object.__setattr__(self, "detectors", ())

    def __repr__(self) -> str:
        n_row, n_column, n_channel = self.shape
        axis = self.axis
        axis_text = "none" if axis is None else f"{1e3 * axis.gain_kev:.3f} eV per channel from {axis.zero_kev:.3f} keV"
        descriptions = {"file": self.source, "format": self.format, "detector": self.detector, "axis": axis_text}
        text_lines = [f"<underpaint scan {self.name}: {n_row} rows x {n_column} columns x {n_channel} channels>"]
        text_lines += [f"  {name:11s} {description}" for name, description in descriptions.items() if description]
        return "\n".join([*text_lines, *(f"  note        {note}" for note in self.notes)])

    def _repr_html_(self) -> str:
        labelled_counts: Any = self.to_dataarray()
        return f"<pre style='white-space: pre-wrap'>{html.escape(repr(self))}</pre>{labelled_counts._repr_html_()}"

    @property
    def _stored_counts(self) -> Any:
        """NumPy array, cube in a file, or dask array."""
        return vars(self)["counts"]

    @property
    def shape(self) -> tuple[int, int, int]:
        """(n_row, n_column, n_channel)."""
        n_row, n_column, n_channel = self._stored_counts.shape
        return int(n_row), int(n_column), int(n_channel)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the counts."""
        dtype: np.dtype[Any] = self._stored_counts.dtype
        return dtype

    @property
    def nbytes(self) -> int:
        """Size of all counts, in bytes."""
        return self.n_pixel * self.shape[2] * self.dtype.itemsize

    @property
    def chunks(self) -> tuple[tuple[int, ...], ...]:
        """Numbers of rows, columns and channels in the blocks in which the counts are read."""
        n_row, n_column, n_channel = self.shape
        if isinstance(self._stored_counts, np.ndarray):
            block_rows = tuple(min(_BLOCK_ROWS, n_row - row) for row in range(0, n_row, _BLOCK_ROWS))
            return block_rows, (n_column,), (n_channel,)
        return tuple(self._stored_counts.chunks)

    @property
    def n_pixel(self) -> int:
        """Number of pixels."""
        return self.shape[0] * self.shape[1]

    def require_axis(self) -> EnergyAxis:
        """Return the energy axis. If the scan has no axis, raise a CalibrationError that states what to do."""
        if self.axis is None:
            raise CalibrationError(
                f"Scan {self.name!r} has no energy axis. Run `underpaint calibrate`, and give its instrument file with "
                "--instrument; in Python `underpaint.calibrate.resolve_energy_axis(scan).scan` has an axis."
            )
        return self.axis

    def replace(self, **changes: Any) -> "Scan":
        """Return the scan with other values of the given parameters. Counts in a file stay there."""
        return Scan(**{**vars(self), **changes})

    def with_axis(self, axis: EnergyAxis) -> "Scan":
        """Return the scan with another energy axis. The counts in the channels stay the same."""
        return self.replace(axis=axis)

    def row_blocks(self) -> Iterator[slice]:
        """Yield the rows of each block in which the counts are read."""
        first_row = 0
        for n_row in self.chunks[0]:
            yield slice(first_row, first_row + n_row)
            first_row += n_row

    def blocks(self) -> Iterator[tuple[slice, slice]]:
        """Yield the rows and columns of each block in which the counts are read."""
        for rows in self.row_blocks():
            first_column = 0
            for n_column in self.chunks[1]:
                yield rows, slice(first_column, first_column + n_column)
                first_column += n_column

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Return the counts of a rectangle of pixels.

        If possible, counts are read directly from the file, because dask would read whole chunks.
        """
        if isinstance(self._stored_counts, np.ndarray):
            return self._stored_counts[rows, columns].copy()
        reader = READERS.get(self._stored_counts.name)
        if reader is not None and reader.shape == self.shape:
            return reader[rows, columns]
        import dask

        return np.asarray(self.counts[rows, columns].compute(scheduler=dask.get))

    def pixel(self, row: int, column: int) -> Spectrum:
        """Return the spectrum of a pixel."""
        row, column = range(self.shape[0])[row], range(self.shape[1])[column]
        counts = self.read(slice(row, row + 1), slice(column, column + 1))[0, 0].astype(np.float64)
        live_time, real_time = (
            _pixel_time(pixel_times, row, column) for pixel_times in (self.live_time_s, self.real_time_s)
        )
        return Spectrum(counts, self.axis, live_time, real_time, f"{self.name} ({row}, {column})")

    def to_dataarray(self) -> "xr.DataArray":
        """Return the counts as a labelled array (xarray), which is read when needed.

        Returns
        -------
        xarray.DataArray
            Array with the dimensions ``row``, ``column`` and ``energy_kev``; without an energy axis, the last one is
            ``channel``. The coordinates ``y_mm``, ``x_mm`` and ``live_time_s`` are included if known. Missing pixels
            are 0.

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
        channel_dimension = "channel" if self.axis is None else "energy_kev"
        channel_values = np.arange(n_channel) if self.axis is None else self.axis.energy_kev
        coordinates: dict[str, Any] = {"row": rows, "column": columns, channel_dimension: channel_values}
        if self.step_mm is not None:
            coordinates |= {"y_mm": ("row", self.step_mm[0] * rows), "x_mm": ("column", self.step_mm[1] * columns)}
        if self.live_time_s is not None:
            coordinates["live_time_s"] = (("row", "column"), self.live_time_s)
        labelled_counts = xr.DataArray(
            self.present_counts(), dims=("row", "column", channel_dimension), coords=coordinates, name="counts"
        )
        labelled_counts.attrs = {"units": "counts", "long_name": "counts", "source": self.source}
        if self.axis is not None:
            labelled_counts[channel_dimension].attrs = {"units": "keV", "long_name": "energy"}
        return labelled_counts

    def to_hyperspy(self) -> Any:
        """Return the scan as a HyperSpy ``Signal1D``, which is read when needed.

        Returns
        -------
        hyperspy.signals.LazySignal1D
            Signal with a signal axis in keV or channels, and navigation axes in mm or pixels.

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
        steps_and_unit = ((1.0, 1.0), "px") if self.step_mm is None else (self.step_mm, "mm")
        axes = [
            {"name": name, "size": n_pixel, "scale": pixel_step, "offset": 0.0, "units": steps_and_unit[1]}
            for name, n_pixel, pixel_step in zip(("y", "x"), self.shape, steps_and_unit[0], strict=False)
        ]
        signal_axis = {"name": "channel", "scale": 1.0, "offset": 0.0, "units": ""}
        if self.axis is not None:
            signal_axis = {"name": "Energy", "scale": self.axis.gain_kev, "offset": self.axis.zero_kev, "units": "keV"}
        metadata = {"General": {"title": self.name, "original_filename": self.source}}
        axes.append(signal_axis | {"size": self.shape[2]})
        return signals.Signal1D(self.present_counts(), axes=axes, metadata=metadata).as_lazy()

    def present_counts(self) -> Any:
        """Return a lazy array of the counts. Missing pixels and values that are not finite are 0."""
        from underpaint.data.dask_array import da

        counts = self.counts
        if counts.dtype.kind == "f":
            counts = da.where(da.isfinite(counts), counts, 0)
        return counts if self.present is None else da.where(self.present[:, :, None], counts, 0)

    def sum_spectrum(self) -> Spectrum:
        """Return the sum spectrum of the present pixels. :func:`~underpaint.data.survey` computes further summaries."""
        return survey(self).sum_spectrum()

    def max_spectrum(self) -> Spectrum:
        """Return the maximum spectrum, which also shows elements that occur in few pixels."""
        return survey(self).max_spectrum()


def name_of_sum(detectors: Sequence[Scan]) -> str:
    """Return the name of the dask array that holds the sum of detectors. The name depends on the counts."""
    from dask.base import tokenize

    return f"sum-{tokenize(*(scan.counts.name for scan in detectors))}"


def _pixel_time(time_s: NDArray[np.float64] | None, row: int, column: int) -> float | None:
    return None if time_s is None or np.isnan(time_s[row, column]) else float(time_s[row, column])


def valid_spectra(counts: NDArray[Any]) -> NDArray[np.bool_]:
    """Return whether each spectrum has counts and only valid values.

    The result is a boolean array with the shape of ``counts`` without its last axis.
    """
    # if any value is NaN, the minimum is NaN, and comparisons with NaN are false
    max_counts = counts.max(axis=-1)
    return np.asarray((counts.min(axis=-1) >= 0) & np.isfinite(max_counts) & (max_counts > 0))


# --- survey of a scan: sum, maximum, counts of each pixel, invalid values -------------------------------


@runtime_checkable
class CountsReader(Protocol):
    """Counts in a file, which are read by indexing.

    Parameters
    ----------
    name : str
        Unique name.
    shape : (int, int, int)
        Numbers of rows, columns and channels.
    dtype : dtype
        Type of the counts.
    chunks : tuple of tuples of int
        Numbers of rows, columns and channels in the blocks in which the counts are read.
    residues : (n_row, n_column) bool array
        Mask of the pixels in which the reader has set small negative values to zero.
    """

    name: str
    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    chunks: tuple[tuple[int, ...], ...]
    residues: NDArray[np.bool_]

    def __getitem__(self, key: Any) -> NDArray[Any]:
        """Return the counts at an index or slice."""


READERS: WeakValueDictionary[str, CountsReader] = WeakValueDictionary()
"""Reader of each dask array, by the name of the array."""


@dataclass(frozen=True)
class Survey:
    """Summary of a scan, or of the part of it that was read.

    Parameters
    ----------
    scan : Scan
        The scan, with unusable pixels marked as missing. Notes on invalid values precede other notes.
    total, highest : (n_channel,) arrays
        Sum and maximum of each channel, in counts, over the present pixels that were read.
    pixel_counts : (n_row, n_column) array
        Total counts of each pixel; 0 for missing pixels, NaN for pixels not read.
    tiles : (n_tile, n_channel) array
        Sum spectra of the tiles. Tiles are rectangles of pixels, at most 16 along each side of the scan.
    tile_pixels : (n_tile,) array
        Number of pixels in each tile.
    sample : (n, n_channel) array
        Spectra of a random sample of present pixels, in counts.
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
        """Number of pixels in the sum spectrum."""
        return int(self.tile_pixels.sum())

    @property
    def read_share(self) -> float:
        """Fraction of the pixels that were read."""
        return float(np.isfinite(self.pixel_counts).mean())

    def sum_spectrum(self) -> Spectrum:
        """Return the sum spectrum, with the total live and real time if these are known for all pixels."""
        is_complete = self.read_share == 1
        live_time, real_time = (
            self._total_time(time_s) if is_complete else None
            for time_s in (self.scan.live_time_s, self.scan.real_time_s)
        )
        return Spectrum(self.total, self.scan.axis, live_time, real_time, f"{self.scan.name} (sum)")

    def max_spectrum(self) -> Spectrum:
        """Return the maximum spectrum, which also shows elements that occur in few pixels."""
        return Spectrum(self.highest, self.scan.axis, None, None, f"{self.scan.name} (maximum)")

    def _total_time(self, time_s: Array | None) -> float | None:
        if time_s is None:
            return None
        pixel_times = time_s if self.scan.present is None else time_s[self.scan.present]
        return float(pixel_times.sum()) if np.isfinite(pixel_times).all() else None


def require_scan(scan: object) -> Scan:
    """Return the scan. Raise a ScanError for other objects, such as the path of a file not yet opened."""
    if isinstance(scan, Scan):
        return scan
    raise ScanError(
        f"Cannot analyse {scan!r:.80}: it is a {type(scan).__name__}, and a Scan is needed. Open the file first: "
        "underpaint.load(PATH)."
    )


def survey(scan: Scan, *, progress: Progress | None = None, max_bytes: float = np.inf) -> Survey:
    """Return the summary of a scan. Blocks are read in parallel, and missing pixels are left out.

    Pixels with negative or invalid values are marked as missing, and a note in the returned scan reports them.

    Parameters
    ----------
    scan : Scan
    progress : callable, optional
        Called with the number of pixels read so far and the number of all pixels.
    max_bytes : float
        Maximum size to read, in bytes. Of a larger scan, only evenly distributed blocks are read, with about this total
        size.

    Raises
    ------
    ScanError
        A block is damaged, a channel has impossible counts, or no pixel is valid.
    """
    blocks = list(scan.blocks())
    n_blocks_read = max(int(len(blocks) * min(max_bytes / scan.nbytes, 1.0)), min(_MIN_READ_BLOCKS, len(blocks)))
    blocks = [blocks[block_index] for block_index in np.linspace(0, len(blocks) - 1, n_blocks_read).astype(int)]
    tile_grid = _tile_slices(scan.shape[0]), _tile_slices(scan.shape[1])
    tiles, tile_pixels = (
        np.zeros((len(tile_grid[0]) * len(tile_grid[1]), scan.shape[2])),
        np.zeros(len(tile_grid[0]) * len(tile_grid[1])),
    )
    max_counts, pixel_counts = np.zeros(scan.shape[2]), np.full(scan.shape[:2], np.nan)
    is_usable = np.ones(scan.shape[:2], bool) if scan.present is None else scan.present.copy()
    clipping_statistics, n_pixels_read, sample = _ClippingStatistics(), 0, []
    is_in_sample = np.zeros(scan.shape[:2], bool)
    is_in_sample.flat[np.random.default_rng(0).permutation(np.flatnonzero(is_usable))[:_MAX_SAMPLE_SIZE]] = True
    # dask would wait for the slowest block of each group of blocks; threads do not
    with ThreadPoolExecutor(min(os.cpu_count() or 1, _MAX_READ_THREADS)) as threads:
        for block, block_survey in zip(
            blocks, threads.map(partial(_block_survey, scan, tile_grid, is_in_sample), blocks), strict=True
        ):
            for tile, sum_counts, n_pixel in block_survey.tiles:
                tiles[tile] += sum_counts
                tile_pixels[tile] += n_pixel
            np.maximum(max_counts, block_survey.max_counts, out=max_counts)
            pixel_counts[block], is_usable[block] = block_survey.pixel_counts, block_survey.is_usable
            clipping_statistics = clipping_statistics.merge(block_survey.clipping)
            sample.append(block_survey.sample)
            n_pixels_read += block_survey.is_usable.size
            if progress is not None:
                progress(n_pixels_read, scan.n_pixel)
    _require_usable(scan, is_usable, pixel_counts)
    notes = (
        *_clipped_note(clipping_statistics, int(tile_pixels.sum()), scan.shape[2]),
        *_unusable_note(scan, is_usable),
        *_zeroed_values_note(scan),
    )
    present = scan.present if scan.present is None and is_usable.all() else is_usable
    cleaned_scan = scan.replace(present=present, notes=tuple(dict.fromkeys((*notes, *scan.notes))))
    spectra, sum_counts = np.concatenate(sample), tiles.sum(axis=0)
    if not len(spectra):
        spectra = sum_counts[None] / tile_pixels.sum()
    return Survey(cleaned_scan, sum_counts, max_counts, pixel_counts, tiles, tile_pixels, spectra)


@dataclass(frozen=True)
class _ClippingStatistics:
    """Numbers of occurrences of the largest value, and of slightly smaller values in the same channels.

    Parameters
    ----------
    value : float
        Largest value in the scan.
    n_at_maximum, n_just_below : int
        Number of values equal to the largest value, and number of slightly smaller values.
    n_pixel : int
        Number of pixels that contain the largest value.
    channels : frozenset of int
        Channels that contain the largest value.
    """

    value: float = 0.0
    n_at_maximum: int = 0
    n_just_below: int = 0
    n_pixel: int = 0
    channels: frozenset[int] = frozenset()

    def merge(self, other: "_ClippingStatistics") -> "_ClippingStatistics":
        if self.value != other.value:
            return max(self, other, key=lambda statistics: statistics.value)
        return _ClippingStatistics(
            self.value,
            self.n_at_maximum + other.n_at_maximum,
            self.n_just_below + other.n_just_below,
            self.n_pixel + other.n_pixel,
            self.channels | other.channels,
        )

    def is_clipped(self) -> bool:
        """Return whether values are clipped, that is, cut off at the largest value.

        If values are clipped, the largest value is more frequent than slightly smaller values. The largest value must
        also be the maximum of a number type, or occur in several channels per pixel.
        """
        if self.n_at_maximum < _MIN_CLIPPED_VALUES or self.n_at_maximum <= self.n_just_below:
            return False
        return self.value in _NUMBER_TYPE_MAXIMA or self.n_at_maximum >= _MIN_CLIPPED_CHANNELS * self.n_pixel


@dataclass(frozen=True)
class _BlockSurvey:
    tiles: list[tuple[int, Array, int]]
    max_counts: Array
    pixel_counts: Array
    is_usable: NDArray[np.bool_]
    clipping: _ClippingStatistics
    sample: NDArray[Any]


def _block_survey(
    scan: Scan, tile_grid: tuple[list[slice], list[slice]], is_in_sample: NDArray[np.bool_], block: Block
) -> _BlockSurvey:
    counts = scan.read(*block)
    is_usable = np.ones(counts.shape[:2], bool) if scan.present is None else scan.present[block].copy()
    if counts.dtype.kind != "u":
        # comparisons with NaN are false
        is_usable &= (counts.min(axis=2) >= 0) & (counts.max(axis=2) < np.inf)
    if not is_usable.all():
        counts = np.where(is_usable[:, :, None], counts, counts.dtype.type(0))
    max_counts = counts.reshape(-1, counts.shape[-1]).max(axis=0)
    if max_counts.size and max_counts.max() > _MAX_COUNTS:
        raise ScanError(
            f"Cannot use {scan.source or scan.name}: a channel contains {float(max_counts.max()):.3g} counts; up to "
            f"{_MAX_COUNTS:.0e} are possible. Check whether the file is damaged, or stores negative counts as unsigned "
            "numbers."
        )
    # integers are summed as integers, which is faster and exact
    sum_dtype = np.uint64 if counts.dtype.kind == "u" else np.float64
    tiles = [
        (
            tile,
            counts[pixels_in_tile].sum(axis=(0, 1), dtype=sum_dtype).astype(np.float64),
            int(is_usable[pixels_in_tile].sum()),
        )
        for tile, pixels_in_tile in _tiles_of_block(tile_grid, block)
    ]
    pixel_counts = counts.sum(axis=2, dtype=sum_dtype).astype(np.float64)
    sample = counts[is_in_sample[block] & is_usable]
    return _BlockSurvey(
        tiles, max_counts.astype(np.float64), pixel_counts, is_usable, _clipping_statistics(counts, max_counts), sample
    )


def _tile_slices(n_pixel: int) -> list[slice]:
    tile_borders = np.linspace(0, n_pixel, min(n_pixel, _MAX_TILES) + 1).astype(int)
    return [slice(int(start), int(stop)) for start, stop in pairwise(tile_borders)]


def _tiles_of_block(tile_grid: tuple[list[slice], list[slice]], block: Block) -> Iterator[tuple[int, Block]]:
    """Yield the index of each tile that overlaps a block, and the rows and columns of the overlap in the block."""
    for row_tile, rows in _overlapping_tiles(tile_grid[0], block[0]):
        for column_tile, columns in _overlapping_tiles(tile_grid[1], block[1]):
            yield row_tile * len(tile_grid[1]) + column_tile, (rows, columns)


def _overlapping_tiles(tiles: list[slice], block_range: slice) -> Iterator[tuple[int, slice]]:
    for tile_index, tile in enumerate(tiles):
        start, stop = max(tile.start, block_range.start), min(tile.stop, block_range.stop)
        if start < stop:
            yield tile_index, slice(start - block_range.start, stop - block_range.start)


def _clipping_statistics(counts: NDArray[Any], max_counts: NDArray[Any]) -> _ClippingStatistics:
    """Return the statistics of the channels that contain the largest value. Other channels cannot be clipped."""
    max_value = max_counts.max()
    if max_value <= 1:
        return _ClippingStatistics()
    channels = np.flatnonzero(max_counts == max_value)
    channel_counts = counts[:, :, channels]
    is_max_value = channel_counts == max_value
    is_just_below_max = (channel_counts >= max_value - max(2.0, float(np.sqrt(float(max_value))))) & ~is_max_value
    n_pixel = int(is_max_value.any(axis=2).sum())
    return _ClippingStatistics(
        float(max_value), int(is_max_value.sum()), int(is_just_below_max.sum()), n_pixel, frozenset(channels.tolist())
    )


def _clipped_note(clipping_statistics: _ClippingStatistics, n_pixel: int, n_channel: int) -> tuple[str, ...]:
    if not clipping_statistics.is_clipped():
        return ()
    return (
        f"clipped: values stop at {clipping_statistics.value:g} in "
        f"{_percent_text(clipping_statistics.n_pixel, n_pixel)} of the pixels and in "
        f"{len(clipping_statistics.channels)} of {n_channel} channels. Counts are lost there, so that results from "
        "strong lines "
        "are wrong. Export the counts again as 32-bit numbers.",
    )


def _unusable_note(scan: Scan, is_usable: NDArray[np.bool_]) -> tuple[str, ...]:
    n_unusable = int((~is_usable if scan.present is None else scan.present & ~is_usable).sum())
    if not n_unusable:
        return ()
    return (
        f"{n_unusable} of {is_usable.size} pixels contain values that are not counts (NaN, infinite or negative); "
        "they are treated as missing",
    )


def _zeroed_values_note(scan: Scan) -> tuple[str, ...]:
    stored_counts = vars(scan)["counts"]
    names = stored_counts.dask.layers if hasattr(stored_counts, "dask") else [getattr(stored_counts, "name", "")]
    readers = [reader for name in names if (reader := READERS.get(name)) is not None]
    n_pixel = max((int(reader.residues.sum()) for reader in readers), default=0)
    if not n_pixel:
        return ()
    return (f"small negative values, in {n_pixel} of {readers[0].residues.size} pixels, are set to zero",)


def _require_usable(scan: Scan, is_usable: NDArray[np.bool_], pixel_counts: Array) -> None:
    is_finite = np.isfinite(pixel_counts)
    if scan.present is not None:
        is_finite &= scan.present
    if is_finite.any() and not is_usable[is_finite].any():
        raise ScanError(
            f"Cannot use {scan.source or scan.name}: none of its {int(is_finite.sum())} pixels contains counts; each "
            "has values that are NaN, infinite or negative. Export the raw counts again."
        )


def _percent_text(n_selected: int, n_total: int) -> str:
    percentage = 100 * n_selected / max(n_total, 1)
    return f"{percentage:.0f} %" if percentage >= 1 else f"{percentage:.2g} %"
