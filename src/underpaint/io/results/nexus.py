"""Writing and reading of results as NeXus HDF5 in PyMca's layout, with a TIFF per map and a CSV summary."""

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
from underpaint.io.results.contained import DAMAGE_ERRORS, open_results_file
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
"""Keys in a summary that describe the run, not the scan."""
_MAX_NAME_LENGTH = 100
_N_SAMPLED_VALUES = 16384
_CHUNK_BYTES = 256 * 2**10
_REFLECTANCE_GROUP = "reflectance"
_SURFACE_TITLES = {
    "surface_member": "surface: {}",
    "surface_presence": "in the surface paint: {}",
    "surface_share": "share of the surface's colour: {}",
}
_REFLECTANCE_PER_UNIT, _NO_REFLECTANCE = 1e-4, 65535
CubeReader = Callable[[Any, Sequence[str], Any], Any]


def write_results(folder: str | Path, results: Results) -> None:
    """Write results to a folder as ``results.h5``, ``summary.csv`` and one TIFF per map.

    If the model distinguishes places, ``results.h5`` contains all groups and members with the place "anywhere", and all
    groups at each place. A member at a place is written only if its probability exceeds 0.5 in a pixel. A probability
    map becomes a TIFF file only if it exceeds 0.5 in a pixel. Thickness, shares and the elements' quantities become
    TIFF files for the median and for both limits of the 90 % interval.

    Parameters
    ----------
    folder : str or Path
        Folder to write, which is created if needed. For atomic output, use the path from :func:`result_folder`.
    results : Results
        Results whose ``summary`` is that of :func:`summarise_scan` with the item ``settings``. Arrays in the summary
        become datasets, and JSON must be able to store all its other items.

    Raises
    ------
    OutputError
        The name of a map is not a valid file name, or the files cannot be written.
    """
    folder_path = Path(folder)
    states = results.stacks["state"].keys if "state" in results.stacks else ()
    for map_names in (
        [at_place(*name_and_place) for name_and_place in results.named_places],
        results.lines,
        [name for (name,) in states],
    ):
        check_map_names(map_names)
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
        Folder that ``underpaint identify`` or ``underpaint elements`` has written.
    lazily : bool
        Whether each map is read only when its values are needed. If false, all maps are read at once, and the file can
        then be removed.

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
    """Return only :attr:`Results.summary`: the summary of the scan, and the settings.

    Raises
    ------
    ScanError
        The folder has no results, or they are damaged.
    """
    return _read_from_file(folder, _read_summary)


def _read_from_file(folder: str | Path, read_entry: Callable[[Any], Result]) -> Result:
    try:
        with open_results_file(Path(folder)) as file:
            return read_entry(file)
    except ScanError:
        raise
    except DAMAGE_ERRORS as error:
        raise ScanError(
            f"Cannot read {Path(folder) / RESULTS_FILE}: the file is damaged ({error}). Run the analysis again."
        ) from error


def package_versions() -> dict[str, str]:
    """Return the versions of Python and of the packages on which results depend."""
    version_by_package = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            version_by_package[package] = version(package)
        except PackageNotFoundError:
            continue
    return version_by_package


def check_map_names(map_names: Sequence[str]) -> None:
    """Raise an error unless the names of maps are valid file names on every operating system.

    Raises
    ------
    OutputError
        A name is not a valid file name, or two names differ only in capital letters. Windows and macOS treat such names
        as one file.
    """
    names_by_casefold: dict[str, str] = {}
    for name in map_names:
        is_safe = _SAFE_NAME_PATTERN.fullmatch(name) and len(name) <= _MAX_NAME_LENGTH
        if not is_safe or name in _AXIS_NAMES or is_reserved(f"{name}.tif"):
            raise OutputError(
                f"Cannot write a map called {name[: 2 * _MAX_NAME_LENGTH]!r}: names become file names on any system, "
                f"so they are made of up to {_MAX_NAME_LENGTH} letters, digits, "
                f"'_', '-', '+', '.', and are not {', '.join(_AXIS_NAMES)} or reserved by Windows (con, aux)."
            )
        earlier_name = names_by_casefold.setdefault(name.casefold(), name)
        if earlier_name != name:
            raise OutputError(
                f"Cannot write maps called {earlier_name!r} and {name!r}: on Windows and macOS, which ignore capital "
                "letters, they would be one file. Rename one."
            )


