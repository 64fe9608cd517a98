"""Training libraries, which are expected spectra and their labels in memory."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import SURFACE_UM, amount_class, at_place, share_of, to_unbounded
from underpaint.errors import TrainingError
from underpaint.pigments.weights import ModelAxis
from underpaint.simulate.labels import group_names, labels_by_lines

_REQUIRED_DATASETS = ("recorded", "labels", "source")
_BLOCK_ROWS = 8192
UNKNOWN = 255
"""Label of names whose presence is unknown. Losses and scores ignore unknown labels."""


@dataclass(frozen=True)
class Library:
    """Labelled spectra on the axis of a network.

    Parameters
    ----------
    spectra : (n, n_bin) float16 or float32 array
        Expected spectra with a sum of 1, or counts if ``has_noise``.
    recorded : (n, 2) float32 array
        Lowest and highest recorded energy, in keV.
    labels : (n, n_name) uint8 array
        1 for present pigments and groups, 0 for absent ones, :data:`UNKNOWN` for unknown ones.
    counts_needed : (n, n_name) float32 array
        Total counts above which a present label is visible, or infinity if it never is.
    source : (n,) int array
        Index of the stratigraphy of each spectrum, for splits by stratigraphy.
    total_counts : (n,) float32 array, or None
        Typical total counts of each spectrum, or None if the library does not contain them.
    axis : ModelAxis
        Energy axis.
    names, kinds, groups, labels_for_people, elements : tuple
        Fields of the model card.
    has_noise : bool
        Whether ``spectra`` are counts with Poisson noise.
    origin : tuple of str
        Names of the library files.
    instrument : (n, n_input) float32 array, or None
        Instrument conditions (:mod:`underpaint.simulate.instrument_inputs`). Unknown conditions are NaN.
    quantities : (n, n_quantity) float32 array, or None
        Thickness and mass fractions of the uppermost paint, on the scales of :mod:`underpaint.data.maps`. Undefined
        values are NaN.
    instrument_inputs, quantity_names : tuple of str
        Names of the columns of ``instrument`` and ``quantities``.
    amount : (n, n_amount) uint8 or (n, n_amount, n_edge) float32 array, or None
        Class of each element's mass fraction in the dry paint (:func:`underpaint.data.maps.amount_class`), if the array
        has two dimensions.
        Probabilities that the mass fraction reaches each class edge, if the array has three dimensions.
    amount_names : tuple of str
        Group and place of each column of ``amount``.
    max_absent_counts : (n, n_name) float32 array, or None
        Total counts below which a present label counts as absent, or zero if such a label is masked instead.
    """

    spectra: NDArray[Any]
    recorded: NDArray[np.float32]
    labels: NDArray[np.uint8]
    counts_needed: NDArray[np.float32]
    source: NDArray[np.int64]
    total_counts: NDArray[np.float32] | None
    axis: ModelAxis
    names: tuple[str, ...]
    kinds: tuple[str, ...]
    groups: tuple[tuple[str, ...], ...]
    labels_for_people: tuple[str, ...]
    elements: tuple[tuple[str, ...], ...]
    has_noise: bool = False
    origin: tuple[str, ...] = ()
    instrument: NDArray[np.float32] | None = None
    quantities: NDArray[np.float32] | None = None
    instrument_inputs: tuple[str, ...] = ()
    quantity_names: tuple[str, ...] = ()
    amount: NDArray[np.uint8] | NDArray[np.float32] | None = None
    amount_names: tuple[str, ...] = ()
    max_absent_counts: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of spectra."""
        return int(self.spectra.shape[0])

    def select_rows(self, rows: NDArray[Any]) -> "Library":
        """Return the library, restricted to the spectra in the given rows: (n,) indices or an (n_spectrum,) mask."""
        array_names = (
            "spectra",
            "recorded",
            "labels",
            "counts_needed",
            "source",
            "total_counts",
            "instrument",
            "quantities",
            "amount",
            "max_absent_counts",
        )
        array_by_name = {array_name: getattr(self, array_name) for array_name in array_names}
        selected_arrays: dict[str, Any] = {
            array_name: None if array is None else array[rows] for array_name, array in array_by_name.items()
        }
        return replace(self, **selected_arrays)

    def select_output_names(self, names: Sequence[str]) -> "Library":
        """Return a library with labels for only the given names, in this order, and without quantities and amounts."""
        name_columns = [self.names.index(name) for name in names]
        field_names = ("names", "kinds", "groups", "labels_for_people", "elements")
        name_metadata: dict[str, Any] = {
            field_name: tuple(getattr(self, field_name)[name_column] for name_column in name_columns)
            for field_name in field_names
        }
        name_metadata |= {"quantities": None, "quantity_names": (), "amount": None, "amount_names": ()}
        name_metadata |= {
            "max_absent_counts": None if self.max_absent_counts is None else self.max_absent_counts[:, name_columns]
        }
        return replace(
            self,
            labels=self.labels[:, name_columns],
            counts_needed=self.counts_needed[:, name_columns],
            **name_metadata,
        )

    def with_names(self, names: Sequence[str]) -> "Library":
        """Return a library with labels for all given names, in this order.

        If a name is not in this library, its labels are unknown, and its kind, groups, label and elements are empty.

        Raises
        ------
        TrainingError
            The library has a name that is not in ``names``.
        """
        unknown_names = [name for name in self.names if name not in names]
        if unknown_names:
            raise TrainingError(
                f"Cannot use the labels {', '.join(unknown_names)}: they are no outputs of the model. "
                f"Rename or remove them. Outputs of the model are {', '.join(names)}."
            )
        labels = np.full((len(self), len(names)), UNKNOWN, dtype=np.uint8)
        counts_needed = np.full((len(self), len(names)), np.inf, dtype=np.float32)
        name_columns = [list(names).index(name) for name in self.names]
        labels[:, name_columns], counts_needed[:, name_columns] = self.labels, self.counts_needed
        max_absent_counts = None if self.max_absent_counts is None else np.zeros_like(counts_needed)
        if max_absent_counts is not None:
            max_absent_counts[:, name_columns] = self.max_absent_counts
        amount, amount_names = self.amount, group_names(names) if self.amount_names else ()
        if amount is not None and amount_names != self.amount_names:
            amount = np.full((len(self), len(amount_names)), UNKNOWN, dtype=np.uint8)
            amount[:, [amount_names.index(name) for name in self.amount_names]] = np.asarray(self.amount, np.uint8)
        column_by_name = {name: name_column for name_column, name in enumerate(self.names)}
        metadata: dict[str, Any] = {
            field_name: tuple(
                getattr(self, field_name)[column_by_name[name]] if name in column_by_name else empty_value
                for name in names
            )
            for field_name, empty_value in (("kinds", ""), ("groups", ()), ("labels_for_people", ""), ("elements", ()))
        }
        metadata |= {"max_absent_counts": max_absent_counts, "amount": amount, "amount_names": amount_names}
        return replace(self, labels=labels, counts_needed=counts_needed, names=tuple(names), **metadata)


