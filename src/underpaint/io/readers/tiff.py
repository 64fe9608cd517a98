"""TIFF stacks: one image per channel, with a list of the channels' energies.

Specification:

- One file of several pages, or of one page with several numbers a pixel; or a folder of files of one page, in the
  order of the numbers in their names. Each page is the image (row, column) of one channel.
- The energies are a text file of one number a channel (keV; eV where a number is over 200), given as
  ``FILE.tif::ENERGIES.txt`` or next to the stack as ``FILE.txt``, ``FILE.csv``, ``FILE_energies.txt`` or
  ``energies.txt``. They must be even; where there are none, the scan is not calibrated.
- The numbers of a folder's files follow one another: a missing one would move all channels above it.
- Without such a list, fewer than 32 images, or images between which counts differ less than within them, are no stack:
  they are maps of elements, or rows of spectra.

Source: TIFF revision 6.0 (Adobe, 1992), read by tifffile (C. Gohlke, BSD).
"""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan
from underpaint.errors import ScanError
from underpaint.io._energies import Axis, axis_of_list, unit_of
from underpaint.io._list_files import list_beside, read_list
from underpaint.io._source import (
    MappedCube,
    entries_inside,
    first_line,
    lazy_counts,
    missing_numbers,
    numbers_in_name,
    shown_numbers,
)
from underpaint.io.readers import Format

FORMAT = Format(
    "TIFF stack",
    "TIFF stack, one file or a folder",
    endings=(
        ".tif",
        ".tiff",
    ),
    recognised_by="TIFF or BigTIFF signature; a page a channel",
    source="Adobe, TIFF revision 6.0 (1992)",
    parts=True,
)
_SILENCE = logging.NullHandler()
_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_LISTED = ("energies", "energy")
_MIN_CHANNELS = 32
_MUCH_MORE = 2.0
_MAX_RATIO = 10_000
_MAX_PIECE = 256 * 2**20
_PHOTOGRAPH = {3, 4}
_PLANES, _PIXELS = (1, 2, 0), (0, 1, 2)
"""Dimensions of rows, columns and channels as stored."""