def _write_hdf5(path: Path, results: Results) -> None:
    scan_facts = {map_key: fact for map_key, fact in results.summary.items() if map_key not in _RUN_KEYS}
    with new_hdf5(path) as (file, _):
        file.attrs.update({"NX_class": "NXroot", "creator": "underpaint", "default": "entry"})
        entry_group = nexus_group(file, "entry", "NXentry")
        entry_group["title"] = str(scan_facts.get("name", "scan"))
        entry_group["end_time"] = datetime.now(UTC).isoformat(timespec="seconds")
        _write_json(entry_group, "settings", results.settings)
        _write_json(entry_group, "versions", package_versions())
        if results.has_pigments:
            _write_pigments(entry_group, results)
        if results.has_elements:
            results_group = _create_process(entry_group, "elements", results, "parameters")
            _write_quantity_maps(results_group, "parameters", results, "area")
            _write_quantity_maps(results_group, "uncertainties", results, "area_sigma")
        if results.scatter_peaks:
            results_group = _create_process(entry_group, "scatter", results, "counts")
            maps_group = _write_quantity_maps(results_group, "counts", results, "scatter")
            _write_quantity_maps(results_group, "uncertainties", results, "scatter_sigma")
            for map_name in results.scatter_peaks:
                maps_group[map_name].attrs["long_name"] = f"{map_name} scatter"
        for quantity_kind in (MASS_FRACTION, AREAL_MASS):
            _write_element_quantities(entry_group, results, quantity_kind)
        if results.amounts:
            _write_amounts(entry_group, results)
        if "state" in results.stacks:
            maps_group = _write_quantity_maps(
                _create_process(entry_group, "detectability", results, "state"), "state", results, "state"
            )
            maps_group.attrs["meaning"] = json.dumps(STATES)
            for (map_name,) in results.stacks["state"].keys:
                maps_group[map_name].attrs["long_name"] = results.label(map_name)
        if "diffraction" in results.stacks:
            results_group = _create_process(entry_group, "diffraction", results, "sigmas")
            for map_name, quantity, long_name in (
                ("sigmas", "diffraction", "strongest peak in {} alone (standard deviations)"),
                ("energy_kev", "diffraction_kev", "energy of the strongest peak in {} alone"),
            ):
                maps_group = _write_quantity_maps(results_group, map_name, results, quantity)
                detectors = results.settings_of("diffraction").get("detectors", ())
                for (map_key,), detector in zip(results.stacks[quantity].keys, detectors, strict=False):
                    maps_group[map_key].attrs["long_name"] = long_name.format(f"detector {detector}")
        if results.unexplained is not None or "unlikeness" in results.stacks:
            _write_open_set(entry_group, results)
        if results.has_reflectance:
            _write_reflectance(entry_group, results)
        if "paint" in results.stacks:
            write_paints(entry_group, results)
        entry_group.attrs["default"] = (
            "pigments" if results.has_pigments else "elements" if results.has_elements else "scan"
        )
        _write_scan(entry_group, scan_facts)
        write_conditions(entry_group, scan_facts, results.settings.get("calibration") or {})


def _write_pigments(entry_group: Any, results: Results) -> None:
    results_group = _create_process(entry_group, "pigments", results, "probability")
    names_and_places = [
        name_and_place for name_and_place in results.named_places if _is_written(results, *name_and_place)
    ]
    images = (results[name_and_place] for name_and_place in names_and_places)
    maps_group = _write_maps(
        results_group,
        "probability",
        [at_place(*name_and_place) for name_and_place in names_and_places],
        images,
        "1",
        results,
    )
    for name, place in names_and_places:
        material, attributes = results.materials[name], maps_group[at_place(name, place)].attrs
        attributes.update({"long_name": results.label(name, place), "kind": material.kind})
        attributes["groups"] = json.dumps([at_place(group, place) for group in material.groups])
        attributes["elements"] = json.dumps(material.elements)
    if "quantity" in results.stacks:
        _write_quantities(results_group, results)
    if "pool" in results.stacks:
        _write_maps(results_group, "pool", ("pixels",), [results.map("pool")], "pixels", results)


def add_reflectance(source: str | Path, target: str | Path, results: Results) -> None:
    """Write a copy of ``results.h5`` that contains the given results of reflectance in place of any earlier ones.

    Parameters
    ----------
    source : str or Path
        Results folder, which is not modified.
    target : str or Path
        Folder for the copy, which must differ from ``source``.
    results : Results
        Results of reflectance, from :meth:`Results.of_reflectance`.

    Raises
    ------
    ScanError
        The source folder has no results, or they are damaged.
    OutputError
        The copy cannot be written.
    """
    path = Path(target) / RESULTS_FILE

    def copy_entries(old_file: Any) -> None:
        with new_hdf5(path) as (new_file, raise_write_error):
            new_file.attrs.update(old_file.attrs)
            entry_group = new_file.create_group("entry")
            entry_group.attrs.update(old_file["entry"].attrs)
            for name in old_file["entry"]:
                if name != _REFLECTANCE_GROUP:
                    old_file.copy(old_file["entry"][name], entry_group)
                    raise_write_error()
            _write_reflectance(entry_group, results)

    try:
        _read_from_file(source, copy_entries)
    except OSError as error:
        if isinstance(error, OutputError | ScanError):
            raise
        raise OutputError(f"Cannot write {path}: {error}. Check that the disk is not full.") from error


