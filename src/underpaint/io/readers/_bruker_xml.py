"""Parsing of the XML in ``.spx`` and ``.rtx`` files and in the header of ``.bcf`` files (Bruker's Esprit and ARTAX).

Every object is a ``ClassInstance`` element with a ``Type``, and its values are leaf elements. The counts of a spectrum
(``TRTSpectrum``) are comma-separated text. ``TRTSpectrumHeader`` gives the energy in keV of each channel, ``CalibAbs +
CalibLin * channel``. ``TRTSpectrumHardwareHeader`` gives the times in milliseconds. Bruker publishes no specification.
The meaning of the names is from the rosettasciio documentation (2016-2026, Bruker reader).
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.io._energies import axis_of_coefficients, parse_number, parse_seconds
from underpaint.io._single import FileSpectrum
from underpaint.io._source import try_read

_HEADER_NAMES = {
    "TRTSpectrumHardwareHeader": "hardware",
    "TRTDetectorHeader": "detector",
    "TRTXrfHeader": "xrf",
    "TRTGeneratorHeader": "generator",
    "TRTRFAHeader": "rfa",
    "TRTESMAHeader": "esma",
    "TRTSpectrumHeader": "spectrum",
}
_MAX_VALUE_LENGTH = 200
_MAX_SPECTRUM_BYTES = 16 * 2**20
_READ_BYTES = 2**20
_MAX_COUNT = 2**53
"""Maximum counts in a channel. Floats represent all integers up to this value exactly."""


class _TreeBuilder(ET.TreeBuilder):
    """Builder of XML trees that refuses documents with entities, in any encoding."""

    def doctype(self, _name: str, _pubid: str, _system: str) -> None:
        """Refuse the declaration that entities need."""
        raise _EntitiesError


class _SpectrumNodes:
    """Target of an XML parser that keeps only the ``TRTSpectrum`` elements of a project."""

    def __init__(self) -> None:
        self.ready: list[ET.Element] = []
        self._builder: ET.TreeBuilder | None = None
        self._depth = self._size = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Start an element if it is a spectrum or part of a spectrum."""
        if self._builder is None and tag == "ClassInstance" and attributes.get("Type") == "TRTSpectrum":
            self._builder, self._depth, self._size = ET.TreeBuilder(), 0, 0
        if self._builder is not None:
            self._builder.start(tag, attributes)
            self._depth += 1
            self._grow(len(tag) + 64)

    def end(self, tag: str) -> None:
        """End an element, and keep the spectrum if the element completes it."""
        if self._builder is None:
            return
        self._builder.end(tag)
        self._depth -= 1
        if self._depth == 0:
            self.ready.append(self._builder.close())
            self._builder = None

    def data(self, node_text: str) -> None:
        """Add text to the current spectrum."""
        if self._builder is not None:
            self._builder.data(node_text)
            self._grow(len(node_text))

    def doctype(self, _name: str, _pubid: str, _system: str) -> None:
        """Refuse the declaration that entities need."""
        raise _EntitiesError

    def close(self) -> None:
        """Do nothing. The parser calls this method at the end of the document."""

    def _grow(self, n_byte: int) -> None:
        self._size += n_byte
        if self._size > _MAX_SPECTRUM_BYTES:
            raise ValueError(f"a spectrum of over {_MAX_SPECTRUM_BYTES} bytes")


class _EntitiesError(ValueError):
    """Error for XML that declares a document type, without which XML cannot define entities."""


def spectrum_nodes(path: Path) -> Iterator[ET.Element]:
    """Yield the ``TRTSpectrum`` elements of a project. Only one element is in memory at a time.

    Raises
    ------
    ScanError
        As for :func:`parse_xml`.
    """
    spectrum_target = _SpectrumNodes()
    parser = ET.XMLParser(target=spectrum_target)  # noqa: S314
    with try_read(lambda: path.open("rb"), str(path)) as stream:
        while xml_chunk := try_read(partial(stream.read, _READ_BYTES), str(path)):
            with _with_scan_error(str(path)):
                if b"<!DOCTYPE" in xml_chunk or b"<!ENTITY" in xml_chunk:
                    raise _EntitiesError
                parser.feed(xml_chunk)
            yield from spectrum_target.ready
            spectrum_target.ready.clear()
    with _with_scan_error(str(path)):
        parser.close()


