"""Element maps split by depth: counts from the uppermost layer, and from below it."""

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

    The share that comes from the surface is that of the posterior of the pixel's paint: its line ratios, where the line
    is one of a family, and everything else that the summed spectrum says. NaN where the paint's layers were not
    sampled, where no draw describes its spectrum, or where two runs do not agree on the share.

    Parameters
    ----------
    results : Results
        With elements, and paints some of which are explained; else the result is empty.
    """
    shares = {area.number: known for area in results.paints if (known := surface_shares(area))}
    lines = [line for line in results.lines if any(line in known for known in shares.values())]
    if not lines:
        return Results()
    label = results.map("paint")
    value, sigma = (np.full((*label.shape, 2 * len(lines)), np.nan, np.float32) for _ in range(2))
    for index, line in enumerate(lines):
        share, deviation = _maps(label, {number: known[line] for number, known in shares.items() if line in known})
        area, area_sigma = results[line], results.map("area_sigma", line)
        for depth, part in enumerate((share, 1.0 - share)):
            value[:, :, 2 * index + depth] = part * area
            # the paint's share is one number for all of its pixels: its error does not average out
            sigma[:, :, 2 * index + depth] = np.hypot(part * area_sigma, deviation * area)
    keys = [(line, depth) for line in lines for depth in DEPTHS]
    notes = (
        f"Counts from the surface and from below follow the layers sampled for paints {_listed(shares)}: one share for "
        "all pixels of a paint, whose thickness may vary.",
    )
    return Results.of_depths(keys, value, sigma, step_mm=results.step_mm, notes=notes)


def surface_shares(area: PaintArea) -> dict[str, tuple[float, float]]:
    """Return the share of each line family's counts from a paint's uppermost layer, and its standard deviation."""
    record = {} if area.explanation is None else (area.explanation.get("from_surface") or {})
    return {
        family: (float(share["median"]), float(share["high"] - share["low"]) / INTERVAL_SIGMAS)
        for family, share in record.items()
        if share["determined"]
    }


def _maps(label: NDArray[np.uint8], known: dict[int, tuple[float, float]]) -> tuple[Single, Single]:
    table = np.full((2, 256), np.nan, np.float32)
    for number, pair in known.items():
        table[:, number] = pair
    return table[0][label], table[1][label]


def _listed(shares: dict[int, dict[str, tuple[float, float]]]) -> str:
    return ", ".join(str(number) for number in shares)
