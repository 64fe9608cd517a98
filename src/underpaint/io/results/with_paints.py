"""Paints put into results that are on disk."""

import shutil
from pathlib import Path

import h5py

from underpaint.data.maps import SURFACE_UM, Results
from underpaint.io.results.contained import open_results_file
from underpaint.io.results.nexus import write_depth_maps, write_estimate_tiffs, write_paint_map, write_paints
from underpaint.io.results.paints import PAINT_MAP, PAINTS_FILE, write_paint_table
from underpaint.io.results.stored import RESULTS_FILE
from underpaint.runtime.files import atomic_write


def replace_paints(folder: Path, results: Results) -> None:
    """Put the paints of results into those on disk, in place of earlier paints; all else stays as it is.

    Parameters
    ----------
    folder : Path
        Of results.
    results : Results
        With paints, and the labels of the groups.

    Raises
    ------
    ScanError
        The folder holds no results, or they are damaged.
    OutputError
        A file cannot be written; then none was changed.
    """
    with open_results_file(folder):
        pass  # refuses what is no file of results
    with atomic_write(folder / RESULTS_FILE) as part:
        shutil.copyfile(folder / RESULTS_FILE, part)
        with h5py.File(part, "r+") as file:
            earlier = set(file.get("entry/depth/results/counts", ()))
            for name in {"paints", "depth"} & set(file["entry"]):
                del file[f"entry/{name}"]
            write_paints(file["entry"], results)
    with atomic_write(folder / PAINTS_FILE) as part:
        write_paint_table(part, results)
    with atomic_write(folder / PAINT_MAP) as part:
        write_paint_map(part, results)
    for name in earlier:  # maps of an earlier posterior
        (folder / "depth" / f"{name}.tif").unlink(missing_ok=True)
    write_depth_maps(folder / "depth", results)
    if "quantity" in results.stacks and (SURFACE_UM,) in results.stacks["quantity"]:
        # takes the paint's thickness where the pixel's is not determined
        write_estimate_tiffs(folder / "quantities", results, SURFACE_UM)
