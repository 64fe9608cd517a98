"""Results on disk: NeXus-style HDF5 in the layout of PyMca's fit results, a TIFF per map, a CSV summary."""

import json
import math
import platform
import re
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import reduce
from importlib.metadata import PackageNotFoundError, version
from operator import or_
from pathlib import Path
from typing import Any, TypeVar, cast

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import (
    AMOUNT,
    AREAL_MASS,
    BELOW_PROBABILITY,
    DIMENSIONS,
    INTERVAL_PROBABILITY,
    MASS_FRACTION,
    PLACE_WORDS,
    PRESENT_PROBABILITY,
    STATES,
    Place,
    Results,
    Stack,
    UnexplainedLine,
    at_place,
    current_states,
    element_of,
    material_of,
    split_place,
    summarise_quantity,
    unbounded_derivative,
    unit_of,
)
from underpaint.errors import OutputError, ScanError
from underpaint.io.new_hdf5 import new_hdf5
from underpaint.io.results.conditions import nexus_group, write_conditions
from underpaint.io.results.contained import DAMAGE, open_results_file
from underpaint.io.results.csv_text import write_csv
from underpaint.io.results.paints import PAINT_MAP, PAINTS_FILE, read_areas, write_areas, write_paint_table
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
    "determined_share",
    "upper_limit_share",
    "median_upper_limit",
    "share_below_surface",
)
_PACKAGES = ("underpaint", "numpy", "scipy", "h5py", "dask", "xraylib", "onnxruntime", "tifffile")
Result = TypeVar("Result")
_SAFE_NAME_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_AXIS_NAMES = ("row", "column")
_RUN_KEYS = ("settings", "versions", "written")
"""Keys of a summary that describe the run, not the scan."""
_MAX_NAME_LENGTH = 100
_N_SAMPLE_VALUES = 16384
_CHUNK_BYTES = 256 * 2**10
_REFLECTANCE = "reflectance"
_SURFACE_TITLES = {
    "surface_member": "surface: {}",
    "surface_presence": "in the surface paint: {}",
    "surface_share": "share of the surface's colour: {}",
}
_REFLECTANCE_PER_UNIT, _NO_REFLECTANCE = 1e-4, 65535
CubeReader = Callable[[Any, Sequence[str], Any], Any]


def write_results(folder: str | Path, results: Results) -> None:
    """Write results to a folder: ``results.h5``, ``summary.csv``, and a TIFF per map.

    For a model with places, ``results.h5`` contains all names with the place "anywhere", the groups at each place, and
    members at a place if their probability exceeds one half in a pixel. TIFF files are written for maps that exceed one
    half in a pixel, and for thickness, shares and the elements' quantities (median and limits of the 90 % interval).

    Parameters
    ----------
    folder : str or Path
        The folder, created if needed; use the path of :func:`result_folder` for atomic output.
    results : Results
        The results. In ``summary`` (from :func:`summarise_scan`, and ``settings``), arrays become datasets, and all
        else must be JSON-serialisable.

    Raises
    ------
    OutputError
        A map's name is not a valid file name, or the files cannot be written.
    """
    folder_path = Path(folder)
    states = results.stacks["state"].keys if "state" in results.stacks else ()
    for names in ([at_place(*key) for key in results.named_places], results.lines, [name for (name,) in states]):
        check_map_names(names)
    try:
        folder_path.mkdir(parents=True, exist_ok=True)
        _write_hdf5(folder_path / RESULTS_FILE, results)
        _write_tiffs(folder_path, results)
        write_summary(folder_path / SUMMARY_FILE, results)
        if "paint" in results.stacks:
            write_paint_table(folder_path / PAINTS_FILE, results)
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"Cannot write results to {folder_path}: {error}. Check that it is writable and that the disk is not full."
        ) from error


def read_results(folder: str | Path, *, lazily: bool = True) -> Results:
    """Read the results of a scan.

    Parameters
    ----------
    folder : str or Path
        Folder written by `underpaint identify` or `underpaint elements`.
    lazily : bool
        Read a map from the file when its values are needed; False reads all maps now, so that the file may be removed.

    Raises
    ------
    ScanError
        The folder has no results, or they are damaged.

    Examples
    --------
    >>> import underpaint as up
    >>> results = up.read_results("panel_underpaint")
    >>> results.probability.sel(group="mercury_red", place="surface").dims
    ('row', 'column')
    >>> bool(results.area.sel(line="Hg_L").max() > 100)
    True
    """
    read_cube = _lazily_read_cube if lazily else _read_cube
    read_functions = (
        _read_pigments, _read_elements, _read_element_quantities, _read_amounts, _read_states, _read_open_set,
        _read_scatter, _read_diffraction, _read_reflectance, _read_paints, _read_depth,
    )  # fmt: skip

    def read_all(file: Any) -> Results:
        results = reduce(or_, (read_function(file, read_cube) for read_function in read_functions), Results())
        return replace(results, summary=_read_summary(file))

    return _read_from_file(folder, read_all)


def read_summary(folder: str | Path) -> dict[str, Any]:
    """Read only the facts of the scan and the settings, for :attr:`Results.summary`.

    Raises
    ------
    ScanError
        The folder has no results, or they are damaged.
    """
    return _read_from_file(folder, _read_summary)


