"""Reader of ripple cubes, the format of Lispix with a text header (``.rpl``) and a binary data file (``.raw``).

Each line of the header has a key and a value, separated by a tab, space or comma. ``;`` begins a comment. ``width``,
``height`` and ``depth`` are the numbers of columns, rows and channels. ``data-type`` is signed, unsigned or float, with
``data-length`` 1, 2, 4 or 8 bytes. ``byte-order`` is big-endian, little-endian or dont-care. ``record-by`` is vector
(spectrum by spectrum) or image (channel by channel). ``offset`` is the number of bytes before the data. INCA (Oxford
Instruments) writes ``(MLX::key : value)``. HyperSpy adds scales (``depth-scale``, ``depth-origin``, ``depth-units``,
...) and ``live-time``. Esprit (Bruker) adds ``depthscaleincrement``, ``depthscaleorigin`` and ``depthscaleunits``, and
Lispix adds ``ev-per-chan``.

Source: D. Bright (NIST), manual of Lispix, "raw and rpl files"; for the other keys, the rosettasciio documentation.
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
_KIND_CODES = {"signed": "i", "unsigned": "u", "float": "f", "real": "f"}
_BYTE_ORDER_CODES = {"big-endian": ">", "little-endian": "<", "dont-care": "="}
_ITEM_SIZES = {"i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (4, 8)}
_REQUIRED_KEYS = ("width", "height", "depth", "data-length", "data-type", "record-by")
_MAX_HEADER_BYTES = 65536
_DEPTH_KEYS = (
    ("depth-scale", "depthscaleincrement"),
    ("depth-origin", "depthscaleorigin"),
    ("depth-units", "depthscaleunits"),
)
"""Header keys for gain, zero and unit, first those of HyperSpy, then those of Esprit."""
_N_CHECKED_VALUES, _N_CHECKED_PIXELS, _MIN_CHECKED_VALUES = 2**20, 16, 1000
_MIN_MEDIAN_RATIO, _MAX_PLAUSIBLE_MEDIAN, _MAX_COUNT = 50.0, 1e7, 1e12
_MIN_ROUGHNESS_RATIO = 5.0
_MISSING_UNITS = {"undefined", "<undefined>", "none", "channel", "channels", "energy"}
_MM_PER_UNIT = {"mm": 1.0, "um": 1e-3, "µm": 1e-3, "cm": 10.0, "nm": 1e-6}


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file is a ripple header or the ``.raw`` file of such a header."""
    if not head or _has_keys(head):
        return bool(head)
    return path.suffix.lower() == ".raw" and any(
        _has_keys(_read_small_file(header)) for header in _sibling_files(path, ".rpl")
    )


def read(path: Path, part_name: str | None, shape: tuple[int, int] | None) -> Scan:
    """Read a ripple cube from its header or its ``.raw`` file. The counts are mapped into memory.

    Raises
    ------
    ScanError
        A header field is missing or wrong, or the ``.raw`` file is missing or too short. The counts are implausible in
        the declared type or storage order.
    """
    header = path if _has_keys(_read_small_file(path)) else _sibling_files(path, ".rpl")[0]
    fields = _header_fields(header)
    raw_path = _raw_file(header, path)
    cube = RippleCube(raw_path, header, fields)
    _check_type(cube, header)
    _check_record_order(cube, header)
    axis, axis_notes = _axis(fields, cube.shape[2])
    return Scan(
        lazy_counts(cube, str(header)),
        axis=axis,
        name=header.stem,
        source=str(header),
        format=FORMAT.name,
        live_time_s=_live_time(fields, cube.shape),
        step_mm=_step_mm(fields),
        notes=axis_notes,
        metadata=dict(fields),
    )


