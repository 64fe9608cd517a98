"""One door for every format: what a file is, is told by its content, not by its name."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from underpaint.errors import OutputError, ScanError
from underpaint.io._single import single_scan
from underpaint.io._source import SAME_CHANNELS, probe
from underpaint.io.bcf import is_bcf, read_bcf
from underpaint.io.csv_table import is_csv, read_csv
from underpaint.io.datastack import is_datastack, read_datastack
from underpaint.io.edf import edf_files, is_edf, read_edf, read_edf_folder
from underpaint.io.emsa import is_emsa, read_emsa
from underpaint.io.hdf5 import read_hdf5
from underpaint.io.mca import is_mca, read_mca, read_mca_scan, spectra_folders
from underpaint.io.npz import read_npz
from underpaint.io.pdz import is_pdz, read_pdz
from underpaint.io.ripple import is_ripple, read_ripple
from underpaint.io.spx import is_spx, read_spx
from underpaint.io.tiff import is_tiff, read_tiff, read_tiff_folder, tiff_files
from underpaint.io.zarr import is_zarr, read_zarr
from underpaint.spectrum import EnergyAxis, Scan, Spectrum
from underpaint.spectrum.rebin import sum_scans

KNOWN = (
    "folders of Amptek .mca files, HDF5 (PyMca, NeXus, CRONO, XRF-Maps, PyXRF, virtual panels), maxrf4u .datastack, "
    "stacks of EDF or TIFF images, CSV, Bruker .bcf, zarr, ripple .rpl/.raw, .npz, "
    "and single spectra as .mca, EMSA .msa/.txt, Bruker .spx or .pdz"
)
SUM = "sum"
"""As the name of a detector: all of them, added."""
MOST_CHANNELS = 2**17
"""Twice what the finest analysers have; more is no spectrum, and no fit of one would end."""
_HEAD_BYTES = 4096
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_ZIP_MAGIC = b"PK\x03\x04"
_PACKED = {
    b"\xfd7zXZ\x00": "xz",
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!": "rar",
}


def load(
    location: str | Path,
    *,
    detectors: Literal["sum", "separate"] = "sum",
    detector: str | None = None,
    shape: tuple[int, int] | None = None,
) -> Scan:
    """Read a scan, lazily.

    Parameters
    ----------
    location : str or Path
        A file or folder; ``FILE::NAME`` picks an array in a container (``.npz``, HDF5, zarr), reads the frames of
        an EDF stack as images (``::images``), or names the energies of a TIFF stack.
    detectors : "sum" or "separate"
        What to do with several detectors: add them after moving each to the first one's energy axis, or
        refuse (:func:`load_all` returns them one by one).
    detector : str or None
        Read this one alone: its name, a part of its path in the file, or else its place among them, from 1; "sum"
        adds them.
    shape : (int, int) or None
        Rows and columns, for a folder of spectra without a grid file, and for lists of spectra.

    Returns
    -------
    Scan
        Its counts are read and checked block by block when computed.

    Raises
    ------
    ScanError
        Nothing there, no known format, damaged, several detectors that cannot be added, no such detector, or
        pixels that do not fill the given rows and columns.

    Examples
    --------
    >>> import underpaint.io as io
    >>> io.load("nowhere.npz")
    Traceback (most recent call last):
    ...
    underpaint.errors.ScanError: Cannot read nowhere.npz: there is no such file or folder. Check the path.
    """
    scans = _chosen(load_all(location, shape=shape), detector, location)
    if len(scans) == 1:
        return scans[0]
    names = ", ".join(scan.source for scan in scans)
    if detectors == "separate":
        message = f"Cannot read {location} as one scan: it holds {len(scans)} ({names}). Pick one by its own name."
        raise ScanError(message)
    if all(scan.metadata.get(SAME_CHANNELS) for scan in scans):
        return _sum_same_channels(scans)
    if any(scan.axis is None for scan in scans):
        message = (
            f"Cannot add the {len(scans)} detectors of {location} ({names}): without energy calibration they cannot "
            "be aligned. Pick one by its number, --detector 1, or by its own name."
        )
        raise ScanError(message)
    return sum_scans(scans)


def _chosen(scans: list[Scan], detector: str | None, location: str | Path) -> list[Scan]:
    if detector is None or detector == SUM:
        return scans
    found = [own for own in scans if detector == own.detector or detector in own.source.rpartition("::")[2].split("/")]
    if not found and detector.isdecimal() and 1 <= int(detector) <= len(scans):
        found = [scans[int(detector) - 1]]
    names = ", ".join(own.detector or own.source for own in scans)
    if len(found) != 1:
        message = (
            f"Cannot read detector {detector!r} of {location}: {len(found) or 'none'} of the {len(scans)} is called "
            f"so. Give a name or a number from 1 to {len(scans)}: {names}."
        )
        raise ScanError(message)
    if len(scans) == 1:
        return found
    said = f"detector {found[0].detector or found[0].source} alone, of {len(scans)} in the file ({names})"
    return [replace(found[0], notes=(*found[0].notes, said))]


def _on_grid(scan: Scan, shape: tuple[int, int] | None, location: str | Path) -> Scan:
    """Fold a list of spectra, which is read as one row or column, into the given rows and columns."""
    if shape is None or scan.shape[:2] == shape:
        return scan
    n_row, n_column, n_channel = scan.shape
    if min(shape) < 1 or 1 not in (n_row, n_column) or scan.n_pixel != shape[0] * shape[1]:
        message = (
            f"Cannot read {location} as {shape[0]} rows x {shape[1]} columns = {shape[0] * shape[1]} pixels: it holds "
            f"{n_row} x {n_column} = {scan.n_pixel}. Give a shape that they fill, or none."
        )
        raise ScanError(message)
    counts = scan.counts.reshape((*shape, n_channel))
    return replace(
        scan,
        counts=counts,
        live_time_s=None if scan.live_time_s is None else scan.live_time_s.reshape(shape),
        real_time_s=None if scan.real_time_s is None else scan.real_time_s.reshape(shape),
        present=None if scan.present is None else scan.present.reshape(shape),
        step_mm=None,
    )


def _sum_same_channels(scans: list[Scan]) -> Scan:
    """Add detectors that share their channels' energies, on a stand-in axis where the file does not tell them."""
    axis = next((scan.axis for scan in scans if scan.axis is not None), None)
    stand_in = axis or EnergyAxis(1.0, 0.0, scans[0].shape[2])
    return replace(sum_scans([scan.with_axis(stand_in) for scan in scans]), axis=axis)


