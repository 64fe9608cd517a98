"""Measured mock-ups of a user, which replace the virtual mock-ups.

The mock-ups are read from a folder of spectra or a scan, and from a table of labels.
"""

from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underpaint.data import XU_NETWORK_AXIS, EnergyAxis
from underpaint.errors import TrainingError
from underpaint.lab.reproduction.mockups import INSTRUMENT, Mockups, make_mockups
from underpaint.lab.reproduction.plan import Plan
from underpaint.lab.training import labelled_library
from underpaint.lab.training.label_table import LabelTable, read_label_table
from underpaint.physics.instrument import load_instrument
from underpaint.pigments.weights import ModelAxis, load_card

MIN_SPECTRA = 50
"""Minimum number of mock-up spectra, of which a fifth is used for fine-tuning."""


def get_mockups(plan: Plan, axis: EnergyAxis = XU_NETWORK_AXIS) -> Mockups:
    """Return the measured mock-ups of a plan, or virtual mock-ups if it has none."""
    if plan.mockups is None or plan.labels is None:
        return make_mockups(plan, axis)
    return read_mockups(plan.mockups, plan.labels, axis)


def read_mockups(location: str | Path, label_path: str | Path, axis: EnergyAxis = XU_NETWORK_AXIS) -> Mockups:
    """Read measured mock-ups and their labels.

    Parameters
    ----------
    location : str or Path
        Folder of single spectra, or a scan. The spectra must have energy axes.
    label_path : str or Path
        CSV file with the column ``file``, or with ``row`` and ``column``. The column ``pigments`` has the paper's
        eleven names. The columns ``top`` and ``bottom`` name the paints of a structure. The column ``structure`` can
        replace ``top`` and ``bottom``. The column ``thickness_um``, the thickness of the top, is optional.
    axis : EnergyAxis
        Channels to which the spectra are rebinned.

    Raises
    ------
    TrainingError
        The table lacks a column, names a pigment that is not an output of the paper's network, or has too few rows.
    ScanError, CalibrationError, CoverageError
        The spectra cannot be read, have no energy axis, or do not cover the energies of ``axis``.
    """
    label_table = read_label_table(Path(label_path))
    model_card = load_card("xu2022")
    model_axis = ModelAxis(start_kev=round(axis.start_kev, 9), bin_kev=axis.gain_kev, n_bin=axis.n_channel)
    library = labelled_library(location, label_path, model_card.model_copy(update={"axis": model_axis}))
    if len(library) < MIN_SPECTRA:
        raise TrainingError(
            f"Cannot reproduce with {len(library)} labelled spectra: at least {MIN_SPECTRA} are needed, of which a "
            "fifth is used for fine-tuning."
        )
    top_paints, bottom_paints = _top_and_bottom(label_table)
    return Mockups(
        counts=library.spectra,
        top=top_paints,
        bottom=bottom_paints,
        top_um=_top_thickness_um(label_table),
        pigments=tuple(tuple(np.asarray(library.names)[label_row == 1].tolist()) for label_row in library.labels),
        instrument=load_instrument(INSTRUMENT),
        axis=axis,
    )


def _top_and_bottom(label_table: LabelTable) -> tuple[NDArray[np.str_], NDArray[np.str_]]:
    column_names = label_table.cells[0]
    if "top" in column_names and "bottom" in column_names:
        return np.asarray(label_table.column("top")), np.asarray(label_table.column("bottom"))
    if "structure" in column_names:
        return np.asarray(label_table.column("structure")), np.full(len(label_table.cells), "")
    raise TrainingError(
        f"Cannot hold out structures: {label_table.path} has neither the columns top and bottom nor the column "
        "structure. Add top and bottom, or structure."
    )


def _top_thickness_um(label_table: LabelTable) -> NDArray[np.float64]:
    """Return the (n,) thickness of the top, in um. Unknown values are NaN."""
    if "thickness_um" not in label_table.cells[0]:
        return np.full(len(label_table.cells), np.nan)
    return np.asarray(
        [
            _thickness_um(cell_text, line_number, label_table)
            for line_number, cell_text in zip(label_table.line_numbers, label_table.column("thickness_um"), strict=True)
        ]
    )


def _thickness_um(cell_text: str, line_number: int, label_table: LabelTable) -> float:
    if not cell_text:
        return np.nan
    try:
        thickness_um = float(cell_text)
    except ValueError:
        thickness_um = np.nan
    if not 0.0 < thickness_um < np.inf:
        raise TrainingError(
            f"Cannot use line {line_number} of {label_table.path}: thickness_um is {cell_text!r}. Give a number above "
            "0, in um, or leave the cell empty."
        )
    return thickness_um


def mockup_digest(mockups: Mockups) -> str:
    """Return a digest of the spectra, labels and thicknesses of measured mock-ups."""
    digest = sha256(mockups.counts.tobytes())
    for label_values in (mockups.top.tolist(), mockups.bottom.tolist(), mockups.top_um.tolist(), mockups.pigments):
        digest.update(repr(label_values).encode())
    return digest.hexdigest()
