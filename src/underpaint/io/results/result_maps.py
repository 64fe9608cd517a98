"""Access to the maps in a folder of results, which are read one at a time."""

import json
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import NO_ANSWER, Place, current_states, split_place
from underpaint.errors import ScanError
from underpaint.io.results.contained import DAMAGE_ERRORS, open_results_file
from underpaint.io.results.stored import RESULTS_FILE

_CACHE_BYTES = 256 * 2**20
_DEVIATION_GROUPS = ("uncertainties", "deviations")
_INTERVAL_LIMITS = ("low_90", "high_90")
_COMPANION_GROUPS = (*_DEVIATION_GROUPS, "intervals", "reached")
_AXIS_NAMES = ("row", "column")
_STATES_PATH = "/entry/detectability/"
_DEFAULT_LABELS = {
    ("pigments", "pixels"): "pixels summed for one answer",
    ("open_set", "score"): "unassigned peak (standard deviations)",
    ("open_set", "energy_kev"): "energy of the unassigned peak",
}


@dataclass(frozen=True)
class MapEntry:
    """Metadata of a map.

    Parameters
    ----------
    process : str
        Analysis that produced the map: ``pigments``, ``elements``, ``detectability``, ``open_set`` ...
    name : str
        Name of the map: ``vermilion``, ``vermilion.surface``, ``Hg_L``.
    label : str
        Label of the map on pages.
    kind : str
        "group" or "member" for pigments, and "state" for detectability. "element", "mass fraction" or "areal mass" for
        elements, and "amount" for the amount of a group's element. "window", "component", "cluster" or "refit" for maps
        that the viewer computes. "quantity" for all other maps.
    unit : str
        Unit of the values; "1" if they have none.
    material, place : str
        Material and place in the name, from ``underpaint.data.maps.split_place``.
    groups, elements : tuple of str
        As in :class:`~underpaint.data.maps.Material`.
    path, error_path : str
        Paths in the file of the map and of its standard deviations; "" if the file has none.
    end_paths : tuple of str
        Paths in the file of the lower and upper limits of the 90 % interval; empty if the file has none.
    """

    process: str
    name: str
    label: str
    kind: str
    unit: str
    material: str
    place: Place
    groups: tuple[str, ...]
    elements: tuple[str, ...]
    path: str
    error_path: str = ""
    end_paths: tuple[str, ...] = ()


def computed_entry(process: str, name: str, label: str, kind: str, unit: str) -> MapEntry:
    """Return the metadata of a map that is computed, not read from a file."""
    return MapEntry(process, name, label, kind, unit, name, "anywhere", (), (), path="")


