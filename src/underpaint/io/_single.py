"""Spectra that a file holds without a grid: one, as a scan of one pixel; several, as one row of pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan
from underpaint.data.rebin import rebin
from underpaint.errors import ScanError
from underpaint.io._source import MemoryCube, lazy_counts, probe, spectrum_counts

_NAMES_SHOWN = 5


@dataclass(frozen=True)
class FileSpectrum:
    """One spectrum of a file, as its reader gives it.

    Parameters
    ----------
    counts : (n_channel,) array
        Counts per channel.
    axis : EnergyAxis or None
        Energy calibration; None where the file has none.
    live_time_s, real_time_s : float or None
        s; None where the file is silent.
    name : str
        What the file calls it.
    detector : str
        The detector's name or serial number; "" where unknown.
    notes : tuple of str
        What the user should know.
    metadata : dict
        What else the file says, by its own names.
    """

    counts: NDArray[Any]
    axis: EnergyAxis | None
    live_time_s: float | None = None
    real_time_s: float | None = None
    name: str = ""
    detector: str = ""
    notes: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


def content_of(path: Path, largest_bytes: int, what: str) -> bytes:
    """Read a whole file; ScanError where it is larger than ``what`` can be."""
    size = probe(path.stat, str(path)).st_size
    if size > largest_bytes:
        raise ScanError(
            f"Cannot read {path}: {size} bytes are no {what} (at most {largest_bytes}). Give the right file."
        )
    content: bytes = probe(path.read_bytes, str(path))
    return content


def single_scan(
    counts: NDArray[Any],
    path: Path,
    format_name: str,
    *,
    axis: EnergyAxis | None,
    live_time_s: float | None,
    real_time_s: float | None,
    detector: str = "",
    notes: tuple[str, ...] = (),
    metadata: Mapping[str, Any] | None = None,
) -> Scan:
    """Return (n_channel,) counts as a scan of shape (1, 1, n_channel); times in s, None where the file has none."""
    live, real = (None if time is None else np.full((1, 1), time) for time in (live_time_s, real_time_s))
    return Scan(
        spectrum_counts(counts, str(path)),
        axis=axis,
        name=path.stem,
        source=str(path),
        format=format_name,
        live_time_s=live,
        real_time_s=real,
        detector=detector,
        notes=("a single spectrum", *notes),
        metadata=dict(metadata or {}),
    )


def spectrum_scan(spectrum: FileSpectrum, path: Path, format_name: str) -> Scan:
    """Return one spectrum of a file as a scan of one pixel."""
    return single_scan(
        spectrum.counts,
        path,
        format_name,
        axis=spectrum.axis,
        live_time_s=spectrum.live_time_s,
        real_time_s=spectrum.real_time_s,
        detector=spectrum.detector,
        notes=spectrum.notes,
        metadata={**({"name": spectrum.name} if spectrum.name else {}), **spectrum.metadata},
    )


def detector_scans(spectra: Sequence[FileSpectrum], path: Path, format_name: str, name: str | None) -> list[Scan]:
    """Return the detectors of one spectrum as a scan each, or the one that ``name`` picks."""
    if len(spectra) == 1 and name is None:
        return [spectrum_scan(spectra[0], path, format_name)]
    wanted = picked(spectra, path, name)
    return [
        replace(spectrum_scan(one, path, format_name), source=f"{path}::{one.name}", name=f"{path.stem}_{one.name}")
        for one in wanted
    ]


def list_scan(spectra: Sequence[FileSpectrum], path: Path, format_name: str, name: str | None) -> Scan:
    """Return spectra as one row of pixels on the first one's axis; the only one, or that of ``name``, alone.

    Raises
    ------
    ScanError
        None is called ``name``, or they share no channels: their numbers differ and an axis is unknown.
    """
    wanted = picked(spectra, path, name)
    if len(wanted) == 1:
        return spectrum_scan(wanted[0], path, format_name)
    first = wanted[0]
    moved = [one for one in wanted if (one.axis, one.counts.size) != (first.axis, first.counts.size)]
    if moved and any(one.axis is None for one in wanted):
        raise ScanError(
            f"Cannot read {path} as one list: its {len(wanted)} spectra differ in their channels, and not all have an "
            f"energy calibration that could align them. Pick one: {path}::1 to {path}::{len(wanted)}."
        )
    counts = np.stack([one.counts if one.axis == first.axis else _moved(one, first) for one in wanted])[None]
    notes = [f"{len(wanted)} spectra ({_shown(wanted)}), read as one row: give rows and columns (--shape)"]
    if moved:
        notes.append(
            f"{len(moved)} of {len(wanted)} spectra have another energy axis and were moved to the first one's"
        )
    return Scan(
        lazy_counts(MemoryCube(counts), str(path)),
        axis=first.axis,
        name=path.stem,
        source=str(path),
        format=format_name,
        live_time_s=_row([one.live_time_s for one in wanted]),
        real_time_s=_row([one.real_time_s for one in wanted]),
        detector=first.detector,
        notes=(*notes, *dict.fromkeys(note for one in wanted for note in one.notes)),
        metadata={**first.metadata, "names": [one.name for one in wanted]},
    )


def picked(spectra: Sequence[FileSpectrum], path: Path, name: str | None) -> list[FileSpectrum]:
    """Return all spectra, or the one of a name, or else of a number from 1."""
    if name is None:
        return list(spectra)
    matching = [one for one in spectra if one.name == name]
    if not matching and name.isdecimal() and 1 <= int(name) <= len(spectra):
        matching = [spectra[int(name) - 1]]
    if len(matching) != 1:
        raise ScanError(
            f"Cannot read {path}::{name}: {len(matching) or 'none'} of its {len(spectra)} spectra is called so. Give a "
            f"number from 1 to {len(spectra)}, or a name ({_shown(spectra)})."
        )
    return matching


def _shown(spectra: Sequence[FileSpectrum]) -> str:
    more = " ..." if len(spectra) > _NAMES_SHOWN else ""
    return ", ".join(one.name for one in spectra[:_NAMES_SHOWN]) + more


def _moved(spectrum: FileSpectrum, first: FileSpectrum) -> NDArray[Any]:
    assert spectrum.axis is not None  # noqa: S101
    assert first.axis is not None  # noqa: S101
    return rebin(spectrum.counts, spectrum.axis, first.axis.edges_kev)


def _row(times: list[float | None]) -> NDArray[np.float64] | None:
    known = np.array([[np.nan if time is None else time for time in times]])
    return None if np.isnan(known).all() else known
