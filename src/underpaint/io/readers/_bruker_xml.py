"""The XML that Bruker's Esprit and ARTAX write: ``.spx`` and ``.rtx`` files, and the header inside ``.bcf``.

Every object is a ``ClassInstance`` element with a ``Type``; its values are leaf elements. A spectrum
(``TRTSpectrum``) has its channels as comma-separated text, the axis ``CalibAbs + CalibLin * channel`` in keV in
``TRTSpectrumHeader``, the times in milliseconds in ``TRTSpectrumHardwareHeader``. Bruker publishes no
specification; the meaning of the names is that of the rosettasciio documentation (2016-2026, Bruker reader).
"""

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.io._energies import axis_of_coefficients, number, seconds
from underpaint.io._single import FileSpectrum
from underpaint.io._source import try_read

_HEADERS = {
    "TRTSpectrumHardwareHeader": "hardware",
    "TRTDetectorHeader": "detector",
    "TRTXrfHeader": "xrf",
    "TRTGeneratorHeader": "generator",
    "TRTRFAHeader": "rfa",
    "TRTESMAHeader": "esma",
    "TRTSpectrumHeader": "spectrum",
}
_MAX_VALUE = 200
_MAX_SPECTRUM = 16 * 2**20
_PIECE = 2**20
_MAX_COUNT = 2**53
"""Integers above it are not exact as floats; no detector reaches it."""


class _TreeBuilder(ET.TreeBuilder):
    """Builds a tree, and refuses entities in whatever encoding they are declared."""

    def doctype(self, _name: str, _pubid: str, _system: str) -> None:
        """Refuse the declaration that entities need."""
        raise _EntitiesError


class _SpectrumNodes:
    """Parser target that keeps only the ``TRTSpectrum`` elements of a project, each until consumed."""

    def __init__(self) -> None:
        self.ready: list[ET.Element] = []
        self._builder: ET.TreeBuilder | None = None
        self._depth = self._size = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Start building at the start of a spectrum."""
        if self._builder is None and tag == "ClassInstance" and attributes.get("Type") == "TRTSpectrum":
            self._builder, self._depth, self._size = ET.TreeBuilder(), 0, 0
        if self._builder is not None:
            self._builder.start(tag, attributes)
            self._depth += 1
            self._grow(len(tag) + 64)

    def end(self, tag: str) -> None:
        """Yield the spectrum at its end."""
        if self._builder is None:
            return
        self._builder.end(tag)
        self._depth -= 1
        if self._depth == 0:
            self.ready.append(self._builder.close())
            self._builder = None

    def data(self, text: str) -> None:
        """Keep the text of spectra."""
        if self._builder is not None:
            self._builder.data(text)
            self._grow(len(text))

    def doctype(self, _name: str, _pubid: str, _system: str) -> None:
        """Refuse the declaration that entities need."""
        raise _EntitiesError

    def close(self) -> None:
        """End."""

    def _grow(self, size: int) -> None:
        self._size += size
        if self._size > _MAX_SPECTRUM:
            raise ValueError(f"a spectrum of over {_MAX_SPECTRUM} letters")


class _EntitiesError(ValueError):
    """The XML declares a document type, which entities need."""


def spectrum_nodes(path: Path) -> Iterator[ET.Element]:
    """Yield the ``TRTSpectrum`` elements of a project one by one; only one is in memory at a time.

    Raises
    ------
    ScanError
        As for :func:`parse_xml`.
    """
    nodes = _SpectrumNodes()
    parser = ET.XMLParser(target=nodes)  # noqa: S314
    with try_read(lambda: path.open("rb"), str(path)) as stream:
        while piece := try_read(partial(stream.read, _PIECE), str(path)):
            with _explained(str(path)):
                if b"<!DOCTYPE" in piece or b"<!ENTITY" in piece:
                    raise _EntitiesError
                parser.feed(piece)
            yield from nodes.ready
            nodes.ready.clear()
    with _explained(str(path)):
        parser.close()


@contextmanager
def _explained(source: str) -> Iterator[None]:
    try:
        yield
    except _EntitiesError as error:
        raise ScanError(
            f"Cannot read {source}: its XML declares entities, which Bruker's files never do. Export it again."
        ) from error
    except (ET.ParseError, LookupError, ValueError, OverflowError) as error:
        raise ScanError(
            f"Cannot read {source}: Bruker XML, but broken at {error}. Copy it from the instrument again."
        ) from error


def parse_xml(content: bytes, source: str) -> ET.Element:
    """Parse an XML text without external entities.

    Raises
    ------
    ScanError
        It is no well-formed XML, or declares entities (which Esprit never does, but a bomb would).
    """
    with _explained(source):
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise _EntitiesError
        return ET.fromstring(content, parser=ET.XMLParser(target=_TreeBuilder()))  # noqa: S314


def instance(node: ET.Element | None, kind: str) -> ET.Element | None:
    """Find the object of a type directly under a node."""
    return None if node is None else node.find(f"./ClassInstance[@Type='{kind}']")


def leaves(node: ET.Element | None) -> dict[str, str]:
    """Short values of a node's children, by name."""
    if node is None:
        return {}
    pairs = ((child.tag, (child.text or "").strip()) for child in node if not len(child))
    return {tag: text for tag, text in pairs if text and len(text) <= _MAX_VALUE}


def read_spectrum_node(node: ET.Element, source: str) -> FileSpectrum:
    """Read a ``TRTSpectrum`` element.

    Raises
    ------
    ScanError
        Its channels are missing, no numbers, or other than their promised number.
    """
    facts = _facts(node)
    hardware, header = facts.get("hardware", {}), facts.get("spectrum", {})
    counts = _counts(node.findtext("./Channels"), number(header.get("ChannelCount")), source)
    gain, zero = number(header.get("CalibLin")), number(header.get("CalibAbs")) or 0.0
    axis, notes = axis_of_coefficients((zero, gain or 0.0), counts.size, "kev")
    live, real = (seconds(hardware.get(key)) for key in ("LifeTime", "RealTime"))
    return FileSpectrum(
        counts,
        axis,
        None if live is None else live / 1000,
        None if real is None else real / 1000,
        node.get("Name", ""),
        facts.get("detector", {}).get("Serial", ""),
        notes,
        {f"{group}.{key}": value for group, values in facts.items() for key, value in values.items()},
    )


def _facts(node: ET.Element) -> dict[str, dict[str, str]]:
    instances = [*node.findall("./TRTHeaderedClass/ClassInstance"), *node.findall("./ClassInstance")]
    return {
        _HEADERS[kind]: leaves(instance) for instance in instances if (kind := instance.get("Type", "")) in _HEADERS
    }


def _counts(text: str | None, declared: float | None, source: str) -> NDArray[np.float64]:
    words = [word for word in (text or "").split(",") if word.strip()]
    if len(words) < 2 or (declared is not None and len(words) != declared):
        expected = "2 or more" if declared is None else f"{declared:g}"
        raise ScanError(
            f"Cannot read {source}: a Bruker spectrum of {len(words)} channels, where {expected} were announced. "
            "The file is cut off or edited; copy it from the instrument again."
        )
    try:
        counts = np.array(words, dtype=np.float64)
    except ValueError as error:
        raise ScanError(
            f"Cannot read {source}: a Bruker spectrum, but its channels must hold numbers ({error})."
        ) from error
    if not (np.abs(counts) <= _MAX_COUNT).all():
        channel = int(np.argmin(np.abs(counts) <= _MAX_COUNT))
        raise ScanError(f"Cannot read {source}: channel {channel} holds {counts[channel]} counts, an impossible value.")
    return counts
