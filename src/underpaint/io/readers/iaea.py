"""Single spectra in the IAEA text format, ``.spe``, as Ortec's and other gamma and X-ray programs write them.

Blocks that begin with a line ``$KEY:``. ``$DATA:`` has the numbers of the first and the last channel in its first line,
then the counts, any number a line; ``$MEAS_TIM:`` live and real time, s. Energies: ``$MCA_CAL:``, the number of
coefficients and then those of a polynomial in the channel, with their unit; else ``$ENER_FIT:``, zero and gain.

Source: IAEA, SPEDAC user's manual (1994), as quoted in GBS Elektronik, MCA-166 manual, appendix 1; Ortec, software file
structure manual.
"""

import re
from pathlib import Path

import numpy as np

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._energies import NO_CALIBRATION, Axis, axis_of_coefficients, number, seconds, unit_of
from underpaint.io._single import FileSpectrum, read_content, spectrum_scan
from underpaint.io.readers import Format

FORMAT = Format(
    "IAEA .spe",
    "IAEA spectrum, Ortec and others",
    endings=(".spe",),
    recognised_by="a first line $KEY:",
    source="IAEA, SPEDAC user's manual (1994); Ortec, software file structure manual",
)
_MAX_BYTES = 64 * 2**20
_MAX_CHANNELS = 2**20
_MAX_VALUE = 200


def sniff(path: Path, head: bytes) -> bool:
    """Whether a file's first bytes are blocks of an IAEA spectrum."""
    return bool(re.match(rb"\s*\$[A-Z_0-9]+:", head.removeprefix(b"\xef\xbb\xbf")))


def read(path: Path, name: str | None, shape: tuple[int, int] | None) -> Scan:
    """Read an IAEA spectrum as a scan of one pixel.

    Raises
    ------
    ScanError
        There are no counts, or another number than promised.
    """
    text = read_content(path, _MAX_BYTES, "single IAEA spectrum").decode("latin-1")
    parts = re.split(r"(?m)^\s*\$([A-Z_0-9]+):?[ \t]*", "\n".join(text.splitlines()))
    blocks = {key: body.strip() for key, body in zip(parts[1::2], parts[2::2], strict=True)}
    words = blocks.get("DATA", "").split()
    values = [number(word) for word in words]
    n_channel = _n_channel(values)
    if n_channel is None or len(values) != n_channel + 2 or None in values:
        odd = next((word for word, value in zip(words, values, strict=True) if value is None), None)
        fault = f"{odd[:30]!r} in place of a number" if odd else f"{max(0, len(values) - 2)} counts"
        first_words = " to ".join(words[:2])[:40] or "(none)"
        raise ScanError(
            f"Cannot read {path}: an IAEA spectrum whose $DATA declares the channels {first_words}, and holds "
            f"{fault}. It is cut off or edited; copy it again."
        )
    counts = np.array(values[2:], dtype=np.float64)
    axis, notes = _axis(blocks, counts.size, int(values[0] or 0))
    live, real = (*(seconds(word) for word in blocks.get("MEAS_TIM", "").split()[:2]), None, None)[:2]
    short = {key: body for key, body in blocks.items() if key != "DATA" and 0 < len(body) <= _MAX_VALUE}
    return spectrum_scan(FileSpectrum(counts, axis, live, real, notes=notes, metadata=short), path, FORMAT.name)


def _n_channel(values: list[float | None]) -> int | None:
    first, last = (*values, None, None)[:2]
    if first is None or last is None or not (first.is_integer() and last.is_integer()):
        return None
    return int(last - first) + 1 if 0 <= first < last < _MAX_CHANNELS else None


def _axis(blocks: dict[str, str], n_channel: int, first: int) -> Axis:
    """Axis from the coefficients; they count channels from 0, even if the data start later."""
    words = blocks.get("MCA_CAL", "").split()
    coefficients = [number(word) for word in words[1:] if number(word) is not None]
    if len(coefficients) < 2:
        coefficients = [number(word) for word in blocks.get("ENER_FIT", "").split() if number(word) is not None][:2]
    values = [value for value in coefficients if value is not None]
    if len(values) < 2:
        return None, (NO_CALIBRATION,)
    shifted = np.polynomial.Polynomial(values)(np.polynomial.Polynomial([float(first), 1.0])) if first else None
    unit = unit_of(blocks.get("MCA_CAL", "")) or unit_of(blocks.get("ENER_FIT", ""))
    return axis_of_coefficients(values if shifted is None else shifted.coef.tolist(), n_channel, unit)
