"""Paints of a painting. A paint is an area of similar pixels, with its pigments, lines, spectrum and layers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

MIXED = 0
"""Value in a map of paints for pixels that have several paints or none."""


@dataclass(frozen=True, eq=False)
class PaintArea:
    """One paint of a painting: an area whose pixels have similar lines.

    Parameters
    ----------
    number : int
        Number of the paint in the map of paints. The largest area has the number 1.
    n_pixel : int
        Number of pixels.
    share : float
        Area of the paint as a fraction of the pixels with a result.
    area_mm2 : float or None
        Area in mm2; None if the distance between pixels is unknown.
    groups : mapping of str to int
        State of each pigment group that is present in more than half of the pixels. The states are keys of
        :data:`underpaint.data.maps.STATES`. Empty if pigments were not identified.
    lines : mapping of str to float
        Median net counts of each line family by which the paints were distinguished.
    spectrum : (n_channel,) array or None
        Sum of the spectra of the pixels, in counts; None if not computed.
    explanation : mapping or None
        Layers in the format of ``underpaint explain --json``; None if not computed.
    known : str
        Result of another method that the explanation takes as given; "" if there is none.
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
        """Sentences on the layers, beginning with the result of another method if there is one."""
        sentences = () if self.explanation is None else tuple(self.explanation.get("words", ()))
        return (self.known, *sentences) if self.known and self.known not in sentences else sentences

    @property
    def orders(self) -> tuple[tuple[str, str], ...]:
        """Pairs of groups whose order the posterior determines. The first group begins above the second."""
        order_records = (self.explanation or {}).get("order") or ()
        return tuple(
            (order_record["above"], order_record["below"])
            for order_record in order_records
            if order_record["determined"]
        )

    @property
    def thickness_um(self) -> tuple[float, float, float] | None:
        """Lower limit, median and upper limit (90 %) of the uppermost layer's thickness in um; None if unknown."""
        layers = (self.explanation or {}).get("layers")
        thickness_interval = layers[0]["thickness_um"] if layers else {}
        lower_limit, median_um, upper_limit = (
            thickness_interval.get(limit_name) for limit_name in ("low", "median", "high")
        )
        return (
            None
            if lower_limit is None or median_um is None or upper_limit is None
            else (float(lower_limit), float(median_um), float(upper_limit))
        )

    def record(self) -> dict[str, Any]:
        """Return all fields except the spectrum as JSON-serialisable values."""
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
    def from_record(cls, record: Mapping[str, Any], spectrum: NDArray[np.float64] | None = None) -> "PaintArea":
        """Return the paint area with the fields in ``record``, a result of :meth:`record`, and with a spectrum."""
        return cls(
            **{field_name: value for field_name, value in record.items() if field_name != "counts"}, spectrum=spectrum
        )