@contextmanager
def _with_scan_error(xml_source: str) -> Iterator[None]:
    try:
        yield
    except _EntitiesError as error:
        raise ScanError(
            f"Cannot read {xml_source}: its XML declares entities, which Bruker's files never do. Export the file "
            "again."
        ) from error
    except (ET.ParseError, LookupError, ValueError, OverflowError) as error:
        raise ScanError(
            f"Cannot read {xml_source}: the Bruker XML is damaged ({error}). Copy the file from the instrument again."
        ) from error


def parse_xml(xml_text: bytes, source: str) -> ET.Element:
    """Parse an XML text without external entities.

    Raises
    ------
    ScanError
        The XML is not well-formed, or declares entities (as XML bombs do).
    """
    with _with_scan_error(source):
        if b"<!DOCTYPE" in xml_text or b"<!ENTITY" in xml_text:
            raise _EntitiesError
        return ET.fromstring(xml_text, parser=ET.XMLParser(target=_TreeBuilder()))  # noqa: S314


def find_instance(node: ET.Element | None, instance_type: str) -> ET.Element | None:
    """Return the object of a given type among the children of a node, or None if there is none."""
    return None if node is None else node.find(f"./ClassInstance[@Type='{instance_type}']")


def short_values(node: ET.Element | None) -> dict[str, str]:
    """Return the texts of a node's leaf elements by the elements' names. Long texts are left out."""
    if node is None:
        return {}
    tags_and_texts = ((child.tag, (child.text or "").strip()) for child in node if not len(child))
    return {
        tag: value_text for tag, value_text in tags_and_texts if value_text and len(value_text) <= _MAX_VALUE_LENGTH
    }


def read_spectrum_node(node: ET.Element, source: str) -> FileSpectrum:
    """Return the spectrum in a ``TRTSpectrum`` element.

    Raises
    ------
    ScanError
        The counts are missing or not numeric, or the header states another number of channels.
    """
    headers = _read_headers(node)
    hardware_header, spectrum_header = headers.get("hardware", {}), headers.get("spectrum", {})
    counts = _parse_counts(node.findtext("./Channels"), parse_number(spectrum_header.get("ChannelCount")), source)
    gain, zero = parse_number(spectrum_header.get("CalibLin")), parse_number(spectrum_header.get("CalibAbs")) or 0.0
    axis, notes = axis_of_coefficients((zero, gain or 0.0), counts.size, "kev")
    live_ms, real_ms = (parse_seconds(hardware_header.get(value_name)) for value_name in ("LifeTime", "RealTime"))
    return FileSpectrum(
        counts,
        axis,
        None if live_ms is None else live_ms / 1000,
        None if real_ms is None else real_ms / 1000,
        node.get("Name", ""),
        headers.get("detector", {}).get("Serial", ""),
        notes,
        {
            f"{header_name}.{value_name}": value_text
            for header_name, header_values in headers.items()
            for value_name, value_text in header_values.items()
        },
    )


def _read_headers(node: ET.Element) -> dict[str, dict[str, str]]:
    instances = [*node.findall("./TRTHeaderedClass/ClassInstance"), *node.findall("./ClassInstance")]
    return {
        _HEADER_NAMES[instance_type]: short_values(child)
        for child in instances
        if (instance_type := child.get("Type", "")) in _HEADER_NAMES
    }


def _parse_counts(channels_text: str | None, n_declared: float | None, source: str) -> NDArray[np.float64]:
    channel_texts = [channel_text for channel_text in (channels_text or "").split(",") if channel_text.strip()]
    if len(channel_texts) < 2 or (n_declared is not None and len(channel_texts) != n_declared):
        n_expected_text = "2 or more" if n_declared is None else f"{n_declared:g}"
        raise ScanError(
            f"Cannot read {source}: a Bruker spectrum of {len(channel_texts)} channels, where the header declares "
            f"{n_expected_text}. "
            "The file is truncated or edited; copy the file from the instrument again."
        )
    try:
        counts = np.array(channel_texts, dtype=np.float64)
    except ValueError as error:
        raise ScanError(
            f"Cannot read {source}: a Bruker spectrum, but its channels must hold numbers ({error})."
        ) from error
    if not (np.abs(counts) <= _MAX_COUNT).all():
        channel = int(np.argmin(np.abs(counts) <= _MAX_COUNT))
        raise ScanError(f"Cannot read {source}: channel {channel} holds {counts[channel]} counts, an impossible value.")
    return counts
