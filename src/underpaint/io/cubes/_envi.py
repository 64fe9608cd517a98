"""Reader of cubes in the ENVI format, which consist of a text header and a binary data file.

Specification: the header begins with ``ENVI``. The entries ``samples``, ``lines``, ``bands``, ``data type``,
``interleave``, ``byte order`` and ``header offset`` give the layout of the data. The entries ``wavelength``,
``wavelength units``, ``bbl`` (0 for a bad band), ``reflectance scale factor`` and ``data ignore value`` describe the
bands and values. The data file is in the same folder and has the name of the header, with another ending or none.

Source: NV5 Geospatial, ENVI Header Files (https://www.nv5geospatialsoftware.com/docs/enviheaderfiles.html), read by
Spectral Python (T. Boggs, MIT).
"""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.errors import ScanError
from underpaint.io._source import MappedCube, first_bytes, first_line, is_outside
from underpaint.io.cubes._parts import CubeParts

_MAGIC = b"ENVI"
_MAX_HEADER_BYTES = 2**24
_DIMENSION_ORDERS = {"bsq": (1, 2, 0), "bil": (0, 2, 1), "bip": (0, 1, 2)}
"""Indices of the row, column and band dimensions in the data file, for each value of ``interleave``."""
_DATA_TYPES_BY_BYTES = {
    1: "1 (8 bits)",
    2: "12 (16 bits) or 2 (signed)",
    4: "4 (32-bit floats)",
    8: "5 (64-bit floats)",
}
_DATA_ENDINGS = ("raw", "img", "dat", "bil", "bip", "bsq", "bin", "hyspex")
_MAX_EXTRA_BYTES_FRACTION = 0.01


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file is an ENVI header or has a header in the same folder."""
    return path.is_file() and (head.startswith(_MAGIC) or _find_header(path) is not None)


def read(path: Path, part_name: str | None, n_band: int | None) -> CubeParts:
    """Read the header, and map the data file into memory.

    Raises
    ------
    ScanError
        The header is damaged, the data file is missing, or its size differs from that declared in the header.
    """
    del part_name, n_band
    header_path = path if first_bytes(path, len(_MAGIC)) == _MAGIC else _find_header(path)
    if header_path is None:
        raise ScanError(f"Cannot read {path}: there is no ENVI header in its folder. Copy the .hdr file there.")
    if header_path.stat().st_size > _MAX_HEADER_BYTES:
        raise ScanError(f"Cannot read {header_path}: an ENVI header is a small text file. Give the header of the cube.")
    header, image = _open_image(header_path, None if header_path == path else path)
    cube, notes = _map_data(header_path, header, image)
    bad_band_marks = _read_numbers(header, "bbl", header_path)
    return CubeParts(
        cube,
        _read_numbers(header, "wavelength", header_path),
        str(header.get("wavelength units", "")),
        None if bad_band_marks is None else bad_band_marks == 0,
        _read_number(header, "reflectance scale factor", header_path),
        _read_number(header, "data ignore value", header_path),
        notes,
    )


def _find_header(path: Path) -> Path | None:
    """Return the path of a data file's header, such as ``cube.hdr`` or ``cube.raw.hdr`` for ``cube.raw``."""
    candidate_paths = (path.with_suffix(".hdr"), path.with_suffix(".HDR"), path.with_name(f"{path.name}.hdr"))
    return next(
        (
            candidate_path
            for candidate_path in candidate_paths
            if candidate_path != path
            and candidate_path.is_file()
            and first_bytes(candidate_path, len(_MAGIC)) == _MAGIC
        ),
        None,
    )


def _open_image(header_path: Path, data_path: Path | None) -> tuple[Mapping[str, Any], Any]:
    """Return the entries of the header, and the image object of Spectral Python."""
    from spectral.io import envi

    # Spectral Python prints errors with unescaped control characters. They are silenced; exceptions report the errors.
    logging.getLogger("spectral").setLevel(logging.CRITICAL)
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the library warns about capital letters in the names of entries
        # The library assumes the system's encoding, but some cameras write the µ of "µm" as a single byte.
        header_copy = Path(folder) / "header.hdr"
        header_text = (
            header_path.read_bytes().replace(b"\xc2\xb5", b"u").replace(b"\xb5", b"u").decode("ascii", "replace")
        )
        header_copy.write_text(header_text.replace("\ufffd", "?"), encoding="ascii")
        try:
            header = envi.read_envi_header(str(header_copy))
            if str(header.get("file type", "")).strip().lower() == "envi spectral library":
                raise ScanError(
                    f"Cannot read {header_path} as a cube: it is a spectral library. Give it with --library, or add it "
                    "with `underpaint pigments add-reflectance`."
                )
            return header, envi.open(
                str(header_copy), str(data_path or _find_data(header_path, str(header.get("interleave", ""))))
            )
        except ScanError:
            raise
        except Exception as error:  # the library also raises the errors of int() and float()
            raise ScanError(
                f"Cannot read {header_path}: the ENVI header is damaged ({first_line(error)}). It needs samples, "
                "lines, bands, data type, interleave and byte order; correct or export the file again."
            ) from error