def load_library(paths: Path | Sequence[Path], *, half_precision: bool = False, lines: bool = False) -> Library:
    """Read one or more library files into memory.

    Parameters
    ----------
    paths : Path or sequence of Path
        HDF5 files with the datasets ``/expected`` (or ``/counts``), ``/recorded``, ``/labels`` and ``/source``.
        The datasets ``/counts_needed`` and ``/counts_scale`` are optional. The attributes are ``names``, ``kinds``,
        ``groups``, ``labels_for_people``, ``elements``, ``start_kev``, ``bin_kev`` and ``n_bin``.
    half_precision : bool
        Whether to store expected spectra in half precision, which rounds them to 0.05 %.
        The spectra are scaled to a sum of ``n_bin``, so that bins with few counts do not underflow.
    lines : bool
        Whether a group is present if lines of its element, from any material, are visible. If True, amounts are also
        read.

    Raises
    ------
    TrainingError
        A file is missing, lacks a dataset, has inconsistent shapes, or differs from the first file in axis or names.
    """
    library_paths = [paths] if isinstance(paths, str | Path) else list(paths)
    libraries = [_read_library(Path(path), half_precision=half_precision, lines=lines) for path in library_paths]
    return libraries[0] if len(libraries) == 1 else _join_libraries(libraries)


