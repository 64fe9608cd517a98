"""One door for every format: what a file is, is told by its content, not by its name."""

from collections.abc import Sequence
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
from underpaint.io.readers import Reader, formats, reader_of

SUM = "sum"
"""As the name of a detector: all of them, added."""
MOST_CHANNELS = 2**17
"""Twice what the finest analysers have; more is no spectrum, and no fit of one would end."""
_HEAD_BYTES = 4096


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
    >>> import underpaint as up
    >>> up.load("panel.h5").shape
    (7, 7, 4096)
    >>> up.load("nowhere.npz")
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
        path, name, reader = _reader_of_folder(path.resolve(), name)  # so that "." has a name, and a folder above it
    elif path.exists() and not path.is_file():
        raise ScanError(f"Cannot read {location}: it is a pipe or a device, not a file. Save the scan in a file first.")
    else:
        reader = _reader_of_file(path, name)
    scans = reader.read(path, name, shape)
    return [scans] if isinstance(scans, Scan) else scans


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


def _reader_of_folder(path: Path, name: str | None) -> tuple[Path, str | None, Reader]:
    """Return the reader of a folder, or of the one called ``name`` in it, unless both are one store."""
    reader = reader_of(path, b"")
    if name is not None and (path / name).is_dir() and not (reader is not None and reader.FORMAT.store):
        path, name = path / name, None
        reader = reader_of(path, b"")
    if reader is None:
        path = path if name is None else path / name
        files = sorted(entry.name for entry in probe(lambda: list(path.iterdir()), str(path)))
        holds = "is empty" if not files else f"holds {len(files)} entries ({', '.join(files[:5])}), but no .mca spectra"
        raise ScanError(f"Cannot read {path} as a scan: the folder {holds}. Give a file, or a folder of: {_known()}.")
    return path, name, reader


def _reader_of_file(path: Path, name: str | None) -> Reader:
    head = _head(path)
    reader = reader_of(path, head)
    if name is not None and (reader is None or not reader.FORMAT.parts):
        having = ", ".join(known.name for known in formats() if known.parts)
        raise ScanError(
            f"Cannot read {path}::{name}: only files of some formats hold arrays or spectra with names or numbers "
            f"({having}); {path.name} is none of them. Drop ::{name}."
        )
    if reader is None:
        raise ScanError(f"Cannot read {path}: {what_it_is(head)} Known are: {_known()}.")
    return reader


def _known() -> str:
    return ", ".join(known.name for known in formats())


def _head(path: Path) -> bytes:
    def read() -> bytes:
        with path.open("rb") as stream:
            return stream.read(_HEAD_BYTES)

    head: bytes = probe(read, str(path))
    if not head:
        raise ScanError(f"Cannot read {path}: the file is empty. Copy it from the instrument again.")
    return head
