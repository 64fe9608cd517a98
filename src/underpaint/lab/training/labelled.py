"""Measured spectra of known pigments as a library for fine-tuning."""

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

OnAxis = Callable[[Scan], Scan]
_NAMED_FILES = 4


def labelled_spectra(
    counts: NDArray[Any],
    axis: EnergyAxis,
    present: Sequence[Sequence[str]],
    card: ModelCard,
    *,
    source: NDArray[np.int64] | None = None,
) -> Library:
    """Return measured spectra with known pigments as a library for a model.

    Parameters
    ----------
    counts : (n, n_channel) array
        Counts per channel.
    axis : EnergyAxis
        Their energy axis.
    present : sequence of n sequences of str
        All that is in each spectrum, by the model's names: what is not named counts as absent. The groups that a
        pigment counts as are added; a group named without any of its members leaves open which it is.
    card : ModelCard
        The model to fine-tune.
    source : (n,) array or None
        Which spectra show the same structure; None takes each as its own.

    Raises
    ------
    TrainingError
        A pigment is not among the model's names, or the counts and the labels differ in number.
    CoverageError
        The spectra do not cover the energies that the model needs.
    """
    if len(counts) != len(present):
        raise TrainingError(
            f"Cannot label {len(counts)} spectra with {len(present)} rows of labels; one row per spectrum is needed."
        )
    return _with_labels(counts, axis, label_matrix(present, card), card, source)


def _with_labels(
    counts: NDArray[Any],
    axis: EnergyAxis,
    labels: NDArray[np.uint8],
    card: ModelCard,
    source: NDArray[np.int64] | None,
) -> Library:
    _check_coverage(axis, card)
    spectra = rebin(counts, axis, card.axis.edges_kev)
    return _library(spectra, np.tile(_range(axis), (len(counts), 1)), labels, card, source)


def absent_as_unknown(library: Library) -> Library:
    """Return a library in which names that no spectrum holds are unknown, not absent."""
    absent = ~(library.labels == 1).any(axis=0)
    return replace(library, labels=np.where(absent, np.uint8(UNKNOWN), library.labels))


def labelled(location: str | Path, table: str | Path, card: ModelCard, *, on_axis: OnAxis | None = None) -> Library:
    """Return a user's spectra and table of labels as a library for fine-tuning.

    Parameters
    ----------
    location : str or Path
        A scan, where the table has the columns ``row`` and ``column``; the folder of single spectra, where it has the
        column ``file``.
    table : str or Path
        CSV file, see :func:`labelled_scan` and :func:`labelled_folder`.
    card : ModelCard
        The model to fine-tune.
    on_axis : callable or None
        Puts a scan on the energy axis to use; None trusts the files.

    Raises
    ------
    TrainingError, CoverageError, ScanError, CalibrationError
        As for the two functions.
    """
    if read_label_table(Path(table)).names_files:
        return labelled_folder(location, table, card, on_axis=on_axis)
    scan = load(location)
    return labelled_scan(scan if on_axis is None else on_axis(scan), table, card)


def labelled_scan(scan: Scan, table: str | Path, card: ModelCard) -> Library:
    """Return the labelled pixels of a scan as a library for fine-tuning.

    Parameters
    ----------
    scan : Scan
        Counts with an energy axis.
    table : str or Path
        CSV file with the columns ``row``, ``column`` (from 0), ``pigments`` (the model's names, parted by ``;``, empty
        where there is none) and, where wanted, ``structure``: pixels of the same structure are kept on one side of
        the split. In place of ``pigments``, by which what is not named is absent, ``present`` and ``absent``: what
        neither names is left open.
    card : ModelCard
        The model to fine-tune.

    Raises
    ------
    TrainingError
        The table cannot be read, points outside the scan or to a pixel without counts, or names a pigment that the
        model does not know.
    CalibrationError
        The scan has no energy axis.
    CoverageError
        The scan does not cover the energies that the model needs.
    """
    rows = read_label_table(Path(table))
    if rows.names_files:
        raise TrainingError(
            f"Cannot label a scan by {rows.path}: it names files. Give the folder of these files as the spectra."
        )
    row, column = (_positions(rows, name, scan) for name in ("row", "column"))
    rows.refuse_repeats(list(zip(row.tolist(), column.tolist(), strict=True)))
    labels, axis = rows.labels(card), scan.require_axis()  # refuses a wrong name before the scan is read
    library = _with_labels(_pixels(scan, row, column), axis, labels, card, rows.structures())
    return replace(_require_counts(library, rows), origin=(scan.name,))


