"""Instrument: tube, filters, geometry, detector; presets and instrument files."""

import math
from importlib.resources import files
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from underpaint.errors import InstrumentError
from underpaint.physics.instrument.models import (
    AIR,
    AIR_DENSITY,
    ANODES,
    Detector,
    Filter,
    Geometry,
    Instrument,
    Optic,
    Scale,
    SourceSpectrum,
    Tube,
    instrument_from,
)
from underpaint.runtime.files import atomic_write
from underpaint.runtime.untrusted import MAX_SETTINGS_BYTES, read_bounded, read_toml

__all__ = [
    "AIR",
    "AIR_DENSITY",
    "ANODES",
    "Detector",
    "Filter",
    "Geometry",
    "Instrument",
    "Optic",
    "Scale",
    "SourceSpectrum",
    "Tube",
    "instrument_from",
    "load_instrument",
    "preset_names",
    "read_source_spectrum",
    "save_instrument",
]


def preset_names() -> tuple[str, ...]:
    """Names of the instruments that ship with the package."""
    folder = files("underpaint.physics.instrument") / "presets"
    return tuple(sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml")))


def load_instrument(name_or_path: str | Path) -> Instrument:
    """Read a preset by name, or an instrument file or PyMca configuration (``.cfg``) by path.

    For a configuration, this is the instrument of :func:`~underpaint.physics.instrument.pymca.read_pymca`.

    Raises
    ------
    InstrumentError
        There is no such preset or file, or a field is wrong; the message names the field.
    """
    name = str(name_or_path)
    path = Path(str(files("underpaint.physics.instrument") / "presets" / f"{name}.toml"))
    if name not in preset_names():
        path = Path(name_or_path)
    if not path.is_file():
        raise InstrumentError(
            f"No instrument {name!r}: it is neither a file nor one of the presets {', '.join(preset_names())}."
        )
    from underpaint.physics.instrument.pymca import is_pymca, read_pymca

    if is_pymca(path):
        return read_pymca(path).instrument
    return instrument_from(read_toml(path, InstrumentError, "the instrument"), name)


def save_instrument(instrument: Instrument, path: str | Path, *, only_known: bool = False) -> None:
    """Write an instrument file (TOML), atomically.

    Parameters
    ----------
    instrument : Instrument
    path : str or Path
    only_known : bool
        Omit settings that were not set, so that they are not known values when the file is read.

    Raises
    ------
    OutputError
        The file cannot be written.
    """
    with atomic_write(path) as part:
        record = instrument.model_dump(mode="json", exclude_none=True, exclude_unset=only_known)
        part.write_text(to_toml(record), "utf-8")


def read_source_spectrum(path: str | Path) -> SourceSpectrum:
    """Read a tabulated exciting spectrum: columns of energy, keV, photons and, if there is a third, bin width, keV.

    Columns are separated by commas, semicolons or blanks; lines that begin with ``#`` and a line of headings are
    skipped.

    Raises
    ------
    InstrumentError
        The file is missing, a line is not a number, or the table is not physical.
    """
    source = Path(path)
    try:
        text = read_bounded(source, MAX_SETTINGS_BYTES, InstrumentError).decode("utf-8")
    except (InstrumentError, UnicodeDecodeError) as error:
        raise InstrumentError(
            f"Cannot read the source spectrum {source}: {error}. Give a text file of two or three columns."
        ) from error
    rows = [_columns(line) for line in text.splitlines() if line.strip() and not line.startswith("#")]
    if rows and not any(_numbers([entry]) for entry in rows[0]):
        rows = rows[1:]
    for number, row in enumerate(rows, start=1):
        if not _numbers(row) or len(row) not in {2, 3} or len(row) != len(rows[0]):
            raise InstrumentError(
                f"Cannot read the source spectrum {source}: row {number} holds {' '.join(row)[:80]!r}; each needs "
                "energy in keV, photons and, in all rows or none, the bin's width in keV."
            )
    columns = [tuple(float(value) for value in column) for column in zip(*rows, strict=True)]
    try:
        return SourceSpectrum(**dict(zip(("energy_kev", "weight", "width_kev"), columns, strict=False)))
    except ValidationError as error:
        raise InstrumentError(f"Cannot use the source spectrum {source}: {error.errors()[0]['msg']}.") from error


def _columns(line: str) -> list[str]:
    return line.replace(",", " ").replace(";", " ").split()


def _numbers(row: list[str]) -> bool:
    try:
        return all(math.isfinite(float(value)) for value in row)
    except ValueError:
        return False


def to_toml(table: dict[str, Any], prefix: str = "") -> str:
    """Write nested tables of plain values as TOML text."""
    lines = [f"{key} = {_value(value)}" for key, value in table.items() if not isinstance(value, dict)]
    for key, value in table.items():
        if isinstance(value, dict):
            lines += ["", f"[{prefix}{key}]", to_toml(value, f"{prefix}{key}.").rstrip("\n")]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
        return f'"{escaped}"'
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(item) for item in value) + "]"
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_value(item)}" for key, item in value.items()) + " }"
    return repr(value)
