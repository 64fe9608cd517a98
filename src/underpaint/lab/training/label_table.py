"""Tables of labels: CSV files with the known pigments of pixels or files."""

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
"""Columns that replace ``pigments``; one is enough. Names in neither column are unknown."""
_PIGMENT_SEPARATORS = re.compile(r"[;,+]")
_MIN_SIMILARITY = 0.5


@dataclass(frozen=True)
class LabelTable:
    """Rows of a table of labels.

    Parameters
    ----------
    path : Path
        Path of the CSV file.
    lines : tuple of int
        Line number in the file at which each row ends, for messages.
    cells : tuple of mapping
        Text of each row by column, without surrounding spaces.
    """

    path: Path
    lines: tuple[int, ...]
    cells: tuple[Mapping[str, str], ...]

    @property
    def names_files(self) -> bool:
        """Whether rows are files (True) or pixels of one scan (False)."""
        return "file" in self.cells[0]

    def column(self, name: str) -> list[str]:
        """Return the text of one column."""
        return [row[name] for row in self.cells]

    def labels(self, model_card: ModelCard) -> NDArray[np.uint8]:
        """Return the (n, n_name) labels of the rows for the outputs of a model.

        Raises
        ------
        TrainingError
            A name is no output of the model, or a row calls a name both present and absent.
        """
        if "pigments" in self.cells[0]:
            return label_matrix(self._name_lists("pigments"), model_card)
        present_lists, absent_lists = map(self._name_lists, PRESENCE_COLUMNS)
        for line, present_names, absent_names in zip(self.lines, present_lists, absent_lists, strict=True):
            if contradictory_names := sorted({*present_names} & {*absent_names}):
                raise TrainingError(
                    f"Cannot use line {line} of {self.path}: it calls {', '.join(contradictory_names)} both present "
                    "and absent. Keep one of the two."
                )
        return presence_matrix(present_lists, absent_lists, model_card)

    def _name_lists(self, column: str) -> list[list[str]]:
        texts = [cells.get(column, "") for cells in self.cells]
        return [[name.strip() for name in _PIGMENT_SEPARATORS.split(text) if name.strip()] for text in texts]

    def structures(self) -> NDArray[np.int64] | None:
        """Return the (n,) number of each row's structure; empty cells have unique numbers. None without the column."""
        if "structure" not in self.cells[0]:
            return None
        structure_names = [row["structure"] or f"line {line}" for row, line in zip(self.cells, self.lines, strict=True)]
        return np.unique(np.array(structure_names), return_inverse=True)[1].astype(np.int64)

    def refuse_repeats(self, places: Sequence[object]) -> None:
        """Raise a TrainingError if two rows have the same pixel or file."""
        line_by_place: dict[object, int] = {}
        for place, line in zip(places, self.lines, strict=True):
            if place in line_by_place:
                raise TrainingError(
                    f"Cannot use line {line} of {self.path}: it has the same spectrum as line {line_by_place[place]}. "
                    "Keep one of them, with all its pigments."
                )
            line_by_place[place] = line


