"""Maps of Bruker's Esprit (M4 Tornado, M6 Jetstream, SEM), ``.bcf``: spectra of every pixel and the photographs.

A container (:mod:`._sfs`) with ``EDSDatabase/HeaderData`` (XML as :mod:`underpaint.io.readers._bruker_xml`
describes) and one ``EDSDatabase/SpectrumData<n>`` for each detector: int32 rows and columns, and from byte 0x1A0 for
each row the number of its pixels (uint32), then for each a head of 22 bytes (uint32 column, uint16 channels of the map
and of the pixel, uint32, uint16 way of packing, uint16, uint16 pulses, uint32 size) and the packed spectrum. Of
packing 0 and 1 each pulse is its channel in 16 or 12 bits; of others runs of channels share a base and a width of
bits, and ``pulses`` further pulses of 16 bits follow. The image ``PixelTimes`` in the header holds the time of each
pixel in microseconds; where it is empty, visits of a row (``LineCounter``) times ``PixelTime`` are taken.

Source: no specification is published; P. Jokubauskas found it, the rosettasciio source (2016-2026) documents it. The
extra ``bruker`` brings rosettasciio (GPL), which unpacks the pixels here. It trusts what it unpacks, so every row is
checked before: no pixel outside the map, no size beyond the data.
"""

import base64
import binascii
import re
import struct
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import MissingExtraError, ScanError
from underpaint.io._energies import number
from underpaint.io._single import FileSpectrum
from underpaint.io._source import lazy_counts
from underpaint.io.readers import Format
from underpaint.io.readers._bruker_xml import instance, leaves, parse_xml, read_spectrum_node
from underpaint.io.readers._sfs import MAGIC, Container, Piece

FORMAT = Format(
    "Bruker .bcf",
    "Bruker map",
    endings=(".bcf",),
    recognised_by="AAMVHFSS at byte 0",
    source="unpublished; found by P. Jokubauskas, documented in rosettasciio (2016-2026)",
    extra="bruker",
)
_HEADER = "EDSDatabase/HeaderData"
_MAP = re.compile(r"EDSDatabase/SpectrumData(\d+)$")
_FIRST_ROW = 0x1A0
_PIXEL = struct.Struct("<IHHIHHHI")
_LARGEST_PIXEL = 65535
"""Bytes of one packed spectrum: 4096 channels of the widest packing need 16 kB."""
_MARGIN = bytes(65536)
"""Behind the last row, so that a run that announces more than its pixel has is read within the block."""
_LARGEST_ROW = 2**30
_NO_PHOTOGRAPH = {"Counter", "PixelTimes"}


@dataclass(frozen=True)
class Photograph:
    """An image in a file beside its spectra: the mosaic, the camera's, a detector's.

    Parameters
    ----------
    name : str
        As the file calls it.
    pixels : (n_row, n_column) or (n_row, n_column, 3) array
        Unsigned integers as stored; three colours are red, green, blue.
    """

    name: str
    pixels: NDArray[Any]


def sniff(path: Path, head: bytes) -> bool:
    """Whether a file's first bytes are those of the container that .bcf is."""
    return head.startswith(MAGIC)


