"""One spectrum as a scan of one pixel."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.io._source import spectrum_counts
from underpaint.spectrum import EnergyAxis, Scan


def single_scan(
    counts: NDArray[Any],
    path: Path,
    format_name: str,
    *,
    axis: EnergyAxis | None,
    live_time_s: float | None,
    real_time_s: float | None,
    detector: str = "",
    notes: tuple[str, ...] = (),
    metadata: Mapping[str, Any] | None = None,
) -> Scan:
    """Return (n_channel,) counts as a scan of shape (1, 1, n_channel); times in s, None where the file has none."""
    live, real = (None if time is None else np.full((1, 1), time) for time in (live_time_s, real_time_s))
    return Scan(
        spectrum_counts(counts, str(path)),
        axis=axis,
        name=path.stem,
        source=str(path),
        format=format_name,
        live_time_s=live,
        real_time_s=real,
        detector=detector,
        notes=("a single spectrum", *notes),
        metadata=dict(metadata or {}),
    )
