"""Element maps of measured scans and spectra: what is claimed, and how noisy the maps are.

    python benchmarks/element_scans.py FILE [FILE ...] --json OUT

Of each file, calibrated from its own lines:

- ``claimed``: by family the share of the spectra in which it stands over 5 deviations, and its share of all counts;
- ``noise_ratio`` (over 100 pixels): median difference of neighbouring pixels over that of the fit with fixed ratios;
- ``difference_z`` (of the first two files, if of one size): root mean square of the difference of the maps over its
  stated deviation, by both fits: two detectors that look at one painting differ by it, and by what they cannot share.
"""

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import underpaint as up
from underpaint.calibrate import resolve_energy_axis
from underpaint.data.maps import Results
from underpaint.elements import fit_elements

SIGMAS = 5.0
MIN_PIXELS = 100
FAMILIES = ("Ca_K", "Fe_K", "Cu_K", "Zn_K", "Hg_L", "Pb_L")


def main() -> None:
    """Fit, print, and write the figures as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("files", nargs="+", help="scans or spectra; FILE::NAME picks an array")
    parser.add_argument("--json", type=Path, required=True)
    arguments = parser.parse_args()
    result: dict[str, Any] = {}
    fits: list[dict[str, Results]] = []
    for source in arguments.files:
        calibrated = resolve_energy_axis(up.load(source))
        scan, instrument = calibrated.scan, calibrated.instrument
        fits.append({name: fit_elements(scan, instrument=instrument, engine=name) for name in ("underpaint", "fixed")})
        total = float(scan.present_counts().sum().compute())
        result[source] = {"claimed": claimed(fits[-1]["underpaint"], total)}
        if scan.n_pixel > MIN_PIXELS:
            result[source]["noise_ratio"] = noise_ratio(**fits[-1])
        Console().print(source, result[source])
    if len(fits) > 1 and fits[0]["fixed"].shape == fits[1]["fixed"].shape and fits[0]["fixed"].shape != (1, 1):
        result["difference_z"] = {name: difference_z(fits[0][name], fits[1][name]) for name in fits[0]}
        Console().print(result["difference_z"])
    arguments.json.write_text(json.dumps(result, indent=1), "utf-8")


def claimed(maps: Results, total: float) -> dict[str, dict[str, float]]:
    """Return by family the share of spectra over five deviations, and the share of the counts."""
    return {
        name: {
            "spectra": float(np.nanmean(maps[name] > SIGMAS * maps.map("area_sigma", name))),
            "counts": float(np.nansum(maps[name]) / total),
        }
        for name in maps.lines
    }


def noise_ratio(underpaint: Results, fixed: Results) -> dict[str, float]:
    """Return by family the noise between neighbouring pixels over that of the fit with fixed ratios."""
    shared = [name for name in FAMILIES if name in underpaint.lines and name in fixed.lines]
    return {name: _neighbours(underpaint[name]) / _neighbours(fixed[name]) for name in shared}


def _neighbours(area: np.ndarray) -> float:
    return float(np.nanmedian(np.abs(np.diff(area, axis=1))))


def difference_z(first: Results, second: Results) -> dict[str, float]:
    """Return by family the rms of the difference of two maps, after one scale, over its stated deviation."""
    result = {}
    for name in FAMILIES:
        if name in first.lines and name in second.lines:
            scale = float(np.nansum(second[name]) / np.nansum(first[name]))
            sigma = np.hypot(second.map("area_sigma", name), scale * first.map("area_sigma", name))
            result[name] = float(np.sqrt(np.nanmean(((second[name] - scale * first[name]) / sigma) ** 2)))
    return result


if __name__ == "__main__":
    main()
