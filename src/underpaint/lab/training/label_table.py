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
"""Columns of which one or both can replace ``pigments``. Names in neither column are unknown."""
_PIGMENT_SEPARATORS = re.compile(r"[;,+]")
_MIN_NAME_SIMILARITY = 0.5


@dataclass(frozen=True)
class LabelTable:
    """Table of labels, read from a CSV file.

    Parameters
    ----------
    path : Path
        Path of the CSV file.
    line_numbers : tuple of int
        Line number in the file at which each row ends, for messages.
    cells : tuple of mapping
        Text of each row by column, without surrounding spaces.
    """

    path: Path
    line_numbers: tuple[int, ...]
    cells: tuple[Mapping[str, str], ...]

    @property
    def has_file_column(self) -> bool:
        """Whether rows are files (True) or pixels of one scan (False)."""
        return "file" in self.cells[0]

    def column(self, name: str) -> list[str]:
        """Return the cell texts of one column."""
        return [cell_by_column[name] for cell_by_column in self.cells]

    def labels(self, model_card: ModelCard) -> NDArray[np.uint8]:
        """Return the (n, n_name) labels of the rows for the outputs of a model.

        Raises
        ------
        TrainingError
            A name is not an output of the model, or a row lists a name as both present and absent.
        """
        if "pigments" in self.cells[0]:
            return label_matrix(self._name_lists("pigments"), model_card)
        present_lists, absent_lists = map(self._name_lists, PRESENCE_COLUMNS)
        for line_number, present_names, absent_names in zip(
            self.line_numbers, present_lists, absent_lists, strict=True
        ):
            if contradictory_names := sorted({*present_names} & {*absent_names}):
                raise TrainingError(
                    f"Cannot use line {line_number} of {self.path}: it calls {', '.join(contradictory_names)} both "
                    "present and absent. Keep one of the two."
                )
        return presence_matrix(present_lists, absent_lists, model_card)

    def _name_lists(self, column_name: str) -> list[list[str]]:
        cell_texts = [cell_by_column.get(column_name, "") for cell_by_column in self.cells]
        return [
            [name.strip() for name in _PIGMENT_SEPARATORS.split(cell_text) if name.strip()] for cell_text in cell_texts
        ]

    def structures(self) -> NDArray[np.int64] | None:
        """Return (n,) structure numbers, or None without a structure column. Empty cells get unique numbers."""
        if "structure" not in self.cells[0]:
            return None
        structure_names = [
            cell_by_column["structure"] or f"line {line_number}"
            for cell_by_column, line_number in zip(self.cells, self.line_numbers, strict=True)
        ]
        return np.unique(np.array(structure_names), return_inverse=True)[1].astype(np.int64)

    def refuse_repeats(self, spectrum_keys: Sequence[object]) -> None:
        """Raise a TrainingError if two rows have the same pixel or file."""
        line_by_spectrum: dict[object, int] = {}
        for spectrum_key, line_number in zip(spectrum_keys, self.line_numbers, strict=True):
            if spectrum_key in line_by_spectrum:
                raise TrainingError(
                    f"Cannot use line {line_number} of {self.path}: it has the same spectrum as line "
                    f"{line_by_spectrum[spectrum_key]}. Keep one of them, with all its pigments."
                )
            line_by_spectrum[spectrum_key] = line_number


def read_label_table(path: Path) -> LabelTable:
    """Read a CSV file of labels, with commas or semicolons between columns.

    Raises
    ------
    TrainingError
        The file cannot be read, lacks a column, has no row, or has a row that does not match the header.
    """
    try:
        table_text = read_bounded(path, MAX_TABLE_BYTES, TrainingError).decode("utf-8-sig")
        numbered_rows = list(_table_rows(table_text))
    except (UnicodeDecodeError, csv.Error) as error:
        raise TrainingError(
            f"Cannot read the table of labels {path}: {error}. It must be a CSV file in UTF-8."
        ) from error
    header_cells = numbered_rows[0][1] if numbered_rows else []
    column_names = tuple(name.strip().lower() for name in header_cells)
    _check_header(column_names, n_row=len(numbered_rows) - 1, path=path)
    for line_number, row_cells in numbered_rows[1:]:
        _check_row(row_cells, line_number, column_names, path)
    cells = tuple(
        dict(zip(column_names, (cell_text.strip() for cell_text in row_cells), strict=True))
        for _, row_cells in numbered_rows[1:]
    )
    return LabelTable(path, tuple(line_number for line_number, _ in numbered_rows[1:]), cells)