def _read_library(path: Path, *, half_precision: bool, lines: bool) -> Library:
    try:
        with h5py.File(path, "r") as library_file:
            library = _library_of_file(library_file, path, half_precision=half_precision)
            return _require_shapes(_with_line_labels(library, library_file, path) if lines else library, path)
    except OSError as error:
        raise TrainingError(
            f"Cannot read the training library {path}: {error}. Write a library with `underpaint simulate`."
        ) from error


def _library_of_file(library_file: Any, path: Path, *, half_precision: bool) -> Library:
    has_noise = "expected" not in library_file
    _require_contents(library_file, path, (*_REQUIRED_DATASETS, "counts" if has_noise else "expected"))
    labels = library_file["labels"][()].astype(np.uint8)
    counts_needed = (
        library_file["counts_needed"][()] if "counts_needed" in library_file else np.where(labels, 0.0, np.inf)
    )
    names = _text_tuple(library_file.attrs["names"])
    return Library(
        spectra=_half_precision_spectra(library_file["expected"])
        if half_precision and not has_noise
        else library_file["counts" if has_noise else "expected"][()],
        recorded=library_file["recorded"][()].astype(np.float32),
        labels=labels,
        counts_needed=counts_needed.astype(np.float32),
        source=library_file["source"][()].astype(np.int64),
        total_counts=_total_counts(library_file, len(labels)),
        axis=_network_axis(library_file.attrs),
        names=names,
        kinds=_text_tuple(library_file.attrs["kinds"]),
        groups=tuple(tuple(names_of_output) for names_of_output in json.loads(library_file.attrs["groups"])),
        labels_for_people=_text_tuple(library_file.attrs["labels_for_people"]),
        elements=tuple(tuple(names_of_output) for names_of_output in json.loads(library_file.attrs["elements"])),
        has_noise=has_noise,
        origin=(path.name,),
        **_layer_fields(library_file, names, labels),
    )


def _with_line_labels(library: Library, library_file: Any, path: Path) -> Library:
    """Return a library with amounts, in which groups are present if lines of their elements are visible."""
    _require_contents(library_file, path, ("lines_needed", "lines_hidden", "amount"))
    line_limits = library_file["lines_needed"][()], library_file["lines_hidden"][()]
    labels, counts_needed, max_absent_counts = labels_by_lines(
        library.names, library.labels, library.counts_needed, *line_limits
    )
    amount, names = amount_class(library_file["amount"][()]), group_names(library.names)
    return replace(
        library,
        labels=labels,
        counts_needed=counts_needed,
        max_absent_counts=max_absent_counts,
        amount=amount,
        amount_names=names,
    )


def _layer_fields(library_file: Any, names: tuple[str, ...], labels: NDArray[np.uint8]) -> dict[str, Any]:
    """Return the fields for networks of layers, or an empty dict for a library that was simulated without places."""
    materials = _text_tuple(library_file.attrs.get("materials", "[]"))
    surface_names = [at_place(material, "surface") for material in materials]
    if not surface_names or not set(surface_names) <= set(names):
        return {}
    is_at_surface = labels[:, [names.index(name) for name in surface_names]] == 1
    mass_fractions = np.where(is_at_surface, to_unbounded(share_of(""), library_file["surface_share"][()]), np.nan)
    surface_thickness = to_unbounded(SURFACE_UM, library_file["surface_um"][()])
    return {
        "instrument": library_file["instrument"][()].astype(np.float32),
        "quantities": np.column_stack((surface_thickness, mass_fractions)).astype(np.float32),
        "instrument_inputs": _text_tuple(library_file.attrs["instrument_inputs"]),
        "quantity_names": (SURFACE_UM, *(share_of(material) for material in materials)),
    }


def _network_axis(attributes: Any) -> ModelAxis:
    start_kev, bin_kev = (round(float(attributes[attribute_name]), 9) for attribute_name in ("start_kev", "bin_kev"))
    return ModelAxis(start_kev=start_kev, bin_kev=bin_kev, n_bin=int(attributes["n_bin"]))


