"""The paints of a painting: areas whose pixels are alike, and what is known of each."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIXED = 0
"""In a map of paints: a pixel of several paints, or of none."""


@dataclass(frozen=True, eq=False)
class PaintArea:
    """One paint of a painting: an area whose pixels have the same lines.

    Parameters
    ----------
    number : int
        In the map of paints, from 1; the largest area is the first.
    n_pixel : int
    share : float
        Of the pixels with an answer.
    area_mm2 : float or None
        Where the size of a pixel is known.
    groups : mapping of str to int
        Pigment groups that are present in more than half of the pixels, and the answer about each: a key of
        :data:`underpaint.data.maps.STATES`; empty where nothing was identified.
    lines : mapping of str to float
        Median net counts of the line families by which paints were told apart.
    spectrum : (n_channel,) array or None
        Sum of the spectra, counts; None where it was not summed.
    explanation : mapping or None
        The layers, as ``underpaint explain --json`` gives them; None where they were not sampled.
    known : str
        What another method has shown of it and the answers take as given; empty where nothing was put in.
    """

    number: int
    n_pixel: int
    share: float
    area_mm2: float | None = None
    groups: Mapping[str, int] = field(default_factory=dict)
    lines: Mapping[str, float] = field(default_factory=dict)
    spectrum: NDArray[np.float64] | None = None
    explanation: Mapping[str, Any] | None = None
    known: str = ""

    @property
    def stratigraphy(self) -> tuple[str, ...]:
        """What is known of the layers, sentence by sentence: what was put in, then what the posterior says."""
        words = () if self.explanation is None else tuple(self.explanation.get("words", ()))
        return (self.known, *words) if self.known and self.known not in words else words

    @property
    def orders(self) -> tuple[tuple[str, str], ...]:
        """Pairs of groups of which the posterior states that the first begins above the second."""
        pairs = (self.explanation or {}).get("order") or ()
        return tuple((pair["above"], pair["below"]) for pair in pairs if pair["determined"])

    @property
    def thickness_um(self) -> tuple[float, float, float] | None:
        """Low end, median and high end of the 90 % interval of the uppermost layer; None where it is not determined."""
        layers = (self.explanation or {}).get("layers")
        ends = layers[0]["thickness_um"] if layers else {}
        low, median, high = (ends.get(name) for name in ("low", "median", "high"))
        return None if low is None or median is None or high is None else (float(low), float(median), float(high))

    def record(self) -> dict[str, Any]:
        """Return all but the spectrum as plain values for JSON."""
        return {
            "number": self.number,
            "n_pixel": self.n_pixel,
            "share": self.share,
            "area_mm2": self.area_mm2,
            "groups": dict(self.groups),
            "lines": dict(self.lines),
            "counts": None if self.spectrum is None else float(self.spectrum.sum()),
            "explanation": self.explanation,
            "known": self.known,
        }

    @classmethod
    def of_record(cls, record: Mapping[str, Any], spectrum: NDArray[np.float64] | None = None) -> "PaintArea":
        """Return what :meth:`record` was made of."""
        return cls(**{name: value for name, value in record.items() if name != "counts"}, spectrum=spectrum)
