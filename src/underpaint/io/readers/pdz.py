r"""Reader of ``.pdz`` files, single spectra from Bruker's hand-held instruments (Tracer, S1 Titan).

The numbers are little-endian. Files of version 25 consist of records with a type (uint16), a length in bytes (uint32)
and content. The first record has type 25: ``pdz25`` in UTF-16, then uint32 1 for X-ray fluorescence. The record of type
1 describes the instrument. Each record of type 3 is a phase. A phase begins with five uint32 and seven float32: times
in s, tube voltage in kV and tube current in µA. Three filters, temperatures, ``ev_per_channel`` and ``channel_start``
follow. ``channel_start`` is the lower edge of the first channel in eV. A phase ends with the date, the number of
channels, a text, and the counts as uint32.

Files of version 24 begin with ``01 01``. At byte 6 is the number of channels (int16), and at 50 the eV per channel
(float64). At 162 and 166 are tube voltage in kV and current in µA (float32), and at 354 the live time in s. The counts
begin at 358 as int32. The file does not state the zero of the energy axis.

Source: B. Ducraux, pdz-tool, ``docs/pdz_version_25_file_format.md`` and the field table of its version 24 reader (MIT
licence, 2024-2025). The tests compare with pdz-tool.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from underpaint.data import Scan
from underpaint.errors import ScanError
from underpaint.io._energies import Axis, axis_of_coefficients
from underpaint.io._single import single_scan
from underpaint.io._source import try_read
from underpaint.io.readers import Format

FORMAT = Format(
    "Bruker .pdz",
    "Bruker spectrum, hand-held, version 24 or 25",
    endings=(".pdz",),
    recognised_by="record 25 with the text pdz25, or bytes 01 01 with a plausible gain",
    source="B. Ducraux, pdz-tool: pdz_version_25_file_format.md (2024)",
    parts=True,
)
_MAGIC_25 = struct.pack("<HI", 25, 14) + "pdz25".encode("utf-16-le")
_MAGIC_24 = b"\x01\x01"
_MAX_FILE_BYTES = 256 * 2**20
_MAX_CHANNELS = 16384
_INSTRUMENT_RECORD, _SPECTRUM_RECORD = 1, 3
_N_CHANNEL_OFFSET_24, _GAIN_OFFSET_24, _TUBE_OFFSET_24, _LIVE_TIME_OFFSET_24, _DATA_OFFSET_24 = 6, 50, 162, 354, 358
_PLAUSIBLE_GAIN_EV = (1.0, 500.0)
_PHASE_STRUCT = struct.Struct("<5I7f6hhffifhf16sfhhhI")
_NO_AXIS_24 = "the file does not state the zero of its energy axis: channel 0 is assumed to start at 0 keV"


@dataclass(frozen=True)
class Phase:
    """One exposure of a measurement: its counts and metadata."""

    number: int
    counts: NDArray[np.float64]
    gain_ev: float
    start_ev: float
    live_time_s: float | None
    real_time_s: float | None
    metadata: dict[str, Any]


def sniff(path: Path, head: bytes) -> bool:
    """Return whether a file begins like a ``.pdz`` file of version 24 or 25."""
    return head.startswith(_MAGIC_25) or (head.startswith(_MAGIC_24) and _is_plausible_24(head))


def read(path: Path, part_name: str | None, shape: tuple[int, int] | None) -> list[Scan]:
    """Read a phase of a ``.pdz`` file as a scan of one pixel. ``part_name`` is its number, and None reads the first.

    Phases differ in tube voltage and filter, so phases are never added.

    Raises
    ------
    ScanError
        A record is truncated, or there is no phase with this number.
    """
    file_bytes = try_read(path.stat, str(path)).st_size
    if file_bytes > _MAX_FILE_BYTES:
        raise ScanError(
            f"Cannot read {path}: {file_bytes} bytes are too many for a .pdz spectrum (at most {_MAX_FILE_BYTES})."
        )
    file_content: bytes = try_read(path.read_bytes, str(path))
    phases = (
        _read_phases_25(file_content, path)
        if file_content.startswith(_MAGIC_25)
        else [_read_phase_24(file_content, path)]
    )
    phase_names = [str(phase.number) for phase in phases]
    if part_name is not None and part_name not in phase_names:
        raise ScanError(f"Cannot read {path}::{part_name}: the .pdz file has the phases {', '.join(phase_names)}.")
    phase = phases[0 if part_name is None else phase_names.index(part_name)]
    other_names = [phase_name for phase_name in phase_names if phase_name != str(phase.number)]
    phase_notes = (f"one phase of {len(phase_names)}; the others: ::{', ::'.join(other_names)}",) if other_names else ()
    return [_scan(path, phase, phase_notes, format_version=25 if file_content.startswith(_MAGIC_25) else 24)]


def _scan(path: Path, phase: Phase, notes: tuple[str, ...], format_version: int) -> Scan:
    axis, axis_notes = _axis(phase)
    return single_scan(
        phase.counts,
        path,
        f"{FORMAT.name} version {format_version}",
        axis=axis,
        live_time_s=phase.live_time_s,
        real_time_s=phase.real_time_s,
        detector=str(phase.metadata.get("serial_number", "")),
        notes=(*notes, *axis_notes, *((_NO_AXIS_24,) if format_version == 24 else ())),
        metadata=phase.metadata,
    )


def _axis(phase: Phase) -> Axis:
    """Return the energy axis, in which the energy of a channel is that of its centre.

    The file states the energy of the lower edge of the first channel.
    """
    return axis_of_coefficients((phase.start_ev + phase.gain_ev / 2, phase.gain_ev), phase.counts.size, "ev")


# --- version 25 ------------------------------------------------------------------------------------


def _read_phases_25(file_content: bytes, path: Path) -> list[Phase]:
    instrument_facts: dict[str, Any] = {}
    phases: list[Phase] = []
    for record_type, record_offset, record_content in _iterate_records(file_content, path):
        if record_type == _INSTRUMENT_RECORD:
            instrument_facts = _read_instrument(record_content)
        elif record_type == _SPECTRUM_RECORD:
            phases.append(_read_phase_25(record_content, record_offset, path))
    if not phases:
        raise ScanError(f"Cannot read {path}: a .pdz file of version 25 without an X-ray fluorescence spectrum in it.")
    phase_numbers = range(1, len(phases) + 1)
    return [
        _with_number(phase, phase_number, instrument_facts)
        for phase, phase_number in zip(phases, phase_numbers, strict=True)
    ]


def _with_number(phase: Phase, phase_number: int, instrument_facts: dict[str, Any]) -> Phase:
    return Phase(
        phase_number,
        phase.counts,
        phase.gain_ev,
        phase.start_ev,
        phase.live_time_s,
        phase.real_time_s,
        {**instrument_facts, **phase.metadata},
    )


def _iterate_records(file_content: bytes, path: Path) -> Iterator[tuple[int, int, memoryview]]:
    """Yield the type, offset and content of each record. A record that extends beyond the file is an error."""
    content_view, record_start = memoryview(file_content), 0
    while record_start + 6 <= len(file_content):
        record_type, record_bytes = struct.unpack_from("<HI", file_content, record_start)
        if record_start + 6 + record_bytes > len(file_content):
            raise ScanError(
                f"Cannot read {path}: a .pdz file of version 25; its record of type {record_type} at byte "
                f"{record_start} "
                f"declares {record_bytes} bytes, {len(file_content) - record_start - 6} are left. The file is cut off; "
                "copy the file again."
            )
        yield record_type, record_start, content_view[record_start + 6 : record_start + 6 + record_bytes]
        record_start += 6 + record_bytes


def _read_instrument(record_content: memoryview) -> dict[str, Any]:
    """Return the serial number and geometry in the instrument record, or an empty dict if the record is too short."""
    serial_number, text_offset = _read_text(record_content, 0)
    build_number, text_offset = _read_text(record_content, text_offset)
    if text_offset + 6 > len(record_content):
        return {}
    anode_atomic_number, anode_takeoff_deg, incidence_deg, detector_takeoff_deg, window_thickness_um = (
        struct.unpack_from("<4Bh", record_content, text_offset)
    )
    return {
        "serial_number": serial_number,
        "build_number": build_number,
        "anode_atomic_number": anode_atomic_number,
        "anode_takeoff_angle_deg": anode_takeoff_deg,
        "incidence_angle_deg": incidence_deg,
        "takeoff_angle_deg": detector_takeoff_deg,
        "tube_window_be_um": window_thickness_um,
    }


def _read_text(record_content: memoryview, offset: int) -> tuple[str, int]:
    """Return the text at an offset, and the offset of its end.

    A number before each text states the length of the text. A text that would extend beyond the record is read as
    empty.
    """
    if offset + 4 > len(record_content):
        return "", len(record_content)
    (n_character,) = struct.unpack_from("<I", record_content, offset)
    stop_offset = offset + 4 + 2 * n_character
    if stop_offset > len(record_content):
        return "", len(record_content)
    return bytes(record_content[offset + 4 : stop_offset]).decode("utf-16-le", "replace").strip("\x00"), stop_offset


def _read_phase_25(record_content: memoryview, record_offset: int, path: Path) -> Phase:
    if len(record_content) < _PHASE_STRUCT.size:
        raise ScanError(
            f"Cannot read {path}: the .pdz spectrum at byte {record_offset} is cut off ({len(record_content)} bytes)."
        )
    phase_values = _PHASE_STRUCT.unpack_from(record_content)
    n_channel, n_character = phase_values[-4], phase_values[-1]
    channels_offset = _PHASE_STRUCT.size + 2 * n_character + 2
    counts = _read_channels(
        record_content[channels_offset:], n_channel, "<u4", f"{path}, spectrum at byte {record_offset}"
    )
    return Phase(
        0,
        counts,
        gain_ev=float(phase_values[22]),
        start_ev=float(phase_values[24]),
        live_time_s=_positive_or_none(phase_values[9]),
        real_time_s=_positive_or_none(phase_values[6]),
        metadata={
            "tube_voltage_kv": phase_values[10],
            "tube_current_ua": phase_values[11],
            "filters": [
                (filter_atomic_number, filter_thickness_um)
                for filter_atomic_number, filter_thickness_um in zip(
                    phase_values[12:18:2], phase_values[13:18:2], strict=True
                )
                if filter_atomic_number > 0
            ],
            "ev_per_channel": phase_values[22],
            "channel_start_ev": phase_values[24],
        },
    )


# --- version 24 ------------------------------------------------------------------------------------


def _is_plausible_24(head: bytes) -> bool:
    """Return whether the number of channels and the gain in a header of version 24 are plausible."""
    if len(head) < _TUBE_OFFSET_24 + 8:
        return False
    (n_channel,), (gain_ev,) = (
        struct.unpack_from("<h", head, _N_CHANNEL_OFFSET_24),
        struct.unpack_from("<d", head, _GAIN_OFFSET_24),
    )
    min_gain_ev, max_gain_ev = _PLAUSIBLE_GAIN_EV
    return bool(2 <= n_channel <= _MAX_CHANNELS and min_gain_ev <= gain_ev <= max_gain_ev)


def _read_phase_24(file_content: bytes, path: Path) -> Phase:
    (n_channel,) = struct.unpack_from("<h", file_content, _N_CHANNEL_OFFSET_24)
    (gain_ev,) = struct.unpack_from("<d", file_content, _GAIN_OFFSET_24)
    tube_voltage_kv, tube_current_ua = struct.unpack_from("<2f", file_content, _TUBE_OFFSET_24)
    counts = _read_channels(memoryview(file_content)[_DATA_OFFSET_24:], n_channel, "<i4", f"{path} (.pdz version 24)")
    (live_time_s,) = struct.unpack_from("<f", file_content, _LIVE_TIME_OFFSET_24)
    return Phase(
        1,
        counts,
        gain_ev,
        0.0,
        _positive_or_none(live_time_s),
        None,
        {"tube_voltage_kv": tube_voltage_kv, "tube_current_ua": tube_current_ua, "ev_per_channel": gain_ev},
    )


# --- both ------------------------------------------------------------------------------------------


def _read_channels(channel_bytes: memoryview, n_channel: int, dtype: str, source: str) -> NDArray[np.float64]:
    if not 2 <= n_channel <= _MAX_CHANNELS or len(channel_bytes) < 4 * n_channel:
        raise ScanError(
            f"Cannot read {source}: {n_channel} channels are declared (2 to {_MAX_CHANNELS} are allowed), "
            f"there are bytes for {len(channel_bytes) // 4}. The file is cut off or damaged; copy the file again."
        )
    counts = np.frombuffer(channel_bytes, dtype=dtype, count=n_channel).astype(np.float64)
    negative_channels = np.flatnonzero(counts < 0)
    if negative_channels.size:
        raise ScanError(
            f"Cannot read {source}: channel {negative_channels[0]} holds {counts[negative_channels[0]]:g} counts; "
            "they must not be negative."
        )
    return counts


def _positive_or_none(time_s: float) -> float | None:
    return float(time_s) if np.isfinite(time_s) and time_s > 0 else None