def read_label_table(path: Path) -> LabelTable:
    """Read a CSV file of labels, separated by commas or semicolons.

    Raises
    ------
    TrainingError
        The file cannot be read, lacks a column, has no row, or has a row that does not match the header.
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


def label_matrix(present: Sequence[Sequence[str]], model_card: ModelCard) -> NDArray[np.uint8]:
    """Return the labels of spectra for the outputs of a network.

    Parameters
    ----------
    present : sequence of n sequences of str
        Pigments of each spectrum, as names of outputs.
    model_card : ModelCard
        Model card of the network.

    Returns
    -------
    (n, n_name) array
        1 for the given names and their groups, else 0. Unknown (:data:`~.library.UNKNOWN`) are the members of a group
        that is given without a member, and the places of a name that is given without a place.

    Raises
    ------
    TrainingError
        A name is no output of the network; the message lists similar outputs.
    """
    unknown_names = sorted({name for names in present for name in names}.difference(model_card.names))
    if unknown_names:
        raise TrainingError(_unknown_labels(unknown_names, model_card))
    column_by_name = {name: index for index, name in enumerate(model_card.names)}
    members = {
        group: [
            column_by_name[name]
            for name, groups in zip(model_card.names, model_card.groups, strict=True)
            if group in groups
        ]
        for group, kind in zip(model_card.names, model_card.kinds, strict=True)
        if kind == "group"
    }
    labels = np.zeros((len(present), len(model_card.names)), dtype=np.uint8)
    for row, names in zip(labels, present, strict=True):
        for name in names:
            row[
                [
                    column_by_name[name],
                    *(
                        column_by_name[group]
                        for group in model_card.groups[column_by_name[name]]
                        if group in column_by_name
                    ),
                ]
            ] = 1
        for group in members.keys() & set(names):
            member_columns = [index for index in members[group] if index != column_by_name[group]]
            if not row[member_columns].any():
                row[member_columns] = UNKNOWN
    for name, place_columns in _columns_by_place(model_card).items():
        labels[:, column_by_name[name]] = np.where(
            (labels[:, place_columns] == 1).any(axis=1), 1, labels[:, column_by_name[name]]
        )
        is_place_unknown = (labels[:, [column_by_name[name]]] != 0) & (labels[:, place_columns] == 0)
        labels[:, place_columns] = np.where(is_place_unknown, np.uint8(UNKNOWN), labels[:, place_columns])
    return labels


def presence_matrix(
    present: Sequence[Sequence[str]], absent: Sequence[Sequence[str]], model_card: ModelCard
) -> NDArray[np.uint8]:
    """Return the labels of spectra in which some names are known to be present, and some to be absent.

    Parameters
    ----------
    present, absent : sequences of n sequences of str
        Names of outputs for each spectrum.

    Returns
    -------
    (n, n_name) array
        1 for present names and their groups; 0 for absent names, their members, and all their places;
        :data:`~.library.UNKNOWN` for all others.

    Raises
    ------
    TrainingError
        A name is no output of the network.
    """
    labels = label_matrix(present, model_card)
    labels[labels == 0] = UNKNOWN
    label_matrix(absent, model_card)  # raises an error for a wrong name
    place_columns = _columns_by_place(model_card)
    for row, names in zip(labels, absent, strict=True):
        for name in names:
            members = [
                related_name
                for related_name, groups in zip(model_card.names, model_card.groups, strict=True)
                if name in groups
            ]
            for related_name in {name, *members}:
                row[[model_card.names.index(related_name), *place_columns.get(related_name, [])]] = 0
    return labels


def _columns_by_place(model_card: ModelCard) -> dict[str, list[int]]:
    """Return, for each output without a place, the columns of the same name with a place."""
    place_columns: dict[str, list[int]] = {}
    for index, name in enumerate(model_card.names):
        material, place = split_place(name)
        if place != "anywhere" and material in model_card.names:
            place_columns.setdefault(material, []).append(index)
    return place_columns


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the cells of each row that is not empty."""
    first_line = text.split("\n", 1)[0]
    reader = csv.reader(
        text.splitlines(keepends=True), delimiter=";" if ";" in first_line and "," not in first_line else ","
    )
    yield from ((reader.line_num, row) for row in reader if any(cell.strip() for cell in row))


def _check_header(names: tuple[str, ...], *, n_row: int, path: Path) -> None:
    required_columns = FILE_COLUMNS if "file" in names else PIXEL_COLUMNS
    has_presence_columns = any(name in names for name in PRESENCE_COLUMNS)
    missing = [
        name for name in required_columns if name not in names and not (has_presence_columns and name == "pigments")
    ]
    if missing or n_row < 1:
        fault = f"no {', '.join(missing)}" if missing else "no row under its first line"
        raise TrainingError(
            f"Cannot use the table of labels {path}: it has {fault}. The first line names the columns: "
            "row,column,pigments for pixels of a scan, or file,pigments for single spectra, and optionally structure. "
            "With present,absent in place of pigments, all other names are unknown. Separate names by ';'."
        )
    if has_presence_columns and "pigments" in names:
        raise TrainingError(
            f"Cannot use the table of labels {path}: with the column pigments all other names are absent, with "
            f"{', '.join(name for name in PRESENCE_COLUMNS if name in names)} they are unknown. Keep one of the two."
        )
    if len(set(names)) != len(names):
        raise TrainingError(
            f"Cannot use the table of labels {path}: two of its columns have the same name ({', '.join(names)})."
        )


def _check_row(row: list[str], line: int, names: tuple[str, ...], path: Path) -> None:
    if len(row) != len(names):
        raise TrainingError(
            f"Cannot use line {line} of {path}: it has {len(row)} cells, the first line {len(names)} "
            f"({','.join(names)}). Separate pigments by ';' inside one cell."
        )


def _unknown_labels(unknown_names: Sequence[str], model_card: ModelCard) -> str:
    names_with_matches = ", ".join(f"{name}{_close_matches(name, model_card)}" for name in unknown_names)
    return (
        f"Cannot use the labels {names_with_matches}: the model does not know them. Rename them, or leave out what "
        f"the model {model_card.name!r} cannot predict; for another pigment, simulate spectra and train a network with "
        f"it. It knows: {', '.join(model_card.names)}."
    )


def _close_matches(name: str, model_card: ModelCard) -> str:
    normalised_name = name.lower().replace(" ", "_").replace("-", "_")
    matches = get_close_matches(normalised_name, model_card.names, n=3, cutoff=_MIN_SIMILARITY)
    matches += [
        output_name for output_name in model_card.names if normalised_name in output_name and output_name not in matches
    ][: 3 - len(matches)]
    return f" (near: {', '.join(matches)})" if matches else ""
