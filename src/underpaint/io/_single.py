"""Conversion of spectra without a grid to a scan of one pixel or of one row of pixels."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import EnergyAxis, Scan
from underpaint.data.rebin import rebin
from underpaint.errors import ScanError
from underpaint.io._energies import NO_CALIBRATION, Axis, axis_of_list, energy_unit
from underpaint.io._source import MemoryCube, lazy_counts, spectrum_counts, try_read

_MAX_NAMES_IN_MESSAGE = 5
_ENERGY_HEADING = re.compile(r"(energ[^\W\d_]*|k?ev)[\W_]*(k?ev)?[\W_]*")
_CHANNEL_HEADING = re.compile(r"channels?#?|chan|ch|kanal|canale?|bins?")
_COUNTS_HEADING = re.compile(r"counts?|cts|intensit[^\W\d_]*")
_DETECTOR_HEADING = re.compile(r"(d|det|detector|sdd|mca)[\W_]*\d+")


@dataclass(frozen=True)
class FileSpectrum:
    """Spectrum that a reader has read from a file.

    Parameters
    ----------
    counts : (n_channel,) array
        Counts per channel.
    axis : EnergyAxis or None
        Energy calibration; None if the file has none.
    live_time_s, real_time_s : float or None
        Live time and real time in s; None if unknown.
    name : str
        Name of the spectrum in the file.
    detector : str
        The detector's name or serial number; "" if unknown.
    notes : tuple of str
        Notes for the user.
    metadata : dict
        Other metadata of the file under their names in the file.
    """

    counts: NDArray[Any]
    axis: EnergyAxis | None
    live_time_s: float | None = None
    real_time_s: float | None = None
    name: str = ""
    detector: str = ""
    notes: tuple[str, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)


def read_limited(path: Path, max_bytes: int, content_type: str) -> bytes:
    """Return the content of a file, or raise ScanError if the file is larger than ``max_bytes``."""
    file_bytes = try_read(path.stat, str(path)).st_size
    if file_bytes > max_bytes:
        raise ScanError(
            f"Cannot read {path}: {file_bytes} bytes are too many for {content_type} (at most {max_bytes}). Give "
            "the right "
            "file."
        )
    file_content: bytes = try_read(path.read_bytes, str(path))
    return file_content


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
    """Return a scan of one pixel with (n_channel,) counts, and times in s (None if unknown)."""
    live_times, real_times = (None if time is None else np.full((1, 1), time) for time in (live_time_s, real_time_s))
    return Scan(
        spectrum_counts(counts, str(path)),
        axis=axis,
        name=path.stem,
        source=str(path),
        format=format_name,
        live_time_s=live_times,
        real_time_s=real_times,
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


def detector_scans(
    spectra: Sequence[FileSpectrum], path: Path, format_name: str, detector_name: str | None
) -> list[Scan]:
    """Return one scan per detector, or only the scan of the detector called ``detector_name``."""
    if len(spectra) == 1 and detector_name is None:
        return [spectrum_scan(spectra[0], path, format_name)]
    selected_spectra = select_spectra(spectra, path, detector_name)
    return [
        spectrum_scan(spectrum, path, format_name).replace(
            source=f"{path}::{spectrum.name}",
            name=f"{path.stem}_{spectrum.name}",
        )
        for spectrum in selected_spectra
    ]


def scan_of_spectra(spectra: Sequence[FileSpectrum], path: Path, format_name: str, spectrum_name: str | None) -> Scan:
    """Return a scan of one row, with one spectrum per pixel, or only the spectrum ``spectrum_name``.

    Raises
    ------
    ScanError
        No spectrum is called ``spectrum_name``, or spectra with different channels have no energy axis to align them.
    """
    selected_spectra = select_spectra(spectra, path, spectrum_name)
    if len(selected_spectra) == 1:
        return spectrum_scan(selected_spectra[0], path, format_name)
    first_spectrum = selected_spectra[0]
    rebinned_spectra = [
        spectrum
        for spectrum in selected_spectra
        if (spectrum.axis, spectrum.counts.size) != (first_spectrum.axis, first_spectrum.counts.size)
    ]
    if rebinned_spectra and any(spectrum.axis is None for spectrum in selected_spectra):
        raise ScanError(
            f"Cannot read {path} as one list: its {len(selected_spectra)} spectra differ in their channels, and "
            "not all have "
            f"an energy calibration that could align them. Pick one: {path}::1 to {path}::{len(selected_spectra)}."
        )
    counts = np.stack(
        [
            spectrum.counts if spectrum.axis == first_spectrum.axis else _rebinned_spectrum(spectrum, first_spectrum)
            for spectrum in selected_spectra
        ]
    )[None]
    notes = [
        f"{len(selected_spectra)} spectra ({_name_list(selected_spectra)}), read as one row: give rows and columns "
        "(--shape)"
    ]
    if rebinned_spectra:
        notes.append(
            f"{len(rebinned_spectra)} of {len(selected_spectra)} spectra have another energy axis and were "
            "rebinned to that of the first spectrum"
        )
    return Scan(
        lazy_counts(MemoryCube(counts), str(path)),
        axis=first_spectrum.axis,
        name=path.stem,
        source=str(path),
        format=format_name,
        live_time_s=_row_of_times([spectrum.live_time_s for spectrum in selected_spectra]),
        real_time_s=_row_of_times([spectrum.real_time_s for spectrum in selected_spectra]),
        detector=first_spectrum.detector,
        notes=(*notes, *dict.fromkeys(note for spectrum in selected_spectra for note in spectrum.notes)),
        metadata={**first_spectrum.metadata, "names": [spectrum.name for spectrum in selected_spectra]},
    )


def select_spectra(spectra: Sequence[FileSpectrum], path: Path, spectrum_name: str | None) -> list[FileSpectrum]:
    """Return all spectra, or only the spectrum called ``spectrum_name`` (a name, or a number counted from 1)."""
    if spectrum_name is None:
        return list(spectra)
    matching_spectra = [spectrum for spectrum in spectra if spectrum.name == spectrum_name]
    if not matching_spectra and spectrum_name.isdecimal() and 1 <= int(spectrum_name) <= len(spectra):
        matching_spectra = [spectra[int(spectrum_name) - 1]]
    if len(matching_spectra) != 1:
        raise ScanError(
            f"Cannot read {path}::{spectrum_name}: {len(matching_spectra) or 'none'} of its {len(spectra)} spectra "
            "has this "
            "name. Give "
            f"a number from 1 to {len(spectra)}, or a name ({_name_list(spectra)})."
        )
    return matching_spectra


def _name_list(spectra: Sequence[FileSpectrum]) -> str:
    ellipsis = " ..." if len(spectra) > _MAX_NAMES_IN_MESSAGE else ""
    return ", ".join(spectrum.name for spectrum in spectra[:_MAX_NAMES_IN_MESSAGE]) + ellipsis


def _rebinned_spectrum(spectrum: FileSpectrum, first_spectrum: FileSpectrum) -> NDArray[Any]:
    assert spectrum.axis is not None  # noqa: S101
    assert first_spectrum.axis is not None  # noqa: S101
    return rebin(spectrum.counts, spectrum.axis, first_spectrum.axis.edges_kev)


def _row_of_times(optional_times: list[float | None]) -> NDArray[np.float64] | None:
    times_s = np.array([[np.nan if time is None else time for time in optional_times]])
    return None if np.isnan(times_s).all() else times_s


def is_channel_or_energy(heading: str) -> bool:
    """Return whether a lower-case heading is that of a column of channels or energies."""
    return bool(_ENERGY_HEADING.fullmatch(heading) or _CHANNEL_HEADING.fullmatch(heading))


def spectra_in_columns(
    table: NDArray[np.float64], headings: tuple[str, ...], axis_columns: list[int], path: Path
) -> list[FileSpectrum]:
    """Return one spectrum per detector from a table with one line per channel.

    Parameters
    ----------
    table : (n_column, n_channel) array
        Columns of channels, energies and counts.
    headings : tuple of str
        Headings of the columns in lower case.
    axis_columns : list of int
        Indices of the columns that hold channels or energies.
    path : Path
        The file.

    Raises
    ------
    ScanError
        The headings do not identify the columns of counts.
    """
    energy_column = next(
        (column for column in axis_columns if _ENERGY_HEADING.fullmatch(headings[column])), axis_columns[-1]
    )
    axis, notes = _spectrum_axis(table[energy_column], headings[energy_column], path)
    counts_columns, ignored_headings = _counts_columns(headings, axis_columns, path)
    if ignored_headings:
        notes = (*notes, f"columns ignored: {', '.join(ignored_headings)}")
    if len(counts_columns) == 1:
        return [FileSpectrum(table[counts_columns[0]].copy(), axis, notes=notes)]
    return [
        FileSpectrum(table[column].copy(), axis, name=headings[column], detector=headings[column], notes=notes)
        for column in counts_columns
    ]


def _counts_columns(headings: tuple[str, ...], axis_columns: list[int], path: Path) -> tuple[list[int], list[str]]:
    """Return the indices of the columns that hold counts, and the headings of the columns that are ignored."""
    data_columns = [column for column in range(len(headings)) if column not in axis_columns]
    columns_named_counts = [column for column in data_columns if _COUNTS_HEADING.fullmatch(headings[column])]
    if len(data_columns) == 1 or len(columns_named_counts) == 1:
        counts_columns = data_columns if len(data_columns) == 1 else columns_named_counts
        return counts_columns, [headings[column] for column in data_columns if column not in counts_columns]
    if data_columns and all(_DETECTOR_HEADING.fullmatch(headings[column]) for column in data_columns):
        return data_columns, []
    heading_list = ", ".join(headings[column] for column in data_columns[:5])
    raise ScanError(
        f"Cannot read {path}: {len(data_columns)} columns are next to the channels or energies ({heading_list}). "
        "Name the "
        "column of counts in a heading. If the columns are detectors of one spot, name them det1, det2. Save spectra "
        "of several spots as separate files."
    )


def are_channel_numbers(column_values: NDArray[np.float64]) -> bool:
    """Return whether the values are 0, 1, 2 ... or 1, 2, 3 ..., as channel numbers are."""
    return bool((np.diff(column_values) == 1).all()) and column_values[0] in {0, 1}


def _spectrum_axis(axis_values: NDArray[np.float64], heading: str, path: Path) -> Axis:
    are_numbers = are_channel_numbers(axis_values)
    if are_numbers and not re.search(r"energ|\bk?ev\b", heading):
        return None, (NO_CALIBRATION,)
    axis, notes = axis_of_list(axis_values, axis_values.size, energy_unit(heading))
    evenly_spaced_values = np.linspace(axis_values[0], axis_values[-1], axis_values.size)
    if axis is None and not np.abs(axis_values - evenly_spaced_values).max() <= np.ptp(axis_values) / axis_values.size:
        raise ScanError(
            f"Cannot read {path}: its column of channels or energies does not increase in equal steps "
            f"({'; '.join(notes)}). Give a spectrum with a column of channels or energies, and one of counts."
        )
    return axis, notes
