"""Reader of TIFF stacks with one image per channel and a list of the channels' energies.

Specification:

- A stack is a file of several pages, a page with several values per pixel, or a folder of one-page files. The files are
  in the order of the numbers in their names. Each page is the (row, column) image of one channel.
- The energies are in a text file with one number per channel, in keV, or in eV if a number is above 200. The user names
  the list of energies in ``FILE.tif::ENERGIES.txt``. If the user names none, the list is ``FILE.txt``, ``FILE.csv``,
  ``FILE_energies.txt`` or ``energies.txt`` in the folder of the stack. The energies must increase in equal steps.
  Without energies, the scan has no calibration.
- The numbers in the names of a folder's files must be consecutive. A missing file would shift all later channels.
- A stack without energies is refused if it has fewer than 32 images, which may be element maps. A stack is also refused
  if counts vary less between images than between columns, as for images that are rows of spectra.

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
from underpaint.io._energies import Axis, axis_of_list, energy_unit
from underpaint.io._list_files import list_beside, read_list
from underpaint.io._source import (
    MappedCube,
    entries_inside,
    first_line,
    lazy_counts,
    missing_file_numbers,
    natural_sort_key,
    number_list,
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
_NULL_HANDLER = logging.NullHandler()
_MAGIC = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")
_ENERGY_LIST_NAMES = ("energies", "energy")
_MIN_CHANNELS = 32
_MIN_SPREAD_RATIO = 2.0
_MAX_COMPRESSION_RATIO = 10_000
_MAX_PAGE_BYTES = 256 * 2**20
_COLOUR_CHANNELS = {3, 4}
_PLANES_ORDER, _PIXELS_ORDER = (1, 2, 0), (0, 1, 2)
"""Indices of the row, column and channel dimensions, for storage in separate planes and by pixel."""


class PagesCube:
    """Cube of pages that hold one channel each, in one or several files. Pages are decompressed one by one."""

    def __init__(self, pages: list[tuple[Path, int]], shape: tuple[int, int], dtype: np.dtype[Any]) -> None:
        self.pages, self.dtype = pages, dtype.newbyteorder("=")
        self.shape = (*shape, len(pages))

    def read(self, rows: slice, columns: slice) -> NDArray[Any]:
        """Read a rectangle of pixels."""
        block = np.empty((rows.stop - rows.start, columns.stop - columns.start, len(self.pages)), dtype=self.dtype)
        files = dict.fromkeys(path for path, _ in self.pages)
        for path in files:
            channel_pages = [
                (channel, page_index) for channel, (page_path, page_index) in enumerate(self.pages) if page_path == path
            ]
            self._fill_channels(block, path, channel_pages, rows, columns)
        return block

    def _fill_channels(
        self, block: NDArray[Any], path: Path, channel_pages: list[tuple[int, int]], rows: slice, columns: slice
    ) -> None:
        def fill_block() -> None:
            with _import_tifffile().TiffFile(path) as file:
                for channel, page_index in channel_pages:
                    block[:, :, channel] = file.pages[page_index].asarray()[rows, columns]

        _with_scan_error(fill_block, path)


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file begins like TIFF or BigTIFF, or a folder contains several such files."""
    return head.startswith(_MAGIC) if head else len(_tiff_files(path)) > 1


def _tiff_files(folder: Path) -> list[Path]:
    """Return the TIFF files of a folder, sorted by the numbers in their names."""
    candidate_files = (file for file in folder.iterdir() if file.suffix.lower() in {".tif", ".tiff"} and file.is_file())
    tiff_files = entries_inside(folder, candidate_files)
    return sorted(tiff_files, key=natural_sort_key)


