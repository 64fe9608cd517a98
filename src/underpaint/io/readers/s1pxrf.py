"""Reader of single spectra in ``.CSV`` files from S1PXRF, the software of Bruker's hand-held Tracer.

The first line contains S1PXRF. Lines ``key,value`` follow up to ``Channel#,Intensity``. Each later line has a channel
and its counts in quotes. In many files, lines end in a carriage return only. ``eV per channel`` is the gain, and the
energy of channel 0 is not stated. ``Live Time`` and ``Duration Time`` are in s. ``HV ADC`` is the tube voltage in kV.

Source: Bruker publishes no specification. The keys are those in files of a Tracer (leedrake5/CloudCal-Training).
"""

from pathlib import Path

import numpy as np

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._energies import axis_of_coefficients, parse_number, parse_seconds
from underpaint.io._single import FileSpectrum, read_limited, spectrum_scan
from underpaint.io.readers import Format

FORMAT = Format(
    "Bruker S1PXRF text",
    "Bruker S1PXRF text, hand-held",
    endings=(".csv",),
    recognised_by="first line with S1PXRF",
    source="unpublished; read off files of a Tracer",
)
_MAX_FILE_BYTES = 16 * 2**20
_NO_ZERO = "the file does not state the zero of its energy axis: channel 0 is assumed to be at 0 keV"


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file begins like an export of S1PXRF."""
    return b"S1PXRF" in head.splitlines()[0] if head.strip() else False


def read(path: Path, part_name: str | None, shape: tuple[int, int] | None) -> Scan:
    """Read an S1PXRF spectrum as a scan of one pixel.

    Raises
    ------
    ScanError
        The file is truncated, or its lines are not in the order of the channels.
    """
    file_text = read_limited(path, _MAX_FILE_BYTES, "single S1PXRF spectrum").decode("latin-1")
    text_lines = [text_line.strip() for text_line in file_text.splitlines() if text_line.strip()]
    table_start = next(
        (
            text_line_index
            for text_line_index, text_line in enumerate(text_lines)
            if text_line.lower().startswith("channel#")
        ),
        len(text_lines),
    )
    fields = {
        field_name.strip(): field_value.strip(' "')
        for field_name, _, field_value in (text_line.partition(",") for text_line in text_lines[1:table_start])
    }
    channel_count_pairs = [
        tuple(parse_number(number_text.strip(' "')) for number_text in text_line.split(",", 1))
        for text_line in text_lines[table_start + 1 :]
    ]
    channels = [
        channel_and_count[0]
        for channel_and_count in channel_count_pairs
        if len(channel_and_count) == 2 and channel_and_count[1] is not None
    ]
    n_declared = parse_number(fields.get("Number of Channels"))
    if (
        len(channel_count_pairs) < 2
        or channels != list(range(len(channel_count_pairs)))
        or n_declared not in {None, len(channel_count_pairs)}
    ):
        raise ScanError(
            f"Cannot read {path}: an S1PXRF spectrum of {fields.get('Number of Channels', 'unstated')} channels whose "
            f"{len(channel_count_pairs)} lines do not hold each of them. The file is cut off or edited; export the "
            "file again."
        )
    counts = np.array([channel_and_count[1] for channel_and_count in channel_count_pairs], dtype=np.float64)
    axis, notes = axis_of_coefficients((0.0, parse_number(fields.get("eV per channel")) or 0.0), counts.size, "ev")
    spectrum = FileSpectrum(
        counts,
        axis,
        parse_seconds(fields.get("Live Time")),
        parse_seconds(fields.get("Duration Time")),
        fields.get("Label", ""),
        notes=(*notes, *((_NO_ZERO,) if axis is not None else ())),
        metadata=fields,
    )
    return spectrum_scan(spectrum, path, FORMAT.name)
