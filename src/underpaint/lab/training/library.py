"""Training libraries: expected spectra with labels, held in memory."""

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

_NEEDED = ("recorded", "labels", "source")
_ROWS_AT_ONCE = 8192
UNKNOWN = 255
"""Label of a name that is unknown in a library; it counts neither for nor against."""


@dataclass(frozen=True)
class Library:
    """Labelled spectra on a network's axis.

    Parameters
    ----------
    spectra : (n, n_bin) float16 or float32 array
        Expected spectra with a sum of 1, or counts where ``counted``.
    recorded : (n, 2) float32 array
        Start and stop of the recorded range, keV.
    labels : (n, n_name) uint8 array
        1 where the pigment or group is present, 0 where not, :data:`UNKNOWN` where not known.
    counts_needed : (n, n_name) float32 array
        Total counts from which a present label can be seen; infinite where never.
    source : (n,) int array
        Index of the stratigraphy; splits keep it together.
    total_counts : (n,) float32 array, or None
        Typical total counts of each spectrum; None where the library has none.
    axis : ModelAxis
        Energy axis.
    names, kinds, groups, labels_for_people, elements : tuple
        As in the model card.
    counted : bool
        True where ``spectra`` are counts with their noise.
    origin : tuple of str
        File names.
    instrument : (n, n_input) float32 array, or None
        Instrument conditions (:mod:`underpaint.simulate.instrument_inputs`), NaN where unknown.
    quantities : (n, n_quantity) float32 array, or None
        Thickness and shares of the uppermost paint on their scales (:mod:`underpaint.data.maps`), NaN where undefined.
    instrument_inputs, quantity_names : tuple of str
        Names of their columns.
    amount : (n, n_amount) uint8 or (n, n_amount, n_edge) float32 array, or None
        Class of each element's mass share in the dry paint (:func:`underpaint.data.maps.amount_class`), or the
        probability that it reaches each edge.
    amount_names : tuple of str
        Groups, with places, that its columns are of.
    hidden : (n, n_name) float32 array, or None
        Total counts up to which a present label does not show and is absent; zero where it is masked.
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
    counted: bool = False
    origin: tuple[str, ...] = ()
    instrument: NDArray[np.float32] | None = None
    quantities: NDArray[np.float32] | None = None
    instrument_inputs: tuple[str, ...] = ()
    quantity_names: tuple[str, ...] = ()
    amount: NDArray[np.uint8] | NDArray[np.float32] | None = None
    amount_names: tuple[str, ...] = ()
    hidden: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        """Return the number of spectra."""
        return int(self.spectra.shape[0])

    def rows(self, rows: NDArray[Any]) -> "Library":
        """Return the library with these of its spectra alone: (n,) indices, or (n_spectrum,) bool."""
        fields = (
            "spectra",
            "recorded",
            "labels",
            "counts_needed",
            "source",
            "total_counts",
            "instrument",
            "quantities",
            "amount",
            "hidden",
        )
        held = {field: getattr(self, field) for field in fields}
        selected: dict[str, Any] = {field: None if value is None else value[rows] for field, value in held.items()}
        return replace(self, **selected)

    def only(self, names: Sequence[str]) -> "Library":
        """Return the library with these of its names alone, in this order, and without quantities and amounts."""
        columns = [self.names.index(name) for name in names]
        fields = ("names", "kinds", "groups", "labels_for_people", "elements")
        metadata: dict[str, Any] = {field: tuple(getattr(self, field)[index] for index in columns) for field in fields}
        metadata |= {"quantities": None, "quantity_names": (), "amount": None, "amount_names": ()}
        metadata |= {"hidden": None if self.hidden is None else self.hidden[:, columns]}
        return replace(self, labels=self.labels[:, columns], counts_needed=self.counts_needed[:, columns], **metadata)

    def with_names(self, names: Sequence[str]) -> "Library":
        """Return the library with its labels in another order; names that it lacks are unknown.

        Their kind, groups, label and elements are empty.

        Raises
        ------
        TrainingError
            The library has a label that is not among ``names``.
        """
        unknown = [name for name in self.names if name not in names]
        if unknown:
            raise TrainingError(
                f"Cannot use the labels {', '.join(unknown)}: the model does not know them. "
                f"It knows: {', '.join(names)}. Rename or remove them."
            )
        labels = np.full((len(self), len(names)), UNKNOWN, dtype=np.uint8)
        needed = np.full((len(self), len(names)), np.inf, dtype=np.float32)
        columns = [list(names).index(name) for name in self.names]
        labels[:, columns], needed[:, columns] = self.labels, self.counts_needed
        hidden = None if self.hidden is None else np.zeros_like(needed)
        if hidden is not None:
            hidden[:, columns] = self.hidden
        amount, amount_names = self.amount, group_names(names) if self.amount_names else ()
        if amount is not None and amount_names != self.amount_names:
            amount = np.full((len(self), len(amount_names)), UNKNOWN, dtype=np.uint8)
            amount[:, [amount_names.index(name) for name in self.amount_names]] = np.asarray(self.amount, np.uint8)
        known = {name: index for index, name in enumerate(self.names)}
        metadata: dict[str, Any] = {
            field: tuple(getattr(self, field)[known[name]] if name in known else blank for name in names)
            for field, blank in (("kinds", ""), ("groups", ()), ("labels_for_people", ""), ("elements", ()))
        }
        metadata |= {"hidden": hidden, "amount": amount, "amount_names": amount_names}
        return replace(self, labels=labels, counts_needed=needed, names=tuple(names), **metadata)


def load_library(paths: Path | Sequence[Path], *, half: bool = False, lines: bool = False) -> Library:
    """Read one or more library files into memory.

    Parameters
    ----------
    paths : Path or sequence of Path
        HDF5 files with ``/expected`` (or ``/counts``), ``/recorded``, ``/labels``, ``/source``, optionally
        ``/counts_needed`` and ``/counts_scale``, and the attributes ``names``, ``kinds``, ``groups``,
        ``labels_for_people``, ``elements``, ``start_kev``, ``bin_kev``, ``n_bin``.
    half : bool
        Keep expected spectra in 16 bits, scaled so that small bins survive: half the memory, rounded by 0.05 %.
        Their sum is then the number of bins, not 1.
    lines : bool
        Take a group as present where the lines of its element are visible, from any material, and read its amounts.

    Raises
    ------
    TrainingError
        A file is missing, lacks a part, contradicts itself, or differs from the first in axis or names.
    """
    files = [paths] if isinstance(paths, str | Path) else list(paths)
    libraries = [_read(Path(path), half=half, lines=lines) for path in files]
    return libraries[0] if len(libraries) == 1 else _join(libraries)


def _read(path: Path, *, half: bool, lines: bool) -> Library:
    try:
        with h5py.File(path, "r") as file:
            library = _library(file, path, half=half)
            return _check(_by_lines(library, file, path) if lines else library, path)
    except OSError as error:
        raise TrainingError(
            f"Cannot read the training library {path}: {error}. Write one with `underpaint simulate`."
        ) from error


def _library(file: Any, path: Path, *, half: bool) -> Library:
    counted = "expected" not in file
    _require(file, path, (*_NEEDED, "counts" if counted else "expected"))
    labels = file["labels"][()].astype(np.uint8)
    needed = file["counts_needed"][()] if "counts_needed" in file else np.where(labels, 0.0, np.inf)
    names = _words(file.attrs["names"])
    return Library(
        spectra=_in_half(file["expected"]) if half and not counted else file["counts" if counted else "expected"][()],
        recorded=file["recorded"][()].astype(np.float32),
        labels=labels,
        counts_needed=needed.astype(np.float32),
        source=file["source"][()].astype(np.int64),
        total_counts=_total_counts(file, len(labels)),
        axis=_axis(file.attrs),
        names=names,
        kinds=_words(file.attrs["kinds"]),
        groups=tuple(tuple(each) for each in json.loads(file.attrs["groups"])),
        labels_for_people=_words(file.attrs["labels_for_people"]),
        elements=tuple(tuple(each) for each in json.loads(file.attrs["elements"])),
        counted=counted,
        origin=(path.name,),
        **_layer_labels(file, names, labels),
    )


def _by_lines(library: Library, file: Any, path: Path) -> Library:
    """Return a library with groups present where lines of their elements are visible, and with amounts."""
    _require(file, path, ("lines_needed", "lines_hidden", "amount"))
    shown = file["lines_needed"][()], file["lines_hidden"][()]
    labels, counts, hidden = labels_by_lines(library.names, library.labels, library.counts_needed, *shown)
    amount, names = amount_class(file["amount"][()]), group_names(library.names)
    return replace(library, labels=labels, counts_needed=counts, hidden=hidden, amount=amount, amount_names=names)


def _layer_labels(file: Any, names: tuple[str, ...], labels: NDArray[np.uint8]) -> dict[str, Any]:
    """Read the labels for networks of layers alone, from a library simulated with places."""
    materials = _words(file.attrs.get("materials", "[]"))
    surface = [at_place(material, "surface") for material in materials]
    if not surface or not set(surface) <= set(names):
        return {}
    at_surface = labels[:, [names.index(name) for name in surface]] == 1
    shares = np.where(at_surface, to_unbounded(share_of(""), file["surface_share"][()]), np.nan)
    thickness = to_unbounded(SURFACE_UM, file["surface_um"][()])
    return {
        "instrument": file["instrument"][()].astype(np.float32),
        "quantities": np.column_stack((thickness, shares)).astype(np.float32),
        "instrument_inputs": _words(file.attrs["instrument_inputs"]),
        "quantity_names": (SURFACE_UM, *(share_of(material) for material in materials)),
    }


def _axis(attributes: Any) -> ModelAxis:
    start, width = (round(float(attributes[key]), 9) for key in ("start_kev", "bin_kev"))
    return ModelAxis(start_kev=start, bin_kev=width, n_bin=int(attributes["n_bin"]))


def _in_half(dataset: Any) -> NDArray[np.float16]:
    n_spectra, n_bin = dataset.shape
    spectra = np.empty((n_spectra, n_bin), dtype=np.float16)
    for start in range(0, n_spectra, _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        spectra[rows] = dataset[rows].astype(np.float32) * n_bin
    return spectra


def _require(file: Any, path: Path, datasets: Sequence[str]) -> None:
    attributes = ("names", "kinds", "groups", "labels_for_people", "elements", "start_kev", "bin_kev", "n_bin")
    missing = [name for name in datasets if name not in file]
    missing += [name for name in attributes if name not in file.attrs]
    if missing:
        raise TrainingError(
            f"Cannot train from {path}: it lacks {', '.join(missing)}. Write it again with `underpaint simulate`."
        )


def _words(value: Any) -> tuple[str, ...]:
    return tuple(json.loads(value)) if isinstance(value, str | bytes) else tuple(str(each) for each in value)


def _total_counts(file: Any, n_spectra: int) -> NDArray[np.float32] | None:
    if "counts_scale" in file:
        return np.asarray(file["counts_scale"][()], dtype=np.float32)
    if "total_counts" in file.attrs:
        return np.full(n_spectra, file.attrs["total_counts"], dtype=np.float32)
    return None


def _check(library: Library, path: Path) -> Library:
    n_spectra, n_name = len(library), len(library.names)
    shapes = {
        "spectra": (library.spectra.shape, (n_spectra, library.axis.n_bin)),
        "recorded": (library.recorded.shape, (n_spectra, 2)),
        "labels": (library.labels.shape, (n_spectra, n_name)),
        "counts_needed": (library.counts_needed.shape, (n_spectra, n_name)),
        "source": (library.source.shape, (n_spectra,)),
    }
    for name, (shape, expected) in shapes.items():
        if shape != expected:
            raise TrainingError(f"Cannot train from {path}: {name} has the shape {shape}, where {expected} is needed.")
    if n_spectra == 0:
        raise TrainingError(f"Cannot train from {path}: it holds no spectra.")
    return library


def _join(libraries: list[Library]) -> Library:
    first = libraries[0]
    offset, sources = 0, []
    for library in libraries:
        if (library.axis, library.names, library.counted) != (first.axis, first.names, first.counted):
            raise TrainingError(
                f"Cannot join the libraries {first.origin[0]} and {library.origin[0]}: they differ in energy axis, "
                "names or noise. Simulate both with the same network axis and palette."
            )
        sources.append(library.source + offset)
        offset += int(library.source.max()) + 1
    origin = tuple(name for library in libraries for name in library.origin)
    return replace(
        first,
        spectra=np.concatenate([library.spectra for library in libraries]),
        recorded=np.concatenate([library.recorded for library in libraries]),
        labels=np.concatenate([library.labels for library in libraries]),
        counts_needed=np.concatenate([library.counts_needed for library in libraries]),
        source=np.concatenate(sources),
        total_counts=_join_if_all([library.total_counts for library in libraries]),
        instrument=_join_if_all([library.instrument for library in libraries]),
        quantities=_join_if_all([library.quantities for library in libraries]),
        amount=_join_if_all([library.amount for library in libraries]),
        hidden=_join_if_all([library.hidden for library in libraries]),
        origin=origin,
    )


def _join_if_all(arrays: list[NDArray[Any] | None]) -> NDArray[Any] | None:
    given = [each for each in arrays if each is not None]
    return np.concatenate(given) if len(given) == len(arrays) else None
