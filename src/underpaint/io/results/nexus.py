"""Results on disk: NeXus-style HDF5 in the layout of PyMca's fit results, a TIFF per map, a CSV summary."""

import json
import math
import platform
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import (
    LEVEL,
    PRESENT_PROBABILITY,
    STATES,
    DetectabilityMaps,
    ElementMaps,
    OpenSet,
    PigmentMaps,
    QuantityMaps,
    Results,
    UnexplainedLine,
    UnlikenessMap,
    at_place,
    material_of,
    slope,
    split_place,
)
from underpaint.errors import OutputError, ScanError
from underpaint.io.new_hdf5 import new_hdf5
from underpaint.io.results.contained import DAMAGE, open_results_file
from underpaint.io.results.csv_text import write_csv
from underpaint.io.results.sidecars import MAP_STACKS, SUMMARY_FILE
from underpaint.io.results.stored import RESULTS_FILE, StoredMaps
from underpaint.runtime.files import is_reserved

SUMMARY_COLUMNS = (
    "name",
    "kind",
    "label",
    "share_above_half",
    "mean_probability",
    "max_probability",
    "total_counts",
    "median_uncertainty_counts",
    "median_value",
    "median_low",
    "median_high",
)
_PACKAGES = ("underpaint", "numpy", "scipy", "h5py", "dask", "xraylib", "onnxruntime", "tifffile")
Result = TypeVar("Result")
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_RESERVED = ("row", "column")
_LONGEST_NAME = 100
_SAMPLE = 16384
_CHUNK_BYTES = 256 * 2**10
Cubes = Callable[[Any, Sequence[str], Any], NDArray[Any]]


def write_results(
    folder: str | Path,
    *,
    pigments: PigmentMaps | None,
    elements: ElementMaps | None,
    scan_summary: Mapping[str, Any],
    settings: Mapping[str, Any],
    detectability: DetectabilityMaps | None = None,
    open_set: OpenSet | None = None,
) -> None:
    """Write maps to a folder: ``results.h5``, ``summary.csv``, and a TIFF per map.

    Of a model that knows places ``results.h5`` holds all names anywhere, the groups at each place, and the members at a
    place where they exceed one half somewhere; there are TIFFs of what exceeds one half somewhere, and of thickness and
    shares (median, and the ends of the 90 % interval).

    Parameters
    ----------
    folder : str or Path
        The folder, made if needed; write into :func:`result_folder`'s to have it whole or not at all.
    pigments, elements : PigmentMaps, ElementMaps or None
        What was concluded; None leaves it out.
    scan_summary : mapping
        Facts of the scan (:func:`summarise_scan`); arrays become datasets, the rest must be
        JSON-serialisable.
    settings : mapping
        Configuration and seeds; JSON-serialisable.
    detectability : DetectabilityMaps or None
        Read again by :func:`read_detectability`; the TIFFs hold the numbers of ``underpaint.data.maps.STATES``.
    open_set : OpenSet or None
        Read again by :func:`read_open_set`.

    Raises
    ------
    OutputError
        A map's name is no file name, or the files cannot be written.
    """
    place = Path(folder)
    for maps in (pigments, elements, detectability):
        check_map_names(() if maps is None else maps.names)
    try:
        place.mkdir(parents=True, exist_ok=True)
        extras = [partial(_write_detectability, maps=detectability)] if detectability is not None else []
        extras += [partial(_write_open_set, own=open_set)] if open_set is not None else []
        _write_hdf5(place / RESULTS_FILE, pigments, elements, scan_summary, settings, extras)
        _write_tiffs(place, pigments, elements)
        _write_more_tiffs(place, detectability, open_set)
        _write_summary(place / SUMMARY_FILE, pigments, elements)
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"Cannot write results to {place}: {error}. Check that it is writable and that the disk is not full."
        ) from error