def _read_from_file(folder: str | Path, read: Callable[[Any], Result]) -> Result:
    try:
        with open_results_file(Path(folder)) as file:
            return read(file)
    except ScanError:
        raise
    except DAMAGE as error:
        raise ScanError(
            f"Cannot read {Path(folder) / RESULTS_FILE}: the file is damaged ({error}). Run the analysis again."
        ) from error


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages on which results depend."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def check_map_names(names: Sequence[str]) -> None:
    """Raise an error for names of maps that are not valid file names on every operating system.

    Raises
    ------
    OutputError
        A name is invalid, or two names differ only in capital letters, which are one file on Windows and macOS.
    """
    names_by_folded: dict[str, str] = {}
    for name in names:
        is_safe = _SAFE_NAME_PATTERN.fullmatch(name) and len(name) <= _MAX_NAME_LENGTH
        if not is_safe or name in _AXIS_NAMES or is_reserved(f"{name}.tif"):
            raise OutputError(
                f"Cannot write a map called {name[: 2 * _MAX_NAME_LENGTH]!r}: names become file names on any system, "
                f"so they are made of up to {_MAX_NAME_LENGTH} letters, digits, "
                f"'_', '-', '+', '.', and are not {', '.join(_AXIS_NAMES)} or reserved by Windows (con, aux)."
            )
        earlier = names_by_folded.setdefault(name.casefold(), name)
        if earlier != name:
            raise OutputError(
                f"Cannot write maps called {earlier!r} and {name!r}: on Windows and macOS, which ignore capital "
                "letters, they would be one file. Rename one."
            )


def _write_hdf5(path: Path, results: Results) -> None:
    scan_facts = {key: value for key, value in results.summary.items() if key not in _RUN_KEYS}
    with new_hdf5(path) as (file, _):
        file.attrs.update({"NX_class": "NXroot", "creator": "underpaint", "default": "entry"})
        entry = nexus_group(file, "entry", "NXentry")
        entry["title"] = str(scan_facts.get("name", "scan"))
        entry["end_time"] = datetime.now(UTC).isoformat(timespec="seconds")
        _write_json(entry, "settings", results.settings)
        _write_json(entry, "versions", package_versions())
        if results.has_pigments:
            _write_pigments(entry, results)
        if results.has_elements:
            collection = _create_process(entry, "elements", results, "parameters")
            _write_stack(collection, "parameters", results, "area")
            _write_stack(collection, "uncertainties", results, "area_sigma")
        if results.scatter_peaks:
            collection = _create_process(entry, "scatter", results, "counts")
            data = _write_stack(collection, "counts", results, "scatter")
            _write_stack(collection, "uncertainties", results, "scatter_sigma")
            for name in results.scatter_peaks:
                data[name].attrs["long_name"] = f"{name} scatter"
        for kind in (MASS_FRACTION, AREAL_MASS):
            _write_element_quantities(entry, results, kind)
        if results.amounts:
            _write_amounts(entry, results)
        if "state" in results.stacks:
            data = _write_stack(_create_process(entry, "detectability", results, "state"), "state", results, "state")
            data.attrs["meaning"] = json.dumps(STATES)
            for (name,) in results.stacks["state"].keys:
                data[name].attrs["long_name"] = results.label(name)
        if "diffraction" in results.stacks:
            collection = _create_process(entry, "diffraction", results, "sigmas")
            for name, quantity, long_name in (
                ("sigmas", "diffraction", "strongest peak in {} alone (standard deviations)"),
                ("energy_kev", "diffraction_kev", "energy of the strongest peak in {} alone"),
            ):
                data = _write_stack(collection, name, results, quantity)
                detectors = results.settings_of("diffraction").get("detectors", ())
                for (key,), detector in zip(results.stacks[quantity].keys, detectors, strict=False):
                    data[key].attrs["long_name"] = long_name.format(f"detector {detector}")
        if results.unexplained is not None or "unlikeness" in results.stacks:
            _write_open_set(entry, results)
        if results.has_reflectance:
            _write_reflectance(entry, results)
        if "paint" in results.stacks:
            write_paints(entry, results)
        entry.attrs["default"] = "pigments" if results.has_pigments else "elements" if results.has_elements else "scan"
        _write_scan(entry, scan_facts)
        write_conditions(entry, scan_facts, results.settings.get("calibration") or {})


def _write_pigments(entry: Any, results: Results) -> None:
    collection = _create_process(entry, "pigments", results, "probability")
    keys = [key for key in results.named_places if _is_written(results, *key)]
    images = (results[key] for key in keys)
    data = _write_maps(collection, "probability", [at_place(*key) for key in keys], images, "1", results)
    for name, place in keys:
        material, attributes = results.materials[name], data[at_place(name, place)].attrs
        attributes.update({"long_name": results.label(name, place), "kind": material.kind})
        attributes["groups"] = json.dumps([at_place(group, place) for group in material.groups])
        attributes["elements"] = json.dumps(material.elements)
    if "quantity" in results.stacks:
        _write_quantities(collection, results)
    if "pool" in results.stacks:
        _write_maps(collection, "pool", ("pixels",), [results.map("pool")], "pixels", results)


