"""Ripple cubes: a ``.rpl`` text header with a ``.raw`` file of numbers (Lispix's format).

The header has a key and a value a line, separated by a tab (some write a space or a comma); ``;`` begins a comment.
``width``, ``height``, ``depth`` are columns, rows, channels; ``data-type`` signed, unsigned or float with
``data-length`` 1, 2, 4 or 8 bytes; ``byte-order`` big-endian, little-endian or dont-care; ``record-by`` vector
(spectrum by spectrum) or image (channel by channel); ``offset`` bytes come before the numbers. INCA of Oxford
Instruments writes ``(MLX::key : value)`` instead. Scales (``depth-scale``, ``depth-origin``, ``depth-units``, ...) and
``live-time`` are HyperSpy's additions, ``depthscaleincrement``, ``depthscaleorigin``, ``depthscaleunits`` those of
Esprit (Bruker), ``ev-per-chan`` is Lispix's own.

Source: D. Bright (NIST), manual of Lispix, "raw and rpl files"; the rosettasciio documentation for the additions.
"""

import re
from copy import copy
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._energies import NO_CALIBRATION, Axis, axis_of_coefficients, energy_unit, parse_number
from underpaint.io._source import lazy_counts, try_read
from underpaint.io.readers import Format

FORMAT = Format(
    "ripple .rpl/.raw",
    "ripple",
    endings=(
        ".rpl",
        ".raw",
    ),
    recognised_by="a text file with width, height, depth and record-by; .raw: by its .rpl file",
    source="D. Bright (NIST), manual of Lispix: raw and rpl files",
    priority=80,
)
_KIND = {"signed": "i", "unsigned": "u", "float": "f", "real": "f"}
_BYTE_ORDER = {"big-endian": ">", "little-endian": "<", "dont-care": "="}
_LENGTHS = {"i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (4, 8)}
_REQUIRED = ("width", "height", "depth", "data-length", "data-type", "record-by")
_MAX_HEADER_BYTES = 65536
_DEPTH_KEYS = (
    ("depth-scale", "depthscaleincrement"),
    ("depth-origin", "depthscaleorigin"),
    ("depth-units", "depthscaleunits"),
)
"""HyperSpy's keys for gain, zero and unit, and Esprit's."""
_N_CHECKED, _N_PIXELS, _MIN_CHECKED = 2**20, 16, 1000
_MUCH_LARGER, _MAX_LIKELY, _MAX_COUNT = 50.0, 1e7, 1e12
_MUCH_ROUGHER = 5.0
_NO_UNIT = {"undefined", "<undefined>", "none", "channel", "channels", "energy"}
_UNIT_MM = {"mm": 1.0, "um": 1e-3, "µm": 1e-3, "cm": 10.0, "nm": 1e-6}


def sniff(path: Path, head: bytes) -> bool:
    """Whether a file is a ripple header, or its ``.raw`` file."""
    if not head or _has_keys(head):
        return bool(head)
    return path.suffix.lower() == ".raw" and any(_has_keys(_small(header)) for header in _siblings(path, ".rpl"))


def read(path: Path, name: str | None, shape: tuple[int, int] | None) -> Scan:
    """Read a ripple cube by its header or its ``.raw`` file; the numbers are memory-mapped.

    Raises
    ------
    ScanError
        A header field is missing or wrong, the numbers are not there, fewer than the header promises, or they make no
        sense as it describes them.
    """
    header = path if _has_keys(_small(path)) else _siblings(path, ".rpl")[0]
    fields = _fields(header)
    raw = _raw_file(header, path)
    cube = RippleCube(raw, header, fields)
    _check_type(cube, header)
    _check_order(cube, header)
    axis, axis_notes = _axis(fields, cube.shape[2])
    return Scan(
        lazy_counts(cube, str(header)),
        axis=axis,
        name=header.stem,
        source=str(header),
        format=FORMAT.name,
        live_time_s=_live_time(fields, cube.shape),
        step_mm=_step(fields),
        notes=axis_notes,
        metadata=dict(fields),
    )


class RippleCube:
    """Memory-mapped numbers as (row, column, channel), for either order of storage."""

    def __init__(self, raw: Path, header: Path, fields: dict[str, str]) -> None:
        missing = [key for key in _REQUIRED if key not in fields]
        if missing:
            raise ScanError(f"Cannot read {header}: the header lacks {', '.join(missing)}.")
        width, height, depth = (_count(fields, key, header) for key in ("width", "height", "depth"))
        self.raw, self.offset = raw, _count(fields, "offset", header, least=0) if "offset" in fields else 0
        self.dtype, self.by_vector = _dtype(fields, header), _by_vector(fields, header)
        self.shape = (height, width, depth)
        self._check_size(header)

    def _check_size(self, header: Path) -> None:
        n_row, n_column, n_channel = self.shape
        needed = self.offset + n_row * n_column * n_channel * self.dtype.itemsize
        n_byte = try_read(self.raw.stat, str(self.raw)).st_size
        if n_byte < needed:
            raise ScanError(
                f"Cannot read {header}: {n_row} x {n_column} pixels of {n_channel} channels "
                f"need {needed} bytes, "
                f"{self.raw.name} holds {n_byte}. The file is cut off or the header belongs to another one."
            )

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels."""
        n_row, n_column, n_channel = self.shape
        if self.by_vector:
            numbers = np.memmap(self.raw, self.dtype, "r", self.offset, self.shape)
            return np.array(numbers[rows, columns], dtype=self.dtype.newbyteorder("="))
        images = np.memmap(self.raw, self.dtype, "r", self.offset, (n_channel, n_row, n_column))
        return np.array(np.moveaxis(images[:, rows, columns], 0, 2), dtype=self.dtype.newbyteorder("="), order="C")


def _check_type(cube: RippleCube, header: Path) -> None:
    """Refuse numbers that make sense only in another byte order, or as numbers of another type."""
    if cube.dtype.itemsize == 1:
        return
    values = np.fromfile(cube.raw, cube.dtype, min(_N_CHECKED, int(np.prod(cube.shape))), offset=cube.offset)
    middle, length = _middle(values), cube.dtype.itemsize
    types = [np.dtype(f"{order}{kind}{length}") for kind in "uf" if length in _LENGTHS[kind] for order in "<>"]
    sizes = {_middle(values.view(each)): each for each in types}
    likely = min((size for size in sizes if size > 0), default=0.0)
    if 0 < likely < _MAX_LIKELY and middle > _MUCH_LARGER * likely:
        raise ScanError(
            f"Cannot read {header}: as {_words_of(cube.dtype)} the numbers in {cube.raw.name} are {middle:.3g} in the "
            f"middle, which no counts are; as {_words_of(sizes[likely])} they would be {likely:.3g}. Correct data-type "
            "or byte-order in the header."
        )


def _words_of(dtype: np.dtype[Any]) -> str:
    """Return data type and byte order in the words of a header."""
    word = {"i": "signed", "u": "unsigned", "f": "float"}[dtype.kind]
    return f"{word}, {'big' if dtype.str[0] == '>' else 'little'}-endian"


def _middle(values: NDArray[Any]) -> float:
    """Return the median of the non-zero numbers; infinite if some are neither counts nor rates."""
    with np.errstate(invalid="ignore", over="ignore"):
        sizes = np.abs(values[values != 0].astype(np.float64))
    if sizes.size == 0:
        return 0.0
    likely = np.isfinite(sizes) & (sizes > 1 / _MAX_COUNT) & (sizes < _MAX_COUNT)
    return float(np.median(sizes)) if likely.mean() > 0.99 else float("inf")


def _check_order(cube: RippleCube, header: Path) -> None:
    """Refuse a cube whose spectra are smooth only in the other order of storage."""
    reordered = copy(cube)
    reordered.by_vector = not cube.by_vector
    rough, of_other = _roughness(cube), _roughness(reordered)
    if rough > _MUCH_ROUGHER * of_other > 0:
        read, right = ("vector", "image") if cube.by_vector else ("image", "vector")
        raise ScanError(
            f"Cannot read {header}: read by {read}, as its header says, channels differ from their neighbours "
            f"{rough:.3g} times as much as counts do; by {right}, {of_other:.3g}. Correct record-by in the header."
        )


def _roughness(cube: RippleCube) -> float:
    """Return the scatter of the roots of neighbouring channels, over that of counts; of some pixels."""
    row = cube.shape[0] // 2
    spectra = cube.read(slice(row, row + 1), slice(0, _N_PIXELS))[0].astype(np.float64)
    if spectra.size < _MIN_CHECKED or not (np.isfinite(spectra).all() and spectra.any()):
        return 0.0
    return float((np.diff(np.sqrt(np.abs(spectra)), 2, axis=1) ** 2).mean() / 1.5)


def _has_keys(head: bytes) -> bool:
    return {"width", "height", "depth", "record-by"} <= _pairs(head).keys()


def _small(path: Path) -> bytes:
    if try_read(path.stat, str(path)).st_size > _MAX_HEADER_BYTES:
        return b""
    content: bytes = try_read(path.read_bytes, str(path))
    return content


def _siblings(path: Path, suffix: str) -> list[Path]:
    return [
        candidate
        for candidate in (path.with_suffix(suffix), path.with_suffix(suffix.upper()))
        if candidate.is_file() and candidate != path
    ]


def _raw_file(header: Path, stated: Path) -> Path:
    candidates = [stated] if stated != header else _siblings(header, ".raw")
    if not candidates:
        raise ScanError(
            f"Cannot read {header}: the file with its numbers, {header.with_suffix('.raw').name}, is not beside it. "
            "Put it there, or give it this name."
        )
    if not any(
        candidates[0].resolve().is_relative_to(parent) for parent in (header.resolve().parent, header.parent.resolve())
    ):
        raise ScanError(f"Cannot read {header}: {candidates[0].name} is a link to another place. Copy the file there.")
    return candidates[0]


def _fields(header: Path) -> dict[str, str]:
    return {key: value for key, value in _pairs(_small(header)).items() if value}


def _pairs(content: bytes) -> dict[str, str]:
    """Keys in lower case with their values; comments and INCA's brackets fall away."""
    fields = {}
    for line in content.decode("latin-1").splitlines():
        plain = line.split(";", 1)[0].strip()
        if plain.startswith("(MLX::"):
            plain = plain.removeprefix("(MLX::").removesuffix(")").replace(" :", " ", 1)
        parts = re.split(r"\s*[,:=\s]\s*", plain, maxsplit=1)
        if parts[0]:
            fields[parts[0].lower()] = parts[1].strip() if len(parts) == 2 else ""
    return fields


def _count(fields: dict[str, str], key: str, header: Path, least: int = 1) -> int:
    try:
        value = float(fields[key])
    except ValueError as error:
        raise ScanError(f"Cannot read {header}: {key} is {fields[key]!r}; a number is needed.") from error
    if not (least <= value < 2**62 and value.is_integer()):
        raise ScanError(f"Cannot read {header}: {key} is {fields[key]}; it must be {least} or more, whole.")
    return int(value)


def _dtype(fields: dict[str, str], header: Path) -> np.dtype[Any]:
    kind, length = _KIND.get(fields["data-type"].lower()), _count(fields, "data-length", header)
    order = _BYTE_ORDER.get(fields.get("byte-order", "dont-care").lower())
    if kind is None or order is None or length not in _LENGTHS[kind]:
        raise ScanError(
            f"Cannot read {header}: numbers of data-type {fields['data-type']}, data-length "
            f"{length}, byte-order "
            f"{fields.get('byte-order')}; known are signed, unsigned (1, 2, 4, 8 bytes) and float (4, 8), "
            "big-endian, little-endian or dont-care."
        )
    return np.dtype(f"{order}{kind}{length}")


def _by_vector(fields: dict[str, str], header: Path) -> bool:
    order = fields["record-by"].lower().strip("':) ")
    if order not in {"vector", "image"}:
        raise ScanError(f"Cannot read {header}: record-by is {order!r}; a cube is stored by vector or by image.")
    return order == "vector"


def _axis(fields: dict[str, str], n_channel: int) -> Axis:
    """Energy axis from a scale of the depth, else from ``ev-per-chan``."""
    scale, origin, units = (_any_of(fields, keys) for keys in _DEPTH_KEYS)
    gain, zero, unit = parse_number(scale), parse_number(origin) or 0.0, energy_unit(units or "")
    if gain is None or (units and not unit and units.lower() not in _NO_UNIT):
        gain, zero, unit = parse_number(fields.get("ev-per-chan")), 0.0, "ev"
    return (None, (NO_CALIBRATION,)) if gain is None else axis_of_coefficients((zero, gain), n_channel, unit)


def _any_of(fields: dict[str, str], keys: tuple[str, ...]) -> str | None:
    return next((fields[key] for key in keys if key in fields), None)


def _step(fields: dict[str, str]) -> tuple[float, float] | None:
    steps = []
    for side in ("height", "width"):
        scale = parse_number(_any_of(fields, (f"{side}-scale", f"{side}scaleincrement")))
        unit_mm = _UNIT_MM.get((_any_of(fields, (f"{side}-units", f"{side}scaleunits")) or "").lower())
        if scale is None or unit_mm is None or scale <= 0:
            return None
        steps.append(scale * unit_mm)
    return steps[0], steps[1]


def _live_time(fields: dict[str, str], shape: tuple[int, int, int]) -> NDArray[np.float64] | None:
    value = parse_number(fields.get("live-time"))
    return np.full(shape[:2], value) if value is not None and value > 0 else None