def read(path: Path, name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read the maps of a .bcf file, one scan for each detector; their spectra are unpacked row by row when asked for.

    Raises
    ------
    ScanError
        It is another container, damaged, or holds no map.
    MissingExtraError
        rosettasciio, which unpacks the pixels, is not installed.
    """
    unpack = _unpacker()
    container = Container(path)
    database = _database(container)
    indices = sorted(int(own[1]) for name in container.files if (own := _MAP.match(name)))
    if not indices:
        raise ScanError(f"Cannot read {path}: a Bruker .bcf file without a map of X-ray spectra in it.")
    return [_scan(container, database, index, unpack, alone=len(indices) == 1) for index in indices]


def read_photographs(path: Path) -> list[Photograph]:
    """Read the images of a .bcf file: the mosaic and what else looked at the object.

    Raises
    ------
    ScanError
        The container or its header is damaged; an image holds less than it announces.
    """
    container = Container(path)
    images = _database(container).iter("ClassInstance")
    found = [
        photograph
        for image in images
        if image.get("Type") == "TRTImageData" and image.get("Name") not in _NO_PHOTOGRAPH
        for photograph in _planes(image, path)
    ]
    return _named_apart(found)


class BcfCube:
    """Packed spectra of one detector, as (row, column, channel)."""

    dtype: np.dtype[Any] = np.dtype(np.uint32)

    def __init__(self, container: Container, name: str, n_channel: int, unpack: Any) -> None:
        self.container, self.name, self._unpack = container, name, unpack
        rows = _Rows(container, name)
        self.shape = (rows.n_row, rows.n_column, n_channel)
        if 4 * rows.n_column * n_channel > _LARGEST_ROW:
            raise ScanError(
                f"Cannot read {container.path}: one row of {rows.n_column} pixels is more than can be held."
            )
        self.starts = rows.find_all()
        self.pieces = rows.pieces

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Unpack a rectangle of pixels."""
        first, last = rows.start, rows.stop
        head = struct.pack("<ii", last - first, self.shape[1]).ljust(_FIRST_ROW, b"\x00")
        packed = head + self._bytes(int(self.starts[first]), int(self.starts[last])) + _MARGIN
        shape = (last - first, *self.shape[1:])
        return np.asarray(self._unpack(_OneBlock(packed), shape, self.dtype), dtype=self.dtype)[:, columns]

    def _bytes(self, start: int, stop: int) -> bytes:
        offsets = np.cumsum([0, *(unpacked for _, unpacked in self.pieces)])
        first, last = (int(np.searchsorted(offsets, place, "right")) - 1 for place in (start, max(stop - 1, start)))
        whole = b"".join(self.container.piece(self.name, own) for own, _ in self.pieces[first : last + 1])
        return whole[start - int(offsets[first]) : stop - int(offsets[first])]


@dataclass(frozen=True)
class _OneBlock:
    """What rosettasciio takes for a file inside the container: one piece, and its size."""

    content: bytes

    def get_iter_and_properties(self) -> tuple[Iterator[bytes], int, int]:
        return iter([self.content]), len(self.content), 1


class _Rows:
    """Walk through a packed map without unpacking it; find where each row begins, and that all fits."""

    def __init__(self, container: Container, name: str) -> None:
        self.source = f"{container.path}, {name}"
        self.pieces: list[tuple[Piece, int]] = []
        self._more = container.pieces(name)
        self._held, self._at, self._before = b"", 0, 0
        self.n_row, self.n_column = self._take(struct.Struct("<ii"), "its size")
        if self.n_row < 1 or self.n_column < 1:
            raise ScanError(
                f"Cannot read {self.source}: a map of {self.n_row} x {self.n_column} pixels. Copy it again."
            )
        self._at = _FIRST_ROW

    def find_all(self) -> NDArray[np.int64]:
        """Return the (n_row + 1,) places of the rows, after checking each pixel."""
        starts = []
        for row in range(self.n_row):
            starts.append(self._before + self._at)
            (n_pixel,) = self._take(_COUNT, f"row {row}")
            for _ in range(n_pixel):
                self._skip_pixel(row)
        self._reach(0, f"row {self.n_row - 1}")
        for piece, content in self._more:  # so that a later piece cannot be missing unnoticed
            self.pieces.append((piece, len(content)))
        return np.array([*starts, self._before + self._at])

    def _skip_pixel(self, row: int) -> None:
        column, _, _, _, packing, _, pulses, size = self._take(_PIXEL, f"row {row}")
        if column >= self.n_column or not _fits(packing, pulses, size):
            raise ScanError(
                f"Cannot read {self.source}: row {row} holds a pixel at column {column} of {self.n_column}, packed in "
                f"way {packing} with {pulses} pulses in {size} bytes, which cannot be. Copy the file again."
            )
        self._at += size + (2 * pulses if packing > 1 else 0)

    def _take(self, layout: struct.Struct, where: str) -> tuple[Any, ...]:
        if self._at + layout.size > len(self._held):
            self._reach(layout.size, where)
        values = layout.unpack_from(self._held, self._at)
        self._at += layout.size
        return values

    def _reach(self, n_byte: int, where: str) -> None:
        """Have the next ``n_byte`` bytes at hand; pieces that are skipped are let go."""
        while self._at + n_byte > len(self._held):
            piece, content = next(self._more, (None, b""))
            if piece is None:
                raise ScanError(
                    f"Cannot read {self.source}: the map ends within {where} of {self._size()}. Copy it again."
                )
            self.pieces.append((piece, len(content)))
            gone = min(self._at, len(self._held))
            self._held, self._at, self._before = self._held[gone:] + content, self._at - gone, self._before + gone

    def _size(self) -> str:
        return f"{getattr(self, 'n_row', 'unknown')} rows"


_COUNT = struct.Struct("<I")


def _fits(packing: int, pulses: int, size: int) -> bool:
    """Whether a pixel's pulses have room in its bytes."""
    if packing == 0:
        return 2 * pulses <= size
    if packing == 1:
        return 3 * pulses <= 2 * size + 1
    return 4 <= size <= _LARGEST_PIXEL


def _unpacker() -> Any:
    try:
        return import_module("rsciio.bruker.unbcf_fast").parse_to_numpy
    except ImportError:
        return _slow_unpacker()


def _slow_unpacker() -> Any:
    try:
        return import_module("rsciio.bruker._api").py_parse_hypermap
    except ImportError as error:
        raise MissingExtraError(
            "Cannot read .bcf files: rosettasciio, which unpacks their pixels, is not installed. "
            'Run `pip install "underpaint[bruker]"`, or export the map from Esprit as ripple (.rpl/.raw).'
        ) from error


# --- the header ------------------------------------------------------------------------------------


def _database(container: Container) -> ET.Element:
    if _HEADER not in container.files:
        inside = ", ".join(sorted(container.files)[:5]) or "nothing"
        raise ScanError(
            f"Cannot read {container.path}: the container of a Bruker .bcf file, but it holds {inside}, no map."
        )
    # An XML of a small file cannot be large: a packed one could unpack to any size.
    content = container.content(_HEADER, 64 * 2**20 + 4 * container.n_byte)
    node = instance(parse_xml(content, f"{container.path}, {_HEADER}"), "TRTSpectrumDatabase")
    if node is None:
        raise ScanError(
            f"Cannot read {container.path}: a Bruker .bcf file whose header describes no map. Copy it again."
        )
    return node


def _scan(container: Container, database: ET.Element, index: int, unpack: Any, *, alone: bool) -> Scan:
    path = container.path
    total = _sum_spectrum(database, index, path)
    cube = BcfCube(container, f"EDSDatabase/SpectrumData{index}", total.counts.size, unpack)
    real = _real_time_s(database, cube.shape[:2])
    live = _live_time_s(real, total)
    source = str(path) if alone else f"{path}, detector {index}"
    return Scan(
        lazy_counts(cube, source),
        axis=total.axis,
        name=path.stem if alone else f"{path.stem}_{index}",
        source=source,
        format=FORMAT.name,
        live_time_s=live,
        real_time_s=real,
        step_mm=_step_mm(database),
        detector=total.detector,
        notes=(*total.notes, *_notes(database, real, live)),
        metadata={"name": database.get("Name", ""), **_facts(database), **total.metadata},
    )


def _sum_spectrum(database: ET.Element, index: int, path: Path) -> FileSpectrum:
    node = database.find(f"./SpectrumData{index}/ClassInstance")
    if node is None:
        raise ScanError(
            f"Cannot read {path}: its header lacks the sum spectrum of detector {index}, and so the channels."
        )
    return read_spectrum_node(node, f"{path}, sum spectrum of detector {index}")


def _facts(database: ET.Element) -> dict[str, Any]:
    kinds = {"xrf": "TRTXRFData", "sem": "TRTSEMData", "stage": "TRTSEMStageData", "scan": "TRTDSPConfiguration"}
    return {
        f"{group}.{key}": value
        for group, kind in kinds.items()
        for key, value in leaves(instance(database, kind)).items()
    }


def _step_mm(database: ET.Element) -> tuple[float, float] | None:
    facts = leaves(instance(database, "TRTSEMData"))
    row_um, column_um = number(facts.get("DY")), number(facts.get("DX"))
    if row_um is None or column_um is None or row_um <= 0 or column_um <= 0:
        return None
    return row_um / 1000, column_um / 1000


def _real_time_s(database: ET.Element, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    """Time of each pixel: the file's image of it, or else from the visits of its row."""
    image = database.find("./ClassInstance[@Type='TRTImageData'][@Name='PixelTimes']")
    data = None if image is None else image.findtext("./Plane0/Data")
    times = np.frombuffer(_decoded(data or ""), "<u4") if data and len(data) >= 4 * shape[0] * shape[1] else None
    if times is not None and times.size == shape[0] * shape[1] and times.any():
        return np.where(times > 0, times * 1e-6, np.nan).reshape(shape)
    return _row_times(database, shape)


def _row_times(database: ET.Element, shape: tuple[int, int]) -> NDArray[np.float64] | None:
    visits = [number(word) for word in (database.findtext("./LineCounter") or "").split(",") if word.strip()]
    facts = leaves(instance(database, "TRTDSPConfiguration"))
    factors = [number(facts.get(key)) for key in ("PixelTime", "PixelAverage", "LineAverage")]
    known = [own for own in (*visits, *factors) if own is not None and own >= 0]
    if len(visits) != shape[0] or len(known) != len(visits) + len(factors) or not any(known[: shape[0]]):
        return None
    each_us = float(np.prod(known[shape[0] :]))
    rows = np.array(known[: shape[0]]) * each_us * 1e-6
    return np.repeat(np.where(rows > 0, rows, np.nan)[:, None], shape[1], axis=1)


def _live_time_s(real_s: NDArray[np.float64] | None, total: FileSpectrum) -> NDArray[np.float64] | None:
    if real_s is None or total.live_time_s is None or total.real_time_s is None:
        return None
    return real_s * min(total.live_time_s / total.real_time_s, 1.0)


def _notes(database: ET.Element, real: NDArray[np.float64] | None, live: NDArray[np.float64] | None) -> tuple[str, ...]:
    detectors = number(database.findtext("./DetectorCount")) or 1
    candidates = (
        (real is None, "the file tells no pixel times"),
        (live is not None, "live times: the pixels' real times by the live share of the whole map"),
        (detectors > 1, f"the header names {detectors:g} detectors"),
    )
    return tuple(text for holds, text in candidates if holds)


# --- images ----------------------------------------------------------------------------------------


def _planes(image: ET.Element, path: Path) -> Iterator[Photograph]:
    """Planes that hold more than zeros; colours that are packed in one plane are spread out."""
    facts = leaves(image)
    numbers = [number(facts.get(key)) for key in ("Height", "Width", "ItemSize", "PlaneCount")]
    height, width, item, n_plane = (0 if own is None else int(own) for own in numbers)
    own_name = (image.get("Name") or "").strip()
    for index in range(min(n_plane, len(image))):
        plane = image.find(f"./Plane{index}")
        raw = _decoded("" if plane is None else plane.findtext("./Data") or "")
        if min(height, width) < 1 or item not in {1, 2, 3, 4} or len(raw) != height * width * item:
            raise ScanError(
                f"Cannot read the image {own_name or index} of {path}: {height} x {width} pixels of {item} bytes are "
                f"announced, {len(raw)} bytes are there. Copy the file again."
            )
        if any(raw):
            label = "" if plane is None else plane.findtext("./Description") or plane.findtext("./Name") or ""
            yield Photograph(" ".join(filter(None, (own_name, label.strip()))), _pixels(raw, height, width, item))


def _pixels(raw: bytes, height: int, width: int, item: int) -> NDArray[Any]:
    if item < 3:
        return np.frombuffer(raw, f"<u{item}").reshape(height, width)
    blue_green_red = np.frombuffer(raw, np.uint8).reshape(height, width, item)[:, :, :3]
    return np.ascontiguousarray(blue_green_red[:, :, ::-1])


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=False)
    except (binascii.Error, ValueError):
        return b""


def _named_apart(photographs: list[Photograph]) -> list[Photograph]:
    names = [own.name or "image" for own in photographs]
    return [
        Photograph(name if names.count(name) == 1 else f"{name} {names[: index + 1].count(name)}", own.pixels)
        for index, (name, own) in enumerate(zip(names, photographs, strict=True))
    ]