def add_reflectance(source: str | Path, target: str | Path, results: Results) -> None:
    """Write a copy of ``results.h5`` in which the results of reflectance are added or replaced.

    Parameters
    ----------
    source : str or Path
        Results folder; unchanged.
    target : str or Path
        Folder for the copy, different from ``source``.
    results : Results
        From :meth:`Results.of_reflectance`.

    Raises
    ------
    ScanError
        The source has no results, or they are damaged.
    OutputError
        The copy cannot be written.
    """
    path = Path(target) / RESULTS_FILE

    def copy_entries(old_file: Any) -> None:
        with new_hdf5(path) as (new_file, raise_write_error):
            new_file.attrs.update(old_file.attrs)
            entry = new_file.create_group("entry")
            entry.attrs.update(old_file["entry"].attrs)
            for name in old_file["entry"]:
                if name != _REFLECTANCE:
                    old_file.copy(old_file["entry"][name], entry)
                    raise_write_error()
            _write_reflectance(entry, results)

    try:
        _read_from_file(source, copy_entries)
    except OSError as error:
        if isinstance(error, OutputError | ScanError):
            raise
        raise OutputError(f"Cannot write {path}: {error}. Check that the disk is not full.") from error


def _write_reflectance(entry: Any, results: Results) -> None:
    """Write the maps of members and hidden groups, and the reflectance spectra of the pixels."""
    collection = _create_process(entry, _REFLECTANCE, results, "surface_member")
    for name, title in _SURFACE_TITLES.items():
        data = _write_stack(collection, name, results, name)
        for (member,) in results.stacks[name].keys:
            data[member].attrs["long_name"] = title.format(results.member_label(member))
    if "hidden" in results.stacks:
        data = _write_stack(collection, "hidden", results, "hidden")
        for (group,) in results.stacks["hidden"].keys:
            label = results.label(group) if group in results.materials else group.replace("_", " ")
            data[group].attrs.update({"long_name": f"below the surface: {label}", "kind": "hidden"})
    if "reflectance" not in results.stacks:
        return
    stack = results.stacks["reflectance"]
    spectra = nexus_group(entry[_REFLECTANCE], "spectra", "NXdata")
    spectra.attrs.update({"signal": "reflectance", "axes": ["row", "column", "wavelength"], "shape": results.shape})
    spectra["wavelength"] = np.array([float(wavelength) for (wavelength,) in stack.keys])
    spectra["wavelength"].attrs["units"] = "nm"
    n_row, n_column = results.shape
    chunks = (min(16, n_row), min(16, n_column), len(stack.keys))
    dataset = spectra.create_dataset(
        "reflectance", (n_row, n_column, len(stack.keys)), np.uint16, chunks=chunks, compression="gzip", shuffle=True
    )
    dataset.attrs.update({"units": "1", "scale_factor": _REFLECTANCE_PER_UNIT, "missing": _NO_REFLECTANCE})
    for first_row in range(0, n_row, chunks[0]):
        rows = slice(first_row, first_row + chunks[0])
        values = np.asarray(stack.values[rows, :, :], dtype=np.float32) / np.float32(_REFLECTANCE_PER_UNIT)
        dataset[rows] = np.where(
            np.isfinite(values), np.clip(np.round(values), 0, _NO_REFLECTANCE - 1), _NO_REFLECTANCE
        )


def _is_written(results: Results, name: str, place: Place) -> bool:
    """Return whether a map is written to ``results.h5``: for members at a place, only if likely in a pixel."""
    is_sparse = place != "anywhere" and results.materials[name].kind == "member"
    return not is_sparse or results.is_present_somewhere(name, place)


def _is_likely(results: Results, name: str, place: Place) -> bool:
    return results.holds(name, place) and results.is_present_somewhere(name, place)


def _quantity_names(results: Results) -> list[str]:
    network_quantities = [name for (name,) in results.stacks["quantity"].keys] if "quantity" in results.stacks else []
    return [*network_quantities, *results.element_quantities, *results.amounts]


def _write_quantities(collection: Any, results: Results) -> None:
    """Write medians, first-order standard deviations, and the limits of the 90 % interval."""
    names = [name for (name,) in results.stacks["quantity"].keys]
    data = _write_stack(collection, "quantities", results, "quantity")
    deviations = (
        results.map("quantity_sigma", name) * unbounded_derivative(name, results.map("quantity", name))
        for name in names
    )
    errors = _write_maps(collection, "deviations", names, deviations, "1", results)
    intervals = _write_intervals(collection, names, results)
    _label_quantities((data, errors, intervals), names, results)


def _write_element_quantities(entry: Any, results: Results, kind: str) -> None:
    """Write values and the limits of their 90 % intervals, under the names of the values."""
    names = [name for name in results.element_quantities if name.startswith(f"{kind}.")]
    if names:
        _write_estimates(_create_process(entry, "quantities", results, kind), kind, names, results)


def _write_amounts(entry: Any, results: Results) -> None:
    """Write amounts; amounts at a place only for groups that are likely at this place in a pixel."""
    keys = {name: _amount_key(name) for name in results.amounts}
    names = [name for name, key in keys.items() if key[1] == "anywhere" or _is_likely(results, *key)]
    collection = _create_process(entry, "amounts", results, AMOUNT)
    _write_estimates(collection, AMOUNT, names, results)
    reached_maps = (results.map("amount_reached", *_amount_key(name)) for name in names)
    _write_maps(collection, "reached", names, reached_maps, "1", results)


def _write_estimates(collection: Any, kind: str, names: Sequence[str], results: Results) -> None:
    data = _write_maps(collection, kind, names, (results.estimate(name).value for name in names), "1", results)
    _label_quantities((data, _write_intervals(collection, names, results)), names, results)


