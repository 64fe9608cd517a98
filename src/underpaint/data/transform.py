"""Transform counts with numpy as the network of Xu et al. 2022 does."""

from typing import Any

import numpy as np
from numpy.typing import NDArray


def log_log_root(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return ``ln(1 + ln(1 + sqrt(counts)))``.

    Parameters
    ----------
    counts : (..., n_channel) array
        Counts per channel; negative values are set to zero.

    References
    ----------
    X. Xu et al., J. Anal. At. Spectrom. (2022), doi 10.1039/d2ja00246a, equation 1.
    """
    root_counts = np.sqrt(np.maximum(np.asarray(counts, dtype=np.float64), 0.0))
    return np.asarray(np.log1p(np.log1p(root_counts)), dtype=np.float64)


def normalised_log_log_root(counts: NDArray[Any]) -> NDArray[np.float64]:
    """Return the log-log root of spectra, each divided by its maximum. Spectra without counts become zero.

    Parameters
    ----------
    counts : (..., n_channel) array
        Counts per channel.

    Notes
    -----
    The paper does not define the normalisation. Division by the maximum is the most probable interpretation.
    """
    transformed_counts = log_log_root(counts)
    spectrum_maximum = transformed_counts.max(axis=-1, keepdims=True)
    return transformed_counts / np.where(spectrum_maximum > 0, spectrum_maximum, 1.0)
