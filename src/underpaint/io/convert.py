"""Lossless conversion of scans to zarr, or to HDF5 in the layout of PyMca. The output is read back and compared."""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan
from underpaint.errors import OutputError, UnderpaintError
from underpaint.io.load import HEAD_BYTES, load_all, load_each, refuse_output_in_scan, split_location
from underpaint.io.new_hdf5 import new_hdf5
from underpaint.io.readers import Photograph, reader_of
from underpaint.io.readers.zarr import wait_for_zarr, zarr_library
from underpaint.io.results.provenance import file_facts, refuse_change
from underpaint.runtime.files import atomic_write, exclusive_lock, write_error
from underpaint.runtime.progress import Progress

HDF5_ENDINGS = (".h5", ".hdf5", ".hdf", ".nxs")
ZARR_ENDINGS = (".zarr",)
_CHUNK_BYTES = 2**20


@dataclass(frozen=True)
class ConversionResult:
    """Result of a conversion.

    Parameters
    ----------
    target : Path
        The file or folder that was written.
    shapes : tuple of (int, int, int)
        Numbers of rows, columns and channels of each detector.
    size_bytes : int
        Size of the written file or folder on disk, in bytes.
    counts_bytes : int
        Size of the counts in memory, in bytes.
    photographs : tuple of str
        Names of the images that were copied from the source.
    """

    target: Path
    shapes: tuple[tuple[int, int, int], ...]
    size_bytes: int
    counts_bytes: int
    photographs: tuple[str, ...]


def convert_scan(
    source: str | Path,
    target: str | Path,
    *,
    detector: str | None = None,
    shape: tuple[int, int] | None = None,
    axes: Sequence[EnergyAxis] | None = None,
    step: Progress | None = None,
) -> ConversionResult:
    """Write the unchanged values of a scan's detectors to a new file, read the file back and compare.

    Parameters
    ----------
    source : str or Path
        As for :func:`~underpaint.io.load`.
    target : str or Path
        Path to write, which must not exist. The endings are ``.h5``, ``.hdf5``, ``.hdf`` or ``.nxs`` (all HDF5), and
        ``.zarr``. The output has a temporary name until it is complete and verified.
    detector : str or None
        Detector to write, as for :func:`~underpaint.io.load`; "sum" writes the sum, and None writes all detectors
        separately.
    shape : (int, int) or None
        Numbers of rows and columns, for a folder of spectra without a grid file, and for lists of spectra.
    axes : sequence of EnergyAxis or None
        Energy axis of each detector. If None, the energy axes of the source are kept.
    step : callable or None
        Function that is called with the task, the number of finished rows, and the total number of rows.

    Raises
    ------
    ScanError
        The source cannot be read.
    OutputError
        The target exists, is inside the source, cannot be written, has an unknown ending, or differs from the source
        when read back.
    MissingExtraError
        The target is a ``.zarr``, and the zarr library is not installed.

    Notes
    -----
    Stored values are not converted to counts. The stored value of one count is estimated when the target is read. As in
    all readers, negative residues are set to zero, and a pixel with a non-finite value becomes NaN in all channels.

    Several detectors are added only if ``detector`` is "sum". If detectors are not added, each one keeps its channels
    and energy axis, in ``/entry/measurement_<n>/counts`` (HDF5) or ``detector_<n>/counts`` (zarr).
    """
    target_path = Path(target)
    write_scans = _writer_of(target_path)
    refuse_existing(target_path)
    refuse_output_in_scan(target_path, source)
    source_facts = file_facts(source)
    scans, photographs = load_each(source, detector=detector, shape=shape, counts_scale=1), photographs_of(source)
    if axes is not None:
        scans = [scan.replace(axis=axis) for scan, axis in zip(scans, axes, strict=True)]
    progress = step or (lambda *_: None)
    with _temporary_target(target_path) as temporary_path:
        row_digests = write_scans(temporary_path, scans, photographs, progress)
        _verify(temporary_path, scans, row_digests, progress)
        written_bytes = sum(
            written_path.stat().st_size
            for written_path in (temporary_path.rglob("*") if temporary_path.is_dir() else [temporary_path])
            if written_path.is_file()
        )
        refuse_change(source, source_facts, target_path)
    return ConversionResult(
        target_path,
        tuple(scan.shape for scan in scans),
        written_bytes,
        sum(scan.nbytes for scan in scans),
        tuple(photograph.name for photograph in photographs),
    )


