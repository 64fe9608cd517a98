"""Table of the means of all maps in each region, with standard errors, and the difference of two regions."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import PRESENT_PROBABILITY
from underpaint.io.results.result_maps import ResultMaps

Mask = NDArray[np.bool_]
PROBABILITIES = {"group", "member"}
_NOT_NUMBERS = {"state", "cluster"}


@dataclass(frozen=True)
class Cell:
    """A map in a region.

    Parameters
    ----------
    value, error : float
        Mean and its standard error; of a probability, the share of pixels over one half. NaN where no pixel has an
        answer.
    n : int
        Pixels with an answer.
    """

    value: float
    error: float
    n: int


@dataclass(frozen=True)
class Row:
    """A map in all regions.

    Parameters
    ----------
    map : int
        Its number.
    cells : list of Cell
        One a region.
    """

    map: int
    cells: list[Cell]


def region_table(maps: ResultMaps, masks: Sequence[Mask]) -> list[Row]:
    """Return a row for each map whose values can be averaged.

    Parameters
    ----------
    maps : ResultMaps
    masks : sequence of (n_row, n_column) bool arrays
    """
    rows = []
    for number, entry in enumerate(maps.entries):
        if entry.kind in _NOT_NUMBERS:
            continue
        values = maps.values(number)
        errors = None if entry.kind in PROBABILITIES else maps.errors(number)
        share = entry.kind in PROBABILITIES
        cells = [_cell(values[mask], None if errors is None else errors[mask], share=share) for mask in masks]
        rows.append(Row(number, cells))
    return rows


def difference(first: Cell, second: Cell) -> tuple[float, float]:
    """Return the difference of two cells, and how many of its standard errors it is.

    The errors include the spread of the pixels within each region. Neighbouring pixels are alike, so that a difference
    of fewer than three standard errors means little.
    """
    error = math.hypot(first.error, second.error)
    change = first.value - second.value
    return change, change / error if error > 0 else math.nan


def plain(row: Row) -> dict[str, Any]:
    """Return a row for the page."""
    return {"map": row.map, "cells": [[cell.value, cell.error, cell.n] for cell in row.cells]}


def table_rows(maps: ResultMaps, names: Sequence[str], rows: Sequence[Row]) -> list[list[Any]]:
    """Return the lines of a CSV file; with two regions also their difference and its significance."""
    heads = [f"{name}: {what}" for name in names for what in ("value", "standard_error", "pixels")]
    two = len(names) == 2
    extra = ["difference", "difference_in_standard_errors"] if two else []
    lines: list[list[Any]] = [["kind", "name", "label", "quantity", "unit", *heads, *extra]]
    for row in rows:
        entry = maps.entries[row.map]
        quantity = "share over one half" if entry.kind in PROBABILITIES else "mean"
        numbers = [_text(number) for cell in row.cells for number in (cell.value, cell.error, cell.n)]
        change = [_text(number) for number in difference(row.cells[0], row.cells[1])] if two else []
        lines.append([entry.kind, entry.name, entry.label, quantity, entry.unit, *numbers, *change])
    return lines


def _text(number: float) -> str:
    return f"{number:.6g}" if math.isfinite(number) else ""


def _cell(values: NDArray[np.float32], errors: NDArray[np.float32] | None, *, share: bool) -> Cell:
    has_value = np.isfinite(values)
    n = int(has_value.sum())
    if not n:
        return Cell(math.nan, math.nan, 0)
    region_values = values[has_value].astype(np.float64)
    if share:
        n_present = int((region_values > PRESENT_PROBABILITY).sum())
        # Laplace smoothing, so that fractions of 0 and 1 have an error, too
        smoothed_fraction = (n_present + 1) / (n + 2)
        return Cell(n_present / n, math.sqrt(smoothed_fraction * (1 - smoothed_fraction) / n), n)
    counting_error = (
        0.0 if errors is None else math.sqrt(float(np.nansum(np.square(errors[has_value], dtype=np.float64)))) / n
    )
    standard_error = float(region_values.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    return Cell(float(region_values.mean()), max(counting_error, standard_error), n)
