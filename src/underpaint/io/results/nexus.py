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
    slope,
    split_place,
    summarise_quantity,
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
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_RESERVED = ("row", "column")
_OF_RUN = ("settings", "versions", "written")
"""Entries of a summary on the run, not on the scan."""
_MAX_NAME = 100
_SAMPLE = 16384
_CHUNK_BYTES = 256 * 2**10
_REFLECTANCE = "reflectance"
_OF_SURFACE = {
    "surface_member": "surface: {}",
    "surface_presence": "in the surface paint: {}",
    "surface_share": "share of the surface's colour: {}",
}
_REFLECTANCE_STEP, _NO_REFLECTANCE = 1e-4, 65535
Cubes = Callable[[Any, Sequence[str], Any], Any]


def write_results(folder: str | Path, results: Results) -> None:
    """Write results to a folder: ``results.h5``, ``summary.csv``, and a TIFF per map.

    For a model with places, ``results.h5`` contains all names anywhere, the groups at each place, and members at a
    place if they exceed one half somewhere. TIFF files are written for maps that exceed one half somewhere, and for
    thickness, shares and the elements' quantities (median, and the ends of the 90 % interval).

    Parameters
    ----------
    folder : str or Path
        The folder, made if needed; use that of :func:`result_folder` for atomic output.
    results : Results
        The results. In ``summary`` (from :func:`summarise_scan`, and ``settings``), arrays become datasets, and the
        rest must be JSON-serialisable.

    Raises
    ------
    OutputError
        A map's name is not a valid file name, or the files cannot be written.
    """
    place = Path(folder)
    states = results.stacks["state"].keys if "state" in results.stacks else ()
    for names in ([at_place(*key) for key in results.placed], results.lines, [name for (name,) in states]):
        check_map_names(names)
    try:
        place.mkdir(parents=True, exist_ok=True)
        _write_hdf5(place / RESULTS_FILE, results)
        _write_tiffs(place, results)
        write_summary(place / SUMMARY_FILE, results)
        if "paint" in results.stacks:
            write_paint_table(place / PAINTS_FILE, results)
    except (OSError, RuntimeError) as error:
        raise OutputError(
            f"Cannot write results to {place}: {error}. Check that it is writable and that the disk is not full."
        ) from error


