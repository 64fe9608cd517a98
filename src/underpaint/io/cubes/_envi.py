"""ENVI cubes: a text header and a file of plain numbers, in any interleave.

Specification: the header begins with ``ENVI``; ``samples``, ``lines``, ``bands``, ``data type``, ``interleave``,
``byte order`` and ``header offset`` say where the numbers lie; ``wavelength``, ``wavelength units``, ``bbl`` (0 of a
bad band), ``reflectance scale factor`` and ``data ignore value`` describe them. The data lie beside the header, under
its name with another ending or none.

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
_ORDERS = {"bsq": (1, 2, 0), "bil": (0, 2, 1), "bip": (0, 1, 2)}
"""Dimensions of rows, columns and bands as stored."""
_BITS = {1: "1 (8 bits)", 2: "12 (16 bits) or 2 (signed)", 4: "4 (32-bit floats)", 8: "5 (64-bit floats)"}
_ENDINGS = ("raw", "img", "dat", "bil", "bip", "bsq", "bin", "hyspex")
_SPARE_SHARE = 0.01


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file is an ENVI header, or one lies beside it."""
    return path.is_file() and (head.startswith(_MAGIC) or _header_of(path) is not None)


def read(path: Path, name: str | None, n_band: int | None) -> CubeParts:
    """Read the header, and map the data.

    Raises
    ------
    ScanError
        The header is damaged, the data are missing or of another size, or both contradict each other.
    """
    del name, n_band
    header_path = path if first_bytes(path, len(_MAGIC)) == _MAGIC else _header_of(path)
    if header_path is None:
        raise ScanError(f"Cannot read {path}: no ENVI header lies beside it. Copy the .hdr file there.")
    if header_path.stat().st_size > _MAX_HEADER_BYTES:
        raise ScanError(f"Cannot read {header_path}: an ENVI header is a small text file. Give the file's own header.")
    header, image = _opened(header_path, None if header_path == path else path)
    cube, notes = _mapped(header_path, header, image)
    bad = _numbers(header, "bbl", header_path)
    return CubeParts(
        cube,
        _numbers(header, "wavelength", header_path),
        str(header.get("wavelength units", "")),
        None if bad is None else bad == 0,
        _number(header, "reflectance scale factor", header_path),
        _number(header, "data ignore value", header_path),
        notes,
    )


def _header_of(path: Path) -> Path | None:
    """Return the header beside a data file: ``cube.hdr`` or ``cube.raw.hdr`` of ``cube.raw``."""
    names = (path.with_suffix(".hdr"), path.with_suffix(".HDR"), path.with_name(f"{path.name}.hdr"))
    return next(
        (each for each in names if each != path and each.is_file() and first_bytes(each, len(_MAGIC)) == _MAGIC), None
    )


def _opened(header_path: Path, data: Path | None) -> tuple[Mapping[str, Any], Any]:
    """Return the header's entries, and the library's description of the data."""
    from spectral.io import envi

    # It writes to the terminal, unescaped, what the exceptions and checks here say in words.
    logging.getLogger("spectral").setLevel(logging.CRITICAL)
    with TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of names in capitals
        # The library reads in the system's encoding, and cameras write theirs ("µm" as one byte).
        copy = Path(folder) / "header.hdr"
        text = header_path.read_bytes().replace(b"\xc2\xb5", b"u").replace(b"\xb5", b"u").decode("ascii", "replace")
        copy.write_text(text.replace("\ufffd", "?"), encoding="ascii")
        try:
            header = envi.read_envi_header(str(copy))
            if str(header.get("file type", "")).strip().lower() == "envi spectral library":
                raise ScanError(
                    f"Cannot read {header_path} as a cube: it is a spectral library. Give it with --library, or add it "
                    "with `underpaint pigments add-reflectance`."
                )
            return header, envi.open(str(copy), str(data or _data_of(header_path, str(header.get("interleave", "")))))
        except ScanError:
            raise
        except Exception as error:  # the library raises whatever int() and float() do
            raise ScanError(
                f"Cannot read {header_path}: the ENVI header is damaged ({first_line(error)}). It needs samples, "
                "lines, bands, data type, interleave and byte order; correct or export it again."
            ) from error


