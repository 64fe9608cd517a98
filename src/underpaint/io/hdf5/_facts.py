"""Reading of energy axes, times and steps next to counts, and writing of scans and virtual panels.

Metadata are used only if their size matches the counts. Files are written in the layout of NeXus and PyMca.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._energies import MAX_AXIS_KEV, Axis, axis_of_gain_and_zero, axis_of_list
from underpaint.io.hdf5._links import check_sources, follow, open_file, read_values, walk
from underpaint.io.new_hdf5 import new_hdf5
from underpaint.runtime.files import atomic_write, write_error

_MM_PER_UNIT = {"mm": 1.0, "millimeter": 1.0, "um": 1e-3, "µm": 1e-3, "micron": 1e-3, "cm": 10.0, "m": 1000.0}
_S_PER_UNIT = {"s": 1.0, "sec": 1.0, "second": 1.0, "seconds": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
ENERGY_UNITS = ("kev", "ev")
"""Known units of energies. If the unit is unknown, the size of the energies decides between keV and eV."""
_MAX_TEXT_BYTES = 2**16
_MAX_DEVIATION_KEV = 0.01
_MAX_TIMES_PER_PIXEL = 64
"""Maximum number of stored times per pixel. Each detector may have a separate time."""


def as_text(attribute: Any) -> str:
    """Convert an attribute or the value of a string dataset to str."""
    if isinstance(attribute, np.ndarray) and attribute.size == 1:
        attribute = attribute.ravel()[0]
    return attribute.decode("utf-8", "replace") if isinstance(attribute, bytes) else str(attribute)


def short_text(dataset: Any) -> str:
    """Return the string in a dataset of a single string, or "" for any other object."""
    if not isinstance(dataset, h5py.Dataset) or dataset.size != 1 or dataset.dtype.itemsize > _MAX_TEXT_BYTES:
        return ""
    return as_text(read_values(dataset))


def unit_of(dataset: Any) -> str:
    """Return the ``units`` attribute of a dataset in lower case, or "" if it is missing."""
    unit_attribute = dataset.attrs.get("units", "") if isinstance(dataset, h5py.Dataset) else ""
    return as_text(unit_attribute).strip().lower()


def read_numbers(dataset: Any, max_size: int) -> NDArray[np.float64] | None:
    """Return the numbers in a dataset as floats, or None if it has over ``max_size`` numbers or is not a dataset."""
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "buif" or not 0 < dataset.size <= max_size:
        return None
    return np.asarray(read_values(dataset), dtype=np.float64)


def axis_of_energies(dataset: Any, n_channel: int) -> Axis:
    """Return the linear energy axis of a dataset of ``n_channel`` energies in keV or eV, and notes."""
    energy, unit = read_numbers(dataset, n_channel), unit_of(dataset)
    known_unit = unit if unit in ENERGY_UNITS else ""
    return (None, ()) if energy is None else axis_of_list(energy.ravel(), n_channel, known_unit)


def axis_of_polynomial(dataset: Any, n_channel: int) -> Axis:
    """Return the energy axis of a dataset of polynomial coefficients, and notes. The placeholder 0, 1, 0 gives None.

    A quadratic polynomial is approximated by a straight line if the energy of no channel changes by more than 10 eV.
    """
    coefficients = read_numbers(dataset, 8)
    if coefficients is None or not 2 <= coefficients.size <= 3:
        return None, ()
    zero, gain, *higher_orders = coefficients.ravel().tolist()
    if [zero, gain] == [0.0, 1.0]:
        return None, ()
    quadratic_term = higher_orders[0] if higher_orders else 0.0
    # Over channels 0 to last, the nearest straight line deviates from the parabola by at most quadratic * last**2 / 8.
    last_channel = n_channel - 1
    deviation_kev = quadratic_term * last_channel**2 / 8
    return (
        axis_of_gain_and_zero(gain + quadratic_term * last_channel, zero - deviation_kev, n_channel)
        if abs(deviation_kev) <= _MAX_DEVIATION_KEV
        else (None, ())
    )


def polynomial_deviation_kev(dataset: Any, n_channel: int) -> float:
    """Return the maximum deviation in keV between a polynomial axis and its linear approximation."""
    coefficients = read_numbers(dataset, 8)
    return (
        0.0
        if coefficients is None or coefficients.size != 3
        else float(abs(coefficients.flat[2])) * (n_channel - 1) ** 2 / 8
    )


def axis_fault(dataset: Any, n_channel: int) -> str:
    """Return why a dataset of energies or coefficients gives no energy axis. Other objects give ""."""
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "buif" or dataset.size < 2:
        return ""
    if dataset.size > 3 and dataset.size != n_channel:
        return f"{dataset.name} holds {dataset.size} numbers for {n_channel} channels"
    axis_numbers = read_values(dataset).ravel().tolist()
    if axis_numbers[:2] == [0.0, 1.0]:
        return ""
    coefficient_list = ", ".join(f"{coefficient:g}" for coefficient in axis_numbers[:3])
    description = (
        f"holds {coefficient_list}"
        if len(axis_numbers) <= 3
        else f"runs from {axis_numbers[0]:g} to {axis_numbers[-1]:g}"
    )
    return (
        f"{dataset.name} {description}; energies must increase in equal steps and end between 0 and "
        f"{MAX_AXIS_KEV:g} keV"
    )


PixelSelector = Callable[[NDArray[Any]], NDArray[Any] | None]
"""Function that arranges values on the grid of pixels, or returns None if their number does not fit."""


def times_fault(dataset: Any, select_pixels: PixelSelector, shape: tuple[int, int]) -> str:
    """Return a note on the pixels whose time is unknown, or "" if all times are known."""
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "buif":
        return ""
    n_pixel = shape[0] * shape[1]
    stored_times = read_numbers(dataset, _MAX_TIMES_PER_PIXEL * n_pixel)
    times = None if stored_times is None else select_pixels(stored_times)
    if times is None:
        return f"{dataset.name} ignored: it has {dataset.size} values for {n_pixel} pixels"
    n_unknown_time = int((~(times > 0)).sum())
    if n_unknown_time == n_pixel:
        return f"{dataset.name} ignored: none of its times is above 0"
    return (
        f"{dataset.name} unknown in {n_unknown_time} of {n_pixel} pixels: 0, negative or no number"
        if n_unknown_time
        else ""
    )


def pixel_seconds(
    dataset: Any, shape: tuple[int, ...], select_pixels: PixelSelector | None = None, unit: str = "s"
) -> NDArray[np.float64] | None:
    """Return the time of each pixel in s, with NaN for times that are not positive.

    The dataset has one value per pixel, or a single value for all pixels.

    ``unit`` applies if the dataset has no attribute ``units``.
    """
    n_pixel = shape[0] * shape[1]
    stored_times = read_numbers(dataset, _MAX_TIMES_PER_PIXEL * n_pixel)
    if stored_times is None:
        return None

    def arrange_pixels(stored_times: NDArray[Any]) -> NDArray[Any] | None:
        if stored_times.size == 1:
            return np.full(shape[:2], stored_times.flat[0])
        return stored_times.reshape(shape[:2]) if stored_times.size == n_pixel else None

    pixel_times = (select_pixels or arrange_pixels)(stored_times)
    if pixel_times is None or not (pixel_times > 0).any():
        return None
    return np.where(pixel_times > 0, pixel_times, np.nan) * _S_PER_UNIT.get(unit_of(dataset) or unit, 1.0)


def step_of_positions(
    dataset: Any, n_pixel: int, positions: NDArray[np.float64] | None = None
) -> tuple[float | None, float | None]:
    """Return the median distance between neighbouring positions in mm (None if the unit is unknown) and as stored."""
    if positions is None:
        positions = read_numbers(dataset, n_pixel)
        if positions is None or positions.size != n_pixel:
            return None, None
    if positions.size < 2:
        return None, None
    median_step = float(np.nanmedian(np.abs(np.diff(positions.ravel()))))
    unit_mm = _MM_PER_UNIT.get(unit_of(dataset))
    return (None if unit_mm is None or not median_step > 0 else median_step * unit_mm), median_step


def step_of_axes(row_mm: float | None, column_mm: float | None) -> tuple[float, float] | None:
    """Return the distances between rows and between columns in mm, or None unless both are known."""
    return None if row_mm is None or column_mm is None else (row_mm, column_mm)


TRUTH_PATH = "/entry/truth"
SETTINGS_PATH = "/entry/settings"
_CHUNK_BYTES = 2**20


def save_scan(
    scan: Scan,
    path: str | Path,
    truth: Mapping[str, NDArray[Any]] | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    replace: bool = True,
) -> None:
    """Write a scan, with the ground truth of a virtual panel, to an HDF5 file that appears only when complete.

    Parameters
    ----------
    scan : Scan
        Scan whose counts are written block by block to ``/entry/measurement/counts``, compressed in chunks of pixels.
    path : str or Path
        The file to write.
    truth : mapping of str to array, or None
        Ground truth, written to ``/entry/truth/<name>``.
    settings : mapping or None
        Settings that JSON can store, written to ``/entry/settings`` as text.
    replace : bool
        Whether an existing file is replaced. If false, an existing file raises an error.

    Raises
    ------
    OutputError
        The file cannot be written. No partial file remains.
    """
    target_path = Path(path)
    try:
        with (
            atomic_write(target_path, replace=replace) as temporary_path,
            new_hdf5(temporary_path) as (file, raise_write_error),
        ):
            _write_entry(file, scan, truth or {}, settings, raise_write_error)
    except RuntimeError as error:  # HDF5 reports write errors as RuntimeError
        raise write_error(target_path, error) from error


def read_truth(path: str | Path) -> dict[str, NDArray[Any]]:
    """Return the ground truth of a virtual panel, or an empty dict if the file has none.

    Raises
    ------
    ScanError
        The file cannot be read.
    """
    truth: dict[str, NDArray[Any]] = {}
    try:
        with open_file(Path(path)) as file:
            truth_group = follow(file, TRUTH_PATH)
            for name, truth_item in walk(truth_group, []) if isinstance(truth_group, h5py.Group) else ():
                if isinstance(truth_item, h5py.Dataset):
                    check_sources(truth_item)
                    truth_values = (
                        truth_item.asstr()[()] if h5py.check_string_dtype(truth_item.dtype) else truth_item[()]
                    )
                    truth[name.strip("/")] = np.asarray(truth_values)
    except OSError as error:
        raise ScanError(f"Cannot read {path}: {error}. Check that it is an HDF5 file.") from error
    return truth


def read_settings(path: str | Path) -> dict[str, Any]:
    """Return the settings that :func:`save_scan` stored, or an empty dict if the file has none.

    Raises
    ------
    ScanError
        The file cannot be read.
    """
    try:
        with open_file(Path(path)) as file:
            settings = follow(file, SETTINGS_PATH)
            return {} if settings is None else dict(json.loads(as_text(read_values(settings))))
    except OSError as error:
        raise ScanError(f"Cannot read {path}: {error}. Check that it is an HDF5 file.") from error


def _write_entry(
    file: Any,
    scan: Scan,
    truth: Mapping[str, NDArray[Any]],
    settings: Mapping[str, Any] | None,
    raise_write_error: Callable[[], None],
) -> None:
    file.attrs.update({"NX_class": "NXroot", "default": "entry"})
    entry_group = file.create_group("entry")
    entry_group.attrs.update({"NX_class": "NXentry", "default": "measurement"})
    entry_group["title"] = scan.name
    measurement = entry_group.create_group("measurement")
    measurement.attrs.update({"NX_class": "NXdata", "signal": "counts", "axes": ["row", "column", "channels"]})
    _write_counts(measurement, scan, raise_write_error)
    _write_metadata(measurement, scan)
    stored_truth = entry_group.create_group("truth")
    stored_truth.attrs["NX_class"] = "NXcollection"
    for name, truth_values in truth.items():
        truth_array = np.asarray(truth_values)
        stored_truth.create_dataset(
            name, data=truth_array.astype(object) if truth_array.dtype.kind == "U" else truth_array
        )
    if settings is not None:
        entry_group["settings"] = json.dumps(settings, sort_keys=True)


def _write_counts(measurement: Any, scan: Scan, raise_write_error: Callable[[], None]) -> None:
    _, n_column, n_channel = scan.shape
    dtype = scan.dtype
    chunk_columns = int(min(n_column, max(1, _CHUNK_BYTES // (n_channel * dtype.itemsize))))
    dataset = measurement.create_dataset(
        "counts",
        shape=scan.shape,
        dtype=dtype,
        chunks=(1, chunk_columns, n_channel),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
    )
    dataset.attrs.update({"interpretation": "spectrum", "units": "counts", "long_name": "counts"})
    counts, first_row = scan.counts.rechunk({1: -1, 2: -1}), 0
    for n_block_row in counts.chunks[0]:
        dataset[first_row : first_row + n_block_row] = counts[first_row : first_row + n_block_row].compute()
        raise_write_error()
        first_row += n_block_row


def _write_metadata(measurement: Any, scan: Scan) -> None:
    n_row, n_column, n_channel = scan.shape
    measurement["channels"] = np.arange(n_channel, dtype=np.float32)
    pixel_step = scan.step_mm or (1.0, 1.0)
    for dataset_name, pixel_count, step_mm in (("row", n_row, pixel_step[0]), ("column", n_column, pixel_step[1])):
        measurement[dataset_name] = step_mm * np.arange(pixel_count)
        measurement[dataset_name].attrs["units"] = "mm" if scan.step_mm else "pixel"
    if scan.axis is not None:
        measurement["calibration"] = np.array([scan.axis.zero_kev, scan.axis.gain_kev, 0.0])
        measurement["gain_kev"], measurement["zero_kev"] = scan.axis.gain_kev, scan.axis.zero_kev
    optional_values = {
        "live_time_s": scan.live_time_s,
        "real_time_s": scan.real_time_s,
        "step_mm": scan.step_mm,
        "present": scan.present,
    }
    for dataset_name, optional_value in optional_values.items():
        if optional_value is not None:
            measurement[dataset_name] = np.asarray(optional_value)
    if scan.live_time_s is not None:
        measurement["live_time"] = h5py.SoftLink("live_time_s")
    measurement["detector"], measurement["notes"] = scan.detector, "\n".join(scan.notes)