def photographs_of(source: str | Path) -> list[Photograph]:
    """Return the images that a scan's file contains. Only a few formats can contain images.

    Raises
    ------
    ScanError
        The file is damaged.
    """
    path, _ = split_location(source)
    if not path.is_file():
        return []
    with path.open("rb") as stream:
        reader = reader_of(path, stream.read(HEAD_BYTES))
    read_images: Callable[[Path], list[Photograph]] | None = getattr(reader, "read_photographs", None)
    return [] if read_images is None else read_images(path)


def save_photographs(photographs: list[Photograph], folder: Path) -> list[Path]:
    """Save unchanged images as TIFF files in a new folder. Characters that a file name may not contain are replaced.

    Raises
    ------
    OutputError
        The folder exists or cannot be written.
    """
    import tifffile

    refuse_existing(folder)
    image_paths = []
    try:
        folder.mkdir()
        for index, photograph in enumerate(photographs):
            safe_name = "".join(
                character if character.isalnum() or character in "-_ " else "_" for character in photograph.name
            ).strip()
            image_paths.append(folder / f"{index + 1:02d} {safe_name[:80]}.tif")
            tifffile.imwrite(
                image_paths[-1], photograph.pixels, photometric="rgb" if photograph.pixels.ndim == 3 else "minisblack"
            )
    except OSError as error:
        raise OutputError(
            f"Cannot write {folder}: {error.strerror or error}. Check that its folder exists and is writable."
        ) from error
    return image_paths


def refuse_existing(target_path: Path) -> None:
    """Raise OutputError if the path exists."""
    if target_path.exists() or target_path.is_symlink():
        raise OutputError(
            f"Cannot write {target_path}: it already exists and is not replaced. Choose another name or remove it."
        )


Digests = list[list[bytes]]
Writer = Callable[[Path, list[Scan], list[Photograph], Progress], Digests]


def _writer_of(target_path: Path) -> Writer:
    ending = target_path.suffix.lower()
    if ending in HDF5_ENDINGS:
        return _write_hdf5
    if ending in ZARR_ENDINGS:
        zarr_library()
        return _write_zarr
    ending_list = ", ".join((*HDF5_ENDINGS, *ZARR_ENDINGS))
    raise OutputError(
        f"Cannot write {target_path}: the ending {ending or '(none)'} names no format to convert to. Use {ending_list}."
    )


@contextmanager
def _temporary_target(target_path: Path) -> Iterator[Path]:
    """Yield a temporary path, which becomes the target on success and is removed otherwise."""
    try:
        with exclusive_lock(target_path), atomic_write(target_path, replace=False) as temporary_path:
            yield temporary_path
    except UnderpaintError:
        raise
    except (OSError, RuntimeError) as error:
        raise write_error(target_path, error) from error


def _row_blocks(scan: Scan, progress: Progress, task: str) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield each block of full rows as the index of its first row and its counts."""
    counts, first_row = scan.counts.rechunk({1: -1, 2: -1}), 0
    for n_row in counts.chunks[0]:
        progress(task, first_row, scan.shape[0])
        block = np.asarray(counts[first_row : first_row + n_row].compute())
        yield first_row, np.ascontiguousarray(block, dtype=block.dtype.newbyteorder("="))
        first_row += n_row
    progress(task, first_row, scan.shape[0])


def _write_rows(dataset: Any, scan: Scan, progress: Progress) -> list[bytes]:
    """Write a scan's counts to a dataset, and return a hash of each row."""
    row_digests = []
    for first_row, block in _row_blocks(scan, progress, f"writing {scan.name}"):
        dataset[first_row : first_row + block.shape[0]] = block
        row_digests += [_row_digest(row) for row in block]
    return row_digests


