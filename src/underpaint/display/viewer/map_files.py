"""All maps of a result as one file: a stack for image programs, a table for all others."""

import io
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO, cast

import numpy as np

from underpaint.errors import OutputError
from underpaint.io.results.csv_text import write_csv
from underpaint.io.results.result_maps import ResultMaps

MAX_VALUES = 80_000_000
"""Of a table, which is held in memory and takes some ten bytes for each."""


def ome_tiff(maps: ResultMaps) -> BinaryIO:
    """Return a file with all maps as an OME-TIFF stack: float32, a channel for each, with the size of a pixel.

    ImageJ with Bio-Formats, QuPath, napari and tifffile read it. NaN means no answer.
    """
    import tifffile

    facts: dict[str, Any] = {
        "axes": "CYX",
        "Channel": {"Name": [f"{entry.kind}: {entry.label} ({entry.unit})" for entry in maps.entries]},
        "Description": "Maps of underpaint; NaN: no answer",
    }
    if maps.step_mm is not None and min(maps.step_mm) > 0:
        down, across = maps.step_mm
        facts |= {
            "PhysicalSizeX": across, "PhysicalSizeXUnit": "mm", "PhysicalSizeY": down, "PhysicalSizeYUnit": "mm",
        }  # fmt: skip
    file = cast("BinaryIO", NamedTemporaryFile())  # noqa: SIM115 - closed by the server once it is sent
    pages = (np.ascontiguousarray(maps.values(index), dtype=np.float32) for index in range(len(maps.entries)))
    shape = (len(maps.entries), *maps.shape)
    tifffile.imwrite(file, pages, shape=shape, dtype=np.float32, photometric="minisblack", ome=True, metadata=facts)
    file.seek(0)
    return file


def maps_csv(maps: ResultMaps) -> BinaryIO:
    """Return a CSV file with a line for each pixel: row, column, all maps and their standard deviations.

    Raises
    ------
    OutputError
        There are too many values for a table.
    """
    n_map = len(maps.entries) + sum(bool(entry.error_path) for entry in maps.entries)
    n_value = n_map * maps.shape[0] * maps.shape[1]
    if n_value > MAX_VALUES:
        raise OutputError(
            f"Cannot write {n_map} maps of {maps.shape[0]} x {maps.shape[1]} pixels as CSV: {n_value / 1e6:.0f} "
            f"million values, over {MAX_VALUES / 1e6:.0f} million. Take the OME-TIFF stack, or read results.h5."
        )
    columns, heads = [], ["row", "column"]
    for index, entry in enumerate(maps.entries):
        for values, what in ((maps.values(index), ""), (maps.errors(index), " standard deviation")):
            if values is not None:
                columns.append(values)
                heads.append(f"{entry.kind}: {entry.name}{what} ({entry.unit})")
    file = cast("BinaryIO", NamedTemporaryFile())  # noqa: SIM115 - closed by the server once it is sent
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    write_csv(text, [heads])
    for row in range(maps.shape[0]):
        cells = np.char.mod("%.6g", np.stack([values[row] for values in columns], axis=1))
        cells[cells == "nan"] = ""
        text.writelines(f"{row},{column},{','.join(line)}\r\n" for column, line in enumerate(cells.tolist()))
    text.flush()
    text.detach()
    file.seek(0)
    return file