def read_results(folder: str | Path, *, lazily: bool = True) -> Results:
    """Read what was concluded about a scan.

    Parameters
    ----------
    folder : str or Path
        As `underpaint identify` and `underpaint elements` write it.
    lazily : bool
        Read a map from the file when it is computed with; False reads all of them now, so that the file may go.

    Raises
    ------
    ScanError
        The folder holds no results, or they are damaged.

    Examples
    --------
    ``read_results("painting_underpaint").probability.sel(group="mercury_red", place="anywhere")`` is one map.
    """
    return _read(folder, partial(_read_all, cube=_lazy_cube if lazily else _cube))


def read_maps(
    folder: str | Path, *, lazily: bool = False
) -> tuple[PigmentMaps | None, ElementMaps | None, dict[str, Any]]:
    """Read the maps of pigments and elements, and the summary.

    Parameters
    ----------
    folder : str or Path
    lazily : bool
        Read a map only when it is asked for, and keep a few: the arrays of the maps are then
        :class:`~underpaint.io.StoredMaps`, which give one map at a time.

    Raises
    ------
    ScanError
        The folder holds no results, or they are damaged.
    """
    cube = _lazy_cube if lazily else _cube
    return _read(folder, lambda file: (_read_pigments(file, cube), _read_elements(file, cube), _read_summary(file)))


def read_summary(folder: str | Path) -> dict[str, Any]:
    """Read the summary alone, as :func:`read_maps` returns it.

    Raises
    ------
    ScanError
        The folder holds no results, or they are damaged.
    """
    return _read(folder, _read_summary)


def read_detectability(folder: str | Path, *, lazily: bool = False) -> DetectabilityMaps | None:
    """Read the maps of what cannot be excluded, ``lazily`` as by :func:`read_maps`; None where there are none.

    Raises
    ------
    ScanError
        The folder holds no results, or they are damaged.
    """
    return _read(folder, partial(_read_detectability, cube=_lazy_cube if lazily else _cube))


def read_open_set(folder: str | Path) -> OpenSet | None:
    """Read the unexplained lines and the map of unlikeness; None where the results hold none.

    Raises
    ------
    ScanError
        The folder holds no results, or they are damaged.
    """
    return _read(folder, _read_open_set)


def _read(folder: str | Path, what: Callable[[Any], Result]) -> Result:
    try:
        with open_results_file(Path(folder)) as file:
            return what(file)
    except DAMAGE as error:
        raise ScanError(
            f"Cannot read {Path(folder) / RESULTS_FILE}: the file is damaged ({error}). Run the analysis again."
        ) from error


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def check_map_names(names: Sequence[str]) -> None:
    """Refuse names of maps that cannot be names of files on every system.

    Raises
    ------
    OutputError
        One of them, or two that differ only in capital letters, which are one file on Windows and macOS.
    """
    capitals: dict[str, str] = {}
    for name in names:
        is_safe = _SAFE_NAME.fullmatch(name) and len(name) <= _LONGEST_NAME
        if not is_safe or name in _RESERVED or is_reserved(f"{name}.tif"):
            raise OutputError(
                f"Cannot write a map called {name[: 2 * _LONGEST_NAME]!r}: names become file names on any system, so "
                f"they are made of up to {_LONGEST_NAME} letters, digits, "
                f"'_', '-', '+', '.', and are not {', '.join(_RESERVED)} or what Windows keeps for itself (con, aux)."
            )
        other = capitals.setdefault(name.casefold(), name)
        if other != name:
            raise OutputError(
                f"Cannot write maps called {other!r} and {name!r}: they would be one file where capital letters do not "
                "count (Windows, macOS). Rename one."
            )


def _write_hdf5(
    path: Path,
    pigments: PigmentMaps | None,
    elements: ElementMaps | None,
    scan_summary: Mapping[str, Any],
    settings: Mapping[str, Any],
    extras: Sequence[Callable[[Any], None]] = (),
) -> None:
    with new_hdf5(path) as (file, _):
        file.attrs.update({"NX_class": "NXroot", "creator": "underpaint", "default": "entry"})
        entry = _group(file, "entry", "NXentry")
        entry["title"] = str(scan_summary.get("name", "scan"))
        entry["end_time"] = datetime.now(UTC).isoformat(timespec="seconds")
        _json(entry, "settings", settings)
        _json(entry, "versions", package_versions())
        if pigments is not None:
            _write_pigments(entry, pigments)
        if elements is not None:
            _write_elements(entry, elements)
        for write in extras:
            write(entry)
        default = "pigments" if pigments is not None else "elements" if elements is not None else "scan"
        entry.attrs["default"] = default
        _write_scan(entry, scan_summary)