def label_matrix(present_lists: Sequence[Sequence[str]], model_card: ModelCard) -> NDArray[np.uint8]:
    """Return the labels of spectra for the outputs of a network.

    Parameters
    ----------
    present_lists : sequence of n sequences of str
        Pigments of each spectrum, as names of outputs.
    model_card : ModelCard
        Model card of the network.

    Returns
    -------
    (n, n_name) array
        1 for the given names and their groups, else 0.
        If a group is given without a member, its members are :data:`~.library.UNKNOWN`.
        If a name is given without a place, its outputs with a place are :data:`~.library.UNKNOWN`.

    Raises
    ------
    TrainingError
        A name is not an output of the network. The message lists similar outputs.
    """
    unknown_names = sorted(
        {name for present_names in present_lists for name in present_names}.difference(model_card.names)
    )
    if unknown_names:
        raise TrainingError(_unknown_labels_message(unknown_names, model_card))
    column_by_name = {name: output_index for output_index, name in enumerate(model_card.names)}
    member_columns_by_group = {
        group: [
            column_by_name[name]
            for name, groups in zip(model_card.names, model_card.groups, strict=True)
            if group in groups
        ]
        for group, output_kind in zip(model_card.names, model_card.kinds, strict=True)
        if output_kind == "group"
    }
    labels = np.zeros((len(present_lists), len(model_card.names)), dtype=np.uint8)
    for row_labels, present_names in zip(labels, present_lists, strict=True):
        for name in present_names:
            row_labels[
                [
                    column_by_name[name],
                    *(
                        column_by_name[group]
                        for group in model_card.groups[column_by_name[name]]
                        if group in column_by_name
                    ),
                ]
            ] = 1
        for group in member_columns_by_group.keys() & set(present_names):
            member_columns = [
                output_index for output_index in member_columns_by_group[group] if output_index != column_by_name[group]
            ]
            if not row_labels[member_columns].any():
                row_labels[member_columns] = UNKNOWN
    for name, place_columns in _columns_by_place(model_card).items():
        labels[:, column_by_name[name]] = np.where(
            (labels[:, place_columns] == 1).any(axis=1), 1, labels[:, column_by_name[name]]
        )
        is_place_unknown = (labels[:, [column_by_name[name]]] != 0) & (labels[:, place_columns] == 0)
        labels[:, place_columns] = np.where(is_place_unknown, np.uint8(UNKNOWN), labels[:, place_columns])
    return labels


def presence_matrix(
    present_lists: Sequence[Sequence[str]], absent_lists: Sequence[Sequence[str]], model_card: ModelCard
) -> NDArray[np.uint8]:
    """Convert lists of present and of absent names to the labels of spectra.

    Parameters
    ----------
    present_lists, absent_lists : sequences of n sequences of str
        Names of outputs for each spectrum.

    Returns
    -------
    (n, n_name) array
        1 for present names and their groups. 0 for absent names, their members and their outputs with a place.
        All other labels are :data:`~.library.UNKNOWN`.

    Raises
    ------
    TrainingError
        A name is not an output of the network.
    """
    labels = label_matrix(present_lists, model_card)
    labels[labels == 0] = UNKNOWN
    label_matrix(absent_lists, model_card)  # raises an error for a name that is no output
    place_columns = _columns_by_place(model_card)
    for row_labels, absent_names in zip(labels, absent_lists, strict=True):
        for name in absent_names:
            members = [
                related_name
                for related_name, groups in zip(model_card.names, model_card.groups, strict=True)
                if name in groups
            ]
            for related_name in {name, *members}:
                row_labels[[model_card.names.index(related_name), *place_columns.get(related_name, [])]] = 0
    return labels