def read(path: Path, part_name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read a TIFF file, or a folder of TIFF files, as a scan. The counts are read only when they are computed.

    Parameters
    ----------
    path : Path
        The file or folder.
    part_name : str or None
        Name of the list of energies in the folder of the stack, or its path. If None, the folder is searched.

    Raises
    ------
    ScanError
        The file is damaged or not a stack, or the list of energies is missing, non-linear, or not as long as the stack.
    """
    cube = open_stack(path)
    if not path.is_dir():
        return [_scan(cube, path, path.parent, path.stem, part_name)]
    scan = _scan(cube, path, path, path.name, part_name)
    files = _tiff_files(path)
    missing_numbers = missing_file_numbers(files)
    if missing_numbers and scan.axis is None:
        raise ScanError(
            f"Cannot read {path} as a stack: its {len(files)} numbered images lack {number_list(missing_numbers)}, "
            "and all channels above would be shifted. Copy the images again, or give a list of their energies "
            "(energies.txt)."
        )
    return [scan]


def open_stack(path: Path) -> MappedCube | PagesCube:
    """Open a TIFF file, or a folder with one TIFF file per channel. The values are read only when needed.

    Raises
    ------
    ScanError
        A file is damaged or not a stack, or the images differ in shape.
    """
    if not path.is_dir():
        return cast("MappedCube | PagesCube", _with_scan_error(lambda: _open_file(path), path))
    files = _tiff_files(path)
    page_types = [_with_scan_error(lambda file=file: _page_shape_and_type(file), file) for file in files]  # type: ignore[misc]
    unequal_file = next(
        (file for file, page_type in zip(files, page_types, strict=True) if page_type != page_types[0]), None
    )
    if unequal_file is not None or len(files) < 2:
        fault_reason = (
            f"{unequal_file.name} differs from {files[0].name} in size or type"
            if unequal_file
            else "two or more are needed"
        )
        raise ScanError(f"Cannot read {path} as a stack of TIFF images: {fault_reason}.")
    return PagesCube([(file, 0) for file in files], *page_types[0])


def _scan(cube: MappedCube | PagesCube, path: Path, folder: Path, stack_name: str, part_name: str | None) -> Scan:
    energy_file = list_beside(folder, stack_name, part_name, str(path), _ENERGY_LIST_NAMES)
    axis: EnergyAxis | None = None
    notes: tuple[str, ...] = ("no energy calibration: no list of energies with the stack",)
    if energy_file is not None:
        axis, axis_notes = _axis(energy_file, cube.shape[2], path)
        notes = (f"energies from {energy_file.name}", *axis_notes)
    elif cube.shape[2] < _MIN_CHANNELS or _are_spectrum_rows(cube):
        raise ScanError(
            f"Cannot read {path} as a stack: it has {cube.shape[2]} images of {cube.shape[0]} x {cube.shape[1]}, and "
            f"spectra have {_MIN_CHANNELS} channels or more, and their images differ strongly. Save one image "
            "for each channel, not for each row or element; or put a list of the channels' energies next to it "
            "(energies.txt)."
        )
    return Scan(
        lazy_counts(cube, str(path)),
        axis=axis,
        name=stack_name,
        source=str(path),
        format=FORMAT.name,
        notes=notes,
    )


def _are_spectrum_rows(cube: MappedCube | PagesCube) -> bool:
    """Return whether each image is a row of spectra. The counts then vary more between columns than between images."""
    middle_row = cube.shape[0] // 2
    counts = np.abs(
        np.nan_to_num(cube.read(slice(middle_row, middle_row + 1), slice(0, cube.shape[1]))[0].astype(np.float64))
    )
    if counts.shape[0] < _MIN_CHANNELS or not counts.any():
        return False
    column_profile, image_profile = (counts.sum(axis=axis) for axis in (1, 0))
    relative_spreads = [mean_profile.std() / mean_profile.mean() for mean_profile in (column_profile, image_profile)]
    return bool(relative_spreads[0] > _MIN_SPREAD_RATIO * relative_spreads[1])


def _open_file(path: Path) -> MappedCube | PagesCube:
    with _import_tifffile().TiffFile(path) as file:
        pages = file.pages
        page, n_page = pages[0], len(pages)
        shape, dtype = tuple(int(dimension_size) for dimension_size in page.shape), np.dtype(page.dtype)
        _check_pages(path, n_page, shape, dtype, page)
        if n_page == 1 or len(shape) == 3:
            return _from_one_page(path, page, shape, dtype)
        unequal_indices = [
            index for index in range(n_page) if tuple(pages[index].shape) != shape or pages[index].dtype != dtype
        ]
        if unequal_indices:
            raise ScanError(
                f"Cannot read {path} as a stack: image {unequal_indices[0]} is {pages[unequal_indices[0]].shape}, "
                f"the first {shape}."
            )
        offset = _contiguous_offset(file, n_page, shape, dtype)
        if offset is not None:
            stored_dtype = dtype.newbyteorder(file.byteorder)
            return MappedCube(path, offset, (n_page, shape[0], shape[1]), stored_dtype, _PLANES_ORDER)
        return PagesCube([(path, index) for index in range(n_page)], (shape[0], shape[1]), dtype)


def _check_pages(path: Path, n_page: int, shape: tuple[int, ...], dtype: np.dtype[Any], page: Any) -> None:
    n_byte = path.stat().st_size
    declared_bytes = dtype.itemsize * n_page
    page_bytes = dtype.itemsize
    for dimension_size in shape:
        declared_bytes, page_bytes = declared_bytes * dimension_size, page_bytes * dimension_size
    if dtype.kind not in "uif" or len(shape) not in {2, 3} or 0 in shape:
        raise ScanError(
            f"Cannot read {path} as a stack: its images are {shape} {dtype}; (row, column) numbers are needed."
        )
    is_uncompressed = int(page.compression) == 1
    if declared_bytes > (n_byte if is_uncompressed else _MAX_COMPRESSION_RATIO * n_byte) or (
        not is_uncompressed and page_bytes > max(_MAX_PAGE_BYTES, n_byte)
    ):
        raise ScanError(
            f"Cannot read {path}: it declares {n_page} images of {shape} {dtype}, {declared_bytes / 1e6:.0f} MB, "
            f"and holds {n_byte / 1e6:.3f} MB. The file is damaged or cut off; copy the file again."
        )


def _from_one_page(path: Path, page: Any, shape: tuple[int, ...], dtype: np.dtype[Any]) -> MappedCube:
    """Return the cube of one page with several values per pixel, which are stored by pixel or in separate planes."""
    if len(shape) != 3 or shape[-1] in _COLOUR_CHANNELS or page.axes not in {"YXS", "SYX", "ZYX"}:
        raise ScanError(
            f"Cannot read {path} as a stack: it has one image of {shape}; a stack has an image for each channel. "
            "Give the folder of the images, or a file of several pages."
        )
    if not page.is_contiguous:
        raise ScanError(
            f"Cannot read {path}: several values per pixel, compressed. Write the image uncompressed, or one page "
            "per channel."
        )
    stored_dtype = dtype.newbyteorder(page.parent.byteorder)
    stored_shape = (shape[0], shape[1], shape[2])
    return MappedCube(
        path,
        int(page.dataoffsets[0]),
        stored_shape,
        stored_dtype,
        _PIXELS_ORDER if page.axes == "YXS" else _PLANES_ORDER,
    )


def _contiguous_offset(file: Any, n_page: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> int | None:
    """Return the offset of the first page in bytes, or None if the pages are compressed or not contiguous."""
    page_bytes = dtype.itemsize * shape[0] * shape[1]
    first_offset = int(file.pages[0].dataoffsets[0])
    for index in range(n_page):
        page = file.pages[index]
        if not page.is_contiguous or not page.is_final or int(page.dataoffsets[0]) != first_offset + index * page_bytes:
            return None
    return first_offset


def _page_shape_and_type(path: Path) -> tuple[tuple[int, int], np.dtype[Any]]:
    with _import_tifffile().TiffFile(path) as file:
        page = file.pages[0]
        shape, dtype = tuple(int(dimension_size) for dimension_size in page.shape), np.dtype(page.dtype)
        _check_pages(path, 1, shape, dtype, page)
        if len(shape) != 2 or len(file.pages) != 1:
            raise ScanError(
                f"Cannot read {path} as the image of one channel: it has {len(file.pages)} images of {shape}."
            )
        return (shape[0], shape[1]), dtype


def _axis(energy_file: Path, n_channel: int, path: Path) -> Axis:
    energies, first_lines = read_list(energy_file, _ENERGY_LIST_NAMES)
    unit = next(filter(None, map(energy_unit, first_lines)), "")
    axis, notes = axis_of_list(energies, n_channel, unit)
    if axis is None:
        raise ScanError(
            f"Cannot read {path}: {energy_file.name} lists {len(energies)} energies for {n_channel} channels; as many "
            "energies as channels are needed, increasing in equal steps "
            f"({'; '.join(notes)}). Correct the list, or give it another name to read the stack without it."
        )
    return axis, notes


def _import_tifffile() -> Any:
    import tifffile

    # tifffile's messages quote damaged files without escaping control characters
    logging.getLogger("tifffile").addHandler(_NULL_HANDLER)
    return tifffile


def _with_scan_error(read_action: Callable[[], Any], path: Path) -> Any:
    try:
        return read_action()
    except ScanError:
        raise
    except Exception as error:  # tifffile and its codecs raise many kinds of errors for damaged files
        raise ScanError(
            f"Cannot read {path}: the TIFF file is damaged or of an unknown kind ({first_line(error)}). Copy the "
            "file again."
        ) from error