class ResultMaps:
    """Maps in a folder of results, which many threads can read until the maps are closed.

    Parameters
    ----------
    folder : str or Path
        Folder that :func:`~underpaint.io.write_results` has written.

    Raises
    ------
    ScanError
        The folder contains no results, or they are damaged.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder).resolve()
        path = self.folder / RESULTS_FILE
        self._lock = Lock()
        self._cache: OrderedDict[str, NDArray[np.float32]] = OrderedDict()
        self._datasets: dict[str, Any] = {}
        self._computed: dict[str, Callable[[], NDArray[np.float32]]] = {}
        self._file_version = _file_version(path)
        try:
            self._file = open_results_file(self.folder)
            self.entries = tuple(_map_entries(self._file))
            self.knows_hiding = _has_burial_states(self._file)
            self.step_mm = _step_mm(self._file)
            self.shape = self._common_shape()
        except ScanError:
            raise
        except DAMAGE_ERRORS as error:
            raise ScanError(f"Cannot show {path}: the file is damaged ({error}). Run the analysis again.") from error

    def add(
        self, entry: MapEntry, values: Callable[[], NDArray[Any]], errors: Callable[[], NDArray[Any]] | None = None
    ) -> int:
        """Add a map that is computed when shown, and return its index.

        Parameters
        ----------
        entry : MapEntry
            Metadata of the map. A map with the same process and name is replaced.
        values, errors : callable
            Functions that return the (n_row, n_column) map and its standard deviations. The functions are called again
            if the result has left the cache.
        """
        path = f"computed:{entry.process}/{entry.name}"
        entry = replace(entry, path=path, error_path=f"{path}/errors" if errors else "")
        with self._lock:
            for cache_key, compute_map in ((path, values), (f"{path}/errors", errors)):
                self._cache.pop(cache_key, None)
                if compute_map is not None:
                    self._computed[cache_key] = compute_map
            entry_paths = [existing_entry.path for existing_entry in self.entries]
            entry_index = entry_paths.index(path) if path in entry_paths else len(entry_paths)
            self.entries = (*self.entries[:entry_index], entry, *self.entries[entry_index + 1 :])
        return entry_index

    def values(self, index: int) -> NDArray[np.float32]:
        """Return an entry's (n_row, n_column) map, with NaN for pixels without an answer. Recent maps are cached."""
        return self._full_map(self.entries[index].path)

    def errors(self, index: int) -> NDArray[np.float32] | None:
        """Return an entry's (n_row, n_column) standard deviations, or None if it has none."""
        path = self.entries[index].error_path
        return self._full_map(path) if path else None

    def at(self, row: int, column: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the (n_entry,) values of all maps at a pixel, and their standard deviations. Missing values are NaN.

        Raises
        ------
        ScanError
            The pixel is outside the maps.
        """
        if not (0 <= row < self.shape[0] and 0 <= column < self.shape[1]):
            raise ScanError(
                f"Cannot show pixel ({row}, {column}): rows are 0 to {self.shape[0] - 1}, columns 0 to "
                f"{self.shape[1] - 1}."
            )
        with self._open():
            values = [self._pixel_value(entry.path, row, column) for entry in self.entries]
            errors = [self._pixel_value(entry.error_path, row, column) for entry in self.entries]
        return np.asarray(values), np.asarray(errors)

    def is_current(self) -> bool:
        """Return whether the open file is still the current one, and has not been replaced."""
        return _file_version(self.folder / RESULTS_FILE) == self._file_version

    def interval(self, index: int, row: int, column: int) -> tuple[float, float] | None:
        """Return the limits of an entry's 90 % interval at a pixel, or None if the entry has none."""
        limit_paths = self.entries[index].end_paths
        if len(limit_paths) != len(_INTERVAL_LIMITS):
            return None
        with self._open():
            lower_limit, upper_limit = (self._pixel_value(limit_path, row, column) for limit_path in limit_paths)
        return lower_limit, upper_limit

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._datasets.clear()
            self._file.close()

    @contextmanager
    def _open(self) -> Iterator[None]:
        """Keep the file open during the ``with`` block. If the viewer has closed it, raise ScanError."""
        with self._lock:
            if not self._file:
                raise ScanError(
                    f"Cannot read {self.folder / RESULTS_FILE}: the viewer was closed. Open the folder again."
                )
            try:
                yield
            except (OSError, RuntimeError) as error:
                raise ScanError(
                    f"Cannot read {self.folder / RESULTS_FILE}: {error}. Run the analysis again."
                ) from error

    def _full_map(self, path: str) -> NDArray[np.float32]:
        with self._open():
            if path not in self._cache:
                self._cache[path] = self._read_map(path)
            self._cache.move_to_end(path)
            while len(self._cache) > 1 and sum(image.nbytes for image in self._cache.values()) > _CACHE_BYTES:
                self._cache.popitem(last=False)
            return self._cache[path]

    def _read_map(self, path: str) -> NDArray[np.float32]:
        if path in self._computed:
            return np.asarray(self._computed[path](), dtype=np.float32)
        return _as_float(self._dataset(path)[()], path)

    def _pixel_value(self, path: str, row: int, column: int) -> float:
        if not path:
            return float("nan")
        if path in self._cache:
            return float(self._cache[path][row, column])
        if path in self._computed:
            self._cache[path] = self._read_map(path)
            return float(self._cache[path][row, column])
        return float(_as_float(np.asarray(self._dataset(path)[row, column]), path))

    def _dataset(self, path: str) -> Any:
        # Dataset objects are kept, since finding a dataset in the file takes as long as reading a pixel.
        if path not in self._datasets:
            self._datasets[path] = self._file[path]
        return self._datasets[path]

    def _common_shape(self) -> tuple[int, int]:
        shapes = {self._dataset(entry.path).shape for entry in self.entries}
        if len(shapes) != 1:
            raise ValueError(f"{len(self.entries)} maps of {len(shapes)} sizes")
        n_row, n_column = shapes.pop()
        return int(n_row), int(n_column)


def _file_version(path: Path) -> tuple[int, int]:
    """Return a file's time of change and inode, which identify its version. A missing file gives zeros."""
    try:
        file_status = path.stat()
    except OSError:
        return 0, 0
    return file_status.st_mtime_ns, file_status.st_ino


def _map_entries(file: Any) -> list[MapEntry]:
    entries = []
    for process, group in file["entry"].items():
        if not isinstance(group, h5py.Group) or "results" not in group:
            continue
        for quantity, nexus_data in group["results"].items():
            if quantity not in _COMPANION_GROUPS:
                entries += [
                    _map_entry(process, nexus_data[name], group["results"], name) for name in _map_names(nexus_data)
                ]
    return entries


def _map_names(nexus_data: Any) -> list[str]:
    """Return the names of the maps in an NXdata group, in their order."""
    main_name = [str(nexus_data.attrs["signal"])] if "signal" in nexus_data.attrs else []
    map_names = [*main_name, *(str(map_name) for map_name in nexus_data.attrs.get("auxiliary_signals", ()))]
    return map_names or [map_name for map_name in nexus_data if map_name not in _AXIS_NAMES]


def _map_entry(process: str, dataset: Any, results: Any, name: str) -> MapEntry:
    attributes = dataset.attrs
    error_group = next((group for group in _DEVIATION_GROUPS if group in results and name in results[group]), "")
    intervals = results.get("intervals", ())
    material, place = _split_name(name) if process in {"pigments", "detectability"} else (name, "anywhere")
    default_kinds = {"elements": "element", "detectability": "state"}
    return MapEntry(
        process=process,
        name=name,
        label=str(attributes.get("long_name", _DEFAULT_LABELS.get((process, name), name.replace("_", " ")))),
        kind=str(attributes.get("kind", default_kinds.get(process, "quantity"))),
        unit=str(attributes.get("units", "1")),
        material=material,
        place=place,
        groups=tuple(json.loads(attributes["groups"])) if "groups" in attributes else (),
        elements=tuple(json.loads(attributes["elements"])) if "elements" in attributes else (),
        path=dataset.name,
        error_path=results[error_group][name].name if error_group else "",
        end_paths=tuple(
            intervals[f"{name}.{limit_name}"].name
            for limit_name in _INTERVAL_LIMITS
            if f"{name}.{limit_name}" in intervals
        ),
    )


def _has_burial_states(file: Any) -> bool:
    """Return whether the states of detectability include groups that other paint could hide."""
    process = file["entry"].get("detectability")
    return process is not None and "burial" in json.loads(process["configuration"].asstr()[()])


def _split_name(name: str) -> tuple[str, Place]:
    try:
        return split_place(name)
    except ValueError:
        return name, "anywhere"


def _step_mm(file: Any) -> tuple[float, float] | None:
    for group in file["entry"].values():
        stored_step = json.loads(group.attrs.get("step_mm", "null"))
        if stored_step is not None:
            return float(stored_step[0]), float(stored_step[1])
    return None


def _as_float(stored_values: NDArray[Any], path: str) -> NDArray[np.float32]:
    """Convert stored values to floats, with NaN for pixels without an answer.

    If a file of an earlier version has other numbers for the states of detectability, they are converted.
    """
    if stored_values.dtype != np.uint8:
        return np.asarray(stored_values, dtype=np.float32)
    current_values = current_states(stored_values) if path.startswith(_STATES_PATH) else stored_values
    return np.where(stored_values == NO_ANSWER, np.float32(np.nan), current_values.astype(np.float32))
