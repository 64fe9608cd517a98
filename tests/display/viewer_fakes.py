"""A small panel with its scan and results, each number of which is known."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from result_parts import joined
from underpaint.data import EnergyAxis, Scan
from underpaint.data.maps import CANNOT_EXCLUDE, PRESENT, Results
from underpaint.data.paint_areas import PaintArea
from underpaint.io import save_scan, summarise_scan, write_results

SHAPE = (12, 20)
AXIS = EnergyAxis(0.02, 0.0, 1024)
HOSTILE = "<img src=x onerror=alert(1)> red (mercury)"
STEP_MM = (0.5, 1.0)


def scan(path: Path) -> Scan:
    """Counts that tell the pixel: channel 500 (10 keV) holds 100 row + column, all others one."""
    counts = np.ones((*SHAPE, AXIS.n_channel), dtype=np.int32)
    rows, columns = np.indices(SHAPE)
    counts[:, :, 500] = 100 * rows + columns
    panel = Scan(counts, axis=AXIS, name="panel", step_mm=STEP_MM)
    save_scan(panel, path)
    return panel


def pigment_maps(shape: tuple[int, int] = SHAPE) -> Results:
    """Mercury in the left half, at the surface in its upper half; lead everywhere but in the last row."""
    names = ("mercury_red", "lead_pigment", "mercury_red.surface", "mercury_red.below", "vermilion", "lead_white")
    probability = np.full((*shape, len(names)), 0.02, dtype=np.float32)
    half = shape[1] // 2
    probability[:, :half, 0] = 0.97
    probability[: shape[0] // 2, :half, 2] = 0.95
    probability[shape[0] // 2 :, :half, 3] = 0.9
    probability[:, :half, 4] = 0.8
    probability[:, :, [1, 5]] = 0.9
    probability[-1] = np.nan
    return Results.of_pigments(
        names=names,
        probability=probability,
        kinds=("group", "group", "group", "group", "member", "member"),
        groups=(("mercury_red",), ("lead_pigment",), *(("mercury_red",),) * 3, ("lead_pigment",)),
        labels=(HOSTILE, "lead pigment", HOSTILE, HOSTILE, "vermilion", "lead white"),
        elements=(("Hg_L",), ("Pb_L",), ("Hg_L",), ("Hg_L",), ("Hg_L",), ("Pb_L",)),
        step_mm=STEP_MM,
        settings={"model": {"name": "fake"}},
    )


def element_maps(shape: tuple[int, int] = SHAPE) -> Results:
    """Mercury 400 counts in the left half and 5 in the right one; lead falls by rows; sigma 10 and 20."""
    area = np.zeros((*shape, 2), dtype=np.float32)
    area[:, :, 0] = 5.0
    area[:, : shape[1] // 2, 0] = 400.0
    area[:, :, 1] = (1000.0 - 50.0 * np.arange(shape[0]))[:, None]
    error = np.broadcast_to(np.array([10.0, 20.0], dtype=np.float32), area.shape)
    return Results.of_lines(("Hg_L", "Pb_L"), area, np.array(error), step_mm=STEP_MM)


def detectability(shape: tuple[int, int] = SHAPE) -> Results:
    """Mercury could lie hidden in the right half."""
    state = np.ones((*shape, 1), dtype=np.uint8)
    state[:, shape[1] // 2 :] = CANNOT_EXCLUDE
    return Results.of_states(("mercury_red",), ("mercury red",), state, step_mm=STEP_MM, settings={"burial": {}})


def paints(shape: tuple[int, int] = SHAPE) -> Results:
    """One paint in the left half, one in the right; none in the last row."""
    number = np.ones(shape, dtype=np.uint8)
    number[:, shape[1] // 2 :] = 2
    number[-1] = 255
    half = (shape[0] - 1) * shape[1] // 2
    areas = [PaintArea(1, half, 0.5, groups={"mercury_red": PRESENT}), PaintArea(2, half, 0.5)]
    return Results.of_paints(number, areas, step_mm=STEP_MM)


def results(place: Path, *, with_scan: bool = True) -> Path:
    """Write the scan and its results, and return their folder."""
    panel = scan(place / "panel.h5")
    folder = place / "panel_underpaint"
    settings = {"source": str(place / "panel.h5"), "calibration": {"anode": "Rh"}}
    parts = (pigment_maps(), element_maps(), detectability(), paints())
    write_results(folder, joined(*parts, summary=summarise_scan(panel), **settings))
    (folder / "report.html").write_text("<p>report</p>", encoding="utf-8")
    if not with_scan:
        (place / "panel.h5").unlink()
    return folder


def spectrum_of(row: int, column: int) -> NDArray[np.float64]:
    """Return the (n_channel,) counts of a pixel."""
    counts = np.ones(AXIS.n_channel)
    counts[500] = 100 * row + column
    return counts


def painted(shape: tuple[int, int], rng: np.random.Generator) -> tuple[NDArray[np.float64], list[NDArray[np.float32]]]:
    """Return a (n_row, n_column, 3) painting of shapes in three colours, and the maps of their elements."""
    rows, columns = np.indices(shape)
    n_row, n_column = shape
    masks = [
        (rows - 0.35 * n_row) ** 2 + (columns - 0.3 * n_column) ** 2 < (0.22 * n_row) ** 2,
        (abs(rows - 0.7 * n_row) < 0.12 * n_row) & (columns > 0.35 * n_column) & (columns < 0.9 * n_column),
        (columns > 0.6 * n_column) & (rows < 0.45 * n_row) & (rows + columns < 0.95 * n_column),
    ]
    image = np.full((*shape, 3), 0.85)
    for mask, color in zip(masks, ((0.75, 0.15, 0.1), (0.1, 0.3, 0.6), (0.55, 0.45, 0.1)), strict=True):
        image[mask] = color
    maps = [(rng.poisson(np.where(mask, 300.0, 12.0))).astype(np.float32) for mask in masks]
    return image, maps
