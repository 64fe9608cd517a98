"""The XML that Bruker's Esprit writes: whole ``.spx`` files, and the header inside ``.bcf``.

Every object is a ``ClassInstance`` element with a ``Type``; its values are leaf elements. A spectrum
(``TRTSpectrum``) has its channels as comma-separated text, the axis ``CalibAbs + CalibLin * channel`` in keV in
``TRTSpectrumHeader``, the times in milliseconds in ``TRTSpectrumHardwareHeader``. Bruker publishes no
specification; the meaning of the names is that of the rosettasciio documentation (2016-2026, Bruker reader).
"""

import xml.etree.ElementTree as ET
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import CalibrationError, ScanError
from underpaint.spectrum import EnergyAxis

_HEADERS = {
    "TRTSpectrumHardwareHeader": "hardware",
    "TRTDetectorHeader": "detector",
    "TRTXrfHeader": "xrf",
    "TRTESMAHeader": "esma",
    "TRTSpectrumHeader": "spectrum",
}
_LONGEST_VALUE = 200
_LARGEST_COUNT = 2**53
"""Whole numbers above it are not exact as floats; no detector counts so far."""


@dataclass(frozen=True)
class TrtSpectrum:
    """A ``TRTSpectrum`` element, read.

    Parameters
    ----------
    counts : (n_channel,) array
        Counts per channel.
    live_time_s, real_time_s : float or None
        s; None where the file is silent.
    """

    counts: NDArray[np.float64]
    axis: EnergyAxis | None
    live_time_s: float | None
    real_time_s: float | None
    name: str
    detector: str
    metadata: dict[str, Any] = field(default_factory=dict)


def parse_xml(content: bytes, source: str) -> ET.Element:
    """Parse an XML text; nothing outside it is ever looked up.

    Raises
    ------
    ScanError
        It is no well-formed XML, or declares entities (which Esprit never does, but a bomb would).
    """
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        message = f"Cannot read {source}: its XML declares entities, which Bruker's files never do. Export it again."
        raise ScanError(message)
    try:
        return ET.fromstring(content)  # noqa: S314
    except (ET.ParseError, LookupError, ValueError) as error:
        message = f"Cannot read {source}: Bruker XML, but broken at {error}. Copy it from the instrument again."
        raise ScanError(message) from error


def instance(node: ET.Element | None, kind: str) -> ET.Element | None:
    """Find the object of a type directly under a node."""
    return None if node is None else node.find(f"./ClassInstance[@Type='{kind}']")


def leaves(node: ET.Element | None) -> dict[str, str]:
    """Short values directly under a node, by name."""
    if node is None:
        return {}
    pairs = ((own.tag, (own.text or "").strip()) for own in node if not len(own))
    return {tag: text for tag, text in pairs if text and len(text) <= _LONGEST_VALUE}


def number(text: str | None) -> float | None:
    """Read a number, written with a point or (by some Windows) with a comma; None where there is none."""
    try:
        value = float((text or "").replace(",", "."))
    except ValueError:
        return None
    return value if np.isfinite(value) else None


def read_spectrum_node(node: ET.Element, source: str) -> TrtSpectrum:
    """Read a ``TRTSpectrum`` element.

    Raises
    ------
    ScanError
        Its channels are missing, not whole numbers from 0 up, or other than their promised number.
    """
    facts = _facts(node)
    hardware, header = facts.get("hardware", {}), facts.get("spectrum", {})
    counts = _counts(node.findtext("./Channels"), number(header.get("ChannelCount")), source)
    return TrtSpectrum(
        counts,
        _axis(header, counts.size),
        _seconds(hardware.get("LifeTime")),
        _seconds(hardware.get("RealTime")),
        node.get("Name", ""),
        facts.get("detector", {}).get("Serial", ""),
        {f"{group}.{key}": value for group, values in facts.items() for key, value in values.items()},
    )


def _facts(node: ET.Element) -> dict[str, dict[str, str]]:
    own = [*node.findall("./TRTHeaderedClass/ClassInstance"), *node.findall("./ClassInstance")]
    return {_HEADERS[kind]: leaves(one) for one in own if (kind := one.get("Type", "")) in _HEADERS}


def _counts(text: str | None, promised: float | None, source: str) -> NDArray[np.float64]:
    words = [word for word in (text or "").split(",") if word.strip()]
    if len(words) < 2 or (promised is not None and len(words) != promised):
        expected = "2 or more" if promised is None else f"{promised:g}"
        message = (
            f"Cannot read {source}: a Bruker spectrum of {len(words)} channels, where {expected} were announced. "
            "The file is cut off or edited; copy it from the instrument again."
        )
        raise ScanError(message)
    try:
        counts = np.array(words, dtype=np.float64)
    except ValueError as error:
        message = f"Cannot read {source}: a Bruker spectrum, but its channels must hold numbers ({error})."
        raise ScanError(message) from error
    bad = np.flatnonzero(~((counts >= 0) & (counts <= _LARGEST_COUNT)))
    if bad.size:
        message = f"Cannot read {source}: channel {bad[0]} holds {counts[bad[0]]} counts; they must not be negative."
        raise ScanError(message)
    return counts


def _axis(header: dict[str, str], n_channel: int) -> EnergyAxis | None:
    gain, zero = number(header.get("CalibLin")), number(header.get("CalibAbs"))
    try:
        return None if gain is None else EnergyAxis(gain, zero or 0.0, n_channel)
    except CalibrationError:
        return None


def _seconds(milliseconds: str | None) -> float | None:
    value = number(milliseconds)
    return value / 1000 if value is not None and value > 0 else None
