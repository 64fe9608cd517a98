"""A user's mock-ups in place of the virtual ones: a folder of spectra, or a scan, and a table of labels."""

from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underpaint.data import XU_NETWORK_AXIS, EnergyAxis
from underpaint.errors import TrainingError
from underpaint.lab.reproduction.mockups import INSTRUMENT, Mockups, make_mockups
from underpaint.lab.reproduction.plan import Plan
from underpaint.lab.training import labelled
from underpaint.lab.training.label_table import LabelTable, read_label_table
from underpaint.physics.instrument import load_instrument
from underpaint.pigments.weights import ModelAxis, load_card

FEWEST = 50
"""Minimum number of spectra, of which a fifth is used for fine-tuning."""


def get_mockups(plan: Plan, axis: EnergyAxis = XU_NETWORK_AXIS) -> Mockups:
    """Return the plan's measured mock-ups, or the virtual ones by default."""
    if plan.mockups is None or plan.labels is None:
        return make_mockups(plan, axis)
    return read_mockups(plan.mockups, plan.labels, axis)


def read_mockups(location: str | Path, table: str | Path, axis: EnergyAxis = XU_NETWORK_AXIS) -> Mockups:
    """Read measured mock-ups.

    Parameters
    ----------
    location : str or Path
        A folder of single spectra, or a scan, with energy axes.
    table : str or Path
        CSV file as fine-tuning takes it (``file`` or ``row`` and ``column``; ``pigments`` by the paper's eleven names),
        with ``top`` and ``bottom`` for the paints of a structure, or ``structure`` alone, and, where it is known,
        ``thickness_um`` of the top.
    axis : EnergyAxis
        The channels to bring the spectra to.

    Raises
    ------
    TrainingError
        The table lacks a column, names a pigment that is not an output of the paper's network, or has too few rows.
    ScanError, CalibrationError, CoverageError
        The spectra cannot be read, have no energy axis, or do not cover the paper's.
    """
    rows = read_label_table(Path(table))
    card = load_card("xu2022")
    model_axis = ModelAxis(start_kev=round(axis.start_kev, 9), bin_kev=axis.gain_kev, n_bin=axis.n_channel)
    library = labelled(location, table, card.model_copy(update={"axis": model_axis}))
    if len(library) < FEWEST:
        raise TrainingError(
            f"Cannot reproduce with {len(library)} labelled spectra: a fifth of them fine-tunes, and at least {FEWEST} "
            "are needed."
        )
    top, bottom = _structures(rows)
    return Mockups(
        counts=library.spectra,
        top=top,
        bottom=bottom,
        top_um=_thickness(rows),
        pigments=tuple(tuple(np.asarray(library.names)[row == 1].tolist()) for row in library.labels),
        instrument=load_instrument(INSTRUMENT),
        axis=axis,
    )


def _structures(rows: LabelTable) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    has = rows.cells[0]
    if "top" in has and "bottom" in has:
        return np.asarray(rows.column("top")), np.asarray(rows.column("bottom"))
    if "structure" in has:
        return np.asarray(rows.column("structure")), np.full(len(rows.cells), "")
    raise TrainingError(
        f"Cannot hold structures out with {rows.path}: it says which paints lie where in neither the columns top and "
        "bottom nor structure. Add them."
    )


def _thickness(rows: LabelTable) -> NDArray[np.float64]:
    """Return (n,) um; NaN if unknown."""
    if "thickness_um" not in rows.cells[0]:
        return np.full(len(rows.cells), np.nan)
    return np.asarray(
        [_um(text, line, rows) for line, text in zip(rows.lines, rows.column("thickness_um"), strict=True)]
    )


def _um(text: str, line: int, rows: LabelTable) -> float:
    if not text:
        return np.nan
    try:
        value = float(text)
    except ValueError:
        value = np.nan
    if not 0.0 < value < np.inf:
        raise TrainingError(
            f"Cannot use line {line} of {rows.path}: thickness_um is {text!r}. Give a number above 0, in um, or leave "
            "the cell empty."
        )
    return value


def fingerprint(mockups: Mockups) -> str:
    """Return a digest of the spectra, labels and thicknesses of measured mock-ups."""
    digest = sha256(mockups.counts.tobytes())
    for part in (mockups.top.tolist(), mockups.bottom.tolist(), mockups.top_um.tolist(), mockups.pigments):
        digest.update(repr(part).encode())
    return digest.hexdigest()
