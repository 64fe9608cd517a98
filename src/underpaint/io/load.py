"""Loading of scans in all formats. The format of a file is recognised by its content.

Stored rates, normalised counts and rescaled counts are divided by the stored value of one count. If a file has no known
format, the error message names the type of the file and what to do.
"""

import re
import struct
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan, Spectrum
from underpaint.data.poisson import Sample, Scale, in_units_of_quantum
from underpaint.data.rebin import sum_scans
from underpaint.errors import OutputError, ScanError
from underpaint.io._detectors import detectors_of_one_scan, name_in_file
from underpaint.io._source import SAME_CHANNELS, first_bytes, try_read
from underpaint.io.readers import Reader, formats, reader_of
from underpaint.io.results.stored import RESULTS_FILE

SUM_NAME = "sum"
"""Detector name that selects the sum of all detectors."""
MAX_CHANNELS = 2**17
"""Maximum number of channels of a spectrum. The best multichannel analysers have half as many."""
HEAD_BYTES = 4096


def load(
    location: str | Path,
    *,
    detectors: Literal["sum", "separate"] = "sum",
    detector: str | None = None,
    shape: tuple[int, int] | None = None,
    counts_scale: float | None = None,
) -> Scan:
    """Read a scan, whose counts are read from the file only when needed.

    Parameters
    ----------
    location : str or Path
        A file or folder. ``FILE::NAME`` selects an array of an ``.npz``, HDF5 or zarr file, or gives the list of
        energies of a TIFF stack. ``FILE::images`` reads the frames of an EDF stack as images.
    detectors : "sum" or "separate"
        "sum" adds several detectors after rebinning to the energy axis of the first. "separate" raises an error for
        several detectors, which :func:`load_all` returns separately.
    detector : str or None
        The only detector to read: its name, a part of its path in the file, or its number from 1. "sum" adds all.
    shape : (int, int) or None
        Numbers of rows and columns, for a folder of spectra without a grid file, and for lists of spectra.
    counts_scale : float or None
        Stored value of one count, by which all values are divided; 1 leaves the values unchanged. If None, the value of
        one count is estimated from a sample of pixels. Rates, normalised counts and rescaled counts then become counts,
        with a note.

    Returns
    -------
    Scan
        Scan whose counts are read and checked block by block when they are computed.

    Raises
    ------
    ScanError
        The path does not exist, has an unknown format or is damaged. The detectors cannot be added, or the requested
        detector does not exist. The number of pixels differs from rows times columns in ``shape``.

    Examples
    --------
    >>> import underpaint as up
    >>> up.load("panel.h5").shape
    (7, 7, 4096)
    >>> up.load("nowhere.npz")
    Traceback (most recent call last):
    ...
    underpaint.errors.ScanError: Cannot read nowhere.npz: there is no such file or folder. Check the path.
    """
    array_scans = _read_arrays(location, shape)
    scans = _select_by_name(array_scans, detector, location)
    if not scans:
        single_detector = detector is not None and detector != SUM_NAME
        scans = detectors_of_one_scan(array_scans, location, include_faulty=single_detector)
        scans = [_select_by_number(scans, str(detector), location)] if single_detector else scans
    scans = [with_counts(scan, counts_scale) for scan in scans]
    if len(scans) == 1:
        return scans[0]
    source_list = ", ".join(scan.source for scan in scans)
    if detectors == "separate":
        raise ScanError(
            f"Cannot read {location} as one scan: it has {len(scans)} ({source_list}). Choose one by its name."
        )
    if all(scan.metadata.get(SAME_CHANNELS) for scan in scans):
        return _sum_same_channels(scans)
    if any(scan.axis is None for scan in scans):
        raise ScanError(
            f"Cannot add the {len(scans)} detectors of {location} ({source_list}): without energy calibration they "
            "cannot "
            "be aligned. Choose one by its number, --detector 1, or by its name."
        )
    return sum_scans(scans)


def _select_by_name(scans: list[Scan], detector: str | None, location: str | Path) -> list[Scan]:
    """Return a list of the array with the given name, or an empty list unless exactly one array matches."""
    matching_arrays = [
        array_scan
        for array_scan in scans
        if detector == array_scan.detector or detector in name_in_file(array_scan).split("/")
    ]
    if detector is None or detector == SUM_NAME or len(matching_arrays) != 1:
        return []
    (scan,) = detectors_of_one_scan(matching_arrays, location)
    return [_with_detector_note(scan, scans)]


