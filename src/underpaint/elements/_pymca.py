"""PyMca's fast linear fit as an alternative engine, for an independent comparison."""

from collections.abc import Sequence
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis
from underpaint.elements._families import fwhm_channels
from underpaint.errors import MissingExtraError
from underpaint.physics.instrument import Detector

_SNIP_WIDTH_FWHM = 2.0
_UM_PER_CM = 1e4
_PYMCA_LOCK = Lock()
"""Lock for calls of PyMca, whose thread safety is not documented."""


class PymcaFit:
    """Planned fit of line families with PyMca's ``FastXRFLinearFit``.

    Areas are net of the SNIP background of each pixel. Standard deviations are those of a pixel with the mean spectrum.

    References
    ----------
    Solé et al., 2007, Spectrochimica Acta B 62, 63-68 (PyMca).
    """

    def __init__(
        self,
        families: Sequence[str],
        configuration: dict[str, Any],
        mean_spectrum: NDArray[np.float64],
        settings: dict[str, Any],
    ) -> None:
        self.names, self.configuration, self.mean, self.settings = (
            tuple(families),
            configuration,
            mean_spectrum,
            settings,
        )

    @classmethod
    def plan(
        cls,
        axis: EnergyAxis,
        families: Sequence[str],
        detector: Detector,
        excitation_kev: float,
        channels: tuple[int, int],
        scatter_families: Sequence[str],
        mean_spectrum: NDArray[np.float64],
    ) -> "PymcaFit":
        """Return the fit of line families, with its PyMca configuration.

        Parameters
        ----------
        axis : EnergyAxis
            Energy axis of the spectra.
        families : sequence of str
            Families to fit and return.
        detector : Detector
            Detector with resolution and crystal.
        excitation_kev : float
            Photon energy for the line ratios, in keV.
        channels : (int, int)
            First and last channel of the fit.
        scatter_families : sequence of str
            Families of the anode, which are fitted but not returned.
        mean_spectrum : (n_channel,) array
            Mean spectrum of the scan, counts, from which the weights of the channels follow.

        Raises
        ------
        MissingExtraError
            PyMca is not installed.
        """
        _, pymca_version = _pymca_fit_class()
        fitted_families = [
            *families,
            *(name for name in scatter_families if name.count("_") == 1 and name not in families),
        ]
        configuration = pymca_configuration(fitted_families, detector, axis, excitation_kev, channels)
        settings = {
            "engine": "pymca",
            "version": pymca_version,
            "gain_kev": axis.gain_kev,
            "zero_kev": axis.zero_kev,
            "noise_fwhm_kev": detector.noise_fwhm_kev,
            "fano": detector.fano,
            "snip_width_channels": configuration["fit"]["snipwidth"],
            "families": list(families),
        }
        return cls(families, configuration, mean_spectrum, settings)

    def __call__(self, counts: NDArray[Any]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the (n, n_family) areas and standard deviations of (n, n_channel) counts."""
        with _PYMCA_LOCK:
            area, sigma = _fit_block(
                _pymca_fit_class()[0], self.configuration, counts[None].astype(np.float32), self.mean, self.names
            )
        return area[0], sigma[0]


def pymca_configuration(
    families: Sequence[str],
    detector: Detector,
    axis: EnergyAxis,
    excitation_kev: float,
    channels: tuple[int, int],
) -> dict[str, Any]:
    """Return PyMca's fit configuration: linear, Gaussian peaks, SNIP background, escape, Poisson weights."""
    from PyMca5.PyMcaPhysics.xrf import ClassMcaTheory

    configuration: dict[str, Any] = ClassMcaTheory.McaTheory().getConfiguration()
    shells_by_element: dict[str, list[str]] = {}
    for family in families:
        symbol, shell = family.split("_")
        shells_by_element.setdefault(symbol, []).append(shell)
    snip_width = int(np.rint(_SNIP_WIDTH_FWHM * np.median(fwhm_channels(detector, axis))))
    # Smoothing prevents a background that is too low at few counts. PyMca requires an odd width.
    filter_width = 2 * (snip_width // 2) + 1
    configuration["peaks"] = shells_by_element
    configuration["fit"].update(
        xmin=channels[0], xmax=channels[1], use_limit=1, linearfitflag=1, fitweight=1, hypermetflag=1, fitfunction=0,
        continuum=0, stripflag=1, stripalgorithm=1, snipwidth=snip_width, stripfilterwidth=filter_width, escapeflag=1,
        sumflag=0, scatterflag=0, energy=[excitation_kev], energyweight=[1.0], energyflag=[1], energyscatter=[0],
    )  # fmt: skip
    configuration["detector"].update(
        zero=axis.zero_kev, gain=axis.gain_kev, noise=detector.noise_fwhm_kev, fano=detector.fano, sum=0.0,
        fixedzero=1, fixedgain=1, fixednoise=1, fixedfano=1, fixedsum=1, detele=detector.material,
    )  # fmt: skip
    thickness_cm = detector.thickness_um / _UM_PER_CM
    configuration["attenuators"]["Detector"] = [1, f"{detector.material}1", detector.density, thickness_cm]
    return configuration


def _pymca_fit_class() -> tuple[Any, str]:
    try:
        import PyMca5
        from PyMca5.PyMcaPhysics.xrf import FastXRFLinearFit
    except ImportError as error:
        raise MissingExtraError(
            "Cannot fit with engine 'pymca': PyMca is not installed. "
            "Install PyMca with `pip install underpaint[pymca]`, or use engine 'underpaint'."
        ) from error
    return FastXRFLinearFit.FastXRFLinearFit, str(PyMca5.version())


def _fit_block(
    fit_class: Any,
    configuration: dict[str, Any],
    counts: NDArray[np.float32],
    mean_spectrum: NDArray[np.float64],
    families: Sequence[str],
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the areas and standard deviations of a block, (row, column, family)."""
    pymca_fit = fit_class()
    pymca_fit.setFitConfiguration(configuration)
    # PyMca computes the deviation of a channel as sqrt(ysum) / (number of spectra) + 1, the deviation of a mean. The
    # factor number**2 yields the deviation of one pixel with the mean spectrum, for blocks of any size.
    fit_result = pymca_fit.fitMultipleSpectra(
        x=np.arange(counts.shape[-1], dtype=np.float64),
        y=counts,
        ysum=mean_spectrum * float(counts[..., 0].size) ** 2,
        weight=1,
        refit=False,
    )
    parameter_names = [str(parameter_label).replace(" ", "_") for parameter_label in fit_result.labels("parameters")]
    family_indices = [parameter_names.index(family) for family in families]
    return (
        np.moveaxis(np.asarray(fit_result["parameters"], dtype=np.float32)[family_indices], 0, -1),
        np.moveaxis(np.asarray(fit_result["uncertainties"], dtype=np.float32)[family_indices], 0, -1),
    )
