"""Reader of ``.spx`` files, single spectra of Bruker's Esprit in XML.

The spectrum is ``TRTSpectrum/ClassInstance[@Type='TRTSpectrum']``, which :mod:`._bruker_xml` describes. A fitted
background and the results of Esprit's analysis are ignored. Bruker publishes no specification. The names of elements
are from the rosettasciio documentation, and were checked with files of an M6 Jetstream and of a Nano.
"""

from pathlib import Path

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._single import read_limited, spectrum_scan
from underpaint.io.readers import Format
from underpaint.io.readers._bruker_xml import find_instance, parse_xml, read_spectrum_node

FORMAT = Format(
    "Bruker .spx",
    "Bruker spectrum, Esprit",
    endings=(".spx",),
    recognised_by="XML whose outer element is TRTSpectrum",
    source="unpublished; names as in rosettasciio (2016-2026)",
)
_MAX_FILE_BYTES = 64 * 2**20


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file begins like a Bruker spectrum."""
    return b"<TRTSpectrum>" in head[:512] and b"<" in head.lstrip(b"\xef\xbb\xbf \r\n")[:1]


def read(path: Path, part_name: str | None, shape: tuple[int, int] | None) -> Scan:
    """Read a Bruker spectrum as a scan of one pixel.

    Raises
    ------
    ScanError
        The XML is damaged or contains no spectrum, or the number of channels differs from the declared one.
    """
    file_content = read_limited(path, _MAX_FILE_BYTES, "single Bruker spectrum")
    node = find_instance(parse_xml(file_content, str(path)), "TRTSpectrum")
    if node is None:
        raise ScanError(f"Cannot read {path}: Bruker XML without a spectrum in it. Export the spectrum as .spx again.")
    return spectrum_scan(read_spectrum_node(node, str(path)), path, FORMAT.name)