def _select_by_number(scans: list[Scan], detector: str, location: str | Path) -> Scan:
    if detector.isdecimal() and 1 <= int(detector) <= len(scans):
        return _with_detector_note(scans[int(detector) - 1], scans)
    detector_list = ", ".join(scan.detector or scan.source for scan in scans)
    n_match = sum(detector == scan.detector or detector in name_in_file(scan).split("/") for scan in scans)
    raise ScanError(
        f"Cannot read detector {detector!r} of {location}: {n_match or 'none'} of the {len(scans)} detectors has this "
        f"name. Give a name or a number from 1 to {len(scans)}: {detector_list}."
    )


def _with_detector_note(scan: Scan, scans: list[Scan]) -> Scan:
    if len(scans) == 1:
        return scan
    detector_list = ", ".join(detector_scan.detector or detector_scan.source for detector_scan in scans)
    note = f"detector {scan.detector or scan.source} alone, of {len(scans)} in the file ({detector_list})"
    return scan.replace(notes=(*scan.notes, note))


def _reshape_scan(scan: Scan, shape: tuple[int, int] | None, location: str | Path) -> Scan:
    """Reshape a scan of one row or one column to the given numbers of rows and columns."""
    if shape is None or scan.shape[:2] == shape:
        return scan
    n_row, n_column, n_channel = scan.shape
    if min(shape) < 1 or 1 not in (n_row, n_column) or scan.n_pixel != shape[0] * shape[1]:
        raise ScanError(
            f"Cannot read {location} as {shape[0]} rows x {shape[1]} columns = {shape[0] * shape[1]} pixels: it holds "
            f"{n_row} x {n_column} = {scan.n_pixel}. Give a matching shape, or none."
        )
    counts = scan.counts.reshape((*shape, n_channel))
    return scan.replace(
        counts=counts,
        live_time_s=None if scan.live_time_s is None else scan.live_time_s.reshape(shape),
        real_time_s=None if scan.real_time_s is None else scan.real_time_s.reshape(shape),
        present=None if scan.present is None else scan.present.reshape(shape),
        step_mm=None,
    )


def _sum_same_channels(scans: list[Scan]) -> Scan:
    """Add detectors channel by channel. The sum has an energy axis only if a detector has one."""
    axis = next((scan.axis for scan in scans if scan.axis is not None), None)
    placeholder_axis = axis or EnergyAxis(1.0, 0.0, scans[0].shape[2])
    return sum_scans([scan.with_axis(placeholder_axis) for scan in scans]).replace(axis=axis)


def load_all(
    location: str | Path | Sequence[str | Path],
    *,
    shape: tuple[int, int] | None = None,
    counts_scale: float | None = None,
) -> list[Scan]:
    """Read files or folders, and return each detector as a separate scan.

    The parameters are those of :func:`load`; ``location`` may also be a list of files and folders.

    Raises
    ------
    ScanError
        As for :func:`load`.
    """
    if not isinstance(location, str | Path):
        return [
            scan
            for scan_location in location
            for scan in load_all(scan_location, shape=shape, counts_scale=counts_scale)
        ]
    scans = detectors_of_one_scan(_read_arrays(location, shape), location)
    return [with_counts(scan, counts_scale) for scan in scans]


def _read_arrays(location: str | Path, shape: tuple[int, int] | None) -> list[Scan]:
    """Read all arrays of a file or folder that may be counts, and reshape them to the given rows and columns."""
    scans = _read_location(location, shape)
    for scan in scans:
        if scan.shape[2] > MAX_CHANNELS:
            raise ScanError(
                f"Cannot use {location}: its spectra have {scan.shape[2]} channels. Detectors have at most "
                f"{MAX_CHANNELS}. Check that it is a spectrum, and not a list of events."
            )
    return [_reshape_scan(scan, shape, location) for scan in scans]