def _write_reflectance(entry_group: Any, results: Results) -> None:
    """Write the maps of members, the maps of groups below the surface, and the reflectance spectrum of each pixel."""
    results_group = _create_process(entry_group, _REFLECTANCE_GROUP, results, "surface_member")
    for name, title in _SURFACE_TITLES.items():
        maps_group = _write_quantity_maps(results_group, name, results, name)
        for (member,) in results.stacks[name].keys:
            maps_group[member].attrs["long_name"] = title.format(results.member_label(member))
    if "hidden" in results.stacks:
        maps_group = _write_quantity_maps(results_group, "hidden", results, "hidden")
        for (group,) in results.stacks["hidden"].keys:
            group_label = results.label(group) if group in results.materials else group.replace("_", " ")
            maps_group[group].attrs.update({"long_name": f"below the surface: {group_label}", "kind": "hidden"})
    if "reflectance" not in results.stacks:
        return
    stack = results.stacks["reflectance"]
    spectra = nexus_group(entry_group[_REFLECTANCE_GROUP], "spectra", "NXdata")
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
        scaled_reflectance = np.asarray(stack.values[rows, :, :], dtype=np.float32) / np.float32(_REFLECTANCE_PER_UNIT)
        dataset[rows] = np.where(
            np.isfinite(scaled_reflectance),
            np.clip(np.round(scaled_reflectance), 0, _NO_REFLECTANCE - 1),
            _NO_REFLECTANCE,
        )


def _is_written(results: Results, name: str, place: Place) -> bool:
    """Return whether a map is written to ``results.h5``.

    A member at a place is written only if its probability exceeds 0.5 in a pixel.
    """
    is_member_at_place = place != "anywhere" and results.materials[name].kind == "member"
    return not is_member_at_place or results.is_present_somewhere(name, place)


def _is_likely(results: Results, name: str, place: Place) -> bool:
    return results.holds(name, place) and results.is_present_somewhere(name, place)


def _quantity_names(results: Results) -> list[str]:
    network_quantities = [name for (name,) in results.stacks["quantity"].keys] if "quantity" in results.stacks else []
    return [*network_quantities, *results.element_quantities, *results.amounts]


def _write_quantities(results_group: Any, results: Results) -> None:
    """Write three kinds of maps of the quantities: medians, first-order standard deviations and 90 % intervals."""
    map_names = [name for (name,) in results.stacks["quantity"].keys]
    maps_group = _write_quantity_maps(results_group, "quantities", results, "quantity")
    deviations = (
        results.map("quantity_sigma", name) * unbounded_derivative(name, results.map("quantity", name))
        for name in map_names
    )
    deviation_group = _write_maps(results_group, "deviations", map_names, deviations, "1", results)
    interval_group = _write_intervals(results_group, map_names, results)
    _label_quantities((maps_group, deviation_group, interval_group), map_names, results)


def _write_element_quantities(entry_group: Any, results: Results, quantity_kind: str) -> None:
    """Write the elements' quantities of one kind, with the limits of their 90 % intervals."""
    map_names = [name for name in results.element_quantities if name.startswith(f"{quantity_kind}.")]
    if map_names:
        _write_estimates(
            _create_process(entry_group, "quantities", results, quantity_kind), quantity_kind, map_names, results
        )


def _write_amounts(entry_group: Any, results: Results) -> None:
    """Write the amounts of the groups' elements.

    The amount at a place is written only if the group's probability at this place exceeds 0.5 in a pixel.
    """
    names_and_places = {name: _amount_key(name) for name in results.amounts}
    map_names = [
        name
        for name, name_and_place in names_and_places.items()
        if name_and_place[1] == "anywhere" or _is_likely(results, *name_and_place)
    ]
    results_group = _create_process(entry_group, "amounts", results, AMOUNT)
    _write_estimates(results_group, AMOUNT, map_names, results)
    reached_maps = (results.map("amount_reached", *_amount_key(name)) for name in map_names)
    _write_maps(results_group, "reached", map_names, reached_maps, "1", results)


def _write_estimates(results_group: Any, quantity_kind: str, map_names: Sequence[str], results: Results) -> None:
    maps_group = _write_maps(
        results_group, quantity_kind, map_names, (results.estimate(name).value for name in map_names), "1", results
    )
    _label_quantities((maps_group, _write_intervals(results_group, map_names, results)), map_names, results)


def _amount_key(quantity: str) -> tuple[str, Place]:
    return split_place(quantity.removeprefix(f"{AMOUNT}."))


_INTERVAL_LIMITS = ("low_90", "high_90")


def _write_intervals(results_group: Any, map_names: Sequence[str], results: Results) -> Any:
    limit_names = [f"{name}.{limit_name}" for name in map_names for limit_name in _INTERVAL_LIMITS]
    images = (image for name in map_names for image in results.estimate(name)[1:])
    return _write_maps(results_group, "intervals", limit_names, images, "1", results)


def _label_quantities(maps_groups: Sequence[Any], map_names: Sequence[str], results: Results) -> None:
    for name in map_names:
        attributes = {"units": unit_of(name), "kind": _quantity_kind(name), "long_name": results.quantity_label(name)}
        for maps_group in maps_groups:
            for dataset_name in (name, *(f"{name}.{limit_name}" for limit_name in _INTERVAL_LIMITS)):
                if dataset_name in maps_group:
                    maps_group[dataset_name].attrs.update(attributes)


