"""Measurement and correction of the energy axis drift during a scan, from lines in blocks of rows."""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from underpaint.calibrate._refine import GroupModel, LineFit, Response, candidate_groups, measure_lines
from underpaint.calibrate.calibration import Calibration
from underpaint.data import EnergyAxis, Scan
from underpaint.data.rebin import rebin_scan
from underpaint.errors import CalibrationError

Array = NDArray[np.float64]

REFERENCE_ENERGY_KEV = 6.4
_MAX_BLOCKS = 12
_MIN_BLOCK_COUNTS = 1e5
_MIN_BLOCK_LINES = 3
_MIN_LINE_SIGMAS = 20.0
_MIN_DRIFT_EV, _MIN_DRIFT_SIGMAS = 2.0, 4.0
_MIN_LINE_ERROR_EV = 0.3
_MAX_SHAPE_RESIDUAL_EV = 3.0
_MAX_SQUARED_RESIDUAL = 9.0


@dataclass(frozen=True)
class Drift:
    """Energy shift of the lines in each block of rows, relative to the sum spectrum of the scan.

    Parameters
    ----------
    start, stop : (n_block,) int arrays
        First row of each block, and the row after its last row.
    shift_ev, error_ev : (n_block,) arrays
        Shift at 6.4 keV and its standard deviation, in eV. A positive shift means that the axis reads too high. For
        blocks with too few lines, both are NaN.
    stretch : (n_block,) array
        Change of the shift with energy, in eV per eV.
    """

    start: NDArray[np.int64]
    stop: NDArray[np.int64]
    shift_ev: Array
    error_ev: Array
    stretch: Array

    @property
    def span_ev(self) -> float:
        """Difference between the largest and the smallest shift at 6.4 keV, in eV."""
        finite_shifts_ev = self.shift_ev[np.isfinite(self.shift_ev)]
        return float(np.ptp(finite_shifts_ev)) if finite_shifts_ev.size else float("nan")

    @property
    def significant(self) -> bool:
        """Whether the shifts of any two blocks differ by more than 2 eV and by more than 4 standard deviations."""
        differences_ev = np.subtract.outer(self.shift_ev, self.shift_ev)
        difference_errors_ev = np.hypot.outer(self.error_ev, self.error_ev)
        return bool(np.any(differences_ev > np.maximum(_MIN_DRIFT_EV, _MIN_DRIFT_SIGMAS * difference_errors_ev)))

    def describe(self) -> str:
        """Return a text that states the drift and its uncertainty."""
        is_finite = np.isfinite(self.shift_ev)
        if is_finite.sum() < 2:
            return "drift: unknown, because too few rows have enough lines"
        drift_text = "drifts" if self.significant else "is steady"
        range_text = " to ".join(
            f"{self.shift_ev[block]:+.1f} ± {self.error_ev[block]:.1f}"
            for block in (np.nanargmin(self.shift_ev), np.nanargmax(self.shift_ev))
        )
        return f"the axis {drift_text} along the rows: {range_text} eV at {REFERENCE_ENERGY_KEV} keV"


def find_drift(scan: Scan, calibration: Calibration, n_block: int = _MAX_BLOCKS) -> Drift:
    """Measure the energy shift of the lines in blocks of rows, relative to the sum spectrum of the scan.

    Parameters
    ----------
    scan : Scan
        The scan that was calibrated.
    calibration : Calibration
        Calibration of this scan.
    n_block : int
        Maximum number of blocks. If the scan has few counts, fewer blocks are used.

    Raises
    ------
    CalibrationError
        The scan and its calibration have different numbers of channels.
    """
    if scan.shape[2] != calibration.axis.n_channel:
        raise CalibrationError(
            f"Cannot measure drift: scan {scan.name!r} has {scan.shape[2]} channels, and its calibration has "
            f"{calibration.axis.n_channel}. Calibrate this scan."
        )
    row_spectra = np.asarray(scan.present_counts().sum(axis=1, dtype=np.float64).compute())
    n_block = int(np.clip(row_spectra.sum() / _MIN_BLOCK_COUNTS, 1, min(n_block, len(row_spectra))))
    row_borders = np.linspace(0, len(row_spectra), n_block + 1).astype(np.int64)
    block_spectra = [row_spectra[start:stop].sum(axis=0) for start, stop in pairwise(row_borders)]
    response = Response(
        calibration.axis.gain_kev, calibration.axis.zero_kev, calibration.noise_fwhm_kev, calibration.fano
    )
    block_shifts = np.asarray([_block_shift(counts, response, calibration) for counts in block_spectra])
    return Drift(row_borders[:-1], row_borders[1:], block_shifts[:, 0], block_shifts[:, 1], block_shifts[:, 2])


