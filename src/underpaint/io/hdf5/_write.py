"""Virtual panels and scans written as HDF5 in NeXus' and PyMca's layout, and what was written beside them."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io.hdf5._facts import text
from underpaint.io.hdf5._links import check_sources, follow, items, open_file, read_values
from underpaint.io.new_hdf5 import new_hdf5
from underpaint.runtime.files import not_written, whole_file

TRUTH = "/entry/truth"
SETTINGS = "/entry/settings"
_CHUNK_BYTES = 2**20


def save_scan(
    scan: Scan,
    path: str | Path,
    truth: Mapping[str, NDArray[Any]] | None = None,
    settings: Mapping[str, Any] | None = None,
    *,
    replace: bool = True,
) -> None:
    """Write a scan (with the ground truth of a virtual panel) as HDF5, under a temporary name, then rename.

    Parameters
    ----------
    scan : Scan
        Written block by block to ``/entry/measurement/counts``, compressed, chunked by pixels.
    path : str or Path
        The file to write.
    truth : mapping of str to array, or None
        Written to ``/entry/truth/<name>``.
    settings : mapping or None
        JSON-serialisable; written to ``/entry/settings`` as text.
    replace : bool
        Whether a file that is there is replaced; else it is an error.

    Raises
    ------
    OutputError
        The file cannot be written; nothing is left behind.
    """
    target = Path(path)
    try:
        with whole_file(target, replace=replace) as part, new_hdf5(part) as (file, check):
            _write_entry(file, scan, truth or {}, settings, check)
    except RuntimeError as error:  # as HDF5 puts it
        raise not_written(target, error) from error


def read_truth(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read the ground truth of a virtual panel; empty where the file has none.

    Raises
    ------
    ScanError
        The file cannot be read.
    """
    truth: dict[str, NDArray[Any]] = {}
    try:
        with open_file(Path(path)) as file:
            top = follow(file, TRUTH)
            for name, item in items(top, []) if isinstance(top, h5py.Group) else ():
                if isinstance(item, h5py.Dataset):
                    check_sources(item)
                    values = item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()]
                    truth[name.strip("/")] = np.asarray(values)
    except OSError as error:
        raise ScanError(f"Cannot read {path}: {error}. Check that it is an HDF5 file.") from error
    return truth


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read the settings that a scan was written with (:func:`save_scan`); empty where there are none.

    Raises
    ------
    ScanError
        The file cannot be read.
    """
    try:
        with open_file(Path(path)) as file:
            settings = follow(file, SETTINGS)
            return {} if settings is None else dict(json.loads(text(read_values(settings))))
    except OSError as error:
        raise ScanError(f"Cannot read {path}: {error}. Check that it is an HDF5 file.") from error


def _write_entry(
    file: Any,
    scan: Scan,
    truth: Mapping[str, NDArray[Any]],
    settings: Mapping[str, Any] | None,
    check: Callable[[], None],
) -> None:
    file.attrs.update({"NX_class": "NXroot", "default": "entry"})
    entry = file.create_group("entry")
    entry.attrs.update({"NX_class": "NXentry", "default": "measurement"})
    entry["title"] = scan.name
    measurement = entry.create_group("measurement")
    measurement.attrs.update({"NX_class": "NXdata", "signal": "counts", "axes": ["row", "column", "channels"]})
    _write_counts(measurement, scan, check)
    _write_facts(measurement, scan)
    own_truth = entry.create_group("truth")
    own_truth.attrs["NX_class"] = "NXcollection"
    for name, values in truth.items():
        array = np.asarray(values)
        own_truth.create_dataset(name, data=array.astype(object) if array.dtype.kind == "U" else array)
    if settings is not None:
        entry["settings"] = json.dumps(settings, sort_keys=True)


def _write_counts(measurement: Any, scan: Scan, check: Callable[[], None]) -> None:
    _, n_column, n_channel = scan.shape
    dtype = scan.counts.dtype
    columns = int(min(n_column, max(1, _CHUNK_BYTES // (n_channel * dtype.itemsize))))
    dataset = measurement.create_dataset(
        "counts",
        shape=scan.shape,
        dtype=dtype,
        chunks=(1, columns, n_channel),
        compression="gzip",
        compression_opts=1,
        shuffle=True,
    )
    dataset.attrs.update({"interpretation": "spectrum", "units": "counts", "long_name": "counts"})
    whole, start = scan.counts.rechunk({1: -1, 2: -1}), 0
    for size in whole.chunks[0]:
        dataset[start : start + size] = whole[start : start + size].compute()
        check()
        start += size


def _write_facts(measurement: Any, scan: Scan) -> None:
    n_row, n_column, n_channel = scan.shape
    measurement["channels"] = np.arange(n_channel, dtype=np.float32)
    step = scan.step_mm or (1.0, 1.0)
    for name, size, own in (("row", n_row, step[0]), ("column", n_column, step[1])):
        measurement[name] = own * np.arange(size)
        measurement[name].attrs["units"] = "mm" if scan.step_mm else "pixel"
    if scan.axis is not None:
        measurement["calibration"] = np.array([scan.axis.zero_kev, scan.axis.gain_kev, 0.0])
        measurement["gain_kev"], measurement["zero_kev"] = scan.axis.gain_kev, scan.axis.zero_kev
    optional = {
        "live_time_s": scan.live_time_s,
        "real_time_s": scan.real_time_s,
        "step_mm": scan.step_mm,
        "present": scan.present,
    }
    for name, value in optional.items():
        if value is not None:
            measurement[name] = np.asarray(value)
    if scan.live_time_s is not None:
        measurement["live_time"] = h5py.SoftLink("live_time_s")
    measurement["detector"], measurement["notes"] = scan.detector, "\n".join(scan.notes)
