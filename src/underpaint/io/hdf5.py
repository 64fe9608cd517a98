"""HDF5: stacks in PyMca's layout, and the virtual panels that ``underpaint`` writes."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.errors import CalibrationError, OutputError, ScanError
from underpaint.io._source import lazy_counts
from underpaint.spectrum import EnergyAxis, Scan

FORMAT = "HDF5"
PANEL_COUNTS = "/entry/measurement/counts"
TRUTH = "/entry/truth"
SETTINGS = "/entry/settings"
_COUNT_NAMES = ("counts", "data", "spectrum", "spectra", "mca")
_CHUNK_BYTES = 2**20


class Hdf5Cube:
    """One dataset of a file; opened anew for each block, so that no handle outlives a read.

    Any process can read it, and the file can be replaced in between on every system.
    """

    def __init__(self, path: Path, dataset: Any) -> None:
        self.path, self.name = path, dataset.name
        self.dtype: np.dtype[Any] = dataset.dtype
        self.channel_first = _text(dataset.attrs.get("interpretation", "")) == "image"
        n = dataset.shape
        self.shape = (n[1], n[2], n[0]) if self.channel_first else (n[0], n[1], n[2])

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels."""
        try:
            with h5py.File(self.path, "r") as file:
                if self.channel_first:
                    return np.ascontiguousarray(np.moveaxis(file[self.name][:, rows, columns], 0, 2))
                return np.asarray(file[self.name][rows, columns])
        except (OSError, KeyError, RuntimeError) as error:
            message = (
                f"Cannot read {self.path}::{self.name}: {error}. The file is damaged or was changed; copy it again."
            )
            raise ScanError(message) from error


def read_hdf5(path: Path, name: str | None = None) -> list[Scan]:
    """Read the cubes of an HDF5 file, or the one at the path ``name`` inside it.

    The calibration is looked for where PyMca does: ``calibration`` (three polynomial coefficients, keV),
    ``live_time`` beside the counts or in an ``info`` group; then
    ``gain_kev``, ``zero_kev``, ``live_time_s``, ``step_mm``.

    Raises
    ------
    ScanError
        The file is damaged, holds no 3-D array of numbers, or none of that name.
    """
    try:
        with h5py.File(path, "r") as file:
            if name is not None:
                return [_scan(path, _pick(file, path, name))]
            cubes = _cubes(file)
            if not cubes:
                message = (
                    f"Cannot read {path} as a scan: it holds no 3-D array (row, column, channel) of numbers, "
                    f"only {_listing(file)}."
                )
                raise ScanError(message)
            alone = len(cubes) == 1
            return [_scan(path, cube, path.stem if alone else None) for cube in cubes]
    except (OSError, RuntimeError) as error:
        message = f"Cannot read {path}: the HDF5 file is damaged or locked ({error}). Copy it again."
        raise ScanError(message) from error


def save_scan(
    scan: Scan,
    path: str | Path,
    truth: Mapping[str, NDArray[Any]] | None = None,
    settings: Mapping[str, Any] | None = None,
) -> None:
    """Write a scan (with the ground truth of a virtual panel) as HDF5, under a temporary name, then rename.

    Parameters
    ----------
    scan : Scan
        Written block by block to ``/entry/measurement/counts``, compressed, chunked by pixels.
    path : str or Path
        The file to write; replaced if it exists.
    truth : mapping of str to array, or None
        Written to ``/entry/truth/<name>``.
    settings : mapping or None
        JSON-serialisable; written to ``/entry/settings`` as text.

    Raises
    ------
    OutputError
        The file cannot be written; nothing is left behind.
    """
    target = Path(path)
    part = target.with_name(target.name + ".part")
    try:
        with h5py.File(part, "w") as file:
            _write_entry(file, scan, truth or {}, settings)
        part.replace(target)
    except (OSError, RuntimeError) as error:
        message = f"Cannot write {target}: {_reason(error)}. Check that the folder exists, is writable and has space."
        raise OutputError(message) from error
    finally:
        part.unlink(missing_ok=True)