def _block_shift(counts: Array, response: Response, calibration: Calibration) -> tuple[float, float, float]:
    """Return a block's shift at 6.4 keV (eV), the standard deviation of this shift (eV), and the stretch."""
    if counts.sum() == 0:
        return float("nan"), float("nan"), 0.0
    groups = [group for group in candidate_groups(response, counts) if group.family in calibration.families]
    lines = [
        line
        for line in measure_lines(GroupModel(counts, groups, response), response)
        if _is_compared(line, calibration)
    ]
    if len(lines) < _MIN_BLOCK_LINES:
        return float("nan"), float("nan"), 0.0
    energy_kev = np.asarray([line.energy_kev for line in lines])
    residuals_ev = np.asarray([calibration.residual_ev[line.name] for line in lines])
    # The residual in the sum spectrum is attributed to the line shape, up to a limit. The remaining residual is
    # attributed to drift.
    offset_ev = np.asarray([1e3 * line.offset_kev for line in lines]) - np.clip(
        residuals_ev, -_MAX_SHAPE_RESIDUAL_EV, _MAX_SHAPE_RESIDUAL_EV
    )
    error_ev = np.hypot([1e3 * line.error_kev for line in lines], _MIN_LINE_ERROR_EV)
    design_matrix = (
        np.stack([np.ones_like(energy_kev), 1e3 * (energy_kev - REFERENCE_ENERGY_KEV)], axis=1) / error_ev[:, None]
    )
    # In rows where a line is weak, its neighbours shift it: lines of elements that are only in these rows, or tails of
    # stronger lines. The Cauchy loss gives such lines little weight.
    shift_ev, stretch = least_squares(
        lambda parameters: design_matrix @ parameters - offset_ev / error_ev,
        [float(np.median(offset_ev)), 0.0],
        loss="cauchy",
        x_scale="jac",
    ).x
    squared_residuals = (design_matrix @ [shift_ev, stretch] - offset_ev / error_ev) ** 2
    weighted_design = design_matrix / np.sqrt(1.0 + squared_residuals)[:, None]
    covariance = np.linalg.pinv(weighted_design.T @ weighted_design)
    # the limit keeps a single outlying line from determining the error
    variance_factor = max(
        1.0, float(np.minimum(squared_residuals, _MAX_SQUARED_RESIDUAL).sum()) / max(len(lines) - 2, 1)
    )
    return float(shift_ev), float(np.sqrt(covariance[0, 0] * variance_factor)), float(stretch)


def _is_compared(line: LineFit, calibration: Calibration) -> bool:
    return line.name in calibration.residual_ev and not line.is_blended and line.significance > _MIN_LINE_SIGMAS


def without_drift(scan: Scan, calibration: Calibration, drift: Drift) -> Scan:
    """Return the scan with the drift corrected, so that all pixels share the calibrated axis.

    Blocks without a measured shift are not changed. Counts are redistributed between channels and become fractional. No
    counts are lost within the range of the axis.
    """
    corrected_blocks = [
        rebin_scan(
            Scan(scan.counts[start:stop], axis=_block_axis(calibration.axis, shift_ev, stretch)), calibration.axis
        ).counts
        for start, stop, shift_ev, stretch in zip(drift.start, drift.stop, drift.shift_ev, drift.stretch, strict=True)
    ]
    correction_note = f"drift of up to {drift.span_ev:.1f} eV along the rows corrected"
    from underpaint.data.dask_array import da

    counts = da.concatenate([corrected_block.astype(np.float32) for corrected_block in corrected_blocks], axis=0)
    return scan.replace(counts=counts, axis=calibration.axis, notes=(*scan.notes, correction_note))


def _block_axis(axis: EnergyAxis, shift_ev: float, stretch: float) -> EnergyAxis:
    """Return a block's energy axis: the calibrated axis minus the block's shift."""
    if not np.isfinite(shift_ev):
        return axis
    zero_shift_kev = 1e-3 * shift_ev + stretch * (axis.zero_kev - REFERENCE_ENERGY_KEV)
    return EnergyAxis(axis.gain_kev * (1.0 - stretch), axis.zero_kev - zero_shift_kev, axis.n_channel)
