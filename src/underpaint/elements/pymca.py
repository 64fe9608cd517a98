"""The same maps by PyMca's linear fit, for those who trust it and for comparison."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import MissingExtraError
from underpaint.instrument import Detector, Instrument
from underpaint.spectrum import EnergyAxis, Scan

Array = NDArray[np.float64]


def fit_with_pymca(
    scan: Scan, axis: EnergyAxis, detector: Detector, families: tuple[str, ...], instrument: Instrument | None
) -> tuple[Array, Array]:
    """Return areas and uncertainties, (n_row, n_column, n_family), by ``FastXRFLinearFit``.

    Raises
    ------
    MissingExtraError
        PyMca5 is not installed.
    """
    try:
        from PyMca5.PyMcaPhysics.xrf.FastXRFLinearFit import FastXRFLinearFit
    except ImportError as error:
        message = "Cannot use the engine 'pymca': PyMca5 is not installed. Run: pip install 'underpaint[pymca]'."
        raise MissingExtraError(message) from error
    cube = np.asarray(scan.counts, dtype=np.float64)
    result = FastXRFLinearFit().fitMultipleSpectra(
        x=np.arange(axis.n_channel, dtype=np.float64),
        y=cube,
        configuration=configuration(axis, detector, families, instrument),
        weight=1,
        refit=0,
        concentrations=0,
    )
    names = [name.replace(" ", "_") for name in result.labels("parameters")]
    order = [names.index(family) for family in families]
    return (
        np.moveaxis(np.asarray(result["parameters"])[order], 0, -1).astype(np.float64),
        np.moveaxis(np.asarray(result["uncertainties"])[order], 0, -1).astype(np.float64),
    )


def configuration(
    axis: EnergyAxis, detector: Detector, families: tuple[str, ...], instrument: Instrument | None
) -> dict[str, Any]:
    """Return PyMca's default fit configuration with our calibration, families and SNIP background."""
    from PyMca5.PyMcaPhysics.xrf.ClassMcaTheory import McaTheory

    config: dict[str, Any] = McaTheory().getConfiguration()
    peaks: dict[str, list[str]] = {}
    for family in families:
        element, shell = family.split("_")
        peaks.setdefault(element, []).append(shell)
    config["peaks"] = peaks
    config["detector"].update(
        zero=axis.zero_kev, gain=axis.gain_kev, noise=detector.noise_fwhm_kev, fano=detector.fano, sum=0.0
    )
    voltage = axis.stop_kev if instrument is None else instrument.tube.voltage_kv
    start, stop = max(int(axis.channel(1.2)), 0), axis.n_channel - 1
    config["fit"].update(
        energy=[float(max(voltage, axis.stop_kev))],
        energyweight=[1.0],
        energyflag=[1],
        energyscatter=[0],
        stripflag=1,
        stripalgorithm=1,
        snipwidth=max(int(2.0 * 0.15 / axis.gain_kev), 2),
        stripfilterwidth=3,
        escapeflag=1,
        scatterflag=0,
        sumflag=0,
        hypermetflag=1,
        linearfitflag=1,
        fitweight=1,
        continuum=0,
        use_limit=1,
        xmin=start,
        xmax=stop,
    )
    return config