class RippleCube:
    """Cube of a ``.raw`` file that is mapped into memory, for both storage orders."""

    def __init__(self, raw_path: Path, header: Path, fields: dict[str, str]) -> None:
        missing_keys = [field_name for field_name in _REQUIRED_KEYS if field_name not in fields]
        if missing_keys:
            raise ScanError(f"Cannot read {header}: the header lacks {', '.join(missing_keys)}.")
        n_column, n_row, n_channel = (
            _integer_field(fields, field_name, header) for field_name in ("width", "height", "depth")
        )
        self.raw_path, self.offset = (
            raw_path,
            _integer_field(fields, "offset", header, min_value=0) if "offset" in fields else 0,
        )
        self.dtype, self.is_by_vector = _dtype(fields, header), _is_by_vector(fields, header)
        self.shape = (n_row, n_column, n_channel)
        self._check_size(header)

    def _check_size(self, header: Path) -> None:
        n_row, n_column, n_channel = self.shape
        needed_bytes = self.offset + n_row * n_column * n_channel * self.dtype.itemsize
        n_byte = try_read(self.raw_path.stat, str(self.raw_path)).st_size
        if n_byte < needed_bytes:
            raise ScanError(
                f"Cannot read {header}: {n_row} x {n_column} pixels of {n_channel} channels "
                f"need {needed_bytes} bytes, "
                f"{self.raw_path.name} holds {n_byte}. The file is cut off or the header belongs to another one."
            )

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels."""
        n_row, n_column, n_channel = self.shape
        if self.is_by_vector:
            mapped_array = np.memmap(self.raw_path, self.dtype, "r", self.offset, self.shape)
            return np.array(mapped_array[rows, columns], dtype=self.dtype.newbyteorder("="))
        channel_images = np.memmap(self.raw_path, self.dtype, "r", self.offset, (n_channel, n_row, n_column))
        return np.array(
            np.moveaxis(channel_images[:, rows, columns], 0, 2), dtype=self.dtype.newbyteorder("="), order="C"
        )


def _check_type(cube: RippleCube, header: Path) -> None:
    """Refuse values that are implausible in the declared type and byte order, but plausible in another."""
    if cube.dtype.itemsize == 1:
        return
    checked_values = np.fromfile(
        cube.raw_path, cube.dtype, min(_N_CHECKED_VALUES, int(np.prod(cube.shape))), offset=cube.offset
    )
    stated_median, item_size = _median_size(checked_values), cube.dtype.itemsize
    candidate_types = [
        np.dtype(f"{byte_order}{kind_code}{item_size}")
        for kind_code in "uf"
        if item_size in _ITEM_SIZES[kind_code]
        for byte_order in "<>"
    ]
    type_by_median = {
        _median_size(checked_values.view(candidate_type)): candidate_type for candidate_type in candidate_types
    }
    smallest_median = min((median_size for median_size in type_by_median if median_size > 0), default=0.0)
    if 0 < smallest_median < _MAX_PLAUSIBLE_MEDIAN and stated_median > _MIN_MEDIAN_RATIO * smallest_median:
        raise ScanError(
            f"Cannot read {header}: as {_type_text(cube.dtype)} the values in {cube.raw_path.name} have the median "
            f"{stated_median:.3g}, too large for counts; as {_type_text(type_by_median[smallest_median])} they "
            "would be "
            f"{smallest_median:.3g}. Correct data-type or byte-order in the header."
        )


def _type_text(dtype: np.dtype[Any]) -> str:
    """Return the type and byte order of values in the words of a ripple header."""
    kind_name = {"i": "signed", "u": "unsigned", "f": "float"}[dtype.kind]
    return f"{kind_name}, {'big' if dtype.str[0] == '>' else 'little'}-endian"


def _median_size(checked_values: NDArray[Any]) -> float:
    """Return the median of the non-zero values, or infinity if over 1 % of them are neither counts nor rates."""
    with np.errstate(invalid="ignore", over="ignore"):
        absolute_values = np.abs(checked_values[checked_values != 0].astype(np.float64))
    if absolute_values.size == 0:
        return 0.0
    is_plausible = np.isfinite(absolute_values) & (absolute_values > 1 / _MAX_COUNT) & (absolute_values < _MAX_COUNT)
    return float(np.median(absolute_values)) if is_plausible.mean() > 0.99 else float("inf")


def _check_record_order(cube: RippleCube, header: Path) -> None:
    """Refuse a cube whose spectra are smooth only if read in the other storage order."""
    reordered_cube = copy(cube)
    reordered_cube.is_by_vector = not cube.is_by_vector
    roughness, other_roughness = _roughness(cube), _roughness(reordered_cube)
    if roughness > _MIN_ROUGHNESS_RATIO * other_roughness > 0:
        stated_order, other_order = ("vector", "image") if cube.is_by_vector else ("image", "vector")
        raise ScanError(
            f"Cannot read {header}: read by {stated_order}, as the header states, neighbouring channels differ "
            f"{roughness:.3g} "
            f"times as much as counts do, but {other_roughness:.3g} times by {other_order}. Correct record-by "
            "in the header."
        )


def _roughness(cube: RippleCube) -> float:
    """Return the roughness of a sample of spectra, relative to the roughness of Poisson-distributed counts.

    Roughness is the variance of the second differences of the counts' square roots along the channels.
    """
    middle_row = cube.shape[0] // 2
    spectra = cube.read(slice(middle_row, middle_row + 1), slice(0, _N_CHECKED_PIXELS))[0].astype(np.float64)
    if spectra.size < _MIN_CHECKED_VALUES or not (np.isfinite(spectra).all() and spectra.any()):
        return 0.0
    return float((np.diff(np.sqrt(np.abs(spectra)), 2, axis=1) ** 2).mean() / 1.5)


def _has_keys(head: bytes) -> bool:
    return {"width", "height", "depth", "record-by"} <= _parse_header(head).keys()


def _read_small_file(path: Path) -> bytes:
    if try_read(path.stat, str(path)).st_size > _MAX_HEADER_BYTES:
        return b""
    file_content: bytes = try_read(path.read_bytes, str(path))
    return file_content


def _sibling_files(path: Path, file_suffix: str) -> list[Path]:
    return [
        sibling
        for sibling in (path.with_suffix(file_suffix), path.with_suffix(file_suffix.upper()))
        if sibling.is_file() and sibling != path
    ]


def _raw_file(header: Path, given_path: Path) -> Path:
    raw_files = [given_path] if given_path != header else _sibling_files(header, ".raw")
    if not raw_files:
        raise ScanError(
            f"Cannot read {header}: the file with its numbers, {header.with_suffix('.raw').name}, is not next to it. "
            "Put the data file there, under this name."
        )
    if not any(
        raw_files[0].resolve().is_relative_to(allowed_folder)
        for allowed_folder in (header.resolve().parent, header.parent.resolve())
    ):
        raise ScanError(f"Cannot read {header}: {raw_files[0].name} is a link to another place. Copy the file there.")
    return raw_files[0]


def _header_fields(header: Path) -> dict[str, str]:
    return {
        field_name: field_value
        for field_name, field_value in _parse_header(_read_small_file(header)).items()
        if field_value
    }


def _parse_header(header_content: bytes) -> dict[str, str]:
    """Return the values of the header by their lower-case keys, without comments and INCA's brackets."""
    fields = {}
    for line in header_content.decode("latin-1").splitlines():
        line_text = line.split(";", 1)[0].strip()
        if line_text.startswith("(MLX::"):
            line_text = line_text.removeprefix("(MLX::").removesuffix(")").replace(" :", " ", 1)
        key_and_value = re.split(r"\s*[,:=\s]\s*", line_text, maxsplit=1)
        if key_and_value[0]:
            fields[key_and_value[0].lower()] = key_and_value[1].strip() if len(key_and_value) == 2 else ""
    return fields