def load_all(location: str | Path | Sequence[str | Path], *, shape: tuple[int, int] | None = None) -> list[Scan]:
    """Read every detector of a file or folder (or of several) as a scan of its own.

    Raises
    ------
    ScanError
        As for :func:`load`.
    """
    if not isinstance(location, str | Path):
        return [scan for own in location for scan in load_all(own, shape=shape)]
    scans = _load_all(location, shape)
    for scan in scans:
        if scan.shape[2] > MOST_CHANNELS:
            message = (
                f"Cannot use {location}: its spectra have {scan.shape[2]} channels. Detectors have at most "
                f"{MOST_CHANNELS}. Check that it is a spectrum, and not a list of events."
            )
            raise ScanError(message)
    return scans


def _load_all(location: str | Path, shape: tuple[int, int] | None) -> list[Scan]:
    path, name = split_location(location)
    if path.is_dir():
        return [_on_grid(scan, shape, location) for scan in _read_folder(path, name, shape)]
    head = _head(path)
    if name is not None and not _holds_names(head):
        message = (
            f"Cannot read {location}: only HDF5 and .npz files hold named arrays, and .pdz files numbered phases; "
            f"{path.name} is neither. Drop ::{name}."
        )
        raise ScanError(message)
    return [_on_grid(scan, shape, location) for scan in _reader(path, head, shape)(path, name)]


def load_each(location: str | Path, *, detector: str | None = None, shape: tuple[int, int] | None = None) -> list[Scan]:
    """Read every detector as a scan of its own; or, where one is named (or ``"sum"``), that scan alone.

    Raises
    ------
    ScanError
        As for :func:`load`.
    """
    return load_all(location, shape=shape) if detector is None else [load(location, detector=detector, shape=shape)]


def read_spectrum(location: str | Path) -> Spectrum:
    """Read a single spectrum: ``.mca`` or EMSA; of a 1 x 1 scan its only pixel.

    Raises
    ------
    ScanError
        There is no such file, or it is not a single spectrum.
    """
    scan = load(location)
    if scan.n_pixel != 1:
        message = f"Cannot read {location} as one spectrum: it is a scan of {scan.shape[0]} x {scan.shape[1]} pixels."
        raise ScanError(message)
    return scan.pixel(0, 0)