def read_results(folder: str | Path, *, lazily: bool = True) -> Results:
    """Read the results of a scan.

    Parameters
    ----------
    folder : str or Path
        As `underpaint identify` and `underpaint elements` write it.
    lazily : bool
        Read a map from the file when it is computed with; False reads all of them now, so that the file may go.

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
    cube = _lazy_cube if lazily else _cube
    parts = (
        _read_pigments, _read_elements, _read_element_quantities, _read_amounts, _read_states, _read_open_set,
        _read_scatter, _read_diffraction, _read_reflectance, _read_paints, _read_depth,
    )  # fmt: skip

    def read(file: Any) -> Results:
        results = reduce(or_, (part(file, cube) for part in parts), Results())
        return replace(results, summary=_read_summary(file))

    return _read(folder, read)


def read_summary(folder: str | Path) -> dict[str, Any]:
    """Read only the facts of the scan and the settings, for :attr:`Results.summary`.

    Raises
    ------
    ScanError
        The folder has no results, or they are damaged.
    """
    return _read(folder, _read_summary)


def _read(folder: str | Path, read: Callable[[Any], Result]) -> Result:
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
    """Versions of Python and of the packages that results depend on."""
    versions = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return versions


def check_map_names(names: Sequence[str]) -> None:
    """Refuse names of maps that are not valid file names on every system.

    Raises
    ------
    OutputError
        One of them, or two that differ only in capital letters, which are one file on Windows and macOS.
    """
    capitals: dict[str, str] = {}
    for name in names:
        is_safe = _SAFE_NAME.fullmatch(name) and len(name) <= _MAX_NAME
        if not is_safe or name in _RESERVED or is_reserved(f"{name}.tif"):
            raise OutputError(
                f"Cannot write a map called {name[: 2 * _MAX_NAME]!r}: names become file names on any system, so "
                f"they are made of up to {_MAX_NAME} letters, digits, "
                f"'_', '-', '+', '.', and are not {', '.join(_RESERVED)} or reserved by Windows (con, aux)."
            )
        earlier = capitals.setdefault(name.casefold(), name)
        if earlier != name:
            raise OutputError(
                f"Cannot write maps called {earlier!r} and {name!r}: they would be one file where capital letters do "
                "not count (Windows, macOS). Rename one."
            )


def _write_hdf5(path: Path, results: Results) -> None:
    facts = {key: value for key, value in results.summary.items() if key not in _OF_RUN}
    with new_hdf5(path) as (file, _):
        file.attrs.update({"NX_class": "NXroot", "creator": "underpaint", "default": "entry"})
        entry = nexus_group(file, "entry", "NXentry")
        entry["title"] = str(facts.get("name", "scan"))
        entry["end_time"] = datetime.now(UTC).isoformat(timespec="seconds")
        _json(entry, "settings", results.settings)
        _json(entry, "versions", package_versions())
        if results.has_pigments:
            _write_pigments(entry, results)
        if results.has_elements:
            collection = _process(entry, "elements", results, "parameters")
            _write_stack(collection, "parameters", results, "area")
            _write_stack(collection, "uncertainties", results, "area_sigma")
        if results.scatter_peaks:
            collection = _process(entry, "scatter", results, "counts")
            data = _write_stack(collection, "counts", results, "scatter")
            _write_stack(collection, "uncertainties", results, "scatter_sigma")
            for name in results.scatter_peaks:
                data[name].attrs["long_name"] = f"{name} scatter"
        for kind in (MASS_FRACTION, AREAL_MASS):
            _write_element_quantities(entry, results, kind)
        if results.amounts:
            _write_amounts(entry, results)
        if "state" in results.stacks:
            data = _write_stack(_process(entry, "detectability", results, "state"), "state", results, "state")
            data.attrs["meaning"] = json.dumps(STATES)
            for (name,) in results.stacks["state"].keys:
                data[name].attrs["long_name"] = results.label(name)
        if "diffraction" in results.stacks:
            collection = _process(entry, "diffraction", results, "sigmas")
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
        _write_scan(entry, facts)
        write_conditions(entry, facts, results.settings.get("calibration") or {})


def _write_pigments(entry: Any, results: Results) -> None:
    collection = _process(entry, "pigments", results, "probability")
    pairs = [key for key in results.placed if _is_kept(results, *key)]
    images = (results[key] for key in pairs)
    data = _maps(collection, "probability", [at_place(*key) for key in pairs], images, "1", results)
    for name, place in pairs:
        material, attributes = results.materials[name], data[at_place(name, place)].attrs
        attributes.update({"long_name": results.label(name, place), "kind": material.kind})
        attributes["groups"] = json.dumps([at_place(group, place) for group in material.groups])
        attributes["elements"] = json.dumps(material.elements)
    if "quantity" in results.stacks:
        _write_quantities(collection, results)
    if "pool" in results.stacks:
        _maps(collection, "pool", ("pixels",), [results.map("pool")], "pixels", results)


def add_reflectance(source: str | Path, target: str | Path, results: Results) -> None:
    """Write a copy of ``results.h5`` with what reflectance says, in place of what an earlier cube said.

    Parameters
    ----------
    source : str or Path
        Folder of results; unchanged.
    target : str or Path
        Folder for the copy, another one.
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

    def copy(old: Any) -> None:
        with new_hdf5(path) as (new, check):
            new.attrs.update(old.attrs)
            entry = new.create_group("entry")
            entry.attrs.update(old["entry"].attrs)
            for name in old["entry"]:
                if name != _REFLECTANCE:
                    old.copy(old["entry"][name], entry)
                    check()
            _write_reflectance(entry, results)

    try:
        _read(source, copy)
    except OSError as error:
        if isinstance(error, OutputError | ScanError):
            raise
        raise OutputError(f"Cannot write {path}: {error}. Check that the disk is not full.") from error