def _read_location(location: str | Path, shape: tuple[int, int] | None) -> list[Scan]:
    path, part_name = split_location(location)
    if (path / RESULTS_FILE).is_file():
        raise ScanError(
            f"Cannot read {location}: it is a results folder, not a scan. Give the scan; `underpaint view {location}` "
            "shows the results."
        )
    if path.is_dir():
        path, part_name, reader = _reader_of_folder(path.resolve(), part_name)  # the path "." has no name and no parent
    elif path.exists() and not path.is_file():
        raise ScanError(f"Cannot read {location}: it is a pipe or a device, not a file. Save the scan in a file first.")
    else:
        reader = _reader_of_file(path, part_name)
    scans = reader.read(path, part_name, shape)
    return [scans] if isinstance(scans, Scan) else scans


def load_each(
    location: str | Path,
    *,
    detector: str | None = None,
    shape: tuple[int, int] | None = None,
    counts_scale: float | None = None,
) -> list[Scan]:
    """Read every detector as a separate scan, or only one detector, or the sum for ``detector="sum"``.

    Raises
    ------
    ScanError
        As for :func:`load`.
    """
    if detector is None:
        return load_all(location, shape=shape, counts_scale=counts_scale)
    return [load(location, detector=detector, shape=shape, counts_scale=counts_scale)]


def read_spectrum(location: str | Path) -> Spectrum:
    """Read the only spectrum of a file in any format, such as ``.mca`` or EMSA.

    Raises
    ------
    ScanError
        The file does not exist, or contains more than one spectrum.
    """
    scan = load(location)
    if scan.n_pixel != 1:
        raise ScanError(
            f"Cannot read {location} as one spectrum: it is a scan of {scan.shape[0]} x {scan.shape[1]} pixels."
        )
    return scan.pixel(0, 0)


def split_location(location: str | Path) -> tuple[Path, str | None]:
    """Split ``FILE::NAME`` into path and name. If the whole text is an existing path, the name is None."""
    location_text = str(location)
    if "::" not in location_text or Path(location_text).exists():
        path, part_name = Path(location_text), None
    else:
        path_text, _, part_text = location_text.rpartition("::")
        path, part_name = Path(path_text), part_text
    if not try_read(path.exists, str(path)):
        raise ScanError(f"Cannot read {path}: there is no such file or folder. Check the path.")
    return path, part_name or None


def refuse_output_in_scan(target: str | Path, source: str | Path) -> None:
    """Raise an error if a target is inside the folder of a scan, since scans must stay unchanged.

    Raises
    ------
    OutputError
        The target is inside the scan's folder.
    ScanError
        The scan does not exist.
    """
    path, _ = split_location(source)
    if path.is_dir() and Path(target).resolve().is_relative_to(path.resolve()):
        raise OutputError(
            f"Cannot write {target}: it is in the scan {path}, which must stay unchanged. Choose a folder outside "
            "the scan."
        )


def _reader_of_folder(path: Path, part_name: str | None) -> tuple[Path, str | None, Reader]:
    """Return the reader of a folder or of its subfolder ``part_name``. The parts of a zarr store are not subfolders."""
    reader = reader_of(path, b"")
    if part_name is not None and (path / part_name).is_dir() and not (reader is not None and reader.FORMAT.store):
        path, part_name = path / part_name, None
        reader = reader_of(path, b"")
    if reader is None:
        path = path if part_name is None else path / part_name
        files = sorted(folder_entry.name for folder_entry in try_read(lambda: list(path.iterdir()), str(path)))
        content_text = (
            "is empty" if not files else f"holds {len(files)} entries ({', '.join(files[:5])}), but no .mca spectra"
        )
        raise ScanError(
            f"Cannot read {path} as a scan: the folder {content_text}. Give a file, or a folder of: {_known_formats()}."
        )
    return path, part_name, reader


def _reader_of_file(path: Path, part_name: str | None) -> Reader:
    head = _read_head(path)
    reader = reader_of(path, head)
    if part_name is not None and (reader is None or not reader.FORMAT.parts):
        format_names = ", ".join(known_format.name for known_format in formats() if known_format.parts)
        raise ScanError(
            f"Cannot read {path}::{part_name}: only files of some formats hold arrays or spectra with names or numbers "
            f"({format_names}); {path.name} is none of them. Drop ::{part_name}."
        )
    if reader is None:
        raise ScanError(f"Cannot read {path}: {guess_file_type(head)} Known are: {_known_formats()}.")
    return reader