def _amount_key(quantity: str) -> tuple[str, Place]:
    return split_place(quantity.removeprefix(f"{AMOUNT}."))


_INTERVAL_LIMITS = ("low_90", "high_90")


def _write_intervals(collection: Any, names: Sequence[str], results: Results) -> Any:
    limit_names = [f"{name}.{limit}" for name in names for limit in _INTERVAL_LIMITS]
    images = (image for name in names for image in results.estimate(name)[1:])
    return _write_maps(collection, "intervals", limit_names, images, "1", results)


def _label_quantities(groups: Sequence[Any], names: Sequence[str], results: Results) -> None:
    for name in names:
        attributes = {"units": unit_of(name), "kind": _quantity_kind(name), "long_name": results.quantity_label(name)}
        for data in groups:
            for dataset_name in (name, *(f"{name}.{limit}" for limit in _INTERVAL_LIMITS)):
                if dataset_name in data:
                    data[dataset_name].attrs.update(attributes)


def _quantity_kind(quantity: str) -> str:
    kind_and_element = element_of(quantity)
    return "quantity" if kind_and_element is None else kind_and_element[0].replace("_", " ")


def _write_stack(parent: Any, name: str, results: Results, quantity: str) -> Any:
    """Write the maps of a quantity with one key dimension, under the names of the keys."""
    stack, (_, units) = results.stacks[quantity], DIMENSIONS[quantity]
    return _write_maps(parent, name, [key for (key,) in stack.keys], (stack[key] for key in stack.keys), units, results)


def write_paints(entry: Any, results: Results) -> None:
    """Write the paints into the entry of an HDF5 file: map, table, summed spectra."""
    data = _write_maps(
        _create_process(entry, "paints", results, "paint"), "paint", ("paint",), [results.map("paint")], "1", results
    )
    data["paint"].attrs["long_name"] = "number of the paint (0: mixed, or no paint)"
    write_areas(entry["paints"], results.paints)
    if "depth" in results.stacks:
        collection = _create_process(entry, "depth", results, "counts")
        for name, quantity in (("counts", "depth"), ("uncertainties", "depth_sigma")):
            stack = results.stacks[quantity]
            data = _write_maps(
                collection, name, _depth_map_names(stack), (stack[key] for key in stack.keys), "counts", results
            )
            for line, place in stack.keys:
                long_name = f"{line.replace('_', ' ')}{PLACE_WORDS[cast('Place', place)]}"
                data[f"{line}.{place}"].attrs["long_name"] = long_name


def _depth_map_names(stack: Stack) -> list[str]:
    return [f"{line}.{place}" for line, place in stack.keys]


def write_paint_map(path: Path, results: Results) -> None:
    """Write the map of the paints as TIFF."""
    write_tiff(
        path, results.map("paint"), "number of the paint; 0: mixed, or no paint, 255: no answer", results.step_mm
    )


def _read_paints(file: Any, read_cube: CubeReader) -> Results:
    if "entry/paints" not in file:
        return Results()
    process = file["entry/paints"]
    label = read_cube(process["results/paint"], ("paint",), np.uint8)
    return Results.of_paints(label[:, :, 0], read_areas(process), **_process_metadata(process))


def _read_depth(file: Any, read_cube: CubeReader) -> Results:
    def make_results(names: Sequence[str], counts: Any, sigma: Any, **facts: Any) -> Results:
        return Results.of_depths([split_place(name) for name in names], counts, sigma, **facts)

    return _read_map_pair(file, read_cube, "depth", ("counts", "uncertainties"), make_results)


def write_depth_maps(folder: Path, results: Results) -> None:
    """Write the maps of lines by depth as TIFF."""
    for line, place in results.stacks["depth"].keys if "depth" in results.stacks else ():
        description = f"net counts of {line.replace('_', ' ')} lines{PLACE_WORDS[cast('Place', place)]}; NaN: not known"
        write_tiff(folder / f"{line}.{place}.tif", results.map("depth", line, place), description, results.step_mm)


def _write_open_set(entry: Any, results: Results) -> None:
    process = nexus_group(entry, "open_set", "NXprocess")
    process["program"], process["version"] = "underpaint", package_versions().get("underpaint", "")
    _write_json(process, "lines", [line._asdict() for line in results.unexplained or ()])
    _write_json(process, "ordinary", results.ordinary)
    if "unlikeness" not in results.stacks:
        return
    process.attrs["default"] = "results/unlikeness"
    process.attrs["step_mm"] = json.dumps(results.step_mm)
    _write_json(process, "configuration", results.settings_of("open_set"))
    collection = nexus_group(process, "results", "NXcollection")
    _write_maps(collection, "unlikeness", ("score",), [results.map("unlikeness")], "1", results)
    _write_maps(collection, "energy", ("energy_kev",), [results.map("peak_kev")], "keV", results)


def _create_process(entry: Any, name: str, results: Results, default: str) -> Any:
    """Create an NXprocess with its configuration, and return its NXcollection ``results``."""
    process = nexus_group(entry, name, "NXprocess")
    process["program"], process["version"] = "underpaint", package_versions().get("underpaint", "")
    process.attrs["default"] = f"results/{default}"
    _write_json(process, "configuration", results.settings_of(name))
    _write_json(process, "notes", list(results.process_notes.get(name, ())))
    process.attrs["step_mm"] = json.dumps(results.step_mm)
    return nexus_group(process, "results", "NXcollection")