def _write_pigments(entry: Any, maps: PigmentMaps) -> None:
    results = _process(entry, "pigments", maps, "probability")
    kept = [name for name in maps.names if _is_kept(maps, name)]
    data = _maps(results, "probability", kept, _images(kept, maps), "1", maps.step_mm, maps.probability.shape[:2])
    for name, kind, groups, label, elements in zip(
        maps.names, maps.kinds, maps.groups, maps.labels, maps.elements, strict=True
    ):
        if name in kept:
            data[name].attrs.update({"long_name": label, "kind": kind})
            data[name].attrs["groups"] = json.dumps(groups)
            data[name].attrs["elements"] = json.dumps(elements)
    if maps.quantities is not None:
        _write_quantities(results, maps, maps.quantities)


def _is_kept(maps: PigmentMaps, name: str) -> bool:
    """Whether ``results.h5`` holds a map: of members at a place only those that are somewhere likely to be there."""
    at_a_place = split_place(name)[1] != "anywhere"
    is_member = maps.kinds[maps.names.index(name)] == "member"
    return not (at_a_place and is_member) or maps.present_somewhere(name)


def _write_quantities(results: Any, maps: PigmentMaps, own: QuantityMaps) -> None:
    """Write medians, deviations to first order, and the ends of the 90 % interval."""
    shape, step_mm = own.value.shape[:2], maps.step_mm
    data = _maps(results, "quantities", own.names, _images(own.names, own), "1", step_mm, shape)
    deviations = [own.deviation(name) for name in own.names]
    errors = _maps(results, "deviations", own.names, deviations, "1", step_mm, shape)
    ends = {f"{name}.{end}": name for name in own.names for end in ("low_90", "high_90")}
    images = (image for name in own.names for image in own.estimate(name)[1:])
    intervals = _maps(results, "intervals", list(ends), images, "1", step_mm, shape)
    for name in own.names:
        shown = [data[name], errors[name], *(intervals[end] for end in ends if ends[end] == name)]
        for dataset in shown:
            dataset.attrs.update({"units": _unit(name), "kind": "quantity", "long_name": _quantity_label(maps, name)})


def _unit(quantity: str) -> str:
    return "um" if material_of(quantity) is None else "1"


def _quantity_label(maps: PigmentMaps, quantity: str) -> str:
    material = material_of(quantity)
    if material is None:
        return "thickness of the surface layer"
    label = maps.labels[maps.names.index(material)] if material in maps.names else material
    return f"share of the pigments at the surface: {label}"


def _images(names: Sequence[str], maps: PigmentMaps | QuantityMaps) -> Iterator[NDArray[np.float32]]:
    return (maps[name] for name in names)


