"""Statistics that outliers do not move, against scipy's; and what reading must not import."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.stats import theilslopes

from underpaint.data.robust import theil_slope


def test_slope_is_that_of_scipy_with_ties_and_outliers() -> None:
    random = np.random.default_rng(5)
    x = random.integers(0, 12, 40).astype(float)
    y = 0.7 * x + random.normal(size=40)
    y[::9] += 50.0
    assert theil_slope(x, y) == pytest.approx(theilslopes(y, x)[0], rel=1e-12)


def test_reading_a_scan_imports_neither_xarray_nor_the_statistics_of_scipy() -> None:
    code = "import sys, underpaint.io; print(sorted({'xarray', 'pandas', 'scipy.stats'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.PIPE, text=True)
    assert done.stdout.strip() == "[]"