def _integer_field(fields: dict[str, str], field_name: str, header: Path, min_value: int = 1) -> int:
    try:
        parsed_number = float(fields[field_name])
    except ValueError as error:
        raise ScanError(f"Cannot read {header}: {field_name} is {fields[field_name]!r}; a number is needed.") from error
    if not (min_value <= parsed_number < 2**62 and parsed_number.is_integer()):
        raise ScanError(
            f"Cannot read {header}: {field_name} is {fields[field_name]}; it must be an integer, {min_value} or more."
        )
    return int(parsed_number)


def _dtype(fields: dict[str, str], header: Path) -> np.dtype[Any]:
    kind_code, item_size = _KIND_CODES.get(fields["data-type"].lower()), _integer_field(fields, "data-length", header)
    byte_order = _BYTE_ORDER_CODES.get(fields.get("byte-order", "dont-care").lower())
    if kind_code is None or byte_order is None or item_size not in _ITEM_SIZES[kind_code]:
        raise ScanError(
            f"Cannot read {header}: numbers of data-type {fields['data-type']}, data-length "
            f"{item_size}, byte-order "
            f"{fields.get('byte-order')}; known are signed, unsigned (1, 2, 4, 8 bytes) and float (4, 8), "
            "big-endian, little-endian or dont-care."
        )
    return np.dtype(f"{byte_order}{kind_code}{item_size}")


def _is_by_vector(fields: dict[str, str], header: Path) -> bool:
    record_order = fields["record-by"].lower().strip("':) ")
    if record_order not in {"vector", "image"}:
        raise ScanError(f"Cannot read {header}: record-by is {record_order!r}; a cube is stored by vector or by image.")
    return record_order == "vector"


def _axis(fields: dict[str, str], n_channel: int) -> Axis:
    """Return the energy axis of the depth scale, or of ``ev-per-chan`` if there is no depth scale."""
    depth_scale, depth_origin, depth_units = (_first_value(fields, depth_keys) for depth_keys in _DEPTH_KEYS)
    gain, zero, unit = parse_number(depth_scale), parse_number(depth_origin) or 0.0, energy_unit(depth_units or "")
    if gain is None or (depth_units and not unit and depth_units.lower() not in _MISSING_UNITS):
        gain, zero, unit = parse_number(fields.get("ev-per-chan")), 0.0, "ev"
    return (None, (NO_CALIBRATION,)) if gain is None else axis_of_coefficients((zero, gain), n_channel, unit)


def _first_value(fields: dict[str, str], field_names: tuple[str, ...]) -> str | None:
    return next((fields[field_name] for field_name in field_names if field_name in fields), None)


def _step_mm(fields: dict[str, str]) -> tuple[float, float] | None:
    steps_mm = []
    for dimension in ("height", "width"):
        pixel_size = parse_number(_first_value(fields, (f"{dimension}-scale", f"{dimension}scaleincrement")))
        unit_mm = _MM_PER_UNIT.get(
            (_first_value(fields, (f"{dimension}-units", f"{dimension}scaleunits")) or "").lower()
        )
        if pixel_size is None or unit_mm is None or pixel_size <= 0:
            return None
        steps_mm.append(pixel_size * unit_mm)
    return steps_mm[0], steps_mm[1]


def _live_time(fields: dict[str, str], shape: tuple[int, int, int]) -> NDArray[np.float64] | None:
    live_time_s = parse_number(fields.get("live-time"))
    return np.full(shape[:2], live_time_s) if live_time_s is not None and live_time_s > 0 else None