def read_truth(path: str | Path) -> dict[str, NDArray[Any]]:
    """Read the ground truth of a virtual panel; empty where the file has none.

    Raises
    ------
    ScanError
        The file cannot be read.
    """
    found: dict[str, NDArray[Any]] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            values = item.asstr()[()] if h5py.check_string_dtype(item.dtype) else item[()]
            found[name] = np.asarray(values)

    try:
        with h5py.File(path, "r") as file:
            if TRUTH in file:
                file[TRUTH].visititems(keep)
    except OSError as error:
        message = f"Cannot read {path}: {error}. Check that it is an HDF5 file."
        raise ScanError(message) from error
    return found


def read_settings(path: str | Path) -> dict[str, Any]:
    """Read the settings that a scan was written with (:func:`save_scan`); empty where there are none.

    Raises
    ------
    ScanError
        The file cannot be read.
    """
    try:
        with h5py.File(path, "r") as file:
            return dict(json.loads(file[SETTINGS].asstr()[()])) if SETTINGS in file else {}
    except OSError as error:
        message = f"Cannot read {path}: {error}. Check that it is an HDF5 file."
        raise ScanError(message) from error


def _reason(error: Exception) -> str:
    """What HDF5 says, without the addresses and handles that it puts in brackets."""
    return str(error).split(" (", 1)[0]


def _write_entry(file: Any, scan: Scan, truth: Mapping[str, NDArray[Any]], settings: Mapping[str, Any] | None) -> None:
    file.attrs.update({"NX_class": "NXroot", "default": "entry"})
    entry = file.create_group("entry")
    entry.attrs.update({"NX_class": "NXentry", "default": "measurement"})
    entry["title"] = scan.name
    measurement = entry.create_group("measurement")
    measurement.attrs.update({"NX_class": "NXdata", "signal": "counts", "axes": ["row", "column", "channels"]})
    _write_counts(measurement, scan)
    _write_facts(measurement, scan)
    own_truth = entry.create_group("truth")
    own_truth.attrs["NX_class"] = "NXcollection"
    for name, values in truth.items():
        array = np.asarray(values)
        own_truth.create_dataset(name, data=array.astype(object) if array.dtype.kind == "U" else array)
    if settings is not None:
        entry["settings"] = json.dumps(settings, sort_keys=True)


def _write_counts(measurement: Any, scan: Scan) -> None:
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


def _is_cube(item: Any) -> bool:
    return isinstance(item, h5py.Dataset) and item.ndim == 3 and item.dtype.kind in "uif" and 0 not in item.shape


def _cubes(file: Any) -> list[Any]:
    """3-D arrays outside ground truth and results; those called like counts, if any are."""
    found: list[Any] = []

    def keep(name: str, item: Any) -> None:
        inside = name.split("/")
        if _is_cube(item) and not {"truth", "results", "plotselect"} & set(inside):
            found.append(item)

    file.visititems(keep)
    named = [item for item in found if item.name.rsplit("/", 1)[1].lower() in _COUNT_NAMES]
    return sorted(named or found, key=lambda item: item.name)


def _pick(file: Any, path: Path, name: str) -> Any:
    item = file.get(name)
    if isinstance(item, h5py.Group):
        inside = _cubes(item)
        item = inside[0] if len(inside) == 1 else item
    if not _is_cube(item):
        there = "nothing there" if item is None else f"{item}"
        message = (
            f"Cannot read {path}::{name} as a scan ({there}): a 3-D array (row, column, "
            "channel) of numbers is needed. "
            f"The file holds {_listing(file)}."
        )
        raise ScanError(message)
    return item