def _quantity_kind(quantity: str) -> str:
    kind_and_element = element_of(quantity)
    return "quantity" if kind_and_element is None else kind_and_element[0].replace("_", " ")


def _write_quantity_maps(parent: Any, name: str, results: Results, quantity: str) -> Any:
    """Write the maps of a quantity that has one key dimension. Each map is named after its key."""
    map_stack, (_, units) = results.stacks[quantity], DIMENSIONS[quantity]
    return _write_maps(
        parent,
        name,
        [map_key for (map_key,) in map_stack.keys],
        (map_stack[map_key] for map_key in map_stack.keys),
        units,
        results,
    )


def write_paints(entry_group: Any, results: Results) -> None:
    """Write the map of the paints, their table and their summed spectra into an entry of an HDF5 file."""
    maps_group = _write_maps(
        _create_process(entry_group, "paints", results, "paint"),
        "paint",
        ("paint",),
        [results.map("paint")],
        "1",
        results,
    )
    maps_group["paint"].attrs["long_name"] = "number of the paint (0: mixed, or no paint)"
    write_areas(entry_group["paints"], results.paints)
    if "depth" in results.stacks:
        results_group = _create_process(entry_group, "depth", results, "counts")
        for name, quantity in (("counts", "depth"), ("uncertainties", "depth_sigma")):
            stack = results.stacks[quantity]
            maps_group = _write_maps(
                results_group,
                name,
                _depth_map_names(stack),
                (stack[map_key] for map_key in stack.keys),
                "counts",
                results,
            )
            for line, place in stack.keys:
                long_name = f"{line.replace('_', ' ')}{PLACE_WORDS[cast('Place', place)]}"
                maps_group[f"{line}.{place}"].attrs["long_name"] = long_name


def _depth_map_names(stack: Stack) -> list[str]:
    return [f"{family}.{place}" for family, place in stack.keys]


def write_paint_map(path: Path, results: Results) -> None:
    """Write the map of the paints as a TIFF file."""
    write_tiff(
        path, results.map("paint"), "number of the paint; 0: mixed, or no paint, 255: no answer", results.step_mm
    )


def _read_paints(file: Any, read_cube: CubeReader) -> Results:
    if "entry/paints" not in file:
        return Results()
    process = file["entry/paints"]
    paint_labels = read_cube(process["results/paint"], ("paint",), np.uint8)
    return Results.of_paints(paint_labels[:, :, 0], read_areas(process), **_process_metadata(process))


def _read_depth(file: Any, read_cube: CubeReader) -> Results:
    def make_results(map_names: Sequence[str], counts: Any, sigma: Any, **facts: Any) -> Results:
        return Results.of_depths([split_place(name) for name in map_names], counts, sigma, **facts)

    return _read_map_pair(file, read_cube, "depth", ("counts", "uncertainties"), make_results)


def write_depth_maps(folder: Path, results: Results) -> None:
    """Write the maps of lines by depth as TIFF files."""
    for family, place in results.stacks["depth"].keys if "depth" in results.stacks else ():
        description = (
            f"net counts of {family.replace('_', ' ')} lines{PLACE_WORDS[cast('Place', place)]}; NaN: not known"
        )
        write_tiff(folder / f"{family}.{place}.tif", results.map("depth", family, place), description, results.step_mm)


def _write_open_set(entry_group: Any, results: Results) -> None:
    process = nexus_group(entry_group, "open_set", "NXprocess")
    process["program"], process["version"] = "underpaint", package_versions().get("underpaint", "")
    _write_json(process, "lines", [line._asdict() for line in results.unexplained or ()])
    _write_json(process, "ordinary", results.ordinary)
    if "unlikeness" not in results.stacks:
        return
    process.attrs["default"] = "results/unlikeness"
    process.attrs["step_mm"] = json.dumps(results.step_mm)
    _write_json(process, "configuration", results.settings_of("open_set"))
    results_group = nexus_group(process, "results", "NXcollection")
    _write_maps(results_group, "unlikeness", ("score",), [results.map("unlikeness")], "1", results)
    _write_maps(results_group, "energy", ("energy_kev",), [results.map("peak_kev")], "keV", results)


def _create_process(entry_group: Any, name: str, results: Results, default: str) -> Any:
    """Create an NXprocess with its configuration, and return the NXcollection ``results`` in it."""
    process = nexus_group(entry_group, name, "NXprocess")
    process["program"], process["version"] = "underpaint", package_versions().get("underpaint", "")
    process.attrs["default"] = f"results/{default}"
    _write_json(process, "configuration", results.settings_of(name))
    _write_json(process, "notes", list(results.process_notes.get(name, ())))
    process.attrs["step_mm"] = json.dumps(results.step_mm)
    return nexus_group(process, "results", "NXcollection")


