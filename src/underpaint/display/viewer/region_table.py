"""Table of the mean and standard error of each map in each region, and of differences between two regions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import PRESENT_PROBABILITY
from underpaint.io.results.result_maps import ResultMaps

Mask = NDArray[np.bool_]
PROBABILITY_KINDS = {"group", "member"}
_CATEGORY_KINDS = {"state", "cluster"}


@dataclass(frozen=True)
class Cell:
    """Mean of a map in a region.

    Parameters
    ----------
    value, error : float
        Mean and its standard error. For a probability map, the fraction of pixels above one half replaces the mean.
        Value and error are NaN if no pixel has an answer.
    n : int
        Number of pixels with an answer.
    """

    value: float
    error: float
    n: int


@dataclass(frozen=True)
class Row:
    """Means of a map in all regions.

    Parameters
    ----------
    map : int
        Index of the map.
    cells : list of Cell
        Mean in each region.
    """

    map: int
    cells: list[Cell]


def region_table(maps: ResultMaps, masks: Sequence[Mask]) -> list[Row]:
    """Return a row of means for each map, except for maps of categories.

    Parameters
    ----------
    maps : ResultMaps
    masks : sequence of (n_row, n_column) bool arrays
    """
    rows = []
    for number, entry in enumerate(maps.entries):
        if entry.kind in _CATEGORY_KINDS:
            continue
        values = maps.values(number)
        errors = None if entry.kind in PROBABILITY_KINDS else maps.errors(number)
        is_probability = entry.kind in PROBABILITY_KINDS
        cells = [
            _mean_cell(values[mask], None if errors is None else errors[mask], is_probability=is_probability)
            for mask in masks
        ]
        rows.append(Row(number, cells))
    return rows


def difference(first_cell: Cell, second_cell: Cell) -> tuple[float, float]:
    """Return the difference of two means, and this difference divided by its standard error.

    The standard errors include the variation between the pixels of each region. Neighbouring pixels are correlated, so
    a difference below three standard errors is not significant.
    """
    difference_error = math.hypot(first_cell.error, second_cell.error)
    mean_difference = first_cell.value - second_cell.value
    return mean_difference, mean_difference / difference_error if difference_error > 0 else math.nan


def json_row(row: Row) -> dict[str, Any]:
    """Return a row as a dictionary for JSON."""
    return {"map": row.map, "cells": [[cell.value, cell.error, cell.n] for cell in row.cells]}


def table_rows(maps: ResultMaps, region_names: Sequence[str], rows: Sequence[Row]) -> list[list[Any]]:
    """Return the rows of a CSV file. For two regions, each row includes the difference and its significance."""
    region_titles = [
        f"{name}: {quantity_name}" for name in region_names for quantity_name in ("value", "standard_error", "pixels")
    ]
    has_two_regions = len(region_names) == 2
    difference_titles = ["difference", "difference_in_standard_errors"] if has_two_regions else []
    csv_rows: list[list[Any]] = [["kind", "name", "label", "quantity", "unit", *region_titles, *difference_titles]]
    for row in rows:
        entry = maps.entries[row.map]
        quantity = "share over one half" if entry.kind in PROBABILITY_KINDS else "mean"
        region_cells = [_number_text(number) for cell in row.cells for number in (cell.value, cell.error, cell.n)]
        difference_cells = (
            [_number_text(number) for number in difference(row.cells[0], row.cells[1])] if has_two_regions else []
        )
        csv_rows.append([entry.kind, entry.name, entry.label, quantity, entry.unit, *region_cells, *difference_cells])
    return csv_rows


def _number_text(numeric_value: float) -> str:
    return f"{numeric_value:.6g}" if math.isfinite(numeric_value) else ""


def _mean_cell(values: NDArray[np.float32], errors: NDArray[np.float32] | None, *, is_probability: bool) -> Cell:
    has_value = np.isfinite(values)
    n_answer = int(has_value.sum())
    if not n_answer:
        return Cell(math.nan, math.nan, 0)
    region_values = values[has_value].astype(np.float64)
    if is_probability:
        n_present = int((region_values > PRESENT_PROBABILITY).sum())
        # Laplace smoothing gives fractions of 0 and 1 a standard error above zero
        smoothed_fraction = (n_present + 1) / (n_answer + 2)
        return Cell(n_present / n_answer, math.sqrt(smoothed_fraction * (1 - smoothed_fraction) / n_answer), n_answer)
    counting_error = (
        0.0
        if errors is None
        else math.sqrt(float(np.nansum(np.square(errors[has_value], dtype=np.float64)))) / n_answer
    )
    standard_error = float(region_values.std(ddof=1)) / math.sqrt(n_answer) if n_answer > 1 else 0.0
    return Cell(float(region_values.mean()), max(counting_error, standard_error), n_answer)