def _scan(path: Path, dataset: Any, name: str | None = None) -> Scan:
    cube = Hdf5Cube(path, dataset)
    source = f"{path}::{cube.name}"
    beside = [_beside(dataset, name) for name in ("detector", "notes")]
    detector, notes = (_text(item[()]) if item is not None and item.size == 1 else "" for item in beside)
    axis = _axis(dataset, cube.shape[2])
    own = () if axis is not None or "no energy calibration" in notes else ("no energy calibration in the file",)
    present = _numbers(dataset, "present")
    step = _numbers(dataset, "step_mm")
    return Scan(
        lazy_counts(cube, source, _chunk_rows(dataset, cube)),
        axis=axis,
        name=name or f"{path.stem}{cube.name.replace('/', '_')}",
        source=source,
        format=FORMAT,
        live_time_s=_pixel_values(dataset, ("live_time_s", "live_time"), cube.shape),
        real_time_s=_pixel_values(dataset, ("real_time_s", "elapsed_time"), cube.shape),
        step_mm=None if step is None or step.size not in {1, 2} else (float(step.flat[0]), float(step.flat[-1])),
        detector=detector,
        present=None if present is None or present.shape != cube.shape[:2] else present.astype(bool),
        notes=(*filter(None, notes.split("\n")), *own),
    )


def _chunk_rows(dataset: Any, cube: Hdf5Cube) -> int:
    return 1 if dataset.chunks is None else int(dataset.chunks[1 if cube.channel_first else 0])


def _beside(dataset: Any, name: str) -> Any:
    """A dataset beside the counts or in their ``info`` group, as PyMca's stacks keep them."""
    own_name = dataset.name.rsplit("/", 1)[1]
    for place in ("", "info/", f"{own_name}_info/"):
        item = dataset.parent.get(place + name)
        if isinstance(item, h5py.Dataset):
            return item
    return None


def _numbers(dataset: Any, name: str) -> NDArray[np.float64] | None:
    item = _beside(dataset, name)
    if item is None or item.dtype.kind not in "buif":
        return None
    return np.asarray(item[()], dtype=np.float64)


def _axis(dataset: Any, n_channel: int) -> EnergyAxis | None:
    """Gain and zero, or PyMca's ``calibration`` polynomial, or an even ``energy`` axis; keV."""
    gain, zero = _numbers(dataset, "gain_kev"), _numbers(dataset, "zero_kev")
    coefficients, energy = _numbers(dataset, "calibration"), _numbers(dataset, "energy")
    try:
        if gain is not None:
            return EnergyAxis(float(gain.flat[0]), 0.0 if zero is None else float(zero.flat[0]), n_channel)
        if coefficients is not None and _is_line(coefficients):
            return EnergyAxis(float(coefficients.flat[1]), float(coefficients.flat[0]), n_channel)
        if energy is not None and energy.size == n_channel and n_channel > 1 and _even(energy):
            return EnergyAxis(float((energy[-1] - energy[0]) / (n_channel - 1)), float(energy[0]), n_channel)
    except CalibrationError:
        return None
    return None


def _is_line(coefficients: NDArray[np.float64]) -> bool:
    """Whether a polynomial is a straight line, and not the 0, 1, 0 that PyMca writes for an unknown one."""
    values = coefficients.ravel().tolist()
    return 2 <= len(values) <= 3 and not any(values[2:]) and values[:2] != [0.0, 1.0]


def _even(energy: NDArray[np.float64]) -> bool:
    steps = np.diff(energy)
    return bool(energy.ndim == 1 and np.ptp(steps) < 1e-3 * abs(steps.mean()))


def _pixel_values(dataset: Any, names: tuple[str, ...], shape: tuple[int, int, int]) -> NDArray[np.float64] | None:
    for name in names:
        values = _numbers(dataset, name)
        if values is not None and values.size in {1, shape[0] * shape[1]}:
            known = np.where(values > 0, values, np.nan)
            full = np.full(shape[:2], known.flat[0]) if values.size == 1 else known.reshape(shape[:2])
            return None if np.isnan(full).all() else full
    return None


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _listing(file: Any) -> str:
    found: list[str] = []

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            found.append(f"/{name} {item.shape}")

    file.visititems(keep)
    return ", ".join(found[:8]) + (f" and {len(found) - 8} more" if len(found) > 8 else "") if found else "no array"