def _write_reflectance(entry: Any, results: Results) -> None:
    """Write maps of members and hidden groups; the spectra beside them, pixel by pixel, and the registration."""
    collection = _process(entry, _REFLECTANCE, results, "surface_member")
    for name, title in _OF_SURFACE.items():
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
    stored = spectra.create_dataset(
        "reflectance", (n_row, n_column, len(stack.keys)), np.uint16, chunks=chunks, compression="gzip", shuffle=True
    )
    stored.attrs.update({"units": "1", "scale_factor": _REFLECTANCE_STEP, "missing": _NO_REFLECTANCE})
    for first in range(0, n_row, chunks[0]):
        rows = slice(first, first + chunks[0])
        values = np.asarray(stack.values[rows, :, :], dtype=np.float32) / np.float32(_REFLECTANCE_STEP)
        stored[rows] = np.where(np.isfinite(values), np.clip(np.round(values), 0, _NO_REFLECTANCE - 1), _NO_REFLECTANCE)


def _is_kept(results: Results, name: str, place: Place) -> bool:
    """Whether ``results.h5`` contains a map: members at a place only if likely somewhere."""
    is_sparse = place != "anywhere" and results.materials[name].kind == "member"
    return not is_sparse or results.present_somewhere(name, place)


def _is_likely(results: Results, name: str, place: Place) -> bool:
    return results.holds(name, place) and results.present_somewhere(name, place)


def _quantities(results: Results) -> list[str]:
    of_network = [name for (name,) in results.stacks["quantity"].keys] if "quantity" in results.stacks else []
    return [*of_network, *results.element_quantities, *results.amounts]


def _write_quantities(collection: Any, results: Results) -> None:
    """Write medians, deviations to first order, and the ends of the 90 % interval."""
    names = [name for (name,) in results.stacks["quantity"].keys]
    data = _write_stack(collection, "quantities", results, "quantity")
    deviations = (results.map("quantity_sigma", name) * slope(name, results.map("quantity", name)) for name in names)
    errors = _maps(collection, "deviations", names, deviations, "1", results)
    intervals = _write_intervals(collection, names, results)
    _label_quantities((data, errors, intervals), names, results)


def _write_element_quantities(entry: Any, results: Results, kind: str) -> None:
    """Write values and the ends of the 90 % interval, which share the names of the values."""
    names = [name for name in results.element_quantities if name.startswith(f"{kind}.")]
    if names:
        _write_estimates(_process(entry, "quantities", results, kind), kind, names, results)


def _write_amounts(entry: Any, results: Results) -> None:
    """Write amounts, at a place of those groups alone that are somewhere likely to be there."""
    keys = {name: _amount_key(name) for name in results.amounts}
    names = [name for name, key in keys.items() if key[1] == "anywhere" or _is_likely(results, *key)]
    collection = _process(entry, "amounts", results, AMOUNT)
    _write_estimates(collection, AMOUNT, names, results)
    reached = (results.map("amount_reached", *_amount_key(name)) for name in names)
    _maps(collection, "reached", names, reached, "1", results)


def _write_estimates(collection: Any, kind: str, names: Sequence[str], results: Results) -> None:
    data = _maps(collection, kind, names, (results.estimate(name).value for name in names), "1", results)
    _label_quantities((data, _write_intervals(collection, names, results)), names, results)


def _amount_key(quantity: str) -> tuple[str, Place]:
    return split_place(quantity.removeprefix(f"{AMOUNT}."))


_ENDS = ("low_90", "high_90")


def _write_intervals(collection: Any, names: Sequence[str], results: Results) -> Any:
    ends = [f"{name}.{end}" for name in names for end in _ENDS]
    images = (image for name in names for image in results.estimate(name)[1:])
    return _maps(collection, "intervals", ends, images, "1", results)


def _label_quantities(groups: Sequence[Any], names: Sequence[str], results: Results) -> None:
    for name in names:
        about = {"units": unit_of(name), "kind": _quantity_kind(name), "long_name": results.quantity_label(name)}
        for data in groups:
            for title in (name, *(f"{name}.{end}" for end in _ENDS)):
                if title in data:
                    data[title].attrs.update(about)


def _quantity_kind(quantity: str) -> str:
    of_element = element_of(quantity)
    return "quantity" if of_element is None else of_element[0].replace("_", " ")


def _write_stack(parent: Any, name: str, results: Results, quantity: str) -> Any:
    """Write the maps of a quantity with one dimension, under their names."""
    stack, (_, units) = results.stacks[quantity], DIMENSIONS[quantity]
    return _maps(parent, name, [key for (key,) in stack.keys], (stack[key] for key in stack.keys), units, results)