def _half_precision_spectra(dataset: Any) -> NDArray[np.float16]:
    n_spectra, n_bin = dataset.shape
    spectra = np.empty((n_spectra, n_bin), dtype=np.float16)
    for block_start in range(0, n_spectra, _BLOCK_ROWS):
        block_rows = slice(block_start, block_start + _BLOCK_ROWS)
        spectra[block_rows] = dataset[block_rows].astype(np.float32) * n_bin
    return spectra


def _require_contents(library_file: Any, path: Path, dataset_names: Sequence[str]) -> None:
    attribute_names = ("names", "kinds", "groups", "labels_for_people", "elements", "start_kev", "bin_kev", "n_bin")
    missing_items = [name for name in dataset_names if name not in library_file]
    missing_items += [name for name in attribute_names if name not in library_file.attrs]
    if missing_items:
        raise TrainingError(
            f"Cannot train from {path}: the file lacks {', '.join(missing_items)}. Simulate the library again with "
            "`underpaint simulate`."
        )


def _text_tuple(attribute_value: Any) -> tuple[str, ...]:
    return (
        tuple(json.loads(attribute_value))
        if isinstance(attribute_value, str | bytes)
        else tuple(str(attribute_text) for attribute_text in attribute_value)
    )


def _total_counts(library_file: Any, n_spectra: int) -> NDArray[np.float32] | None:
    if "counts_scale" in library_file:
        return np.asarray(library_file["counts_scale"][()], dtype=np.float32)
    if "total_counts" in library_file.attrs:
        return np.full(n_spectra, library_file.attrs["total_counts"], dtype=np.float32)
    return None


def _require_shapes(library: Library, path: Path) -> Library:
    n_spectra, n_name = len(library), len(library.names)
    shape_and_expected_shape = {
        "spectra": (library.spectra.shape, (n_spectra, library.axis.n_bin)),
        "recorded": (library.recorded.shape, (n_spectra, 2)),
        "labels": (library.labels.shape, (n_spectra, n_name)),
        "counts_needed": (library.counts_needed.shape, (n_spectra, n_name)),
        "source": (library.source.shape, (n_spectra,)),
    }
    for name, (shape, expected_shape) in shape_and_expected_shape.items():
        if shape != expected_shape:
            raise TrainingError(
                f"Cannot train from {path}: {name} has the shape {shape}, but the shape {expected_shape} is needed."
            )
    if n_spectra == 0:
        raise TrainingError(f"Cannot train from {path}: it contains no spectra.")
    return library


def _join_libraries(libraries: list[Library]) -> Library:
    first_library = libraries[0]
    source_offset, source_arrays = 0, []
    for library in libraries:
        if (library.axis, library.names, library.has_noise) != (
            first_library.axis,
            first_library.names,
            first_library.has_noise,
        ):
            raise TrainingError(
                f"Cannot join the libraries {first_library.origin[0]} and {library.origin[0]}: their energy axes, "
                "names or noise differ. Simulate both libraries with the same network axis and palette."
            )
        source_arrays.append(library.source + source_offset)
        source_offset += int(library.source.max()) + 1
    file_names = tuple(name for library in libraries for name in library.origin)
    return replace(
        first_library,
        spectra=np.concatenate([library.spectra for library in libraries]),
        recorded=np.concatenate([library.recorded for library in libraries]),
        labels=np.concatenate([library.labels for library in libraries]),
        counts_needed=np.concatenate([library.counts_needed for library in libraries]),
        source=np.concatenate(source_arrays),
        total_counts=_concatenate_if_all([library.total_counts for library in libraries]),
        instrument=_concatenate_if_all([library.instrument for library in libraries]),
        quantities=_concatenate_if_all([library.quantities for library in libraries]),
        amount=_concatenate_if_all([library.amount for library in libraries]),
        max_absent_counts=_concatenate_if_all([library.max_absent_counts for library in libraries]),
        origin=file_names,
    )


def _concatenate_if_all(optional_arrays: list[NDArray[Any] | None]) -> NDArray[Any] | None:
    available_arrays = [library_array for library_array in optional_arrays if library_array is not None]
    return np.concatenate(available_arrays) if len(available_arrays) == len(optional_arrays) else None