def split_location(location: str | Path) -> tuple[Path, str | None]:
    """Split ``FILE::NAME``; a path that exists as it stands is taken whole."""
    text = str(location)
    if "::" not in text or Path(text).exists():
        path, name = Path(text), None
    else:
        before, _, after = text.rpartition("::")
        path, name = Path(before), after
    if not probe(path.exists, str(path)):
        message = f"Cannot read {path}: there is no such file or folder. Check the path."
        raise ScanError(message)
    return path, name or None


def refuse_inside(target: str | Path, source: str | Path) -> None:
    """Refuse to write into the folder of a scan: the scan stays as it is, and is read alike the next time.

    Raises
    ------
    OutputError
        The target lies in it.
    ScanError
        There is no such scan.
    """
    path, _ = split_location(source)
    if path.is_dir() and Path(target).resolve().is_relative_to(path.resolve()):
        message = f"Cannot write {target}: it lies in the scan {path}, which stays as it is. Give a place outside it."
        raise OutputError(message)


def _read_folder(path: Path, name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    path = path.resolve()  # so that "." has a name, and a folder above it
    if is_zarr(path):
        return read_zarr(path, name)
    folders = spectra_folders(path)
    if not folders and (name is None or not (path / name).is_dir()):
        if edf_files(path):
            return read_edf_folder(path, name)
        if len(tiff_files(path)) > 1:
            return read_tiff_folder(path, name)
    if name is not None:
        return read_mca_scan(path / name, shape)
    if folders:
        return read_mca_scan(path, shape)
    files = sorted(entry.name for entry in path.iterdir())
    holds = "is empty" if not files else f"holds {len(files)} entries ({', '.join(files[:5])}), but no .mca spectra"
    message = f"Cannot read {path} as a scan: the folder {holds}. Give a file, or a folder of: {KNOWN}."
    raise ScanError(message)


def _head(path: Path) -> bytes:
    def read() -> bytes:
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES)

    head: bytes = probe(read, str(path))
    if not head:
        message = f"Cannot read {path}: the file is empty. Copy it from the instrument again."
        raise ScanError(message)
    return head


def _holds_names(head: bytes) -> bool:
    return head.startswith((_HDF5_MAGIC, _ZIP_MAGIC)) or is_pdz(head) or is_edf(head) or is_tiff(head)


def _reader(path: Path, head: bytes, shape: tuple[int, int] | None) -> Callable[[Path, str | None], list[Scan]]:
    """Pick the reader by what the file's first bytes are."""
    if head.startswith(_HDF5_MAGIC):
        return lambda own, name: read_hdf5(own, name, shape)
    if is_mca(head):
        return lambda own, _: [_single(read_mca(own), own, "Amptek .mca")]
    if is_emsa(head):
        return lambda own, _: [_single(read_emsa(own), own, "EMSA/MAS")]
    if head.startswith(_ZIP_MAGIC):
        return read_datastack if is_datastack(path) else read_npz
    if is_tiff(head):
        return read_tiff
    if is_edf(head):
        return read_edf
    if is_spx(head):
        return lambda own, _: [read_spx(own)]
    if is_pdz(head):
        return read_pdz
    if is_bcf(head):
        return lambda own, _: read_bcf(own)
    if is_ripple(path, head):
        return lambda own, _: [read_ripple(own)]
    if is_csv(path, head):
        return lambda own, _: read_csv(own, shape)
    raise ScanError(_unknown(path, head))


def _unknown(path: Path, head: bytes) -> str:
    packed = next((kind for magic, kind in _PACKED.items() if head.startswith(magic)), None)
    if packed is None and head[257:262] == b"ustar":
        packed = "tar"
    if packed is not None:
        return f"Cannot read {path}: it is a packed archive ({packed}). Unpack it and give the folder."
    text = not set(head) & set(range(9))
    begins = repr(head[:24].decode("utf-8", "replace").strip()) if text else head[:8].hex(" ")
    looks = "text" if text else "binary data"
    return f"Cannot read {path}: it is {looks} that begins {begins}, no format known here. Known are: {KNOWN}."


def _single(spectrum: Spectrum, path: Path, format_name: str) -> Scan:
    live, real = spectrum.live_time_s, spectrum.real_time_s
    return single_scan(spectrum.counts, path, format_name, axis=spectrum.axis, live_time_s=live, real_time_s=real)
