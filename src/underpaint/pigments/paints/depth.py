"""Element maps split by depth: counts from the uppermost layer, and from the layers below it."""

import numpy as np
from numpy.typing import NDArray

from underpaint.data.maps import Place, Results
from underpaint.data.paint_areas import PaintArea

Single = NDArray[np.float32]
INTERVAL_SIGMAS = 3.29
"""Width of a 90 % interval of a normal distribution, in standard deviations."""
DEPTHS: tuple[Place, Place] = ("surface", "below")


def split_by_depth(results: Results) -> Results:
    """Return each line's net counts from the uppermost layer of paint and from below it, with standard deviations.

    The fraction from the uppermost layer is that of the explanation of the pixel's paint. Values are NaN where the
    layers of the paint were not computed, where no draw describes its spectrum, or where the two runs differ.

    Parameters
    ----------
    results : Results
        Results with elements, and with paints of which some are explained; otherwise the result is empty.
    """
    shares_by_paint = {area.number: shares for area in results.paints if (shares := surface_shares(area))}
    lines = [line for line in results.lines if any(line in shares for shares in shares_by_paint.values())]
    if not lines:
        return Results()
    label = results.map("paint")
    value, sigma = (np.full((*label.shape, 2 * len(lines)), np.nan, np.float32) for _ in range(2))
    for index, line in enumerate(lines):
        shares_of_line = {number: shares[line] for number, shares in shares_by_paint.items() if line in shares}
        surface_share, share_sigma = _share_maps(label, shares_of_line)
        area, area_sigma = results[line], results.map("area_sigma", line)
        for depth, share in enumerate((surface_share, 1.0 - surface_share)):
            value[:, :, 2 * index + depth] = share * area
            # the share is the same for all pixels of a paint, so its error does not average out
            sigma[:, :, 2 * index + depth] = np.hypot(share * area_sigma, share_sigma * area)
    keys = [(line, depth) for line in lines for depth in DEPTHS]
    notes = (
        f"Counts from the surface and from below follow the layers of paints {', '.join(map(str, shares_by_paint))}: "
        "one share for all pixels of a paint, although its thickness may vary.",
    )
    return Results.of_depths(keys, value, sigma, step_mm=results.step_mm, notes=notes)


def surface_shares(area: PaintArea) -> dict[str, tuple[float, float]]:
    """Return the fraction of each line family's counts from the uppermost layer of a paint, and its sigma."""
    record = {} if area.explanation is None else (area.explanation.get("from_surface") or {})
    return {
        family: (float(share["median"]), float(share["high"] - share["low"]) / INTERVAL_SIGMAS)
        for family, share in record.items()
        if share["determined"]
    }


def _share_maps(label: NDArray[np.uint8], share_by_paint: dict[int, tuple[float, float]]) -> tuple[Single, Single]:
    """Return maps of the share and of its standard deviation; NaN in other paints."""
    table = np.full((2, 256), np.nan, np.float32)
    for number, share_and_sigma in share_by_paint.items():
        table[:, number] = share_and_sigma
    return table[0][label], table[1][label]
