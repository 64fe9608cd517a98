"""Replacement of the paints in results on disk."""

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
    """Replace the paints in results on disk, and leave all other content unchanged.

    Parameters
    ----------
    folder : Path
        Results folder.
    results : Results
        New paints, and the labels of the groups.

    Raises
    ------
    ScanError
        The folder holds no results, or they are damaged.
    OutputError
        A file cannot be written; no file was changed.
    """
    with open_results_file(folder):
        pass  # opening raises an error if the folder holds no results
    with atomic_write(folder / RESULTS_FILE) as temporary_path:
        shutil.copyfile(folder / RESULTS_FILE, temporary_path)
        with h5py.File(temporary_path, "r+") as file:
            earlier_depth_maps = set(file.get("entry/depth/results/counts", ()))
            for name in {"paints", "depth"} & set(file["entry"]):
                del file[f"entry/{name}"]
            write_paints(file["entry"], results)
    with atomic_write(folder / PAINTS_FILE) as temporary_path:
        write_paint_table(temporary_path, results)
    with atomic_write(folder / PAINT_MAP) as temporary_path:
        write_paint_map(temporary_path, results)
    for name in earlier_depth_maps:  # maps of the replaced results
        (folder / "depth" / f"{name}.tif").unlink(missing_ok=True)
    write_depth_maps(folder / "depth", results)
    if "quantity" in results.stacks and (SURFACE_UM,) in results.stacks["quantity"]:
        # the map has the paint's thickness if the pixel's thickness is not determined
        write_estimate_tiffs(folder / "quantities", results, SURFACE_UM)