def _known_formats() -> str:
    return ", ".join(known_format.name for known_format in formats())


def _read_head(path: Path) -> bytes:
    head = first_bytes(path, HEAD_BYTES)
    if not head:
        raise ScanError(f"Cannot read {path}: the file is empty. Copy the file from the instrument again.")
    return head


_MAX_SAMPLE_PIXELS, _MAX_SAMPLE_BYTES = 256, 8 * 2**20
_SAMPLE_ROW_FRACTIONS = (0.5, 0.25, 0.75)
"""Positions of the sampled rows as fractions of the scan's height. A later position is tried if the rows at the earlier
positions are empty.
"""


def with_counts(scan: Scan, counts_scale: float | None) -> Scan:
    """Return the scan with its stored values divided by the stored value of one count, and note the division.

    Parameters
    ----------
    scan : Scan
        As read.
    counts_scale : float or None
        Stored value of one count; 1 if the values are counts, and None to estimate it from a sample of pixels.

    Raises
    ------
    ScanError
        ``counts_scale`` is not above 0, or the stored values are a non-linear function of the counts.
    """
    if counts_scale is not None:
        if not (np.isfinite(counts_scale) and counts_scale > 0):
            raise ScanError(
                f"Cannot divide the values of {scan.source or scan.name} by {counts_scale:g}: the stored value per "
                "count is a number above 0. Correct --counts-scale, or omit it."
            )
        note = f"the stored values are divided by {counts_scale:g}, the value per count that was given"
        return scan if counts_scale == 1 else _divide_by_counts_scale(scan, Scale(counts_scale), note)
    sampled_values = _sample_spectra(scan)
    value_sample = None if sampled_values is None else Sample(sampled_values)
    if value_sample is not None and (transform := value_sample.transform()):
        raise ScanError(
            f"Cannot use the values of {scan.source or scan.name} as counts: their noise is that of the {transform} of "
            "counts, independent of their size. Export the counts themselves; --counts-scale 1 reads the "
            "values as they are, but deviations and detection limits are then wrong."
        )
    counts_scale_estimate = None if value_sample is None else value_sample.scale()
    if counts_scale_estimate is None:
        return (
            scan
            if sampled_values is None or not _has_fractions(sampled_values)
            else scan.replace(notes=(_UNKNOWN_SCALE_NOTE, *scan.notes))
        )
    return (
        scan
        if counts_scale_estimate.value == 1
        else _divide_by_counts_scale(scan, counts_scale_estimate, _scale_note(counts_scale_estimate))
    )


_UNKNOWN_SCALE_NOTE = (
    "the values are not integers, and it is unknown whether they are counts: they are used as such. If they "
    "are rates, normalised, smoothed or rescaled, deviations and detection limits are wrong; give the stored value per "
    "count with --counts-scale"
)


def _scale_note(counts_scale: Scale) -> str:
    if counts_scale.rounding is not None and counts_scale.uncertainty:
        return (
            f"the stored values are integers with less noise than counts: counts times {counts_scale.value:.3g} +- "
            f"{counts_scale.uncertainty:.1g}, rounded. They are divided by this value. Faint lines are lost by "
            "rounding: "
            "export the counts themselves. Give another value per count with --counts-scale; 1 leaves them unchanged"
        )
    if counts_scale.rounding is not None:
        description = (
            f"they are counts times {counts_scale.value:.4g}, rounded, since the values in between never occur,"
        )
    elif counts_scale.is_per_pixel:
        description = (
            f"they are integer multiples of one number in each pixel, with the median {counts_scale.value:.4g},"
        )
    elif counts_scale.uncertainty:
        description = f"their noise is that of counts times {counts_scale.value:.3g} +- {counts_scale.uncertainty:.1g},"
    else:
        description = f"they are integer multiples of {counts_scale.value:.6g}"
    return (
        f"the stored values are not counts (rates, normalised, added twice or rescaled): {description} and are divided "
        "by it. Give another value per count with --counts-scale; 1 leaves them unchanged"
    )


