"""One door for every format: what a file is, is told by its content, not by its name."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from underpaint.data import EnergyAxis, Scan, Spectrum
from underpaint.data.rebin import sum_scans
from underpaint.errors import OutputError, ScanError
from underpaint.io._detectors import detectors_of_one_scan, name_of
from underpaint.io._scale import with_counts
from underpaint.io._source import SAME_CHANNELS, probe
from underpaint.io._unknown import what_it_is
from underpaint.io.bcf import is_bcf, read_bcf
from underpaint.io.csv_table import is_csv, read_csv
from underpaint.io.datastack import is_datastack, read_datastack
from underpaint.io.edf import edf_files, is_edf, read_edf, read_edf_folder
from underpaint.io.emsa import is_emsa, read_emsa
from underpaint.io.gsecars import is_gsecars, read_gsecars
from underpaint.io.hdf5 import read_hdf5
from underpaint.io.iaea import is_iaea, read_iaea
from underpaint.io.mca import is_mca, read_mca, read_mca_scan, spectra_folders
from underpaint.io.npz import read_npz
from underpaint.io.pdz import is_pdz, read_pdz
from underpaint.io.ripple import is_ripple, read_ripple
from underpaint.io.rtx import is_rtx, read_rtx
from underpaint.io.s1pxrf import is_s1pxrf, read_s1pxrf
from underpaint.io.specfile import is_specfile, read_specfile
from underpaint.io.spx import is_spx, read_spx
from underpaint.io.tiff import is_tiff, read_tiff, read_tiff_folder, tiff_files
from underpaint.io.zarr import is_zarr, read_zarr

KNOWN = (
    "folders of Amptek .mca files, HDF5 (PyMca, NeXus, HyperSpy, CRONO, XRF-Maps, PyXRF), maxrf4u .datastack, "
    "stacks of EDF or TIFF images, CSV, Bruker .bcf, zarr, ripple .rpl/.raw, .npz, and spectra as .mca, EMSA "
    ".msa/.txt, Bruker .spx, .rtx, .pdz or S1PXRF text, SPEC, IAEA .spe, GSECARS"
)
SUM = "sum"
"""As the name of a detector: all of them, added."""
MOST_CHANNELS = 2**17
"""Twice what the finest analysers have; more is no spectrum, and no fit of one would end."""
_HEAD_BYTES = 4096
_HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
_ZIP_MAGIC = b"PK\x03\x04"


def load(
    location: str | Path,
    *,
    detectors: Literal["sum", "separate"] = "sum",
    detector: str | None = None,
    shape: tuple[int, int] | None = None,
    counts_scale: float | None = None,
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
    counts_scale : float or None
        Stored value per count, by which all values are divided; 1 leaves them as they are. None estimates it from some
        pixels, so that rates, normalised and rescaled stacks become counts; a note says so.

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
    everything = _read(location, shape)
    scans = _named(everything, detector, location)
    if not scans:
        wants_one = detector is not None and detector != SUM
        scans = detectors_of_one_scan(everything, location, faulty=wants_one)
        scans = [_numbered(scans, str(detector), location)] if wants_one else scans
    scans = [with_counts(scan, counts_scale) for scan in scans]
    if len(scans) == 1:
        return scans[0]
    names = ", ".join(scan.source for scan in scans)
    if detectors == "separate":
        raise ScanError(
            f"Cannot read {location} as one scan: it holds {len(scans)} ({names}). Pick one by its own name."
        )
    if all(scan.metadata.get(SAME_CHANNELS) for scan in scans):
        return _sum_same_channels(scans)
    if any(scan.axis is None for scan in scans):
        raise ScanError(
            f"Cannot add the {len(scans)} detectors of {location} ({names}): without energy calibration they cannot "
            "be aligned. Pick one by its number, --detector 1, or by its own name."
        )
    return sum_scans(scans)


def _named(scans: list[Scan], detector: str | None, location: str | Path) -> list[Scan]:
    """Return the array that is called so, be it a detector or not; none where none or several are."""
    named = [own for own in scans if detector == own.detector or detector in name_of(own).split("/")]
    if detector is None or detector == SUM or len(named) != 1:
        return []
    (scan,) = detectors_of_one_scan(named, location)
    return [_alone(scan, scans)]


def _numbered(scans: list[Scan], detector: str, location: str | Path) -> Scan:
    if detector.isdecimal() and 1 <= int(detector) <= len(scans):
        return _alone(scans[int(detector) - 1], scans)
    names = ", ".join(scan.detector or scan.source for scan in scans)
    n_named = sum(detector == scan.detector or detector in name_of(scan).split("/") for scan in scans)
    raise ScanError(
        f"Cannot read detector {detector!r} of {location}: {n_named or 'none'} of the {len(scans)} is called "
        f"so. Give a name or a number from 1 to {len(scans)}: {names}."
    )


def _alone(scan: Scan, scans: list[Scan]) -> Scan:
    if len(scans) == 1:
        return scan
    names = ", ".join(own.detector or own.source for own in scans)
    note = f"detector {scan.detector or scan.source} alone, of {len(scans)} in the file ({names})"
    return replace(scan, notes=(*scan.notes, note))


def _on_grid(scan: Scan, shape: tuple[int, int] | None, location: str | Path) -> Scan:
    """Fold a list of spectra, which is read as one row or column, into the given rows and columns."""
    if shape is None or scan.shape[:2] == shape:
        return scan
    n_row, n_column, n_channel = scan.shape
    if min(shape) < 1 or 1 not in (n_row, n_column) or scan.n_pixel != shape[0] * shape[1]:
        raise ScanError(
            f"Cannot read {location} as {shape[0]} rows x {shape[1]} columns = {shape[0] * shape[1]} pixels: it holds "
            f"{n_row} x {n_column} = {scan.n_pixel}. Give a shape that they fill, or none."
        )
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


def load_all(
    location: str | Path | Sequence[str | Path],
    *,
    shape: tuple[int, int] | None = None,
    counts_scale: float | None = None,
) -> list[Scan]:
    """Read every detector of a file or folder (or of several) as a scan of its own; arguments as of :func:`load`.

    Raises
    ------
    ScanError
        As for :func:`load`.
    """
    if not isinstance(location, str | Path):
        return [scan for part in location for scan in load_all(part, shape=shape, counts_scale=counts_scale)]
    scans = detectors_of_one_scan(_read(location, shape), location)
    return [with_counts(scan, counts_scale) for scan in scans]


def _read(location: str | Path, shape: tuple[int, int] | None) -> list[Scan]:
    """Read every array of a file or folder that can be counts, folded into the given rows and columns."""
    scans = _read_all(location, shape)
    for scan in scans:
        if scan.shape[2] > MOST_CHANNELS:
            raise ScanError(
                f"Cannot use {location}: its spectra have {scan.shape[2]} channels. Detectors have at most "
                f"{MOST_CHANNELS}. Check that it is a spectrum, and not a list of events."
            )
    return [_on_grid(scan, shape, location) for scan in scans]


def _read_all(location: str | Path, shape: tuple[int, int] | None) -> list[Scan]:
    path, name = split_location(location)
    if path.is_dir():
        return _read_folder(path, name, shape)
    if path.exists() and not path.is_file():
        raise ScanError(f"Cannot read {location}: it is a pipe or a device, not a file. Save the scan in a file first.")
    head = _head(path)
    if name is not None and not _holds_names(head):
        raise ScanError(
            f"Cannot read {location}: only HDF5 and .npz files hold named arrays, and .pdz, .rtx, SPEC and GSECARS "
            f"files numbered spectra; {path.name} is none of them. Drop ::{name}."
        )
    return _reader(path, head, shape)(path, name)


def load_each(
    location: str | Path,
    *,
    detector: str | None = None,
    shape: tuple[int, int] | None = None,
    counts_scale: float | None = None,
) -> list[Scan]:
    """Read every detector as a scan of its own; or, where one is named (or ``"sum"``), that scan alone.

    Raises
    ------
    ScanError
        As for :func:`load`.
    """
    if detector is None:
        return load_all(location, shape=shape, counts_scale=counts_scale)
    return [load(location, detector=detector, shape=shape, counts_scale=counts_scale)]


def read_spectrum(location: str | Path) -> Spectrum:
    """Read a single spectrum: ``.mca`` or EMSA; of a 1 x 1 scan its only pixel.

    Raises
    ------
    ScanError
        There is no such file, or it is not a single spectrum.
    """
    scan = load(location)
    if scan.n_pixel != 1:
        raise ScanError(
            f"Cannot read {location} as one spectrum: it is a scan of {scan.shape[0]} x {scan.shape[1]} pixels."
        )
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
        raise ScanError(f"Cannot read {path}: there is no such file or folder. Check the path.")
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
        raise OutputError(
            f"Cannot write {target}: it lies in the scan {path}, which stays as it is. Give a place outside it."
        )


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
    raise ScanError(f"Cannot read {path} as a scan: the folder {holds}. Give a file, or a folder of: {KNOWN}.")


def _head(path: Path) -> bytes:
    def read() -> bytes:
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES)

    head: bytes = probe(read, str(path))
    if not head:
        raise ScanError(f"Cannot read {path}: the file is empty. Copy it from the instrument again.")
    return head


def _holds_names(head: bytes) -> bool:
    listed = (is_pdz, is_edf, is_tiff, is_rtx, is_specfile, is_gsecars)
    return head.startswith((_HDF5_MAGIC, _ZIP_MAGIC)) or any(recognised(head) for recognised in listed)


def _reader(path: Path, head: bytes, shape: tuple[int, int] | None) -> Callable[[Path, str | None], list[Scan]]:
    """Pick the reader by what the file's first bytes are."""
    if head.startswith(_HDF5_MAGIC):
        return lambda own, name: read_hdf5(own, name, shape)
    if is_mca(head):
        return lambda own, _: [read_mca(own)]
    if is_emsa(head):
        return lambda own, _: [read_emsa(own)]
    if head.startswith(_ZIP_MAGIC):
        return read_datastack if is_datastack(path) else read_npz
    if is_tiff(head):
        return read_tiff
    if is_edf(head):
        return read_edf
    if is_spx(head):
        return lambda own, _: [read_spx(own)]
    if is_rtx(head):
        return read_rtx
    if is_s1pxrf(head):
        return lambda own, _: [read_s1pxrf(own)]
    if is_gsecars(head):
        return read_gsecars
    if is_specfile(head):
        return read_specfile
    if is_iaea(head):
        return lambda own, _: [read_iaea(own)]
    if is_pdz(head):
        return read_pdz
    if is_bcf(head):
        return lambda own, _: read_bcf(own)
    if is_ripple(path, head):
        return lambda own, _: [read_ripple(own)]
    if is_csv(path, head):
        return lambda own, _: read_csv(own, shape)
    raise ScanError(f"Cannot read {path}: {what_it_is(head)} Known are: {KNOWN}.")