def _write_maps(
    parent: Any, name: str, map_names: Sequence[str], map_images: Iterable[NDArray[Any]], units: str, results: Results
) -> Any:
    maps_group = nexus_group(parent, name, "NXdata")
    maps_group.attrs["axes"] = ["row", "column"]
    if map_names:
        maps_group.attrs["signal"] = map_names[0]
        maps_group.attrs["auxiliary_signals"] = np.array(map_names[1:], dtype=h5py.string_dtype())
    for map_name, map_image in zip(map_names, map_images, strict=True):
        map_values = np.ascontiguousarray(map_image)
        dataset = maps_group.create_dataset(map_name, data=map_values, **_compression_options(map_values))
        dataset.attrs.update({"units": units, "interpretation": "image"})
    for axis, axis_name in enumerate(_AXIS_NAMES):
        pixel_step = results.step_mm[axis] if results.step_mm else 1.0
        maps_group[axis_name] = pixel_step * np.arange(results.shape[axis], dtype=np.float64)
        maps_group[axis_name].attrs["units"] = "mm" if results.step_mm else "pixel"
    maps_group.attrs["shape"] = results.shape
    return maps_group


def _compression_options(map_values: NDArray[Any]) -> dict[str, Any]:
    """Return the storage options of a map, which is compressed if it is small or a sample shrinks to half its size.

    The last digits of most probabilities are noise. Compression would save 4 %, and take as long as the prediction.
    """
    sample_values = np.ascontiguousarray(map_values.reshape(-1)[:: max(map_values.size // _N_SAMPLED_VALUES, 1)])
    shuffled_bytes = sample_values.view(np.uint8).reshape(-1, map_values.itemsize).T.tobytes()
    if map_values.size > _N_SAMPLED_VALUES and len(zlib.compress(shuffled_bytes, 1)) > 0.5 * len(shuffled_bytes):
        return {"chunks": (max(_CHUNK_BYTES // (map_values.shape[1] * map_values.itemsize), 1), map_values.shape[1])}
    return {"compression": "gzip", "compression_opts": 1, "shuffle": True}


def _write_scan(entry_group: Any, scan_summary: Mapping[str, Any]) -> None:
    scan_group = nexus_group(entry_group, "scan", "NXdata")
    summary_arrays = {fact_name: fact for fact_name, fact in scan_summary.items() if isinstance(fact, np.ndarray)}
    for fact_name, fact in summary_arrays.items():
        scan_group[fact_name] = fact
        scan_group[fact_name].attrs["units"] = (
            "keV" if fact_name.endswith("_kev") else "s" if fact_name.endswith("_s") else "counts"
        )
    if "sum_counts" in summary_arrays:
        scan_group.attrs["signal"] = "sum_counts"
        scan_group.attrs["auxiliary_signals"] = [
            fact_name for fact_name in ("max_counts",) if fact_name in summary_arrays
        ]
    if "energy_kev" in summary_arrays:
        scan_group.attrs["axes"] = ["energy_kev"]
    _write_json(
        scan_group,
        "facts",
        {fact_name: fact for fact_name, fact in scan_summary.items() if fact_name not in summary_arrays},
    )


def _write_json(parent: Any, name: str, json_value: Any) -> None:
    parent[name] = json.dumps(json_value, sort_keys=True, ensure_ascii=False)
    parent[name].attrs["type"] = "application/json"


def _read_json(parent: Any, name: str) -> Any:
    return json.loads(parent[name].asstr()[()])


def _read_pigments(file: Any, read_cube: CubeReader) -> Results:
    if "entry/pigments" not in file:
        return Results()
    process = file["entry/pigments"]
    maps_group = process["results/probability"]
    map_names = _signal_names(maps_group)
    attributes = [maps_group[name].attrs for name in map_names]
    results = Results.of_pigments(
        map_names,
        read_cube(maps_group, map_names, np.float32),
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
    map_names = _signal_names(results["quantities"])
    quantity_maps, deviation_maps = (
        read_cube(results[group_name], map_names, np.float32) for group_name in ("quantities", "deviations")
    )

    def sigma(index: int) -> NDArray[np.float32]:
        return np.asarray(
            deviation_maps[:, :, index] / unbounded_derivative(map_names[index], quantity_maps[:, :, index])
        )

    if read_cube is _read_cube:
        return map_names, quantity_maps, np.stack([sigma(index) for index in range(len(map_names))], axis=2)
    return map_names, quantity_maps, StoredMaps(quantity_maps.shape, np.float32, sigma)


def _read_map_pair(
    file: Any, read_cube: CubeReader, name: str, group_names: tuple[str, str], make_results: Callable[..., Results]
) -> Results:
    """Return the results of a process that has two stacks of maps with the same names.

    If the file does not contain the process, the results are empty.
    """
    if f"entry/{name}" not in file:
        return Results()
    process_group = file[f"entry/{name}"]
    map_names = _signal_names(process_group[f"results/{group_names[0]}"])
    return make_results(
        map_names,
        *(read_cube(process_group[f"results/{group_name}"], map_names, np.float32) for group_name in group_names),
        **_process_metadata(process_group),
    )


def _read_elements(file: Any, read_cube: CubeReader) -> Results:
    return _read_map_pair(file, read_cube, "elements", ("parameters", "uncertainties"), Results.of_lines)


def _read_element_quantities(file: Any, read_cube: CubeReader) -> Results:
    if "entry/quantities" not in file:
        return Results()
    process = file["entry/quantities"]
    results_group = process["results"]
    quantity_kind = next(
        quantity_kind for quantity_kind in (MASS_FRACTION, AREAL_MASS) if quantity_kind in results_group
    )
    return Results.of_quantities(
        quantity_kind, *_read_estimates(results_group, quantity_kind, read_cube), **_process_metadata(process)
    )


def _read_amounts(file: Any, read_cube: CubeReader) -> Results:
    if "entry/amounts" not in file:
        return Results()
    process = file["entry/amounts"]
    results_group = process["results"]
    reached_fractions = read_cube(results_group["reached"], _signal_names(results_group[AMOUNT]), np.float32)
    return Results.of_amounts(
        *_read_estimates(results_group, AMOUNT, read_cube), reached_fractions, **_process_metadata(process)
    )


def _read_estimates(results_group: Any, quantity_kind: str, read_cube: CubeReader) -> tuple[list[str], Any, Any, Any]:
    """Return the names (without the kind), the values, and the lower and upper limits of their intervals."""
    map_names = _signal_names(results_group[quantity_kind])
    lower_limits, upper_limits = (
        read_cube(results_group["intervals"], [f"{name}.{limit_name}" for name in map_names], np.float32)
        for limit_name in _INTERVAL_LIMITS
    )
    return (
        [name.removeprefix(f"{quantity_kind}.") for name in map_names],
        read_cube(results_group[quantity_kind], map_names, np.float32),
        lower_limits,
        upper_limits,
    )


def _read_states(file: Any, read_cube: CubeReader) -> Results:
    if "entry/detectability" not in file:
        return Results()
    process = file["entry/detectability"]
    maps_group = process["results/state"]
    map_names = _signal_names(maps_group)
    state_labels = [str(maps_group[name].attrs["long_name"]) for name in map_names]
    stored_states = read_cube(maps_group, map_names, np.uint8)
    if isinstance(stored_states, StoredMaps):
        states: Any = StoredMaps(
            stored_states.shape, np.uint8, lambda index: current_states(stored_states[:, :, index])
        )
    else:
        states = current_states(stored_states)
    return Results.of_states(map_names, state_labels, states, **_process_metadata(process))


def _read_scatter(file: Any, read_cube: CubeReader) -> Results:
    return _read_map_pair(file, read_cube, "scatter", ("counts", "uncertainties"), Results.of_scatter)


def _read_diffraction(file: Any, read_cube: CubeReader) -> Results:
    return _read_map_pair(file, read_cube, "diffraction", ("sigmas", "energy_kev"), Results.of_diffraction)


def _read_reflectance(file: Any, read_cube: CubeReader) -> Results:
    if f"entry/{_REFLECTANCE_GROUP}" not in file:
        return Results()
    process = file["entry"][_REFLECTANCE_GROUP]
    results_group = process["results"]
    members = _signal_names(results_group["surface_member"])
    arrays: dict[str, Any] = {
        name: read_cube(results_group[name], _signal_names(results_group[name]), np.float32) for name in _SURFACE_TITLES
    }
    if "hidden" in results_group:
        groups = _signal_names(results_group["hidden"])
        arrays["hidden"] = groups, read_cube(results_group["hidden"], groups, np.float32)
    if "spectra" in process:
        arrays["reflectance"] = process["spectra/wavelength"][()], _read_spectra(process["spectra"], read_cube)
    return Results.of_reflectance(members, arrays, **_process_metadata(process))


def _read_spectra(spectra_group: Any, read_cube: CubeReader) -> Any:
    dataset = spectra_group["reflectance"]
    shape, folder, path = dataset.shape, Path(dataset.file.filename).parent, str(dataset.name)
    if read_cube is _read_cube:
        return _as_reflectance(dataset[()])

    def read_map(index: int) -> NDArray[Any]:
        with open_results_file(folder) as file:
            return _as_reflectance(file[path][:, :, index])

    return StoredMaps(shape, np.float32, read_map)


def _as_reflectance(stored_values: NDArray[Any]) -> NDArray[np.float32]:
    reflectance = stored_values.astype(np.float32) * np.float32(_REFLECTANCE_PER_UNIT)
    reflectance[stored_values == _NO_REFLECTANCE] = np.nan
    return reflectance


def read_reflectance_spectrum(
    folder: str | Path, row: int, column: int
) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return the wavelengths in nm and the reflectance spectrum of a pixel.

    Raises
    ------
    ScanError
        The folder has no results, they contain no reflectance, or the pixel is outside the maps.
    """

    def read_pixel(file: Any) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
        if f"entry/{_REFLECTANCE_GROUP}/spectra" not in file:
            raise ScanError(
                f"Cannot show a reflectance spectrum of {folder}: the results have none. `underpaint reflect CUBE "
                f"--xrf {folder}` adds them."
            )
        spectra = file["entry"][_REFLECTANCE_GROUP]["spectra"]
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
    unexplained_lines = tuple(
        UnexplainedLine(**line_record | {"carriers": tuple(line_record["carriers"])})
        for line_record in _read_json(process, "lines")
    )
    ordinary = tuple((family, source) for family, source in _read_json(process, "ordinary"))
    results = Results(unexplained=unexplained_lines, ordinary=ordinary)
    if "results" not in process:
        return results
    unlikeness = read_cube(process["results/unlikeness"], ["score"], np.float32)
    peak_kev = read_cube(process["results/energy"], ["energy_kev"], np.float32)
    settings = _read_json(process, "configuration")
    return results | Results.of_unlikeness(unlikeness, peak_kev, step_mm=_step_mm(process), settings=settings)


def _read_summary(file: Any) -> dict[str, Any]:
    entry_group = file["entry"]
    summary_arrays = {
        fact_name: np.asarray(dataset[()]) for fact_name, dataset in entry_group["scan"].items() if fact_name != "facts"
    }
    return {
        **_read_json(entry_group["scan"], "facts"),
        **summary_arrays,
        "settings": _read_json(entry_group, "settings"),
        "versions": _read_json(entry_group, "versions"),
        "written": entry_group["end_time"].asstr()[()],
    }


def _signal_names(maps_group: Any) -> tuple[str, ...]:
    if "signal" not in maps_group.attrs:
        return ()
    return (str(maps_group.attrs["signal"]), *(str(name) for name in maps_group.attrs["auxiliary_signals"]))


def _map_shape(maps_group: Any, map_names: Sequence[str]) -> tuple[int, int]:
    """Return the numbers of rows and columns of maps, or raise ValueError if the maps differ in shape."""
    n_row, n_column = (int(pixel_count) for pixel_count in maps_group.attrs["shape"])
    first_shape = next(
        (maps_group.file[path].attrs["shape"] for path in MAP_STACKS if path in maps_group.file),
        maps_group.attrs["shape"],
    )
    map_shapes = {(n_row, n_column), tuple(map(int, first_shape)), *(maps_group[name].shape for name in map_names)}
    if len(map_shapes) > 1:
        raise ValueError(f"maps of {len(map_shapes)} sizes in {maps_group.name}")
    return n_row, n_column


def _read_cube(maps_group: Any, map_names: Sequence[str], dtype: Any) -> NDArray[Any]:
    shape = _map_shape(maps_group, map_names)
    map_cube = np.empty((*shape, len(map_names)), dtype=dtype)
    for index, name in enumerate(map_names):
        map_cube[:, :, index] = maps_group[name][()]
    return map_cube


def _lazily_read_cube(maps_group: Any, map_names: Sequence[str], dtype: Any) -> StoredMaps:
    """Return maps that are read only when needed. The file is opened again for each read."""
    n_row, n_column = _map_shape(maps_group, map_names)
    folder, path = Path(maps_group.file.filename).parent, str(maps_group.name)

    def read_map(index: int) -> NDArray[Any]:
        with open_results_file(folder) as file:
            return np.asarray(file[path][map_names[index]][()])

    return StoredMaps((n_row, n_column, len(map_names)), dtype, read_map)


def _step_mm(process: Any) -> tuple[float, float] | None:
    stored_step = json.loads(process.attrs["step_mm"])
    return None if stored_step is None else (float(stored_step[0]), float(stored_step[1]))


def _write_tiffs(folder: Path, results: Results) -> None:
    step_mm = results.step_mm
    has_places = len(results.places) > 1
    for map_key in results.named_places:
        if not has_places or results.is_present_somewhere(*map_key):
            description = f"probability of {results.label(*map_key)}; NaN: no answer"
            write_tiff(folder / "pigments" / f"{at_place(*map_key)}.tif", results[map_key], description, step_mm)
    _write_quantity_tiffs(folder / "quantities", results)
    for name in results.lines:
        description = f"net counts of {name.replace('_', ' ')} lines; NaN: no answer"
        write_tiff(folder / "elements" / f"{name}.tif", results[name], description, step_mm)
    for name in results.scatter_peaks:
        description = f"counts of {name} scatter; NaN: no answer"
        write_tiff(folder / "scatter" / f"{name}.tif", results[name], description, step_mm)
    if "state" in results.stacks:
        state_meanings = ", ".join(f"{map_key}: {state_meaning}" for map_key, state_meaning in STATES.items())
        for (name,) in results.stacks["state"].keys:
            path = folder / "detectability" / f"{name}.tif"
            write_tiff(path, results.map("state", name), f"{results.label(name)}: {state_meanings}", step_mm)
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
    """Write TIFF files of the members at the surface, and of groups that are below the surface in a pixel."""
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
    """Write TIFF files of the quantities and of the limits of their 90 % intervals.

    The share of a material is written only if its probability at the surface exceeds 0.5 in a pixel.
    """
    for name in _quantity_names(results):
        if _is_present_somewhere(results, name):
            write_estimate_tiffs(folder, results, name)


def write_estimate_tiffs(folder: Path, results: Results, name: str) -> None:
    """Write TIFF files of a quantity and of the limits of its 90 % interval."""
    title = f"{results.quantity_label(name)}, {unit_of(name)}"
    value_names = ("median", "low", "high")
    for value_name, image in zip(value_names, results.estimate(name), strict=True):
        interval_text = f"{100 * INTERVAL_PROBABILITY:g} % interval"
        description = title if value_name == "median" else f"{title}: {value_name} end of the {interval_text}"
        path = folder / f"{name}{'' if value_name == 'median' else f'.{value_name}_90'}.tif"
        write_tiff(path, image, f"{description}; NaN: no answer", results.step_mm)


def _is_present_somewhere(results: Results, quantity: str) -> bool:
    """Return whether the material of a share or amount is present in a pixel. For other quantities, return true."""
    material = material_of(quantity)
    if quantity in results.amounts:
        name_and_place = _amount_key(quantity)
        return name_and_place[1] == "anywhere" and _is_likely(results, *name_and_place)
    return material is None or _is_likely(results, material, "surface")


def write_tiff(
    path: Path,
    image: NDArray[np.float32] | NDArray[np.uint8],
    description: str,
    step_mm: tuple[float, float] | None = None,
) -> None:
    """Write a (row, column) map as a TIFF file with unscaled values, and with the pixel size if it is known."""
    import tifffile

    path.parent.mkdir(parents=True, exist_ok=True)
    resolution_tags: dict[str, Any] = {}
    if step_mm is not None and min(step_mm) > 0:
        resolution_tags = {"resolution": (10.0 / step_mm[1], 10.0 / step_mm[0]), "resolutionunit": "CENTIMETER"}
    map_values = np.ascontiguousarray(image)
    tifffile.imwrite(
        path, map_values, photometric="minisblack", description=description.encode(), metadata=None, **resolution_tags
    )


def write_summary(path: Path, results: Results) -> None:
    """Write a summary of the maps to a CSV file, one row per map."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        rows = summary_rows(results)
        write_csv(stream, [SUMMARY_COLUMNS, *([row.get(name, "") for name in SUMMARY_COLUMNS] for row in rows)])


def summary_rows(results: Results) -> list[dict[str, str]]:
    """Return one row per map. Means and fractions are over the pixels that have an answer."""
    rows = [
        _pigment_row(results, *name_and_place)
        for name_and_place in results.named_places
        if name_and_place[1] == "anywhere" or results.is_present_somewhere(*name_and_place)
    ]
    for quantity, row_kind in (("surface_member", "surface"), ("hidden", "hidden")):
        map_names = [name for (name,) in results.stacks[quantity].keys] if quantity in results.stacks else []
        present_threshold = BELOW_PROBABILITY if quantity == "hidden" else PRESENT_PROBABILITY
        rows += [
            _probability_row(results.map(quantity, name), name, row_kind, name.replace("_", " "), present_threshold)
            for name in map_names
        ]
    rows += [_quantity_row(results, name) for name in _quantity_names(results) if _is_present_somewhere(results, name)]
    rows += [_counts_row(results, name, "element", "area_sigma") for name in results.lines]
    return rows + [_counts_row(results, name, "scatter", "scatter_sigma") for name in results.scatter_peaks]


def _pigment_row(results: Results, name: str, place: Place) -> dict[str, str]:
    row_kind, row_label = results.materials[name].kind, results.label(name, place)
    return _probability_row(results[name, place], at_place(name, place), row_kind, row_label)


def _probability_row(
    image: NDArray[np.float32], name: str, row_kind: str, row_label: str, present_threshold: float = PRESENT_PROBABILITY
) -> dict[str, str]:
    finite_values = image[np.isfinite(image)].astype(np.float64)
    share_column = "share_above_half" if present_threshold == PRESENT_PROBABILITY else "share_below_surface"
    return {
        "name": name,
        "kind": row_kind,
        "label": row_label,
        share_column: _number_text((finite_values > present_threshold).mean() if finite_values.size else math.nan),
        "mean_probability": _number_text(finite_values.mean() if finite_values.size else math.nan),
        "max_probability": _number_text(finite_values.max() if finite_values.size else math.nan),
    }


def _quantity_row(results: Results, name: str) -> dict[str, str]:
    """Return the summary row of a quantity, with medians over the pixels where the quantity is determined.

    For shares, the medians are over the pixels where the group is at the surface.
    """
    material = material_of(name)
    is_at_surface = None if material is None else results[material, "surface"] > PRESENT_PROBABILITY
    summary = summarise_quantity(name, results.estimate(name), is_at_surface)
    summary_values = {
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
    } | {column_name: _number_text(summary_value) for column_name, summary_value in summary_values.items()}


def _counts_row(results: Results, name: str, row_kind: str, deviation_name: str) -> dict[str, str]:
    sigma = results.map(deviation_name, name)
    finite_values = sigma[np.isfinite(sigma)]
    return {
        "name": name,
        "kind": row_kind,
        "label": name.replace("_", " "),
        "total_counts": _number_text(float(np.nansum(results[name], dtype=np.float64))),
        "median_uncertainty_counts": _number_text(float(np.median(finite_values)) if finite_values.size else math.nan),
    }


def _number_text(numeric_value: float) -> str:
    return "" if math.isnan(numeric_value) else f"{numeric_value:.6g}"
