"""Writing and reading of the table of paints, in ``results.h5`` and as CSV."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from underpaint.data.maps import STATES, Results
from underpaint.data.paint_areas import PaintArea
from underpaint.io.results.csv_text import write_csv

PAINTS_FILE, PAINT_MAP = "paints.csv", "paint.tif"
TABLE_COLUMNS = ("paint", "pixels", "share_percent", "area_mm2", "counts", "groups", "lines_counts", "layers")


def table_rows(areas: Sequence[PaintArea], results: Results) -> list[list[Any]]:
    """Return one row of cells per paint, with the columns of :data:`TABLE_COLUMNS`."""
    return [
        [
            area.number,
            area.n_pixel,
            f"{100 * area.share:.4g}",
            "" if area.area_mm2 is None else f"{area.area_mm2:.6g}",
            "" if area.spectrum is None else f"{area.spectrum.sum():.0f}",
            "; ".join(
                f"{results.short_label(name)}: {STATES[group_state]}" for name, group_state in area.groups.items()
            ),
            "; ".join(f"{name} {counts:.6g}" for name, counts in area.lines.items()),
            " ".join(area.stratigraphy),
        ]
        for area in areas
    ]


def write_paint_table(path: Path, results: Results) -> None:
    """Write the table of the paints as a CSV file."""
    with path.open("w", newline="", encoding="utf-8") as stream:
        write_csv(stream, [TABLE_COLUMNS, *table_rows(results.paints, results)])


def write_areas(process: Any, areas: Sequence[PaintArea]) -> None:
    """Write the table of the paints into an HDF5 group, with their summed spectra if known."""
    process["areas"] = json.dumps([area.record() for area in areas], ensure_ascii=False)
    process["areas"].attrs["type"] = "application/json"
    if areas and all(area.spectrum is not None for area in areas):
        process["spectra"] = np.stack([area.spectrum for area in areas if area.spectrum is not None])
        process["spectra"].attrs.update({"units": "counts", "long_name": "summed spectrum of each paint"})


def read_areas(process: Any) -> list[PaintArea]:
    """Read the paints that :func:`write_areas` has written."""
    area_records = json.loads(process["areas"].asstr()[()])
    spectra = np.asarray(process["spectra"][()]) if "spectra" in process else [None] * len(area_records)
    return [
        PaintArea.from_record(
            {**area_record, "groups": {name: int(group_state) for name, group_state in area_record["groups"].items()}},
            spectrum,
        )
        for area_record, spectrum in zip(area_records, spectra, strict=True)
    ]
