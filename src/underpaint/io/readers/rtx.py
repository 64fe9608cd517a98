"""Reader of ``.rtx`` files, projects of Bruker's ARTAX in XML, with any number of spectra.

``TRTProject`` has nested folders (``ClassInstance[@Type='TRTBase']``) of spectra
(``ClassInstance[@Type='TRTSpectrum']``). :mod:`._bruker_xml` describes the spectra. The results of ARTAX's analysis are
ignored. Spectra are read one by one in the order of the file. Bruker publishes no specification. The names of elements
are those of ``.spx`` files, and were checked with a Tracer's project.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._single import FileSpectrum, scan_of_spectra
from underpaint.io._source import try_read
from underpaint.io.readers import Format
from underpaint.io.readers._bruker_xml import read_spectrum_node, spectrum_nodes

FORMAT = Format(
    "Bruker ARTAX .rtx",
    "Bruker ARTAX project, a list of spectra",
    endings=(".rtx",),
    recognised_by="XML whose outer element is TRTProject",
    source="unpublished; names as in .spx",
    parts=True,
)
_MAX_FILE_BYTES = 512 * 2**20


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file begins like an ARTAX project."""
    return b"<TRTProject" in head and head.lstrip(b"\xef\xbb\xbf \r\n").startswith(b"<")


def read(path: Path, part_name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the spectra of a project as one row of pixels, or only the one with the name or number ``part_name``.

    Raises
    ------
    ScanError
        The XML is damaged or contains no valid spectrum. If only some spectra are invalid, the invalid spectra are
        skipped with a note.
    """
    file_bytes = try_read(path.stat, str(path)).st_size
    if file_bytes > _MAX_FILE_BYTES:
        raise ScanError(
            f"Cannot read {path}: a project of {file_bytes} bytes, more than the maximum of {_MAX_FILE_BYTES}. Export "
            "its maps as "
            ".bcf or its spectra as .spx."
        )
    spectra: list[FileSpectrum] = []
    faults: list[ScanError] = []
    for index, node in enumerate(spectrum_nodes(path), 1):
        try:
            spectra.append(_with_compact_counts(read_spectrum_node(node, f"{path}::{index}")))
        except ScanError as error:
            faults.append(error)
    if not spectra and faults:
        raise faults[0]
    if faults:
        note = f"{len(faults)} of {len(spectra) + len(faults)} spectra are skipped: {faults[0]}"
        spectra = [replace(spectrum, notes=(*spectrum.notes, note)) for spectrum in spectra]
    if not spectra:
        raise ScanError(f"Cannot read {path}: an ARTAX project without a spectrum in it. Export the spectra again.")
    return [scan_of_spectra(spectra, path, FORMAT.name, part_name)]


def _with_compact_counts(spectrum: FileSpectrum) -> FileSpectrum:
    """Store a spectrum's counts in a type of half the size, unless this would change the counts."""
    counts = spectrum.counts.astype(np.float32)
    return spectrum if (counts != spectrum.counts).any() else replace(spectrum, counts=counts)