def _layers(cube: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Return the maps of a cube one after the other."""
    return (cube[:, :, index] for index in range(cube.shape[2]))


def _write_elements(entry: Any, maps: ElementMaps) -> None:
    results = _process(entry, "elements", maps, "parameters")
    shape = maps.area.shape[:2]
    _maps(results, "parameters", maps.names, _layers(maps.area), "counts", maps.step_mm, shape)
    _maps(results, "uncertainties", maps.names, _layers(maps.uncertainty), "counts", maps.step_mm, shape)


def _write_detectability(entry: Any, maps: DetectabilityMaps) -> None:
    results = _process(entry, "detectability", maps, "state")
    data = _maps(results, "state", maps.names, _layers(maps.state), "1", maps.step_mm, maps.state.shape[:2])
    data.attrs["meaning"] = json.dumps(STATES)
    for name, label in zip(maps.names, maps.labels, strict=True):
        data[name].attrs["long_name"] = label


def _write_open_set(entry: Any, own: OpenSet) -> None:
    process = _group(entry, "open_set", "NXprocess")
    process["program"], process["version"] = "underpaint", package_versions().get("underpaint", "")
    _json(process, "lines", [asdict(line) for line in own.lines])
    _json(process, "ordinary", own.ordinary)
    if own.unlikeness is None:
        return
    process.attrs["default"] = "results/unlikeness"
    process.attrs["step_mm"] = json.dumps(own.unlikeness.step_mm)
    _json(process, "configuration", own.unlikeness.settings)
    results = _group(process, "results", "NXcollection")
    score, energy, step_mm = own.unlikeness.score, own.unlikeness.energy_kev, own.unlikeness.step_mm
    _maps(results, "unlikeness", ("score",), [score], "1", step_mm, score.shape)
    _maps(results, "energy", ("energy_kev",), [energy], "keV", step_mm, score.shape)


def _process(entry: Any, name: str, maps: PigmentMaps | ElementMaps | DetectabilityMaps, default: str) -> Any:
    """Make an NXprocess with its configuration, and return its NXcollection ``results``."""
    process = _group(entry, name, "NXprocess")
    process["program"], process["version"] = "underpaint", package_versions().get("underpaint", "")
    process.attrs["default"] = f"results/{default}"
    _json(process, "configuration", maps.settings)
    _json(process, "notes", list(maps.notes))
    process.attrs["step_mm"] = json.dumps(maps.step_mm)
    return _group(process, "results", "NXcollection")


def _maps(
    parent: Any,
    name: str,
    names: Sequence[str],
    images: Iterable[NDArray[Any]],
    units: str,
    step_mm: tuple[float, float] | None,
    shape: tuple[int, ...],
) -> Any:
    data = _group(parent, name, "NXdata")
    data.attrs["axes"] = ["row", "column"]
    if names:
        data.attrs["signal"] = names[0]
        data.attrs["auxiliary_signals"] = np.array(names[1:], dtype=h5py.string_dtype())
    for own, image in zip(names, images, strict=True):
        values = np.ascontiguousarray(image)
        dataset = data.create_dataset(own, data=values, **_packing(values))
        dataset.attrs.update({"units": units, "interpretation": "image"})
    for axis, label in enumerate(_RESERVED):
        step = step_mm[axis] if step_mm else 1.0
        data[label] = step * np.arange(shape[axis], dtype=np.float64)
        data[label].attrs["units"] = "mm" if step_mm else "pixel"
    data.attrs["shape"] = shape
    return data


def _packing(values: NDArray[Any]) -> dict[str, Any]:
    """Return how to store a map: packed where it is small, or where a sample shows that it shrinks by half.

    The last digits of most probabilities are noise: packing them saves 4 % and takes as long as finding them.
    """
    sample = np.ascontiguousarray(values.reshape(-1)[:: max(values.size // _SAMPLE, 1)])
    shuffled = sample.view(np.uint8).reshape(-1, values.itemsize).T.tobytes()
    if values.size > _SAMPLE and len(zlib.compress(shuffled, 1)) > 0.5 * len(shuffled):
        return {"chunks": (max(_CHUNK_BYTES // (values.shape[1] * values.itemsize), 1), values.shape[1])}
    return {"compression": "gzip", "compression_opts": 1, "shuffle": True}


def _write_scan(entry: Any, scan_summary: Mapping[str, Any]) -> None:
    scan = _group(entry, "scan", "NXdata")
    arrays = {key: value for key, value in scan_summary.items() if isinstance(value, np.ndarray)}
    for key, value in arrays.items():
        scan[key] = value
        scan[key].attrs["units"] = "keV" if key.endswith("_kev") else "s" if key.endswith("_s") else "counts"
    if "sum_counts" in arrays:
        scan.attrs["signal"] = "sum_counts"
        scan.attrs["auxiliary_signals"] = [key for key in ("max_counts",) if key in arrays]
    if "energy_kev" in arrays:
        scan.attrs["axes"] = ["energy_kev"]
    _json(scan, "facts", {key: value for key, value in scan_summary.items() if key not in arrays})


def _group(parent: Any, name: str, nexus_class: str) -> Any:
    group = parent.create_group(name)
    group.attrs["NX_class"] = nexus_class
    return group


def _json(parent: Any, name: str, value: Any) -> None:
    parent[name] = json.dumps(value, sort_keys=True, ensure_ascii=False)
    parent[name].attrs["type"] = "application/json"


def _loaded(parent: Any, name: str) -> Any:
    return json.loads(parent[name].asstr()[()])


def _read_pigments(file: Any, cube: Cubes) -> PigmentMaps | None:
    if "entry/pigments" not in file:
        return None
    process = file["entry/pigments"]
    data = process["results/probability"]
    names = _signals(data)
    attributes = [data[name].attrs for name in names]
    return PigmentMaps(
        names=names,
        probability=cube(data, names, np.float32),
        kinds=tuple(str(own["kind"]) for own in attributes),
        groups=tuple(tuple(json.loads(own["groups"])) for own in attributes),
        labels=tuple(str(own["long_name"]) for own in attributes),
        elements=tuple(tuple(json.loads(own["elements"])) for own in attributes),
        step_mm=_step(process),
        notes=tuple(_loaded(process, "notes")),
        settings=_loaded(process, "configuration"),
        quantities=_read_quantities(process["results"], cube),
    )


def _read_quantities(results: Any, cube: Cubes) -> QuantityMaps | None:
    if "quantities" not in results:
        return None
    names = _signals(results["quantities"])
    value, deviation = (cube(results[own], names, np.float32) for own in ("quantities", "deviations"))

    def sigma(index: int) -> NDArray[np.float32]:
        return np.asarray(deviation[:, :, index] / slope(names[index], value[:, :, index]))

    if cube is _cube:
        return QuantityMaps(names, value, np.stack([sigma(index) for index in range(len(names))], axis=2))
    return QuantityMaps(names, value, StoredMaps(value.shape, np.float32, sigma).as_array())


def _read_elements(file: Any, cube: Cubes) -> ElementMaps | None:
    if "entry/elements" not in file:
        return None
    process = file["entry/elements"]
    names = _signals(process["results/parameters"])
    return ElementMaps(
        names=names,
        area=cube(process["results/parameters"], names, np.float32),
        uncertainty=cube(process["results/uncertainties"], names, np.float32),
        step_mm=_step(process),
        notes=tuple(_loaded(process, "notes")),
        settings=_loaded(process, "configuration"),
    )


def _read_detectability(file: Any, cube: Cubes) -> DetectabilityMaps | None:
    if "entry/detectability" not in file:
        return None
    process = file["entry/detectability"]
    data = process["results/state"]
    names = _signals(data)
    return DetectabilityMaps(
        names=names,
        labels=tuple(str(data[name].attrs["long_name"]) for name in names),
        state=cube(data, names, np.uint8),
        step_mm=_step(process),
        notes=tuple(_loaded(process, "notes")),
        settings=_loaded(process, "configuration"),
    )


def _read_open_set(file: Any) -> OpenSet | None:
    if "entry/open_set" not in file:
        return None
    process = file["entry/open_set"]
    lines = [UnexplainedLine(**line | {"carriers": tuple(line["carriers"])}) for line in _loaded(process, "lines")]
    ordinary = tuple((family, source) for family, source in _loaded(process, "ordinary"))
    if "results" not in process:
        return OpenSet(tuple(lines), ordinary)
    _map_shape(process["results/unlikeness"], ["score"])
    _map_shape(process["results/energy"], ["energy_kev"])
    score = process["results/unlikeness/score"][()]
    energy, step = process["results/energy/energy_kev"][()], _step(process)
    return OpenSet(tuple(lines), ordinary, UnlikenessMap(score, energy, step, _loaded(process, "configuration")))


def _read_all(file: Any, cube: Cubes) -> Results:
    return Results(
        _read_pigments(file, cube),
        _read_elements(file, cube),
        _read_detectability(file, cube),
        _read_open_set(file),
        _read_summary(file),
    )


def _read_summary(file: Any) -> dict[str, Any]:
    entry = file["entry"]
    arrays = {key: np.asarray(item[()]) for key, item in entry["scan"].items() if key != "facts"}
    return {
        **_loaded(entry["scan"], "facts"),
        **arrays,
        "settings": _loaded(entry, "settings"),
        "versions": _loaded(entry, "versions"),
        "written": entry["end_time"].asstr()[()],
    }


def _signals(data: Any) -> tuple[str, ...]:
    if "signal" not in data.attrs:
        return ()
    return (str(data.attrs["signal"]), *(str(name) for name in data.attrs["auxiliary_signals"]))


def _map_shape(data: Any, names: Sequence[str]) -> tuple[int, int]:
    """Return rows and columns of maps, after a look whether all have them, as all of a folder must."""
    n_row, n_column = (int(size) for size in data.attrs["shape"])
    first = next((data.file[path].attrs["shape"] for path in MAP_STACKS if path in data.file), data.attrs["shape"])
    shapes = {(n_row, n_column), tuple(map(int, first)), *(data[name].shape for name in names)}
    if len(shapes) > 1:
        raise ValueError(f"maps of {len(shapes)} sizes in {data.name}")
    return n_row, n_column


def _cube(data: Any, names: Sequence[str], dtype: Any) -> NDArray[Any]:
    shape = _map_shape(data, names)
    cube = np.empty((*shape, len(names)), dtype=dtype)
    for index, name in enumerate(names):
        cube[:, :, index] = data[name][()]
    return cube


def _lazy_cube(data: Any, names: Sequence[str], dtype: Any) -> NDArray[Any]:
    """Return what reads a map when it is asked for; the file is opened anew for it."""
    n_row, n_column = _map_shape(data, names)
    folder, place = Path(data.file.filename).parent, str(data.name)

    def read(index: int) -> NDArray[Any]:
        with open_results_file(folder) as file:
            return np.asarray(file[place][names[index]][()])

    return StoredMaps((n_row, n_column, len(names)), dtype, read).as_array()


def _step(process: Any) -> tuple[float, float] | None:
    step = json.loads(process.attrs["step_mm"])
    return None if step is None else (float(step[0]), float(step[1]))


def _write_tiffs(place: Path, pigments: PigmentMaps | None, elements: ElementMaps | None) -> None:
    if pigments is not None:
        by_place = len(pigments.places) > 1
        for name, label in zip(pigments.names, pigments.labels, strict=True):
            if not by_place or pigments.present_somewhere(name):
                description = f"probability of {label}; NaN: no answer"
                write_tiff(place / "pigments" / f"{name}.tif", pigments[name], description, pigments.step_mm)
        _write_quantity_tiffs(place / "quantities", pigments)
    if elements is not None:
        for name in elements.names:
            description = f"net counts of {name.replace('_', ' ')} lines; NaN: no answer"
            write_tiff(place / "elements" / f"{name}.tif", elements[name], description, elements.step_mm)


def _write_quantity_tiffs(place: Path, maps: PigmentMaps) -> None:
    """Write the thickness, and the shares of what is at the surface somewhere, with the ends of their intervals."""
    own = maps.quantities
    for name in own or ():
        if own is not None and _is_somewhere(maps, name):
            what = f"{_quantity_label(maps, name)}, {_unit(name)}"
            ends = ("median", "low", "high")
            for end, image in zip(ends, own.estimate(name), strict=True):
                about = what if end == "median" else f"{what}: {end} end of the {100 * LEVEL:g} % interval"
                file = place / f"{name}{'' if end == 'median' else f'.{end}_90'}.tif"
                write_tiff(file, image, f"{about}; NaN: no answer", maps.step_mm)


def _is_somewhere(maps: PigmentMaps, quantity: str) -> bool:
    """Whether a quantity speaks of something that is at the surface anywhere; the thickness always does."""
    material = material_of(quantity)
    if material is None:
        return True
    at_surface = at_place(material, "surface")
    return at_surface in maps.names and maps.present_somewhere(at_surface)


def _write_more_tiffs(place: Path, detectability: DetectabilityMaps | None, open_set: OpenSet | None) -> None:
    if detectability is not None:
        meaning = ", ".join(f"{key}: {words}" for key, words in STATES.items())
        for name, label in zip(detectability.names, detectability.labels, strict=True):
            path = place / "detectability" / f"{name}.tif"
            write_tiff(path, detectability[name], f"{label}: {meaning}", detectability.step_mm)
    if open_set is not None and open_set.unlikeness is not None:
        own = open_set.unlikeness
        description = "standard deviations of the strongest peak that nothing known explains; NaN: no answer"
        write_tiff(place / "unlikeness.tif", own.score, description, own.step_mm)


def write_tiff(
    path: Path,
    image: NDArray[np.float32] | NDArray[np.uint8],
    description: str,
    step_mm: tuple[float, float] | None = None,
) -> None:
    """Write a (row, column) map as TIFF, of numbers as they are, with its pixel size where known."""
    import tifffile

    path.parent.mkdir(parents=True, exist_ok=True)
    sized: dict[str, Any] = {}
    if step_mm is not None and min(step_mm) > 0:
        sized = {"resolution": (10.0 / step_mm[1], 10.0 / step_mm[0]), "resolutionunit": "CENTIMETER"}
    values = np.ascontiguousarray(image)
    tifffile.imwrite(path, values, photometric="minisblack", description=description.encode(), metadata=None, **sized)


def _write_summary(path: Path, pigments: PigmentMaps | None, elements: ElementMaps | None) -> None:
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = summary_rows(pigments, elements)
        write_csv(stream, [SUMMARY_COLUMNS, *([row.get(name, "") for name in SUMMARY_COLUMNS] for row in rows)])


def summary_rows(pigments: PigmentMaps | None, elements: ElementMaps | None) -> list[dict[str, str]]:
    """One row per map: shares and means over the pixels that have an answer."""
    rows = []
    if pigments is not None:
        rows += [
            _pigment_row(pigments[name], name, kind, label)
            for name, kind, label in zip(pigments.names, pigments.kinds, pigments.labels, strict=True)
            if split_place(name)[1] == "anywhere" or pigments.present_somewhere(name)
        ]
        rows += [_quantity_row(pigments, name) for name in pigments.quantities or () if _is_somewhere(pigments, name)]
    if elements is not None:
        rows += [_element_row(elements, index, name) for index, name in enumerate(elements.names)]
    return rows


def _pigment_row(image: NDArray[np.float32], name: str, kind: str, label: str) -> dict[str, str]:
    known = image[np.isfinite(image)].astype(np.float64)
    return {
        "name": name,
        "kind": kind,
        "label": label,
        "share_above_half": _number((known > 0.5).mean() if known.size else math.nan),
        "mean_probability": _number(known.mean() if known.size else math.nan),
        "max_probability": _number(known.max() if known.size else math.nan),
    }


def _quantity_row(maps: PigmentMaps, name: str) -> dict[str, str]:
    """Medians over the pixels where a quantity is determined; of a share, where the group is at the surface."""
    own, material = maps.quantities, material_of(name)
    if own is None:
        return {}
    value, low, high = own.estimate(name)
    here = own.determined(name)
    if material is not None:
        here &= maps.at(material, "surface") > PRESENT_PROBABILITY
    ends = {"median_value": value, "median_low": low, "median_high": high}
    return {
        "name": name,
        "kind": "quantity",
        "label": f"{_quantity_label(maps, name)} ({_unit(name)})",
    } | {key: _number(float(np.median(image[here])) if here.any() else math.nan) for key, image in ends.items()}


def _element_row(maps: ElementMaps, index: int, name: str) -> dict[str, str]:
    area, uncertainty = maps.area[:, :, index], maps.uncertainty[:, :, index]
    known = uncertainty[np.isfinite(uncertainty)]
    return {
        "name": name,
        "kind": "element",
        "label": name.replace("_", " "),
        "total_counts": _number(float(np.nansum(area, dtype=np.float64))),
        "median_uncertainty_counts": _number(float(np.median(known)) if known.size else math.nan),
    }


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
