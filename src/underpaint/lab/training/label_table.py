"""The user's table of labels: a CSV file of known pigments by pixel or file."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import split_place
from underpaint.errors import TrainingError
from underpaint.lab.training.library import UNKNOWN
from underpaint.pigments.weights import ModelCard
from underpaint.runtime.untrusted import MAX_TABLE_BYTES, read_bounded

PIXEL_COLUMNS = ("row", "column", "pigments")
FILE_COLUMNS = ("file", "pigments")
PRESENCE_COLUMNS = ("present", "absent")
"""In place of ``pigments``, both or one: names in neither are unknown."""
_BETWEEN_PIGMENTS = re.compile(r"[;,+]")
_LIKENESS = 0.5


@dataclass(frozen=True)
class LabelTable:
    """Rows of a table of labels.

    Parameters
    ----------
    path : Path
        The CSV file.
    lines : tuple of int
        Line of the file in which each row ends, for messages.
    cells : tuple of mapping
        Stripped text by column.
    """

    path: Path
    lines: tuple[int, ...]
    cells: tuple[Mapping[str, str], ...]

    @property
    def names_files(self) -> bool:
        """True where each row is a file; False where it is a pixel of one scan."""
        return "file" in self.cells[0]

    def column(self, name: str) -> list[str]:
        """Return the text of one column."""
        return [row[name] for row in self.cells]

    def labels(self, card: ModelCard) -> NDArray[np.uint8]:
        """Return the (n, n_name) labels of the rows, by a model's names.

        Raises
        ------
        TrainingError
            The model does not know a name, or a row calls one both present and absent.
        """
        if "pigments" in self.cells[0]:
            return label_matrix(self._names("pigments"), card)
        present, absent = map(self._names, PRESENCE_COLUMNS)
        for line, yes, no in zip(self.lines, present, absent, strict=True):
            if both := sorted({*yes} & {*no}):
                raise TrainingError(
                    f"Cannot use line {line} of {self.path}: it calls {', '.join(both)} both present and absent. "
                    "Keep one of the two."
                )
        return presence_matrix(present, absent, card)

    def _names(self, column: str) -> list[list[str]]:
        texts = [cells.get(column, "") for cells in self.cells]
        return [[each.strip() for each in _BETWEEN_PIGMENTS.split(text) if each.strip()] for text in texts]

    def structures(self) -> NDArray[np.int64] | None:
        """Return (n,) numbers, equal for equal structures, a new one for an empty cell; None without such a column."""
        if "structure" not in self.cells[0]:
            return None
        named = [row["structure"] or f"line {line}" for row, line in zip(self.cells, self.lines, strict=True)]
        return np.unique(np.array(named), return_inverse=True)[1].astype(np.int64)

    def refuse_repeats(self, places: Sequence[object]) -> None:
        """Raise a TrainingError where two rows are of the same place."""
        first: dict[object, int] = {}
        for place, line in zip(places, self.lines, strict=True):
            if place in first:
                raise TrainingError(
                    f"Cannot use line {line} of {self.path}: it speaks of the same spectrum as line {first[place]}. "
                    "Keep one of them, with all its pigments."
                )
            first[place] = line


def read_label_table(path: Path) -> LabelTable:
    """Read a CSV file of labels, separated by commas or, as some spreadsheets write it, by semicolons.

    Raises
    ------
    TrainingError
        The file cannot be read, lacks a column, holds no row, or has a row that does not fit its first line.
    """
    try:
        text = read_bounded(path, MAX_TABLE_BYTES, TrainingError).decode("utf-8-sig")
        rows = list(_rows(text))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(
            f"Cannot read the table of labels {path}: {error}. It must be a CSV file in UTF-8."
        ) from error
    header = rows[0][1] if rows else []
    names = tuple(name.strip().lower() for name in header)
    _check_header(names, n_row=len(rows) - 1, path=path)
    for line, row in rows[1:]:
        _check_row(row, line, names, path)
    cells = tuple(dict(zip(names, (cell.strip() for cell in row), strict=True)) for _, row in rows[1:])
    return LabelTable(path, tuple(line for line, _ in rows[1:]), cells)


def label_matrix(present: Sequence[Sequence[str]], card: ModelCard) -> NDArray[np.uint8]:
    """Labels of spectra as a network answers them.

    Parameters
    ----------
    present : sequence of n sequences of str
        Pigments of each spectrum, by the model's names.
    card : ModelCard
        The model.

    Returns
    -------
    (n, n_name) array
        1 for the given names and their groups; 0 for the rest, except unknown labels (:data:`~.library.UNKNOWN`): the
        members of a group given without a member, and the places of a name given without a place.

    Raises
    ------
    TrainingError
        The model does not know a name; the message gives similar ones.
    """
    unknown = sorted({name for names in present for name in names}.difference(card.names))
    if unknown:
        raise TrainingError(_unknown_labels(unknown, card))
    column = {name: index for index, name in enumerate(card.names)}
    members = {
        group: [column[name] for name, groups in zip(card.names, card.groups, strict=True) if group in groups]
        for group, kind in zip(card.names, card.kinds, strict=True)
        if kind == "group"
    }
    labels = np.zeros((len(present), len(card.names)), dtype=np.uint8)
    for row, names in zip(labels, present, strict=True):
        for name in names:
            row[[column[name], *(column[group] for group in card.groups[column[name]] if group in column)]] = 1
        for group in members.keys() & set(names):
            inside = [index for index in members[group] if index != column[group]]
            if not row[inside].any():
                row[inside] = UNKNOWN
    for name, placed in _placed(card).items():
        labels[:, column[name]] = np.where((labels[:, placed] == 1).any(axis=1), 1, labels[:, column[name]])
        open_place = (labels[:, [column[name]]] != 0) & (labels[:, placed] == 0)
        labels[:, placed] = np.where(open_place, np.uint8(UNKNOWN), labels[:, placed])
    return labels


def presence_matrix(
    present: Sequence[Sequence[str]], absent: Sequence[Sequence[str]], card: ModelCard
) -> NDArray[np.uint8]:
    """Labels of spectra with some names known to be present, and some known to be absent.

    Parameters
    ----------
    present, absent : sequences of n sequences of str
        The model's names.

    Returns
    -------
    (n, n_name) array
        1 for what is present and the groups that it counts as; 0 for what is absent, with its members and at any place;
        :data:`~.library.UNKNOWN` for the rest.

    Raises
    ------
    TrainingError
        The model does not know a name.
    """
    labels = label_matrix(present, card)
    labels[labels == 0] = UNKNOWN
    label_matrix(absent, card)  # refuses a wrong name
    placed = _placed(card)
    for row, names in zip(labels, absent, strict=True):
        for name in names:
            members = [other for other, groups in zip(card.names, card.groups, strict=True) if name in groups]
            for other in {name, *members}:
                row[[card.names.index(other), *placed.get(other, [])]] = 0
    return labels


def _placed(card: ModelCard) -> dict[str, list[int]]:
    """Return the columns with a place for each of a card's names without one."""
    placed: dict[str, list[int]] = {}
    for index, name in enumerate(card.names):
        material, place = split_place(name)
        if place != "anywhere" and material in card.names:
            placed.setdefault(material, []).append(index)
    return placed


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield each row that is not empty with the line in which it ends."""
    first = text.split("\n", 1)[0]
    reader = csv.reader(text.splitlines(keepends=True), delimiter=";" if ";" in first and "," not in first else ",")
    yield from ((reader.line_num, row) for row in reader if any(cell.strip() for cell in row))


def _check_header(names: tuple[str, ...], *, n_row: int, path: Path) -> None:
    required = FILE_COLUMNS if "file" in names else PIXEL_COLUMNS
    presence = any(name in names for name in PRESENCE_COLUMNS)
    missing = [name for name in required if name not in names and not (presence and name == "pigments")]
    if missing or n_row < 1:
        lack = f"no {', '.join(missing)}" if missing else "no row under its first line"
        raise TrainingError(
            f"Cannot use the table of labels {path}: it has {lack}. The first line names the columns: "
            "row,column,pigments for pixels of a scan, file,pigments for single spectra, and structure where wanted; "
            "present,absent in place of pigments leave open what they do not name; names are parted by ';'."
        )
    if presence and "pigments" in names:
        raise TrainingError(
            f"Cannot use the table of labels {path}: it has the column pigments, by which all else is absent, and "
            f"{', '.join(name for name in PRESENCE_COLUMNS if name in names)}, by which all else is open. Keep one way."
        )
    if len(set(names)) != len(names):
        raise TrainingError(
            f"Cannot use the table of labels {path}: two of its columns have the same name ({', '.join(names)})."
        )


def _check_row(row: list[str], line: int, names: tuple[str, ...], path: Path) -> None:
    if len(row) != len(names):
        raise TrainingError(
            f"Cannot use line {line} of {path}: it has {len(row)} cells, the first line {len(names)} "
            f"({','.join(names)}). Part pigments by ';' inside one cell."
        )


def _unknown_labels(unknown: Sequence[str], card: ModelCard) -> str:
    named = ", ".join(f"{name}{_close_matches(name, card)}" for name in unknown)
    return (
        f"Cannot use the labels {named}: the model does not know them. Rename them, or leave out what the model "
        f"{card.name!r} cannot answer; for a pigment of your own, simulate and train a network with it. "
        f"It knows: {', '.join(card.names)}."
    )


def _close_matches(name: str, card: ModelCard) -> str:
    plain = name.lower().replace(" ", "_").replace("-", "_")
    near = get_close_matches(plain, card.names, n=3, cutoff=_LIKENESS)
    near += [other for other in card.names if plain in other and other not in near][: 3 - len(near)]
    return f" (near: {', '.join(near)})" if near else ""