def _data_of(header_path: Path, interleave: str) -> Path:
    """Return the data beside a header.

    Raises
    ------
    ScanError
        They are not there.
    """
    endings = ("", *(f".{ending}" for ending in (interleave.strip().lower(), *_ENDINGS)))
    names = [header_path.with_suffix(each) for ending in endings for each in (ending, ending.upper())]
    data = next((path for path in names if path.is_file() and path != header_path), None)
    if data is None:
        raise ScanError(
            f"Cannot read {header_path}: the file with its data is not beside it. Copy it there, under the header's "
            f"name with the ending .{', .'.join(_ENDINGS)} or none."
        )
    return data


def _mapped(header_path: Path, header: Mapping[str, Any], image: Any) -> tuple[MappedCube, tuple[str, ...]]:
    data, dtype = Path(image.filename), np.dtype(image.dtype)
    if is_outside(data, header_path.parent):
        raise ScanError(f"Cannot read {header_path}: its data {data.name} are a link to another place. Copy them here.")
    sizes = (int(image.nrows), int(image.ncols), int(image.nbands))
    order = _ORDERS.get(str(header["interleave"]).strip().lower())
    if dtype.kind not in "uif" or order is None or min(sizes) < 1 or image.offset < 0:
        raise ScanError(
            f"Cannot read {header_path}: {sizes[0]} lines x {sizes[1]} samples x {sizes[2]} bands of {dtype} "
            f"({header['interleave']}); real numbers in bsq, bil or bip, of one or more lines, are read. Correct it."
        )
    n_value = sizes[0] * sizes[1] * sizes[2]
    stored = data.stat().st_size - int(image.offset)
    expected = n_value * dtype.itemsize
    shape = [0, 0, 0]
    for size, place in zip(sizes, order, strict=True):
        shape[place] = size
    notes: tuple[str, ...] = ()
    if stored != expected:
        if not expected < stored <= (1 + _SPARE_SHARE) * expected:
            raise ScanError(_contradiction(header_path, header, data, sizes, stored, dtype))
        notes = (f"{stored - expected} bytes after the last band of {data.name} are not used",)
    return MappedCube(data, int(image.offset), (shape[0], shape[1], shape[2]), dtype, order), notes


def _contradiction(
    header_path: Path, header: Mapping[str, Any], data: Path, sizes: Sequence[int], stored: int, dtype: np.dtype[Any]
) -> str:
    n_value = sizes[0] * sizes[1] * sizes[2]
    each, rest = divmod(stored, n_value)
    if not rest and each in _BITS:
        other_type = f"each value has {8 * each} bits, not the {8 * dtype.itemsize} of data type {header['data type']}"
        correction = f"Correct the header then: data type = {_BITS[each]}."
        if each < dtype.itemsize:
            advice = f"It is cut off: copy it again. If it is complete, {other_type}. {correction}"
        else:
            advice = f"If lines, samples and bands are right, {other_type}. {correction}"
    else:
        advice = "It is cut off, or the header is another cube's. Copy both again."
    return (
        f"Cannot read {header_path}: it promises {sizes[0]} lines x {sizes[1]} samples x {sizes[2]} bands, "
        f"{n_value * dtype.itemsize} bytes, and {data.name} holds {stored}. {advice}"
    )


def _numbers(header: Mapping[str, Any], key: str, path: Path) -> NDArray[np.float64] | None:
    if key not in header:
        return None
    values = header[key] if isinstance(header[key], list) else [header[key]]
    try:
        return np.array([float(value) for value in values if str(value).strip()])
    except ValueError as error:
        raise ScanError(
            f"Cannot read {path}: its entry {key!r} holds {first_line(error)}. Correct the header."
        ) from error


def _number(header: Mapping[str, Any], key: str, path: Path) -> float | None:
    values = _numbers(header, key, path)
    return float(values[0]) if values is not None and values.size == 1 and np.isfinite(values[0]) else None
