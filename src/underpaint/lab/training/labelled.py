"""Libraries of measured spectra with known pigments, for fine-tuning."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan
from underpaint.data.rebin import rebin
from underpaint.errors import CoverageError, TrainingError
from underpaint.io import load
from underpaint.lab.training.label_table import PIXEL_COLUMNS, LabelTable, label_matrix, read_label_table
from underpaint.lab.training.library import UNKNOWN, Library
from underpaint.pigments.predict.mapping import covers, needed_range
from underpaint.pigments.weights import ModelCard

AxisFunction = Callable[[Scan], Scan]
_MAX_LISTED_FILES = 4


def labelled_spectra(
    counts: NDArray[Any],
    axis: EnergyAxis,
    present: Sequence[Sequence[str]],
    model_card: ModelCard,
    *,
    source: NDArray[np.int64] | None = None,
) -> Library:
    """Convert measured spectra with known pigments to a library that a model can be fine-tuned on.

    Parameters
    ----------
    counts : (n, n_channel) array
        Counts per channel.
    axis : EnergyAxis
        Energy axis of the channels.
    present : sequence of n sequences of str
        Names of the outputs that are present in each spectrum. All other outputs count as absent.
        The groups of a given pigment also count as present. If a group is given without a member, its members are
        unknown.
    model_card : ModelCard
        The model to fine-tune.
    source : (n,) array or None
        Number of the structure of each spectrum, or None if every spectrum is a separate structure.

    Raises
    ------
    TrainingError
        A pigment is not an output of the model, or the numbers of spectra and of labels differ.
    CoverageError
        The spectra do not cover the energies that the model needs.
    """
    if len(counts) != len(present):
        raise TrainingError(
            f"Cannot label {len(counts)} spectra with {len(present)} rows of labels: one row per spectrum is needed."
        )
    return _labelled_library(counts, axis, label_matrix(present, model_card), model_card, source)


def _labelled_library(
    counts: NDArray[Any],
    axis: EnergyAxis,
    labels: NDArray[np.uint8],
    model_card: ModelCard,
    source: NDArray[np.int64] | None,
) -> Library:
    _check_coverage(axis, model_card)
    spectra = rebin(counts, axis, model_card.axis.edges_kev)
    return _as_library(spectra, np.tile(_recorded_range_kev(axis), (len(counts), 1)), labels, model_card, source)


def absent_as_unknown(library: Library) -> Library:
    """Return a library in which names without a positive spectrum are unknown instead of absent."""
    is_absent = ~(library.labels == 1).any(axis=0)
    return replace(library, labels=np.where(is_absent, np.uint8(UNKNOWN), library.labels))


def labelled_library(
    location: str | Path, label_path: str | Path, model_card: ModelCard, *, on_axis: AxisFunction | None = None
) -> Library:
    """Read spectra and a table of labels, and return them as a library for fine-tuning.

    Parameters
    ----------
    location : str or Path
        Scan, if the table has the columns ``row`` and ``column``. Folder of single spectra, if the table has the column
        ``file``.
    label_path : str or Path
        CSV file of labels (see :func:`labelled_scan` and :func:`labelled_folder`).
    model_card : ModelCard
        The model to fine-tune.
    on_axis : callable or None
        Function that returns a scan with the energy axis to use. None means that the axes in the files are used.

    Raises
    ------
    TrainingError, CoverageError, ScanError, CalibrationError
        Errors of :func:`labelled_scan` and :func:`labelled_folder`.
    """
    if read_label_table(Path(label_path)).has_file_column:
        return labelled_folder(location, label_path, model_card, on_axis=on_axis)
    scan = load(location)
    return labelled_scan(scan if on_axis is None else on_axis(scan), label_path, model_card)


def labelled_scan(scan: Scan, label_path: str | Path, model_card: ModelCard) -> Library:
    """Return the labelled pixels of a scan as a library for fine-tuning.

    Parameters
    ----------
    scan : Scan
        Counts with an energy axis.
    label_path : str or Path
        CSV file with the columns ``row``, ``column`` (from 0) and ``pigments`` (names of outputs, separated by ``;``).
        Names that are not in ``pigments`` are absent. The cell ``pigments`` may be empty.
        The columns ``present`` and ``absent`` can replace ``pigments``. Names in neither column are then unknown.
        Pixels with the same text in the optional column ``structure`` are in the same set of the split.
    model_card : ModelCard
        The model to fine-tune.

    Raises
    ------
    TrainingError
        The table cannot be read, has a pixel outside the scan or without counts, or has an unknown pigment.
    CalibrationError
        The scan has no energy axis.
    CoverageError
        The scan does not cover the energies that the model needs.
    """
    label_table = read_label_table(Path(label_path))
    if label_table.has_file_column:
        raise TrainingError(
            f"Cannot label a scan by {label_table.path}: it has the column `file`. Give the folder of these files as "
            "the spectra."
        )
    pixel_rows, pixel_columns = (_pixel_positions(label_table, name, scan) for name in ("row", "column"))
    label_table.refuse_repeats(list(zip(pixel_rows.tolist(), pixel_columns.tolist(), strict=True)))
    labels, axis = (
        label_table.labels(model_card),
        scan.require_axis(),
    )  # raises an error for an unknown name before the scan is read
    library = _labelled_library(
        _pixel_counts(scan, pixel_rows, pixel_columns), axis, labels, model_card, label_table.structures()
    )
    return replace(_require_counts(library, label_table), origin=(scan.name,))


def labelled_folder(
    folder: str | Path, label_path: str | Path, model_card: ModelCard, *, on_axis: AxisFunction | None = None
) -> Library:
    """Return a folder of single spectra as a library for fine-tuning.

    Parameters
    ----------
    folder : str or Path
        Folder of files. Each file is a spectrum, or a scan of one pixel, that :func:`underpaint.io.load` can read.
        The files may have different energy axes and numbers of channels.
    label_path : str or Path
        CSV file with the column ``file`` (path inside the folder).
        Other columns have the same meaning as in :func:`labelled_scan`. Files that are not in the table are left out.
    model_card : ModelCard
        The model to fine-tune.
    on_axis : callable or None
        Function that returns a scan with the energy axis to use. None means that the axes in the files are used.
        The function is called with all spectra of one energy axis, as a scan with a single column of pixels.

    Raises
    ------
    TrainingError
        The table cannot be read, or has an unknown pigment.
        A file is missing, or does not contain a single spectrum with counts.
    ScanError
        A file is damaged, or its format is unknown.
    CalibrationError
        A file has no energy axis, and calibration found none.
    CoverageError
        A spectrum does not cover the energies that the model needs.
    """
    label_table, folder_path = read_label_table(Path(label_path)), Path(folder)
    if not label_table.has_file_column:
        raise TrainingError(
            f"Cannot label the files in {folder} by {label_table.path}: the table has no column `file`. Add the column."
        )
    labels = label_table.labels(model_card)
    label_table.refuse_repeats([Path(name) for name in label_table.column("file")])
    scans_of_files = [
        _load_single_spectrum(_require_file(name, line_number, label_table, folder_path))
        for name, line_number in zip(label_table.column("file"), label_table.line_numbers, strict=True)
    ]
    spectra = np.empty((len(scans_of_files), model_card.axis.n_bin), dtype=np.float32)
    recorded_kev = np.empty((len(scans_of_files), 2), dtype=np.float32)
    for scan_indices in _scans_by_axis(scans_of_files):
        scan_column = _as_column_scan([scans_of_files[scan_index] for scan_index in scan_indices], folder_path.name)
        scan_column = scan_column if on_axis is None else on_axis(scan_column)
        axis = scan_column.require_axis()
        _check_coverage(axis, model_card)
        spectra[scan_indices] = rebin(np.asarray(scan_column.counts)[:, 0], axis, model_card.axis.edges_kev)
        recorded_kev[scan_indices] = _recorded_range_kev(axis)
    library = _as_library(spectra, recorded_kev, labels, model_card, label_table.structures())
    return replace(_require_counts(library, label_table), origin=(folder_path.resolve().name,))


def _as_library(
    spectra: NDArray[np.float32],
    recorded_kev: NDArray[np.float32],
    labels: NDArray[np.uint8],
    model_card: ModelCard,
    source: NDArray[np.int64] | None,
) -> Library:
    return Library(
        spectra=spectra,
        recorded=recorded_kev,
        labels=labels,
        counts_needed=np.where(labels == 1, 0.0, np.inf).astype(np.float32),
        source=np.arange(len(labels), dtype=np.int64) if source is None else np.asarray(source, dtype=np.int64),
        total_counts=None,
        axis=model_card.axis,
        names=model_card.names,
        kinds=model_card.kinds,
        groups=model_card.groups,
        labels_for_people=model_card.labels,
        elements=model_card.elements,
        has_noise=True,
        origin=("labelled spectra",),
    )


def _recorded_range_kev(axis: EnergyAxis) -> NDArray[np.float32]:
    return np.array([axis.start_kev, axis.stop_kev], dtype=np.float32)


def _check_coverage(axis: EnergyAxis, model_card: ModelCard) -> None:
    if covers(axis, model_card):
        return
    start_kev, stop_kev = needed_range(model_card)
    raise CoverageError(
        f"Cannot fine-tune {model_card.name!r}: it needs {start_kev:.2f}-{stop_kev:.2f} keV, but the spectra cover "
        f"{axis.start_kev:.2f}-{axis.stop_kev:.2f} keV. Check the energy axis, or start from another model."
    )


def _pixel_positions(label_table: LabelTable, name: str, scan: Scan) -> NDArray[np.intp]:
    n_position = scan.shape[PIXEL_COLUMNS.index(name)]
    for cell_text, line_number in zip(label_table.column(name), label_table.line_numbers, strict=True):
        if not (cell_text.isascii() and cell_text.isdecimal() and int(cell_text) < n_position):
            raise TrainingError(
                f"Cannot use line {line_number} of {label_table.path}: {name} is {cell_text!r}, the scan has "
                f"{name}s 0 to {n_position - 1}."
            )
    return np.array([int(cell_text) for cell_text in label_table.column(name)], dtype=np.intp)


def _pixel_counts(scan: Scan, pixel_rows: NDArray[np.intp], pixel_columns: NDArray[np.intp]) -> NDArray[np.float32]:
    counts = np.empty((pixel_rows.size, scan.shape[2]), dtype=np.float32)
    for row_number in np.unique(pixel_rows):
        counts[pixel_rows == row_number] = np.asarray(scan.counts[int(row_number)].compute())[
            pixel_columns[pixel_rows == row_number]
        ]
    return counts


def _require_counts(library: Library, label_table: LabelTable) -> Library:
    """Return the same library, or raise an error if a spectrum has no counts on the axis of the model."""
    is_valid = (library.spectra.min(axis=1) >= 0) & (library.spectra.sum(axis=1) > 0)
    if not is_valid.all():
        line_number = label_table.line_numbers[int(np.argmin(is_valid))]
        raise TrainingError(
            f"Cannot use line {line_number} of {label_table.path}: its spectrum has no counts in the energy range of "
            "the model, or counts that are negative or not finite. Remove the line, or look at the file with "
            "`underpaint info`."
        )
    return library


def _require_file(name: str, line_number: int, label_table: LabelTable, folder: Path) -> Path:
    path = folder / name
    if name and path.exists():
        return path
    file_names = sorted(folder_entry.name for folder_entry in folder.iterdir()) if folder.is_dir() else []
    similar_names = get_close_matches(name, file_names, n=_MAX_LISTED_FILES) or file_names[:_MAX_LISTED_FILES]
    raise TrainingError(
        f"Cannot use line {line_number} of {label_table.path}: there is no file {name!r} in {folder}. "
        f"{'It has, for instance: ' + ', '.join(similar_names) if similar_names else 'It is empty or missing'}. "
        "The column file must contain paths inside that folder, with file extensions."
    )


def _load_single_spectrum(path: Path) -> Scan:
    scan = load(path)
    if scan.n_pixel != 1:
        raise TrainingError(
            f"Cannot use {path} as one spectrum: it is a scan of {scan.shape[0]} x {scan.shape[1]} pixels. "
            "Give the scan itself as the spectra, with a table of row,column,pigments."
        )
    return scan


def _scans_by_axis(scans: Sequence[Scan]) -> list[list[int]]:
    """Group scans by energy axis and number of channels. Return the indices of the scans in each group."""
    indices_by_axis: dict[tuple[EnergyAxis | None, int], list[int]] = {}
    for scan_index, scan in enumerate(scans):
        indices_by_axis.setdefault((scan.axis, scan.shape[2]), []).append(scan_index)
    return list(indices_by_axis.values())


def _as_column_scan(scans: Sequence[Scan], name: str) -> Scan:
    counts = np.concatenate([np.asarray(scan.counts) for scan in scans])
    return scans[0].replace(counts=counts, name=name, live_time_s=None, real_time_s=None, present=None)