def write_paints(entry: Any, results: Results) -> None:
    """Write the paints into the entry of an HDF5 file: map, table, summed spectra."""
    data = _maps(_process(entry, "paints", results, "paint"), "paint", ("paint",), [results.map("paint")], "1", results)
    data["paint"].attrs["long_name"] = "number of the paint (0: mixed or of none)"
    write_areas(entry["paints"], results.paints)
    if "depth" in results.stacks:
        collection = _process(entry, "depth", results, "counts")
        for name, quantity in (("counts", "depth"), ("uncertainties", "depth_sigma")):
            stack = results.stacks[quantity]
            data = _maps(collection, name, _depth_names(stack), (stack[key] for key in stack.keys), "counts", results)
            for line, place in stack.keys:
                long_name = f"{line.replace('_', ' ')}{PLACE_WORDS[cast('Place', place)]}"
                data[f"{line}.{place}"].attrs["long_name"] = long_name


def _depth_names(stack: Stack) -> list[str]:
    return [f"{line}.{place}" for line, place in stack.keys]


def write_paint_map(path: Path, results: Results) -> None:
    """Write the map of the paints as TIFF."""
    write_tiff(path, results.map("paint"), "number of the paint; 0: mixed or of none, 255: no answer", results.step_mm)


def _read_paints(file: Any, cube: Cubes) -> Results:
    if "entry/paints" not in file:
        return Results()
    process = file["entry/paints"]
    label = cube(process["results/paint"], ("paint",), np.uint8)
    return Results.of_paints(label[:, :, 0], read_areas(process), **_record(process))


def _read_depth(file: Any, cube: Cubes) -> Results:
    def made(names: Sequence[str], counts: Any, sigma: Any, **facts: Any) -> Results:
        return Results.of_depths([split_place(name) for name in names], counts, sigma, **facts)

    return _read_pair(file, cube, "depth", ("counts", "uncertainties"), made)


def write_depth_maps(folder: Path, results: Results) -> None:
    """Write the maps of lines by depth as TIFF."""
    for line, place in results.stacks["depth"].keys if "depth" in results.stacks else ():
        words = f"net counts of {line.replace('_', ' ')} lines{PLACE_WORDS[cast('Place', place)]}; NaN: not known"
        write_tiff(folder / f"{line}.{place}.tif", results.map("depth", line, place), words, results.step_mm)


def _write_open_set(entry: Any, results: Results) -> None:
    process = nexus_group(entry, "open_set", "NXprocess")
    process["program"], process["version"] = "underpaint", package_versions().get("underpaint", "")
    _json(process, "lines", [line._asdict() for line in results.unexplained or ()])
    _json(process, "ordinary", results.ordinary)
    if "unlikeness" not in results.stacks:
        return
    process.attrs["default"] = "results/unlikeness"
    process.attrs["step_mm"] = json.dumps(results.step_mm)
    _json(process, "configuration", results.settings_of("open_set"))
    collection = nexus_group(process, "results", "NXcollection")
    _maps(collection, "unlikeness", ("score",), [results.map("unlikeness")], "1", results)
    _maps(collection, "energy", ("energy_kev",), [results.map("peak_kev")], "keV", results)


def _process(entry: Any, name: str, results: Results, default: str) -> Any:
    """Make an NXprocess with its configuration, and return its NXcollection ``results``."""
    process = nexus_group(entry, name, "NXprocess")
    process["program"], process["version"] = "underpaint", package_versions().get("underpaint", "")
    process.attrs["default"] = f"results/{default}"
    _json(process, "configuration", results.settings_of(name))
    _json(process, "notes", list(results.process_notes.get(name, ())))
    process.attrs["step_mm"] = json.dumps(results.step_mm)
    return nexus_group(process, "results", "NXcollection")


def _maps(
    parent: Any, name: str, names: Sequence[str], images: Iterable[NDArray[Any]], units: str, results: Results
) -> Any:
    data = nexus_group(parent, name, "NXdata")
    data.attrs["axes"] = ["row", "column"]
    if names:
        data.attrs["signal"] = names[0]
        data.attrs["auxiliary_signals"] = np.array(names[1:], dtype=h5py.string_dtype())
    for title, image in zip(names, images, strict=True):
        values = np.ascontiguousarray(image)
        dataset = data.create_dataset(title, data=values, **_packing(values))
        dataset.attrs.update({"units": units, "interpretation": "image"})
    for axis, label in enumerate(_RESERVED):
        step = results.step_mm[axis] if results.step_mm else 1.0
        data[label] = step * np.arange(results.shape[axis], dtype=np.float64)
        data[label].attrs["units"] = "mm" if results.step_mm else "pixel"
    data.attrs["shape"] = results.shape
    return data


