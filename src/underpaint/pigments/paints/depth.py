"""Element maps split by depth into counts from the uppermost layer and counts from the layers below."""

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import Place, Results
from underpaint.data.paint_areas import PaintArea

Float32Array = NDArray[np.float32]
INTERVAL_SIGMAS = 3.29
"""Width of a 90 % interval of a normal distribution, in standard deviations."""
DEPTHS: tuple[Place, Place] = ("surface", "below")


def split_by_depth(results: Results) -> Results:
    """Return the net counts of each line from the uppermost layer of paint and from below, with standard deviations.

    The fraction from the uppermost layer is taken from the explanation of the pixel's paint. Values are NaN if the
    layers of the paint were not computed, if no draw describes the spectrum of the paint, or if the two runs differ.

    Parameters
    ----------
    results : Results
        Results with elements and paints. Without explained paints, the returned results are empty.
    """
    shares_by_paint = {area.number: shares for area in results.paints if (shares := surface_shares(area))}
    lines = [line for line in results.lines if any(line in shares for shares in shares_by_paint.values())]
    if not lines:
        return Results()
    paint_map = results.map("paint")
    depth_counts, depth_sigma = (np.full((*paint_map.shape, 2 * len(lines)), np.nan, np.float32) for _ in range(2))
    for line_index, line in enumerate(lines):
        shares_of_line = {number: shares[line] for number, shares in shares_by_paint.items() if line in shares}
        surface_share, share_sigma = _share_maps(paint_map, shares_of_line)
        area, area_sigma = results[line], results.map("area_sigma", line)
        for depth, share in enumerate((surface_share, 1.0 - surface_share)):
            depth_counts[:, :, 2 * line_index + depth] = share * area
            # the share is the same for all pixels of a paint, so that its error does not average out
            depth_sigma[:, :, 2 * line_index + depth] = np.hypot(share * area_sigma, share_sigma * area)
    keys = [(line, depth) for line in lines for depth in DEPTHS]
    notes = (
        f"Counts from the surface and from below follow the layers of paints {', '.join(map(str, shares_by_paint))}: "
        "one share for all pixels of a paint, although its thickness may vary.",
    )
    return Results.of_depths(keys, depth_counts, depth_sigma, step_mm=results.step_mm, notes=notes)


def surface_shares(area: PaintArea) -> dict[str, tuple[float, float]]:
    """Return the fraction of each family's counts from the uppermost layer of a paint, with its standard deviation."""
    surface_record = {} if area.explanation is None else (area.explanation.get("from_surface") or {})
    return {
        family: (float(share["median"]), float(share["high"] - share["low"]) / INTERVAL_SIGMAS)
        for family, share in surface_record.items()
        if share["determined"]
    }


def _share_maps(
    paint_map: NDArray[np.uint8], share_by_paint: dict[int, tuple[float, float]]
) -> tuple[Float32Array, Float32Array]:
    """Return maps of the share and of its standard deviation, with NaN for paints without a share."""
    share_table = np.full((2, 256), np.nan, np.float32)
    for number, share_and_sigma in share_by_paint.items():
        share_table[:, number] = share_and_sigma
    return share_table[0][paint_map], share_table[1][paint_map]