class PagesCube:
    """Pages of one channel each, unpacked one by one; in one file or in a file each."""

    def __init__(self, pages: list[tuple[Path, int]], shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self.pages, self.dtype = pages, dtype.newbyteorder("=")
        self.shape = (*shape, len(pages))

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels."""
        block = np.empty((rows.stop - rows.start, columns.stop - columns.start, len(self.pages)), dtype=self.dtype)
        files = dict.fromkeys(path for path, _ in self.pages)
        for path in files:
            pages = [(channel, number) for channel, (page_path, number) in enumerate(self.pages) if page_path == path]
            self._fill(block, path, pages, rows, columns)
        return block

    def _fill(self, block: NDArray[Any], path: Path, pages: list[tuple[int, int]], rows: slice, columns: slice) -> None:
        def fill() -> None:
            with _library().TiffFile(path) as file:
                for channel, number in pages:
                    block[:, :, channel] = file.pages[number].asarray()[rows, columns]

        _guarded(fill, path)


def sniff(path: Path, head: bytes) -> bool:
    """Whether a file is TIFF or BigTIFF by its first bytes, or a folder contains several."""
    return head.startswith(_MAGIC) if head else len(_tiff_files(path)) > 1


def _tiff_files(folder: Path) -> list[Path]:
    """Return the TIFF files of a folder in the order of the numbers in their names."""
    named = (file for file in folder.iterdir() if file.suffix.lower() in {".tif", ".tiff"} and file.is_file())
    tiff_files = entries_inside(folder, named)
    return sorted(tiff_files, key=numbers_in_name)


def read(path: Path, name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read a TIFF file, or a folder of them, as a stack; its counts are read when computed.

    Parameters
    ----------
    path : Path
        The file or folder.
    name : str or None
        The list of energies, by name in the same folder or by path.

    Raises
    ------
    ScanError
        The file is damaged or no stack; the energies are missing, uneven or not as many as channels.
    """
    cube = open_stack(path)
    if not path.is_dir():
        return [_scan(cube, path, path.parent, path.stem, name)]
    scan = _scan(cube, path, path, path.name, name)
    files = _tiff_files(path)
    missing = missing_numbers(files)
    if missing and scan.axis is None:
        raise ScanError(
            f"Cannot read {path} as a stack: its {len(files)} numbered images lack {shown_numbers(missing)}, "
            "and all channels above would be shifted. Copy the images again, or give a list of their energies "
            "(energies.txt)."
        )
    return [scan]


def open_stack(path: Path) -> MappedCube | PagesCube:
    """Open a TIFF file, or a folder of them, one a channel; its values are read when needed.

    Raises
    ------
    ScanError
        A file is damaged or no stack, or the images differ in size.
    """
    if not path.is_dir():
        return cast("MappedCube | PagesCube", _guarded(lambda: _cube(path), path))
    files = _tiff_files(path)
    kinds = [_guarded(lambda file=file: _page(file), file) for file in files]  # type: ignore[misc]
    odd = next((file for file, kind in zip(files, kinds, strict=True) if kind != kinds[0]), None)
    if odd is not None or len(files) < 2:
        reason = f"{odd.name} differs from {files[0].name} in size or type" if odd else "two or more are needed"
        raise ScanError(f"Cannot read {path} as a stack of TIFF images: {reason}.")
    return PagesCube([(file, 0) for file in files], *kinds[0])


def _scan(cube: MappedCube | PagesCube, path: Path, folder: Path, stem: str, name: str | None) -> Scan:
    listed = list_beside(folder, stem, name, str(path), _LISTED)
    axis: EnergyAxis | None = None
    notes: tuple[str, ...] = ("no energy calibration: no list of energies with the stack",)
    if listed is not None:
        axis, fit = _axis(listed, cube.shape[2], path)
        notes = (f"energies from {listed.name}", *fit)
    elif cube.shape[2] < _MIN_CHANNELS or _are_rows(cube):
        raise ScanError(
            f"Cannot read {path} as a stack: it has {cube.shape[2]} images of {cube.shape[0]} x {cube.shape[1]}, and "
            f"spectra have {_MIN_CHANNELS} channels or more, between which counts differ most. Save one image "
            "for each channel, not for each row or element; or put a list of the channels' energies beside it "
            "(energies.txt)."
        )
    return Scan(
        lazy_counts(cube, str(path)),
        axis=axis,
        name=stem,
        source=str(path),
        format=FORMAT.name,
        notes=notes,
    )


def _are_rows(cube: MappedCube | PagesCube) -> bool:
    """Whether images are rows of spectra: counts differ much more between channels than between pixels."""
    middle = cube.shape[0] // 2
    counts = np.abs(np.nan_to_num(cube.read(slice(middle, middle + 1), slice(0, cube.shape[1]))[0].astype(np.float64)))
    if counts.shape[0] < _MIN_CHANNELS or not counts.any():
        return False
    along_columns, along_images = (counts.sum(axis=axis) for axis in (1, 0))
    spreads = [each.std() / each.mean() for each in (along_columns, along_images)]
    return bool(spreads[0] > _MUCH_MORE * spreads[1])


def _cube(path: Path) -> MappedCube | PagesCube:
    with _library().TiffFile(path) as file:
        pages = file.pages
        page, n_page = pages[0], len(pages)
        shape, dtype = tuple(int(size) for size in page.shape), np.dtype(page.dtype)
        _check(path, n_page, shape, dtype, page)
        if n_page == 1 or len(shape) == 3:
            return _from_one_page(path, page, shape, dtype)
        odd = [
            number for number in range(n_page) if tuple(pages[number].shape) != shape or pages[number].dtype != dtype
        ]
        if odd:
            raise ScanError(
                f"Cannot read {path} as a stack: image {odd[0]} is {pages[odd[0]].shape}, the first {shape}."
            )
        offset = _contiguous(file, n_page, shape, dtype)
        if offset is not None:
            stored = dtype.newbyteorder(file.byteorder)
            return MappedCube(path, offset, (n_page, shape[0], shape[1]), stored, _PLANES)
        return PagesCube([(path, number) for number in range(n_page)], (shape[0], shape[1]), dtype)


def _check(path: Path, n_page: int, shape: tuple[int, ...], dtype: np.dtype[Any], page: Any) -> None:
    n_byte = path.stat().st_size
    size = dtype.itemsize * n_page
    piece = dtype.itemsize
    for length in shape:
        size, piece = size * length, piece * length
    if dtype.kind not in "uif" or len(shape) not in {2, 3} or 0 in shape:
        raise ScanError(
            f"Cannot read {path} as a stack: its images are {shape} {dtype}; (row, column) numbers are needed."
        )
    unpacked = int(page.compression) == 1
    if size > (n_byte if unpacked else _MAX_RATIO * n_byte) or (not unpacked and piece > max(_MAX_PIECE, n_byte)):
        raise ScanError(
            f"Cannot read {path}: it declares {n_page} images of {shape} {dtype}, {size / 1e6:.0f} MB, "
            f"and holds {n_byte / 1e6:.3f} MB. It is damaged or cut off; copy it again."
        )


def _from_one_page(path: Path, page: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> MappedCube:
    """Several values per pixel in one page: channels are last, or separate planes."""
    if len(shape) != 3 or shape[-1] in _PHOTOGRAPH or page.axes not in {"YXS", "SYX", "ZYX"}:
        raise ScanError(
            f"Cannot read {path} as a stack: it has one image of {shape}; a stack has an image for each channel. "
            "Give the folder of the images, or a file of several pages."
        )
    if not page.is_contiguous:
        raise ScanError(
            f"Cannot read {path}: several numbers a pixel, packed. Write it unpacked or as one page a channel."
        )
    stored = dtype.newbyteorder(page.parent.byteorder)
    sizes = (shape[0], shape[1], shape[2])
    return MappedCube(path, int(page.dataoffsets[0]), sizes, stored, _PIXELS if page.axes == "YXS" else _PLANES)


def _contiguous(file: Any, n_page: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int | None:
    """Return the offset of the pages if uncompressed and contiguous, else None."""
    step = dtype.itemsize * shape[0] * shape[1]
    first = int(file.pages[0].dataoffsets[0])
    for number in range(n_page):
        page = file.pages[number]
        if not page.is_contiguous or not page.is_final or int(page.dataoffsets[0]) != first + number * step:
            return None
    return first


def _page(path: Path) -> tuple[tuple[int, int], np.dtype[Any]]:
    with _library().TiffFile(path) as file:
        page = file.pages[0]
        shape, dtype = tuple(int(size) for size in page.shape), np.dtype(page.dtype)
        _check(path, 1, shape, dtype, page)
        if len(shape) != 2 or len(file.pages) != 1:
            raise ScanError(f"Cannot read {path} as the image of one channel: it has {len(file.pages)} of {shape}.")
        return (shape[0], shape[1]), dtype


def _axis(listed: Path, n_channel: int, path: Path) -> Axis:
    energies, first_lines = read_list(listed, _LISTED)
    unit = next(filter(None, map(unit_of, first_lines)), "")
    axis, notes = axis_of_list(energies, n_channel, unit)
    if axis is None:
        raise ScanError(
            f"Cannot read {path}: {listed.name} lists {len(energies)} energies for {n_channel} channels; as many "
            "energies as channels are needed, increasing in equal steps "
            f"({'; '.join(notes)}). Correct the list, or give it another name to read the stack without it."
        )
    return axis, notes


def _library() -> Any:
    import tifffile

    # its messages on a damaged file quote the file, and would reach the terminal unescaped
    logging.getLogger("tifffile").addHandler(_SILENCE)
    return tifffile


def _guarded(action: Callable[[], Any], path: Path) -> Any:
    try:
        return action()
    except ScanError:
        raise
    except Exception as error:  # tifffile and its codecs raise whatever they like at damaged files
        raise ScanError(
            f"Cannot read {path}: the TIFF file is damaged or of an unknown kind ({first_line(error)}). Copy it again."
        ) from error