def _write_maps(
    parent: Any, name: str, names: Sequence[str], images: Iterable[NDArray[Any]], units: str, results: Results
) -> Any:
    data = nexus_group(parent, name, "NXdata")
    data.attrs["axes"] = ["row", "column"]
    if names:
        data.attrs["signal"] = names[0]
        data.attrs["auxiliary_signals"] = np.array(names[1:], dtype=h5py.string_dtype())
    for map_name, image in zip(names, images, strict=True):
        values = np.ascontiguousarray(image)
        dataset = data.create_dataset(map_name, data=values, **_compression_options(values))
        dataset.attrs.update({"units": units, "interpretation": "image"})
    for axis, axis_name in enumerate(_AXIS_NAMES):
        step = results.step_mm[axis] if results.step_mm else 1.0
        data[axis_name] = step * np.arange(results.shape[axis], dtype=np.float64)
        data[axis_name].attrs["units"] = "mm" if results.step_mm else "pixel"
    data.attrs["shape"] = results.shape
    return data


def _compression_options(values: NDArray[Any]) -> dict[str, Any]:
    """Return the storage options of a map: compressed if small, or if compression halves a sample.

    The last digits of most probabilities are noise, so that compression would save 4 % and take as long as the
    prediction.
    """
    sample_values = np.ascontiguousarray(values.reshape(-1)[:: max(values.size // _N_SAMPLE_VALUES, 1)])
    shuffled_bytes = sample_values.view(np.uint8).reshape(-1, values.itemsize).T.tobytes()
    if values.size > _N_SAMPLE_VALUES and len(zlib.compress(shuffled_bytes, 1)) > 0.5 * len(shuffled_bytes):
        return {"chunks": (max(_CHUNK_BYTES // (values.shape[1] * values.itemsize), 1), values.shape[1])}
    return {"compression": "gzip", "compression_opts": 1, "shuffle": True}


def _write_scan(entry: Any, scan_summary: Mapping[str, Any]) -> None:
    scan = nexus_group(entry, "scan", "NXdata")
    arrays = {key: value for key, value in scan_summary.items() if isinstance(value, np.ndarray)}
    for key, value in arrays.items():
        scan[key] = value
        scan[key].attrs["units"] = "keV" if key.endswith("_kev") else "s" if key.endswith("_s") else "counts"
    if "sum_counts" in arrays:
        scan.attrs["signal"] = "sum_counts"
        scan.attrs["auxiliary_signals"] = [key for key in ("max_counts",) if key in arrays]
    if "energy_kev" in arrays:
        scan.attrs["axes"] = ["energy_kev"]
    _write_json(scan, "facts", {key: value for key, value in scan_summary.items() if key not in arrays})


def _write_json(parent: Any, name: str, value: Any) -> None:
    parent[name] = json.dumps(value, sort_keys=True, ensure_ascii=False)
    parent[name].attrs["type"] = "application/json"


def _read_json(parent: Any, name: str) -> Any:
    return json.loads(parent[name].asstr()[()])


def _read_pigments(file: Any, read_cube: CubeReader) -> Results:
    if "entry/pigments" not in file:
        return Results()
    process = file["entry/pigments"]
    data = process["results/probability"]
    names = _signal_names(data)
    attributes = [data[name].attrs for name in names]
    results = Results.of_pigments(
        names,
        read_cube(data, names, np.float32),
        kinds=[str(map_attributes["kind"]) for map_attributes in attributes],
        groups=[tuple(json.loads(map_attributes["groups"])) for map_attributes in attributes],
        labels=[str(map_attributes["long_name"]) for map_attributes in attributes],
        elements=[tuple(json.loads(map_attributes["elements"])) for map_attributes in attributes],
        quantities=_read_quantities(process["results"], read_cube),
        **_process_metadata(process),
    )
    if "pool" not in process["results"]:
        return results
    return (
        Results.of_pools(read_cube(process["results/pool"], ["pixels"], np.float32), step_mm=_step_mm(process))
        | results
    )


def _process_metadata(process: Any) -> dict[str, Any]:
    notes = tuple(_read_json(process, "notes"))
    return {"step_mm": _step_mm(process), "notes": notes, "settings": _read_json(process, "configuration")}


def _read_quantities(results: Any, read_cube: CubeReader) -> tuple[Sequence[str], Any, Any] | None:
    if "quantities" not in results:
        return None
    names = _signal_names(results["quantities"])
    value, deviation = (
        read_cube(results[group_name], names, np.float32) for group_name in ("quantities", "deviations")
    )

    def sigma(index: int) -> NDArray[np.float32]:
        return np.asarray(deviation[:, :, index] / unbounded_derivative(names[index], value[:, :, index]))

    if read_cube is _read_cube:
        return names, value, np.stack([sigma(index) for index in range(len(names))], axis=2)
    return names, value, StoredMaps(value.shape, np.float32, sigma)


def _read_map_pair(
    file: Any, read_cube: CubeReader, name: str, group_names: tuple[str, str], make_results: Callable[..., Results]
) -> Results:
    """Return the results of a process with two stacks of maps of the same names; empty without the process."""
    if f"entry/{name}" not in file:
        return Results()
    process = file[f"entry/{name}"]
    names = _signal_names(process[f"results/{group_names[0]}"])
    return make_results(
        names,
        *(read_cube(process[f"results/{group_name}"], names, np.float32) for group_name in group_names),
        **_process_metadata(process),
    )


def _read_elements(file: Any, read_cube: CubeReader) -> Results:
    return _read_map_pair(file, read_cube, "elements", ("parameters", "uncertainties"), Results.of_lines)


def _read_element_quantities(file: Any, read_cube: CubeReader) -> Results:
    if "entry/quantities" not in file:
        return Results()
    process = file["entry/quantities"]
    collection = process["results"]
    kind = next(kind for kind in (MASS_FRACTION, AREAL_MASS) if kind in collection)
    return Results.of_quantities(kind, *_read_estimates(collection, kind, read_cube), **_process_metadata(process))


def _read_amounts(file: Any, read_cube: CubeReader) -> Results:
    if "entry/amounts" not in file:
        return Results()
    process = file["entry/amounts"]
    collection = process["results"]
    reached = read_cube(collection["reached"], _signal_names(collection[AMOUNT]), np.float32)
    return Results.of_amounts(*_read_estimates(collection, AMOUNT, read_cube), reached, **_process_metadata(process))


def _read_estimates(collection: Any, kind: str, read_cube: CubeReader) -> tuple[list[str], Any, Any, Any]:
    """Return names without the kind, values, and the lower and upper limits of the intervals."""
    names = _signal_names(collection[kind])
    low, high = (
        read_cube(collection["intervals"], [f"{name}.{limit}" for name in names], np.float32)
        for limit in _INTERVAL_LIMITS
    )
    return [name.removeprefix(f"{kind}.") for name in names], read_cube(collection[kind], names, np.float32), low, high


def _read_states(file: Any, read_cube: CubeReader) -> Results:
    if "entry/detectability" not in file:
        return Results()
    process = file["entry/detectability"]
    data = process["results/state"]
    names = _signal_names(data)
    labels = [str(data[name].attrs["long_name"]) for name in names]
    stored_states = read_cube(data, names, np.uint8)
    if isinstance(stored_states, StoredMaps):
        states: Any = StoredMaps(
            stored_states.shape, np.uint8, lambda index: current_states(stored_states[:, :, index])
        )
    else:
        states = current_states(stored_states)
    return Results.of_states(names, labels, states, **_process_metadata(process))


def _read_scatter(file: Any, read_cube: CubeReader) -> Results:
    return _read_map_pair(file, read_cube, "scatter", ("counts", "uncertainties"), Results.of_scatter)


def _read_diffraction(file: Any, read_cube: CubeReader) -> Results:
    return _read_map_pair(file, read_cube, "diffraction", ("sigmas", "energy_kev"), Results.of_diffraction)


def _read_reflectance(file: Any, read_cube: CubeReader) -> Results:
    if f"entry/{_REFLECTANCE}" not in file:
        return Results()
    process = file["entry"][_REFLECTANCE]
    collection = process["results"]
    members = _signal_names(collection["surface_member"])
    arrays: dict[str, Any] = {
        name: read_cube(collection[name], _signal_names(collection[name]), np.float32) for name in _SURFACE_TITLES
    }
    if "hidden" in collection:
        groups = _signal_names(collection["hidden"])
        arrays["hidden"] = groups, read_cube(collection["hidden"], groups, np.float32)
    if "spectra" in process:
        arrays["reflectance"] = process["spectra/wavelength"][()], _read_spectra(process["spectra"], read_cube)
    return Results.of_reflectance(members, arrays, **_process_metadata(process))


def _read_spectra(spectra: Any, read_cube: CubeReader) -> Any:
    dataset = spectra["reflectance"]
    shape, folder, path = dataset.shape, Path(dataset.file.filename).parent, str(dataset.name)
    if read_cube is _read_cube:
        return _as_reflectance(dataset[()])

    def read_map(index: int) -> NDArray[Any]:
        with open_results_file(folder) as file:
            return _as_reflectance(file[path][:, :, index])

    return StoredMaps(shape, np.float32, read_map)


def _as_reflectance(stored_values: NDArray[Any]) -> NDArray[np.float32]:
    values = stored_values.astype(np.float32) * np.float32(_REFLECTANCE_PER_UNIT)
    values[stored_values == _NO_REFLECTANCE] = np.nan
    return values


def read_reflectance_spectrum(
    folder: str | Path, row: int, column: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return the wavelengths, nm, and the reflectance of a pixel from results.

    Raises
    ------
    ScanError
        The folder has no results, the results have no reflectance, or the pixel is outside the maps.
    """

    def read_pixel(file: Any) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        if f"entry/{_REFLECTANCE}/spectra" not in file:
            raise ScanError(
                f"Cannot show a reflectance spectrum of {folder}: the results have none. `underpaint reflect CUBE "
                f"--xrf {folder}` adds them."
            )
        spectra = file["entry"][_REFLECTANCE]["spectra"]
        n_row, n_column, _ = spectra["reflectance"].shape
        if not (0 <= row < n_row and 0 <= column < n_column):
            raise ScanError(
                f"Cannot show pixel ({row}, {column}): rows are 0 to {n_row - 1}, columns 0 to {n_column - 1}."
            )
        return np.asarray(spectra["wavelength"][()]), _as_reflectance(spectra["reflectance"][row, column])

    return _read_from_file(folder, read_pixel)


def _read_open_set(file: Any, read_cube: CubeReader) -> Results:
    if "entry/open_set" not in file:
        return Results()
    process = file["entry/open_set"]
    lines = tuple(
        UnexplainedLine(**line | {"carriers": tuple(line["carriers"])}) for line in _read_json(process, "lines")
    )
    ordinary = tuple((family, source) for family, source in _read_json(process, "ordinary"))
    results = Results(unexplained=lines, ordinary=ordinary)
    if "results" not in process:
        return results
    score = read_cube(process["results/unlikeness"], ["score"], np.float32)
    peak_kev = read_cube(process["results/energy"], ["energy_kev"], np.float32)
    settings = _read_json(process, "configuration")
    return results | Results.of_unlikeness(score, peak_kev, step_mm=_step_mm(process), settings=settings)


def _read_summary(file: Any) -> dict[str, Any]:
    entry = file["entry"]
    arrays = {key: np.asarray(item[()]) for key, item in entry["scan"].items() if key != "facts"}
    return {
        **_read_json(entry["scan"], "facts"),
        **arrays,
        "settings": _read_json(entry, "settings"),
        "versions": _read_json(entry, "versions"),
        "written": entry["end_time"].asstr()[()],
    }


def _signal_names(data: Any) -> tuple[str, ...]:
    if "signal" not in data.attrs:
        return ()
    return (str(data.attrs["signal"]), *(str(name) for name in data.attrs["auxiliary_signals"]))


def _map_shape(data: Any, names: Sequence[str]) -> tuple[int, int]:
    """Return rows and columns of maps; raise ValueError if the maps differ."""
    n_row, n_column = (int(size) for size in data.attrs["shape"])
    first_shape = next(
        (data.file[path].attrs["shape"] for path in MAP_STACKS if path in data.file), data.attrs["shape"]
    )
    shapes = {(n_row, n_column), tuple(map(int, first_shape)), *(data[name].shape for name in names)}
    if len(shapes) > 1:
        raise ValueError(f"maps of {len(shapes)} sizes in {data.name}")
    return n_row, n_column


def _read_cube(data: Any, names: Sequence[str], dtype: Any) -> NDArray[Any]:
    shape = _map_shape(data, names)
    read_cube = np.empty((*shape, len(names)), dtype=dtype)
    for index, name in enumerate(names):
        read_cube[:, :, index] = data[name][()]
    return read_cube


def _lazily_read_cube(data: Any, names: Sequence[str], dtype: Any) -> StoredMaps:
    """Return a reader of a map on demand; it opens the file for each read."""
    n_row, n_column = _map_shape(data, names)
    folder, path = Path(data.file.filename).parent, str(data.name)

    def read_map(index: int) -> NDArray[Any]:
        with open_results_file(folder) as file:
            return np.asarray(file[path][names[index]][()])

    return StoredMaps((n_row, n_column, len(names)), dtype, read_map)


def _step_mm(process: Any) -> tuple[float, float] | None:
    step = json.loads(process.attrs["step_mm"])
    return None if step is None else (float(step[0]), float(step[1]))


def _write_tiffs(folder: Path, results: Results) -> None:
    step_mm = results.step_mm
    has_places = len(results.places) > 1
    for key in results.named_places:
        if not has_places or results.is_present_somewhere(*key):
            description = f"probability of {results.label(*key)}; NaN: no answer"
            write_tiff(folder / "pigments" / f"{at_place(*key)}.tif", results[key], description, step_mm)
    _write_quantity_tiffs(folder / "quantities", results)
    for name in results.lines:
        description = f"net counts of {name.replace('_', ' ')} lines; NaN: no answer"
        write_tiff(folder / "elements" / f"{name}.tif", results[name], description, step_mm)
    for name in results.scatter_peaks:
        description = f"counts of {name} scatter; NaN: no answer"
        write_tiff(folder / "scatter" / f"{name}.tif", results[name], description, step_mm)
    if "state" in results.stacks:
        meaning = ", ".join(f"{key}: {meaning_text}" for key, meaning_text in STATES.items())
        for (name,) in results.stacks["state"].keys:
            path = folder / "detectability" / f"{name}.tif"
            write_tiff(path, results.map("state", name), f"{results.label(name)}: {meaning}", step_mm)
    write_reflectance_tiffs(folder, results)
    if "pool" in results.stacks:
        write_tiff(folder / "pool.tif", results.map("pool"), "pixels summed for an answer; NaN: no answer", step_mm)
    if "unlikeness" in results.stacks:
        description = "standard deviations of the strongest unassigned peak; NaN: no answer"
        write_tiff(folder / "unlikeness.tif", results.map("unlikeness"), description, step_mm)
    if "paint" in results.stacks:
        write_paint_map(folder / PAINT_MAP, results)
        write_depth_maps(folder / "depth", results)


def write_reflectance_tiffs(folder: Path, results: Results) -> None:
    """Write the maps of surface members from reflectance, and of groups found below the surface in a pixel."""
    for subfolder, quantity, title in (
        ("surface", "surface_member", "probability that {} gives the surface its colour"),
        ("hidden", "hidden", "probability that {} is below the surface"),
    ):
        for (name,) in results.stacks[quantity].keys if quantity in results.stacks else ():
            image = results.map(quantity, name)
            if quantity == "surface_member" or (image > BELOW_PROBABILITY).any():
                description_start = title.format(name.replace("_", " "))
                write_tiff(
                    folder / subfolder / f"{name}.tif", image, f"{description_start}; NaN: no answer", results.step_mm
                )


def _write_quantity_tiffs(folder: Path, results: Results) -> None:
    """Write quantities with the limits of their intervals; shares only of materials at the surface in a pixel."""
    for name in _quantity_names(results):
        if _is_present_somewhere(results, name):
            write_estimate_tiffs(folder, results, name)


def write_estimate_tiffs(folder: Path, results: Results, name: str) -> None:
    """Write a quantity and the limits of its interval."""
    title = f"{results.quantity_label(name)}, {unit_of(name)}"
    suffixes = ("median", "low", "high")
    for suffix, image in zip(suffixes, results.estimate(name), strict=True):
        interval = f"{100 * INTERVAL_PROBABILITY:g} % interval"
        description = title if suffix == "median" else f"{title}: {suffix} end of the {interval}"
        path = folder / f"{name}{'' if suffix == 'median' else f'.{suffix}_90'}.tif"
        write_tiff(path, image, f"{description}; NaN: no answer", results.step_mm)


def _is_present_somewhere(results: Results, quantity: str) -> bool:
    """Return whether the material of a share or an amount is likely in a pixel; true for all other quantities."""
    material = material_of(quantity)
    if quantity in results.amounts:
        key = _amount_key(quantity)
        return key[1] == "anywhere" and _is_likely(results, *key)
    return material is None or _is_likely(results, material, "surface")


def write_tiff(
    path: Path,
    image: NDArray[np.float32] | NDArray[np.uint8],
    description: str,
    step_mm: tuple[float, float] | None = None,
) -> None:
    """Write a (row, column) map as TIFF with unscaled values, and its pixel size if known."""
    import tifffile

    path.parent.mkdir(parents=True, exist_ok=True)
    resolution: dict[str, Any] = {}
    if step_mm is not None and min(step_mm) > 0:
        resolution = {"resolution": (10.0 / step_mm[1], 10.0 / step_mm[0]), "resolutionunit": "CENTIMETER"}
    values = np.ascontiguousarray(image)
    tifffile.imwrite(
        path, values, photometric="minisblack", description=description.encode(), metadata=None, **resolution
    )


def write_summary(path: Path, results: Results) -> None:
    """Write a row for each map to a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = summary_rows(results)
        write_csv(stream, [SUMMARY_COLUMNS, *([row.get(name, "") for name in SUMMARY_COLUMNS] for row in rows)])


def summary_rows(results: Results) -> list[dict[str, str]]:
    """Return one row per map: fractions and means over the pixels with an answer."""
    rows = [
        _pigment_row(results, *key)
        for key in results.named_places
        if key[1] == "anywhere" or results.is_present_somewhere(*key)
    ]
    for quantity, kind in (("surface_member", "surface"), ("hidden", "hidden")):
        names = [name for (name,) in results.stacks[quantity].keys] if quantity in results.stacks else []
        threshold = BELOW_PROBABILITY if quantity == "hidden" else PRESENT_PROBABILITY
        rows += [
            _probability_row(results.map(quantity, name), name, kind, name.replace("_", " "), threshold)
            for name in names
        ]
    rows += [_quantity_row(results, name) for name in _quantity_names(results) if _is_present_somewhere(results, name)]
    rows += [_counts_row(results, name, "element", "area_sigma") for name in results.lines]
    return rows + [_counts_row(results, name, "scatter", "scatter_sigma") for name in results.scatter_peaks]


def _pigment_row(results: Results, name: str, place: Place) -> dict[str, str]:
    kind, label = results.materials[name].kind, results.label(name, place)
    return _probability_row(results[name, place], at_place(name, place), kind, label)


def _probability_row(
    image: NDArray[np.float32], name: str, kind: str, label: str, threshold: float = PRESENT_PROBABILITY
) -> dict[str, str]:
    finite = image[np.isfinite(image)].astype(np.float64)
    share_column = "share_above_half" if threshold == PRESENT_PROBABILITY else "share_below_surface"
    return {
        "name": name,
        "kind": kind,
        "label": label,
        share_column: _number_text((finite > threshold).mean() if finite.size else math.nan),
        "mean_probability": _number_text(finite.mean() if finite.size else math.nan),
        "max_probability": _number_text(finite.max() if finite.size else math.nan),
    }


def _quantity_row(results: Results, name: str) -> dict[str, str]:
    """Return medians over the pixels where a quantity is determined; for shares, where the group is at the surface."""
    material = material_of(name)
    is_at_surface = None if material is None else results[material, "surface"] > PRESENT_PROBABILITY
    summary = summarise_quantity(name, results.estimate(name), is_at_surface)
    values = {
        "median_value": summary.value,
        "median_low": summary.low,
        "median_high": summary.high,
        "determined_share": summary.determined_share,
        "upper_limit_share": summary.upper_limit_share,
        "median_upper_limit": summary.median_upper_limit,
    }
    return {
        "name": name,
        "kind": _quantity_kind(name),
        "label": f"{results.quantity_label(name)} ({unit_of(name)})",
    } | {key: _number_text(value) for key, value in values.items()}


def _counts_row(results: Results, name: str, kind: str, deviation_name: str) -> dict[str, str]:
    sigma = results.map(deviation_name, name)
    finite = sigma[np.isfinite(sigma)]
    return {
        "name": name,
        "kind": kind,
        "label": name.replace("_", " "),
        "total_counts": _number_text(float(np.nansum(results[name], dtype=np.float64))),
        "median_uncertainty_counts": _number_text(float(np.median(finite)) if finite.size else math.nan),
    }


def _number_text(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