def _find_data(header_path: Path, interleave: str) -> Path:
    """Return the path of the data file of a header.

    Raises
    ------
    ScanError
        The data file does not exist.
    """
    endings = ("", *(f".{ending}" for ending in (interleave.strip().lower(), *_DATA_ENDINGS)))
    candidate_paths = [
        header_path.with_suffix(cased_ending) for ending in endings for cased_ending in (ending, ending.upper())
    ]
    data_path = next((path for path in candidate_paths if path.is_file() and path != header_path), None)
    if data_path is None:
        raise ScanError(
            f"Cannot read {header_path}: the data file is not in its folder. Copy it there, under the header's "
            f"name with the ending .{', .'.join(_DATA_ENDINGS)} or none."
        )
    return data_path


def _map_data(header_path: Path, header: Mapping[str, Any], image: Any) -> tuple[MappedCube, tuple[str, ...]]:
    data_path, dtype = Path(image.filename), np.dtype(image.dtype)
    if is_outside(data_path, header_path.parent):
        raise ScanError(
            f"Cannot read {header_path}: its data {data_path.name} are a link to another place. Copy them here."
        )
    image_sizes = (int(image.nrows), int(image.ncols), int(image.nbands))
    dimension_order = _DIMENSION_ORDERS.get(str(header["interleave"]).strip().lower())
    if dtype.kind not in "uif" or dimension_order is None or min(image_sizes) < 1 or image.offset < 0:
        raise ScanError(
            f"Cannot read {header_path}: {image_sizes[0]} lines x {image_sizes[1]} samples x {image_sizes[2]} "
            f"bands of {dtype} "
            f"({header['interleave']}); only real numbers in bsq, bil or bip can be read. Correct the header."
        )
    n_value = image_sizes[0] * image_sizes[1] * image_sizes[2]
    stored_bytes = data_path.stat().st_size - int(image.offset)
    expected_bytes = n_value * dtype.itemsize
    shape = [0, 0, 0]
    for dimension_size, stored_dimension in zip(image_sizes, dimension_order, strict=True):
        shape[stored_dimension] = dimension_size
    notes: tuple[str, ...] = ()
    if stored_bytes != expected_bytes:
        if not expected_bytes < stored_bytes <= (1 + _MAX_EXTRA_BYTES_FRACTION) * expected_bytes:
            raise ScanError(_size_fault(header_path, header, data_path, image_sizes, stored_bytes, dtype))
        notes = (f"{stored_bytes - expected_bytes} bytes after the last band of {data_path.name} are not used",)
    return MappedCube(data_path, int(image.offset), (shape[0], shape[1], shape[2]), dtype, dimension_order), notes


def _size_fault(
    header_path: Path,
    header: Mapping[str, Any],
    data_path: Path,
    image_sizes: Sequence[int],
    stored_bytes: int,
    dtype: np.dtype[Any],
) -> str:
    n_value = image_sizes[0] * image_sizes[1] * image_sizes[2]
    bytes_per_value, remaining_bytes = divmod(stored_bytes, n_value)
    if not remaining_bytes and bytes_per_value in _DATA_TYPES_BY_BYTES:
        other_type = (
            f"each value has {8 * bytes_per_value} bits, not the {8 * dtype.itemsize} of data type "
            f"{header['data type']}"
        )
        corrected_entry = f"In this case, correct the header: data type = {_DATA_TYPES_BY_BYTES[bytes_per_value]}."
        if bytes_per_value < dtype.itemsize:
            size_advice = f"It is cut off: copy the file again. If it is complete, {other_type}. {corrected_entry}"
        else:
            size_advice = f"If lines, samples and bands are right, {other_type}. {corrected_entry}"
    else:
        size_advice = "It is cut off, or the header belongs to another cube. Copy both again."
    return (
        f"Cannot read {header_path}: it declares {image_sizes[0]} lines x {image_sizes[1]} samples x "
        f"{image_sizes[2]} bands, "
        f"{n_value * dtype.itemsize} bytes, and {data_path.name} holds {stored_bytes}. {size_advice}"
    )


def _read_numbers(header: Mapping[str, Any], entry_name: str, path: Path) -> NDArray[np.float64] | None:
    if entry_name not in header:
        return None
    entry_values = header[entry_name] if isinstance(header[entry_name], list) else [header[entry_name]]
    try:
        return np.array([float(entry_value) for entry_value in entry_values if str(entry_value).strip()])
    except ValueError as error:
        raise ScanError(
            f"Cannot read {path}: its entry {entry_name!r} holds {first_line(error)}. Correct the header."
        ) from error


def _read_number(header: Mapping[str, Any], entry_name: str, path: Path) -> float | None:
    entry_numbers = _read_numbers(header, entry_name, path)
    return (
        float(entry_numbers[0])
        if entry_numbers is not None and entry_numbers.size == 1 and np.isfinite(entry_numbers[0])
        else None
    )
