"""Measured spectra of known pigments as a library for fine-tuning."""

import csv
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import TrainingError
from underpaint.spectrum import EnergyAxis, Scan
from underpaint.spectrum.rebin import rebin
from underpaint.train.library import Library
from underpaint.weights import ModelCard

_COLUMNS = ("row", "column", "pigments")


def labelled_spectra(
    counts: NDArray[Any],
    axis: EnergyAxis,
    present: Sequence[Sequence[str]],
    card: ModelCard,
    *,
    source: NDArray[np.int64] | None = None,
) -> Library:
    """Make measured spectra with known pigments into a library for a model.

    Parameters
    ----------
    counts : (n, n_channel) array
        Counts per channel.
    axis : EnergyAxis
        Their energy axis.
    present : sequence of n sequences of str
        Pigments in each spectrum, by the model's names; the groups that they count as are added.
    card : ModelCard
        The model to fine-tune.
    source : (n,) array or None
        Which spectra show the same structure; None takes each as its own.

    Raises
    ------
    TrainingError
        A pigment is not among the model's names, or the counts and the labels differ in number.
    """
    if len(counts) != len(present):
        message = (
            f"Cannot label {len(counts)} spectra with {len(present)} rows of labels; one row per spectrum is needed."
        )
        raise TrainingError(message)
    labels = _label_matrix(present, card)
    return Library(
        spectra=rebin(counts, axis, card.axis.edges_kev),
        recorded=np.tile(np.array([[axis.start_kev, axis.stop_kev]], dtype=np.float32), (len(counts), 1)),
        labels=labels,
        counts_needed=np.where(labels, 0.0, np.inf).astype(np.float32),
        source=np.arange(len(counts), dtype=np.int64) if source is None else np.asarray(source, dtype=np.int64),
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


def labelled_scan(scan: Scan, table: str | Path, card: ModelCard) -> Library:
    """Make the known pixels of a scan into a library for fine-tuning.

    Parameters
    ----------
    scan : Scan
        Counts with an energy axis.
    table : str or Path
        CSV file with the columns ``row``, ``column`` (from 0), ``pigments`` (the model's names, parted by ``;``, empty
        where there is none) and, where wanted, ``structure``: pixels of the same structure are kept on one side of
        the split.
    card : ModelCard
        The model to fine-tune.

    Raises
    ------
    TrainingError
        The table cannot be read, points outside the scan, or names a pigment that the model does not know.
    CalibrationError
        The scan has no energy axis.
    """
    lines = _read(Path(table))
    row, column = (_positions(lines, name, scan, Path(table)) for name in ("row", "column"))
    present = [[name.strip() for name in line["pigments"].split(";") if name.strip()] for line in lines]
    counts = _pixels(scan, row, column)
    return labelled_spectra(counts, scan.require_axis(), present, card, source=_structures(lines))


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        message = f"Cannot read the table of labels {path}: {error}"
        raise TrainingError(message) from error
    missing = [name for name in _COLUMNS if not lines or lines[0].get(name) is None]
    if missing:
        message = (
            f"Cannot use the table of labels {path}: it has no {', '.join(missing)}. The first line names the columns "
            "row,column,pigments (and structure); pigments are parted by ';'."
        )
        raise TrainingError(message)
    return lines


def _positions(lines: list[dict[str, str]], name: str, scan: Scan, path: Path) -> NDArray[np.intp]:
    n_allowed = scan.shape[_COLUMNS.index(name)]
    for number, line in enumerate(lines, start=2):
        if not (line[name].strip().isdecimal() and int(line[name]) < n_allowed):
            message = (
                f"Cannot use line {number} of {path}: {name} is {line[name]!r}, "
                f"the scan has {name}s 0 to {n_allowed - 1}."
            )
            raise TrainingError(message)
    return np.array([int(line[name]) for line in lines], dtype=np.intp)


def _pixels(scan: Scan, row: NDArray[np.intp], column: NDArray[np.intp]) -> NDArray[np.float32]:
    counts = np.empty((row.size, scan.shape[2]), dtype=np.float32)
    for own in np.unique(row):
        counts[row == own] = np.asarray(scan.counts[int(own)].compute())[column[row == own]]
    return counts


def _structures(lines: list[dict[str, str]]) -> NDArray[np.int64] | None:
    if lines[0].get("structure") is None:
        return None
    return _numbered(line["structure"] for line in lines)


def _numbered(names: Iterable[str]) -> NDArray[np.int64]:
    return np.unique(np.array(list(names)), return_inverse=True)[1].astype(np.int64)


def _label_matrix(present: Sequence[Sequence[str]], card: ModelCard) -> NDArray[np.uint8]:
    column = {name: index for index, name in enumerate(card.names)}
    unknown = sorted({name for names in present for name in names}.difference(column))
    if unknown:
        message = (
            f"Cannot use the labels {', '.join(unknown)}: the model does not know them. "
            f"It knows: {', '.join(card.names)}. Rename or remove them."
        )
        raise TrainingError(message)
    labels = np.zeros((len(present), len(card.names)), dtype=np.uint8)
    for row, names in enumerate(present):
        for name in names:
            groups = [group for group in card.groups[column[name]] if group in column]
            labels[row, [column[each] for each in (name, *groups)]] = 1
    return labels
