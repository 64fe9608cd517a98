"""Reader of single spectra in the IAEA text format (``.spe``), which Ortec's and other programs write.

A file consists of blocks that begin with a line ``$KEY:``. The first line of ``$DATA:`` has the numbers of the first
and last channel, and the counts follow, with any number per line. ``$MEAS_TIM:`` has the live and real time in s.
``$MCA_CAL:`` has the number of coefficients of the energy polynomial, the coefficients, and their unit. Files without
``$MCA_CAL:`` may have zero and gain in ``$ENER_FIT:``.

Source: IAEA, SPEDAC user's manual (1994), as quoted in GBS Elektronik, MCA-166 manual, appendix 1; and Ortec, software
file structure manual.
"""

import re
from pathlib import Path

import numpy as np

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._energies import NO_CALIBRATION, Axis, axis_of_coefficients, energy_unit, parse_number, parse_seconds
from underpaint.io._single import FileSpectrum, read_limited, spectrum_scan
from underpaint.io.readers import Format

FORMAT = Format(
    "IAEA .spe",
    "IAEA spectrum, Ortec and others",
    endings=(".spe",),
    recognised_by="a first line $KEY:",
    source="IAEA, SPEDAC user's manual (1994); Ortec, software file structure manual",
)
_MAX_FILE_BYTES = 64 * 2**20
_MAX_CHANNELS = 2**20
_MAX_VALUE_LENGTH = 200


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file begins like an IAEA spectrum."""
    return bool(re.match(rb"\s*\$[A-Z_0-9]+:", head.removeprefix(b"\xef\xbb\xbf")))


def read(path: Path, part_name: str | None, shape: tuple[int, int] | None) -> Scan:
    """Read an IAEA spectrum as a scan of one pixel.

    Raises
    ------
    ScanError
        The file has no counts, or their number differs from the declared number of channels.
    """
    file_text = read_limited(path, _MAX_FILE_BYTES, "single IAEA spectrum").decode("latin-1")
    split_text = re.split(r"(?m)^\s*\$([A-Z_0-9]+):?[ \t]*", "\n".join(file_text.splitlines()))
    blocks = {
        block_name: block_text.strip()
        for block_name, block_text in zip(split_text[1::2], split_text[2::2], strict=True)
    }
    data_words = blocks.get("DATA", "").split()
    data_numbers = [parse_number(number_text) for number_text in data_words]
    n_channel = _n_channel(data_numbers)
    if n_channel is None or len(data_numbers) != n_channel + 2 or None in data_numbers:
        invalid_word = next(
            (
                number_text
                for number_text, data_number in zip(data_words, data_numbers, strict=True)
                if data_number is None
            ),
            None,
        )
        fault_text = (
            f"{invalid_word[:30]!r} in place of a number" if invalid_word else f"{max(0, len(data_numbers) - 2)} counts"
        )
        declared_range = " to ".join(data_words[:2])[:40] or "(none)"
        raise ScanError(
            f"Cannot read {path}: an IAEA spectrum whose $DATA declares the channels {declared_range}, and holds "
            f"{fault_text}. The file is cut off or edited; copy the file again."
        )
    counts = np.array(data_numbers[2:], dtype=np.float64)
    axis, notes = _axis(blocks, counts.size, int(data_numbers[0] or 0))
    live_time, real_time = (
        *(parse_seconds(number_text) for number_text in blocks.get("MEAS_TIM", "").split()[:2]),
        None,
        None,
    )[:2]
    metadata_blocks = {
        block_name: block_text
        for block_name, block_text in blocks.items()
        if block_name != "DATA" and 0 < len(block_text) <= _MAX_VALUE_LENGTH
    }
    return spectrum_scan(
        FileSpectrum(counts, axis, live_time, real_time, notes=notes, metadata=metadata_blocks), path, FORMAT.name
    )


def _n_channel(data_numbers: list[float | None]) -> int | None:
    first_channel, last_channel = (*data_numbers, None, None)[:2]
    if first_channel is None or last_channel is None or not (first_channel.is_integer() and last_channel.is_integer()):
        return None
    return int(last_channel - first_channel) + 1 if 0 <= first_channel < last_channel < _MAX_CHANNELS else None


def _axis(blocks: dict[str, str], n_channel: int, first_channel: int) -> Axis:
    """Return the energy axis. The file's coefficients refer to channel 0 even if the data start at a later channel."""
    calibration_words = blocks.get("MCA_CAL", "").split()
    coefficients = [
        parse_number(number_text) for number_text in calibration_words[1:] if parse_number(number_text) is not None
    ]
    if len(coefficients) < 2:
        coefficients = [
            parse_number(number_text)
            for number_text in blocks.get("ENER_FIT", "").split()
            if parse_number(number_text) is not None
        ][:2]
    known_coefficients = [coefficient for coefficient in coefficients if coefficient is not None]
    if len(known_coefficients) < 2:
        return None, (NO_CALIBRATION,)
    shifted_polynomial = (
        np.polynomial.Polynomial(known_coefficients)(np.polynomial.Polynomial([float(first_channel), 1.0]))
        if first_channel
        else None
    )
    unit = energy_unit(blocks.get("MCA_CAL", "")) or energy_unit(blocks.get("ENER_FIT", ""))
    return axis_of_coefficients(
        known_coefficients if shifted_polynomial is None else shifted_polynomial.coef.tolist(), n_channel, unit
    )