def _divide_by_counts_scale(scan: Scan, counts_scale: Scale, note: str) -> Scan:
    counts = scan.counts
    is_integer = counts.dtype.kind in "iu" and not counts_scale.uncertainty and float(counts_scale.value).is_integer()
    if counts_scale.is_per_pixel:
        divide_block: Any = partial(in_units_of_quantum, default_quantum=counts_scale.value)
        counts = counts.map_blocks(divide_block, dtype=np.float32, meta=np.empty((0, 0, 0), np.float32))
    elif counts_scale.rounding is not None and not counts_scale.uncertainty:
        counts = np.rint((counts + counts_scale.rounding) / counts_scale.value).astype(np.float32)
    elif is_integer and counts_scale.value <= np.iinfo(counts.dtype).max:
        counts = counts // counts.dtype.type(counts_scale.value)
    else:
        counts = (counts / counts_scale.value).astype(np.float32)
    return scan.replace(counts=counts, counts_scale=counts_scale.value, notes=(note, *scan.notes))


def _sample_spectra(scan: Scan) -> NDArray[Any] | None:
    """Return the spectra of up to 256 neighbouring pixels, or None if all are empty or cannot be read."""
    n_row, n_column, n_channel = scan.shape
    max_pixels = int(np.clip(_MAX_SAMPLE_BYTES // (8 * n_channel), 16, _MAX_SAMPLE_PIXELS))
    n_block_column = min(n_column, max_pixels)
    n_block_row = min(n_row, max(1, max_pixels // n_block_column))
    first_column = (n_column - n_block_column) // 2
    for row_fraction in _SAMPLE_ROW_FRACTIONS:
        first_row = int(row_fraction * (n_row - n_block_row))
        block_slices = slice(first_row, first_row + n_block_row), slice(first_column, first_column + n_block_column)
        try:
            block_values = scan.read(*block_slices).reshape(-1, n_channel)
        except (ScanError, OSError):
            return None
        block_values = block_values[np.isfinite(block_values).all(axis=1)]
        if block_values.any():
            return np.asarray(block_values)
    return None


def _has_fractions(stored_values: NDArray[Any]) -> bool:
    return stored_values.dtype.kind == "f" and bool((stored_values != np.rint(stored_values)).any())


_ARCHIVE_TYPES = {
    b"\xfd7zXZ\x00": "xz",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
    b"\x28\xb5\x2f\xfd": "zstd",
}
_NPZ_ADVICE = (
    "Put the array into an .npz file with its energies: numpy.savez(name, counts=..., gain_kev=..., zero_kev=...)."
)
_PICTURE_ADVICE = (
    "A scan is a spectrum for each pixel: export the spectra from the scanner's program, not its pictures."
)
_TABLE_ADVICE = "Save the sheet with the counts as CSV."
_EXPORT_ADVICE = "Export the spectra from the program that wrote it as HDF5, ripple, EMSA (.msa) or CSV."
_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\x93NUMPY", "a single numpy array (.npy)", _NPZ_ADVICE),
    (b"\x80\x04\x95", "a Python pickle, which could run code", _NPZ_ADVICE),
    (b"MATLAB 5.0", "a MATLAB file", "Save the data in MATLAB with -v7.3, which is HDF5, or write the counts as HDF5."),
    (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1",
        "a file of Microsoft Office, or in its container format",
        _TABLE_ADVICE,
    ),
    (b"%PDF", "a PDF document", "Give the scan of the report."),
    (b"\x89PNG", "a PNG picture", _PICTURE_ADVICE),
    (b"\xff\xd8\xff", "a JPEG picture", _PICTURE_ADVICE),
    (b"GIF8", "a GIF picture", _PICTURE_ADVICE),
    (
        b"ENVI",
        "the header of an ENVI cube",
        "If it is a reflectance cube, give it to `underpaint reflect`. If it is an XRF scan, convert it to HDF5 or "
        "ripple (Spectral Python: spectral.open_image).",
    ),
    (b"SIMPLE  =", "a FITS file", "Write its cube as HDF5 (astropy.io.fits)."),
    (b"CDF\x01", "a netCDF 3 file", "Write the data as netCDF 4, which is HDF5 (nccopy -k nc4)."),
    (b"CDF\x02", "a netCDF 3 file", "Write the data as netCDF 4, which is HDF5 (nccopy -k nc4)."),
    (b"TDSm", "a LabVIEW TDMS file", "Export the data as HDF5 or CSV (npTDMS)."),
    (b"WDF1", "a Renishaw Raman file", "It holds no X-ray spectra."),
    (b"root\x00\x00", "a ROOT file", "Write its histograms as CSV or HDF5 (uproot)."),
    (
        b"MAPSPECTRA_DATA",
        "an EDAX map (.spd)",
        "Export the spectrum from TEAM or APEX as HDF5 or ripple, or with rosettasciio.",
    ),
    (b"\xff\xfe", "text in UTF-16", "Save the text as UTF-8, or as plain text, in an editor or spreadsheet."),
    (b"\xfe\xff", "text in UTF-16", "Save the text as UTF-8, or as plain text, in an editor or spreadsheet."),
    (b"{", "JSON text", _EXPORT_ADVICE),
    (b"<!DOCTYPE html", "a web page", "The download failed: fetch the file itself."),
    (b"<html", "a web page", "The download failed: fetch the file itself."),
    (b"version https://git-lfs", "the pointer of a file in Git LFS", "Fetch the file itself: git lfs pull."),
)
_CNF_FIRST_SECTION, _CNF_SECTION_TYPES = 112, range(0x12000, 0x12020)
_CNF_TYPE_AND_ADVICE = (
    "a Canberra or Genie spectrum (CNF)",
    "Export the spectrum from Genie 2000 as .spe (IAEA), or as text of one count a line.",
)
_OFFICE_FILE_NAMES = (b"[Content_Types].xml", b"xl/", b"mimetypeapplication/vnd.oasis")
_MAX_SHOWN_CHARACTERS = 24


def guess_file_type(head: bytes) -> str:
    """Return a text that names a file's type, judged by the first bytes, and what the user can do.

    In messages, the returned text follows "Cannot read FILE:".
    """
    archive_type = next(
        (file_type for archive_magic, file_type in _ARCHIVE_TYPES.items() if head.startswith(archive_magic)), None
    )
    if archive_type is None and head[257:262] == b"ustar":
        archive_type = "tar"
    if archive_type is not None:
        return f"it is an archive ({archive_type}). Extract the archive and give the folder."
    for file_type, advice in _types_and_advice(head):
        return f"it is {file_type}. {advice}"
    is_text = not set(head) & set(range(9))
    beginning_text = (
        repr(head[:_MAX_SHOWN_CHARACTERS].decode("utf-8", "replace").strip()) if is_text else head[:8].hex(" ")
    )
    return (
        f"it is {'text' if is_text else 'binary data'} that begins {beginning_text}, no format known here. "
        f"{_EXPORT_ADVICE}"
    )


def _types_and_advice(head: bytes) -> list[tuple[str, str]]:
    stripped_head = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    matching_types = [
        (file_type, advice) for type_magic, file_type, advice in _SIGNATURES if stripped_head.startswith(type_magic)
    ]
    if head.startswith(b"PK\x03\x04") and any(file_name in head for file_name in _OFFICE_FILE_NAMES):
        matching_types.append(("a spreadsheet or document", _TABLE_ADVICE))
    if len(head) >= _CNF_FIRST_SECTION + 4:
        (cnf_section_type,) = struct.unpack_from("<I", head, _CNF_FIRST_SECTION)
        matching_types += [_CNF_TYPE_AND_ADVICE] if cnf_section_type in _CNF_SECTION_TYPES else []
    if head.startswith(b"\xff\xff") and b"\x00" in head[:32] and re.search(rb"[0-3]\d[A-Za-z]{3}\d\d", head[:32]):
        matching_types.append(("an Ortec spectrum (CHN)", "Export the spectrum from Maestro as .spe (ASCII)."))
    root_match = re.match(rb"<\?xml[^>]*>\s*(?:<!--.*?-->\s*)*<([A-Za-z_][\w:.-]*)", stripped_head, re.DOTALL)
    if root_match:
        matching_types.append((f"XML of another kind (<{root_match[1].decode('latin-1')[:40]}>)", _EXPORT_ADVICE))
    if stripped_head.startswith((b"#F ", b"[attenuators]")) or b"\n[fit]" in stripped_head.replace(b"\r", b"\n"):
        configuration_advice = "Give the spectrum or the stack that it belongs to, and this file with --instrument."
        matching_types.append(("a configuration of PyMca's fit", configuration_advice))
    return matching_types