def _row_digest(row: NDArray[Any]) -> bytes:
    return blake2b(row.tobytes(), digest_size=16).digest()


def _chunk_shape(scan: Scan) -> tuple[int, int, int]:
    _, n_column, n_channel = scan.shape
    chunk_columns = int(min(n_column, max(1, _CHUNK_BYTES // (n_channel * scan.dtype.itemsize))))
    return 1, chunk_columns, n_channel


def _verify(temporary_path: Path, scans: list[Scan], row_digests: Digests, progress: Progress) -> None:
    """Read the written file, and raise OutputError if its counts, energies or times differ from those of the scans."""
    for scan, converted_scan, expected_digests in zip(
        scans, load_all(temporary_path, counts_scale=1), row_digests, strict=True
    ):
        converted_digests = [
            _row_digest(row)
            for _, block in _row_blocks(converted_scan, progress, f"reading {scan.name} back")
            for row in block
        ]
        has_equal_metadata = (converted_scan.dtype.newbyteorder("="), converted_scan.axis) == (
            scan.dtype.newbyteorder("="),
            scan.axis,
        )
        if converted_digests != expected_digests or not has_equal_metadata or not _same_times(scan, converted_scan):
            raise OutputError(
                f"Cannot verify {temporary_path.name}: {scan.name} differs when it is read back. "
                "The disk may be failing; nothing was kept."
            )


def _same_times(first_scan: Scan, second_scan: Scan) -> bool:
    time_pairs = ((first_scan.live_time_s, second_scan.live_time_s), (first_scan.real_time_s, second_scan.real_time_s))
    return all(
        np.array_equal(_times_or_nan(first_times, first_scan), _times_or_nan(second_times, first_scan), equal_nan=True)
        for first_times, second_times in time_pairs
    )


def _times_or_nan(time_s: NDArray[np.float64] | None, scan: Scan) -> NDArray[np.float64]:
    """Return the time of each pixel in s, with NaN for unknown times. A time of 0 also means unknown."""
    return np.full(scan.shape[:2], np.nan) if time_s is None else np.where(time_s > 0, time_s, np.nan)


def _optional_arrays(scan: Scan) -> dict[str, NDArray[Any]]:
    optional_arrays = {"live_time_s": scan.live_time_s, "real_time_s": scan.real_time_s, "present": scan.present}
    return {
        name: np.asarray(pixel_values) for name, pixel_values in optional_arrays.items() if pixel_values is not None
    }


# --- HDF5 ------------------------------------------------------------------------------------------


def _write_hdf5(temporary_path: Path, scans: list[Scan], photographs: list[Photograph], progress: Progress) -> Digests:
    with new_hdf5(temporary_path) as (file, raise_write_error):

        def report_progress(task: str, rows_done: int, total_rows: int) -> None:
            raise_write_error()
            progress(task, rows_done, total_rows)

        file.attrs.update({"NX_class": "NXroot", "default": "entry"})
        entry_group = file.create_group("entry")
        group_names = (
            ["measurement"] if len(scans) == 1 else [f"measurement_{index:02d}" for index in range(len(scans))]
        )
        entry_group.attrs.update({"NX_class": "NXentry", "default": group_names[0]})
        entry_group["title"] = scans[0].name
        row_digests = [
            _write_group(entry_group.create_group(name), scan, report_progress)
            for name, scan in zip(group_names, scans, strict=True)
        ]
        for photograph in photographs:
            image_group = entry_group.create_group(f"photographs/{photograph.name.replace('/', '_')}")
            image_group.attrs.update({"NX_class": "NXdata", "signal": "image"})
            image_group.create_dataset("image", data=photograph.pixels, compression="gzip", shuffle=True)
    return row_digests


def _write_group(group: Any, scan: Scan, progress: Progress) -> list[bytes]:
    """Write a detector as NXdata. Calibration and times have the names that PyMca and ``load`` expect."""
    group.attrs.update({"NX_class": "NXdata", "signal": "counts", "axes": ["row", "column", "channels"]})
    dataset = group.create_dataset(
        "counts",
        shape=scan.shape,
        dtype=scan.dtype,
        chunks=_chunk_shape(scan),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
        fletcher32=True,
    )
    dataset.attrs.update({"interpretation": "spectrum", "units": "counts"})
    row_digests = _write_rows(dataset, scan, progress)
    pixel_step = scan.step_mm or (1.0, 1.0)
    group["channels"] = np.arange(scan.shape[2], dtype=np.float32)
    for name, pixel_count, step_mm in (("row", scan.shape[0], pixel_step[0]), ("column", scan.shape[1], pixel_step[1])):
        group[name] = step_mm * np.arange(pixel_count)
        group[name].attrs["units"] = "mm" if scan.step_mm else "pixel"
    if scan.axis is not None:
        group["calibration"] = np.array([scan.axis.zero_kev, scan.axis.gain_kev, 0.0])
        group["gain_kev"], group["zero_kev"] = scan.axis.gain_kev, scan.axis.zero_kev
    if scan.step_mm is not None:
        group["step_mm"] = np.array(scan.step_mm)
    for name, pixel_values in _optional_arrays(scan).items():
        group[name] = pixel_values
    if scan.live_time_s is not None:
        group["live_time"] = h5py.SoftLink("live_time_s")
    group["detector"], group["notes"], group["source"] = scan.detector, "\n".join(scan.notes), scan.source
    group["metadata"] = json.dumps(scan.metadata, default=str)
    return row_digests


# --- zarr ------------------------------------------------------------------------------------------


def _write_zarr(temporary_path: Path, scans: list[Scan], photographs: list[Photograph], progress: Progress) -> Digests:
    zarr_module = zarr_library()
    root_group = zarr_module.create_group(temporary_path)
    detector_groups = (
        [root_group]
        if len(scans) == 1
        else [root_group.create_group(f"detector_{detector_index:02d}") for detector_index in range(len(scans))]
    )
    try:
        row_digests = [_write_array(group, scan, progress) for group, scan in zip(detector_groups, scans, strict=True)]
        for photograph in photographs:
            root_group.create_array(
                f"photographs/{photograph.name.replace('/', '_')}", data=np.ascontiguousarray(photograph.pixels)
            )
    except BaseException:
        wait_for_zarr()
        raise
    return row_digests


def _write_array(group: Any, scan: Scan, progress: Progress) -> list[bytes]:
    zarr_module, chunk_shape = zarr_library(), _chunk_shape(scan)
    counts_array = group.create_array(
        "counts",
        shape=scan.shape,
        dtype=scan.dtype.newbyteorder("="),
        chunks=chunk_shape,
        compressors=zarr_module.codecs.ZstdCodec(level=1, checksum=True),
        config={"write_empty_chunks": True},
        dimension_names=("row", "column", "channel"),
    )
    counts_array.attrs.update(_attributes(scan, scan.shape[0] * -(-scan.shape[1] // chunk_shape[1])))
    for name, pixel_values in _optional_arrays(scan).items():
        group.create_array(name, data=np.ascontiguousarray(pixel_values))
    return _write_rows(counts_array, scan, progress)


def _attributes(scan: Scan, n_chunk: int) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "units": "counts",
        "n_chunk_written": n_chunk,
        "detector": scan.detector,
        "notes": list(scan.notes),
        "source": scan.source,
        "metadata": json.loads(json.dumps(scan.metadata, default=str)),
    }
    if scan.axis is not None:
        attributes |= {"gain_kev": scan.axis.gain_kev, "zero_kev": scan.axis.zero_kev}
    if scan.step_mm is not None:
        attributes["step_mm"] = list(scan.step_mm)
    return attributes
