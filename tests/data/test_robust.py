"""Statistics that outliers do not move, against scipy's; and what reading must not import."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import theilslopes

from underpaint.data import EnergyAxis, Scan
from underpaint.data.robust import theil_slope
from underpaint.io import save_scan


def test_slope_is_that_of_scipy_with_ties_and_outliers() -> None:
    random = np.random.default_rng(5)
    x = random.integers(0, 12, 40).astype(float)
    y = 0.7 * x + random.normal(size=40)
    y[::9] += 50.0
    assert theil_slope(x, y) == pytest.approx(theilslopes(y, x)[0], rel=1e-12)


def test_a_scan_is_loaded_and_surveyed_without_slow_packages(tmp_path: Path) -> None:
    """dask.array and SciPy took half of the time of loading; dask turns counts into its arrays when they are used."""
    path = tmp_path / "scan.h5"
    save_scan(Scan(np.ones((2, 3, 64), np.uint16), EnergyAxis(0.5, 0.0, 64)), path)
    code = """
import sys, underpaint
from underpaint.data import survey
scan = survey(underpaint.load(sys.argv[1])).scan
print(sorted({"xarray", "pandas", "scipy", "dask.array"} & {*sys.modules}))
print(type(scan.counts), scan.counts.sum().compute())
"""
    done = subprocess.run([sys.executable, "-c", code, path], check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.splitlines() == ["[]", "<class 'dask.array.core.Array'> 384"]