def _columns_by_place(model_card: ModelCard) -> dict[str, list[int]]:
    """Return the columns of the outputs with a place, for each name that is also an output without a place."""
    place_columns: dict[str, list[int]] = {}
    for place_column, name in enumerate(model_card.names):
        material, spectrum_key = split_place(name)
        if spectrum_key != "anywhere" and material in model_card.names:
            place_columns.setdefault(material, []).append(place_column)
    return place_columns


def _table_rows(table_text: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the line number and the cells of each nonempty row."""
    first_line = table_text.split("\n", 1)[0]
    csv_reader = csv.reader(
        table_text.splitlines(keepends=True), delimiter=";" if ";" in first_line and "," not in first_line else ","
    )
    yield from (
        (csv_reader.line_num, row_cells)
        for row_cells in csv_reader
        if any(cell_text.strip() for cell_text in row_cells)
    )


def _check_header(column_names: tuple[str, ...], *, n_row: int, path: Path) -> None:
    required_columns = FILE_COLUMNS if "file" in column_names else PIXEL_COLUMNS
    has_presence_columns = any(name in column_names for name in PRESENCE_COLUMNS)
    missing_columns = [
        name
        for name in required_columns
        if name not in column_names and not (has_presence_columns and name == "pigments")
    ]
    if missing_columns or n_row < 1:
        table_fault = f"no {', '.join(missing_columns)}" if missing_columns else "no row under its first line"
        raise TrainingError(
            f"Cannot use the table of labels {path}: it has {table_fault}. The first line names the columns: "
            "row,column,pigments for pixels of a scan, or file,pigments for single spectra, and optionally structure. "
            "The columns present and absent can replace pigments; all other names are then unknown. Separate names by "
            "';'."
        )
    if has_presence_columns and "pigments" in column_names:
        raise TrainingError(
            f"Cannot use the table of labels {path}: with the column pigments, all other names are absent, but with "
            f"{', '.join(name for name in PRESENCE_COLUMNS if name in column_names)} they are unknown. "
            "Keep one of the two."
        )
    if len(set(column_names)) != len(column_names):
        raise TrainingError(
            f"Cannot use the table of labels {path}: two of its columns have the same name ({', '.join(column_names)})."
        )


def _check_row(row_cells: list[str], line_number: int, column_names: tuple[str, ...], path: Path) -> None:
    if len(row_cells) != len(column_names):
        raise TrainingError(
            f"Cannot use line {line_number} of {path}: it has {len(row_cells)} cells, the first line "
            f"{len(column_names)} ({','.join(column_names)}). Separate pigments by ';' inside one cell."
        )


def _unknown_labels_message(unknown_names: Sequence[str], model_card: ModelCard) -> str:
    names_with_matches = ", ".join(f"{name}{_close_matches(name, model_card)}" for name in unknown_names)
    return (
        f"Cannot use the labels {names_with_matches}: they are no outputs of the model {model_card.name!r}. Rename or "
        "remove them, or train a network with these pigments. Outputs of the model are "
        f"{', '.join(model_card.names)}."
    )


def _close_matches(name: str, model_card: ModelCard) -> str:
    normalised_name = name.lower().replace(" ", "_").replace("-", "_")
    similar_names = get_close_matches(normalised_name, model_card.names, n=3, cutoff=_MIN_NAME_SIMILARITY)
    similar_names += [
        output_name
        for output_name in model_card.names
        if normalised_name in output_name and output_name not in similar_names
    ][: 3 - len(similar_names)]
    return f" (near: {', '.join(similar_names)})" if similar_names else ""