def _packing(values: NDArray[Any]) -> dict[str, Any]:
    """Return how to store a map: compressed if small, or if a sample shrinks by half.

    The last digits of most probabilities are noise: compression saves 4 % and takes as long as the prediction.
    """
    sample = np.ascontiguousarray(values.reshape(-1)[:: max(values.size // _SAMPLE, 1)])
    shuffled = sample.view(np.uint8).reshape(-1, values.itemsize).T.tobytes()
    if values.size > _SAMPLE and len(zlib.compress(shuffled, 1)) > 0.5 * len(shuffled):
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
    _json(scan, "facts", {key: value for key, value in scan_summary.items() if key not in arrays})


def _json(parent: Any, name: str, value: Any) -> None:
    parent[name] = json.dumps(value, sort_keys=True, ensure_ascii=False)
    parent[name].attrs["type"] = "application/json"


def _loaded(parent: Any, name: str) -> Any:
    return json.loads(parent[name].asstr()[()])


def _read_pigments(file: Any, cube: Cubes) -> Results:
    if "entry/pigments" not in file:
        return Results()
    process = file["entry/pigments"]
    data = process["results/probability"]
    names = _signals(data)
    attributes = [data[name].attrs for name in names]
    results = Results.of_pigments(
        names,
        cube(data, names, np.float32),
        kinds=[str(each["kind"]) for each in attributes],
        groups=[tuple(json.loads(each["groups"])) for each in attributes],
        labels=[str(each["long_name"]) for each in attributes],
        elements=[tuple(json.loads(each["elements"])) for each in attributes],
        quantities=_read_quantities(process["results"], cube),
        **_record(process),
    )
    if "pool" not in process["results"]:
        return results
    return Results.of_pools(cube(process["results/pool"], ["pixels"], np.float32), step_mm=_step(process)) | results


def _record(process: Any) -> dict[str, Any]:
    notes = tuple(_loaded(process, "notes"))
    return {"step_mm": _step(process), "notes": notes, "settings": _loaded(process, "configuration")}


def _read_quantities(results: Any, cube: Cubes) -> tuple[Sequence[str], Any, Any] | None:
    if "quantities" not in results:
        return None
    names = _signals(results["quantities"])
    value, deviation = (cube(results[each], names, np.float32) for each in ("quantities", "deviations"))

    def sigma(index: int) -> NDArray[np.float32]:
        return np.asarray(deviation[:, :, index] / slope(names[index], value[:, :, index]))

    if cube is _cube:
        return names, value, np.stack([sigma(index) for index in range(len(names))], axis=2)
    return names, value, StoredMaps(value.shape, np.float32, sigma)


def _read_pair(file: Any, cube: Cubes, name: str, pair: tuple[str, str], make: Callable[..., Results]) -> Results:
    """Return two stacks of maps of a process with the same names; nothing if the file lacks the process."""
    if f"entry/{name}" not in file:
        return Results()
    process = file[f"entry/{name}"]
    names = _signals(process[f"results/{pair[0]}"])
    return make(names, *(cube(process[f"results/{each}"], names, np.float32) for each in pair), **_record(process))


def _read_elements(file: Any, cube: Cubes) -> Results:
    return _read_pair(file, cube, "elements", ("parameters", "uncertainties"), Results.of_lines)


def _read_element_quantities(file: Any, cube: Cubes) -> Results:
    if "entry/quantities" not in file:
        return Results()
    process = file["entry/quantities"]
    collection = process["results"]
    kind = next(kind for kind in (MASS_FRACTION, AREAL_MASS) if kind in collection)
    return Results.of_quantities(kind, *_read_estimates(collection, kind, cube), **_record(process))


def _read_amounts(file: Any, cube: Cubes) -> Results:
    if "entry/amounts" not in file:
        return Results()
    process = file["entry/amounts"]
    collection = process["results"]
    reached = cube(collection["reached"], _signals(collection[AMOUNT]), np.float32)
    return Results.of_amounts(*_read_estimates(collection, AMOUNT, cube), reached, **_record(process))


def _read_estimates(collection: Any, kind: str, cube: Cubes) -> tuple[list[str], Any, Any, Any]:
    """Return names without their kind, values, and the ends of their intervals."""
    names = _signals(collection[kind])
    low, high = (cube(collection["intervals"], [f"{name}.{end}" for name in names], np.float32) for end in _ENDS)
    return [name.removeprefix(f"{kind}.") for name in names], cube(collection[kind], names, np.float32), low, high


def _read_states(file: Any, cube: Cubes) -> Results:
    if "entry/detectability" not in file:
        return Results()
    process = file["entry/detectability"]
    data = process["results/state"]
    names = _signals(data)
    labels = [str(data[name].attrs["long_name"]) for name in names]
    stored = cube(data, names, np.uint8)
    if isinstance(stored, StoredMaps):
        states: Any = StoredMaps(stored.shape, np.uint8, lambda index: current_states(stored[:, :, index]))
    else:
        states = current_states(stored)
    return Results.of_states(names, labels, states, **_record(process))


def _read_scatter(file: Any, cube: Cubes) -> Results:
    return _read_pair(file, cube, "scatter", ("counts", "uncertainties"), Results.of_scatter)


def _read_diffraction(file: Any, cube: Cubes) -> Results:
    return _read_pair(file, cube, "diffraction", ("sigmas", "energy_kev"), Results.of_diffraction)


def _read_reflectance(file: Any, cube: Cubes) -> Results:
    if f"entry/{_REFLECTANCE}" not in file:
        return Results()
    process = file["entry"][_REFLECTANCE]
    collection = process["results"]
    members = _signals(collection["surface_member"])
    parts: dict[str, Any] = {
        name: cube(collection[name], _signals(collection[name]), np.float32) for name in _OF_SURFACE
    }
    if "hidden" in collection:
        groups = _signals(collection["hidden"])
        parts["hidden"] = groups, cube(collection["hidden"], groups, np.float32)
    if "spectra" in process:
        parts["reflectance"] = process["spectra/wavelength"][()], _read_spectra(process["spectra"], cube)
    return Results.of_reflectance(members, parts, **_record(process))


def _read_spectra(spectra: Any, cube: Cubes) -> Any:
    stored = spectra["reflectance"]
    shape, folder, place = stored.shape, Path(stored.file.filename).parent, str(stored.name)
    if cube is _cube:
        return _as_reflectance(stored[()])

    def read(index: int) -> NDArray[Any]:
        with open_results_file(folder) as file:
            return _as_reflectance(file[place][:, :, index])

    return StoredMaps(shape, np.float32, read)


def _as_reflectance(stored: NDArray[Any]) -> NDArray[np.float32]:
    values = stored.astype(np.float32) * np.float32(_REFLECTANCE_STEP)
    values[stored == _NO_REFLECTANCE] = np.nan
    return values


def read_reflectance_spectrum(
    folder: str | Path, row: int, column: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return wavelengths, nm, and the reflectance of a pixel of the maps, which results keep.

    Raises
    ------
    ScanError
        The folder has no results, or none of a reflectance cube, or no such pixel.
    """

    def read(file: Any) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        if f"entry/{_REFLECTANCE}/spectra" not in file:
            raise ScanError(
                f"Cannot show a reflectance spectrum of {folder}: the results hold none. `underpaint reflect CUBE "
                f"--xrf {folder}` adds them."
            )
        spectra = file["entry"][_REFLECTANCE]["spectra"]
        n_row, n_column, _ = spectra["reflectance"].shape
        if not (0 <= row < n_row and 0 <= column < n_column):
            raise ScanError(
                f"Cannot show pixel ({row}, {column}): rows are 0 to {n_row - 1}, columns 0 to {n_column - 1}."
            )
        return np.asarray(spectra["wavelength"][()]), _as_reflectance(spectra["reflectance"][row, column])

    return _read(folder, read)


def _read_open_set(file: Any, cube: Cubes) -> Results:
    if "entry/open_set" not in file:
        return Results()
    process = file["entry/open_set"]
    lines = tuple(UnexplainedLine(**line | {"carriers": tuple(line["carriers"])}) for line in _loaded(process, "lines"))
    ordinary = tuple((family, source) for family, source in _loaded(process, "ordinary"))
    results = Results(unexplained=lines, ordinary=ordinary)
    if "results" not in process:
        return results
    score = cube(process["results/unlikeness"], ["score"], np.float32)
    peak_kev = cube(process["results/energy"], ["energy_kev"], np.float32)
    settings = _loaded(process, "configuration")
    return results | Results.of_unlikeness(score, peak_kev, step_mm=_step(process), settings=settings)


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
    """Return rows and columns of maps, after a check that all are equal."""
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


def _lazy_cube(data: Any, names: Sequence[str], dtype: Any) -> StoredMaps:
    """Return a reader of a map on demand; it opens the file for each read."""
    n_row, n_column = _map_shape(data, names)
    folder, place = Path(data.file.filename).parent, str(data.name)

    def read(index: int) -> NDArray[Any]:
        with open_results_file(folder) as file:
            return np.asarray(file[place][names[index]][()])

    return StoredMaps((n_row, n_column, len(names)), dtype, read)


def _step(process: Any) -> tuple[float, float] | None:
    step = json.loads(process.attrs["step_mm"])
    return None if step is None else (float(step[0]), float(step[1]))


def _write_tiffs(place: Path, results: Results) -> None:
    step_mm = results.step_mm
    by_place = len(results.places) > 1
    for key in results.placed:
        if not by_place or results.present_somewhere(*key):
            description = f"probability of {results.label(*key)}; NaN: no answer"
            write_tiff(place / "pigments" / f"{at_place(*key)}.tif", results[key], description, step_mm)
    _write_quantity_tiffs(place / "quantities", results)
    for name in results.lines:
        description = f"net counts of {name.replace('_', ' ')} lines; NaN: no answer"
        write_tiff(place / "elements" / f"{name}.tif", results[name], description, step_mm)
    for name in results.scatter_peaks:
        description = f"counts of {name} scatter; NaN: no answer"
        write_tiff(place / "scatter" / f"{name}.tif", results[name], description, step_mm)
    if "state" in results.stacks:
        meaning = ", ".join(f"{key}: {words}" for key, words in STATES.items())
        for (name,) in results.stacks["state"].keys:
            path = place / "detectability" / f"{name}.tif"
            write_tiff(path, results.map("state", name), f"{results.label(name)}: {meaning}", step_mm)
    write_reflectance_tiffs(place, results)
    if "pool" in results.stacks:
        write_tiff(place / "pool.tif", results.map("pool"), "pixels summed for an answer; NaN: no answer", step_mm)
    if "unlikeness" in results.stacks:
        description = "standard deviations of the strongest unassigned peak; NaN: no answer"
        write_tiff(place / "unlikeness.tif", results.map("unlikeness"), description, step_mm)
    if "paint" in results.stacks:
        write_paint_map(place / PAINT_MAP, results)
        write_depth_maps(place / "depth", results)


def write_reflectance_tiffs(place: Path, results: Results) -> None:
    """Write what reflectance says of the surface, and the groups that are stated to lie below it somewhere."""
    for folder, quantity, title in (
        ("surface", "surface_member", "probability that {} gives the surface its colour"),
        ("hidden", "hidden", "probability that {} is below the surface"),
    ):
        for (name,) in results.stacks[quantity].keys if quantity in results.stacks else ():
            image = results.map(quantity, name)
            if quantity == "surface_member" or (image > BELOW_PROBABILITY).any():
                about = title.format(name.replace("_", " "))
                write_tiff(place / folder / f"{name}.tif", image, f"{about}; NaN: no answer", results.step_mm)


def _write_quantity_tiffs(place: Path, results: Results) -> None:
    """Write quantities with the ends of their intervals; shares only of materials at the surface somewhere."""
    for name in _quantities(results):
        if _is_somewhere(results, name):
            write_estimate_tiffs(place, results, name)


def write_estimate_tiffs(place: Path, results: Results, name: str) -> None:
    """Write a quantity with the ends of its interval."""
    title = f"{results.quantity_label(name)}, {unit_of(name)}"
    ends = ("median", "low", "high")
    for end, image in zip(ends, results.estimate(name), strict=True):
        about = title if end == "median" else f"{title}: {end} end of the {100 * INTERVAL_PROBABILITY:g} % interval"
        file = place / f"{name}{'' if end == 'median' else f'.{end}_90'}.tif"
        write_tiff(file, image, f"{about}; NaN: no answer", results.step_mm)


def _is_somewhere(results: Results, quantity: str) -> bool:
    """Whether a share or an amount is of something that is likely there anywhere; true of all other quantities."""
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
    sized: dict[str, Any] = {}
    if step_mm is not None and min(step_mm) > 0:
        sized = {"resolution": (10.0 / step_mm[1], 10.0 / step_mm[0]), "resolutionunit": "CENTIMETER"}
    values = np.ascontiguousarray(image)
    tifffile.imwrite(path, values, photometric="minisblack", description=description.encode(), metadata=None, **sized)


def write_summary(path: Path, results: Results) -> None:
    """Write a row for each map to a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = summary_rows(results)
        write_csv(stream, [SUMMARY_COLUMNS, *([row.get(name, "") for name in SUMMARY_COLUMNS] for row in rows)])


def summary_rows(results: Results) -> list[dict[str, str]]:
    """One row per map: shares and means over the pixels with an answer."""
    rows = [
        _pigment_row(results, *key) for key in results.placed if key[1] == "anywhere" or results.present_somewhere(*key)
    ]
    for quantity, kind in (("surface_member", "surface"), ("hidden", "hidden")):
        names = [name for (name,) in results.stacks[quantity].keys] if quantity in results.stacks else []
        least = BELOW_PROBABILITY if quantity == "hidden" else PRESENT_PROBABILITY
        rows += [
            _probability_row(results.map(quantity, name), name, kind, name.replace("_", " "), least) for name in names
        ]
    rows += [_quantity_row(results, name) for name in _quantities(results) if _is_somewhere(results, name)]
    rows += [_counts_row(results, name, "element", "area_sigma") for name in results.lines]
    return rows + [_counts_row(results, name, "scatter", "scatter_sigma") for name in results.scatter_peaks]


def _pigment_row(results: Results, name: str, place: Place) -> dict[str, str]:
    kind, label = results.materials[name].kind, results.label(name, place)
    return _probability_row(results[name, place], at_place(name, place), kind, label)


def _probability_row(
    image: NDArray[np.float32], name: str, kind: str, label: str, least: float = PRESENT_PROBABILITY
) -> dict[str, str]:
    finite = image[np.isfinite(image)].astype(np.float64)
    share = "share_above_half" if least == PRESENT_PROBABILITY else "share_below_surface"
    return {
        "name": name,
        "kind": kind,
        "label": label,
        share: _number((finite > least).mean() if finite.size else math.nan),
        "mean_probability": _number(finite.mean() if finite.size else math.nan),
        "max_probability": _number(finite.max() if finite.size else math.nan),
    }


def _quantity_row(results: Results, name: str) -> dict[str, str]:
    """Medians over the pixels where a quantity is determined; of a share, where the group is at the surface."""
    material = material_of(name)
    mask = None if material is None else results[material, "surface"] > PRESENT_PROBABILITY
    summary = summarise_quantity(name, results.estimate(name), mask)
    numbers = {
        "median_value": summary.value,
        "median_low": summary.low,
        "median_high": summary.high,
        "determined_share": summary.determined,
        "upper_limit_share": summary.limited,
        "median_upper_limit": summary.limit,
    }
    return {
        "name": name,
        "kind": _quantity_kind(name),
        "label": f"{results.quantity_label(name)} ({unit_of(name)})",
    } | {key: _number(value) for key, value in numbers.items()}


def _counts_row(results: Results, name: str, kind: str, deviation: str) -> dict[str, str]:
    sigma = results.map(deviation, name)
    finite = sigma[np.isfinite(sigma)]
    return {
        "name": name,
        "kind": kind,
        "label": name.replace("_", " "),
        "total_counts": _number(float(np.nansum(results[name], dtype=np.float64))),
        "median_uncertainty_counts": _number(float(np.median(finite)) if finite.size else math.nan),
    }


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{value:.6g}"