def labelled_folder(
    folder: str | Path, table: str | Path, card: ModelCard, *, on_axis: OnAxis | None = None
) -> Library:
    """Return a folder of single spectra as a library for fine-tuning.

    Parameters
    ----------
    folder : str or Path
        Where the files lie; each is a spectrum or a scan of one pixel that :func:`underpaint.io.load` reads. Their
        energy axes and numbers of channels may differ.
    table : str or Path
        CSV file with the columns ``file`` (path inside the folder), ``pigments`` (the model's names, parted by ``;``,
        empty where there is none) and, where wanted, ``structure``; ``present`` and ``absent`` as for
        :func:`labelled_scan`. Files that it does not name are left out.
    card : ModelCard
        The model to fine-tune.
    on_axis : callable or None
        Returns a scan with the energy axis to use; called with all spectra of one axis as a column of pixels. None uses
        the axes of the files.

    Raises
    ------
    TrainingError
        The table cannot be read, names a file that is not there, is not a single spectrum or holds no counts, or a
        pigment that the model does not know.
    ScanError
        A file is damaged or of no known format.
    CalibrationError
        A file has no energy axis, and none was found.
    CoverageError
        A spectrum does not cover the energies that the model needs.
    """
    rows, place = read_label_table(Path(table)), Path(folder)
    if not rows.names_files:
        raise TrainingError(
            f"Cannot label the files in {folder} by {rows.path}: it has no column `file`. Name each row's file."
        )
    labels = rows.labels(card)
    rows.refuse_repeats([Path(name) for name in rows.column("file")])
    scans = [
        _load_single(_require_file(name, line, rows, place))
        for name, line in zip(rows.column("file"), rows.lines, strict=True)
    ]
    spectra = np.empty((len(scans), card.axis.n_bin), dtype=np.float32)
    recorded = np.empty((len(scans), 2), dtype=np.float32)
    for indices in _of_one_axis(scans):
        group = _column([scans[index] for index in indices], place.name)
        group = group if on_axis is None else on_axis(group)
        axis = group.require_axis()
        _check_coverage(axis, card)
        spectra[indices] = rebin(np.asarray(group.counts)[:, 0], axis, card.axis.edges_kev)
        recorded[indices] = _range(axis)
    library = _library(spectra, recorded, labels, card, rows.structures())
    return replace(_require_counts(library, rows), origin=(place.resolve().name,))


def _library(
    spectra: NDArray[np.float32],
    recorded: NDArray[np.float32],
    labels: NDArray[np.uint8],
    card: ModelCard,
    source: NDArray[np.int64] | None,
) -> Library:
    return Library(
        spectra=spectra,
        recorded=recorded,
        labels=labels,
        counts_needed=np.where(labels == 1, 0.0, np.inf).astype(np.float32),
        source=np.arange(len(labels), dtype=np.int64) if source is None else np.asarray(source, dtype=np.int64),
        total_counts=None,
        axis=card.axis,
        names=card.names,
        kinds=card.kinds,
        groups=card.groups,
        labels_for_people=card.labels,
        elements=card.elements,
        counted=True,
        origin=("labelled spectra",),
    )


def _range(axis: EnergyAxis) -> NDArray[np.float32]:
    return np.array([axis.start_kev, axis.stop_kev], dtype=np.float32)


def _check_coverage(axis: EnergyAxis, card: ModelCard) -> None:
    if covers(axis, card):
        return
    start, stop = needed_range(card)
    raise CoverageError(
        f"Cannot fine-tune {card.name!r}: it needs {start:.2f}-{stop:.2f} keV, the spectra cover "
        f"{axis.start_kev:.2f}-{axis.stop_kev:.2f} keV. Check the energy axis, or begin with another model."
    )


def _positions(rows: LabelTable, name: str, scan: Scan) -> NDArray[np.intp]:
    n_allowed = scan.shape[PIXEL_COLUMNS.index(name)]
    for text, line in zip(rows.column(name), rows.lines, strict=True):
        if not (text.isascii() and text.isdecimal() and int(text) < n_allowed):
            raise TrainingError(
                f"Cannot use line {line} of {rows.path}: {name} is {text!r}, the scan has {name}s 0 to {n_allowed - 1}."
            )
    return np.array([int(text) for text in rows.column(name)], dtype=np.intp)


def _pixels(scan: Scan, row: NDArray[np.intp], column: NDArray[np.intp]) -> NDArray[np.float32]:
    counts = np.empty((row.size, scan.shape[2]), dtype=np.float32)
    for row_number in np.unique(row):
        counts[row == row_number] = np.asarray(scan.counts[int(row_number)].compute())[column[row == row_number]]
    return counts


def _require_counts(library: Library, rows: LabelTable) -> Library:
    """Return the library; refuse spectra without counts on the model's axis."""
    sound = (library.spectra.min(axis=1) >= 0) & (library.spectra.sum(axis=1) > 0)
    if not sound.all():
        line = rows.lines[int(np.argmin(sound))]
        raise TrainingError(
            f"Cannot use line {line} of {rows.path}: its spectrum has no counts on the model's energies, or some that "
            "are negative or no numbers. Take the line out, or look at the file with `underpaint info`."
        )
    return library


def _require_file(name: str, line: int, rows: LabelTable, folder: Path) -> Path:
    path = folder / name
    if name and path.exists():
        return path
    file_names = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    near = get_close_matches(name, file_names, n=_NAMED_FILES) or file_names[:_NAMED_FILES]
    raise TrainingError(
        f"Cannot use line {line} of {rows.path}: there is no file {name!r} in {folder}. "
        f"{'There are, for instance: ' + ', '.join(near) if near else 'The folder is empty or not there'}. "
        "The column file holds paths inside that folder, with their endings."
    )


def _load_single(path: Path) -> Scan:
    scan = load(path)
    if scan.n_pixel != 1:
        raise TrainingError(
            f"Cannot use {path} as one spectrum: it is a scan of {scan.shape[0]} x {scan.shape[1]} pixels. "
            "Give the scan itself as the spectra, with a table of row,column,pigments."
        )
    return scan


def _of_one_axis(scans: Sequence[Scan]) -> list[list[int]]:
    """Positions of the scans that share energy axis and number of channels."""
    groups: dict[tuple[EnergyAxis | None, int], list[int]] = {}
    for index, scan in enumerate(scans):
        groups.setdefault((scan.axis, scan.shape[2]), []).append(index)
    return list(groups.values())


def _column(scans: Sequence[Scan], name: str) -> Scan:
    counts = np.concatenate([np.asarray(scan.counts) for scan in scans])
    return replace(scans[0], counts=counts, name=name, live_time_s=None, real_time_s=None, present=None)
