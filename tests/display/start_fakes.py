"""Small scans whose lines are known, for the start page."""

from pathlib import Path

import h5py
import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan
from underpaint.io import save_scan

AXIS = EnergyAxis(0.01, 0.0, 2048)
WRONG_AXIS = EnergyAxis(0.0106, 0.05, AXIS.n_channel)
FEW_LINES = {3.690: 300.0, 4.013: 40.0, 6.400: 600.0, 7.058: 90.0}
LINES = FEW_LINES | {2.342: 60.0, 9.988: 500.0, 11.823: 400.0, 10.551: 800.0, 12.614: 700.0, 14.765: 90.0}
"""Energy (keV) and mean counts of lines: Ca and Fe alone; with Hg and Pb."""
_FWHM_KEV = 0.14


def counts(lines: dict[float, float], shape: tuple[int, int] = (4, 6), seed: int = 0) -> NDArray[np.uint32]:
    """(row, column, channel) counts of Gaussian lines on a low background."""
    energy = AXIS.energy_kev
    mean = np.where(energy > 1, 0.05, 0.0)
    for line_kev, area in lines.items():
        peak = np.exp(-0.5 * ((energy - line_kev) / (_FWHM_KEV / 2.355)) ** 2)
        mean = mean + area * peak / peak.sum()
    return np.random.default_rng(seed).poisson(np.broadcast_to(mean, (*shape, energy.size))).astype(np.uint32)


def panel(path: Path, seed: int = 0) -> Path:
    """Write a scan of calcium, iron, mercury and lead on the right axis."""
    save_scan(Scan(counts(LINES, seed=seed), axis=AXIS, name=path.stem, step_mm=(0.5, 0.5)), path)
    return path


def wrongly_calibrated(path: Path) -> Path:
    """Write a scan whose few lines do not lie on its file's axis, and cannot prove another one."""
    # As many pixels as a doubted axis needs counts.
    save_scan(Scan(counts(FEW_LINES, (12, 12)), axis=WRONG_AXIS, name=path.stem), path)
    return path


def two_detectors(path: Path) -> Path:
    """Write a file of two detectors, the second with half of the counts, as PyXRF lays them out, without an axis."""
    with h5py.File(path, "w") as file:
        file["xrfmap/det1/counts"] = counts(LINES, seed=1)
        file["xrfmap/det2/counts"] = counts({kev: 0.5 * area for kev, area in LINES.items()}, seed=2)
    return path


def spectra_folder(folder: Path, n: int = 30) -> Path:
    """Write a folder of ``.mca`` spectra without a grid."""
    folder.mkdir()
    for number, spectrum in enumerate(counts(LINES, (1, n))[0]):
        body = "\n".join(map(str, spectrum))
        text = f"<<PMCA SPECTRUM>>\nLIVE_TIME - 1.0\nREAL_TIME - 1.0\n<<DATA>>\n{body}\n<<END>>\n"
        (folder / f"scan_{number:04d}.mca").write_text(text, encoding="utf-8")
    return folder
